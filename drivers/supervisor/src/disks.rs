//! The disks that drivers serve, and their parts.
//!
//! A driver has a control channel, and clients' channels that it was told of; the ends that it serves stay here, because its successor has to
//! be told of them, too ([`Disks::driver_begins`]).

use crate::successors::Kept;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use block::client::BlockError;
use block::gpt::{self, Partition};
use block::machine::{Connection, Disk as BlockDisk, StagedDisk};
use core::cell::{Cell, RefCell};
use core::task::{Poll, Waker};
use driver_protocol::Refusal;
use driver_protocol::block::{Abilities, Control, Description, SectorRange};
use driver_protocol::supervisor::{Disk, DiskFlags, DiskName, LABEL_BYTES};
use log::{info, warn};
use quire_api::executor::Buffers;
use quire_api::{ChannelEndpoint, Error, Executor, Memory, Message, Object, Rights, rt};

/// How large the memory is through which partition tables are read.
const TABLE_STAGING_BYTES: u64 = 64 << 10;
/// How long it takes until a driver that did not answer is asked again, in ns.
const PAUSE_NS: u64 = 20_000_000;
/// How often it is asked.
const ATTEMPTS: usize = 500;

/// A channel to a part of a disk, that somebody has.
struct Opened {
    range: SectorRange,
    writable: bool,
    /// Goes to each of the disk's drivers.
    server_end: ChannelEndpoint,
    /// Whose it is; `None`: the supervisor's own.
    user: Option<DiskName>,
}

/// A disk that a driver serves.
struct Driven {
    control: ChannelEndpoint,
    driver: Weak<Kept>,
    opened: RefCell<Vec<Opened>>,
}

/// A disk, or a part of one.
#[derive(Clone)]
struct Known {
    record: Disk,
    range: SectorRange,
    /// The disk that it is (a part of).
    whole: DiskName,
}

