/* Timers that are files. */
#include "case.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>

#define MILLION 1000000L
#define BILLION 1000000000L

static struct itimerspec setting(long value_ms, long interval_ms) {
    return (struct itimerspec){{interval_ms / 1000, interval_ms % 1000 * MILLION},
                               {value_ms / 1000, value_ms % 1000 * MILLION}};
}

static int new_timer(int flags) {
    int fd = timerfd_create(CLOCK_MONOTONIC, flags);
    SET_UP(fd >= 0);
    return fd;
}

static void set(int fd, long value_ms, long interval_ms) {
    struct itimerspec new = setting(value_ms, interval_ms);
    SET_UP(timerfd_settime(fd, 0, &new, NULL) == 0);
}

static uint64_t expirations(int fd) {
    uint64_t count = 0;
    SET_UP(read(fd, &count, sizeof count) == sizeof count);
    return count;
}

static int is_readable(int fd) {
    struct pollfd entry = {fd, POLLIN, 0};
    return poll(&entry, 1, 0);
}

TEST(timerfd_create_checks_its_arguments) {
    const int clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID,
                          CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                          CLOCK_MONOTONIC_COARSE, 11, 12345, -1};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        int fd = timerfd_create(clocks[i], 0);
        say("clock %d: %s", clocks[i], fd < 0 ? errno_name(errno) : "made");
    }
    CALL(timerfd_create(CLOCK_MONOTONIC, 1));
    CALL(timerfd_create(CLOCK_MONOTONIC, O_APPEND));
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    HOLDS(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    HOLDS(fcntl(fd, F_GETFL) == (O_RDWR | O_NONBLOCK));
}

