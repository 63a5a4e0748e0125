//! The I/O APICs: inputs of devices (Intel 82093AA data sheet), wired as the MADT says.
//!
//! A driver's interrupt is masked from the moment it comes in until the driver acknowledges it. For level-triggered
//! inputs that is done in the I/O APIC. An edge that comes while its input is masked there would be lost, so
//! edge-triggered inputs stay unmasked once they were unmasked, and an edge that comes too early is remembered and
//! delivered on unmasking.

use crate::attention;
use crate::direct_map;
use crate::firmware::{ISA_INTERRUPTS, MAX_IO_APICS, Platform};
use crate::interrupts::{END_DEVICE_VECTORS, FIRST_DEVICE_VECTOR, local_apic};
use crate::memory_map::Range;
use crate::paging::{self, KernelTables, OutOfFrames};
use crate::sync::{Rank, SpinLock};
use core::sync::atomic::{AtomicU32, Ordering};

/// Global system interrupts that have a vector.
const INPUTS: usize = (END_DEVICE_VECTORS - FIRST_DEVICE_VECTOR) as usize;

/// Offset of the register that selects.
const SELECT: u64 = 0x00;
/// Offset of the register that shows what was selected.
const WINDOW: u64 = 0x10;
/// Bytes that the registers take.
const REGISTER_BYTES: u64 = 0x20;
/// Selects the version; bits 16–23 are the number of the last input.
const VERSION: u32 = 0x01;
/// Selects the lower half of the first input's redirection entry.
const REDIRECTION: u32 = 0x10;

/// Redirection entry: masked.
const MASKED: u32 = 1 << 16;
/// Redirection entry: level-triggered.
const LEVEL: u32 = 1 << 15;
/// Redirection entry: active low.
const ACTIVE_LOW: u32 = 1 << 13;

/// Redirection entry, upper half: the destination's APIC id.
const DESTINATION_SHIFT: u32 = 24;

/// MADT override flags (ACPI 6.5, table 5.26).
const FLAGS_ACTIVE_LOW: u16 = 0b11;
const FLAGS_LEVEL: u16 = 0b11 << 2;

/// How an input is triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    Edge,
    Level,
}

/// Whether an input of a driver may interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// It may.
    Open,
    /// It may not.
    Closed,
    /// It may not, and an edge came.
    Remembering,
    /// It may, and an edge that came before is yet to be delivered.
    Due,
}

#[derive(Clone, Copy)]
struct Input {
    controller: u8,
    pin: u32,
    trigger: Trigger,
    active_low: bool,
    gate: Gate,
}

#[derive(Clone, Copy)]
struct Controller {
    registers: u64,
}

impl Controller {
    fn select(self, index: u32) -> *mut u32 {
        // SAFETY: `init` mapped the registers; selecting changes nothing else, and the lock of the controllers is held.
        unsafe { ((self.registers + SELECT) as *mut u32).write_volatile(index) };
        (self.registers + WINDOW) as *mut u32
    }

    fn read(self, index: u32) -> u32 {
        // SAFETY: `select` returned the mapped window register.
        unsafe { self.select(index).read_volatile() }
    }

    fn write(self, index: u32, value: u32) {
        // SAFETY: `select` returned the mapped window register; entries lead to vectors whose gates are all valid.
        unsafe { self.select(index).write_volatile(value) };
    }
}

/// All inputs, by global system interrupt.
struct IoApics {
    controllers: [Controller; MAX_IO_APICS],
    inputs: [Option<Input>; INPUTS],
}

static IO_APICS: SpinLock<IoApics> = SpinLock::new(
    Rank::InterruptController,
    IoApics { controllers: [Controller { registers: 0 }; MAX_IO_APICS], inputs: [None; INPUTS] },
);

/// Whom the inputs interrupt.
static BOOT_PROCESSOR: AtomicU32 = AtomicU32::new(0);

