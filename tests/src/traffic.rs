//! Looks at real traffic from inside a lab, without any of our probes.

use std::time::{Duration, Instant};

use crate::lab::Lab;

/// Whether a TCP connection from `node` to `address` port `port` opens within a second.
pub fn connects(lab: &Lab, node: &str, address: &str, port: u16) -> bool {
    let open = format!("exec 3<>/dev/tcp/{address}/{port}");
    lab.exec(node, &["timeout", "1", "bash", "-c", &open])
        .status
        .success()
}

/// How long until `wanted` is true, asked every 100 ms; panics after `patience`.
pub fn until(what: &str, patience: Duration, mut wanted: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !wanted() {
        assert!(
            begun.elapsed() < patience,
            "{what}: not within {patience:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    begun.elapsed()
}
