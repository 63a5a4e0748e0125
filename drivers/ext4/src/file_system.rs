//! A mounted file system: mount and unmount, and what all operations stand on.

use crate::buffers::{Block, Buffers, Kind, TransactionId};
use crate::bytes::{joined, put, put_u16, put_u32, slice, slice_mut, u16_at, u32_at, zeroes};
use crate::change::Change;
use crate::device::{Device, SECTOR_BYTES};
use crate::error::{Error, Place, Result};
use crate::group::{Group, INODES_UNINITIALISED, table_blocks};
use crate::inode::{Inode, Time};
use crate::journal;
use crate::lock::Lock;
use crate::map::Target;
use crate::orphans::Orphans;
use crate::ranges::Ranges;
use crate::seal::Sealer;
use crate::superblock::{
    self, STATE_ERROR, STATE_VALID, SUPERBLOCK_AT, SUPERBLOCK_BYTES, Superblock, field, incompatible,
};
use crate::zones::Zones;
use crate::{ROOT, sync};
use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// How to mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Nothing is to be changed, but that a journal is replayed.
    pub read_only: bool,
    /// Files without a name are still open: keep them until [`Ext4::forget`].
    pub keep_orphans: bool,
    /// The time.
    pub now: Time,
}

/// How much there is of a file system, and how much of it is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Blocks for files and directories.
    pub blocks: u64,
    /// Free blocks.
    pub free_blocks: u64,
    /// Free blocks that are not set aside for the superuser.
    pub available_blocks: u64,
    /// Inodes.
    pub inodes: u32,
    /// Free inodes.
    pub free_inodes: u32,
}

/// A mounted file system.
pub struct Ext4<D: Device> {
    pub(crate) buffers: Buffers<D>,
    pub(crate) superblock: Superblock,
    /// Readers share, and are kept out by a change.
    pub(crate) lock: Lock,
    /// Held by who changes, also between several changes that belong together.
    pub(crate) turn: sync::Lock,
    pub(crate) zones: Zones,
    pub(crate) orphans: RefCell<Orphans>,
    /// Blocks that were promised to files for data that are being written: on the disk they are free.
    pub(crate) promised: RefCell<Ranges>,
    /// Inodes that were promised to the client and are not made yet.
    pub(crate) reserved: RefCell<BTreeSet<u32>>,
    /// The group where blocks were found last.
    pub(crate) last_group: Cell<u32>,
    /// Blocks that the file system takes for itself.
    overhead: u64,
    read_only: Cell<bool>,
    /// The journal tells of an error that the superblock is to be told.
    errors_noted: bool,
}

