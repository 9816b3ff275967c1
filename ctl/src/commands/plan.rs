//! `cellwall plan SCENARIO`: what a drill would alter, how it ends, and what would be refused.

use scenarios::effects::{LoadClaim, LoadSource};
use scenarios::plan::Plan;
use scenarios::verdict::windows;
use serde::Serialize;
use wire::{PROTOCOL, PlanRequest};

use crate::agents::{self, Agent, Identities};
use crate::cli::PlanArguments;
use crate::drill::prepare::{Prepared, prepare};
use crate::failure::Failure;
use crate::kubernetes;
use crate::output;
use crate::place::Reach;

#[derive(Serialize)]
struct Report<'a> {
    plan: &'a Plan,
    /// What the planner says to the windows; empty if they are long enough.
    too_short: Option<String>,
    agents: Option<&'a Live>,
    /// What the cells' API servers said; absent if nobody was asked.
    kubernetes: Option<&'a kubernetes::Answers>,
}

/// What the agents said.
#[derive(Serialize, Default)]
pub struct Live {
    /// One line per agent and change, with the ways in which it ends.
    changes: Vec<String>,
    /// One line per pod that a cut of its node does not reach; already said.
    not_cut: Vec<String>,
    /// One line per refusal.
    refusals: Vec<String>,
}

impl Live {
    pub fn refuse(self) -> Result<(), Failure> {
        if self.refusals.is_empty() {
            return Ok(());
        }
        Err(Failure::Refused {
            why: self.refusals.join("; "),
        })
    }
}

/// Exit 0 if the drill could be run, 3 if something would refuse it.
pub fn run(arguments: &PlanArguments) -> Result<u8, Failure> {
    let reach = if arguments.live {
        Reach::Live
    } else {
        Reach::Offline
    };
    let prepared = prepare(&arguments.scenario, &arguments.fleet, reach)?;
    output::say(&text(&prepared));
    let (live, clusters) = if arguments.live {
        let clusters = super::block_on(async { Ok(ask_clusters(&prepared).await) })?;
        // Said before the agents are asked: they may not answer at all.
        clusters.refusals.iter().for_each(|why| would_refuse(why));
        (Some(ask(&prepared)?), Some(clusters))
    } else {
        (None, None)
    };
    if let Some(live) = &live {
        live.changes
            .iter()
            .for_each(|line| output::say(&format!("  {line}")));
    }
    let too_short = windows(&prepared).err();
    let refusals = live
        .iter()
        .flat_map(|live| &live.refusals)
        .chain(&too_short);
    let refusals: Vec<&String> = refusals.collect();
    refusals.iter().for_each(|why| would_refuse(why));
    let cluster_refuses = clusters.iter().any(|asked| !asked.refusals.is_empty());
    let report = Report {
        plan: &prepared.plan,
        too_short: too_short.clone(),
        agents: live.as_ref(),
        kubernetes: clusters.as_ref(),
    };
    output::write_json(&arguments.json, &report)?;
    Ok(if refusals.is_empty() && !cluster_refuses {
        0
    } else {
        3
    })
}

fn would_refuse(why: &str) {
    output::say(&format!("would be refused: {why}"));
}

/// Asks the cells' API servers, if they have any, and says what they told; refuses nothing.
pub async fn ask_clusters(prepared: &Prepared) -> kubernetes::Answers {
    let answers = kubernetes::ask(prepared.fleet(), &prepared.plan.target.cells).await;
    for line in answers.lines.iter().chain(&answers.not_cut) {
        output::say(&format!("  {line}"));
    }
    answers
}

fn ask(prepared: &Prepared) -> Result<Live, Failure> {
    let identities = Identities::read(
        prepared.fleet(),
        &prepared.place.file,
        "nothing was altered",
    )?;
    super::block_on(async {
        let nodes = prepared.plan.nodes();
        let answers = agents::connect(prepared.fleet(), &nodes, &identities).await;
        ask_agents(&agents::all_or_refuse(answers)?, &prepared.plan).await
    })
}

/// Asks every agent what it would do; alters nothing.
pub async fn ask_agents(agents: &[Agent], plan: &Plan) -> Result<Live, Failure> {
    let plan = serde_json::to_vec(plan).map_err(|error| Failure::Refused {
        why: format!("the plan cannot be written: {error}"),
    })?;
    let answers = futures::future::join_all(agents.iter().map(|agent| {
        let mut client = agent.client.clone();
        let request = PlanRequest {
            protocol: PROTOCOL,
            plan: plan.clone(),
        };
        async move { agents::call(client.plan(request)).await }
    }))
    .await;
    let mut live = Live::default();
    for (agent, answer) in agents.iter().zip(answers) {
        let name = agent.name();
        match answer {
            Err(why) => live.refusals.push(format!("{name}: {why}")),
            Ok(reply) => {
                let pods = reply.datapath.iter().flat_map(|datapath| &datapath.pods);
                live.not_cut.extend(
                    pods.filter(|pod| !pod.not_cut.is_empty())
                        .map(|pod| format!("not cut: {} on {name} ({})", pod.pod, pod.not_cut)),
                );
                live.refusals
                    .extend(reply.refusals.iter().map(|why| format!("{name}: {why}")));
                live.changes.extend(reply.changes.iter().map(|change| {
                    format!(
                        "{name}: {}; ends by {}",
                        change.summary,
                        change.ends_by.join(", ")
                    )
                }));
            }
        }
    }
    live.not_cut
        .iter()
        .for_each(|line| output::say(&format!("  {line}")));
    Ok(live)
}

