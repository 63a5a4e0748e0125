//! Files of memory without names (`memfd_create(2)`).

use super::files::install;
use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::fs::content::{Content, Seals};
use crate::fs::{Body, Dentry, Inode, open};
use crate::process::Thread;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] =
    &[SystemCall::new(linux::__NR_memfd_create, |t, a| Outcome::from(memfd_create(t, a)))
        .partly("MFD_HUGETLB: ENOSYS")];

/// What stands before a name where it is shown.
const PREFIX: &[u8] = b"memfd:";
/// The longest name that a program may give: what is left of a file name.
const NAME_MAX: usize = linux::NAME_MAX as usize - PREFIX.len();
/// Mode bits: execution by anybody.
const ANY_EXECUTE: u32 = 0o111;

/// `memfd_create(name, flags)`: the name is only for people.
fn memfd_create(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let flags = args[1] as u32;
    let known = linux::MFD_CLOEXEC | linux::MFD_ALLOW_SEALING | linux::MFD_NOEXEC_SEAL | linux::MFD_EXEC;
    let huge = linux::MFD_HUGETLB | linux::MFD_HUGE_MASK << linux::MFD_HUGE_SHIFT;
    let allowed = if flags & linux::MFD_HUGETLB != 0 { known | huge } else { known };
    let both = linux::MFD_NOEXEC_SEAL | linux::MFD_EXEC;
    if flags & !allowed != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    let name = match pointer(thread, args[0]).read_c_string(NAME_MAX + 1) {
        Err(Errno::ENAMETOOLONG) => Err(Errno::EINVAL),
        name => name,
    }?;
    if flags & linux::MFD_HUGETLB != 0 {
        return Err(Errno::ENOSYS);
    }
    let shown: Vec<u8> = [PREFIX, &name].concat();
    let place = memory_file(thread, &shown, flags)?;
    let file = open::open_unnamed_inode(place)?;
    let close = if flags & linux::MFD_CLOEXEC != 0 { linux::O_CLOEXEC } else { 0 };
    install(thread, file, close)
}

fn memory_file(thread: &Rc<Thread>, shown: &[u8], flags: u32) -> Result<crate::fs::Location> {
    let namespace = thread.process.fs.borrow().namespace.clone();
    let root = namespace.memory().place();
    let credentials = thread.process.credentials();
    let no_execute = flags & linux::MFD_NOEXEC_SEAL != 0;
    let content = Content::empty();
    // Nothing limits the files of this file system but what who makes them may have.
    content.set_payer(thread.process.account.clone());
    content.set_seals(match (no_execute, flags & linux::MFD_ALLOW_SEALING != 0) {
        (true, _) => Seals::EXECUTE,
        (false, true) => Seals::empty(),
        (false, false) => Seals::SEAL,
    });
    let permissions = if no_execute { 0o777 & !ANY_EXECUTE } else { 0o777 };
    let (uid, gid) = (credentials.fsuid, credentials.fsgid);
    let inode = Inode::new(root.inode().filesystem(), permissions, uid, gid, Body::Regular(content))
        .map_err(|_| Errno::ENFILE)?;
    inode.remove_link();
    Ok(root.with(Dentry::nameless(&root.dentry, shown, inode)))
}
