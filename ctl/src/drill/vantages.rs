//! The vantages of a drill: probers on nodes of the fleet, reached through those nodes' agents.

mod link;
mod seconds;

use probes::vantage::{Order, Said, Task, VANTAGE_FORMAT, vantage_streams};
use scenarios::fleet::VantageNode;
use scenarios::history::Vantage;
use scenarios::verdict::vantages::SKEW_MAX_US;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::agents::{self, Agent, CALL_TIMEOUT, Identities};
use crate::drill::prepare::Prepared;
use crate::failure::Failure;
use crate::output;

use link::Link;
pub use seconds::{Merged, Seconds};

/// A drill with vantages has a baseline that is longer by so much. By a vantage's own clock its window
/// begins a block before fire: that is one block less for its baseline and one more for its window;
/// and of a stream without a declared slo only the second half of the baseline counts.
pub const MORE_BASELINE_BLOCKS: u64 = 4;

/// What came from a vantage, by its place in the list.
pub enum Heard {
    Said(usize, Said),
    /// Nothing more comes from it.
    Lost(usize, String),
}

/// Vantages that are ready and wait for the drill to begin; dropping them ends them.
pub struct Vantages {
    links: Vec<Link>,
    described: Vec<Vantage>,
    heard: mpsc::Receiver<Heard>,
}

impl Vantages {
    /// Starts a prober on every vantage of the fleet but those in the target, which the fault itself
    /// cuts off.
    ///
    /// # Errors
    /// If any of them cannot be reached, is not allowed by its node, or has a clock that is not known
    /// well enough; nothing was altered then.
    pub async fn open(
        prepared: &Prepared,
        agents: &[Agent],
        identities: &Identities,
        drill: &str,
    ) -> Result<Self, Failure> {
        let target = &prepared.plan.target.cells;
        let (cut_off, nodes): (Vec<&VantageNode>, Vec<&VantageNode>) = prepared
            .fleet()
            .vantages
            .iter()
            .partition(|vantage| target.contains(&vantage.cell));
        for vantage in cut_off {
            let VantageNode { cell, node } = vantage;
            output::say(&format!(
                "{cell}/{node} is no vantage: the fault cuts it off"
            ));
        }
        let (sender, heard) = mpsc::channel(1024);
        let streams = vantage_streams(prepared.fleet(), &prepared.streams);
        let mut vantages = Self {
            links: Vec::new(),
            described: Vec::new(),
            heard,
        };
        for (index, vantage) in nodes.into_iter().enumerate() {
            let agent = agent_of(vantage, prepared, agents, identities).await?;
            let task = Task {
                format: VANTAGE_FORMAT,
                run: format!("v{index}-{drill}"),
                fleet: prepared.place.text.clone(),
                streams: streams.clone(),
            };
            let skew_us = u64::try_from(agent.skew().as_micros()).unwrap_or(u64::MAX);
            let name = agent.name();
            let refused = |why: String| refused(&name, &why);
            if skew_us > SKEW_MAX_US {
                return Err(refused(format!(
                    "its clock is known only to {:?}",
                    agent.skew()
                )));
            }
            vantages.described.push(Vantage {
                name: name.clone(),
                cell: agent.cell.clone(),
                skew_us,
                streams: streams.iter().map(|stream| stream.name.clone()).collect(),
            });
            let link = Link::open(index, agent, sender.clone());
            link.order(&Order::Look(Box::new(task))).map_err(refused)?;
            vantages.ready(index).await.map_err(refused)?;
            vantages.links.push(link);
        }
        Ok(vantages)
    }

    async fn ready(&mut self, index: usize) -> Result<(), String> {
        loop {
            match timeout(CALL_TIMEOUT, self.heard.recv()).await {
                Ok(Some(Heard::Said(from, Said::Ready))) if from == index => return Ok(()),
                // Also of one that was ready before: a drill that has lost an observer need not begin.
                Ok(Some(Heard::Lost(from, why))) if from == index => return Err(why),
                Ok(Some(Heard::Lost(from, why))) => {
                    let lost = self
                        .described
                        .get(from)
                        .map(|vantage| vantage.name.as_str());
                    let lost = lost.unwrap_or("another");
                    return Err(format!("meanwhile vantage {lost} was lost: {why}"));
                }
                Ok(Some(Heard::Said(..))) => {}
                Ok(None) | Err(_) => return Err("it did not get ready in time".to_string()),
            }
        }
    }

    pub fn described(&self) -> &[Vantage] {
        &self.described
    }

    /// The drill begins at `origin`.
    pub fn begin(self, origin: Instant) -> Begun {
        let names = self.described.into_iter().map(|vantage| vantage.name);
        let begun = Begun {
            names: names.collect(),
            links: self.links,
            heard: self.heard,
        };
        begun.order(|link| Order::Begin {
            origin_boottime_ns: link.agent.boottime_ns(origin),
        });
        begun
    }
}

/// Vantages that look; dropping them ends them.
pub struct Begun {
    pub names: Vec<String>,
    links: Vec<Link>,
    heard: mpsc::Receiver<Heard>,
}

impl Begun {
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub fn set_thresholds(&self, from_ms: u64) {
        self.order(|_| Order::Thresholds { from_ms });
    }

    /// No more probes; each tells what is still to be told of its writes.
    pub fn end(&self) {
        self.order(|_| Order::End);
    }

    fn order(&self, order: impl Fn(&Link) -> Order) {
        for link in &self.links {
            // A vantage that takes no order is lost, and its end says so.
            let _ = link.order(&order(link));
        }
    }
}

fn refused(name: &str, why: &str) -> Failure {
    Failure::Refused {
        why: format!("vantage {name}: {why}"),
    }
}

/// The agent of a vantage's node: one of the drill's own, or one that the plan leaves alone.
async fn agent_of(
    vantage: &VantageNode,
    prepared: &Prepared,
    agents: &[Agent],
    identities: &Identities,
) -> Result<Agent, Failure> {
    let VantageNode { cell, node } = vantage;
    let known = agents
        .iter()
        .find(|agent| agent.cell == *cell && agent.node == *node);
    if let Some(agent) = known {
        return Ok(agent.clone());
    }
    let nodes = [(cell.clone(), node.clone())];
    let answers = agents::connect(prepared.fleet(), &nodes, identities).await;
    let agents = agents::all_or_refuse(answers)?;
    let agent = agents.into_iter().next();
    agent.ok_or_else(|| refused(&format!("{cell}/{node}"), "it does not answer"))
}
