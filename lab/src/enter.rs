//! `exec` and `enter`: this process goes into a namespace of the lab and becomes the command.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use rustix::process::Pid;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{Error, Result};
use crate::internet::OPERATOR;
use crate::state::Root;
use crate::status;

/// Runs a command on a host of the lab, with all rights. Returns only on failure.
pub fn exec(root: &Root, lab: Option<&str>, node: &str, command: &[OsString]) -> Error {
    match stand_in(root, lab, node) {
        Ok(()) => become_command(command, node),
        Err(error) => error,
    }
}

/// Runs a command where the operator stands, without any capability and without a way to get one
/// back. The user stays the same, so that files the command writes belong to the caller. Returns
/// only on failure.
pub fn enter(root: &Root, lab: Option<&str>, command: &[OsString]) -> Error {
    let ready = stand_in(root, lab, OPERATOR).and_then(|()| drop_capabilities());
    match ready {
        Ok(()) => become_command(command, OPERATOR),
        Err(error) => error,
    }
}

/// The process itself moves and becomes the command, so that signals and the exit code are the
/// command's own.
fn become_command(command: &[OsString], place: &str) -> Error {
    let Some((program, arguments)) = command.split_first() else {
        return Error::Layout("there is no command to run".to_string());
    };
    let source = Command::new(program).args(arguments).exec();
    let command = program.to_string_lossy().into_owned();
    Error::Exec {
        command,
        place: place.to_string(),
        source,
    }
}

fn stand_in(root: &Root, lab: Option<&str>, node: &str) -> Result<()> {
    let (directory, record) = status::find(root, lab)?;
    let layout = directory.layout()?;
    let namespace = layout.resolve(node).ok_or_else(|| Error::UnknownNode {
        lab: record.name.clone(),
        node: node.to_string(),
        nodes: layout
            .hosts()
            .map(|host| host.namespace.clone())
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    let Some(holder) = &record.holder else {
        return Err(Error::NoLab);
    };
    let path = Path::new("/proc")
        .join(holder.pid.to_string())
        .join("root/run/netns")
        .join(&namespace);
    let opened = File::open(&path).map_err(Error::file("open", &path))?;
    // After opening: if it still lives now, what was opened is of the holder and of nobody else.
    if holder.open().is_none() {
        return Err(Error::NoLab);
    }
    setns(opened.as_fd(), CloneFlags::CLONE_NEWNET)
        .map_err(Error::kernel(format!("enter the namespace of {namespace}")))
}

fn drop_capabilities() -> Result<()> {
    let failed = |what: &str| Error::kernel::<rustix::io::Errno>(format!("{what} capabilities"));
    // Out of the bounding set: else a root user gets them all back with exec (capabilities(7)).
    let present = rustix::thread::capabilities(None::<Pid>).map_err(failed("read the own"))?;
    for capability in present.permitted.iter() {
        rustix::thread::remove_capability_from_bounding_set(capability)
            .map_err(failed("bound the"))?;
    }
    rustix::thread::clear_ambient_capability_set().map_err(failed("clear the ambient"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None::<Pid>, none).map_err(failed("drop the"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("forbid new"))
}
