//! The content of regular files: memory objects.
//!
//! A file's memory is what programs map and what `read` and `write` copy from and to, so that there is only one copy of each
//! byte. It is made when it is first needed; a file of the boot archive becomes a copy-on-write view of its part of the
//! archive then. The memory's size is the file's, rounded up to pages: a mapping shows zeroes up to the end of the last page,
//! and faults beyond, as Linux says.

use crate::errno::{Errno, Result};
use crate::file::io::moved_or_fault;
use crate::file::{Destination, Source};
use crate::platform::{Account, Memory, PAGE_SIZE};
use alloc::boxed::Box;
use core::cell::{Cell, RefCell};

/// Sizes and offsets are not larger (`MAX_LFS_FILESIZE`): what fits a signed 64-bit offset.
pub const MAX_SIZE_BYTES: u64 = i64::MAX as u64;

/// The unit of `st_blocks`, in bytes.
const BLOCK_BYTES: u64 = 512;

/// Makes the memory of a file when it is first needed.
pub type MakeMemory = Box<dyn Fn() -> Result<Memory>>;

enum State {
    /// Nothing was ever stored.
    Empty,
    /// Made at first use.
    Deferred(MakeMemory),
    /// There.
    Present(Memory),
}

/// The content of a regular file.
pub struct Content {
    size: Cell<u64>,
    state: RefCell<State>,
    /// Pays for the memory, if not the budget of all files.
    payer: RefCell<Option<Account>>,
    /// Above zero: open for writing so many times. Below: being run so many times, and then not to be written.
    writers: Cell<i64>,
}

impl Content {
    /// A file of no bytes.
    pub fn empty() -> Self {
        Self::with_state(0, State::Empty)
    }

    /// A file of `size` bytes whose memory is made at first use.
    pub fn deferred(size: u64, make: MakeMemory) -> Self {
        Self::with_state(size, State::Deferred(make))
    }

    fn with_state(size: u64, state: State) -> Self {
        Self { size: Cell::new(size), state: RefCell::new(state), payer: RefCell::default(), writers: Cell::new(0) }
    }

    /// Has an account pay for the memory, once there is one.
    pub fn set_payer(&self, payer: Account) {
        self.payer.replace(Some(payer));
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size.get()
    }

    /// The size of what is stored, in blocks of 512 bytes.
    pub fn blocks(&self) -> u64 {
        match &*self.state.borrow() {
            State::Empty => 0,
            State::Deferred(_) => self.size.get().div_ceil(PAGE_SIZE) * (PAGE_SIZE / BLOCK_BYTES),
            State::Present(memory) => memory.resident_pages() * (PAGE_SIZE / BLOCK_BYTES),
        }
    }

    /// The memory, to be mapped or run. `ENOMEM`.
    pub fn memory(&self) -> Result<Memory> {
        let made = match &*self.state.borrow() {
            State::Present(memory) => return Ok(memory.clone()),
            State::Empty => match &*self.payer.borrow() {
                Some(payer) => Memory::create_for(payer, rounded(self.size.get())?)?,
                None => Memory::create(rounded(self.size.get())?)?,
            },
            State::Deferred(make) => make()?,
        };
        let before = self.state.replace(State::Present(made.clone()));
        drop(before);
        Ok(made)
    }

    /// Reads.
    pub fn read(&self, position: u64, to: &mut dyn Destination) -> Result<usize> {
        let length = self.size.get().saturating_sub(position).min(to.remaining() as u64) as usize;
        if length == 0 {
            return Ok(0);
        }
        let memory = self.memory()?;
        moved_or_fault(to.put_memory(&memory, position, length))
    }

    /// Writes, and grows as needed. `EFBIG` at the largest size, `ENOSPC` if there is no memory.
    pub fn write(&self, position: u64, from: &mut dyn Source) -> Result<usize> {
        if from.remaining() == 0 {
            return Ok(0);
        }
        let room = MAX_SIZE_BYTES.checked_sub(position).filter(|room| *room > 0).ok_or(Errno::EFBIG)?;
        let length = room.min(from.remaining() as u64) as usize;
        let memory = self.memory()?;
        let end = position + length as u64;
        let memory_before = memory.len_bytes();
        if end > memory_before {
            memory.resize(rounded(end)?).map_err(no_space)?;
        }
        let moved = from.get_memory(&memory, position, length);
        let size = moved.map_or(self.size.get(), |moved| self.size.get().max(position + moved as u64));
        if moved != Ok(length) && memory.len_bytes() > memory_before {
            // Less than hoped for: the memory must not stay longer than the file.
            memory.resize(rounded(size)?.max(memory_before))?;
        }
        self.size.set(size);
        moved.and_then(moved_or_fault)
    }

    /// Changes the size: cuts off, or adds zeroes. `EFBIG`.
    pub fn set_size(&self, size: u64) -> Result<()> {
        if size == self.size.get() {
            return Ok(());
        }
        let whole = rounded(size)?;
        if size == 0 && !self.is_shared() {
            drop(self.state.replace(State::Empty));
        } else if !self.is_empty() || size > 0 {
            let memory = self.memory()?;
            if size < self.size.get() {
                // Cut at the byte, so that what is left of the last page becomes zero.
                memory.resize(size)?;
            }
            memory.resize(whole)?;
        }
        self.size.set(size);
        Ok(())
    }

