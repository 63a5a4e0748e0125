//! The `Memory` object: a sized range of pages.

use super::MemorySystem;
use super::error::{Exhausted, FaultError, MemoryError};
use super::managed::Managed;
use super::overlay::{MAX_PAGES, Overlay, Prepaid};
use super::region::RegionPlace;
use super::tables::Change;
use crate::account::{Account, Resource};
use crate::machine::{Access, Caching, Frame, Machine, PAGE_SIZE};
use crate::pool::Id;

/// The largest size of a memory.
const MAX_BYTES: u64 = MAX_PAGES * PAGE_SIZE;

/// What a memory object costs its account.
const OBJECT_BYTES: u64 = size_of::<Memory>() as u64;

/// How [`MemorySystem::create_memory`] gets the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// One by one, when they are first touched. Can be resized and snapshotted.
    Anonymous,
    /// All at once and adjacent, for devices. They stay where they are, so it can be neither resized nor snapshotted.
    Contiguous,
}

/// A sized range of pages.
#[derive(Debug)]
pub struct Memory {
    /// Pays for the object and for the frames that it needs.
    pub(super) account: Id<Account>,
    pub(super) references: u32,
    pub(super) size_bytes: u64,
    pub(super) content: Content,
    /// The first region in the list of those that map this memory.
    pub(super) mappings: Option<RegionPlace>,
    /// The first window that was cut from this memory.
    pub(super) windows: Option<Id<Memory>>,
    /// How often the kernel relies on the frames staying where they are.
    pub(super) pins: u32,
    /// How many of its pages are mapped for devices.
    pub(super) device_pins: u32,
}

/// Where the pages come from.
#[derive(Debug)]
pub(super) enum Content {
    /// An overlay, in which page 0 has the index `base`, over a source.
    Pages { overlay: Overlay, base: u64, source: Source },
    /// Pages that a pager supplies.
    Managed(Managed),
    /// Adjacent frames that never change.
    Direct { first: Frame, caching: Caching, tenure: Tenure },
    /// A slice of another memory.
    Window(Option<Slice>),
}

/// What is below an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Zeros.
    Zero,
    /// Frames that are only read, followed by zeros.
    Image { first: Frame, pages: u64 },
}

impl Source {
    /// The frame to read a page from, if it is not zeros.
    pub(super) fn frame(self, page: u64) -> Option<Frame> {
        match self {
            Self::Image { first, pages } if page < pages => Some(frame_at(first, page)),
            Self::Image { .. } | Self::Zero => None,
        }
    }

    fn advanced_by(self, offset: u64) -> Self {
        match self {
            Self::Image { first, pages } if offset < pages => {
                Self::Image { first: frame_at(first, offset), pages: pages - offset }
            }
            Self::Image { .. } | Self::Zero => Self::Zero,
        }
    }

    /// The same source, cut off after a number of pages.
    fn truncated_to(self, most: u64) -> Self {
        match self {
            Self::Image { first, pages } => Self::Image { first, pages: pages.min(most) },
            Self::Zero => Self::Zero,
        }
    }
}

/// Whose the frames of a direct memory are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tenure {
    /// The machine's: a device, or what the loader left.
    Machine,
    /// The memory's, freed with it.
    Own,
}

/// What a window shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    /// The memory that has the pages; never a window.
    pub(super) origin: Id<Memory>,
    /// The page of `origin` that is the window's page 0.
    pub(super) offset: u64,
    /// What it was cut from: `origin` or a window on it. The window holds a reference on it.
    pub(super) parent: Id<Memory>,
    /// The neighbours in the parent's list of windows.
    pub(super) previous: Option<Id<Memory>>,
    pub(super) next: Option<Id<Memory>>,
}

/// Part of a frame.
struct Part {
    frame: Frame,
    offset: usize,
    len: usize,
}

/// What there is to know about a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Pages that have frames of their own (for a window: those of the memory it shows).
    pub resident_pages: u64,
    /// The first frame, if all are adjacent and stay.
    pub first_frame: Option<Frame>,
}

