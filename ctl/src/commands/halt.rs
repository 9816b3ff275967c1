//! `cellwall halt` and `cellwall resume`: the kill switch of a whole fleet.

use std::future::Future;
use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use wire::agent_client::AgentClient;
use wire::{HaltRequest, PROTOCOL, ResumeRequest};

use crate::agents::{self, Identities};
use crate::cli::{FleetArguments, HaltArguments, JsonArguments, ResumeArguments};
use crate::drill::hands;
use crate::failure::Failure;
use crate::output;
use crate::place::{self, Place, Reach};

/// An agent that does not answer is asked again for this long: it may just be started anew.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);

/// What one agent answered.
#[derive(Serialize)]
struct Answer {
    cell: String,
    node: String,
    /// `halted`, `resumed`, `was not halted`; `no answer` if it did not do what was asked.
    state: &'static str,
    /// The drill that was held and has been ended.
    drill: String,
    /// What is left on the host, or could not be verified.
    residue: Vec<String>,
    /// Why a restart of the agent would forget the halt; empty if it would not.
    not_durable: String,
    detail: String,
}

const NO_ANSWER: &str = "no answer";

impl Answer {
    fn new(state: &'static str) -> Self {
        Self {
            cell: String::new(),
            node: String::new(),
            state,
            drill: String::new(),
            residue: Vec::new(),
            not_durable: String::new(),
            detail: String::new(),
        }
    }

    fn line(&self, words: &str) -> String {
        format!("  {}/{}: {words}", self.cell, self.node)
    }
}

/// Exit 0 if every agent of the fleet is halted for good and showed that nothing is left, 4 if that
/// is not known of one, 3 if one is halted only as long as its process lives.
pub fn halt(arguments: &HaltArguments) -> Result<u8, Failure> {
    let reason = arguments.reason.clone().unwrap_or_else(who);
    let state = "no agent was halted";
    let answers = ask_all(&arguments.fleet, state, |mut client| {
        let reason = reason.clone();
        async move { halt_one(&mut client, reason).await }
    })?;
    let written = show(&answers, &arguments.json);
    match unhalted(&answers) {
        None => written.map(|()| 0),
        // What is wrong with the fleet outranks a result that could not be written.
        Some(failure) => {
            if let Err(failure) = written {
                output::complain(&failure.to_string());
            }
            Err(failure)
        }
    }
}

/// Exit 0 if every agent takes drills again, else 3.
pub fn resume(arguments: &ResumeArguments) -> Result<u8, Failure> {
    let state = "no agent was resumed";
    let answers = ask_all(&arguments.fleet, state, |mut client| async move {
        resume_one(&mut client).await
    })?;
    show(&answers, &arguments.json)?;
    let silent = answers.iter().filter(|answer| answer.state == NO_ANSWER);
    let list: Vec<String> = silent.map(|answer| answer.line(&answer.detail)).collect();
    match list.is_empty() {
        true => Ok(0),
        false => Err(Failure::NotResumed {
            list: list.join("\n"),
        }),
    }
}

async fn halt_one(client: &mut AgentClient<Channel>, reason: String) -> Result<Answer, String> {
    let request = HaltRequest {
        protocol: PROTOCOL,
        reason,
    };
    let reply = agents::call(client.halt(request)).await?;
    let mut residue = hands::left(reply.residue, &reply.drifted);
    if !reply.verified && residue.is_empty() {
        residue.push("the residue scan could not be made".to_string());
    }
    Ok(Answer {
        drill: reply.drill,
        residue,
        not_durable: reply.not_durable,
        ..Answer::new("halted")
    })
}

async fn resume_one(client: &mut AgentClient<Channel>) -> Result<Answer, String> {
    let request = ResumeRequest { protocol: PROTOCOL };
    let reply = agents::call(client.resume(request)).await?;
    let mut answer = Answer::new("was not halted");
    if reply.was_halted {
        answer = Answer::new("resumed");
        answer.detail = format!("had been halted: {}", reply.reason);
    }
    Ok(answer)
}

