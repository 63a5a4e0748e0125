//! Calls on what stays in memory. Nothing is ever paged out, so locks are only counted.

use super::{Arguments, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::platform::PAGE_SIZE;
use crate::process::Thread;
use crate::vm::Lock;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

const ON_USE: &str = "pages come when they are used, as with MLOCK_ONFAULT; none ever goes";

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_mincore, |t, a| mincore(t, a).into()),
    SystemCall::new(linux::__NR_mlock, |t, a| lock(t, a[0], a[1], Lock::All).into()).partly(ON_USE),
    SystemCall::new(linux::__NR_mlock2, |t, a| mlock2(t, a).into()).partly(ON_USE).with_flags("MLOCK_ONFAULT"),
    SystemCall::new(linux::__NR_munlock, |t, a| unlock(t, a[0], a[1]).into()),
    SystemCall::new(linux::__NR_mlockall, |t, a| lock_all(t, a[0]).into())
        .partly(ON_USE)
        .with_flags("MCL_CURRENT MCL_FUTURE MCL_ONFAULT"),
    SystemCall::new(linux::__NR_munlockall, |t, _| {
        unlock_all(t);
        Ok(0).into()
    }),
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

/// How much the caller may have locked, in bytes; `u64::MAX` if all.
pub(super) fn lock_limit(thread: &Thread) -> u64 {
    if thread.process.credentials().is_privileged() { u64::MAX } else { thread.process.limit(linux::RLIMIT_MEMLOCK) }
}

/// The same. `EPERM` if nothing.
pub(super) fn lockable(thread: &Thread) -> Result<u64> {
    match lock_limit(thread) {
        0 => Err(Errno::EPERM),
        limit => Ok(limit),
    }
}

/// A range rounded to whole pages as Linux does it: the length may wrap to nothing.
fn whole_pages(address: u64, length: u64) -> (u64, u64) {
    let start = address / PAGE_SIZE * PAGE_SIZE;
    let length = length.wrapping_add(address - start).wrapping_add(PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
    (start, length)
}

fn lock(thread: &Thread, address: u64, length: u64, lock: Lock) -> Result<()> {
    let limit = lockable(thread)?;
    let (start, length) = whole_pages(address, length);
    let vm = thread.process.vm();
    if vm.locked_bytes_with(start, length) > limit {
        return Err(Errno::ENOMEM);
    }
    vm.set_lock(start, length, lock)
}

fn mlock2(thread: &Thread, arguments: &Arguments) -> Result<()> {
    let [address, length, flags, ..] = *arguments;
    let kind = match flags as u32 {
        0 => Lock::All,
        linux::MLOCK_ONFAULT => Lock::Used,
        _ => return Err(Errno::EINVAL),
    };
    lock(thread, address, length, kind)
}

fn unlock(thread: &Thread, address: u64, length: u64) -> Result<()> {
    let (start, length) = whole_pages(address, length);
    thread.process.vm().set_lock(start, length, Lock::None)
}

fn lock_all(thread: &Thread, flags: u64) -> Result<()> {
    let known = linux::MCL_CURRENT | linux::MCL_FUTURE | linux::MCL_ONFAULT;
    let flags = flags as u32;
    if flags & !known != 0 || flags & !linux::MCL_ONFAULT == 0 {
        return Err(Errno::EINVAL);
    }
    let limit = lockable(thread)?;
    let vm = thread.process.vm();
    let current = flags & linux::MCL_CURRENT != 0;
    if current && vm.virtual_bytes() > limit {
        return Err(Errno::ENOMEM);
    }
    let kind = if flags & linux::MCL_ONFAULT != 0 { Lock::Used } else { Lock::All };
    vm.set_future_lock(if flags & linux::MCL_FUTURE != 0 { kind } else { Lock::None });
    if current {
        vm.lock_all(kind);
    }
    Ok(())
}

fn unlock_all(thread: &Thread) {
    let vm = thread.process.vm();
    vm.set_future_lock(Lock::None);
    vm.lock_all(Lock::None);
}
