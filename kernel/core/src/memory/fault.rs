//! The life of a page fault.
//!
//! 1. A program touches an address, and the processor finds no entry that allows it. The trap handler hands the address
//!    and the kind of access to [`MemorySystem::fault`]. (The kernel itself comes here too: when
//!    [`transfer`](super::Transfer) finds no usable entry for an address that a call names, it asks for the page exactly
//!    as the owner's access would. The kernel never touches user addresses through the processor's translation.)
//! 2. The *region* that holds the address is looked up. There is none: `NotMapped`. It does not allow the access:
//!    `AccessDenied`. Whether the page is there has not mattered so far.
//! 3. The *page tables* are made ready: missing tables are added, and a leaf table that is shared with a clone of the space
//!    is copied. From here on nothing about the tables can fail.
//! 4. The *page* is found.
//!    - In a **shared** region it is the memory's: the frame in the memory's overlay, or of its source. To be written,
//!      it must be the memory's alone; a frame that a snapshot has too is copied first, and every mapping that shows the old
//!      one is broken. A page that has no frame gets one, also if it is only read, because it may be shown in many places.
//!    - In a **private** region it is the space's: the frame in the private overlay, keyed by page number. To be written, it
//!      must be this overlay's alone; a frame that a clone has too is copied. If the overlay has none, a read shows what is
//!      below, read-only (the memory's frame, or *the* frame of zeros, so that only reading costs no memory), and a write
//!      puts a copy of it into the overlay.
//!    - A region may be longer than its memory: `BeyondEnd`. The memory may be a revoked window: `Revoked`.
//!      A page that was swapped out is got back from the swap memory, or waited for ([`swap`](super::swap)).
//! 5. Whatever was needed (page tables, nodes of the overlay, a frame) was charged to the account of the memory or of the
//!    space before it was taken. `NoMemory` and `AccountLimit` leave everything as it was, but for empty page tables.
//! 6. The page is *shown*: an entry is written that allows what the region allows, except that writing also needs the
//!    frame to be owned. Showing a page where another was shown invalidates what the processors know of it, and only then is
//!    the old frame let go. If a page of a memory was read, its neighbours that are there are shown with it.
//! 7. The program repeats the instruction. If an error was returned instead, the thread gets an exception.

use quire_abi::space::Protection;

use super::MemorySystem;
use super::error::FaultError;
use super::overlay::Page;
use super::pages::{PageView, Writing};
use super::region::{Backing, Region, Sharing, page_of};
use super::space::Space;
use super::tables::{self, Shown};
use crate::machine::{Access, Caching, Frame, Machine};
use crate::pool::Id;

/// What the access was that could not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

impl FaultKind {
    /// What a region must allow for it. On x86 whatever is mapped at all can be read.
    fn allowed_by(self, access: Protection) -> bool {
        match self {
            Self::Read => !access.is_empty(),
            Self::Write => access.contains(Protection::WRITE),
            Self::Execute => access.contains(Protection::EXECUTE),
        }
    }
}

/// A page to be shown, and a frame to let go of afterwards.
struct Resolved {
    view: PageView,
    replaced: Option<Frame>,
}

impl From<PageView> for Resolved {
    fn from(view: PageView) -> Self {
        Self { view, replaced: None }
    }
}

impl MemorySystem {
    /// Makes an access possible that the page tables don't allow, if the regions do.
    ///
    /// # Errors
    /// Why it is not possible; see [`FaultError`].
    pub fn fault(
        &mut self,
        m: &mut impl Machine,
        space: Id<Space>,
        addr: u64,
        kind: FaultKind,
    ) -> Result<(), FaultError> {
        self.resolve(m, space, page_of(addr), kind).map(|_| ())
    }

