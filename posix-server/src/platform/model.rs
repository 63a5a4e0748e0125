//! The model of the machine that host tests run on: same types and methods as `native`, no kernel.

use super::model_paging::{Paging, note, note_space};
use super::{Access, Backing, Change, Ending, MachineMemory, PAGE_SIZE, Protection, Registers, Sharing};
use crate::errno::{Errno, Result};
use crate::wait::WaitQueue;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

type Page = Box<[u8; PAGE_SIZE as usize]>;

/// The largest memory the model makes; asking for more is `ENOMEM`, so that tests can exhaust it.
const MAX_MEMORY_BYTES: u64 = 1 << 46;

std::thread_local! {
    static NOW_NS: Cell<u64> = const { Cell::new(1) };
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
    static RANDOM: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
    static BOOT_UNIX_NS: Cell<u64> = const { Cell::new(1_700_000_000_000_000_000) };
    static ENDED: Cell<Option<Ending>> = const { Cell::new(None) };
}

/// Time since the machine's start, in ns.
pub fn now_ns() -> u64 {
    NOW_NS.get()
}

/// A counter for measuring how long something takes.
pub fn ticks() -> u64 {
    now_ns()
}

/// How long so many ticks are, in ns.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    ticks
}

/// Unix time in ns.
pub fn realtime_ns() -> u64 {
    BOOT_UNIX_NS.get() + now_ns()
}

/// Sets the Unix time of the machine's start, in ns, from which Unix time counts.
pub fn set_boot_unix_ns(boot_unix_ns: u64) {
    BOOT_UNIX_NS.set(boot_unix_ns);
}

/// Moves the model's clock on (tests only; each thread has its own clock).
pub fn advance_ns(by_ns: u64) {
    NOW_NS.set(now_ns() + by_ns);
}

/// Fills `buffer` with unpredictable bytes (here: a fixed sequence).
pub fn random(buffer: &mut [u8]) {
    for byte in buffer {
        let mut state = RANDOM.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        RANDOM.set(state);
        *byte = state as u8;
    }
}

/// Frames of the machine: total and free.
pub fn frames() -> (u64, u64) {
    (65536, 32768)
}

/// What the machine's memory is used for.
pub fn machine_memory() -> MachineMemory {
    let (total, free) = frames();
    MachineMemory {
        total,
        free,
        cached: 4096,
        unwritten: 256,
        writing: 64,
        swap_total: 8192,
        swap_used: 1024,
        swap_kept: 16,
        swapped_out: 2048,
        swapped_in: 1000,
    }
}

/// Frames of the machine, free or not.
pub fn total_frames() -> u64 {
    frames().0
}

/// What the server's account has used.
pub fn server_usage() -> super::Usage {
    super::Usage { frames_used: 32768, frames_limit: 65536, ..super::Usage::default() }
}

/// Gives memory back that is no longer in use (here: the host does so).
pub fn tidy() {}

/// The clock's parameters for the shim: counter base, multiplier, shift, Unix time of the start in ns.
pub fn clock_parameters() -> (u64, u64, u64, u64) {
    (0, 1, 0, BOOT_UNIX_NS.get())
}

/// How many processors run programs.
pub fn processors() -> u32 {
    1
}

/// The size of a thread's vector state in bytes.
pub fn vector_state_bytes() -> usize {
    576
}

/// Writes a line for the machine's operator (here: to nobody).
pub fn log(_line: &str) {}

/// Ends the machine (here: notes it).
pub fn shut_down(ending: Ending) {
    ENDED.set(Some(ending));
}

/// How the machine was ended, if it was.
pub fn ended() -> Option<Ending> {
    ENDED.get()
}

fn next_id() -> u64 {
    let id = NEXT_ID.get();
    NEXT_ID.set(id + 1);
    id
}

/// Splits [`offset`, +`length`) at page boundaries: page number, offset in the page, bytes.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset.saturating_add(length as u64);
    let mut at = offset;
    core::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let within = at % PAGE_SIZE;
        let count = (PAGE_SIZE - within).min(end - at);
        let piece = (at / PAGE_SIZE, within as usize, count as usize);
        at += count;
        Some(piece)
    })
}

