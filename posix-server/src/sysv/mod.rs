//! System V IPC (`sysvipc(7)`): message queues, sets of semaphores and shared memory, found by keys and named by ids.
//!
//! [`Table`] gives objects ids and keys; [`messages`], [`semaphores`] and [`segments`] are the objects, as state machines that never wait.
//! The calls ([`crate::calls`]) make waits of them.

pub mod messages;
pub mod segments;
pub mod semaphores;
mod table;

pub use table::{Changes, Object, Permissions, Shown, Table};

use crate::process::Pid;
use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use messages::Messages;
use segments::Segments;
use semaphores::Semaphores;

/// All objects of a system.
#[derive(Default)]
pub struct Ipc {
    /// The message queues.
    pub messages: RefCell<Table<Messages>>,
    /// The sets of semaphores.
    pub semaphores: RefCell<Table<Semaphores>>,
    /// The shared memory.
    pub segments: Rc<Segments>,
    /// Which process has something to be taken back in which set, by its id.
    undo: RefCell<BTreeSet<(Pid, i32)>>,
}

impl Ipc {
    /// Takes back what a process that has ended did to semaphores with `SEM_UNDO`.
    pub fn process_ended(&self, pid: Pid) {
        let noted: Vec<_> = self.undo.borrow().range((pid, i32::MIN)..=(pid, i32::MAX)).copied().collect();
        for (pid, id) in noted {
            self.undo.borrow_mut().remove(&(pid, id));
            let set = self.semaphores.borrow().get(id);
            if let Ok(set) = set {
                set.body.undo(pid);
            }
        }
    }

    /// Notes that the end of a process takes something back in a set, if so; the set has charged for that.
    pub fn note_undo(&self, pid: Pid, set: &Object<Semaphores>) {
        if set.body.has_undo_of(pid) {
            self.undo.borrow_mut().insert((pid, set.id));
        }
    }

    /// Forgets what would have been taken back in a set that is removed.
    pub fn forget_undo(&self, set: &Object<Semaphores>) {
        let mut undo = self.undo.borrow_mut();
        for pid in set.body.undo_pids() {
            undo.remove(&(pid, set.id));
        }
    }
}
