//! `futex` and `futex_waitv`, and robust lists.

use super::blocking::{Deadline, Woken, wait_until};
use super::{Arguments, Outcome, SystemCall, pointer};
use crate::budget::{Charge, Kind};
use crate::errno::{Errno, Result};
use crate::platform::{Protection, now_ns};
use crate::process::futex::pi::{Candidate, Claim, IfTaken, Progress};
use crate::process::futex::word::{self, Operation};
use crate::process::futex::{Futexes, Scope, Waiter, Word, is_aligned};
use crate::process::thread::Restart;
use crate::process::{Pid, Thread};
use crate::user::USER_END;
use crate::vm::Content;
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_futex, futex)
        .with_flags(
            "FUTEX_WAIT FUTEX_WAKE FUTEX_REQUEUE FUTEX_CMP_REQUEUE FUTEX_WAKE_OP FUTEX_WAIT_BITSET FUTEX_WAKE_BITSET \
         FUTEX_LOCK_PI FUTEX_LOCK_PI2 FUTEX_TRYLOCK_PI FUTEX_UNLOCK_PI FUTEX_WAIT_REQUEUE_PI FUTEX_CMP_REQUEUE_PI \
         FUTEX_PRIVATE_FLAG FUTEX_CLOCK_REALTIME",
        )
        .partly(
            "the owner of a lock keeps its own priority while others wait for it; `FUTEX_FD` gets ENOSYS, as on Linux",
        ),
    SystemCall::new(linux::__NR_futex_waitv, futex_waitv),
    SystemCall::new(linux::__NR_set_robust_list, set_robust_list),
    SystemCall::new(linux::__NR_get_robust_list, |t, a| get_robust_list(t, a).into()),
];

/// The arguments of `futex`, decoded as far as all its operations agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    address: u64,
    command: u32,
    scope: Scope,
    value: u32,
    /// The fourth argument, where it is a number.
    count: u32,
    deadline: Deadline,
    second: u64,
    third: u32,
}

fn futex(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    match decode(thread, arguments) {
        Ok(request) => perform(thread, request),
        Err(error) => error.into(),
    }
}

fn decode(thread: &Rc<Thread>, arguments: &Arguments) -> Result<Request> {
    let [address, operation, value, timeout, second, third] = *arguments;
    let operation = operation as u32;
    let command = operation & !(linux::FUTEX_PRIVATE_FLAG | linux::FUTEX_CLOCK_REALTIME);
    let is_realtime = operation & linux::FUTEX_CLOCK_REALTIME != 0;
    let can_be_realtime =
        matches!(command, linux::FUTEX_WAIT_BITSET | linux::FUTEX_WAIT_REQUEUE_PI | linux::FUTEX_LOCK_PI2);
    if is_realtime && !can_be_realtime {
        return Err(Errno::ENOSYS);
    }
    let waits = matches!(command, linux::FUTEX_WAIT | linux::FUTEX_LOCK_PI) || can_be_realtime;
    let deadline = if waits && timeout != 0 {
        let time = super::time::read_timespec(thread, timeout)?;
        match command {
            linux::FUTEX_WAIT => Deadline::Monotonic(now_ns().saturating_add(time)),
            linux::FUTEX_LOCK_PI => Deadline::Realtime(time),
            _ if is_realtime => Deadline::Realtime(time),
            _ => Deadline::Monotonic(time),
        }
    } else {
        Deadline::Never
    };
    let scope = if operation & linux::FUTEX_PRIVATE_FLAG != 0 { Scope::Private } else { Scope::Any };
    let (value, count, third) = (value as u32, timeout as u32, third as u32);
    Ok(Request { address, command, scope, value, count, deadline, second, third })
}

fn perform(thread: &Rc<Thread>, request: Request) -> Outcome {
    match request.command {
        linux::FUTEX_WAIT => wait(thread, &request, u32::MAX),
        linux::FUTEX_WAIT_BITSET => wait(thread, &request, request.third),
        linux::FUTEX_WAKE => wake(thread, &request, u32::MAX).into(),
        linux::FUTEX_WAKE_BITSET => wake(thread, &request, request.third).into(),
        linux::FUTEX_WAKE_OP => wake_op(thread, &request).into(),
        linux::FUTEX_REQUEUE => requeue(thread, &request, None).into(),
        linux::FUTEX_CMP_REQUEUE => requeue(thread, &request, Some(request.third)).into(),
        linux::FUTEX_CMP_REQUEUE_PI => requeue_to_lock(thread, &request).into(),
        linux::FUTEX_LOCK_PI | linux::FUTEX_LOCK_PI2 => lock(thread, &request, IfTaken::Wait),
        linux::FUTEX_TRYLOCK_PI => lock(thread, &request, IfTaken::GiveUp),
        linux::FUTEX_UNLOCK_PI => unlock(thread, &request).into(),
        linux::FUTEX_WAIT_REQUEUE_PI => wait_for_lock(thread, &request),
        _ => Errno::ENOSYS.into(),
    }
}

