//! One mounted file system: what is known of it, and what of that its server does not know yet.

use super::cache::Cache;
use super::log::Log;
use super::served::Served;
use super::server::{Answer, Enclosed, FileServer, errno_of};
use super::space::Space;
use crate::errno::{Errno, Result};
use crate::fs::content::Content;
use crate::fs::{Body, FileSystem, Inode};
use crate::platform::{self, Account, Executor, LocalFuture, Memory, note_ticket};
use crate::ticket::Ticket;
use crate::wait::WaitQueue;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, OnceCell, RefCell};
use core::pin::pin;
use driver_protocol::files::operation::{Operation, Set};
use driver_protocol::files::{self, MAX_SERVED, MountFlags, NewKind, News, Refused, Request, Status, notes};
use futures_util::future::select;

/// How long the last writes may take when the machine is about to end, in ns.
const LAST_PATIENCE_NS: u64 = 60_000_000_000;
/// What a call can need of a file system that is not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    /// The names in a directory.
    Names(u64),
    /// An inode.
    Inode(u64),
    /// The extended attributes of an inode.
    Attributes(u64),
    /// Numbers for new directories.
    DirectoryNumbers,
    /// Numbers for other new inodes.
    Numbers,
    /// Room in the log.
    Room,
    /// To know exactly what is free.
    Settled,
    /// That all that was done is durable.
    Clean,
    /// A server that writes.
    Writable,
    /// A server that only reads.
    ReadOnly,
}

/// Where a file system is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is no server, or it is being told what it has to know.
    Away,
    /// Its server serves it.
    Ready,
    /// It can't be used any more, for this reason.
    Ended(Errno),
}

/// Numbers that new inodes can have.
#[derive(Default)]
pub(super) struct Numbers {
    /// For directories.
    pub(super) directories: VecDeque<u64>,
    /// For others.
    pub(super) others: VecDeque<u64>,
    /// Those that were taken, but are in no operation yet.
    pub(super) unborn: BTreeSet<u64>,
}

impl Numbers {
    /// Those of a kind.
    pub(super) fn of(&mut self, kind: NewKind) -> &mut VecDeque<u64> {
        match kind {
            NewKind::Directory => &mut self.directories,
            NewKind::Other => &mut self.others,
        }
    }
}

/// A mounted file system.
pub struct Volume {
    pub(super) executor: Executor,
    /// Who serves it; nobody any more when it is out of use.
    server: RefCell<Option<Rc<dyn FileServer>>>,
    /// What outlives the server.
    pub(super) notes: Memory,
    pub(super) payer: Account,
    pub(super) cache: Rc<Cache>,
    /// The name of its device, for messages.
    name: Box<[u8]>,
    filesystem: OnceCell<Weak<FileSystem>>,
    pub(super) geometry: Cell<files::Volume>,
    pub(super) status: Cell<Status>,
    pub(super) state: Cell<State>,
    pub(super) flags: Cell<MountFlags>,
    /// Something went wrong: nothing can be changed any more.
    pub(super) has_failed: Cell<bool>,
    pub(super) inodes: RefCell<BTreeMap<u64, Weak<Inode>>>,
    pub(super) log: RefCell<Log>,
    /// The last operation that was applied, and that is to be at once.
    pub(super) applied: Cell<u64>,
    pub(super) wanted_applied: Cell<u64>,
    /// The last operation that is durable, and that is to be at once.
    pub(super) durable: Cell<u64>,
    pub(super) wanted_durable: Cell<u64>,
    /// The commits that were asked of the server: how many were, the last that is done, and the one that somebody waits for.
    pub(super) commits_begun: Cell<u64>,
    pub(super) commits_done: Cell<u64>,
    pub(super) wanted_commit: Cell<u64>,
    pub(super) served: Served,
    /// Files with stores that are perhaps not written back.
    pub(super) dirty: RefCell<BTreeMap<u64, Rc<Inode>>>,
    pub(super) numbers: RefCell<Numbers>,
    tickets: RefCell<BTreeMap<Want, Ticket>>,
    pub(super) held: RefCell<VecDeque<Rc<Inode>>>,
    /// What was promised of what is free.
    pub(super) space: Space,
    /// Operations that were refused though they may be: number, why.
    refusals: RefCell<BTreeMap<u64, Errno>>,
    /// The server waits for operations that were not sent.
    pub(super) must_send: Cell<bool>,
    /// The directory for which a number was last taken.
    pub(super) last_parent: Cell<u64>,
    /// How many mounts show it.
    mounts: Cell<u64>,
    /// It is being put out of use, and when it is.
    is_closing: Cell<bool>,
    closed: Ticket,
    /// Woken when any of this has changed.
    pub(super) changed: WaitQueue,
    /// When the first operation was added that was not sent, in ns since the machine's start.
    pub(super) unsent_since_ns: Cell<u64>,
}

