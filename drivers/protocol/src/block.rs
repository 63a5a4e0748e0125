//! A disk: sectors that are read and written.
//!
//! A driver serves several channels. On the *control* channel its supervisor asks what the disk is and hands it the ends of the
//! *client* channels, each of which reaches one range of the disk's sectors and no other. Sectors have [`SECTOR_BYTES`] and count
//! from the start of the channel's range; ranges must be multiples of [`Description::block_bytes`].
//!
//! | request | on | words | handles | answered |
//! |---|---|---|---|---|
//! | `Describe` | both | – | – | at once, with a [`Description`] of the disk, or of the channel's range |
//! | `Open` | control | first, sectors, 1 if writable | 0: server's end of a channel | when the channel is served |
//! | `Attach` | client | buffer | 0: a memory (`READ`, `WRITE`) | when the number means it, and the device is done with what it meant before |
//! | `Detach` | client | buffer | – | when the device does not touch it any more |
//! | `Read` | client | id, first sector, sectors, buffer, offset | – | when the bytes are in the memory |
//! | `Write` | client | the same, [`WriteFlags`] | – | when the disk has taken the bytes |
//! | `Flush` | client | id | – | when all writes that were answered before are durable |
//! | `Discard` | client | id, first sector, sectors | – | when the disk has taken note that nobody needs them |
//! | `WriteZeroes` | client | id, first sector, sectors | – | when they read as zeroes |
//!
//! **Data** do not travel in messages. The client attaches a memory that is not managed (a *staging memory*), under a number that it
//! chooses, below [`MAX_BUFFERS`]; the device then reads and writes its frames, from `offset` on, which is a multiple of
//! [`SECTOR_BYTES`]. As long as a request is not answered its part of the memory is the device's.
//!
//! **Many at once.** One call is one request; up to [`MAX_REQUESTS`] of a channel may be under way, more are refused as
//! [`Busy`](crate::Refusal::Busy). They are done in any order, except that a `Flush` covers the writes that were *answered* before it
//! was asked for.
//!
//! **Ids** are the client's. They tell requests apart in traces, and a request that is sent again, because the driver died before it
//! answered, bears the same: reads and writes of sectors may be repeated.
//!
//! **A new driver** serves the same ends: a request that the dead driver had taken is answered with `PeerClosed`, one that it had not
//! taken reaches the successor. The successor knows no buffers. It refuses as [`BadBuffer`](crate::Refusal::BadBuffer) what names one,
//! until the client has attached it again: always under the same number, so that no request ever means another memory.
//!
//! Refusals: [`DeviceFailed`](crate::Refusal::DeviceFailed): the disk could not do it (`EIO`);
//! [`Unknown`](crate::Refusal::Unknown): no such request, or not within the range, or a write where only reading is allowed;
//! `BadBuffer`: no such buffer, or not such a part of it; `Busy`.

use crate::Words;

/// Bytes of a sector, whatever the device calls a block.
pub const SECTOR_BYTES: u64 = 512;
/// Sectors of one `Read` or `Write` at most: 512 KiB.
pub const MAX_SECTORS: u64 = 1024;
/// Pages of the memory that one `Read` or `Write` touches at most.
pub const MAX_PAGES: u64 = 128;
/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;
/// Requests of one channel that may be under way.
pub const MAX_REQUESTS: usize = 128;
/// Numbers of attached memories of one channel are below this.
pub const MAX_BUFFERS: u64 = 16;
/// Channels that a driver serves at most.
pub const MAX_CHANNELS: usize = 136;
/// Bytes of a disk's serial number.
pub const SERIAL_BYTES: usize = 24;

const DESCRIBE: u64 = 1;
const OPEN: u64 = 2;
const ATTACH: u64 = 3;
const DETACH: u64 = 4;
const READ: u64 = 5;
const WRITE: u64 = 6;
const FLUSH: u64 = 7;
const DISCARD: u64 = 8;
const WRITE_ZEROES: u64 = 9;