TEST(timerfd_calls_check_their_arguments) {
    int fd = new_timer(TFD_NONBLOCK);
    struct itimerspec good = setting(1000, 0), old;
    struct itimerspec bad[] = {{{0, 0}, {-1, 0}}, {{0, 0}, {0, -1}}, {{0, 0}, {0, BILLION}}, {{-1, 0}, {1, 0}},
                               {{0, BILLION}, {1, 0}}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CALL(timerfd_settime(fd, 0, &bad[i], NULL));
    CALL(RAW(SYS_timerfd_settime, fd, 0, NULL, NULL));
    CALL(RAW(SYS_timerfd_settime, fd, 0, BAD_ADDRESS, NULL));
    CALL(RAW(SYS_timerfd_settime, fd, 0, &good, BAD_ADDRESS));
    CALL(RAW(SYS_timerfd_settime, fd, 4, &good, NULL));
    CALL(RAW(SYS_timerfd_settime, 0, 0, &good, NULL));
    CALL(RAW(SYS_timerfd_settime, 99, 0, &good, NULL));
    CALL(RAW(SYS_timerfd_settime, 99, 4, BAD_ADDRESS, NULL));
    CALL(RAW(SYS_timerfd_gettime, fd, BAD_ADDRESS));
    CALL(RAW(SYS_timerfd_gettime, 0, &old));
    CALL(RAW(SYS_timerfd_gettime, 99, &old));
    char bytes[7];
    CALL(read(fd, bytes, 7));
    CALL(write(fd, "12345678", 8));
}

TEST(timerfd_that_is_not_set_never_expires) {
    int fd = new_timer(TFD_NONBLOCK);
    uint64_t count;
    CALL(read(fd, &count, 8));
    CALL(is_readable(fd));
    struct itimerspec now;
    CALL(timerfd_gettime(fd, &now));
    HOLDS(now.it_value.tv_sec == 0 && now.it_value.tv_nsec == 0);
    set(fd, 0, 20);
    sleep_ms(50);
    CALL(is_readable(fd));
    CALL(timerfd_gettime(fd, &now));
    HOLDS(now.it_value.tv_nsec == 0 && now.it_interval.tv_nsec == 20 * MILLION);
}

TEST(timerfd_expires_once) {
    int fd = new_timer(0);
    long start = now_ms();
    set(fd, 50, 0);
    struct itimerspec left;
    CALL(timerfd_gettime(fd, &left));
    HOLDS(left.it_value.tv_sec == 0 && left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 50 * MILLION);
    HOLDS(expirations(fd) == 1);
    HOLDS(now_ms() - start >= 50);
    CALL(timerfd_gettime(fd, &left));
    HOLDS(left.it_value.tv_nsec == 0);
    CALL(is_readable(fd));
    SET_UP(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    uint64_t count;
    CALL(read(fd, &count, 8));
}

TEST(timerfd_counts_expirations) {
    int fd = new_timer(0);
    set(fd, 10, 10);
    sleep_ms(105);
    uint64_t first = expirations(fd);
    HOLDS(first >= 10 && first < 1000);
    HOLDS(expirations(fd) >= 1);
    struct itimerspec left;
    CALL(timerfd_gettime(fd, &left));
    HOLDS(left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 10 * MILLION);
    HOLDS(left.it_interval.tv_nsec == 10 * MILLION);
    struct itimerspec old, none = setting(0, 0);
    CALL(timerfd_settime(fd, 0, &none, &old));
    HOLDS(old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 10 * MILLION);
    HOLDS(old.it_interval.tv_nsec == 10 * MILLION);
    CALL(is_readable(fd));
}

TEST(timerfd_set_anew_forgets_expirations) {
    int fd = new_timer(TFD_NONBLOCK);
    set(fd, 1, 1);
    sleep_ms(20);
    CALL(is_readable(fd));
    set(fd, 100000, 0);
    CALL(is_readable(fd));
    uint64_t count;
    CALL(read(fd, &count, 8));
}

TEST(timerfd_takes_absolute_times) {
    const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    for (size_t i = 0; i < 3; i++) {
        int fd = timerfd_create(clocks[i], 0);
        struct itimerspec new = {{0, 0}, {0, 0}};
        SET_UP(clock_gettime(clocks[i], &new.it_value) == 0);
        long start = now_ms();
        new.it_value.tv_nsec += 40 * MILLION;
        if (new.it_value.tv_nsec >= BILLION) {
            new.it_value.tv_nsec -= BILLION;
            new.it_value.tv_sec++;
        }
        CALL(timerfd_settime(fd, TFD_TIMER_ABSTIME, &new, NULL));
        HOLDS(expirations(fd) == 1);
        long waited = now_ms() - start;
        HOLDS(waited >= 39 && waited < 10000);
        /* What has passed expires at once; an interval timer has many expirations then. */
        CALL(timerfd_settime(fd, TFD_TIMER_ABSTIME, &new, NULL));
        HOLDS(expirations(fd) == 1);
        new.it_interval.tv_nsec = MILLION;
        sleep_ms(20);
        CALL(timerfd_settime(fd, TFD_TIMER_ABSTIME, &new, NULL));
        HOLDS(expirations(fd) >= 15);
    }
}

TEST(timerfd_that_follows_the_clock) {
    int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
    struct itimerspec new = {{0, 0}, {4000000000L, 0}}, left;
    CALL(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &new, NULL));
    CALL(timerfd_gettime(fd, &left));
    HOLDS(left.it_value.tv_sec > 1000000);
    uint64_t count;
    CALL(read(fd, &count, 8));
    CALL(is_readable(fd));
    CALL(timerfd_settime(fd, TFD_TIMER_CANCEL_ON_SET, &new, NULL));
}

TEST(timerfd_wakes_poll_and_epoll) {
    int fd = new_timer(TFD_NONBLOCK), instance = epoll_create1(0);
    struct pollfd entry = {fd, POLLIN | POLLOUT | POLLRDNORM, 0};
    set(fd, 30, 0);
    CALL(poll(&entry, 1, -1));
    HOLDS(entry.revents == POLLIN);
    struct epoll_event event = {EPOLLIN | EPOLLET, {.u64 = 1}};
    SET_UP(epoll_ctl(instance, EPOLL_CTL_ADD, fd, &event) == 0);
    CALL(epoll_wait(instance, &event, 1, 0));
    CALL(epoll_wait(instance, &event, 1, 0));
    HOLDS(expirations(fd) == 1);
    set(fd, 20, 20);
    for (int i = 0; i < 3; i++) {
        CALL(epoll_wait(instance, &event, 1, -1));
        HOLDS(expirations(fd) >= 1);
    }
}

TEST(timerfd_of_a_process_that_forks) {
    int fd = new_timer(0);
    set(fd, 30, 0);
    pid_t child = fork_child();
    if (child == 0) {
        HOLDS(expirations(fd) == 1);
        _exit(0);
    }
    show_end("child", child);
    SET_UP(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    uint64_t count;
    CALL(read(fd, &count, 8));
}

static void ignore_it(int signal_number) {
    (void)signal_number;
}

TEST(timerfd_reads_are_interrupted) {
    int fd = new_timer(0);
    uint64_t count;
    handle(SIGALRM, ignore_it, 0);
    keep_interrupting();
    CALL(read(fd, &count, 8));
    stop_interrupting();
    handle(SIGALRM, ignore_it, SA_RESTART);
    set(fd, 100, 0);
    keep_interrupting();
    CALL(read(fd, &count, 8));
    stop_interrupting();
}

TEST(timerfd_with_a_tiny_interval) {
    int fd = new_timer(0);
    struct itimerspec new = {{0, 1}, {0, 1}};
    CALL(timerfd_settime(fd, 0, &new, NULL));
    sleep_ms(20);
    HOLDS(expirations(fd) >= 15 * MILLION);
    struct itimerspec huge = {{0, 0}, {INT64_MAX, 999999999}};
    CALL(timerfd_settime(fd, 0, &huge, NULL));
    CALL(timerfd_settime(fd, TFD_TIMER_ABSTIME, &huge, NULL));
    CALL(is_readable(fd));
}
