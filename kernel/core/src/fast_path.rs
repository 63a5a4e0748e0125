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
use crate::pool::{Id, Pool};
use crate::queue::{Binding, Queue};
use crate::route::{Destination, Use};
use crate::schedule::{Processor, SliceEnd};
use crate::thread::{CallForm, CallStage, ReceiveForm, State, Thread, Wait};
use crate::timer::Alarms;
use quire_abi::error::OK;
use quire_abi::message::{KERNEL_LABEL, WORDS};
use quire_abi::queue::{Completion, CompletionKind};
use quire_abi::{Handle, Rights};

/// Whether the fast path took the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fast {
    /// All is done, and there is nothing else to look at: the thread that was switched to goes on.
    Switched,
    /// All is done.
    Taken,
    /// Nothing has changed; take the general way.
    Declined,
}

/// A thread that is about to wait in a queue.
struct Waiter {
    id: Id<Thread>,
    queue: Id<Queue>,
    deadline: u64,
}

/// How many answers one `queue_wait` may give on the fast path.
const FAST_ANSWERS: u32 = 8;

impl Kernel {
    /// `channel_call` to a thread that waits in `channel_reply_receive`, or in `queue_wait` on the queue to which the endpoint
    /// is bound.
    #[inline(always)]
    pub(crate) fn fast_call(&mut self, m: &mut impl Hardware, id: Id<Thread>) -> Fast {
        self.try_fast_call(m, id).map_or(Fast::Declined, |()| Fast::Switched)
    }

    /// `channel_reply_receive` that answers a `channel_call` and finds nothing to receive.
    #[inline(always)]
    pub(crate) fn fast_reply_receive(&mut self, m: &mut impl Devices, id: Id<Thread>) -> Fast {
        self.try_fast_reply_receive(m, id).map_or(Fast::Declined, |()| Fast::Switched)
    }

    /// `queue_wait` with a few submissions, all of them answers to a `channel_call`, that finds no completion. If it declines,
    /// it has done those submissions that stand before the one that is out of the ordinary.
    #[inline(always)]
    pub(crate) fn fast_queue_wait(&mut self, m: &mut impl Hardware, id: Id<Thread>) -> Fast {
        self.try_fast_queue_wait(m, id).unwrap_or(Fast::Declined)
    }

    /// `thread_yield` to another ready thread of the same priority.
    #[inline(never)]
    pub(crate) fn fast_yield(&mut self, m: &mut impl Devices) -> Fast {
        match self.scheduler.rotate(m, &mut self.threads, self.cpu) {
            None => Fast::Declined,
            Some(SliceEnd::Known) => Fast::Switched,
            Some(SliceEnd::News) => Fast::Taken,
        }
    }

    #[inline(always)]
    fn try_fast_call(&mut self, m: &mut impl Hardware, id: Id<Thread>) -> Option<()> {
        let thread = self.threads.get(id)?;
        let registers = &thread.context.registers;
        let (handle, label) = (registers.rdi, registers.rsi);
        if label & KERNEL_LABEL != 0 {
            return None;
        }
        let to = match thread.route.of(handle, self.route_epoch) {
            Some(to) => to,
            None => self.find_route(id, handle, Use::Call)?,
        };
        match to {
            Destination::Binding(binding) => self.try_fast_post(m, id, binding),
            Destination::Endpoint(end) => self.try_fast_hand(m, id, end),
            Destination::None | Destination::Receiver(_) | Destination::Queue(_) => None,
        }
    }

