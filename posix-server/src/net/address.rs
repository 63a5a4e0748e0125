//! Socket addresses as programs write them (`struct sockaddr`).

use super::unix::Name;
use crate::errno::{Errno, Result};
use alloc::vec::Vec;
use linux_raw_sys::net as linux;

/// The longest address that a call takes (`struct sockaddr_storage`), in bytes.
pub const MAX_ADDRESS: usize = 128;
/// The size of the family, which all addresses begin with.
const FAMILY_BYTES: usize = 2;
/// The longest path of a Unix address, in bytes.
const MAX_PATH: usize = 108;

/// The family of an address. `EINVAL` if it is too short for one.
pub fn family(address: &[u8]) -> Result<u32> {
    match address {
        [low, high, ..] => Ok(u32::from(u16::from_le_bytes([*low, *high]))),
        [] | [_] => Err(Errno::EINVAL),
    }
}

/// What a Unix address names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixAddress {
    /// A path in the file system.
    Path(Vec<u8>),
    /// A name in the abstract name space, with the zero that it begins with.
    Abstract(Name),
}

impl UnixAddress {
    /// Reads one. `EINVAL` for another family or length.
    pub fn parse(address: &[u8]) -> Result<Self> {
        let is_long_enough = address.len() > FAMILY_BYTES && address.len() <= FAMILY_BYTES + MAX_PATH;
        if !is_long_enough || family(address)? != linux::AF_UNIX {
            return Err(Errno::EINVAL);
        }
        let name = address.get(FAMILY_BYTES..).unwrap_or_default();
        if name.first() == Some(&0) {
            return Ok(Self::Abstract(name.into()));
        }
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        Ok(Self::Path(name.get(..end).unwrap_or_default().to_vec()))
    }

    /// Whether an address is a family alone, which asks `bind` to choose a name.
    pub fn is_unnamed(address: &[u8]) -> bool {
        address.len() == FAMILY_BYTES && family(address) == Ok(linux::AF_UNIX)
    }
}

/// The name that a path gives a socket: with its terminating zero.
pub fn path_name(path: &[u8]) -> Name {
    path.iter().copied().chain([0]).collect()
}

/// The address of a socket with this name.
pub fn unix_address(name: Option<&[u8]>) -> Vec<u8> {
    let family = (linux::AF_UNIX as u16).to_le_bytes();
    family.iter().chain(name.unwrap_or_default()).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_at_its_zero_and_an_abstract_name_at_its_length() {
        assert_eq!(UnixAddress::parse(b"\x01\0/a\0b"), Ok(UnixAddress::Path(b"/a".to_vec())));
        assert_eq!(UnixAddress::parse(b"\x01\0\0a\0"), Ok(UnixAddress::Abstract(Name::from(*b"\0a\0"))));
    }

    #[test]
    fn addresses_of_other_lengths_and_families_are_refused() {
        for address in [&b""[..], b"\x01", b"\x01\0", b"\x02\0x", &[1; 111]] {
            assert_eq!(UnixAddress::parse(address), Err(Errno::EINVAL));
        }
        assert!(UnixAddress::is_unnamed(b"\x01\0") && !UnixAddress::is_unnamed(b"\x02\0"));
    }

    #[test]
    fn an_address_is_its_family_and_its_name() {
        assert_eq!(unix_address(None), b"\x01\0");
        assert_eq!(unix_address(Some(&path_name(b"s"))), b"\x01\0s\0");
    }
}
