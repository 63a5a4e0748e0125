//! Windows: revocable slices of a memory.
//!
//! A window knows the memory that has the pages (its *origin*) and the offset there, so resolving one is a single step
//! however often windows were cut from windows. What it was cut from (its *parent*) matters for revocation only: revoking
//! a window revokes all that were cut from it. The windows of a memory form a tree through the `windows` list.

use super::MemorySystem;
use super::error::{FaultError, MemoryError};
use super::object::{Content, Memory, Slice};
use super::tables::Change;
use crate::account::Account;
use crate::machine::{Machine, PAGE_SIZE};
use crate::pool::Id;

impl MemorySystem {
    /// A memory that shows `len` bytes of another from `offset` (page-aligned) on, until it is revoked. The bytes of the
    /// last page beyond `len` can be seen by whoever maps it.
    ///
    /// # Errors
    /// [`MemoryError::Misaligned`], [`MemoryError::OutOfRange`], [`FaultError::Revoked`], else exhaustion.
    pub fn window(
        &mut self,
        id: Id<Memory>,
        account: Id<Account>,
        offset: u64,
        len: u64,
    ) -> Result<Id<Memory>, MemoryError> {
        if !offset.is_multiple_of(PAGE_SIZE) {
            return Err(MemoryError::Misaligned);
        }
        let size_bytes = self.memories[id].size_bytes;
        if offset.checked_add(len).is_none_or(|end| end > size_bytes) {
            return Err(MemoryError::OutOfRange);
        }
        let (origin, offset) = self.origin(id, offset / PAGE_SIZE)?;
        let next = self.memories[id].windows;
        let slice = Slice { origin, offset, parent: id, previous: None, next };
        let window = self.add_memory(Memory::new(account, len, Content::Window(Some(slice))))?;
        if let Some(slice) = next.and_then(|next| self.slice_mut(next)) {
            slice.previous = Some(window);
        }
        self.memories[id].windows = Some(window);
        self.retain_memory(id);
        Ok(window)
    }

    /// Takes a window's pages away for good, and those of the windows cut from it. Who touches a mapping of it from now on
    /// gets [`FaultError::Revoked`].
    ///
    /// # Errors
    /// [`MemoryError::BadState`] if it is not a window.
    pub fn revoke(&mut self, m: &mut impl Machine, window: Id<Memory>) -> Result<(), MemoryError> {
        match self.memories[window].content {
            Content::Window(_) => {}
            Content::Pages { .. } | Content::Managed(_) | Content::Direct { .. } => return Err(MemoryError::BadState),
        }
        // The window must outlive its descendants, who may hold the only references to it.
        self.retain_memory(window);
        let mut at = window;
        let mut carried = None;
        loop {
            while let Some(child) = self.memories[at].windows {
                at = child;
            }
            let parent = self.sever_window(m, at);
            if let Some(severed) = carried.take() {
                self.release_memory(severed);
            }
            let Some(parent) = parent else { break };
            if at == window {
                self.release_memory(parent);
                break;
            }
            // The reference on the parent may be the last. It is kept until the parent itself is severed, unless there
            // are other windows, which have theirs.
            match self.memories[parent].windows {
                None => carried = Some(parent),
                Some(_) => self.release_memory(parent),
            }
            at = parent;
        }
        self.release_memory(window);
        Ok(())
    }

    /// Revokes a window without windows of its own; returns its parent as [`MemorySystem::unlink_window`] does.
    fn sever_window(&mut self, m: &mut impl Machine, id: Id<Memory>) -> Option<Id<Memory>> {
        let pages = self.memories[id].pages();
        self.change_own_mappings(m, id, (0, pages), Change::BREAK);
        let parent = self.unlink_window(id);
        self.memories[id].content = Content::Window(None);
        parent
    }

    /// The memory that has page `page` of `id`, and the page's number there. The bounds are not checked.
    pub(super) fn origin(&self, id: Id<Memory>, page: u64) -> Result<(Id<Memory>, u64), FaultError> {
        match &self.memories[id].content {
            Content::Pages { .. } | Content::Managed(_) | Content::Direct { .. } => Ok((id, page)),
            Content::Window(Some(slice)) => Ok((slice.origin, slice.offset + page)),
            Content::Window(None) => Err(FaultError::Revoked),
        }
    }

    /// The next of all windows below `top`, after `at`. Start with `at = top`.
    pub(super) fn next_window(&self, top: Id<Memory>, at: Id<Memory>) -> Option<Id<Memory>> {
        if let Some(child) = self.memories[at].windows {
            return Some(child);
        }
        let mut at = at;
        while at != top {
            let slice = self.slice(at)?;
            if slice.next.is_some() {
                return slice.next;
            }
            at = slice.parent;
        }
        None
    }

    /// Takes a window without windows of its own out of its parent's list; returns the parent, a reference to which is
    /// now the caller's. `None` if it is no window or was revoked.
    pub(super) fn unlink_window(&mut self, id: Id<Memory>) -> Option<Id<Memory>> {
        let slice = self.slice(id)?;
        if let Some(next) = slice.next.and_then(|next| self.slice_mut(next)) {
            next.previous = slice.previous;
        }
        match slice.previous {
            Some(previous) => {
                if let Some(previous) = self.slice_mut(previous) {
                    previous.next = slice.next;
                }
            }
            None => self.memories[slice.parent].windows = slice.next,
        }
        Some(slice.parent)
    }

    pub(super) fn slice(&self, id: Id<Memory>) -> Option<Slice> {
        match &self.memories[id].content {
            Content::Window(slice) => *slice,
            Content::Pages { .. } | Content::Managed(_) | Content::Direct { .. } => None,
        }
    }

    fn slice_mut(&mut self, id: Id<Memory>) -> Option<&mut Slice> {
        match &mut self.memories[id].content {
            Content::Window(slice) => slice.as_mut(),
            Content::Pages { .. } | Content::Managed(_) | Content::Direct { .. } => None,
        }
    }
}
