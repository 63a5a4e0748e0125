//! The two rings of a queue, from the user's side: pure, but for the shared memory itself.
//!
//! The format and the order of accesses are those of [`quire_abi::queue`]. The kernel is trusted; its numbers are still
//! checked once, when the rings are opened, so that a mistake there can't make this code leave the memory.

use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;
use quire_abi::queue::{Completion, Header, MAX_ENTRIES, SUBMISSIONS_OFFSET, Submission};
use quire_concurrent::{Consumer, Producer};

/// The producer's end of the submission ring and the consumer's end of the completion ring.
#[derive(Debug)]
pub(crate) struct Rings {
    base: NonNull<u8>,
    completions_offset: usize,
    submissions: Producer,
    completions: Consumer,
}

/// No slot is free in the submission ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingFull;

impl Rings {
    /// Opens the rings in the shared memory; `None` if its header makes no sense for `len_bytes`.
    ///
    /// # Safety
    ///
    /// `base` must point to `len_bytes` bytes, aligned to 8, that stay mapped as long as the value lives, that the kernel
    /// accesses as the format says and that nobody else accesses.
    pub(crate) unsafe fn open(base: NonNull<u8>, len_bytes: usize) -> Option<Self> {
        if len_bytes < size_of::<Header>() {
            return None;
        }
        // SAFETY: a header fits, by the check above; any bytes are a header.
        let header = unsafe { base.cast::<Header>().read() };
        let completions_offset = header.completions_offset as usize;
        let valid_size = |entries: u32| entries.is_power_of_two() && entries <= MAX_ENTRIES;
        let submissions_end =
            SUBMISSIONS_OFFSET as usize + header.submission_entries as usize * size_of::<Submission>();
        let completions_end =
            completions_offset.checked_add(header.completion_entries as usize * size_of::<Completion>())?;
        let fits = valid_size(header.submission_entries)
            && valid_size(header.completion_entries)
            && submissions_end <= completions_offset
            && completions_end <= len_bytes
            && completions_offset.is_multiple_of(align_of::<Completion>());
        fits.then(|| Self {
            base,
            completions_offset,
            submissions: Producer::new(header.submission_tail, header.submission_entries - 1),
            completions: Consumer::new(header.completion_head, header.completion_entries - 1),
        })
    }

    /// Puts a submission into the ring. The kernel sees it at the next wait.
    pub(crate) fn push(&mut self, submission: &Submission) -> Result<(), RingFull> {
        let head = self.counter(offset_of!(Header, submission_head));
        let slot = self.submissions.slot(head).ok_or(RingFull)?;
        let offset = SUBMISSIONS_OFFSET as usize + slot as usize * size_of::<Submission>();
        // SAFETY: `slot` is within the ring, which `open` checked to be within the memory; the kernel does not read the
        // slot before it is published.
        unsafe { self.base.add(offset).cast::<Submission>().write(*submission) };
        // SAFETY: as in `counter`, whose result would borrow all of `self`.
        let tail = unsafe { counter_at(self.base, offset_of!(Header, submission_tail)) };
        self.submissions.publish(tail);
        Ok(())
    }

    /// How many submissions the kernel has not taken yet.
    pub(crate) fn pending_submissions(&self) -> u32 {
        self.submissions.untaken(self.counter(offset_of!(Header, submission_head)))
    }

    /// Whether there is a completion to take.
    pub(crate) fn has_completions(&self) -> bool {
        self.completions.has_next(self.counter(offset_of!(Header, completion_tail)))
    }

    /// Takes the next completion: shows it to `read` where it lies, without a copy.
    pub(crate) fn pop_with<R>(&mut self, read: impl FnOnce(&Completion) -> R) -> Option<R> {
        if !self.has_completions() {
            return None;
        }
        let slot = self.completions.next_slot();
        let offset = self.completions_offset + slot as usize * size_of::<Completion>();
        // SAFETY: `slot` is within the ring, which `open` checked to be within the memory and aligned; the kernel does not
        // write the slot before it is released, which is after the reference's end; any bytes are a completion.
        let result = read(unsafe { self.base.add(offset).cast::<Completion>().as_ref() });
        // SAFETY: as in `counter`, whose result would borrow all of `self`.
        let head = unsafe { counter_at(self.base, offset_of!(Header, completion_head)) };
        self.completions.release(head);
        Some(result)
    }

    /// Takes the next completion.
    pub(crate) fn pop(&mut self) -> Option<Completion> {
        self.pop_with(|completion| *completion)
    }

    /// One of the four counters.
    #[inline(always)]
    fn counter(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the memory lives as long as `self`, and the callers name counters.
        unsafe { counter_at(self.base, offset) }
    }
}