/// The word at an address. `EINVAL`, `EFAULT`.
fn word_at(thread: &Thread, address: u64, scope: Scope) -> Result<Word> {
    if !is_aligned(address) {
        return Err(Errno::EINVAL);
    }
    if address >= USER_END {
        return Err(Errno::EFAULT);
    }
    let vm = thread.process.vm();
    if scope == Scope::Any {
        let area = vm.area_at(address).ok_or(Errno::EFAULT)?;
        // Private memory that nobody can change has nothing to wait for.
        let is_private = matches!(area.content, Content::Anonymous | Content::Heap | Content::Stack);
        if is_private && !area.protection.contains(Protection::WRITE) {
            return Err(Errno::EFAULT);
        }
    }
    Ok(Word::at(&vm, address, scope))
}

/// How many to wake at least: Linux looks at the number after the first.
fn at_least_one(count: u32) -> u32 {
    if (count as i32) < 1 { 1 } else { count }
}

fn wake(thread: &Thread, request: &Request, bits: u32) -> Result<u64> {
    if bits == 0 {
        return Err(Errno::EINVAL);
    }
    let word = word_at(thread, request.address, request.scope)?;
    wake_at(&thread.server().futexes, word, request.value, bits)
}

fn wake_at(futexes: &Futexes, word: Word, count: u32, bits: u32) -> Result<u64> {
    futexes.wake(word, at_least_one(count), bits).map(u64::from).ok_or(Errno::EINVAL)
}

fn wake_op(thread: &Thread, request: &Request) -> Result<u64> {
    let first = word_at(thread, request.address, request.scope)?;
    let second = word_at(thread, request.second, request.scope)?;
    let operation = Operation::decode(request.third)?;
    let before = word::update(thread, request.second, |word| operation.apply(word))?;
    let futexes = &thread.server().futexes;
    let woken = wake_at(futexes, first, request.value, u32::MAX)?;
    let more = if operation.holds(before) { wake_at(futexes, second, request.count, u32::MAX)? } else { 0 };
    Ok(woken + more)
}

fn requeue(thread: &Thread, request: &Request, expected: Option<u32>) -> Result<u64> {
    if (request.value as i32) < 0 || (request.count as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let from = word_at(thread, request.address, request.scope)?;
    let to = word_at(thread, request.second, request.scope)?;
    if let Some(expected) = expected
        && word::read(thread, request.address)? != expected
    {
        return Err(Errno::EAGAIN);
    }
    let futexes = &thread.server().futexes;
    let woken = futexes.wake(from, request.value, u32::MAX).ok_or(Errno::EINVAL)?;
    let moved = futexes.requeue(from, to, request.count).ok_or(Errno::EINVAL)?;
    Ok(u64::from(woken + moved))
}

fn requeue_to_lock(thread: &Thread, request: &Request) -> Result<u64> {
    if request.address == request.second || request.value != 1 || (request.count as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let from = word_at(thread, request.address, request.scope)?;
    let to = word_at(thread, request.second, request.scope)?;
    if word::read(thread, request.address)? != request.third {
        return Err(Errno::EAGAIN);
    }
    thread.server().futexes.requeue_to_lock(from, to, request.count).map(u64::from)
}

// ---- waiting -----------------------------------------------------------------------------------------------------

/// Leaves the queue of a word when the wait ends, however it ends.
struct Leave {
    thread: Rc<Thread>,
    waiter: Rc<Waiter>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.thread.server().futexes.leave(&self.waiter);
    }
}

/// The word to wait at, if it has the expected value. `EAGAIN` if it has another.
fn expected_word(thread: &Thread, address: u64, scope: Scope, expected: u32) -> Result<Word> {
    let word = word_at(thread, address, scope)?;
    if thread.has_seen_word() || word::read(thread, address)? == expected { Ok(word) } else { Err(Errno::EAGAIN) }
}

fn wait(thread: &Rc<Thread>, request: &Request, bits: u32) -> Outcome {
    if bits == 0 {
        return Errno::EINVAL.into();
    }
    let word = match expected_word(thread, request.address, request.scope, request.value) {
        Ok(word) => word,
        Err(error) => return error.into(),
    };
    if request.deadline == Deadline::Never {
        thread.server().futexes.park(word, bits, thread);
        return Outcome::Parked;
    }
    let queue = WaitQueue::new();
    let guard = Leave { thread: thread.clone(), waiter: thread.server().futexes.enter(word, bits, &queue) };
    let (thread, request) = (thread.clone(), *request);
    Outcome::block(async move {
        loop {
            let listener = queue.listen();
            if guard.waiter.is_woken() {
                return Ok(0);
            }
            if thread.is_interrupted() {
                thread.restart.replace(Some(Restart::Futex(FutexWait { request, bits })));
                return Err(Errno::RESTART_BLOCK);
            }
            if wait_until(&thread, listener, request.deadline).await == Woken::TimedOut && !guard.waiter.is_woken() {
                return Err(Errno::ETIMEDOUT);
            }
        }
    })
}

/// A wait with a timeout that was interrupted, and goes on unless a handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutexWait {
    request: Request,
    bits: u32,
}