impl core::fmt::Debug for Volume {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Volume").field("state", &self.state.get()).finish_non_exhaustive()
    }
}

/// What a volume is made of.
pub struct Parts {
    /// What runs its tasks.
    pub executor: Executor,
    /// Who serves it.
    pub server: Rc<dyn FileServer>,
    /// Pays for the pages of its files in memory.
    pub payer: Account,
    /// Where what was loaded is counted.
    pub cache: Rc<Cache>,
    /// The name of its device.
    pub name: Box<[u8]>,
    /// How it is mounted.
    pub flags: MountFlags,
}

impl Volume {
    /// A file system that is not mounted yet. `ENOMEM`.
    pub fn new(parts: Parts) -> Result<Rc<Self>> {
        Ok(Rc::new(Self {
            executor: parts.executor,
            server: RefCell::new(Some(parts.server)),
            notes: Memory::create(notes::bytes_for(MAX_SERVED).next_multiple_of(platform::PAGE_SIZE))?,
            payer: parts.payer,
            cache: parts.cache,
            name: parts.name,
            filesystem: OnceCell::new(),
            geometry: Cell::default(),
            status: Cell::default(),
            state: Cell::new(State::Away),
            flags: Cell::new(parts.flags),
            has_failed: Cell::new(false),
            inodes: RefCell::default(),
            log: RefCell::new(Log::new()),
            applied: Cell::new(0),
            wanted_applied: Cell::new(0),
            durable: Cell::new(0),
            wanted_durable: Cell::new(0),
            commits_begun: Cell::new(0),
            commits_done: Cell::new(0),
            wanted_commit: Cell::new(0),
            served: Served::default(),
            dirty: RefCell::default(),
            numbers: RefCell::default(),
            tickets: RefCell::default(),
            held: RefCell::default(),
            space: Space::default(),
            refusals: RefCell::default(),
            must_send: Cell::new(false),
            last_parent: Cell::new(0),
            mounts: Cell::new(0),
            is_closing: Cell::new(false),
            closed: Ticket::new(),
            changed: WaitQueue::new(),
            unsent_since_ns: Cell::new(0),
        }))
    }

    /// The name of its device.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What it is like.
    pub fn geometry(&self) -> files::Volume {
        self.geometry.get()
    }

    /// The file system that shows it.
    pub(super) fn set_filesystem(&self, filesystem: &Rc<FileSystem>) {
        // It is set once.
        let _ = self.filesystem.set(Rc::downgrade(filesystem));
    }

    pub(super) fn filesystem(&self) -> Result<Rc<FileSystem>> {
        self.filesystem.get().and_then(Weak::upgrade).ok_or(Errno::EIO)
    }

    /// Blocks of the file system: all, free, free for anybody; inodes: all, free. What was promised counts as taken.
    pub fn free(&self) -> [u64; 5] {
        let (geometry, status) = (self.geometry.get(), self.status.get());
        let free = status.free_blocks.saturating_sub(self.space.promised());
        let available = free.saturating_sub(status.reserved_blocks);
        [geometry.blocks, free, available, geometry.inodes, status.free_inodes + self.spare_numbers()]
    }

    fn spare_numbers(&self) -> u64 {
        let numbers = self.numbers.borrow();
        (numbers.directories.len() + numbers.others.len()) as u64
    }

    /// Asks the server, if there is one.
    pub(super) fn call(
        &self,
        request: Request,
        send: Vec<u8>,
        receive_bytes: usize,
        enclosed: Enclosed<'_>,
    ) -> LocalFuture<Result<Answer>> {
        match &*self.server.borrow() {
            Some(server) => server.call(request, send, receive_bytes, enclosed),
            None => Box::pin(async { Err(Errno::ESRCH) }),
        }
    }

    // What fails.

