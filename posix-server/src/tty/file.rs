//! A terminal that is open.

use super::Terminal;
use crate::errno::{Errno, Result};
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::wait::WaitQueue;
use alloc::rc::Rc;
use core::cell::Cell;
use linux_raw_sys::general as linux;

/// A terminal that is open.
pub struct TerminalFile {
    terminal: Rc<Terminal>,
    /// How often it had hung up when the file was opened.
    hang_ups: u64,
    /// Whether somebody waits to read: he gets `EIO` when the device goes, and not the end of the file.
    is_awaited: Cell<bool>,
}

impl TerminalFile {
    /// Opens it. `EIO` if its device is gone.
    pub fn open(terminal: &Rc<Terminal>) -> Result<Self> {
        Ok(Self { terminal: terminal.clone(), hang_ups: terminal.enter()?, is_awaited: Cell::new(false) })
    }

    fn has_ended(&self) -> bool {
        self.terminal.has_ended_for(self.hang_ups)
    }
}

impl Drop for TerminalFile {
    fn drop(&mut self) {
        self.terminal.leave();
    }
}

impl FileOps for TerminalFile {
    fn read(&self, position: u64, to: &mut dyn Destination) -> Result<usize> {
        if self.is_awaited.take() && self.terminal.is_gone() {
            return Err(Errno::EIO);
        }
        if self.terminal.satisfies(to.remaining()) || self.has_ended() {
            return self.read_now(position, to);
        }
        self.is_awaited.set(true);
        Err(Errno::EAGAIN)
    }

    fn read_now(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        if self.has_ended() { Ok(0) } else { self.terminal.hand_over(to) }
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize> {
        if self.has_ended() { Err(Errno::EIO) } else { self.terminal.write(from) }
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn readiness(&self) -> PollEvents {
        if self.has_ended() {
            return PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::HANG_UP | PollEvents::ERROR;
        }
        self.terminal.readiness()
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(self.terminal.changed())
    }

    fn terminal(&self) -> Option<&Rc<Terminal>> {
        Some(&self.terminal)
    }

    fn is_hung_up(&self) -> bool {
        self.has_ended()
    }

    fn readable_bytes(&self) -> Result<usize> {
        if self.has_ended() { Err(Errno::EIO) } else { Ok(self.terminal.readable_bytes()) }
    }

    /// `VTIME` out of canonical mode: from the start if nothing need come (`VMIN` 0), else from the last byte that came while it waited.
    fn read_deadline_ns(&self, since_ns: u64) -> Option<u64> {
        let settings = self.terminal.settings();
        if settings.has_local(linux::ICANON) || settings.timeout_ns() == 0 {
            return None;
        }
        let since = match settings.minimum() {
            0 => since_ns,
            _ if self.terminal.readable_bytes() > 0 => self.terminal.last_input_ns().max(since_ns),
            _ => return None,
        };
        Some(since.saturating_add(settings.timeout_ns()))
    }
}
