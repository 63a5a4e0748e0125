//! Calls on terminals: `ioctl`, `vhangup`, and what job control says about reading and writing.

mod job;
mod master;
mod modes;

use super::blocking::usable_file;
use super::timerfd::set_ticks;
use super::{Outcome, SystemCall, fcntl, socket};
use crate::errno::{Errno, Result};
use crate::file::{OnExec, OpenFile, StatusFlags};
use crate::process::Thread;
use crate::tty::Terminal;
use crate::tty::settings::WindowSize;
use crate::user::UserPtr;
use alloc::rc::Rc;
pub(super) use job::{check_read, check_write, opened};
use linux_raw_sys::general as linux;
use linux_raw_sys::ioctl as request;

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[
    SystemCall::new(linux::__NR_ioctl, ioctl)
        .partly("no requests of modem lines, other line disciplines than N_TTY: ENOTTY, EINVAL"),
    SystemCall::new(linux::__NR_vhangup, |thread, _| Outcome::Return(hang_up_own(thread))),
];

/// A request to a terminal.
struct Request<'a> {
    thread: &'a Rc<Thread>,
    file: &'a Rc<OpenFile>,
    /// The terminal; that of the slave, if the file is a master.
    terminal: &'a Rc<Terminal>,
    /// The argument as a pointer.
    pointer: UserPtr,
    /// The argument as a number.
    argument: u64,
}

impl Request<'_> {
    /// Whether it comes by the master of a pseudo-terminal.
    fn is_master(&self) -> bool {
        self.file.ops().master().is_some()
    }
}

fn ioctl(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let file = match usable_file(thread, args[0]) {
        Ok(file) => file,
        Err(errno) => return Outcome::Return(Err(errno)),
    };
    let pointer = UserPtr::new(&thread.space(), args[2]);
    match args[1] as u32 {
        request::FIOCLEX => Outcome::Return(set_on_exec(thread, args[0], OnExec::Close)),
        request::FIONCLEX => Outcome::Return(set_on_exec(thread, args[0], OnExec::Keep)),
        request::FIONBIO => Outcome::Return(set_nonblocking(&file, &pointer)),
        request::FIOASYNC => Outcome::Return(set_asynchronous(thread, &file, args[0], &pointer)),
        request::FIONREAD => Outcome::Return(readable_bytes(&file, &pointer)),
        number if file.ops().socket().is_some() => Outcome::Return(socket::ioctl(thread, &file, number, &pointer)),
        TFD_IOC_SET_TICKS => set_ticks(&file, &pointer).unwrap_or(Err(Errno::ENOTTY)).into(),
        number => on_terminal(thread, &file, pointer, number, args[2]),
    }
}

/// `_IOW('T', 0, u64)` of `linux/timerfd.h`.
const TFD_IOC_SET_TICKS: u32 = 0x4008_5400;

fn set_on_exec(thread: &Rc<Thread>, fd: u64, on_exec: OnExec) -> Result<u64> {
    thread.process.files.borrow().slots_mut().set_on_exec(fd as i32, on_exec).map(|()| 0)
}

fn set_nonblocking(file: &OpenFile, pointer: &UserPtr) -> Result<u64> {
    let on = pointer.read::<i32>()? != 0;
    let mut status = file.status();
    status.set(StatusFlags::NONBLOCK, on);
    file.set_status(status);
    Ok(0)
}

/// `FIOASYNC`: signals on readiness, for a file that is not always ready.
fn set_asynchronous(thread: &Rc<Thread>, file: &Rc<OpenFile>, fd: u64, pointer: &UserPtr) -> Result<u64> {
    let on = pointer.read::<i32>()? != 0;
    let mut status = file.status();
    if status.contains(StatusFlags::ASYNC) == on {
        return Ok(0);
    }
    if file.ops().wait_queue().is_none() {
        return Err(Errno::ENOTTY);
    }
    status.set(StatusFlags::ASYNC, on);
    fcntl::set_status(thread, file, fd as i32, status.bits())
}

