//! The YAML shape of a scenario, and its checks that need no fleet.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::faults::Fault;
use crate::input::InputError;
use crate::places::Places;
use crate::read::effects::{self, DataHypothesis, HarmSpec, LoadSpec, SymptomSpec};
use crate::scenario::{Consent, Hypothesis, MethodStep, Scenario, Side, TargetSelector};
use crate::values::{Lease, Name, Percentage, Text};

const SECOND: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
/// No fault and no window is longer than this.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// What to break, for how long, and what must then be true.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ScenarioSpec {
    target: TargetSpec,
    /// How much the target may be; the agents hold a limit of their own beside it.
    #[serde(default)]
    budget: BudgetSpec,
    /// Consents: what this scenario may do beyond breaking its target.
    #[serde(default)]
    allow: Vec<Consent>,
    #[serde(default)]
    steady_state: SteadyState,
    /// Without a renewal for this long every fault ends; 1s to 60s, default 5s. `none` needs
    /// `allow: [no_lease]`: then only the deadline ends it for a conductor that is gone or cut off.
    lease: Option<Text<Lease>>,
    method: Vec<StepSpec>,
    /// Absent: the capacity of the other cells is untested.
    load: Option<LoadSpec>,
    /// Absent: no limit to what users may pay.
    harm: Option<HarmSpec>,
    hypothesis: HypothesisSpec,
}

/// A whole cloud, or cells by name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum TargetSpec {
    Cloud(Text<Name>),
    Cells(Vec<Text<Name>>),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BudgetSpec {
    /// Most cells that the target may have.
    cells: u32,
}

impl Default for BudgetSpec {
    fn default() -> BudgetSpec {
        BudgetSpec { cells: 1 }
    }
}

/// How long to watch before and after the fault; 60s each unless said otherwise.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SteadyState {
    before: Option<Text<Duration>>,
    after: Option<Text<Duration>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StepSpec {
    /// After fire; default 0s.
    at: Option<Text<Duration>>,
    /// At most 1h.
    duration: Text<Duration>,
    /// Whose nodes act; `others` needs `allow: [others]` and may only cut towards the target.
    #[serde(default = "target_side")]
    on: Side,
    fault: Fault,
}

