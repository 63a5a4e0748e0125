/* /proc/PID in full: what tools that look at processes read there, and who may. */
#include "case.h"

#include <dirent.h>
#include <elf.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static char text[65536];

/* Reads a whole file into `text` and gives its length, or -1. */
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

/* What follows a key at the beginning of a line of `text`, up to the line's end. */
static const char *value_of(const char *key) {
    static char value[256];
    size_t length = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (strncmp(line, key, length) == 0) {
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line + length, "\n"), line + length);
            return value;
        }
    return "missing";
}

TEST(files_have_their_permissions) {
    const char *names[] = {"auxv", "cgroup",     "cmdline", "comm",     "cwd",       "environ", "exe",
                           "fd",   "fdinfo",     "io",      "limits",   "maps",      "mem",     "mountinfo",
                           "mounts", "mountstats", "net",   "ns",       "oom_score", "oom_score_adj", "personality",
                           "root", "sched",      "schedstat", "smaps",  "smaps_rollup", "stack", "stat",
                           "statm", "status",    "syscall", "task",     "timers",    "wchan"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64];
        struct stat status;
        snprintf(path, sizeof path, "/proc/self/%s", names[i]);
        if (lstat(path, &status) == 0)
            say("%s %o %d", names[i], status.st_mode & ~(strcmp(names[i], "sched") ? 0U : 0200U), status.st_uid == geteuid());
        else
            say("%s %s", names[i], errno_name(errno));
    }
}

TEST(status_tells_ids_signals_and_threads) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 1);
    SET_UP(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, (void (*)(int))exit);
    raise(SIGUSR1);
    kill(getpid(), SIGRTMIN + 1);
    SET_UP(slurp("/proc/self/status") > 0);
    const char *keys[] = {"Name:",   "Umask:",  "State:",  "TracerPid:", "Uid:",    "Gid:",    "Threads:",
                          "SigPnd:", "ShdPnd:", "SigBlk:", "SigCgt:", "Seccomp:"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        say("%s%s", keys[i], value_of(keys[i]));
    /* The tester may ignore real-time signals. */
    say("SigIgn: %llx", strtoull(value_of("SigIgn:"), NULL, 16) & 0x7fffffff);
    HOLDS(atoi(value_of("Pid:")) == getpid());
    HOLDS(atoi(value_of("Tgid:")) == getpid());
    HOLDS(atoi(value_of("PPid:")) == getppid());
    HOLDS(atoi(value_of("NSpgid:")) == getpgrp());
    HOLDS(atoi(value_of("NSsid:")) == getsid(0));
    const char *sizes[] = {"VmPeak:", "VmSize:", "VmHWM:", "VmRSS:", "VmData:", "VmStk:", "VmExe:"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        say("%s %s", sizes[i], atol(value_of(sizes[i])) > 0 ? "more than none" : "none");
}

TEST(stat_has_52_fields_and_true_numbers) {
    SET_UP(slurp("/proc/self/stat") > 0);
    char *rest = strrchr(text, ')');
    SET_UP(rest != NULL);
    long long fields[60] = {0};
    int count = 2;
    char state = rest[2];
    for (char *field = strtok(rest + 4, " \n"); field && count < 59; field = strtok(NULL, " \n"))
        fields[++count + 1] = atoll(field);
    say("%d fields, state %c", count + 1, state);
    HOLDS(fields[4] == getppid() && fields[5] == getpgrp() && fields[6] == getsid(0));
    say("terminal %lld, foreground %lld", fields[7], fields[8]);
    say("priority %lld, nice %lld, threads %lld", fields[18], fields[19], fields[20]);
    HOLDS(fields[22] >= 0 && fields[23] > 0);
    say("exit signal %lld, real-time priority %lld, policy %lld", fields[38], fields[40], fields[41]);
    SET_UP(nice(5) == 5);
    SET_UP(slurp("/proc/self/stat") > 0);
    int priority, own_nice;
    SET_UP(sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %d %d", &priority,
                  &own_nice) == 2);
    say("priority %d, nice %d", priority, own_nice);
}