impl Memory {
    pub(super) fn new(account: Id<Account>, size_bytes: u64, content: Content) -> Self {
        Self { account, references: 1, size_bytes, content, mappings: None, windows: None, pins: 0, device_pins: 0 }
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Whether the kernel or a device goes on using frames that it found here.
    fn is_pinned(&self) -> bool {
        self.pins != 0 || self.device_pins != 0
    }

    /// The number of pages, the last of which may be partial.
    pub(super) fn pages(&self) -> u64 {
        self.size_bytes.div_ceil(PAGE_SIZE)
    }
}

/// The frame `page` places after `first`. What is made of adjacent frames was checked to end within the numbers.
pub(super) fn frame_at(first: Frame, page: u64) -> Frame {
    Frame(first.0.saturating_add(u32::try_from(page).unwrap_or(u32::MAX)))
}

impl MemorySystem {
    /// Makes a memory of `size_bytes` bytes of zeros.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`] for a size that no index reaches (or 0 for a contiguous one), else exhaustion.
    pub fn create_memory(
        &mut self,
        m: &mut impl Machine,
        account: Id<Account>,
        size_bytes: u64,
        kind: MemoryKind,
    ) -> Result<Id<Memory>, MemoryError> {
        if size_bytes > MAX_BYTES {
            return Err(MemoryError::OutOfRange);
        }
        match kind {
            MemoryKind::Anonymous => {
                let content = Content::Pages { overlay: Overlay::new(), base: 0, source: Source::Zero };
                Ok(self.add_memory(Memory::new(account, size_bytes, content))?)
            }
            MemoryKind::Contiguous => self.create_contiguous(m, account, size_bytes),
        }
    }

    fn create_contiguous(
        &mut self,
        m: &mut impl Machine,
        account: Id<Account>,
        size_bytes: u64,
    ) -> Result<Id<Memory>, MemoryError> {
        let pages = u32::try_from(size_bytes.div_ceil(PAGE_SIZE)).map_err(|_| MemoryError::OutOfRange)?;
        if pages == 0 {
            return Err(MemoryError::OutOfRange);
        }
        let first = self.frames.allocate_run(m, &mut self.accounts, account, pages)?;
        let content = Content::Direct { first, caching: Caching::WriteBack, tenure: Tenure::Own };
        let added = self.add_memory(Memory::new(account, size_bytes, content));
        if added.is_err() {
            for page in 0..pages {
                self.frames.release(&mut self.accounts, frame_at(first, u64::from(page)));
            }
        }
        Ok(added?)
    }

    /// Makes a memory of what is at a physical address: a device, or what the loader left. That it is nobody else's is
    /// for the caller to know.
    ///
    /// # Errors
    /// [`MemoryError::OutOfRange`] if the range is empty or does not end within the frame numbers, or if it has frames
    /// that the frame table manages; else exhaustion.
    pub fn create_physical(
        &mut self,
        account: Id<Account>,
        first: Frame,
        pages: u64,
        caching: Caching,
    ) -> Result<Id<Memory>, MemoryError> {
        let count = u32::try_from(pages).map_err(|_| MemoryError::OutOfRange)?;
        let end = first.0.checked_add(count).ok_or(MemoryError::OutOfRange)?;
        if count == 0 || !self.frames.is_reserved(first, Frame(end)) {
            return Err(MemoryError::OutOfRange);
        }
        let content = Content::Direct { first, caching, tenure: Tenure::Machine };
        Ok(self.add_memory(Memory::new(account, pages * PAGE_SIZE, content))?)
    }

