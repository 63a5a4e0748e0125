//! Benchmarks, counted in guest instructions.
//!
//! Under `-icount shift=0` the virtual clock is the count of guest instructions and the time-stamp counter runs at 1 GHz, so
//! that one tick is one instruction. A loop of known length checks that before anything is measured.

use crate::child::{Child, DATA, Piece, RW, number};
use crate::harness::{Bench, Failure, Test, TestResult};
use alloc::format;
use log::{error, info};
use quire_api::abi::dma::{DmaFlags, MAX_DMA_PAGES};
use quire_api::abi::message::WORDS;
use quire_api::abi::space::PAGE_SIZE;
use quire_api::executor::Messages;
use quire_api::raw::{counted_loop, time_stamp};
use quire_api::{AddressSpace, ChannelEndpoint, Commit, Error, Executor, MapFlags, Memory, Message, Rights, system};

/// Round trips that are not counted: they warm the caches and page tables.
const WARM_UP: u64 = 100;
/// Round trips that are.
const ROUNDS: u64 = 10_000;
/// Completions that wait in the ring at once.
const POSTS: u64 = 500;
/// Clones of a space.
const FORKS: u64 = 10;

/// What no device requests as.
const NO_DEVICE: u16 = 0xfff8;

/// What is measured.
const ROWS: &[Test] = &[
    Test { name: "null", run: null_call },
    Test { name: "call", run: echo },
    Test { name: "executor", run: executor },
    Test { name: "completion", run: executor_alone },
    Test { name: "fork", run: fork },
    Test { name: "dma", run: dma },
];

/// Runs those whose names contain `filter`; `true` if they could be measured.
pub(crate) fn run(bench: &Bench, filter: &str) -> bool {
    let mut rows = ROWS.iter().filter(|row| row.name.contains(filter));
    rows.all(|row| match (row.run)(bench) {
        Ok(()) => true,
        Err(Failure(reason)) => {
            error!("benchmark {} failed: {reason}", row.name);
            false
        }
    })
}

/// How many instructions one tick of the counter stands for, in thousandths.
fn instructions_per_tick() -> u64 {
    let start = time_stamp();
    counted_loop(ROUNDS);
    let ticks = time_stamp().wrapping_sub(start);
    // Two instructions a turn.
    2 * ROUNDS * 1000 / ticks.max(1)
}

/// Runs `step` so often that its cost in ticks can be told, and prints it.
fn measure(name: &str, mut step: impl FnMut() -> TestResult) -> TestResult {
    for _ in 0..WARM_UP {
        step()?;
    }
    let start = time_stamp();
    for _ in 0..ROUNDS {
        step()?;
    }
    report(name, time_stamp().wrapping_sub(start), ROUNDS);
    Ok(())
}

/// Prints what a round costs that was done `rounds` times in so many ticks.
fn report(name: &str, ticks: u64, rounds: u64) {
    let scale = instructions_per_tick();
    let instructions = ticks * scale / 1000 / rounds;
    info!("{name}: {instructions} instructions ({rounds} rounds, {scale}/1000 instructions a tick)");
}

fn null_call(_: &Bench) -> TestResult {
    measure("null call into the kernel", || Ok(system::nothing()?))
}

/// Pages pinned for a device and let go: what each request to a disk has done twice.
fn dma(bench: &Bench) -> TestResult {
    let space = bench.hardware.dma_space(bench.account, NO_DEVICE)?;
    let memory = Memory::create(bench.account, MAX_DMA_PAGES as u64 * PAGE_SIZE)?;
    let mut addresses = [0; MAX_DMA_PAGES];
    for pages in [1, 16, MAX_DMA_PAGES] {
        let addresses = addresses.get_mut(..pages).unwrap_or_default();
        let name = format!("{pages} pages pinned for a device and let go");
        measure(&name, || {
            let mapping = space.map(&memory, 0, pages as u64 * PAGE_SIZE, DmaFlags::DEVICE_WRITES, addresses)?;
            Ok(space.unmap(mapping)?)
        })?;
    }
    Ok(())
}

/// A call and its reply, to a thread in another address space that answers by `reply_receive`.
fn echo(bench: &Bench) -> TestResult {
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let mut server = Child::new(bench.account)?;
    let channel = server.give(&theirs)?;
    let mut registers = Piece::Echo.registers();
    registers.rdi = channel;
    registers.rbx = number(quire_api::Handle::NONE);
    server.begin(&registers)?;
    server.until_waiting()?;
    measure("call and reply between two spaces, message in registers", || {
        ours.call_words(1, [2; WORDS])?;
        Ok(())
    })
}

/// The same the other way round: this program serves, with an executor, a client that does nothing but call.
fn executor(bench: &Bench) -> TestResult {
    let executor = Executor::new(bench.account)?;
    let (ours, theirs) = ChannelEndpoint::pair(bench.account)?;
    let mut client = Child::new(bench.account)?;
    let mut registers = Piece::CallForEver.registers();
    registers.rdi = client.give(&theirs)?;
    let mut requests = executor.bind(ours)?;
    client.begin(&registers)?;
    let server = executor.clone();
    let ticks = executor.block_on(async move {
        for _ in 0..WARM_UP {
            serve_one(&server, &mut requests).await?;
        }
        let start = time_stamp();
        for _ in 0..ROUNDS {
            serve_one(&server, &mut requests).await?;
        }
        Ok::<_, Failure>(time_stamp().wrapping_sub(start))
    })??;
    report("call and answer through an executor", ticks, ROUNDS);
    Ok(client.thread.kill()?)
}

async fn serve_one(executor: &Executor, requests: &mut Messages) -> TestResult {
    let request = requests.receive().await.ok_or(Error::PeerClosed)?;
    let reply = request.reply.ok_or(Error::BadState)?;
    Ok(executor.answer(reply, Message::new(0, [0; WORDS]))?)
}

/// What the executor does for each completion, without the kernel's part: there are always some in the ring.
fn executor_alone(bench: &Bench) -> TestResult {
    let executor = Executor::new(bench.account)?;
    let queue = executor.queue(Rights::SEND)?;
    let mut posts = executor.posts();
    let mut ticks = 0;
    for _ in 0..ROUNDS / POSTS {
        for value in 0..POSTS {
            queue.post(posts.key(), value)?;
        }
        let start = time_stamp();
        executor.block_on(async {
            for _ in 0..POSTS {
                posts.receive().await;
            }
        })?;
        ticks += time_stamp().wrapping_sub(start);
    }
    report("executor, for each completion", ticks, ROUNDS);
    Ok(())
}

/// What a fork does in the kernel: a clone of a space, by how much memory the space has touched. Then what the clone
/// costs when it is dropped without having written.
fn fork(bench: &Bench) -> TestResult {
    for mebibytes in [1, 16, 256] {
        let source = AddressSpace::create(bench.account)?;
        let len_bytes = mebibytes << 20;
        let mut commit = Commit::new();
        commit.map_zero(DATA, len_bytes, RW, MapFlags::empty());
        source.commit(&commit)?;
        for page in 0..len_bytes / PAGE_SIZE {
            source.write_all(DATA + page * PAGE_SIZE, &[1])?;
        }
        commit.clear();
        commit.clone_of(&source);
        let start = time_stamp();
        for _ in 0..FORKS {
            let clone = AddressSpace::create(bench.account)?;
            clone.commit(&commit)?;
        }
        let ticks = time_stamp().wrapping_sub(start);
        report(&alloc::format!("clone and drop of a space with {mebibytes} MiB"), ticks, FORKS);
    }
    Ok(())
}
