//! Threads of programs, and what they do.

use super::memory::{Account, Space};
use super::reserve::with_reserve;
use super::{Executor, errno, errno_of_fork};
use crate::errno::Result;
use crate::platform::{Registers, ThreadEvent, Urgency};
use alloc::rc::Rc;
use core::cell::Cell;
use quire_api::abi::thread::{EXCEPTION_LABEL, ExceptionKind, ExceptionVerdict, Reflection, ThreadFlags, ThreadState};
use quire_api::executor::ThreadEnd;
use quire_api::{ChannelEndpoint, Error, Handle, HandleTable, Message, Request, Rights, Thread};

/// What a shim can do with its end of the channel.
const SHIM_RIGHTS: Rights = Rights::SEND;

/// The kernel's priority of new threads. Servers have 20, so that three levels are between.
const ORDINARY_PRIORITY: u8 = 16;
/// How many of the 99 real-time priorities share a level.
const LEVELS_IN_ONE: u8 = 34;

/// The handles that a process's shim can use.
pub struct Table(HandleTable);

impl Table {
    /// Makes an empty table. `EAGAIN`.
    pub fn create(account: &Account) -> Result<Self> {
        with_reserve(|| HandleTable::create(&account.0)).map(Self).map_err(errno_of_fork)
    }
}

/// A thread of a program.
pub struct UserThread {
    thread: Thread,
    channel: Handle,
    executor: quire_api::Executor,
}

impl UserThread {
    /// Makes a thread that is not yet started. `EAGAIN`.
    pub fn create(
        executor: &Executor,
        account: &Account,
        space: &Space,
        table: &Table,
    ) -> Result<(Self, ThreadEvents)> {
        with_reserve(|| Self::make(&executor.0, account, space, table)).map_err(errno_of_fork)
    }

    fn make(
        executor: &quire_api::Executor,
        account: &Account,
        space: &Space,
        table: &Table,
    ) -> core::result::Result<(Self, ThreadEvents), Error> {
        let (server_end, shim_end) = ChannelEndpoint::pair(&account.0)?;
        let thread = Thread::create(&account.0, &space.0.object, &table.0, ThreadFlags::VECTOR)?;
        thread.set_exceptions(Some(&shim_end))?;
        let channel = table.0.install(&shim_end, SHIM_RIGHTS)?;
        let events = ThreadEvents { endpoint: server_end, end: executor.thread_end(&thread)? };
        Ok((Self { thread, channel, executor: executor.clone() }, events))
    }

    /// The handle by which the shim calls the server.
    pub fn channel(&self) -> u32 {
        self.channel.0
    }

    /// Takes the shim's end of the channel out of the table, when the thread has ended.
    pub fn close_channel(&self, table: &Table) {
        // The program may have closed it by a native call.
        let _ = table.0.close(self.channel);
    }

    /// Routes its `syscall` instructions to the shim: entry, and the range of the shim's own.
    pub fn set_shim(&self, entry: u64, start: u64, end: u64) -> Result<()> {
        let reflection = Reflection { entry, native_start: start, native_end: end };
        self.thread.set_reflection(&reflection).map_err(errno)
    }

    /// Starts it.
    pub fn start(&self, registers: &Registers) -> Result<()> {
        self.thread.start(registers).map_err(errno)
    }

    /// Stops it before its next instruction in user mode; nests.
    pub fn suspend(&self) {
        // A thread that has ended needs no stopping.
        let _ = self.thread.suspend();
    }

    /// Takes one suspension back.
    pub fn resume(&self) {
        // Nor can it be resumed.
        let _ = self.thread.resume();
    }

    /// Ends it.
    pub fn kill(&self) {
        // It may have ended already.
        let _ = self.thread.kill();
    }

    /// Its registers; it must stand still. `ESRCH` if it is gone.
    pub fn registers(&self) -> Result<Registers> {
        self.thread.registers().map_err(errno)
    }

    /// Sets its registers, ending a call that it waits in; it is suspended for the moment if it must be. `ESRCH` if it is gone.
    pub fn set_registers(&self, registers: &Registers) -> Result<()> {
        match self.thread.set_registers(registers) {
            Err(Error::BadState) => {
                self.thread.suspend().map_err(errno)?;
                let result = self.thread.set_registers(registers);
                self.thread.resume().map_err(errno)?;
                result.map_err(errno)
            }
            result => result.map_err(errno),
        }
    }

    /// Reads its vector state.
    pub fn read_vector_state(&self, image: &mut [u8]) -> Result<()> {
        self.thread.read_vector_state(image).map_err(errno)
    }

