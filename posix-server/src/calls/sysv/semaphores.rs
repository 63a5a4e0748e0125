//! `semget`, `semop`, `semtimedop`, `semctl`.

use super::{By, Check, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, NO_WAIT, READ, WRITE};
use super::{for_status, id, object, pointer, remove, who};
use crate::budget::{Charge, Kind as Budget};
use crate::calls::blocking::{self, Woken};
use crate::calls::{Arguments, Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::platform::now_ns;
use crate::process::Thread;
use crate::sysv::semaphores::{
    MAX_IN_SET, MAX_OPERATIONS, MAX_SETS, MAX_VALUE, Obstacle, Operation, Semaphores, Waits,
};
use crate::sysv::{Object, Permissions, Table};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(in crate::calls) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_semget, |t, a| semget(t, a).into()),
    SystemCall::new(linux::__NR_semop, |t, a| semop(t, &[a[0], a[1], a[2], 0, 0, 0])),
    SystemCall::new(linux::__NR_semtimedop, semop),
    SystemCall::new(linux::__NR_semctl, |t, a| semctl(t, a).into()),
];

/// Commands of `semctl`.
const GETPID: u64 = 11;
const GETVAL: u64 = 12;
const GETALL: u64 = 13;
const GETNCNT: u64 = 14;
const GETZCNT: u64 = 15;
const SETVAL: u64 = 16;
const SETALL: u64 = 17;
const SEM_STAT: u64 = 18;
const SEM_INFO: u64 = 19;
const SEM_STAT_ANY: u64 = 20;
/// The flag of an operation that the end of the process takes back.
const SEM_UNDO: i16 = 0x1000;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// `struct semid64_ds` of x86.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SetStatus {
    permissions: Permissions,
    operated_s: i64,
    unused_1: u64,
    changed_s: i64,
    unused_2: u64,
    count: u64,
    unused: [u64; 2],
}

/// `struct sembuf`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct RawOperation {
    index: u16,
    change: i16,
    flags: i16,
}

fn sets(thread: &Thread) -> &RefCell<Table<Semaphores>> {
    &thread.server().ipc.semaphores
}

fn semget(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [key, count, flags, ..] = *arguments;
    let count = u64::try_from(count as i32).ok().filter(|count| *count <= MAX_IN_SET).ok_or(Errno::EINVAL)?;
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let mut table = sets(thread).borrow_mut();
    let make = || if count == 0 { Err(Errno::EINVAL) } else { Semaphores::new(count) };
    let fits = |set: &Semaphores| if count > set.len() { Err(Errno::EINVAL) } else { Ok(()) };
    let found = table.find_or_make(id(key), flags as u32, &who(thread), MAX_SETS, fits, make)?;
    Ok(u64::try_from(found.id).unwrap_or_default())
}

/// What `semop` has been asked for.
struct Operations {
    set: Rc<Object<Semaphores>>,
    list: Vec<Operation>,
    deadline_ns: Option<u64>,
    _charge: Charge,
}

fn semop(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let operations = match prepare_operations(thread, arguments) {
        Ok(operations) => operations,
        Err(errno) => return errno.into(),
    };
    match attempt(thread, &operations) {
        Err(errno) => errno.into(),
        Ok(Ok(())) => Outcome::Return(Ok(0)),
        Ok(Err(_)) => Outcome::block(wait_to_operate(thread.clone(), operations)),
    }
}

fn prepare_operations(thread: &Thread, arguments: &Arguments) -> Result<Operations> {
    let [set, address, count, timeout, ..] = *arguments;
    let deadline_ns = match timeout {
        0 => None,
        address => Some(deadline_after(pointer(thread, address).read()?)?),
    };
    let count = count & 0xffff_ffff;
    if count < 1 {
        return Err(Errno::EINVAL);
    }
    if count > MAX_OPERATIONS {
        return Err(Errno::E2BIG);
    }
    let charge = Charge::new(Budget::Open, count * size_of::<Operation>() as u64)?;
    let raw: Vec<RawOperation> =
        pointer(thread, address).read_array(usize::try_from(count).map_err(|_| Errno::E2BIG)?)?;
    if id(set) < 0 {
        return Err(Errno::EINVAL);
    }
    let list: Vec<Operation> = raw.iter().map(operation).collect();
    let set = object(sets(thread), set)?;
    if list.iter().any(|operation| operation.index >= set.body.len()) {
        return Err(Errno::EFBIG);
    }
    let changes = list.iter().any(|operation| operation.change != 0);
    set.permissions.borrow().check(&who(thread), if changes { WRITE } else { READ })?;
    Ok(Operations { set, list, deadline_ns, _charge: charge })
}

fn operation(raw: &RawOperation) -> Operation {
    Operation {
        index: usize::from(raw.index),
        change: i32::from(raw.change),
        is_impatient: u64::from(raw.flags as u16) & NO_WAIT != 0,
        is_undone: raw.flags & SEM_UNDO != 0,
    }
}

fn deadline_after([seconds, fraction]: [i64; 2]) -> Result<u64> {
    let (Ok(seconds), Ok(fraction)) = (u64::try_from(seconds), u64::try_from(fraction)) else {
        return Err(Errno::EINVAL);
    };
    if fraction >= NS_PER_SECOND {
        return Err(Errno::EINVAL);
    }
    Ok(now_ns().saturating_add(seconds.saturating_mul(NS_PER_SECOND).saturating_add(fraction)))
}

