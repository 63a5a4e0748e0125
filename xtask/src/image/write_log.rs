//! What a disk was told to write, in order, and what is left of it when the power fails.
//!
//! QEMU's `blklogwrites` logs every write and flush in the format of Linux's dm-log-writes
//! (`Documentation/admin-guide/device-mapper/log-writes.rst`): a first sector, then for each request a sector that describes it,
//! followed by its data. A disk keeps what it was told in a cache until it is told to flush it; so at any point of the log the power can
//! fail in many ways: all before the last flush is there, and any part of what came later.

use anyhow::{Context as _, Result, ensure};
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const SECTOR_BYTES: u64 = 512;
/// What a disk writes wholly or not at all: its physical sectors.
const BLOCK_SECTORS: u64 = 8;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DURABLE: u64 = 2;
const DISCARD: u64 = 4;

/// A request in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Where it is in the log, in bytes.
    place: u64,
    /// First sector and number of sectors on the disk.
    sector: u64,
    sectors: u64,
    flags: u64,
}

/// The log of a disk.
#[derive(Debug)]
pub(crate) struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

/// A disk whose power failed again and again: the writes that were flushed, so far.
#[derive(Debug)]
pub(crate) struct Replay<'a> {
    log: &'a WriteLog,
    /// What is durable at the last cut.
    disk: File,
    durable: usize,
}

/// Numbers that look random, the same for the same seed (xorshift64: Marsaglia, 2003).
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// Starts from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

impl Entry {
    /// How many bytes of data follow its description.
    fn data_bytes(&self) -> u64 {
        if self.flags & DISCARD == 0 { self.sectors * SECTOR_BYTES } else { 0 }
    }

    fn end(&self) -> u64 {
        self.place + SECTOR_BYTES + self.data_bytes()
    }

    fn is_write(&self) -> bool {
        self.flags & DISCARD == 0 && self.sectors > 0
    }
}

impl WriteLog {
    /// Reads the log of a QEMU that has ended.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("can't open {}", path.display()))?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::new(file.try_clone()?);
        let first = read_words(&mut reader)?;
        ensure!(first.first() == Some(&MAGIC), "{} is no log of writes", path.display());
        let mut entries = Vec::new();
        let mut place = SECTOR_BYTES;
        while place + SECTOR_BYTES <= length {
            let [sector, sectors, flags, _] = read_words(&mut reader)?;
            let entry = Entry { place, sector, sectors, flags };
            // What was not written any more reads as zeros.
            if (sectors == 0 && flags == 0) || entry.end() > length {
                break;
            }
            place = entry.end();
            reader.seek(SeekFrom::Start(place))?;
            entries.push(entry);
        }
        Ok(Self { file, entries })
    }

    /// How many requests it has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How long the log was when the request with this index had been logged, in bytes.
    pub(crate) fn length_after(&self, index: usize) -> u64 {
        self.entries.get(index).map_or(u64::MAX, Entry::end)
    }

    /// How many requests are durable when `count` of them have been made: all before the last flush.
    fn durable_of(&self, count: usize) -> usize {
        let flushed = |entry: &Entry| entry.flags & FLUSH != 0;
        self.entries.get(..count).and_then(|entries| entries.iter().rposition(flushed)).unwrap_or(0)
    }

    /// Writes the first sectors of a request, at most `most`, to a disk.
    fn apply(&self, entry: &Entry, most: u64, disk: &File) -> Result<()> {
        if !entry.is_write() {
            return Ok(());
        }
        let mut data = vec![0; usize::try_from(entry.sectors.min(most) * SECTOR_BYTES)?];
        self.file.read_exact_at(&mut data, entry.place + SECTOR_BYTES)?;
        disk.write_all_at(&data, entry.sector * SECTOR_BYTES).context("writing to the disk")
    }
}

impl<'a> Replay<'a> {
    /// Begins with a disk as it was before the first request of the log: a file that is going to be changed.
    pub(crate) fn begin(log: &'a WriteLog, disk: &Path) -> Result<Self> {
        let disk = File::options().read(true).write(true).open(disk)?;
        Ok(Self { log, disk, durable: 0 })
    }

