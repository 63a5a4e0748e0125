/*
 * Bombs without limits of their own, in a machine of 256 MiB: the system must contain them by its accounts. A shell beside them
 * answers all the while, nobody else is ended, and afterwards everything has come back. Linux is not asked, because
 * it would take the machine that runs the tests with it.
 */
#include "watcher.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

/* How long a bomb that does not end by itself goes on. */
#define SHORT_MS 1500
/* How long one may take that is to be ended for want of memory. */
#define LONG_MS 60000

#define GIB (1UL << 30)

static void touch_without_end(void) {
    const size_t step = 1 << 20;
    for (;;) {
        char *area = mmap(NULL, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (size_t at = 0; area != MAP_FAILED && at < step; at += PAGE)
            area[at] = 1;
    }
}

/* Becomes several processes, whose parent waits for their end. */
static void multiply(int processes) {
    for (int i = 0; i < processes; i++)
        if (fork() == 0)
            return;
    while (wait(NULL) > 0)
        ;
    _exit(0);
}

/* Makes a file fail or succeed to take more, and goes on as long as it is there. */
static void fill(int fd) {
    static char piece[1 << 16];
    while (write(fd, piece, sizeof piece) > 0)
        ;
}

ROOT_TEST(a_fork_bomb) {
    watch_bomb(fork_without_end, 2 * SHORT_MS);
}

ROOT_TEST(a_memory_bomb) {
    expect_killed(watch_bomb(touch_without_end, LONG_MS));
}

static void several_that_touch(void) {
    multiply(6);
    touch_without_end();
}

/* None of them has what one process may have: together they use up all. Each ends in its turn, and no one else. */
ROOT_TEST(a_memory_bomb_of_several_processes) {
    watch_bomb(several_that_touch, 4 * SHORT_MS);
}

static void heirs_that_touch(void) {
    if (fork() != 0)
        for (;;)
            pause();
    for (;;) {
        char *area = mmap(NULL, 1 << 22, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area != MAP_FAILED)
            memset(area, 1, 1 << 22);
        /* What an ended parent has paid for is its child's burden. */
        if (fork() > 0)
            _exit(0);
    }
}

/* Each has hardly anything that is charged to its own account. */
ROOT_TEST(a_memory_bomb_that_is_always_another_process) {
    watch_bomb(heirs_that_touch, 4 * SHORT_MS);
}

static void read_without_end(void) {
    multiply(3);
    int zeroes = open("/dev/zero", O_RDONLY);
    for (;;) {
        char *area = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        /* The server touches the pages, in the midst of a call. */
        read(zeroes, area, 1 << 20);
    }
}

ROOT_TEST(a_memory_bomb_by_calls) {
    watch_bomb(read_without_end, 4 * SHORT_MS);
}

/* One that is exempt keeps what it has, however much that is. */
ROOT_TEST(a_memory_bomb_beside_one_that_is_exempt) {
    const size_t large = 64 << 20;
    struct gate ready = make_gate(), done = make_gate();
    pid_t exempt = fork_child();
    if (exempt == 0) {
        int adjustment = open("/proc/self/oom_score_adj", O_WRONLY);
        SET_UP(write(adjustment, "-1000", 5) == 5);
        char *area = mmap(NULL, large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        SET_UP(area != MAP_FAILED);
        memset(area, 7, large);
        open_gate(ready);
        pass_gate(done);
        _exit(area[large - 1] == 7 ? 0 : 1);
    }
    pass_gate(ready);
    watch_bomb(several_that_touch, 4 * SHORT_MS);
    open_gate(done);
    int status;
    SET_UP(waitpid(exempt, &status, 0) == exempt);
    show_status("the exempt process", status);
    if (status != 0)
        exit(1);
}

static void write_without_end(void) {
    int fd = open("/dev/shm/bomb", O_RDWR | O_CREAT | O_TRUNC, 0600);
    SET_UP(fd >= 0);
    fill(fd);
    char *area = mmap(NULL, GIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    SET_UP(area != MAP_FAILED && ftruncate(fd, GIB) == 0);
    for (size_t at = 0; at < GIB; at += PAGE)
        area[at] = 1;
}

/* Not where the cases and their shells write: that a full file system can't take more is no harm done to others. */
ROOT_TEST(a_file_bomb) {
    struct use before = use_now();
    int fd = open("/dev/shm/bomb", O_RDWR | O_CREAT | O_TRUNC, 0666);
    SET_UP(fd >= 0 && fchown(fd, BOMBER, BOMBER) == 0);
    struct watcher watcher = start_watcher();
    pid_t bomb = start_bomb(write_without_end, 0);
    show_end("the bomb", bomb);
    stop_watcher(watcher);
    CALL(unlink("/dev/shm/bomb"));
    close(fd);
    expect_use(before);
}

static void memfds_without_end(void) {
    multiply(4);
    for (;;)
        fill(memfd_create("bomb", 0));
}

ROOT_TEST(a_bomb_of_files_without_names) {
    watch_bomb(memfds_without_end, 4 * SHORT_MS);
}

static void segments_without_end(void) {
    for (;;) {
        int id = shmget(IPC_PRIVATE, 1 << 20, 0600);
        char *area = id < 0 ? (void *)-1 : shmat(id, NULL, 0);
        shmctl(id, IPC_RMID, NULL);
        for (size_t at = 0; area != (void *)-1 && at < 1 << 20; at += PAGE)
            area[at] = 1;
    }
}

ROOT_TEST(a_bomb_of_shared_segments) {
    watch_bomb(segments_without_end, 2 * SHORT_MS);
}

static void pipes_without_end(void) {
    static char piece[1 << 16];
    int ends[2];
    for (;;) {
        if (pipe2(ends, O_NONBLOCK) < 0) {
            if (fork() < 0)
                pause();
            continue;
        }
        fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
        while (write(ends[1], piece, sizeof piece) > 0)
            ;
    }
}

ROOT_TEST(a_pipe_bomb) {
    watch_bomb(pipes_without_end, 2 * SHORT_MS);
}

static void sockets_without_end(void) {
    static char piece[1 << 12];
    int ends[2];
    for (;;) {
        if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends) < 0) {
            if (fork() < 0)
                pause();
            continue;
        }
        while (send(ends[0], piece, sizeof piece, 0) > 0)
            ;
    }
}

ROOT_TEST(a_socket_bomb) {
    watch_bomb(sockets_without_end, 2 * SHORT_MS);
}

/* One page in each GiB, so that each costs tables of its own. */
static void sparse_without_end(void) {
    for (unsigned long round = 0;; round++) {
        for (unsigned long at = 16 * GIB; at < (1UL << 47) - 16 * GIB; at += GIB) {
            char *wanted = (char *)(at + (round << 21));
            char *page = mmap(wanted, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            if (page != MAP_FAILED)
                *page = 1;
        }
    }
}

ROOT_TEST(a_page_table_bomb) {
    expect_killed(watch_bomb(sparse_without_end, LONG_MS));
}

static void descriptors_without_end(void) {
    struct rlimit limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_NOFILE, &limit);
    for (;;) {
        int fd = eventfd(0, 0);
        int set = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLIN};
        epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
        if (set < 0 && fork() < 0)
            pause();
    }
}

