//! The line discipline: what a terminal does with bytes, after Linux's `n_tty`.
//!
//! Pure: bytes from the keyboard go in by [`receive`](LineDiscipline::receive), bytes from programs by
//! [`write`](LineDiscipline::write); bytes for the screen and [`Event`]s come out in an [`Effects`], bytes for programs by
//! [`read`](LineDiscipline::read).
//!
//! Input is kept in one buffer. A mark at a byte says that a line ends there; in canonical mode, only what is up to the last
//! mark can be read, and what is after it can still be edited.

mod erase;
mod reading;
mod screen;

use super::settings::{Settings, Special};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use erase::Erasure;
use linux_raw_sys::general as linux;

/// How many bytes of input wait at most, with the end of the last line (`N_TTY_BUF_SIZE`).
pub const MAX_INPUT_BYTES: usize = 4096;
/// How many bytes are kept: the last place is for the end of the line.
const ROOM_BYTES: usize = MAX_INPUT_BYTES - 1;

const TAB_COLUMNS: usize = 8;
const BACKSPACE: u8 = 0x08;
const BELL: u8 = 0x07;
/// What marks an error in the input (`PARMRK`).
const PARITY_MARK: u8 = 0xff;

/// What the keyboard asks for besides characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `SIGINT` to the foreground.
    Interrupt,
    /// `SIGQUIT` to the foreground.
    Quit,
    /// `SIGTSTP` to the foreground.
    Suspend,
    /// Output that waits is to be thrown away.
    FlushOutput,
    /// Output stops.
    Stop,
    /// Output goes on.
    Start,
}

/// What comes of an operation.
#[derive(Debug, Default)]
pub struct Effects {
    /// Bytes for the screen.
    pub output: Vec<u8>,
    /// The rest, in order.
    pub events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// In the middle of a line.
    None,
    /// The last byte of a line.
    Line,
    /// Not a byte: the end of a line or, alone, of the file.
    EndOfFile,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    byte: u8,
    mark: Mark,
}

/// The state of a terminal between keyboard, screen and programs.
#[derive(Debug)]
pub struct LineDiscipline {
    settings: Settings,
    input: VecDeque<Item>,
    /// How many items are up to the last mark.
    complete: usize,
    /// The screen's column, as far as it can be told from what was written.
    column: usize,
    /// The column where the line that is edited begins.
    line_column: usize,
    literal_next: bool,
    /// In the middle of showing what is erased (`ECHOPRT`).
    showing_erased: bool,
    stopped: bool,
    /// Stopped by a program (`TCOOFF`): keys don't let it go on.
    suspended: bool,
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// Letters of Latin-1 in lower case, as Linux takes them.
fn to_lowercase(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' | 0xc0..=0xd6 | 0xd8..=0xde => byte + 0x20,
        _ => byte,
    }
}

/// The same in upper case.
fn to_uppercase(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | 0xe0..=0xf6 | 0xf8..=0xfe => byte - 0x20,
        _ => byte,
    }
}

impl LineDiscipline {
    /// A terminal with the usual settings and nothing typed.
    pub fn new() -> Self {
        Self::with(Settings::new())
    }