fn read_page(pages: &BTreeMap<u64, Page>, page: u64, within: usize, out: &mut [u8]) {
    match pages.get(&page) {
        Some(bytes) => out.copy_from_slice(&bytes[within..within + out.len()]),
        None => out.fill(0),
    }
}

fn new_page() -> Page {
    Box::new([0; PAGE_SIZE as usize])
}

struct MemoryState {
    id: u64,
    len_bytes: Cell<u64>,
    pages: RefCell<BTreeMap<u64, Page>>,
    paging: Option<Rc<Paging>>,
}

/// A sized range of pages; a clone is the same memory.
#[derive(Clone)]
pub struct Memory(Rc<MemoryState>);

impl Memory {
    /// Makes a memory of `len_bytes`, which reads as zero; the server's budget for files pays. `ENOMEM`.
    pub fn create(len_bytes: u64) -> Result<Self> {
        Self::with_paging(len_bytes, None)
    }

    pub(super) fn with_paging(len_bytes: u64, paging: Option<Rc<Paging>>) -> Result<Self> {
        if len_bytes > MAX_MEMORY_BYTES {
            return Err(Errno::ENOMEM);
        }
        let state = MemoryState { id: next_id(), len_bytes: Cell::new(len_bytes), pages: RefCell::default(), paging };
        Ok(Self(Rc::new(state)))
    }

    pub(super) fn paging(&self) -> Option<&Paging> {
        self.0.paging.as_deref()
    }

    pub(super) fn fill_page(&self, page: u64, byte: u8) {
        self.0.pages.borrow_mut().insert(page, Box::new([byte; PAGE_SIZE as usize]));
    }

    /// Whether a page is not there; then that is noted.
    fn lacks(&self, page: u64, access: Access) -> bool {
        let lacks = self.paging().is_some_and(|paging| paging.is_absent(page));
        if lacks {
            note(self, page, access);
        }
        lacks
    }

    /// The same, paid by an account. `ENOMEM`.
    pub fn create_for(_account: &Account, len_bytes: u64) -> Result<Self> {
        Self::create(len_bytes)
    }

    /// The same, paid like the contents of file systems. `ENOMEM`.
    pub fn create_lasting(len_bytes: u64) -> Result<Self> {
        Self::create(len_bytes)
    }

    /// The size in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.0.len_bytes.get()
    }

    /// A number that is the same for all clones and for nothing else.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Changes the size; what is cut off reads as zero if it comes back. `ENOMEM`, `EFBIG`.
    pub fn resize(&self, len_bytes: u64) -> Result<()> {
        if len_bytes > MAX_MEMORY_BYTES {
            return Err(Errno::EFBIG);
        }
        let kept = len_bytes.min(self.len_bytes());
        if !kept.is_multiple_of(PAGE_SIZE) && self.lacks(kept / PAGE_SIZE, Access::Write) {
            return Err(Errno::EFAULT);
        }
        if let Some(paging) = self.paging() {
            paging.cut(len_bytes.div_ceil(PAGE_SIZE));
        }
        let mut pages = self.0.pages.borrow_mut();
        pages.split_off(&len_bytes.div_ceil(PAGE_SIZE));
        if let Some(page) = pages.get_mut(&(len_bytes / PAGE_SIZE)) {
            page[(len_bytes % PAGE_SIZE) as usize..].fill(0);
        }
        self.0.len_bytes.set(len_bytes);
        Ok(())
    }

    /// Reads up to `buffer.len()` bytes from `offset`; returns how many were there.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let count = self.available(offset, buffer.len());
        let pages = self.0.pages.borrow();
        let mut done = 0;
        for (page, within, length) in pieces(offset, count) {
            if self.lacks(page, Access::Read) {
                break;
            }
            read_page(&pages, page, within, &mut buffer[done..done + length]);
            done += length;
        }
        done
    }

    /// Writes up to `bytes.len()` bytes at `offset`, not beyond the end; returns how many (less if memory ran out).
    pub fn write(&self, offset: u64, bytes: &[u8]) -> usize {
        let count = self.available(offset, bytes.len());
        let mut pages = self.0.pages.borrow_mut();
        let mut done = 0;
        for (page, within, length) in pieces(offset, count) {
            if self.lacks(page, Access::Write) {
                break;
            }
            if let Some(paging) = self.paging() {
                paging.note_store(page);
            }
            pages.entry(page).or_insert_with(new_page)[within..within + length]
                .copy_from_slice(&bytes[done..done + length]);
            done += length;
        }
        done
    }

    /// Gives the frames of a page-aligned range back; it reads as zero.
    pub fn discard(&self, offset: u64, len_bytes: u64) {
        let pages = offset / PAGE_SIZE..offset.saturating_add(len_bytes) / PAGE_SIZE;
        self.0.pages.borrow_mut().retain(|page, _| !pages.contains(page));
    }

    /// Pages that the memory has frames for.
    pub fn resident_pages(&self) -> u64 {
        self.0.pages.borrow().len() as u64
    }

    /// The same, of a page-aligned range.
    pub fn resident_pages_in(&self, offset: u64, len_bytes: u64) -> Result<u64> {
        let pages = offset / PAGE_SIZE..offset.saturating_add(len_bytes) / PAGE_SIZE;
        Ok(self.0.pages.borrow().range(pages).count() as u64)
    }

    fn available(&self, offset: u64, length: usize) -> usize {
        self.len_bytes().saturating_sub(offset).min(length as u64) as usize
    }
}

