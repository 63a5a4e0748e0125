//! Submissions: what user space asks for through a ring.

use super::{Binding, Queue};
use crate::channel::{Buffer, LetterKind, LetterStage, Parcel};
use crate::devices::Hardware;
use crate::errand::{FetchFrom, Task};
use crate::handles::HandleTable;
use crate::kernel::Kernel;
use crate::machine::PAGE_SIZE;
use crate::memory::{FaultKind, Unwritten};
use crate::object::{ObjectRef, ReplyRef};
use crate::pool::Id;
use crate::thread::Thread;
use quire_abi::message::KERNEL_LABEL;
use quire_abi::queue::{Completion, CompletionKind, SUBMISSIONS_PER_WAIT, Submission, SubmissionKind};
use quire_abi::space::{MAX_TRANSFER, USER_END};
use quire_abi::{Error, Handle, Rights};

impl Kernel {
    /// Carries out submissions while there is room for a refusal. Tells whether some are left that could be taken.
    pub(super) fn take_submissions(
        &mut self,
        m: &mut impl Hardware,
        thread: Id<Thread>,
        id: Id<Queue>,
    ) -> Result<bool, Error> {
        let queue = &self.queues[id];
        let count = queue.submitted(m);
        if count == 0 {
            return Ok(false);
        }
        if count > queue.submission_entries() {
            return Err(Error::BadArgument);
        }
        let mut taken = 0;
        while taken < count.min(SUBMISSIONS_PER_WAIT) && self.queues[id].has_room(m) {
            let submission = self.queues[id].take_submission(m);
            taken += 1;
            if let Err(error) = self.submit(m, thread, id, &submission) {
                let refusal = Completion {
                    key: submission.key,
                    kind: CompletionKind::Refused as u32,
                    status: error as u64,
                    ..Completion::default()
                };
                self.post(m, id, &refusal);
            }
        }
        self.queues[id].publish_taken(m);
        Ok(taken < count)
    }

    fn submit(
        &mut self,
        m: &mut impl Hardware,
        thread: Id<Thread>,
        queue: Id<Queue>,
        submission: &Submission,
    ) -> Result<(), Error> {
        let table = self.threads[thread].table;
        let kind = SubmissionKind::from_number(submission.kind).ok_or(Error::BadArgument)?;
        let target = submission.target;
        match kind {
            SubmissionKind::Reply => {
                self.reply_from(m, table, target, submission.label, submission.words, submission.handles)
            }
            SubmissionKind::Call => self.submit_call(m, thread, queue, submission),
            SubmissionKind::ArmTimer => {
                let timer = self.tables[table].get(target, Rights::WRITE)?;
                self.arm_timer(m, timer, submission.label)
            }
            SubmissionKind::AcknowledgeInterrupt => {
                let interrupt = self.tables[table].get(target, Rights::WRITE)?;
                self.acknowledge_interrupt(m, interrupt)
            }
            SubmissionKind::ResumeThread => {
                let target = self.tables[table].get(target, Rights::MANAGE)?;
                self.resume(target)
            }
            SubmissionKind::Fetch => self.submit_fetch(m, table, queue, submission),
            SubmissionKind::Flush => self.submit_flush(m, table, queue, submission),
        }
    }

