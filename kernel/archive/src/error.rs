//! What can be wrong with an archive, said so that a person at the serial console knows which part to blame.

use core::fmt;

/// Why an archive was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveError {
    /// There are fewer bytes than the archive says it has, or than its header takes.
    Truncated {
        /// How many bytes there should be.
        needed: u64,
        /// How many there are.
        present: u64,
    },
    /// The first bytes are not those of an archive.
    NotAnArchive,
    /// The archive has a format that this program does not know.
    UnknownVersion(u32),
    /// The header says that there are more entries than [`crate::MAX_ENTRIES`].
    TooManyEntries(u32),
    /// The header's lengths contradict each other.
    BadIndexLength(u64),
    /// The index is damaged.
    IndexChecksum,
    /// The content of a segment or of a file is not what it was when the archive was made.
    Damaged {
        /// Which part.
        subject: Subject,
        /// The file's path; empty for a segment.
        path: PathStart,
    },
    /// Something is wrong with one part.
    Part {
        /// Which part.
        subject: Subject,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// A part of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The record of the first program.
    FirstProgram,
    /// A segment of the first program, by its number.
    Segment(u32),
    /// An entry of the table, by its number.
    Entry(u32),
}

/// What can be wrong with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// More segments than [`crate::MAX_SEGMENTS`], or none.
    SegmentCount,
    /// The content does not lie between the index and the end of the archive.
    OutOfRange,
    /// The offset or the address is not a multiple of the page size.
    Misaligned,
    /// The address range is not below the end of user space, or it is shorter than the content.
    AddressRange,
    /// The segment begins before its predecessor ends.
    SegmentOrder,
    /// Rights that do not exist, or writing and executing together.
    Rights,
    /// The entry address lies in no segment that may be executed.
    EntryAddress,
    /// The kind of the entry is unknown.
    Kind,
    /// The mode has other bits than permissions.
    Mode,
    /// The path is empty, too long, absolute, has a NUL, or an empty, `.` or `..` component.
    Path,
    /// The path is not greater than the one before it.
    PathOrder,
    /// The target of the symbolic link is empty, too long or has a NUL.
    Target,
}

/// The first bytes of a path, to name a file in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStart {
    bytes: [u8; Self::CAPACITY],
    length: usize,
}

impl PathStart {
    /// How much of a path is kept, in bytes.
    pub const CAPACITY: usize = 64;

    /// The start of this path.
    #[must_use]
    pub fn new(path: &[u8]) -> Self {
        let mut bytes = [0; Self::CAPACITY];
        for (to, from) in bytes.iter_mut().zip(path) {
            *to = *from;
        }
        Self { bytes, length: path.len().min(Self::CAPACITY) }
    }
}

impl fmt::Display for PathStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.get(..self.length).unwrap_or_default().escape_ascii().fmt(f)
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, present } => {
                write!(f, "the archive is cut off: {present} bytes of {needed}")
            }
            Self::NotAnArchive => f.write_str("this is not a boot archive (wrong first bytes)"),
            Self::UnknownVersion(version) => write!(f, "the archive has the unknown format version {version}"),
            Self::TooManyEntries(count) => write!(f, "the header claims {count} entries, which is too many"),
            Self::BadIndexLength(length) => write!(f, "the header claims an impossible index of {length} bytes"),
            Self::IndexChecksum => f.write_str("the index is damaged (wrong checksum)"),
            Self::Damaged { subject, path } => write!(f, "{subject} ({path}): the content is damaged (wrong checksum)"),
            Self::Part { subject, problem } => write!(f, "{subject}: {problem}"),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstProgram => f.write_str("first program"),
            Self::Segment(number) => write!(f, "first program, segment {number}"),
            Self::Entry(number) => write!(f, "entry {number}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SegmentCount => "impossible number of segments",
            Self::OutOfRange => "content outside the archive",
            Self::Misaligned => "not aligned to a page",
            Self::AddressRange => "impossible address range",
            Self::SegmentOrder => "begins before its predecessor ends",
            Self::Rights => "impossible rights",
            Self::EntryAddress => "the entry address is not in executable memory",
            Self::Kind => "unknown kind",
            Self::Mode => "impossible mode",
            Self::Path => "malformed path",
            Self::PathOrder => "path out of order",
            Self::Target => "malformed target of a symbolic link",
        })
    }
}

impl core::error::Error for ArchiveError {}
