/*
 * Much at once: processes whose threads map, protect and unmap memory, signal each other, start children, execute programs and end,
 * all at the same time. Nothing is printed of how it went but that every sum is right. With STRESS_SECONDS in the
 * environment it goes on for so long.
 */
#include "case.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { WORKERS = 4, PROCESSES = 3, ROUNDS = 3, PAGES = 16 };

static long deadline_ns;
static _Atomic long mistakes;
static _Atomic int handled;

static long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

/* Whether a loop that has done so many rounds goes on. */
static bool goes_on(int round) {
    return deadline_ns ? now_ns() < deadline_ns : round < ROUNDS;
}

static void count_mistake(bool is_right) {
    if (!is_right) {
        mistakes++;
    }
}

/* Maps pages, fills them, takes away and gives back the right to write, and unmaps them. */
static void use_memory(unsigned seed) {
    unsigned char *pages = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        mistakes++;
        return;
    }
    for (unsigned page = 0; page < PAGES; page++) {
        pages[page * PAGE + seed % PAGE] = (unsigned char)(seed + page);
    }
    count_mistake(mprotect(pages, PAGES / 2 * PAGE, PROT_READ) == 0);
    count_mistake(munmap(pages + PAGES / 2 * PAGE, PAGE) == 0);
    for (unsigned page = 0; page < PAGES; page++) {
        count_mistake(page == PAGES / 2 || pages[page * PAGE + seed % PAGE] == (unsigned char)(seed + page));
    }
    count_mistake(mprotect(pages, PAGE, PROT_READ | PROT_WRITE) == 0);
    pages[0] = 1;
    count_mistake(munmap(pages, PAGES * PAGE) == 0);
}

static void *short_thread(void *argument) {
    use_memory((unsigned)(uintptr_t)argument);
    return argument;
}

static void on_signal(int number) {
    (void)number;
    handled++;
}

/* A child that sees the memory as it was, while others go on changing theirs; every other one executes a program. */
static void use_children(int round) {
    volatile int own = round;
    pid_t child = fork();
    if (child == 0) {
        if (round % 2) {
            char *arguments[] = {(char *)own_path(), "--child", "7", NULL};
            execv(own_path(), arguments);
            _exit(1);
        }
        use_memory((unsigned)round);
        _exit(own == round && mistakes == 0 ? 7 : 1);
    }
    own = -1;
    int status = 0;
    pid_t ended;
    while ((ended = waitpid(child, &status, 0)) == -1 && errno == EINTR) {
    }
    count_mistake(ended == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

/* Threads come and go, and are signalled while they do. */
static void use_threads(int round) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        count_mistake(pthread_create(&threads[i], NULL, short_thread, (void *)(uintptr_t)(round * 2 + i)) == 0);
    }
    pthread_kill(pthread_self(), SIGUSR1);
    kill(getpid(), SIGUSR2);
    for (int i = 0; i < 2; i++) {
        void *result;
        count_mistake(pthread_join(threads[i], &result) == 0 && result == (void *)(uintptr_t)(round * 2 + i));
    }
}

static void *worker(void *argument) {
    int number = (int)(uintptr_t)argument;
    for (int round = 0; goes_on(round); round++) {
        use_memory((unsigned)(number * 1000 + round));
        switch ((number + round) % 3) {
        case 0:
            use_children(round);
            break;
        case 1:
            use_threads(round);
            break;
        default:
            sched_yield();
        }
    }
    return NULL;
}

static int one_process(void) {
    pthread_t threads[WORKERS];
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    for (uintptr_t i = 0; i < WORKERS; i++) {
        count_mistake(pthread_create(&threads[i], NULL, worker, (void *)i) == 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        count_mistake(pthread_join(threads[i], NULL) == 0);
    }
    return mistakes == 0 && handled > 0 ? 0 : 1;
}

int child_main(int count, char **arguments) {
    return count > 0 ? atoi(arguments[0]) : 1;
}

TEST(threads_and_children_of_several_processes_work_at_the_same_time) {
    const char *seconds = getenv("STRESS_SECONDS");
    if (seconds) {
        deadline_ns = now_ns() + atol(seconds) * 1000000000L;
    }
    pid_t children[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork_child();
        if (children[i] == 0) {
            _exit(one_process());
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        show_end("a process", children[i]);
    }
}

static _Atomic long shared_sum;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long locked_sum;

static void *add(void *argument) {
    (void)argument;
    for (int i = 0; i < 20000; i++) {
        shared_sum++;
        pthread_mutex_lock(&lock);
        locked_sum++;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

TEST(no_addition_of_threads_is_lost) {
    pthread_t threads[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        SET_UP(pthread_create(&threads[i], NULL, add, NULL) == 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        SET_UP(pthread_join(threads[i], NULL) == 0);
    }
    HOLDS(shared_sum == WORKERS * 20000 && locked_sum == WORKERS * 20000);
}

static pthread_mutex_t inheriting;

static void *add_inheriting(void *argument) {
    long *sum = argument;
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&inheriting);
        ++*sum;
        pthread_mutex_unlock(&inheriting);
    }
    return NULL;
}

TEST(a_lock_that_the_system_keeps_excludes) {
    long sum = 0;
    pthread_t threads[WORKERS];
    pthread_mutexattr_t attributes;
    SET_UP(pthread_mutexattr_init(&attributes) == 0);
    SET_UP(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT) == 0);
    SET_UP(pthread_mutex_init(&inheriting, &attributes) == 0);
    for (int i = 0; i < WORKERS; i++) {
        SET_UP(pthread_create(&threads[i], NULL, add_inheriting, &sum) == 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        SET_UP(pthread_join(threads[i], NULL) == 0);
    }
    HOLDS(sum == WORKERS * 500);
}

TEST(affinity_says_where_a_thread_runs) {
    cpu_set_t all, one;
    CPU_ZERO(&all);
    SET_UP(sched_getaffinity(0, sizeof all, &all) == 0 && CPU_COUNT(&all) > 0);
    bool is_there = true;
    for (int processor = 0; processor < CPU_SETSIZE; processor++) {
        if (!CPU_ISSET(processor, &all)) {
            continue;
        }
        CPU_ZERO(&one);
        CPU_SET(processor, &one);
        is_there &= sched_setaffinity(0, sizeof one, &one) == 0 && sched_getcpu() == processor;
    }
    HOLDS(is_there);
    SET_UP(sched_setaffinity(0, sizeof all, &all) == 0);
    HOLDS(sysconf(_SC_NPROCESSORS_ONLN) >= CPU_COUNT(&all));
}
