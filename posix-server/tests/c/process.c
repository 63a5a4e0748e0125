/* Creating processes and waiting for their end: fork, vfork, exit and wait4. */
#include "case.h"

#include <sys/prctl.h>
#include <sys/resource.h>

TEST(fork_gives_the_child_zero_and_the_parent_its_pid) {
    pid_t parent = getpid();
    pid_t child = fork_child();
    if (child == 0) {
        HOLDS(getpid() != parent);
        HOLDS(getppid() == parent);
        _exit(7);
    }
    int status;
    HOLDS(waitpid(child, &status, 0) == child);
    show_status("child", status);
}

TEST(exit_status_is_the_low_byte) {
    int codes[] = {0, 1, 127, 128, 255, 256, 257, -1};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        pid_t child = fork_child();
        if (child == 0)
            _exit(codes[i]);
        say("exit(%d)", codes[i]);
        show_end("  seen", child);
    }
}

TEST(exit_by_the_single_thread_call_ends_the_process) {
    pid_t child = fork_child();
    if (child == 0)
        RAW(SYS_exit, 5);
    show_end("child", child);
}

TEST(memory_of_parent_and_child_is_apart_after_fork) {
    static int data = 1;
    int on_stack = 1;
    int *on_heap = malloc(sizeof *on_heap);
    SET_UP(on_heap != NULL);
    *on_heap = 1;
    struct gate child_wrote = make_gate(), parent_wrote = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        data = on_stack = *on_heap = 2;
        open_gate(child_wrote);
        pass_gate(parent_wrote);
        say("child sees %d %d %d", data, on_stack, *on_heap);
        _exit(0);
    }
    pass_gate(child_wrote);
    say("parent sees %d %d %d", data, on_stack, *on_heap);
    data = on_stack = *on_heap = 3;
    open_gate(parent_wrote);
    show_end("child", child);
}

TEST(grandchildren_keep_what_their_ancestors_wrote_before_forking) {
    enum { PAGES = 64, GENERATIONS = 6 };
    unsigned char *area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED);
    for (int generation = 1; generation <= GENERATIONS; generation++) {
        for (int page = generation; page < PAGES; page += generation)
            area[(size_t)page * PAGE] = (unsigned char)generation;
        pid_t child = fork_child();
        if (child == 0)
            continue;
        show_end("child", child);
        int wrong = 0;
        for (int page = 1; page < PAGES; page++) {
            int expected = 0;
            for (int writer = 1; writer <= generation; writer++)
                if (page >= writer && page % writer == 0)
                    expected = writer;
            wrong += area[(size_t)page * PAGE] != expected;
        }
        say("generation %d: %d wrong pages", generation, wrong);
        _exit(generation);
    }
}

TEST(vfork_suspends_the_parent_and_shares_its_memory) {
    static volatile int shared = 0;
    pid_t child = vfork();
    SET_UP(child >= 0);
    if (child == 0) {
        shared = 42;
        _exit(3);
    }
    say("the parent runs after the child wrote: %d", shared);
    show_end("child", child);
}

TEST(vfork_ends_with_the_execve_of_the_child) {
    char *arguments[] = {(char *)own_path(), "--child", "exit", NULL};
    pid_t child = vfork();
    SET_UP(child >= 0);
    if (child == 0) {
        execv(own_path(), arguments);
        _exit(SET_UP_FAILED);
    }
    show_end("child", child);
}

TEST(vfork_ends_with_the_death_of_the_child) {
    pid_t child = vfork();
    SET_UP(child >= 0);
    if (child == 0) {
        RAW(SYS_kill, RAW(SYS_getpid), SIGKILL);
        _exit(SET_UP_FAILED);
    }
    show_end("child", child);
}

int child_main(int argc, char **argv) {
    return argc == 1 && strcmp(argv[0], "exit") == 0 ? 11 : SET_UP_FAILED;
}

TEST(wait_without_children_is_echild) {
    int status;
    CALL(wait(&status));
    CALL(waitpid(-1, &status, WNOHANG));
    CALL(waitpid(getpid(), &status, 0));
    CALL(waitpid(1, &status, 0));
    CALL(waitpid(0, &status, 0));
}

TEST(a_child_is_reaped_once) {
    pid_t child = fork_child();
    if (child == 0)
        _exit(0);
    show_end("first wait", child);
    CALL(waitpid(child, NULL, 0));
    CALL(kill(child, 0));
}

TEST(a_zombie_can_be_signalled_and_keeps_its_status) {
    struct gate dies = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        close(dies.reader);
        _exit(4);
    }
    close(dies.writer);
    char byte;
    SET_UP(read(dies.reader, &byte, 1) == 0);
    /* The pipe closes a moment before the zombie stands; WNOWAIT waits for that and leaves it. */
    siginfo_t info;
    SET_UP(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0);
    CALL(kill(child, 0));
    CALL(kill(child, SIGKILL));
    show_end("child", child);
}