/// A budget.
#[derive(Clone, Default)]
pub struct Account;

impl Account {
    /// Makes a budget of so many frames for a process. `EAGAIN` if the server's own is used up.
    pub fn for_process(_frames: u64) -> Result<Self> {
        Ok(Self)
    }

    /// Makes a budget of so many frames for the contents of a file system.
    pub fn for_files(_frames: u64) -> Result<Self> {
        Ok(Self)
    }

    /// Changes how many frames it has.
    pub fn set_frames_limit(&self, _frames: u64) -> Result<()> {
        Ok(())
    }

    /// Whether hardly anything is left of it.
    pub fn is_full(&self) -> bool {
        false
    }

    /// Frames in use.
    pub fn used_frames(&self) -> u64 {
        0
    }
}

#[derive(Clone)]
enum Source {
    Zero,
    Memory(Memory, u64),
}

#[derive(Clone)]
struct Region {
    start: u64,
    end: u64,
    source: Source,
    sharing: Sharing,
    protection: Protection,
}

impl Region {
    fn cut(&self, start: u64, end: u64) -> Option<Self> {
        let (start, end) = (start.max(self.start), end.min(self.end));
        if start >= end {
            return None;
        }
        let source = match &self.source {
            Source::Zero => Source::Zero,
            Source::Memory(memory, offset) => Source::Memory(memory.clone(), offset + (start - self.start)),
        };
        Some(Self { start, end, source, ..self.clone() })
    }
}

#[derive(Clone, Default)]
struct SpaceState {
    regions: Vec<Region>,
    private: BTreeMap<u64, Page>,
}

impl SpaceState {
    fn region(&self, address: u64) -> Option<&Region> {
        self.regions.iter().find(|region| region.start <= address && address < region.end)
    }

    fn unmap(&mut self, start: u64, end: u64) {
        let kept = self.regions.iter().flat_map(|region| [region.cut(0, start), region.cut(end, u64::MAX)]);
        self.regions = kept.flatten().collect();
        self.discard(start, end);
    }

    fn discard(&mut self, start: u64, end: u64) {
        self.private.retain(|page, _| !(start..end).contains(&(page * PAGE_SIZE)));
    }

    fn protect(&mut self, start: u64, end: u64, protection: Protection) -> Result<()> {
        let changed: Vec<_> = self.regions.iter().filter_map(|region| region.cut(start, end)).collect();
        if changed.iter().map(|region| region.end - region.start).sum::<u64>() != end - start {
            return Err(Errno::ENOMEM);
        }
        let kept = self.regions.iter().flat_map(|region| [region.cut(0, start), region.cut(end, u64::MAX)]);
        let changed = changed.into_iter().map(|region| Some(Region { protection, ..region }));
        self.regions = kept.chain(changed).flatten().collect();
        Ok(())
    }

