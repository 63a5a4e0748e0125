//! Page tables: a cache of what regions and overlays say.
//!
//! A tree of four levels (Intel SDM vol. 3A, 4.5) in frames of their own, reached only through
//! [`Machine::read_entry`] and [`Machine::write_entry`]. Levels are counted from below: 0 is a *leaf table*, whose entries
//! show pages, 1 a *directory*, 3 the root. The rules:
//!
//! - Dropping an entry is always correct, because a fault brings it back. Entries for pages hold no reference on the frame;
//!   whoever takes a page away breaks its entries first.
//! - A leaf table may be shared by several spaces, and so may a directory that leads to many: its frame's reference count says
//!   by how many. The entries that lead to it are then not writable, and **a shared table never changes** but for
//!   losing write permissions that nobody can use: who must change it copies it first, or lets go of it.
//! - There are tables only where there are regions. A table above the lowest level knows how many it leads to, and goes with
//!   the last of them.
//! - A table to which no writable entry leads may hold stale write permissions, which are cleared when it becomes writable
//!   again.
//! - Every function here leaves with the processors' caches invalidated as needed, and frees a table only after that. What
//!   may be cached for a space is therefore always a subset of what its tables say.

use core::ops::Range;

use super::Exhausted;
use super::frames::{FrameTable, Retired};
use crate::account::{Account, Accounts};
use crate::machine::{Access, Caching, Entry, Frame, LEVELS, Machine, TABLE_ENTRIES, table_index};
use crate::pool::Id;

const ROOT_LEVEL: u32 = LEVELS - 1;
const DIRECTORY_LEVEL: u32 = 1;
/// Bits of the page number that one level takes.
const LEVEL_BITS: u32 = 9;
/// Pages under one leaf table.
const LEAF_PAGES: u64 = 1 << LEVEL_BITS;
/// A directory that leads to so many leaf tables is shared as a whole. Below that, it is cheaper to share the leaf tables:
/// a directory has to be copied as soon as one of its pages is written. (Few in tests, so that they see both.)
const SHARED_WHOLE: u16 = if cfg!(test) { 3 } else { 16 };

/// Frames and who pays for them.
pub(super) struct TableStore<'a> {
    pub(super) accounts: &'a mut Accounts,
    pub(super) frames: &'a mut FrameTable,
    /// Pays for new tables.
    pub(super) payer: Id<Account>,
}

/// A page as a lowest-level entry shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) frame: Frame,
    pub(super) access: Access,
    pub(super) caching: Caching,
}

/// What happens to the entries of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// They go. Leaf tables that lie wholly in `[floor, ceiling)` go with them, and the tables above that then lead nowhere.
    Break { floor: u64, ceiling: u64 },
    /// They allow no more than this.
    Restrict(Access),
}

impl Change {
    /// The entries go, the tables stay.
    pub(super) const BREAK: Self = Self::Break { floor: 0, ceiling: 0 };

    /// Whether tables without use go.
    fn frees_tables(self) -> bool {
        match self {
            Self::Break { floor, ceiling } => floor < ceiling,
            Self::Restrict(_) => false,
        }
    }

    /// Whether a table goes, whatever it leads to.
    fn swallows(self, base: u64, pages: u64) -> bool {
        match self {
            Self::Break { floor, ceiling } => base >= floor && base + pages <= ceiling,
            Self::Restrict(_) => false,
        }
    }
}

/// What was changed, and has to be invalidated: a hull of pages.
struct Changed {
    start: u64,
    end: u64,
    retired: Retired,
}

impl Changed {
    const fn nothing() -> Self {
        Self { start: u64::MAX, end: 0, retired: Retired::new() }
    }

    fn add(&mut self, start: u64, pages: u64) {
        self.start = self.start.min(start);
        self.end = self.end.max(start + pages);
    }
}

/// A new tree without entries of ours.
pub(super) fn new_root(m: &mut impl Machine, store: TableStore<'_>) -> Result<Frame, Exhausted> {
    let root = store.frames.allocate(m, store.accounts, store.payer)?;
    m.init_root(root);
    Ok(root)
}

