//! The one entry: PVH (the x86/HVM direct boot ABI of Xen, `docs/misc/pvh.pandoc` there).
//!
//! The loader finds the entry address in an ELF note and jumps there in 32-bit protected mode, flat segments,
//! paging off, interrupts off, with the physical address of the start info in `ebx`. The stub here makes first page
//! tables: physical addresses 0 to 4 GiB appear at 0, at the direct map, and (the first 1 GiB) at the kernel's link
//! address. Then it enters long mode (Intel SDM vol. 3A, 10.8.5) and calls [`crate::boot_main`] on a stack in the
//! direct map.

use core::arch::global_asm;

/// Size of the stack used until the CPU's own stack is mapped, in bytes.
pub(crate) const BOOT_STACK_BYTES: usize = 128 * 1024;

global_asm!(
    r#"
    // The note that names the entry: XEN_ELFNOTE_PHYS32_ENTRY (18), owner "Xen".
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .balign 4
    .quad pvh_entry

    .section .boot.text, "ax"
    .code32
    .global pvh_entry
pvh_entry:
    cld
    movl %ebx, %edi

    // Page directories for 4 GiB, 2 MiB pages: present, writable, large.
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    shll $21, %eax
    orl $0x83, %eax
    movl %eax, boot_page_directories(, %ecx, 8)
    incl %ecx
    cmpl $2048, %ecx
    jne 1b

    // The four directories, in the table for the identity map and the direct map.
    movl $boot_page_directories + 3, %eax
    movl %eax, boot_low_table
    addl $0x1000, %eax
    movl %eax, boot_low_table + 8
    addl $0x1000, %eax
    movl %eax, boot_low_table + 16
    addl $0x1000, %eax
    movl %eax, boot_low_table + 24
    // The first directory again, at -2 GiB.
    movl $boot_page_directories + 3, boot_high_table + 510 * 8

    movl $boot_low_table + 3, boot_root
    movl $boot_low_table + 3, boot_root + 256 * 8
    movl $boot_high_table + 3, boot_root + 511 * 8

    movl %cr4, %eax
    orl $0x20, %eax             // PAE
    movl %eax, %cr4
    movl $boot_root, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      // EFER
    rdmsr
    orl $0x100, %eax            // LME
    wrmsr
    movl %cr0, %eax
    orl $0x80010001, %eax       // PG, WP, PE
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $0x08, $boot_long_mode

    .code64
boot_long_mode:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl %edi, %edi
    movabsq ${direct_map} + boot_stack_end, %rsp
    xorl %ebp, %ebp
    movabsq ${main}, %rax
    callq *%rax
    ud2

    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff    // 64-bit code, ring 0
boot_gdt_pointer:
    .word 15
    .long boot_gdt

    .section .boot.bss, "aw", @nobits
    .balign 4096
    .global boot_root
boot_root:              .skip 4096
boot_low_table:         .skip 4096
boot_high_table:        .skip 4096
boot_page_directories:  .skip 4 * 4096
    .global boot_stack
boot_stack:             .skip {stack_bytes}
boot_stack_end:
    .text
    "#,
    direct_map = const crate::direct_map::BASE,
    stack_bytes = const BOOT_STACK_BYTES,
    main = sym crate::boot_main,
    options(att_syntax),
);
