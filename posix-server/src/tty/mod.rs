//! Terminals.
//!
//! A [`Terminal`] joins three parties: the device (tasks that bring what is typed by [`Terminal::receive`] and carry away what is to
//! be shown by [`Terminal::take_output`]), the programs (files, [`TerminalFile`]), and job control (the session that it controls,
//! the foreground group). What happens to bytes between them is the pure [`line`] discipline.

pub mod line;
pub mod serial;
pub mod settings;

use crate::errno::{Errno, Result};
use crate::file::io::moved_or_fault;
use crate::file::{Destination, FileOps, PollEvents, Positioning, Source};
use crate::platform;
use crate::process::Pid;
use crate::signal::Signal;
use crate::wait::WaitQueue;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use line::{Effects, Event, LineDiscipline};
use linux_raw_sys::general as linux;
use settings::{Settings, WindowSize};

/// How many bytes wait for the device at most before writers have to.
const MAX_OUTPUT_BYTES: usize = 16 << 10;
/// How many bytes wait at most, with echo and with what processing adds to the last write.
const MAX_WAITING_BYTES: usize = 64 << 10;
/// How many bytes of a write are processed at once.
const WRITE_CHUNK_BYTES: usize = 2048;

/// Who sends signals to a group of processes.
pub trait GroupSignals {
    /// Sends it to every member.
    fn signal_group(&self, group: Pid, signal: Signal);
}

/// What `tcflush` throws away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// What was typed and not read.
    Input,
    /// What was written and not sent.
    Output,
    /// Both.
    Both,
}

/// A terminal.
pub struct Terminal {
    line: RefCell<LineDiscipline>,
    /// What waits for the device.
    output: RefCell<VecDeque<u8>>,
    window: Cell<WindowSize>,
    /// The session that it controls; 0: none.
    session: Cell<Pid>,
    /// The group that may read; 0: none.
    foreground: Cell<Pid>,
    is_hung_up: Cell<bool>,
    last_input_ns: Cell<u64>,
    /// Whether the device is busy with bytes that it has taken.
    is_sending: Cell<bool>,
    groups: Rc<dyn GroupSignals>,
    /// Woken when programs may go on: input, room for output, a hang-up.
    changed: WaitQueue,
    /// Woken when the device may go on: output, room for input.
    for_device: WaitQueue,
}

impl core::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Terminal")
            .field("session", &self.session)
            .field("foreground", &self.foreground)
            .finish_non_exhaustive()
    }
}

impl Terminal {
    /// A terminal that controls no session.
    pub fn new(groups: Rc<dyn GroupSignals>) -> Rc<Self> {
        Rc::new(Self {
            line: RefCell::new(LineDiscipline::new()),
            output: RefCell::new(VecDeque::new()),
            window: Cell::new(WindowSize { rows: 24, columns: 80, ..WindowSize::default() }),
            session: Cell::new(0),
            foreground: Cell::new(0),
            is_hung_up: Cell::new(false),
            last_input_ns: Cell::new(0),
            is_sending: Cell::new(false),
            groups,
            changed: WaitQueue::new(),
            for_device: WaitQueue::new(),
        })
    }

    // ---- the device's side ---------------------------------------------------------------------------------------

    /// Takes bytes that were typed; returns how many. Fewer: wait for [`for_device`](Self::for_device) and offer the rest.
    pub fn receive(&self, bytes: &[u8]) -> usize {
        let mut effects = Effects::default();
        let count = self.line.borrow_mut().receive(bytes, &mut effects);
        if count > 0 {
            self.last_input_ns.set(platform::now_ns());
        }
        self.apply(effects);
        self.changed.wake();
        count
    }

    /// Up to `max` bytes to be shown. The device says by [`sent`](Self::sent) when they are on their way.
    pub fn take_output(&self, max: usize) -> Vec<u8> {
        if self.line.borrow().is_stopped() {
            return Vec::new();
        }
        let bytes: Vec<u8> = {
            let mut output = self.output.borrow_mut();
            let count = output.len().min(max);
            output.drain(..count).collect()
        };
        if !bytes.is_empty() {
            self.is_sending.set(true);
            self.changed.wake();
        }
        bytes
    }

