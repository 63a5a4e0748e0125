//! Address spaces of processes: the server's list of areas, and the kernel's space, changed together.

pub mod areas;
pub mod blocks;
mod carried;
mod force;
mod gaps;
mod locks;
mod map;
mod remap;
mod segments;

pub use areas::{Area, Areas, Content, Lock, MappedFile};
pub use blocks::{Block, BlockPool};
pub use locks::Locked;
pub use map::{MapRequest, Placement};
pub(crate) use map::{change_for, check_commitment};
pub use remap::{GrowthLimits, RemapTarget};

use crate::errno::{Errno, Result};
use crate::fs::Inode;
use crate::platform::{Account, Change, PAGE_SIZE, Protection, Sharing, Space};
use crate::process::Pid;
use crate::user::USER_END;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// The lowest address that a program can map (`vm.mmap_min_addr`).
pub const USER_START: u64 = 0x1_0000;
/// Where the shim is mapped.
pub const SHIM_BASE: u64 = 0x7fff_f000_0000;
/// Where the table of the files is that a process serves itself. Clones inherit neither it, nor what follows, nor the blocks: they are
/// in page tables with nothing else.
pub(crate) const FILE_TABLE: u64 = 0x7fff_f0a0_0000;
/// Where the pages of pipes are that a process serves itself, one each; 64 of them.
pub(crate) const RING_PAGES: u64 = FILE_TABLE + 0x1_0000;
/// Where the blocks of the threads are, one page each: so near that the first ones share a page table with that.
const BLOCKS_BASE: u64 = FILE_TABLE + 0x5_0000;
/// Where those files are mapped, below the shim.
pub(crate) const FILE_WINDOWS: u64 = USER_END;
/// How many threads can share a space.
const MAX_BLOCKS: usize = 4096;
/// How many areas a space can have (`vm.max_map_count`).
pub const MAX_AREAS: usize = 65530;

