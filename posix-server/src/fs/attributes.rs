//! Extended attributes of one file (`xattr(7)`): names and values, in the order of the names.

use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::RefCell;
use linux_raw_sys::general as linux;

/// The longest name, without a terminating zero, in bytes.
pub const NAME_MAX: usize = linux::XATTR_NAME_MAX as usize;
/// The longest value, in bytes.
pub const VALUE_MAX: usize = linux::XATTR_SIZE_MAX as usize;
/// The longest list of names, in bytes.
const LIST_MAX: usize = linux::XATTR_LIST_MAX as usize;

/// What an attribute takes of the server's memory besides its bytes, about.
const ATTRIBUTE_BYTES: u64 = 96;

/// Whether an attribute may, or must, be there before it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Either.
    Any,
    /// It must not (`XATTR_CREATE`).
    Absent,
    /// It must (`XATTR_REPLACE`).
    Present,
}

struct Value {
    bytes: Box<[u8]>,
    _charge: Charge,
}

/// The attributes of one file.
#[derive(Default)]
pub struct Attributes {
    values: RefCell<BTreeMap<Box<[u8]>, Value>>,
}

impl Attributes {
    /// What an attribute's value does, if there is one. `ENODATA`.
    pub fn get<T>(&self, name: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<T> {
        self.values.borrow().get(name).map(|value| with(&value.bytes)).ok_or(Errno::ENODATA)
    }

    /// Sets an attribute. `EEXIST`, `ENODATA`; `ENOSPC` if the server keeps too much already, or the names don't fit a list.
    pub fn set(&self, name: &[u8], value: &[u8], before: Before) -> Result<()> {
        let is_there = self.values.borrow().contains_key(name);
        match before {
            Before::Absent if is_there => return Err(Errno::EEXIST),
            Before::Present if !is_there => return Err(Errno::ENODATA),
            Before::Any | Before::Absent | Before::Present => {}
        }
        if !is_there && self.names().len() + name.len() + 1 > LIST_MAX {
            return Err(Errno::ENOSPC);
        }
        let bytes = ATTRIBUTE_BYTES + (name.len() + value.len()) as u64;
        let charge = Charge::new(Budget::Names, bytes).map_err(|_| Errno::ENOSPC)?;
        let value = Value { bytes: Box::from(value), _charge: charge };
        let replaced = self.values.borrow_mut().insert(Box::from(name), value);
        drop(replaced);
        Ok(())
    }

    /// Removes an attribute. `ENODATA`.
    pub fn remove(&self, name: &[u8]) -> Result<()> {
        self.values.borrow_mut().remove(name).map(drop).ok_or(Errno::ENODATA)
    }

    /// Something of each of them together: of its name, and of how long its value is.
    pub fn sum(&self, of: impl Fn(&[u8], usize) -> usize) -> usize {
        self.values.borrow().iter().map(|(name, value)| of(name, value.bytes.len())).sum()
    }

    /// All names, each with a terminating zero.
    pub fn names(&self) -> Vec<u8> {
        self.names_that(|_| true)
    }

    /// The names that `shown` lets pass, each with a terminating zero.
    pub fn names_that(&self, shown: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let values = self.values.borrow();
        values.keys().filter(|name| shown(name)).flat_map(|name| name.iter().copied().chain([0])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_set_replaced_listed_and_removed() {
        let attributes = Attributes::default();
        assert_eq!(attributes.set(b"user.a", b"1", Before::Present), Err(Errno::ENODATA));
        attributes.set(b"user.b", b"2", Before::Absent).unwrap();
        attributes.set(b"user.a", b"1", Before::Any).unwrap();
        assert_eq!(attributes.set(b"user.a", b"3", Before::Absent), Err(Errno::EEXIST));
        attributes.set(b"user.a", b"33", Before::Present).unwrap();
        assert_eq!(attributes.get(b"user.a", <[u8]>::to_vec).unwrap(), b"33");
        assert_eq!(attributes.names(), b"user.a\0user.b\0");
        attributes.remove(b"user.a").unwrap();
        assert_eq!(attributes.remove(b"user.a"), Err(Errno::ENODATA));
    }

    #[test]
    fn there_are_no_more_names_than_a_list_holds() {
        let attributes = Attributes::default();
        let name = |number: usize| std::format!("user.{number:0250}").into_bytes();
        let fitting = (0..).take_while(|number| attributes.set(&name(*number), b"", Before::Any).is_ok()).count();
        assert_eq!(fitting, LIST_MAX / 256);
    }

    extern crate std;
}