    /// Brings the disk to what is durable when `count` requests have been made; not less than last time.
    pub(crate) fn flush_up_to(&mut self, count: usize) -> Result<()> {
        let durable = self.log.durable_of(count);
        for entry in self.log.entries.get(self.durable..durable).unwrap_or_default() {
            self.log.apply(entry, u64::MAX, &self.disk)?;
        }
        self.durable = self.durable.max(durable);
        Ok(())
    }

    /// Adds to a copy of that disk what happens to be there of the requests after the last flush, up to the one before `count`: each
    /// of them wholly, not at all, or, if it was the last, in part.
    pub(crate) fn tear(&self, count: usize, copy: &Path, chance: &mut Chance) -> Result<()> {
        let disk = File::options().write(true).open(copy)?;
        let volatile = self.log.entries.get(self.durable..count).unwrap_or_default();
        // Nothing of it, all of it, or anything between.
        let share = chance.below(5);
        let last = volatile.len().saturating_sub(1);
        for (index, entry) in volatile.iter().enumerate() {
            let is_there = chance.below(4) < share;
            if entry.flags & DURABLE != 0 || is_there {
                let is_torn = index == last && entry.flags & DURABLE == 0;
                let most =
                    if is_torn { chance.below(entry.sectors / BLOCK_SECTORS + 1) * BLOCK_SECTORS } else { u64::MAX };
                self.log.apply(entry, most, &disk)?;
            }
        }
        Ok(())
    }
}

/// The first four words of a sector; the reader is behind the sector then.
fn read_words(reader: &mut BufReader<File>) -> Result<[u64; 4]> {
    let mut sector = [0; SECTOR_BYTES as usize];
    reader.read_exact(&mut sector)?;
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(sector.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into()?);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A log of requests: first sector, number of sectors, flags; each fills its sectors with its index, counted from 1.
    fn log(directory: &Path, requests: &[(u64, u64, u64)]) -> WriteLog {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
        for ((sector, sectors, flags), fill) in requests.iter().zip(1..) {
            let mut description = [*sector, *sectors, *flags, 0].map(u64::to_le_bytes).concat();
            description.resize(512, 0);
            bytes.extend(description);
            bytes.extend(vec![fill; *sectors as usize * 512]);
        }
        bytes.extend([0; 2048]);
        let path = directory.join("log");
        fs::write(&path, bytes).unwrap();
        WriteLog::read(&path).unwrap()
    }

    fn sectors(disk: &Path) -> Vec<u8> {
        fs::read(disk).unwrap().iter().step_by(512).copied().collect()
    }

    #[test]
    fn what_was_flushed_stays_and_the_rest_may_be_torn() {
        let directory = tempfile::tempdir().unwrap();
        let log = log(directory.path(), &[(0, 2, 0), (0, 0, FLUSH), (1, 3, 0), (2, 1, DURABLE), (0, 16, 0)]);
        assert_eq!(log.len(), 5);
        assert_eq!(log.length_after(1), 512 + 512 + 1024 + 512);
        let (disk, copy) = (directory.path().join("disk"), directory.path().join("copy"));
        fs::write(&disk, [0; 16 * 512]).unwrap();
        let mut replay = Replay::begin(&log, &disk).unwrap();
        replay.flush_up_to(1).unwrap();
        assert_eq!(sectors(&disk)[..4], [0, 0, 0, 0]);
        replay.flush_up_to(5).unwrap();
        assert_eq!(sectors(&disk)[..4], [1, 1, 0, 0]);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            fs::copy(&disk, &copy).unwrap();
            replay.tear(5, &copy, &mut Chance::new(seed)).unwrap();
            seen.insert(sectors(&copy));
        }
        let begins = |start: &[u8]| seen.iter().any(|sectors| sectors.starts_with(start));
        assert!(begins(&[1, 1, 4, 0]) && begins(&[1, 3, 4, 3]), "{seen:?}");
        assert!(begins(&[5; 16]) && begins(&[5, 5, 5, 5, 5, 5, 5, 5, 0]), "{seen:?}");
        assert!(seen.iter().all(|sectors| sectors[2] >= 4), "what is durable at once is there: {seen:?}");
    }
}
