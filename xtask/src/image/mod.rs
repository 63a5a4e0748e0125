//! Disk images: a partition table (GPT), an EFI system partition that the firmware boots from, a root file system (ext4), and a
//! swap partition.
//!
//! - [`make`] makes one in a file, [`provide`] one that lasts: it keeps what was changed on it;
//! - [`with_files`] gives a disk with only a system partition, as bytes;
//! - [`volumes`] finds the file systems in any image.

mod ext4;
mod system_partition;
mod write_log;

pub(crate) use ext4::Volume;
pub(crate) use system_partition::{ARCHIVE_PATH, COMMAND_LINE_PATH, Files, KERNEL_PATH, LOADER_PATH, files};
pub(crate) use write_log::{Chance, Replay, WriteLog};

use crate::progress::note;
use crate::tree::Tree;
use anyhow::{Context as _, Result};
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{self, Type};
use gpt::{DiskDevice, GptConfig};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::io::Cursor;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const SECTOR_BYTES: u64 = 512;
/// 2^20 bytes.
pub(crate) const MEBIBYTE: u64 = 1 << 20;
/// The image that lasts, in the directory for what xtask makes.
pub(crate) const LASTING: &str = "quire.img";
/// Before and after the partitions: the two copies of the partition table.
const TABLE_BYTES: u64 = MEBIBYTE;
/// The least size of a system partition: room for kernels to come.
const SYSTEM_BYTES: u64 = 96 * MEBIBYTE;

/// The numbers of the partitions of an image that we make.
pub(crate) const SYSTEM_PARTITION: u32 = 1;
/// See [`SYSTEM_PARTITION`].
pub(crate) const ROOT_PARTITION: u32 = 2;
/// See [`SYSTEM_PARTITION`].
const SWAP_PARTITION: u32 = 3;

/// How large partitions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sizes {
    /// The root file system; it becomes larger if its files need more.
    pub(crate) root_bytes: u64,
    /// None if 0.
    pub(crate) swap_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { root_bytes: 1024 * MEBIBYTE, swap_bytes: 512 * MEBIBYTE }
    }
}

/// Whether an image that is there is to be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// As long as it was made of the same files.
    #[default]
    IfSame,
    /// No: all that was changed on it is lost.
    Never,
}

/// A partition to be.
struct Plan {
    name: &'static str,
    kind: Type,
    size_bytes: u64,
}

/// Makes a disk image in a file that is not there yet.
pub(crate) fn make(path: &Path, sizes: Sizes, tree: &Tree, system: &Files) -> Result<()> {
    /// Tables and journal of the file system.
    const OVERHEAD_BYTES: u64 = 64 * MEBIBYTE;
    let root_bytes = sizes.root_bytes.max(tree.size_bytes() * 5 / 4 + OVERHEAD_BYTES).next_multiple_of(MEBIBYTE);
    let system_bytes = system_partition::least_bytes(system).max(SYSTEM_BYTES);
    let mut plans = vec![
        Plan { name: "EFI system", kind: partition_types::EFI, size_bytes: system_bytes },
        Plan { name: "root", kind: partition_types::LINUX_FS, size_bytes: root_bytes },
    ];
    if sizes.swap_bytes > 0 {
        let size_bytes = sizes.swap_bytes.next_multiple_of(MEBIBYTE);
        plans.push(Plan { name: "swap", kind: partition_types::LINUX_SWAP, size_bytes });
    }
    let mut disk = File::options().read(true).write(true).create_new(true).open(path)?;
    disk.set_len(plans.iter().map(|plan| plan.size_bytes).sum::<u64>() + 2 * TABLE_BYTES)?;
    let ranges = partition_disk(&mut disk, &plans)?;
    let root = ranges.get(1).context("the root partition")?;
    Volume { file: path.to_owned(), offset: root.start }.make(root.end - root.start, tree)?;
    write_system(path, system).context("writing the system partition")
}

