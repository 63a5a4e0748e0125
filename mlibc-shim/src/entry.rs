//! Into the shim and out of it.

use crate::local::local_answer;
use core::arch::global_asm;
use core::mem::offset_of;
use core::panic::PanicInfo;
use posix_protocol::shim::{Context, MAGIC, SIGNAL_CHECK, ThreadBlock};
use quire_abi::{Call, Error};

const CONTEXT: usize = offset_of!(ThreadBlock, context);

global_asm!(
    ".section .text.shim, \"ax\", @progbits",
    ".balign 4096",
    ".global shim_entry",
    "shim_image:",
    // `posix_protocol::shim::ImageHeader`.
    ".quad {magic}",
    ".long shim_entry - shim_image",
    ".long shim_exit_start - shim_image",
    ".long shim_exit_start - shim_image",
    ".long shim_exit_end - shim_image",
    ".long shim_store_start - shim_image",
    ".long shim_store_end - shim_image",
    ".long shim_store_failed - shim_image",
    ".long shim_image_end - shim_image",

    ".balign 16",
    "shim_entry:",
    "mov qword ptr gs:[{rsp}], rsp",
    "mov qword ptr gs:[{call_number}], rax",
    "mov qword ptr gs:[{rax}], rax",
    "mov qword ptr gs:[{rbx}], rbx",
    "mov qword ptr gs:[{rcx}], rcx",
    "mov qword ptr gs:[{rdx}], rdx",
    "mov qword ptr gs:[{rsi}], rsi",
    "mov qword ptr gs:[{rdi}], rdi",
    "mov qword ptr gs:[{rbp}], rbp",
    "mov qword ptr gs:[{r8}], r8",
    "mov qword ptr gs:[{r9}], r9",
    "mov qword ptr gs:[{r10}], r10",
    "mov qword ptr gs:[{r11}], r11",
    "mov qword ptr gs:[{r12}], r12",
    "mov qword ptr gs:[{r13}], r13",
    "mov qword ptr gs:[{r14}], r14",
    "mov qword ptr gs:[{r15}], r15",
    "mov qword ptr gs:[{rip}], rcx",
    "mov qword ptr gs:[{rflags}], r11",
    "mov rsp, qword ptr gs:[{stack_end}]",
    "cld",
    "mov rdi, qword ptr gs:[{address}]",
    "mov esi, eax",
    "call {local_answer}",
    "test al, al",
    "jnz shim_exit_start",

    // Numbers are 32 bits wide, as Linux takes them.
    "mov esi, dword ptr gs:[{call_number}]",
    // `channel_call` with the label in rsi: words 0 to 5 are the program's rdi, rsi, rdx, r10, r8, r9.
    "shim_request:",
    "mov rdx, qword ptr gs:[{rdi}]",
    "mov r10, qword ptr gs:[{rsi}]",
    "mov r8, qword ptr gs:[{rdx}]",
    "mov r9, qword ptr gs:[{r10}]",
    "mov r12, qword ptr gs:[{r8}]",
    "mov r13, qword ptr gs:[{r9}]",
    "xor r14d, r14d",
    "xor r15d, r15d",
    "mov rdi, qword ptr gs:[{channel}]",
    "mov eax, {channel_call}",
    "syscall",
    "test rax, rax",
    "jnz shim_refused",
    // RETURN is 0: word 0 is the result. RESTORE: the server has written the registers.
    "test rsi, rsi",
    "jnz shim_exit_start",
    "mov qword ptr gs:[{rax}], rdx",

    // The way out, which may be begun again at any point: up to the jump nothing but registers changes.
    "shim_exit_start:",
    "cmp qword ptr gs:[{pending}], 0",
    "jne shim_signal_check",
    "mov rsp, qword ptr gs:[{stack_end}]",
    "push qword ptr gs:[{rflags}]",
    "popfq",
    "mov rax, qword ptr gs:[{rax}]",
    "mov rbx, qword ptr gs:[{rbx}]",
    "mov rcx, qword ptr gs:[{rcx}]",
    "mov rdx, qword ptr gs:[{rdx}]",
    "mov rsi, qword ptr gs:[{rsi}]",
    "mov rdi, qword ptr gs:[{rdi}]",
    "mov rbp, qword ptr gs:[{rbp}]",
    "mov r8, qword ptr gs:[{r8}]",
    "mov r9, qword ptr gs:[{r9}]",
    "mov r10, qword ptr gs:[{r10}]",
    "mov r11, qword ptr gs:[{r11}]",
    "mov r12, qword ptr gs:[{r12}]",
    "mov r13, qword ptr gs:[{r13}]",
    "mov r14, qword ptr gs:[{r14}]",
    "mov r15, qword ptr gs:[{r15}]",
    "mov rsp, qword ptr gs:[{rsp}]",
    "jmp qword ptr gs:[{rip}]",
    "shim_exit_end:",

    "shim_signal_check:",
    "movabs rsi, {signal_check}",
    "jmp shim_request",

    // The server is gone, and the program with it; or it would not have the message.
    "shim_refused:",
    "cmp rax, {peer_closed}",
    "je shim_end",
    "mov qword ptr gs:[{rax}], {not_implemented}",
    "jmp shim_exit_start",
    "shim_end:",
    "mov eax, {thread_exit}",
    "syscall",
    "ud2",

    // fn(address, first, second) -> bool: stores two words for the program. If that faults, the server lets it go on at
    // shim_store_failed.
    ".global shim_store_two",
    "shim_store_two:",
    "shim_store_start:",
    "mov qword ptr [rdi], rsi",
    "mov qword ptr [rdi + 8], rdx",
    "mov eax, 1",
    "ret",
    // fn(address, word) -> bool: stores one.
    ".global shim_store_one",
    "shim_store_one:",
    "mov qword ptr [rdi], rsi",
    "mov eax, 1",
    "ret",
    "shim_store_end:",
    "shim_store_failed:",
    "xor eax, eax",
    "ret",
    magic = const MAGIC,
    local_answer = sym local_answer,
    signal_check = const SIGNAL_CHECK,
    channel_call = const Call::ChannelCall as u64,
    thread_exit = const Call::ThreadExit as u64,
    peer_closed = const Error::PeerClosed as u64,
    not_implemented = const -(linux_raw_sys::errno::ENOSYS as i64),
    address = const offset_of!(ThreadBlock, address),
    stack_end = const offset_of!(ThreadBlock, stack_end),
    channel = const offset_of!(ThreadBlock, channel),
    pending = const offset_of!(ThreadBlock, pending),
    call_number = const offset_of!(ThreadBlock, call_number),
    rax = const CONTEXT + offset_of!(Context, rax),
    rbx = const CONTEXT + offset_of!(Context, rbx),
    rcx = const CONTEXT + offset_of!(Context, rcx),
    rdx = const CONTEXT + offset_of!(Context, rdx),
    rsi = const CONTEXT + offset_of!(Context, rsi),
    rdi = const CONTEXT + offset_of!(Context, rdi),
    rbp = const CONTEXT + offset_of!(Context, rbp),
    rsp = const CONTEXT + offset_of!(Context, rsp),
    r8 = const CONTEXT + offset_of!(Context, r8),
    r9 = const CONTEXT + offset_of!(Context, r9),
    r10 = const CONTEXT + offset_of!(Context, r10),
    r11 = const CONTEXT + offset_of!(Context, r11),
    r12 = const CONTEXT + offset_of!(Context, r12),
    r13 = const CONTEXT + offset_of!(Context, r13),
    r14 = const CONTEXT + offset_of!(Context, r14),
    r15 = const CONTEXT + offset_of!(Context, r15),
    rip = const CONTEXT + offset_of!(Context, rip),
    rflags = const CONTEXT + offset_of!(Context, rflags),
);

/// The shim has no text to show; a fault in it ends the process.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
