/* Tables of calls that get a pointer to nowhere or a descriptor that is not open: each must say so and do nothing. */
#include "case.h"

#include <poll.h>
#include <sys/uio.h>

#define BAD BAD_ADDRESS
#define NOT_OPEN 77

/* One call of a table by its number, with up to six arguments. */
struct call {
    const char *name;
    long number;
    long arguments[6];
};

#define ENTRY(call_name, ...) {#call_name "(" #__VA_ARGS__ ")", SYS_##call_name, {__VA_ARGS__}}

static void do_calls(const struct call *calls, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const long *a = calls[i].arguments;
        errno = 0;
        report(calls[i].name, syscall(calls[i].number, a[0], a[1], a[2], a[3], a[4], a[5]));
    }
}

#define DO_CALLS(calls) do_calls(calls, sizeof calls / sizeof *calls)

/* Every kind of bad address, for a call that reads a path. */
TEST(paths_at_bad_addresses_are_efault) {
    char *area = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED && munmap(area + PAGE, PAGE) == 0);
    memset(area, 'x', PAGE);
    char *unreadable = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const struct {
        const char *what;
        const void *address;
    } addresses[] = {{"null", NULL},
                     {"in the null page", NULL_PAGE_ADDRESS},
                     {"not canonical", BAD},
                     {"in the kernel's half", (void *)0xffff888000000000},
                     {"the last byte", (void *)-1},
                     {"running into a hole", area + PAGE - 10},
                     {"not readable", unreadable}};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        errno = 0;
        report(addresses[i].what, RAW(SYS_open, addresses[i].address, O_RDONLY));
    }
}

TEST(calls_with_a_bad_path_are_efault) {
    static const struct call calls[] = {
        ENTRY(open, (long)BAD, 0),
        ENTRY(openat, AT_FDCWD, (long)BAD, 0),
        ENTRY(stat, (long)BAD, (long)BAD),
        ENTRY(lstat, (long)BAD, (long)BAD),
        ENTRY(newfstatat, AT_FDCWD, (long)BAD, (long)BAD, 0),
        ENTRY(access, (long)BAD, 0),
        ENTRY(faccessat, AT_FDCWD, (long)BAD, 0),
        ENTRY(execve, (long)BAD, 0, 0),
        ENTRY(chdir, (long)BAD),
        ENTRY(mkdir, (long)BAD, 0777),
        ENTRY(rmdir, (long)BAD),
        ENTRY(unlink, (long)BAD),
        ENTRY(unlinkat, AT_FDCWD, (long)BAD, 0),
        ENTRY(rename, (long)BAD, (long)"x"),
        ENTRY(link, (long)BAD, (long)"x"),
        ENTRY(symlink, (long)BAD, (long)"x"),
        ENTRY(symlink, (long)"x", (long)BAD),
        ENTRY(readlink, (long)BAD, (long)BAD, 8),
        ENTRY(chmod, (long)BAD, 0),
        ENTRY(chown, (long)BAD, 0, 0),
        ENTRY(lchown, (long)BAD, 0, 0),
        ENTRY(truncate, (long)BAD, 0),
        ENTRY(utimensat, AT_FDCWD, (long)BAD, 0, 0),
        ENTRY(mknod, (long)BAD, S_IFIFO, 0),
        ENTRY(creat, (long)BAD, 0),
    };
    DO_CALLS(calls);
}

