//! A mounted file system: the library, what keeps its operations in order and makes them durable, and where the blocks of files are.

mod attributes;
mod growth;
mod metadata;
mod operations;

use crate::ledger::{Before, Ledger};
use crate::paging::{Blocks, Place, Run};
use crate::platform::{PAGE_BYTES, Platform};
use crate::signal::Signal;
use crate::staging::Region;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use driver_protocol::files::entry::xattr::Xattr;
use driver_protocol::files::{LAST_COOKIE, MountFlags, NewKind, News, Refused, Status, VolumeFlags};
use driver_protocol::files::{Volume as Description, entry, operation};
use ext4::superblock::{BAD_CHECKSUM, STATE_ERROR, Superblock, incompatible};
use ext4::{Corruption, Error, Ext4, FileKind, Options, Placed, Room};
use growth::Growth;
use log::{error, warn};
use metadata::{Metadata, number_of};

pub use operations::Cut;

/// What a superblock says that wants a file system to be only read after an error (`EXT4_ERRORS_RO`).
const ERRORS_END_WRITING: u16 = 2;
/// How often somebody tries again for whom there was no room but for what is not durable yet.
const ROOM_ATTEMPTS: usize = 3;

/// A mounted file system.
pub struct Volume<P: Platform> {
    platform: Rc<P>,
    system: Ext4<Metadata<P>>,
    device: Rc<Metadata<P>>,
    ledger: Rc<Ledger<P::Notes>>,
    growth: Growth,
    block_bytes: u64,
    is_ended: Cell<bool>,
    /// Something made no sense, which the disk is still to be told.
    has_errors: Cell<bool>,
    /// Then nothing is to be written any more.
    ends_at_errors: bool,
    /// How often something was committed.
    commits: Cell<u64>,
    news: Cell<News>,
    /// Raised when there are news.
    has_news: Signal,
}

/// Why something of the file system can't be done, as the client hears it. What makes no sense is told on the log, too.
fn refused(error: Error) -> Refused {
    match error {
        Error::Device => Refused::DeviceFailed,
        Error::Corrupt(_) => {
            error!("{error}");
            Refused::Corrupt
        }
        Error::Unsupported(_) => {
            warn!("{error}");
            Refused::Unsupported
        }
        Error::ReadOnly => Refused::ReadOnly,
        Error::Full { .. } => Refused::NoSpace,
        Error::NotFound => Refused::NotFound,
        Error::Exists => Refused::Exists,
        Error::NotDirectory | Error::IsDirectory => Refused::WrongKind,
        Error::NotEmpty => Refused::NotEmpty,
        Error::TooManyLinks => Refused::TooManyLinks,
        Error::BadName | Error::FileTooBig | Error::AttributesTooBig => Refused::TooLarge,
        Error::Invalid => Refused::Unknown,
    }
}

/// The number of an inode as the library has it.
fn number(inode: u64) -> Result<u32, Refused> {
    u32::try_from(inode).map_err(|_| Refused::NotFound)
}

impl<P: Platform> Volume<P> {
    /// Takes a file system into use. Metadata go by way of a region of the staging memory.
    pub async fn mount(
        platform: &Rc<P>,
        region: Rc<Region>,
        notes: P::Notes,
        flags: MountFlags,
    ) -> Result<Rc<Self>, Refused> {
        let ledger = Rc::new(Ledger::new(notes));
        let device = Rc::new(Metadata::new(platform.clone(), region, ledger.clone()));
        let options = Options {
            read_only: flags.contains(MountFlags::READ_ONLY),
            keep_orphans: ledger.before() == Before::Left,
            now: attributes::time(platform.unix_ns()),
        };
        let system = Ext4::mount(device.clone(), options).await.map_err(mount_refused)?;
        if ledger.is_lost() {
            error!("the notes of the last server say nothing about the last transaction");
            return Err(Refused::Corrupt);
        }
        let block_bytes = u64::from(system.facts().block_bytes);
        if block_bytes > PAGE_BYTES {
            warn!("blocks of {block_bytes} bytes are not supported");
            return Err(Refused::Unsupported);
        }
        let wants_end = system.facts().on_errors == ERRORS_END_WRITING;
        let ends_at_errors =
            flags.contains(MountFlags::END_AT_ERRORS) || wants_end && !flags.contains(MountFlags::CONTINUE_AT_ERRORS);
        Ok(Rc::new(Self {
            platform: platform.clone(),
            system,
            device,
            ledger,
            growth: Growth::default(),
            block_bytes,
            is_ended: Cell::new(false),
            has_errors: Cell::new(false),
            ends_at_errors,
            commits: Cell::new(0),
            news: Cell::default(),
            has_news: Signal::default(),
        }))
    }

