//! Segments and the task-state segment (Intel SDM vol. 3A, 3.4 and 8.7).

use crate::cpu::percpu::PerCpu;
use crate::cpu::stacks::Stacks;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// Kernel code. `syscall` loads this and the next as CS and SS.
pub(crate) const KERNEL_CODE: u16 = 0x08;
/// Kernel data.
pub(crate) const KERNEL_DATA: u16 = 0x10;
/// User data. `sysretq` loads this and the next as SS and CS.
pub(crate) const USER_DATA: u16 = 0x18 | 3;
/// User code.
pub(crate) const USER_CODE: u16 = 0x20 | 3;
/// The task-state segment, two slots.
const TASK_STATE: u16 = 0x28;

/// Slots: null, four segments, two for the task state.
const SLOTS: usize = 7;

/// One of the stacks that the processor switches to on exceptions that must not rely on the stack pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExceptionStack {
    /// #DF: the kernel's stack overflowed, most likely.
    DoubleFault = 0,
    /// NMI: may come in before the entry code has switched stacks.
    NonMaskable = 1,
    /// #MC: likewise.
    MachineCheck = 2,
}

/// One processor's tables.
pub(crate) struct Tables {
    gdt: GlobalDescriptorTable<SLOTS>,
    tss: TaskStateSegment,
}

impl Tables {
    /// Tables that are not loaded yet.
    pub(crate) const fn new() -> Self {
        Self { gdt: GlobalDescriptorTable::empty(), tss: TaskStateSegment::new() }
    }
}

/// Loads segments and task state of this processor, which has its stacks ([`set_stacks`]).
pub(crate) fn load(cpu: &'static PerCpu) {
    let tables = cpu.tables.get();
    // SAFETY: the tables belong to this processor, which runs this once, before anything else refers to them; they live
    // in a static. The descriptors are in the order that the selectors above say.
    unsafe {
        let gdt = &mut (*tables).gdt;
        gdt.append(Descriptor::kernel_code_segment());
        gdt.append(Descriptor::kernel_data_segment());
        gdt.append(Descriptor::user_data_segment());
        gdt.append(Descriptor::user_code_segment());
        gdt.append(Descriptor::tss_segment_unchecked(&raw const (*tables).tss));
        (*tables).gdt.load_unsafe();
        CS::set_reg(SegmentSelector(KERNEL_CODE));
        SS::set_reg(SegmentSelector(KERNEL_DATA));
        DS::set_reg(SegmentSelector(0));
        ES::set_reg(SegmentSelector(0));
        load_tss(SegmentSelector(TASK_STATE));
    }
}

/// Changes the stacks that a processor uses from the next entry on: this one, or one that does not run yet.
pub(crate) fn set_stacks(cpu: &'static PerCpu, stacks: &Stacks) {
    cpu.stack_top.set(stacks.main);
    // SAFETY: only that processor uses its tables, and it reads them on entries only, of which none happens here.
    let tss = unsafe { &mut (*cpu.tables.get()).tss };
    tss.privilege_stack_table = [VirtAddr::new(stacks.main), VirtAddr::zero(), VirtAddr::zero()];
    // The record is packed, so its arrays can only be replaced as a whole.
    let [double_fault, non_maskable, machine_check] = stacks.exceptions.map(VirtAddr::new);
    let none = VirtAddr::zero();
    tss.interrupt_stack_table = [double_fault, non_maskable, machine_check, none, none, none, none];
}