bitflags::bitflags! {
    /// What a disk, or a channel's range of it, can do.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Abilities: u64 {
        /// Nothing can be written.
        const READ_ONLY = 1 << 0;
        /// The disk keeps writes in a cache of its own: they are durable only after a `Flush`. Without it `Flush` does nothing.
        const FLUSH = 1 << 1;
        /// `Discard` is understood. Without it, it is answered and does nothing.
        const DISCARD = 1 << 2;
        /// `WriteZeroes` is understood. Without it, it is refused.
        const WRITE_ZEROES = 1 << 3;
    }
}

bitflags::bitflags! {
    /// How something is written.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct WriteFlags: u64 {
        /// The write is durable when it is answered ("force unit access").
        const DURABLE = 1 << 0;
    }
}

/// Sectors one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SectorRange {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl SectorRange {
    /// The first sector after it; `None` if there can be no such number.
    pub const fn end(self) -> Option<u64> {
        self.first.checked_add(self.count)
    }

    /// Whether it has sectors, all of them below `sectors`.
    pub const fn is_within(self, sectors: u64) -> bool {
        match self.end() {
            Some(end) => self.count > 0 && end <= sectors,
            None => false,
        }
    }

    /// Its length in bytes; of a range that [is within](Self::is_within) a disk that is a number.
    pub const fn len_bytes(self) -> u64 {
        self.count.saturating_mul(SECTOR_BYTES)
    }
}

/// What a supervisor asks of a driver on the control channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// What the disk is.
    Describe,
    /// Serve the channel that comes along with this part of the disk.
    Open {
        /// Which sectors of the disk.
        range: SectorRange,
        /// Whether they may be written.
        writable: bool,
    },
}

impl Control {
    /// Label and words of the request.
    pub const fn encode(self) -> (u64, Words) {
        match self {
            Self::Describe => (DESCRIBE, [0; 8]),
            Self::Open { range, writable } => (OPEN, [range.first, range.count, writable as u64, 0, 0, 0, 0, 0]),
        }
    }

    /// The request with this label and these words, if it is one.
    pub fn decode(label: u64, words: &Words) -> Option<Self> {
        let [first, count, writable, ..] = *words;
        match label {
            DESCRIBE => Some(Self::Describe),
            OPEN if writable <= 1 => Some(Self::Open { range: SectorRange { first, count }, writable: writable == 1 }),
            _ => None,
        }
    }
}

/// Sectors to move, and where they are in the client's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Which sectors of the channel's range, at most [`MAX_SECTORS`]. Their bytes touch [`MAX_PAGES`] pages at most.
    pub range: SectorRange,
    /// The number of the attached memory.
    pub buffer: u64,
    /// Where in it, in bytes: a multiple of [`SECTOR_BYTES`].
    pub offset: u64,
}

