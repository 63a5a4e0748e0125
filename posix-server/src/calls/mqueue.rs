//! Calls on POSIX message queues (`mq_overview(7)`).
//!
//! The C library takes the slash from a queue's name before it makes a call; what is left names a file in the one directory
//! of the file system of queues.

use super::blocking::{self, Deadline, Woken, file};
use super::files::install;
use super::{Outcome, SystemCall, pointer};
use crate::cred::{Access, Credentials};
use crate::errno::{Errno, Result};
use crate::file::{AccessMode, OpenFile, StatusFlags};
use crate::fs::walk::{Actor, Ending, Last, Parent};
use crate::fs::{Body, Dentry, Inode, Location, Made, Mount, MountFlags, MountRequest, change};
use crate::mqueue::{MQUEUE, Message, Notice, PRIORITIES, Queue, QueueFile, Registration, Size};
use crate::process::Thread;
use crate::signal::{Details, SI_MESGQ, Signal, SignalInfo, deliver};
use alloc::rc::Rc;
use alloc::vec;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_mq_open, |t, a| Outcome::Return(open(t, a))),
    SystemCall::new(linux::__NR_mq_unlink, |t, a| Outcome::Return(unlink(t, a))),
    SystemCall::new(linux::__NR_mq_timedsend, send),
    SystemCall::new(linux::__NR_mq_timedreceive, receive),
    SystemCall::new(linux::__NR_mq_notify, |t, a| Outcome::Return(notify(t, a)))
        .partly("SIGEV_THREAD, which the C library makes of a netlink socket: EINVAL"),
    SystemCall::new(linux::__NR_mq_getsetattr, |t, a| Outcome::Return(get_and_set_attributes(t, a))),
];

/// `struct mq_attr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Attributes {
    flags: i64,
    most_messages: i64,
    message_bytes: i64,
    messages: i64,
    reserved: [i64; 4],
}

/// The beginning of `struct sigevent`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Event {
    value: u64,
    signal: i32,
    kind: u32,
    rest: [u64; 6],
}

// ---- names ----

/// The directory of all queues.
fn directory(thread: &Rc<Thread>) -> Result<Made> {
    let namespace = thread.process.fs.borrow().namespace.clone();
    namespace.instance(&MQUEUE, &MountRequest::of_memory(thread.server(), b""))
}

/// The name that a program gives, without slashes.
fn name(thread: &Rc<Thread>, address: u64) -> Result<vec::Vec<u8>> {
    let name = pointer(thread, address).read_path()?;
    match name.as_slice() {
        b"" => Err(Errno::ENOENT),
        b"." | b".." => Err(Errno::EACCES),
        other if other.contains(&b'/') => Err(Errno::EACCES),
        _ => Ok(name),
    }
}

fn open(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let [address, flags, permissions, attributes, ..] = *args;
    let flags = flags as u32;
    let attributes = if attributes == 0 { None } else { Some(pointer(thread, attributes).read::<Attributes>()?) };
    let name = name(thread, address)?;
    let (_, root) = directory(thread)?;
    let (inode, dentry) = match root.inode().directory()?.lookup(&root, &name) {
        Ok(dentry) => (check_found(thread, &dentry, flags)?, dentry),
        Err(Errno::ENOENT) if flags & linux::O_CREAT != 0 => {
            make(thread, &root, &name, permissions as u32, attributes)?
        }
        Err(errno) => return Err(errno),
    };
    let Body::Generated(generator) = inode.body() else { return Err(Errno::EACCES) };
    let queue = generator.queue().ok_or(Errno::EACCES)?;
    drop(dentry);
    let kept = linux::O_ACCMODE | linux::O_NONBLOCK;
    let opened = OpenFile::new(Rc::new(QueueFile::new(queue)), inode.clone(), None, flags & kept)?;
    install(thread, opened, linux::O_CLOEXEC)
}

/// The checks on a queue that is there.
fn check_found(thread: &Rc<Thread>, dentry: &Rc<Dentry>, flags: u32) -> Result<Rc<Inode>> {
    let exclusive = linux::O_CREAT | linux::O_EXCL;
    if flags & exclusive == exclusive {
        return Err(Errno::EEXIST);
    }
    let wanted = match AccessMode::from_flags(flags & linux::O_ACCMODE) {
        AccessMode::Read => Access::READ,
        AccessMode::Write => Access::WRITE,
        AccessMode::ReadWrite => Access::READ | Access::WRITE,
        AccessMode::Neither | AccessMode::Path => return Err(Errno::EINVAL),
    };
    dentry.inode().check_access(&thread.process.credentials(), wanted)?;
    Ok(dentry.inode().clone())
}

