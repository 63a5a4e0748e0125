/* Running another program: execve, its arguments, scripts, what survives it, and how it fails. */
#include "case.h"

#include <sys/resource.h>

extern char **environ;

#define SHOWN_ENVIRONMENT 4

static char *const child_environment[] = {CHILD_VARIABLE "=1", "B=two words", "EMPTY=", NULL};

/* As a program of its own: prints how it was called, or does what its only argument says. */
static int show_call(int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        char what[32];
        snprintf(what, sizeof what, "argv[%d]", i);
        show_bytes(what, argv[i], strlen(argv[i]));
    }
    HOLDS(argv[argc] == NULL);
    for (int i = 0; environ[i] && i < SHOWN_ENVIRONMENT; i++)
        show_bytes("env", environ[i], strlen(environ[i]));
    return 0;
}

static int show_inheritance(void) {
    sigset_t mask, pending;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    sigpending(&pending);
    HOLDS(sigismember(&mask, SIGUSR1) == 1);
    HOLDS(sigismember(&pending, SIGUSR1) == 1);
    struct sigaction action;
    sigaction(SIGUSR2, NULL, &action);
    HOLDS(action.sa_handler == SIG_DFL);
    sigaction(SIGHUP, NULL, &action);
    HOLDS(action.sa_handler == SIG_IGN);
    stack_t stack;
    sigaltstack(NULL, &stack);
    HOLDS(stack.ss_flags == SS_DISABLE);
    HOLDS(umask(0) == 0123);
    HOLDS(alarm(0) > 0);
    return 0;
}

static int show_descriptors(int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        say("descriptor %s %s", argv[i], fcntl(atoi(argv[i]), F_GETFD) < 0 ? "is closed" : "is open");
    return 0;
}

int child_main(int argc, char **argv) {
    if (argc >= 2 && strcmp(argv[1], "inheritance") == 0)
        return show_inheritance();
    if (argc >= 2 && strcmp(argv[1], "descriptors") == 0)
        return show_descriptors(argc - 2, argv + 2);
    if (argc >= 2 && strcmp(argv[1], "pid") == 0) {
        HOLDS(getpid() == atoi(argv[2]));
        return 0;
    }
    if (argc >= 2 && strcmp(argv[1], "count") == 0) {
        size_t bytes = 0;
        for (int i = 0; i < argc; i++)
            bytes += strlen(argv[i]) + 1;
        say("%d arguments of %zu bytes", argc, bytes);
        return 0;
    }
    return show_call(argc, argv);
}

/* Runs a program in a child and prints how it ended; a failing execve prints its errno. */
static void run(const char *path, char *const arguments[]) {
    pid_t child = fork_child();
    if (child == 0) {
        execve(path, arguments, child_environment);
        say("execve fails with %s", errno_name(errno));
        _exit(1);
    }
    show_end("it", child);
}

#define RUN(path, ...) run(path, (char *const[]){__VA_ARGS__, NULL})

/* The case's own program by a short name in the current directory. */
static void make_show(void) {
    SET_UP(symlink(own_path(), "show") == 0);
}

static void make_script(const char *path, const char *first_line) {
    make_text(path, first_line);
    SET_UP(chmod(path, 0755) == 0);
}

TEST(execve_hands_on_arguments_and_environment) {
    make_show();
    RUN("./show", "a name of its own", "", "two words", "\xff\x01\n");
}

TEST(execve_without_arguments_gives_an_empty_name) {
    make_show();
    char *const none[] = {NULL};
    run("./show", none);
}

TEST(execve_with_null_vectors_is_an_empty_call) {
    make_show();
    pid_t child = fork_child();
    if (child == 0) {
        /* Without an environment the program is no child of ours: it prints its usage. */
        RAW(SYS_execve, "./show", NULL, NULL);
        say("execve fails with %s", errno_name(errno));
        _exit(1);
    }
    show_end("it", child);
}

