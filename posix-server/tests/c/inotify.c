/* Hearing of what happens to files. */
#include "case.h"

#include <dirent.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <utime.h>

#ifndef IN_MASK_CREATE
#define IN_MASK_CREATE 0x10000000
#endif

static int new_instance(void) {
    int fd = inotify_init1(IN_NONBLOCK);
    SET_UP(fd >= 0);
    return fd;
}

static int watch(int fd, const char *path, uint32_t mask) {
    int number = inotify_add_watch(fd, path, mask);
    SET_UP(number >= 0);
    return number;
}

static void event_names(uint32_t mask, char *text) {
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {{IN_ACCESS, " ACCESS"},         {IN_MODIFY, " MODIFY"},
                 {IN_ATTRIB, " ATTRIB"},         {IN_CLOSE_WRITE, " CLOSE_WRITE"},
                 {IN_CLOSE_NOWRITE, " CLOSE_NOWRITE"}, {IN_OPEN, " OPEN"},
                 {IN_MOVED_FROM, " MOVED_FROM"}, {IN_MOVED_TO, " MOVED_TO"},
                 {IN_CREATE, " CREATE"},         {IN_DELETE, " DELETE"},
                 {IN_DELETE_SELF, " DELETE_SELF"}, {IN_MOVE_SELF, " MOVE_SELF"},
                 {IN_UNMOUNT, " UNMOUNT"},       {IN_Q_OVERFLOW, " Q_OVERFLOW"},
                 {IN_IGNORED, " IGNORED"},       {IN_ISDIR, " ISDIR"}};
    *text = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (mask & names[i].bit) {
            strcat(text, names[i].name);
            mask &= ~names[i].bit;
        }
    if (mask)
        sprintf(text + strlen(text), " %x", mask);
}

/* Prints all events; cookies as whether they equal the one before. */
static void show(const char *what, int fd) {
    static char buffer[1 << 16] __attribute__((aligned(8)));
    static uint32_t last_cookie;
    long length = read(fd, buffer, sizeof buffer);
    if (length < 0) {
        say("%s: %s", what, errno_name(errno));
        return;
    }
    say("%s:", what);
    for (long at = 0; at < length;) {
        struct inotify_event *event = (struct inotify_event *)(buffer + at);
        char text[256];
        event_names(event->mask, text);
        say("  %d:%s%s%s%s (%u)", event->wd, text, event->len ? " " : "", event->len ? event->name : "",
            event->cookie == 0 ? "" : event->cookie == last_cookie ? " same cookie" : " new cookie", event->len);
        last_cookie = event->cookie;
        at += sizeof *event + event->len;
    }
}

TEST(inotify_init_checks_its_arguments) {
    CALL(RAW(SYS_inotify_init1, 1));
    CALL(RAW(SYS_inotify_init1, O_APPEND));
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    HOLDS(fcntl(fd, F_GETFD) == FD_CLOEXEC);
    HOLDS(fcntl(fd, F_GETFL) == (O_RDONLY | O_NONBLOCK));
    HOLDS(fcntl(RAW(SYS_inotify_init), F_GETFL) == O_RDONLY);
    CALL(write(fd, "x", 1));
    char byte;
    CALL(read(fd, &byte, 1));
}

