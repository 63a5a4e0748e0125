//! The end: switching the machine off, or telling the test harness first.

use crate::firmware::Platform;
use core::sync::atomic::{AtomicU16, Ordering};
use quire_abi::system::Shutdown;
use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

/// QEMU's `isa-debug-exit`: a byte written here ends it with status `byte * 2 + 1`. On other machines nobody listens.
const DEBUG_EXIT_PORT: u16 = 0xf4;
/// Status 33.
const EXIT_SUCCESS: u8 = 0x10;
/// Status 35.
const EXIT_FAILURE: u8 = 0x11;
/// The keyboard controller's command port, and its command that pulses the reset line.
const KEYBOARD_PORT: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;
/// In the power-management control register: go to sleep (ACPI 6.5, 4.8.3.2.1).
const SLEEP_ENABLE: u16 = 1 << 13;

static PM_CONTROL: AtomicU16 = AtomicU16::new(0);
static SOFT_OFF: AtomicU16 = AtomicU16::new(0);

/// Notes how this machine is switched off.
pub(crate) fn init(platform: &Platform) {
    PM_CONTROL.store(platform.pm_control.unwrap_or(0), Ordering::Relaxed);
    SOFT_OFF.store(platform.soft_off_type | SLEEP_ENABLE, Ordering::Relaxed);
}

/// Ends the machine.
pub(crate) fn shutdown(how: Shutdown) -> ! {
    match how {
        Shutdown::PowerOff => switch_off(EXIT_SUCCESS),
        Shutdown::Failure => switch_off(EXIT_FAILURE),
        Shutdown::Reset => {
            // SAFETY: resetting is what is wanted.
            unsafe { Port::new(KEYBOARD_PORT).write(PULSE_RESET) };
            halt()
        }
    }
}

fn switch_off(status: u8) -> ! {
    // SAFETY: the port is the debug exit or nothing; ending the machine is what is wanted.
    unsafe { Port::new(DEBUG_EXIT_PORT).write(status) };
    let port = PM_CONTROL.load(Ordering::Relaxed);
    if port != 0 {
        // SAFETY: the firmware says that the power-management control register is here.
        unsafe { Port::new(port).write(SOFT_OFF.load(Ordering::Relaxed)) };
    }
    halt()
}

fn halt() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}
