//! The hot way of a call and its answer: both messages in registers, the receiver waiting, the processor handed over.
//!
//! These functions do nothing that the calls in [`crate::calls`] would not do with [`crate::channel`]; they do it
//! without looking anything up twice. Each first checks *everything* that makes its case the simple one, and changes
//! something only if all of it holds; otherwise it declines, having changed nothing, and the general way is taken, which
//! also finds the right error.
//!
//! The simple case: plain handles with the rights; the other side parked in the matching form, alone in its line, not
//! suspended; nobody else with something to tell; no ready thread of a higher priority; a free slot for the reply.

use crate::channel::{Endpoint, set_message, words_of};
use crate::devices::{Devices, Hardware};
use crate::handles::HandleTable;
use crate::kernel::Kernel;
use crate::object::{Capability, Node, ObjectRef, ReplyRef};
use crate::pool::Id;
use crate::queue::Queue;
use crate::schedule::Processor;
use crate::thread::{CallForm, CallStage, ReceiveForm, State, Thread, Wait};
use crate::timer::Alarms;
use quire_abi::error::OK;
use quire_abi::message::{KERNEL_LABEL, WORDS};
use quire_abi::queue::{Completion, CompletionKind};
use quire_abi::{Handle, Rights};

/// Whether the fast path took the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fast {
    /// All is done.
    Taken,
    /// Nothing has changed; take the general way.
    Declined,
}

/// A call on its way: who calls, and the number that the call will have.
struct Caller {
    id: Id<Thread>,
    serial: u32,
}

impl Caller {
    #[inline(always)]
    fn reply(&self) -> Capability {
        Capability::reply(ReplyRef::Thread { thread: self.id, serial: self.serial })
    }

    /// Makes the caller wait for its answer.
    #[inline(always)]
    fn park(&self, thread: &mut Thread) {
        thread.state = State::Waiting(Wait::Call);
        thread.call.serial = self.serial;
        thread.call.form = CallForm::Registers;
        thread.call.stage = CallStage::Received;
    }
}

/// A thread that is about to wait in a queue.
struct Waiter {
    id: Id<Thread>,
    table: Id<HandleTable>,
    queue: Id<Queue>,
    deadline: u64,
}

/// How many answers one `queue_wait` may give on the fast path.
const FAST_ANSWERS: u32 = 8;

impl Kernel {
    /// `channel_call` to a thread that waits in `channel_reply_receive`, or in `queue_wait` on the queue to which the endpoint
    /// is bound.
    #[inline]
    pub(crate) fn fast_call(&mut self, m: &mut impl Hardware, id: Id<Thread>) -> Fast {
        self.try_fast_call(m, id).map_or(Fast::Declined, |()| Fast::Taken)
    }

    /// `channel_reply_receive` that answers a `channel_call` and finds nothing to receive.
    #[inline]
    pub(crate) fn fast_reply_receive(&mut self, m: &impl Devices, id: Id<Thread>) -> Fast {
        self.try_fast_reply_receive(m, id).map_or(Fast::Declined, |()| Fast::Taken)
    }

    /// `queue_wait` with a few submissions, all of them answers to a `channel_call`, that finds no completion. If it declines,
    /// it has done those submissions that stand before the one that is out of the ordinary.
    #[inline]
    pub(crate) fn fast_queue_wait(&mut self, m: &mut impl Hardware, id: Id<Thread>) -> Fast {
        self.try_fast_queue_wait(m, id).map_or(Fast::Declined, |()| Fast::Taken)
    }

    /// `thread_yield` to another ready thread of the same priority.
    #[inline(never)]
    pub(crate) fn fast_yield(&mut self, m: &impl Devices, id: Id<Thread>) -> Fast {
        if !self.scheduler.rotate(&mut self.threads, self.cpu, m.now_ns()) {
            return Fast::Declined;
        }
        self.threads[id].context.registers.rax = OK;
        Fast::Taken
    }

