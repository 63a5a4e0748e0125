/* Pipes: order, ends, capacity, atomic writes, and what happens when one side is gone. */
#include "case.h"

#include <sys/ioctl.h>

#define CAPACITY 65536

static void make_pipe(int ends[2], int flags) {
    SET_UP(pipe2(ends, flags) == 0);
}

/* Fills a non-blocking pipe and gives the bytes it took. */
static long fill(int writer, size_t chunk) {
    char *bytes = calloc(1, chunk);
    SET_UP(bytes != NULL);
    long total = 0;
    ssize_t written;
    while ((written = write(writer, bytes, chunk)) > 0)
        total += written;
    say("full with %s", errno_name(errno));
    free(bytes);
    return total;
}

TEST(a_pipe_carries_bytes_in_order) {
    int ends[2];
    CALL(pipe(ends));
    say("ends %d %d", ends[0], ends[1]);
    CALL(write(ends[1], "one", 3));
    CALL(write(ends[1], "two", 3));
    char text[16] = {0};
    CALL(read(ends[0], text, 2));
    CALL(read(ends[0], text + 2, 14));
    show_bytes("text", text, 6);
    CALL(write(ends[0], "x", 1));
    CALL(read(ends[1], text, 1));
    CALL(write(ends[1], "", 0));
}

TEST(pipe2_takes_flags_and_refuses_others) {
    int ends[2] = {-7, -7};
    CALL(pipe2(ends, O_CLOEXEC | O_NONBLOCK));
    CALL(fcntl(ends[0], F_GETFD));
    CALL(fcntl(ends[1], F_GETFD));
    HOLDS((fcntl(ends[0], F_GETFL) & O_NONBLOCK) && (fcntl(ends[1], F_GETFL) & O_NONBLOCK));
    CALL(RAW(SYS_pipe2, ends, O_APPEND));
    CALL(RAW(SYS_pipe2, ends, -1));
    CALL(RAW(SYS_pipe2, BAD_ADDRESS, 0));
    CALL(RAW(SYS_pipe, NULL));
    CALL(open("/dev/null", O_RDONLY));
}

TEST(reading_ends_when_all_writers_are_gone) {
    int ends[2];
    make_pipe(ends, 0);
    int second = dup(ends[1]);
    SET_UP(write(ends[1], "left", 4) == 4 && close(ends[1]) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(write(second, "more", 4) == 4);
        _exit(0);
    }
    SET_UP(waitpid(child, NULL, 0) == child);
    SET_UP(close(second) == 0);
    char text[16];
    CALL(read(ends[0], text, sizeof text));
    CALL(read(ends[0], text, sizeof text));
    CALL(read(ends[0], text, sizeof text));
}

TEST(writing_without_readers_is_epipe_and_a_signal) {
    int ends[2];
    make_pipe(ends, 0);
    SET_UP(close(ends[0]) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        write(ends[1], "x", 1);
        _exit(0);
    }
    show_end("child", child);
    signal(SIGPIPE, SIG_IGN);
    CALL(write(ends[1], "x", 1));
    CALL(write(ends[1], "", 0));
}

static int unread_bytes(int reader) {
    int unread = -1;
    SET_UP(ioctl(reader, FIONREAD, &unread) == 0);
    return unread;
}

TEST(a_reader_that_leaves_wakes_the_writer_with_epipe) {
    int ends[2];
    make_pipe(ends, 0);
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(close(ends[1]) == 0);
        while (unread_bytes(ends[0]) < CAPACITY)
            sleep_ms(2);
        _exit(0);
    }
    SET_UP(close(ends[0]) == 0);
    signal(SIGPIPE, SIG_IGN);
    char *bytes = calloc(1, 3 * CAPACITY);
    SET_UP(bytes != NULL);
    CALL(write(ends[1], bytes, 3 * CAPACITY));
    CALL(write(ends[1], bytes, 1));
    show_end("child", child);
}

