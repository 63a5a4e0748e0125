//! The I/O APICs: inputs of devices (Intel 82093AA data sheet), wired as the MADT says.
//!
//! A driver's interrupt is masked from the moment it comes in until the driver acknowledges it. For level-triggered
//! inputs that is done in the I/O APIC. An edge that comes while its input is masked there would be lost, so
//! edge-triggered inputs stay unmasked once they were unmasked, and an edge that comes too early is remembered and
//! delivered on unmasking.
//!
//! Vectors that no input has are for messages (MSI): written by devices straight to a local APIC, which can't mask them. They are gated
//! as edges are.

use crate::attention;
use crate::direct_map;
use crate::firmware::{ISA_INTERRUPTS, MAX_IO_APICS, Platform};
use crate::interrupts::{END_DEVICE_VECTORS, FIRST_DEVICE_VECTOR, local_apic};
use crate::memory_map::Range;
use crate::paging::{self, KernelTables, OutOfFrames};
use crate::sync::{Rank, SpinLock};
use core::sync::atomic::{AtomicU32, Ordering};
use quire_core::devices::InterruptMessage;

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

/// Where devices write messages, and where in that address the destination's APIC id stands.
const MESSAGE_ADDRESS: u64 = 0xfee0_0000;
const MESSAGE_DESTINATION_SHIFT: u32 = 12;

/// Redirection entry, upper half: it names an entry of the IOMMU's table, and which (Intel VT-d specification 4.1, 5.1.5.1).
const REMAPPED: u32 = 1 << 16;
const HANDLE_SHIFT: u32 = 17;

/// MADT override flags (ACPI 6.5, table 5.26).
const FLAGS_ACTIVE_LOW: u16 = 0b11;
const FLAGS_LEVEL: u16 = 0b11 << 2;

/// How an input is triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// Once for each change.
    Edge,
    /// As long as it lasts.
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

/// A pin of a controller.
#[derive(Clone, Copy)]
struct Pin {
    controller: u8,
    pin: u32,
    trigger: Trigger,
    active_low: bool,
    /// It interrupts by an entry of the IOMMU's table, of the same number.
    is_remapped: bool,
}

/// How an interrupt comes in.
#[derive(Clone, Copy)]
enum Input {
    Pin(Pin),
    Message,
}

/// One interrupt.
#[derive(Clone, Copy)]
struct Line {
    input: Input,
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

/// All interrupts, by global system interrupt; those that no controller has are messages'.
struct IoApics {
    controllers: [Controller; MAX_IO_APICS],
    lines: [Line; INPUTS],
}

static IO_APICS: SpinLock<IoApics> = SpinLock::new(
    Rank::InterruptController,
    IoApics {
        controllers: [Controller { registers: 0 }; MAX_IO_APICS],
        lines: [Line { input: Input::Message, gate: Gate::Closed }; INPUTS],
    },
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
            if let Some(line) = all.lines.get_mut(gsi) {
                // PCI interrupts are level-triggered and active low, those of the ISA bus edge-triggered and active
                // high.
                let isa = gsi < ISA_INTERRUPTS;
                let trigger = if isa { Trigger::Edge } else { Trigger::Level };
                line.input = Input::Pin(Pin { controller: number, pin, trigger, active_low: !isa, is_remapped: false });
            }
        }
    }
    for wiring in platform.overrides.iter().flatten() {
        if let Some(Line { input: Input::Pin(pin), .. }) = all.lines.get_mut(wiring.gsi as usize) {
            pin.active_low = wiring.flags & FLAGS_ACTIVE_LOW == FLAGS_ACTIVE_LOW;
            pin.trigger = if wiring.flags & FLAGS_LEVEL == FLAGS_LEVEL { Trigger::Level } else { Trigger::Edge };
        }
    }
    Ok(())
}

impl IoApics {
    /// Lets a pin interrupt, or not. A message comes in whatever is done here.
    fn program(&self, gsi: u32, mask: u32) {
        let Some(Line { input: Input::Pin(pin), .. }) = self.lines.get(gsi as usize) else { return };
        pin.program(self.controllers[usize::from(pin.controller)], gsi, mask);
    }
}

