//! The registers that all virtio devices on PCI have (virtio 1.2, 4.1.4.3), and how a device is brought up (3.1).

use crate::pci::{Layout, Place};
use crate::{Error, Queue};
use alloc::rc::Rc;
use driver_runtime::{DmaMemory, Part, PciFunction, Register, Registers, Time};
use quire_api::RegisterWindow;

/// The common configuration.
mod register {
    use driver_runtime::Register;

    pub(super) const DEVICE_FEATURE_SELECT: Register<u32> = Register::at(0);
    pub(super) const DEVICE_FEATURE: Register<u32> = Register::at(4);
    pub(super) const DRIVER_FEATURE_SELECT: Register<u32> = Register::at(8);
    pub(super) const DRIVER_FEATURE: Register<u32> = Register::at(12);
    pub(super) const CONFIG_VECTOR: Register<u16> = Register::at(16);
    pub(super) const QUEUE_COUNT: Register<u16> = Register::at(18);
    pub(super) const STATUS: Register<u8> = Register::at(20);
    pub(super) const CONFIG_GENERATION: Register<u8> = Register::at(21);
    pub(super) const QUEUE_SELECT: Register<u16> = Register::at(22);
    pub(super) const QUEUE_SIZE: Register<u16> = Register::at(24);
    pub(super) const QUEUE_VECTOR: Register<u16> = Register::at(26);
    pub(super) const QUEUE_ENABLE: Register<u16> = Register::at(28);
    pub(super) const QUEUE_NOTIFY_OFFSET: Register<u16> = Register::at(30);
    pub(super) const QUEUE_DESCRIPTORS: Register<u32> = Register::at(32);
    pub(super) const QUEUE_AVAILABLE: Register<u32> = Register::at(40);
    pub(super) const QUEUE_USED: Register<u32> = Register::at(48);
}

bitflags::bitflags! {
    /// The device status (virtio 1.2, 2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u8 {
        /// The driver has noticed the device.
        const ACKNOWLEDGE = 1;
        /// The driver knows how to drive it.
        const DRIVER = 2;
        /// The driver is ready.
        const DRIVER_OK = 4;
        /// Both know the same features.
        const FEATURES_OK = 8;
        /// The device can't go on.
        const NEEDS_RESET = 64;
        /// The driver has given up.
        const FAILED = 128;
    }
}

bitflags::bitflags! {
    /// Features, those of all kinds of devices with names (virtio 1.2, 6). The others have bits below 24.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Features: u64 {
        /// Descriptors may be in tables of their own.
        const INDIRECT_DESCRIPTORS = 1 << 28;
        /// Interrupts and notifications are asked for by index.
        const EVENT_INDEX = 1 << 29;
        /// The device is as the specification says since version 1.
        const VERSION_1 = 1 << 32;
        /// The device's accesses to memory pass through an IOMMU, where there is one.
        const ACCESS_PLATFORM = 1 << 33;
        /// Others.
        const _ = !0;
    }
}

/// A vector that stands for "no interrupt".
pub const NO_VECTOR: u16 = 0xffff;
/// What the status reads as where no device answers.
const NO_DEVICE: u8 = 0xff;
/// Between two looks at a device that is being reset, in ns, and how many looks it gets.
const RESET_LOOK_NS: u64 = 1_000_000;
const RESET_LOOKS: u32 = 2000;
/// How often a configuration that changes is read again.
const CONFIG_TRIES: usize = 16;

/// Where a queue is notified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doorbell {
    register: usize,
    queue: u16,
}

/// A device, by its registers.
#[derive(Debug)]
pub struct Device<R> {
    common: Part<R>,
    notify: Part<R>,
    notify_multiplier: u32,
    isr: Option<Part<R>>,
    config: Option<Part<R>>,
}

impl Device<RegisterWindow> {
    /// The device that a driver was given.
    pub fn of(function: &PciFunction) -> Result<Self, Error> {
        let layout = Layout::parse(&function.configuration).ok_or(Error::NotVirtio)?;
        Self::new(&layout, |bar| function.window(bar))
    }
}

