//! Calls that open files by their paths.

use super::blocking::{self, Woken};
use super::files::{descriptor_limit, install};
use super::{Arguments, Outcome, SystemCall, names, pointer, tty};
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::fs::notify;
use crate::fs::open::{self, How, Opened, Opener, PeerWait};
use crate::fs::walk::{Actor, Restrictions};
use crate::platform::PAGE_SIZE;
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_open, open),
    SystemCall::new(linux::__NR_openat, openat),
    SystemCall::new(linux::__NR_openat2, openat2),
    SystemCall::new(linux::__NR_creat, creat),
];

fn open(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    begin(thread, names::CURRENT_DIRECTORY, args[0], How::lenient(args[1] as u32, args[2] as u32))
}

fn creat(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    let flags = linux::O_CREAT | linux::O_WRONLY | linux::O_TRUNC;
    begin(thread, names::CURRENT_DIRECTORY, args[0], How::lenient(flags, args[1] as u32))
}

fn openat(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    begin(thread, args[0], args[1], How::lenient(args[2] as u32, args[3] as u32))
}

/// `struct open_how`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// `openat2(directory, path, how, size)`.
fn openat2(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    let how = read_extensible::<OpenHow>(&pointer(thread, args[2]), args[3])
        .and_then(|how| How::strict(how.flags, how.mode, how.resolve));
    match how {
        Ok(how) => begin(thread, args[0], args[1], how),
        Err(errno) => errno.into(),
    }
}

/// Reads a record that later versions may have made longer (`copy_struct_from_user`): what is beyond what is known must be
/// zero. `EINVAL` if it is shorter than its first version; `E2BIG` if it is longer than a page, or asks for the unknown.
pub(super) fn read_extensible<T: FromBytes + IntoBytes>(from: &UserPtr, size: u64) -> Result<T> {
    let known = size_of::<T>() as u64;
    if size < known {
        return Err(Errno::EINVAL);
    }
    if size > PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut unknown = [0; PAGE_SIZE as usize];
    let unknown = unknown.get_mut(..(size - known) as usize).unwrap_or_default();
    from.offset(known)?.read_bytes(unknown)?;
    if unknown.iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    from.read()
}

fn begin(thread: &Rc<Thread>, directory: u64, path: u64, how: How) -> Outcome {
    match try_open(thread, directory, path, how) {
        Ok(Opened::File(file)) => {
            notify::file(&file, notify::OPEN);
            tty::opened(thread, &file, how.flags);
            install(thread, file, how.flags).into()
        }
        Ok(Opened::Waiting(file, peer)) => Outcome::block(wait_for_peer(thread.clone(), file, peer, how.flags)),
        Err(errno) => errno.into(),
    }
}

fn try_open(thread: &Rc<Thread>, directory: u64, path: u64, how: How) -> Result<Opened> {
    let path = names::path(thread, path)?;
    thread.process.files.borrow().slots().check_room(descriptor_limit(thread))?;
    // In a root of its own, an absolute path begins at the directory, too.
    let scoped = how.restrictions.intersects(Restrictions::IN_ROOT | Restrictions::BENEATH);
    let start = names::start(thread, directory, if scoped { b"." } else { &path })?;
    let context = thread.process.fs.borrow();
    let credentials = thread.process.credentials();
    let terminal = || thread.server().controlling_terminal(thread.process.session());
    let opener = Opener {
        actor: Actor { context: &context, credentials: &credentials },
        devices: context.namespace.devices(),
        terminal: &terminal,
    };
    open::open(opener, &start, &path, how)
}

async fn wait_for_peer(thread: Rc<Thread>, file: Rc<OpenFile>, peer: PeerWait, flags: u32) -> Result<u64> {
    loop {
        let listener = peer.pipe().changed().listen();
        if peer.is_over() {
            notify::file(&file, notify::OPEN);
            return install(&thread, file, flags);
        }
        if blocking::wait(&thread, listener, None).await == Woken::Interrupted {
            return Err(Errno::RESTART);
        }
    }
}
