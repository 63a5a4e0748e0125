/* Resource limits (setrlimit(2)) where they are felt, and what is ended first when memory is used up (proc(5), oom_score). */
#include "case.h"

#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* A user of these cases' own, so that limits by user count only them. */
#define LIMITED 43215

static void limit_to(int resource, rlim_t most) {
    struct rlimit limit = {most, most};
    SET_UP(setrlimit(resource, &limit) == 0);
}

static const char *mapping(size_t length, int protection, int flags) {
    void *area = mmap(NULL, length, protection, flags | MAP_ANONYMOUS, -1, 0);
    return area == MAP_FAILED ? errno_name(errno) : "mapped";
}

TEST(address_space_is_limited_however_it_is_to_grow) {
    char *area = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED && munmap(area + 2 * PAGE, 2 * PAGE) == 0);
    char *end = sbrk(0);
    limit_to(RLIMIT_AS, PAGE);
    say("private: %s", mapping(PAGE, PROT_READ, MAP_PRIVATE));
    say("without access: %s", mapping(PAGE, PROT_NONE, MAP_PRIVATE));
    say("shared: %s", mapping(PAGE, PROT_READ, MAP_SHARED));
    say("the end of the heap %s", RAW(SYS_brk, end + 16 * PAGE) == (long)end ? "stays" : "moves");
    CALL_MAP(mremap(area, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE));
    CALL_MAP(mremap(area, 2 * PAGE, PAGE, 0));
    CALL(mprotect(area, PAGE, PROT_READ));
    CALL(munmap(area, PAGE));
    pid_t child = fork_child();
    if (child == 0)
        _exit(0);
    show_end("a fork is no growth", child);
}

