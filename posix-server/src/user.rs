//! Programs' memory, reached remotely: every pointer is an allegation, and a bad one is `EFAULT`.

use crate::errno::{Errno, Result};
use crate::platform::{Memory, PAGE_SIZE, Space};
use crate::process::Thread;
use crate::vm::Block;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general::UIO_MAXIOV;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The most that one `read` or `write` moves (`read(2)`): larger counts are cut.
pub const MAX_RW_COUNT: u64 = 0x7fff_f000;
/// The longest path with its terminating zero (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;
/// The end of the addresses that a program can name; what lies above is the server's (windows on files, the shim and its blocks).
pub const USER_END: u64 = 0x7ffc_0000_0000;

/// Writes to a program's memory; returns how many bytes before the first that could not be. What a call has for a page that is
/// not there yet is written before the call returns, because it can't be made a second time to get it.
pub(crate) fn write(space: &Space, address: u64, bytes: &[u8]) -> usize {
    let written = space.write(address, bytes);
    match bytes.get(written..) {
        Some(rest) if !rest.is_empty() && space.postpone(address.saturating_add(written as u64), rest) => bytes.len(),
        Some(_) | None => written,
    }
}

/// A program's memory, as a call sees it: what the call carries along is read and written in the block of the thread that makes it.
#[derive(Clone)]
struct View {
    space: Space,
    block: Option<Rc<Block>>,
}

impl View {
    fn of_space(space: &Space) -> Self {
        Self { space: space.clone(), block: None }
    }

    fn of_call(thread: &Thread) -> Self {
        Self { space: thread.space(), block: thread.carrying_block() }
    }

    /// Returns how many bytes were read before the first that could not be.
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        match &self.block {
            Some(block) if block.read_carried(address, buffer) => buffer.len(),
            Some(_) | None => self.space.read(address, buffer),
        }
    }

    /// Returns how many bytes were written before the first that could not be.
    fn write(&self, address: u64, bytes: &[u8]) -> usize {
        match &self.block {
            Some(block) if block.write_carried(&self.space, address, bytes) => bytes.len(),
            Some(_) | None => write(&self.space, address, bytes),
        }
    }

    /// The space, to be read or written directly: what was written before is there.
    fn space(&self) -> &Space {
        if let Some(block) = &self.block {
            block.flush(&self.space);
        }
        &self.space
    }
}

/// An address that a program gave, in that program's space.
#[derive(Clone)]
pub struct UserPtr {
    view: View,
    address: u64,
}

impl UserPtr {
    /// Takes an address as it came.
    pub fn new(space: &Space, address: u64) -> Self {
        Self { view: View::of_space(space), address }
    }

    /// The same for an argument of the call that a thread makes.
    pub fn of_call(thread: &Thread, address: u64) -> Self {
        Self { view: View::of_call(thread), address }
    }

    /// Whether it is the null pointer, which many calls take for "nothing".
    pub fn is_null(&self) -> bool {
        self.address == 0
    }

    /// The address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The address `bytes` further. `EFAULT` if there is none.
    pub fn offset(&self, bytes: u64) -> Result<Self> {
        let address = self.address.checked_add(bytes).ok_or(Errno::EFAULT)?;
        Ok(Self { view: self.view.clone(), address })
    }

