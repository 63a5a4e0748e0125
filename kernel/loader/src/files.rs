//! Files of the partition that the loader was started from.

use crate::pages::{Pages, PagesError};
use core::fmt;
use uefi::boot;
use uefi::proto::media::file::{File as _, FileAttribute, FileInfo, FileMode, RegularFile};
use uefi::{CStr16, Status};

/// Why a file could not be read.
pub(crate) struct FileError {
    path: &'static CStr16,
    reason: Reason,
}

enum Reason {
    /// The partition can't be read.
    Volume(Status),
    /// It does not exist, or can't be opened.
    Open(Status),
    /// It is a directory.
    Directory,
    /// The disk, or the file system, failed.
    Read(Status),
    /// It ended early.
    Short { expected: usize, found: usize },
    /// There is no room for it.
    Memory(PagesError),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match &self.reason {
            Reason::Volume(status) => write!(f, "the boot partition can't be read ({status})"),
            Reason::Open(Status::NOT_FOUND) => f.write_str("the file is missing"),
            Reason::Open(status) => write!(f, "the file can't be opened ({status})"),
            Reason::Directory => f.write_str("this is a directory"),
            Reason::Read(status) => write!(f, "the file can't be read ({status})"),
            Reason::Short { expected, found } => write!(f, "the file is cut off: {found} bytes of {expected}"),
            Reason::Memory(error) => write!(f, "no memory for the file: {error}"),
        }
    }
}

/// Reads a whole file to pages below 4 GiB; gives them and its length in bytes.
pub(crate) fn read(path: &'static CStr16) -> Result<(Pages, usize), FileError> {
    read_file(path).map_err(|reason| FileError { path, reason })
}

fn read_file(path: &CStr16) -> Result<(Pages, usize), Reason> {
    let mut file = open(path)?;
    let info = file.get_boxed_info::<FileInfo>().map_err(|error| Reason::Read(error.status()))?;
    let expected = info.file_size() as usize;
    let mut pages = Pages::below_4_gib(expected).map_err(Reason::Memory)?;
    let buffer = pages.all_bytes().get_mut(..expected).unwrap_or_default();
    let mut found = 0;
    while found < expected {
        let rest = buffer.get_mut(found..).unwrap_or_default();
        match file.read(rest).map_err(|error| Reason::Read(error.status()))? {
            0 => return Err(Reason::Short { expected, found }),
            count => found += count,
        }
    }
    Ok((pages, expected))
}

fn open(path: &CStr16) -> Result<RegularFile, Reason> {
    let volume = |error: uefi::Error| Reason::Volume(error.status());
    let mut system = boot::get_image_file_system(boot::image_handle()).map_err(volume)?;
    let mut root = system.open_volume().map_err(volume)?;
    let file = root.open(path, FileMode::Read, FileAttribute::empty()).map_err(|error| Reason::Open(error.status()))?;
    file.into_regular_file().ok_or(Reason::Directory)
}
