/* Futexes by their number: waiting, waking, moving, locks with an owner, robust lists. */
#include "case.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/time.h>

/* `linux/futex.h`, which not every C library comes with. */
enum {
    FUTEX_WAIT = 0,
    FUTEX_WAKE = 1,
    FUTEX_REQUEUE = 3,
    FUTEX_CMP_REQUEUE = 4,
    FUTEX_WAKE_OP = 5,
    FUTEX_LOCK_PI = 6,
    FUTEX_UNLOCK_PI = 7,
    FUTEX_TRYLOCK_PI = 8,
    FUTEX_WAIT_BITSET = 9,
    FUTEX_WAKE_BITSET = 10,
    FUTEX_WAIT_REQUEUE_PI = 11,
    FUTEX_CMP_REQUEUE_PI = 12,
    FUTEX_PRIVATE_FLAG = 128,
    FUTEX_CLOCK_REALTIME = 256,
};
enum { FUTEX_OP_SET, FUTEX_OP_ADD, FUTEX_OP_OR, FUTEX_OP_ANDN, FUTEX_OP_XOR, FUTEX_OP_OPARG_SHIFT = 8 };
enum { FUTEX_OP_CMP_EQ, FUTEX_OP_CMP_NE, FUTEX_OP_CMP_LT, FUTEX_OP_CMP_LE, FUTEX_OP_CMP_GT, FUTEX_OP_CMP_GE };
#define FUTEX_OP(operation, argument, comparison, with)                                                                \
    ((unsigned)(operation) << 28 | (unsigned)(comparison) << 24 | ((unsigned)(argument) & 0xfff) << 12 |               \
     ((unsigned)(with) & 0xfff))
#define FUTEX_WAITERS 0x80000000U
#define FUTEX_OWNER_DIED 0x40000000U
#define FUTEX_TID_MASK 0x3fffffffU

struct robust_list {
    struct robust_list *next;
};
struct robust_list_head {
    struct robust_list list;
    long futex_offset;
    struct robust_list *list_op_pending;
};

static _Atomic uint32_t word, other;

static long futex(volatile void *address, int operation, unsigned value, const struct timespec *timeout,
                  volatile void *second, unsigned third) {
    return RAW(SYS_futex, address, operation, value, timeout, second, third);
}

static struct timespec in_ms(clockid_t clock, long milliseconds) {
    struct timespec time;
    SET_UP(clock_gettime(clock, &time) == 0);
    time.tv_nsec += milliseconds * 1000000;
    time.tv_sec += time.tv_nsec / 1000000000;
    time.tv_nsec %= 1000000000;
    return time;
}

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

/* The words at which somebody waits can't be seen, so the wake-up is repeated until it meets somebody. */
static long wake_until(volatile void *address, int count, long wanted) {
    long woken = 0;
    for (int i = 0; i < 10000 && woken < wanted; i++) {
        long now = futex(address, FUTEX_WAKE, count, NULL, NULL, 0);
        SET_UP(now >= 0);
        woken += now;
        if (woken < wanted)
            sleep_ms(1);
    }
    return woken;
}

static void *wait_at_word(void *argument) {
    (void)argument;
    return (void *)futex(&word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

TEST(a_wait_ends_with_a_wake_and_not_before) {
    CALL(futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0));
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = spawn(wait_at_word, NULL);
    CALL(wake_until(&word, 1, 3));
    for (int i = 0; i < 3; i++)
        CALL(join(threads[i]));
}

TEST(a_wait_times_out_on_both_clocks) {
    struct timespec relative = {0, 1000000}, late = {0, 0};
    CALL(futex(&word, FUTEX_WAIT, 0, &relative, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT_BITSET, 0, &late, NULL, 1));
    struct timespec until = in_ms(CLOCK_MONOTONIC, 2);
    CALL(futex(&word, FUTEX_WAIT_BITSET, 0, &until, NULL, 1));
    until = in_ms(CLOCK_REALTIME, 2);
    CALL(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &until, NULL, 1));
}

