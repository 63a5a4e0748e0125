//! What server and shim share about a process's open files, so that some calls on them need no server (ADR 11).
//!
//! Two pages, which no clone of the space inherits. The first, [`FileTable`], only the server writes: which descriptors can be
//! served in the process, and how. The second holds [`Position`]s, which the shim moves; the server believes of them no more
//! than it would believe `lseek`. All that a program gains by scribbling there is a position of its own file. Behind them are
//! [`Stores`]: when a file was written over and read in the process. By scribbling there a program gains what it could have
//! with a mapping of the file: its times tell too little, but nothing later than the present.
//!
//! The rules of the shim are here as functions of numbers, because here they can be tested.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Descriptors that the table knows: those below this.
pub const DESCRIPTORS: usize = 256;
/// Open files that can be served in a process at a time.
pub const FILES: usize = 28;
/// How many of them can have a window on their content: those in the first places.
pub const WINDOWS: usize = 12;
/// The longest part of a file that is mapped for reading, from its start, in bytes.
pub const WINDOW_BYTES: u64 = 1 << 30;
/// Where in the second page the positions are: at its start.
pub const POSITIONS_OFFSET: u64 = 4096;
/// Where in the second page the [`Stores`] are.
pub const STORES_OFFSET: u64 = POSITIONS_OFFSET + 1024;
/// Both pages.
pub const TABLE_BYTES: u64 = 8192;
/// How many bytes one call moves at most (`MAX_RW_COUNT`).
pub const MAX_COUNT: u64 = 0x7fff_f000;

/// The kinds of [`SharedFile`].
pub mod kind {
    /// A regular file, readable through its window.
    pub const REGULAR: u32 = 1;
    /// `/dev/null`.
    pub const NULL: u32 = 2;
    /// `/dev/zero`.
    pub const ZERO: u32 = 3;
    /// A counter: the position is its value.
    pub const COUNTER: u32 = 4;
    /// A counter of which reading takes one.
    pub const SEMAPHORE: u32 = 5;
    /// An end of a pipe: the position is the word of its [slot](crate::rings::PipeSlot), the window shows the slot's bytes.
    pub const PIPE: u32 = 6;
}

/// What `lseek` counts from.
const SEEK_SET: u32 = 0;
const SEEK_CUR: u32 = 1;
const SEEK_END: u32 = 2;

/// [`SharedFile::access`]: it may be read.
pub const READABLE: u32 = 1;
/// [`SharedFile::access`]: it may be written.
pub const WRITABLE: u32 = 2;
/// [`SharedFile::access`]: what is in the file may be written over through the window.
pub const STORABLE: u32 = 4;
/// [`SharedFile::access`]: the first read after a change is to be noted in [`Stores::read_ns`].
pub const NOTES_READS: u32 = 8;

/// An open file that can be served in the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SharedFile {
    /// 0: not in use. Else a number that no other use of this place had: what was read before it changed was read in time.
    pub state: u64,
    /// See [`kind`].
    pub kind: u32,
    /// [`READABLE`], [`WRITABLE`].
    pub access: u32,
    /// Where the file's bytes are mapped, from its first one on.
    pub window: u64,
    /// How many of them there are.
    pub mapped: u64,
    /// The file's size.
    pub size: u64,
    /// The [`Position::epoch`] with which the position may be moved; 0: the server has the position.
    pub epoch: u64,
    /// The place of its position.
    pub place: u64,
    /// The longest read that is served here, in bytes: what may have to be brought in is better brought in at once.
    pub longest: u64,
}

/// A position of an open file, as long as the epoch is that of its [`SharedFile`]. Both are changed together, or neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(16))]
pub struct Position {
    /// In bytes.
    pub offset: u64,
    /// The server changes it to take the position back.
    pub epoch: u64,
}

/// What a process tells of a file that it writes over itself (ADR 24); one for each place with a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stores {
    /// How many threads are storing at this moment, or are about to look whether they may. As long as there are any, the window's place
    /// is not used for another file.
    pub under_way: u64,
    /// When the file was last changed, in Unix time in ns. A store is noted before it is made.
    pub written_ns: u64,
    /// When it was last read, as far as that had to be noted.
    pub read_ns: u64,
}

/// The first page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileTable {
    /// For each descriptor, the place in `files` and 1 more; 0: the server serves it.
    pub descriptors: [u8; DESCRIPTORS],
    /// The open files.
    pub files: [SharedFile; FILES],
}

