/* Signals: sending, masking, handling, and what they do to those who have no handler. */
#include "case.h"

#include <setjmp.h>
#include <sys/time.h>
#include <ucontext.h>

static volatile sig_atomic_t count;
static volatile sig_atomic_t last;
static volatile siginfo_t last_info;

static void note(int signal_number) {
    count++;
    last = signal_number;
}

static void note_info(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    count++;
    last = signal_number;
    *(siginfo_t *)&last_info = *info;
}

static void block(int how, int signal_number) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal_number);
    SET_UP(sigprocmask(how, &set, NULL) == 0);
}

static bool is_blocked(int signal_number) {
    sigset_t set;
    SET_UP(sigprocmask(SIG_BLOCK, NULL, &set) == 0);
    return sigismember(&set, signal_number) == 1;
}

static bool is_pending(int signal_number) {
    sigset_t set;
    SET_UP(sigpending(&set) == 0);
    return sigismember(&set, signal_number) == 1;
}

TEST(a_handler_runs_before_kill_returns) {
    handle_info(SIGUSR1, note_info, 0);
    CALL(kill(getpid(), SIGUSR1));
    say("%d times %s", count, signal_name(last));
    HOLDS(last_info.si_code == SI_USER);
    HOLDS(last_info.si_pid == getpid());
    HOLDS(last_info.si_uid == getuid());
    CALL(raise(SIGUSR1));
    HOLDS(last_info.si_code == SI_TKILL);
    CALL(RAW(SYS_tgkill, getpid(), getpid(), SIGUSR1));
    CALL(RAW(SYS_tkill, getpid(), SIGUSR1));
    say("%d times", count);
}

TEST(a_signal_from_another_process_tells_its_sender) {
    block(SIG_BLOCK, SIGUSR1);
    pid_t parent = getpid(), child = fork_child();
    if (child == 0)
        _exit(kill(parent, SIGUSR1));
    show_end("child", child);
    HOLDS(is_pending(SIGUSR1));
    handle_info(SIGUSR1, note_info, 0);
    block(SIG_UNBLOCK, SIGUSR1);
    say("%d times", count);
    HOLDS(last_info.si_pid == child);
    HOLDS(last_info.si_code == SI_USER);
}

TEST(a_blocked_signal_waits_and_counts_once) {
    handle(SIGUSR1, note, 0);
    block(SIG_BLOCK, SIGUSR1);
    for (int i = 0; i < 5; i++)
        SET_UP(kill(getpid(), SIGUSR1) == 0);
    say("blocked: %d times, pending %d", count, is_pending(SIGUSR1));
    block(SIG_UNBLOCK, SIGUSR1);
    say("unblocked: %d times, pending %d", count, is_pending(SIGUSR1));
}

TEST(real_time_signals_queue_in_order_with_their_values) {
    handle_info(SIGRTMIN, note_info, 0);
    block(SIG_BLOCK, SIGRTMIN);
    for (int i = 0; i < 3; i++) {
        union sigval value = {.sival_int = 10 * i};
        CALL(sigqueue(getpid(), SIGRTMIN, value));
    }
    block(SIG_UNBLOCK, SIGRTMIN);
    say("%d times, last value %d, queued %d", count, last_info.si_value.sival_int, last_info.si_code == SI_QUEUE);
}

TEST(ignored_signals_vanish_even_when_pending) {
    block(SIG_BLOCK, SIGUSR1);
    SET_UP(raise(SIGUSR1) == 0);
    say("pending %d", is_pending(SIGUSR1));
    signal(SIGUSR1, SIG_IGN);
    say("ignored: pending %d", is_pending(SIGUSR1));
    SET_UP(raise(SIGUSR1) == 0);
    say("sent while ignored and blocked: pending %d", is_pending(SIGUSR1));
    handle(SIGUSR1, note, 0);
    block(SIG_UNBLOCK, SIGUSR1);
    say("%d times", count);
}

