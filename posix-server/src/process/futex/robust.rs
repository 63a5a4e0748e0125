//! Robust lists (`get_robust_list(2)`): the locks that a thread holds when it ends are marked, and the next in line is woken.
//!
//! The list is the program's own, so it may be anything: it is followed only so far, and every address may be bad.

use super::word::{OWNER_DIED, TID_MASK, WAITERS, update};
use super::{Scope, Word, is_aligned};
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;

/// How many locks are looked at (`ROBUST_LIST_LIMIT`).
const LIMIT: usize = 2048;
/// The bit of an entry's address that says that its lock has an owner known to the system (`FUTEX_LOCK_PI`).
const PI: u64 = 1;

/// Lets go what a thread holds, as it ends or executes.
pub fn release(thread: &Rc<Thread>) {
    let (head, _) = thread.robust_list.replace((0, 0));
    if head != 0 {
        // A bad address ends the walk.
        let _ = walk(thread, head);
    }
    super::pi::owner_ended(thread);
}

fn walk(thread: &Rc<Thread>, head: u64) -> crate::errno::Result<()> {
    let space = thread.space();
    let [first, offset, pending]: [u64; 3] = UserPtr::new(&space, head).read()?;
    let mut entry = first;
    for _ in 0..LIMIT {
        if entry & !PI == head {
            break;
        }
        // The next one is read first: whoever gets the lock may take this one out of the list.
        let next = UserPtr::new(&space, entry & !PI).read::<u64>();
        if entry != pending {
            release_one(thread, entry, offset, Pending::No)?;
        }
        entry = next?;
    }
    if pending & !PI != 0 { release_one(thread, pending, offset, Pending::Yes) } else { Ok(()) }
}

/// Whether a lock was just being taken or let go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Yes,
    No,
}

fn release_one(thread: &Rc<Thread>, entry: u64, offset: u64, pending: Pending) -> crate::errno::Result<()> {
    let address = (entry & !PI).wrapping_add(offset);
    if !is_aligned(address) {
        return Err(crate::errno::Errno::EINVAL);
    }
    let is_own = |word: u32| word & TID_MASK == thread.tid as u32;
    let before = update(thread, address, |word| if is_own(word) { word & WAITERS | OWNER_DIED } else { word })?;
    // One that was let go without waking anybody yet counts, too.
    let is_let_go = pending == Pending::Yes && before == 0;
    if entry & PI == 0 && (is_own(before) && before & WAITERS != 0 || is_let_go) {
        let vm = thread.process.vm();
        for scope in [Scope::Private, Scope::Any] {
            if thread.server().futexes.wake(Word::at(&vm, address, scope), 1, u32::MAX) == Some(1) {
                break;
            }
        }
    }
    Ok(())
}
