/* Holes, space, seals, extended attributes: files in memory. */
#include "case.h"

#include <sys/xattr.h>

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#endif
#define COLLAPSE_RANGE 8
#define ZERO_RANGE 16
#define INSERT_RANGE 32

#define SEAL 1
#define SHRINK 2
#define GROW 4
#define WRITE 8
#define FUTURE_WRITE 16

/* A file with data in its pages 1 and 4 of 8. */
static int holey(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    char page[PAGE];
    memset(page, 'd', sizeof page);
    SET_UP(fd >= 0 && ftruncate(fd, 8 * PAGE) == 0);
    SET_UP(pwrite(fd, page, sizeof page, PAGE) == PAGE && pwrite(fd, page, sizeof page, 4 * PAGE) == PAGE);
    return fd;
}

TEST(lseek_walks_over_holes) {
    int fd = holey("f");
    off_t starts[] = {0, 1, PAGE, PAGE + 5, 2 * PAGE, 3 * PAGE, 4 * PAGE, 5 * PAGE, 8 * PAGE - 1, 8 * PAGE, -1};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        errno = 0;
        off_t data = lseek(fd, starts[i], SEEK_DATA);
        int data_error = errno;
        errno = 0;
        off_t hole = lseek(fd, starts[i], SEEK_HOLE);
        say("from %ld: data %ld %s, hole %ld %s", (long)starts[i], (long)data, data < 0 ? errno_name(data_error) : "",
            (long)hole, hole < 0 ? errno_name(errno) : "");
    }
    int empty = open("e", O_RDWR | O_CREAT, 0644);
    CALL(lseek(empty, 0, SEEK_DATA));
    CALL(lseek(empty, 0, SEEK_HOLE));
    make_text("small", "abc");
    int small = open("small", O_RDONLY);
    CALL(lseek(small, 1, SEEK_DATA));
    CALL(lseek(small, 1, SEEK_HOLE));
    CALL(lseek(small, 3, SEEK_HOLE));
    CALL(lseek(fd, 0, 5));
}

static void show_blocks(const char *what, int fd) {
    struct stat status;
    SET_UP(fstat(fd, &status) == 0);
    say("%s: size %ld, blocks %ld", what, (long)status.st_size, (long)status.st_blocks);
}

TEST(blocks_count_what_is_stored) {
    int fd = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
    SET_UP(fd >= 0);
    show_blocks("empty", fd);
    SET_UP(ftruncate(fd, 100 * PAGE) == 0);
    show_blocks("grown", fd);
    SET_UP(pwrite(fd, "x", 1, 50 * PAGE) == 1);
    show_blocks("one byte", fd);
    CALL(fallocate(fd, 0, 0, 8 * PAGE));
    show_blocks("eight pages", fd);
    CALL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, 2 * PAGE));
    show_blocks("two less", fd);
    CALL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 50 * PAGE + 1, 10));
    show_blocks("a hole in a page", fd);
    CALL(fallocate(fd, 0, 99 * PAGE, 3 * PAGE));
    show_blocks("beyond the end", fd);
    SET_UP(ftruncate(fd, 0) == 0);
    show_blocks("cut", fd);
    CALL(fallocate(fd, 0, 0, 3L << 20));
    show_blocks("three MiB", fd);
    SET_UP(ftruncate(fd, 0) == 0);
}

