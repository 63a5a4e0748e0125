//! Directories: names and what they stand for (Documentation/filesystems/ext4/directory.rst).

mod entries;
mod hash;
mod index;

pub(crate) use entries::seal;

use crate::Ext4;
use crate::buffers::{Block, Kind};
use crate::change::Change;
use crate::device::Device;
use crate::error::{Error, Place, Result};
use crate::inode::{FileKind, Inode, flag};
use crate::map::{Lie, State};
use crate::superblock::compatible;
use core::ops::ControlFlow;
use entries::{DOT_BYTES, Format, Named, Record};

/// Bytes of the longest name.
const MOST_NAME_BYTES: usize = 255;
/// Blocks that an insertion adds to a directory at most: a leaf, and two nodes of its index.
const MOST_NEW_BLOCKS: u32 = 3;

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The inode that it stands for.
    pub inode: u32,
    /// What that is; none on file systems that don't tell.
    pub kind: Option<FileKind>,
    /// The name: 1 to 255 bytes.
    pub name: &'a [u8],
    /// Where the next entry is: a listing can go on there.
    pub next: u64,
}

/// Where a name was found.
#[derive(Clone)]
pub(crate) struct Spot {
    block: Block,
    record: Record,
    /// The record before it in the block.
    before: Option<usize>,
}

impl Spot {
    /// The inode that the name stands for.
    pub(crate) fn inode(&self) -> u32 {
        self.record.inode
    }
}

/// Fails unless a name can be that of a new entry.
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    let fits = (1..=MOST_NAME_BYTES).contains(&name.len()) && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
    if !fits || name == b"." || name == b".." { Err(Error::BadName) } else { Ok(()) }
}

impl<D: Device> Ext4<D> {
    fn format(&self) -> Format {
        Format::new(&self.superblock)
    }

    /// Blocks of a directory.
    fn directory_blocks(&self, directory: &Inode) -> Result<u32> {
        let size = u64::from(self.superblock.block_bytes);
        if !directory.is_directory() {
            return Err(Error::NotDirectory);
        }
        let blocks = u32::try_from(directory.size / size).ok();
        // Directories have no holes to speak of.
        let blocks =
            blocks.filter(|blocks| directory.size.is_multiple_of(size) && u64::from(*blocks) <= self.superblock.blocks);
        blocks.ok_or_else(|| Error::corrupt("size of a directory", Place::Inode(directory.number)))
    }

    async fn directory_block_at(&self, directory: &Inode, block: u64) -> Result<Block> {
        let seed = directory.seed(&self.superblock);
        let check = |bytes: &[u8]| {
            if self.superblock.has_checksums() && !entries::checksum_holds(seed, bytes) {
                return Err(Error::corrupt("checksum of a block of a directory", Place::Block(block)));
            }
            Ok(())
        };
        self.buffers.get(block, Kind::Directory { seed }, check).await
    }

    /// A block of a directory; it must be there.
    async fn directory_block(&self, directory: &Inode, number: u32) -> Result<Block> {
        match self.block_of(directory, number).await? {
            Some(block) => self.directory_block_at(directory, block).await,
            None => Err(Error::corrupt("hole in a directory", Place::Inode(directory.number))),
        }
    }

    /// Goes through the blocks of a directory in order from `first`, without its holes, until `visit` has found something.
    async fn walk_blocks<R>(
        &self,
        directory: &Inode,
        first: u32,
        mut visit: impl FnMut(u32, &Block) -> Result<Option<R>>,
    ) -> Result<Option<R>> {
        let blocks = self.directory_blocks(directory)?;
        let mut at = first;
        while at < blocks {
            let extent = match self.find_block(directory, at).await? {
                Lie::In(extent) if extent.state == State::Written => extent.from(at),
                Lie::In(_) => return Err(Error::corrupt("unwritten directory", Place::Inode(directory.number))),
                Lie::Until(next) => {
                    at = u32::try_from(next).unwrap_or(blocks).max(at + 1);
                    continue;
                }
            };
            for step in 0..extent.count.min(blocks - at) {
                let block = self.directory_block_at(directory, extent.start + u64::from(step)).await?;
                if let Some(found) = visit(at + step, &block)? {
                    return Ok(Some(found));
                }
            }
            at = at.saturating_add(extent.count);
        }
        Ok(None)
    }

