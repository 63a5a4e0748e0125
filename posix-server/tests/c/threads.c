/* Threads: by the C library, and by clone itself; their ends, signals, and what they share. */
#include "case.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>

static pthread_t spawn(void *(*body)(void *), void *argument) {
    pthread_t thread;
    SET_UP(pthread_create(&thread, NULL, body, argument) == 0);
    return thread;
}

static long join(pthread_t thread) {
    void *result;
    SET_UP(pthread_join(thread, &result) == 0);
    return (long)result;
}

static void *give(void *argument) {
    return argument;
}

TEST(a_thread_gives_its_result) {
    CALL(join(spawn(give, (void *)42L)));
    long sum = 0;
    for (long i = 0; i < 100; i++)
        sum += join(spawn(give, (void *)i));
    say("%ld", sum);
}

static __thread int own = 7;
static int common = 7;

static void *change_both(void *argument) {
    own += 1;
    common += 1;
    return argument ? (void *)(long)own : NULL;
}

TEST(variables_are_common_but_for_those_of_a_thread) {
    CALL(join(spawn(change_both, (void *)1)));
    CALL(join(spawn(change_both, (void *)1)));
    say("%d %d", own, common);
}

static pid_t first_id;

static void *compare_ids(void *argument) {
    (void)argument;
    return (void *)(long)((getpid() == first_id) << 1 | (gettid() != first_id));
}

TEST(a_thread_has_a_number_of_its_own) {
    first_id = getpid();
    HOLDS(gettid() == getpid());
    CALL(join(spawn(compare_ids, NULL)));
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int turn;

static void *take_turns(void *argument) {
    int mine = (int)(long)argument;
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&mutex);
        while (turn != mine)
            pthread_cond_wait(&condition, &mutex);
        turn = !mine;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

TEST(two_threads_take_turns) {
    pthread_t zero = spawn(take_turns, (void *)0L), one = spawn(take_turns, (void *)1L);
    CALL(join(zero));
    CALL(join(one));
    say("turn %d", turn);
}

TEST(a_condition_times_out) {
    struct timespec until;
    SET_UP(clock_gettime(CLOCK_REALTIME, &until) == 0);
    pthread_mutex_lock(&mutex);
    say("%s", errno_name(pthread_cond_timedwait(&condition, &mutex, &until)));
    pthread_mutex_unlock(&mutex);
}

static pthread_barrier_t barrier;

static void *meet(void *argument) {
    (void)argument;
    return (void *)(long)(pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD);
}

TEST(threads_meet_at_a_barrier) {
    pthread_t threads[7];
    long serial = 0;
    SET_UP(pthread_barrier_init(&barrier, NULL, 8) == 0);
    for (int i = 0; i < 7; i++)
        threads[i] = spawn(meet, NULL);
    serial += (long)meet(NULL);
    for (int i = 0; i < 7; i++)
        serial += join(threads[i]);
    say("%ld", serial);
}

static void *sleep_for_ever(void *argument) {
    (void)argument;
    for (;;)
        pause();
    return NULL;
}

TEST(a_thread_is_cancelled) {
    pthread_t thread = spawn(sleep_for_ever, NULL);
    CALL(pthread_cancel(thread));
    void *result;
    CALL(pthread_join(thread, &result));
    HOLDS(result == PTHREAD_CANCELED);
}

/* ---- ends ---- */

static void *end_the_process(void *argument) {
    _exit((int)(long)argument);
}

TEST(exit_group_from_any_thread_ends_all) {
    pid_t child = fork_child();
    if (child == 0) {
        spawn(sleep_for_ever, NULL);
        spawn(end_the_process, (void *)5L);
        sleep_for_ever(NULL);
    }
    show_end("child", child);
}

static void *wait_then_end(void *argument) {
    sleep_ms(20);
    RAW(SYS_exit, (long)argument);
    return NULL;
}

TEST(the_first_thread_may_end_first) {
    pid_t child = fork_child();
    if (child == 0) {
        spawn(wait_then_end, (void *)6L);
        RAW(SYS_exit, 3);
    }
    show_end("child", child);
    child = fork_child();
    if (child == 0) {
        pthread_t thread = spawn(sleep_for_ever, NULL);
        (void)thread;
        pid_t parent = getpid(), other = fork_child();
        if (other == 0) {
            sleep_ms(20);
            _exit(kill(parent, SIGTERM));
        }
        RAW(SYS_exit, 3);
    }
    show_end("a process without its first thread", child);
}

static void *fault(void *argument) {
    *(volatile int *)argument = 1;
    return NULL;
}

TEST(a_fault_of_one_ends_all) {
    pid_t child = fork_child();
    if (child == 0) {
        spawn(fault, NULL_PAGE_ADDRESS);
        sleep_for_ever(NULL);
    }
    show_end("child", child);
}

/* ---- execution ---- */

int child_main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[0], "ids") == 0) {
        say("same process: %s", atoi(argv[1]) == getpid() ? "yes" : "no");
        say("first thread: %s", getpid() == gettid() ? "yes" : "no");
        sigset_t set;
        sigprocmask(SIG_BLOCK, NULL, &set);
        say("blocked: %d, pending: %d", sigismember(&set, SIGUSR1), (sigpending(&set), sigismember(&set, SIGUSR1)));
        return atoi(argv[2]);
    }
    return 0;
}

