//! The one way back, walked by the agent, its guardian, its next start and `revert --all`.

use std::path::Path;
use std::time::Duration;

use crate::boottime::boot_id;
use crate::changes::{self, Hands, OURS, Undo};
use crate::journal::{self, Contents, Intent, Journal, Permit, Record};

/// What a revert came to. Nothing is left and `verified` true, or the host is not as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the kernel could be asked what is left.
    pub verified: bool,
    /// What the scan found of ours.
    found: Vec<String>,
    /// What could not be undone or told, and why.
    failed: Vec<String>,
    /// What is neither ours nor as captured, and was left as it is.
    pub drifted: Vec<String>,
}

impl Outcome {
    /// Nothing of ours is left, and that was seen. What drifted is not ours.
    pub fn clean(&self) -> bool {
        self.verified && self.found.is_empty() && self.failed.is_empty()
    }

    /// Everything of ours that may be left, in words; never empty unless that was verified.
    pub fn residue(&self) -> Vec<String> {
        let mut residue: Vec<String> = self.found.iter().chain(&self.failed).cloned().collect();
        if residue.is_empty() && !self.verified {
            residue.push("the residue scan could not be made".to_owned());
        }
        residue
    }

    /// [`Self::residue`], and behind it what drifted, marked so.
    pub fn told(&self) -> Vec<String> {
        let mut told = self.residue();
        told.extend(self.drifted.iter().map(|what| format!("drifted: {what}")));
        told
    }

    /// What the kernel still holds of ours, without undoing anything.
    pub fn scan(hands: &mut Hands) -> Self {
        match changes::scan(hands) {
            Ok(found) => Self {
                verified: true,
                found,
                ..Self::default()
            },
            Err(error) => Self {
                failed: vec![format!("the residue scan could not be made: {error}")],
                ..Self::default()
            },
        }
    }

    fn add(&mut self, other: Outcome) {
        self.verified &= other.verified;
        for (into, from) in [
            (&mut self.found, other.found),
            (&mut self.failed, other.failed),
            (&mut self.drifted, other.drifted),
        ] {
            for line in from {
                if !into.contains(&line) {
                    into.push(line);
                }
            }
        }
    }
}

/// Undoes `intents`, newest first, past failures; scans; closes the journal if nothing of this drill
/// is left. A journal that stays open is tried again by the guardian and at the next start.
pub fn revert<'a>(
    journal: &mut Journal,
    drill: &str,
    intents: impl DoubleEndedIterator<Item = &'a Intent>,
    hands: &mut Hands,
    permit: &Permit,
    cause: &str,
) -> Outcome {
    let (mut failed, mut drifted) = (Vec::new(), Vec::new());
    let mut records = Vec::new();
    let intents: Vec<&Intent> = intents.rev().collect();
    let undos: Vec<&Undo> = intents.iter().map(|intent| &intent.undo).collect();
    for (intent, answer) in intents.iter().zip(walk(&undos, hands, permit)) {
        let index = intent.index;
        records.push(match answer {
            Ok(others) => {
                drifted.extend(others);
                Record::Undone { index }
            }
            Err(error) => {
                failed.push(format!("step {}: {error}", intent.step));
                Record::UndoFailed {
                    index,
                    why: error.to_string(),
                }
            }
        });
    }
    // Only now: the way back does not wait for the disk; an undo is idempotent and may come again.
    for record in records {
        if let Err(error) = journal.append(&record) {
            tracing::warn!(%drill, %error, "undone without its journal");
        }
    }
    // Before the scan: what an undo left in a pod goes with the socket that owns it.
    hands.leave_pods();
    let mut outcome = Outcome::scan(hands);
    let name = format!("{OURS}{drill}_");
    let left = outcome.found.iter().any(|line| line.contains(&name));
    let owed = left || !failed.is_empty() || !outcome.verified || journal.is_corrupt();
    outcome.failed.extend(failed);
    outcome.drifted = drifted;
    if !owed {
        let closed = Record::Closed {
            cause: cause.to_owned(),
            residue: outcome.told(),
        };
        if let Err(error) = journal.append(&closed) {
            outcome.failed.push(format!(
                "everything is undone, but the journal is open: {error}"
            ));
        }
    }
    tracing::info!(%drill, cause, clean = outcome.clean(), residue = ?outcome.told(), "reverted");
    outcome
}

/// Undoes all of them in this order, past failures; then those again that another one may have stood in
/// the way of, as long as that helps. The answers are in the same order.
pub fn walk(
    undos: &[&Undo],
    hands: &mut Hands,
    permit: &Permit,
) -> Vec<Result<Vec<String>, changes::Error>> {
    let walked = undos.iter().map(|undo| undo.undo(hands, permit));
    let mut answers: Vec<_> = walked.collect();
    // Each round that helps brings one of them further, so there are no more rounds than undos.
    for _ in undos {
        let mut helped = false;
        for (undo, answer) in undos.iter().zip(&mut answers) {
            let before = left_by(answer);
            if before > 0 && undo.leans_on_others() {
                *answer = undo.undo(hands, permit);
                helped |= left_by(answer) < before;
            }
        }
        if !helped {
            break;
        }
    }
    answers
}