impl Transfer {
    /// The pages of the memory that it touches: the first, and how many. `None` if they are too many, or it does not begin at a
    /// sector's place.
    pub fn pages(&self) -> Option<(u64, u64)> {
        let is_short = self.range.count <= MAX_SECTORS && self.offset.is_multiple_of(SECTOR_BYTES);
        let end = self.offset.checked_add(self.range.len_bytes())?;
        let first = self.offset / PAGE_BYTES;
        let count = end.div_ceil(PAGE_BYTES).checked_sub(first)?;
        (is_short && count <= MAX_PAGES).then_some((first, count))
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// What the channel's range is.
    Describe,
    /// Let requests name the memory that comes along by this number, which from now on means no other.
    Attach {
        /// The number, below [`MAX_BUFFERS`].
        buffer: u64,
    },
    /// Forget a memory.
    Detach {
        /// Its number.
        buffer: u64,
    },
    /// Bring sectors into a memory.
    Read {
        /// The client's name for the request.
        id: u64,
        /// From where to where.
        transfer: Transfer,
    },
    /// Store sectors from a memory.
    Write {
        /// As above.
        id: u64,
        /// From where to where.
        transfer: Transfer,
        /// How.
        flags: WriteFlags,
    },
    /// Make durable what was written.
    Flush {
        /// As above.
        id: u64,
    },
    /// Forget what sectors hold: they read as anything.
    Discard {
        /// As above.
        id: u64,
        /// Which.
        range: SectorRange,
    },
    /// Make sectors read as zeroes.
    WriteZeroes {
        /// As above.
        id: u64,
        /// Which.
        range: SectorRange,
    },
}

impl Request {
    /// Label and words of the request.
    pub const fn encode(self) -> (u64, Words) {
        match self {
            Self::Describe => (DESCRIBE, [0; 8]),
            Self::Attach { buffer } => (ATTACH, [buffer, 0, 0, 0, 0, 0, 0, 0]),
            Self::Detach { buffer } => (DETACH, [buffer, 0, 0, 0, 0, 0, 0, 0]),
            Self::Read { id, transfer } => (READ, Self::transfer_words(id, transfer, 0)),
            Self::Write { id, transfer, flags } => (WRITE, Self::transfer_words(id, transfer, flags.bits())),
            Self::Flush { id } => (FLUSH, [id, 0, 0, 0, 0, 0, 0, 0]),
            Self::Discard { id, range } => (DISCARD, [id, range.first, range.count, 0, 0, 0, 0, 0]),
            Self::WriteZeroes { id, range } => (WRITE_ZEROES, [id, range.first, range.count, 0, 0, 0, 0, 0]),
        }
    }

    const fn transfer_words(id: u64, transfer: Transfer, flags: u64) -> Words {
        let Transfer { range, buffer, offset } = transfer;
        [id, range.first, range.count, buffer, offset, flags, 0, 0]
    }

    /// The request with this label and these words, if it is one. Whether its range is within the disk, and its buffer there, is for
    /// the server to check; that a transfer is not too long and begins at a sector's place is checked here.
    pub fn decode(label: u64, words: &Words) -> Option<Self> {
        let [id, first, count, buffer, offset, flags, ..] = *words;
        let range = SectorRange { first, count };
        let transfer = Transfer { range, buffer, offset };
        match label {
            DESCRIBE => Some(Self::Describe),
            ATTACH if id < MAX_BUFFERS => Some(Self::Attach { buffer: id }),
            DETACH if id < MAX_BUFFERS => Some(Self::Detach { buffer: id }),
            READ if transfer.pages().is_some() => Some(Self::Read { id, transfer }),
            WRITE if transfer.pages().is_some() => {
                Some(Self::Write { id, transfer, flags: WriteFlags::from_bits(flags)? })
            }
            FLUSH => Some(Self::Flush { id }),
            DISCARD => Some(Self::Discard { id, range }),
            WRITE_ZEROES => Some(Self::WriteZeroes { id, range }),
            _ => None,
        }
    }
}

/// What a disk is: the answer to `Describe`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// How many sectors of [`SECTOR_BYTES`] it has.
    pub sectors: u64,
    /// What it reads and writes at least, in bytes: a power of two, [`SECTOR_BYTES`] or more.
    pub block_bytes: u64,
    /// What it can do.
    pub abilities: Abilities,
    /// What it says its serial number is, filled up with zeroes.
    pub serial: [u8; SERIAL_BYTES],
}

