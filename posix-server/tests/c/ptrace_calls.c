/* ptrace: calls that are stopped at their beginning and end, and changed there. */
#include "tracing.h"

#include <sched.h>
#include <sys/prctl.h>

/* `struct ptrace_syscall_info`, which has no name in every C library. */
struct call_info {
    uint8_t op;
    uint8_t padding[3];
    uint32_t arch;
    uint64_t instruction_pointer, stack_pointer;
    uint64_t words[8];
};
#define GET_CALL_INFO 0x420e

static void some_calls(void) {
    getppid();
    getpid();
    syscall(SYS_getuid);
    sched_yield();
    syscall(SYS_close, 1000);
}

/* What a thread at the beginning or end of a call shows. */
static void show_call(const char *what, pid_t child) {
    struct user_regs_struct registers = registers_of(child);
    long result = (long)registers.rax;
    if (result < 0)
        say("%s %ld: %s", what, (long)registers.orig_rax, errno_name((int)-result));
    else
        say("%s %ld: a result", what, (long)registers.orig_rax);
}

TEST(calls_that_the_process_could_answer_itself_are_seen_too) {
    pid_t child = traced_child(some_calls);
    CALL(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD));
    for (int i = 0; i < 10; i++) {
        go_on(PTRACE_SYSCALL, child, 0);
        show_call(i % 2 == 0 ? "enters" : "leaves", child);
    }
    finish(child);
}

