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
    pub(super) const COMMAND: u64 = 0x300;
    pub(super) const COMMAND_TARGET: u64 = 0x310;
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
/// In the interrupt command register: the level that all but one kind of interrupt want (12.6.1).
const ASSERT: u32 = 1 << 14;
/// In the interrupt command register: initialise.
const DELIVER_INIT: u32 = 5 << 8;
/// In the interrupt command register: start in real mode, at the page in the lowest eight bits.
const DELIVER_STARTUP: u32 = 6 << 8;
/// In the interrupt command register: not delivered yet.
const DELIVERY_PENDING: u32 = 1 << 12;
/// In the upper half of the interrupt command register.
const TARGET_SHIFT: u32 = 24;
/// How often the command register is looked at before a command is written over another that does not go away.
const PATIENCE: u32 = 1_000_000;
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
    enable();
    Ok(())
}

/// Turns the APIC of this processor on, its timer silent.
pub(crate) fn enable() {
    write(register::TASK_PRIORITY, 0);
    write(register::LINE_0, MASKED);
    write(register::LINE_1, DELIVER_NMI);
    write(register::ERROR, u32::from(ERROR_VECTOR));
    write(register::TIMER, MASKED | u32::from(TIMER_VECTOR));
    write(register::TIMER_DIVIDE, DIVIDE_BY_1);
    write(register::SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS_VECTOR));
}

/// Lets the timer interrupt: from now on it can be [`arm`]ed.
pub(crate) fn enable_timer() {
    write(register::TIMER_INITIAL, 0);
    write(register::TIMER, u32::from(TIMER_VECTOR));
}

/// Sends a command to the processor with this number.
fn command(target: u32, command: u32) {
    let is_free = |_: &u32| read(register::COMMAND) & DELIVERY_PENDING == 0;
    let _ = (0..PATIENCE).find(is_free);
    write(register::COMMAND_TARGET, target << TARGET_SHIFT);
    write(register::COMMAND, ASSERT | command);
}

/// Interrupts another processor.
pub(crate) fn interrupt(target: u32, vector: u8) {
    command(target, vector.into());
}

/// Stops another processor until it is started ([`start_up`]), whatever it does.
pub(crate) fn initialise(target: u32) {
    command(target, DELIVER_INIT);
}

/// Starts a processor that waits for it, in real mode, at the start of a page below 1 MiB.
pub(crate) fn start_up(target: u32, page: u8) {
    command(target, DELIVER_STARTUP | u32::from(page));
}

/// Interrupts another processor even where it has interrupts off.
pub(crate) fn interrupt_non_maskable(target: u32) {
    command(target, DELIVER_NMI);
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
    enable_timer();
}

/// Interrupts once after this many ticks (at least one); replaces what was armed before.
pub(crate) fn arm(ticks: u32) {
    write(register::TIMER_INITIAL, ticks.max(1));
}
