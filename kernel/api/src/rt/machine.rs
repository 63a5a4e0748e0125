//! The entry point and the panic handler.

use super::initialize;
use crate::thread::exit;
use core::arch::naked_asm;
use core::fmt::Write;
use core::panic::PanicInfo;
use quire_abi::startup::Startup as Record;

unsafe extern "C" {
    /// The main function that `entry!` defines.
    safe fn quire_program_main();
}

/// Where a program starts: `rdi` is the address of its start-up record, the stack is some mapped memory.
#[unsafe(naked)]
// SAFETY: the linker script names this symbol as the entry, and nothing else defines it.
#[unsafe(no_mangle)]
unsafe extern "C" fn _start(record: *const Record) -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "and rsp, -16",
        "call {start}",
        "ud2",
        start = sym start,
    );
}

/// Sets the run-time up, runs the program and ends the thread.
extern "C" fn start(record: *const Record) -> ! {
    // SAFETY: whoever starts a program puts a record there, readable and unchanged while the program starts.
    let record = unsafe { record.as_ref() };
    if record.is_some_and(|record| initialize(record).is_ok()) {
        quire_program_main();
    }
    exit()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Ok(log) = super::log() {
        let mut line = super::logger::Line::new();
        let _ = write!(line, "panic: {info}");
        let _ = log.write(log::Level::Error, line.as_bytes());
    }
    exit()
}
