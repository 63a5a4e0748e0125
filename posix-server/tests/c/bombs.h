/* What the bombs of both systems and those of Quire alone have in common. */
#ifndef BOMBS_H
#define BOMBS_H

#include "case.h"

#include <sys/resource.h>

/* A user of the bombs' own, so that limits by user count only them. */
#define BOMBER 43210

/* The shell as a program of its own: it forks, executes, makes files and pipes. */
static inline void shell_works(const char *when) {
    pid_t child = fork_child();
    if (child == 0) {
        RAW(SYS_close_range, 3, ~0U, 0);
        execl("/bin/sh", "sh", "-c", "echo $(echo work | cat) > by-shell && [ \"$(cat by-shell)\" = work ]", NULL);
        _exit(SET_UP_FAILED);
    }
    char what[64];
    snprintf(what, sizeof what, "a shell %s", when);
    show_end(what, child);
}

/* Forks from all children until none can fork any more, then they wait for their end. */
__attribute__((unused)) static void fork_without_end(void) {
    for (;;) {
        pid_t child = fork();
        if (child < 0 && errno != EAGAIN && errno != ENOMEM)
            say("fork fails with %s", errno_name(errno));
        if (child < 0)
            pause();
    }
}

/* Maps and touches memory until there is no more. */
__attribute__((unused)) static void allocate_without_end(void) {
    const size_t step = 1 << 20;
    for (;;) {
        char *area = mmap(NULL, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED) {
            if (errno != ENOMEM)
                say("mmap fails with %s", errno_name(errno));
            pause();
        }
        for (size_t at = 0; at < step; at += PAGE)
            area[at] = 1;
    }
}

/* Starts a bomb as its own user in its own group, with at most so many processes if not 0, and gives it a moment. */
__attribute__((unused)) static pid_t start_bomb(void (*explode)(void), rlim_t processes) {
    pid_t bomb = fork_child();
    if (bomb == 0) {
        SET_UP(setpgid(0, 0) == 0);
        struct rlimit limit = {processes, processes};
        SET_UP(processes == 0 || setrlimit(RLIMIT_NPROC, &limit) == 0);
        drop_to(BOMBER, BOMBER);
        explode();
        _exit(0);
    }
    sleep_ms(500);
    return bomb;
}

/* Kills a bomb, also what it forks meanwhile, and waits for it. */
__attribute__((unused)) static void end_bomb(pid_t bomb) {
    /* The leader is ours and stays until we wait for it: its group can't become another's. */
    kill(-bomb, SIGKILL);
    kill(bomb, SIGKILL);
    SET_UP(waitpid(bomb, NULL, 0) == bomb);
    while (kill(-bomb, SIGKILL) == 0)
        sleep_ms(10);
    say("the bomb is gone: %s", errno_name(errno));
}

#endif