/// Does the operations, or tells what stands in the way. `EAGAIN` if that may not be waited for.
fn attempt(thread: &Thread, operations: &Operations) -> Result<core::result::Result<(), Obstacle>> {
    let pid = thread.process.pid;
    match operations.set.body.operate(&operations.list, pid)? {
        Err(obstacle) if obstacle.operation.is_impatient => Err(Errno::EAGAIN),
        Err(obstacle) => Ok(Err(obstacle)),
        Ok(()) => {
            if operations.list.iter().any(|operation| operation.is_undone) {
                thread.server().ipc.note_undo(pid, &operations.set);
            }
            Ok(Ok(()))
        }
    }
}

/// Counts as one who waits for a semaphore.
struct Waiting {
    set: Rc<Object<Semaphores>>,
    obstacle: Obstacle,
}

impl Waiting {
    fn new(set: &Rc<Object<Semaphores>>, obstacle: Obstacle) -> Self {
        set.body.count_waiting(obstacle, Waits::Begin);
        Self { set: set.clone(), obstacle }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.set.body.count_waiting(self.obstacle, Waits::End);
    }
}

async fn wait_to_operate(thread: Rc<Thread>, operations: Operations) -> Result<u64> {
    loop {
        let mut listener = operations.set.body.changed.listen();
        listener.watch(&operations.set.changes.queue);
        operations.set.check_there()?;
        let Err(obstacle) = attempt(&thread, &operations)? else { return Ok(0) };
        let _waiting = Waiting::new(&operations.set, obstacle);
        match blocking::wait(&thread, listener, operations.deadline_ns).await {
            Woken::Changed => {}
            Woken::Interrupted => return Err(Errno::EINTR),
            Woken::TimedOut => return Err(Errno::EAGAIN),
        }
    }
}

fn semctl(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [set, index, command, argument, ..] = *arguments;
    let command = command & 0xffff_ffff;
    if id(set) < 0 {
        return Err(Errno::EINVAL);
    }
    let table = sets(thread);
    match command {
        IPC_RMID => {
            let set = remove(thread, table, set)?;
            thread.server().ipc.forget_undo(&set);
            Ok(0)
        }
        IPC_SET => set_set(thread, set, argument),
        IPC_STAT => tell_set(thread, for_status(thread, table, set, By::Id, Check::Read)?, argument),
        SEM_STAT => tell_set(thread, for_status(thread, table, set, By::Index, Check::Read)?, argument),
        SEM_STAT_ANY => tell_set(thread, for_status(thread, table, set, By::Index, Check::Nothing)?, argument),
        IPC_INFO | SEM_INFO => tell_set_limits(thread, command, argument),
        GETALL | SETALL => all_values(thread, set, command, argument),
        SETVAL => {
            let set = set_for(thread, set, WRITE)?;
            set.body.set(index as u32 as usize, argument as i32, thread.process.pid)?;
            set.touch();
            Ok(0)
        }
        GETVAL | GETPID | GETNCNT | GETZCNT => {
            let (value, pid, more, zero) = set_for(thread, set, READ)?.body.look(index as u32 as usize)?;
            Ok(match command {
                GETVAL => value as u64,
                GETPID => pid as u64,
                GETNCNT => u64::from(more),
                _ => u64::from(zero),
            })
        }
        _ => Err(Errno::EINVAL),
    }
}

fn set_for(thread: &Thread, set: u64, wanted: u32) -> Result<Rc<Object<Semaphores>>> {
    let set = object(sets(thread), set)?;
    set.permissions.borrow().check(&who(thread), wanted)?;
    Ok(set)
}

fn all_values(thread: &Thread, set: u64, command: u64, address: u64) -> Result<u64> {
    if command == GETALL {
        let values = set_for(thread, set, READ)?.body.values();
        pointer(thread, address).write_bytes(values.as_bytes())?;
    } else {
        let set = set_for(thread, set, WRITE)?;
        let values: Vec<u16> = pointer(thread, address).read_array(set.body.len())?;
        set.body.set_all(&values, thread.process.pid)?;
        set.touch();
    }
    Ok(0)
}

fn set_set(thread: &Thread, set: u64, address: u64) -> Result<u64> {
    let new: SetStatus = pointer(thread, address).read()?;
    let set = object(sets(thread), set)?;
    set.permissions.borrow().check_owner(&who(thread))?;
    set.permissions.borrow_mut().change(&new.permissions);
    set.touch();
    Ok(0)
}

fn tell_set(thread: &Thread, (set, result): (Rc<Object<Semaphores>>, u64), address: u64) -> Result<u64> {
    let status = SetStatus {
        permissions: *set.permissions.borrow(),
        operated_s: set.body.operated_s.get(),
        unused_1: 0,
        changed_s: set.changed_s.get(),
        unused_2: 0,
        count: set.body.len() as u64,
        unused: [0; 2],
    };
    pointer(thread, address).write(&status)?;
    Ok(result)
}

/// `struct seminfo`: ten numbers.
fn tell_set_limits(thread: &Thread, command: u64, address: u64) -> Result<u64> {
    let table = sets(thread).borrow();
    let all = MAX_SETS as i32 * MAX_IN_SET as i32;
    let (used, adjusted) = if command == SEM_INFO {
        (table.len() as i32, table.iter().map(|set| set.body.len() as i32).sum())
    } else {
        (20, MAX_VALUE)
    };
    let numbers: [i32; 10] =
        [all, MAX_SETS as i32, all, all, MAX_IN_SET as i32, MAX_OPERATIONS as i32, 500, used, MAX_VALUE, adjusted];
    pointer(thread, address).write(&numbers)?;
    Ok(u64::try_from(table.highest_index()).unwrap_or_default())
}
