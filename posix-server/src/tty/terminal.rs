//! A terminal: what joins a device, programs and job control.

use super::line::{Effects, Event, LineDiscipline};
use super::packet::PacketMode;
use super::settings::{Settings, WindowSize};
use super::{Flush, JobControl};
use crate::errno::{Errno, Result};
use crate::file::io::moved_or_fault;
use crate::file::{Destination, PollEvents, Source};
use crate::fs::DeviceNumber;
use crate::platform;
use crate::process::Pid;
use crate::signal::Signal;
use crate::wait::WaitQueue;
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use linux_raw_sys::general as linux;

/// What a terminal's device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A line with a driver at its end.
    Serial,
    /// The slave of a pseudo-terminal: a program at its end.
    Pty,
}

/// How many bytes wait for a serial line at most before writers have to.
pub(super) const MAX_OUTPUT_BYTES: usize = 16 << 10;
/// The same for a pseudo-terminal.
const MAX_PTY_OUTPUT_BYTES: usize = 8 << 10;
/// How many bytes wait for a serial line at most, with echo and with what processing adds to the last write.
const MAX_WAITING_BYTES: usize = 64 << 10;
/// The same for a pseudo-terminal.
const MAX_PTY_WAITING_BYTES: usize = 20 << 10;
/// How many bytes of a write are processed at once.
const WRITE_CHUNK_BYTES: usize = 1024;
/// What a pseudo-terminal's master has for certain, which flushing by the slave does not take away.
const MASTER_BYTES: usize = 4095;

/// What a pseudo-terminal takes of the server's memory at most, about, in bytes.
pub(super) const PTY_BYTES: u64 = (MAX_PTY_WAITING_BYTES + 12 * 1024) as u64;

impl Kind {
    /// How many bytes wait before writers have to, and how many wait at most.
    const fn output_bytes(self) -> (usize, usize) {
        match self {
            Self::Serial => (MAX_OUTPUT_BYTES, MAX_WAITING_BYTES),
            Self::Pty => (MAX_PTY_OUTPUT_BYTES, MAX_PTY_WAITING_BYTES),
        }
    }
}

/// Whether output goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Going,
    Stopped,
}

/// A terminal.
pub struct Terminal {
    kind: Kind,
    device: DeviceNumber,
    line: RefCell<LineDiscipline>,
    /// What waits for the device.
    output: RefCell<VecDeque<u8>>,
    /// How many of these bytes, at the end, came while output was stopped.
    held_bytes: Cell<usize>,
    window: Cell<WindowSize>,
    /// The session that it controls; 0: none.
    session: Cell<Pid>,
    /// The group that may read; 0: none.
    foreground: Cell<Pid>,
    /// How often it has hung up: files that were opened before have ended.
    hang_ups: Cell<u64>,
    /// Whether the device is gone for good.
    is_gone: Cell<bool>,
    /// Whether it can't be opened yet (`TIOCSPTLCK`).
    is_locked: Cell<bool>,
    /// Only the superuser may open it (`TIOCEXCL`).
    is_exclusive: Cell<bool>,
    /// What of the settings can't be changed (`TIOCSLCKTRMIOS`).
    locked_settings: Cell<Settings>,
    /// How many files of it there are.
    files: Cell<u32>,
    /// Whether somebody had it open, and nobody has now.
    is_abandoned: Cell<bool>,
    packet: PacketMode,
    last_input_ns: Cell<u64>,
    /// Whether the device is busy with bytes that it has taken.
    is_sending: Cell<bool>,
    control: Rc<dyn JobControl>,
    /// Woken when programs may go on: input, room for output, a hang-up.
    changed: WaitQueue,
    /// Woken when the device may go on: output, room for input.
    for_device: WaitQueue,
    _alive: crate::census::counted::Terminal,
}

impl core::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Terminal")
            .field("device", &self.device)
            .field("session", &self.session)
            .field("foreground", &self.foreground)
            .finish_non_exhaustive()
    }
}

