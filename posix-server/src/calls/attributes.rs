//! Calls on extended attributes (`xattr(7)`). No file system here has any: there is nothing to list or find, and nothing can be
//! set. The checks that come before are made all the same.

use super::blocking::usable_file;
use super::names::{CURRENT_DIRECTORY, place};
use super::{Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::fs::walk::LastLink;
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// The longest name of an attribute, without a terminating zero.
const NAME_MAX: usize = linux::XATTR_NAME_MAX as usize;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_getxattr, |t, a| Outcome::Return(at_path(t, a, LastLink::Follow, named))),
    SystemCall::new(linux::__NR_lgetxattr, |t, a| Outcome::Return(at_path(t, a, LastLink::Keep, named))),
    SystemCall::new(linux::__NR_fgetxattr, |t, a| Outcome::Return(at_file(t, a, named))),
    SystemCall::new(linux::__NR_setxattr, |t, a| Outcome::Return(at_path(t, a, LastLink::Follow, named))),
    SystemCall::new(linux::__NR_lsetxattr, |t, a| Outcome::Return(at_path(t, a, LastLink::Keep, named))),
    SystemCall::new(linux::__NR_fsetxattr, |t, a| Outcome::Return(at_file(t, a, named))),
    SystemCall::new(linux::__NR_removexattr, |t, a| Outcome::Return(at_path(t, a, LastLink::Follow, named))),
    SystemCall::new(linux::__NR_lremovexattr, |t, a| Outcome::Return(at_path(t, a, LastLink::Keep, named))),
    SystemCall::new(linux::__NR_fremovexattr, |t, a| Outcome::Return(at_file(t, a, named))),
    SystemCall::new(linux::__NR_listxattr, |t, a| Outcome::Return(at_path(t, a, LastLink::Follow, list))),
    SystemCall::new(linux::__NR_llistxattr, |t, a| Outcome::Return(at_path(t, a, LastLink::Keep, list))),
    SystemCall::new(linux::__NR_flistxattr, |t, a| Outcome::Return(at_file(t, a, list))),
];

type Answer = fn(&Rc<Thread>, &[u64; 6]) -> Result<u64>;

fn at_path(thread: &Rc<Thread>, args: &[u64; 6], last: LastLink, answer: Answer) -> Result<u64> {
    let path = UserPtr::new(&thread.space(), args[0]).read_path()?;
    place(thread, CURRENT_DIRECTORY, &path, last)?;
    answer(thread, args)
}

fn at_file(thread: &Rc<Thread>, args: &[u64; 6], answer: Answer) -> Result<u64> {
    usable_file(thread, args[0])?;
    answer(thread, args)
}

/// Reads the name of an attribute. `ERANGE` for an empty or a too long one.
fn check_name(thread: &Rc<Thread>, pointer: u64) -> Result<()> {
    match UserPtr::new(&thread.space(), pointer).read_c_string(NAME_MAX + 1) {
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        Ok(_) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Getting, setting and removing: no attribute is supported.
fn named(thread: &Rc<Thread>, args: &[u64; 6]) -> Result<u64> {
    check_name(thread, args[1])?;
    Err(Errno::EOPNOTSUPP)
}

fn list(_thread: &Rc<Thread>, _args: &[u64; 6]) -> Result<u64> {
    Ok(0)
}
