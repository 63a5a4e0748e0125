//! What the core needs from the machine besides memory: clock, interrupts, ports, log, entropy, vector state.
//!
//! The counterpart of [`crate::machine::Machine`]; the kernel implements both on one type, the tests with a mock.

use crate::machine::{Frame, Machine};
use crate::pool::Id;
use crate::thread::{Thread, VectorBlock};
use core::fmt;
use quire_abi::system::{HardwareInfo, Shutdown};

/// How wide one access to an I/O port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortWidth {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Double,
}

impl PortWidth {
    /// The width of this many bytes, if there is one.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Double),
            _ => None,
        }
    }

    /// How many bytes it is.
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Double => 4,
        }
    }
}

/// An entry of the tables by which a device's addresses are translated; like a page table's, but a device's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceEntry {
    /// The device is refused.
    #[default]
    Absent,
    /// The next lower table.
    Table(Frame),
    /// A page (lowest level only).
    Page {
        /// The frame that the device finds there.
        frame: Frame,
        /// Whether it may write.
        write: bool,
    },
}

/// What a device writes to raise an interrupt (PCI Local Bus 3.0, 6.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptMessage {
    /// Where.
    pub address: u64,
    /// What.
    pub data: u32,
}

/// How important a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is suspicious.
    Warn,
    /// Something to know.
    Info,
    /// For those who look for a mistake.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level with this number in the object API (`log_write`: 1 error to 5 trace).
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Error),
            2 => Some(Self::Warn),
            3 => Some(Self::Info),
            4 => Some(Self::Debug),
            5 => Some(Self::Trace),
            _ => None,
        }
    }
}

/// How user space gets the time from the time-stamp counter; see [`quire_abi::system::SystemInfo`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockParameters {
    /// Counter at the kernel's start.
    pub tsc_base: u64,
    /// Multiplier.
    pub tsc_multiplier: u64,
    /// Right shift after the multiplication.
    pub tsc_shift: u64,
    /// Unix time at the kernel's start, in ns.
    pub boot_unix_ns: u64,
}

/// The devices that the kernel itself drives.
pub trait Devices {
    /// Time since the kernel's start, in ns.
    fn now_ns(&self) -> u64;

    /// How user space computes [`Devices::now_ns`] by itself.
    fn clock_parameters(&self) -> ClockParameters;

    /// Processors that run threads.
    fn processors(&self) -> u32;

    /// Interrupts those of the processors that are in the set (by number), so that they ask whom to run.
    fn interrupt_processors(&mut self, processors: u64);

    /// Makes another processor leave user mode before it returns, whatever it runs there: its registers are saved then, and
    /// it asks whom to run before it goes on.
    fn expel(&mut self, processor: usize);

    /// Whether the interrupt controller has an input of this number that a driver may own.
    fn interrupt_exists(&self, gsi: u32) -> bool;

    /// Makes interrupt `number` one that the device `requester` raises by writing a message, if this machine has such a number free of
    /// inputs of the interrupt controller; it starts masked, and nothing is remembered. Tells the message.
    fn open_message(&mut self, number: u32, requester: u16) -> Option<InterruptMessage>;

    /// Nobody has the interrupt of that message any more: it comes in no longer, where that can be had.
    fn close_message(&mut self, number: u32);

    /// How many levels the tables have by which devices' addresses are translated, 9 bits each; `None` if nothing confines devices here,
    /// and they use physical addresses.
    fn device_table_levels(&self) -> Option<u32>;

    /// Reads an entry of such a table.
    fn read_device_entry(&self, table: Frame, index: usize) -> DeviceEntry;

    /// Writes one.
    fn write_device_entry(&mut self, table: Frame, index: usize, entry: DeviceEntry);

    /// Whether attaching the device takes a zeroed frame for the machine's own tables, for good.
    fn wants_frame_to_attach(&self, requester: u16) -> bool;

    /// Lets a device find memory by the tables under `root`, as the domain with this number (not 0), and in no other way. `false`: the
    /// machine has no such number.
    fn attach_device(&mut self, requester: u16, domain: u16, root: Frame, frame: Option<Frame>) -> bool;

    /// Lets a device find nothing any more, before it returns, and forgets what was cached of its domain.
    fn detach_device(&mut self, requester: u16, domain: u16);

    /// Whether the machine may have cached that an entry is absent, so that [`Devices::forget_device_entries`] is needed for new ones.
    fn caches_absent_device_entries(&self) -> bool;

    /// Makes sure that no device uses cached entries of a domain, and that what was under way by them is done, before it returns.
    fn forget_device_entries(&mut self, domain: u16);

    /// Where devices are found, and whether they are confined.
    fn hardware_info(&self) -> HardwareInfo;

    /// Keeps the interrupt from coming in. It starts masked.
    fn mask_interrupt(&mut self, gsi: u32);

    /// Lets the interrupt come in.
    fn unmask_interrupt(&mut self, gsi: u32);

    /// Reads a port.
    fn read_port(&mut self, port: u16, width: PortWidth) -> u32;

    /// Writes a port.
    fn write_port(&mut self, port: u16, width: PortWidth, value: u32);

    /// Writes a line to the log. `origin` is the name of the thread that wrote it. The text is not trusted to be UTF-8.
    fn log(&mut self, level: LogLevel, origin: &str, text: &[u8]);

    /// Writes a line of a dump to the log.
    fn dump_line(&mut self, line: fmt::Arguments<'_>);

    /// Fills `into` with unpredictable bytes.
    fn entropy(&mut self, into: &mut [u8]);

    /// Ends the machine. Returns only in tests.
    fn shutdown(&mut self, how: Shutdown);

    /// Makes sure that no processor uses the page tables under this root any more when it returns. The space may be
    /// about to go; a processor that has it loaded, if only while in the kernel, loads the kernel's own.
    fn leave_root(&mut self, root: Frame);

    /// Size of a thread's XSAVE image in bytes (Intel SDM vol. 1, 13.2), a multiple of 64; 0 if there is none.
    fn vector_state_bytes(&self) -> u32;

    /// Makes `area` the image of the initial state.
    fn init_vector_state(&self, area: &mut [VectorBlock]);

    /// Whether the processor would load this image without a fault (reserved bits of the header and of MXCSR,
    /// Intel SDM vol. 1, 13.8.1).
    fn vector_state_is_valid(&self, area: &[VectorBlock]) -> bool;

    /// Brings `area`, the image of a thread that isn't running, up to date if a processor still holds its registers.
    fn flush_vector_state(&mut self, thread: Id<Thread>, area: &mut [VectorBlock]);

    /// The image of the thread was changed, or the thread ended: what a processor still holds of it is stale. Comes before the
    /// image's memory is freed.
    fn forget_vector_state(&mut self, thread: Id<Thread>);

    /// The thread with which this processor entered the kernel, which is still alive, hands it over to this one: what belongs to
    /// it can be loaded now, while it is at hand. [`crate::kernel::Kernel::next_thread`] will name it.
    fn switch_to(&mut self, thread: Id<Thread>, record: &mut Thread);
}

/// A whole machine.
pub trait Hardware: Machine + Devices {}

impl<T: Machine + Devices> Hardware for T {}
