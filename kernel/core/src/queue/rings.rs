//! The two rings of a queue, from the kernel's side.

use crate::account::Account;
use crate::handles::HandleTable;
use crate::list::List;
use crate::machine::{Frame, Machine, PAGE_SIZE};
use crate::memory::Memory;
use crate::object::{Header, Node, cost};
use crate::pool::Id;
use crate::thread::Thread;
use alloc::vec::Vec;
use core::mem::offset_of;
use quire_abi::Handle;
use quire_abi::message::{HANDLES, KERNEL_LABEL, WORDS};
use quire_abi::queue::{Completion, Header as RingHeader, SUBMISSIONS_OFFSET, Submission, SubmissionKind};
use zerocopy::IntoBytes;

/// Bytes per entry of either ring.
const ENTRY_BYTES: u64 = 128;
const ENTRY_WORDS: usize = ENTRY_BYTES as usize / size_of::<u64>();
const _: () = assert!(size_of::<Submission>() as u64 == ENTRY_BYTES && size_of::<Completion>() as u64 == ENTRY_BYTES);
const _: () = assert!(SUBMISSIONS_OFFSET.is_multiple_of(ENTRY_BYTES) && PAGE_SIZE.is_multiple_of(ENTRY_BYTES));

/// Words that a message's handles take in an entry.
const HANDLE_WORDS: usize = HANDLES * size_of::<Handle>() / size_of::<u64>();
/// Two handles that name nothing.
const NO_HANDLES: u64 = (Handle::NONE.0 as u64) << u32::BITS | Handle::NONE.0 as u64;

/// A submission that answers a call with words only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainAnswer {
    /// The `Reply`.
    pub(crate) target: Handle,
    /// The label of the answer.
    pub(crate) label: u64,
}

/// A submission ring and a completion ring.
#[derive(Debug)]
pub struct Queue {
    /// References and account.
    pub header: Header,
    /// Where handles that complete are put: the table of the thread that made the queue. Does not keep it alive.
    pub table: Id<HandleTable>,
    /// The memory that holds the rings.
    pub memory: Id<Memory>,
    /// The thread in `queue_wait`.
    pub waiter: Option<Id<Thread>>,
    /// Objects with something to tell, in the order in which it happened.
    pub pending: List<Node>,
    frames: Vec<Frame>,
    /// The first of them.
    header_frame: Frame,
    submissions: u32,
    completions: u32,
    /// The kernel's own positions; those in the ring are copies.
    submission_head: u32,
    completion_tail: u32,
}

/// Bytes that rings of these sizes take, in whole pages.
pub(super) fn len_of(submissions: u64, completions: u64) -> u64 {
    (SUBMISSIONS_OFFSET + (submissions + completions) * ENTRY_BYTES).next_multiple_of(PAGE_SIZE)
}

impl Queue {
    /// A queue without entries; its header is written to the first of the frames.
    pub(super) fn new(
        m: &mut impl Machine,
        (account, table): (Id<Account>, Id<HandleTable>),
        (memory, frames): (Id<Memory>, Vec<Frame>),
        (submissions, completions): (u32, u32),
    ) -> Self {
        let queue = Self {
            header: Header::new(account),
            table,
            memory,
            waiter: None,
            pending: List::new(),
            header_frame: frames[0],
            frames,
            submissions,
            completions,
            submission_head: 0,
            completion_tail: 0,
        };
        let header = RingHeader {
            submission_entries: submissions,
            completion_entries: completions,
            completions_offset: queue.completions_offset() as u32,
            ..RingHeader::default()
        };
        m.write_frame(queue.header_frame, 0, header.as_bytes());
        queue
    }

    fn completions_offset(&self) -> u64 {
        SUBMISSIONS_OFFSET + u64::from(self.submissions) * ENTRY_BYTES
    }

    /// Frame and offset in it of a byte of the shared memory.
    #[inline(always)]
    fn place(&self, offset: u64) -> (Frame, usize) {
        (self.frames[(offset / PAGE_SIZE) as usize], (offset % PAGE_SIZE) as usize)
    }

    /// How many completions the user has not taken, if the user's head can be believed; a full ring if it can't.
    #[inline(always)]
    pub(super) fn untaken(&self, m: &impl Machine) -> u32 {
        let head = m.read_half(self.header_frame, offset_of!(RingHeader, completion_head));
        self.completion_tail.wrapping_sub(head).min(self.completions)
    }

    #[inline(always)]
    pub(crate) fn has_room(&self, m: &impl Machine) -> bool {
        self.untaken(m) < self.completions
    }

