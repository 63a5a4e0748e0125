//! Resource limits (`getrlimit(2)`).

use crate::errno::{Errno, Result};
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// How many kinds of limits there are (`RLIM_NLIMITS`).
const COUNT: usize = 16;
/// No limit.
pub const UNLIMITED: u64 = u64::MAX;
/// The default limits of the descriptors.
const DEFAULT_FILES: Limit = Limit { soft: 1024, hard: 1 << 20 };
/// The largest number of descriptors that may be asked for (`/proc/sys/fs/nr_open`).
const MAX_FILES: u64 = 1 << 20;
/// How much the message queues of a user may count for, in bytes (`MQ_BYTES_MAX` of Linux).
pub const MESSAGE_QUEUE_BYTES: u64 = 819_200;
/// How many signals may wait, however few processes there may be.
const LEAST_SIGNALS: u64 = 1024;
/// How much memory may be locked, in bytes.
const LOCKED_BYTES: u64 = 8 << 20;
/// The default limit of the stack, in bytes.
pub const DEFAULT_STACK_BYTES: u64 = 8 << 20;

/// `struct rlimit64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Limit {
    /// What holds.
    pub soft: u64,
    /// How far `soft` may be raised.
    pub hard: u64,
}

impl Limit {
    const NONE: Self = Self { soft: UNLIMITED, hard: UNLIMITED };
}

/// The limits of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits([Limit; COUNT]);

impl Limits {
    /// Those of the first process, which may have at most so many others beside it.
    pub fn initial(processes: u64) -> Self {
        let mut limits = Self([Limit::NONE; COUNT]);
        limits.put(linux::RLIMIT_NOFILE, DEFAULT_FILES);
        limits.put(linux::RLIMIT_STACK, Limit { soft: DEFAULT_STACK_BYTES, hard: UNLIMITED });
        limits.put(linux::RLIMIT_MSGQUEUE, Limit { soft: MESSAGE_QUEUE_BYTES, hard: MESSAGE_QUEUE_BYTES });
        limits.put(linux::RLIMIT_CORE, Limit { soft: 0, hard: UNLIMITED });
        let signals = processes.max(LEAST_SIGNALS);
        limits.put(linux::RLIMIT_SIGPENDING, Limit { soft: signals, hard: signals });
        limits.put(linux::RLIMIT_MEMLOCK, Limit { soft: LOCKED_BYTES, hard: LOCKED_BYTES });
        limits.put(linux::RLIMIT_NICE, Limit { soft: 0, hard: 0 });
        limits.put(linux::RLIMIT_RTPRIO, Limit { soft: 0, hard: 0 });
        limits.put(linux::RLIMIT_NPROC, Limit { soft: processes, hard: processes });
        limits
    }

    fn put(&mut self, resource: u32, limit: Limit) {
        if let Some(slot) = self.0.get_mut(resource as usize) {
            *slot = limit;
        }
    }

    /// Raises what holds for a resource, not beyond its hard limit.
    pub fn raise_soft(&mut self, resource: u32, soft: u64) {
        if let Some(limit) = self.0.get_mut(resource as usize) {
            limit.soft = soft.max(limit.soft).min(limit.hard);
        }
    }

    /// The limits of a resource (`RLIMIT_*`). `EINVAL`.
    pub fn get(&self, resource: u32) -> Result<Limit> {
        self.0.get(resource as usize).copied().ok_or(Errno::EINVAL)
    }

    /// What holds for a resource.
    pub fn soft(&self, resource: u32) -> u64 {
        self.get(resource).map_or(UNLIMITED, |limit| limit.soft)
    }

    /// Changes the limits of a resource. `EINVAL`; `EPERM` if the hard limit is raised without privilege.
    pub fn set(&mut self, resource: u32, limit: Limit, credentials: &crate::cred::Credentials) -> Result<()> {
        let old = self.get(resource)?;
        if limit.soft > limit.hard {
            return Err(Errno::EINVAL);
        }
        let beyond_system = resource == linux::RLIMIT_NOFILE && limit.hard > MAX_FILES;
        if beyond_system || limit.hard > old.hard && !credentials.is_privileged() {
            return Err(Errno::EPERM);
        }
        self.put(resource, limit);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cred::Credentials;

    #[test]
    fn only_root_raises_a_hard_limit() {
        let mut limits = Limits::initial(100);
        let (root, user) = (Credentials::root(), Credentials::user(1, 1));
        let lower = Limit { soft: 10, hard: 10 };
        assert_eq!(limits.set(linux::RLIMIT_NPROC, lower, &user), Ok(()));
        let higher = Limit { soft: 20, hard: 20 };
        assert_eq!(limits.set(linux::RLIMIT_NPROC, higher, &user), Err(Errno::EPERM));
        assert_eq!(limits.set(linux::RLIMIT_NPROC, higher, &root), Ok(()));
        assert_eq!(limits.set(linux::RLIMIT_NPROC, Limit { soft: 3, hard: 2 }, &root), Err(Errno::EINVAL));
        assert_eq!(limits.set(99, higher, &root), Err(Errno::EINVAL));
    }
}
