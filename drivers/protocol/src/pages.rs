//! A store of numbered files, whose contents are read and written by paging: the store's server is the pager of each.
//!
//! The client makes a managed memory for a file and gives the server its pager; what it reads, stores and flushes there becomes
//! fills and writebacks. So the memories, and the stores in them that are not written back yet, outlive the server: to its
//! successor the client says the same again. Every request may be repeated.
//!
//! | request | words | handles | answered |
//! |---|---|---|---|
//! | `Attach` | – | 0: the [`Setting`]s, a memory (`READ`, `WRITE`) | never: when the server is gone, as every call then |
//! | `Serve` | number | 0: the pager; 1: its memory (`READ`) | when the pager is bound |
//! | `Truncate` | number, bytes | – | when nothing is left beyond |
//! | `Remove` | number | – | when nothing is left |
//! | `Look` | – | – | when the settings were looked at |
//!
//! The settings are how whoever tests has the store fail, be slow, hang or die. Each is a little-endian number of 64 bits in the
//! memory that `Attach` brings, at its [offset](Setting::offset_bytes).

use crate::Words;

/// Numbers of files are below this; 0 is none.
pub const MAX_FILES: u64 = 4096;
/// How long a file can be, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 36;
/// The size of the memory with the settings, in bytes.
pub const SETTINGS_BYTES: u64 = 4096;

const ATTACH: u64 = 1;
const SERVE: u64 = 2;
const TRUNCATE: u64 = 3;
const REMOVE: u64 = 4;
const LOOK: u64 = 5;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Obey the settings in the memory that comes along. The call ends with the server.
    Attach,
    /// Be the pager of a file.
    Serve {
        /// Which.
        number: u64,
    },
    /// Forget what lies beyond a length.
    Truncate {
        /// Of which file.
        number: u64,
        /// What stays.
        len_bytes: u64,
    },
    /// Forget a file.
    Remove {
        /// Which.
        number: u64,
    },
    /// Look at the settings: they have changed.
    Look,
}

impl Request {
    /// Label and words of the request.
    pub const fn encode(self) -> (u64, Words) {
        match self {
            Self::Attach => (ATTACH, [0; 8]),
            Self::Serve { number } => (SERVE, [number, 0, 0, 0, 0, 0, 0, 0]),
            Self::Truncate { number, len_bytes } => (TRUNCATE, [number, len_bytes, 0, 0, 0, 0, 0, 0]),
            Self::Remove { number } => (REMOVE, [number, 0, 0, 0, 0, 0, 0, 0]),
            Self::Look => (LOOK, [0; 8]),
        }
    }

    /// The request with this label and these words, if it is one and names a file that there can be.
    pub fn decode(label: u64, words: &Words) -> Option<Self> {
        let [number, len_bytes, ..] = *words;
        let is_number = number > 0 && number < MAX_FILES;
        match label {
            ATTACH => Some(Self::Attach),
            SERVE if is_number => Some(Self::Serve { number }),
            TRUNCATE if is_number && len_bytes <= MAX_FILE_BYTES => Some(Self::Truncate { number, len_bytes }),
            REMOVE if is_number => Some(Self::Remove { number }),
            LOOK => Some(Self::Look),
            _ => None,
        }
    }
}

/// One of the numbers that the client sets, or that the server counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Setting {
    /// How long each fill and each writeback takes, in ms.
    DelayMs = 0,
    /// Of a thousand fills, so many fail.
    FillFailures = 1,
    /// Of a thousand writebacks, so many fail.
    WritebackFailures = 2,
    /// The next so many fills fail; counts down.
    FailFills = 3,
    /// The next so many writebacks fail; counts down.
    FailWritebacks = 4,
    /// Not 0: what is asked for is taken, and nothing done about it.
    Hang = 5,
    /// A [`Death`]; back at 0 when it has come.
    Die = 6,
    /// So many requests for which death would come are let pass first; counts down.
    DieAfter = 7,
    /// Not 0: the server is no pager of anything, as if there were none.
    Absent = 8,
    /// Counted: fills that were done.
    Fills = 16,
    /// Counted: bytes filled.
    FilledBytes = 17,
    /// Counted: writebacks that were done.
    Writebacks = 18,
    /// Counted: bytes written back.
    WrittenBytes = 19,
    /// Counted: fills and writebacks that were refused.
    Failures = 20,
    /// Counted: servers that have attached, one after the other.
    Servers = 21,
}

