//! The times that a program gives a file.

use super::{Arguments, Found, find, find_descriptor};
use crate::calls::blocking::usable_file;
use crate::calls::names::CURRENT_DIRECTORY;
use crate::cred::Access;
use crate::errno::{Errno, Result};
use crate::fs::inode::{TimeNs, now};
use crate::fs::notify;
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const NS_PER_SECOND: i64 = 1_000_000_000;
const NS_PER_MICROSECOND: i64 = 1_000;

/// `struct timespec`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct TimeSpec {
    pub(super) seconds: i64,
    pub(super) nanoseconds: i64,
}

impl TimeSpec {
    pub(super) fn from_ns(time: TimeNs) -> Self {
        let seconds = time.div_euclid(NS_PER_SECOND);
        Self { seconds, nanoseconds: time - seconds * NS_PER_SECOND }
    }
}

/// A time that a program wants a file to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NewTime {
    Now,
    Unchanged,
    At(TimeNs),
}

impl NewTime {
    fn from_spec(spec: TimeSpec) -> Result<Self> {
        match spec.nanoseconds {
            nanoseconds if nanoseconds == i64::from(linux::UTIME_NOW) => Ok(Self::Now),
            nanoseconds if nanoseconds == i64::from(linux::UTIME_OMIT) => Ok(Self::Unchanged),
            0..NS_PER_SECOND => {
                Ok(Self::At(spec.seconds.saturating_mul(NS_PER_SECOND).saturating_add(spec.nanoseconds)))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn or(self, old: TimeNs) -> TimeNs {
        match self {
            Self::Now => now(),
            Self::Unchanged => old,
            Self::At(time) => time,
        }
    }
}

fn set_times(thread: &Rc<Thread>, found: &Found, times: [NewTime; 2]) -> Result<u64> {
    found.check_writable()?;
    let inode = &found.inode;
    let credentials = thread.process.credentials();
    let owns = credentials.is_owner_or_privileged(inode.uid());
    if !owns && times == [NewTime::Now; 2] {
        inode.check_access(&credentials, Access::WRITE)?;
    } else if !owns {
        return Err(Errno::EPERM);
    }
    let old = inode.times();
    let [accessed, modified] = times;
    inode.set_times(crate::fs::Times {
        accessed: accessed.or(old.accessed),
        modified: modified.or(old.modified),
        changed: now(),
        ..old
    });
    found.notify(match times {
        [_, NewTime::Unchanged] => notify::ACCESS,
        [NewTime::Unchanged, _] => notify::MODIFY,
        [_, _] => notify::ATTRIBUTES,
    });
    Ok(0)
}

/// `utimensat(directory, path, times, flags)`; without a path, the descriptor itself.
pub(super) fn utimensat(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let times = if args[2] == 0 {
        [NewTime::Now; 2]
    } else {
        let [accessed, modified]: [TimeSpec; 2] = UserPtr::of_call(thread, args[2]).read()?;
        [NewTime::from_spec(accessed)?, NewTime::from_spec(modified)?]
    };
    if times == [NewTime::Unchanged; 2] {
        return Ok(0);
    }
    let flags = args[3] as u32;
    if args[1] == 0 && args[0] as i32 != linux::AT_FDCWD {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        let file = usable_file(thread, args[0])?;
        return set_times(thread, &Found::of(&file), times);
    }
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let found = find(thread, args[0], args[1], flags)?;
    set_times(thread, &found, times)
}

/// Times given as seconds and microseconds.
pub(super) fn utimes(thread: &Rc<Thread>, directory: u64, path: u64, pointer: u64) -> Result<u64> {
    let mut times = [NewTime::Now; 2];
    if pointer != 0 {
        let given: [TimeSpec; 2] = UserPtr::of_call(thread, pointer).read()?;
        for (time, given) in times.iter_mut().zip(given) {
            let microseconds = given.nanoseconds;
            if !(0..NS_PER_SECOND / NS_PER_MICROSECOND).contains(&microseconds) {
                return Err(Errno::EINVAL);
            }
            let spec = TimeSpec { seconds: given.seconds, nanoseconds: microseconds * NS_PER_MICROSECOND };
            *time = NewTime::from_spec(spec)?;
        }
    }
    let found = if path == 0 && directory != CURRENT_DIRECTORY {
        find_descriptor(thread, directory)?
    } else {
        find(thread, directory, path, 0)?
    };
    set_times(thread, &found, times)
}

/// Times given as seconds.
pub(super) fn utime(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let mut times = [NewTime::Now; 2];
    if args[1] != 0 {
        let given: [i64; 2] = UserPtr::of_call(thread, args[1]).read()?;
        times = given.map(|seconds| NewTime::At(seconds.saturating_mul(NS_PER_SECOND)));
    }
    let found = find(thread, CURRENT_DIRECTORY, args[0], 0)?;
    set_times(thread, &found, times)
}
