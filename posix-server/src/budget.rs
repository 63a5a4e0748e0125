//! The server's own memory, as far as programs decide how much of it is used.
//!
//! Contents of files and pages of processes are the kernel's business, and charged to accounts there. But an inode, a name, bytes in a
//! pipe or an open file live in the server's heap, and a program could make so many that nothing is left for anybody else.
//! Whatever a program can make without end is therefore charged here, for as long as it lives, by a [`Charge`] that it holds.
//! The budget is a part of what the server keeps free for itself; when it is used up, the call that wants more fails.

use crate::errno::{Errno, Result};
use crate::platform;
use core::sync::atomic::{AtomicU64, Ordering};

/// The part of the machine's memory that may be used: one in so many bytes.
const SHARE: u64 = 16;
/// It is not less than this, in bytes, however small the machine.
const MIN_BYTES: u64 = 8 << 20;

/// What a charge is for. Each kind has its part of the budget, so that who makes too many files does not keep others from
/// opening those that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Inodes and names.
    #[default]
    Names,
    /// Open files, descriptors, pipes with their first page, and what calls keep while they wait.
    Open,
    /// What is under way: bytes in pipes beyond the first page, generated texts.
    Contents,
}

/// How many kinds there are.
const KINDS: usize = 3;

impl Kind {
    /// Its part of the budget: one in so many bytes.
    const fn share(self) -> u64 {
        match self {
            Self::Names => 2,
            Self::Open | Self::Contents => 4,
        }
    }
}

static USED_BYTES: [AtomicU64; KINDS] = [const { AtomicU64::new(0) }; KINDS];
/// 0: not computed yet.
static LIMIT_BYTES: AtomicU64 = AtomicU64::new(0);

/// How much may be used for a kind, in bytes.
pub fn limit_bytes(kind: Kind) -> u64 {
    total_bytes() / kind.share()
}

/// The whole budget, in bytes.
fn total_bytes() -> u64 {
    match LIMIT_BYTES.load(Ordering::Relaxed) {
        0 => {
            let (frames, _) = platform::frames();
            let limit = (frames.saturating_mul(platform::PAGE_SIZE) / SHARE).max(MIN_BYTES);
            LIMIT_BYTES.store(limit, Ordering::Relaxed);
            limit
        }
        limit => limit,
    }
}

fn used(kind: Kind) -> &'static AtomicU64 {
    let [names, open, contents] = &USED_BYTES;
    match kind {
        Kind::Names => names,
        Kind::Open => open,
        Kind::Contents => contents,
    }
}

/// How much is used, in bytes.
pub fn used_bytes(kind: Kind) -> u64 {
    used(kind).load(Ordering::Relaxed)
}

/// A part of the budget, held by what it pays for; dropping it gives it back.
#[derive(Debug, Default)]
pub struct Charge {
    kind: Kind,
    bytes: u64,
}

impl Charge {
    /// A charge of nothing.
    pub const fn none(kind: Kind) -> Self {
        Self { kind, bytes: 0 }
    }

    /// Takes so many bytes. `ENOMEM`.
    pub fn new(kind: Kind, bytes: u64) -> Result<Self> {
        let mut charge = Self::none(kind);
        charge.resize(bytes)?;
        Ok(charge)
    }

    /// How many bytes it has taken.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more, or gives some back, so that it is `bytes`. `ENOMEM`, and then nothing has changed.
    pub fn resize(&mut self, bytes: u64) -> Result<()> {
        if let Some(more) = bytes.checked_sub(self.bytes) {
            if used_bytes(self.kind).saturating_add(more) > limit_bytes(self.kind) {
                return Err(Errno::ENOMEM);
            }
            used(self.kind).fetch_add(more, Ordering::Relaxed);
        } else {
            used(self.kind).fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        used(self.kind).fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_comes_back() {
        let limit = limit_bytes(Kind::Contents);
        assert_eq!(Charge::new(Kind::Contents, limit + 1).err(), Some(Errno::ENOMEM));
        let mut charge = Charge::new(Kind::Contents, 1000).unwrap();
        charge.resize(2000).unwrap();
        assert_eq!(charge.resize(limit + 1), Err(Errno::ENOMEM));
        charge.resize(10).unwrap();
        assert!(used_bytes(Kind::Contents) >= 10);
    }
}
