//! The local APIC of this processor (Intel SDM vol. 3A, chapter 12): its timer and the end of interrupts.

use crate::direct_map;
use crate::interrupts::{ERROR_VECTOR, SPURIOUS_VECTOR, TIMER_VECTOR};
use crate::memory_map::Range;
use crate::paging::{self, KernelTables, OutOfFrames};
use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::registers::model_specific::ApicBase;

const PAGE: u64 = quire_core::machine::PAGE_SIZE;

/// Offsets of registers.
mod register {
    pub(super) const ID: u64 = 0x20;
    pub(super) const TASK_PRIORITY: u64 = 0x80;
    pub(super) const END_OF_INTERRUPT: u64 = 0xb0;
    pub(super) const SPURIOUS: u64 = 0xf0;
    pub(super) const ERROR_STATUS: u64 = 0x280;
    pub(super) const TIMER: u64 = 0x320;
    pub(super) const LINE_0: u64 = 0x350;
    pub(super) const LINE_1: u64 = 0x360;
    pub(super) const ERROR: u64 = 0x370;
    pub(super) const TIMER_INITIAL: u64 = 0x380;
    pub(super) const TIMER_CURRENT: u64 = 0x390;
    pub(super) const TIMER_DIVIDE: u64 = 0x3e0;
}

/// In the spurious-interrupt register: the APIC is on.
const SOFTWARE_ENABLE: u32 = 1 << 8;
/// In an entry of the local vector table: no interrupt.
const MASKED: u32 = 1 << 16;
/// In an entry of the local vector table: non-maskable.
const DELIVER_NMI: u32 = 4 << 8;
/// Divide configuration: by 1.
const DIVIDE_BY_1: u32 = 0b1011;

/// Virtual address of the registers.
static REGISTERS: AtomicU64 = AtomicU64::new(0);

fn register(offset: u64) -> *mut u32 {
    (REGISTERS.load(Ordering::Relaxed) + offset) as *mut u32
}

fn read(offset: u64) -> u32 {
    // SAFETY: `init` mapped the registers before anything here is called, and the offset is one of theirs.
    unsafe { register(offset).read_volatile() }
}

fn write(offset: u64, value: u32) {
    // SAFETY: as for `read`; the values written only concern interrupts of this processor.
    unsafe { register(offset).write_volatile(value) };
}

/// Maps the registers and turns the APIC on, its timer silent.
///
/// # Errors
/// [`OutOfFrames`]
pub(crate) fn init() -> Result<(), OutOfFrames> {
    let base = ApicBase::read().0.start_address().as_u64();
    KernelTables::active().map_direct(Range::new(base, PAGE), paging::DEVICE)?;
    REGISTERS.store(direct_map::BASE + base, Ordering::Relaxed);
    write(register::TASK_PRIORITY, 0);
    write(register::LINE_0, MASKED);
    write(register::LINE_1, DELIVER_NMI);
    write(register::ERROR, u32::from(ERROR_VECTOR));
    write(register::TIMER, MASKED | u32::from(TIMER_VECTOR));
    write(register::TIMER_DIVIDE, DIVIDE_BY_1);
    write(register::SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
    Ok(())
}

/// The number under which interrupts are sent to this processor.
pub(crate) fn id() -> u32 {
    read(register::ID) >> 24
}

/// Says that the interrupt in service is done with.
#[inline]
pub(crate) fn end_of_interrupt() {
    write(register::END_OF_INTERRUPT, 0);
}

/// Reads and clears the errors found.
pub(crate) fn take_errors() -> u32 {
    write(register::ERROR_STATUS, 0);
    read(register::ERROR_STATUS)
}

/// Lets the timer count down from its highest value without an interrupt, to measure its rate.
pub(crate) fn start_measuring() {
    write(register::TIMER, MASKED | u32::from(TIMER_VECTOR));
    write(register::TIMER_INITIAL, u32::MAX);
}

/// Ticks since [`start_measuring`].
pub(crate) fn measured() -> u32 {
    u32::MAX - read(register::TIMER_CURRENT)
}

/// Stops measuring; from now on the timer can be [`arm`]ed.
pub(crate) fn stop_measuring() {
    write(register::TIMER_INITIAL, 0);
    write(register::TIMER, u32::from(TIMER_VECTOR));
}

/// Interrupts once after this many ticks (at least one); replaces what was armed before.
pub(crate) fn arm(ticks: u32) {
    write(register::TIMER_INITIAL, ticks.max(1));
}
