//! Channels: calls, messages and the one-shot right to answer.

use crate::account::Account;
use crate::handle::{Object, OwnedHandle, argument, object, owned};
use crate::raw::{check, handle_of, message_call, numbers, reply_receive, syscall, syscall3};
use quire_abi::message::{CallFrame, HANDLES, Message as RawMessage, Received, WORDS};
use quire_abi::{Call, Error, Handle};

/// Waits without end, where a deadline is asked for.
pub const FOREVER: u64 = u64::MAX;
/// Does not wait, where a deadline is asked for.
pub const IMMEDIATELY: u64 = 0;

object! {
    /// One end of a channel.
    ChannelEndpoint
}

object! {
    /// The one-shot right to answer one call. Dropped, the caller gets [`Error::PeerClosed`].
    ///
    /// It can't be used twice:
    ///
    /// ```compile_fail,E0382
    /// # use quire_api::Reply;
    /// fn answer_twice(reply: Reply) {
    ///     let _ = reply.answer_words(0, [0; 8]);
    ///     let _ = reply.answer_words(0, [0; 8]);
    /// }
    /// ```
    Reply
}

/// A message, with the handles that it gives away.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it is about; the protocol decides.
    pub label: u64,
    /// What it says.
    pub words: [u64; WORDS],
    /// Handles given away.
    pub handles: [Option<OwnedHandle>; HANDLES],
}

impl Message {
    /// A message of words only.
    pub const fn new(label: u64, words: [u64; WORDS]) -> Self {
        Self { label, words, handles: [const { None }; HANDLES] }
    }

    /// Adds a handle to give away, in the slot `index` (below 4; other slots do not exist, and the handle is closed).
    pub fn with_handle(mut self, index: usize, handle: OwnedHandle) -> Self {
        if let Some(slot) = self.handles.get_mut(index) {
            *slot = Some(handle);
        }
        self
    }

    /// Takes the handle in slot `index`, if there is one.
    pub fn take_handle<T: Object>(&mut self, index: usize) -> Option<T> {
        self.handles.get_mut(index)?.take().map(T::from_handle)
    }

    /// Whether it gives no handle away.
    pub fn is_words_only(&self) -> bool {
        self.handles.iter().all(Option::is_none)
    }

    /// The record of it; the handles stay with the message.
    pub(crate) fn raw(&self) -> RawMessage {
        RawMessage { label: self.label, words: self.words, handles: self.raw_handles() }
    }

    pub(crate) fn raw_handles(&self) -> [Handle; HANDLES] {
        self.handles.each_ref().map(|slot| slot.as_ref().map_or(Handle::NONE, OwnedHandle::raw))
    }

    /// Takes charge of what a record brought.
    pub(crate) fn from_raw(raw: &RawMessage) -> Self {
        Self { label: raw.label, words: raw.words, handles: raw.handles.map(OwnedHandle::from_raw) }
    }

    /// The kernel has taken the handles.
    pub(crate) fn forget_handles(self) {
        for handle in self.handles.into_iter().flatten() {
            handle.into_raw();
        }
    }
}

/// A message that came in.
#[derive(Debug)]
pub struct Request {
    /// The message.
    pub message: Message,
    /// The right to answer; none for a message that was sent, not called.
    pub reply: Option<Reply>,
    /// Bytes that can be read through `reply`.
    pub send_len: u64,
    /// Bytes that can be written through `reply`.
    pub receive_len: u64,
}

impl ChannelEndpoint {
    /// Makes a channel; returns its two endpoints. Needs `USE`.
    pub fn pair(account: &Account) -> Result<(Self, Self), Error> {
        let (first, second) = numbers(Call::ChannelCreate, [argument(account), 0, 0]).values()?;
        let first = Self::from_handle(owned(handle_of(first))?);
        Ok((first, Self::from_handle(owned(handle_of(second))?)))
    }

    /// Calls with a message of words only, in registers; returns the answer's label and words. Handles in the answer
    /// are lost. Needs `SEND`.
    #[inline]
    pub fn call_words(&self, label: u64, words: [u64; WORDS]) -> Result<(u64, [u64; WORDS]), Error> {
        let (mut label, mut words) = (label, words);
        check(message_call(Call::ChannelCall, self.raw(), &mut label, &mut words))?;
        Ok((label, words))
    }

    /// Calls: sends a message and waits for the answer. Needs `SEND`.
    pub fn call(&self, message: Message) -> Result<Message, Error> {
        self.call_with_buffers(message, &[], &mut [])
    }