/// Frees a tree that no processor uses any more. It has tables in the given ranges only.
pub(super) fn free_root(
    m: &mut impl Machine,
    mut store: TableStore<'_>,
    root: Frame,
    ranges: impl Iterator<Item = (u64, u64)>,
) {
    let everything = Change::Break { floor: 0, ceiling: u64::MAX };
    let mut changed = Changed::nothing();
    for range in ranges {
        change_below(m, &mut store, Place::top(root), range, everything, &mut changed);
    }
    finish(m, &mut store, root, changed);
    debug_assert_eq!(store.frames.tables(root), 0, "a page table where no region is");
    store.frames.release(store.accounts, root);
}

/// What the processor would find for a page: the frame, and the rights over all levels.
#[inline]
pub(super) fn translate(m: &impl Machine, root: Frame, page: u64) -> Option<Shown> {
    match m.find_page(root, page) {
        Entry::Page { frame, access, caching } => Some(Shown { frame, access, caching }),
        Entry::Absent | Entry::Table { .. } => None,
    }
}

/// The leaf table for a page, such that [`show`] can write to it: tables are made, and a shared leaf table is copied, as
/// needed.
pub(super) fn prepare(
    m: &mut impl Machine,
    store: &mut TableStore<'_>,
    root: Frame,
    page: u64,
) -> Result<Frame, Exhausted> {
    let directory = own_directory(m, store, root, page)?;
    own_leaf(m, store, root, directory, page)
}

/// Shows a page in a leaf table that was prepared.
pub(super) fn show(m: &mut impl Machine, root: Frame, leaf: Frame, page: u64, shown: Shown) {
    let Shown { frame, access, caching } = shown;
    let old = m.read_entry(leaf, table_index(page, 0));
    let new = Entry::Page { frame, access, caching };
    if old != new {
        m.write_entry(leaf, table_index(page, 0), new);
        if old != Entry::Absent {
            m.invalidate(root, page, 1);
        }
    }
}

/// Shows a page in a leaf table that was prepared, unless one is shown there.
pub(super) fn show_if_absent(m: &mut impl Machine, leaf: Frame, page: u64, shown: Shown) {
    if m.read_entry(leaf, table_index(page, 0)) == Entry::Absent {
        let Shown { frame, access, caching } = shown;
        m.write_entry(leaf, table_index(page, 0), Entry::Page { frame, access, caching });
    }
}

/// Whether a range that is not empty has no leaf table, as far as the one way down to it tells.
pub(super) fn is_bare(m: &impl Machine, root: Frame, (start, end): (u64, u64)) -> bool {
    let mut table = root;
    for level in (DIRECTORY_LEVEL..LEVELS).rev() {
        if start >> (level * LEVEL_BITS) != (end - 1) >> (level * LEVEL_BITS) {
            return false;
        }
        match m.read_entry(table, table_index(start, level)) {
            Entry::Absent => return true,
            Entry::Table { table: next, .. } => table = next,
            Entry::Page { .. } => return false,
        }
    }
    false
}

/// Breaks or restricts the entries of the pages from `start` to before `end`.
pub(super) fn change(m: &mut impl Machine, mut store: TableStore<'_>, root: Frame, range: (u64, u64), change: Change) {
    let mut changed = Changed::nothing();
    change_below(m, &mut store, Place::top(root), range, change, &mut changed);
    finish(m, &mut store, root, changed);
}