    /// To a thread that waits in `channel_reply_receive`.
    #[inline(always)]
    fn try_fast_hand(&mut self, m: &mut impl Hardware, id: Id<Thread>, end: Id<Endpoint>) -> Option<()> {
        let line = self.endpoints.get_mut(end)?;
        let Some(Node::Thread(to)) = line.receivers.front() else { return None };
        let caller = self.threads.get(id)?;
        let serial = caller.call.serial.wrapping_add(1);
        let (label, words) = (caller.context.registers.rsi, words_of(&caller.context.registers));
        let receiver = self.threads.get_mut(to)?;
        let waits = matches!(receiver.state, State::Waiting(Wait::Receive { form: ReceiveForm::Registers, .. }));
        let processor = self.scheduler.free_hand(self.cpu)?;
        if !waits || !receiver.is_plain() || !receiver.links.is_clear() || !takes(processor, self.cpu, receiver) {
            return None;
        }
        // From here on nothing fails: making the handle is the last thing that can.
        let handle = self.tables.get_mut(receiver.table)?.insert(reply_to(id, serial))?;
        receiver.state = State::Running;
        receiver.cpu = self.cpu;
        let registers = &mut receiver.context.registers;
        registers.rax = OK;
        registers.rbx = handle.0.into();
        set_message(registers, label, &words);
        m.switch_to(to, receiver);
        line.receivers.clear();
        let caller = &mut self.threads[id];
        park_in_call(caller, serial);
        processor.hand_over(caller, to, m.now_ns());
        Some(())
    }

    /// To a thread that waits in `queue_wait`. That nothing stands in the queue's line also means that nothing waits at the
    /// endpoint.
    #[inline(always)]
    fn try_fast_post(&mut self, m: &mut impl Hardware, id: Id<Thread>, binding: Binding) -> Option<()> {
        let queue = self.queues.get_mut(binding.queue)?;
        let to = queue.waiter?;
        if !queue.pending.is_empty() || !queue.has_room(m) {
            return None;
        }
        let serial = self.threads.get(id)?.call.serial.wrapping_add(1);
        let receiver = self.threads.get_mut(to)?;
        let processor = self.scheduler.free_hand(self.cpu)?;
        if receiver.suspensions != 0 || !takes(processor, self.cpu, receiver) {
            return None;
        }
        // From here on nothing fails: making the handle is the last thing that can.
        let reply = self.tables.get_mut(queue.table)?.insert(reply_to(id, serial))?;
        queue.waiter = None;
        receiver.state = State::Running;
        receiver.cpu = self.cpu;
        receiver.context.registers.rax = OK;
        // The alarm stays: it means nothing without `has_deadline`, and a server comes back with the same deadline.
        receiver.has_deadline = false;
        m.switch_to(to, receiver);
        let caller = &mut self.threads[id];
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
        park_in_call(caller, serial);
        processor.hand_over(caller, to, m.now_ns());
        Some(())
    }

    #[inline(always)]
    fn try_fast_queue_wait(&mut self, m: &mut impl Hardware, id: Id<Thread>) -> Option<Fast> {
        let server = self.threads.get(id)?;
        let registers = &server.context.registers;
        let (handle, deadline, table) = (registers.rdi, registers.rsi, server.table);
        let to = match server.route.of(handle, self.route_epoch) {
            Some(to) => to,
            None => self.find_route(id, handle, Use::Wait)?,
        };
        let Destination::Queue(queue_id) = to else { return None };
        let queue = self.queues.get_mut(queue_id)?;
        let now = m.now_ns();
        if queue.waiter.is_some() || !queue.pending.is_empty() || deadline <= now {
            return None;
        }
        let count = queue.submitted_if_drained(m)?;
        if count != 1 {
            return self.try_fast_answers(m, &Waiter { id, queue: queue_id, deadline }, table, count);
        }
        let answer = queue.first_answer(m)?;
        let record = self.tables.get_mut(table)?;
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
        m.switch_to(to, caller);
        let server = &mut self.threads[id];
        settle_in(server, &mut self.alarms, queue_id, deadline);
        processor.hand_over(server, to, now);
        Some(if self.alarms.came_nearer() { Fast::Taken } else { Fast::Switched })
    }

