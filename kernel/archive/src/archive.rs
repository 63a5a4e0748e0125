//! Reading an archive: everything is checked once, in [`Archive::parse`].

use crate::error::{ArchiveError, PathStart, Problem, Subject};
use crate::format::{
    EntryRecord, HeaderRecord, KIND_DIRECTORY, KIND_FILE, KIND_SYMLINK, MAGIC, MAX_ENTRIES, MAX_PATH_BYTES,
    MAX_SEGMENTS, PAGE_BYTES, ProgramRecord, Rights, SegmentRecord, TABLE_OFFSET, USER_END, VERSION, checksum,
    index_checksum,
};
use zerocopy::FromBytes;

/// All permission bits that an entry may have (as in `chmod`).
const MODE_BITS: u32 = 0o7777;

/// A checked archive. Its lifetime is that of the bytes, which it borrows.
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    index_length: usize,
    program: &'a ProgramRecord,
    table: &'a [EntryRecord],
}

/// What the kernel starts.
#[derive(Clone, Copy, Debug)]
pub struct FirstProgram<'a> {
    archive: Archive<'a>,
}

/// A part of the first program: what to map where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where the content begins in the archive, a multiple of [`PAGE_BYTES`].
    pub offset: u64,
    /// Bytes of content; what follows up to `memory_length_bytes` is zero.
    pub file_length_bytes: u64,
    /// Where the segment begins in the program's address space, a multiple of [`PAGE_BYTES`].
    pub address: u64,
    /// Bytes in the address space, at least `file_length_bytes`.
    pub memory_length_bytes: u64,
    /// What the program may do there; never writing and executing together.
    pub rights: Rights,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// A directory holds nothing here: its entries are those whose paths begin with its own.
    Directory,
    /// The content of a file.
    File {
        /// Where it begins in the archive, a multiple of [`PAGE_BYTES`]: what a window needs.
        offset: u64,
        /// The bytes themselves.
        bytes: &'a [u8],
    },
    /// The target of a symbolic link: without NUL, not empty.
    Symlink(&'a [u8]),
}

/// One file, directory or symbolic link.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    archive: Archive<'a>,
    record: &'a EntryRecord,
}

impl<'a> Archive<'a> {
    /// Checks the index of the archive that `bytes` begin with; bytes after its end don't matter.
    ///
    /// # Errors
    ///
    /// An [`ArchiveError`] that names the part which is wrong. The contents of files are not looked at; see
    /// [`Archive::check_contents`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let header = parse_header(bytes)?;
        let present = bytes.len() as u64;
        let total = header.total_length.get();
        let bytes = to_usize(total)
            .and_then(|total| bytes.get(..total))
            .ok_or(ArchiveError::Truncated { needed: total, present })?;
        let index_length = header.index_length.get();
        let bad_index = ArchiveError::BadIndexLength(index_length);
        let index = to_usize(index_length).and_then(|length| bytes.get(..length)).ok_or(bad_index)?;
        if index_checksum(index) != header.index_checksum.get() {
            return Err(ArchiveError::IndexChecksum);
        }
        let after_header = index.get(size_of::<HeaderRecord>()..).ok_or(bad_index)?;
        let (program, after_program) = ProgramRecord::ref_from_prefix(after_header).map_err(|_| bad_index)?;
        let count = header.entry_count.get() as usize;
        let (table, _) = <[EntryRecord]>::ref_from_prefix_with_elems(after_program, count).map_err(|_| bad_index)?;