impl<D: Device> Ext4<D> {
    /// Mounts the file system on a device: replays its journal, and finishes with files that had lost their last name, unless
    /// these are to be kept. One that may only be read is mounted [read-only](Ext4::is_read_only).
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unsupported`], [`Error::Device`].
    pub async fn mount(device: Rc<D>, options: Options) -> Result<Self> {
        let superblock = read_superblock(&*device).await?;
        let writable = superblock.check_writable();
        if let Err(error) = &writable {
            log::warn!("ext4: mounted read-only: {error}");
        }
        let read_only = options.read_only || writable.is_err();
        if superblock.blocks > device.sectors() / (u64::from(superblock.block_bytes) / SECTOR_BYTES as u64) {
            return Err(Error::corrupt("file system larger than its device", Place::FileSystem));
        }
        let mut mounted = if superblock.journal_inode == 0 {
            device.recovered(TransactionId::from_sequence(0));
            let buffers = Buffers::new(device, superblock.block_bytes as usize, superblock.blocks);
            Self::with_buffers(buffers, superblock, read_only)
        } else {
            Self::open_journal(device, superblock, read_only).await?
        };
        mounted.survey().await?;
        if !read_only {
            mounted.begin_use(options).await?;
        }
        Ok(mounted)
    }

    /// Replays the journal and takes it into use.
    async fn open_journal(device: Rc<D>, superblock: Superblock, read_only: bool) -> Result<Self> {
        let (size, blocks) = (superblock.block_bytes as usize, superblock.blocks);
        let early = Self::with_buffers(Buffers::new(device.clone(), size, blocks), superblock, true);
        let runs = early.journal_runs().await?;
        let options = journal::Options {
            checksums: early.superblock.has_checksums(),
            wide: early.superblock.features.needs(incompatible::WIDE),
        };
        let opened = journal::open(&*device, size, blocks, &runs, options).await?;
        // The superblock may have been replayed.
        let superblock = read_superblock(&*device).await?;
        if superblock.block_bytes as usize != size || superblock.blocks != blocks {
            return Err(Error::corrupt("superblock in the journal", Place::FileSystem));
        }
        let buffers = Buffers::with_journal(device, size, blocks, opened.journal);
        let mounted = Self { errors_noted: opened.error, ..Self::with_buffers(buffers, superblock, read_only) };
        Ok(mounted)
    }

    fn with_buffers(buffers: Buffers<D>, superblock: Superblock, read_only: bool) -> Self {
        buffers.set_sealer(Rc::new(Sealer { superblock: superblock.clone() }));
        if read_only {
            buffers.set_read_only();
        }
        Self {
            buffers,
            superblock,
            lock: Lock::default(),
            turn: sync::Lock::new(),
            zones: Zones::default(),
            orphans: RefCell::default(),
            promised: RefCell::default(),
            reserved: RefCell::default(),
            last_group: Cell::new(0),
            overhead: 0,
            read_only: Cell::new(read_only),
            errors_noted: false,
        }
    }

    /// Reads all group descriptors: which blocks no file may have.
    async fn survey(&mut self) -> Result<()> {
        let mut zones = Zones::default();
        let mut overhead = u64::from(self.superblock.first_data_block);
        let (place, _) = self.superblock.place();
        zones.add(0, place + 1);
        for number in 0..self.superblock.groups {
            let group = self.group(number).await?;
            zones.add_group(&self.superblock, number, &group);
            overhead += u64::from(self.superblock.group_overhead(number)) + 2 + table_blocks(&self.superblock);
        }
        if self.superblock.journal_inode != 0 {
            for run in self.journal_runs().await? {
                zones.add(run.physical, u64::from(run.count));
                overhead += u64::from(run.count);
            }
        }
        zones.settle();
        self.zones = zones;
        self.overhead = overhead;
        Ok(())
    }

    /// Where the journal is.
    async fn journal_runs(&self) -> Result<Vec<journal::Run>> {
        let number = self.superblock.journal_inode;
        let bad = || Error::corrupt("journal", Place::Inode(number));
        let inode = self.load_any(number).await?;
        let blocks = inode.size / u64::from(self.superblock.block_bytes);
        let mut runs = Vec::new();
        let mut at = 0;
        while at < blocks {
            for run in self.runs(&inode, at, blocks - at).await? {
                let Target::Written(physical) = run.target else { return Err(bad()) };
                let first = u32::try_from(run.first).map_err(|_| bad())?;
                let count = u32::try_from(run.count).map_err(|_| bad())?;
                runs.push(journal::Run { first, physical, count });
                at = run.first + run.count;
            }
        }
        if !inode.has_map() || runs.is_empty() { Err(bad()) } else { Ok(runs) }
    }

    /// Marks the file system as in use, mends the counts of what is free, and finishes with orphans.
    async fn begin_use(&self, options: Options) -> Result<()> {
        self.mark(Mark::InUse, options.now).await?;
        self.mend_counts().await?;
        self.load_orphans().await?;
        self.finish_orphans(options).await
    }

    /// Finishes what was begun before: files being cut are cut, and those without a name go, unless they are to be kept.
    async fn finish_orphans(&self, options: Options) -> Result<()> {
        let orphans = self.orphans.borrow().all();
        for number in orphans {
            let inode = self.load(number).await?;
            match inode.links {
                0 if options.keep_orphans => {}
                0 => self.forget(number, options.now).await?,
                _ => self.finish_cut(&inode).await?,
            }
        }
        Ok(())
    }

    /// Makes the superblock's counts agree with those of the groups, which lead.
    async fn mend_counts(&self) -> Result<()> {
        let (mut blocks, mut inodes) = (0_i64, 0_i64);
        for number in 0..self.superblock.groups {
            let group = self.group(number).await?;
            blocks += i64::from(group.free_blocks);
            inodes += i64::from(group.free_inodes);
        }
        let (counted_inodes, counted_blocks) = self.free_counts().await?;
        let (blocks, inodes) = (blocks - counted_blocks as i64, inodes - i64::from(counted_inodes));
        if (blocks, inodes) != (0, 0) {
            let change = self.change(0).await?;
            change.count_blocks(blocks);
            change.count_inodes(inodes);
            change.finish().await?;
        }
        Ok(())
    }

    /// Writes into the superblock, at once, whether the file system is in use.
    async fn mark(&self, mark: Mark, now: Time) -> Result<()> {
        let block = self.superblock_block().await?;
        let at = self.superblock.place().1;
        let has_journal = self.superblock.journal_inode != 0;
        self.buffers
            .write_home(&block, |bytes| {
                let bytes = slice_mut(bytes, at, SUPERBLOCK_BYTES);
                mark.store(bytes, has_journal, now);
                if self.errors_noted {
                    put_u16(bytes, field::STATE, u16_at(bytes, field::STATE) | STATE_ERROR);
                }
                if self.superblock.has_checksums() {
                    superblock::seal(bytes);
                }
            })
            .await
    }

    /// Makes everything durable and marks the file system as not in use. Nothing can be changed after that, but it can be read, and
    /// [written again](Ext4::remount_writable).
    ///
    /// # Errors
    /// [`Error::Device`].
    pub async fn unmount(&self, now: Time) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        let _turn = self.changes().await;
        self.buffers.settle_all().await?;
        self.mark(Mark::Clean, now).await?;
        self.read_only.set(true);
        self.buffers.set_read_only();
        Ok(self.buffers.device().flush().await?)
    }

    /// Takes a file system into use that could only be read.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]: a write has failed. [`Error::Unsupported`]: it uses something that may not be written here.
    /// [`Error::Corrupt`], [`Error::Device`].
    pub async fn remount_writable(&self, now: Time) -> Result<()> {
        if self.buffers.has_failed() {
            return Err(Error::ReadOnly);
        }
        if !self.is_read_only() {
            return Ok(());
        }
        self.superblock.check_writable()?;
        self.buffers.set_writable();
        self.read_only.set(false);
        let begun = self.begin_use(Options { now, ..Options::default() }).await;
        begun.inspect_err(|_| {
            self.read_only.set(true);
            self.buffers.set_read_only();
        })
    }

    /// Whether nothing can be changed.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only.get() || self.has_failed()
    }

    /// Whether nothing can be changed any more, because a write has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.buffers.has_failed()
    }

    /// Notes in the superblock that what was found makes no sense, so that somebody checks the file system.
    ///
    /// # Errors
    /// [`Error::Device`], [`Error::ReadOnly`].
    pub async fn note_error(&self, now: Time) -> Result<()> {
        let change = self.change(0).await?;
        let seconds = now.seconds as u32;
        change.edit_superblock(field::STATE_WORD, |word| word | u32::from(STATE_ERROR) << 16).await?;
        change.edit_superblock(field::ERROR_COUNT, |count| count.saturating_add(1)).await?;
        change.edit_superblock(field::FIRST_ERROR_TIME, |first| if first == 0 { seconds } else { first }).await?;
        change.edit_superblock(field::LAST_ERROR_TIME, |_| seconds).await?;
        change.finish().await?;
        Ok(())
    }

    /// What the superblock says that does not change.
    #[must_use]
    pub fn facts(&self) -> &Superblock {
        &self.superblock
    }

    /// Makes everything that was finished before durable; names the last transaction that is.
    ///
    /// # Errors
    /// [`Error::Device`], [`Error::ReadOnly`].
    pub async fn commit(&self) -> Result<TransactionId> {
        self.buffers.commit().await
    }

    /// The last transaction that is durable.
    #[must_use]
    pub fn committed(&self) -> TransactionId {
        self.buffers.committed()
    }

    /// The transaction that the next change joins.
    #[must_use]
    pub fn running(&self) -> TransactionId {
        self.buffers.running()
    }

    /// Brings home some of what the journal holds, so that it has room: for the background, after commits.
    ///
    /// # Errors
    /// [`Error::Device`], [`Error::ReadOnly`].
    pub async fn tidy(&self) -> Result<()> {
        self.buffers.tidy().await
    }

    /// How many operations changed more than they had foreseen: none, if all is well.
    #[must_use]
    pub fn overdrawn(&self) -> u64 {
        self.buffers.overdrawn()
    }

    /// How much there is, and how much is free.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub async fn statfs(&self) -> Result<Statistics> {
        let (free_inodes, free_blocks) = self.free_counts().await?;
        Ok(Statistics {
            block_bytes: self.superblock.block_bytes,
            blocks: self.superblock.blocks.saturating_sub(self.overhead),
            free_blocks,
            available_blocks: free_blocks.saturating_sub(self.superblock.reserved_blocks),
            inodes: self.superblock.inodes,
            free_inodes,
        })
    }

    /// The block with the superblock.
    pub(crate) async fn superblock_block(&self) -> Result<Block> {
        self.buffers.get(self.superblock.place().0, Kind::Superblock, |_| Ok(())).await
    }

    /// Free inodes and blocks, as the superblock has them.
    pub(crate) async fn free_counts(&self) -> Result<(u32, u64)> {
        let at = self.superblock.place().1;
        let wide = self.superblock.features.needs(incompatible::WIDE);
        Ok(self.superblock_block().await?.read(|bytes| {
            let bytes = slice(bytes, at, SUPERBLOCK_BYTES);
            let high = if wide { u32_at(bytes, field::FREE_BLOCKS_HIGH) } else { 0 };
            (u32_at(bytes, field::FREE_INODES), joined(u32_at(bytes, field::FREE_BLOCKS_LOW), high))
        }))
    }

    /// The block with an inode, and the inode's place there in bytes.
    pub(crate) async fn inode_place(&self, number: u32) -> Result<(Block, usize)> {
        let (group, index) = self.superblock.inode_group(number)?;
        let group = self.group(group).await?;
        self.inode_in(&group, index).await
    }

    async fn inode_in(&self, group: &Group, index: u32) -> Result<(Block, usize)> {
        let offset = u64::from(index) * u64::from(self.superblock.inode_bytes);
        let size = u64::from(self.superblock.block_bytes);
        let block = self.buffers.get(group.inode_table + offset / size, Kind::Inodes, |_| Ok(())).await?;
        Ok((block, (offset % size) as usize))
    }

    /// An inode that files may have.
    pub(crate) async fn load(&self, number: u32) -> Result<Inode> {
        if number != ROOT && number < self.superblock.first_inode {
            return Err(Error::corrupt("number of an inode", Place::Inode(number)));
        }
        self.load_any(number).await
    }

    /// An inode of any kind, also of the file system itself.
    pub(crate) async fn load_any(&self, number: u32) -> Result<Inode> {
        let (group, index) = self.superblock.inode_group(number)?;
        let group = self.group(group).await?;
        if group.flags & INODES_UNINITIALISED != 0 {
            return Err(Error::NotFound);
        }
        let (block, at) = self.inode_in(&group, index).await?;
        let size = usize::from(self.superblock.inode_bytes);
        block.read(|bytes| Inode::parse(&self.superblock, number, slice(bytes, at, size)))
    }

    /// Writes an inode.
    pub(crate) async fn store(&self, change: &Change<'_, D>, inode: &Inode) -> Result<()> {
        let (block, at) = self.inode_place(inode.number).await?;
        let size = usize::from(self.superblock.inode_bytes);
        change.edit(&block, at..at + size, |bytes| inode.store(&self.superblock, bytes));
        Ok(())
    }

    /// Clears the place of a new inode, which may hold anything.
    pub(crate) async fn clear_inode(&self, change: &Change<'_, D>, number: u32) -> Result<()> {
        let (block, at) = self.inode_place(number).await?;
        change.edit(&block, at..at + usize::from(self.superblock.inode_bytes), |bytes| bytes.fill(0));
        Ok(())
    }
}

/// Whether a file system is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    InUse,
    Clean,
}

impl Mark {
    fn store(self, bytes: &mut [u8], has_journal: bool, now: Time) {
        let (low, high) = (now.seconds as u32, [(now.seconds >> 32) as u8]);
        put_u32(bytes, field::WRITE_TIME, low);
        put(bytes, field::WRITE_TIME_HIGH, &high);
        let state = u16_at(bytes, field::STATE);
        let features = u32_at(bytes, field::INCOMPATIBLE);
        match self {
            Self::InUse => {
                put_u32(bytes, field::MOUNT_TIME, low);
                put(bytes, field::MOUNT_TIME_HIGH, &high);
                put_u16(bytes, field::MOUNT_COUNT, u16_at(bytes, field::MOUNT_COUNT).saturating_add(1));
                if has_journal {
                    put_u32(bytes, field::INCOMPATIBLE, features | incompatible::RECOVER);
                } else {
                    put_u16(bytes, field::STATE, state & !STATE_VALID);
                }
            }
            Self::Clean => {
                put_u32(bytes, field::INCOMPATIBLE, features & !incompatible::RECOVER);
                put_u16(bytes, field::STATE, state | STATE_VALID);
            }
        }
    }
}

/// Reads and checks the superblock of a device.
async fn read_superblock<D: Device>(device: &D) -> Result<Superblock> {
    let mut bytes = zeroes(SUPERBLOCK_BYTES);
    device.read(SUPERBLOCK_AT / SECTOR_BYTES as u64, &mut bytes).await?;
    Superblock::parse(&bytes)
}