    /// Fills `buffer`. `EFAULT`.
    pub fn read_bytes(&self, buffer: &mut [u8]) -> Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        check_range(self.address, buffer.len() as u64)?;
        if self.view.read(self.address, buffer) == buffer.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Writes `bytes`. `EFAULT`, after which some may have been written.
    pub fn write_bytes(&self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        check_range(self.address, bytes.len() as u64)?;
        if self.view.write(self.address, bytes) == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Writes as many of the bytes as can be written; returns how many.
    pub fn write_prefix(&self, bytes: &[u8]) -> usize {
        if check_range(self.address, bytes.len() as u64).is_ok() { self.view.write(self.address, bytes) } else { 0 }
    }

    /// Reads a record. `EFAULT`.
    pub fn read<T: FromBytes + IntoBytes>(&self) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read_bytes(value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a record. `EFAULT`.
    pub fn write<T: IntoBytes + Immutable>(&self, value: &T) -> Result<()> {
        self.write_bytes(value.as_bytes())
    }

    /// Writes a record, unless the pointer is null. `EFAULT`.
    pub fn write_if_given<T: IntoBytes + Immutable>(&self, value: &T) -> Result<()> {
        if self.is_null() { Ok(()) } else { self.write(value) }
    }

    /// Reads `count` records. `EFAULT`, `ENOMEM`; the caller limits `count`.
    pub fn read_array<T: FromBytes + IntoBytes>(&self, count: usize) -> Result<Vec<T>> {
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        values.resize_with(count, T::new_zeroed);
        self.read_bytes(values.as_mut_slice().as_mut_bytes())?;
        Ok(values)
    }

    /// Reads a string that ends with a zero byte, which is left off; at most `max` bytes with the zero. `EFAULT`;
    /// `ENAMETOOLONG` if there is no zero among them.
    pub fn read_c_string(&self, max: usize) -> Result<Vec<u8>> {
        let string = self.read_prefix(max)?;
        if string.len() < max { Ok(string) } else { Err(Errno::ENAMETOOLONG) }
    }

    /// Reads a string up to its zero byte, which is left off, or its first `max` bytes. `EFAULT`.
    pub fn read_prefix(&self, max: usize) -> Result<Vec<u8>> {
        let carried = self.view.block.as_ref().and_then(|block| block.read_carried_string(self.address));
        if let Some(string) = carried.filter(|string| string.len() < max) {
            check_range(self.address, string.len() as u64 + 1)?;
            return Ok(string);
        }
        let mut string = Vec::new();
        let mut chunk = [0; 256];
        let mut address = self.address;
        while string.len() < max {
            // Never across a page boundary: the string may end just before an unmapped page.
            let in_page = PAGE_SIZE - address % PAGE_SIZE;
            let wanted = in_page.min(chunk.len() as u64).min((max - string.len()) as u64) as usize;
            let Some(part) = chunk.get_mut(..wanted) else { break };
            check_range(address, wanted as u64)?;
            let read = self.view.space.read(address, part);
            let part = part.get(..read).unwrap_or_default();
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                append(&mut string, part.get(..end).unwrap_or_default())?;
                return Ok(string);
            }
            if read < wanted {
                return Err(Errno::EFAULT);
            }
            append(&mut string, part)?;
            address = address.checked_add(wanted as u64).ok_or(Errno::EFAULT)?;
        }
        Ok(string)
    }

    /// Reads a path. `EFAULT`, `ENAMETOOLONG`.
    pub fn read_path(&self) -> Result<Vec<u8>> {
        self.read_c_string(PATH_MAX)
    }
}

fn append(string: &mut Vec<u8>, part: &[u8]) -> Result<()> {
    string.try_reserve(part.len()).map_err(|_| Errno::ENOMEM)?;
    string.extend_from_slice(part);
    Ok(())
}

/// A range that a program may name: below [`USER_END`], without wrapping. `EFAULT`.
fn check_range(address: u64, length: u64) -> Result<()> {
    match address.checked_add(length) {
        Some(end) if end <= USER_END => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// One entry of the array that `readv` and its kin take.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct IoVec {
    /// Where.
    pub address: u64,
    /// How many bytes.
    pub length: u64,
}

/// A program's buffer, in one or several ranges, with a position that moves on as bytes are copied.
///
/// Copying stops at the first address that can't be read or written; what was moved before it counts, and it is `EFAULT`
/// only if nothing was.
#[derive(Clone)]
pub struct UserBuffer {
    view: View,
    /// Most have one range, which needs no list.
    first: IoVec,
    others: Vec<IoVec>,
    /// The range that is next, and the position in it.
    index: usize,
    within: u64,
    remaining: u64,
    /// Bytes after those, which are not part of this step.
    held_back: u64,
}

impl UserBuffer {
    /// One range; more than [`MAX_RW_COUNT`] bytes are cut. `EFAULT` if it is not an address range of a program.
    pub fn new(space: &Space, address: u64, length: u64) -> Result<Self> {
        Self::single(View::of_space(space), address, length)
    }

    /// The same for arguments of the call that a thread makes.
    pub fn of_call(thread: &Thread, address: u64, length: u64) -> Result<Self> {
        Self::single(View::of_call(thread), address, length)
    }

    fn single(view: View, address: u64, length: u64) -> Result<Self> {
        check_range(address, length)?;
        let length = length.min(MAX_RW_COUNT);
        let (first, others) = (IoVec { address, length }, Vec::new());
        Ok(Self { view, first, others, index: 0, within: 0, remaining: length, held_back: 0 })
    }

    /// The ranges of an `iovec` array. `EINVAL` if there are too many or their lengths overflow; `EFAULT`. Linux looks at the
    /// lower half of the count only.
    pub fn from_io_vectors(space: &Space, address: u64, count: u64) -> Result<Self> {
        let count = count as u32;
        if count > UIO_MAXIOV {
            return Err(Errno::EINVAL);
        }
        let mut ranges: Vec<IoVec> = UserPtr::new(space, address).read_array(count as usize)?;
        let mut remaining: u64 = 0;
        for range in &mut ranges {
            if range.length > i64::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            check_range(range.address, range.length)?;
            range.length = range.length.min(MAX_RW_COUNT - remaining);
            remaining += range.length;
        }
        let others = ranges.split_off(ranges.len().min(1));
        let first = ranges.pop().unwrap_or_default();
        Ok(Self { view: View::of_space(space), first, others, index: 0, within: 0, remaining, held_back: 0 })
    }

    /// The same ranges in another space.
    #[must_use]
    pub fn in_space(self, space: &Space) -> Self {
        Self { view: View::of_space(space), ..self }
    }

    /// Bytes left.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    /// Forgets all but the next `length` bytes.
    pub fn truncate(&mut self, length: u64) {
        self.remaining = self.remaining.min(length);
    }

    /// Leaves no more than the next `length` bytes of all that there are for now; returns how many. The next step has the others.
    pub fn limit_step(&mut self, length: u64) -> u64 {
        let all = self.remaining + self.held_back;
        self.remaining = all.min(length);
        self.held_back = all - self.remaining;
        self.remaining
    }

    /// Moves on by `length` bytes without copying.
    pub fn skip(&mut self, length: u64) {
        let mut left = length;
        while left > 0 {
            let Some((_, count)) = self.next(left) else { break };
            self.advance(count);
            left -= count;
        }
    }

    /// Copies `bytes` into the program's memory; returns how many fit and could be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.transfer(bytes.len() as u64, |view, address, done, count| {
            let part = bytes.get(done as usize..(done + count) as usize).unwrap_or_default();
            view.write(address, part) as u64
        })
        .map(|moved| moved as usize)
    }

    /// Copies from the program's memory into `buffer`; returns how many there were.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.transfer(buffer.len() as u64, |view, address, done, count| {
            let part = buffer.get_mut(done as usize..(done + count) as usize).unwrap_or_default();
            view.read(address, part) as u64
        })
        .map(|moved| moved as usize)
    }

    /// Copies up to `length` bytes of a memory into the program's; returns how many.
    pub fn write_from(&mut self, memory: &Memory, offset: u64, length: u64) -> Result<u64> {
        self.transfer(length, |view, address, done, count| {
            view.space().copy_from(address, memory, offset + done, count)
        })
    }

    /// Copies up to `length` bytes of the program's memory into a memory; returns how many.
    pub fn read_into(&mut self, memory: &Memory, offset: u64, length: u64) -> Result<u64> {
        self.transfer(length, |view, address, done, count| view.space.copy_to(memory, offset + done, address, count))
    }

    /// Writes zeroes.
    pub fn write_zeroes(&mut self, length: u64) -> Result<u64> {
        const ZEROES: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < length.min(MAX_RW_COUNT) && !self.is_empty() {
            let count = (length - done).min(ZEROES.len() as u64) as usize;
            match self.write(ZEROES.get(..count).unwrap_or_default()) {
                Ok(0) => break,
                Ok(moved) => done += moved as u64,
                Err(error) => return if done == 0 { Err(error) } else { Ok(done) },
            }
        }
        Ok(done)
    }

    /// The next piece in one range: address and length, at most `limit`.
    fn next(&mut self, limit: u64) -> Option<(u64, u64)> {
        loop {
            let range = match self.index.checked_sub(1) {
                None => &self.first,
                Some(index) => self.others.get(index)?,
            };
            let left = (range.length - self.within).min(self.remaining).min(limit);
            if left > 0 {
                return Some((range.address + self.within, left));
            }
            if self.remaining == 0 || limit == 0 {
                return None;
            }
            self.index += 1;
            self.within = 0;
        }
    }

    fn advance(&mut self, count: u64) {
        self.within += count;
        self.remaining -= count;
    }

    /// Runs `copy(view, address, done, count)` over the pieces until `length` bytes are moved or a piece falls short.
    fn transfer(&mut self, length: u64, mut copy: impl FnMut(&View, u64, u64, u64) -> u64) -> Result<u64> {
        let mut done = 0;
        while let Some((address, count)) = self.next(length - done) {
            let moved = copy(&self.view, address, done, count).min(count);
            self.advance(moved);
            done += moved;
            if moved < count {
                return if done == 0 { Err(Errno::EFAULT) } else { Ok(done) };
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{Account, Backing, Change, Inherit, Protection, Sharing};

    fn space_with(pages: &[u64]) -> Space {
        let space = Space::create(&Account).unwrap();
        for page in pages {
            let change = Change::Map {
                address: page * PAGE_SIZE,
                length: PAGE_SIZE,
                backing: Backing::Zero,
                sharing: Sharing::Private,
                protection: Protection::READ | Protection::WRITE,
                inherit: Inherit::Clone,
            };
            space.commit(&[change]).unwrap();
        }
        space
    }

    #[test]
    fn a_string_may_end_at_the_last_mapped_byte() {
        let space = space_with(&[1]);
        UserPtr::new(&space, 8190).write_bytes(b"a\0").unwrap();
        assert_eq!(UserPtr::new(&space, 8190).read_path().unwrap(), b"a");
        UserPtr::new(&space, 8190).write_bytes(b"ab").unwrap();
        assert_eq!(UserPtr::new(&space, 8190).read_path(), Err(Errno::EFAULT));
    }

    #[test]
    fn a_string_longer_than_allowed_is_refused() {
        let space = space_with(&[1, 2, 3]);
        UserPtr::new(&space, 4096).write_bytes(&[b'x'; 5000]).unwrap();
        assert_eq!(UserPtr::new(&space, 4096).read_path(), Err(Errno::ENAMETOOLONG));
    }

    #[test]
    fn what_was_moved_before_a_fault_counts() {
        let space = space_with(&[1]);
        let mut buffer = UserBuffer::new(&space, 8192 - 3, 10).unwrap();
        assert_eq!(buffer.write(b"0123456789"), Ok(3));
        assert_eq!(buffer.write(b"3456789"), Err(Errno::EFAULT));
    }

    #[test]
    fn ranges_are_filled_in_order() {
        let space = space_with(&[1]);
        let vectors = [
            IoVec { address: 4096 + 100, length: 2 },
            IoVec { address: 0, length: 0 },
            IoVec { address: 4096 + 50, length: 3 },
        ];
        UserPtr::new(&space, 4096).write(&vectors).unwrap();
        let mut buffer = UserBuffer::from_io_vectors(&space, 4096, 3).unwrap();
        assert_eq!(buffer.remaining(), 5);
        assert_eq!(buffer.write(b"abcdefg"), Ok(5));
        let mut bytes = [0; 3];
        UserPtr::new(&space, 4096 + 50).read_bytes(&mut bytes).unwrap();
        assert_eq!(&bytes, b"cde");
    }

    #[test]
    fn absurd_ranges_are_refused() {
        let space = space_with(&[1]);
        assert_eq!(UserBuffer::new(&space, u64::MAX - 1, 10).err(), Some(Errno::EFAULT));
        assert_eq!(UserBuffer::from_io_vectors(&space, 4096, 2000).err(), Some(Errno::EINVAL));
        assert!(UserBuffer::from_io_vectors(&space, 4096, 1 << 40).is_ok_and(|buffer| buffer.is_empty()));
        UserPtr::new(&space, 4096).write(&IoVec { address: 0, length: u64::MAX }).unwrap();
        assert_eq!(UserBuffer::from_io_vectors(&space, 4096, 1).err(), Some(Errno::EINVAL));
    }
}
