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
mod disk;
mod exec;
pub(crate) mod orders;
mod qemu;
mod running;

pub(crate) use console::Console;
pub(crate) use disk::{Changes, Disk, Failure, Interface, Layer, Root};
pub(crate) use exec::{Ending, Input, Program, Stream};
pub(crate) use qemu::{CpuClock, IOMMU, MachineStart, Media};
pub(crate) use running::{Machine, MachineEnd, POLL_INTERVAL, Ports};

use crate::build::Artifacts;
use crate::image::{self, Reuse, Sizes};
use crate::options::{Addition, GuestOptions};
use crate::payload;
use crate::root_files;
use crate::tree::Tree;
use anyhow::{Context as _, Result, bail};
use std::fmt;
use std::path::PathBuf;
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

/// Whether a guest takes orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    None,
    Line,
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
    /// Where its root file system is.
    pub(crate) root: Root,
    /// More disks.
    pub(crate) disks: Vec<Disk>,
    /// Whether it has a service line, by which programs are replaced.
    pub(crate) service: Service,
    /// More devices, as QEMU's `-device` names them.
    pub(crate) devices: Vec<String>,
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
            root: Root::Archive,
            disks: Vec::new(),
            service: Service::None,
            devices: Vec::new(),
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
            root: options.root.map_or(self.root, |root| root.with(options.sizes, options.reuse)),
            disks: options.disks,
            devices: [self.devices, options.devices].concat(),
            words: [self.words, options.words].concat(),
            ..self
        }
    }

    /// Makes what the guest boots from: an archive that runs `init` first, and a disk with its root file system if it has one.
    pub(crate) fn media(&self, artifacts: &Artifacts, init: &payload::Init) -> Result<Media> {
        match &self.root {
            Root::Archive => {
                let tree = root_files::tree(&self.additions)?;
                self.media_of(artifacts, payload::archive(artifacts, init, tree)?)
            }
            Root::Disk(disk) => {
                let tree = root_files::only(&self.additions)?;
                let device = disk.device(0)?;
                let disks = std::iter::once(disk).chain(&self.disks).cloned().collect();
                let guest = Self { disks, ..self.with_word(format!("root={device}")) };
                guest.media_of(artifacts, payload::archive(artifacts, init, tree)?)
            }
            Root::Image(sizes) => {
                let parts = self.image_parts(artifacts, init)?;
                let mut media = self.media_without_disks(artifacts, &parts)?;
                let path = media.directory().join("image");
                image::make(&path, *sizes, &parts.tree, &parts.system).context("making the disk image")?;
                media.attach_image(path);
                media.attach(&self.disks).map(|()| media)
            }
            Root::LastingImage(sizes, reuse) => {
                let parts = self.image_parts(artifacts, init)?;
                let mut media = self.media_without_disks(artifacts, &parts)?;
                media.attach_image(lasting_image(artifacts, &parts, *sizes, *reuse)?);
                media.attach(&self.disks).map(|()| media)
            }
        }
    }

    /// Makes the image that lasts, for the firmware.
    pub(crate) fn lasting_image(
        &self,
        artifacts: &Artifacts,
        init: &payload::Init,
        sizes: Sizes,
        reuse: Reuse,
    ) -> Result<PathBuf> {
        lasting_image(artifacts, &self.image_parts(artifacts, init)?, sizes, reuse)
    }

    /// Makes what the guest boots from, with this boot archive; it has the disks, but none of them is its root.
    pub(crate) fn media_of(&self, artifacts: &Artifacts, archive: Vec<u8>) -> Result<Media> {
        let command_line = self.command_line(0)?;
        let mut media = match self.boot {
            BootPath::Direct => Media::direct(artifacts, &archive, command_line)?,
            BootPath::Firmware => {
                let system = image::files(artifacts, archive, &command_line)?;
                Media::disk(&image::with_files(&system).context("making the disk image")?)?
            }
        };
        media.attach(&self.disks)?;
        Ok(media)
    }

    /// What is needed to boot from an image with a root file system.
    fn image_parts(&self, artifacts: &Artifacts, init: &payload::Init) -> Result<ImageParts> {
        let guest = self.with_word(format!("root={}", disk::device(0, Some(image::ROOT_PARTITION))));
        let tree = root_files::tree(&self.additions)?;
        let archive = payload::archive(artifacts, init, Tree::default())?;
        let command_line = guest.command_line(1)?;
        let (archive, system) = match self.boot {
            BootPath::Direct => (archive, Vec::new()),
            BootPath::Firmware => (Vec::new(), image::files(artifacts, archive, &command_line)?),
        };
        Ok(ImageParts { tree, archive, command_line, system })
    }

    fn media_without_disks(&self, artifacts: &Artifacts, parts: &ImageParts) -> Result<Media> {
        match self.boot {
            BootPath::Direct => Media::direct(artifacts, &parts.archive, parts.command_line.clone()),
            BootPath::Firmware => Media::of_disks(),
        }
    }

    /// The kernel's command line, if the guest's disks come after `before` others.
    fn command_line(&self, before: usize) -> Result<String> {
        let mut words = self.words.clone();
        for (index, disk) in self.disks.iter().enumerate() {
            if let Some(directory) = &disk.mount {
                words.push(format!("mount={}:{directory}", disk.device(before + index)?));
            }
        }
        Ok(payload::command_line(self.log, &words))
    }

    fn with_word(&self, word: String) -> Self {
        let mut guest = self.clone();
        guest.words.push(word);
        guest
    }
}

/// What becomes an image with a root file system, and a guest that boots from it.
struct ImageParts {
    /// Of the root file system.
    tree: Tree,
    /// For a direct boot.
    archive: Vec<u8>,
    command_line: String,
    /// For the firmware.
    system: image::Files,
}

fn lasting_image(artifacts: &Artifacts, parts: &ImageParts, sizes: Sizes, reuse: Reuse) -> Result<PathBuf> {
    let path = artifacts.work_directory()?.join(image::LASTING);
    image::provide(&path, sizes, &parts.tree, &parts.system, reuse)?;
    Ok(path)
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
