/*
 * Pipes and counters that are used often enough for a process to serve them itself while nobody has to be woken: what they give must
 * not change by that, whoever else comes to use them.
 */
#include "case.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#define OFTEN 40

struct ends {
    int reader, writer;
};

/* A pipe that was used often, and is empty. */
static struct ends used_pipe(int flags) {
    int fds[2];
    SET_UP(pipe2(fds, flags) == 0);
    for (int i = 0; i < OFTEN; i++) {
        char c = 0;
        SET_UP(write(fds[1], "x", 1) == 1 && read(fds[0], &c, 1) == 1 && c == 'x');
    }
    return (struct ends){fds[0], fds[1]};
}

static unsigned char pattern(unsigned long at) { return (unsigned char)(at * 7 + at / 251); }

/* Writes and reads `count` bytes of a pattern from `*at` on; gives how many were wrong, or lost. */
static int put(int fd, unsigned long *at, int count) {
    unsigned char bytes[5000];
    for (int i = 0; i < count; i++)
        bytes[i] = pattern(*at + (unsigned long)i);
    int written = (int)write(fd, bytes, (size_t)count);
    *at += written > 0 ? (unsigned long)written : 0;
    return written != count;
}

static int take(int fd, unsigned long *at, int count) {
    unsigned char bytes[5000];
    int got = (int)read(fd, bytes, (size_t)count), wrong = 0;
    for (int i = 0; i < got; i++)
        wrong += bytes[i] != pattern(*at + (unsigned long)i);
    *at += got > 0 ? (unsigned long)got : 0;
    return got < 0 ? 1 : wrong;
}

TEST(an_own_pipe_gives_what_was_written_in_order) {
    struct ends ends = used_pipe(0);
    unsigned long in = 0, out = 0;
    int wrong = 0;
    for (int round = 0; round < 600; round++) {
        wrong += put(ends.writer, &in, 1 + round * 13 % 700);
        if (round % 3 == 0)
            wrong += put(ends.writer, &in, 1 + round % 4500);
        while (in - out > (unsigned long)(round * 37 % 900))
            wrong += take(ends.reader, &out, 1 + round * 29 % 1300);
    }
    while (out < in)
        wrong += take(ends.reader, &out, 5000);
    say("%lu bytes, wrong: %d", out, wrong);
}

/* How many writes of this size fit, and how many then after one page was read. */
static void fill(int size) {
    struct ends ends = used_pipe(O_NONBLOCK);
    char bytes[PAGE];
    memset(bytes, 'f', sizeof bytes);
    long first = 0, then = 0;
    while (write(ends.writer, bytes, (size_t)size) == size)
        first++;
    SET_UP(read(ends.reader, bytes, PAGE) == PAGE);
    while (write(ends.writer, bytes, (size_t)size) == size)
        then++;
    int pending = 0;
    SET_UP(ioctl(ends.reader, FIONREAD, &pending) == 0);
    say("size %d: %ld, then %ld; %d bytes", size, first, then, pending);
    SET_UP(close(ends.reader) == 0 && close(ends.writer) == 0);
}

