/*
 * Files on a disk that are held open, written, synced and read back with checksums, whatever becomes of the disk's driver and the file
 * server meanwhile.
 *
 *     held_files DIRECTORY WORKERS SECONDS    until the time is over, or a file DIRECTORY/stop is there
 *
 * Each worker holds files open. Again and again it writes a page of one somewhere, sometimes a name, syncs, and reads pages: those in the
 * cache, and those that it had dropped from there (`posix_fadvise`) and so come from the disk. What a page must be it knows by itself.
 * The parent prints a line each half second:
 *
 *     held: ROUNDS rounds, longest wait MS ms
 *
 * where the wait is that of one call since the last line, with lines of text that can be checked before it (`line NUMBER: …`); and at the
 * end how many calls took longer than 10 ms, and how long those did, and `held: over, ERRORS errors`. All calls must succeed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORKERS 16
#define FILES 3
#define PAGES 64
#define PAGE 4096

/* A wait is a call that takes longer than this. */
#define WAIT_US 10000
#define MAX_WAITS (1 << 16)
/* Lines of text before each that tells of the rounds. */
#define LINES 20

/* What workers tell their parent. */
struct told {
    volatile uint64_t rounds;
    volatile uint64_t longest_us;
    volatile uint64_t errors;
    volatile uint64_t waits;
    volatile uint32_t wait_us[MAX_WAITS];
};

static struct told *told;

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000ull + now.tv_nsec / 1000;
}

static uint64_t mixed(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ (x >> 33);
}

struct worker {
    unsigned number;
    struct told *told;
    uint64_t random;
    int file[FILES];
    /* How often each page was written: 0 for never. */
    uint64_t version[FILES][PAGES];
    uint64_t names;
};

static uint64_t chance(struct worker *worker, uint64_t below) {
    worker->random = mixed(worker->random + 0x9e3779b97f4a7c15ULL);
    return worker->random % below;
}

static void complain(struct worker *worker, const char *what) {
    fprintf(stderr, "held: worker %u: %s: %s\n", worker->number, what, strerror(errno));
    worker->told->errors++;
}

/* Notes how long a call took that began then. */
static void took(struct worker *worker, uint64_t since_us) {
    uint64_t us = now_us() - since_us;
    if (us > worker->told->longest_us)
        worker->told->longest_us = us;
    if (us > WAIT_US && worker->told->waits < MAX_WAITS)
        worker->told->wait_us[worker->told->waits++] = us;
}

static void make_page(struct worker *worker, unsigned file, unsigned page, uint64_t *to) {
    uint64_t version = worker->version[file][page];
    for (unsigned i = 0; i < PAGE / 8; i++)
        to[i] = version ? mixed((uint64_t)worker->number << 56 | (uint64_t)file << 48 | (uint64_t)page << 40 | version) + i : 0;
}

static void write_page(struct worker *worker) {
    uint64_t bytes[PAGE / 8];
    unsigned file = chance(worker, FILES), page = chance(worker, PAGES);
    worker->version[file][page]++;
    make_page(worker, file, page, bytes);
    uint64_t since = now_us();
    if (pwrite(worker->file[file], bytes, PAGE, (off_t)page * PAGE) != PAGE)
        complain(worker, "pwrite");
    took(worker, since);
    if (chance(worker, 4) == 0) {
        since = now_us();
        if (fsync(worker->file[file]))
            complain(worker, "fsync");
        took(worker, since);
        if (posix_fadvise(worker->file[file], 0, 0, POSIX_FADV_DONTNEED))
            complain(worker, "posix_fadvise");
    }
}

static void read_page(struct worker *worker) {
    uint64_t bytes[PAGE / 8], expected[PAGE / 8];
    unsigned file = chance(worker, FILES), page = chance(worker, PAGES);
    make_page(worker, file, page, expected);
    uint64_t since = now_us();
    if (pread(worker->file[file], bytes, PAGE, (off_t)page * PAGE) != PAGE)
        complain(worker, "pread");
    else if (memcmp(bytes, expected, PAGE))
        errno = EILSEQ, complain(worker, "a page is not what it was");
    took(worker, since);
}

/* A new name takes the place of the one before. */
static void change_names(struct worker *worker) {
    char old[64], new[64];
    snprintf(old, sizeof old, "w%u/n%llu", worker->number, (unsigned long long)worker->names);
    snprintf(new, sizeof new, "w%u/n%llu", worker->number, (unsigned long long)++worker->names);
    uint64_t since = now_us();
    if (rename(old, new))
        complain(worker, "rename");
    struct stat status;
    if (stat(new, &status) || stat(old, &status) == 0)
        complain(worker, "stat after rename");
    took(worker, since);
}

