//! Reading fleets and scenarios: the YAML shapes and the checks between them and the model.

mod clients;
mod effects;
mod fleet;
mod fleet_checks;
mod requests;
mod scenario;
#[cfg(test)]
mod tests;
pub(crate) mod traffic;
#[cfg(test)]
mod traffic_tests;
mod vantages;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::fleet::Fleet;
use crate::input::InputError;
use crate::places::Places;
use crate::scenario::Scenario;
use crate::values::{Name, Text};
use crate::yaml;

pub(crate) use effects::SYMPTOM_AT_LEAST;
pub(crate) use fleet::FleetSpec;
pub(crate) use requests::is_dns_name;
pub(crate) use scenario::{LONGEST, ScenarioSpec};

/// What every document of cellwall looks like from outside.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document<S> {
    /// Always cellwall.dev/v1.
    #[serde(rename = "apiVersion")]
    #[schemars(extend("const" = "cellwall.dev/v1"))]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: Metadata,
    spec: S,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: Text<Name>,
    /// One line for people.
    title: Option<String>,
}

/// A map whose keys are names.
type Named<T> = BTreeMap<Text<Name>, T>;

/// Reads and checks a fleet. `file` is only for error texts; nothing is opened.
pub fn read_fleet(text: &str, file: &str) -> Result<Fleet, InputError> {
    read_fleet_bytes(text.as_bytes(), file)
}

/// Reads and checks a fleet from the bytes of a file, whatever they are.
pub fn read_fleet_bytes(bytes: &[u8], file: &str) -> Result<Fleet, InputError> {
    let (document, places) = document::<FleetSpec>(bytes, file, "Fleet")?;
    fleet::check(document.metadata.name.0.0, document.spec, &places)
}

/// Reads and checks a scenario. Names of clouds, cells and probes are compared with a fleet later,
/// by [`crate::planner::build`].
pub fn read_scenario(text: &str, file: &str) -> Result<Scenario, InputError> {
    read_scenario_bytes(text.as_bytes(), file)
}

/// Reads and checks a scenario from the bytes of a file, whatever they are.
pub fn read_scenario_bytes(bytes: &[u8], file: &str) -> Result<Scenario, InputError> {
    let (document, places) = document::<ScenarioSpec>(bytes, file, "Scenario")?;
    let Metadata { name, title } = document.metadata;
    scenario::check(name.0.0, title, document.spec, places)
}

fn document<S: DeserializeOwned>(
    bytes: &[u8],
    file: &str,
    kind: &str,
) -> Result<(Document<S>, Places), InputError> {
    let text = yaml::text(bytes, file)?;
    let places = yaml::outline(text, file, kind)?;
    let document = yaml::parse(text, &places)?;
    Ok((document, places))
}
