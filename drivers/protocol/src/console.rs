//! A stream of bytes both ways: a serial line, a console.
//!
//! | request | words | buffers | answered | answer |
//! |---|---|---|---|---|
//! | `Write` | position | send: up to [`MAX_WRITE_BYTES`] | when all bytes are on their way to the device | word 0: bytes taken |
//! | `Read` | position, window | receive: up to [`MAX_READ_BYTES`] count | when there is at least one byte, or the window is another | see [`ReadAnswer`] |
//! | `Drain` | – | none | when the device has sent all that was written before | – |
//!
//! Writes are served in order; up to [`MAX_WRITES`] may wait, and one read. A request beyond that is refused as
//! [`Busy`](crate::Refusal::Busy). What comes in while nobody reads is kept, up to [`WINDOW_BYTES`]; what does not fit is lost and
//! counted.
//!
//! **Positions** count the bytes of each direction from the start of the machine. A write says where its first byte is, a read from where on it wants
//! what came in: what came before, the client has. So a request that a driver took to its grave is made again with the same words, and its successor sends what
//! was not sent, and gives what was not taken. A client that does not count says [`ANYWHERE`], and may then lose or double what was under way.

use crate::Words;

/// How many bytes one write takes at most; of a longer buffer the first so many.
pub const MAX_WRITE_BYTES: usize = 64 << 10;
/// How many bytes one read gives at most.
pub const MAX_READ_BYTES: usize = 4096;
/// How many writes may wait.
pub const MAX_WRITES: usize = 64;
/// How many bytes that nobody has read yet are kept.
pub const WINDOW_BYTES: usize = 64 << 10;

/// The position of a client that does not count.
pub const ANYWHERE: u64 = u64::MAX;
/// How long the memory is that the supervisor keeps for each driver of a console, in bytes ([`KEPT`](crate::purpose::KEPT)).
pub const KEPT_BYTES: u64 = 2 << 20;

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

/// How many lines and columns a window has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl WindowSize {
    const fn encode(self) -> u64 {
        self.rows as u64 | (self.columns as u64) << 16
    }

    const fn decode(word: u64) -> Self {
        Self { rows: word as u16, columns: (word >> 16) as u16 }
    }
}

/// The words of a [`Request::Write`] whose first byte is at a position.
pub const fn write_words(position: u64) -> Words {
    [position, 0, 0, 0, 0, 0, 0, 0]
}

/// The words of a [`Request::Read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadWords {
    /// From where on.
    pub position: u64,
    /// The window's size as far as the client knows it; zeroes: not at all.
    pub window: WindowSize,
}

impl ReadWords {
    /// Of a client that does not count.
    pub const ANYWHERE: Self = Self { position: ANYWHERE, window: WindowSize { rows: 0, columns: 0 } };

    /// The words.
    pub const fn encode(self) -> Words {
        [self.position, self.window.encode(), 0, 0, 0, 0, 0, 0]
    }

    /// What the words say.
    pub const fn decode(words: &Words) -> Self {
        let [position, window, ..] = *words;
        Self { position, window: WindowSize::decode(window) }
    }
}

/// The answer to a [`Request::Read`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadAnswer {
    /// Bytes in the receive buffer.
    pub len_bytes: u64,
    /// Bytes lost since the last answer, because nobody took them in time or the line garbled them.
    pub lost_bytes: u64,
    /// Where the first byte is.
    pub position: u64,
    /// The window's size; zeroes: the device does not know.
    pub window: WindowSize,
}

impl ReadAnswer {
    /// The words of the answer.
    pub const fn encode(self) -> Words {
        [self.len_bytes, self.lost_bytes, self.position, self.window.encode(), 0, 0, 0, 0]
    }

    /// What the words say. The caller must not believe `len_bytes` beyond its buffer's size.
    pub const fn decode(words: &Words) -> Self {
        let [len_bytes, lost_bytes, position, window, ..] = *words;
        Self { len_bytes, lost_bytes, position, window: WindowSize::decode(window) }
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
    fn a_read_and_its_answer_survive_their_words() {
        let window = WindowSize { rows: 25, columns: u16::MAX };
        let words = ReadWords { position: 1 << 60, window };
        assert_eq!(ReadWords::decode(&words.encode()), words);
        let answer = ReadAnswer { len_bytes: 17, lost_bytes: u64::MAX, position: 5, window };
        assert_eq!(ReadAnswer::decode(&answer.encode()), answer);
    }
}