    /// What was taken is on its way.
    pub fn sent(&self) {
        self.is_sending.set(false);
        self.changed.wake();
    }

    /// The device is gone: readers see the end, writers `EIO`, the session is told.
    pub fn hang_up(&self) {
        if self.is_hung_up.replace(true) {
            return;
        }
        self.flush(Flush::Both);
        let group = self.foreground.get();
        if group != 0 {
            self.groups.signal_group(group, Signal::HUP);
            self.groups.signal_group(group, Signal::CONT);
        }
        self.changed.wake();
    }

    /// What is woken when the device may go on.
    pub fn for_device(&self) -> &WaitQueue {
        &self.for_device
    }

    fn apply(&self, effects: Effects) {
        // The flush of a signal character is about what waited before its echo.
        if effects.events.contains(&Event::FlushOutput) {
            self.output.borrow_mut().clear();
        }
        if !effects.output.is_empty() {
            let mut output = self.output.borrow_mut();
            // Echo has no writer who could wait. What stopped output can't hold is lost.
            let room = MAX_WAITING_BYTES.saturating_sub(output.len());
            output.extend(effects.output.into_iter().take(room));
            drop(output);
            self.for_device.wake();
        }
        for event in effects.events {
            match event {
                Event::Interrupt => self.signal_foreground(Signal::INT),
                Event::Quit => self.signal_foreground(Signal::QUIT),
                Event::Suspend => self.signal_foreground(Signal::TSTP),
                Event::FlushOutput | Event::Stop => {}
                Event::Start => self.for_device.wake(),
            }
        }
    }

    fn signal_foreground(&self, signal: Signal) {
        if self.foreground.get() != 0 {
            self.groups.signal_group(self.foreground.get(), signal);
        }
    }

    // ---- settings ------------------------------------------------------------------------------------------------

    /// The settings.
    pub fn settings(&self) -> Settings {
        *self.line.borrow().settings()
    }

    /// Changes them.
    pub fn set_settings(&self, settings: Settings) {
        self.line.borrow_mut().set_settings(settings);
        self.changed.wake();
        self.for_device.wake();
    }

    /// The window's size.
    pub fn window(&self) -> WindowSize {
        self.window.get()
    }

    /// Changes it, and tells the foreground if it differs.
    pub fn set_window(&self, window: WindowSize) {
        if self.window.replace(window) != window {
            self.signal_foreground(Signal::WINCH);
        }
    }

    /// Throws away what waits.
    pub fn flush(&self, what: Flush) {
        let (input, output) = match what {
            Flush::Input => (true, false),
            Flush::Output => (false, true),
            Flush::Both => (true, true),
        };
        if input {
            self.line.borrow_mut().flush_input();
            self.for_device.wake();
        }
        if output {
            self.output.borrow_mut().clear();
            self.changed.wake();
        }
    }

    /// Stops output or lets it go on (`tcflow`).
    pub fn set_flow(&self, event: Event) {
        self.line.borrow_mut().set_stopped(event);
        self.for_device.wake();
    }

    /// How many bytes wait for the device.
    pub fn pending_output(&self) -> usize {
        self.output.borrow().len()
    }

    /// Whether everything written is on its way.
    pub fn is_drained(&self) -> bool {
        self.is_hung_up.get() || (self.output.borrow().is_empty() && !self.is_sending.get())
    }

    /// Ready when everything written is on its way.
    pub async fn drained(&self) {
        loop {
            let listener = self.changed.listen();
            if self.is_drained() {
                return;
            }
            listener.await;
        }
    }

    /// How many bytes can be read.
    pub fn readable_bytes(&self) -> usize {
        self.line.borrow().readable_bytes()
    }

    /// What is woken when a program may go on.
    pub fn changed(&self) -> &WaitQueue {
        &self.changed
    }

