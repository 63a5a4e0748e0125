//! Rubbing out: characters, words and whole lines, and how that is shown.

use super::{BACKSPACE, Effects, LineDiscipline, TAB_COLUMNS, is_control};
use crate::tty::settings::Special;
use linux_raw_sys::general as linux;

/// How much is rubbed out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Erasure {
    Character,
    Word,
    Line,
}

impl LineDiscipline {
    pub(super) fn erase(&mut self, what: Erasure, effects: &mut Effects) {
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
    pub(super) fn last_character(&self) -> Option<(u8, usize)> {
        let mut length = 0;
        for item in self.input.range(self.complete..).rev() {
            length += 1;
            if !self.is_continuation(item.byte) {
                return Some((item.byte, length));
            }
        }
        None
    }

    pub(super) fn is_continuation(&self, byte: u8) -> bool {
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

    pub(super) fn finish_erasing(&mut self, effects: &mut Effects) {
        if core::mem::take(&mut self.showing_erased) {
            self.put(b'/', effects);
        }
    }
}
