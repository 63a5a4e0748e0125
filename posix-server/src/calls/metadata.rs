//! Calls on what files are: `stat` and its kin, permissions, owners, times, sizes.

use super::blocking::{file, usable_file};
use super::names::{CURRENT_DIRECTORY, place, start};
use super::{Outcome, SystemCall};
use crate::cred::{Access, Credentials};
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::fs::content::MAX_SIZE_BYTES;
use crate::fs::inode::{PERMISSION_BITS, TimeNs, now};
use crate::fs::walk::{Actor, LastLink, Walk};
use crate::fs::{Inode, Location, MountFlags, notify};
use crate::platform;
use crate::process::Thread;
use crate::signal::{Signal, SignalInfo, deliver};
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

type Arguments = [u64; 6];

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_stat, |t, a| Outcome::Return(stat_path(t, a, LastLink::Follow))),
    SystemCall::new(linux::__NR_lstat, |t, a| Outcome::Return(stat_path(t, a, LastLink::Keep))),
    SystemCall::new(linux::__NR_fstat, |t, a| Outcome::Return(fstat(t, a))),
    SystemCall::new(linux::__NR_newfstatat, |t, a| Outcome::Return(fstatat(t, a))),
    SystemCall::new(linux::__NR_statx, |t, a| Outcome::Return(statx(t, a))),
    SystemCall::new(linux::__NR_statfs, |t, a| Outcome::Return(statfs(t, a))),
    SystemCall::new(linux::__NR_fstatfs, |t, a| Outcome::Return(fstatfs(t, a))),
    SystemCall::new(linux::__NR_access, |t, a| Outcome::Return(access(t, CURRENT_DIRECTORY, a[0], a[1], 0))),
    SystemCall::new(linux::__NR_faccessat, |t, a| Outcome::Return(access(t, a[0], a[1], a[2], 0))),
    SystemCall::new(linux::__NR_faccessat2, |t, a| Outcome::Return(access(t, a[0], a[1], a[2], a[3] as u32))),
    SystemCall::new(linux::__NR_chmod, |t, a| Outcome::Return(chmod(t, CURRENT_DIRECTORY, a[0], a[1], 0))),
    SystemCall::new(linux::__NR_fchmodat, |t, a| Outcome::Return(chmod(t, a[0], a[1], a[2], 0))),
    SystemCall::new(linux::__NR_fchmodat2, |t, a| Outcome::Return(chmod(t, a[0], a[1], a[2], a[3] as u32))),
    SystemCall::new(linux::__NR_fchmod, |t, a| Outcome::Return(fchmod(t, a))),
    SystemCall::new(linux::__NR_chown, |t, a| Outcome::Return(chown(t, &[CURRENT_DIRECTORY, a[0], a[1], a[2], 0, 0]))),
    SystemCall::new(linux::__NR_lchown, |t, a| {
        Outcome::Return(chown(t, &[CURRENT_DIRECTORY, a[0], a[1], a[2], NO_FOLLOW, 0]))
    }),
    SystemCall::new(linux::__NR_fchownat, |t, a| Outcome::Return(chown(t, a))),
    SystemCall::new(linux::__NR_fchown, |t, a| Outcome::Return(fchown(t, a))),
    SystemCall::new(linux::__NR_utimensat, |t, a| Outcome::Return(utimensat(t, a))),
    SystemCall::new(linux::__NR_utimes, |t, a| Outcome::Return(utimes(t, CURRENT_DIRECTORY, a[0], a[1]))),
    SystemCall::new(linux::__NR_futimesat, |t, a| Outcome::Return(utimes(t, a[0], a[1], a[2]))),
    SystemCall::new(linux::__NR_utime, |t, a| Outcome::Return(utime(t, a))),
    SystemCall::new(linux::__NR_truncate, |t, a| Outcome::Return(truncate(t, a))),
    SystemCall::new(linux::__NR_ftruncate, |t, a| Outcome::Return(ftruncate(t, a))),
];

const NO_FOLLOW: u64 = linux::AT_SYMLINK_NOFOLLOW as u64;
const NS_PER_SECOND: i64 = 1_000_000_000;
const NS_PER_MICROSECOND: i64 = 1_000;
/// The unit in which programs are advised to read and write, in bytes.
const PREFERRED_IO_BYTES: u64 = platform::PAGE_SIZE;

