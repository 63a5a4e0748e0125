//! Calls that move bytes between pipes and files: `splice`, `tee`, `vmsplice`.
//!
//! Bytes are copied, a piece at a time, and leave the pipe that they come from only when they have arrived. What can't be
//! done now waits, unless the call or one of the files says not to.

use super::blocking::{self, Woken, file};
use super::transfer::{self, Direction, Patience};
use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::file::io::{MAX_TRANSFER_BYTES, SliceDestination, SliceSource};
use crate::file::{OpenFile, StatusFlags};
use crate::fs::notify;
use crate::pipe::Pipe;
use crate::process::Thread;
use crate::user::{UserBuffer, UserPtr};
use crate::wait::Listener;
use alloc::rc::Rc;
use alloc::vec;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_splice, splice),
    SystemCall::new(linux::__NR_tee, tee),
    SystemCall::new(linux::__NR_vmsplice, vmsplice),
];

/// The flags of all three. Those about pages that change hands are only hints.
const FLAGS: u32 = linux::SPLICE_F_MOVE | linux::SPLICE_F_NONBLOCK | linux::SPLICE_F_MORE | linux::SPLICE_F_GIFT;

/// How many bytes go at once.
const CHUNK_BYTES: usize = 64 << 10;

fn pipe_of(file: &OpenFile) -> Option<&Pipe> {
    file.ops().pipe()
}

/// `EINVAL` for unknown flags.
fn checked_flags(flags: u64) -> Result<u32> {
    Some(flags as u32).filter(|flags| flags & !FLAGS == 0).ok_or(Errno::EINVAL)
}

/// Whether a move leaves what it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Splice,
    Tee,
}

/// One end of a move: a file, with a position of its own if the program gave one.
struct End {
    file: Rc<OpenFile>,
    offset: Option<(UserPtr, u64)>,
}

impl End {
    /// `ESPIPE` for a position in a pipe, `EINVAL` for one that can't be, or in a file that has none.
    fn new(thread: &Rc<Thread>, file: Rc<OpenFile>, address: u64) -> Result<Self> {
        if address == 0 {
            return Ok(Self { file, offset: None });
        }
        let pointer = pointer(thread, address);
        let offset: i64 = pointer.read()?;
        if file.ops().positioning().is_stream() {
            return Err(Errno::EINVAL);
        }
        let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        Ok(Self { file, offset: Some((pointer, offset)) })
    }

    fn position(&self) -> u64 {
        self.offset.as_ref().map_or_else(|| self.file.position(), |(_, offset)| *offset)
    }

    fn advance(&mut self, count: usize) {
        match &mut self.offset {
            Some((_, offset)) => *offset = offset.saturating_add(count as u64),
            None if self.file.ops().positioning() == crate::file::Positioning::Bytes => {
                self.file.set_position(self.file.position().saturating_add(count as u64));
            }
            None => {}
        }
    }

    /// Tells the program where it ended.
    fn finish(&self) -> Result<()> {
        self.offset.as_ref().map_or(Ok(()), |(pointer, offset)| pointer.write(&(*offset as i64)))
    }
}

/// A move under way.
struct Move {
    from: End,
    to: End,
    kind: Kind,
    left: usize,
    done: usize,
    patience: Patience,
}

