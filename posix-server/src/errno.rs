//! What a system call returns instead of a result (`errno(3)`).

use core::fmt;
use linux_raw_sys::errno as raw;

/// The result of most of the server.
pub type Result<T> = core::result::Result<T, Errno>;

/// An error number of Linux, or one of the server's own [restart codes](Errno::RESTART), which never leave it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(u16);

macro_rules! errnos {
    ($($name:ident)+) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "`, as `errno(3)` explains it.")]
            pub const $name: Self = Self(raw::$name as u16);)+

            /// Its symbolic name.
            pub const fn name(self) -> &'static str {
                $(if self.0 == Self::$name.0 { return stringify!($name); })+
                "restart"
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST EXDEV ENODEV
    ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK
    ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENODATA EOVERFLOW EBADFD ELIBBAD ENOTSOCK EOPNOTSUPP EAFNOSUPPORT
    ETIMEDOUT ECONNREFUSED ECANCELED ESTALE EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT
    EADDRINUSE EADDRNOTAVAIL ENETUNREACH ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN ETOOMANYREFS EALREADY
    EINPROGRESS ENOMSG EIDRM ENOTBLK EUCLEAN EBADMSG
}

impl Errno {
    /// Interrupted before anything happened: do it again if the handler was installed with `SA_RESTART`, else `EINTR`.
    pub const RESTART: Self = Self(512);
    /// Interrupted: do it again, after the handler if one runs.
    pub const RESTART_ALWAYS: Self = Self(513);
    /// Interrupted: do it again unless a handler runs; if one does, `EINTR` (`pause`, `sigsuspend`, `poll`, `select`).
    pub const RESTART_NO_HANDLER: Self = Self(514);
    /// Interrupted: go on with `restart_syscall` unless a handler runs; if one does, `EINTR` (sleeping with a rest).
    pub const RESTART_BLOCK: Self = Self(516);
    /// Alias of `EAGAIN`, for operations that would have to wait.
    pub const EWOULDBLOCK: Self = Self::EAGAIN;

    /// The error with this number; `None` for numbers that are not one (0, or above Linux's largest).
    pub const fn from_number(number: u16) -> Option<Self> {
        if number == 0 || number >= 4096 { None } else { Some(Self(number)) }
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// What `rax` holds after a call that failed with it.
    pub const fn to_return_value(self) -> u64 {
        (self.0 as u64).wrapping_neg()
    }

    /// Whether the call is done again after a handler with this action.
    pub fn is_restarted_after(self, action: &crate::signal::SignalAction) -> bool {
        self == Self::RESTART_ALWAYS || self == Self::RESTART && action.has(linux_raw_sys::general::SA_RESTART)
    }

    /// Whether it is one of the restart codes.
    pub const fn is_restart(self) -> bool {
        self.0 >= Self::RESTART.0 && self.0 <= Self::RESTART_BLOCK.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_the_negated_number() {
        assert_eq!(Errno::EFAULT.to_return_value() as i64, -14);
        assert_eq!(Errno::EFAULT.name(), "EFAULT");
    }
}
