/* Time: clocks, sleeping, alarms and interval timers. */
#include "case.h"

#include <sys/time.h>
#include <sys/times.h>

#define BILLION 1000000000L

/* The time by the name of a clock, in nanoseconds. */
static long clock_ns(clockid_t clock) {
    struct timespec now;
    SET_UP(clock_gettime(clock, &now) == 0);
    return now.tv_sec * BILLION + now.tv_nsec;
}

TEST(clocks_never_go_back) {
    const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW,
                                CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_PROCESS_CPUTIME_ID,
                                CLOCK_THREAD_CPUTIME_ID};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        int backwards = 0;
        long before = clock_ns(clocks[i]);
        for (int round = 0; round < 1000; round++) {
            long now = clock_ns(clocks[i]);
            backwards += now < before;
            before = now;
        }
        say("clock %d: %d times backwards", clocks[i], backwards);
    }
}

TEST(clock_calls_check_their_arguments) {
    struct timespec time;
    CALL(RAW(SYS_clock_gettime, 12345, &time));
    CALL(RAW(SYS_clock_gettime, CLOCK_MONOTONIC, BAD_ADDRESS));
    CALL(RAW(SYS_clock_getres, CLOCK_MONOTONIC, &time));
    HOLDS(time.tv_sec == 0 && time.tv_nsec > 0);
    CALL(RAW(SYS_clock_getres, CLOCK_MONOTONIC, NULL));
    CALL(RAW(SYS_clock_getres, 12345, &time));
    CALL(RAW(SYS_clock_getres, CLOCK_REALTIME, BAD_ADDRESS));
    CALL(RAW(SYS_clock_settime, CLOCK_MONOTONIC, &time));
    CALL(RAW(SYS_clock_settime, CLOCK_REALTIME, BAD_ADDRESS));
}

TEST(the_wall_clocks_agree) {
    struct timeval day;
    CALL(gettimeofday(&day, NULL));
    time_t seconds = time(NULL);
    long precise = clock_ns(CLOCK_REALTIME) / BILLION;
    HOLDS(seconds - day.tv_sec <= 2 && seconds >= day.tv_sec - 1);
    HOLDS(precise - day.tv_sec <= 2 && precise >= day.tv_sec);
    HOLDS(day.tv_usec >= 0 && day.tv_usec < 1000000);
    long stored = 0, told = RAW(SYS_time, &stored);
    HOLDS(stored == told);
    CALL(RAW(SYS_time, BAD_ADDRESS));
    CALL(RAW(SYS_gettimeofday, BAD_ADDRESS, NULL));
    CALL(RAW(SYS_gettimeofday, NULL, NULL));
}

TEST(a_sleep_lasts_at_least_as_long_as_asked) {
    const long lengths_ms[] = {0, 1, 30, 100};
    for (size_t i = 0; i < sizeof lengths_ms / sizeof *lengths_ms; i++) {
        struct timespec time = {0, lengths_ms[i] * 1000000};
        long start = clock_ns(CLOCK_MONOTONIC);
        CALL(nanosleep(&time, NULL));
        HOLDS(clock_ns(CLOCK_MONOTONIC) - start >= lengths_ms[i] * 1000000);
    }
}

