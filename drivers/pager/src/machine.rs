//! The store on its objects.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use driver_protocol::pages::{MAX_FILE_BYTES, Request as Wish, Setting};
use driver_protocol::{ANSWERED, Refusal, purpose};
use futures_util::future::{Either, select};
use log::{error, info};
use pager::service::{Attendance, Failed, File, Job, Kind, Next, Service, Settings};
use quire_api::abi::pager::{MAX_SUPPLY, PagerRequest, PagerRequestKind};
use quire_api::executor::{Messages, PagerRequests};
use quire_api::pager::Pager;
use quire_api::rt::{self, Startup};
use quire_api::{
    ChannelEndpoint, Error, Executor, FOREVER, Memory, Message, Object, Reply, Request, Rights, copy, thread,
};

/// What all files share.
struct Store {
    executor: Executor,
    /// The files' bytes: each file has a range of [`MAX_FILE_BYTES`], of which only what was stored takes memory.
    disk: Memory,
    /// Where bytes are read to, to be supplied: as a device would put them.
    staging: Memory,
    inbox: Inbox,
}

/// What was asked of pagers and is not yet the service's.
#[derive(Default)]
struct Inbox {
    jobs: RefCell<VecDeque<Job>>,
    waker: Cell<Option<Waker>>,
}

impl Inbox {
    fn push(&self, job: Job) {
        self.jobs.borrow_mut().push_back(job);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll_any(&self, context: &Context<'_>) -> Poll<()> {
        if self.jobs.borrow().is_empty() {
            self.waker.set(Some(context.waker().clone()));
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }
}

/// The requests of one pager, as long as they are taken.
#[derive(Default)]
struct Line {
    requests: RefCell<Option<PagerRequests>>,
    waker: Cell<Option<Waker>>,
}

impl Line {
    /// The next request; an error when they are not taken any more.
    fn poll(&self, context: &mut Context<'_>) -> Poll<Result<PagerRequest, Error>> {
        self.waker.set(Some(context.waker().clone()));
        match self.requests.borrow_mut().as_mut() {
            Some(requests) => requests.poll_next(context),
            None => Poll::Ready(Err(Error::PeerClosed)),
        }
    }

    /// Takes them no longer.
    fn end(&self) {
        let requests = self.requests.take();
        drop(requests);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A file on its objects.
struct StoredFile {
    store: Rc<Store>,
    number: u64,
    pager: Pager,
    memory: Memory,
    line: Option<Rc<Line>>,
}

impl StoredFile {
    fn begin(&self) -> Result<Rc<Line>, Error> {
        let requests = self.store.executor.pager_requests(self.pager.duplicate(Rights::all())?)?;
        let line = Rc::new(Line { requests: RefCell::new(Some(requests)), waker: Cell::default() });
        let (listener, store, number) = (line.clone(), self.store.clone(), self.number);
        self.store.executor.spawn(async move {
            // Ends with the line, or with the memory.
            while let Ok(request) = core::future::poll_fn(|context| listener.poll(context)).await {
                if let Some(job) = job_of(number, &request) {
                    store.inbox.push(job);
                }
            }
        });
        Ok(line)
    }

    /// Reads a piece of the disk into the staging memory.
    fn stage(&self, offset: u64, len_bytes: u64) -> Result<(), Failed> {
        copy_all(&self.store.staging, 0, &self.store.disk, self.place(offset)?, len_bytes)
    }

    /// Where an offset of the file is on the disk.
    fn place(&self, offset: u64) -> Result<u64, Failed> {
        if offset < MAX_FILE_BYTES { Ok(place_of(self.number) + offset) } else { Err(Failed) }
    }
}

impl File for StoredFile {
    fn attend(&mut self, attendance: Attendance) {
        match (attendance, &self.line) {
            (Attendance::Present, Some(_)) | (Attendance::Absent, None) => {}
            (Attendance::Present, None) => match self.begin() {
                Ok(line) => self.line = Some(line),
                Err(error) => error!("file {}: can't be served: {}", self.number, error.describe()),
            },
            (Attendance::Absent, Some(line)) => {
                line.end();
                self.line = None;
            }
        }
    }

    fn fill(&self, offset: u64, len_bytes: u64) -> Result<(), Failed> {
        in_pieces(offset, len_bytes, |at, count| {
            self.stage(at, count)?;
            self.pager.supply(at, count, &self.store.staging, 0).map_err(|_| Failed)
        })
    }

    fn read(&self, offset: u64, len_bytes: u64) -> Result<(), Failed> {
        in_pieces(offset, len_bytes, |at, count| self.stage(at, count))
    }

    fn store(&self, offset: u64, len_bytes: u64) -> Result<(), Failed> {
        copy_all(&self.store.disk, self.place(offset)?, &self.memory, offset, len_bytes)
    }

    fn written(&self, offset: u64, len_bytes: u64) {
        // If nobody has the memory any more, nobody waits either.
        let _ = self.pager.written(offset, len_bytes);
    }

    fn fail(&self, offset: u64, len_bytes: u64) {
        let _ = self.pager.fail(offset, len_bytes);
    }
}

impl Drop for StoredFile {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            line.end();
        }
    }
}

/// Where a file begins on the disk.
fn place_of(number: u64) -> u64 {
    number * MAX_FILE_BYTES
}

/// Calls `step(offset, bytes)` for pieces that can be supplied at once.
fn in_pieces(offset: u64, len_bytes: u64, mut step: impl FnMut(u64, u64) -> Result<(), Failed>) -> Result<(), Failed> {
    let mut done = 0;
    while done < len_bytes {
        let count = (len_bytes - done).min(MAX_SUPPLY);
        step(offset + done, count)?;
        done += count;
    }
    Ok(())
}

/// Copies, as far as the source reaches: what was cut off meanwhile is nobody's loss.
fn copy_all(to: &Memory, to_offset: u64, from: &Memory, from_offset: u64, len_bytes: u64) -> Result<(), Failed> {
    let mut done = 0;
    while done < len_bytes {
        match copy(to, to_offset + done, from, from_offset + done, len_bytes - done) {
            Ok(0) => return Ok(()),
            Ok(count) => done += count,
            // Beyond the end of what was cut off.
            Err(Error::OutOfRange) => return Ok(()),
            Err(_) => return Err(Failed),
        }
    }
    Ok(())
}

fn job_of(number: u64, request: &PagerRequest) -> Option<Job> {
    let kind = match PagerRequestKind::from_number(request.kind)? {
        PagerRequestKind::Fill => Kind::Fill { ahead_bytes: request.read_ahead },
        PagerRequestKind::Writeback => Kind::Writeback,
    };
    Some(Job { number, kind, offset: request.offset, len_bytes: request.length })
}

/// The settings, in the client's memory.
struct SharedSettings(Memory);

impl Settings for SharedSettings {
    fn get(&self, setting: Setting) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact(setting.offset_bytes(), &mut bytes).map_or(0, |()| u64::from_le_bytes(bytes))
    }

    fn set(&self, setting: Setting, value: u64) {
        // A client that takes its settings away has none.
        let _ = self.0.write_all(setting.offset_bytes(), &value.to_le_bytes());
    }
}

type PageService = Service<StoredFile, SharedSettings>;

/// Serves until the last client is gone, or until it is told to die.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let account = rt::account()?;
    let executor = Executor::new(account)?;
    let store = Rc::new(Store {
        executor: executor.clone(),
        disk: startup.take(purpose::DISK)?,
        staging: Memory::create(account, MAX_SUPPLY)?,
        inbox: Inbox::default(),
    });
    let messages = executor.bind(startup.take::<ChannelEndpoint>(purpose::SERVE)?)?;
    executor.block_on(serve(store, messages))
}

