//! Processes as files (`pidfd_open(2)`): readable when the process has ended.

use super::EventFile;
use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::process::{Phase, Pid, Process};
use crate::wait::WaitQueue;
use alloc::rc::{Rc, Weak};

/// A process, whatever becomes of its number.
pub struct ProcessFile {
    pid: Pid,
    process: Weak<Process>,
    changed: WaitQueue,
}

impl ProcessFile {
    /// A file of a process.
    pub fn new(process: &Rc<Process>) -> Self {
        Self { pid: process.pid, process: Rc::downgrade(process), changed: process.resumed.clone() }
    }

    /// A file of a process that has ended, and that nobody has waited for.
    pub fn ended(pid: Pid) -> Self {
        Self { pid, process: Weak::new(), changed: WaitQueue::new() }
    }

    /// Its number, or what was its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The process, unless it has ended.
    pub fn process(&self) -> Option<Rc<Process>> {
        self.process.upgrade().filter(|process| process.phase.get() != Phase::Ended)
    }
}

impl FileOps for ProcessFile {
    fn read(&self, _position: u64, _to: &mut dyn Destination) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn write(&self, _position: u64, _from: &mut dyn Source) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn readiness(&self) -> PollEvents {
        if self.process().is_none() { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.changed)
    }

    fn event_file(&self) -> Option<EventFile<'_>> {
        Some(EventFile::Process(self))
    }
}
