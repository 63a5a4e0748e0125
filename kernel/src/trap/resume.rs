//! The way out: who goes on, and loading what belongs to that thread.

use crate::attention;
use crate::cpu::percpu::{self, NO_VECTOR, PerCpu};
use crate::direct_map;
use crate::heap;
use crate::interrupts::io_apic;
use crate::paging;
use crate::time::timer;
use crate::trap::handle::{self, Locked, State, cpu_index};
use crate::vector;
use core::arch::asm;
use quire_abi::space::USER_END;
use quire_abi::thread::{ExceptionKind, Reflection, Registers};
use quire_core::pool::Id;
use quire_core::schedule::Next;
use quire_core::thread::{Exception, Thread};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{FsBase, KernelGsBase};

const PAGE_SHIFT: u32 = 12;
/// Frames that the heap grows by at a time; fewer where memory is scattered.
const HEAP_STEPS: [u32; 4] = [512, 64, 8, 1];
/// What the heap itself needs of a range that is to hold one large block.
const HEAP_OVERHEAD_FRAMES: usize = 1;
/// It takes at most one of this many free frames at a time.
const HEAP_SHARE: u64 = 16;

/// Decides who goes on and loads all that belongs to that thread but its general registers, which the entry code
/// restores. Waits for interrupts as long as nobody can run.
#[inline(always)]
pub(crate) fn leave(mut locked: Locked) {
    let cpu = percpu::current();
    loop {
        match try_leave(locked.state(), cpu) {
            Leaving::Loaded => return,
            Leaving::Idle => {
                drop(locked);
                let vector = wait_for_interrupt(cpu);
                locked = Locked::take();
                handle::interrupt(locked.state(), vector);
            }
            Leaving::Later => {
                drop(locked);
                core::hint::spin_loop();
                locked = Locked::take();
            }
        }
    }
}

/// What became of an attempt to leave the kernel.
enum Leaving {
    /// A thread is loaded.
    Loaded,
    /// There is none.
    Idle,
    /// Another processor has to have the lock first.
    Later,
}

/// Loads the thread that goes on.
#[inline(always)]
fn try_leave(state: &mut State, cpu: &PerCpu) -> Leaving {
    loop {
        if attention::take() {
            look_after(state);
        }
        match state.kernel.next_thread(&mut state.hardware, cpu_index()) {
            Next::Run(thread) => {
                if load(state, cpu, thread) {
                    arm_timer(state, cpu);
                    return Leaving::Loaded;
                }
            }
            Next::Idle => {
                // The thread that was loaded may end before it runs again.
                cpu.forget_thread();
                if !percpu::is_alone() {
                    unload(state, cpu);
                }
                arm_timer(state, cpu);
                return Leaving::Idle;
            }
            Next::Later => return Leaving::Later,
        }
    }
}

#[inline]
fn arm_timer(state: &State, cpu: &PerCpu) {
    if let Some(deadline) = state.kernel.next_deadline(cpu.number.get() as usize)
        && deadline < cpu.guarded.timer_armed_ns.get()
    {
        arm_timer_earlier(state, deadline);
    }
}

/// Deadlines are everybody's, and one processor that is interrupted in time is enough; the end of a time slice concerns its own.
fn arm_timer_earlier(state: &State, deadline: u64) {
    if percpu::is_alone() || !timer::is_armed_elsewhere(deadline) {
        timer::at_latest(deadline);
    } else if let Some(slice_end) = state.kernel.slice_end(cpu_index()) {
        timer::at_latest(slice_end);
    }
}

/// Takes everything of a thread off this processor, which idles: the thread may go on elsewhere.
fn unload(state: &mut State, cpu: &PerCpu) {
    if let Some(previous) = cpu.loaded_thread.take() {
        save_bases(state, cpu, Some(previous));
        save_vector_registers(state, cpu, previous);
    }
    let loaded = &cpu.guarded.loaded_root;
    if loaded.get() != paging::kernel_root() {
        // Whoever is not in a space need not be told of its changes.
        // SAFETY: the kernel's own root is never freed.
        unsafe { paging::load_root(paging::kernel_root()) };
        loaded.set(paging::kernel_root());
    }
}

/// Does what was asked for (see [`attention`]).
#[cold]
fn look_after(state: &mut State) {
    while let Some(gsi) = io_apic::take_remembered() {
        state.kernel.on_interrupt(&mut state.hardware, cpu_index(), gsi);
    }
    if let Some(bytes) = heap::take_failed() {
        let frames = bytes.div_ceil(1 << PAGE_SHIFT).saturating_add(HEAP_OVERHEAD_FRAMES);
        grow_heap(state, u32::try_from(frames).unwrap_or(u32::MAX));
    }
    while heap::wants_more() && HEAP_STEPS.into_iter().any(|frames| grow_heap(state, frames)) {}
}

/// Gives the heap this many adjacent frames, unless that were a large part of those that are free; returns whether it did.
fn grow_heap(state: &mut State, frames: u32) -> bool {
    let State { kernel, hardware } = state;
    if u64::from(frames) > kernel.memory.frames().free() / HEAP_SHARE {
        return false;
    }
    let Ok(first) = kernel.memory.allocate_for_kernel(hardware, frames) else { return false };
    let start = direct_map::pointer::<u8>(u64::from(first.0) << PAGE_SHIFT);
    // SAFETY: the frames were just taken out of the frame table and are never given back; the direct map maps them side
    // by side.
    unsafe { heap::add(start, (frames as usize) << PAGE_SHIFT) };
    true
}

