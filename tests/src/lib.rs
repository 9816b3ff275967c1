//! What the end-to-end tests share: real labs, real drills, and looks at real traffic.

pub mod drill;
pub mod lab;
pub mod seen;
pub mod traffic;

use std::path::PathBuf;
use std::process::Command;

/// The folder of the built binaries: `CELLWALL_BIN_DIR`, else where this program itself was built.
pub fn bin_dir() -> PathBuf {
    if let Some(folder) = std::env::var_os("CELLWALL_BIN_DIR") {
        return PathBuf::from(folder);
    }
    let own = std::env::current_exe().expect("a test knows its own path");
    let folder = own.parent().expect("a file has a folder");
    // Tests are built into a folder of their own beside the programs.
    match folder.file_name().is_some_and(|name| name == "deps") {
        true => folder.parent().unwrap_or(folder).to_path_buf(),
        false => folder.to_path_buf(),
    }
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
