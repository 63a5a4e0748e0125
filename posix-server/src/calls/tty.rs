//! Calls on terminals: `ioctl`, and what job control says about reading and writing.

use super::blocking::{self, Woken, usable_file};
use super::{Outcome, SystemCall};
use crate::errno::{Errno, Result};
use crate::file::{OnExec, OpenFile, StatusFlags};
use crate::fs::DeviceNumber;
use crate::process::{Pid, Thread};
use crate::signal::Signal;
use crate::tty::line::Event;
use crate::tty::settings::{Settings, WindowSize};
use crate::tty::{Flush, Terminal};
use crate::user::UserPtr;
use alloc::boxed::Box;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use linux_raw_sys::ioctl as request;
use zerocopy::{FromBytes, IntoBytes};

/// The calls of this file.
pub(super) const CALLS: &[SystemCall] = &[SystemCall::new(linux::__NR_ioctl, ioctl)];

// ---- job control -----------------------------------------------------------------------------------------------------

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
pub(super) fn check_read(thread: &Rc<Thread>, file: &OpenFile) -> Result<()> {
    match file.ops().terminal() {
        Some(terminal) if is_in_background(thread, terminal) => {
            Err(if is_deaf_to(thread, Signal::TTIN) { Errno::EIO } else { stop_background(thread, Signal::TTIN) })
        }
        Some(_) | None => Ok(()),
    }
}

/// A write to the controlling terminal in the background: `SIGTTOU` if the terminal says so (`TOSTOP`).
pub(super) fn check_write(thread: &Rc<Thread>, file: &OpenFile) -> Result<()> {
    match file.ops().terminal() {
        Some(terminal) if terminal.settings().has_local(linux::TOSTOP) => check_change(thread, terminal),
        Some(_) | None => Ok(()),
    }
}

/// A change to the controlling terminal from the background: `SIGTTOU`, unless the caller does not hear it.
fn check_change(thread: &Rc<Thread>, terminal: &Terminal) -> Result<()> {
    if is_in_background(thread, terminal) && !is_deaf_to(thread, Signal::TTOU) {
        return Err(stop_background(thread, Signal::TTOU));
    }
    Ok(())
}

/// A terminal was opened: a session leader without a controlling terminal gets it (`tty_open` of Linux), but not by way of
/// the console's own name.
pub(super) fn opened(thread: &Rc<Thread>, file: &OpenFile, flags: u32) {
    let Some(terminal) = file.ops().terminal() else { return };
    let device: DeviceNumber = file.inode().device();
    let is_auxiliary = device.major == crate::dev::TERMINAL_MAJOR;
    let process = &thread.process;
    let is_leader = process.session() == process.pid;
    let has_none = thread.server().controlling_terminal(process.session()).is_none();
    if flags & linux::O_NOCTTY == 0 && !is_auxiliary && is_leader && has_none && terminal.session() == 0 {
        control(thread, terminal);
    }
}

/// Makes a terminal the controlling terminal of the caller's session.
fn control(thread: &Rc<Thread>, terminal: &Rc<Terminal>) {
    let process = &thread.process;
    terminal.set_session(process.session(), process.group());
    thread.server().set_controlling_terminal(process.session(), Some(terminal.clone()));
}

/// A session ends, or gives its terminal up: the foreground is told, and the terminal is free.
pub(crate) fn disassociate(server: &crate::process::Server, session: Pid) {
    let Some(terminal) = server.set_controlling_terminal(session, None) else { return };
    let foreground = terminal.foreground();
    terminal.set_session(0, 0);
    if foreground != 0 {
        server.signal_group(foreground, Signal::HUP);
        server.signal_group(foreground, Signal::CONT);
    }
}

// ---- ioctl -----------------------------------------------------------------------------------------------------------

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
        request::FIONREAD => Outcome::Return(readable_bytes(&file, &pointer)),
        number => match file.ops().terminal().cloned() {
            Some(terminal) => terminal_ioctl(thread, &terminal, number, &pointer, args[2]),
            None => Outcome::Return(Err(Errno::ENOTTY)),
        },
    }
}

fn set_on_exec(thread: &Rc<Thread>, fd: u64, on_exec: OnExec) -> Result<u64> {
    thread.process.files.borrow_mut().set_on_exec(fd as i32, on_exec).map(|()| 0)
}

