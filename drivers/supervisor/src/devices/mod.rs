//! The devices on PCI: each that there is a driver for gets one, which is handed the objects of its device and nothing else.
//!
//! **Configuration spaces** are accessed in the window that the firmware tells of, or by ports ([`spaces`]).
//!
//! **A driver that ends** leaves a device behind that may still write to memory. So before anything of it is let go, the device is
//! stopped and may access memory no longer; then its DMA space goes, which unpins what the dead driver had pinned; and the successor is
//! given a new one.
//!
//! **A device that goes astray**, wanting memory that is not mapped for it, is cut off by the kernel where an IOMMU sees that; its driver is
//! ended then, and has a successor.
//!
//! **What a driver is not given**: the configuration space, but for a copy to read, and the table of its device's interrupt messages. With
//! that it could have the device write anywhere.

mod device;
mod spaces;

use crate::disks::Disks;
use crate::loader::{Files, Program};
use crate::machine::{DRIVER_LIMITS, KEPT_RIGHTS, kept_memory};
use crate::successors::{self, Kept, Legacy};
use crate::watch::Watcher;
use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use device::{Device, NVME_CLASS};
use driver_protocol::purpose;
use driver_protocol::supervisor::DiskName;
use log::{error, info};
use pci::{Command, Function, Header, header};
use quire_api::abi::system::{Confinement, HardwareInfo};
use quire_api::{ChannelEndpoint, Error, rt};
use spaces::Spaces;
use supervisor::plan::{DriverUnderTest, NVME, VIRTIO_BLK, VIRTIO_CONSOLE, VIRTIO_RNG, nvme_names, virtio_names};
use virtio::pci::Kind;

/// Starts drivers.
struct Manager<'a> {
    watcher: &'a Watcher,
    files: Files,
    disks: &'a Rc<Disks>,
    spaces: Rc<Spaces>,
    arguments: &'a str,
}

/// What the drivers that were found serve besides disks: the clients' ends of their channels.
#[derive(Default)]
pub(crate) struct Found {
    /// A source of randomness.
    pub(crate) entropy: Option<ChannelEndpoint>,
    /// A console.
    pub(crate) console: Option<ChannelEndpoint>,
}

/// Starts a driver for each device that there is one for.
pub(crate) fn begin(watcher: &Watcher, files: Files, disks: &Rc<Disks>, arguments: &str) -> Result<Found, Error> {
    let hardware = watcher.hardware.info()?;
    let spaces = Spaces::find(&watcher.hardware, &hardware)?;
    let (first_bus, last_bus) = spaces.buses();
    let manager = Manager { watcher, files, disks, spaces: Rc::new(spaces), arguments };
    let (mut names, mut found) = (Names::new(), Found::default());
    let mut is_confinement_said = false;
    for (function, header) in pci::scan(&*manager.spaces, first_bus, last_bus) {
        info!("{function}: {:04x}:{:04x}, class {:06x}", header.vendor, header.device, header.class);
        if header.layout == header::Layout::Device {
            // Whatever the firmware used it for: that is over.
            Command::change(&*manager.spaces, function, Command::empty(), Command::BUS_MASTER);
        }
        let Some(role) = role_of(&header) else { continue };
        if files.archive.find(role.driver().as_bytes()).is_none() {
            info!("{function}: {} is not in the boot archive", role.driver());
            continue;
        }
        if !is_confinement_said {
            say_confinement(&hardware);
            is_confinement_said = true;
        }
        if let Err(reason) = manager.start((function, header.class), role, &mut names, &mut found) {
            error!("{function}: {reason}");
        }
    }
    disks.all_added();
    Ok(found)
}

/// Starts a driver that a test is about, and another whenever it ends; the client's end of its channel. An error is a sentence for people.
pub(crate) fn begin_test(
    watcher: &Watcher,
    files: Files,
    driver: DriverUnderTest<'_>,
    arguments: &str,
) -> Result<ChannelEndpoint, String> {
    let failed = |error: Error| error.describe().to_string();
    let hardware = watcher.hardware.info().map_err(failed)?;
    let spaces = Rc::new(Spaces::find(&watcher.hardware, &hardware).map_err(failed)?);
    let (first_bus, last_bus) = spaces.buses();
    let is_device = |(_, header): &(Function, Header)| (header.vendor, header.device) == (driver.vendor, driver.device);
    let (function, header) = pci::scan(&*spaces, first_bus, last_bus)
        .into_iter()
        .find(is_device)
        .ok_or_else(|| format!("there is no device {:04x}:{:04x}", driver.vendor, driver.device))?;
    let (server_end, client_end) = rt::account().and_then(ChannelEndpoint::pair).map_err(failed)?;
    let ends = successors::only_end(&server_end).map_err(failed)?;
    let device = Device::new(watcher, &spaces, (function, header.class), server_end).map_err(failed)?;
    let hand_over = Box::new(move |program: &mut Program| device.hand_over(program));
    // One program, as long as the machine runs.
    let path = String::leak(format!("boot/{}", driver.name));
    let (arguments, is_finished) = (String::from(arguments), Rc::default());
    let legacy =
        Legacy { path, limits: DRIVER_LIMITS, hand_over, ends, arguments, is_finished, dies_on_request: false };
    successors::keep_alive(watcher, files, legacy).map(|_| client_end)
}

