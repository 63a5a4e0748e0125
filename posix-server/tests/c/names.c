/* Names: directories, links, renaming, paths and what is wrong with them, attributes of files. */
#include "case.h"

#include <dirent.h>
#include <sys/sysmacros.h>

static int compare_names(const void *one, const void *other) {
    return strcmp(*(const char *const *)one, *(const char *const *)other);
}

/* Prints the sorted names of a directory, with their types. */
static void show_directory(const char *path) {
    DIR *directory = opendir(path);
    if (!directory) {
        say("%s: %s", path, errno_name(errno));
        return;
    }
    char *names[64];
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) && count < 64;) {
        static const char types[] = "?pc?d?b?-?l?s???";
        char text[NAME_MAX + 4];
        snprintf(text, sizeof text, "%s%c", entry->d_name, types[entry->d_type & 15]);
        names[count++] = strdup(text);
    }
    closedir(directory);
    qsort(names, count, sizeof *names, compare_names);
    char line[512] = "";
    for (size_t i = 0; i < count; i++) {
        strncat(line, " ", sizeof line - strlen(line) - 1);
        strncat(line, names[i], sizeof line - strlen(line) - 1);
    }
    say("%s:%s", path, line);
}

static struct stat status_of(const char *path) {
    struct stat status;
    memset(&status, 0, sizeof status);
    SET_UP(lstat(path, &status) == 0);
    return status;
}

static char *repeated(char letter, size_t length) {
    char *text = malloc(length + 1);
    SET_UP(text != NULL);
    memset(text, letter, length);
    text[length] = 0;
    return text;
}

TEST(mkdir_makes_an_empty_directory) {
    CALL(mkdir("d", 0777));
    struct stat status = status_of("d");
    say("mode %o", status.st_mode);
    show_directory("d");
    CALL(mkdir("d", 0777));
    CALL(mkdir("d/", 0777));
    CALL(mkdir("d/.", 0777));
    CALL(mkdir("d/..", 0777));
    CALL(mkdir("/", 0777));
    CALL(mkdir("nowhere/d", 0777));
    CALL(mkdir("", 0777));
    CALL(mkdir("e/", 07777));
    say("mode %o", status_of("e").st_mode & 01777);
    make_text("f", "");
    CALL(mkdir("f", 0777));
    CALL(mkdir("f/d", 0777));
    SET_UP(symlink("nowhere", "dangling") == 0);
    CALL(mkdir("dangling", 0777));
}

TEST(rmdir_takes_only_empty_directories) {
    SET_UP(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0);
    make_text("f", "");
    SET_UP(symlink("d/e", "link") == 0);
    CALL(rmdir("d"));
    CALL(rmdir("f"));
    CALL(rmdir("link"));
    CALL(rmdir("link/"));
    CALL(rmdir("d/e/."));
    CALL(rmdir("d/e/.."));
    CALL(rmdir("/"));
    CALL(rmdir("nowhere"));
    CALL(rmdir(""));
    CALL(rmdir("d/e/"));
    CALL(rmdir("d"));
}

TEST(unlink_takes_only_what_is_no_directory) {
    SET_UP(mkdir("d", 0755) == 0);
    make_text("f", "");
    SET_UP(symlink("f", "link") == 0 && symlink("d", "dlink") == 0);
    CALL(unlink("d"));
    CALL(unlink("f/"));
    CALL(unlink("dlink/"));
    CALL(unlink("link"));
    CALL(access("f", F_OK));
    CALL(unlink("f"));
    CALL(unlink("f"));
    CALL(unlink(""));
    CALL(unlinkat(AT_FDCWD, "d", 0));
    CALL(unlinkat(AT_FDCWD, "dlink", AT_REMOVEDIR));
    CALL(unlinkat(AT_FDCWD, "d", AT_REMOVEDIR));
    CALL(unlinkat(AT_FDCWD, "d", 0x1234));
}