    #[inline(always)]
    fn try_fast_call(&mut self, m: &mut impl Hardware, id: Id<Thread>) -> Option<()> {
        let thread = self.threads.get(id)?;
        let registers = &thread.context.registers;
        let label = registers.rsi;
        if label & KERNEL_LABEL != 0 {
            return None;
        }
        let channel = endpoint(self.tables.get(thread.table)?, registers.rdi, Rights::SEND)?;
        let call = Caller { id, serial: thread.call.serial.wrapping_add(1) };
        let end = self.endpoints.get(channel)?.peer?;
        let line = self.endpoints.get_mut(end)?;
        let Some(Node::Thread(to)) = line.receivers.front() else { return self.try_fast_post(m, &call, end) };
        let words = words_of(registers);
        let receiver = self.threads.get_mut(to)?;
        let waits = matches!(receiver.state, State::Waiting(Wait::Receive { form: ReceiveForm::Registers, .. }));
        let processor = self.scheduler.free_hand(self.cpu)?;
        if !waits || !receiver.is_plain() || !receiver.links.is_clear() || !takes(processor, self.cpu, receiver) {
            return None;
        }
        // From here on nothing fails: making the handle is the last thing that can.
        let handle = self.tables.get_mut(receiver.table)?.insert(call.reply())?;
        receiver.state = State::Running;
        receiver.cpu = self.cpu;
        let registers = &mut receiver.context.registers;
        registers.rax = OK;
        registers.rbx = handle.0.into();
        set_message(registers, label, &words);
        line.receivers.clear();
        let caller = &mut self.threads[id];
        call.park(caller);
        processor.hand_over(caller, to, m.now_ns());
        Some(())
    }

    #[inline]
    fn try_fast_post(&mut self, m: &mut impl Hardware, call: &Caller, end: Id<Endpoint>) -> Option<()> {
        let line = self.endpoints.get(end)?;
        let binding = line.binding?;
        if !line.incoming.is_empty() || line.pending {
            return None;
        }
        let queue = self.queues.get_mut(binding.queue)?;
        let to = queue.waiter?;
        let receiver = self.threads.get_mut(to)?;
        let processor = self.scheduler.free_hand(self.cpu)?;
        let ready = receiver.suspensions == 0 && takes(processor, self.cpu, receiver);
        if !ready || !queue.pending.is_empty() || !queue.has_room(m) {
            return None;
        }
        // From here on nothing fails: making the handle is the last thing that can.
        let reply = self.tables.get_mut(queue.table)?.insert(call.reply())?;
        queue.waiter = None;
        receiver.state = State::Running;
        receiver.cpu = self.cpu;
        receiver.context.registers.rax = OK;
        // The alarm stays: it means nothing without `has_deadline`, and a server comes back with the same deadline.
        receiver.has_deadline = false;
        let caller = &mut self.threads[call.id];
        let registers = &caller.context.registers;
        let completion = Completion {
            key: binding.key,
            kind: CompletionKind::Message as u32,
            reply,
            label: registers.rsi,
            words: words_of(registers),
            ..Completion::default()
        };
        queue.write(m, &completion);
        call.park(caller);
        processor.hand_over(caller, to, m.now_ns());
        Some(())
    }

    #[inline(always)]
    fn try_fast_queue_wait(&mut self, m: &mut impl Hardware, id: Id<Thread>) -> Option<()> {
        let server = self.threads.get(id)?;
        let registers = &server.context.registers;
        let deadline = registers.rsi;
        let record = self.tables.get_mut(server.table)?;
        let capability = record.lookup(handle(registers.rdi)?).ok()?;
        let ObjectRef::Queue(queue_id) = capability.object else { return None };
        let queue = self.queues.get_mut(queue_id)?;
        let now = m.now_ns();
        let waits = queue.waiter.is_none() && queue.pending.is_empty() && deadline > now;
        if !capability.rights.contains(Rights::WAIT) || !waits {
            return None;
        }
        let count = queue.submitted_if_drained(m)?;
        if count != 1 {
            let server = Waiter { id, table: server.table, queue: queue_id, deadline };
            return self.try_fast_answers(m, &server, count);
        }
        let answer = queue.first_answer(m)?;
        let (to, serial) = answered(record, answer.target)?;
        let caller = self.threads.get_mut(to)?;
        let processor = self.scheduler.free_hand(self.cpu)?;
        if !awaits_answer(caller, serial) || !takes(processor, self.cpu, caller) {
            return None;
        }
        record.remove(answer.target).ok()?;
        // From here on nothing fails.
        finish_call(caller, answer.label, &queue.words_of_first(m));
        queue.take_one(m);
        queue.waiter = Some(id);
        caller.state = State::Running;
        caller.cpu = self.cpu;
        let server = &mut self.threads[id];
        settle_in(server, &mut self.alarms, queue_id, deadline);
        processor.hand_over(server, to, now);
        Some(())
    }

