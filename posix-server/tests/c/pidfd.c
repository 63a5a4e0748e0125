/* Processes that are files. */
#include "case.h"

#include <poll.h>
#include <sched.h>
#include <pthread.h>
#include <sys/epoll.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

static int open_pid(pid_t pid) {
    int fd = RAW(SYS_pidfd_open, pid, 0);
    SET_UP(fd >= 0);
    return fd;
}

/* A child that waits to be killed. */
static pid_t patient_child(void) {
    pid_t child = fork_child();
    while (child == 0)
        pause();
    return child;
}

static void poll_it(const char *what, int fd) {
    struct pollfd entry = {fd, POLLIN | POLLOUT, 0};
    int count = poll(&entry, 1, 0);
    say("%s: %d%s", what, count, entry.revents & POLLIN ? " IN" : "");
}

static void *sit(void *argument) {
    __atomic_store_n((int *)argument, (int)RAW(SYS_gettid), __ATOMIC_RELEASE);
    for (;;)
        pause();
    return NULL;
}

TEST(pidfd_open_checks_its_arguments) {
    CALL(RAW(SYS_pidfd_open, getpid(), 1));
    CALL(RAW(SYS_pidfd_open, 0, 0));
    CALL(RAW(SYS_pidfd_open, -1, 0));
    CALL(RAW(SYS_pidfd_open, 4000000, 0));
    int fd = RAW(SYS_pidfd_open, getpid(), 0);
    HOLDS(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    HOLDS((fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == O_RDWR);
    fd = RAW(SYS_pidfd_open, getpid(), O_NONBLOCK);
    HOLDS(fcntl(fd, F_GETFL) & O_NONBLOCK);
    char byte;
    CALL(read(fd, &byte, 1));
    CALL(write(fd, "x", 1));
    poll_it("itself", fd);
}

TEST(pidfd_becomes_readable_at_the_end) {
    pid_t child = patient_child();
    int fd = open_pid(child), instance = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.u64 = 3}};
    SET_UP(epoll_ctl(instance, EPOLL_CTL_ADD, fd, &event) == 0);
    poll_it("alive", fd);
    CALL(epoll_wait(instance, &event, 1, 0));
    SET_UP(kill(child, SIGTERM) == 0);
    struct pollfd entry = {fd, POLLIN, 0};
    CALL(poll(&entry, 1, -1));
    CALL(epoll_wait(instance, &event, 1, -1));
    poll_it("zombie", fd);
    int other = RAW(SYS_pidfd_open, child, 0);
    HOLDS(other >= 0);
    poll_it("opened as a zombie", other);
    show_end("child", child);
    poll_it("gone", fd);
    CALL(RAW(SYS_pidfd_open, child, 0));
}

