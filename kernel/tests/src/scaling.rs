//! How work that has nothing in common scales with the number of processors: calls that do nothing, and page faults in spaces of
//! their own. Printed, not judged: how fast the machine's processors are together is not the kernel's affair.

use crate::child::{Child, DATA, Piece, RW};
use crate::harness::{Bench, Failure};
use alloc::vec::Vec;
use log::{error, info};
use quire_api::abi::Call;
use quire_api::abi::space::PAGE_SIZE;
use quire_api::abi::thread::Registers;
use quire_api::time::clock_ns;
use quire_api::{MapFlags, system};

/// Calls per thread.
const CALLS: u64 = 200_000;
/// Faults per thread.
const PAGES: u64 = 8_192;
/// Times that each is measured; the fastest counts.
const ATTEMPTS: u32 = 5;
/// How long a thread may take, in ns.
const PATIENCE_NS: u64 = 60_000_000_000;

/// What each thread does.
#[derive(Clone, Copy, Debug)]
enum Work {
    Calls,
    Faults,
    /// In user mode only: what the machine itself gives.
    Nothing,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Calls => "null calls",
            Self::Faults => "page faults",
            Self::Nothing => "user mode",
        }
    }

    fn registers(self) -> Registers {
        match self {
            Self::Calls => Registers { rbp: Call::Nothing as u64, rbx: CALLS, ..Piece::CallTimes.registers() },
            Self::Faults => Piece::TouchAll.at(DATA, DATA + PAGES * PAGE_SIZE),
            Self::Nothing => Piece::CountDown.at(0, 100 * CALLS),
        }
    }

    fn count(self) -> u64 {
        match self {
            Self::Calls => CALLS,
            Self::Faults => PAGES,
            Self::Nothing => 100 * CALLS,
        }
    }
}

/// Measures with one processor, two, four and so on; `true` if that was possible.
pub(crate) fn run(bench: &Bench) -> bool {
    match measure_all(bench) {
        Ok(()) => true,
        Err(Failure(reason)) => {
            error!("scaling can't be measured: {reason}");
            false
        }
    }
}

fn measure_all(bench: &Bench) -> Result<(), Failure> {
    let processors = u64::from(system::system_info()?.processors);
    for work in [Work::Nothing, Work::Calls, Work::Faults] {
        let alone = measure(bench, work, 1)?;
        info!("{} on 1 processor: {} in a second", work.name(), alone);
        let counts = core::iter::successors(Some(2), |count| Some(count * 2)).take_while(|count| *count <= processors);
        for count in counts {
            let together = measure(bench, work, count)?;
            let (whole, hundredths) = (together / alone, together % alone * 100 / alone);
            info!(
                "{} on {count} processors: {together} in a second, {whole}.{hundredths:02} times as many",
                work.name()
            );
        }
    }
    Ok(())
}

/// How often all threads together do their work in a second.
fn measure(bench: &Bench, work: Work, threads: u64) -> Result<u64, Failure> {
    let mut best = u64::MAX;
    for _ in 0..ATTEMPTS {
        let mut children = Vec::new();
        for number in 0..threads {
            let child = Child::new(bench.account)?;
            let mut commit = quire_api::Commit::new();
            commit.map_zero(DATA, PAGES * PAGE_SIZE, RW, MapFlags::empty());
            child.space.commit(&commit)?;
            child.thread.set_affinity(1 << number)?;
            children.push(child);
        }
        let start_ns = clock_ns();
        for child in &mut children {
            child.begin(&work.registers())?;
        }
        for child in &mut children {
            child.wait_until(start_ns + PATIENCE_NS)?;
        }
        best = best.min(clock_ns() - start_ns);
    }
    Ok(u64::try_from(u128::from(work.count() * threads) * 1_000_000_000 / u128::from(best.max(1))).unwrap_or(u64::MAX))
}
