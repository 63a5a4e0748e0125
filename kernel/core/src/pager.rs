//! Pagers: telling them what there is to do, and waiting for pages.
//!
//! # The life of a wait for a page
//! 1. A thread faults on a page of a managed memory that is not there, or names it in a call; or somebody fetches it through a
//!    queue ([`Errand`]). The memory system says so, with the page's name ([`Absent`]).
//! 2. The page is *wanted*, the waiter stands in the pager's line, and the pager is told, if it has not been told already that
//!    there is something to do. A thread is parked with its registers as they were: when it goes on, it repeats the
//!    instruction or the call. So nothing has to be remembered of what it was doing.
//! 3. The wait ends with the page (`pager_supply`); with the pager's refusal (`pager_fail`); with the memory's deadline; or
//!    with the pager's end, if no successor is waited for. In all cases but the first the thread carries the error
//!    ([`PageFailure`]) to its next attempt, which does not wait again but fails with it.
//! 4. A thread that waits can be killed, and suspended and sent elsewhere, like any other.
//!
//! Whoever holds memory that a stranger's pager fills can thus be delayed, for as long as the memory tells beforehand, and
//! refused; nothing else.

use crate::account::Account;
use crate::devices::Hardware;
use crate::kernel::Kernel;
use crate::list::{Links, List};
use crate::memory::{Absent, Memory, PagerRequest, Presence};
use crate::object::{Header, Node, cost};
use crate::pool::Id;
use crate::queue::{Binding, Queue};
use crate::thread::{State, Thread, Wait};
use quire_abi::Error;

/// What becomes of those who need a page while there is no pager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathPolicy {
    /// They are refused.
    Fail,
    /// They wait for the next, until their deadline.
    AwaitSuccessor,
}

impl DeathPolicy {
    /// What the memory is told when the pager is bound to nothing.
    const fn absence(self) -> Presence {
        match self {
            Self::Fail => Presence::Gone,
            Self::AwaitSuccessor => Presence::Awaited,
        }
    }
}

/// The filling end of a managed memory.
#[derive(Debug)]
pub struct Pager {
    /// References and account.
    pub header: Header,
    /// What it fills. Does not keep it alive.
    pub memory: Id<Memory>,
    /// Where it is told that there is something to do.
    pub binding: Option<Binding>,
    /// It stands in the line of that queue.
    pub pending: bool,
    /// It has been told, and has not yet taken everything.
    pub told: bool,
    /// Its place in the line of a queue without room.
    pub links: Links<Node>,
    /// Threads and errands that wait for pages, in the order in which they came.
    pub waiters: List<Node>,
    /// How long they wait, in ns; `u64::MAX` is without end.
    pub deadline_ns: u64,
    /// What becomes of them when there is no pager.
    pub policy: DeathPolicy,
}

/// How a thread's wait for a page ended, when it did not end with the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFailure {
    /// The page.
    pub absent: Absent,
    /// Why there is no waiting for it.
    pub error: Error,
}

impl Kernel {
    /// Makes a managed memory and its pager, with a reference each.
    ///
    /// # Errors
    /// `OutOfRange`, `NoMemory`, `AccountLimit`.
    pub fn create_managed(
        &mut self,
        account: Id<Account>,
        size_bytes: u64,
        deadline_ns: u64,
        policy: DeathPolicy,
    ) -> Result<(Id<Memory>, Id<Pager>), Error> {
        self.pagers.reserve(1).map_err(|_| Error::NoMemory)?;
        self.charge(account, cost::PAGER)?;
        // Until it is bound for the first time, the pager is on its way.
        let memory = match self.memory.create_managed(account, size_bytes, Presence::Awaited) {
            Ok(memory) => memory,
            Err(error) => {
                self.credit(account, cost::PAGER);
                return Err(error.into());
            }
        };
        let pager = Pager {
            header: Header::new(account),
            memory,
            binding: None,
            pending: false,
            told: false,
            links: Links::new(),
            waiters: List::new(),
            deadline_ns,
            policy,
        };
        let id = self.pagers.insert(pager).map_err(|_| Error::NoMemory)?;
        self.memory.set_pager(memory, id);
        Ok((memory, id))
    }

    /// The memory that a pager fills.
    ///
    /// # Errors
    /// `PeerClosed` if nobody has it any more.
    pub(crate) fn paged_memory(&self, id: Id<Pager>) -> Result<Id<Memory>, Error> {
        let memory = self.pagers[id].memory;
        self.memory.memory(memory).map(|_| memory).ok_or(Error::PeerClosed)
    }

    /// The pager of a managed memory, if it is alive.
    pub(crate) fn pager_of(&self, memory: Id<Memory>) -> Option<Id<Pager>> {
        self.memory.pager(memory).filter(|id| self.pagers.get(*id).is_some())
    }

    // ---- telling the pager -----------------------------------------------------------------------------------------

