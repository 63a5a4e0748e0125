/* Reads that are repeated often enough for a process to serve them itself: what they give must not change by that. */
#include "case.h"

#include <pthread.h>
#include <sys/time.h>

/* `linux/futex.h`, which not every C library brings along. */
enum { FUTEX_WAIT = 0, FUTEX_WAIT_PRIVATE = 128 };

#define RECORDS 4096
#define OFTEN 40

/* A file of numbers: record i holds i. */
static int numbers(const char *path, int flags) {
    static uint32_t content[RECORDS];
    for (uint32_t i = 0; i < RECORDS; i++)
        content[i] = i;
    make_file(path, content, sizeof content);
    int fd = open(path, flags);
    SET_UP(fd >= 0);
    return fd;
}

/* Reads `count` records one by one; how many were not the expected ones. */
static int wrong_records(int fd, uint32_t first, int count) {
    int wrong = 0;
    for (int i = 0; i < count; i++) {
        uint32_t record = ~0u;
        wrong += read(fd, &record, sizeof record) != sizeof record || record != first + (uint32_t)i;
    }
    return wrong;
}

TEST(many_reads_follow_each_other) {
    int fd = numbers("f", O_RDONLY);
    say("wrong: %d", wrong_records(fd, 0, RECORDS));
    uint32_t record;
    CALL(read(fd, &record, sizeof record));
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(lseek(fd, -8, SEEK_END));
    say("wrong: %d", wrong_records(fd, RECORDS - 2, 2));
    CALL(lseek(fd, 10, SEEK_END));
    CALL(read(fd, &record, sizeof record));
    CALL(lseek(fd, -1, SEEK_SET));
    CALL(lseek(fd, -100000, SEEK_CUR));
    CALL(lseek(fd, 0, 77));
    CALL(lseek(fd, INT64_MAX, SEEK_CUR));
    CALL(lseek(fd, 100, SEEK_SET));
    say("wrong: %d", wrong_records(fd, 25, OFTEN));
    CALL(read(fd, &record, 0));
    CALL(read(fd, BAD_ADDRESS, 4));
    CALL(lseek(fd, 0, SEEK_CUR));
}

TEST(many_reads_at_offsets) {
    int fd = numbers("f", O_RDONLY), wrong = 0;
    for (int i = 0; i < OFTEN; i++) {
        uint32_t record;
        wrong += pread(fd, &record, 4, i * 40) != 4 || record != (uint32_t)i * 10;
    }
    say("wrong: %d", wrong);
    char bytes[64];
    CALL(pread(fd, bytes, 64, RECORDS * 4 - 10));
    CALL(pread(fd, bytes, 64, RECORDS * 4));
    CALL(pread(fd, bytes, 64, 1L << 40));
    CALL(pread(fd, bytes, 64, -1));
    CALL(pread(fd, bytes, 64, INT64_MAX));
    CALL(pread(fd, BAD_ADDRESS, 64, 0));
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(close(fd));
    CALL(pread(fd, bytes, 64, 0));
    CALL(read(fd, bytes, 64));
}

TEST(a_fork_and_a_dup_share_the_position) {
    int fd = numbers("f", O_RDONLY);
    say("wrong: %d", wrong_records(fd, 0, OFTEN));
    pid_t child = fork_child();
    if (child == 0)
        _exit(wrong_records(fd, OFTEN, OFTEN));
    show_end("child", child);
    say("wrong: %d", wrong_records(fd, 2 * OFTEN, OFTEN));
    int copy = dup(fd);
    say("wrong: %d", wrong_records(copy, 3 * OFTEN, OFTEN));
    say("wrong: %d", wrong_records(fd, 4 * OFTEN, OFTEN));
    CALL(close(fd));
    say("wrong: %d", wrong_records(copy, 5 * OFTEN, OFTEN));
}

int child_main(int argc, char **argv) {
    (void)argc, (void)argv;
    return wrong_records(7, OFTEN, OFTEN);
}

TEST(the_position_survives_an_exec) {
    int fd = numbers("f", O_RDONLY);
    SET_UP(dup2(fd, 7) == 7);
    say("wrong: %d", wrong_records(7, 0, OFTEN));
    pid_t child = fork_child();
    if (child == 0) {
        execl(own_path(), "child", "--child", NULL);
        _exit(99);
    }
    show_end("child", child);
    say("wrong: %d", wrong_records(7, 2 * OFTEN, OFTEN));
}

TEST(a_change_of_size_is_seen_by_the_next_read) {
    int fd = numbers("f", O_RDWR);
    uint32_t record = 0;
    for (int round = 0; round < 3; round++) {
        SET_UP(lseek(fd, 0, SEEK_SET) == 0);
        say("wrong: %d", wrong_records(fd, 0, OFTEN));
        CALL(ftruncate(fd, OFTEN * 4 + 2));
        CALL(read(fd, &record, 4));
        CALL(read(fd, &record, 4));
        CALL(pread(fd, &record, 4, 8192));
        CALL(ftruncate(fd, RECORDS * 4));
        CALL(pread(fd, &record, 4, 8192));
        say("record %u", record);
        SET_UP(close(fd) == 0);
        fd = numbers("f", O_RDWR);
    }
    say("wrong: %d", wrong_records(fd, 0, OFTEN));
    record = 77777;
    CALL(pwrite(fd, &record, 4, OFTEN * 4));
    CALL(read(fd, &record, 4));
    say("record %u", record);
    CALL(write(fd, "abcd", 4));
    say("wrong: %d", wrong_records(fd, OFTEN + 2, OFTEN));
}