    /// Sets its vector state. It may wait in a call, which then goes on waiting.
    pub fn write_vector_state(&self, image: &[u8]) -> Result<()> {
        self.thread.write_vector_state(image).map_err(errno)
    }

    /// Moves it to another space.
    pub fn set_space(&self, space: &Space) -> Result<()> {
        self.thread.set_space(&space.0.object).map_err(errno)
    }

    /// Whether it runs, or would if it were not suspended, or if the page were there that it needs: neither in a call nor stopped
    /// by a fault.
    pub fn is_running(&self) -> bool {
        self.thread.info().is_ok_and(|info| {
            let needs_page = info.state == ThreadState::Waiting as u32 && info.waiting_in == 0;
            info.state == ThreadState::Runnable as u32 || needs_page
        })
    }

    /// Time that it has run, in ns.
    pub fn run_time_ns(&self) -> u64 {
        self.thread.info().map_or(0, |info| info.run_time_ns)
    }

    /// Says who runs first. The kernel has few levels between ordinary programs and servers; they share them.
    pub fn set_urgency(&self, urgency: Urgency) {
        let priority = match urgency {
            Urgency::Ordinary => ORDINARY_PRIORITY,
            Urgency::RealTime(level) => ORDINARY_PRIORITY + 1 + level / LEVELS_IN_ONE,
        };
        // A thread that has ended is in nobody's way.
        let _ = self.thread.set_priority(priority);
    }

    /// Says where it may run: the processors as bits.
    pub fn set_processors(&self, processors: u64) {
        // A thread that has ended runs nowhere.
        let _ = self.thread.set_affinity(processors);
    }

    /// The processor that it runs on or ran on last.
    pub fn processor(&self) -> u32 {
        self.thread.info().map_or(0, |info| info.processor)
    }

    /// Gives it a name for the kernel's dumps.
    pub fn set_name(&self, name: &[u8]) {
        if let Ok(name) = core::str::from_utf8(name) {
            // A name is a help, not a need.
            let _ = self.thread.set_name(name);
        }
    }

    /// Answers a request with a label and two words.
    pub fn answer(&self, reply: Reply, label: u64, [first, second]: [u64; 2]) {
        let message = Message::new(label, [first, second, 0, 0, 0, 0, 0, 0]);
        // Whoever asked may have ended.
        let _ = self.executor.answer(reply.0, message);
    }

    /// Lets it go on after an exception, with the registers that it has now.
    pub fn resume_exception(&self, reply: Reply) {
        self.answer(reply, ExceptionVerdict::Resume as u64, [0; 2]);
    }
}

/// The right to answer one request. Dropped, it is given up.
pub struct Reply(quire_api::Reply);

/// What a thread does, as it does it.
pub struct ThreadEvents {
    endpoint: ChannelEndpoint,
    end: ThreadEnd,
}

impl ThreadEvents {
    /// Calls `handle` with everything that the thread does, as it does it; at last with [`ThreadEvent::Ended`].
    pub fn serve(self, executor: &Executor, handle: impl Fn(ThreadEvent) + 'static) -> Result<()> {
        let Self { endpoint, end } = self;
        let handle = Rc::new(handle);
        let has_ended = Cell::new(false);
        let handle_all = Rc::new(move |event| {
            let is_end = matches!(event, ThreadEvent::Ended);
            if !has_ended.get() {
                has_ended.set(is_end);
                handle(event);
            }
        });
        let handle_messages = handle_all.clone();
        let serve = move |request: Option<Request>| match request {
            None => handle_messages(ThreadEvent::Ended),
            Some(request) => event_of(request).into_iter().for_each(|event| handle_messages(event)),
        };
        let serving = executor.0.serve(endpoint, serve).map_err(errno_of_fork)?;
        executor.0.spawn(async move {
            end.await;
            handle_all(ThreadEvent::Ended);
            drop(serving);
        });
        Ok(())
    }
}

/// What a message of a thread means; `None` for one that nobody waits for.
#[inline]
fn event_of(request: Request) -> Option<ThreadEvent> {
    let reply = request.reply.map(Reply)?;
    let [first, second, third, fourth, fifth, sixth, carried, _] = request.message.words;
    if request.message.label != EXCEPTION_LABEL {
        let arguments = [first, second, third, fourth, fifth, sixth];
        return Some(ThreadEvent::Call { label: request.message.label, arguments, carried, reply });
    }
    // A kind that this version does not know is as bad as any.
    let kind = ExceptionKind::from_number(first).unwrap_or(ExceptionKind::Protection);
    Some(ThreadEvent::Exception { kind, address: second, code: third, reply })
}