    // ---- job control ---------------------------------------------------------------------------------------------

    /// The session that it controls; 0: none.
    pub fn session(&self) -> Pid {
        self.session.get()
    }

    /// The foreground group; 0: none.
    pub fn foreground(&self) -> Pid {
        self.foreground.get()
    }

    /// Makes it control a session, with its leader's group in the foreground; or none, with zeroes.
    pub fn set_session(&self, session: Pid, foreground: Pid) {
        self.session.set(session);
        self.foreground.set(foreground);
    }

    /// Changes the foreground group.
    pub fn set_foreground(&self, group: Pid) {
        self.foreground.set(group);
    }

    // ---- programs ------------------------------------------------------------------------------------------------

    /// Hands over what the line discipline gives for a read.
    fn hand_over(&self, to: &mut dyn Destination) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let Some(bytes) = self.line.borrow().peek(to.remaining()) else {
            return if self.is_hung_up.get() { Ok(0) } else { Err(Errno::EAGAIN) };
        };
        let count = if bytes.is_empty() { 0 } else { moved_or_fault(to.put(&bytes))? };
        self.line.borrow_mut().consume(count);
        self.for_device.wake();
        Ok(count)
    }

    fn write(&self, from: &mut dyn Source) -> Result<usize> {
        if self.is_hung_up.get() {
            return Err(Errno::EIO);
        }
        let mut chunk = [0; WRITE_CHUNK_BYTES];
        let mut total = 0;
        while from.remaining() > 0 {
            if self.output.borrow().len() >= MAX_OUTPUT_BYTES {
                return if total == 0 { Err(Errno::EAGAIN) } else { Ok(total) };
            }
            let wanted = from.remaining().min(WRITE_CHUNK_BYTES);
            let got = from.get(chunk.get_mut(..wanted).unwrap_or_default());
            let mut effects = Effects::default();
            self.line.borrow_mut().write(chunk.get(..got).unwrap_or_default(), &mut effects);
            self.apply(effects);
            total += got;
            if got < wanted {
                return moved_or_fault(total);
            }
        }
        Ok(total)
    }
}

/// A terminal that is open.
pub struct TerminalFile {
    terminal: Rc<Terminal>,
}

impl TerminalFile {
    /// Opens it. `EIO` if it has hung up.
    pub fn open(terminal: &Rc<Terminal>) -> Result<Self> {
        if terminal.is_hung_up.get() {
            return Err(Errno::EIO);
        }
        Ok(Self { terminal: terminal.clone() })
    }
}

impl FileOps for TerminalFile {
    fn read(&self, position: u64, to: &mut dyn Destination) -> Result<usize> {
        let satisfied = self.terminal.line.borrow().satisfies(to.remaining()) || self.terminal.is_hung_up.get();
        if satisfied { self.read_now(position, to) } else { Err(Errno::EAGAIN) }
    }

    fn read_now(&self, _position: u64, to: &mut dyn Destination) -> Result<usize> {
        self.terminal.hand_over(to)
    }

