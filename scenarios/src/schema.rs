//! The JSON Schema of the language, for editors; the reader is the judge.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::read::{Document, FleetSpec, ScenarioSpec};

/// One schema for every kind of file (draft 2020-12), chosen by `kind`.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let fleet = generator.subschema_for::<Document<FleetSpec>>();
    let scenario = generator.subschema_for::<Document<ScenarioSpec>>();
    let definitions = generator.take_definitions(true);
    let kind = |word: &str, schema: schemars::Schema| {
        json!({
            "if": { "properties": { "kind": { "const": word } } },
            "then": schema.to_value(),
        })
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cellwall",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": { "kind": { "enum": ["Fleet", "Scenario"] } },
        "allOf": [kind("Fleet", fleet), kind("Scenario", scenario)],
        "$defs": definitions,
    })
}
