//! The core's view of everything else: [`Devices`].

use crate::cpu::percpu::{self, PerCpu};
use crate::cpu::requests::{self, Request};
use crate::hardware::Hardware;
use crate::interrupts::{RESCHEDULE_VECTOR, io_apic, local_apic};
use crate::iommu::{Fault, Iommu};
use crate::logger;
use crate::paging;
use crate::power;
use crate::random;
use crate::time;
use crate::trap::resume;
use crate::vector;
use core::fmt;
use core::sync::atomic::Ordering;
use log::Level;
use quire_abi::system::{HardwareInfo, Shutdown};
use quire_core::devices::{ClockParameters, DeviceEntry, Devices, InterruptMessage, LogLevel, PortWidth};
use quire_core::machine::Frame;
use quire_core::pool::Id;
use quire_core::thread::{Thread, VectorBlock};
use x86_64::instructions::port::Port;

impl Devices for Hardware {
    #[inline(always)]
    fn now_ns(&self) -> u64 {
        time::now_ns()
    }

    fn clock_parameters(&self) -> ClockParameters {
        time::parameters()
    }

    fn processors(&self) -> u32 {
        percpu::count() as u32
    }

    fn interrupt_exists(&self, gsi: u32) -> bool {
        io_apic::exists(gsi)
    }

    fn device_table_levels(&self) -> Option<u32> {
        self.iommu.as_ref().map(Iommu::levels)
    }

    fn read_device_entry(&self, table: Frame, index: usize) -> DeviceEntry {
        self.iommu.as_ref().map_or(DeviceEntry::Absent, |iommu| iommu.read_entry(table, index))
    }

    fn write_device_entry(&mut self, table: Frame, index: usize, entry: DeviceEntry) {
        if let Some(iommu) = &self.iommu {
            iommu.write_entry(table, index, entry);
        }
    }

    fn wants_frame_to_attach(&self, requester: u16) -> bool {
        self.iommu.as_ref().is_some_and(|iommu| iommu.lacks_bus(requester))
    }

    fn attach_device(&mut self, requester: u16, domain: u16, root: Frame, frame: Option<Frame>) -> bool {
        self.iommu.as_ref().is_some_and(|iommu| iommu.attach(requester, domain, root, frame))
    }

    fn detach_device(&mut self, requester: u16, _domain: u16) {
        if let Some(iommu) = &self.iommu {
            iommu.detach(requester);
        }
    }

    fn caches_absent_device_entries(&self) -> bool {
        self.iommu.as_ref().is_some_and(Iommu::caches_absence)
    }

    fn forget_device_entries(&mut self, domain: u16) {
        if let Some(iommu) = &self.iommu {
            iommu.forget(domain);
        }
    }

    fn hardware_info(&self) -> HardwareInfo {
        self.info
    }

    fn open_message(&mut self, number: u32, requester: u16) -> Option<InterruptMessage> {
        let unconfined = io_apic::open_message(number)?;
        let confined = self.iommu.as_ref().and_then(|iommu| iommu.open_message(number, requester));
        Some(confined.unwrap_or(unconfined))
    }

    fn close_message(&mut self, number: u32) {
        if let Some(iommu) = &self.iommu {
            iommu.close_message(number);
        }
    }

    fn mask_interrupt(&mut self, gsi: u32) {
        io_apic::mask(gsi);
    }

    fn unmask_interrupt(&mut self, gsi: u32) {
        io_apic::unmask(gsi);
    }

    fn read_port(&mut self, port: u16, width: PortWidth) -> u32 {
        // SAFETY: the core reads ports only for the holder of an `IoPorts` object, made with hardware authority;
        // the device is that holder's, and what it does to memory is what that authority entails.
        unsafe {
            match width {
                PortWidth::Byte => Port::<u8>::new(port).read().into(),
                PortWidth::Word => Port::<u16>::new(port).read().into(),
                PortWidth::Double => Port::<u32>::new(port).read(),
            }
        }
    }