TEST(inotify_add_watch_checks_its_arguments) {
    int fd = new_instance();
    make_text("file", "text");
    SET_UP(symlink("file", "link") == 0 && symlink("nowhere", "dangling") == 0);
    CALL(inotify_add_watch(fd, "file", 0));
    CALL(inotify_add_watch(fd, "file", 0x00800000));
    CALL(inotify_add_watch(fd, "nowhere", IN_OPEN));
    CALL(inotify_add_watch(fd, "dangling", IN_OPEN));
    CALL(inotify_add_watch(fd, "", IN_OPEN));
    CALL(inotify_add_watch(fd, BAD_ADDRESS, IN_OPEN));
    CALL(inotify_add_watch(fd, "file/x", IN_OPEN));
    CALL(inotify_add_watch(fd, "file", IN_OPEN | IN_ONLYDIR));
    CALL(inotify_add_watch(fd, "link", IN_OPEN | IN_ONLYDIR));
    CALL(inotify_add_watch(fd, "file", IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE));
    CALL(inotify_add_watch(99, "file", IN_OPEN));
    CALL(inotify_add_watch(99, "file", 0));
    CALL(inotify_add_watch(0, "file", IN_OPEN));
    CALL(inotify_add_watch(0, "nowhere", IN_OPEN));
    CALL(inotify_add_watch(fd, "file", IN_OPEN));
    CALL(inotify_add_watch(fd, "link", IN_OPEN));
    CALL(inotify_add_watch(fd, "link", IN_OPEN | IN_DONT_FOLLOW));
    CALL(inotify_add_watch(fd, "file", IN_OPEN | IN_MASK_CREATE));
    CALL(inotify_add_watch(fd, ".", IN_OPEN | IN_ONLYDIR | IN_MASK_CREATE));
    CALL(inotify_rm_watch(fd, 99));
    CALL(inotify_rm_watch(fd, -1));
    CALL(inotify_rm_watch(99, 1));
    CALL(inotify_rm_watch(0, 1));
    CALL(inotify_rm_watch(fd, 1));
    CALL(inotify_rm_watch(fd, 1));
    CALL(inotify_add_watch(fd, "file", IN_OPEN));
}

ROOT_TEST(inotify_add_watch_needs_permission) {
    make_text("file", "text");
    SET_UP(chmod("file", 0600) == 0);
    SET_UP(chmod(".", 0777) == 0);
    drop_to(NOBODY, NOBODY);
    int fd = new_instance();
    CALL(inotify_add_watch(fd, "file", IN_OPEN));
    CALL(inotify_add_watch(fd, ".", IN_OPEN));
}

TEST(inotify_hears_of_a_file) {
    int fd = new_instance();
    make_text("file", "text");
    CALL(watch(fd, "file", IN_ALL_EVENTS));
    show("quiet", fd);
    int file = open("file", O_RDWR);
    show("opened", fd);
    char bytes[8];
    SET_UP(read(file, bytes, 8) == 4);
    show("read", fd);
    SET_UP(read(file, bytes, 8) == 0);
    show("read at the end", fd);
    SET_UP(write(file, "x", 1) == 1);
    show("written", fd);
    SET_UP(pwrite(file, "x", 1, 0) == 1 && pread(file, bytes, 1, 0) == 1);
    show("written and read in place", fd);
    SET_UP(ftruncate(file, 2) == 0);
    show("truncated", fd);
    SET_UP(fchmod(file, 0600) == 0);
    show("changed", fd);
    SET_UP(close(file) == 0);
    show("closed", fd);
    file = open("file", O_RDONLY);
    int copy = dup(file);
    SET_UP(close(file) == 0);
    show("opened for reading, one copy closed", fd);
    SET_UP(close(copy) == 0);
    show("both closed", fd);
    watch(fd, "file", IN_MODIFY | IN_CLOSE);
    file = open("file", O_WRONLY | O_TRUNC);
    SET_UP(close(file) == 0);
    show("opened with O_TRUNC", fd);
    watch(fd, "file", IN_ALL_EVENTS);
    SET_UP(truncate("file", 10) == 0);
    show("truncated by name", fd);
    file = open("file", O_PATH);
    SET_UP(close(file) == 0);
    show("opened as a path", fd);
}

TEST(inotify_hears_of_attributes) {
    int fd = new_instance();
    make_text("file", "text");
    watch(fd, "file", IN_ALL_EVENTS);
    SET_UP(chmod("file", 0644) == 0);
    show("chmod to the same", fd);
    SET_UP(chown("file", getuid(), getgid()) == 0);
    show("chown", fd);
    SET_UP(utime("file", NULL) == 0);
    show("utime", fd);
    struct timespec times[2] = {{0, UTIME_OMIT}, {5, 0}};
    SET_UP(utimensat(AT_FDCWD, "file", times, 0) == 0);
    show("time of change", fd);
    times[0] = times[1];
    times[1].tv_nsec = UTIME_OMIT;
    SET_UP(utimensat(AT_FDCWD, "file", times, 0) == 0);
    show("time of access", fd);
    SET_UP(link("file", "other") == 0);
    show("linked", fd);
    SET_UP(unlink("other") == 0);
    show("unlinked", fd);
}

