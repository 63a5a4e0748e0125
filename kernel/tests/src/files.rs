//! The file server on a disk, without the posix-server: a client of its own, which makes files, stores to their memories, and reads back.
//!
//! `test=files-check` stores, flushes, cuts off, mounts anew and compares; `test=files-storm` does so for a while (`storm_seconds=`) as
//! programs are killed (`kill=files,virtio-blk`), and says how long it took until each was replaced; `test=files-bench` counts the
//! instructions that a block of 4 KiB costs all programs and the kernel together. The disk has an ext4 file system, whose files stay what they
//! are but for those that the test makes.

use crate::disk::Idle;
use crate::harness::{Bench, Failure, TestResult, holds, same};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use driver_protocol::block::PAGE_BYTES;
use driver_protocol::files::notes::{self, slot_offset};
use driver_protocol::files::operation::{Operation, Set, Values};
use driver_protocol::files::{Applied, MountFlags, NewKind, Refused, Request, Volume};
use driver_protocol::supervisor::{DiskName, Request as Wish};
use log::{error, info};
use quire_api::abi::pager::PagerFlags;
use quire_api::executor::Buffers;
use quire_api::pager::Pager;
use quire_api::raw::time_stamp;
use quire_api::rt::Startup;
use quire_api::{ChannelEndpoint, Error, Executor, Memory, Message, Object, Rights, copy};

/// How many files there are, and how long each can be, in pages.
const FILES: u64 = 4;
const FILE_PAGES: u64 = 1024;
/// How many operations are sent together.
const MAX_BATCH: usize = 256;
/// How long whoever needs a page waits for it.
const DEADLINE_NS: u64 = 30_000_000_000;
/// How long a call to a server that is gone is put off.
const PAUSE_NS: u64 = 500_000;
const NS_PER_MS: u64 = 1_000_000;
const DEFAULT_STORM_SECONDS: u64 = 20;

/// A file in use.
struct File {
    inode: u64,
    memory: Memory,
    pager: Pager,
    /// A number for each page; 0: never stored to.
    model: RefCell<Vec<u64>>,
}

/// A client of the file server.
struct Client {
    executor: Executor,
    channel: ChannelEndpoint,
    notes: Memory,
    sequence: Cell<u64>,
    /// The last operation that this server has done.
    applied: Cell<u64>,
    /// Operations that are not known to be durable, with their numbers.
    log: RefCell<Vec<(u64, Vec<u8>)>>,
    files: Vec<File>,
    root: Cell<u64>,
    /// How long it took until a server that had died was replaced, in ns.
    recoveries: RefCell<Vec<u64>>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// The server has died, or its successor does not know us yet.
    Server,
    /// It refuses.
    Refused(Refused),
}

impl From<Lost> for Failure {
    #[track_caller]
    fn from(lost: Lost) -> Self {
        let place = core::panic::Location::caller();
        Self(format!("{lost:?} ({}:{})", place.file(), place.line()))
    }
}

/// What goes along with a request.
enum Enclosed<'a> {
    Nothing,
    Notes,
    File(&'a File),
}

impl Client {
    fn new(bench: &Bench, executor: Executor, channel: ChannelEndpoint) -> Result<Self, Error> {
        let notes = Memory::create(bench.account, notes::bytes_for(FILES).next_multiple_of(PAGE_BYTES))?;
        let (sequence, applied, root) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let (log, files, recoveries) = (RefCell::default(), Vec::new(), RefCell::default());
        Ok(Self { executor, channel, notes, sequence, applied, log, files, root, recoveries })
    }

    async fn call(
        &self,
        request: Request,
        send: Vec<u8>,
        room: usize,
        enclosed: Enclosed<'_>,
    ) -> Result<([u64; 8], Vec<u8>), Lost> {
        let (label, words) = request.encode();
        let mut message = Message::new(label, words);
        let gone = |_: Error| Lost::Server;
        match enclosed {
            Enclosed::Nothing => {}
            Enclosed::Notes => {
                message = message.with_handle(0, self.notes.duplicate(Rights::all()).map_err(gone)?.into_handle());
            }
            Enclosed::File(file) => {
                let pager = file.pager.duplicate(Rights::all()).map_err(gone)?;
                let memory = file.memory.duplicate(Rights::all()).map_err(gone)?;
                message = message.with_handle(0, pager.into_handle()).with_handle(1, memory.into_handle());
            }
        }
        let buffers = Buffers { send, receive: vec![0; room] };
        let answer = self.executor.call(&self.channel, message, buffers).await.map_err(gone)?;
        match Refused::check(answer.message.label) {
            Ok(()) => Ok((answer.message.words, answer.buffers.receive)),
            Err(Refused::NotMounted) => Err(Lost::Server),
            Err(refused) => Err(Lost::Refused(refused)),
        }
    }