TEST(data_is_limited_and_means_all_that_is_private_and_writable) {
    char *readable = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *writable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(readable != MAP_FAILED && writable != MAP_FAILED);
    char *end = sbrk(0);
    limit_to(RLIMIT_DATA, PAGE);
    say("private and writable: %s", mapping(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE));
    say("only writable: %s", mapping(PAGE, PROT_WRITE, MAP_PRIVATE));
    say("private and readable: %s", mapping(PAGE, PROT_READ, MAP_PRIVATE));
    say("without access: %s", mapping(PAGE, PROT_NONE, MAP_PRIVATE));
    say("shared and writable: %s", mapping(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED));
    say("the end of the heap %s", RAW(SYS_brk, end + 16 * PAGE) == (long)end ? "stays" : "moves");
    CALL(mprotect(readable, PAGE, PROT_READ | PROT_WRITE));
    CALL(mprotect(readable, PAGE, PROT_READ | PROT_EXEC));
    CALL_MAP(mremap(writable, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    CALL(mprotect(writable, PAGE, PROT_READ));
    writable = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CALL_MAP(mremap(writable, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
}

static void *wait_without_end(void *nothing) {
    for (;;)
        pause();
    return nothing;
}

ROOT_TEST(threads_count_as_processes_of_their_user) {
    pthread_t thread;
    limit_to(RLIMIT_NPROC, 5);
    drop_to(LIMITED, LIMITED);
    int made = 0, error;
    while ((error = pthread_create(&thread, NULL, wait_without_end, NULL)) == 0)
        made++;
    say("%d threads beside the first, then %s", made, errno_name(error));
    CALL(fork());
}

ROOT_TEST(processes_count_and_their_threads) {
    limit_to(RLIMIT_NPROC, 4);
    drop_to(LIMITED + 1, LIMITED + 1);
    struct gate ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pthread_t thread;
        CALL(pthread_create(&thread, NULL, wait_without_end, NULL));
        CALL(pthread_create(&thread, NULL, wait_without_end, NULL));
        open_gate(ready);
        pause();
    }
    pass_gate(ready);
    CALL(fork());
    kill(child, SIGKILL);
    show_end("the child", child);
    child = fork();
    if (child == 0)
        _exit(3);
    show_end("there is room again", child);
}

ROOT_TEST(the_superuser_is_not_limited_in_processes) {
    limit_to(RLIMIT_NPROC, 1);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    show_end("a child of root", child);
}

ROOT_TEST(who_becomes_a_user_with_too_many_processes_can_execute_but_not_fork) {
    limit_to(RLIMIT_NPROC, 1);
    struct gate done = make_gate();
    pid_t first = fork_child();
    if (first == 0) {
        drop_to(LIMITED + 2, LIMITED + 2);
        open_gate(done);
        pause();
    }
    pass_gate(done);
    pid_t second = fork_child();
    if (second == 0) {
        drop_to(LIMITED + 2, LIMITED + 2);
        CALL(fork());
        CALL(execl("/bin/true", "true", NULL));
        _exit(SET_UP_FAILED);
    }
    show_end("one too many", second);
    kill(first, SIGKILL);
    show_end("the first", first);
}

static volatile sig_atomic_t exceeded;

static void note_excess(int signal_number) {
    (void)signal_number;
    exceeded++;
}

TEST(the_size_of_files_is_limited_however_they_grow) {
    int fd = open("f", O_RDWR | O_CREAT | O_TRUNC, 0600);
    SET_UP(fd >= 0);
    /* What the case says goes to a file, too. */
    const off_t base = (1 << 20) - 10;
    SET_UP(ftruncate(fd, base) == 0 && lseek(fd, 0, SEEK_END) == base);
    limit_to(RLIMIT_FSIZE, base + 10);
    handle(SIGXFSZ, note_excess, 0);
    CALL(write(fd, "0123456", 7));
    CALL(write(fd, "0123456", 7));
    CALL(write(fd, "x", 1));
    CALL(write(fd, "", 0));
    CALL(pwrite(fd, "0123456", 7, base + 5));
    CALL(pwrite(fd, "x", 1, base + 10));
    say("signals: %d", (int)exceeded);
    CALL(ftruncate(fd, base + 11));
    CALL(truncate("f", base + 11));
    say("signals: %d", (int)exceeded);
    CALL(ftruncate(fd, base + 5));
    CALL(ftruncate(fd, base + 10));
    CALL(fallocate(fd, 0, base, 10));
    CALL(fallocate(fd, 0, base, 11));
    say("signals: %d", (int)exceeded);
    int ends[2];
    SET_UP(pipe(ends) == 0);
    CALL(write(ends[1], "longer than ten", 15));
    signal(SIGXFSZ, SIG_DFL);
    pid_t child = fork_child();
    if (child == 0) {
        pwrite(fd, "x", 1, base + 10);
        _exit(0);
    }
    show_end("the signal ends", child);
}

static void queue_signals(int count) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    union sigval value = {0};
    int queued = 0;
    while (queued < count && sigqueue(getpid(), SIGRTMIN, value) == 0)
        queued++;
    say("%d queued, then %s", queued, queued == count ? "no more wanted" : errno_name(errno));
}

ROOT_TEST(pending_signals_are_limited) {
    limit_to(RLIMIT_SIGPENDING, 5);
    drop_to(LIMITED + 3, LIMITED + 3);
    queue_signals(10);
    CALL(kill(getpid(), SIGRTMIN));
    struct timespec none = {0, 0};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    CALL_OK(sigtimedwait(&set, NULL, &none));
    queue_signals(10);
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    CALL(RAW(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer));
}

ROOT_TEST(locked_memory_is_limited_for_who_is_not_privileged) {
    char *area = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED);
    limit_to(RLIMIT_MEMLOCK, 2 * PAGE);
    CALL(mlock(area, 4 * PAGE));
    CALL(munlock(area, 4 * PAGE));
    drop_to(LIMITED, LIMITED);
    CALL(mlock(area, 2 * PAGE));
    CALL(mlock(area + 2 * PAGE, PAGE));
    CALL(mlock(area, PAGE));
    say("a locked mapping: %s", mapping(PAGE, PROT_READ, MAP_PRIVATE | MAP_LOCKED));
    CALL(munlock(area + PAGE, PAGE));
    say("a locked mapping: %s", mapping(PAGE, PROT_READ, MAP_PRIVATE | MAP_LOCKED));
    CALL(mlockall(MCL_CURRENT));
    limit_to(RLIMIT_MEMLOCK, 0);
    CALL(mlock(area, PAGE));
}

ROOT_TEST(message_queues_are_limited_in_bytes) {
    limit_to(RLIMIT_MSGQUEUE, 4000);
    drop_to(LIMITED, LIMITED);
    struct mq_attr small = {.mq_maxmsg = 10, .mq_msgsize = 100}, large = {.mq_maxmsg = 10, .mq_msgsize = 1000};
    CALL_OK(mq_open("/limits-large", O_CREAT | O_RDWR, 0600, &large));
    CALL_OK(mq_open("/limits-small", O_CREAT | O_RDWR, 0600, &small));
    CALL_OK(mq_open("/limits-second", O_CREAT | O_RDWR, 0600, &small));
    CALL_OK(mq_open("/limits-third", O_CREAT | O_RDWR, 0600, &small));
    CALL(mq_unlink("/limits-small"));
    CALL(mq_unlink("/limits-second"));
    CALL(mq_unlink("/limits-third"));
}

TEST(descriptors_are_limited_where_they_are_named) {
    int ends[2];
    limit_to(RLIMIT_NOFILE, 5);
    CALL(dup(0));
    CALL(pipe(ends));
    CALL(dup2(0, 5));
    CALL(dup3(0, 6, O_CLOEXEC));
    CALL(fcntl(0, F_DUPFD, 5));
    CALL(fcntl(0, F_DUPFD, 4));
    CALL(open("/dev/null", O_RDONLY));
    struct pollfd polled[6] = {{-1, 0, 0}, {-1, 0, 0}, {-1, 0, 0}, {-1, 0, 0}, {-1, 0, 0}, {-1, 0, 0}};
    CALL(poll(polled, 5, 0));
    CALL(poll(polled, 6, 0));
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    show_end("a child needs none", child);
}

TEST(limits_pass_to_children_and_through_exec) {
    struct rlimit limit = {1 << 30, 1UL << 31};
    SET_UP(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        execl("/bin/sh", "sh", "-c", "ulimit -S -f; ulimit -H -f", NULL);
        _exit(SET_UP_FAILED);
    }
    show_end("a shell", child);
}

/* ---- what is ended first when memory is used up ---- */

static void set_number(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    ssize_t written = fd < 0 ? -1 : write(fd, text, strlen(text));
    say("%s = %s: %s", path, text, written < 0 ? errno_name(errno) : "written");
    if (fd >= 0)
        close(fd);
}

static long number_in(const char *path) {
    char text[32] = "";
    int fd = open(path, O_RDONLY);
    SET_UP(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return strtol(text, NULL, 10);
}

#define SCORE "/proc/self/oom_score"
#define ADJUSTMENT "/proc/self/oom_score_adj"
#define OLD_ADJUSTMENT "/proc/self/oom_adj"

/* Nothing is lowered here: whether the superuser may depends on the machine. */
TEST(the_score_follows_the_adjustment) {
    say("a small process has two thirds of the scale's middle: %s", number_in(SCORE) >= 660 && number_in(SCORE) < 740 ? "yes" : "no");
    set_number(ADJUSTMENT, "500");
    say("half of the highest: %s", number_in(SCORE) >= 995 && number_in(SCORE) < 1070 ? "yes" : "no");
    set_number(ADJUSTMENT, "1000");
    say("the highest: %s", number_in(SCORE) >= 1328 && number_in(SCORE) < 1400 ? "yes" : "no");
    set_number(ADJUSTMENT, "1001");
    set_number(ADJUSTMENT, "-1001");
    set_number(ADJUSTMENT, "much");
    show_file(ADJUSTMENT);
}

TEST(the_older_adjustment_is_the_same_on_a_coarser_scale) {
    static const char *const values[] = {"0", "3", "8", "16", "-18", "15"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        set_number(OLD_ADJUSTMENT, values[i]);
        say("%ld, %ld", number_in(ADJUSTMENT), number_in(OLD_ADJUSTMENT));
    }
    static const char *const new_values[] = {"1000", "999", "100", "50"};
    for (size_t i = 0; i < sizeof new_values / sizeof *new_values; i++) {
        set_number(ADJUSTMENT, new_values[i]);
        say("%ld", number_in(OLD_ADJUSTMENT));
    }
}

ROOT_TEST(an_adjustment_is_inherited_and_may_be_lowered_again) {
    set_number(ADJUSTMENT, "50");
    pid_t child = fork_child();
    if (child == 0) {
        /* A change of the user makes a process unreadable to itself until it says otherwise. */
        drop_to(LIMITED, LIMITED);
        prctl(PR_SET_DUMPABLE, 1);
        show_file(ADJUSTMENT);
        set_number(ADJUSTMENT, "300");
        set_number(ADJUSTMENT, "60");
        set_number(ADJUSTMENT, "50");
        set_number(OLD_ADJUSTMENT, "10");
        set_number(OLD_ADJUSTMENT, "9");
        _exit(0);
    }
    show_end("the child", child);
    show_file(ADJUSTMENT);
}