/// Goes on with a wait that was interrupted.
pub(super) fn resume(thread: &Rc<Thread>, interrupted: &FutexWait) -> Outcome {
    wait(thread, &interrupted.request, interrupted.bits)
}

/// `struct futex_waitv`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct WaitEntry {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// How many words one call can wait at (`FUTEX_WAITV_MAX`).
const MAX_WORDS: u64 = 128;
/// What a place in a line takes of the server's memory, about, in bytes.
const WAITER_BYTES: u64 = 128;

fn futex_waitv(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    match enter_all(thread, arguments) {
        Ok((waiters, queue, deadline, charge)) => wait_for_any(thread, waiters, queue, deadline, charge),
        Err(error) => error.into(),
    }
}

type Entered = (Vec<Leave>, WaitQueue, Deadline, Charge);

fn enter_all(thread: &Rc<Thread>, arguments: &Arguments) -> Result<Entered> {
    let [entries, count, flags, timeout, clock, _] = *arguments;
    let count = u64::from(count as u32);
    if flags as u32 != 0 || count == 0 || count > MAX_WORDS || entries == 0 {
        return Err(Errno::EINVAL);
    }
    let deadline = match (timeout, clock as u32) {
        (0, _) => Deadline::Never,
        (timeout, linux::CLOCK_MONOTONIC) => Deadline::Monotonic(super::time::read_timespec(thread, timeout)?),
        (timeout, linux::CLOCK_REALTIME) => Deadline::Realtime(super::time::read_timespec(thread, timeout)?),
        _ => return Err(Errno::EINVAL),
    };
    let known = linux::FUTEX_PRIVATE_FLAG | linux::FUTEX_32;
    let entries: Vec<WaitEntry> = pointer(thread, entries).read_array(count as usize)?;
    if entries
        .iter()
        .any(|entry| entry.flags & !known != 0 || entry.flags & linux::FUTEX_32 == 0 || entry.reserved != 0)
    {
        return Err(Errno::EINVAL);
    }
    let charge = Charge::new(Kind::Open, count * WAITER_BYTES)?;
    let queue = WaitQueue::new();
    let mut waiters = Vec::new();
    for entry in entries {
        let scope = if entry.flags & linux::FUTEX_PRIVATE_FLAG != 0 { Scope::Private } else { Scope::Any };
        // The first of 32 bits; the rest of the value is not looked at.
        let word = expected_word(thread, entry.address, scope, entry.value as u32)?;
        let waiter = thread.server().futexes.enter(word, u32::MAX, &queue);
        waiters.push(Leave { thread: thread.clone(), waiter });
    }
    Ok((waiters, queue, deadline, charge))
}

fn wait_for_any(
    thread: &Rc<Thread>,
    waiters: Vec<Leave>,
    queue: WaitQueue,
    deadline: Deadline,
    charge: Charge,
) -> Outcome {
    let thread = thread.clone();
    Outcome::block(async move {
        let _held = charge;
        loop {
            let listener = queue.listen();
            if let Some(index) = waiters.iter().position(|guard| guard.waiter.is_woken()) {
                return Ok(index as u64);
            }
            if thread.is_interrupted() {
                return Err(Errno::RESTART);
            }
            if wait_until(&thread, listener, deadline).await == Woken::TimedOut
                && !waiters.iter().any(|guard| guard.waiter.is_woken())
            {
                return Err(Errno::ETIMEDOUT);
            }
        }
    })
}

