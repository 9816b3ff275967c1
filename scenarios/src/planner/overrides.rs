//! What the command line may change about a scenario or a fleet: windows and rates.

use std::time::Duration;

use crate::fleet::{Ask, Fleet, Probe};
use crate::read::LONGEST;
use crate::scenario::Scenario;
use crate::values::{MAX_RATE, MIN_RATE};

/// An override that no file could have said either.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OverrideError {
    #[error("a window of {} is out of range: 1s to 1h; nothing was altered",
        humantime::format_duration(*.0))]
    Window(Duration),
    #[error(
        "{0}/s is out of range: {least}/s to {most}/s per stream and entrypoint; \
        nothing was altered",
        least = MIN_RATE,
        most = MAX_RATE
    )]
    Rate(f64),
}

/// Sets before, after and every step to one length; every step then begins at fire.
pub fn with_window(scenario: &mut Scenario, window: Duration) -> Result<(), OverrideError> {
    if window < Duration::from_secs(1) || window > LONGEST {
        return Err(OverrideError::Window(window));
    }
    scenario.before = window;
    scenario.after = window;
    for step in &mut scenario.method {
        step.at = Duration::ZERO;
        step.duration = window;
    }
    Ok(())
}

/// Sets the rate of every HTTP probe (per second and cell); an entrypoint gets it once for each of
/// its cells. Probes of a Kubernetes API keep theirs: what users send says nothing about how often
/// an API server may be asked. On an error the fleet is unchanged.
#[allow(clippy::cast_precision_loss)] // a fleet has far fewer than 2^52 cells
pub fn with_rate(fleet: &mut Fleet, rate: f64) -> Result<(), OverrideError> {
    let most = fleet
        .entrypoints
        .values()
        .map(|entrypoint| entrypoint.shares.len())
        .max();
    let highest = rate * most.unwrap_or(1).max(1) as f64;
    if !(rate >= MIN_RATE && highest <= MAX_RATE) {
        return Err(OverrideError::Rate(rate));
    }
    let http = |probe: &&mut Probe| matches!(probe.ask, Ask::Http(_));
    for probe in fleet.probes.values_mut().filter(http) {
        probe.rate = rate;
    }
    for entrypoint in fleet.entrypoints.values_mut() {
        entrypoint.rate = rate * entrypoint.shares.len() as f64;
    }
    Ok(())
}