fn set_nonblocking(file: &OpenFile, pointer: &UserPtr) -> Result<u64> {
    let on = pointer.read::<i32>()? != 0;
    let mut status = file.status();
    status.set(StatusFlags::NONBLOCK, on);
    file.set_status(status);
    Ok(0)
}

fn readable_bytes(file: &OpenFile, pointer: &UserPtr) -> Result<u64> {
    let count = match file.inode().content() {
        Some(content) => content.size().saturating_sub(file.position()),
        None => file.ops().readable_bytes()? as u64,
    };
    pointer.write(&i32::try_from(count).unwrap_or(i32::MAX))?;
    Ok(0)
}

/// When new settings take effect (`tcsetattr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Now,
    /// When all output is sent.
    Drained,
    /// Then, and with input thrown away.
    DrainedAndFlushed,
}

fn terminal_ioctl(
    thread: &Rc<Thread>,
    terminal: &Rc<Terminal>,
    number: u32,
    pointer: &UserPtr,
    argument: u64,
) -> Outcome {
    let result = match number {
        request::TCGETS => write_settings(terminal, pointer, Settings::SHORT_BYTES),
        request::TCGETS2 => write_settings(terminal, pointer, size_of::<Settings>()),
        request::TCSETS => return set_settings(thread, terminal, pointer, Settings::SHORT_BYTES, When::Now),
        request::TCSETSW => return set_settings(thread, terminal, pointer, Settings::SHORT_BYTES, When::Drained),
        request::TCSETSF => {
            return set_settings(thread, terminal, pointer, Settings::SHORT_BYTES, When::DrainedAndFlushed);
        }
        request::TCSETS2 => return set_settings(thread, terminal, pointer, size_of::<Settings>(), When::Now),
        request::TCSETSW2 => return set_settings(thread, terminal, pointer, size_of::<Settings>(), When::Drained),
        request::TCSETSF2 => {
            return set_settings(thread, terminal, pointer, size_of::<Settings>(), When::DrainedAndFlushed);
        }
        request::TCSBRK | request::TCSBRKP => return drain(thread, terminal),
        request::TCFLSH => flush(thread, terminal, argument),
        request::TCXONC => flow(thread, terminal, argument),
        request::TIOCGWINSZ => pointer.write(&terminal.window()).map(|()| 0),
        request::TIOCSWINSZ => pointer.read::<WindowSize>().map(|window| {
            terminal.set_window(window);
            0
        }),
        request::TIOCOUTQ => pointer.write(&(terminal.pending_output() as i32)).map(|()| 0),
        request::TIOCGPGRP => foreground(thread, terminal, pointer),
        request::TIOCSPGRP => set_foreground(thread, terminal, pointer),
        request::TIOCGSID => session(thread, terminal, pointer),
        request::TIOCSCTTY => take(thread, terminal, argument),
        request::TIOCNOTTY => give_up(thread, terminal),
        request::TIOCGETD => pointer.write(&0i32).map(|()| 0),
        request::TIOCEXCL | request::TIOCNXCL => Ok(0),
        request::TIOCSTI => Err(Errno::EIO),
        _ => Err(Errno::ENOTTY),
    };
    Outcome::Return(result)
}

fn write_settings(terminal: &Terminal, pointer: &UserPtr, length: usize) -> Result<u64> {
    let settings = terminal.settings();
    pointer.write_bytes(settings.as_bytes().get(..length).unwrap_or_default())?;
    Ok(0)
}

fn set_settings(thread: &Rc<Thread>, terminal: &Rc<Terminal>, pointer: &UserPtr, length: usize, when: When) -> Outcome {
    let prepared = (|| {
        check_change(thread, terminal)?;
        let mut bytes = [0; size_of::<Settings>()];
        for (to, from) in bytes.iter_mut().zip(terminal.settings().as_bytes()) {
            *to = *from;
        }
        pointer.read_bytes(bytes.get_mut(..length).unwrap_or_default())?;
        Settings::read_from_bytes(&bytes).map_err(|_| Errno::EINVAL)
    })();
    let settings = match prepared {
        Ok(settings) => settings,
        Err(errno) => return Outcome::Return(Err(errno)),
    };
    if when == When::Now || terminal.is_drained() {
        apply(terminal, settings, when);
        return Outcome::Return(Ok(0));
    }
    let (thread, terminal) = (thread.clone(), terminal.clone());
    Outcome::Block(Box::pin(async move {
        wait_until_drained(&thread, &terminal).await?;
        apply(&terminal, settings, when);
        Ok(0)
    }))
}