TEST(stops_of_calls_look_like_signals_without_the_option) {
    pid_t child = traced_child(some_calls);
    go_on(PTRACE_SYSCALL, child, 0);
    siginfo_t info;
    CALL(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    say("%s, code %d, of the child: %s", signal_name(info.si_signo), info.si_code, info.si_pid == child ? "yes" : "no");
    unsigned long message = 7;
    CALL(trace(PTRACE_GETEVENTMSG, child, 0, (unsigned long)&message));
    say("message %lu", message);
    go_on(PTRACE_SYSCALL, child, 0);
    CALL(trace(PTRACE_GETEVENTMSG, child, 0, (unsigned long)&message));
    say("message %lu", message);
    finish(child);
}

static void clocks_and_pipes(void) {
    int ends[2];
    char byte = 'x';
    struct timespec time;
    sigset_t set;
    sigemptyset(&set);
    SET_UP(pipe(ends) == 0);
    for (int i = 0; i < 3; i++) {
        SET_UP(write(ends[1], &byte, 1) == 1);
        SET_UP(read(ends[0], &byte, 1) == 1);
    }
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
    sigprocmask(SIG_BLOCK, &set, NULL);
    syscall(SYS_gettid);
}

TEST(reads_of_pipes_clocks_and_the_mask_are_seen) {
    pid_t child = traced_child(clocks_and_pipes);
    SET_UP(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD) == 0);
    for (int i = 0; i < 10; i++) {
        int status;
        SET_UP(trace(PTRACE_SYSCALL, child, 0, 0) == 0);
        SET_UP(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
        long entered = (long)registers_of(child).orig_rax;
        SET_UP(trace(PTRACE_SYSCALL, child, 0, 0) == 0);
        SET_UP(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
        say("call %ld, result %ld", entered, (long)registers_of(child).rax);
        if (entered == SYS_gettid)
            break;
    }
    finish(child);
}

static void close_a_number(void) {
    long result = syscall(SYS_close, 12345);
    say("close: %ld %s", result, result < 0 ? errno_name(errno) : "");
}

static void enter_call(pid_t child, long number) {
    do {
        int status;
        SET_UP(trace(PTRACE_SYSCALL, child, 0, 0) == 0);
        SET_UP(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    } while ((long)registers_of(child).orig_rax != number || (long)registers_of(child).rax != -ENOSYS);
}

TEST(a_call_is_replaced_by_another) {
    pid_t child = traced_child(close_a_number);
    enter_call(child, SYS_close);
    struct user_regs_struct registers = registers_of(child);
    say("argument %ld", registers.rdi);
    registers.orig_rax = SYS_alarm;
    registers.rdi = 0;
    set_registers(child, &registers);
    finish(child);
}

TEST(a_call_is_left_out_and_has_the_result_that_is_given) {
    pid_t child = traced_child(close_a_number);
    enter_call(child, SYS_close);
    struct user_regs_struct registers = registers_of(child);
    registers.orig_rax = ~0UL;
    set_registers(child, &registers);
    go_on(PTRACE_SYSCALL, child, 0);
    registers = registers_of(child);
    say("result %ld, number %ld", registers.rax, registers.orig_rax);
    registers.rax = 77;
    set_registers(child, &registers);
    finish(child);
}

TEST(the_result_of_a_call_is_changed_by_a_word) {
    pid_t child = traced_child(close_a_number);
    enter_call(child, SYS_close);
    unsigned long word = 0;
    CALL(trace(PTRACE_PEEKUSER, child, offsetof(struct user_regs_struct, orig_rax), (unsigned long)&word));
    say("number %lu", word);
    CALL(trace(PTRACE_POKEUSER, child, offsetof(struct user_regs_struct, rdi), 54321));
    go_on(PTRACE_SYSCALL, child, 0);
    CALL(trace(PTRACE_PEEKUSER, child, offsetof(struct user_regs_struct, rdi), (unsigned long)&word));
    say("argument %lu", word);
    CALL(trace(PTRACE_POKEUSER, child, offsetof(struct user_regs_struct, rax), 5));
    finish(child);
}

static void show_info(pid_t child) {
    struct call_info info;
    memset(&info, 0, sizeof info);
    CALL(trace(GET_CALL_INFO, child, sizeof info, (unsigned long)&info));
    struct user_regs_struct registers = registers_of(child);
    say("kind %d, architecture %#x", info.op, info.arch);
    HOLDS(info.instruction_pointer == registers.rip && info.stack_pointer == registers.rsp);
    if (info.op == 1)
        say("number %lu, argument %lu", (long)info.words[0], (long)info.words[1]);
    if (info.op == 2)
        say("result %ld, error %d", (long)info.words[0], ((uint8_t *)&info.words[1])[0]);
}

TEST(what_is_told_of_a_call) {
    pid_t child = traced_child(close_a_number);
    SET_UP(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD) == 0);
    show_info(child);
    enter_call(child, SYS_close);
    show_info(child);
    char few[8];
    CALL(RAW(SYS_ptrace, GET_CALL_INFO, child, sizeof few, few));
    CALL(trace(GET_CALL_INFO, child, 100, (unsigned long)BAD_ADDRESS));
    go_on(PTRACE_SYSCALL, child, 0);
    show_info(child);
    finish(child);
}

static int ends[2];

static void nothing(int signal_number) { (void)signal_number; }

static void read_once(void) {
    char byte;
    handle(SIGUSR1, nothing, SA_RESTART);
    handle(SIGUSR2, nothing, 0);
    long got = read(ends[0], &byte, 1);
    say("read: %ld %s", got, got < 0 ? errno_name(errno) : "");
}

/* A call that a signal interrupts shows how it is to be done again, at its end and where the signal stops it. */
TEST(a_call_that_is_interrupted_shows_how_it_goes_on) {
    int signals[] = {SIGUSR1, SIGUSR2, SIGWINCH, 0};
    for (int i = 0; i < 4; i++) {
        SET_UP(pipe(ends) == 0);
        pid_t child = traced_child(read_once);
        enter_call(child, SYS_read);
        SET_UP(trace(PTRACE_SYSCALL, child, 0, 0) == 0);
        kill(child, signals[i] ? signals[i] : SIGUSR2);
        wait_stop("interrupted", child);
        say("number %ld, result %ld", registers_of(child).orig_rax, registers_of(child).rax);
        go_on(PTRACE_SYSCALL, child, 0);
        say("number %ld, result %ld", registers_of(child).orig_rax, registers_of(child).rax);
        go_on(PTRACE_SYSCALL, child, signals[i]);
        say("enters %ld", registers_of(child).orig_rax);
        write(ends[1], "a", 1);
        finish(child);
        close(ends[0]), close(ends[1]);
    }
}

static void sleep_long(void) {
    struct timespec time = {0, 20 * 1000 * 1000};
    say("sleep: %d", nanosleep(&time, NULL));
}

TEST(a_sleep_that_is_interrupted_goes_on_by_another_call) {
    pid_t child = traced_child(sleep_long);
    enter_call(child, SYS_nanosleep);
    SET_UP(trace(PTRACE_SYSCALL, child, 0, 0) == 0);
    kill(child, SIGWINCH);
    wait_stop("interrupted", child);
    say("number %ld, result %ld", registers_of(child).orig_rax, registers_of(child).rax);
    go_on(PTRACE_SYSCALL, child, 0);
    go_on(PTRACE_SYSCALL, child, SIGWINCH);
    say("number %ld, result %ld", registers_of(child).orig_rax, registers_of(child).rax);
    go_on(PTRACE_SYSCALL, child, 0);
    say("number %ld, result %ld", registers_of(child).orig_rax, registers_of(child).rax);
    finish(child);
}

TEST(a_signal_given_at_a_call_is_sent) {
    pid_t child = traced_child(close_a_number);
    enter_call(child, SYS_close);
    go_on(PTRACE_SYSCALL, child, SIGUSR1);
    go_on(PTRACE_CONT, child, 0);
    siginfo_t info;
    CALL(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    say("%s, code %#x", signal_name(info.si_signo), (unsigned)info.si_code);
    finish(child);
}

static void only_exit(void) { _exit(3); }

TEST(the_last_call_has_a_beginning_and_no_end) {
    pid_t child = traced_child(only_exit);
    enter_call(child, SYS_exit_group);
    go_on(PTRACE_SYSCALL, child, 0);
}

/* A filter that leaves `close` to the tracer. */
static void let_the_tracer_judge(void) {
    struct {
        uint16_t code;
        uint8_t yes, no;
        uint32_t value;
    } code[] = {{0x20, 0, 0, 0}, {0x15, 0, 1, SYS_close}, {0x06, 0, 0, 0x7ff00000 | 55}, {0x06, 0, 0, 0x7fff0000}};
    struct {
        uint16_t length;
        void *code;
    } program = {4, code};
    SET_UP(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    SET_UP(prctl(PR_SET_SECCOMP, 2, &program, 0, 0) == 0);
    close_a_number();
    close_a_number();
    close_a_number();
}

TEST(a_filter_asks_the_tracer) {
    pid_t child = traced_child(let_the_tracer_judge);
    SET_UP(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD) == 0);
    go_on(PTRACE_CONT, child, 0);
    unsigned long message;
    CALL(trace(PTRACE_GETEVENTMSG, child, 0, (unsigned long)&message));
    say("message %lu", message);
    show_call("asked at", child);
    struct call_info info;
    CALL(trace(GET_CALL_INFO, child, sizeof info, (unsigned long)&info));
    say("kind %d, number %ld, data %d", info.op, (long)info.words[0], (int)info.words[7]);
    go_on(PTRACE_CONT, child, 0);
    struct user_regs_struct registers = registers_of(child);
    registers.orig_rax = ~0UL;
    registers.rax = 123;
    set_registers(child, &registers);
    go_on(PTRACE_SYSCALL, child, 0);
    go_on(PTRACE_CONT, child, 0);
    CALL(trace(PTRACE_SETOPTIONS, child, 0, 0));
    finish(child);
}
