/* Descriptors: dup and its kin, fcntl, limits, and what they say of what is not open. */
#include "case.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

static void limit_descriptors(rlim_t most) {
    struct rlimit limit;
    SET_UP(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = most;
    SET_UP(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

TEST(dup_takes_the_lowest_and_clears_close_on_exec) {
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    SET_UP(fd == 3);
    CALL(dup(3));
    CALL(fcntl(3, F_GETFD));
    CALL(fcntl(4, F_GETFD));
    CALL(close(0));
    CALL(dup(3));
    CALL(dup(99));
    CALL(dup(-1));
}

TEST(dup2_replaces_its_target) {
    make_text("a", "of a");
    make_text("b", "of b");
    int a = open("a", O_RDONLY), b = open("b", O_RDONLY | O_CLOEXEC);
    SET_UP(a == 3 && b == 4);
    char text[5] = {0};
    CALL(dup2(3, 4));
    SET_UP(read(4, text, 4) == 4);
    say("4 reads %s", text);
    CALL(fcntl(4, F_GETFD));
    CALL(dup2(3, 3));
    CALL(dup2(99, 4));
    CALL(dup2(99, 99));
    CALL(fcntl(4, F_GETFL));
    CALL(dup2(3, -1));
    CALL(RAW(SYS_dup2, 3, 1000000000));
    CALL(dup2(3, 77));
    CALL(dup(3));
}

TEST(dup3_wants_two_different_descriptors) {
    SET_UP(open("/dev/null", O_RDWR) == 3);
    CALL(RAW(SYS_dup3, 3, 5, O_CLOEXEC));
    CALL(fcntl(5, F_GETFD));
    CALL(RAW(SYS_dup3, 3, 5, 0));
    CALL(fcntl(5, F_GETFD));
    CALL(RAW(SYS_dup3, 3, 3, 0));
    CALL(RAW(SYS_dup3, 99, 99, 0));
    CALL(RAW(SYS_dup3, 99, 5, 0));
    CALL(RAW(SYS_dup3, 3, 5, O_NONBLOCK));
    CALL(fcntl(5, F_GETFD));
}

TEST(fcntl_dupfd_takes_the_lowest_from_a_number_on) {
    SET_UP(open("/dev/null", O_RDWR) == 3);
    CALL(fcntl(3, F_DUPFD, 0));
    CALL(fcntl(3, F_DUPFD, 10));
    CALL(fcntl(3, F_DUPFD, 10));
    CALL(fcntl(3, F_DUPFD_CLOEXEC, 10));
    CALL(fcntl(12, F_GETFD));
    CALL(fcntl(11, F_GETFD));
    CALL(fcntl(3, F_DUPFD, -1));
    CALL(fcntl(99, F_DUPFD, 0));
    limit_descriptors(20);
    CALL(fcntl(3, F_DUPFD, 20));
    CALL(fcntl(3, F_DUPFD, 19));
    CALL(fcntl(3, F_DUPFD, 19));
}

TEST(descriptor_flags_are_of_the_descriptor) {
    SET_UP(open("/dev/null", O_RDWR) == 3 && dup(3) == 4);
    CALL(fcntl(3, F_SETFD, FD_CLOEXEC));
    CALL(fcntl(3, F_GETFD));
    CALL(fcntl(4, F_GETFD));
    CALL(fcntl(3, F_SETFD, 0x7ffffffe));
    CALL(fcntl(3, F_GETFD));
    CALL(ioctl(3, FIOCLEX));
    CALL(fcntl(3, F_GETFD));
    CALL(ioctl(3, FIONCLEX));
    CALL(fcntl(3, F_GETFD));
}

static void show_flags(const char *what, int fd) {
    int flags = fcntl(fd, F_GETFL);
    SET_UP(flags != -1);
    const char *modes[] = {"read", "write", "both", "strange"};
    say("%s: %s%s%s%s", what, modes[flags & O_ACCMODE], flags & O_APPEND ? " append" : "",
        flags & O_NONBLOCK ? " nonblock" : "",
        flags & (O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC) ? " and creation flags" : "");
}

TEST(status_flags_are_of_the_open_file) {
    int fd = open("file", O_RDWR | O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC, 0644), twin = dup(fd);
    int again = open("file", O_WRONLY | O_APPEND | O_NONBLOCK);
    SET_UP(fd >= 0 && twin >= 0 && again >= 0);
    show_flags("first", fd);
    show_flags("again", again);
    CALL(fcntl(twin, F_SETFL, O_NONBLOCK | O_APPEND | O_WRONLY | O_CREAT));
    show_flags("first", fd);
    CALL(fcntl(fd, F_SETFL, 0));
    show_flags("twin", twin);
    int on = 1;
    CALL(ioctl(fd, FIONBIO, &on));
    show_flags("twin", twin);
    CALL(ioctl(fd, FIONBIO, BAD_ADDRESS));
}

TEST(fcntl_refuses_what_it_does_not_know) {
    SET_UP(open("/dev/null", O_RDWR) == 3);
    CALL(fcntl(3, 9999, 0));
    CALL(fcntl(99, F_GETFD));
    CALL(fcntl(99, F_GETFL));
    CALL(fcntl(99, F_SETFD, 1));
    CALL(fcntl(99, 9999));
    CALL(fcntl(-1, F_GETFD));
}

TEST(close_works_once) {
    SET_UP(open("/dev/null", O_RDWR) == 3);
    CALL(close(3));
    CALL(close(3));
    CALL(close(-1));
    CALL(close(INT_MAX));
    CALL(close(INT_MIN));
}

TEST(close_range_closes_or_marks_a_range) {
    for (int fd = 3; fd < 10; fd++)
        SET_UP(open("/dev/null", O_RDWR) == fd);
    CALL(RAW(SYS_close_range, 4, 5, 0));
    CALL(RAW(SYS_close_range, 7, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */));
    for (int fd = 3; fd < 10; fd++)
        say("%d: %d", fd, fcntl(fd, F_GETFD));
    CALL(RAW(SYS_close_range, 5, 4, 0));
    CALL(RAW(SYS_close_range, 5, 6, 0x80));
}

TEST(the_limit_of_descriptors_is_emfile) {
    limit_descriptors(10);
    int ends[2] = {-7, -7};
    for (int fd = 3; fd < 10; fd++)
        SET_UP(open("/dev/null", O_RDWR) == fd);
    CALL(open("/dev/null", O_RDWR));
    CALL(dup(3));
    CALL(fcntl(3, F_DUPFD, 0));
    CALL(pipe(ends));
    CALL(dup2(3, 9));
    CALL(dup2(3, 10));
    CALL(close(5));
    CALL(pipe(ends));
    say("unchanged %d %d", ends[0], ends[1]);
    CALL(open("/dev/null", O_RDWR));
    limit_descriptors(5);
    CALL(fcntl(9, F_GETFD));
    CALL(close(9));
    CALL(dup(3));
}

TEST(ten_thousand_descriptors_can_be_open) {
    enum { MANY = 10000 };
    struct rlimit limit = {MANY, MANY};
    SET_UP(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int opened = 3;
    while (open("/dev/null", O_RDONLY) == opened)
        opened++;
    say("%d open, then %s", opened, errno_name(errno));
    CALL(read(MANY - 1, &opened, 1));
    pid_t child = fork_child();
    if (child == 0)
        _exit(fcntl(MANY - 1, F_GETFD) == 0 ? 5 : 6);
    show_end("child", child);
    for (int fd = 3; fd < MANY; fd++)
        SET_UP(close(fd) == 0);
    CALL(open("/dev/null", O_RDONLY));
}

TEST(a_million_is_no_descriptor) {
    CALL(dup2(0, 100000000));
    CALL(RAW(SYS_close, 1L << 40));
    /* A descriptor is an int: the upper half of the register does not count. */
    char byte;
    CALL(RAW(SYS_read, 1L << 32, &byte, 1));
    CALL(RAW(SYS_fcntl, (1L << 32) + 99, F_GETFD));
}

TEST(descriptor_tables_are_copied_by_fork) {
    SET_UP(open("/dev/null", O_RDWR) == 3);
    pid_t child = fork_child();
    if (child == 0) {
        CALL(close(3));
        CALL(open("/dev/null", O_RDWR));
        CALL(open("/dev/null", O_RDWR));
        CALL(fcntl(3, F_SETFD, FD_CLOEXEC));
        _exit(0);
    }
    show_end("child", child);
    CALL(fcntl(3, F_GETFD));
    CALL(fcntl(4, F_GETFD));
}

TEST(what_is_no_terminal_says_enotty) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    make_text("file", "");
    int file = open("file", O_RDONLY), directory = open(".", O_RDONLY);
    char terminal[64];
    CALL(isatty(0));
    CALL(ioctl(0, TCGETS, terminal));
    CALL(ioctl(ends[0], TCGETS, terminal));
    CALL(ioctl(file, TCGETS, terminal));
    CALL(ioctl(file, TIOCGWINSZ, terminal));
    CALL(ioctl(directory, TIOCGPGRP, terminal));
    CALL(ioctl(file, 0x12345678, 0));
    CALL(ioctl(99, TCGETS, terminal));
    CALL(isatty(99));
}

static void seek(const char *what, int fd) {
    SET_UP(fd >= 0);
    static const int whences[] = {SEEK_SET, SEEK_CUR, SEEK_END, 3, 4, 5, -1};
    char line[256];
    int at = snprintf(line, sizeof line, "%s:", what);
    for (size_t i = 0; i < sizeof whences / sizeof *whences; i++) {
        long result = lseek(fd, 7, whences[i]);
        at += snprintf(line + at, sizeof line - (size_t)at, " %s", result < 0 ? errno_name(errno) : result ? "other" : "0");
    }
    char byte = 0;
    snprintf(line + at, sizeof line - (size_t)at, "; pread %s", pread(fd, &byte, 1, 0) < 0 ? errno_name(errno) : "ok");
    say("%s", line);
    close(fd);
}

TEST(seeking_where_there_are_no_positions) {
    sigset_t set;
    sigemptyset(&set);
    seek("eventfd", eventfd(0, 0));
    seek("timerfd", timerfd_create(CLOCK_MONOTONIC, 0));
    seek("signalfd", signalfd(-1, &set, 0));
    seek("epoll", epoll_create1(0));
    seek("inotify", inotify_init());
    int fds[2];
    SET_UP(pipe(fds) == 0);
    seek("pipe", fds[0]);
    SET_UP(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    seek("socket", fds[0]);
    seek("null", open("/dev/null", O_RDONLY));
}

/* ---- tables that processes have in common ---- */

/* A process with the same descriptors. */
static pid_t fork_sharing_files(void) {
    pid_t child = (pid_t)RAW(SYS_clone, 0x400 /* CLONE_FILES */ | SIGCHLD, 0, 0, 0, 0);
    SET_UP(child >= 0);
    return child;
}

TEST(a_range_can_be_closed_in_a_table_of_ones_own) {
    make_text("f", "text");
    int file = open("f", O_RDONLY);
    pid_t child = fork_sharing_files();
    if (child == 0) {
        CALL(RAW(SYS_close_range, file, file, 2 /* CLOSE_RANGE_UNSHARE */));
        CALL(fcntl(file, F_GETFD));
        _exit(0);
    }
    show_end("child", child);
    CALL(fcntl(file, F_GETFD));
    child = fork_sharing_files();
    if (child == 0) {
        CALL(RAW(SYS_close_range, file, file, 0));
        _exit(0);
    }
    show_end("child", child);
    CALL(fcntl(file, F_GETFD));
}

TEST(what_was_read_often_is_closed_after_unshare) {
    make_text("f", "text that is read");
    int file = open("f", O_RDONLY);
    pid_t child = fork_sharing_files();
    if (child == 0) {
        char byte;
        for (int i = 0; i < 40; i++)
            SET_UP(pread(file, &byte, 1, 0) == 1);
        CALL(RAW(SYS_unshare, 0x400));
        CALL(pread(file, &byte, 1, 1));
        CALL(close(file));
        CALL(pread(file, &byte, 1, 2));
        _exit(0);
    }
    show_end("child", child);
    char byte;
    CALL(pread(file, &byte, 1, 3));
}
