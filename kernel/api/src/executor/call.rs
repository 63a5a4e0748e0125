//! Calls whose answer is awaited.

use super::Inner;
use super::slots::{Key, handles_of};
use crate::channel::Message;
use crate::handle::{OwnedHandle, close};
use crate::raw::check;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};
use quire_abi::queue::{Completion, CompletionKind};
use quire_abi::{Error, Handle};

/// Buffers of a call. They belong to the call until it is answered, also if nobody waits for the answer any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    /// Bytes that the receiver may read.
    pub send: Vec<u8>,
    /// Room that the receiver may write; its length is the room.
    pub receive: Vec<u8>,
}

/// What a call's answer is.
#[derive(Debug)]
pub struct Answer {
    /// The message.
    pub message: Message,
    /// The buffers that the call was made with. How much of `receive` was written the message says.
    pub buffers: Buffers,
}

/// What must stay as it is until a call is answered.
#[derive(Debug, Default)]
pub(super) struct Keep {
    /// Boxed bytes do not move.
    pub(super) send: Box<[u8]>,
    /// Written by the receiver, through the kernel.
    pub(super) receive: Box<[u8]>,
    /// Handles that are still ours if the call is refused.
    pub(super) handles: [Handle; quire_abi::message::HANDLES],
}

/// The future of a call. Dropped, it forgets the answer; the call itself goes on.
#[derive(Debug)]
#[must_use = "a call does nothing with its answer unless it is awaited"]
pub struct CallFuture {
    pub(super) inner: Rc<Inner>,
    pub(super) state: State,
}

/// How far a call is.
#[derive(Debug)]
pub(super) enum State {
    /// It could not be submitted.
    Failed(Error),
    /// It is on its way.
    Submitted(Key),
    /// Its answer was given.
    Done,
}

impl Future for CallFuture {
    type Output = Result<Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let key = match self.state {
            State::Failed(error) => {
                self.state = State::Done;
                return Poll::Ready(Err(error));
            }
            State::Submitted(key) => key,
            State::Done => return Poll::Ready(Err(Error::BadState)),
        };
        let Some(completion) = self.inner.slots.borrow_mut().poll(key, context.waker(), |completion| *completion)
        else {
            return Poll::Pending;
        };
        self.state = State::Done;
        let keep = self.inner.slots.borrow_mut().finish_call(key).unwrap_or_default();
        Poll::Ready(answer(&completion, keep))
    }
}

/// Makes the result of a call of its completion.
fn answer(completion: &Completion, keep: Keep) -> Result<Answer, Error> {
    let Keep { send, receive, handles } = keep;
    let refused = completion.kind != CompletionKind::Answer as u32;
    if let Err(error) = check(completion.status).and(if refused { Err(Error::BadState) } else { Ok(()) }) {
        // Closing a handle that is gone already does nothing.
        handles.into_iter().filter(|handle| *handle != Handle::NONE).for_each(close);
        handles_of(completion).for_each(close);
        return Err(error);
    }
    let message = Message {
        label: completion.label,
        words: completion.words,
        handles: completion.handles.map(OwnedHandle::from_raw),
    };
    Ok(Answer { message, buffers: Buffers { send: send.into_vec(), receive: receive.into_vec() } })
}

impl Drop for CallFuture {
    fn drop(&mut self) {
        if let State::Submitted(key) = self.state {
            let unread = self.inner.slots.borrow_mut().take(key);
            match unread {
                Some(completion) => {
                    handles_of(&completion).for_each(close);
                    self.inner.slots.borrow_mut().close(key);
                }
                None => self.inner.slots.borrow_mut().abandon_call(key),
            }
        }
    }
}