/// Writes all of `bytes`, or it is `EFAULT`.
pub fn write_all(space: &Space, address: u64, bytes: &[u8]) -> Result<()> {
    if space.write(address, bytes) == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Rounds up to whole pages; `None` if there is no such number.
pub fn page_up(length: u64) -> Option<u64> {
    length.checked_next_multiple_of(PAGE_SIZE)
}

/// A file that is being run, and so can't be written.
pub struct Running(Rc<Inode>);

impl Running {
    /// Notes that a file is run. `ETXTBSY` while it is open for writing.
    pub fn new(inode: &Rc<Inode>) -> Result<Self> {
        if let Some(content) = inode.content() {
            content.begin_run()?;
        }
        Ok(Self(inode.clone()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(content) = self.0.content() {
            content.end_run();
        }
    }
}

/// Where a new space puts things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where the heap begins.
    pub heap_start: u64,
    /// The end of what `mmap` chooses from; it goes down from here.
    pub map_end: u64,
}

/// The address space of one or several processes (`vfork`, `clone`).
pub struct Vm {
    space: Space,
    account: Account,
    areas: RefCell<Areas>,
    layout: Layout,
    heap_end: Cell<u64>,
    pool: Rc<BlockPool>,
    /// The blocks that are mapped, each at its place.
    blocks: RefCell<Vec<Option<Rc<Block>>>>,
    /// Which of the processes that share the space has the table of files in it; 0 if none.
    shared_zone: Cell<Pid>,
    running: RefCell<Option<Rc<Running>>>,
    /// Whether shared memory of System V was ever attached.
    has_segments: Cell<bool>,
    /// What becomes of areas that are mapped (`MCL_FUTURE`).
    future_lock: Cell<Lock>,
    /// Contexts of asynchronous I/O, by the addresses that name them.
    pub(crate) contexts: RefCell<BTreeMap<u64, Rc<crate::event::aio::Context>>>,
    _alive: crate::census::counted::Vm,
}

impl Vm {
    /// A space that the caller has filled with these areas. Blocks of its threads come from the pool.
    pub fn new(
        space: Space,
        account: &Account,
        areas: Areas,
        layout: Layout,
        running: Option<Rc<Running>>,
        pool: &Rc<BlockPool>,
    ) -> Self {
        Self {
            _alive: Default::default(),
            space,
            account: account.clone(),
            areas: RefCell::new(areas),
            layout,
            heap_end: Cell::new(layout.heap_start),
            pool: pool.clone(),
            blocks: RefCell::new(Vec::new()),
            shared_zone: Cell::new(0),
            running: RefCell::new(running),
            has_segments: Cell::new(false),
            future_lock: Cell::default(),
            contexts: RefCell::default(),
        }
    }

    /// The kernel's space.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// The areas, ascending.
    pub fn areas(&self) -> Vec<Area> {
        self.areas.borrow().iter().cloned().collect()
    }

    /// Bytes in all areas.
    pub fn virtual_bytes(&self) -> u64 {
        self.areas.borrow().total_bytes()
    }

    /// The areas in a range, cut to it.
    pub fn areas_in(&self, start: u64, end: u64) -> Vec<Area> {
        self.areas.borrow().in_range(start, end)
    }

    /// The area that an address is in.
    pub fn area_at(&self, address: u64) -> Option<Area> {
        self.areas.borrow().at(address).cloned()
    }

    /// A copy for a child process: shared areas are shared, private ones copied on write. With it the block of the child's first
    /// thread, at the address where the parent has one. `EAGAIN`, `ENOMEM`.
    pub fn fork(&self, account: &Account, block: u64) -> Result<(Self, Rc<Block>)> {
        let block = self.pool.take(block)?;
        let space = Space::create(account)?;
        space.commit(&[Change::Clone(&self.space), block.mapping()])?;
        let mut blocks = Vec::new();
        let index = place_of(block.address());
        blocks.resize_with(index, || None);
        blocks.push(Some(block.clone()));
        let mut areas = self.areas.borrow().clone();
        areas.unlock_all();
        let areas = if self.has_segments.get() { segments::inherited(areas)? } else { areas };
        let vm = Self {
            _alive: Default::default(),
            space,
            account: account.clone(),
            areas: RefCell::new(areas),
            layout: self.layout,
            heap_end: self.heap_end.clone(),
            pool: self.pool.clone(),
            blocks: RefCell::new(blocks),
            shared_zone: Cell::new(0),
            running: RefCell::new(self.running.borrow().clone()),
            has_segments: self.has_segments.clone(),
            future_lock: Cell::default(),
            contexts: RefCell::default(),
        };
        Ok((vm, block))
    }

    /// The block of a new thread. `EAGAIN` if there are too many, `ENOMEM`.
    pub fn allocate_block(&self) -> Result<Rc<Block>> {
        let mut blocks = self.blocks.borrow_mut();
        let index = blocks.iter().position(Option::is_none).unwrap_or(blocks.len());
        if index >= MAX_BLOCKS {
            return Err(Errno::EAGAIN);
        }
        let block = self.pool.take(BLOCKS_BASE + index as u64 * PAGE_SIZE)?;
        self.space.commit(&[block.mapping()])?;
        match blocks.get_mut(index) {
            Some(place) => *place = Some(block.clone()),
            None => blocks.push(Some(block.clone())),
        }
        Ok(block)
    }

    /// Takes a thread's block back.
    pub fn free_block(&self, block: &Block) {
        let taken = self.blocks.borrow_mut().get_mut(place_of(block.address())).and_then(Option::take);
        let unmapped = self.space.commit(&[Change::Unmap { address: block.address(), length: PAGE_SIZE }]);
        if unmapped.is_err() {
            // Whoever has the space could write to it: nobody else may get it.
            core::mem::forget(taken);
        }
    }

    /// Moves the end of the heap; returns where it is then, which is where it was if it can't be moved (`brk(2)`).
    ///
    /// `data_limit` (`RLIMIT_DATA`) holds for the heap, `space_limit` (`RLIMIT_AS`) for all areas, `lock_limit` (`RLIMIT_MEMLOCK`)
    /// for those that are locked; all in bytes.
    pub fn set_break(&self, wanted: u64, data_limit: u64, space_limit: u64, lock_limit: u64) -> u64 {
        let old = self.heap_end.get();
        if wanted < self.layout.heap_start || wanted > USER_END || wanted - self.layout.heap_start > data_limit {
            return old;
        }
        let (Some(old_page), Some(new_page)) = (page_up(old), page_up(wanted)) else { return old };
        let changed = if new_page > old_page {
            self.grow_heap(old_page, new_page, space_limit, lock_limit)
        } else if new_page < old_page {
            self.unmap(new_page, old_page - new_page)
        } else {
            Ok(())
        };
        if changed.is_ok() {
            self.heap_end.set(wanted);
        }
        self.heap_end.get()
    }

    fn grow_heap(&self, start: u64, end: u64, space_limit: u64, lock_limit: u64) -> Result<()> {
        if self.virtual_bytes().saturating_add(end - start) > space_limit {
            return Err(Errno::ENOMEM);
        }
        // A page of distance to what follows, as Linux keeps it.
        if !self.areas.borrow().is_free(start, end + PAGE_SIZE) {
            return Err(Errno::ENOMEM);
        }
        check_commitment(end - start)?;
        self.check_lockable(end - start, self.future_lock(), lock_limit)?;
        let area = Area {
            start,
            end,
            protection: Protection::READ | Protection::WRITE,
            allowed: Protection::all(),
            sharing: Sharing::Private,
            lock: self.future_lock(),
            content: Content::Heap,
        };
        self.space.commit(&[map::change_for(&area)])?;
        self.areas.borrow_mut().insert(area);
        Ok(())
    }

    /// Checks that a range is one that a program can name and that it has no holes; returns its end. `EINVAL`, `ENOMEM`.
    pub fn check_covered(&self, address: u64, length: u64) -> Result<u64> {
        let end = self.checked_end(address, length)?;
        if length == 0 || self.areas.borrow().is_covered(address, end) { Ok(end) } else { Err(Errno::ENOMEM) }
    }

    /// How much of a range lies before its first hole, in bytes. `EINVAL`, `ENOMEM` as for [`Self::check_covered`].
    pub fn covered_part(&self, address: u64, length: u64) -> Result<u64> {
        let end = self.checked_end(address, length)?;
        let areas = self.areas.borrow();
        let mut at = address;
        for area in areas.in_range(address, end) {
            if area.start != at {
                break;
            }
            at = area.end;
        }
        Ok(at - address)
    }

    /// The end of a range that begins at a page. `EINVAL` if it does not, `ENOMEM` if it wraps or leaves the user's part.
    fn checked_end(&self, address: u64, length: u64) -> Result<u64> {
        if !address.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        if length == 0 {
            return Ok(address);
        }
        let end = page_up(length).and_then(|length| address.checked_add(length));
        end.filter(|end| *end <= USER_END).ok_or(Errno::ENOMEM)
    }

    /// Forgets the private pages of a range: it reads as its file, or zero, again (`MADV_DONTNEED`). `EINVAL`, also if it is
    /// locked and that was to be looked at; `ENOMEM`.
    pub fn discard(&self, address: u64, length: u64, locked: Locked) -> Result<()> {
        let end = self.checked_end(address, length)?;
        // As on Linux, a hole is an error, but what lies around it is done.
        let parts = self.areas.borrow().in_range(address, end);
        for part in &parts {
            if locked == Locked::Refused && part.lock != Lock::None {
                return Err(Errno::EINVAL);
            }
            self.space.commit(&[Change::Discard { address: part.start, length: part.length() }])?;
        }
        let covered: u64 = parts.iter().map(Area::length).sum();
        if covered == end - address { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Lets a process have the table of files in the space. False: another one has it.
    pub(crate) fn take_shared_zone(&self, owner: Pid) -> bool {
        if self.shared_zone.get() == 0 {
            self.shared_zone.set(owner);
        }
        self.shared_zone.get() == owner
    }

    /// The budget that pays for the space.
    pub fn account(&self) -> &Account {
        &self.account
    }
}

impl Drop for Vm {
    /// The threads that ran here have been told to end, but one may not have stopped yet: its block is unmapped before it goes
    /// back to the pool.
    fn drop(&mut self) {
        let blocks = self.blocks.take();
        if blocks.iter().all(Option::is_none) {
            return;
        }
        let length = blocks.len() as u64 * PAGE_SIZE;
        let unmapped = self.space.commit(&[Change::Unmap { address: BLOCKS_BASE, length }]);
        if unmapped.is_err() {
            core::mem::forget(blocks);
        }
    }
}

/// Which of the blocks of a space is at an address.
fn place_of(address: u64) -> usize {
    ((address - BLOCKS_BASE) / PAGE_SIZE) as usize
}
