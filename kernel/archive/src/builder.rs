//! Making an archive; for xtask.

use crate::archive::{is_path, is_target};
use crate::error::ArchiveError;
use crate::format::{
    EntryRecord, HeaderRecord, KIND_DIRECTORY, KIND_FILE, KIND_SYMLINK, MAGIC, MAX_PATH_BYTES, MAX_SEGMENTS,
    PAGE_BYTES, ProgramRecord, Rights, SegmentRecord, TABLE_OFFSET, VERSION, checksum, index_checksum,
};
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromZeros, IntoBytes};

/// Who may do what with an entry, and its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits, as in `chmod`: at most `0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The time of the last change, in seconds since 1970 began.
    pub modified_s: i64,
}

impl Metadata {
    /// An entry of the superuser with this mode, from the beginning of 1970.
    #[must_use]
    pub const fn of_root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, modified_s: 0 }
    }
}

/// A segment of the first program, with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentContent {
    /// Where it begins in the program's address space, a multiple of [`PAGE_BYTES`].
    pub address: u64,
    /// Bytes in the address space; those after the content are zero.
    pub memory_length_bytes: u64,
    /// What the program may do there.
    pub rights: Rights,
    /// The content.
    pub content: Vec<u8>,
}

/// Why no archive could be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The path is malformed, or longer than [`MAX_PATH_BYTES`].
    Path(String),
    /// The symbolic link at this path has a malformed target.
    Target(String),
    /// More segments than [`MAX_SEGMENTS`].
    TooManySegments(usize),
    /// The index would be larger than 4 GiB.
    TooLarge,
    /// The result would be refused by the parser.
    Refused(ArchiveError),
}

#[derive(Clone, Debug)]
enum NewContent {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
}

/// Collects the parts of an archive. Adding a path twice replaces the first entry.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    entry_address: u64,
    segments: Vec<SegmentContent>,
    entries: BTreeMap<Vec<u8>, (Metadata, NewContent)>,
}

impl Builder {
    /// An archive with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what the kernel starts.
    pub fn first_program(&mut self, entry: u64, segments: Vec<SegmentContent>) -> &mut Self {
        self.entry_address = entry;
        self.segments = segments;
        self
    }

    /// Adds a directory.
    ///
    /// # Errors
    ///
    /// [`BuildError::Path`].
    pub fn directory(&mut self, path: &str, metadata: Metadata) -> Result<&mut Self, BuildError> {
        self.add(path, metadata, NewContent::Directory)
    }

    /// Adds a file.
    ///
    /// # Errors
    ///
    /// [`BuildError::Path`].
    pub fn file(&mut self, path: &str, metadata: Metadata, content: Vec<u8>) -> Result<&mut Self, BuildError> {
        self.add(path, metadata, NewContent::File(content))
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    ///
    /// [`BuildError::Path`] or [`BuildError::Target`].
    pub fn symlink(&mut self, path: &str, metadata: Metadata, target: &str) -> Result<&mut Self, BuildError> {
        if !is_target(target.as_bytes()) {
            return Err(BuildError::Target(path.to_owned()));
        }
        self.add(path, metadata, NewContent::Symlink(target.as_bytes().to_owned()))
    }

    /// Whether something has this path.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path.as_bytes())
    }

    fn add(&mut self, path: &str, metadata: Metadata, content: NewContent) -> Result<&mut Self, BuildError> {
        if !is_path(path.as_bytes()) {
            return Err(BuildError::Path(path.to_owned()));
        }
        self.add_missing_parents(path);
        self.entries.insert(path.as_bytes().to_owned(), (metadata, content));
        Ok(self)
    }

    fn add_missing_parents(&mut self, path: &str) {
        const MODE: u32 = 0o755;
        for (end, _) in path.match_indices('/') {
            let parent = path.as_bytes().get(..end).unwrap_or_default().to_owned();
            self.entries.entry(parent).or_insert((Metadata::of_root(MODE), NewContent::Directory));
        }
    }