/// Asks all agents of the fleet at once; `state` says how the fleet is if nobody can be asked.
fn ask_all<F: Future<Output = Result<Answer, String>>>(
    fleet: &FleetArguments,
    state: &'static str,
    ask: impl Fn(AgentClient<Channel>) -> F,
) -> Result<Vec<Answer>, Failure> {
    let place = place::find(fleet, Reach::Live)?;
    let identities = Identities::read(&place.fleet, &place.file, state)?;
    super::block_on(async {
        let nodes = agents::all_nodes(&place.fleet);
        let answers = nodes.into_iter().map(|(cell, node)| {
            let asked = ask_until_answered(&place, &identities, cell.clone(), node.clone(), &ask);
            async move {
                let answer = asked.await.unwrap_or_else(|why| Answer {
                    detail: why,
                    ..Answer::new(NO_ANSWER)
                });
                Answer {
                    cell,
                    node,
                    ..answer
                }
            }
        });
        Ok(join_all(answers).await)
    })
}

async fn ask_until_answered<F: Future<Output = Result<Answer, String>>>(
    place: &Place,
    identities: &Identities,
    cell: String,
    node: String,
    ask: &impl Fn(AgentClient<Channel>) -> F,
) -> Result<Answer, String> {
    let cells = &place.fleet.cells;
    let known = cells
        .get(&cell)
        .and_then(|c| c.nodes.iter().find(|n| n.name == node));
    let address = known.ok_or("the fleet has no such node")?.agent;
    let begun = Instant::now();
    loop {
        let answer = match agents::link(&cell, &node, address, identities).await {
            Ok(client) => ask(client).await,
            Err(why) => Err(why),
        };
        match answer {
            Err(_) if begun.elapsed() < PATIENCE => sleep(PAUSE).await,
            answer => return answer,
        }
    }
}

fn show(answers: &[Answer], json: &JsonArguments) -> Result<(), Failure> {
    let head = ["cell", "node", "answer", "drill ended", "detail"];
    let mut lines = vec![head.map(str::to_string).to_vec()];
    for answer in answers {
        let mut detail: Vec<String> = Vec::new();
        if !answer.residue.is_empty() {
            detail.push(format!("left: {}", answer.residue.join(", ")));
        }
        let told = [&answer.not_durable, &answer.detail];
        detail.extend(told.into_iter().filter(|text| !text.is_empty()).cloned());
        let drill = match answer.drill.as_str() {
            "" => "-".to_string(),
            drill => drill.to_string(),
        };
        lines.push(vec![
            answer.cell.clone(),
            answer.node.clone(),
            answer.state.to_string(),
            drill,
            detail.join("; "),
        ]);
    }
    output::say(output::table(&lines).trim_end());
    output::write_json(json, &answers)
}

/// Why the fleet is not halted as it was asked to be, if it is not.
fn unhalted(answers: &[Answer]) -> Option<Failure> {
    let mut left = Vec::new();
    let mut forgetful = Vec::new();
    for answer in answers {
        if answer.state == NO_ANSWER {
            left.push(answer.line(&format!("not verified: {}", answer.detail)));
        } else if !answer.residue.is_empty() {
            left.push(answer.line(&answer.residue.join(", ")));
        } else if !answer.not_durable.is_empty() {
            forgetful.push(answer.line(&answer.not_durable));
        }
    }
    if !left.is_empty() {
        return Some(Failure::NotHalted {
            list: left.join("\n"),
        });
    }
    (!forgetful.is_empty()).then(|| Failure::HaltNotDurable {
        list: forgetful.join("\n"),
    })
}

fn who() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_string());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("by {user} at {}", host.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit_code(spoil: impl Fn(&mut Answer)) -> u8 {
        let mut answers = [Answer::new("halted"), Answer::new("halted")];
        spoil(&mut answers[1]);
        unhalted(&answers).map_or(0, |failure| failure.exit_code())
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_agent() {
        assert_eq!(exit_code(|_| {}), 0);
        assert_eq!(exit_code(|one| one.drill = "d".into()), 0);
        assert_eq!(exit_code(|one| one.not_durable = "disk full".into()), 3);
        assert_eq!(exit_code(|one| one.residue.push("a table".into())), 4);
        assert_eq!(exit_code(|one| one.state = NO_ANSWER), 4);
        assert_eq!(
            exit_code(|one| {
                one.not_durable = "disk full".into();
                one.residue.push("a table".into());
            }),
            4
        );
    }
}