    /// A copy of the memory as it is now, paid for by `account`. O(1): whoever writes first, here or there, copies. Of
    /// physical memory it is assumed that nobody writes it. Of a window, only what it shows.
    ///
    /// # Errors
    /// [`MemoryError::BadState`] for contiguous, pinned or uncached memory (a device would write into the copy, or whoever
    /// writes first would leave it behind), a revoked window, else exhaustion.
    pub fn snapshot(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        account: Id<Account>,
    ) -> Result<Id<Memory>, MemoryError> {
        let (origin, offset) = self.origin(id, 0)?;
        let (size_bytes, pages) = (self.memories[id].size_bytes, self.memories[id].pages());
        let content = match &self.memories[origin].content {
            Content::Direct { first, caching: Caching::WriteBack, tenure: Tenure::Machine } => {
                let source = Source::Image { first: frame_at(*first, offset), pages };
                Content::Pages { overlay: Overlay::new(), base: 0, source }
            }
            Content::Pages { base, source, .. } if !self.memories[origin].is_pinned() => {
                let source = source.advanced_by(offset).truncated_to(pages);
                Content::Pages { overlay: Overlay::new(), base: base + offset, source }
            }
            Content::Direct { .. } | Content::Pages { .. } | Content::Managed(_) | Content::Window(_) => {
                return Err(MemoryError::BadState);
            }
        };
        let copy = self.add_memory(Memory::new(account, size_bytes, content))?;
        if let Err(exhausted) = self.share_pages(m, origin, copy) {
            self.release_memory(copy);
            return Err(exhausted.into());
        }
        Ok(copy)
    }

    /// Gives the new memory `copy` the pages of `origin`, as far as its size reaches.
    fn share_pages(&mut self, m: &mut impl Machine, origin: Id<Memory>, copy: Id<Memory>) -> Result<(), Exhausted> {
        let account = self.memories[copy].account;
        let origin_pages = self.memories[origin].pages();
        let (mut stores, memories, _) = self.parts();
        let Content::Pages { overlay, .. } = &mut memories[origin].content else { return Ok(()) };
        if overlay.is_empty() {
            return Ok(());
        }
        let mut shared = overlay.snapshot(stores.nodes);
        let pages = memories[copy].pages();
        let Content::Pages { overlay, base, .. } = &mut memories[copy].content else { return Ok(()) };
        let (start, end) = (*base, *base + pages);
        // Both cuts together copy at most the edges of the range that stays.
        let mut prepaid = Prepaid::new(account);
        let cuts = shared.removal_nodes(stores.nodes, 0, start) + shared.removal_nodes(stores.nodes, end, MAX_PAGES);
        if let Err(exhausted) = prepaid.add(&mut stores, cuts) {
            shared.clear(&mut stores);
            return Err(exhausted);
        }
        shared.remove(&mut stores, &mut prepaid, 0, start);
        shared.remove(&mut stores, &mut prepaid, end, MAX_PAGES);
        prepaid.refund(&mut stores);
        *overlay = shared;
        let read_only = Access { write: false, execute: true };
        self.change_mappings(m, origin, (0, origin_pages), Change::Restrict(read_only));
        Ok(())
    }

    /// Changes the size. What is cut off is forgotten, private copies of it included; what is added is zeros, also in the old
    /// last page.
    ///
    /// # Errors
    /// [`MemoryError::BadState`] for anything but anonymous memory and snapshots, or if it would cut off pinned pages;
    /// [`MemoryError::OutOfRange`]; else exhaustion.
    pub fn resize(&mut self, m: &mut impl Machine, id: Id<Memory>, size_bytes: u64) -> Result<(), MemoryError> {
        let memory = &self.memories[id];
        let base = match &memory.content {
            Content::Pages { base, .. } => *base,
            Content::Managed(_) => 0,
            Content::Direct { .. } | Content::Window(_) => return Err(MemoryError::BadState),
        };
        let (old, pages) = (memory.size_bytes, size_bytes.div_ceil(PAGE_SIZE));
        if size_bytes > MAX_BYTES || pages > MAX_PAGES - base {
            return Err(MemoryError::OutOfRange);
        }
        if size_bytes < old && memory.pins != 0 {
            return Err(MemoryError::BadState);
        }
        let kept = old.min(size_bytes);
        let tail = self.own_part(m, id, kept, kept.next_multiple_of(PAGE_SIZE))?;
        match self.memories[id].content {
            Content::Managed(_) => self.cut_managed(m, id, pages),
            Content::Pages { .. } | Content::Direct { .. } | Content::Window(_) if pages < memory_pages(old) => {
                self.cut_off(m, id, (pages, memory_pages(old)))?;
            }
            Content::Pages { .. } | Content::Direct { .. } | Content::Window(_) => {}
        }
        if let Some(tail) = tail {
            self.zero_part(m, tail);
        }
        let memory = &mut self.memories[id];
        memory.size_bytes = size_bytes;
        if let Content::Pages { source, .. } = &mut memory.content {
            *source = source.truncated_to(pages);
        }
        Ok(())
    }

