//! Channels and replies.

use super::{CallResult, Caller, Outcome, handle};
use crate::channel::{Buffer, Parcel, words_of};
use crate::devices::Hardware;
use crate::memory::Place;
use crate::object::ObjectRef;
use crate::pool::Id;
use crate::thread::{CallForm, ReceiveForm};
use quire_abi::message::{CallFrame, HANDLES, KERNEL_LABEL, Message};
use quire_abi::{Error, Handle, Rights};

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn channel_create(&mut self) -> CallResult {
        let account = self.object(0, Rights::USE)?;
        self.reserve(2)?;
        let [first, second] = self.kernel.create_channel(account)?;
        let give = |caller: &mut Self, end| {
            let capability = crate::object::Capability::full(ObjectRef::Channel(end));
            u64::from(caller.kernel.put(caller.m, caller.table, capability).0)
        };
        Ok(Outcome::Values(give(self, first), give(self, second)))
    }

    #[inline]
    pub(super) fn channel_call(&mut self) -> CallResult {
        let channel = self.object(0, Rights::SEND)?;
        if self.value(1) & KERNEL_LABEL != 0 {
            return Err(Error::BadArgument);
        }
        let end = self.kernel.receiving_end(channel)?;
        self.kernel.threads[self.thread].call.form = CallForm::Registers;
        self.kernel.call(self.m, self.thread, end);
        Ok(Outcome::Parked)
    }

    pub(super) fn channel_call_frame(&mut self) -> CallResult {
        let channel = self.object(0, Rights::SEND)?;
        let frame: CallFrame = self.read(1)?;
        if frame.message.label & KERNEL_LABEL != 0 {
            return Err(Error::BadArgument);
        }
        let end = self.kernel.receiving_end(channel)?;
        let handles = self.kernel.take_handles(self.table, frame.message.handles, Some(channel))?;
        let call = &mut self.kernel.threads[self.thread].call;
        call.form = CallForm::Frame { address: self.arguments[1] };
        call.label = frame.message.label;
        call.words = frame.message.words;
        call.handles = handles;
        call.send = Buffer { address: frame.send_buffer, len: frame.send_len };
        call.receive = Buffer { address: frame.receive_buffer, len: frame.receive_len };
        self.kernel.call(self.m, self.thread, end);
        Ok(Outcome::Parked)
    }

    pub(super) fn channel_send(&mut self) -> CallResult {
        let channel = self.object(0, Rights::SEND)?;
        let message: Message = self.read(1)?;
        if message.label & KERNEL_LABEL != 0 {
            return Err(Error::BadArgument);
        }
        let account = self.kernel.threads[self.thread].header.account;
        self.kernel.send(self.m, self.table, channel, account, &message)?;
        Ok(Outcome::Done)
    }

    pub(super) fn channel_receive(&mut self) -> CallResult {
        let channel = self.object(0, Rights::RECEIVE)?;
        let form = ReceiveForm::Record { address: self.value(1) };
        let deadline = self.value(2);
        let parked = self.kernel.receive(self.m, self.thread, channel, form, deadline)?;
        Ok(if parked { Outcome::Parked } else { Outcome::Done })
    }

    pub(super) fn channel_reply(&mut self) -> CallResult {
        let reply = self.handle(0)?;
        let words = words_of(&self.kernel.threads[self.thread].context.registers);
        let label = self.value(1);
        self.kernel.reply_from(self.m, self.table, reply, label, words, [Handle::NONE; HANDLES])?;
        Ok(Outcome::Done)
    }

    pub(super) fn channel_reply_message(&mut self) -> CallResult {
        let reply = self.handle(0)?;
        self.kernel.reply_ref(self.table, reply, Rights::SEND)?;
        let message: Message = self.read(1)?;
        self.kernel.reply_from(self.m, self.table, reply, message.label, message.words, message.handles)?;
        Ok(Outcome::Done)
    }

    /// Answers and receives in one call. If nothing waits, the thread parks first and the answer switches straight to
    /// the caller.
    #[inline]
    pub(super) fn channel_reply_receive(&mut self) -> CallResult {
        let channel = self.object(0, Rights::RECEIVE)?;
        let registers = &self.kernel.threads[self.thread].context.registers;
        let (label, words, reply) = (registers.rsi, words_of(registers), registers.rbx);
        let reply = handle(reply)?;
        if reply == Handle::NONE {
            return self.receive_in_registers(channel);
        }
        let caller = self.kernel.reply_ref(self.table, reply, Rights::SEND)?;
        if label & KERNEL_LABEL != 0 {
            return Err(Error::BadArgument);
        }
        self.kernel.check_reply(caller, label)?;
        self.kernel.tables[self.table].remove(reply)?;
        // Receiving comes first, so that the processor is free for the caller. It can't disturb the answer: that is in
        // `words` already.
        let result = self.receive_in_registers(channel);
        self.kernel.answer(self.m, caller, Parcel { label, words, handles: [None; HANDLES] });
        result
    }

    #[inline]
    fn receive_in_registers(&mut self, channel: Id<crate::channel::Endpoint>) -> CallResult {
        let parked = self.kernel.receive(self.m, self.thread, channel, ReceiveForm::Registers, u64::MAX)?;
        Ok(if parked { Outcome::Parked } else { Outcome::Done })
    }

    pub(super) fn reply_read(&mut self) -> CallResult {
        let reply = self.kernel.reply_ref(self.table, self.handle(0)?, Rights::READ)?;
        let (space, send, _) = self.kernel.reply_buffers(reply)?;
        let (offset, address, len) = (self.value(1), self.value(2), self.value(3));
        let (from, len) = part(send, offset, len)?;
        self.transfer(Place::Space(self.space, address), Place::Space(space, from), len)
    }

    pub(super) fn reply_write(&mut self) -> CallResult {
        let reply = self.kernel.reply_ref(self.table, self.handle(0)?, Rights::WRITE)?;
        let (space, _, receive) = self.kernel.reply_buffers(reply)?;
        let (offset, address, len) = (self.value(1), self.value(2), self.value(3));
        let (to, len) = part(receive, offset, len)?;
        self.transfer(Place::Space(space, to), Place::Space(self.space, address), len)
    }
}

/// The part of a caller's buffer from `offset`, at most `len` bytes long.
fn part(buffer: Buffer, offset: u64, len: u64) -> Result<(u64, u64), Error> {
    let rest = buffer.len.checked_sub(offset).ok_or(Error::OutOfRange)?;
    let address = buffer.address.checked_add(offset).ok_or(Error::RemoteFault)?;
    Ok((address, rest.min(len)))
}
