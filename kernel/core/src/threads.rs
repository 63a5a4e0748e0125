//! What can be done with threads.

use crate::account::Account;
use crate::channel::Buffer;
use crate::devices::{Hardware, LogLevel};
use crate::dump::Line;
use crate::handles::HandleTable;
use crate::kernel::Kernel;
use crate::list::Links;
use crate::memory::Space;
use crate::object::{Header, Node, ObjectRef, cost};
use crate::pool::Id;
use crate::queue::Binding;
use crate::route::Route;
use crate::thread::{
    CallForm, CallRecord, CallStage, Context, DEFAULT_PRIORITY, Exception, Name, State, Thread, VectorBlock, Wait,
};
use crate::timer::AlarmOwner;
use alloc::vec::Vec;
use core::fmt::Write as _;
use quire_abi::Error;
use quire_abi::message::{HANDLES, WORDS};
use quire_abi::space::USER_END;
use quire_abi::thread::{Registers, ThreadFlags, USER_RFLAGS};

/// RFLAGS bits that every thread has: interrupts on, and the bit that is always 1 (Intel SDM vol. 1, 3.4.3).
const FIXED_RFLAGS: u64 = 0x202;

impl Kernel {
    /// Makes a thread that is not started. It holds references to its space and table of its own.
    ///
    /// # Errors
    /// `NoMemory`, `AccountLimit`.
    pub fn create_thread(
        &mut self,
        m: &mut impl Hardware,
        account: Id<Account>,
        space: Id<Space>,
        table: Id<HandleTable>,
        flags: ThreadFlags,
    ) -> Result<Id<Thread>, Error> {
        let vector_bytes = if flags.contains(ThreadFlags::VECTOR) { m.vector_state_bytes().into() } else { 0 };
        self.charge(account, cost::THREAD + vector_bytes)?;
        let made = self.make_thread(m, account, space, table, vector_bytes);
        if made.is_err() {
            self.credit(account, cost::THREAD + vector_bytes);
        }
        made
    }

    fn make_thread(
        &mut self,
        m: &mut impl Hardware,
        account: Id<Account>,
        space: Id<Space>,
        table: Id<HandleTable>,
        vector_bytes: u64,
    ) -> Result<Id<Thread>, Error> {
        let vector = if vector_bytes == 0 { None } else { Some(new_vector_state(m, vector_bytes as usize)?) };
        self.threads.reserve(1).map_err(|_| Error::NoMemory)?;
        let alarm = self.alarms.create().map_err(|_| Error::NoMemory)?;
        let thread = Thread {
            context: Context::default(),
            header: Header::new(account),
            state: State::New,
            suspensions: 0,
            space,
            root: self.memory.space_root(space),
            table,
            route: Route::new(),
            call: CallRecord {
                serial: 0,
                form: CallForm::Registers,
                stage: CallStage::Received,
                label: 0,
                words: [0; WORDS],
                handles: [None; HANDLES],
                send: Buffer::default(),
                receive: Buffer::default(),
            },
            links: Links::new(),
            run_links: Links::new(),
            alarm,
            has_deadline: false,
            exceptions: None,
            binding: None,
            pending: false,
            priority: DEFAULT_PRIORITY,
            cpu: self.cpu,
            affinity: u64::MAX,
            run_time_ns: 0,
            slice_left_ns: 0,
            page_failure: None,
            name: Name::default(),
            vector,
        };
        let id = self.threads.insert(thread).map_err(|_| Error::NoMemory)?;
        self.alarms.set_owner(alarm, AlarmOwner::Thread(id));
        self.memory.retain_space(space);
        self.retain(ObjectRef::Table(table));
        Ok(id)
    }

    /// Starts a new thread.
    ///
    /// # Errors
    /// `BadState` if it is not new, `BadArgument` for registers that no user thread can have.
    pub fn start_thread(&mut self, id: Id<Thread>, registers: &Registers) -> Result<(), Error> {
        let thread = &mut self.threads[id];
        if thread.state != State::New {
            return Err(Error::BadState);
        }
        thread.context.registers = checked_registers(registers)?;
        // A running thread holds itself.
        thread.header.references = thread.header.references.saturating_add(1);
        let table = thread.table;
        self.tables[table].started_threads += 1;
        self.scheduler.wake(&mut self.threads, self.cpu, id);
        Ok(())
    }

    /// Stops a thread before its next instruction in user mode. If it runs on another processor, this one goes on only when
    /// that has happened.
    pub(crate) fn suspend(&mut self, id: Id<Thread>) -> Result<(), Error> {
        let thread = &mut self.threads[id];
        let suspensions = thread.suspensions.checked_add(1).ok_or(Error::BadState)?;
        match thread.state {
            State::Dead => return Err(Error::PeerClosed),
            State::Ready => {
                self.scheduler.stop(&mut self.threads, id);
                self.threads[id].state = State::Stopped;
            }
            // It goes on until its processor leaves the kernel, which the scheduler is asked to look at.
            State::Running => {
                let cpu = thread.cpu;
                self.scheduler.reconsider(cpu);
                if cpu != self.cpu {
                    self.scheduler.await_stop(self.cpu, id);
                }
            }
            State::New | State::Stopped | State::Waiting(_) => {}
        }
        self.threads[id].suspensions = suspensions;
        Ok(())
    }

