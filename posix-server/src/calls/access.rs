//! What one process may do to another (`ptrace(2)`, "Ptrace access mode checking").

use crate::process::{Process, Thread};

/// Whether a thread may look into a process: it is its own, they are the same user's and nothing set the ids of the other's program, or the
/// caller is privileged.
pub(super) fn may_inspect(thread: &Thread, target: &Process) -> bool {
    let (own, theirs) = (thread.process.credentials(), target.credentials());
    let same_user = [theirs.uid, theirs.euid, theirs.suid].iter().all(|uid| *uid == own.fsuid);
    let same_group = [theirs.gid, theirs.egid, theirs.sgid].iter().all(|gid| *gid == own.fsgid);
    thread.process.pid == target.pid || own.is_privileged() || same_user && same_group && target.is_dumpable.get()
}
