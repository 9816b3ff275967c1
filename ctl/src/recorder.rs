//! Writes the history of a drill as it happens: append-only JSON lines on disk.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use scenarios::history::Record;

use crate::failure::Failure;

/// Keeps what it wrote, because the verdict is made from exactly that.
pub struct Recorder {
    path: PathBuf,
    file: File,
    records: Vec<Record>,
}

impl Recorder {
    /// Refuses a file that is already there: a history is never written over.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::HistoryNotBegun {
            path: path.to_path_buf(),
            error,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(path)
            .map_err(failed)?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            records: Vec::new(),
        })
    }

    /// One line, one write call: a reader never sees half a record of a live drill.
    pub fn record(&mut self, record: Record) -> Result<(), Failure> {
        let failed = |error| Failure::HistoryNotWritten {
            path: self.path.clone(),
            error,
        };
        let mut line = serde_json::to_vec(&record).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(failed)?;
        self.records.push(record);
        Ok(())
    }

    /// All that was recorded so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the whole file durable.
    pub fn sync(&self) -> Result<(), Failure> {
        self.file
            .sync_all()
            .map_err(|error| Failure::HistoryNotWritten {
                path: self.path.clone(),
                error,
            })
    }
}