TEST(wnohang_gives_zero_while_the_child_lives) {
    struct gate end = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pass_gate(end);
        _exit(6);
    }
    CALL(waitpid(child, NULL, WNOHANG));
    CALL(waitpid(-1, NULL, WNOHANG));
    open_gate(end);
    show_end("child", child);
}

TEST(wait_refuses_unknown_options) {
    pid_t child = fork_child();
    if (child == 0)
        _exit(0);
    CALL(RAW(SYS_wait4, child, NULL, 0x100, NULL));
    CALL(RAW(SYS_wait4, child, NULL, -1, NULL));
    show_end("child", child);
}

TEST(wait_for_a_null_status_reaps) {
    pid_t child = fork_child();
    if (child == 0)
        _exit(9);
    HOLDS(waitpid(child, NULL, 0) == child);
    CALL(waitpid(child, NULL, 0));
}

TEST(wait_with_a_bad_pointer_is_efault_and_still_reaps) {
    pid_t child = fork_child();
    if (child == 0)
        _exit(9);
    CALL(RAW(SYS_wait4, child, BAD_ADDRESS, 0, NULL));
    CALL(waitpid(child, NULL, 0));
}

TEST(wait_fills_the_resource_usage) {
    pid_t child = fork_child();
    if (child == 0)
        _exit(0);
    struct rusage usage;
    memset(&usage, 0xff, sizeof usage);
    HOLDS(wait4(child, NULL, 0, &usage) == child);
    HOLDS(usage.ru_utime.tv_usec >= 0 && usage.ru_utime.tv_usec < 1000000);
    HOLDS(usage.ru_stime.tv_usec >= 0 && usage.ru_stime.tv_usec < 1000000);
    HOLDS(usage.ru_utime.tv_sec >= 0 && usage.ru_utime.tv_sec < 1000);
}

TEST(wait_by_group_sees_only_that_group) {
    pid_t same = fork_child();
    if (same == 0)
        _exit(1);
    struct gate moved = make_gate();
    pid_t apart = fork_child();
    if (apart == 0) {
        SET_UP(setpgid(0, 0) == 0);
        open_gate(moved);
        _exit(2);
    }
    pass_gate(moved);
    int status;
    HOLDS(waitpid(-apart, &status, 0) == apart);
    show_status("by its own group", status);
    HOLDS(waitpid(0, &status, 0) == same);
    show_status("by our group", status);
    CALL(waitpid(-apart, &status, 0));
    CALL(waitpid(-INT_MAX, &status, 0));
}

TEST(wait_takes_each_child_of_many_once) {
    enum { CHILDREN = 20 };
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork_child();
        if (child == 0)
            _exit(i);
    }
    bool seen[CHILDREN] = {false};
    int status, count = 0, sum = 0;
    while (wait(&status) > 0) {
        count++;
        if (WIFEXITED(status) && WEXITSTATUS(status) < CHILDREN && !seen[WEXITSTATUS(status)]) {
            seen[WEXITSTATUS(status)] = true;
            sum += WEXITSTATUS(status);
        }
    }
    say("%d children, statuses add up to %d, then %s", count, sum, errno_name(errno));
}

TEST(waitid_tells_how_a_child_ended) {
    pid_t child = fork_child();
    if (child == 0)
        _exit(21);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    CALL(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT));
    HOLDS(info.si_pid == child);
    HOLDS(info.si_signo == SIGCHLD);
    HOLDS(info.si_code == CLD_EXITED);
    HOLDS(info.si_uid == getuid());
    say("status %d", info.si_status);
    CALL(waitid(P_ALL, 0, &info, WEXITED));
    CALL(waitid(P_ALL, 0, &info, WEXITED));
    CALL(waitid(P_ALL, 0, &info, 0));
    CALL(waitid(99, 0, &info, WEXITED));
}

TEST(waitid_of_a_killed_child_has_the_signal) {
    pid_t child = fork_child();
    if (child == 0) {
        raise(SIGTERM);
        _exit(0);
    }
    siginfo_t info;
    memset(&info, 0, sizeof info);
    CALL(waitid(P_PID, (id_t)child, &info, WEXITED));
    HOLDS(info.si_code == CLD_KILLED);
    say("status %s", signal_name(info.si_status));
}

TEST(waitid_with_wnohang_clears_the_pid_when_nobody_ended) {
    struct gate end = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pass_gate(end);
        _exit(0);
    }
    siginfo_t info;
    memset(&info, 0x55, sizeof info);
    CALL(waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG));
    HOLDS(info.si_pid == 0);
    HOLDS(info.si_signo == 0);
    open_gate(end);
    show_end("child", child);
}