    /// Takes one suspension back.
    pub(crate) fn resume(&mut self, id: Id<Thread>) -> Result<(), Error> {
        let thread = &mut self.threads[id];
        if thread.state == State::Dead {
            return Err(Error::PeerClosed);
        }
        thread.suspensions = thread.suspensions.checked_sub(1).ok_or(Error::BadState)?;
        if thread.suspensions == 0 && thread.state == State::Stopped {
            self.scheduler.wake(&mut self.threads, self.cpu, id);
        }
        Ok(())
    }

    /// Sets the general registers of a thread that stands still. A wait in a call ends; the call never returns.
    pub(crate) fn write_registers(
        &mut self,
        m: &mut impl Hardware,
        id: Id<Thread>,
        registers: &Registers,
    ) -> Result<(), Error> {
        let registers = checked_registers(registers)?;
        let thread = &self.threads[id];
        if thread.state == State::Dead {
            return Err(Error::PeerClosed);
        }
        if !thread.registers_are_writable() {
            return Err(Error::BadState);
        }
        if let State::Waiting(wait) = thread.state
            && !thread.is_faulted()
        {
            self.abandon_wait(m, id, wait);
            self.threads[id].state = State::Stopped;
        }
        self.threads[id].context.registers = registers;
        Ok(())
    }

    /// Ends a wait without a result: out of the line, deadline off, reply stale, handles under way dropped.
    fn abandon_wait(&mut self, m: &mut impl Hardware, id: Id<Thread>, wait: Wait) {
        self.leave_line(id, wait);
        let thread = &mut self.threads[id];
        if thread.has_deadline {
            thread.has_deadline = false;
            self.alarms.disarm(thread.alarm);
        }
        thread.call.serial = thread.call.serial.wrapping_add(1);
        if wait == Wait::Call {
            let handles = core::mem::take(&mut thread.call.handles);
            self.drop_handles(m, handles);
        }
    }

    /// Moves a thread to another space.
    pub(crate) fn set_space(&mut self, m: &mut impl Hardware, id: Id<Thread>, space: Id<Space>) -> Result<(), Error> {
        let thread = &self.threads[id];
        match thread.state {
            State::New | State::Stopped | State::Waiting(_) => {}
            State::Ready | State::Running => return Err(Error::BadState),
            State::Dead => return Err(Error::PeerClosed),
        }
        let old = thread.space;
        self.memory.retain_space(space);
        let root = self.memory.space_root(space);
        let thread = &mut self.threads[id];
        thread.space = space;
        thread.root = root;
        self.release(m, ObjectRef::Space(old));
        Ok(())
    }

    /// Binds a thread's end to a queue, or to none. If it has ended already, it completes at once.
    pub(crate) fn bind_thread(&mut self, m: &mut impl Hardware, id: Id<Thread>, binding: Option<Binding>) {
        let thread = &self.threads[id];
        if thread.pending {
            self.withdraw(thread.binding, Node::Thread(id));
        }
        self.threads[id].binding = binding;
        self.tell_end(m, id);
    }

    fn tell_end(&mut self, m: &mut impl Hardware, id: Id<Thread>) {
        let thread = &self.threads[id];
        if let (State::Dead, Some(binding)) = (thread.state, thread.binding) {
            self.offer(m, binding, Node::Thread(id));
        }
    }

    /// Ends a thread, whatever it is doing. Nothing happens to one that has ended.
    pub fn kill_thread(&mut self, m: &mut impl Hardware, id: Id<Thread>) {
        let thread = &self.threads[id];
        if thread.state == State::Running && thread.cpu != self.cpu {
            // Its record and its space may go: the processor must not come back to them.
            m.expel(thread.cpu);
        }
        let thread = &self.threads[id];
        let started = match thread.state {
            State::Dead => return,
            State::New => false,
            State::Ready | State::Running | State::Stopped | State::Waiting(_) => true,
        };
        match thread.state {
            State::Waiting(wait) => self.abandon_wait(m, id, wait),
            State::New | State::Ready | State::Running | State::Stopped | State::Dead => {
                self.scheduler.stop(&mut self.threads, id);
            }
        }
        m.forget_vector_state(id);
        let thread = &mut self.threads[id];
        thread.state = State::Dead;
        let (table, space) = (thread.table, thread.space);
        let exceptions = thread.exceptions.take();
        let vector_bytes = thread.vector.take().map_or(0, |blocks| size_of_val(blocks.as_slice()) as u64);
        let account = thread.header.account;
        if vector_bytes != 0 {
            self.credit(account, vector_bytes);
        }
        if let Some(endpoint) = exceptions {
            self.release(m, ObjectRef::Channel(endpoint));
        }
        self.release(m, ObjectRef::Space(space));
        if started {
            let record = &mut self.tables[table];
            record.started_threads -= 1;
            if record.started_threads == 0 {
                self.doom(ObjectRef::Table(table));
            }
        }
        self.release(m, ObjectRef::Table(table));
        self.tell_end(m, id);
        if started {
            self.release(m, ObjectRef::Thread(id));
        }
    }