TEST(a_descriptor_that_names_another_file_reads_that) {
    int fd = numbers("f", O_RDONLY);
    make_text("g", "another file that is a bit longer than a record");
    say("wrong: %d", wrong_records(fd, 0, OFTEN));
    int other = open("g", O_RDONLY);
    SET_UP(dup2(other, fd) == fd);
    char bytes[8] = "";
    CALL(read(fd, bytes, 7));
    say("%s", bytes);
    SET_UP(close(fd) == 0 && open("f", O_WRONLY) == fd);
    CALL(read(fd, bytes, 7));
    CALL(pread(fd, bytes, 7, 0));
}

TEST(a_read_into_the_end_of_memory_is_cut) {
    int fd = numbers("f", O_RDONLY);
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(pages != MAP_FAILED && munmap(pages + PAGE, PAGE) == 0);
    say("wrong: %d", wrong_records(fd, 0, OFTEN));
    CALL(pread(fd, pages + PAGE, 8, 0));
    CALL(read(fd, pages + PAGE, 8));
    CALL(lseek(fd, 0, SEEK_CUR));
    SET_UP(mprotect(pages, PAGE, PROT_READ) == 0);
    CALL(read(fd, pages, 8));
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(wrong_records(fd, OFTEN, OFTEN));
}

static int shared_fd;
static unsigned char seen[RECORDS];

static void *read_records(void *unused) {
    uint32_t record;
    while (read(shared_fd, &record, 4) == 4)
        __atomic_fetch_add(&seen[record % RECORDS], 1, __ATOMIC_SEQ_CST);
    return unused;
}

TEST(threads_that_read_one_file_get_each_record_once) {
    shared_fd = numbers("f", O_RDONLY);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        SET_UP(pthread_create(&threads[i], NULL, read_records, NULL) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    int once = 0;
    for (int i = 0; i < RECORDS; i++)
        once += seen[i] == 1;
    say("once: %d of %d", once, RECORDS);
}

static volatile int interruptions;

static void count_interruption(int number) {
    (void)number;
    interruptions++;
}

TEST(signals_between_reads_lose_nothing) {
    int fd = numbers("f", O_RDONLY), wrong = 0;
    handle(SIGALRM, count_interruption, SA_RESTART);
    // Not so often that a slow machine does nothing else.
    struct itimerval often = {{0, 10000}, {0, 10000}}, never = {{0, 0}, {0, 0}};
    SET_UP(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int round = 0; round < 200 || interruptions < 3; round++) {
        SET_UP(lseek(fd, 0, SEEK_SET) == 0);
        wrong += wrong_records(fd, 0, OFTEN);
    }
    SET_UP(setitimer(ITIMER_REAL, &never, NULL) == 0);
    say("wrong: %d", wrong);
}

TEST(null_and_zero_are_what_they_are_how_often_so_ever) {
    int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR), reader = open("/dev/null", O_RDONLY);
    SET_UP(null >= 0 && zero >= 0 && reader >= 0);
    static char bytes[5000];
    int wrong = 0;
    for (int i = 0; i < OFTEN; i++) {
        wrong += write(null, bytes, sizeof bytes) != sizeof bytes || write(zero, bytes, 3) != 3;
        memset(bytes, 'x', sizeof bytes);
        wrong += read(zero, bytes, sizeof bytes - 1) != sizeof bytes - 1 || bytes[0] || bytes[4998] || bytes[4999] != 'x';
        wrong += read(null, bytes, 10) != 0;
    }
    say("wrong: %d", wrong);
    CALL(write(null, NULL, 10));
    CALL(write(null, BAD_ADDRESS, 10));
    CALL(write(null, bytes, 1UL << 40));
    CALL(write(reader, bytes, 1));
    CALL(read(zero, NULL, 10));
    CALL(lseek(null, 100, SEEK_SET));
    CALL(close(null));
    CALL(write(null, bytes, 1));
}

TEST(the_access_time_follows_the_first_read_after_a_write) {
    int fd = numbers("f", O_RDWR);
    say("wrong: %d", wrong_records(fd, 0, OFTEN));
    struct stat before, after;
    uint32_t record = 0;
    sleep_ms(20);
    SET_UP(pwrite(fd, &record, 4, 0) == 4 && fstat(fd, &before) == 0);
    sleep_ms(20);
    SET_UP(pread(fd, &record, 4, 0) == 4 && fstat(fd, &after) == 0);
#define NS(time) ((time).tv_sec * 1000000000L + (time).tv_nsec)
    HOLDS(NS(after.st_atim) > NS(before.st_mtim));
    HOLDS(NS(after.st_mtim) == NS(before.st_mtim));
}

TEST(a_wait_at_a_word_that_has_changed_is_eagain) {
    static uint32_t word = 5;
    CALL(RAW(SYS_futex, &word, FUTEX_WAIT, 4, NULL));
    CALL(RAW(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 6, NULL));
    CALL(RAW(SYS_futex, (char *)&word + 1, FUTEX_WAIT_PRIVATE, 6, NULL));
    CALL(RAW(SYS_futex, BAD_ADDRESS, FUTEX_WAIT_PRIVATE, 6, NULL));
    CALL(RAW(SYS_futex, NULL_PAGE_ADDRESS, FUTEX_WAIT_PRIVATE, 6, NULL));
    struct timespec bad = {-1, 0};
    CALL(RAW(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 6, &bad));
}