/// Sleeps until an interrupt comes in; returns its vector.
fn wait_for_interrupt(cpu: &PerCpu) -> u8 {
    cpu.idle_vector.set(NO_VECTOR);
    loop {
        // SAFETY: no lock is held. `sti` takes effect after the next instruction, so an interrupt can't slip in before
        // `hlt`. The entry code returns behind it with interrupts off; `cli` is for a wake-up without an interrupt.
        unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
        let vector = cpu.idle_vector.get();
        if vector != NO_VECTOR {
            return vector as u8;
        }
    }
}

/// Loads what belongs to `id`. Returns false if it can't go on where it stands, which it has been told.
#[inline(always)]
fn load(state: &mut State, cpu: &PerCpu, id: Id<Thread>) -> bool {
    let previous = cpu.loaded_thread.replace(Some(id));
    let loaded = if previous == Some(id) { None } else { Some(save_bases(state, cpu, previous)) };
    if loaded.is_some()
        && !percpu::is_alone()
        && let Some(previous) = previous
    {
        save_vector_registers(state, cpu, previous);
    }
    let Some(thread) = state.kernel.thread_mut(id) else { return false };
    if let Some(loaded) = loaded {
        write_bases(cpu, &thread.context.registers, loaded);
    }
    let rip = thread.context.registers.rip;
    if rip >= USER_END {
        // Returning there would fault in the kernel, at least if the address is not canonical.
        let exception = Exception { kind: ExceptionKind::Protection, address: rip, code: 0 };
        state.kernel.exception(&mut state.hardware, cpu_index(), id, exception);
        return false;
    }
    if cpu.guarded.loaded_root.get() != thread.root {
        // SAFETY: the root belongs to the thread's space, which it keeps alive; before the space goes, the core makes
        // every processor leave the root.
        unsafe { paging::load_root(thread.root) };
        cpu.guarded.loaded_root.set(thread.root);
    }
    cpu.registers.set(&raw mut thread.context.registers);
    set_reflection(cpu, &thread.context.reflection);
    if thread.vector.is_some() {
        take_vector_registers(state, cpu, id);
    } else {
        vector::forbid();
    }
    true
}

#[inline]
fn set_reflection(cpu: &PerCpu, reflection: &Reflection) {
    if reflection.entry == 0 {
        cpu.native_start.set(0);
        cpu.native_len.set(u64::MAX);
    } else {
        cpu.reflection.rip.set(reflection.entry);
        cpu.native_start.set(reflection.native_start);
        cpu.native_len.set(reflection.native_end.saturating_sub(reflection.native_start));
    }
}

/// A lone processor saves the registers of one thread only when it loads those of another. Where there are more, they are
/// saved when the thread leaves the processor ([`save_vector_registers`]), because it may go on elsewhere, and loaded if they
/// are not there any more.
#[inline]
fn take_vector_registers(state: &mut State, cpu: &PerCpu, id: Id<Thread>) {
    let owner = cpu.guarded.vector_owner.replace(Some(id));
    if owner == Some(id) {
        vector::allow();
        return;
    }
    if !percpu::is_alone() {
        for other in percpu::others().filter(|other| other.guarded.vector_owner.get() == Some(id)) {
            other.guarded.vector_owner.set(None);
        }
    } else
    // An owner that has ended and was removed needs nothing saved.
    if let Some(area) =
        owner.and_then(|owner| state.kernel.thread_mut(owner)).and_then(|owner| owner.vector.as_mut())
    {
        vector::save(area);
    }
    if let Some(area) = state.kernel.thread(id).and_then(|thread| thread.vector.as_ref()) {
        vector::load(area);
    }
}

/// Saves the vector registers of a thread that leaves the processor, if it had them loaded.
fn save_vector_registers(state: &mut State, cpu: &PerCpu, previous: Id<Thread>) {
    if cpu.guarded.vector_owner.get() == Some(previous)
        && let Some(area) = state.kernel.thread_mut(previous).and_then(|thread| thread.vector.as_mut())
    {
        vector::save(area);
    }
}

/// Segment bases: `fs`, `gs`.
type Bases = (u64, u64);

/// Saves the segment bases of the thread that was loaded; returns those that are loaded. Without the instructions
/// for them, user mode can't have changed them, and they are not looked at.
#[inline]
fn save_bases(state: &mut State, cpu: &PerCpu, previous: Option<Id<Thread>>) -> Bases {
    if !cpu.has_base_instructions.get() {
        return (0, 0);
    }
    let (fs, gs) = read_bases();
    if let Some(context) = previous.and_then(|previous| state.kernel.context_mut(previous)) {
        context.registers.fs_base = fs;
        context.registers.gs_base = gs;
    }
    (fs, gs)
}

fn read_bases() -> Bases {
    let (fs, gs);
    // SAFETY: CR4.FSGSBASE is set. While the user's `gs` base is swapped in, nothing uses `gs`: interrupts are off,
    // and NMI does not.
    unsafe {
        asm!("rdfsbase {}", "swapgs", "rdgsbase {}", "swapgs", out(reg) fs, out(reg) gs, options(nostack, nomem));
    }
    (fs, gs)
}

#[inline]
fn write_bases(cpu: &PerCpu, new: &Registers, loaded: Bases) {
    let (fs, gs) = (new.fs_base, new.gs_base);
    if !cpu.has_base_instructions.get() {
        FsBase::write(VirtAddr::new_truncate(fs));
        KernelGsBase::write(VirtAddr::new_truncate(gs));
        return;
    }
    // SAFETY: as for `read_bases`. The addresses are canonical, so the instructions don't fault: the core accepts
    // only those of the user half, and user mode itself can't load others.
    unsafe {
        if fs != loaded.0 {
            asm!("wrfsbase {}", in(reg) fs, options(nostack, nomem));
        }
        if gs != loaded.1 {
            asm!("swapgs", "wrgsbase {}", "swapgs", in(reg) gs, options(nostack, nomem));
        }
    }
}
