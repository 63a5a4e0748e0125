//! A machine made of maps and logs, for the tests.

use crate::devices::{ClockParameters, DeviceEntry, Devices, InterruptMessage, LogLevel, PortWidth};
use crate::machine::{Access, Caching, Entry, Frame, Machine, PAGE_SIZE, TABLE_ENTRIES, table_index};
use crate::pool::Id;
use crate::thread::{Thread, VectorBlock};
use core::fmt;
use quire_abi::system::{Confinement, HardwareInfo, Shutdown};
use std::collections::{BTreeMap, BTreeSet};
use std::string::{String, ToString};
use std::vec::Vec;

/// Size of the mock's vector state.
pub(crate) const VECTOR_BYTES: u32 = 128;
/// The interrupts that the mock has are those below this.
pub(crate) const INTERRUPTS: u32 = 24;
/// As many numbers above them are messages'.
pub(crate) const MESSAGES: u32 = 4;

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct MockMachine {
    frames: BTreeMap<Frame, Vec<u8>>,
    tables: BTreeMap<Frame, BTreeMap<usize, Entry>>,
    /// Whether it confines devices: with tables of three levels.
    pub(crate) has_iommu: bool,
    /// Buses that it has a table for, for good.
    pub(crate) buses: BTreeSet<u16>,
    device_tables: BTreeMap<(Frame, usize), DeviceEntry>,
    /// By requester: domain and root.
    pub(crate) attached: BTreeMap<u16, (u16, Frame)>,
    /// What devices may still have cached: domain, page, frame.
    pub(crate) device_cache: BTreeSet<(u16, u64, Frame)>,
    pub(crate) now_ns: u64,
    pub(crate) unmasked: BTreeSet<u32>,
    pub(crate) ports: BTreeMap<u16, u32>,
    pub(crate) log: Vec<String>,
    pub(crate) left_roots: Vec<Frame>,
    /// Processors that were interrupted; a test takes them out.
    pub(crate) interrupted: u64,
    pub(crate) expelled: Vec<usize>,
    pub(crate) shut_down: Option<Shutdown>,
    /// The thread that was last switched to directly.
    pub(crate) switched_to: Option<Id<Thread>>,
}

impl MockMachine {
    /// The frame that a device finds at an address, and whether it may write; it caches what it found.
    pub(crate) fn device_finds(&mut self, requester: u16, address: u64) -> Option<(Frame, bool)> {
        let (domain, mut table) = *self.attached.get(&requester)?;
        let page = address / PAGE_SIZE;
        for level in (1..3).rev() {
            let DeviceEntry::Table(next) = self.read_device_entry(table, table_index(page, level)) else { return None };
            table = next;
        }
        let DeviceEntry::Page { frame, write } = self.read_device_entry(table, table_index(page, 0)) else {
            return None;
        };
        self.device_cache.insert((domain, page, frame));
        Some((frame, write))
    }

    fn bytes(&mut self, frame: Frame) -> &mut Vec<u8> {
        self.frames.entry(frame).or_insert_with(|| std::vec![0xa5; PAGE_SIZE as usize])
    }
}

impl Machine for MockMachine {
    fn zero_frame(&mut self, frame: Frame) {
        self.bytes(frame).fill(0);
        self.tables.remove(&frame);
        self.device_tables.retain(|(table, _), _| *table != frame);
    }

    fn copy_frame(&mut self, from: Frame, to: Frame) {
        let content = self.bytes(from).clone();
        *self.bytes(to) = content;
    }

    fn read_frame(&self, frame: Frame, offset: usize, into: &mut [u8]) {
        match self.frames.get(&frame) {
            Some(bytes) => into.copy_from_slice(&bytes[offset..offset + into.len()]),
            None => into.fill(0xa5),
        }
    }

    fn write_frame(&mut self, frame: Frame, offset: usize, from: &[u8]) {
        self.bytes(frame)[offset..offset + from.len()].copy_from_slice(from);
    }

    fn copy_bytes(&mut self, from: (Frame, usize), to: (Frame, usize), len: usize) {
        let content = self.bytes(from.0)[from.1..from.1 + len].to_vec();
        self.write_frame(to.0, to.1, &content);
    }

    fn read_entry(&self, table: Frame, index: usize) -> Entry {
        self.tables.get(&table).and_then(|table| table.get(&index)).copied().unwrap_or_default()
    }

    fn write_entry(&mut self, table: Frame, index: usize, entry: Entry) {
        self.tables.entry(table).or_default().insert(index, entry);
    }

    fn copy_table_read_only(&mut self, from: Frame, to: Frame) {
        for index in 0..TABLE_ENTRIES {
            let entry = match self.read_entry(from, index) {
                Entry::Page { frame, access, caching } => {
                    Entry::Page { frame, access: Access { write: false, ..access }, caching }
                }
                entry @ (Entry::Absent | Entry::Table { .. }) => entry,
            };
            self.write_entry(to, index, entry);
        }
    }

