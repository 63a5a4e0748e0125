//! Memory: frames, memory objects, address spaces, and everything that happens between them.
//!
//! [`MemorySystem`] holds it all. Read the files from below:
//!
//! | file | subject |
//! |---|---|
//! | `frames` | which frames there are, who holds them and who pays |
//! | `nodes`, `overlay` | persistent radix trees, page index → frame |
//! | `region`, `regions` | what a region is; the ordered tree of a space's regions |
//! | `tables` | page tables as a cache |
//! | `object`, `pages`, `window` | the [`Memory`] object, its pages, slices of it |
//! | `cache`, `managed` | pages that a pager supplies: **the life of a cached page** |
//! | `requests`, `supply`, `reclaim` | what the pager is asked; frames moving in; taking them back |
//! | `pins` | pages that devices use |
//! | `swap`, `swap_slots` | private pages that go to a managed memory and come back |
//! | `mapping` | which regions show a memory, and breaking what they show |
//! | `space`, `commit`, `undo`, `plain` | the [`Space`] object, and changing it all or nothing; the hot changes |
//! | `fault`, `around` | **the life of a page fault**; showing neighbours with a page |
//! | `transfer` | moving bytes between spaces and memories |
//! | `invariants` | what always holds, as code |
//!
//! Three rules hold everywhere. *Reserve before changing*: what can fail (memory, accounts) is asked for before the first
//! change, or the change is one that nobody can observe. *Break before releasing*: page-table entries and what processors
//! cached of them go before the reference that kept the frame. *Who makes it pays*: a frame or node is charged to the
//! account of the space or memory that needed it, until it is freed.

mod around;
mod cache;
mod commit;
mod cut;
mod error;
mod fault;
mod frames;
#[cfg(any(test, debug_assertions))]
mod invariants;
mod managed;
mod mapping;
mod nodes;
mod object;
mod overlay;
mod pages;
mod pins;
mod plain;
mod reclaim;
mod region;
mod regions;
mod requests;
mod space;
mod supply;
mod swap;
mod swap_slots;
mod tables;
#[cfg(test)]
mod tests;
mod transfer;
mod undo;
mod window;

pub use commit::{CommitError, MapSource, Replace, SpaceOp};
pub use error::{Absent, Exhausted, FaultError, MemoryError};
pub use fault::FaultKind;
pub use frames::FrameTable;
pub use managed::{ManagedInfo, Presence, Unwritten};
pub use object::{Memory, MemoryInfo, MemoryKind};
pub use reclaim::Reclaimed;
pub use region::{Inherit, Sharing};
pub use requests::{MAX_RUN_PAGES, PagerRequest};
pub use space::{RegionInfo, Space};
pub use swap::SwapInfo;
pub use transfer::{Place, Side, Stop, Transfer};

use crate::account::{Account, Accounts, Usage};
use crate::machine::{Frame, Machine};
use crate::pool::{Id, Pool};
use cache::Counts;
use nodes::Nodes;
use overlay::Stores;
use reclaim::Hand;
use swap::Swap;
use tables::TableStore;

/// All memory of the machine, and all objects made of it.
///
/// Ids that a `create_…`, `snapshot` or `window` function returns carry one reference, which belongs to the caller.
/// Stale ids that reach a public function are a broken invariant of the caller: handles keep their objects alive.
#[derive(Debug)]
pub struct MemorySystem {
    /// Who pays for what.
    pub accounts: Accounts,
    frames: FrameTable,
    nodes: Nodes,
    memories: Pool<Memory>,
    spaces: Pool<Space>,
    root_account: Id<Account>,
    /// How many pages of all managed memories are in which state.
    cached: Counts,
    /// Where reclaim goes on.
    hand: Hand,
    /// Where private pages go, if they do.
    swap: Option<Swap>,
    /// Where swapping out goes on.
    space_hand: Hand,
    /// A frame of zeros that is shown, read-only, for every page of zeros that was only read. Never in an overlay.
    zero: Frame,
}

impl MemorySystem {
    /// A system over the given frames, with a root account without limits.
    ///
    /// # Errors
    /// If there is not even memory for that.
    pub fn new(m: &mut impl Machine, mut frames: FrameTable) -> Result<Self, Exhausted> {
        let mut accounts = Accounts::new();
        let root_account = accounts.create(None, Usage::UNLIMITED)?;
        let zero = frames.allocate(m, &mut accounts, root_account)?;
        Ok(Self {
            accounts,
            frames,
            nodes: Nodes::new(),
            memories: Pool::new(),
            spaces: Pool::new(),
            root_account,
            cached: Counts::default(),
            hand: Hand::default(),
            swap: None,
            space_hand: Hand::default(),
            zero,
        })
    }

    /// The account above all others. It pays for what the kernel needs for itself.
    pub fn root_account(&self) -> Id<Account> {
        self.root_account
    }

    /// The frames of the machine.
    pub fn frames(&self) -> &FrameTable {
        &self.frames
    }

    /// Counts the frames that the kernel took before there was a frame table: for good, on the root account. Nobody can make
    /// a memory of them.
    pub fn occupy_for_kernel(&mut self, first: Frame, count: u32) {
        self.frames.occupy(&mut self.accounts, self.root_account, first, count);
    }

    /// Takes `count` adjacent zeroed frames for the kernel itself (to grow its heap), charged to the root account.
    ///
    /// # Errors
    /// [`Exhausted::NoMemory`] if there is no such run.
    pub fn allocate_for_kernel(&mut self, m: &mut impl Machine, count: u32) -> Result<Frame, Exhausted> {
        self.frames.allocate_run(m, &mut self.accounts, self.root_account, count)
    }

    /// The parts that pages are made of, apart from the objects that use them.
    fn parts(&mut self) -> (Stores<'_>, &mut Pool<Memory>, &mut Pool<Space>) {
        let stores = Stores { accounts: &mut self.accounts, frames: &mut self.frames, nodes: &mut self.nodes };
        (stores, &mut self.memories, &mut self.spaces)
    }

    /// What page tables are made of.
    fn table_store(&mut self, payer: Id<Account>) -> TableStore<'_> {
        TableStore { accounts: &mut self.accounts, frames: &mut self.frames, payer }
    }
}
