//! `exec` and `enter`: this process goes into a namespace of the lab and becomes the command.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use nix::unistd::{User, initgroups, setresgid, setresuid};
use rustix::process::Pid;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::caller;
use crate::error::{Error, Result};
use crate::internet::OPERATOR;
use crate::state::{LabDirectory, Root};
use crate::status;

/// Runs a command on a host of the lab, with all rights. Returns only on failure.
pub fn exec(root: &Root, lab: Option<&str>, node: &str, command: &[OsString]) -> Error {
    match stand_in(root, lab, node) {
        Ok(directory) => become_command(command, node, &directory, None),
        Err(error) => error,
    }
}

/// Runs a command where the operator stands, without any capability and without a way to get one
/// back. Under sudo the command runs as the user who called sudo: root without capabilities could
/// neither run a program in that user's home directory nor write a history there. Returns only on
/// failure.
pub fn enter(root: &Root, lab: Option<&str>, command: &[OsString]) -> Error {
    match become_operator(root, lab) {
        Ok((directory, user)) => become_command(command, OPERATOR, &directory, user.as_ref()),
        Err(error) => error,
    }
}

fn become_operator(root: &Root, lab: Option<&str>) -> Result<(LabDirectory, Option<User>)> {
    let user = caller::behind_sudo()?;
    let directory = stand_in(root, lab, OPERATOR)?;
    caller::hand_over(&directory, user.as_ref())?;
    bound_capabilities()?;
    if let Some(user) = &user {
        become_user(user)?;
    }
    drop_capabilities()?;
    Ok((directory, user))
}

/// The process itself moves and becomes the command, so that signals and the exit code are the
/// command's own.
fn become_command(
    command: &[OsString],
    place: &str,
    directory: &LabDirectory,
    user: Option<&User>,
) -> Error {
    let Some((program, arguments)) = command.split_first() else {
        return Error::Layout("there is no command to run".to_string());
    };
    let mut ready = Command::new(program);
    ready.args(arguments);
    let kubeconfig = directory.kubeconfig();
    if kubeconfig.exists() {
        ready
            .env("PATH", with_kubectl())
            .env("KUBECONFIG", kubeconfig)
            // What it learns of these API servers goes with the lab.
            .env("KUBECACHEDIR", directory.kubectl_cache());
    }
    if let Some(user) = user {
        ready.env("HOME", &user.dir);
        ready.env("USER", &user.name).env("LOGNAME", &user.name);
    }
    let source = ready.exec();
    let command = program.to_string_lossy().into_owned();
    Error::Exec {
        command,
        place: place.to_string(),
        source,
    }
}

/// The kubectl of the same version as the cells first.
fn with_kubectl() -> OsString {
    let mut path = crate::kubernetes::programs::kubectl_directory().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

fn stand_in(root: &Root, lab: Option<&str>, node: &str) -> Result<LabDirectory> {
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
        .map_err(Error::kernel(format!("enter the namespace of {namespace}")))?;
    Ok(directory)
}

fn failed(what: &str) -> impl FnOnce(rustix::io::Errno) -> Error {
    Error::kernel(format!("{what} capabilities"))
}

/// While the process still may: this needs `CAP_SETPCAP`.
fn bound_capabilities() -> Result<()> {
    // Out of the bounding set: else a root user gets them all back with exec (capabilities(7)).
    let present = rustix::thread::capabilities(None::<Pid>).map_err(failed("read the own"))?;
    for capability in present.permitted.iter() {
        rustix::thread::remove_capability_from_bounding_set(capability)
            .map_err(failed("bound the"))?;
    }
    Ok(())
}

/// Groups first: without the user id of root they can no longer be set.
fn become_user(user: &User) -> Result<()> {
    let failed = |what: &str| Error::kernel::<nix::Error>(format!("{what} of {}", user.name));
    let name = CString::new(user.name.as_str()).map_err(|_| Error::NoUser(user.uid.as_raw()))?;
    initgroups(&name, user.gid).map_err(failed("take the groups"))?;
    setresgid(user.gid, user.gid, user.gid).map_err(failed("take the group"))?;
    setresuid(user.uid, user.uid, user.uid).map_err(failed("take the user id"))
}

fn drop_capabilities() -> Result<()> {
    rustix::thread::clear_ambient_capability_set().map_err(failed("clear the ambient"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None::<Pid>, none).map_err(failed("drop the"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("forbid new"))
}
