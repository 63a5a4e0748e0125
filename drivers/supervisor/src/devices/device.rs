//! A device and what its driver gets of it.

use super::spaces::Spaces;
use crate::loader::Program;
use crate::machine::{DEVICE_RIGHTS, SERVE_RIGHTS};
use crate::watch::Watcher;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use driver_protocol::purpose::{self, MAX_MESSAGES};
use futures_util::future::{AbortHandle, abortable};
use log::{error, warn};
use pci::message::{self, Message, Msi, MsiX};
use pci::windows::{Place, Window, windows};
use pci::{Command, ConfigurationSpaces as _, Function};
use quire_api::abi::space::PAGE_SIZE;
use quire_api::{
    ChannelEndpoint, DmaSpace, Error, Event, Interrupt, Memory, MemoryFlags, Object, RegisterWindow, Rights, Thread, rt,
};
use virtio::pci::Layout;

/// What a driver may do with its DMA space, and with its windows.
const SPACE_RIGHTS: Rights = Rights::WRITE;
const WINDOW_RIGHTS: Rights = Rights::READ.union(Rights::WRITE).union(Rights::MAP);
/// The bit of an event that says that a device was refused memory.
const ASTRAY: u64 = 1;

/// The register that stops a virtio device when 0 is written, counted from the common ones, and how often it is asked whether it has.
const VIRTIO_STATUS: usize = 20;
const STOP_LOOKS: usize = 100_000;

/// The class of NVMe controllers, and the registers by which one is disabled and says that it is.
pub(super) const NVME_CLASS: u32 = 0x01_08_02;
const NVME_CONFIGURATION: usize = 0x14;
const NVME_STATUS: usize = 0x1c;

/// How a device is stopped.
enum Stop {
    /// By a 0 in the register that tells its status.
    Virtio { status: usize },
    /// By a 0 in its configuration; the status then says that it is not ready.
    Nvme,
}

impl Stop {
    fn tell(&self, window: &RegisterWindow) -> Result<(), Error> {
        match self {
            Self::Virtio { status } => window.write8(*status, 0),
            Self::Nvme => window.write32(NVME_CONFIGURATION, 0),
        }
    }

    fn is_stopped(&self, window: &RegisterWindow) -> Result<bool, Error> {
        match self {
            Self::Virtio { status } => Ok(window.read8(*status)? == 0),
            Self::Nvme => Ok(window.read32(NVME_STATUS)? & 1 == 0),
        }
    }
}

/// A function that has a driver.
pub(super) struct Device {
    spaces: Rc<Spaces>,
    watcher: Watcher,
    function: Function,
    /// Its windows in memory, by the numbers of their base address registers.
    windows: Vec<(u8, Memory)>,
    /// A copy of its configuration space.
    configuration: Memory,
    messages: Vec<Interrupt>,
    /// Where the table of its messages lies: the base address register, and from which byte on.
    table: Option<(u8, u64)>,
    /// What stops it, as far as that is known.
    stop: Option<(RegisterWindow, Stop)>,
    /// Of the present driver.
    space: RefCell<Option<DmaSpace>>,
    /// Ends the present driver should its device go astray.
    watch: RefCell<Option<AbortHandle>>,
    server_end: ChannelEndpoint,
}

impl Device {
    /// Looks at a function of a class and sets its interrupts up.
    pub(super) fn new(
        watcher: &Watcher,
        spaces: &Rc<Spaces>,
        (function, class): (Function, u32),
        server_end: ChannelEndpoint,
    ) -> Result<Self, Error> {
        let account = rt::account()?;
        let mut memories = Vec::new();
        for Window { bar, place } in windows(&**spaces, function) {
            if let Place::Memory { address, len_bytes, .. } = place {
                // What is smaller may share its page with another device.
                if address == 0 || len_bytes < PAGE_SIZE {
                    warn!("{function}: window {bar} has no address, or no pages of its own: left out");
                    continue;
                }
                let flags = MemoryFlags::UNCACHED;
                memories.push((bar, Memory::create_physical(&watcher.hardware, account, address, len_bytes, flags)?));
            }
        }
        let configuration = Memory::create(account, PAGE_SIZE)?;
        let words = (0..spaces.len_bytes()).step_by(4).map(|offset| spaces.read(function, offset).to_le_bytes());
        let bytes: Vec<u8> = words.flatten().collect();
        configuration.write_all(0, &bytes)?;
        let answers = Command::MEMORY | Command::NO_INTERRUPT_LINE;
        Command::change(&**spaces, function, answers, Command::BUS_MASTER);
        let mut device = Self {
            spaces: spaces.clone(),
            watcher: watcher.clone(),
            function,
            windows: memories,
            configuration,
            messages: Vec::new(),
            table: None,
            stop: None,
            space: RefCell::default(),
            watch: RefCell::default(),
            server_end,
        };
        device.set_up_messages()?;
        device.stop = device.find_stop(&bytes, class)?;
        Ok(device)
    }

    /// What stops a device with this configuration space and class.
    fn find_stop(&self, configuration: &[u8], class: u32) -> Result<Option<(RegisterWindow, Stop)>, Error> {
        let (bar, stop) = match Layout::parse(configuration) {
            Some(layout) => (layout.common.bar, Stop::Virtio { status: layout.common.offset as usize + VIRTIO_STATUS }),
            None if class == NVME_CLASS => (0, Stop::Nvme),
            None => return Ok(None),
        };
        Ok(self.map(bar)?.map(|(window, _)| (window, stop)))
    }

