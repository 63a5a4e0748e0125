//! Calls that move bytes between a file and memory: `read` and `write` with their kin.
//!
//! A [`Transfer`] is one such call under way. It is tried at once; if the file has nothing (or no room) and may wait, it becomes a
//! future that tries again after each change. A write goes on until all is written; a read ends with whatever it got.
//!
//! What a file that never has to wait moves is moved in [steps](super::turns) if it is much. As on Linux, no signal ends that but one that
//! kills; unlike there, another write to the file can come between two steps.

use super::blocking::{self, Woken, file, usable_file};
use super::sleeper::{Attempt, InVain, sleep};
use super::turns::{STEP_BYTES, give_way};
use super::{Outcome, SystemCall, socket, tty};
use crate::errno::{Errno, Result};
use crate::event::EventFile;
use crate::file::{OpenFile, PollEvents, Positioning};
use crate::fs::notify;
use crate::platform::{Needs, has_needs, take_needs};
use crate::process::Thread;
use crate::shared::{self, Used};
use crate::signal::{Signal, SignalInfo, deliver};
use crate::user::UserBuffer;
use crate::wait::WaitQueue;
use alloc::boxed::Box;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_read, read),
    SystemCall::new(linux::__NR_write, write),
    SystemCall::new(linux::__NR_pread64, pread),
    SystemCall::new(linux::__NR_pwrite64, pwrite),
    SystemCall::new(linux::__NR_readv, readv),
    SystemCall::new(linux::__NR_writev, writev),
    SystemCall::new(linux::__NR_preadv, preadv),
    SystemCall::new(linux::__NR_pwritev, pwritev),
    SystemCall::new(linux::__NR_preadv2, preadv2),
    SystemCall::new(linux::__NR_pwritev2, pwritev2),
];

/// What a transfer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// Where in the file a transfer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// At the file's position, which moves on.
    Current,
    /// Here; the file's position stays.
    At(u64),
}

/// What a transfer does when nothing can be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// It waits.
    Wait,
    /// It fails with `EAGAIN`.
    Now,
}

impl Patience {
    fn of(file: &OpenFile) -> Self {
        if file.is_nonblocking() { Self::Now } else { Self::Wait }
    }
}

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Appending {
    /// As the file says.
    AsOpened,
    /// To the end (`RWF_APPEND`).
    Always,
    /// Where it asks for, also if the file says otherwise (`RWF_NOAPPEND`).
    Never,
}

struct Transfer {
    file: Rc<OpenFile>,
    buffer: UserBuffer,
    direction: Direction,
    place: Place,
    patience: Patience,
    appending: Appending,
    /// Bytes moved.
    done: u64,
}

impl Transfer {
    /// Moves what can be moved now. `EAGAIN`: it is not finished.
    fn attempt(&mut self, thread: &Rc<Thread>) -> Result<u64> {
        match self.direction {
            Direction::Read => {
                tty::check_read(thread, &self.file)?;
                let count = match self.place {
                    // What signals there are depends on who asks.
                    Place::Current if matches!(self.file.ops().event_file(), Some(EventFile::Signals(_))) => {
                        self.file.ops().read_for(thread, 0, &mut self.buffer)?
                    }
                    Place::Current => self.file.read(&mut self.buffer)?,
                    Place::At(position) => self.file.ops().read(position, &mut self.buffer)?,
                };
                if count > 0 {
                    notify::file(&self.file, notify::ACCESS);
                }
                Ok(count as u64)
            }
            Direction::Write => {
                tty::check_write(thread, &self.file)?;
                self.write_all(thread)
            }
        }
    }

