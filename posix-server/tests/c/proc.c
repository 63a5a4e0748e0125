/* /proc: what a process and the tools that list processes read there. */
#include "case.h"

#include <ctype.h>
#include <dirent.h>

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

TEST(self_is_a_link_to_the_own_pid) {
    char target[32] = {0}, pid[16];
    SET_UP(readlink("/proc/self", target, sizeof target - 1) > 0);
    snprintf(pid, sizeof pid, "%d", getpid());
    HOLDS(strcmp(target, pid) == 0);
    struct stat own, self;
    char path[32];
    snprintf(path, sizeof path, "/proc/%d", getpid());
    CALL(stat(path, &own));
    CALL(stat("/proc/self/", &self));
    HOLDS(own.st_ino == self.st_ino);
    HOLDS(S_ISDIR(own.st_mode));
    CALL(access("/proc/0", F_OK));
    CALL(access("/proc/999999999", F_OK));
    CALL(access("/proc/nothing", F_OK));
}

TEST(exe_names_the_running_program_and_opens_it) {
    char target[PATH_MAX] = {0}, magic[4];
    SET_UP(readlink("/proc/self/exe", target, sizeof target - 1) > 0);
    HOLDS(strcmp(target, own_path()) == 0);
    int fd = open("/proc/self/exe", O_RDONLY);
    CALL(read(fd, magic, 4));
    show_bytes("magic", magic, 4);
}

TEST(cmdline_has_the_arguments) {
    ssize_t length = slurp("/proc/self/cmdline");
    HOLDS(length == (ssize_t)(strlen(own_path()) + 1 + sizeof "cmdline_has_the_arguments"));
    HOLDS(strcmp(text, own_path()) == 0);
    say("%s", text + strlen(text) + 1);
}

TEST(environ_has_the_environment) {
    slurp("/proc/self/environ");
    say("starts with %s", strncmp(text, "LC_ALL=C", 8) == 0 || strncmp(text, "PATH=", 5) == 0 ? "ours" : text);
}

TEST(cwd_and_root_are_links) {
    char target[PATH_MAX] = {0}, here[PATH_MAX];
    SET_UP(getcwd(here, sizeof here) != NULL);
    SET_UP(readlink("/proc/self/cwd", target, sizeof target - 1) > 0);
    HOLDS(strcmp(target, here) == 0);
    memset(target, 0, sizeof target);
    CALL(readlink("/proc/self/root", target, sizeof target - 1));
    say("%s", target);
    make_text("file", "here");
    show_file("/proc/self/cwd/file");
}

static int compare_numbers(const void *one, const void *other) {
    return *(const int *)one - *(const int *)other;
}

TEST(fd_lists_the_open_descriptors) {
    SET_UP(open("/dev/null", O_RDONLY) == 3 && dup2(3, 7) == 7);
    DIR *directory = opendir("/proc/self/fd");
    SET_UP(directory != NULL && dirfd(directory) == 4);
    int numbers[64], count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) && count < 64;)
        if (isdigit(entry->d_name[0]))
            numbers[count++] = atoi(entry->d_name);
    qsort(numbers, (size_t)count, sizeof *numbers, compare_numbers);
    for (int i = 0; i < count; i++)
        say("%d", numbers[i]);
    char target[PATH_MAX] = {0};
    CALL(readlink("/proc/self/fd/7", target, sizeof target - 1));
    say("%s", target);
    CALL(access("/proc/self/fd/9", F_OK));
    int ends[2];
    SET_UP(pipe(ends) == 0);
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    memset(target, 0, sizeof target);
    SET_UP(readlink(path, target, sizeof target - 1) > 0);
    say("%.6s", target);
}

TEST(fd_links_open_the_file_anew) {
    make_text("file", "content");
    SET_UP(open("file", O_RDONLY) == 3);
    char byte;
    SET_UP(read(3, &byte, 1) == 1);
    int again = open("/proc/self/fd/3", O_RDONLY);
    CALL(lseek(again, 0, SEEK_CUR));
    show_file("/dev/fd/3");
    show_file("/dev/stdin");
}

