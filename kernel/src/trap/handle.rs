//! What the kernel does when it is entered, by what entered it.

use crate::cpu::{percpu, requests};
use crate::hardware::Hardware;
use crate::interrupts::{REQUEST_VECTOR, Source, io_apic, local_apic};
use crate::iommu::Fault;
use crate::sync::{Guard, Rank, SpinLock};
use crate::time::timer;
use crate::trap::{entry, resume};
use core::sync::atomic::AtomicU64;
use log::warn;
use quire_abi::thread::ExceptionKind;
use quire_core::kernel::Kernel;
use quire_core::memory::FaultKind;
use quire_core::pool::Id;
use quire_core::thread::{Exception, Thread};
use x86_64::registers::control::Cr2;

/// All objects, and the machine they run on.
pub(crate) struct State {
    /// The objects.
    pub(crate) kernel: Kernel,
    /// The machine.
    pub(crate) hardware: Hardware,
}

/// The object graph. `None` until the first program is made.
pub(crate) static KERNEL: SpinLock<Option<State>> = SpinLock::new(Rank::Kernel, None);

/// How many non-maskable interrupts came in; they are counted and otherwise ignored.
pub(crate) static NMI_COUNT: AtomicU64 = AtomicU64::new(0);

/// Reasons of faults from here on are about interrupts (VT-d 4.1, 7.1.3).
const FIRST_INTERRUPT_REASON: u8 = 0x20;
/// How many faults of devices are looked at for one interrupt; each of them ends those of one device.
const MAX_DEVICE_FAULTS: usize = 256;

/// Vectors of exceptions (Intel SDM vol. 3A, table 6-1).
mod vector {
    pub(super) const DIVIDE: u64 = 0;
    pub(super) const DEBUG: u64 = 1;
    pub(super) const BREAKPOINT: u64 = 3;
    pub(super) const OVERFLOW: u64 = 4;
    pub(super) const BOUND: u64 = 5;
    pub(super) const INVALID_OPCODE: u64 = 6;
    pub(super) const DEVICE_NOT_AVAILABLE: u64 = 7;
    pub(super) const PAGE_FAULT: u64 = 14;
    pub(super) const X87: u64 = 16;
    pub(super) const ALIGNMENT: u64 = 17;
    pub(super) const SIMD: u64 = 19;
    pub(super) const FIRST_INTERRUPT: u64 = 32;
}

/// Bits of a page fault's error code (Intel SDM vol. 3A, 5.7).
mod page_fault {
    pub(super) const WRITE: u64 = 1 << 1;
    pub(super) const RESERVED: u64 = 1 << 3;
    pub(super) const FETCH: u64 = 1 << 4;
}

