//! Faults of programs: from an exception message to a signal (`sigaction(2)`, "The siginfo_t argument").

use crate::exec::shim_image::Place;
use crate::platform::{ExceptionKind, Registers, vector_state_bytes};
use crate::process::Thread;
use crate::process::end::end_process;
use crate::process::exhaustion::{self, Fault};
use crate::process::tree::ExitStatus;
use crate::signal::deliver::force;
use crate::signal::frame::Trap;
use crate::signal::leave::{leave_fault, resume_shim, with_context};
use crate::signal::{Details, SI_KERNEL, Signal, SignalInfo};
use crate::vm::SHIM_BASE;
use alloc::rc::Rc;
use alloc::vec;
use linux_raw_sys::general as linux;

/// The trap flag of RFLAGS.
const TRAP_FLAG: u64 = 1 << 8;

/// Numbers of x86 exceptions (Intel SDM vol. 3, 6.3.1).
mod vector {
    pub(super) const DIVIDE: u64 = 0;
    pub(super) const DEBUG: u64 = 1;
    pub(super) const BREAKPOINT: u64 = 3;
    pub(super) const OVERFLOW: u64 = 4;
    pub(super) const BOUND: u64 = 5;
    pub(super) const ILLEGAL: u64 = 6;
    pub(super) const NO_VECTOR: u64 = 7;
    pub(super) const PROTECTION: u64 = 13;
    pub(super) const PAGE_FAULT: u64 = 14;
    pub(super) const FLOATING_POINT: u64 = 16;
    pub(super) const ALIGNMENT: u64 = 17;
}

/// The signal, its `si_code`, and the exception's number, for a kind of fault.
fn signal_of(kind: ExceptionKind) -> (Signal, i32, u64) {
    let (signal, code, number) = match kind {
        ExceptionKind::NotMapped => (Signal::SEGV, linux::SEGV_MAPERR as i32, vector::PAGE_FAULT),
        ExceptionKind::AccessDenied => (Signal::SEGV, linux::SEGV_ACCERR as i32, vector::PAGE_FAULT),
        ExceptionKind::NoData => (Signal::BUS, linux::BUS_ADRERR as i32, vector::PAGE_FAULT),
        ExceptionKind::NoMemory => (Signal::KILL, SI_KERNEL, vector::PAGE_FAULT),
        ExceptionKind::Divide => (Signal::FPE, linux::FPE_INTDIV as i32, vector::DIVIDE),
        ExceptionKind::Debug => (Signal::TRAP, linux::TRAP_TRACE as i32, vector::DEBUG),
        ExceptionKind::Breakpoint => (Signal::TRAP, SI_KERNEL, vector::BREAKPOINT),
        ExceptionKind::Overflow => (Signal::SEGV, SI_KERNEL, vector::OVERFLOW),
        ExceptionKind::Bound => (Signal::SEGV, SI_KERNEL, vector::BOUND),
        ExceptionKind::Illegal => (Signal::ILL, linux::ILL_ILLOPN as i32, vector::ILLEGAL),
        ExceptionKind::Protection => (Signal::SEGV, SI_KERNEL, vector::PROTECTION),
        ExceptionKind::FloatingPoint => (Signal::FPE, linux::FPE_FLTINV as i32, vector::FLOATING_POINT),
        ExceptionKind::Alignment => (Signal::BUS, linux::BUS_ADRALN as i32, vector::ALIGNMENT),
        ExceptionKind::NoVectorState => (Signal::ILL, linux::ILL_ILLOPN as i32, vector::NO_VECTOR),
    };
    (signal, code, number)
}

/// Where FCW, FSW and MXCSR are in an XSAVE image, and by how much MXCSR's masks lie above its flags.
const FCW: usize = 0;
const FSW: usize = 2;
const MXCSR: usize = 24;
const MXCSR_MASK_SHIFT: u32 = 7;

/// Why a floating-point operation has failed: the first of the unmasked flags (Intel SDM vol. 1, 8.5 and 11.5.2).
fn floating_point_code(thread: &Thread) -> i32 {
    let mut image = vec![0; vector_state_bytes()];
    if thread.machine.read_vector_state(&mut image).is_err() {
        return linux::FPE_FLTINV as i32;
    }
    let field = |at: usize| {
        let bytes = image.get(at..at + 2).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
        u32::from(u16::from_le_bytes(bytes.unwrap_or_default()))
    };
    let flags = field(FSW) & !field(FCW) | field(MXCSR) & !(field(MXCSR) >> MXCSR_MASK_SHIFT);
    let code = match flags {
        flags if flags & 0x01 != 0 => linux::FPE_FLTINV,
        flags if flags & 0x04 != 0 => linux::FPE_FLTDIV,
        flags if flags & 0x08 != 0 => linux::FPE_FLTOVF,
        flags if flags & 0x12 != 0 => linux::FPE_FLTUND,
        flags if flags & 0x20 != 0 => linux::FPE_FLTRES,
        _ => linux::FPE_FLTINV,
    };
    code as i32
}

