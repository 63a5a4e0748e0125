//! The service on its objects: what every disk's driver program runs, whatever its disk is.
//!
//! One task serves everything. Requests are taken in as they come, in the executor's own loop, and only noted; when all that came
//! together have been, the task runs once: it has the service work, which tells the disk of them all. An interrupt has it run, too.

use crate::service::{ChannelId, Client, Direction, Disk, DiskFailed, Frames, Next, Restart, Service};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use driver_protocol::block::{Control, SectorRange};
use driver_protocol::{ANSWERED, Refusal, Words};
use log::{error, info, warn};
use quire_api::abi::dma::DmaFlags;
use quire_api::abi::space::PAGE_SIZE;
use quire_api::dma::DmaMapping;
use quire_api::executor::{Interrupts, Serving, Sleep};
use quire_api::{ChannelEndpoint, DmaSpace, Error, Executor, FOREVER, Memory, Message, Object, Reply, Request};

/// Clients' memories, for the device that a DMA space belongs to.
#[derive(Debug)]
pub struct PinnedFrames(Rc<DmaSpace>);

impl PinnedFrames {
    /// The way from clients' memories to the device of `space`. Needs `WRITE`.
    pub fn new(space: &Rc<DmaSpace>) -> Self {
        Self(Rc::clone(space))
    }
}

impl Frames for PinnedFrames {
    type Memory = Memory;
    type Mapping = DmaMapping;

    fn map(
        &self,
        memory: &Memory,
        first: u64,
        direction: Direction,
        addresses: &mut [u64],
    ) -> Result<DmaMapping, Refusal> {
        let flags = if direction == Direction::Read { DmaFlags::DEVICE_WRITES } else { DmaFlags::empty() };
        let len_bytes = addresses.len() as u64 * PAGE_SIZE;
        self.0.map(memory, first * PAGE_SIZE, len_bytes, flags, addresses).map_err(|error| {
            // There will be memory again; but a memory that is too short, or of the wrong kind, stays so.
            let is_scarce = [Error::NoMemory, Error::AccountLimit, Error::Full].contains(&error);
            if is_scarce { Refusal::Busy } else { Refusal::BadBuffer }
        })
    }

    fn unmap(&self, mapping: DmaMapping) {
        if let Err(error) = self.0.unmap(mapping) {
            warn!("pages stay pinned: {}", error.describe());
        }
    }
}

/// A caller that waits.
struct Caller {
    reply: Option<Reply>,
    executor: Executor,
}

impl Client for Caller {
    fn answer(self, label: u64, words: Words) {
        let Some(reply) = self.reply else { return };
        if let Err(error) = self.executor.answer(reply, Message::new(label, words)) {
            error!("an answer was refused: {}", error.describe());
        }
    }
}

/// A client's channel.
struct Served {
    id: ChannelId,
    /// The kernel's number of its end.
    number: u64,
    _serving: Serving,
}

