//! Errands: what user space asks of managed memories through a queue, and what can take time.
//!
//! A *fetch* touches pages one after the other, as their owner would, and waits for each that is not there. A *flush* waits
//! until the pager has every store that was made before it began. An errand is charged to the account of the queue in which
//! it completes, and ends with that queue.

use crate::account::Account;
use crate::devices::Hardware;
use crate::kernel::Kernel;
use crate::list::Links;
use crate::machine::PAGE_SIZE;
use crate::memory::{Absent, FaultError, FaultKind, Memory, Space, Unwritten};
use crate::object::{Node, ObjectRef, cost};
use crate::pool::Id;
use crate::queue::{Binding, Queue};
use crate::timer::{AlarmId, AlarmOwner};
use quire_abi::Error;
use quire_abi::error::{OK, Status};

/// Something asked for through a queue that is under way.
#[derive(Debug)]
pub struct Errand {
    /// Who pays.
    pub account: Id<Account>,
    /// Its place in the line of a pager, or of a queue without room.
    pub links: Links<Node>,
    /// Where it completes.
    pub binding: Binding,
    /// For its deadline.
    pub alarm: AlarmId,
    /// What is to be done.
    pub task: Task,
    /// How far it is.
    pub stage: ErrandStage,
}

/// What an [`Errand`] does. Pages are counted from the start of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Brings in the pages from `next` to before `end`.
    Fetch {
        /// Of what.
        of: FetchFrom,
        /// The first page that has not been there yet.
        next: u64,
        /// The page after the last.
        end: u64,
        /// What they are to be good for.
        kind: FaultKind,
    },
    /// Waits for the writeback of the pages from `next` to before `end`.
    Flush {
        /// Of what.
        memory: Id<Memory>,
        /// The page that is waited for.
        next: u64,
        /// The page after the last.
        end: u64,
        /// How often that page has still to be written back.
        times: Unwritten,
    },
}

/// Whose pages are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchFrom {
    /// A memory's.
    Memory(Id<Memory>),
    /// What an address space shows.
    Space(Id<Space>),
}

/// How far an [`Errand`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrandStage {
    /// It stands in the line of the pager of this memory, for this page.
    Waiting(Absent),
    /// It is over; the queue had no room to say so yet.
    Over(Status),
}

/// What to do next.
enum Step {
    Wait(Absent),
    Over(Status),
}

impl Task {
    /// The object that the errand keeps alive.
    pub(crate) fn target(&self) -> ObjectRef {
        match *self {
            Self::Fetch { of: FetchFrom::Memory(id), .. } | Self::Flush { memory: id, .. } => ObjectRef::Memory(id),
            Self::Fetch { of: FetchFrom::Space(id), .. } => ObjectRef::Space(id),
        }
    }
}

impl Kernel {
    /// Begins an errand.
    ///
    /// # Errors
    /// `NoMemory`, `AccountLimit`.
    pub(crate) fn begin_errand(
        &mut self,
        m: &mut impl Hardware,
        queue: Id<Queue>,
        key: u64,
        task: Task,
    ) -> Result<(), Error> {
        let account = self.queues[queue].header.account;
        self.errands.reserve(1).map_err(|_| Error::NoMemory)?;
        self.charge(account, cost::ERRAND)?;
        let alarm = self.alarms.create().map_err(|_| self.refund(account, cost::ERRAND))?;
        let errand = Errand {
            account,
            links: Links::new(),
            binding: Binding { queue, key },
            alarm,
            task,
            stage: ErrandStage::Over(OK),
        };
        let id = self.errands.insert(errand).map_err(|_| Error::NoMemory)?;
        self.alarms.set_owner(alarm, AlarmOwner::Errand(id));
        self.retain(task.target());
        self.announce(m, task);
        self.go_on_with_errand(m, id);
        Ok(())
    }

    /// Lets the pager know of the whole task, so that it can do it at one go.
    fn announce(&mut self, m: &mut impl Hardware, task: Task) {
        let memory = match task {
            Task::Fetch { of: FetchFrom::Memory(id), next, end, .. } => {
                self.memory.want_range(id, next, end);
                self.memory.managed_origin(id, next).map(|(origin, _)| origin)
            }
            Task::Fetch { of: FetchFrom::Space(_), .. } => None,
            Task::Flush { memory, next, end, .. } => {
                self.memory.request_writeback(memory, next, end);
                Some(memory)
            }
        };
        if let Some(pager) = memory.and_then(|memory| self.pager_of(memory)) {
            self.tell_pager(m, pager);
        }
    }

    /// Does what can be done at once; then the errand stands in a pager's line, or is over.
    fn go_on_with_errand(&mut self, m: &mut impl Hardware, id: Id<Errand>) {
        let step = match self.errands[id].task {
            Task::Fetch { of, next, end, kind } => self.fetch(m, id, (next, end), of, kind),
            Task::Flush { memory, next, end, .. } => self.flush(id, memory, next, end),
        };
        let over = match step {
            Step::Over(status) => status,
            Step::Wait(absent) => match self.join_page_line(m, Node::Errand(id), absent) {
                Ok(deadline) => {
                    self.errands[id].stage = ErrandStage::Waiting(absent);
                    if deadline != u64::MAX {
                        self.alarms.arm(self.errands[id].alarm, deadline);
                    }
                    if let Some(pager) = self.pager_of(absent.memory) {
                        self.tell_pager(m, pager);
                    }
                    return;
                }
                Err(error) => error as Status,
            },
        };
        self.finish_errand(m, id, over);
    }

