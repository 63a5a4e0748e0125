//! The kernel: all objects, and what the machine layer asks of them.
//!
//! One value behind one lock (ADR 2). The machine layer enters with a trap: a system call goes to
//! [`Kernel::dispatch`](crate::calls), a page fault to [`MemorySystem::fault`] and, if that can't resolve it, to
//! [`Kernel::exception`]; interrupts go to [`Kernel::on_tick`] and [`Kernel::on_interrupt`]. On every way out it asks
//! [`Kernel::next_thread`] whom to run.

use crate::account::{Account, CreateAccountError, LimitReached, Resource, Usage};
use crate::channel::{Endpoint, Letter};
use crate::devices::Hardware;
use crate::dma::{DmaMapping, DmaSpace};
use crate::errand::Errand;
use crate::event::{Event, Notice};
use crate::handles::HandleTable;
use crate::interrupt::{Interrupt, MAX_INTERRUPTS};
use crate::list::{Arena, Links};
use crate::memory::MemorySystem;
use crate::object::{Node, ObjectRef};
use crate::pager::Pager;
use crate::pool::{Id, Pool};
use crate::ports::IoPorts;
use crate::queue::Queue;
use crate::schedule::{Next, Scheduler};
use crate::thread::{Context, State, Thread, Wait};
use crate::timer::{AlarmId, AlarmOwner, Alarms, Timer};
use quire_abi::Error;
use quire_abi::error::OK;

/// Every object of the system.
#[derive(Debug)]
pub struct Kernel {
    /// Accounts, memories, address spaces.
    pub memory: MemorySystem,
    pub(crate) threads: Pool<Thread>,
    pub(crate) tables: Pool<HandleTable>,
    pub(crate) endpoints: Pool<Endpoint>,
    pub(crate) letters: Pool<Letter>,
    pub(crate) queues: Pool<Queue>,
    pub(crate) events: Pool<Event>,
    pub(crate) notices: Pool<Notice>,
    pub(crate) timers: Pool<Timer>,
    pub(crate) interrupts: Pool<Interrupt>,
    pub(crate) interrupt_owners: [Option<Id<Interrupt>>; MAX_INTERRUPTS],
    pub(crate) io_ports: Pool<IoPorts>,
    pub(crate) dma_spaces: Pool<DmaSpace>,
    pub(crate) dma_mappings: Pool<DmaMapping>,
    pub(crate) pagers: Pool<Pager>,
    pub(crate) errands: Pool<Errand>,
    pub(crate) alarms: Alarms,
    /// For what is dirty; see [`crate::balance`].
    pub(crate) dirty_alarm: AlarmId,
    /// How many frames were free when none could be taken back; see [`crate::balance`].
    pub(crate) free_in_vain: Option<u64>,
    pub(crate) scheduler: Scheduler,
    /// Things to be torn down, linked through their headers.
    pub(crate) doomed: Option<ObjectRef>,
    /// Changes with everything that could change where a handle leads; see [`crate::route`].
    pub(crate) route_epoch: u64,
    /// The processor that is in the kernel.
    pub(crate) cpu: usize,
}

impl Arena<Node> for Kernel {
    #[inline]
    fn links(&mut self, node: Node) -> &mut Links<Node> {
        match node {
            Node::Thread(id) => &mut self.threads[id].links,
            Node::Letter(id) => &mut self.letters[id].links,
            Node::Notice(id) => &mut self.notices[id].links,
            Node::Endpoint(id) => &mut self.endpoints[id].links,
            Node::Timer(id) => &mut self.timers[id].links,
            Node::Interrupt(id) => &mut self.interrupts[id].links,
            Node::Pager(id) => &mut self.pagers[id].links,
            Node::Errand(id) => &mut self.errands[id].links,
        }
    }
}

impl From<LimitReached> for Error {
    fn from(_: LimitReached) -> Self {
        Self::AccountLimit
    }
}

impl From<CreateAccountError> for Error {
    fn from(error: CreateAccountError) -> Self {
        match error {
            CreateAccountError::NoMemory => Self::NoMemory,
            CreateAccountError::LimitReached => Self::AccountLimit,
            CreateAccountError::TooDeep => Self::Full,
        }
    }
}

