/* Asynchronous I/O of Linux: contexts, what can be submitted, what comes of it. */
#include "case.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>

enum { PREAD = 0, PWRITE = 1, FSYNC = 2, FDSYNC = 3, POLL = 5, NOOP = 6, PREADV = 7, PWRITEV = 8 };

struct request {
    uint64_t data;
    uint32_t key, transfer_flags;
    uint16_t operation;
    int16_t priority;
    uint32_t fd;
    uint64_t buffer, length;
    int64_t offset;
    uint64_t reserved;
    uint32_t flags, counter;
};

struct done {
    uint64_t data, request;
    int64_t result, more;
};

static unsigned long set_up(unsigned count) {
    unsigned long context = 0;
    SET_UP(RAW(SYS_io_setup, count, &context) == 0);
    return context;
}

static long submit(unsigned long context, struct request *request) {
    return RAW(SYS_io_submit, context, 1, &request);
}

static struct request transfer(int operation, int fd, const void *buffer, size_t length, long offset) {
    return (struct request){.operation = (uint16_t)operation, .fd = (uint32_t)fd, .buffer = (uintptr_t)buffer,
                            .length = length, .offset = offset};
}

/* Waits for so many operations, and prints them. */
static void show(const char *what, unsigned long context, long least, long most) {
    struct done done[8];
    struct timespec limit = {10, 0};
    long count = RAW(SYS_io_getevents, context, least, most, done, &limit);
    say("%s: %ld", what, count);
    for (long i = 0; i < count; i++) {
        long result = done[i].result;
        say("  %ld: %s %ld", (long)done[i].data, result < 0 ? errno_name((int)-result) : "result", result < 0 ? -1 : result);
    }
}

TEST(contexts_are_made_and_ended) {
    unsigned long context = 0;
    CALL(RAW(SYS_io_setup, 0, &context));
    CALL(RAW(SYS_io_setup, 1 << 30, &context));
    CALL(RAW(SYS_io_setup, 1, BAD_ADDRESS));
    CALL(RAW(SYS_io_setup, 4, &context));
    CALL(RAW(SYS_io_setup, 4, &context));
    struct request request = {0}, *requests = &request;
    struct done done;
    struct timespec now = {0, 0};
    CALL(RAW(SYS_io_getevents, context, 0, 1, &done, &now));
    CALL(RAW(SYS_io_getevents, context, 1, 1, &done, &now));
    CALL(RAW(SYS_io_getevents, context, 2, 1, &done, &now));
    CALL(RAW(SYS_io_getevents, context, -1L, 1, &done, &now));
    CALL(RAW(SYS_io_submit, context, -1L, &requests));
    CALL(RAW(SYS_io_submit, context, 0, &requests));
    CALL(RAW(SYS_io_submit, context, 1, BAD_ADDRESS));
    pid_t child = fork_child();
    if (child == 0) {
        CALL(RAW(SYS_io_getevents, context, 0, 1, &done, &now));
        _exit(0);
    }
    show_end("a child", child);
    CALL(RAW(SYS_io_destroy, context));
    CALL(RAW(SYS_io_destroy, context));
    CALL(RAW(SYS_io_submit, context, 1, &requests));
    CALL(RAW(SYS_io_getevents, context, 0, 1, &done, &now));
}

TEST(files_are_read_and_written) {
    unsigned long context = set_up(8);
    int fd = open("file", O_RDWR | O_CREAT, 0644);
    SET_UP(fd >= 0);
    struct request write_one = transfer(PWRITE, fd, "hello, world", 12, 3), *both[2];
    struct iovec vector[2] = {{"abc", 3}, {"def", 3}};
    struct request write_two = transfer(PWRITEV, fd, vector, 2, 20);
    write_one.data = 1;
    write_two.data = 2;
    both[0] = &write_one;
    both[1] = &write_two;
    CALL(RAW(SYS_io_submit, context, 2, both));
    show("written", context, 2, 8);
    show_file("file");
    char buffer[64] = {0};
    struct request read_one = transfer(PREAD, fd, buffer, 10, 8);
    CALL(submit(context, &read_one));
    show("read", context, 1, 8);
    show_bytes("buffer", buffer, 10);
    read_one = transfer(PREAD, fd, buffer, 10, 100);
    CALL(submit(context, &read_one));
    show("beyond the end", context, 1, 8);
    struct request sync = {.operation = FSYNC, .fd = (uint32_t)fd};
    CALL(submit(context, &sync));
    sync.operation = FDSYNC;
    CALL(submit(context, &sync));
    show("synced", context, 2, 8);
    HOLDS(lseek(fd, 0, SEEK_CUR) == 0);
    read_one = transfer(PREAD, fd, BAD_ADDRESS, 10, 0);
    CALL(RAW(SYS_io_destroy, context));
}