fn target_side() -> Side {
    Side::Target
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HypothesisSpec {
    target: TargetHypothesis,
    #[serde(default)]
    others: OthersHypothesis,
    #[serde(default)]
    recovery: RecoveryHypothesis,
    /// Absent: acknowledged writes of the target are not judged; those of other cells always are.
    data: Option<DataHypothesis>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TargetHypothesis {
    /// Probes that must be proved degraded in the target.
    degraded: Vec<Text<Name>>,
    /// By at least this; default 10%.
    by_at_least: Option<Text<Percentage>>,
    /// Absent: as the faults say; a cloud that is cut from everyone is silent.
    symptom: Option<SymptomSpec>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OthersHypothesis {
    /// Every other stream stays within this margin; default 2%.
    isolated_within: Option<Text<Percentage>>,
    /// Outages of this length must not slip between windows: the fault must last long enough.
    episode: Option<Text<Duration>>,
    /// The longest way by which damage could spread, such as a DNS TTL: the fault must outlast it.
    propagation: Option<Text<Duration>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RecoveryHypothesis {
    /// Settling time after the fault; default 120s.
    within: Option<Text<Duration>>,
}

/// The model, if the numbers make sense on their own.
pub(super) fn check(
    name: String,
    title: Option<String>,
    spec: ScenarioSpec,
    places: Places,
) -> Result<Scenario, InputError> {
    let target = check_target(spec.target, &places)?;
    if spec.budget.cells == 0 {
        let message = "a budget of no cells lets nothing be broken";
        return Err(InputError::at_value(&places, "spec.budget.cells", message));
    }
    let time = |path: &str, value: Option<Text<Duration>>, default| match value {
        Some(Text(value)) => in_range(&places, path, value, SECOND, LONGEST),
        None => Ok(default),
    };
    let steady = spec.steady_state;
    let before = time("spec.steadyState.before", steady.before, MINUTE)?;
    let after = time("spec.steadyState.after", steady.after, MINUTE)?;
    let lease = check_lease(spec.lease, &places)?;
    let recovery = spec.hypothesis.recovery.within;
    let recovery_within = time("spec.hypothesis.recovery.within", recovery, 2 * MINUTE)?;
    let method = check_method(spec.method, &places)?;
    let symptom = spec.hypothesis.target.symptom;
    let (degraded, by_at_least) = check_degraded(
        spec.hypothesis.target.degraded,
        spec.hypothesis.target.by_at_least,
        &places,
    )?;
    let others = check_others(spec.hypothesis.others, &places)?;
    Ok(Scenario {
        title: title.unwrap_or_else(|| name.clone()),
        name,
        target,
        budget_cells: usize::try_from(spec.budget.cells).unwrap_or(usize::MAX),
        allow: spec.allow,
        before,
        after,
        lease,
        method,
        load: effects::load(spec.load, &places)?,
        harm: effects::harm(spec.harm, &places)?,
        hypothesis: Hypothesis {
            degraded,
            by_at_least,
            isolated_within: others.isolated_within,
            episode: others.episode,
            propagation: others.propagation,
            recovery_within,
            data: spec.hypothesis.data.map(Into::into),
            symptom: effects::symptom(symptom, &places)?,
        },
        places,
    })
}

struct Others {
    isolated_within: f64,
    episode: Option<Duration>,
    propagation: Option<Duration>,
}

fn check_others(spec: OthersHypothesis, places: &Places) -> Result<Others, InputError> {
    let length = |field: &str, value: Option<Text<Duration>>| {
        let path = format!("spec.hypothesis.others.{field}");
        let value = value.map(|Text(value)| in_range(places, &path, value, SHORTEST, LONGEST));
        value.transpose()
    };
    let margin = "spec.hypothesis.others.isolatedWithin";
    Ok(Others {
        episode: length("episode", spec.episode)?,
        propagation: length("propagation", spec.propagation)?,
        isolated_within: fraction(places, margin, spec.isolated_within, 0.02)?,
    })
}

/// `none` is none; what is not said is 5 s.
fn check_lease(
    lease: Option<Text<Lease>>,
    places: &Places,
) -> Result<Option<Duration>, InputError> {
    let length = match lease {
        None => return Ok(Some(5 * SECOND)),
        Some(Text(Lease(None))) => return Ok(None),
        Some(Text(Lease(Some(length)))) => length,
    };
    in_range(places, "spec.lease", length, SECOND, MINUTE).map(Some)
}

fn check_target(target: TargetSpec, places: &Places) -> Result<TargetSelector, InputError> {
    let cells = match target {
        TargetSpec::Cloud(name) => return Ok(TargetSelector::Cloud(name.0.0)),
        TargetSpec::Cells(cells) => cells,
    };
    if cells.is_empty() {
        let message = "the target is empty: no cell would be broken";
        return Err(InputError::at_value(places, "spec.target.cells", message));
    }
    for (index, cell) in cells.iter().enumerate() {
        if cells[..index].contains(cell) {
            let path = format!("spec.target.cells[{index}]");
            let message = format!("cell `{}` is listed twice", cell.0.0);
            return Err(InputError::at_value(places, &path, message));
        }
    }
    Ok(TargetSelector::Cells(
        cells.into_iter().map(|name| name.0.0).collect(),
    ))
}

fn check_method(steps: Vec<StepSpec>, places: &Places) -> Result<Vec<MethodStep>, InputError> {
    if steps.is_empty() {
        let message = "the method is empty: nothing would be broken";
        return Err(InputError::at_value(places, "spec.method", message));
    }
    let check = |(index, step): (usize, StepSpec)| {
        let path = |field| format!("spec.method[{index}].{field}");
        let at = step.at.map_or(Duration::ZERO, |at| at.0);
        Ok(MethodStep {
            at: in_range(places, &path("at"), at, Duration::ZERO, LONGEST)?,
            duration: in_range(places, &path("duration"), step.duration.0, SECOND, LONGEST)?,
            side: step.on,
            fault: step.fault,
        })
    };
    steps.into_iter().enumerate().map(check).collect()
}

fn check_degraded(
    degraded: Vec<Text<Name>>,
    by_at_least: Option<Text<Percentage>>,
    places: &Places,
) -> Result<(Vec<String>, f64), InputError> {
    let path = "spec.hypothesis.target";
    if degraded.is_empty() {
        let path = format!("{path}.degraded");
        let message = "no probe is named, so nothing could prove that the fault bites";
        return Err(InputError::at_value(places, &path, message));
    }
    let least = fraction(places, &format!("{path}.byAtLeast"), by_at_least, 0.1)?;
    Ok((degraded.into_iter().map(|name| name.0.0).collect(), least))
}

/// More than 0%, less than 100%.
fn fraction(
    places: &Places,
    path: &str,
    value: Option<Text<Percentage>>,
    default: f64,
) -> Result<f64, InputError> {
    match value.map_or(default, |text| text.0.0) {
        value if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err(InputError::at_value(
            places,
            path,
            "more than 0% and less than 100% is wanted",
        )),
    }
}

fn in_range(
    places: &Places,
    path: &str,
    value: Duration,
    from: Duration,
    to: Duration,
) -> Result<Duration, InputError> {
    if value >= from && value <= to {
        return Ok(value);
    }
    let words = |duration| humantime::format_duration(duration).to_string();
    let message = format!(
        "{} is out of range: {} to {}",
        words(value),
        words(from),
        words(to)
    );
    Err(InputError::at_value(places, path, message))
}