TEST(a_zombie_keeps_its_name_and_its_parent) {
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(prctl(PR_SET_NAME, "soon dead") == 0);
        _exit(3);
    }
    siginfo_t info;
    SET_UP(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", child);
    SET_UP(slurp(path) > 0);
    say("%s", value_of("Name:"));
    say("%s", value_of("State:"));
    HOLDS(atoi(value_of("PPid:")) == getpid());
    HOLDS(strcmp(value_of("VmRSS:"), "missing") == 0);
    snprintf(path, sizeof path, "/proc/%d/cmdline", child);
    say("cmdline %zd", slurp(path));
    snprintf(path, sizeof path, "/proc/%d/maps", child);
    say("maps %zd", slurp(path));
    snprintf(path, sizeof path, "/proc/%d/exe", child);
    CALL(readlink(path, text, sizeof text));
    snprintf(path, sizeof path, "/proc/%d/comm", child);
    int fd = open(path, O_RDONLY);
    SET_UP(waitpid(child, NULL, 0) == child);
    char byte;
    CALL(read(fd, &byte, 1));
    CALL(open(path, O_RDONLY));
}

TEST(comm_can_be_changed_by_its_owner) {
    SET_UP(slurp("/proc/self/comm") > 0);
    say("%s", text);
    int fd = open("/proc/self/comm", O_WRONLY);
    CALL(write(fd, "a name that is too long", 23));
    SET_UP(slurp("/proc/self/comm") > 0);
    say("%s", text);
    char name[16];
    SET_UP(prctl(PR_GET_NAME, name) == 0);
    say("%s", name);
    pid_t parent = getpid(), child = fork_child();
    if (child == 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/comm", parent);
        int other = open(path, O_WRONLY);
        CALL(write(other, "x", 1));
        _exit(0);
    }
    show_end("child", child);
}

TEST(the_auxiliary_vector_is_the_one_that_was_given) {
    ssize_t length = slurp("/proc/self/auxv");
    HOLDS(length > 0 && length % sizeof(Elf64_auxv_t) == 0);
    Elf64_auxv_t *vector = (Elf64_auxv_t *)(void *)text;
    size_t count = (size_t)length / sizeof *vector;
    int same = 0, other = 0;
    for (size_t i = 0; i < count && vector[i].a_type != AT_NULL; i++)
        *(getauxval(vector[i].a_type) == vector[i].a_un.a_val ? &same : &other) += 1;
    /* The C library has its own opinion of the hardware's features. */
    HOLDS(same > 10 && other <= 2);
    HOLDS(vector[count - 1].a_type == AT_NULL);
}

TEST(fdinfo_tells_position_and_flags) {
    make_text("file", "0123456789");
    SET_UP(open("file", O_RDWR | O_APPEND | O_CLOEXEC) == 3 && lseek(3, 7, SEEK_SET) == 7);
    SET_UP(slurp("/proc/self/fdinfo/3") > 0);
    say("pos%s", value_of("pos:"));
    say("flags%s", value_of("flags:"));
    struct stat status;
    SET_UP(fstat(3, &status) == 0);
    HOLDS((ino_t)atoll(value_of("ino:")) == status.st_ino);
    CALL(access("/proc/self/fdinfo/9", F_OK));
    CALL(close(3));
    CALL(access("/proc/self/fdinfo/3", F_OK));
}

