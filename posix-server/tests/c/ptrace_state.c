/* ptrace: memory, registers and signals of a thread that stands still; single steps. */
#include "tracing.h"

#define PEEK_SIGNALS 0x4209
#define GET_MASK 0x420a
#define SET_MASK 0x420b

static volatile long word = 0x1122334455667788;
static const long constant = 0x0102030405060708;

__attribute__((noinline)) static long answer(void) { return 42; }

static void show_words(void) {
    say("word %lx, constant %lx", word, *(volatile const long *)&constant);
    say("answer %ld", answer());
}

static long peek(pid_t child, unsigned long address) {
    long value = 0;
    CALL(RAW(SYS_ptrace, PTRACE_PEEKDATA, child, address, &value));
    return value;
}

TEST(memory_is_read_and_written_past_its_protection) {
    pid_t child = traced_child(show_words);
    say("%lx", peek(child, (unsigned long)&word));
    CALL(trace(PTRACE_POKEDATA, child, (unsigned long)&word, 0x99));
    CALL(trace(PTRACE_POKETEXT, child, (unsigned long)&constant, 0x77));
    say("%lx", peek(child, (unsigned long)&constant));
    /* mov $7, %eax; ret */
    unsigned char code[8] = {0xb8, 7, 0, 0, 0, 0xc3, 0x90, 0x90};
    long machine_code;
    memcpy(&machine_code, code, sizeof code);
    CALL(trace(PTRACE_POKETEXT, child, (unsigned long)answer, (unsigned long)machine_code));
    finish(child);
    say("here: constant %lx, answer %ld", *(volatile const long *)&constant, answer());
}

TEST(memory_that_is_not_there_is_an_error) {
    pid_t child = traced_child(show_words);
    long value;
    CALL(trace(PTRACE_PEEKDATA, child, 16, (unsigned long)&value));
    CALL(trace(PTRACE_POKEDATA, child, 16, 1));
    CALL(trace(PTRACE_PEEKDATA, child, (unsigned long)BAD_ADDRESS, (unsigned long)&value));
    CALL(trace(PTRACE_POKEDATA, child, (unsigned long)BAD_ADDRESS, 1));
    CALL(trace(PTRACE_PEEKDATA, child, (unsigned long)&word, (unsigned long)BAD_ADDRESS));
    CALL(trace(PTRACE_PEEKDATA, child, (unsigned long)-4, (unsigned long)&value));
    kill_and_wait(child);
}

static char *pages;

TEST(pages_without_access_are_read_and_shared_ones_keep_their_protection) {
    make_file("file", "0123456789", 10);
    int file = open("file", O_RDWR);
    SET_UP(file >= 0);
    pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(pages != MAP_FAILED);
    strcpy(pages, "hidden!");
    SET_UP(mprotect(pages, PAGE, PROT_NONE) == 0);
    SET_UP(mprotect(pages + PAGE, PAGE, PROT_READ) == 0);
    char *shared = mmap(pages + 2 * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
    SET_UP(shared != MAP_FAILED);
    pid_t child = traced_child(show_words);
    long value = peek(child, (unsigned long)pages);
    show_bytes("hidden", &value, sizeof value);
    CALL(trace(PTRACE_POKEDATA, child, (unsigned long)pages, 'x'));
    CALL(trace(PTRACE_POKEDATA, child, (unsigned long)pages + PAGE, 'y'));
    CALL(trace(PTRACE_POKEDATA, child, (unsigned long)pages + 2 * PAGE, 'z'));
    CALL(trace(PTRACE_POKEDATA, child, (unsigned long)pages + PAGE - 4, 0x4242424242424242));
    say("%lx", peek(child, (unsigned long)pages + PAGE - 4));
    kill_and_wait(child);
    say("here: %d", pages[PAGE]);
    show_file("file");
}

TEST(the_file_of_a_memory_passes_its_protection_too) {
    pid_t child = traced_child(show_words);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)child);
    int memory = open(path, O_RDWR);
    SET_UP(memory >= 0);
    long value = 0x55;
    CALL(pwrite(memory, &value, sizeof value, (off_t)(unsigned long)&constant));
    CALL(pread(memory, &value, sizeof value, (off_t)(unsigned long)&word));
    say("%lx", value);
    finish(child);
}