/// Shows in the tree `to` whatever `from` shows from `start` to before `end`, by sharing tables; nobody can write through them
/// any more. `start` is rounded down and `end` up to whole tables, so what the target must not see is to be broken there
/// afterwards. Where the target's tables can't be had, the source's entries are dropped: sharing is an optimization, write
/// protection is not.
///
/// Returns the first page that was not looked at. The caller calls [`finish_sharing`] after the last range.
pub(super) fn share(
    m: &mut impl Machine,
    store: &mut TableStore<'_>,
    (from, to): (Frame, Frame),
    (start, end): (u64, u64),
    retired: &mut Retired,
) -> u64 {
    let mut page = start - start % LEAF_PAGES;
    while page < end {
        let boundary = next_boundary(page, DIRECTORY_LEVEL + 1);
        let Some(above) = existing(m, from, page, DIRECTORY_LEVEL + 1) else {
            page = next_boundary(page, ROOT_LEVEL);
            continue;
        };
        let at = table_index(page, DIRECTORY_LEVEL + 1);
        let Entry::Table { table: source, .. } = m.read_entry(above, at) else {
            page = boundary;
            continue;
        };
        if store.frames.tables(source) >= SHARED_WHOLE
            && let Ok(target) = table_at(m, store, to, page, DIRECTORY_LEVEL + 1)
        {
            share_entries(m, store.frames, (above, target), at..at + 1);
            page = boundary;
            continue;
        }
        let first = table_index(page, DIRECTORY_LEVEL);
        let stop = boundary.min(end.next_multiple_of(LEAF_PAGES));
        let entries = first..first + ((stop - page) / LEAF_PAGES) as usize;
        match table_at(m, store, to, page, DIRECTORY_LEVEL) {
            Ok(target) => share_entries(m, store.frames, (source, target), entries),
            Err(_) if store.frames.references(source) > 1 => drop_table(m, store.frames, (above, at), source, retired),
            Err(_) => drop_leaves(m, store.frames, source, entries, retired),
        }
        page = stop;
    }
    page
}

/// Makes the entries of one table lead from another to the same lower tables.
fn share_entries(
    m: &mut impl Machine,
    frames: &mut FrameTable,
    (source, target): (Frame, Frame),
    entries: Range<usize>,
) {
    let mut count = 0;
    m.share_tables(source, target, entries, |table| {
        frames.retain(table);
        count += 1;
    });
    frames.add_tables(target, count);
}

/// Lets go of leaf tables.
fn drop_leaves(
    m: &mut impl Machine,
    frames: &mut FrameTable,
    directory: Frame,
    entries: Range<usize>,
    retired: &mut Retired,
) {
    for at in entries {
        if let Entry::Table { table, .. } = m.read_entry(directory, at) {
            drop_table(m, frames, (directory, at), table, retired);
        }
    }
}

/// Lets go of a table, to which an entry of another leads.
fn drop_table(
    m: &mut impl Machine,
    frames: &mut FrameTable,
    (above, at): (Frame, usize),
    table: Frame,
    retired: &mut Retired,
) {
    m.write_entry(above, at, Entry::Absent);
    frames.remove_table(above);
    frames.retire(table, retired);
}

/// Makes the processors forget that they could write through what [`share`] shared, and frees what it retired.
pub(super) fn finish_sharing(m: &mut impl Machine, store: TableStore<'_>, from: Frame, retired: Retired) {
    m.invalidate(from, 0, u64::MAX);
    store.frames.free_retired(store.accounts, retired);
}

/// A table on the way down.
#[derive(Clone, Copy)]
struct Place {
    table: Frame,
    level: u32,
    /// First page below the table.
    base: u64,
}

impl Place {
    const fn top(root: Frame) -> Self {
        Self { table: root, level: ROOT_LEVEL, base: 0 }
    }
}

/// What becomes of a table that a change concerns.
enum Fate {
    Stays,
    /// It was shared, and the change was made in this copy.
    Becomes(Frame),
    Goes,
}