TEST(rename_replaces_what_it_may) {
    make_text("a", "of a");
    make_text("b", "of b");
    SET_UP(mkdir("d", 0755) == 0 && mkdir("e", 0755) == 0 && mkdir("full", 0755) == 0);
    make_text("full/file", "");
    CALL(rename("a", "b"));
    show_file("b");
    CALL(access("a", F_OK));
    CALL(rename("b", "d"));
    CALL(rename("d", "b"));
    CALL(rename("d", "full"));
    CALL(rename("full", "e"));
    show_directory("e");
    CALL(rename("b", "b"));
    CALL(rename("nowhere", "x"));
    CALL(rename("b", "nowhere/x"));
    CALL(rename("b", ""));
    CALL(rename("", "x"));
    CALL(rename("b", "b/x"));
    CALL(rename("b", "c/"));
    CALL(rename("d", "c/"));
    show_directory(".");
}

TEST(rename_does_not_make_loops) {
    SET_UP(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0 && mkdir("d/e/f", 0755) == 0);
    CALL(rename("d", "d/x"));
    CALL(rename("d", "d/e/f/x"));
    CALL(rename("d", "d/e"));
    CALL(rename("d/e", "d"));
    CALL(rename("d", "d"));
    CALL(rename("d/.", "x"));
    CALL(rename("d/..", "x"));
    CALL(rename("d/e", "."));
    CALL(rename("d/e/f", "f"));
    show_directory("d/e");
    show_directory(".");
}

TEST(rename_moves_directories_with_their_parent_links) {
    SET_UP(mkdir("a", 0755) == 0 && mkdir("b", 0755) == 0 && mkdir("a/d", 0755) == 0);
    make_text("b/marker", "");
    CALL(rename("a/d", "b/d"));
    CALL(access("b/d/../marker", F_OK));
    show_directory("a");
    show_directory("b");
}

TEST(rename_of_two_links_to_one_file_does_nothing) {
    make_text("a", "x");
    SET_UP(link("a", "b") == 0);
    CALL(rename("a", "b"));
    show_directory(".");
}

TEST(rename_flags) {
    make_text("a", "of a");
    make_text("b", "of b");
    CALL(RAW(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 1 /* RENAME_NOREPLACE */));
    CALL(RAW(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "c", 1 /* RENAME_NOREPLACE */));
    CALL(RAW(SYS_renameat2, AT_FDCWD, "c", AT_FDCWD, "b", 2 /* RENAME_EXCHANGE */));
    CALL(RAW(SYS_renameat2, AT_FDCWD, "c", AT_FDCWD, "nowhere", 2 /* RENAME_EXCHANGE */));
    CALL(RAW(SYS_renameat2, AT_FDCWD, "c", AT_FDCWD, "b", 3));
    CALL(RAW(SYS_renameat2, AT_FDCWD, "c", AT_FDCWD, "b", 0x100));
    show_file("b");
    show_file("c");
}

TEST(link_counts_and_refuses_directories) {
    make_text("a", "x");
    SET_UP(mkdir("d", 0755) == 0 && symlink("a", "s") == 0 && symlink("nowhere", "dangling") == 0);
    CALL(link("a", "b"));
    say("links %ld", (long)status_of("a").st_nlink);
    HOLDS(status_of("a").st_ino == status_of("b").st_ino);
    CALL(link("a", "b"));
    CALL(link("d", "e"));
    CALL(link("nowhere", "x"));
    CALL(link("a", "nowhere/x"));
    CALL(link("a", "a/x"));
    CALL(link("s", "t"));
    say("a link to a link is %s", S_ISLNK(status_of("t").st_mode) ? "a link" : "no link");
    CALL(linkat(AT_FDCWD, "s", AT_FDCWD, "u", AT_SYMLINK_FOLLOW));
    say("and when followed it is %s", S_ISLNK(status_of("u").st_mode) ? "a link" : "no link");
    CALL(linkat(AT_FDCWD, "dangling", AT_FDCWD, "v", AT_SYMLINK_FOLLOW));
    CALL(unlink("a"));
    say("links %ld", (long)status_of("b").st_nlink);
}

