//! `cellwall revert DRILL`: undoes a drill on every agent that can be reached.

use scenarios::history::Residue;

use crate::agents::{self, Agent, Identities};
use crate::cli::RevertArguments;
use crate::drill::hands::{self, Patience};
use crate::failure::Failure;
use crate::output;
use crate::place::{self, Place, Reach};

/// Exit 0 if every agent of the fleet reverted and showed that nothing is left, else 4.
pub fn run(arguments: &RevertArguments) -> Result<u8, Failure> {
    let place = place::find(&arguments.fleet, Reach::Live)?;
    let state = "agents still end the fault by themselves at their deadline";
    let identities = Identities::read(&place.fleet, &place.file, state)?;
    let residue = super::block_on(async { Ok(revert(&place, &identities, arguments).await) })?;
    for one in &residue {
        let word = match (one.verified, one.left.is_empty()) {
            (true, true) => "clean".to_string(),
            _ => one.left.join(", "),
        };
        output::say(&format!("{}/{}: {word}", one.cell, one.node));
    }
    let written = output::write_json(&arguments.json, &residue);
    let bad = hands::unclean(&residue);
    if bad.is_empty() {
        return written.map(|()| 0);
    }
    // Residue outranks a result that could not be written.
    if let Err(failure) = written {
        output::complain(&failure.to_string());
    }
    Err(Failure::NotReverted {
        drill: arguments.drill.clone(),
        list: bad.join("\n"),
    })
}

async fn revert(
    place: &Place,
    identities: &Identities,
    arguments: &RevertArguments,
) -> Vec<Residue> {
    let nodes = agents::all_nodes(&place.fleet);
    let answers = agents::connect(&place.fleet, &nodes, identities).await;
    let silent: Vec<Residue> = answers
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .map(|silent| Residue {
            cell: silent.cell.clone(),
            node: silent.node.clone(),
            verified: false,
            left: vec![format!("not verified: {}", silent.why)],
        })
        .collect();
    let agents: Vec<Agent> = answers.into_iter().filter_map(Result::ok).collect();
    if !agents
        .iter()
        .any(|agent| agent.status.drill == arguments.drill)
    {
        output::complain(&format!(
            "no agent remembers drill {}; every one that can be reached is scanned all the same",
            arguments.drill
        ));
    }
    let answers = hands::revert(&agents, &arguments.drill, &Patience::default()).await;
    let mut residue = hands::residues(&answers);
    residue.extend(silent);
    residue
}
