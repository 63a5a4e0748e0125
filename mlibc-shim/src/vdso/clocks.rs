//! The functions of the vDSO. All are leaves that touch no callee-saved register and never move the stack pointer, so one rule for
//! unwinding holds for all of each: the canonical frame address is `rsp + 8`.

use core::arch::global_asm;
use core::mem::offset_of;
use core::panic::PanicInfo;
use linux_raw_sys::general as linux;
use posix_protocol::shim::ClockPage;

/// The clocks that follow the wall clock, as bits by number.
const REALTIME: u32 = 1 << linux::CLOCK_REALTIME | 1 << linux::CLOCK_REALTIME_COARSE | 1 << linux::CLOCK_TAI;
/// Those that are told here: these, and what counts from the machine's start.
const TOLD: u32 = REALTIME
    | 1 << linux::CLOCK_MONOTONIC
    | 1 << linux::CLOCK_MONOTONIC_RAW
    | 1 << linux::CLOCK_MONOTONIC_COARSE
    | 1 << linux::CLOCK_BOOTTIME;
/// Those that are told with the resolution of a tick.
const COARSE: u32 = 1 << linux::CLOCK_REALTIME_COARSE | 1 << linux::CLOCK_MONOTONIC_COARSE;

const NS_PER_SECOND: u32 = 1_000_000_000;
const NS_PER_MICROSECOND: u32 = 1000;

