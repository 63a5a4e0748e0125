//! The other processors: found in the MADT, started one after the other by INIT and start-up interrupts (Intel SDM vol. 3A,
//! 9.4 and 12.6.4).
//!
//! 1. The boot processor copies the *trampoline* to a page below 1 MiB, where a processor that starts in real mode can run,
//!    and prepares data and stacks of the new processor.
//! 2. The new one goes through protected to long mode on the first page tables (of [`super::entry`], which still exist),
//!    then to the kernel's own tables and its own stack, and calls [`run`].
//! 3. It makes itself ready, says so, and waits until there are objects. From then on it is like any other.
//!
//! A processor that does not answer is stopped again and left out; so is one whose clock is behind.

use crate::cpu::features::Features;
use crate::cpu::gdt;
use crate::cpu::percpu::{self, MAX_PROCESSORS, PerCpu};
use crate::cpu::stacks;
use crate::direct_map;
use crate::firmware::Platform;
use crate::interrupts::local_apic;
use crate::memory_map::{MemoryMap, Range};
use crate::paging::{self, KernelTables, OutOfFrames};
use crate::time;
use crate::trap::handle::Locked;
use crate::trap::{idt, resume};
use crate::vector;
use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use log::{info, warn};

use super::frames::BOOT_FRAMES;

const PAGE: u64 = quire_core::machine::PAGE_SIZE;
/// Where the trampoline may be: above what the firmware's real mode uses, below its extended data.
const LOW_MEMORY: Range = Range { start: 0x1000, end: 0x9_0000 };
/// How long a processor takes to initialise, in ns (12.6.4: 10 ms).
const INITIALISE_NS: u64 = 10_000_000;
/// How long after the first start-up interrupt a second is sent, in ns.
const RETRY_NS: u64 = 10_000_000;
/// How long a processor may take to get ready, in ns.
const PATIENCE_NS: u64 = 1_000_000_000;

/// How the processor that is being started stands.
static IS_READY: AtomicBool = AtomicBool::new(false);
/// Its clock when it was ready.
static READY_NS: AtomicU64 = AtomicU64::new(0);
/// There are objects: all may run threads.
static MAY_RUN: AtomicBool = AtomicBool::new(false);

/// What the trampoline loads, at `trampoline_parameters`.
#[repr(C)]
struct Parameters {
    /// The page tables that map the trampoline at its physical address; below 4 GiB.
    first_root: u64,
    kernel_root: u64,
    stack_top: u64,
    per_cpu: *const PerCpu,
    /// Where to go on in long mode.
    entry: unsafe extern "C" fn(),
    padding: u16,
    /// What `lgdt` loads: limit and address of the descriptors.
    descriptors_limit: u16,
    descriptors: u32,
    /// Far pointers: to the 32-bit part,
    protected_mode: (u32, u32),
    /// and to the 64-bit part.
    long_mode: (u32, u32),
}

/// Selectors of the trampoline's descriptors.
const LONG_MODE_CODE: u32 = 0x08;
const PROTECTED_MODE_CODE: u32 = 0x18;
/// The last byte of the trampoline's descriptors.
const DESCRIPTORS_LIMIT: u16 = 4 * 8 - 1;

unsafe extern "C" {
    static boot_root: u8;
    static trampoline_start: u8;
    static trampoline_protected: u8;
    static trampoline_long: u8;
    static trampoline_descriptors: u8;
    static trampoline_parameters: u8;
    static trampoline_end: u8;
    fn processor_entry();
}