TEST(fallocate_checks_its_arguments) {
    int fd = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
    SET_UP(fd >= 0);
    CALL(fallocate(fd, 0, -1, 1));
    CALL(fallocate(fd, 0, 0, 0));
    CALL(fallocate(fd, 0, 0, -1));
    CALL(fallocate(fd, 0, LONG_MAX, 1));
    CALL(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, PAGE));
    CALL(fallocate(fd, COLLAPSE_RANGE, 0, PAGE));
    CALL(fallocate(fd, INSERT_RANGE, 0, PAGE));
    CALL(fallocate(fd, ZERO_RANGE, 0, PAGE));
    CALL(fallocate(fd, COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
    CALL(fallocate(fd, 1 << 20, 0, PAGE));
    CALL(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 4 * PAGE));
    struct stat status;
    SET_UP(fstat(fd, &status) == 0);
    HOLDS(status.st_size == 0);
    make_text("f", "x");
    CALL(fallocate(open("f", O_RDONLY), 0, 0, 1));
    CALL(fallocate(open(".", O_RDONLY), 0, 0, 1));
    int ends[2];
    SET_UP(pipe(ends) == 0);
    CALL(fallocate(ends[1], 0, 0, 1));
    CALL(fallocate(ends[0], 0, 0, 1));
    CALL(fallocate(open("/dev/null", O_RDWR), 0, 0, 1));
    CALL(fallocate(open("f", O_PATH), 0, 0, 1));
    CALL(fallocate(-1, 0, 0, 1));
}

TEST(advice_is_taken_and_checked) {
    make_text("f", "text");
    int fd = open("f", O_RDWR), ends[2];
    SET_UP(pipe(ends) == 0);
    for (int advice = 0; advice < 7; advice++)
        say("advice %d: %d", advice, posix_fadvise(fd, 0, 0, advice) ? 1 : 0);
    CALL(RAW(SYS_fadvise64, fd, 0L, -1L, 0));
    CALL(RAW(SYS_fadvise64, fd, -1L, 1L, 0));
    CALL(RAW(SYS_fadvise64, ends[0], 0, 0, 0));
    CALL(RAW(SYS_fadvise64, -1, 0, 0, 0));
    CALL(RAW(SYS_readahead, fd, 0, 100));
    CALL(RAW(SYS_readahead, ends[0], 0, 100));
    CALL(RAW(SYS_readahead, open("f", O_WRONLY), 0, 100));
    CALL(RAW(SYS_sync_file_range, fd, 0, 0, 7));
    CALL(RAW(SYS_sync_file_range, fd, 0, 0, 8));
    CALL(RAW(SYS_sync_file_range, fd, -1L, 0L, 0));
    CALL(RAW(SYS_sync_file_range, fd, 1L, -1L, 0));
    CALL(RAW(SYS_sync_file_range, fd, 1L, LONG_MAX, 0));
    CALL(RAW(SYS_sync_file_range, ends[1], 0, 0, 0));
    CALL(RAW(SYS_sync_file_range, open(".", O_RDONLY), 0, 0, 0));
    CALL(RAW(SYS_sync_file_range, -1, 0, 0, 0));
    CALL(syncfs(fd));
    CALL(syncfs(-1));
    CALL(syncfs(open("f", O_PATH)));
}

static int memory(unsigned flags) {
    int fd = (int)syscall(SYS_memfd_create, "name", flags);
    SET_UP(fd >= 0);
    return fd;
}

TEST(memfd_create_checks_its_arguments) {
    CALL_OK(syscall(SYS_memfd_create, "name", 0));
    CALL_OK(syscall(SYS_memfd_create, "", 3));
    CALL(syscall(SYS_memfd_create, "name", 1 << 10));
    CALL(syscall(SYS_memfd_create, BAD_ADDRESS, 0));
    CALL(syscall(SYS_memfd_create, NULL, 0));
    char name[300];
    memset(name, 'n', sizeof name);
    name[249] = 0;
    CALL_OK(syscall(SYS_memfd_create, name, 0));
    name[249] = 'n';
    name[250] = 0;
    CALL(syscall(SYS_memfd_create, name, 0));
    int fd = memory(0);
    char link[300] = "", path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CALL_OK(readlink(path, link, sizeof link - 1));
    say("%s", link);
    struct stat status;
    SET_UP(fstat(fd, &status) == 0);
    say("mode %o, links %d", status.st_mode, (int)status.st_nlink);
    CALL(fcntl(fd, F_GETFD));
    CALL(fcntl(memory(1), F_GETFD));
    CALL(linkat(AT_FDCWD, path, AT_FDCWD, "f", AT_SYMLINK_FOLLOW));
}