    /// Shows the entries of a directory from `cookie` on, 0 for the start, until `show` breaks; also `.` and `..`. Entries that
    /// come and go meanwhile may or may not be shown; the others are shown once.
    ///
    /// # Errors
    /// [`Error::NotDirectory`], [`Error::NotFound`], [`Error::Corrupt`], [`Error::Device`].
    pub async fn list(
        &self,
        directory: u32,
        cookie: u64,
        mut show: impl FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let _guard = self.lock.shared().await;
        let directory = self.load(directory).await?;
        let format = self.format();
        let size = u64::from(self.superblock.block_bytes);
        let first = u32::try_from(cookie / size).unwrap_or(u32::MAX);
        let mut show_block = |number: u32, block: &Block| {
            let base = u64::from(number) * size;
            block.read(|bytes| {
                let shown = format.visit(bytes, bytes.len(), |record| {
                    let place = base + record.at as u64;
                    if record.inode == 0 || place < cookie {
                        return None;
                    }
                    let entry = Entry {
                        inode: record.inode,
                        kind: FileKind::of_entry_code(record.code),
                        name: record.name(bytes),
                        next: place + record.length as u64,
                    };
                    show(entry).is_break().then_some(())
                });
                shown.map_err(|()| bad_block(block))
            })
        };
        self.walk_blocks(&directory, first, &mut show_block).await?;
        Ok(())
    }

    /// Finds a name in a directory.
    pub(crate) async fn find_name(&self, directory: &Inode, name: &[u8]) -> Result<Option<Spot>> {
        if directory.flags & flag::INDEX != 0
            && !matches!(name, b"." | b"..")
            && let Some(found) = self.find_indexed(directory, name).await?
        {
            return Ok(found);
        }
        let format = self.format();
        self.walk_blocks(directory, 0, |_, block| find_in(&format, block, name)).await
    }

    /// Finds a name that must be there.
    pub(crate) async fn require_name(&self, directory: &Inode, name: &[u8]) -> Result<Spot> {
        self.find_name(directory, name).await?.ok_or(Error::NotFound)
    }

    /// Fails unless a directory has nothing but itself and its parent.
    pub(crate) async fn require_empty(&self, directory: &Inode) -> Result<()> {
        let format = self.format();
        let occupied = |_, block: &Block| {
            let found = block.read(|bytes| {
                format.visit(bytes, bytes.len(), |record| {
                    let named = record.inode != 0 && !matches!(record.name(bytes), b"." | b"..");
                    named.then_some(())
                })
            });
            found.map_err(|()| bad_block(block))
        };
        match self.walk_blocks(directory, 0, occupied).await? {
            Some(()) => Err(Error::NotEmpty),
            None => Ok(()),
        }
    }

    /// Adds a name that is not there. The directory's inode is to be stored.
    pub(crate) async fn add_name(
        &self,
        change: &Change<'_, D>,
        directory: &mut Inode,
        name: &[u8],
        inode: u32,
        kind: FileKind,
    ) -> Result<()> {
        let entry = Named { inode, code: kind.entry_code(), name };
        if directory.flags & flag::INDEX != 0 {
            if self.insert_indexed(change, directory, &entry).await? {
                return Ok(());
            }
            // An index that is not understood is given up: directories are complete without.
            directory.flags &= !flag::INDEX;
        }
        let format = self.format();
        let blocks = self.directory_blocks(directory)?;
        let mut room = None;
        self.walk_blocks(directory, 0, |_, block| {
            let fits = block.read(|bytes| format.room(bytes, name)).map_err(|()| bad_block(block))?;
            room = fits.map(|_| block.clone());
            Ok(fits.map(|_| ()))
        })
        .await?;
        if let Some(block) = room {
            return self.insert_into(change, &block, &entry);
        }
        if blocks == 1 && self.superblock.features.has(compatible::DIR_INDEX) {
            self.make_index(change, directory).await?;
            if self.insert_indexed(change, directory, &entry).await? {
                return Ok(());
            }
        }
        let (_, block) = self.append_block(change, directory).await?;
        self.insert_into(change, &block, &entry)
    }