TEST(a_sleep_may_be_absolute) {
    struct timespec until;
    SET_UP(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    long start = until.tv_sec * BILLION + until.tv_nsec;
    until.tv_nsec += 60000000;
    if (until.tv_nsec >= BILLION) {
        until.tv_sec++;
        until.tv_nsec -= BILLION;
    }
    CALL(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    HOLDS(clock_ns(CLOCK_MONOTONIC) - start >= 60000000);
    CALL(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    CALL(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL));
}

TEST(sleeps_check_their_arguments) {
    struct timespec negative = {-1, 0}, too_many = {0, BILLION}, below = {0, -1}, none = {0, 0};
    CALL(RAW(SYS_nanosleep, &negative, NULL));
    CALL(RAW(SYS_nanosleep, &too_many, NULL));
    CALL(RAW(SYS_nanosleep, &below, NULL));
    CALL(RAW(SYS_nanosleep, BAD_ADDRESS, NULL));
    CALL(RAW(SYS_nanosleep, NULL, NULL));
    CALL(RAW(SYS_nanosleep, &none, BAD_ADDRESS));
    CALL(RAW(SYS_clock_nanosleep, 12345, 0, &none, NULL));
    CALL(RAW(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &too_many, NULL));
    CALL(RAW(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, BAD_ADDRESS, NULL));
    CALL(RAW(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &none, NULL));
}

static volatile sig_atomic_t alarms;

static void note_alarm(int signal_number) {
    (void)signal_number;
    alarms++;
}

TEST(an_alarm_comes_once_and_can_be_changed) {
    handle(SIGALRM, note_alarm, 0);
    CALL(alarm(1000));
    HOLDS(alarm(2000) >= 999);
    HOLDS(alarm(0) >= 1999);
    CALL(alarm(0));
    CALL(alarm(1));
    CALL(pause());
    say("%d alarms", alarms);
    CALL(alarm(0));
}

TEST(an_unhandled_alarm_kills) {
    pid_t child = fork_child();
    if (child == 0) {
        struct itimerval soon = {{0, 0}, {0, 20000}};
        setitimer(ITIMER_REAL, &soon, NULL);
        for (;;)
            pause();
    }
    show_end("child", child);
}

TEST(an_interval_timer_goes_on_until_stopped) {
    handle(SIGALRM, note_alarm, 0);
    struct itimerval timer = {{0, 20000}, {0, 20000}}, old, none = {{0, 0}, {0, 0}};
    CALL(setitimer(ITIMER_REAL, &timer, NULL));
    while (alarms < 5)
        pause();
    CALL(getitimer(ITIMER_REAL, &old));
    HOLDS(old.it_interval.tv_sec == 0 && old.it_interval.tv_usec == 20000);
    HOLDS(old.it_value.tv_sec == 0 && old.it_value.tv_usec <= 20000);
    CALL(setitimer(ITIMER_REAL, &none, &old));
    HOLDS(old.it_interval.tv_usec == 20000);
    int seen = alarms;
    sleep_ms(60);
    HOLDS(alarms == seen);
    CALL(getitimer(ITIMER_REAL, &old));
    say("left %ld.%06ld", (long)old.it_value.tv_sec, (long)old.it_value.tv_usec);
}

TEST(a_one_shot_timer_comes_once) {
    handle(SIGALRM, note_alarm, 0);
    struct itimerval timer = {{0, 0}, {0, 10000}};
    CALL(setitimer(ITIMER_REAL, &timer, NULL));
    sleep_ms(100);
    say("%d alarms", alarms);
}

TEST(timers_check_their_arguments) {
    struct itimerval bad = {{0, 0}, {0, 1000000}}, negative = {{0, 0}, {-1, 0}}, old;
    CALL(RAW(SYS_setitimer, ITIMER_REAL, &bad, NULL));
    CALL(RAW(SYS_setitimer, ITIMER_REAL, &negative, NULL));
    CALL(RAW(SYS_setitimer, 7, &old, NULL));
    CALL(RAW(SYS_setitimer, ITIMER_REAL, BAD_ADDRESS, NULL));
    CALL(RAW(SYS_getitimer, ITIMER_REAL, BAD_ADDRESS));
    CALL(RAW(SYS_getitimer, 7, &old));
}

TEST(an_alarm_survives_execve_and_not_fork) {
    struct itimerval timer = {{0, 0}, {1000, 0}}, left;
    SET_UP(setitimer(ITIMER_REAL, &timer, NULL) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(getitimer(ITIMER_REAL, &left) == 0);
        say("child has %ld s", (long)left.it_value.tv_sec);
        struct itimerval soon = {{0, 0}, {0, 50000}};
        SET_UP(setitimer(ITIMER_REAL, &soon, NULL) == 0);
        execl("/bin/sh", "sh", "-c", "while :; do :; done", NULL);
        _exit(SET_UP_FAILED);
    }
    show_end("child", child);
    SET_UP(getitimer(ITIMER_REAL, &left) == 0);
    HOLDS(left.it_value.tv_sec >= 900);
}

TEST(processor_time_goes_on_with_work_and_not_with_sleep) {
    struct timespec before, after;
    SET_UP(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before) == 0);
    long deadline = now_ms() + 100;
    while (now_ms() < deadline)
        ;
    SET_UP(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after) == 0);
    HOLDS((after.tv_sec - before.tv_sec) * BILLION + after.tv_nsec - before.tv_nsec > 1000000);
    struct tms usage;
    HOLDS(times(&usage) != (clock_t)-1);
    CALL(RAW(SYS_times, BAD_ADDRESS));
}
