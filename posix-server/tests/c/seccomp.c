/* seccomp: calls that a thread may not make. */
#include "case.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

/* `linux/seccomp.h` and `linux/filter.h`, which not every C library brings along. */
#define STRICT 0
#define FILTER 1
#define ACTION_AVAILABLE 2
#define TSYNC 1
#define TSYNC_ESRCH 16
#define KILL_PROCESS 0x80000000u
#define KILL_THREAD 0u
#define TRAP 0x00030000u
#define FAIL 0x00050000u
#define TRACE 0x7ff00000u
#define LOGGED 0x7ffc0000u
#define ALLOW 0x7fff0000u

struct instruction {
    uint16_t code;
    uint8_t if_true, if_false;
    uint32_t value;
};
struct program {
    uint16_t length;
    struct instruction *instructions;
};

#define LOAD(at) {0x20, 0, 0, at}
#define IF_EQUAL(value, yes, no) {0x15, yes, no, value}
#define RETURN(value) {0x06, 0, 0, value}
#define PROGRAM(name)                                                                                                  \
    { sizeof name / sizeof *name, name }
#define NUMBER 0
#define ARCHITECTURE 4
#define ARGUMENT(index) (16 + 8 * (index))

/* From now on a call by this number comes to this; all others run. */
static long judge_flagged(long number, uint32_t verdict, unsigned flags) {
    struct instruction code[] = {LOAD(NUMBER), IF_EQUAL((uint32_t)number, 0, 1), RETURN(verdict), RETURN(ALLOW)};
    struct program program = PROGRAM(code);
    SET_UP(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    return RAW(SYS_seccomp, FILTER, flags, &program);
}

static long judge(long number, uint32_t verdict) { return judge_flagged(number, verdict, 0); }

static void refuse_all_that_is_wrong(void) {
    uint32_t actions[] = {KILL_PROCESS, KILL_THREAD, TRAP, FAIL, TRACE, LOGGED, ALLOW, 0x12340000};
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
        CALL(RAW(SYS_seccomp, ACTION_AVAILABLE, 0, &actions[i]));
    CALL(RAW(SYS_seccomp, ACTION_AVAILABLE, 1, &actions[0]));
    CALL(RAW(SYS_seccomp, ACTION_AVAILABLE, 0, BAD_ADDRESS));
    CALL(RAW(SYS_seccomp, 99, 0, NULL));
    CALL(RAW(SYS_seccomp, STRICT, 1, NULL));
    CALL(RAW(SYS_seccomp, STRICT, 0, &actions));
    CALL(RAW(SYS_seccomp, FILTER, 0, BAD_ADDRESS));
    CALL(RAW(SYS_seccomp, FILTER, 0x1000, NULL));
    CALL(RAW(SYS_prctl, PR_SET_SECCOMP, 3, NULL, 0, 0));
    CALL(RAW(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0));
}

TEST(what_is_no_program_is_refused) {
    refuse_all_that_is_wrong();
    SET_UP(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    static struct instruction wrong[][3] = {
        {LOAD(0), LOAD(4), LOAD(8)},                   /* no end */
        {LOAD(64), RETURN(ALLOW), RETURN(ALLOW)},      /* beyond the data */
        {LOAD(2), RETURN(ALLOW), RETURN(ALLOW)},       /* not aligned */
        {IF_EQUAL(0, 9, 0), RETURN(ALLOW), RETURN(0)}, /* a jump out of it */
        {{0x05, 0, 0, 7}, RETURN(ALLOW), RETURN(0)},   /* the same */
        {{0x34, 0, 0, 0}, RETURN(ALLOW), RETURN(0)},   /* division by 0 */
        {{0x64, 0, 0, 32}, RETURN(ALLOW), RETURN(0)},  /* a shift by too much */
        {{0x60, 0, 0, 1}, RETURN(ALLOW), RETURN(0)},   /* memory that was not written */
        {{0x60, 0, 0, 16}, RETURN(ALLOW), RETURN(0)},  /* memory that is not there */
        {{0x94, 0, 0, 3}, RETURN(ALLOW), RETURN(0)},   /* the remainder of a division */
        {{0x28, 0, 0, 0}, RETURN(ALLOW), RETURN(0)},   /* half a word */
        {{0x0e, 0, 0, 0}, RETURN(ALLOW), RETURN(0)},   /* return X */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct program program = {3, wrong[i]};
        long result = RAW(SYS_seccomp, FILTER, 0, &program);
        say("program %zu: %ld %s", i, result, result ? errno_name(errno) : "");
    }
    struct program empty = {0, wrong[0]}, long_one = {4097, wrong[0]}, nowhere = {3, BAD_ADDRESS};
    CALL(RAW(SYS_seccomp, FILTER, 0, &empty));
    CALL(RAW(SYS_seccomp, FILTER, 0, &long_one));
    CALL(RAW(SYS_seccomp, FILTER, 0, &nowhere));
    CALL(RAW(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0));
}

ROOT_TEST(who_could_gain_privileges_may_not_filter) {
    struct instruction code[] = {RETURN(ALLOW)};
    struct program program = PROGRAM(code);
    drop_to(NOBODY, NOBODY);
    CALL(RAW(SYS_seccomp, FILTER, 0, &program));
    CALL(RAW(SYS_prctl, PR_SET_SECCOMP, 2, &program, 0, 0));
    CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CALL(RAW(SYS_prctl, PR_SET_SECCOMP, 2, &program, 0, 0));
    CALL(RAW(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0));
}

TEST(strict_mode_leaves_four_calls) {
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(RAW(SYS_prctl, PR_SET_SECCOMP, 1, 0, 0, 0) == 0);
        say("still writing");
        RAW(SYS_exit, 3);
    }
    show_end("who ends by exit", child);
    child = fork_child();
    if (child == 0) {
        SET_UP(RAW(SYS_seccomp, STRICT, 0, NULL) == 0);
        RAW(SYS_getpid);
        say("not reached");
    }
    show_end("who asks for its number", child);
}

TEST(calls_fail_as_the_filter_says) {
    CALL(judge(SYS_getppid, FAIL | 7));
    CALL(RAW(SYS_getppid));
    CALL(judge(SYS_getuid, FAIL | 9));
    CALL(RAW(SYS_getuid)); /* many systems answer this without asking anybody */
    CALL(judge(SYS_sched_yield, FAIL | 11));
    CALL(RAW(SYS_sched_yield));
    CALL(judge(SYS_getpgrp, FAIL));
    CALL(RAW(SYS_getpgrp));
    CALL(judge(SYS_getegid, FAIL | 0xffff));
    HOLDS(RAW(SYS_getegid) == -1 && errno == 4095);
    CALL(judge(SYS_getgid, TRACE | 1));
    CALL(RAW(SYS_getgid));
    CALL(judge(SYS_geteuid, LOGGED));
    CALL_OK(RAW(SYS_geteuid));
    CALL(RAW(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0));
}

TEST(the_strictest_of_several_filters_wins) {
    CALL(judge(SYS_getppid, FAIL | 7));
    CALL(judge(SYS_getppid, ALLOW));
    CALL(RAW(SYS_getppid));
    CALL(judge(SYS_getppid, FAIL | 8)); /* as strict: the younger one */
    CALL(RAW(SYS_getppid));
    CALL(judge(SYS_getppid, TRACE));
    CALL(RAW(SYS_getppid));
}

TEST(a_filter_sees_the_arguments_and_the_architecture) {
    struct instruction code[] = {
        LOAD(ARCHITECTURE),
        IF_EQUAL(0xc000003e, 1, 0),
        RETURN(KILL_PROCESS),
        LOAD(NUMBER),
        IF_EQUAL(SYS_lseek, 0, 5),
        LOAD(ARGUMENT(1)),
        IF_EQUAL(0x55667788, 0, 3),
        LOAD(ARGUMENT(1) + 4),
        IF_EQUAL(0x11223344, 0, 1),
        RETURN(FAIL | 42),
        RETURN(ALLOW),
    };
    struct program program = PROGRAM(code);
    SET_UP(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CALL(RAW(SYS_seccomp, FILTER, 0, &program));
    CALL(RAW(SYS_lseek, 99, 0x1122334455667788, SEEK_SET));
    CALL(RAW(SYS_lseek, 99, 0x1122334455667789, SEEK_SET));
}

TEST(files_that_were_often_read_are_filtered_too) {
    make_text("f", "some text that is there");
    int file = open("f", O_RDONLY), null = open("/dev/null", O_RDWR);
    char buffer[4];
    for (int i = 0; i < 40; i++) {
        SET_UP(pread(file, buffer, 4, 0) == 4 && lseek(file, 0, SEEK_SET) == 0 && read(file, buffer, 4) == 4);
        SET_UP(read(null, buffer, 4) == 0);
    }
    CALL(judge(SYS_read, FAIL | 21));
    CALL(judge(SYS_pread64, FAIL | 22));
    CALL(judge(SYS_lseek, FAIL | 23));
    CALL(read(file, buffer, 4));
    CALL(read(null, buffer, 4));
    CALL(pread(file, buffer, 4, 0));
    CALL(lseek(file, 0, SEEK_SET));
}

static void on_trap(int number, siginfo_t *info, void *raw) {
    ucontext_t *context = raw;
    say("%s: code %d, errno %d, call %d, architecture %x, is at the call: %s", signal_name(number), info->si_code,
        info->si_errno, info->si_syscall, info->si_arch,
        (greg_t)(uintptr_t)info->si_call_addr == context->uc_mcontext.gregs[REG_RIP] ? "yes" : "no");
    say("rax is the call's number: %s", context->uc_mcontext.gregs[REG_RAX] == SYS_getppid ? "yes" : "no");
    context->uc_mcontext.gregs[REG_RAX] = 77;
}

TEST(a_trap_can_make_up_a_result) {
    handle_info(SIGSYS, on_trap, 0);
    CALL(judge(SYS_getppid, TRAP | 5));
    CALL(RAW(SYS_getppid));
}

TEST(a_trap_that_is_blocked_or_ignored_kills) {
    for (int way = 0; way < 3; way++) {
        pid_t child = fork_child();
        if (child == 0) {
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGSYS);
            if (way == 1)
                sigprocmask(SIG_BLOCK, &set, NULL);
            if (way == 2)
                signal(SIGSYS, SIG_IGN);
            SET_UP(judge(SYS_getppid, TRAP) == 0);
            RAW(SYS_getppid);
            say("not reached");
            _exit(0);
        }
        int status;
        SET_UP(waitpid(child, &status, 0) == child);
        say("way %d: %s", way, WIFSIGNALED(status) ? signal_name(WTERMSIG(status)) : "no signal");
    }
}

TEST(a_filter_can_kill_the_process) {
    const uint32_t ways[] = {KILL_PROCESS, KILL_THREAD, 0x12340000};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        pid_t child = fork_child();
        if (child == 0) {
            handle_info(SIGSYS, on_trap, 0);
            SET_UP(judge(SYS_getppid, ways[i]) == 0);
            RAW(SYS_getppid);
            _exit(0);
        }
        int status;
        SET_UP(waitpid(child, &status, 0) == child);
        say("%x: %s", ways[i], WIFSIGNALED(status) ? signal_name(WTERMSIG(status)) : "no signal");
    }
}

