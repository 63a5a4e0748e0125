//! Calls on System V message queues, semaphores and shared memory (`sysvipc(7)`).

pub(super) mod messages;
pub(super) mod segments;
pub(super) mod semaphores;

use super::pointer;
use crate::cred::Credentials;
use crate::errno::Result;
use crate::process::Thread;
use crate::sysv::{Object, Table};
use alloc::rc::Rc;
use core::cell::RefCell;

/// `IPC_NOWAIT`.
const NO_WAIT: u64 = 0o4000;
/// Commands of all `*ctl`.
const IPC_RMID: u64 = 0;
const IPC_SET: u64 = 1;
const IPC_STAT: u64 = 2;
const IPC_INFO: u64 = 3;
/// Bits of permission in each class.
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;

fn who(thread: &Thread) -> Rc<Credentials> {
    thread.process.credentials()
}

fn id(value: u64) -> i32 {
    value as i32
}

fn object<T>(table: &RefCell<Table<T>>, argument: u64) -> Result<Rc<Object<T>>> {
    table.borrow().get(id(argument))
}

/// `IPC_RMID`: gives back what has been removed.
fn remove<T>(thread: &Thread, table: &RefCell<Table<T>>, argument: u64) -> Result<Rc<Object<T>>> {
    let object = object(table, argument)?;
    object.permissions.borrow().check_owner(&who(thread))?;
    table.borrow_mut().remove(&object);
    Ok(object)
}

/// The object of `IPC_STAT` by its id, or that of the other commands by its index, with what the call gives back.
fn for_status<T>(
    thread: &Thread,
    table: &RefCell<Table<T>>,
    argument: u64,
    by: By,
    check: Check,
) -> Result<(Rc<Object<T>>, u64)> {
    let (object, result) = match by {
        By::Id => (object(table, argument)?, 0),
        By::Index => {
            let object = table.borrow().at_index(id(argument))?;
            let result = u64::try_from(object.id).unwrap_or_default();
            (object, result)
        }
    };
    if check == Check::Read {
        object.permissions.borrow().check(&who(thread), READ)?;
    }
    Ok((object, result))
}

/// What names an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Id,
    Index,
}

/// Whether reading must be allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    Read,
    Nothing,
}
