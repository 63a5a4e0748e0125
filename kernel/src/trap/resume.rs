//! The way out: who goes on, and loading what belongs to that thread.

use crate::attention;
use crate::cpu::percpu::{self, NO_VECTOR, PerCpu};
use crate::direct_map;
use crate::heap;
use crate::interrupts::io_apic;
use crate::paging;
use crate::time::timer;
use crate::trap::entry;
use crate::trap::handle::{self, Locked, State, cpu_index};
use crate::vector::{self, Image};
use core::arch::asm;
use quire_abi::space::USER_END;
use quire_abi::thread::{ExceptionKind, Reflection, Registers};
use quire_core::pool::Id;
use quire_core::schedule::Next;
use quire_core::thread::{Exception, Thread, VectorBlock};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{FsBase, KernelGsBase};

const PAGE_SHIFT: u32 = 12;
/// Frames that the heap grows by at a time; fewer where memory is scattered.
const HEAP_STEPS: [u32; 4] = [512, 64, 8, 1];
/// What the heap itself needs of a range that is to hold one large block.
const HEAP_OVERHEAD_FRAMES: usize = 1;
/// It takes at most one of this many free frames at a time.
const HEAP_SHARE: u64 = 16;

/// Leaves the kernel: at once if the thread that is loaded goes on.
#[inline(always)]
pub(crate) fn leave(locked: Locked, is_loaded: bool) -> ! {
    if is_loaded && !attention::is_asked() {
        drop(locked);
    } else {
        choose_and_load(locked);
    }
    entry::resume()
}

/// Decides who goes on and loads all that belongs to that thread but its general registers, which the entry code
/// restores. Waits for interrupts as long as nobody can run.
#[inline(never)]
pub(crate) fn choose_and_load(mut locked: Locked) {
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
    put_away(state, cpu);
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
fn load(state: &mut State, cpu: &PerCpu, id: Id<Thread>) -> bool {
    let loaded = put_away(state, cpu);
    let Some(thread) = state.kernel.thread_mut(id) else { return false };
    let rip = thread.context.registers.rip;
    if rip >= USER_END {
        // Returning there would fault in the kernel, at least if the address is not canonical.
        let exception = Exception { kind: ExceptionKind::Protection, address: rip, code: 0 };
        state.kernel.exception(&mut state.hardware, cpu_index(), id, exception);
        return false;
    }
    take_up(cpu, id, thread, loaded);
    true
}

/// Loads what belongs to a thread in the place of the one with which the kernel was entered, and which waits in a call now. For
/// the short ways: nothing is looked up. A thread that comes out of a call has an instruction pointer that can be returned to.
#[inline(always)]
pub(crate) fn switch(cpu: &PerCpu, id: Id<Thread>, thread: &mut Thread) {
    let loaded = read_bases(cpu);
    if cpu.has_base_instructions.get() {
        let previous = cpu.registers.get();
        // SAFETY: `registers` points at the record of the thread with which this processor entered the kernel, where the entry
        // code has just written. That thread is alive, and nobody has a reference to its record now.
        unsafe {
            (*previous).fs_base = loaded.0;
            (*previous).gs_base = loaded.1;
        }
    }
    put_vector_registers_away(cpu, cpu.guarded.loaded_thread.get());
    take_up(cpu, id, thread, loaded);
}

/// Saves what the thread that is loaded left in the processor, if it is still there; returns the bases that are loaded.
fn put_away(state: &mut State, cpu: &PerCpu) -> Bases {
    let loaded = read_bases(cpu);
    let previous = cpu.guarded.loaded_thread.take();
    if cpu.has_base_instructions.get()
        && let Some(context) = previous.and_then(|previous| state.kernel.context_mut(previous))
    {
        context.registers.fs_base = loaded.0;
        context.registers.gs_base = loaded.1;
    }
    put_vector_registers_away(cpu, previous);
    loaded
}

/// Loads all that belongs to a thread but its general registers. `loaded`: the bases that are loaded.
#[inline(always)]
fn take_up(cpu: &PerCpu, id: Id<Thread>, thread: &mut Thread, loaded: Bases) {
    write_bases(cpu, &thread.context.registers, loaded);
    if cpu.guarded.loaded_root.get() != thread.root {
        // SAFETY: the root belongs to the thread's space, which it keeps alive; before the space goes, the core makes
        // every processor leave the root.
        unsafe { paging::load_root(thread.root) };
        cpu.guarded.loaded_root.set(thread.root);
    }
    cpu.registers.set(&raw mut thread.context.registers);
    set_reflection(cpu, &thread.context.reflection);
    match thread.vector.as_mut() {
        Some(area) => take_vector_registers(cpu, id, area),
        None => vector::forbid(),
    }
    cpu.guarded.loaded_thread.set(Some(id));
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
/// saved when the thread leaves the processor ([`put_vector_registers_away`]), because it may go on elsewhere, and loaded if they
/// are not there any more.
#[inline(always)]
fn take_vector_registers(cpu: &PerCpu, id: Id<Thread>, area: &mut [VectorBlock]) {
    vector::allow();
    if cpu.guarded.vector_owner.get() != Some(id) {
        exchange_vector_registers(cpu, id, area);
    }
}

#[inline(never)]
fn exchange_vector_registers(cpu: &PerCpu, id: Id<Thread>, area: &mut [VectorBlock]) {
    if !percpu::is_alone() {
        for other in percpu::others().filter(|other| other.guarded.vector_owner.get() == Some(id)) {
            other.guarded.vector_owner.set(None);
        }
    } else if cpu.guarded.vector_owner.get().is_some() {
        save_vector_registers(cpu);
    }
    let image = Image::in_area(area);
    // SAFETY: the core lets nothing into an image but what `init_image` or `save` wrote or `is_valid` accepted.
    unsafe { image.load() };
    cpu.guarded.vector_owner.set(Some(id));
    cpu.guarded.vector_image.set(image);
}

/// Saves the vector registers of a thread that leaves the processor, if it had them loaded and may go on elsewhere.
#[inline(always)]
fn put_vector_registers_away(cpu: &PerCpu, previous: Option<Id<Thread>>) {
    if !percpu::is_alone() && previous.is_some() && cpu.guarded.vector_owner.get() == previous {
        vector::allow();
        save_vector_registers(cpu);
    }
}

/// Saves the vector registers of their owner; there is one.
#[inline]
fn save_vector_registers(cpu: &PerCpu) {
    // SAFETY: the owner's image lives until `forget_vector_state` has taken the ownership away. The callers have no reference to
    // any image but that of the thread that comes in, who is not the owner.
    unsafe { cpu.guarded.vector_image.get().save() };
}

/// Segment bases: `fs`, `gs`.
type Bases = (u64, u64);

/// The segment bases that are loaded. Without the instructions for them, user mode can't have changed them, and they are not
/// looked at.
#[inline(always)]
fn read_bases(cpu: &PerCpu) -> Bases {
    if !cpu.has_base_instructions.get() {
        return (0, 0);
    }
    let (fs, gs);
    // SAFETY: CR4.FSGSBASE is set. While the user's `gs` base is swapped in, nothing uses `gs`: interrupts are off,
    // and NMI does not.
    unsafe {
        asm!("rdfsbase {}", "swapgs", "rdgsbase {}", "swapgs", out(reg) fs, out(reg) gs, options(nostack, nomem));
    }
    (fs, gs)
}

#[inline(always)]
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