        let archive = Self { bytes, index_length: index.len(), program, table };
        archive.check_program()?;
        archive.check_entries()?;
        Ok(archive)
    }

    /// How long the archive is, in bytes; a multiple of [`PAGE_BYTES`] if the builder made it.
    #[must_use]
    pub fn total_length_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What the kernel starts.
    #[must_use]
    pub fn first_program(&self) -> FirstProgram<'a> {
        FirstProgram { archive: *self }
    }

    /// All entries, sorted by path; so a directory comes before what is in it.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'a>> + Clone + use<'a> {
        let archive = *self;
        self.table.iter().map(move |record| Entry { archive, record })
    }

    /// The entry with exactly this path.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<Entry<'a>> {
        let position = self.table.binary_search_by(|record| self.path_of(record).cmp(path)).ok()?;
        self.table.get(position).map(|record| Entry { archive: *self, record })
    }

    /// Checks the checksums of all segments and files; the cost is that of reading the whole archive once.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Damaged`] with the first part whose content is.
    pub fn check_contents(&self) -> Result<(), ArchiveError> {
        let damaged = |subject, path| ArchiveError::Damaged { subject, path: PathStart::new(path) };
        for (number, record) in (0..).zip(self.segment_records()) {
            if checksum(self.slice(record.offset.get(), record.file_length.get()), None) != record.checksum.get() {
                return Err(damaged(Subject::Segment(number), b""));
            }
        }
        for (number, entry) in (0..).zip(self.entries()) {
            if !entry.is_intact() {
                return Err(damaged(Subject::Entry(number), entry.path()));
            }
        }
        Ok(())
    }

    fn segment_records(&self) -> &'a [SegmentRecord] {
        let count = self.program.segment_count.get() as usize;
        self.program.segments.get(..count).unwrap_or(&[])
    }

    /// Bytes of the archive by a range that was checked when the archive was parsed; empty if it was not.
    fn slice(&self, offset: u64, length: u64) -> &'a [u8] {
        range(offset, length).and_then(|range| self.bytes.get(range)).unwrap_or(&[])
    }

    fn path_of(&self, record: &EntryRecord) -> &'a [u8] {
        self.slice(record.path_offset.get().into(), record.path_length.get().into())
    }

    fn check_program(&self) -> Result<(), ArchiveError> {
        let wrong = |subject, problem| ArchiveError::Part { subject, problem };
        let count = self.program.segment_count.get() as usize;
        if count == 0 || count > MAX_SEGMENTS {
            return Err(wrong(Subject::FirstProgram, Problem::SegmentCount));
        }
        let entry = self.program.entry.get();
        let mut previous_end = 0;
        let mut entry_is_code = false;
        for (number, record) in (0..).zip(self.segment_records()) {
            let segment = self.check_segment(record).map_err(|problem| wrong(Subject::Segment(number), problem))?;
            if segment.address < previous_end {
                return Err(wrong(Subject::Segment(number), Problem::SegmentOrder));
            }
            previous_end = segment.address.saturating_add(segment.memory_length_bytes).next_multiple_of(PAGE_BYTES);
            entry_is_code |= segment.rights.contains(Rights::EXECUTE)
                && (segment.address..segment.address + segment.memory_length_bytes).contains(&entry);
        }
        if entry_is_code { Ok(()) } else { Err(wrong(Subject::FirstProgram, Problem::EntryAddress)) }
    }

    fn check_segment(&self, record: &SegmentRecord) -> Result<Segment, Problem> {
        let segment = segment_of(record).ok_or(Problem::Rights)?;
        self.check_content(segment.offset, segment.file_length_bytes)?;
        if !segment.address.is_multiple_of(PAGE_BYTES) {
            return Err(Problem::Misaligned);
        }
        let end = segment.address.checked_add(segment.memory_length_bytes).ok_or(Problem::AddressRange)?;
        let too_short = segment.memory_length_bytes == 0 || segment.memory_length_bytes < segment.file_length_bytes;
        if end > USER_END || too_short {
            return Err(Problem::AddressRange);
        }
        if segment.rights.contains(Rights::WRITE.with(Rights::EXECUTE)) {
            return Err(Problem::Rights);
        }
        Ok(segment)
    }

    /// Whether this is a page-aligned range of contents.
    fn check_content(&self, offset: u64, length: u64) -> Result<(), Problem> {
        if !offset.is_multiple_of(PAGE_BYTES) {
            return Err(Problem::Misaligned);
        }
        let inside = offset >= self.index_length as u64
            && range(offset, length).is_some_and(|range| self.bytes.get(range).is_some());
        if inside || length == 0 { Ok(()) } else { Err(Problem::OutOfRange) }
    }

    fn check_entries(&self) -> Result<(), ArchiveError> {
        let mut previous: &[u8] = &[];
        for (number, record) in (0..).zip(self.table) {
            self.check_entry(record, previous)
                .map_err(|problem| ArchiveError::Part { subject: Subject::Entry(number), problem })?;
            previous = self.path_of(record);
        }
        Ok(())
    }

    fn check_entry(&self, record: &EntryRecord, previous: &[u8]) -> Result<(), Problem> {
        let path = self
            .index_slice(record.path_offset.get().into(), record.path_length.get().into())
            .filter(|path| is_path(path))
            .ok_or(Problem::Path)?;
        if path <= previous {
            return Err(Problem::PathOrder);
        }
        if record.mode.get() & !MODE_BITS != 0 {
            return Err(Problem::Mode);
        }
        match kind_of(record).ok_or(Problem::Kind)? {
            Kind::Directory => Ok(()),
            Kind::File => self.check_content(record.offset.get(), record.length.get()),
            Kind::Symlink => {
                let target = self.index_slice(record.offset.get(), record.length.get()).ok_or(Problem::OutOfRange)?;
                if is_target(target) { Ok(()) } else { Err(Problem::Target) }
            }
        }
    }

    fn index_slice(&self, offset: u64, length: u64) -> Option<&'a [u8]> {
        self.bytes.get(..self.index_length)?.get(range(offset, length)?)
    }
}

