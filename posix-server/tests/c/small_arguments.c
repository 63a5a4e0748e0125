/*
 * Small arguments and results at the edges of what a program can read and write: paths and structures may take another way than large
 * ones, and must not mean anything else by it.
 */
#include "case.h"

#include <sys/resource.h>
#include <sys/socket.h>

/* Pages of which the first two can be read and written, the third only read, and the fourth is not there. */
static char *edge(void) {
    char *pages = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(pages != MAP_FAILED);
    SET_UP(mprotect(pages + 2 * PAGE, PAGE, PROT_READ) == 0 && munmap(pages + 3 * PAGE, PAGE) == 0);
    return pages;
}

static int next_descriptor(void) {
    int fd = dup(1);
    close(fd);
    return fd;
}

TEST(paths_at_all_distances_from_the_end_of_a_page) {
    char *pages = edge();
    make_text("name_of_nineteen_by", "x");
    int wrong = 0;
    struct stat info;
    for (size_t at = PAGE - 40; at <= PAGE + 8; at++) {
        strcpy(pages + at, "name_of_nineteen_by");
        wrong += stat(pages + at, &info) != 0;
    }
    say("wrong across a boundary: %d", wrong);
    SET_UP(munmap(pages + 2 * PAGE, PAGE) == 0);
    wrong = 0;
    for (size_t length = 1; length < 30; length++) {
        char *path = pages + 2 * PAGE - length - 1;
        memset(path, '/', length);
        path[length] = 0;
        wrong += stat(path, &info) != 0;
    }
    say("wrong before the end: %d", wrong);
    memset(pages + 2 * PAGE - 32, '/', 32);
    wrong = 0;
    for (size_t length = 1; length < 30; length++)
        wrong += stat(pages + 2 * PAGE - length, &info) != -1 || errno != EFAULT;
    say("wrong beyond the end: %d", wrong);
}

TEST(paths_of_all_lengths) {
    static char path[2 * PAGE];
    make_text("f", "x");
    int wrong = 0;
    for (size_t slashes = 480; slashes < 540; slashes++) {
        memset(path, '/', slashes);
        path[0] = '.';
        strcpy(path + slashes, "f");
        wrong += access(path, R_OK) != 0;
    }
    say("wrong: %d", wrong);
    for (size_t length = PATH_MAX - 2; length < PATH_MAX + 2; length++) {
        memset(path, '/', length);
        path[0] = '.';
        path[length] = 0;
        CALL(access(path, R_OK));
    }
    CALL(access("", R_OK));
    CALL(access(NULL, R_OK));
    CALL(access(BAD_ADDRESS, R_OK));
    CALL(rename("f", BAD_ADDRESS));
    CALL(rename(NULL, "g"));
    CALL(rename("f", "f"));
    CALL(link("f", "g"));
    CALL(symlink("g", "h"));
}

TEST(results_at_the_end_of_what_can_be_written) {
    char *pages = edge();
    make_text("f", "x");
    struct stat *fits = (struct stat *)(pages + 2 * PAGE - sizeof *fits);
    CALL(RAW(SYS_stat, "f", fits));
    say("size %ld", (long)fits->st_size);
    CALL(RAW(SYS_stat, "f", (struct stat *)((char *)fits + 8)));
    CALL(RAW(SYS_stat, "f", (struct stat *)(pages + 2 * PAGE)));
    CALL(RAW(SYS_stat, "f", (struct stat *)(pages + 3 * PAGE)));
    CALL(RAW(SYS_stat, "f", NULL));
    CALL(RAW(SYS_stat, "f", BAD_ADDRESS));
    CALL(RAW(SYS_stat, "nothing", NULL));
    CALL(RAW(SYS_fstat, 0, (struct stat *)(pages + 3 * PAGE - 8)));
    CALL(RAW(SYS_prlimit64, 0, RLIMIT_CORE, NULL, pages + 2 * PAGE - 8));
}

TEST(descriptors_that_can_not_be_told_are_not_made) {
    char *pages = edge();
    int before = next_descriptor();
    CALL(pipe((int *)(pages + 2 * PAGE)));
    CALL(pipe2((int *)(pages + 3 * PAGE), 0));
    CALL(RAW(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, pages + 2 * PAGE));
    CALL(RAW(SYS_pipe2, pages + 2 * PAGE - 4, 0));
    HOLDS(next_descriptor() == before);
    int *pair = (int *)(pages + 2 * PAGE - 8);
    CALL(pipe(pair));
    HOLDS(pair[0] == before && pair[1] == before + 1);
}