/* Raises its own signal twice, and once SIGUSR2 out of the handler of SIGUSR1. */
static void show_nesting(int signal_number) {
    static int depth = 0, raises = 0;
    depth++;
    const char *blocked = is_blocked(signal_number) ? "yes" : "no";
    say("%s at depth %d, itself blocked: %s", signal_name(signal_number), depth, blocked);
    if (raises < 2) {
        raises++;
        raise(signal_number);
        if (signal_number == SIGUSR1)
            raise(SIGUSR2);
    }
    say("%s leaves depth %d", signal_name(signal_number), depth);
    depth--;
}

TEST(a_handler_blocks_its_own_signal_only) {
    handle(SIGUSR1, show_nesting, 0);
    handle(SIGUSR2, show_nesting, 0);
    raise(SIGUSR1);
    HOLDS(!is_blocked(SIGUSR1) && !is_blocked(SIGUSR2));
}

TEST(nodefer_lets_a_handler_be_interrupted_by_its_own_signal) {
    handle(SIGUSR2, show_nesting, SA_NODEFER);
    raise(SIGUSR2);
}

TEST(the_mask_of_an_action_holds_while_it_runs) {
    struct sigaction action = {.sa_handler = show_nesting};
    sigfillset(&action.sa_mask);
    SET_UP(sigaction(SIGUSR1, &action, NULL) == 0);
    handle(SIGUSR2, show_nesting, 0);
    raise(SIGUSR1);
}

TEST(resethand_handles_once) {
    handle(SIGUSR1, note, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction now;
    SET_UP(sigaction(SIGUSR1, NULL, &now) == 0);
    HOLDS(now.sa_handler == SIG_DFL);
    pid_t child = fork_child();
    if (child == 0) {
        raise(SIGUSR1);
        _exit(0);
    }
    show_end("second time", child);
}

TEST(sigaction_tells_the_old_action_and_checks) {
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART | SA_NODEFER}, old;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGHUP);
    CALL(sigaction(SIGUSR1, &action, &old));
    HOLDS(old.sa_handler == SIG_DFL);
    CALL(sigaction(SIGUSR1, NULL, &old));
    HOLDS(old.sa_handler == note);
    HOLDS((old.sa_flags & (SA_RESTART | SA_NODEFER)) == (SA_RESTART | SA_NODEFER));
    HOLDS(sigismember(&old.sa_mask, SIGHUP) == 1 && sigismember(&old.sa_mask, SIGINT) == 0);
    CALL(RAW(SYS_rt_sigaction, SIGKILL, &action, NULL, 8));
    CALL(RAW(SYS_rt_sigaction, SIGSTOP, &action, NULL, 8));
    CALL(RAW(SYS_rt_sigaction, SIGKILL, NULL, &old, 8));
    CALL(RAW(SYS_rt_sigaction, 0, NULL, &old, 8));
    CALL(RAW(SYS_rt_sigaction, 65, NULL, &old, 8));
    CALL(RAW(SYS_rt_sigaction, SIGUSR1, NULL, &old, 4));
    CALL(RAW(SYS_rt_sigaction, SIGUSR1, BAD_ADDRESS, NULL, 8));
    CALL(RAW(SYS_rt_sigaction, SIGUSR1, NULL, BAD_ADDRESS, 8));
}

TEST(sigprocmask_changes_the_mask_and_checks) {
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGKILL);
    sigaddset(&set, SIGSTOP);
    CALL(RAW(SYS_rt_sigprocmask, SIG_SETMASK, &set, NULL, 8));
    CALL(RAW(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &old, 8));
    HOLDS(sigismember(&old, SIGUSR1) == 1);
    HOLDS(sigismember(&old, SIGKILL) == 0 && sigismember(&old, SIGSTOP) == 0);
    CALL(RAW(SYS_rt_sigprocmask, 99, &set, NULL, 8));
    CALL(RAW(SYS_rt_sigprocmask, 99, NULL, &old, 8));
    CALL(RAW(SYS_rt_sigprocmask, SIG_BLOCK, &set, NULL, 16));
    CALL(RAW(SYS_rt_sigprocmask, SIG_BLOCK, BAD_ADDRESS, NULL, 8));
    CALL(RAW(SYS_rt_sigprocmask, SIG_BLOCK, NULL, BAD_ADDRESS, 8));
    CALL(RAW(SYS_rt_sigpending, BAD_ADDRESS, 8));
    CALL(RAW(SYS_rt_sigpending, &set, 16));
}