    fn take_accessed(&mut self, _root: Frame, _page: u64) -> bool {
        false
    }

    fn init_root(&mut self, _root: Frame) {
        let _ = Caching::WriteBack;
    }

    fn invalidate(&mut self, _root: Frame, _page: u64, _pages: u64) {}
}

impl Devices for MockMachine {
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn clock_parameters(&self) -> ClockParameters {
        ClockParameters { tsc_base: 0, tsc_multiplier: 1, tsc_shift: 0, boot_unix_ns: 0 }
    }

    fn processors(&self) -> u32 {
        1
    }

    fn interrupt_processors(&mut self, processors: u64) {
        self.interrupted |= processors;
    }

    fn expel(&mut self, processor: usize) {
        self.expelled.push(processor);
    }

    fn interrupt_exists(&self, gsi: u32) -> bool {
        gsi < INTERRUPTS
    }

    fn open_message(&mut self, number: u32, requester: u16) -> Option<InterruptMessage> {
        let is_message = (INTERRUPTS..INTERRUPTS + MESSAGES).contains(&number);
        self.mask_interrupt(number);
        is_message.then_some(InterruptMessage { address: 0xfee0_0000 | u64::from(requester), data: number })
    }

    fn close_message(&mut self, number: u32) {
        assert!((INTERRUPTS..INTERRUPTS + MESSAGES).contains(&number));
    }

    fn device_table_levels(&self) -> Option<u32> {
        self.has_iommu.then_some(3)
    }

    fn read_device_entry(&self, table: Frame, index: usize) -> DeviceEntry {
        self.device_tables.get(&(table, index)).copied().unwrap_or_default()
    }

    fn write_device_entry(&mut self, table: Frame, index: usize, entry: DeviceEntry) {
        match entry {
            DeviceEntry::Absent => drop(self.device_tables.remove(&(table, index))),
            DeviceEntry::Table(_) | DeviceEntry::Page { .. } => {
                self.device_tables.insert((table, index), entry);
            }
        }
    }

    fn wants_frame_to_attach(&self, requester: u16) -> bool {
        !self.buses.contains(&(requester >> 8))
    }

    fn attach_device(&mut self, requester: u16, domain: u16, root: Frame, frame: Option<Frame>) -> bool {
        assert!(domain != 0 && (frame.is_some() || !self.wants_frame_to_attach(requester)));
        self.buses.insert(requester >> 8);
        self.attached.insert(requester, (domain, root));
        true
    }

    fn detach_device(&mut self, requester: u16, domain: u16) {
        assert_eq!(self.attached.remove(&requester).map(|(domain, _)| domain), Some(domain));
        self.forget_device_entries(domain);
    }

    fn caches_absent_device_entries(&self) -> bool {
        false
    }

    fn forget_device_entries(&mut self, domain: u16) {
        self.device_cache.retain(|(of, ..)| *of != domain);
    }

    fn hardware_info(&self) -> HardwareInfo {
        let confinement = if self.has_iommu { Confinement::MEMORY } else { Confinement::empty() };
        HardwareInfo { confinement: confinement.bits(), ..HardwareInfo::default() }
    }

    fn mask_interrupt(&mut self, gsi: u32) {
        self.unmasked.remove(&gsi);
    }

    fn unmask_interrupt(&mut self, gsi: u32) {
        self.unmasked.insert(gsi);
    }

    fn read_port(&mut self, port: u16, _width: PortWidth) -> u32 {
        self.ports.get(&port).copied().unwrap_or(u32::MAX)
    }

    fn write_port(&mut self, port: u16, _width: PortWidth, value: u32) {
        self.ports.insert(port, value);
    }

    fn log(&mut self, _level: LogLevel, _origin: &str, text: &[u8]) {
        self.log.push(String::from_utf8_lossy(text).into_owned());
    }

    fn dump_line(&mut self, line: fmt::Arguments<'_>) {
        self.log.push(line.to_string());
    }

    fn entropy(&mut self, into: &mut [u8]) {
        into.fill(4);
    }

    fn shutdown(&mut self, how: Shutdown) {
        self.shut_down = Some(how);
    }

    fn leave_root(&mut self, root: Frame) {
        self.left_roots.push(root);
    }

    fn vector_state_bytes(&self) -> u32 {
        VECTOR_BYTES
    }

    fn init_vector_state(&self, area: &mut [VectorBlock]) {
        area.fill(VectorBlock([1; 64]));
    }

    fn vector_state_is_valid(&self, area: &[VectorBlock]) -> bool {
        area.iter().all(|block| block.0[0] != 0xff)
    }

    fn flush_vector_state(&mut self, _thread: Id<Thread>, _area: &mut [VectorBlock]) {}

    fn forget_vector_state(&mut self, _thread: Id<Thread>) {}

    fn switch_to(&mut self, thread: Id<Thread>, record: &mut Thread) {
        assert_eq!(record.state, crate::thread::State::Running, "who is loaded runs");
        self.switched_to = Some(thread);
    }
}