TEST(symlinks_hold_any_text) {
    char target[32];
    CALL(symlink("no such thing/../ at all", "s"));
    CALL(symlink("x", "s"));
    CALL(symlink("", "t"));
    CALL(symlink("x", "nowhere/t"));
    CALL(symlink("x", ""));
    CALL(readlink("s", target, sizeof target));
    show_bytes("target", target, 24);
    CALL(readlink("s", target, 5));
    show_bytes("target", target, 5);
    CALL(readlink("s", target, 0));
    CALL(RAW(SYS_readlink, "s", target, -1));
    CALL(readlink("nowhere", target, sizeof target));
    CALL(readlink(".", target, sizeof target));
    CALL(readlink("s", BAD_ADDRESS, sizeof target));
    struct stat status = status_of("s");
    say("mode %o, size %ld", status.st_mode, (long)status.st_size);
    char *longest = repeated('t', PATH_MAX);
    CALL(symlink(longest, "u"));
}

TEST(symlinks_are_followed_in_every_place) {
    SET_UP(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0);
    make_text("d/e/f", "found");
    SET_UP(symlink("d", "one") == 0 && symlink("../one/e", "d/two") == 0 && symlink("one/two/f", "three") == 0);
    show_file("three");
    show_file("one/two/../e/f");
    show_file("one//two/.//f");
    char here[PATH_MAX], absolute[PATH_MAX + 16];
    SET_UP(getcwd(here, sizeof here) != NULL);
    snprintf(absolute, sizeof absolute, "%s/d/e/f", here);
    SET_UP(symlink(absolute, "absolute") == 0);
    show_file("absolute");
    CALL(access("three/", F_OK));
    CALL(access("three/x", F_OK));
}

TEST(forty_links_are_followed_and_no_more) {
    make_text("link0", "end");
    for (int i = 1; i <= 45; i++) {
        char target[16], name[16];
        snprintf(target, sizeof target, "link%d", i - 1);
        snprintf(name, sizeof name, "link%d", i);
        SET_UP(symlink(target, name) == 0);
    }
    CALL(access("link39", F_OK));
    CALL(access("link40", F_OK));
    CALL(access("link41", F_OK));
    SET_UP(symlink("me", "me") == 0 && symlink("b", "a") == 0 && symlink("a", "b") == 0);
    CALL(access("me", F_OK));
    CALL(open("a", O_RDONLY));
    CALL(open("a", O_CREAT | O_RDWR, 0644));
    CALL(access("a/x", F_OK));
    CALL(chdir("me"));
    SET_UP(symlink("deeper/x", "deeper") == 0);
    CALL(access("deeper", F_OK));
}

TEST(names_and_paths_have_a_greatest_length) {
    char *name = repeated('n', NAME_MAX), *longer = repeated('n', NAME_MAX + 1);
    CALL_OK(open(name, O_CREAT | O_RDWR, 0644));
    CALL(open(longer, O_CREAT | O_RDWR, 0644));
    CALL(mkdir(longer, 0755));
    CALL(access(longer, F_OK));
    char *path = repeated('/', PATH_MAX - 1), *too_long = repeated('/', PATH_MAX);
    CALL(access(path, F_OK));
    CALL(access(too_long, F_OK));
    for (size_t i = 0; i + 1 < PATH_MAX - 2; i += 2)
        path[i] = '.';
    path[PATH_MAX - 2] = 0;
    CALL(access(path, F_OK));
}