    /// What there is to know of it.
    pub async fn describe(&self) -> Result<Description, Refused> {
        let statistics = self.system.statfs().await.map_err(|error| self.noted(error))?;
        let superblock = self.system.facts();
        let mut flags = VolumeFlags::empty();
        flags.set(VolumeFlags::READ_ONLY, self.system.is_read_only());
        flags.set(VolumeFlags::NO_JOURNAL, superblock.journal_inode == 0);
        flags.set(VolumeFlags::MANY_SUBDIRECTORIES, true);
        flags.set(VolumeFlags::ERRORS, superblock.state & STATE_ERROR != 0);
        Ok(Description {
            root: u64::from(ext4::ROOT),
            block_bytes: self.block_bytes,
            blocks: statistics.blocks,
            inodes: u64::from(statistics.inodes),
            max_file_bytes: self.block_bytes << 32,
            max_links: 65_000,
            max_xattr_bytes: self.block_bytes,
            flags,
            uuid: superblock.uuid,
            label: superblock.label,
            status: self.status().await?,
            version: version(superblock),
        })
    }

    /// What is free, and how far the operations have come.
    pub async fn status(&self) -> Result<Status, Refused> {
        let statistics = self.system.statfs().await.map_err(|error| self.noted(error))?;
        Ok(Status {
            free_blocks: statistics.free_blocks,
            reserved_blocks: statistics.free_blocks.saturating_sub(statistics.available_blocks),
            free_inodes: u64::from(statistics.free_inodes),
            applied: self.ledger.applied(),
            durable: self.ledger.durable(),
        })
    }

    /// The client's notes.
    pub fn notes(&self) -> &P::Notes {
        self.ledger.notes()
    }

    /// The last operation that has been applied.
    pub fn applied_sequence(&self) -> u64 {
        self.ledger.applied()
    }

    /// Does an operation, which has this sequence number.
    pub async fn apply(&self, sequence: u64, operation: &operation::Operation<'_>) -> Result<(), Refused> {
        let now = attributes::time(self.platform.unix_ns());
        let mut result = operations::apply(&self.system, &self.growth, operation, now).await;
        for _ in 0..ROOM_ATTEMPTS {
            if !matches!(result, Err(Error::Full { pending: true })) {
                break;
            }
            self.commit().await?;
            result = operations::apply(&self.system, &self.growth, operation, now).await;
        }
        let result = result.map_err(|error| self.noted(error));
        self.ledger.apply(sequence);
        result
    }

    /// What an error means for the client; if it ends all writing, that is news. What makes no sense will be noted on the disk.
    fn noted(&self, error: Error) -> Refused {
        if matches!(error, Error::Corrupt(_)) {
            self.has_errors.set(true);
        }
        if matches!(error, Error::Device | Error::Corrupt(_)) && self.system.has_failed() {
            self.tell(News::READ_ONLY);
        }
        refused(error)
    }

    /// Notes on the disk that there were errors, if there were; and goes on reading only, if that is wanted then.
    async fn note_errors(&self) {
        if !self.has_errors.take() || self.system.is_read_only() {
            return;
        }
        let now = attributes::time(self.platform.unix_ns());
        // What can't be noted is in the log at least.
        let noted = self.system.note_error(now).await;
        if noted.is_err() || !self.ends_at_errors {
            return;
        }
        let _ = self.commit().await;
        if self.system.unmount(now).await.is_ok() {
            self.tell(News::READ_ONLY);
        }
    }

    /// Changes how it is mounted. All that was applied is durable then.
    pub async fn remount(&self, flags: MountFlags) -> Result<(), Refused> {
        let now = attributes::time(self.platform.unix_ns());
        if !flags.contains(MountFlags::READ_ONLY) {
            return self.system.remount_writable(now).await.map_err(|error| self.noted(error));
        }
        if self.system.is_read_only() {
            return Ok(());
        }
        self.note_errors().await;
        self.commit().await?;
        self.system.unmount(now).await.map_err(|error| self.noted(error))
    }

