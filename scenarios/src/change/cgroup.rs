//! Limits of a control group.

use serde::{Deserialize, Serialize};

/// One limit of one control group, by the files of v2 or their twins of v1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupLimit {
    /// Folder of the group, for instance `/sys/fs/cgroup/system.slice/db.service`.
    pub path: String,
    pub limit: Limit,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Limit {
    /// `cpu.max`, or `cpu.cfs_quota_us` and `cpu.cfs_period_us`: in thousandths of one processor.
    Cpu { millis: u32 },
    /// `memory.high`, or `memory.limit_in_bytes`, its nearest twin: v1 has no limit that only slows.
    Memory { bytes: u64 },
    /// `io.max`, or `blkio.throttle.{read,write}_bps_device`, of one block device.
    Io {
        major: u32,
        minor: u32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_bps: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        write_bps: Option<u64>,
    },
}

impl CgroupLimit {
    pub fn summary(&self) -> String {
        let path = &self.path;
        match &self.limit {
            Limit::Cpu { millis } => {
                format!("{path} gets {} processors", f64::from(*millis) / 1000.0)
            }
            Limit::Memory { bytes } => format!("{path} gets {bytes} bytes of memory"),
            Limit::Io {
                major,
                minor,
                read_bps,
                write_bps,
            } => {
                let part = |name: &str, bps: &Option<u64>| {
                    bps.map(|bps| format!(" {name} {bps} bytes/s"))
                        .unwrap_or_default()
                };
                let (read, write) = (part("reads", read_bps), part("writes", write_bps));
                format!("{path} on device {major}:{minor}:{read}{write}")
            }
        }
    }
}
