//! The load average: how many threads want to run, on average over one, five and fifteen minutes (`getloadavg(3)`).

use crate::process::{Server, Thread};
use alloc::rc::Rc;
use core::cell::Cell;

/// How often it is looked, in ns.
const INTERVAL_NS: u64 = 5_000_000_000;
/// Bits after the point.
pub const FRACTION_BITS: u32 = 11;
const ONE: u64 = 1 << FRACTION_BITS;
/// What stays of the average at each look, for the three times: `exp(-5 s / time)`, with those bits (Linux,
/// `include/linux/sched/loadavg.h`).
const KEPT: [u64; 3] = [1884, 2014, 2037];

/// The averages, with [`FRACTION_BITS`] bits after the point.
#[derive(Debug, Default)]
pub struct Load(Cell<[u64; 3]>);

impl Load {
    /// The averages over one, five and fifteen minutes.
    pub fn averages(&self) -> [u64; 3] {
        self.0.get()
    }

    /// Takes one look: so many threads want to run.
    fn look(&self, active: u64) {
        let mut averages = self.0.get();
        for (average, kept) in averages.iter_mut().zip(KEPT) {
            *average = next(*average, kept, active * ONE);
        }
        self.0.set(averages);
    }
}

/// The next value of an average; rounded up when it rises, so that it gets where it goes.
fn next(average: u64, kept: u64, active: u64) -> u64 {
    let sum = average * kept + active * (ONE - kept);
    if active >= average { sum.div_ceil(ONE) } else { sum / ONE }
}

/// How many threads want to run now.
pub fn running_threads(server: &Server) -> u64 {
    let runs = |thread: &Rc<Thread>| !thread.is_waiting.get();
    let running = |process: &Rc<crate::process::Process>| process.phase.get() == crate::process::Phase::Running;
    let processes = server.processes().into_iter().filter(running);
    processes.map(|process| process.threads().iter().filter(|thread| runs(thread)).count() as u64).sum()
}

/// Looks again and again, as long as the server lives.
pub fn observe(server: &Rc<Server>) {
    let weak = Rc::downgrade(server);
    let executor = server.executor.clone();
    server.executor.spawn(async move {
        let mut at_ns = crate::platform::now_ns();
        loop {
            at_ns += INTERVAL_NS;
            executor.sleep_until(at_ns).await;
            let Some(server) = weak.upgrade() else { return };
            server.load.look(running_threads(&server));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_average_approaches_what_is_and_gets_there() {
        let load = Load::default();
        for _ in 0..2000 {
            load.look(2);
        }
        assert!(load.averages().iter().all(|average| *average == 2 * ONE), "{:?}", load.averages());
        for _ in 0..12 {
            load.look(0);
        }
        let [one, five, fifteen] = load.averages();
        assert!(one < five && five < fifteen && fifteen < 2 * ONE);
    }
}
