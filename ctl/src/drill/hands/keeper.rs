//! Keeps the leases while a drill is held, and listens to what every agent says of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scenarios::history::AgentEvent;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use wire::{Event, PROTOCOL, RenewRequest, State, StatusRequest, WatchRequest};

use super::{LOST, NOT_RENEWED, Orders, UNREACHABLE};
use crate::agents::{Agent, CALL_TIMEOUT, call};
use crate::drill::prepare::millis;
use crate::drill::pulse::Pulse;

/// Between two attempts to listen to an agent again.
const AGAIN: Duration = Duration::from_millis(500);

/// Renews every agent's lease, if there is one, and listens to every agent, until stopped or dropped.
pub struct LeaseKeeper {
    stopping: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl LeaseKeeper {
    pub(super) fn start(
        agents: &[Agent],
        orders: &Orders,
        events: &mpsc::Sender<AgentEvent>,
        pulse: &Pulse,
    ) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for agent in agents {
            let reporter = Reporter {
                agent: agent.clone(),
                events: events.clone(),
                origin: pulse.origin(),
                stopping: stopping.clone(),
            };
            let word = match orders.lease {
                Some(_) => LOST,
                None => UNREACHABLE,
            };
            tasks.push(tokio::spawn(listen(reporter.clone(), word)));
            if let Some(lease) = orders.lease {
                let drill = orders.drill.clone();
                tasks.push(tokio::spawn(renew(reporter, drill, lease, pulse.clone())));
            }
        }
        Self { stopping, tasks }
    }

    /// No renewal leaves after this; listening goes on so that the revert is seen.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[derive(Clone)]
struct Reporter {
    agent: Agent,
    events: mpsc::Sender<AgentEvent>,
    origin: Instant,
    stopping: Arc<AtomicBool>,
}

impl Reporter {
    async fn tell(&self, state: &str, detail: String) {
        self.tell_since(state, detail, None, Vec::new()).await;
    }

    async fn tell_since(
        &self,
        state: &str,
        detail: String,
        since: Option<Instant>,
        gaps: Vec<String>,
    ) {
        let ms = |instant: Instant| millis(instant.saturating_duration_since(self.origin));
        let event = AgentEvent {
            at_ms: ms(Instant::now()),
            since_ms: since.map(ms),
            cell: self.agent.cell.clone(),
            node: self.agent.node.clone(),
            state: state.to_string(),
            detail,
            gaps,
        };
        // The receiver is gone only when the drill is over.
        let _ = self.events.send(event).await;
    }

    async fn tell_event(&self, event: Event) {
        let state = State::try_from(event.state).unwrap_or(State::Unspecified);
        let mut detail = event.cause;
        if !event.residue.is_empty() {
            detail = format!("{detail}; residue: {}", event.residue.join(", "));
        }
        let state = state.as_str_name().to_ascii_lowercase();
        let since = match event.since_boottime_ns {
            0 => None, // an agent that does not tell
            since => self.agent.instant(since),
        };
        self.tell_since(&state, detail, since, event.gaps).await;
    }
}

/// Three renewals fit into one lease, so that a single lost one does not end the fault. Nothing is
/// renewed for a conductor that no longer looks at what happens: then the lease ends the fault.
async fn renew(reporter: Reporter, drill: String, lease: Duration, pulse: Pulse) {
    let mut client = reporter.agent.client.clone();
    let mut renewed = Instant::now();
    loop {
        sleep(lease / 3).await;
        if reporter.stopping.load(Ordering::Relaxed) {
            return;
        }
        if !pulse.is_fresh() {
            continue;
        }
        let request = RenewRequest {
            protocol: PROTOCOL,
            drill: drill.clone(),
        };
        let answer = timeout(lease / 3, client.renew(request)).await;
        if reporter.stopping.load(Ordering::Relaxed) {
            return;
        }
        let why = match answer {
            Ok(Ok(_)) => {
                renewed = Instant::now();
                continue;
            }
            // The agent itself says that it holds the drill no longer.
            Ok(Err(status))
                if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) =>
            {
                return reporter.tell(LOST, status.message().to_string()).await;
            }
            Ok(Err(status)) => status.message().to_string(),
            Err(_) => "no answer".to_string(),
        };
        if renewed.elapsed() > lease {
            let why = format!("its lease ran out: {why}");
            return reporter.tell(LOST, why).await;
        }
        reporter.tell(NOT_RENEWED, why).await;
    }
}

/// Tells what the agent says, over losses of the connection: when it can be heard again, it says
/// itself since when it is in its present state. `word` stands for an agent that cannot be heard.
async fn listen(reporter: Reporter, word: &'static str) {
    let mut away: Option<Instant> = None; // since when nothing is heard
    loop {
        let why = watch(&reporter, &mut away).await;
        if away.is_none() {
            away = Some(Instant::now());
            reporter.tell(word, why).await;
        }
        sleep(AGAIN).await;
    }
}

/// Until the agent cannot be heard any more, and why. `away` ends with its first word.
async fn watch(reporter: &Reporter, away: &mut Option<Instant>) -> String {
    let mut client = reporter.agent.client.clone();
    if let Some(since) = *away {
        let status = match call(client.status(StatusRequest { protocol: PROTOCOL })).await {
            Ok(status) => status,
            Err(why) => return why,
        };
        if status.boot_id != reporter.agent.status.boot_id {
            *away = None;
            // Another boot has another clock: nothing is known of the time between.
            let why =
                "its host was started anew, so what it did meanwhile is not known".to_string();
            reporter
                .tell_since(LOST, why, Some(since), Vec::new())
                .await;
            return std::future::pending().await;
        }
    }
    let request = WatchRequest { protocol: PROTOCOL };
    let mut stream = match timeout(CALL_TIMEOUT, client.watch(request)).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return status.message().to_string(),
        Err(_) => return "no answer".to_string(),
    };
    loop {
        match stream.message().await {
            Ok(Some(event)) => {
                *away = None;
                reporter.tell_event(event).await;
            }
            Ok(None) => return "the agent closed its stream".to_string(),
            Err(status) => return status.message().to_string(),
        }
    }
}
