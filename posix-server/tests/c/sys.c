/* /sys: what programs read of processors and memory. */
#include "case.h"

#include <sched.h>
#include <sys/vfs.h>

static void show(const char *path) {
    char line[256] = {0};
    int fd = open(path, O_RDONLY);
    if (fd < 0) {
        say("%s: %s", path, errno_name(errno));
        return;
    }
    ssize_t got = read(fd, line, sizeof line - 1);
    say("%s: %s", path, got > 0 && line[got - 1] == '\n' ? "a line" : "no line");
    close(fd);
}

TEST(processors_are_listed) {
    show("/sys/devices/system/cpu/online");
    show("/sys/devices/system/cpu/possible");
    show("/sys/devices/system/cpu/present");
    show("/sys/devices/system/cpu/kernel_max");
    show("/sys/devices/system/cpu/nothing");
    struct stat status;
    CALL(stat("/sys/devices/system/cpu/cpu0", &status));
    HOLDS(S_ISDIR(status.st_mode));
    cpu_set_t set;
    SET_UP(sched_getaffinity(0, sizeof set, &set) == 0);
    HOLDS(CPU_COUNT(&set) <= sysconf(_SC_NPROCESSORS_CONF));
    HOLDS(sysconf(_SC_NPROCESSORS_ONLN) == CPU_COUNT(&set));
}

TEST(places_exist_where_programs_look) {
    const char *paths[] = {"/sys/class", "/sys/dev", "/sys/devices", "/sys/fs", "/sys/kernel", "/sys/module",
                           "/sys/block", "/sys/bus", "/sys/class/net", "/sys/class/tty"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        say("%s %s", paths[i], access(paths[i], F_OK) == 0 ? "there" : "missing");
    struct statfs status;
    SET_UP(statfs("/sys", &status) == 0);
    say("%lx", (long)status.f_type);
}

ROOT_TEST(nothing_can_be_made) {
    CALL(mkdir("/sys/new", 0755));
    HOLDS(open("/sys/new", O_CREAT | O_WRONLY, 0644) == -1);
}
