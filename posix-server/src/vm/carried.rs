//! What the call that a thread makes carries along in its block (`posix_protocol::carried`), as the server sees it.
//!
//! The shim says which ranges of the program's memory have a copy in the data. Reading such a range is then reading the copy. A result is
//! put into the data, as long as it is written from its beginning without gaps; the shim copies it when the call
//! returns, or the server [does](Block::flush) where the thread does not go back that way. A program that lies about any of it gets
//! what it would get for other arguments.

use super::Block;
use crate::platform::Space;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::mem::offset_of;
use posix_protocol::carried::{Carried, INPUTS, Part, RESULT};
use posix_protocol::shim::ThreadBlock;

const DATA: usize = offset_of!(ThreadBlock, data);

/// A range of the program's memory with a place in the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Range {
    address: u64,
    offset: usize,
    length: usize,
}

impl Range {
    fn of(part: &Part, arguments: &[u64; 6]) -> Self {
        // There is no argument with a larger number: the range is empty.
        match arguments.get(part.argument) {
            Some(address) => Self { address: *address, offset: part.offset, length: part.length },
            None => Self::default(),
        }
    }

    /// Where in the range a part of the program's memory begins, if all of it is within.
    fn position(&self, address: u64, length: usize) -> Option<usize> {
        let position = address.checked_sub(self.address).filter(|position| *position < self.length as u64)? as usize;
        (position + length <= self.length).then_some(position)
    }

    fn overlaps(&self, address: u64, length: usize) -> bool {
        let before = address.checked_sub(self.address).is_some_and(|position| position >= self.length as u64);
        let behind = self.address.checked_sub(address).is_some_and(|distance| distance >= length as u64);
        self.length != 0 && !before && !behind
    }
}

/// The ranges of one call.
#[derive(Debug, Default)]
pub(super) struct Call {
    is_carrying: Cell<bool>,
    inputs: [Cell<Range>; INPUTS],
    result: Cell<Range>,
    /// How much of the result was written.
    written: Cell<usize>,
}

impl Call {
    fn begin(&self, carried: Carried, arguments: &[u64; 6]) {
        let parts = carried.parts();
        self.is_carrying.set(parts.is_some());
        self.written.set(0);
        const { assert!(RESULT == 2) };
        let [first, second, result] = &parts.unwrap_or_default();
        let [first_input, second_input] = &self.inputs;
        first_input.set(Range::of(first, arguments));
        second_input.set(Range::of(second, arguments));
        self.result.set(Range::of(result, arguments));
    }
}

impl Block {
    /// A call begins that carries this along.
    #[inline]
    pub fn begin_call(&self, carried: u64, arguments: &[u64; 6]) {
        if carried != 0 {
            self.call.begin(Carried(carried), arguments);
        } else {
            self.call.is_carrying.set(false);
        }
    }

    /// Whether the call carries something.
    #[inline]
    pub fn is_carrying(&self) -> bool {
        self.call.is_carrying.get()
    }

    /// The call returns: how many bytes of its result the shim finds in the data.
    #[inline]
    pub fn end_call(&self) -> u64 {
        if self.call.is_carrying.replace(false) { self.call.written.get() as u64 } else { 0 }
    }

    /// Reads a range of the program's memory. False: there is no copy of it.
    pub fn read_carried(&self, address: u64, buffer: &mut [u8]) -> bool {
        if !self.is_carrying() {
            return false;
        }
        for range in self.call.inputs.iter().map(Cell::get) {
            if let Some(position) = range.position(address, buffer.len()) {
                self.read(DATA + range.offset + position, buffer);
                return true;
            }
        }
        false
    }

    /// The string at an address, without its zero. `None`: there is no copy of it.
    pub fn read_carried_string(&self, address: u64) -> Option<Vec<u8>> {
        let mut inputs = self.call.inputs.iter().map(Cell::get).filter(|_| self.is_carrying());
        let range = inputs.find(|range| range.length != 0 && range.address == address)?;
        let mut string = vec![0; range.length];
        self.read(DATA + range.offset, &mut string);
        string.truncate(position_of_zero(&string)?);
        Some(string)
    }

    /// Writes to a range of the program's memory. False: the caller is to do that itself. What was written before it to an
    /// overlapping range is then where it belongs.
    pub fn write_carried(&self, space: &Space, address: u64, bytes: &[u8]) -> bool {
        if !self.is_carrying() {
            return false;
        }
        let (result, written) = (self.call.result.get(), self.call.written.get());
        let Some(position) = result.position(address, bytes.len()).filter(|position| *position <= written) else {
            if result.overlaps(address, bytes.len()) {
                self.flush(space);
            }
            return false;
        };
        self.write(DATA + result.offset + position, bytes);
        self.call.written.set(written.max(position + bytes.len()));
        true
    }