impl Move {
    /// Moves what can be moved now. `EAGAIN`: nothing.
    fn attempt(&mut self, thread: &Rc<Thread>) -> Result<u64> {
        while self.left > 0 {
            match self.step(thread) {
                Ok(0) => break,
                Ok(count) => {
                    self.done += count;
                    self.left -= count;
                    // What a file gives at once is enough, and what is teed is still there.
                    if pipe_of(&self.from.file).is_none() || self.kind == Kind::Tee {
                        break;
                    }
                }
                Err(_) if self.done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        self.from.finish()?;
        self.to.finish()?;
        Ok(self.done as u64)
    }

    fn step(&mut self, thread: &Rc<Thread>) -> Result<usize> {
        let most = self.left.min(CHUNK_BYTES);
        let result = match (pipe_of(&self.from.file), pipe_of(&self.to.file)) {
            (Some(from), Some(to)) => {
                let bytes = from.peek(most)?;
                let bytes = bytes.get(..bytes.len().min(to.room()?)).unwrap_or_default();
                let count = self.write(thread, bytes)?;
                if self.kind == Kind::Splice {
                    from.consume(count);
                }
                Ok(count)
            }
            (Some(from), None) => {
                let bytes = from.peek(most)?;
                let count = self.write(thread, &bytes)?;
                from.consume(count);
                Ok(count)
            }
            (None, Some(to)) => {
                let most = most.min(to.room()?);
                let mut buffer = vec![0; most];
                let count = self.read(&mut buffer)?;
                let count = self.write(thread, buffer.get(..count).unwrap_or_default())?;
                self.from.advance(count);
                return Ok(count);
            }
            (None, None) => Err(Errno::EINVAL),
        };
        if let (Ok(count), None) = (result, pipe_of(&self.to.file)) {
            self.to.advance(count);
        }
        result
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.from.file.ops().read(self.from.position(), &mut SliceDestination::new(buffer))?;
        if count > 0 {
            notify::file(&self.from.file, notify::ACCESS);
        }
        Ok(count)
    }

    fn write(&self, thread: &Rc<Thread>, bytes: &[u8]) -> Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let result = self.to.file.ops().write(self.to.position(), &mut SliceSource::new(bytes));
        if matches!(result, Ok(1..)) {
            notify::file(&self.to.file, notify::MODIFY);
        }
        if result == Err(Errno::EPIPE) {
            transfer::signal(thread, crate::signal::Signal::PIPE);
        }
        result
    }

    fn listen(&self) -> Listener {
        let mut listener = blocking::listen(&self.from.file);
        if let Some(queue) = self.to.file.ops().wait_queue() {
            listener.watch(queue);
        }
        listener
    }

    fn run(mut self, thread: &Rc<Thread>) -> Outcome {
        match self.attempt(thread) {
            Err(Errno::EAGAIN) if self.patience == Patience::Wait => Outcome::block(self.wait(thread.clone())),
            result => result.into(),
        }
    }

    async fn wait(mut self, thread: Rc<Thread>) -> Result<u64> {
        loop {
            let listener = self.listen();
            match self.attempt(&thread) {
                Err(Errno::EAGAIN) => {}
                result => return result,
            }
            if blocking::wait(&thread, listener, None).await == Woken::Interrupted {
                return Err(Errno::RESTART);
            }
        }
    }
}

/// How patient a call is: not, if it says so or one of the pipes does.
fn patience(flags: u32, files: [&OpenFile; 2]) -> Patience {
    let pipes = files.into_iter().filter(|file| pipe_of(file).is_some());
    let hurries = flags & linux::SPLICE_F_NONBLOCK != 0 || pipes.into_iter().any(OpenFile::is_nonblocking);
    if hurries { Patience::Now } else { Patience::Wait }
}

fn is_same_pipe(one: &OpenFile, two: &OpenFile) -> bool {
    match (pipe_of(one), pipe_of(two)) {
        (Some(one), Some(two)) => core::ptr::eq(one, two),
        (Some(_) | None, _) => false,
    }
}

/// `splice(from, offset, to, offset, length, flags)`.
fn splice(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    if args[4] == 0 {
        return Outcome::Return(Ok(0));
    }
    match prepare_splice(thread, args) {
        Ok(started) => started.run(thread),
        Err(errno) => errno.into(),
    }
}

fn prepare_splice(thread: &Rc<Thread>, args: &Arguments) -> Result<Move> {
    let flags = checked_flags(args[5])?;
    let (from, to) = (file(thread, args[0])?, file(thread, args[2])?);
    let piped = [(&from, args[1]), (&to, args[3])].iter().any(|(file, offset)| pipe_of(file).is_some() && *offset != 0);
    if piped {
        return Err(Errno::ESPIPE);
    }
    from.check_readable()?;
    to.check_writable()?;
    for offset in [args[3], args[1]].into_iter().filter(|offset| *offset != 0) {
        pointer(thread, offset).read::<i64>()?;
    }
    let no_pipe = pipe_of(&from).is_none() && pipe_of(&to).is_none();
    let appends = pipe_of(&to).is_none() && to.status().contains(StatusFlags::APPEND);
    if no_pipe || appends || is_same_pipe(&from, &to) || from.inode().is_directory() {
        return Err(Errno::EINVAL);
    }
    let patience = patience(flags, [&from, &to]);
    let left = usize::try_from(args[4]).unwrap_or(usize::MAX).min(MAX_TRANSFER_BYTES);
    let (from, to) = (End::new(thread, from, args[1])?, End::new(thread, to, args[3])?);
    Ok(Move { from, to, kind: Kind::Splice, left, done: 0, patience })
}

/// `tee(from, to, length, flags)`: both are pipes.
fn tee(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    let prepared = (|| {
        let flags = checked_flags(args[3])?;
        if args[2] == 0 {
            return Ok(None);
        }
        let (from, to) = (file(thread, args[0])?, file(thread, args[1])?);
        from.check_readable()?;
        to.check_writable()?;
        if pipe_of(&from).is_none() || pipe_of(&to).is_none() || is_same_pipe(&from, &to) {
            return Err(Errno::EINVAL);
        }
        let patience = patience(flags, [&from, &to]);
        let left = usize::try_from(args[2]).unwrap_or(usize::MAX).min(MAX_TRANSFER_BYTES);
        let (from, to) = (End { file: from, offset: None }, End { file: to, offset: None });
        Ok(Some(Move { from, to, kind: Kind::Tee, left, done: 0, patience }))
    })();
    match prepared {
        Ok(Some(started)) => started.run(thread),
        Ok(None) => Outcome::Return(Ok(0)),
        Err(errno) => errno.into(),
    }
}

/// `vmsplice(pipe, vectors, count, flags)`: memory into a pipe, or out of one.
fn vmsplice(thread: &Rc<Thread>, args: &Arguments) -> Outcome {
    let prepared = (|| {
        let flags = checked_flags(args[3])?;
        let file = file(thread, args[0])?;
        let direction = if file.access().can_write() {
            Direction::Write
        } else {
            file.check_readable()?;
            Direction::Read
        };
        let buffer = UserBuffer::from_io_vectors(&thread.space(), args[1], args[2])?;
        if !buffer.is_empty() {
            pipe_of(&file).ok_or(Errno::EBADF)?;
        }
        let patience = patience(flags, [&file, &file]);
        Ok((file, buffer, direction, patience))
    })();
    match prepared {
        Ok((_, buffer, ..)) if buffer.is_empty() => Outcome::Return(Ok(0)),
        Ok((file, buffer, direction, patience)) => transfer::run(thread, file, buffer, direction, patience),
        Err(errno) => Outcome::Return(Err(errno)),
    }
}