    async fn simply(&self, request: Request) -> Result<[u64; 8], Lost> {
        self.call(request, Vec::new(), 0, Enclosed::Nothing).await.map(|(words, _)| words)
    }

    async fn mount(&self) -> Result<Volume, Lost> {
        let request = Request::Mount { flags: MountFlags::empty(), commit_seconds: 1 };
        let (_, bytes) = self.call(request, Vec::new(), Volume::BYTES, Enclosed::Notes).await?;
        let volume = Volume::decode(&bytes).ok_or(Lost::Refused(Refused::BadBuffer))?;
        self.root.set(volume.root);
        self.applied.set(volume.durable());
        self.trim(volume.durable());
        Ok(volume)
    }

    fn note(&self, operation: &Operation<'_>) -> u64 {
        self.sequence.set(self.sequence.get() + 1);
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        self.log.borrow_mut().push((self.sequence.get(), bytes));
        self.sequence.get()
    }

    fn trim(&self, durable: u64) {
        self.log.borrow_mut().retain(|(sequence, _)| *sequence > durable);
    }

    /// Sends what was noted and not sent.
    async fn send(&self) -> Result<(), Lost> {
        while let Some((first, count, bytes)) = self.batch() {
            let (words, _) = self.call(Request::Apply { first, count }, bytes, 0, Enclosed::Nothing).await?;
            let applied = Applied::decode(&words);
            if let Some(refused) = applied.refused {
                return Err(Lost::Refused(refused));
            }
            self.applied.set(applied.status.applied);
            self.trim(applied.status.durable);
        }
        Ok(())
    }

    /// Operations to be sent together.
    fn batch(&self) -> Option<(u64, u64, Vec<u8>)> {
        let log = self.log.borrow();
        let unsent = || log.iter().filter(|(sequence, _)| *sequence > self.applied.get()).take(MAX_BATCH);
        let (first, _) = unsent().next()?;
        let bytes = unsent().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
        Some((*first, unsent().count() as u64, bytes))
    }

    /// Finds the server's successor and tells it what it has to know.
    async fn recover(&self) -> Result<(), Lost> {
        let began_ns = self.executor.now_ns();
        loop {
            match self.introduce().await {
                Ok(()) => break,
                Err(Lost::Server | Lost::Refused(Refused::Mounted)) => self.executor.sleep_ns(PAUSE_NS).await,
                Err(refused) => return Err(refused),
            }
        }
        let took_ns = self.executor.now_ns().saturating_sub(began_ns);
        self.recoveries.borrow_mut().push(took_ns);
        Ok(())
    }

    async fn introduce(&self) -> Result<(), Lost> {
        self.mount().await?;
        self.send().await?;
        for (slot, file) in (0..).zip(&self.files) {
            let request = Request::Serve { inode: file.inode, slot };
            self.call(request, Vec::new(), 0, Enclosed::File(file)).await?;
        }
        Ok(())
    }

    /// Does something until a server has lived long enough for it.
    async fn persist<T>(&self, act: impl AsyncFn() -> Result<T, Lost>) -> Result<T, Lost> {
        loop {
            match act().await {
                Err(Lost::Server) => self.recover().await?,
                other => return other,
            }
        }
    }

    async fn create(&mut self, bench: &Bench, name: &str) -> TestResult {
        let reserve = Request::Reserve { parent: self.root.get(), kind: NewKind::Other, count: 1 };
        let (_, bytes) = self.call(reserve, Vec::new(), 8, Enclosed::Nothing).await?;
        let inode = u64::from_le_bytes(*bytes.first_chunk().ok_or(Lost::Server)?);
        let (parent, target) = (self.root.get(), &b""[..]);
        let (mode, name) = (0o100_644, name.as_bytes());
        self.note(&Operation::Create { parent, inode, name, mode, uid: 0, gid: 0, time: 0, device: 0, target });
        self.send().await?;
        let (memory, pager) = Pager::create(bench.account, 0, DEADLINE_NS, PagerFlags::AWAIT_SUCCESSOR)?;
        let slot = self.files.len() as u64;
        let file = File { inode, memory, pager, model: RefCell::default() };
        self.call(Request::Serve { inode, slot }, Vec::new(), 0, Enclosed::File(&file)).await?;
        self.files.push(file);
        Ok(())
    }