TEST(inotify_hears_of_names_in_a_directory) {
    int fd = new_instance();
    SET_UP(mkdir("d", 0755) == 0);
    watch(fd, "d", IN_ALL_EVENTS);
    int file = open("d/file", O_CREAT | O_WRONLY, 0644);
    show("created", fd);
    SET_UP(write(file, "x", 1) == 1 && close(file) == 0);
    show("written and closed", fd);
    SET_UP(mkdir("d/sub", 0755) == 0);
    show("directory made", fd);
    SET_UP(symlink("file", "d/link") == 0 && mkfifo("d/fifo", 0644) == 0);
    show("link and fifo made", fd);
    SET_UP(link("d/file", "d/a name of more than fifteen letters") == 0);
    show("linked", fd);
    SET_UP(chmod("d/file", 0600) == 0);
    show("changed", fd);
    show_file("d/file");
    show("read", fd);
    SET_UP(unlink("d/link") == 0 && unlink("d/fifo") == 0);
    show("link and fifo removed", fd);
    SET_UP(rmdir("d/sub") == 0);
    show("directory removed", fd);
    SET_UP(unlink("d/file") == 0);
    show("one name removed", fd);
    SET_UP(unlink("d/a name of more than fifteen letters") == 0);
    show("the other removed", fd);
}

TEST(inotify_hears_of_a_directory_itself) {
    int fd = new_instance();
    SET_UP(mkdir("d", 0755) == 0 && mkdir("d/sub", 0755) == 0);
    watch(fd, "d", IN_ALL_EVENTS);
    watch(fd, "d/sub", IN_ALL_EVENTS);
    DIR *directory = opendir("d/sub");
    while (readdir(directory))
        ;
    closedir(directory);
    show("listed", fd);
    SET_UP(chmod("d/sub", 0700) == 0);
    show("changed", fd);
    SET_UP(rename("d/sub", "d/other") == 0);
    show("renamed", fd);
    CALL(inotify_rm_watch(fd, 1));
    SET_UP(rmdir("d/other") == 0);
    show("removed", fd);
    CALL(inotify_rm_watch(fd, 2));
    CALL(inotify_add_watch(fd, "d", IN_ALL_EVENTS));
    SET_UP(rmdir("d") == 0);
    show("all removed", fd);
}

TEST(inotify_hears_of_renames) {
    int fd = new_instance();
    SET_UP(mkdir("a", 0755) == 0 && mkdir("b", 0755) == 0);
    make_text("a/one", "1");
    make_text("a/two", "2");
    watch(fd, "a", IN_ALL_EVENTS);
    watch(fd, "b", IN_ALL_EVENTS);
    watch(fd, "a/one", IN_ALL_EVENTS);
    watch(fd, "a/two", IN_ALL_EVENTS);
    SET_UP(rename("a/one", "a/uno") == 0);
    show("in a directory", fd);
    SET_UP(rename("a/uno", "b/one") == 0);
    show("to another directory", fd);
    SET_UP(rename("b/one", "a/two") == 0);
    show("over another file", fd);
    SET_UP(rename("a/two", "elsewhere") == 0);
    show("away", fd);
    SET_UP(rename("elsewhere", "b/back") == 0);
    show("back", fd);
    SET_UP(rename("b/back", "b/back") == 0);
    show("to itself", fd);
}

TEST(inotify_hears_of_exchanges) {
    int fd = new_instance();
    SET_UP(mkdir("a", 0755) == 0 && mkdir("b", 0755) == 0);
    make_text("a/one", "1");
    SET_UP(mkdir("b/two", 0755) == 0);
    watch(fd, "a", IN_MOVE);
    watch(fd, "b", IN_MOVE);
    watch(fd, "a/one", IN_MOVE_SELF);
    if (RAW(SYS_renameat2, AT_FDCWD, "a/one", AT_FDCWD, "b/two", 2) != 0)
        say("not exchanged: %s", errno_name(errno));
    show("exchanged", fd);
}

