//! The two 8259 interrupt controllers of the PC, which are not used.

use x86_64::instructions::port::Port;

const MASTER_COMMAND: u16 = 0x20;
const MASTER_DATA: u16 = 0x21;
const SLAVE_COMMAND: u16 = 0xa0;
const SLAVE_DATA: u16 = 0xa1;

/// ICW1: initialise, four words.
const INITIALISE: u8 = 0x11;
/// Vectors away from the processor's exceptions, in case a spurious one slips through.
const MASTER_VECTOR: u8 = 0x20;
const SLAVE_VECTOR: u8 = 0x28;
/// ICW3: the slave is at input 2.
const SLAVE_INPUT_MASK: u8 = 1 << 2;
const SLAVE_INPUT: u8 = 2;
/// ICW4: 8086 mode.
const MODE_8086: u8 = 0x01;
const MASK_ALL: u8 = 0xff;

/// Masks all their inputs.
pub(crate) fn silence() {
    let sequence = [
        (MASTER_COMMAND, INITIALISE),
        (SLAVE_COMMAND, INITIALISE),
        (MASTER_DATA, MASTER_VECTOR),
        (SLAVE_DATA, SLAVE_VECTOR),
        (MASTER_DATA, SLAVE_INPUT_MASK),
        (SLAVE_DATA, SLAVE_INPUT),
        (MASTER_DATA, MODE_8086),
        (SLAVE_DATA, MODE_8086),
        (MASTER_DATA, MASK_ALL),
        (SLAVE_DATA, MASK_ALL),
    ];
    for (port, value) in sequence {
        // SAFETY: these are the registers of the interrupt controllers, which nobody else uses; interrupts are off.
        unsafe { Port::new(port).write(value) };
    }
}