impl Terminal {
    /// A terminal that controls no session.
    pub fn new(kind: Kind, device: DeviceNumber, control: Rc<dyn JobControl>) -> Rc<Self> {
        let (window, settings) = match kind {
            Kind::Serial => (WindowSize { rows: 24, columns: 80, ..WindowSize::default() }, Settings::new()),
            Kind::Pty => (WindowSize::default(), Settings::of_pty()),
        };
        Rc::new(Self {
            _alive: Default::default(),
            kind,
            device,
            line: RefCell::new(LineDiscipline::with(settings)),
            output: RefCell::new(VecDeque::new()),
            held_bytes: Cell::new(0),
            window: Cell::new(window),
            session: Cell::new(0),
            foreground: Cell::new(0),
            hang_ups: Cell::new(0),
            is_gone: Cell::new(false),
            is_locked: Cell::new(kind == Kind::Pty),
            is_exclusive: Cell::new(false),
            locked_settings: Cell::new(Settings::NONE),
            files: Cell::new(0),
            is_abandoned: Cell::new(false),
            packet: PacketMode::default(),
            last_input_ns: Cell::new(0),
            is_sending: Cell::new(false),
            control,
            changed: WaitQueue::new(),
            for_device: WaitQueue::new(),
        })
    }

    /// What its device is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The number of its device node.
    pub fn device(&self) -> DeviceNumber {
        self.device
    }

    // ---- the device's side ---------------------------------------------------------------------------------------

    /// Takes bytes that were typed; returns how many. Fewer: wait for [`for_device`](Self::for_device) and offer the rest.
    pub fn receive(&self, bytes: &[u8]) -> usize {
        let mut total = 0;
        // What is echoed before output is stopped is shown, and what after it is held: so one part at a time.
        let settings = self.settings();
        for part in bytes.split_inclusive(|byte| settings.stops_output(*byte)) {
            let mut effects = Effects::default();
            let flow = self.flow();
            let count = self.line.borrow_mut().receive(part, &mut effects);
            total += count;
            self.apply(effects, flow);
            if count < part.len() {
                break;
            }
        }
        if total > 0 {
            self.last_input_ns.set(platform::now_ns());
        }
        self.changed.wake();
        total
    }

    /// Up to `max` bytes to be shown. The device says by [`sent`](Self::sent) when they are on their way.
    pub fn take_output(&self, max: usize) -> Vec<u8> {
        let bytes: Vec<u8> = {
            let available = self.available_output().min(max);
            self.output.borrow_mut().drain(..available).collect()
        };
        if !bytes.is_empty() {
            self.is_sending.set(self.kind == Kind::Serial);
            self.changed.wake();
        }
        bytes
    }

    /// How many bytes the device may take now.
    pub fn available_output(&self) -> usize {
        let waiting = self.output.borrow().len();
        match self.kind {
            Kind::Serial if self.line.borrow().is_stopped() => 0,
            Kind::Serial => waiting,
            Kind::Pty => waiting.saturating_sub(self.held_bytes.get()),
        }
    }

    /// What was taken is on its way.
    pub fn sent(&self) {
        self.is_sending.set(false);
        self.changed.wake();
    }

    /// Everything that has it open has ended: readers see the end, writers `EIO`; the session's leader is told.
    pub fn hang_up(&self) {
        self.hang_ups.set(self.hang_ups.get() + 1);
        self.line.borrow_mut().hang_up();
        let (session, foreground) = (self.session.replace(0), self.foreground.replace(0));
        if session != 0 {
            self.control.hang_up_session(session, foreground);
        }
        self.changed.wake();
        self.for_device.wake();
    }

    /// The device is gone: it hangs up, and can't be opened again.
    pub fn end(&self) {
        if !self.is_gone.replace(true) {
            self.hang_up();
            self.flush(Flush::Both);
        }
    }

    /// What is woken when the device may go on.
    pub fn for_device(&self) -> &WaitQueue {
        &self.for_device
    }

    /// The state of packet mode.
    pub fn packet(&self) -> &PacketMode {
        &self.packet
    }

    fn note(&self, status: u32) {
        if self.packet.note(status) {
            self.for_device.wake();
        }
    }

    /// Whether typing would find room.
    pub fn has_input_room(&self) -> bool {
        self.line.borrow().has_room()
    }

    fn flow(&self) -> Flow {
        if self.line.borrow().is_stopped() { Flow::Stopped } else { Flow::Going }
    }

