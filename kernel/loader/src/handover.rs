//! The jump: out of long mode, to the kernel's 32-bit entry.

use crate::pages::{Pages, PagesError};
use core::arch::global_asm;

// Called like a function of the "sysv64" convention: edi = start info, esi = entry. It is copied below 4 GiB first, so it
// refers to itself only relative to rip, and in 32-bit mode not at all.
// Leaving long mode: Intel SDM vol. 3A, 10.8.5.4. The state at the entry: Xen's docs/misc/pvh.pandoc.
global_asm!(
    r#"
    .text
    .balign 16
    .global quire_trampoline
quire_trampoline:
    cli
    cld
    movl %edi, %ebx
    movl %esi, %ebp
    // The operand of lgdt, on the stack: limit, then base.
    leaq 5f(%rip), %rax
    pushq %rax
    subq $8, %rsp
    movw $23, 6(%rsp)
    lgdt 6(%rsp)
    // A far return to the 32-bit code segment.
    pushq $0x08
    leaq 2f(%rip), %rax
    pushq %rax
    lretq

    .code32
2:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl $0x11, %eax            // paging off: only protected mode and ET remain
    movl %eax, %cr0
    movl $0xc0000080, %ecx      // EFER: long mode off
    xorl %eax, %eax
    xorl %edx, %edx
    wrmsr
    movl %eax, %cr4
    movl %eax, %cr3
    jmpl *%ebp

    .code64
    .balign 8
5:  .quad 0
    .quad 0x00cf9b000000ffff    // code: 32-bit, ring 0, 4 GiB, accessed
    .quad 0x00cf93000000ffff    // data: the same
    .global quire_trampoline_end
quire_trampoline_end:
    "#,
    options(att_syntax),
);

unsafe extern "C" {
    static quire_trampoline: u8;
    static quire_trampoline_end: u8;
}

/// A copy of the code above, below 4 GiB.
pub(crate) struct Trampoline {
    pages: Pages,
}

impl Trampoline {
    /// Copies the code.
    pub(crate) fn new() -> Result<Self, PagesError> {
        let start = &raw const quire_trampoline;
        let length = (&raw const quire_trampoline_end).addr() - start.addr();
        // SAFETY: the two symbols enclose the code above, which is part of this program and never written.
        let code = unsafe { core::slice::from_raw_parts(start, length) };
        let mut pages = Pages::for_code(length)?;
        if let Some(target) = pages.all_bytes().get_mut(..length) {
            target.copy_from_slice(code);
        }
        Ok(Self { pages })
    }
}

/// Jumps to the kernel's entry with the address of the start info.
pub(crate) fn jump(trampoline: &Trampoline, start_info: u64, entry: u32) -> ! {
    let code = trampoline.pages.address() as *const ();
    // SAFETY: the pages hold the code above, which has this signature, in memory that the firmware has mapped executable
    // at its physical address.
    let code = unsafe { core::mem::transmute::<*const (), unsafe extern "sysv64" fn(u64, u64) -> !>(code) };
    // SAFETY: boot services have ended, so nothing but this CPU runs; the code lies below 4 GiB at equal physical and
    // virtual addresses, as it needs to switch paging off; the start info and the entry were checked to lie there too.
    unsafe { code(start_info, u64::from(entry)) }
}
