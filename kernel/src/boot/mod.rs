//! From the entry to user mode.

pub(crate) mod entry;
pub(crate) mod frames;
mod processors;
pub(crate) mod start_info;

use crate::cpu::features::Features;
use crate::cpu::gdt;
use crate::cpu::percpu::{self, PerCpu};
use crate::cpu::stacks::{self, Stacks};
use crate::firmware::{self, Platform};
use crate::hardware::Hardware;
use crate::interrupts::{self, io_apic, local_apic};
use crate::iommu::Iommu;
use crate::memory_map::Range;
use crate::paging::{self, KernelTables, OutOfFrames};
use crate::time::{self, CalibrationError};
use crate::trap::entry::call_on_stack;
use crate::trap::handle::{KERNEL, Locked, State};
use crate::trap::{idt, resume};
use crate::{direct_map, heap, logger, power, random, start, vector};
use acpi::AcpiError;
use core::fmt;
use frames::BOOT_FRAMES;
use log::{error, info};
use quire_abi::Error;
use quire_abi::system::{Confinement, HardwareInfo, Shutdown};
use quire_core::kernel::Kernel;
use quire_core::machine::Frame;
use quire_core::memory::{Exhausted, FrameTable, MemorySystem};
use start_info::{BootInfo, StartInfoError};

const PAGE: u64 = quire_core::machine::PAGE_SIZE;
/// Real-mode memory, firmware data, and where other processors will start.
const LOW_MEMORY: Range = Range { start: 0, end: 1 << 20 };
/// The start of the image's boot part (see `link.ld`).
const BOOT_PART: u64 = 0x20_0000;
/// What the frame table takes from the heap per frame.
const FRAME_RECORD_BYTES: u64 = 16;
/// The heap at the start, without the frame table.
const FIRST_HEAP_BYTES: u64 = 2 << 20;

/// Why the kernel can't start.
#[derive(Debug)]
enum BootError {
    StartInfo(StartInfoError),
    NoExecuteMissing,
    OutOfFrames,
    Firmware(AcpiError),
    Clock(CalibrationError),
    Memory(Exhausted),
    Kernel(Error),
    FirstProgram(start::StartError),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartInfo(error) => write!(f, "the loader's start info is not usable: {error:?}"),
            Self::NoExecuteMissing => f.write_str("the processor can't keep pages from being executed"),
            Self::OutOfFrames => f.write_str("there is not enough memory for the kernel's page tables and heap"),
            Self::Firmware(error) => write!(f, "the firmware's ACPI tables are not usable: {error:?}"),
            Self::Clock(error) => write!(f, "there is no clock to measure time by: {error:?}"),
            Self::Memory(error) => write!(f, "there is not enough memory for the frame table: {error:?}"),
            Self::Kernel(error) => write!(f, "the kernel's objects can't be made: {}", error.describe()),
            Self::FirstProgram(error) => write!(f, "the first program can't be started: {error}"),
        }
    }
}