TEST(dots_and_slashes) {
    SET_UP(mkdir("d", 0755) == 0);
    make_text("d/f", "x");
    CALL(access("./d/./f", F_OK));
    CALL(access("d/../d//f", F_OK));
    CALL(access("d/f/", F_OK));
    CALL(access("d/f/.", F_OK));
    CALL(access("d/f/..", F_OK));
    CALL(access("d/nowhere/..", F_OK));
    CALL(access("/../../..", F_OK));
    CALL(access("...", F_OK));
    CALL(access("", F_OK));
    struct stat root = status_of("/"), above = status_of("/..");
    HOLDS(root.st_ino == above.st_ino && root.st_dev == above.st_dev);
}

TEST(the_at_calls_start_at_their_descriptor) {
    SET_UP(mkdir("d", 0755) == 0);
    make_text("d/f", "in d");
    make_text("f", "here");
    int directory = open("d", O_RDONLY | O_DIRECTORY), file = open("f", O_RDONLY);
    SET_UP(directory >= 0 && file >= 0);
    struct stat status;
    CALL_OK(openat(directory, "f", O_RDONLY));
    CALL_OK(openat(file, "/dev/null", O_RDONLY));
    CALL(openat(file, "f", O_RDONLY));
    CALL(openat(99, "f", O_RDONLY));
    CALL(openat(-1, "f", O_RDONLY));
    CALL_OK(openat(99, "/dev/null", O_RDONLY));
    CALL(mkdirat(directory, "e", 0755));
    CALL(symlinkat("f", directory, "s"));
    CALL(linkat(directory, "f", AT_FDCWD, "linked", 0));
    CALL(renameat(directory, "e", AT_FDCWD, "moved"));
    CALL(fchmodat(directory, "f", 0600, 0));
    CALL(faccessat(directory, "f", R_OK, 0));
    CALL(fstatat(directory, "s", &status, AT_SYMLINK_NOFOLLOW));
    say("is a link: %s", S_ISLNK(status.st_mode) ? "yes" : "no");
    CALL(fstatat(directory, "", &status, 0));
    CALL(fstatat(directory, "", &status, AT_EMPTY_PATH));
    say("is a directory: %s", S_ISDIR(status.st_mode) ? "yes" : "no");
    CALL(fstatat(directory, "f", &status, 0x40000000));
    char target[8];
    CALL(readlinkat(directory, "s", target, sizeof target));
    CALL(unlinkat(directory, "f", 0));
    show_directory("d");
    show_directory(".");
}

TEST(the_working_directory_can_move_and_vanish) {
    char path[PATH_MAX], before[PATH_MAX];
    SET_UP(getcwd(before, sizeof before) != NULL);
    SET_UP(mkdir("d", 0755) == 0 && mkdir("d/e", 0755) == 0 && symlink("d/e", "link") == 0);
    make_text("f", "");
    CALL(chdir("f"));
    CALL(chdir("nowhere"));
    CALL(chdir(""));
    CALL(chdir("link"));
    SET_UP(getcwd(path, sizeof path) != NULL);
    HOLDS(strncmp(path, before, strlen(before)) == 0);
    say("%s", path + strlen(before));
    CALL(rename("../../d", "../../renamed"));
    SET_UP(getcwd(path, sizeof path) != NULL);
    say("%s", path + strlen(before));
    CALL(rmdir("../e"));
    CALL_OK(RAW(SYS_getcwd, path, sizeof path));
    CALL(open("new", O_CREAT | O_RDWR, 0644));
    CALL(mkdir("new", 0755));
    CALL(access(".", F_OK));
    show_directory(".");
    CALL(chdir(".."));
    SET_UP(getcwd(path, sizeof path) != NULL);
    say("%s", path + strlen(before));
}

