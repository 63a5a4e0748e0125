//! What one process may do to another (`ptrace(2)`, "Ptrace access mode checking").

use crate::process::{Process, Thread};

/// Which ids of the caller count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// Those for files: it looks at what can be seen as a file.
    Files,
    /// The real ones.
    Real,
}

/// Whether a thread may look into a process: it is its own, they are the same user's and nothing set the ids of the other's program, or the
/// caller is privileged.
pub(super) fn may_inspect(thread: &Thread, target: &Process) -> bool {
    may_inspect_as(thread, target, Ids::Files)
}

/// The same with some of its ids.
pub(super) fn may_inspect_as(thread: &Thread, target: &Process, ids: Ids) -> bool {
    let (own, theirs) = (thread.process.credentials(), target.credentials());
    let (uid, gid) = match ids {
        Ids::Files => (own.fsuid, own.fsgid),
        Ids::Real => (own.uid, own.gid),
    };
    let same_user = [theirs.uid, theirs.euid, theirs.suid].iter().all(|theirs| *theirs == uid);
    let same_group = [theirs.gid, theirs.egid, theirs.sgid].iter().all(|theirs| *theirs == gid);
    thread.process.pid == target.pid || own.is_privileged() || same_user && same_group && target.is_dumpable.get()
}
