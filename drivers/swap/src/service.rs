//! Fills and writebacks of the swap memory.
//!
//! 1. A request of the kernel's is a run of pages, which have places on the disk in the same order. It is cut into *jobs* by the room
//!    that there is in the staging memory: a job has a run of its pages to itself.
//! 2. A fill reads from the disk to there, and supplies: the frames move. A writeback copies there what the swap memory has, writes it,
//!    and says so. Many jobs are under way at once.
//! 3. What the disk can't do is tried again page by page, so that only those are failed which are lost: whoever waits for one of them
//!    ends, nobody else. A page that can't be written stays dirty; the kernel asks again, but not before a pause is over.
//!
//! **Nothing here waits for memory that is not there.** To write back is what makes memory free, so it must not need any: the staging
//! memory is made at the start, and is not given away by writebacks. Fills give frames away and get others for them, from those that the
//! kernel keeps for pagers. A part of the staging memory is only for fills: who waits for a page does not wait for all that is being
//! written.

use alloc::collections::VecDeque;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll};
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use staging::{Part, Staging};

mod staging;

pub use staging::{Run, STAGING_PAGES};

/// How many requests are taken and not begun, at most.
const MAX_WAITING: usize = 64;
/// How long a writeback that failed waits before the kernel may ask for it again, in ns.
const FAILURE_PAUSE_NS: u64 = 500_000_000;
/// How long it takes until a supply is tried again that found no memory, in ns; and how often.
const SUPPLY_PAUSE_NS: u64 = 2_000_000;
const SUPPLY_ATTEMPTS: u32 = 1000;

/// Something can't be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// Why pages were not supplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupplyError {
    /// There is no memory just now.
    NoMemory,
    /// They can't be.
    Failed,
}

/// Where pages are kept. Page `n` of the swap memory is page `n` here.
pub trait Disk {
    /// Reads pages to the staging memory.
    fn read(&self, page: u64, run: Run) -> impl Future<Output = Result<(), Failed>>;

    /// Writes pages from the staging memory.
    fn write(&self, page: u64, run: Run) -> impl Future<Output = Result<(), Failed>>;
}

/// The swap memory, and the staging memory.
pub trait Pages {
    /// Copies pages of the swap memory to the staging memory.
    fn stage(&self, page: u64, run: Run) -> Result<(), Failed>;

    /// Supplies one page from the staging memory.
    fn supply(&self, page: u64, run: Run) -> Result<(), SupplyError>;

    /// Says that pages have been written back.
    fn written(&self, page: u64, count: u64);

    /// Says that what was asked for can't be done.
    fn fail(&self, page: u64, count: u64);

    /// Waits.
    fn pause(&self, duration_ns: u64) -> impl Future<Output = ()>;
}

/// Where requests come from.
pub trait Requests {
    /// The next one; an error when there will be none any more.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Request, Failed>>;
}

/// What is to be done with pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To supply them.
    Fill,
    /// To write them back.
    Writeback,
}

/// What the kernel asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What.
    pub kind: Kind,
    /// The first page.
    pub page: u64,
    /// How many.
    pub count: u64,
}

/// A request, or a part of one, that has its place in the staging memory.
#[derive(Clone, Copy, Debug)]
struct Job {
    kind: Kind,
    page: u64,
    run: Run,
}

impl Job {
    /// Its pages, each with its place.
    fn pages(self) -> impl Iterator<Item = (u64, Run)> {
        (self.page..)
            .zip((self.run.first..).take(self.run.count as usize))
            .map(|(page, first)| (page, Run { first, count: 1 }))
    }
}

/// The requests that wait for a place.
#[derive(Debug, Default)]
struct Waiting {
    fills: VecDeque<Request>,
    writebacks: VecDeque<Request>,
}

impl Waiting {
    fn new() -> Self {
        Self { fills: VecDeque::with_capacity(MAX_WAITING), writebacks: VecDeque::with_capacity(MAX_WAITING) }
    }

    fn push(&mut self, request: Request) {
        match request.kind {
            Kind::Fill => self.fills.push_back(request),
            Kind::Writeback => self.writebacks.push_back(request),
        }
    }

