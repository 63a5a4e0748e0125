//! The screen: echo, and what output processing makes of what programs write.

use super::{BACKSPACE, Effects, LineDiscipline, TAB_COLUMNS, is_control, to_uppercase};
use linux_raw_sys::general as linux;

impl LineDiscipline {
    /// Echoes a byte that becomes input.
    pub(super) fn echo_typed(&mut self, byte: u8, effects: &mut Effects) {
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
    pub(super) fn echo(&mut self, byte: u8, effects: &mut Effects) {
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
    pub(super) fn put(&mut self, byte: u8, effects: &mut Effects) {
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
                effects.output.push(if upper { to_uppercase(byte) } else { byte });
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
}