    /// Forgets the content of a range, which reads as zeros again. The ends of the range may lie within a page; those
    /// pages are zeroed in part. Pages below which there is an image are overwritten with zeros instead of forgotten.
    ///
    /// # Errors
    /// As [`MemorySystem::resize`]. On exhaustion, some of the range may have been forgotten already.
    pub fn discard(&mut self, m: &mut impl Machine, id: Id<Memory>, offset: u64, len: u64) -> Result<(), MemoryError> {
        let memory = &self.memories[id];
        let end = offset.checked_add(len).filter(|end| *end <= memory.size_bytes).ok_or(MemoryError::OutOfRange)?;
        match memory.content {
            Content::Pages { .. } if memory.pins == 0 => {}
            Content::Pages { .. } | Content::Managed(_) | Content::Direct { .. } | Content::Window(_) => {
                return Err(MemoryError::BadState);
            }
        }
        let first = memory_pages(offset);
        // The last page goes whole if the range covers all that counts of it.
        let last = if end == memory.size_bytes { memory.pages() } else { end / PAGE_SIZE };
        if first > last {
            return Ok(self.zero_within_page(m, id, offset, end)?);
        }
        self.zero_within_page(m, id, offset, end.min(first * PAGE_SIZE))?;
        self.zero_within_page(m, id, last * PAGE_SIZE, end)?;
        let imaged = self.image_pages(id).clamp(first, last);
        for page in first..imaged {
            self.zero_within_page(m, id, page * PAGE_SIZE, (page + 1) * PAGE_SIZE)?;
        }
        self.remove_pages(m, id, (imaged, last))
    }

    /// What there is to know.
    pub fn info(&mut self, id: Id<Memory>) -> MemoryInfo {
        let memory = &self.memories[id];
        let (size_bytes, pages) = (memory.size_bytes, memory.pages());
        let Ok((origin, offset)) = self.origin(id, 0) else {
            return MemoryInfo { size_bytes, resident_pages: 0, first_frame: None };
        };
        match &mut self.memories[origin].content {
            Content::Pages { overlay, base, .. } => {
                let resident_pages = match origin == id {
                    true => overlay.count_all(&self.nodes),
                    false => overlay.count(&self.nodes, *base + offset, *base + offset + pages),
                };
                MemoryInfo { size_bytes, resident_pages, first_frame: None }
            }
            Content::Direct { first, .. } => {
                MemoryInfo { size_bytes, resident_pages: pages, first_frame: Some(frame_at(*first, offset)) }
            }
            Content::Managed(managed) => {
                MemoryInfo { size_bytes, resident_pages: managed.cache.counts().resident, first_frame: None }
            }
            Content::Window(_) => MemoryInfo { size_bytes, resident_pages: 0, first_frame: None },
        }
    }

    /// The object, or `None` if the id is stale.
    pub fn memory(&self, id: Id<Memory>) -> Option<&Memory> {
        self.memories.get(id)
    }

    /// Adds a reference.
    pub fn retain_memory(&mut self, id: Id<Memory>) {
        let memory = &mut self.memories[id];
        memory.references = memory.references.saturating_add(1);
    }

    /// Drops a reference; the last one ends the memory. Regions and windows hold references of their own.
    pub fn release_memory(&mut self, id: Id<Memory>) {
        let mut next = Some(id);
        while let Some(id) = next {
            let memory = &mut self.memories[id];
            if memory.references > 1 {
                memory.references = memory.references.saturating_sub(u32::from(memory.references != u32::MAX));
                return;
            }
            next = self.unlink_window(id);
            self.destroy_memory(id);
        }
    }