TEST(registers_are_those_of_the_program) {
    pid_t child = traced_child(show_words);
    struct user_regs_struct registers = registers_of(child);
    say("cs %lx, ss %lx, ds %lx", registers.cs, registers.ss, registers.ds);
    HOLDS(registers.rip > 0x1000 && registers.rsp > registers.rip);
    HOLDS(registers.eflags & 0x200);
    HOLDS(registers.fs_base != 0);
    struct user_regs_struct again;
    struct iovec vector = {&again, sizeof again};
    memset(&again, 0, sizeof again);
    CALL(trace(PTRACE_GETREGSET, child, 1, (unsigned long)&vector));
    say("length %zu", vector.iov_len);
    HOLDS(memcmp(&again, &registers, sizeof again) == 0);
    vector.iov_len = 16;
    CALL(trace(PTRACE_GETREGSET, child, 1, (unsigned long)&vector));
    say("length %zu", vector.iov_len);
    vector.iov_len = 10;
    CALL(trace(PTRACE_GETREGSET, child, 1, (unsigned long)&vector));
    vector.iov_len = sizeof again;
    CALL(trace(PTRACE_GETREGSET, child, 0x7777, (unsigned long)&vector));
    CALL(trace(PTRACE_GETREGSET, child, 1, 0));
    CALL(trace(PTRACE_SETREGS, child, 0, (unsigned long)&registers));
    CALL(trace(PTRACE_GETREGS, child, 0, (unsigned long)BAD_ADDRESS));
    finish(child);
}

TEST(registers_that_no_program_has_are_refused) {
    pid_t child = traced_child(show_words);
    unsigned long value = 0;
    CALL(trace(PTRACE_POKEUSER, child, offsetof(struct user_regs_struct, cs), 0));
    CALL(trace(PTRACE_POKEUSER, child, offsetof(struct user_regs_struct, ds), 0x10));
    CALL(trace(PTRACE_POKEUSER, child, offsetof(struct user_regs_struct, fs_base), ~0UL));
    CALL(trace(PTRACE_POKEUSER, child, offsetof(struct user_regs_struct, rip) + 1, 0));
    CALL(trace(PTRACE_POKEUSER, child, SIZEOF_USER, 0));
    CALL(trace(PTRACE_PEEKUSER, child, SIZEOF_USER, (unsigned long)&value));
    CALL(trace(PTRACE_PEEKUSER, child, SIZEOF_USER - 24, (unsigned long)&value));
    say("the last debug register %lx", value);
    CALL(trace(PTRACE_PEEKUSER, child, 3, (unsigned long)&value));
    unsigned long flags = registers_of(child).eflags;
    CALL(trace(PTRACE_POKEUSER, child, offsetof(struct user_regs_struct, eflags), flags ^ 0x3201));
    say("flags changed: %lx", registers_of(child).eflags ^ flags);
    finish(child);
}

static void floats(void) {
    double one = 1.5, two = 2.25;
    __asm__ volatile("movsd %0, %%xmm5\n movsd %1, %%xmm6\n int3\n movsd %%xmm5, %0" : "+m"(one) : "m"(two) : "xmm5", "xmm6");
    say("xmm5 is %d hundredths", (int)(one * 100));
}

TEST(vector_registers_are_seen_and_changed) {
    pid_t child = traced_child(floats);
    go_on(PTRACE_CONT, child, 0);
    struct user_fpregs_struct vector;
    CALL(trace(PTRACE_GETFPREGS, child, 0, (unsigned long)&vector));
    double value;
    memcpy(&value, &vector.xmm_space[4 * 6], sizeof value);
    say("xmm6 is %d hundredths, control %x, mxcsr %x", (int)(value * 100), vector.cwd, vector.mxcsr);
    memcpy(&vector.xmm_space[4 * 5], &value, sizeof value);
    CALL(trace(PTRACE_SETFPREGS, child, 0, (unsigned long)&vector));
    static unsigned char state[16384] __attribute__((aligned(64)));
    struct iovec io = {state, sizeof state};
    CALL(trace(PTRACE_GETREGSET, child, 0x202, (unsigned long)&io));
    memcpy(&value, state + 160 + 16 * 5, sizeof value);
    say("xmm5 is %d hundredths there", (int)(value * 100));
    HOLDS(io.iov_len >= 576);
    HOLDS((state[464] & 7) == 7);
    value = 7.75;
    memcpy(state + 160 + 16 * 5, &value, sizeof value);
    CALL(trace(PTRACE_SETREGSET, child, 0x202, (unsigned long)&io));
    io.iov_len = 64;
    CALL(trace(PTRACE_SETREGSET, child, 0x202, (unsigned long)&io));
    io.iov_len = sizeof state;
    CALL(trace(PTRACE_GETREGSET, child, 2, (unsigned long)&io));
    say("length %zu", io.iov_len);
    vector.mxcsr = 0xffffffff;
    CALL(trace(PTRACE_SETFPREGS, child, 0, (unsigned long)&vector));
    finish(child);
}

