/* Waiting for descriptors: poll, ppoll, select and pselect. */
#include "case.h"

#include <poll.h>
#include <pthread.h>
#include <sys/select.h>

static void make_pipe(int ends[2]) {
    SET_UP(pipe(ends) == 0);
}

/* Prints the events of one entry by name. */
static void show_events(const char *what, short events) {
    const struct {
        short bit;
        const char *name;
    } names[] = {{POLLIN, " IN"},   {POLLPRI, " PRI"},   {POLLOUT, " OUT"},      {POLLERR, " ERR"},
                 {POLLHUP, " HUP"}, {POLLNVAL, " NVAL"}, {POLLRDNORM, " RDNORM"}, {POLLWRNORM, " WRNORM"}};
    char text[128] = "";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (events & names[i].bit)
            strcat(text, names[i].name);
    say("%s:%s", what, *text ? text : " nothing");
}

static void poll_one(const char *what, int fd, short events) {
    struct pollfd entry = {fd, events, 0x55};
    int ready = poll(&entry, 1, 0);
    if (ready < 0)
        say("%s: %s", what, errno_name(errno));
    else
        show_events(what, entry.revents);
}

#define ALL (POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLWRNORM)

TEST(poll_tells_the_state_of_a_pipe) {
    int ends[2];
    make_pipe(ends);
    poll_one("empty, reader", ends[0], ALL);
    poll_one("empty, writer", ends[1], ALL);
    SET_UP(write(ends[1], "x", 1) == 1);
    poll_one("filled, reader", ends[0], ALL);
    poll_one("filled, asked for nothing", ends[0], 0);
    SET_UP(close(ends[1]) == 0);
    poll_one("writer gone, bytes left", ends[0], ALL);
    char byte;
    SET_UP(read(ends[0], &byte, 1) == 1);
    poll_one("writer gone, empty", ends[0], ALL);
    poll_one("writer gone, asked for nothing", ends[0], 0);
    make_pipe(ends);
    SET_UP(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    char page[PAGE] = {0};
    while (write(ends[1], page, PAGE) > 0)
        ;
    poll_one("full, writer", ends[1], ALL);
    SET_UP(read(ends[0], page, PAGE) == PAGE);
    poll_one("a page of room, writer", ends[1], ALL);
    SET_UP(close(ends[0]) == 0);
    poll_one("reader gone, writer", ends[1], ALL);
}

TEST(poll_finds_files_and_devices_always_ready) {
    make_text("file", "");
    poll_one("file", open("file", O_RDWR), ALL);
    poll_one("directory", open(".", O_RDONLY), ALL);
    poll_one("null", open("/dev/null", O_RDWR), ALL);
    poll_one("zero", open("/dev/zero", O_RDWR), ALL);
}

TEST(poll_marks_what_is_not_open_and_skips_negatives) {
    struct pollfd entries[] = {{99, POLLIN, 0}, {-1, POLLIN, 0x55}, {-99, POLLOUT, 0x55}};
    CALL(poll(entries, 3, 1000));
    show_events("not open", entries[0].revents);
    show_events("minus one", entries[1].revents);
    show_events("negative", entries[2].revents);
}

TEST(poll_waits_as_long_as_told) {
    int ends[2];
    make_pipe(ends);
    struct pollfd entry = {ends[0], POLLIN, 0};
    long start = now_ms();
    CALL(poll(&entry, 1, 100));
    HOLDS(now_ms() - start >= 100);
    start = now_ms();
    CALL(poll(NULL, 0, 50));
    HOLDS(now_ms() - start >= 50);
    CALL(poll(&entry, 1, 0));
    show_events("after the time", entry.revents);
}

TEST(poll_wakes_when_bytes_arrive_or_the_other_side_leaves) {
    int ends[2], other[2];
    make_pipe(ends);
    make_pipe(other);
    struct gate go = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(write(ends[1], "x", 1) == 1);
        pass_gate(go);
        _exit(0);
    }
    SET_UP(close(ends[1]) == 0 && close(other[1]) == 0);
    struct pollfd entries[] = {{ends[0], POLLIN, 0}};
    CALL(poll(entries, 1, -1));
    show_events("bytes", entries[0].revents);
    char byte;
    SET_UP(read(ends[0], &byte, 1) == 1);
    open_gate(go);
    CALL(poll(entries, 1, -1));
    show_events("left", entries[0].revents);
    entries[0].fd = other[0];
    CALL(poll(entries, 1, -1));
    show_events("other", entries[0].revents);
    show_end("child", child);
}

TEST(poll_looks_at_many_and_counts_the_ready) {
    enum { PIPES = 100 };
    struct pollfd entries[PIPES];
    for (int i = 0; i < PIPES; i++) {
        int ends[2];
        make_pipe(ends);
        entries[i] = (struct pollfd){ends[0], POLLIN, 0};
        if (i % 7 == 3)
            SET_UP(write(ends[1], "x", 1) == 1);
    }
    CALL(poll(entries, PIPES, 1000));
    int sum = 0;
    for (int i = 0; i < PIPES; i++)
        sum += entries[i].revents == POLLIN ? i : 0;
    say("sum %d", sum);
    /* The same descriptor twice counts twice. */
    struct pollfd twice[] = {{entries[3].fd, POLLIN, 0}, {entries[3].fd, POLLIN, 0}};
    CALL(poll(twice, 2, 0));
}