impl<R: Registers> Device<R> {
    /// Takes the windows, by the numbers of their base address registers, that hold the registers; does not touch the device yet.
    pub fn new(layout: &Layout, window: impl Fn(u8) -> Option<Rc<R>>) -> Result<Self, Error> {
        let part = |place: Place| {
            let window = window(place.bar).ok_or(Error::NotVirtio)?;
            // More than the window has is not needed.
            let len_bytes = (place.len_bytes as usize).min(window.len_bytes().saturating_sub(place.offset as usize));
            Part::new(&window, place.offset as usize, len_bytes).map_err(|_| Error::NotVirtio)
        };
        Ok(Self {
            common: part(layout.common)?,
            notify: part(layout.notify)?,
            notify_multiplier: layout.notify_multiplier,
            isr: layout.isr.map(part).transpose()?,
            config: layout.device.map(part).transpose()?,
        })
    }

    /// Begins a reset: everything that the device was told is forgotten, and nothing in memory is touched any more when
    /// [`is_reset`](Self::is_reset).
    pub fn reset(&self) -> Result<(), Error> {
        Ok(register::STATUS.write(&self.common, 0)?)
    }

    /// Whether a reset is over. [`Error::Unreachable`] if nothing answers any more.
    pub fn is_reset(&self) -> Result<bool, Error> {
        match register::STATUS.read(&self.common)? {
            0 => Ok(true),
            NO_DEVICE => Err(Error::Unreachable),
            _ => Ok(false),
        }
    }

    /// Resets it, and waits until that is over, but not for ever.
    pub async fn reset_and_wait(&self, time: &impl Time) -> Result<(), Error> {
        self.reset()?;
        for _ in 0..RESET_LOOKS {
            if self.is_reset()? {
                return Ok(());
            }
            time.sleep_until(time.now_ns().saturating_add(RESET_LOOK_NS)).await;
        }
        Err(Error::StuckInReset)
    }

    /// Checks that the device is there and goes on.
    pub fn check(&self) -> Result<(), Error> {
        let status = register::STATUS.read(&self.common)?;
        if status == NO_DEVICE {
            return Err(Error::Unreachable);
        }
        let needs_reset = Status::from_bits_retain(status).contains(Status::NEEDS_RESET);
        if needs_reset { Err(Error::NeedsReset) } else { Ok(()) }
    }

    /// Agrees on features with a device that was reset: those of `demanded`, without which it does not go, and those of `wanted` that
    /// it offers. Version 1 is always demanded.
    pub fn negotiate(&self, demanded: Features, wanted: Features) -> Result<Features, Error> {
        self.set_status(Status::ACKNOWLEDGE)?;
        self.set_status(Status::ACKNOWLEDGE | Status::DRIVER)?;
        let offered = self.offered()?;
        let demanded = demanded | Features::VERSION_1;
        if !offered.contains(demanded) {
            return Err(Error::LacksFeatures);
        }
        // What a device asks for so that its accesses go through the IOMMU must not be declined.
        let agreed = offered & (demanded | wanted | Features::ACCESS_PLATFORM);
        for (half, bits) in [(0, agreed.bits()), (1, agreed.bits() >> u32::BITS)] {
            register::DRIVER_FEATURE_SELECT.write(&self.common, half)?;
            register::DRIVER_FEATURE.write(&self.common, bits as u32)?;
        }
        self.set_status(Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK)?;
        let status = Status::from_bits_retain(register::STATUS.read(&self.common)?);
        if status.contains(Status::FEATURES_OK) { Ok(agreed) } else { Err(Error::RefusesFeatures) }
    }

    fn offered(&self) -> Result<Features, Error> {
        let mut halves = [0; 2];
        for (select, half) in (0..).zip(&mut halves) {
            register::DEVICE_FEATURE_SELECT.write(&self.common, select)?;
            *half = u64::from(register::DEVICE_FEATURE.read(&self.common)?);
        }
        let [low, high] = halves;
        Ok(Features::from_bits_retain(low | high << u32::BITS))
    }

