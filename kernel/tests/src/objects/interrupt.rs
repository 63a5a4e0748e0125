//! Interrupts, raised by the first serial line's UART: it tells that its transmitter is empty whenever it is asked to tell.

use super::io_ports::COM1;
use crate::harness::{Bench, Failure, TestResult, holds, in_ms, refused, same, tests};
use quire_api::abi::queue::CompletionKind;
use quire_api::queue::{MappedQueue, unbind};
use quire_api::{Error, IoPorts, Object, Rights};

tests!("interrupt":
    an_interrupt_completes_and_stays_masked_until_acknowledged,
    an_unbound_interrupt_does_not_complete,
    an_interrupt_has_one_holder,
    impossible_interrupts_are_refused,
    rights_are_checked,
);

/// COM1's global system interrupt.
const GSI: u32 = 4;
const INTERRUPT_ENABLE: u16 = 1;
const INTERRUPT_IDENTIFICATION: u16 = 2;
const MODEM_CONTROL: u16 = 4;
const TRANSMITTER_EMPTY: u32 = 1 << 1;
/// Connects the interrupt line.
const OUT2: u32 = 1 << 3;

/// The UART, silent again when the test ends.
struct Uart(IoPorts);

impl Uart {
    fn new(bench: &Bench) -> Result<Self, Failure> {
        let ports = bench.hardware.io_ports(bench.account, COM1, 8)?;
        ports.write(INTERRUPT_ENABLE, 1, 0)?;
        ports.write(MODEM_CONTROL, 1, OUT2)?;
        Ok(Self(ports))
    }

    /// Makes it raise its interrupt once more.
    fn raise(&self) -> TestResult {
        self.0.write(INTERRUPT_ENABLE, 1, 0)?;
        self.0.read(INTERRUPT_IDENTIFICATION, 1)?;
        self.0.write(INTERRUPT_ENABLE, 1, TRANSMITTER_EMPTY)?;
        Ok(())
    }
}

impl Drop for Uart {
    fn drop(&mut self) {
        let _ = self.0.write(INTERRUPT_ENABLE, 1, 0);
    }
}

fn an_interrupt_completes_and_stays_masked_until_acknowledged(bench: &Bench) -> TestResult {
    let uart = Uart::new(bench)?;
    let interrupt = bench.hardware.interrupt(bench.account, GSI)?;
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    queue.queue().bind(&interrupt, 9)?;
    for round in 1..4 {
        uart.raise()?;
        queue.wait(in_ms(1_000))?;
        let completion = queue.take().ok_or(Error::NotFound)?;
        same((completion.key, completion.kind), (9, CompletionKind::Interrupt as u32))?;
        same(completion.value, round)?;
        uart.raise()?;
        refused(queue.wait(in_ms(5)), Error::TimedOut)?;
        // What came while it was masked may or may not be delivered now; the device is quiet, and what comes is taken.
        uart.0.write(INTERRUPT_ENABLE, 1, 0)?;
        uart.0.read(INTERRUPT_IDENTIFICATION, 1)?;
        interrupt.acknowledge()?;
        if queue.wait(in_ms(5)).is_ok() {
            queue.take();
            return Ok(());
        }
    }
    Ok(())
}

fn an_unbound_interrupt_does_not_complete(bench: &Bench) -> TestResult {
    let uart = Uart::new(bench)?;
    let interrupt = bench.hardware.interrupt(bench.account, GSI)?;
    let mut queue = MappedQueue::create(bench.account, 8, 8)?;
    queue.queue().bind(&interrupt, 9)?;
    unbind(&interrupt)?;
    uart.raise()?;
    refused(queue.wait(in_ms(5)), Error::TimedOut)?;
    holds(queue.take().is_none(), "nothing completes")
}

fn an_interrupt_has_one_holder(bench: &Bench) -> TestResult {
    let interrupt = bench.hardware.interrupt(bench.account, GSI)?;
    refused(bench.hardware.interrupt(bench.account, GSI), Error::Overlap)?;
    drop(interrupt);
    bench.hardware.interrupt(bench.account, GSI)?;
    Ok(())
}

fn impossible_interrupts_are_refused(bench: &Bench) -> TestResult {
    for gsi in [10_000, u32::MAX] {
        refused(bench.hardware.interrupt(bench.account, gsi), Error::OutOfRange)?;
    }
    let powerless = bench.hardware.duplicate(Rights::DUPLICATE)?;
    refused(powerless.interrupt(bench.account, GSI), Error::MissingRights)
}

fn rights_are_checked(bench: &Bench) -> TestResult {
    let interrupt = bench.hardware.interrupt(bench.account, GSI)?;
    let queue = MappedQueue::create(bench.account, 8, 8)?;
    refused(interrupt.duplicate(Rights::WAIT)?.acknowledge(), Error::MissingRights)?;
    refused(queue.queue().bind(&interrupt.duplicate(Rights::WRITE)?, 1), Error::MissingRights)
}
