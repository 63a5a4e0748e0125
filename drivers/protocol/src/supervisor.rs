//! What the supervisor does for the programs that it starts, on the channel [`Purpose::SUPERVISOR`].
//!
//! | request | words | buffers | answered |
//! |---|---|---|---|
//! | `ShutDown` | how | – | only if that is refused |
//! | `Disks` | – | receive: [`Disk`]s of [`Disk::BYTES`] each | when all disks have been looked at: bytes, bytes that all take |
//! | `OpenFiles` | name, 1 if only to be read | – | with handle 0: a channel to a file server ([`files`](crate::files) protocol) |
//! | `Complain` | name | – | at once: of a file server's client, that the server of this disk answers nonsense; of a file server, that the disk's driver does |
//! | `Finished` | – | – | at once: whoever asks needs no successor when it ends |
//!
//! Disks and their parts have names of up to [`NAME_BYTES`] bytes: `vda`, `vda1`, `nvme0n1`, `nvme0n1p1`. A file server lives until the channel to
//! it is closed; if it dies before, a successor serves the same channel. `OpenFiles` is refused as [`Busy`](crate::Refusal::Busy) if the disk, or something that
//! overlaps it, is in use, and as [`Unknown`](crate::Refusal::Unknown) if there is no such disk.
//!
//! [`Purpose::SUPERVISOR`]: quire_abi::startup::Purpose::SUPERVISOR

use crate::Words;
use bitflags::bitflags;
use quire_abi::system::Shutdown;

/// The longest name of a disk, in bytes.
pub const NAME_BYTES: usize = 16;
/// The longest label of a part, in bytes.
pub const LABEL_BYTES: usize = 72;

const SHUT_DOWN: u64 = 1;
const DISKS: u64 = 2;
const OPEN_FILES: u64 = 3;
const FINISHED: u64 = 4;
const COMPLAIN: u64 = 5;

/// The name of a disk, with zeros after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskName(pub [u8; NAME_BYTES]);

impl DiskName {
    /// The name of these bytes; `None` if it is empty, too long, or has a zero in it.
    pub fn new(name: &[u8]) -> Option<Self> {
        if name.is_empty() || name.contains(&0) {
            return None;
        }
        let mut bytes = [0; NAME_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    const fn words(self) -> [u64; 2] {
        let both = u128::from_le_bytes(self.0);
        [both as u64, (both >> 64) as u64]
    }

    const fn from_words(low: u64, high: u64) -> Self {
        Self((low as u128 | (high as u128) << 64).to_le_bytes())
    }
}

/// What a program asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// End the machine. The answer comes only if that is refused.
    ShutDown(Shutdown),
    /// Tell which disks there are.
    Disks,
    /// Start the server of the file system on a disk.
    OpenFiles {
        /// Which disk, or part of one.
        name: DiskName,
        /// Whether nothing may be written to it.
        read_only: bool,
    },
    /// What the program was started for is done.
    Finished,
    /// Who serves a disk to the program answers what makes no sense: it is to be ended, and another to take its place.
    Complain {
        /// Which disk, or part of one.
        name: DiskName,
    },
}

impl Request {
    /// Label and words of the request.
    pub const fn encode(self) -> (u64, Words) {
        match self {
            Self::ShutDown(how) => (SHUT_DOWN, [how as u64, 0, 0, 0, 0, 0, 0, 0]),
            Self::Disks => (DISKS, [0; 8]),
            Self::OpenFiles { name, read_only } => {
                let [low, high] = name.words();
                (OPEN_FILES, [low, high, read_only as u64, 0, 0, 0, 0, 0])
            }
            Self::Finished => (FINISHED, [0; 8]),
            Self::Complain { name } => {
                let [low, high] = name.words();
                (COMPLAIN, [low, high, 0, 0, 0, 0, 0, 0])
            }
        }
    }

