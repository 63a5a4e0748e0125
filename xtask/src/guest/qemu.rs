//! QEMU's command line.

use super::disk::{Attached, Disk};
use super::{BootPath, Guest, Service, orders};
use crate::build::Artifacts;
use crate::process;
use crate::setup;
use anyhow::{Context as _, Result};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Where the guest writes to end itself: the port of QEMU's `isa-debug-exit` device. A value `v` ends QEMU with status
/// `(v << 1) | 1`.
const EXIT_PORT: &str = "isa-debug-exit,iobase=0xf4,iosize=0x04";

/// A source of randomness.
const RANDOM: &str = "virtio-rng-pci,disable-legacy=on";

/// The device that confines others to what is mapped for them. It comes before them.
pub(crate) const IOMMU: &str = "intel-iommu";

/// What drives the guest's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CpuClock {
    /// The host's time.
    Host,
    /// The host's time, for measurements: on the processor that [`CpuClock::Instructions`] has.
    Measured,
    /// Executed instructions, one for each nanosecond: slow, but everything can be measured exactly.
    Instructions,
}

/// What a guest does when it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MachineStart {
    /// It runs.
    AtOnce,
    /// It waits until gdb connects to [`MachineStart::DEBUGGER_PORT`] and lets it go on.
    WaitForDebugger,
}

impl MachineStart {
    /// The TCP port on which QEMU waits for gdb.
    pub(crate) const DEBUGGER_PORT: u16 = 1234;
}

/// What a guest boots from, in files that are deleted when this is dropped.
#[derive(Debug)]
pub(crate) struct Media {
    directory: TempDir,
    kind: MediaKind,
    disks: Vec<Attached>,
}

#[derive(Debug)]
enum MediaKind {
    Direct { kernel: PathBuf, command_line: String },
    Firmware,
}

impl Media {
    /// A kernel and an archive that QEMU loads.
    pub(crate) fn direct(artifacts: &Artifacts, archive: &[u8], command_line: String) -> Result<Self> {
        Self::with_kernel(artifacts.kernel(), archive, command_line)
    }

    /// Any kernel and a module that QEMU loads.
    pub(crate) fn with_kernel(kernel: PathBuf, module: &[u8], command_line: String) -> Result<Self> {
        Self::with_file(module, MediaKind::Direct { kernel, command_line })
    }

    /// A disk image for the firmware.
    pub(crate) fn disk(image: &[u8]) -> Result<Self> {
        let mut media = Self::with_file(image, MediaKind::Firmware)?;
        media.disks.push(Attached::bootable(media.file()));
        Ok(media)
    }

    /// Disks for the firmware, still without any.
    pub(super) fn of_disks() -> Result<Self> {
        Self::new(MediaKind::Firmware)
    }

    /// Adds an image as the first disk: the firmware boots from it.
    pub(super) fn attach_image(&mut self, file: PathBuf) {
        let disk = match self.kind {
            MediaKind::Direct { .. } => Attached::of(file),
            MediaKind::Firmware => Attached::bootable(file),
        };
        self.disks.insert(0, disk);
    }

    /// Adds disks, before one that is only booted from.
    pub(crate) fn attach(&mut self, disks: &[Disk]) -> Result<()> {
        let medium = self.file();
        let place = self.disks.iter().position(|disk| disk.is(&medium)).unwrap_or(self.disks.len());
        for (index, disk) in (place..).zip(disks) {
            self.disks.insert(index, disk.attach(index, self.directory.path())?);
        }
        Ok(())
    }

    /// Has the file systems on the disks checked, after a guest that was shut down.
    pub(crate) fn check(&self) -> Result<()> {
        self.disks.iter().try_for_each(Attached::check)
    }

    fn with_file(content: &[u8], kind: MediaKind) -> Result<Self> {
        let media = Self::new(kind)?;
        fs::write(media.file(), content).with_context(|| format!("can't write {}", media.file().display()))?;
        Ok(media)
    }

    fn new(kind: MediaKind) -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("quire-").tempdir().context("can't make a temporary directory")?;
        Ok(Self { directory, kind, disks: Vec::new() })
    }

    /// A directory for sockets and the like.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The archive or the disk image.
    fn file(&self) -> PathBuf {
        self.directory.path().join("medium")
    }
}

