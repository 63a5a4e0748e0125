//! Files by handles instead of names: `name_to_handle_at`, `open_by_handle_at`.
//!
//! A handle of a file in memory is its number, as on Linux's tmpfs. Opening by it looks for a name of that number, from the
//! root of the file system on: that is for the superuser only, and rare.

use super::blocking::file;
use super::files::install;
use super::names::{CURRENT_DIRECTORY, place, start};
use super::{Arguments, SystemCall, pointer, tty};
use crate::errno::{Errno, Result};
use crate::fs::body::{FIRST_ENTRY, Listing};
use crate::fs::open::{self, How, Opened, Opener};
use crate::fs::walk::{Actor, LastLink};
use crate::fs::{Dentry, Location};
use crate::process::Thread;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_name_to_handle_at, |t, a| name_to_handle(t, a).into()),
    SystemCall::new(linux::__NR_open_by_handle_at, |t, a| open_by_handle(t, a).into()),
];

/// `struct file_handle`, without the handle itself.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    bytes: u32,
    kind: i32,
}

/// The longest handle that any file system may have (`MAX_HANDLE_SZ`).
const MAX_HANDLE_BYTES: u32 = 128;
/// The handle of a file in memory: generation, and number in two halves.
const HANDLE_BYTES: u32 = 12;
/// Its type.
const HANDLE_KIND: i32 = 1;

/// The generation of all files: numbers are never used again.
const GENERATION: u32 = 0;

/// `name_to_handle_at(directory, path, handle, mount, flags)`.
fn name_to_handle(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let flags = args[4] as u32;
    if flags & !(linux::AT_SYMLINK_FOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = pointer(thread, args[1]).read_path()?;
    let found = if path.is_empty() && flags & linux::AT_EMPTY_PATH != 0 {
        start(thread, args[0], &path)?
    } else {
        let last = if flags & linux::AT_SYMLINK_FOLLOW != 0 { LastLink::Follow } else { LastLink::Keep };
        place(thread, args[0], &path, last)?
    };
    if !found.inode().filesystem().is_stored() {
        return Err(Errno::EOPNOTSUPP);
    }
    let to = pointer(thread, args[2]);
    let header: Header = to.read()?;
    if header.bytes > MAX_HANDLE_BYTES {
        return Err(Errno::EINVAL);
    }
    let number = found.inode().number();
    pointer(thread, args[3]).write(&(found.mount.id() as i32))?;
    to.write(&Header { bytes: HANDLE_BYTES, kind: HANDLE_KIND })?;
    if header.bytes < HANDLE_BYTES {
        return Err(Errno::EOVERFLOW);
    }
    to.offset(size_of::<Header>() as u64)?.write(&[GENERATION, number as u32, (number >> 32) as u32])?;
    Ok(0)
}

/// `open_by_handle_at(mount, handle, flags)`.
fn open_by_handle(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let credentials = thread.process.credentials();
    if !credentials.is_privileged() {
        return Err(Errno::EPERM);
    }
    let from = pointer(thread, args[1]);
    let header: Header = from.read()?;
    if header.bytes == 0 || header.bytes > MAX_HANDLE_BYTES {
        return Err(Errno::EINVAL);
    }
    let mount = if args[0] as i32 == CURRENT_DIRECTORY as i32 {
        thread.process.fs.borrow().cwd.mount.clone()
    } else {
        file(thread, args[0])?.location().ok_or(Errno::ESTALE)?.mount.clone()
    };
    if header.bytes < HANDLE_BYTES || header.kind != HANDLE_KIND || !mount.filesystem().is_stored() {
        return Err(Errno::ESTALE);
    }
    let [generation, low, high]: [u32; 3] = from.offset(size_of::<Header>() as u64)?.read()?;
    let number = u64::from(low) | u64::from(high) << 32;
    let dentry = find(mount.root(), number).filter(|_| generation == GENERATION).ok_or(Errno::ESTALE)?;
    let context = thread.process.fs.borrow().clone();
    let terminal = || thread.server().controlling_terminal(thread.process.session());
    let opener = Opener {
        actor: Actor { context: &context, credentials: &credentials },
        devices: context.namespace.devices(),
        terminal: &terminal,
    };
    let how = How::lenient(args[2] as u32, 0);
    match open::open_found(opener, Location { mount, dentry }, how)? {
        Opened::File(file) | Opened::Waiting(file, _) => {
            tty::opened(thread, &file, how.flags);
            install(thread, file, how.flags)
        }
    }
}

/// A name of the file with this number, at or below a directory.
fn find(root: &Rc<Dentry>, number: u64) -> Option<Rc<Dentry>> {
    if root.inode().number() == number {
        return Some(root.clone());
    }
    let mut open = Vec::from([root.clone()]);
    while let Some(directory) = open.pop() {
        let names = directory.inode().directory().ok()?;
        let (mut found, mut below) = (None, Vec::new());
        let listed = names.list(FIRST_ENTRY, &mut |entry| {
            if entry.inode == number {
                found = Some(entry.name.to_vec());
                return Listing::Stop;
            }
            if entry.file_type == linux::S_IFDIR {
                below.push(entry.name.to_vec());
            }
            Listing::Continue
        });
        listed.ok()?;
        if let Some(name) = found {
            return names.lookup(&directory, &name).ok();
        }
        open.extend(below.iter().filter_map(|name| names.lookup(&directory, name).ok()));
    }
    None
}