impl From<OutOfFrames> for BootError {
    fn from(_: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

/// Ends the machine with a message.
fn give_up(error: &BootError) -> ! {
    error!("{error}");
    power::shutdown(Shutdown::Failure)
}

unsafe extern "C" {
    /// The stack that [`boot_main`] runs on, at its physical address.
    static boot_stack: u8;
}

/// The first function: on the boot stack, with the first page tables, interrupts off. Called by [`entry`] with the
/// physical address of the start info.
pub(crate) extern "C" fn boot_main(start_info: u64) -> ! {
    percpu::init_boot_cpu();
    let cpu = percpu::current();
    gdt::set_stacks(cpu, &boot_stacks(cpu));
    gdt::load(cpu);
    idt::build();
    idt::load();
    time::start();
    logger::init();
    match prepare_memory(cpu, start_info) {
        // SAFETY: the stack was mapped by the page tables that are now in use, and nothing is on it. The boot
        // stack, which the argument is on, stays mapped by the direct map until the function has copied it.
        Ok((info, stacks)) => unsafe { call_on_stack(stacks.main, main_on_own_stack, (&raw const info).cast()) },
        Err(error) => give_up(&error),
    }
}

/// Stacks for exceptions that come before the real ones are mapped: the far end of the boot stack.
fn boot_stacks(cpu: &'static PerCpu) -> Stacks {
    const EACH: u64 = 16 * 1024;
    let bottom = direct_map::BASE + (&raw const boot_stack) as u64;
    let top = |number: u64| bottom + number * EACH - stacks::EXCEPTION_STACK_HEADER;
    let stacks = Stacks { main: top(1), exceptions: [top(2), top(3), top(4)] };
    stacks.write_headers(cpu);
    stacks
}

/// Reads what the loader tells and makes the final page tables and stacks.
fn prepare_memory(cpu: &'static PerCpu, start_info: u64) -> Result<(BootInfo, Stacks), BootError> {
    let info = start_info::read(start_info).map_err(BootError::StartInfo)?;
    log::set_max_level(info.command_line.log_level());
    info!("Quire {}", env!("CARGO_PKG_VERSION"));
    let features = Features::detect();
    if !features.no_execute {
        return Err(BootError::NoExecuteMissing);
    }
    features.enable_no_execute();
    BOOT_FRAMES
        .lock()
        .choose(&info.memory_map, &reserved(&info, Range::new(BOOT_PART, paging::image().end - BOOT_PART)));
    let mut tables = KernelTables::build(&info.memory_map, &features)?;
    let stacks = stacks::map(&mut tables, cpu.number.get())?;
    // SAFETY: the tables map the kernel's image where it is linked, and the boot stack, which is in the direct map,
    // as RAM.
    unsafe { tables.activate() };
    cpu.guarded.loaded_root.set(paging::kernel_root());
    stacks.write_headers(cpu);
    gdt::set_stacks(cpu, &stacks);
    Ok((info, stacks))
}

/// What must not be given out: low memory, the kernel (as much as is still needed), and the archive.
fn reserved(info: &BootInfo, kernel: Range) -> [Range; 3] {
    [LOW_MEMORY, kernel, info.archive.unwrap_or_default()]
}

/// Goes on with the processor's own stack, on the final page tables.
extern "C" fn main_on_own_stack(info: *const ()) -> ! {
    // SAFETY: `boot_main` passed a pointer to a value that it forgets; the memory is still mapped and untouched.
    let info = unsafe { info.cast::<BootInfo>().read() };
    match make_kernel(&info) {
        Ok(state) => *KERNEL.lock() = Some(state),
        Err(error) => give_up(&error),
    }
    processors::let_run();
    resume::leave(Locked::take(), false)
}

fn make_kernel(info: &BootInfo) -> Result<State, BootError> {
    let features = Features::detect();
    features.enable_protection();
    percpu::current().has_base_instructions.set(features.fsgsbase);
    vector::init(&features);
    random::init(&features);
    make_heap(info)?;
    let platform = firmware::read(info.rsdp).map_err(BootError::Firmware)?;
    power::init(&platform);
    init_devices(&platform)?;
    processors::start(&platform, &info.memory_map)?;
    if !features.invariant_tsc {
        log::debug!("the time-stamp counter is not said to be invariant; it is used all the same");
    }
    let iommu = Iommu::begin(&platform.dmar)?;
    let mut confinement = Confinement::empty();
    confinement.set(Confinement::MEMORY, iommu.is_some());
    confinement.set(Confinement::INTERRUPTS, iommu.as_ref().is_some_and(Iommu::confines_interrupts));
    let hardware_info = HardwareInfo { rsdp: info.rsdp, confinement: confinement.bits(), ..platform.configuration };
    // SAFETY: once only, and the final page tables are in use. The frame table made next has all RAM that nothing
    // else uses.
    let mut hardware = unsafe { Hardware::new(iommu, hardware_info) };
    let memory = make_memory(info, &mut hardware)?;
    info!("{} MiB of memory free", (memory.frames().free() * PAGE) >> 20);
    let mut kernel = Kernel::new(memory, percpu::count()).map_err(BootError::Kernel)?;
    start::first_program(&mut kernel, &mut hardware, info).map_err(BootError::FirstProgram)?;
    Ok(State { kernel, hardware })
}

fn make_heap(info: &BootInfo) -> Result<(), BootError> {
    heap::set_reserve(frame_end(info) * PAGE);
    let bytes = frame_end(info) * FRAME_RECORD_BYTES + FIRST_HEAP_BYTES;
    let start = BOOT_FRAMES.lock().take(bytes.div_ceil(PAGE)).ok_or(BootError::OutOfFrames)?;
    // SAFETY: the frames were just taken for this; the direct map maps them.
    unsafe { heap::add(direct_map::pointer(start), bytes as usize) };
    Ok(())
}

fn init_devices(platform: &Platform) -> Result<(), BootError> {
    interrupts::silence_pic();
    local_apic::init()?;
    io_apic::init(platform)?;
    time::calibrate(platform).map_err(BootError::Clock)?;
    Ok(())
}

/// The number of the first frame beyond all usable ones.
fn frame_end(info: &BootInfo) -> u64 {
    let mut end = 0;
    info.memory_map.for_each_free(&[], &mut |range| end = range.end.max(end));
    end.min(direct_map::PHYSICAL_END) / PAGE
}

/// Gives the memory system all memory that is free, also that of the image's boot part, which is not used any more;
/// and tells it what the kernel keeps for itself.
fn make_memory(info: &BootInfo, hardware: &mut Hardware) -> Result<MemorySystem, BootError> {
    let image = paging::image();
    let [low, kernel, archive] = reserved(info, image);
    let used = BOOT_FRAMES.lock().used();
    let mut table = FrameTable::new(Frame(frame_end(info) as u32)).map_err(BootError::Memory)?;
    info.memory_map.for_each_free(&[low, kernel, archive, used], &mut |range| {
        let (first, count) = frames_of(range);
        table.add(first, count);
    });
    let mut memory = MemorySystem::new(hardware, table).map_err(BootError::Memory)?;
    for range in [image, used] {
        let (first, count) = frames_of(range);
        memory.occupy_for_kernel(first, count);
    }
    Ok(memory)
}

/// The frames of a range of whole pages, as far as they can be named.
fn frames_of(range: Range) -> (Frame, u32) {
    let number = |address: u64| (address.min(direct_map::PHYSICAL_END) / PAGE) as u32;
    (Frame(number(range.start)), number(range.end) - number(range.start))
}
