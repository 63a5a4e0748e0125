//! One metadata block in memory.

use super::Kind;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

/// A metadata block in memory. Clones are the same block.
///
/// The bytes are one shared copy: who holds them while the block changes (a commit, an undo record) keeps the old ones, and
/// the block goes on with its own copy.
#[derive(Clone)]
pub struct Block(Rc<Entry>);

struct Entry {
    number: u64,
    kind: Cell<Kind>,
    bytes: RefCell<Rc<[u8]>>,
    /// Changed by the running transaction.
    dirty: Cell<bool>,
    /// Asked for since the cache last looked for blocks to give up.
    referenced: Cell<bool>,
}

impl Block {
    pub(super) fn new(number: u64, kind: Kind, bytes: Rc<[u8]>) -> Self {
        Self(Rc::new(Entry {
            number,
            kind: Cell::new(kind),
            bytes: RefCell::new(bytes),
            dirty: Cell::new(false),
            referenced: Cell::new(true),
        }))
    }

    /// Where it is in the file system.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// What it holds.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind.get()
    }

    /// Looks at the bytes. They must not be changed within `look`.
    pub fn read<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        look(&self.0.bytes.borrow())
    }

    /// The bytes as they are now, whatever happens to the block later. A change of the block while somebody holds them costs a
    /// copy.
    #[must_use]
    pub fn bytes(&self) -> Rc<[u8]> {
        self.0.bytes.borrow().clone()
    }

    /// Completes the block before it is written: for a [`Seal`](super::Seal) only, without a way to
    /// undo it.
    pub fn seal<R>(&self, change: impl FnOnce(&mut [u8]) -> R) -> R {
        self.edit(change)
    }

    pub(super) fn edit<R>(&self, change: impl FnOnce(&mut [u8]) -> R) -> R {
        change(Rc::make_mut(&mut self.0.bytes.borrow_mut()))
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.0.dirty.get()
    }

    pub(super) fn set_dirty(&self, dirty: bool) {
        self.0.dirty.set(dirty);
    }

    pub(super) fn set_referenced(&self) {
        self.0.referenced.set(true);
    }

    pub(super) fn take_referenced(&self) -> bool {
        self.0.referenced.replace(false)
    }

    /// Whether only the cache, with its two references, knows the block, and it can be read again.
    pub(super) fn is_idle(&self) -> bool {
        Rc::strong_count(&self.0) <= 2 && !self.is_dirty()
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}