    fn destroy_memory(&mut self, id: Id<Memory>) {
        self.empty_managed(id);
        let Some(memory) = self.memories.remove(id) else { return };
        debug_assert!(memory.mappings.is_none() && memory.windows.is_none(), "a memory in use was released");
        let pages = memory.pages();
        let (mut stores, ..) = self.parts();
        match memory.content {
            Content::Pages { mut overlay, .. } => overlay.clear(&mut stores),
            Content::Direct { first, tenure: Tenure::Own, .. } => {
                for page in 0..pages {
                    stores.frames.release(stores.accounts, frame_at(first, page));
                }
            }
            Content::Managed(_) | Content::Direct { tenure: Tenure::Machine, .. } | Content::Window(_) => {}
        }
        self.accounts.credit(memory.account, Resource::KernelBytes, OBJECT_BYTES);
        self.accounts.collect(memory.account);
    }

    pub(super) fn add_memory(&mut self, memory: Memory) -> Result<Id<Memory>, Exhausted> {
        let account = memory.account;
        self.accounts.charge(account, Resource::KernelBytes, OBJECT_BYTES)?;
        self.memories.insert(memory).map_err(|error| {
            self.accounts.credit(account, Resource::KernelBytes, OBJECT_BYTES);
            error.into()
        })
    }

    /// Zeros a range that does not cross a page boundary, if its page has content.
    fn zero_within_page(&mut self, m: &mut impl Machine, id: Id<Memory>, from: u64, to: u64) -> Result<(), FaultError> {
        if let Some(part) = self.own_part(m, id, from, to)? {
            self.zero_part(m, part);
        }
        Ok(())
    }

    /// A range that does not cross a page boundary, in a frame that may be written; `None` if it is zeros already.
    fn own_part(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        from: u64,
        to: u64,
    ) -> Result<Option<Part>, FaultError> {
        let page = from / PAGE_SIZE;
        if from >= to || page >= self.memories[id].pages() || self.page_is_zero(id, page) {
            return Ok(None);
        }
        let frame = self.page_to_write(m, id, page)?.frame;
        Ok(Some(Part { frame, offset: (from % PAGE_SIZE) as usize, len: (to - from) as usize }))
    }

    fn zero_part(&mut self, m: &mut impl Machine, Part { frame, offset, len }: Part) {
        m.copy_bytes((self.zero, offset), (frame, offset), len);
    }

    fn page_is_zero(&self, id: Id<Memory>, page: u64) -> bool {
        match &self.memories[id].content {
            Content::Pages { overlay, base, source } => {
                overlay.lookup(&self.nodes, base + page).is_none() && source.frame(page).is_none()
            }
            // One that is not here yet comes with zeros at the end, if the pager does what it must.
            Content::Managed(managed) => managed.cache.get(&self.nodes, page).frame().is_none(),
            Content::Direct { .. } | Content::Window(_) => false,
        }
    }

    /// How many pages at the start of a memory have an image below them.
    fn image_pages(&self, id: Id<Memory>) -> u64 {
        match &self.memories[id].content {
            Content::Pages { source: Source::Image { pages, .. }, .. } => *pages,
            Content::Pages { source: Source::Zero, .. }
            | Content::Managed(_)
            | Content::Direct { .. }
            | Content::Window(_) => 0,
        }
    }

    /// Takes pages out of an overlay; a source below shows again. Changes nothing if it fails.
    pub(super) fn remove_pages(
        &mut self,
        m: &mut impl Machine,
        id: Id<Memory>,
        (start, end): (u64, u64),
    ) -> Result<(), MemoryError> {
        let (mut stores, memories, _) = self.parts();
        let account = memories[id].account;
        let Content::Pages { overlay, base, .. } = &memories[id].content else { return Err(MemoryError::BadState) };
        let range = (*base + start, *base + end);
        let mut prepaid = Prepaid::new(account);
        let copies = overlay.removal_nodes(stores.nodes, range.0, range.1);
        prepaid.add(&mut stores, copies)?;
        self.change_mappings(m, id, (start, end), Change::BREAK);
        let (mut stores, memories, _) = self.parts();
        if let Content::Pages { overlay, .. } = &mut memories[id].content {
            overlay.remove(&mut stores, &mut prepaid, range.0, range.1);
        }
        prepaid.refund(&mut stores);
        Ok(())
    }
}

fn memory_pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE)
}
