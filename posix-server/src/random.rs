//! Unpredictable bytes: those of the kernel, covered with a stream of our own as soon as a source of randomness has given something.
//!
//! The kernel's bytes (of the processor) are never replaced: what is added to them is a stream that whoever made them does not know. So what comes out is
//! at least as good as the better of the two. The stream is ChaCha20's (RFC 8439); its key is thrown away after each use, so who reads it
//! from memory does not learn what was given out before.

use crate::errno::Result;
use crate::platform::{self, Executor, LocalFuture};
use alloc::rc::Rc;
use alloc::vec::Vec;
use spin::Mutex;

const KEY_BYTES: usize = 32;
const BLOCK_BYTES: usize = 64;
/// How many bytes a source is asked for at once, and how often, in ns.
const SEED_BYTES: usize = 64;
const SEED_PERIOD_NS: u64 = 60_000_000_000;
/// When a source that failed is asked again.
const PAUSE_NS: u64 = 1_000_000_000;

static POOL: Mutex<Pool> = Mutex::new(Pool { key: [0; KEY_BYTES], is_seeded: false });

/// Fills `buffer` with unpredictable bytes.
pub fn fill(buffer: &mut [u8]) {
    platform::random(buffer);
    POOL.lock().cover(buffer);
}

/// Something that knows more of them, such as a device.
pub trait Source {
    /// Gives some bytes, at least one and at most so many, or an error: there is nobody to give them.
    fn read(&self, most: usize) -> LocalFuture<Result<Vec<u8>>>;
}

/// Has a source's bytes go into all that is given out from now on.
pub fn attach(executor: &Executor, source: Rc<dyn Source>) {
    executor.spawn(mix_in(executor.clone(), source));
}

async fn mix_in(executor: Executor, source: Rc<dyn Source>) {
    loop {
        let pause_ns = match source.read(SEED_BYTES).await {
            Ok(bytes) => {
                POOL.lock().mix(&bytes);
                SEED_PERIOD_NS
            }
            Err(_) => PAUSE_NS,
        };
        executor.sleep_until(platform::now_ns().saturating_add(pause_ns)).await;
    }
}

/// The key of the stream.
struct Pool {
    key: [u8; KEY_BYTES],
    /// Whether anything was mixed in: without it the stream would be known.
    is_seeded: bool,
}

impl Pool {
    /// Makes the key depend on these bytes, too.
    fn mix(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(KEY_BYTES) {
            self.key.iter_mut().zip(part).for_each(|(key, byte)| *key ^= byte);
            self.turn();
        }
        self.is_seeded = self.is_seeded || !bytes.is_empty();
    }

    /// Replaces the key, so that the old one can't be found.
    fn turn(&mut self) {
        let next = block(&self.key, 0);
        self.key.iter_mut().zip(next).for_each(|(key, byte)| *key = byte);
    }

    /// Adds the stream to the bytes.
    fn cover(&mut self, buffer: &mut [u8]) {
        if !self.is_seeded {
            return;
        }
        for (part, counter) in buffer.chunks_mut(BLOCK_BYTES).zip(1..) {
            part.iter_mut().zip(block(&self.key, counter)).for_each(|(byte, stream)| *byte ^= stream);
        }
        self.turn();
    }
}

/// The block with this number of the key's stream (RFC 8439, 2.3), with a nonce of zeroes.
fn block(key: &[u8; KEY_BYTES], counter: u32) -> [u8; BLOCK_BYTES] {
    /// "expand 32-byte k".
    const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
    const DOUBLE_ROUNDS: usize = 10;
    let mut start = [0; 16];
    let key = key.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word));
    let words = CONSTANTS.into_iter().chain(key).chain([counter]);
    start.iter_mut().zip(words).for_each(|(to, word)| *to = word);
    let mut state = start;
    for _ in 0..DOUBLE_ROUNDS {
        for (first, rotation) in [0, 1, 2, 3].into_iter().map(|first| (first, 0)).chain((0..4).map(|first| (first, 1)))
        {
            quarter_round(&mut state, first, rotation);
        }
    }
    let mut bytes = [0; BLOCK_BYTES];
    let sums = state.iter().zip(start).map(|(word, start)| word.wrapping_add(start).to_le_bytes());
    bytes.iter_mut().zip(sums.flatten()).for_each(|(to, byte)| *to = byte);
    bytes
}

/// A quarter round on a column, or with a rotation of 1 on a diagonal (RFC 8439, 2.1).
fn quarter_round(state: &mut [u32; 16], first: usize, rotation: usize) {
    let [a, b, c, d] = core::array::from_fn(|row| 4 * row + (first + row * rotation) % 4);
    for (x, y, z, bits) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[x] = state[x].wrapping_add(state[y]);
        state[z] = (state[z] ^ state[x]).rotate_left(bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use core::cell::Cell;

    /// RFC 8439, A.1, test vectors 1 and 2, and one with a key.
    #[test]
    fn blocks_are_those_of_the_standard() {
        let begins = |key, counter, bytes: [u8; 8]| assert_eq!(block(&key, counter)[..8], bytes);
        begins([0; 32], 0, [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
        begins([0; 32], 1, [0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a]);
        let mut key = [0; 32];
        key[31] = 1;
        begins(key, 1, [0x3a, 0xeb, 0x52, 0x24, 0xec, 0xf8, 0x49, 0x92]);
    }

    #[test]
    fn nothing_is_covered_before_something_was_mixed_in() {
        let mut pool = Pool { key: [0; 32], is_seeded: false };
        let mut bytes = [7; 100];
        pool.mix(&[]);
        pool.cover(&mut bytes);
        assert_eq!(bytes, [7; 100]);
        pool.mix(&[1]);
        pool.cover(&mut bytes);
        assert_ne!(bytes, [7; 100]);
    }

    #[test]
    fn every_use_and_every_byte_mixed_in_changes_the_stream() {
        let mut pool = Pool { key: [0; 32], is_seeded: false };
        let mut other = Pool { key: [0; 32], is_seeded: false };
        pool.mix(&[1; 64]);
        other.mix(&[1; 63]);
        let [mut first, mut second, mut of_other] = [[0; 64]; 3];
        pool.cover(&mut first);
        pool.cover(&mut second);
        other.cover(&mut of_other);
        assert!(first != second && first != of_other);
    }

    /// Fails the first time.
    struct Dice(Cell<u32>);

    impl Source for Dice {
        fn read(&self, most: usize) -> LocalFuture<Result<Vec<u8>>> {
            let asked = self.0.get();
            self.0.set(asked + 1);
            Box::pin(async move { if asked == 0 { Err(crate::errno::Errno::EIO) } else { Ok(alloc::vec![4; most]) } })
        }
    }

    #[test]
    fn a_source_is_asked_again_and_again_and_after_a_failure() {
        let executor = Executor::new();
        let dice = Rc::new(Dice(Cell::new(0)));
        attach(&executor, dice.clone());
        executor.run_ready(0);
        assert_eq!(dice.0.get(), 1);
        for (pause_ns, asked) in [(PAUSE_NS, 2), (SEED_PERIOD_NS, 3)] {
            platform::advance_ns(pause_ns);
            executor.run_ready(platform::now_ns());
            assert_eq!(dice.0.get(), asked);
        }
    }
}
