/* splice, tee, vmsplice; reads and writes with flags; packets in pipes. */
#include "case.h"

#include <sys/uio.h>

struct ends {
    int reader, writer;
};

static struct ends make_pipe(int flags) {
    int fds[2];
    SET_UP(pipe2(fds, flags) == 0);
    return (struct ends){fds[0], fds[1]};
}

static void show_pipe(const char *what, int fd) {
    char text[128];
    int flags = fcntl(fd, F_GETFL);
    SET_UP(fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
    ssize_t length = read(fd, text, sizeof text);
    int error = errno;
    SET_UP(fcntl(fd, F_SETFL, flags) == 0);
    if (length < 0)
        say("%s: %s", what, errno_name(error));
    else
        show_bytes(what, text, (size_t)length);
}

TEST(splice_moves_from_a_file_to_a_pipe) {
    make_text("f", "0123456789");
    int fd = open("f", O_RDONLY);
    struct ends p = make_pipe(0);
    CALL(splice(fd, NULL, p.writer, NULL, 4, 0));
    show_pipe("pipe", p.reader);
    CALL(lseek(fd, 0, SEEK_CUR));
    off_t offset = 7;
    CALL(splice(fd, &offset, p.writer, NULL, 100, 0));
    say("offset %d, position %d", (int)offset, (int)lseek(fd, 0, SEEK_CUR));
    show_pipe("pipe", p.reader);
    CALL(splice(fd, &offset, p.writer, NULL, 100, 0));
    CALL(splice(fd, NULL, p.writer, NULL, 0, 0));
    CALL(splice(fd, NULL, p.writer, NULL, 0, 0x100));
    CALL(splice(fd, NULL, p.writer, NULL, 1, 0x100));
}

TEST(splice_moves_from_a_pipe_to_a_file) {
    struct ends p = make_pipe(0);
    SET_UP(write(p.writer, "0123456789", 10) == 10);
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    CALL(splice(p.reader, NULL, fd, NULL, 4, 0));
    off_t offset = 8;
    CALL(splice(p.reader, NULL, fd, &offset, 3, 0));
    say("offset %d, position %d", (int)offset, (int)lseek(fd, 0, SEEK_CUR));
    SET_UP(close(p.writer) == 0);
    CALL(splice(p.reader, NULL, fd, NULL, 100, 0));
    CALL(splice(p.reader, NULL, fd, NULL, 100, 0));
    show_file("f");
}

TEST(splice_moves_between_pipes) {
    struct ends a = make_pipe(0), b = make_pipe(0);
    SET_UP(write(a.writer, "abcdef", 6) == 6);
    CALL(splice(a.reader, NULL, b.writer, NULL, 2, 0));
    show_pipe("b", b.reader);
    CALL(tee(a.reader, b.writer, 3, 0));
    show_pipe("b", b.reader);
    CALL(tee(a.reader, b.writer, 100, 0));
    show_pipe("a", a.reader);
    show_pipe("b", b.reader);
    CALL(splice(a.reader, NULL, b.writer, NULL, 2, SPLICE_F_NONBLOCK));
    CALL(tee(a.reader, b.writer, 2, SPLICE_F_NONBLOCK));
    SET_UP(close(a.writer) == 0);
    CALL(splice(a.reader, NULL, b.writer, NULL, 2, 0));
    CALL(tee(a.reader, b.writer, 2, 0));
}

TEST(splice_and_tee_refuse_what_is_no_pipe) {
    make_text("f", "x");
    make_text("g", "x");
    int f = open("f", O_RDWR), g = open("g", O_RDWR), append = open("g", O_WRONLY | O_APPEND);
    struct ends p = make_pipe(0);
    SET_UP(write(p.writer, "x", 1) == 1);
    off_t offset = 0, negative = -1;
    CALL(splice(f, NULL, g, NULL, 1, 0));
    CALL(splice(f, NULL, p.reader, NULL, 1, 0));
    CALL(splice(p.writer, NULL, f, NULL, 1, 0));
    CALL(splice(p.reader, &offset, f, NULL, 1, 0));
    CALL(splice(f, NULL, p.writer, &offset, 1, 0));
    CALL(splice(f, &negative, p.writer, NULL, 1, 0));
    CALL(splice(p.reader, NULL, append, NULL, 1, 0));
    CALL(splice(p.reader, NULL, p.writer, NULL, 1, 0));
    CALL(splice(-1, NULL, p.writer, NULL, 1, 0));
    CALL(splice(p.reader, NULL, -1, NULL, 1, 0));
    CALL(splice(f, BAD_ADDRESS, p.writer, NULL, 1, 0));
    CALL(tee(p.reader, p.writer, 1, 0));
    CALL(tee(f, p.writer, 1, 0));
    CALL(tee(p.reader, f, 1, 0));
    CALL(tee(p.reader, p.writer, 1, 0x100));
    CALL(tee(p.reader, p.writer, 0, 0));
    int directory = open(".", O_RDONLY);
    CALL(splice(directory, NULL, p.writer, NULL, 1, 0));
}

TEST(splice_waits_for_bytes_and_for_room) {
    struct ends a = make_pipe(0), b = make_pipe(0);
    pid_t child = fork_child();
    if (child == 0) {
        sleep_ms(50);
        SET_UP(write(a.writer, "late", 4) == 4);
        _exit(0);
    }
    CALL(splice(a.reader, NULL, b.writer, NULL, 100, 0));
    show_end("child", child);
    show_pipe("b", b.reader);
    handle(SIGALRM, SIG_IGN, 0);
    keep_interrupting();
    CALL(splice(a.reader, NULL, b.writer, NULL, 100, 0));
    stop_interrupting();
    close(b.reader);
    SET_UP(write(a.writer, "x", 1) == 1);
    handle(SIGPIPE, SIG_IGN, 0);
    CALL(splice(a.reader, NULL, b.writer, NULL, 100, 0));
    show_pipe("a", a.reader);
}

TEST(vmsplice_goes_both_ways) {
    struct ends p = make_pipe(0);
    char one[] = "one", two[] = "two", got[8] = "";
    struct iovec from[] = {{one, 3}, {two, 3}}, to = {got, sizeof got};
    CALL(vmsplice(p.writer, from, 2, 0));
    CALL(vmsplice(p.reader, &to, 1, 0));
    show_bytes("got", got, 6);
    CALL(vmsplice(p.reader, &to, 1, SPLICE_F_NONBLOCK));
    CALL(vmsplice(p.writer, from, 0, 0));
    CALL(vmsplice(p.writer, from, 1025, 0));
    CALL(vmsplice(p.writer, from, 1, 0x100));
    CALL(vmsplice(p.writer, BAD_ADDRESS, 1, 0));
    make_text("f", "x");
    CALL(vmsplice(open("f", O_RDWR), from, 1, 0));
    CALL(vmsplice(-1, from, 1, 0));
}

TEST(packets_come_out_as_they_went_in) {
    struct ends p = make_pipe(O_DIRECT);
    SET_UP(write(p.writer, "first", 5) == 5 && write(p.writer, "second", 6) == 6 && write(p.writer, "x", 1) == 1);
    show_pipe("packet", p.reader);
    char three[3];
    CALL(read(p.reader, three, 3));
    show_pipe("next", p.reader);
    show_pipe("none", p.reader);
    char big[6000] = "";
    CALL(write(p.writer, big, sizeof big));
    char room[8000];
    CALL(read(p.reader, room, sizeof room));
    CALL(read(p.reader, room, sizeof room));
    CALL(fcntl(p.writer, F_SETFL, 0));
    SET_UP(write(p.writer, "a", 1) == 1 && write(p.writer, "b", 1) == 1);
    show_pipe("stream", p.reader);
}

#define RWF_NOWAIT_ 8
#define RWF_APPEND_ 16

static long flagged(bool writes, int fd, const char *text, off_t offset, int flags) {
    struct iovec vector = {(void *)text, strlen(text)};
    return syscall(writes ? SYS_pwritev2 : SYS_preadv2, fd, &vector, 1, offset, 0, flags);
}

TEST(reads_and_writes_take_flags) {
    int fd = open("f", O_RDWR | O_CREAT, 0644);
    CALL(flagged(true, fd, "abc", 0, 0));
    CALL(flagged(true, fd, "DE", 0, RWF_APPEND_));
    show_file("f");
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(flagged(true, fd, "12", -1, 0));
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(flagged(true, fd, "34", -1, RWF_APPEND_));
    CALL(lseek(fd, 0, SEEK_CUR));
    show_file("f");
    CALL(flagged(true, fd, "5", 0, 1 << 20));
    CALL(flagged(true, fd, "5", -2, 0));
    CALL(flagged(true, fd, "5", 0, 2 | 4));
    struct ends p = make_pipe(0);
    char room[] = "room";
    CALL(flagged(false, p.reader, room, -1, RWF_NOWAIT_));
    CALL(flagged(false, p.reader, room, 0, 0));
    SET_UP(write(p.writer, "pipe", 4) == 4);
    CALL(flagged(false, p.reader, room, -1, RWF_NOWAIT_));
    show_bytes("room", room, 4);
}

TEST(a_pipes_size_can_be_asked_for_and_set) {
    struct ends p = make_pipe(0);
    CALL(fcntl(p.reader, F_GETPIPE_SZ));
    CALL(fcntl(p.writer, F_SETPIPE_SZ, 5000));
    CALL(fcntl(p.writer, F_SETPIPE_SZ, 1));
    CALL(fcntl(p.writer, F_SETPIPE_SZ, 0));
    CALL(fcntl(p.writer, F_SETPIPE_SZ, 1 << 20));
    char page[PAGE] = "";
    SET_UP(write(p.writer, page, sizeof page) == PAGE && write(p.writer, page, sizeof page) == PAGE);
    CALL(fcntl(p.writer, F_SETPIPE_SZ, PAGE));
    CALL(fcntl(p.reader, F_GETPIPE_SZ));
    make_text("f", "x");
    CALL(fcntl(open("f", O_RDWR), F_GETPIPE_SZ));
    CALL(fcntl(open("f", O_RDWR), F_SETPIPE_SZ, PAGE));
}
