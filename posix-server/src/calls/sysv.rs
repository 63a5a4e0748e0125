//! Calls on System V message queues and semaphores (`sysvipc(7)`).

use super::blocking::{self, Woken};
use super::{Arguments, Outcome, SystemCall, pointer};
use crate::budget::{Charge, Kind as Budget};
use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::platform::now_ns;
use crate::process::Thread;
use crate::sysv::messages::{MAX_MESSAGE_BYTES, MAX_QUEUES, Message, Messages, QUEUE_BYTES, Wanted};
use crate::sysv::semaphores::{
    MAX_IN_SET, MAX_OPERATIONS, MAX_SETS, MAX_VALUE, Obstacle, Operation, Semaphores, Waits,
};
use crate::sysv::{Object, Permissions, Table};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_msgget, |t, a| msgget(t, a).into()),
    SystemCall::new(linux::__NR_msgsnd, msgsnd),
    SystemCall::new(linux::__NR_msgrcv, msgrcv).partly("MSG_COPY: ENOSYS, as in a Linux without checkpoints"),
    SystemCall::new(linux::__NR_msgctl, |t, a| msgctl(t, a).into()),
    SystemCall::new(linux::__NR_semget, |t, a| semget(t, a).into()),
    SystemCall::new(linux::__NR_semop, |t, a| semop(t, &[a[0], a[1], a[2], 0, 0, 0])),
    SystemCall::new(linux::__NR_semtimedop, semop),
    SystemCall::new(linux::__NR_semctl, |t, a| semctl(t, a).into()),
];

/// `IPC_NOWAIT`.
const NO_WAIT: u64 = 0o4000;
/// Flags of `msgrcv`.
const MSG_NOERROR: u64 = 0o10000;
const MSG_EXCEPT: u64 = 0o20000;
const MSG_COPY: u64 = 0o40000;
/// Commands of `*ctl`.
const IPC_RMID: u64 = 0;
const IPC_SET: u64 = 1;
const IPC_STAT: u64 = 2;
const IPC_INFO: u64 = 3;
const MSG_STAT: u64 = 11;
const MSG_INFO: u64 = 12;
const MSG_STAT_ANY: u64 = 13;
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
/// Bits of permission in each class.
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// `struct msqid64_ds`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct QueueStatus {
    permissions: Permissions,
    sent_s: i64,
    received_s: i64,
    changed_s: i64,
    bytes: u64,
    messages: u64,
    most_bytes: u64,
    sender: i32,
    receiver: i32,
    unused: [u64; 2],
}

/// `struct msginfo`.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct QueueLimits {
    pool: i32,
    map: i32,
    message_bytes: i32,
    queue_bytes: i32,
    queues: i32,
    segment_bytes: i32,
    messages: i32,
    segments: u16,
    padding: u16,
}

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

// ---- what both have in common ----

fn who(thread: &Thread) -> Rc<Credentials> {
    thread.process.credentials()
}

fn id(value: u64) -> i32 {
    value as i32
}

fn message_queues(thread: &Thread) -> &RefCell<Table<Messages>> {
    &thread.server().ipc.messages
}