/// Maps the controllers and masks all inputs. What they will interrupt is this processor.
///
/// # Errors
/// [`OutOfFrames`]
pub(crate) fn init(platform: &Platform) -> Result<(), OutOfFrames> {
    for info in platform.io_apics.iter().flatten() {
        KernelTables::active().map_direct(Range::new(info.address, REGISTER_BYTES), paging::DEVICE)?;
    }
    BOOT_PROCESSOR.store(local_apic::id(), Ordering::Relaxed);
    let mut guard = IO_APICS.lock();
    let all = &mut *guard;
    for (number, info) in (0u8..).zip(platform.io_apics.iter().flatten()) {
        let controller = Controller { registers: direct_map::BASE + info.address };
        all.controllers[usize::from(number)] = controller;
        let last = controller.read(VERSION) >> 16 & 0xff;
        for pin in 0..=last {
            controller.write(REDIRECTION + 2 * pin, MASKED);
            let gsi = (info.first_gsi + pin) as usize;
            if let Some(slot) = all.inputs.get_mut(gsi) {
                // PCI interrupts are level-triggered and active low, those of the ISA bus edge-triggered and active
                // high.
                let isa = gsi < ISA_INTERRUPTS;
                let trigger = if isa { Trigger::Edge } else { Trigger::Level };
                *slot = Some(Input { controller: number, pin, trigger, active_low: !isa, gate: Gate::Closed });
            }
        }
    }
    for wiring in platform.overrides.iter().flatten() {
        if let Some(input) = all.inputs.get_mut(wiring.gsi as usize).and_then(Option::as_mut) {
            input.active_low = wiring.flags & FLAGS_ACTIVE_LOW == FLAGS_ACTIVE_LOW;
            input.trigger = if wiring.flags & FLAGS_LEVEL == FLAGS_LEVEL { Trigger::Level } else { Trigger::Edge };
        }
    }
    Ok(())
}

impl IoApics {
    fn input(&mut self, gsi: u32) -> Option<(Controller, &mut Input)> {
        let input = self.inputs.get_mut(gsi as usize)?.as_mut()?;
        Some((self.controllers[usize::from(input.controller)], input))
    }
}

impl Input {
    /// Writes the redirection entry: to the boot processor, fixed delivery.
    fn program(&self, controller: Controller, gsi: u32, mask: u32) {
        let destination = BOOT_PROCESSOR.load(Ordering::Relaxed) << DESTINATION_SHIFT;
        let vector = u32::from(FIRST_DEVICE_VECTOR) + gsi;
        let trigger = if self.trigger == Trigger::Level { LEVEL } else { 0 };
        let polarity = if self.active_low { ACTIVE_LOW } else { 0 };
        controller.write(REDIRECTION + 2 * self.pin + 1, destination);
        controller.write(REDIRECTION + 2 * self.pin, vector | trigger | polarity | mask);
    }
}

/// Whether there is such an input.
pub(crate) fn exists(gsi: u32) -> bool {
    IO_APICS.lock().input(gsi).is_some()
}

/// Lets the interrupt come in.
pub(crate) fn unmask(gsi: u32) {
    let mut all = IO_APICS.lock();
    let Some((controller, input)) = all.input(gsi) else { return };
    match input.gate {
        Gate::Closed => {
            input.gate = Gate::Open;
            input.program(controller, gsi, 0);
        }
        Gate::Remembering => {
            input.gate = Gate::Due;
            attention::ask();
        }
        Gate::Open | Gate::Due => {}
    }
}

/// Keeps the interrupt from coming in.
pub(crate) fn mask(gsi: u32) {
    let mut all = IO_APICS.lock();
    let Some((controller, input)) = all.input(gsi) else { return };
    input.gate = match input.gate {
        Gate::Open | Gate::Closed => Gate::Closed,
        Gate::Remembering | Gate::Due => Gate::Remembering,
    };
    match input.trigger {
        Trigger::Level => input.program(controller, gsi, MASKED),
        Trigger::Edge => {}
    }
}

/// An interrupt came in. Returns whether its driver is to hear of it now.
pub(crate) fn admit(gsi: u32) -> bool {
    let mut all = IO_APICS.lock();
    let Some((_, input)) = all.input(gsi) else { return false };
    match input.gate {
        Gate::Open | Gate::Due => true,
        Gate::Closed | Gate::Remembering => {
            input.gate = Gate::Remembering;
            false
        }
    }
}

/// The next interrupt that came too early and whose driver is now ready for it.
pub(crate) fn take_remembered() -> Option<u32> {
    let mut all = IO_APICS.lock();
    let inputs = (0u32..).zip(all.inputs.iter_mut()).filter_map(|(gsi, input)| Some((gsi, input.as_mut()?)));
    for (gsi, input) in inputs {
        if input.gate == Gate::Due {
            input.gate = Gate::Open;
            return Some(gsi);
        }
    }
    None
}