    /// Makes a file shorter or longer.
    fn set_size(&self, which: usize, pages: u64) -> TestResult {
        let Some(file) = self.files.get(which) else { return Ok(()) };
        let is_cut = pages < file.model.borrow().len() as u64;
        let values = Values { size: pages * PAGE_BYTES, ..Values::default() };
        let sequence = self.note(&Operation::SetAttributes { inode: file.inode, set: Set::SIZE, values });
        let place = slot_offset(which as u64) + if is_cut { notes::CUT } else { notes::SIZE };
        self.notes.write_all(place, &sequence.to_le_bytes())?;
        file.memory.resize(pages * PAGE_BYTES)?;
        file.model.borrow_mut().resize(pages as usize, 0);
        Ok(())
    }

    /// Stores a number all over a page.
    async fn store(&self, which: usize, page: u64, value: u64) -> TestResult {
        let Some(file) = self.files.get(which) else { return Ok(()) };
        if page >= file.model.borrow().len() as u64 {
            self.set_size(which, page + 1)?;
        }
        let bytes: Vec<u8> = value.to_le_bytes().repeat(PAGE_BYTES as usize / 8);
        loop {
            match file.memory.write(page * PAGE_BYTES, &bytes) {
                Ok(count) if count == bytes.len() => break,
                Ok(_) | Err(Error::NotPresent) => self.bring(file, page, true).await?,
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(known) = file.model.borrow_mut().get_mut(page as usize) {
            *known = value;
        }
        Ok(())
    }

    /// Waits for a page; the server may want operations, or be dead.
    async fn bring(&self, file: &File, page: u64, writable: bool) -> TestResult {
        let fetched = self.executor.fetch(&file.memory, page * PAGE_BYTES, PAGE_BYTES, writable)?;
        self.beside(fetched).await??;
        Ok(())
    }

    /// Waits for something that the server does, and sees to it that it lives and has what it needs.
    async fn beside<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
        let mut work = core::pin::pin!(work);
        loop {
            self.persist(async || self.send().await).await?;
            let look = core::pin::pin!(self.executor.sleep_ns(20 * NS_PER_MS));
            match futures_util::future::select(work.as_mut(), look).await {
                futures_util::future::Either::Left((value, _)) => return Ok(value),
                futures_util::future::Either::Right(_) => {
                    self.persist(async || self.simply(Request::Status).await).await?;
                }
            }
        }
    }

    async fn check(&self, which: usize, page: u64) -> TestResult {
        let Some(file) = self.files.get(which) else { return Ok(()) };
        let Some(expected) = file.model.borrow().get(page as usize).copied() else { return Ok(()) };
        let mut bytes = vec![0; PAGE_BYTES as usize];
        loop {
            match file.memory.read(page * PAGE_BYTES, &mut bytes) {
                Ok(count) if count == bytes.len() => break,
                Ok(_) | Err(Error::NotPresent) => self.bring(file, page, false).await?,
                Err(error) => return Err(error.into()),
            }
        }
        let expected = expected.to_le_bytes();
        if bytes.chunks(8).all(|part| part == expected) {
            return Ok(());
        }
        let found = bytes.get(..8).unwrap_or_default();
        Err(Failure(format!("file {which} page {page}: {found:02x?} instead of {expected:02x?}")))
    }

    /// Makes all durable that was done and stored until now.
    async fn synchronize(&self, which: usize) -> TestResult {
        let Some(file) = self.files.get(which) else { return Ok(()) };
        let len_bytes = file.model.borrow().len() as u64 * PAGE_BYTES;
        if len_bytes > 0 {
            let flush = self.executor.write_back(&file.memory, 0, len_bytes)?;
            self.beside(flush).await??;
        }
        let sequence = self.sequence.get();
        self.persist(async || {
            self.send().await?;
            self.simply(Request::Commit { sequence }).await
        })
        .await?;
        self.trim(sequence);
        Ok(())
    }

    /// Forgets what is cached and compares all.
    async fn check_all(&self) -> TestResult {
        for (which, file) in self.files.iter().enumerate() {
            self.synchronize(which).await?;
            let pages = file.model.borrow().len() as u64;
            file.pager.invalidate(0, pages * PAGE_BYTES)?;
            for page in 0..pages {
                self.check(which, page).await?;
            }
        }
        Ok(())
    }

    async fn unmount(&self) -> TestResult {
        for file in &self.files {
            self.simply(Request::Release { inode: file.inode }).await?;
        }
        self.simply(Request::Unmount).await?;
        Ok(())
    }
}

/// Runs one of the tests; `true` if all is well.
pub(crate) fn run(bench: &Bench, startup: &'static Startup, supervisor: &ChannelEndpoint) -> bool {
    let result = begin(bench, startup, supervisor);
    if let Err(Failure(reason)) = &result {
        error!("files: {reason}");
    }
    let (passed, failed) = if result.is_ok() { (1, 0) } else { (0, 1) };
    info!("{passed} passed, {failed} failed");
    result.is_ok()
}

fn begin(bench: &Bench, startup: &'static Startup, supervisor: &ChannelEndpoint) -> TestResult {
    let executor = Executor::new(bench.account)?;
    let name = DiskName::new(b"vda").ok_or(Error::BadState)?;
    let (label, words) = Wish::OpenFiles { name, read_only: false }.encode();
    let mut answer = supervisor.call(Message::new(label, words))?;
    same(answer.label, 0)?;
    let channel = answer.take_handle::<ChannelEndpoint>(0).ok_or(Error::BadState)?;
    let mut client = Client::new(bench, executor.clone(), channel)?;
    let seconds = startup.argument("storm_seconds").and_then(|text| text.parse().ok());
    executor.block_on(async {
        let volume = client.persist(async || client.mount().await).await?;
        info!("{} of {} blocks are free", volume.status.free_blocks, volume.blocks);
        match startup.argument("test") {
            Some("files-storm") => storm(bench, &mut client, seconds.unwrap_or(DEFAULT_STORM_SECONDS)).await,
            Some("files-bench") => measure(bench, &mut client).await,
            Some(_) | None => check(bench, &mut client).await,
        }
    })?
}

async fn check(bench: &Bench, client: &mut Client) -> TestResult {
    for number in 0..FILES {
        client.create(bench, &format!("check{number}")).await?;
    }
    for (which, pages) in [(0, 1), (1, 33), (2, FILE_PAGES), (3, 7)] {
        for page in 0..pages {
            client.store(which, page, page * 256 + which as u64 + 1).await?;
        }
        client.synchronize(which).await?;
    }
    client.check_all().await?;
    info!("test files::what is stored comes back ... ok");
    client.set_size(2, 10)?;
    client.set_size(2, 40)?;
    client.store(2, 30, 99).await?;
    client.store(1, 100, 98).await?;
    client.check_all().await?;
    info!("test files::what is cut off does not ... ok");
    client.unmount().await?;
    client.sequence.set(0);
    client.notes.discard(0, notes::bytes_for(FILES).next_multiple_of(PAGE_BYTES))?;
    let volume = client.mount().await?;
    same(volume.durable(), 0)?;
    client.introduce_again().await?;
    client.check_all().await?;
    client.unmount().await?;
    info!("test files::a second mount ... ok");
    Ok(())
}

impl Client {
    /// Serves the files of an earlier mount, with nothing in memory.
    async fn introduce_again(&self) -> TestResult {
        for (slot, file) in (0..).zip(&self.files) {
            let pages = file.model.borrow().len() as u64;
            file.pager.invalidate(0, pages * PAGE_BYTES)?;
            self.call(Request::Serve { inode: file.inode, slot }, Vec::new(), 0, Enclosed::File(file)).await?;
        }
        Ok(())
    }
}

/// A random number below a limit (xorshift64).
fn random(state: &Cell<u64>, limit: u64) -> u64 {
    let mut value = state.get();
    value ^= value << 13;
    value ^= value >> 7;
    value ^= value << 17;
    state.set(value);
    (value >> 11) % limit.max(1)
}

async fn storm(bench: &Bench, client: &mut Client, seconds: u64) -> TestResult {
    for number in 0..FILES {
        while let Err(Failure(_)) = client.create(bench, &format!("storm{number}-{}", client.sequence.get())).await {
            client.recover().await?;
        }
    }
    let end_ns = client.executor.now_ns() + seconds * 1000 * NS_PER_MS;
    let chance = Cell::new(0x1234_5678_9abc_def1);
    let (mut steps, mut synchronized, mut longest_ns) = (0_u64, 0_u64, 0);
    let mut delays: Vec<u64> = Vec::new();
    while client.executor.now_ns() < end_ns {
        let began_ns = client.executor.now_ns();
        let which = random(&chance, FILES) as usize;
        steps += 1;
        match random(&chance, 16) {
            0..=8 => client.store(which, random(&chance, FILE_PAGES), steps).await?,
            9..=12 => client.check(which, random(&chance, FILE_PAGES)).await?,
            13 => {
                client.synchronize(which).await?;
                synchronized += 1;
            }
            14 => {
                if let Some(file) = client.files.get(which) {
                    let pages = file.model.borrow().len() as u64;
                    file.pager.invalidate(0, pages * PAGE_BYTES)?;
                }
            }
            _ if random(&chance, 20) == 0 => client.set_size(which, random(&chance, FILE_PAGES))?,
            _ => {}
        }
        let took_ns = client.executor.now_ns().saturating_sub(began_ns);
        longest_ns = longest_ns.max(took_ns);
        delays.push(took_ns);
    }
    client.check_all().await?;
    client.unmount().await?;
    info!("{steps} steps, {synchronized} times synchronized, all as it was stored");
    tell("recovery of the file server", &mut client.recoveries.borrow_mut());
    info!("the longest that a step took: {} ms", longest_ns / NS_PER_MS);
    holds(!delays.is_empty(), "something was done")
}

/// Median and 99th percentile.
fn tell(what: &str, times_ns: &mut [u64]) {
    times_ns.sort_unstable();
    let at = |permille: usize| times_ns.get(times_ns.len() * permille / 1000).copied().unwrap_or(0) / 1000;
    info!("{what}: {} times, median {} us, p99 {} us", times_ns.len(), at(500), at(990));
}

async fn measure(bench: &Bench, client: &mut Client) -> TestResult {
    client.create(bench, "bench").await?;
    let idle = Idle::begin(bench)?;
    let pages = FILE_PAGES;
    let begin = Stamp::now(&idle)?;
    for page in 0..pages {
        client.store(0, page, page + 1).await?;
    }
    begin.tell(&idle, "storing in memory", pages)?;
    let begin = Stamp::now(&idle)?;
    client.synchronize(0).await?;
    begin.tell(&idle, "writing back, with allotment", pages)?;
    for page in 0..pages {
        client.store(0, page, page + 2).await?;
    }
    let begin = Stamp::now(&idle)?;
    client.synchronize(0).await?;
    begin.tell(&idle, "writing back over what is there", pages)?;
    let target = Memory::create(bench.account, PAGE_BYTES)?;
    target.write_all(0, &[0])?;
    forget(client)?;
    let begin = Stamp::now(&idle)?;
    for page in 0..pages {
        read(client, &target, page).await?;
    }
    begin.tell(&idle, "reading in order, from the disk", pages)?;
    let begin = Stamp::now(&idle)?;
    for page in 0..pages {
        read(client, &target, page).await?;
    }
    begin.tell(&idle, "reading in order, cached", pages)?;
    forget(client)?;
    let begin = Stamp::now(&idle)?;
    for index in 0..pages {
        read(client, &target, index * 389 % pages).await?;
    }
    begin.tell(&idle, "reading in no order, one at a time, from the disk", pages)?;
    forget(client)?;
    let begin = Stamp::now(&idle)?;
    for group in 0..pages / 32 {
        let wanted: Vec<u64> = (0..32).map(|index| (group * 32 + index) * 389 % pages).collect();
        let Some(file) = client.files.first() else { return Ok(()) };
        let fetches: Result<Vec<_>, Error> = wanted
            .iter()
            .map(|page| client.executor.fetch(&file.memory, page * PAGE_BYTES, PAGE_BYTES, false))
            .collect();
        futures_util::future::join_all(fetches?).await.into_iter().collect::<Result<(), Error>>()?;
    }
    begin.tell(&idle, "reading in no order, 32 at a time, from the disk", pages)?;
    client.unmount().await
}

fn forget(client: &Client) -> TestResult {
    if let Some(file) = client.files.first() {
        file.pager.invalidate(0, FILE_PAGES * PAGE_BYTES)?;
    }
    Ok(())
}

async fn read(client: &Client, target: &Memory, page: u64) -> TestResult {
    let Some(file) = client.files.first() else { return Ok(()) };
    loop {
        match copy(target, 0, &file.memory, page * PAGE_BYTES, PAGE_BYTES) {
            Ok(PAGE_BYTES) => return Ok(()),
            Ok(_) | Err(Error::NotPresent) => {
                client.executor.fetch(&file.memory, page * PAGE_BYTES, PAGE_BYTES, false)?.await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A moment, in instructions, and how many of them nobody needed.
struct Stamp {
    time: u64,
    idle: u64,
}

impl Stamp {
    fn now(idle: &Idle) -> Result<Self, Failure> {
        Ok(Self { idle: idle.instructions()?, time: time_stamp() })
    }

    fn tell(&self, idle: &Idle, what: &str, blocks: u64) -> TestResult {
        let now = Self::now(idle)?;
        let spent = (now.time - self.time).saturating_sub(now.idle - self.idle);
        let what = String::from(what);
        info!("{what}: {} instructions per block of 4 KiB", spent / blocks.max(1));
        Ok(())
    }
}