/// Recursion is bounded by the number of levels.
fn change_below(
    m: &mut impl Machine,
    store: &mut TableStore<'_>,
    place: Place,
    (start, end): (u64, u64),
    change: Change,
    changed: &mut Changed,
) {
    let Place { table, level, base } = place;
    let unit = 1u64 << (level * LEVEL_BITS);
    let first = start.max(base);
    let mut at = table_index(first, level);
    let mut entry_base = first - first % unit;
    while entry_base < end && at < TABLE_ENTRIES {
        match m.read_entry(table, at) {
            Entry::Absent => {}
            Entry::Page { frame, access, caching } => {
                if let Some(entry) = changed_entry(change, frame, access, caching) {
                    m.write_entry(table, at, entry);
                    changed.add(entry_base, 1);
                }
            }
            Entry::Table { table: child, .. } => {
                let below = Place { table: child, level: level - 1, base: entry_base };
                match change_table(m, store, below, (start, end), change, changed) {
                    Fate::Stays => {}
                    Fate::Becomes(copy) => {
                        m.write_entry(table, at, Entry::Table { table: copy, writable: true });
                        store.frames.retire(child, &mut changed.retired);
                    }
                    Fate::Goes => drop_table(m, store.frames, (table, at), child, &mut changed.retired),
                }
            }
        }
        at += 1;
        entry_base += unit;
    }
}

/// Changes what is below a table.
fn change_table(
    m: &mut impl Machine,
    store: &mut TableStore<'_>,
    place: Place,
    range: (u64, u64),
    change: Change,
    changed: &mut Changed,
) -> Fate {
    let Place { table, level, base } = place;
    let pages = 1u64 << ((level + 1) * LEVEL_BITS);
    let shared = store.frames.references(table) > 1;
    let swallowed = change.swallows(base, pages);
    match level {
        0 if shared || swallowed => {
            changed.add(base, pages);
            Fate::Goes
        }
        DIRECTORY_LEVEL if shared && swallowed => {
            changed.add(base, pages);
            Fate::Goes
        }
        DIRECTORY_LEVEL if shared && !leads_somewhere(m, place, range) => Fate::Stays,
        DIRECTORY_LEVEL if shared => {
            // The processor must not go on with the original, which may change without us.
            changed.add(base, pages);
            let Ok(copy) = copy_directory(m, store, table) else { return Fate::Goes };
            change_below(m, store, Place { table: copy, ..place }, range, change, changed);
            if change.frees_tables() && store.frames.tables(copy) == 0 {
                store.frames.retire(copy, &mut changed.retired);
                return Fate::Goes;
            }
            Fate::Becomes(copy)
        }
        0 => {
            change_below(m, store, place, range, change, changed);
            Fate::Stays
        }
        _ => {
            change_below(m, store, place, range, change, changed);
            if !change.frees_tables() || store.frames.tables(table) != 0 {
                return Fate::Stays;
            }
            // Nothing is shown through it any more, but the processor may have the table itself cached.
            changed.add(base.max(range.0), 1);
            Fate::Goes
        }
    }
}

/// Whether a directory leads to a leaf table for a page of the range.
fn leads_somewhere(m: &impl Machine, Place { table, base, .. }: Place, (start, end): (u64, u64)) -> bool {
    let last = end.min(base + (LEAF_PAGES << LEVEL_BITS)) - 1;
    let mut entries = table_index(start.max(base), DIRECTORY_LEVEL)..=table_index(last, DIRECTORY_LEVEL);
    entries.any(|at| m.read_entry(table, at) != Entry::Absent)
}

/// What the entry becomes, if that is another than it is.
fn changed_entry(change: Change, frame: Frame, access: Access, caching: Caching) -> Option<Entry> {
    match change {
        Change::Break { .. } => Some(Entry::Absent),
        Change::Restrict(most) => {
            let less = Access { write: access.write && most.write, execute: access.execute && most.execute };
            (less != access).then_some(Entry::Page { frame, access: less, caching })
        }
    }
}

fn finish(m: &mut impl Machine, store: &mut TableStore<'_>, root: Frame, changed: Changed) {
    if changed.start < changed.end {
        m.invalidate(root, changed.start, changed.end - changed.start);
    }
    store.frames.free_retired(store.accounts, changed.retired);
}

