//! Asynchronous I/O of Linux (`io_submit(2)`): each operation is the call that it stands for, made in the caller's name.
//!
//! As on Linux, what can be done at once is done by `io_submit` itself; polling, and what a pipe or socket is not ready for, goes
//! on beside the caller. A context's number is the address of a page, as C libraries expect, which stays empty: they look there for
//! a ring, find none, and make the call.

use super::blocking::{self, Woken, usable_file};
use super::wait_arguments::{TemporaryMask, TimeUnit, Timeout};
use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::event::EventFile;
use crate::event::aio::{Context, Done};
use crate::file::io::SliceSource;
use crate::file::{OpenFile, PollEvents};
use crate::platform::{PAGE_SIZE, Protection, Sharing};
use crate::process::Thread;
use crate::user::UserBuffer;
use crate::vm::{Content, Lock, MapRequest, Placement};
use alloc::boxed::Box;
use alloc::rc::Rc;
use futures_util::future::{Either, select};
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_io_setup, |t, a| io_setup(t, a).into()),
    SystemCall::new(linux::__NR_io_destroy, io_destroy),
    SystemCall::new(linux::__NR_io_submit, |t, a| io_submit(t, a).into())
        .with_flags("IOCB_CMD_PREAD IOCB_CMD_PWRITE IOCB_CMD_FSYNC IOCB_CMD_FDSYNC IOCB_CMD_POLL IOCB_CMD_PREADV IOCB_CMD_PWRITEV IOCB_FLAG_RESFD"),
    SystemCall::new(linux::__NR_io_cancel, |t, a| io_cancel(t, a).into())
        .with_flags("IOCB_CMD_POLL"),
    SystemCall::new(linux::__NR_io_getevents, io_getevents),
    SystemCall::new(linux::__NR_io_pgetevents, io_pgetevents),
];

/// What may be asked for.
const PREAD: u16 = 0;
const PWRITE: u16 = 1;
const FSYNC: u16 = 2;
const FDSYNC: u16 = 3;
const POLL: u16 = 5;
const PREADV: u16 = 7;
const PWRITEV: u16 = 8;
/// `IOCB_FLAG_RESFD`: a counter of events is to be told.
const FLAG_COUNTER: u32 = 1;
/// The most operations of a context.
const MAX_OPERATIONS: u64 = 0x1000_0000 / size_of::<Done>() as u64;
/// How many operations all contexts may have room for, until `fs.aio-max-nr` is set.
const MAX_TOTAL: i64 = 65_536;
/// Where the key of a request is.
const KEY_OFFSET: u64 = 8;

/// `struct iocb`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Request {
    data: u64,
    key: u32,
    transfer_flags: u32,
    operation: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    counter: u32,
}

fn context(thread: &Thread, number: u64) -> Result<Rc<Context>> {
    thread.process.vm().contexts.borrow().get(&number).cloned().ok_or(Errno::EINVAL)
}

fn io_setup(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let count = u64::from(arguments[0] as u32);
    let answer = pointer(thread, arguments[1]);
    let given: u64 = answer.read()?;
    if given != 0 || count == 0 || count > MAX_OPERATIONS {
        return Err(Errno::EINVAL);
    }
    let most = u64::try_from(thread.server().settings.number("fs/aio-max-nr", MAX_TOTAL)).unwrap_or_default();
    let made = Rc::new(Context::new(count, most)?);
    let vm = thread.process.vm();
    let page = MapRequest {
        length: PAGE_SIZE,
        placement: Placement::Anywhere(0),
        protection: Protection::READ | Protection::WRITE,
        allowed: Protection::all(),
        sharing: Sharing::Private,
        content: Content::Anonymous,
        limit: thread.process.limit(linux::RLIMIT_AS),
        // On Linux it is shared memory.
        data_limit: u64::MAX,
        lock: Lock::None,
        lock_limit: u64::MAX,
    };
    let number = vm.map(page)?;
    if let Err(error) = answer.write(&number) {
        vm.unmap(number, PAGE_SIZE)?;
        return Err(error);
    }
    vm.contexts.borrow_mut().insert(number, made);
    Ok(0)
}

fn io_destroy(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let number = arguments[0];
    let vm = thread.process.vm();
    let Some(context) = vm.contexts.borrow_mut().remove(&number) else { return Errno::EINVAL.into() };
    // The program may have unmapped it.
    let _ = vm.unmap(number, PAGE_SIZE);
    context.end();
    if !context.is_busy() {
        return Outcome::Return(Ok(0));
    }
    Outcome::block(async move {
        while context.is_busy() {
            context.changed.listen().await;
        }
        Ok(0)
    })
}

