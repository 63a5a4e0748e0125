//! A disk behind its driver: that it keeps what it is given, and what a block costs.
//!
//! `test=disk-check` writes and reads with checksums, in all sizes and many at once, and asks for what must be refused; `test=disk-bench`
//! counts the instructions that a block of 4 KiB costs all programs and the kernel together. `test=disk-errors` runs on a disk that fails
//! once at some sectors, `test=disk-storm` while the disk's driver is killed again and again. The guest's first disk is used, and what it
//! holds is lost (`cargo xtask native disk-check`: an empty one).
//!
//! While the disk works, the processor has nothing to do, and what it does then is nobody's cost. So a thread of the lowest priority
//! counts turns meanwhile, and its instructions are subtracted.

use crate::child::{Child, DATA, Piece, RW};
use crate::harness::{Bench, Failure, TestResult, holds, same};
use alloc::format;
use alloc::vec::Vec;
use block::client::{BlockError, Buffer};
use block::machine::{Connection, Disk};
use driver_protocol::block::{Abilities, PAGE_BYTES, SECTOR_BYTES, WriteFlags};
use driver_protocol::purpose;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use log::{error, info};
use quire_api::raw::time_stamp;
use quire_api::rt::Startup;
use quire_api::time::clock_ns;
use quire_api::{Executor, Memory, Rights};

/// Pages of the memory through which everything goes.
const STAGING_PAGES: u64 = 256;
const STAGING_BYTES: u64 = STAGING_PAGES * PAGE_BYTES;
/// Sectors of a page.
const PAGE_SECTORS: u64 = PAGE_BYTES / SECTOR_BYTES;
/// How much of the disk is used, in sectors: 16 MiB.
const SECTORS: u64 = 32 << 10;
/// The priority of the thread that counts.
const LOWEST_PRIORITY: u8 = 1;
/// Instructions of one of its turns.
const TURN_INSTRUCTIONS: u64 = 2;

/// A disk, and a memory to move sectors through.
struct Station {
    disk: Disk,
    memory: Memory,
    buffer: Buffer,
}

impl From<BlockError> for Failure {
    #[track_caller]
    fn from(error: BlockError) -> Self {
        let place = core::panic::Location::caller();
        Self(format!("{error} ({}:{})", place.file(), place.line()))
    }
}

/// Checks the disk; `true` if it is right.
pub(crate) fn check(bench: &Bench, startup: &'static Startup) -> bool {
    judge(run(bench, startup, async |station| check_all(station).await))
}

/// Checks what becomes of errors of the disk; `true` if it is right.
pub(crate) fn errors(bench: &Bench, startup: &'static Startup) -> bool {
    judge(run(bench, startup, async |station| check_errors(station).await))
}

/// Checks the disk while its driver is killed; `true` if nobody notices.
pub(crate) fn storm(bench: &Bench, startup: &'static Startup) -> bool {
    judge(run(bench, startup, async |station| weather_storm(station).await))
}

fn judge(result: TestResult) -> bool {
    let is_well = report(result);
    let (passed, failed) = if is_well { (1, 0) } else { (0, 1) };
    info!("{passed} passed, {failed} failed");
    is_well
}

/// Measures the disk; `true` if that was possible.
pub(crate) fn measure(bench: &Bench, startup: &'static Startup) -> bool {
    report(run(bench, startup, async |station| measure_all(bench, station).await))
}

fn report(result: TestResult) -> bool {
    if let Err(Failure(reason)) = &result {
        error!("disk: {reason}");
    }
    result.is_ok()
}

fn run(bench: &Bench, startup: &'static Startup, work: impl AsyncFnOnce(&Station) -> TestResult) -> TestResult {
    let executor = Executor::new(bench.account)?;
    let channel = startup.take(purpose::BLOCK)?;
    let connection = Connection::new(&executor, channel);
    executor.block_on(async {
        let disk = Disk::connect(connection).await?;
        let description = *disk.description();
        let serial = description.serial.split(|byte| *byte == 0).next().unwrap_or_default().escape_ascii();
        info!("{} sectors, blocks of {} bytes, {serial}", description.sectors, description.block_bytes);
        let memory = Memory::create(bench.account, STAGING_BYTES)?;
        let shown = quire_api::Object::duplicate(&memory, Rights::all())?;
        let buffer = disk.attach(shown, STAGING_BYTES).await?;
        work(&Station { disk, memory, buffer }).await
    })?
}

