//! A single-threaded async executor over one [`Queue`](crate::Queue).
//!
//! How one request travels:
//!
//! 1. A client calls on a channel whose endpoint was [bound](Executor::bind). The kernel writes a completion into the
//!    ring and, if the executor waits, switches to it.
//! 2. The executor moves the completion to the inbox that its key names and wakes the task that waits there: no
//!    allocation, as inboxes and the ready list keep their storage. If the endpoint is [served](Executor::serve), it calls the
//!    function that serves it instead: the shortest way, for what can be answered at once.
//! 3. The task is polled, gets a [`Request`](crate::Request), works, and [answers](Executor::answer): a submission in the
//!    ring, no call.
//! 4. When no task is ready, one `queue_wait` hands all submissions over and waits for the next completion, or for
//!    the earliest deadline of a [`Sleep`].
//!
//! Every future here may be dropped at any time: it unbinds what it bound, its key becomes invalid, and the handles
//! of a completion that comes late are closed.
//!
//! An executor belongs to one thread. Wakers may be used in other threads, but do not interrupt a wait; to do that, post
//! to the queue ([`Executor::posts`]).

mod call;
mod sleep;
mod slots;
mod sources;
mod tasks;
mod timers;

pub use call::{Answer, Buffers, CallFuture};
pub use sleep::Sleep;
pub use sources::{Errand, EventBits, Interrupts, Messages, PagerRequests, Posts, Serving, ThreadEnd};

use crate::account::Account;
use crate::channel::{ChannelEndpoint, FOREVER, IMMEDIATELY, Message, Reply, Request};
use crate::handle::{Object, close};
use crate::hardware::Interrupt;
use crate::memory::{CopySide, Memory};
use crate::pager::Pager;
use crate::queue::{MappedQueue, Queue};
use crate::rt;
use crate::thread::Thread;
use crate::time::{Clock, Event};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use call::Keep;
use core::cell::RefCell;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use quire_abi::queue::{COMPLETION_HANDLES, Completion, SUBMISSIONS_PER_WAIT, Submission, SubmissionKind};
use quire_abi::startup::Purpose;
use quire_abi::{Error, Handle, Rights};
use slots::{Delivery, Key, Slots};
use sources::{Handler, Source, hand_over};
use tasks::{MAIN, ReadyList, Tasks, WakeFlag};
use timers::Timers;

/// Entries of the submission ring, unless said otherwise.
const DEFAULT_SUBMISSIONS: u32 = 256;
/// Entries of the completion ring, unless said otherwise.
const DEFAULT_COMPLETIONS: u32 = 1024;
/// How many completions are handed out before tasks are polled.
const BATCH: usize = 64;
/// The key of submissions whose refusal nobody cares about.
const IGNORED_KEY: u64 = 0;
/// A bit that is set in the keys of answers; the rest is the handle of the `Reply`, to be closed if it is refused.
const ANSWER_KEY: u64 = 1 << 63;

/// What executor, tasks and futures share.
struct Inner {
    queue: RefCell<MappedQueue>,
    slots: RefCell<Slots>,
    timers: RefCell<Timers>,
    tasks: RefCell<Tasks>,
    ready: Arc<ReadyList>,
    clock: Clock,
}

impl core::fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Inner {
    fn submit(&self, submission: &Submission) -> Result<(), Error> {
        self.queue.borrow_mut().submit(submission)
    }

    fn acknowledge(&self, interrupt: &Interrupt) -> Result<(), Error> {
        self.submit(&Submission {
            key: IGNORED_KEY,
            kind: SubmissionKind::AcknowledgeInterrupt as u32,
            target: interrupt.raw(),
            ..Submission::default()
        })
    }

    /// Hands completions that are in the ring to those who wait for them; not more than [`BATCH`], so that whoever fills
    /// the ring as fast as it is emptied does not keep the tasks from running.
    fn dispatch_batch(&self) {
        for _ in 0..BATCH {
            let next = self.queue.borrow_mut().take();
            let Some(completion) = next else { return };
            // Waking, serving and closing may run other code, so nothing is borrowed then.
            let delivery = dispatch(&mut self.slots.borrow_mut(), &completion);
            match delivery {
                Delivery::Served(handler) => handler(&completion),
                Delivery::Delivered(Some(waker)) => waker.wake(),
                Delivery::Delivered(None) => {}
                Delivery::Unwanted(handles) => {
                    handles.into_iter().filter(|handle| *handle != Handle::NONE).for_each(close);
                }
            }
        }
    }

