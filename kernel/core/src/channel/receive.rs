//! Receiving: from the line, or from a sender who has just come, into registers, a record or a queue.

use super::{Endpoint, LetterKind, LetterStage, exception_words, set_message, words_of};
use crate::devices::Hardware;
use crate::handles::HandleTable;
use crate::kernel::Kernel;
use crate::object::{Capability, Node, ReplyRef};
use crate::pool::Id;
use crate::thread::{CallForm, CallStage, ReceiveForm, Thread, Wait};
use quire_abi::message::{HANDLES, Message, Received, WORDS};
use quire_abi::thread::EXCEPTION_LABEL;
use quire_abi::{Error, Handle};
use zerocopy::IntoBytes;

impl Kernel {
    /// Receives what waits on `end`, or parks until something comes. `true` if it parked.
    pub(crate) fn receive(
        &mut self,
        m: &mut impl Hardware,
        thread: Id<Thread>,
        end: Id<Endpoint>,
        form: ReceiveForm,
        deadline: u64,
    ) -> Result<bool, Error> {
        let endpoint = &self.endpoints[end];
        if endpoint.binding.is_some_and(|binding| self.queues.get(binding.queue).is_some()) {
            return Err(Error::BadState);
        }
        if let Some(sender) = endpoint.incoming.front() {
            // Out of the line only once it is received.
            self.leave_endpoint(end, sender);
            if let Err(error) = self.receive_message(m, thread, form, sender) {
                self.return_incoming(end, sender);
                return Err(error);
            }
            return Ok(false);
        }
        if endpoint.peer.is_none() {
            return Err(Error::PeerClosed);
        }
        self.check_deadline(m, deadline)?;
        let mut receivers = self.endpoints[end].receivers;
        receivers.push_back(self, Node::Thread(thread));
        self.endpoints[end].receivers = receivers;
        self.park(thread, Wait::Receive { endpoint: end, form }, deadline);
        Ok(true)
    }

    fn return_incoming(&mut self, end: Id<Endpoint>, sender: Node) {
        if let Node::Letter(letter) = sender
            && matches!(self.letters[letter].kind, LetterKind::Sent(_))
        {
            self.endpoints[end].sent += 1;
        }
        let mut incoming = self.endpoints[end].incoming;
        incoming.push_front(self, sender);
        self.endpoints[end].incoming = incoming;
    }

    /// Gives the message of `sender`, who stands in no line, to `receiver`. On an error nothing has changed.
    #[inline]
    pub(super) fn receive_message(
        &mut self,
        m: &mut impl Hardware,
        receiver: Id<Thread>,
        form: ReceiveForm,
        sender: Node,
    ) -> Result<(), Error> {
        match form {
            ReceiveForm::Registers => self.receive_in_registers(m, receiver, sender),
            ReceiveForm::Record { address } => self.receive_in_record(m, receiver, address, sender),
        }
    }

    #[inline]
    fn receive_in_registers(&mut self, m: &mut impl Hardware, receiver: Id<Thread>, sender: Node) -> Result<(), Error> {
        let table = self.threads[receiver].table;
        let reply = self.reply_to(sender);
        let handle = match reply {
            Some(reply) => {
                self.reserve_handles(table, 1)?;
                self.put(m, table, Capability::reply(reply))
            }
            None => Handle::NONE,
        };
        let (label, words) = self.content(sender);
        let registers = &mut self.threads[receiver].context.registers;
        registers.rbx = handle.0.into();
        set_message(registers, label, &words);
        let handles = self.mark_received(m, sender);
        self.drop_handles(m, handles);
        Ok(())
    }

    fn receive_in_record(
        &mut self,
        m: &mut impl Hardware,
        receiver: Id<Thread>,
        address: u64,
        sender: Node,
    ) -> Result<(), Error> {
        let Thread { table, space, .. } = self.threads[receiver];
        // The record must be writable before anything changes; that also makes its pages present.
        self.memory.write_user(m, space, address, Received::default().as_bytes()).map_err(|_| Error::BadAddress)?;
        let received = self.accept_message(m, table, sender)?;
        self.memory.write_user(m, space, address, received.as_bytes()).map_err(|_| Error::BadAddress)
    }