TEST(a_pipe_holds_65536_bytes) {
    int ends[2];
    make_pipe(ends, O_NONBLOCK);
    CALL(fcntl(ends[1], F_GETPIPE_SZ));
    say("took %ld", fill(ends[1], PAGE));
    say("unread %d", unread_bytes(ends[0]));
    CALL(write(ends[1], "x", 1));
    char page[PAGE];
    SET_UP(read(ends[0], page, PAGE) == PAGE);
    CALL(write(ends[1], page, PAGE));
    CALL(write(ends[1], page, 1));
}

TEST(a_big_non_blocking_write_is_short) {
    int ends[2];
    make_pipe(ends, O_NONBLOCK);
    char *bytes = calloc(1, 2 * CAPACITY);
    SET_UP(bytes != NULL);
    CALL(write(ends[1], bytes, 2 * CAPACITY));
    CALL(write(ends[1], bytes, 2 * CAPACITY));
}

TEST(small_non_blocking_writes_go_whole_or_not_at_all) {
    int ends[2];
    make_pipe(ends, O_NONBLOCK);
    char page[PAGE] = {0};
    for (int i = 0; i < 15; i++)
        SET_UP(write(ends[1], page, PAGE) == PAGE);
    CALL(write(ends[1], page, 100));
    CALL(write(ends[1], page, PAGE));
    CALL(write(ends[1], page, PAGE - 100));
    CALL(write(ends[1], page, 1));
}

TEST(non_blocking_reads_of_an_empty_pipe_are_eagain) {
    int ends[2];
    make_pipe(ends, O_NONBLOCK);
    char byte;
    CALL(read(ends[0], &byte, 1));
    SET_UP(write(ends[1], "x", 1) == 1);
    CALL(read(ends[0], &byte, 1));
    CALL(read(ends[0], &byte, 1));
    SET_UP(close(ends[1]) == 0);
    CALL(read(ends[0], &byte, 1));
}

TEST(a_blocking_write_waits_for_room) {
    int ends[2];
    make_pipe(ends, 0);
    enum { BYTES = 5 * CAPACITY + 123 };
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(close(ends[0]) == 0);
        unsigned char *bytes = malloc(BYTES);
        SET_UP(bytes != NULL);
        for (int i = 0; i < BYTES; i++)
            bytes[i] = (unsigned char)(i * 7 + i / 251);
        _exit(write(ends[1], bytes, BYTES) == BYTES ? 0 : 1);
    }
    SET_UP(close(ends[1]) == 0);
    unsigned char piece[1000];
    long total = 0, wrong = 0;
    for (ssize_t got; (got = read(ends[0], piece, sizeof piece)) > 0; total += got)
        for (ssize_t i = 0; i < got; i++)
            wrong += piece[i] != (unsigned char)((total + i) * 7 + (total + i) / 251);
    say("%ld bytes, %ld wrong", total, wrong);
    show_end("writer", child);
}

/* Several writers of PIPE_BUF bytes: no piece is torn. */
TEST(writes_up_to_pipe_buf_are_atomic) {
    enum { WRITERS = 4, PIECES = 40 };
    int ends[2];
    make_pipe(ends, 0);
    for (int writer = 0; writer < WRITERS; writer++) {
        pid_t child = fork_child();
        if (child == 0) {
            char piece[PIPE_BUF];
            memset(piece, 'a' + writer, sizeof piece);
            for (int i = 0; i < PIECES; i++)
                SET_UP(write(ends[1], piece, sizeof piece) == sizeof piece);
            _exit(0);
        }
    }
    SET_UP(close(ends[1]) == 0);
    long counts[WRITERS] = {0}, torn = 0;
    char piece[PIPE_BUF];
    size_t have = 0;
    for (ssize_t got; (got = read(ends[0], piece + have, sizeof piece - have)) > 0;) {
        have += (size_t)got;
        if (have < sizeof piece)
            continue;
        have = 0;
        for (size_t i = 1; i < sizeof piece; i++)
            torn += piece[i] != piece[0];
        if (piece[0] >= 'a' && piece[0] < 'a' + WRITERS)
            counts[piece[0] - 'a']++;
    }
    say("%ld %ld %ld %ld pieces, %ld torn", counts[0], counts[1], counts[2], counts[3], torn);
    int failures = 0, status;
    while (wait(&status) > 0)
        failures += status != 0;
    say("%d failures", failures);
}

