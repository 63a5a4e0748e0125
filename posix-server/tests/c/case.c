/* The vocabulary of case.h, and the entry point of every program of cases. */
#include "case.h"

#include <grp.h>
#include <sys/resource.h>
#include <sys/time.h>

/* How far the stack may grow: the usual limit, set because there are systems without any. */
#define STACK_BYTES (8UL << 20)

#define INTERRUPT_PERIOD_MICROSECONDS 20000

/* ---- names ---- */

#define NAME(constant) [constant] = #constant

static const char *const errno_names[] = {
    NAME(EPERM),         NAME(ENOENT),        NAME(ESRCH),         NAME(EINTR),         NAME(EIO),
    NAME(ENXIO),         NAME(E2BIG),         NAME(ENOEXEC),       NAME(EBADF),         NAME(ECHILD),
    NAME(EAGAIN),        NAME(ENOMEM),        NAME(EACCES),        NAME(EFAULT),        NAME(ENOTBLK),
    NAME(EBUSY),         NAME(EEXIST),        NAME(EXDEV),         NAME(ENODEV),        NAME(ENOTDIR),
    NAME(EISDIR),        NAME(EINVAL),        NAME(ENFILE),        NAME(EMFILE),        NAME(ENOTTY),
    NAME(ETXTBSY),       NAME(EFBIG),         NAME(ENOSPC),        NAME(ESPIPE),        NAME(EROFS),
    NAME(EMLINK),        NAME(EPIPE),         NAME(EDOM),          NAME(ERANGE),        NAME(EDEADLK),
    NAME(ENAMETOOLONG),  NAME(ENOLCK),        NAME(ENOSYS),        NAME(ENOTEMPTY),     NAME(ELOOP),
    NAME(ENOMSG),        NAME(EIDRM),         NAME(ENODATA),       NAME(ETIME),         NAME(EPROTO),
    NAME(EBADMSG),       NAME(EOVERFLOW),     NAME(ELIBBAD),       NAME(EILSEQ),        NAME(EUSERS),
    NAME(ENOTSOCK),      NAME(EDESTADDRREQ),  NAME(EMSGSIZE),      NAME(EPROTOTYPE),    NAME(ENOPROTOOPT),
    NAME(EOPNOTSUPP),    NAME(ESTALE),        NAME(EADDRINUSE),    NAME(ECONNREFUSED),  NAME(ETIMEDOUT),
    NAME(EAFNOSUPPORT),  NAME(EADDRNOTAVAIL), NAME(ENETUNREACH),   NAME(ECONNABORTED),  NAME(ECONNRESET),
    NAME(ENOBUFS),       NAME(EISCONN),       NAME(ENOTCONN),      NAME(EALREADY),      NAME(EINPROGRESS),
    NAME(EDQUOT),        NAME(ECANCELED),     NAME(EPROTONOSUPPORT), NAME(ESOCKTNOSUPPORT), NAME(ETOOMANYREFS),
    NAME(EHOSTUNREACH),
};

static const char *const signal_names[] = {
    NAME(SIGHUP),    NAME(SIGINT),    NAME(SIGQUIT),   NAME(SIGILL),    NAME(SIGTRAP),   NAME(SIGABRT),
    NAME(SIGBUS),    NAME(SIGFPE),    NAME(SIGKILL),   NAME(SIGUSR1),   NAME(SIGSEGV),   NAME(SIGUSR2),
    NAME(SIGPIPE),   NAME(SIGALRM),   NAME(SIGTERM),   NAME(SIGSTKFLT), NAME(SIGCHLD),   NAME(SIGCONT),
    NAME(SIGSTOP),   NAME(SIGTSTP),   NAME(SIGTTIN),   NAME(SIGTTOU),   NAME(SIGURG),    NAME(SIGXCPU),
    NAME(SIGXFSZ),   NAME(SIGVTALRM), NAME(SIGPROF),   NAME(SIGWINCH),  NAME(SIGIO),     NAME(SIGPWR),
    NAME(SIGSYS),
};

static const char *name_in(const char *const *names, size_t count, int number) {
    return number > 0 && (size_t)number < count && names[number] ? names[number] : "(unnamed)";
}

const char *errno_name(int number) {
    return name_in(errno_names, sizeof errno_names / sizeof *errno_names, number);
}

const char *signal_name(int number) {
    return name_in(signal_names, sizeof signal_names / sizeof *signal_names, number);
}

/* ---- output ---- */

void say(const char *format, ...) {
    int errno_before = errno;
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length < 0)
        length = 0;
    if ((size_t)length > sizeof line - 2)
        length = sizeof line - 2;
    line[length] = '\n';
    if (write(1, line, length + 1) < 0)
        _exit(SET_UP_FAILED);
    errno = errno_before;
}

long report(const char *what, long result) {
    if (result == -1)
        say("%s = -1 %s", what, errno_name(errno));
    else
        say("%s = %ld", what, result);
    return result;
}

long report_ok(const char *what, long result) {
    if (result == -1)
        say("%s = -1 %s", what, errno_name(errno));
    else
        say("%s = ok", what);
    return result;
}

void set_up_failed(const char *what) {
    say("set-up failed: %s (%s)", what, errno ? errno_name(errno) : "no errno");
    _exit(SET_UP_FAILED);
}

void show_bytes(const char *what, const void *bytes, size_t length) {
    char text[768];
    size_t at = 0;
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < length && at < sizeof text - 5; i++) {
        if (byte[i] >= ' ' && byte[i] < 127 && byte[i] != '\\')
            text[at++] = (char)byte[i];
        else
            at += (size_t)snprintf(text + at, 5, "\\x%02x", byte[i]);
    }
    text[at] = 0;
    say("%s: \"%s\"", what, text);
}

