//! Threads of programs.

use super::futex::Waiter;
use super::schedule::Schedule;
use super::{Pid, Process, seccomp};
use crate::calls::FutexWait;
use crate::calls::Until;
use crate::platform::{Reply, Space, UserThread};
use crate::ptrace::stops::{Halted, is_trapping};
use crate::signal::state::ThreadSignals;
use crate::vm::Block;
use crate::wait::WaitQueue;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use posix_protocol::carried::WORD_SEEN;
use posix_protocol::shim::{Context, LocalAnswers};

/// Where a thread is, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// In the program or the shim.
    Outside,
    /// In a system call (number given), or in an exception, whose answer the server owes.
    Inside,
    /// Ended.
    Gone,
}

/// A thread of a program.
pub struct Thread {
    /// Its process.
    pub process: Rc<Process>,
    /// Its id; that of the process for the first thread.
    pub tid: Pid,
    /// The thread itself.
    pub machine: UserThread,
    /// Its name (`comm`).
    pub name: RefCell<Vec<u8>>,
    /// Its block.
    pub(crate) block: RefCell<Rc<Block>>,
    /// Its signals.
    pub signals: RefCell<ThreadSignals>,
    /// Woken when a signal may have become deliverable, or the thread has ended.
    pub signal_arrived: WaitQueue,
    /// Something is to be looked at before it goes back to the program: a signal, a stop, the end.
    pub attention: Cell<Attention>,
    /// Where it is.
    pub whereabouts: Cell<Whereabouts>,
    /// The answer that it waits for.
    pub reply: RefCell<Option<Reply>>,
    /// Where it waits at a futex without a task.
    pub parked: RefCell<Option<Rc<Waiter>>>,
    /// Whether its shim says that it has seen the word of a futex as its call expects it.
    pub has_seen_word: Cell<bool>,
    /// How many wakes of futexes there had been when it last went back from a call.
    pub wakes_at_leave: Cell<u64>,
    /// The number of the system call that it is in.
    pub call_number: Cell<u64>,
    /// `set_tid_address`: cleared and woken when it ends.
    pub clear_tid: Cell<u64>,
    /// Which calls it may make.
    pub seccomp: RefCell<seccomp::Mode>,
    /// `set_robust_list`, as given.
    pub robust_list: Cell<(u64, u64)>,
    /// What `restart_syscall` goes on with.
    pub restart: RefCell<Option<Restart>>,
    /// Waits for something in a system call (`S` in `/proc`).
    pub is_waiting: Cell<bool>,
    /// How it is to be scheduled.
    pub schedule: Cell<Schedule>,
    /// Time that the server has spent on its calls, in [ticks](crate::platform::ticks).
    pub system_ticks: Cell<u64>,
    /// How often it has waited in a call.
    pub waits: Cell<u64>,
    /// Whether its shim has been told to ask before it goes back.
    pub is_pending_set: Cell<bool>,
    /// The mask that its block has, as far as the server knows.
    pub shown_mask: Cell<u64>,
    /// Whether its shim knows that signals wait.
    pub is_held_shown: Cell<bool>,
    /// Suspended because its process is stopped.
    pub is_suspended: Cell<bool>,
    /// Whether somebody traces it.
    pub is_traced: Cell<bool>,
    /// Suspended because it stands still for its tracer, in the program.
    pub is_trapped: Cell<bool>,
    /// Whether its trap flag is set for its tracer, and not by its program.
    pub is_stepping: Cell<bool>,
    /// The base of `fs` that it goes on with, if that is another.
    pub new_fs_base: Cell<Option<u64>>,
    /// What it goes on with, while it stands still for its tracer.
    pub halted: RefCell<Option<Box<Halted>>>,
    /// How often it has faulted for want of memory when there was some.
    pub starved: Cell<u8>,
    pub(super) _alive: crate::census::counted::Thread,
}

/// Whether a thread must be looked at before it goes back to its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// No.
    None,
    /// Yes.
    Needed,
}

/// A call that a signal without a handler has interrupted, and that goes on with what is left of its time
/// (`restart_syscall(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// `nanosleep` and its kin.
    Sleep {
        /// When it ends, in ns of the monotonic clock.
        deadline_ns: u64,
        /// Where the rest goes if a handler interrupts it.
        remaining: u64,
    },
    /// `poll`.
    Poll {
        /// The records.
        address: u64,
        /// How many.
        count: u64,
        /// Until when.
        until: Until,
    },
    /// `FUTEX_WAIT` with a timeout.
    Futex(FutexWait),
}

impl Thread {
    /// Its address space.
    pub fn space(&self) -> Space {
        self.process.space()
    }