global_asm!(
    r#"
    .section .rodata.trampoline, "a"
    .balign 16
    .code16
    .global trampoline_start
trampoline_start:
    cli
    cld
    xorl %ebx, %ebx
    movw %cs, %bx
    movw %bx, %ds
    shll $4, %ebx               // the physical address of this page
    lgdtl trampoline_parameters - trampoline_start + {descriptors}
    movl %cr0, %eax
    andl $0x9fffffff, %eax      // caches on
    orl $1, %eax
    movl %eax, %cr0
    ljmpl *(trampoline_parameters - trampoline_start + {protected_mode})

    .code32
    .global trampoline_protected
trampoline_protected:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %cr4, %eax
    orl $0x20, %eax             // PAE
    movl %eax, %cr4
    movl trampoline_parameters - trampoline_start + {first_root}(%ebx), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      // EFER
    rdmsr
    orl $0x900, %eax            // LME, NXE
    wrmsr
    movl %cr0, %eax
    orl $0x80010000, %eax       // PG, WP
    movl %eax, %cr0
    ljmpl *(trampoline_parameters - trampoline_start + {long_mode})(%ebx)

    .code64
    .global trampoline_long
trampoline_long:
    movl %ebx, %ebx
    movq trampoline_parameters - trampoline_start + {kernel_root}(%rbx), %rcx
    movq trampoline_parameters - trampoline_start + {stack_top}(%rbx), %rdx
    movq trampoline_parameters - trampoline_start + {per_cpu}(%rbx), %rdi
    movq trampoline_parameters - trampoline_start + {entry}(%rbx), %rax
    jmpq *%rax

    .balign 8
    .global trampoline_descriptors
trampoline_descriptors:
    .quad 0
    .quad 0x00af9a000000ffff    // 64-bit code, ring 0
    .quad 0x00cf92000000ffff    // data
    .quad 0x00cf9a000000ffff    // 32-bit code
    .balign 8
    .global trampoline_parameters
trampoline_parameters:
    .skip {parameters_bytes}
    .global trampoline_end
trampoline_end:

    .text
    .global processor_entry
processor_entry:
    movq %rcx, %cr3
    movq %rdx, %rsp
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    xorl %ebp, %ebp
    callq {run}
    ud2
    "#,
    first_root = const offset_of!(Parameters, first_root),
    kernel_root = const offset_of!(Parameters, kernel_root),
    stack_top = const offset_of!(Parameters, stack_top),
    per_cpu = const offset_of!(Parameters, per_cpu),
    entry = const offset_of!(Parameters, entry),
    descriptors = const offset_of!(Parameters, descriptors_limit),
    protected_mode = const offset_of!(Parameters, protected_mode),
    long_mode = const offset_of!(Parameters, long_mode),
    parameters_bytes = const size_of::<Parameters>(),
    run = sym run,
    options(att_syntax),
);

/// Starts all processors that the firmware names, up to [`MAX_PROCESSORS`]. The first page tables must still exist, and
/// interrupts be off. What can't be started is left out, which the log says.
///
/// # Errors
/// [`OutOfFrames`] if there is no memory for their stacks.
pub(crate) fn start(platform: &Platform, map: &MemoryMap) -> Result<(), OutOfFrames> {
    let this = local_apic::id();
    percpu::current().apic_id.store(this, Ordering::Relaxed);
    if platform.processors().all(|id| id == this) {
        return Ok(());
    }
    let Some(trampoline) = Trampoline::place(map) else {
        warn!("no memory below 1 MiB to start other processors in: one is used");
        return Ok(());
    };
    let others = platform.processors().filter(|id| *id != this).take(MAX_PROCESSORS - 1);
    others.clone().for_each(local_apic::initialise);
    wait_until(time::now_ns() + INITIALISE_NS, || false);
    for id in others {
        if !trampoline.start(id)? {
            local_apic::initialise(id);
            warn!("the processor with APIC id {id} does not start: it is not used, nor are those after it");
            break;
        }
    }
    info!("{} processors", percpu::count());
    Ok(())
}

/// Lets the processors run threads: the objects are made.
pub(crate) fn let_run() {
    MAY_RUN.store(true, Ordering::Release);
}

/// Waits for a condition, at most until `deadline_ns`; tells whether it holds.
fn wait_until(deadline_ns: u64, condition: impl Fn() -> bool) -> bool {
    loop {
        if condition() {
            return true;
        }
        if time::now_ns() >= deadline_ns {
            return false;
        }
        core::hint::spin_loop();
    }
}

/// The copy of the trampoline.
struct Trampoline {
    /// Its physical address.
    page: u64,
}