    fn write_port(&mut self, port: u16, width: PortWidth, value: u32) {
        // SAFETY: as for `read_port`.
        unsafe {
            match width {
                PortWidth::Byte => Port::new(port).write(value as u8),
                PortWidth::Word => Port::new(port).write(value as u16),
                PortWidth::Double => Port::new(port).write(value),
            }
        }
    }

    fn log(&mut self, level: LogLevel, origin: &str, text: &[u8]) {
        let level = match level {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
            LogLevel::Debug => Level::Debug,
            LogLevel::Trace => Level::Trace,
        };
        logger::write_foreign(level, origin, text);
    }

    fn dump_line(&mut self, line: fmt::Arguments<'_>) {
        logger::write_always(line);
    }

    fn entropy(&mut self, into: &mut [u8]) {
        random::fill(into);
    }

    fn shutdown(&mut self, how: Shutdown) {
        power::shutdown(how);
    }

    fn leave_root(&mut self, root: Frame) {
        let loaded = &percpu::current().guarded.loaded_root;
        if loaded.get() == root {
            let kernel = paging::kernel_root();
            // SAFETY: the kernel's own root is never freed.
            unsafe { paging::load_root(kernel) };
            loaded.set(kernel);
            percpu::current().guarded.loaded_thread.set(None);
        }
        if !percpu::is_alone() {
            let uses_it = move |cpu: &&PerCpu| cpu.guarded.loaded_root.get() == root;
            percpu::others().filter(uses_it).for_each(expel_from);
        }
    }

    fn vector_state_bytes(&self) -> u32 {
        vector::image_bytes()
    }

    fn init_vector_state(&self, area: &mut [VectorBlock]) {
        vector::init_image(area);
    }

    fn vector_state_is_valid(&self, area: &[VectorBlock]) -> bool {
        vector::is_valid(area)
    }

    fn flush_vector_state(&mut self, thread: Id<Thread>, area: &mut [VectorBlock]) {
        // With more than one processor, the registers were saved when the thread left its own.
        if percpu::is_alone() && percpu::current().guarded.vector_owner.get() == Some(thread) {
            vector::save(area);
        }
    }

    fn forget_vector_state(&mut self, thread: Id<Thread>) {
        for cpu in percpu::all() {
            let owner = &cpu.guarded.vector_owner;
            if owner.get() == Some(thread) {
                owner.set(None);
            }
        }
    }

    #[inline(always)]
    fn switch_to(&mut self, thread: Id<Thread>, record: &mut Thread) {
        resume::switch(percpu::current(), thread, record);
    }

    fn interrupt_processors(&mut self, processors: u64) {
        for cpu in percpu::others().filter(|cpu| processors >> cpu.number.get() & 1 != 0) {
            local_apic::interrupt(cpu.apic_id.load(Ordering::Relaxed), RESCHEDULE_VECTOR);
        }
    }

    fn expel(&mut self, processor: usize) {
        percpu::others().filter(|cpu| cpu.number.get() as usize == processor).for_each(expel_from);
    }
}

impl Hardware {
    /// A device's access that was refused.
    pub(crate) fn next_device_fault(&self) -> Option<Fault> {
        self.iommu.as_ref().and_then(Iommu::next_fault)
    }

    /// Hears no more of a device that nobody drives; tells whether it is worth a line.
    pub(crate) fn quieten_device(&mut self, requester: u16) -> bool {
        self.iommu.as_mut().is_some_and(|iommu| iommu.quieten(requester))
    }
}

/// Makes another processor leave user mode, and the page tables that it has loaded.
fn expel_from(cpu: &'static PerCpu) {
    requests::ask(core::iter::once(cpu), Request::Leave);
    cpu.guarded.loaded_root.set(paging::kernel_root());
    cpu.guarded.loaded_thread.set(None);
}
