//! What to start, by the command line.

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

/// The names of disks, as Linux has them: `vda`, `vdb` and so on.
pub fn disk_letters() -> impl Iterator<Item = [u8; 3]> {
    (b'a'..=b'z').map(|letter| [b'v', b'd', letter])
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
        assert_eq!(Plan::from_test(Some("x")), Err(UnknownTest("x")));
    }
}