global_asm!(
    // A function under both its names: `vdso(7)` has the first, some libraries look for the second.
    ".macro vdso_function name",
    ".balign 16",
    ".globl __vdso_\\name",
    ".type __vdso_\\name, @function",
    ".weak \\name",
    ".type \\name, @function",
    "__vdso_\\name:",
    "\\name:",
    ".endm",
    ".macro vdso_end name",
    ".size __vdso_\\name, . - __vdso_\\name",
    ".size \\name, . - \\name",
    ".endm",

    // Leaves ns since the machine's start in rax. Uses rcx and rdx, and r8 for the page. The fence keeps the counter from being
    // read before what the caller did first. A counter behind the base, of a processor that started late, counts as the base.
    ".macro monotonic_ns",
    "lea r8, [rip + __ehdr_start - 4096]",
    "lfence",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "xor ecx, ecx",
    "sub rax, qword ptr [r8 + {tsc_base}]",
    "cmovb rax, rcx",
    "mul qword ptr [r8 + {tsc_multiplier}]",
    "mov ecx, dword ptr [r8 + {tsc_shift}]",
    "shrd rax, rdx, cl",
    ".endm",

    ".pushsection .text.vdso, \"ax\", @progbits",
    "vdso_text:",

    // int clock_gettime(clockid_t edi, struct timespec *rsi)
    "vdso_function clock_gettime",
    "cmp edi, 31",
    "ja 2f",
    "mov eax, {told}",
    "bt eax, edi",
    "jnc 2f",
    "monotonic_ns",
    "mov ecx, {realtime}",
    "bt ecx, edi",
    "jnc 1f",
    "add rax, qword ptr [r8 + {boot_unix_ns}]",
    "1: xor edx, edx",
    "mov ecx, {ns_per_second}",
    "div rcx",
    "mov qword ptr [rsi], rax",
    "mov qword ptr [rsi + 8], rdx",
    "xor eax, eax",
    "ret",
    // What only the kernel knows, or nobody.
    "2: mov eax, {nr_clock_gettime}",
    "syscall",
    "ret",
    "vdso_end clock_gettime",

    // int gettimeofday(struct timeval *rdi, struct timezone *rsi): both may be null.
    "vdso_function gettimeofday",
    "test rdi, rdi",
    "jz 1f",
    "monotonic_ns",
    "add rax, qword ptr [r8 + {boot_unix_ns}]",
    "xor edx, edx",
    "mov ecx, {ns_per_second}",
    "div rcx",
    "mov qword ptr [rdi], rax",
    "mov eax, edx",
    "xor edx, edx",
    "mov ecx, {ns_per_microsecond}",
    "div ecx",
    "mov qword ptr [rdi + 8], rax",
    "1: test rsi, rsi",
    "jz 2f",
    "mov qword ptr [rsi], 0",
    "2: xor eax, eax",
    "ret",
    "vdso_end gettimeofday",

    // time_t time(time_t *rdi): may be null.
    "vdso_function time",
    "monotonic_ns",
    "add rax, qword ptr [r8 + {boot_unix_ns}]",
    "xor edx, edx",
    "mov ecx, {ns_per_second}",
    "div rcx",
    "test rdi, rdi",
    "jz 1f",
    "mov qword ptr [rdi], rax",
    "1: ret",
    "vdso_end time",

    // int clock_getres(clockid_t edi, struct timespec *rsi): may be null.
    "vdso_function clock_getres",
    "cmp edi, 31",
    "ja 2f",
    "mov eax, {told}",
    "bt eax, edi",
    "jnc 2f",
    "test rsi, rsi",
    "jz 1f",
    "mov eax, {coarse}",
    "bt eax, edi",
    "mov eax, 1",
    "mov ecx, {coarse_ns}",
    "cmovc eax, ecx",
    "mov qword ptr [rsi], 0",
    "mov qword ptr [rsi + 8], rax",
    "1: xor eax, eax",
    "ret",
    "2: mov eax, {nr_clock_getres}",
    "syscall",
    "ret",
    "vdso_end clock_getres",

    // int getcpu(unsigned *rdi, unsigned *rsi, void *): the first two may be null. With one processor there is one answer; with more, the server knows.
    "vdso_function getcpu",
    "lea r8, [rip + __ehdr_start - 4096]",
    "cmp dword ptr [r8 + {processors}], 1",
    "jne 3f",
    "xor eax, eax",
    "test rdi, rdi",
    "jz 1f",
    "mov dword ptr [rdi], eax",
    "1: test rsi, rsi",
    "jz 2f",
    "mov dword ptr [rsi], eax",
    "2: ret",
    "3: mov eax, {nr_getcpu}",
    "syscall",
    "ret",
    "vdso_end getcpu",
    "vdso_text_end:",
    ".popsection",

    // The rule for unwinding (System V ABI for x86-64, 3.7; DWARF 4, 6.4), by hand, because the compiler puts what it makes where
    // only debuggers look. A CIE, version 1, "zR": registers in units of -8, the return address is column 16, addresses are 4
    // bytes relative to themselves; the frame is at rsp + 8 (DW_CFA_def_cfa) and the return address right below it (DW_CFA_offset).
    ".pushsection .eh_frame, \"a\", @progbits",
    ".balign 8",
    "90: .long 92f - 91f",
    "91: .long 0",
    ".byte 1",
    ".asciz \"zR\"",
    ".byte 1, 0x78, 16, 1, 0x1b",
    ".byte 0x0c, 7, 8",
    ".byte 0x90, 1",
    ".balign 8",
    // An FDE for all of the text.
    "92: .long 94f - 93f",
    "93: .long 93b - 90b",
    ".long vdso_text - .",
    ".long vdso_text_end - vdso_text",
    ".byte 0",
    ".balign 8",
    "94:",
    ".popsection",
    told = const TOLD,
    realtime = const REALTIME,
    coarse = const COARSE,
    coarse_ns = const posix_protocol::shim::COARSE_CLOCK_NS,
    ns_per_second = const NS_PER_SECOND,
    ns_per_microsecond = const NS_PER_MICROSECOND,
    tsc_base = const offset_of!(ClockPage, tsc_base),
    tsc_multiplier = const offset_of!(ClockPage, tsc_multiplier),
    tsc_shift = const offset_of!(ClockPage, tsc_shift),
    boot_unix_ns = const offset_of!(ClockPage, boot_unix_ns),
    processors = const offset_of!(ClockPage, processors),
    nr_clock_gettime = const linux::__NR_clock_gettime,
    nr_clock_getres = const linux::__NR_clock_getres,
    nr_getcpu = const linux::__NR_getcpu,
);

/// Nothing here panics; the language wants to know all the same.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