    /// Frees the record of a thread that nobody refers to: one that has ended, or was never started.
    pub(crate) fn destroy_thread(&mut self, m: &mut impl Hardware, id: Id<Thread>) {
        self.kill_thread(m, id);
        let thread = &self.threads[id];
        if thread.pending {
            self.withdraw(thread.binding, Node::Thread(id));
        }
        if let Some(thread) = self.threads.remove(id) {
            self.alarms.destroy(thread.alarm);
            self.credit(thread.header.account, cost::THREAD);
        }
    }

    /// Something happened to a running thread that it can't get over by itself. It is parked in a call to its exception
    /// channel; if nobody listens there, it ends.
    pub fn exception(&mut self, m: &mut impl Hardware, cpu: usize, id: Id<Thread>, exception: Exception) {
        self.cpu = cpu;
        let end = self.threads[id].exceptions.and_then(|channel| self.receiving_end(channel).ok());
        match end {
            Some(end) => {
                self.threads[id].call.form = CallForm::Exception(exception);
                self.call(m, id, end);
            }
            None => self.kill_faulted(m, id, exception),
        }
        self.reap(m);
    }

    /// Ends a thread because of an exception, and says so in the log.
    pub(crate) fn kill_faulted(&mut self, m: &mut impl Hardware, id: Id<Thread>, exception: Exception) {
        let thread = &self.threads[id];
        let mut line = Line::default();
        // A line that is too long is cut; that is no error.
        let _ = write!(
            line,
            "thread {id:?} \"{}\" ends: {:?} at {:#x} (code {:#x}), rip {:#x}",
            thread.name.as_str(),
            exception.kind,
            exception.address,
            exception.code,
            thread.context.registers.rip,
        );
        m.log(LogLevel::Warn, "kernel", line.bytes());
        self.kill_thread(m, id);
    }

    /// Ends every thread charged to the account or to one below it, and takes apart what could keep itself alive without
    /// them: handle tables and messages under way. Returns how many threads.
    pub(crate) fn kill_account(&mut self, m: &mut impl Hardware, account: Id<Account>) -> u64 {
        let mut killed = 0;
        let mut index = 0;
        while let Some((id, thread)) = self.threads.next_from(index) {
            index = id.index().saturating_add(1);
            let alive = thread.state != State::Dead;
            if alive && self.memory.accounts.is_within(thread.header.account, account) {
                self.kill_thread(m, id);
                killed += 1;
            }
        }
        index = 0;
        while let Some((id, table)) = self.tables.next_from(index) {
            index = id.index().saturating_add(1);
            if table.started_threads == 0 && self.memory.accounts.is_within(table.header.account, account) {
                self.doom(ObjectRef::Table(id));
            }
        }
        index = 0;
        while let Some((id, endpoint)) = self.endpoints.next_from(index) {
            index = id.index().saturating_add(1);
            if self.memory.accounts.is_within(endpoint.header.account, account) {
                self.refuse_incoming(m, id);
            }
        }
        killed
    }
}

fn new_vector_state(m: &impl Hardware, bytes: usize) -> Result<Vec<VectorBlock>, Error> {
    let blocks = bytes.div_ceil(size_of::<VectorBlock>());
    let mut area = Vec::new();
    area.try_reserve_exact(blocks).map_err(|_| Error::NoMemory)?;
    area.resize(blocks, VectorBlock([0; 64]));
    m.init_vector_state(&mut area);
    Ok(area)
}

/// Registers with which user mode can be entered: addresses in the lower half, so that neither `sysret` nor the writes to
/// the base registers fault in the kernel (Intel SDM vol. 2B, SYSRET; vol. 4, IA32_FS_BASE), flags that are the user's own.
fn checked_registers(registers: &Registers) -> Result<Registers, Error> {
    let in_user_half = |address: u64| address < USER_END + quire_abi::space::PAGE_SIZE;
    let valid = registers.rip < USER_END && in_user_half(registers.fs_base) && in_user_half(registers.gs_base);
    if !valid {
        return Err(Error::BadArgument);
    }
    Ok(Registers { rflags: registers.rflags & USER_RFLAGS | FIXED_RFLAGS, ..*registers })
}