TEST(as_much_fits_an_own_pipe_as_ever) {
    static const int sizes[] = {1, 3, 100, 2048, 2049, 4000, 4095, 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        fill(sizes[i]);
    struct ends ends = used_pipe(O_NONBLOCK);
    char bytes[4096] = "";
    /* What was read of a page does not make room in it. */
    CALL(write(ends.writer, bytes, 4000));
    CALL(read(ends.reader, bytes, 3990));
    CALL(write(ends.writer, bytes, 96));
    CALL(write(ends.writer, bytes, 1));
    CALL(fcntl(ends.writer, F_SETPIPE_SZ, 4096));
    CALL(read(ends.reader, bytes, 106));
    CALL(fcntl(ends.writer, F_SETPIPE_SZ, 4096));
    CALL(write(ends.writer, bytes, 4095));
    CALL(write(ends.writer, bytes, 4096));
    CALL(read(ends.reader, bytes, 4096));
}

TEST(an_own_pipe_that_is_empty_or_has_lost_an_end) {
    struct ends ends = used_pipe(O_NONBLOCK);
    char bytes[8] = "";
    CALL(read(ends.reader, bytes, 8));
    CALL(read(ends.reader, bytes, 0));
    CALL(write(ends.writer, bytes, 0));
    CALL(read(ends.writer, bytes, 1));
    CALL(write(ends.reader, bytes, 1));
    CALL(write(ends.writer, "rest", 4));
    CALL(close(ends.writer));
    CALL(read(ends.reader, bytes, 3));
    CALL(read(ends.reader, bytes, 8));
    CALL(read(ends.reader, bytes, 8));
    ends = used_pipe(0);
    SET_UP(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CALL(write(ends.writer, "lost", 4));
    CALL(close(ends.reader));
    CALL(write(ends.writer, "x", 1));
    pid_t child = fork_child();
    if (child == 0) {
        ends = used_pipe(0);
        signal(SIGPIPE, SIG_DFL);
        close(ends.reader);
        write(ends.writer, "x", 1);
        _exit(0);
    }
    show_end("writer without reader", child);
}

TEST(bad_memory_leaves_an_own_pipe_as_it_is) {
    struct ends ends = used_pipe(0);
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(pages != MAP_FAILED && munmap(pages + PAGE, PAGE) == 0);
    char bytes[16] = "";
    CALL(write(ends.writer, BAD_ADDRESS, 5));
    CALL(write(ends.writer, pages + PAGE, 5));
    CALL(write(ends.writer, "hello", 5));
    CALL(read(ends.reader, BAD_ADDRESS, 5));
    CALL(read(ends.reader, pages + PAGE, 5));
    CALL(read(ends.reader, bytes, 16));
    say("%s", bytes);
    for (int i = 0; i < OFTEN; i++)
        SET_UP(write(ends.writer, "x", 1) == 1 && read(ends.reader, bytes, 1) == 1);
    CALL(write(ends.writer, pages + PAGE, 5));
    CALL(write(ends.writer, "again", 5));
    CALL(read(ends.reader, pages + PAGE - 2, 2));
    CALL(read(ends.reader, bytes, 16));
}

TEST(a_fork_shares_what_is_in_an_own_pipe) {
    struct ends ends = used_pipe(0);
    unsigned long in = 0, out = 0;
    SET_UP(put(ends.writer, &in, 100) == 0 && take(ends.reader, &out, 10) == 0);
    struct gate gate = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        int wrong = take(ends.reader, &out, 30) + put(ends.writer, &in, 50);
        for (int i = 0; i < OFTEN; i++)
            wrong += put(ends.writer, &in, 1) + take(ends.reader, &out, 1);
        open_gate(gate);
        _exit(wrong);
    }
    pass_gate(gate);
    show_end("child", child);
    out += 30 + OFTEN;
    int wrong = 0;
    while (out < 100 + 50 + OFTEN)
        wrong += take(ends.reader, &out, 7);
    in = out;
    for (int i = 0; i < OFTEN; i++)
        wrong += put(ends.writer, &in, 9) + take(ends.reader, &out, 9);
    say("wrong: %d, at %lu", wrong, out);
}

int child_main(int argc, char **argv) {
    (void)argc, (void)argv;
    char bytes[32] = "";
    ssize_t count = read(7, bytes, 5);
    say("the heir reads %zd: %s", count, bytes);
    for (int i = 0; i < OFTEN; i++)
        if (write(8, "y", 1) != 1)
            return 1;
    return 0;
}

TEST(what_is_in_an_own_pipe_survives_an_exec) {
    struct ends ends = used_pipe(0);
    SET_UP(dup2(ends.reader, 7) == 7 && dup2(ends.writer, 8) == 8);
    SET_UP(write(8, "heritage", 8) == 8);
    pid_t child = fork_child();
    if (child == 0) {
        for (int i = 0; i < OFTEN; i++) {
            char c;
            if (write(8, "z", 1) != 1 || read(7, &c, 1) != 1)
                _exit(98);
        }
        execl(own_path(), "child", "--child", NULL);
        _exit(99);
    }
    show_end("heir", child);
    char bytes[100] = "";
    ssize_t count = read(7, bytes, sizeof bytes - 1);
    say("%zd left: %s", count, bytes);
}

TEST(copies_of_descriptors_are_the_same_own_pipe) {
    struct ends ends = used_pipe(0);
    unsigned long in = 0, out = 0;
    int wrong = 0, other = dup(ends.writer);
    for (int i = 0; i < OFTEN; i++)
        wrong += put(i % 2 ? other : ends.writer, &in, 3) + take(ends.reader, &out, 3);
    CALL(close(ends.writer));
    for (int i = 0; i < OFTEN; i++)
        wrong += put(other, &in, 3) + take(ends.reader, &out, 2);
    while (out < in)
        wrong += take(ends.reader, &out, 11);
    say("wrong: %d", wrong);
    /* The descriptor names another pipe now. */
    struct ends second = used_pipe(0);
    SET_UP(write(other, "first", 5) == 5 && write(second.writer, "second", 6) == 6);
    char bytes[10] = "";
    SET_UP(dup2(second.reader, ends.reader) == ends.reader);
    CALL(read(ends.reader, bytes, 10));
    say("%s", bytes);
    SET_UP(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CALL(write(other, "x", 1));
}

static void send_descriptor(int socket, int fd) {
    char control[CMSG_SPACE(sizeof(int))] = "", byte = 0;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    SET_UP(sendmsg(socket, &message, 0) == 1);
}

static int receive_descriptor(int socket) {
    char control[CMSG_SPACE(sizeof(int))] = "", byte;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int fd = -1;
    SET_UP(recvmsg(socket, &message, 0) == 1 && CMSG_FIRSTHDR(&message));
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

TEST(an_end_of_an_own_pipe_that_is_passed_on) {
    struct gate gate = make_gate();
    int sockets[2];
    SET_UP(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        int reader = receive_descriptor(sockets[1]);
        unsigned long out = 0;
        int wrong = 0;
        close(sockets[1]), close(sockets[0]);
        pass_gate(gate);
        while (out < 20 + 3 * OFTEN)
            wrong += take(reader, &out, 8);
        _exit(wrong);
    }
    struct ends ends = used_pipe(0);
    unsigned long in = 0;
    int wrong = put(ends.writer, &in, 20);
    send_descriptor(sockets[0], ends.reader);
    wrong += put(ends.writer, &in, OFTEN);
    SET_UP(close(ends.reader) == 0);
    for (int i = 0; i < OFTEN; i++)
        wrong += put(ends.writer, &in, 1);
    open_gate(gate);
    wrong += put(ends.writer, &in, OFTEN);
    show_end("child", child);
    say("wrong: %d", wrong);
}

static struct ends common;

static void *read_late(void *unused) {
    unsigned long out = 0;
    int wrong = 0;
    while (out < 4 * OFTEN)
        wrong += take(common.reader, &out, 3);
    return wrong ? unused : NULL;
}

TEST(a_reader_that_waits_at_an_own_pipe_is_woken) {
    common = used_pipe(0);
    for (int round = 0; round < 5; round++) {
        pthread_t reader;
        unsigned long in = 0;
        int wrong = round % 2 ? put(common.writer, &in, 10) : 0;
        SET_UP(pthread_create(&reader, NULL, read_late, &common) == 0);
        if (round == 2)
            sleep_ms(20);
        while (in < 4 * OFTEN) {
            wrong += put(common.writer, &in, 1);
            if (in % 16 == 0 && round != 4)
                sched_yield();
        }
        void *result;
        pthread_join(reader, &result);
        say("round %d: wrong %d, the reader is %s", round, wrong, result ? "wrong" : "right");
    }
}

#define RECORD 100
#define RECORDS 400

static void *write_records(void *which) {
    char record[RECORD];
    memset(record, *(char *)which, sizeof record);
    for (int i = 0; i < RECORDS; i++)
        if (write(common.writer, record, sizeof record) != sizeof record)
            return which;
    return NULL;
}

/* Counts whole records until there are no more; those that mix two writers are counted as torn. */
static void count_records(int fd, int expected) {
    char record[RECORD];
    int whole = 0, torn = 0, short_ones = 0;
    ssize_t count;
    while (whole + torn < expected && (count = read(fd, record, sizeof record)) > 0) {
        int same = 1;
        for (ssize_t i = 1; i < count; i++)
            same += record[i] == record[0];
        short_ones += count != RECORD;
        whole += same == RECORD;
        torn += same != RECORD;
    }
    say("torn: %d, short: %d, all there: %s", torn, short_ones, whole == expected ? "yes" : "no");
}

TEST(two_writers_do_not_tear_each_others_records) {
    common = used_pipe(0);
    pthread_t writers[2];
    char names[2] = {'a', 'b'};
    for (int i = 0; i < 2; i++)
        SET_UP(pthread_create(&writers[i], NULL, write_records, &names[i]) == 0);
    count_records(common.reader, 2 * RECORDS);
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
}

TEST(a_process_that_is_killed_while_it_writes_leaves_whole_records) {
    for (int round = 0; round < 5; round++) {
        common = used_pipe(0);
        struct gate gate = make_gate();
        pid_t child = fork_child();
        if (child == 0) {
            char record[RECORD], kept[RECORD];
            memset(record, 'c', sizeof record);
            for (int i = 0;; i++) {
                if (write(common.writer, record, sizeof record) != sizeof record)
                    _exit(1);
                if (i == OFTEN)
                    open_gate(gate);
                if (i % 10 != 9 && read(common.reader, kept, sizeof kept) != sizeof kept)
                    _exit(2);
            }
        }
        pass_gate(gate);
        for (int i = 0; i < round * 10; i++)
            sched_yield();
        SET_UP(kill(child, SIGKILL) == 0);
        show_end("writer", child);
        SET_UP(close(common.writer) == 0);
        char record[RECORD];
        ssize_t count;
        int odd = 0;
        while ((count = read(common.reader, record, sizeof record)) > 0)
            odd += count != RECORD || memchr(record, 'x', RECORD) != NULL;
        say("odd records: %d", odd);
        SET_UP(close(common.reader) == 0 && close(gate.reader) == 0 && close(gate.writer) == 0);
    }
}

TEST(what_poll_and_its_kin_say_of_an_own_pipe) {
    struct ends ends = used_pipe(0);
    struct pollfd polled[2] = {{ends.reader, POLLIN, 0}, {ends.writer, POLLOUT, 0}};
    int pending = -1, ready = 0;
    for (int round = 0; round < 4 * OFTEN; round++) {
        char c;
        SET_UP(write(ends.writer, "p", 1) == 1);
        if (round % 20 == 0)
            ready += poll(polled, 2, 0) == 2 && polled[0].revents == POLLIN && polled[1].revents == POLLOUT;
        SET_UP(read(ends.reader, &c, 1) == 1);
        if (round % 20 == 10)
            ready += poll(polled, 2, 0) == 1 && polled[0].revents == 0;
    }
    say("ready as expected: %d", ready);
    CALL(write(ends.writer, "12345", 5));
    CALL(ioctl(ends.reader, FIONREAD, &pending));
    say("pending: %d", pending);
    int other[2];
    SET_UP(pipe(other) == 0);
    CALL(tee(ends.reader, other[1], 3, 0));
    CALL(splice(ends.reader, NULL, other[1], NULL, 4, 0));
    char bytes[16] = "";
    CALL(read(other[0], bytes, 16));
    say("%s", bytes);
    struct ends packets = used_pipe(O_DIRECT);
    CALL(write(packets.writer, "one", 3));
    CALL(write(packets.writer, "two", 3));
    for (int i = 0; i < 2; i++) {
        memset(bytes, 0, sizeof bytes);
        CALL(read(packets.reader, bytes, 16));
        say("%s", bytes);
    }
}

TEST(who_watches_edges_of_an_own_pipe_hears_of_every_write) {
    struct ends ends = used_pipe(0);
    int epoll = epoll_create1(0), events = 0;
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLET, .data = {.u32 = 5}}, got;
    SET_UP(epoll_ctl(epoll, EPOLL_CTL_ADD, ends.reader, &wanted) == 0);
    for (int i = 0; i < OFTEN; i++) {
        SET_UP(write(ends.writer, "e", 1) == 1);
        events += epoll_wait(epoll, &got, 1, 0);
        events += 100 * epoll_wait(epoll, &got, 1, 0);
    }
    say("events: %d", events);
    SET_UP(epoll_ctl(epoll, EPOLL_CTL_DEL, ends.reader, NULL) == 0);
    unsigned long in = 0, out = 0;
    char bytes[OFTEN];
    SET_UP(read(ends.reader, bytes, OFTEN) == OFTEN);
    int wrong = 0;
    for (int i = 0; i < OFTEN; i++)
        wrong += put(ends.writer, &in, 2) + take(ends.reader, &out, 2);
    say("wrong: %d", wrong);
}

static volatile int interruptions;

static void count_interruption(int number) {
    (void)number;
    interruptions++;
}

TEST(signals_lose_nothing_of_an_own_pipe) {
    struct ends ends = used_pipe(0);
    int counter = eventfd(0, 0), wrong = 0;
    unsigned long in = 0, out = 0;
    uint64_t added = 0, taken = 0;
    handle(SIGALRM, count_interruption, SA_RESTART);
    // Not so often that a slow machine does nothing else.
    struct itimerval often = {{0, 10000}, {0, 10000}}, never = {{0, 0}, {0, 0}};
    SET_UP(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int round = 0; round < 4000 || interruptions < 3; round++) {
        uint64_t value = (uint64_t)round % 5 + 1;
        wrong += put(ends.writer, &in, 1 + round % 60) + take(ends.reader, &out, 100);
        SET_UP(write(counter, &value, 8) == 8);
        added += value;
        if (round % 3 == 0 && read(counter, &value, 8) == 8)
            taken += value;
    }
    SET_UP(setitimer(ITIMER_REAL, &never, NULL) == 0);
    uint64_t rest = 0;
    SET_UP(added == taken || read(counter, &rest, 8) == 8);
    say("wrong: %d, lost: %lu and %lu", wrong, in - out, (unsigned long)(added - taken - rest));
}

/* A counter that was used often, and is 0. */
static int used_counter(int flags) {
    int fd = eventfd(0, flags);
    SET_UP(fd >= 0);
    for (int i = 0; i < OFTEN; i++) {
        uint64_t value = 1;
        SET_UP(write(fd, &value, 8) == 8 && read(fd, &value, 8) == 8 && value == 1);
    }
    return fd;
}

TEST(an_own_counter_counts_as_ever) {
    int all = used_counter(EFD_NONBLOCK), one = used_counter(EFD_NONBLOCK | EFD_SEMAPHORE);
    uint64_t value = 3, most = UINT64_MAX - 1, too_much = UINT64_MAX, none = 0;
    CALL(write(all, &value, 8));
    CALL(write(all, &none, 8));
    CALL(write(all, &value, 7));
    CALL(write(all, &value, 100));
    CALL(read(all, &value, 7));
    CALL(read(all, &value, 100));
    say("value %lu", (unsigned long)value);
    CALL(read(all, &value, 8));
    CALL(write(all, &too_much, 8));
    CALL(write(all, &most, 8));
    value = 1;
    CALL(write(all, &value, 8));
    struct pollfd polled = {all, POLLIN | POLLOUT, 0};
    CALL(poll(&polled, 1, 0));
    say("events %x", polled.revents);
    CALL(write(all, BAD_ADDRESS, 8));
    CALL(read(all, &value, 8));
    HOLDS(value == UINT64_MAX - 1);
    value = 2;
    CALL(write(one, &value, 8));
    for (int i = 0; i < 3; i++) {
        CALL(read(one, &value, 8));
        say("value %lu", (unsigned long)value);
    }
    CALL(write(one, &value, 8));
    CALL(write(one, BAD_ADDRESS, 8));
    CALL(write(one, NULL_PAGE_ADDRESS, 8));
    CALL(poll((polled = (struct pollfd){one, POLLIN | POLLOUT, 0}, &polled), 1, 0));
    say("events %x", polled.revents);
}

TEST(an_own_counter_belongs_to_children_too) {
    int fd = used_counter(EFD_NONBLOCK);
    uint64_t value = 5;
    SET_UP(write(fd, &value, 8) == 8);
    pid_t child = fork_child();
    if (child == 0) {
        int wrong = read(fd, &value, 8) != 8 || value != 5;
        for (int i = 0; i < OFTEN; i++) {
            value = 2;
            wrong += write(fd, &value, 8) != 8;
        }
        _exit(wrong);
    }
    show_end("child", child);
    CALL(read(fd, &value, 8));
    say("value %lu", (unsigned long)value);
    CALL(read(fd, &value, 8));
}

static int counter_fd;

static void *count_down(void *unused) {
    uint64_t value, sum = 0;
    while (sum < 2000 && read(counter_fd, &value, 8) == 8)
        sum += value;
    return sum == 2000 ? NULL : unused;
}

static void *count_up(void *unused) {
    uint64_t one = 1;
    for (int i = 0; i < 1000; i++)
        if (write(counter_fd, &one, 8) != 8)
            return unused;
    return NULL;
}

TEST(threads_count_together) {
    counter_fd = used_counter(0);
    pthread_t threads[3];
    SET_UP(pthread_create(&threads[0], NULL, count_down, &counter_fd) == 0);
    SET_UP(pthread_create(&threads[1], NULL, count_up, &counter_fd) == 0);
    SET_UP(pthread_create(&threads[2], NULL, count_up, &counter_fd) == 0);
    for (int i = 0; i < 3; i++) {
        void *result;
        pthread_join(threads[i], &result);
        say("thread %d: %s", i, result ? "wrong" : "right");
    }
}
