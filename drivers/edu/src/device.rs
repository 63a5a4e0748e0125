//! What the device can do.

use crate::registers::{self, DEVICE_MEMORY, MAX_TRANSFER_BYTES, Reasons, Status, Transfer, is_edu};
use core::fmt;
use core::pin::pin;
use driver_runtime::dma::PAGE_BYTES;
use driver_runtime::{DeviceError, Dma, DmaMemory, InterruptSource, NoMemory, Registers, Time};
use futures_util::future::{Either, select};

/// How long the device may take for anything, in ns.
const PATIENCE_NS: u64 = 2_000_000_000;
/// What is written to see whether it answers.
const LIVENESS_PROBE: u32 = 0x1234_5678;

/// Why the device did not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EduError {
    /// It can't be reached.
    Unreachable,
    /// It is not what it should be.
    NotEdu,
    /// There is no memory to share with it.
    NoMemory,
    /// It takes too long.
    TimedOut,
    /// It was asked for more than it can do.
    TooLong,
}

impl From<DeviceError> for EduError {
    fn from(_: DeviceError) -> Self {
        Self::Unreachable
    }
}

impl From<NoMemory> for EduError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for EduError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unreachable => "the device can't be reached",
            Self::NotEdu => "this is no edu device",
            Self::NoMemory => "there is no memory to share with the device",
            Self::TimedOut => "the device takes too long",
            Self::TooLong => "the device can't take so much",
        })
    }
}

impl core::error::Error for EduError {}

/// The device, with all that it takes to drive it.
#[derive(Debug)]
pub struct Edu<R, M, I, T> {
    registers: R,
    buffer: M,
    interrupt: I,
    time: T,
    identification: u32,
}

impl<R: Registers, M: DmaMemory, I: InterruptSource, T: Time> Edu<R, M, I, T> {
    /// Takes the device if it is one, and has it raise interrupts.
    pub fn start(registers: R, dma: &impl Dma<Memory = M>, interrupt: I, time: T) -> Result<Self, EduError> {
        let identification = registers::IDENTIFICATION.read(&registers)?;
        registers::LIVENESS.write(&registers, LIVENESS_PROBE)?;
        let is_alive = registers::LIVENESS.read(&registers)? == !LIVENESS_PROBE;
        if !is_edu(identification) || !is_alive {
            return Err(EduError::NotEdu);
        }
        // Whoever drove it before may have left reasons for an interrupt.
        registers::INTERRUPT_ACKNOWLEDGE.write(&registers, Reasons::all().bits())?;
        registers::STATUS.write(&registers, Status::INTERRUPT_WHEN_COMPUTED.bits())?;
        let buffer = dma.allocate(PAGE_BYTES)?;
        Ok(Self { registers, buffer, interrupt, time, identification })
    }

    /// What it says it is: version in the upper half, `0xed` in the lowest byte.
    pub fn identification(&self) -> u32 {
        self.identification
    }

    /// Has it compute a factorial, modulo 2³².
    pub async fn factorial(&mut self, number: u32) -> Result<u32, EduError> {
        // One that was given up may still be under way, or done meanwhile.
        let status = Status::from_bits_retain(registers::STATUS.read(&self.registers)?);
        if status.contains(Status::COMPUTING) {
            return Err(EduError::TimedOut);
        }
        registers::INTERRUPT_ACKNOWLEDGE.write(&self.registers, Reasons::COMPUTED.bits())?;
        registers::FACTORIAL.write(&self.registers, number)?;
        self.wait_for(Reasons::COMPUTED).await?;
        Ok(registers::FACTORIAL.read(&self.registers)?)
    }

    /// Sends bytes to the device's memory and fetches them again; up to [`MAX_TRANSFER_BYTES`].
    pub async fn echo(&mut self, bytes: &mut [u8]) -> Result<(), EduError> {
        if bytes.len() > MAX_TRANSFER_BYTES {
            return Err(EduError::TooLong);
        }
        let (address, count) = (self.buffer.device_address(0)?, bytes.len() as u64);
        self.buffer.write(0, bytes)?;
        self.transfer(address, DEVICE_MEMORY, count, Transfer::empty()).await?;
        // What comes back must come from the device.
        bytes.fill(0);
        self.buffer.write(0, bytes)?;
        self.transfer(DEVICE_MEMORY, address, count, Transfer::TO_MEMORY).await?;
        Ok(self.buffer.read(0, bytes)?)
    }

    async fn transfer(&mut self, from: u64, to: u64, count: u64, direction: Transfer) -> Result<(), EduError> {
        registers::DMA_SOURCE.write(&self.registers, from)?;
        registers::DMA_DESTINATION.write(&self.registers, to)?;
        registers::DMA_COUNT.write(&self.registers, count)?;
        let command = Transfer::START | Transfer::INTERRUPT | direction;
        registers::DMA_COMMAND.write(&self.registers, command.bits())?;
        self.wait_for(Reasons::MOVED).await
    }

    /// Waits until the device has raised an interrupt for this reason, or for too long.
    async fn wait_for(&mut self, reason: Reasons) -> Result<(), EduError> {
        let deadline_ns = self.time.now_ns().saturating_add(PATIENCE_NS);
        loop {
            // It may have been before anybody waited, or the interrupt may have got lost: look first.
            let reasons = Reasons::from_bits_retain(registers::INTERRUPT_STATUS.read(&self.registers)?);
            registers::INTERRUPT_ACKNOWLEDGE.write(&self.registers, reasons.bits())?;
            if reasons == Reasons::all() {
                return Err(EduError::Unreachable);
            }
            if reasons.contains(reason) {
                return Ok(());
            }
            if self.time.now_ns() >= deadline_ns {
                return Err(EduError::TimedOut);
            }
            let is_interrupt = {
                let (interrupt, time) = (pin!(self.interrupt.wait()), pin!(self.time.sleep_until(deadline_ns)));
                matches!(select(interrupt, time).await, Either::Left(_))
            };
            if is_interrupt {
                // Acknowledge, then look: the next interrupt is for a reason that comes after the look.
                self.interrupt.acknowledge()?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