    fn write(&self, _position: u64, from: &mut dyn Source) -> Result<usize> {
        self.terminal.write(from)
    }

    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn readiness(&self) -> PollEvents {
        if self.terminal.is_hung_up.get() {
            return PollEvents::READABLE | PollEvents::WRITABLE | PollEvents::HANG_UP | PollEvents::ERROR;
        }
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, self.terminal.line.borrow().is_readable());
        events.set(PollEvents::WRITABLE, self.terminal.output.borrow().len() < MAX_OUTPUT_BYTES);
        events
    }

    fn wait_queue(&self) -> Option<&WaitQueue> {
        Some(&self.terminal.changed)
    }

    fn terminal(&self) -> Option<&Rc<Terminal>> {
        Some(&self.terminal)
    }

    fn readable_bytes(&self) -> Result<usize> {
        Ok(self.terminal.readable_bytes())
    }

    /// `VTIME` out of canonical mode: from the start if nothing need come (`VMIN` 0), else from the last byte that came.
    fn read_deadline_ns(&self, since_ns: u64) -> Option<u64> {
        let settings = self.terminal.settings();
        if settings.has_local(linux::ICANON) || settings.timeout_ns() == 0 {
            return None;
        }
        let since = match settings.minimum() {
            0 => since_ns,
            _ if self.terminal.readable_bytes() > 0 => self.terminal.last_input_ns.get(),
            _ => return None,
        };
        Some(since.saturating_add(settings.timeout_ns()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::io::{SliceDestination, SliceSource};

    #[derive(Default)]
    struct Recorder(RefCell<Vec<(Pid, Signal)>>);

    impl GroupSignals for Recorder {
        fn signal_group(&self, group: Pid, signal: Signal) {
            self.0.borrow_mut().push((group, signal));
        }
    }

    fn terminal() -> (Rc<Terminal>, Rc<Recorder>) {
        let recorder = Rc::new(Recorder::default());
        (Terminal::new(recorder.clone()), recorder)
    }

    #[test]
    fn the_interrupt_key_signals_the_foreground_group() {
        let (terminal, recorder) = terminal();
        terminal.receive(b"\x03");
        assert!(recorder.0.borrow().is_empty(), "nobody is in the foreground");
        terminal.set_session(5, 7);
        terminal.receive(b"\x03");
        assert_eq!(*recorder.0.borrow(), [(7, Signal::INT)]);
        assert_eq!(terminal.take_output(100), b"^C");
    }

    #[test]
    fn a_reader_gets_a_line_and_is_woken_for_it() {
        let (terminal, _) = terminal();
        let file = TerminalFile::open(&terminal).unwrap();
        let mut buffer = [0; 10];
        assert_eq!(file.read(0, &mut SliceDestination::new(&mut buffer)), Err(Errno::EAGAIN));
        let listener = file.wait_queue().unwrap().listen();
        terminal.receive(b"hi\r");
        assert!(listener.is_notified() && file.readiness().contains(PollEvents::IN));
        assert_eq!(file.read(0, &mut SliceDestination::new(&mut buffer)), Ok(3));
        assert_eq!(&buffer[..3], b"hi\n");
    }

    #[test]
    fn writers_wait_when_the_device_is_slow() {
        let (terminal, _) = terminal();
        let file = TerminalFile::open(&terminal).unwrap();
        let bytes = [b'x'; 3 * MAX_OUTPUT_BYTES];
        let written = file.write(0, &mut SliceSource::new(&bytes)).unwrap();
        assert!((MAX_OUTPUT_BYTES..bytes.len()).contains(&written));
        assert_eq!(file.write(0, &mut SliceSource::new(&bytes)), Err(Errno::EAGAIN));
        assert!(!file.readiness().contains(PollEvents::OUT));
        terminal.take_output(2 * MAX_OUTPUT_BYTES);
        assert!(file.readiness().contains(PollEvents::OUT) && !terminal.is_drained());
        terminal.sent();
        assert!(terminal.is_drained());
    }

    #[test]
    fn a_hang_up_ends_reading_and_breaks_writing() {
        let (terminal, recorder) = terminal();
        let file = TerminalFile::open(&terminal).unwrap();
        terminal.set_session(5, 7);
        terminal.hang_up();
        assert_eq!(file.read(0, &mut SliceDestination::new(&mut [0; 4])), Ok(0));
        assert_eq!(file.write(0, &mut SliceSource::new(b"x")), Err(Errno::EIO));
        assert_eq!(recorder.0.borrow().first(), Some(&(7, Signal::HUP)));
    }

    #[test]
    fn stopped_output_waits() {
        let (terminal, _) = terminal();
        let file = TerminalFile::open(&terminal).unwrap();
        terminal.receive(b"\x13");
        file.write(0, &mut SliceSource::new(b"abc")).unwrap();
        assert!(terminal.take_output(10).is_empty());
        terminal.receive(b"\x11");
        assert_eq!(terminal.take_output(10), b"abc");
    }
}