    /// Calls, and lets the receiver read `send` and write `receive` until it answers. Needs `SEND`.
    pub fn call_with_buffers(&self, message: Message, send: &[u8], receive: &mut [u8]) -> Result<Message, Error> {
        let mut frame = CallFrame {
            message: message.raw(),
            send_buffer: send.as_ptr() as u64,
            send_len: send.len() as u64,
            receive_buffer: receive.as_mut_ptr() as u64,
            receive_len: receive.len() as u64,
        };
        let pointer = core::ptr::from_mut(&mut frame) as u64;
        // SAFETY: the call reads and writes one `CallFrame` there, reads `send` and writes `receive`, which are borrowed until it
        // returns.
        unsafe { syscall3(Call::ChannelCallFrame, [argument(self), pointer, 0]) }.unit()?;
        message.forget_handles();
        Ok(Message::from_raw(&frame.message))
    }

    /// Sends a message that nobody answers; it is kept on the caller's account until it is received. Needs `SEND`.
    pub fn send(&self, message: Message) -> Result<(), Error> {
        let raw = message.raw();
        let pointer = core::ptr::from_ref(&raw) as u64;
        // SAFETY: the call reads one `Message` there.
        unsafe { syscall3(Call::ChannelSend, [argument(self), pointer, 0]) }.unit()?;
        message.forget_handles();
        Ok(())
    }

    /// Receives a message, waiting until `deadline_ns` (since the kernel's start; [`IMMEDIATELY`], [`FOREVER`]). Needs
    /// `RECEIVE`.
    pub fn receive(&self, deadline_ns: u64) -> Result<Request, Error> {
        let mut received = Received::default();
        let pointer = core::ptr::from_mut(&mut received) as u64;
        // SAFETY: the call writes one `Received` there.
        unsafe { syscall3(Call::ChannelReceive, [argument(self), pointer, deadline_ns]) }.unit()?;
        Ok(Request {
            message: Message::from_raw(&received.message),
            reply: OwnedHandle::from_raw(received.reply).map(Reply::from_handle),
            send_len: received.send_len,
            receive_len: received.receive_len,
        })
    }

    /// Answers `reply`, if there is one, with a message of words only, and waits for the next. The fast path of a small
    /// server. Needs `RECEIVE`.
    #[inline]
    pub fn reply_receive(
        &self,
        reply: Option<Reply>,
        label: u64,
        words: [u64; WORDS],
    ) -> Result<(Option<Reply>, u64, [u64; WORDS]), Error> {
        let (mut label, mut words) = (label, words);
        let mut handle = reply.as_ref().map_or(Handle::NONE, Object::raw);
        // On an error the old right, if it is still there, is closed as `reply` goes.
        check(reply_receive(self.raw(), &mut handle, &mut label, &mut words))?;
        if let Some(used_up) = reply {
            used_up.into_handle().into_raw();
        }
        Ok((OwnedHandle::from_raw(handle).map(Reply::from_handle), label, words))
    }
}

impl Reply {
    /// Answers with words only, in registers.
    pub fn answer_words(self, label: u64, words: [u64; WORDS]) -> Result<(), Error> {
        let (mut label, mut words) = (label, words);
        let status = message_call(Call::ChannelReply, self.raw(), &mut label, &mut words);
        check(status)?;
        self.into_handle().into_raw();
        Ok(())
    }

    /// Answers.
    pub fn answer(self, message: Message) -> Result<(), Error> {
        if message.is_words_only() {
            return self.answer_words(message.label, message.words);
        }
        let raw = message.raw();
        let pointer = core::ptr::from_ref(&raw) as u64;
        // SAFETY: the call reads one `Message` there.
        unsafe { syscall3(Call::ChannelReplyMessage, [argument(&self), pointer, 0]) }.unit()?;
        self.into_handle().into_raw();
        message.forget_handles();
        Ok(())
    }

    /// Reads from `offset` of the caller's send buffer; returns how many bytes. Needs `READ`.
    pub fn read_buffer(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let length = buffer.len() as u64;
        let arguments = [argument(self), offset, buffer.as_mut_ptr() as u64, length, 0, 0];
        // SAFETY: the call writes at most `length` bytes there.
        let count = unsafe { syscall(Call::ReplyRead, arguments) }.value()?;
        Ok(count.min(length) as usize)
    }

    /// Writes at `offset` of the caller's receive buffer; returns how many bytes. Needs `WRITE`.
    pub fn write_buffer(&self, offset: u64, bytes: &[u8]) -> Result<usize, Error> {
        let length = bytes.len() as u64;
        let arguments = [argument(self), offset, bytes.as_ptr() as u64, length, 0, 0];
        // SAFETY: the call reads at most `length` bytes there.
        let count = unsafe { syscall(Call::ReplyWrite, arguments) }.value()?;
        Ok(count.min(length) as usize)
    }
}
