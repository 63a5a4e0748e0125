//! Requests that only the master of a pseudo-terminal understands (`ioctl_tty(2)`, `pty(7)`).

use super::{Outcome, Request};
use crate::calls::files::install;
use crate::errno::{Errno, Result};
use crate::file::{AccessMode, OpenFile};
use crate::signal::Signal;
use crate::tty::TerminalFile;
use crate::tty::pty::Master;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use linux_raw_sys::ioctl as request;

/// Carries out such a request; `None` if it is another one.
pub(super) fn ioctl(request: &Request<'_>, master: &Master, number: u32) -> Option<Outcome> {
    let result = match number {
        request::TIOCGPTN => request.pointer.write(&master.number()).map(|()| 0),
        request::TIOCSPTLCK => request.pointer.read::<i32>().map(|lock| {
            master.set_locked(lock != 0);
            0
        }),
        request::TIOCGPTLCK => request.pointer.write(&i32::from(master.is_locked())).map(|()| 0),
        request::TIOCPKT => request.pointer.read::<i32>().map(|mode| {
            master.slave().packet().switch(mode != 0);
            0
        }),
        request::TIOCGPKT => request.pointer.write(&i32::from(master.slave().packet().is_on())).map(|()| 0),
        request::TIOCSIG => signal(master, request.argument),
        request::TIOCGPTPEER => open_peer(request, master, request.argument as u32),
        _ => return None,
    };
    Some(Outcome::Return(result))
}

/// `TIOCSIG`: one of the keyboard's signals to the foreground.
fn signal(master: &Master, number: u64) -> Result<u64> {
    let keyboard = [Signal::INT, Signal::QUIT, Signal::TSTP];
    let signal = keyboard.into_iter().find(|signal| u64::from(signal.number()) == number).ok_or(Errno::EINVAL)?;
    master.slave().signal_foreground(signal);
    Ok(0)
}

/// `TIOCGPTPEER`: opens the slave, wherever its name may be.
fn open_peer(request: &Request<'_>, master: &Master, flags: u32) -> Result<u64> {
    if AccessMode::from_flags(flags) == AccessMode::Path {
        return Err(Errno::EINVAL);
    }
    let ops = Rc::new(TerminalFile::open(master.slave())?);
    let place = master.place().clone();
    let kept = flags & (linux::O_ACCMODE | linux::O_NONBLOCK | linux::O_APPEND | linux::O_CLOEXEC);
    let file = OpenFile::new(ops, place.inode().clone(), Some(place), kept | linux::O_LARGEFILE)?;
    super::opened(request.thread, &file, flags);
    install(request.thread, file, flags)
}
