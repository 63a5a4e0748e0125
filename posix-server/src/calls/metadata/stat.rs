//! `stat`, its kin, and `statx`.

use super::times::TimeSpec;
use super::{Arguments, Found, find};
use crate::calls::blocking::file;
use crate::calls::names::{CURRENT_DIRECTORY, place};
use crate::errno::{Errno, Result};
use crate::fs::inode::TimeNs;
use crate::fs::walk::LastLink;
use crate::fs::{Inode, Location};
use crate::platform;
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The unit in which programs are advised to read and write, in bytes.
const PREFERRED_IO_BYTES: u64 = platform::PAGE_SIZE;

/// `struct stat`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Stat {
    device: u64,
    inode: u64,
    links: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    padding: u32,
    represented_device: u64,
    size: i64,
    preferred_io: i64,
    blocks: i64,
    accessed: TimeSpec,
    modified: TimeSpec,
    changed: TimeSpec,
    unused: [i64; 3],
}

/// The unit in which programs are advised to read and write a file, in bytes.
fn preferred_io_bytes(inode: &Inode) -> u64 {
    inode.filesystem().volume().map_or(PREFERRED_IO_BYTES, |volume| volume.geometry().block_bytes)
}

impl Stat {
    fn of(inode: &Inode) -> Self {
        let times = inode.times();
        Self {
            device: inode.filesystem().device().encoded(),
            inode: inode.number(),
            links: u64::from(inode.links()),
            mode: inode.mode(),
            uid: inode.uid(),
            gid: inode.gid(),
            represented_device: inode.device().encoded(),
            size: inode.size() as i64,
            preferred_io: preferred_io_bytes(inode) as i64,
            blocks: inode.blocks() as i64,
            accessed: TimeSpec::from_ns(times.accessed),
            modified: TimeSpec::from_ns(times.modified),
            changed: TimeSpec::from_ns(times.changed),
            ..Self::default()
        }
    }
}

fn write_stat(thread: &Rc<Thread>, pointer: u64, inode: &Inode) -> Result<u64> {
    UserPtr::of_call(thread, pointer).write(&Stat::of(inode))?;
    Ok(0)
}

pub(super) fn stat_path(thread: &Rc<Thread>, args: &Arguments, last: LastLink) -> Result<u64> {
    let path = UserPtr::of_call(thread, args[0]).read_path()?;
    let place = place(thread, CURRENT_DIRECTORY, &path, last)?;
    write_stat(thread, args[1], place.inode())
}

pub(super) fn fstat(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = file(thread, args[0])?;
    write_stat(thread, args[1], file.inode())
}

pub(super) fn fstatat(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let flags = args[3] as u32;
    let allowed = linux::AT_SYMLINK_NOFOLLOW | linux::AT_NO_AUTOMOUNT | linux::AT_EMPTY_PATH;
    if flags & !allowed != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(thread, args[0], args[1], flags)?;
    write_stat(thread, args[2], &found.inode)
}

/// `struct statx_timestamp`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct StatxTime {
    seconds: i64,
    nanoseconds: u32,
    reserved: i32,
}

impl StatxTime {
    fn from_ns(time: TimeNs) -> Self {
        let TimeSpec { seconds, nanoseconds } = TimeSpec::from_ns(time);
        Self { seconds, nanoseconds: nanoseconds as u32, reserved: 0 }
    }
}

/// `struct statx`, up to what is filled in.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Statx {
    mask: u32,
    preferred_io: u32,
    attributes: u64,
    links: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    spare: u16,
    inode: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    accessed: StatxTime,
    born: StatxTime,
    changed: StatxTime,
    modified: StatxTime,
    represented_major: u32,
    represented_minor: u32,
    device_major: u32,
    device_minor: u32,
    mount: u64,
    rest: [u64; 13],
}

pub(super) fn statx(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let (flags, mask) = (args[2] as u32, args[3] as u32);
    let allowed = linux::AT_SYMLINK_NOFOLLOW
        | linux::AT_NO_AUTOMOUNT
        | linux::AT_EMPTY_PATH
        | linux::AT_STATX_FORCE_SYNC
        | linux::AT_STATX_DONT_SYNC;
    let contradicts = flags & linux::AT_STATX_SYNC_TYPE == linux::AT_STATX_SYNC_TYPE;
    if mask & linux::STATX__RESERVED != 0 || flags & !allowed != 0 || contradicts {
        return Err(Errno::EINVAL);
    }
    let found = find(thread, args[0], args[1], flags)?;
    let record = statx_record(&found, mask);
    UserPtr::of_call(thread, args[4]).write(&record)?;
    Ok(0)
}

/// Flags that a file may have, and that are told even if it has none of them.
const KNOWN_ATTRIBUTES: u32 = linux::STATX_ATTR_IMMUTABLE
    | linux::STATX_ATTR_APPEND
    | linux::STATX_ATTR_NODUMP
    | linux::STATX_ATTR_AUTOMOUNT
    | linux::STATX_ATTR_MOUNT_ROOT
    | linux::STATX_ATTR_DAX;

fn statx_record(found: &Found, wanted: u32) -> Statx {
    let inode = &found.inode;
    let times = inode.times();
    let (device, represented) = (inode.filesystem().device(), inode.device());
    let is_mount_root = found.place.as_ref().is_some_and(Location::is_mount_root);
    // Every mount's number is its own for good, so both kinds of number are the same.
    let mount_mask =
        if wanted & linux::STATX_MNT_ID_UNIQUE != 0 { linux::STATX_MNT_ID_UNIQUE } else { linux::STATX_MNT_ID };
    let born = if inode.filesystem().is_stored() { linux::STATX_BTIME } else { 0 };
    Statx {
        mask: linux::STATX_BASIC_STATS | born | mount_mask,
        attributes: if is_mount_root { u64::from(linux::STATX_ATTR_MOUNT_ROOT) } else { 0 },
        attributes_mask: u64::from(KNOWN_ATTRIBUTES),
        mount: found.place.as_ref().map_or(0, |place| place.mount.id()),
        preferred_io: preferred_io_bytes(inode) as u32,
        links: inode.links(),
        uid: inode.uid(),
        gid: inode.gid(),
        mode: inode.mode() as u16,
        inode: inode.number(),
        size: inode.size(),
        blocks: inode.blocks(),
        accessed: StatxTime::from_ns(times.accessed),
        born: StatxTime::from_ns(times.born),
        changed: StatxTime::from_ns(times.changed),
        modified: StatxTime::from_ns(times.modified),
        represented_major: represented.major,
        represented_minor: represented.minor,
        device_major: device.major,
        device_minor: device.minor,
        ..Statx::default()
    }
}