const _: () = assert!(size_of::<FileTable>() <= 4096);
const _: () = assert!(POSITIONS_OFFSET + (FILES * size_of::<Position>()) as u64 <= STORES_OFFSET);
const _: () = assert!(STORES_OFFSET + (WINDOWS * size_of::<Stores>()) as u64 <= TABLE_BYTES);

/// How many bytes a read at `position` gives; `None` if only the server can say, because they are not all mapped.
#[inline]
pub fn readable(file: &SharedFile, position: u64, count: u64) -> Option<u64> {
    let end = position.checked_add(count.min(MAX_COUNT)).filter(|end| *end <= i64::MAX as u64)?;
    if count > file.longest {
        return None;
    }
    if end > file.mapped && file.mapped < file.size {
        return None;
    }
    Some(end.min(file.size).saturating_sub(position))
}

/// Whether a range can be written over in the process: all of it is in the file, and in the window.
#[inline]
pub fn is_storable(file: &SharedFile, position: u64, count: u64) -> bool {
    let end = position.checked_add(count).filter(|_| count != 0 && count <= MAX_COUNT);
    let is_there = end.is_some_and(|end| end <= file.mapped.min(file.size));
    file.kind == kind::REGULAR && file.access & STORABLE != 0 && is_there
}

/// Where `lseek` goes; `None` if only the server can say, or refuse.
#[inline]
pub fn sought(file: &SharedFile, position: u64, offset: u64, whence: u32) -> Option<u64> {
    let base = match whence {
        SEEK_SET => 0,
        SEEK_CUR => position,
        SEEK_END => file.size,
        _ => return None,
    };
    let target = i64::try_from(base).ok()?.checked_add(offset as i64)?;
    u64::try_from(target).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: SharedFile = SharedFile {
        state: 1,
        kind: kind::REGULAR,
        access: READABLE,
        window: 0,
        mapped: 100,
        size: 100,
        epoch: 1,
        place: 0,
        longest: u64::MAX,
    };

    #[test]
    fn a_read_ends_with_the_file() {
        assert_eq!(readable(&FILE, 0, 10), Some(10));
        assert_eq!(readable(&FILE, 95, 10), Some(5));
        assert_eq!(readable(&FILE, 100, 10), Some(0));
        assert_eq!(readable(&FILE, 5000, u64::MAX), Some(0));
    }

    #[test]
    fn what_is_longer_than_the_longest_is_the_servers() {
        let slow = SharedFile { longest: 20, ..FILE };
        assert_eq!((readable(&slow, 10, 20), readable(&slow, 10, 21)), (Some(20), None));
    }

    #[test]
    fn only_what_is_in_the_file_is_written_over() {
        let file = SharedFile { access: READABLE | WRITABLE | STORABLE, ..FILE };
        assert!(is_storable(&file, 0, 100) && is_storable(&file, 99, 1));
        assert!(!is_storable(&file, 0, 101) && !is_storable(&file, 100, 1) && !is_storable(&file, 5, 0));
        assert!(!is_storable(&file, u64::MAX, 2) && !is_storable(&FILE, 0, 1));
        let large = SharedFile { size: 1000, ..file };
        assert!(is_storable(&large, 50, 50) && !is_storable(&large, 50, 51));
    }

    #[test]
    fn what_is_not_mapped_is_the_servers() {
        let large = SharedFile { size: 1000, ..FILE };
        assert_eq!(readable(&large, 90, 10), Some(10));
        assert_eq!(readable(&large, 91, 10), None);
        assert_eq!(readable(&large, 2000, 10), None);
        assert_eq!(readable(&FILE, u64::MAX, 10), None);
        assert_eq!(readable(&FILE, i64::MAX as u64, 1), None);
    }

    #[test]
    fn seeking_goes_where_linux_goes_or_to_the_server() {
        assert_eq!(sought(&FILE, 7, 50, 0), Some(50));
        assert_eq!(sought(&FILE, 7, -3i64 as u64, 1), Some(4));
        assert_eq!(sought(&FILE, 7, 1, 2), Some(101));
        assert_eq!(sought(&FILE, 7, -8i64 as u64, 1), None);
        assert_eq!(sought(&FILE, 7, i64::MAX as u64, 2), None);
        assert_eq!(sought(&FILE, 7, 0, 3), None);
        assert_eq!(sought(&FILE, u64::MAX, 0, 1), None);
    }
}
