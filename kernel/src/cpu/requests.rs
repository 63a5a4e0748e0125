//! What one processor asks of others and waits for: to forget translations, or to leave user mode.
//!
//! 1. Whoever asks holds the kernel lock, so there is one request at a time, and it lies in one place.
//! 2. The asker marks the processors that it is meant for, interrupts them, and waits until none is marked.
//! 3. A processor in user mode or idle answers in the interrupt. One in the kernel has interrupts off, but cannot be far from
//!    waiting for the kernel lock, and answers while it waits ([`crate::sync`]), or else leaves the kernel and is interrupted.
//!
//! So no answer depends on a lock, and the asker never waits for somebody who waits for it.

use crate::cpu::percpu::{self, PerCpu};
use crate::interrupts::{REQUEST_VECTOR, local_apic};
use crate::paging;
use core::sync::atomic::{AtomicU64, Ordering};
use quire_concurrent::Question;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;

/// Up to this many pages are invalidated one by one; beyond, reloading the page tables is cheaper.
const INVALIDATE_SINGLY: u64 = 32;
const PAGE_SHIFT: u32 = 12;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Forget the translations of `pages` pages from `page` on, in the page tables that are loaded.
    Invalidate {
        /// The first page's number.
        page: u64,
        /// How many; many mean all.
        pages: u64,
    },
    /// Leave user mode and use the kernel's own page tables. Whom the processor runs next it finds out by itself.
    Leave,
}

/// [`Request::Leave`] as the first of the words.
const LEAVE: u64 = 1;

/// Kind, page, pages.
static REQUEST: Question<AtomicU64, 3> = Question::new([const { AtomicU64::new(0) }; 3]);

impl Request {
    fn to_words(self) -> [u64; 3] {
        match self {
            Self::Invalidate { page, pages } => [0, page, pages],
            Self::Leave => [LEAVE, 0, 0],
        }
    }

    fn from_words([kind, page, pages]: [u64; 3]) -> Self {
        if kind == LEAVE { Self::Leave } else { Self::Invalidate { page, pages } }
    }
}

/// Asks the processors that are named and waits until all have done it. The kernel lock must be held.
pub(crate) fn ask(targets: impl Iterator<Item = &'static PerCpu> + Clone, request: Request) {
    REQUEST.put(request.to_words());
    for cpu in targets.clone() {
        cpu.asked.mark();
        local_apic::interrupt(cpu.apic_id.load(Ordering::Relaxed), REQUEST_VECTOR);
    }
    for cpu in targets {
        while cpu.asked.is_marked() {
            core::hint::spin_loop();
        }
    }
}

/// Does what this processor was asked, if anything. Tells whether it may go back to the thread that it has loaded.
pub(crate) fn answer() -> bool {
    let cpu = percpu::current();
    if !cpu.asked.is_marked() {
        return true;
    }
    let request = Request::from_words(REQUEST.read());
    match request {
        Request::Invalidate { page, pages } => invalidate(page, pages),
        // SAFETY: the kernel's own root is never freed.
        Request::Leave => unsafe { paging::load_root(paging::kernel_root()) },
    }
    cpu.asked.done();
    request != Request::Leave
}

/// Makes this processor forget translations in the page tables that it has loaded.
pub(crate) fn invalidate(page: u64, pages: u64) {
    if pages > INVALIDATE_SINGLY {
        // SAFETY: the tables are loaded already.
        unsafe { paging::reload_root() };
        return;
    }
    for page in page..page.saturating_add(pages) {
        tlb::flush(VirtAddr::new_truncate(page << PAGE_SHIFT));
    }
}
