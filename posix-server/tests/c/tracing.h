/* What the cases of ptrace have in common: a traced child, its stops in words, and what musl's headers leave out. */
#ifndef TRACING_H
#define TRACING_H

#include "case.h"

#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#define SIZEOF_USER 928

#ifndef PTRACE_EVENT_STOP
#define PTRACE_EVENT_STOP 128
#endif

#define OPTIONS_OF_FORKS (PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORKDONE)

static inline long trace(long request, pid_t pid, unsigned long address, unsigned long data) {
    return RAW(SYS_ptrace, request, pid, address, data);
}

/* A child that asks to be traced, stops itself, and then runs; the caller has waited for the stop. */
static inline pid_t traced_child(void (*run)(void)) {
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(trace(PTRACE_TRACEME, 0, 0, 0) == 0);
        raise(SIGSTOP);
        run();
        _exit(0);
    }
    int status;
    SET_UP(waitpid(child, &status, 0) == child && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    return child;
}

static inline const char *event_name(int event) {
    static const char *const names[] = {"",           ", fork", ", vfork", ", clone",
                                        ", executed", ", vfork is done", ", exits", ", seccomp"};
    if (event == PTRACE_EVENT_STOP)
        return ", trap";
    return event < 8 ? names[event] : ", unknown";
}

/* Prints a status as a tracer reads it. */
static inline void show_stop(const char *what, int status) {
    if (WIFSTOPPED(status))
        say("%s: %s%s%s", what, signal_name(WSTOPSIG(status) & 0x7f), WSTOPSIG(status) & 0x80 ? " of a call" : "",
            event_name(status >> 16));
    else
        show_status(what, status);
}

/* Waits for a traced thread and prints what it has stopped for. Gives the status. */
static inline int wait_stop(const char *what, pid_t pid) {
    int status = 0;
    pid_t found = waitpid(pid, &status, __WALL);
    if (found != pid)
        say("%s: not waited for: %s", what, errno_name(errno));
    show_stop(what, status);
    return status;
}

static inline struct user_regs_struct registers_of(pid_t pid) {
    struct user_regs_struct registers;
    memset(&registers, 0, sizeof registers);
    SET_UP(trace(PTRACE_GETREGS, pid, 0, (unsigned long)&registers) == 0);
    return registers;
}

static inline void set_registers(pid_t pid, struct user_regs_struct *registers) {
    SET_UP(trace(PTRACE_SETREGS, pid, 0, (unsigned long)registers) == 0);
}

/* Lets a traced child go on and prints what comes next. */
static inline int go_on(long request, pid_t pid, int signal_number) {
    SET_UP(trace(request, pid, 0, (unsigned long)signal_number) == 0);
    return wait_stop("then", pid);
}

/* Lets a child run to its end. */
static inline void finish(pid_t pid) {
    SET_UP(trace(PTRACE_CONT, pid, 0, 0) == 0);
    wait_stop("at last", pid);
}

static inline void kill_and_wait(pid_t pid) {
    kill(pid, SIGKILL);
    SET_UP(waitpid(pid, NULL, __WALL) == pid);
}

#endif
