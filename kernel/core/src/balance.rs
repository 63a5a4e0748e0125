//! Keeping memory free: when pages are taken back, and when dirty ones are written back.
//!
//! Frames are taken back ahead of need, on the way out of whatever may have taken some, so that the kernel and the
//! servers find free ones without waiting for anybody. Only if that was not enough does a fault find none, and takes some back
//! itself before it gives up.

use crate::devices::Hardware;
use crate::kernel::Kernel;
use crate::memory::{FaultError, FaultKind};
use crate::pool::Id;
use crate::thread::Thread;
use quire_abi::thread::ExceptionKind;

/// How many frames a fault that found none tries to take back.
const AT_LEAST: u64 = 16;
/// How many more than there is need for are taken back at once, so that it is not done at every step.
const AHEAD: u64 = 32;
/// How often dirty memories are looked at, in ns. What is dirty is written back after two of these at the latest.
const DIRTY_PERIOD_NS: u64 = 1_000_000_000;

impl Kernel {
    /// A running thread used an address that its page tables don't allow. It goes on, or waits, or gets the exception that is
    /// returned.
    ///
    /// # Errors
    /// What the thread is to be told.
    pub fn page_fault(
        &mut self,
        m: &mut impl Hardware,
        thread: Id<Thread>,
        address: u64,
        kind: FaultKind,
    ) -> Result<(), ExceptionKind> {
        let Some(space) = self.thread(thread).map(|thread| thread.space) else { return Ok(()) };
        let mut resolved = self.memory.fault(m, space, address, kind);
        if resolved == Err(FaultError::NoMemory) && self.take_back(m, AT_LEAST) != 0 {
            resolved = self.memory.fault(m, space, address, kind);
        }
        if !matches!(resolved, Err(FaultError::NotPresent(_) | FaultError::NoMemory)) {
            // Why an earlier wait failed counts for the attempt after it only.
            self.forget_page_failure(thread);
        }
        let result = match resolved {
            Ok(()) => Ok(()),
            Err(FaultError::NotPresent(absent)) => {
                self.wait_for_page(m, thread, absent).map_err(|_| ExceptionKind::NoData)
            }
            Err(FaultError::NotMapped) => Err(ExceptionKind::NotMapped),
            Err(FaultError::AccessDenied) => Err(ExceptionKind::AccessDenied),
            Err(FaultError::BeyondEnd | FaultError::Revoked | FaultError::NoPager) => Err(ExceptionKind::NoData),
            Err(FaultError::NoMemory) => self.wait_for_memory(m, thread),
            Err(FaultError::AccountLimit) => Err(ExceptionKind::NoMemory),
        };
        self.balance(m);
        result
    }

    /// There is no frame for a running thread; but there may be one soon, when a pager has written something back. If it has
    /// waited in vain, it does not wait again.
    fn wait_for_memory(&mut self, m: &mut impl Hardware, thread: Id<Thread>) -> Result<(), ExceptionKind> {
        if self.forget_page_failure(thread) {
            return Err(ExceptionKind::NoMemory);
        }
        let under_way = self.memory.page_under_way().ok_or(ExceptionKind::NoMemory)?;
        self.wait_for_page(m, thread, under_way).map_err(|_| ExceptionKind::NoMemory)
    }

    /// Sees to it that there are free frames, and that what is dirty does not stay so.
    #[inline(always)]
    pub(crate) fn balance(&mut self, m: &mut impl Hardware) {
        if self.memory.has_cache() {
            self.balance_cache(m);
        }
    }

    #[inline(never)]
    fn balance_cache(&mut self, m: &mut impl Hardware) {
        let shortage = self.memory.shortage();
        let free = self.memory.frames().free();
        // Where nothing could be had, there is nothing more to be had before somebody has taken or given a frame.
        if shortage != 0 && self.free_in_vain != Some(free) {
            let freed = self.take_back(m, shortage + AHEAD);
            self.free_in_vain = (freed == 0).then_some(free);
        }
        if self.memory.unwritten_pages() != 0 && !self.alarms.is_armed(self.dirty_alarm) {
            self.alarms.arm(self.dirty_alarm, m.now_ns().saturating_add(DIRTY_PERIOD_NS));
        }
    }

    /// Takes frames back from the page caches; returns how many.
    fn take_back(&mut self, m: &mut impl Hardware, frames: u64) -> u64 {
        let reclaimed = self.memory.reclaim(m, frames);
        if reclaimed.asked {
            self.tell_pagers(m);
        }
        reclaimed.frames
    }

    /// Some time has passed since something became dirty.
    pub(crate) fn write_back_old(&mut self, m: &mut impl Hardware) {
        if self.memory.age_dirty() {
            self.tell_pagers(m);
        }
        if self.memory.unwritten_pages() != 0 {
            self.alarms.arm(self.dirty_alarm, m.now_ns().saturating_add(DIRTY_PERIOD_NS));
        }
    }

    fn tell_pagers(&mut self, m: &mut impl Hardware) {
        let mut index = 0;
        while let Some((id, _)) = self.pagers.next_from(index) {
            index = id.index().saturating_add(1);
            self.tell_pager(m, id);
        }
    }
}
