/*
 * The vocabulary of the POSIX cases.
 *
 * A case is a function that does something to the system and prints what the system answered. The same binary runs on
 * Linux and on Quire, and the two outputs must be equal byte for byte; Linux is the oracle, so a case holds no expected
 * values. For that a case prints nothing that may differ between two runs: no addresses, pids, inode numbers or times.
 * Where such a value matters, the case prints a statement about it ("the page is aligned: yes").
 *
 * Every case runs in a process of its own, leader of its own process group, in an empty directory, with stdin on
 * /dev/null, no descriptors but the standard ones, the umask 022, default signal actions and a fixed environment.
 * `program --list` prints the names of the cases, one per line, followed by the word `root` for those that need the
 * superuser.
 *
 *     TEST(unlink_of_a_directory_is_refused) {
 *         SET_UP(mkdir("d", 0755) == 0);
 *         CALL(unlink("d"));                  // prints: unlink("d") = -1 EISDIR
 *     }
 */
#ifndef CASE_H
#define CASE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* x86_64 has one page size that programs see. */
#define PAGE 4096UL

/* An address no user mapping can have: the first one above the canonical lower half. */
#define BAD_ADDRESS ((void *)0x800000000000UL)

/* A pointer in the first page, which is never mapped. */
#define NULL_PAGE_ADDRESS ((void *)16)

/* How a case ends when its preparations failed: the case proves nothing then, on either system. */
#define SET_UP_FAILED 99

/* An unprivileged user and group that exist on every system the suite runs on. */
#define NOBODY 65534

enum case_needs { CASE_NEEDS_NOTHING, CASE_NEEDS_ROOT };

struct test_case {
    const char *name;
    void (*run)(void);
    enum case_needs needs;
    struct test_case *next;
};

void case_register(struct test_case *test);

#define TEST_THAT_NEEDS(case_name, what)                                                                               \
    static void case_name(void);                                                                                       \
    __attribute__((constructor)) static void register_##case_name(void) {                                              \
        static struct test_case test = {#case_name, case_name, what, NULL};                                            \
        case_register(&test);                                                                                          \
    }                                                                                                                  \
    static void case_name(void)

/* A case, and a case that only the superuser can run. */
#define TEST(name) TEST_THAT_NEEDS(name, CASE_NEEDS_NOTHING)
#define ROOT_TEST(name) TEST_THAT_NEEDS(name, CASE_NEEDS_ROOT)

/* Prints one line, by one write, so that lines of several processes never mix. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

/* Does a call and prints its text and its result: the value, or -1 and the name of the errno. Gives the result. */
#define CALL(expression) (errno = 0, report(#expression, (long)(expression)))

/* The same where the value itself may differ between runs: prints `ok` for all but -1. */
#define CALL_OK(expression) (errno = 0, report_ok(#expression, (long)(expression)))

/* The same for a call that gives a pointer, or MAP_FAILED. */
#define CALL_MAP(expression) (errno = 0, (void *)report_ok(#expression, (long)(expression)))

/* Prints whether a statement holds. */
#define HOLDS(condition) say("%s: %s", #condition, (condition) ? "yes" : "no")

/* A preparation, without which the case makes no sense. */
#define SET_UP(condition) ((errno = 0, (condition)) ? (void)0 : set_up_failed(#condition))

/* A system call by its number, past the C library's own checks. */
#define RAW(...) syscall(__VA_ARGS__)

long report(const char *what, long result);
long report_ok(const char *what, long result);
_Noreturn void set_up_failed(const char *what);

/* The symbolic name of an errno or a signal number. */
const char *errno_name(int number);
const char *signal_name(int number);

/* Prints a wait status in words. */
void show_status(const char *what, int status);

/* Waits for a child and prints its status. */
void show_end(const char *what, pid_t child);

/* A fork that must succeed. */
pid_t fork_child(void);

/* Prints bytes, those that are not printable escaped. */
void show_bytes(const char *what, const void *bytes, size_t length);

/* A new file with this content and mode 0644; a text file is written by its string. */
void make_file(const char *path, const void *content, size_t length);
void make_text(const char *path, const char *text);

/* Prints the content of a file, or the errno that kept it from being read. */
void show_file(const char *path);

/* The size of a file, or -1. */
long file_size(const char *path);

/* The path of the case's own binary, to be executed anew as another program. */
const char *own_path(void);

/*
 * A binary may define this function to run as another program. It is called in place of a case when the first argument
 * is `--child`, with the arguments after it; and when the variable CHILD_VARIABLE is set, with all arguments.
 */
int child_main(int argc, char **argv);
#define CHILD_VARIABLE "CASE_CHILD"

/* A one-shot signal from one process to another, for order without sleeping: a pipe with one byte. */
struct gate {
    int reader;
    int writer;
};
struct gate make_gate(void);
void open_gate(struct gate gate);
void pass_gate(struct gate gate);

/* Installs a handler with these flags and an empty mask. */
void handle(int signal_number, void (*handler)(int), int flags);
void handle_info(int signal_number, void (*handler)(int, siginfo_t *, void *), int flags);

/*
 * Sends SIGALRM again and again until stop_interrupting: a blocking call gets interrupted at some tick, wherever the
 * first tick fell.
 */
void keep_interrupting(void);
void stop_interrupting(void);

/* Milliseconds of CLOCK_MONOTONIC. */
long now_ms(void);
void sleep_ms(long milliseconds);

/* Becomes an unprivileged user for good: no extra groups, real, effective and saved ids. */
void drop_to(uid_t uid, gid_t gid);

#endif
