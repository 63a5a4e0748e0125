//! Terminals.
//!
//! A [`Terminal`] joins three parties: the device (tasks that bring what is typed by [`Terminal::receive`] and carry away what is to
//! be shown by [`Terminal::take_output`]), the programs (files, [`TerminalFile`]), and job control (the session that it controls,
//! the foreground group). What happens to bytes between them is the pure [`line`] discipline.
//!
//! The device is a serial line ([`serial`]), or a program that holds the master of a pseudo-terminal ([`pty`]).

mod file;
pub mod line;
pub mod packet;
pub mod pty;
pub mod serial;
pub mod sessions;
pub mod settings;
mod terminal;
#[cfg(test)]
mod tests;

pub use file::TerminalFile;
pub use terminal::{Kind, Terminal};

use crate::process::Pid;
use crate::signal::Signal;

/// What a terminal does to processes.
pub trait JobControl {
    /// Sends a signal to every member of a group.
    fn signal_group(&self, group: Pid, signal: Signal);

    /// The terminal of a session has hung up, with this group in the foreground.
    fn hang_up_session(&self, session: Pid, foreground: Pid);

    /// The terminal of a session is no longer there.
    fn release_session(&self, session: Pid);
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
