//! What drivers and the supervisor offer, as data: labels, words and limits. No decoder here panics, whatever it is given.
//!
//! A request is a call on a channel: its label says what is wanted. The answer's label is 0 ([`ANSWERED`]) or a
//! [`Refusal`].
#![no_std]
#![forbid(unsafe_code)]

pub mod block;
pub mod console;
pub mod edu;
pub mod entropy;
pub mod files;
pub mod orders;
pub mod pages;
pub mod purpose;
pub mod supervisor;

extern crate alloc;

use quire_abi::message::WORDS;

/// The words of a message.
pub type Words = [u64; WORDS];

/// The label of the answer to a request that was served.
pub const ANSWERED: u64 = 0;

/// Why a request was not served: the label of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Refusal {
    /// The request's label or words mean nothing to this server.
    Unknown = 1,
    /// Too many requests of this kind wait already.
    Busy = 2,
    /// The device does not answer as it should.
    DeviceFailed = 3,
    /// The caller's buffer can't be used.
    BadBuffer = 4,
}

impl Refusal {
    /// What an answer's label says: `Ok` if the request was served. A label that nobody defined is taken for
    /// [`Refusal::Unknown`].
    pub const fn check(label: u64) -> Result<(), Self> {
        match label {
            ANSWERED => Ok(()),
            2 => Err(Self::Busy),
            3 => Err(Self::DeviceFailed),
            4 => Err(Self::BadBuffer),
            _ => Err(Self::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_what_their_labels_say() {
        for refusal in [Refusal::Unknown, Refusal::Busy, Refusal::DeviceFailed, Refusal::BadBuffer] {
            assert_eq!(Refusal::check(refusal as u64), Err(refusal));
        }
        assert_eq!(Refusal::check(ANSWERED), Ok(()));
        assert_eq!(Refusal::check(u64::MAX), Err(Refusal::Unknown));
    }
}
