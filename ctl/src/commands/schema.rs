//! `cellwall schema`: the JSON Schema that editors use.

use std::path::PathBuf;

use crate::cli::{JsonArguments, SchemaArguments};
use crate::failure::Failure;
use crate::output;

pub fn run(arguments: &SchemaArguments) -> Result<u8, Failure> {
    let stdout = || PathBuf::from("-");
    let json = Some(arguments.json.json.clone().unwrap_or_else(stdout));
    output::write_json(&JsonArguments { json }, &scenarios::schema::schema())?;
    Ok(0)
}
