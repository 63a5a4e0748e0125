//! What every thread waits for, in the log: the first thing to look at when a system stands still.

use crate::devices::Hardware;
use crate::kernel::Kernel;
use crate::pool::Id;
use crate::thread::{CallForm, CallStage, State, Thread, Wait};

/// The longest line that the core itself writes to the log.
const LINE_BYTES: usize = 160;

/// A line of text that needs no heap. What does not fit is cut off.
pub(crate) struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; LINE_BYTES], len: 0 }
    }
}

impl Line {
    /// The text so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = &mut self.bytes[self.len..];
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        if taken == text.len() { Ok(()) } else { Err(core::fmt::Error) }
    }
}

impl Kernel {
    /// Writes a line per thread, and totals, to the log.
    pub fn dump(&self, m: &mut impl Hardware) {
        m.dump_line(format_args!(
            "{} threads, {} tables, {} endpoints, {} letters, {} queues; {} of {} frames free",
            self.threads.len(),
            self.tables.len(),
            self.endpoints.len(),
            self.letters.len(),
            self.queues.len(),
            self.memory.frames().free(),
            self.memory.frames().total(),
        ));
        for (id, thread) in self.threads.iter() {
            self.dump_thread(m, id, thread);
        }
    }

    fn dump_thread(&self, m: &mut impl Hardware, id: Id<Thread>, thread: &Thread) {
        let r = &thread.context.registers;
        let name = thread.name.as_str();
        let held = if thread.suspensions == 0 { "" } else { ", suspended" };
        m.dump_line(format_args!(
            "thread {id:?} \"{name}\" priority {}{held}: rip {:#x} rax {:#x} rsp {:#x}; {}",
            thread.priority,
            r.rip,
            r.rax,
            r.rsp,
            Doing { kernel: self, thread },
        ));
    }
}

/// What a thread is doing, in words.
struct Doing<'a> {
    kernel: &'a Kernel,
    thread: &'a Thread,
}

impl core::fmt::Display for Doing<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.thread.state {
            State::New => write!(f, "not started"),
            State::Ready => write!(f, "ready"),
            State::Running => write!(f, "runs on processor {}", self.thread.cpu),
            State::Stopped => write!(f, "stopped"),
            State::Dead => write!(f, "ended"),
            State::Waiting(Wait::Call) => self.call(f),
            State::Waiting(Wait::Receive { endpoint, .. }) => write!(f, "receives on endpoint {endpoint:?}"),
            State::Waiting(Wait::Queue(queue)) => write!(f, "waits for queue {queue:?}"),
            State::Waiting(Wait::Event { event, mask }) => write!(f, "waits for bits {mask:#x} of event {event:?}"),
            State::Waiting(Wait::Page(absent)) => {
                write!(f, "waits for page {:#x} of memory {:?}", absent.page, absent.memory)
            }
        }
    }
}

impl Doing<'_> {
    fn call(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let call = &self.thread.call;
        match call.form {
            CallForm::Registers => write!(f, "calls, label {:#x}, ", self.thread.context.registers.rsi)?,
            CallForm::Frame { .. } => write!(f, "calls, label {:#x}, ", call.label)?,
            CallForm::Exception(exception) => write!(f, "faulted: {:?} at {:#x}, ", exception.kind, exception.address)?,
        }
        match call.stage {
            CallStage::Received => write!(f, "received"),
            CallStage::Queued(endpoint) => {
                let queue = self.kernel.endpoints.get(endpoint).and_then(|endpoint| endpoint.binding);
                match queue {
                    Some(binding) => write!(f, "in line at endpoint {endpoint:?} of queue {:?}", binding.queue),
                    None => write!(f, "in line at endpoint {endpoint:?}"),
                }
            }
        }
    }
}
