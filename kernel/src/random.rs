//! Unpredictable bytes: RDRAND (Intel SDM vol. 1, 7.3.17), or, without it, the jitter of the time-stamp counter.
//! The latter is not good enough for secrets, and the log says so.

use crate::cpu::features::Features;
use crate::time;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use log::warn;

static HAS_RDRAND: AtomicBool = AtomicBool::new(false);
static STATE: AtomicU64 = AtomicU64::new(0);
/// How often RDRAND is retried, as the manual advises.
const RETRIES: u32 = 10;

/// Notes what the processor has.
pub(crate) fn init(features: &Features) {
    HAS_RDRAND.store(features.rdrand, Ordering::Relaxed);
    if !features.rdrand {
        warn!("the processor has no RDRAND: random numbers are of poor quality");
    }
}

/// Fills `into`.
pub(crate) fn fill(into: &mut [u8]) {
    for chunk in into.chunks_mut(size_of::<u64>()) {
        let word = rdrand().unwrap_or_else(jitter).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
}

fn rdrand() -> Option<u64> {
    if !HAS_RDRAND.load(Ordering::Relaxed) {
        return None;
    }
    (0..RETRIES).find_map(|_| {
        let word: u64;
        let valid: u8;
        // SAFETY: the processor has the instruction.
        unsafe { asm!("rdrand {}", "setc {}", out(reg) word, out(reg_byte) valid, options(nostack, nomem)) };
        (valid != 0).then_some(word)
    })
}

/// Mixes the counter into a running state (the output function is SplitMix64's; Steele, Lea, Flood 2014).
fn jitter() -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let state = STATE.load(Ordering::Relaxed).wrapping_add(GOLDEN).rotate_left(17) ^ time::now_ns();
    STATE.store(state, Ordering::Relaxed);
    let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