fn readable_bytes(file: &OpenFile, pointer: &UserPtr) -> Result<u64> {
    let count = match file.inode().content() {
        Some(content) => content.size().saturating_sub(file.position()),
        None => file.ops().readable_bytes()? as u64,
    };
    pointer.write(&i32::try_from(count).unwrap_or(i32::MAX))?;
    Ok(0)
}

fn on_terminal(thread: &Rc<Thread>, file: &Rc<OpenFile>, pointer: UserPtr, number: u32, argument: u64) -> Outcome {
    let slave = file.ops().master().map(|master| master.slave());
    let Some(terminal) = file.ops().terminal().or(slave) else { return Outcome::Return(Err(Errno::ENOTTY)) };
    if file.ops().is_hung_up() {
        return Outcome::Return(Err(if number == request::TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO }));
    }
    let request = Request { thread, file, terminal, pointer, argument };
    let by_master = file.ops().master().and_then(|master| master::ioctl(&request, master, number));
    by_master
        .or_else(|| modes::ioctl(&request, number))
        .unwrap_or_else(|| Outcome::Return(terminal_ioctl(&request, number)))
}

fn terminal_ioctl(request: &Request<'_>, number: u32) -> Result<u64> {
    let (terminal, pointer) = (request.terminal, &request.pointer);
    match number {
        request::TIOCGWINSZ => pointer.write(&terminal.window()).map(|()| 0),
        request::TIOCSWINSZ => pointer.read::<WindowSize>().map(|window| {
            terminal.set_window(window);
            0
        }),
        request::TIOCOUTQ => {
            let waiting = if request.is_master() { 0 } else { terminal.pending_output() };
            pointer.write(&(waiting as i32)).map(|()| 0)
        }
        request::TIOCGPGRP => job::foreground(request),
        request::TIOCSPGRP => job::set_foreground(request),
        request::TIOCGSID => job::session(request),
        request::TIOCSCTTY => job::take(request),
        request::TIOCNOTTY => job::give_up(request),
        request::TIOCGETD => pointer.write(&0i32).map(|()| 0),
        request::TIOCSETD => set_discipline(pointer),
        request::TIOCEXCL => set_exclusive(terminal, true),
        request::TIOCNXCL => set_exclusive(terminal, false),
        request::TIOCGEXCL => pointer.write(&i32::from(terminal.is_exclusive())).map(|()| 0),
        request::TIOCGDEV => pointer.write(&(terminal.device().encoded() as u32)).map(|()| 0),
        request::TIOCSTI => type_in(request),
        // Only a master has one.
        request::TIOCGPTPEER => Err(Errno::EIO),
        request::TIOCVHANGUP => hang_up(request.thread, terminal),
        _ => Err(Errno::ENOTTY),
    }
}

/// `TIOCSETD`: there is one line discipline, `N_TTY`.
fn set_discipline(pointer: &UserPtr) -> Result<u64> {
    match pointer.read::<i32>()? {
        0 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

fn set_exclusive(terminal: &Terminal, is_exclusive: bool) -> Result<u64> {
    terminal.set_exclusive(is_exclusive);
    Ok(0)
}

/// `TIOCSTI`: as if it had been typed, at the caller's own terminal or by the superuser.
fn type_in(request: &Request<'_>) -> Result<u64> {
    let process = &request.thread.process;
    let is_own = request.terminal.session() != 0 && request.terminal.session() == process.session();
    if !is_own && !process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    let byte: u8 = request.pointer.read()?;
    if request.is_master() {
        request.terminal.send_flow_control(byte);
    } else {
        request.terminal.receive(&[byte]);
    }
    Ok(0)
}

fn hang_up(thread: &Rc<Thread>, terminal: &Terminal) -> Result<u64> {
    if !thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    terminal.hang_up();
    Ok(0)
}

/// `vhangup(2)`: the caller's own terminal, if it has one.
fn hang_up_own(thread: &Rc<Thread>) -> Result<u64> {
    match thread.server().controlling_terminal(thread.process.session()) {
        Some(terminal) => hang_up(thread, &terminal),
        None if thread.process.credentials().is_privileged() => Ok(0),
        None => Err(Errno::EPERM),
    }
}