static void *execute(void *argument) {
    char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    kill(getpid(), SIGUSR1);
    execl(own_path(), own_path(), "--child", "ids", pid, (char *)argument, (char *)NULL);
    return NULL;
}

TEST(execve_from_another_thread_keeps_the_number_of_the_process) {
    pid_t child = fork_child();
    if (child == 0) {
        signal(SIGUSR1, SIG_IGN);
        signal(SIGUSR1, SIG_DFL);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, NULL);
        spawn(sleep_for_ever, NULL);
        spawn(execute, "8");
        sleep_for_ever(NULL);
    }
    show_end("child", child);
}

TEST(execve_from_another_thread_after_the_first_has_ended) {
    pid_t child = fork_child();
    if (child == 0) {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGUSR1);
        sigprocmask(SIG_BLOCK, &set, NULL);
        spawn(execute, "9");
        RAW(SYS_exit, 3);
    }
    show_end("child", child);
}

static void *fail_to_execute(void *argument) {
    (void)argument;
    return (void *)(long)execl("/nonexistent", "x", (char *)NULL);
}

TEST(a_failed_execve_hurts_no_thread) {
    pthread_t other = spawn(take_turns, (void *)0L);
    HOLDS(join(spawn(fail_to_execute, NULL)) == -1);
    take_turns((void *)1L);
    CALL(join(other));
}

/* ---- signals ---- */

static _Atomic pid_t handled_by;
static volatile sig_atomic_t handled;

static void note_thread(int number) {
    (void)number;
    handled_by = gettid();
    handled++;
}

static _Atomic pid_t target;

static void *be_a_target(void *argument) {
    target = gettid();
    while (!handled)
        sched_yield();
    return argument;
}

TEST(a_signal_for_a_thread_is_handled_by_it) {
    handle(SIGUSR1, note_thread, 0);
    pthread_t thread = spawn(be_a_target, NULL);
    while (!target)
        sched_yield();
    CALL(RAW(SYS_tgkill, getpid(), target, SIGUSR1));
    CALL(join(thread));
    HOLDS(handled_by == target);
    CALL(RAW(SYS_tgkill, getpid() + 1, gettid(), 0));
    CALL(RAW(SYS_tgkill, 0, gettid(), 0));
    CALL(RAW(SYS_tkill, -1, 0));
    CALL(RAW(SYS_tkill, gettid(), 65));
}