/* One line of maps. */
struct area {
    unsigned long start, end;
    char permissions[5];
    unsigned long offset;
    char name[256];
};

static bool parse_area(const char *line, struct area *area) {
    unsigned int major, minor;
    unsigned long inode;
    area->name[0] = 0;
    return sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %255s", &area->start, &area->end, area->permissions, &area->offset,
                  &major, &minor, &inode, area->name) >= 7;
}

/* The area of maps that holds an address. */
static bool find_area(const void *address, struct area *area) {
    SET_UP(slurp("/proc/self/maps") > 0);
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n"));)
        if (parse_area(line, area) && area->start <= (unsigned long)address && (unsigned long)address < area->end)
            return true;
    return false;
}

TEST(maps_is_sorted_and_well_formed) {
    SET_UP(slurp("/proc/self/maps") > 0);
    char *rest = text;
    unsigned long last_end = 0;
    int bad = 0, overlapping = 0, lines = 0;
    for (char *line; (line = strsep(&rest, "\n"));) {
        struct area area;
        if (!*line)
            continue;
        lines++;
        if (!parse_area(line, &area) || area.start >= area.end || area.start % PAGE || area.end % PAGE
            || strspn(area.permissions, "rwxps-") != 4) {
            bad++;
            continue;
        }
        overlapping += area.start < last_end;
        last_end = area.end;
    }
    say("%s, %d bad, %d out of order", lines >= 4 ? "several lines" : "few lines", bad, overlapping);
}

TEST(maps_names_text_stack_and_heap) {
    struct area area;
    HOLDS(find_area((void *)find_area, &area));
    HOLDS(strcmp(area.name, own_path()) == 0);
    say("text %s", area.permissions);
    HOLDS(find_area(&area, &area));
    say("%s %s", area.name, area.permissions);
    char *heap = (char *)RAW(SYS_brk, 0);
    SET_UP((char *)RAW(SYS_brk, heap + PAGE) == heap + PAGE);
    HOLDS(find_area(heap, &area));
    say("%s %s", area.name, area.permissions);
}

TEST(maps_follows_mmap_and_mprotect) {
    char *map = mmap(NULL, 5 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SET_UP(map != MAP_FAILED && mprotect(map + 2 * PAGE, PAGE, PROT_NONE) == 0);
    struct area area;
    HOLDS(find_area(map, &area) && area.end == (unsigned long)(map + 2 * PAGE));
    say("%s", area.permissions);
    HOLDS(find_area(map + 2 * PAGE, &area) && area.end == (unsigned long)(map + 3 * PAGE));
    say("%s", area.permissions);
    SET_UP(munmap(map, 5 * PAGE) == 0);
    HOLDS(!find_area(map, &area));
    make_file("file", map = calloc(3, PAGE), 3 * PAGE);
    int fd = open("file", O_RDONLY);
    map = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 2 * PAGE);
    SET_UP(map != MAP_FAILED);
    HOLDS(find_area(map, &area));
    say("%s %lx %s", area.permissions, area.offset, strrchr(area.name, '/'));
}

/* The numbered field of a stat line, counted from one; the name in parentheses is the second. */
static const char *stat_field(int number) {
    char *rest = strrchr(text, ')');
    SET_UP(rest != NULL);
    rest += 2;
    for (int i = 3; i < number; i++)
        rest = strchr(rest, ' ') + 1;
    return rest;
}

TEST(stat_has_what_ps_reads) {
    SET_UP(slurp("/proc/self/stat") > 0);
    HOLDS(atoi(text) == getpid());
    say("state %c", *stat_field(3));
    HOLDS(atoi(stat_field(4)) == getppid());
    HOLDS(atoi(stat_field(5)) == getpgrp());
    HOLDS(atoi(stat_field(6)) == getsid(0));
    HOLDS(strtoul(stat_field(23), NULL, 10) > 0);
    HOLDS(strchr(text, '(') && strncmp(strchr(text, '('), "(proc)", 6) == 0);
    int spaces = 0;
    for (const char *at = strrchr(text, ')'); *at; at++)
        spaces += *at == ' ';
    HOLDS(spaces >= 40);
}

