//! Futures and streams of what completes in a queue.

use super::Inner;
use super::slots::{Key, handles_of};
use crate::channel::{ChannelEndpoint, Message, Reply, Request};
use crate::handle::{Object, OwnedHandle, close};
use crate::hardware::Interrupt;
use crate::pager::Pager;
use crate::queue::unbind;
use crate::raw::check;
use crate::thread::Thread;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use futures_util::Stream;
use quire_abi::Error;
use quire_abi::pager::PagerRequest;
use quire_abi::queue::{COMPLETION_HANDLES, Completion, CompletionKind};

/// How many requests are taken from a pager at once.
const TAKEN_TOGETHER: usize = 16;

/// A slot that frees itself, closing the handles of what nobody took.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) inner: Rc<Inner>,
    pub(super) key: Key,
}

impl Source {
    #[inline]
    fn poll<R>(&self, context: &Context<'_>, read: impl FnOnce(&Completion) -> R) -> Poll<R> {
        self.inner.slots.borrow_mut().poll(self.key, context.waker(), read).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        loop {
            let unread = self.inner.slots.borrow_mut().take(self.key);
            let Some(completion) = unread else { break };
            handles_of(&completion).for_each(close);
        }
        let closed = self.inner.slots.borrow_mut().close(self.key);
        drop(closed);
    }
}

/// What is shown the completions of one key as they come.
pub(super) type Handler = dyn Fn(&Completion);

/// The messages of a channel endpoint, each of which is handed to a function as it comes, in the executor's own loop: no
/// task, no waker, no inbox. Dropped, it closes the endpoint.
#[derive(Debug)]
#[must_use = "dropped, it closes the endpoint"]
pub struct Serving {
    pub(super) endpoint: ChannelEndpoint,
    #[expect(dead_code, reason = "kept for its end, which frees the slot")]
    pub(super) source: Source,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = unbind(&self.endpoint);
    }
}

/// Calls `serve` with the message in a completion, or with `None` if it says that the other end is closed.
#[inline]
pub(super) fn hand_over(completion: &Completion, serve: &impl Fn(Option<Request>)) {
    match Arrival::read(completion) {
        Arrival::Request(request) => serve(Some(request)),
        Arrival::PeerClosed => serve(None),
        Arrival::Other(handles) => handles.into_iter().flatten().for_each(drop),
    }
}

/// The messages that arrive at a channel endpoint, as a stream. It ends when the other end is closed. Dropped, it closes the
/// endpoint; requests that nobody took are answered with [`Error::PeerClosed`].
#[derive(Debug)]
pub struct Messages {
    pub(super) endpoint: ChannelEndpoint,
    pub(super) source: Source,
    pub(super) ended: bool,
}

impl Messages {
    /// The next message; `None` when the other end is closed.
    pub fn receive(&mut self) -> impl Future<Output = Option<Request>> + '_ {
        core::future::poll_fn(|context| self.poll_message(context))
    }

    /// The endpoint, to send or call the other way. Receiving from it while it is bound fails.
    pub fn endpoint(&self) -> &ChannelEndpoint {
        &self.endpoint
    }

    fn poll_message(&mut self, context: &Context<'_>) -> Poll<Option<Request>> {
        while !self.ended {
            let Poll::Ready(arrival) = self.source.poll(context, Arrival::read) else { return Poll::Pending };
            match arrival {
                Arrival::Request(request) => return Poll::Ready(Some(request)),
                Arrival::PeerClosed => self.ended = true,
                Arrival::Other(handles) => handles.into_iter().flatten().for_each(drop),
            }
        }
        Poll::Ready(None)
    }
}

/// What completes for a channel endpoint.
enum Arrival {
    Request(Request),
    PeerClosed,
    /// Nothing that a channel tells; its handles are to be closed.
    Other([Option<OwnedHandle>; COMPLETION_HANDLES]),
}

impl Arrival {
    #[inline(always)]
    fn read(completion: &Completion) -> Self {
        match CompletionKind::from_number(completion.kind) {
            Some(CompletionKind::Message) => Self::Request(request(completion)),
            Some(CompletionKind::PeerClosed) => Self::PeerClosed,
            Some(
                CompletionKind::Answer
                | CompletionKind::Timer
                | CompletionKind::Interrupt
                | CompletionKind::Event
                | CompletionKind::ThreadEnded
                | CompletionKind::Posted
                | CompletionKind::Refused
                | CompletionKind::PagerRequests
                | CompletionKind::Fetched
                | CompletionKind::Flushed,
            )
            | None => Self::Other(completion.handles.map(OwnedHandle::from_raw)),
        }
    }
}