/* ---- processes ---- */

void show_status(const char *what, int status) {
    if (WIFEXITED(status))
        say("%s: exited %d", what, WEXITSTATUS(status));
    else if (WIFSIGNALED(status))
        say("%s: killed by %s", what, signal_name(WTERMSIG(status)));
    else if (WIFSTOPPED(status))
        say("%s: stopped by %s", what, signal_name(WSTOPSIG(status)));
    else if (WIFCONTINUED(status))
        say("%s: continued", what);
    else
        say("%s: strange status %#x", what, (unsigned)status);
}

void show_end(const char *what, pid_t child) {
    int status = 0;
    pid_t waited;
    do
        waited = waitpid(child, &status, 0);
    while (waited < 0 && errno == EINTR);
    if (waited == child)
        show_status(what, status);
    else
        say("%s: waitpid failed with %s", what, errno_name(errno));
}

pid_t fork_child(void) {
    pid_t child = fork();
    SET_UP(child >= 0);
    return child;
}

void drop_to(uid_t uid, gid_t gid) {
    SET_UP(setgroups(0, NULL) == 0);
    SET_UP(setresgid(gid, gid, gid) == 0);
    SET_UP(setresuid(uid, uid, uid) == 0);
}

/* ---- files ---- */

void make_file(const char *path, const void *content, size_t length) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    SET_UP(fd >= 0);
    const char *from = content;
    while (length > 0) {
        ssize_t written = write(fd, from, length);
        SET_UP(written > 0);
        from += written;
        length -= (size_t)written;
    }
    SET_UP(close(fd) == 0);
}

void make_text(const char *path, const char *text) {
    make_file(path, text, strlen(text));
}

void show_file(const char *path) {
    char content[256];
    int fd = open(path, O_RDONLY);
    ssize_t length = fd < 0 ? -1 : read(fd, content, sizeof content);
    if (length < 0)
        say("content of %s: %s", path, errno_name(errno));
    else {
        char what[128];
        snprintf(what, sizeof what, "content of %.100s", path);
        show_bytes(what, content, (size_t)length);
    }
    if (fd >= 0)
        close(fd);
}

long file_size(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 ? (long)status.st_size : -1;
}

/* ---- order ---- */

struct gate make_gate(void) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    return (struct gate){ends[0], ends[1]};
}

void open_gate(struct gate gate) {
    SET_UP(write(gate.writer, "g", 1) == 1);
}

void pass_gate(struct gate gate) {
    char byte;
    ssize_t got;
    do
        got = read(gate.reader, &byte, 1);
    while (got < 0 && errno == EINTR);
    SET_UP(got == 1);
}

void handle_info(int signal_number, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    SET_UP(sigaction(signal_number, &action, NULL) == 0);
}

void handle(int signal_number, void (*handler)(int), int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    SET_UP(sigaction(signal_number, &action, NULL) == 0);
}

static void ignore_tick(int signal_number) {
    (void)signal_number;
}

static void tick_every(long microseconds) {
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};
    SET_UP(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

void keep_interrupting(void) {
    handle(SIGALRM, ignore_tick, 0);
    tick_every(INTERRUPT_PERIOD_MICROSECONDS);
}

void stop_interrupting(void) {
    tick_every(0);
}

long now_ms(void) {
    struct timespec now;
    SET_UP(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sleep_ms(long milliseconds) {
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

/* ---- the program ---- */

static struct test_case *first_case;
static struct test_case **end_of_cases = &first_case;

void case_register(struct test_case *test) {
    *end_of_cases = test;
    end_of_cases = &test->next;
}

static char path_of_program[PATH_MAX];

const char *own_path(void) {
    return path_of_program;
}

__attribute__((weak)) int child_main(int argc, char **argv) {
    (void)argc;
    (void)argv;
    return SET_UP_FAILED;
}

static int list_cases(void) {
    for (const struct test_case *test = first_case; test; test = test->next)
        say("%s%s", test->name, test->needs == CASE_NEEDS_ROOT ? " root" : "");
    return 0;
}

static void stand_on_common_ground(void) {
    /* What the starter of the tests left open. */
    RAW(SYS_close_range, 3, ~0U, 0);
    /* And what it ignored or blocked. */
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    struct rlimit no_core = {0, 0}, stack = {STACK_BYTES, RLIM_INFINITY};
    setrlimit(RLIMIT_CORE, &no_core);
    setrlimit(RLIMIT_STACK, &stack);
    umask(022);
}

int main(int argc, char **argv) {
    if (argc >= 2 && strcmp(argv[1], "--list") == 0)
        return list_cases();
    if (argc >= 2 && strcmp(argv[1], "--child") == 0)
        return child_main(argc - 2, argv + 2);
    if (getenv(CHILD_VARIABLE))
        return child_main(argc, argv);
    if (argc != 2) {
        say("usage: %s --list | CASE", argv[0] ? argv[0] : "program");
        return SET_UP_FAILED;
    }
    snprintf(path_of_program, sizeof path_of_program, "%s", argv[0]);
    for (const struct test_case *test = first_case; test; test = test->next) {
        if (strcmp(test->name, argv[1]) == 0) {
            stand_on_common_ground();
            test->run();
            return 0;
        }
    }
    say("no case is called %s", argv[1]);
    return SET_UP_FAILED;
}