    /// Makes all durable that has been done until now, also what was written to files.
    pub async fn commit(&self) -> Result<(), Refused> {
        let applied = self.ledger.applied();
        let transaction = self.system.commit().await.map_err(|error| {
            self.tell(News::READ_ONLY);
            refused(error)
        })?;
        self.commits.set(self.commits.get().wrapping_add(1));
        self.ledger.committed(number_of(transaction));
        self.device.flush_writes().await.map_err(|_| Refused::DeviceFailed)?;
        self.ledger.settled(applied);
        Ok(())
    }

    /// Commits every so many ns, until the volume is not in use any more.
    pub async fn commit_now_and_then(&self, platform: &P, interval_ns: u64) {
        while !self.is_ended.get() {
            platform.sleep_until(platform.now_ns().saturating_add(interval_ns)).await;
            if !self.is_ended.get() {
                self.note_errors().await;
            }
            if self.ledger.applied() > self.ledger.durable() && !self.is_ended.get() {
                // Whoever asks for it hears why it fails.
                let _ = self.commit().await;
                let _ = self.system.tidy().await;
            }
        }
    }

    /// Brings home what the journal holds, after commits, so that operations don't wait for room in it; until the volume is not in use any
    /// more.
    pub async fn tidy(&self) {
        let mut seen = self.commits.get();
        while !self.is_ended.get() {
            if let Err(error) = self.system.tidy().await {
                // The journal has it all the same.
                warn!("{error}");
            }
            let news = || (self.commits.get() != seen || self.is_ended.get()).then(|| self.commits.get());
            seen = self.ledger.changed.until(news).await;
        }
    }

    /// Puts it out of use.
    pub async fn unmount(&self) -> Result<(), Refused> {
        self.is_ended.set(true);
        self.has_news.raise();
        self.ledger.changed.raise();
        if !self.system.is_read_only() {
            self.note_errors().await;
            for (inode, length) in self.growth.take() {
                // What was stored there is lost, but not that it was.
                let _ = self.store_length(inode, length).await;
            }
            self.commit().await?;
        }
        self.system.unmount(attributes::time(self.platform.unix_ns())).await.map_err(|error| self.noted(error))?;
        self.device.flush_writes().await.map_err(|_| Refused::DeviceFailed)?;
        self.ledger.finish();
        Ok(())
    }

    fn tell(&self, news: News) {
        self.news.set(self.news.get() | news);
        self.has_news.raise();
    }

    /// The news, once; none when the volume is not in use any more.
    pub async fn news(&self) -> News {
        let take = || (!self.news.get().is_empty() || self.is_ended.get()).then(|| self.news.take());
        self.has_news.until(take).await
    }

    /// An inode as an entry without a name.
    pub async fn load(&self, inode: u64) -> Result<Vec<u8>, Refused> {
        let mut bytes = Vec::new();
        self.encode_entry(number(inode)?, b"", &mut bytes).await?;
        Ok(bytes)
    }

    async fn encode_entry(&self, inode: u32, name: &[u8], bytes: &mut Vec<u8>) -> Result<(), Refused> {
        let found = self.system.inode(inode).await.map_err(|error| self.noted(error))?;
        let target = match found.kind() {
            Some(FileKind::Symlink) => self.system.read_link(inode).await.map_err(|error| self.noted(error))?,
            Some(_) | None => Vec::new(),
        };
        let mut attributes = attributes::of(&found);
        attributes.size = self.growth.length(attributes.inode, attributes.size);
        entry::Entry { attributes, name, target: &target }.encode(bytes);
        Ok(())
    }

    /// Entries of a directory, at most so many bytes of them, and the cookie to go on with.
    pub async fn list(&self, inode: u64, cookie: u64, room: usize) -> Result<(Vec<u8>, u64), Refused> {
        let names = self.names(number(inode)?, cookie, room / entry::HEAD_BYTES).await?;
        let (mut bytes, mut next) = (Vec::new(), cookie);
        for Name { inode, name, kind, next: after } in &names.found {
            let before = bytes.len();
            if let Err(refused) = self.encode_entry(*inode, name, &mut bytes).await {
                // The others are shown all the same. Who asks for this one alone hears what is wrong with it.
                warn!("inode {inode} can't be read: {refused:?}");
                let attributes = attributes::unreadable(*inode, *kind);
                entry::Entry { attributes, name, target: b"" }.encode(&mut bytes);
            }
            if bytes.len() > room {
                bytes.truncate(before);
                return Ok((bytes, next));
            }
            next = *after;
        }
        Ok((bytes, if names.is_all { LAST_COOKIE } else { next }))
    }

