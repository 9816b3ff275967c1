//! One probe, from its sending to its place in the books.

use std::time::Duration;

use scenarios::fleet::HttpRequest;
use tokio::time::{Instant, timeout_at};

use crate::board::Ticket;
use crate::control::Loopback;
use crate::http::{Connections, Progress, QUOTED, Question, Reply};
use crate::kinds::{Expect, HttpProbe, Kind, Reuse, question_of};
use crate::outcome::Outcome;
use crate::prober::Shared;
use crate::readback::{self, Stored};
use crate::target::Target;
use crate::writes::{Fate, Taken, UPDATED, Write};

/// What is done to a write, and what that makes of it once it is acknowledged.
struct Rewrite {
    http: HttpRequest,
    acknowledged: Fate,
}

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

    pub(crate) fn end(&self, outcome: Outcome) {
        self.shared
            .board()
            .end(self.ticket, Instant::now(), outcome);
    }

    /// Unique in the drill: the run, the stream, the number of the probe.
    pub(crate) fn id(&self) -> String {
        format!("{}-{}-{}", self.shared.run, self.ticket.stream, self.k)
    }

    async fn http(&self, probe: &HttpProbe) {
        if let Some((taken, rewrite)) = self.rewrite_of(probe) {
            return self.rewrite(probe, &taken, &rewrite).await;
        }
        let id = self.id();
        let question = match probe.question(&id) {
            Ok(question) => question,
            Err(why) => return self.end(Outcome::Error(why)),
        };
        let deadline = self.intended + probe.timeout;
        let how = (probe.expect, probe.reuse);
        let outcome = self.ask(&question, &probe.connections, how, deadline).await;
        let answered = outcome == Outcome::Answered;
        self.end(outcome);
        if let (true, Some(_), Some(cell)) = (answered, &probe.read_back, &probe.cell) {
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

    /// Of six requests of a writing probe the third updates and the sixth deletes an acknowledged
    /// write, if there is one that nothing was done to.
    fn rewrite_of(&self, probe: &HttpProbe) -> Option<(Taken, Rewrite)> {
        probe.read_back.as_ref()?;
        let (http, acknowledged, unsure) = match self.k % 6 {
            2 => {
                let updated = |acknowledged| Fate::Updated {
                    acknowledged,
                    seen: false,
                };
                (
                    probe.rewrites.update.as_ref()?,
                    updated(true),
                    updated(false),
                )
            }
            5 => {
                let deleted = |acknowledged| Fate::Deleted { acknowledged };
                (
                    probe.rewrites.delete.as_ref()?,
                    deleted(true),
                    deleted(false),
                )
            }
            _ => return None,
        };
        let version = UPDATED.to_string();
        let http = HttpRequest {
            url: http.url.replace("{version}", &version),
            body: http
                .body
                .as_ref()
                .map(|body| body.replace("{version}", &version)),
            ..http.clone()
        };
        let taken = self
            .shared
            .writes()
            .take(self.ticket.stream, self.k, unsure)?;
        Some((taken, Rewrite { http, acknowledged }))
    }

    async fn rewrite(&self, probe: &HttpProbe, taken: &Taken, rewrite: &Rewrite) {
        let question = match question_of(&rewrite.http, &taken.id, Target::parse) {
            Ok(question) => question,
            Err(why) => return self.end(Outcome::Error(why)),
        };
        let deadline = self.intended + probe.timeout;
        let how = (Expect::Rewritten(rewrite.http.expect_status), probe.reuse);
        let reply = self
            .reply(&question, &probe.connections, how, deadline)
            .await;
        let status = reply.as_ref().map(|reply| reply.status).ok();
        self.end(reply.map_or_else(|outcome| outcome, |_| Outcome::Answered));
        let settle = |fate, at_ms| self.shared.writes().settle(taken, fate, at_ms);
        match status {
            None => {} // It may have been done or not.
            Some(404) if rewrite.http.expect_status != 404 => settle(Fate::Created, None),
            Some(_) => {
                settle(rewrite.acknowledged, Some(self.shared.elapsed_ms()));
                if matches!(rewrite.acknowledged, Fate::Updated { .. })
                    && self.sees_update(probe, &taken.id).await
                {
                    let seen = Fate::Updated {
                        acknowledged: true,
                        seen: true,
                    };
                    settle(seen, None);
                }
            }
        }
    }

    /// Whether the new version of a write is read right after its update was acknowledged.
    async fn sees_update(&self, probe: &HttpProbe, id: &str) -> bool {
        let Some(Ok(question)) = probe
            .read_back
            .as_ref()
            .map(|url| readback::question(url, id))
        else {
            return false;
        };
        let progress = Progress::default();
        let asked = probe.connections.ask(&question, false, &progress);
        let limit = Instant::now() + probe.timeout;
        let Ok(Ok(reply)) = timeout_at(limit, asked).await else {
            return false;
        };
        let stored = readback::stored(reply.status, &reply.body);
        matches!(stored, Ok(Stored::There { version: Some(version), .. }) if version >= UPDATED)
    }

    /// The answer if it is as expected; else how the probe ended.
    async fn reply(
        &self,
        question: &Question,
        connections: &Connections,
        (expect, reuse): (Expect, Reuse),
        deadline: Instant,
    ) -> Result<Reply, Outcome> {
        let fresh = match reuse {
            Reuse::EveryOther => self.k.is_multiple_of(2),
            Reuse::Always => false,
        };
        match timeout_at(deadline, connections.ask(question, fresh, &self.progress)).await {
            Ok(Ok(reply)) if expect.holds(&reply) => Ok(reply),
            Ok(Ok(reply)) => {
                let quoted = &reply.body[..reply.body.len().min(QUOTED)];
                let body = String::from_utf8_lossy(quoted);
                let what = format!("status {}: {}", reply.status, body.trim_end());
                Err(match reply.status {
                    500..=599 => Outcome::ServerError(what),
                    _ => Outcome::Error(what),
                })
            }
            Ok(Err(outcome)) => Err(outcome),
            Err(_) => Err(self.late(question.target.address, deadline)),
        }
    }

    pub(crate) async fn ask(
        &self,
        question: &Question,
        connections: &Connections,
        how: (Expect, Reuse),
        deadline: Instant,
    ) -> Outcome {
        match self.reply(question, connections, how, deadline).await {
            Ok(_) => Outcome::Answered,
            Err(outcome) => outcome,
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
}
