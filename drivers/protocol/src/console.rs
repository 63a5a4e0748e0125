//! A stream of bytes both ways: a serial line, a console.
//!
//! | request | buffers | answered | answer |
//! |---|---|---|---|
//! | `Write` | send: up to [`MAX_WRITE_BYTES`] | when all bytes are on their way to the device | word 0: bytes taken |
//! | `Read` | receive: up to [`MAX_READ_BYTES`] count | when there is at least one byte | see [`ReadAnswer`] |
//! | `Drain` | none | when the device has sent all that was written before | – |
//!
//! Writes are served in order; up to [`MAX_WRITES`] may wait, and one read. A request beyond that is refused as
//! [`Busy`](crate::Refusal::Busy). What comes in while nobody reads is kept, up to [`WINDOW_BYTES`]; what does not fit is lost and
//! counted.

use crate::Words;

/// How many bytes one write takes at most; of a longer buffer the first so many.
pub const MAX_WRITE_BYTES: usize = 64 << 10;
/// How many bytes one read gives at most.
pub const MAX_READ_BYTES: usize = 4096;
/// How many writes may wait.
pub const MAX_WRITES: usize = 64;
/// How many bytes that nobody has read yet are kept.
pub const WINDOW_BYTES: usize = 64 << 10;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Request {
    /// Send the bytes in the call's send buffer.
    Write = 1,
    /// Put bytes that came in into the call's receive buffer.
    Read = 2,
    /// Wait until everything written is sent.
    Drain = 3,
}

impl Request {
    /// The request with this label.
    pub const fn from_label(label: u64) -> Option<Self> {
        match label {
            1 => Some(Self::Write),
            2 => Some(Self::Read),
            3 => Some(Self::Drain),
            _ => None,
        }
    }

    /// Its label.
    pub const fn label(self) -> u64 {
        self as u64
    }
}

/// The answer to a [`Request::Read`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadAnswer {
    /// Bytes in the receive buffer.
    pub len_bytes: u64,
    /// Bytes lost since the last answer, because nobody took them in time or the line garbled them.
    pub lost_bytes: u64,
}

impl ReadAnswer {
    /// The words of the answer.
    pub const fn encode(self) -> Words {
        [self.len_bytes, self.lost_bytes, 0, 0, 0, 0, 0, 0]
    }

    /// What the words say. The caller must not believe `len_bytes` beyond its buffer's size.
    pub const fn decode(words: &Words) -> Self {
        let [len_bytes, lost_bytes, ..] = *words;
        Self { len_bytes, lost_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_their_labels_and_others_are_refused() {
        for request in [Request::Write, Request::Read, Request::Drain] {
            assert_eq!(Request::from_label(request.label()), Some(request));
        }
        for label in [0, 4, u64::MAX] {
            assert_eq!(Request::from_label(label), None);
        }
    }

    #[test]
    fn a_read_answer_survives_its_words() {
        let answer = ReadAnswer { len_bytes: 17, lost_bytes: u64::MAX };
        assert_eq!(ReadAnswer::decode(&answer.encode()), answer);
    }
}