    /// Nothing can be changed any more: an operation failed, or the server says so.
    pub(super) fn fail(&self, why: &str) {
        if self.has_failed.replace(true) {
            return;
        }
        let name = alloc::string::String::from_utf8_lossy(&self.name);
        platform::log(&alloc::format!("{name}: {why}: the file system is read-only from now on"));
        if let Ok(filesystem) = self.filesystem() {
            filesystem.force_read_only();
        }
        let inodes: Vec<Rc<Inode>> = self.inodes.borrow().values().filter_map(Weak::upgrade).collect();
        for content in inodes.iter().filter_map(|inode| inode.content()) {
            // Who goes on storing is to hear of it.
            content.readers().revoke();
        }
        let kept = self.log.borrow_mut().clear();
        drop(kept);
        let dirty = self.dirty.take();
        drop(dirty);
        self.changed.wake();
    }

    /// Whether something went wrong for good.
    pub fn has_failed(&self) -> bool {
        self.has_failed.get()
    }

    /// `EROFS` if nothing can be changed; if much waits already, that is to be waited for.
    pub fn check_writable(self: &Rc<Self>) -> Result<()> {
        if self.has_failed.get() {
            return Err(Errno::EROFS);
        }
        if self.log.borrow().is_full() {
            return Err(self.want(Want::Room, Errno::EIO));
        }
        Ok(())
    }

    // What is not there.

    /// Notes that the call that is being made needs something. The error is for the call to fail with; it is made again.
    pub(super) fn want(self: &Rc<Self>, want: Want, errno: Errno) -> Errno {
        let known = self.tickets.borrow().get(&want).cloned();
        let ticket = known.unwrap_or_else(|| {
            let ticket = Ticket::new();
            self.tickets.borrow_mut().insert(want, ticket.clone());
            let (volume, begun) = (self.clone(), ticket.clone());
            self.executor.spawn(async move {
                let result = volume.bring(want).await;
                volume.tickets.borrow_mut().remove(&want);
                begun.finish(result);
            });
            ticket
        });
        note_ticket(ticket);
        errno
    }

    async fn bring(self: &Rc<Self>, want: Want) -> Result<()> {
        match want {
            Want::Names(number) => self.load_names(number).await,
            Want::Inode(number) => self.load_inode(number).await,
            Want::Attributes(number) => self.load_attributes(number).await,
            Want::DirectoryNumbers => self.reserve(NewKind::Directory).await,
            Want::Numbers => self.reserve(NewKind::Other).await,
            Want::Room => self.make_room().await,
            Want::Settled => self.settle().await,
            Want::Clean => self.synchronize().await,
            Want::Writable => self.remount(self.flags.get() - MountFlags::READ_ONLY).await,
            Want::ReadOnly => self.remount(self.flags.get() | MountFlags::READ_ONLY).await,
        }
    }

    /// Asks the server, whichever it is. `EIO` if there is none for long; else its refusal.
    pub(super) async fn ask(
        &self,
        request: Request,
        receive_bytes: usize,
    ) -> Result<core::result::Result<Answer, Refused>> {
        loop {
            self.ready().await?;
            match self.call(request, Vec::new(), receive_bytes, Enclosed::Nothing).await {
                Ok(answer) => match answer.check() {
                    Err(Refused::NotMounted) => self.lost().await,
                    other => return Ok(other),
                },
                Err(_) => self.lost().await,
            }
        }
    }

    /// The same where a refusal is an error.
    pub(super) async fn demand(&self, request: Request, receive_bytes: usize) -> Result<Answer> {
        self.ask(request, receive_bytes).await?.map_err(errno_of)
    }

    // What was done.

    /// Notes an operation, which touches the attributes of these inodes; gives its number.
    pub(crate) fn record(&self, operation: &Operation<'_>, touched: &[u64]) -> u64 {
        if self.has_failed.get() {
            return 0;
        }
        touched.iter().for_each(|inode| self.let_go_nameless(*inode));
        let mut log = self.log.borrow_mut();
        let had_unsent = log.has_unsent();
        let released: Vec<Rc<Inode>> = touched.iter().filter_map(|inode| log.close(*inode)).collect();
        let sequence = log.push(operation);
        drop(log);
        drop(released);
        self.note_unsent(had_unsent);
        sequence
    }