/// What a sector is to hold: it depends on the sector and on when it was written.
fn fill(sector: u64, round: u64, bytes: &mut [u8]) {
    let mut state = (sector << 8 ^ round).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in bytes.as_chunks_mut::<8>().0 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *chunk = state.to_le_bytes();
    }
}

impl Station {
    fn put(&self, first: u64, count: u64, offset: u64, round: u64) -> TestResult {
        let mut bytes = [0; SECTOR_BYTES as usize];
        for index in 0..count {
            fill(first + index, round, &mut bytes);
            self.memory.write_all(offset + index * SECTOR_BYTES, &bytes)?;
        }
        Ok(())
    }

    fn verify(&self, first: u64, count: u64, offset: u64, round: u64) -> TestResult {
        let (mut expected, mut found) = ([0; SECTOR_BYTES as usize], [0; SECTOR_BYTES as usize]);
        for index in 0..count {
            fill(first + index, round, &mut expected);
            self.memory.read_exact(offset + index * SECTOR_BYTES, &mut found)?;
            if found != expected {
                return Err(Failure(format!("sector {} is not what was written in round {round}", first + index)));
            }
        }
        Ok(())
    }

    async fn read(&self, first: u64, count: u64, offset: u64) -> Result<(), BlockError> {
        self.disk.read(first, count, self.buffer, offset).await
    }

    async fn write(&self, first: u64, count: u64, offset: u64) -> Result<(), BlockError> {
        self.disk.write(first, count, self.buffer, offset, WriteFlags::empty()).await
    }

    /// Has transfers of `sectors` each done for all of the first [`SECTORS`], as many at once as the memory holds.
    async fn sweep(&self, sectors: u64, round: u64) -> TestResult {
        let together = STAGING_BYTES / SECTOR_BYTES / sectors * sectors;
        let mut first = 0;
        while first < SECTORS {
            let count = together.min(SECTORS - first);
            let parts: Vec<(u64, u64)> =
                (0..count).step_by(sectors as usize).map(|at| (at, sectors.min(count - at))).collect();
            self.put(first, count, 0, round)?;
            let writes: FuturesUnordered<_> =
                parts.iter().map(|(at, part)| self.write(first + at, *part, at * SECTOR_BYTES)).collect();
            for done in writes.collect::<Vec<_>>().await {
                done?;
            }
            // The memory must not hold by itself what is to be read.
            self.memory.discard(0, STAGING_BYTES)?;
            let reads: FuturesUnordered<_> =
                parts.iter().map(|(at, part)| self.read(first + at, *part, at * SECTOR_BYTES)).collect();
            for done in reads.collect::<Vec<_>>().await {
                done?;
            }
            self.verify(first, count, 0, round)?;
            first += count;
        }
        Ok(())
    }
}

async fn check_all(station: &Station) -> TestResult {
    let description = *station.disk.description();
    holds(description.sectors >= SECTORS, "the disk has 16 MiB")?;
    for (round, sectors) in (1..).zip([1, 8, 9, 64, 1024]) {
        station.sweep(sectors, round).await?;
        info!("test disk::transfers of {sectors} sectors ... ok");
    }
    check_places(station).await?;
    info!("test disk::places ... ok");
    check_zeroes(station, description.abilities).await?;
    info!("test disk::zeroes and discards ... ok");
    same(station.read(description.sectors, 1, 0).await, Err(BlockError::OutOfRange))?;
    same(station.read(0, 1, STAGING_BYTES).await, Err(BlockError::BadBuffer))?;
    station.disk.detach(station.buffer).await?;
    same(station.read(0, 1, 0).await, Err(BlockError::BadBuffer))?;
    info!("test disk::what must be refused ... ok");
    Ok(())
}