TEST(kill_checks_its_target_and_signal) {
    CALL(kill(getpid(), 0));
    CALL(kill(getpid(), -1));
    CALL(kill(getpid(), 65));
    CALL(kill(INT_MAX, 0));
    CALL(kill(INT_MIN, 0));
    CALL(kill(-INT_MAX, SIGTERM));
    CALL(RAW(SYS_tkill, -1, SIGTERM));
    CALL(RAW(SYS_tgkill, getpid(), 0, SIGTERM));
    CALL(RAW(SYS_tgkill, getppid(), getpid(), 0));
}

TEST(default_actions_end_stop_or_do_nothing) {
    const int signals[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGILL,  SIGTRAP,   SIGABRT, SIGBUS,   SIGFPE,  SIGKILL, SIGUSR1,
                           SIGSEGV, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM,   SIGCHLD, SIGCONT,  SIGURG,  SIGXCPU, SIGXFSZ,
                           SIGVTALRM, SIGPROF, SIGWINCH, SIGIO, SIGPWR,   SIGSYS,  SIGSTKFLT};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        pid_t child = fork_child();
        if (child == 0) {
            kill(getpid(), signals[i]);
            _exit(0);
        }
        show_end(signal_name(signals[i]), child);
    }
}

TEST(stop_signals_stop_and_continue) {
    const int signals[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    struct gate end = make_gate();
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        pid_t child = fork_child();
        if (child == 0) {
            /* All but SIGSTOP do nothing in a group that has nobody to continue it: ours has the runner. */
            kill(getpid(), signals[i]);
            pass_gate(end);
            _exit(3);
        }
        int status = 0;
        SET_UP(waitpid(child, &status, WUNTRACED) == child);
        show_status(signal_name(signals[i]), status);
        CALL(waitpid(child, &status, WUNTRACED | WNOHANG));
        SET_UP(kill(child, SIGCONT) == 0);
        SET_UP(waitpid(child, &status, WCONTINUED | WUNTRACED) == child);
        show_status("then", status);
        open_gate(end);
        show_end("at last", child);
    }
}

TEST(a_stopped_process_can_be_killed) {
    pid_t child = fork_child();
    if (child == 0) {
        raise(SIGSTOP);
        _exit(0);
    }
    int status;
    SET_UP(waitpid(child, &status, WUNTRACED) == child);
    CALL(kill(child, SIGTERM));
    CALL(waitpid(child, &status, WNOHANG));
    CALL(kill(child, SIGKILL));
    show_end("child", child);
}

TEST(a_stop_without_wuntraced_is_not_reported) {
    struct gate stopped = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        raise(SIGSTOP);
        open_gate(stopped);
        _exit(2);
    }
    siginfo_t info;
    SET_UP(waitid(P_PID, (id_t)child, &info, WSTOPPED | WNOWAIT) == 0);
    HOLDS(info.si_code == CLD_STOPPED);
    say("by %s", signal_name(info.si_status));
    CALL(waitpid(child, NULL, WNOHANG));
    SET_UP(kill(child, SIGCONT) == 0);
    pass_gate(stopped);
    show_end("child", child);
}

TEST(sigcont_handler_runs_after_continuing) {
    struct gate handled = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        handle(SIGCONT, note, 0);
        raise(SIGSTOP);
        say("continued, handled %d", count);
        open_gate(handled);
        _exit(0);
    }
    int status;
    SET_UP(waitpid(child, &status, WUNTRACED) == child);
    SET_UP(kill(child, SIGCONT) == 0);
    pass_gate(handled);
    show_end("child", child);
}