TEST(inotify_watches_end_with_their_file) {
    int fd = new_instance();
    make_text("file", "text");
    make_text("open", "text");
    watch(fd, "file", IN_ALL_EVENTS);
    watch(fd, "open", IN_DELETE_SELF | IN_MODIFY | IN_CLOSE);
    SET_UP(unlink("file") == 0);
    show("removed", fd);
    int file = open("open", O_WRONLY);
    SET_UP(unlink("open") == 0);
    show("removed while open", fd);
    SET_UP(write(file, "x", 1) == 1);
    show("written", fd);
    SET_UP(close(file) == 0);
    show("closed", fd);
    CALL(inotify_rm_watch(fd, 1));
    CALL(inotify_rm_watch(fd, 2));
    make_text("file", "text");
    CALL(inotify_add_watch(fd, "file", IN_OPEN));
}

TEST(inotify_one_shot) {
    int fd = new_instance();
    make_text("file", "text");
    watch(fd, "file", IN_OPEN | IN_ONESHOT);
    SET_UP(chmod("file", 0600) == 0);
    show("not asked for", fd);
    show_file("file");
    show("opened", fd);
    show_file("file");
    show("opened again", fd);
    CALL(inotify_rm_watch(fd, 1));
}

TEST(inotify_masks_are_replaced_or_added) {
    int fd = new_instance();
    make_text("file", "text");
    CALL(inotify_add_watch(fd, "file", IN_OPEN));
    CALL(inotify_add_watch(fd, "file", IN_CLOSE_NOWRITE | IN_MASK_ADD));
    show_file("file");
    show("both", fd);
    CALL(inotify_add_watch(fd, "file", IN_ACCESS));
    show_file("file");
    show("replaced", fd);
}

TEST(inotify_leaves_out_repetitions) {
    int fd = new_instance();
    make_text("file", "");
    int file = open("file", O_RDWR);
    watch(fd, "file", IN_MODIFY | IN_ATTRIB);
    for (int i = 0; i < 5; i++)
        SET_UP(write(file, "x", 1) == 1);
    show("five times", fd);
    for (int i = 0; i < 3; i++)
        SET_UP(write(file, "x", 1) == 1 && fchmod(file, 0600 + i) == 0);
    show("by turns", fd);
}

TEST(inotify_and_removed_names) {
    int fd = new_instance();
    SET_UP(mkdir("d", 0755) == 0);
    make_text("d/a", "");
    make_text("d/b", "");
    int a = open("d/a", O_RDWR), b = open("d/b", O_RDWR);
    watch(fd, "d", IN_MODIFY | IN_DELETE);
    SET_UP(unlink("d/a") == 0 && write(a, "x", 1) == 1);
    show("told", fd);
    watch(fd, "d", IN_MODIFY | IN_DELETE | IN_EXCL_UNLINK);
    SET_UP(unlink("d/b") == 0 && write(b, "x", 1) == 1 && write(a, "x", 1) == 1);
    show("not told", fd);
}

TEST(inotify_reads_whole_events) {
    int fd = new_instance(), bytes = 0;
    SET_UP(mkdir("d", 0755) == 0);
    watch(fd, "d", IN_CREATE);
    CALL(ioctl(fd, FIONREAD, &bytes));
    say("%d bytes", bytes);
    make_text("d/one", "");
    make_text("d/two", "");
    CALL(ioctl(fd, FIONREAD, &bytes));
    say("%d bytes", bytes);
    char buffer[100];
    CALL(read(fd, buffer, 16));
    CALL(read(fd, buffer, 31));
    CALL(read(fd, BAD_ADDRESS, 32));
    CALL(read(fd, buffer, 63));
    CALL(ioctl(fd, FIONREAD, &bytes));
    say("%d bytes", bytes);
    CALL(read(fd, buffer, 100));
    CALL(read(fd, buffer, 100));
}

