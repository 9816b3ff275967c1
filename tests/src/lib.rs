//! What the end-to-end tests share: real labs, real drills, and looks at real traffic.

pub mod drill;
pub mod lab;
pub mod traffic;

use std::path::PathBuf;
use std::process::Command;

/// The folder of the built binaries: `CELLWALL_BIN_DIR`, else where this test itself was built.
pub fn bin_dir() -> PathBuf {
    if let Some(folder) = std::env::var_os("CELLWALL_BIN_DIR") {
        return PathBuf::from(folder);
    }
    let own = std::env::current_exe().expect("a test knows its own path");
    let deps = own.parent().expect("a file has a folder");
    deps.parent()
        .expect("deps stands in the profile's folder")
        .to_path_buf()
}

/// One of our binaries; a test without it fails, it is not skipped.
pub fn binary(name: &str) -> PathBuf {
    let path = bin_dir().join(name);
    assert!(
        path.is_file(),
        "{} is not built; run `make build`",
        path.display()
    );
    path
}

pub fn cellwall() -> Command {
    Command::new(binary("cellwall"))
}
