//! The tasks of a volume: they find its server, send it what was done, and have stores written back.
//!
//! 1. [`attend`] mounts the file system, and watches the server by a call that is answered when there are news. When the server dies,
//!    that call ends, and its successor is told what it has to know: what was done and is not durable, and which files are in use.
//! 2. [`send`] sends the log: after a short while, at once if somebody waits for it, or if much has gathered.
//! 3. [`write_back_old`] has files written back that were stored to, so that the memory of who stored need not be kept.

use super::file::DiskFile;
use super::log::Batch;
use super::server::{Enclosed, errno_of};
use super::volume::{State, Volume};
use crate::errno::{Errno, Result};
use crate::fs::Inode;
use crate::fs::content::Content;
use crate::platform;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::pin::pin;
use driver_protocol::files::operation::{Operation, operations};
use driver_protocol::files::{self, Applied, News, Refused, Request, Status};
use futures_util::future::{Either, select};

/// How long operations wait to be sent together, in ns.
const DELAY_NS: u64 = 500_000_000;
/// How long stores wait to be written back, in ns, and operations to be made durable.
const WRITE_BACK_NS: u64 = 5_000_000_000;
const COMMIT_SECONDS: u64 = WRITE_BACK_NS / 1_000_000_000;
/// How long a task waits before it tries to reach a server again, in ns.
pub(super) const PAUSE_NS: u64 = 2_000_000;
/// How long calls wait for a server, in ns.
const PATIENCE_NS: u64 = 60_000_000_000;

impl Volume {
    /// Begins to use the file system.
    pub(super) fn start(self: &Rc<Self>) {
        self.executor.spawn(attend(self.clone()));
        self.executor.spawn(send(self.clone()));
        self.executor.spawn(super::served::tell(self.clone()));
        self.executor.spawn(write_back_old(self.clone()));
    }

    /// Waits until there is a server that knows all it has to. `EIO` if that takes too long.
    pub(super) async fn ready(&self) -> Result<()> {
        let mut patience = pin!(self.executor.sleep_until(platform::now_ns().saturating_add(PATIENCE_NS)));
        loop {
            let listener = self.changed.listen();
            match self.state.get() {
                State::Ready => return Ok(()),
                State::Ended(errno) => return Err(errno),
                State::Away => {}
            }
            if let Either::Right(_) = select(listener, patience.as_mut()).await {
                return Err(Errno::EIO);
            }
        }
    }

