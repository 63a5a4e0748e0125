//! Sending and calling: from the sender to a receiver, a queue or the end of the line; and giving up.

use super::{Endpoint, Letter, LetterKind, LetterStage, MAX_SENT};
use crate::account::Account;
use crate::devices::Hardware;
use crate::handles::HandleTable;
use crate::kernel::Kernel;
use crate::list::Links;
use crate::object::{Node, ObjectRef, cost};
use crate::pool::Id;
use crate::thread::{CallForm, CallStage, State, Thread, Wait};
use quire_abi::error::{OK, Status};
use quire_abi::message::{HANDLES, Message, WORDS};
use quire_abi::{Error, Handle};

impl Kernel {
    /// The endpoint at which what is sent on `channel` arrives.
    #[inline]
    pub(crate) fn receiving_end(&self, channel: Id<Endpoint>) -> Result<Id<Endpoint>, Error> {
        self.endpoints[channel].peer.ok_or(Error::PeerClosed)
    }

    /// Parks `caller` in a call to `end`. Its [`CallRecord`](crate::thread::CallRecord) is filled in but for serial and stage.
    #[inline]
    pub(crate) fn call(&mut self, m: &mut impl Hardware, caller: Id<Thread>, end: Id<Endpoint>) {
        let thread = &mut self.threads[caller];
        thread.call.serial = thread.call.serial.wrapping_add(1);
        thread.state = State::Waiting(Wait::Call);
        self.scheduler.park(thread.cpu);
        self.deliver(m, end, Node::Thread(caller));
    }

    /// Hands the message of `sender`, who stands in no line, to a receiver, to a queue, or to the end of the line.
    #[inline]
    fn deliver(&mut self, m: &mut impl Hardware, end: Id<Endpoint>, sender: Node) {
        while let Some(receiver) = self.pop_receiver(end) {
            let form = match self.threads[receiver].state {
                State::Waiting(Wait::Receive { form, .. }) => form,
                State::Waiting(Wait::Call | Wait::Queue(_) | Wait::Event { .. } | Wait::Page(_))
                | State::New
                | State::Ready
                | State::Running
                | State::Stopped
                | State::Dead => continue,
            };
            match self.receive_message(m, receiver, form, sender) {
                Ok(()) => return self.finish_wait(receiver, Ok(None)),
                // The receiver's own fault; the message is for the next one.
                Err(error) => self.finish_wait(receiver, Err(error)),
            }
        }
        let endpoint = &self.endpoints[end];
        let waiting = !endpoint.incoming.is_empty();
        match endpoint.binding.filter(|binding| self.queues.get(binding.queue).is_some()) {
            Some(binding) if !waiting && self.can_post(m, binding.queue) => self.post_message(m, binding, sender),
            Some(binding) => {
                let pending = endpoint.pending;
                self.push_incoming(end, sender);
                if !pending {
                    self.offer(m, binding, Node::Endpoint(end));
                }
            }
            None => self.push_incoming(end, sender),
        }
    }

    /// Makes a letter of a message and delivers it. All that can fail comes first.
    pub(crate) fn post_letter(
        &mut self,
        m: &mut impl Hardware,
        table: Id<HandleTable>,
        channel: Id<Endpoint>,
        account: Id<Account>,
        kind: LetterKind,
        (label, words, handles): (u64, [u64; WORDS], [Handle; HANDLES]),
    ) -> Result<(), Error> {
        let end = self.receiving_end(channel)?;
        self.letters.reserve(1).map_err(|_| Error::NoMemory)?;
        self.charge(account, cost::LETTER)?;
        let handles = match self.take_handles(table, handles, Some(channel)) {
            Ok(handles) => handles,
            Err(error) => {
                self.credit(account, cost::LETTER);
                return Err(error);
            }
        };
        if let LetterKind::Call { space, .. } = kind {
            self.memory.retain_space(space);
        }
        let letter = Letter { account, links: Links::new(), label, words, handles, kind };
        let id = self.letters.insert(letter).map_err(|_| Error::NoMemory)?;
        self.deliver(m, end, Node::Letter(id));
        Ok(())
    }

    /// Sends a message without an answer.
    pub(crate) fn send(
        &mut self,
        m: &mut impl Hardware,
        table: Id<HandleTable>,
        channel: Id<Endpoint>,
        account: Id<Account>,
        message: &Message,
    ) -> Result<(), Error> {
        let end = self.receiving_end(channel)?;
        if self.endpoints[end].sent >= MAX_SENT {
            return Err(Error::Full);
        }
        let content = (message.label, message.words, message.handles);
        self.post_letter(m, table, channel, account, LetterKind::Sent(end), content)
    }

    /// Ends a sender's wait without success.
    pub(crate) fn refuse_sender(&mut self, m: &mut impl Hardware, sender: Node, error: Error) {
        match sender {
            Node::Thread(thread) => self.fail_call(m, thread, error),
            Node::Letter(letter) => match self.letters[letter].kind {
                LetterKind::Sent(_) => self.destroy_letter(m, letter),
                LetterKind::Call { .. } => self.answer_letter(m, letter, error as Status),
            },
            Node::Notice(_)
            | Node::Endpoint(_)
            | Node::Timer(_)
            | Node::Interrupt(_)
            | Node::Pager(_)
            | Node::Errand(_) => {}
        }
    }

    /// Ends the call of a thread that stands in no line any more, without an answer; a thread whose exception nobody answers ends.
    pub(crate) fn fail_call(&mut self, m: &mut impl Hardware, thread: Id<Thread>, error: Error) {
        let call = &mut self.threads[thread].call;
        call.serial = call.serial.wrapping_add(1);
        // Or ending it would take it out of the line a second time.
        call.stage = CallStage::Received;
        let handles = core::mem::take(&mut call.handles);
        let form = call.form;
        self.drop_handles(m, handles);
        match form {
            CallForm::Registers | CallForm::Frame { .. } => self.finish_wait(thread, Err(error)),
            CallForm::Exception(exception) => self.kill_faulted(m, thread, exception),
        }
    }

    pub(super) fn answer_letter(&mut self, m: &mut impl Hardware, id: Id<Letter>, status: Status) {
        let LetterKind::Call { binding, stage, .. } = &mut self.letters[id].kind else { return };
        *stage = LetterStage::Answered(status);
        let binding = *binding;
        if status != OK {
            let handles = core::mem::take(&mut self.letters[id].handles);
            self.drop_handles(m, handles);
        }
        if !self.offer(m, binding, Node::Letter(id)) {
            self.destroy_letter(m, id);
        }
    }

    /// Frees a letter that stands in no line.
    pub(crate) fn destroy_letter(&mut self, m: &mut impl Hardware, id: Id<Letter>) {
        let Some(letter) = self.letters.remove(id) else { return };
        self.drop_handles(m, letter.handles);
        if let LetterKind::Call { space, .. } = letter.kind {
            self.release(m, ObjectRef::Space(space));
        }
        self.credit(letter.account, cost::LETTER);
    }

    /// Frees the calls that were made through a queue that is going. Their replies become stale.
    pub(crate) fn destroy_letters_of(&mut self, m: &mut impl Hardware, queue: Id<crate::queue::Queue>) {
        let mut index = 0;
        while let Some((id, letter)) = self.letters.next_from(index) {
            index = id.index().saturating_add(1);
            if let LetterKind::Call { binding, stage, .. } = &letter.kind
                && binding.queue == queue
            {
                if let LetterStage::Queued(endpoint) = *stage {
                    self.leave_endpoint(endpoint, Node::Letter(id));
                }
                self.destroy_letter(m, id);
            }
        }
    }
}
