/* Signals that arrive while a call waits: EINTR, restarting, and how much time is left. */
#include "case.h"

#include <sys/time.h>

static volatile sig_atomic_t ticks;

static void tick(int signal_number) {
    (void)signal_number;
    ticks++;
}

/* Ticks every 20 ms with these flags for the action. */
static void tick_with(int flags) {
    handle(SIGALRM, tick, flags);
    struct itimerval timer = {{0, 20000}, {0, 20000}};
    SET_UP(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

/* The same, counted in memory that children share, so that they can wait for ticks of their parent. */
static volatile int *shared_ticks;

static void shared_tick(int signal_number) {
    (void)signal_number;
    (*shared_ticks)++;
}

static void tick_shared_with(int flags) {
    shared_ticks = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SET_UP(shared_ticks != MAP_FAILED);
    handle(SIGALRM, shared_tick, flags);
    struct itimerval timer = {{0, 20000}, {0, 20000}};
    SET_UP(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void wait_for_ticks(int wanted) {
    while (*shared_ticks < wanted)
        sleep_ms(5);
}

TEST(a_blocking_read_is_interrupted) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    tick_with(0);
    char byte;
    CALL(read(ends[0], &byte, 1));
    HOLDS(ticks > 0);
}

TEST(a_blocking_read_is_restarted_when_asked_for) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    tick_shared_with(SA_RESTART);
    pid_t child = fork_child();
    if (child == 0) {
        wait_for_ticks(3);
        SET_UP(write(ends[1], "x", 1) == 1);
        _exit(0);
    }
    char byte;
    CALL(read(ends[0], &byte, 1));
    HOLDS(*shared_ticks >= 3);
    show_end("child", child);
}

TEST(a_blocking_write_is_interrupted_before_or_after_some_bytes) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    tick_with(0);
    static char bytes[100000];
    CALL(write(ends[1], bytes, sizeof bytes));
    CALL(write(ends[1], bytes, sizeof bytes));
    HOLDS(ticks > 0);
}

TEST(waiting_for_a_child_is_interrupted_or_restarted) {
    struct gate end = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pass_gate(end);
        _exit(5);
    }
    tick_with(0);
    int status;
    CALL(waitpid(child, &status, 0));
    tick_shared_with(SA_RESTART);
    pid_t opener = fork_child();
    if (opener == 0) {
        wait_for_ticks(3);
        open_gate(end);
        _exit(0);
    }
    HOLDS(waitpid(child, &status, 0) == child);
    show_status("child", status);
    HOLDS(*shared_ticks >= 3);
    show_end("opener", opener);
}

TEST(a_sleep_is_interrupted_whatever_the_flags_and_tells_what_is_left) {
    tick_with(SA_RESTART);
    struct timespec asked = {1000, 0}, left = {0, 0};
    CALL(nanosleep(&asked, &left));
    HOLDS(left.tv_sec >= 900 && left.tv_sec < 1000);
    CALL(RAW(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &asked, &left));
    HOLDS(left.tv_sec >= 900 && left.tv_sec < 1000);
    left.tv_sec = 7;
    struct timespec late;
    SET_UP(clock_gettime(CLOCK_MONOTONIC, &late) == 0);
    late.tv_sec += 1000;
    CALL(RAW(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &late, &left));
    say("an absolute sleep leaves it alone: %ld", (long)left.tv_sec);
}

TEST(pause_ends_with_any_handled_signal) {
    tick_with(SA_RESTART);
    CALL(pause());
    CALL(pause());
    HOLDS(ticks >= 2);
}

TEST(an_ignored_signal_interrupts_nothing) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    pid_t parent = getpid(), child = fork_child();
    if (child == 0) {
        for (int i = 0; i < 5; i++) {
            SET_UP(kill(parent, SIGUSR1) == 0 && kill(parent, SIGCHLD) == 0 && kill(parent, SIGWINCH) == 0);
            sleep_ms(10);
        }
        SET_UP(write(ends[1], "x", 1) == 1);
        _exit(0);
    }
    char byte;
    CALL(read(ends[0], &byte, 1));
    show_end("child", child);
}

TEST(a_blocked_signal_interrupts_nothing) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    SET_UP(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    handle(SIGUSR1, tick, 0);
    pid_t parent = getpid(), child = fork_child();
    if (child == 0) {
        SET_UP(kill(parent, SIGUSR1) == 0);
        sleep_ms(30);
        SET_UP(write(ends[1], "x", 1) == 1);
        _exit(0);
    }
    char byte;
    CALL(read(ends[0], &byte, 1));
    say("handled %d", ticks);
    SET_UP(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
    say("handled %d", ticks);
    show_end("child", child);
}

/* Stopping and continuing is no interruption for one without a handler. */
TEST(a_stop_in_a_read_is_invisible) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    struct gate ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        open_gate(ready);
        char byte = 0;
        CALL(read(ends[0], &byte, 1));
        _exit(byte);
    }
    pass_gate(ready);
    sleep_ms(30);
    int status;
    SET_UP(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child);
    show_status("child", status);
    SET_UP(kill(child, SIGCONT) == 0 && waitpid(child, &status, WCONTINUED) == child);
    show_status("child", status);
    SET_UP(write(ends[1], "\x09", 1) == 1);
    show_end("child", child);
}

TEST(a_stopped_sleeper_sleeps_on) {
    struct gate ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        open_gate(ready);
        struct timespec time = {0, 100000000};
        CALL(nanosleep(&time, NULL));
        _exit(0);
    }
    pass_gate(ready);
    int status;
    SET_UP(kill(child, SIGSTOP) == 0 && waitpid(child, &status, WUNTRACED) == child);
    SET_UP(kill(child, SIGCONT) == 0);
    show_end("child", child);
}

TEST(a_read_can_be_interrupted_again_and_again) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    keep_interrupting();
    char byte;
    int interruptions = 0;
    for (int i = 0; i < 5; i++)
        interruptions += read(ends[0], &byte, 1) < 0 && errno == EINTR;
    stop_interrupting();
    say("%d interruptions", interruptions);
    SET_UP(write(ends[1], "x", 1) == 1);
    CALL(read(ends[0], &byte, 1));
}

TEST(opening_a_fifo_waits_and_is_interrupted) {
    SET_UP(mkfifo("fifo", 0600) == 0);
    tick_with(0);
    CALL(open("fifo", O_RDONLY));
    CALL(open("fifo", O_WRONLY));
}

TEST(a_kill_ends_every_wait) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    for (int kind = 0; kind < 5; kind++) {
        struct gate ready = make_gate();
        pid_t child = fork_child();
        if (child == 0) {
            open_gate(ready);
            char byte;
            struct timespec long_time = {1000, 0};
            sigset_t all;
            sigfillset(&all);
            switch (kind) {
            case 0: SET_UP(read(ends[0], &byte, 1) == 1); break;
            case 1: SET_UP(nanosleep(&long_time, NULL) == 0); break;
            case 2: SET_UP(pause() == 0); break;
            case 3: SET_UP(sigsuspend(&all) == 0); break;
            default: SET_UP(RAW(SYS_poll, NULL, 0, -1) == 0); break;
            }
            _exit(0);
        }
        pass_gate(ready);
        sleep_ms(5);
        SET_UP(kill(child, SIGKILL) == 0);
        say("kind %d", kind);
        show_end("  child", child);
    }
}
