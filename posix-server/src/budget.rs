//! The server's own memory, as far as programs decide how much of it is used.
//!
//! Contents of files and pages of processes are the kernel's business, and charged to accounts there. But an inode, a name, bytes in a
//! pipe or an open file live in the server's heap, and a program could make so many that nothing is left for anybody else.
//! Whatever a program can make without end is therefore charged here, for as long as it lives, by a [`Charge`] that it holds.
//! The budget is a part of what the server keeps free for itself; when it is used up, the call that wants more fails.
//!
//! A charge is for the user whose call is being served. One ordinary user may have half of a kind, and all of them together leave an
//! eighth to the superuser: who makes as much as he can does not keep others from working.

use crate::cred::{ROOT, Uid};
use crate::errno::{Errno, Result};
use crate::platform;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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
    /// Names and inodes of disks, which can be forgotten and loaded again.
    Cached,
}

/// How many kinds there are.
const KINDS: usize = 4;

impl Kind {
    /// Its part of the budget: one in so many bytes.
    const fn share(self) -> u64 {
        match self {
            // What is cached is besides what programs can use up.
            Self::Names | Self::Cached => 2,
            Self::Open | Self::Contents => 4,
        }
    }
}

/// One ordinary user may have one in so many bytes of a kind.
const USER_SHARE: u64 = 2;
/// All ordinary users leave one in so many.
const ROOT_SHARE: u64 = 8;
/// Users whose numbers are the same but for a multiple of this have one share.
const USERS: usize = 256;

/// What ordinary users have, by kind.
static USED_BY_USERS: [[AtomicU64; KINDS]; USERS] = [const { [const { AtomicU64::new(0) }; KINDS] }; USERS];
/// For whom a new charge is.
static CALLER: AtomicU32 = AtomicU32::new(ROOT);

/// Says for whom new charges are from now on.
#[inline]
pub fn set_caller(user: Uid) {
    CALLER.store(user, Ordering::Relaxed);
}

/// Whether the superuser's call is being served.
pub fn caller_is_superuser() -> bool {
    CALLER.load(Ordering::Relaxed) == ROOT
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
    let [names, open, contents, cached] = &USED_BYTES;
    match kind {
        Kind::Names => names,
        Kind::Open => open,
        Kind::Contents => contents,
        Kind::Cached => cached,
    }
}

/// What an ordinary user has of a kind; `None` for the superuser, of whom that is not counted.
fn used_by(user: Uid, kind: Kind) -> Option<&'static AtomicU64> {
    if user == ROOT {
        return None;
    }
    let [names, open, contents, cached] = USED_BY_USERS.get(user as usize % USERS)?;
    Some(match kind {
        Kind::Names => names,
        Kind::Open => open,
        Kind::Contents => contents,
        Kind::Cached => cached,
    })
}

/// Whether a user may have so much more of a kind.
fn has_room(user: Uid, kind: Kind, more: u64) -> bool {
    let limit = limit_bytes(kind);
    let total = used_bytes(kind).saturating_add(more);
    match used_by(user, kind) {
        None => total <= limit,
        Some(own) => {
            let own = own.load(Ordering::Relaxed).saturating_add(more);
            total <= limit - limit / ROOT_SHARE && own <= limit / USER_SHARE
        }
    }
}

/// How much is used, in bytes.
pub fn used_bytes(kind: Kind) -> u64 {
    used(kind).load(Ordering::Relaxed)
}

/// A part of the budget, held by what it pays for; dropping it gives it back.
#[derive(Debug)]
pub struct Charge {
    kind: Kind,
    user: Uid,
    bytes: u64,
}

impl Default for Charge {
    fn default() -> Self {
        Self::none(Kind::default())
    }
}

impl Charge {
    /// A charge of nothing, for the user whose call is served.
    pub fn none(kind: Kind) -> Self {
        Self { kind, user: CALLER.load(Ordering::Relaxed), bytes: 0 }
    }

    /// Takes so many bytes. `ENOMEM`.
    pub fn new(kind: Kind, bytes: u64) -> Result<Self> {
        let mut charge = Self::none(kind);
        charge.resize(bytes)?;
        Ok(charge)
    }

    /// The same, for a user who need not be the one whose call is served. `ENOMEM`.
    pub fn new_for(user: Uid, kind: Kind, bytes: u64) -> Result<Self> {
        let mut charge = Self { kind, user, bytes: 0 };
        charge.resize(bytes)?;
        Ok(charge)
    }

    /// How many bytes it has taken.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more, or gives some back, so that it is `bytes`. `ENOMEM`, and then nothing has changed.
    pub fn resize(&mut self, bytes: u64) -> Result<()> {
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            if !has_room(self.user, self.kind, more) {
                return Err(Errno::ENOMEM);
            }
            self.each(|used| used.fetch_add(more, Ordering::Relaxed));
        } else if bytes < self.bytes {
            let less = self.bytes - bytes;
            self.each(|used| used.fetch_sub(less, Ordering::Relaxed));
        }
        self.bytes = bytes;
        Ok(())
    }

    /// What counts it: all together, and its user.
    fn each(&self, change: impl Fn(&AtomicU64) -> u64) {
        change(used(self.kind));
        used_by(self.user, self.kind).map(change);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes != 0 {
            let bytes = self.bytes;
            self.each(|used| used.fetch_sub(bytes, Ordering::Relaxed));
        }
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

    #[test]
    fn an_ordinary_user_has_half_of_a_kind_at_most() {
        let limit = limit_bytes(Kind::Contents);
        let charge = |user, bytes| {
            let mut charge = Charge { user, ..Charge::none(Kind::Contents) };
            charge.resize(bytes).map(|()| charge)
        };
        assert_eq!(charge(77, limit / 2 + 1).err(), Some(Errno::ENOMEM));
        let held = charge(77, limit / 4).unwrap();
        assert_eq!(charge(77 + USERS as Uid, limit / 4 + 1).err(), Some(Errno::ENOMEM));
        drop(held);
        assert!(charge(77, limit / 2).is_ok());
    }
}
