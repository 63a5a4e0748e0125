//! The devices on PCI: each that there is a driver for gets one, which is handed the objects of its device and nothing else.
//!
//! **A driver that ends** leaves a device behind that may still write to memory. So before anything of it is let go, the device is
//! stopped and may access memory no longer; then its DMA space goes, which unpins what the dead driver had pinned; and the successor is
//! given a new one.
//!
//! **What a driver is not given**: the configuration space, but for a copy to read, and the table of its device's interrupt messages. With
//! that it could have the device write anywhere.

use crate::disks::Disks;
use crate::loader::{Files, Program};
use crate::machine::{DEVICE_RIGHTS, DRIVER_LIMITS, SERVE_RIGHTS};
use crate::successors::{self, Legacy};
use crate::watch::Watcher;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::cell::RefCell;
use driver_protocol::purpose::{self, MAX_MESSAGES};
use driver_protocol::supervisor::DiskName;
use log::{error, info, warn};
use pci::message::{self, Message, MsiX};
use pci::windows::{Place, Window, windows};
use pci::{CONFIGURATION_BYTES, Command, ConfigurationSpaces, Function, Header};
use quire_api::abi::space::PAGE_SIZE;
use quire_api::{
    ChannelEndpoint, DmaSpace, Error, Interrupt, IoPorts, Memory, MemoryFlags, RegisterWindow, Rights, rt,
};
use supervisor::plan::{VIRTIO_BLK, disk_letters};
use virtio::pci::{Kind, Layout};

/// The ports by which configuration spaces are accessed (PCI 3.0, 3.2.2.3.2): an address, then what is there.
const CONFIGURATION_PORTS: u16 = 0xcf8;
const CONFIGURATION_PORT_COUNT: u16 = 8;
const CONFIGURATION_DATA: u16 = 4;
const CONFIGURATION_ENABLE: u32 = 1 << 31;

/// What a driver may do with its DMA space, and with its windows.
const SPACE_RIGHTS: Rights = Rights::READ.union(Rights::WRITE);
const WINDOW_RIGHTS: Rights = Rights::READ.union(Rights::WRITE).union(Rights::MAP);

/// The register that stops a virtio device when 0 is written, counted from the common ones, and how often it is asked whether it has.
const VIRTIO_STATUS: usize = 20;
const STOP_LOOKS: usize = 100_000;

/// Configuration spaces by ports: of each the first 256 bytes.
struct Spaces(IoPorts);

impl Spaces {
    fn select(&self, function: Function, offset: u16) -> Result<(), Error> {
        let address = CONFIGURATION_ENABLE | u32::from(function.0) << 8 | u32::from(offset & 0xfc);
        self.0.write(0, 4, address)
    }
}

impl ConfigurationSpaces for Spaces {
    fn read(&self, function: Function, offset: u16) -> u32 {
        let is_there = offset < CONFIGURATION_BYTES && self.select(function, offset).is_ok();
        if is_there { self.0.read(CONFIGURATION_DATA, 4).unwrap_or(!0) } else { !0 }
    }

    fn write(&self, function: Function, offset: u16, value: u32) {
        if let Err(error) = self.select(function, offset).and_then(|()| self.0.write(CONFIGURATION_DATA, 4, value)) {
            warn!("{function}: {}", error.describe());
        }
    }
}

/// Starts drivers.
struct Manager<'a> {
    watcher: &'a Watcher,
    files: Files,
    disks: &'a Rc<Disks>,
    spaces: Rc<Spaces>,
    arguments: &'a str,
}

/// Starts a driver for each disk that there is.
pub(crate) fn begin(watcher: &Watcher, files: Files, disks: &Rc<Disks>, arguments: &str) -> Result<(), Error> {
    let ports = watcher.hardware.io_ports(rt::account()?, CONFIGURATION_PORTS, CONFIGURATION_PORT_COUNT)?;
    let manager = Manager { watcher, files, disks, spaces: Rc::new(Spaces(ports)), arguments };
    let mut names = disk_letters();
    for (function, header) in pci::scan(&*manager.spaces, 0, u8::MAX) {
        info!("{function}: {:04x}:{:04x}, class {:06x}", header.vendor, header.device, header.class);
        let Some(path) = driver_of(&header) else { continue };
        let Some(name) = names.next().and_then(|name| DiskName::new(&name)) else { break };
        if let Err(reason) = manager.start(function, path, name) {
            error!("{function}: {reason}");
        }
    }
    disks.all_added();
    Ok(())
}