TEST(bad_arguments_are_refused) {
    struct timespec negative = {-1, 0}, large = {0, 1000000000};
    CALL(futex((char *)&word + 1, FUTEX_WAIT, 0, NULL, NULL, 0));
    CALL(futex((char *)&word + 2, FUTEX_WAKE, 0, NULL, NULL, 0));
    CALL(futex(NULL, FUTEX_WAIT, 0, NULL, NULL, 0));
    CALL(futex(BAD_ADDRESS, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT, 0, &negative, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT, 0, &large, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT, 0, BAD_ADDRESS, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAKE_BITSET, 1, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0));
    CALL(futex(&word, 2, 0, NULL, NULL, 0));
    CALL(futex(&word, 99, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_REQUEUE, -1, NULL, &other, 0));
    CALL(futex(&word, FUTEX_CMP_REQUEUE, 1, NULL, &other, 7));
    CALL(futex(&word, FUTEX_CMP_REQUEUE_PI, 2, NULL, &other, 0));
    CALL(futex(&word, FUTEX_CMP_REQUEUE_PI, 1, NULL, &word, 0));
    CALL(futex(&word, FUTEX_WAIT_REQUEUE_PI, 0, NULL, &word, 0));
    CALL(futex(&word, FUTEX_WAIT_REQUEUE_PI, 5, NULL, &other, 0));
}

static void *wait_for_bits(void *argument) {
    return (void *)futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, (unsigned)(long)argument);
}

TEST(bits_choose_who_is_woken) {
    pthread_t first = spawn(wait_for_bits, (void *)1L), second = spawn(wait_for_bits, (void *)2L);
    while (futex(&word, FUTEX_WAKE_BITSET, 5, NULL, NULL, 2) != 1)
        sleep_ms(1);
    CALL(join(second));
    CALL(futex(&word, FUTEX_WAKE_BITSET, 5, NULL, NULL, 2));
    while (futex(&word, FUTEX_WAKE_BITSET, 5, NULL, NULL, 3) != 1)
        sleep_ms(1);
    CALL(join(first));
}

TEST(waiters_are_moved_to_another_word) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        threads[i] = spawn(wait_at_word, NULL);
    long moved = 0;
    while (moved < 3) {
        long now = futex(&word, FUTEX_CMP_REQUEUE, 0, (void *)(long)INT_MAX, &other, 0);
        SET_UP(now >= 0);
        moved += now;
        sleep_ms(1);
    }
    say("moved %ld", moved);
    CALL(futex(&word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0));
    CALL(futex(&other, FUTEX_REQUEUE, 1, (void *)1L, &word, 0));
    CALL(futex(&word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0));
    CALL(futex(&other, FUTEX_WAKE, INT_MAX, NULL, NULL, 0));
    for (int i = 0; i < 3; i++)
        CALL(join(threads[i]));
}

TEST(wake_op_changes_the_second_word_and_wakes_by_what_it_was) {
    other = 5;
    CALL(futex(&word, FUTEX_WAKE_OP, 1, (void *)1L, &other, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5)));
    say("%u", other);
    CALL(futex(&word, FUTEX_WAKE_OP, 1, (void *)1L, &other, FUTEX_OP(FUTEX_OP_ANDN, 8, FUTEX_OP_CMP_LT, 0)));
    say("%u", other);
    CALL(futex(&word, FUTEX_WAKE_OP, 1, (void *)1L, &other,
               FUTEX_OP((FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT), 6, FUTEX_OP_CMP_GT, 0)));
    say("%u", other);
    CALL(futex(&word, FUTEX_WAKE_OP, 1, (void *)1L, &other, FUTEX_OP(FUTEX_OP_XOR, 64, FUTEX_OP_CMP_NE, 0)));
    say("%u", other);
    CALL(futex(&word, FUTEX_WAKE_OP, 1, (void *)1L, &other, FUTEX_OP(FUTEX_OP_SET, -1, FUTEX_OP_CMP_GE, 0)));
    say("%u", other);
    CALL(futex(&word, FUTEX_WAKE_OP, 1, (void *)1L, &other, FUTEX_OP(5, 0, 0, 0)));
    CALL(futex(&word, FUTEX_WAKE_OP, 1, (void *)1L, &other, FUTEX_OP(0, 0, 6, 0)));
    CALL(futex(&word, FUTEX_WAKE_OP, 1, (void *)1L, BAD_ADDRESS, FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_EQ, 0)));
}

