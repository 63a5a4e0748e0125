//! The disk image: GPT, with an EFI system partition that holds the loader, the kernel, its command line and the boot
//! archive.

use crate::build::Artifacts;
use crate::strip::without_sections;
use anyhow::{Context as _, Result};
use fatfs::{Dir, FileSystem, FormatVolumeOptions, FsOptions};
use fscommon::StreamSlice;
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use std::fs;
use std::io::{Cursor, Read, Seek, Write};

const SECTOR_BYTES: u64 = 512;
const MEBIBYTE: u64 = 1 << 20;
/// What the partition holds besides its files: the file system's own tables. Also keeps it above the least size of FAT32.
const SPARE_BYTES: u64 = 36 * MEBIBYTE;
/// Before and after the partition: the two copies of the partition table.
const TABLE_BYTES: u64 = MEBIBYTE;

/// Where firmware looks for a loader on a disk that it does not know.
pub(crate) const LOADER_PATH: &str = "EFI/BOOT/BOOTX64.EFI";
/// Where the loader looks for the kernel.
pub(crate) const KERNEL_PATH: &str = "quire/kernel";
/// The boot archive.
pub(crate) const ARCHIVE_PATH: &str = "quire/archive";
/// The kernel's command line.
pub(crate) const COMMAND_LINE_PATH: &str = "quire/cmdline";

/// The bytes of the disk.
pub(crate) fn bytes(artifacts: &Artifacts, archive: &[u8], command_line: &str) -> Result<Vec<u8>> {
    let read = |path: std::path::PathBuf| fs::read(&path).with_context(|| format!("can't read {}", path.display()));
    let (loader, kernel) = (read(artifacts.loader())?, read(artifacts.kernel())?);
    with_files(&[
        (LOADER_PATH, &loader),
        (KERNEL_PATH, &without_sections(kernel)),
        (ARCHIVE_PATH, archive),
        (COMMAND_LINE_PATH, command_line.as_bytes()),
    ])
    .context("making the disk image")
}

/// A disk whose EFI system partition holds these files.
pub(crate) fn with_files(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let content: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let partition = (content + SPARE_BYTES).next_multiple_of(MEBIBYTE);
    let size = partition + 2 * TABLE_BYTES;
    let mut disk = Cursor::new(vec![0; usize::try_from(size)?]);
    let (start, end) = partition_disk(&mut disk, partition)?;
    let mut system = StreamSlice::new(&mut disk, start, end)?;
    fatfs::format_volume(&mut system, FormatVolumeOptions::new().volume_label(*b"QUIRE      "))?;
    let system = FileSystem::new(&mut system, FsOptions::new())?;
    for (path, bytes) in files {
        write_file(&system.root_dir(), path, bytes).with_context(|| format!("writing {path}"))?;
    }
    system.unmount()?;
    Ok(disk.into_inner())
}

/// Writes the partition table; gives the range of the partition, in bytes.
fn partition_disk(disk: &mut Cursor<Vec<u8>>, partition_bytes: u64) -> Result<(u64, u64)> {
    let sectors = u32::try_from(disk.get_ref().len() as u64 / SECTOR_BYTES - 1)?;
    ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(disk)?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(disk, None)?;
    let alignment = TABLE_BYTES / SECTOR_BYTES;
    let id = table.add_partition("EFI system", partition_bytes, gpt::partition_types::EFI, 0, Some(alignment))?;
    let partition = table.partitions().get(&id).context("the new partition is not in the table")?;
    let range = (partition.first_lba * SECTOR_BYTES, (partition.last_lba + 1) * SECTOR_BYTES);
    table.write()?;
    Ok(range)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back_from_the_image() {
        let content = vec![7; 100_000];
        let image = with_files(&[("a/b/file.bin", &content), ("a/empty", b"")]).unwrap();
        let disk = GptConfig::new().open_from_device(Cursor::new(image.clone())).unwrap();
        let partition = disk.partitions().values().next().unwrap();
        let (start, end) = (partition.first_lba * SECTOR_BYTES, (partition.last_lba + 1) * SECTOR_BYTES);
        let system =
            FileSystem::new(StreamSlice::new(Cursor::new(image), start, end).unwrap(), FsOptions::new()).unwrap();
        let mut found = Vec::new();
        system.root_dir().open_file("a/b/file.bin").unwrap().read_to_end(&mut found).unwrap();
        assert!(found == content);
    }
}