    /// A terminal with these settings and nothing typed.
    pub fn with(settings: Settings) -> Self {
        Self {
            settings,
            input: VecDeque::new(),
            complete: 0,
            column: 0,
            line_column: 0,
            literal_next: false,
            showing_erased: false,
            stopped: false,
            suspended: false,
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings. When canonical mode begins or ends, what was typed becomes readable.
    pub fn set_settings(&mut self, settings: Settings) {
        let changed = self.settings.local ^ settings.local;
        if changed & (linux::ICANON | linux::EXTPROC) != 0 {
            self.complete = self.input.len();
            if settings.has_local(linux::ICANON)
                && let Some(last) = self.input.back_mut().filter(|last| last.mark == Mark::None)
            {
                last.mark = Mark::Line;
            }
            self.literal_next = false;
            self.showing_erased = false;
        }
        if self.settings.has_input(linux::IXON) && !settings.has_input(linux::IXON) {
            self.stopped = self.suspended;
        }
        self.settings = settings;
    }

    /// Whether output is stopped (`^S`, `TCOOFF`).
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Stops output, as a program does (`TCOOFF`).
    pub fn suspend(&mut self) {
        self.stopped = true;
        self.suspended = true;
    }

    /// Lets output go on that a program has stopped (`TCOON`).
    pub fn resume(&mut self) {
        if core::mem::take(&mut self.suspended) {
            self.stopped = false;
        }
    }

    /// Lets output go on that a key has stopped.
    fn go_on(&mut self, effects: &mut Effects) {
        if self.stopped && !self.suspended {
            self.stopped = false;
            effects.events.push(Event::Start);
        }
    }

    /// Whether lines are edited here: not if somebody else does (`EXTPROC`).
    fn is_canonical(&self) -> bool {
        self.settings.local & (linux::ICANON | linux::EXTPROC) == linux::ICANON
    }

    /// The device has gone: nothing waits any more.
    pub fn hang_up(&mut self) {
        self.flush_input();
        self.stopped = false;
        self.suspended = false;
    }

    /// Whether the keyboard would find room.
    pub fn has_room(&self) -> bool {
        !self.is_full()
    }

    /// Throws away what was typed.
    pub fn flush_input(&mut self) {
        self.input.clear();
        self.complete = 0;
        self.literal_next = false;
        self.showing_erased = false;
    }

    // ---- the keyboard --------------------------------------------------------------------------------------------

    /// Takes bytes from the keyboard; returns how many. Fewer than given: the buffer is full until somebody reads.
    pub fn receive(&mut self, bytes: &[u8], effects: &mut Effects) -> usize {
        for (count, byte) in bytes.iter().enumerate() {
            if self.is_full() && !self.acts_at_once(*byte) {
                return count;
            }
            self.receive_byte(*byte, effects);
        }
        bytes.len()
    }

    /// Full, with something to read: in canonical mode, a line without an end must not block its own end.
    fn is_full(&self) -> bool {
        self.input.len() >= ROOM_BYTES && (!self.is_canonical() || self.complete > 0)
    }

    /// Whether a byte is a signal or flow control, which work also when the buffer is full.
    fn acts_at_once(&self, byte: u8) -> bool {
        let signals = [Special::Interrupt, Special::Quit, Special::Suspend];
        let flow = [Special::Start, Special::Stop];
        let is_any = |specials: &[Special]| specials.iter().any(|special| self.settings.is_special(*special, byte));
        (self.settings.has_local(linux::ISIG) && is_any(&signals))
            || (self.settings.has_input(linux::IXON) && is_any(&flow))
    }

    fn receive_byte(&mut self, byte: u8, effects: &mut Effects) {
        if self.settings.has_local(linux::EXTPROC) {
            self.store(byte, Mark::None, effects);
            self.complete = self.input.len();
            return;
        }
        let byte = self.converted(byte);
        if core::mem::take(&mut self.literal_next) {
            self.echo_typed(byte, effects);
            self.store(byte, Mark::None, effects);
            return;
        }
        if self.receive_flow_control(byte, effects) || self.receive_signal(byte, effects) {
            return;
        }
        let byte = match byte {
            b'\r' if self.settings.has_input(linux::IGNCR) => return,
            b'\r' if self.settings.has_input(linux::ICRNL) => b'\n',
            b'\n' if self.settings.has_input(linux::INLCR) => b'\r',
            other => other,
        };
        if self.is_canonical() && self.receive_editing(byte, effects) {
            return;
        }
        self.echo_typed(byte, effects);
        // `PARMRK`: the byte that marks errors is doubled, so that it can be told from a mark.
        if byte == PARITY_MARK && self.settings.has_input(linux::PARMRK) {
            self.store(byte, Mark::None, effects);
        }
        self.store(byte, Mark::None, effects);
        if !self.is_canonical() {
            self.complete = self.input.len();
        }
    }

    /// A byte of fewer bits, or in lower case, if the settings say so.
    fn converted(&self, byte: u8) -> u8 {
        let byte = if self.settings.has_input(linux::ISTRIP) { byte & 0x7f } else { byte };
        let lowers = self.settings.has_input(linux::IUCLC) && self.settings.has_local(linux::IEXTEN);
        if lowers { to_lowercase(byte) } else { byte }
    }

    fn receive_flow_control(&mut self, byte: u8, effects: &mut Effects) -> bool {
        if !self.settings.has_input(linux::IXON) {
            return false;
        }
        if self.settings.is_special(Special::Start, byte) {
            self.go_on(effects);
            return true;
        }
        if self.settings.is_special(Special::Stop, byte) {
            if !core::mem::replace(&mut self.stopped, true) {
                effects.events.push(Event::Stop);
            }
            return true;
        }
        if self.settings.has_input(linux::IXANY) {
            self.go_on(effects);
        }
        false
    }

    fn receive_signal(&mut self, byte: u8, effects: &mut Effects) -> bool {
        if !self.settings.has_local(linux::ISIG) {
            return false;
        }
        let signals =
            [(Special::Interrupt, Event::Interrupt), (Special::Quit, Event::Quit), (Special::Suspend, Event::Suspend)];
        let Some((_, event)) = signals.iter().find(|(special, _)| self.settings.is_special(*special, byte)) else {
            return false;
        };
        if !self.settings.has_local(linux::NOFLSH) {
            self.flush_input();
            effects.output.clear();
            effects.events.push(Event::FlushOutput);
        }
        if self.settings.has_input(linux::IXON) {
            self.go_on(effects);
        }
        if self.settings.has_local(linux::ECHO) {
            self.echo(byte, effects);
        }
        effects.events.push(*event);
        true
    }

    /// Handles a byte that edits or ends the line.
    fn receive_editing(&mut self, byte: u8, effects: &mut Effects) -> bool {
        let extended = self.settings.has_local(linux::IEXTEN);
        let is = |special| self.settings.is_special(special, byte);
        if is(Special::Erase) {
            self.erase(Erasure::Character, effects);
        } else if is(Special::Kill) {
            self.erase(Erasure::Line, effects);
        } else if extended && is(Special::EraseWord) {
            self.erase(Erasure::Word, effects);
        } else if extended && is(Special::LiteralNext) {
            self.begin_literal(effects);
        } else if extended && is(Special::Reprint) && self.settings.has_local(linux::ECHO) {
            self.reprint(byte, effects);
        } else if byte == b'\n' {
            if self.settings.has_local(linux::ECHO) || self.settings.has_local(linux::ECHONL) {
                self.finish_erasing(effects);
                self.put(b'\n', effects);
            }
            self.end_line(byte, Mark::Line);
        } else if is(Special::EndOfFile) {
            self.end_line(0, Mark::EndOfFile);
        } else if is(Special::EndOfLine) || (extended && is(Special::EndOfLine2)) {
            self.echo_typed(byte, effects);
            self.end_line(byte, Mark::Line);
        } else {
            return false;
        }
        true
    }

    fn begin_literal(&mut self, effects: &mut Effects) {
        self.literal_next = true;
        if self.settings.has_local(linux::ECHO) {
            self.finish_erasing(effects);
            if self.settings.has_local(linux::ECHOCTL) {
                self.put(b'^', effects);
                self.put(BACKSPACE, effects);
            }
        }
    }

    fn reprint(&mut self, byte: u8, effects: &mut Effects) {
        self.finish_erasing(effects);
        self.echo(byte, effects);
        self.put(b'\n', effects);
        let typed: Vec<u8> = self.input.range(self.complete..).map(|item| item.byte).collect();
        typed.into_iter().for_each(|byte| self.echo(byte, effects));
    }

    /// Keeps a byte. A line that is too long loses what does not fit, with a bell.
    fn store(&mut self, byte: u8, mark: Mark, effects: &mut Effects) {
        if self.input.len() < ROOM_BYTES {
            self.input.push_back(Item { byte, mark });
        } else if self.settings.has_input(linux::IMAXBEL) {
            effects.output.push(BELL);
        }
    }

    fn end_line(&mut self, byte: u8, mark: Mark) {
        if self.input.len() < MAX_INPUT_BYTES {
            self.input.push_back(Item { byte, mark });
        } else if let Some(last) = self.input.back_mut() {
            last.mark = mark;
        }
        self.complete = self.input.len();
    }
}

impl Default for LineDiscipline {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