    fn read_piece(&self, page: u64, within: usize, out: &mut [u8]) -> bool {
        let Some(region) = self.region(page * PAGE_SIZE) else { return false };
        if region.protection.is_empty() {
            return false;
        }
        if self.private.contains_key(&page) {
            read_page(&self.private, page, within, out);
            return true;
        }
        match &region.source {
            Source::Zero => out.fill(0),
            Source::Memory(memory, offset) => {
                let at = page * PAGE_SIZE - region.start + offset;
                if at >= memory.len_bytes().next_multiple_of(PAGE_SIZE) {
                    return false;
                }
                out.fill(0);
                let there = (memory.len_bytes().saturating_sub(at + within as u64) as usize).min(out.len());
                return memory.read(at + within as u64, out) >= there;
            }
        }
        true
    }

    fn write_piece(&mut self, page: u64, within: usize, bytes: &[u8]) -> bool {
        let Some(region) = self.region(page * PAGE_SIZE) else { return false };
        if !region.protection.contains(Protection::WRITE) {
            return false;
        }
        if let (Sharing::Shared, Source::Memory(memory, offset)) = (region.sharing, &region.source) {
            let at = page * PAGE_SIZE - region.start + offset + within as u64;
            return memory.write(at, bytes) == bytes.len();
        }
        let mut content = new_page();
        if !self.read_piece(page, 0, &mut content[..]) {
            return false;
        }
        content[within..within + bytes.len()].copy_from_slice(bytes);
        self.private.insert(page, content);
        true
    }

    fn apply(&mut self, change: &Change<'_>) -> Result<()> {
        match *change {
            Change::Map { address, length, backing, sharing, protection, .. } => {
                let end = checked_range(address, length)?;
                let source = match backing {
                    Backing::Zero => Source::Zero,
                    Backing::Memory(memory, offset) => Source::Memory(memory.clone(), offset),
                };
                self.unmap(address, end);
                self.regions.push(Region { start: address, end, source, sharing, protection });
                Ok(())
            }
            Change::Unmap { address, length } => {
                let end = checked_range(address, length)?;
                self.unmap(address, end);
                Ok(())
            }
            Change::Protect { address, length, protection } => {
                let end = checked_range(address, length)?;
                self.protect(address, end, protection)
            }
            Change::Discard { address, length } => {
                let end = checked_range(address, length)?;
                self.discard(address, end);
                Ok(())
            }
            Change::Move { from, length, to } => self.relocate(from, length, to),
            Change::Clone(source) => {
                *self = source.0.state.borrow().clone();
                Ok(())
            }
        }
    }

    fn relocate(&mut self, from: u64, length: u64, to: u64) -> Result<()> {
        let end = checked_range(from, length)?;
        checked_range(to, length)?;
        let moved: Vec<_> = self.regions.iter().filter_map(|region| region.cut(from, end)).collect();
        let pages: Vec<_> = (from / PAGE_SIZE..end / PAGE_SIZE)
            .filter_map(|page| self.private.remove(&page).map(|bytes| (page, bytes)))
            .collect();
        self.unmap(from, end);
        self.regions.extend(moved.into_iter().map(|region| Region {
            start: region.start - from + to,
            end: region.end - from + to,
            ..region
        }));
        self.private.extend(pages.into_iter().map(|(page, bytes)| (page - from / PAGE_SIZE + to / PAGE_SIZE, bytes)));
        Ok(())
    }
}

fn checked_range(address: u64, length: u64) -> Result<u64> {
    let aligned = address.is_multiple_of(PAGE_SIZE) && length.is_multiple_of(PAGE_SIZE) && length != 0;
    let end = address.checked_add(length).filter(|end| *end <= 1 << 47);
    if aligned { end.ok_or(Errno::EINVAL) } else { Err(Errno::EINVAL) }
}

