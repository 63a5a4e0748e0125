//! A source of random bytes.
//!
//! | request | buffers | answered | answer |
//! |---|---|---|---|
//! | `Read` | receive: up to [`MAX_READ_BYTES`] count | when the device has given some | word 0: bytes in the receive buffer, at least one |
//!
//! Up to [`MAX_READS`] may wait; one more is refused as [`Busy`](crate::Refusal::Busy). No bytes are given twice.

/// How many bytes one read gives at most.
pub const MAX_READ_BYTES: usize = 256;
/// How many reads may wait.
pub const MAX_READS: usize = 16;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Request {
    /// Put random bytes into the call's receive buffer.
    Read = 1,
}

impl Request {
    /// The request with this label.
    pub const fn from_label(label: u64) -> Option<Self> {
        match label {
            1 => Some(Self::Read),
            _ => None,
        }
    }

    /// Its label.
    pub const fn label(self) -> u64 {
        self as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_their_labels_and_others_are_refused() {
        assert_eq!(Request::from_label(Request::Read.label()), Some(Request::Read));
        for label in [0, 2, u64::MAX] {
            assert_eq!(Request::from_label(label), None);
        }
    }
}
