//! Interrupts: vectors, the local APIC, the I/O APICs.

pub(crate) mod io_apic;
pub(crate) mod local_apic;
mod pic;

pub(crate) use pic::silence as silence_pic;

/// The first vector of device interrupts; global system interrupt n comes in at this plus n.
pub(crate) const FIRST_DEVICE_VECTOR: u8 = 0x30;
/// The first vector that no device has.
pub(crate) const END_DEVICE_VECTORS: u8 = 0xf0;
/// The local APIC's timer.
pub(crate) const TIMER_VECTOR: u8 = 0xf0;
/// Errors that the local APIC finds.
pub(crate) const ERROR_VECTOR: u8 = 0xf1;
/// Another processor has given this one something to run.
pub(crate) const RESCHEDULE_VECTOR: u8 = 0xf2;
/// Another processor asks for something ([`crate::cpu::requests`]).
pub(crate) const REQUEST_VECTOR: u8 = 0xf3;
/// A device was refused memory.
pub(crate) const DEVICE_FAULT_VECTOR: u8 = 0xf4;
/// Interrupts that vanished before they were delivered; not to be acknowledged.
pub(crate) const SPURIOUS_VECTOR: u8 = 0xff;

/// What an interrupt's vector means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A device, by its global system interrupt.
    Device(u32),
    /// The local APIC's timer.
    Timer,
    /// An error that the local APIC reports.
    LocalApicError,
    /// Another processor, which wants this one to look whom to run.
    Processor,
    /// An IOMMU, which refused a device.
    DeviceFault,
    /// Nothing.
    Spurious,
}

impl Source {
    /// Who interrupts with this vector.
    pub(crate) const fn of(vector: u8) -> Self {
        match vector {
            FIRST_DEVICE_VECTOR..END_DEVICE_VECTORS => Self::Device((vector - FIRST_DEVICE_VECTOR) as u32),
            TIMER_VECTOR => Self::Timer,
            ERROR_VECTOR => Self::LocalApicError,
            RESCHEDULE_VECTOR | REQUEST_VECTOR => Self::Processor,
            DEVICE_FAULT_VECTOR => Self::DeviceFault,
            _ => Self::Spurious,
        }
    }
}