    /// Any other number of answers: whoever is answered first runs next, the others become ready; and if nobody is, whoever is
    /// ready.
    fn try_fast_answers(
        &mut self,
        m: &mut impl Hardware,
        server: &Waiter,
        table: Id<HandleTable>,
        count: u32,
    ) -> Option<Fast> {
        if count > FAST_ANSWERS {
            return None;
        }
        let queue = self.queues.get_mut(server.queue)?;
        let record = self.tables.get_mut(table)?;
        let mut first = None;
        for _ in 0..count {
            let Some(to) = take_answer(m, queue, record, &mut self.threads) else {
                if let Some(first) = first {
                    self.scheduler.enqueue_first(&mut self.threads, self.cpu, first);
                }
                return None;
            };
            match first {
                None => first = Some(to),
                Some(_) => self.scheduler.enqueue(&mut self.threads, to),
            }
        }
        queue.waiter = Some(server.id);
        settle_in(&mut self.threads[server.id], &mut self.alarms, server.queue, server.deadline);
        self.scheduler.replace(m, &mut self.threads, self.cpu, server.id, first);
        Some(Fast::Taken)
    }

    #[inline(always)]
    fn try_fast_reply_receive(&mut self, m: &mut impl Devices, id: Id<Thread>) -> Option<()> {
        let server = self.threads.get(id)?;
        let registers = &server.context.registers;
        let (own, label, reply, table) = (registers.rdi, registers.rsi, registers.rbx, server.table);
        if label & KERNEL_LABEL != 0 {
            return None;
        }
        let words = words_of(registers);
        let to = match server.route.of(own, self.route_epoch) {
            Some(to) => to,
            None => self.find_route(id, own, Use::Receive)?,
        };
        let Destination::Receiver(end) = to else { return None };
        let line = self.endpoints.get_mut(end)?;
        if !line.incoming.is_empty() || !line.receivers.is_empty() {
            return None;
        }
        let record = self.tables.get_mut(table)?;
        let reply = handle(reply)?;
        let (to, serial) = answered(record, reply)?;
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
        m.switch_to(to, caller);
        line.receivers.set_single(Node::Thread(id));
        let server = &mut self.threads[id];
        server.state = State::Waiting(Wait::Receive { endpoint: end, form: ReceiveForm::Registers });
        server.links.clear();
        processor.hand_over(server, to, m.now_ns());
        Some(())
    }
}

/// The right to answer the call of this number that a thread makes.
#[inline(always)]
fn reply_to(thread: Id<Thread>, serial: u32) -> Capability {
    Capability::reply(ReplyRef::Thread { thread, serial })
}

/// Makes a caller wait for its answer.
#[inline(always)]
fn park_in_call(thread: &mut Thread, serial: u32) {
    thread.state = State::Waiting(Wait::Call);
    thread.call.serial = serial;
    thread.call.form = CallForm::Registers;
    thread.call.stage = CallStage::Received;
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

/// Takes one answer out of a submission ring; who has got it is in no queue yet. `None`, and nothing has changed, if it is not of
/// the simple form.
#[inline(always)]
fn take_answer(
    m: &mut impl Hardware,
    queue: &mut Queue,
    record: &mut HandleTable,
    threads: &mut Pool<Thread>,
) -> Option<Id<Thread>> {
    let answer = queue.first_answer(m)?;
    let (to, serial) = answered(record, answer.target)?;
    let caller = threads.get_mut(to)?;
    if !awaits_answer(caller, serial) {
        return None;
    }
    record.remove(answer.target).ok()?;
    finish_call(caller, answer.label, &queue.words_of_first(m));
    queue.take_one(m);
    Some(to)
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

/// The thread, and the number of its call, that a reply handle answers.
#[inline(always)]
fn answered(table: &HandleTable, reply: Handle) -> Option<(Id<Thread>, u32)> {
    let capability = table.lookup(reply).ok()?;
    let ObjectRef::Reply(ReplyRef::Thread { thread, serial }) = capability.object else { return None };
    capability.rights.contains(Rights::SEND).then_some((thread, serial))
}