/// The kernel lock, with the state in it.
pub(crate) struct Locked(Guard<'static, Option<State>>);

impl Locked {
    /// Takes the lock.
    #[inline]
    pub(crate) fn take() -> Self {
        Self(KERNEL.lock())
    }

    /// The state.
    #[inline]
    #[expect(clippy::panic, reason = "entries come from threads, and threads exist only after the state")]
    pub(crate) fn state(&mut self) -> &mut State {
        match self.0.as_mut() {
            Some(state) => state,
            None => panic!("the kernel was entered before it was made"),
        }
    }
}

/// A native system call. Its registers are in the thread's record. Nothing returns here, so that nothing has to be kept for a
/// caller.
pub(crate) extern "C" fn system_call() -> ! {
    let cpu = percpu::current();
    let mut locked = Locked::take();
    let State { kernel, hardware } = locked.state();
    let number = cpu.number.get() as usize;
    let is_loaded = kernel.dispatch(hardware, number) || kernel.goes_on_with(number, cpu.guarded.loaded_thread.get());
    resume::leave(locked, is_loaded)
}

/// An exception or interrupt in user mode. The registers are in the thread's record. A request of another processor is
/// answered without the kernel lock, which that one holds.
pub(crate) extern "C" fn trap(vector: u64, error: u64) -> ! {
    if vector == REQUEST_VECTOR.into() && requests::answer() {
        local_apic::end_of_interrupt();
        entry::resume();
    }
    let mut locked = Locked::take();
    let is_loaded = if vector >= vector::FIRST_INTERRUPT {
        interrupt(locked.state(), vector as u8);
        false
    } else {
        exception(locked.state(), vector, error);
        locked.state().kernel.goes_on_with(cpu_index(), percpu::current().guarded.loaded_thread.get())
    };
    resume::leave(locked, is_loaded)
}

/// The number of this processor, as the core counts.
#[inline]
pub(crate) fn cpu_index() -> usize {
    percpu::current().number.get() as usize
}

/// An interrupt, from user mode or idle.
pub(crate) fn interrupt(state: &mut State, vector: u8) {
    let State { kernel, hardware } = state;
    match Source::of(vector) {
        Source::Device(gsi) => {
            if io_apic::admit(gsi) {
                kernel.on_interrupt(hardware, cpu_index(), gsi);
            }
            local_apic::end_of_interrupt();
        }
        Source::Timer => {
            timer::expired();
            local_apic::end_of_interrupt();
            kernel.on_tick(hardware, cpu_index());
        }
        Source::LocalApicError => {
            warn!("local APIC error {:#x}", local_apic::take_errors());
            local_apic::end_of_interrupt();
        }
        Source::Processor => {
            requests::answer();
            local_apic::end_of_interrupt();
        }
        Source::DeviceFault => {
            device_faults(state);
            local_apic::end_of_interrupt();
        }
        Source::Spurious => {}
    }
}

/// Devices wanted what is not theirs.
fn device_faults(state: &mut State) {
    let State { kernel, hardware } = state;
    for _ in 0..MAX_DEVICE_FAULTS {
        let Some(Fault { requester, address, reason }) = hardware.next_device_fault() else { return };
        let is_driven = kernel.on_device_fault(hardware, cpu_index(), requester, address);
        if is_driven || hardware.quieten_device(requester) {
            let what = match address & 1 {
                _ if reason >= FIRST_INTERRUPT_REASON => "interrupt",
                0 => "reading",
                _ => "writing",
            };
            warn!(
                "device {:02x}:{:02x}.{} is cut off: {what} {:#x} is not for it (reason {reason:#x})",
                requester >> 8,
                requester >> 3 & 0x1f,
                requester & 7,
                address & !1
            );
        }
    }
}

fn exception(state: &mut State, vector: u64, error: u64) {
    state.kernel.enter(cpu_index());
    let Some(thread) = state.kernel.current(cpu_index()) else { return };
    let exception = if vector == vector::PAGE_FAULT {
        match page_fault(state, thread, error) {
            Ok(()) => return,
            Err(exception) => exception,
        }
    } else {
        Exception { kind: kind(vector), address: 0, code: error }
    };
    state.kernel.exception(&mut state.hardware, cpu_index(), thread, exception);
}

fn page_fault(state: &mut State, thread: Id<Thread>, error: u64) -> Result<(), Exception> {
    assert!(error & page_fault::RESERVED == 0, "a page-table entry has reserved bits set");
    let address = Cr2::read_raw();
    let kind = if error & page_fault::FETCH != 0 {
        FaultKind::Execute
    } else if error & page_fault::WRITE != 0 {
        FaultKind::Write
    } else {
        FaultKind::Read
    };
    let State { kernel, hardware } = state;
    kernel.page_fault(hardware, thread, address, kind).map_err(|kind| Exception { kind, address, code: error })
}

/// What user space is told about an exception that is no page fault.
const fn kind(vector: u64) -> ExceptionKind {
    match vector {
        vector::DIVIDE => ExceptionKind::Divide,
        vector::DEBUG => ExceptionKind::Debug,
        vector::BREAKPOINT => ExceptionKind::Breakpoint,
        vector::OVERFLOW => ExceptionKind::Overflow,
        vector::BOUND => ExceptionKind::Bound,
        vector::INVALID_OPCODE => ExceptionKind::Illegal,
        vector::DEVICE_NOT_AVAILABLE => ExceptionKind::NoVectorState,
        vector::X87 | vector::SIMD => ExceptionKind::FloatingPoint,
        vector::ALIGNMENT => ExceptionKind::Alignment,
        // #GP, and the segment exceptions that 64-bit code can hardly raise.
        _ => ExceptionKind::Protection,
    }
}