/// What the handlers of requests and the task share.
struct Driver<D: Disk> {
    executor: Executor,
    service: RefCell<Service<D, PinnedFrames, Caller>>,
    /// The clients' channels, as long as they are served.
    channels: RefCell<Vec<Served>>,
    /// Channels whose clients are gone.
    closed: RefCell<Vec<ChannelId>>,
    /// Whether the task has something to do, and who wakes it.
    has_work: Cell<bool>,
    is_over: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl<D: Disk + 'static> Driver<D> {
    fn has_work(&self) {
        if !self.has_work.replace(true)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// A request of a client.
    fn request(&self, id: ChannelId, mut request: Request) {
        let memory = request.message.take_handle::<Memory>(0);
        let client = Caller { reply: request.reply, executor: self.executor.clone() };
        let asked = (request.message.label, &request.message.words);
        self.service.borrow_mut().request(self.executor.now_ns(), id, asked, memory, client);
        self.has_work();
    }

    /// A request of the supervisor.
    fn control(self: &Rc<Self>, mut request: Request) {
        let answer = match Control::decode(request.message.label, &request.message.words) {
            Some(Control::Describe) => Ok(self.service.borrow().description().encode()),
            Some(Control::Open { range, writable }) => match request.message.take_handle::<ChannelEndpoint>(0) {
                Some(endpoint) => self.open(range, writable, endpoint),
                None => Err(Refusal::Unknown),
            },
            None => Err(Refusal::Unknown),
        };
        let client = Caller { reply: request.reply, executor: self.executor.clone() };
        match answer {
            Ok(words) => client.answer(ANSWERED, words),
            Err(refusal) => client.answer(refusal as u64, Words::default()),
        }
    }

    /// Serves a client's channel from now on. A supervisor that was not answered may tell of the same again.
    fn open(self: &Rc<Self>, range: SectorRange, writable: bool, endpoint: ChannelEndpoint) -> Result<Words, Refusal> {
        let number = endpoint.as_handle().info().map_err(|_| Refusal::Unknown)?.object_number;
        if self.channels.borrow().iter().any(|served| served.number == number) {
            return Ok(Words::default());
        }
        let id = self.service.borrow_mut().open(range, writable)?;
        let served = self.serve(id, endpoint).inspect_err(|_| self.service.borrow_mut().close(id))?;
        self.channels.borrow_mut().push(Served { id, number, _serving: served });
        Ok(Words::default())
    }

    fn serve(self: &Rc<Self>, id: ChannelId, endpoint: ChannelEndpoint) -> Result<Serving, Refusal> {
        let driver = Rc::downgrade(self);
        let served = self.executor.serve(endpoint, move |request| {
            let Some(driver) = driver.upgrade() else { return };
            match request {
                Some(request) => driver.request(id, request),
                None => {
                    // The channel can't be closed here, where its message is being handled.
                    driver.closed.borrow_mut().push(id);
                    driver.has_work();
                }
            }
        });
        served.map_err(|error| {
            error!("a channel can't be served: {}", error.describe());
            Refusal::Unknown
        })
    }

    fn close_channels(&self) {
        for id in self.closed.take() {
            self.service.borrow_mut().close(id);
            self.channels.borrow_mut().retain(|served| served.id != id);
        }
    }

    fn poll_work(&self, context: &Context<'_>) -> bool {
        if self.has_work.take() {
            return true;
        }
        self.waker.set(Some(context.waker().clone()));
        false
    }
}

/// Brings a disk up, or up again.
pub async fn bring_up(executor: &Executor, disk: &mut impl Disk) -> Result<(), DiskFailed> {
    let mut progress = disk.restart()?;
    while let Restart::AgainIn(ns) = progress {
        executor.sleep_ns(ns).await;
        progress = disk.restart_step()?;
    }
    Ok(())
}

/// Notes in the log what a disk is that was started, and of what version its driver is.
pub fn say(version: &str, disk: &impl Disk) {
    let (sectors, limits) = (disk.description().sectors, disk.limits());
    info!("{version}: {sectors} sectors, {} requests of {} segments at once", limits.in_flight, limits.segments);
}

/// Serves a disk that was started, until the other end of the control channel is closed.
pub async fn serve<D: Disk + 'static>(
    executor: &Executor,
    control: ChannelEndpoint,
    disk: D,
    frames: PinnedFrames,
    mut interrupts: Vec<Interrupts>,
) -> Result<(), Error> {
    let driver = Rc::new(Driver {
        executor: executor.clone(),
        service: RefCell::new(Service::new(disk, frames)),
        channels: RefCell::default(),
        closed: RefCell::default(),
        has_work: Cell::new(true),
        is_over: Cell::new(false),
        waker: Cell::default(),
    });
    let supervised = Rc::downgrade(&driver);
    let _control = executor.serve(control, move |request| {
        let Some(driver) = supervised.upgrade() else { return };
        match request {
            Some(request) => driver.control(request),
            None => {
                driver.is_over.set(true);
                driver.has_work();
            }
        }
    })?;
    let mut alarm = pin!(executor.sleep_until(FOREVER));
    while !driver.is_over.get() {
        let next = driver.service.borrow_mut().work(executor.now_ns());
        driver.close_channels();
        let wake_ns = match next {
            Next::AtEvent => FOREVER,
            Next::Before(time_ns) => time_ns,
        };
        // Setting an alarm costs something, and one that comes too early hardly anything.
        if wake_ns < alarm.deadline_ns() {
            alarm.set(executor.sleep_until(wake_ns));
        }
        poll_fn(|context| poll_event(&driver, &mut interrupts, alarm.as_mut(), context)).await?;
    }
    Ok(())
}

/// Waits for a request, an interrupt or the alarm, which is off afterwards.
fn poll_event<D: Disk + 'static>(
    driver: &Driver<D>,
    interrupts: &mut [Interrupts],
    mut alarm: Pin<&mut Sleep>,
    context: &mut Context<'_>,
) -> Poll<Result<(), Error>> {
    let mut has_event = driver.poll_work(context);
    for interrupt in interrupts {
        while pin!(interrupt.wait()).poll(context).is_ready() {
            // The kernel is told at the next wait, when the disk has been looked at; a message that comes until then is kept.
            interrupt.acknowledge()?;
            has_event = true;
        }
    }
    if alarm.as_mut().poll(context).is_ready() {
        alarm.set(driver.executor.sleep_until(FOREVER));
        has_event = true;
    }
    if has_event { Poll::Ready(Ok(())) } else { Poll::Pending }
}
