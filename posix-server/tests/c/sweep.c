/*
 * Every system call with systematic bad arguments, as an unprivileged user: the errno must be Linux's.
 *
 * Each argument is one of a few values; the first goes through all of them, and with each of those the others do together. A case
 * prints a row for each first argument, a column for each value of the others.
 */
#include "case.h"

#include <sys/resource.h>
#include <sys/time.h>

#define VALUES 8
#define INTERRUPT_MICROSECONDS 5000
/* No account of the system has it. */
#define SWEEPER 54321

/* What became of one call. */
enum { NOT_MADE = 0, SUCCEEDED = 1, KILLED = 1000 };

struct results {
    volatile int next;
    volatile int outcome[VALUES * VALUES];
};

static const char *const value_names[VALUES] = {"0", "-1", "1", "2^30", "INT_MAX", "zeroes", "name", "read-only"};
static long values[VALUES] = {0, -1, 1, 1 << 30, INT_MAX};

static void interrupted(int signal_number) { (void)signal_number; }

/* At a place of its own: far from all else, and the same each time, because calls look at the bits of an address, too. */
static void *page_with(const char *text, int protection) {
    static char *next = (char *)0x100020000000;
    char *page = mmap(next, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    SET_UP(page == next);
    next += 2 * PAGE;
    strcpy(page, text);
    SET_UP(mprotect(page, PAGE, protection) == 0);
    return page;
}

/* A process whose limit on processor time is 0 is killed at the next tick: how many calls it still makes depends on when that is. */
static bool depends_on_ticks(long number, long first) { return number == SYS_setrlimit && first == RLIMIT_CPU; }

/* Makes the calls from results->next on. The process has nothing that a call could reach: no descriptors but two of /dev/null, a
 * process group and a user of its own. */
static void make_calls(long number, struct results *results) {
    handle(SIGALRM, interrupted, 0);
    for (int at = results->next; at < VALUES * VALUES; at++) {
        struct itimerval timer = {{0, INTERRUPT_MICROSECONDS}, {0, INTERRUPT_MICROSECONDS}};
        setitimer(ITIMER_REAL, &timer, NULL);
        long first = values[at / VALUES], rest = values[at % VALUES];
        results->next = at;
        if (depends_on_ticks(number, first))
            continue;
        errno = 0;
        long result = syscall(number, first, rest, rest, rest, rest, rest);
        results->outcome[at] = result == -1 && errno ? -errno : SUCCEEDED;
    }
    results->next = VALUES * VALUES;
}

static void become_harmless(void) {
    for (int descriptor = 0; descriptor < 3; descriptor++)
        close(descriptor);
    open("/dev/null", O_RDWR);
    dup(0);
    setsid();
    drop_to(SWEEPER, SWEEPER);
}

static const char *outcome_name(int outcome) {
    if (outcome >= KILLED)
        return signal_name(outcome - KILLED);
    return outcome == SUCCEEDED ? "ok" : outcome == NOT_MADE ? "(not made)" : errno_name(-outcome);
}

static void show(const struct results *results) {
    for (int first = 0; first < VALUES; first++) {
        char line[512];
        int at = snprintf(line, sizeof line, "%s:", value_names[first]);
        for (int rest = 0; rest < VALUES; rest++)
            at += snprintf(line + at, sizeof line - (size_t)at, " %s", outcome_name(results->outcome[first * VALUES + rest]));
        say("%s", line);
    }
}

static void sweep(long number) {
    SET_UP(chmod(".", 0777) == 0);
    values[5] = (long)page_with("", PROT_READ | PROT_WRITE);
    values[6] = (long)page_with("x", PROT_READ | PROT_WRITE);
    values[7] = (long)page_with("y", PROT_READ);
    struct results *results = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SET_UP(results != MAP_FAILED);
    while (results->next < VALUES * VALUES) {
        pid_t child = fork_child();
        if (child == 0) {
            become_harmless();
            make_calls(number, results);
            _exit(0);
        }
        int status;
        SET_UP(waitpid(child, &status, 0) == child);
        if (WIFSIGNALED(status))
            results->outcome[results->next++] = KILLED + WTERMSIG(status);
    }
    show(results);
}

#define SWEEP(name, number)                                                                                            \
    ROOT_TEST(sys_##name) { sweep(number); }
#include "sweep_calls.h"
