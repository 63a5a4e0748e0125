//! Queues: where everything asynchronous completes.
//!
//! # The life of a completion
//! 1. Something happens to a bound object: a message comes in, a deadline passes, an interrupt is raised, a thread ends.
//! 2. If the completion ring has room and nobody stands in line, the kernel writes the entry and moves the tail. If a
//!    thread waits in `queue_wait`, it is woken, and runs at once if the processor has just become free.
//! 3. Otherwise the *object* stands in the queue's line, with the fact in a field of its own: nothing is lost and the
//!    kernel keeps no copy. The next `queue_wait` posts as much of the line as fits.
//!
//! The rings are frames that the kernel has pinned. What user space writes there is an allegation: positions are
//! compared with the kernel's own, entries are copied out before they are looked at.

use crate::account::Account;
use crate::channel::{Buffer, LetterKind, LetterStage, Parcel};
use crate::devices::Hardware;
use crate::event::NoticeStage;
use crate::handles::HandleTable;
use crate::interrupt::InterruptPhase;
use crate::kernel::Kernel;
use crate::list::List;
use crate::machine::{Frame, Machine, PAGE_SIZE};
use crate::memory::{Memory, MemoryKind};
use crate::object::{Header, Node, ReplyRef, cost};
use crate::pool::Id;
use crate::thread::{Thread, Wait};
use alloc::vec::Vec;
use core::mem::offset_of;
use quire_abi::message::KERNEL_LABEL;
use quire_abi::queue::{
    Completion, CompletionKind, Header as RingHeader, MAX_ENTRIES, SUBMISSIONS_OFFSET, SUBMISSIONS_PER_WAIT,
    Submission, SubmissionKind,
};
use quire_abi::{Error, Handle, Rights};
use zerocopy::{FromZeros, IntoBytes};

/// Bytes per entry of either ring.
const ENTRY_BYTES: u64 = 128;
const _: () = assert!(size_of::<Submission>() as u64 == ENTRY_BYTES && size_of::<Completion>() as u64 == ENTRY_BYTES);
const _: () = assert!(SUBMISSIONS_OFFSET.is_multiple_of(ENTRY_BYTES) && PAGE_SIZE.is_multiple_of(ENTRY_BYTES));

/// Where an object completes, and what tells its completions apart. Does not keep the queue alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The queue.
    pub queue: Id<Queue>,
    /// What the user gave.
    pub key: u64,
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
    submissions: u32,
    completions: u32,
    /// The kernel's own positions; those in the ring are copies.
    submission_head: u32,
    completion_tail: u32,
}

impl Queue {
    fn completions_offset(&self) -> u64 {
        SUBMISSIONS_OFFSET + u64::from(self.submissions) * ENTRY_BYTES
    }

    /// Frame and offset in it of a byte of the shared memory.
    #[inline]
    fn place(&self, offset: u64) -> (Frame, usize) {
        (self.frames[(offset / PAGE_SIZE) as usize], (offset % PAGE_SIZE) as usize)
    }

