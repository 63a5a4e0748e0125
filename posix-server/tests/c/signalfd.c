/* Signals that are read like files. */
#include "case.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/time.h>

static sigset_t set_of(int first, int second) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, first);
    if (second)
        sigaddset(&signals, second);
    return signals;
}

/* Blocks one or two signals, and makes a file of them. */
static int file_of(int first, int second, int flags) {
    sigset_t signals = set_of(first, second);
    SET_UP(sigprocmask(SIG_BLOCK, &signals, NULL) == 0);
    int fd = signalfd(-1, &signals, flags);
    SET_UP(fd >= 0);
    return fd;
}

static struct signalfd_siginfo next(int fd) {
    struct signalfd_siginfo info;
    memset(&info, 0x55, sizeof info);
    SET_UP(read(fd, &info, sizeof info) == sizeof info);
    return info;
}

static void poll_it(const char *what, int fd) {
    struct pollfd entry = {fd, POLLIN | POLLOUT | POLLRDNORM, 0};
    int count = poll(&entry, 1, 0);
    say("%s: %d%s", what, count, entry.revents == POLLIN ? " IN" : entry.revents ? " other" : "");
}

TEST(signalfd_checks_its_arguments) {
    sigset_t signals = set_of(SIGUSR1, 0);
    CALL(RAW(SYS_signalfd4, -1, &signals, 4, 0));
    CALL(RAW(SYS_signalfd4, -1, BAD_ADDRESS, 8, 0));
    CALL(RAW(SYS_signalfd4, -1, &signals, 8, 1));
    CALL(RAW(SYS_signalfd4, 0, &signals, 8, 0));
    CALL(RAW(SYS_signalfd4, 99, &signals, 8, 0));
    CALL(RAW(SYS_signalfd4, -2, &signals, 8, 0));
    int fd = RAW(SYS_signalfd4, -1, &signals, 8, SFD_CLOEXEC | SFD_NONBLOCK);
    HOLDS(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    HOLDS(fcntl(fd, F_GETFL) == (O_RDWR | O_NONBLOCK));
    HOLDS(RAW(SYS_signalfd4, fd, &signals, 8, 0) == fd);
    CALL_OK(RAW(SYS_signalfd, -1, &signals, 8));
    struct signalfd_siginfo info;
    CALL(read(fd, &info, 127));
    CALL(read(fd, &info, 128));
    CALL(write(fd, &info, 128));
}

TEST(signalfd_tells_of_a_signal) {
    int fd = file_of(SIGUSR1, 0, SFD_NONBLOCK);
    poll_it("quiet", fd);
    SET_UP(kill(getpid(), SIGUSR1) == 0);
    SET_UP(kill(getpid(), SIGUSR1) == 0);
    poll_it("sent twice", fd);
    struct signalfd_siginfo info = next(fd);
    HOLDS(info.ssi_signo == SIGUSR1 && info.ssi_code == SI_USER && info.ssi_errno == 0);
    HOLDS(info.ssi_pid == (uint32_t)getpid() && info.ssi_uid == getuid());
    HOLDS(info.ssi_int == 0 && info.ssi_ptr == 0 && info.ssi_addr == 0 && info.ssi_status == 0);
    int zero = 1;
    for (size_t i = 0; i < sizeof info.__pad; i++)
        zero &= ((char *)info.__pad)[i] == 0;
    HOLDS(zero);
    poll_it("read", fd);
    CALL(read(fd, &info, sizeof info));
}

TEST(signalfd_tells_of_queued_signals_with_values) {
    int fd = file_of(SIGRTMIN, SIGRTMIN + 1, SFD_NONBLOCK);
    for (int i = 0; i < 3; i++)
        SET_UP(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 10 + i}) == 0);
    SET_UP(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_ptr = (void *)0x123456789aL}) == 0);
    struct signalfd_siginfo infos[8];
    long count = read(fd, infos, sizeof infos + 100);
    say("%ld records", count / (long)sizeof *infos);
    for (int i = 0; i < count / (long)sizeof *infos; i++)
        say("signal %d code %d int %x ptr %llx", infos[i].ssi_signo - SIGRTMIN, infos[i].ssi_code, infos[i].ssi_int,
            (unsigned long long)infos[i].ssi_ptr);
}

TEST(signalfd_tells_of_the_end_of_a_child) {
    int fd = file_of(SIGCHLD, 0, 0);
    pid_t child = fork_child();
    if (child == 0)
        _exit(7);
    struct signalfd_siginfo info = next(fd);
    HOLDS(info.ssi_signo == SIGCHLD && info.ssi_code == CLD_EXITED && info.ssi_status == 7);
    HOLDS(info.ssi_pid == (uint32_t)child && info.ssi_uid == getuid());
    show_end("child", child);
    child = fork_child();
    if (child == 0) {
        raise(SIGKILL);
    }
    info = next(fd);
    HOLDS(info.ssi_code == CLD_KILLED && info.ssi_status == SIGKILL);
    show_end("child", child);
}

