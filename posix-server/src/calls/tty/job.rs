//! Job control (`credentials(7)`, `tty_ioctl(4)`): who may use a terminal, and whose it is.

use super::Request;
use crate::errno::{Errno, Result};
use crate::file::OpenFile;
use crate::fs::DeviceNumber;
use crate::process::tree::Tree;
use crate::process::{Pid, Thread};
use crate::signal::Signal;
use crate::tty::{Terminal, sessions};
use alloc::rc::Rc;
use linux_raw_sys::general as linux;

/// Whether a process is of the terminal's session, but not of its foreground.
fn is_in_background(thread: &Rc<Thread>, terminal: &Terminal) -> bool {
    let process = &thread.process;
    terminal.session() != 0
        && terminal.session() == process.session()
        && terminal.foreground() != 0
        && terminal.foreground() != process.group()
}

/// Whether a signal would not reach the caller: blocked, or ignored.
fn is_deaf_to(thread: &Rc<Thread>, signal: Signal) -> bool {
    thread.mask().contains(signal) || thread.process.signals.borrow().ignores(signal)
}

/// Stops a background process: its group gets the signal, and the call is done again when it goes on.
fn stop_background(thread: &Rc<Thread>, signal: Signal) -> Errno {
    let group = thread.process.group();
    if thread.server().is_orphaned_group(group) {
        return Errno::EIO;
    }
    thread.server().signal_group(group, signal);
    Errno::RESTART
}

/// A read from the controlling terminal in the background: `SIGTTIN`, or `EIO` for who can't be stopped by it.
pub(in crate::calls) fn check_read(thread: &Rc<Thread>, file: &OpenFile) -> Result<()> {
    match file.ops().terminal() {
        Some(terminal) if is_in_background(thread, terminal) => {
            Err(if is_deaf_to(thread, Signal::TTIN) { Errno::EIO } else { stop_background(thread, Signal::TTIN) })
        }
        Some(_) | None => Ok(()),
    }
}

/// A write to the controlling terminal in the background: `SIGTTOU` if the terminal says so (`TOSTOP`).
pub(in crate::calls) fn check_write(thread: &Rc<Thread>, file: &OpenFile) -> Result<()> {
    match file.ops().terminal() {
        Some(terminal) if terminal.settings().has_local(linux::TOSTOP) => check_change(thread, terminal),
        Some(_) | None => Ok(()),
    }
}

/// A change to the controlling terminal from the background: `SIGTTOU`, unless the caller does not hear it.
pub(super) fn check_change(thread: &Rc<Thread>, terminal: &Terminal) -> Result<()> {
    if is_in_background(thread, terminal) && !is_deaf_to(thread, Signal::TTOU) {
        return Err(stop_background(thread, Signal::TTOU));
    }
    Ok(())
}

/// A terminal was opened: a session leader without a controlling terminal gets it (`tty_open` of Linux), but not by way of
/// the console's own name, nor without reading it.
pub(in crate::calls) fn opened(thread: &Rc<Thread>, file: &OpenFile, flags: u32) {
    let Some(terminal) = file.ops().terminal() else { return };
    let device: DeviceNumber = file.inode().device();
    let is_auxiliary = device.major == crate::dev::TERMINAL_MAJOR;
    let process = &thread.process;
    let is_leader = process.session() == process.pid;
    let has_none = thread.server().controlling_terminal(process.session()).is_none();
    let is_wanted = flags & linux::O_NOCTTY == 0 && !is_auxiliary && file.access().can_read();
    if is_wanted && is_leader && has_none && terminal.session() == 0 {
        control(thread, terminal);
    }
}

/// Makes a terminal the controlling terminal of the caller's session.
fn control(thread: &Rc<Thread>, terminal: &Rc<Terminal>) {
    let process = &thread.process;
    terminal.set_session(process.session(), process.group());
    thread.server().set_controlling_terminal(process.session(), Some(terminal.clone()));
}

/// Whether it is the caller's controlling terminal.
fn controls(request: &Request<'_>) -> bool {
    let session = request.terminal.session();
    session != 0 && session == request.thread.process.session()
}

/// `ENOTTY` unless it is the caller's controlling terminal. A master may ask about any.
fn check_controls(request: &Request<'_>) -> Result<()> {
    if request.is_master() || controls(request) { Ok(()) } else { Err(Errno::ENOTTY) }
}

/// `TIOCGPGRP`.
pub(super) fn foreground(request: &Request<'_>) -> Result<u64> {
    check_controls(request)?;
    request.pointer.write(&request.terminal.foreground()).map(|()| 0)
}

/// `TIOCSPGRP`.
pub(super) fn set_foreground(request: &Request<'_>) -> Result<u64> {
    let (thread, terminal) = (request.thread, request.terminal);
    match check_change(thread, terminal) {
        Err(Errno::EIO) => return Err(Errno::ENOTTY),
        other => other?,
    }
    if !controls(request) {
        return Err(Errno::ENOTTY);
    }
    let group: Pid = request.pointer.read()?;
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let session = thread.server().tree.look(Tree::session_of_group, group).ok_or(Errno::ESRCH)?;
    if session != thread.process.session() {
        return Err(Errno::EPERM);
    }
    terminal.set_foreground(group);
    Ok(0)
}

/// `TIOCGSID`.
pub(super) fn session(request: &Request<'_>) -> Result<u64> {
    check_controls(request)?;
    match request.terminal.session() {
        0 => Err(Errno::ENOTTY),
        session => request.pointer.write(&session).map(|()| 0),
    }
}

/// `TIOCSCTTY`: a session leader takes the terminal; with argument 1, the superuser takes it from another session.
pub(super) fn take(request: &Request<'_>) -> Result<u64> {
    let (thread, terminal) = (request.thread, request.terminal);
    let process = &thread.process;
    let session = process.session();
    let is_privileged = process.credentials().is_privileged();
    if session == process.pid && terminal.session() == session {
        return Ok(0);
    }
    if session != process.pid || thread.server().controlling_terminal(session).is_some() {
        return Err(Errno::EPERM);
    }
    if terminal.session() != 0 {
        if request.argument != 1 || !is_privileged {
            return Err(Errno::EPERM);
        }
        thread.server().set_controlling_terminal(terminal.session(), None);
    }
    if !request.file.access().can_read() && !is_privileged {
        return Err(Errno::EPERM);
    }
    control(thread, terminal);
    Ok(0)
}

/// `TIOCNOTTY`: a session leader gives the terminal up for all.
pub(super) fn give_up(request: &Request<'_>) -> Result<u64> {
    if request.is_master() || !controls(request) {
        return Err(Errno::ENOTTY);
    }
    let process = &request.thread.process;
    if process.session() == process.pid {
        sessions::give_up(request.thread.server(), process.session());
    }
    Ok(0)
}