TEST(files_without_names_say_what_they_are) {
    int ends[2], files[6], count = 0;
    SET_UP(pipe(ends) == 0);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    files[count++] = ends[0];
    files[count++] = eventfd(3, 0);
    files[count++] = epoll_create1(0);
    files[count++] = timerfd_create(CLOCK_MONOTONIC, 0);
    files[count++] = signalfd(-1, &set, 0);
    files[count++] = (int)RAW(SYS_memfd_create, "name", 0);
    for (int i = 0; i < count; i++) {
        char path[64], target[64] = {0};
        snprintf(path, sizeof path, "/proc/self/fd/%d", files[i]);
        SET_UP(readlink(path, target, sizeof target - 1) > 0);
        if (strncmp(target, "pipe:[", 6) == 0)
            target[6] = 0;
        say("%s", target);
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", files[4]);
    SET_UP(slurp(path) > 0);
    say("sigmask%s", value_of("sigmask:"));
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x123};
    SET_UP(epoll_ctl(files[2], EPOLL_CTL_ADD, ends[0], &event) == 0);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", files[2]);
    SET_UP(slurp(path) > 0);
    int watched = -1;
    unsigned int events = 0;
    SET_UP(sscanf(value_of("tfd:"), "%d events: %x", &watched, &events) == 2);
    HOLDS(watched == ends[0]);
    say("events %x", events);
}

TEST(limits_are_listed) {
    struct rlimit limit = {100, 200};
    SET_UP(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    SET_UP(slurp("/proc/self/limits") > 0);
    say("%.79s", text);
    say("%s", value_of("Max open files"));
    const char *others[] = {"Max cpu time",      "Max file size",       "Max data size",        "Max resident set",
                            "Max address space", "Max file locks",      "Max realtime timeout", "Max realtime priority",
                            "Max nice priority", "Max pending signals", "Max msgqueue size",    "Max locked memory",
                            "Max core file size"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        say("%s: %s", others[i], strcmp(value_of(others[i]), "missing") ? "there" : "missing");
}

TEST(memory_can_be_read_and_written) {
    static char word[] = "before";
    int fd = open("/proc/self/mem", O_RDWR);
    char bytes[16] = {0};
    CALL(pread(fd, bytes, 6, (off_t)(uintptr_t)word));
    say("%s", bytes);
    CALL(pwrite(fd, "after!", 6, (off_t)(uintptr_t)word));
    say("%s", word);
    CALL(pread(fd, bytes, 6, 4096));
    CALL(pwrite(fd, bytes, 6, 4096));
    char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(pages != MAP_FAILED && munmap(pages + PAGE, PAGE) == 0);
    char buffer[100];
    CALL(pread(fd, buffer, 100, (off_t)(uintptr_t)(pages + PAGE - 10)));
    CALL(lseek(fd, 100, SEEK_SET));
}

TEST(the_memory_of_a_child_can_be_read) {
    static char word[] = "parent";
    struct gate ready = make_gate(), end = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        strcpy(word, "child!");
        open_gate(ready);
        pass_gate(end);
        _exit(0);
    }
    pass_gate(ready);
    char path[64], bytes[8] = {0};
    snprintf(path, sizeof path, "/proc/%d/mem", child);
    int fd = open(path, O_RDONLY);
    CALL(pread(fd, bytes, 6, (off_t)(uintptr_t)word));
    say("%s, here %s", bytes, word);
    open_gate(end);
    show_end("child", child);
    CALL(pread(fd, bytes, 6, (off_t)(uintptr_t)word));
}

static int lines_that_begin_with(const char *word) {
    int count = 0;
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        count += strncmp(line, word, strlen(word)) == 0;
    return count;
}

TEST(smaps_has_sizes_for_every_area) {
    SET_UP(slurp("/proc/self/smaps") > 0);
    int sizes = lines_that_begin_with("Size:");
    HOLDS(sizes == lines_that_begin_with("VmFlags:") && sizes == lines_that_begin_with("Rss:") && sizes > 4);
    SET_UP(slurp("/proc/self/smaps_rollup") > 0);
    HOLDS(strstr(text, "[rollup]") != NULL && atol(value_of("Rss:")) > 0);
}

ROOT_TEST(others_may_not_look_into_a_process) {
    struct gate ready = make_gate(), end = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        open_gate(ready);
        pass_gate(end);
        _exit(0);
    }
    pass_gate(ready);
    pid_t stranger = fork_child();
    if (stranger == 0) {
        drop_to(NOBODY, NOBODY);
        const char *names[] = {"cmdline", "stat",  "status", "comm", "limits", "statm", "environ",      "auxv",
                               "maps",    "smaps", "mem",    "io",   "syscall", "fd",   "smaps_rollup", "wchan"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            char path[64];
            snprintf(path, sizeof path, "/proc/%d/%s", child, names[i]);
            int fd = open(path, O_RDONLY);
            say("%s: %s", names[i], fd >= 0 ? "open" : errno_name(errno));
        }
        const char *links[] = {"exe", "cwd", "root", "ns/mnt"};
        for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
            char path[64];
            snprintf(path, sizeof path, "/proc/%d/%s", child, links[i]);
            say("%s: %s", links[i], readlink(path, text, sizeof text) >= 0 ? "shown" : errno_name(errno));
        }
        _exit(0);
    }
    show_end("stranger", stranger);
    open_gate(end);
    show_end("child", child);
}