    /// Carries out what came of bytes; `flow` is what it was before.
    fn apply(&self, effects: Effects, flow: Flow) {
        // The flush of a signal character is about what waited before its echo.
        if effects.events.contains(&Event::FlushOutput) {
            self.flush_output();
            self.note(linux::TIOCPKT_FLUSHREAD);
        }
        self.show(effects.output, flow);
        for event in effects.events {
            match event {
                Event::Interrupt => self.signal_foreground(Signal::INT),
                Event::Quit => self.signal_foreground(Signal::QUIT),
                Event::Suspend => self.signal_foreground(Signal::TSTP),
                Event::FlushOutput => {}
                Event::Stop => self.note(linux::TIOCPKT_STOP),
                Event::Start => self.go_on(),
            }
        }
    }

    /// Adds to what waits for the device. Echo has no writer who could wait: what stopped output can't hold is lost.
    fn show(&self, bytes: Vec<u8>, flow: Flow) {
        if bytes.is_empty() {
            return;
        }
        let (_, most) = self.kind.output_bytes();
        let mut output = self.output.borrow_mut();
        let before = output.len();
        output.extend(bytes.into_iter().take(most.saturating_sub(before)));
        if flow == Flow::Stopped {
            self.held_bytes.set(self.held_bytes.get() + output.len() - before);
        }
        drop(output);
        self.for_device.wake();
    }

    fn go_on(&self) {
        self.held_bytes.set(0);
        self.note(linux::TIOCPKT_START);
        self.for_device.wake();
        self.changed.wake();
    }

    /// Sends a signal to the foreground, if there is one.
    pub fn signal_foreground(&self, signal: Signal) {
        if self.foreground.get() != 0 {
            self.control.signal_group(self.foreground.get(), signal);
        }
    }

    // ---- settings ------------------------------------------------------------------------------------------------

    /// The settings.
    pub fn settings(&self) -> Settings {
        *self.line.borrow().settings()
    }

    /// What of them can't be changed.
    pub fn locked_settings(&self) -> &Cell<Settings> {
        &self.locked_settings
    }

    /// Changes them, except for what is locked.
    pub fn set_settings(&self, settings: Settings) {
        let before = self.settings();
        let settings = settings.without_locked(&before, &self.locked_settings.get());
        let settings = match self.kind {
            Kind::Serial => settings,
            Kind::Pty => settings.with_eight_bits(),
        };
        let was_stopped = self.line.borrow().is_stopped();
        self.line.borrow_mut().set_settings(settings);
        if was_stopped && !self.line.borrow().is_stopped() {
            self.go_on();
        }
        self.note(super::packet::change(&before, &settings));
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
        if what != Flush::Output {
            self.line.borrow_mut().flush_input();
            self.note(linux::TIOCPKT_FLUSHREAD);
            self.for_device.wake();
        }
        if what != Flush::Input {
            self.flush_output();
            self.changed.wake();
        }
    }

    fn flush_output(&self) {
        let kept = match self.kind {
            Kind::Serial => 0,
            Kind::Pty => MASTER_BYTES,
        };
        self.output.borrow_mut().truncate(kept);
        self.held_bytes.set(self.held_bytes.get().min(self.output.borrow().len()));
        self.note(linux::TIOCPKT_FLUSHWRITE);
    }

    /// The master of a pseudo-terminal throws away what it has not read.
    pub fn discard_output(&self) {
        self.output.borrow_mut().clear();
        self.held_bytes.set(0);
        self.changed.wake();
    }

    /// Stops output (`TCOOFF`).
    pub fn suspend_output(&self) {
        let before = self.flow();
        self.line.borrow_mut().suspend();
        if before == Flow::Going {
            self.note(linux::TIOCPKT_STOP);
        }
    }

    /// Lets output go on that was stopped so (`TCOON`).
    pub fn resume_output(&self) {
        let before = self.flow();
        self.line.borrow_mut().resume();
        if before != self.flow() {
            self.go_on();
        }
    }

    /// Lets output go on, whoever has stopped it.
    pub fn release_output(&self) {
        self.suspend_output();
        self.resume_output();
    }

    /// Sends one of the characters that stop the other end or let it go on.
    pub fn send_flow_control(&self, character: u8) {
        if character != 0 {
            self.show(Vec::from([character]), Flow::Going);
        }
    }

    /// How many bytes wait for the device, as `TIOCOUTQ` tells: the master of a pseudo-terminal has them at once.
    pub fn pending_output(&self) -> usize {
        match self.kind {
            Kind::Serial => self.output.borrow().len(),
            Kind::Pty => 0,
        }
    }