async fn serve(store: Rc<Store>, mut messages: Messages) {
    let mut service = PageService::new(store.executor.now_ns());
    // Answered by our end.
    let mut attached: Option<Reply> = None;
    loop {
        for job in store.inbox.jobs.take() {
            service.request(store.executor.now_ns(), job);
        }
        let wake_ns = match service.work(store.executor.now_ns()) {
            Next::AtEvent => FOREVER,
            Next::At(time_ns) => time_ns,
            Next::Dead => {
                info!("dies, as it was told to");
                thread::exit();
            }
        };
        match next_event(&store, &mut messages, wake_ns).await {
            Event::Request(request) => attend_to(&store, &mut service, &mut attached, request),
            Event::LastClientGone => return,
            Event::Work => {}
        }
    }
}

/// Why the program runs again.
enum Event {
    Request(Request),
    LastClientGone,
    /// A pager was asked for something, or a job is due.
    Work,
}

async fn next_event(store: &Store, messages: &mut Messages, wake_ns: u64) -> Event {
    let asked = core::future::poll_fn(|context| store.inbox.poll_any(context));
    let work = select(asked, store.executor.sleep_until(wake_ns));
    match select(pin!(messages.receive()), work).await {
        Either::Left((Some(request), _)) => Event::Request(request),
        Either::Left((None, _)) => Event::LastClientGone,
        Either::Right(_) => Event::Work,
    }
}

/// Does what a client asks for.
fn attend_to(store: &Rc<Store>, service: &mut PageService, attached: &mut Option<Reply>, mut request: Request) {
    let message = &mut request.message;
    let result = match Wish::decode(message.label, &message.words) {
        Some(Wish::Attach) => match message.take_handle::<Memory>(0) {
            Some(settings) => {
                service.attach(SharedSettings(settings));
                *attached = request.reply;
                return;
            }
            None => Err(Refusal::Unknown),
        },
        Some(Wish::Serve { number }) => match (message.take_handle::<Pager>(0), message.take_handle::<Memory>(1)) {
            (Some(pager), Some(memory)) => {
                service.serve(number, StoredFile { store: store.clone(), number, pager, memory, line: None });
                Ok(())
            }
            (Some(_) | None, _) => Err(Refusal::Unknown),
        },
        Some(Wish::Truncate { number, len_bytes }) => cut(store, number, len_bytes),
        Some(Wish::Remove { number }) => {
            service.forget(number);
            cut(store, number, 0)
        }
        Some(Wish::Look) => {
            service.look();
            Ok(())
        }
        None => Err(Refusal::Unknown),
    };
    if let Some(reply) = request.reply {
        let label = result.map_or_else(|refusal| refusal as u64, |()| ANSWERED);
        // Whoever asked may be gone.
        let _ = store.executor.answer(reply, Message::new(label, [0; 8]));
    }
}

/// Forgets what a file has from `len_bytes` on.
fn cut(store: &Store, number: u64, len_bytes: u64) -> Result<(), Refusal> {
    let (from, end) = (place_of(number) + len_bytes, place_of(number + 1));
    store.disk.discard(from, end - from).map_err(|_| Refusal::DeviceFailed)
}
