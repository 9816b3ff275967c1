//! One probe, from its sending to its place in the books.

use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::askers::Call;
use crate::board::Ticket;
use crate::control::Loopback;
use crate::entrypoint::{Attributed, EntrypointProbe, Pointed};
use crate::expect::judge;
use crate::kinds::{CellProbe, Kind};
use crate::outcome::Outcome;
use crate::prober::{Shared, Write};
use crate::progress::Progress;

pub(crate) struct Errand<'a> {
    pub shared: &'a Shared,
    pub ticket: Ticket,
    /// Number of the probe in its stream; of most kinds even ones take a fresh connection.
    pub k: u64,
    pub intended: Instant,
    pub progress: Progress,
}

impl Errand<'_> {
    pub async fn run(&self, kind: &Kind) {
        match kind {
            Kind::Cell(probe) => self.cell(probe).await,
            Kind::Loopback(loopback, timeout) => self.loopback(loopback, *timeout).await,
            Kind::Entrypoint(probe) => self.entrypoint(probe).await,
            Kind::Attributed => {}
        }
    }

    fn end(&self, outcome: Outcome) {
        self.shared
            .board()
            .end(self.ticket, Instant::now(), outcome);
    }

    /// Unique in the drill: the run, the stream, the number of the probe.
    fn id(&self) -> String {
        format!("{}-{}-{}", self.shared.run, self.ticket.stream, self.k)
    }

    async fn cell(&self, probe: &CellProbe) {
        let id = self.id();
        let deadline = self.intended + probe.timeout;
        let call = Call {
            fresh: self.is_fresh(),
            id: &id,
            deadline,
            progress: &self.progress,
        };
        let mut asked = pin!(probe.asker.ask(&call));
        let tau = self.shared.board().tau(self.ticket.stream);
        let patience = self.intended + tau.unwrap_or(probe.timeout).min(probe.timeout);
        let stage = || probe.asker.stage(&self.progress);
        let mut answer = timeout_at(patience, &mut asked).await;
        if answer.is_err() && patience < deadline {
            // Bad already; but its second may close before it ends, and should say what it met.
            self.shared.board().note(self.ticket, stage());
            answer = timeout_at(deadline, asked).await;
        }
        let answer = answer.unwrap_or_else(|_| Err(self.late(&stage(), deadline)));
        let good = answer.is_ok();
        self.end(answer.err().unwrap_or(Outcome::Answered));
        if let (true, true, Some(cell)) = (good, probe.keeps_writes, &probe.cell) {
            self.shared.acknowledge(Write {
                cell: cell.clone(),
                probe: probe.probe.clone(),
                id: id.clone(),
            });
        }
    }

    /// The other half sees whether kept connections still work.
    fn is_fresh(&self) -> bool {
        self.k.is_multiple_of(2)
    }

    fn late(&self, stage: &str, deadline: Instant) -> Outcome {
        let timeout = deadline
            .saturating_duration_since(self.intended)
            .as_millis();
        Outcome::Timeout(format!("{stage} for {timeout} ms"))
    }

    async fn loopback(&self, loopback: &Loopback, timeout: Duration) {
        let asked = loopback.ask(self.is_fresh());
        self.end(match timeout_at(self.intended + timeout, asked).await {
            Ok(Ok(())) => Outcome::Answered,
            // Of this machine, and the control is there to say so: not an invalid sample.
            Ok(Err(error)) => Outcome::Error(format!("loopback: {error}")),
            Err(_) => Outcome::Timeout("loopback: no echo".to_owned()),
        });
    }

    /// What users of a region see. DNS is judged by its answer alone; the cell that it pointed to
    /// by the whole, from the intended time on, as a user waits. An answer that came later than the
    /// threshold has used up the user's patience: it is bad for DNS, and no cell is asked, or DNS
    /// would make cells look ill.
    async fn entrypoint(&self, probe: &EntrypointProbe) {
        let deadline = self.intended + probe.timeout;
        let answer = match probe.lookup.resolve(deadline).await {
            Ok(answer) => answer,
            Err(outcome) => return self.end(outcome),
        };
        if let Some((address, cell, ticket)) = self.attribute(probe, &answer) {
            self.attributed(probe, address, cell, ticket, deadline)
                .await;
        }
    }

    /// Books the answer, and the question to the cell it pointed to, if there is to be one.
    fn attribute<'a>(
        &self,
        probe: &'a EntrypointProbe,
        answer: &[IpAddr],
    ) -> Option<(IpAddr, &'a Attributed, Ticket)> {
        let at = Instant::now();
        let mut board = self.shared.board();
        match probe.pointed(answer) {
            Pointed::Nowhere => {
                let why = Outcome::Error("dns: an answer without an address".to_owned());
                board.end(self.ticket, at, why);
                None
            }
            Pointed::Foreign(address) => {
                let why = format!("dns: {address} is no address of a cell of this entrypoint");
                board.answer(self.ticket, "other");
                board.end(self.ticket, at, Outcome::Error(why));
                None
            }
            Pointed::Cell(address, cell) => {
                board.answer(self.ticket, &cell.cell);
                board.end(self.ticket, at, Outcome::Answered);
                let tau = board.tau(self.ticket.stream).unwrap_or(probe.timeout);
                if at.saturating_duration_since(self.intended) > tau {
                    return None;
                }
                Some((address, cell, board.schedule(cell.stream, self.intended)?))
            }
        }
    }

    async fn attributed(
        &self,
        probe: &EntrypointProbe,
        address: IpAddr,
        cell: &Attributed,
        ticket: Ticket,
        deadline: Instant,
    ) {
        let outcome = match probe.question(address, &self.id()) {
            Ok((question, expect)) => {
                let asked = cell
                    .connections
                    .ask(&question, self.is_fresh(), &self.progress);
                match timeout_at(deadline, asked).await {
                    Ok(Ok(reply)) => judge(&expect, &reply).err().unwrap_or(Outcome::Answered),
                    Ok(Err(outcome)) => outcome,
                    Err(_) => {
                        let whom = question.target.address;
                        self.late(&format!("{whom}: {}", self.progress.text()), deadline)
                    }
                }
            }
            Err(outcome) => outcome,
        };
        self.shared.board().end(ticket, Instant::now(), outcome);
    }
}