TEST(stat_shows_stopped_sleeping_and_dead) {
    char path[32];
    struct gate ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        raise(SIGSTOP);
        open_gate(ready);
        pause();
        _exit(0);
    }
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    siginfo_t info;
    SET_UP(waitid(P_PID, (id_t)child, &info, WSTOPPED) == 0);
    SET_UP(slurp(path) > 0);
    say("stopped: %c", *stat_field(3));
    SET_UP(kill(child, SIGCONT) == 0);
    pass_gate(ready);
    char state = '?';
    for (int tries = 0; tries < 200 && state != 'S'; tries++) {
        sleep_ms(5);
        SET_UP(slurp(path) > 0);
        state = *stat_field(3);
    }
    say("sleeping: %c", state);
    SET_UP(kill(child, SIGKILL) == 0 && waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0);
    SET_UP(slurp(path) > 0);
    say("dead: %c", *stat_field(3));
    show_end("child", child);
    CALL(access(path, F_OK));
}

TEST(status_has_name_ids_and_memory) {
    SET_UP(slurp("/proc/self/status") > 0);
    const char *keys[] = {"Name:\tproc\n", "\nState:\t", "\nPid:\t",    "\nPPid:\t",
                          "\nUid:\t",       "\nGid:\t",   "\nVmSize:\t", "\nVmRSS:\t"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        say("%.5s: %s", keys[i] + (*keys[i] == '\n'), strstr(text, keys[i]) ? "there" : "missing");
}

TEST(the_directory_lists_every_process_once) {
    struct gate end = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pass_gate(end);
        _exit(0);
    }
    DIR *directory = opendir("/proc");
    SET_UP(directory != NULL);
    int own = 0, of_child = 0, self = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        own += atoi(entry->d_name) == getpid();
        of_child += atoi(entry->d_name) == child;
        self += strcmp(entry->d_name, "self") == 0;
    }
    say("%d %d %d", own, of_child, self);
    open_gate(end);
    show_end("child", child);
}

ROOT_TEST(proc_is_read_only) {
    CALL(open("/proc/new", O_CREAT | O_WRONLY, 0644));
    CALL(unlink("/proc/self/stat"));
    CALL(rmdir("/proc/self"));
}

TEST(system_files_have_their_shape) {
    double uptime = -1, idle;
    SET_UP(slurp("/proc/uptime") > 0);
    HOLDS(sscanf(text, "%lf %lf", &uptime, &idle) == 2 && uptime >= 0);
    SET_UP(slurp("/proc/meminfo") > 0);
    HOLDS(strstr(text, "MemTotal:") == text);
    HOLDS(strstr(text, "MemFree:") != NULL);
    SET_UP(slurp("/proc/stat") > 0);
    HOLDS(strncmp(text, "cpu ", 4) == 0);
    SET_UP(slurp("/proc/mounts") > 0);
    HOLDS(strstr(text, " / ") != NULL && strstr(text, " /proc ") != NULL);
    SET_UP(slurp("/proc/loadavg") > 0);
    HOLDS(sscanf(text, "%lf", &uptime) == 1);
    SET_UP(slurp("/proc/version") > 0);
    HOLDS(strncmp(text, "Linux version ", 14) == 0);
}

TEST(files_can_be_read_in_small_pieces) {
    ssize_t whole = slurp("/proc/self/cmdline");
    int fd = open("/proc/self/cmdline", O_RDONLY);
    char byte;
    ssize_t count = 0;
    bool same = true;
    while (read(fd, &byte, 1) == 1)
        same &= byte == text[count++];
    HOLDS(count == whole && same);
    CALL(pread(fd, &byte, 1, 1L << 40));
}