TEST(seals_forbid_what_they_say) {
    int fd = memory(2);
    SET_UP(ftruncate(fd, 2 * PAGE) == 0);
    CALL(fcntl(fd, F_GET_SEALS));
    CALL(fcntl(fd, F_ADD_SEALS, SHRINK));
    CALL(fcntl(fd, F_GET_SEALS));
    CALL(ftruncate(fd, PAGE));
    CALL(ftruncate(fd, 3 * PAGE));
    CALL(fcntl(fd, F_ADD_SEALS, GROW));
    CALL(ftruncate(fd, 4 * PAGE));
    CALL(pwrite(fd, "x", 1, 3 * PAGE));
    CALL(pwrite(fd, "xy", 2, 3 * PAGE - 1));
    CALL(pwrite(fd, "x", 1, 0));
    CALL(fallocate(fd, 0, 0, 4 * PAGE));
    CALL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
    CALL(fcntl(fd, F_ADD_SEALS, WRITE));
    CALL(pwrite(fd, "x", 1, 0));
    CALL(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
    CALL_MAP(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    CALL_MAP(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    CALL(fcntl(fd, F_ADD_SEALS, SEAL));
    CALL(fcntl(fd, F_ADD_SEALS, FUTURE_WRITE));
    CALL(fcntl(fd, F_GET_SEALS));
}

TEST(seals_are_for_files_that_allow_them) {
    int fd = memory(0);
    CALL(fcntl(fd, F_GET_SEALS));
    CALL(fcntl(fd, F_ADD_SEALS, WRITE));
    fd = memory(2);
    CALL(fcntl(fd, F_ADD_SEALS, 1 << 10));
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int reader = open(path, O_RDONLY);
    CALL(fcntl(reader, F_ADD_SEALS, WRITE));
    CALL(fcntl(reader, F_GET_SEALS));
    int ends[2];
    SET_UP(pipe(ends) == 0);
    CALL(fcntl(ends[0], F_GET_SEALS));
    CALL(fcntl(ends[1], F_ADD_SEALS, WRITE));
    int named = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
    CALL(fcntl(named, F_GET_SEALS));
    CALL(fcntl(named, F_ADD_SEALS, WRITE));
}

TEST(a_mapping_that_stores_keeps_the_write_seal_away) {
    int fd = memory(2);
    SET_UP(ftruncate(fd, PAGE) == 0);
    char *map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    SET_UP(map != MAP_FAILED);
    CALL(fcntl(fd, F_ADD_SEALS, WRITE));
    CALL(fcntl(fd, F_ADD_SEALS, FUTURE_WRITE));
    map[0] = 'm';
    char byte = 0;
    CALL(pread(fd, &byte, 1, 0));
    HOLDS(byte == 'm');
    CALL(pwrite(fd, "x", 1, 0));
    CALL_MAP(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    SET_UP(munmap(map, PAGE) == 0);
    CALL(fcntl(fd, F_ADD_SEALS, WRITE));
    CALL(fcntl(fd, F_GET_SEALS));
}

static void show_names(const char *path) {
    char list[512];
    ssize_t length = listxattr(path, list, sizeof list);
    if (length < 0) {
        say("names of %s: %s", path, errno_name(errno));
        return;
    }
    int count = 0;
    for (char *name = list; name < list + length; name += strlen(name) + 1)
        count += strncmp(name, "user.", 5) == 0;
    say("names of %s: %d", path, count);
}

TEST(attributes_of_users_are_kept) {
    make_text("f", "x");
    char value[64];
    CALL(setxattr("f", "user.one", "first", 5, 0));
    CALL(getxattr("f", "user.one", value, sizeof value));
    show_bytes("value", value, 5);
    CALL(getxattr("f", "user.one", value, 0));
    CALL(getxattr("f", "user.one", value, 4));
    CALL(getxattr("f", "user.one", NULL, 0));
    CALL(getxattr("f", "user.one", BAD_ADDRESS, 64));
    CALL(getxattr("f", "user.two", value, sizeof value));
    CALL(setxattr("f", "user.one", "x", 1, XATTR_CREATE));
    CALL(setxattr("f", "user.two", "x", 1, XATTR_REPLACE));
    CALL(setxattr("f", "user.one", "other", 5, XATTR_REPLACE));
    CALL(setxattr("f", "user.two", "", 0, XATTR_CREATE));
    CALL(getxattr("f", "user.two", value, sizeof value));
    CALL(setxattr("f", "user.x", "x", 1, 4));
    show_names("f");
    CALL(listxattr("f", value, 1));
    CALL(listxattr("absent", value, 1));
    SET_UP(link("f", "g") == 0);
    CALL(getxattr("g", "user.one", value, sizeof value));
    CALL(removexattr("f", "user.one"));
    CALL(removexattr("f", "user.one"));
    show_names("g");
    int fd = open("f", O_RDONLY);
    CALL(fsetxattr(fd, "user.three", "3", 1, 0));
    CALL(fgetxattr(fd, "user.three", value, sizeof value));
    CALL(fremovexattr(fd, "user.three"));
    CALL(fsetxattr(open("f", O_PATH), "user.three", "3", 1, 0));
    CALL(fsetxattr(-1, "user.three", "3", 1, 0));
}

TEST(attributes_have_names_of_a_kind) {
    make_text("f", "x");
    char name[300], value[8];
    memset(name, 'n', sizeof name);
    memcpy(name, "user.", 5);
    name[255] = 0;
    CALL(setxattr("f", name, "x", 1, 0));
    name[255] = 'n';
    name[256] = 0;
    CALL(setxattr("f", name, "x", 1, 0));
    CALL(setxattr("f", "", "x", 1, 0));
    CALL(setxattr("f", "nothing", "x", 1, 0));
    CALL(setxattr("f", "other.name", "x", 1, 0));
    CALL(setxattr("f", "user.", "x", 1, 0));
    CALL(setxattr("f", "user", "x", 1, 0));
    CALL(getxattr("f", "other.name", value, sizeof value));
    CALL(getxattr("f", "", value, sizeof value));
    CALL(removexattr("f", "other.name"));
    CALL(setxattr("f", "user.big", value, 65537, 0));
    CALL(setxattr("f", "user.bad", BAD_ADDRESS, 8, 0));
    CALL(setxattr("f", BAD_ADDRESS, "x", 1, 0));
}

TEST(attributes_of_users_are_for_files_and_directories) {
    SET_UP(mkdir("d", 0755) == 0 && symlink("d", "s") == 0 && mkfifo("p", 0644) == 0);
    char value[8];
    CALL(setxattr("d", "user.a", "1", 1, 0));
    CALL(getxattr("s", "user.a", value, sizeof value));
    CALL(lsetxattr("s", "user.a", "1", 1, 0));
    CALL(lgetxattr("s", "user.a", value, sizeof value));
    CALL(lremovexattr("s", "user.a"));
    CALL(setxattr("p", "user.a", "1", 1, 0));
    CALL(getxattr("p", "user.a", value, sizeof value));
    int ends[2];
    SET_UP(pipe(ends) == 0);
    CALL(fsetxattr(ends[0], "user.a", "1", 1, 0));
    CALL(setxattr("/proc/self/status", "trusted.a", "1", 1, 0) == 0);
    CALL(listxattr("/proc/self/status", value, sizeof value));
}

ROOT_TEST(attributes_need_the_files_permissions) {
    make_text("f", "x");
    char value[8];
    SET_UP(setxattr("f", "user.a", "1", 1, 0) == 0 && chmod("f", 0600) == 0);
    SET_UP(mkdir("sticky", 0755) == 0 && chmod("sticky", 01777) == 0);
    make_text("shared", "x");
    SET_UP(chmod("shared", 0666) == 0 && chmod(".", 0755) == 0);
    drop_to(NOBODY, NOBODY);
    CALL(getxattr("f", "user.a", value, sizeof value));
    CALL(setxattr("f", "user.a", "2", 1, 0));
    CALL(removexattr("f", "user.a"));
    CALL(listxattr("f", NULL, 0) > 0);
    CALL(setxattr("shared", "user.a", "2", 1, 0));
    CALL(setxattr("sticky", "user.a", "2", 1, 0));
}
