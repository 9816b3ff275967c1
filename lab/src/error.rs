//! Everything that can go wrong with a lab, in words for the person who typed the command.

use std::io;
use std::path::PathBuf;

/// What failed, why, what state the host is in now, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a lab is made of namespaces and needs root: run it with sudo. Nothing was changed")]
    NotRoot,
    #[error(
        "SUDO_UID is {0}, and there is no user with this number (`getent passwd {0}`), so that \
         the groups and the home directory are not known. Add the user, or call as root itself \
         (`env -u SUDO_UID`). Nothing was changed"
    )]
    NoUser(u32),
    #[error(
        "`{0}` is not a name: use a-z, 0-9 and `-` (not first or last), 63 at most. \
         Nothing was changed"
    )]
    BadName(String),
    #[error("no lab is up. Start one with `cellwall-lab up`")]
    NoLab,
    #[error("no lab named `{name}` is up. Up now: {up}")]
    NoSuchLab { name: String, up: String },
    #[error("several labs are up ({0}): say which one with --lab NAME")]
    SeveralLabs(String),
    #[error(
        "a lab named `{0}` is already up. Use another --name, or end it with \
         `cellwall-lab down --name {0}`"
    )]
    AlreadyUp(String),
    #[error("the lab `{0}` has no Kubernetes cells (`lab up --kind kubernetes`)")]
    NoCluster(String),
    #[error("{path} is in the way: it is no directory of a lab. Move it, or use another --name")]
    NotALab { path: PathBuf },
    #[error("the lab `{lab}` has no node `{node}`. It has: {nodes}")]
    UnknownNode {
        lab: String,
        node: String,
        nodes: String,
    },
    #[error("{0}. Nothing was changed")]
    Layout(String),
    #[error("the fleet file {path} cannot be used: {why}")]
    FleetFile { path: PathBuf, why: String },
    #[error("the fleet file that the lab wrote is not valid, which is a bug of the lab: {0}")]
    WrittenFleet(String),
    #[error("{0} is missing: build it first (`make build`), or say where it is with --bin-dir")]
    MissingBinary(PathBuf),
    #[error(
        "a Kubernetes cell needs programs that this machine lacks: {0}. Bring them with \
         `make setup` (it installs Debian packages and builds the rest once, 5 to 7 minutes), or \
         name a directory that has the Kubernetes ones in KUBEBUILDER_ASSETS. Nothing was changed"
    )]
    MissingPrograms(String),
    #[error("cannot {what} {path}: {source}")]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cannot {what}: {source}")]
    Kernel { what: String, source: io::Error },
    #[error("cannot {what}: {source}")]
    Netlink {
        what: String,
        source: rtnetlink::Error,
    },
    #[error("cannot make the certificates of the lab: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot read {path}, the lab's own record: {why}")]
    Record { path: PathBuf, why: String },
    #[error("the lab did not come up: {0}\nEverything of it was taken down again")]
    Start(String),
    #[error("a worker ended: {0}")]
    Worker(String),
    #[error("the lab `{name}` was killed, but {left} after {seconds} s")]
    NotDown {
        name: String,
        left: String,
        seconds: u64,
    },
    #[error("cannot run `{command}` in {place}: {source}")]
    Exec {
        command: String,
        place: String,
        source: io::Error,
    },
}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The exit code that tells the caller whose turn it is: 64 usage, 70 internal, and for
    /// commands that could not be run 126 and 127 as a shell does.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Error::Exec { .. } => 126,
            Error::NotRoot
            | Error::NoUser(_)
            | Error::BadName(_)
            | Error::NoLab
            | Error::NoSuchLab { .. }
            | Error::SeveralLabs(_)
            | Error::AlreadyUp(_)
            | Error::NotALab { .. }
            | Error::NoCluster(_)
            | Error::UnknownNode { .. }
            | Error::Layout(_)
            | Error::FleetFile { .. }
            | Error::MissingBinary(_)
            | Error::MissingPrograms(_) => 64,
            _ => 70,
        }
    }

    /// For `map_err` on a system call.
    pub fn kernel<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |source| Error::Kernel {
            what,
            source: source.into(),
        }
    }

    /// For `map_err` on a file operation.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { what, path, source }
    }
}
