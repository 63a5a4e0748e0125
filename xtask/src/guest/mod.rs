//! Guests: virtual machines that run Quire.
//!
//! [`Guest`] says what machine it is and how it boots. From there:
//!
//! - [`Guest::run`] gives it our terminal,
//! - [`Guest::exec`] runs one program in it over the host link, and streams what it writes,
//! - [`Guest::exec_captured`] does the same and keeps everything, for tests,
//! - [`Guest::console`] starts a shell on a console that the caller reads and writes, for tests.
//!
//! Every guest ends: by itself, at its time limit, or when the value that stands for it is dropped.

mod console;
mod exec;
mod qemu;
mod running;

pub(crate) use exec::{Ending, Input, Program, Stream};
pub(crate) use qemu::{CpuClock, MachineStart, Media};
pub(crate) use running::{Machine, MachineEnd, POLL_INTERVAL, Ports};

use crate::build::Artifacts;
use crate::image;
use crate::options::{Addition, GuestOptions};
use crate::payload;
use anyhow::{Result, bail};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How much memory a guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemorySize {
    mebibytes: u32,
}

/// How a guest gets to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BootPath {
    /// QEMU loads the kernel and the boot archive.
    Direct,
    /// UEFI firmware starts our loader from the disk image.
    Firmware,
}

/// What the kernel writes to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// A machine to be, and how it boots.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) memory: MemorySize,
    pub(crate) cpus: u32,
    /// How long it may run; without end if `None`.
    pub(crate) timeout: Option<Duration>,
    /// How long the program that it runs may write nothing; without end if `None`.
    pub(crate) silence: Option<Duration>,
    pub(crate) boot: BootPath,
    pub(crate) log: LogLevel,
    pub(crate) clock: CpuClock,
    pub(crate) start: MachineStart,
    /// More words for the kernel's command line, such as `test=ipc-bench`.
    pub(crate) words: Vec<String>,
    /// More files for the guest.
    pub(crate) additions: Vec<Addition>,
}

impl Default for Guest {
    fn default() -> Self {
        const TIMEOUT: Duration = Duration::from_secs(120);
        Self {
            memory: MemorySize { mebibytes: 512 },
            cpus: 1,
            timeout: Some(TIMEOUT),
            silence: None,
            boot: BootPath::Direct,
            log: LogLevel::Info,
            clock: CpuClock::Host,
            start: MachineStart::AtOnce,
            words: Vec::new(),
            additions: Vec::new(),
        }
    }
}

impl Guest {
    /// This guest, changed as the user said.
    pub(crate) fn with(self, options: GuestOptions) -> Self {
        Self {
            memory: options.memory.unwrap_or(self.memory),
            cpus: options.cpus.unwrap_or(self.cpus),
            timeout: options.timeout.or(self.timeout),
            boot: options.boot.unwrap_or(self.boot),
            log: options.log.unwrap_or(self.log),
            additions: options.additions,
            ..self
        }
    }

    /// Makes what the guest boots from: an archive that runs `init` first.
    pub(crate) fn media(&self, artifacts: &Artifacts, init: &payload::Init) -> Result<Media> {
        self.media_of(artifacts, &payload::archive(artifacts, init, &self.additions)?)
    }

    /// Makes what the guest boots from, with this boot archive.
    pub(crate) fn media_of(&self, artifacts: &Artifacts, archive: &[u8]) -> Result<Media> {
        let command_line = payload::command_line(self.log, &self.words);
        match self.boot {
            BootPath::Direct => Media::direct(artifacts, archive, command_line),
            BootPath::Firmware => Media::disk(&image::bytes(artifacts, archive, &command_line)?),
        }
    }
}

impl MemorySize {
    /// Enough for programs that want a lot.
    pub(crate) const GIBIBYTE: Self = Self { mebibytes: 1024 };
    /// Little, so that it is soon used up.
    pub(crate) const SMALL: Self = Self { mebibytes: 256 };
}

impl FromStr for MemorySize {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        const MIN: u32 = 32;
        const MAX: u32 = 1 << 20;
        let (digits, factor) = match text.strip_suffix(['G', 'g']) {
            Some(digits) => (digits, 1024),
            None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
        };
        let mebibytes = digits.parse().ok().and_then(|number: u32| number.checked_mul(factor));
        match mebibytes {
            Some(mebibytes @ MIN..=MAX) => Ok(Self { mebibytes }),
            Some(_) | None => bail!("{text:?} is no memory size: say 512M or 2G (from {MIN}M on)"),
        }
    }
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}M", self.mebibytes)
    }
}

impl LogLevel {
    /// Its name on the kernel's command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromStr for LogLevel {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
        match all.into_iter().find(|level| level.name() == text) {
            Some(level) => Ok(level),
            None => bail!("{text:?} is no log level: say off, error, warn, info, debug or trace"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes_have_units() {
        let mebibytes = |text: &str| text.parse::<MemorySize>().ok().map(|size| size.mebibytes);
        assert_eq!(mebibytes("512M"), Some(512));
        assert_eq!(mebibytes("2G"), Some(2048));
        assert_eq!(mebibytes("64"), Some(64));
        for text in ["", "M", "1M", "-5", "9999999G", "1T"] {
            assert_eq!(mebibytes(text), None, "{text:?}");
        }
    }
}
