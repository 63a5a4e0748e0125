/* A shell beside a bomb: how fast it answers, and whether it ever fails; and what the bomb leaves behind. */
#ifndef WATCHER_H
#define WATCHER_H

#include "../bombs.h"

#include <poll.h>

/* How long an answer of the shell may take. The aim is 2 s; a machine that runs tests may be several times slower. */
#define MAX_ANSWER_MS 10000
/* So long the watcher waits between two questions. */
#define BETWEEN_MS 20
/* How long what a bomb had may take to come back. */
#define RETURN_MS 10000
/* What the server may keep of what programs use: pages of its pools. */
#define TOLERATED_PAGES 96
#define TOLERATED_KERNEL_BYTES (256L << 10)

struct answers {
    unsigned count;
    unsigned failed;
    long worst_ms;
};

struct watcher {
    pid_t pid;
    struct gate stop;
    int report;
};

/* What all programs use together. */
struct use {
    long pages;
    long kernel_bytes;
};

static inline struct use use_now(void) {
    struct use use = {0, 0};
    long number;
    char line[128];
    FILE *account = fopen("/proc/quire/account", "r");
    SET_UP(account != NULL);
    while (fgets(line, sizeof line, account)) {
        if (sscanf(line, "process_pages %ld", &number) == 1 || sscanf(line, "file_pages %ld", &number) == 1)
            use.pages += number;
        if (sscanf(line, "process_kernel_bytes %ld", &number) == 1 || sscanf(line, "file_kernel_bytes %ld", &number) == 1)
            use.kernel_bytes += number;
    }
    fclose(account);
    SET_UP(use.pages > 0 && use.kernel_bytes > 0);
    return use;
}

/* Whether a new shell says what it is asked to. */
static inline bool shell_answers(void) {
    int ends[2];
    char text[8];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return false;
    pid_t shell = fork();
    if (shell == 0) {
        dup2(ends[1], 1);
        execl("/bin/sh", "sh", "-c", "echo well", NULL);
        _exit(SET_UP_FAILED);
    }
    close(ends[1]);
    ssize_t length = shell < 0 ? -1 : read(ends[0], text, sizeof text);
    close(ends[0]);
    int status = 1;
    bool has_ended = shell > 0 && waitpid(shell, &status, 0) == shell;
    return has_ended && status == 0 && length == 5 && memcmp(text, "well\n", 5) == 0;
}

static inline struct watcher start_watcher(void) {
    int report[2];
    SET_UP(pipe2(report, O_CLOEXEC) == 0);
    struct watcher watcher = {.stop = make_gate(), .report = report[0]};
    watcher.pid = fork_child();
    if (watcher.pid == 0) {
        struct answers answers = {0, 0, 0};
        struct pollfd stop = {watcher.stop.reader, POLLIN, 0};
        do {
            long start = now_ms();
            answers.failed += !shell_answers();
            long took = now_ms() - start;
            answers.count++;
            if (took > answers.worst_ms)
                answers.worst_ms = took;
        } while (poll(&stop, 1, BETWEEN_MS) == 0);
        _exit(write(report[1], &answers, sizeof answers) == sizeof answers ? 0 : SET_UP_FAILED);
    }
    close(report[1]);
    return watcher;
}

/* Ends the watcher, tells what it saw, and ends the case if that is not as it should be. */
static inline void stop_watcher(struct watcher watcher) {
    struct answers answers;
    int status;
    open_gate(watcher.stop);
    SET_UP(read(watcher.report, &answers, sizeof answers) == sizeof answers);
    SET_UP(waitpid(watcher.pid, &status, 0) == watcher.pid && status == 0);
    close(watcher.report);
    say("a shell answered %u times, %u wrong, the slowest after %ld ms", answers.count, answers.failed, answers.worst_ms);
    if (answers.failed != 0 || answers.worst_ms > MAX_ANSWER_MS)
        exit(1);
}

/* Waits until what was used is no more than before, and ends the case if it stays. */
static inline void expect_use(struct use before) {
    struct use now;
    long deadline = now_ms() + RETURN_MS;
    do {
        now = use_now();
        if (now.pages <= before.pages + TOLERATED_PAGES && now.kernel_bytes <= before.kernel_bytes + TOLERATED_KERNEL_BYTES)
            return;
        sleep_ms(BETWEEN_MS);
    } while (now_ms() < deadline);
    say("%ld pages and %ld bytes of the kernel more than before", now.pages - before.pages, now.kernel_bytes - before.kernel_bytes);
    exit(1);
}

/* The most that was used while a bomb was at work. */
static struct use most_used;

static inline void note_use(void) {
    struct use now = use_now();
    if (now.pages > most_used.pages)
        most_used = now;
}

/* Runs a bomb beside a watched shell for a while, or until it ends; tells how it ended by itself: 0 if it did not. */
static inline int watch_bomb(void (*explode)(void), long run_ms) {
    int status = 0;
    pid_t ended = 0;
    struct use before = use_now();
    struct watcher watcher = start_watcher();
    most_used = before;
    pid_t bomb = fork_child();
    if (bomb == 0) {
        SET_UP(setpgid(0, 0) == 0);
        close(watcher.stop.writer);
        close(watcher.stop.reader);
        close(watcher.report);
        drop_to(BOMBER, BOMBER);
        explode();
        _exit(0);
    }
    for (long end = now_ms() + run_ms; ended == 0 && now_ms() < end; sleep_ms(BETWEEN_MS)) {
        note_use();
        siginfo_t info = {0};
        SET_UP(waitid(P_PID, bomb, &info, WEXITED | WNOHANG | WNOWAIT) == 0);
        ended = info.si_pid;
    }
    kill(-bomb, SIGKILL);
    SET_UP(waitpid(bomb, &status, 0) == bomb);
    while (kill(-bomb, SIGKILL) == 0)
        sleep_ms(10);
    say("%ld pages and %ld KiB of the kernel were used", most_used.pages - before.pages,
        (most_used.kernel_bytes - before.kernel_bytes) / 1024);
    stop_watcher(watcher);
    expect_use(before);
    return ended == 0 ? 0 : status;
}

/* Ends the case unless a bomb was ended for want of memory. */
static inline void expect_killed(int status) {
    show_status("the bomb", status);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        exit(1);
}

#endif