/// The disk image at `path`: what was changed on it is kept, unless it is to be of other files or sizes now. Its system partition is
/// always written anew.
pub(crate) fn provide(path: &Path, sizes: Sizes, tree: &Tree, system: &Files, reuse: Reuse) -> Result<()> {
    let stamp = format!("{sizes:?} {:x}", tree.fingerprint());
    let stamp_path = path.with_extension("stamp");
    let is_same = fs::read_to_string(&stamp_path).is_ok_and(|found| found == stamp);
    if path.exists() && is_same && reuse == Reuse::IfSame && write_system(path, system).is_ok() {
        note(&format!("keeping {} with what was changed on it (--fresh makes it anew)", path.display()));
        return Ok(());
    }
    match fs::rename(path, path.with_extension("old")) {
        Ok(()) => note(&format!("making {} anew; what it was is now quire.old", path.display())),
        Err(_) => note(&format!("making {}", path.display())),
    }
    make(path, sizes, tree, system).with_context(|| format!("making {}", path.display()))?;
    fs::write(&stamp_path, stamp).with_context(|| format!("can't write {}", stamp_path.display()))
}

/// Writes these files, and no others, to the system partition; it stays as it is if there are none.
fn write_system(path: &Path, system: &Files) -> Result<()> {
    const PIECE_BYTES: usize = 1 << 16;
    if system.is_empty() {
        return Ok(());
    }
    let disk = File::options().read(true).write(true).open(path)?;
    let range = partitions(&disk)?.into_iter().find(|(number, _)| *number == SYSTEM_PARTITION);
    let (_, Range { start, end }) = range.context("the image has no partition 1")?;
    anyhow::ensure!(system_partition::least_bytes(system) <= end - start, "the system partition is too small");
    let bytes = system_partition::bytes(system, end - start)?;
    fallocate(&disk, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start, end - start)?;
    for (piece, place) in bytes.chunks(PIECE_BYTES).zip((start..).step_by(PIECE_BYTES)) {
        if piece.iter().any(|byte| *byte != 0) {
            disk.write_all_at(piece, place)?;
        }
    }
    Ok(())
}

/// A disk whose EFI system partition holds these files; it has no other partition.
pub(crate) fn with_files<B: AsRef<[u8]>>(files: &[(&str, B)]) -> Result<Vec<u8>> {
    let size_bytes = system_partition::least_bytes(files);
    let mut disk = Cursor::new(vec![0; usize::try_from(size_bytes + 2 * TABLE_BYTES)?]);
    let plan = Plan { name: "EFI system", kind: partition_types::EFI, size_bytes };
    let ranges = partition_disk(&mut disk, &[plan])?;
    let mut disk = disk.into_inner();
    for Range { start, end } in ranges {
        let place = disk.get_mut(usize::try_from(start)?..usize::try_from(end)?).context("the partition")?;
        place.copy_from_slice(&system_partition::bytes(files, end - start)?);
    }
    Ok(disk)
}