/// The disks.
pub(crate) struct Disks {
    executor: Executor,
    driven: RefCell<BTreeMap<DiskName, Rc<Driven>>>,
    known: RefCell<Vec<Known>>,
    /// Disks that are being looked at.
    pending: Cell<usize>,
    is_complete: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Disks {
    /// No disks yet.
    pub(crate) fn new(executor: &Executor) -> Rc<Self> {
        Rc::new(Self {
            executor: executor.clone(),
            driven: RefCell::default(),
            known: RefCell::default(),
            pending: Cell::new(0),
            is_complete: Cell::new(false),
            waiting: RefCell::default(),
        })
    }

    /// There is a disk, whose driver serves this control channel. It is looked at from now on.
    pub(crate) fn add(self: &Rc<Self>, name: DiskName, control: ChannelEndpoint, driver: &Rc<Kept>) {
        let driver = Rc::downgrade(driver);
        let driven = Rc::new(Driven { control, driver, opened: RefCell::default() });
        self.driven.borrow_mut().insert(name, driven.clone());
        self.pending.set(self.pending.get() + 1);
        let disks = self.clone();
        self.executor.spawn(async move {
            match disks.look(name, &driven).await {
                Ok(mut found) => disks.known.borrow_mut().append(&mut found),
                Err(error) => warn!("{}: {error}", name.as_bytes().escape_ascii()),
            }
            disks.pending.set(disks.pending.get().saturating_sub(1));
            disks.waiting.take().into_iter().for_each(Waker::wake);
        });
    }

    /// No more disks will be added before long.
    pub(crate) fn all_added(&self) {
        self.is_complete.set(true);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until all disks have been looked at.
    pub(crate) async fn ready(&self) {
        core::future::poll_fn(|context| {
            if self.is_complete.get() && self.pending.get() == 0 {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The disks and their parts, in the order of their names.
    pub(crate) fn list(&self) -> Vec<Disk> {
        let mut list: Vec<Disk> = self.known.borrow().iter().map(|known| self.with_use(known)).collect();
        list.sort_by_key(|disk| disk.name);
        list
    }

    fn with_use(&self, known: &Known) -> Disk {
        let mut record = known.record;
        record.flags.set(DiskFlags::IN_USE, self.is_in_use(known));
        record
    }

    fn is_in_use(&self, known: &Known) -> bool {
        let driven = self.driven.borrow().get(&known.whole).cloned();
        driven.is_some_and(|driven| {
            let opened = driven.opened.borrow();
            opened.iter().any(|opened| opened.user.is_some() && overlap(opened.range, known.range))
        })
    }

    /// Opens a channel to a disk or a part of one, for as long as nobody says [`close`](Self::close).
    pub(crate) async fn open(&self, name: DiskName, writable: bool) -> Result<ChannelEndpoint, Refusal> {
        let known = self.known.borrow().iter().find(|known| known.record.name == name).cloned();
        let known = known.ok_or(Refusal::Unknown)?;
        if self.is_in_use(&known) {
            return Err(Refusal::Busy);
        }
        let driven = self.driven.borrow().get(&known.whole).cloned().ok_or(Refusal::Unknown)?;
        self.open_range(&driven, known.range, writable, Some(name)).await.map_err(|error| {
            warn!("{}: can't be opened: {}", name.as_bytes().escape_ascii(), error.describe());
            Refusal::DeviceFailed
        })
    }

    async fn open_range(
        &self,
        driven: &Driven,
        range: SectorRange,
        writable: bool,
        user: Option<DiskName>,
    ) -> Result<ChannelEndpoint, Error> {
        let (server_end, client_end) = ChannelEndpoint::pair(rt::account()?)?;
        let shown = server_end.duplicate(Rights::all())?;
        // Noted first: a driver that dies now has a successor that hears of it.
        driven.opened.borrow_mut().push(Opened { range, writable, server_end, user });
        self.tell(driven, range, writable, shown).await?;
        Ok(client_end)
    }

    /// Tells a driver of an end to serve, until it has heard.
    async fn tell(
        &self,
        driven: &Driven,
        range: SectorRange,
        writable: bool,
        server_end: ChannelEndpoint,
    ) -> Result<(), Error> {
        let (label, words) = Control::Open { range, writable }.encode();
        for _ in 0..ATTEMPTS {
            let shown = server_end.duplicate(Rights::all())?;
            let message = Message::new(label, words).with_handle(0, shown.into_handle());
            match self.executor.call(&driven.control, message, Buffers::default()).await {
                Ok(answer) => return Refusal::check(answer.message.label).map_err(|_| Error::BadState),
                Err(Error::PeerClosed) => self.executor.sleep_ns(PAUSE_NS).await,
                Err(error) => return Err(error),
            }
        }
        Err(Error::TimedOut)
    }

    /// Nobody uses a disk, or a part of one, any more.
    pub(crate) fn close(&self, name: DiskName) {
        for driven in self.driven.borrow().values() {
            driven.opened.borrow_mut().retain(|opened| opened.user != Some(name));
        }
    }

    /// A driver of a disk takes the place of another: it has to hear of all channels.
    pub(crate) fn driver_begins(self: &Rc<Self>, name: DiskName) {
        let Some(driven) = self.driven.borrow().get(&name).cloned() else { return };
        let disks = self.clone();
        self.executor.spawn(async move {
            let all: Vec<_> = driven.opened.borrow().iter().filter_map(Opened::again).collect();
            for (range, writable, server_end) in all {
                if let Err(error) = disks.tell(&driven, range, writable, server_end).await {
                    warn!("{}: a channel is lost: {}", name.as_bytes().escape_ascii(), error.describe());
                }
            }
        });
    }

    /// Somebody says that the driver of a disk, or of the whole that it is a part of, answers nonsense.
    pub(crate) fn complain(&self, name: DiskName) {
        let whole = self.known.borrow().iter().find(|known| known.record.name == name).map(|known| known.whole);
        let driven = whole.and_then(|whole| self.driven.borrow().get(&whole).cloned());
        if let Some(driver) = driven.and_then(|driven| driven.driver.upgrade()) {
            driver.complain("has answered what makes no sense");
        }
    }

    /// The ends of the channels that a disk's driver serves.
    pub(crate) fn opened(&self, name: DiskName) -> Vec<ChannelEndpoint> {
        let driven = self.driven.borrow().get(&name).cloned();
        let again =
            |driven: Rc<Driven>| -> Vec<_> { driven.opened.borrow().iter().filter_map(Opened::again).collect() };
        driven.map(again).unwrap_or_default().into_iter().map(|(_, _, server_end)| server_end).collect()
    }

    /// Asks what a disk is and reads its partition table.
    async fn look(&self, name: DiskName, driven: &Driven) -> Result<Vec<Known>, BlockError> {
        let description = self.describe(driven).await?;
        let range = SectorRange { first: 0, count: description.sectors };
        let mut flags = DiskFlags::empty();
        flags.set(DiskFlags::READ_ONLY, description.abilities.contains(Abilities::READ_ONLY));
        let (sectors, none) = (description.sectors, [0; 16]);
        let record = Disk { name, sectors, flags, type_guid: none, unique_guid: none, label: [0; LABEL_BYTES] };
        let mut found = Vec::from([Known { record, range, whole: name }]);
        let channel = self.open_range(driven, range, false, None).await.map_err(|_| BlockError::Gone)?;
        match self.read_table(channel).await {
            Ok(parts) => found.extend(parts.iter().filter_map(|part| known_part(&record, part))),
            Err(error) => warn!("{}: its partition table can't be read: {error}", name.as_bytes().escape_ascii()),
        }
        driven.opened.borrow_mut().retain(|opened| opened.user.is_some());
        info!("{}: {sectors} sectors, {} parts", name.as_bytes().escape_ascii(), found.len() - 1);
        Ok(found)
    }

    async fn describe(&self, driven: &Driven) -> Result<Description, BlockError> {
        let (label, words) = Control::Describe.encode();
        for _ in 0..ATTEMPTS {
            match self.executor.call(&driven.control, Message::new(label, words), Buffers::default()).await {
                Ok(answer) => {
                    Refusal::check(answer.message.label).map_err(|_| BlockError::DeviceFailed)?;
                    return Description::decode(&answer.message.words).ok_or(BlockError::DeviceFailed);
                }
                Err(_) => self.executor.sleep_ns(PAUSE_NS).await,
            }
        }
        Err(BlockError::Gone)
    }

    /// The parts of the disk that a channel reaches; none if it has no table.
    async fn read_table(&self, channel: ChannelEndpoint) -> Result<Vec<Partition>, BlockError> {
        let disk = BlockDisk::connect(Connection::new(&self.executor, channel)).await?;
        let memory = rt::account().and_then(|account| Memory::create(account, TABLE_STAGING_BYTES));
        let memory = memory.map_err(|_| BlockError::BadBuffer)?;
        let staged = StagedDisk::new(&disk, memory, TABLE_STAGING_BYTES).await?;
        let table = gpt::read(&staged, disk.description()).await;
        staged.detach().await?;
        match table {
            Ok(table) => Ok(table.partitions),
            Err(gpt::ReadError::Disk(error)) => Err(error),
            // A disk without a table is one file system, or empty.
            Err(_) => Ok(Vec::new()),
        }
    }
}

impl Opened {
    fn again(&self) -> Option<(SectorRange, bool, ChannelEndpoint)> {
        let server_end = self.server_end.duplicate(Rights::all()).ok()?;
        Some((self.range, self.writable, server_end))
    }
}

fn overlap(one: SectorRange, other: SectorRange) -> bool {
    one.first < other.first.saturating_add(other.count) && other.first < one.first.saturating_add(one.count)
}

/// A part as a disk of its own.
fn known_part(whole: &Disk, part: &Partition) -> Option<Known> {
    let disk = whole.name.as_bytes();
    // As Linux names them: a number after a digit is set off by a `p`.
    let separator: &[u8] = if disk.last().is_some_and(u8::is_ascii_digit) { b"p" } else { b"" };
    let name = DiskName::new(&[disk, separator, format!("{}", part.number).as_bytes()].concat())?;
    let mut label = [0; LABEL_BYTES];
    label.iter_mut().zip(part.name.bytes()).for_each(|(to, from)| *to = from);
    let record = Disk {
        name,
        sectors: part.range.count,
        flags: whole.flags | DiskFlags::PART,
        type_guid: part.type_guid.0,
        unique_guid: part.unique_guid.0,
        label,
    };
    Some(Known { record, range: part.range, whole: whole.name })
}
