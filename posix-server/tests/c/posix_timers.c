/* Timers that send signals: timer_create and its kin, the interval timers, clocks of used time. */
#include "case.h"

#include <pthread.h>
#include <sys/time.h>

#define MILLION 1000000L
#define BILLION 1000000000L
#define TIMER_SIGNAL SIGRTMIN

/* The timers of the system itself: C libraries have other numbers for them. */
static int create(clockid_t clock, struct sigevent *event, int *timer) {
    return RAW(SYS_timer_create, clock, event, timer);
}

static int set(int timer, int flags, long value_ms, long interval_ms, struct itimerspec *old) {
    struct itimerspec new = {{interval_ms / 1000, interval_ms % 1000 * MILLION},
                             {value_ms / 1000, value_ms % 1000 * MILLION}};
    return RAW(SYS_timer_settime, timer, flags, &new, old);
}

static int get(int timer, struct itimerspec *left) {
    return RAW(SYS_timer_gettime, timer, left);
}

static int new_timer(int signal_number, long value) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signal_number};
    event.sigev_value.sival_ptr = (void *)value;
    int timer = -1;
    SET_UP(create(CLOCK_MONOTONIC, &event, &timer) == 0);
    return timer;
}

static void block(int signal_number) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, signal_number);
    SET_UP(sigprocmask(SIG_BLOCK, &signals, NULL) == 0);
}

/* Takes a signal that is blocked. */
static int take(int signal_number, siginfo_t *info, long patience_ms) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, signal_number);
    struct timespec time = {patience_ms / 1000, patience_ms % 1000 * MILLION};
    return sigtimedwait(&signals, info, &time);
}

/* Uses the processor for so long, however much of it others get. */
static void work_ms(long ms) {
    struct timespec start, now;
    SET_UP(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start) == 0);
    do
        SET_UP(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0);
    while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / MILLION < ms);
}

TEST(timer_create_checks_its_arguments) {
    int timer;
    const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, 11, CLOCK_PROCESS_CPUTIME_ID,
                          CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                          CLOCK_MONOTONIC_COARSE, 12345, -1, -2, -5};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        int result = create(clocks[i], NULL, &timer);
        say("clock %d: %s", clocks[i], result ? errno_name(errno) : "made");
    }
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 0};
    CALL(create(CLOCK_MONOTONIC, &event, &timer));
    event.sigev_signo = 65;
    CALL(create(CLOCK_MONOTONIC, &event, &timer));
    event.sigev_signo = SIGKILL;
    CALL(create(CLOCK_MONOTONIC, &event, &timer));
    event.sigev_notify = 77;
    CALL(create(CLOCK_MONOTONIC, &event, &timer));
    event.sigev_notify = SIGEV_NONE;
    event.sigev_signo = 99;
    CALL(create(CLOCK_MONOTONIC, &event, &timer));
    event.sigev_notify = 4; /* SIGEV_THREAD_ID */
    event.sigev_signo = SIGUSR1;
    CALL(create(CLOCK_MONOTONIC, &event, &timer));
    CALL(create(CLOCK_MONOTONIC, BAD_ADDRESS, &timer));
    CALL(create(CLOCK_MONOTONIC, NULL, BAD_ADDRESS));
    CALL(create(12345, BAD_ADDRESS, &timer));
}

