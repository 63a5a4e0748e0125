//! The model of threads: they do not run; a test says what they do.

use super::account::Account;
use super::executor::Executor;
use super::space::Space;
use crate::errno::Result;
use crate::platform::{Registers, ThreadEvent, Urgency};
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use core::cell::Cell;

/// The handles that a process's shim can use.
pub struct Table;

impl Table {
    /// Makes an empty table. `EAGAIN`.
    pub fn create(_account: &Account) -> Result<Self> {
        Ok(Self)
    }
}

/// A thread of a program.
pub struct UserThread {
    registers: Cell<Registers>,
    end: Rc<End>,
}

/// Whether a thread was killed, and who waits for that.
#[derive(Default)]
struct End {
    is_killed: Cell<bool>,
    queue: WaitQueue,
}

impl UserThread {
    /// Makes a thread that is not yet started. `EAGAIN`.
    pub fn create(
        _executor: &Executor,
        _account: &Account,
        _space: &Space,
        _table: &Table,
    ) -> Result<(Self, ThreadEvents)> {
        let end = Rc::new(End::default());
        Ok((Self { registers: Cell::default(), end: end.clone() }, ThreadEvents(end)))
    }

    /// The handle by which the shim calls the server.
    pub fn channel(&self) -> u32 {
        1
    }

    /// Routes its `syscall` instructions to the shim: entry, and the range of the shim's own.
    pub fn set_shim(&self, _entry: u64, _start: u64, _end: u64) -> Result<()> {
        Ok(())
    }

    /// Starts it.
    pub fn start(&self, registers: &Registers) -> Result<()> {
        self.registers.set(*registers);
        Ok(())
    }

    /// Stops it before its next instruction in user mode; nests.
    pub fn suspend(&self) {}

    /// Takes one suspension back.
    pub fn resume(&self) {}

    /// Ends it.
    pub fn kill(&self) {
        self.end.is_killed.set(true);
        self.end.queue.wake();
    }

    /// Its registers; it must stand still. `ESRCH` if it is gone.
    pub fn registers(&self) -> Result<Registers> {
        Ok(self.registers.get())
    }

    /// Sets its registers, ending a call that it waits in. `ESRCH` if it is gone.
    pub fn set_registers(&self, registers: &Registers) -> Result<()> {
        self.registers.set(*registers);
        Ok(())
    }

    /// Reads its vector state.
    pub fn read_vector_state(&self, _image: &mut [u8]) -> Result<()> {
        Ok(())
    }

    /// Sets its vector state.
    pub fn write_vector_state(&self, _image: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Moves it to another space.
    pub fn set_space(&self, _space: &Space) -> Result<()> {
        Ok(())
    }

    /// Whether it runs, or would if it were not suspended: neither in a call nor stopped by a fault.
    pub fn is_running(&self) -> bool {
        true
    }

    /// Time that it has run, in ns.
    pub fn run_time_ns(&self) -> u64 {
        0
    }

    /// Takes the shim's end of the channel out of the table.
    pub fn close_channel(&self, _table: &Table) {}

    /// Says who runs first.
    pub fn set_urgency(&self, _urgency: Urgency) {}

    /// Says where it may run.
    pub fn set_processors(&self, _processors: u64) {}

    /// The processor that it runs on or ran on last.
    pub fn processor(&self) -> u32 {
        0
    }

    /// Gives it a name for the kernel's dumps.
    pub fn set_name(&self, _name: &[u8]) {}

    /// Answers a request with a label and two words.
    pub fn answer(&self, reply: Reply, label: u64, [first, _]: [u64; 2]) {
        reply.0.set(Some((label, first)));
    }

    /// Lets it go on after an exception, with the registers that it has now.
    pub fn resume_exception(&self, reply: Reply) {
        reply.0.set(Some((0, 0)));
    }
}

/// What a thread does: here, nothing but end.
pub struct ThreadEvents(Rc<End>);

impl ThreadEvents {
    /// Calls `handle` with everything that the thread does, as it does it; at last with [`ThreadEvent::Ended`].
    pub fn serve(self, executor: &Executor, handle: impl Fn(ThreadEvent) + 'static) -> Result<()> {
        executor.spawn(async move {
            loop {
                let listener = self.0.queue.listen();
                if self.0.is_killed.get() {
                    return handle(ThreadEvent::Ended);
                }
                listener.await;
            }
        });
        Ok(())
    }
}

/// The right to answer one request. Dropped, it is given up.
#[derive(Clone, Debug, Default)]
pub struct Reply(Rc<Cell<Option<(u64, u64)>>>);

impl Reply {
    /// Label and first word of the answer, if it was given (asked of a clone).
    pub fn answered(&self) -> Option<(u64, u64)> {
        self.0.get()
    }
}
