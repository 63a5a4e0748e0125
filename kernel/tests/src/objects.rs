//! The tests, one module per object.

mod account;
mod bomb;
mod channel;
mod device;
mod dma;
mod event;
mod fuzz;
mod handle;
mod interrupt;
mod io_ports;
mod memory;
mod pager;
mod processors;
mod queue;
mod space;
mod swap;
mod thread;
mod timer;

use crate::harness::Test;

/// All tests, the fuzzer last.
pub(crate) fn all() -> impl Iterator<Item = &'static Test> {
    [
        handle::TESTS,
        account::TESTS,
        memory::TESTS,
        pager::TESTS,
        space::TESTS,
        thread::TESTS,
        processors::TESTS,
        channel::TESTS,
        queue::TESTS,
        event::TESTS,
        timer::TESTS,
        io_ports::TESTS,
        interrupt::TESTS,
        dma::TESTS,
        device::TESTS,
        swap::TESTS,
        bomb::TESTS,
        fuzz::TESTS,
    ]
    .into_iter()
    .flatten()
}
