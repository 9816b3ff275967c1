//! What a child process does between fork and exec: the only calls of the lab that need `unsafe`.
#![allow(unsafe_code)] // `pre_exec` is unsafe, and nothing else runs code in the child.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::setsid;

/// In a session of its own, with none of the caller's descriptors but the three standard ones: a
/// pipe of a shell or of `make` that stayed open for as long as a lab is up would hang its reader.
pub fn own_session(command: &mut Command) {
    // SAFETY: the closure makes two system calls and touches no memory of the parent.
    unsafe {
        command.pre_exec(|| {
            setsid()?;
            let flags = nix::libc::CLOSE_RANGE_CLOEXEC as nix::libc::c_int;
            match nix::libc::close_range(3, nix::libc::c_uint::MAX, flags) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
}

/// In new namespaces of these kinds; killed when the calling thread ends.
pub fn in_new_namespaces(command: &mut Command, namespaces: CloneFlags) {
    // SAFETY: the closure makes two system calls and touches no memory of the parent.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            Ok(unshare(namespaces)?)
        });
    }
}

/// In this network namespace, in a session of its own.
pub fn in_namespace(command: &mut Command, namespace: OwnedFd) {
    // SAFETY: the closure makes two system calls and touches no memory of the parent.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            Ok(setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?)
        });
    }
}
