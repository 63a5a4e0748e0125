//! `execve` and `execveat`.

use super::{Arguments, Outcome, SystemCall, blocking, names, pointer};
use crate::errno::{Errno, Result};
use crate::exec::stack::{MAX_STRING_BYTES, Strings, limit};
use crate::exec::{Executor, Program, SetIds, prepare, replace};
use crate::fs::Location;
use crate::fs::walk::LastLink;
use crate::process::end::{end_other_threads, end_process, leave_memory};
use crate::process::tree::ExitStatus;
use crate::process::{Thread, Whereabouts};
use crate::ptrace::stops::{executed, is_watched_by_user};
use crate::signal::Signal;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] =
    &[SystemCall::new(linux::__NR_execve, execve), SystemCall::new(linux::__NR_execveat, execveat)];

fn execve(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [path, strings, environment, ..] = *arguments;
    execute(thread, || {
        let path = pointer(thread, path).read_path()?;
        let place = names::place(thread, names::CURRENT_DIRECTORY, &path, LastLink::Follow)?;
        Ok((place, path, read_strings(thread, strings, environment)?))
    })
}

fn execveat(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [directory, path, strings, environment, flags, _] = *arguments;
    execute(thread, || {
        let flags = flags as u32;
        let path = pointer(thread, path).read_path()?;
        if path.is_empty() && flags & linux::AT_EMPTY_PATH == 0 {
            return Err(Errno::ENOENT);
        }
        if flags & !(linux::AT_EMPTY_PATH | linux::AT_SYMLINK_NOFOLLOW) != 0 {
            return Err(Errno::EINVAL);
        }
        let place = if path.is_empty() && flags & linux::AT_EMPTY_PATH != 0 {
            let file = blocking::file(thread, directory)?;
            file.location().cloned().ok_or(Errno::EACCES)?
        } else {
            let last = if flags & linux::AT_SYMLINK_NOFOLLOW == 0 { LastLink::Follow } else { LastLink::Keep };
            names::place(thread, directory, &path, last)?
        };
        if place.inode().link().is_some() {
            return Err(Errno::ELOOP);
        }
        Ok((place, path, read_strings(thread, strings, environment)?))
    })
}

fn execute(thread: &Rc<Thread>, find: impl FnOnce() -> Result<(Location, Vec<u8>, Strings)>) -> Outcome {
    let prepared = find().and_then(|(place, path, strings)| {
        let process = &thread.process;
        let context = process.fs.borrow().clone();
        let credentials = process.credentials();
        let is_fixed = process.attributes.get().no_new_privileges || is_watched_by_user(thread);
        let set_ids = if is_fixed { SetIds::Ignored } else { SetIds::Honoured };
        let executor = Executor { context: &context, credentials: &credentials, set_ids };
        let stack_limit = process.limit(linux::RLIMIT_STACK);
        let program = Program::open_place(executor, place, &path, strings, stack_limit)?;
        prepare(program, executor, &process.account, &thread.server().shim, stack_limit)
    });
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return error.into(),
    };
    if thread.process.files.borrow_mut().unshare().is_err() {
        return Errno::ENOMEM.into();
    }
    leave_memory(thread);
    let caller = thread.tid;
    end_other_threads(thread);
    // The call does not return; its reply is given up when the thread has been redirected.
    if replace(thread, prepared).is_err() {
        end_process(&thread.process, ExitStatus::Killed { signal: Signal::KILL, dumped: false });
        return Outcome::Gone;
    }
    let reply = thread.reply.borrow_mut().take();
    drop(reply);
    if thread.whereabouts.get() == Whereabouts::Inside {
        thread.whereabouts.set(Whereabouts::Outside);
    }
    for heir in thread.process.threads() {
        if heir.is_traced.get() {
            executed(&heir, caller);
        } else if heir.is_interrupted() {
            crate::signal::deliver::attend(&heir);
        }
    }
    Outcome::Gone
}

/// Reads arguments and environment. `EFAULT`, `E2BIG`.
fn read_strings(thread: &Rc<Thread>, arguments: u64, environment: u64) -> Result<Strings> {
    let limit = limit(thread.process.limit(linux::RLIMIT_STACK));
    let mut left = limit;
    let arguments = read_list(thread, arguments, &mut left)?;
    let environment = read_list(thread, environment, &mut left)?;
    Ok(Strings { arguments, environment })
}

/// Reads an array of pointers to strings, which a null pointer ends. A null array is empty.
fn read_list(thread: &Rc<Thread>, address: u64, left: &mut u64) -> Result<Vec<Vec<u8>>> {
    let mut list = Vec::new();
    if address == 0 {
        return Ok(list);
    }
    let mut at = pointer(thread, address);
    loop {
        let string: u64 = at.read()?;
        if string == 0 {
            return Ok(list);
        }
        let string = pointer(thread, string)
            .read_c_string(MAX_STRING_BYTES)
            .map_err(|error| if error == Errno::ENAMETOOLONG { Errno::E2BIG } else { error })?;
        let cost = string.len() as u64 + 1 + size_of::<u64>() as u64;
        *left = left.checked_sub(cost).ok_or(Errno::E2BIG)?;
        list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        list.push(string);
        at = at.offset(size_of::<u64>() as u64)?;
    }
}
