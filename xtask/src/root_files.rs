//! The POSIX root file system of a guest: Debian's busybox and bash, and the few files that programs expect.

use crate::options::Addition;
use crate::process;
use anyhow::{Context as _, Result, bail};
use boot_archive::{Builder, Metadata};
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

const PREFIX: &str = "root";
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

/// Adds the usual tree.
pub(crate) fn add_standard(archive: &mut Builder) -> Result<()> {
    for (path, mode) in DIRECTORIES {
        archive.directory(&in_root(path), Metadata::of_root(mode))?;
    }
    for (path, target) in LINKS {
        archive.symlink(&in_root(path), Metadata::of_root(LINK_MODE), target)?;
    }
    for (path, text) in FILES {
        archive.file(&in_root(path), Metadata::of_root(FILE_MODE), text.into())?;
    }
    add_busybox(archive)?;
    let bash = fs::read(BASH).with_context(|| format!("can't read {BASH} (package bash-static)"))?;
    archive.file(&in_root("/bin/bash"), Metadata::of_root(PROGRAM_MODE), bash)?;
    Ok(())
}

/// Busybox, and a link for each of its applets.
fn add_busybox(archive: &mut Builder) -> Result<()> {
    let busybox = fs::read(BUSYBOX).with_context(|| format!("can't read {BUSYBOX} (package busybox-static)"))?;
    archive.file(&in_root("/bin/busybox"), Metadata::of_root(PROGRAM_MODE), busybox)?;
    let applets = process::output_of(Command::new(BUSYBOX).arg("--list"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox" && !applet.contains('/')) {
        archive.symlink(&in_root(&format!("/bin/{applet}")), Metadata::of_root(LINK_MODE), "busybox")?;
    }
    Ok(())
}

/// Adds what the user wants to have besides.
pub(crate) fn add(archive: &mut Builder, addition: &Addition) -> Result<()> {
    let guest = addition.guest.trim_end_matches('/');
    add_tree(archive, &addition.host, guest).with_context(|| format!("adding {} as {guest}", addition.host.display()))
}

fn add_tree(archive: &mut Builder, host: &Path, guest: &str) -> Result<()> {
    // What the user names may be a link to what is meant; links below it stay links.
    let metadata = fs::metadata(host)?;
    if metadata.is_dir() {
        return add_directory(archive, host, guest);
    }
    archive.file(&in_root(guest), metadata_of(&metadata), fs::read(host)?)?;
    Ok(())
}

fn add_directory(archive: &mut Builder, host: &Path, guest: &str) -> Result<()> {
    if !guest.is_empty() {
        archive.directory(&in_root(guest), metadata_of(&fs::metadata(host)?))?;
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
            add_directory(archive, &path, &guest)?;
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path)?;
            let target = target.to_str().with_context(|| format!("the target of {} is not UTF-8", path.display()))?;
            archive.symlink(&in_root(&guest), metadata_of(&metadata), target)?;
        } else if metadata.is_file() {
            let content = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
            archive.file(&in_root(&guest), metadata_of(&metadata), content)?;
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

fn in_root(path: &str) -> String {
    format!("{PREFIX}{path}")
}
