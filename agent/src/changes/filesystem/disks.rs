//! What one drill does to each disk, so that it does not come to wait for itself.

use std::collections::BTreeMap;

/// A process that writes to a frozen file system waits in the kernel, where not even SIGKILL reaches
/// it; the agent must never be one. Nor must the way back of one change be barred by another.
#[derive(Debug, Default)]
pub struct Disks(BTreeMap<String, (String, Use)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Stopped,
    Written,
}

impl Disks {
    /// The drill alters files of this file system, or makes some.
    pub fn will_write(&mut self, superblock: &str, drill: &str) -> Result<(), String> {
        self.note(superblock, drill, Use::Written)
    }

    /// The drill keeps writers from this file system.
    pub fn will_stop(&mut self, superblock: &str, drill: &str) -> Result<(), String> {
        self.note(superblock, drill, Use::Stopped)
    }

    fn note(&mut self, superblock: &str, drill: &str, new: Use) -> Result<(), String> {
        let first = || (drill.to_owned(), new);
        let noted = self.0.entry(superblock.to_owned()).or_insert_with(first);
        if noted.0 != drill {
            *noted = first(); // of a drill that is over
        }
        match noted.1 == new {
            true => Ok(()),
            false => Err(
                "the same drill alters files of this file system and keeps writers from it: it \
                 would bar its own way back"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_drill_does_not_stop_what_it_writes_to() {
        let mut disks = Disks::default();
        disks.will_write("7:0", "d").unwrap();
        disks.will_write("7:0", "d").unwrap();
        disks.will_stop("7:1", "d").unwrap();
        assert!(
            disks
                .will_stop("7:0", "d")
                .unwrap_err()
                .contains("its own way back")
        );
        assert!(
            disks
                .will_write("7:1", "d")
                .unwrap_err()
                .contains("its own way back")
        );
        disks
            .will_stop("7:0", "e")
            .expect("the other drill is over");
        assert!(disks.will_write("7:0", "e").is_err());
    }
}