static uint32_t *shared_page(void) {
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SET_UP(page != MAP_FAILED);
    return page;
}

TEST(processes_meet_at_a_shared_word) {
    uint32_t *page = shared_page();
    pid_t child = fork_child();
    if (child == 0)
        _exit(futex(page, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 0 : errno);
    CALL(wake_until(page, 1, 1));
    show_end("child", child);
}

TEST(private_words_of_two_processes_are_two) {
    uint32_t *page = shared_page();
    pid_t child = fork_child();
    if (child == 0) {
        struct timespec soon = {0, 30000000};
        _exit(futex(page, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &soon, NULL, 0) == 0 ? 0 : errno);
    }
    sleep_ms(10);
    CALL(futex(page, FUTEX_WAKE, 1, NULL, NULL, 0));
    int status;
    SET_UP(waitpid(child, &status, 0) == child);
    HOLDS(WIFEXITED(status) && WEXITSTATUS(status) == ETIMEDOUT);
}

TEST(a_file_has_the_same_words_wherever_it_is_mapped) {
    make_file("f", "0123456789abcdef", 16);
    int fd = open("f", O_RDWR);
    SET_UP(fd >= 0 && ftruncate(fd, PAGE) == 0);
    uint32_t *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    SET_UP(page != MAP_FAILED);
    uint32_t value = page[1];
    pid_t child = fork_child();
    if (child == 0) {
        uint32_t *again = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        _exit(futex(&again[1], FUTEX_WAIT, value, NULL, NULL, 0) == 0 ? 0 : errno);
    }
    CALL(wake_until(&page[1], 1, 1));
    show_end("child", child);
}

/* ---- interruption ---- */

static void nothing(int number) {
    (void)number;
}

TEST(a_handler_ends_a_wait_unless_it_restarts) {
    struct timespec long_time = {5, 0};
    keep_interrupting();
    CALL(futex(&word, FUTEX_WAIT, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_WAIT, 0, &long_time, NULL, 0));
    stop_interrupting();
    handle(SIGALRM, nothing, SA_RESTART);
    struct timespec soon = {0, 60000000};
    struct itimerval tick = {{0, 5000}, {0, 5000}};
    SET_UP(setitimer(ITIMER_REAL, &tick, NULL) == 0);
    CALL(futex(&word, FUTEX_WAIT, 0, &soon, NULL, 0));
    stop_interrupting();
}

/* ---- locks with an owner ---- */

TEST(a_free_lock_is_taken_and_let_go) {
    uint32_t tid = (uint32_t)gettid();
    CALL(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    HOLDS(word == tid);
    CALL(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    HOLDS(word == 0);
    CALL(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    HOLDS(word == tid);
    word = 0x3ffffff0;
    CALL(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
}

static struct gate gate;

static void *lock_and_unlock(void *argument) {
    (void)argument;
    open_gate(gate);
    if (futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) != 0)
        return (void *)1;
    if ((word & FUTEX_TID_MASK) != (uint32_t)gettid())
        return (void *)2;
    return (void *)futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
}

TEST(a_lock_goes_to_the_one_who_waits) {
    gate = make_gate();
    CALL(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    pthread_t thread = spawn(lock_and_unlock, NULL);
    pass_gate(gate);
    while (!(word & FUTEX_WAITERS))
        sleep_ms(1);
    HOLDS(word == ((uint32_t)gettid() | FUTEX_WAITERS));
    CALL(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    CALL(join(thread));
    HOLDS(word == 0);
}

static void *wait_in_vain(void *argument) {
    struct timespec monotonic = in_ms(CLOCK_MONOTONIC, 5), realtime = in_ms(CLOCK_REALTIME, 5);
    (void)argument;
    CALL(futex(&word, FUTEX_LOCK_PI, 0, &realtime, NULL, 0));
    CALL(futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
    CALL(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    (void)monotonic;
    return NULL;
}

TEST(a_lock_is_waited_for_until_a_time) {
    CALL(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    CALL(join(spawn(wait_in_vain, NULL)));
    CALL(futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
}

static void *take_and_end(void *argument) {
    (void)argument;
    CALL(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    open_gate(gate);
    while (!(word & FUTEX_WAITERS))
        sleep_ms(1);
    return NULL;
}

TEST(the_lock_of_a_thread_that_ended_says_so) {
    gate = make_gate();
    pthread_t thread = spawn(take_and_end, NULL);
    pass_gate(gate);
    CALL(futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    HOLDS((word & FUTEX_TID_MASK) == (uint32_t)gettid());
    HOLDS((word & FUTEX_OWNER_DIED) != 0);
    CALL(join(thread));
}

/* ---- conditions with a lock ---- */

static void *wait_then_lock(void *argument) {
    (void)argument;
    if (futex(&word, FUTEX_WAIT_REQUEUE_PI, 0, NULL, &other, 0) != 0)
        return (void *)1;
    if ((other & FUTEX_TID_MASK) != (uint32_t)gettid())
        return (void *)2;
    return (void *)futex(&other, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
}

TEST(a_waiter_is_moved_to_a_lock) {
    pthread_t thread = spawn(wait_then_lock, NULL);
    CALL(futex(&other, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    long moved = 0;
    while (moved == 0) {
        moved = futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)5L, &other, 0);
        SET_UP(moved >= 0);
        sleep_ms(1);
    }
    say("moved %ld", moved);
    CALL(futex(&other, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    CALL(join(thread));
}

TEST(a_waiter_gets_a_free_lock_at_once) {
    pthread_t thread = spawn(wait_then_lock, NULL);
    long moved = 0;
    while (moved == 0) {
        moved = futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)5L, &other, 0);
        SET_UP(moved >= 0);
        sleep_ms(1);
    }
    say("moved %ld", moved);
    CALL(join(thread));
}

/* ---- robust lists ---- */

struct lock {
    struct robust_list node;
    _Atomic uint32_t word;
};

static struct {
    struct robust_list_head head;
    struct lock locks[3];
} robust;

static void *end_with_locks(void *argument) {
    uint32_t tid = (uint32_t)gettid();
    robust.head.futex_offset = offsetof(struct lock, word) - offsetof(struct lock, node);
    robust.head.list.next = &robust.locks[0].node;
    robust.locks[0].node.next = &robust.locks[1].node;
    robust.locks[1].node.next = &robust.head.list;
    robust.head.list_op_pending = &robust.locks[2].node;
    robust.locks[0].word = tid;
    robust.locks[1].word = tid | FUTEX_WAITERS;
    robust.locks[2].word = argument ? tid : 0;
    SET_UP(RAW(SYS_set_robust_list, &robust.head, sizeof robust.head) == 0);
    RAW(SYS_exit, 0);
    return NULL;
}

static void show_locks(void) {
    for (int i = 0; i < 3; i++) {
        uint32_t now = robust.locks[i].word;
        say("lock %d: owner %s, died %s, waiters %s", i, now & FUTEX_TID_MASK ? "yes" : "no",
            now & FUTEX_OWNER_DIED ? "yes" : "no", now & FUTEX_WAITERS ? "yes" : "no");
    }
}

static void *wait_for_dead(void *argument) {
    (void)argument;
    uint32_t now;
    while ((now = robust.locks[1].word) == 0 || !(now & FUTEX_OWNER_DIED)) {
        if (now == 0)
            sleep_ms(1);
        else
            futex(&robust.locks[1].word, FUTEX_WAIT, now, NULL, NULL, 0);
    }
    return (void *)1;
}

TEST(locks_of_a_thread_that_ended_are_marked) {
    pthread_t waiter = spawn(wait_for_dead, NULL), owner;
    SET_UP(pthread_create(&owner, NULL, end_with_locks, (void *)1) == 0);
    CALL(join(waiter));
    while (!(robust.locks[2].word & FUTEX_OWNER_DIED))
        sleep_ms(1);
    show_locks();
}

TEST(the_robust_list_is_told) {
    struct robust_list_head *head = NULL, *own = &robust.head;
    size_t size = 0;
    CALL(RAW(SYS_set_robust_list, own, sizeof *own + 8));
    CALL(RAW(SYS_set_robust_list, own, sizeof *own));
    CALL(RAW(SYS_get_robust_list, 0, &head, &size));
    HOLDS(head == own && size == sizeof *own);
    CALL(RAW(SYS_get_robust_list, 0x3fffffff, &head, &size));
    CALL(RAW(SYS_get_robust_list, 0, BAD_ADDRESS, &size));
    SET_UP(RAW(SYS_set_robust_list, NULL, sizeof *own) == 0);
}

TEST(an_endless_or_wild_robust_list_does_no_harm) {
    pid_t child = fork_child();
    if (child == 0) {
        robust.head.list.next = &robust.locks[0].node;
        robust.locks[0].node.next = &robust.locks[1].node;
        robust.locks[1].node.next = &robust.locks[0].node;
        RAW(SYS_set_robust_list, &robust.head, sizeof robust.head);
        _exit(1);
    }
    show_end("endless", child);
    child = fork_child();
    if (child == 0) {
        robust.head.list.next = (void *)~7UL;
        RAW(SYS_set_robust_list, &robust.head, sizeof robust.head);
        _exit(2);
    }
    show_end("wild", child);
    child = fork_child();
    if (child == 0) {
        RAW(SYS_set_robust_list, NULL_PAGE_ADDRESS, sizeof robust.head);
        _exit(3);
    }
    show_end("nowhere", child);
}

/* ---- with the C library ---- */

static pthread_mutex_t mutex;

static void *lock_and_leave(void *argument) {
    (void)argument;
    pthread_mutex_lock(&mutex);
    return NULL;
}

TEST(a_robust_mutex_survives_its_owner) {
    pthread_mutexattr_t attributes;
    SET_UP(pthread_mutexattr_init(&attributes) == 0);
    SET_UP(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    SET_UP(pthread_mutex_init(&mutex, &attributes) == 0);
    CALL(join(spawn(lock_and_leave, NULL)));
    HOLDS(pthread_mutex_lock(&mutex) == EOWNERDEAD);
    CALL(pthread_mutex_consistent(&mutex));
    CALL(pthread_mutex_unlock(&mutex));
    CALL(join(spawn(lock_and_leave, NULL)));
    HOLDS(pthread_mutex_lock(&mutex) == EOWNERDEAD);
    CALL(pthread_mutex_unlock(&mutex));
    HOLDS(pthread_mutex_lock(&mutex) == ENOTRECOVERABLE);
}

static int shared_count;

static void *count_up(void *argument) {
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(argument);
        shared_count++;
        pthread_mutex_unlock(argument);
    }
    return NULL;
}

TEST(an_inheriting_mutex_excludes) {
    pthread_mutexattr_t attributes;
    SET_UP(pthread_mutexattr_init(&attributes) == 0);
    CALL(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT));
    SET_UP(pthread_mutex_init(&mutex, &attributes) == 0);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = spawn(count_up, &mutex);
    for (int i = 0; i < 4; i++)
        join(threads[i]);
    say("%d", shared_count);
}
