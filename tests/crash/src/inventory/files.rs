//! Files with all their metadata, what is left of file systems, and mounts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::world::World;

/// All below a folder. Not the times of folders, which tell that entries came and went, nor ctime,
/// which nobody can set.
pub fn tree(folder: &Path) -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    walk(folder, &mut told).map_err(|cause| format!("{}: {cause}", folder.display()))?;
    told.sort();
    Ok(told)
}

fn walk(folder: &Path, told: &mut Vec<String>) -> std::io::Result<()> {
    told.push(words(folder)?);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?.file_type();
        // ext4's own folder, which journals and checks make use of.
        if path.ends_with("lost+found") {
            continue;
        }
        match kind.is_dir() {
            true => walk(&path, told)?,
            false => told.push(words(&path)?),
        }
    }
    Ok(())
}

fn words(path: &Path) -> std::io::Result<String> {
    let is = fs::symlink_metadata(path)?;
    let mut words = format!(
        "{} inode {} mode {:o} owner {}:{} device {}",
        path.display(),
        is.ino(),
        is.mode(),
        is.uid(),
        is.gid(),
        is.dev(),
    );
    if is.file_type().is_symlink() {
        words += &format!(" to {}", fs::read_link(path)?.display());
        return Ok(words);
    }
    if is.is_file() {
        let hash = Sha256::digest(fs::read(path)?);
        let hash: String = hash
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        words += &format!(
            " links {} size {} modified {}.{:09} read {}.{:09} sha256 {hash}",
            is.nlink(),
            is.size(),
            is.mtime(),
            is.mtime_nsec(),
            is.atime(),
            is.atime_nsec(),
        );
    }
    for (name, value) in attributes(path)? {
        words += &format!(" {name}={value}");
    }
    Ok(words)
}

fn attributes(path: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut names = vec![0_u8; 4096];
    let length = rustix::fs::llistxattr(path, &mut names)?;
    let mut found = Vec::new();
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = String::from_utf8_lossy(name).into_owned();
        let mut value = vec![0_u8; 4096];
        let length = rustix::fs::lgetxattr(path, name.as_str(), &mut value)?;
        let value = value[..length].iter().map(|byte| format!("{byte:02x}"));
        found.push((name, value.collect()));
    }
    found.sort();
    Ok(found)
}

/// The scene's own file systems: what is in them, and how much room is left.
pub fn volumes(world: &World) -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    for volume in &world.volumes {
        let shown = volume.display();
        let room = rustix::fs::statvfs(volume).map_err(|cause| format!("{shown}: {cause}"))?;
        told.push(format!(
            "{shown} has {} blocks and {} inodes free, flags {:?}",
            room.f_bfree, room.f_ffree, room.f_flag
        ));
        told.extend(tree(volume)?);
    }
    Ok(told)
}

/// As the kernel tells them; numbers of mounts say whether one was replaced.
pub fn mounts() -> Result<Vec<String>, String> {
    let text = fs::read_to_string("/proc/self/mountinfo").map_err(|cause| cause.to_string())?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// All files in the state directory but journals.
pub fn state(folder: &Path) -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_none_or(|kind| kind != "journal") {
                told.push(path.display().to_string());
            }
        }
    }
    told.sort();
    Ok(told)
}