/// `struct timespec`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanoseconds: i64,
}

impl TimeSpec {
    fn from_ns(time: TimeNs) -> Self {
        let seconds = time.div_euclid(NS_PER_SECOND);
        Self { seconds, nanoseconds: time - seconds * NS_PER_SECOND }
    }
}

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

/// A file, and the place that it was found at, if it has one.
pub(super) struct Found {
    /// The file.
    pub inode: Rc<Inode>,
    /// The place.
    pub place: Option<Location>,
}

impl Found {
    fn at(place: Location) -> Self {
        Self { inode: place.inode().clone(), place: Some(place) }
    }

    /// Tells who watches it.
    pub(super) fn notify(&self, mask: u32) {
        match &self.place {
            Some(place) => notify::place(place, mask),
            None => notify::inode(&self.inode, mask),
        }
    }

    pub(super) fn of(file: &OpenFile) -> Self {
        Self { inode: file.inode().clone(), place: file.location().cloned() }
    }

    /// `EROFS` if its mount lets nothing change.
    pub(super) fn check_writable(&self) -> Result<()> {
        self.place.as_ref().map_or(Ok(()), Location::check_writable)
    }
}

/// The place that a descriptor, or a path from it, names; with `AT_EMPTY_PATH` in `flags`, an empty path is the descriptor.
pub(super) fn find(thread: &Rc<Thread>, directory: u64, pointer: u64, flags: u32) -> Result<Found> {
    let allows_empty = flags & linux::AT_EMPTY_PATH != 0;
    let path = if pointer == 0 && allows_empty {
        alloc::vec::Vec::new()
    } else {
        UserPtr::of_call(thread, pointer).read_path()?
    };
    if path.is_empty() && allows_empty {
        return find_descriptor(thread, directory);
    }
    let last = if flags & linux::AT_SYMLINK_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
    place(thread, directory, &path, last).map(Found::at)
}

fn find_descriptor(thread: &Rc<Thread>, fd: u64) -> Result<Found> {
    if fd as i32 == linux::AT_FDCWD {
        return Ok(Found::at(thread.process.fs.borrow().cwd.clone()));
    }
    Ok(Found::of(&*file(thread, fd)?))
}

fn write_stat(thread: &Rc<Thread>, pointer: u64, inode: &Inode) -> Result<u64> {
    UserPtr::of_call(thread, pointer).write(&Stat::of(inode))?;
    Ok(0)
}

fn stat_path(thread: &Rc<Thread>, args: &Arguments, last: LastLink) -> Result<u64> {
    let path = UserPtr::of_call(thread, args[0]).read_path()?;
    let place = place(thread, CURRENT_DIRECTORY, &path, last)?;
    write_stat(thread, args[1], place.inode())
}

fn fstat(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = file(thread, args[0])?;
    write_stat(thread, args[1], file.inode())
}

