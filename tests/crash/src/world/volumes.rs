//! Three small file systems: one to freeze, one to make read-only, one to fill.

use std::path::PathBuf;

use super::{Place, mount_tmpfs};
use crate::program;

/// ext4 wants about this much with a journal.
const IMAGE_BYTES: u64 = 12 << 20;

pub fn make(place: &Place) -> Result<Vec<PathBuf>, String> {
    let folder = |name: &str| -> Result<PathBuf, String> {
        let folder = place.volume(name);
        std::fs::create_dir_all(&folder)
            .map_err(|cause| format!("{}: {cause}", folder.display()))?;
        Ok(folder)
    };
    let (frozen, readonly, full) = (folder("frozen")?, folder("readonly")?, folder("full")?);
    let image = place.desk().join(place.image_name());
    let file = std::fs::File::create(&image).map_err(|cause| cause.to_string())?;
    file.set_len(IMAGE_BYTES)
        .map_err(|cause| cause.to_string())?;
    let (shown, on) = (image.display().to_string(), frozen.display().to_string());
    program::run(
        "mkfs.ext4",
        &["-q", "-F", "-E", "lazy_itable_init=0", &shown],
        "",
    )?;
    // The loop device goes with the mount.
    program::run("mount", &["-o", "loop,noatime,nodelalloc", &shown, &on], "")?;
    mount_tmpfs(&readonly, "size=1m")?;
    mount_tmpfs(&full, "size=2m")?;
    for volume in [&frozen, &readonly, &full] {
        let file = volume.join("data");
        std::fs::write(&file, "held\n".repeat(1000))
            .map_err(|cause| format!("{}: {cause}", file.display()))?;
    }
    program::run("sync", &["-f", &on], "")?;
    Ok(vec![frozen, readonly, full])
}
