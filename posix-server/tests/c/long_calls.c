/* Calls that move so much that others must have a turn meanwhile; what signals and limits do to them. */
#include "case.h"

#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <sys/uio.h>

#define LONG_BYTES (1L << 30)
#define PIECE (1L << 20)
#define PIECES 128

static volatile sig_atomic_t alarms;

static void count_alarm(int number) {
    (void)number;
    alarms++;
}

static void alarm_often(void) {
    struct itimerval timer = {{0, 5000}, {0, 5000}};
    handle(SIGALRM, count_alarm, 0);
    SET_UP(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static int long_file(void) {
    int file = open("long", O_RDWR | O_CREAT, 0600);
    SET_UP(file >= 0 && ftruncate(file, LONG_BYTES) == 0);
    return file;
}

TEST(a_signal_ends_a_long_sendfile_with_what_it_has_sent) {
    int file = long_file(), null = open("/dev/null", O_WRONLY);
    off_t offset = 0;
    ssize_t sent;
    alarm_often();
    do
        sent = sendfile(null, file, &offset, LONG_BYTES);
    while (sent < 0 && errno == EINTR);
    HOLDS(sent > 0 && sent < LONG_BYTES);
    HOLDS(offset == sent);
    HOLDS(alarms > 0);
}

TEST(a_long_read_and_a_long_write_are_done_whole) {
    static char piece[PIECE], other[PIECE];
    struct iovec vectors[PIECES];
    int file = long_file();
    for (int i = 0; i < PIECES; i++)
        vectors[i] = (struct iovec){piece, PIECE};
    alarm_often();
    SET_UP(pwrite(file, "end", 3, PIECES * PIECE - 3) == 3);
    CALL(readv(file, vectors, PIECES));
    show_bytes("the last bytes", piece + PIECE - 3, 3);
    say("position %ld", (long)lseek(file, 0, SEEK_CUR));
    CALL(preadv(file, vectors, PIECES, LONG_BYTES - PIECE - 5));
    for (int i = 0; i < 8; i++)
        vectors[i] = (struct iovec){i % 2 ? other : piece, PIECE};
    memset(piece, 'p', PIECE);
    memset(other, 'o', PIECE);
    CALL(pwritev(file, vectors, 8, 5));
    char around[4] = "";
    SET_UP(pread(file, around, 2, 5 + PIECE - 1) == 2);
    say("where two pieces meet: %s", around);
    SET_UP(pread(file, around, 2, 5 + 8 * PIECE - 1) == 2);
    say("the end: %c%d", around[0], around[1]);
    say("position %ld", (long)lseek(file, 0, SEEK_CUR));
}

static int writes_end_with(int number) {
    static char piece[PIECE];
    struct iovec vectors[4] = {{piece, PIECE}, {piece, PIECE}, {piece, PIECE}, {piece, PIECE}};
    int file = open("limited", O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct rlimit limit = {(rlim_t)number, RLIM_INFINITY};
    SET_UP(file >= 0 && setrlimit(RLIMIT_FSIZE, &limit) == 0);
    return (int)writev(file, vectors, 4);
}

TEST(a_long_write_respects_the_limit_on_files) {
    say("%d", writes_end_with(2 * PIECE));
    say("%d", writes_end_with(2 * PIECE + 10));
    say("%d", writes_end_with(PIECE));
}

TEST(a_long_copy_between_files) {
    int from = open("from", O_RDWR | O_CREAT, 0600), to = open("to", O_RDWR | O_CREAT, 0600);
    SET_UP(from >= 0 && to >= 0 && pwrite(from, "middle", 6, 2 * PIECE - 3) == 6 && ftruncate(from, 5 * PIECE) == 0);
    off_t source = 1, target = 7;
    ssize_t copied = 0;
    while (source < 5 * PIECE) {
        ssize_t now = copy_file_range(from, &source, to, &target, 8 * PIECE, 0);
        SET_UP(now > 0);
        copied += now;
    }
    say("%ld bytes, to %ld and %ld", (long)copied, (long)source, (long)target);
    char bytes[7] = "";
    SET_UP(pread(to, bytes, 6, 2 * PIECE - 3 + 6) == 6);
    say("%s", bytes);
    say("positions %ld and %ld", (long)lseek(from, 0, SEEK_CUR), (long)lseek(to, 0, SEEK_CUR));
}