TEST(a_signal_for_the_process_goes_to_a_thread_that_does_not_block_it) {
    handle(SIGUSR1, note_thread, 0);
    pthread_t thread = spawn(be_a_target, NULL);
    while (!target)
        sched_yield();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    SET_UP(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    CALL(kill(getpid(), SIGUSR1));
    CALL(join(thread));
    HOLDS(handled_by == target);
}

static void *wait_for_signal(void *argument) {
    int number = 0;
    sigset_t *set = argument;
    return (void *)(long)(sigwait(set, &number) == 0 ? number : -1);
}

TEST(sigwait_takes_what_all_threads_block) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    SET_UP(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    pthread_t thread = spawn(wait_for_signal, &set);
    CALL(kill(getpid(), SIGUSR1));
    HOLDS(join(thread) == SIGUSR1);
}

static void *tell_mask(void *argument) {
    sigset_t set, pending;
    (void)argument;
    pthread_sigmask(SIG_BLOCK, NULL, &set);
    sigpending(&pending);
    return (void *)(long)(sigismember(&set, SIGUSR1) << 1 | sigismember(&pending, SIGUSR1));
}

TEST(a_thread_inherits_the_mask_but_nothing_pending) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    SET_UP(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    SET_UP(raise(SIGUSR1) == 0);
    CALL(join(spawn(tell_mask, NULL)));
    CALL((long)tell_mask(NULL));
}

static void *spin(void *argument) {
    (void)argument;
    for (;;)
        atomic_fetch_add(&handled_by, 1);
    return NULL;
}

TEST(all_threads_stop_and_go_on) {
    pid_t child = fork_child();
    if (child == 0) {
        spawn(sleep_for_ever, NULL);
        spawn(spin, NULL);
        sleep_for_ever(NULL);
    }
    int status;
    SET_UP(kill(child, SIGSTOP) == 0);
    CALL(waitpid(child, &status, WUNTRACED) == child);
    show_status("child", status);
    SET_UP(kill(child, SIGCONT) == 0);
    CALL(waitpid(child, &status, WCONTINUED) == child);
    show_status("child", status);
    SET_UP(kill(child, SIGTERM) == 0);
    show_end("child", child);
}

/* ---- names ---- */

static void *rename_self(void *argument) {
    char name[32] = "";
    prctl(PR_SET_NAME, "a name that is too long");
    prctl(PR_GET_NAME, name);
    return (void *)(long)(strcmp(name, argument) == 0);
}

TEST(each_thread_has_a_name) {
    char name[32] = "";
    CALL(prctl(PR_SET_NAME, "first"));
    CALL(join(spawn(rename_self, "a name that is ")));
    CALL(prctl(PR_GET_NAME, name));
    say("%s", name);
}

/* ---- forks among threads ---- */

static void *fork_one(void *argument) {
    (void)argument;
    pid_t child = fork();
    if (child == 0)
        _exit(getpid() == gettid() ? 11 : 12);
    int status;
    return (void *)(long)(waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : -1);
}

TEST(a_child_of_a_thread_has_one_thread) {
    pthread_t idle = spawn(sleep_for_ever, NULL);
    CALL(join(spawn(fork_one, NULL)));
    SET_UP(pthread_cancel(idle) == 0);
    join(idle);
}

#ifndef __WNOTHREAD
#define __WNOTHREAD 0x20000000
#endif

static void *wait_for_own(void *argument) {
    (void)argument;
    return (void *)(long)(waitpid(-1, NULL, __WNOTHREAD) < 0 && errno == ECHILD);
}

static void *wait_for_all(void *argument) {
    return (void *)(long)(waitpid(-1, NULL, 0) == (pid_t)(long)argument);
}

TEST(any_thread_may_wait_for_a_child_of_another) {
    pid_t child = fork_child();
    if (child == 0)
        _exit(0);
    CALL(join(spawn(wait_for_own, NULL)));
    CALL(join(spawn(wait_for_all, (void *)(long)child)));
    CALL(wait(NULL));
}

/* ---- many ---- */

static _Atomic int alive;

static void *live_a_little(void *argument) {
    alive++;
    sched_yield();
    return argument;
}

TEST(threads_come_and_go) {
    long sum = 0;
    for (int round = 0; round < 20; round++) {
        pthread_t threads[20];
        for (long i = 0; i < 20; i++)
            threads[i] = spawn(live_a_little, (void *)i);
        for (int i = 0; i < 20; i++)
            sum += join(threads[i]);
    }
    say("%d threads, %ld", alive, sum);
}

static void *detach(void *argument) {
    alive++;
    return argument;
}

TEST(detached_threads_leave_no_trace) {
    pthread_attr_t attributes;
    SET_UP(pthread_attr_init(&attributes) == 0);
    SET_UP(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0);
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        SET_UP(pthread_create(&thread, &attributes, detach, NULL) == 0);
        while (alive <= i)
            sched_yield();
    }
    say("%d", alive);
}
