//! The line discipline: what a terminal does with bytes, after Linux's `n_tty`.
//!
//! Pure: bytes from the keyboard go in by [`receive`](LineDiscipline::receive), bytes from programs by
//! [`write`](LineDiscipline::write); bytes for the screen and [`Event`]s come out in an [`Effects`], bytes for programs by
//! [`read`](LineDiscipline::read).
//!
//! Input is kept in one buffer. A mark at a byte says that a line ends there; in canonical mode, only what is up to the last
//! mark can be read, and what is after it can still be edited.

use super::settings::{Settings, Special};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use linux_raw_sys::general as linux;

/// How many bytes of input wait at most (`N_TTY_BUF_SIZE` less one).
pub const MAX_INPUT_BYTES: usize = 4095;

const TAB_COLUMNS: usize = 8;
const BACKSPACE: u8 = 0x08;
const BELL: u8 = 0x07;

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Erasure {
    Character,
    Word,
    Line,
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
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

impl LineDiscipline {
    /// A terminal with the usual settings and nothing typed.
    pub fn new() -> Self {
        Self {
            settings: Settings::new(),
            input: VecDeque::new(),
            complete: 0,
            column: 0,
            line_column: 0,
            literal_next: false,
            showing_erased: false,
            stopped: false,
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings. When canonical mode begins or ends, what was typed becomes readable.
    pub fn set_settings(&mut self, settings: Settings) {
        let changed = self.settings.local ^ settings.local;
        if changed & linux::ICANON != 0 {
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
            self.stopped = false;
        }
        self.settings = settings;
    }

    /// Whether output is stopped (`^S`, `TCOOFF`).
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Stops output, or lets it go on.
    pub fn set_stopped(&mut self, event: Event) {
        match event {
            Event::Stop => self.stopped = true,
            Event::Start => self.stopped = false,
            Event::Interrupt | Event::Quit | Event::Suspend | Event::FlushOutput => {}
        }
    }

    fn is_canonical(&self) -> bool {
        self.settings.has_local(linux::ICANON)
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
        self.input.len() >= self.room() && (!self.is_canonical() || self.complete > 0)
    }

    /// How many bytes are kept. In canonical mode, the last place is for the end of the line.
    fn room(&self) -> usize {
        if self.is_canonical() { MAX_INPUT_BYTES - 1 } else { MAX_INPUT_BYTES }
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
        let byte = if self.settings.has_input(linux::ISTRIP) { byte & 0x7f } else { byte };
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
        self.store(byte, Mark::None, effects);
        if !self.is_canonical() {
            self.complete = self.input.len();
        }
    }

    fn receive_flow_control(&mut self, byte: u8, effects: &mut Effects) -> bool {
        if !self.settings.has_input(linux::IXON) {
            return false;
        }
        if self.settings.is_special(Special::Start, byte) {
            self.stopped = false;
            effects.events.push(Event::Start);
            return true;
        }
        if self.settings.is_special(Special::Stop, byte) {
            self.stopped = true;
            effects.events.push(Event::Stop);
            return true;
        }
        if self.stopped && self.settings.has_input(linux::IXANY) {
            self.stopped = false;
            effects.events.push(Event::Start);
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
        if self.settings.has_input(linux::IXON) && self.stopped {
            self.stopped = false;
            effects.events.push(Event::Start);
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
        if self.input.len() < self.room() {
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

    // ---- erasing -------------------------------------------------------------------------------------------------

    fn erase(&mut self, what: Erasure, effects: &mut Effects) {
        if self.input.len() == self.complete {
            return;
        }
        let echo = self.settings.has_local(linux::ECHO);
        let rubs_out_lines = linux::ECHOK | linux::ECHOKE | linux::ECHOE;
        if what == Erasure::Line && (!echo || self.settings.local & rubs_out_lines != rubs_out_lines) {
            self.input.truncate(self.complete);
            if echo {
                self.finish_erasing(effects);
                self.echo(self.settings.special(Special::Kill), effects);
                if self.settings.has_local(linux::ECHOK) {
                    self.put(b'\n', effects);
                }
            }
            return;
        }
        let mut seen_word = false;
        while self.input.len() > self.complete {
            let Some((first, length)) = self.last_character() else { break };
            let in_word = first.is_ascii_alphanumeric() || first == b'_';
            if what == Erasure::Word && !in_word && seen_word {
                break;
            }
            seen_word |= in_word;
            self.input.truncate(self.input.len() - length);
            if echo {
                self.show_erased(first, what, effects);
            }
            if what == Erasure::Character {
                break;
            }
        }
        if self.input.len() == self.complete && echo {
            self.finish_erasing(effects);
        }
    }

    /// The first byte of the last character, and how many bytes it has: more than one only in UTF-8 (`IUTF8`).
    fn last_character(&self) -> Option<(u8, usize)> {
        let mut length = 0;
        for item in self.input.range(self.complete..).rev() {
            length += 1;
            if !self.is_continuation(item.byte) {
                return Some((item.byte, length));
            }
        }
        None
    }

    fn is_continuation(&self, byte: u8) -> bool {
        self.settings.has_input(linux::IUTF8) && byte & 0xc0 == 0x80
    }

    fn show_erased(&mut self, byte: u8, what: Erasure, effects: &mut Effects) {
        if self.settings.has_local(linux::ECHOPRT) {
            if !core::mem::replace(&mut self.showing_erased, true) {
                self.put(b'\\', effects);
            }
            self.echo(byte, effects);
        } else if what == Erasure::Character && !self.settings.has_local(linux::ECHOE) {
            self.echo(self.settings.special(Special::Erase), effects);
        } else if byte == b'\t' {
            let columns = self.columns_before_tab();
            (0..TAB_COLUMNS - columns % TAB_COLUMNS).for_each(|_| self.put(BACKSPACE, effects));
        } else {
            let shown = match (is_control(byte), self.settings.has_local(linux::ECHOCTL)) {
                (true, true) => 2,
                (true, false) => 0,
                (false, _) => 1,
            };
            for _ in 0..shown {
                [BACKSPACE, b' ', BACKSPACE].into_iter().for_each(|byte| self.put(byte, effects));
            }
        }
    }

    /// The column at which a tab that has just been taken away began.
    fn columns_before_tab(&self) -> usize {
        let mut columns = 0;
        for item in self.input.range(self.complete..).rev() {
            if item.byte == b'\t' {
                return columns;
            }
            if is_control(item.byte) {
                columns += if self.settings.has_local(linux::ECHOCTL) { 2 } else { 0 };
            } else if !self.is_continuation(item.byte) {
                columns += 1;
            }
        }
        columns + self.line_column
    }

    fn finish_erasing(&mut self, effects: &mut Effects) {
        if core::mem::take(&mut self.showing_erased) {
            self.put(b'/', effects);
        }
    }

    // ---- the screen ----------------------------------------------------------------------------------------------

    /// Echoes a byte that becomes input.
    fn echo_typed(&mut self, byte: u8, effects: &mut Effects) {
        if !self.settings.has_local(linux::ECHO) {
            return;
        }
        self.finish_erasing(effects);
        if self.input.len() == self.complete {
            self.line_column = self.column;
        }
        if byte == b'\n' { self.put(byte, effects) } else { self.echo(byte, effects) }
    }

    /// Shows a byte, control characters as `^X`.
    fn echo(&mut self, byte: u8, effects: &mut Effects) {
        const CONTROL_BIT: u8 = 0o100;
        if self.settings.has_local(linux::ECHOCTL) && is_control(byte) && byte != b'\t' {
            self.put(b'^', effects);
            self.put(byte ^ CONTROL_BIT, effects);
        } else {
            self.put(byte, effects);
        }
    }

    /// Takes bytes from a program; what comes of them goes to the screen.
    pub fn write(&mut self, bytes: &[u8], effects: &mut Effects) {
        if !self.settings.has_output(linux::OPOST) {
            effects.output.extend_from_slice(bytes);
            return;
        }
        bytes.iter().for_each(|byte| self.put(*byte, effects));
    }

    /// One byte to the screen, with output processing.
    fn put(&mut self, byte: u8, effects: &mut Effects) {
        if !self.settings.has_output(linux::OPOST) {
            effects.output.push(byte);
            return;
        }
        match byte {
            b'\n' => self.put_newline(effects),
            b'\r' => self.put_return(effects),
            b'\t' => {
                let spaces = TAB_COLUMNS - self.column % TAB_COLUMNS;
                self.column += spaces;
                if self.settings.output & linux::TABDLY == linux::XTABS {
                    (0..spaces).for_each(|_| effects.output.push(b' '));
                } else {
                    effects.output.push(byte);
                }
            }
            BACKSPACE => {
                self.column = self.column.saturating_sub(1);
                effects.output.push(byte);
            }
            _ => {
                if !is_control(byte) && !self.is_continuation(byte) {
                    self.column += 1;
                }
                let upper = self.settings.has_output(linux::OLCUC);
                effects.output.push(if upper { byte.to_ascii_uppercase() } else { byte });
            }
        }
    }

    fn put_newline(&mut self, effects: &mut Effects) {
        if self.settings.has_output(linux::ONLCR) {
            self.column = 0;
            effects.output.extend_from_slice(b"\r\n");
        } else {
            if self.settings.has_output(linux::ONLRET) {
                self.column = 0;
            }
            effects.output.push(b'\n');
        }
        self.line_column = self.column;
    }

    fn put_return(&mut self, effects: &mut Effects) {
        if self.settings.has_output(linux::ONOCR) && self.column == 0 {
            return;
        }
        if self.settings.has_output(linux::OCRNL) {
            if self.settings.has_output(linux::ONLRET) {
                self.column = 0;
                self.line_column = 0;
            }
            effects.output.push(b'\n');
        } else {
            self.column = 0;
            self.line_column = 0;
            effects.output.push(b'\r');
        }
    }

    // ---- programs ------------------------------------------------------------------------------------------------

    /// How many bytes can be read without waiting for a line's end or for more than there are.
    pub fn readable_bytes(&self) -> usize {
        if !self.is_canonical() {
            return self.complete;
        }
        self.input.range(..self.complete).filter(|item| item.mark != Mark::EndOfFile).count()
    }

    /// Whether `poll` calls it readable: a line, or as many bytes as a read waits for.
    pub fn is_readable(&self) -> bool {
        if self.is_canonical() {
            return self.complete > 0;
        }
        let minimum = if self.settings.timeout_ns() == 0 { self.settings.minimum().max(1) } else { 1 };
        self.input.len() >= minimum
    }

    /// Whether a read of up to `length` bytes has what it waits for. Out of canonical mode, this leaves time aside.
    pub fn satisfies(&self, length: usize) -> bool {
        if self.is_canonical() {
            return self.complete > 0;
        }
        let minimum = self.settings.minimum();
        let polls = minimum == 0 && self.settings.timeout_ns() == 0;
        polls || self.input.len() >= minimum.min(length).max(1)
    }

    /// What a read of up to `length` bytes would give, without taking it. `None`: it is not there yet. An empty answer is
    /// the end of the file, or a read that polls.
    pub fn peek(&self, length: usize) -> Option<Vec<u8>> {
        if self.complete == 0 {
            let polls = !self.is_canonical() && self.settings.minimum() == 0 && self.settings.timeout_ns() == 0;
            return if polls { Some(Vec::new()) } else { None };
        }
        let mut bytes = Vec::new();
        for item in self.input.range(..self.complete).take(length) {
            if item.mark == Mark::EndOfFile && self.is_canonical() {
                break;
            }
            bytes.push(item.byte);
            if item.mark == Mark::Line && self.is_canonical() {
                break;
            }
        }
        Some(bytes)
    }

    /// Takes `count` bytes that [`peek`](Self::peek) showed, out of `length` that were asked for. An end of file that comes
    /// next goes with them.
    pub fn consume(&mut self, count: usize) {
        let taken = count.min(self.complete);
        let ended = self.input.range(..taken).next_back().is_some_and(|item| item.mark == Mark::Line);
        self.input.drain(..taken);
        self.complete -= taken;
        let next_ends = self.complete > 0 && self.input.front().is_some_and(|item| item.mark == Mark::EndOfFile);
        if next_ends && !ended && self.is_canonical() {
            self.input.pop_front();
            self.complete -= 1;
        }
    }
}

impl Default for LineDiscipline {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