fn io_submit(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [number, count, pointers, ..] = *arguments;
    let count = u64::try_from(count as i64).map_err(|_| Errno::EINVAL)?;
    let context = context(thread, number)?;
    let count = count.min(context.room());
    for index in 0..count {
        let submitted = (|| {
            let address: u64 = pointer(thread, pointers).offset(index * size_of::<u64>() as u64)?.read()?;
            submit(thread, &context, address)
        })();
        match submitted {
            Ok(()) => {}
            Err(_) if index > 0 => return Ok(index),
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

fn submit(thread: &Rc<Thread>, context: &Rc<Context>, address: u64) -> Result<()> {
    let request: Request = pointer(thread, address).read()?;
    if request.reserved != 0 || (request.length as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    context.begin()?;
    start(thread, context, address, &request).inspect_err(|_| context.abandon())
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// Who hears of the end of an operation.
struct Ending {
    context: Rc<Context>,
    data: u64,
    request: u64,
    counter: Option<Rc<OpenFile>>,
}

impl Ending {
    fn tell(self, result: Result<u64>) {
        let result = match result {
            Ok(count) => count as i64,
            Err(error) if error.is_restart() => -i64::from(Errno::EINTR.number()),
            Err(error) => -i64::from(error.number()),
        };
        self.context.finish(Done { data: self.data, request: self.request, result, more: 0 });
        if let Some(counter) = self.counter {
            // A counter that is full stays so, as on Linux.
            let _ = counter.ops().write(0, &mut SliceSource::new(&1u64.to_le_bytes()));
        }
    }
}

fn start(thread: &Rc<Thread>, context: &Rc<Context>, address: u64, request: &Request) -> Result<()> {
    let file = usable_file(thread, u64::from(request.fd))?;
    let counter = if request.flags & FLAG_COUNTER != 0 { Some(counter(thread, request)?) } else { None };
    pointer(thread, address).offset(KEY_OFFSET)?.write(&0u32)?;
    let ending = Ending { context: context.clone(), data: request.data, request: address, counter };
    if request.operation == POLL {
        return poll(thread, file, request, ending);
    }
    if file.ops().positioning().is_stream()
        && let Some(direction) = direction(request.operation)
    {
        return move_bytes(thread, file, request, direction, ending);
    }
    let (number, arguments) = call_for(request)?;
    match super::call(thread, number, &arguments) {
        Outcome::Return(Err(error @ (Errno::EBADF | Errno::EINVAL))) => return Err(error),
        Outcome::Return(result) => ending.tell(result),
        Outcome::Block(future) => {
            let gone = Box::pin(thread.clone().gone());
            thread.server().executor.spawn(async move {
                match select(future, gone).await {
                    Either::Left((result, _)) => ending.tell(result),
                    Either::Right(_) => ending.tell(Err(Errno::EINTR)),
                }
            });
        }
        Outcome::Context | Outcome::Gone | Outcome::Parked => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// The counter of events that a request names. `EBADF`, `EINVAL` if it is none.
fn counter(thread: &Rc<Thread>, request: &Request) -> Result<Rc<OpenFile>> {
    let file = usable_file(thread, u64::from(request.counter))?;
    let is_counter = file.ops().event_file().and_then(EventFile::counter).is_some();
    if is_counter { Ok(file) } else { Err(Errno::EINVAL) }
}

/// The call that a request stands for. `EINVAL`, `EOPNOTSUPP`.
fn call_for(request: &Request) -> Result<(u32, Arguments)> {
    /// All flags that there are (`RWF_HIPRI` to `RWF_APPEND`).
    const KNOWN_FLAGS: u32 = 0x1f;
    let fd = u64::from(request.fd);
    let ends = [fd, request.buffer, request.length, request.offset as u64, 0, u64::from(request.transfer_flags)];
    let is_bare = request.buffer == 0 && request.length == 0 && request.offset == 0 && request.transfer_flags == 0;
    let number = match request.operation {
        FSYNC | FDSYNC if !is_bare => return Err(Errno::EINVAL),
        FSYNC => linux::__NR_fsync,
        FDSYNC => linux::__NR_fdatasync,
        PREAD | PWRITE | PREADV | PWRITEV if request.transfer_flags & !KNOWN_FLAGS != 0 => {
            return Err(Errno::EOPNOTSUPP);
        }
        PREAD => linux::__NR_pread64,
        PWRITE => linux::__NR_pwrite64,
        PREADV => linux::__NR_preadv2,
        PWRITEV => linux::__NR_pwritev2,
        _ => return Err(Errno::EINVAL),
    };
    Ok((number, ends))
}

/// Which way an operation moves bytes, if it does.
fn direction(operation: u16) -> Option<Direction> {
    match operation {
        PREAD | PREADV => Some(Direction::Read),
        PWRITE | PWRITEV => Some(Direction::Write),
        _ => None,
    }
}

/// Moves bytes of a file that has no positions, when it is ready. `EBADF`, `EFAULT`, `EINVAL`.
fn move_bytes(
    thread: &Rc<Thread>,
    file: Rc<OpenFile>,
    request: &Request,
    direction: Direction,
    ending: Ending,
) -> Result<()> {
    match direction {
        Direction::Read => file.check_readable()?,
        Direction::Write => file.check_writable()?,
    }
    let is_vector = matches!(request.operation, PREADV | PWRITEV);
    let make = if is_vector { UserBuffer::from_io_vectors } else { UserBuffer::new };
    let mut buffer = make(&thread.space(), request.buffer, request.length)?;
    let gone = Box::pin(thread.clone().gone());
    let wait = async move {
        loop {
            let listener = blocking::listen(&file);
            let moved = match direction {
                Direction::Read => file.ops().read_now(0, &mut buffer),
                Direction::Write => file.ops().write(0, &mut buffer),
            };
            match moved {
                Err(Errno::EAGAIN) if !file.is_nonblocking() => listener.await,
                moved => return moved.map(|count| count as u64),
            }
        }
    };
    thread.server().executor.spawn(async move {
        match select(Box::pin(wait), gone).await {
            Either::Left((result, _)) => ending.tell(result),
            Either::Right(_) => ending.tell(Err(Errno::EINTR)),
        }
    });
    Ok(())
}

fn poll(thread: &Rc<Thread>, file: Rc<OpenFile>, request: &Request, ending: Ending) -> Result<()> {
    let events = u16::try_from(request.buffer).map_err(|_| Errno::EINVAL)?;
    if request.length != 0 || request.offset != 0 || request.transfer_flags != 0 {
        return Err(Errno::EINVAL);
    }
    let wanted = PollEvents::from_bits_truncate(events.into()) | PollEvents::ERROR | PollEvents::HANG_UP;
    let context = ending.context.clone();
    context.begin_poll(ending.request);
    let gone = Box::pin(thread.clone().gone());
    let wait = async move {
        loop {
            let mut listener = blocking::listen(&file);
            listener.watch(&context.changed);
            let ready = file.ops().readiness() & wanted;
            if !ready.is_empty() || context.is_cancelled(ending.request) {
                context.end_poll(ending.request);
                ending.tell(Ok(u64::from(ready.bits())));
                return;
            }
            listener.await;
        }
    };
    thread.server().executor.spawn(async move {
        select(Box::pin(wait), gone).await;
    });
    Ok(())
}

fn io_cancel(thread: &Rc<Thread>, arguments: &Arguments) -> Result<u64> {
    let [number, request, ..] = *arguments;
    let key: u32 = pointer(thread, request).offset(KEY_OFFSET)?.read()?;
    let context = context(thread, number)?;
    // Its end is told like any other.
    Err(if key == 0 && context.cancel_poll(request) { Errno::EINPROGRESS } else { Errno::EINVAL })
}

/// What `io_getevents` is asked for.
struct Harvest {
    context: Rc<Context>,
    least: usize,
    most: usize,
    address: u64,
    deadline_ns: Option<u64>,
}

impl Harvest {
    fn new(thread: &Rc<Thread>, arguments: &Arguments) -> Result<Self> {
        let [number, least, most, address, timeout, _] = *arguments;
        let timeout = if timeout == 0 { None } else { Some(Timeout::read(thread, timeout, TimeUnit::Nanoseconds)?) };
        let context = context(thread, number)?;
        let (least, most) = (least as i64, most as i64);
        if least < 0 || least > most {
            return Err(Errno::EINVAL);
        }
        let count = |number: i64| usize::try_from(number).map_err(|_| Errno::EINVAL);
        let deadline_ns = timeout.and_then(|timeout| timeout.until.deadline_ns());
        Ok(Self { context, least: count(least)?, most: count(most)?, address, deadline_ns })
    }

    /// Hands over what is done.
    fn take(&self, thread: &Thread) -> Result<u64> {
        let mut taken = 0;
        while (taken as usize) < self.most
            && let Some(done) = self.context.take()
        {
            pointer(thread, self.address).offset(taken * size_of::<Done>() as u64)?.write(&done)?;
            taken += 1;
        }
        Ok(taken)
    }

    async fn wait(self, thread: Rc<Thread>) -> Result<u64> {
        loop {
            let listener = self.context.changed.listen();
            if self.context.finished() >= self.least || self.context.is_over() {
                return self.take(&thread);
            }
            match blocking::wait(&thread, listener, self.deadline_ns).await {
                Woken::Changed => {}
                Woken::TimedOut => return self.take(&thread),
                Woken::Interrupted => {
                    let taken = self.take(&thread)?;
                    return if taken == 0 { Err(Errno::EINTR) } else { Ok(taken) };
                }
            }
        }
    }
}

fn io_getevents(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    match Harvest::new(thread, arguments) {
        Ok(harvest) if harvest.context.finished() >= harvest.least => harvest.take(thread).into(),
        Ok(harvest) => Outcome::block(harvest.wait(thread.clone())),
        Err(errno) => errno.into(),
    }
}

fn io_pgetevents(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let prepared = (|| {
        let harvest = Harvest::new(thread, arguments)?;
        let [mask, size]: [u64; 2] = match arguments[5] {
            0 => [0; 2],
            address => pointer(thread, address).read()?,
        };
        Ok::<_, Errno>((harvest, TemporaryMask::set(thread, mask, size)?))
    })();
    match prepared {
        Ok((harvest, mask)) => {
            let thread = thread.clone();
            Outcome::block(async move {
                let result = harvest.wait(thread.clone()).await;
                mask.restore(&thread, &result);
                result
            })
        }
        Err(errno) => errno.into(),
    }
}
