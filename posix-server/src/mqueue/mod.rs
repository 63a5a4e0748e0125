//! POSIX message queues (`mq_overview(7)`): a file system of one directory, in which every file is a queue.
//!
//! The calls ([`crate::calls`]) find a queue by its name in that directory, mounted or not, and then by a descriptor. A
//! [`Queue`] lives as long as its name or somebody who has it open.

mod files;
mod queue;

pub use files::{MQUEUE, QueueDirectory, QueueFile};
pub use queue::{Message, Notice, PRIORITIES, Queue, Registration, Size};

use crate::cred::{Credentials, Uid};
use crate::errno::{Errno, Result};
use alloc::collections::BTreeMap;
use core::cell::{Cell, RefCell};

/// How many queues there can be, for who is not privileged (`/proc/sys/fs/mqueue/queues_max`).
pub const MAX_QUEUES: u64 = 256;
/// How many messages a queue can hold, for who is not privileged (`msg_max`); also what it holds unless told (`msg_default`).
pub const MAX_MESSAGES: u64 = 10;
/// How long messages can be, likewise (`msgsize_max` and `msgsize_default`), in bytes.
pub const MAX_MESSAGE_BYTES: u64 = 8192;
/// The same for who is privileged (`HARD_MSGMAX` and `HARD_MSGSIZEMAX` of Linux).
const HARD_MAX_MESSAGES: u64 = 65536;
const HARD_MAX_MESSAGE_BYTES: u64 = 16 << 20;
/// What a message, and a priority that is in use, count for besides the bytes (`getrlimit(2)`, `RLIMIT_MSGQUEUE`).
const OVERHEAD_BYTES: u64 = 48;

impl Default for Size {
    fn default() -> Self {
        Self { messages: MAX_MESSAGES, message_bytes: MAX_MESSAGE_BYTES }
    }
}

impl Size {
    /// The size that a program asks for. `EINVAL` beyond the limits of who asks.
    pub fn checked(messages: i64, message_bytes: i64, credentials: &Credentials) -> Result<Self> {
        let (most_messages, most_bytes) = if credentials.is_privileged() {
            (HARD_MAX_MESSAGES, HARD_MAX_MESSAGE_BYTES)
        } else {
            (MAX_MESSAGES, MAX_MESSAGE_BYTES)
        };
        let within = |value: i64, most: u64| u64::try_from(value).ok().filter(|value| (1..=most).contains(value));
        match (within(messages, most_messages), within(message_bytes, most_bytes)) {
            (Some(messages), Some(message_bytes)) => Ok(Self { messages, message_bytes }),
            _ => Err(Errno::EINVAL),
        }
    }

    /// What a queue of this size counts for: as if it were full.
    fn counted_bytes(self) -> u64 {
        let overhead = self.messages + self.messages.min(u64::from(PRIORITIES));
        self.messages * self.message_bytes + overhead * OVERHEAD_BYTES
    }
}

/// How many queues there are, and how much each user's count for.
#[derive(Debug, Default)]
struct Usage {
    queues: Cell<u64>,
    bytes_by_user: RefCell<BTreeMap<Uid, u64>>,
}

impl Usage {
    /// Counts a queue for a user. `EMFILE` if the user has more than `limit_bytes` then.
    fn take(&self, user: Uid, size: Size, limit_bytes: u64) -> Result<()> {
        let mut bytes_by_user = self.bytes_by_user.borrow_mut();
        let before = bytes_by_user.get(&user).copied().unwrap_or_default();
        let bytes = before.saturating_add(size.counted_bytes());
        if bytes > limit_bytes {
            return Err(Errno::EMFILE);
        }
        bytes_by_user.insert(user, bytes);
        self.queues.set(self.queues.get() + 1);
        Ok(())
    }

    fn give_back(&self, user: Uid, size: Size) {
        self.queues.set(self.queues.get().saturating_sub(1));
        let mut bytes_by_user = self.bytes_by_user.borrow_mut();
        if let Some(bytes) = bytes_by_user.get_mut(&user) {
            *bytes = bytes.saturating_sub(size.counted_bytes());
            if *bytes == 0 {
                bytes_by_user.remove(&user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_limited_by_privilege() {
        let (root, user) = (Credentials::root(), Credentials::user(1000, 1000));
        assert!(Size::checked(10, 8192, &user).is_ok());
        for (messages, bytes) in [(11, 1), (1, 8193), (0, 1), (1, 0), (-1, 1), (1, i64::MIN)] {
            assert_eq!(Size::checked(messages, bytes, &user), Err(Errno::EINVAL));
        }
        assert!(Size::checked(65536, 16 << 20, &root).is_ok());
        assert!(Size::checked(65537, 1, &root).is_err());
    }

    #[test]
    fn what_a_user_has_is_limited_and_comes_back() {
        let usage = Usage::default();
        let size = Size::default();
        usage.take(5, size, size.counted_bytes()).unwrap();
        assert_eq!(usage.take(5, size, size.counted_bytes()), Err(Errno::EMFILE));
        assert!(usage.take(6, size, size.counted_bytes()).is_ok());
        usage.give_back(5, size);
        assert!(usage.take(5, size, size.counted_bytes()).is_ok());
        assert_eq!(usage.queues.get(), 2);
    }
}
