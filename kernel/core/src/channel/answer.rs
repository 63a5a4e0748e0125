//! Answering: from the holder of a reply back to the caller.

use super::{Buffer, LetterKind, Parcel, set_message};
use crate::devices::Hardware;
use crate::kernel::Kernel;
use crate::memory::Space;
use crate::object::ReplyRef;
use crate::pool::Id;
use crate::thread::{CallForm, State, Thread, Wait};
use quire_abi::Error;
use quire_abi::error::{OK, Status};
use quire_abi::message::Message;
use quire_abi::thread::ExceptionVerdict;
use zerocopy::IntoBytes;

impl Kernel {
    /// Whether the call that `reply` stands for still waits, and takes an answer with this label.
    #[inline]
    pub(crate) fn check_reply(&self, reply: ReplyRef, label: u64) -> Result<(), Error> {
        match reply {
            ReplyRef::Thread { thread, serial } => {
                let thread = self.threads.get(thread).ok_or(Error::PeerClosed)?;
                let waits = thread.call.serial == serial && thread.state == State::Waiting(Wait::Call);
                if !waits {
                    return Err(Error::PeerClosed);
                }
                match thread.call.form {
                    CallForm::Registers | CallForm::Frame { .. } => Ok(()),
                    CallForm::Exception(_) => verdict(label).map(|_| ()),
                }
            }
            ReplyRef::Letter(id) => self.letters.get(id).map(|_| ()).ok_or(Error::PeerClosed),
        }
    }

    /// Answers a call that [`Kernel::check_reply`] has passed. Whatever goes wrong now is the caller's own fault, and told to
    /// the caller.
    #[inline]
    pub(crate) fn answer(&mut self, m: &mut impl Hardware, reply: ReplyRef, parcel: Parcel) {
        match reply {
            ReplyRef::Thread { thread, .. } => self.answer_thread(m, thread, parcel),
            ReplyRef::Letter(id) => {
                let letter = &mut self.letters[id];
                letter.label = parcel.label;
                letter.words = parcel.words;
                letter.handles = parcel.handles;
                self.answer_letter(m, id, OK);
            }
        }
    }

    #[inline]
    fn answer_thread(&mut self, m: &mut impl Hardware, id: Id<Thread>, parcel: Parcel) {
        let thread = &mut self.threads[id];
        thread.call.serial = thread.call.serial.wrapping_add(1);
        match thread.call.form {
            CallForm::Registers => {
                set_message(&mut thread.context.registers, parcel.label, &parcel.words);
                self.drop_handles(m, parcel.handles);
                self.finish_wait(id, Ok(None));
            }
            CallForm::Frame { address } => {
                let result = self.answer_frame(m, id, address, parcel);
                self.finish_wait(id, result.map(|()| None));
            }
            CallForm::Exception(exception) => {
                self.drop_handles(m, parcel.handles);
                match verdict(parcel.label) {
                    Ok(ExceptionVerdict::Resume) => self.go_on(id),
                    Ok(ExceptionVerdict::Kill) | Err(_) => self.kill_faulted(m, id, exception),
                }
            }
        }
    }

    fn answer_frame(
        &mut self,
        m: &mut impl Hardware,
        id: Id<Thread>,
        address: u64,
        mut parcel: Parcel,
    ) -> Result<(), Error> {
        let Thread { table, space, .. } = self.threads[id];
        let writable = self.memory.write_user(m, space, address, Message::default().as_bytes());
        let placed = match writable {
            Ok(()) => self.place_handles(m, table, &mut parcel.handles),
            Err(_) => Err(Error::BadAddress),
        };
        match placed {
            Ok(handles) => {
                let message = Message { label: parcel.label, words: parcel.words, handles };
                self.memory.write_user(m, space, address, message.as_bytes()).map_err(|_| Error::BadAddress)
            }
            Err(error) => {
                self.drop_handles(m, parcel.handles);
                Err(error)
            }
        }
    }

    /// Somebody closed the reply without using it.
    pub(crate) fn drop_reply(&mut self, m: &mut impl Hardware, reply: ReplyRef) {
        match reply {
            ReplyRef::Thread { thread, serial } => {
                let Some(record) = self.threads.get(thread) else { return };
                if record.call.serial == serial && record.state == State::Waiting(Wait::Call) {
                    self.fail_call(m, thread, Error::PeerClosed);
                }
            }
            ReplyRef::Letter(letter) => {
                if self.letters.get(letter).is_some() {
                    self.answer_letter(m, letter, Error::PeerClosed as Status);
                }
            }
        }
    }

    /// Space and buffers of a caller whose reply is held.
    pub(crate) fn reply_buffers(&self, reply: ReplyRef) -> Result<(Id<Space>, Buffer, Buffer), Error> {
        self.check_reply(reply, 0)?;
        match reply {
            ReplyRef::Thread { thread, .. } => {
                let thread = &self.threads[thread];
                match thread.call.form {
                    CallForm::Registers | CallForm::Exception(_) => {
                        Ok((thread.space, Buffer::default(), Buffer::default()))
                    }
                    CallForm::Frame { .. } => Ok((thread.space, thread.call.send, thread.call.receive)),
                }
            }
            ReplyRef::Letter(letter) => match self.letters[letter].kind {
                LetterKind::Sent(_) => Err(Error::PeerClosed),
                LetterKind::Call { space, send, receive, .. } => Ok((space, send, receive)),
            },
        }
    }
}

fn verdict(label: u64) -> Result<ExceptionVerdict, Error> {
    match label {
        0 => Ok(ExceptionVerdict::Resume),
        1 => Ok(ExceptionVerdict::Kill),
        _ => Err(Error::BadArgument),
    }
}