impl Description {
    /// The words of the answer.
    pub fn encode(&self) -> Words {
        let mut words = [self.sectors, self.block_bytes, self.abilities.bits(), 0, 0, 0, 0, 0];
        for (word, bytes) in words.iter_mut().skip(3).zip(self.serial.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
    }

    /// What the words say; `None` if no disk is so.
    pub fn decode(words: &Words) -> Option<Self> {
        let [sectors, block_bytes, abilities, rest @ ..] = words;
        if *block_bytes < SECTOR_BYTES || !block_bytes.is_power_of_two() {
            return None;
        }
        let mut serial = [0; SERIAL_BYTES];
        for (bytes, word) in serial.as_chunks_mut().0.iter_mut().zip(rest) {
            *bytes = word.to_le_bytes();
        }
        let abilities = Abilities::from_bits_truncate(*abilities);
        Some(Self { sectors: *sectors, block_bytes: *block_bytes, abilities, serial })
    }

    /// How many sectors one block has.
    pub const fn block_sectors(&self) -> u64 {
        self.block_bytes / SECTOR_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: SectorRange = SectorRange { first: 7, count: MAX_SECTORS };
    const TRANSFER: Transfer = Transfer { range: RANGE, buffer: 3, offset: 4096 };

    #[test]
    fn requests_survive_their_words() {
        let all = [
            Request::Describe,
            Request::Attach { buffer: MAX_BUFFERS - 1 },
            Request::Detach { buffer: 0 },
            Request::Read { id: 1, transfer: TRANSFER },
            Request::Write { id: u64::MAX, transfer: TRANSFER, flags: WriteFlags::empty() },
            Request::Write { id: 2, transfer: TRANSFER, flags: WriteFlags::DURABLE },
            Request::Flush { id: 3 },
            Request::Discard { id: 4, range: RANGE },
            Request::WriteZeroes { id: 5, range: RANGE },
        ];
        for request in all {
            let (label, words) = request.encode();
            assert_eq!(Request::decode(label, &words), Some(request));
        }
        for writable in [false, true] {
            let request = Control::Open { range: RANGE, writable };
            let (label, words) = request.encode();
            assert_eq!(Control::decode(label, &words), Some(request));
        }
        assert_eq!(Control::decode(DESCRIBE, &[0; 8]), Some(Control::Describe));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for label in [0, OPEN, ATTACH, DETACH, READ, WRITE, WRITE_ZEROES + 1, u64::MAX] {
            assert_eq!(Request::decode(label, &[u64::MAX; 8]), None);
        }
        for label in [0, OPEN, ATTACH, u64::MAX] {
            assert_eq!(Control::decode(label, &[u64::MAX; 8]), None);
        }
        let askew = Transfer { offset: 1, ..TRANSFER };
        let (label, words) = Request::Read { id: 0, transfer: askew }.encode();
        assert_eq!(Request::decode(label, &words), None);
        let too_long = Transfer { range: SectorRange { first: 0, count: MAX_SECTORS + 1 }, ..TRANSFER };
        let (label, words) = Request::Read { id: 0, transfer: too_long }.encode();
        assert_eq!(Request::decode(label, &words), None);
        let too_many_pages = Transfer { offset: SECTOR_BYTES, ..TRANSFER };
        let (label, words) = Request::Read { id: 0, transfer: too_many_pages }.encode();
        assert_eq!(Request::decode(label, &words), None);
        assert_eq!(TRANSFER.pages(), Some((1, MAX_PAGES)));
        assert_eq!(Transfer { offset: u64::MAX - 511, ..TRANSFER }.pages(), None);
    }

    #[test]
    fn a_description_survives_its_words() {
        let mut serial = [0; SERIAL_BYTES];
        serial.iter_mut().zip(1..).for_each(|(byte, value)| *byte = value);
        let abilities = Abilities::FLUSH | Abilities::WRITE_ZEROES;
        let description = Description { sectors: 1 << 40, block_bytes: 4096, abilities, serial };
        assert_eq!(Description::decode(&description.encode()), Some(description));
        for block_bytes in [0, 256, 513, u64::MAX] {
            assert_eq!(Description::decode(&Description { block_bytes, ..description }.encode()), None);
        }
    }

    #[test]
    fn ranges_do_not_wrap() {
        assert!(SectorRange { first: 6, count: 2 }.is_within(8));
        assert!(!SectorRange { first: 7, count: 2 }.is_within(8));
        assert!(!SectorRange { first: 7, count: 0 }.is_within(8));
        assert!(!SectorRange { first: u64::MAX, count: 2 }.is_within(u64::MAX));
    }
}