/// Places in the memory that are not those of pages.
async fn check_places(station: &Station) -> TestResult {
    for offset in [SECTOR_BYTES, 7 * SECTOR_BYTES, 5 * PAGE_BYTES + 3 * SECTOR_BYTES] {
        station.put(100, 33, offset, 77)?;
        let flags = WriteFlags::DURABLE;
        station.disk.write(100, 33, station.buffer, offset, flags).await?;
        station.memory.discard(0, STAGING_BYTES)?;
        let place = offset + 11 * SECTOR_BYTES;
        station.read(100, 33, place).await?;
        station.verify(100, 33, place, 77)?;
    }
    Ok(())
}

async fn check_zeroes(station: &Station, abilities: Abilities) -> TestResult {
    station.put(1000, 200, 0, 5)?;
    station.write(1000, 200, 0).await?;
    if abilities.contains(Abilities::WRITE_ZEROES) {
        station.disk.write_zeroes(1050, 100).await?;
        station.read(1000, 200, 0).await?;
        station.verify(1000, 50, 0, 5)?;
        station.verify(1150, 50, 150 * SECTOR_BYTES, 5)?;
        let mut zeroes = [1; SECTOR_BYTES as usize];
        for sector in 50..150 {
            station.memory.read_exact(sector * SECTOR_BYTES, &mut zeroes)?;
            holds(zeroes.iter().all(|byte| *byte == 0), "what was zeroed reads as zeroes")?;
        }
    }
    station.disk.discard(1150, 50).await?;
    station.disk.flush().await?;
    station.read(1000, 50, 0).await?;
    station.verify(1000, 50, 0, 5)
}

/// Sectors of which the first read fails, and the first write; `xtask` has QEMU see to it, and to the first flush.
const BAD_READS: [u64; 2] = [2048, 6000];
const BAD_WRITE: u64 = 4096;

async fn check_errors(station: &Station) -> TestResult {
    let failed = Err(BlockError::DeviceFailed);
    for bad in BAD_READS {
        // With it are under way some that are none of its business.
        let around = [bad - 64, bad, bad + 64];
        let reads: FuturesUnordered<_> = around
            .iter()
            .zip(0..)
            .map(|(first, index)| async move { (*first, station.read(*first, 8, index * PAGE_BYTES).await) })
            .collect();
        for (first, result) in reads.collect::<Vec<_>>().await {
            same(result, if first == bad { failed } else { Ok(()) })?;
        }
        same(station.read(bad, 8, 0).await, Ok(()))?;
    }
    info!("test disk::a read that fails ... ok");
    station.put(BAD_WRITE - 8, 24, 0, 9)?;
    same(station.write(BAD_WRITE - 8, 24, 0).await, failed)?;
    same(station.write(BAD_WRITE - 8, 24, 0).await, Ok(()))?;
    station.memory.discard(0, STAGING_BYTES)?;
    station.read(BAD_WRITE - 8, 24, 0).await?;
    station.verify(BAD_WRITE - 8, 24, 0, 9)?;
    info!("test disk::a write that fails ... ok");
    same(station.disk.flush().await, failed)?;
    same(station.disk.flush().await, Ok(()))?;
    info!("test disk::a flush that fails ... ok");
    Ok(())
}

/// How long the storm lasts, in ns, and what counts as a request that has noticed it.
const STORM_NS: u64 = 15_000_000_000;
const LONG_NS: u64 = 20_000_000;
/// Transfers that are under way at once in the storm, and how many sectors each has.
const STORM_DEPTH: u64 = 32;
const STORM_SECTORS: u64 = 16;

async fn weather_storm(station: &Station) -> TestResult {
    let end_ns = clock_ns().saturating_add(STORM_NS);
    let mut long = Vec::new();
    let mut round = 100;
    let mut transfers = 0;
    while clock_ns() < end_ns {
        let first = round * 7 * STORM_DEPTH * STORM_SECTORS % (SECTORS - STORM_DEPTH * STORM_SECTORS);
        station.put(first, STORM_DEPTH * STORM_SECTORS, 0, round)?;
        timed(&mut long, async |at| station.write(first + at, STORM_SECTORS, at * SECTOR_BYTES).await).await?;
        station.disk.flush().await?;
        station.memory.discard(0, STAGING_BYTES)?;
        timed(&mut long, async |at| station.read(first + at, STORM_SECTORS, at * SECTOR_BYTES).await).await?;
        station.verify(first, STORM_DEPTH * STORM_SECTORS, 0, round)?;
        round += 1;
        transfers += 2 * STORM_DEPTH;
    }
    long.sort_unstable();
    let percentile = |hundredths: usize| long.get(long.len() * hundredths / 100).copied().unwrap_or_default() / 1000;
    info!("{transfers} transfers, {} of them longer than {} ms", long.len(), LONG_NS / 1_000_000);
    info!("of these, the median took {} us, one in a hundred {} us", percentile(50), percentile(99));
    holds(station.disk.times_attached(station.buffer)? > 1, "there was a storm")
}

