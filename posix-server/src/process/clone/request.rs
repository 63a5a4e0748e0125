//! What `clone` is asked for, and what it refuses.

use crate::cred::Credentials;
use crate::errno::{Errno, Result};
use crate::process::Pid;
use crate::signal::Signal;
use linux_raw_sys::general as linux;

/// `CLONE_CLEAR_SIGHAND` and `CLONE_INTO_CGROUP`, which `clone3` alone has.
const CLEAR_HANDLERS: u64 = linux::CLONE_CLEAR_SIGHAND;
const INTO_CGROUP: u64 = linux::CLONE_INTO_CGROUP;

/// What `clone` is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest {
    /// `CLONE_*`, without the signal.
    pub flags: u64,
    /// The stack pointer of the child; 0 for the parent's.
    pub stack: u64,
    /// Where the parent finds the child's id.
    pub parent_tid: u64,
    /// Where the child finds it.
    pub child_tid: u64,
    /// Where the parent finds a descriptor for the child.
    pub pidfd: u64,
    /// The child's `fs` base.
    pub tls: u64,
    /// What the parent gets when the child ends.
    pub exit_signal: Option<Signal>,
    /// The id that the child is to have, if the caller chooses it.
    pub chosen_id: Option<Pid>,
}

/// The flags that make name spaces, but for those of mounts.
const NAME_SPACES: u64 = (linux::CLONE_NEWUTS
    | linux::CLONE_NEWIPC
    | linux::CLONE_NEWUSER
    | linux::CLONE_NEWPID
    | linux::CLONE_NEWNET
    | linux::CLONE_NEWCGROUP) as u64
    | linux::CLONE_NEWTIME as u64;

/// Refuses new name spaces other than those of mounts, of which there is one each, as in a Linux without `CONFIG_NAMESPACES`.
/// `EPERM` without privilege, `EINVAL`.
pub fn check_name_spaces(flags: u64, credentials: &Credentials) -> Result<()> {
    let any = NAME_SPACES | u64::from(linux::CLONE_NEWNS);
    let new_user = u64::from(linux::CLONE_NEWUSER);
    if flags & any != 0 && flags & new_user == 0 && !credentials.is_privileged() {
        return Err(Errno::EPERM);
    }
    if flags & NAME_SPACES == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

impl CloneRequest {
    /// Whether it has a flag.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }

    /// Whether the child's handlers are all to be the default ones.
    pub fn clears_handlers(&self) -> bool {
        self.flags & CLEAR_HANDLERS != 0
    }

    /// Whether it names a control group.
    pub fn is_into_cgroup(&self) -> bool {
        self.flags & INTO_CGROUP != 0
    }

    fn has_all(&self, flags: u32) -> bool {
        self.flags & u64::from(flags) == u64::from(flags)
    }

    /// The combinations that Linux refuses, and those that are not there. `EINVAL`, `EPERM`.
    pub fn check(&self, credentials: &Credentials) -> Result<()> {
        let is_thread = self.has(linux::CLONE_THREAD);
        let contradicts = self.has_all(linux::CLONE_NEWNS | linux::CLONE_FS)
            || self.has_all(linux::CLONE_NEWUSER | linux::CLONE_FS)
            || is_thread && !self.has(linux::CLONE_SIGHAND)
            || self.has(linux::CLONE_SIGHAND) && !self.has(linux::CLONE_VM)
            || is_thread && self.has(linux::CLONE_NEWUSER | linux::CLONE_NEWPID)
            || self.has(linux::CLONE_PIDFD) && (is_thread || self.has(linux::CLONE_DETACHED))
            || self.has_all(linux::CLONE_PIDFD | linux::CLONE_PARENT_SETTID) && self.pidfd == self.parent_tid;
        if contradicts { Err(Errno::EINVAL) } else { check_name_spaces(self.flags, credentials) }
    }

    /// What `clone3` refuses beside that. `EINVAL`.
    pub fn check_record(&self) -> Result<()> {
        let known = u64::from(u32::MAX) | CLEAR_HANDLERS | INTO_CGROUP;
        let low = u64::from(linux::CSIGNAL & !linux::CLONE_NEWTIME);
        let is_bad = self.flags & !known != 0
            || self.flags & (u64::from(linux::CLONE_DETACHED) | low) != 0
            || self.clears_handlers() && self.has(linux::CLONE_SIGHAND)
            || self.has(linux::CLONE_THREAD | linux::CLONE_PARENT) && self.exit_signal.is_some();
        if is_bad { Err(Errno::EINVAL) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(flags: u32) -> Result<()> {
        CloneRequest { flags: u64::from(flags), ..CloneRequest::default() }.check(&Credentials::root())
    }

    #[test]
    fn flags_need_each_other() {
        assert_eq!(checked(linux::CLONE_THREAD), Err(Errno::EINVAL));
        assert_eq!(checked(linux::CLONE_SIGHAND), Err(Errno::EINVAL));
        assert_eq!(checked(linux::CLONE_SIGHAND | linux::CLONE_VM | linux::CLONE_FILES | linux::CLONE_FS), Ok(()));
        assert_eq!(checked(linux::CLONE_PIDFD | linux::CLONE_DETACHED), Err(Errno::EINVAL));
        assert_eq!(checked(linux::CLONE_NEWNET), Err(Errno::EINVAL));
        let user = Credentials::user(5, 5);
        assert_eq!(check_name_spaces(u64::from(linux::CLONE_NEWNS), &user), Err(Errno::EPERM));
    }

    #[test]
    fn the_record_is_stricter() {
        let request = |flags: u64, exit_signal| CloneRequest { flags, exit_signal, ..CloneRequest::default() };
        assert_eq!(request(1 << 40, None).check_record(), Err(Errno::EINVAL));
        assert_eq!(request(u64::from(linux::CLONE_PARENT), Some(Signal::CHLD)).check_record(), Err(Errno::EINVAL));
        assert_eq!(request(CLEAR_HANDLERS, Some(Signal::CHLD)).check_record(), Ok(()));
    }
}
