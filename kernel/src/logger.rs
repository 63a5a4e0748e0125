//! The kernel's log: lines on the first serial port.
//!
//! `[    0.012345] kernel: text`; lines of user programs carry the name of the thread that wrote them. Control
//! characters in foreign text are replaced, so that a program can't forge a line.

use crate::panic;
use crate::serial::Serial;
use crate::sync::{Rank, SpinLock};
use crate::time;
use core::fmt::{self, Write};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// What the kernel's own lines are signed with.
const KERNEL: &str = "kernel";

// SAFETY: this is the only port there is.
static OUTPUT: SpinLock<Serial> = SpinLock::new(Rank::Log, unsafe { Serial::new() });
static LOGGER: Logger = Logger;

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            write_line(record.level(), KERNEL, record.args());
        }
    }

    fn flush(&self) {}
}

/// Sets the port up and takes the `log` crate's messages.
pub(crate) fn init() {
    OUTPUT.lock().init();
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Writes a line that a user program sent, if its level is wanted.
pub(crate) fn write_foreign(level: Level, origin: &str, text: &[u8]) {
    if level <= log::max_level() {
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            write_line(level, origin, &format_args!("{}", Printable(line)));
        }
    }
}

/// Writes a line whatever the level is, as far as the log is on at all.
pub(crate) fn write_always(text: fmt::Arguments<'_>) {
    if panic::is_in_progress() {
        emit_at_once("", &text);
    } else if log::max_level() != LevelFilter::Off {
        write_line(Level::Info, KERNEL, &text);
    }
}

/// Writes in the course of a panic.
pub(crate) fn write_panic(text: fmt::Arguments<'_>) {
    emit_at_once("panic", &text);
}

/// Writes without waiting for the lock's holder, who may be the one that panicked.
fn emit_at_once(mark: &str, text: &fmt::Arguments<'_>) {
    match OUTPUT.try_lock() {
        Some(mut output) => emit(&mut output, mark, KERNEL, text),
        // SAFETY: the holder of the lock is this processor, which won't come back to it, or it is stuck; at worst two
        // processors mix their bytes.
        None => emit(&mut unsafe { Serial::new() }, mark, KERNEL, text),
    }
}

fn write_line(level: Level, origin: &str, text: &fmt::Arguments<'_>) {
    let mark = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info | Level::Debug | Level::Trace => "",
    };
    emit(&mut OUTPUT.lock(), mark, origin, text);
}

fn emit(output: &mut Serial, mark: &str, origin: &str, text: &fmt::Arguments<'_>) {
    const NS_PER_S: u64 = 1_000_000_000;
    const NS_PER_US: u64 = 1_000;
    let now = time::now_ns();
    let (seconds, microseconds) = (now / NS_PER_S, now % NS_PER_S / NS_PER_US);
    let separator = if mark.is_empty() { "" } else { ": " };
    // Writing to the port can't fail.
    let _ = writeln!(output, "[{seconds:5}.{microseconds:06}] {origin}: {mark}{separator}{text}");
}

/// Text of unknown origin, as printable characters.
struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                f.write_char(if character.is_control() && character != '\t' { '·' } else { character })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}