/// What a fleet without references must know before its drill.
const NO_REFERENCES: &str = "warning: the fleet names no `references`: if every other cell fell at once, nobody could \
    tell it from a loss of this machine's network, and the drill would end INCONCLUSIVE; name two hosts outside \
    of all cells";

/// Everything that the plan says offline, for people.
pub fn text(prepared: &Prepared) -> String {
    let plan = &prepared.plan;
    let mut lines = vec![summary(prepared)];
    for line in scenarios::planner::describe(plan) {
        let ends = match line.undo_impossible {
            None => format!("ends by {}", line.ends_by.join(", ")),
            Some(why) => format!("there is no undo: {why}"),
        };
        lines.push(format!("  {line}; {ends}"));
    }
    for endpoint in &plan.endpoints {
        let side = if endpoint.survivor {
            "must survive"
        } else {
            "target"
        };
        lines.push(format!(
            "  {} uses {} at {}:{} inside {}: {} ({side})",
            endpoint.cell,
            endpoint.name,
            endpoint.address,
            endpoint.port,
            plan.target.cloud,
            if endpoint.cut { "cut" } else { "not cut" },
        ));
    }
    for vantage in &prepared.fleet().vantages {
        let use_of_it = match plan.target.cells.contains(&vantage.cell) {
            true => "is in the target and not used",
            false => "looks at the other cells as well",
        };
        lines.push(format!(
            "  vantage {}/{} {use_of_it}",
            vantage.cell, vantage.node
        ));
    }
    if prepared.fleet().references.is_empty() {
        lines.push(format!("  {NO_REFERENCES}"));
    }
    let gate = match plan.lease_ms {
        Some(lease) => format!("at most {} s after the last renewal", lease as f64 / 1000.0),
        None => "at the end of its step, for there is no lease".to_string(),
    };
    lines.push(format!(
        "  if everything of ours dies at once: owner (the kernel drops a dead agent's tables) and \
         gate (the kernel, {gate}) end it, the journal is replayed when an agent starts; --live \
         asks each agent for its own"
    ));
    lines.extend(
        effects(prepared)
            .into_iter()
            .map(|line| format!("  {line}")),
    );
    match windows(prepared) {
        Ok(words) | Err(words) => lines.push(format!("  windows: {words}")),
    }
    lines.join("\n")
}

fn load(claim: &LoadClaim) -> String {
    let (needed, peak, cells) = (claim.needed, claim.peak, claim.cells.join(", "));
    match &claim.by {
        LoadSource::Probe(probe) => format!(
            "load: {needed:.1}/s of {probe} on each of {cells} while the fault lasts, {peak:.1}/s before and after"
        ),
        LoadSource::Traffic(traffic) => format!(
            "load: {traffic} must count {needed:.1}/s of users in each of {cells} while the fault lasts"
        ),
    }
}

/// What the drill is held to beside isolation.
fn effects(prepared: &Prepared) -> Vec<String> {
    let effects = &prepared.effects;
    let mut lines = Vec::new();
    if let Some(claim) = &effects.symptom {
        let only: Vec<&str> = claim.only.iter().map(|symptom| symptom.words()).collect();
        let share = claim.at_least * 100.0;
        lines.push(format!(
            "the target must fail by {}, {share:.0} % of its bad probes at least",
            only.join(" or ")
        ));
    }
    match &effects.load {
        None => {
            lines.push("capacity of the other cells: untested, no load is declared".to_string())
        }
        Some(claim) => lines.push(load(claim)),
    }
    if let Some(budget) = &effects.harm {
        let count = budget
            .failed_requests
            .map(|most| format!("{most} failed requests"));
        let share = budget.error_budget;
        let share = share.map(|share| format!("{:.1} % of all requests", share * 100.0));
        let limits: Vec<String> = count.into_iter().chain(share).collect();
        lines.push(format!(
            "harm: more than {} ends the fault",
            limits.join(", or ")
        ));
    }
    lines
}

/// One line: who, what, how long.
pub fn summary(prepared: &Prepared) -> String {
    let plan = &prepared.plan;
    format!(
        "fleet {}: target {} in cloud {}, {} agents, {} s",
        plan.fleet,
        plan.target.cells.join(", "),
        plan.target.cloud,
        plan.nodes().len(),
        plan.ends_ms() as f64 / 1000.0
    )
}

/// The planner of verdict.md 5: in words, whether the windows suffice or what they need.
fn windows(prepared: &Prepared) -> Result<String, String> {
    let asked = prepared.asked();
    let windows = windows::check(&prepared.streams, &asked).map_err(|short| short.to_string())?;
    let abort = windows.abort.iter().filter_map(|(share, blocks)| {
        blocks.map(|blocks| format!("{:.0} % bad after {blocks} s", share * 100.0))
    });
    let abort: Vec<String> = abort.collect();
    Ok(format!(
        "{} s needed (for {}), {} s configured; a neighbour that falls ends the fault early: {}",
        windows.needed_s,
        windows.stream,
        asked.fault_ms / 1000,
        abort.join(", ")
    ))
}

/// A drill that cannot end in a pass is not begun.
pub fn refuse_if_too_short(prepared: &Prepared) -> Result<(), Failure> {
    windows(prepared)
        .map(|_| ())
        .map_err(|why| Failure::Refused { why })
}
