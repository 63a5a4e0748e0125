//! The interrupt descriptor table (Intel SDM vol. 3A, 6.14.1) and the registers that route `syscall` (vol. 3A, 5.8.8).

use crate::cpu::gdt::{self, ExceptionStack};
use crate::trap::entry;
use core::cell::UnsafeCell;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::registers::model_specific::{Efer, EferFlags, LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;
use x86_64::structures::DescriptorTablePointer;

const VECTORS: usize = 256;
/// Present, interrupt gate.
const GATE: u16 = 0x8e00;
/// May be raised by `int n` in user mode.
const USER: u16 = 0x6000;

/// Vectors that need to be told apart here.
mod vector {
    pub(super) const NON_MASKABLE: usize = 2;
    pub(super) const BREAKPOINT: usize = 3;
    pub(super) const OVERFLOW: usize = 4;
    pub(super) const DOUBLE_FAULT: usize = 8;
    pub(super) const MACHINE_CHECK: usize = 18;
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    options: u16,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

impl Gate {
    const ABSENT: Self = Self { offset_low: 0, selector: 0, options: 0, offset_middle: 0, offset_high: 0, reserved: 0 };

    fn new(address: u64) -> Self {
        Self {
            offset_low: address as u16,
            selector: gdt::KERNEL_CODE,
            options: GATE,
            offset_middle: (address >> 16) as u16,
            offset_high: (address >> 32) as u32,
            reserved: 0,
        }
    }

    fn open_to_user_mode(self) -> Self {
        Self { options: self.options | USER, ..self }
    }

    fn on_stack(self, stack: ExceptionStack) -> Self {
        Self { options: self.options | (stack as u16 + 1), ..self }
    }
}

#[repr(C, align(16))]
struct Table(UnsafeCell<[Gate; VECTORS]>);

// SAFETY: written once by `build`, before a second processor runs; then only processors read it.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new([Gate::ABSENT; VECTORS]));

/// Fills the table in. Once, on the boot processor.
pub(crate) fn build() {
    let stubs = entry::trap_stubs as *const () as u64;
    // SAFETY: the table isn't loaded yet and nobody else writes it.
    let gates = unsafe { &mut *TABLE.0.get() };
    for (gate, number) in gates.iter_mut().zip(0u64..) {
        *gate = Gate::new(stubs + number * entry::STUB_BYTES);
    }
    gates[vector::BREAKPOINT] = gates[vector::BREAKPOINT].open_to_user_mode();
    gates[vector::OVERFLOW] = gates[vector::OVERFLOW].open_to_user_mode();
    gates[vector::NON_MASKABLE] = Gate::new(entry::nmi_entry as *const () as u64).on_stack(ExceptionStack::NonMaskable);
    gates[vector::DOUBLE_FAULT] =
        Gate::new(entry::double_fault_entry as *const () as u64).on_stack(ExceptionStack::DoubleFault);
    gates[vector::MACHINE_CHECK] =
        Gate::new(entry::machine_check_entry as *const () as u64).on_stack(ExceptionStack::MachineCheck);
}

/// Loads the table on this processor and routes `syscall`. The segments must be loaded.
pub(crate) fn load() {
    let pointer =
        DescriptorTablePointer { limit: (size_of::<Table>() - 1) as u16, base: VirtAddr::from_ptr(TABLE.0.get()) };
    let mask = RFlags::INTERRUPT_FLAG
        | RFlags::DIRECTION_FLAG
        | RFlags::TRAP_FLAG
        | RFlags::ALIGNMENT_CHECK
        | RFlags::NESTED_TASK;
    // SAFETY: the table is complete and static, its gates lead to the entry code; `syscall` loads the kernel's
    // segments and `sysretq` the user's by the layout of the descriptor table, and enters with the masked flags
    // clear.
    unsafe {
        lidt(&pointer);
        Star::write_raw(gdt::KERNEL_DATA | 3, gdt::KERNEL_CODE);
        LStar::write(VirtAddr::from_ptr(entry::syscall_entry as *const ()));
        SFMask::write(mask);
        Efer::update(|efer| efer.insert(EferFlags::SYSTEM_CALL_EXTENSIONS));
    }
}
