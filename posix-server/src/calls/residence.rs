//! Calls on what stays in memory. Nothing is ever paged out, so they only check what they are asked.

use super::{Arguments, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::platform::PAGE_SIZE;
use crate::process::Thread;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

const NOT_LOCKED: &str = "locks are checked and granted, not counted in `VmLck`: nothing is ever paged out";

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_mincore, |t, a| mincore(t, a).into()),
    SystemCall::new(linux::__NR_mlock, |t, a| lock(t, a[0], a[1]).into()).partly(NOT_LOCKED),
    SystemCall::new(linux::__NR_mlock2, |t, a| mlock2(t, a).into()).partly(NOT_LOCKED).with_flags("MLOCK_ONFAULT"),
    SystemCall::new(linux::__NR_munlock, |t, a| check_range(t, a[0], a[1]).into()).partly(NOT_LOCKED),
    SystemCall::new(linux::__NR_mlockall, |t, a| lock_all(t, a[0]).into())
        .partly(NOT_LOCKED)
        .with_flags("MCL_CURRENT MCL_FUTURE MCL_ONFAULT"),
    SystemCall::new(linux::__NR_munlockall, |_, _| Ok(0).into()).partly(NOT_LOCKED),
];

/// All that is mapped counts as resident.
fn mincore(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    const RESIDENT: [u8; 256] = [1; 256];
    let [address, length, vector, ..] = *arguments;
    let vm = thread.process.vm();
    let covered = vm.covered_part(address, length)?;
    let mut pages = covered / PAGE_SIZE;
    let mut to = pointer(thread, vector);
    while pages > 0 {
        let count = pages.min(RESIDENT.len() as u64);
        to.write_bytes(RESIDENT.get(..count as usize).unwrap_or_default())?;
        to = to.offset(count)?;
        pages -= count;
    }
    vm.check_covered(address, length).map(drop)
}

/// The range, rounded to whole pages as Linux does it: the length may wrap to nothing. `EINVAL`, `ENOMEM`.
fn check_range(thread: &Thread, address: u64, length: u64) -> Result<()> {
    let start = address / PAGE_SIZE * PAGE_SIZE;
    let unrounded = length.wrapping_add(address - start);
    let length = unrounded.wrapping_add(PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
    if length == 0 {
        return Ok(());
    }
    start.checked_add(length).ok_or(Errno::EINVAL)?;
    thread.process.vm().check_covered(start, length).map(drop)
}

/// How much the caller may lock, in bytes. `EPERM` if nothing.
fn lockable(thread: &Thread) -> Result<u64> {
    let limit = if thread.process.credentials().is_privileged() {
        u64::MAX
    } else {
        thread.process.limit(linux::RLIMIT_MEMLOCK)
    };
    if limit == 0 { Err(Errno::EPERM) } else { Ok(limit) }
}

fn lock(thread: &Thread, address: u64, length: u64) -> Result<()> {
    let limit = lockable(thread)?;
    let rounded = length.wrapping_add(address % PAGE_SIZE + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
    if rounded > limit { Err(Errno::ENOMEM) } else { check_range(thread, address, length) }
}

fn mlock2(thread: &Thread, arguments: &Arguments) -> Result<()> {
    let [address, length, flags, ..] = *arguments;
    if flags as u32 & !linux::MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    lock(thread, address, length)
}

fn lock_all(thread: &Thread, flags: u64) -> Result<()> {
    let known = linux::MCL_CURRENT | linux::MCL_FUTURE | linux::MCL_ONFAULT;
    let flags = flags as u32;
    if flags & !known != 0 || flags & !linux::MCL_ONFAULT == 0 {
        return Err(Errno::EINVAL);
    }
    let is_too_much = flags & linux::MCL_CURRENT != 0 && thread.process.vm().virtual_bytes() > lockable(thread)?;
    if is_too_much { Err(Errno::ENOMEM) } else { Ok(()) }
}
