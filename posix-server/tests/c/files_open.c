/* open and openat2: their flags, what contradicts what, and where a path must not lead. */
#include "case.h"

#include <sched.h>
#include <sys/mount.h>

#define SYS_OPENAT2 437

#define RESOLVE_NO_XDEV_ 0x01
#define RESOLVE_NO_MAGICLINKS_ 0x02
#define RESOLVE_NO_SYMLINKS_ 0x04
#define RESOLVE_BENEATH_ 0x08
#define RESOLVE_IN_ROOT_ 0x10
#define RESOLVE_CACHED_ 0x20

struct how {
    uint64_t flags, mode, resolve;
    uint64_t later[4];
};

static void try_how(const char *what, int directory, const char *path, struct how how, size_t size) {
    errno = 0;
    long fd = syscall(SYS_OPENAT2, directory, path, &how, size);
    report_ok(what, fd);
    if (fd >= 0)
        close((int)fd);
}

#define OPENAT2(directory, path, flags, mode, resolve)                                                                 \
    try_how(#path " " #flags " " #mode " " #resolve, directory, path, (struct how){flags, mode, resolve, {0}}, 24)

TEST(openat2_refuses_what_it_does_not_know) {
    make_text("f", "x");
    OPENAT2(AT_FDCWD, "f", O_RDONLY, 0, 0);
    OPENAT2(AT_FDCWD, "f", O_RDONLY, 0644, 0);
    OPENAT2(AT_FDCWD, "f", O_RDWR | O_CREAT, 0644, 0);
    OPENAT2(AT_FDCWD, "f", O_RDWR | O_CREAT, 010644, 0);
    OPENAT2(AT_FDCWD, "f", 1ULL << 40, 0, 0);
    OPENAT2(AT_FDCWD, "f", 1ULL << 30, 0, 0);
    OPENAT2(AT_FDCWD, "f", 0, 0, 0x40);
    OPENAT2(AT_FDCWD, "f", 0, 0, 1ULL << 40);
    OPENAT2(AT_FDCWD, "f", 0, 0, RESOLVE_BENEATH_ | RESOLVE_IN_ROOT_);
    OPENAT2(AT_FDCWD, "f", O_PATH | O_RDWR, 0, 0);
    OPENAT2(AT_FDCWD, "f", O_PATH | O_CLOEXEC | O_NOFOLLOW, 0, 0);
    OPENAT2(AT_FDCWD, ".", O_TMPFILE | O_RDONLY, 0644, 0);
}

TEST(openat2_takes_longer_records_if_the_rest_is_zero) {
    make_text("f", "x");
    struct how how = {O_RDONLY, 0, 0, {0}};
    try_how("size 0", AT_FDCWD, "f", how, 0);
    try_how("size 23", AT_FDCWD, "f", how, 23);
    try_how("size 24", AT_FDCWD, "f", how, 24);
    try_how("size 25", AT_FDCWD, "f", how, 25);
    try_how("size 56", AT_FDCWD, "f", how, 56);
    how.later[2] = 1;
    try_how("size 40, not zero behind", AT_FDCWD, "f", how, 40);
    try_how("size 56, not zero within", AT_FDCWD, "f", how, 56);
    try_how("size 8192", AT_FDCWD, "f", how, 8192);
    CALL(syscall(SYS_OPENAT2, AT_FDCWD, "f", BAD_ADDRESS, 24));
    CALL(syscall(SYS_OPENAT2, AT_FDCWD, "f", NULL, 24));
}

TEST(openat2_keeps_beneath_its_directory) {
    SET_UP(mkdir("d", 0755) == 0 && mkdir("d/in", 0755) == 0);
    make_text("outside", "x");
    make_text("d/f", "x");
    SET_UP(symlink("../outside", "d/up") == 0 && symlink("/", "d/root") == 0 && symlink("in/../f", "d/fine") == 0);
    SET_UP(symlink("in/../../d/f", "d/around") == 0 && symlink("/f", "d/absolute") == 0);
    int d = open("d", O_PATH | O_DIRECTORY);
    OPENAT2(d, "f", 0, 0, RESOLVE_BENEATH_);
    OPENAT2(d, "in/../f", 0, 0, RESOLVE_BENEATH_);
    OPENAT2(d, "..", 0, 0, RESOLVE_BENEATH_);
    OPENAT2(d, "../d/f", 0, 0, RESOLVE_BENEATH_);
    OPENAT2(d, "/etc", 0, 0, RESOLVE_BENEATH_);
    OPENAT2(d, "up", 0, 0, RESOLVE_BENEATH_);
    OPENAT2(d, "root", 0, 0, RESOLVE_BENEATH_);
    OPENAT2(d, "fine", 0, 0, RESOLVE_BENEATH_);
    OPENAT2(d, "around", 0, 0, RESOLVE_BENEATH_);
    OPENAT2(d, "new", O_CREAT | O_RDWR, 0644, RESOLVE_BENEATH_);
    OPENAT2(d, "../new", O_CREAT | O_RDWR, 0644, RESOLVE_BENEATH_);
    OPENAT2(d, "..", 0, 0, RESOLVE_IN_ROOT_);
    OPENAT2(d, "../../f", 0, 0, RESOLVE_IN_ROOT_);
    OPENAT2(d, "/f", 0, 0, RESOLVE_IN_ROOT_);
    OPENAT2(d, "absolute", 0, 0, RESOLVE_IN_ROOT_);
    OPENAT2(d, "up", 0, 0, RESOLVE_IN_ROOT_);
    OPENAT2(d, "root/f", 0, 0, RESOLVE_IN_ROOT_);
    OPENAT2(d, "/outside", 0, 0, RESOLVE_IN_ROOT_);
    OPENAT2(d, "/new2", O_CREAT | O_EXCL | O_RDWR, 0644, RESOLVE_IN_ROOT_);
    CALL(access("d/new2", F_OK));
}

TEST(openat2_can_refuse_links) {
    SET_UP(mkdir("d", 0755) == 0);
    make_text("d/f", "x");
    SET_UP(symlink("f", "d/link") == 0 && symlink("d", "directory") == 0);
    int fd = open("d/f", O_RDONLY);
    char magic[64];
    snprintf(magic, sizeof magic, "/proc/self/fd/%d", fd);
    OPENAT2(AT_FDCWD, "d/link", 0, 0, RESOLVE_NO_SYMLINKS_);
    OPENAT2(AT_FDCWD, "directory/f", 0, 0, RESOLVE_NO_SYMLINKS_);
    OPENAT2(AT_FDCWD, "d/f", 0, 0, RESOLVE_NO_SYMLINKS_);
    OPENAT2(AT_FDCWD, "d/link", O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_SYMLINKS_);
    OPENAT2(AT_FDCWD, "d/link", 0, 0, RESOLVE_NO_MAGICLINKS_);
    OPENAT2(AT_FDCWD, magic, 0, 0, 0);
    OPENAT2(AT_FDCWD, magic, 0, 0, RESOLVE_NO_MAGICLINKS_);
    OPENAT2(AT_FDCWD, magic, O_PATH | O_NOFOLLOW, 0, RESOLVE_NO_MAGICLINKS_);
    OPENAT2(AT_FDCWD, magic, 0, 0, RESOLVE_NO_SYMLINKS_);
}

ROOT_TEST(openat2_can_stay_in_its_mount) {
    SET_UP(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    SET_UP(mkdir("m", 0755) == 0 && mount("none", "m", "tmpfs", 0, NULL) == 0);
    make_text("m/f", "x");
    make_text("f", "x");
    SET_UP(symlink("/etc", "m/out") == 0);
    OPENAT2(AT_FDCWD, "m", 0, 0, RESOLVE_NO_XDEV_);
    OPENAT2(AT_FDCWD, "m/f", 0, 0, RESOLVE_NO_XDEV_);
    OPENAT2(AT_FDCWD, "f", 0, 0, RESOLVE_NO_XDEV_);
    int m = open("m", O_PATH);
    OPENAT2(m, "f", 0, 0, RESOLVE_NO_XDEV_);
    OPENAT2(m, "..", 0, 0, RESOLVE_NO_XDEV_);
    OPENAT2(m, "out", 0, 0, RESOLVE_NO_XDEV_);
    OPENAT2(m, "../f", 0, 0, 0);
}

TEST(open_ignores_what_it_does_not_know) {
    make_text("f", "x");
    CALL_OK(open("f", O_RDONLY | 1 << 30));
    int fd = open("f", O_PATH | O_RDWR | O_APPEND | O_TRUNC);
    say("flags of a path: %o", fcntl(fd, F_GETFL));
    show_file("f");
    fd = open("f", O_RDWR | O_SYNC | O_NOATIME | O_NOFOLLOW | O_NOCTTY);
    say("flags: %o", fcntl(fd, F_GETFL));
    fd = open("f", O_WRONLY | O_DSYNC | O_APPEND | O_NONBLOCK | O_ASYNC);
    say("flags: %o", fcntl(fd, F_GETFL));
    CALL(open("f", O_RDONLY | O_DIRECTORY));
    CALL(open("/dev/null", O_RDONLY | O_DIRECT));
    CALL_OK(open("f", 3));
    fd = open("f", 3);
    char byte;
    CALL(read(fd, &byte, 1));
    CALL(write(fd, &byte, 1));
    say("flags: %o", fcntl(fd, F_GETFL) & 3);
}

TEST(an_unnamed_file_can_get_a_name_once) {
    CALL(open(".", O_TMPFILE | O_RDONLY, 0600));
    CALL(open("absent", O_TMPFILE | O_RDWR, 0600));
    make_text("f", "x");
    CALL(open("f", O_TMPFILE | O_RDWR, 0600));
    int fd = open(".", O_TMPFILE | O_RDWR, 0640);
    SET_UP(fd >= 0 && write(fd, "text", 4) == 4);
    struct stat status;
    SET_UP(fstat(fd, &status) == 0);
    say("mode %o, links %lu, size %ld", status.st_mode, (unsigned long)status.st_nlink, (long)status.st_size);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CALL(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
    show_file("named");
    SET_UP(fstat(fd, &status) == 0);
    say("links %lu", (unsigned long)status.st_nlink);
    CALL(unlink("named"));
    CALL(linkat(AT_FDCWD, path, AT_FDCWD, "again", AT_SYMLINK_FOLLOW));
    fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CALL(linkat(AT_FDCWD, path, AT_FDCWD, "exclusive", AT_SYMLINK_FOLLOW));
}

ROOT_TEST(noatime_is_for_the_owner) {
    make_text("f", "x");
    SET_UP(chmod("f", 0666) == 0 && chmod(".", 0777) == 0);
    int fd = open("f", O_RDONLY);
    drop_to(NOBODY, NOBODY);
    CALL(open("f", O_RDONLY | O_NOATIME));
    CALL(fcntl(fd, F_SETFL, O_NOATIME));
    make_text("own", "x");
    CALL_OK(open("own", O_RDONLY | O_NOATIME));
}

static long accessed(int fd) {
    struct stat status;
    SET_UP(fstat(fd, &status) == 0);
    return status.st_atim.tv_sec;
}

TEST(noatime_keeps_the_access_time) {
    make_text("f", "text");
    struct timespec old[2] = {{1000, 0}, {2000, 0}};
    SET_UP(utimensat(AT_FDCWD, "f", old, 0) == 0);
    sleep_ms(30);
    char byte;
    int fd = open("f", O_RDONLY | O_NOATIME);
    SET_UP(read(fd, &byte, 1) == 1 && pread(fd, &byte, 1, 0) == 1);
    HOLDS(accessed(fd) == 1000);
    CALL(fcntl(fd, F_SETFL, 0));
    SET_UP(read(fd, &byte, 1) == 1);
    HOLDS(accessed(fd) > 1000);
}

/* Linux has these queries and rules since 6.4 to 6.12: older ones answer in their way, and are not asked further. */
TEST(newer_rules_of_open_hold_where_they_are_known) {
    make_text("f", "x");
    int fd = open("f", O_RDWR), copy = dup(fd), other = open("f", O_RDWR);
    int made = open("made", O_RDWR | O_CREAT, 0644);
    bool known = fcntl(fd, 1027, copy) >= 0;
    HOLDS(!known || (fcntl(fd, 1027, copy) == 1 && fcntl(fd, 1027, other) == 0));
    HOLDS(!known || (fcntl(fd, 1027, 999) == -1 && errno == EBADF));
    known = fcntl(fd, 1028) >= 0;
    HOLDS(!known || (fcntl(fd, 1028) == 0 && fcntl(made, 1028) == 1 && fcntl(dup(made), 1028) == 1));
    known = open("new", O_RDONLY | O_CREAT | O_DIRECTORY, 0644) == -1 && errno == EINVAL;
    HOLDS(!known || access("new", F_OK) == -1);
    struct how cached = {O_RDONLY, 0, RESOLVE_CACHED_, {0}};
    known = syscall(SYS_OPENAT2, AT_FDCWD, "f", &cached, 24) >= 0;
    cached.flags = O_RDWR | O_TRUNC;
    HOLDS(!known || (syscall(SYS_OPENAT2, AT_FDCWD, "f", &cached, 24) == -1 && errno == EAGAIN));
}

TEST(fcntl_keeps_hints) {
    make_text("f", "x");
    int fd = open("f", O_RDWR), other = open("f", O_RDWR);
    uint64_t hint = 77;
    CALL(fcntl(fd, 1035, &hint));
    say("hint: %d", (int)hint);
    hint = 5;
    CALL(fcntl(fd, 1036, &hint));
    hint = 0;
    CALL(fcntl(other, 1035, &hint));
    say("hint: %d", (int)hint);
    hint = 6;
    CALL(fcntl(fd, 1036, &hint));
    CALL(fcntl(fd, 1036, NULL));
    CALL(fcntl(fd, F_SETFL, O_DIRECT));
    int null = open("/dev/null", O_RDWR);
    CALL(fcntl(null, F_SETFL, O_DIRECT));
    CALL(fcntl(fd, 9999));
    int path = open("f", O_PATH);
    CALL(fcntl(path, F_SETFL, 0));
    CALL(fcntl(path, F_GETOWN));
    CALL_OK(fcntl(path, F_DUPFD, 0));
}

TEST(owners_of_files_are_kept) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    CALL(fcntl(ends[0], F_GETOWN));
    CALL(fcntl(ends[0], F_SETOWN, getpid()));
    HOLDS(fcntl(ends[0], F_GETOWN) == getpid());
    CALL(fcntl(ends[0], F_SETOWN, -getpgrp()));
    struct {
        int type, pid;
    } owner = {9, 9};
    CALL(fcntl(ends[0], 16, &owner));
    HOLDS(owner.type == 2 && owner.pid == getpgrp());
    owner.type = 0;
    owner.pid = getpid();
    CALL(fcntl(ends[0], 15, &owner));
    CALL(fcntl(ends[0], 16, &owner));
    HOLDS(owner.type == 0 && owner.pid == getpid());
    owner.type = 3;
    CALL(fcntl(ends[0], 15, &owner));
    owner.type = 1;
    owner.pid = 0x3fffffff;
    CALL(fcntl(ends[0], 15, &owner));
    CALL(RAW(SYS_fcntl, ends[0], F_SETOWN, 0x3fffffff));
    CALL(RAW(SYS_fcntl, ends[0], F_SETOWN, INT_MIN));
    CALL(fcntl(ends[0], F_SETOWN, 0));
    CALL(fcntl(ends[0], F_GETOWN));
    CALL(fcntl(ends[0], 11));
    CALL(fcntl(ends[0], 10, SIGUSR1));
    CALL(fcntl(ends[0], 11));
    CALL(fcntl(ends[0], 10, 65));
    CALL(fcntl(ends[0], 15, BAD_ADDRESS));
}