fn sets(thread: &Thread) -> &RefCell<Table<Semaphores>> {
    &thread.server().ipc.semaphores
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

// ---- messages ----

fn msgget(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [key, flags, ..] = *arguments;
    let mut table = message_queues(thread).borrow_mut();
    let found = table.find_or_make(id(key), flags as u32, &who(thread), MAX_QUEUES, Messages::new)?;
    Ok(u64::try_from(found.id).unwrap_or_default())
}

fn msgsnd(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [queue, address, length, flags, ..] = *arguments;
    match prepare_send(thread, queue, address, length) {
        Err(errno) => errno.into(),
        Ok((queue, message)) => match queue.body.send(message, thread.process.pid) {
            Ok(()) => {
                queue.changes.queue.wake();
                Outcome::Return(Ok(0))
            }
            Err(_) if flags & NO_WAIT != 0 => Errno::EAGAIN.into(),
            Err(message) => Outcome::block(wait_to_send(thread.clone(), queue, message)),
        },
    }
}

fn prepare_send(thread: &Thread, queue: u64, address: u64, length: u64) -> Result<(Rc<Object<Messages>>, Message)> {
    let kind: i64 = pointer(thread, address).read()?;
    if length > MAX_MESSAGE_BYTES || id(queue) < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let count = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
    let bytes = pointer(thread, address).offset(size_of::<i64>() as u64)?.read_array::<u8>(count)?;
    let queue = object(message_queues(thread), queue)?;
    queue.permissions.borrow().check(&who(thread), WRITE)?;
    Ok((queue, Message::new(kind, bytes)?))
}

async fn wait_to_send(thread: Rc<Thread>, queue: Rc<Object<Messages>>, mut message: Message) -> Result<u64> {
    loop {
        let listener = queue.changes.queue.listen();
        queue.check_there()?;
        message = match queue.body.send(message, thread.process.pid) {
            Ok(()) => {
                queue.changes.queue.wake();
                return Ok(0);
            }
            Err(message) => message,
        };
        if blocking::wait(&thread, listener, None).await == Woken::Interrupted {
            return Err(Errno::RESTART_NO_HANDLER);
        }
    }
}

/// What `msgrcv` asks for.
#[derive(Clone, Copy)]
struct Receipt {
    address: u64,
    most: u64,
    wanted: Wanted,
    may_cut: bool,
}

impl Receipt {
    /// Takes a message and hands it over. `ENOMSG` if there is none.
    fn attempt(&self, thread: &Thread, queue: &Object<Messages>) -> Result<u64> {
        let message = queue.body.receive(self.wanted, self.most, self.may_cut, thread.process.pid)?;
        queue.changes.queue.wake();
        let to = pointer(thread, self.address);
        to.write(&message.kind)?;
        to.offset(size_of::<i64>() as u64)?.write_bytes(&message.bytes)?;
        Ok(message.bytes.len() as u64)
    }
}

fn msgrcv(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [queue, address, length, kind, flags, _] = *arguments;
    let prepared = (|| {
        if id(queue) < 0 || i64::try_from(length).is_err() {
            return Err(Errno::EINVAL);
        }
        if flags & MSG_COPY != 0 {
            let impossible = flags & MSG_EXCEPT != 0 || flags & NO_WAIT == 0;
            return Err(if impossible { Errno::EINVAL } else { Errno::ENOSYS });
        }
        let queue = object(message_queues(thread), queue)?;
        queue.permissions.borrow().check(&who(thread), READ)?;
        Ok(queue)
    })();
    let queue = match prepared {
        Ok(queue) => queue,
        Err(errno) => return errno.into(),
    };
    let wanted = Wanted::from_argument(kind as i64, flags & MSG_EXCEPT != 0);
    let receipt = Receipt { address, most: length, wanted, may_cut: flags & MSG_NOERROR != 0 };
    match receipt.attempt(thread, &queue) {
        Err(Errno::ENOMSG) if flags & NO_WAIT == 0 => Outcome::block(wait_to_receive(thread.clone(), queue, receipt)),
        other => other.into(),
    }
}

async fn wait_to_receive(thread: Rc<Thread>, queue: Rc<Object<Messages>>, receipt: Receipt) -> Result<u64> {
    loop {
        let listener = queue.changes.queue.listen();
        queue.check_there()?;
        match receipt.attempt(&thread, &queue) {
            Err(Errno::ENOMSG) => {}
            other => return other,
        }
        if blocking::wait(&thread, listener, None).await == Woken::Interrupted {
            return Err(Errno::RESTART_NO_HANDLER);
        }
    }
}

fn msgctl(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [queue, command, address, ..] = *arguments;
    let command = command & 0xffff_ffff;
    if id(queue) < 0 {
        return Err(Errno::EINVAL);
    }
    let table = message_queues(thread);
    match command {
        IPC_RMID => remove(thread, table, queue).map(|_| 0),
        IPC_SET => set_queue(thread, queue, address),
        IPC_STAT => tell_queue(thread, for_status(thread, table, queue, By::Id, Check::Read)?, address),
        MSG_STAT => tell_queue(thread, for_status(thread, table, queue, By::Index, Check::Read)?, address),
        MSG_STAT_ANY => tell_queue(thread, for_status(thread, table, queue, By::Index, Check::Nothing)?, address),
        IPC_INFO | MSG_INFO => tell_queue_limits(thread, command, address),
        _ => Err(Errno::EINVAL),
    }
}

fn set_queue(thread: &Thread, queue: u64, address: u64) -> Result<u64> {
    let new: QueueStatus = pointer(thread, address).read()?;
    let queue = object(message_queues(thread), queue)?;
    queue.permissions.borrow().check_owner(&who(thread))?;
    if new.most_bytes > QUEUE_BYTES && !who(thread).is_privileged() {
        return Err(Errno::EPERM);
    }
    queue.permissions.borrow_mut().change(&new.permissions);
    queue.body.most_bytes.set(new.most_bytes);
    queue.touch();
    queue.changes.queue.wake();
    Ok(0)
}

fn tell_queue(thread: &Thread, (queue, result): (Rc<Object<Messages>>, u64), address: u64) -> Result<u64> {
    let (messages, bytes) = queue.body.filling();
    let (sent, received) = (queue.body.sent.get(), queue.body.received.get());
    let status = QueueStatus {
        permissions: *queue.permissions.borrow(),
        sent_s: sent.time_s,
        received_s: received.time_s,
        changed_s: queue.changed_s.get(),
        bytes,
        messages,
        most_bytes: queue.body.most_bytes.get(),
        sender: sent.pid,
        receiver: received.pid,
        unused: [0; 2],
    };
    pointer(thread, address).write(&status)?;
    Ok(result)
}

fn tell_queue_limits(thread: &Thread, command: u64, address: u64) -> Result<u64> {
    let table = message_queues(thread).borrow();
    let mut limits = QueueLimits::new_zeroed();
    limits.message_bytes = MAX_MESSAGE_BYTES as i32;
    limits.queue_bytes = QUEUE_BYTES as i32;
    limits.queues = MAX_QUEUES as i32;
    limits.segment_bytes = 16;
    limits.segments = 0xffff;
    if command == MSG_INFO {
        let filling = table.iter().map(|queue| queue.body.filling());
        let (messages, bytes) = filling.fold((0, 0), |sum, queue| (sum.0 + queue.0, sum.1 + queue.1));
        limits.pool = table.len() as i32;
        limits.map = messages as i32;
        limits.messages = bytes as i32;
    } else {
        limits.pool = (MAX_QUEUES as u64 * QUEUE_BYTES / 1024) as i32;
        limits.map = QUEUE_BYTES as i32;
        limits.messages = QUEUE_BYTES as i32;
    }
    pointer(thread, address).write(&limits)?;
    Ok(u64::try_from(table.highest_index()).unwrap_or_default())
}

// ---- semaphores ----

fn semget(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [key, count, flags, ..] = *arguments;
    let count = u64::try_from(count as i32).ok().filter(|count| *count <= MAX_IN_SET).ok_or(Errno::EINVAL)?;
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let mut table = sets(thread).borrow_mut();
    let make = || if count == 0 { Err(Errno::EINVAL) } else { Semaphores::new(count) };
    let found = table.find_or_make(id(key), flags as u32, &who(thread), MAX_SETS, make)?;
    if count > found.body.len() {
        return Err(Errno::EINVAL);
    }
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
