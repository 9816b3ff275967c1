//! What this process must not be able to do, made sure of before it reads a byte.

use std::io;

use rustix::process::Signal;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what}: {cause}; nothing was probed")]
    Step {
        what: &'static str,
        cause: io::Error,
    },
    #[error(
        "it holds {what}, and must hold nothing; the agent starts it as another user; nothing was \
         probed"
    )]
    Privileged { what: String },
}

/// Ends with the agent, gains nothing by executing anything, is the first to go when memory runs out.
pub fn give_up() -> Result<(), Error> {
    let step = |what| {
        move |cause: rustix::io::Errno| Error::Step {
            what,
            cause: cause.into(),
        }
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(step("end with the agent"))?;
    rustix::thread::set_no_new_privs(true).map_err(step("set no_new_privs"))?;
    let status = std::fs::read_to_string("/proc/self/status").map_err(|cause| Error::Step {
        what: "read /proc/self/status",
        cause,
    })?;
    match held(&status) {
        Some(what) => Err(Error::Privileged { what }),
        None => {
            // Less is not asked for, so this needs no privilege; without it the kernel decides.
            let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
            Ok(())
        }
    }
}

/// The first privilege that `/proc/PID/status` (proc_pid_status(5)) shows.
fn held(status: &str) -> Option<String> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        match field(set) {
            Some(mask) if mask.bytes().all(|digit| digit == b'0') => {}
            Some(mask) => return Some(format!("capabilities ({set} {mask})")),
            None => return Some(format!("unknown capabilities (no {set})")),
        }
    }
    let ids = field("Uid:").unwrap_or("0");
    let root = ids.split_whitespace().any(|id| id == "0");
    root.then(|| "the user id 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &str = "Uid:\t65534\t65534\t65534\t65534\nCapInh:\t0000\nCapPrm:\t0000\n\
                        CapEff:\t0000\nCapBnd:\tffff\nCapAmb:\t0000\n";

    #[test]
    fn any_privilege_is_seen() {
        assert_eq!(held(NONE), None, "the bounding set is no privilege");
        for (from, to, word) in [
            ("CapEff:\t0000", "CapEff:\t0400", "CapEff: 0400"),
            ("CapPrm:\t0000", "CapPrm:\t0001", "CapPrm"),
            ("CapAmb:\t0000", "CapAmb:\t0001", "CapAmb"),
            ("CapInh:\t0000", "CapInh:\t0001", "CapInh"),
            ("CapEff:\t0000\n", "", "no CapEff"),
            ("Uid:\t65534\t65534", "Uid:\t65534\t0", "user id 0"),
            ("Uid:", "Gone:", "user id 0"),
        ] {
            let what = held(&NONE.replace(from, to)).expect(to);
            assert!(what.contains(word), "{what}");
        }
    }
}