    fn insert_into(&self, change: &Change<'_, D>, block: &Block, entry: &Named<'_>) -> Result<()> {
        if self.try_insert(change, block, entry)? { Ok(()) } else { Err(bad_block(block)) }
    }

    /// Adds a name to a block if it has room.
    fn try_insert(&self, change: &Change<'_, D>, block: &Block, entry: &Named<'_>) -> Result<bool> {
        let format = self.format();
        let room = block.read(|bytes| format.room(bytes, entry.name)).map_err(|()| bad_block(block))?;
        let Some(record) = room else { return Ok(false) };
        let end = record.at + record.used() + entries::needed(entry.name.len());
        change.edit(block, record.at..end, |bytes| format.share(bytes, &record, entry));
        Ok(true)
    }

    /// Takes a name out.
    pub(crate) fn remove_name(&self, change: &Change<'_, D>, spot: &Spot) {
        let format = self.format();
        match spot.before {
            Some(before) => {
                let range = before..before + entries::needed(0);
                change.edit(&spot.block, range, |head| format.lengthen(head, spot.record.length));
            }
            None => {
                let at = spot.record.at;
                change.edit(&spot.block, at..at + 4, |inode| inode.fill(0));
            }
        }
    }

    /// Lets a name stand for something else.
    pub(crate) fn replace_name(&self, change: &Change<'_, D>, spot: &Spot, inode: u32, kind: FileKind) {
        let format = self.format();
        let at = spot.record.at;
        change
            .edit(&spot.block, at..at + entries::needed(0), |bytes| format.replace(bytes, 0, inode, kind.entry_code()));
    }

    /// Adds an empty block to a directory; gives its number within it.
    async fn append_block(&self, change: &Change<'_, D>, directory: &mut Inode) -> Result<(u32, Block)> {
        let number = self.directory_blocks(directory)?;
        let start = self.add_block(change, directory, number).await?;
        directory.size += u64::from(self.superblock.block_bytes);
        let block = change.fresh(start, Kind::Directory { seed: directory.seed(&self.superblock) })?;
        let format = self.format();
        change.edit(&block, 0..format.block_bytes, |bytes| format.initialise(bytes));
        Ok((number, block))
    }

    /// Makes the first block of a new directory. The inode is to be stored.
    pub(crate) async fn make_directory(
        &self,
        change: &Change<'_, D>,
        directory: &mut Inode,
        parent: u32,
    ) -> Result<()> {
        directory.size = 0;
        let (_, block) = self.append_block(change, directory).await?;
        let format = self.format();
        let code = FileKind::Directory.entry_code();
        let (own, usable) = (directory.number, format.usable());
        change.edit(&block, 0..format.block_bytes, |bytes| {
            format.put(bytes, 0, DOT_BYTES, &Named { inode: own, code, name: b"." });
            format.put(bytes, DOT_BYTES, usable - DOT_BYTES, &Named { inode: parent, code, name: b".." });
        });
        Ok(())
    }

    /// Blocks that an insertion into a directory may touch, its inode included.
    pub(crate) fn add_credits(&self, directory: &Inode) -> u32 {
        MOST_NEW_BLOCKS * (1 + self.fill_credits(directory)) + 4
    }
}

/// Finds a name in a block.
fn find_in(format: &Format, block: &Block, name: &[u8]) -> Result<Option<Spot>> {
    let mut before = None;
    let found = block.read(|bytes| {
        format.visit(bytes, bytes.len(), |record| {
            if record.is_named(bytes, name) {
                return Some((record, before));
            }
            before = Some(record.at);
            None
        })
    });
    let found = found.map_err(|()| bad_block(block))?;
    Ok(found.map(|(record, before)| Spot { block: block.clone(), record, before }))
}

fn bad_block(block: &Block) -> Error {
    Error::corrupt("block of a directory", Place::Block(block.number()))
}
