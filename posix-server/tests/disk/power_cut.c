/*
 * A load on a file system that says what must survive a power cut, and the check of what did.
 *
 *     power_cut load DIRECTORY WORKERS SECONDS    prints `done WORKER STEP` when all of a step has been synced
 *     power_cut verify DIRECTORY [zeros] < LINES  takes those lines; says what is missing or torn
 *
 * A step of a worker, all in a directory of its own: a new file is written and synced; `current` is replaced by rename; a record is
 * appended to `log`; an old file is removed; then the directory is synced. So when step N has been printed:
 * - the files of the last steps are there and whole, those of earlier ones are gone;
 * - `current` is that of step N or of a later one, and whole;
 * - `log` has N + 1 records or more, all of them whole.
 * What was not yet synced may be missing, but a file has no length without its bytes. Linux does not promise that much: with `zeros`, zeros
 * may be in their place; nothing else ever.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How many files a worker leaves behind it. */
#define KEPT 8
#define MAX_WORKERS 16
#define MAX_BYTES (96 << 10)

struct record {
    uint32_t worker;
    uint32_t step;
    uint64_t sum;
};

static unsigned char content[MAX_BYTES];
static unsigned char found[MAX_BYTES + 1];

static _Noreturn void die(const char *what) {
    fprintf(stderr, "power_cut: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t mixed(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ (x >> 33);
}

/* Fills `content` with what the file of a step has; gives its length. */
static size_t make_content(unsigned worker, unsigned step) {
    uint64_t state = mixed(((uint64_t)worker << 32 | step) + 1);
    size_t length = 1 + state % (step % 7 ? 6000 : MAX_BYTES - 1);
    for (size_t i = 0; i < length; i += 8) {
        state = mixed(state + i);
        memcpy(content + i, &state, length - i < 8 ? length - i : 8);
    }
    return length;
}

static struct record make_record(unsigned worker, unsigned step) {
    return (struct record){worker, step, mixed(((uint64_t)worker << 32 | step) ^ 0x5eed)};
}

static void store(const char *name, const void *bytes, size_t length, int flags) {
    int file = open(name, O_WRONLY | O_CREAT | flags, 0644);
    if (file < 0)
        die(name);
    for (size_t done = 0; done < length;) {
        ssize_t count = write(file, (const char *)bytes + done, length - done);
        if (count <= 0)
            die(name);
        done += (size_t)count;
    }
    if (fsync(file) || close(file))
        die(name);
}

static void file_name(char *name, unsigned step) { sprintf(name, "f%u", step); }

static void do_step(unsigned worker, unsigned step, int directory) {
    char name[32];
    size_t length = make_content(worker, step);
    file_name(name, step);
    store(name, content, length, O_EXCL);
    store("next", content, length, O_TRUNC);
    if (rename("next", "current"))
        die("rename");
    struct record record = make_record(worker, step);
    store("log", &record, sizeof record, O_APPEND);
    if (step >= KEPT) {
        file_name(name, step - KEPT);
        if (unlink(name))
            die(name);
    }
    if (fsync(directory))
        die("the directory");
    char line[64];
    int count = sprintf(line, "done %u %u\n", worker, step);
    if (write(1, line, (size_t)count) != count)
        die("standard output");
}

static void enter(const char *directory, unsigned worker) {
    char name[32];
    sprintf(name, "worker%u", worker);
    if (chdir(directory))
        die(directory);
    if (mkdir(name, 0755) && errno != EEXIST)
        die(name);
    int above = open(".", O_RDONLY | O_DIRECTORY);
    if (above < 0 || fsync(above) || chdir(name))
        die(name);
    close(above);
}

static int load(const char *directory, unsigned workers, unsigned seconds) {
    for (unsigned worker = 0; worker < workers; worker++) {
        pid_t child = fork();
        if (child < 0)
            die("fork");
        if (child == 0) {
            enter(directory, worker);
            int own = open(".", O_RDONLY | O_DIRECTORY);
            time_t end = time(NULL) + (time_t)seconds;
            for (unsigned step = 0; time(NULL) < end; step++)
                do_step(worker, step, own);
            _exit(0);
        }
    }
    int worst = 0, status;
    while (wait(&status) > 0)
        worst |= status;
    return worst != 0;
}

/* Reads a file into `found`; gives its length, or -1 if there is none. */
static ssize_t read_file(const char *name) {
    int file = open(name, O_RDONLY);
    if (file < 0)
        return -1;
    size_t length = 0;
    ssize_t count;
    while ((count = read(file, found + length, sizeof found - length)) > 0)
        length += (size_t)count;
    if (count < 0)
        die(name);
    close(file);
    return (ssize_t)length;
}

static int complaints;
/* Whether there may be zeros where nothing was synced. */
static int allows_zeros;

static void complain(unsigned worker, const char *what, long number) {
    printf("worker %u: %s %ld\n", worker, what, number);
    complaints++;
}

/* Whether what was found of a step is what was stored; says where it is not, and whether there are zeros. */
static void check_content(unsigned worker, unsigned step, size_t length, int is_synced) {
    size_t at = 0;
    while (at < length && found[at] == content[at])
        at++;
    if (at == length)
        return;
    size_t end = at;
    while (end < length && found[end] == 0)
        end++;
    if (allows_zeros && !is_synced && end == length)
        return;
    printf("worker %u: torn, %s: the file of step %u, %lu of %lu bytes: from %lu on, %lu zeros\n", worker,
           is_synced ? "though synced" : "not synced", step, length, make_content(worker, step), at, end - at);
    complaints++;
}

/* The file of a step; `must_be_whole` if it was synced. */
static void check_file(unsigned worker, unsigned step, int must_be_whole) {
    char name[32];
    file_name(name, step);
    ssize_t length = read_file(name);
    size_t whole = make_content(worker, step);
    if (length < 0) {
        if (must_be_whole)
            complain(worker, "missing: the file of step", step);
        return;
    }
    if (must_be_whole && (size_t)length != whole)
        complain(worker, "not whole: the file of step", step);
    else if ((size_t)length > whole)
        complain(worker, "too long: the file of step", step);
    else
        check_content(worker, step, (size_t)length, must_be_whole);
}

/* `current` is the whole file of some step that is not before `last` and at most a step after it. */
static void check_current(unsigned worker, long last) {
    ssize_t length = read_file("current");
    if (length < 0) {
        if (last >= 0)
            complain(worker, "missing: `current`, which was there in step", last);
        return;
    }
    for (long step = last < 0 ? 0 : last; step <= last + 1; step++) {
        size_t whole = make_content(worker, (unsigned)step);
        if ((size_t)length == whole && !memcmp(found, content, whole))
            return;
    }
    complain(worker, "torn or old: `current`, after step", last);
}

static void check_log(unsigned worker, long last) {
    FILE *log = fopen("log", "r");
    struct record record;
    long count = 0;
    size_t bytes = 0;
    while (log && (bytes = fread(&record, 1, sizeof record, log)) == sizeof record) {
        struct record right = make_record(worker, (unsigned)count);
        struct record none = {0};
        if (allows_zeros && count > last && !memcmp(&record, &none, sizeof record))
            break;
        if (memcmp(&record, &right, sizeof record)) {
            complain(worker, "torn: record", count);
            break;
        }
        count++;
    }
    if (bytes != 0 && bytes != sizeof record)
        complain(worker, "half a record after", count);
    if (log)
        fclose(log);
    if (count < last + 1)
        complain(worker, "missing: record", count);
}

static int verify(const char *directory) {
    long last[MAX_WORKERS], step;
    unsigned worker;
    for (worker = 0; worker < MAX_WORKERS; worker++)
        last[worker] = -1;
    while (scanf(" done %u %ld", &worker, &step) == 2)
        if (worker < MAX_WORKERS && last[worker] < step)
            last[worker] = step;
    if (chdir(directory))
        die(directory);
    int above = open(".", O_RDONLY | O_DIRECTORY);
    for (worker = 0; worker < MAX_WORKERS; worker++) {
        char name[32];
        sprintf(name, "worker%u", worker);
        if (fchdir(above))
            die(directory);
        if (chdir(name)) {
            if (last[worker] >= 0)
                complain(worker, "missing: the directory, after step", last[worker]);
            continue;
        }
        for (step = 0; step <= last[worker] + 1; step++) {
            file_name(name, (unsigned)step);
            if (step > last[worker] - KEPT + 1)
                check_file(worker, (unsigned)step, step <= last[worker]);
            else if (step <= last[worker] - KEPT && access(name, F_OK) == 0)
                complain(worker, "still there: the file of step", step);
        }
        check_current(worker, last[worker]);
        check_log(worker, last[worker]);
    }
    printf("%d complaints\n", complaints);
    return complaints != 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && !strcmp(argv[1], "load"))
        return load(argv[2], (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
    allows_zeros = argc == 4 && !strcmp(argv[3], "zeros");
    if ((argc == 3 || allows_zeros) && !strcmp(argv[1], "verify"))
        return verify(argv[2]);
    fprintf(stderr, "power_cut load DIRECTORY WORKERS SECONDS | verify DIRECTORY [zeros]\n");
    return 2;
}
