//! The content of regular files: memory objects.
//!
//! A file's memory is what programs map and what `read` and `write` copy from and to, so that there is only one copy of each
//! byte. It is made when it is first needed; a file of the boot archive becomes a copy-on-write view of its part of the
//! archive then. The memory's size is the file's, rounded up to pages: a mapping shows zeroes up to the end of the last page,
//! and faults beyond, as Linux says.

use crate::errno::{Errno, Result};
use crate::file::io::moved_or_fault;
use crate::file::{Destination, Source};
use crate::fs::paged::PageSource;
use crate::platform::{Account, Memory, PAGE_SIZE};
use crate::shared::Readers;
use alloc::boxed::Box;
use alloc::rc::Rc;
use bitflags::bitflags;
use core::cell::{Cell, RefCell};
use linux_raw_sys::general as linux;

/// Sizes and offsets are not larger (`MAX_LFS_FILESIZE`): what fits a signed 64-bit offset.
pub const MAX_SIZE_BYTES: u64 = i64::MAX as u64;

/// The unit of `st_blocks`, in bytes.
const BLOCK_BYTES: u64 = 512;

bitflags! {
    /// What can't be done with a file any more (`fcntl(2)`, `F_ADD_SEALS`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Seals: u32 {
        /// Adding seals.
        const SEAL = linux::F_SEAL_SEAL;
        /// Making it smaller.
        const SHRINK = linux::F_SEAL_SHRINK;
        /// Making it larger.
        const GROW = linux::F_SEAL_GROW;
        /// Changing what is in it.
        const WRITE = linux::F_SEAL_WRITE;
        /// The same, but by mappings that are there already.
        const FUTURE_WRITE = linux::F_SEAL_FUTURE_WRITE;
        /// Changing whether it can be run.
        const EXECUTE = linux::F_SEAL_EXEC;
    }
}

impl Seals {
    /// Those that forbid `write`, and mappings that store.
    const NO_WRITE: Self = Self::WRITE.union(Self::FUTURE_WRITE);
    /// All that freezes a file which can't be made executable any more, nor less.
    const FROZEN: Self = Self::SHRINK.union(Self::GROW).union(Self::NO_WRITE);
}

/// A mapping through which a file can be changed; counted as long as it lives.
pub struct WritableMapping(Rc<Cell<u64>>);

