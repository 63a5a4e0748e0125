//! Calls that hardly any program makes: file systems by number, the log of the kernel, swapping, quotas.

use super::blocking::{self, Woken, usable_file};
use super::names::{CURRENT_DIRECTORY, place};
use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::fs::walk::LastLink;
use crate::fs::{DeviceNumber, TYPES};
use crate::process::Thread;
use crate::user::UserPtr;
use crate::wait::Listener;
use alloc::format;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_ustat, |t, a| ustat(t, a).into()),
    SystemCall::new(linux::__NR_sysfs, |t, a| sysfs(t, a).into()),
    SystemCall::new(linux::__NR_syslog, syslog)
        .partly("the log has one line; what is written to it elsewhere is the console's"),
    SystemCall::new(linux::__NR_swapon, |t, a| swapon(t, a).into())
        .partly("the partition that is there is taken at the start, for good: EINVAL"),
    SystemCall::new(linux::__NR_swapoff, |t, a| swap_path(t, a[0]).and(Err::<u64, _>(Errno::EINVAL)).into())
        .partly("the partition that is there is taken at the start, for good: EINVAL"),
    SystemCall::new(linux::__NR_quotactl, |t, a| quotactl(t, a).into())
        .partly("there are no block devices, so no quotas: ENODEV, ENOTBLK"),
    SystemCall::new(linux::__NR_quotactl_fd, |t, a| quotactl_fd(t, a).into())
        .partly("no file system has quotas: ENOSYS"),
];

/// `struct ustat`: free blocks, free inodes, two names of six bytes; 32 bytes with what fills it up.
fn ustat(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let wanted = DeviceNumber::from_encoded(arguments[0]);
    let mounts = thread.process.fs.borrow().namespace.mounts();
    let filesystem = mounts.iter().map(|mount| mount.filesystem()).find(|filesystem| filesystem.device() == wanted);
    let filesystem = filesystem.ok_or(Errno::EINVAL)?;
    let (blocks, inodes) = if filesystem.is_stored() {
        (filesystem.pages().1, filesystem.max_inodes().saturating_sub(filesystem.inodes()))
    } else {
        (0, 0)
    };
    // The number of blocks has 32 bits only.
    pointer(thread, arguments[1]).write(&[blocks & 0xffff_ffff, inodes, 0, 0])?;
    Ok(0)
}

/// Types of file systems by name and by number. `EINVAL`, `EFAULT`.
fn sysfs(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    /// Longer than any name.
    const MAX_NAME: usize = 4096;
    let [option, first, second, ..] = *arguments;
    match option as u32 {
        1 => {
            let name = UserPtr::new(&thread.space(), first).read_c_string(MAX_NAME)?;
            let index = TYPES.iter().position(|kind| kind.name.as_bytes() == name).ok_or(Errno::EINVAL)?;
            Ok(index as u64)
        }
        2 => {
            let index = usize::try_from(first as u32).map_err(|_| Errno::EINVAL)?;
            let kind = TYPES.get(index).ok_or(Errno::EINVAL)?;
            let name: Vec<u8> = kind.name.bytes().chain([0]).collect();
            pointer(thread, second).write_bytes(&name)?;
            Ok(0)
        }
        3 => Ok(TYPES.len() as u64),
        _ => Err(Errno::EINVAL),
    }
}

/// The size of the log, in bytes.
const LOG_BYTES: u64 = 131_072;
const READ: u32 = 2;
const READ_ALL: u32 = 3;
const READ_CLEAR: u32 = 4;
const LEVEL: u32 = 8;
const UNREAD: u32 = 9;
const SIZE: u32 = 10;

/// What the log says.
fn log() -> Vec<u8> {
    format!("<5>[    0.000000] Linux version {}\n", crate::fs::procfs::RELEASE).into_bytes()
}

/// The log of the kernel (`syslog(2)`).
fn syslog(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [action, address, length, ..] = *arguments;
    let (action, length) = (action as u32, length as i32);
    let is_open = matches!(action, READ_ALL | SIZE) && thread.server().settings.number("kernel/dmesg_restrict", 0) == 0;
    if !is_open && !thread.process.credentials().is_privileged() {
        return Errno::EPERM.into();
    }
    match action {
        // Opening, closing, clearing, and what the console shows: all without effect.
        0 | 1 | 5..=7 => Ok(0).into(),
        LEVEL if (1..=8).contains(&length) => Ok(0).into(),
        READ | READ_ALL | READ_CLEAR => match u64::try_from(length) {
            Ok(_) if address == 0 => Errno::EINVAL.into(),
            Ok(0) => Ok(0).into(),
            // Nothing new ever comes.
            Ok(_) if action == READ => Outcome::block(nothing(thread.clone())),
            Ok(length) => read_log(thread, address, length).into(),
            Err(_) => Errno::EINVAL.into(),
        },
        UNREAD => Ok(0).into(),
        SIZE => Ok(LOG_BYTES).into(),
        _ => Errno::EINVAL.into(),
    }
}

/// Hands over the last lines that fit.
fn read_log(thread: &Thread, address: u64, length: u64) -> Result<u64> {
    let log = log();
    let shown = if log.len() as u64 <= length { log.as_slice() } else { &[] };
    pointer(thread, address).write_bytes(shown)?;
    Ok(shown.len() as u64)
}

async fn nothing(thread: Rc<Thread>) -> Result<u64> {
    loop {
        if blocking::wait(&thread, Listener::new(), None).await == Woken::Interrupted {
            return Err(Errno::RESTART);
        }
    }
}

/// The place of something to swap to. `EPERM`, `ENOENT` and so on.
fn swap_path(thread: &Rc<Thread>, path: u64) -> Result<crate::fs::Location> {
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    let path = UserPtr::new(&thread.space(), path).read_path()?;
    place(thread, CURRENT_DIRECTORY, &path, LastLink::Follow)
}

fn swapon(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    /// `SWAP_FLAG_PREFER`, its priority, and `SWAP_FLAG_DISCARD` in all its forms.
    const KNOWN_FLAGS: u32 = 0x8000 | 0x7fff | 0x7_0000;
    if arguments[1] as u32 & !KNOWN_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    swap_path(thread, arguments[0])?;
    Err(Errno::EINVAL)
}

/// The kinds of quotas (`MAXQUOTAS`).
const QUOTA_KINDS: u32 = 3;
/// `Q_SYNC`.
const QUOTA_SYNC: u32 = 0x80_0001;

/// A command for quotas, and its kind: `EINVAL` if there is no such kind.
fn quota_command(command: u64) -> Result<u32> {
    const KIND_BITS: u32 = 8;
    let command = command as u32;
    if command & ((1 << KIND_BITS) - 1) >= QUOTA_KINDS { Err(Errno::EINVAL) } else { Ok(command >> KIND_BITS) }
}

fn quotactl(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let command = quota_command(arguments[0])?;
    if arguments[1] == 0 {
        return if command == QUOTA_SYNC { Ok(0) } else { Err(Errno::ENODEV) };
    }
    let path = UserPtr::new(&thread.space(), arguments[1]).read_path()?;
    place(thread, CURRENT_DIRECTORY, &path, LastLink::Follow)?;
    Err(Errno::ENOTBLK)
}

fn quotactl_fd(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    usable_file(thread, arguments[0])?;
    quota_command(arguments[1])?;
    Err(Errno::ENOSYS)
}
