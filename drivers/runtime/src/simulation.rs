//! A machine for the tests of drivers: frames that devices reach only where they are pinned, devices behind windows of registers,
//! interrupts that can get lost, clients, and a time that stands still until the test moves it.

mod clients;
mod frames;
mod interrupts;
mod memory;
mod time;
mod window;

pub use clients::{Answered, Answers, SimulatedClient};
pub use frames::{DmaFault, Frames, SimulatedBuffer, SimulatedDma};
pub use interrupts::SimulatedInterrupt;
pub use memory::SimulatedMemory;
pub use time::SimulatedTime;
pub use window::{Model, SimulatedWindow};

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

/// Polls a future again and again, and lets `step` have the world go on in between, until the future is done. Panics if it is not
/// after very many steps.
pub fn drive<F: Future>(future: F, mut step: impl FnMut()) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        step();
    }
    unreachable!("the future is never done");
}
