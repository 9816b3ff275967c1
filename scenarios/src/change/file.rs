//! One regular file with other content, another mode, or gone.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileChange {
    /// Absolute; its last part must not be a symbolic link.
    pub path: String,
    pub act: FileAct,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FileAct {
    /// Another file, with this text and the same owner and mode, in its place. A program that has the
    /// file open keeps the old one.
    Replace { content: String },
    /// The path is gone. A program that has the file open keeps it.
    MoveAway,
    /// Permission bits with setuid, setgid and sticky, such as 0o000. Root may still read it.
    Chmod { mode: u32 },
    /// The same file, and with it all its hard links, cut to so many bytes, by 1 GiB at most. A program
    /// that has it open meets its end. Not for files that are written to all the time: one that has
    /// changed since arm is not cut.
    Truncate { bytes: u64 },
}

impl FileChange {
    pub fn summary(&self) -> String {
        let path = &self.path;
        match &self.act {
            FileAct::Replace { content } => format!("{path} holds other {} bytes", content.len()),
            FileAct::MoveAway => format!("{path} is gone"),
            FileAct::Chmod { mode } => format!("{path} has mode {mode:04o}"),
            FileAct::Truncate { bytes } => format!("{path} is cut to {bytes} bytes"),
        }
    }
}
