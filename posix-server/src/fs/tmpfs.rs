//! The file system of files in memory.
//!
//! Regular files are [`Content`](super::content::Content), memory objects; everything else is here. A directory has
//! a table of names, and each name also has a position that it keeps as long as it lives, so that a listing that goes on after
//! others have made or removed names shows every name that stayed exactly once.

use super::body::{Directory, Entry, FIRST_ENTRY, Link, Listing};
use super::mount_options::TmpfsOptions;
use super::name_table::NameTable;
use super::{Body, Dentry, FileSystem, FileSystemType, FsContext, Inode, Made, TMPFS};
use crate::cred::{Gid, Uid};
use crate::errno::{Errno, Result};
use crate::platform::Account;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use linux_raw_sys::general::NAME_MAX;

/// What `stat` shows as the size of a directory, per name (`BOGO_DIRENT_SIZE` of Linux).
const BYTES_PER_NAME: u64 = 20;

#[derive(Default)]
struct Table {
    by_name: NameTable<(u64, Rc<Dentry>)>,
    by_position: BTreeMap<u64, Rc<Dentry>>,
    next_position: u64,
}

/// The names in a directory.
#[derive(Default)]
pub struct Names {
    table: RefCell<Table>,
}

impl Names {
    /// No names.
    pub fn new() -> Self {
        let table = Table { next_position: FIRST_ENTRY, ..Table::default() };
        Self { table: RefCell::new(table) }
    }

    /// The dentry of a name.
    pub fn get(&self, name: &[u8]) -> Option<Rc<Dentry>> {
        let table = self.table.borrow();
        table.by_name.get(name).map(|(_, dentry)| dentry.clone())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.table.borrow().by_name.len() == 0
    }

    /// Shows them from a position on, until `each` stops.
    pub fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) {
        let table = self.table.borrow();
        for (position, dentry) in table.by_position.range(from..) {
            let name = dentry.name();
            let inode = dentry.inode();
            let entry = Entry {
                name: &name,
                inode: inode.number(),
                file_type: inode.body().file_type(),
                next: position.saturating_add(1),
            };
            if each(entry) == Listing::Stop {
                break;
            }
        }
    }

    /// What `stat` shows as the size.
    pub fn size_bytes(&self) -> u64 {
        (self.table.borrow().by_name.len() as u64 + FIRST_ENTRY) * BYTES_PER_NAME
    }

    /// Adds a name, which must not be there.
    pub fn insert(&self, dentry: Rc<Dentry>) {
        let mut table = self.table.borrow_mut();
        let position = table.next_position;
        table.next_position = position.wrapping_add(1);
        table.by_name.insert(dentry.name(), (position, dentry.clone()));
        table.by_position.insert(position, dentry);
    }

    /// Adds a name at a position that it had before, and that no other has.
    pub fn insert_at(&self, position: u64, dentry: Rc<Dentry>) {
        let mut table = self.table.borrow_mut();
        table.by_name.insert(dentry.name(), (position, dentry.clone()));
        table.by_position.insert(position, dentry);
    }

    /// New names get positions from here on.
    pub fn begin_at(&self, position: u64) {
        let mut table = self.table.borrow_mut();
        table.next_position = table.next_position.max(position);
    }

    /// The name that comes first from a position on, with its position.
    pub fn next(&self, from: u64) -> Option<(u64, Rc<Dentry>)> {
        let table = self.table.borrow();
        table.by_position.range(from..).next().map(|(position, dentry)| (*position, dentry.clone()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.borrow().by_name.len()
    }

    /// Whether something is so for all of them.
    pub fn all(&self, is_so: &mut dyn FnMut(&Rc<Dentry>) -> bool) -> bool {
        self.table.borrow().by_position.values().all(is_so)
    }

    /// Forgets them all; the positions stay theirs.
    pub fn clear(&self) {
        let mut table = self.table.borrow_mut();
        let before = (core::mem::take(&mut table.by_name), core::mem::take(&mut table.by_position));
        drop(table);
        drop(before);
    }

    /// Takes a name away.
    pub fn remove(&self, name: &[u8]) -> Option<Rc<Dentry>> {
        let mut table = self.table.borrow_mut();
        let (position, dentry) = table.by_name.remove(name)?;
        table.by_position.remove(&position);
        Some(dentry)
    }
}

/// `ENAMETOOLONG` if it can't be the name of a file.
pub fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX as usize { Err(Errno::ENAMETOOLONG) } else { Ok(()) }
}

/// A directory in memory.
struct TmpfsDirectory {
    names: Names,
}

impl Directory for TmpfsDirectory {
    fn lookup(&self, _this: &Rc<Dentry>, name: &[u8]) -> Result<Rc<Dentry>> {
        check_name(name)?;
        self.names.get(name).ok_or(Errno::ENOENT)
    }

    fn list(&self, from: u64, each: &mut dyn FnMut(Entry<'_>) -> Listing) -> Result<()> {
        self.names.list(from, each);
        Ok(())
    }

    fn names(&self) -> Option<&Names> {
        Some(&self.names)
    }
}

/// A symbolic link in memory.
struct TmpfsLink {
    target: Box<[u8]>,
}

impl Link for TmpfsLink {
    fn text(&self, _context: &FsContext) -> Result<Vec<u8>> {
        Ok(self.target.to_vec())
    }

    fn stored_text(&self) -> Option<&[u8]> {
        Some(&self.target)
    }

    fn size(&self) -> u64 {
        self.target.len() as u64
    }
}

/// The body of an empty directory.
pub fn directory() -> Body {
    Body::Directory(Box::new(TmpfsDirectory { names: Names::new() }))
}

/// The body of a symbolic link.
pub fn link(target: &[u8]) -> Body {
    Body::Link(Box::new(TmpfsLink { target: Box::from(target) }))
}

/// A new file system with an empty root directory of these permissions.
pub fn new(permissions: u32) -> Made {
    of_type(&TMPFS, permissions)
}

/// The same, under the name of another type.
fn of_type(kind: &'static FileSystemType, permissions: u32) -> Made {
    with_root(FileSystem::new(kind), permissions, 0, 0)
}

fn with_root(filesystem: Rc<FileSystem>, permissions: u32, uid: Uid, gid: Gid) -> Made {
    let number = filesystem.take_inode_number().unwrap_or_default();
    let inode = Inode::with_number(&filesystem, number, permissions, uid, gid, directory());
    let root = Dentry::root(inode);
    (filesystem, root)
}

/// The permissions of a root that was mounted without any.
const DEFAULT_MODE: u32 = 0o1777;

/// A new file system as a program mounts it: contents are limited. `EINVAL`, `ENOMEM`.
pub fn mounted(kind: &'static FileSystemType, options: &[u8]) -> Result<Made> {
    let options = TmpfsOptions::parse(options)?;
    let payer = Account::for_files(options.pages())?;
    let filesystem = FileSystem::with_payer(kind, Some(payer));
    filesystem.set_options(options.clone())?;
    let (mode, uid, gid) = (options.mode.unwrap_or(DEFAULT_MODE), options.uid, options.gid);
    Ok(with_root(filesystem, mode, uid.unwrap_or_default(), gid.unwrap_or_default()))
}

/// A new file system without a limit. It takes no option but the mode, and ignores all others.
pub fn mounted_without_limit(kind: &'static FileSystemType, options: &[u8]) -> Result<Made> {
    let options = TmpfsOptions::parse(options).unwrap_or_default();
    Ok(of_type(kind, options.mode.unwrap_or(0o755)))
}
