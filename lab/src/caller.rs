//! The user behind sudo: what the conductor needs of a lab is theirs, and so is what they run in it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::unistd::{Uid, User};

use crate::error::{Error, Result};
use crate::state::LabDirectory;
use crate::tls::{AUTHORITY, CONDUCTOR};

/// The variable that sudo(8) sets for the command that it runs.
const SUDO_UID: &str = "SUDO_UID";

/// The user who called through sudo; none for a root user of its own.
pub fn behind_sudo() -> Result<Option<User>> {
    user_of(std::env::var(SUDO_UID).ok().as_deref())
}

fn user_of(sudo_uid: Option<&str>) -> Result<Option<User>> {
    let Some(uid) = sudo_uid.and_then(|text| text.parse::<u32>().ok()) else {
        return Ok(None);
    };
    if uid == 0 {
        return Ok(None);
    }
    let found = User::from_uid(Uid::from_raw(uid))
        .map_err(Error::kernel(format!("look up the user {uid}")))?;
    found.map(Some).ok_or(Error::NoUser(uid))
}

/// Gives the conductor's certificate and key of a lab, and its kubeconfig, to the caller, and to a user behind sudo the
/// way to them as well. Everything else stays root's.
pub fn hand_over(directory: &LabDirectory, user: Option<&User>) -> Result<()> {
    let tls = directory.tls();
    let (uid, gid) = user.map_or((0, 0), |user| (user.uid.as_raw(), user.gid.as_raw()));
    let keys = ["pem", "key"].map(|ending| tls.join(format!("{CONDUCTOR}.{ending}")));
    let kubeconfig = directory.kubeconfig();
    for path in keys
        .into_iter()
        .chain(kubeconfig.exists().then_some(kubeconfig))
    {
        let owner = fs::metadata(&path).map_err(Error::file("look at", &path))?;
        if owner.uid() != uid {
            chown(&path, Some(uid), Some(gid)).map_err(Error::file("hand over", &path))?;
        }
    }
    if user.is_some() {
        set_mode(&tls.join(AUTHORITY), 0o644)?;
        set_mode(&tls, 0o711)?;
        set_mode(&directory.fleet_file(), 0o644)?;
        set_mode(&directory.0, 0o711)?;
    }
    Ok(())
}

/// Independent of the umask.
pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(Error::file("set the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_user_behind_sudo_counts_and_one_without_an_entry_is_named() {
        for root_itself in [None, Some("0"), Some(""), Some("me"), Some("-1")] {
            assert!(user_of(root_itself).unwrap().is_none(), "{root_itself:?}");
        }
        // Debian reserves 1 for this user (base-passwd).
        assert_eq!(user_of(Some("1")).unwrap().unwrap().name, "daemon");
        let error = user_of(Some("4294000001")).unwrap_err();
        assert!(error.to_string().contains("4294000001"), "{error}");
        assert_eq!(error.exit_code(), 64);
    }
}
