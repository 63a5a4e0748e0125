//! The POSIX root file system of a guest: Debian's busybox and bash, and the few files that programs expect.

use crate::options::Addition;
use crate::process;
use crate::tree::Tree;
use anyhow::{Context as _, Result, bail};
use boot_archive::Metadata;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

/// Debian's statically linked busybox.
pub(crate) const BUSYBOX: &str = "/bin/busybox";
/// Debian's statically linked bash.
pub(crate) const BASH: &str = "/bin/bash-static";

/// The empty directory in which `xtask exec` starts programs.
pub(crate) const WORK_DIRECTORY: &str = "/work";
/// What every program of the guest finds in its environment.
pub(crate) const ENVIRONMENT: [&str; 5] =
    ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh"];

const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;
const PROGRAM_MODE: u32 = 0o755;
const LINK_MODE: u32 = 0o777;

const DIRECTORIES: [(&str, u32); 14] = [
    ("", DIRECTORY_MODE),
    ("/bin", DIRECTORY_MODE),
    ("/dev", DIRECTORY_MODE),
    ("/etc", DIRECTORY_MODE),
    ("/home", DIRECTORY_MODE),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/tmp", 0o1777),
    ("/usr", DIRECTORY_MODE),
    ("/usr/local", DIRECTORY_MODE),
    ("/usr/local/bin", DIRECTORY_MODE),
    ("/var", DIRECTORY_MODE),
    ("/var/tmp", 0o1777),
    (WORK_DIRECTORY, 0o1777),
];

const LINKS: [(&str, &str); 3] = [("/sbin", "bin"), ("/usr/bin", "../bin"), ("/usr/sbin", "../bin")];

const FILES: [(&str, &str); 6] = [
    ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/hostname", "quire\n"),
    ("/etc/hosts", "127.0.0.1 localhost quire\n"),
    ("/etc/shells", "/bin/sh\n/bin/bash\n"),
    ("/etc/profile", "PS1='\\w \\$ '\nexport PS1\n"),
];

/// The usual tree, and what the user wants to have besides.
pub(crate) fn tree(additions: &[Addition]) -> Result<Tree> {
    let mut tree = standard()?;
    additions.iter().try_for_each(|addition| add(&mut tree, addition))?;
    Ok(tree)
}

/// Only what the user wants to have.
pub(crate) fn only(additions: &[Addition]) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.directory("", Metadata::of_root(DIRECTORY_MODE));
    additions.iter().try_for_each(|addition| add(&mut tree, addition))?;
    Ok(tree)
}

/// The usual tree.
fn standard() -> Result<Tree> {
    let mut tree = Tree::default();
    for (path, mode) in DIRECTORIES {
        tree.directory(path, Metadata::of_root(mode));
    }
    for (path, target) in LINKS {
        tree.symlink(path, Metadata::of_root(LINK_MODE), target);
    }
    for (path, text) in FILES {
        tree.file(path, Metadata::of_root(FILE_MODE), text.into());
    }
    add_busybox(&mut tree)?;
    let bash = fs::read(BASH).with_context(|| format!("can't read {BASH} (package bash-static)"))?;
    tree.file("/bin/bash", Metadata::of_root(PROGRAM_MODE), bash);
    Ok(tree)
}

/// Busybox, and a link for each of its applets.
fn add_busybox(tree: &mut Tree) -> Result<()> {
    let busybox = fs::read(BUSYBOX).with_context(|| format!("can't read {BUSYBOX} (package busybox-static)"))?;
    tree.file("/bin/busybox", Metadata::of_root(PROGRAM_MODE), busybox);
    let applets = process::output_of(Command::new(BUSYBOX).arg("--list"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox" && !applet.contains('/')) {
        tree.symlink(&format!("/bin/{applet}"), Metadata::of_root(LINK_MODE), "busybox");
    }
    Ok(())
}

/// Adds what the user wants to have besides.
fn add(tree: &mut Tree, addition: &Addition) -> Result<()> {
    let guest = addition.guest.trim_end_matches('/');
    add_tree(tree, &addition.host, guest).with_context(|| format!("adding {} as {guest}", addition.host.display()))
}

fn add_tree(tree: &mut Tree, host: &Path, guest: &str) -> Result<()> {
    // What the user names may be a link to what is meant; links below it stay links.
    let metadata = fs::metadata(host)?;
    if metadata.is_dir() {
        return add_directory(tree, host, guest);
    }
    tree.file(guest, metadata_of(&metadata), fs::read(host)?);
    Ok(())
}

fn add_directory(tree: &mut Tree, host: &Path, guest: &str) -> Result<()> {
    if !guest.is_empty() {
        tree.directory(guest, metadata_of(&fs::metadata(host)?));
    }
    for entry in fs::read_dir(host).with_context(|| format!("can't list {}", host.display()))? {
        let entry = entry?;
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            bail!("the name of {} is not UTF-8", path.display());
        };
        let guest = format!("{guest}/{name}");
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            add_directory(tree, &path, &guest)?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path)?;
            let target = target.to_str().with_context(|| format!("the target of {} is not UTF-8", path.display()))?;
            tree.symlink(&guest, metadata_of(&metadata), target);
        } else if metadata.is_file() {
            let content = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
            tree.file(&guest, metadata_of(&metadata), content);
        }
        // Sockets, pipes and devices have no content that could be carried over.
    }
    Ok(())
}

/// Mode and age of a host file; in the guest it belongs to root.
fn metadata_of(metadata: &fs::Metadata) -> Metadata {
    const PERMISSIONS: u32 = 0o7777;
    Metadata { modified_s: metadata.mtime(), ..Metadata::of_root(metadata.mode() & PERMISSIONS) }
}
