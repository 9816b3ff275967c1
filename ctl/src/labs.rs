//! The labs of this machine, as `cellwall-lab` tells about them.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Set for the process that already stands in a lab's operator namespace: that lab, as JSON.
const ENTERED: &str = "CELLWALL_ENTERED";

/// One lab that is up, as far as ctl needs to know it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Lab {
    pub name: String,
    pub fleet_file: PathBuf,
}

#[derive(Deserialize)]
struct LabList {
    labs: Vec<Lab>,
}

/// `cellwall-lab` beside this binary, else on the PATH.
pub fn binary() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|own| own.parent().map(|folder| folder.join("cellwall-lab")))
        .filter(|beside| beside.exists())
        .unwrap_or_else(|| PathBuf::from("cellwall-lab"))
}

/// The lab in whose operator namespace this process already stands.
pub fn entered() -> Option<Lab> {
    serde_json::from_str(&std::env::var(ENTERED).ok()?).ok()
}

/// What is known of the labs of this machine.
pub enum Labs {
    Known(Vec<Lab>),
    /// They cannot be listed, for instance without root.
    Hidden(String),
}

/// The labs that are up; none if `cellwall-lab` is not installed, since then no lab can be.
pub fn list() -> Result<Labs, Failure> {
    if let Some(lab) = entered() {
        return Ok(Labs::Known(vec![lab]));
    }
    let binary = binary();
    let output = match Command::new(&binary)
        .args(["status", "--json", "-"])
        .stdin(Stdio::null())
        .output()
    {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Labs::Known(Vec::new()));
        }
        Err(error) => return Err(Failure::LabBinary { binary, error }),
    };
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Ok(Labs::Hidden(why));
    }
    let list: LabList = serde_json::from_slice(&output.stdout).map_err(|error| Failure::Lab {
        what: "status --json -".to_string(),
        why: format!("it printed something else than labs: {error}"),
        code: 70,
    })?;
    Ok(Labs::Known(list.labs))
}

/// Replaces this process by itself in the lab's operator namespace, without any capability.
/// Returns only on failure.
pub fn enter(lab: &Lab) -> Failure {
    let binary = binary();
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return Failure::LabBinary { binary, error },
    };
    let entered = match serde_json::to_string(lab) {
        Ok(entered) => entered,
        Err(error) => {
            return Failure::LabBinary {
                binary,
                error: error.into(),
            };
        }
    };
    let error = Command::new(&binary)
        .args(["enter", "--lab", &lab.name, "--"])
        .arg(own)
        .args(std::env::args_os().skip(1))
        .env(ENTERED, entered)
        .exec();
    Failure::LabBinary { binary, error }
}