    fn fetch(
        &mut self,
        m: &mut impl Hardware,
        id: Id<Errand>,
        (start, end): (u64, u64),
        of: FetchFrom,
        kind: FaultKind,
    ) -> Step {
        for page in start..end {
            let touched = match of {
                FetchFrom::Memory(memory) => self.memory.touch_memory(m, memory, page, kind),
                FetchFrom::Space(space) => self.memory.fault(m, space, page * PAGE_SIZE, kind),
            };
            match touched {
                Ok(()) => {}
                Err(FaultError::NotPresent(absent)) => {
                    if let Task::Fetch { next, .. } = &mut self.errands[id].task {
                        *next = page;
                    }
                    return Step::Wait(absent);
                }
                Err(error) => return Step::Over(fetch_error(of, error) as Status),
            }
        }
        Step::Over(OK)
    }

    fn flush(&mut self, id: Id<Errand>, memory: Id<Memory>, start: u64, end: u64) -> Step {
        let Some(page) = self.memory.next_unwritten(memory, start, end) else { return Step::Over(OK) };
        let needed = self.memory.unwritten(memory, page);
        if let Task::Flush { next, times, .. } = &mut self.errands[id].task {
            *next = page;
            *times = needed;
        }
        Step::Wait(Absent { memory, page })
    }

    /// Something happened to pages that errands wait for: they are there, or were written back, or there is an error.
    pub(crate) fn continue_errand(
        &mut self,
        m: &mut impl Hardware,
        id: Id<Errand>,
        (start, end): (u64, u64),
        error: Option<Error>,
    ) {
        let ErrandStage::Waiting(absent) = self.errands[id].stage else { return };
        let waits_for_room = match self.errands[id].task {
            Task::Fetch { .. } => !self.memory.is_awaited(absent.memory, absent.page),
            Task::Flush { .. } => false,
        };
        if !waits_for_room && !(start..end).contains(&absent.page) {
            return;
        }
        if error.is_none() && !self.has_progressed(id, absent, end) {
            return;
        }
        self.leave_page_line(Node::Errand(id), absent.memory);
        self.alarms.disarm(self.errands[id].alarm);
        match error {
            Some(error) => self.finish_errand(m, id, error as Status),
            None => self.go_on_with_errand(m, id),
        }
    }

    /// Whether what happened to the page is what the errand waits for. A page that a flush waits for is behind it once it was
    /// written back, whatever was stored to it since: otherwise it might never end.
    fn has_progressed(&mut self, id: Id<Errand>, absent: Absent, written_until: u64) -> bool {
        let Task::Flush { memory, next, times, .. } = &mut self.errands[id].task else {
            return !self.memory.is_awaited(absent.memory, absent.page);
        };
        let memory = *memory;
        match *times {
            Unwritten::Twice => {
                *times = Unwritten::Once;
                self.memory.request_writeback(memory, absent.page, absent.page + 1);
                false
            }
            Unwritten::Once | Unwritten::Nothing => {
                *next = written_until;
                true
            }
        }
    }

    /// A deadline passed.
    pub(crate) fn time_out_errand(&mut self, m: &mut impl Hardware, id: Id<Errand>) {
        let Some(Errand { stage: ErrandStage::Waiting(absent), .. }) = self.errands.get(id) else { return };
        let memory = absent.memory;
        self.leave_page_line(Node::Errand(id), memory);
        self.finish_errand(m, id, Error::TimedOut as Status);
    }

    /// An errand that stands in no line is over.
    fn finish_errand(&mut self, m: &mut impl Hardware, id: Id<Errand>, status: Status) {
        self.errands[id].stage = ErrandStage::Over(status);
        let binding = self.errands[id].binding;
        if !self.offer(m, binding, Node::Errand(id)) {
            self.destroy_errand(m, id);
        }
    }

    /// Frees an errand that stands in no line.
    pub(crate) fn destroy_errand(&mut self, m: &mut impl Hardware, id: Id<Errand>) {
        if let Some(errand) = self.errands.remove(id) {
            self.alarms.destroy(errand.alarm);
            self.release(m, errand.task.target());
            self.credit(errand.account, cost::ERRAND);
        }
    }

    /// Frees the errands of a queue that is going.
    pub(crate) fn destroy_errands_of(&mut self, m: &mut impl Hardware, queue: Id<Queue>) {
        let mut index = 0;
        while let Some((id, errand)) = self.errands.next_from(index) {
            index = id.index().saturating_add(1);
            if errand.binding.queue != queue {
                continue;
            }
            if let ErrandStage::Waiting(absent) = errand.stage {
                self.leave_page_line(Node::Errand(id), absent.memory);
            }
            self.destroy_errand(m, id);
        }
    }
}

/// What whoever fetches is told: of the pages of a memory, that they are beyond its end; of a space, that its owner could
/// not touch them either.
fn fetch_error(of: FetchFrom, error: FaultError) -> Error {
    match (of, error) {
        (FetchFrom::Memory(_), FaultError::BeyondEnd) => Error::OutOfRange,
        (FetchFrom::Space(_), FaultError::NotMapped | FaultError::AccessDenied | FaultError::BeyondEnd) => {
            Error::RemoteFault
        }
        (FetchFrom::Memory(_) | FetchFrom::Space(_), error) => error.into(),
    }
}