static _Atomic int second_id;

static void *call_the_forbidden(void *unused) {
    second_id = gettid();
    RAW(SYS_getppid);
    say("not reached");
    return unused;
}

TEST(a_filter_can_kill_one_thread) {
    pthread_t thread;
    SET_UP(judge(SYS_getppid, KILL_THREAD) == 0);
    SET_UP(pthread_create(&thread, NULL, call_the_forbidden, NULL) == 0);
    while (second_id == 0 || RAW(SYS_tgkill, getpid(), second_id, 0) == 0)
        sleep_ms(1);
    say("the first thread goes on");
}

TEST(children_and_new_programs_have_the_filter) {
    CALL(judge(SYS_getppid, FAIL | 7));
    pid_t child = fork_child();
    if (child == 0) {
        CALL(RAW(SYS_getppid));
        CALL(RAW(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0));
        execl(own_path(), own_path(), "--child", NULL);
        _exit(1);
    }
    show_end("child", child);
}

int child_main(int argc, char **argv) {
    say("a new program with %d arguments, first %s", argc, argc ? argv[0] : "none");
    CALL(RAW(SYS_getppid));
    return 5;
}

struct two {
    struct gate begin, end;
    long own;
};

static void *second_thread(void *raw) {
    struct two *two = raw;
    if (two->own)
        SET_UP(judge(SYS_getuid, FAIL | 33) == 0);
    open_gate(two->begin);
    pass_gate(two->end);
    CALL(RAW(SYS_getppid) > 0);
    CALL(RAW(SYS_prctl, PR_GET_SECCOMP, 0, 0, 0, 0));
    return NULL;
}

