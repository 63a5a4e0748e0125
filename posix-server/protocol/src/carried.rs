//! What a request carries along in the data of the thread's block (ADR 12).
//!
//! The shim copies what a call reads (a path, a small structure, a few bytes to write) into the data before the call, and copies
//! what the call has produced out of them after it, so that the server needs no call into the kernel for either. Word 6 of a request says
//! what there is; word 1 of the answer says how many bytes of the result the server has left in the data.

use crate::shim::DATA_BYTES;

/// Inputs that a request can carry.
pub const INPUTS: usize = 2;
/// The part of [`Carried`] that is room for a result; those below it are inputs.
pub const RESULT: usize = INPUTS;
/// All parts.
pub const PARTS: usize = INPUTS + 1;

/// A bit of word 6 that no part uses: the shim has found the word of a futex as the call expects it, just before the request.
pub const WORD_SEEN: u64 = 1 << 63;

/// Bits of one part: 13 for its length, 3 for the argument.
const PART_BITS: u32 = 16;
const LENGTH_BITS: u32 = 13;
const LENGTH_MASK: u64 = (1 << LENGTH_BITS) - 1;
const ARGUMENT_MASK: u64 = 7;

const _: () = assert!(WORD_SEEN >> (PARTS as u32 * PART_BITS) != 0);
const _: () = assert!((DATA_BYTES as u64) <= LENGTH_MASK);

/// Word 6 of a request: which arguments point at something that is in the data, or has room there, and how many bytes each is
/// long. In the data the parts follow each other, each at a multiple of 8. 0: nothing is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried(pub u64);

/// One part of what is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Which argument of the call is the address; below 8.
    pub argument: usize,
    /// Where in the data it is.
    pub offset: usize,
    /// How many bytes it is long; 0: it is not carried.
    pub length: usize,
}

impl Carried {
    /// The parts in their order, inputs first. `None` if they do not fit the data: who asks that plays the shim.
    #[inline]
    pub fn parts(self) -> Option<[Part; PARTS]> {
        let mut parts = [Part::default(); PARTS];
        let mut end = 0;
        for (index, part) in parts.iter_mut().enumerate() {
            let bits = self.0 >> (index as u32 * PART_BITS);
            let length = (bits & LENGTH_MASK) as usize;
            *part = Part { argument: (bits >> LENGTH_BITS & ARGUMENT_MASK) as usize, offset: end, length };
            end += length.next_multiple_of(8);
        }
        (end <= DATA_BYTES).then_some(parts)
    }

    /// The same with one part more. The caller has seen to it that all fit.
    #[inline]
    pub const fn with(self, part: usize, argument: usize, length: usize) -> Self {
        let bits = length as u64 & LENGTH_MASK | (argument as u64 & ARGUMENT_MASK) << LENGTH_BITS;
        Self(self.0 | bits << (part as u32 * PART_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other() {
        let carried = Carried::default().with(0, 1, 13).with(RESULT, 2, 144);
        let parts = carried.parts().unwrap();
        assert_eq!(parts[0], Part { argument: 1, offset: 0, length: 13 });
        assert_eq!(parts[1], Part { argument: 0, offset: 16, length: 0 });
        assert_eq!(parts[RESULT], Part { argument: 2, offset: 16, length: 144 });
    }

    #[test]
    fn what_does_not_fit_is_nothing() {
        assert_eq!(Carried::default().with(0, 0, 1500).with(RESULT, 1, 1500).parts(), None);
        assert_eq!(Carried(u64::MAX).parts(), None);
        assert!(Carried::default().with(RESULT, 5, DATA_BYTES).parts().is_some());
    }
}
