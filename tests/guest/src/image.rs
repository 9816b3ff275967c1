//! The guest's first file system: this program as its init, the agent, a few of this machine's
//! programs with their libraries, and the modules that are needed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crash::program;

const PROGRAMS: &[&str] = &["ip", "tc", "nft", "sleep"];
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "veth",
    "ifb",
    "nf_tables",
    "nft_ct",
    "nft_numgen",
    "nft_limit",
    "nft_reject_inet",
    "nft_socket",
    "nft_fwd_netdev",
    "nf_conntrack",
    "sch_netem",
    "sch_tbf",
    "sch_htb",
    "cls_u32",
    "sch_ingress",
];

/// Makes it in a folder; the answer is its path.
pub fn make(desk: &Path, kernel: &Path, init: &Path, agent: &Path) -> Result<PathBuf, String> {
    let root = desk.join("root");
    for folder in [
        "bin", "dev", "proc", "sys", "modules", "disk", "tmp", "run", "etc",
    ] {
        make_folder(&root.join(folder))?;
    }
    bring(init, &root, "/init")?;
    bring(agent, &root, "/bin/cellwall-agent")?;
    for name in PROGRAMS {
        bring(&found(name)?, &root, &format!("/bin/{name}"))?;
    }
    for (number, module) in modules(kernel)?.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        copy(
            module,
            &root.join("modules").join(format!("{number:03}-{name}")),
        )?;
    }
    packed(&root, &desk.join("initrd"))
}

fn make_folder(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|cause| format!("{}: {cause}", folder.display()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if let Some(folder) = to.parent() {
        make_folder(folder)?;
    }
    let copied = fs::copy(from, to);
    copied.map_err(|cause| format!("copy {} to {}: {cause}", from.display(), to.display()))?;
    Ok(())
}

/// Where this machine has a program.
fn found(name: &str) -> Result<PathBuf, String> {
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    let path = paths.find(|path| path.exists());
    path.ok_or_else(|| format!("{name} is missing; `make setup` brings it"))
}

/// A program and the libraries that `ldd` names, at the same paths.
fn bring(program: &Path, root: &Path, place: &str) -> Result<(), String> {
    copy(program, &root.join(place.trim_start_matches('/')))?;
    let path = program.display().to_string();
    let told = program::run("ldd", &[&path], "")?;
    for library in told.split_whitespace().filter(|word| word.starts_with('/')) {
        let library = Path::new(library);
        let there = root.join(library.strip_prefix("/").unwrap_or(library));
        if !there.exists() {
            copy(library, &there)?;
        }
    }
    Ok(())
}

/// The modules and all that they depend on, in the order in which they can be loaded.
fn modules(kernel: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = kernel.join("modules");
    let list = folder.join("modules.dep");
    let text = fs::read_to_string(&list).map_err(|cause| {
        let shown = list.display();
        format!("{shown}: {cause}; tests/guest/fetch-kernel.sh brings it")
    })?;
    let builtin = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
    let (mut ordered, mut seen) = (Vec::new(), BTreeSet::new());
    for name in MODULES {
        let file = format!("/{name}.ko");
        let line = text.lines().find(|line| {
            line.split(':')
                .next()
                .is_some_and(|path| path.ends_with(&file))
        });
        let Some((own, needs)) = line.and_then(|line| line.split_once(':')) else {
            if builtin.lines().any(|path| path.ends_with(&file)) {
                continue;
            }
            return Err(format!("{} has no module {name}", folder.display()));
        };
        // depmod lists what is needed with the innermost last.
        for path in needs.split_whitespace().rev().chain([own]) {
            if seen.insert(path.to_owned()) {
                ordered.push(folder.join(path));
            }
        }
    }
    Ok(ordered)
}

fn packed(root: &Path, archive: &Path) -> Result<PathBuf, String> {
    let failed = |cause: std::io::Error| format!("cpio: {cause}");
    // /lib64 holds the loader's name and may be a link on this machine.
    if !root.join("lib64").exists() {
        symlink("lib", root.join("lib64")).map_err(failed)?;
    }
    let mut names = String::from(".\n");
    list(root, Path::new("."), &mut names).map_err(failed)?;
    let out = fs::File::create(archive).map_err(failed)?;
    let mut child = Command::new("cpio")
        .args(["--create", "--format=newc", "--owner=0:0", "--quiet"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(out)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        use std::io::Write;
        stdin.write_all(names.as_bytes()).map_err(failed)?;
    }
    match child.wait().map_err(failed)? {
        status if status.success() => Ok(archive.to_owned()),
        status => Err(format!("cpio: {status}")),
    }
}

fn list(folder: &Path, shown: &Path, names: &mut String) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let shown = shown.join(entry.file_name());
        names.push_str(&format!("{}\n", shown.display()));
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &shown, names)?;
        }
    }
    Ok(())
}