static void handler(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    say("%s, code %d, value %d", signal_name(signal_number), info->si_code, info->si_value.sival_int);
}

static void get_a_signal(void) {
    handle_info(SIGUSR1, handler, 0);
    handle_info(SIGUSR2, handler, 0);
    raise(SIGUSR1);
}

TEST(a_signal_is_looked_at_changed_replaced_and_left_out) {
    for (int i = 0; i < 4; i++) {
        pid_t child = traced_child(get_a_signal);
        go_on(PTRACE_CONT, child, 0);
        siginfo_t info;
        CALL(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
        say("%s, code %d, from itself: %s", signal_name(info.si_signo), info.si_code, info.si_pid == child ? "yes" : "no");
        if (i == 1) {
            info.si_code = -5;
            info.si_value.sival_int = 99;
            CALL(trace(PTRACE_SETSIGINFO, child, 0, (unsigned long)&info));
        }
        SET_UP(trace(PTRACE_CONT, child, 0, i == 2 ? 0 : i == 3 ? SIGTERM : SIGUSR1) == 0);
        wait_stop("at last", child);
    }
}

TEST(a_stop_of_the_process_has_no_signal_to_look_at) {
    pid_t child = traced_child(get_a_signal);
    go_on(PTRACE_CONT, child, SIGSTOP);
    siginfo_t info;
    CALL(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    CALL(trace(PTRACE_SETSIGINFO, child, 0, (unsigned long)&info));
    kill_and_wait(child);
}

TEST(signals_that_wait_are_listed) {
    pid_t child = traced_child(get_a_signal);
    struct {
        uint64_t offset;
        uint32_t flags;
        int32_t count;
    } arguments = {0, 0, 10};
    siginfo_t infos[10];
    memset(infos, 0, sizeof infos);
    SET_UP(syscall(SYS_tkill, child, SIGUSR1) == 0);
    union sigval value = {5};
    SET_UP(sigqueue(child, SIGRTMIN + 3, value) == 0);
    SET_UP(sigqueue(child, SIGRTMIN + 3, value) == 0);
    CALL(trace(PEEK_SIGNALS, child, (unsigned long)&arguments, (unsigned long)infos));
    say("%s", signal_name(infos[0].si_signo));
    arguments.flags = 1;
    CALL(trace(PEEK_SIGNALS, child, (unsigned long)&arguments, (unsigned long)infos));
    say("value %d", infos[1].si_value.sival_int);
    arguments.offset = 1;
    CALL(trace(PEEK_SIGNALS, child, (unsigned long)&arguments, (unsigned long)infos));
    arguments.count = -1;
    CALL(trace(PEEK_SIGNALS, child, (unsigned long)&arguments, (unsigned long)infos));
    arguments.count = 1, arguments.flags = 2;
    CALL(trace(PEEK_SIGNALS, child, (unsigned long)&arguments, (unsigned long)infos));
    CALL(trace(PEEK_SIGNALS, child, 0, (unsigned long)infos));
    kill_and_wait(child);
}

TEST(the_mask_is_seen_and_changed) {
    pid_t child = traced_child(get_a_signal);
    uint64_t mask = 1;
    CALL(trace(GET_MASK, child, sizeof mask, (unsigned long)&mask));
    say("mask %lx", mask);
    mask = 1UL << (SIGUSR1 - 1) | 1UL << (SIGKILL - 1);
    CALL(trace(SET_MASK, child, sizeof mask, (unsigned long)&mask));
    CALL(trace(GET_MASK, child, sizeof mask, (unsigned long)&mask));
    say("mask %lx", mask);
    CALL(trace(GET_MASK, child, 4, (unsigned long)&mask));
    CALL(trace(SET_MASK, child, 8, (unsigned long)BAD_ADDRESS));
    finish(child);
}

/* ---- single steps ---- */

static void few_instructions(void) {
    long result;
    __asm__ volatile("int3\n nop\n mov $5, %%eax\n mov $39, %%eax\n syscall\n nop\n nop\n" : "=a"(result) : : "rcx", "r11", "memory");
    say("itself: %s", result == getpid() ? "yes" : "no");
}

TEST(single_steps_count_instructions_and_a_call_is_one) {
    pid_t child = traced_child(few_instructions);
    go_on(PTRACE_CONT, child, 0);
    unsigned long last = registers_of(child).rip;
    for (int i = 0; i < 6; i++) {
        go_on(PTRACE_SINGLESTEP, child, 0);
        struct user_regs_struct registers = registers_of(child);
        siginfo_t info;
        SET_UP(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info) == 0);
        say("%lu bytes on, code %d, at the place: %s, flag %lx", registers.rip - last, info.si_code,
            info.si_addr == (void *)registers.rip ? "yes" : "no", registers.eflags & 0x100);
        last = registers.rip;
    }
    finish(child);
}

TEST(a_step_with_a_signal_goes_into_its_handler) {
    pid_t child = traced_child(get_a_signal);
    go_on(PTRACE_CONT, child, 0);
    go_on(PTRACE_SINGLESTEP, child, SIGUSR1);
    HOLDS(registers_of(child).rip == (unsigned long)handler);
    HOLDS(registers_of(child).rdi == SIGUSR1);
    finish(child);
}

static volatile int traps;

static void count_trap(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    (void)context;
    if (traps++ == 0)
        say("code %d", info->si_code);
}

/* A program that sets the flag itself gets the signals, and calls are no longer than others. */
TEST(the_flag_of_a_program_itself_is_a_signal_for_each_instruction) {
    handle_info(SIGTRAP, count_trap, 0);
    long result;
    __asm__ volatile("sub $128, %%rsp\n pushf\n orq $0x100, (%%rsp)\n popf\n nop\n nop\n mov $39, %%eax\n syscall\n nop\n"
                     "pushf\n andq $~0x100, (%%rsp)\n popf\n add $128, %%rsp\n"
                     : "=a"(result)
                     :
                     : "rcx", "r11", "memory", "cc");
    say("%d traps, itself: %s", traps, result == getpid() ? "yes" : "no");
}

TEST(the_flag_without_a_handler_ends_the_program) {
    pid_t child = fork_child();
    if (child == 0) {
        __asm__ volatile("pushf\n orq $0x100, (%%rsp)\n popf\n nop\n" : : : "memory", "cc");
        _exit(0);
    }
    show_end("child", child);
}

static void breakpoint(void) {
    say("before");
    __asm__ volatile("int3");
    say("after");
}

TEST(a_breakpoint_stops_behind_its_instruction) {
    pid_t child = traced_child(breakpoint);
    go_on(PTRACE_CONT, child, 0);
    siginfo_t info;
    CALL(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    say("code %#x, number %ld", (unsigned)info.si_code, registers_of(child).orig_rax);
    long code = peek(child, registers_of(child).rip - 1);
    say("byte %lx", code & 0xff);
    finish(child);
}

static void only_once_more(void) { _exit(9); }

static char *volatile nowhere = NULL_PAGE_ADDRESS;

static void bad_access(void) { *nowhere = 1; }

TEST(a_fault_is_seen_and_mended) {
    pid_t child = traced_child(bad_access);
    go_on(PTRACE_CONT, child, 0);
    siginfo_t info;
    CALL(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    say("%s, code %d, address %lx", signal_name(info.si_signo), info.si_code, (unsigned long)info.si_addr);
    struct user_regs_struct registers = registers_of(child);
    say("number %ld", registers.orig_rax);
    registers.rip = (unsigned long)only_once_more;
    set_registers(child, &registers);
    finish(child);
}
