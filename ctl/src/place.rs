//! Which fleet a command is about: a file, or a lab on this machine.

use std::path::{Path, PathBuf};

use scenarios::fleet::Fleet;

use crate::cli::FleetArguments;
use crate::failure::Failure;
use crate::labs::{self, Lab, Labs};

/// A fleet and where it came from.
pub struct Place {
    pub file: PathBuf,
    /// The file as it was read.
    pub text: String,
    pub fleet: Fleet,
    /// Present if the fleet is a lab of this machine: it may be broken without asking.
    pub lab: Option<Lab>,
}

/// Whether the command talks to the fleet or only reads its file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The file is enough.
    Offline,
    /// In a lab the process moves itself to the operator's namespace first.
    Live,
}

/// `--fleet FILE`, else fleet.yaml here, else the lab that is up; where both exist, one must be said.
pub fn find(arguments: &FleetArguments, reach: Reach) -> Result<Place, Failure> {
    let here = Path::new("fleet.yaml");
    let labs = match labs::list()? {
        Labs::Known(labs) => labs,
        // A file was named or is here: then the labs, which only root can see, do not matter.
        Labs::Hidden(_) if arguments.fleet.is_some() => Vec::new(),
        Labs::Hidden(_) if arguments.lab.is_none() && here.exists() => Vec::new(),
        Labs::Hidden(why) => return Err(Failure::LabsHidden { why }),
    };
    let (file, lab) = choose(arguments, &labs, here)?;
    if let (Reach::Live, Some(lab), None) = (reach, &lab, labs::entered()) {
        return Err(labs::enter(lab));
    }
    let bytes = read(&file)?;
    let fleet = scenarios::read_fleet_bytes(&bytes, &file.display().to_string())?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let fleet = fleet.with_files_from(folder);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Place {
        file,
        text,
        fleet,
        lab,
    })
}

fn choose(
    arguments: &FleetArguments,
    labs: &[Lab],
    here: &Path,
) -> Result<(PathBuf, Option<Lab>), Failure> {
    if let Some(name) = &arguments.lab {
        let lab = labs.iter().find(|lab| &lab.name == name);
        let lab = lab.ok_or_else(|| Failure::NoSuchLab { name: name.clone() })?;
        return Ok((lab.fleet_file.clone(), Some(lab.clone())));
    }
    if let Some(file) = &arguments.fleet {
        let same = |lab: &&Lab| same_file(&lab.fleet_file, file);
        return Ok((file.clone(), labs.iter().find(same).cloned()));
    }
    match (here.exists(), labs) {
        (true, []) => Ok((here.to_path_buf(), None)),
        (true, [lab, ..]) => Err(Failure::TwoFleets {
            lab: lab.name.clone(),
        }),
        (false, [lab]) => Ok((lab.fleet_file.clone(), Some(lab.clone()))),
        (false, []) => Err(Failure::NoFleet),
        (false, several) => {
            let names: Vec<&str> = several.iter().map(|lab| lab.name.as_str()).collect();
            Err(Failure::SeveralLabs {
                names: names.join(", "),
            })
        }
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Reads at most what the language accepts, so that a wrong path to something huge is cheap.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let failed = |error| Failure::Unreadable {
        path: path.to_path_buf(),
        error,
    };
    let mut bytes = Vec::new();
    let limit = scenarios::INPUT_BYTES_MAX as u64 + 1;
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(name: &str) -> Lab {
        Lab {
            name: name.to_string(),
            fleet_file: PathBuf::from(format!("/labs/{name}.yaml")),
        }
    }

    #[test]
    fn one_lab_and_no_file_is_the_lab() {
        let (file, found) = choose(
            &FleetArguments::default(),
            &[lab("a")],
            Path::new("/nowhere/fleet.yaml"),
        )
        .expect("one choice");
        assert_eq!(file, PathBuf::from("/labs/a.yaml"));
        assert_eq!(found.expect("a lab").name, "a");
    }

    #[test]
    fn a_file_here_and_a_lab_want_a_word() {
        let here = std::env::current_exe().expect("own path");
        let refused = choose(&FleetArguments::default(), &[lab("a")], &here);
        assert!(matches!(refused, Err(Failure::TwoFleets { .. })));
    }

    #[test]
    fn two_labs_want_a_name_and_the_name_must_be_up() {
        let labs = [lab("a"), lab("b")];
        let nowhere = Path::new("/nowhere/fleet.yaml");
        let refused = choose(&FleetArguments::default(), &labs, nowhere);
        assert!(matches!(refused, Err(Failure::SeveralLabs { .. })));
        let arguments = FleetArguments {
            lab: Some("c".to_string()),
            fleet: None,
        };
        assert!(matches!(
            choose(&arguments, &labs, nowhere),
            Err(Failure::NoSuchLab { .. })
        ));
    }

    #[test]
    fn nothing_is_an_error() {
        let refused = choose(
            &FleetArguments::default(),
            &[],
            Path::new("/nowhere/fleet.yaml"),
        );
        assert!(matches!(refused, Err(Failure::NoFleet)));
    }
}