impl Setting {
    /// All, with their names.
    pub const ALL: [(&'static str, Self); 15] = [
        ("delay_ms", Self::DelayMs),
        ("fill_failures_per_1000", Self::FillFailures),
        ("writeback_failures_per_1000", Self::WritebackFailures),
        ("fail_fills", Self::FailFills),
        ("fail_writebacks", Self::FailWritebacks),
        ("hang", Self::Hang),
        ("die", Self::Die),
        ("die_after", Self::DieAfter),
        ("absent", Self::Absent),
        ("fills", Self::Fills),
        ("filled_bytes", Self::FilledBytes),
        ("writebacks", Self::Writebacks),
        ("written_bytes", Self::WrittenBytes),
        ("failures", Self::Failures),
        ("servers", Self::Servers),
    ];

    /// Where it lies in the memory, in bytes.
    pub const fn offset_bytes(self) -> u64 {
        self as u64 * size_of::<u64>() as u64
    }

    /// Whether the server counts it.
    pub const fn is_counted(self) -> bool {
        self as u64 >= Self::Fills as u64
    }
}

/// When the server is to end without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Death {
    /// When it next looks.
    Now = 1,
    /// When a fill is due, before it is begun.
    BeforeFill = 2,
    /// When half of the pages have been supplied (of one page: when it has been read).
    DuringFill = 3,
    /// When it has been done.
    AfterFill = 4,
    /// When a writeback is due, before it is begun.
    BeforeWriteback = 5,
    /// When half of the pages have been stored.
    DuringWriteback = 6,
    /// When all have been stored, and the kernel was told.
    AfterWriteback = 7,
}

impl Death {
    /// All, with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("now", Self::Now),
        ("before-fill", Self::BeforeFill),
        ("during-fill", Self::DuringFill),
        ("after-fill", Self::AfterFill),
        ("before-writeback", Self::BeforeWriteback),
        ("during-writeback", Self::DuringWriteback),
        ("after-writeback", Self::AfterWriteback),
    ];

    /// The one with this number; `None` for 0 and others, which mean none.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.iter().find(|(_, death)| *death as u64 == number).map(|(_, death)| *death)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_their_words_and_others_are_refused() {
        let all = [
            Request::Attach,
            Request::Serve { number: 1 },
            Request::Truncate { number: MAX_FILES - 1, len_bytes: MAX_FILE_BYTES },
            Request::Remove { number: 7 },
            Request::Look,
        ];
        for request in all {
            let (label, words) = request.encode();
            assert_eq!(Request::decode(label, &words), Some(request));
        }
        for label in [0, SERVE, TRUNCATE, REMOVE, LOOK + 1, u64::MAX] {
            assert_eq!(Request::decode(label, &[0; 8]), None);
            assert_eq!(Request::decode(label, &[u64::MAX; 8]), None);
        }
        assert_eq!(Request::decode(TRUNCATE, &[1, MAX_FILE_BYTES + 1, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn settings_lie_apart_and_in_their_memory() {
        for (index, (name, setting)) in Setting::ALL.iter().enumerate() {
            assert!(setting.offset_bytes() + 8 <= SETTINGS_BYTES, "{name}");
            assert!(Setting::ALL.iter().skip(index + 1).all(|(_, other)| other != setting), "{name}");
        }
    }

    #[test]
    fn deaths_are_what_their_numbers_say() {
        for (_, death) in Death::ALL {
            assert_eq!(Death::from_number(death as u64), Some(death));
        }
        assert_eq!(Death::from_number(0), None);
        assert_eq!(Death::from_number(8), None);
    }
}