    fn is_full(&self) -> bool {
        self.fills.len() + self.writebacks.len() >= MAX_WAITING
    }

    /// The next part of a request for which there is room: fills first.
    fn next_job(&mut self, staging: &mut Staging) -> Option<Job> {
        Self::next_of(&mut self.fills, staging, Part::Fills)
            .or_else(|| Self::next_of(&mut self.writebacks, staging, Part::Writebacks))
    }

    fn next_of(requests: &mut VecDeque<Request>, staging: &mut Staging, part: Part) -> Option<Job> {
        let request = requests.front_mut()?;
        let run = staging.take(part, request.count)?;
        let job = Job { kind: request.kind, page: request.page, run };
        request.page += run.count;
        request.count -= run.count;
        if request.count == 0 {
            requests.pop_front();
        }
        Some(job)
    }
}

/// Serves until there will be no requests any more.
pub async fn serve(mut requests: impl Requests, disk: &impl Disk, pages: &impl Pages) {
    let (mut waiting, mut staging) = (Waiting::new(), Staging::new());
    let mut under_way = FuturesUnordered::new();
    loop {
        while let Some(job) = waiting.next_job(&mut staging) {
            under_way.push(run(job, disk, pages));
        }
        let may_take = !waiting.is_full();
        let asked = core::future::poll_fn(|context| match may_take {
            true => requests.poll_next(context),
            false => Poll::Pending,
        });
        let done = async {
            match under_way.next().await {
                Some(run) => run,
                None => core::future::pending().await,
            }
        };
        match select(pin!(asked), pin!(done)).await {
            Either::Left((Ok(request), _)) if request.count > 0 => waiting.push(request),
            Either::Left((Ok(_), _)) => {}
            Either::Left((Err(Failed), _)) => return,
            Either::Right((run, _)) => staging.give_back(run),
        }
    }
}

/// Does a job; gives its place back.
async fn run(job: Job, disk: &impl Disk, pages: &impl Pages) -> Run {
    match job.kind {
        Kind::Fill => fill(job, disk, pages).await,
        Kind::Writeback => write_back(job, disk, pages).await,
    }
    job.run
}

async fn fill(job: Job, disk: &impl Disk, pages: &impl Pages) {
    let is_read = disk.read(job.page, job.run).await.is_ok();
    for (page, run) in job.pages() {
        // Of many pages one may be lost; a single one has had its attempt.
        let is_read = is_read || (job.run.count > 1 && disk.read(page, run).await.is_ok());
        if !is_read || supply(page, run, pages).await.is_err() {
            pages.fail(page, 1);
        }
    }
}

/// Supplies one page: of several, nobody would know how far it came. What was supplied may be gone from there at once, and must not be
/// supplied twice.
async fn supply(page: u64, run: Run, pages: &impl Pages) -> Result<(), Failed> {
    for _ in 0..SUPPLY_ATTEMPTS {
        match pages.supply(page, run) {
            Ok(()) => return Ok(()),
            Err(SupplyError::Failed) => return Err(Failed),
            Err(SupplyError::NoMemory) => pages.pause(SUPPLY_PAUSE_NS).await,
        }
    }
    Err(Failed)
}

async fn write_back(job: Job, disk: &impl Disk, pages: &impl Pages) {
    if store(job.page, job.run, disk, pages).await.is_ok() {
        return;
    }
    let mut has_paused = false;
    for (page, run) in job.pages() {
        if job.run.count > 1 && store(page, run, disk, pages).await.is_ok() {
            continue;
        }
        if !has_paused {
            pages.pause(FAILURE_PAUSE_NS).await;
            has_paused = true;
        }
        pages.fail(page, 1);
    }
}

async fn store(page: u64, run: Run, disk: &impl Disk, pages: &impl Pages) -> Result<(), Failed> {
    pages.stage(page, run)?;
    disk.write(page, run).await?;
    pages.written(page, run.count);
    Ok(())
}

#[cfg(test)]
mod tests;
