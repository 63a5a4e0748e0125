//! Calls that need what is not there: a page, or what a file system on a disk has not loaded.
//!
//! A handler never waits: it finds that a program's memory, or a file's, can't be reached, or a directory's names are not known, and
//! fails. Why is noted by the platform ([`take_needs`]), and whoever runs the call looks there when it has come back.
//!
//! - A call that failed for that is made again when it is there. A handler checks and reads before it changes anything, so
//!   that nothing is done twice. If a page can't be had, the call fails with `EIO` (a file's) or `EFAULT` (a program's); if
//!   something else can't, with the error that its [ticket](crate::ticket) ends with.
//! - What a call has for a program whose page is not there is kept, and written before the call returns: it has had its effect.
//! - Transfers of files go on where they stopped ([`super::transfer`]).
//!
//! As on Linux, a thread that waits so can be killed, but signals wait with it.

use super::{Arguments, Outcome, call, note_wait, trace_outcome};
use crate::budget::set_caller;
use crate::errno::{Errno, Result};
use crate::platform::{Executor, LocalFuture, Needs, has_needs, take_needs};
use crate::process::Thread;
use crate::signal::leave::{Exit, leave, leave_wait};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::future::poll_fn;
use core::pin::pin;
use futures_util::future::{Either, select};

/// How a call ends that was made again.
enum End {
    Returned(Result<u64>),
    /// The program goes on with the registers in its block.
    Context,
    /// Somebody else answers, or nobody.
    Elsewhere,
}

/// Goes on with a call that has come back, but needs pages before that counts.
pub(super) fn resolve(thread: &Rc<Thread>, number: u32, arguments: Arguments, result: Result<u64>) {
    let needs = take_needs();
    if needs.postponed.is_empty() && (result.is_ok() || needs.absence.is_none()) {
        trace_outcome(thread, &Outcome::Return(result));
        return leave(thread, Exit::Call(result));
    }
    if let Some(trace) = thread.server().trace.get() {
        trace.wait(thread);
    }
    let call = thread.clone();
    wait(thread, async move { finish(&call, number, &arguments, result, needs).await });
}

/// The same for a call that waits otherwise.
pub(super) fn watch(thread: &Rc<Thread>, number: u32, arguments: Arguments, future: LocalFuture<Result<u64>>) {
    let call = thread.clone();
    wait(thread, async move {
        let (result, needs) = drive(&call, future).await;
        finish(&call, number, &arguments, result, needs).await
    });
}

fn wait(thread: &Rc<Thread>, end: impl Future<Output = End> + 'static) {
    note_wait(thread);
    let waiting = thread.clone();
    thread.server().executor.spawn(async move {
        let gone = pin!(waiting.clone().gone());
        match select(pin!(end), gone).await {
            Either::Left((End::Returned(result), _)) => leave_wait(&waiting, result),
            Either::Left((End::Context, _)) => leave(&waiting, Exit::Block),
            Either::Left((End::Elsewhere, _)) | Either::Right(_) => {}
        }
    });
}

/// Waits for a call, and collects what it needs meanwhile.
async fn drive(thread: &Thread, mut future: LocalFuture<Result<u64>>) -> (Result<u64>, Needs) {
    let mut needs = Needs::default();
    let result = poll_fn(|context| {
        set_caller(thread.process.payer());
        let poll = future.as_mut().poll(context);
        if has_needs() {
            let Needs { absence, postponed } = take_needs();
            needs.absence = absence;
            needs.postponed.extend(postponed);
        }
        poll
    });
    let result = result.await;
    (result, needs)
}

async fn finish(
    thread: &Rc<Thread>,
    number: u32,
    arguments: &Arguments,
    mut result: Result<u64>,
    mut needs: Needs,
) -> End {
    let executor = thread.server().executor.clone();
    while let (Err(_), Some(absence)) = (result, needs.absence.take()) {
        if let Err(errno) = executor.bring(absence).await {
            return End::Returned(Err(errno));
        }
        set_caller(thread.process.payer());
        (result, needs) = match call(thread, number, arguments) {
            Outcome::Return(result) => (result, take_needs()),
            Outcome::Block(future) => drive(thread, future).await,
            Outcome::Context => return End::Context,
            Outcome::Parked | Outcome::Gone => return End::Elsewhere,
        };
    }
    End::Returned(write_postponed(&executor, needs, result).await)
}

async fn write_postponed(executor: &Executor, needs: Needs, result: Result<u64>) -> Result<u64> {
    for postponed in needs.postponed {
        executor.write_postponed(postponed).await?;
    }
    result
}

/// What becomes of an attempt of a call that sleeps, which has come back with a result other than `EAGAIN`.
pub(super) enum Attempted {
    /// It is over.
    Over(Result<u64>),
    /// It is to be tried again after this, or is over with this errno.
    Again(LocalFuture<Result<()>>),
    /// It is over when this is.
    Later(LocalFuture<Result<u64>>),
}

/// Judges such an attempt.
pub(super) fn judge(executor: &Executor, result: Result<u64>) -> Attempted {
    if !has_needs() {
        return Attempted::Over(result);
    }
    let mut needs = take_needs();
    let executor = executor.clone();
    match (result, needs.absence.take()) {
        (Err(errno), Some(absence)) if errno != Errno::EINTR && !errno.is_restart() => {
            Attempted::Again(Box::pin(async move { executor.bring(absence).await }))
        }
        (result, _) if needs.postponed.is_empty() => Attempted::Over(result),
        (result, _) => Attempted::Later(Box::pin(async move { write_postponed(&executor, needs, result).await })),
    }
}