/// Says what a driver could do that is not as it should be.
fn say_confinement(hardware: &HardwareInfo) {
    match Confinement::from_bits_truncate(hardware.confinement).contains(Confinement::MEMORY) {
        true => info!("an IOMMU keeps devices to the memory that their drivers were given"),
        false => info!("no IOMMU: the drivers of devices are trusted with all memory"),
    }
}

/// What a function is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    VirtioDisk,
    NvmeDisk,
    Entropy,
    Console,
}

impl Role {
    /// The program that drives it.
    fn driver(self) -> &'static str {
        match self {
            Self::VirtioDisk => VIRTIO_BLK,
            Self::NvmeDisk => NVME,
            Self::Entropy => VIRTIO_RNG,
            Self::Console => VIRTIO_CONSOLE,
        }
    }
}

/// What such a function is there for, if there is a driver for it.
fn role_of(header: &Header) -> Option<Role> {
    match Kind::of(header.vendor, header.device) {
        Some(Kind::BLOCK) => Some(Role::VirtioDisk),
        Some(Kind::ENTROPY) => Some(Role::Entropy),
        Some(Kind::CONSOLE) => Some(Role::Console),
        None if header.class == NVME_CLASS => Some(Role::NvmeDisk),
        Some(_) | None => None,
    }
}

/// The names that disks get.
struct Names {
    virtio: Box<dyn Iterator<Item = String>>,
    nvme: Box<dyn Iterator<Item = String>>,
}

impl Names {
    fn new() -> Self {
        Self { virtio: Box::new(virtio_names()), nvme: Box::new(nvme_names()) }
    }
}

impl Manager<'_> {
    /// Starts the driver of a function.
    fn start(&self, function: (Function, u32), role: Role, names: &mut Names, found: &mut Found) -> Result<(), String> {
        let name = match role {
            Role::VirtioDisk => names.virtio.next(),
            Role::NvmeDisk => names.nvme.next(),
            Role::Entropy => {
                // One is enough: there is one `/dev/hwrng`.
                if found.entropy.is_none() {
                    found.entropy = Some(self.keep_alive(function, role, Vec::new, |_| Ok(()))?.0);
                }
                return Ok(());
            }
            Role::Console => {
                // There is one `/dev/hvc0`.
                if found.console.is_none() {
                    let kept = kept_memory().map_err(|error| error.describe().to_string())?;
                    let give = move |program: &mut Program| program.give(purpose::KEPT, &kept, KEPT_RIGHTS);
                    found.console = Some(self.keep_alive(function, role, Vec::new, give)?.0);
                }
                return Ok(());
            }
        };
        let name = name.and_then(|name| DiskName::new(name.as_bytes())).ok_or("there are too many disks")?;
        let (opened, begun) = (self.disks.clone(), self.disks.clone());
        let (client_end, kept) = self.keep_alive(
            function,
            role,
            move || opened.opened(name),
            move |_| {
                begun.driver_begins(name);
                Ok(())
            },
        )?;
        self.disks.add(name, client_end, &kept);
        Ok(())
    }

    /// Starts a driver, and another whenever it ends; the client's end of its channel. What it serves besides is `more_ends`, what happens
    /// with each before it starts `begins`.
    fn keep_alive(
        &self,
        function: (Function, u32),
        role: Role,
        more_ends: impl Fn() -> Vec<ChannelEndpoint> + 'static,
        begins: impl Fn(&mut Program) -> Result<(), Error> + 'static,
    ) -> Result<(ChannelEndpoint, Rc<Kept>), String> {
        let failed = |error: Error| error.describe().to_string();
        let (server_end, client_end) = rt::account().and_then(ChannelEndpoint::pair).map_err(failed)?;
        let control = successors::only_end(&server_end).map_err(failed)?;
        let ends = Box::new(move || control().into_iter().chain(more_ends()).collect());
        let device = Device::new(self.watcher, &self.spaces, function, server_end).map_err(failed)?;
        let hand_over = Box::new(move |program: &mut Program| {
            device.hand_over(program)?;
            begins(program)
        });
        let (arguments, is_finished) = (String::from(self.arguments), Rc::default());
        let legacy = Legacy {
            path: role.driver(),
            limits: DRIVER_LIMITS,
            hand_over,
            ends,
            arguments,
            is_finished,
            dies_on_request: false,
        };
        let kept = successors::keep_alive(self.watcher, self.files, legacy)?;
        Ok((client_end, kept))
    }
}