impl<'a> FirstProgram<'a> {
    /// Where it begins to run.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.archive.program.entry.get()
    }

    /// Its segments, by ascending address; no two share a page. At least one, at most [`MAX_SEGMENTS`].
    pub fn segments(&self) -> impl Iterator<Item = Segment> + Clone + use<'a> {
        self.archive.segment_records().iter().filter_map(segment_of)
    }
}

impl<'a> Entry<'a> {
    /// The path: relative, without NUL.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        self.archive.path_of(self.record)
    }

    /// What the entry is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        // `parse` has refused all other numbers.
        kind_of(self.record).unwrap_or(Kind::File)
    }

    /// What the entry holds.
    #[must_use]
    pub fn content(&self) -> Content<'a> {
        let offset = self.record.offset.get();
        let bytes = self.archive.slice(offset, self.record.length.get());
        match self.kind() {
            Kind::Directory => Content::Directory,
            Kind::File => Content::File { offset, bytes },
            Kind::Symlink => Content::Symlink(bytes),
        }
    }

    /// Permission bits, as in `chmod`: at most `0o7777`.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.record.mode.get()
    }

    /// The owner.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.record.uid.get()
    }

    /// The group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.record.gid.get()
    }

    /// The time of the last change, in seconds since 1970 began.
    #[must_use]
    pub fn modified_s(&self) -> i64 {
        self.record.modified_s.get()
    }

    /// Whether the content has the checksum that it had when the archive was made.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        match self.content() {
            Content::File { offset: _, bytes } => checksum(bytes, None) == self.record.checksum.get(),
            // Covered by the checksum of the index.
            Content::Directory | Content::Symlink(_) => true,
        }
    }
}

fn parse_header(bytes: &[u8]) -> Result<&HeaderRecord, ArchiveError> {
    let truncated = ArchiveError::Truncated { needed: TABLE_OFFSET as u64, present: bytes.len() as u64 };
    let (header, _) = HeaderRecord::ref_from_prefix(bytes).map_err(|_| truncated)?;
    if header.magic != MAGIC {
        return Err(ArchiveError::NotAnArchive);
    }
    if header.version.get() != VERSION {
        return Err(ArchiveError::UnknownVersion(header.version.get()));
    }
    if header.entry_count.get() > MAX_ENTRIES {
        return Err(ArchiveError::TooManyEntries(header.entry_count.get()));
    }
    Ok(header)
}

fn segment_of(record: &SegmentRecord) -> Option<Segment> {
    Some(Segment {
        offset: record.offset.get(),
        file_length_bytes: record.file_length.get(),
        address: record.address.get(),
        memory_length_bytes: record.memory_length.get(),
        rights: Rights::from_bits(record.rights.get())?,
    })
}

fn kind_of(record: &EntryRecord) -> Option<Kind> {
    match record.kind.get() {
        KIND_DIRECTORY => Some(Kind::Directory),
        KIND_FILE => Some(Kind::File),
        KIND_SYMLINK => Some(Kind::Symlink),
        _ => None,
    }
}

/// Whether these bytes may be the path of an entry.
pub(crate) fn is_path(path: &[u8]) -> bool {
    let component_is_good =
        |component: &[u8]| !component.is_empty() && component != b"." && component != b".." && !component.contains(&0);
    path.len() <= MAX_PATH_BYTES && path.split(|byte| *byte == b'/').all(component_is_good)
}

/// Whether these bytes may be the target of a symbolic link.
pub(crate) fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() <= MAX_PATH_BYTES && !target.contains(&0)
}

fn to_usize(value: u64) -> Option<usize> {
    usize::try_from(value).ok()
}

fn range(offset: u64, length: u64) -> Option<core::ops::Range<usize>> {
    Some(to_usize(offset)?..to_usize(offset.checked_add(length)?)?)
}
