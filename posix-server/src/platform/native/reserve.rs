//! The share of memory that programs have, its end, and what the server lends of its own reserve meanwhile.
//!
//! Whatever programs have made (pages, page tables, kernel objects, contents of files) is charged below one account, whose limits
//! leave the server and the drivers what they need. When that share is used up, a *fault* of a program waits until somebody
//! has given memory back. The *server* can't wait in the middle of a call: it lends the share some frames of its own, so that the
//! call goes on, and takes them back when there is room again.

use super::{MACHINE, Machine, machine};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use quire_api::abi::system::{AccountInfo, AccountLimits};
use quire_api::{Account, Error, system};

/// So many frames are none: one operation may need them. 1 MiB.
const FEW_FRAMES: u64 = 256;
/// So many bytes of the kernel's memory are none.
const FEW_KERNEL_BYTES: u64 = 256 << 10;
/// How many frames are lent at a time.
const LENT_FRAMES: u64 = 2 * FEW_FRAMES;
/// How much of the kernel's memory is lent at a time, in bytes.
const LENT_KERNEL_BYTES: u64 = 2 * FEW_KERNEL_BYTES;
/// How often it may lend before something came back: 8 MiB, half of the least reserve.
const MAX_LOANS: u64 = 4;
/// The part of the machine's memory that the kernel may need for what programs make: one in so many bytes.
const KERNEL_SHARE: u64 = 16;

/// The share, and what is lent to it.
pub(super) struct Share {
    account: Account,
    limits: AccountLimits,
    loans: AtomicU64,
    has_lent: AtomicBool,
    /// Pages that may lie in swap; they count as the frames that they were. It may be there only after a while.
    swap_pages: AtomicU64,
}

impl Share {
    /// A share of so many frames of the account, on a machine with `total_frames`.
    pub(super) fn new(account: &Account, frames: u64, total_frames: u64) -> Result<Self, Error> {
        let kernel_bytes = total_frames.saturating_mul(crate::platform::PAGE_SIZE) / KERNEL_SHARE;
        let limits = AccountLimits { frames, kernel_bytes };
        let account = account.create_child(&limits)?;
        Ok(Self {
            account,
            limits,
            loans: AtomicU64::new(0),
            has_lent: AtomicBool::new(false),
            swap_pages: AtomicU64::new(0),
        })
    }

    /// What pays for all that programs have made.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    fn is_used_up(&self) -> bool {
        let Ok(system) = system::system_info() else { return false };
        if self.swap_pages.swap(system.swap_total_pages, Ordering::Relaxed) != system.swap_total_pages {
            self.set_loans(self.loans.load(Ordering::Relaxed));
        }
        // What is cached and clean is taken back as it is needed.
        let clean = system.cached_frames.saturating_sub(system.unwritten_frames);
        self.account.info().is_ok_and(is_full) || system.free_frames + clean < FEW_FRAMES
    }

    /// Lends some more. False: that would not help, or it has lent too much.
    fn lend(&self) -> bool {
        let loans = self.loans.load(Ordering::Relaxed);
        if !self.is_used_up() {
            return false;
        }
        self.has_lent.store(true, Ordering::Relaxed);
        loans < MAX_LOANS && self.set_loans(loans + 1)
    }

    fn set_loans(&self, loans: u64) -> bool {
        let limits = AccountLimits {
            frames: self.limits.frames.saturating_add(self.swap_pages.load(Ordering::Relaxed) + loans * LENT_FRAMES),
            kernel_bytes: self.limits.kernel_bytes.saturating_add(loans * LENT_KERNEL_BYTES),
        };
        self.loans.store(loans, Ordering::Relaxed);
        self.account.set_limits(&limits).is_ok()
    }

    /// Takes back what it has lent, and tells whether there is room without it.
    fn settle(&self) -> bool {
        if self.loans.load(Ordering::Relaxed) != 0 && !self.set_loans(0) {
            return false;
        }
        !self.is_used_up()
    }
}

/// Whether hardly anything is left of an account.
pub(super) fn is_full(AccountInfo { limit, used }: AccountInfo) -> bool {
    limit.frames.saturating_sub(used.frames) < FEW_FRAMES
        || limit.kernel_bytes.saturating_sub(used.kernel_bytes) < FEW_KERNEL_BYTES
}

/// Does what needs memory of the programs' share, for a program; if there is none, some is lent and it is done again.
pub(super) fn with_reserve<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    match attempt() {
        Err(Error::AccountLimit | Error::NoMemory) if machine().is_ok_and(|machine| machine.share.lend()) => attempt(),
        result => result,
    }
}

fn share() -> Option<&'static Share> {
    MACHINE.get().map(|Machine { share, .. }| share)
}

/// Whether what programs may have together is used up.
pub fn memory_is_used_up() -> bool {
    share().is_some_and(Share::is_used_up)
}

/// Whether the server has lent memory since this was last asked: somebody has to give some back.
#[inline]
pub fn take_has_lent() -> bool {
    share().is_some_and(|share| share.has_lent.load(Ordering::Relaxed) && share.has_lent.swap(false, Ordering::Relaxed))
}

/// Takes back what was lent; tells whether there is room now.
pub fn settle_loans() -> bool {
    share().is_some_and(Share::settle)
}
