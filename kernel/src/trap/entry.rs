//! The instructions at the kernel's edge.
//!
//! All paths keep these rules: in kernel mode the `gs` base is the processor's [`PerCpu`], in user mode it is the
//! user's, kept in `IA32_KERNEL_GS_BASE` meanwhile (SWAPGS, Intel SDM vol. 2B). Interrupts are off from the first
//! instruction on: interrupt gates and `IA32_FMASK` clear IF. Nothing of a thread lives on the kernel's stack, so
//! every entry starts at its top.

use crate::cpu::gdt::{USER_CODE, USER_DATA};
use crate::cpu::percpu::{PerCpu, ReturnFrame};
use core::arch::global_asm;
use core::mem::offset_of;
use quire_abi::space::USER_END;
use quire_abi::thread::Registers;

/// RFLAGS.TF (Intel SDM vol. 1, 3.4.3.3).
const TRAP_FLAG: u32 = 1 << 8;

/// Bytes between the entry stubs of two vectors.
pub(crate) const STUB_BYTES: u64 = 16;

/// What the processor and the stubs leave on the stack when the kernel itself is interrupted.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct KernelFrame {
    pub(crate) r15: u64,
    pub(crate) r14: u64,
    pub(crate) r13: u64,
    pub(crate) r12: u64,
    pub(crate) r11: u64,
    pub(crate) r10: u64,
    pub(crate) r9: u64,
    pub(crate) r8: u64,
    pub(crate) rbp: u64,
    pub(crate) rdi: u64,
    pub(crate) rsi: u64,
    pub(crate) rdx: u64,
    pub(crate) rcx: u64,
    pub(crate) rbx: u64,
    pub(crate) rax: u64,
    pub(crate) vector: u64,
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

unsafe extern "C" {
    /// The entry of `syscall`.
    pub(crate) fn syscall_entry();
    /// The stub of vector 0; the others follow, [`STUB_BYTES`] apart.
    pub(crate) fn trap_stubs();
    /// The entry of the vectors with a stack of their own that end the kernel: #DF and #MC.
    pub(crate) fn double_fault_entry();
    /// See [`double_fault_entry`].
    pub(crate) fn machine_check_entry();
    /// The entry of NMI.
    pub(crate) fn nmi_entry();
    /// Goes to user mode with the registers at [`PerCpu::registers`].
    pub(crate) fn resume_user() -> !;
    /// Calls `main` with `argument` on the stack that ends at `top`.
    pub(crate) fn call_on_stack(top: u64, main: extern "C" fn(*const ()) -> !, argument: *const ()) -> !;
}

/// Goes to user mode with the thread that is loaded.
#[inline(always)]
pub(crate) fn resume() -> ! {
    // SAFETY: `PerCpu::registers` points at the record of the thread that is loaded, no lock is held, and nothing on the stack is
    // needed any more.
    unsafe { resume_user() }
}

