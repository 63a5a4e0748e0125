//! `futex` where a look at the word helps, or is the answer.

use core::arch::asm;
use linux_raw_sys::general as linux;
use posix_protocol::shim::LocalAnswers;

/// What does not matter to whether the word is compared.
const MODIFIERS: u32 = linux::FUTEX_PRIVATE_FLAG | linux::FUTEX_CLOCK_REALTIME;
/// The operations that wait only if the word has the expected value, and nothing else about them can be wrong.
const PLAIN_WAITS: [u32; 2] = [linux::FUTEX_WAIT, linux::FUTEX_WAIT | linux::FUTEX_PRIVATE_FLAG];

/// What the word at which a call would wait says.
pub(crate) enum Look {
    /// It has changed already, and that is the answer: `EAGAIN`.
    Changed,
    /// It is as expected.
    Expected,
    /// Nothing that helps: the server looks for itself.
    Nothing,
}

/// Looks at the word of a call that would wait.
pub(crate) fn look(local: &LocalAnswers, [address, operation, expected, timeout]: [u64; 4]) -> Look {
    let operation = operation as u32;
    let compares = matches!(operation & !MODIFIERS, linux::FUTEX_WAIT | linux::FUTEX_WAIT_BITSET);
    if !compares || !address.is_multiple_of(4) || address >= local.user_end {
        return Look::Nothing;
    }
    let (loaded, word): (u64, u64);
    // SAFETY: the function uses these registers only, and reads what the program could read; a fault is caught.
    unsafe {
        asm!("call shim_load", in("rdi") address, lateout("rax") loaded, lateout("rdx") word);
    }
    if loaded == 0 {
        Look::Nothing
    } else if word as u32 == expected as u32 {
        Look::Expected
    } else if timeout == 0 && PLAIN_WAITS.contains(&operation) {
        Look::Changed
    } else {
        Look::Nothing
    }
}

/// What a wait returns whose word has changed.
pub(crate) const CHANGED: u64 = -(linux_raw_sys::errno::EAGAIN as i64) as u64;