    /// Binds a pager to a queue, or to none. Whoever is bound anew is a successor: it is asked for everything again.
    pub(crate) fn bind_pager(&mut self, m: &mut impl Hardware, id: Id<Pager>, binding: Option<Binding>) {
        if self.pagers[id].pending {
            self.withdraw(self.pagers[id].binding, Node::Pager(id));
        }
        let pager = &mut self.pagers[id];
        pager.binding = binding;
        pager.told = false;
        let (memory, policy) = (pager.memory, pager.policy);
        if self.memory.memory(memory).is_none() {
            return;
        }
        match binding {
            Some(_) => {
                self.memory.set_presence(memory, Presence::Present);
                self.memory.restart_requests(memory);
                self.tell_pager(m, id);
            }
            None => self.lose_pager(m, id, policy.absence()),
        }
    }

    /// There is no pager for now, or for good.
    fn lose_pager(&mut self, m: &mut impl Hardware, id: Id<Pager>, presence: Presence) {
        self.memory.set_presence(self.pagers[id].memory, presence);
        match presence {
            Presence::Present | Presence::Awaited => {}
            Presence::Gone => {
                let memory = self.pagers[id].memory;
                let mut at = 0;
                while at < u64::MAX {
                    at = self.memory.fail_pages(memory, at, u64::MAX);
                }
                self.end_page_waits(m, id, (0, u64::MAX), Some(Error::PeerClosed));
            }
        }
    }

    /// Tells a pager that there is something to do, if there is and it does not know.
    pub(crate) fn tell_pager(&mut self, m: &mut impl Hardware, id: Id<Pager>) {
        let Pager { told, binding, memory, .. } = self.pagers[id];
        let Some(binding) = binding.filter(|_| !told) else { return };
        if self.memory.has_request(memory) {
            self.pagers[id].told = true;
            self.offer(m, binding, Node::Pager(id));
        }
    }

    /// The next thing to do for a pager. When there is none, it is told of the next.
    pub(crate) fn take_request(&mut self, m: &mut impl Hardware, id: Id<Pager>) -> Option<PagerRequest> {
        let request = self.memory.take_request(m, self.pagers[id].memory);
        if request.is_none() {
            self.pagers[id].told = false;
        }
        request
    }

    /// The queues that are going were where these pagers took their requests.
    pub(crate) fn unbind_pagers_of(&mut self, m: &mut impl Hardware, queue: Id<Queue>) {
        let mut index = 0;
        while let Some((id, pager)) = self.pagers.next_from(index) {
            index = id.index().saturating_add(1);
            if pager.binding.is_some_and(|binding| binding.queue == queue) {
                self.pagers[id].pending = false;
                self.bind_pager(m, id, None);
            }
        }
    }

    /// Nobody can fill the memory any more, and nobody ever will.
    pub(crate) fn destroy_pager(&mut self, m: &mut impl Hardware, id: Id<Pager>) {
        if self.pagers[id].pending {
            self.withdraw(self.pagers[id].binding, Node::Pager(id));
        }
        self.lose_pager(m, id, Presence::Gone);
        if let Some(pager) = self.pagers.remove(id) {
            self.credit(pager.header.account, cost::PAGER);
        }
    }

    // ---- waiting for a page ----------------------------------------------------------------------------------------

    /// A running thread needs a page that is not there. It is parked, with its registers as they are, and tries again when
    /// the page has come. If its last wait for this page failed, it is told so instead.
    ///
    /// # Errors
    /// Why there is no waiting.
    pub fn wait_for_page(&mut self, m: &mut impl Hardware, id: Id<Thread>, absent: Absent) -> Result<(), Error> {
        if let Some(failure) = self.threads[id].page_failure.take()
            && failure.absent == absent
        {
            return Err(failure.error);
        }
        let deadline = self.join_page_line(m, Node::Thread(id), absent)?;
        self.park(id, Wait::Page(absent), deadline);
        if let Some(pager) = self.pager_of(absent.memory) {
            self.tell_pager(m, pager);
        }
        Ok(())
    }

    /// The thread's next attempt did not end at the page that it had waited for. Tells whether that wait had failed.
    pub(crate) fn forget_page_failure(&mut self, id: Id<Thread>) -> bool {
        self.threads[id].page_failure.take().is_some()
    }

    /// Asks the pager for a page, in nobody's name in particular.
    pub(crate) fn want_page(&mut self, m: &mut impl Hardware, absent: Absent) -> Result<(), Error> {
        let Some(pager) = self.pager_of(absent.memory) else { return Err(Error::PeerClosed) };
        self.memory.want(absent.memory, absent.page)?;
        self.tell_pager(m, pager);
        Ok(())
    }

