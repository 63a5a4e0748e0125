/*
 * More pages in use than fit into memory, for a while, by several processes at once; each finds in every page what it stored last.
 *
 *     working_set DIRECTORY FILE_MIB ANONYMOUS_MIB SECONDS WORKERS
 *
 * The sizes are those of all workers together. Each has a file in the directory and private memory of its own. Half of the workers use
 * their files by mapping them, half by pread and pwrite. Every sector of a page bears a stamp of whose page it is, where it belongs
 * and how often it was stored to, so that a page or a part of one that is lost, old, or in the wrong place is seen.
 *
 * When all have ended, what is free must be what was free before, about; and hardly a page must be left in swap: those of programs that
 * were there before, and wait for this one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define SECTOR 512UL
#define STAMPS (PAGE / SECTOR)
/* How much may be missing in the end: what the system remembers of files that it has seen, in KiB. */
#define MAY_BE_MISSING 6144L
#define MAY_BE_SWAPPED 4096L

struct stamp {
    uint64_t where;
    uint64_t sum;
};

enum kind { ANONYMOUS, FILE_PAGES };

static unsigned worker;

static _Noreturn void die(const char *what) {
    fprintf(stderr, "working_set: worker %u: %s: %s\n", worker, what, strerror(errno));
    _exit(2);
}

static uint64_t mixed(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ (x >> 33);
}

static uint64_t chance = 1;

static uint64_t random_below(uint64_t end) {
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return chance % end;
}

static struct stamp make_stamp(enum kind kind, uint64_t page, unsigned generation, unsigned sector) {
    uint64_t where = (uint64_t)worker << 56 | (uint64_t)kind << 52 | page << 16 | (uint64_t)sector << 8 | generation;
    return (struct stamp){where, mixed(where + 1)};
}

static void stamp_page(void *bytes, enum kind kind, uint64_t page, unsigned generation) {
    for (unsigned sector = 0; sector < STAMPS; sector++) {
        struct stamp stamp = make_stamp(kind, page, generation, sector);
        memcpy((char *)bytes + sector * SECTOR, &stamp, sizeof stamp);
    }
}

static void check_page(const void *bytes, enum kind kind, uint64_t page, unsigned generation) {
    for (unsigned sector = 0; sector < STAMPS; sector++) {
        struct stamp found, right = make_stamp(kind, page, generation, sector);
        memcpy(&found, (const char *)bytes + sector * SECTOR, sizeof found);
        if (!memcmp(&found, &right, sizeof found))
            continue;
        fprintf(stderr, "working_set: worker %u, %s page %lu, sector %u: stamp %lx (sum %lx) instead of %lx\n", worker,
                kind == FILE_PAGES ? "file" : "anonymous", page, sector, found.where, found.sum, right.where);
        _exit(1);
    }
}

/* The pages of one kind that a worker has. */
struct set {
    enum kind kind;
    uint64_t pages;
    /* Where they are mapped, or the file that is read and written. */
    char *memory;
    int file;
    /* How often each was stored to. */
    unsigned char *generations;
};

static void visit(struct set *set, uint64_t page, int store) {
    char buffer[PAGE], *bytes = buffer;
    off_t place = (off_t)(page * PAGE);
    if (set->memory)
        bytes = set->memory + place;
    else if (pread(set->file, buffer, PAGE, place) != (ssize_t)PAGE)
        die("pread");
    check_page(bytes, set->kind, page, set->generations[page]);
    if (!store)
        return;
    stamp_page(bytes, set->kind, page, ++set->generations[page]);
    if (!set->memory && pwrite(set->file, buffer, PAGE, place) != (ssize_t)PAGE)
        die("pwrite");
}

static void *new_memory(uint64_t bytes) {
    void *memory = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    return memory;
}

static struct set anonymous_set(uint64_t pages) {
    struct set set = {ANONYMOUS, pages, new_memory(pages * PAGE), -1, new_memory(pages)};
    for (uint64_t page = 0; page < pages; page++)
        stamp_page(set.memory + page * PAGE, ANONYMOUS, page, 0);
    return set;
}