struct SpaceInner {
    id: u64,
    state: RefCell<SpaceState>,
}

/// An address space; a clone is the same space.
#[derive(Clone)]
pub struct Space(Rc<SpaceInner>);

impl Space {
    /// Makes an empty space. `ENOMEM`.
    pub fn create(_account: &Account) -> Result<Self> {
        Ok(Self(Rc::new(SpaceInner { id: next_id(), state: RefCell::default() })))
    }

    /// A number that is the same for all clones and for nothing else.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Pages that are private frames of the space.
    pub fn private_pages(&self) -> u64 {
        self.0.state.borrow().private.len() as u64
    }

    /// Applies the changes, all or nothing. `ENOMEM` if there is no memory, or a range to protect has a hole.
    pub fn commit(&self, changes: &[Change<'_>]) -> Result<()> {
        if changes.len() > super::MAX_CHANGES {
            return Err(Errno::EINVAL);
        }
        let mut next = self.0.state.borrow().clone();
        for change in changes {
            next.apply(change)?;
        }
        self.0.state.replace(next);
        Ok(())
    }

    /// Reads up to `buffer.len()` bytes at `address`; returns how many were read before the first that could not be.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let state = self.0.state.borrow();
        let mut done = 0;
        for (page, within, length) in pieces(address, buffer.len()) {
            if !state.read_piece(page, within, &mut buffer[done..done + length]) {
                note_space(self, Access::Read);
                break;
            }
            done += length;
        }
        done
    }

    /// Writes up to `bytes.len()` bytes at `address`; returns how many were written before the first that could not be.
    pub fn write(&self, address: u64, bytes: &[u8]) -> usize {
        let mut state = self.0.state.borrow_mut();
        let mut done = 0;
        for (page, within, length) in pieces(address, bytes.len()) {
            if !state.write_piece(page, within, &bytes[done..done + length]) {
                note_space(self, Access::Write);
                break;
            }
            done += length;
        }
        done
    }

    /// Writes a word if it is the expected one; returns what it was. `EFAULT`.
    pub fn compare_exchange(&self, address: u64, expected: u32, new: u32) -> Result<u32> {
        let mut found = [0; 4];
        if self.read(address, &mut found) != found.len() {
            return Err(Errno::EFAULT);
        }
        if u32::from_le_bytes(found) == expected && self.write(address, &new.to_le_bytes()) != found.len() {
            return Err(Errno::EFAULT);
        }
        Ok(u32::from_le_bytes(found))
    }

    /// Copies from a memory into the space; returns how many bytes.
    pub fn copy_from(&self, address: u64, memory: &Memory, offset: u64, length: u64) -> u64 {
        let mut done = 0;
        let mut page = new_page();
        while done < length {
            let count = (length - done).min(PAGE_SIZE) as usize;
            let read = memory.read(offset + done, &mut page[..count]);
            if read == 0 {
                break;
            }
            let written = self.write(address + done, &page[..read]);
            done += written as u64;
            if written < count {
                break;
            }
        }
        done
    }

    /// Copies from the space into a memory; returns how many bytes.
    pub fn copy_to(&self, memory: &Memory, offset: u64, address: u64, length: u64) -> u64 {
        let mut done = 0;
        let mut page = new_page();
        while done < length {
            let count = (length - done).min(PAGE_SIZE) as usize;
            let read = self.read(address + done, &mut page[..count]);
            if read == 0 {
                break;
            }
            let written = memory.write(offset + done, &page[..read]);
            done += written as u64;
            if written < count {
                break;
            }
        }
        done
    }
}

/// The handles that a process's shim can use.
pub struct Table;

impl Table {
    /// Makes an empty table. `EAGAIN`.
    pub fn create(_account: &Account) -> Result<Self> {
        Ok(Self)
    }
}

/// A thread of a program.
pub struct UserThread {
    registers: Cell<Registers>,
    end: Rc<End>,
}

/// Whether a thread was killed, and who waits for that.
#[derive(Default)]
struct End {
    is_killed: Cell<bool>,
    queue: WaitQueue,
}