    /// Lets go of a file that has just lost its last name: it lives as long as somebody has it open, and no longer.
    fn let_go_nameless(&self, number: u64) {
        if self.known(number).is_none_or(|inode| inode.links() > 0) {
            return;
        }
        let logged = self.log.borrow_mut().let_go(number);
        let dirty = self.dirty.borrow_mut().remove(&number);
        let held = {
            let mut held = self.held.borrow_mut();
            let index = held.iter().position(|inode| inode.number() == number);
            index.and_then(|index| held.remove(index))
        };
        drop((logged, dirty, held));
    }

    /// Notes that attributes of an inode have changed; gives the number of the operation that will say so.
    pub(crate) fn attributes_changed(&self, number: u64, set: Set) -> u64 {
        if self.has_failed.get() || self.numbers.borrow().unborn.contains(&number) {
            return 0;
        }
        let Some(inode) = self.known(number) else { return 0 };
        let mut log = self.log.borrow_mut();
        let had_unsent = log.has_unsent();
        let sequence = log.attributes(&inode, set);
        drop(log);
        self.note_unsent(had_unsent);
        sequence
    }

    fn note_unsent(&self, had_unsent: bool) {
        if !had_unsent {
            self.unsent_since_ns.set(platform::now_ns());
        }
        if !had_unsent || self.log.borrow().is_pressing() {
            self.changed.wake();
        }
    }

    /// A new inode has got a name, or none (`O_TMPFILE`): it is one from now on.
    pub(crate) fn record_create(&self, parent: u64, name: &[u8], inode: &Inode, time: i64) {
        let number = inode.number();
        self.numbers.borrow_mut().unborn.remove(&number);
        let device = inode.device();
        let target = inode.link().and_then(|link| link.stored_text());
        let operation = Operation::Create {
            parent,
            inode: number,
            name,
            mode: inode.mode(),
            uid: inode.uid(),
            gid: inode.gid(),
            time,
            device: u64::from(device.major) << 32 | u64::from(device.minor),
            target: target.unwrap_or_default(),
        };
        let sequence = self.record(&operation, &[parent]);
        if let Some(file) = inode.content().and_then(Content::paged_file).and_then(|file| file.on_disk()) {
            file.created_by(sequence);
        }
    }

    /// A file's content may have been stored to.
    pub(crate) fn note_dirty(&self, number: u64) {
        if self.has_failed.get() || self.dirty.borrow().contains_key(&number) {
            return;
        }
        // What a file without names has stored is lost with it anyway.
        if let Some(inode) = self.known(number).filter(|inode| inode.links() > 0) {
            self.dirty.borrow_mut().insert(number, inode);
        }
    }

    // Mounts.

    /// One mount more shows it.
    pub(crate) fn add_mount(&self) {
        self.mounts.set(self.mounts.get().saturating_add(1));
    }

    /// One mount less does; with the last it is put out of use.
    pub(crate) fn remove_mount(self: &Rc<Self>) {
        self.mounts.set(self.mounts.get().saturating_sub(1));
        if self.mounts.get() == 0 && !self.is_closing.replace(true) {
            let volume = self.clone();
            self.executor.spawn(async move { volume.close().await });
        }
    }

    /// Whether it is being put out of use.
    pub fn is_closing(&self) -> bool {
        self.is_closing.get()
    }

    /// What ends when it is out of use.
    pub fn closed(&self) -> Ticket {
        self.closed.clone()
    }

    /// Puts it out of use, whoever uses it.
    pub(super) async fn close_for_good(self: &Rc<Self>) {
        if !self.is_closing.replace(true) {
            let volume = self.clone();
            self.executor.spawn(async move { volume.close().await });
        }
        let patience = self.executor.sleep_until(platform::now_ns().saturating_add(LAST_PATIENCE_NS));
        select(pin!(self.closed.ended()), pin!(patience)).await;
        if !self.has_ended() {
            self.fail("its server does not end its work");
            self.end(Errno::EIO);
        }
    }

    /// The inode of the root directory.
    pub(super) async fn root_inode(self: &Rc<Self>) -> Result<Rc<Inode>> {
        let number = self.geometry.get().root;
        self.load_inode(number).await?;
        self.known(number).ok_or(Errno::EIO)
    }

    /// Takes a new inode: its body hears its number.
    pub(crate) fn adopt(&self, inode: &Rc<Inode>) {
        self.enter(inode);
        match inode.body() {
            Body::Directory(directory) => directory.adopt(inode.number()),
            Body::Regular(_) => {
                if let Some(file) = super::session::disk_file(inode) {
                    file.adopt(inode.number());
                }
            }
            Body::Link(_)
            | Body::CharacterDevice(_)
            | Body::BlockDevice(_)
            | Body::Fifo(_)
            | Body::Socket
            | Body::Anonymous
            | Body::Generated(_) => {}
        }
    }

