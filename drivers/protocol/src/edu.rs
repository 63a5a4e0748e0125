//! A device that is there to be learned from: QEMU's `edu`, the example of `docs/writing-a-driver.md`.
//!
//! | request | words | buffers | answered | answer |
//! |---|---|---|---|---|
//! | `Identify` | – | – | at once | word 0: what the device says it is |
//! | `Factorial` | number | – | when the device has computed it | word 0: the factorial, modulo 2³² |
//! | `Echo` | – | send, receive: up to [`MAX_ECHO_BYTES`] | when the bytes went to the device and came back | word 0: how many |
//!
//! A driver that can't do one of them yet refuses it as [`Unknown`](crate::Refusal::Unknown).

use crate::Words;

/// How many bytes go to the device and back at most; of a longer buffer the first so many.
pub const MAX_ECHO_BYTES: usize = 2048;

const IDENTIFY: u64 = 1;
const FACTORIAL: u64 = 2;
const ECHO: u64 = 3;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// What the device is.
    Identify,
    /// The product of all numbers from 1 to this.
    Factorial {
        /// Which.
        number: u32,
    },
    /// Send bytes to the device and fetch them again.
    Echo,
}

impl Request {
    /// Label and words of the request.
    pub const fn encode(self) -> (u64, Words) {
        match self {
            Self::Identify => (IDENTIFY, [0; 8]),
            Self::Factorial { number } => (FACTORIAL, [number as u64, 0, 0, 0, 0, 0, 0, 0]),
            Self::Echo => (ECHO, [0; 8]),
        }
    }

    /// The request with this label and these words, if it is one.
    pub fn decode(label: u64, words: &Words) -> Option<Self> {
        let [number, ..] = *words;
        match label {
            IDENTIFY => Some(Self::Identify),
            FACTORIAL => Some(Self::Factorial { number: u32::try_from(number).ok()? }),
            ECHO => Some(Self::Echo),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_their_words_and_others_are_refused() {
        for request in [Request::Identify, Request::Factorial { number: 10 }, Request::Echo] {
            let (label, words) = request.encode();
            assert_eq!(Request::decode(label, &words), Some(request));
        }
        for label in [0, FACTORIAL, ECHO + 1, u64::MAX] {
            assert_eq!(Request::decode(label, &[u64::MAX; 8]), None);
        }
    }
}
