/* Calls that hardly any program makes: what they say to the superuser and to others. */
#include "case.h"

#define Q_SYNC 0x800001
#define Q_GETQUOTA 0x800007
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif

#define QUOTA(command, kind) ((command) << 8 | (kind))

static void quotas_and_swapping(void) {
    make_text("file", "text");
    char record[256];
    CALL(RAW(SYS_quotactl, QUOTA(Q_SYNC, 0), NULL, 0, NULL));
    CALL(RAW(SYS_quotactl, QUOTA(Q_GETQUOTA, 0), NULL, 0, record));
    CALL(RAW(SYS_quotactl, QUOTA(Q_GETQUOTA, 3), NULL, 0, record));
    CALL(RAW(SYS_quotactl, QUOTA(Q_GETQUOTA, 0), "missing", 0, record));
    CALL(RAW(SYS_quotactl, QUOTA(Q_GETQUOTA, 0), "file", 0, record));
    CALL(RAW(SYS_quotactl, QUOTA(Q_GETQUOTA, 0), BAD_ADDRESS, 0, record));
    CALL(RAW(SYS_quotactl_fd, -1, QUOTA(Q_GETQUOTA, 0), 0, record));
    CALL(RAW(SYS_quotactl_fd, 0, QUOTA(Q_GETQUOTA, 3), 0, record));
    CALL(RAW(SYS_swapon, "file", 0x800000));
    CALL(RAW(SYS_swapon, "missing", 0));
    CALL(RAW(SYS_swapon, "file", 0));
    CALL(RAW(SYS_swapoff, "missing"));
    CALL(RAW(SYS_swapoff, "file"));
    CALL(RAW(SYS_swapoff, BAD_ADDRESS));
}

ROOT_TEST(quotas_and_swapping_of_the_superuser) { quotas_and_swapping(); }

ROOT_TEST(quotas_and_swapping_of_others) {
    SET_UP(chmod(".", 0777) == 0);
    drop_to(NOBODY, NOBODY);
    quotas_and_swapping();
}

TEST(types_of_file_systems_have_numbers) {
    char name[256];
    long tmpfs = RAW(SYS_sysfs, 1, "tmpfs");
    HOLDS(tmpfs >= 0 && tmpfs < RAW(SYS_sysfs, 3));
    CALL(RAW(SYS_sysfs, 2, tmpfs, name));
    say("%s", name);
    CALL(RAW(SYS_sysfs, 1, "nothing"));
    CALL(RAW(SYS_sysfs, 1, BAD_ADDRESS));
    CALL(RAW(SYS_sysfs, 2, 9999, name));
    CALL(RAW(SYS_sysfs, 2, tmpfs, BAD_ADDRESS));
    CALL(RAW(SYS_sysfs, 4));
}

TEST(file_systems_have_numbers) {
    char record[64];
    memset(record, 0x55, sizeof record);
    struct stat status;
    SET_UP(stat("/tmp", &status) == 0);
    CALL(RAW(SYS_ustat, (unsigned)status.st_dev, record));
    HOLDS(record[31] == 0 && record[32] == 0x55);
    CALL(RAW(SYS_ustat, (unsigned)status.st_dev, BAD_ADDRESS));
    CALL(RAW(SYS_ustat, 0xfffff, record));
}

static void read_log(void) {
    static char text[1 << 18];
    CALL_OK(RAW(SYS_syslog, 10, NULL, 0));
    CALL(RAW(SYS_syslog, 3, NULL, 10));
    CALL(RAW(SYS_syslog, 3, text, -1));
    CALL(RAW(SYS_syslog, 3, text, 0));
    CALL_OK(RAW(SYS_syslog, 3, text, sizeof text));
    CALL(RAW(SYS_syslog, 2, text, 0));
    CALL(RAW(SYS_syslog, 8, NULL, 9));
    CALL(RAW(SYS_syslog, 8, NULL, 0));
    CALL(RAW(SYS_syslog, 77, NULL, 0));
    CALL(RAW(SYS_syslog, 0, NULL, 0));
    CALL(RAW(SYS_syslog, 1, NULL, 0));
}

ROOT_TEST(the_log_is_read) { read_log(); }

ROOT_TEST(advice_for_another_process) {
    char *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(page != MAP_FAILED);
    struct gate gate = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pass_gate(gate);
        _exit(0);
    }
    int fd = (int)RAW(SYS_pidfd_open, child, 0);
    SET_UP(fd >= 0);
    unsigned long range[2] = {(unsigned long)page, 2 * PAGE};
    CALL(RAW(SYS_process_madvise, fd, range, 1, MADV_COLD, 0));
    CALL(RAW(SYS_process_madvise, fd, range, 1, MADV_PAGEOUT, 0));
    CALL(RAW(SYS_process_madvise, fd, range, 1, MADV_WILLNEED, 0));
    CALL(RAW(SYS_process_madvise, fd, range, 1, MADV_DONTNEED, 0));
    CALL(RAW(SYS_process_madvise, fd, range, 1, MADV_COLD, 1));
    CALL(RAW(SYS_process_madvise, fd, BAD_ADDRESS, 1, MADV_COLD, 0));
    CALL(RAW(SYS_process_madvise, -1, range, 1, MADV_COLD, 0));
    CALL(RAW(SYS_process_madvise, fd, range, 0, MADV_COLD, 0));
    range[0]++;
    CALL(RAW(SYS_process_madvise, fd, range, 1, MADV_COLD, 0));
    drop_to(NOBODY, NOBODY);
    range[0]--;
    CALL(RAW(SYS_process_madvise, fd, range, 1, MADV_COLD, 0));
    open_gate(gate);
    show_end("the child", child);
}