impl Kernel {
    /// A kernel without threads.
    ///
    /// # Errors
    /// `NoMemory`.
    pub fn new(memory: MemorySystem, processors: usize) -> Result<Self, Error> {
        let mut alarms = Alarms::new();
        let dirty_alarm = alarms.create().map_err(|_| Error::NoMemory)?;
        alarms.set_owner(dirty_alarm, AlarmOwner::Dirty);
        Ok(Self {
            memory,
            threads: Pool::new(),
            tables: Pool::new(),
            endpoints: Pool::new(),
            letters: Pool::new(),
            queues: Pool::new(),
            events: Pool::new(),
            notices: Pool::new(),
            timers: Pool::new(),
            interrupts: Pool::new(),
            interrupt_owners: [None; MAX_INTERRUPTS],
            io_ports: Pool::new(),
            dma_spaces: Pool::new(),
            dma_mappings: Pool::new(),
            pagers: Pool::new(),
            errands: Pool::new(),
            alarms,
            dirty_alarm,
            free_in_vain: None,
            scheduler: Scheduler::new(processors).ok_or(Error::NoMemory)?,
            doomed: None,
            route_epoch: 1,
            cpu: 0,
        })
    }

    // ---- what the machine layer uses -------------------------------------------------------------------------------

    /// The thread that a processor runs; none while it idles.
    #[inline]
    pub fn current(&self, cpu: usize) -> Option<Id<Thread>> {
        self.scheduler.current(cpu)
    }

    /// Says which processor is in the kernel; the other entries do so themselves.
    #[inline]
    pub fn enter(&mut self, cpu: usize) {
        self.cpu = cpu;
    }

    /// A thread, or `None` if the id is stale.
    #[inline]
    pub fn thread(&self, id: Id<Thread>) -> Option<&Thread> {
        self.threads.get(id)
    }

    /// A thread, to change it.
    #[inline]
    pub fn thread_mut(&mut self, id: Id<Thread>) -> Option<&mut Thread> {
        self.threads.get_mut(id)
    }

    /// Registers and reflection of a thread. Their place in memory does not change while the thread exists.
    #[inline]
    pub fn context_mut(&mut self, id: Id<Thread>) -> Option<&mut Context> {
        self.threads.get_mut(id).map(|thread| &mut thread.context)
    }

    /// Whom `cpu` runs when it leaves the kernel. Then ask for [`Kernel::next_deadline`].
    #[inline]
    pub fn next_thread(&mut self, m: &mut impl Hardware, cpu: usize) -> Next {
        self.cpu = cpu;
        self.alarms.note_seen();
        let next = match self.scheduler.settled(cpu) {
            Some(current) => Next::Run(current),
            None => self.scheduler.choose(&mut self.threads, cpu, m.now_ns()),
        };
        self.scheduler.note_seen(cpu);
        let interrupts = self.scheduler.take_interrupts(cpu);
        if interrupts != 0 {
            m.interrupt_processors(interrupts);
        }
        next
    }

    /// Whether `cpu` may go on with the thread that it has loaded as if nothing had happened: [`Kernel::next_thread`] would name it,
    /// and no deadline has come nearer.
    #[inline(always)]
    pub fn goes_on_with(&self, cpu: usize, loaded: Option<Id<Thread>>) -> bool {
        self.scheduler.goes_on_with(cpu, loaded) && !self.alarms.came_nearer()
    }

    /// When the time slice of the thread that `cpu` runs ends, if that matters.
    pub fn slice_end(&self, cpu: usize) -> Option<u64> {
        self.scheduler.slice_end(cpu)
    }

    /// When [`Kernel::on_tick`] has something to do, in ns since the kernel's start.
    #[inline]
    pub fn next_deadline(&self, cpu: usize) -> Option<u64> {
        match (self.alarms.earliest(), self.scheduler.slice_end(cpu)) {
            (Some(alarm), Some(slice)) => Some(alarm.min(slice)),
            (alarm, slice) => alarm.or(slice),
        }
    }

    /// Time has passed: lets deadlines come due and the time slice end.
    pub fn on_tick(&mut self, m: &mut impl Hardware, cpu: usize) {
        self.cpu = cpu;
        let now = m.now_ns();
        while let Some(owner) = self.alarms.take_due(now) {
            match owner {
                AlarmOwner::Thread(thread) => self.time_out(thread),
                AlarmOwner::Timer(timer) => self.fire_timer(m, timer),
                AlarmOwner::Errand(errand) => self.time_out_errand(m, errand),
                AlarmOwner::Dirty => self.write_back_old(m),
            }
        }
        self.scheduler.tick(cpu, now);
        self.reap(m);
    }

