//! `cellwall lab`: hands its arguments to `cellwall-lab`.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cli::LabArguments;
use crate::failure::Failure;
use crate::labs;

/// Returns only if `cellwall-lab` cannot be executed.
pub fn run(arguments: &LabArguments) -> Result<u8, Failure> {
    let binary = labs::binary();
    let error = Command::new(&binary).args(&arguments.arguments).exec();
    Err(Failure::LabBinary { binary, error })
}