TEST(calls_with_a_bad_buffer_are_efault) {
    make_text("file", "0123456789");
    SET_UP(symlink("file", "link") == 0);
    SET_UP(open("file", O_RDWR) == 3);
    SET_UP(open(".", O_RDONLY) == 4);
    int ends[2];
    SET_UP(pipe(ends) == 0 && ends[0] == 5 && write(ends[1], "bytes", 5) == 5);
    static const struct call calls[] = {
        ENTRY(read, 3, (long)BAD, 5),
        ENTRY(write, 3, (long)BAD, 5),
        ENTRY(pread64, 3, (long)BAD, 5, 0),
        ENTRY(pwrite64, 3, (long)BAD, 5, 0),
        ENTRY(readv, 3, (long)BAD, 1),
        ENTRY(writev, 3, (long)BAD, 1),
        ENTRY(read, 5, (long)BAD, 5),
        ENTRY(write, 6, (long)BAD, 5),
        ENTRY(fstat, 3, (long)BAD),
        ENTRY(stat, (long)"file", (long)BAD),
        ENTRY(newfstatat, AT_FDCWD, (long)"file", (long)BAD, 0),
        ENTRY(getdents64, 4, (long)BAD, 500),
        ENTRY(readlink, (long)"link", (long)BAD, 50),
        ENTRY(getcwd, (long)BAD, 500),
        ENTRY(pipe, (long)BAD),
        ENTRY(pipe2, (long)BAD, 0),
        ENTRY(poll, (long)BAD, 1, 0),
        ENTRY(select, 4, (long)BAD, 0, 0, 0),
        ENTRY(rt_sigaction, SIGUSR1, (long)BAD, 0, 8),
        ENTRY(rt_sigaction, SIGUSR1, 0, (long)BAD, 8),
        ENTRY(rt_sigprocmask, SIG_BLOCK, (long)BAD, 0, 8),
        ENTRY(rt_sigpending, (long)BAD, 8),
        ENTRY(rt_sigsuspend, (long)BAD, 8),
        ENTRY(sigaltstack, (long)BAD, 0),
        ENTRY(nanosleep, (long)BAD, 0),
        ENTRY(clock_gettime, CLOCK_MONOTONIC, (long)BAD),
        ENTRY(gettimeofday, (long)BAD, 0),
        ENTRY(time, (long)BAD),
        ENTRY(setitimer, 0, (long)BAD, 0),
        ENTRY(getitimer, 0, (long)BAD),
        ENTRY(uname, (long)BAD),
        ENTRY(sysinfo, (long)BAD),
        ENTRY(getrlimit, 7, (long)BAD),
        ENTRY(getrusage, 0, (long)BAD),
        ENTRY(getresuid, (long)BAD, (long)BAD, (long)BAD),
        ENTRY(getresgid, (long)BAD, (long)BAD, (long)BAD),
        ENTRY(getrandom, (long)BAD, 8, 0),
        ENTRY(ioctl, 5, 0x541b /* FIONREAD */, (long)BAD),
        ENTRY(times, (long)BAD),
        ENTRY(utimensat, AT_FDCWD, (long)"file", (long)BAD, 0),
        ENTRY(sendfile, 6, 3, (long)BAD, 5),
    };
    DO_CALLS(calls);
    char byte;
    say("the pipe still has its bytes: %zd", read(5, &byte, 1));
    show_file("file");
}

/* A result that lies half in a hole is refused as a whole. */
TEST(results_that_do_not_fit_their_mapping_are_efault) {
    char *area = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED && munmap(area + PAGE, PAGE) == 0);
    long edge = (long)(area + PAGE - 4);
    make_text("file", "x");
    CALL(RAW(SYS_stat, "file", edge));
    CALL(RAW(SYS_fstat, 1, edge));
    CALL(RAW(SYS_uname, edge));
    CALL(RAW(SYS_clock_gettime, CLOCK_MONOTONIC, edge));
    CALL(RAW(SYS_pipe, edge));
    CALL(open("/dev/null", O_RDONLY));
    CALL(RAW(SYS_rt_sigaction, SIGUSR1, NULL, edge, 8));
    CALL(RAW(SYS_getrlimit, 7, edge));
    CALL(RAW(SYS_nanosleep, edge, NULL));
}

TEST(results_into_memory_that_cannot_be_written_are_efault) {
    char *area = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED);
    make_text("file", "x");
    int fd = open("file", O_RDONLY);
    CALL(read(fd, area, 1));
    CALL(RAW(SYS_stat, "file", area));
    CALL(RAW(SYS_uname, area));
    CALL(RAW(SYS_getcwd, area, PAGE));
    CALL(RAW(SYS_pipe, area));
    CALL(RAW(SYS_getrandom, area, 8, 0));
    CALL(RAW(SYS_clock_gettime, CLOCK_REALTIME, area));
}