impl Pin {
    /// Writes the redirection entry: to the boot processor, fixed delivery.
    fn program(&self, controller: Controller, gsi: u32, mask: u32) {
        let destination = match self.is_remapped {
            true => REMAPPED | gsi << HANDLE_SHIFT,
            false => target() << DESTINATION_SHIFT,
        };
        let vector = u32::from(FIRST_DEVICE_VECTOR) + gsi;
        let trigger = if self.trigger == Trigger::Level { LEVEL } else { 0 };
        let polarity = if self.active_low { ACTIVE_LOW } else { 0 };
        controller.write(REDIRECTION + 2 * self.pin + 1, destination);
        controller.write(REDIRECTION + 2 * self.pin, vector | trigger | polarity | mask);
    }
}

/// Whether there is such an input.
pub(crate) fn exists(gsi: u32) -> bool {
    let all = IO_APICS.lock();
    matches!(all.lines.get(gsi as usize), Some(Line { input: Input::Pin(_), .. }))
}

/// The processor that is interrupted.
pub(crate) fn target() -> u32 {
    BOOT_PROCESSOR.load(Ordering::Relaxed)
}

/// Lets an input, which is masked still, interrupt by an entry of the IOMMU's table; tells what that has to know. `None`: there is no such
/// input.
pub(crate) fn remap(gsi: u32) -> Option<Trigger> {
    let mut all = IO_APICS.lock();
    match all.lines.get_mut(gsi as usize) {
        Some(Line { input: Input::Pin(pin), .. }) => {
            pin.is_remapped = true;
            Some(pin.trigger)
        }
        Some(Line { input: Input::Message, .. }) | None => None,
    }
}

/// The message that raises an interrupt without an input (Intel SDM vol. 3A, 12.11): to the boot processor, fixed delivery, edge. What
/// came in under that number before is forgotten.
pub(crate) fn open_message(number: u32) -> Option<InterruptMessage> {
    let mut all = IO_APICS.lock();
    match all.lines.get_mut(number as usize) {
        Some(line @ Line { input: Input::Message, .. }) => line.gate = Gate::Closed,
        Some(Line { input: Input::Pin(_), .. }) | None => return None,
    }
    let destination = u64::from(target()) << MESSAGE_DESTINATION_SHIFT;
    Some(InterruptMessage { address: MESSAGE_ADDRESS | destination, data: u32::from(FIRST_DEVICE_VECTOR) + number })
}

/// Lets the interrupt come in.
pub(crate) fn unmask(gsi: u32) {
    let mut all = IO_APICS.lock();
    let Some(line) = all.lines.get_mut(gsi as usize) else { return };
    match line.gate {
        Gate::Closed => {
            line.gate = Gate::Open;
            all.program(gsi, 0);
        }
        Gate::Remembering => {
            line.gate = Gate::Due;
            attention::ask();
        }
        Gate::Open | Gate::Due => {}
    }
}

/// Keeps the interrupt from coming in.
pub(crate) fn mask(gsi: u32) {
    let mut all = IO_APICS.lock();
    let Some(line) = all.lines.get_mut(gsi as usize) else { return };
    line.gate = match line.gate {
        Gate::Open | Gate::Closed => Gate::Closed,
        Gate::Remembering | Gate::Due => Gate::Remembering,
    };
    if let Input::Pin(Pin { trigger: Trigger::Level, .. }) = line.input {
        all.program(gsi, MASKED);
    }
}

/// An interrupt came in. Returns whether its driver is to hear of it now.
pub(crate) fn admit(gsi: u32) -> bool {
    let mut all = IO_APICS.lock();
    let Some(line) = all.lines.get_mut(gsi as usize) else { return false };
    match line.gate {
        Gate::Open | Gate::Due => true,
        Gate::Closed | Gate::Remembering => {
            line.gate = Gate::Remembering;
            false
        }
    }
}

/// The next interrupt that came too early and whose driver is now ready for it.
pub(crate) fn take_remembered() -> Option<u32> {
    let mut all = IO_APICS.lock();
    let (gsi, line) = (0u32..).zip(all.lines.iter_mut()).find(|(_, line)| line.gate == Gate::Due)?;
    line.gate = Gate::Open;
    Some(gsi)
}
