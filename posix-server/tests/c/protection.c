/* What sticky directories protect their users from, when the superuser has it turned on. */
#include "case.h"

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

static void close_result(const char *what, int fd) {
    say("%s: %s", what, fd < 0 ? errno_name(errno) : "ok");
    if (fd >= 0)
        close(fd);
}

static void follow(void) {
    close_result("the directory owner's link", open("shared/link0", O_RDONLY));
    close_result("the own link", open("shared/link1", O_RDONLY));
    close_result("another's link", open("shared/link2", O_RDONLY));
    close_result("another's link, to make", open("shared/link2", O_RDWR | O_CREAT, 0600));
    struct stat status;
    CALL(stat("shared/link2", &status));
    CALL(lstat("shared/link2", &status));
}

static void reuse(void) {
    close_result("the directory owner's file", open("shared/file0", O_RDWR | O_CREAT, 0600));
    close_result("the own file", open("shared/file1", O_RDWR | O_CREAT, 0600));
    close_result("another's file", open("shared/file2", O_RDWR | O_CREAT, 0600));
    close_result("another's file, without making", open("shared/file2", O_RDWR));
    close_result("another's fifo", open("shared/fifo2", O_RDWR | O_CREAT, 0600));
    close_result("the own fifo", open("shared/fifo1", O_RDWR | O_CREAT, 0600));
}

static void name(void) {
    CALL(link("secret", "shared/secret"));
    CALL(link("target", "shared/target"));
}

ROOT_TEST(sticky_directories_protect) {
    int links = level_of("symlinks"), names = level_of("hardlinks"), files = level_of("regular"), fifos = level_of("fifos");
    make_directory();
    for (int level = 0; level < 3; level++) {
        say("level %d", level);
        set("symlinks", level > 0);
        set("hardlinks", level > 0);
        set("regular", level);
        set("fifos", level);
        as_nobody(follow);
        as_nobody(name);
        unlink("shared/secret");
        unlink("shared/target");
        as_nobody(reuse);
        SET_UP(chmod("shared", 01775) == 0 && chown("shared", 0, NOBODY) == 0);
        as_nobody(reuse);
        SET_UP(chmod("shared", 01777) == 0);
    }
    set("symlinks", links);
    set("hardlinks", names);
    set("regular", files);
    set("fifos", fifos);
}