TEST(one_that_is_not_dumpable_belongs_to_root) {
    SET_UP(prctl(PR_SET_DUMPABLE, 0) == 0);
    struct stat status;
    SET_UP(stat("/proc/self/stat", &status) == 0);
    HOLDS(status.st_uid == 0);
    HOLDS(open("/proc/self/maps", O_RDONLY) >= 0);
}

TEST(the_score_for_want_of_memory_can_be_adjusted) {
    SET_UP(slurp("/proc/self/oom_score_adj") > 0);
    int before = atoi(text), fd = open("/proc/self/oom_score_adj", O_RDWR);
    char value[16];
    snprintf(value, sizeof value, "%d", before + 1);
    HOLDS(write(fd, value, strlen(value)) == (ssize_t)strlen(value));
    SET_UP(slurp("/proc/self/oom_score_adj") > 0);
    HOLDS(atoi(text) == before + 1);
    CALL(write(fd, "1001", 4));
    CALL(write(fd, "many", 4));
    SET_UP(slurp("/proc/self/oom_score") > 0);
    HOLDS(atoi(text) >= 0);
}

TEST(name_spaces_are_links) {
    DIR *directory = opendir("/proc/self/ns");
    SET_UP(directory != NULL);
    const char *names[] = {"ipc", "mnt", "net", "pid", "user", "uts", "cgroup"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64], target[64] = {0};
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        SET_UP(readlink(path, target, sizeof target - 1) > 0);
        say("%.*s", (int)strcspn(target, "["), target);
    }
    CALL(access("/proc/self/ns/nothing", F_OK));
}

TEST(threads_and_children_are_listed) {
    struct gate end = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pass_gate(end);
        _exit(0);
    }
    char path[64], expected[32];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    snprintf(expected, sizeof expected, "%d ", child);
    if (slurp(path) >= 0)
        HOLDS(strcmp(text, expected) == 0);
    snprintf(path, sizeof path, "/proc/self/task/%d/status", getpid());
    SET_UP(slurp(path) > 0);
    HOLDS(atoi(value_of("Pid:")) == getpid());
    snprintf(path, sizeof path, "/proc/self/task/%d/task", getpid());
    CALL(access(path, F_OK));
    CALL(access("/proc/self/task/1", F_OK));
    open_gate(end);
    show_end("child", child);
}

TEST(syscall_tells_what_a_process_waits_in) {
    struct gate ready = make_gate(), end = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        open_gate(ready);
        pass_gate(end);
        _exit(0);
    }
    pass_gate(ready);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/syscall", child);
    long number = -1, descriptor = -1;
    for (int tries = 0; tries < 200 && number != SYS_read; tries++) {
        sleep_ms(5);
        SET_UP(slurp(path) > 0);
        sscanf(text, "%ld %lx", &number, &descriptor);
    }
    HOLDS(number == SYS_read && descriptor == end.reader);
    SET_UP(slurp("/proc/self/syscall") > 0);
    open_gate(end);
    show_end("child", child);
}