// ---- locks with an owner -----------------------------------------------------------------------------------------

/// Leaves the line of a lock when the wait ends.
struct LeaveLock {
    thread: Rc<Thread>,
    candidate: Rc<Candidate>,
}

impl Drop for LeaveLock {
    fn drop(&mut self) {
        self.thread.server().futexes.locks.leave(&self.candidate);
    }
}

fn lock(thread: &Rc<Thread>, request: &Request, if_taken: IfTaken) -> Outcome {
    let candidate = Candidate::new(thread, request.address);
    let tried = word_at(thread, request.address, request.scope)
        .and_then(|word| thread.server().futexes.locks.acquire(word, &candidate, if_taken));
    if let Err(error) = tried {
        return error.into();
    }
    let guard = LeaveLock { thread: thread.clone(), candidate };
    let deadline = request.deadline;
    match guard.candidate.progress() {
        Progress::Owner => Outcome::Return(Ok(0)),
        Progress::Failed(error) => error.into(),
        Progress::Apart | Progress::Waiting => {
            let thread = thread.clone();
            Outcome::block(
                async move { wait_in_line(&thread, &guard.candidate, deadline, Errno::RESTART_ALWAYS).await },
            )
        }
    }
}

async fn wait_in_line(
    thread: &Rc<Thread>,
    candidate: &Candidate,
    deadline: Deadline,
    if_interrupted: Errno,
) -> Result<u64> {
    loop {
        let listener = candidate.queue.listen();
        match candidate.progress() {
            Progress::Owner => return Ok(0),
            Progress::Failed(error) => return Err(error),
            Progress::Apart | Progress::Waiting => {}
        }
        if thread.is_interrupted() {
            return Err(if_interrupted);
        }
        if wait_until(thread, listener, deadline).await == Woken::TimedOut && candidate.progress() != Progress::Owner {
            return Err(Errno::ETIMEDOUT);
        }
    }
}

fn unlock(thread: &Thread, request: &Request) -> Result<()> {
    let word = word_at(thread, request.address, request.scope)?;
    thread.server().futexes.locks.release(word, thread, request.address)
}

fn wait_for_lock(thread: &Rc<Thread>, request: &Request) -> Outcome {
    let entered = (|| {
        if request.address == request.second {
            return Err(Errno::EINVAL);
        }
        let lock = word_at(thread, request.second, request.scope)?;
        Ok((expected_word(thread, request.address, request.scope, request.value)?, lock))
    })();
    let (word, lock) = match entered {
        Ok(entered) => entered,
        Err(error) => return error.into(),
    };
    let candidate = Candidate::new(thread, request.second);
    let claim = Claim { word: lock, candidate: candidate.clone() };
    let waiter = thread.server().futexes.enter_for_lock(word, u32::MAX, claim);
    let guards = (Leave { thread: thread.clone(), waiter }, LeaveLock { thread: thread.clone(), candidate });
    let (thread, deadline) = (thread.clone(), request.deadline);
    Outcome::block(async move {
        // Both, or the one that is not named would be dropped before the wait.
        let (_place, line) = guards;
        let candidate = &line.candidate;
        let result = wait_in_line(&thread, candidate, deadline, Errno::RESTART_ALWAYS).await;
        match result {
            // In line for the lock, there is no way back to where it waited before.
            Err(Errno::RESTART_ALWAYS) if candidate.progress() == Progress::Waiting => Err(Errno::EAGAIN),
            result => result,
        }
    })
}

// ---- robust lists ------------------------------------------------------------------------------------------------

/// The size of `struct robust_list_head`.
const ROBUST_LIST_BYTES: u64 = 24;

fn set_robust_list(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [head, size, ..] = *arguments;
    if size != ROBUST_LIST_BYTES {
        return Errno::EINVAL.into();
    }
    thread.robust_list.set((head, size));
    Outcome::Return(Ok(0))
}

fn get_robust_list(thread: &Rc<Thread>, arguments: &Arguments) -> Result<()> {
    let [tid, head, size, ..] = *arguments;
    let tid = tid as Pid;
    let target = if tid == 0 { Some(thread.clone()) } else { thread.server().thread(tid) };
    let target = target.ok_or(Errno::ESRCH)?;
    if !super::access::may_inspect(thread, &target.process) {
        return Err(Errno::EPERM);
    }
    let (address, _) = target.robust_list.get();
    pointer(thread, size).write(&ROBUST_LIST_BYTES)?;
    pointer(thread, head).write(&address)
}