    /// Sees to it that it is mounted read-only, or not. `EROFS`, `EBUSY`, `EIO`; or the call has to be made again.
    pub fn set_read_only(self: &Rc<Self>, is_read_only: bool) -> Result<()> {
        let filesystem = self.filesystem()?;
        if is_read_only {
            if filesystem.is_read_only() && self.is_clean() && self.is_served_read_only() {
                return Ok(());
            }
            if self.has_open_nameless() {
                return Err(Errno::EBUSY);
            }
            // Nothing may change while it is made so.
            filesystem.set_read_only(true)?;
            if !self.is_clean() {
                return Err(self.want(Want::Clean, Errno::EIO));
            }
            return if self.is_served_read_only() { Ok(()) } else { Err(self.want(Want::ReadOnly, Errno::EIO)) };
        }
        if self.has_failed.get() {
            return Err(Errno::EROFS);
        }
        if self.is_served_read_only() {
            return Err(self.want(Want::Writable, Errno::EROFS));
        }
        Ok(())
    }

    /// Whether everything that was done is durable.
    fn is_clean(&self) -> bool {
        let is_durable = self.durable.get() >= self.log.borrow().last();
        // What somebody can store to without a call is never clean for long.
        let is_mapped = |inode: &Rc<Inode>| inode.content().is_some_and(Content::is_mapped_to_store);
        self.has_failed.get() || is_durable && self.dirty.borrow().values().all(is_mapped)
    }

    /// Whether its server writes nothing.
    fn is_served_read_only(&self) -> bool {
        self.has_failed.get() || self.flags.get().contains(MountFlags::READ_ONLY)
    }

    /// Whether files are open that have no names: they will want to be freed.
    fn has_open_nameless(&self) -> bool {
        self.inodes.borrow().values().filter_map(Weak::upgrade).any(|inode| inode.links() == 0)
    }

    /// Has the server only read from now on, or write again. A successor does the same.
    async fn remount(&self, flags: MountFlags) -> Result<()> {
        self.ask(Request::Remount { flags }, 0).await?.map_err(|_| Errno::EROFS)?;
        self.flags.set(flags);
        Ok(())
    }

    /// Notes that the call which is being made needs the extended attributes of an inode.
    pub(crate) fn want_attributes(self: &Rc<Self>, number: u64) -> Errno {
        self.want(Want::Attributes(number), Errno::EIO)
    }

    /// Forgets all that was loaded and is not in use.
    pub(super) fn forget_kept(&self) {
        let kept = (self.held.take(), self.dirty.take());
        drop(kept);
        let inodes: Vec<Rc<Inode>> = self.inodes.borrow().values().filter_map(Weak::upgrade).collect();
        for inode in &inodes {
            if let Ok(directory) = inode.directory() {
                directory.forget_names();
            }
        }
    }

    /// It is out of use: everything is forgotten, and the server let go. Calls get this error from now on.
    pub(super) fn end(&self, errno: Errno) {
        self.state.set(State::Ended(errno));
        self.has_failed.set(true);
        let kept = (self.log.borrow_mut().clear(), self.server.take());
        drop(kept);
        self.forget_kept();
        self.changed.wake();
        self.closed.finish(Ok(()));
    }

    /// An operation was refused that may be.
    pub(super) fn note_refusal(&self, sequence: u64, errno: Errno) {
        self.refusals.borrow_mut().insert(sequence, errno);
    }

    /// Does an operation that may be refused, and waits for it.
    pub(super) async fn attempt(&self, operation: &Operation<'_>) -> Result<()> {
        let sequence = self.record(operation, &[operation.inode()]);
        self.applied_up_to(sequence).await?;
        self.refusals.borrow_mut().remove(&sequence).map_or(Ok(()), Err)
    }

    /// Obeys what the server has to tell.
    pub(super) fn hear(&self, news: News) {
        if news.contains(News::READ_ONLY) {
            self.fail("its server reports an error");
        }
        if news.contains(News::SEND) {
            self.must_send.set(true);
            self.wanted_applied.set(self.log.borrow().last().max(self.wanted_applied.get()));
            self.changed.wake();
        }
    }
}
