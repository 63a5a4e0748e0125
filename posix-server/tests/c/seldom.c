/* Calls that programs seldom make, or make by their number: each of them at least once, and its plain errors. */
#include "case.h"

#include <sched.h>
#include <sys/personality.h>
#include <sys/statfs.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

#define PLAIN_USER 1234

/* Younger than some C libraries. */
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#define SYS_getxattrat 464
#define SYS_listxattrat 465
#define SYS_removexattrat 466
#endif

/* `linux/capability.h`, which not every C library brings along. */
#define CAPABILITY_VERSION 0x20080522
struct capability_header {
    uint32_t version;
    int pid;
};
struct capabilities {
    uint32_t effective, permitted, inheritable;
};

/* ---- names and times ---- */

static void show_times(const char *path) {
    struct stat status;
    SET_UP(stat(path, &status) == 0);
    say("%s: accessed %ld.%09ld, modified %ld.%09ld", path, (long)status.st_atim.tv_sec, status.st_atim.tv_nsec,
        (long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

TEST(times_can_be_set_in_four_old_ways) {
    make_text("f", "");
    struct utimbuf seconds = {1000, 2000};
    struct timeval microseconds[2] = {{3000, 4}, {5000, 6}}, bad[2] = {{1, 1000000}, {1, 0}};
    CALL(RAW(SYS_utime, "f", &seconds));
    show_times("f");
    CALL(RAW(SYS_utimes, "f", microseconds));
    show_times("f");
    CALL(RAW(SYS_utimes, "f", bad));
    CALL(RAW(SYS_futimesat, AT_FDCWD, "f", NULL));
    int file = open("f", O_RDONLY);
    CALL(RAW(SYS_futimesat, file, NULL, microseconds));
    show_times("f");
    CALL(RAW(SYS_futimesat, -1, "f", microseconds));
    CALL(RAW(SYS_futimesat, -1, "", microseconds));
}

/* `struct linux_dirent`, whose last byte is the type. */
struct old_entry {
    unsigned long inode, position;
    unsigned short length;
    char name[];
};

static void show_old_entry(const char *entries, long size, const char *name) {
    for (long at = 0; at < size;) {
        const struct old_entry *entry = (const void *)(entries + at);
        if (strcmp(entry->name, name) == 0) {
            struct stat status;
            SET_UP(lstat(name, &status) == 0);
            say("%s: type %d, length %d, inode told: %s", name, ((const char *)entry)[entry->length - 1], entry->length,
                entry->inode == status.st_ino ? "yes" : "no");
        }
        at += entry->length;
    }
}

TEST(directories_are_listed_in_the_old_form) {
    static char entries[4096] __attribute__((aligned(8)));
    make_text("file", "");
    SET_UP(mkdir("directory-ab", 0755) == 0 && symlink("file", "link123") == 0);
    int directory = open(".", O_RDONLY | O_DIRECTORY);
    CALL(RAW(SYS_getdents, directory, entries, 16));
    long size = CALL(RAW(SYS_getdents, directory, entries, sizeof entries));
    show_old_entry(entries, size, ".");
    show_old_entry(entries, size, "file");
    show_old_entry(entries, size, "directory-ab");
    show_old_entry(entries, size, "link123");
    CALL(RAW(SYS_getdents, directory, entries, sizeof entries));
}

TEST(nodes_owners_and_modes_relative_to_a_directory) {
    SET_UP(mkdir("d", 0755) == 0);
    int directory = open("d", O_RDONLY | O_DIRECTORY);
    CALL(mknodat(directory, "fifo", S_IFIFO | 0600, 0));
    CALL(mknodat(directory, "file", S_IFREG | 0600, 0));
    CALL(mknodat(directory, "file", S_IFREG | 0600, 0));
    CALL(mknodat(directory, "bad", S_IFDIR | 0600, 0));
    CALL(fchownat(directory, "file", -1, -1, 0));
    CALL(fchownat(directory, "none", -1, -1, 0));
    CALL(fchownat(directory, "", -1, -1, AT_EMPTY_PATH));
    CALL(fchownat(directory, "file", -1, -1, 1 << 20));
    CALL(RAW(SYS_fchmodat2, directory, "file", 0640, 0));
    CALL(RAW(SYS_fchmodat2, directory, "file", 0640, 1));
    struct stat status;
    SET_UP(fstatat(directory, "file", &status, 0) == 0);
    say("mode %o", status.st_mode);
}

TEST(file_systems_tell_about_themselves) {
    int file = open("f", O_RDWR | O_CREAT, 0600);
    struct statfs by_path, by_file;
    CALL(statfs("f", &by_path));
    CALL(fstatfs(file, &by_file));
    HOLDS(by_path.f_type == by_file.f_type && by_path.f_bsize == by_file.f_bsize && by_file.f_namelen == 255);
    CALL(fstatfs(-1, &by_file));
    CALL(RAW(SYS_fstatfs, file, BAD_ADDRESS));
    CALL(RAW(SYS_sync));
}

TEST(bytes_move_between_files_in_the_kernel) {
    make_text("from", "0123456789");
    int from = open("from", O_RDONLY), to = open("to", O_RDWR | O_CREAT, 0600);
    loff_t at = 2;
    CALL(RAW(SYS_copy_file_range, from, &at, to, NULL, 5, 0));
    say("at %ld", (long)at);
    CALL(RAW(SYS_copy_file_range, from, NULL, to, NULL, 100, 0));
    CALL(RAW(SYS_copy_file_range, from, NULL, to, NULL, 100, 0));
    CALL(RAW(SYS_copy_file_range, from, NULL, to, NULL, 1, 1));
    CALL(RAW(SYS_copy_file_range, to, NULL, from, NULL, 1, 0));
    CALL(RAW(SYS_copy_file_range, -1, NULL, to, NULL, 1, 0));
    show_file("to");
}

struct how {
    uint64_t flags, mode, resolve;
};

TEST(openat2_checks_its_record) {
    make_text("f", "text");
    SET_UP(mkdir("d", 0755) == 0 && symlink("../f", "d/up") == 0);
    struct how how = {0}, unknown = {.flags = 1UL << 40}, mode = {.mode = 0600}, beneath = {.resolve = 8}, links = {.resolve = 4};
    int directory = open("d", O_RDONLY | O_DIRECTORY);
    CALL_OK(RAW(SYS_openat2, AT_FDCWD, "f", &how, sizeof how));
    CALL(RAW(SYS_openat2, AT_FDCWD, "f", &unknown, sizeof how));
    CALL(RAW(SYS_openat2, AT_FDCWD, "f", &mode, sizeof how));
    CALL(RAW(SYS_openat2, AT_FDCWD, "f", &how, 8));
    CALL(RAW(SYS_openat2, AT_FDCWD, "f", BAD_ADDRESS, sizeof how));
    CALL(RAW(SYS_openat2, directory, "up", &beneath, sizeof how));
    CALL(RAW(SYS_openat2, directory, "../f", &beneath, sizeof how));
    CALL(RAW(SYS_openat2, directory, "up", &links, sizeof how));
}

TEST(attributes_of_links_and_of_open_files) {
    make_text("f", "");
    SET_UP(symlink("f", "l") == 0);
    char list[64];
    int file = open("f", O_RDWR);
    CALL(llistxattr("l", list, sizeof list));
    CALL(flistxattr(file, list, sizeof list));
    CALL(flistxattr(-1, list, sizeof list));
    CALL(lsetxattr("l", "user.a", "1", 1, 0));
    CALL(fremovexattr(file, "user.none"));
}

TEST(attributes_relative_to_a_directory) {
    SET_UP(mkdir("d", 0755) == 0);
    make_text("d/f", "");
    int directory = open("d", O_RDONLY | O_DIRECTORY);
    char list[64];
    struct {
        uint64_t value;
        uint32_t size, flags;
    } record = {0, 0, 9};
    CALL(RAW(SYS_setxattrat, directory, "f", 0, "user.a", &record, sizeof record));
    CALL(RAW(SYS_getxattrat, directory, "f", 0, "user.none", &record, 4));
    CALL(RAW(SYS_listxattrat, directory, "none", 0, list, sizeof list));
    CALL(RAW(SYS_removexattrat, directory, "f", 1, "user.none"));
}

/* ---- users ---- */

ROOT_TEST(groups_and_file_users_change) {
    CALL(RAW(SYS_setfsuid, PLAIN_USER));
    CALL(RAW(SYS_setfsuid, -1));
    CALL(RAW(SYS_setfsgid, PLAIN_USER));
    CALL(RAW(SYS_setfsgid, -1));
    CALL(RAW(SYS_setregid, PLAIN_USER, PLAIN_USER + 1));
    say("%d %d", getgid(), getegid());
    CALL(setuid(PLAIN_USER));
    CALL(RAW(SYS_setregid, PLAIN_USER + 1, PLAIN_USER));
    CALL(RAW(SYS_setregid, 7, -1));
}

ROOT_TEST(a_plain_user_has_no_capabilities_and_gets_none) {
    drop_to(PLAIN_USER, PLAIN_USER);
    struct capability_header header = {CAPABILITY_VERSION, 0};
    struct capabilities data[2] = {{0}};
    CALL(RAW(SYS_capget, &header, data));
    say("effective %x %x", data[0].effective, data[1].effective);
    CALL(RAW(SYS_capset, &header, data));
    data[0].effective = data[0].permitted = 1;
    CALL(RAW(SYS_capset, &header, data));
    header.version = 1;
    CALL(RAW(SYS_capget, &header, NULL));
    HOLDS(header.version == CAPABILITY_VERSION);
}

/* A Linux without modules has no such calls; with them, what is not a module is refused. */
ROOT_TEST(no_module_can_be_loaded) {
    int zero = open("/dev/zero", O_RDONLY), file = open("file", O_RDWR | O_CREAT, 0644);
    SET_UP(zero >= 0 && file >= 0 && write(file, "no module", 9) == 9);
    char image[100] = {0};
    HOLDS(RAW(SYS_init_module, image, sizeof image, "") == -1 && (errno == ENOEXEC || errno == ENOSYS));
    HOLDS(RAW(SYS_init_module, BAD_ADDRESS, sizeof image, "") == -1 && (errno == EFAULT || errno == ENOSYS));
    HOLDS(RAW(SYS_finit_module, file, "", 0) == -1 && (errno == ENOEXEC || errno == ENOSYS));
    HOLDS(RAW(SYS_finit_module, zero, "", 0) == -1 && (errno == EINVAL || errno == ENOSYS));
    HOLDS(RAW(SYS_finit_module, -1, "", 0) == -1 && (errno == EBADF || errno == ENOSYS));
    HOLDS(RAW(SYS_finit_module, file, "", 0x100) == -1 && (errno == EINVAL || errno == ENOSYS));
    HOLDS(RAW(SYS_delete_module, "none", 0) == -1 && (errno == ENOENT || errno == ENOSYS));
    HOLDS(RAW(SYS_delete_module, BAD_ADDRESS, 0) == -1 && (errno == EFAULT || errno == ENOSYS));
}

ROOT_TEST(a_plain_user_may_not_change_the_system) {
    drop_to(PLAIN_USER, PLAIN_USER);
    CALL(sethostname("mine", 4));
    CALL(setdomainname("mine", 4));
    CALL(RAW(SYS_vhangup));
    CALL(RAW(SYS_fsopen, "tmpfs", 0));
    CALL(RAW(SYS_fspick, AT_FDCWD, ".", 0));
    CALL(RAW(SYS_fsmount, -1, 0, 0));
    CALL(RAW(SYS_fsconfig, -1, 0, NULL, NULL, 0));
    CALL(RAW(SYS_open_tree, AT_FDCWD, ".", 1));
    CALL(RAW(SYS_move_mount, -1, "", AT_FDCWD, ".", 4));
    CALL(RAW(SYS_mount_setattr, AT_FDCWD, ".", 0, NULL, 0));
    CALL(RAW(SYS_reboot, 1, 2, 3, NULL));
    CALL(RAW(SYS_acct, NULL));
    /* A Linux without modules has no such calls. */
    HOLDS(RAW(SYS_init_module, NULL, 0, "") == -1 && (errno == EPERM || errno == ENOSYS));
    HOLDS(RAW(SYS_finit_module, 0, "", 0) == -1 && (errno == EPERM || errno == ENOSYS));
    HOLDS(RAW(SYS_delete_module, "none", 0) == -1 && (errno == EPERM || errno == ENOSYS));
    HOLDS(RAW(SYS_ioperm, 0x80, 1, 1) == -1);
    HOLDS(RAW(SYS_iopl, 3) == -1);
    CALL(RAW(SYS_setns, 0, 0));
    CALL(RAW(SYS_setns, -1, 0));
}

/* ---- processors and memory ---- */

TEST(schedules_are_told_and_bounded) {
    struct sched_param parameter = {.sched_priority = 1}, fifo = {.sched_priority = 1}, none = {.sched_priority = 0};
    struct timespec interval;
    CALL(sched_get_priority_min(SCHED_FIFO));
    CALL(sched_get_priority_max(SCHED_FIFO));
    CALL(sched_get_priority_max(SCHED_OTHER));
    CALL(sched_get_priority_max(99));
    CALL(RAW(SYS_sched_getscheduler, 0));
    CALL(RAW(SYS_sched_getparam, 0, &parameter));
    say("priority %d", parameter.sched_priority);
    CALL(RAW(SYS_sched_setscheduler, 0, SCHED_OTHER, &fifo));
    CALL(RAW(SYS_sched_setscheduler, 0, SCHED_BATCH, &none));
    CALL(RAW(SYS_sched_getscheduler, 0));
    CALL(RAW(SYS_sched_setparam, 0, &none));
    CALL(RAW(SYS_sched_setparam, 0, NULL));
    CALL(RAW(SYS_sched_rr_get_interval, 0, &interval));
    CALL(RAW(SYS_sched_rr_get_interval, -1, &interval));
    uint32_t attributes[12] = {sizeof attributes};
    CALL(RAW(SYS_sched_getattr, 0, attributes, sizeof attributes, 0));
    say("policy %u", attributes[1]);
    CALL(RAW(SYS_sched_getattr, 0, attributes, 8, 0));
    attributes[1] = 99;
    CALL(RAW(SYS_sched_setattr, 0, attributes, 0));
    CALL(RAW(SYS_ioprio_set, 1, 0, 2 << 13 | 3));
    CALL(RAW(SYS_ioprio_get, 1, 0));
    CALL(RAW(SYS_ioprio_get, 9, 0));
}

TEST(processors_and_personalities) {
    unsigned processor = ~0U, node = ~0U;
    CALL(RAW(SYS_getcpu, &processor, &node, NULL));
    HOLDS(processor != ~0U && node != ~0U);
    CALL(personality(0xffffffff));
    CALL(personality(ADDR_NO_RANDOMIZE));
    CALL(personality(0xffffffff));
    CALL_OK(RAW(SYS_membarrier, 0, 0, 0));
    CALL(RAW(SYS_membarrier, 0, 5, 0));
    CALL(RAW(SYS_membarrier, 1 << 20, 0, 0));
    CALL(RAW(SYS_restart_syscall));
}

TEST(memory_is_locked_in_whole_pages) {
    char *area = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED && munmap(area + PAGE, PAGE) == 0);
    CALL(mlock(area + 1, 1));
    CALL(mlock(area, 2 * PAGE));
    CALL(RAW(SYS_mlock2, area, PAGE, 1));
    CALL(RAW(SYS_mlock2, area, PAGE, 2));
    CALL(munlock(area, PAGE));
    CALL(munlock(area, 2 * PAGE));
    CALL(mlockall(MCL_FUTURE));
    CALL(mlockall(0));
    CALL(mlockall(64));
    CALL(munlockall());
}

TEST(keys_of_pages_that_do_not_exist) {
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(page != MAP_FAILED);
    CALL(RAW(SYS_pkey_alloc, 1, 0));
    CALL(RAW(SYS_pkey_free, 99));
    CALL(RAW(SYS_pkey_mprotect, page, PAGE, PROT_READ, -1));
    CALL(RAW(SYS_pkey_mprotect, page, PAGE, PROT_READ, 99));
}

/* ---- other processes ---- */

static volatile sig_atomic_t queued_value;

static void note_value(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)context;
    queued_value = info->si_value.sival_int;
}

TEST(a_thread_of_a_group_is_sent_a_value) {
    handle_info(SIGUSR1, note_value, 0);
    siginfo_t info = {0};
    info.si_code = SI_QUEUE;
    info.si_value.sival_int = 17;
    CALL(RAW(SYS_rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, &info));
    say("value %d", (int)queued_value);
    CALL(RAW(SYS_rt_tgsigqueueinfo, getpid(), 1, SIGUSR1, &info));
    CALL(RAW(SYS_rt_tgsigqueueinfo, 0, gettid(), SIGUSR1, &info));
    info.si_code = SI_USER;
    CALL(RAW(SYS_rt_tgsigqueueinfo, 1, 1, SIGUSR1, &info));
}

TEST(the_memory_of_a_process_that_goes_on_is_not_released) {
    int self = (int)RAW(SYS_pidfd_open, getpid(), 0);
    CALL(RAW(SYS_process_mrelease, self, 0));
    CALL(RAW(SYS_process_mrelease, self, 1));
    CALL(RAW(SYS_process_mrelease, 0, 0));
    CALL(RAW(SYS_process_mrelease, -1, 0));
}

TEST(two_descriptors_of_one_file_compare_as_one) {
    make_text("f", "");
    int first = open("f", O_RDONLY), other = open("f", O_RDONLY), copy = dup(first);
    CALL(RAW(SYS_kcmp, getpid(), getpid(), 0, first, copy));
    HOLDS(RAW(SYS_kcmp, getpid(), getpid(), 0, first, other) > 0);
    CALL(RAW(SYS_kcmp, getpid(), getpid(), 0, first, -1));
    CALL(RAW(SYS_kcmp, getpid(), getpid(), 99, 0, 0));
}

/* ---- waiting ---- */

TEST(counters_queues_and_several_words) {
    CALL_OK(RAW(SYS_eventfd2, 1, 0));
    CALL(RAW(SYS_eventfd2, 1, 1));
    CALL(RAW(SYS_mq_getsetattr, -1, NULL, NULL));
    uint32_t word = 1;
    struct { uint64_t value, address; uint32_t flags, reserved; } waiter = {2, (uint64_t)&word, 2, 0};
    CALL(RAW(SYS_futex_waitv, &waiter, 1, 0, NULL, 0));
    CALL(RAW(SYS_futex_waitv, &waiter, 0, 0, NULL, 0));
    CALL(RAW(SYS_futex_waitv, &waiter, 1, 1, NULL, 0));
}
