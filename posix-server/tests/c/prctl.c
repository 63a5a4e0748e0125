/* Attributes of processes and threads: prctl, scheduling, personality, barriers, looking into others. */
#include "case.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>

TEST(prctl_keeps_what_it_is_told) {
    int value = -1;
    CALL(prctl(PR_SET_PDEATHSIG, SIGTERM));
    CALL(prctl(PR_GET_PDEATHSIG, &value));
    HOLDS(value == SIGTERM);
    CALL(prctl(PR_SET_PDEATHSIG, 65));
    CALL(prctl(PR_GET_DUMPABLE));
    CALL(prctl(PR_SET_DUMPABLE, 0));
    CALL(prctl(PR_GET_DUMPABLE));
    CALL(prctl(PR_SET_DUMPABLE, 2));
    CALL(prctl(PR_SET_KEEPCAPS, 1));
    CALL(prctl(PR_GET_KEEPCAPS));
    CALL(prctl(PR_SET_KEEPCAPS, 2));
    CALL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    CALL(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    CALL(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0));
    CALL(prctl(PR_SET_TIMERSLACK, 1234));
    CALL(prctl(PR_GET_TIMERSLACK));
    CALL(prctl(PR_GET_TIMING));
    CALL(prctl(PR_SET_TIMING, 1));
    CALL(prctl(PR_CAPBSET_READ, 0));
    CALL(prctl(PR_CAPBSET_READ, 1000));
    CALL(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
    CALL(prctl(12345));
}

TEST(a_subreaper_inherits_orphans) {
    int value = -1;
    CALL(prctl(PR_SET_CHILD_SUBREAPER, 1));
    CALL(prctl(PR_GET_CHILD_SUBREAPER, &value));
    say("%d", value);
    struct gate gate = make_gate();
    pid_t self = getpid(), child = fork_child();
    if (child == 0) {
        pid_t parent = getpid();
        if (fork_child() == 0) {
            while (getppid() == parent)
                sleep_ms(1);
            int own = -1;
            pass_gate(gate);
            prctl(PR_GET_CHILD_SUBREAPER, &own);
            say("inherited by its ancestor: %s, itself one: %d", getppid() == self ? "yes" : "no", own);
            _exit(7);
        }
        _exit(0);
    }
    show_end("child", child);
    open_gate(gate);
    int status;
    CALL(wait(&status) > 0);
    show_status("orphan", status);
    CALL(wait(NULL));
}

TEST(a_parent_that_ends_is_told_to_its_child) {
    struct gate gate = make_gate(), ready = make_gate(), told = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pid_t grandchild = fork_child();
        if (grandchild == 0) {
            sigset_t set;
            sigemptyset(&set);
            sigaddset(&set, SIGUSR1);
            sigprocmask(SIG_BLOCK, &set, NULL);
            SET_UP(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
            open_gate(ready);
            int number = 0;
            sigwait(&set, &number);
            pass_gate(gate);
            say("told: %s", number == SIGUSR1 ? "yes" : "no");
            open_gate(told);
            _exit(0);
        }
        pass_gate(ready);
        _exit(0);
    }
    show_end("child", child);
    open_gate(gate);
    pass_gate(told);
}

TEST(policies_and_priorities_are_checked) {
    struct sched_param zero = {.sched_priority = 0}, one = {.sched_priority = 1}, hundred = {.sched_priority = 100};
    CALL(sched_get_priority_max(SCHED_FIFO));
    CALL(sched_get_priority_min(SCHED_RR));
    CALL(sched_get_priority_max(SCHED_OTHER));
    CALL(sched_get_priority_max(99));
    CALL(RAW(SYS_sched_getscheduler, 0));
    CALL(RAW(SYS_sched_getscheduler, -1));
    CALL(RAW(SYS_sched_setscheduler, 0, SCHED_OTHER, &zero));
    CALL(RAW(SYS_sched_setscheduler, 0, SCHED_OTHER, &one));
    CALL(RAW(SYS_sched_setscheduler, 0, SCHED_FIFO, &zero));
    CALL(RAW(SYS_sched_setscheduler, 0, SCHED_FIFO, &hundred));
    CALL(RAW(SYS_sched_setscheduler, 0, 77, &zero));
    CALL(RAW(SYS_sched_setscheduler, 0, SCHED_OTHER, NULL));
    CALL(RAW(SYS_sched_setscheduler, 0x3fffffff, SCHED_OTHER, &zero));
    CALL(RAW(SYS_sched_setscheduler, 0, SCHED_BATCH, &zero));
    CALL(RAW(SYS_sched_getscheduler, 0));
    CALL(RAW(SYS_sched_setparam, 0, &one));
    CALL(RAW(SYS_sched_getparam, 0, NULL));
    CALL(RAW(SYS_sched_getparam, 0, &one));
    say("%d", one.sched_priority);
}

ROOT_TEST(a_real_time_policy_is_inherited_unless_it_resets) {
    struct sched_param five = {.sched_priority = 5}, now = {.sched_priority = 0};
    CALL(RAW(SYS_sched_setscheduler, 0, SCHED_RR | 0x40000000, &five));
    say("%s", RAW(SYS_sched_getscheduler, 0) == (SCHED_RR | 0x40000000) ? "round robin, resets" : "else");
    CALL(RAW(SYS_sched_getparam, 0, &now));
    say("%d", now.sched_priority);
    pid_t child = fork_child();
    if (child == 0)
        _exit((int)RAW(SYS_sched_getscheduler, 0));
    show_end("child", child);
    CALL(RAW(SYS_sched_setscheduler, 0, SCHED_FIFO, &five));
    child = fork_child();
    if (child == 0)
        _exit((int)RAW(SYS_sched_getscheduler, 0));
    show_end("child", child);
}

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

TEST(scheduling_attributes_are_a_record_of_some_size) {
    struct attributes attributes = {0};
    CALL(RAW(SYS_sched_getattr, 0, &attributes, 48, 0));
    say("size %u, policy %u, nice %d", attributes.size, attributes.policy, attributes.nice);
    CALL(RAW(SYS_sched_getattr, 0, &attributes, 47, 0));
    CALL(RAW(SYS_sched_getattr, 0, &attributes, 48, 1));
    CALL(RAW(SYS_sched_getattr, 0, NULL, 48, 0));
    attributes = (struct attributes){.size = sizeof attributes, .policy = SCHED_BATCH, .nice = 3};
    CALL(RAW(SYS_sched_setattr, 0, &attributes, 0));
    CALL(getpriority(PRIO_PROCESS, 0));
    CALL(RAW(SYS_sched_getscheduler, 0));
    attributes.size = 40;
    CALL(RAW(SYS_sched_setattr, 0, &attributes, 0));
    attributes = (struct attributes){.size = sizeof attributes, .flags = 1 << 20};
    CALL(RAW(SYS_sched_setattr, 0, &attributes, 0));
    CALL(RAW(SYS_sched_setattr, 0, &attributes, 5));
}

ROOT_TEST(a_user_never_becomes_less_nice) {
    CALL(setpriority(PRIO_PROCESS, 0, 5));
    drop_to(NOBODY, NOBODY);
    CALL(setpriority(PRIO_PROCESS, 0, 10));
    CALL(setpriority(PRIO_PROCESS, 0, 8));
    CALL(setpriority(PRIO_PROCESS, 0, 7));
    CALL(getpriority(PRIO_PROCESS, 0));
    CALL(setpriority(PRIO_PROCESS, 1, 19));
    CALL(setpriority(77, 0, 0));
    CALL(setpriority(PRIO_PROCESS, 0x3fffffff, 0));
    struct sched_param one = {.sched_priority = 1};
    CALL(RAW(SYS_sched_setscheduler, 0, SCHED_FIFO, &one));
}

TEST(affinity_is_a_set_that_is_never_empty) {
    unsigned long set[16] = {0}, none = 0;
    HOLDS(RAW(SYS_sched_getaffinity, 0, sizeof set, set) >= 8);
    HOLDS(set[0] != 0);
    CALL(RAW(SYS_sched_setaffinity, 0, sizeof set, set));
    CALL(RAW(SYS_sched_setaffinity, 0, sizeof none, &none));
    CALL(RAW(SYS_sched_setaffinity, 0, sizeof none, BAD_ADDRESS));
    CALL(RAW(SYS_sched_getaffinity, 0, 3, set));
    CALL(RAW(SYS_sched_getaffinity, 0x3fffffff, sizeof set, set));
}

TEST(personality_is_kept) {
    CALL(RAW(SYS_personality, 0xffffffff));
    CALL(RAW(SYS_personality, 0x0040000));
    CALL(RAW(SYS_personality, 0xffffffff));
    pid_t child = fork_child();
    if (child == 0)
        _exit(RAW(SYS_personality, 0xffffffff) == 0x0040000);
    show_end("child", child);
}

TEST(barriers_need_registration) {
    HOLDS((RAW(SYS_membarrier, 0, 0) & 0x7f) == 0x7f);
    CALL(RAW(SYS_membarrier, 8, 0));
    CALL(RAW(SYS_membarrier, 16, 0));
    CALL(RAW(SYS_membarrier, 8, 0));
    CALL(RAW(SYS_membarrier, 32, 0));
    CALL(RAW(SYS_membarrier, 4, 0));
    CALL(RAW(SYS_membarrier, 2, 0));
    CALL(RAW(SYS_membarrier, 1 << 20, 0));
    CALL(RAW(SYS_membarrier, 0, 5));
}

TEST(memory_of_a_child_is_read_and_written) {
    static char text[16] = "parent";
    struct gate gate = make_gate(), done = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        strcpy(text, "child");
        open_gate(gate);
        pass_gate(done);
        say("written: %s", text);
        _exit(0);
    }
    pass_gate(gate);
    char copy[16] = "";
    struct iovec here[2] = {{copy, 3}, {copy + 3, 13}}, there = {text, sizeof text};
    CALL(process_vm_readv(child, here, 2, &there, 1, 0));
    say("%s, own: %s", copy, text);
    struct iovec word = {"other", 6};
    CALL(process_vm_writev(child, &word, 1, &there, 1, 0));
    CALL(process_vm_readv(child, here, 2, &there, 1, 1));
    struct iovec bad = {NULL_PAGE_ADDRESS, 4};
    CALL(process_vm_readv(child, here, 2, &bad, 1, 0));
    CALL(process_vm_readv(0x3fffffff, here, 2, &there, 1, 0));
    open_gate(done);
    show_end("child", child);
}