TEST(timer_calls_check_their_arguments) {
    int timer = new_timer(SIGUSR1, 0);
    struct itimerspec good = {{0, 0}, {1000, 0}}, left;
    struct itimerspec bad[] = {{{0, 0}, {-1, 0}}, {{0, 0}, {0, -1}}, {{0, 0}, {0, BILLION}}, {{-1, 0}, {1, 0}},
                               {{0, BILLION}, {1, 0}}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CALL(RAW(SYS_timer_settime, timer, 0, &bad[i], NULL));
    CALL(RAW(SYS_timer_settime, timer, 0, NULL, NULL));
    CALL(RAW(SYS_timer_settime, timer, 0, BAD_ADDRESS, NULL));
    CALL(RAW(SYS_timer_settime, timer, 0, &good, BAD_ADDRESS));
    CALL(RAW(SYS_timer_settime, timer, 0xff0, &good, NULL));
    CALL(RAW(SYS_timer_settime, 12345, 0, &good, NULL));
    CALL(RAW(SYS_timer_settime, -1, 0, &good, NULL));
    CALL(RAW(SYS_timer_gettime, timer, BAD_ADDRESS));
    CALL(RAW(SYS_timer_gettime, 12345, &left));
    CALL(RAW(SYS_timer_getoverrun, 12345));
    CALL(RAW(SYS_timer_getoverrun, timer));
    CALL(RAW(SYS_timer_delete, 12345));
    CALL(RAW(SYS_timer_delete, timer));
    CALL(RAW(SYS_timer_delete, timer));
    CALL(RAW(SYS_timer_gettime, timer, &left));
}

TEST(timer_numbers_go_up) {
    int first = new_timer(SIGUSR1, 0), second = new_timer(SIGUSR1, 0);
    HOLDS(second == first + 1);
    SET_UP(RAW(SYS_timer_delete, first) == 0);
    HOLDS(new_timer(SIGUSR1, 0) == second + 1);
}

TEST(timer_signals_tell_who_sent_them) {
    block(TIMER_SIGNAL);
    int timer = new_timer(TIMER_SIGNAL, 0x123456789abcL);
    CALL(set(timer, 0, 20, 0, NULL));
    siginfo_t info;
    HOLDS(take(TIMER_SIGNAL, &info, 5000) == TIMER_SIGNAL);
    HOLDS(info.si_code == SI_TIMER);
    HOLDS(info.si_value.sival_ptr == (void *)0x123456789abcL);
    HOLDS(info.si_timerid == timer);
    HOLDS(info.si_overrun == 0);
    struct itimerspec left;
    CALL(get(timer, &left));
    HOLDS(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
    CALL(take(TIMER_SIGNAL, &info, 30));
}

TEST(timer_without_an_event_sends_sigalrm_with_its_number) {
    block(SIGALRM);
    int timer = -1;
    siginfo_t info;
    CALL(create(CLOCK_REALTIME, NULL, &timer));
    CALL(set(timer, 0, 10, 0, NULL));
    HOLDS(take(SIGALRM, &info, 5000) == SIGALRM);
    HOLDS(info.si_code == SI_TIMER && info.si_value.sival_int == timer && info.si_timerid == timer);
}

TEST(timer_overruns_are_counted) {
    block(TIMER_SIGNAL);
    int timer = new_timer(TIMER_SIGNAL, 1);
    siginfo_t info;
    CALL(set(timer, 0, 10, 10, NULL));
    sleep_ms(105);
    HOLDS(take(TIMER_SIGNAL, &info, 5000) == TIMER_SIGNAL);
    HOLDS(info.si_overrun >= 8 && info.si_overrun < 1000);
    HOLDS(RAW(SYS_timer_getoverrun, timer) == info.si_overrun);
    HOLDS(take(TIMER_SIGNAL, &info, 5000) == TIMER_SIGNAL);
    struct itimerspec old;
    CALL(set(timer, 0, 0, 0, &old));
    HOLDS(old.it_interval.tv_nsec == 10 * MILLION && old.it_value.tv_nsec > 0);
    HOLDS(old.it_value.tv_nsec <= 10 * MILLION);
    while (take(TIMER_SIGNAL, &info, 0) > 0)
        ;
    CALL(take(TIMER_SIGNAL, &info, 30));
}

static volatile sig_atomic_t seen, wrong;

static void note(int signal_number) {
    (void)signal_number;
    seen++;
}

static void note_info(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    seen++;
    wrong += info->si_code != SI_TIMER || info->si_signo != signal_number || info->si_value.sival_int != 7;
}

TEST(timer_handlers_run_again_and_again) {
    handle_info(SIGUSR1, note_info, 0);
    int timer = new_timer(SIGUSR1, 7);
    CALL(set(timer, 0, 5, 5, NULL));
    while (seen < 10)
        pause();
    CALL(RAW(SYS_timer_delete, timer));
    int before = seen;
    sleep_ms(30);
    HOLDS(seen <= before + 1);
    say("%d wrong", (int)wrong);
}

TEST(timers_with_the_same_signal_are_both_heard) {
    block(SIGUSR1);
    int first = new_timer(SIGUSR1, 1), second = new_timer(SIGUSR1, 2);
    SET_UP(set(first, 0, 10, 0, NULL) == 0 && set(second, 0, 20, 0, NULL) == 0);
    sleep_ms(60);
    siginfo_t info;
    for (int i = 0; i < 2; i++) {
        HOLDS(take(SIGUSR1, &info, 0) == SIGUSR1);
        say("value %d", info.si_value.sival_int);
    }
    CALL(take(SIGUSR1, &info, 0));
}

TEST(timer_that_is_deleted_has_sent_its_signal) {
    block(SIGUSR1);
    int timer = new_timer(SIGUSR1, 1);
    SET_UP(set(timer, 0, 10, 0, NULL) == 0);
    sleep_ms(40);
    sigset_t pending;
    SET_UP(sigpending(&pending) == 0);
    HOLDS(sigismember(&pending, SIGUSR1));
}

TEST(timer_absolute_times) {
    block(TIMER_SIGNAL);
    int timer = new_timer(TIMER_SIGNAL, 1);
    siginfo_t info;
    struct itimerspec new = {{0, 0}, {0, 0}};
    SET_UP(clock_gettime(CLOCK_MONOTONIC, &new.it_value) == 0);
    long start = now_ms();
    new.it_value.tv_nsec += 40 * MILLION;
    if (new.it_value.tv_nsec >= BILLION) {
        new.it_value.tv_nsec -= BILLION;
        new.it_value.tv_sec++;
    }
    CALL(RAW(SYS_timer_settime, timer, TIMER_ABSTIME, &new, NULL));
    HOLDS(take(TIMER_SIGNAL, &info, 5000) == TIMER_SIGNAL);
    HOLDS(now_ms() - start >= 39);
    CALL(RAW(SYS_timer_settime, timer, TIMER_ABSTIME, &new, NULL));
    HOLDS(take(TIMER_SIGNAL, &info, 5000) == TIMER_SIGNAL);
    HOLDS(info.si_overrun == 0);
}

TEST(timer_that_tells_nobody_still_counts) {
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    int timer = -1;
    struct itimerspec left;
    CALL(create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CALL(set(timer, 0, 20, 0, NULL));
    CALL(get(timer, &left));
    HOLDS(left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 20 * MILLION);
    sleep_ms(40);
    CALL(get(timer, &left));
    HOLDS(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
    CALL(set(timer, 0, 30, 30, NULL));
    sleep_ms(100);
    CALL(get(timer, &left));
    HOLDS(left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 30 * MILLION);
}

static void *waiter(void *argument) {
    int *tid = argument;
    block(TIMER_SIGNAL);
    __atomic_store_n(tid, (int)RAW(SYS_gettid), __ATOMIC_RELEASE);
    siginfo_t info;
    int taken = take(TIMER_SIGNAL, &info, 5000);
    say("the thread took it: %s", taken == TIMER_SIGNAL && info.si_value.sival_int == 5 ? "yes" : "no");
    return NULL;
}

TEST(timer_for_one_thread) {
    pthread_t thread;
    int tid = 0, timer = -1;
    handle(TIMER_SIGNAL, note, 0);
    SET_UP(pthread_create(&thread, NULL, waiter, &tid) == 0);
    while (!__atomic_load_n(&tid, __ATOMIC_ACQUIRE))
        sleep_ms(1);
    struct {
        union sigval value;
        int signal, notify, tid, rest[11];
    } event = {{.sival_int = 5}, TIMER_SIGNAL, 4, tid, {0}};
    CALL(create(CLOCK_MONOTONIC, (struct sigevent *)&event, &timer) == 0);
    CALL(set(timer, 0, 20, 0, NULL));
    SET_UP(pthread_join(thread, NULL) == 0);
    say("seen %d", (int)seen);
}

TEST(timer_of_used_time) {
    block(TIMER_SIGNAL);
    siginfo_t info;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = TIMER_SIGNAL};
    int process = -1, thread = -1;
    CALL(create(CLOCK_PROCESS_CPUTIME_ID, &event, &process) == 0);
    CALL(create(CLOCK_THREAD_CPUTIME_ID, &event, &thread) == 0);
    CALL(set(process, 0, 50, 0, NULL));
    sleep_ms(100);
    CALL(take(TIMER_SIGNAL, &info, 0));
    work_ms(200);
    HOLDS(take(TIMER_SIGNAL, &info, 5000) == TIMER_SIGNAL);
    HOLDS(info.si_timerid == process && info.si_code == SI_TIMER);
    CALL(set(thread, 0, 20, 20, NULL));
    work_ms(200);
    HOLDS(take(TIMER_SIGNAL, &info, 5000) == TIMER_SIGNAL);
    HOLDS(info.si_timerid == thread);
    struct itimerspec left;
    CALL(get(thread, &left));
    HOLDS(left.it_interval.tv_nsec == 20 * MILLION);
    HOLDS(left.it_value.tv_sec == 0 && left.it_value.tv_nsec <= 20 * MILLION);
}

TEST(timers_are_not_inherited) {
    block(SIGUSR1);
    int timer = new_timer(SIGUSR1, 1);
    CALL(set(timer, 0, 20, 0, NULL));
    pid_t child = fork_child();
    if (child == 0) {
        siginfo_t info;
        struct itimerspec left;
        CALL(get(timer, &left));
        CALL(take(SIGUSR1, &info, 60));
        HOLDS(new_timer(SIGUSR1, 1) == 0);
        _exit(0);
    }
    show_end("child", child);
    siginfo_t info;
    HOLDS(take(SIGUSR1, &info, 5000) == SIGUSR1);
}

int child_main(int argc, char **argv) {
    (void)argc;
    struct itimerspec left;
    say("timer: %s", get(atoi(argv[0]), &left) ? errno_name(errno) : "still there");
    return 0;
}

TEST(timers_end_with_execve) {
    pid_t child = fork_child();
    if (child == 0) {
        char number[16];
        int timer = new_timer(SIGUSR1, 1);
        sprintf(number, "%d", timer);
        CALL(set(timer, 0, 30000, 0, NULL));
        execl(own_path(), own_path(), "--child", number, NULL);
        _exit(SET_UP_FAILED);
    }
    show_end("child", child);
}

TEST(timer_whose_signal_is_ignored) {
    int timer = new_timer(SIGUSR1, 1);
    SET_UP(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
    CALL(set(timer, 0, 1, 1, NULL));
    sleep_ms(30);
    handle(SIGUSR1, note, 0);
    while (!seen)
        pause();
    CALL(set(timer, 0, 0, 0, NULL));
    HOLDS(seen > 0);
}

/* One that was kept because it was blocked, and then does nothing: the timer has sent it, and goes on. */
TEST(timer_whose_signal_does_nothing_when_it_comes) {
    block(SIGCONT);
    int timer = new_timer(SIGCONT, 1);
    CALL(set(timer, 0, 10, 10, NULL));
    sleep_ms(105);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    HOLDS(RAW(SYS_timer_getoverrun, timer) >= 8);
    handle(SIGCONT, note, 0);
    while (!seen)
        pause();
    CALL(set(timer, 0, 0, 0, NULL));
}

TEST(timer_with_a_tiny_interval) {
    block(TIMER_SIGNAL);
    int timer = new_timer(TIMER_SIGNAL, 1);
    struct itimerspec new = {{0, 1}, {0, 1}};
    CALL(RAW(SYS_timer_settime, timer, 0, &new, NULL));
    sleep_ms(20);
    siginfo_t info;
    HOLDS(take(TIMER_SIGNAL, &info, 5000) == TIMER_SIGNAL);
    HOLDS(info.si_overrun > 1000000);
}

TEST(many_timers) {
    int made = 0, timers[200];
    for (int i = 0; i < 200; i++) {
        timers[i] = new_timer(SIGUSR1, i);
        made += set(timers[i], 0, 100000 + i, 0, NULL) == 0;
    }
    say("%d made", made);
    int deleted = 0;
    for (int i = 0; i < 200; i += 2)
        deleted += RAW(SYS_timer_delete, timers[i]) == 0;
    say("%d deleted", deleted);
}

TEST(interval_timers_of_used_time) {
    handle(SIGVTALRM, note, 0);
    struct itimerval new = {{0, 20000}, {0, 20000}}, old;
    CALL(setitimer(ITIMER_VIRTUAL, &new, NULL));
    sleep_ms(100);
    say("while asleep: %d", (int)seen);
    while (seen < 3)
        work_ms(1);
    HOLDS(seen >= 3);
    CALL(getitimer(ITIMER_VIRTUAL, &old));
    HOLDS(old.it_interval.tv_usec == 20000 && old.it_value.tv_usec <= 20000);
    struct itimerval none = {{0, 0}, {0, 0}};
    CALL(setitimer(ITIMER_VIRTUAL, &none, &old));
    HOLDS(old.it_interval.tv_usec == 20000);
    seen = 0;
    handle(SIGPROF, note, 0);
    struct itimerval once = {{0, 0}, {0, 30000}};
    CALL(setitimer(ITIMER_PROF, &once, NULL));
    while (seen < 1)
        work_ms(1);
    work_ms(100);
    say("profile: %d", (int)seen);
    CALL(getitimer(ITIMER_PROF, &old));
    HOLDS(old.it_value.tv_sec == 0 && old.it_value.tv_usec == 0);
}

TEST(interval_timer_of_used_time_kills) {
    pid_t child = fork_child();
    if (child == 0) {
        struct itimerval soon = {{0, 0}, {0, 20000}};
        setitimer(ITIMER_PROF, &soon, NULL);
        for (;;)
            ;
    }
    show_end("child", child);
}

/* Uses the processor in the program itself: time in calls does not count for every timer. */
static void compute_until_pending(int signal_number) {
    sigset_t pending;
    do {
        for (volatile int i = 0; i < MILLION; i++)
            ;
        SET_UP(sigpending(&pending) == 0);
    } while (!sigismember(&pending, signal_number));
}

TEST(interval_timer_signals_come_from_the_kernel) {
    const struct {
        int which, signal;
    } timers[] = {{ITIMER_REAL, SIGALRM}, {ITIMER_VIRTUAL, SIGVTALRM}, {ITIMER_PROF, SIGPROF}};
    for (int i = 0; i < 3; i++) {
        block(timers[i].signal);
        struct itimerval soon = {{0, 0}, {0, 10000}};
        SET_UP(setitimer(timers[i].which, &soon, NULL) == 0);
        compute_until_pending(timers[i].signal);
        siginfo_t info;
        HOLDS(take(timers[i].signal, &info, 5000) == timers[i].signal);
        HOLDS(info.si_code == SI_KERNEL);
    }
}

TEST(interval_timer_waits_while_its_signal_is_blocked) {
    block(SIGALRM);
    struct itimerval quick = {{0, 1}, {0, 1}};
    CALL(setitimer(ITIMER_REAL, &quick, NULL));
    sleep_ms(30);
    siginfo_t info;
    HOLDS(take(SIGALRM, &info, 5000) == SIGALRM);
    HOLDS(take(SIGALRM, &info, 5000) == SIGALRM);
    struct itimerval none = {{0, 0}, {0, 0}};
    CALL(setitimer(ITIMER_REAL, &none, NULL));
}

TEST(clocks_of_other_processes) {
    clockid_t clock;
    struct timespec time;
    pid_t child = fork_child();
    if (child == 0) {
        work_ms(30);
        pause();
    }
    CALL(clock_getcpuclockid(child, &clock));
    do
        SET_UP(clock_gettime(clock, &time) == 0);
    while (time.tv_sec == 0 && time.tv_nsec < 5 * MILLION);
    CALL(RAW(SYS_clock_getres, clock, &time));
    HOLDS(time.tv_sec == 0 && time.tv_nsec == 1);
    CALL(RAW(SYS_clock_settime, clock, &time));
    SET_UP(kill(child, SIGKILL) == 0);
    show_end("child", child);
    CALL(RAW(SYS_clock_gettime, clock, &time));
    CALL(RAW(SYS_clock_gettime, -6L, &time)); /* this process: PROF is 0, VIRT 1, SCHED 2 */
    CALL(RAW(SYS_clock_gettime, -8L, &time));
    CALL(RAW(SYS_clock_gettime, -7L, &time));
    CALL(RAW(SYS_clock_gettime, -5L, &time));
    CALL(RAW(SYS_clock_gettime, -2L, &time));
}

TEST(a_timer_whose_signal_has_no_effect_counts_what_it_missed) {
    timer_t timer;
    sigset_t set;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT};
    struct itimerspec every = {{0, 2 * MILLION}, {0, 2 * MILLION}}, none = {{0, 0}, {0, 0}};
    sigemptyset(&set);
    sigaddset(&set, SIGCONT);
    SET_UP(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    SET_UP(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    for (int round = 0; round < 2; round++) {
        SET_UP(timer_settime(timer, 0, &every, NULL) == 0);
        sleep_ms(30);
        CALL(sigprocmask(SIG_UNBLOCK, &set, NULL));
        HOLDS(timer_getoverrun(timer) >= 4);
        SET_UP(timer_settime(timer, 0, &none, NULL) == 0);
        SET_UP(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    }
}

TEST(sleeping_on_all_clocks) {
    const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, 11, CLOCK_THREAD_CPUTIME_ID,
                          CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, 12345, -1};
    struct timespec short_time = {0, MILLION};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        long result = RAW(SYS_clock_nanosleep, clocks[i], 0, &short_time, NULL);
        say("clock %d: %s", clocks[i], result ? errno_name(errno) : "slept");
    }
}

/* Without the permission: with it, it depends on the machine. */
ROOT_TEST(timers_that_wake_the_machine_need_permission) {
    drop_to(NOBODY, NOBODY);
    CALL_OK(RAW(SYS_timerfd_create, CLOCK_REALTIME_ALARM, 0));
    CALL_OK(RAW(SYS_timerfd_create, CLOCK_BOOTTIME_ALARM, 0));
}

ROOT_TEST(clocks_are_not_set_by_everybody) {
    struct timespec time = {1000, 0}, bad = {0, BILLION};
    struct timeval day = {1000, 0}, bad_day = {0, 1000001};
    drop_to(NOBODY, NOBODY);
    CALL(RAW(SYS_clock_settime, CLOCK_REALTIME, &time));
    CALL(RAW(SYS_clock_settime, CLOCK_REALTIME, &bad));
    CALL(RAW(SYS_clock_settime, CLOCK_MONOTONIC, &time));
    CALL(RAW(SYS_clock_settime, CLOCK_PROCESS_CPUTIME_ID, &time));
    CALL(RAW(SYS_clock_settime, 12345, &time));
    CALL(RAW(SYS_settimeofday, &day, NULL));
    CALL(RAW(SYS_settimeofday, &bad_day, NULL));
    CALL(RAW(SYS_settimeofday, BAD_ADDRESS, NULL));
    char record[208] = {0};
    HOLDS(RAW(SYS_adjtimex, record) >= 0);
    record[0] = 1; /* ADJ_OFFSET */
    CALL(RAW(SYS_adjtimex, record));
    CALL(RAW(SYS_clock_adjtime, CLOCK_REALTIME, record));
    CALL(RAW(SYS_clock_adjtime, CLOCK_MONOTONIC, record));
    CALL(RAW(SYS_adjtimex, BAD_ADDRESS));
}
