//! The server on its objects.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use block::client::Buffer;
use block::machine::{Connection, Disk};
use core::cell::{Cell, RefCell};
use core::future::Future;
use core::task::{Context, Poll, Waker};
use driver_protocol::block::WriteFlags;
use driver_protocol::files::{Refused, Request as Wish};
use driver_protocol::{Words, purpose, supervisor};
use files::paging::Sizes;
use files::platform::{Failed, Listener, Notes, PAGE_BYTES, Pages, Platform, SECTOR_BYTES, Transfer};
use files::service::{Call, Enclosed, Layout, Service};
use log::error;
use quire_api::abi::pager::{PagerRequest, PagerRequestKind};
use quire_api::abi::startup::Purpose;
use quire_api::executor::{Messages, PagerRequests};
use quire_api::pager::Pager;
use quire_api::rt::{self, Startup};
use quire_api::shared::SharedMapping;
use quire_api::{ChannelEndpoint, Error, Executor, Memory, Message, Object, Reply, Request, Rights, copy, system};

/// How the staging memory is divided: 1 MiB for metadata, 4 MiB to read contents, 2 MiB to write them.
const LAYOUT: Layout = Layout { metadata_pages: 256, contents: Sizes { read_pages: 1024, write_pages: 512 } };
/// Entries of the rings: many requests of the disk go out at once.
const SUBMISSIONS: u32 = 512;
const COMPLETIONS: u32 = 1024;

/// What the server stands on.
struct Machine {
    executor: Executor,
    disk: Disk,
    staging: Rc<Staging>,
    boot_unix_ns: u64,
}

/// The staging memory.
struct Staging {
    memory: Memory,
    /// Its first pages, those for metadata, as the server sees them.
    metadata: SharedMapping,
    buffer: Buffer,
}

impl Staging {
    async fn new(disk: &Disk) -> Result<Self, Error> {
        let len_bytes = LAYOUT.pages() * PAGE_BYTES;
        let memory = Memory::create(rt::account()?, len_bytes)?;
        // What is written has its frames from the start.
        let writes = (LAYOUT.metadata_pages + LAYOUT.contents.read_pages) * PAGE_BYTES;
        for range in [0..LAYOUT.metadata_pages * PAGE_BYTES, writes..len_bytes] {
            range.step_by(PAGE_BYTES as usize).try_for_each(|page| memory.write_all(page, &[0; 8]))?;
        }
        let metadata = SharedMapping::new(&memory, (LAYOUT.metadata_pages * PAGE_BYTES) as usize)?;
        let shown = memory.duplicate(Rights::all())?;
        let buffer = disk.attach(shown, len_bytes).await.map_err(|_| Error::BadState)?;
        Ok(Self { memory, metadata, buffer })
    }
}

impl Platform for Machine {
    type Pages = FilePages;
    type Notes = SharedNotes;

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.executor.spawn(task);
    }

    fn now_ns(&self) -> u64 {
        self.executor.now_ns()
    }

    fn unix_ns(&self) -> i64 {
        i64::try_from(self.boot_unix_ns.saturating_add(self.executor.now_ns())).unwrap_or(i64::MAX)
    }

    async fn sleep_until(&self, deadline_ns: u64) {
        self.executor.sleep_until(deadline_ns).await;
    }

    fn sectors(&self) -> u64 {
        self.disk.description().sectors
    }

    async fn read(&self, transfer: Transfer) -> Result<(), Failed> {
        let Transfer { sector, len_bytes, staging } = transfer;
        let read = self.disk.read(sector, len_bytes / SECTOR_BYTES, self.staging.buffer, staging).await;
        read.map_err(|error| failed("read", sector, error))
    }

    async fn write(&self, transfer: Transfer) -> Result<(), Failed> {
        let Transfer { sector, len_bytes, staging } = transfer;
        let (count, flags) = (len_bytes / SECTOR_BYTES, WriteFlags::empty());
        let written = self.disk.write(sector, count, self.staging.buffer, staging, flags).await;
        written.map_err(|error| failed("written", sector, error))
    }

    async fn flush(&self) -> Result<(), Failed> {
        self.disk.flush().await.map_err(|error| failed("flushed", 0, error))
    }

    fn load(&self, staging: u64, bytes: &mut [u8]) -> Result<(), Failed> {
        match self.staging.metadata.read(staging as usize, bytes) {
            Ok(()) => Ok(()),
            Err(_) => self.staging.memory.read_exact(staging, bytes).map_err(|_| Failed),
        }
    }

    fn store(&self, staging: u64, bytes: &[u8]) -> Result<(), Failed> {
        match self.staging.metadata.write(staging as usize, bytes) {
            Ok(()) => Ok(()),
            Err(_) => self.staging.memory.write_all(staging, bytes).map_err(|_| Failed),
        }
    }
}

