//! The EFI system partition: a FAT file system with the loader, the kernel, its command line and the boot archive.

use super::MEBIBYTE;
use crate::build::Artifacts;
use crate::strip::without_sections;
use anyhow::{Context as _, Result};
use fatfs::{Dir, FileSystem, FormatVolumeOptions, FsOptions};
use std::fs;
use std::io::{Cursor, Read, Seek, Write};
use std::path::PathBuf;

/// What the partition holds besides its files: the file system's own tables. Also keeps it above the least size of FAT32.
const SPARE_BYTES: u64 = 36 * MEBIBYTE;

/// Where firmware looks for a loader on a disk that it does not know.
pub(crate) const LOADER_PATH: &str = "EFI/BOOT/BOOTX64.EFI";
/// Where the loader looks for the kernel.
pub(crate) const KERNEL_PATH: &str = "quire/kernel";
/// The boot archive.
pub(crate) const ARCHIVE_PATH: &str = "quire/archive";
/// The kernel's command line.
pub(crate) const COMMAND_LINE_PATH: &str = "quire/cmdline";

/// Paths and contents of the files of a system partition.
pub(crate) type Files = Vec<(&'static str, Vec<u8>)>;

/// What the firmware needs to boot this archive.
pub(crate) fn files(artifacts: &Artifacts, archive: Vec<u8>, command_line: &str) -> Result<Files> {
    let read = |path: PathBuf| fs::read(&path).with_context(|| format!("can't read {}", path.display()));
    Ok(vec![
        (LOADER_PATH, read(artifacts.loader())?),
        (KERNEL_PATH, without_sections(read(artifacts.kernel())?)),
        (ARCHIVE_PATH, archive),
        (COMMAND_LINE_PATH, command_line.as_bytes().to_vec()),
    ])
}

/// How large a partition with these files must be at least.
pub(super) fn least_bytes<B: AsRef<[u8]>>(files: &[(&str, B)]) -> u64 {
    let content: u64 = files.iter().map(|(_, bytes)| bytes.as_ref().len() as u64).sum();
    (content + SPARE_BYTES).next_multiple_of(MEBIBYTE)
}

/// The bytes of the partition.
pub(super) fn bytes<B: AsRef<[u8]>>(files: &[(&str, B)], size: u64) -> Result<Vec<u8>> {
    let mut volume = Cursor::new(vec![0; usize::try_from(size)?]);
    fatfs::format_volume(&mut volume, FormatVolumeOptions::new().volume_label(*b"QUIRE      "))?;
    let system = FileSystem::new(&mut volume, FsOptions::new())?;
    for (path, bytes) in files {
        write_file(&system.root_dir(), path, bytes.as_ref()).with_context(|| format!("writing {path}"))?;
    }
    system.unmount()?;
    Ok(volume.into_inner())
}

fn write_file<T: Read + Write + Seek>(root: &Dir<'_, T>, path: &str, bytes: &[u8]) -> Result<()> {
    for (end, _) in path.match_indices('/') {
        root.create_dir(path.get(..end).unwrap_or_default())?;
    }
    let mut file = root.create_file(path)?;
    file.truncate()?;
    file.write_all(bytes)?;
    Ok(())
}
