//! The blocks of threads (`posix_protocol::shim::ThreadBlock`): pages that a program and the server both have mapped (ADR 12).
//!
//! They are cut from chunks that the server keeps mapped, so that a thread costs it neither a mapping nor a memory. A page is
//! cleared before another thread gets it, and goes back only when it is unmapped where it was used: who has a page of the pool
//! mapped has it alone.

use super::carried::Call;
use crate::errno::{Errno, Result};
use crate::platform::{Backing, Change, Inherit, PAGE_SIZE, Protection, SharedPages, Sharing};
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::mem::offset_of;
use posix_protocol::shim::{BLOCK_BYTES, Context, LocalAnswers, ThreadBlock};
use zerocopy::{FromZeros, IntoBytes};

const _: () = assert!(BLOCK_BYTES as u64 == PAGE_SIZE);

/// Pages of a chunk: one for each bit of [`Chunk::free`].
const CHUNK_PAGES: u32 = u32::BITS;
/// How many free pages of the whole pool keep their frames for the next threads.
const MAX_SPARE: u32 = 16;

/// Pages that are mapped into the server together.
struct Chunk {
    pages: SharedPages,
    /// Pages that nobody has.
    free: Cell<u32>,
    /// Pages that have a frame: only those can be touched without a fault that might have no answer.
    present: Cell<u32>,
    /// Pages that somebody had before.
    dirty: Cell<u32>,
}

impl Chunk {
    fn new() -> Result<Rc<Self>> {
        let pages = SharedPages::create(u64::from(CHUNK_PAGES))?;
        Ok(Rc::new(Self { pages, free: Cell::new(u32::MAX), present: Cell::new(0), dirty: Cell::new(0) }))
    }

    /// Makes a free page somebody's: it is there, and zero. `ENOMEM`.
    fn take(&self, index: u32) -> Result<()> {
        let bit = 1 << index;
        if self.present.get() & bit == 0 {
            // The first write goes through the kernel, which can refuse it.
            if self.pages.memory().write(u64::from(index) * PAGE_SIZE, &[0]) != 1 {
                return Err(Errno::ENOMEM);
            }
            self.present.set(self.present.get() | bit);
        }
        if self.dirty.get() & bit != 0 {
            self.pages.clear(index as usize * BLOCK_BYTES, BLOCK_BYTES);
        }
        self.dirty.set(self.dirty.get() | bit);
        self.free.set(self.free.get() & !bit);
        Ok(())
    }

    /// Free pages that have a frame.
    fn spare(&self) -> u32 {
        self.free.get() & self.present.get()
    }

    /// The free page to be used next: one that is there, if possible.
    fn next(&self) -> u32 {
        let spare = self.spare();
        if spare != 0 { spare.trailing_zeros() } else { self.free.get().trailing_zeros() }
    }

    /// Gives the frame of a page back that nobody has.
    fn discard(&self, index: u32) {
        self.pages.memory().discard(u64::from(index) * PAGE_SIZE, PAGE_SIZE);
        let kept = !(1 << index);
        self.present.set(self.present.get() & kept);
        self.dirty.set(self.dirty.get() & kept);
    }
}

/// The pages for all blocks.
#[derive(Default)]
pub struct BlockPool {
    /// Chunks with free pages; those without are kept by their blocks.
    with_room: RefCell<Vec<Rc<Chunk>>>,
    /// Free pages that have a frame, in all of them.
    spare: Cell<u32>,
}

impl BlockPool {
    /// A page for the block at `address` of some space, which reads as zero. `ENOMEM`.
    pub fn take(self: &Rc<Self>, address: u64) -> Result<Rc<Block>> {
        let last = self.with_room.borrow().last().cloned();
        let chunk = match last {
            Some(chunk) => chunk,
            None => {
                let chunk = Chunk::new()?;
                self.with_room.borrow_mut().push(chunk.clone());
                chunk
            }
        };
        let index = chunk.next();
        let was_spare = chunk.spare() >> index & 1;
        chunk.take(index)?;
        self.spare.set(self.spare.get() - was_spare);
        if chunk.free.get() == 0 {
            self.with_room.borrow_mut().pop();
        }
        Ok(Rc::new(Block {
            _alive: Default::default(),
            address,
            chunk,
            index,
            pool: Rc::downgrade(self),
            call: Call::default(),
        }))
    }

    /// Takes a page back. One chunk that is wholly free is kept for the next thread, and a few frames.
    fn give_back(&self, chunk: &Rc<Chunk>, index: u32) {
        if self.spare.get() < MAX_SPARE {
            self.spare.set(self.spare.get() + 1);
        } else {
            chunk.discard(index);
        }
        let before = chunk.free.get();
        chunk.free.set(before | 1 << index);
        let mut with_room = self.with_room.borrow_mut();
        if before == 0 {
            with_room.push(chunk.clone());
        }
        let is_unused = chunk.free.get() == u32::MAX;
        let is_other = |other: &Rc<Chunk>| other.free.get() == u32::MAX && !Rc::ptr_eq(other, chunk);
        if is_unused && with_room.iter().any(is_other) {
            with_room.retain(|other| !Rc::ptr_eq(other, chunk));
            self.spare.set(self.spare.get() - chunk.spare().count_ones());
        }
    }
}

/// A thread's block. What is in it the program can change at any time: nothing is believed, and each word is read once.
pub struct Block {
    address: u64,
    chunk: Rc<Chunk>,
    index: u32,
    pool: Weak<BlockPool>,
    /// What the call that is being made carries along.
    pub(super) call: Call,
    _alive: crate::census::counted::Block,
}

