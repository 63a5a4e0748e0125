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

mod rings;
mod submit;

pub use rings::Queue;

use crate::account::Account;
use crate::channel::{LetterKind, LetterStage};
use crate::devices::Hardware;
use crate::errand::{Errand, ErrandStage, Task};
use crate::event::NoticeStage;
use crate::handles::HandleTable;
use crate::interrupt::InterruptPhase;
use crate::kernel::Kernel;
use crate::machine::PAGE_SIZE;
use crate::memory::{Memory, MemoryKind};
use crate::object::Node;
use crate::pool::Id;
use crate::thread::{Thread, Wait};
use alloc::vec::Vec;
use quire_abi::Error;
use quire_abi::queue::{Completion, CompletionKind, MAX_ENTRIES};
use rings::{cost_of, len_of};

/// Where an object completes, and what tells its completions apart. Does not keep the queue alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The queue.
    pub queue: Id<Queue>,
    /// What the user gave.
    pub key: u64,
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
        let len = len_of(submissions, completions);
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
        let queue = Queue::new(m, (account, table), (memory, frames), (submissions, completions));
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
            Node::Pager(id) => self.pagers[id].pending = pending,
            // Their stage or phase says it.
            Node::Letter(_) | Node::Notice(_) | Node::Interrupt(_) | Node::Errand(_) => {}
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
            Node::Pager(pager) => simple(CompletionKind::PagerRequests, self.pagers[pager].binding, 0),
            Node::Errand(errand) => self.take_errand(m, errand),
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

    /// Turns an errand that is over into its completion and frees it.
    fn take_errand(&mut self, m: &mut impl Hardware, id: Id<Errand>) -> Completion {
        let errand = &self.errands[id];
        let kind = match errand.task {
            Task::Fetch { .. } => CompletionKind::Fetched,
            Task::Flush { .. } => CompletionKind::Flushed,
        };
        let status = match errand.stage {
            ErrandStage::Over(status) => status,
            ErrandStage::Waiting(_) => Error::Interrupted as u64,
        };
        let completion = Completion { status, ..simple(kind, Some(errand.binding), 0) };
        self.destroy_errand(m, id);
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
                Node::Letter(_) | Node::Notice(_) | Node::Errand(_) => {}
                Node::Thread(_) | Node::Endpoint(_) | Node::Timer(_) | Node::Pager(_) => {}
            }
        }
        self.destroy_notices_of(id);
        self.destroy_letters_of(m, id);
        self.destroy_errands_of(m, id);
        self.unbind_pagers_of(m, id);
        if let Some(queue) = self.queues.remove(id) {
            self.memory.release_memory(queue.memory);
            self.credit(queue.header.account, queue.cost());
        }
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