    /// [`MemorySystem::fault`] for a page number; returns what is shown there now.
    pub(super) fn resolve(
        &mut self,
        m: &mut impl Machine,
        space: Id<Space>,
        page: u64,
        kind: FaultKind,
    ) -> Result<Shown, FaultError> {
        let regions = &self.spaces[space].regions;
        let region = *regions.region(regions.find(page).ok_or(FaultError::NotMapped)?);
        if !kind.allowed_by(region.access) {
            return Err(FaultError::AccessDenied);
        }
        let Space { root, account, .. } = self.spaces[space];
        let leaf = tables::prepare(m, &mut self.table_store(account), root, page)?;
        let Resolved { view, replaced } = match (region.sharing, kind) {
            (Sharing::Shared, _) => self.shared_page(m, &region, page, kind)?,
            (Sharing::Private, FaultKind::Write) => self.private_page_to_write(m, space, &region, page)?,
            (Sharing::Private, FaultKind::Read | FaultKind::Execute) => {
                self.private_page_to_read(m, space, &region, page)?
            }
        };
        let Access { write, execute } = region.entry_access();
        let access = Access { write: write && view.writing == Writing::InPlace, execute };
        let shown = Shown { frame: view.frame, access, caching: view.caching };
        tables::show(m, root, leaf, page, shown);
        if let Some(replaced) = replaced {
            self.frames.release(&mut self.accounts, replaced);
        }
        if kind != FaultKind::Write && region.backing != Backing::Zero {
            self.show_around(m, space, &region, page, leaf);
        }
        Ok(shown)
    }

    fn shared_page(
        &mut self,
        m: &mut impl Machine,
        region: &Region,
        page: u64,
        kind: FaultKind,
    ) -> Result<Resolved, FaultError> {
        // The constructor of regions sees to it that shared ones have a memory.
        let (id, page) = region.backing_page(page).ok_or(FaultError::NotMapped)?;
        let view = match kind {
            FaultKind::Write => self.page_to_write(m, id, page)?,
            FaultKind::Read | FaultKind::Execute => self.page_to_show(m, id, page)?,
        };
        Ok(view.into())
    }

    fn private_page_to_write(
        &mut self,
        m: &mut impl Machine,
        space: Id<Space>,
        region: &Region,
        page: u64,
    ) -> Result<Resolved, FaultError> {
        let Space { private, account, .. } = &self.spaces[space];
        let account = *account;
        let below = match private.page(&self.nodes, &self.frames, page) {
            Page::Owned(frame) => {
                self.frames.swap.forget(frame);
                return Ok(own(frame, Writing::InPlace).into());
            }
            Page::Shared(frame) => Some(frame),
            Page::Swapped { slot, alone } => {
                let (frame, replaced) = self.swap_in(m, space, page, (slot, alone), FaultKind::Write)?;
                return Ok(Resolved { view: own(frame, Writing::InPlace), replaced });
            }
            Page::Absent => match region.backing_page(page) {
                None => None,
                Some((id, page)) => self.page_to_read(id, page)?.map(|view| view.frame),
            },
        };
        let frame = self.new_frame(m, account, below)?;
        let (mut stores, _, spaces) = self.parts();
        match spaces[space].private.insert(&mut stores, account, page, frame) {
            Ok(replaced) => Ok(Resolved { view: own(frame, Writing::InPlace), replaced }),
            Err(exhausted) => {
                stores.frames.release(stores.accounts, frame);
                Err(exhausted.into())
            }
        }
    }

    fn private_page_to_read(
        &mut self,
        m: &mut impl Machine,
        space: Id<Space>,
        region: &Region,
        page: u64,
    ) -> Result<Resolved, FaultError> {
        let view = match self.spaces[space].private.page(&self.nodes, &self.frames, page) {
            Page::Owned(frame) => self.own_to_read(frame),
            Page::Shared(frame) => own(frame, Writing::AfterCopy),
            Page::Swapped { slot, alone } => {
                let (frame, replaced) = self.swap_in(m, space, page, (slot, alone), FaultKind::Read)?;
                return Ok(Resolved { view: self.own_to_read(frame), replaced });
            }
            Page::Absent => match region.backing_page(page) {
                None => own(self.zero, Writing::AfterCopy),
                Some((id, page)) => PageView { writing: Writing::AfterCopy, ..self.page_to_show(m, id, page)? },
            },
        };
        Ok(view.into())
    }
}

impl MemorySystem {
    /// A page that its overlay has alone. If it is the same as in swap, it must be seen when it is stored to.
    fn own_to_read(&self, frame: Frame) -> PageView {
        let is_kept = self.frames.swap.kept_for(frame).is_some();
        own(frame, if is_kept { Writing::AfterCopy } else { Writing::InPlace })
    }
}

fn own(frame: Frame, writing: Writing) -> PageView {
    PageView { frame, caching: Caching::WriteBack, writing }
}