    /// Any other number of answers: whoever is answered first runs next, the others become ready.
    fn try_fast_answers(&mut self, m: &mut impl Hardware, server: &Waiter, count: u32) -> Option<()> {
        if count > FAST_ANSWERS {
            return None;
        }
        for number in 0..count {
            let record = self.tables.get_mut(server.table)?;
            let queue = self.queues.get_mut(server.queue)?;
            let answer = queue.first_answer(m)?;
            let (to, serial) = answered(record, answer.target)?;
            let caller = self.threads.get_mut(to)?;
            if !awaits_answer(caller, serial) {
                return None;
            }
            record.remove(answer.target).ok()?;
            finish_call(caller, answer.label, &queue.words_of_first(m));
            queue.take_one(m);
            match number {
                0 => self.scheduler.enqueue_here(&mut self.threads, self.cpu, to),
                _ => self.scheduler.enqueue(&mut self.threads, to),
            }
        }
        self.queues.get_mut(server.queue)?.waiter = Some(server.id);
        settle_in(&mut self.threads[server.id], &mut self.alarms, server.queue, server.deadline);
        self.scheduler.park(self.cpu);
        Some(())
    }

    #[inline(always)]
    fn try_fast_reply_receive(&mut self, m: &impl Devices, id: Id<Thread>) -> Option<()> {
        let server = self.threads.get(id)?;
        let registers = &server.context.registers;
        let label = registers.rsi;
        if label & KERNEL_LABEL != 0 {
            return None;
        }
        let words = words_of(registers);
        let table = server.table;
        let record = self.tables.get_mut(table)?;
        let reply = handle(registers.rbx)?;
        let (to, serial) = answered(record, reply)?;
        let end = endpoint(record, registers.rdi, Rights::RECEIVE)?;
        let line = self.endpoints.get_mut(end)?;
        let nothing_to_do = line.incoming.is_empty() && line.receivers.is_empty();
        if !nothing_to_do || line.binding.is_some() || line.peer.is_none() {
            return None;
        }
        let caller = self.threads.get_mut(to)?;
        let processor = self.scheduler.free_hand(self.cpu)?;
        if !awaits_answer(caller, serial) || !takes(processor, self.cpu, caller) {
            return None;
        }
        record.remove(reply).ok()?;
        // From here on nothing fails.
        finish_call(caller, label, &words);
        caller.state = State::Running;
        caller.cpu = self.cpu;
        line.receivers.set_single(Node::Thread(id));
        let server = &mut self.threads[id];
        server.state = State::Waiting(Wait::Receive { endpoint: end, form: ReceiveForm::Registers });
        server.links.clear();
        processor.hand_over(server, to, m.now_ns());
        Some(())
    }
}

/// Whether a processor would run this thread before all that are ready there.
#[inline(always)]
fn takes(processor: &Processor, cpu: usize, thread: &Thread) -> bool {
    processor.comes_first(thread.priority) && thread.may_run_on(cpu)
}

/// Whether a thread is parked in this call, in the simple form.
#[inline(always)]
fn awaits_answer(caller: &Thread, serial: u32) -> bool {
    matches!(caller.state, State::Waiting(Wait::Call))
        && matches!(caller.call.form, CallForm::Registers)
        && caller.call.serial == serial
        && caller.is_plain()
}

/// Gives a caller its answer.
#[inline(always)]
fn finish_call(caller: &mut Thread, label: u64, words: &[u64; WORDS]) {
    caller.call.serial = caller.call.serial.wrapping_add(1);
    let registers = &mut caller.context.registers;
    registers.rax = OK;
    set_message(registers, label, words);
}

/// Makes a thread wait in a queue, which knows it already.
#[inline(always)]
fn settle_in(thread: &mut Thread, alarms: &mut Alarms, queue: Id<Queue>, deadline: u64) {
    thread.state = State::Waiting(Wait::Queue(queue));
    if deadline != u64::MAX {
        thread.has_deadline = true;
        alarms.keep(thread.alarm, deadline);
    }
}

/// A handle in a register.
#[inline(always)]
fn handle(value: u64) -> Option<Handle> {
    u32::try_from(value).ok().map(Handle)
}

/// The endpoint that a handle in a register names.
#[inline(always)]
fn endpoint(table: &HandleTable, value: u64, rights: Rights) -> Option<Id<Endpoint>> {
    let capability = table.lookup(handle(value)?).ok()?;
    let ObjectRef::Channel(id) = capability.object else { return None };
    capability.rights.contains(rights).then_some(id)
}

/// The thread, and the number of its call, that a reply handle answers.
#[inline(always)]
fn answered(table: &HandleTable, reply: Handle) -> Option<(Id<Thread>, u32)> {
    let capability = table.lookup(reply).ok()?;
    let ObjectRef::Reply(ReplyRef::Thread { thread, serial }) = capability.object else { return None };
    capability.rights.contains(Rights::SEND).then_some((thread, serial))
}
