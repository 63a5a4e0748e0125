//! Words of futexes in programs' memory: reading them, and the changes that the system makes.

use crate::errno::{Errno, Result};
use crate::process::Thread;
use crate::user::UserPtr;
use linux_raw_sys::general as linux;

/// The bits of a lock's word that hold the owner's thread id.
pub const TID_MASK: u32 = linux::FUTEX_TID_MASK;
/// Somebody waits for the lock: letting it go needs the system.
pub const WAITERS: u32 = linux::FUTEX_WAITERS;
/// The owner ended without letting it go.
pub const OWNER_DIED: u32 = linux::FUTEX_OWNER_DIED;

/// Reads a word. `EFAULT`.
pub fn read(thread: &Thread, address: u64) -> Result<u32> {
    UserPtr::new(&thread.space(), address).read()
}

/// Makes a word what a function makes of it, if it is still the same when that is written; returns what it was. `EFAULT`;
/// `EAGAIN` if the program changes it all the time.
pub fn update(thread: &Thread, address: u64, change: impl Fn(u32) -> u32) -> Result<u32> {
    const ATTEMPTS: u32 = 64;
    let space = thread.space();
    let pointer = UserPtr::new(&space, address);
    let mut seen: u32 = pointer.read()?;
    for _ in 0..ATTEMPTS {
        // Also if it stays the same: a word that can't be written is an error.
        let found = space.compare_exchange(address, seen, change(seen))?;
        if found == seen {
            return Ok(seen);
        }
        seen = found;
    }
    Err(Errno::EAGAIN)
}

/// What `FUTEX_WAKE_OP` does to its second word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    operation: u32,
    argument: i32,
    comparison: u32,
    compared_with: i32,
}

/// The highest 12-bit number that is not negative.
const SIGN_BIT: u32 = 11;

fn sign_extended(bits: u32) -> i32 {
    let shift = u32::BITS - 1 - SIGN_BIT;
    ((bits << shift) as i32) >> shift
}

impl Operation {
    /// Takes the parts out of the call's last argument. `ENOSYS` for an unknown operation or comparison.
    pub fn decode(encoded: u32) -> Result<Self> {
        let operation = encoded >> 28 & 7;
        let argument = sign_extended(encoded >> 12 & 0xfff);
        let argument =
            if encoded >> 28 & linux::FUTEX_OP_OPARG_SHIFT == 0 { argument } else { 1i32 << (argument & 31) };
        let comparison = encoded >> 24 & 15;
        if operation > linux::FUTEX_OP_XOR || comparison > linux::FUTEX_OP_CMP_GE {
            return Err(Errno::ENOSYS);
        }
        Ok(Self { operation, argument, comparison, compared_with: sign_extended(encoded & 0xfff) })
    }

    /// The word afterwards.
    pub fn apply(&self, word: u32) -> u32 {
        let argument = self.argument as u32;
        match self.operation {
            linux::FUTEX_OP_SET => argument,
            linux::FUTEX_OP_ADD => word.wrapping_add(argument),
            linux::FUTEX_OP_OR => word | argument,
            linux::FUTEX_OP_ANDN => word & !argument,
            _ => word ^ argument,
        }
    }

    /// Whether those at the second word are woken, by what it was.
    pub fn holds(&self, word: u32) -> bool {
        let (word, with) = (word as i32, self.compared_with);
        match self.comparison {
            linux::FUTEX_OP_CMP_EQ => word == with,
            linux::FUTEX_OP_CMP_NE => word != with,
            linux::FUTEX_OP_CMP_LT => word < with,
            linux::FUTEX_OP_CMP_LE => word <= with,
            linux::FUTEX_OP_CMP_GT => word > with,
            _ => word >= with,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(operation: u32, argument: i32, comparison: u32, with: i32) -> u32 {
        operation << 28 | comparison << 24 | (argument as u32 & 0xfff) << 12 | with as u32 & 0xfff
    }

    #[test]
    fn operations_change_and_compare() {
        let add = Operation::decode(encoded(linux::FUTEX_OP_ADD, -1, linux::FUTEX_OP_CMP_LT, 0)).unwrap();
        assert_eq!((add.apply(5), add.holds(5), add.holds(u32::MAX)), (4, false, true));
        let shift = linux::FUTEX_OP_OPARG_SHIFT | linux::FUTEX_OP_OR;
        let or = Operation::decode(encoded(shift, 4, linux::FUTEX_OP_CMP_GE, -3)).unwrap();
        assert_eq!((or.apply(1), or.holds(0), or.holds(-4i32 as u32)), (17, true, false));
        assert_eq!(Operation::decode(encoded(7, 0, 0, 0)), Err(Errno::ENOSYS));
        assert_eq!(Operation::decode(encoded(0, 0, 6, 0)), Err(Errno::ENOSYS));
    }
}
