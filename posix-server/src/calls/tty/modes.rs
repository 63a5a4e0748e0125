//! The settings of terminals, draining, flushing, flow control (`termios(3)`).

use super::job::check_change;
use super::{Outcome, Request};
use crate::calls::blocking::{self, Woken};
use crate::errno::{Errno, Result};
use crate::process::Thread;
use crate::tty::settings::{OldSettings, Settings, Special};
use crate::tty::{Flush, Terminal};
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use linux_raw_sys::ioctl as request;
use zerocopy::{FromBytes, IntoBytes};

/// When new settings take effect (`tcsetattr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Now,
    /// When all output is sent.
    Drained,
    /// Then, and with input thrown away.
    DrainedAndFlushed,
}

/// The form in which a program gives settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `struct termio`.
    Old,
    /// `struct termios`.
    Usual,
    /// `struct termios2`.
    WithSpeeds,
}

/// What a request to change settings says; `None` if it is another one.
fn change(number: u32) -> Option<(Form, When)> {
    Some(match number {
        request::TCSETA => (Form::Old, When::Now),
        request::TCSETAW => (Form::Old, When::Drained),
        request::TCSETAF => (Form::Old, When::DrainedAndFlushed),
        request::TCSETS => (Form::Usual, When::Now),
        request::TCSETSW => (Form::Usual, When::Drained),
        request::TCSETSF => (Form::Usual, When::DrainedAndFlushed),
        request::TCSETS2 => (Form::WithSpeeds, When::Now),
        request::TCSETSW2 => (Form::WithSpeeds, When::Drained),
        request::TCSETSF2 => (Form::WithSpeeds, When::DrainedAndFlushed),
        _ => return None,
    })
}

/// Carries out a request about settings; `None` if it is another one.
pub(super) fn ioctl(request: &Request<'_>, number: u32) -> Option<Outcome> {
    if let Some((form, when)) = change(number) {
        return Some(set(request, form, when));
    }
    let result = match number {
        request::TCGETA => request.pointer.write(&OldSettings::from(&request.terminal.settings())).map(|()| 0),
        request::TCGETS => write(request, &request.terminal.settings(), Settings::SHORT_BYTES),
        request::TCGETS2 => write(request, &request.terminal.settings(), size_of::<Settings>()),
        request::TIOCGLCKTRMIOS => write(request, &request.terminal.locked_settings().get(), Settings::SHORT_BYTES),
        request::TIOCSLCKTRMIOS => lock(request),
        request::TCSBRK | request::TCSBRKP | request::TIOCSBRK => return Some(drain(request)),
        request::TIOCCBRK => check_change(request.thread, request.terminal).map(|()| 0),
        request::TCFLSH => flush(request),
        request::TCXONC => flow(request),
        request::TIOCGSOFTCAR => {
            let is_local = request.terminal.settings().control & linux::CLOCAL != 0;
            request.pointer.write(&i32::from(is_local)).map(|()| 0)
        }
        _ => return None,
    };
    Some(Outcome::Return(result))
}

fn write(request: &Request<'_>, settings: &Settings, length: usize) -> Result<u64> {
    request.pointer.write_bytes(settings.as_bytes().get(..length).unwrap_or_default())?;
    Ok(0)
}

/// `TIOCSLCKTRMIOS`: what can't be changed from now on.
fn lock(request: &Request<'_>) -> Result<u64> {
    if !request.thread.process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    let mut bytes = [0; size_of::<Settings>()];
    request.pointer.read_bytes(bytes.get_mut(..Settings::SHORT_BYTES).unwrap_or_default())?;
    let locked = Settings::read_from_bytes(&bytes).map_err(|_| Errno::EINVAL)?;
    request.terminal.locked_settings().set(locked);
    Ok(0)
}

/// The settings that a program asks for.
fn read(request: &Request<'_>, form: Form) -> Result<Settings> {
    let before = request.terminal.settings();
    let length = match form {
        Form::Old => return Ok(request.pointer.read::<OldSettings>()?.applied_to(&before)),
        Form::Usual => Settings::SHORT_BYTES,
        Form::WithSpeeds => size_of::<Settings>(),
    };
    let mut bytes = [0; size_of::<Settings>()];
    for (to, from) in bytes.iter_mut().zip(before.as_bytes()) {
        *to = *from;
    }
    request.pointer.read_bytes(bytes.get_mut(..length).unwrap_or_default())?;
    let settings = Settings::read_from_bytes(&bytes).map_err(|_| Errno::EINVAL)?;
    Ok(settings.with_speeds())
}

fn set(request: &Request<'_>, form: Form, when: When) -> Outcome {
    let settings = match check_change(request.thread, request.terminal).and_then(|()| read(request, form)) {
        Ok(settings) => settings,
        Err(errno) => return Outcome::Return(Err(errno)),
    };
    if when == When::Now || request.terminal.is_drained() {
        apply(request.terminal, settings, when);
        return Outcome::Return(Ok(0));
    }
    let (thread, terminal) = (request.thread.clone(), request.terminal.clone());
    Outcome::block(async move {
        wait_until_drained(&thread, &terminal).await?;
        apply(&terminal, settings, when);
        Ok(0)
    })
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

/// `tcdrain`, `tcsendbreak`: there is no break to send.
fn drain(request: &Request<'_>) -> Outcome {
    if let Err(errno) = check_change(request.thread, request.terminal) {
        return Outcome::Return(Err(errno));
    }
    if request.is_master() || request.terminal.is_drained() {
        return Outcome::Return(Ok(0));
    }
    let (thread, terminal) = (request.thread.clone(), request.terminal.clone());
    Outcome::block(async move { wait_until_drained(&thread, &terminal).await.map(|()| 0) })
}

fn flush(request: &Request<'_>) -> Result<u64> {
    let terminal = request.terminal;
    check_change(request.thread, terminal)?;
    let what = match request.argument as u32 {
        linux::TCIFLUSH => Flush::Input,
        linux::TCOFLUSH => Flush::Output,
        linux::TCIOFLUSH => Flush::Both,
        _ => return Err(Errno::EINVAL),
    };
    if request.is_master() {
        // What a master would read is what the slave wrote. What it has written, the slave has already.
        if what != Flush::Output {
            terminal.discard_output();
        }
    } else {
        terminal.flush(what);
    }
    Ok(0)
}

fn flow(request: &Request<'_>) -> Result<u64> {
    let terminal = request.terminal;
    check_change(request.thread, terminal)?;
    let settings = terminal.settings();
    match request.argument as u32 {
        // A master is never stopped, and has nobody to stop.
        linux::TCOOFF | linux::TCOON | linux::TCIOFF | linux::TCION if request.is_master() => {}
        linux::TCOOFF => terminal.suspend_output(),
        linux::TCOON => terminal.resume_output(),
        linux::TCIOFF => terminal.send_flow_control(settings.special(Special::Stop)),
        linux::TCION => terminal.send_flow_control(settings.special(Special::Start)),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
