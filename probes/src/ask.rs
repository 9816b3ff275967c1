//! One probe, from its sending to its place in the books.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::board::Ticket;
use crate::control::Loopback;
use crate::entrypoint::{Attributed, EntrypointProbe, Pointed};
use crate::http::{Connections, Progress, QUOTED, Question};
use crate::kinds::{Expect, HttpProbe, Kind, Reuse};
use crate::outcome::Outcome;
use crate::prober::{Shared, Write};

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
            Kind::Http(probe) => self.http(probe).await,
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

    async fn http(&self, probe: &HttpProbe) {
        let id = self.id();
        let question = match probe.question(&id) {
            Ok(question) => question,
            Err(why) => return self.end(Outcome::Error(why)),
        };
        let deadline = self.intended + probe.timeout;
        let outcome = self
            .ask(
                &question,
                &probe.connections,
                (probe.expect, probe.reuse),
                deadline,
            )
            .await;
        let answered = outcome == Outcome::Answered;
        self.end(outcome);
        if let (true, true, Some(cell)) = (answered, probe.keeps_writes, &probe.cell) {
            self.shared.acknowledge(Write {
                cell: cell.clone(),
                probe: probe.probe.clone(),
                id,
            });
        }
    }

    async fn ask(
        &self,
        question: &Question,
        connections: &Connections,
        (expect, reuse): (Expect, Reuse),
        deadline: Instant,
    ) -> Outcome {
        let fresh = match reuse {
            Reuse::EveryOther => self.k.is_multiple_of(2),
            Reuse::Always => false,
        };
        match timeout_at(deadline, connections.ask(question, fresh, &self.progress)).await {
            Ok(Ok(reply)) if expect.holds(&reply) => Outcome::Answered,
            Ok(Ok(reply)) => {
                let quoted = &reply.body[..reply.body.len().min(QUOTED)];
                let body = String::from_utf8_lossy(quoted);
                Outcome::Error(format!("status {}: {}", reply.status, body.trim_end()))
            }
            Ok(Err(outcome)) => outcome,
            Err(_) => self.late(question.target.address, deadline),
        }
    }

    fn late(&self, whom: impl std::fmt::Display, deadline: Instant) -> Outcome {
        let timeout = deadline
            .saturating_duration_since(self.intended)
            .as_millis();
        Outcome::Timeout(format!("{whom}: {} for {timeout} ms", self.progress.text()))
    }

    async fn loopback(&self, loopback: &Loopback, timeout: Duration) {
        let asked = loopback.ask(self.k.is_multiple_of(2));
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
            Ok(question) => {
                let expect = Expect::Status(probe.expect_status());
                self.ask(
                    &question,
                    &cell.connections,
                    (expect, Reuse::EveryOther),
                    deadline,
                )
                .await
            }
            Err(outcome) => outcome,
        };
        self.shared.board().end(ticket, Instant::now(), outcome);
    }
}
