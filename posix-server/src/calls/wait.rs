//! `wait4` and `waitid`.

use super::{Arguments, Outcome, SystemCall, pointer};
use crate::errno::{Errno, Result};
use crate::process::end::reap_traced;
use crate::process::tree::{ChildEvent, Found, Kin, Take, Tree, WaitEvents, WaitFor, WaitRequest, Want};
use crate::process::usage::Usage;
use crate::process::{Pid, Thread};
use crate::ptrace::table::{self, Told};
use crate::signal::{Details, Signal, SignalInfo};
use alloc::boxed::Box;
use alloc::rc::Rc;
use futures_util::future::select;
use linux_raw_sys::general as linux;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_wait4, wait4).with_flags("WNOHANG WUNTRACED WCONTINUED __WALL __WCLONE __WNOTHREAD"),
    SystemCall::new(linux::__NR_waitid, waitid).with_flags(
        "P_ALL P_PID P_PGID P_PIDFD WEXITED WSTOPPED WCONTINUED WNOHANG WNOWAIT __WALL __WCLONE __WNOTHREAD",
    ),
];

/// A wait, and whether it waits.
#[derive(Clone, Copy)]
struct Wait {
    request: WaitRequest,
    hang: bool,
}

/// What a wait has found.
#[derive(Clone, Copy)]
struct News {
    found: Found,
    uid: u32,
    usage: Usage,
}

/// The part of the options that both calls have.
fn kin_of(options: u32) -> Kin {
    if options & linux::__WALL != 0 {
        Kin::All
    } else if options & linux::__WCLONE != 0 {
        Kin::Clones
    } else {
        Kin::Ordinary
    }
}

fn creator_of(thread: &Thread, options: u32) -> Option<Pid> {
    (options & linux::__WNOTHREAD != 0).then_some(thread.tid)
}

/// Waits, and hands what was found (or that nothing was) to `report`.
fn wait(
    thread: &Rc<Thread>,
    wait: Wait,
    report: impl Fn(&Rc<Thread>, Option<News>) -> Result<u64> + 'static,
) -> Outcome {
    match attempt(thread, &wait) {
        Err(error) => error.into(),
        Ok(Some(news)) => report(thread, Some(news)).into(),
        Ok(None) if !wait.hang => report(thread, None).into(),
        Ok(None) => {
            let thread = thread.clone();
            Outcome::block(async move {
                loop {
                    let listener = thread.process.child_news.listen();
                    if let Some(news) = attempt(&thread, &wait)? {
                        return report(&thread, Some(news));
                    }
                    if thread.is_interrupted() {
                        return Err(Errno::RESTART);
                    }
                    select(listener, Box::pin(thread.clone().interrupted())).await;
                }
            })
        }
    }
}

fn attempt(thread: &Rc<Thread>, wait: &Wait) -> Result<Option<News>> {
    let process = &thread.process;
    let server = thread.server();
    let found = server.tree.change(|tree, (pid, request)| tree.wait(pid, &request), (process.pid, wait.request));
    let found = match found {
        Ok(Some(found)) => found,
        Ok(None) | Err(_) if server.tracees.borrow().is_empty() => return found.map(|_| None),
        Ok(None) | Err(_) => match attempt_traced(thread, wait) {
            Ok(Some(news)) => return Ok(Some(news)),
            Ok(None) => return Ok(None),
            Err(_) => return found.map(|_| None),
        },
    };
    let (uid, usage) = found.remains.unwrap_or_else(|| match server.process(found.pid) {
        Some(child) => (child.credentials().uid, child.usage().with(&child.children_usage.get())),
        None => Default::default(),
    });
    if found.remains.is_some() && wait.request.take == Take::Yes {
        process.children_usage.set(process.children_usage.get().with(&usage));
    }
    Ok(Some(News { found, uid, usage }))
}

/// Looks among the threads that the process traces.
fn attempt_traced(thread: &Rc<Thread>, wait: &Wait) -> Result<Option<News>> {
    let process = &thread.process;
    let server = thread.server();
    let group_of = |pid| server.tree.look(Tree::group, pid).ok();
    let told = server.tracees.borrow_mut().wait(process.pid, &wait.request, group_of)?;
    let Some(Told { tid, process: of, news }) = told else { return Ok(None) };
    let remains = server.tree.look(Tree::remains, of).filter(|_| tid == of);
    let (uid, usage) = match (remains, server.process(of)) {
        (Some(remains), _) => (remains.uid, remains.usage),
        (None, Some(process)) => (process.credentials().uid, process.usage()),
        (None, None) => Default::default(),
    };
    let event = match news {
        table::News::Stopped(code) => ChildEvent::Trapped(code),
        table::News::Ended(status) => {
            if wait.request.take == Take::Yes {
                server.tracees.borrow_mut().remove(tid);
                reap_traced(server, tid, of);
            }
            ChildEvent::Ended(status)
        }
    };
    Ok(Some(News { found: Found { pid: tid, event, remains: None }, uid, usage }))
}

