//! `shmget`, `shmat`, `shmdt`, `shmctl`.

use super::{By, Check, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, READ, WRITE};
use super::{for_status, id, object, pointer, who};
use crate::calls::residence::lock_limit;
use crate::calls::{Arguments, SystemCall};
use crate::errno::{Errno, Result};
use crate::platform::{PAGE_SIZE, Protection, Sharing};
use crate::process::{Server, Thread};
use crate::sysv::segments::{Attachment, LOCKED, Limits, MAX_SEGMENTS, MAX_TOTAL, Segment};
use crate::sysv::{Object, Permissions, Shown, Table};
use crate::vm::{Content, Lock, MapRequest, Placement};
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

/// The calls of this file.
pub(in crate::calls) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_shmget, |t, a| shmget(t, a).into())
        .partly("SHM_HUGETLB: no huge pages are reserved, so ENOMEM, or EPERM without privilege"),
    SystemCall::new(linux::__NR_shmat, |t, a| shmat(t, a).into()).with_flags("SHM_RDONLY SHM_RND SHM_REMAP SHM_EXEC"),
    SystemCall::new(linux::__NR_shmdt, |t, a| t.process.vm().detach(a[0]).map(|()| 0).into()),
    SystemCall::new(linux::__NR_shmctl, |t, a| shmctl(t, a).into()),
];

/// The flag of `shmget`.
const SHM_HUGETLB: u64 = 0o4000;
/// Flags of `shmat`.
const SHM_RDONLY: u64 = 0o10000;
const SHM_RND: u64 = 0o20000;
const SHM_REMAP: u64 = 0o40000;
const SHM_EXEC: u64 = 0o100_000;
/// Commands of `shmctl`.
const SHM_LOCK: u64 = 11;
const SHM_UNLOCK: u64 = 12;
const SHM_STAT: u64 = 13;
const SHM_INFO: u64 = 14;
const SHM_STAT_ANY: u64 = 15;
/// Permission bits to execute.
const EXECUTE: u32 = 0o111;

/// `struct shmid64_ds`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SegmentStatus {
    permissions: Permissions,
    size_bytes: u64,
    attached_s: i64,
    detached_s: i64,
    changed_s: i64,
    maker: i32,
    last_user: i32,
    attachments: u64,
    unused: [u64; 2],
}

/// `struct shm_info`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SegmentUse {
    segments: i32,
    padding: i32,
    pages: u64,
    resident_pages: u64,
    swapped_pages: u64,
    unused: [u64; 2],
}

fn segments(thread: &Thread) -> &RefCell<Table<Segment>> {
    &thread.server().ipc.segments.table
}

/// What was set in `/proc/sys/kernel`.
fn limits(server: &Server) -> Limits {
    let settings = &server.settings;
    Limits {
        bytes: settings.large_number("kernel/shmmax", MAX_TOTAL),
        pages: settings.large_number("kernel/shmall", MAX_TOTAL),
        count: usize::try_from(settings.number("kernel/shmmni", MAX_SEGMENTS)).unwrap_or_default(),
    }
}

fn shmget(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [key, size, flags, ..] = *arguments;
    let server = thread.server();
    let limits = limits(server);
    let is_new = Cell::new(false);
    let make = || {
        if flags & SHM_HUGETLB != 0 {
            return Err(if who(thread).is_privileged() { Errno::ENOMEM } else { Errno::EPERM });
        }
        is_new.set(true);
        server.ipc.segments.make(size, thread.process.pid, limits)
    };
    let fits = |segment: &Segment| if size > segment.size_bytes { Err(Errno::EINVAL) } else { Ok(()) };
    let found =
        segments(thread).borrow_mut().find_or_make(id(key), flags as u32, &who(thread), limits.count, fits, make)?;
    if is_new.get() {
        server.ipc.segments.count(&found.body);
    }
    Ok(u64::try_from(found.id).unwrap_or_default())
}

/// Where `shmat` is to attach. `EINVAL`.
fn placement(address: u64, flags: u64, size_bytes: u64) -> Result<Placement> {
    let replaces = flags & SHM_REMAP != 0;
    let rounded = address / PAGE_SIZE * PAGE_SIZE;
    if address == 0 {
        return if replaces { Err(Errno::EINVAL) } else { Ok(Placement::Anywhere(0)) };
    }
    if rounded != address && (flags & SHM_RND == 0 || rounded == 0 && replaces) {
        return Err(Errno::EINVAL);
    }
    if !replaces && rounded.checked_add(size_bytes).is_none() {
        return Err(Errno::EINVAL);
    }
    Ok(if replaces { Placement::Fixed(rounded) } else { Placement::FixedIfFree(rounded) })
}

