//! Addresses between programs and the server.

use crate::errno::{Errno, Result};
use crate::net::address::{MAX_ADDRESS, unix_address};
use crate::net::unix::Name;
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

/// Reads an address of so many bytes. `EINVAL` if that is too much, `EFAULT`.
pub(super) fn read(thread: &Rc<Thread>, pointer: u64, length: u64) -> Result<Vec<u8>> {
    let length = usize::try_from(length as i32).ok().filter(|length| *length <= MAX_ADDRESS).ok_or(Errno::EINVAL)?;
    let mut address = vec![0; length];
    if length > 0 {
        UserPtr::of_call(thread, pointer).read_bytes(&mut address)?;
    }
    Ok(address)
}

/// The address of a Unix socket with this name.
pub(super) fn unix(name: Option<Name>) -> Vec<u8> {
    unix_address(name.as_deref())
}

/// Writes an address, cut to the room that there is, and its true length. `pointers`: where the address goes, and where the
/// room is said and the length goes. `EINVAL`, `EFAULT`.
pub(super) fn write(thread: &Rc<Thread>, address: &[u8], pointers: [u64; 2]) -> Result<()> {
    let [to, length] = pointers.map(|pointer| UserPtr::of_call(thread, pointer));
    let room = usize::try_from(length.read::<i32>()?).map_err(|_| Errno::EINVAL)?;
    let part = address.get(..room.min(address.len())).unwrap_or_default();
    if !part.is_empty() {
        to.write_bytes(part)?;
    }
    length.write(&(address.len() as i32))
}