TEST(an_orphan_gets_a_new_parent) {
    struct gate orphaned = make_gate(), told = make_gate();
    pid_t middle = fork_child();
    if (middle == 0) {
        pid_t me = getpid();
        pid_t orphan = fork_child();
        if (orphan == 0) {
            pass_gate(orphaned);
            HOLDS(getppid() != me);
            HOLDS(getppid() > 0);
            open_gate(told);
            _exit(0);
        }
        _exit(0);
    }
    show_end("middle", middle);
    open_gate(orphaned);
    pass_gate(told);
    /* It is not our child now: somebody else waits for it. */
    CALL(wait(NULL));
}

TEST(a_child_inherits_what_posix_says) {
    SET_UP(mkdir("inner", 0755) == 0 && chdir("inner") == 0);
    umask(027);
    SET_UP(nice(3) != -1);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    SET_UP(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    signal(SIGUSR2, SIG_IGN);
    SET_UP(raise(SIGUSR1) == 0);
    alarm(100);
    pid_t child = fork_child();
    if (child == 0) {
        char path[PATH_MAX];
        SET_UP(getcwd(path, sizeof path) != NULL);
        HOLDS(strcmp(strrchr(path, '/'), "/inner") == 0);
        HOLDS(umask(0) == 027);
        HOLDS(getpgid(0) == getpgid(getppid()));
        HOLDS(getsid(0) == getsid(getppid()));
        sigset_t mask, pending;
        sigprocmask(SIG_BLOCK, NULL, &mask);
        HOLDS(sigismember(&mask, SIGUSR1) == 1);
        sigpending(&pending);
        HOLDS(sigismember(&pending, SIGUSR1) == 0);
        struct sigaction action;
        sigaction(SIGUSR2, NULL, &action);
        HOLDS(action.sa_handler == SIG_IGN);
        HOLDS(alarm(0) == 0);
        _exit(0);
    }
    show_end("child", child);
    sigset_t pending;
    sigpending(&pending);
    HOLDS(sigismember(&pending, SIGUSR1) == 1);
    HOLDS(alarm(0) > 90);
}

TEST(children_share_open_files_and_their_offset) {
    make_text("file", "abcdef");
    int fd = open("file", O_RDONLY);
    SET_UP(fd >= 0);
    pid_t child = fork_child();
    if (child == 0) {
        char text[3] = {0};
        SET_UP(read(fd, text, 2) == 2);
        say("child reads %s", text);
        _exit(0);
    }
    show_end("child", child);
    char text[3] = {0};
    SET_UP(read(fd, text, 2) == 2);
    say("parent reads %s", text);
    pid_t closer = fork_child();
    if (closer == 0) {
        CALL(close(fd));
        _exit(0);
    }
    show_end("closer", closer);
    CALL(lseek(fd, 0, SEEK_CUR));
}

TEST(a_deep_line_of_descendants_ends_in_order) {
    enum { DEPTH = 30 };
    int depth = 0;
    while (depth < DEPTH) {
        pid_t child = fork_child();
        if (child != 0) {
            int status;
            SET_UP(waitpid(child, &status, 0) == child);
            int below = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
            if (depth > 0)
                _exit(below + 1);
            say("levels below: %d", below + 1);
            return;
        }
        depth++;
    }
    _exit(0);
}

TEST(the_process_name_is_set_by_prctl) {
    char name[17] = {0};
    CALL(prctl(PR_SET_NAME, "a-name-longer-than-fits", 0, 0, 0));
    CALL(prctl(PR_GET_NAME, name, 0, 0, 0));
    show_bytes("name", name, sizeof name - 1);
}

TEST(a_child_needs_a_place_for_its_thread_local_storage) {
    const long settls = 0x80000, thread = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000;
    static char stack[PAGE];
    CALL(RAW(SYS_clone, SIGCHLD | settls, 0, 0, 0, 1UL << 47));
    CALL(RAW(SYS_clone, SIGCHLD | settls, 0, 0, 0, -1L));
    CALL(RAW(SYS_clone, thread | settls, stack + sizeof stack, 0, 0, 1UL << 63));
    CALL(wait(NULL));
}

/* ---- the limit on processor time ---- */

static void on_cpu_limit(int number) {
    struct rlimit limit;
    getrlimit(RLIMIT_CPU, &limit);
    say("%s, the limits are %d and %d now", signal_name(number), (int)limit.rlim_cur, (int)limit.rlim_max);
}

static void use_time(rlim_t soft, rlim_t hard, bool is_handled) {
    pid_t child = fork_child();
    if (child == 0) {
        struct rlimit limit = {soft, hard};
        if (is_handled)
            handle(SIGXCPU, on_cpu_limit, 0);
        SET_UP(setrlimit(RLIMIT_CPU, &limit) == 0);
        for (;;)
            ;
    }
    int status;
    SET_UP(waitpid(child, &status, 0) == child);
    say("it ends by %s", WIFSIGNALED(status) ? signal_name(WTERMSIG(status)) : "itself");
}

TEST(who_uses_too_much_time_is_warned_and_killed) { use_time(1, 2, true); }
TEST(the_warning_kills_who_does_not_handle_it) { use_time(1, 5, false); }