/// The counter at an offset.
///
/// # Safety
///
/// The offset is that of a `u32` in the header at `base`; both sides access it only atomically once the rings are open, and the
/// memory lives as long as the result.
#[inline(always)]
unsafe fn counter_at<'a>(base: NonNull<u8>, offset: usize) -> &'a AtomicU32 {
    // SAFETY: as required.
    unsafe { base.add(offset).cast::<AtomicU32>().as_ref() }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::sync::atomic::Ordering;
    use std::vec;
    use std::vec::Vec;

    const ENTRIES: u32 = 4;
    const COMPLETIONS: usize = SUBMISSIONS_OFFSET as usize + ENTRIES as usize * size_of::<Submission>();
    const LEN: usize = COMPLETIONS + ENTRIES as usize * size_of::<Completion>();

    /// The memory, and the kernel's side of it.
    struct Shared {
        memory: Vec<u64>,
    }

    impl Shared {
        fn new(submission_entries: u32, completion_entries: u32, completions_offset: u32) -> Self {
            let mut shared = Self { memory: vec![0; LEN / 8] };
            let start = u32::MAX - 1; // so that the counters wrap in every test
            let header = Header {
                submission_entries,
                completion_entries,
                completions_offset,
                reserved: 0,
                submission_head: start,
                submission_tail: start,
                completion_head: start,
                completion_tail: start,
            };
            // SAFETY: a header fits the memory, which is aligned to 8.
            unsafe { shared.base().cast::<Header>().write(header) };
            shared
        }

        fn base(&mut self) -> NonNull<u8> {
            NonNull::new(self.memory.as_mut_ptr()).unwrap().cast()
        }

        fn open(&mut self) -> Option<Rings> {
            // SAFETY: the memory is as long as said, lives in the test, and only the test plays the kernel.
            unsafe { Rings::open(self.base(), LEN) }
        }
    }

    /// Plays the kernel: posts a completion with this key.
    fn post(rings: &Rings, key: u64) {
        let tail = rings.counter(offset_of!(Header, completion_tail));
        let position = tail.load(Ordering::Relaxed);
        let offset = COMPLETIONS + (position % ENTRIES) as usize * size_of::<Completion>();
        let completion = Completion { key, ..Completion::default() };
        // SAFETY: within the memory of the test.
        unsafe { rings.base.add(offset).cast::<Completion>().write(completion) };
        tail.store(position.wrapping_add(1), Ordering::Release);
    }

    /// Plays the kernel: takes a submission and returns its key.
    fn take(rings: &Rings) -> u64 {
        let head = rings.counter(offset_of!(Header, submission_head));
        let position = head.load(Ordering::Relaxed);
        let offset = SUBMISSIONS_OFFSET as usize + (position % ENTRIES) as usize * size_of::<Submission>();
        // SAFETY: within the memory of the test.
        let submission = unsafe { rings.base.add(offset).cast::<Submission>().read() };
        head.store(position.wrapping_add(1), Ordering::Release);
        submission.key
    }

    #[test]
    fn submissions_arrive_in_order_and_a_full_ring_refuses() {
        let mut shared = Shared::new(ENTRIES, ENTRIES, COMPLETIONS as u32);
        let mut rings = shared.open().unwrap();
        for key in 0..u64::from(ENTRIES) {
            assert_eq!(rings.push(&Submission { key, ..Submission::default() }), Ok(()));
        }
        assert_eq!(rings.push(&Submission::default()), Err(RingFull));
        assert_eq!(rings.pending_submissions(), ENTRIES);
        assert_eq!(take(&rings), 0);
        assert_eq!(rings.push(&Submission { key: 4, ..Submission::default() }), Ok(()));
        for key in 1..5 {
            assert_eq!(take(&rings), key);
        }
        assert_eq!(rings.pending_submissions(), 0);
    }

    #[test]
    fn completions_are_taken_in_order_once() {
        let mut shared = Shared::new(ENTRIES, ENTRIES, COMPLETIONS as u32);
        let mut rings = shared.open().unwrap();
        assert!(!rings.has_completions() && rings.pop().is_none());
        for round in 0..3 {
            for key in 0..u64::from(ENTRIES) {
                post(&rings, round * 10 + key);
                assert!(rings.has_completions());
            }
            for key in 0..u64::from(ENTRIES) {
                assert_eq!(rings.pop().unwrap().key, round * 10 + key);
            }
            assert!(rings.pop().is_none());
        }
    }

    #[test]
    fn a_header_that_does_not_fit_the_memory_is_refused() {
        assert!(Shared::new(3, ENTRIES, COMPLETIONS as u32).open().is_none());
        assert!(Shared::new(ENTRIES, 0, COMPLETIONS as u32).open().is_none());
        assert!(Shared::new(ENTRIES, ENTRIES * 2, COMPLETIONS as u32).open().is_none());
        assert!(Shared::new(ENTRIES, ENTRIES, COMPLETIONS as u32 - 8).open().is_none());
        assert!(Shared::new(ENTRIES, ENTRIES, u32::MAX).open().is_none());
        assert!(Shared::new(MAX_ENTRIES * 2, ENTRIES, COMPLETIONS as u32).open().is_none());
    }
}