fn failed(what: &str, sector: u64, error: block::client::BlockError) -> Failed {
    error!("sectors from {sector} on can't be {what}: {error}");
    Failed
}

/// The notes, as the server sees them.
#[derive(Clone)]
struct SharedNotes {
    mapping: Rc<SharedMapping>,
    len_bytes: u64,
}

impl SharedNotes {
    fn new(memory: &Memory) -> Result<Self, Error> {
        let len_bytes = memory.info()?.size / PAGE_BYTES * PAGE_BYTES;
        let mapping = Rc::new(SharedMapping::new(memory, len_bytes as usize)?);
        Ok(Self { mapping, len_bytes })
    }
}

impl Notes for SharedNotes {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) {
        // The service looked at the length.
        if self.mapping.read(offset as usize, bytes).is_err() {
            bytes.fill(0);
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let _ = self.mapping.write(offset as usize, bytes);
    }
}

/// The pager of a file, and its memory.
struct FilePages {
    executor: Executor,
    staging: Rc<Staging>,
    pager: Pager,
    memory: Memory,
    line: Rc<Line>,
}

/// The requests of one pager, as long as they are taken.
#[derive(Default)]
struct Line {
    requests: RefCell<Option<PagerRequests>>,
    waker: Cell<Option<Waker>>,
}

impl Line {
    /// The next request; an error when they are not taken any more.
    fn poll(&self, context: &Context<'_>) -> Poll<Result<PagerRequest, Error>> {
        self.waker.set(Some(context.waker().clone()));
        match self.requests.borrow_mut().as_mut() {
            Some(requests) => requests.poll_next(context),
            None => Poll::Ready(Err(Error::PeerClosed)),
        }
    }
}

impl Pages for FilePages {
    fn listen(&self, listener: Rc<dyn Listener>) -> Result<(), Failed> {
        let pager = self.pager.duplicate(Rights::all()).map_err(|_| Failed)?;
        let requests = self.executor.pager_requests(pager).map_err(|_| Failed)?;
        self.line.requests.replace(Some(requests));
        let line = self.line.clone();
        self.executor.spawn(async move {
            loop {
                listener.room().await;
                // Ends with the line, or with the memory.
                let Ok(request) = core::future::poll_fn(|context| line.poll(context)).await else { return };
                let PagerRequest { offset, length, read_ahead, .. } = request;
                match PagerRequestKind::from_number(request.kind) {
                    Some(PagerRequestKind::Fill) => listener.fill(offset, length, read_ahead),
                    Some(PagerRequestKind::Writeback) => listener.write_back(offset, length),
                    None => {}
                }
            }
        });
        Ok(())
    }

    fn end(&self) {
        let requests = self.line.requests.take();
        drop(requests);
        if let Some(waker) = self.line.waker.take() {
            waker.wake();
        }
    }

    fn supply(&self, offset: u64, len_bytes: u64, staging: u64) -> Result<(), Failed> {
        self.pager.supply(offset, len_bytes, &self.staging.memory, staging).map_err(|_| Failed)
    }

    fn supply_zeros(&self, offset: u64, len_bytes: u64) -> Result<(), Failed> {
        self.pager.supply_zeros(offset, len_bytes).map_err(|_| Failed)
    }

    fn copy(&self, offset: u64, len_bytes: u64, staging: u64) -> Result<u64, Failed> {
        let mut done = 0;
        while done < len_bytes {
            match copy(&self.staging.memory, staging + done, &self.memory, offset + done, len_bytes - done) {
                // Beyond the end of what was cut off.
                Ok(0) | Err(Error::OutOfRange) => break,
                Ok(count) => done += count,
                Err(_) => return Err(Failed),
            }
        }
        Ok(done)
    }

    fn written(&self, offset: u64, len_bytes: u64) {
        // If nobody has the memory any more, nobody waits either.
        let _ = self.pager.written(offset, len_bytes);
    }

    fn fail(&self, offset: u64, len_bytes: u64) {
        let _ = self.pager.fail(offset, len_bytes);
    }
}