    #[inline]
    fn read_u32(&self, m: &impl Machine, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        m.read_frame(self.frames[0], offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[inline]
    fn write_u32(&self, m: &mut impl Machine, offset: usize, value: u32) {
        m.write_frame(self.frames[0], offset, &value.to_le_bytes());
    }

    /// How many completions the user has not taken, if the user's head can be believed; a full ring if it can't.
    #[inline]
    fn untaken(&self, m: &impl Machine) -> u32 {
        let head = self.read_u32(m, offset_of!(RingHeader, completion_head));
        self.completion_tail.wrapping_sub(head).min(self.completions)
    }

    #[inline]
    pub(crate) fn has_room(&self, m: &impl Machine) -> bool {
        self.untaken(m) < self.completions
    }

    /// Writes a completion; the caller has seen that there is room.
    #[inline]
    pub(crate) fn write(&mut self, m: &mut impl Machine, completion: &Completion) {
        let slot = self.completion_tail & (self.completions - 1);
        let (frame, offset) = self.place(self.completions_offset() + u64::from(slot) * ENTRY_BYTES);
        m.write_frame(frame, offset, completion.as_bytes());
        self.completion_tail = self.completion_tail.wrapping_add(1);
        self.write_u32(m, offset_of!(RingHeader, completion_tail), self.completion_tail);
    }

    /// How many submissions wait, as the user says: an allegation.
    #[inline]
    fn submitted(&self, m: &impl Machine) -> u32 {
        self.read_u32(m, offset_of!(RingHeader, submission_tail)).wrapping_sub(self.submission_head)
    }

    /// How many submissions wait, as the user says, if all completions are taken; `None` if they are not. One look at
    /// both positions, which are side by side.
    #[inline]
    pub(crate) fn submitted_if_drained(&self, m: &impl Machine) -> Option<u32> {
        const FIRST: usize = offset_of!(RingHeader, submission_tail);
        const _: () = assert!(offset_of!(RingHeader, completion_head) == FIRST + 4);
        let mut bytes = [0; 8];
        m.read_frame(self.frames[0], FIRST, &mut bytes);
        let both = u64::from_le_bytes(bytes);
        let is_drained = (both >> u32::BITS) as u32 == self.completion_tail;
        is_drained.then(|| (both as u32).wrapping_sub(self.submission_head))
    }

    /// The first submission that was not taken.
    #[inline]
    pub(crate) fn first_submission(&self, m: &impl Machine) -> Submission {
        self.read_submission(m, self.submission_head)
    }

    /// Moves the submission head on by one.
    #[inline]
    pub(crate) fn take_one(&mut self, m: &mut impl Machine) {
        self.submission_head = self.submission_head.wrapping_add(1);
        self.write_u32(m, offset_of!(RingHeader, submission_head), self.submission_head);
    }

    #[inline]
    fn read_submission(&self, m: &impl Machine, position: u32) -> Submission {
        let slot = position & (self.submissions - 1);
        let (frame, offset) = self.place(SUBMISSIONS_OFFSET + u64::from(slot) * ENTRY_BYTES);
        let mut submission = Submission::new_zeroed();
        m.read_frame(frame, offset, submission.as_mut_bytes());
        submission
    }

    /// What the queue itself costs, without its frames.
    fn cost(&self) -> u64 {
        cost_of(self.frames.len() as u64)
    }
}

fn cost_of(pages: u64) -> u64 {
    cost::QUEUE + pages * cost::QUEUE_FRAME
}

/// Whether a node of the line has been dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It has nothing more to tell and leaves the line.
    All,
    /// The ring is full; it keeps its place.
    NoRoom,
}

impl Kernel {
    /// Makes a queue with rings of these sizes whose completions carry handles into `table`. The memory that holds the
    /// rings comes with a reference of its own.
    ///
    /// # Errors
    /// `BadArgument` for sizes that are no powers of two or too large; `NoMemory`, `AccountLimit`.
    pub fn create_queue(
        &mut self,
        m: &mut impl Hardware,
        account: Id<Account>,
        table: Id<HandleTable>,
        submissions: u64,
        completions: u64,
    ) -> Result<(Id<Queue>, Id<Memory>), Error> {
        let is_size = |entries: u64| entries.is_power_of_two() && entries <= u64::from(MAX_ENTRIES);
        if !is_size(submissions) || !is_size(completions) {
            return Err(Error::BadArgument);
        }
        let len = (SUBMISSIONS_OFFSET + (submissions + completions) * ENTRY_BYTES).next_multiple_of(PAGE_SIZE);
        let pages = len / PAGE_SIZE;
        self.charge(account, cost_of(pages))?;
        let made = self.make_queue(m, account, table, (submissions as u32, completions as u32), len);
        if made.is_err() {
            self.credit(account, cost_of(pages));
        }
        made
    }

