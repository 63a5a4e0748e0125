/* Writes over what is in a file, repeated often enough for a process to do them itself: nothing must be different by that. */
#include "case.h"

#include <pthread.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/uio.h>

#define SIZE (16 * PAGE)
#define OFTEN 100
#define NS(time) ((time).tv_sec * 1000000000L + (time).tv_nsec)

/* A file of sixteen pages, all `letter`. */
static int filled(const char *path, char letter) {
    static char content[SIZE];
    memset(content, letter, sizeof content);
    make_file(path, content, sizeof content);
    int fd = open(path, O_RDWR);
    SET_UP(fd >= 0);
    return fd;
}

/* Writes the numbers from `first` on, 64 bytes apart; how many writes went wrong. */
static int write_numbers(int fd, uint32_t first, int count) {
    int wrong = 0;
    for (int i = 0; i < count; i++) {
        uint32_t number = first + (uint32_t)i;
        wrong += pwrite(fd, &number, sizeof number, i * 64) != sizeof number;
    }
    return wrong;
}

/* How many of them are not there. */
static int wrong_numbers(int fd, uint32_t first, int count) {
    int wrong = 0;
    for (int i = 0; i < count; i++) {
        uint32_t number = ~0u;
        wrong += pread(fd, &number, sizeof number, i * 64) != sizeof number || number != first + (uint32_t)i;
    }
    return wrong;
}

static struct stat status_of(int fd) {
    struct stat status;
    SET_UP(fstat(fd, &status) == 0);
    return status;
}

TEST(many_writes_are_seen_by_everybody) {
    int fd = filled("f", 'x'), other = open("f", O_RDONLY);
    uint32_t *mapped = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, other, 0);
    SET_UP(mapped != MAP_FAILED);
    for (uint32_t round = 0; round < 5; round++) {
        say("wrong: %d", write_numbers(fd, round * 1000, OFTEN));
        say("wrong: %d %d", wrong_numbers(fd, round * 1000, OFTEN), wrong_numbers(other, round * 1000, OFTEN));
        int wrong = 0;
        for (uint32_t i = 0; i < OFTEN; i++)
            wrong += mapped[i * 16] != round * 1000 + i;
        say("in the mapping: %d", wrong);
        pid_t child = fork_child();
        if (child == 0)
            _exit(wrong_numbers(other, round * 1000, OFTEN) + write_numbers(fd, round * 1000 + 500, OFTEN));
        show_end("child", child);
        say("wrong: %d", wrong_numbers(fd, round * 1000 + 500, OFTEN));
    }
}

TEST(many_writes_leave_position_and_size) {
    int fd = filled("f", 'x');
    char bytes[8] = "";
    SET_UP(lseek(fd, 10, SEEK_SET) == 10);
    say("wrong: %d", write_numbers(fd, 7, OFTEN));
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(read(fd, bytes, 4));
    CALL(write(fd, "abcd", 4));
    say("wrong: %d", write_numbers(fd, 9, OFTEN));
    CALL(pread(fd, bytes, 8, 12));
    show_bytes("bytes", bytes, 8);
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(lseek(fd, 0, SEEK_END));
}

TEST(a_write_at_the_end_grows_the_file) {
    int fd = filled("f", 'x');
    say("wrong: %d", write_numbers(fd, 0, OFTEN));
    CALL(pwrite(fd, "abcdef", 6, SIZE - 3));
    say("size %ld", file_size("f"));
    say("wrong: %d", write_numbers(fd, 1, OFTEN));
    CALL(pwrite(fd, "abcdef", 6, SIZE + 100000));
    say("size %ld", file_size("f"));
    say("wrong: %d", write_numbers(fd, 2, OFTEN));
    CALL(pwrite(fd, "abcdef", 6, SIZE + 50000));
    CALL(pwrite(fd, "abcdef", 0, 1 << 20));
    CALL(pwrite(fd, "abcdef", 6, -1));
    CALL(pwrite(fd, "abcdef", 6, INT64_MAX));
    say("size %ld", file_size("f"));
    char bytes[6];
    CALL(pread(fd, bytes, 6, SIZE - 3));
    show_bytes("bytes", bytes, 6);
}