/// Has [`STORM_DEPTH`] transfers done at once, and notes how long those took that took long.
async fn timed(long: &mut Vec<u64>, transfer: impl AsyncFn(u64) -> Result<(), BlockError>) -> TestResult {
    let start_ns = clock_ns();
    let transfer = &transfer;
    let all: FuturesUnordered<_> = (0..STORM_DEPTH)
        .map(|index| async move { (transfer(index * STORM_SECTORS).await, clock_ns().saturating_sub(start_ns)) })
        .collect();
    for (result, took_ns) in all.collect::<Vec<_>>().await {
        result?;
        if took_ns > LONG_NS {
            long.push(took_ns);
        }
    }
    Ok(())
}

/// Counts the turns that nobody else needs the processor for.
pub(crate) struct Idle {
    child: Child,
    counter: Memory,
}

impl Idle {
    pub(crate) fn begin(bench: &Bench) -> Result<Self, Failure> {
        let counter = Memory::create(bench.account, PAGE_BYTES)?;
        let mut child = Child::new(bench.account)?;
        child.map(&counter, DATA, RW)?;
        child.thread.set_priority(LOWEST_PRIORITY)?;
        child.begin(&Piece::StoreCount.at(DATA, 0))?;
        Ok(Self { child, counter })
    }

    pub(crate) fn instructions(&self) -> Result<u64, Failure> {
        let mut bytes = [0; 8];
        self.counter.read_exact(0, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes) * TURN_INSTRUCTIONS)
    }
}

async fn measure_all(bench: &Bench, station: &Station) -> TestResult {
    let idle = Idle::begin(bench)?;
    for (name, sectors, depth, count) in [
        ("reads of 4 KiB, one at a time", PAGE_SECTORS, 1, 500),
        ("reads of 4 KiB, 8 at once", PAGE_SECTORS, 8, 2000),
        ("reads of 4 KiB, 32 at once", PAGE_SECTORS, 32, 4000),
        ("reads of 4 KiB, 128 at once", PAGE_SECTORS, 128, 4000),
        ("reads of 64 KiB, 16 at once", 16 * PAGE_SECTORS, 16, 500),
        ("reads of 512 KiB, 2 at once", 128 * PAGE_SECTORS, 2, 64),
    ] {
        reads(station, &idle, name, sectors, depth, count).await?;
    }
    idle.child.thread.kill()?;
    Ok(())
}

/// Has so many reads done, `depth` at once, and prints what each costs.
async fn reads(station: &Station, idle: &Idle, name: &str, sectors: u64, depth: u64, count: u64) -> TestResult {
    let read = |number: u64| {
        let first = number * sectors % SECTORS;
        station.read(first, sectors, number % depth * sectors * SECTOR_BYTES)
    };
    read(0).await?;
    let (start, start_idle) = (time_stamp(), idle.instructions()?);
    let mut under_way: FuturesUnordered<_> = (0..depth).map(read).collect();
    let mut next = depth;
    while let Some(done) = under_way.next().await {
        done?;
        if next < count {
            under_way.push(read(next));
            next += 1;
        }
    }
    let elapsed = time_stamp().wrapping_sub(start);
    let busy = elapsed.saturating_sub(idle.instructions()?.saturating_sub(start_idle));
    let blocks = count * sectors / PAGE_SECTORS;
    info!("{name}: {} instructions each, {} for 4 KiB ({elapsed} ticks in all)", busy / count, busy / blocks);
    Ok(())
}