/// QEMU for this guest, still without its serial ports.
pub(crate) fn command(guest: &Guest, media: &Media) -> Result<Command> {
    let mut qemu = tied_to_us("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    qemu.args(["-machine", "q35", "-cpu", cpu_model(guest.clock), "-accel", acceleration(guest)]);
    qemu.args(["-m", &guest.memory.to_string(), "-smp", &guest.cpus.to_string()]);
    for device in &guest.devices {
        qemu.args(["-device", device]);
    }
    qemu.args(["-device", &format!("{RANDOM}{}", virtio_properties(guest)), "-device", EXIT_PORT]);
    match guest.service {
        Service::None => {}
        Service::Line => {
            qemu.args(orders::arguments(media.directory()));
        }
    }
    match guest.clock {
        CpuClock::Host | CpuClock::Measured => {}
        CpuClock::Instructions => {
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
    }
    match guest.start {
        MachineStart::AtOnce => {}
        MachineStart::WaitForDebugger => {
            qemu.args(["-S", "-gdb", &format!("tcp:127.0.0.1:{}", MachineStart::DEBUGGER_PORT)]);
        }
    }
    match &media.kind {
        MediaKind::Direct { kernel, command_line } => {
            qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(media.file()).arg("-append").arg(command_line);
        }
        MediaKind::Firmware => {
            let firmware = setup::firmware().context("no UEFI firmware is installed (package ovmf)")?;
            qemu.arg("-bios").arg(firmware);
        }
    }
    for (index, disk) in media.disks.iter().enumerate() {
        qemu.args(disk.arguments(index, virtio_properties(guest)));
    }
    Ok(qemu)
}

/// What virtio devices need besides: they are confined by an IOMMU only if they are told.
fn virtio_properties(guest: &Guest) -> &'static str {
    let has_iommu = guest.devices.iter().any(|device| device.starts_with(IOMMU));
    if has_iommu { ",iommu_platform=on" } else { "" }
}

/// A command that the system ends when we end, however that happens.
fn tied_to_us(program: &str) -> Command {
    if !process::is_installed("setpriv") {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// All that the CPU emulation offers. When something is measured, without the two features under which string
/// instructions would be emulated, and counted, byte by byte.
fn cpu_model(clock: CpuClock) -> &'static str {
    match clock {
        CpuClock::Host => "max",
        CpuClock::Measured | CpuClock::Instructions => "max,-erms,-fsrm",
    }
}

/// The accelerator and how it runs CPUs: each in a thread of its own, so that they run at the same time.
fn acceleration(guest: &Guest) -> &'static str {
    match accelerator(guest.clock) {
        "tcg" if guest.cpus > 1 && guest.clock != CpuClock::Instructions => "tcg,thread=multi",
        accelerator => accelerator,
    }
}

/// `kvm` where it works, else `tcg`; `QUIRE_ACCEL` overrides the choice.
fn accelerator(clock: CpuClock) -> &'static str {
    let wanted = std::env::var("QUIRE_ACCEL").unwrap_or_default();
    match (clock, wanted.as_str()) {
        (CpuClock::Instructions, _) | (CpuClock::Host | CpuClock::Measured, "tcg") => "tcg",
        (CpuClock::Host | CpuClock::Measured, "kvm") => "kvm",
        (CpuClock::Host | CpuClock::Measured, _) if kvm_is_real() => "kvm",
        (CpuClock::Host | CpuClock::Measured, _) => "tcg",
    }
}

/// Whether KVM runs kernel code at full speed. That `/dev/kvm` opens is not enough: without virtualisation by the CPU,
/// every privileged instruction may be emulated one by one, which looks like a hang.
fn kvm_is_real() -> bool {
    let opens = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok();
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has_flag = cpu.split_whitespace().any(|word| word == "vmx" || word == "svm");
    let has_module = ["kvm_intel", "kvm_amd"].iter().any(|module| Path::new("/sys/module").join(module).exists());
    opens && has_flag && has_module
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let boot = match self.boot {
            BootPath::Direct => "direct boot",
            BootPath::Firmware => "boot through the firmware",
        };
        let accelerator = accelerator(self.clock);
        write!(f, "QEMU ({accelerator}), {boot}, {} of memory, {} CPU(s)", self.memory, self.cpus)
    }
}
