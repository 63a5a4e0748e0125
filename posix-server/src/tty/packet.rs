//! Packet mode of pseudo-terminals (`TIOCPKT`, `ioctl_tty(2)`): the master learns what happens to the slave.

use super::settings::{Settings, Special};
use core::cell::Cell;
use linux_raw_sys::general as linux;

/// Whether the master reads packets, and what it has not been told yet.
#[derive(Debug, Default)]
pub struct PacketMode {
    is_on: Cell<bool>,
    status: Cell<u32>,
}

impl PacketMode {
    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// Switches it on or off. What happened before is not told.
    pub fn switch(&self, is_on: bool) {
        if is_on && !self.is_on.get() {
            self.status.set(0);
        }
        self.is_on.set(is_on);
    }

    /// Notes something (`TIOCPKT_…`); returns whether the master wants to know.
    pub(super) fn note(&self, status: u32) -> bool {
        if !self.is_on.get() || status == 0 {
            return false;
        }
        let undone = match status {
            linux::TIOCPKT_STOP => linux::TIOCPKT_START,
            linux::TIOCPKT_START => linux::TIOCPKT_STOP,
            linux::TIOCPKT_NOSTOP | linux::TIOCPKT_DOSTOP => linux::TIOCPKT_NOSTOP | linux::TIOCPKT_DOSTOP,
            _ => 0,
        };
        self.status.set(self.status.get() & !undone | status);
        true
    }

    /// Whether there is something to tell.
    pub fn has_status(&self) -> bool {
        self.is_on.get() && self.status.get() != 0
    }

    /// What there is to tell, if anything, which is told by that.
    pub fn take_status(&self) -> Option<u8> {
        if !self.has_status() {
            return None;
        }
        // The numbers of the status are those of one byte.
        Some(self.status.replace(0) as u8)
    }
}

/// Whether `^S` and `^Q` stop output and let it go on.
fn has_usual_flow_control(settings: &Settings) -> bool {
    const STOP: u8 = 0x13;
    const START: u8 = 0x11;
    settings.has_input(linux::IXON)
        && settings.special(Special::Stop) == STOP
        && settings.special(Special::Start) == START
}

/// What a change of the settings tells a master.
pub(super) fn change(before: &Settings, after: &Settings) -> u32 {
    let external =
        if before.has_local(linux::EXTPROC) || after.has_local(linux::EXTPROC) { linux::TIOCPKT_IOCTL } else { 0 };
    match (has_usual_flow_control(before), has_usual_flow_control(after)) {
        (true, false) => external | linux::TIOCPKT_NOSTOP,
        (false, true) => external | linux::TIOCPKT_DOSTOP,
        (true, true) | (false, false) => external,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_noted_while_it_is_off() {
        let packet = PacketMode::default();
        assert!(!packet.note(linux::TIOCPKT_STOP));
        packet.switch(true);
        assert_eq!(packet.take_status(), None);
    }

    #[test]
    fn the_last_of_stop_and_start_is_told() {
        let packet = PacketMode::default();
        packet.switch(true);
        assert!(packet.note(linux::TIOCPKT_STOP) && packet.note(linux::TIOCPKT_FLUSHREAD));
        assert!(packet.note(linux::TIOCPKT_START));
        assert_eq!(packet.take_status(), Some((linux::TIOCPKT_START | linux::TIOCPKT_FLUSHREAD) as u8));
        assert_eq!(packet.take_status(), None);
    }

    #[test]
    fn a_master_learns_who_does_flow_control() {
        let usual = Settings::new();
        let without = Settings { input: usual.input & !linux::IXON, ..usual };
        assert_eq!(change(&usual, &without), linux::TIOCPKT_NOSTOP);
        assert_eq!(change(&without, &usual), linux::TIOCPKT_DOSTOP);
        assert_eq!(change(&usual, &usual), 0);
    }
}