    /// Moves reply and handles of a message into `table` and marks it received. On an error nothing has changed.
    #[inline]
    pub(crate) fn accept_message(
        &mut self,
        m: &mut impl Hardware,
        table: Id<HandleTable>,
        sender: Node,
    ) -> Result<Received, Error> {
        if self.tables.get(table).is_none() {
            return Err(Error::PeerClosed);
        }
        let reply = self.reply_to(sender);
        let carried = self.carried(sender);
        self.reserve_handles(table, carried + usize::from(reply.is_some()))?;
        let (label, words) = self.content(sender);
        let (send_len, receive_len) = self.buffer_lengths(sender);
        let mut handles = self.mark_received(m, sender);
        let placed = if carried == 0 { [Handle::NONE; HANDLES] } else { self.place_handles(m, table, &mut handles)? };
        let reply = match reply {
            Some(reply) => self.put(m, table, Capability::reply(reply)),
            None => Handle::NONE,
        };
        let message = Message { label, words, handles: placed };
        Ok(Received { message, reply, reserved: 0, send_len, receive_len })
    }

    /// Label and words of a message under way.
    #[inline]
    fn content(&self, sender: Node) -> (u64, [u64; WORDS]) {
        match sender {
            Node::Thread(id) => {
                let thread = &self.threads[id];
                let registers = &thread.context.registers;
                match thread.call.form {
                    CallForm::Registers => (registers.rsi, words_of(registers)),
                    CallForm::Frame { .. } => (thread.call.label, thread.call.words),
                    CallForm::Exception(exception) => (EXCEPTION_LABEL, exception_words(exception, registers.rip)),
                }
            }
            Node::Letter(id) => (self.letters[id].label, self.letters[id].words),
            Node::Notice(_)
            | Node::Endpoint(_)
            | Node::Timer(_)
            | Node::Interrupt(_)
            | Node::Pager(_)
            | Node::Errand(_) => (0, [0; WORDS]),
        }
    }

    /// How many handles a message under way carries.
    #[inline]
    fn carried(&self, sender: Node) -> usize {
        let handles = match sender {
            Node::Thread(id) => match self.threads[id].call.form {
                CallForm::Registers | CallForm::Exception(_) => return 0,
                CallForm::Frame { .. } => &self.threads[id].call.handles,
            },
            Node::Letter(id) => &self.letters[id].handles,
            Node::Notice(_)
            | Node::Endpoint(_)
            | Node::Timer(_)
            | Node::Interrupt(_)
            | Node::Pager(_)
            | Node::Errand(_) => return 0,
        };
        handles.iter().flatten().count()
    }

    fn buffer_lengths(&self, sender: Node) -> (u64, u64) {
        match sender {
            Node::Thread(id) => match self.threads[id].call.form {
                CallForm::Registers | CallForm::Exception(_) => (0, 0),
                CallForm::Frame { .. } => (self.threads[id].call.send.len, self.threads[id].call.receive.len),
            },
            Node::Letter(id) => match self.letters[id].kind {
                LetterKind::Sent(_) => (0, 0),
                LetterKind::Call { send, receive, .. } => (send.len, receive.len),
            },
            Node::Notice(_)
            | Node::Endpoint(_)
            | Node::Timer(_)
            | Node::Interrupt(_)
            | Node::Pager(_)
            | Node::Errand(_) => (0, 0),
        }
    }

    /// The right to answer, if the message is a call.
    #[inline]
    fn reply_to(&self, sender: Node) -> Option<ReplyRef> {
        match sender {
            Node::Thread(thread) => Some(ReplyRef::Thread { thread, serial: self.threads[thread].call.serial }),
            Node::Letter(letter) => match self.letters[letter].kind {
                LetterKind::Sent(_) => None,
                LetterKind::Call { .. } => Some(ReplyRef::Letter(letter)),
            },
            Node::Notice(_)
            | Node::Endpoint(_)
            | Node::Timer(_)
            | Node::Interrupt(_)
            | Node::Pager(_)
            | Node::Errand(_) => None,
        }
    }

    /// From now on the receiver holds the reply; a letter that was only sent is gone. Returns the handles under way.
    #[inline]
    fn mark_received(&mut self, m: &mut impl Hardware, sender: Node) -> [Option<Capability>; HANDLES] {
        match sender {
            Node::Thread(thread) => {
                let call = &mut self.threads[thread].call;
                call.stage = CallStage::Received;
                match call.form {
                    CallForm::Registers | CallForm::Exception(_) => [None; HANDLES],
                    CallForm::Frame { .. } => core::mem::take(&mut call.handles),
                }
            }
            Node::Letter(id) => {
                let letter = &mut self.letters[id];
                let handles = core::mem::take(&mut letter.handles);
                match &mut letter.kind {
                    LetterKind::Sent(_) => self.destroy_letter(m, id),
                    LetterKind::Call { stage, .. } => *stage = LetterStage::Received,
                }
                handles
            }
            Node::Notice(_)
            | Node::Endpoint(_)
            | Node::Timer(_)
            | Node::Interrupt(_)
            | Node::Pager(_)
            | Node::Errand(_) => [None; HANDLES],
        }
    }
}