    /// Writes a completion; the caller has seen that there is room.
    #[inline(always)]
    pub(crate) fn write(&mut self, m: &mut impl Machine, completion: &Completion) {
        let slot = self.completion_tail & (self.completions - 1);
        let (frame, offset) = self.place(self.completions_offset() + u64::from(slot) * ENTRY_BYTES);
        m.write_words::<ENTRY_WORDS>(frame, offset, &zerocopy::transmute!(*completion));
        self.completion_tail = self.completion_tail.wrapping_add(1);
        m.write_half(self.header_frame, offset_of!(RingHeader, completion_tail), self.completion_tail);
    }

    /// Entries of the submission ring.
    pub(super) fn submission_entries(&self) -> u32 {
        self.submissions
    }

    /// How many submissions wait, as the user says: an allegation.
    #[inline]
    pub(super) fn submitted(&self, m: &impl Machine) -> u32 {
        m.read_half(self.header_frame, offset_of!(RingHeader, submission_tail)).wrapping_sub(self.submission_head)
    }

    /// How many submissions wait, as the user says, if all completions are taken; `None` if they are not. One look at
    /// both positions, which are side by side.
    #[inline(always)]
    pub(crate) fn submitted_if_drained(&self, m: &impl Machine) -> Option<u32> {
        const FIRST: usize = offset_of!(RingHeader, submission_tail);
        const _: () = assert!(offset_of!(RingHeader, completion_head) == FIRST + 4);
        let is_drained = m.read_half(self.header_frame, FIRST + 4) == self.completion_tail;
        is_drained.then(|| m.read_half(self.header_frame, FIRST).wrapping_sub(self.submission_head))
    }

    /// The first submission that was not taken.
    #[inline(always)]
    pub(crate) fn first_submission(&self, m: &impl Machine) -> Submission {
        self.read_submission(m, self.submission_head)
    }

    /// The first submission that was not taken, if it is an answer of words only. Every part of a submission is read once:
    /// user space may change it meanwhile.
    #[inline(always)]
    pub(crate) fn first_answer(&self, m: &impl Machine) -> Option<PlainAnswer> {
        let (frame, offset) = self.submission_place(self.submission_head);
        let kind = m.read_half(frame, offset + offset_of!(Submission, kind));
        let target = m.read_half(frame, offset + offset_of!(Submission, target));
        let [label] = m.read_words(frame, offset + offset_of!(Submission, label));
        let handles = m.read_words::<HANDLE_WORDS>(frame, offset + offset_of!(Submission, handles));
        let is_plain = kind == SubmissionKind::Reply as u32
            && label & KERNEL_LABEL == 0
            && handles.iter().all(|handles| *handles == NO_HANDLES);
        is_plain.then_some(PlainAnswer { target: Handle(target), label })
    }

    /// The words of the first submission that was not taken.
    #[inline(always)]
    pub(crate) fn words_of_first(&self, m: &impl Machine) -> [u64; WORDS] {
        let (frame, offset) = self.submission_place(self.submission_head);
        m.read_words(frame, offset + offset_of!(Submission, words))
    }

    /// Moves the submission head on by one.
    #[inline(always)]
    pub(crate) fn take_one(&mut self, m: &mut impl Machine) {
        self.submission_head = self.submission_head.wrapping_add(1);
        self.publish_taken(m);
    }

    /// Takes the first submission; user space learns of it with [`Queue::publish_taken`].
    #[inline]
    pub(super) fn take_submission(&mut self, m: &impl Machine) -> Submission {
        let submission = self.first_submission(m);
        self.submission_head = self.submission_head.wrapping_add(1);
        submission
    }

    /// Tells user space which submissions are taken.
    #[inline]
    pub(super) fn publish_taken(&self, m: &mut impl Machine) {
        m.write_half(self.header_frame, offset_of!(RingHeader, submission_head), self.submission_head);
    }

    #[inline(always)]
    fn read_submission(&self, m: &impl Machine, position: u32) -> Submission {
        let (frame, offset) = self.submission_place(position);
        zerocopy::transmute!(m.read_words::<ENTRY_WORDS>(frame, offset))
    }

    #[inline(always)]
    fn submission_place(&self, position: u32) -> (Frame, usize) {
        let slot = position & (self.submissions - 1);
        self.place(SUBMISSIONS_OFFSET + u64::from(slot) * ENTRY_BYTES)
    }

    /// What the queue itself costs, without its frames.
    pub(crate) fn cost(&self) -> u64 {
        cost_of(self.frames.len() as u64)
    }
}

/// What a queue costs whose rings take so many pages, without the pages.
pub(super) fn cost_of(pages: u64) -> u64 {
    cost::QUEUE + pages * cost::QUEUE_FRAME
}