    /// The request with this label and these words, if it is one.
    pub fn decode(label: u64, words: &Words) -> Option<Self> {
        let [first, second, third, ..] = *words;
        match label {
            SHUT_DOWN => u32::try_from(first).ok().and_then(Shutdown::from_number).map(Self::ShutDown),
            DISKS => Some(Self::Disks),
            OPEN_FILES if third <= 1 => {
                Some(Self::OpenFiles { name: DiskName::from_words(first, second), read_only: third == 1 })
            }
            FINISHED => Some(Self::Finished),
            COMPLAIN => Some(Self::Complain { name: DiskName::from_words(first, second) }),
            _ => None,
        }
    }
}

bitflags! {
    /// What a disk is like.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct DiskFlags: u64 {
        /// It is a part of the disk before it in the list that is none.
        const PART = 1 << 0;
        /// It can't be written.
        const READ_ONLY = 1 << 1;
        /// Somebody uses it, or something that overlaps it.
        const IN_USE = 1 << 2;
    }
}

/// A disk, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its name.
    pub name: DiskName,
    /// Its length in sectors of 512 bytes.
    pub sectors: u64,
    /// What it is like.
    pub flags: DiskFlags,
    /// Of a part: what it is for, as its table says (UEFI specification, 5.3.3: the GUID's bytes as they are on the disk).
    pub type_guid: [u8; 16],
    /// Of a part: its identity.
    pub unique_guid: [u8; 16],
    /// Of a part: its label, in UTF-8, with zeros after it.
    pub label: [u8; LABEL_BYTES],
}

impl Disk {
    /// Its size as bytes.
    pub const BYTES: usize = NAME_BYTES + 16 + 32 + LABEL_BYTES;

    /// Its bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let (sectors, flags) = (self.sectors.to_le_bytes(), self.flags.bits().to_le_bytes());
        let parts: [&[u8]; 6] = [&self.name.0, &sectors, &flags, &self.type_guid, &self.unique_guid, &self.label];
        let mut bytes = [0; Self::BYTES];
        bytes.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// The disk at the start of the bytes; `None` if there are too few.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (name, rest) = bytes.split_first_chunk()?;
        let (sectors, rest) = rest.split_first_chunk()?;
        let (flags, rest) = rest.split_first_chunk()?;
        let (type_guid, rest) = rest.split_first_chunk()?;
        let (unique_guid, rest) = rest.split_first_chunk()?;
        Some(Self {
            name: DiskName(*name),
            sectors: u64::from_le_bytes(*sectors),
            flags: DiskFlags::from_bits_truncate(u64::from_le_bytes(*flags)),
            type_guid: *type_guid,
            unique_guid: *unique_guid,
            label: *rest.first_chunk()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_their_words_and_others_are_refused() {
        let name = DiskName::new(b"nvme0n1p1").unwrap();
        let all = [Shutdown::PowerOff, Shutdown::Failure, Shutdown::Reset].map(Request::ShutDown);
        let others = [
            Request::Disks,
            Request::OpenFiles { name, read_only: true },
            Request::Finished,
            Request::Complain { name },
        ];
        for request in all.into_iter().chain(others) {
            let (label, words) = request.encode();
            assert_eq!(Request::decode(label, &words), Some(request));
        }
        assert_eq!(Request::decode(SHUT_DOWN, &[1 << 32; 8]), None);
        assert_eq!(Request::decode(SHUT_DOWN, &[0; 8]), None);
        assert_eq!(Request::decode(OPEN_FILES, &[2; 8]), None);
        assert_eq!(Request::decode(0, &[1; 8]), None);
    }

    #[test]
    fn names_are_short_and_whole() {
        assert_eq!(DiskName::new(b"vda1").unwrap().as_bytes(), b"vda1");
        assert_eq!(DiskName::new(&[b'x'; NAME_BYTES]).unwrap().as_bytes(), [b'x'; NAME_BYTES]);
        for name in [&b""[..], b"a\0", &[b'x'; NAME_BYTES + 1]] {
            assert_eq!(DiskName::new(name), None);
        }
    }

    #[test]
    fn a_disk_survives_its_bytes() {
        let disk = Disk {
            name: DiskName::new(b"vda2").unwrap(),
            sectors: 1 << 40,
            flags: DiskFlags::PART | DiskFlags::IN_USE,
            type_guid: [1; 16],
            unique_guid: [2; 16],
            label: [b'l'; LABEL_BYTES],
        };
        let bytes = disk.encode();
        assert_eq!(Disk::decode(&bytes), Some(disk));
        assert_eq!(Disk::decode(&bytes[..Disk::BYTES - 1]), None);
    }
}