    /// The server.
    pub fn server(&self) -> &Rc<crate::process::Server> {
        &self.process.server
    }

    /// Whether a blocking call must end: a signal will have an effect, or the thread has ended.
    ///
    /// Whoever traces it is told of every signal, so all of them have an effect then.
    pub fn is_interrupted(&self) -> bool {
        self.whereabouts.get() == Whereabouts::Gone
            || self.is_traced.get() && (is_trapping(self) || self.has_deliverable())
            || self.signals.borrow().is_interrupted(&self.process.signals.borrow())
    }

    fn has_deliverable(&self) -> bool {
        !self.signals.borrow().deliverable(&self.process.signals.borrow()).is_empty()
    }

    /// Ready once the thread [is interrupted](Self::is_interrupted). Race it with whatever a call waits for.
    pub async fn interrupted(self: Rc<Self>) {
        loop {
            let listener = self.signal_arrived.listen();
            if self.is_interrupted() {
                return;
            }
            listener.await;
        }
    }

    /// Ready once the thread has ended.
    pub async fn gone(self: Rc<Self>) {
        loop {
            let listener = self.signal_arrived.listen();
            if self.whereabouts.get() == Whereabouts::Gone {
                return;
            }
            listener.await;
        }
    }

    /// Its block.
    pub fn block(&self) -> Rc<Block> {
        self.block.borrow().clone()
    }

    /// Its block, if the call that it makes carries something along in it.
    pub fn carrying_block(&self) -> Option<Rc<Block>> {
        let block = self.block.borrow();
        block.is_carrying().then(|| block.clone())
    }

    /// A call begins, which carries this along.
    pub fn begin_call(&self, carried: u64, arguments: &[u64; 6]) {
        self.has_seen_word.set(carried & WORD_SEEN != 0);
        self.block.borrow().begin_call(carried & !WORD_SEEN, arguments);
    }

    /// Whether the word of the futex call that it makes need not be looked at: its shim has, and no one was woken since
    /// ([`futex`](super::futex)).
    pub fn has_seen_word(&self) -> bool {
        self.has_seen_word.get() && self.wakes_at_leave.get() == self.server().futexes.wakes()
    }

    /// It goes back to its program.
    pub fn note_leave(&self) {
        self.wakes_at_leave.set(self.server().futexes.wakes());
    }

    /// The call returns: how many bytes of its result are to be copied from the block.
    pub fn end_call(&self) -> u64 {
        self.block.borrow().end_call()
    }

    /// The thread does not go back from its call as usual: what the call has written so far goes where it belongs.
    pub fn flush_call(&self) {
        let block = self.block.borrow();
        if block.is_carrying() {
            block.flush(&self.space());
        }
    }

    /// Gives it another block (`execve`).
    pub fn set_block(&self, block: Rc<Block>) {
        self.block.replace(block);
    }

    /// The program's registers, from its block; only while the thread is in a system call.
    pub fn context(&self) -> Context {
        self.block.borrow().context()
    }

    /// Sets the program's registers, to be loaded with an answer `RESTORE`.
    pub fn set_context(&self, context: &Context) {
        self.block.borrow().set_context(context);
    }

    /// Makes the shim ask before it goes back to the program.
    pub fn set_pending(&self) {
        self.is_pending_set.set(true);
        self.block.borrow().set_pending(true);
    }

    /// Takes that back, if it was asked for.
    pub fn clear_pending(&self) {
        if self.is_pending_set.replace(false) {
            self.block.borrow().set_pending(false);
        }
    }

    /// What the shim may tell without asking: nothing if the thread's calls are judged, or somebody traces it.
    pub fn local_answers(&self) -> LocalAnswers {
        let answers = self.process.local_answers(self.tid);
        let is_watched = self.is_traced.get() || !self.seccomp.borrow().is_off();
        if is_watched { LocalAnswers { traced: 1, ..answers } } else { answers }
    }

    /// Allows the thread no more than this from now on. Its shim asks for everything, and its process serves no file itself.
    pub fn restrict(&self, mode: seccomp::Mode) {
        let before = self.seccomp.replace(mode);
        drop(before);
        self.update_local_answers();
        crate::shared::end_all(&self.process);
    }

    /// Writes what the shim may tell without asking.
    pub fn update_local_answers(&self) {
        self.block.borrow().set_local_answers(&self.local_answers());
    }

    /// Writes a whole new block.
    pub fn initial_block(&self, context: &Context, answers: &LocalAnswers) {
        self.block.borrow().initialize(self.machine.channel(), context, answers);
        self.show_signals();
    }
}