    async fn names(&self, directory: u32, cookie: u64, most: usize) -> Result<Names, Refused> {
        let mut names = Names { found: Vec::new(), is_all: true };
        let mut add = |entry: ext4::Entry<'_>| {
            if names.found.len() >= most {
                names.is_all = false;
                return core::ops::ControlFlow::Break(());
            }
            if entry.name != b"." && entry.name != b".." {
                let ext4::Entry { inode, kind, name, next } = entry;
                names.found.push(Name { inode, name: name.to_vec(), kind, next });
            }
            core::ops::ControlFlow::Continue(())
        };
        self.system.list(directory, cookie, &mut add).await.map_err(|error| self.noted(error))?;
        Ok(names)
    }

    /// All extended attributes of an inode.
    pub async fn xattrs(&self, inode: u64) -> Result<Vec<u8>, Refused> {
        let mut bytes = Vec::new();
        for (name, value) in self.system.xattrs(number(inode)?).await.map_err(|error| self.noted(error))? {
            Xattr { name: &name, value: &value }.encode(&mut bytes);
        }
        Ok(bytes)
    }

    /// Where a file has blocks.
    pub async fn runs(&self, inode: u64, offset: u64, len_bytes: u64, most: usize) -> Result<Vec<u8>, Refused> {
        let first = offset / self.block_bytes;
        let end = offset.saturating_add(len_bytes).div_ceil(self.block_bytes).min(1 << 32);
        let mut bytes = Vec::new();
        for run in self.map(inode, first, end.saturating_sub(first)).await?.into_iter().take(most) {
            let (physical, kind) = match run.place {
                Place::Hole | Place::Promised(_) => (0, entry::run::Kind::Hole),
                Place::Unwritten(block) => (block, entry::run::Kind::Unwritten),
                Place::Written(block) => (block, entry::run::Kind::Data),
            };
            let (offset, len_bytes) = (run.first * self.block_bytes, run.count * self.block_bytes);
            entry::run::Run { offset, len_bytes, physical: physical * self.block_bytes, kind }.encode(&mut bytes);
        }
        Ok(bytes)
    }

    /// Numbers for new inodes.
    pub async fn reserve(&self, parent: u64, kind: NewKind, count: u64) -> Result<Vec<u8>, Refused> {
        let kind = match kind {
            NewKind::Directory => FileKind::Directory,
            NewKind::Other => FileKind::Regular,
        };
        let reserved = self.system.reserve(number(parent)?, kind, count as u32).await;
        let no_room = matches!(reserved, Err(Error::Full { .. }));
        let numbers = reserved.map_err(|error| if no_room { Refused::NoInodes } else { refused(error) })?;
        Ok(numbers.into_iter().flat_map(|number| u64::from(number).to_le_bytes()).collect())
    }

    /// The size of a file, and as much of it as the disk has.
    pub async fn sizes(&self, inode: u64) -> Result<(u64, u64), Refused> {
        let found = self.system.inode(number(inode)?).await.map_err(|error| self.noted(error))?;
        let size = self.growth.length(inode, found.size);
        if found.kind() == Some(FileKind::Regular) { Ok((size, found.size)) } else { Err(Refused::WrongKind) }
    }

    /// Nobody has a file's pages any more: if not all was written that it grew by, its length is stored all the same.
    pub async fn settle(&self, inode: u64) {
        if let Some(length) = self.growth.forget(inode)
            && let Err(refused) = self.store_length(inode, length).await
        {
            warn!("inode {inode} should have {length} bytes: {refused:?}");
        }
    }

    async fn store_length(&self, inode: u64, length: u64) -> Result<(), Refused> {
        let inode = number(inode)?;
        let found = self.system.inode(inode).await.map_err(|error| self.noted(error))?;
        if found.links == 0 || found.size >= length {
            return Ok(());
        }
        let longer = ext4::Attributes { size: Some(length), ..ext4::Attributes::default() };
        self.system.set_attributes(inode, longer).await.map_err(|error| self.noted(error))
    }
}

