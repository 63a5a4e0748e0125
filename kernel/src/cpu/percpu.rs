//! What belongs to one processor, reached through its `gs` base without a lock.
//!
//! In kernel mode the `gs` base points at the processor's [`PerCpu`]; the entry code swaps it with the user's. The
//! first fields are known to the entry code by their offsets. What says which thread a processor has loaded and when its timer
//! fires belongs to the holder of the kernel lock instead, who may look at all processors ([`Guarded`]).

use crate::cpu::gdt::{self, Tables};
use crate::vector::Image;
use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use quire_abi::thread::Registers;
use quire_concurrent::Asked;
use quire_core::machine::Frame;
use quire_core::pool::Id;
use quire_core::thread::Thread;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

/// What `iretq` pops (Intel SDM vol. 2A, IRET).
#[repr(C)]
pub(crate) struct ReturnFrame {
    /// Where to go on.
    pub(crate) rip: Cell<u64>,
    /// Code segment.
    pub(crate) cs: Cell<u64>,
    /// Flags.
    pub(crate) rflags: Cell<u64>,
    /// Stack pointer.
    pub(crate) rsp: Cell<u64>,
    /// Stack segment.
    pub(crate) ss: Cell<u64>,
}

/// One processor's own data.
#[repr(C)]
pub(crate) struct PerCpu {
    /// Its own address, because `gs` can be dereferenced but not read.
    pub(crate) this: Cell<*const PerCpu>,
    /// Where the entry code saves the registers of the thread that runs, and whence the exit code restores them: inside
    /// that thread's record, or [`PerCpu::no_thread`].
    pub(crate) registers: Cell<*mut Registers>,
    /// The top of the processor's kernel stack.
    pub(crate) stack_top: Cell<u64>,
    /// The frame for the return to user mode of a reflected system call. Its `rsp` also takes up the user's stack
    /// pointer on every `syscall`.
    pub(crate) reflection: ReturnFrame,
    /// The address of `reflection`.
    pub(crate) reflection_pointer: Cell<*const ReturnFrame>,
    /// `syscall` instructions whose return address is in the `native_len` bytes from here are native calls; the
    /// others are reflected. For a thread without reflection that is all addresses.
    pub(crate) native_start: Cell<u64>,
    /// See `native_start`.
    pub(crate) native_len: Cell<u64>,
    /// The vector of the interrupt that ended the last `hlt`, or [`NO_VECTOR`].
    pub(crate) idle_vector: Cell<u64>,

    /// The number of the processor.
    pub(crate) number: Cell<u32>,
    /// The locks that it holds (see [`crate::sync`]).
    pub(crate) held_ranks: Cell<u32>,
    /// What the holder of the kernel lock may look at from other processors.
    pub(crate) guarded: Guarded,
    /// Whether CR0.TS is set: vector instructions trap.
    pub(crate) vector_trap: Cell<bool>,
    /// Another processor waits until this one has done what it asks ([`crate::cpu::requests`]).
    pub(crate) asked: Asked<AtomicBool>,
    /// The number under which its local APIC gets interrupts.
    pub(crate) apic_id: AtomicU32,
    /// Whether CR4.FSGSBASE is set: `rdfsbase` and its kin can be used, also by user mode.
    pub(crate) has_base_instructions: Cell<bool>,

    /// Takes up registers when no thread's record may: entries from idle have nothing to save.
    no_thread: UnsafeCell<Registers>,
    /// Descriptor tables.
    pub(crate) tables: UnsafeCell<Tables>,
}

/// What belongs to the processor, but is used only by whoever holds the kernel lock (or, before there are others, by the
/// boot processor).
pub(crate) struct Guarded {
    /// The thread whose bases, reflection and page tables are loaded; none after the page tables were taken away.
    pub(crate) loaded_thread: Cell<Option<Id<Thread>>>,
    /// The page tables that are loaded.
    pub(crate) loaded_root: Cell<Frame>,
    /// The thread whose vector state the registers hold, whether it runs or not. No two processors have the same.
    pub(crate) vector_owner: Cell<Option<Id<Thread>>>,
    /// The image of that thread, which lives as long as the thread is the owner.
    pub(crate) vector_image: Cell<Image>,
    /// When the timer will interrupt, in ns since the kernel's start; `u64::MAX` if it won't.
    pub(crate) timer_armed_ns: Cell<u64>,
}

/// [`PerCpu::idle_vector`] when no interrupt came in.
pub(crate) const NO_VECTOR: u64 = u64::MAX;

// SAFETY: the cells of a `PerCpu` are used by its own processor only, but for those in `guarded`, which only the holder of
// the kernel lock touches; the rest is atomic.
unsafe impl Sync for PerCpu {}

/// The boot processor's.
static BOOT_CPU: PerCpu = PerCpu::new(0);

/// How many processors there can be: the scheduler keeps sets of them in a word.
pub(crate) const MAX_PROCESSORS: usize = 64;