/// How much an undo has left: nothing, what drifted, or all.
fn left_by(answer: &Result<Vec<String>, changes::Error>) -> usize {
    answer.as_ref().map_or(usize::MAX, Vec::len)
}

/// Takes over one journal whose agent is gone and walks its way back. None: it was closed already.
pub fn take_over(
    path: &Path,
    patience: Duration,
    hands: &mut Hands,
    cause: &str,
) -> Result<Option<Outcome>, journal::Error> {
    let (mut journal, contents, permit) = Journal::reopen(path, patience)?;
    if contents.is_settled() {
        return Ok(None);
    }
    let named = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let drill = contents.armed.as_ref().map(|armed| armed.drill.clone());
    let drill = drill.or(named).unwrap_or_default();
    let intents = owed(&contents);
    let mut outcome = revert(&mut journal, &drill, intents, hands, &permit, cause);
    if contents.corrupt {
        outcome.failed.push(corrupt_text(path, &contents));
    }
    Ok(Some(outcome))
}

/// Oldest first.
fn owed(contents: &Contents) -> impl DoubleEndedIterator<Item = &Intent> {
    let same_boot = match (&contents.armed, boot_id()) {
        (Some(armed), Ok(now)) => armed.boot_id == now,
        _ => true, // unknown: an undo too many does no harm
    };
    // Another boot's kernel took with it what it held; what is on a disk is still there.
    contents
        .intents
        .iter()
        .filter(move |intent| contents.owes(intent) && (same_boot || intent.undo.survives_reboot()))
}

/// The way back of a journal that its agent still locks and can never act on again: it was killed, and the
/// kernel does not let go of it. Nothing is journaled or closed; [`take_over`] comes when it is gone, and
/// walks what is undone already once more. The answer is what could not be undone, and why.
pub fn walk_ahead(path: &Path, hands: &mut Hands) -> Result<Vec<String>, journal::Error> {
    let (contents, permit) = journal::read_ahead(path)?;
    let undos: Vec<&Undo> = owed(&contents).rev().map(|intent| &intent.undo).collect();
    let answers = walk(&undos, hands, &permit);
    hands.leave_pods();
    let failed = answers.into_iter().filter_map(Result::err);
    Ok(failed.map(|error| error.to_string()).collect())
}

fn corrupt_text(path: &Path, contents: &Contents) -> String {
    let how = match contents.armed {
        Some(_) => "",
        None => " (its beginning is missing, which was on disk before it had its name)",
    };
    format!(
        "the journal {} is corrupt{how}: what can be read of it is undone, but something may be \
         missing; look for what it may have left, then move the file away",
        path.display()
    )
}

/// Walks the way back of every open journal. Corrupt ones are reported each time.
pub fn take_over_all(state: &Path, patience: Duration, hands: &mut Hands, cause: &str) -> Outcome {
    let mut outcome = Outcome {
        verified: true,
        ..Outcome::default()
    };
    journal::sweep(&journal::directory(state));
    match journal::all(&journal::directory(state)) {
        Ok(paths) => {
            for path in paths {
                match take_over(&path, patience, hands, cause) {
                    Ok(None) => {}
                    Ok(Some(one)) => outcome.add(one),
                    Err(error) => outcome.failed.push(error.to_string()),
                }
            }
        }
        Err(error) => outcome.failed.push(error.to_string()),
    }
    // What stood in the way of one drill may be gone since: only the last look counts.
    outcome.found.clear();
    outcome.add(Outcome::scan(hands));
    outcome
}

/// Journals that forbid a new drill: open ones, or such that cannot be read.
pub fn unfinished(state: &Path) -> Result<Vec<String>, journal::Error> {
    let open = |path: &Path, contents: &Contents| {
        let open = !contents.is_settled();
        open.then(|| format!("the journal {} is still open", path.display()))
    };
    each_journal(state, |path, contents| {
        corrupt_or_none(path, contents).or_else(|| open(path, contents))
    })
}

/// Journals that cannot be read as a whole.
pub fn corrupt(state: &Path) -> Result<Vec<String>, journal::Error> {
    each_journal(state, corrupt_or_none)
}

fn corrupt_or_none(path: &Path, contents: &Contents) -> Option<String> {
    contents.corrupt.then(|| corrupt_text(path, contents))
}

fn each_journal(
    state: &Path,
    told: impl Fn(&Path, &Contents) -> Option<String>,
) -> Result<Vec<String>, journal::Error> {
    let mut words = Vec::new();
    for path in journal::all(&journal::directory(state))? {
        words.extend(told(&path, &journal::read(&path)?));
    }
    Ok(words)
}