/// The address that `si_addr` tells.
fn address_of(kind: ExceptionKind, address: u64, instruction: u64) -> u64 {
    match kind {
        ExceptionKind::NotMapped | ExceptionKind::AccessDenied | ExceptionKind::NoData | ExceptionKind::NoMemory => {
            address
        }
        ExceptionKind::Divide
        | ExceptionKind::Debug
        | ExceptionKind::Illegal
        | ExceptionKind::FloatingPoint
        | ExceptionKind::NoVectorState => instruction,
        ExceptionKind::Breakpoint
        | ExceptionKind::Overflow
        | ExceptionKind::Bound
        | ExceptionKind::Protection
        | ExceptionKind::Alignment => 0,
    }
}

/// A thread has faulted; it stands still until it is answered.
pub fn raise(thread: &Rc<Thread>, kind: ExceptionKind, address: u64, code: u64) {
    let Ok(registers) = thread.machine.registers() else { return };
    let kind = if kind == ExceptionKind::NoMemory {
        match exhaustion::faulted(thread, address) {
            Fault::Waits => return,
            Fault::IsRefused => ExceptionKind::NoData,
        }
    } else {
        kind
    };
    let shim = &thread.server().shim;
    if kind == ExceptionKind::Debug && pass_over(thread, &registers) {
        return;
    }
    match shim.place(registers.rip) {
        Place::Program => {}
        Place::Store => {
            // A local answer met a bad pointer: the shim asks the server instead, which says so.
            let redirected = Registers { rip: shim.store_failed(), ..registers };
            if thread.machine.set_registers(&redirected).is_ok() {
                // Signals wait for the way out: what stands in the registers is the shim's.
                resume_shim(thread);
                return;
            }
        }
        Place::Shim | Place::Exit => {
            // On the way out the registers can be the program's own mistake: a jump to an address that is none.
            if !is_exit_to_nowhere(thread, &registers) {
                end_process(&thread.process, ExitStatus::Killed { signal: Signal::SEGV, dumped: true });
                return;
            }
        }
    }
    let (signal, si_code, number) = signal_of(kind);
    let si_code = if kind == ExceptionKind::FloatingPoint { floating_point_code(thread) } else { si_code };
    let details = if si_code == SI_KERNEL {
        Details::None
    } else {
        Details::Fault { address: address_of(kind, address, registers.rip) }
    };
    force(thread, SignalInfo { signal, code: si_code, details });
    let page_fault_address = if number == vector::PAGE_FAULT { address } else { 0 };
    leave_fault(thread, Trap { number, code, address: page_fault_address });
}

/// Sees to a single step that is not one of the program's instructions, or for which nobody waits any longer. False: it is one.
///
/// A program with the trap flag set enters the shim with it, where it is taken out: it is among the flags that the call saves. On the way
/// out the flags come before the other registers, so the last steps of the shim are done for it.
fn pass_over(thread: &Rc<Thread>, registers: &Registers) -> bool {
    let untrapped = Registers { rflags: registers.rflags & !TRAP_FLAG, ..*registers };
    match thread.server().shim.place(registers.rip) {
        Place::Program if thread.is_stepping.get() && !thread.is_traced.get() => {
            thread.is_stepping.set(false);
            let _ = thread.machine.set_registers(&untrapped);
            leave_fault(thread, Trap::default());
        }
        Place::Program => return false,
        Place::Shim | Place::Store => {
            let _ = thread.machine.set_registers(&untrapped);
            resume_shim(thread);
        }
        Place::Exit => {
            let _ = thread.machine.set_registers(&with_context(registers, &thread.context()));
            leave_fault(thread, Trap::default());
        }
    }
    true
}

/// A fault of the shim's last jump, whose target came from the program: the program's registers are put in place, so that
/// the signal tells of them.
fn is_exit_to_nowhere(thread: &Rc<Thread>, registers: &Registers) -> bool {
    let context = thread.context();
    let is_own_target = context.rip.wrapping_sub(SHIM_BASE) > u64::from(u32::MAX);
    is_own_target && thread.machine.set_registers(&with_context(registers, &context)).is_ok()
}