TEST(getcwd_and_fchdir_check_their_arguments) {
    char path[PATH_MAX];
    long length = RAW(SYS_getcwd, path, sizeof path);
    HOLDS(length == (long)strlen(path) + 1);
    CALL(RAW(SYS_getcwd, path, strlen(path)));
    CALL(RAW(SYS_getcwd, path, 0));
    CALL(RAW(SYS_getcwd, BAD_ADDRESS, sizeof path));
    SET_UP(mkdir("d", 0755) == 0);
    make_text("f", "");
    int directory = open("d", O_RDONLY), file = open("f", O_RDONLY);
    CALL(fchdir(file));
    CALL(fchdir(99));
    CALL(fchdir(directory));
    CALL(access("../f", F_OK));
    SET_UP(chdir("/") == 0);
    SET_UP(getcwd(path, sizeof path) != NULL);
    say("%s", path);
}

TEST(the_umask_takes_bits_away) {
    CALL(umask(0));
    CALL(umask(01777));
    CALL(umask(027));
    SET_UP(open("f", O_CREAT | O_RDWR, 0777) >= 0 && mkdir("d", 0777) == 0);
    say("file %o, directory %o", status_of("f").st_mode, status_of("d").st_mode);
}

TEST(chmod_sets_all_mode_bits) {
    make_text("f", "");
    SET_UP(mkdir("d", 0755) == 0 && symlink("f", "s") == 0);
    CALL(chmod("f", 07654));
    say("mode %o", status_of("f").st_mode);
    CALL(chmod("d", 01777));
    say("mode %o", status_of("d").st_mode);
    CALL(chmod("s", 0600));
    say("mode %o", status_of("f").st_mode);
    CALL(chmod("f", 0170644));
    say("mode %o", status_of("f").st_mode);
    CALL(chmod("nowhere", 0600));
    CALL(fchmod(99, 0600));
}

ROOT_TEST(chown_changes_owners_and_drops_set_id) {
    make_text("f", "");
    SET_UP(chmod("f", 06755) == 0 && symlink("f", "s") == 0);
    CALL(chown("f", 1000, 2000));
    struct stat status = status_of("f");
    say("owner %u, group %u, mode %o", status.st_uid, status.st_gid, status.st_mode);
    CALL(chown("f", -1, 3000));
    CALL(chown("f", 4000, -1));
    CALL(lchown("s", 1, 2));
    status = status_of("f");
    say("owner %u, group %u", status.st_uid, status.st_gid);
    status = status_of("s");
    say("link: owner %u, group %u", status.st_uid, status.st_gid);
    CALL(chown("nowhere", 1, 1));
    CALL(fchown(99, 1, 1));
}

