//! The journals of a state directory, read without the agent's own code.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub struct Journals(PathBuf);

impl Journals {
    pub fn of(state: &Path) -> Self {
        Self(state.join("journal"))
    }

    fn all(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|kind| kind == "journal"))
            .collect()
    }

    /// Kinds of change with an undo in any journal.
    pub fn intents(&self) -> Vec<String> {
        let records = self.all().into_iter().flat_map(|path| records(&path));
        let kind = |record: Value| Some(record.get("intent")?.get("change")?.as_str()?.to_owned());
        records.filter_map(kind).collect()
    }

    /// Whether some change is said to be in force.
    pub fn applied(&self) -> bool {
        let mut records = self.all().into_iter().flat_map(|path| records(&path));
        records.any(|record| record.get("applied").is_some())
    }

    /// Those that are not closed, in words.
    pub fn open(&self) -> Vec<String> {
        let closed = |path: &PathBuf| {
            let last = records(path).pop();
            last.is_some_and(|record| record.get("closed").is_some())
        };
        let open = self.all().into_iter().filter(|path| !closed(path));
        open.map(|path| format!("the journal {} is not closed", path.display()))
            .collect()
    }

    /// What their records are, in order.
    pub fn told(&self) -> Vec<String> {
        let line = |record: &Value| {
            let text = record.to_string();
            let end = text
                .char_indices()
                .nth(300)
                .map_or(text.len(), |(at, _)| at);
            format!("journal: {}", &text[..end])
        };
        let paths = self.all();
        let records = paths.iter().flat_map(|path| records(path));
        records.map(|record| line(&record)).collect()
    }

    /// Whether a record has these words.
    pub fn tell(&self, words: &str) -> bool {
        self.told().iter().any(|line| line.contains(words))
    }

    /// They are closed: the next drill begins as the first one did.
    pub fn forget(&self) {
        for path in self.all() {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whole lines only: length, checksum and JSON, of which the record counts.
fn records(path: &Path) -> Vec<Value> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let record = |line: &str| {
        let json = line.splitn(3, ' ').nth(2)?;
        let mut line: Value = serde_json::from_str(json).ok()?;
        Some(line.get_mut("record")?.take())
    };
    text.lines().filter_map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_read_by_its_lines() {
        let state = tempfile::tempdir().unwrap();
        let journals = Journals::of(state.path());
        assert!(journals.open().is_empty(), "no folder is no journal");
        fs::create_dir(state.path().join("journal")).unwrap();
        let path = state.path().join("journal/x.journal");
        let line = |record: &str| format!("9 0abc {{\"boottime\":1,\"record\":{record}}}\n");
        let intent = line(r#"{"intent":{"index":0,"change":"route","undo":{}}}"#);
        fs::write(&path, &intent).unwrap();
        assert_eq!(journals.intents(), ["route"]);
        assert!(!journals.applied());
        assert_eq!(journals.open().len(), 1);
        let closed = line(r#"{"closed":{"cause":"deadline","residue":[]}}"#);
        fs::write(
            &path,
            format!("{intent}{}{closed}", line(r#"{"applied":{"index":0}}"#)),
        )
        .unwrap();
        assert!(journals.applied() && journals.open().is_empty());
        fs::write(&path, format!("{closed}{intent}12 tor")).unwrap();
        assert_eq!(journals.open().len(), 1, "what comes after the end is open");
        fs::write(&path, "").unwrap();
        assert_eq!(journals.open().len(), 1, "an empty one is open");
        journals.forget();
        assert!(journals.open().is_empty());
    }
}