    /// Puts somebody in line for a page, who keeps the memory alive there; returns until when to wait.
    pub(crate) fn join_page_line(&mut self, m: &mut impl Hardware, waiter: Node, absent: Absent) -> Result<u64, Error> {
        let pager = self.pager_of(absent.memory).ok_or(Error::PeerClosed)?;
        self.memory.want(absent.memory, absent.page)?;
        self.memory.retain_memory(absent.memory);
        self.push_waiter(pager, waiter);
        let deadline = m.now_ns().saturating_add(self.pagers[pager].deadline_ns);
        Ok(deadline)
    }

    pub(crate) fn push_waiter(&mut self, pager: Id<Pager>, waiter: Node) {
        let mut waiters = self.pagers[pager].waiters;
        waiters.push_back(self, waiter);
        self.pagers[pager].waiters = waiters;
    }

    /// Takes somebody out of the line for pages of a memory, and the reference with them.
    pub(crate) fn leave_page_line(&mut self, waiter: Node, memory: Id<Memory>) {
        if let Some(pager) = self.pager_of(memory) {
            let mut waiters = self.pagers[pager].waiters;
            waiters.remove(self, waiter);
            self.pagers[pager].waiters = waiters;
        }
        self.memory.release_memory(memory);
    }

    /// Ends the waits for pages of a range: they are there, or there is an error. Who waits for a page that nobody is asked for
    /// waits because too much is dirty, and is helped by whatever happens.
    pub(crate) fn end_page_waits(
        &mut self,
        m: &mut impl Hardware,
        pager: Id<Pager>,
        (start, end): (u64, u64),
        error: Option<Error>,
    ) {
        // Who has to wait on stands behind this mark, so that nobody is looked at twice.
        let last = self.pagers[pager].waiters.back();
        let mut cursor = self.pagers[pager].waiters.front();
        while let Some(waiter) = cursor {
            let waiters = self.pagers[pager].waiters;
            cursor = waiters.after(self, waiter).filter(|_| Some(waiter) != last);
            match waiter {
                Node::Thread(id) => {
                    if let State::Waiting(Wait::Page(absent)) = self.threads[id].state
                        && ((start..end).contains(&absent.page) || !self.memory.is_awaited(absent.memory, absent.page))
                    {
                        self.end_page_wait(id, absent, error);
                    }
                }
                Node::Errand(id) => self.continue_errand(m, id, (start, end), error),
                Node::Letter(_)
                | Node::Notice(_)
                | Node::Endpoint(_)
                | Node::Timer(_)
                | Node::Interrupt(_)
                | Node::Pager(_) => {}
            }
        }
    }

    /// Lets a thread go on that waited for a page.
    pub(crate) fn end_page_wait(&mut self, id: Id<Thread>, absent: Absent, error: Option<Error>) {
        self.leave_page_line(Node::Thread(id), absent.memory);
        let thread = &mut self.threads[id];
        thread.page_failure = error.map(|error| PageFailure { absent, error });
        if thread.has_deadline {
            thread.has_deadline = false;
            self.alarms.disarm(thread.alarm);
        }
        self.go_on(id);
    }

    // ---- what the pager says ---------------------------------------------------------------------------------------

    /// Fills pages; see [`crate::memory::MemorySystem::supply`].
    pub(crate) fn supply(
        &mut self,
        m: &mut impl Hardware,
        id: Id<Pager>,
        (start, count): (u64, u64),
        source: Option<(Id<Memory>, u64)>,
    ) -> Result<u64, Error> {
        let memory = self.paged_memory(id)?;
        let done = self.memory.supply(m, memory, (start, count), source)?;
        self.end_page_waits(m, id, (start, start + done), None);
        Ok(done)
    }

    /// Fails pages; returns the page after the last that was looked at.
    pub(crate) fn fail_pages(
        &mut self,
        m: &mut impl Hardware,
        id: Id<Pager>,
        start: u64,
        end: u64,
    ) -> Result<u64, Error> {
        let memory = self.paged_memory(id)?;
        let until = self.memory.fail_pages(memory, start, end);
        self.end_page_waits(m, id, (start, until), Some(Error::PagerFailed));
        Ok(until)
    }

    /// Notes what has been written back; returns the page after the last that was looked at.
    pub(crate) fn written(&mut self, m: &mut impl Hardware, id: Id<Pager>, start: u64, end: u64) -> Result<u64, Error> {
        let memory = self.paged_memory(id)?;
        let until = self.memory.written(memory, start, end);
        self.end_page_waits(m, id, (start, until), None);
        self.tell_pager(m, id);
        Ok(until)
    }

    /// Changes the size of a memory. Those who wait for what was cut off learn that by trying again.
    pub(crate) fn resize_memory(
        &mut self,
        m: &mut impl Hardware,
        memory: Id<Memory>,
        size_bytes: u64,
    ) -> Result<(), Error> {
        self.memory.resize(m, memory, size_bytes)?;
        if let Some(pager) = self.pager_of(memory) {
            let pages = size_bytes.div_ceil(crate::machine::PAGE_SIZE);
            self.end_page_waits(m, pager, (pages, u64::MAX), None);
        }
        Ok(())
    }
}
