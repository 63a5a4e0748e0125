//! The tables by which a device's addresses are translated, where something does that (an IOMMU).
//!
//! They are like page tables: levels of 512 entries each. What a device finds in them is what is mapped in its DMA space, and nothing
//! else. A table, once made, stays as long as the space: mappings come and go at the same few addresses.

use crate::account::Account;
use crate::devices::{DeviceEntry, Hardware};
use crate::machine::{Frame, TABLE_ENTRIES, table_index};
use crate::memory::{Exhausted, MemorySystem};
use crate::pool::Id;

/// The tables of one DMA space.
#[derive(Debug)]
pub(crate) struct Translation {
    /// The number under which the machine caches what it finds in them.
    pub(super) domain: u16,
    root: Frame,
    levels: u32,
}

impl Translation {
    /// Empty tables.
    ///
    /// # Errors
    /// Exhaustion.
    pub(super) fn new(
        m: &mut impl Hardware,
        memory: &mut MemorySystem,
        account: Id<Account>,
        (domain, levels): (u16, u32),
    ) -> Result<Self, Exhausted> {
        Ok(Self { domain, root: memory.allocate_table(m, account)?, levels })
    }

    /// The table of the highest level.
    pub(super) fn root(&self) -> Frame {
        self.root
    }

    /// The first page number that no table has.
    pub(super) fn end_page(&self) -> u64 {
        (TABLE_ENTRIES as u64).saturating_pow(self.levels)
    }

    /// Writes the entry of a page, where there was none. The missing tables above are made.
    ///
    /// # Errors
    /// Exhaustion; tables that were made stay.
    pub(super) fn set(
        &self,
        m: &mut impl Hardware,
        memory: &mut MemorySystem,
        account: Id<Account>,
        (page, entry): (u64, DeviceEntry),
    ) -> Result<(), Exhausted> {
        let mut table = self.root;
        for level in (1..self.levels).rev() {
            let index = table_index(page, level);
            table = match m.read_device_entry(table, index) {
                DeviceEntry::Table(next) => next,
                DeviceEntry::Absent | DeviceEntry::Page { .. } => {
                    let next = memory.allocate_table(m, account)?;
                    m.write_device_entry(table, index, DeviceEntry::Table(next));
                    next
                }
            };
        }
        m.write_device_entry(table, table_index(page, 0), entry);
        Ok(())
    }

    /// Takes the entry of a page away. What was cached of it is for the caller to see to.
    pub(super) fn clear(&self, m: &mut impl Hardware, page: u64) {
        let mut table = self.root;
        for level in (1..self.levels).rev() {
            match m.read_device_entry(table, table_index(page, level)) {
                DeviceEntry::Table(next) => table = next,
                DeviceEntry::Absent | DeviceEntry::Page { .. } => return,
            }
        }
        m.write_device_entry(table, table_index(page, 0), DeviceEntry::Absent);
    }

    /// Frees all tables. No device finds them any more.
    pub(super) fn free(self, m: &impl Hardware, memory: &mut MemorySystem) {
        free_below(m, memory, self.root, self.levels - 1);
    }

    /// Names every table, and every page with its entry.
    #[cfg(test)]
    pub(crate) fn visit(
        &self,
        m: &impl Hardware,
        tables: &mut alloc::vec::Vec<Frame>,
        each: &mut impl FnMut(u64, DeviceEntry),
    ) {
        visit_below(m, (self.root, self.levels - 1), 0, tables, each);
    }
}

/// Recursion is bounded by the levels.
fn free_below(m: &impl Hardware, memory: &mut MemorySystem, table: Frame, level: u32) {
    for index in (0..TABLE_ENTRIES).filter(|_| level > 0) {
        if let DeviceEntry::Table(lower) = m.read_device_entry(table, index) {
            free_below(m, memory, lower, level - 1);
        }
    }
    memory.free_table(table);
}

#[cfg(test)]
fn visit_below(
    m: &impl Hardware,
    (table, level): (Frame, u32),
    base: u64,
    tables: &mut alloc::vec::Vec<Frame>,
    each: &mut impl FnMut(u64, DeviceEntry),
) {
    tables.push(table);
    for index in 0..TABLE_ENTRIES {
        let page = base + ((index as u64) << (9 * level));
        match m.read_device_entry(table, index) {
            DeviceEntry::Absent => {}
            DeviceEntry::Table(lower) => visit_below(m, (lower, level - 1), page, tables, each),
            entry @ DeviceEntry::Page { .. } => each(page, entry),
        }
    }
}
