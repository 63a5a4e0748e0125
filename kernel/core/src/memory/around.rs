//! Showing more than was asked for.
//!
//! Who reads a page of a file, or runs it, soon wants its neighbours. Those that the memory has anyway are shown with
//! it, read-only, which costs much less than a fault each. Nothing is allocated or copied for a page that nobody asked for.

use super::MemorySystem;
use super::object::{Content, Memory, frame_at};
use super::region::{Region, Sharing};
use super::space::Space;
use super::tables::{self, Shown};
use crate::machine::{Access, Caching, Frame, Machine};
use crate::pool::Id;

/// Pages that are shown together, from a multiple of their number on. Divides the pages under one leaf table.
const TOGETHER: u64 = 16;

impl MemorySystem {
    /// Shows the neighbours of a page that was just shown, in the same leaf table.
    pub(super) fn show_around(&self, m: &mut impl Machine, space: Id<Space>, region: &Region, page: u64, leaf: Frame) {
        let aligned = page - page % TOGETHER;
        let (start, end) = (aligned.max(region.start), (aligned + TOGETHER).min(region.end));
        let Some((id, first)) = region.backing_page(start) else { return };
        // Where some pages have been written, more will be.
        let private = &self.spaces[space].private;
        if region.sharing == Sharing::Private && private.next(&self.nodes, start, end).is_some() {
            return;
        }
        let access = Access { write: false, execute: region.entry_access().execute };
        self.for_each_frame(id, (first, first + (end - start)), |page, frame| {
            let shown = Shown { frame, access, caching: Caching::WriteBack };
            tables::show_if_absent(m, leaf, start + (page - first), shown);
        });
    }

    /// Calls `found` for each page of a range that has a frame of ordinary memory.
    fn for_each_frame(&self, id: Id<Memory>, (first, end): (u64, u64), mut found: impl FnMut(u64, Frame)) {
        let Ok((origin, at)) = self.origin(id, first) else { return };
        let inside = self.memories[id].pages().saturating_sub(first);
        let count = (end - first).min(inside).min(self.memories[origin].pages().saturating_sub(at));
        for page in 0..count {
            let frame = match &self.memories[origin].content {
                Content::Direct { first, caching: Caching::WriteBack, .. } => Some(frame_at(*first, at + page)),
                Content::Pages { overlay, base, source } => {
                    overlay.lookup(&self.nodes, base + at + page).or_else(|| source.frame(at + page))
                }
                Content::Managed(managed) => managed.cache.get(&self.nodes, at + page).frame(),
                Content::Direct { caching: Caching::Uncached, .. } | Content::Window(_) => return,
            };
            if let Some(frame) = frame {
                found(first + page, frame);
            }
        }
    }
}