static void filter_two(bool own, unsigned flags) {
    struct two two = {make_gate(), make_gate(), own};
    pthread_t thread;
    SET_UP(pthread_create(&thread, NULL, second_thread, &two) == 0);
    pass_gate(two.begin);
    long result = judge_flagged(SYS_getppid, FAIL | 7, flags);
    say("own %d, flags %x: %s", own, flags, result == 0 ? "done" : result > 0 ? "a thread" : errno_name(errno));
    open_gate(two.end);
    pthread_join(thread, NULL);
}

TEST(a_filter_is_one_threads) { filter_two(false, 0); }
TEST(a_filter_can_be_given_to_all_threads) { filter_two(false, TSYNC); }
TEST(a_thread_with_a_filter_of_its_own_does_not_get_it) { filter_two(true, TSYNC); }
TEST(that_can_be_an_error) { filter_two(true, TSYNC | TSYNC_ESRCH); }

TEST(strict_and_filter_do_not_mix) {
    CALL(judge(SYS_getppid, ALLOW));
    CALL(RAW(SYS_seccomp, STRICT, 0, NULL));
    CALL(RAW(SYS_prctl, PR_SET_SECCOMP, 1, 0, 0, 0));
}

static void show_lines(const char *const *names, size_t count) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    while (file && fgets(line, sizeof line, file))
        for (size_t i = 0; i < count; i++)
            if (strncmp(line, names[i], strlen(names[i])) == 0) {
                line[strcspn(line, "\n")] = 0;
                say("%s", line);
            }
    if (file)
        fclose(file);
}

TEST(proc_tells_of_it) {
    const char *const names[] = {"NoNewPrivs", "Seccomp:"};
    show_lines(names, 2);
    CALL(judge(SYS_getppid, FAIL));
    CALL(judge(SYS_getppid, ALLOW));
    show_lines(names, 2);
}
