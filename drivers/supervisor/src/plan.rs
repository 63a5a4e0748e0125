//! What to start, by the command line.

use alloc::format;
use alloc::string::String;

/// Where programs are in the boot archive.
pub const SERIAL: &str = "boot/serial";
/// See [`SERIAL`].
pub const PAGER: &str = "boot/pager";
/// See [`SERIAL`].
pub const SWAP: &str = "boot/swap";
/// See [`SERIAL`].
pub const POSIX_SERVER: &str = "boot/posix-server";
/// See [`SERIAL`].
pub const FILES: &str = "boot/files";
/// See [`SERIAL`].
pub const OBJECT_TESTS: &str = "boot/object-tests";

/// See [`SERIAL`].
pub const VIRTIO_BLK: &str = "boot/virtio-blk";

/// See [`SERIAL`].
pub const VIRTIO_CONSOLE: &str = "boot/virtio-console";

/// See [`SERIAL`].
pub const VIRTIO_RNG: &str = "boot/virtio-rng";

/// See [`SERIAL`].
pub const NVME: &str = "boot/nvme";

/// The names of virtio disks, as Linux has them: `vda`, `vdb` and so on.
pub fn virtio_names() -> impl Iterator<Item = String> {
    ('a'..='z').map(|letter| format!("vd{letter}"))
}

/// The names of NVMe disks, as Linux has them: `nvme0n1`, `nvme1n1` and so on.
pub fn nvme_names() -> impl Iterator<Item = String> {
    (0..100).map(|number| format!("nvme{number}n1"))
}

/// What the machine is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// To run Linux programs: drivers and the posix-server.
    Posix,
    /// To run one of the native tests (`test=…`) alone; the program reads which from its own arguments.
    Test,
    /// To run a native test that needs the drivers.
    TestWithDrivers,
    /// To run a native test that needs a disk.
    TestWithDisk,
    /// To run a native test that needs file servers.
    TestWithFiles,
    /// To run a native test of a driver (`driver=…`, see [`DriverUnderTest`]).
    TestOfDriver,
}

/// A driver that a native test is about: `driver=NAME:VENDOR:DEVICE` on the command line, the PCI numbers of its device in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverUnderTest<'a> {
    /// The program's name in the boot archive.
    pub name: &'a str,
    /// Who made the device.
    pub vendor: u16,
    /// Which of the maker's devices it is.
    pub device: u16,
}

impl<'a> DriverUnderTest<'a> {
    /// Reads it from the value of `driver=`.
    pub fn parse(value: &'a str) -> Option<Self> {
        let mut parts = value.split(':');
        let (name, vendor, device) = (parts.next()?, parts.next()?, parts.next()?);
        let number = |text| u16::from_str_radix(text, 16).ok();
        let is_all = parts.next().is_none() && !name.is_empty();
        is_all.then_some(Self { name, vendor: number(vendor)?, device: number(device)? })
    }
}

/// The value of `test=` names no test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTest<'a>(pub &'a str);

impl Plan {
    /// Decides by the value of the command line's `test=`.
    pub fn from_test(test: Option<&str>) -> Result<Self, UnknownTest<'_>> {
        match test {
            None => Ok(Self::Posix),
            Some("object-tests" | "ipc-bench" | "scaling") => Ok(Self::Test),
            Some("serial-bench") => Ok(Self::TestWithDrivers),
            Some("disk-check" | "disk-bench" | "disk-storm" | "disk-errors") => Ok(Self::TestWithDisk),
            Some("files-check" | "files-storm" | "files-bench") => Ok(Self::TestWithFiles),
            Some("driver-check") => Ok(Self::TestOfDriver),
            Some(other) => Err(UnknownTest(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_decides_what_is_started() {
        assert_eq!(Plan::from_test(None), Ok(Plan::Posix));
        assert_eq!(Plan::from_test(Some("object-tests")), Ok(Plan::Test));
        assert_eq!(Plan::from_test(Some("ipc-bench")), Ok(Plan::Test));
        assert_eq!(Plan::from_test(Some("serial-bench")), Ok(Plan::TestWithDrivers));
        assert_eq!(Plan::from_test(Some("disk-check")), Ok(Plan::TestWithDisk));
        assert_eq!(Plan::from_test(Some("files-storm")), Ok(Plan::TestWithFiles));
        assert_eq!(Plan::from_test(Some("driver-check")), Ok(Plan::TestOfDriver));
        assert_eq!(Plan::from_test(Some("x")), Err(UnknownTest("x")));
    }

    #[test]
    fn disks_are_named_as_linux_names_them() {
        assert!(virtio_names().take(2).eq(["vda", "vdb"]));
        assert!(nvme_names().take(2).eq(["nvme0n1", "nvme1n1"]));
    }

    #[test]
    fn a_driver_under_test_is_named_with_its_device() {
        let edu = DriverUnderTest { name: "edu", vendor: 0x1234, device: 0x11e8 };
        assert_eq!(DriverUnderTest::parse("edu:1234:11e8"), Some(edu));
        for value in ["", "edu", "edu:1234", ":1234:11e8", "edu:1234:11e8:0", "edu:12345:11e8", "edu:x:y"] {
            assert_eq!(DriverUnderTest::parse(value), None, "{value}");
        }
    }
}