    // ---- accounts --------------------------------------------------------------------------------------------------

    pub(crate) fn charge(&mut self, account: Id<Account>, bytes: u64) -> Result<(), Error> {
        Ok(self.memory.accounts.charge(account, Resource::KernelBytes, bytes)?)
    }

    pub(crate) fn credit(&mut self, account: Id<Account>, bytes: u64) {
        self.memory.accounts.credit(account, Resource::KernelBytes, bytes);
    }

    /// Credits what was charged for an object that could not be made for lack of memory.
    pub(crate) fn refund(&mut self, account: Id<Account>, bytes: u64) -> Error {
        self.credit(account, bytes);
        Error::NoMemory
    }

    /// Makes an account.
    ///
    /// # Errors
    /// `NoMemory`, `AccountLimit` (the parent pays for the record), `Full` if the tree would get too deep.
    pub fn create_account(&mut self, parent: Option<Id<Account>>, limit: Usage) -> Result<Id<Account>, Error> {
        Ok(self.memory.accounts.create(parent, limit)?)
    }

    // ---- waiting ---------------------------------------------------------------------------------------------------

    /// Whether a wait until `deadline` makes sense: 0 is "do not wait", `u64::MAX` "without end".
    #[inline]
    pub(crate) fn check_deadline(&self, m: &impl Hardware, deadline: u64) -> Result<(), Error> {
        match deadline {
            u64::MAX => Ok(()),
            0 => Err(Error::WouldBlock),
            _ if deadline <= m.now_ns() => Err(Error::TimedOut),
            _ => Ok(()),
        }
    }

    /// Parks a running thread.
    #[inline]
    pub(crate) fn park(&mut self, id: Id<Thread>, wait: Wait, deadline: u64) {
        let thread = &mut self.threads[id];
        thread.state = State::Waiting(wait);
        self.scheduler.park(thread.cpu);
        if deadline != u64::MAX {
            thread.has_deadline = true;
            self.alarms.keep(thread.alarm, deadline);
        }
    }

    /// Ends the wait of a thread that stands in no line any more: its call returns this.
    #[inline]
    pub(crate) fn finish_wait(&mut self, id: Id<Thread>, result: Result<Option<u64>, Error>) {
        let thread = &mut self.threads[id];
        thread.has_deadline = false;
        let registers = &mut thread.context.registers;
        match result {
            Ok(None) => registers.rax = OK,
            Ok(Some(value)) => {
                registers.rax = OK;
                registers.rdx = value;
            }
            Err(error) => registers.rax = error as u64,
        }
        self.scheduler.wake(&mut self.threads, self.cpu, id);
    }

    /// Lets a thread that waited go on with its registers as they are.
    pub(crate) fn go_on(&mut self, id: Id<Thread>) {
        self.scheduler.wake(&mut self.threads, self.cpu, id);
    }

    fn time_out(&mut self, id: Id<Thread>) {
        let Some(thread) = self.threads.get(id) else { return };
        let State::Waiting(wait) = thread.state else { return };
        if !thread.has_deadline {
            return;
        }
        if let Wait::Page(absent) = wait {
            return self.end_page_wait(id, absent, Some(Error::TimedOut));
        }
        self.leave_line(id, wait);
        self.finish_wait(id, Err(Error::TimedOut));
    }

    /// Takes a waiting thread out of the line that it stands in.
    pub(crate) fn leave_line(&mut self, id: Id<Thread>, wait: Wait) {
        use crate::thread::CallStage;
        match wait {
            Wait::Call => {
                if let CallStage::Queued(endpoint) = self.threads[id].call.stage {
                    self.leave_endpoint(endpoint, Node::Thread(id));
                }
            }
            Wait::Receive { endpoint, .. } => self.leave_receivers(endpoint, id),
            Wait::Queue(queue) => self.leave_queue(queue),
            Wait::Event { event, .. } => self.leave_event(event, Node::Thread(id)),
            Wait::Page(absent) => self.leave_page_line(Node::Thread(id), absent.memory),
        }
    }
}
