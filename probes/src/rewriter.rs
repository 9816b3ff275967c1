//! What is done to acknowledged writes meanwhile: some are updated, some deleted, and an update is
//! looked for.

use std::time::Duration;

use scenarios::fleet::{HttpRequest, Probe};
use tokio::time::{Instant, timeout_at};

use crate::askers::http::HttpAsker;
use crate::askers::{Asks, Call, Here};
use crate::expect;
use crate::kinds::ProbeError;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::readback::{Reader, Stored};
use crate::writes::{Fate, UPDATED};

/// Of a probe whose writes are read back, at one cell.
pub struct Rewriter {
    update: Option<HttpAsker>,
    delete: Option<HttpAsker>,
    /// `None`: nothing can be read there, which the ledger will tell.
    reader: Option<Reader>,
}

/// What is done to one write.
pub struct Rewrite<'a> {
    asker: &'a HttpAsker,
    /// What it makes of the write, acknowledged or not.
    pub fate: fn(bool) -> Fate,
}

impl Rewriter {
    pub fn new(probe: &Probe, here: &Here<'_>) -> Result<Self, ProbeError> {
        let mut values = here.values();
        values.push(("version".to_owned(), UPDATED.to_string()));
        let asker = |http: Option<&HttpRequest>| {
            let asker = http.map(|http| HttpAsker::with(http, &values, here));
            asker.transpose()
        };
        Ok(Self {
            update: asker(probe.rewrites.update.as_ref())?,
            delete: asker(probe.rewrites.delete.as_ref())?,
            reader: Reader::new(probe, &here.values()),
        })
    }

    /// Of six probes the third updates and the sixth deletes, where that is declared.
    pub fn due(&self, k: u64) -> Option<Rewrite<'_>> {
        match k % 6 {
            2 => Some(Rewrite {
                asker: self.update.as_ref()?,
                fate: |acknowledged| Fate::Updated {
                    acknowledged,
                    seen: false,
                },
            }),
            5 => Some(Rewrite {
                asker: self.delete.as_ref()?,
                fate: |acknowledged| Fate::Deleted { acknowledged },
            }),
            _ => None,
        }
    }

    /// Whether the new version of a write is read right after its update was acknowledged.
    pub async fn sees_update(&self, id: &str, within: Duration) -> bool {
        let Some(reader) = &self.reader else {
            return false;
        };
        let progress = Progress::default();
        let read = reader.read(id, false, &progress);
        match timeout_at(Instant::now() + within, read).await {
            Ok(Ok((Stored::There { version, .. }, _))) => version.is_some_and(|v| v >= UPDATED),
            _ => false,
        }
    }
}

impl Rewrite<'_> {
    /// Asks once. `false`: there was nothing to rewrite (404); that is no failure of the cell here, for
    /// what was lost is told when it is read back.
    pub async fn ask(&self, call: &Call<'_>) -> Result<bool, Outcome> {
        let (reply, expect) = self.asker.reply(call).await?;
        if reply.status == 404 && !expect.statuses.hold(404) {
            return Ok(false);
        }
        expect::judge(&expect, &reply).map(|()| true)
    }

    pub fn stage(&self, progress: &Progress) -> String {
        self.asker.stage(progress)
    }
}