fn shmat(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [segment, address, flags, ..] = *arguments;
    if id(segment) < 0 {
        return Err(Errno::EINVAL);
    }
    placement(address, flags, 0)?;
    let segment = object(segments(thread), segment)?;
    let mut protection = Protection::READ;
    let mut wanted = READ;
    if flags & SHM_RDONLY == 0 {
        protection |= Protection::WRITE;
        wanted |= WRITE;
    }
    if flags & SHM_EXEC != 0 {
        protection |= Protection::EXECUTE;
        wanted |= EXECUTE;
    }
    segment.permissions.borrow().check(&who(thread), wanted)?;
    let placement = placement(address, flags, segment.body.size_bytes)?;
    let process = &thread.process;
    let attachment = Attachment::new(&thread.server().ipc.segments, &segment, process.pid, process.pid)?;
    let request = MapRequest {
        length: segment.body.size_bytes,
        placement,
        protection,
        allowed: protection | Protection::EXECUTE,
        sharing: Sharing::Shared,
        content: Content::Segment(Rc::new(attachment), 0),
        limit: process.limit(linux::RLIMIT_AS),
        data_limit: u64::MAX,
        lock: Lock::None,
        lock_limit: lock_limit(thread),
    };
    process.vm().map(request).map_err(|error| if error == Errno::EEXIST { Errno::EINVAL } else { error })
}

fn shmctl(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [segment, command, address, ..] = *arguments;
    let command = command & 0xffff_ffff;
    if id(segment) < 0 {
        return Err(Errno::EINVAL);
    }
    let table = segments(thread);
    match command {
        IPC_RMID => {
            let segment = object(table, segment)?;
            segment.permissions.borrow().check_owner(&who(thread))?;
            thread.server().ipc.segments.remove(&segment);
            Ok(0)
        }
        IPC_SET => set_segment(thread, segment, address),
        IPC_STAT => tell_segment(thread, for_status(thread, table, segment, By::Id, Check::Read)?, address),
        SHM_STAT => tell_segment(thread, for_status(thread, table, segment, By::Index, Check::Read)?, address),
        SHM_STAT_ANY => tell_segment(thread, for_status(thread, table, segment, By::Index, Check::Nothing)?, address),
        IPC_INFO => tell_limits(thread, address),
        SHM_INFO => tell_use(thread, address),
        SHM_LOCK => lock(thread, segment, Shown::Yes),
        SHM_UNLOCK => lock(thread, segment, Shown::No),
        _ => Err(Errno::EINVAL),
    }
}

fn set_segment(thread: &Thread, segment: u64, address: u64) -> Result<u64> {
    let new: SegmentStatus = pointer(thread, address).read()?;
    let segment = object(segments(thread), segment)?;
    segment.permissions.borrow().check_owner(&who(thread))?;
    segment.permissions.borrow_mut().change(&new.permissions);
    segment.touch();
    Ok(0)
}

fn tell_segment(thread: &Thread, (segment, result): (Rc<Object<Segment>>, u64), address: u64) -> Result<u64> {
    let body = &segment.body;
    let status = SegmentStatus {
        permissions: *segment.permissions.borrow(),
        size_bytes: body.size_bytes,
        attached_s: body.attached_s.get(),
        detached_s: body.detached_s.get(),
        changed_s: segment.changed_s.get(),
        maker: body.maker,
        last_user: body.last_user.get(),
        attachments: body.attachments(),
        unused: [0; 2],
    };
    pointer(thread, address).write(&status)?;
    Ok(result)
}

/// `struct shminfo64`: nine numbers.
fn tell_limits(thread: &Thread, address: u64) -> Result<u64> {
    let limits = limits(thread.server());
    let count = limits.count as u64;
    pointer(thread, address).write(&[limits.bytes, 1, count, count, limits.pages, 0, 0, 0, 0])?;
    Ok(u64::try_from(segments(thread).borrow().highest_index()).unwrap_or_default())
}

fn tell_use(thread: &Thread, address: u64) -> Result<u64> {
    let table = segments(thread).borrow();
    let mut used = SegmentUse::new_zeroed();
    used.segments = i32::try_from(table.len()).unwrap_or(i32::MAX);
    used.pages = thread.server().ipc.segments.pages();
    used.resident_pages = table.iter().map(|segment| segment.body.memory.resident_pages()).sum();
    pointer(thread, address).write(&used)?;
    Ok(u64::try_from(table.highest_index()).unwrap_or_default())
}

/// Keeps a segment in memory, where all of them stay anyway. `EPERM`.
fn lock(thread: &Thread, segment: u64, shown: Shown) -> Result<u64> {
    let segment = object(segments(thread), segment)?;
    let credentials = who(thread);
    segment.permissions.borrow().check_owner(&credentials)?;
    let limit = thread.process.limit(linux::RLIMIT_MEMLOCK);
    if shown == Shown::Yes && !credentials.is_privileged() {
        if limit == 0 {
            return Err(Errno::EPERM);
        }
        if segment.body.pages() > limit / PAGE_SIZE {
            return Err(Errno::ENOMEM);
        }
    }
    segment.permissions.borrow_mut().show(LOCKED, shown);
    Ok(0)
}