    fn write_all(&mut self, thread: &Rc<Thread>) -> Result<u64> {
        loop {
            match self.write_some(thread) {
                Ok(0) => return Ok(self.done),
                Ok(count) => {
                    self.done += count as u64;
                    if self.buffer.is_empty() {
                        return Ok(self.done);
                    }
                }
                Err(Errno::EAGAIN) if self.patience == Patience::Wait => return Err(Errno::EAGAIN),
                Err(_) if self.done > 0 => return Ok(self.done),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn write_some(&mut self, thread: &Rc<Thread>) -> Result<usize> {
        let wanted = match self.place {
            Place::Current => self.file.position(),
            Place::At(position) => position,
        };
        let position = match self.appending {
            Appending::AsOpened => self.file.write_position(wanted),
            Appending::Always => self.file.end_position(wanted),
            Appending::Never => wanted,
        };
        self.respect_size_limit(thread, position)?;
        let count = self.file.ops().write(position, &mut self.buffer);
        match count {
            Ok(count) => {
                if self.place == Place::Current {
                    self.file.advance(position, count);
                }
                self.move_on(count as u64);
                if count > 0 {
                    notify::file(&self.file, notify::MODIFY);
                }
                let is_regular = self.file.inode().content().is_some();
                if count > 0 && is_regular && !thread.process.credentials().is_privileged() {
                    self.file.inode().clear_set_id();
                }
                Ok(count)
            }
            Err(Errno::EPIPE) => {
                signal(thread, Signal::PIPE);
                Err(Errno::EPIPE)
            }
            Err(errno) => Err(errno),
        }
    }

    /// The next bytes are `count` further on, if the place is not the file's own.
    fn move_on(&mut self, count: u64) {
        if let Place::At(position) = &mut self.place {
            *position = position.saturating_add(count);
        }
    }

    /// `RLIMIT_FSIZE`: nothing is written beyond.
    fn respect_size_limit(&mut self, thread: &Rc<Thread>, position: u64) -> Result<()> {
        if self.file.inode().content().is_none() || self.buffer.is_empty() {
            return Ok(());
        }
        let limit = thread.process.limit(linux::RLIMIT_FSIZE);
        if position >= limit {
            if self.done == 0 {
                signal(thread, Signal::XFSZ);
            }
            return Err(Errno::EFBIG);
        }
        self.buffer.truncate(limit - position);
        Ok(())
    }

    /// `EINVAL` if the range of bytes ends beyond what an offset can say.
    fn check_range(&self) -> Result<()> {
        let position = match self.place {
            Place::Current => self.file.position(),
            Place::At(position) => position,
        };
        let has_range = self.file.ops().positioning() == Positioning::Bytes;
        let end = position.checked_add(self.buffer.remaining()).filter(|end| *end <= i64::MAX as u64);
        if has_range && end.is_none() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn run(mut self, thread: &Rc<Thread>) -> Outcome {
        if let Err(errno) = self.check_range() {
            return Outcome::Return(Err(errno));
        }
        if self.buffer.remaining() > STEP_BYTES && self.file.ops().wait_queue().is_none() {
            return Outcome::block(self.in_steps(thread.clone()));
        }
        let result = self.attempt(thread);
        if self.needs_pages() {
            return self.go_on(thread, result);
        }
        match result {
            Err(Errno::EAGAIN) if self.patience == Patience::Wait => {
                // Only terminals have deadlines, which come and go.
                let ops = self.file.ops();
                if ops.pipe().is_some() || ops.event_file().is_some() {
                    return sleep(thread, self, None);
                }
                Outcome::Block(Box::pin(self.wait(thread.clone())))
            }
            result => Outcome::Return(result),
        }
    }

    /// Moves all of it, a step at a time.
    async fn in_steps(mut self, thread: Rc<Thread>) -> Result<u64> {
        loop {
            let before = self.done;
            let wanted = self.buffer.limit_step(STEP_BYTES);
            let mut result = self.attempt(&thread);
            self.note_read(result);
            if self.needs_pages() {
                result = self.over_pages(&thread, result, take_needs()).await;
            }
            match result {
                Ok(_) if self.done - before == wanted && wanted == STEP_BYTES => give_way().await,
                Err(errno) if before == 0 => return Err(errno),
                Ok(_) | Err(_) => return Ok(self.done),
            }
        }
    }

    /// Whether the last attempt stopped at a page of a file, or for one, that is not there.
    fn needs_pages(&self) -> bool {
        has_needs() && self.file.inode().content().is_some()
    }

    /// Goes on with the transfer of a file's bytes where it stopped for a page that is not there.
    fn go_on(mut self, thread: &Rc<Thread>, result: Result<u64>) -> Outcome {
        // Before anybody else notes what it needs.
        let needs = take_needs();
        self.note_read(result);
        let thread = thread.clone();
        Outcome::block(async move { self.over_pages(&thread, result, needs).await })
    }

    /// Tries again whenever the page is there that it stopped for, until it does not stop for one.
    async fn over_pages(&mut self, thread: &Rc<Thread>, mut result: Result<u64>, mut needs: Needs) -> Result<u64> {
        while let Some(absence) = needs.absence.take() {
            let page = thread.server().executor.bring(absence).await;
            let before = self.done;
            result = self.attempt(thread);
            self.note_read(result);
            let Needs { absence, postponed } = take_needs();
            needs.postponed.extend(postponed);
            match page {
                Ok(()) => needs.absence = absence,
                // What came before a page that can't be had counts.
                Err(errno) if self.done == before => result = Err(errno),
                Err(_) => {}
            }
        }
        for postponed in needs.postponed {
            thread.server().executor.write_postponed(postponed).await?;
        }
        if self.done > 0 { Ok(self.done) } else { result }
    }

    /// Counts what a part of a read has given; the next part begins behind it.
    fn note_read(&mut self, result: Result<u64>) {
        match (self.direction, result) {
            (Direction::Read, Ok(count)) => {
                self.done += count;
                self.move_on(count);
            }
            (Direction::Read, Err(_)) | (Direction::Write, _) => {}
        }
    }

    async fn wait(mut self, thread: Rc<Thread>) -> Result<u64> {
        let began_ns = crate::platform::now_ns();
        loop {
            let listener = blocking::listen_for(&thread, &self.file);
            match self.attempt(&thread) {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
            let deadline_ns = match self.direction {
                Direction::Read => self.file.ops().read_deadline_ns(began_ns),
                Direction::Write => None,
            };
            match blocking::wait(&thread, listener, deadline_ns).await {
                Woken::Changed => {}
                Woken::Interrupted => return blocking::interrupted(self.done),
                Woken::TimedOut => return self.read_rest(),
            }
        }
    }

    /// The end of a read whose time is over: what there is, which may be nothing.
    fn read_rest(&mut self) -> Result<u64> {
        match self.file.ops().read_now(0, &mut self.buffer) {
            Err(Errno::EAGAIN) => Ok(0),
            result => result.map(|count| count as u64),
        }
    }
}

impl Attempt for Transfer {
    fn queues(&self, thread: &Thread, watch: &mut dyn FnMut(&WaitQueue)) {
        if let Some(queue) = self.file.ops().wait_queue_for(thread) {
            watch(queue);
        }
    }

    fn wanted(&self) -> PollEvents {
        let others = match self.direction {
            Direction::Read => PollEvents::WRITABLE,
            Direction::Write => PollEvents::READABLE,
        };
        PollEvents::all() - others
    }

    fn attempt(&mut self, thread: &Rc<Thread>) -> Result<u64> {
        self.attempt(thread)
    }

    fn give_up(&mut self, _thread: &Rc<Thread>, why: InVain) -> Result<u64> {
        match why {
            InVain::Interrupted => blocking::interrupted(self.done),
            InVain::TimedOut => self.read_rest(),
        }
    }
}

pub(super) fn signal(thread: &Rc<Thread>, signal: Signal) {
    // It is the caller itself that is told; if its queue is full, the error of the call has to do.
    let _ = deliver::send_to_thread(thread, SignalInfo::from_kernel(signal));
}

fn checked(thread: &Rc<Thread>, fd: u64, direction: Direction) -> Result<Rc<OpenFile>> {
    let file = file(thread, fd)?;
    match direction {
        Direction::Read => file.check_readable()?,
        Direction::Write => file.check_writable()?,
    }
    Ok(file)
}

/// The file of a call with a position of its own: `EINVAL` if that is negative, `ESPIPE` if the file has none.
fn checked_at(thread: &Rc<Thread>, fd: u64, position: u64, direction: Direction) -> Result<Rc<OpenFile>> {
    if (position as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let file = usable_file(thread, fd)?;
    if file.ops().positioning().is_stream() {
        return Err(Errno::ESPIPE);
    }
    checked(thread, fd, direction)
}

fn begin(
    thread: &Rc<Thread>,
    file: Result<Rc<OpenFile>>,
    place: Place,
    direction: Direction,
    buffer: impl FnOnce() -> Result<UserBuffer>,
) -> Outcome {
    match file.and_then(|file| Ok((file, buffer()?))) {
        Ok((file, buffer)) if file.ops().socket().is_some() => match direction {
            Direction::Read => socket::read(thread, file, buffer),
            Direction::Write => socket::write(thread, file, buffer),
        },
        Ok((file, buffer)) => {
            let patience = Patience::of(&file);
            let on = file.clone();
            let transfer =
                Transfer { file, buffer, direction, place, patience, appending: Appending::AsOpened, done: 0 };
            let outcome = transfer.run(thread);
            if direction == Direction::Write && is_synchronous(&on, 0) { until_durable(on, outcome) } else { outcome }
        }
        Err(errno) => Outcome::Return(Err(errno)),
    }
}

/// Whether what is written to a file must be on its disk before the call returns: it was opened so, or the call says so.
fn is_synchronous(file: &OpenFile, flags: u32) -> bool {
    let by_call = flags & (linux::RWF_DSYNC | linux::RWF_SYNC) != 0;
    let by_file = file.flags() & (linux::O_DSYNC | linux::O_DIRECT) != 0;
    (by_call || by_file) && file.inode().content().is_some() && file.inode().filesystem().volume().is_some()
}

/// A write that is over when what it wrote is durable.
fn until_durable(file: Rc<OpenFile>, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Return(Ok(count)) if count > 0 => Outcome::block(async move {
            super::sync::synchronized(&file, 0, u64::MAX).await?;
            Ok(count)
        }),
        Outcome::Block(writing) => Outcome::block(async move {
            let count = writing.await?;
            super::sync::synchronized(&file, 0, u64::MAX).await?;
            Ok(count)
        }),
        Outcome::Return(_) | Outcome::Parked | Outcome::Context | Outcome::Gone => outcome,
    }
}

/// A transfer between a program's memory and a file that has no position.
pub(super) fn run(
    thread: &Rc<Thread>,
    file: Rc<OpenFile>,
    buffer: UserBuffer,
    direction: Direction,
    patience: Patience,
) -> Outcome {
    let appending = Appending::AsOpened;
    Transfer { file, buffer, direction, place: Place::Current, patience, appending, done: 0 }.run(thread)
}

fn read(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let file = checked(thread, args[0], Direction::Read);
    let outcome =
        begin(thread, file, Place::Current, Direction::Read, || UserBuffer::of_call(thread, args[1], args[2]));
    noted(thread, args[0], Used::Read, outcome)
}

/// Has the process serve the file itself if it is used like this often.
fn noted(thread: &Rc<Thread>, fd: u64, used: Used, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Return(Ok(1..)) => shared::note_use(thread, fd, used),
        // A read that waits for the disk is a use, too.
        Outcome::Block(future) if file(thread, fd).is_ok_and(|file| file.inode().content().is_some()) => {
            let thread = thread.clone();
            return Outcome::block(async move {
                let result = future.await;
                if let Ok(1..) = result {
                    shared::note_use(&thread, fd, used);
                }
                result
            });
        }
        Outcome::Return(_) | Outcome::Block(_) | Outcome::Parked | Outcome::Context | Outcome::Gone => {}
    }
    outcome
}

fn write(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let file = checked(thread, args[0], Direction::Write);
    let outcome =
        begin(thread, file, Place::Current, Direction::Write, || UserBuffer::of_call(thread, args[1], args[2]));
    noted(thread, args[0], Used::Written, outcome)
}

fn pread(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let file = checked_at(thread, args[0], args[3], Direction::Read);
    let outcome =
        begin(thread, file, Place::At(args[3]), Direction::Read, || UserBuffer::of_call(thread, args[1], args[2]));
    noted(thread, args[0], Used::Read, outcome)
}

fn pwrite(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let file = checked_at(thread, args[0], args[3], Direction::Write);
    let outcome =
        begin(thread, file, Place::At(args[3]), Direction::Write, || UserBuffer::of_call(thread, args[1], args[2]));
    noted(thread, args[0], Used::WrittenAt, outcome)
}

fn vectors(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<UserBuffer> {
    UserBuffer::from_io_vectors(&thread.space(), args[1], args[2])
}

fn readv(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let file = checked(thread, args[0], Direction::Read);
    begin(thread, file, Place::Current, Direction::Read, || vectors(thread, args))
}

fn writev(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let file = checked(thread, args[0], Direction::Write);
    begin(thread, file, Place::Current, Direction::Write, || vectors(thread, args))
}

fn preadv(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let file = checked_at(thread, args[0], args[3], Direction::Read);
    begin(thread, file, Place::At(args[3]), Direction::Read, || vectors(thread, args))
}

fn pwritev(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let file = checked_at(thread, args[0], args[3], Direction::Write);
    begin(thread, file, Place::At(args[3]), Direction::Write, || vectors(thread, args))
}

/// `RWF_NOAPPEND`: writes go where they ask for, also if the file was opened to append.
const RWF_NOAPPEND: u32 = 0x20;

/// The flags of `preadv2` and `pwritev2`. There is no disk to wait for or to poll. `EOPNOTSUPP` for others.
const RWF_KNOWN: u32 =
    linux::RWF_HIPRI | linux::RWF_DSYNC | linux::RWF_SYNC | linux::RWF_NOWAIT | linux::RWF_APPEND | RWF_NOAPPEND;

fn checked_rwf(flags: u64) -> Result<u32> {
    let flags = u32::try_from(flags as i32).ok().filter(|flags| flags & !RWF_KNOWN == 0).ok_or(Errno::EOPNOTSUPP)?;
    let both = linux::RWF_APPEND | RWF_NOAPPEND;
    if flags & both == both { Err(Errno::EINVAL) } else { Ok(flags) }
}

fn with_flags(thread: &Rc<Thread>, args: &[u64; 6], direction: Direction) -> Outcome {
    let prepared = (|| {
        let (file, place) = if args[3] == u64::MAX {
            (checked(thread, args[0], direction)?, Place::Current)
        } else {
            (checked_at(thread, args[0], args[3], direction)?, Place::At(args[3]))
        };
        let buffer = vectors(thread, args)?;
        // Nothing can't be moved in a wrong way.
        let flags = if buffer.is_empty() { 0 } else { checked_rwf(args[5])? };
        let patience = if flags & linux::RWF_NOWAIT != 0 { Patience::Now } else { Patience::of(&file) };
        let appending = match (flags & linux::RWF_APPEND != 0, flags & RWF_NOAPPEND != 0) {
            (true, _) => Appending::Always,
            (false, true) => Appending::Never,
            (false, false) => Appending::AsOpened,
        };
        Ok((Transfer { file, buffer, direction, place, patience, appending, done: 0 }, flags))
    })();
    match prepared {
        Ok((transfer, flags)) => {
            let on = transfer.file.clone();
            let outcome = transfer.run(thread);
            if direction == Direction::Write && is_synchronous(&on, flags) {
                until_durable(on, outcome)
            } else {
                outcome
            }
        }
        Err(errno) => Outcome::Return(Err(errno)),
    }
}

fn preadv2(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    with_flags(thread, args, Direction::Read)
}

fn pwritev2(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    with_flags(thread, args, Direction::Write)
}