TEST(utimensat_sets_times_to_the_nanosecond) {
    make_text("f", "");
    struct timespec times[2] = {{1000000000, 123456789}, {2000000000, 987654321}};
    CALL(utimensat(AT_FDCWD, "f", times, 0));
    struct stat status = status_of("f");
    say("access %ld.%09ld, change %ld.%09ld", (long)status.st_atim.tv_sec, status.st_atim.tv_nsec,
        (long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
    times[0].tv_nsec = UTIME_OMIT;
    times[1].tv_nsec = UTIME_NOW;
    CALL(utimensat(AT_FDCWD, "f", times, 0));
    status = status_of("f");
    say("access %ld", (long)status.st_atim.tv_sec);
    HOLDS(status.st_mtim.tv_sec != 2000000000);
    times[0].tv_nsec = 1000000000;
    CALL(utimensat(AT_FDCWD, "f", times, 0));
    CALL(utimensat(AT_FDCWD, "nowhere", NULL, 0));
    CALL(utimensat(AT_FDCWD, "f", NULL, 0x8000));
    CALL(RAW(SYS_utimensat, AT_FDCWD, "f", BAD_ADDRESS, 0));
}

TEST(writing_changes_the_modification_time_and_reading_does_not) {
    make_text("f", "x");
    struct timespec past[2] = {{1000, 0}, {1000, 0}};
    SET_UP(utimensat(AT_FDCWD, "f", past, 0) == 0);
    char byte;
    int fd = open("f", O_RDWR);
    SET_UP(read(fd, &byte, 1) == 1);
    HOLDS(status_of("f").st_mtim.tv_sec == 1000);
    SET_UP(write(fd, "y", 1) == 1);
    HOLDS(status_of("f").st_mtim.tv_sec > 1000);
    SET_UP(utimensat(AT_FDCWD, ".", past, 0) == 0);
    make_text("g", "");
    HOLDS(status_of(".").st_mtim.tv_sec > 1000);
    SET_UP(utimensat(AT_FDCWD, ".", past, 0) == 0 && unlink("g") == 0);
    HOLDS(status_of(".").st_mtim.tv_sec > 1000);
}

TEST(stat_tells_kinds_and_sizes) {
    make_text("f", "12345");
    SET_UP(mkdir("d", 0700) == 0 && symlink("f", "s") == 0);
    struct stat status;
    CALL(stat("s", &status));
    say("followed: mode %o, size %ld, links %ld", status.st_mode, (long)status.st_size, (long)status.st_nlink);
    HOLDS(status.st_uid == geteuid() && status.st_ino != 0);
    HOLDS(status.st_blksize >= 512);
    CALL(lstat("s", &status));
    say("link: mode %o, size %ld", status.st_mode, (long)status.st_size);
    CALL(stat("/dev/null", &status));
    say("device: kind %o, number %u:%u", status.st_mode & S_IFMT, major(status.st_rdev), minor(status.st_rdev));
    CALL(fstat(0, &status));
    say("stdin: kind %o", status.st_mode & S_IFMT);
    CALL(stat("nowhere", &status));
    CALL(stat("f/x", &status));
    CALL(stat("", &status));
    CALL(RAW(SYS_stat, "f", BAD_ADDRESS));
    CALL(RAW(SYS_stat, BAD_ADDRESS, &status));
    CALL(fstat(99, &status));
    int ends[2];
    SET_UP(pipe(ends) == 0);
    CALL(fstat(ends[0], &status));
    say("pipe: mode %o, size %ld", status.st_mode, (long)status.st_size);
}

/* The start of the record of statx; the C library of the tests has none. */
struct extended_status {
    uint32_t stx_mask, stx_blksize;
    uint64_t stx_attributes;
    uint32_t stx_nlink, stx_uid, stx_gid;
    uint16_t stx_mode, padding;
    uint64_t stx_ino, stx_size, stx_blocks, rest[25];
};
_Static_assert(sizeof(struct extended_status) == 256, "the size of struct statx");

TEST(statx_tells_the_same) {
    make_text("f", "12345");
    struct extended_status status;
    memset(&status, 0, sizeof status);
    CALL(RAW(SYS_statx, AT_FDCWD, "f", 0, 0x7ff, &status));
    HOLDS((status.stx_mask & 0x7ff) == 0x7ff);
    say("mode %o, size %ld, links %u", status.stx_mode, (long)status.stx_size, status.stx_nlink);
    CALL(RAW(SYS_statx, AT_FDCWD, "nowhere", 0, 0x7ff, &status));
    CALL(RAW(SYS_statx, AT_FDCWD, "f", 0x10000000, 0x7ff, &status));
    CALL(RAW(SYS_statx, AT_FDCWD, "f", 0, 0x80000000, &status));
    CALL(RAW(SYS_statx, AT_FDCWD, "f", 0, 0x7ff, BAD_ADDRESS));
    CALL(RAW(SYS_statx, 0, "", AT_EMPTY_PATH, 0x7ff, &status));
    say("stdin: kind %o", status.stx_mode & S_IFMT);
}

TEST(access_checks_the_mode_asked_for) {
    make_text("f", "");
    SET_UP(chmod("f", 0444) == 0);
    CALL(access("f", R_OK));
    CALL(access("f", X_OK));
    CALL(access("f", 8));
    CALL(access("f", -1));
    CALL(access("nowhere", F_OK));
    CALL(RAW(SYS_faccessat2, AT_FDCWD, "f", R_OK, AT_EACCESS));
    CALL(RAW(SYS_faccessat2, AT_FDCWD, "f", R_OK, 0x8000));
    CALL(RAW(SYS_faccessat2, AT_FDCWD, "f", X_OK, 0));
}

/* The record of getdents64. */
struct directory_entry {
    uint64_t inode;
    int64_t next;
    uint16_t length;
    uint8_t type;
    char name[];
};

TEST(getdents_gives_every_name_once_in_small_pieces) {
    enum { FILES = 200 };
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "file-%d", i);
        make_text(name, "");
    }
    int fd = open(".", O_RDONLY | O_DIRECTORY);
    SET_UP(fd >= 0);
    int seen[FILES] = {0}, dots = 0, others = 0;
    bool aligned = true;
    char buffer[256] __attribute__((aligned(8)));
    long got;
    while ((got = RAW(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < got;) {
            struct directory_entry *entry = (struct directory_entry *)(buffer + at);
            int number = -1;
            aligned &= entry->length % 8 == 0;
            if (sscanf(entry->name, "file-%d", &number) == 1 && number >= 0 && number < FILES)
                seen[number]++;
            else if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
                dots++;
            else
                others++;
            at += entry->length;
        }
    }
    say("ends with %ld", got);
    int once = 0;
    for (int i = 0; i < FILES; i++)
        once += seen[i] == 1;
    say("%d once, %d dots, %d others, aligned %d", once, dots, others, aligned);
    CALL(RAW(SYS_getdents64, fd, buffer, sizeof buffer));
    CALL(lseek(fd, 0, SEEK_SET));
    HOLDS(RAW(SYS_getdents64, fd, buffer, sizeof buffer) > 0);
    CALL(lseek(fd, 0, SEEK_SET));
    CALL(RAW(SYS_getdents64, fd, buffer, 8));
    CALL(RAW(SYS_getdents64, fd, BAD_ADDRESS, sizeof buffer));
    CALL(RAW(SYS_getdents64, 0, buffer, sizeof buffer));
    CALL(RAW(SYS_getdents64, 99, buffer, sizeof buffer));
    CALL(read(fd, buffer, sizeof buffer));
    CALL(write(fd, buffer, sizeof buffer));
}

TEST(removing_names_while_reading_the_directory_loses_none) {
    enum { FILES = 150 };
    SET_UP(mkdir("d", 0755) == 0);
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "d/f%d", i);
        make_text(name, "");
    }
    DIR *directory = opendir("d");
    SET_UP(directory != NULL);
    int removed = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] == 'f')
            removed += unlinkat(dirfd(directory), entry->d_name, 0) == 0;
    closedir(directory);
    say("%d removed", removed);
    CALL(rmdir("d"));
}

ROOT_TEST(mknod_makes_what_it_can) {
    CALL(mknod("fifo", S_IFIFO | 0644, 0));
    CALL(mknod("file", S_IFREG | 0600, 0));
    CALL(mknod("file", S_IFREG | 0600, 0));
    CALL(mknod("directory", S_IFDIR | 0700, 0));
    CALL(mknod("strange", 0150000 | 0700, 0));
    say("fifo %o, file %o", status_of("fifo").st_mode, status_of("file").st_mode);
}

TEST(a_deep_tree_can_be_made_and_taken_down) {
    enum { DEPTH = 100 };
    for (int i = 0; i < DEPTH; i++)
        SET_UP(mkdir("d", 0755) == 0 && chdir("d") == 0);
    char path[PATH_MAX];
    SET_UP(getcwd(path, sizeof path) != NULL);
    int slashes = 0;
    for (const char *at = path + strlen(path); at > path && strncmp(at - 2, "/d", 2) == 0; at -= 2)
        slashes++;
    say("%d levels", slashes);
    for (int i = 0; i < DEPTH; i++)
        SET_UP(chdir("..") == 0 && rmdir("d") == 0);
    CALL(access("d", F_OK));
}
