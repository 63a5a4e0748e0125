//! What the processor offers (CPUID, Intel SDM vol. 2A), and turning it on.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};

/// The features that make a difference to the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Features {
    /// Pages that can't be executed. Required.
    pub(crate) no_execute: bool,
    /// 1 GiB pages.
    pub(crate) huge_pages: bool,
    /// Kernel mode can't fetch from user pages.
    pub(crate) smep: bool,
    /// Kernel mode can't access user pages.
    pub(crate) smap: bool,
    /// User mode can't read descriptor-table registers.
    pub(crate) umip: bool,
    /// `rdfsbase` and its kin.
    pub(crate) fsgsbase: bool,
    /// Machine-check exceptions; without them, a hardware error is a reset.
    pub(crate) machine_check: bool,
    /// Global pages.
    pub(crate) global_pages: bool,
    /// XSAVE.
    pub(crate) xsave: bool,
    /// RDRAND.
    pub(crate) rdrand: bool,
    /// The time-stamp counter ticks at one rate whatever the processor does.
    pub(crate) invariant_tsc: bool,
}

const fn bit(register: u32, bit: u32) -> bool {
    register & 1 << bit != 0
}

impl Features {
    /// Asks the processor.
    pub(crate) fn detect() -> Self {
        let highest = __cpuid(0).eax;
        let highest_extended = __cpuid(0x8000_0000).eax;
        let mut features = Self::default();
        let basic = __cpuid(1);
        features.xsave = bit(basic.ecx, 26) && highest >= 0xd;
        features.rdrand = bit(basic.ecx, 30);
        features.machine_check = bit(basic.edx, 7);
        features.global_pages = bit(basic.edx, 13);
        if highest >= 7 {
            let structured = __cpuid_count(7, 0);
            features.fsgsbase = bit(structured.ebx, 0);
            features.smep = bit(structured.ebx, 7);
            features.smap = bit(structured.ebx, 20);
            features.umip = bit(structured.ecx, 2);
        }
        if highest_extended >= 0x8000_0001 {
            let extended = __cpuid(0x8000_0001);
            features.no_execute = bit(extended.edx, 20);
            features.huge_pages = bit(extended.edx, 26);
        }
        if highest_extended >= 0x8000_0007 {
            features.invariant_tsc = bit(__cpuid(0x8000_0007).edx, 8);
        }
        features
    }

    /// Lets page-table entries forbid execution. Must come before the first page table that does.
    pub(crate) fn enable_no_execute(&self) {
        if self.no_execute {
            // SAFETY: the processor has the feature; no table in use has the bit set yet.
            unsafe { Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE)) };
        }
    }

    /// Turns on what protects the kernel, on this processor. The kernel must be on its final page tables.
    pub(crate) fn enable_protection(&self) {
        let wanted = [
            (self.smep, Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION),
            (self.smap, Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION),
            (self.umip, Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION),
            (self.fsgsbase, Cr4Flags::FSGSBASE),
            (self.machine_check, Cr4Flags::MACHINE_CHECK_EXCEPTION),
            (self.global_pages, Cr4Flags::PAGE_GLOBAL),
            (self.xsave, Cr4Flags::OSXSAVE),
            (true, Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE),
        ];
        let flags = wanted.iter().filter(|(has, _)| *has).fold(Cr4Flags::empty(), |all, (_, flag)| all | *flag);
        // SAFETY: the processor has each of the features; the kernel never executes or touches user pages, so SMEP
        // and SMAP take nothing away from it. Write protection and native floating-point errors are what the kernel
        // expects.
        unsafe {
            Cr4::update(|cr4| cr4.insert(flags));
            Cr0::update(|cr0| {
                cr0.insert(Cr0Flags::WRITE_PROTECT | Cr0Flags::MONITOR_COPROCESSOR | Cr0Flags::NUMERIC_ERROR);
                cr0.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::ALIGNMENT_MASK);
            });
        }
        if self.no_execute {
            self.enable_no_execute();
        }
    }
}