/// Names in a directory.
struct Names {
    found: Vec<Name>,
    is_all: bool,
}

/// A name in a directory, and the cookie after it.
struct Name {
    inode: u32,
    name: Vec<u8>,
    kind: Option<FileKind>,
    next: u64,
}

/// Why a file system can't be mounted.
fn mount_refused(error: Error) -> Refused {
    if let Error::Corrupt(Corruption { what, place: ext4::Place::FileSystem }) = error {
        return if what == BAD_CHECKSUM { Refused::BadChecksum } else { Refused::NotAFileSystem };
    }
    refused(error)
}

/// Which of the ext file systems it is, by what it uses.
fn version(superblock: &Superblock) -> u64 {
    if superblock.features.needs(incompatible::EXTENTS) {
        4
    } else if superblock.journal_inode != 0 {
        3
    } else {
        2
    }
}

fn run_of(run: &ext4::Run) -> Run {
    let place = match run.target {
        ext4::Target::Hole => Place::Hole,
        ext4::Target::Unwritten(block) => Place::Unwritten(block),
        ext4::Target::Written(block) => Place::Written(block),
    };
    Run { first: run.first, count: run.count, place }
}

fn promised_run(placed: &Placed) -> Run {
    let place = match placed.room {
        Room::Written(block) => Place::Written(block),
        Room::Unwritten(block) => Place::Unwritten(block),
        Room::Promised(block) => Place::Promised(block),
    };
    Run { first: placed.first, count: placed.count, place }
}

/// Runs as the library has them, without holes.
fn placed(runs: &[Run]) -> Vec<Placed> {
    let placed = |run: &Run| {
        let room = match run.place {
            Place::Hole => return None,
            Place::Written(block) => Room::Written(block),
            Place::Unwritten(block) => Room::Unwritten(block),
            Place::Promised(block) => Room::Promised(block),
        };
        Some(Placed { first: run.first, count: run.count, room })
    };
    runs.iter().filter_map(placed).collect()
}

impl<P: Platform> Blocks for Volume<P> {
    fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    async fn map(&self, inode: u64, first: u64, count: u64) -> Result<Vec<Run>, Refused> {
        let (inode, end) = (number(inode)?, first + count);
        let (mut at, mut all) = (first, Vec::new());
        while at < end {
            let runs = self.system.map(inode, at, end - at).await.map_err(|error| self.noted(error))?;
            let reached = runs.last().map_or(at, |run| run.first + run.count);
            if reached <= at {
                return Err(Refused::Corrupt);
            }
            all.extend(runs.iter().map(run_of));
            at = reached;
        }
        Ok(all)
    }

    async fn promise(&self, inode: u64, first: u64, count: u64) -> Result<Vec<Run>, Refused> {
        let inode = number(inode)?;
        for _ in 0..ROOM_ATTEMPTS {
            match self.system.promise(inode, first, count).await {
                Ok(placed) => return Ok(placed.iter().map(promised_run).collect()),
                Err(Error::Full { pending: true }) => self.commit().await?,
                Err(error) => return Err(self.noted(error)),
            }
        }
        Err(Refused::NoSpace)
    }

    fn give_back(&self, runs: &[Run]) {
        self.system.give_back(&placed(runs));
    }

    async fn attach(&self, inode: u64, runs: &[Run], size: u64) -> Result<u64, Refused> {
        let placed = placed(runs);
        let short = number(inode)?;
        for _ in 0..ROOM_ATTEMPTS {
            match self.system.attach(short, &placed, size).await {
                Ok(transaction) => {
                    self.growth.stored(inode, size);
                    return Ok(number_of(transaction));
                }
                Err(Error::Full { pending: true }) => self.commit().await?,
                Err(error) => return Err(self.noted(error)),
            }
        }
        Err(Refused::NoSpace)
    }

    async fn durable(&self, transaction: u64) -> Result<(), Refused> {
        if number_of(self.system.committed()) >= transaction {
            return Ok(());
        }
        self.commit().await
    }

    async fn applied(&self, sequence: u64) {
        if self.ledger.applied() < sequence {
            self.tell(News::SEND);
            self.ledger.changed.until(|| (self.ledger.applied() >= sequence).then_some(())).await;
        }
    }

    fn note_write(&self) {
        self.device.note_write();
    }
}