TEST(signalfd_tells_of_timers) {
    int fd = file_of(SIGALRM, SIGRTMIN, 0);
    struct itimerval soon = {{0, 0}, {0, 10000}};
    SET_UP(setitimer(ITIMER_REAL, &soon, NULL) == 0);
    struct signalfd_siginfo info = next(fd);
    HOLDS(info.ssi_signo == SIGALRM && info.ssi_code == SI_KERNEL && info.ssi_pid == 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    event.sigev_value.sival_int = 9;
    int timer = -1;
    SET_UP(RAW(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec often = {{0, 5000000}, {0, 5000000}};
    SET_UP(RAW(SYS_timer_settime, timer, 0, &often, NULL) == 0);
    sleep_ms(60);
    info = next(fd);
    HOLDS(info.ssi_code == SI_TIMER && info.ssi_int == 9 && info.ssi_tid == (uint32_t)timer);
    HOLDS(info.ssi_overrun >= 5);
    info = next(fd);
    HOLDS(info.ssi_code == SI_TIMER);
}

static void *send_to_itself(void *argument) {
    int fd = *(int *)argument;
    poll_it("the thread, before", fd);
    SET_UP(pthread_kill(pthread_self(), SIGUSR1) == 0);
    poll_it("the thread, after", fd);
    struct signalfd_siginfo info = next(fd);
    HOLDS(info.ssi_code == SI_TKILL && info.ssi_pid == (uint32_t)getpid());
    SET_UP(pthread_kill(pthread_self(), SIGUSR1) == 0);
    poll_it("the thread, again", fd);
    return NULL;
}

TEST(signalfd_shows_a_thread_its_own_signals) {
    int fd = file_of(SIGUSR1, 0, SFD_NONBLOCK);
    pthread_t thread;
    SET_UP(pthread_create(&thread, NULL, send_to_itself, &fd) == 0);
    SET_UP(pthread_join(thread, NULL) == 0);
    poll_it("the first thread", fd);
    SET_UP(kill(getpid(), SIGUSR1) == 0);
    poll_it("sent to the process", fd);
    next(fd);
}

TEST(signalfd_shows_each_process_its_own_signals) {
    int fd = file_of(SIGUSR1, 0, SFD_NONBLOCK);
    SET_UP(raise(SIGUSR1) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        poll_it("the child", fd);
        SET_UP(raise(SIGUSR1) == 0);
        HOLDS(next(fd).ssi_pid == (uint32_t)getpid());
        _exit(0);
    }
    show_end("child", child);
    poll_it("the parent", fd);
    HOLDS(next(fd).ssi_pid == (uint32_t)getpid());
}

TEST(signalfd_can_be_changed) {
    int fd = file_of(SIGUSR1, SIGUSR2, SFD_NONBLOCK);
    sigset_t only_second = set_of(SIGUSR2, SIGKILL);
    HOLDS(signalfd(fd, &only_second, 0) == fd);
    SET_UP(raise(SIGUSR1) == 0);
    poll_it("not wanted", fd);
    SET_UP(raise(SIGUSR2) == 0);
    say("signal %s", signal_name(next(fd).ssi_signo));
    sigset_t first = set_of(SIGUSR1, 0);
    HOLDS(signalfd(fd, &first, 0) == fd);
    say("signal %s", signal_name(next(fd).ssi_signo));
}

TEST(signalfd_waits_until_a_signal_comes) {
    int fd = file_of(SIGUSR1, 0, 0);
    pid_t parent = getpid(), child = fork_child();
    if (child == 0) {
        sleep_ms(50);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    HOLDS(next(fd).ssi_pid == (uint32_t)child);
    show_end("child", child);
    child = fork_child();
    if (child == 0) {
        sleep_ms(50);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    struct pollfd entry = {fd, POLLIN, 0};
    CALL(poll(&entry, 1, -1));
    HOLDS(next(fd).ssi_pid == (uint32_t)child);
    show_end("child", child);
}

TEST(signalfd_in_an_epoll_instance) {
    int fd = file_of(SIGUSR1, 0, SFD_NONBLOCK), instance = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.u64 = 5}};
    SET_UP(epoll_ctl(instance, EPOLL_CTL_ADD, fd, &event) == 0);
    CALL(epoll_wait(instance, &event, 1, 0));
    SET_UP(raise(SIGUSR1) == 0);
    CALL(epoll_wait(instance, &event, 1, 0));
    CALL(epoll_wait(instance, &event, 1, 0));
    next(fd);
    CALL(epoll_wait(instance, &event, 1, 0));
    pid_t parent = getpid(), child = fork_child();
    if (child == 0) {
        sleep_ms(50);
        kill(parent, SIGUSR1);
        _exit(0);
    }
    CALL(epoll_wait(instance, &event, 1, -1));
    show_end("child", child);
}

static void ignore_it(int signal_number) {
    (void)signal_number;
}

TEST(signalfd_reads_are_interrupted_by_other_signals) {
    int fd = file_of(SIGUSR1, 0, 0);
    handle(SIGALRM, ignore_it, 0);
    keep_interrupting();
    struct signalfd_siginfo info;
    CALL(read(fd, &info, sizeof info));
    stop_interrupting();
}

TEST(signalfd_and_bad_memory) {
    int fd = file_of(SIGUSR1, 0, SFD_NONBLOCK);
    SET_UP(raise(SIGUSR1) == 0);
    CALL(read(fd, BAD_ADDRESS, 128));
    CALL(read(fd, NULL_PAGE_ADDRESS, 128));
    poll_it("afterwards", fd);
}

TEST(signalfd_and_sigtimedwait_share) {
    int fd = file_of(SIGUSR1, SIGUSR2, SFD_NONBLOCK);
    SET_UP(raise(SIGUSR1) == 0 && raise(SIGUSR2) == 0);
    sigset_t second = set_of(SIGUSR2, 0);
    struct timespec now = {0, 0};
    HOLDS(sigtimedwait(&second, NULL, &now) == SIGUSR2);
    say("signal %s", signal_name(next(fd).ssi_signo));
    poll_it("nothing left", fd);
}