/// A call of the client's.
struct ClientCall {
    executor: Executor,
    reply: Reply,
    send_len: u64,
    receive_len: u64,
}

impl Call for ClientCall {
    fn read(&self, most: usize) -> Result<Vec<u8>, Refused> {
        let len = usize::try_from(self.send_len).map_err(|_| Refused::BadBuffer)?;
        if len > most {
            return Err(Refused::BadBuffer);
        }
        let mut bytes = vec![0; len];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.reply.read_buffer(done as u64, rest) {
                Ok(0) | Err(_) => return Err(Refused::BadBuffer),
                Ok(count) => done += count,
            }
        }
        Ok(bytes)
    }

    fn room(&self) -> usize {
        usize::try_from(self.receive_len).unwrap_or(usize::MAX)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Refused> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.reply.write_buffer(done as u64, rest) {
                Ok(0) | Err(_) => return Err(Refused::BadBuffer),
                Ok(count) => done += count,
            }
        }
        Ok(())
    }

    fn answer(self, label: u64, words: Words) {
        // Whoever asked may be gone.
        let _ = self.executor.answer(self.reply, Message::new(label, words));
    }
}

/// Serves until the client is gone.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let executor = Executor::with_sizes(rt::account()?, SUBMISSIONS, COMPLETIONS)?;
    let channel = startup.take::<ChannelEndpoint>(purpose::BLOCK)?;
    let messages = executor.bind(startup.take::<ChannelEndpoint>(purpose::SERVE)?)?;
    executor.block_on(serve(executor.clone(), channel, messages))??;
    // The client is gone: it takes no successor to serve nobody.
    let (label, words) = supervisor::Request::Finished.encode();
    startup.take::<ChannelEndpoint>(Purpose::SUPERVISOR)?.call_words(label, words).map(|_| ())
}

async fn serve(executor: Executor, channel: ChannelEndpoint, mut messages: Messages) -> Result<(), Error> {
    let disk = Disk::connect(Connection::new(&executor, channel)).await.map_err(|error| {
        error!("{error}");
        Error::PeerClosed
    })?;
    let staging = Rc::new(Staging::new(&disk).await?);
    let boot_unix_ns = system::system_info()?.boot_unix_ns;
    let machine = Rc::new(Machine { executor: executor.clone(), disk, staging: staging.clone(), boot_unix_ns });
    let service = Service::new(machine, LAYOUT);
    while let Some(request) = messages.receive().await {
        begin(&executor, &staging, &service, request);
    }
    Ok(())
}

fn begin(executor: &Executor, staging: &Rc<Staging>, service: &Rc<Service<Machine>>, mut request: Request) {
    let Some(reply) = request.reply else { return };
    let (send_len, receive_len) = (request.send_len, request.receive_len);
    let call = ClientCall { executor: executor.clone(), reply, send_len, receive_len };
    let message = &mut request.message;
    let Some(wish) = Wish::decode(message.label, &message.words) else {
        return call.answer(Refused::Unknown as u64, [0; 8]);
    };
    let enclosed = match wish {
        Wish::Mount { .. } => enclosed_notes(message),
        Wish::Serve { .. } => enclosed_pages(executor, staging, message),
        Wish::Watch
        | Wish::Status
        | Wish::Load { .. }
        | Wish::List { .. }
        | Wish::Xattrs { .. }
        | Wish::Runs { .. }
        | Wish::Reserve { .. }
        | Wish::Apply { .. }
        | Wish::Commit { .. }
        | Wish::Release { .. }
        | Wish::Remount { .. }
        | Wish::Unmount => Enclosed::Nothing,
    };
    service.begin(wish, enclosed, call);
}

fn enclosed_notes(message: &mut Message) -> Enclosed<Machine> {
    let notes = message.take_handle::<Memory>(0).and_then(|memory| SharedNotes::new(&memory).ok());
    notes.map_or(Enclosed::Nothing, Enclosed::Notes)
}

fn enclosed_pages(executor: &Executor, staging: &Rc<Staging>, message: &mut Message) -> Enclosed<Machine> {
    match (message.take_handle::<Pager>(0), message.take_handle::<Memory>(1)) {
        (Some(pager), Some(memory)) => {
            let (executor, staging, line) = (executor.clone(), staging.clone(), Rc::default());
            Enclosed::Pages(FilePages { executor, staging, pager, memory, line })
        }
        (Some(_) | None, _) => Enclosed::Nothing,
    }
}
