//! The file system that shows processes and the system (`proc(5)`).
//!
//! Everything is made when it is looked at: a lookup makes the inode, a read makes the text. Nothing here keeps a process
//! alive; a name whose process has ended leads to `ENOENT`, an open file of it to `ESRCH`.

mod process;
mod system;

use super::inode::{Directory, Entry, FIRST_ENTRY, Generator, Link, Listing};
use super::{Body, Dentry, FileSystem, FsContext, Inode, PROC};
use crate::errno::{Errno, Result};
use crate::process::{Pid, Server};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// The inode number of the root.
const ROOT_INODE: u64 = 1;
/// Inode numbers of static entries count from here.
const STATIC_INODES: u64 = 0x1_0000;
/// Inode numbers of a process's entries begin at its number times this.
const INODES_PER_PROCESS: u64 = 1 << 32;

/// What all nodes share.
#[derive(Clone)]
struct Shared {
    filesystem: Rc<FileSystem>,
    server: Weak<Server>,
}

impl Shared {
    fn server(&self) -> Result<Rc<Server>> {
        self.server.upgrade().ok_or(Errno::ESRCH)
    }

    fn inode(&self, number: u64, permissions: u32, owner: (u32, u32), body: Body) -> Rc<Inode> {
        Inode::with_number(&self.filesystem, number, permissions, owner.0, owner.1, body)
    }
}

/// What a static entry is.
#[derive(Clone, Copy)]
enum Node {
    /// A file with a generated text.
    Text(fn(&Server) -> Vec<u8>),
    /// A directory.
    Directory(&'static [StaticEntry]),
    /// A symbolic link.
    Link(fn(&FsContext) -> Vec<u8>),
}

/// An entry that is always there.
struct StaticEntry {
    name: &'static str,
    node: Node,
}

const fn text(name: &'static str, generate: fn(&Server) -> Vec<u8>) -> StaticEntry {
    StaticEntry { name, node: Node::Text(generate) }
}

const fn directory(name: &'static str, entries: &'static [StaticEntry]) -> StaticEntry {
    StaticEntry { name, node: Node::Directory(entries) }
}

const fn link(name: &'static str, target: fn(&FsContext) -> Vec<u8>) -> StaticEntry {
    StaticEntry { name, node: Node::Link(target) }
}

/// What the root shows besides processes.
static ROOT: [StaticEntry; 15] = [
    text("cmdline", system::command_line),
    text("cpuinfo", system::processors),
    text("devices", system::devices),
    text("filesystems", system::filesystems),
    text("loadavg", system::load),
    text("meminfo", system::memory),
    text("stat", system::statistics),
    text("uptime", system::uptime),
    text("version", system::version),
    text("swaps", |_| b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()),
    directory("quire", &QUIRE),
    directory("sys", &SYS),
    link("mounts", |_| b"self/mounts".to_vec()),
    link("self", |context| format!("{}", context.pid).into_bytes()),
    link("thread-self", |context| format!("{0}/task/{0}", context.pid).into_bytes()),
];

static QUIRE: [StaticEntry; 1] = [text("account", system::account)];

static SYS: [StaticEntry; 2] = [directory("fs", &SYS_FS), directory("kernel", &SYS_KERNEL)];

static SYS_FS: [StaticEntry; 1] = [text("pipe-max-size", |_| b"1048576\n".to_vec())];

static SYS_KERNEL: [StaticEntry; 4] = [
    text("hostname", system::host_name),
    text("osrelease", system::release),
    text("ostype", |_| b"Linux\n".to_vec()),
    text("pid_max", |_| b"32768\n".to_vec()),
];

/// A new file system that shows this server.
pub fn new(server: &Rc<Server>) -> (Rc<FileSystem>, Rc<Dentry>) {
    let filesystem = FileSystem::new(&PROC);
    let shared = Shared { filesystem: filesystem.clone(), server: Rc::downgrade(server) };
    let body = Body::Directory(Box::new(Root { shared: shared.clone() }));
    let root = Dentry::root(shared.inode(ROOT_INODE, 0o555, (0, 0), body));
    (filesystem, root)
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > linux::NAME_MAX as usize { Err(Errno::ENAMETOOLONG) } else { Ok(()) }
}

/// A number as a name: digits, no leading zero.
fn parse_number(name: &[u8]) -> Option<i32> {
    let text = core::str::from_utf8(name).ok()?;
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().ok() } else { None }
}

