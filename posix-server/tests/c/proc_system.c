/* /proc besides processes: the texts that tools about the system read, and the settings of /proc/sys. */
#include "case.h"

#include <sys/utsname.h>

static char text[262144];

static ssize_t slurp(const char *path) {
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        return -1;
    size_t have = 0;
    for (ssize_t got; have < sizeof text - 1 && (got = read(fd, text + have, sizeof text - 1 - have)) > 0;)
        have += (size_t)got;
    close(fd);
    text[have] = 0;
    return (ssize_t)have;
}

/* Whether a line of `text` begins so. */
static bool has_line(const char *beginning) {
    size_t length = strlen(beginning);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, beginning, length) == 0)
            return true;
    return false;
}

static void show_lines(const char *path, const char *const *lines, size_t count) {
    say("%s: %s", path, slurp(path) >= 0 ? "there" : errno_name(errno));
    for (size_t i = 0; i < count; i++)
        say("  %s %s", lines[i], has_line(lines[i]) ? "there" : "missing");
}

#define SHOW_LINES(path, ...)                                                                                          \
    show_lines(path, (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

TEST(texts_have_the_lines_that_tools_read) {
    SHOW_LINES("/proc/meminfo", "MemTotal:", "MemFree:", "MemAvailable:", "Buffers:", "Cached:", "SwapTotal:",
               "SwapFree:", "Shmem:", "Slab:", "SReclaimable:", "Dirty:", "Writeback:", "AnonPages:", "Mapped:",
               "Committed_AS:");
    SHOW_LINES("/proc/stat", "cpu ", "cpu0 ", "intr ", "ctxt ", "btime ", "processes ", "procs_running ",
               "procs_blocked ");
    SHOW_LINES("/proc/cpuinfo", "processor\t: 0", "vendor_id\t: ", "cpu family\t: ", "model\t\t: ", "model name\t: ",
               "cpu MHz\t\t: ", "flags\t\t: ", "cpu cores\t: ");
    SHOW_LINES("/proc/filesystems", "nodev\tproc", "nodev\ttmpfs", "nodev\tdevpts");
    SHOW_LINES("/proc/devices", "Character devices:", "  1 mem", "  5 /dev/tty", "  5 /dev/ptmx", "136 pts",
               "Block devices:");
    SHOW_LINES("/proc/vmstat", "nr_free_pages ", "pgfault ", "pswpin ");
    SHOW_LINES("/proc/net/dev", "Inter-|   Receive", " face |bytes");
    SHOW_LINES("/proc/swaps", "Filename");
    SHOW_LINES("/proc/version", "Linux version ");
}

TEST(numbers_are_consistent) {
    long total = 0, free_kib = 0, available = 0;
    SET_UP(slurp("/proc/meminfo") > 0);
    SET_UP(sscanf(text, "MemTotal: %ld kB MemFree: %ld kB MemAvailable: %ld kB", &total, &free_kib, &available) == 3);
    HOLDS(total > 0 && free_kib > 0 && free_kib < total && available <= total);
    HOLDS(labs(sysconf(_SC_PHYS_PAGES) * 4 - total) < total / 10);
    HOLDS(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    HOLDS(sysconf(_SC_NPROCESSORS_CONF) >= sysconf(_SC_NPROCESSORS_ONLN));
    double one, five, fifteen;
    int running, threads, last;
    SET_UP(slurp("/proc/loadavg") > 0);
    HOLDS(sscanf(text, "%lf %lf %lf %d/%d %d", &one, &five, &fifteen, &running, &threads, &last) == 6);
    HOLDS(running >= 1 && threads >= running && last > 0);
    double loads[3];
    HOLDS(getloadavg(loads, 3) == 3);
    long long user, nice_time, system_time, idle;
    SET_UP(slurp("/proc/stat") > 0);
    HOLDS(sscanf(text, "cpu %lld %lld %lld %lld", &user, &nice_time, &system_time, &idle) == 4 && idle >= 0);
    struct timespec up;
    double uptime;
    SET_UP(clock_gettime(CLOCK_BOOTTIME, &up) == 0 && slurp("/proc/uptime") > 0 && sscanf(text, "%lf", &uptime) == 1);
    HOLDS(uptime >= (double)up.tv_sec - 2 && uptime <= (double)up.tv_sec + 3);
}

static void show_value(const char *path) {
    ssize_t length = slurp(path);
    if (length < 0)
        say("%s: %s", path, errno_name(errno));
    else
        say("%s: %s", path, length > 0 && text[length - 1] == '\n' ? "a line" : "no line");
}

TEST(settings_can_be_read) {
    const char *paths[] = {"/proc/sys/kernel/ostype",
                           "/proc/sys/kernel/osrelease",
                           "/proc/sys/kernel/version",
                           "/proc/sys/kernel/hostname",
                           "/proc/sys/kernel/domainname",
                           "/proc/sys/kernel/pid_max",
                           "/proc/sys/kernel/threads-max",
                           "/proc/sys/kernel/ngroups_max",
                           "/proc/sys/kernel/cap_last_cap",
                           "/proc/sys/kernel/core_pattern",
                           "/proc/sys/kernel/random/boot_id",
                           "/proc/sys/kernel/random/uuid",
                           "/proc/sys/kernel/random/entropy_avail",
                           "/proc/sys/kernel/randomize_va_space",
                           "/proc/sys/kernel/pty/max",
                           "/proc/sys/fs/file-max",
                           "/proc/sys/fs/file-nr",
                           "/proc/sys/fs/nr_open",
                           "/proc/sys/fs/pipe-max-size",
                           "/proc/sys/vm/overcommit_memory",
                           "/proc/sys/vm/max_map_count",
                           "/proc/sys/vm/mmap_min_addr",
                           "/proc/sys/net/core/somaxconn",
                           "/proc/sys/nothing",
                           "/proc/sys/kernel/nothing"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        show_value(paths[i]);
    slurp("/proc/sys/kernel/ostype");
    say("%s", text);
    slurp("/proc/sys/kernel/ngroups_max");
    say("%s", text);
}

TEST(names_are_those_of_uname) {
    struct utsname names;
    SET_UP(uname(&names) == 0);
    SET_UP(slurp("/proc/sys/kernel/osrelease") > 0);
    HOLDS(strncmp(text, names.release, strlen(names.release)) == 0);
    SET_UP(slurp("/proc/sys/kernel/hostname") > 0);
    HOLDS(strncmp(text, names.nodename, strlen(names.nodename)) == 0);
    SET_UP(slurp("/proc/sys/kernel/version") > 0);
    HOLDS(strncmp(text, names.version, strlen(names.version)) == 0);
}

TEST(identifiers_are_random_or_stay) {
    char first[64];
    SET_UP(slurp("/proc/sys/kernel/random/boot_id") == 37);
    strcpy(first, text);
    SET_UP(slurp("/proc/sys/kernel/random/boot_id") == 37);
    HOLDS(strcmp(first, text) == 0);
    SET_UP(slurp("/proc/sys/kernel/random/uuid") == 37);
    strcpy(first, text);
    HOLDS(first[8] == '-' && first[14] == '4');
    SET_UP(slurp("/proc/sys/kernel/random/uuid") == 37);
    HOLDS(strcmp(first, text) != 0);
}

ROOT_TEST(what_cannot_be_set_is_refused) {
    CALL(open("/proc/sys/kernel/ostype", O_WRONLY));
    CALL(open("/proc/sys/kernel/osrelease", O_RDWR));
    CALL(open("/proc/sys/kernel/random/boot_id", O_WRONLY));
    CALL(open("/proc/sys/kernel/ngroups_max", O_WRONLY));
    int fd = open("/proc/uptime", O_WRONLY);
    CALL(write(fd, "1", 1));
    fd = open("/proc/self/stat", O_WRONLY);
    CALL(write(fd, "1", 1));
    CALL(open("/proc/sys/new", O_CREAT | O_WRONLY, 0644));
}

ROOT_TEST(an_unprivileged_user_sets_nothing) {
    drop_to(NOBODY, NOBODY);
    CALL(open("/proc/sys/kernel/hostname", O_WRONLY));
    CALL(open("/proc/sys/vm/overcommit_memory", O_RDWR));
    CALL(open("/proc/sys/vm/drop_caches", O_WRONLY));
}

ROOT_TEST(drop_caches_is_only_written) {
    struct stat status;
    SET_UP(stat("/proc/sys/vm/drop_caches", &status) == 0);
    say("%o", status.st_mode);
    CALL(open("/proc/sys/vm/drop_caches", O_RDONLY));
}
