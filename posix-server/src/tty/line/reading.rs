//! What programs read: lines in canonical mode, else as many bytes as `VMIN` says.

use super::{LineDiscipline, Mark};
use alloc::vec::Vec;

impl LineDiscipline {
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
