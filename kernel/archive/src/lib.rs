//! The boot archive: the files that the system starts from.
//!
//! The kernel gets the archive as one run of physical memory and makes a `Memory` of it; each file is then a *window* on
//! that memory, mapped and never copied. So the content of every file begins on a page boundary, and the rest of its last
//! page is zero.
//!
//! ```text
//!  0              header: magic, version, counts, lengths, checksum of the index
//!  HEADER         the first program: entry address and up to MAX_SEGMENTS segments (the kernel knows no ELF)
//!  …              the table: one record per entry, sorted by path, no path twice
//!  …              paths and targets of symbolic links
//!  index_length ──────────────────────────────────────────── everything above is the index
//!  4 KiB × n      contents of segments and files
//!  total_length
//! ```
//!
//! All numbers are little-endian. Paths are bytes, relative, without NUL, empty components, `.` or `..`. Those under
//! `boot/` are for the supervisor ([`init::PATH`] says what to run first); those under `root/` fill the POSIX root file
//! system.
//!
//! **The promise of the parser:** [`Archive::parse`] checks the whole index, so no accessor of [`Archive`] panics or fails
//! afterwards, whatever the bytes were. Checksums find damage, not malice: whoever can write the archive owns the system.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "build"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod archive;
#[cfg(any(test, feature = "build"))]
mod builder;
mod error;
mod format;
pub mod init;

pub use archive::{Archive, Content, Entry, FirstProgram, Kind, Segment};
#[cfg(any(test, feature = "build"))]
pub use builder::{BuildError, Builder, Metadata, SegmentContent};
pub use error::{ArchiveError, PathStart, Problem, Subject};
pub use format::{MAX_ENTRIES, MAX_PATH_BYTES, MAX_SEGMENTS, PAGE_BYTES, Rights};

#[cfg(test)]
mod tests;