    /// Maps one of its windows, if it has that; its size in bytes.
    fn map(&self, bar: u8) -> Result<Option<(RegisterWindow, u64)>, Error> {
        let Some((_, memory)) = self.windows.iter().find(|(window, _)| *window == bar) else { return Ok(None) };
        let len_bytes = memory.info()?.size;
        Ok(Some((RegisterWindow::map(memory, 0, len_bytes)?, len_bytes)))
    }

    /// Makes interrupts, and has the device raise them by messages.
    fn set_up_messages(&mut self) -> Result<(), Error> {
        let Some(msi_x) = MsiX::find(&*self.spaces, self.function) else { return self.set_up_message() };
        let Some((table, _)) = self.map(msi_x.bar)? else { return Ok(()) };
        self.table = Some((msi_x.bar, msi_x.table_offset));
        msi_x.prepare(&*self.spaces);
        for number in 0..msi_x.entries.min(MAX_MESSAGES) {
            let interrupt = self.watcher.hardware.message_interrupt(rt::account()?, self.function.0)?;
            let (address, data) = interrupt.message()?;
            let base = msi_x.table_offset + u64::from(number) * message::ENTRY_BYTES;
            let words = message::entry(Message { address, data });
            for (offset, word) in words.into_iter().chain([message::UNMASK]) {
                table.write32((base + offset) as usize, word)?;
            }
            self.messages.push(interrupt);
        }
        msi_x.enable(&*self.spaces);
        Ok(())
    }

    /// The same for a device that can raise one only, without a table.
    fn set_up_message(&mut self) -> Result<(), Error> {
        let Some(msi) = Msi::find(&*self.spaces, self.function) else { return Ok(()) };
        let interrupt = self.watcher.hardware.message_interrupt(rt::account()?, self.function.0)?;
        let (address, data) = interrupt.message()?;
        if msi.enable(&*self.spaces, Message { address, data }) {
            self.messages.push(interrupt);
        }
        Ok(())
    }

    /// Gives a driver the objects of the device, which does nothing any more for the driver before.
    pub(super) fn hand_over(&self, program: &mut Program) -> Result<(), Error> {
        let account = rt::account()?;
        self.stop()?;
        // Unpins all that the driver before had pinned.
        self.watch.take().as_ref().map(AbortHandle::abort);
        self.space.take();
        let space = self.watcher.hardware.dma_space(account, self.function.0)?;
        program.give(purpose::DMA, &space, SPACE_RIGHTS)?;
        *self.watch.borrow_mut() = Some(self.watch_device(&space, program.thread().duplicate(Rights::all())?)?);
        *self.space.borrow_mut() = Some(space);
        program.give(purpose::CONFIGURATION, &self.configuration, Rights::READ)?;
        for (bar, memory) in &self.windows {
            match self.table {
                Some((table_bar, from)) if table_bar == *bar => {
                    // Only what lies before the pages of the table.
                    let len_bytes = from - from % PAGE_SIZE;
                    if len_bytes > 0 {
                        program.give(purpose::window(*bar), &memory.window(account, 0, len_bytes)?, WINDOW_RIGHTS)?;
                    }
                }
                Some(_) | None => program.give(purpose::window(*bar), memory, WINDOW_RIGHTS)?,
            }
        }
        for (number, interrupt) in (0..).zip(&self.messages) {
            program.give(purpose::message(number), interrupt, DEVICE_RIGHTS)?;
        }
        program.give(purpose::SERVE, &self.server_end, SERVE_RIGHTS)?;
        Command::change(&*self.spaces, self.function, Command::BUS_MASTER, Command::empty());
        Ok(())
    }

    /// Ends a driver whose device wanted memory that is not mapped for it: the kernel has cut the device off, and a successor begins anew.
    fn watch_device(&self, space: &DmaSpace, driver: Thread) -> Result<AbortHandle, Error> {
        let event = Event::create(rt::account()?)?;
        space.watch(&event, ASTRAY)?;
        let (executor, function) = (self.watcher.executor.clone(), self.function);
        let (watch, handle) = abortable(async move {
            if let Ok(bits) = executor.event_bits(&event, ASTRAY) {
                bits.await;
                error!("{function}: wanted memory that is not its driver's; the driver is ended");
                if let Err(error) = driver.kill() {
                    error!("{function}: its driver can't be ended: {}", error.describe());
                }
            }
        });
        self.watcher.executor.spawn(async move {
            // Aborted when the driver has ended.
            let _ = watch.await;
        });
        Ok(handle)
    }

    /// Has the device end what it does. When this returns it accesses memory no more.
    fn stop(&self) -> Result<(), Error> {
        if let Some((window, stop)) = &self.stop {
            stop.tell(window)?;
            if !(0..STOP_LOOKS).any(|_| stop.is_stopped(window).unwrap_or(true)) {
                warn!("{}: does not stop", self.function);
            }
        }
        Command::change(&*self.spaces, self.function, Command::empty(), Command::BUS_MASTER);
        Ok(())
    }
}