TEST(execve_keeps_the_pid) {
    make_show();
    pid_t child = fork_child();
    if (child == 0) {
        char pid[16];
        snprintf(pid, sizeof pid, "%d", getpid());
        execle("./show", "show", "pid", pid, NULL, child_environment);
        _exit(SET_UP_FAILED);
    }
    show_end("it", child);
}

static void do_nothing(int signal_number) {
    (void)signal_number;
}

TEST(execve_keeps_masks_and_ignored_signals_and_resets_handlers) {
    make_show();
    pid_t child = fork_child();
    if (child == 0) {
        handle(SIGUSR2, do_nothing, 0);
        signal(SIGHUP, SIG_IGN);
        static char alternative[16384];
        stack_t stack = {.ss_sp = alternative, .ss_size = sizeof alternative};
        SET_UP(sigaltstack(&stack, NULL) == 0);
        sigset_t blocked;
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGUSR1);
        SET_UP(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
        SET_UP(raise(SIGUSR1) == 0);
        umask(0123);
        alarm(1000);
        execle("./show", "show", "inheritance", NULL, child_environment);
        _exit(SET_UP_FAILED);
    }
    show_end("it", child);
}

TEST(execve_closes_what_is_marked_close_on_exec) {
    make_show();
    SET_UP(open("/dev/null", O_RDONLY) == 3);
    SET_UP(open("/dev/null", O_RDONLY | O_CLOEXEC) == 4);
    SET_UP(fcntl(3, F_DUPFD_CLOEXEC, 5) == 5);
    SET_UP(dup2(4, 6) == 6);
    SET_UP(dup3(3, 7, O_CLOEXEC) == 7);
    SET_UP(dup2(3, 8) == 8 && fcntl(8, F_SETFD, FD_CLOEXEC) == 0);
    RUN("./show", "show", "descriptors", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9");
}

TEST(a_failing_execve_leaves_close_on_exec_descriptors_open) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    SET_UP(fd >= 0);
    CALL(execl("./nothing", "nothing", NULL));
    CALL(fcntl(fd, F_GETFD));
}

TEST(execve_fails_by_the_kind_of_its_path) {
    SET_UP(mkdir("directory", 0755) == 0);
    make_text("not-executable", "#!/bin/sh\n");
    SET_UP(symlink("loop", "loop") == 0);
    SET_UP(symlink("nowhere", "dangling") == 0);
    char long_name[300], long_path[5000];
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = 0;
    memset(long_path, '/', sizeof long_path);
    long_path[sizeof long_path - 1] = 0;
    char *const arguments[] = {"x", NULL};
    CALL(execve("", arguments, environ));
    CALL(execve("nowhere", arguments, environ));
    CALL(execve("directory", arguments, environ));
    CALL(execve("not-executable", arguments, environ));
    CALL(execve("not-executable/x", arguments, environ));
    CALL(execve("nowhere/x", arguments, environ));
    CALL(execve("loop", arguments, environ));
    CALL(execve("dangling", arguments, environ));
    CALL(execve("/dev/null", arguments, environ));
    CALL(execve(long_name, arguments, environ));
    CALL(execve(long_path, arguments, environ));
    CALL(execve(BAD_ADDRESS, arguments, environ));
    CALL(execve(NULL, arguments, environ));
}

TEST(execve_with_bad_vectors_is_efault) {
    make_show();
    char *const good[] = {"show", NULL};
    char *const bad_word[] = {"show", BAD_ADDRESS, NULL};
    CALL(RAW(SYS_execve, "./show", BAD_ADDRESS, environ));
    CALL(RAW(SYS_execve, "./show", bad_word, environ));
    CALL(RAW(SYS_execve, "./show", good, BAD_ADDRESS));
    CALL(RAW(SYS_execve, "./show", good, bad_word));
    /* A vector that runs off the end of its mapping. */
    char **area = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED && munmap((char *)area + PAGE, PAGE) == 0);
    char **last = area + PAGE / sizeof *area - 1;
    *last = "word";
    CALL(RAW(SYS_execve, "./show", last, environ));
    CALL(RAW(SYS_execve, "./show", good, last));
    /* A string that does. */
    char *text = (char *)area + PAGE - 4;
    memcpy(text, "text", 4);
    char *const endless[] = {"show", text, NULL};
    CALL(RAW(SYS_execve, "./show", endless, environ));
}