    fn set_status(&self, status: Status) -> Result<(), Error> {
        Ok(register::STATUS.write(&self.common, status.bits())?)
    }

    /// How many queues the device has at most.
    pub fn queue_count(&self) -> Result<u16, Error> {
        Ok(register::QUEUE_COUNT.read(&self.common)?)
    }

    /// How many descriptors a queue may have: a power of two; [`Error::NoQueue`] if there is no such queue.
    pub fn max_queue_size(&self, index: u16) -> Result<u16, Error> {
        register::QUEUE_SELECT.write(&self.common, index)?;
        let size = register::QUEUE_SIZE.read(&self.common)?;
        if size.is_power_of_two() { Ok(size) } else { Err(Error::NoQueue) }
    }

    /// Has the device use a queue, and raise interrupt `vector` for it ([`NO_VECTOR`]: none). To be done between
    /// [`negotiate`](Self::negotiate) and [`start`](Self::start).
    pub fn set_up_queue(&self, index: u16, queue: &Queue<impl DmaMemory>, vector: u16) -> Result<Doorbell, Error> {
        let common = &self.common;
        if self.max_queue_size(index)? < queue.size() {
            return Err(Error::NoQueue);
        }
        register::QUEUE_SIZE.write(common, queue.size())?;
        register::QUEUE_VECTOR.write(common, vector)?;
        if register::QUEUE_VECTOR.read(common)? != vector {
            return Err(Error::NoQueue);
        }
        let places = queue.device_addresses()?;
        let registers = [register::QUEUE_DESCRIPTORS, register::QUEUE_AVAILABLE, register::QUEUE_USED];
        for (register, address) in registers.into_iter().zip(places) {
            register.write(common, address as u32)?;
            register.nth(1).write(common, (address >> u32::BITS) as u32)?;
        }
        let place = usize::from(register::QUEUE_NOTIFY_OFFSET.read(common)?);
        let doorbell = Doorbell { register: place * self.notify_multiplier as usize, queue: index };
        if doorbell.register.saturating_add(size_of::<u16>()) > self.notify.len_bytes() {
            return Err(Error::NotVirtio);
        }
        register::QUEUE_ENABLE.write(common, 1)?;
        Ok(doorbell)
    }

    /// Says which interrupt is raised when the configuration changes ([`NO_VECTOR`]: none).
    pub fn set_config_vector(&self, vector: u16) -> Result<(), Error> {
        register::CONFIG_VECTOR.write(&self.common, vector)?;
        let accepted = register::CONFIG_VECTOR.read(&self.common)?;
        if accepted == vector { Ok(()) } else { Err(Error::NoQueue) }
    }

    /// Lets the device begin.
    pub fn start(&self) -> Result<(), Error> {
        self.set_status(Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK | Status::DRIVER_OK)?;
        self.check()
    }

    /// Tells the device that a queue has something new.
    #[inline]
    pub fn notify(&self, doorbell: Doorbell) -> Result<(), Error> {
        Ok(Register::<u16>::at(doorbell.register).write(&self.notify, doorbell.queue)?)
    }

    /// Takes the reason of an interrupt that is not a message back: whether a queue has something, and whether the configuration
    /// changed.
    pub fn take_interrupt(&self) -> Result<(bool, bool), Error> {
        let isr = self.isr.as_ref().ok_or(Error::NotVirtio)?;
        let reasons = Register::<u8>::at(0).read(isr)?;
        Ok((reasons & 1 != 0, reasons & 2 != 0))
    }

    /// Reads the registers that devices of this kind have, as they were at one time: `read` is called again if they changed meanwhile.
    pub fn config<T>(&self, read: impl Fn(&Part<R>) -> Result<T, Error>) -> Result<T, Error> {
        let config = self.config.as_ref().ok_or(Error::NotVirtio)?;
        for _ in 0..CONFIG_TRIES {
            let before = register::CONFIG_GENERATION.read(&self.common)?;
            let value = read(config)?;
            if register::CONFIG_GENERATION.read(&self.common)? == before {
                return Ok(value);
            }
        }
        Err(Error::NotVirtio)
    }
}

#[cfg(test)]
mod tests;