    /// The bytes of the archive; their number is a multiple of [`PAGE_BYTES`].
    ///
    /// # Errors
    ///
    /// Whatever the parser would refuse, and what does not fit into the format.
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        if self.segments.len() > MAX_SEGMENTS {
            return Err(BuildError::TooManySegments(self.segments.len()));
        }
        let index_length = self.index_length();
        let mut contents = Contents { start: index_length.next_multiple_of(PAGE_BYTES), bytes: Vec::new() };
        let program = self.program_record(&mut contents);
        let mut strings = Strings { start: self.strings_offset(), bytes: Vec::new() };
        let mut table = Vec::with_capacity(self.entries.len());
        for (path, (metadata, content)) in &self.entries {
            table.push(entry_record(path, metadata, content, &mut strings, &mut contents)?);
        }
        let header = HeaderRecord {
            magic: MAGIC,
            version: U32::new(VERSION),
            entry_count: U32::new(u32::try_from(table.len()).map_err(|_| BuildError::TooLarge)?),
            total_length: U64::new(contents.end()),
            index_length: U64::new(index_length),
            index_checksum: U64::ZERO,
        };
        assemble(header, &program, &table, &strings, &contents)
    }

    fn strings_offset(&self) -> u64 {
        (TABLE_OFFSET + self.entries.len() * size_of::<EntryRecord>()) as u64
    }

    fn index_length(&self) -> u64 {
        let of_entry = |(path, (_, content)): (&Vec<u8>, &(Metadata, NewContent))| {
            let target = match content {
                NewContent::Directory | NewContent::File(_) => 0,
                NewContent::Symlink(target) => target.len(),
            };
            (path.len() + target) as u64
        };
        self.strings_offset() + self.entries.iter().map(of_entry).sum::<u64>()
    }

    fn program_record(&self, contents: &mut Contents) -> ProgramRecord {
        let mut program = ProgramRecord::new_zeroed();
        program.entry = U64::new(self.entry_address);
        for (record, segment) in program.segments.iter_mut().zip(&self.segments) {
            program.segment_count += 1;
            *record = SegmentRecord {
                offset: U64::new(contents.append(&segment.content)),
                file_length: U64::new(segment.content.len() as u64),
                address: U64::new(segment.address),
                memory_length: U64::new(segment.memory_length_bytes),
                checksum: U64::new(checksum(&segment.content, None)),
                rights: U32::new(segment.rights.bits()),
                reserved: U32::ZERO,
            };
        }
        program
    }
}

fn entry_record(
    path: &[u8],
    metadata: &Metadata,
    content: &NewContent,
    strings: &mut Strings,
    contents: &mut Contents,
) -> Result<EntryRecord, BuildError> {
    let narrow = |value: u64| u32::try_from(value).map(U32::new).map_err(|_| BuildError::TooLarge);
    let path_offset = narrow(strings.append(path))?;
    let (kind, offset, length, sum) = match content {
        NewContent::Directory => (KIND_DIRECTORY, 0, 0, 0),
        NewContent::File(bytes) => (KIND_FILE, contents.append(bytes), bytes.len(), checksum(bytes, None)),
        NewContent::Symlink(target) => (KIND_SYMLINK, strings.append(target), target.len(), 0),
    };
    Ok(EntryRecord {
        path_offset,
        path_length: narrow(path.len() as u64)?,
        kind: U32::new(kind),
        mode: U32::new(metadata.mode),
        uid: U32::new(metadata.uid),
        gid: U32::new(metadata.gid),
        modified_s: I64::new(metadata.modified_s),
        offset: U64::new(offset),
        length: U64::new(length as u64),
        checksum: U64::new(sum),
    })
}

fn assemble(
    mut header: HeaderRecord,
    program: &ProgramRecord,
    table: &[EntryRecord],
    strings: &Strings,
    contents: &Contents,
) -> Result<Vec<u8>, BuildError> {
    let index =
        |header: &HeaderRecord| [header.as_bytes(), program.as_bytes(), table.as_bytes(), &strings.bytes].concat();
    header.index_checksum = U64::new(index_checksum(&index(&header)));
    let mut bytes = index(&header);
    bytes.resize(usize::try_from(contents.start).map_err(|_| BuildError::TooLarge)?, 0);
    bytes.extend_from_slice(&contents.bytes);
    crate::Archive::parse(&bytes).map_err(BuildError::Refused)?;
    Ok(bytes)
}

/// The contents of files and segments, each on pages of its own.
struct Contents {
    start: u64,
    bytes: Vec<u8>,
}

impl Contents {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Adds a content and gives its offset in the archive.
    fn append(&mut self, content: &[u8]) -> u64 {
        let offset = self.end();
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(PAGE_BYTES as usize), 0);
        offset
    }
}

/// Paths and targets of symbolic links.
struct Strings {
    start: u64,
    bytes: Vec<u8>,
}

impl Strings {
    fn append(&mut self, string: &[u8]) -> u64 {
        let offset = self.start + self.bytes.len() as u64;
        self.bytes.extend_from_slice(string);
        offset
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => {
                write!(
                    f,
                    "{path:?} can't be a path in the archive (relative, no . or .., at most {MAX_PATH_BYTES} bytes)"
                )
            }
            Self::Target(path) => write!(f, "the symbolic link {path:?} has a malformed target"),
            Self::TooManySegments(count) => {
                write!(f, "the first program has {count} segments; at most {MAX_SEGMENTS} are possible")
            }
            Self::TooLarge => f.write_str("the index of the archive would be larger than 4 GiB"),
            Self::Refused(error) => write!(f, "the archive would not be readable: {error}"),
        }
    }
}

impl core::error::Error for BuildError {}
