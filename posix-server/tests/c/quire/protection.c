/*
 * What sticky directories protect their users from, when the superuser has it turned on (proc_sys_fs(5), protected_*).
 * Only here, because it changes settings of the whole system. What is expected is what Linux 6.18 says.
 */
#include "../case.h"

#define OTHER 54322

static void set(const char *name, int level) {
    char path[64], text[16];
    snprintf(path, sizeof path, "/proc/sys/fs/protected_%s", name);
    int fd = open(path, O_WRONLY | O_CLOEXEC), length = snprintf(text, sizeof text, "%d\n", level);
    SET_UP(fd >= 0 && write(fd, text, (size_t)length) == length);
    close(fd);
}

static int level_of(const char *name) {
    char path[64], text[16] = "";
    snprintf(path, sizeof path, "/proc/sys/fs/protected_%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    SET_UP(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return atoi(text);
}

/* Does something as an unprivileged user. */
static void as_nobody(void (*act)(void)) {
    pid_t child = fork_child();
    if (child == 0) {
        drop_to(NOBODY, NOBODY);
        act();
        _exit(0);
    }
    int status;
    SET_UP(waitpid(child, &status, 0) == child && status == 0);
}

/* A sticky directory with what others have left in it. */
static void make_directory(void) {
    SET_UP(chmod(".", 0755) == 0);
    make_text("target", "target");
    SET_UP(chmod("target", 0666) == 0);
    SET_UP(mkdir("shared", 0755) == 0 && chmod("shared", 01777) == 0);
    static const int owners[] = {0, NOBODY, OTHER};
    for (int i = 0; i < 3; i++) {
        char path[64];
        snprintf(path, sizeof path, "shared/link%d", i);
        SET_UP(symlink("../target", path) == 0 && lchown(path, (uid_t)owners[i], 0) == 0);
        snprintf(path, sizeof path, "shared/file%d", i);
        make_text(path, "file");
        SET_UP(chmod(path, 0666) == 0 && chown(path, (uid_t)owners[i], 0) == 0);
        snprintf(path, sizeof path, "shared/fifo%d", i);
        SET_UP(mkfifo(path, 0666) == 0 && chmod(path, 0666) == 0 && chown(path, (uid_t)owners[i], 0) == 0);
    }
    make_text("secret", "secret");
    SET_UP(chmod("secret", 0644) == 0);
}

/* Levels at which something is refused, from this one on; never. */
#define NEVER 3

static int level;

/* `error` is 0 or the errno of what was done, which is refused with `refusal` from a level on. */
static void expect(const char *what, int error, int refusal, int from) {
    int wanted = level >= from ? refusal : 0;
    if (error == wanted)
        return;
    say("level %d, %s: %s", level, what, error ? errno_name(error) : "ok");
    _exit(1);
}

static void expect_open(const char *what, const char *path, int flags, int from) {
    int fd = open(path, flags, 0600);
    expect(what, fd < 0 ? errno : 0, EACCES, from);
    close(fd);
}

static void expect_call(const char *what, int result, int refusal, int from) {
    expect(what, result < 0 ? errno : 0, refusal, from);
}

static void follow(void) {
    struct stat status;
    expect_open("the directory owner's link", "shared/link0", O_RDONLY, NEVER);
    expect_open("the own link", "shared/link1", O_RDONLY, NEVER);
    expect_open("another's link", "shared/link2", O_RDONLY, 1);
    expect_open("another's link, to make", "shared/link2", O_RDWR | O_CREAT, 1);
    expect_call("stat through another's link", stat("shared/link2", &status), EACCES, 1);
    expect_call("lstat of another's link", lstat("shared/link2", &status), EACCES, NEVER);
}

static void reuse(int others_from) {
    expect_open("the directory owner's file", "shared/file0", O_RDWR | O_CREAT, NEVER);
    expect_open("the own file", "shared/file1", O_RDWR | O_CREAT, NEVER);
    expect_open("another's file", "shared/file2", O_RDWR | O_CREAT, others_from);
    expect_open("another's file, without making", "shared/file2", O_RDWR, NEVER);
    expect_open("another's fifo", "shared/fifo2", O_RDWR | O_CREAT, others_from);
    expect_open("the own fifo", "shared/fifo1", O_RDWR | O_CREAT, NEVER);
}

static void reuse_where_all_write(void) { reuse(1); }

static void reuse_where_the_group_writes(void) { reuse(2); }

static void name(void) {
    expect_call("a link to what can't be written", link("secret", "shared/secret"), EPERM, 1);
    expect_call("a link to what can be written", link("target", "shared/target"), EPERM, NEVER);
}

ROOT_TEST(sticky_directories_protect) {
    int links = level_of("symlinks"), names = level_of("hardlinks"), files = level_of("regular"), fifos = level_of("fifos");
    make_directory();
    for (level = 0; level < 3; level++) {
        set("symlinks", level > 0);
        set("hardlinks", level > 0);
        set("regular", level);
        set("fifos", level);
        as_nobody(follow);
        as_nobody(name);
        unlink("shared/secret");
        unlink("shared/target");
        as_nobody(reuse_where_all_write);
        SET_UP(chmod("shared", 01775) == 0 && chown("shared", 0, NOBODY) == 0);
        as_nobody(reuse_where_the_group_writes);
        SET_UP(chmod("shared", 01777) == 0);
    }
    set("symlinks", links);
    set("hardlinks", names);
    set("regular", files);
    set("fifos", fifos);
}