TEST(a_cut_file_is_not_written_behind_its_end) {
    int fd = filled("f", 'x'), other = open("f", O_RDWR);
    char bytes[200];
    for (int round = 0; round < 3; round++) {
        say("wrong: %d", write_numbers(fd, 0, OFTEN));
        CALL(ftruncate(other, 100));
        CALL(pwrite(fd, "abc", 3, 150));
        CALL(pread(fd, bytes, 200, 0));
        show_bytes("end", bytes + 96, 57);
        CALL(ftruncate(other, SIZE));
        CALL(pread(fd, bytes, 200, 0));
        show_bytes("end", bytes + 96, 104);
    }
    SET_UP(close(open("f", O_RDWR | O_TRUNC)) == 0);
    CALL(pwrite(fd, "abc", 3, 10));
    say("size %ld", file_size("f"));
}

TEST(a_write_from_a_bad_address_is_efault_and_one_from_the_end_of_memory_is_cut) {
    int fd = filled("f", 'x');
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(pages != MAP_FAILED && munmap(pages + PAGE, PAGE) == 0);
    memset(pages, 'y', PAGE);
    say("wrong: %d", write_numbers(fd, 0, OFTEN));
    CALL(pwrite(fd, BAD_ADDRESS, 10, 0));
    CALL(pwrite(fd, NULL_PAGE_ADDRESS, 10, 0));
    CALL(pwrite(fd, pages + PAGE - 10, 30, PAGE * 3));
    char bytes[24];
    CALL(pread(fd, bytes, 24, PAGE * 3 - 4));
    show_bytes("bytes", bytes, 14);
    say("wrong: %d", wrong_numbers(fd, 0, OFTEN));
}

TEST(a_write_changes_the_times_and_the_next_read_is_noted) {
    int fd = filled("f", 'x'), other = open("f", O_RDONLY);
    uint32_t number = 0;
    write_numbers(fd, 0, OFTEN);
    for (int round = 0; round < 3; round++) {
        struct stat before = status_of(fd);
        sleep_ms(20);
        SET_UP(pwrite(fd, &number, 4, 0) == 4);
        struct stat written = status_of(other);
        HOLDS(NS(written.st_mtim) > NS(before.st_mtim));
        HOLDS(NS(written.st_mtim) == NS(written.st_ctim));
        HOLDS(NS(written.st_atim) == NS(before.st_atim));
        sleep_ms(20);
        SET_UP(pread(fd, &number, 4, 64) == 4);
        struct stat read_once = status_of(other);
        HOLDS(NS(read_once.st_atim) > NS(written.st_mtim));
        HOLDS(NS(read_once.st_mtim) == NS(written.st_mtim));
        sleep_ms(20);
        SET_UP(pread(fd, &number, 4, 64) == 4 && pread(other, &number, 4, 64) == 4);
        HOLDS(NS(status_of(fd).st_atim) == NS(read_once.st_atim));
        write_numbers(fd, 0, OFTEN);
        sleep_ms(20);
        written = status_of(other);
        struct iovec vector = {&number, 4};
        SET_UP(preadv(fd, &vector, 1, 0) == 4);
        read_once = status_of(other);
        HOLDS(NS(read_once.st_atim) > NS(written.st_mtim));
        sleep_ms(20);
        SET_UP(pread(fd, &number, 4, 64) == 4);
        HOLDS(NS(status_of(fd).st_atim) == NS(read_once.st_atim));
    }
}