TEST(poll_checks_its_arguments) {
    struct pollfd entry = {0, POLLIN, 0};
    CALL(poll(BAD_ADDRESS, 1, 0));
    CALL(poll(NULL, 1, 0));
    CALL(poll(BAD_ADDRESS, 0, 0));
    CALL(RAW(SYS_poll, &entry, 1UL << 40, 0));
    CALL(RAW(SYS_poll, &entry, 10000000, 0));
}

TEST(a_signal_ends_a_poll) {
    keep_interrupting();
    int ends[2];
    make_pipe(ends);
    struct pollfd entry = {ends[0], POLLIN, 0};
    CALL(poll(&entry, 1, -1));
    CALL(poll(&entry, 1, 100000));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    CALL(select(ends[0] + 1, &set, NULL, NULL, NULL));
    HOLDS(FD_ISSET(ends[0], &set));
    stop_interrupting();
}

static volatile sig_atomic_t handled;

static void note(int signal_number) {
    handled = signal_number;
}

TEST(ppoll_and_pselect_swap_the_mask_while_they_wait) {
    handle(SIGUSR1, note, 0);
    sigset_t blocked, none;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    SET_UP(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    SET_UP(raise(SIGUSR1) == 0);
    struct timespec soon = {0, 0};
    CALL(ppoll(NULL, 0, &soon, NULL));
    say("handled %d", handled);
    struct timespec late = {100, 0};
    CALL(ppoll(NULL, 0, &late, &none));
    say("handled %s", signal_name(handled));
    handled = 0;
    SET_UP(raise(SIGUSR1) == 0);
    say("handled %d", handled);
    CALL(pselect(0, NULL, NULL, NULL, &late, &none));
    say("handled %s", signal_name(handled));
    sigset_t now;
    SET_UP(sigprocmask(SIG_BLOCK, NULL, &now) == 0);
    HOLDS(sigismember(&now, SIGUSR1) == 1);
    struct timespec bad = {0, 1000000000}, negative = {-1, 0};
    CALL(ppoll(NULL, 0, &bad, NULL));
    CALL(ppoll(NULL, 0, &negative, NULL));
    CALL(RAW(SYS_ppoll, NULL, 0, BAD_ADDRESS, NULL, 8));
    CALL(RAW(SYS_ppoll, NULL, 0, &soon, &none, 4));
    CALL(RAW(SYS_ppoll, NULL, 0, &soon, BAD_ADDRESS, 8));
}

TEST(select_tells_what_is_ready) {
    int full[2], empty[2];
    make_pipe(full);
    make_pipe(empty);
    SET_UP(write(full[1], "x", 1) == 1);
    fd_set readable, writable, exceptional;
    FD_ZERO(&readable);
    FD_ZERO(&writable);
    FD_ZERO(&exceptional);
    FD_SET(full[0], &readable);
    FD_SET(empty[0], &readable);
    FD_SET(full[1], &writable);
    FD_SET(empty[0], &exceptional);
    CALL(select(16, &readable, &writable, &exceptional, NULL));
    say("%d %d %d %d", !!FD_ISSET(full[0], &readable), !!FD_ISSET(empty[0], &readable),
        !!FD_ISSET(full[1], &writable), !!FD_ISSET(empty[0], &exceptional));
    SET_UP(close(empty[1]) == 0);
    FD_ZERO(&readable);
    FD_SET(empty[0], &readable);
    CALL(select(16, &readable, NULL, NULL, NULL));
    say("end of file is readable: %d", !!FD_ISSET(empty[0], &readable));
}

TEST(select_waits_and_clears_its_sets) {
    int ends[2];
    make_pipe(ends);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    struct timeval time = {0, 60000};
    long start = now_ms();
    /* The C library hands on a copy of the time, the system call itself leaves the rest in it. */
    CALL(RAW(SYS_select, ends[0] + 1, &set, NULL, NULL, &time));
    HOLDS(now_ms() - start >= 60);
    HOLDS(!FD_ISSET(ends[0], &set));
    HOLDS(time.tv_sec == 0 && time.tv_usec == 0);
}

TEST(select_checks_its_arguments) {
    fd_set set;
    FD_ZERO(&set);
    // Linux leaves out descriptors beyond the size that the process's table has, which depends on its ancestors and is never below 64.
    FD_SET(60, &set);
    struct timeval now = {0, 0}, negative = {-1, 0};
    CALL(select(61, &set, NULL, NULL, &now));
    CALL(select(50, &set, NULL, NULL, &now));
    CALL(RAW(SYS_select, -1, NULL, NULL, NULL, &now));
    CALL(RAW(SYS_select, 1, BAD_ADDRESS, NULL, NULL, &now));
    CALL(RAW(SYS_select, 1, NULL, NULL, NULL, BAD_ADDRESS));
    CALL(RAW(SYS_select, 0, NULL, NULL, NULL, &negative));
}

static struct pollfd changing[3];

static void *close_the_second(void *unused) {
    sleep_ms(50);
    changing[2].events = POLLOUT;
    close(changing[1].fd);
    return unused;
}

TEST(descriptors_that_change_while_poll_waits) {
    int one[2], two[2];
    pthread_t thread;
    SET_UP(pipe(one) == 0 && pipe(two) == 0);
    changing[0] = (struct pollfd){one[0], POLLIN, 0};
    changing[1] = (struct pollfd){two[0], POLLIN, 0};
    changing[2] = (struct pollfd){-1, POLLIN, 77};
    SET_UP(pthread_create(&thread, NULL, close_the_second, NULL) == 0);
    CALL(poll(changing, 3, 500));
    say("%x %x %x", changing[0].revents, changing[1].revents, changing[2].revents);
    HOLDS(changing[2].events == POLLOUT);
    pthread_join(thread, NULL);
}