    /// The server did not hear: in a moment the task that watches it will have found a successor.
    pub(super) async fn lost(&self) {
        self.executor.sleep_until(platform::now_ns().saturating_add(PAUSE_NS)).await;
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state.get(), State::Ended(_))
    }

    fn set_state(&self, state: State) {
        self.state.set(state);
        self.changed.wake();
    }

    /// Mounts it, whether for the first time or for a successor of its server.
    async fn mount(&self) -> Result<()> {
        while !self.has_ended() {
            let request = Request::Mount { flags: self.flags.get(), commit_seconds: COMMIT_SECONDS };
            let answer = self.call(request, Vec::new(), files::Volume::BYTES, Enclosed::Notes(&self.notes)).await;
            match answer.map(|answer| answer.check()) {
                Err(_) => self.lost().await,
                Ok(Err(refused)) => {
                    let name = alloc::string::String::from_utf8_lossy(self.name());
                    platform::log(&alloc::format!("{name}: can't be mounted: {refused:?}"));
                    return Err(errno_of(refused));
                }
                Ok(Ok(answer)) => return self.begin(files::Volume::decode(&answer.bytes).ok_or(Errno::EIO)?),
            }
        }
        Err(Errno::EIO)
    }

    /// A server has mounted it.
    fn begin(&self, geometry: files::Volume) -> Result<()> {
        let durable = geometry.durable();
        if durable < self.durable.get() || durable > self.log.borrow().last() {
            self.fail("its server does not know what it has done");
            return Err(Errno::EIO);
        }
        self.geometry.set(geometry);
        self.status.set(geometry.status);
        self.log.borrow_mut().send_again_after(durable);
        self.applied.set(durable);
        self.durable.set(durable);
        let mut numbers = self.numbers.borrow_mut();
        numbers.directories.clear();
        numbers.others.clear();
        drop(numbers);
        self.served.begin();
        self.tell_growth();
        Ok(())
    }

    /// Waits until operations up to this one were applied. `EIO`.
    pub(super) async fn applied_up_to(&self, sequence: u64) -> Result<()> {
        loop {
            let listener = self.changed.listen();
            if self.applied.get() >= sequence {
                return Ok(());
            }
            self.check_alive()?;
            if self.wanted_applied.get() < sequence {
                self.wanted_applied.set(sequence);
                self.changed.wake();
            }
            listener.await;
        }
    }

    /// Waits until operations up to this one are durable. `EIO`.
    pub(super) async fn durable_up_to(&self, sequence: u64) -> Result<()> {
        loop {
            let listener = self.changed.listen();
            if self.durable.get() >= sequence {
                return Ok(());
            }
            self.check_alive()?;
            if self.wanted_durable.get() < sequence {
                self.wanted_durable.set(sequence);
                self.wanted_applied.set(sequence.max(self.wanted_applied.get()));
                self.changed.wake();
            }
            listener.await;
        }
    }

    fn check_alive(&self) -> Result<()> {
        if self.has_failed() || self.has_ended() { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Has everything that was done, and what was written back until now, durable: by a commit that begins from now on, whether or not
    /// names or attributes have changed. What was written over on the disk lies in its cache else. `EIO`.
    pub async fn commit(&self) -> Result<()> {
        if self.has_failed() {
            return Err(Errno::EIO);
        }
        let last = self.log.borrow().last();
        let commit = self.commits_begun.get() + 1;
        self.wanted_commit.set(commit);
        self.changed.wake();
        self.durable_up_to(last).await?;
        loop {
            let listener = self.changed.listen();
            if self.commits_done.get() >= commit {
                return Ok(());
            }
            self.check_alive()?;
            listener.await;
        }
    }

    /// Has everything durable that was stored and done until now. `EIO`.
    pub async fn synchronize(&self) -> Result<()> {
        let mut result = Ok(());
        for inode in self.dirty_files() {
            result = result.and(self.write_back(&inode).await);
        }
        result.and(self.commit().await)
    }

    fn dirty_files(&self) -> Vec<Rc<Inode>> {
        self.dirty.borrow().values().cloned().collect()
    }

    /// Has stores to a file written back. `EIO`.
    pub(super) async fn write_back(&self, inode: &Rc<Inode>) -> Result<()> {
        let Some(file) = disk_file(inode) else { return Ok(()) };
        inode.take_over_times();
        let stores = file.stores();
        let is_mapped = || inode.content().is_some_and(Content::is_mapped_to_store);
        // What is stored through a mapping meanwhile is not counted, and the mapping may end before the writeback does.
        let was_mapped = is_mapped();
        file.write_back_all().await?;
        if file.has_promises() {
            // What is free must be known to be less before a promise is forgotten: else it would be promised twice.
            let answer = self.demand(Request::Status, 0).await?;
            self.status.set(Status::decode(&answer.words));
        }
        if file.stores() == stores {
            file.forget_promises();
            let clean = if was_mapped || is_mapped() { None } else { self.dirty.borrow_mut().remove(&inode.number()) };
            drop(clean);
        }
        Ok(())
    }

    /// Has the log made shorter.
    pub(super) async fn make_room(&self) -> Result<()> {
        let last = self.log.borrow().last();
        self.durable_up_to(last).await
    }

    /// Finds out what is free when nothing is promised.
    pub(super) async fn settle(&self) -> Result<()> {
        // What can't be written back keeps its promise.
        let _ = self.synchronize().await;
        let answer = self.demand(Request::Status, 0).await?;
        self.status.set(Status::decode(&answer.words));
        self.note_settled();
        Ok(())
    }

    async fn send_batch(&self, batch: Batch) {
        let Batch { first, count, bytes, released } = batch;
        drop(released);
        let refused_one = |applied: u64| {
            let index = applied.checked_sub(first).and_then(|index| usize::try_from(index).ok())?;
            let is_allocation = matches!(operations(&bytes).nth(index), Some(Operation::Allocate { .. }));
            Some((applied, is_allocation))
        };
        let answer = self.call(Request::Apply { first, count }, bytes.clone(), 0, Enclosed::Nothing).await;
        match answer.map(|answer| answer.check()) {
            Ok(Ok(answer)) => {
                let Applied { status, refused } = Applied::decode(&answer.words);
                match refused.and_then(|refused| Some((refused, refused_one(status.applied)?))) {
                    // There are files in which no blocks can be set aside.
                    Some((Refused::Unsupported, (sequence, true))) => self.note_refusal(sequence, Errno::EOPNOTSUPP),
                    Some((refused, (sequence, true))) => self.note_refusal(sequence, errno_of(refused)),
                    Some((refused, (sequence, false))) => {
                        self.fail(&alloc::format!("operation {sequence} can't be done ({refused:?})"));
                    }
                    None => {}
                }
                self.note_status(status);
            }
            Ok(Err(Refused::NotMounted)) | Err(_) => self.lost().await,
            Ok(Err(refused)) => self.fail(&alloc::format!("operations can't be done ({refused:?})")),
        }
    }

    /// The server says how far it is.
    fn note_status(&self, status: Status) {
        let mut log = self.log.borrow_mut();
        let applied = status.applied.min(log.last());
        log.sent_up_to(applied);
        log.forget_up_to(status.durable);
        let is_quiet = applied == log.last();
        drop(log);
        self.status.set(status);
        self.applied.set(applied.max(self.applied.get()));
        self.durable.set(status.durable.min(applied).max(self.durable.get()));
        if is_quiet {
            self.forget_name_promises();
        }
        self.changed.wake();
    }

    async fn commit_up_to(&self, sequence: u64) {
        let commit = self.commits_begun.get() + 1;
        self.commits_begun.set(commit);
        let answer = self.call(Request::Commit { sequence }, Vec::new(), 0, Enclosed::Nothing).await;
        match answer.map(|answer| answer.check()) {
            Ok(Ok(answer)) => {
                self.commits_done.set(commit);
                self.note_status(Status::decode(&answer.words));
            }
            Ok(Err(Refused::NotMounted)) | Err(_) => self.lost().await,
            Ok(Err(refused)) => self.fail(&alloc::format!("the journal can't be written ({refused:?})")),
        }
    }

    /// The next thing that there is to be sent; `None` when that is to be waited for, until a deadline if there is one.
    fn next_step(&self) -> core::result::Result<Step, Option<u64>> {
        let mut log = self.log.borrow_mut();
        if self.state.get() != State::Ready {
            return Err(None);
        }
        let wanted = self.wanted_applied.get() > log.last_sent();
        let due_ns = self.unsent_since_ns.get().saturating_add(DELAY_NS);
        if log.has_unsent() {
            if !wanted && !log.is_pressing() && platform::now_ns() < due_ns {
                return Err(Some(due_ns));
            }
            if let Some(inode) = log.take_barrier() {
                return Ok(Step::Flush(inode));
            }
            if let Some(batch) = log.take_batch() {
                return Ok(Step::Send(batch));
            }
        }
        let wanted = self.wanted_durable.get().min(self.applied.get());
        let is_wanted = self.wanted_commit.get() > self.commits_done.get();
        if wanted > self.durable.get() || is_wanted {
            Ok(Step::Commit(wanted.max(self.durable.get())))
        } else {
            Err(None)
        }
    }

    /// Has a file written back before what comes after it is sent; unless that is just what the writeback waits for.
    async fn flush(&self, inode: &Rc<Inode>) {
        self.must_send.set(false);
        let needed = async {
            loop {
                let listener = self.changed.listen();
                if self.must_send.get() || self.state.get() != State::Ready {
                    return;
                }
                listener.await;
            }
        };
        select(pin!(self.write_back(inode)), pin!(needed)).await;
    }

    /// Puts the file system out of use, as far as it goes.
    pub(super) async fn close(self: &Rc<Self>) {
        if self.has_ended() {
            return;
        }
        // What can't be written back is lost; who stored it has been told.
        let _ = self.synchronize().await;
        self.forget_kept();
        while !self.has_failed() && !self.served.is_settled() {
            let listener = self.changed.listen();
            listener.await;
        }
        let _ = self.commit().await;
        let _ = self.ask(Request::Unmount, 0).await;
        self.end(Errno::ENODEV);
    }
}

/// What the task does next that sends.
enum Step {
    Flush(Rc<Inode>),
    Send(Batch),
    Commit(u64),
}

/// The file of an inode, if it is a regular one on a disk.
pub(super) fn disk_file(inode: &Inode) -> Option<&DiskFile> {
    inode.content().and_then(Content::paged_file).and_then(|file| file.on_disk())
}

/// Finds server after server.
async fn attend(volume: Rc<Volume>) {
    while !volume.has_ended() {
        match volume.mount().await {
            Ok(()) => volume.set_state(State::Ready),
            Err(errno) => return volume.end(errno),
        }
        select(pin!(watch(&volume)), pin!(volume.closed().ended())).await;
        if !volume.has_ended() {
            volume.set_state(State::Away);
        }
    }
}

/// Hears what the server has to tell, until it is gone.
async fn watch(volume: &Volume) {
    loop {
        let watch = volume.call(Request::Watch, Vec::new(), 0, Enclosed::Nothing);
        match watch.await.map(|answer| answer.check()) {
            Ok(Ok(answer)) => {
                let [news, ..] = answer.words;
                volume.hear(News::from_bits_truncate(news));
            }
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// Sends what there is to send.
async fn send(volume: Rc<Volume>) {
    while !volume.has_ended() {
        let listener = volume.changed.listen();
        let step = volume.next_step();
        match step {
            Ok(Step::Flush(inode)) => volume.flush(&inode).await,
            Ok(Step::Send(batch)) => volume.send_batch(batch).await,
            Ok(Step::Commit(sequence)) => volume.commit_up_to(sequence).await,
            Err(Some(due_ns)) => {
                select(listener, pin!(volume.executor.sleep_until(due_ns))).await;
            }
            Err(None) => listener.await,
        }
    }
}

/// Has stores written back that are some seconds old.
async fn write_back_old(volume: Rc<Volume>) {
    while !volume.has_ended() {
        let listener = volume.changed.listen();
        if volume.dirty.borrow().is_empty() || volume.state.get() != State::Ready {
            listener.await;
            continue;
        }
        drop(listener);
        let sleep = volume.executor.sleep_until(platform::now_ns().saturating_add(WRITE_BACK_NS));
        select(pin!(sleep), pin!(volume.closed().ended())).await;
        for inode in volume.dirty_files() {
            // It stays dirty, and is tried again; the file has noted the error for those who ask.
            let _ = volume.write_back(&inode).await;
            if disk_file(&inode).is_some_and(DiskFile::is_uneven) {
                volume.count_blocks(inode.number()).await;
            }
        }
    }
}