TEST(the_end_of_a_child_is_signalled) {
    handle_info(SIGCHLD, note_info, 0);
    block(SIG_BLOCK, SIGCHLD);
    pid_t child = fork_child();
    if (child == 0)
        _exit(33);
    sigset_t set;
    sigemptyset(&set);
    CALL(sigsuspend(&set));
    say("%d times %s", count, signal_name(last));
    HOLDS(last_info.si_pid == child);
    HOLDS(last_info.si_code == CLD_EXITED);
    say("status %d", last_info.si_status);
    show_end("child", child);
    child = fork_child();
    if (child == 0) {
        raise(SIGKILL);
        _exit(0);
    }
    CALL(sigsuspend(&set));
    HOLDS(last_info.si_code == CLD_KILLED);
    say("status %s", signal_name(last_info.si_status));
    show_end("child", child);
}

TEST(stops_are_signalled_unless_nocldstop) {
    handle_info(SIGCHLD, note_info, 0);
    block(SIG_BLOCK, SIGCHLD);
    sigset_t none;
    sigemptyset(&none);
    pid_t child = fork_child();
    if (child == 0) {
        raise(SIGSTOP);
        _exit(0);
    }
    CALL(sigsuspend(&none));
    HOLDS(last_info.si_code == CLD_STOPPED);
    SET_UP(kill(child, SIGKILL) == 0);
    CALL(sigsuspend(&none));
    HOLDS(last_info.si_code == CLD_KILLED);
    show_end("child", child);
    handle_info(SIGCHLD, note_info, SA_NOCLDSTOP);
    child = fork_child();
    if (child == 0) {
        raise(SIGSTOP);
        _exit(0);
    }
    siginfo_t info;
    SET_UP(waitid(P_PID, (id_t)child, &info, WSTOPPED) == 0);
    HOLDS(!is_pending(SIGCHLD));
    SET_UP(kill(child, SIGKILL) == 0);
    show_end("child", child);
}

TEST(ignored_sigchld_reaps_by_itself) {
    signal(SIGCHLD, SIG_IGN);
    struct gate end = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pass_gate(end);
        _exit(0);
    }
    open_gate(end);
    CALL(waitpid(child, NULL, 0));
    CALL(kill(child, 0));
    signal(SIGCHLD, SIG_DFL);
    handle(SIGCHLD, note, SA_NOCLDWAIT | SA_RESTART);
    child = fork_child();
    if (child == 0)
        _exit(0);
    CALL(waitpid(child, NULL, 0));
}

TEST(sigsuspend_waits_with_another_mask_and_restores_its_own) {
    handle(SIGUSR1, note, 0);
    block(SIG_BLOCK, SIGUSR1);
    SET_UP(raise(SIGUSR1) == 0);
    sigset_t none;
    sigemptyset(&none);
    CALL(sigsuspend(&none));
    say("%d times", count);
    HOLDS(is_blocked(SIGUSR1));
    CALL(RAW(SYS_rt_sigsuspend, &none, 16));
    CALL(RAW(SYS_rt_sigsuspend, BAD_ADDRESS, 8));
}

