/*
 * Files that a pager has (/pager), and what becomes of those who use them while the pager is slow, fails, hangs, dies and is
 * replaced: each scenario through a call and through a fault. Linux has no such pager. A watchdog ends a case that hangs.
 */
#include "../case.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/file.h>

#define WATCHDOG_SECONDS 120
#define PAGES 8
#define BYTES (PAGES * PAGE)

/* ---- what a case is made of ---- */

#define CHECK(condition) ((errno = 0, (condition)) ? (void)0 : failed(#condition, __LINE__))

__attribute__((noreturn)) static void failed(const char *what, int line) {
    say("line %d: %s: no (%s)", line, what, errno_name(errno));
    _exit(1);
}

static void set_text(const char *name, const char *text) {
    char path[64];
    snprintf(path, sizeof path, "/pager/.control/%s", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static void set(const char *name, long value) {
    char text[24];
    snprintf(text, sizeof text, "%ld\n", value);
    set_text(name, text);
}

static long get(const char *name) {
    char path[64], text[24] = "";
    snprintf(path, sizeof path, "/pager/.control/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return atol(text);
}

/* Waits until the server has heard of everything. */
static void settle(void) {
    int fd = open("/pager/.control", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0 && fsync(fd) == 0);
    close(fd);
}

static void reset(void) {
    static const char *const numbers[] = {"delay_ms",   "fill_failures_per_1000", "writeback_failures_per_1000",
                                          "fail_fills", "fail_writebacks",        "hang",
                                          "die_after",  "absent"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        set(numbers[i], 0);
    set_text("die", "never");
    set_text("policy", "await");
    set("deadline_ms", 30000);
    settle();
}

/* The settings are everybody's: one case after the other. */
static void begin(void) {
    int lock = open("/tmp/pager-cases", O_RDWR | O_CREAT, 0600);
    SET_UP(lock >= 0 && flock(lock, LOCK_EX) == 0);
    alarm(WATCHDOG_SECONDS);
    reset();
}

static unsigned char pattern(size_t at) { return (unsigned char)(at * 31 + at / PAGE * 7 + 1); }

static int new_file(const char *name) {
    int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(unlink(name) == 0);
    return fd;
}

static void fill_with(int fd, size_t bytes) {
    static unsigned char buffer[BYTES];
    for (size_t done = 0; done < bytes; done += sizeof buffer) {
        for (size_t i = 0; i < sizeof buffer; i++)
            buffer[i] = pattern(done + i);
        CHECK(pwrite(fd, buffer, sizeof buffer, (off_t)done) == (ssize_t)sizeof buffer);
    }
}

static void drop(int fd) { CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0); }

/* A file whose pages only the pager has. */
static int stored_file(void) {
    int fd = new_file("/pager/stored");
    fill_with(fd, BYTES);
    CHECK(fsync(fd) == 0);
    drop(fd);
    return fd;
}

static unsigned char *map(int fd, int protection, int flags) {
    unsigned char *at = mmap(NULL, BYTES, protection, flags, fd, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

/* ---- the two ways to a page: both give 0, or EIO ---- */

static sigjmp_buf escape;
static volatile uintptr_t fault_address;
static volatile int fault_code;

static void on_bus(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    fault_address = (uintptr_t)info->si_addr;
    fault_code = info->si_code;
    siglongjmp(escape, 1);
}

static void catch_bus(void) {
    struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGBUS, &action, NULL) == 0);
}

static int read_by_call(int fd, size_t at, unsigned char *byte) { return pread(fd, byte, 1, (off_t)at) == 1 ? 0 : errno; }

static int read_by_fault(int fd, size_t at, unsigned char *byte) {
    unsigned char *mapped = map(fd, PROT_READ, MAP_SHARED);
    int result = 0;
    if (sigsetjmp(escape, 1) == 0) {
        *byte = *(volatile unsigned char *)(mapped + at);
    } else {
        CHECK(fault_address == (uintptr_t)(mapped + at) && fault_code == BUS_ADRERR);
        result = EIO;
    }
    munmap(mapped, BYTES);
    return result;
}

static int write_by_call(int fd, size_t at, unsigned char byte) {
    if (pwrite(fd, &byte, 1, (off_t)at) != 1)
        return errno;
    return fsync(fd) == 0 ? 0 : errno;
}

static int write_by_store(int fd, size_t at, unsigned char byte) {
    unsigned char *mapped = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
    mapped[at] = byte;
    int result = msync(mapped, BYTES, MS_SYNC) == 0 ? 0 : errno;
    munmap(mapped, BYTES);
    return result;
}

struct way {
    const char *name;
    int (*read)(int fd, size_t at, unsigned char *byte);
    int (*write)(int fd, size_t at, unsigned char byte);
};

static const struct way ways[] = {{"by call", read_by_call, write_by_call}, {"by fault", read_by_fault, write_by_store}};

#define EACH_WAY(way) for (const struct way *way = ways; way < ways + 2; way++)

static void expect_read(const struct way *way, int fd, size_t at, int expected) {
    unsigned char byte = 0;
    int result = way->read(fd, at, &byte);
    if (result != expected || (result == 0 && byte != pattern(at))) {
        say("%s: %s, byte %d", way->name, result ? errno_name(result) : "done", byte);
        _exit(1);
    }
}

static void expect_write(const struct way *way, int fd, size_t at, unsigned char byte, int expected) {
    int result = way->write(fd, at, byte);
    if (result != expected) {
        say("%s: %s", way->name, result ? errno_name(result) : "done");
        _exit(1);
    }
}

/* What the pager has, after all that is in memory is forgotten. */
static void expect_stored(int fd, size_t at, unsigned char byte) {
    unsigned char found = 0;
    CHECK(fsync(fd) == 0);
    drop(fd);
    long before = get("fills");
    CHECK(pread(fd, &found, 1, (off_t)at) == 1 && found == byte);
    CHECK(get("fills") > before);
}

/* ---- somebody who has nothing to do with it ---- */

static volatile long *bystander_rounds;
static pid_t bystander;

static void start_bystander(void) {
    bystander_rounds = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bystander = fork_child();
    if (bystander == 0) {
        for (;;) {
            int fd = open("bystander", O_RDWR | O_CREAT | O_TRUNC, 0600);
            if (fd < 0 || write(fd, "x", 1) != 1 || close(fd) != 0 || unlink("bystander") != 0)
                _exit(1);
            ++*bystander_rounds;
            usleep(1000);
        }
    }
}

static void end_bystander(void) {
    int status;
    long rounds = *bystander_rounds;
    while (*bystander_rounds < rounds + 3)
        usleep(1000);
    CHECK(waitpid(bystander, &status, WNOHANG) == 0);
    kill(bystander, SIGKILL);
    CHECK(waitpid(bystander, &status, 0) == bystander);
}

/* Runs while a child waits for a page; tells how the child ends. */
static int while_waiting(int fd, void (*child)(int fd), void (*meanwhile)(pid_t child)) {
    int ready[2], status;
    SET_UP(pipe(ready) == 0);
    pid_t pid = fork_child();
    if (pid == 0) {
        write(ready[1], "x", 1);
        child(fd);
        _exit(0);
    }
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    close(ready[1]);
    sleep_ms(50);
    meanwhile(pid);
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

/* ---- files ---- */

ROOT_TEST(a_file_is_read_written_and_mapped) {
    begin();
    unsigned char bytes[100];
    struct stat status;
    int fd = open("/pager/file", O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(fd >= 0);
    fill_with(fd, BYTES);
    CHECK(fstat(fd, &status) == 0 && status.st_size == (off_t)BYTES && (status.st_mode & 07777) == 0640);
    unsigned char *shared = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
    unsigned char *private = map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    for (size_t i = 0; i < BYTES; i++)
        CHECK(shared[i] == pattern(i) && private[i] == pattern(i));
    shared[5000] = 200;
    private[5001] = 201;
    CHECK(pread(fd, bytes, 2, 5000) == 2 && bytes[0] == 200 && bytes[1] == pattern(5001));
    CHECK(pwrite(fd, "ab", 2, 9000) == 2 && shared[9000] == 'a' && private[9001] == 'b');
    CHECK(lseek(fd, 0, SEEK_END) == (off_t)BYTES && write(fd, "end", 3) == 3);
    CHECK(pread(fd, bytes, 100, BYTES - 1) == 4 && memcmp(bytes + 1, "end", 3) == 0);
    CHECK(fsync(fd) == 0 && fdatasync(fd) == 0 && msync(shared, BYTES, MS_SYNC) == 0 && syncfs(fd) == 0);
    sync();
    CHECK(rename("/pager/file", "/pager/other") == 0 && access("/pager/file", F_OK) < 0 && errno == ENOENT);
    CHECK(mkdir("/pager/directory", 0755) == 0 && rename("/pager/other", "/pager/directory/file") == 0);
    drop(fd);
    CHECK(pread(fd, bytes, 2, 5000) == 2 && bytes[0] == 200);
    CHECK(unlink("/pager/directory/file") == 0 && rmdir("/pager/directory") == 0);
    CHECK(shared[9000] == 'a' && close(fd) == 0 && shared[5000] == 200);
}

ROOT_TEST(names_are_listed) {
    begin();
    CHECK(mkdir("/pager/list", 0755) == 0);
    close(open("/pager/list/one", O_WRONLY | O_CREAT, 0600));
    close(open("/pager/list/two", O_WRONLY | O_CREAT, 0600));
    DIR *directory = opendir("/pager/list");
    CHECK(directory != NULL);
    int found = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        found += strcmp(entry->d_name, "one") == 0 || strcmp(entry->d_name, "two") == 0;
    CHECK(found == 2);
    closedir(directory);
    CHECK((directory = opendir("/pager")) != NULL);
    found = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        found += strcmp(entry->d_name, ".control") == 0 || strcmp(entry->d_name, "list") == 0;
    CHECK(found == 2);
    closedir(directory);
    CHECK(unlink("/pager/.control") < 0 && rmdir("/pager/.control") < 0);
    CHECK(unlink("/pager/list/one") == 0 && unlink("/pager/list/two") == 0 && rmdir("/pager/list") == 0);
}

ROOT_TEST(a_page_comes_from_the_pager) {
    begin();
    catch_bus();
    EACH_WAY(way) {
        int fd = stored_file();
        long before = get("fills");
        for (size_t at = 0; at < BYTES; at += PAGE / 2 + 1)
            expect_read(way, fd, at, 0);
        CHECK(get("fills") > before);
        close(fd);
    }
}

/* ---- fills that go wrong ---- */

ROOT_TEST(a_slow_pager_is_waited_for) {
    begin();
    catch_bus();
    start_bystander();
    EACH_WAY(way) {
        int fd = stored_file();
        set("delay_ms", 100);
        long rounds = *bystander_rounds;
        expect_read(way, fd, 3 * PAGE, 0);
        CHECK(*bystander_rounds > rounds);
        set("delay_ms", 0);
        close(fd);
    }
    end_bystander();
}

ROOT_TEST(a_page_that_the_pager_refuses_is_an_error_until_it_does_not) {
    begin();
    catch_bus();
    EACH_WAY(way) {
        int fd = stored_file();
        /* A call may ask twice before it gives up. */
        set("fail_fills", 1000);
        expect_read(way, fd, PAGE, EIO);
        set("fail_fills", 0);
        expect_read(way, fd, PAGE, 0);
        close(fd);
    }
}

ROOT_TEST(a_pager_that_hangs_is_given_up_at_its_deadline) {
    begin();
    catch_bus();
    start_bystander();
    set("deadline_ms", 300);
    EACH_WAY(way) {
        int fd = stored_file();
        set("hang", 1);
        long rounds = *bystander_rounds;
        expect_read(way, fd, 2 * PAGE, EIO);
        CHECK(*bystander_rounds > rounds);
        set("hang", 0);
        settle();
        expect_read(way, fd, 2 * PAGE, 0);
        close(fd);
    }
    end_bystander();
}

ROOT_TEST(without_a_pager_there_is_no_page_if_none_is_awaited) {
    begin();
    catch_bus();
    set_text("policy", "fail");
    EACH_WAY(way) {
        int fd = stored_file();
        set("absent", 1);
        settle();
        expect_read(way, fd, 2 * PAGE, EIO);
        set("absent", 0);
        settle();
        expect_read(way, fd, 2 * PAGE, 0);
        close(fd);
    }
}

ROOT_TEST(a_pager_that_dies_over_a_fill_has_a_successor) {
    static const char *const deaths[] = {"before-fill", "during-fill", "after-fill"};
    begin();
    catch_bus();
    start_bystander();
    EACH_WAY(way)
        for (int i = 0; i < 3; i++) {
            int fd = stored_file();
            long servers = get("servers");
            set_text("die", deaths[i]);
            expect_read(way, fd, PAGE + 17, 0);
            while (get("servers") == servers)
                sleep_ms(1);
            for (size_t at = 0; at < BYTES; at += PAGE)
                expect_read(way, fd, at, 0);
            close(fd);
        }
    end_bystander();
}

ROOT_TEST(a_pager_that_dies_is_an_error_if_no_successor_is_awaited) {
    begin();
    catch_bus();
    set_text("policy", "fail");
    EACH_WAY(way) {
        int fd = stored_file();
        long servers = get("servers");
        set_text("die", "before-fill");
        expect_read(way, fd, 5 * PAGE, EIO);
        while (get("servers") == servers)
            sleep_ms(1);
        settle();
        expect_read(way, fd, 5 * PAGE, 0);
        close(fd);
    }
}

/* ---- writebacks that go wrong ---- */

ROOT_TEST(what_is_written_back_is_there) {
    begin();
    EACH_WAY(way) {
        int fd = stored_file();
        expect_write(way, fd, 2 * PAGE + 5, 99, 0);
        expect_stored(fd, 2 * PAGE + 5, 99);
        close(fd);
    }
}

ROOT_TEST(a_slow_writeback_is_waited_for) {
    begin();
    start_bystander();
    EACH_WAY(way) {
        int fd = stored_file();
        set("delay_ms", 100);
        long rounds = *bystander_rounds;
        expect_write(way, fd, PAGE, 77, 0);
        CHECK(*bystander_rounds > rounds);
        set("delay_ms", 0);
        expect_stored(fd, PAGE, 77);
        close(fd);
    }
    end_bystander();
}

ROOT_TEST(a_writeback_that_is_refused_is_an_error_and_nothing_is_lost) {
    begin();
    EACH_WAY(way) {
        int fd = stored_file();
        /* The kernel writes back unasked, too. */
        set("fail_writebacks", 1000);
        expect_write(way, fd, PAGE, 55, EIO);
        set("fail_writebacks", 0);
        drop(fd);
        expect_stored(fd, PAGE, 55);
        close(fd);
    }
}

ROOT_TEST(a_writeback_that_hangs_is_an_error_at_the_deadline_and_nothing_is_lost) {
    begin();
    start_bystander();
    set("deadline_ms", 300);
    EACH_WAY(way) {
        int fd = stored_file();
        unsigned char byte;
        CHECK(pread(fd, &byte, 1, PAGE) == 1);
        set("hang", 1);
        expect_write(way, fd, PAGE, 44, EIO);
        set("hang", 0);
        settle();
        expect_stored(fd, PAGE, 44);
        close(fd);
    }
    end_bystander();
}

ROOT_TEST(a_pager_that_dies_over_a_writeback_has_a_successor) {
    static const char *const deaths[] = {"before-writeback", "during-writeback", "after-writeback"};
    begin();
    start_bystander();
    EACH_WAY(way)
        for (int i = 0; i < 3; i++) {
            int fd = stored_file();
            long servers = get("servers");
            for (size_t at = 0; at < BYTES; at += PAGE)
                CHECK(pwrite(fd, "y", 1, (off_t)at) == 1);
            set_text("die", deaths[i]);
            expect_write(way, fd, 6 * PAGE, (unsigned char)(30 + i), 0);
            while (get("servers") == servers)
                sleep_ms(1);
            expect_stored(fd, 6 * PAGE, (unsigned char)(30 + i));
            expect_stored(fd, PAGE, 'y');
            close(fd);
        }
    end_bystander();
}

ROOT_TEST(what_was_synced_outlives_the_pager) {
    begin();
    int fd = stored_file(), dirty = new_file("/pager/dirty");
    fill_with(dirty, BYTES);
    for (int i = 0; i < 5; i++) {
        long servers = get("servers");
        CHECK(pwrite(fd, &i, sizeof i, i * (off_t)PAGE) == sizeof i && fsync(fd) == 0);
        set_text("die", "now");
        while (get("servers") == servers)
            sleep_ms(1);
        drop(fd);
        int found = -1;
        CHECK(pread(fd, &found, sizeof found, i * (off_t)PAGE) == sizeof found && found == i);
    }
    /* What nobody synced was never the pager's. */
    unsigned char byte;
    CHECK(pread(dirty, &byte, 1, 3 * PAGE) == 1 && byte == pattern(3 * PAGE));
}

/* ---- waiting threads ---- */

static void read_a_page(int fd) {
    unsigned char byte;
    _exit(pread(fd, &byte, 1, PAGE) == 1 ? 3 : 4);
}

static void touch_a_page(int fd) {
    unsigned char *mapped = map(fd, PROT_READ, MAP_SHARED);
    _exit(*(volatile unsigned char *)(mapped + PAGE) == pattern(PAGE) ? 3 : 4);
}

static void (*const waits[])(int) = {read_a_page, touch_a_page};

static void kill_it(pid_t child) { kill(child, SIGKILL); }

ROOT_TEST(whoever_waits_for_a_page_can_be_killed) {
    begin();
    for (int i = 0; i < 2; i++) {
        int fd = stored_file();
        set("hang", 1);
        int status = while_waiting(fd, waits[i], kill_it);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        set("hang", 0);
        settle();
        close(fd);
    }
}

static volatile sig_atomic_t signals;

static void count(int number) {
    (void)number;
    signals++;
}

static void leave(int number) {
    (void)number;
    _exit(7);
}

static void touch_with_handler(int fd) {
    signal(SIGUSR1, count);
    unsigned char *mapped = map(fd, PROT_READ, MAP_SHARED);
    unsigned char byte = *(volatile unsigned char *)(mapped + PAGE);
    _exit(byte == pattern(PAGE) && signals == 1 ? 3 : 4);
}

static void touch_with_last_handler(int fd) {
    signal(SIGUSR1, leave);
    touch_a_page(fd);
}

static void signal_it(pid_t child) { kill(child, SIGUSR1); }

static void signal_and_release(pid_t child) {
    kill(child, SIGUSR1);
    sleep_ms(50);
    set("hang", 0);
}

static void stop_and_release(pid_t child) {
    int status;
    kill(child, SIGSTOP);
    CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
    set("hang", 0);
    settle();
    kill(child, SIGCONT);
}

ROOT_TEST(a_signal_reaches_who_faults) {
    begin();
    int fd = stored_file();
    set("hang", 1);
    int status = while_waiting(fd, touch_with_handler, signal_and_release);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    drop(fd);
    set("hang", 1);
    status = while_waiting(fd, touch_with_last_handler, signal_it);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    set("hang", 0);
    settle();
    drop(fd);
    set("hang", 1);
    status = while_waiting(fd, touch_a_page, stop_and_release);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
}

/* ---- buffers whose pages are elsewhere ---- */

ROOT_TEST(buffers_may_be_pages_that_are_not_there) {
    begin();
    int fd = stored_file(), ends[2];
    SET_UP(pipe(ends) == 0);
    unsigned char *mapped = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED), bytes[64];
    /* A call that reads. */
    CHECK(write(ends[1], mapped + PAGE, 64) == 64 && read(ends[0], bytes, 64) == 64);
    for (size_t i = 0; i < 64; i++)
        CHECK(bytes[i] == pattern(PAGE + i));
    /* Calls that write what can't be had twice. */
    CHECK(msync(mapped, BYTES, MS_SYNC) == 0);
    drop(fd);
    CHECK(write(ends[1], "once", 4) == 4 && read(ends[0], mapped + 2 * PAGE, 64) == 4);
    CHECK(memcmp(mapped + 2 * PAGE, "once", 4) == 0);
    CHECK(msync(mapped, BYTES, MS_SYNC) == 0);
    drop(fd);
    CHECK(pipe((int *)(void *)(mapped + 3 * PAGE)) == 0);
    int *more = (int *)(void *)(mapped + 3 * PAGE);
    CHECK(write(more[1], "z", 1) == 1 && read(more[0], bytes, 1) == 1 && bytes[0] == 'z');
    /* A path, and a result beside it. */
    strcpy((char *)mapped + 4 * PAGE, "/tmp");
    CHECK(msync(mapped, BYTES, MS_SYNC) == 0);
    drop(fd);
    struct stat *status = (struct stat *)(void *)(mapped + 5 * PAGE);
    CHECK(stat((char *)mapped + 4 * PAGE, status) == 0 && S_ISDIR(status->st_mode));
    /* From one such file to another, and to itself. */
    CHECK(msync(mapped, BYTES, MS_SYNC) == 0);
    drop(fd);
    CHECK(pwrite(fd, mapped, PAGE, 6 * PAGE) == (ssize_t)PAGE && mapped[6 * PAGE + 9] == pattern(9));
    /* If it can't be had, it is a bad address. */
    CHECK(msync(mapped, BYTES, MS_SYNC) == 0);
    drop(fd);
    set("fail_fills", 1000);
    CHECK(write(ends[1], mapped + 7 * PAGE, 10) < 0 && errno == EFAULT);
    set("fail_fills", 0);
    CHECK(write(ends[1], mapped + 7 * PAGE, 10) == 10);
}

/* ---- larger things ---- */

#define LARGE (32UL << 20)

static uint64_t mix(uint64_t sum, const unsigned char *bytes, size_t count) {
    const uint64_t *words = (const uint64_t *)(const void *)bytes;
    for (size_t i = 0; i < count / 8; i++)
        sum = (sum ^ words[i]) * 0x100000001b3UL;
    return sum;
}

static void *sum_by_reading(void *argument) {
    static unsigned char buffer[1 << 16];
    uint64_t sum = 0;
    for (size_t at = 0; at < LARGE; at += sizeof buffer) {
        CHECK(pread((int)(intptr_t)argument, buffer, sizeof buffer, (off_t)at) == (ssize_t)sizeof buffer);
        sum = mix(sum, buffer, sizeof buffer);
    }
    return (void *)sum;
}

static void *sum_by_mapping(void *argument) {
    unsigned char *mapped = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, (int)(intptr_t)argument, 0);
    CHECK(mapped != MAP_FAILED);
    uint64_t sum = mix(0, mapped, LARGE);
    munmap(mapped, LARGE);
    return (void *)sum;
}

ROOT_TEST(a_large_file_is_read_and_mapped_at_once) {
    begin();
    int fd = new_file("/pager/large");
    CHECK(ftruncate(fd, LARGE) == 0);
    uint64_t *mapped = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), state = 1;
    CHECK(mapped != MAP_FAILED);
    for (size_t i = 0; i < LARGE / 8; i++)
        mapped[i] = state = state * 6364136223846793005UL + 1442695040888963407UL;
    uint64_t expected = mix(0, (unsigned char *)mapped, LARGE);
    munmap(mapped, LARGE);
    CHECK(fsync(fd) == 0);
    for (int round = 0; round < 2; round++) {
        drop(fd);
        if (round == 1)
            set_text("die", "during-fill");
        pthread_t readers[2];
        void *sums[2];
        SET_UP(pthread_create(&readers[0], NULL, sum_by_reading, (void *)(intptr_t)fd) == 0);
        SET_UP(pthread_create(&readers[1], NULL, sum_by_mapping, (void *)(intptr_t)fd) == 0);
        for (int i = 0; i < 2; i++)
            CHECK(pthread_join(readers[i], &sums[i]) == 0 && (uint64_t)sums[i] == expected);
    }
}

ROOT_TEST(a_large_write_goes_on_over_missing_pages) {
    begin();
    int fd = new_file("/pager/overwritten");
    static unsigned char buffer[1 << 20];
    memset(buffer, 1, sizeof buffer);
    CHECK(pwrite(fd, buffer, sizeof buffer, 0) == (ssize_t)sizeof buffer && fsync(fd) == 0);
    drop(fd);
    memset(buffer, 2, sizeof buffer);
    CHECK(pwrite(fd, buffer, sizeof buffer - 200, 100) == (ssize_t)sizeof buffer - 200 && fsync(fd) == 0);
    drop(fd);
    CHECK(pread(fd, buffer, sizeof buffer, 0) == (ssize_t)sizeof buffer);
    for (size_t i = 0; i < sizeof buffer; i++)
        CHECK(buffer[i] == (i < 100 || i >= sizeof buffer - 100 ? 1 : 2));
}

ROOT_TEST(a_truncated_file_ends_under_its_mappings) {
    begin();
    catch_bus();
    int fd = stored_file();
    unsigned char *mapped = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
    CHECK(mapped[7 * PAGE] == pattern(7 * PAGE));
    CHECK(ftruncate(fd, 2 * PAGE + 10) == 0);
    CHECK(mapped[2 * PAGE + 9] == pattern(2 * PAGE + 9) && mapped[2 * PAGE + 10] == 0);
    if (sigsetjmp(escape, 1) == 0) {
        (void)*(volatile unsigned char *)(mapped + 3 * PAGE);
        failed("a page beyond the end", __LINE__);
    }
    CHECK(fault_address == (uintptr_t)(mapped + 3 * PAGE));
    /* What comes back is zeros, for the pager too. */
    CHECK(ftruncate(fd, BYTES) == 0 && mapped[3 * PAGE] == 0);
    CHECK(pwrite(fd, "x", 1, 5 * PAGE) == 1 && fsync(fd) == 0);
    drop(fd);
    CHECK(mapped[5 * PAGE] == 'x' && mapped[5 * PAGE + 1] == 0 && mapped[4 * PAGE] == 0 && mapped[3 * PAGE] == 0);
    CHECK(mapped[2 * PAGE + 9] == pattern(2 * PAGE + 9) && mapped[2 * PAGE + 10] == 0);
    /* Also if the last page is not there when the file is cut. */
    CHECK(fsync(fd) == 0);
    drop(fd);
    CHECK(ftruncate(fd, PAGE + 1) == 0 && ftruncate(fd, BYTES) == 0);
    CHECK(mapped[PAGE] == pattern(PAGE) && mapped[PAGE + 1] == 0);
    CHECK(ftruncate(fd, 0) == 0 && ftruncate(fd, BYTES) == 0 && mapped[0] == 0);
}

static void truncate_it(pid_t child) {
    (void)child;
    CHECK(truncate("/pager/cut", 10) == 0);
    set("hang", 0);
}

static void die_of_bus(int fd) {
    signal(SIGBUS, SIG_DFL);
    touch_a_page(fd);
}

ROOT_TEST(a_file_may_be_cut_while_somebody_waits_for_its_page) {
    begin();
    int fd = open("/pager/cut", O_RDWR | O_CREAT, 0600);
    fill_with(fd, BYTES);
    CHECK(fsync(fd) == 0);
    /* The first page stays, so that cutting needs nobody. */
    CHECK(posix_fadvise(fd, PAGE, 0, POSIX_FADV_DONTNEED) == 0);
    set("hang", 1);
    int status = while_waiting(fd, die_of_bus, truncate_it);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    CHECK(unlink("/pager/cut") == 0);
}

ROOT_TEST(a_fork_shares_and_copies) {
    begin();
    int fd = stored_file();
    unsigned char *shared = map(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
    unsigned char *private = map(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    private[PAGE] = 11;
    pid_t child = fork_child();
    if (child == 0) {
        bool right = private[PAGE] == 11 && private[2 * PAGE] == pattern(2 * PAGE) && shared[0] == pattern(0);
        private[2 * PAGE] = 12;
        shared[3 * PAGE] = 13;
        _exit(right ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(private[2 * PAGE] == pattern(2 * PAGE) && shared[3 * PAGE] == 13 && private[3 * PAGE] == 13);
    expect_stored(fd, 3 * PAGE, 13);
    CHECK(shared[PAGE] == pattern(PAGE));
}

static void copy_program(const char *to) {
    static char buffer[1 << 16];
    int from = open("/proc/self/exe", O_RDONLY), fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0700);
    SET_UP(from >= 0 && fd >= 0);
    for (ssize_t count; (count = read(from, buffer, sizeof buffer)) > 0;)
        SET_UP(write(fd, buffer, (size_t)count) == count);
    SET_UP(fsync(fd) == 0);
    drop(fd);
    close(from);
    close(fd);
}

static int run_program(const char *path) {
    int status;
    pid_t child = fork_child();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        execl(path, path, "--list", NULL);
        _exit(errno == EIO ? 77 : 78);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

ROOT_TEST(a_program_runs_from_the_pager) {
    begin();
    copy_program("/pager/program");
    set("fail_fills", 1000);
    CHECK(run_program("/pager/program") == 77);
    set("fail_fills", 0);
    CHECK(run_program("/pager/program") == 0);
    for (int i = 0; i < 2; i++) {
        int fd = open("/pager/program", O_RDONLY);
        drop(fd);
        close(fd);
        set_text("die", i ? "during-fill" : "before-fill");
        CHECK(run_program("/pager/program") == 0);
    }
    CHECK(unlink("/pager/program") == 0);
}

ROOT_TEST(it_is_mounted_and_unmounted_like_others) {
    begin();
    struct stat one, two;
    CHECK(mkdir("m", 0755) == 0);
    CHECK(RAW(SYS_mount, "none", "m", "pagerfs", 0, NULL) == 0);
    CHECK(stat("m", &one) == 0 && stat("/pager", &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino);
    CHECK(RAW(SYS_umount2, "m", 0) == 0 && rmdir("m") == 0);
}