    /// Puts what was written of the result where it belongs, and carries no more of it.
    pub fn flush(&self, space: &Space) {
        if !self.is_carrying() {
            return;
        }
        let (result, written) = (self.call.result.take(), self.call.written.take());
        let mut bytes = vec![0; written];
        if written > 0 {
            self.read(DATA + result.offset, &mut bytes);
            // It could be written when the call was made.
            crate::user::write(space, result.address, &bytes);
        }
    }
}

/// Where the first zero is. Most strings are too short for a search that has to get ready first.
fn position_of_zero(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let (words, _) = bytes.as_chunks::<8>();
    let has_zero = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        word.wrapping_sub(ONES) & !word & (ONES << 7) != 0
    };
    let start = words.iter().position(has_zero).unwrap_or(words.len()) * 8;
    bytes.get(start..)?.iter().position(|byte| *byte == 0).map(|position| start + position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{Account, Backing, Change, Inherit, PAGE_SIZE, Protection, Sharing};
    use crate::vm::BlockPool;
    use alloc::rc::Rc;

    const AT: u64 = 0x5000;

    fn space() -> Space {
        let space = Space::create(&Account).unwrap();
        let change = Change::Map {
            address: AT,
            length: PAGE_SIZE,
            backing: Backing::Zero,
            sharing: Sharing::Private,
            protection: Protection::READ | Protection::WRITE,
            inherit: Inherit::Clone,
        };
        space.commit(&[change]).unwrap();
        space
    }

    fn block() -> Rc<Block> {
        Rc::new(BlockPool::default()).take(0x1000).unwrap()
    }

    #[test]
    fn an_input_is_read_from_the_copy() {
        let block = block();
        block.write(DATA, b"name\0");
        block.begin_call(Carried::default().with(0, 1, 5).0, &[0, AT, 0, 0, 0, 0]);
        assert_eq!(block.read_carried_string(AT).unwrap(), b"name");
        let mut part = [0; 3];
        assert!(block.read_carried(AT + 1, &mut part) && &part == b"ame");
        assert!(!block.read_carried(AT + 3, &mut part), "beyond the copy");
        assert!(!block.read_carried(AT - 1, &mut part));
        block.begin_call(0, &[0; 6]);
        assert!(block.read_carried_string(AT).is_none());
    }

    #[test]
    fn a_string_that_does_not_end_is_not_carried() {
        let block = block();
        block.write(DATA, b"name");
        block.begin_call(Carried::default().with(0, 0, 4).0, &[AT, 0, 0, 0, 0, 0]);
        assert_eq!(block.read_carried_string(AT), None);
    }

    #[test]
    fn zeroes_are_found_wherever_they_are() {
        for length in 0..40 {
            assert_eq!(position_of_zero(&vec![0x80; length]), None);
            for at in 0..length {
                let mut bytes = vec![0x80; length];
                bytes[at] = 0;
                assert_eq!(position_of_zero(&bytes), Some(at));
                bytes[at..].fill(0);
                assert_eq!(position_of_zero(&bytes), Some(at));
            }
        }
    }

    #[test]
    fn a_result_is_collected_from_its_beginning() {
        let (space, block) = (space(), block());
        block.begin_call(Carried::default().with(RESULT, 2, 8).0, &[0, 0, AT, 0, 0, 0]);
        assert!(block.write_carried(&space, AT, b"abc"));
        assert!(block.write_carried(&space, AT + 3, b"def"));
        let mut found = [0; 6];
        block.read(DATA, &mut found);
        assert_eq!((&found, block.end_call(), block.end_call()), (b"abcdef", 6, 0));
    }

    #[test]
    fn what_does_not_fit_comes_after_what_did() {
        let (space, block) = (space(), block());
        block.begin_call(Carried::default().with(RESULT, 0, 8).0, &[AT, 0, 0, 0, 0, 0]);
        assert!(block.write_carried(&space, AT, b"abc"));
        assert!(!block.write_carried(&space, AT + 100, b"x"), "elsewhere");
        assert!(!block.write_carried(&space, AT + 3, b"0123456789"));
        let mut found = [0; 3];
        assert_eq!((space.read(AT, &mut found), &found), (3, b"abc"));
        assert!(!block.write_carried(&space, AT, b"abc"), "it is no longer carried");
        assert_eq!(block.end_call(), 0);
    }

    #[test]
    fn lies_are_nothing() {
        let (space, block) = (space(), block());
        for carried in [u64::MAX, Carried::default().with(RESULT, 7, 8).0, Carried::default().with(0, 6, 8).0] {
            block.begin_call(carried, &[AT; 6]);
            assert!(!block.write_carried(&space, AT, b"abc"));
            assert!(!block.read_carried(AT, &mut [0; 4]));
            assert_eq!(block.end_call(), 0);
        }
        block.begin_call(Carried::default().with(RESULT, 0, 8).0, &[u64::MAX - 1, 0, 0, 0, 0, 0]);
        assert!(!block.write_carried(&space, 3, b"abc"));
    }
}
