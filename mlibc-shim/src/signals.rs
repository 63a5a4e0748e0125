//! `rt_sigprocmask`: the mask lies in the thread's block, from where the server takes it when it needs it.
//!
//! A signal that comes while the mask changes is not lost: the server first notes that signals wait and then looks at the mask; here
//! the mask is changed first and then looked at that note. So one of the two sees what the other did, on any processors: either the server
//! finds the signal let through, or the thread asks the server before it goes back to the program.

use core::arch::asm;
use core::sync::atomic::{Ordering, fence};
use linux_raw_sys::general as linux;
use posix_protocol::shim::{LocalAnswers, ThreadBlock};

/// The size of a signal set, in bytes.
const SET_BYTES: u64 = 8;
/// Signals that can't be blocked.
const UNBLOCKABLE: u64 = 1 << (linux::SIGKILL - 1) | 1 << (linux::SIGSTOP - 1);

/// Whether a program may name a set there.
fn is_nameable(local: &LocalAnswers, address: u64) -> bool {
    address.checked_add(SET_BYTES).is_some_and(|end| end <= local.user_end)
}

/// What the mask becomes. `None`: nothing changes it so.
fn changed(before: u64, how: u32, set: u64) -> Option<u64> {
    let mask = match how {
        linux::SIG_BLOCK => before | set,
        linux::SIG_UNBLOCK => before & !set,
        linux::SIG_SETMASK => set,
        _ => return None,
    };
    Some(mask & !UNBLOCKABLE)
}

fn load(address: u64) -> Option<u64> {
    let (loaded, word): (u64, u64);
    // SAFETY: the function uses these registers only, and reads what the program could read; a fault is caught.
    unsafe {
        asm!("call shim_load_word", in("rdi") address, lateout("rax") loaded, lateout("rdx") word);
    }
    (loaded != 0).then_some(word)
}

/// `None` if something is wrong with the call, or if it lets something through that may wait: nothing has been changed then.
pub(crate) fn set_mask(block: &mut ThreadBlock, [how, set, old, size]: [u64; 4]) -> Option<u64> {
    let before = block.mask;
    let is_plain = size == SET_BYTES
        && (set == 0 || is_nameable(&block.local, set))
        && (old == 0 || is_nameable(&block.local, old));
    if !is_plain {
        return None;
    }
    let mask = if set == 0 { before } else { changed(before, how as u32, load(set)?)? };
    let lets_through = before & !mask != 0;
    let place = &raw const block.held;
    // SAFETY: a field of the block; the server writes it at any time, therefore volatile.
    let held = || unsafe { place.read_volatile() } != 0;
    if lets_through && held() {
        return None;
    }
    if old != 0 && !crate::local::store_one(old, before) {
        return None;
    }
    // SAFETY: as above; the server reads it.
    unsafe { (&raw mut block.mask).write_volatile(mask) };
    if lets_through {
        fence(Ordering::SeqCst);
        if held() {
            // The way out asks.
            // SAFETY: as above.
            unsafe { (&raw mut block.pending).write_volatile(1) };
        }
    }
    Some(0)
}