TEST(inotify_can_be_waited_for) {
    int fd = new_instance(), instance = epoll_create1(0);
    make_text("file", "text");
    watch(fd, "file", IN_MODIFY);
    struct pollfd entry = {fd, POLLIN | POLLOUT | POLLRDNORM, 0};
    CALL(poll(&entry, 1, 0));
    struct epoll_event event = {EPOLLIN, {.u64 = 4}};
    SET_UP(epoll_ctl(instance, EPOLL_CTL_ADD, fd, &event) == 0);
    CALL(epoll_wait(instance, &event, 1, 0));
    pid_t child = fork_child();
    if (child == 0) {
        sleep_ms(40);
        make_text("file", "other");
        _exit(0);
    }
    CALL(poll(&entry, 1, -1));
    HOLDS(entry.revents == (POLLIN | POLLRDNORM));
    CALL(epoll_wait(instance, &event, 1, -1));
    SET_UP(fcntl(fd, F_SETFL, 0) == 0);
    show_end("child", child);
    show("written", fd);
    child = fork_child();
    if (child == 0) {
        sleep_ms(40);
        SET_UP(truncate("file", 0) == 0);
        _exit(0);
    }
    show("truncated", fd);
    show_end("child", child);
}

TEST(inotify_instances_hear_independently) {
    int first = new_instance(), second = new_instance();
    make_text("file", "text");
    watch(first, "file", IN_OPEN);
    watch(second, "file", IN_OPEN | IN_CLOSE);
    show_file("file");
    show("first", first);
    show("second", second);
    SET_UP(close(first) == 0);
    show_file("file");
    show("second again", second);
}

TEST(inotify_queue_overflows) {
    int fd = new_instance(), bytes;
    SET_UP(mkdir("d", 0755) == 0);
    make_text("d/a", "");
    make_text("d/b", "");
    watch(fd, "d", IN_ATTRIB);
    for (int i = 0; i < 10000; i++)
        SET_UP(chmod("d/a", 0600) == 0 && chmod("d/b", 0600) == 0);
    static char buffer[1 << 20] __attribute__((aligned(8)));
    SET_UP(ioctl(fd, FIONREAD, &bytes) == 0);
    long length = read(fd, buffer, sizeof buffer), events = 0;
    HOLDS(length == bytes);
    struct inotify_event *event = NULL;
    for (long at = 0; at < length; at += sizeof *event + event->len, events++)
        event = (struct inotify_event *)(buffer + at);
    say("%ld events, the last of watch %d: %s", events, event->wd, event->mask == IN_Q_OVERFLOW ? "overflow" : "?");
    SET_UP(chmod("d/a", 0600) == 0);
    show("afterwards", fd);
}

/* So many that any system would have found a shorter way by then. */
static void read_often(int fd) {
    char byte;
    for (int i = 0; i < 200; i++)
        SET_UP(pread(fd, &byte, 1, 0) == 1);
}

TEST(reads_are_told_of_however_many_went_before) {
    make_text("file", "content");
    SET_UP(mkdir("directory", 0755) == 0);
    make_text("directory/file", "content");
    int fd = new_instance(), file = open("file", O_RDONLY), other = open("directory/file", O_RDONLY);
    SET_UP(file >= 0 && other >= 0);
    read_often(file);
    read_often(other);
    char byte;
    int number = watch(fd, "file", IN_ACCESS);
    SET_UP(read(file, &byte, 1) == 1);
    show("a read", fd);
    read_often(file);
    show("many reads", fd);
    CALL(inotify_rm_watch(fd, number));
    show("the end", fd);
    watch(fd, "directory", IN_ACCESS);
    SET_UP(read(other, &byte, 1) == 1);
    show("a read in a directory", fd);
    read_often(file);
    SET_UP(rename("file", "directory/moved") == 0);
    SET_UP(read(file, &byte, 1) == 1);
    show("a read of a file that came there", fd);
}

TEST(transfers_with_null_and_zero_are_told_of) {
    int fd = new_instance(), null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR);
    SET_UP(null >= 0 && zero >= 0);
    char byte;
    for (int i = 0; i < 200; i++) {
        SET_UP(write(null, "x", 1) == 1);
        SET_UP(read(zero, &byte, 1) == 1);
    }
    watch(fd, "/dev/null", IN_MODIFY | IN_EXCL_UNLINK);
    SET_UP(write(null, "x", 1) == 1);
    show("null", fd);
    int other = new_instance();
    watch(other, "/dev/zero", IN_ACCESS | IN_EXCL_UNLINK);
    SET_UP(read(zero, &byte, 1) == 1);
    show("zero", other);
}