TEST(calls_on_what_is_not_open_are_ebadf) {
    static char buffer[256];
    static struct iovec vector = {buffer, sizeof buffer};
    const struct call calls[] = {
        ENTRY(read, NOT_OPEN, (long)buffer, 5),
        ENTRY(read, NOT_OPEN, (long)BAD, 0),
        ENTRY(write, NOT_OPEN, (long)buffer, 5),
        ENTRY(pread64, NOT_OPEN, (long)buffer, 5, 0),
        ENTRY(pwrite64, NOT_OPEN, (long)buffer, 5, 0),
        ENTRY(readv, NOT_OPEN, (long)&vector, 1),
        ENTRY(writev, NOT_OPEN, (long)&vector, 1),
        ENTRY(lseek, NOT_OPEN, 0, 0),
        ENTRY(close, NOT_OPEN),
        ENTRY(dup, NOT_OPEN),
        ENTRY(dup2, NOT_OPEN, 5),
        ENTRY(dup3, NOT_OPEN, 5, 0),
        ENTRY(fcntl, NOT_OPEN, F_GETFD),
        ENTRY(ioctl, NOT_OPEN, 0x5401, (long)buffer),
        ENTRY(fstat, NOT_OPEN, (long)buffer),
        ENTRY(ftruncate, NOT_OPEN, 0),
        ENTRY(fsync, NOT_OPEN),
        ENTRY(fdatasync, NOT_OPEN),
        ENTRY(fchmod, NOT_OPEN, 0),
        ENTRY(fchown, NOT_OPEN, 0, 0),
        ENTRY(fchdir, NOT_OPEN),
        ENTRY(getdents64, NOT_OPEN, (long)buffer, sizeof buffer),
        ENTRY(openat, NOT_OPEN, (long)"x", 0),
        ENTRY(mkdirat, NOT_OPEN, (long)"x", 0),
        ENTRY(unlinkat, NOT_OPEN, (long)"x", 0),
        ENTRY(renameat, NOT_OPEN, (long)"x", NOT_OPEN, (long)"y"),
        ENTRY(linkat, NOT_OPEN, (long)"x", NOT_OPEN, (long)"y", 0),
        ENTRY(symlinkat, (long)"x", NOT_OPEN, (long)"y"),
        ENTRY(readlinkat, NOT_OPEN, (long)"x", (long)buffer, 5),
        ENTRY(fchmodat, NOT_OPEN, (long)"x", 0),
        ENTRY(fchownat, NOT_OPEN, (long)"x", 0, 0, 0),
        ENTRY(faccessat, NOT_OPEN, (long)"x", 0),
        ENTRY(newfstatat, NOT_OPEN, (long)"x", (long)buffer, 0),
        ENTRY(utimensat, NOT_OPEN, (long)"x", 0, 0),
        ENTRY(sendfile, NOT_OPEN, 0, 0, 1),
        ENTRY(sendfile, 1, NOT_OPEN, 0, 1),
        ENTRY(mmap, 0, 4096, 1, MAP_PRIVATE, NOT_OPEN, 0),
        ENTRY(fallocate, NOT_OPEN, 0, 0, 1),
        ENTRY(execveat, NOT_OPEN, (long)"x", 0, 0, 0),
    };
    DO_CALLS(calls);
}

/* A thousand calls with numbers and arguments of a fixed random sequence: the process must live on. */
TEST(nonsense_calls_do_not_hurt) {
    static const long numbers[] = {
        SYS_read, SYS_write, SYS_open, SYS_close, SYS_stat, SYS_fstat, SYS_lstat, SYS_poll, SYS_lseek, SYS_mprotect,
        SYS_ioctl, SYS_pread64, SYS_pwrite64, SYS_readv, SYS_writev, SYS_access, SYS_pipe, SYS_mremap, SYS_msync,
        SYS_mincore, SYS_madvise, SYS_dup, SYS_getitimer, SYS_getcwd, SYS_rename, SYS_mkdir, SYS_rmdir, SYS_link,
        SYS_unlink, SYS_symlink, SYS_readlink, SYS_chmod, SYS_getdents64, SYS_utimensat, SYS_fcntl, SYS_ftruncate,
        SYS_sigaltstack, SYS_getrlimit, SYS_uname, SYS_sysinfo};
    static const unsigned long values[] = {0,    3,         5,        99, -1UL, 1UL << 63, LONG_MAX, 0x800000000000,
                                           4095, 1UL << 32};
    unsigned int state = 42;
    int failures = 0;
    for (int i = 0; i < 1000; i++) {
        long arguments[6];
        state = state * 1103515245 + 12345;
        long number = numbers[state / 65536 % (sizeof numbers / sizeof *numbers)];
        for (int a = 0; a < 6; a++) {
            state = state * 1103515245 + 12345;
            arguments[a] = (long)values[state / 65536 % (sizeof values / sizeof *values)];
        }
        /* Not the standard streams, and no waiting without end. */
        if (number == SYS_poll || number == SYS_close || number == SYS_write || number == SYS_writev)
            arguments[number == SYS_poll ? 2 : 0] = number == SYS_poll ? 0 : 99;
        const long *a = arguments;
        failures += syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) < 0;
    }
    HOLDS(failures > 500);
}
