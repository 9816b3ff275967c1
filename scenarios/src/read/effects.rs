//! The YAML shapes of what a scenario says about data, symptom, load and harm, and their checks.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::effects::{DataLimits, HarmBudget, LoadSource, Symptom, SymptomClaim};
use crate::input::InputError;
use crate::places::Places;
use crate::scenario::LoadWish;
use crate::values::{Name, Percentage, Rate, Text};

/// Share of the bad probes that must show the declared symptom unless the file says another.
pub(crate) const SYMPTOM_AT_LEAST: f64 = 0.9;

/// How many acknowledged writes of the target may be wrong after recovery; of other cells none may.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DataHypothesis {
    /// Gone.
    lost: u64,
    /// Deleted or overwritten, and there again; default 0.
    #[serde(default)]
    resurrected: u64,
    /// Read in an older version than was acknowledged; default 0.
    #[serde(default)]
    stale: u64,
}

impl From<DataHypothesis> for DataLimits {
    fn from(spec: DataHypothesis) -> DataLimits {
        DataLimits {
            lost: spec.lost,
            resurrected: spec.resurrected,
            stale: spec.stale,
        }
    }
}

/// How the target must fail, for the fault to have been the one that was meant.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SymptomSpec {
    /// The ways in which the target's probes may be bad.
    only: Vec<Symptom>,
    /// At least this share of them; default 90%.
    at_least: Option<Text<Percentage>>,
}

/// What each cell that takes over must carry while the fault lasts: peak / (1 - share).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoadSpec {
    /// The probe whose request a generator sends; one that reads.
    probe: Option<Text<Name>>,
    /// Instead of a generator: the traffic of the fleet whose requests are counted as the load.
    traffic: Option<Text<Name>>,
    /// Requests of one cell at its busiest.
    peak: Text<Rate>,
    /// The target's share of the region's users; default as the entrypoints of the fleet say.
    share: Option<Text<Percentage>>,
}

/// What users may pay at most, the target's included; more ends the fault.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HarmSpec {
    /// Bad probes since fire.
    failed_requests: Option<u64>,
    /// Bad probes since fire as a share of all that are due from fire to the planned end.
    error_budget: Option<Text<Percentage>>,
}

pub(super) fn symptom(
    spec: Option<SymptomSpec>,
    places: &Places,
) -> Result<Option<SymptomClaim>, InputError> {
    let path = "spec.hypothesis.target.symptom";
    let Some(SymptomSpec { mut only, at_least }) = spec else {
        return Ok(None);
    };
    if only.is_empty() {
        let message = "no symptom is named, so the target could fail in no way";
        let path = format!("{path}.only");
        return Err(
            InputError::at_value(places, &path, message).with_hint("write for instance [timeouts]")
        );
    }
    only.sort();
    only.dedup();
    let at_least = within(places, &format!("{path}.atLeast"), at_least)?;
    Ok(Some(SymptomClaim {
        only,
        at_least: at_least.unwrap_or(SYMPTOM_AT_LEAST),
    }))
}

pub(super) fn load(
    spec: Option<LoadSpec>,
    places: &Places,
) -> Result<Option<LoadWish>, InputError> {
    let Some(spec) = spec else { return Ok(None) };
    let by = match (spec.probe, spec.traffic) {
        (Some(probe), None) => LoadSource::Probe(probe.0.0),
        (None, Some(traffic)) => LoadSource::Traffic(traffic.0.0),
        (named, _) => {
            let message = match named {
                Some(_) => "a load of two sources",
                None => "a load without a source",
            };
            let hint = "write probe: NAME for a generator, or traffic: NAME for real requests";
            return Err(InputError::at_key(places, "spec.load", message).with_hint(hint));
        }
    };
    Ok(Some(LoadWish {
        by,
        peak: spec.peak.0.0,
        share: within(places, "spec.load.share", spec.share)?,
    }))
}

pub(super) fn harm(
    spec: Option<HarmSpec>,
    places: &Places,
) -> Result<Option<HarmBudget>, InputError> {
    let Some(spec) = spec else { return Ok(None) };
    let error_budget = within(places, "spec.harm.errorBudget", spec.error_budget)?;
    if spec.failed_requests.is_none() && error_budget.is_none() {
        let message = "a harm budget without a limit";
        return Err(InputError::at_key(places, "spec.harm", message)
            .with_hint("write failedRequests: 500, or errorBudget: 20%, or both"));
    }
    Ok(Some(HarmBudget {
        failed_requests: spec.failed_requests,
        error_budget,
    }))
}

/// More than 0%, less than 100%.
fn within(
    places: &Places,
    path: &str,
    value: Option<Text<Percentage>>,
) -> Result<Option<f64>, InputError> {
    match value.map(|text| text.0.0) {
        Some(value) if value <= 0.0 || value >= 1.0 => Err(InputError::at_value(
            places,
            path,
            "more than 0% and less than 100% is wanted",
        )),
        value => Ok(value),
    }
}