TEST(a_read_of_another_process_is_noted_after_a_write) {
    int fd = filled("f", 'x');
    int gate[2], back[2];
    char byte = 0;
    SET_UP(pipe(gate) == 0 && pipe(back) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        int own = open("f", O_RDONLY);
        close(gate[1]);
        while (read(gate[0], &byte, 1) == 1) {
            uint32_t number;
            for (int i = 0; i < OFTEN; i++)
                if (pread(own, &number, 4, i * 64) != 4)
                    _exit(1);
            write(back[1], &byte, 1);
        }
        _exit(0);
    }
    close(gate[0]);
    for (int round = 0; round < 4; round++) {
        write_numbers(fd, (uint32_t)round, OFTEN);
        sleep_ms(20);
        SET_UP(write(gate[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1);
        struct stat status = status_of(fd);
        HOLDS(NS(status.st_atim) > NS(status.st_mtim));
    }
    close(gate[1]);
    show_end("child", child);
}

TEST(times_that_are_set_stay_until_the_next_write) {
    int fd = filled("f", 'x');
    struct timespec past[2] = {{1000, 5}, {2000, 7}}, future[2] = {{1L << 33, 0}, {1L << 33, 0}};
    uint32_t number = 1;
    for (int round = 0; round < 3; round++) {
        write_numbers(fd, 0, OFTEN);
        SET_UP(futimens(fd, past) == 0);
        struct stat status = status_of(fd);
        say("%ld %ld", (long)status.st_atim.tv_sec, (long)status.st_mtim.tv_sec);
        SET_UP(pwrite(fd, &number, 4, 0) == 4);
        HOLDS(status_of(fd).st_mtim.tv_sec > 2000);
        SET_UP(futimens(fd, future) == 0);
        HOLDS(status_of(fd).st_mtim.tv_sec == 1L << 33);
        write_numbers(fd, 0, OFTEN);
        HOLDS(status_of(fd).st_mtim.tv_sec < 1L << 33);
    }
}

TEST(the_times_outlive_who_wrote) {
    int fd = filled("f", 'x');
    struct stat before = status_of(fd);
    sleep_ms(20);
    pid_t child = fork_child();
    if (child == 0) {
        int own = open("f", O_RDWR);
        write_numbers(own, 0, OFTEN);
        sleep_ms(20);
        write_numbers(own, 5, 1);
        _exit(0);
    }
    show_end("child", child);
    HOLDS(NS(status_of(fd).st_mtim) > NS(before.st_mtim) + 20000000);
    sleep_ms(20);
    int own = open("f", O_RDWR);
    write_numbers(own, 0, OFTEN);
    sleep_ms(20);
    write_numbers(own, 5, 1);
    SET_UP(close(own) == 0);
    HOLDS(NS(status_of(fd).st_mtim) > NS(before.st_mtim) + 60000000);
}

TEST(an_appending_descriptor_appends) {
    int fd = filled("f", 'x');
    write_numbers(fd, 0, OFTEN);
    CALL(fcntl(fd, F_SETFL, O_APPEND));
    CALL(pwrite(fd, "abc", 3, 0));
    say("size %ld", file_size("f"));
    CALL(fcntl(fd, F_SETFL, 0));
    write_numbers(fd, 0, OFTEN);
    CALL(pwrite(fd, "abc", 3, 0));
    say("size %ld", file_size("f"));
}

static void told(int number) {
    (void)number;
}

TEST(a_limit_of_the_size_is_obeyed_at_once) {
    int fd = filled("f", 'x');
    write_numbers(fd, 0, OFTEN);
    struct rlimit limit = {1000, RLIM_INFINITY};
    SET_UP(signal(SIGXFSZ, told) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CALL(pwrite(fd, "abc", 3, 900));
    CALL(pwrite(fd, "abc", 3, 998));
    CALL(pwrite(fd, "abc", 3, 1000));
    CALL(pwrite(fd, "abc", 3, PAGE));
    limit.rlim_cur = RLIM_INFINITY;
    SET_UP(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    CALL(pwrite(fd, "abc", 3, PAGE));
}

ROOT_TEST(a_write_takes_set_id_bits_away) {
    int fd = filled("f", 'x');
    SET_UP(fchown(fd, NOBODY, NOBODY) == 0 && close(fd) == 0 && chmod(".", 0777) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
        fd = open("f", O_RDWR);
        SET_UP(fd >= 0);
        for (int round = 0; round < 3; round++) {
            say("wrong: %d", write_numbers(fd, 0, OFTEN));
            CALL(fchmod(fd, 06755));
            CALL(pwrite(fd, "abc", 3, 0));
            say("mode %o", status_of(fd).st_mode);
        }
        _exit(0);
    }
    show_end("child", child);
}

TEST(a_watch_hears_of_the_next_write) {
    int fd = filled("f", 'x'), watch = inotify_init1(IN_NONBLOCK);
    write_numbers(fd, 0, OFTEN);
    CALL_OK(inotify_add_watch(watch, "f", IN_MODIFY));
    CALL(pwrite(fd, "abc", 3, 0));
    char events[256];
    CALL(read(watch, events, sizeof events));
    CALL(read(watch, events, sizeof events));
    write_numbers(fd, 0, OFTEN);
    CALL_OK(read(watch, events, sizeof events));
}

TEST(a_sealed_memory_file_is_not_written) {
    int fd = memfd_create("m", MFD_ALLOW_SEALING);
    char page[PAGE];
    memset(page, 'x', sizeof page);
    for (int i = 0; i < 4; i++)
        SET_UP(write(fd, page, PAGE) == PAGE);
    say("wrong: %d", write_numbers(fd, 0, OFTEN));
    CALL(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
    CALL(pwrite(fd, "abc", 3, 0));
    say("wrong: %d", wrong_numbers(fd, 0, OFTEN));
}

TEST(what_may_only_be_read_is_not_written) {
    int fd = filled("f", 'x'), reader = open("f", O_RDONLY);
    say("wrong: %d", write_numbers(fd, 0, OFTEN));
    say("wrong: %d", wrong_numbers(reader, 0, OFTEN));
    CALL(pwrite(reader, "abc", 3, 0));
    SET_UP(dup2(reader, fd) == fd);
    CALL(pwrite(fd, "abc", 3, 0));
    CALL(close(fd));
    CALL(pwrite(fd, "abc", 3, 0));
}

TEST(a_hole_is_read_as_zeros_and_written_where_it_is) {
    int fd = open("f", O_RDWR | O_CREAT, 0644), wrong = 0;
    SET_UP(ftruncate(fd, 64 * PAGE) == 0);
    char page[PAGE];
    for (int i = 0; i < OFTEN; i++) {
        SET_UP(pread(fd, page, PAGE, (i % 64) * PAGE) == PAGE);
        for (size_t at = 0; at < PAGE; at++)
            wrong += page[at] != 0;
    }
    say("wrong: %d", wrong);
    say("blocks %ld", (long)status_of(fd).st_blocks);
    for (int i = 0; i < OFTEN; i++)
        SET_UP(pwrite(fd, "abc", 3, 10 * PAGE + i) == 3);
    CALL(pread(fd, page, 8, 10 * PAGE + OFTEN - 2));
    show_bytes("page", page, 8);
    CALL(pread(fd, page, 8, 11 * PAGE - 4));
    show_bytes("page", page, 8);
    CALL(pread(fd, page, PAGE, 64 * PAGE - 10));
    CALL(pread(fd, page, PAGE, 64 * PAGE));
}

/* ---- several threads ---- */

static int first_file;
static volatile int stop;

static void *write_first(void *arg) {
    static char page[PAGE];
    memset(page, 'A', sizeof page);
    long *count = arg;
    while (!stop) {
        for (unsigned i = 0; i < SIZE / PAGE; i++)
            pwrite(first_file, page, PAGE, i * PAGE);
        ++*count;
    }
    return NULL;
}

/* One thread writes a file without a pause; its descriptor goes, and others come in the same places: they must never be hit. */
TEST(no_write_goes_to_another_file) {
    static char page[PAGE];
    int wrong = 0, nothing = open("/dev/null", O_RDONLY);
    for (int round = 0; round < 20; round++) {
        pthread_t thread;
        long count = 0;
        first_file = filled("first", 'a');
        stop = 0;
        SET_UP(pthread_create(&thread, NULL, write_first, &count) == 0);
        while (*(volatile long *)&count < 2)
            sched_yield();
        /* The number stays taken, so that the thread never means another file. */
        SET_UP(dup2(nothing, first_file) == first_file);
        for (int i = 0; i < 4; i++) {
            int fd = filled("other", 'b');
            for (unsigned at = 0; at < OFTEN; at++) {
                memset(page, 'B', sizeof page);
                SET_UP(pwrite(fd, page, PAGE, at % (SIZE / PAGE) * PAGE) == (ssize_t)PAGE);
            }
            for (unsigned at = 0; at < SIZE / PAGE; at++) {
                SET_UP(pread(fd, page, PAGE, at * PAGE) == (ssize_t)PAGE);
                for (size_t byte = 0; byte < PAGE; byte++)
                    wrong += page[byte] != 'B';
            }
            close(fd);
        }
        stop = 1;
        pthread_join(thread, NULL);
        close(first_file);
    }
    say("wrong: %d", wrong);
}