impl Block {
    /// Where the program has it.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The end of it, and so of the shim's stack.
    pub fn end(&self) -> u64 {
        self.address + PAGE_SIZE
    }

    /// The change that maps it.
    pub(super) fn mapping(&self) -> Change<'_> {
        Change::Map {
            address: self.address,
            length: PAGE_SIZE,
            backing: Backing::Memory(self.chunk.pages.memory(), u64::from(self.index) * PAGE_SIZE),
            sharing: Sharing::Shared,
            protection: Protection::READ | Protection::WRITE,
            inherit: Inherit::Nothing,
        }
    }

    /// Writes all fields of a block that is new.
    pub fn initialize(&self, channel: u32, context: &Context, local: &LocalAnswers) {
        let mut block = ThreadBlock::new_zeroed();
        block.address = self.address;
        block.stack_end = self.end();
        block.channel = u64::from(channel);
        block.context = *context;
        block.local = *local;
        self.write(0, block.as_bytes().get(..offset_of!(ThreadBlock, data)).unwrap_or_default());
    }

    /// The program's registers as its shim has saved them.
    pub fn context(&self) -> Context {
        let mut context = Context::new_zeroed();
        self.read(offset_of!(ThreadBlock, context), context.as_mut_bytes());
        context
    }

    /// Sets the registers that the shim loads on its way out.
    pub fn set_context(&self, context: &Context) {
        self.write(offset_of!(ThreadBlock, context), context.as_bytes());
    }

    /// Makes the shim ask before it goes back to the program, or not.
    pub fn set_pending(&self, pending: bool) {
        self.store(offset_of!(ThreadBlock, pending), u64::from(pending));
    }

    /// Writes what the shim may tell without asking.
    pub fn set_local_answers(&self, answers: &LocalAnswers) {
        self.write(offset_of!(ThreadBlock, local), answers.as_bytes());
    }

    /// Copies bytes of the block, of which the program may be changing some.
    #[inline]
    pub fn read(&self, offset: usize, buffer: &mut [u8]) {
        if offset + buffer.len() <= BLOCK_BYTES {
            self.chunk.pages.read(self.place(offset), buffer);
        }
    }

    /// Writes bytes to the block.
    #[inline]
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        if offset + bytes.len() <= BLOCK_BYTES {
            self.chunk.pages.write(self.place(offset), bytes);
        }
    }

    /// Reads a word of the block; the offset is that of a field.
    #[inline]
    pub fn load(&self, offset: usize) -> u64 {
        self.chunk.pages.load(self.place(offset))
    }

    /// Writes a word of the block; the offset is that of a field.
    #[inline]
    pub fn store(&self, offset: usize, word: u64) {
        self.chunk.pages.store(self.place(offset), word);
    }

    fn place(&self, offset: usize) -> usize {
        self.index as usize * BLOCK_BYTES + offset % BLOCK_BYTES
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.give_back(&self.chunk, self.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_empty_whoever_had_it() {
        let pool = Rc::new(BlockPool::default());
        let block = pool.take(0x1000).unwrap();
        block.write(BLOCK_BYTES - 8, &[1; 8]);
        let index = block.index;
        drop(block);
        let next = pool.take(0x1000).unwrap();
        assert_eq!((next.index, next.load(BLOCK_BYTES - 8)), (index, 0));
    }

    #[test]
    fn no_two_blocks_share_a_page() {
        let pool = Rc::new(BlockPool::default());
        let blocks: Vec<_> = (0..100).map(|_| pool.take(0x1000).unwrap()).collect();
        blocks.iter().zip(1..).for_each(|(block, mark)| block.store(0, mark));
        assert!(blocks.iter().zip(1..).all(|(block, mark)| block.load(0) == mark));
        assert_eq!(pool.with_room.borrow().len(), 1);
    }

    #[test]
    fn chunks_that_nobody_uses_go_but_for_one() {
        let pool = Rc::new(BlockPool::default());
        let mut blocks: Vec<_> = (0..5 * CHUNK_PAGES).map(|_| pool.take(0x1000).unwrap()).collect();
        assert_eq!(pool.with_room.borrow().len(), 0);
        blocks.truncate(CHUNK_PAGES as usize + 1);
        assert_eq!(pool.with_room.borrow().len(), 2, "one with free pages, one without a user");
        drop(blocks);
        assert_eq!(pool.with_room.borrow().len(), 1);
    }

    #[test]
    fn few_frames_stay_however_many_threads_there_were() {
        let pool = Rc::new(BlockPool::default());
        let count = || pool.with_room.borrow().iter().map(|chunk| chunk.spare().count_ones()).sum::<u32>();
        for threads in [1, 3 * CHUNK_PAGES, MAX_SPARE, 7 * CHUNK_PAGES + 5] {
            let mut blocks: Vec<_> = (0..threads).map(|_| pool.take(0x1000).unwrap()).collect();
            blocks.iter().for_each(|block| block.store(0, 1));
            // One long-lived thread among many.
            let last = blocks.pop();
            drop(blocks);
            assert_eq!(pool.spare.get(), count());
            assert!(count() <= MAX_SPARE);
            drop(last);
            assert_eq!(pool.spare.get(), count());
        }
        let blocks: Vec<_> = (0..CHUNK_PAGES).map(|_| pool.take(0x1000).unwrap()).collect();
        assert!(blocks.iter().all(|block| block.load(0) == 0), "pages that kept a frame, or not, are empty");
    }
}