    /// Wakes those whose deadline passed.
    fn expire_timers(&self) {
        let earliest_ns = self.timers.borrow().earliest_ns();
        if earliest_ns == FOREVER {
            return;
        }
        let now_ns = self.clock.now_ns();
        if earliest_ns > now_ns {
            return;
        }
        loop {
            let expired = self.timers.borrow_mut().expire(now_ns);
            let Some(waker) = expired else { return };
            waker.wake();
        }
    }

    /// Waits until there is something to do. If there is something already, it does not wait, and calls the kernel only if
    /// there is much to submit.
    fn wait(&self) -> Result<(), Error> {
        let queue = self.queue.borrow();
        let deadline_ns = if self.ready.is_empty() && !queue.has_completions() {
            self.timers.borrow().earliest_ns()
        } else if queue.pending_submissions() >= SUBMISSIONS_PER_WAIT / 4 {
            IMMEDIATELY
        } else {
            return Ok(());
        };
        match queue.wait(deadline_ns) {
            Ok(()) | Err(Error::WouldBlock | Error::TimedOut | Error::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn poll_task(&self, index: u32) {
        let taken = self.tasks.borrow_mut().take(index);
        let Some((mut task, waker)) = taken else { return };
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {
                drop(task);
                self.tasks.borrow_mut().finish(index);
            }
            Poll::Pending => self.tasks.borrow_mut().put_back(index, task),
        }
    }
}

/// Puts a completion into its inbox. That of an answer is there only because the answer was refused.
fn dispatch(slots: &mut Slots, completion: &Completion) -> Delivery {
    if completion.key & ANSWER_KEY == 0 {
        return slots.deliver(completion);
    }
    let mut handles = [Handle::NONE; 1 + COMPLETION_HANDLES];
    handles[0] = Handle(completion.key as u32);
    Delivery::Unwanted(handles)
}

/// Runs futures. Clones share the same queue and tasks.
#[derive(Clone, Debug)]
pub struct Executor(Rc<Inner>);

impl Executor {
    /// An executor with a queue of ordinary size, charged to `account`.
    pub fn new(account: &Account) -> Result<Self, Error> {
        Self::with_sizes(account, DEFAULT_SUBMISSIONS, DEFAULT_COMPLETIONS)
    }

    /// An executor with rings of these sizes, powers of two.
    pub fn with_sizes(account: &Account, submissions: u32, completions: u32) -> Result<Self, Error> {
        Ok(Self(Rc::new(Inner {
            queue: RefCell::new(MappedQueue::create(account, submissions, completions)?),
            slots: RefCell::default(),
            timers: RefCell::default(),
            tasks: RefCell::default(),
            ready: Arc::default(),
            clock: Clock::new()?,
        })))
    }

    /// Adds a task. It first runs when the executor next looks for work.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.0.tasks.borrow_mut().add(Box::pin(future), &self.0.ready);
    }

    /// How many tasks there are.
    pub fn task_count(&self) -> usize {
        self.0.tasks.borrow().len()
    }

    /// Runs all tasks until `future` is done. Tasks that are not done stay, for the next `block_on`.
    ///
    /// Fails if the queue can't be waited for; that is a mistake in the program (its queue was closed or is waited for
    /// elsewhere).
    pub fn block_on<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        let _pulse = self.pulse()?;
        let mut future = pin!(future);
        let inner = &*self.0;
        let flag = WakeFlag::new(MAIN, &inner.ready);
        let waker = Waker::from(Arc::clone(&flag));
        waker.wake_by_ref();
        let mut batch = Vec::new();
        loop {
            inner.ready.swap(&mut batch);
            for index in batch.drain(..) {
                if index == MAIN {
                    flag.clear();
                    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                        self.flush()?;
                        return Ok(output);
                    }
                } else {
                    inner.poll_task(index);
                }
            }
            inner.wait()?;
            inner.dispatch_batch();
            inner.expire_timers();
        }
    }

    /// Answers a supervisor that asks whether the program runs: an executor whose tasks spin, or wait in a call, does not.
    fn pulse(&self) -> Result<Option<Serving>, Error> {
        let Ok(endpoint) = rt::startup().and_then(|startup| startup.take(Purpose::PULSE)) else { return Ok(None) };
        let inner = Rc::downgrade(&self.0);
        let answer = move |request: Option<Request>| {
            let (Some(inner), Some(reply)) = (inner.upgrade(), request.and_then(|request| request.reply)) else {
                return;
            };
            // A supervisor that is not answered draws its conclusions.
            let _ = Self(inner).answer(reply, Message::default());
        };
        self.serve(endpoint, answer).map(Some)
    }

    /// Hands submissions (answers, acknowledgements) to the kernel now, instead of at the next wait.
    pub fn flush(&self) -> Result<(), Error> {
        let queue = self.0.queue.borrow();
        while queue.pending_submissions() > 0 {
            match queue.wait(IMMEDIATELY) {
                Ok(()) | Err(Error::WouldBlock | Error::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The clock.
    pub fn clock(&self) -> Clock {
        self.0.clock
    }

    /// Time since the kernel's start in ns.
    pub fn now_ns(&self) -> u64 {
        self.0.clock.now_ns()
    }

    /// Waits until `deadline_ns` since the kernel's start.
    pub fn sleep_until(&self, deadline_ns: u64) -> Sleep {
        Sleep { inner: Rc::clone(&self.0), deadline_ns, timer: None }
    }

    /// Waits for `duration_ns`.
    pub fn sleep_ns(&self, duration_ns: u64) -> Sleep {
        self.sleep_until(self.now_ns().saturating_add(duration_ns))
    }

    /// Another handle to the queue, with `rights`, for others to post to.
    pub fn queue(&self, rights: Rights) -> Result<Queue, Error> {
        self.0.queue.borrow().queue().duplicate(rights)
    }

    /// Receives the messages that arrive at `endpoint`. Needs `WAIT` on it.
    pub fn bind(&self, endpoint: ChannelEndpoint) -> Result<Messages, Error> {
        let source = self.bind_source(&endpoint)?;
        Ok(Messages { endpoint, source, ended: false })
    }

    /// Calls `serve` with each message that arrives at `endpoint`, at once and in the executor's loop, and with `None` when the
    /// other end is closed. What `serve` does must be short; what takes time it leaves to a task. Needs `WAIT` on it.
    pub fn serve(
        &self,
        endpoint: ChannelEndpoint,
        serve: impl Fn(Option<Request>) + 'static,
    ) -> Result<Serving, Error> {
        let handler: Rc<Handler> = Rc::new(move |completion: &Completion| hand_over(completion, &serve));
        let key = self.0.slots.borrow_mut().open_served(handler);
        let source = Source { inner: Rc::clone(&self.0), key };
        self.0.queue.borrow().queue().bind(&endpoint, key.0)?;
        Ok(Serving { endpoint, source })
    }

    /// Receives the interrupts of a device. Needs `WAIT` on it.
    pub fn interrupts(&self, interrupt: Interrupt) -> Result<Interrupts, Error> {
        let source = self.bind_source(&interrupt)?;
        Ok(Interrupts { interrupt, source })
    }

    /// Waits for the end of a thread. Needs `WAIT` and `DUPLICATE`. A thread has one watcher: the last one.
    pub fn thread_end(&self, thread: &Thread) -> Result<ThreadEnd, Error> {
        let thread = thread.duplicate(Rights::all())?;
        let source = self.bind_source(&thread)?;
        Ok(ThreadEnd { thread, source })
    }

    /// Waits until one of the bits in `mask` is set. Needs `WAIT`.
    pub fn event_bits(&self, event: &Event, mask: u64) -> Result<EventBits, Error> {
        let source = self.source();
        self.0.queue.borrow().queue().notify(event, source.key.0, mask)?;
        Ok(EventBits { source })
    }

    /// Receives what a pager is asked to do. What was asked of an earlier holder is asked again. Needs `WAIT`.
    pub fn pager_requests(&self, pager: Pager) -> Result<PagerRequests, Error> {
        let source = self.bind_source(&pager)?;
        Ok(PagerRequests { pager, source, taken: VecDeque::new() })
    }

    /// Brings in pages of a memory or an address space: `len_bytes` (at most [`MAX_TRANSFER`](quire_abi::space::MAX_TRANSFER))
    /// from `offset` on. Needs `READ`, and `WRITE` if they are to be `writable`.
    pub fn fetch(&self, from: &impl CopySide, offset: u64, len_bytes: u64, writable: bool) -> Result<Errand, Error> {
        self.begin_errand(SubmissionKind::Fetch, from.raw(), offset, [len_bytes, u64::from(writable)])
    }

    /// Has the pager of a managed memory write back what was stored in a range until now. Needs `WRITE`.
    pub fn write_back(&self, memory: &Memory, offset: u64, len_bytes: u64) -> Result<Errand, Error> {
        self.begin_errand(SubmissionKind::Flush, memory.raw(), offset, [len_bytes, 0])
    }

    fn begin_errand(
        &self,
        kind: SubmissionKind,
        target: Handle,
        label: u64,
        details: [u64; 2],
    ) -> Result<Errand, Error> {
        let source = self.source();
        let mut submission =
            Submission { key: source.key.0, kind: kind as u32, target, label, ..Submission::default() };
        submission.words[..details.len()].copy_from_slice(&details);
        self.0.submit(&submission)?;
        Ok(Errand { source })
    }

    /// Receives what others post to the queue with the [key](Posts::key).
    pub fn posts(&self) -> Posts {
        Posts { source: self.source() }
    }

    /// Calls on a channel without blocking the thread. The call is under way when this returns. Needs `SEND`.
    pub fn call(&self, channel: &ChannelEndpoint, message: Message, buffers: Buffers) -> CallFuture {
        let state = match self.submit_call(channel, message, buffers) {
            Ok(key) => call::State::Submitted(key),
            Err(error) => call::State::Failed(error),
        };
        CallFuture { inner: Rc::clone(&self.0), state }
    }

    fn submit_call(&self, channel: &ChannelEndpoint, message: Message, buffers: Buffers) -> Result<Key, Error> {
        let too_long = |_| Error::OutOfRange;
        let send_len = u32::try_from(buffers.send.len()).map_err(too_long)?;
        let receive_len = u32::try_from(buffers.receive.len()).map_err(too_long)?;
        let mut keep = Keep {
            send: buffers.send.into_boxed_slice(),
            receive: buffers.receive.into_boxed_slice(),
            handles: message.raw_handles(),
        };
        let mut submission = Submission {
            key: IGNORED_KEY,
            kind: SubmissionKind::Call as u32,
            target: channel.raw(),
            label: message.label,
            words: message.words,
            handles: keep.handles,
            send_buffer: keep.send.as_ptr() as u64,
            receive_buffer: keep.receive.as_mut_ptr() as u64,
            send_len,
            receive_len,
        };
        let key = self.0.slots.borrow_mut().open_call(keep);
        submission.key = key.0;
        if let Err(error) = self.0.submit(&submission) {
            self.0.slots.borrow_mut().close(key);
            return Err(error);
        }
        message.forget_handles();
        Ok(key)
    }

    /// Answers a call; the kernel is told at the next wait, together with all other answers. That the caller has gone
    /// meanwhile is no error. A message with handles is answered at once.
    pub fn answer(&self, reply: Reply, message: Message) -> Result<(), Error> {
        if !message.is_words_only() {
            return reply.answer(message);
        }
        self.0.submit(&Submission {
            key: ANSWER_KEY | u64::from(reply.raw().0),
            kind: SubmissionKind::Reply as u32,
            target: reply.raw(),
            label: message.label,
            words: message.words,
            ..Submission::default()
        })?;
        reply.into_handle().into_raw();
        Ok(())
    }

    /// Resumes a suspended thread at the next wait. Needs `MANAGE`.
    pub fn resume(&self, thread: &Thread) -> Result<(), Error> {
        self.0.submit(&Submission {
            key: IGNORED_KEY,
            kind: SubmissionKind::ResumeThread as u32,
            target: thread.raw(),
            ..Submission::default()
        })
    }

    /// Drops all tasks. To be called before the last clone goes if tasks hold clones themselves.
    pub fn cancel_all(&self) {
        let tasks = self.0.tasks.borrow_mut().drain();
        drop(tasks);
    }

    fn source(&self) -> Source {
        Source { inner: Rc::clone(&self.0), key: self.0.slots.borrow_mut().open() }
    }

    fn bind_source(&self, object: &impl Object) -> Result<Source, Error> {
        let source = self.source();
        self.0.queue.borrow().queue().bind(object, source.key.0)?;
        Ok(source)
    }
}