fn apply(terminal: &Terminal, settings: Settings, when: When) {
    if when == When::DrainedAndFlushed {
        terminal.flush(Flush::Input);
    }
    terminal.set_settings(settings);
}

async fn wait_until_drained(thread: &Rc<Thread>, terminal: &Rc<Terminal>) -> Result<()> {
    loop {
        let listener = terminal.changed().listen();
        if terminal.is_drained() {
            return Ok(());
        }
        if blocking::wait(thread, listener, None).await == Woken::Interrupted {
            return Err(Errno::RESTART);
        }
    }
}

fn drain(thread: &Rc<Thread>, terminal: &Rc<Terminal>) -> Outcome {
    if let Err(errno) = check_change(thread, terminal) {
        return Outcome::Return(Err(errno));
    }
    if terminal.is_drained() {
        return Outcome::Return(Ok(0));
    }
    let (thread, terminal) = (thread.clone(), terminal.clone());
    Outcome::Block(Box::pin(async move { wait_until_drained(&thread, &terminal).await.map(|()| 0) }))
}

fn flush(thread: &Rc<Thread>, terminal: &Terminal, argument: u64) -> Result<u64> {
    check_change(thread, terminal)?;
    let what = match argument as u32 {
        linux::TCIFLUSH => Flush::Input,
        linux::TCOFLUSH => Flush::Output,
        linux::TCIOFLUSH => Flush::Both,
        _ => return Err(Errno::EINVAL),
    };
    terminal.flush(what);
    Ok(0)
}

fn flow(thread: &Rc<Thread>, terminal: &Terminal, argument: u64) -> Result<u64> {
    check_change(thread, terminal)?;
    match argument as u32 {
        linux::TCOOFF => terminal.set_flow(Event::Stop),
        linux::TCOON => terminal.set_flow(Event::Start),
        // Asking the other end of a line to stop: there is nobody to ask.
        linux::TCIOFF | linux::TCION => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// `ENOTTY` unless it is the caller's controlling terminal.
fn check_controls(thread: &Rc<Thread>, terminal: &Terminal) -> Result<()> {
    if terminal.session() != 0 && terminal.session() == thread.process.session() { Ok(()) } else { Err(Errno::ENOTTY) }
}

fn foreground(thread: &Rc<Thread>, terminal: &Terminal, pointer: &UserPtr) -> Result<u64> {
    check_controls(thread, terminal)?;
    pointer.write(&terminal.foreground()).map(|()| 0)
}

fn set_foreground(thread: &Rc<Thread>, terminal: &Terminal, pointer: &UserPtr) -> Result<u64> {
    match check_change(thread, terminal) {
        Err(Errno::EIO) => return Err(Errno::ENOTTY),
        other => other?,
    }
    check_controls(thread, terminal)?;
    let group: Pid = pointer.read()?;
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let session = thread.server().tree.borrow().session_of_group(group).ok_or(Errno::ESRCH)?;
    if session != thread.process.session() {
        return Err(Errno::EPERM);
    }
    terminal.set_foreground(group);
    Ok(0)
}

fn session(thread: &Rc<Thread>, terminal: &Terminal, pointer: &UserPtr) -> Result<u64> {
    check_controls(thread, terminal)?;
    pointer.write(&terminal.session()).map(|()| 0)
}

/// `TIOCSCTTY`: a session leader takes the terminal; with argument 1, the superuser takes it from another session.
fn take(thread: &Rc<Thread>, terminal: &Rc<Terminal>, argument: u64) -> Result<u64> {
    let process = &thread.process;
    let session = process.session();
    if session == process.pid && terminal.session() == session {
        return Ok(0);
    }
    if session != process.pid || thread.server().controlling_terminal(session).is_some() {
        return Err(Errno::EPERM);
    }
    if terminal.session() != 0 {
        if argument != 1 || !process.credentials().is_privileged() {
            return Err(Errno::EPERM);
        }
        thread.server().set_controlling_terminal(terminal.session(), None);
    }
    control(thread, terminal);
    Ok(0)
}

/// `TIOCNOTTY`: a session leader gives the terminal up for all.
fn give_up(thread: &Rc<Thread>, terminal: &Terminal) -> Result<u64> {
    check_controls(thread, terminal)?;
    if thread.process.session() == thread.process.pid {
        disassociate(thread.server(), thread.process.session());
    }
    Ok(0)
}
