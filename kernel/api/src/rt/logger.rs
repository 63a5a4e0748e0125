//! The `log` crate's back end: lines go to the kernel's log, cut where they are too long.

use crate::system::MAX_LOG_BYTES;
use core::fmt::{self, Write};
use log::{LevelFilter, Log, Metadata, Record};

struct Logger;

/// A line of text of limited size; what does not fit is left out.
pub(super) struct Line {
    bytes: [u8; MAX_LOG_BYTES],
    len: usize,
}

impl Line {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; MAX_LOG_BYTES], len: 0 }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let count = text.len().min(room.len());
        for (to, from) in room.iter_mut().zip(text.as_bytes()) {
            *to = *from;
        }
        self.len += count;
        Ok(())
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let Ok(log) = super::log() else { return };
        let mut line = Line::new();
        let _ = write!(line, "{}: {}", record.target(), record.args());
        let _ = log.write(record.level(), line.as_bytes());
    }

    fn flush(&self) {}
}

static LOGGER: Logger = Logger;

/// Makes the kernel's log the program's, from the level that `name` names (as the kernel's `log=` does); without a name,
/// from [`LevelFilter::Info`].
pub(super) fn install(name: Option<&str>) {
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(name.and_then(|name| name.parse().ok()).unwrap_or(LevelFilter::Info));
    }
}