/// The table of this level above a page, made if need be.
fn table_at(
    m: &mut impl Machine,
    store: &mut TableStore<'_>,
    root: Frame,
    page: u64,
    level: u32,
) -> Result<Frame, Exhausted> {
    let mut table = root;
    for above in (level + 1..=ROOT_LEVEL).rev() {
        table = match m.read_entry(table, table_index(page, above)) {
            Entry::Table { table: next, .. } => next,
            Entry::Absent | Entry::Page { .. } => add_table(m, store, table, table_index(page, above))?,
        };
    }
    Ok(table)
}

/// The table of this level above a page, if there is one.
fn existing(m: &impl Machine, root: Frame, page: u64, level: u32) -> Option<Frame> {
    let mut table = root;
    for above in (level + 1..=ROOT_LEVEL).rev() {
        let Entry::Table { table: next, .. } = m.read_entry(table, table_index(page, above)) else { return None };
        table = next;
    }
    Some(table)
}

/// The first page after those under the entry of this level that leads to `page`.
fn next_boundary(page: u64, level: u32) -> u64 {
    let unit = 1u64 << (level * LEVEL_BITS);
    page - page % unit + unit
}

/// The directory of a page, such that it may be changed and what is below may be writable.
fn own_directory(m: &mut impl Machine, store: &mut TableStore<'_>, root: Frame, page: u64) -> Result<Frame, Exhausted> {
    let above = table_at(m, store, root, page, DIRECTORY_LEVEL + 1)?;
    let at = table_index(page, DIRECTORY_LEVEL + 1);
    let Entry::Table { table, writable } = m.read_entry(above, at) else { return add_table(m, store, above, at) };
    if writable {
        return Ok(table);
    }
    let shared = store.frames.references(table) > 1;
    let own = if shared { copy_directory(m, store, table)? } else { table };
    if !shared {
        m.share_tables(table, table, 0..TABLE_ENTRIES, |_| {});
    }
    replace_table(m, store, (root, page), (above, at), (table, own));
    Ok(own)
}

/// The leaf table of a page, such that it may be changed and its pages may be writable.
fn own_leaf(
    m: &mut impl Machine,
    store: &mut TableStore<'_>,
    root: Frame,
    directory: Frame,
    page: u64,
) -> Result<Frame, Exhausted> {
    let at = table_index(page, DIRECTORY_LEVEL);
    let Entry::Table { table, writable } = m.read_entry(directory, at) else {
        return add_table(m, store, directory, at);
    };
    if writable {
        return Ok(table);
    }
    let shared = store.frames.references(table) > 1;
    let own = if shared { store.frames.allocate_unfilled(store.accounts, store.payer)? } else { table };
    m.copy_table_read_only(table, own);
    replace_table(m, store, (root, page), (directory, at), (table, own));
    Ok(own)
}

/// Makes the entry for a page in a table above lead, writable, from an old table to one that shows the same.
fn replace_table(
    m: &mut impl Machine,
    store: &mut TableStore<'_>,
    (root, page): (Frame, u64),
    (above, at): (Frame, usize),
    (old, new): (Frame, Frame),
) {
    m.write_entry(above, at, Entry::Table { table: new, writable: true });
    // What the processor cached of the old way down must not be used any more: the old table may change or go.
    m.invalidate(root, page, 1);
    if old != new {
        store.frames.release(store.accounts, old);
    }
}

/// A directory that leads to the same leaf tables, none of them writable any more.
fn copy_directory(m: &mut impl Machine, store: &mut TableStore<'_>, directory: Frame) -> Result<Frame, Exhausted> {
    let copy = store.frames.allocate(m, store.accounts, store.payer)?;
    share_entries(m, store.frames, (directory, copy), 0..TABLE_ENTRIES);
    Ok(copy)
}

fn add_table(m: &mut impl Machine, store: &mut TableStore<'_>, above: Frame, at: usize) -> Result<Frame, Exhausted> {
    let table = store.frames.allocate(m, store.accounts, store.payer)?;
    m.write_entry(above, at, Entry::Table { table, writable: true });
    store.frames.add_tables(above, 1);
    Ok(table)
}