impl Trampoline {
    /// Copies the code to a page of RAM below 1 MiB.
    fn place(map: &MemoryMap) -> Option<Self> {
        let mut page = None;
        map.for_each_free(&[], &mut |range| {
            let start = range.start.max(LOW_MEMORY.start);
            if page.is_none() && start + PAGE <= range.end.min(LOW_MEMORY.end) {
                page = Some(start);
            }
        });
        let page = page?;
        let bytes = offset_in_trampoline(&raw const trampoline_end) as usize;
        // SAFETY: the source is a constant of the image; the target is RAM below 1 MiB, which the direct map has, nobody is given
        // ([`super::LOW_MEMORY`]), and nothing that the firmware left there is needed any more. It fits a page.
        unsafe { direct_map::pointer::<u8>(page).copy_from_nonoverlapping(&raw const trampoline_start, bytes) };
        Some(Self { page })
    }

    /// The physical address of a place in it.
    fn address(&self, symbol: *const u8) -> u32 {
        (self.page + offset_in_trampoline(symbol)) as u32
    }

    /// Starts the processor with this APIC id as the next number; tells whether that worked.
    fn start(&self, id: u32) -> Result<bool, OutOfFrames> {
        let (cpu, stack_top) = prepare(id)?;
        let parameters = Parameters {
            first_root: (&raw const boot_root) as u64,
            kernel_root: u64::from(paging::kernel_root().0) * PAGE,
            stack_top,
            per_cpu: cpu,
            entry: processor_entry,
            padding: 0,
            descriptors_limit: DESCRIPTORS_LIMIT,
            descriptors: self.address(&raw const trampoline_descriptors),
            protected_mode: (self.address(&raw const trampoline_protected), PROTECTED_MODE_CODE),
            long_mode: (self.address(&raw const trampoline_long), LONG_MODE_CODE),
        };
        let place = direct_map::pointer::<Parameters>(self.address(&raw const trampoline_parameters).into());
        // SAFETY: inside the copy, aligned to 8 bytes as the original; no processor runs there now.
        unsafe { place.write_volatile(parameters) };
        IS_READY.store(false, Ordering::Release);
        let is_ready = || IS_READY.load(Ordering::Acquire);
        let begun_ns = time::now_ns();
        let page = (self.page / PAGE) as u8;
        local_apic::start_up(id, page);
        if !wait_until(begun_ns + RETRY_NS, is_ready) {
            local_apic::start_up(id, page);
        }
        // A clock that is behind would run backwards for whoever moves there.
        let started = wait_until(begun_ns + PATIENCE_NS, is_ready) && READY_NS.load(Ordering::Relaxed) >= begun_ns;
        if started {
            percpu::note(cpu);
        }
        Ok(started)
    }
}

fn offset_in_trampoline(symbol: *const u8) -> u64 {
    symbol as u64 - (&raw const trampoline_start) as u64
}

/// Makes data and stacks for the next processor; returns the data and the top of the main stack.
fn prepare(apic_id: u32) -> Result<(&'static PerCpu, u64), OutOfFrames> {
    const { assert!(size_of::<PerCpu>() <= PAGE as usize && align_of::<PerCpu>() <= PAGE as usize) };
    let number = percpu::count() as u32;
    let place = direct_map::pointer::<PerCpu>(BOOT_FRAMES.lock().take(1).ok_or(OutOfFrames)?);
    // SAFETY: the frame was just taken and is never given back; it is large enough and aligned.
    let cpu: &'static PerCpu = unsafe {
        place.write(PerCpu::new(number));
        &*place
    };
    cpu.apic_id.store(apic_id, Ordering::Relaxed);
    cpu.guarded.loaded_root.set(paging::kernel_root());
    let stacks = stacks::map(&mut KernelTables::active(), number)?;
    stacks.write_headers(cpu);
    gdt::set_stacks(cpu, &stacks);
    Ok((cpu, stacks.main))
}

/// The first function of another processor: on its own stack, with the kernel's page tables, interrupts off.
extern "C" fn run(cpu: &'static PerCpu) -> ! {
    percpu::install(cpu);
    gdt::load(cpu);
    idt::load();
    let features = Features::detect();
    features.enable_protection();
    cpu.has_base_instructions.set(features.fsgsbase);
    vector::init(&features);
    local_apic::enable();
    local_apic::enable_timer();
    READY_NS.store(time::now_ns(), Ordering::Relaxed);
    IS_READY.store(true, Ordering::Release);
    while !MAY_RUN.load(Ordering::Acquire) {
        core::hint::spin_loop();
    }
    resume::leave(Locked::take(), false)
}
