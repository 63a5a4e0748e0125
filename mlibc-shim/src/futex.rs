//! `futex` where a look at the word is the answer.

use core::arch::asm;
use linux_raw_sys::general as linux;
use posix_protocol::shim::LocalAnswers;

/// The operations that wait only if the word has the expected value, and nothing else about them can be wrong.
const WAITS: [u32; 2] = [linux::FUTEX_WAIT, linux::FUTEX_WAIT | linux::FUTEX_PRIVATE_FLAG];

/// `FUTEX_WAIT` without a timeout at a word that has changed already: `EAGAIN`. All else is the server's.
pub(crate) fn futex(local: &LocalAnswers, [address, operation, expected, timeout]: [u64; 4]) -> Option<u64> {
    let is_plain = WAITS.contains(&(operation as u32)) && timeout == 0;
    if !is_plain || !address.is_multiple_of(4) || address >= local.user_end {
        return None;
    }
    let (loaded, word): (u64, u64);
    // SAFETY: the function uses these registers only, and reads what the program could read; a fault is caught.
    unsafe {
        asm!("call shim_load", in("rdi") address, lateout("rax") loaded, lateout("rdx") word);
    }
    let has_changed = loaded != 0 && word as u32 != expected as u32;
    has_changed.then_some(-i64::from(linux_raw_sys::errno::EAGAIN) as u64)
}