/// Writes the partition table; gives the ranges of the partitions, in bytes.
fn partition_disk<D: DiskDevice>(disk: &mut D, plans: &[Plan]) -> Result<Vec<Range<u64>>> {
    let length = disk.seek(std::io::SeekFrom::End(0))?;
    let sectors = u32::try_from(length / SECTOR_BYTES - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(disk)?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(disk, None)?;
    let alignment = TABLE_BYTES / SECTOR_BYTES;
    let mut ranges = Vec::new();
    for Plan { name, kind, size_bytes } in plans {
        let id = table.add_partition(name, *size_bytes, kind.clone(), 0, Some(alignment))?;
        let partition = table.partitions().get(&id).context("the new partition is not in the table")?;
        ranges.push(partition.first_lba * SECTOR_BYTES..(partition.last_lba + 1) * SECTOR_BYTES);
    }
    table.write()?;
    Ok(ranges)
}

/// The partitions of a disk, by number, with their ranges in bytes.
fn partitions(disk: &File) -> Result<Vec<(u32, Range<u64>)>> {
    let config = GptConfig::new().writable(false).logical_block_size(LogicalBlockSize::Lb512);
    let table = config.open_from_device(disk.try_clone()?)?;
    let used = table.partitions().iter().filter(|(_, partition)| partition.is_used());
    let range = |first: u64, last: u64| first * SECTOR_BYTES..(last + 1) * SECTOR_BYTES;
    Ok(used.map(|(number, partition)| (*number, range(partition.first_lba, partition.last_lba))).collect())
}

/// The first sector of the swap partition of an image that we have made.
pub(crate) fn swap_sector(path: &Path) -> Result<u64> {
    let swap = partitions(&File::open(path)?)?.into_iter().find(|(number, _)| *number == SWAP_PARTITION);
    swap.map(|(_, range)| range.start / SECTOR_BYTES).context("the image has no swap partition")
}

/// The ext file systems of an image, with the numbers of their partitions; `None`: the image is one.
pub(crate) fn volumes(path: &Path) -> Result<Vec<(Option<u32>, Volume)>> {
    let disk = File::open(path).with_context(|| format!("can't open {}", path.display()))?;
    let volume = |offset| Volume { file: path.to_owned(), offset };
    let whole = (None, volume(0));
    // A disk without a table has no partitions.
    let parts = partitions(&disk).unwrap_or_default();
    let parts = parts.into_iter().map(|(number, range)| (Some(number), volume(range.start)));
    let mut found = Vec::new();
    for (number, volume) in std::iter::once(whole).chain(parts) {
        if volume.is_ext()? {
            found.push((number, volume));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot_archive::Metadata;
    use fatfs::{FileSystem, FsOptions};
    use fscommon::StreamSlice;
    use std::io::Read as _;

    fn system_file(image: impl fatfs::ReadWriteSeek, range: Range<u64>, path: &str) -> Vec<u8> {
        let slice = StreamSlice::new(image, range.start, range.end).unwrap();
        let mut found = Vec::new();
        FileSystem::new(slice, FsOptions::new())
            .unwrap()
            .root_dir()
            .open_file(path)
            .unwrap()
            .read_to_end(&mut found)
            .unwrap();
        found
    }

    #[test]
    fn files_come_back_from_the_image() {
        let content = vec![7; 100_000];
        let image = with_files(&[("a/b/file.bin", &content[..]), ("a/empty", b"")]).unwrap();
        let disk = GptConfig::new().open_from_device(Cursor::new(image.clone())).unwrap();
        let partition = disk.partitions().values().next().unwrap();
        let range = partition.first_lba * SECTOR_BYTES..(partition.last_lba + 1) * SECTOR_BYTES;
        assert!(system_file(Cursor::new(image), range, "a/b/file.bin") == content);
    }

    #[test]
    fn an_image_lasts_as_long_as_its_files_are_the_same() {
        let mut tree = Tree::default();
        tree.directory("", Metadata::of_root(0o755));
        tree.file("/etc/hostname", Metadata::of_root(0o644), b"quire\n".to_vec());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("quire.img");
        let sizes = Sizes { root_bytes: 64 * MEBIBYTE, swap_bytes: 16 * MEBIBYTE };
        let system = |text: &[u8]| vec![(KERNEL_PATH, text.to_vec())];
        let provide = |tree: &Tree, text: &[u8], reuse| provide(&path, sizes, tree, &system(text), reuse).unwrap();
        provide(&tree, b"first", Reuse::IfSame);
        let disk = File::options().read(true).write(true).open(&path).unwrap();
        let ranges = partitions(&disk).unwrap();
        assert_eq!(ranges.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3]);
        let found = volumes(&path).unwrap();
        assert_eq!(found.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [Some(ROOT_PARTITION)]);
        found[0].1.check().unwrap();
        // In swap, where nothing else writes.
        let mark = ranges[2].1.start;
        let marked = || {
            let mut byte = [0];
            File::open(&path).unwrap().read_exact_at(&mut byte, mark).unwrap();
            byte[0] == 1
        };
        disk.write_all_at(&[1], mark).unwrap();
        provide(&tree, b"second", Reuse::IfSame);
        assert!(marked());
        assert_eq!(system_file(disk.try_clone().unwrap(), ranges[0].1.clone(), KERNEL_PATH), b"second");
        provide(&tree, b"third", Reuse::Never);
        assert!(!marked());
        disk.write_all_at(&[1], mark).unwrap();
        tree.file("/etc/hostname", Metadata::of_root(0o644), b"other\n".to_vec());
        provide(&tree, b"third", Reuse::IfSame);
        assert!(!marked());
    }
}
