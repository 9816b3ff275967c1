//! The one way back, walked by the agent, its guardian, its next start and `revert --all`.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Whether something is left that an undo may still take away. Else at most a journal could not be closed.
    pub owed: bool,
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

    /// What is owed cannot be read at the moment, and so is not known to be undone.
    pub fn out_of_sight(&mut self, journals: &Path) {
        self.owed = true;
        let folder = journals.display();
        self.failed.push(format!(
            "{folder} is not there any more, and journals of what is owed were in it; put it back"
        ));
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
        self.owed |= other.owed;
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
    // A change may have several: it is undone when all of them are.
    let mut whys: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let intents: Vec<&Intent> = intents.rev().collect();
    let undos: Vec<&Undo> = intents.iter().map(|intent| &intent.undo).collect();
    let mut over = Vec::new();
    for (intent, answer) in intents.iter().zip(walk(&undos, hands, permit)) {
        let why = whys.entry(intent.index).or_default();
        match answer {
            Ok(others) => {
                drifted.extend(others);
                over.push(&intent.undo);
            }
            Err(error) => {
                failed.push(format!("step {}: {error}", intent.step));
                why.push(error.to_string());
            }
        }
    }
    // Only now: the way back does not wait for the disk; an undo is idempotent and may come again.
    for (index, why) in whys {
        let record = match why.is_empty() {
            true => Record::Undone { index },
            false => Record::UndoFailed {
                index,
                why: why.join("; "),
            },
        };
        if why.is_empty() {
            hands.note_undone(drill, index);
        }
        if let Err(error) = journal.append(&record) {
            tracing::warn!(%drill, %error, "undone without its journal");
        }
    }
    over.into_iter().for_each(|undo| undo.tidy(hands));
    // Before the scan: what an undo left in a pod goes with the socket that owns it.
    hands.leave_pods();
    let mut outcome = Outcome::scan(hands);
    let name = format!("{OURS}{drill}_");
    let left = outcome.found.iter().any(|line| line.contains(&name));
    outcome.owed = left || !failed.is_empty() || !outcome.verified;
    if left || !outcome.owed {
        hands.forget_undone(drill);
    }
    outcome.failed.extend(failed);
    outcome.drifted = drifted;
    if !outcome.owed && !journal.is_corrupt() {
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

/// What became of an undo; what drifted, if it succeeded.
type Answer = Result<Vec<String>, changes::Error>;

/// Undoes all of them, past failures: first those that no disk can hold up, then the others, both in this
/// order. The answers are in this order too.
pub fn walk(undos: &[&Undo], hands: &mut Hands, permit: &Permit) -> Vec<Answer> {
    let mut answers: BTreeMap<usize, Answer> = BTreeMap::new();
    for needs_disk in [false, true] {
        let of_these = |at: &usize| undos[*at].needs_disk() == needs_disk;
        let places: Vec<usize> = (0..undos.len()).filter(of_these).collect();
        let these: Vec<&Undo> = places.iter().map(|at| undos[*at]).collect();
        answers.extend(places.into_iter().zip(walk_alike(&these, hands, permit)));
    }
    answers.into_values().collect()
}

/// Undoes all of them in this order; then those again that another one may have stood in the way of, as
/// long as that helps.
fn walk_alike(undos: &[&Undo], hands: &mut Hands, permit: &Permit) -> Vec<Answer> {
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
fn left_by(answer: &Answer) -> usize {
    answer.as_ref().map_or(usize::MAX, Vec::len)
}

/// Takes over one journal whose agent is gone and walks its way back. None: it was closed already.
pub fn take_over(
    path: &Path,
    patience: Duration,
    hands: &mut Hands,
    cause: &str,
) -> Result<Option<Outcome>, journal::Error> {
    take_over_behind(path, patience, hands, cause, &Ahead::default())
}

/// [`take_over`] by whoever has walked ahead.
pub fn take_over_behind(
    path: &Path,
    patience: Duration,
    hands: &mut Hands,
    cause: &str,
    ahead: &Ahead,
) -> Result<Option<Outcome>, journal::Error> {
    let (mut journal, mut contents, permit) = Journal::reopen(path, patience)?;
    if contents.is_settled() {
        return Ok(None);
    }
    ahead.settle(&mut journal, &mut contents);
    // Whoever undid it may have died before it could tidy up.
    let is_over = |intent: &&Intent| contents.undone.contains(&intent.index);
    let over = contents.intents.iter().filter(is_over);
    over.for_each(|intent| intent.undo.tidy(hands));
    let named = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let drill = contents.armed.as_ref().map(|armed| armed.drill.clone());
    let drill = drill.or(named).unwrap_or_default();
    let intents = owed(&contents).filter(|intent| !hands.has_undone(&drill, intent.index));
    let intents: Vec<&Intent> = intents.collect();
    let intents = intents.into_iter();
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

/// What was undone of a journal that its agent still locks and can never act on again: it was killed, and
/// the kernel does not let go of it. Nothing of that is journaled, tidied or closed;
/// [`take_over_behind`] comes when the agent is gone. Until then the last thing that it asked of the kernel
/// may still be done.
#[derive(Debug, Default)]
pub struct Ahead {
    undone: BTreeSet<u32>,
}

impl Ahead {
    /// Undoes what is owed and was not undone by an earlier walk: others may have set it since. The answer
    /// is what could not be undone, and why.
    pub fn walk(&mut self, path: &Path, hands: &mut Hands) -> Result<Vec<String>, journal::Error> {
        let (contents, permit) = journal::read_ahead(path)?;
        let still = owed(&contents)
            .rev()
            .filter(|intent| !self.undone.contains(&intent.index));
        let (now, later): (Vec<&Intent>, Vec<&Intent>) =
            still.partition(|intent| intent.undo.may_go_ahead());
        let undos: Vec<&Undo> = now.iter().map(|intent| &intent.undo).collect();
        let answers = walk(&undos, hands, &permit);
        hands.leave_pods();
        let mut left = Vec::new();
        for (intent, answer) in now.iter().zip(answers) {
            match answer {
                Ok(_) => drop(self.undone.insert(intent.index)),
                Err(error) => left.push(error.to_string()),
            }
        }
        left.extend(later.iter().map(|intent| {
            let (step, kind) = (intent.step, &intent.change);
            format!("step {step}: what was done to a {kind} waits for the agent's end")
        }));
        Ok(left)
    }

    /// Of a change that was in force no call can have come behind its undo: that is over, and not walked again.
    fn settle(&self, journal: &mut Journal, contents: &mut Contents) {
        let applied = &contents.applied;
        let over: BTreeSet<u32> = self.undone.intersection(applied).copied().collect();
        for intent in &contents.intents {
            let index = intent.index;
            if !over.contains(&index) || contents.undone.contains(&index) {
                continue;
            }
            if let Err(error) = journal.append(&Record::Undone { index }) {
                tracing::warn!(%error, "undone without its journal");
            }
        }
        contents.undone.extend(over);
    }
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
                    Err(error) => {
                        outcome.owed = true; // for all that is known
                        outcome.failed.push(error.to_string());
                    }
                }
            }
        }
        Err(error) => {
            outcome.owed = true;
            outcome.failed.push(error.to_string());
        }
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
