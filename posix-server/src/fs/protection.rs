//! What keeps users from being led astray by what others leave in directories like `/tmp` (`protected_symlinks` and its kin,
//! `proc_sys_fs(5)`). All of it is off until it is turned on in `/proc/sys/fs`.

use super::walk::Actor;
use super::{Body, Inode};
use crate::cred::Access;
use crate::errno::{Errno, Result};
use core::sync::atomic::{AtomicU8, Ordering};
use linux_raw_sys::general as linux;

/// How far a protection goes: 0 is off.
pub struct Level(AtomicU8);

impl Level {
    const fn off() -> Self {
        Self(AtomicU8::new(0))
    }

    /// How far it goes.
    pub fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets that.
    pub fn set(&self, level: u8) {
        self.0.store(level, Ordering::Relaxed);
    }
}

/// `protected_symlinks`.
pub static LINKS: Level = Level::off();
/// `protected_hardlinks`.
pub static NAMES: Level = Level::off();
/// `protected_fifos`.
pub static FIFOS: Level = Level::off();
/// `protected_regular`.
pub static FILES: Level = Level::off();

/// Whether a symbolic link at the end of a path is followed: in a sticky directory that all may write, only one's own links are,
/// and those of the directory's owner. `EACCES`.
pub fn check_follow(actor: Actor<'_>, directory: &Inode, link: &Inode) -> Result<()> {
    const SHARED: u32 = linux::S_ISVTX | linux::S_IWOTH;
    let is_foreign = || actor.credentials.fsuid != link.uid() && directory.uid() != link.uid();
    let is_refused = LINKS.get() > 0 && directory.mode() & SHARED == SHARED && is_foreign();
    if is_refused { Err(Errno::EACCES) } else { Ok(()) }
}

/// Whether a file gets one more name: not somebody else's that is special, or runs in another's name, or that the caller could not
/// read and write. `EPERM`.
pub fn check_name(actor: Actor<'_>, inode: &Inode) -> Result<()> {
    const GROUP_RUNS: u32 = linux::S_ISGID | linux::S_IXGRP;
    let mode = inode.mode();
    let is_harmless = || {
        matches!(inode.body(), Body::Regular(_))
            && mode & linux::S_ISUID == 0
            && mode & GROUP_RUNS != GROUP_RUNS
            && inode.check_access(actor.credentials, Access::READ | Access::WRITE).is_ok()
    };
    let is_allowed = NAMES.get() == 0 || actor.credentials.is_owner_or_privileged(inode.uid()) || is_harmless();
    if is_allowed { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether `open` with `O_CREAT` takes a file that is there already: in a sticky directory that others may write, not one that somebody
/// else has left there. `EACCES`.
pub fn check_reuse(actor: Actor<'_>, directory: &Inode, inode: &Inode) -> Result<()> {
    let level = match inode.body() {
        Body::Fifo(_) => FIFOS.get(),
        Body::Regular(_) => FILES.get(),
        Body::Directory(_)
        | Body::Link(_)
        | Body::CharacterDevice(_)
        | Body::BlockDevice(_)
        | Body::Socket
        | Body::Anonymous
        | Body::Generated(_) => 0,
    };
    let mode = directory.mode();
    let is_known = inode.uid() == directory.uid() || inode.uid() == actor.credentials.fsuid;
    if level == 0 || mode & linux::S_ISVTX == 0 || is_known {
        return Ok(());
    }
    let is_refused = mode & linux::S_IWOTH != 0 || mode & linux::S_IWGRP != 0 && level > 1;
    if is_refused { Err(Errno::EACCES) } else { Ok(()) }
}