TEST(one_structure_to_read_and_to_write) {
    struct rlimit limit = {100, 100};
    SET_UP(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = 50;
    CALL(RAW(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, &limit));
    say("before: %ld", (long)limit.rlim_cur);
    CALL(getrlimit(RLIMIT_NOFILE, &limit));
    say("now: %ld", (long)limit.rlim_cur);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    CALL(RAW(SYS_rt_sigprocmask, SIG_BLOCK, &set, &set, NSIG / 8));
    say("was blocked: %d", sigismember(&set, SIGUSR1));
    CALL(sigprocmask(SIG_BLOCK, NULL, &set));
    say("is blocked: %d", sigismember(&set, SIGUSR1));
}

TEST(reads_and_writes_of_all_small_lengths) {
    static char out[3 * PAGE], in[3 * PAGE];
    int ends[2], wrong = 0;
    SET_UP(pipe(ends) == 0);
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (char)(i * 7 + i / 256);
    for (size_t length = 1; length < 2 * PAGE; length += length < 40 ? 1 : length < 1000 ? 61 : 8) {
        for (size_t shift = 0; shift < 2; shift++) {
            memset(in, 0, sizeof in);
            wrong += write(ends[1], out + shift, length) != (ssize_t)length;
            wrong += read(ends[0], in + 3, sizeof in - 3) != (ssize_t)length;
            wrong += memcmp(in + 3, out + shift, length) != 0 || in[2] != 0 || in[3 + length] != 0;
        }
        length += length > 1100 ? 500 : 0;
    }
    say("wrong: %d", wrong);
    for (int i = 0; i < 5; i++)
        SET_UP(write(ends[1], out, 400) == 400);
    CALL(read(ends[0], in, 1024));
    CALL(read(ends[0], in, 100));
    CALL(read(ends[0], in, sizeof in));
    HOLDS(memcmp(in, out + 1124 % 400, 76) == 0);
}

TEST(reads_into_what_can_be_written_only_in_part) {
    char *pages = edge();
    int ends[2];
    SET_UP(pipe(ends) == 0 && write(ends[1], "0123456789", 10) == 10);
    CALL(read(ends[0], pages + 2 * PAGE - 4, 4));
    CALL(read(ends[0], pages + 2 * PAGE - 20, 100));
    show_bytes("first", pages + 2 * PAGE - 4, 4);
    show_bytes("second", pages + 2 * PAGE - 20, 6);
    SET_UP(write(ends[1], "ab", 2) == 2);
    CALL(read(ends[0], pages + 2 * PAGE, 2));
    CALL(read(ends[0], pages + 3 * PAGE, 100));
    CALL(read(ends[0], BAD_ADDRESS, 2));
    CALL(read(ends[0], pages, 2));
    CALL(write(ends[1], pages + 3 * PAGE, 2));
    CALL(write(ends[1], BAD_ADDRESS, 2));
    CALL(write(ends[1], NULL, 0));
    CALL(write(ends[1], pages + 3 * PAGE - 2, 2));
}

static volatile sigset_t *told;
static volatile int seen = -1;

static void look(int number) {
    (void)number;
    seen = sigismember((sigset_t *)told, SIGUSR1);
}

/* The call tells the old mask, and lets the signal come: the handler finds what was told. */
TEST(a_handler_finds_the_result_of_the_call_that_let_it_run) {
    sigset_t blocked, old;
    struct sigaction action = {.sa_handler = look};
    told = &old;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    memset(&old, 0, sizeof old);
    SET_UP(sigaction(SIGUSR1, &action, NULL) == 0 && sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    SET_UP(kill(getpid(), SIGUSR1) == 0);
    CALL(sigprocmask(SIG_UNBLOCK, &blocked, &old));
    say("the handler saw: %d", seen);
}

TEST(links_are_read_as_far_as_there_is_room) {
    char text[64];
    SET_UP(symlink("where/it/leads", "l") == 0);
    for (size_t room = 1; room < 20; room += 6) {
        memset(text, '-', sizeof text);
        CALL(readlink("l", text, room));
        show_bytes("text", text, 20);
    }
    CALL(readlink("l", NULL, 10));
    CALL(readlink("l", text, 0));
    CALL(RAW(SYS_getcwd, text, 1));
    CALL(RAW(SYS_getcwd, NULL, 4096));
}