TEST(execve_of_a_file_of_no_format_is_enoexec) {
    char *const arguments[] = {"x", NULL};
    const struct {
        const char *name, *content;
    } files[] = {{"empty", ""}, {"one-byte", "x"}, {"text", "echo hello\n"}, {"magic-only", "\x7f" "ELF"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        make_script(files[i].name, files[i].content);
        errno = 0;
        report(files[i].name, execve(files[i].name, arguments, environ));
    }
}

TEST(execve_of_a_file_open_for_writing_is_etxtbsy) {
    make_script("script", "#!/bin/sh\nexit 3\n");
    int fd = open("script", O_WRONLY);
    SET_UP(fd >= 0);
    char *const arguments[] = {"script", NULL};
    CALL(execve("script", arguments, environ));
    SET_UP(close(fd) == 0);
    RUN("script", "script");
}

TEST(writing_to_a_running_program_is_etxtbsy) {
    CALL(open(own_path(), O_WRONLY));
    CALL(open(own_path(), O_RDWR | O_TRUNC));
    CALL(truncate(own_path(), 0));
}

TEST(a_script_runs_by_its_interpreter) {
    make_show();
    make_script("plain", "#!./show\nignored\n");
    make_script("with-argument", "#!./show one argument  with blanks \t \n");
    make_script("with-blanks", "#! \t ./show \t x\n");
    make_script("without-line-feed", "#!./show y");
    RUN("./plain", "argv0 is dropped", "a", "b");
    RUN("./with-argument", "dropped", "a");
    RUN("./with-blanks", "dropped");
    RUN("./without-line-feed", "dropped");
    char *const none[] = {NULL};
    run("./plain", none);
}

TEST(scripts_can_be_interpreters_of_scripts) {
    make_show();
    make_script("1", "#!./show one\n");
    make_script("2", "#!./1 two\n");
    make_script("3", "#!./2 three\n");
    RUN("./3", "dropped", "x");
}

TEST(too_deeply_nested_scripts_are_eloop) {
    make_show();
    make_script("1", "#!./show\n");
    for (int i = 2; i <= 7; i++) {
        char name[8], line[16];
        snprintf(name, sizeof name, "%d", i);
        snprintf(line, sizeof line, "#!./%d\n", i - 1);
        make_script(name, line);
    }
    make_script("itself", "#!./itself\n");
    RUN("./4", "x");
    RUN("./5", "x");
    RUN("./6", "x");
    RUN("./7", "x");
    RUN("./itself", "x");
}

TEST(a_script_with_a_bad_interpreter_fails_like_it) {
    SET_UP(mkdir("directory", 0755) == 0);
    make_text("not-executable", "x");
    make_script("garbage", "no format at all");
    make_script("missing", "#!./nowhere\n");
    make_script("of-directory", "#!./directory\n");
    make_script("of-not-executable", "#!./not-executable\n");
    make_script("of-garbage", "#!./garbage\n");
    make_script("nothing", "#!\n");
    make_script("blanks", "#!   \t \n");
    char *const arguments[] = {"x", NULL};
    CALL(execve("missing", arguments, environ));
    CALL(execve("of-directory", arguments, environ));
    CALL(execve("of-not-executable", arguments, environ));
    CALL(execve("of-garbage", arguments, environ));
    CALL(execve("nothing", arguments, environ));
    CALL(execve("blanks", arguments, environ));
}

/* Linux looks at the first 256 bytes of a script. */
TEST(a_script_line_that_is_too_long_is_cut_or_refused) {
    make_show();
    char line[600];
    char *const arguments[] = {"x", NULL};

    /* The name of the interpreter itself does not fit. */
    memset(line, 'n', sizeof line);
    memcpy(line, "#!", 2);
    memcpy(line + 500, "\n", 2);
    make_script("long-name", line);
    CALL(execve("long-name", arguments, environ));

    /* The name fits and its argument does not: the argument is cut. */
    memset(line, 'a', sizeof line);
    memcpy(line, "#!./show ", 9);
    memcpy(line + 500, "\n", 2);
    make_script("long-argument", line);
    pid_t child = fork_child();
    if (child == 0) {
        execle("./long-argument", "dropped", NULL, (char *const[]){CHILD_VARIABLE "=1", NULL});
        say("execve fails with %s", errno_name(errno));
        _exit(1);
    }
    show_end("it", child);
}

TEST(a_script_is_opened_by_its_interpreter_so_it_must_be_readable_by_name) {
    make_script("script", "#!/bin/sh\necho \"$0 $1 $#\"\n");
    RUN("./script", "dropped", "first", "second");
    SET_UP(mkdir("deep", 0755) == 0 && rename("script", "deep/script") == 0);
    RUN("deep/script", "dropped", "first");
    RUN("deep/../deep//script", "dropped");
}

TEST(many_and_long_arguments_arrive) {
    make_show();
    enum { MANY = 5000 };
    char **many = calloc(MANY + 3, sizeof *many);
    SET_UP(many != NULL);
    many[0] = "show";
    many[1] = "count";
    for (int i = 0; i < MANY; i++)
        many[i + 2] = "0123456789";
    run("./show", many);
    enum { LONG = 100 * 1024 };
    char *longest = malloc(LONG + 1);
    SET_UP(longest != NULL);
    memset(longest, 'x', LONG);
    longest[LONG] = 0;
    RUN("./show", "show", "count", longest);
}

/* One string may have 32 pages with its terminator; all together a quarter of the stack's limit. */
TEST(too_long_arguments_are_e2big) {
    make_show();
    enum { MOST = 32 * 4096 };
    char *longest = malloc(MOST + 1);
    SET_UP(longest != NULL);
    memset(longest, 'x', MOST);
    longest[MOST] = 0;
    RUN("./show", "show", "count", longest);
    longest[MOST - 1] = 0;
    RUN("./show", "show", "count", longest);

    struct rlimit stack = {8 << 20, 8 << 20};
    setrlimit(RLIMIT_STACK, &stack);
    char *many[34];
    longest[MOST - 1] = 0;
    for (int i = 0; i < 33; i++)
        many[i] = longest;
    many[33] = NULL;
    run("./show", many);
}

TEST(fexecve_runs_an_open_file) {
    int fd = open(own_path(), O_RDONLY | O_CLOEXEC);
    SET_UP(fd >= 0);
    pid_t child = fork_child();
    if (child == 0) {
        char *const arguments[] = {"named", "argument", NULL};
        RAW(SYS_execveat, fd, "", arguments, child_environment, AT_EMPTY_PATH);
        say("execveat fails with %s", errno_name(errno));
        _exit(1);
    }
    show_end("it", child);
}

TEST(execve_drops_the_old_memory) {
    make_show();
    pid_t child = fork_child();
    if (child == 0) {
        for (int i = 0; i < 100; i++) {
            char *area = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            SET_UP(area != MAP_FAILED);
            memset(area, i, 64 * PAGE);
        }
        execle("./show", "show", "descriptors", "1", NULL, child_environment);
        _exit(SET_UP_FAILED);
    }
    show_end("it", child);
}

TEST(execve_in_a_chain_of_a_hundred) {
    make_script("again", "#!/bin/sh\n[ $1 = 0 ] && exit 17\nexec ./again $(($1 - 1))\n");
    RUN("./again", "x", "100");
}