    /// Makes a range read as zero and gives its pages back (`FALLOC_FL_PUNCH_HOLE`); the size stays.
    pub fn punch_hole(&self, offset: u64, length: u64) -> Result<()> {
        let end = offset.saturating_add(length).min(self.size.get());
        if offset >= end || self.is_empty() {
            return Ok(());
        }
        let memory = self.memory()?;
        let (first, last) = (offset.next_multiple_of(PAGE_SIZE), end / PAGE_SIZE * PAGE_SIZE);
        const ZEROES: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
        let zero = |from: u64, to: u64| {
            let length = to.saturating_sub(from).min(PAGE_SIZE) as usize;
            memory.write(from, ZEROES.get(..length).unwrap_or_default());
        };
        if first > last {
            zero(offset, end);
            return Ok(());
        }
        zero(offset, first);
        memory.discard(first, last - first);
        zero(last, end);
        Ok(())
    }

    /// Whether somebody else (a mapping, a running program) may hold the memory.
    fn is_shared(&self) -> bool {
        match &*self.state.borrow() {
            State::Present(_) => true,
            State::Empty | State::Deferred(_) => false,
        }
    }

    fn is_empty(&self) -> bool {
        match &*self.state.borrow() {
            State::Empty => true,
            State::Deferred(_) | State::Present(_) => false,
        }
    }

    /// Counts somebody who writes. `ETXTBSY` while it is being run.
    pub fn begin_write(&self) -> Result<()> {
        self.count(1, Errno::ETXTBSY)
    }

    /// Takes that back.
    pub fn end_write(&self) {
        self.writers.set(self.writers.get().saturating_sub(1));
    }

    /// Counts somebody who runs it. `ETXTBSY` while it is open for writing.
    pub fn begin_run(&self) -> Result<()> {
        self.count(-1, Errno::ETXTBSY)
    }

    /// Takes that back.
    pub fn end_run(&self) {
        self.writers.set(self.writers.get().saturating_add(1));
    }

    fn count(&self, by: i64, refusal: Errno) -> Result<()> {
        let now = self.writers.get();
        if now.signum() == -by {
            return Err(refusal);
        }
        self.writers.set(now.saturating_add(by));
        Ok(())
    }
}

fn rounded(size: u64) -> Result<u64> {
    if size > MAX_SIZE_BYTES { Err(Errno::EFBIG) } else { Ok(size.next_multiple_of(PAGE_SIZE)) }
}

fn no_space(errno: Errno) -> Errno {
    if errno == Errno::ENOMEM { Errno::ENOSPC } else { errno }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::file::io::{SliceDestination, SliceSource};
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn write(content: &Content, position: u64, bytes: &[u8]) -> Result<usize> {
        content.write(position, &mut SliceSource::new(bytes))
    }

    fn read(content: &Content, position: u64, length: usize) -> Vec<u8> {
        let mut buffer = vec![0; length];
        let mut to = SliceDestination::new(&mut buffer);
        content.read(position, &mut to).unwrap();
        to.filled().to_vec()
    }

    #[test]
    fn a_running_file_is_not_written_and_a_written_one_not_run() {
        let content = Content::empty();
        content.begin_run().unwrap();
        assert_eq!(content.begin_write(), Err(Errno::ETXTBSY));
        content.end_run();
        content.begin_write().unwrap();
        assert_eq!(content.begin_run(), Err(Errno::ETXTBSY));
    }

    #[test]
    fn a_write_past_the_largest_size_is_efbig() {
        assert_eq!(write(&Content::empty(), MAX_SIZE_BYTES, b"x"), Err(Errno::EFBIG));
    }

    #[test]
    fn deferred_content_is_made_once_and_can_be_changed() {
        let content = Content::deferred(
            5,
            Box::new(|| {
                let memory = Memory::create(PAGE_SIZE)?;
                memory.write(0, b"hello");
                Ok(memory)
            }),
        );
        assert_eq!(content.size(), 5);
        write(&content, 5, b" world").unwrap();
        assert_eq!(read(&content, 0, 100), b"hello world");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, usize),
        Truncate(u64),
        Punch(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u64..20_000, 0usize..9_000).prop_map(|(position, length)| Step::Write(position, length)),
            (0u64..20_000).prop_map(Step::Truncate),
            (0u64..20_000, 0u64..9_000).prop_map(|(offset, length)| Step::Punch(offset, length)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn content_behaves_like_a_vector(steps in proptest::collection::vec(step(), 1..30)) {
            let content = Content::empty();
            let mut model: Vec<u8> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Write(position, length) => {
                        let bytes = vec![number as u8 + 1; length];
                        prop_assert_eq!(write(&content, position, &bytes), Ok(length));
                        if length > 0 {
                            let end = position as usize + length;
                            model.resize(model.len().max(end), 0);
                            model[position as usize..end].copy_from_slice(&bytes);
                        }
                    }
                    Step::Truncate(size) => {
                        content.set_size(size).unwrap();
                        model.resize(size as usize, 0);
                    }
                    Step::Punch(offset, length) => {
                        content.punch_hole(offset, length).unwrap();
                        let end = ((offset + length) as usize).min(model.len());
                        if (offset as usize) < end { model[offset as usize..end].fill(0); }
                    }
                }
                prop_assert_eq!(read(&content, 0, 100_000), model.clone());
            }
        }
    }
}