    fn make_queue(
        &mut self,
        m: &mut impl Hardware,
        account: Id<Account>,
        table: Id<HandleTable>,
        (submissions, completions): (u32, u32),
        len: u64,
    ) -> Result<(Id<Queue>, Id<Memory>), Error> {
        self.queues.reserve(1).map_err(|_| Error::NoMemory)?;
        let mut frames = Vec::new();
        frames.try_reserve_exact((len / PAGE_SIZE) as usize).map_err(|_| Error::NoMemory)?;
        let memory = self.memory.create_memory(m, account, len, MemoryKind::Anonymous)?;
        for page in 0..len / PAGE_SIZE {
            match self.memory.frame_for_kernel(m, memory, page) {
                Ok(frame) => frames.push(frame),
                Err(error) => {
                    self.memory.release_memory(memory);
                    return Err(error.into());
                }
            }
        }
        let queue = Queue {
            header: Header::new(account),
            table,
            memory,
            waiter: None,
            pending: List::new(),
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
        m.write_frame(queue.frames[0], 0, header.as_bytes());
        let id = self.queues.insert(queue).map_err(|_| Error::NoMemory)?;
        self.memory.retain_memory(memory);
        Ok((id, memory))
    }

    /// Posts a completion if there is room, and wakes whoever waits for one.
    #[inline]
    fn post(&mut self, m: &mut impl Hardware, id: Id<Queue>, completion: &Completion) {
        let queue = &mut self.queues[id];
        queue.write(m, completion);
        if let Some(waiter) = queue.waiter.take() {
            self.finish_wait(waiter, Ok(None));
        }
    }

    /// `node` has something to tell: posts it, or lets it stand in line. `false` if the queue is gone.
    pub(crate) fn offer(&mut self, m: &mut impl Hardware, binding: Binding, node: Node) -> bool {
        let Some(queue) = self.queues.get(binding.queue) else { return false };
        if !queue.pending.is_empty() || self.tell(m, binding.queue, node) == Told::NoRoom {
            let mut pending = self.queues[binding.queue].pending;
            pending.push_back(self, node);
            self.queues[binding.queue].pending = pending;
            self.set_pending(node, true);
        }
        true
    }

    /// Takes `node`, which stands in the line of the queue (if that is alive), out of it.
    pub(crate) fn withdraw(&mut self, binding: Option<Binding>, node: Node) {
        let Some(binding) = binding else { return };
        let Some(queue) = self.queues.get(binding.queue) else { return };
        let mut pending = queue.pending;
        pending.remove(self, node);
        self.queues[binding.queue].pending = pending;
        self.set_pending(node, false);
    }

    fn set_pending(&mut self, node: Node, pending: bool) {
        match node {
            Node::Thread(id) => self.threads[id].pending = pending,
            Node::Endpoint(id) => self.endpoints[id].pending = pending,
            Node::Timer(id) => self.timers[id].pending = pending,
            // Their stage or phase says it.
            Node::Letter(_) | Node::Notice(_) | Node::Interrupt(_) => {}
        }
    }

    /// Posts what the line holds, as far as there is room.
    fn post_pending(&mut self, m: &mut impl Hardware, id: Id<Queue>) {
        while let Some(node) = self.queues[id].pending.front() {
            if !self.queues[id].has_room(m) {
                return;
            }
            // It leaves the line first, because telling frees some of them.
            let mut pending = self.queues[id].pending;
            pending.remove(self, node);
            self.queues[id].pending = pending;
            self.set_pending(node, false);
            if self.tell(m, id, node) == Told::NoRoom {
                let mut pending = self.queues[id].pending;
                pending.push_front(self, node);
                self.queues[id].pending = pending;
                self.set_pending(node, true);
                return;
            }
        }
    }

    /// Posts what `node` has to tell, if there is room.
    fn tell(&mut self, m: &mut impl Hardware, id: Id<Queue>, node: Node) -> Told {
        if let Node::Endpoint(endpoint) = node {
            return self.tell_endpoint(m, id, endpoint);
        }
        if !self.queues[id].has_room(m) {
            return Told::NoRoom;
        }
        let completion = match node {
            Node::Thread(thread) => simple(CompletionKind::ThreadEnded, self.threads[thread].binding, 0),
            Node::Timer(timer) => simple(CompletionKind::Timer, self.timers[timer].binding, 0),
            Node::Interrupt(interrupt) => {
                let interrupt = &mut self.interrupts[interrupt];
                interrupt.phase = InterruptPhase::Told;
                simple(CompletionKind::Interrupt, interrupt.binding, interrupt.count)
            }
            Node::Notice(notice) => {
                let NoticeStage::Fired(bits) = self.notices[notice].stage else { return Told::All };
                let binding = self.notices[notice].binding;
                self.destroy_notice(notice);
                simple(CompletionKind::Event, Some(binding), bits)
            }
            Node::Letter(letter) => self.take_answer(m, id, letter),
            Node::Endpoint(_) => return Told::All,
        };
        self.post(m, id, &completion);
        Told::All
    }

    /// Posts the messages of a bound endpoint, then that its peer closed.
    fn tell_endpoint(&mut self, m: &mut impl Hardware, id: Id<Queue>, endpoint: Id<crate::channel::Endpoint>) -> Told {
        loop {
            if !self.queues[id].has_room(m) {
                return Told::NoRoom;
            }
            let end = &mut self.endpoints[endpoint];
            let Some(binding) = end.binding else { return Told::All };
            let Some(sender) = end.incoming.front() else {
                if end.peer.is_none() && !end.closed_told {
                    end.closed_told = true;
                    self.post(m, id, &simple(CompletionKind::PeerClosed, Some(binding), 0));
                }
                return Told::All;
            };
            self.leave_endpoint(endpoint, sender);
            self.post_message(m, binding, sender);
        }
    }

    /// Posts the message of `sender`, who stands in no line; there is room. If the receiver's table can't take the
    /// handles, the sender is refused: nobody would ever make room for a message that nobody sees.
    #[inline]
    pub(crate) fn post_message(&mut self, m: &mut impl Hardware, binding: Binding, sender: Node) {
        let table = self.queues[binding.queue].table;
        match self.accept_message(m, table, sender) {
            Ok(received) => {
                let cap = |len: u64| len.min(u32::MAX.into());
                let completion = Completion {
                    key: binding.key,
                    kind: CompletionKind::Message as u32,
                    reply: received.reply,
                    status: 0,
                    value: cap(received.send_len) | cap(received.receive_len) << 32,
                    label: received.message.label,
                    words: received.message.words,
                    handles: received.message.handles,
                    reserved: 0,
                };
                self.post(m, binding.queue, &completion);
            }
            Err(error) => self.refuse_sender(m, sender, error),
        }
    }

    /// Whether a message on an endpoint with this binding can be posted at once.
    #[inline]
    pub(crate) fn can_post(&self, m: &impl Hardware, queue: Id<Queue>) -> bool {
        let queue = &self.queues[queue];
        queue.pending.is_empty() && queue.has_room(m)
    }

    /// Turns an answered call into its completion and frees it.
    fn take_answer(&mut self, m: &mut impl Hardware, id: Id<Queue>, letter: Id<crate::channel::Letter>) -> Completion {
        let table = self.queues[id].table;
        let mut completion = Completion { kind: CompletionKind::Answer as u32, ..Completion::default() };
        if let LetterKind::Call { binding, stage: LetterStage::Answered(status), .. } = &self.letters[letter].kind {
            completion.key = binding.key;
            completion.status = *status;
        }
        completion.label = self.letters[letter].label;
        completion.words = self.letters[letter].words;
        let mut handles = core::mem::take(&mut self.letters[letter].handles);
        match self.place_handles(m, table, &mut handles) {
            Ok(placed) => completion.handles = placed,
            Err(error) => {
                completion.status = error as u64;
                self.drop_handles(m, handles);
            }
        }
        self.destroy_letter(m, letter);
        completion
    }

    /// Posts `value` with `key`.
    pub(crate) fn post_user(
        &mut self,
        m: &mut impl Hardware,
        id: Id<Queue>,
        key: u64,
        value: u64,
    ) -> Result<(), Error> {
        if !self.can_post(m, id) {
            return Err(Error::Full);
        }
        let binding = Some(Binding { queue: id, key });
        self.post(m, id, &simple(CompletionKind::Posted, binding, value));
        Ok(())
    }

    /// Takes submissions, posts what stands in line, and parks the thread if there is nothing to take. `true` if it parked.
    pub(crate) fn queue_wait(
        &mut self,
        m: &mut impl Hardware,
        thread: Id<Thread>,
        id: Id<Queue>,
        deadline: u64,
    ) -> Result<bool, Error> {
        if self.queues[id].waiter.is_some() {
            return Err(Error::BadState);
        }
        let more = self.take_submissions(m, thread, id)?;
        if !self.queues[id].pending.is_empty() {
            self.post_pending(m, id);
        }
        if more || self.queues[id].untaken(m) != 0 {
            return Ok(false);
        }
        self.check_deadline(m, deadline)?;
        self.queues[id].waiter = Some(thread);
        self.park(thread, Wait::Queue(id), deadline);
        Ok(true)
    }

    /// Carries out submissions while there is room for a refusal. Tells whether some are left that could be taken.
    fn take_submissions(&mut self, m: &mut impl Hardware, thread: Id<Thread>, id: Id<Queue>) -> Result<bool, Error> {
        let queue = &self.queues[id];
        let first = queue.submission_head;
        let count = queue.submitted(m);
        if count == 0 {
            return Ok(false);
        }
        if count > queue.submissions {
            return Err(Error::BadArgument);
        }
        let mut taken = 0;
        while taken < count.min(SUBMISSIONS_PER_WAIT) && self.queues[id].has_room(m) {
            let submission = self.queues[id].read_submission(m, first.wrapping_add(taken));
            taken += 1;
            self.queues[id].submission_head = first.wrapping_add(taken);
            if let Err(error) = self.submit(m, thread, id, &submission) {
                let refusal = Completion {
                    key: submission.key,
                    kind: CompletionKind::Refused as u32,
                    status: error as u64,
                    ..Completion::default()
                };
                self.post(m, id, &refusal);
            }
        }
        let queue = &self.queues[id];
        queue.write_u32(m, offset_of!(RingHeader, submission_head), queue.submission_head);
        Ok(taken < count)
    }

    fn submit(
        &mut self,
        m: &mut impl Hardware,
        thread: Id<Thread>,
        queue: Id<Queue>,
        submission: &Submission,
    ) -> Result<(), Error> {
        let table = self.threads[thread].table;
        let kind = SubmissionKind::from_number(submission.kind).ok_or(Error::BadArgument)?;
        let target = submission.target;
        match kind {
            SubmissionKind::Reply => {
                self.reply_from(m, table, target, submission.label, submission.words, submission.handles)
            }
            SubmissionKind::Call => self.submit_call(m, thread, queue, submission),
            SubmissionKind::ArmTimer => {
                let timer = self.tables[table].get(target, Rights::WRITE)?;
                self.arm_timer(m, timer, submission.label)
            }
            SubmissionKind::AcknowledgeInterrupt => {
                let interrupt = self.tables[table].get(target, Rights::WRITE)?;
                self.acknowledge_interrupt(m, interrupt)
            }
            SubmissionKind::ResumeThread => {
                let target = self.tables[table].get(target, Rights::MANAGE)?;
                self.resume(target)
            }
        }
    }

    fn submit_call(
        &mut self,
        m: &mut impl Hardware,
        thread: Id<Thread>,
        queue: Id<Queue>,
        submission: &Submission,
    ) -> Result<(), Error> {
        let Thread { table, space, .. } = self.threads[thread];
        let channel = self.tables[table].get(submission.target, Rights::SEND)?;
        if submission.label & KERNEL_LABEL != 0 {
            return Err(Error::BadArgument);
        }
        let kind = LetterKind::Call {
            binding: Binding { queue, key: submission.key },
            space,
            send: Buffer { address: submission.send_buffer, len: submission.send_len.into() },
            receive: Buffer { address: submission.receive_buffer, len: submission.receive_len.into() },
            stage: LetterStage::Received,
        };
        let account = self.queues[queue].header.account;
        let content = (submission.label, submission.words, submission.handles);
        self.post_letter(m, table, channel, account, kind, content)
    }

    /// Answers the call that the reply handle stands for; uses the handle up.
    pub(crate) fn reply_from(
        &mut self,
        m: &mut impl Hardware,
        table: Id<HandleTable>,
        handle: Handle,
        label: u64,
        words: [u64; 8],
        handles: [Handle; 4],
    ) -> Result<(), Error> {
        let reply = self.reply_ref(table, handle, Rights::SEND)?;
        if label & KERNEL_LABEL != 0 || handles.contains(&handle) {
            return Err(Error::BadArgument);
        }
        self.check_reply(reply, label)?;
        let handles = self.take_handles(table, handles, None)?;
        self.tables[table].remove(handle)?;
        self.answer(m, reply, Parcel { label, words, handles });
        Ok(())
    }

    pub(crate) fn destroy_queue(&mut self, m: &mut impl Hardware, id: Id<Queue>) {
        if let Some(waiter) = self.queues[id].waiter.take() {
            self.finish_wait(waiter, Err(Error::PeerClosed));
        }
        while let Some(node) = self.queues[id].pending.front() {
            let mut pending = self.queues[id].pending;
            pending.remove(self, node);
            self.queues[id].pending = pending;
            self.set_pending(node, false);
            match node {
                Node::Interrupt(interrupt) => self.interrupts[interrupt].phase = InterruptPhase::Unbound,
                // Freed with all others of this queue below.
                Node::Letter(_) | Node::Notice(_) => {}
                Node::Thread(_) | Node::Endpoint(_) | Node::Timer(_) => {}
            }
        }
        self.destroy_notices_of(id);
        self.destroy_letters_of(m, id);
        if let Some(queue) = self.queues.remove(id) {
            self.memory.release_memory(queue.memory);
            self.credit(queue.header.account, queue.cost());
        }
    }

    /// The reply that a handle names.
    pub(crate) fn reply_ref(&self, table: Id<HandleTable>, handle: Handle, rights: Rights) -> Result<ReplyRef, Error> {
        let capability = self.tables[table].lookup(handle)?;
        let crate::object::ObjectRef::Reply(reply) = capability.object else { return Err(Error::WrongKind) };
        if capability.rights.contains(rights) { Ok(reply) } else { Err(Error::MissingRights) }
    }

    /// Forgets that `thread` waits in the queue.
    pub(crate) fn leave_queue(&mut self, id: Id<Queue>) {
        if let Some(queue) = self.queues.get_mut(id) {
            queue.waiter = None;
        }
    }
}

/// A completion that carries a value and no message.
fn simple(kind: CompletionKind, binding: Option<Binding>, value: u64) -> Completion {
    let key = binding.map_or(0, |binding| binding.key);
    Completion { key, kind: kind as u32, value, ..Completion::default() }
}
