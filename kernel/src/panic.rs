//! The kernel's own mistakes: what is printed, and the end.

use crate::cpu::percpu;
use crate::interrupts::local_apic;
use crate::logger::write_panic;
use crate::power;
use crate::trap::entry::KernelFrame;
use crate::trap::handle::KERNEL;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};
use quire_abi::system::Shutdown;
use x86_64::instructions::interrupts;
use x86_64::registers::control::{Cr2, Cr3};
use x86_64::registers::model_specific::GsBase;

/// How deep panics are nested. The entry code for NMI looks at it.
pub(crate) static PANICS: AtomicU32 = AtomicU32::new(0);

/// Whether the kernel is about to end.
pub(crate) fn is_in_progress() -> bool {
    PANICS.load(Ordering::Relaxed) != 0
}

/// First prints the message, then what every thread does, then the end. A panic on the way skips what is left.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    interrupts::disable();
    let depth = PANICS.fetch_add(1, Ordering::Relaxed);
    match depth {
        0 => {
            stop_others();
            write_panic(format_args!("{info}"));
            dump_threads();
        }
        1 => write_panic(format_args!("again while panicking: {info}")),
        _ => {}
    }
    power::shutdown(Shutdown::Failure)
}

/// Stops the other processors, so that nothing changes any more. None can prevent that.
fn stop_others() {
    if !percpu::is_alone() {
        percpu::others().for_each(|cpu| local_apic::interrupt_non_maskable(cpu.apic_id.load(Ordering::Relaxed)));
    }
}

fn dump_threads() {
    // The lock is not waited for: most likely it is held by whoever panicked.
    let state = KERNEL.value_pointer();
    // SAFETY: this processor is the only one that runs (see `stop_others`), and does not go back to whoever holds the lock. What is found may
    // be half changed; then the core's own checks panic once more, which ends the dump.
    let state = unsafe { &mut *state };
    if let Some(state) = state {
        state.kernel.dump(&mut state.hardware);
    }
}

/// An exception in kernel mode, or one that can't be survived. Called by the entry code.
#[expect(clippy::panic, reason = "an exception in kernel mode is a bug of the kernel")]
pub(crate) extern "C" fn kernel_fault(frame: &KernelFrame) -> ! {
    const KERNEL_HALF: u64 = 1 << 63;
    if GsBase::read().as_u64() & KERNEL_HALF == 0 {
        // SAFETY: the exception came after the exit code had given user mode its `gs` base back; the kernel's is
        // needed to go on, and user mode won't be returned to.
        unsafe { core::arch::asm!("swapgs", options(nostack, nomem)) };
    }
    write_panic(format_args!("{}", name(frame.vector)));
    write_panic(format_args!(
        "rip {:016x}  rsp {:016x}  rflags {:08x}  cs {:x}  error {:x}",
        frame.rip, frame.rsp, frame.rflags, frame.cs, frame.error
    ));
    write_panic(format_args!("cr2 {:016x}  cr3 {:016x}", Cr2::read_raw(), Cr3::read_raw().0.start_address()));
    write_panic(format_args!(
        "rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}",
        frame.rax, frame.rbx, frame.rcx, frame.rdx
    ));
    write_panic(format_args!(
        "rsi {:016x}  rdi {:016x}  rbp {:016x}  r8  {:016x}",
        frame.rsi, frame.rdi, frame.rbp, frame.r8
    ));
    write_panic(format_args!(
        "r9  {:016x}  r10 {:016x}  r11 {:016x}  r12 {:016x}",
        frame.r9, frame.r10, frame.r11, frame.r12
    ));
    write_panic(format_args!("r13 {:016x}  r14 {:016x}  r15 {:016x}", frame.r13, frame.r14, frame.r15));
    panic!("exception {} in the kernel", frame.vector)
}

fn name(vector: u64) -> &'static str {
    match vector {
        0 => "division error",
        1 => "debug exception",
        6 => "invalid opcode",
        8 => "double fault: most likely the kernel's stack has overflowed",
        13 => "general protection fault",
        14 => "page fault",
        18 => "machine check",
        _ => "exception",
    }
}