impl UserThread {
    /// Makes a thread that is not yet started. `EAGAIN`.
    pub fn create(
        _executor: &super::Executor,
        _account: &Account,
        _space: &Space,
        _table: &Table,
    ) -> Result<(Self, ThreadEvents)> {
        let end = Rc::new(End::default());
        Ok((Self { registers: Cell::default(), end: end.clone() }, ThreadEvents(end)))
    }

    /// The handle by which the shim calls the server.
    pub fn channel(&self) -> u32 {
        1
    }

    /// Routes its `syscall` instructions to the shim: entry, and the range of the shim's own.
    pub fn set_shim(&self, _entry: u64, _start: u64, _end: u64) -> Result<()> {
        Ok(())
    }

    /// Starts it.
    pub fn start(&self, registers: &Registers) -> Result<()> {
        self.registers.set(*registers);
        Ok(())
    }

    /// Stops it before its next instruction in user mode; nests.
    pub fn suspend(&self) {}

    /// Takes one suspension back.
    pub fn resume(&self) {}

    /// Ends it.
    pub fn kill(&self) {
        self.end.is_killed.set(true);
        self.end.queue.wake();
    }

    /// Its registers; it must stand still. `ESRCH` if it is gone.
    pub fn registers(&self) -> Result<Registers> {
        Ok(self.registers.get())
    }

    /// Sets its registers, ending a call that it waits in. `ESRCH` if it is gone.
    pub fn set_registers(&self, registers: &Registers) -> Result<()> {
        self.registers.set(*registers);
        Ok(())
    }

    /// Reads its vector state.
    pub fn read_vector_state(&self, _image: &mut [u8]) -> Result<()> {
        Ok(())
    }

    /// Sets its vector state.
    pub fn write_vector_state(&self, _image: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Moves it to another space.
    pub fn set_space(&self, _space: &Space) -> Result<()> {
        Ok(())
    }

    /// Whether it runs, or would if it were not suspended: neither in a call nor stopped by a fault.
    pub fn is_running(&self) -> bool {
        true
    }

    /// Time that it has run, in ns.
    pub fn run_time_ns(&self) -> u64 {
        0
    }

    /// Takes the shim's end of the channel out of the table.
    pub fn close_channel(&self, _table: &Table) {}

    /// Says who runs first.
    pub fn set_urgency(&self, _urgency: super::Urgency) {}

    /// Says where it may run.
    pub fn set_processors(&self, _processors: u64) {}

    /// The processor that it runs on or ran on last.
    pub fn processor(&self) -> u32 {
        0
    }

    /// Gives it a name for the kernel's dumps.
    pub fn set_name(&self, _name: &[u8]) {}

    /// Answers a request with a label and two words.
    pub fn answer(&self, reply: Reply, label: u64, [first, _]: [u64; 2]) {
        reply.0.set(Some((label, first)));
    }

    /// Lets it go on after an exception, with the registers that it has now.
    pub fn resume_exception(&self, reply: Reply) {
        reply.0.set(Some((0, 0)));
    }
}

/// What a thread does: here, nothing but end.
pub struct ThreadEvents(Rc<End>);

impl ThreadEvents {
    /// Calls `handle` with everything that the thread does, as it does it; at last with [`super::ThreadEvent::Ended`].
    pub fn serve(self, executor: &super::Executor, handle: impl Fn(super::ThreadEvent) + 'static) -> Result<()> {
        executor.spawn(async move {
            loop {
                let listener = self.0.queue.listen();
                if self.0.is_killed.get() {
                    return handle(super::ThreadEvent::Ended);
                }
                listener.await;
            }
        });
        Ok(())
    }
}

/// The right to answer one request. Dropped, it is given up.
#[derive(Clone, Debug, Default)]
pub struct Reply(Rc<Cell<Option<(u64, u64)>>>);

impl Reply {
    /// Label and first word of the answer, if it was given (asked of a clone).
    pub fn answered(&self) -> Option<(u64, u64)> {
        self.0.get()
    }
}
