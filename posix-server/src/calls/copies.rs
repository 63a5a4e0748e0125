//! Calls that copy from file to file: `sendfile`, `copy_file_range`.
//!
//! They go on in [steps](super::turns). As on Linux, a signal ends them with what they have done so far.

use super::blocking::{self, Woken, usable_file};
use super::transfer::signal;
use super::turns::{STEP_BYTES, give_way};
use super::{Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::file::io::{MAX_TRANSFER_BYTES, SliceDestination, SliceSource};
use crate::file::{Destination, OpenFile, Source, StatusFlags};
use crate::fs::notify;
use crate::process::Thread;
use crate::signal::Signal;
use crate::user::UserPtr;
use alloc::rc::Rc;
use alloc::vec;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] =
    &[SystemCall::new(linux::__NR_sendfile, sendfile), SystemCall::new(linux::__NR_copy_file_range, copy_file_range)];

/// How many bytes go from file to file at once.
const COPY_CHUNK_BYTES: usize = 64 << 10;

/// A position that a program keeps in its memory, or the file's own.
struct Cursor {
    file: Rc<OpenFile>,
    pointer: Option<UserPtr>,
    position: u64,
}

impl Cursor {
    fn new(thread: &Rc<Thread>, file: Rc<OpenFile>, pointer: u64) -> Result<Self> {
        if pointer == 0 {
            let position = file.position();
            return Ok(Self { file, pointer: None, position });
        }
        let pointer = UserPtr::new(&thread.space(), pointer);
        let position: i64 = pointer.read()?;
        let position = u64::try_from(position).map_err(|_| Errno::EINVAL)?;
        Ok(Self { file, pointer: Some(pointer), position })
    }

    /// Stores where it ended.
    fn finish(&self) -> Result<()> {
        match &self.pointer {
            Some(pointer) => pointer.write(&(self.position as i64)),
            None => {
                self.file.set_position(self.position);
                Ok(())
            }
        }
    }

    fn advance(&mut self, count: usize) {
        self.position = self.position.saturating_add(count as u64);
    }

    fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        let mut to = SliceDestination::new(buffer);
        self.file.ops().read(self.position, &mut to as &mut dyn Destination)
    }
}

/// Where copied bytes go.
enum Target {
    /// To where the file is.
    Stream(Rc<OpenFile>),
    /// To a place of the call's own.
    Place(Cursor),
}

impl Target {
    fn file(&self) -> &Rc<OpenFile> {
        match self {
            Self::Stream(file) => file,
            Self::Place(cursor) => &cursor.file,
        }
    }

    /// Writes some of the bytes, and moves on by those that were taken.
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut source = SliceSource::new(bytes);
        match self {
            Self::Stream(file) => file.write(&mut source),
            Self::Place(cursor) => {
                let count = cursor.file.ops().write(cursor.position, &mut source as &mut dyn Source)?;
                cursor.advance(count);
                Ok(count)
            }
        }
    }

    fn finish(&self) -> Result<()> {
        match self {
            Self::Stream(_) => Ok(()),
            Self::Place(cursor) => cursor.finish(),
        }
    }
}

/// How far a step has come.
enum Progress {
    /// It is over.
    Done(Result<u64>),
    /// The receiver has no room.
    NoRoom,
    /// There is more to do.
    More,
}

/// Copies from one file to another: one chunk after the other, so that the bytes that a slow receiver has not taken yet stay
/// unread.
struct Copy {
    from: Cursor,
    to: Target,
    left: u64,
    done: u64,
}

impl Copy {
    fn step(&mut self, thread: &Rc<Thread>) -> Progress {
        let mut buffer = vec![0; COPY_CHUNK_BYTES];
        let end = self.done + STEP_BYTES;
        while self.left > 0 && self.done < end {
            let wanted = self.left.min(COPY_CHUNK_BYTES as u64) as usize;
            let count = match self.from.read(buffer.get_mut(..wanted).unwrap_or_default()) {
                Ok(0) => return Progress::Done(Ok(self.done)),
                Ok(count) => count,
                Err(errno) => return self.stopped(errno),
            };
            match self.to.write(buffer.get(..count).unwrap_or_default()) {
                Ok(count) => self.advance(count),
                Err(Errno::EPIPE) => {
                    signal(thread, Signal::PIPE);
                    return self.stopped(Errno::EPIPE);
                }
                Err(Errno::EAGAIN) if !self.to.file().is_nonblocking() => return Progress::NoRoom,
                Err(errno) => return self.stopped(errno),
            }
        }
        if self.left > 0 { Progress::More } else { Progress::Done(Ok(self.done)) }
    }

