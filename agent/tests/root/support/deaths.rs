//! Agents, guardians and reverts that die at random moments; a seed says which.

use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use scenarios::change::Change;

use super::disk::{Host, text};

/// The generator of Numerical Recipes: a failure is met again by its seed, as far as the machine's
/// own timing allows.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) & 0xffff_ffff;
        (self.0 >> 8) % end
    }
}

/// A seed that is another one each time.
pub fn first_seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// Runs a short drill, kills its agent at a random moment, maybe its guardian before and a revert
/// after it, and then reverts for good. The answer is whether `bites` was true at the death.
pub fn die(host: &Host, change: Change, seed: u64, bites: impl Fn() -> bool) -> bool {
    let mut random = Random(seed);
    let mut changing = host.change(&format!("d{seed}"), &[change], "60ms");
    let word = ["", "armed", "firing", "in force"][random.below(4) as usize];
    let came = word.is_empty() || changing.says(word);
    assert!(came, "seed {seed}: {:?}", changing.ends());
    std::thread::sleep(Duration::from_micros(random.below(150_000)));
    let bit = bites();
    if random.below(2) == 0 {
        let children = format!("/proc/{0}/task/{0}/children", changing.pid());
        let children = std::fs::read_to_string(children).unwrap_or_default();
        for child in children.split_whitespace() {
            let _ = kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL);
        }
    }
    changing.crash();
    if random.below(2) == 0 {
        let state = host.state();
        let mut revert = host.run(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_cellwall-agent"));
            command.args(["revert", "--all", "--state-dir"]).arg(state);
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        });
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        revert.kill().unwrap();
        revert.wait().unwrap();
    }
    let output = host.revert_all();
    assert!(
        output.status.success(),
        "seed {seed} after {word:?}: {}",
        text(&output)
    );
    bit
}
