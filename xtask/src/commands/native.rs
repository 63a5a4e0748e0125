//! `cargo xtask native`: a test or benchmark of the object API, alone in a guest.

use super::{SUCCESS, TIMED_OUT};
use crate::build::{self, Artifacts, ProgramSet};
use crate::guest::{BootPath, CpuClock, Disk, Failure, Guest, Interface, Layer, Machine, MachineEnd, Ports, Service};
use crate::image::Volume;
use crate::options::GuestOptions;
use crate::tree::Tree;
use crate::{FAILURE, setup};
use anyhow::Result;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often is shown what a guest has written.
const SHOW_INTERVAL: Duration = Duration::from_millis(200);

/// What the names of tests begin with that need a disk.
const DISK_TESTS: &str = "disk-";
/// What the names of tests begin with that need a disk with a file system.
const FILES_TESTS: &str = "files-";
/// What the names of the same tests begin with if the disk is to be an NVMe disk.
const NVME_TESTS: &str = "nvme-";
/// How large a disk is that is made for such a test.
const DISK_BYTES: u64 = 64 << 20;

/// A device that does what it is told, with all addresses.
const TEST_DEVICE: &str = "edu,dma_mask=0xffffffffffffffff";

/// What the names of tests of drivers begin with, the test that it is, and the PCI numbers of [`TEST_DEVICE`].
const DRIVER_TESTS: &str = "driver:";
const DRIVER_TEST: &str = "driver-check";
const TEST_DEVICE_NUMBERS: &str = ":1234:11e8";

/// The test of errors of the disk, and the sectors that can't be read, or written, the first time.
const ERRORS_TEST: &str = "disk-errors";
const BAD_READS: [u64; 2] = [2048, 6000];
const BAD_WRITES: [u64; 1] = [4096];
/// The test in which the disk's driver is killed, and how that is asked for.
const STORM_TEST: &str = "disk-storm";
const STORM: [&str; 2] = ["kill=virtio-blk,nvme", "kill_ms=400"];
/// The same with the file server; how long it takes is `storm_seconds=`.
const FILES_STORM_TEST: &str = "files-storm";
const FILES_STORM: &str = "kill=files,virtio-blk";

/// Boots with `test=name` and shows the console.
pub(crate) fn run(name: &str, options: GuestOptions) -> Result<u8> {
    setup::for_guests()?;
    // Benchmarks count instructions, which they can only do by a clock that counts them.
    let (clock, service) = match name.ends_with("bench") {
        true => (CpuClock::Instructions, Service::None),
        false => (CpuClock::Host, Service::Line),
    };
    let guest = Guest { clock, service, ..Guest::default() }.with(options);
    let artifacts = build::guest_programs(ProgramSet::NativeTests)?;
    if guest.boot == BootPath::Firmware {
        build::loader()?;
    }
    let mut shown = 0;
    let mut show = |text: &str| {
        let more = text.get(shown..).unwrap_or_default();
        // What is not whole yet comes the next time.
        let more = more.get(..more.rfind('\n').map_or(0, |end| end + 1)).unwrap_or_default();
        print!("{more}");
        shown += more.len();
    };
    let (end, _) = boot_and_show(&guest, &artifacts, name, &mut show)?;
    match end {
        Some(MachineEnd::Clean) => Ok(SUCCESS),
        Some(end @ (MachineEnd::Failure | MachineEnd::Reset | MachineEnd::Other(_))) => {
            eprintln!("xtask: {end}");
            Ok(FAILURE)
        }
        None => {
            eprintln!("xtask: the guest ran into its time limit");
            Ok(TIMED_OUT)
        }
    }
}

/// Boots a guest with `test=name`; gives its end (none: the time limit) and what it wrote to its console.
pub(crate) fn boot(guest: &Guest, artifacts: &Artifacts, name: &str) -> Result<(Option<MachineEnd>, String)> {
    boot_and_show(guest, artifacts, name, &mut |_| {})
}

/// The same; meanwhile everything that it has written so far is shown, again and again.
fn boot_and_show(
    guest: &Guest,
    artifacts: &Artifacts,
    name: &str,
    show: &mut dyn FnMut(&str),
) -> Result<(Option<MachineEnd>, String)> {
    let mut guest = guest.clone();
    let name = match name.strip_prefix(DRIVER_TESTS) {
        Some(driver) => {
            let device = if driver.contains(':') { "" } else { TEST_DEVICE_NUMBERS };
            guest.words.push(format!("driver={driver}{device}"));
            DRIVER_TEST
        }
        None => name,
    };
    let (name, interface) = match name.strip_prefix(NVME_TESTS) {
        Some(test) => (&*format!("{DISK_TESTS}{test}"), Interface::Nvme),
        None => (name, Interface::Virtio),
    };
    guest.words.push(format!("test={name}"));
    // What is on the disks is the test's affair: it mounts nothing.
    guest.disks.iter_mut().for_each(|disk| disk.mount = None);
    let directory = tempfile::tempdir()?;
    if guest.disks.is_empty() {
        if name.starts_with(DISK_TESTS) {
            guest.disks.push(empty_disk(directory.path())?);
        } else if name.starts_with(FILES_TESTS) {
            guest.disks.push(formatted_disk(directory.path())?);
        }
    }
    guest.disks.iter_mut().for_each(|disk| disk.interface = interface);
    guest.devices.push(TEST_DEVICE.to_owned());
    match name {
        ERRORS_TEST => {
            let once = |request, sector| Failure { request, sector, once: true };
            let mut errors: Vec<_> = BAD_READS.iter().map(|sector| once("read", Some(*sector))).collect();
            errors.extend(BAD_WRITES.iter().map(|sector| once("write", Some(*sector))));
            errors.push(once("flush", None));
            let errors = Layer::Failures(errors);
            guest.disks.iter_mut().for_each(|disk| disk.layer = errors.clone());
        }
        STORM_TEST => guest.words.extend(STORM.map(str::to_owned)),
        FILES_STORM_TEST => guest.words.push(FILES_STORM.to_owned()),
        _ => {}
    }
    let media = guest.media_of(artifacts, crate::payload::native_archive(artifacts)?)?;
    let _announced = guest.announce(artifacts, &media)?;
    let mut machine = Machine::start(&guest, &media, Ports::Console)?;
    let end = loop {
        let end = machine.wait_until(Some(Instant::now() + SHOW_INTERVAL))?;
        show(&machine.log().text());
        if end.is_some() || machine.is_overdue() {
            break end;
        }
    };
    if name.starts_with(FILES_TESTS) && end == Some(MachineEnd::Clean) {
        check_file_systems(&guest)?;
    }
    Ok((end, machine.log().text()))
}

/// A disk of zeroes.
/// Has e2fsck look at the disks.
fn check_file_systems(guest: &Guest) -> Result<()> {
    for disk in &guest.disks {
        let volume = Volume { file: disk.file.clone(), offset: 0 };
        if volume.is_ext()? {
            volume.check()?;
        }
    }
    Ok(())
}

fn formatted_disk(directory: &Path) -> Result<Disk> {
    let disk = empty_disk(directory)?;
    let volume = Volume { file: directory.join("empty.img"), offset: 0 };
    volume.make(DISK_BYTES, &Tree::default())?;
    Ok(disk)
}

fn empty_disk(directory: &Path) -> Result<Disk> {
    let path = directory.join("empty.img");
    File::create(&path)?.set_len(DISK_BYTES)?;
    Ok(Disk::kept(&path))
}