/// The program that drives such a function, if there is one.
fn driver_of(header: &Header) -> Option<&'static str> {
    (Kind::of(header.vendor, header.device) == Some(Kind::BLOCK)).then_some(VIRTIO_BLK)
}

impl Manager<'_> {
    /// Starts a disk's driver, and another whenever it ends.
    fn start(&self, function: Function, path: &'static str, name: DiskName) -> Result<(), String> {
        let failed = |error: Error| error.describe().to_string();
        let (server_end, client_end) = rt::account().and_then(ChannelEndpoint::pair).map_err(failed)?;
        let device = Device::new(self.watcher, &self.spaces, function, server_end).map_err(failed)?;
        let disks = self.disks.clone();
        let hand_over = Box::new(move |program: &mut Program| {
            device.hand_over(program)?;
            disks.driver_begins(name);
            Ok(())
        });
        let (arguments, is_finished) = (String::from(self.arguments), Rc::default());
        let legacy = Legacy { path, limits: DRIVER_LIMITS, hand_over, arguments, is_finished };
        successors::keep_alive(self.watcher, self.files, legacy)?;
        self.disks.add(name, client_end);
        Ok(())
    }
}

/// A function that has a driver.
struct Device {
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
    /// Of a virtio device: the register that stops it.
    status: Option<(RegisterWindow, usize)>,
    /// Of the present driver.
    space: RefCell<Option<DmaSpace>>,
    server_end: ChannelEndpoint,
}

impl Device {
    /// Looks at a function and sets its interrupts up.
    fn new(
        watcher: &Watcher,
        spaces: &Rc<Spaces>,
        function: Function,
        server_end: ChannelEndpoint,
    ) -> Result<Self, Error> {
        let account = rt::account()?;
        let mut memories = Vec::new();
        for Window { bar, place } in windows(&**spaces, function) {
            if let Place::Memory { address, len_bytes, .. } = place
                && address != 0
                && len_bytes >= PAGE_SIZE
            {
                let flags = MemoryFlags::UNCACHED;
                memories.push((bar, Memory::create_physical(&watcher.hardware, account, address, len_bytes, flags)?));
            }
        }
        let configuration = Memory::create(account, PAGE_SIZE)?;
        let mut bytes = [0; CONFIGURATION_BYTES as usize];
        for (word, offset) in bytes.as_chunks_mut::<4>().0.iter_mut().zip((0..).step_by(4)) {
            *word = spaces.read(function, offset).to_le_bytes();
        }
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
            status: None,
            space: RefCell::default(),
            server_end,
        };
        device.set_up_messages()?;
        if let Some(layout) = Layout::parse(&bytes)
            && let Some((window, _)) = device.map(layout.common.bar)?
        {
            device.status = Some((window, layout.common.offset as usize + VIRTIO_STATUS));
        }
        Ok(device)
    }

    /// Maps one of its windows, if it has that; its size in bytes.
    fn map(&self, bar: u8) -> Result<Option<(RegisterWindow, u64)>, Error> {
        let Some((_, memory)) = self.windows.iter().find(|(window, _)| *window == bar) else { return Ok(None) };
        let len_bytes = memory.info()?.size;
        Ok(Some((RegisterWindow::map(memory, 0, len_bytes)?, len_bytes)))
    }

    /// Makes interrupts, and has the device raise them by messages.
    fn set_up_messages(&mut self) -> Result<(), Error> {
        let Some(msi_x) = MsiX::find(&*self.spaces, self.function) else { return Ok(()) };
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

    /// Gives a driver the objects of the device, which does nothing any more for the driver before.
    fn hand_over(&self, program: &mut Program) -> Result<(), Error> {
        let account = rt::account()?;
        self.stop()?;
        // Unpins all that the driver before had pinned.
        self.space.take();
        let space = self.watcher.hardware.dma_space(account, self.function.0)?;
        program.give(purpose::DMA, &space, SPACE_RIGHTS)?;
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

    /// Has the device end what it does. When this returns it accesses memory no more.
    fn stop(&self) -> Result<(), Error> {
        if let Some((window, status)) = &self.status {
            window.write8(*status, 0)?;
            let is_stopped = (0..STOP_LOOKS).any(|_| window.read8(*status).is_ok_and(|status| status == 0));
            if !is_stopped {
                warn!("{}: does not stop", self.function);
            }
        }
        Command::change(&*self.spaces, self.function, Command::empty(), Command::BUS_MASTER);
        Ok(())
    }
}