TEST(requests_are_checked) {
    unsigned long context = set_up(8);
    make_text("file", "text");
    int fd = open("file", O_RDONLY);
    char buffer[8];
    struct request request = transfer(PWRITE, fd, "x", 1, 0);
    CALL(submit(context, &request));
    request = transfer(PREAD, -1, buffer, 1, 0);
    CALL(submit(context, &request));
    request = transfer(PREAD, fd, buffer, 1, -5);
    CALL(submit(context, &request));
    request = transfer(NOOP, fd, buffer, 1, 0);
    CALL(submit(context, &request));
    request = transfer(77, fd, buffer, 1, 0);
    CALL(submit(context, &request));
    request = transfer(PREAD, fd, buffer, -1UL, 0);
    CALL(submit(context, &request));
    request = transfer(FSYNC, fd, buffer, 1, 0);
    CALL(submit(context, &request));
    request = transfer(PREAD, fd, buffer, 1, 0);
    request.reserved = 1;
    CALL(submit(context, &request));
    request.reserved = 0;
    request.flags = 1;
    request.counter = (uint32_t)fd;
    CALL(submit(context, &request));
    request.counter = 99;
    CALL(submit(context, &request));
    show("nothing", context, 0, 8);
    struct request *bad[2] = {&request, &request};
    request.flags = 0;
    struct request wrong = transfer(77, fd, buffer, 1, 0);
    bad[1] = &wrong;
    CALL(RAW(SYS_io_submit, context, 2, bad));
    show("the first", context, 1, 8);
    CALL(RAW(SYS_io_cancel, context, &request, buffer));
    request.key = 5;
    CALL(RAW(SYS_io_cancel, context, &request, buffer));
}

TEST(a_counter_and_polls_tell_of_the_end) {
    unsigned long context = set_up(8);
    int counter = eventfd(0, EFD_NONBLOCK), fds[2];
    SET_UP(counter >= 0 && pipe(fds) == 0);
    struct request poll_one = {.data = 7, .operation = POLL, .fd = (uint32_t)fds[0], .buffer = POLLIN | POLLRDNORM, .flags = 1,
                               .counter = (uint32_t)counter};
    CALL(submit(context, &poll_one));
    uint64_t value = 0;
    CALL(read(counter, &value, sizeof value));
    SET_UP(write(fds[1], "x", 1) == 1);
    show("ready", context, 1, 8);
    CALL(read(counter, &value, sizeof value));
    say("counted %d", (int)value);
    char byte;
    SET_UP(read(fds[0], &byte, 1) == 1);
    CALL(submit(context, &poll_one));
    struct done done;
    CALL(RAW(SYS_io_cancel, context, &poll_one, &done));
    show("taken back", context, 1, 8);
    CALL(RAW(SYS_io_cancel, context, &poll_one, &done));
    poll_one.length = 1;
    CALL(submit(context, &poll_one));
    poll_one.length = 0;
    CALL(submit(context, &poll_one));
    CALL(RAW(SYS_io_destroy, context));
}

TEST(waiting_has_a_limit_and_is_interrupted) {
    unsigned long context = set_up(2);
    struct done done;
    struct timespec limit = {0, 20000000};
    long start = now_ms();
    CALL(RAW(SYS_io_getevents, context, 1, 1, &done, &limit));
    HOLDS(now_ms() - start >= 19);
    keep_interrupting();
    CALL(RAW(SYS_io_getevents, context, 1, 1, &done, NULL));
    stop_interrupting();
    CALL(RAW(SYS_io_pgetevents, context, 1, 1, &done, &limit, NULL));
}