fn fstatat(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
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

fn statx(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
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

/// `struct statfs`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct StatFs {
    magic: u64,
    block_bytes: u64,
    blocks: u64,
    blocks_free: u64,
    blocks_available: u64,
    inodes: u64,
    inodes_free: u64,
    id: u64,
    name_max: u64,
    fragment_bytes: u64,
    flags: u64,
    spare: [u64; 4],
}

/// The flags of a mount as `statfs` shows them.
const SHOWN_FLAGS: [(MountFlags, u64); 7] = [
    (MountFlags::READ_ONLY, 0x1),
    (MountFlags::NO_SET_ID, 0x2),
    (MountFlags::NO_DEVICES, 0x4),
    (MountFlags::NO_EXECUTE, 0x8),
    (MountFlags::NO_ACCESS_TIME, 0x400),
    (MountFlags::NO_DIRECTORY_ACCESS_TIME, 0x800),
    (MountFlags::RELATIVE_ACCESS_TIME, 0x1000),
];

fn statfs_flags(found: &Found) -> u64 {
    /// `ST_VALID`: the flags mean something.
    const VALID: u64 = 0x20;
    /// `ST_NOSYMFOLLOW`.
    const NO_LINKS: u64 = 0x2000;
    let mut flags = found.place.as_ref().map(|place| place.mount.flags()).unwrap_or_default();
    flags.set(MountFlags::READ_ONLY, found.check_writable().is_err());
    let links = if flags.contains(MountFlags::NO_LINKS) { NO_LINKS } else { 0 };
    let shown = SHOWN_FLAGS.iter().filter(|(flag, _)| flags.contains(*flag));
    shown.fold(VALID | links, |all, (_, shown)| all | shown)
}

fn write_statfs(thread: &Rc<Thread>, pointer: u64, found: &Found) -> Result<u64> {
    let filesystem = found.inode.filesystem();
    let mut record = StatFs {
        magic: filesystem.kind().magic,
        block_bytes: platform::PAGE_SIZE,
        fragment_bytes: platform::PAGE_SIZE,
        id: filesystem.device().encoded(),
        name_max: u64::from(linux::NAME_MAX),
        flags: statfs_flags(found),
        ..StatFs::default()
    };
    if let Some(volume) = filesystem.volume() {
        let [blocks, free, available, inodes, inodes_free] = volume.free();
        let geometry = volume.geometry();
        (record.block_bytes, record.fragment_bytes) = (geometry.block_bytes, geometry.block_bytes);
        (record.blocks, record.blocks_free, record.blocks_available) = (blocks, free, available);
        (record.inodes, record.inodes_free) = (inodes, inodes_free);
        record.id = identity(geometry.uuid);
    } else if filesystem.is_stored() {
        let (total, free) = filesystem.pages();
        record.blocks = total;
        record.blocks_free = free;
        record.blocks_available = free;
        record.inodes = filesystem.max_inodes();
        record.inodes_free = filesystem.max_inodes().saturating_sub(filesystem.inodes());
    }
    UserPtr::of_call(thread, pointer).write(&record)?;
    Ok(0)
}

/// What `statfs` shows of a file system's UUID.
fn identity(uuid: [u8; 16]) -> u64 {
    let (halves, _) = uuid.as_chunks::<8>();
    halves.iter().fold(0, |all, half| all ^ u64::from_le_bytes(*half))
}

fn statfs(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let found = find(thread, CURRENT_DIRECTORY, args[0], 0)?;
    write_statfs(thread, args[1], &found)
}

fn fstatfs(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = file(thread, args[0])?;
    write_statfs(thread, args[1], &Found::of(&file))
}

fn access(thread: &Rc<Thread>, directory: u64, pointer: u64, mode: u64, flags: u32) -> Result<u64> {
    let allowed = linux::AT_EACCESS | linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH;
    let want = u8::try_from(mode as u32).ok().and_then(Access::from_bits).ok_or(Errno::EINVAL)?;
    if flags & !allowed != 0 {
        return Err(Errno::EINVAL);
    }
    let path = UserPtr::of_call(thread, pointer).read_path()?;
    let effective = thread.process.credentials();
    let credentials: Credentials =
        if flags & linux::AT_EACCESS != 0 { (*effective).clone() } else { effective.with_real_ids() };
    if path.is_empty() && flags & linux::AT_EMPTY_PATH != 0 {
        return check_access(&find_descriptor(thread, directory)?, &credentials, want);
    }
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let start = start(thread, directory, &path)?;
    let context = thread.process.fs.borrow().clone();
    let last = if flags & linux::AT_SYMLINK_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
    let place = Walk::new(Actor { context: &context, credentials: &credentials }).place(&start, &path, last)?;
    check_access(&Found::at(place), &credentials, want)
}

/// What `access` tells of a file: what its mount forbids counts, too. `EACCES`, `EROFS`.
fn check_access(found: &Found, credentials: &Credentials, want: Access) -> Result<u64> {
    let is_plain = found.inode.content().is_some();
    let no_execute = found.place.as_ref().is_some_and(|place| place.mount.flags().contains(MountFlags::NO_EXECUTE));
    if want.contains(Access::EXECUTE) && is_plain && no_execute {
        return Err(Errno::EACCES);
    }
    found.inode.check_access(credentials, want)?;
    let is_stored = is_plain || found.inode.is_directory() || found.inode.link().is_some();
    if want.contains(Access::WRITE) && is_stored {
        found.check_writable()?;
    }
    Ok(0)
}

fn set_mode(thread: &Rc<Thread>, found: &Found, mode: u64) -> Result<u64> {
    found.check_writable()?;
    let inode = &found.inode;
    let credentials = thread.process.credentials();
    if !credentials.is_owner_or_privileged(inode.uid()) {
        return Err(Errno::EPERM);
    }
    if inode.link().is_some() {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut permissions = mode as u32 & PERMISSION_BITS;
    if !credentials.is_privileged() && !credentials.is_in_group(inode.gid()) {
        permissions &= !linux::S_ISGID;
    }
    if let Some(content) = inode.content() {
        content.check_permissions(inode.mode(), permissions)?;
    }
    inode.set_permissions(permissions);
    found.notify(notify::ATTRIBUTES);
    Ok(0)
}

fn chmod(thread: &Rc<Thread>, directory: u64, pointer: u64, mode: u64, flags: u32) -> Result<u64> {
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(thread, directory, pointer, flags)?;
    set_mode(thread, &found, mode)
}

fn fchmod(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = usable_file(thread, args[0])?;
    set_mode(thread, &Found::of(&file), args[1])
}

/// The value of a user or group argument that means "as it is".
const UNCHANGED: u32 = u32::MAX;

fn set_owner(thread: &Rc<Thread>, found: &Found, uid: u64, gid: u64) -> Result<u64> {
    found.check_writable()?;
    let inode = &found.inode;
    let credentials = thread.process.credentials();
    let (uid, gid) = (uid as u32, gid as u32);
    let owns = credentials.fsuid == inode.uid();
    if !credentials.is_privileged() {
        if uid != UNCHANGED && !(owns && uid == inode.uid()) {
            return Err(Errno::EPERM);
        }
        if gid != UNCHANGED && !(owns && (credentials.is_in_group(gid) || gid == inode.gid())) {
            return Err(Errno::EPERM);
        }
    }
    let new_uid = if uid == UNCHANGED { inode.uid() } else { uid };
    let new_gid = if gid == UNCHANGED { inode.gid() } else { gid };
    inode.set_owner(new_uid, new_gid);
    if !inode.is_directory() {
        inode.clear_set_id();
    }
    if (uid, gid) != (UNCHANGED, UNCHANGED) {
        found.notify(notify::ATTRIBUTES);
    }
    Ok(0)
}

/// `fchownat(directory, path, user, group, flags)`.
fn chown(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let flags = args[4] as u32;
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(thread, args[0], args[1], flags)?;
    set_owner(thread, &found, args[2], args[3])
}

fn fchown(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = usable_file(thread, args[0])?;
    set_owner(thread, &Found::of(&file), args[1], args[2])
}

/// A time that a program wants a file to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NewTime {
    Now,
    Unchanged,
    At(TimeNs),
}

impl NewTime {
    fn from_spec(spec: TimeSpec) -> Result<Self> {
        match spec.nanoseconds {
            nanoseconds if nanoseconds == i64::from(linux::UTIME_NOW) => Ok(Self::Now),
            nanoseconds if nanoseconds == i64::from(linux::UTIME_OMIT) => Ok(Self::Unchanged),
            0..NS_PER_SECOND => {
                Ok(Self::At(spec.seconds.saturating_mul(NS_PER_SECOND).saturating_add(spec.nanoseconds)))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn or(self, old: TimeNs) -> TimeNs {
        match self {
            Self::Now => now(),
            Self::Unchanged => old,
            Self::At(time) => time,
        }
    }
}

fn set_times(thread: &Rc<Thread>, found: &Found, times: [NewTime; 2]) -> Result<u64> {
    found.check_writable()?;
    let inode = &found.inode;
    let credentials = thread.process.credentials();
    let owns = credentials.is_owner_or_privileged(inode.uid());
    if !owns && times == [NewTime::Now; 2] {
        inode.check_access(&credentials, Access::WRITE)?;
    } else if !owns {
        return Err(Errno::EPERM);
    }
    let old = inode.times();
    let [accessed, modified] = times;
    inode.set_times(crate::fs::Times {
        accessed: accessed.or(old.accessed),
        modified: modified.or(old.modified),
        changed: now(),
        ..old
    });
    found.notify(match times {
        [_, NewTime::Unchanged] => notify::ACCESS,
        [NewTime::Unchanged, _] => notify::MODIFY,
        [_, _] => notify::ATTRIBUTES,
    });
    Ok(0)
}

/// `utimensat(directory, path, times, flags)`; without a path, the descriptor itself.
fn utimensat(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let times = if args[2] == 0 {
        [NewTime::Now; 2]
    } else {
        let [accessed, modified]: [TimeSpec; 2] = UserPtr::of_call(thread, args[2]).read()?;
        [NewTime::from_spec(accessed)?, NewTime::from_spec(modified)?]
    };
    if times == [NewTime::Unchanged; 2] {
        return Ok(0);
    }
    let flags = args[3] as u32;
    if args[1] == 0 && args[0] as i32 != linux::AT_FDCWD {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let file = usable_file(thread, args[0])?;
        return set_times(thread, &Found::of(&file), times);
    }
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(thread, args[0], args[1], flags)?;
    set_times(thread, &found, times)
}

/// Times given as seconds and microseconds.
fn utimes(thread: &Rc<Thread>, directory: u64, path: u64, pointer: u64) -> Result<u64> {
    let mut times = [NewTime::Now; 2];
    if pointer != 0 {
        let given: [TimeSpec; 2] = UserPtr::of_call(thread, pointer).read()?;
        for (time, given) in times.iter_mut().zip(given) {
            let microseconds = given.nanoseconds;
            if !(0..NS_PER_SECOND / NS_PER_MICROSECOND).contains(&microseconds) {
                return Err(Errno::EINVAL);
            }
            let spec = TimeSpec { seconds: given.seconds, nanoseconds: microseconds * NS_PER_MICROSECOND };
            *time = NewTime::from_spec(spec)?;
        }
    }
    let found = if path == 0 && directory != CURRENT_DIRECTORY {
        find_descriptor(thread, directory)?
    } else {
        find(thread, directory, path, 0)?
    };
    set_times(thread, &found, times)
}

/// Times given as seconds.
fn utime(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let mut times = [NewTime::Now; 2];
    if args[1] != 0 {
        let given: [i64; 2] = UserPtr::of_call(thread, args[1]).read()?;
        times = given.map(|seconds| NewTime::At(seconds.saturating_mul(NS_PER_SECOND)));
    }
    let found = find(thread, CURRENT_DIRECTORY, args[0], 0)?;
    set_times(thread, &found, times)
}

/// Checks a size against `RLIMIT_FSIZE` where a file is to grow.
fn respect_size_limit(thread: &Rc<Thread>, inode: &Inode, size: u64) -> Result<()> {
    if size > inode.size() && size > thread.process.limit(linux::RLIMIT_FSIZE) {
        // It is the caller itself that is told; if its queue is full, the error has to do.
        let _ = deliver::send_to_thread(thread, SignalInfo::from_kernel(Signal::XFSZ));
        return Err(Errno::EFBIG);
    }
    Ok(())
}

pub(super) fn set_size(thread: &Rc<Thread>, inode: &Inode, size: u64) -> Result<u64> {
    respect_size_limit(thread, inode, size)?;
    inode.content().ok_or(Errno::EINVAL)?.set_size(size)?;
    inode.touch_modified();
    if !thread.process.credentials().is_privileged() {
        inode.clear_set_id();
    }
    Ok(0)
}

fn checked_size(size: u64) -> Result<u64> {
    if size > MAX_SIZE_BYTES { Err(Errno::EINVAL) } else { Ok(size) }
}

fn truncate(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let size = checked_size(args[1])?;
    let path = UserPtr::of_call(thread, args[0]).read_path()?;
    let place: Location = place(thread, CURRENT_DIRECTORY, &path, LastLink::Follow)?;
    let inode = place.inode();
    if inode.is_directory() {
        return Err(Errno::EISDIR);
    }
    let content = inode.content().ok_or(Errno::EINVAL)?;
    place.check_writable()?;
    inode.check_access(&thread.process.credentials(), Access::WRITE)?;
    content.begin_write()?;
    let result = set_size(thread, inode, size);
    content.end_write();
    result.inspect(|_| notify::place(&place, notify::MODIFY))
}

fn ftruncate(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let size = checked_size(args[1])?;
    let file = usable_file(thread, args[0])?;
    if file.inode().content().is_none() || !file.access().can_write() {
        return Err(Errno::EINVAL);
    }
    set_size(thread, file.inode(), size).inspect(|_| notify::file(&file, notify::MODIFY))
}
