/* Mounts: what is mounted where, with which options, and what they forbid. All in a mount name space of the case's own. */
#include "case.h"

#include <sched.h>
#include <setjmp.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

/* From here on nothing that is mounted is seen outside. */
static void enter_own_name_space(void) {
    SET_UP(unshare(CLONE_NEWNS) == 0);
    SET_UP(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
}

static void mount_tmpfs(const char *path, unsigned long flags, const char *options) {
    SET_UP(mkdir(path, 0755) == 0 || errno == EEXIST);
    SET_UP(mount("none", path, "tmpfs", flags, options) == 0);
}

ROOT_TEST(mount_of_tmpfs_covers_and_umount_uncovers) {
    enter_own_name_space();
    SET_UP(mkdir("m", 0755) == 0);
    make_text("m/below", "below");
    CALL(mount("none", "m", "tmpfs", 0, NULL));
    CALL(access("m/below", F_OK));
    make_text("m/above", "above");
    struct stat inside, outside;
    SET_UP(stat("m", &inside) == 0 && stat(".", &outside) == 0);
    HOLDS(inside.st_dev != outside.st_dev);
    say("mode of the root: %o", inside.st_mode);
    struct statfs status;
    CALL(statfs("m", &status));
    HOLDS(status.f_type == 0x01021994);
    CALL(umount("m"));
    CALL(access("m/above", F_OK));
    show_file("m/below");
    CALL(umount("m"));
}

ROOT_TEST(mount_options_of_tmpfs_hold) {
    enter_own_name_space();
    mount_tmpfs("m", 0, "size=64k,nr_inodes=4,mode=0711,uid=5,gid=6");
    struct stat status;
    SET_UP(stat("m", &status) == 0);
    say("root: mode %o, owner %u:%u", status.st_mode, status.st_uid, status.st_gid);
    struct statfs numbers;
    SET_UP(statfs("m", &numbers) == 0);
    say("blocks %lu of %ld, files %lu of %lu", (unsigned long)numbers.f_bfree, (long)numbers.f_blocks,
        (unsigned long)numbers.f_ffree, (unsigned long)numbers.f_files);
    int fd = open("m/f", O_RDWR | O_CREAT, 0644);
    char page[PAGE];
    memset(page, 'x', sizeof page);
    for (int i = 0; i < 16; i++)
        SET_UP(write(fd, page, sizeof page) == (ssize_t)sizeof page);
    CALL(write(fd, page, sizeof page));
    SET_UP(statfs("m", &numbers) == 0);
    say("free: %lu", (unsigned long)numbers.f_bfree);
    CALL(ftruncate(fd, 0));
    CALL(write(fd, page, 1));
    CALL(close(creat("m/g", 0644)) >= 0);
    CALL(mkdir("m/d", 0755));
    CALL(mkdir("m/e", 0755));
    CALL(unlink("m/g"));
    CALL(mkdir("m/e", 0755));
    CALL(mount("none", "m", NULL, MS_REMOUNT, "size=128k"));
    SET_UP(statfs("m", &numbers) == 0);
    say("blocks after the remount: %ld", (long)numbers.f_blocks);
}

static sigjmp_buf out_of_store;
static siginfo_t store_fault;

static void leave_store(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    store_fault = *info;
    siglongjmp(out_of_store, signal_number);
}

ROOT_TEST(a_store_to_a_full_tmpfs_is_a_bus_error) {
    enter_own_name_space();
    mount_tmpfs("m", 0, "size=64k");
    int fd = open("m/f", O_RDWR | O_CREAT, 0644);
    SET_UP(ftruncate(fd, 32 * PAGE) == 0);
    char *area = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    SET_UP(area != MAP_FAILED);
    handle_info(SIGBUS, leave_store, 0);
    static volatile int stored;
    int signal_number = sigsetjmp(out_of_store, 1);
    if (signal_number == 0)
        for (; stored < 32; stored++)
            area[(size_t)stored * PAGE] = 'x';
    say("%d pages, then %s, code %d, at page %ld", stored, signal_name(signal_number), store_fault.si_code,
        (long)(((char *)store_fault.si_addr - area) / PAGE));
    int zero = open("/dev/zero", O_RDONLY);
    CALL(read(zero, area + 20 * PAGE, 100));
    CALL(fallocate(fd, 0, 0, 20 * PAGE));
    CALL(pwrite(fd, "x", 1, 20 * PAGE));
    SET_UP(munmap(area, 32 * PAGE) == 0 && ftruncate(fd, 0) == 0);
    CALL(pwrite(fd, "x", 1, 20 * PAGE));
}

ROOT_TEST(mount_refuses_bad_arguments) {
    enter_own_name_space();
    SET_UP(mkdir("m", 0755) == 0);
    make_text("file", "x");
    CALL(mount("none", "m", "no-such-type", 0, NULL));
    CALL(mount("none", "m", NULL, 0, NULL));
    CALL(mount("none", "absent", "tmpfs", 0, NULL));
    CALL(mount("none", "file", "tmpfs", 0, NULL));
    CALL(mount("none", "m", "tmpfs", 0, "nonsense=1"));
    CALL(mount("none", "m", "tmpfs", 0, "size=x"));
    CALL(mount("none", "m", "tmpfs", MS_REMOUNT, NULL));
    CALL(mount("m", "m", NULL, MS_MOVE, NULL));
    CALL(mount(NULL, "m", NULL, MS_BIND, NULL));
    CALL(mount("absent", "m", NULL, MS_BIND, NULL));
    CALL(mount("file", "m", NULL, MS_BIND, NULL));
    CALL(mount("m", "file", NULL, MS_BIND, NULL));
    CALL(mount(NULL, "m", NULL, MS_PRIVATE, NULL));
    CALL(mount(NULL, "/", NULL, MS_PRIVATE | MS_SHARED, NULL));
    CALL(mount("none", (char *)BAD_ADDRESS, "tmpfs", 0, NULL));
    CALL(mount("none", "m", (char *)BAD_ADDRESS, 0, NULL));
    CALL(umount("m"));
    CALL(umount("absent"));
    CALL(umount2("m", 64));
    CALL(umount2("m", MNT_EXPIRE | MNT_DETACH));
}

ROOT_TEST(who_is_not_the_superuser_mounts_nothing) {
    enter_own_name_space();
    SET_UP(mkdir("m", 0777) == 0);
    SET_UP(chmod(".", 0777) == 0);
    mount_tmpfs("t", 0, NULL);
    drop_to(NOBODY, NOBODY);
    CALL(mount("none", "m", "tmpfs", 0, NULL));
    CALL(mount("m", "m", NULL, MS_BIND, NULL));
    CALL(umount("t"));
    CALL(umount("m"));
    CALL(umount2("m", 64));
    CALL(unshare(CLONE_NEWNS));
    CALL(chroot("m"));
    CALL(syscall(SYS_pivot_root, "m", "m"));
}

ROOT_TEST(a_read_only_mount_lets_nothing_change) {
    enter_own_name_space();
    mount_tmpfs("m", 0, NULL);
    make_text("m/f", "text");
    SET_UP(mkdir("m/d", 0755) == 0 && mkfifo("m/p", 0644) == 0);
    int fd = open("m/f", O_RDWR);
    CALL(mount("none", "m", NULL, MS_REMOUNT | MS_RDONLY, NULL));
    SET_UP(close(fd) == 0);
    CALL(mount("none", "m", NULL, MS_REMOUNT | MS_RDONLY, NULL));
    CALL(open("m/f", O_WRONLY));
    CALL(open("m/f", O_RDONLY | O_TRUNC));
    CALL(open("m/new", O_RDWR | O_CREAT, 0644));
    CALL_OK(open("m/f", O_RDWR | O_CREAT, 0644));
    CALL_OK(open("m/f", O_RDONLY | O_CREAT, 0644));
    CALL_OK(open("m/p", O_RDWR));
    CALL(open("m", O_TMPFILE | O_RDWR, 0600));
    CALL(mkdir("m/new", 0755));
    CALL(mkdir("m/d", 0755));
    CALL(rmdir("m/d"));
    CALL(unlink("m/f"));
    CALL(unlink("m/absent"));
    CALL(rename("m/f", "m/g"));
    CALL(rename("m/absent", "m/g"));
    CALL(link("m/f", "m/g"));
    CALL(symlink("f", "m/s"));
    CALL(mknod("m/n", S_IFREG, 0));
    CALL(chmod("m/f", 0600));
    CALL(chown("m/f", 1, 1));
    CALL(truncate("m/f", 0));
    CALL(utimensat(AT_FDCWD, "m/f", NULL, 0));
    CALL(setxattr("m/f", "user.a", "b", 1, 0));
    CALL(access("m/f", W_OK));
    CALL(access("m/f", R_OK));
    CALL(access("m/p", W_OK));
    struct statvfs status;
    SET_UP(statvfs("m", &status) == 0);
    HOLDS(status.f_flag & ST_RDONLY);
    CALL(mount("none", "m", NULL, MS_REMOUNT, NULL));
    CALL(unlink("m/f"));
}

ROOT_TEST(a_bind_mount_can_be_read_only_alone) {
    enter_own_name_space();
    SET_UP(mkdir("d", 0755) == 0 && mkdir("b", 0755) == 0);
    make_text("d/f", "text");
    CALL(mount("d", "b", NULL, MS_BIND | MS_RDONLY, NULL));
    CALL_OK(open("b/f", O_WRONLY));
    for (int fd = 3; fd < 8; fd++)
        close(fd);
    CALL(mount(NULL, "b", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
    CALL(open("b/f", O_WRONLY));
    CALL_OK(open("d/f", O_WRONLY));
    show_file("b/f");
    CALL(link("d/f", "b/g"));
    CALL(rename("d/f", "b/g"));
    CALL(mount(NULL, "d", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
}

ROOT_TEST(files_can_be_bound_too) {
    enter_own_name_space();
    make_text("a", "of a");
    make_text("b", "of b");
    CALL(mount("a", "b", NULL, MS_BIND, NULL));
    show_file("b");
    CALL(unlink("b"));
    CALL(rename("a", "b"));
    CALL(rename("b", "c"));
    CALL(umount("b"));
    show_file("b");
}

ROOT_TEST(binds_take_what_is_below_only_when_asked) {
    enter_own_name_space();
    SET_UP(mkdir("d", 0755) == 0 && mkdir("d/in", 0755) == 0 && mkdir("b", 0755) == 0 && mkdir("r", 0755) == 0);
    mount_tmpfs("d/in", 0, NULL);
    make_text("d/in/f", "inside");
    CALL(mount("d", "b", NULL, MS_BIND, NULL));
    CALL(access("b/in/f", F_OK));
    CALL(mount("d", "r", NULL, MS_BIND | MS_REC, NULL));
    CALL(access("r/in/f", F_OK));
    CALL(umount("r"));
    CALL(umount("r/in"));
    CALL(umount("r"));
    CALL(umount("d/in"));
    CALL(mount(NULL, "b", NULL, MS_UNBINDABLE, NULL));
    CALL(mount("b", "r", NULL, MS_BIND, NULL));
}

ROOT_TEST(noexec_nodev_nosuid_and_nosymfollow_forbid) {
    enter_own_name_space();
    mount_tmpfs("m", MS_NOEXEC | MS_NODEV | MS_NOSYMFOLLOW, NULL);
    make_text("m/script", "#!/bin/sh\n");
    SET_UP(chmod("m/script", 0755) == 0);
    SET_UP(mknod("m/null", S_IFCHR | 0666, 0x103) == 0);
    SET_UP(symlink("script", "m/link") == 0);
    char *arguments[] = {"m/script", NULL};
    CALL(execv("m/script", arguments));
    CALL(access("m/script", X_OK));
    CALL(access("m", X_OK));
    CALL(open("m/null", O_RDWR));
    CALL(open("m/link", O_RDONLY));
    struct stat status;
    CALL(stat("m/link", &status));
    CALL(lstat("m/link", &status));
    int fd = open("m/script", O_RDWR);
    SET_UP(fd >= 0);
    CALL_MAP(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
    void *map = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    SET_UP(map != MAP_FAILED);
    CALL(mprotect(map, PAGE, PROT_READ | PROT_EXEC));
    CALL(mount("none", "m", NULL, MS_REMOUNT, NULL));
    CALL_OK(open("m/null", O_RDWR));
    CALL_OK(open("m/link", O_RDONLY));
}

static long accessed_ns(const char *path) {
    struct stat status;
    SET_UP(stat(path, &status) == 0);
    return status.st_atim.tv_sec * 1000000000L + status.st_atim.tv_nsec;
}

static bool reading_renews(const char *path) {
    struct timespec old[2] = {{1000, 0}, {2000, 0}};
    SET_UP(utimensat(AT_FDCWD, path, old, 0) == 0);
    char byte;
    sleep_ms(30);
    int fd = open(path, O_RDONLY);
    SET_UP(fd >= 0 && read(fd, &byte, 1) == 1 && close(fd) == 0);
    long first = accessed_ns(path);
    sleep_ms(30);
    fd = open(path, O_RDONLY);
    SET_UP(fd >= 0 && read(fd, &byte, 1) == 1 && close(fd) == 0);
    say("%s: the first read renews: %s, the second: %s", path, first > 1000000000000L ? "yes" : "no",
        accessed_ns(path) > first ? "yes" : "no");
    return true;
}

ROOT_TEST(access_times_are_kept_as_the_mount_says) {
    enter_own_name_space();
    mount_tmpfs("relative", 0, NULL);
    mount_tmpfs("none", MS_NOATIME, NULL);
    mount_tmpfs("strict", MS_STRICTATIME, NULL);
    make_text("relative/f", "x");
    make_text("none/f", "x");
    make_text("strict/f", "x");
    reading_renews("relative/f");
    reading_renews("none/f");
    reading_renews("strict/f");
}

ROOT_TEST(a_mount_in_use_is_busy_unless_it_may_go_later) {
    enter_own_name_space();
    mount_tmpfs("m", 0, NULL);
    make_text("m/f", "still here");
    int fd = open("m/f", O_RDONLY);
    CALL(umount("m"));
    SET_UP(close(fd) == 0 && chdir("m") == 0);
    CALL(umount("../m"));
    SET_UP(chdir("..") == 0 && mkdir("m/in", 0755) == 0);
    mount_tmpfs("m/in", 0, NULL);
    CALL(umount("m"));
    fd = open("m/f", O_RDONLY);
    CALL(umount2("m", MNT_DETACH));
    CALL(access("m/f", F_OK));
    char text[16] = "";
    CALL(read(fd, text, sizeof text));
    CALL(umount("m"));
    SET_UP(close(fd) == 0);
    mount_tmpfs("m", 0, NULL);
    CALL(umount2("m", MNT_EXPIRE));
    CALL(umount2("m", MNT_EXPIRE));
    CALL(umount2("m", MNT_EXPIRE));
    CALL(symlink("m", "s"));
    mount_tmpfs("m", 0, NULL);
    CALL(umount2("s", UMOUNT_NOFOLLOW));
    CALL(umount2("s", 0));
}

ROOT_TEST(mounts_move) {
    enter_own_name_space();
    mount_tmpfs("a", 0, NULL);
    make_text("a/f", "moved");
    SET_UP(mkdir("b", 0755) == 0 && mkdir("a/in", 0755) == 0);
    CALL(mount("a", "a/in", NULL, MS_MOVE, NULL));
    CALL(mount("a/in", "b", NULL, MS_MOVE, NULL));
    CALL(mount("a", "b", NULL, MS_MOVE, NULL));
    CALL(access("a/f", F_OK));
    show_file("b/f");
    SET_UP(chdir("b") == 0);
    char *path = getcwd(NULL, 0);
    HOLDS(path && strcmp(strrchr(path, '/'), "/b") == 0);
    SET_UP(chdir("..") == 0);
    CALL(umount("b"));
}

ROOT_TEST(mounts_stack) {
    enter_own_name_space();
    mount_tmpfs("m", 0, NULL);
    make_text("m/first", "");
    mount_tmpfs("m", 0, NULL);
    make_text("m/second", "");
    CALL(access("m/first", F_OK));
    CALL(access("m/second", F_OK));
    CALL(access("m/..", F_OK));
    CALL(umount("m"));
    CALL(access("m/first", F_OK));
    CALL(umount("m"));
    CALL(access("m/first", F_OK));
}

/* The line of mountinfo for a mount point that ends so: its options and what it is. */
static void show_mountinfo(const char *ending) {
    FILE *file = fopen("/proc/self/mountinfo", "r");
    SET_UP(file);
    char line[1024];
    while (fgets(line, sizeof line, file)) {
        char root[256], point[256], options[256], rest[256];
        if (sscanf(line, "%*d %*d %*s %255s %255s %255s %255[^\n]", root, point, options, rest) != 4)
            continue;
        size_t length = strlen(point), wanted = strlen(ending);
        if (length < wanted || strcmp(point + length - wanted, ending) != 0)
            continue;
        char *dash = strstr(rest, "- ");
        char kind[64] = "", source[64] = "", super[256] = "";
        if (dash)
            sscanf(dash, "- %63s %63s %255s", kind, source, super);
        /* Some kernels show how wide the numbers of inodes are. */
        char *width = strstr(super, ",inode64");
        if (width)
            *width = 0;
        bool shared = strncmp(rest, "shared:", 7) == 0, slave = strstr(rest, "master:") && strstr(rest, "master:") < dash;
        say("%s: options %s, %s%s%stype %s, source %s, super %s", ending, options, shared ? "shared, " : "",
            slave ? "slave, " : "", strstr(rest, "unbindable") ? "unbindable, " : "", kind, source, super);
    }
    fclose(file);
}

ROOT_TEST(mountinfo_tells_options_and_propagation) {
    enter_own_name_space();
    mount_tmpfs("with space", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME, "size=1m,mode=700");
    show_mountinfo("/with\\040space");
    mount_tmpfs("m", 0, "size=1m");
    show_mountinfo("/m");
    CALL(mount(NULL, "m", NULL, MS_SHARED, NULL));
    show_mountinfo("/m");
    SET_UP(mkdir("b", 0755) == 0);
    CALL(mount("m", "b", NULL, MS_BIND, NULL));
    show_mountinfo("/b");
    CALL(mount(NULL, "b", NULL, MS_SLAVE, NULL));
    show_mountinfo("/b");
    CALL(mount(NULL, "b", NULL, MS_PRIVATE, NULL));
    show_mountinfo("/b");
    CALL(mount(NULL, "b", NULL, MS_UNBINDABLE, NULL));
    show_mountinfo("/b");
}

ROOT_TEST(mounts_spread_between_peers_and_to_slaves) {
    enter_own_name_space();
    mount_tmpfs("m", 0, "size=1m");
    SET_UP(mkdir("m/x", 0755) == 0 && mkdir("peer", 0755) == 0 && mkdir("slave", 0755) == 0);
    SET_UP(mount(NULL, "m", NULL, MS_SHARED, NULL) == 0);
    SET_UP(mount("m", "peer", NULL, MS_BIND, NULL) == 0);
    SET_UP(mount("m", "slave", NULL, MS_BIND, NULL) == 0);
    SET_UP(mount(NULL, "slave", NULL, MS_SLAVE, NULL) == 0);
    CALL(mount("none", "m/x", "tmpfs", 0, "size=1m"));
    make_text("m/x/f", "seen");
    show_file("peer/x/f");
    show_file("slave/x/f");
    show_mountinfo("/slave/x");
    CALL(umount("peer/x"));
    CALL(access("m/x/f", F_OK));
    CALL(access("slave/x/f", F_OK));
    CALL(mount("none", "slave/x", "tmpfs", 0, "size=1m"));
    make_text("slave/x/f", "alone");
    CALL(access("m/x/f", F_OK));
    CALL(access("peer/x/f", F_OK));
}

ROOT_TEST(a_child_sees_its_parents_mounts_until_it_has_its_own) {
    enter_own_name_space();
    SET_UP(mkdir("m", 0755) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(mount("none", "m", "tmpfs", 0, NULL) == 0);
        make_text("m/f", "by the child");
        _exit(0);
    }
    show_end("child", child);
    show_file("m/f");
    child = fork_child();
    if (child == 0) {
        SET_UP(unshare(CLONE_NEWNS) == 0);
        SET_UP(umount("m") == 0);
        _exit(access("m/f", F_OK) == 0);
    }
    show_end("second child", child);
    show_file("m/f");
    CALL(umount("m"));
}

ROOT_TEST(pivot_root_exchanges_the_root) {
    enter_own_name_space();
    mount_tmpfs("new", 0, NULL);
    SET_UP(mkdir("new/old", 0755) == 0 && mkdir("plain", 0755) == 0);
    make_text("new/f", "in the new root");
    CALL(syscall(SYS_pivot_root, "absent", "new/old"));
    CALL(syscall(SYS_pivot_root, "new/f", "new/old"));
    CALL(syscall(SYS_pivot_root, "plain", "plain"));
    CALL(syscall(SYS_pivot_root, "new", "plain"));
    CALL(syscall(SYS_pivot_root, "new", "new/old"));
    SET_UP(chdir("/") == 0);
    show_file("/f");
    CALL(access("/old/proc", F_OK));
    CALL(umount2("/old", MNT_DETACH));
    CALL(access("/old/proc", F_OK));
    CALL(access("/..", F_OK));
}

ROOT_TEST(chroot_closes_in) {
    SET_UP(mkdir("jail", 0755) == 0 && mkdir("jail/d", 0755) == 0);
    make_text("jail/f", "inside");
    make_text("outside", "outside");
    int outside = open(".", O_RDONLY | O_DIRECTORY);
    CALL(chroot("jail/f"));
    CALL(chroot("absent"));
    CALL(chroot("jail"));
    CALL(access("outside", F_OK));
    CALL(chdir("/"));
    show_file("/f");
    CALL(access("../outside", F_OK));
    CALL(access("/../../outside", F_OK));
    char path[PATH_MAX];
    CALL(chdir("d"));
    CALL(getcwd(path, sizeof path) != NULL);
    show_bytes("path", path, strlen(path));
    CALL(fchdir(outside));
    CALL(access("outside", F_OK));
    CALL(syscall(SYS_getcwd, path, sizeof path) > 0);
}

ROOT_TEST(tmpfs_keeps_attributes_of_all_three_kinds) {
    enter_own_name_space();
    mount_tmpfs("m", 0, NULL);
    make_text("m/f", "x");
    CALL(setxattr("m/f", "trusted.t", "1", 1, 0));
    CALL(setxattr("m/f", "security.s", "22", 2, 0));
    char list[256];
    ssize_t length = listxattr("m/f", list, sizeof list);
    HOLDS(length > 0 && memmem(list, (size_t)length, "trusted.t", 10) && memmem(list, (size_t)length, "security.s", 11));
    CALL(getxattr("m/f", "trusted.t", list, sizeof list));
    CALL(getxattr("m/f", "security.s", list, sizeof list));
    CALL(removexattr("m/f", "trusted.t"));
    CALL(removexattr("m/f", "trusted.t"));
    SET_UP(chmod("m/f", 0666) == 0);
    SET_UP(setxattr("m/f", "trusted.t", "1", 1, 0) == 0);
    drop_to(NOBODY, NOBODY);
    CALL(setxattr("m/f", "trusted.t", "1", 1, 0));
    CALL(getxattr("m/f", "trusted.t", list, sizeof list));
    CALL(setxattr("m/f", "security.s", "1", 1, 0));
    CALL(getxattr("m/f", "security.s", list, sizeof list));
    length = listxattr("m/f", list, sizeof list);
    HOLDS(!memmem(list, (size_t)length, "trusted", 7));
}

#define FSOPEN 430
#define FSCONFIG 431
#define FSMOUNT 432
#define FSPICK 433
#define OPEN_TREE 428
#define MOVE_MOUNT 429
#define MOUNT_SETATTR 442
#define CONFIG_FLAG 0
#define CONFIG_STRING 1
#define CONFIG_CREATE 6
#define CONFIG_RECONFIGURE 7

ROOT_TEST(a_file_system_is_made_and_mounted_by_descriptors) {
    enter_own_name_space();
    SET_UP(mkdir("m", 0755) == 0 && mkdir("b", 0755) == 0);
    CALL(RAW(FSOPEN, "no-such-type", 0));
    CALL(RAW(FSOPEN, "tmpfs", 2));
    int context = (int)RAW(FSOPEN, "tmpfs", 1);
    SET_UP(context >= 0);
    CALL(RAW(FSCONFIG, context, CONFIG_STRING, "size", "64k", 0));
    CALL(RAW(FSCONFIG, context, CONFIG_STRING, "mode", "0700", 0));
    CALL(RAW(FSCONFIG, context, CONFIG_STRING, "nonsense", "1", 0));
    CALL(RAW(FSCONFIG, context, CONFIG_STRING, "source", "me", 0));
    CALL(RAW(FSCONFIG, context, CONFIG_STRING, "source", "again", 0));
    CALL(RAW(FSCONFIG, context, CONFIG_STRING, NULL, "x", 0));
    CALL(RAW(FSCONFIG, context, 77, NULL, NULL, 0));
    CALL(RAW(FSMOUNT, context, 0, 0));
    CALL(RAW(FSCONFIG, context, CONFIG_CREATE, NULL, NULL, 0));
    CALL(RAW(FSCONFIG, context, CONFIG_STRING, "size", "32k", 0));
    int tree = (int)RAW(FSMOUNT, context, 1, 2);
    SET_UP(tree >= 0);
    CALL(RAW(FSMOUNT, context, 0, 0));
    CALL(mkdirat(tree, "made-before", 0755));
    CALL(RAW(MOVE_MOUNT, tree, "", AT_FDCWD, "m", 4));
    CALL(access("m/made-before", F_OK));
    show_mountinfo("/m");
    CALL(RAW(MOVE_MOUNT, tree, "", AT_FDCWD, "b", 4));
    CALL(access("m", F_OK));
    CALL(access("b/made-before", F_OK));
    CALL(RAW(FSCONFIG, 0, CONFIG_CREATE, NULL, NULL, 0));
    CALL(RAW(FSCONFIG, -1, CONFIG_CREATE, NULL, NULL, 0));
}

ROOT_TEST(trees_are_copied_by_descriptors) {
    enter_own_name_space();
    mount_tmpfs("m", 0, NULL);
    SET_UP(mkdir("m/in", 0755) == 0 && mkdir("b", 0755) == 0 && mkdir("c", 0755) == 0);
    mount_tmpfs("m/in", 0, NULL);
    make_text("m/in/f", "deep");
    CALL(RAW(OPEN_TREE, AT_FDCWD, "m", 0x8000));
    CALL(RAW(OPEN_TREE, AT_FDCWD, "absent", 1));
    int flat = (int)RAW(OPEN_TREE, AT_FDCWD, "m", 1), deep = (int)RAW(OPEN_TREE, AT_FDCWD, "m", 1 | 0x8000);
    SET_UP(flat >= 0 && deep >= 0);
    CALL(faccessat(flat, "in/f", F_OK, 0));
    CALL(faccessat(deep, "in/f", F_OK, 0));
    CALL(RAW(MOVE_MOUNT, deep, "", AT_FDCWD, "b", 4));
    show_file("b/in/f");
    CALL(close(flat));
    int plain = (int)RAW(OPEN_TREE, AT_FDCWD, "m", 0);
    SET_UP(plain >= 0);
    CALL(RAW(MOVE_MOUNT, plain, "", AT_FDCWD, "c", 4));
    CALL(access("m/in", F_OK));
    show_file("c/in/f");
    struct {
        uint64_t set, clear, propagation, user;
    } attributes = {1 | 8, 0, 0, 0};
    long done = RAW(MOUNT_SETATTR, AT_FDCWD, "c", 0, &attributes, 32);
    bool known = done == 0 || errno != ENOSYS;
    HOLDS(!known || done == 0);
    HOLDS(!known || (open("c/new", O_RDWR | O_CREAT, 0644) == -1 && errno == EROFS));
    HOLDS(!known || open("c/in/new", O_RDWR | O_CREAT, 0644) >= 0);
}
