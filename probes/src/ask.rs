//! One probe, from its sending to its place in the books.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::askers::Call;
use crate::board::Ticket;
use crate::control::Loopback;
use crate::kinds::{CellProbe, Kind};
use crate::outcome::Outcome;
use crate::prober::Shared;
use crate::progress::Progress;
use crate::rewriter::{Rewrite, Rewriter};
use crate::writes::{Fate, Taken, Write};

pub(crate) struct Errand<'a> {
    pub shared: &'a Shared,
    pub ticket: Ticket,
    /// Number of the probe in its stream; of most kinds even ones take a fresh connection.
    pub k: u64,
    pub intended: Instant,
    pub progress: Progress,
}

/// A rewrite that is due, and the write that was taken for it.
struct Due<'p> {
    rewriter: &'p Rewriter,
    rewrite: Rewrite<'p>,
    taken: Taken,
}

impl Errand<'_> {
    pub async fn run(&self, kind: &Kind) {
        match kind {
            Kind::Cell(probe) => match self.due(probe) {
                Some(due) => self.rewrite(probe, &due).await,
                None => self.cell(probe).await,
            },
            Kind::Loopback(loopback, timeout) => self.loopback(loopback, *timeout).await,
            Kind::Entrypoint(probe) => self.entrypoint(probe).await,
            Kind::Attributed => {}
        }
    }

    pub(crate) fn end(&self, outcome: Outcome) {
        self.shared
            .board()
            .end(self.ticket, Instant::now(), outcome);
    }

    /// Unique in the drill: the run, the stream, the number of the probe.
    pub(crate) fn id(&self) -> String {
        format!("{}-{}-{}", self.shared.run, self.ticket.stream, self.k)
    }

    fn call<'c>(&'c self, id: &'c str, timeout: Duration) -> Call<'c> {
        Call {
            fresh: self.is_fresh(),
            id,
            deadline: self.intended + timeout,
            progress: &self.progress,
        }
    }

    async fn cell(&self, probe: &CellProbe) {
        let id = self.id();
        let call = self.call(&id, probe.timeout);
        let stage = || probe.asker.stage(&self.progress);
        let answer = self.answer(probe.asker.ask(&call), probe.timeout, stage);
        let answer = answer.await;
        let good = answer.is_ok();
        self.end(answer.err().unwrap_or(Outcome::Answered));
        if let (true, Some(_), Some(cell)) = (good, &probe.rewriter, &probe.cell) {
            let write = Write {
                cell: cell.clone(),
                probe: probe.probe.clone(),
                id,
                at_ms: self.shared.elapsed_ms(),
                fate: Fate::Created,
            };
            self.shared.writes().acknowledge(self.ticket.stream, write);
        }
    }

    /// What became of a question until its deadline.
    async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<T, Outcome>>,
        timeout: Duration,
        stage: impl Fn() -> String,
    ) -> Result<T, Outcome> {
        let deadline = self.intended + timeout;
        let mut asked = pin!(asked);
        let tau = self.shared.board().tau(self.ticket.stream);
        let patience = self.intended + tau.unwrap_or(timeout).min(timeout);
        let mut answer = timeout_at(patience, &mut asked).await;
        if answer.is_err() && patience < deadline {
            // Bad already; but its second may close before it ends, and should say what it met.
            self.shared.board().note(self.ticket, stage());
            answer = timeout_at(deadline, asked).await;
        }
        answer.unwrap_or_else(|_| Err(self.late(&stage(), deadline)))
    }

    /// Where it is this probe's turn to rewrite: that, if there is a write that nothing was done to.
    fn due<'p>(&self, probe: &'p CellProbe) -> Option<Due<'p>> {
        let rewriter = probe.rewriter.as_ref()?;
        let rewrite = rewriter.due(self.k)?;
        let unsure = (rewrite.fate)(false);
        let mut writes = self.shared.writes();
        let taken = writes.take(self.ticket.stream, self.k, unsure)?;
        Some(Due {
            rewriter,
            rewrite,
            taken,
        })
    }

    async fn rewrite(&self, probe: &CellProbe, due: &Due<'_>) {
        let Due {
            rewriter,
            rewrite,
            taken,
        } = due;
        let call = self.call(&taken.id, probe.timeout);
        let stage = || rewrite.stage(&self.progress);
        let answer = self.answer(rewrite.ask(&call), probe.timeout, stage);
        let answer = answer.await;
        let there = answer.as_ref().ok().copied();
        self.end(answer.err().unwrap_or(Outcome::Answered));
        let settle = |fate, at_ms| self.shared.writes().settle(taken, fate, at_ms);
        match there {
            None => {} // It may have been done or not.
            Some(false) => settle(Fate::Created, None),
            Some(true) => {
                let fate = (rewrite.fate)(true);
                settle(fate, Some(self.shared.elapsed_ms()));
                let updated = matches!(fate, Fate::Updated { .. });
                if updated && rewriter.sees_update(&taken.id, probe.timeout).await {
                    let seen = Fate::Updated {
                        acknowledged: true,
                        seen: true,
                    };
                    settle(seen, None);
                }
            }
        }
    }

    /// The other half sees whether kept connections still work.
    pub(crate) fn is_fresh(&self) -> bool {
        self.k.is_multiple_of(2)
    }

    pub(crate) fn late(&self, stage: &str, deadline: Instant) -> Outcome {
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
}
