//! Names of system calls, from the kernel's own headers.

use std::collections::BTreeMap;

/// `linux-libc-dev`, without which nothing could have been built; `asm-generic` serves aarch64.
const HEADERS: &[&str] = &[
    #[cfg(target_arch = "x86_64")]
    "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    #[cfg(target_arch = "x86_64")]
    "/usr/include/asm/unistd_64.h",
    "/usr/include/asm-generic/unistd.h",
];

/// By number.
pub struct Names(BTreeMap<u64, String>);

impl Names {
    pub fn read() -> Result<Self, String> {
        let mut texts = HEADERS
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok());
        let names = texts.next().map(|text| parse(&text)).unwrap_or_default();
        match names.is_empty() {
            true => Err(format!(
                "no names of system calls in {}",
                HEADERS.join(", ")
            )),
            false => Ok(Self(names)),
        }
    }

    pub fn of(&self, number: u64) -> String {
        let known = self.0.get(&number).cloned();
        known.unwrap_or_else(|| format!("system call {number}"))
    }
}

/// Lines such as `#define __NR_read 0`.
fn parse(text: &str) -> BTreeMap<u64, String> {
    let defined = |line: &str| {
        let mut words = line.strip_prefix("#define __NR_")?.split_whitespace();
        let name = words.next()?.to_owned();
        Some((words.next()?.parse().ok()?, name))
    };
    text.lines().filter_map(defined).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_this_machine_is_read() {
        let names = Names::read().unwrap();
        let known = |name: &str| names.0.values().any(|known| known == name);
        assert!(known("fsync") && known("sendto") && known("openat"));
        assert_eq!(names.of(99_999), "system call 99999");
        let text =
            "#define __NR_read 0\n#define __NR3264_fcntl 25\n#define __NR_fcntl __NR3264_x\n";
        assert_eq!(parse(text), BTreeMap::from([(0, "read".to_owned())]));
    }
}