fn wait4(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [pid, status, options, usage, ..] = *arguments;
    let (pid, options) = (pid as Pid, options as u32);
    let known = linux::WNOHANG | linux::WUNTRACED | linux::WCONTINUED;
    let kinds = linux::__WNOTHREAD | linux::__WCLONE | linux::__WALL;
    if options & !(known | kinds) != 0 {
        return Errno::EINVAL.into();
    }
    let which = match pid {
        -1 => WaitFor::Any,
        0 => WaitFor::Group(thread.process.group()),
        Pid::MIN => return Errno::ESRCH.into(),
        pid if pid < 0 => WaitFor::Group(-pid),
        pid => WaitFor::Process(pid),
    };
    let events = WaitEvents {
        ended: Want::Yes,
        stopped: Want::if_set(options, linux::WUNTRACED),
        continued: Want::if_set(options, linux::WCONTINUED),
    };
    let (kin, creator) = (kin_of(options), creator_of(thread, options));
    let request = WaitRequest { which, kin, creator, events, take: Take::Yes };
    wait(thread, Wait { request, hang: options & linux::WNOHANG == 0 }, move |thread, news| {
        let Some(news) = news else { return Ok(0) };
        pointer(thread, status).write_if_given(&news.found.event.to_wait_status())?;
        pointer(thread, usage).write_if_given(&news.usage.to_rusage())?;
        Ok(news.found.pid as u64)
    })
}

/// Whom a `waitid` is for. `EINVAL`, `EBADF`.
fn named(thread: &Rc<Thread>, kind: u64, id: u64) -> Result<WaitFor> {
    let id = id as Pid;
    match kind as u32 {
        linux::P_ALL => Ok(WaitFor::Any),
        linux::P_PID if id > 0 => Ok(WaitFor::Process(id)),
        linux::P_PGID if id > 0 => Ok(WaitFor::Group(id)),
        linux::P_PIDFD if id < 0 => Err(Errno::EINVAL),
        linux::P_PIDFD => super::pidfd::named(thread, id as u64).map(|(pid, _)| WaitFor::Process(pid)),
        linux::P_PGID if id == 0 => Ok(WaitFor::Group(thread.process.group())),
        _ => Err(Errno::EINVAL),
    }
}

fn waitid(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let address = arguments[2];
    let outcome = wait_for_info(thread, arguments);
    if let Outcome::Return(Err(error)) = outcome
        && address != 0
    {
        // Linux fills the record with zeroes then, and that it can't is what the caller hears of.
        return write_info(thread, address, None).and(Err::<u64, _>(error)).into();
    }
    outcome
}

fn wait_for_info(thread: &Rc<Thread>, arguments: &Arguments) -> Outcome {
    let [kind, id, address, options, usage, _] = *arguments;
    let options = options as u32;
    let events = linux::WEXITED | linux::WSTOPPED | linux::WCONTINUED;
    let kinds = linux::__WNOTHREAD | linux::__WCLONE | linux::__WALL;
    if options & !(events | kinds | linux::WNOHANG | linux::WNOWAIT) != 0 || options & events == 0 {
        return Errno::EINVAL.into();
    }
    let which = match named(thread, kind, id) {
        Ok(which) => which,
        Err(error) => return error.into(),
    };
    let wanted = WaitEvents {
        ended: Want::if_set(options, linux::WEXITED),
        stopped: Want::if_set(options, linux::WSTOPPED),
        continued: Want::if_set(options, linux::WCONTINUED),
    };
    let take = if options & linux::WNOWAIT != 0 { Take::Peek } else { Take::Yes };
    let (kin, creator) = (kin_of(options), creator_of(thread, options));
    let request = WaitRequest { which, kin, creator, events: wanted, take };
    // A file that does not wait makes the call not wait, and then it fails.
    let is_nonblocking = kind as u32 == linux::P_PIDFD && super::pidfd::named(thread, id).is_ok_and(|(_, now)| now);
    let hangs = options & linux::WNOHANG == 0;
    wait(thread, Wait { request, hang: hangs && !is_nonblocking }, move |thread, news| {
        if news.is_none() && hangs {
            return Err(Errno::EAGAIN);
        }
        if let Some(news) = &news {
            pointer(thread, usage).write_if_given(&news.usage.to_rusage())?;
        }
        if address != 0 {
            write_info(thread, address, news.as_ref())?;
        }
        Ok(0)
    })
}

/// Writes what `waitid` tells: only the fields that it has, as Linux does.
fn write_info(thread: &Thread, address: u64, news: Option<&News>) -> Result<()> {
    /// `si_signo`, `si_errno`, `si_code`, then padding.
    const HEAD_BYTES: usize = 12;
    /// `si_pid`, `si_uid`, `si_status`.
    const TAIL: core::ops::Range<usize> = 16..28;
    let bytes = news.map_or([0; 128], |news| info(news).to_bytes());
    pointer(thread, address).write_bytes(bytes.get(..HEAD_BYTES).unwrap_or_default())?;
    pointer(thread, address).offset(TAIL.start as u64)?.write_bytes(bytes.get(TAIL).unwrap_or_default())
}

fn info(news: &News) -> SignalInfo {
    let (code, status) = news.found.event.to_code_and_status();
    let details = Details::Child { pid: news.found.pid, uid: news.uid, status, times: [0; 2] };
    SignalInfo { signal: Signal::CHLD, code, details }
}