TEST(sigtimedwait_takes_a_pending_signal_without_its_handler) {
    handle(SIGUSR1, note, 0);
    block(SIG_BLOCK, SIGUSR1);
    SET_UP(raise(SIGUSR1) == 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    siginfo_t info;
    struct timespec soon = {0, 20000000}, bad = {0, -1};
    CALL(sigtimedwait(&set, &info, &soon));
    HOLDS(info.si_signo == SIGUSR1);
    say("handled %d", count);
    CALL(sigtimedwait(&set, &info, &soon));
    CALL(sigtimedwait(&set, &info, &bad));
}

static char alternative[65536];

static void show_stack(int signal_number) {
    (void)signal_number;
    char here;
    stack_t stack;
    SET_UP(sigaltstack(NULL, &stack) == 0);
    say("on the alternative stack: %s, flags %d", &here >= alternative && &here < alternative + sizeof alternative
        ? "yes" : "no", stack.ss_flags);
    stack_t disable = {.ss_flags = SS_DISABLE};
    CALL(sigaltstack(&disable, NULL));
}

TEST(an_alternative_stack_is_used_when_asked_for) {
    stack_t stack = {.ss_sp = alternative, .ss_size = sizeof alternative}, old;
    CALL(sigaltstack(&stack, &old));
    say("old flags %d", old.ss_flags == SS_DISABLE);
    handle(SIGUSR1, show_stack, SA_ONSTACK);
    handle(SIGUSR2, show_stack, 0);
    raise(SIGUSR1);
    raise(SIGUSR2);
    stack_t small = {.ss_sp = alternative, .ss_size = 100}, strange = {.ss_flags = 77, .ss_size = sizeof alternative};
    CALL(RAW(SYS_sigaltstack, &small, NULL));
    CALL(RAW(SYS_sigaltstack, &strange, NULL));
    CALL(RAW(SYS_sigaltstack, BAD_ADDRESS, NULL));
    CALL(RAW(SYS_sigaltstack, NULL, BAD_ADDRESS));
}

static sigjmp_buf way_out;

static void jump(int signal_number) {
    siglongjmp(way_out, signal_number);
}

TEST(a_handler_can_be_left_by_a_jump_many_times) {
    handle(SIGUSR1, jump, 0);
    volatile int jumps = 0;
    for (int i = 0; i < 100; i++) {
        if (sigsetjmp(way_out, 1) == 0)
            raise(SIGUSR1);
        else
            jumps++;
    }
    say("%d jumps", jumps);
    HOLDS(!is_blocked(SIGUSR1));
}

TEST(registers_survive_a_handler) {
    handle(SIGUSR1, note, 0);
    volatile double x = 1.5;
    double y = x * 3.25;
    for (int i = 0; i < 50; i++) {
        raise(SIGUSR1);
        y = y * 1.0000001 + x;
    }
    say("%.9f after %d signals", y, count);
}

static void use_floating_point(int signal_number) {
    (void)signal_number;
    __asm__ volatile("xorps %%xmm0, %%xmm0\n\t"
                     "xorps %%xmm7, %%xmm7\n\t"
                     "xorps %%xmm15, %%xmm15"
                     :
                     :
                     : "xmm0", "xmm7", "xmm15");
}

TEST(vector_registers_survive_a_handler) {
    handle(SIGUSR1, use_floating_point, 0);
    pid_t me = getpid();
    double in[2] = {1.25, -2.5}, out[2] = {0, 0};
    long result;
    __asm__ volatile("movups %2, %%xmm7\n\t"
                     "syscall\n\t"
                     "movups %%xmm7, %1"
                     : "=a"(result), "=m"(out)
                     : "m"(in), "a"(SYS_kill), "D"((long)me), "S"((long)SIGUSR1)
                     : "rcx", "r11", "xmm7", "memory");
    say("%ld, %.2f %.2f", result, out[0], out[1]);
}

TEST(a_system_call_changes_no_other_registers) {
    long result, flags, rbx = 11, rdx = 12, r8, r9, r10, r12, r15;
    __asm__ volatile("mov $13, %%r8d\n\t"
                     "mov $14, %%r9d\n\t"
                     "mov $15, %%r10d\n\t"
                     "mov $16, %%r12d\n\t"
                     "mov $17, %%r15d\n\t"
                     "std\n\t"
                     "syscall\n\t"
                     "pushfq\n\t"
                     "pop %%rcx\n\t"
                     "cld\n\t"
                     "mov %%r8, %4\n\t"
                     "mov %%r9, %5\n\t"
                     "mov %%r10, %6\n\t"
                     "mov %%r12, %7\n\t"
                     "mov %%r15, %8"
                     : "=a"(result), "=c"(flags), "+b"(rbx), "+d"(rdx), "=m"(r8), "=m"(r9), "=m"(r10), "=m"(r12),
                       "=m"(r15)
                     : "a"(SYS_getppid)
                     : "r8", "r9", "r10", "r11", "r12", "r15", "memory");
    HOLDS(result == getppid());
    say("%ld %ld %ld %ld %ld %ld %ld, direction flag %ld", rbx, rdx, r8, r9, r10, r12, r15, flags >> 10 & 1);
}

static void show_mask(int signal_number, siginfo_t *info, void *context) {
    (void)info;
    const ucontext_t *interrupted = context;
    say("%s came while SIGHUP blocked: %d, SIGUSR1 blocked: %d", signal_name(signal_number),
        sigismember(&interrupted->uc_sigmask, SIGHUP), sigismember(&interrupted->uc_sigmask, SIGUSR1));
    /* The mask to return to is the handler's to choose. */
    sigaddset((sigset_t *)&interrupted->uc_sigmask, SIGUSR2);
}

TEST(the_context_has_the_mask_to_return_to) {
    handle_info(SIGUSR1, show_mask, 0);
    block(SIG_BLOCK, SIGHUP);
    raise(SIGUSR1);
    HOLDS(is_blocked(SIGHUP));
    HOLDS(is_blocked(SIGUSR2));
    HOLDS(!is_blocked(SIGUSR1));
}

TEST(several_pending_signals_are_all_delivered) {
    const int signals[] = {SIGUSR1, SIGUSR2, SIGHUP, SIGTERM, SIGWINCH};
    sigset_t all, old;
    sigfillset(&all);
    SET_UP(sigprocmask(SIG_BLOCK, &all, &old) == 0);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        handle(signals[i], note, 0);
        SET_UP(raise(signals[i]) == 0);
    }
    SET_UP(sigprocmask(SIG_SETMASK, &old, NULL) == 0);
    say("%d delivered", count);
}

