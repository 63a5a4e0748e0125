//! Small ELF files for x86_64: a well-formed program that exits with a known status, to be broken in one chosen way.
//!
//! The layout is that of the System V ABI's object files (generic ABI, chapters 4 and 5): a file header of 64 bytes,
//! program headers of 56 bytes each, then the bytes of the segments. Every field is public and is written as it stands,
//! however wrong, because wrong fields are what the files are for.

/// The status with which the program of [`Image::program`] exits.
pub const EXIT_STATUS: i32 = 7;

/// Where the text of the program lies in memory.
pub const TEXT_ADDRESS: u64 = 0x40_0000;
/// Where its data lie.
pub const DATA_ADDRESS: u64 = 0x60_0000;

/// Bytes of the file header.
pub const FILE_HEADER_BYTES: u64 = 64;
/// Bytes of a program header.
pub const PROGRAM_HEADER_BYTES: u64 = 56;
/// Where the code begins, in the file and behind [`TEXT_ADDRESS`]: room for the headers before it.
pub const CODE_OFFSET: u64 = 0x200;
/// Where the data begin in the file. Behind them in the same page lies garbage that must not show in memory.
pub const DATA_OFFSET: u64 = 0x1000;
/// Bytes of initialised data.
pub const DATA_BYTES: u64 = 8;
/// Bytes of data in memory: the rest is zero.
pub const DATA_MEMORY_BYTES: u64 = 0x3000;

const FILE_BYTES: usize = 0x2000;
/// `int3`: where the code is not.
const FILLER: u8 = 0xcc;

/// Program header types: a segment to load, the name of an interpreter, the stack's permissions, a note.
pub const PT_LOAD: u32 = 1;
/// See [`PT_LOAD`].
pub const PT_INTERP: u32 = 3;
/// See [`PT_LOAD`].
pub const PT_NOTE: u32 = 4;
/// See [`PT_LOAD`].
pub const PT_GNU_STACK: u32 = 0x6474_e551;

/// File types: a relocatable object, a program at fixed addresses, one at any address, a memory dump.
pub const ET_REL: u16 = 1;
/// See [`ET_REL`].
pub const ET_EXEC: u16 = 2;
/// See [`ET_REL`].
pub const ET_DYN: u16 = 3;
/// See [`ET_REL`].
pub const ET_CORE: u16 = 4;

const EM_X86_64: u16 = 62;
const READABLE: u32 = 4;
const WRITABLE: u32 = 2;
const EXECUTABLE: u32 = 1;

/// The code: exits with the sum of [`EXIT_STATUS`] and the first byte behind the initialised data, which must be zero.
///
/// It is position-independent: the data lie at a fixed distance.
const CODE: [u8; 22] = [
    0x0f, 0xb6, 0x3d, 0, 0, 0, 0, // movzx edi, byte [rip + distance], set by `code`
    0x83, 0xc7, 7, // add edi, 7
    0xb8, 231, 0, 0, 0, // mov eax, exit_group
    0x0f, 0x05, // syscall
    0x0f, 0x0b, // ud2
    FILLER, FILLER, FILLER,
];
const DISTANCE_AT: usize = 3;
const NEXT_INSTRUCTION: u64 = 7;

/// A program header.
#[derive(Clone, Debug)]
pub struct Segment {
    /// What it is.
    pub kind: u32,
    /// Permissions: 4 readable, 2 writable, 1 executable.
    pub flags: u32,
    /// Where its bytes lie in the file.
    pub offset: u64,
    /// Where they go in memory.
    pub address: u64,
    /// How many bytes the file has.
    pub file_bytes: u64,
    /// How many bytes it has in memory.
    pub memory_bytes: u64,
    /// The alignment that offset and address agree in.
    pub alignment: u64,
}

/// A file, field by field.
#[derive(Clone, Debug)]
pub struct Image {
    /// The first 16 bytes: magic, class, byte order, version, ABI.
    pub identification: [u8; 16],
    /// Kind of file.
    pub kind: u16,
    /// Instruction set.
    pub machine: u16,
    /// Format version.
    pub version: u32,
    /// Where the program begins.
    pub entry: u64,
    /// Where the program headers lie in the file.
    pub headers_offset: u64,
    /// Where the section headers lie; programs need none.
    pub sections_offset: u64,
    /// Bytes of the file header.
    pub header_bytes: u16,
    /// Bytes of one program header.
    pub segment_header_bytes: u16,
    /// How many program headers there are, or those in `segments` if `None`.
    pub segment_count: Option<u16>,
    /// Bytes of a section header, their number, and the index of the one with the names.
    pub sections: [u16; 3],
    /// The program headers.
    pub segments: Vec<Segment>,
    /// Bytes put over the file at an offset, after the headers.
    pub patches: Vec<(usize, Vec<u8>)>,
}