    fn stopped(&self, errno: Errno) -> Progress {
        Progress::Done(if self.done > 0 { Ok(self.done) } else { Err(errno) })
    }

    fn advance(&mut self, count: usize) {
        self.from.advance(count);
        self.left = self.left.saturating_sub(count as u64);
        self.done += count as u64;
        notify::file(&self.from.file, notify::ACCESS);
        notify::file(self.to.file(), notify::MODIFY);
    }

    fn run(mut self, thread: &Rc<Thread>) -> Outcome {
        match self.step(thread) {
            Progress::Done(result) => Outcome::Return(self.finish(result)),
            Progress::More => Outcome::block(self.go_on(thread.clone(), Progress::More)),
            Progress::NoRoom => Outcome::block(self.go_on(thread.clone(), Progress::NoRoom)),
        }
    }

    /// Copies until all is done or a signal ends it.
    async fn go_on(mut self, thread: Rc<Thread>, mut progress: Progress) -> Result<u64> {
        loop {
            let is_over = match progress {
                Progress::Done(result) => return self.finish(result),
                Progress::More => {
                    give_way().await;
                    thread.is_interrupted()
                }
                Progress::NoRoom => {
                    let listener = blocking::listen_for(&thread, self.to.file());
                    progress = self.step(&thread);
                    let Progress::NoRoom = progress else { continue };
                    blocking::wait(&thread, listener, None).await != Woken::Changed
                }
            };
            if is_over {
                return self.finish(blocking::interrupted(self.done));
            }
            progress = self.step(&thread);
        }
    }

    fn finish(&self, result: Result<u64>) -> Result<u64> {
        self.to.finish()?;
        self.from.finish()?;
        result
    }
}

/// `sendfile(out, in, offset, count)`.
fn sendfile(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let prepared = (|| {
        if args[2] != 0 {
            // The position goes back also if nothing is sent.
            let pointer = UserPtr::new(&thread.space(), args[2]);
            pointer.write(&pointer.read::<i64>()?)?;
        }
        let from = usable_file(thread, args[1])?;
        from.check_readable()?;
        if from.ops().positioning().is_stream() {
            return Err(if args[2] != 0 { Errno::ESPIPE } else { Errno::EINVAL });
        }
        let to = usable_file(thread, args[0])?;
        to.check_writable()?;
        if from.inode().is_directory() || to.status().contains(StatusFlags::APPEND) {
            return Err(Errno::EINVAL);
        }
        let from = Cursor::new(thread, from, args[2])?;
        let left = args[3].min(MAX_TRANSFER_BYTES as u64);
        Ok(Copy { from, to: Target::Stream(to), left, done: 0 })
    })();
    prepared.map_or_else(Outcome::from, |copy| copy.run(thread))
}

/// `copy_file_range(in, offset_in, out, offset_out, length, flags)`.
fn copy_file_range(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let prepared = (|| {
        let (from, to) = (usable_file(thread, args[0])?, usable_file(thread, args[2])?);
        let (source, target) = (Cursor::new(thread, from.clone(), args[1])?, Cursor::new(thread, to.clone(), args[3])?);
        if args[5] as u32 != 0 {
            return Err(Errno::EINVAL);
        }
        if from.inode().is_directory() || to.inode().is_directory() {
            return Err(Errno::EISDIR);
        }
        if from.inode().content().is_none() || to.inode().content().is_none() {
            return Err(Errno::EINVAL);
        }
        from.check_readable()?;
        to.check_writable()?;
        if to.status().contains(StatusFlags::APPEND) {
            return Err(Errno::EBADF);
        }
        let left = args[4].min(MAX_TRANSFER_BYTES as u64);
        let overlaps = source.position.abs_diff(target.position) < left;
        if from.inode().is_same(to.inode()) && overlaps {
            return Err(Errno::EINVAL);
        }
        Ok(Copy { from: source, to: Target::Place(target), left, done: 0 })
    })();
    prepared.map_or_else(Outcome::from, |copy| copy.run(thread))
}
