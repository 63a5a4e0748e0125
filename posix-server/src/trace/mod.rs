//! The trace of system calls that `cargo xtask exec --strace` shows.
//!
//! A line tells what a call was given, when it is done: `[3] read(0, "a\n", 100) = 2`. A call that waits gets two lines, like
//! those of `strace`, because others run meanwhile. Lines go to the host over the [link](HostLink); while that is full, traced
//! calls wait before they begin, so that nothing is lost and the server keeps little.

mod flags;
mod format;
pub mod linux_calls;
pub mod signature;

use crate::errno::Result;
use crate::host_link::HostLink;
use crate::process::tree::ExitStatus;
use crate::process::{Pid, Thread};
use crate::signal::Signal;
use crate::user::UserPtr;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;
use format::Peek;
use linux_calls::find;

/// Writes the trace.
pub struct Trace {
    link: Rc<HostLink>,
    /// The call that each thread is in.
    entered: RefCell<BTreeMap<Pid, Entered>>,
}

/// A call that has begun.
struct Entered {
    number: u32,
    words: [u64; 6],
    /// What is not written yet: the name and the arguments that were known.
    text: String,
}

impl Trace {
    /// A trace that goes to the host.
    pub fn new(link: Rc<HostLink>) -> Self {
        Self { link, entered: RefCell::default() }
    }

    /// Ready when there is room for what the next call writes.
    pub async fn room(&self) {
        self.link.room().await;
    }

    /// Whether [`room`](Self::room) would be ready at once.
    pub fn has_room(&self) -> bool {
        self.link.has_room()
    }

    /// A thread begins a call.
    pub fn enter(&self, thread: &Thread, number: u32, words: &[u64; 6]) {
        let known = format::arguments(find(number), words, &Memory(thread));
        let text = format!("{}({known}", format::name(number));
        self.entered.borrow_mut().insert(thread.tid, Entered { number, words: *words, text });
    }

    /// The call will take time.
    pub fn wait(&self, thread: &Thread) {
        if let Some(entered) = self.entered.borrow_mut().get_mut(&thread.tid) {
            let text = core::mem::replace(&mut entered.text, resumption(entered.number));
            self.line(thread.tid, &format!("{text} <unfinished ...>"));
        }
    }

    /// The call is done.
    pub fn leave(&self, thread: &Thread, result: Result<u64>) {
        let entered = self.entered.borrow_mut().remove(&thread.tid);
        if let Some(Entered { number, words, text }) = entered {
            let rest = format::results(find(number), &words, &Memory(thread), result);
            self.line(thread.tid, &format!("{text}{rest}){}", format::outcome(number, result)));
        }
    }

    /// The thread has gone without returning from the call that it was in, if any.
    pub fn vanish(&self, tid: Pid) {
        let entered = self.entered.borrow_mut().remove(&tid);
        if let Some(entered) = entered {
            self.line(tid, &format!("{}) = ?", entered.text));
        }
    }

    /// A thread gets a signal.
    pub fn signal(&self, tid: Pid, signal: Signal) {
        self.line(tid, &format!("--- {} ---", format::signal(u32::from(signal.number()))));
    }

    /// A process has ended.
    pub fn end(&self, pid: Pid, status: ExitStatus) {
        self.line(
            pid,
            &match status {
                ExitStatus::Exited(code) => format!("+++ exited with {code} +++"),
                ExitStatus::Killed { signal, .. } => {
                    format!("+++ killed by {} +++", format::signal(u32::from(signal.number())))
                }
            },
        );
    }

    fn line(&self, tid: Pid, text: &str) {
        self.link.trace(format!("[{tid}] {text}\n").as_bytes());
    }
}

/// How the second line of a call begins.
fn resumption(number: u32) -> String {
    format!("<... {} resumed> ", format::name(number))
}

/// The memory of a thread.
struct Memory<'a>(&'a Thread);

impl Peek for Memory<'_> {
    fn bytes(&self, address: u64, buffer: &mut [u8]) -> bool {
        UserPtr::new(&self.0.space(), address).read_bytes(buffer).is_ok()
    }

    fn string(&self, address: u64, max: usize) -> Option<Vec<u8>> {
        UserPtr::new(&self.0.space(), address).read_prefix(max).ok()
    }
}
