//! ext4 file systems in image files, by the tools of e2fsprogs. They take a place in a file as `FILE?offset=BYTES`.

use crate::process;
use crate::tree::Tree;
use anyhow::{Context as _, Result, bail};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file system in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) file: PathBuf,
    /// Where it begins, in bytes.
    pub(crate) offset: u64,
}

/// The label of the root file systems that we make.
const LABEL: &str = "quire-root";
/// Where the magic number is, and what it is (Linux, `Documentation/filesystems/ext4/super.rst`).
const MAGIC_OFFSET: u64 = 1024 + 0x38;
const MAGIC: [u8; 2] = [0x53, 0xef];
/// Where the first of the inodes is that have no name any more, and are to be freed (as above).
const ORPHANS_OFFSET: u64 = 1024 + 0xe8;

impl Volume {
    /// The file, and the place in it.
    fn argument(&self) -> String {
        format!("{}?offset={}", self.file.display(), self.offset)
    }

    /// Whether a file system of the ext family is there.
    pub(crate) fn is_ext(&self) -> Result<bool> {
        let file = File::open(&self.file).with_context(|| format!("can't open {}", self.file.display()))?;
        let mut magic = [0; MAGIC.len()];
        Ok(file.read_exact_at(&mut magic, self.offset + MAGIC_OFFSET).is_ok() && magic == MAGIC)
    }

    /// Makes a file system of this size that holds a tree; all of it belongs to root.
    pub(crate) fn make(&self, size_bytes: u64, tree: &Tree) -> Result<()> {
        const KIBIBYTE: u64 = 1024;
        let directory =
            tempfile::Builder::new().prefix("quire-").tempdir().context("can't make a temporary directory")?;
        let root = directory.path().join("root");
        fs::create_dir(&root)?;
        let made = tree.write_to(&root)?;
        let mut mke2fs = Command::new(process::system_tool("mke2fs"));
        // What is not written is zero in a new file.
        let extended = format!("offset={},root_owner=0:0,assume_storage_prezeroed=1", self.offset);
        mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-L", LABEL, "-E", &extended, "-d"]).arg(&root);
        process::output_of(mke2fs.arg(&self.file).arg(format!("{}k", size_bytes / KIBIBYTE)))?;
        if !rustix::process::geteuid().is_root() {
            self.give_to_root(&made, directory.path())?;
        }
        Ok(())
    }

    /// Files keep the owner whom they had on the host: us.
    fn give_to_root(&self, paths: &[String], scratch: &Path) -> Result<()> {
        let mut script = String::new();
        for path in paths {
            for field in ["uid", "gid"] {
                writeln!(script, "set_inode_field \"/{}\" {field} 0", path.trim_start_matches('/'))?;
            }
        }
        let file = scratch.join("owners");
        fs::write(&file, script)?;
        let mut debugfs = Command::new(process::system_tool("debugfs"));
        process::output_of(debugfs.args(["-w", "-f"]).arg(file).arg(self.argument())).map(drop)
    }

    /// Has it checked, without changing anything: an error says what is wrong with it.
    pub(crate) fn check(&self) -> Result<()> {
        self.fsck(&["-fn"], 0)
    }

    /// Does what who mounts it does after a power cut, and nothing else: replays the journal, and frees files that have no name any
    /// more.
    pub(crate) fn recover(&self) -> Result<()> {
        // 1: something was mended.
        self.fsck(&["-y", "-E", "journal_only"], 1)?;
        if self.has_orphans()? { self.fsck(&["-p"], 1) } else { Ok(()) }
    }

    /// Whether there are files that have no name, and were in use.
    fn has_orphans(&self) -> Result<bool> {
        let mut first = [0; 4];
        File::open(&self.file)?.read_exact_at(&mut first, self.offset + ORPHANS_OFFSET)?;
        Ok(first != [0; 4])
    }

    fn fsck(&self, arguments: &[&str], worst: i32) -> Result<()> {
        let mut e2fsck = Command::new(process::system_tool("e2fsck"));
        let output = e2fsck.args(arguments).arg(self.argument()).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("can't start `{}`", process::describe(&e2fsck)))?;
        if output.status.code().is_none_or(|code| code > worst) {
            let text =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            bail!("`{}` failed ({}):\n{text}", process::describe(&e2fsck), output.status);
        }
        Ok(())
    }

    /// Copies all of its files into a directory of the host.
    pub(crate) fn extract(&self, directory: &Path) -> Result<()> {
        let mut debugfs = Command::new(process::system_tool("debugfs"));
        let copy = format!("rdump / \"{}\"", directory.display());
        process::output_of(debugfs.args(["-R", &copy]).arg(self.argument())).map(drop)
    }
}