/// Makes a queue.
fn make(
    thread: &Rc<Thread>,
    root: &Rc<Dentry>,
    name: &[u8],
    permissions: u32,
    attributes: Option<Attributes>,
) -> Result<(Rc<Inode>, Rc<Dentry>)> {
    let credentials = thread.process.credentials();
    let size = match attributes {
        None => Size::default(),
        Some(wanted) => Size::checked(wanted.most_messages, wanted.message_bytes, &credentials)?,
    };
    let directory = root.inode().directory()?;
    let queues = directory.queues().ok_or(Errno::EACCES)?;
    let body = queues.make(size, &credentials, thread.process.limit(linux::RLIMIT_MSGQUEUE))?;
    let permissions = permissions & 0o7777 & !thread.process.fs.borrow().umask;
    let Credentials { fsuid, fsgid, .. } = *credentials;
    let inode = Inode::new(root.inode().filesystem(), permissions, fsuid, fsgid, body)?;
    let dentry = Dentry::stored(root, name, inode.clone())?;
    directory.names().ok_or(Errno::EACCES)?.insert(dentry.clone());
    root.inode().touch_modified();
    Ok((inode, dentry))
}

fn unlink(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let name = name(thread, args[0])?;
    let (filesystem, root) = directory(thread)?;
    let context = thread.process.fs.borrow().clone();
    let credentials = thread.process.credentials();
    let mount = Mount::new(&filesystem, root.clone(), b"mqueue", MountFlags::default())?;
    let directory = Location { mount, dentry: root };
    let parent = Parent { directory, last: Last::Name(name), ending: Ending::Plain };
    change::unlink(Actor { context: &context, credentials: &credentials }, &parent)?;
    Ok(0)
}

// ---- messages ----

/// An open queue. `EBADF` for any other file, or if it may not be used in this way.
fn queue(thread: &Rc<Thread>, fd: u64) -> Result<(Rc<OpenFile>, Rc<Queue>)> {
    let file = file(thread, fd)?;
    let queue = file.ops().message_queue().cloned().ok_or(Errno::EBADF)?;
    Ok((file, queue))
}

/// Until when a call waits: it is given in real time.
fn deadline(thread: &Rc<Thread>, address: u64) -> Result<Deadline> {
    if address == 0 { Ok(Deadline::Never) } else { super::time::read_timespec(thread, address).map(Deadline::Realtime) }
}

fn send(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    match prepare_send(thread, args) {
        Err(errno) => errno.into(),
        Ok((file, queue, message, deadline)) => match try_send(thread, &queue, message) {
            Ok(()) => Outcome::Return(Ok(0)),
            Err(_) if file.is_nonblocking() => Errno::EAGAIN.into(),
            Err(message) => Outcome::block(wait_to_send(thread.clone(), queue, message, deadline)),
        },
    }
}

type Sending = (Rc<OpenFile>, Rc<Queue>, Message, Deadline);

