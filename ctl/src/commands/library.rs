//! `cellwall library`: the built-in scenarios.

use crate::cli::LibraryArguments;
use crate::failure::Failure;
use crate::output;

pub fn run(arguments: &LibraryArguments) -> Result<u8, Failure> {
    let names: Vec<&str> = scenarios::library::names().collect();
    match &arguments.name {
        None => {
            names.iter().for_each(|name| output::say(name));
            output::write_json(&arguments.json, &names)?;
        }
        Some(name) => {
            let text = scenarios::library::get(name).ok_or_else(|| Failure::UnknownScenario {
                name: name.clone(),
                known: names.join(", "),
            })?;
            output::say(text.trim_end());
            output::write_json(&arguments.json, &text)?;
        }
    }
    Ok(0)
}
