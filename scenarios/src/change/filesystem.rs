//! A file system that takes no writes.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesystemChange {
    /// A mount point; never `/`, nor the one that holds the agent's state.
    pub path: String,
    pub act: FilesystemAct,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FilesystemAct {
    /// Writers wait (FIFREEZE, `ioctl_fs` in `linux/fs.h`); readers go on.
    Freeze,
    /// Writers get EROFS through this mount; other mounts of the same file system go on.
    ReadOnly,
    /// Writers get ENOSPC when these bytes are used up; root may have a reserve of its own.
    Fill { leave_bytes: u64 },
}

impl FilesystemChange {
    pub fn summary(&self) -> String {
        let path = &self.path;
        match &self.act {
            FilesystemAct::Freeze => format!("writers to {path} wait"),
            FilesystemAct::ReadOnly => format!("{path} is read-only"),
            FilesystemAct::Fill { leave_bytes } => {
                format!("{path} is full but for {leave_bytes} bytes")
            }
        }
    }
}
