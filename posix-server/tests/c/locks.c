/* Record locks, whole-file locks, leases, signals for readiness. */
#include "case.h"

#include <poll.h>
#include <sys/file.h>

static struct flock record(int type, long start, long length) {
    return (struct flock){.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
}

static int lock(int fd, int command, int type, long start, long length) {
    struct flock wanted = record(type, start, length);
    return fcntl(fd, command, &wanted);
}

/* What a child of this process finds in its way. */
static void show_conflict(const char *path, int type, long start, long length) {
    pid_t owner = getpid(), child = fork_child();
    if (child == 0) {
        struct flock found = record(type, start, length);
        int fd = open(path, O_RDWR);
        SET_UP(fd >= 0 && fcntl(fd, F_GETLK, &found) == 0);
        if (found.l_type == F_UNLCK)
            say("%ld+%ld: free", start, length);
        else
            say("%ld+%ld: %s lock on %ld+%ld, whence %d, by its owner: %s", start, length,
                found.l_type == F_WRLCK ? "write" : "read", (long)found.l_start, (long)found.l_len, found.l_whence,
                found.l_pid == owner ? "yes" : "no");
        _exit(0);
    }
    int status;
    SET_UP(waitpid(child, &status, 0) == child && status == 0);
}

TEST(record_locks_join_and_split) {
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    CALL(lock(fd, F_SETLK, F_WRLCK, 10, 10));
    CALL(lock(fd, F_SETLK, F_WRLCK, 20, 10));
    show_conflict("f", F_RDLCK, 0, 0);
    CALL(lock(fd, F_SETLK, F_UNLCK, 15, 5));
    show_conflict("f", F_RDLCK, 0, 0);
    show_conflict("f", F_RDLCK, 15, 5);
    show_conflict("f", F_RDLCK, 16, 5);
    CALL(lock(fd, F_SETLK, F_RDLCK, 0, 12));
    show_conflict("f", F_RDLCK, 0, 0);
    show_conflict("f", F_WRLCK, 0, 0);
    CALL(lock(fd, F_SETLK, F_WRLCK, 100, 0));
    show_conflict("f", F_RDLCK, 1000000, 1);
    CALL(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    show_conflict("f", F_WRLCK, 0, 0);
}

TEST(record_locks_check_their_arguments) {
    make_text("f", "0123456789");
    int fd = open("f", O_RDWR), reader = open("f", O_RDONLY), writer = open("f", O_WRONLY);
    CALL(lock(fd, F_SETLK, 9, 0, 1));
    CALL(lock(fd, F_GETLK, F_UNLCK, 0, 1));
    CALL(lock(fd, F_SETLK, F_WRLCK, -1, 1));
    CALL(lock(fd, F_SETLK, F_WRLCK, 5, -3));
    show_conflict("f", F_RDLCK, 0, 0);
    CALL(lock(fd, F_SETLK, F_WRLCK, 5, -6));
    CALL(lock(fd, F_SETLK, F_WRLCK, LONG_MAX, 1));
    CALL(lock(fd, F_SETLK, F_WRLCK, LONG_MAX, 2));
    CALL(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    struct flock wanted = record(F_WRLCK, -2, 2);
    wanted.l_whence = SEEK_END;
    CALL(fcntl(fd, F_SETLK, &wanted));
    show_conflict("f", F_RDLCK, 0, 0);
    wanted.l_whence = 7;
    CALL(fcntl(fd, F_SETLK, &wanted));
    CALL(lock(reader, F_SETLK, F_WRLCK, 0, 1));
    CALL(lock(writer, F_SETLK, F_RDLCK, 0, 1));
    CALL(lock(-1, F_SETLK, F_RDLCK, 0, 1));
    CALL(fcntl(fd, F_SETLK, BAD_ADDRESS));
    CALL(fcntl(fd, F_GETLK, BAD_ADDRESS));
    int ends[2];
    SET_UP(pipe(ends) == 0);
    CALL(lock(ends[1], F_SETLK, F_WRLCK, 0, 1));
}

TEST(record_locks_go_with_any_descriptor_of_the_process) {
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    SET_UP(lock(fd, F_SETLK, F_WRLCK, 0, 1) == 0);
    show_conflict("f", F_RDLCK, 0, 1);
    SET_UP(close(open("f", O_RDONLY)) == 0);
    show_conflict("f", F_RDLCK, 0, 1);
}

TEST(a_waiting_lock_is_granted_or_interrupted) {
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    struct gate locked = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(lock(fd, F_SETLK, F_WRLCK, 0, 10) == 0);
        open_gate(locked);
        sleep_ms(100);
        _exit(0);
    }
    pass_gate(locked);
    CALL(lock(fd, F_SETLK, F_RDLCK, 5, 1));
    keep_interrupting();
    CALL(lock(fd, F_SETLKW, F_RDLCK, 5, 1));
    stop_interrupting();
    CALL(lock(fd, F_SETLKW, F_RDLCK, 5, 1));
    show_end("child", child);
}

TEST(a_deadlock_is_found) {
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    struct gate ready = make_gate();
    SET_UP(lock(fd, F_SETLK, F_WRLCK, 0, 1) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(lock(fd, F_SETLK, F_WRLCK, 1, 1) == 0);
        open_gate(ready);
        SET_UP(lock(fd, F_SETLKW, F_WRLCK, 0, 1) == 0);
        _exit(7);
    }
    pass_gate(ready);
    sleep_ms(100);
    CALL(lock(fd, F_SETLKW, F_WRLCK, 1, 1));
    SET_UP(lock(fd, F_SETLK, F_UNLCK, 0, 1) == 0);
    show_end("child", child);
}

TEST(locks_of_open_files_belong_to_them) {
    int fd = open("f", O_RDWR | O_CREAT, 0644), other = open("f", O_RDWR), copy = dup(fd);
    CALL(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 10));
    CALL(lock(copy, F_OFD_SETLK, F_WRLCK, 0, 10));
    CALL(lock(other, F_OFD_SETLK, F_RDLCK, 0, 1));
    CALL(lock(other, F_SETLK, F_RDLCK, 0, 1));
    struct flock found = record(F_RDLCK, 0, 1);
    CALL(fcntl(other, F_OFD_GETLK, &found));
    say("type %d, pid %d", found.l_type, found.l_pid);
    found = record(F_RDLCK, 0, 1);
    found.l_pid = 5;
    CALL(fcntl(other, F_OFD_GETLK, &found));
    SET_UP(close(open("f", O_RDONLY)) == 0);
    CALL(lock(other, F_OFD_SETLK, F_RDLCK, 0, 1));
    SET_UP(close(fd) == 0);
    CALL(lock(other, F_OFD_SETLK, F_RDLCK, 0, 1));
    SET_UP(close(copy) == 0);
    CALL(lock(other, F_OFD_SETLK, F_RDLCK, 0, 1));
}

TEST(whole_file_locks) {
    int fd = open("f", O_RDONLY | O_CREAT, 0644), other = open("f", O_RDONLY), copy = dup(fd);
    CALL(flock(fd, LOCK_SH));
    CALL(flock(other, LOCK_SH | LOCK_NB));
    CALL(flock(fd, LOCK_EX | LOCK_NB));
    CALL(flock(other, LOCK_UN));
    CALL(flock(fd, LOCK_EX | LOCK_NB));
    CALL(flock(copy, LOCK_SH | LOCK_NB));
    CALL(flock(other, LOCK_EX | LOCK_NB));
    SET_UP(close(fd) == 0);
    CALL(flock(other, LOCK_EX | LOCK_NB));
    SET_UP(close(copy) == 0);
    CALL(flock(other, LOCK_EX | LOCK_NB));
    CALL(flock(other, 77));
    CALL(flock(-1, LOCK_SH));
    CALL(flock(open("f", O_PATH), LOCK_SH));
    keep_interrupting();
    CALL(flock(open("f", O_RDONLY), LOCK_SH));
    stop_interrupting();
}

static volatile sig_atomic_t got_code, got_fd, got_band, got_count;

static void note(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    got_code = info->si_code;
    got_fd = info->si_fd;
    got_band = (int)info->si_band;
    got_count = got_count + 1;
}

static void wait_for_signal(void) {
    for (int i = 0; i < 500 && got_count == 0; i++)
        sleep_ms(10);
}

TEST(a_pipe_tells_its_owner_by_signal) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    handle_info(SIGIO, note, 0);
    SET_UP(fcntl(ends[0], F_SETOWN, getpid()) == 0);
    CALL(fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK));
    HOLDS(fcntl(ends[0], F_GETFL) & O_ASYNC);
    SET_UP(write(ends[1], "x", 1) == 1);
    wait_for_signal();
    say("signals: %d", (int)got_count);
    got_count = 0;
    handle_info(SIGUSR1, note, 0);
    CALL(fcntl(ends[0], 10, SIGUSR1));
    SET_UP(write(ends[1], "x", 1) == 1);
    wait_for_signal();
    say("signals: %d, code is POLL_IN: %d, descriptor: %d, readable: %d", (int)got_count, got_code == POLL_IN,
        got_fd == ends[0], (got_band & POLLIN) != 0);
    got_count = 0;
    CALL(fcntl(ends[0], F_SETFL, O_NONBLOCK));
    SET_UP(write(ends[1], "x", 1) == 1);
    sleep_ms(50);
    say("signals: %d", (int)got_count);
}

TEST(a_group_is_told_by_signal) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    handle_info(SIGIO, note, 0);
    struct gate ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        open_gate(ready);
        wait_for_signal();
        _exit(got_count == 1 ? 0 : 1);
    }
    pass_gate(ready);
    SET_UP(fcntl(ends[0], F_SETOWN, -getpgrp()) == 0);
    SET_UP(fcntl(ends[0], F_SETFL, O_ASYNC) == 0);
    SET_UP(write(ends[1], "x", 1) == 1);
    wait_for_signal();
    say("signals: %d", (int)got_count);
    show_end("child", child);
}