fn prepare_send(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<Sending> {
    let [fd, address, length, priority, timeout, _] = *args;
    let deadline = deadline(thread, timeout)?;
    let priority = u32::try_from(priority & 0xffff_ffff).unwrap_or(PRIORITIES);
    if priority >= PRIORITIES {
        return Err(Errno::EINVAL);
    }
    let (file, queue) = queue(thread, fd)?;
    file.check_writable()?;
    if length > queue.size().message_bytes {
        return Err(Errno::EMSGSIZE);
    }
    let bytes = pointer(thread, address).read_array::<u8>(usize::try_from(length).map_err(|_| Errno::EMSGSIZE)?)?;
    Ok((file, queue, Message::new(priority, bytes)?, deadline))
}

/// Puts a message in and tells who is registered; gives it back if there is no room.
fn try_send(thread: &Rc<Thread>, queue: &Rc<Queue>, message: Message) -> core::result::Result<(), Message> {
    let told = queue.send(message)?;
    if let Some(Registration { owner, notice: Notice::Signal(Some(signal), value) }) = told {
        let details = Details::Value { pid: thread.process.pid, uid: thread.process.credentials().uid, value };
        if let Some(process) = thread.server().process(owner) {
            // A process whose queue of signals is full misses it, as on Linux.
            let _ = deliver::send(&process, SignalInfo { signal, code: SI_MESGQ, details });
        }
    }
    Ok(())
}

async fn wait_to_send(thread: Rc<Thread>, queue: Rc<Queue>, mut message: Message, deadline: Deadline) -> Result<u64> {
    loop {
        let listener = queue.changed().listen();
        message = match try_send(&thread, &queue, message) {
            Ok(()) => return Ok(0),
            Err(message) => message,
        };
        match blocking::wait_until(&thread, listener, deadline).await {
            Woken::Changed => {}
            Woken::Interrupted => return Err(Errno::RESTART),
            Woken::TimedOut => return Err(Errno::ETIMEDOUT),
        }
    }
}

/// Where a received message goes.
#[derive(Clone, Copy)]
struct Wanted {
    address: u64,
    priority: u64,
}

fn receive(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let wanted = Wanted { address: args[1], priority: args[3] };
    match prepare_receive(thread, args) {
        Err(errno) => errno.into(),
        Ok((file, queue, deadline)) => match queue.receive() {
            Some(message) => hand_over(thread, wanted, &message).into(),
            None if file.is_nonblocking() => Errno::EAGAIN.into(),
            None => Outcome::block(wait_to_receive(thread.clone(), queue, wanted, deadline)),
        },
    }
}

fn prepare_receive(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<(Rc<OpenFile>, Rc<Queue>, Deadline)> {
    let [fd, _, length, _, timeout, _] = *args;
    let deadline = deadline(thread, timeout)?;
    let (file, queue) = queue(thread, fd)?;
    file.check_readable()?;
    if length < queue.size().message_bytes {
        return Err(Errno::EMSGSIZE);
    }
    Ok((file, queue, deadline))
}

fn hand_over(thread: &Rc<Thread>, wanted: Wanted, message: &Message) -> Result<u64> {
    pointer(thread, wanted.priority).write_if_given(&message.priority)?;
    pointer(thread, wanted.address).write_bytes(&message.bytes)?;
    Ok(message.bytes.len() as u64)
}

async fn wait_to_receive(thread: Rc<Thread>, queue: Rc<Queue>, wanted: Wanted, deadline: Deadline) -> Result<u64> {
    let _receiver = queue.expect_message();
    loop {
        let listener = queue.changed().listen();
        if let Some(message) = queue.receive() {
            return hand_over(&thread, wanted, &message);
        }
        match blocking::wait_until(&thread, listener, deadline).await {
            Woken::Changed => {}
            Woken::Interrupted => return Err(Errno::RESTART),
            Woken::TimedOut => return Err(Errno::ETIMEDOUT),
        }
    }
}

// ---- the rest ----

fn notify(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let notice = match args[1] {
        0 => None,
        address => Some(notice(&pointer(thread, address).read::<Event>()?)?),
    };
    let (_, queue) = queue(thread, args[0])?;
    let owner = thread.process.pid;
    match notice {
        None => queue.unregister(owner),
        Some(notice) => queue.register(Registration { owner, notice })?,
    }
    Ok(0)
}

fn notice(event: &Event) -> Result<Notice> {
    match event.kind {
        linux::SIGEV_NONE => Ok(Notice::Nothing),
        linux::SIGEV_SIGNAL if event.signal == 0 => Ok(Notice::Signal(None, event.value)),
        linux::SIGEV_SIGNAL => {
            let number = u64::try_from(event.signal).map_err(|_| Errno::EINVAL)?;
            Ok(Notice::Signal(Some(Signal::from_number(number)?), event.value))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn get_and_set_attributes(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    let nonblocking = i64::from(linux::O_NONBLOCK);
    let new = if args[1] == 0 { None } else { Some(pointer(thread, args[1]).read::<Attributes>()?) };
    if new.is_some_and(|new| new.flags & !nonblocking != 0) {
        return Err(Errno::EINVAL);
    }
    let (file, queue) = queue(thread, args[0])?;
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let old = Attributes {
        flags: if file.is_nonblocking() { nonblocking } else { 0 },
        most_messages: number(queue.size().messages),
        message_bytes: number(queue.size().message_bytes),
        messages: number(queue.count()),
        reserved: [0; 4],
    };
    if let Some(new) = new {
        let mut status = file.status();
        status.set(StatusFlags::NONBLOCK, new.flags & nonblocking != 0);
        file.set_status(status);
    }
    pointer(thread, args[2]).write_if_given(&old)?;
    Ok(0)
}