ROOT_TEST(a_descriptor_bomb) {
    watch_bomb(descriptors_without_end, 2 * SHORT_MS);
}

static void *sleep_without_end(void *nothing) {
    for (;;)
        pause();
    return nothing;
}

static void threads_without_end(void) {
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 14);
    for (;;) {
        pthread_t thread;
        if (pthread_create(&thread, &small, sleep_without_end, NULL) != 0 && fork() < 0)
            pause();
    }
}

ROOT_TEST(a_thread_bomb) {
    watch_bomb(threads_without_end, 2 * SHORT_MS);
}

static void timers_without_end(void) {
    for (unsigned count = 0;; count++) {
        timer_t timer;
        struct sigevent none = {.sigev_notify = SIGEV_NONE};
        struct itimerspec soon = {.it_interval = {0, 1000000}, .it_value = {0, 1000000}};
        int fd = timerfd_create(CLOCK_MONOTONIC, 0);
        if (fd >= 0)
            timerfd_settime(fd, 0, &soon, NULL);
        bool has_made = timer_create(CLOCK_MONOTONIC, &none, &timer) == 0;
        if (has_made)
            timer_settime(timer, 0, &soon, NULL);
        if (fd < 0 && !has_made && fork() < 0)
            pause();
    }
}

ROOT_TEST(a_timer_bomb) {
    watch_bomb(timers_without_end, 2 * SHORT_MS);
}