TEST(pidfd_send_signal_sends) {
    pid_t child = patient_child();
    int fd = open_pid(child);
    CALL(RAW(SYS_pidfd_send_signal, fd, 0, NULL, 0));
    CALL(RAW(SYS_pidfd_send_signal, fd, 65, NULL, 0));
    CALL(RAW(SYS_pidfd_send_signal, fd, -1, NULL, 0));
    CALL(RAW(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0x1000));
    CALL(RAW(SYS_pidfd_send_signal, 0, SIGTERM, NULL, 0));
    CALL(RAW(SYS_pidfd_send_signal, 99, SIGTERM, NULL, 0));
    CALL(RAW(SYS_pidfd_send_signal, fd, SIGTERM, BAD_ADDRESS, 0));
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    CALL(RAW(SYS_pidfd_send_signal, fd, SIGTERM, &info, 0));
    info.si_signo = SIGTERM;
    info.si_code = SI_USER;
    CALL(RAW(SYS_pidfd_send_signal, fd, SIGTERM, &info, 0));
    CALL(RAW(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    struct pollfd entry = {fd, POLLIN, 0};
    CALL(poll(&entry, 1, -1));
    CALL(RAW(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0));
    show_end("child", child);
    CALL(RAW(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0));
    CALL(RAW(SYS_pidfd_send_signal, fd, 0, NULL, 0));
}

TEST(pidfd_send_signal_takes_a_directory_of_proc) {
    pid_t child = patient_child();
    char path[64];
    snprintf(path, sizeof path, "/proc/%d", (int)child);
    int directory = open(path, O_DIRECTORY | O_RDONLY), by_path = open(path, O_PATH), other = open("/proc", O_DIRECTORY | O_RDONLY);
    SET_UP(directory >= 0 && by_path >= 0 && other >= 0);
    CALL(RAW(SYS_pidfd_send_signal, by_path, 0, NULL, 0));
    CALL(RAW(SYS_pidfd_send_signal, other, 0, NULL, 0));
    CALL(RAW(SYS_pidfd_send_signal, directory, 0, NULL, 0));
    CALL(RAW(SYS_pidfd_send_signal, directory, SIGTERM, NULL, 0));
    show_end("child", child);
    CALL(RAW(SYS_pidfd_send_signal, directory, 0, NULL, 0));
}

static volatile sig_atomic_t seen, value, code;

static void note(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number, (void)context;
    seen++;
    value = info->si_value.sival_int;
    code = info->si_code;
}

TEST(pidfd_send_signal_with_a_value) {
    handle_info(SIGUSR1, note, 0);
    int fd = open_pid(getpid());
    siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    info.si_value.sival_int = 42;
    CALL(RAW(SYS_pidfd_send_signal, fd, SIGUSR1, &info, 0));
    say("seen %d value %d code %d", (int)seen, (int)value, (int)code);
    CALL(RAW(SYS_pidfd_send_signal, fd, SIGUSR1, NULL, 0));
    say("seen %d code %d", (int)seen, (int)code);
}

TEST(waitid_by_pidfd) {
    pid_t child = patient_child();
    int fd = open_pid(child);
    siginfo_t info = {0};
    CALL(waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG));
    SET_UP(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    CALL(waitid(P_PIDFD, fd, &info, WEXITED));
    CALL(waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG));
    SET_UP(kill(child, SIGKILL) == 0);
    SET_UP(fcntl(fd, F_SETFL, 0) == 0);
    CALL(waitid(P_PIDFD, fd, &info, WEXITED | WNOWAIT));
    HOLDS(info.si_pid == child && info.si_code == CLD_KILLED && info.si_status == SIGKILL);
    CALL(waitid(P_PIDFD, fd, &info, WEXITED));
    CALL(waitid(P_PIDFD, fd, &info, WEXITED));
    CALL(waitid(P_PIDFD, 99, &info, WEXITED));
    CALL(waitid(P_PIDFD, 0, &info, WEXITED));
    CALL(waitid(P_PIDFD, -1, &info, WEXITED));
    CALL(waitid(P_PIDFD, open_pid(getpid()), &info, WEXITED));
}

TEST(pidfd_getfd_copies_descriptors) {
    struct gate ready = make_gate();
    make_text("file", "content");
    pid_t child = fork_child();
    if (child == 0) {
        int fd = open("file", O_RDONLY);
        SET_UP(dup2(fd, 50) == 50);
        open_gate(ready);
        for (;;)
            pause();
    }
    pass_gate(ready);
    int pidfd = open_pid(child);
    int fd = RAW(SYS_pidfd_getfd, pidfd, 50, 0);
    HOLDS(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    char bytes[16];
    long count = read(fd, bytes, 3);
    show_bytes("read", bytes, count);
    CALL(RAW(SYS_pidfd_getfd, pidfd, 99, 0));
    CALL(RAW(SYS_pidfd_getfd, pidfd, -1, 0));
    CALL(RAW(SYS_pidfd_getfd, pidfd, 50, 1));
    CALL(RAW(SYS_pidfd_getfd, 0, 50, 0));
    CALL(RAW(SYS_pidfd_getfd, 99, 50, 0));
    SET_UP(kill(child, SIGKILL) == 0);
    show_end("child", child);
    CALL(RAW(SYS_pidfd_getfd, pidfd, 50, 0));
}

ROOT_TEST(pidfd_calls_need_permission) {
    pid_t child = patient_child(), other = fork_child();
    if (other == 0) {
        int fd = open_pid(child);
        drop_to(NOBODY, NOBODY);
        CALL_OK(RAW(SYS_pidfd_open, child, 0));
        CALL(RAW(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0));
        CALL(RAW(SYS_pidfd_send_signal, fd, 0, NULL, 0));
        CALL(RAW(SYS_pidfd_getfd, fd, 0, 0));
        _exit(0);
    }
    show_end("other", other);
    SET_UP(kill(child, SIGKILL) == 0);
    show_end("child", child);
}

struct clone_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

TEST(clone_gives_a_pidfd) {
    int fd = -1;
    struct clone_arguments arguments = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)&fd, .exit_signal = SIGCHLD};
    pid_t child = RAW(SYS_clone3, &arguments, sizeof arguments);
    if (child == 0)
        _exit(3);
    HOLDS(child > 0 && fd > 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    struct pollfd entry = {fd, POLLIN, 0};
    CALL(poll(&entry, 1, -1));
    show_end("child", child);
    fd = -1;
    child = RAW(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &fd, NULL, 0);
    if (child == 0)
        _exit(4);
    HOLDS(child > 0 && fd > 0);
    siginfo_t info = {0};
    CALL(waitid(P_PIDFD, fd, &info, WEXITED));
    HOLDS(info.si_status == 4 && info.si_pid == child);
}

TEST(clone_with_a_pidfd_checks_its_arguments) {
    int fd = -1;
    struct clone_arguments arguments = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)BAD_ADDRESS, .exit_signal = SIGCHLD};
    CALL(RAW(SYS_clone3, &arguments, sizeof arguments));
    arguments.pidfd = arguments.parent_tid = (uintptr_t)&fd;
    arguments.flags = CLONE_PIDFD | CLONE_PARENT_SETTID;
    CALL(RAW(SYS_clone3, &arguments, sizeof arguments));
    CALL(RAW(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, &fd, NULL, 0));
    CALL(RAW(SYS_clone, CLONE_PIDFD | CLONE_DETACHED | SIGCHLD, 0, &fd, NULL, 0));
    CALL(RAW(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, BAD_ADDRESS, NULL, 0));
    HOLDS(dup(0) == 3);
    siginfo_t info;
    CALL(waitid(P_ALL, 0, &info, WEXITED | WNOHANG));
}

TEST(pidfd_of_a_process_whose_first_thread_has_ended) {
    struct gate ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pthread_t thread;
        int tid = 0;
        SET_UP(pthread_create(&thread, NULL, sit, &tid) == 0);
        while (!__atomic_load_n(&tid, __ATOMIC_ACQUIRE))
            sleep_ms(1);
        open_gate(ready);
        RAW(SYS_exit, 0);
    }
    pass_gate(ready);
    int fd = open_pid(child);
    sleep_ms(50);
    poll_it("one thread left", fd);
    CALL(RAW(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
    show_end("child", child);
    poll_it("gone", fd);
}
