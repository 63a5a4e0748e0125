//! Signals that are read like files (`signalfd(2)`).
//!
//! What there is to read depends on who reads: the signals that wait for its thread or its process. A file that an epoll
//! instance watches tells of changes in the process that added it, as on Linux.

use super::EventFile;
use super::posix_timers;
use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::process::Thread;
use crate::signal::{Details, SignalInfo, SignalSet};
use crate::wait::WaitQueue;
use core::cell::Cell;
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// `struct signalfd_siginfo`.
#[derive(FromZeros, IntoBytes, Immutable)]
#[repr(C)]
struct Record {
    signal: u32,
    errno: i32,
    code: i32,
    pid: u32,
    uid: u32,
    fd: i32,
    timer: u32,
    band: u32,
    overrun: u32,
    trap: u32,
    status: i32,
    int: i32,
    pointer: u64,
    user_time: u64,
    system_time: u64,
    address: u64,
    address_bit: u16,
    padding: u16,
    call: i32,
    call_address: u64,
    architecture: u32,
    rest: [u32; 7],
}

const RECORD_BYTES: usize = 128;
const _: () = assert!(size_of::<Record>() == RECORD_BYTES);

impl Record {
    fn new(info: SignalInfo) -> Self {
        let mut record = Self::new_zeroed();
        record.signal = u32::from(info.signal.number());
        record.code = info.code;
        let mut set_value = |value: u64| (record.int, record.pointer) = (value as i32, value);
        match info.details {
            Details::None => {}
            Details::Sender { pid, uid } => (record.pid, record.uid) = (pid as u32, uid),
            Details::Value { pid, uid, value } => {
                set_value(value);
                (record.pid, record.uid) = (pid as u32, uid);
            }
            Details::Timer { id, overrun, value } => {
                set_value(value);
                (record.timer, record.overrun) = (id as u32, overrun as u32);
            }
            Details::Child { pid, uid, status, times } => {
                (record.pid, record.uid, record.status) = (pid as u32, uid, status);
                [record.user_time, record.system_time] = times;
            }
            Details::Readiness { band, fd } => (record.band, record.fd) = (band as u32, fd),
            Details::Fault { address } => record.address = address,
            Details::Call { address, number, architecture, errno } => {
                (record.call_address, record.call, record.architecture) = (address, number as i32, architecture);
                record.errno = errno;
            }
            Details::Given { errno, fields: [sender, value, ..] } => {
                set_value(value);
                (record.pid, record.uid, record.errno) = (sender as u32, (sender >> 32) as u32, errno);
            }
        }
        record
    }
}

/// A set of signals to be read.
pub struct SignalFile {
    wanted: Cell<SignalSet>,
    /// For who asks without a thread: never woken.
    silent: WaitQueue,
}

impl SignalFile {
    /// A file of these signals.
    pub fn new(wanted: SignalSet) -> Self {
        Self { wanted: Cell::new(wanted.without(SignalSet::UNBLOCKABLE)), silent: WaitQueue::new() }
    }

    /// Changes which.
    pub fn set_wanted(&self, wanted: SignalSet) {
        self.wanted.set(wanted.without(SignalSet::UNBLOCKABLE));
    }

    /// Which.
    pub fn wanted(&self) -> SignalSet {
        self.wanted.get()
    }
}

impl FileOps for SignalFile {
    fn read(&self, _position: u64, _to: &mut dyn Destination) -> Result<usize> {
        Err(Errno::EAGAIN)
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Nowhere
    }

    fn read_for(&self, thread: &Thread, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        if to.remaining() < RECORD_BYTES {
            return Err(Errno::EINVAL);
        }
        let mut read = 0;
        while to.remaining() >= RECORD_BYTES {
            let taken =
                thread.signals.borrow_mut().take_any(&mut thread.process.signals.borrow_mut(), self.wanted.get());
            let Some(info) = taken else { break };
            let info = posix_timers::taken(&thread.process, info);
            if to.put(Record::new(info).as_bytes()) < RECORD_BYTES {
                return if read == 0 { Err(Errno::EFAULT) } else { Ok(read) };
            }
            read += RECORD_BYTES;
        }
        if read == 0 { Err(Errno::EAGAIN) } else { Ok(read) }
    }

    fn readiness(&self) -> PollEvents {
        PollEvents::empty()
    }

    fn readiness_for(&self, thread: &Thread) -> PollEvents {
        let waiting = thread.signals.borrow().pending.set().union(thread.process.signals.borrow().pending.set());
        if waiting.intersection(self.wanted.get()).is_empty() { PollEvents::empty() } else { PollEvents::IN }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.silent)
    }

    fn wait_queue_for<'a>(&'a self, thread: &'a Thread) -> Option<&'a WaitQueue> {
        Some(&thread.process.signal_sent)
    }

    fn event_file(&self) -> Option<EventFile<'_>> {
        Some(EventFile::Signals(self))
    }
}
