//! The file system that shows processes and the system (`proc(5)`).
//!
//! Everything is made when it is looked at: a lookup makes the inode, a read makes the text. Nothing here keeps a process
//! alive; a name whose process has ended leads to `ENOENT`, an open file of it to `ESRCH`.
//!
//! What is always there stands in tables: [`tables`] has the names, [`system`] and its neighbours the texts.

mod cpu;
mod ipc;
pub mod load;
mod memory_info;
mod network;
mod process;
pub(in crate::fs) mod processors;
pub mod sysctl;
mod system;
mod tables;

use super::body::{Directory, Entry, FIRST_ENTRY, Generator, Link, Listing};
use super::filesystem::Made;
use super::walk::Actor;
use super::{Body, Dentry, FileSystem, FsContext, Inode, PROC};
use crate::errno::{Errno, Result};
use crate::file::{AccessMode, FileOps};
use crate::process::{Pid, Server};
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use linux_raw_sys::general as linux;
use sysctl::Setting;
use tables::ROOT;

/// The release that the server says it is compatible with.
pub use system::RELEASE;

/// The inode number of the root.
const ROOT_INODE: u64 = 1;
/// Inode numbers of a process's entries begin at its number times this.
const INODES_PER_PROCESS: u64 = 1 << 32;

/// Adds to a text. A text that can't grow is cut; the global allocator decides about the rest.
macro_rules! add {
    ($text:expr, $($arguments:tt)*) => {
        // Writing to a string does not fail.
        let _ = core::fmt::Write::write_fmt(&mut $text, format_args!($($arguments)*));
    };
}
pub(in crate::fs) use add;

/// What all nodes of a generated file system share.
#[derive(Clone)]
pub(in crate::fs) struct Shared {
    filesystem: Rc<FileSystem>,
    server: Weak<Server>,
}

impl Shared {
    /// What the nodes of a file system share that shows a server.
    pub(in crate::fs) fn new(filesystem: &Rc<FileSystem>, server: &Rc<Server>) -> Self {
        Self { filesystem: filesystem.clone(), server: Rc::downgrade(server) }
    }

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
    /// The same for the superuser alone.
    PrivateText(fn(&Server) -> Vec<u8>),
    /// A setting of the system (`/proc/sys`).
    Setting(&'static Setting),
    /// A directory.
    Directory(&'static [StaticEntry]),
    /// A symbolic link.
    Link(fn(&FsContext) -> Vec<u8>),
}

/// An entry that is always there.
pub(in crate::fs) struct StaticEntry {
    name: &'static str,
    node: Node,
}

/// A file with a text.
pub(in crate::fs) const fn text(name: &'static str, generate: fn(&Server) -> Vec<u8>) -> StaticEntry {
    StaticEntry { name, node: Node::Text(generate) }
}

const fn private_text(name: &'static str, generate: fn(&Server) -> Vec<u8>) -> StaticEntry {
    StaticEntry { name, node: Node::PrivateText(generate) }
}

const fn setting(name: &'static str, setting: &'static Setting) -> StaticEntry {
    StaticEntry { name, node: Node::Setting(setting) }
}

/// A directory.
pub(in crate::fs) const fn directory(name: &'static str, entries: &'static [StaticEntry]) -> StaticEntry {
    StaticEntry { name, node: Node::Directory(entries) }
}

const fn link(name: &'static str, target: fn(&FsContext) -> Vec<u8>) -> StaticEntry {
    StaticEntry { name, node: Node::Link(target) }
}

/// A new file system that shows this server.
pub fn new(server: &Rc<Server>) -> Made {
    let filesystem = FileSystem::new(&PROC);
    let shared = Shared::new(&filesystem, server);
    let body = Body::Directory(Box::new(Root { shared: shared.clone() }));
    let root = Dentry::root(shared.inode(ROOT_INODE, 0o555, (0, 0), body));
    (filesystem, root)
}

/// A root with nothing but entries that are always there.
pub(in crate::fs) fn entries(shared: &Shared, entries: &'static [StaticEntry]) -> Rc<Inode> {
    let directory = StaticDirectory { shared: shared.clone(), entries, number: ROOT_INODE };
    shared.inode(ROOT_INODE, 0o555, (0, 0), Body::Directory(Box::new(directory)))
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

/// The inode of a static entry.
fn static_inode(shared: &Shared, entry: &'static StaticEntry, number: u64) -> Rc<Inode> {
    let text = |generate| Body::Generated(Box::new(StaticText { shared: shared.clone(), generate }));
    let (permissions, body) = match entry.node {
        Node::Text(generate) => (0o444, text(generate)),
        Node::PrivateText(generate) => (0o400, text(generate)),
        Node::Setting(setting) => {
            let body = Body::Generated(Box::new(SettingFile { shared: shared.clone(), setting }));
            (setting.permissions(), body)
        }
        Node::Directory(entries) => {
            let directory = StaticDirectory { shared: shared.clone(), entries, number };
            (0o555, Body::Directory(Box::new(directory)))
        }
        Node::Link(target) => (0o777, Body::Link(Box::new(StaticLink { target }))),
    };
    shared.inode(number, permissions, (0, 0), body)
}

impl Node {
    fn file_type(self) -> u32 {
        match self {
            Self::Text(_) | Self::PrivateText(_) | Self::Setting(_) => linux::S_IFREG,
            Self::Directory(_) => linux::S_IFDIR,
            Self::Link(_) => linux::S_IFLNK,
        }
    }
}

/// The inode number of an entry in a static directory: the places on the way to it, as the digits of a number.
fn static_number(directory: u64, index: usize) -> u64 {
    /// No directory has more entries.
    const ENTRIES: u64 = 64;
    directory * ENTRIES + index as u64
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

    fn store(&self, _writer: Pid, _bytes: &[u8]) -> Result<()> {
        Err(Errno::EIO)
    }
}

/// A file in `/proc/sys`. The superuser, too, may only do what the permissions say.
struct SettingFile {
    shared: Shared,
    setting: &'static Setting,
}

impl Generator for SettingFile {
    fn open(&self, _actor: Actor<'_>, access: AccessMode) -> Result<Option<Rc<dyn FileOps>>> {
        let permissions = self.setting.permissions();
        let is_denied = access.can_write() && permissions & linux::S_IWUSR == 0
            || access.can_read() && permissions & linux::S_IRUSR == 0;
        if is_denied { Err(Errno::EACCES) } else { Ok(None) }
    }

    fn generate(&self) -> Result<Vec<u8>> {
        Ok(self.setting.show(&*self.shared.server()?))
    }

    fn store(&self, _writer: Pid, bytes: &[u8]) -> Result<()> {
        self.setting.store(&*self.shared.server()?, bytes)
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

    fn check(entries: &'static [StaticEntry]) {
        assert!(entries.len() <= 64, "inode numbers would no longer be unique");
        for (index, entry) in entries.iter().enumerate() {
            assert!(entries[index + 1..].iter().all(|other| other.name != entry.name), "{}", entry.name);
            if let Node::Directory(entries) = entry.node {
                check(entries);
            }
        }
    }

    #[test]
    fn names_in_static_directories_are_unique() {
        check(&ROOT);
    }
}