static struct set file_set(const char *directory, uint64_t pages, int mapped) {
    char name[256], buffer[PAGE] = {0};
    snprintf(name, sizeof name, "%s/working_set.%u", directory, worker);
    struct set set = {FILE_PAGES, pages, NULL, open(name, O_RDWR | O_CREAT | O_TRUNC, 0600), new_memory(pages)};
    if (set.file < 0)
        die(name);
    for (uint64_t page = 0; page < pages; page++) {
        stamp_page(buffer, FILE_PAGES, page, 0);
        if (write(set.file, buffer, PAGE) != (ssize_t)PAGE)
            die("write");
    }
    if (mapped && pages) {
        set.memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, set.file, 0);
        if (set.memory == MAP_FAILED)
            die("mmap of the file");
    }
    if (unlink(name))
        die(name);
    return set;
}

/* Runs through a part of a set, or jumps about in it. */
static uint64_t work_on(struct set *set) {
    uint64_t visits = 64;
    if (!set->pages)
        return 0;
    uint64_t page = random_below(set->pages);
    int in_order = random_below(4) == 0;
    for (uint64_t visit_number = 0; visit_number < visits; visit_number++) {
        visit(set, page, random_below(2) == 0);
        page = in_order ? (page + 1) % set->pages : random_below(set->pages);
    }
    return visits;
}

static int work(const char *directory, uint64_t file_pages, uint64_t anonymous_pages, time_t seconds) {
    chance = mixed(worker + 1) | 1;
    struct set anonymous = anonymous_set(anonymous_pages), file = file_set(directory, file_pages, worker % 2 == 0);
    time_t end = time(NULL) + seconds;
    uint64_t visits = 0;
    while (time(NULL) < end) {
        visits += work_on(&anonymous);
        visits += work_on(&file);
    }
    for (uint64_t page = 0; page < anonymous.pages; page++)
        visit(&anonymous, page, 0);
    for (uint64_t page = 0; page < file.pages; page++)
        visit(&file, page, 0);
    printf("worker %u: %lu visits, all pages right\n", worker, visits);
    fflush(stdout);
    return 0;
}

/* A number of /proc/meminfo, in KiB. */
static long memory_of(const char *name) {
    char line[128];
    long value = -1;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)))
            value = atol(line + strlen(name));
    if (file)
        fclose(file);
    return value;
}

static int run_workers(const char *directory, uint64_t file_pages, uint64_t anonymous_pages, time_t seconds, unsigned workers) {
    for (worker = 0; worker < workers; worker++) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0)
            _exit(work(directory, file_pages / workers, anonymous_pages / workers, seconds));
    }
    int status, worst = 0;
    pid_t child;
    while ((child = wait(&status)) > 0)
        if (status) {
            fprintf(stderr, "working_set: process %d ended with status %#x\n", (int)child, status);
            worst = 1;
        }
    return worst;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "working_set DIRECTORY FILE_MIB ANONYMOUS_MIB SECONDS WORKERS\n");
        return 2;
    }
    uint64_t file_pages = strtoull(argv[2], NULL, 10) << 8, anonymous_pages = strtoull(argv[3], NULL, 10) << 8;
    unsigned workers = (unsigned)atoi(argv[5]);
    /* What the system makes once for all is there then. */
    if (run_workers(argv[1], workers * 16, workers * 16, 1, workers))
        return 1;
    long before = memory_of("MemAvailable:");
    if (run_workers(argv[1], file_pages, anonymous_pages, atol(argv[4]), workers))
        return 1;
    long after = memory_of("MemAvailable:"), swapped = memory_of("SwapTotal:") - memory_of("SwapFree:");
    printf("available: %ld KiB before, %ld KiB after; %ld KiB in swap\n", before, after, swapped);
    return before - after > MAY_BE_MISSING || swapped > MAY_BE_SWAPPED;
}