/// The processors that run, by number.
static PROCESSORS: [AtomicPtr<PerCpu>; MAX_PROCESSORS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_PROCESSORS];
/// How many they are.
static COUNT: AtomicUsize = AtomicUsize::new(1);

const NO_REGISTERS: Registers = Registers {
    rax: 0,
    rbx: 0,
    rcx: 0,
    rdx: 0,
    rsi: 0,
    rdi: 0,
    rbp: 0,
    rsp: 0,
    r8: 0,
    r9: 0,
    r10: 0,
    r11: 0,
    r12: 0,
    r13: 0,
    r14: 0,
    r15: 0,
    rip: 0,
    rflags: 0,
    fs_base: 0,
    gs_base: 0,
};

impl PerCpu {
    /// The data of processor `number`.
    pub(crate) const fn new(number: u32) -> Self {
        Self {
            this: Cell::new(core::ptr::null()),
            registers: Cell::new(core::ptr::null_mut()),
            stack_top: Cell::new(0),
            reflection: ReturnFrame {
                rip: Cell::new(0),
                cs: Cell::new(gdt::USER_CODE as u64),
                rflags: Cell::new(0),
                rsp: Cell::new(0),
                ss: Cell::new(gdt::USER_DATA as u64),
            },
            reflection_pointer: Cell::new(core::ptr::null()),
            native_start: Cell::new(0),
            native_len: Cell::new(u64::MAX),
            idle_vector: Cell::new(NO_VECTOR),
            number: Cell::new(number),
            held_ranks: Cell::new(0),
            guarded: Guarded {
                loaded_thread: Cell::new(None),
                loaded_root: Cell::new(Frame(0)),
                vector_owner: Cell::new(None),
                vector_image: Cell::new(Image::NONE),
                timer_armed_ns: Cell::new(u64::MAX),
            },
            vector_trap: Cell::new(false),
            asked: Asked::new(AtomicBool::new(false)),
            apic_id: AtomicU32::new(0),
            has_base_instructions: Cell::new(false),
            no_thread: UnsafeCell::new(NO_REGISTERS),
            tables: UnsafeCell::new(Tables::new()),
        }
    }

    /// Lets the entry code save into a record that nobody reads.
    pub(crate) fn forget_thread(&self) {
        self.registers.set(self.no_thread.get());
    }
}

/// Makes the boot processor's data reachable. Must come before anything that uses [`current`], locks included.
pub(crate) fn init_boot_cpu() {
    note(&BOOT_CPU);
    install(&BOOT_CPU);
}

/// Adds a processor to those that [`all`] names. Before it runs threads, and on the boot processor.
pub(crate) fn note(cpu: &'static PerCpu) {
    let number = cpu.number.get() as usize;
    if let Some(slot) = PROCESSORS.get(number) {
        slot.store(core::ptr::from_ref(cpu).cast_mut(), Ordering::Release);
        COUNT.store(number + 1, Ordering::Release);
    }
}

/// How many processors run.
#[inline]
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

/// Whether this processor is the only one.
#[inline]
pub(crate) fn is_alone() -> bool {
    count() == 1
}

/// All processors that run, in the order of their numbers.
pub(crate) fn all() -> impl Iterator<Item = &'static PerCpu> + Clone {
    // SAFETY: `note` stores pointers to data that live for ever, before it counts them.
    PROCESSORS.iter().take(count()).filter_map(|slot| unsafe { slot.load(Ordering::Acquire).as_ref() })
}

/// The processors but this one.
pub(crate) fn others() -> impl Iterator<Item = &'static PerCpu> + Clone {
    let this = current().number.get();
    all().filter(move |cpu| cpu.number.get() != this)
}

/// Makes the data of this processor reachable. First thing on it.
pub(crate) fn install(cpu: &'static PerCpu) {
    cpu.this.set(cpu);
    cpu.reflection_pointer.set(&cpu.reflection);
    cpu.forget_thread();
    GsBase::write(VirtAddr::from_ptr(cpu));
    KernelGsBase::write(VirtAddr::zero());
}

/// This processor's data.
#[inline]
pub(crate) fn current() -> &'static PerCpu {
    let this: *const PerCpu;
    // SAFETY: `init_boot_cpu` ran first thing on this processor, so in kernel mode the `gs` base is the address of
    // a `PerCpu`, whose first field is that address. It never changes, and kernel code never moves to another
    // processor: hence `pure` and `nomem`.
    unsafe { core::arch::asm!("mov {}, gs:[0]", out(reg) this, options(nostack, pure, nomem, preserves_flags)) };
    // SAFETY: it points at a static, which lives for ever; all its fields are cells that only this processor touches.
    unsafe { &*this }
}

/// The set of locks that this processor holds.
pub(crate) fn held_ranks() -> &'static Cell<u32> {
    &current().held_ranks
}
