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
use core::ffi::CStr;
use core::mem::offset_of;
use posix_protocol::carried::{Carried, INPUTS, Part, RESULT};
use posix_protocol::shim::{DATA_BYTES, ThreadBlock};

const DATA: usize = offset_of!(ThreadBlock, data);

/// A range of the program's memory with a place in the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Range {
    address: u64,
    offset: usize,
    length: usize,
}

impl Range {
    fn of(part: Part, arguments: &[u64; 6]) -> Self {
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    inputs: [Range; INPUTS],
    result: Range,
    /// How much of the result was written.
    written: usize,
}

impl Call {
    fn new(carried: Carried, arguments: &[u64; 6]) -> Option<Self> {
        let parts = carried.parts()?;
        let [first, second, result] = parts.map(|part| Range::of(part, arguments));
        const { assert!(RESULT == 2) };
        Some(Self { inputs: [first, second], result, written: 0 })
    }
}

impl Block {
    /// A call begins that carries this along.
    #[inline]
    pub fn begin_call(&self, carried: u64, arguments: &[u64; 6]) {
        if carried != 0 {
            self.call.set(Call::new(Carried(carried), arguments));
        } else if self.is_carrying() {
            self.call.set(None);
        }
    }

    /// Whether the call carries something.
    #[inline]
    pub fn is_carrying(&self) -> bool {
        self.call.get().is_some()
    }

    /// The call returns: how many bytes of its result the shim finds in the data.
    #[inline]
    pub fn end_call(&self) -> u64 {
        self.call.take().map_or(0, |call| call.written as u64)
    }

    /// Reads a range of the program's memory. False: there is no copy of it.
    pub fn read_carried(&self, address: u64, buffer: &mut [u8]) -> bool {
        let Some(call) = self.call.get() else { return false };
        let places = call.inputs.map(|range| range.position(address, buffer.len()).map(|at| range.offset + at));
        let place = places.into_iter().flatten().next();
        if let Some(place) = place {
            self.read(DATA + place, buffer);
        }
        place.is_some()
    }

    /// The string at an address, without its zero. `None`: there is no copy of it.
    pub fn read_carried_string(&self, address: u64) -> Option<Vec<u8>> {
        let call = self.call.get()?;
        let range = call.inputs.into_iter().find(|range| range.length != 0 && range.address == address)?;
        let mut string = vec![0; range.length];
        self.read(DATA + range.offset, &mut string);
        let end = CStr::from_bytes_until_nul(&string).ok()?.count_bytes();
        string.truncate(end);
        Some(string)
    }

    /// Writes to a range of the program's memory. False: the caller is to do that itself. What was written before it to an
    /// overlapping range is then where it belongs.
    pub fn write_carried(&self, space: &Space, address: u64, bytes: &[u8]) -> bool {
        let Some(mut call) = self.call.get() else { return false };
        let position = call.result.position(address, bytes.len()).filter(|position| *position <= call.written);
        let Some(position) = position else {
            if call.result.overlaps(address, bytes.len()) {
                self.flush(space);
            }
            return false;
        };
        self.write(DATA + call.result.offset + position, bytes);
        call.written = call.written.max(position + bytes.len());
        self.call.set(Some(call));
        true
    }

    /// Puts what was written of the result where it belongs, and carries no more of it.
    pub fn flush(&self, space: &Space) {
        let Some(call) = self.call.get() else { return };
        self.call.set(Some(Call { result: Range::default(), written: 0, ..call }));
        if call.written > 0 {
            let mut bytes = [0; DATA_BYTES];
            if let Some(bytes) = bytes.get_mut(..call.written) {
                self.read(DATA + call.result.offset, bytes);
                // It could be written when the call was made.
                space.write(call.result.address, bytes);
            }
        }
    }
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