impl Stream for Messages {
    type Item = Request;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Request>> {
        self.poll_message(context)
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        let _ = unbind(&self.endpoint);
    }
}

/// Takes charge of a message completion's handles.
#[inline(always)]
fn request(completion: &Completion) -> Request {
    Request {
        message: Message {
            label: completion.label,
            words: completion.words,
            handles: completion.handles.map(OwnedHandle::from_raw),
        },
        reply: OwnedHandle::from_raw(completion.reply).map(Reply::from_handle),
        send_len: completion.value & u64::from(u32::MAX),
        receive_len: completion.value >> u32::BITS,
    }
}

/// The interrupts of a device.
#[derive(Debug)]
pub struct Interrupts {
    pub(super) interrupt: Interrupt,
    pub(super) source: Source,
}

impl Interrupts {
    /// Waits for the next interrupt; it stays masked until [`acknowledge`](Self::acknowledge). Returns how many came in
    /// so far.
    pub fn wait(&mut self) -> impl Future<Output = u64> + '_ {
        core::future::poll_fn(|context| self.source.poll(context, |completion| completion.value))
    }

    /// Lets the next one in; the kernel is told at the executor's next wait.
    pub fn acknowledge(&self) -> Result<(), Error> {
        self.source.inner.acknowledge(&self.interrupt)
    }

    /// Lets the next one in, at once.
    pub fn acknowledge_now(&self) -> Result<(), Error> {
        self.interrupt.acknowledge()
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        let _ = unbind(&self.interrupt);
    }
}

/// The end of a thread.
#[derive(Debug)]
#[must_use = "does nothing unless awaited"]
pub struct ThreadEnd {
    pub(super) thread: Thread,
    pub(super) source: Source,
}

impl Future for ThreadEnd {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.source.poll(context, |_| ())
    }
}

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        let _ = unbind(&self.thread);
    }
}

/// The bits of an event.
#[derive(Debug)]
#[must_use = "does nothing unless awaited"]
pub struct EventBits {
    pub(super) source: Source,
}

impl Future for EventBits {
    type Output = u64;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u64> {
        self.source.poll(context, |completion| completion.value)
    }
}

/// What a pager is asked to do.
#[derive(Debug)]
pub struct PagerRequests {
    pub(super) pager: Pager,
    pub(super) source: Source,
    pub(super) taken: VecDeque<PagerRequest>,
}

impl PagerRequests {
    /// The next request. Fails with [`Error::PeerClosed`] when nobody has the memory any more.
    pub async fn next(&mut self) -> Result<PagerRequest, Error> {
        core::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// The same for whoever polls several.
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Result<PagerRequest, Error>> {
        loop {
            if let Some(request) = self.taken.pop_front() {
                return Poll::Ready(Ok(request));
            }
            if !self.take()? && self.source.poll(context, |_| ()).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Takes what there is; tells whether that was anything.
    fn take(&mut self) -> Result<bool, Error> {
        let mut requests = [PagerRequest::default(); TAKEN_TOGETHER];
        let count = self.pager.receive(&mut requests)?;
        self.taken.extend(requests.iter().take(count));
        Ok(count != 0)
    }

    /// The pager, to answer with.
    pub fn pager(&self) -> &Pager {
        &self.pager
    }
}

impl Drop for PagerRequests {
    fn drop(&mut self) {
        let _ = unbind(&self.pager);
    }
}

/// Something about a managed memory that takes time: a fetch or a flush. Dropped, it goes on, and nobody hears of it.
#[derive(Debug)]
#[must_use = "does nothing unless awaited"]
pub struct Errand {
    pub(super) source: Source,
}

impl Future for Errand {
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.source.poll(context, |completion| check(completion.status))
    }
}

/// What others post to the queue for this program: numbers.
#[derive(Debug)]
pub struct Posts {
    pub(super) source: Source,
}

impl Posts {
    /// The key with which others post, with [`Queue::post`](crate::Queue::post).
    pub fn key(&self) -> u64 {
        self.source.key.0
    }

    /// The next number posted.
    pub fn receive(&mut self) -> impl Future<Output = u64> + '_ {
        core::future::poll_fn(|context| self.source.poll(context, |completion| completion.value))
    }
}