TEST(bad_memory_keeps_the_bytes_in_the_pipe) {
    int ends[2];
    make_pipe(ends, O_NONBLOCK);
    SET_UP(write(ends[1], "bytes", 5) == 5);
    CALL(read(ends[0], BAD_ADDRESS, 5));
    char text[8] = {0};
    CALL(read(ends[0], text, 8));
    CALL(write(ends[1], BAD_ADDRESS, 5));
    CALL(read(ends[0], text, 8));
}

TEST(a_pipeline_of_processes_ends_in_order) {
    enum { STAGES = 5 };
    int source[2];
    make_pipe(source, 0);
    int input = source[0];
    for (int stage = 0; stage < STAGES; stage++) {
        int ends[2];
        make_pipe(ends, 0);
        pid_t child = fork_child();
        if (child == 0) {
            close(source[1]);
            close(ends[0]);
            char byte;
            while (read(input, &byte, 1) == 1) {
                byte++;
                SET_UP(write(ends[1], &byte, 1) == 1);
            }
            _exit(stage);
        }
        close(input);
        close(ends[1]);
        input = ends[0];
    }
    SET_UP(write(source[1], "ABC", 3) == 3 && close(source[1]) == 0);
    char text[8] = {0};
    size_t have = 0;
    for (ssize_t got; (got = read(input, text + have, sizeof text - have)) > 0;)
        have += (size_t)got;
    show_bytes("end of the line", text, have);
    int status, sum = 0;
    while (wait(&status) > 0)
        sum += WEXITSTATUS(status);
    say("sum %d", sum);
}

TEST(a_fifo_joins_a_reader_and_a_writer) {
    CALL(mkfifo("fifo", 0600));
    CALL(mkfifo("fifo", 0600));
    CALL(open("fifo", O_WRONLY | O_NONBLOCK));
    pid_t child = fork_child();
    if (child == 0) {
        int writer = open("fifo", O_WRONLY);
        SET_UP(writer >= 0 && write(writer, "through", 7) == 7);
        _exit(0);
    }
    int reader = open("fifo", O_RDONLY);
    char text[8] = {0};
    CALL(read(reader, text, 7));
    show_end("writer", child);
    CALL(read(reader, text, 7));
    CALL(close(reader));
    reader = open("fifo", O_RDONLY | O_NONBLOCK);
    CALL(read(reader, text, 7));
    CALL_OK(open("fifo", O_WRONLY | O_NONBLOCK));
    CALL(read(reader, text, 7));
}

TEST(a_pipe_can_be_opened_anew_without_waiting_for_its_other_end) {
    int ends[2];
    make_pipe(ends, 0);
    SET_UP(ends[0] == 3 && ends[1] == 4 && write(ends[1], "left", 4) == 4);
    int writer = open("/proc/self/fd/4", O_WRONLY);
    CALL(write(writer, "-new", 4));
    SET_UP(close(ends[1]) == 0 && close(writer) == 0);
    int reader = open("/proc/self/fd/3", O_RDONLY);
    char text[16] = {0};
    CALL(read(reader, text, sizeof text));
    show_bytes("text", text, 8);
    CALL(read(reader, text, sizeof text));
    make_pipe(ends, 0);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[1]);
    SET_UP(close(ends[0]) == 0);
    CALL_OK(open(path, O_WRONLY));
    CALL_OK(open(path, O_WRONLY | O_NONBLOCK));
}

TEST(writev_to_a_pipe_arrives_as_one) {
    int ends[2];
    make_pipe(ends, 0);
    struct {
        const void *base;
        size_t length;
    } pieces[] = {{"ab", 2}, {"", 0}, {"cdef", 4}};
    CALL(RAW(SYS_writev, ends[1], pieces, 3));
    char text[8] = {0};
    CALL(read(ends[0], text, 8));
    show_bytes("text", text, 6);
}
