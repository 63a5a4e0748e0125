/*
 * Reads and writes of 4 KiB on a file system on a disk; prints what one takes, as `ub` does.
 *
 *     disk DIRECTORY [NAME..]
 *
 * The directory has two files that nobody has read since the system started, `sequential` and `random`; whoever reads them first reads
 * from the disk. What is read the second time is in memory. Writes are followed by an fsync that counts too, but for those to what is
 * in memory already.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096L
/* How much is written, in blocks. */
#define WRITTEN 4096L
/* How many blocks are written and synced one by one. */
#define SYNCED 64L

static char buffer[BLOCK];

static _Noreturn void die(const char *what) {
    printf("UBERR %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec time;
    if (clock_gettime(CLOCK_MONOTONIC, &time))
        die("clock_gettime");
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void tell(const char *name, long count, uint64_t elapsed_ns) {
    printf("UB %-12s n=%ld ns_min=%.3f\n", name, count, (double)elapsed_ns / (double)count);
    fflush(stdout);
}

static int open_file(const char *name, int flags) {
    int file = open(name, flags, 0644);
    if (file < 0)
        die(name);
    return file;
}

static long blocks_of(int file) {
    struct stat status;
    if (fstat(file, &status))
        die("fstat");
    return status.st_size / BLOCK;
}

/* Block number `index` of `count` in an order that visits each once; `count` is a power of two. */
static long place(long index, long count, int at_random) {
    return at_random ? (index * 2654435761L + 12345) & (count - 1) : index;
}

static void read_all(const char *file_name, const char *name, long count, int at_random) {
    int file = open_file(file_name, O_RDONLY);
    if (blocks_of(file) < count)
        die(file_name);
    uint64_t start = now_ns();
    for (long index = 0; index < count; index++)
        if (pread(file, buffer, BLOCK, place(index, count, at_random) * BLOCK) != BLOCK)
            die(name);
    tell(name, count, now_ns() - start);
    close(file);
}

enum sync { SYNC_AT_END, SYNC_EACH, NO_SYNC };

static void write_all(const char *name, long count, int at_random, enum sync sync) {
    int file = open_file("written", O_RDWR | O_CREAT);
    uint64_t start = now_ns();
    for (long index = 0; index < count; index++) {
        memcpy(buffer, &index, sizeof index);
        if (pwrite(file, buffer, BLOCK, place(index, count, at_random) * BLOCK) != BLOCK)
            die(name);
        if (sync == SYNC_EACH && fsync(file))
            die("fsync");
    }
    if (sync == SYNC_AT_END && fsync(file))
        die("fsync");
    tell(name, count, now_ns() - start);
    close(file);
}

int main(int argc, char **argv) {
    const long count = 8192;
    if (argc < 2 || chdir(argv[1]))
        die("the directory");
    memset(buffer, 'x', sizeof buffer);
    read_all("sequential", "seqread", count, 0);
    read_all("random", "randread", count, 1);
    read_all("sequential", "seqcached", count, 0);
    read_all("random", "randcached", count, 1);
    write_all("seqwrite", WRITTEN, 0, SYNC_AT_END);
    write_all("seqrewrite", WRITTEN, 0, SYNC_AT_END);
    write_all("randwrite", WRITTEN, 1, SYNC_AT_END);
    write_all("cachedwrite", WRITTEN, 1, NO_SYNC);
    write_all("syncwrite", SYNCED, 0, SYNC_EACH);
    if (unlink("written"))
        die("unlink");
    return 0;
}
