//! Words that are shared.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// A word that several read and change at the same time.
pub trait Word<T> {
    /// Its value.
    fn load(&self, order: Ordering) -> T;

    /// Changes it.
    fn store(&self, value: T, order: Ordering);
}

/// One that can be counted up.
pub trait Counter: Word<u32> {
    /// Adds one; returns what it was.
    fn count_up(&self, order: Ordering) -> u32;

    /// Changes it if it is still `expected`; tells whether it was.
    fn change(&self, expected: u32, new: u32, order: Ordering) -> bool;
}

macro_rules! words {
    ($($atomic:ty: $value:ty;)+) => {
        $(impl Word<$value> for $atomic {
            #[inline(always)]
            fn load(&self, order: Ordering) -> $value {
                <$atomic>::load(self, order)
            }

            #[inline(always)]
            fn store(&self, value: $value, order: Ordering) {
                <$atomic>::store(self, value, order);
            }
        })+
    };
}

words! {
    AtomicBool: bool;
    AtomicU8: u8;
    AtomicU32: u32;
    AtomicU64: u64;
}

impl Counter for AtomicU32 {
    #[inline(always)]
    fn count_up(&self, order: Ordering) -> u32 {
        self.fetch_add(1, order)
    }

    #[inline]
    fn change(&self, expected: u32, new: u32, order: Ordering) -> bool {
        self.compare_exchange(expected, new, order, Ordering::Relaxed).is_ok()
    }
}
