//! Which terminal controls which session, and what its loss means (`credentials(7)`, `tty_ioctl(4)`).

use super::{JobControl, Kind, Terminal};
use crate::process::{Pid, Server};
use crate::signal::{Signal, SignalInfo, deliver};
use alloc::collections::BTreeMap;
use alloc::rc::{Rc, Weak};
use core::cell::RefCell;

/// The terminals of sessions.
#[derive(Default)]
pub struct Sessions {
    terminals: RefCell<BTreeMap<Pid, Rc<Terminal>>>,
    /// The groups that were in the foreground when the terminals of sessions hung up: they are told when the leaders end.
    left_behind: RefCell<BTreeMap<Pid, Pid>>,
}

impl Sessions {
    /// The terminal that controls a session.
    pub fn terminal(&self, session: Pid) -> Option<Rc<Terminal>> {
        self.terminals.borrow().get(&session).cloned()
    }

    /// Makes a terminal control a session, or none; returns the one before.
    pub fn set_terminal(&self, session: Pid, terminal: Option<Rc<Terminal>>) -> Option<Rc<Terminal>> {
        let mut terminals = self.terminals.borrow_mut();
        match terminal {
            Some(terminal) => {
                self.left_behind.borrow_mut().remove(&session);
                terminals.insert(session, terminal)
            }
            None => terminals.remove(&session),
        }
    }
}

/// A session's leader gives the terminal up (`TIOCNOTTY`): the foreground is told, and the terminal is free.
pub fn give_up(server: &Server, session: Pid) {
    let Some(terminal) = server.set_controlling_terminal(session, None) else { return };
    let foreground = terminal.foreground();
    terminal.set_session(0, 0);
    if foreground != 0 {
        server.signal_group(foreground, Signal::HUP);
        server.signal_group(foreground, Signal::CONT);
    }
}

/// A session's leader has ended: the terminal is free, and the foreground is told. A serial line hangs up besides.
pub fn leader_ended(server: &Server, session: Pid) {
    let Some(terminal) = server.set_controlling_terminal(session, None) else {
        let group = server.sessions.left_behind.borrow_mut().remove(&session);
        if let Some(group) = group {
            server.signal_group(group, Signal::HUP);
            server.signal_group(group, Signal::CONT);
        }
        return;
    };
    let foreground = terminal.foreground();
    terminal.set_session(0, 0);
    if foreground != 0 {
        server.signal_group(foreground, Signal::HUP);
    }
    match terminal.kind() {
        Kind::Serial => terminal.hang_up(),
        Kind::Pty => {}
    }
}

/// What terminals do to the processes of a server, as long as there is one. Terminals may hang up while something of the
/// server is borrowed, so it is done as soon as that is over.
pub struct ServerControl(pub Weak<Server>);

impl ServerControl {
    fn later(&self, action: impl FnOnce(&Rc<Server>) + 'static) {
        let Some(server) = self.0.upgrade() else { return };
        let executor = server.executor.clone();
        executor.spawn(async move { action(&server) });
    }
}

impl JobControl for ServerControl {
    fn signal_group(&self, group: Pid, signal: Signal) {
        if let Some(server) = self.0.upgrade() {
            server.signal_group(group, signal);
        }
    }

    fn hang_up_session(&self, session: Pid, foreground: Pid) {
        self.later(move |server| {
            server.set_controlling_terminal(session, None);
            let Some(leader) = server.process(session) else { return };
            if foreground != 0 {
                server.sessions.left_behind.borrow_mut().insert(session, foreground);
            }
            for signal in [Signal::HUP, Signal::CONT] {
                // A standard signal always fits.
                let _ = deliver::send(&leader, SignalInfo::from_kernel(signal));
            }
        });
    }

    fn release_session(&self, session: Pid) {
        self.later(move |server| {
            server.set_controlling_terminal(session, None);
        });
    }
}