    /// Whether everything written is on its way.
    pub fn is_drained(&self) -> bool {
        self.is_gone.get() || (self.pending_output() == 0 && !self.is_sending.get())
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

    /// When something was typed last, in ns.
    pub fn last_input_ns(&self) -> u64 {
        self.last_input_ns.get()
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

    // ---- files ---------------------------------------------------------------------------------------------------

    /// Notes that a file of it was opened; returns how often it had hung up before. `EIO` if it is gone or
    /// locked.
    pub(super) fn enter(&self) -> Result<u64> {
        if self.is_gone.get() || self.is_locked.get() {
            return Err(Errno::EIO);
        }
        self.files.set(self.files.get() + 1);
        self.is_abandoned.set(false);
        self.for_device.wake();
        Ok(self.hang_ups.get())
    }

    /// Notes that a file of it was closed. With the last, a pseudo-terminal's session loses it.
    pub(super) fn leave(&self) {
        self.files.set(self.files.get().saturating_sub(1));
        if self.files.get() > 0 {
            return;
        }
        self.is_exclusive.set(false);
        if self.kind == Kind::Pty {
            self.is_abandoned.set(true);
            let session = self.session.replace(0);
            self.foreground.set(0);
            if session != 0 {
                self.control.release_session(session);
            }
        }
        self.for_device.wake();
    }

    /// How many files of it there are.
    pub fn files(&self) -> u32 {
        self.files.get()
    }

    /// Whether the last file has been closed, so that a master reads nothing more.
    pub fn is_abandoned(&self) -> bool {
        self.is_abandoned.get()
    }

    /// Whether a file that was opened after so many hang-ups has ended.
    pub(super) fn has_ended_for(&self, hang_ups: u64) -> bool {
        self.hang_ups.get() != hang_ups
    }

    /// Whether the device is gone for good.
    pub fn is_gone(&self) -> bool {
        self.is_gone.get()
    }

    /// Whether it can't be opened yet.
    pub fn is_locked(&self) -> bool {
        self.is_locked.get()
    }

    /// Locks it, or unlocks it.
    pub fn set_locked(&self, is_locked: bool) {
        self.is_locked.set(is_locked);
    }

    /// Whether only the superuser may open it.
    pub fn is_exclusive(&self) -> bool {
        self.is_exclusive.get()
    }

    /// Sets that.
    pub fn set_exclusive(&self, is_exclusive: bool) {
        self.is_exclusive.set(is_exclusive);
    }

    // ---- programs ------------------------------------------------------------------------------------------------

    /// Whether a read of so many bytes has what it waits for.
    pub(super) fn satisfies(&self, length: usize) -> bool {
        self.line.borrow().satisfies(length)
    }

    /// Hands over what the line discipline gives for a read.
    pub(super) fn hand_over(&self, to: &mut dyn Destination) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let Some(bytes) = self.line.borrow().peek(to.remaining()) else { return Err(Errno::EAGAIN) };
        let count = if bytes.is_empty() { 0 } else { moved_or_fault(to.put(&bytes))? };
        self.line.borrow_mut().consume(count);
        self.for_device.wake();
        Ok(count)
    }

    fn has_output_room(&self) -> bool {
        let (most, _) = self.kind.output_bytes();
        let is_held = self.kind == Kind::Pty && self.line.borrow().is_stopped();
        self.output.borrow().len() < most && !is_held
    }

    /// Takes what a program writes. `EAGAIN`: no room.
    pub(super) fn write(&self, from: &mut dyn Source) -> Result<usize> {
        let mut chunk = [0; WRITE_CHUNK_BYTES];
        let mut total = 0;
        while from.remaining() > 0 {
            if !self.has_output_room() {
                return if total == 0 { Err(Errno::EAGAIN) } else { Ok(total) };
            }
            let wanted = from.remaining().min(WRITE_CHUNK_BYTES);
            let got = from.get(chunk.get_mut(..wanted).unwrap_or_default());
            let mut effects = Effects::default();
            self.line.borrow_mut().write(chunk.get(..got).unwrap_or_default(), &mut effects);
            self.apply(effects, self.flow());
            total += got;
            if got < wanted {
                return moved_or_fault(total);
            }
        }
        Ok(total)
    }

    /// What it is ready for, for programs.
    pub(super) fn readiness(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        events.set(PollEvents::READABLE, self.line.borrow().is_readable());
        events.set(PollEvents::WRITABLE, self.has_output_room());
        events
    }
}