    fn submit_fetch(
        &mut self,
        m: &mut impl Hardware,
        table: Id<HandleTable>,
        queue: Id<Queue>,
        submission: &Submission,
    ) -> Result<(), Error> {
        let (rights, kind) = match submission.words[1] {
            0 => (Rights::READ, FaultKind::Read),
            1 => (Rights::READ | Rights::WRITE, FaultKind::Write),
            _ => return Err(Error::BadArgument),
        };
        let capability = self.tables[table].lookup(submission.target)?;
        if !capability.rights.contains(rights) {
            return Err(Error::MissingRights);
        }
        let of = match capability.object {
            ObjectRef::Memory(id) => FetchFrom::Memory(id),
            ObjectRef::Space(id) => FetchFrom::Space(id),
            ObjectRef::Account(_)
            | ObjectRef::Thread(_)
            | ObjectRef::Table(_)
            | ObjectRef::Channel(_)
            | ObjectRef::Reply(_)
            | ObjectRef::Queue(_)
            | ObjectRef::Interrupt(_)
            | ObjectRef::IoPorts(_)
            | ObjectRef::Timer(_)
            | ObjectRef::Event(_)
            | ObjectRef::Pager(_)
            | ObjectRef::Dma(_)
            | ObjectRef::Log
            | ObjectRef::Hardware => return Err(Error::WrongKind),
        };
        if submission.words[0] > MAX_TRANSFER {
            return Err(Error::OutOfRange);
        }
        let (next, end) = page_range(submission)?;
        self.begin_errand(m, queue, submission.key, Task::Fetch { of, next, end, kind })
    }

    fn submit_flush(
        &mut self,
        m: &mut impl Hardware,
        table: Id<HandleTable>,
        queue: Id<Queue>,
        submission: &Submission,
    ) -> Result<(), Error> {
        let target = self.tables[table].get(submission.target, Rights::WRITE)?;
        let (first, last) = page_range(submission)?;
        // What is not managed has nothing to be written back, and windows show the pages of another memory.
        let (memory, next) = self.memory.managed_origin(target, first).unwrap_or((target, first));
        let end = next.saturating_add(last - first);
        self.begin_errand(m, queue, submission.key, Task::Flush { memory, next, end, times: Unwritten::Nothing })
    }

    fn submit_call(
        &mut self,
        m: &mut impl Hardware,
        thread: Id<Thread>,
        queue: Id<Queue>,
        submission: &Submission,
    ) -> Result<(), Error> {
        let Thread { table, space, .. } = self.threads[thread];
        let channel = self.tables[table].get(submission.target, Rights::SEND)?;
        if submission.label & KERNEL_LABEL != 0 {
            return Err(Error::BadArgument);
        }
        let kind = LetterKind::Call {
            binding: Binding { queue, key: submission.key },
            space,
            send: Buffer { address: submission.send_buffer, len: submission.send_len.into() },
            receive: Buffer { address: submission.receive_buffer, len: submission.receive_len.into() },
            stage: LetterStage::Received,
        };
        let account = self.queues[queue].header.account;
        let content = (submission.label, submission.words, submission.handles);
        self.post_letter(m, table, channel, account, kind, content)
    }

    /// Answers the call that the reply handle stands for; uses the handle up.
    pub(crate) fn reply_from(
        &mut self,
        m: &mut impl Hardware,
        table: Id<HandleTable>,
        handle: Handle,
        label: u64,
        words: [u64; 8],
        handles: [Handle; 4],
    ) -> Result<(), Error> {
        let reply = self.reply_ref(table, handle, Rights::SEND)?;
        if label & KERNEL_LABEL != 0 || handles.contains(&handle) {
            return Err(Error::BadArgument);
        }
        self.check_reply(reply, label)?;
        let handles = self.take_handles(table, handles, None)?;
        self.tables[table].remove(handle)?;
        self.answer(m, reply, Parcel { label, words, handles });
        Ok(())
    }

    /// The reply that a handle names.
    pub(crate) fn reply_ref(&self, table: Id<HandleTable>, handle: Handle, rights: Rights) -> Result<ReplyRef, Error> {
        let capability = self.tables[table].lookup(handle)?;
        let ObjectRef::Reply(reply) = capability.object else { return Err(Error::WrongKind) };
        if capability.rights.contains(rights) { Ok(reply) } else { Err(Error::MissingRights) }
    }
}

/// The pages that a submission's range touches, from its label on.
fn page_range(submission: &Submission) -> Result<(u64, u64), Error> {
    let (start, length) = (submission.label, submission.words[0]);
    let end = start.checked_add(length).filter(|end| *end <= USER_END).ok_or(Error::OutOfRange)?;
    Ok((start / PAGE_SIZE, end.div_ceil(PAGE_SIZE)))
}
