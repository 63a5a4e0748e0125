//! The pager on its objects.

use alloc::rc::Rc;
use block::client::{BlockError, Buffer};
use block::machine::{Connection, Disk as BlockDisk};
use core::task::{Context, Poll};
use driver_protocol::block::{PAGE_BYTES, SECTOR_BYTES, WriteFlags};
use driver_protocol::purpose;
use log::{error, info, warn};
use quire_api::abi::pager::PagerRequestKind;
use quire_api::executor::PagerRequests;
use quire_api::pager::Pager;
use quire_api::rt::{self, Startup};
use quire_api::{ChannelEndpoint, Error, Executor, Memory, Object, Rights, copy};
use swap::service::{Disk, Failed, Kind, Pages, Request, Requests, Run, STAGING_PAGES, SupplyError, serve};

const PAGE_SECTORS: u64 = PAGE_BYTES / SECTOR_BYTES;

/// Serves as long as there is the swap memory.
pub(crate) fn main(startup: &'static Startup) -> Result<(), Error> {
    let account = rt::account()?;
    let executor = Executor::new(account)?;
    let staging = Memory::create(account, STAGING_PAGES * PAGE_BYTES)?;
    // What is needed to make memory free is there from the start.
    for page in 0..STAGING_PAGES {
        staging.write_all(page * PAGE_BYTES, &[0])?;
    }
    let pager: Pager = startup.take(purpose::PAGER)?;
    let pages = SwapPages {
        executor: executor.clone(),
        pager: pager.duplicate(Rights::all())?,
        memory: startup.take(purpose::PAGED)?,
        staging: Rc::new(staging),
    };
    let channel = startup.take::<ChannelEndpoint>(purpose::BLOCK)?;
    let requests = executor.pager_requests(pager)?;
    executor.block_on(run(executor.clone(), channel, SwapRequests(requests), pages))
}

async fn run(executor: Executor, channel: ChannelEndpoint, requests: SwapRequests, pages: SwapPages) {
    match Partition::open(&executor, channel, &pages.staging).await {
        Ok(partition) => serve(requests, &partition, &pages).await,
        Err(error) => error!("the swap partition: {error}"),
    }
}

/// The partition. Its first page is left alone: what says that it is for swapping lies there.
struct Partition {
    disk: BlockDisk,
    buffer: Buffer,
}

impl Partition {
    async fn open(executor: &Executor, channel: ChannelEndpoint, staging: &Memory) -> Result<Self, BlockError> {
        let disk = BlockDisk::connect(Connection::new(executor, channel)).await?;
        let shown = staging.duplicate(Rights::all()).map_err(|_| BlockError::BadBuffer)?;
        let buffer = disk.attach(shown, STAGING_PAGES * PAGE_BYTES).await?;
        info!("serves the swap memory from {} MiB of a disk", (disk.description().sectors * SECTOR_BYTES) >> 20);
        Ok(Self { disk, buffer })
    }

    fn sector(page: u64) -> u64 {
        (page + 1) * PAGE_SECTORS
    }
}

impl Disk for Partition {
    async fn read(&self, page: u64, run: Run) -> Result<(), Failed> {
        let (first, count) = (Self::sector(page), run.count * PAGE_SECTORS);
        let done = self.disk.read(first, count, self.buffer, run.first * PAGE_BYTES).await;
        done.map_err(|error| tell("read", page, run, error))
    }

    async fn write(&self, page: u64, run: Run) -> Result<(), Failed> {
        let (first, count) = (Self::sector(page), run.count * PAGE_SECTORS);
        // Nothing of it is needed after the machine's end.
        let done = self.disk.write(first, count, self.buffer, run.first * PAGE_BYTES, WriteFlags::empty()).await;
        done.map_err(|error| tell("written", page, run, error))
    }
}

fn tell(what: &str, page: u64, run: Run, error: BlockError) -> Failed {
    warn!("{} pages from {page} on can't be {what}: {error}", run.count);
    Failed
}

/// The swap memory.
struct SwapPages {
    executor: Executor,
    pager: Pager,
    memory: Memory,
    staging: Rc<Memory>,
}

impl Pages for SwapPages {
    fn stage(&self, page: u64, run: Run) -> Result<(), Failed> {
        let (from, to, len_bytes) = (page * PAGE_BYTES, run.first * PAGE_BYTES, run.count * PAGE_BYTES);
        let mut done = 0;
        while done < len_bytes {
            match copy(&*self.staging, to + done, &self.memory, from + done, len_bytes - done) {
                Ok(count @ 1..) => done += count,
                Ok(0) | Err(_) => return Err(Failed),
            }
        }
        Ok(())
    }

    fn supply(&self, page: u64, run: Run) -> Result<(), SupplyError> {
        let supplied =
            self.pager.supply(page * PAGE_BYTES, run.count * PAGE_BYTES, &self.staging, run.first * PAGE_BYTES);
        let is_short = |error| [Error::NoMemory, Error::AccountLimit].contains(&error);
        supplied.map_err(|error| if is_short(error) { SupplyError::NoMemory } else { SupplyError::Failed })
    }

    fn written(&self, page: u64, count: u64) {
        // If nobody has the memory any more, nobody waits either.
        let _ = self.pager.written(page * PAGE_BYTES, count * PAGE_BYTES);
    }

    fn fail(&self, page: u64, count: u64) {
        let _ = self.pager.fail(page * PAGE_BYTES, count * PAGE_BYTES);
    }

    async fn pause(&self, duration_ns: u64) {
        self.executor.sleep_ns(duration_ns).await;
    }
}

/// What the kernel asks for.
struct SwapRequests(PagerRequests);

impl Requests for SwapRequests {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Request, Failed>> {
        loop {
            match self.0.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failed)),
                Poll::Ready(Ok(request)) => {
                    let kind = match PagerRequestKind::from_number(request.kind) {
                        Some(PagerRequestKind::Fill) => Kind::Fill,
                        Some(PagerRequestKind::Writeback) => Kind::Writeback,
                        None => continue,
                    };
                    let (page, count) = (request.offset / PAGE_BYTES, request.length / PAGE_BYTES);
                    return Poll::Ready(Ok(Request { kind, page, count }));
                }
            }
        }
    }
}