static void open_files(struct worker *worker) {
    char name[64];
    snprintf(name, sizeof name, "w%u", worker->number);
    if (mkdir(name, 0755) && errno != EEXIST)
        complain(worker, "mkdir");
    for (unsigned i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "w%u/f%u", worker->number, i);
        worker->file[i] = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
        if (worker->file[i] < 0 || ftruncate(worker->file[i], PAGES * PAGE))
            complain(worker, "open");
    }
    snprintf(name, sizeof name, "w%u/n0", worker->number);
    int names = open(name, O_WRONLY | O_CREAT, 0644);
    if (names < 0 || close(names))
        complain(worker, "open a name");
}

static _Noreturn void work(struct worker *worker, uint64_t end_us) {
    open_files(worker);
    while (now_us() < end_us && access("stop", F_OK)) {
        for (unsigned i = 0; i < 3; i++)
            read_page(worker);
        write_page(worker);
        if (chance(worker, 8) == 0)
            change_names(worker);
        worker->told->rounds++;
    }
    for (unsigned i = 0; i < FILES; i++)
        if (fsync(worker->file[i]) || posix_fadvise(worker->file[i], 0, 0, POSIX_FADV_DONTNEED))
            complain(worker, "the last fsync");
    for (unsigned i = 0; i < 4 * FILES * PAGES; i++)
        read_page(worker);
    _exit(0);
}

static int compare(const void *one, const void *other) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static void tell_waits(unsigned workers) {
    static uint32_t all[MAX_WORKERS * MAX_WAITS];
    size_t count = 0;
    for (unsigned i = 0; i < workers; i++)
        for (uint64_t wait = 0; wait < told[i].waits; wait++)
            all[count++] = told[i].wait_us[wait];
    qsort(all, count, sizeof all[0], compare);
    if (count)
        printf("held: %zu calls took longer than 10 ms: median %u ms, p99 %u ms, longest %u ms\n", count, all[count / 2] / 1000,
               all[count * 99 / 100] / 1000, all[count - 1] / 1000);
}

/* Lines that whoever reads them can check: a number, and letters that follow from it. */
static void tell_lines(void) {
    static unsigned number;
    for (unsigned i = 0; i < LINES; i++, number++) {
        char text[61];
        for (unsigned j = 0; j < sizeof text - 1; j++)
            text[j] = 'a' + (number * 7 + j) % 26;
        text[sizeof text - 1] = 0;
        printf("line %u: %s\n", number, text);
    }
}

static void tell(unsigned workers) {
    uint64_t rounds = 0, longest_us = 0;
    tell_lines();
    for (unsigned i = 0; i < workers; i++) {
        rounds += told[i].rounds;
        if (told[i].longest_us > longest_us)
            longest_us = told[i].longest_us;
        told[i].longest_us = 0;
    }
    printf("held: %llu rounds, longest wait %llu ms\n", (unsigned long long)rounds, (unsigned long long)longest_us / 1000);
    fflush(stdout);
}

int main(int argc, char **argv) {
    unsigned workers = argc == 4 ? atoi(argv[2]) : 0;
    if (workers == 0 || workers > MAX_WORKERS || chdir(argv[1])) {
        fprintf(stderr, "held_files DIRECTORY WORKERS SECONDS\n");
        return 2;
    }
    told = mmap(NULL, sizeof *told * MAX_WORKERS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t end_us = now_us() + atoll(argv[3]) * 1000000ull;
    unlink("stop");
    for (unsigned i = 0; i < workers; i++)
        if (fork() == 0) {
            struct worker worker = {.number = i, .told = &told[i], .random = i};
            work(&worker, end_us);
        }
    unsigned living = workers, dead = 0;
    for (unsigned tick = 1; living; tick++) {
        int status;
        while (living && waitpid(-1, &status, WNOHANG) > 0) {
            living--;
            dead += status != 0;
        }
        usleep(20000);
        if (tick % 25 == 0)
            tell(workers);
    }
    uint64_t errors = dead;
    for (unsigned i = 0; i < workers; i++)
        errors += told[i].errors;
    tell_waits(workers);
    printf("held: over, %llu errors\n", (unsigned long long)errors);
    return errors != 0;
}