TEST(kill_of_everybody_is_not_tried_but_of_our_group_is) {
    struct gate ready = make_gate();
    pid_t first = fork_child();
    if (first == 0) {
        SET_UP(setpgid(0, 0) == 0);
        pid_t second = fork_child();
        if (second == 0) {
            open_gate(ready);
            for (;;)
                pause();
        }
        SET_UP(waitpid(second, NULL, 0) == second);
        _exit(0);
    }
    pass_gate(ready);
    CALL(kill(-first, 0));
    CALL(kill(-first, SIGKILL));
    show_end("leader", first);
}

TEST(a_killed_process_leaves_nothing_behind) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(close(ends[0]) == 0);
        for (;;)
            pause();
    }
    SET_UP(close(ends[1]) == 0);
    SET_UP(kill(child, SIGKILL) == 0);
    char byte;
    CALL(read(ends[0], &byte, 1));
    show_end("child", child);
}

TEST(a_busy_process_can_be_signalled) {
    struct gate ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        handle(SIGUSR1, note, 0);
        open_gate(ready);
        while (!count)
            ;
        _exit(44);
    }
    pass_gate(ready);
    CALL(kill(child, SIGUSR1));
    show_end("child", child);
    child = fork_child();
    if (child == 0) {
        open_gate(ready);
        for (volatile long i = 0;; i++)
            ;
    }
    pass_gate(ready);
    CALL(kill(child, SIGKILL));
    show_end("child", child);
}

static volatile sig_atomic_t ticks;
static void count_tick(int signal_number) { (void)signal_number, ticks++; }

/* Calls that are answered inside the process meet a bad pointer there; a signal that comes in that moment must wait for the way
 * out. */
TEST(signals_that_come_while_a_pointer_is_found_bad_disturb_nothing) {
    handle(SIGALRM, count_tick, SA_RESTART);
    struct itimerval often = {{0, 100}, {0, 100}};
    long refused = 0, made = 0;
    SET_UP(setitimer(ITIMER_REAL, &often, NULL) == 0);
    while (ticks < 500) {
        made += 2;
        refused += syscall(SYS_clock_gettime, CLOCK_MONOTONIC, 8L) == -1 && errno == EFAULT;
        refused += syscall(SYS_clock_getres, CLOCK_MONOTONIC, 8L) == -1 && errno == EFAULT;
    }
    memset(&often, 0, sizeof often);
    SET_UP(setitimer(ITIMER_REAL, &often, NULL) == 0);
    say("%s", refused == made ? "all are refused" : "some are not refused");
}