/// The inode of a static entry. Its number comes from where its name lies, so that it is the same each time.
fn static_inode(shared: &Shared, entry: &'static StaticEntry, number: u64) -> Rc<Inode> {
    match entry.node {
        Node::Text(generate) => {
            let generator = StaticText { shared: shared.clone(), generate };
            shared.inode(number, 0o444, (0, 0), Body::Generated(Box::new(generator)))
        }
        Node::Directory(entries) => {
            let directory = StaticDirectory { shared: shared.clone(), entries, number };
            shared.inode(number, 0o555, (0, 0), Body::Directory(Box::new(directory)))
        }
        Node::Link(target) => shared.inode(number, 0o777, (0, 0), Body::Link(Box::new(StaticLink { target }))),
    }
}

impl Node {
    fn file_type(self) -> u32 {
        match self {
            Self::Text(_) => linux::S_IFREG,
            Self::Directory(_) => linux::S_IFDIR,
            Self::Link(_) => linux::S_IFLNK,
        }
    }
}

/// The inode number of an entry in a static directory.
fn static_number(directory: u64, index: usize) -> u64 {
    /// No directory has more entries.
    const ENTRIES: u64 = 64;
    STATIC_INODES + directory % STATIC_INODES * ENTRIES + index as u64
}

fn find_static(
    shared: &Shared,
    this: &Rc<Dentry>,
    entries: &'static [StaticEntry],
    directory: u64,
    name: &[u8],
) -> Option<Rc<Dentry>> {
    let (index, entry) = entries.iter().enumerate().find(|(_, entry)| entry.name.as_bytes() == name)?;
    let inode = static_inode(shared, entry, static_number(directory, index));
    Some(Dentry::new(this, name, inode))
}

fn list_static(
    entries: &'static [StaticEntry],
    directory: u64,
    from: u64,
    each: &mut dyn FnMut(Entry<'_>) -> Listing,
) -> Listing {
    for (index, entry) in entries.iter().enumerate() {
        let position = FIRST_ENTRY + index as u64;
        if position < from {
            continue;
        }
        let shown = Entry {
            name: entry.name.as_bytes(),
            inode: static_number(directory, index),
            file_type: entry.node.file_type(),
            next: position + 1,
        };
        if each(shown) == Listing::Stop {
            return Listing::Stop;
        }
    }
    Listing::Continue
}

struct StaticText {
    shared: Shared,
    generate: fn(&Server) -> Vec<u8>,
}

impl Generator for StaticText {
    fn generate(&self) -> Result<Vec<u8>> {
        Ok((self.generate)(&*self.shared.server()?))
    }
}

struct StaticLink {
    target: fn(&FsContext) -> Vec<u8>,
}

impl Link for StaticLink {
    fn text(&self, context: &FsContext) -> Result<Vec<u8>> {
        Ok((self.target)(context))
    }
}

struct StaticDirectory {
    shared: Shared,
    entries: &'static [StaticEntry],
    number: u64,
}

impl Directory for StaticDirectory {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        find_static(&self.shared, this, self.entries, self.number, name).ok_or(Errno::ENOENT)
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        list_static(self.entries, self.number, from, each);
        Ok(())
    }
}

/// `/proc` itself.
struct Root {
    shared: Shared,
}

/// Positions of processes in the root's listing: their number, beyond those of the static entries.
const FIRST_PROCESS: u64 = 256;

impl Directory for Root {
    fn lookup(&self, this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        if let Some(found) = find_static(&self.shared, this, &ROOT, ROOT_INODE, name) {
            return Ok(found);
        }
        let pid: Pid = parse_number(name).ok_or(Errno::ENOENT)?;
        let inode = process::directory(&self.shared, pid)?;
        Ok(Dentry::new(this, name, inode))
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        if list_static(&ROOT, ROOT_INODE, from, each) == Listing::Stop {
            return Ok(());
        }
        for pid in self.shared.server()?.pids() {
            let position = FIRST_PROCESS + pid as u64;
            if position < from {
                continue;
            }
            let name = format!("{pid}");
            let inode = pid as u64 * INODES_PER_PROCESS;
            let entry = Entry { name: name.as_bytes(), inode, file_type: linux::S_IFDIR, next: position + 1 };
            if each(entry) == Listing::Stop {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_numbers_name_processes() {
        assert_eq!(parse_number(b"17"), Some(17));
        for name in [&b"017"[..], b"+1", b"-1", b"1x", b"99999999999", b"\xff"] {
            assert_eq!(parse_number(name), None);
        }
    }

    #[test]
    fn names_in_static_directories_are_unique() {
        for entries in [&ROOT[..], &QUIRE, &SYS, &SYS_FS, &SYS_KERNEL] {
            for (index, entry) in entries.iter().enumerate() {
                assert!(entries[index + 1..].iter().all(|other| other.name != entry.name));
            }
        }
    }
}