impl Image {
    /// A well-formed program at fixed addresses, with a text and a data segment.
    #[must_use]
    pub fn program() -> Self {
        let text = Segment {
            kind: PT_LOAD,
            flags: READABLE | EXECUTABLE,
            offset: 0,
            address: TEXT_ADDRESS,
            file_bytes: CODE_OFFSET + CODE.len() as u64,
            memory_bytes: CODE_OFFSET + CODE.len() as u64,
            alignment: 0x1000,
        };
        let data = Segment {
            kind: PT_LOAD,
            flags: READABLE | WRITABLE,
            offset: DATA_OFFSET,
            address: DATA_ADDRESS,
            file_bytes: DATA_BYTES,
            memory_bytes: DATA_MEMORY_BYTES,
            alignment: 0x1000,
        };
        Self {
            identification: [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            kind: ET_EXEC,
            machine: EM_X86_64,
            version: 1,
            entry: TEXT_ADDRESS + CODE_OFFSET,
            headers_offset: FILE_HEADER_BYTES,
            sections_offset: 0,
            header_bytes: 64,
            segment_header_bytes: 56,
            segment_count: None,
            sections: [0, 0, 0],
            segments: vec![text, data],
            patches: Vec::new(),
        }
    }

    /// The same program at any address.
    #[must_use]
    pub fn position_independent_program() -> Self {
        let mut image = Self::program();
        image.kind = ET_DYN;
        image.entry -= TEXT_ADDRESS;
        for segment in &mut image.segments {
            segment.address -= TEXT_ADDRESS;
        }
        image
    }

    /// The program with an interpreter of this name, which the header says has so many bytes.
    #[must_use]
    pub fn interpreted_by(name: &[u8], name_bytes: u64) -> Self {
        const NAME_OFFSET: u16 = 0x400;
        let mut image = Self::program();
        let interpreter = Segment {
            kind: PT_INTERP,
            flags: READABLE,
            offset: u64::from(NAME_OFFSET),
            address: TEXT_ADDRESS + u64::from(NAME_OFFSET),
            file_bytes: name_bytes,
            memory_bytes: name_bytes,
            alignment: 1,
        };
        image.segments.insert(0, interpreter);
        image.patches.push((usize::from(NAME_OFFSET), name.to_vec()));
        image
    }

    /// The bytes of the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut file = vec![FILLER; FILE_BYTES];
        put(&mut file, 0, &self.file_header());
        let headers: Vec<u8> = self.segments.iter().flat_map(Segment::to_bytes).collect();
        put(&mut file, usize::from(self.header_bytes.min(64)), &headers);
        put(&mut file, to_index(CODE_OFFSET), &code());
        put(&mut file, to_index(DATA_OFFSET), b"the data");
        for (offset, bytes) in &self.patches {
            put(&mut file, *offset, bytes);
        }
        file
    }

    fn file_header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(to_index(FILE_HEADER_BYTES));
        header.extend(self.identification);
        header.extend(self.kind.to_le_bytes());
        header.extend(self.machine.to_le_bytes());
        header.extend(self.version.to_le_bytes());
        header.extend(self.entry.to_le_bytes());
        header.extend(self.headers_offset.to_le_bytes());
        header.extend(self.sections_offset.to_le_bytes());
        header.extend(0_u32.to_le_bytes());
        header.extend(self.header_bytes.to_le_bytes());
        header.extend(self.segment_header_bytes.to_le_bytes());
        let present = u16::try_from(self.segments.len()).unwrap_or(u16::MAX);
        header.extend(self.segment_count.unwrap_or(present).to_le_bytes());
        for field in self.sections {
            header.extend(field.to_le_bytes());
        }
        header
    }
}

impl Segment {
    fn to_bytes(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(to_index(PROGRAM_HEADER_BYTES));
        header.extend(self.kind.to_le_bytes());
        header.extend(self.flags.to_le_bytes());
        for field in [self.offset, self.address, self.address, self.file_bytes, self.memory_bytes, self.alignment] {
            header.extend(field.to_le_bytes());
        }
        header
    }
}

/// The code with the distance to the first byte behind the data.
fn code() -> Vec<u8> {
    let distance = DATA_ADDRESS + DATA_BYTES - (TEXT_ADDRESS + CODE_OFFSET + NEXT_INSTRUCTION);
    let mut code = CODE.to_vec();
    // The distance is a constant below 2^31: its upper half is zero.
    put(&mut code, DISTANCE_AT, &distance.to_le_bytes()[..4]);
    code
}

fn put(file: &mut [u8], offset: usize, bytes: &[u8]) {
    for (place, byte) in file.iter_mut().skip(offset).zip(bytes) {
        *place = *byte;
    }
}

/// Offsets in these small files fit every index.
fn to_index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_size_the_format_says() {
        let image = Image::program();
        assert_eq!(image.file_header().len(), 64);
        assert_eq!(image.segments[0].to_bytes().len(), 56);
    }

    #[test]
    fn garbage_lies_behind_the_initialised_data() {
        let bytes = Image::program().to_bytes();
        assert_eq!(bytes[to_index(DATA_OFFSET + DATA_BYTES)], FILLER);
    }
}
