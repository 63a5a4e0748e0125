//! Where the bytes of a read go, and where those of a write come from.
//!
//! A file doesn't know whether its bytes go to a process, to another file (`sendfile`) or to a test: it hands them to a
//! [`Destination`] or takes them from a [`Source`]. Contents that are memory objects are moved by one copy in the kernel and
//! never touch the server's own memory.
//!
//! Both sides may stop early: because they are full or empty, or because the program's memory could not be reached. A file
//! that moved nothing although both sides had something left reports `EFAULT`; a file that moved something reports that.

use crate::errno::Errno;
use crate::platform::Memory;
use crate::user::UserBuffer;

/// How many bytes a read or write moves at most: `MAX_RW_COUNT` of Linux, 2 GiB less a page.
pub const MAX_TRANSFER_BYTES: usize = 0x7fff_f000;

/// What receives bytes.
pub trait Destination {
    /// How many more it takes.
    fn remaining(&self) -> usize;
    /// Gives it bytes; returns how many it took.
    fn put(&mut self, bytes: &[u8]) -> usize;
    /// Gives it `length` bytes of a memory from `offset`; returns how many it took.
    fn put_memory(&mut self, memory: &Memory, offset: u64, length: usize) -> usize;
}

/// What gives bytes.
pub trait Source {
    /// How many more it has.
    fn remaining(&self) -> usize;
    /// Fills the buffer as far as possible; returns how many bytes it gave.
    fn get(&mut self, bytes: &mut [u8]) -> usize;
    /// Shows the next bytes without giving them; returns how many it could show.
    fn peek(&self, bytes: &mut [u8]) -> usize;
    /// Gives up all that it has, without anybody looking at it; returns how many bytes.
    fn discard(&mut self) -> usize;
    /// Writes up to `length` bytes into a memory at `offset`; returns how many it gave. An error says that the memory could
    /// not take them, for another reason than the source.
    fn get_memory(&mut self, memory: &Memory, offset: u64, length: usize) -> Result<usize, Errno>;
}

/// The result of handing `moved` bytes over where there were some to hand over: none is `EFAULT`.
pub fn moved_or_fault(moved: usize) -> Result<usize, Errno> {
    if moved == 0 { Err(Errno::EFAULT) } else { Ok(moved) }
}

/// Puts the part of a generated text that begins at `position`; returns how many bytes were taken.
pub fn put_text(text: &[u8], position: u64, to: &mut dyn Destination) -> Result<usize, Errno> {
    let rest = usize::try_from(position).ok().and_then(|position| text.get(position..)).unwrap_or_default();
    let length = rest.len().min(to.remaining());
    match rest.get(..length) {
        Some(part) if !part.is_empty() => moved_or_fault(to.put(part)),
        Some(_) | None => Ok(0),
    }
}

impl Destination for UserBuffer {
    fn remaining(&self) -> usize {
        UserBuffer::remaining(self) as usize
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        self.write(bytes).unwrap_or(0)
    }

    fn put_memory(&mut self, memory: &Memory, offset: u64, length: usize) -> usize {
        self.write_from(memory, offset, length as u64).unwrap_or(0) as usize
    }
}

impl Source for UserBuffer {
    fn remaining(&self) -> usize {
        UserBuffer::remaining(self) as usize
    }

    fn get(&mut self, bytes: &mut [u8]) -> usize {
        self.read(bytes).unwrap_or(0)
    }

    fn peek(&self, bytes: &mut [u8]) -> usize {
        self.clone().read(bytes).unwrap_or(0)
    }

    fn discard(&mut self) -> usize {
        let all = UserBuffer::remaining(self);
        self.truncate(0);
        all as usize
    }

    fn get_memory(&mut self, memory: &Memory, offset: u64, length: usize) -> Result<usize, Errno> {
        match self.read_into(memory, offset, length as u64) {
            Ok(moved) => Ok(moved as usize),
            // Nothing moved: the program's fault if its first byte can't be read, else there is no room.
            Err(_) => match self.clone().read(&mut [0]) {
                Ok(1..) => Err(Errno::ENOSPC),
                Ok(0) | Err(_) => Err(Errno::EFAULT),
            },
        }
    }
}

/// A buffer in the server's memory as a destination.
#[derive(Debug)]
pub struct SliceDestination<'a> {
    buffer: &'a mut [u8],
    filled: usize,
}

impl<'a> SliceDestination<'a> {
    /// A destination that fills `buffer` from its start.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, filled: 0 }
    }

    /// What has been put so far.
    pub fn filled(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }
}

impl Destination for SliceDestination<'_> {
    fn remaining(&self) -> usize {
        self.buffer.len() - self.filled
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let rest = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let length = rest.len().min(bytes.len());
        for (to, from) in rest.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.filled += length;
        length
    }

    fn put_memory(&mut self, memory: &Memory, offset: u64, length: usize) -> usize {
        let rest = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let length = rest.len().min(length);
        let read = rest.get_mut(..length).map_or(0, |part| memory.read(offset, part));
        self.filled += read;
        read
    }
}

/// Bytes in the server's memory as a source.
#[derive(Debug)]
pub struct SliceSource<'a> {
    bytes: &'a [u8],
}

impl<'a> SliceSource<'a> {
    /// A source that gives `bytes` in order.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }
}

impl Source for SliceSource<'_> {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn get(&mut self, bytes: &mut [u8]) -> usize {
        let length = bytes.len().min(self.bytes.len());
        let (now, later) = self.bytes.split_at(length);
        for (to, from) in bytes.iter_mut().zip(now) {
            *to = *from;
        }
        self.bytes = later;
        length
    }

    fn peek(&self, bytes: &mut [u8]) -> usize {
        SliceSource { bytes: self.bytes }.get(bytes)
    }

    fn discard(&mut self) -> usize {
        core::mem::take(&mut self.bytes).len()
    }

    fn get_memory(&mut self, memory: &Memory, offset: u64, length: usize) -> Result<usize, Errno> {
        let (now, _) = self.bytes.split_at(length.min(self.bytes.len()));
        let written = memory.write(offset, now);
        self.bytes = self.bytes.get(written..).unwrap_or_default();
        if written == 0 && !now.is_empty() { Err(Errno::ENOSPC) } else { Ok(written) }
    }
}