// System calls.
global_asm!(
    r#"
    .text
    .balign 64
    .global syscall_entry
syscall_entry:
    swapgs
    mov gs:[{frame_rsp}], rsp
    // Is the return address in the native range?
    mov rsp, rcx
    sub rsp, gs:[{native_start}]
    cmp rsp, gs:[{native_len}]
    jae 1f

    mov rsp, gs:[{registers}]
    mov [rsp + {rax}], rax
    mov [rsp + {rbx}], rbx
    mov [rsp + {rcx}], rcx
    mov [rsp + {rdx}], rdx
    mov [rsp + {rsi}], rsi
    mov [rsp + {rdi}], rdi
    mov [rsp + {rbp}], rbp
    mov [rsp + {r8}], r8
    mov [rsp + {r9}], r9
    mov [rsp + {r10}], r10
    mov [rsp + {r11}], r11
    mov [rsp + {r12}], r12
    mov [rsp + {r13}], r13
    mov [rsp + {r14}], r14
    mov [rsp + {r15}], r15
    mov [rsp + {rip}], rcx
    mov [rsp + {rflags}], r11
    mov rax, gs:[{frame_rsp}]
    mov [rsp + {rsp}], rax
    mov rsp, gs:[{stack_top}]
    xor ebp, ebp
    call {system_call}
    ud2

    // A foreign system call: on at the thread's reflection entry. rcx (return address), r11 (flags) and all the
    // rest are as the instruction left them.
1:  mov gs:[{frame_rflags}], r11
    mov rsp, gs:[{frame_pointer}]
    swapgs
    iretq

    // Back to user mode. After a system call rcx and r11 hold what sysretq takes from them, unless somebody changed
    // the registers; then, and after all else, iretq loads everything. A trap flag that sysretq loads would trap before the
    // next instruction has run, so that is iretq's, too.
    .balign 64
    .global resume_user
resume_user:
    mov rsp, gs:[{registers}]
    mov rcx, [rsp + {rip}]
    mov r11, [rsp + {rflags}]
    mov rax, {user_end}
    cmp rcx, rax
    jae 2f
    cmp rcx, [rsp + {rcx}]
    jne 2f
    cmp r11, [rsp + {r11}]
    jne 2f
    test r11d, {trap_flag}
    jnz 2f
    mov rax, [rsp + {rax}]
    mov rbx, [rsp + {rbx}]
    mov rdx, [rsp + {rdx}]
    mov rsi, [rsp + {rsi}]
    mov rdi, [rsp + {rdi}]
    mov rbp, [rsp + {rbp}]
    mov r8, [rsp + {r8}]
    mov r9, [rsp + {r9}]
    mov r10, [rsp + {r10}]
    mov r12, [rsp + {r12}]
    mov r13, [rsp + {r13}]
    mov r14, [rsp + {r14}]
    mov r15, [rsp + {r15}]
    mov rsp, [rsp + {rsp}]
    swapgs
    sysretq

2:  mov rax, rsp
    mov rsp, gs:[{stack_top}]
    push {user_data}
    push qword ptr [rax + {rsp}]
    push r11
    push {user_code}
    push rcx
    mov rbx, [rax + {rbx}]
    mov rcx, [rax + {rcx}]
    mov rdx, [rax + {rdx}]
    mov rsi, [rax + {rsi}]
    mov rdi, [rax + {rdi}]
    mov rbp, [rax + {rbp}]
    mov r8, [rax + {r8}]
    mov r9, [rax + {r9}]
    mov r10, [rax + {r10}]
    mov r11, [rax + {r11}]
    mov r12, [rax + {r12}]
    mov r13, [rax + {r13}]
    mov r14, [rax + {r14}]
    mov r15, [rax + {r15}]
    mov rax, [rax + {rax}]
    swapgs
    iretq

    // Everything else that comes from user mode. On the stack: vector, error, and what the processor pushed.
    .balign 64
trap_common:
    test byte ptr [rsp + 24], 3
    jz 3f
    swapgs
    push rax
    mov rax, gs:[{registers}]
    mov [rax + {rbx}], rbx
    mov [rax + {rcx}], rcx
    mov [rax + {rdx}], rdx
    mov [rax + {rsi}], rsi
    mov [rax + {rdi}], rdi
    mov [rax + {rbp}], rbp
    mov [rax + {r8}], r8
    mov [rax + {r9}], r9
    mov [rax + {r10}], r10
    mov [rax + {r11}], r11
    mov [rax + {r12}], r12
    mov [rax + {r13}], r13
    mov [rax + {r14}], r14
    mov [rax + {r15}], r15
    pop rbx
    mov [rax + {rax}], rbx
    pop rdi
    pop rsi
    pop rbx
    mov [rax + {rip}], rbx
    pop rbx
    pop rbx
    mov [rax + {rflags}], rbx
    pop rbx
    mov [rax + {rsp}], rbx
    mov rsp, gs:[{stack_top}]
    // Clear what gates leave as the user had it: DF, AC, NT.
    push 2
    popfq
    xor ebp, ebp
    call {trap}
    ud2

    // From kernel mode. Interrupts are on only around the `hlt` of the idle loop: note which one it was, and return
    // with interrupts off. Exceptions are bugs.
3:  cmp qword ptr [rsp], 32
    jb 4f
    push rax
    mov rax, [rsp + 8]
    mov gs:[{idle_vector}], rax
    pop rax
    add rsp, 16
    and qword ptr [rsp + 16], ~0x200
    iretq

4:  cld
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    and rsp, -16
    call {kernel_fault}
    ud2

    // On a stack of their own. Whose `gs` base is loaded is unknown; the processor's is above the stack's top.
    .global double_fault_entry
double_fault_entry:
    push 8
    jmp 5f
    .global machine_check_entry
machine_check_entry:
    push 0
    push 18
5:  push rax
    push rcx
    push rdx
    // vector, error, rip, cs, rflags, rsp, ss follow; then the header of the stack.
    mov rdx, [rsp + 8 * 10]
    mov eax, edx
    shr rdx, 32
    mov ecx, 0xc0000101         // IA32_GS_BASE
    wrmsr
    pop rdx
    pop rcx
    pop rax
    jmp 4b

    .global nmi_entry
nmi_entry:
    lock inc qword ptr [rip + {nmi_count}]
    cmp dword ptr [rip + {panics}], 0
    jne 6f
    iretq
    // Another processor panics, and nothing may change any more.
6:  hlt
    jmp 6b

    .global call_on_stack
call_on_stack:
    mov rsp, rdi
    mov rdi, rdx
    xor ebp, ebp
    call rsi
    ud2

    // One stub per vector. Vectors 8, 10 to 14, 17, 21, 29 and 30 come with an error code (Intel SDM vol. 3A, 6.13).
    .balign 16
    .global trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .set has_code, (vector == 8) | (vector == 17) | (vector == 21) | (vector == 29) | (vector == 30)
    .if (has_code == 0) & ((vector < 10) | (vector > 14))
    push 0
    .endif
    push vector
    jmp trap_common
    .set vector, vector + 1
    .endr
    "#,
    frame_rsp = const offset_of!(PerCpu, reflection) + offset_of!(ReturnFrame, rsp),
    frame_rflags = const offset_of!(PerCpu, reflection) + offset_of!(ReturnFrame, rflags),
    frame_pointer = const offset_of!(PerCpu, reflection_pointer),
    native_start = const offset_of!(PerCpu, native_start),
    native_len = const offset_of!(PerCpu, native_len),
    registers = const offset_of!(PerCpu, registers),
    stack_top = const offset_of!(PerCpu, stack_top),
    idle_vector = const offset_of!(PerCpu, idle_vector),
    rax = const offset_of!(Registers, rax),
    rbx = const offset_of!(Registers, rbx),
    rcx = const offset_of!(Registers, rcx),
    rdx = const offset_of!(Registers, rdx),
    rsi = const offset_of!(Registers, rsi),
    rdi = const offset_of!(Registers, rdi),
    rbp = const offset_of!(Registers, rbp),
    rsp = const offset_of!(Registers, rsp),
    r8 = const offset_of!(Registers, r8),
    r9 = const offset_of!(Registers, r9),
    r10 = const offset_of!(Registers, r10),
    r11 = const offset_of!(Registers, r11),
    r12 = const offset_of!(Registers, r12),
    r13 = const offset_of!(Registers, r13),
    r14 = const offset_of!(Registers, r14),
    r15 = const offset_of!(Registers, r15),
    rip = const offset_of!(Registers, rip),
    rflags = const offset_of!(Registers, rflags),
    user_end = const USER_END,
    trap_flag = const TRAP_FLAG,
    user_code = const USER_CODE,
    user_data = const USER_DATA,
    system_call = sym crate::trap::handle::system_call,
    trap = sym crate::trap::handle::trap,
    kernel_fault = sym crate::panic::kernel_fault,
    nmi_count = sym crate::trap::handle::NMI_COUNT,
    panics = sym crate::panic::PANICS,
);
