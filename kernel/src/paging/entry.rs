//! Entries of user space's page tables, from and to what the core calls them.

use super::bits;
use quire_core::machine::{Access, Caching, Entry, Frame};

const PAGE_SHIFT: u32 = 12;

fn address(frame: Frame) -> u64 {
    u64::from(frame.0) << PAGE_SHIFT
}

fn frame(raw: u64) -> Frame {
    Frame(((raw & bits::ADDRESS) >> PAGE_SHIFT) as u32)
}

/// The processor's form of an entry. Entries made here always belong to user space.
#[inline]
pub(crate) fn encode(entry: Entry) -> u64 {
    match entry {
        Entry::Absent => 0,
        Entry::Table { table, writable } => {
            let write = if writable { bits::WRITE } else { 0 };
            address(table) | bits::PRESENT | bits::USER | bits::SOFTWARE_TABLE | write
        }
        Entry::Page { frame, access, caching } => {
            let write = if access.write { bits::WRITE } else { 0 };
            let no_execute = if access.execute { 0 } else { bits::NO_EXECUTE };
            let cache = match caching {
                Caching::WriteBack => 0,
                Caching::Uncached => bits::CACHE_DISABLE | bits::WRITE_THROUGH,
            };
            address(frame) | bits::PRESENT | bits::USER | write | no_execute | cache
        }
    }
}

/// What an entry says. The reverse of [`encode`].
#[inline]
pub(crate) fn decode(raw: u64) -> Entry {
    let write = raw & bits::WRITE != 0;
    if raw & bits::PRESENT == 0 {
        Entry::Absent
    } else if raw & bits::SOFTWARE_TABLE != 0 {
        Entry::Table { table: frame(raw), writable: write }
    } else {
        let caching = if raw & bits::CACHE_DISABLE == 0 { Caching::WriteBack } else { Caching::Uncached };
        let access = Access { write, execute: raw & bits::NO_EXECUTE == 0 };
        Entry::Page { frame: frame(raw), access, caching }
    }
}

/// The table that an entry above the lowest level leads to: what [`decode`] says, for whoever follows many.
#[inline]
pub(crate) fn table_in(raw: u64) -> Option<Frame> {
    (raw & bits::SOFTWARE_TABLE != 0).then(|| frame(raw))
}

/// A lowest-level entry that allows stores only if `above`, the conjunction of the entries that lead to it, does too.
#[inline]
pub(crate) fn restricted(raw: u64, above: u64) -> u64 {
    raw & (above | !bits::WRITE)
}

/// A lowest-level entry with the permission to write taken away.
#[inline]
pub(crate) fn read_only(raw: u64) -> u64 {
    raw & !bits::WRITE
}

/// Whether the processor has used the page that a lowest-level entry shows (Intel SDM vol. 3A, 4.8).
#[inline]
pub(crate) fn is_accessed(raw: u64) -> bool {
    raw & (bits::PRESENT | bits::ACCESSED) == bits::PRESENT | bits::ACCESSED
}

/// The entry as if the processor had not used the page yet.
#[inline]
pub(crate) fn not_accessed(raw: u64) -> u64 {
    raw & !bits::ACCESSED
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame(0x1234_5678);

    fn pages() -> impl Iterator<Item = Entry> {
        (0..8).map(|bits| Entry::Page {
            frame: FRAME,
            access: Access { write: bits & 1 != 0, execute: bits & 2 != 0 },
            caching: if bits & 4 != 0 { Caching::Uncached } else { Caching::WriteBack },
        })
    }

    #[test]
    fn every_entry_reads_back_as_it_was_written() {
        let tables = [true, false].map(|writable| Entry::Table { table: FRAME, writable });
        for entry in pages().chain(tables).chain([Entry::Absent]) {
            assert_eq!(decode(encode(entry)), entry);
        }
    }

    #[test]
    fn every_entry_is_user_spaces_and_none_is_global() {
        for entry in pages() {
            assert_eq!(encode(entry) & (bits::PRESENT | bits::USER | bits::GLOBAL), bits::PRESENT | bits::USER);
        }
    }

    #[test]
    fn what_may_not_be_executed_says_so() {
        for entry in pages() {
            let Entry::Page { access, .. } = entry else { continue };
            assert_eq!(encode(entry) & bits::NO_EXECUTE == 0, access.execute);
        }
    }

    #[test]
    fn bits_that_the_processor_sets_do_not_matter() {
        const ACCESSED_AND_DIRTY: u64 = 3 << 5;
        for entry in pages() {
            assert_eq!(decode(encode(entry) | ACCESSED_AND_DIRTY), entry);
        }
    }

    #[test]
    fn use_is_noted_and_forgotten_and_changes_nothing_else() {
        for entry in pages() {
            let raw = encode(entry);
            assert!(!is_accessed(raw) && is_accessed(raw | bits::ACCESSED));
            assert_eq!(not_accessed(raw | bits::ACCESSED), raw);
        }
        assert!(!is_accessed(bits::ACCESSED), "an absent entry means nothing");
    }

    #[test]
    fn only_entries_that_lead_to_a_table_name_one() {
        let table = |writable| encode(Entry::Table { table: FRAME, writable });
        assert_eq!([table(true), table(false)].map(table_in), [Some(FRAME); 2]);
        assert!(pages().all(|page| table_in(encode(page)).is_none()));
        assert_eq!(table_in(encode(Entry::Absent)), None);
        for page in pages() {
            let raw = encode(page);
            assert_eq!(restricted(raw, table(true)), raw);
            assert_eq!(restricted(raw, table(false)), read_only(raw));
        }
    }

    #[test]
    fn read_only_takes_away_writing_and_nothing_else() {
        for entry in pages() {
            let Entry::Page { frame, access, caching } = entry else { continue };
            let expected = Entry::Page { frame, access: Access { write: false, ..access }, caching };
            assert_eq!(decode(read_only(encode(entry))), expected);
        }
        assert_eq!(read_only(0), 0);
    }
}
