//! `msgget`, `msgsnd`, `msgrcv`, `msgctl`.

use super::{By, Check, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, NO_WAIT, READ, WRITE};
use super::{for_status, id, object, pointer, remove, who};
use crate::calls::blocking::{self, Woken};
use crate::calls::{Arguments, Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::process::Thread;
use crate::sysv::messages::{MAX_MESSAGE_BYTES, MAX_QUEUES, Message, Messages, QUEUE_BYTES, Wanted};
use crate::sysv::{Object, Permissions, Table};
use alloc::rc::Rc;
use core::cell::RefCell;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes};

/// The calls of this file.
pub(in crate::calls) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_msgget, |t, a| msgget(t, a).into()),
    SystemCall::new(linux::__NR_msgsnd, msgsnd),
    SystemCall::new(linux::__NR_msgrcv, msgrcv).partly("MSG_COPY: ENOSYS, as in a Linux without checkpoints"),
    SystemCall::new(linux::__NR_msgctl, |t, a| msgctl(t, a).into()),
];

/// Flags of `msgrcv`.
const MSG_NOERROR: u64 = 0o10000;
const MSG_EXCEPT: u64 = 0o20000;
const MSG_COPY: u64 = 0o40000;
/// Commands of `msgctl`.
const MSG_STAT: u64 = 11;
const MSG_INFO: u64 = 12;
const MSG_STAT_ANY: u64 = 13;

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

fn message_queues(thread: &Thread) -> &RefCell<Table<Messages>> {
    &thread.server().ipc.messages
}

fn msgget(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [key, flags, ..] = *arguments;
    let mut table = message_queues(thread).borrow_mut();
    let found = table.find_or_make(id(key), flags as u32, &who(thread), MAX_QUEUES, |_| Ok(()), Messages::new)?;
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