impl Drop for WritableMapping {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

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
    seals: Cell<Seals>,
    /// How many mappings can store to it.
    writable_mappings: Rc<Cell<u64>>,
    /// What lies below this was there from the start, and counts as data.
    given_bytes: Cell<u64>,
    /// Above zero: open for writing so many times. Below: being run so many times, and then not to be written.
    writers: Cell<i64>,
    readers: Readers,
    /// What has the pages, if they may be elsewhere than in memory.
    paged: Option<Box<dyn PageSource>>,
    /// A length of the memory, in bytes, at which each page had its frame. Nothing but a change of size or a hole takes one away.
    whole_bytes: Cell<u64>,
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
        Self {
            size: Cell::new(size),
            state: RefCell::new(state),
            payer: RefCell::default(),
            seals: Cell::new(Seals::SEAL),
            writable_mappings: Rc::default(),
            given_bytes: Cell::new(size),
            writers: Cell::new(0),
            readers: Readers::default(),
            paged: None,
            whole_bytes: Cell::new(0),
        }
    }

    /// A file of `size` bytes whose pages a pager has.
    pub fn paged(file: Box<dyn PageSource>, size: u64) -> Self {
        Self { paged: Some(file), size: Cell::new(size), ..Self::empty() }
    }

    /// What is to be done with the pages of a file that a pager has.
    pub fn paged_file(&self) -> Option<&dyn PageSource> {
        self.paged.as_deref()
    }

    /// The largest size in bytes.
    fn max_bytes(&self) -> u64 {
        self.paged.as_ref().map_or(MAX_SIZE_BYTES, |paged| paged.max_bytes())
    }

    /// Has an account pay for the memory, once there is one.
    pub fn set_payer(&self, payer: Account) {
        self.payer.replace(Some(payer));
    }

    /// The processes that read it themselves.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Whether it can be read through a mapping as well as by a call. A hole in a file in memory can't: it would take memory. A page of a
    /// file on a disk is waited for in either case, holes come from the pager as others do, and that is trusted as far as for a call.
    pub fn can_be_read_in_place(&self) -> bool {
        match &self.paged {
            Some(paged) => paged.on_disk().is_some(),
            None => self.has_no_holes(),
        }
    }

    /// Whether a store to it needs nothing that could be refused: no room, no leave that can be taken back.
    pub fn can_be_stored_in_place(&self) -> bool {
        let seals = self.seals.get();
        let is_settled = seals.contains(Seals::SEAL) && !seals.intersects(Seals::NO_WRITE);
        let is_whole = match &self.paged {
            Some(paged) => paged.can_be_stored_in_place(self.size.get()),
            None => self.has_no_holes(),
        };
        self.size.get() > 0 && is_settled && is_whole
    }

    /// Whether each of the pages of a file in memory has its frame.
    fn has_no_holes(&self) -> bool {
        match &*self.state.borrow() {
            State::Empty | State::Deferred(_) => false,
            State::Present(memory) => self.resident_pages(memory) >= memory.len_bytes() / PAGE_SIZE,
        }
    }

    /// Pages of the memory that have frames. The kernel is not asked about a file that is known to be whole.
    fn resident_pages(&self, memory: &Memory) -> u64 {
        let len_bytes = memory.len_bytes();
        if len_bytes == self.whole_bytes.get() {
            return len_bytes / PAGE_SIZE;
        }
        let resident = memory.resident_pages();
        if resident >= len_bytes / PAGE_SIZE {
            self.whole_bytes.set(len_bytes);
        }
        resident
    }

    /// The size in bytes.
    pub fn size(&self) -> u64 {
        self.size.get()
    }

    /// The size of what is stored, in blocks of 512 bytes.
    pub fn blocks(&self) -> u64 {
        if let Some(paged) = &self.paged {
            return paged.blocks(self.size.get());
        }
        match &*self.state.borrow() {
            State::Empty => 0,
            State::Deferred(_) => self.size.get().div_ceil(PAGE_SIZE) * (PAGE_SIZE / BLOCK_BYTES),
            State::Present(memory) => self.resident_pages(memory) * (PAGE_SIZE / BLOCK_BYTES),
        }
    }

    /// The memory, to be mapped or run. `ENOMEM`.
    pub fn memory(&self) -> Result<Memory> {
        let made = match &*self.state.borrow() {
            State::Present(memory) => return Ok(memory.clone()),
            State::Empty if let Some(paged) = &self.paged => paged.make_memory(rounded(self.size.get())?)?,
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
        let room = self.max_bytes().checked_sub(position).filter(|room| *room > 0).ok_or(Errno::EFBIG)?;
        let length = room.min(from.remaining() as u64) as usize;
        let length = self.unsealed_length(position, length)?;
        let memory = self.memory()?;
        if let Some(paged) = &self.paged {
            paged.before_write(position, length as u64)?;
        }
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
        self.set_grown(size);
        moved.and_then(moved_or_fault)
    }

    /// The file has this size now, which is not less than before.
    fn set_grown(&self, size: u64) {
        let before = self.size.replace(size);
        if let Some(paged) = self.paged.as_ref().filter(|_| size > before) {
            paged.grown(before, size);
        }
    }

    /// How much of a write the seals let pass: up to the end of the last page that is there. `EPERM` if nothing.
    fn unsealed_length(&self, position: u64, length: usize) -> Result<usize> {
        let seals = self.seals.get();
        if seals.intersects(Seals::NO_WRITE) {
            return Err(Errno::EPERM);
        }
        let size = self.size.get();
        if !seals.contains(Seals::GROW) || position + length as u64 <= size {
            return Ok(length);
        }
        let whole = (size / PAGE_SIZE * PAGE_SIZE).saturating_sub(position);
        if whole == 0 { Err(Errno::EPERM) } else { Ok(whole as usize) }
    }

    /// What can't be done any more.
    pub fn seals(&self) -> Seals {
        self.seals.get()
    }

    /// Sets that, for a new file. Others can't be sealed.
    pub fn set_seals(&self, seals: Seals) {
        self.seals.set(seals);
    }

    /// Forbids more. `EPERM` if nothing may be added; `EBUSY` if somebody has mapped what is to become unchangeable.
    pub fn add_seals(&self, added: Seals, is_executable: bool) -> Result<()> {
        let seals = self.seals.get();
        if seals.contains(Seals::SEAL) {
            return Err(Errno::EPERM);
        }
        let added = if added.contains(Seals::EXECUTE) && is_executable { added | Seals::FROZEN } else { added };
        let freezes = added.contains(Seals::WRITE) && !seals.contains(Seals::WRITE);
        if freezes && self.writable_mappings.get() > 0 {
            return Err(Errno::EBUSY);
        }
        self.seals.set(seals | added);
        Ok(())
    }

    /// Whether the permissions may change so. `EPERM` if it is sealed who may run it.
    pub fn check_permissions(&self, old: u32, new: u32) -> Result<()> {
        const ANY_EXECUTE: u32 = 0o111;
        let changes = (old ^ new) & ANY_EXECUTE != 0;
        if changes && self.seals.get().contains(Seals::EXECUTE) { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Whether a shared mapping may ever store. `EPERM` if it wants to now and may not.
    pub fn allows_stores(&self, wanted: bool) -> Result<bool> {
        let allowed = !self.seals.get().intersects(Seals::NO_WRITE);
        if wanted && !allowed { Err(Errno::EPERM) } else { Ok(allowed) }
    }

    /// Counts a mapping that can store.
    pub fn begin_writable_mapping(&self) -> WritableMapping {
        if let Some(paged) = &self.paged {
            paged.mapped_to_store();
        }
        self.writable_mappings.set(self.writable_mappings.get().saturating_add(1));
        WritableMapping(self.writable_mappings.clone())
    }

    /// Whether somebody can store to it without a call.
    pub fn is_mapped_to_store(&self) -> bool {
        self.writable_mappings.get() > 0
    }

    /// Changes the size: cuts off, or adds zeroes. `EFBIG`; `EPERM` if it is sealed.
    pub fn set_size(&self, size: u64) -> Result<()> {
        if size == self.size.get() {
            self.paged.iter().for_each(|paged| paged.cut_spare());
            return Ok(());
        }
        let seal = if size < self.size.get() { Seals::SHRINK } else { Seals::GROW };
        if self.seals.get().contains(seal) {
            return Err(Errno::EPERM);
        }
        let whole = rounded(size)?;
        if size > self.max_bytes() {
            return Err(Errno::EFBIG);
        }
        // Nobody may store to what is cut off, nor behind the new end.
        self.readers.revoke();
        self.whole_bytes.set(0);
        self.given_bytes.set(self.given_bytes.get().min(size));
        if size == 0 && !self.is_shared() {
            drop(self.state.replace(State::Empty));
            if let Some(paged) = &self.paged {
                paged.cut(0);
            }
        } else if !self.is_empty() || size > 0 {
            let memory = self.memory()?;
            if size < self.size.get() {
                if let Some(paged) = &self.paged {
                    clear_last_page(&memory, size)?;
                    paged.cut(size);
                }
                // Cut at the byte, so that what is left of the last page becomes zero.
                memory.resize(size)?;
            }
            memory.resize(whole)?;
        }
        let before = self.size.get();
        if let Some(paged) = self.paged.as_ref().filter(|_| size > before) {
            paged.extended(before, size);
        }
        self.size.set(size);
        Ok(())
    }

    /// Stores zeros in a range of a file that a pager has, as far as the file goes; says how many. `ENOSPC`, `EIO`; and an error if the
    /// first page is not there.
    pub fn store_zeros(&self, offset: u64, length: u64) -> Result<u64> {
        static ZEROES: [u8; 16 * PAGE_SIZE as usize] = [0; 16 * PAGE_SIZE as usize];
        let length = length.min(self.size.get().saturating_sub(offset)).min(ZEROES.len() as u64);
        let zeroes = ZEROES.get(..length as usize).unwrap_or_default();
        let memory = self.memory()?;
        if let Some(paged) = &self.paged {
            paged.before_write(offset, length)?;
        }
        match memory.write(offset, zeroes) as u64 {
            0 if length > 0 => Err(Errno::EIO),
            stored => Ok(stored),
        }
    }

    /// Makes a range read as zero and gives its pages back (`FALLOC_FL_PUNCH_HOLE`); the size stays.
    pub fn punch_hole(&self, offset: u64, length: u64) -> Result<()> {
        if self.seals.get().intersects(Seals::NO_WRITE) {
            return Err(Errno::EPERM);
        }
        if self.paged.is_some() {
            return Err(Errno::EOPNOTSUPP);
        }
        let end = offset.saturating_add(length).min(self.size.get());
        if offset >= end || self.is_empty() {
            return Ok(());
        }
        let memory = self.memory()?;
        // A page that goes must not come back without a call, by a load or a store of somebody's shim.
        self.readers.revoke();
        self.whole_bytes.set(0);
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

    /// Gives memory to all pages of a range that have none, as far as the file goes. `ENOSPC`; what was given stays.
    pub fn allocate(&self, offset: u64, length: u64) -> Result<()> {
        if self.paged.is_some() {
            // The store has no room to promise.
            return Ok(());
        }
        let memory = self.memory()?;
        let start = offset / PAGE_SIZE * PAGE_SIZE;
        let end = rounded(offset.saturating_add(length))?.min(memory.len_bytes());
        if start < end { fill_holes(&memory, start, end - start) } else { Ok(()) }
    }

    /// The next byte from `offset` on that is (or is not) data, in pages. `ENXIO` if there is none before the end; the end
    /// of the file counts as a hole.
    pub fn seek(&self, offset: u64, sought: Sought) -> Result<u64> {
        let size = self.size.get();
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        if let Some(paged) = &self.paged {
            return paged.seek(offset, size, sought);
        }
        let found = if offset < self.given_bytes.get().min(size) {
            match sought {
                Sought::Data => return Ok(offset),
                Sought::Hole => self.given_bytes.get().min(size).next_multiple_of(PAGE_SIZE),
            }
        } else {
            offset
        };
        let found = self.next_page(found, rounded(size)?, sought)?.max(offset);
        match sought {
            Sought::Data if found >= size => Err(Errno::ENXIO),
            Sought::Data => Ok(found),
            Sought::Hole => Ok(found.min(size)),
        }
    }

    /// The first page from the one of `offset` on that has memory, or has none; `end` if there is none before.
    fn next_page(&self, offset: u64, end: u64, sought: Sought) -> Result<u64> {
        let State::Present(memory) = &*self.state.borrow() else {
            return Ok(if sought == Sought::Hole { offset } else { end });
        };
        let mut from = offset / PAGE_SIZE * PAGE_SIZE;
        let mut length = PAGE_SIZE;
        // The longest run that has nothing of what is sought, by doubling and halving.
        let mut grows = true;
        while from < end {
            length = length.min(end - from);
            let resident = memory.resident_pages_in(from, length)?;
            let none = match sought {
                Sought::Data => resident == 0,
                Sought::Hole => resident == length / PAGE_SIZE,
            };
            match (none, length) {
                (true, _) => {
                    from += length;
                    length = if grows { length.saturating_mul(2) } else { length };
                }
                (false, PAGE_SIZE) => return Ok(from),
                (false, _) => {
                    grows = false;
                    length = (length / PAGE_SIZE).div_ceil(2) * PAGE_SIZE;
                }
            }
        }
        Ok(end)
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

/// What `lseek` looks for in a file with holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// A page that has memory.
    Data,
    /// One that has none.
    Hole,
}

/// Writes zeroes to the pages of a range that have no memory: ranges that have some are halved until they have all or none.
fn fill_holes(memory: &Memory, offset: u64, length: u64) -> Result<()> {
    static ZEROES: [u8; 16 * PAGE_SIZE as usize] = [0; 16 * PAGE_SIZE as usize];
    let mut open = alloc::vec::Vec::from([(offset, length)]);
    while let Some((offset, length)) = open.pop() {
        let resident = memory.resident_pages_in(offset, length)?;
        if resident == length / PAGE_SIZE {
            continue;
        }
        if resident == 0 && length <= ZEROES.len() as u64 {
            let zeroes = ZEROES.get(..length as usize).unwrap_or_default();
            if memory.write(offset, zeroes) < zeroes.len() {
                return Err(Errno::ENOSPC);
            }
            continue;
        }
        let half = (length / PAGE_SIZE).div_ceil(2) * PAGE_SIZE;
        open.push((offset + half, length - half));
        open.push((offset, half));
    }
    Ok(())
}

/// Makes what will be left of the last page zeros. It must be there for that: a pager that is asked for it later has still the bytes
/// that are cut off. `EIO`.
fn clear_last_page(memory: &Memory, size: u64) -> Result<()> {
    const ZEROES: [u8; PAGE_SIZE as usize] = [0; PAGE_SIZE as usize];
    let rest = (size.next_multiple_of(PAGE_SIZE) - size) as usize;
    let zeroes = ZEROES.get(..rest).unwrap_or_default();
    if memory.write(size, zeroes) < rest { Err(Errno::EIO) } else { Ok(()) }
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
