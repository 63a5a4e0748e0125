/* Epoll instances: what they report, when, and what becomes of descriptors that go. */
#include "case.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
#ifndef EPOLLEXCLUSIVE
#define EPOLLEXCLUSIVE (1U << 28)
#endif
#ifndef EPOLLWAKEUP
#define EPOLLWAKEUP (1U << 29)
#endif

static int new_epoll(void) {
    int instance = epoll_create1(0);
    SET_UP(instance >= 0);
    return instance;
}

static int new_counter(unsigned value) {
    int fd = eventfd(value, EFD_NONBLOCK);
    SET_UP(fd >= 0);
    return fd;
}

static int control(int instance, int operation, int fd, unsigned events, uint64_t data) {
    struct epoll_event event = {events, {.u64 = data}};
    return epoll_ctl(instance, operation, fd, &event);
}

static void add(int instance, int fd, unsigned events, uint64_t data) {
    SET_UP(control(instance, EPOLL_CTL_ADD, fd, events, data) == 0);
}

static void bump(int fd) {
    SET_UP(eventfd_write(fd, 1) == 0);
}

static void drain(int fd) {
    eventfd_t value;
    SET_UP(eventfd_read(fd, &value) == 0);
}

static const char *event_names(unsigned events, char *text) {
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{EPOLLIN, " IN"},         {EPOLLPRI, " PRI"},       {EPOLLOUT, " OUT"},
                 {EPOLLERR, " ERR"},       {EPOLLHUP, " HUP"},       {EPOLLRDNORM, " RDNORM"},
                 {EPOLLWRNORM, " WRNORM"}, {EPOLLRDHUP, " RDHUP"}};
    *text = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (events & names[i].bit)
            strcat(text, names[i].name);
    return text;
}

/* Waits without patience, and prints what is there in the order in which it comes. */
static void show_max(const char *what, int instance, int max) {
    struct epoll_event events[16];
    char text[128], line[512] = "";
    int count = epoll_wait(instance, events, max, 0);
    for (int i = 0; i < count; i++) {
        sprintf(line + strlen(line), " [%llu:%s]", (unsigned long long)events[i].data.u64,
                event_names(events[i].events, text));
    }
    say("%s: %d%s", what, count, line);
}

static void show(const char *what, int instance) {
    show_max(what, instance, 16);
}

TEST(epoll_instances_are_made_with_flags) {
    CALL_OK(RAW(SYS_epoll_create, 1));
    CALL(RAW(SYS_epoll_create, 0));
    CALL(RAW(SYS_epoll_create, -1));
    CALL(RAW(SYS_epoll_create1, 1));
    CALL(RAW(SYS_epoll_create1, O_NONBLOCK));
    int instance = epoll_create1(EPOLL_CLOEXEC);
    HOLDS(fcntl(instance, F_GETFD) == FD_CLOEXEC);
    HOLDS(fcntl(new_epoll(), F_GETFD) == 0);
    HOLDS((fcntl(instance, F_GETFL) & O_ACCMODE) == O_RDWR);
    char byte;
    CALL(read(instance, &byte, 1));
    CALL(write(instance, "x", 1));
}

TEST(epoll_ctl_checks_its_arguments) {
    int instance = new_epoll(), counter = new_counter(0), closed = dup(0);
    SET_UP(close(closed) == 0);
    struct epoll_event event = {EPOLLIN, {.u64 = 1}};
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, counter, NULL));
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, counter, BAD_ADDRESS));
    CALL(epoll_ctl(99, EPOLL_CTL_ADD, counter, &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, closed, &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, -1, &event));
    CALL(epoll_ctl(counter, EPOLL_CTL_ADD, instance, &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, instance, &event));
    CALL(epoll_ctl(instance, 77, counter, &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_MOD, counter, &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_DEL, counter, NULL));
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, counter, &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, counter, &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_MOD, counter, &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_DEL, counter, BAD_ADDRESS));
    CALL(epoll_ctl(instance, EPOLL_CTL_DEL, counter, NULL));
}

TEST(epoll_refuses_files_that_are_always_ready) {
    int instance = new_epoll();
    make_text("file", "text");
    struct epoll_event event = {EPOLLIN, {.u64 = 1}};
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, open("file", O_RDONLY), &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, open(".", O_RDONLY), &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, open("/dev/null", O_RDONLY), &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, open("/dev/zero", O_RDONLY), &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_ADD, open("file", O_PATH), &event));
    CALL(epoll_ctl(instance, EPOLL_CTL_DEL, open("file", O_RDONLY), &event));
}

TEST(epoll_wait_checks_its_arguments) {
    int instance = new_epoll(), counter = new_counter(1);
    struct epoll_event event;
    CALL(epoll_wait(instance, &event, 0, 0));
    CALL(RAW(SYS_epoll_wait, instance, &event, -1, 0));
    CALL(RAW(SYS_epoll_wait, instance, &event, INT_MAX, 0));
    CALL(epoll_wait(counter, &event, 1, 0));
    CALL(epoll_wait(99, &event, 1, 0));
    CALL(RAW(SYS_epoll_wait, instance, NULL, 1, 0));
    CALL(RAW(SYS_epoll_wait, instance, BAD_ADDRESS, 1, 0));
    add(instance, counter, EPOLLIN, 1);
    CALL(RAW(SYS_epoll_wait, instance, NULL, 1, 0));
    CALL(RAW(SYS_epoll_wait, instance, NULL_PAGE_ADDRESS, 1, 0));
    show("still there", instance);
}

TEST(epoll_events_that_cannot_be_stored_stay) {
    int instance = new_epoll();
    char *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(page != MAP_FAILED && munmap(page + PAGE, PAGE) == 0);
    for (int i = 0; i < 3; i++)
        add(instance, new_counter(1), EPOLLIN | EPOLLET, i);
    CALL(RAW(SYS_epoll_wait, instance, page + PAGE - 2 * sizeof(struct epoll_event), 3, 0));
    show("the third", instance);
}

TEST(epoll_level_triggered_items_are_reported_as_long_as_they_are_ready) {
    int instance = new_epoll(), counter = new_counter(0);
    add(instance, counter, EPOLLIN, 7);
    show("empty", instance);
    bump(counter);
    show("bumped", instance);
    show("again", instance);
    drain(counter);
    show("drained", instance);
    bump(counter);
    bump(counter);
    show("bumped twice", instance);
}

TEST(epoll_edge_triggered_items_are_reported_once_per_change) {
    int instance = new_epoll(), counter = new_counter(0);
    add(instance, counter, EPOLLIN | EPOLLET, 7);
    show("empty", instance);
    bump(counter);
    show("bumped", instance);
    show("again", instance);
    bump(counter);
    show("bumped without reading", instance);
    drain(counter);
    show("drained", instance);
    bump(counter);
    drain(counter);
    show("bumped and drained", instance);
}

TEST(epoll_edge_of_a_file_that_is_ready_when_added) {
    int instance = new_epoll(), counter = new_counter(3);
    add(instance, counter, EPOLLIN | EPOLLOUT | EPOLLET, 7);
    show("first", instance);
    show("second", instance);
    drain(counter);
    show("a read makes room", instance);
}

TEST(epoll_edges_of_a_pipe) {
    int instance = new_epoll(), ends[2];
    char bytes[8];
    SET_UP(pipe2(ends, O_NONBLOCK) == 0);
    add(instance, ends[0], EPOLLIN | EPOLLET, 0);
    add(instance, ends[1], EPOLLOUT | EPOLLET, 1);
    show("new", instance);
    show("second look", instance);
    SET_UP(write(ends[1], "abc", 3) == 3);
    show("written", instance);
    SET_UP(read(ends[0], bytes, 1) == 1);
    show("partly read", instance);
    SET_UP(write(ends[1], "d", 1) == 1);
    show("written more", instance);
    SET_UP(read(ends[0], bytes, 8) == 3);
    show("read all", instance);
    SET_UP(close(ends[1]) == 0);
    show("writer closed", instance);
    show("after the hang-up", instance);
}

TEST(epoll_edges_of_a_full_pipe) {
    int instance = new_epoll(), ends[2];
    static char page[PAGE];
    SET_UP(pipe2(ends, O_NONBLOCK) == 0);
    while (write(ends[1], page, PAGE) > 0)
        ;
    add(instance, ends[1], EPOLLOUT | EPOLLET, 1);
    show("full", instance);
    SET_UP(read(ends[0], page, PAGE) == PAGE);
    show("a page was read", instance);
    SET_UP(read(ends[0], page, PAGE) == PAGE);
    show("another page was read", instance);
    SET_UP(close(ends[0]) == 0);
    show("reader closed", instance);
}

TEST(epoll_one_shot_items_are_switched_off) {
    int instance = new_epoll(), counter = new_counter(1);
    add(instance, counter, EPOLLIN | EPOLLONESHOT, 7);
    show("first", instance);
    show("second", instance);
    bump(counter);
    show("bumped", instance);
    CALL(control(instance, EPOLL_CTL_ADD, counter, EPOLLIN, 8));
    CALL(control(instance, EPOLL_CTL_MOD, counter, EPOLLIN | EPOLLONESHOT, 9));
    show("armed again", instance);
    show("once more", instance);
}

TEST(epoll_one_shot_items_do_not_even_hang_up) {
    int instance = new_epoll(), ends[2];
    SET_UP(pipe(ends) == 0);
    add(instance, ends[0], EPOLLIN | EPOLLONESHOT, 7);
    SET_UP(write(ends[1], "x", 1) == 1);
    show("readable", instance);
    SET_UP(close(ends[1]) == 0);
    show("hung up", instance);
    CALL(control(instance, EPOLL_CTL_MOD, ends[0], 0, 8));
    show("asked for nothing", instance);
}

TEST(epoll_mod_looks_again) {
    int instance = new_epoll(), counter = new_counter(1);
    add(instance, counter, EPOLLIN | EPOLLET, 1);
    show("first", instance);
    show("second", instance);
    CALL(control(instance, EPOLL_CTL_MOD, counter, EPOLLIN | EPOLLET, 2));
    show("modified", instance);
    CALL(control(instance, EPOLL_CTL_MOD, counter, EPOLLOUT, 3));
    show("asked for room", instance);
    CALL(control(instance, EPOLL_CTL_MOD, counter, 0, 4));
    show("asked for nothing", instance);
    bump(counter);
    show("bumped", instance);
}

TEST(epoll_reports_errors_unasked) {
    int instance = new_epoll(), ends[2];
    SET_UP(pipe(ends) == 0);
    add(instance, ends[0], 0, 0);
    add(instance, ends[1], 0, 1);
    show("quiet", instance);
    SET_UP(close(ends[0]) == 0);
    show("reader gone", instance);
    SET_UP(pipe(ends) == 0);
    int second = new_epoll();
    add(second, ends[0], 0, 0);
    SET_UP(close(ends[1]) == 0);
    show("writer gone", second);
}

TEST(epoll_is_fair_to_items_that_are_always_ready) {
    int instance = new_epoll();
    for (int i = 0; i < 5; i++)
        add(instance, new_counter(1), EPOLLIN, i);
    for (int round = 0; round < 5; round++)
        show_max("two at a time", instance, 2);
    show("all", instance);
}

TEST(epoll_reports_in_the_order_of_events) {
    int instance = new_epoll(), counters[4];
    for (int i = 0; i < 4; i++) {
        counters[i] = new_counter(0);
        add(instance, counters[i], EPOLLIN | EPOLLET, i);
    }
    bump(counters[2]);
    bump(counters[0]);
    bump(counters[3]);
    bump(counters[2]);
    show_max("first", instance, 1);
    bump(counters[1]);
    show("the rest", instance);
    show("nothing", instance);
}

TEST(epoll_items_go_with_the_last_descriptor) {
    int instance = new_epoll(), counter = new_counter(1);
    add(instance, counter, EPOLLIN, 1);
    int copy = dup(counter);
    SET_UP(close(counter) == 0);
    show("the copy keeps it", instance);
    CALL(epoll_ctl(instance, EPOLL_CTL_DEL, counter, NULL) == -1 && errno == EBADF);
    CALL(epoll_ctl(instance, EPOLL_CTL_DEL, copy, NULL));
    SET_UP(close(copy) == 0);
    show("gone", instance);
    counter = new_counter(1);
    CALL(control(instance, EPOLL_CTL_ADD, counter, EPOLLIN, 2));
    show("the new one", instance);
    SET_UP(dup2(new_counter(1), counter) == counter);
    show("replaced", instance);
    CALL(control(instance, EPOLL_CTL_MOD, counter, EPOLLIN, 3));
    CALL(control(instance, EPOLL_CTL_ADD, counter, EPOLLIN, 3));
}

TEST(epoll_copies_of_a_descriptor_are_different_items) {
    int instance = new_epoll(), counter = new_counter(0), copy = dup(counter);
    add(instance, counter, EPOLLIN, 1);
    add(instance, copy, EPOLLIN | EPOLLET, 2);
    bump(counter);
    struct epoll_event events[4];
    CALL(epoll_wait(instance, events, 4, 0));
    show("one is edge-triggered", instance);
    CALL(epoll_ctl(instance, EPOLL_CTL_DEL, counter, NULL));
    bump(counter);
    show("the other", instance);
}

TEST(epoll_items_survive_fork_as_long_as_the_child_has_the_file) {
    int instance = new_epoll(), counter = new_counter(1);
    add(instance, counter, EPOLLIN, 1);
    struct gate gate = make_gate(), closed = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pass_gate(gate);
        close(counter);
        open_gate(closed);
        _exit(0);
    }
    SET_UP(close(counter) == 0);
    show("the child has it", instance);
    open_gate(gate);
    pass_gate(closed);
    show("nobody has it", instance);
    show_end("child", child);
}

TEST(epoll_instances_are_shared_over_fork) {
    int instance = new_epoll(), counter = new_counter(1), other = new_counter(1);
    pid_t child = fork_child();
    if (child == 0) {
        add(instance, counter, EPOLLIN, 1);
        int own = new_counter(1);
        SET_UP(dup2(own, 40) == 40);
        add(instance, 40, EPOLLIN, 2);
        show("child", instance);
        _exit(0);
    }
    show_end("child", child);
    show("parent", instance);
    CALL(control(instance, EPOLL_CTL_ADD, counter, EPOLLIN, 3));
    CALL(control(instance, EPOLL_CTL_ADD, other, EPOLLIN, 3));
}

TEST(epoll_can_be_polled_itself) {
    int instance = new_epoll(), counter = new_counter(0);
    add(instance, counter, EPOLLIN, 1);
    struct pollfd entry = {instance, POLLIN | POLLOUT | POLLRDNORM, 0};
    CALL(poll(&entry, 1, 0));
    bump(counter);
    CALL(poll(&entry, 1, 0));
    HOLDS(entry.revents == (POLLIN | POLLRDNORM));
    CALL(poll(&entry, 1, 0));
    drain(counter);
    CALL(poll(&entry, 1, 0));
    pid_t child = fork_child();
    if (child == 0) {
        sleep_ms(50);
        bump(counter);
        _exit(0);
    }
    CALL(poll(&entry, 1, -1));
    show_end("child", child);
}

TEST(epoll_nests) {
    int outer = new_epoll(), inner = new_epoll(), counter = new_counter(0);
    add(inner, counter, EPOLLIN, 1);
    add(outer, inner, EPOLLIN, 2);
    show("quiet", outer);
    bump(counter);
    show("outer", outer);
    show("outer again", outer);
    show("inner", inner);
    drain(counter);
    show("outer, drained", outer);
    CALL(control(outer, EPOLL_CTL_MOD, inner, EPOLLIN | EPOLLET, 3));
    bump(counter);
    show("outer, edge", outer);
    show("outer, edge, again", outer);
    show("inner, level", inner);
    CALL(close(inner));
    show("inner closed", outer);
}

TEST(epoll_does_not_watch_itself_through_others) {
    int a = new_epoll(), b = new_epoll(), c = new_epoll();
    CALL(control(a, EPOLL_CTL_ADD, b, EPOLLIN, 1));
    CALL(control(b, EPOLL_CTL_ADD, c, EPOLLIN, 1));
    CALL(control(c, EPOLL_CTL_ADD, a, EPOLLIN, 1));
    CALL(control(b, EPOLL_CTL_ADD, a, EPOLLIN, 1));
    CALL(control(a, EPOLL_CTL_ADD, c, EPOLLIN, 1));
    CALL(control(a, EPOLL_CTL_DEL, b, 0, 0));
    CALL(control(c, EPOLL_CTL_ADD, b, EPOLLIN, 1));
    CALL(control(a, EPOLL_CTL_DEL, c, 0, 0));
    CALL(control(c, EPOLL_CTL_ADD, a, EPOLLIN, 1));
}

TEST(epoll_does_not_nest_without_end) {
    int instances[40], refused = 0;
    for (int i = 0; i < 40; i++)
        instances[i] = new_epoll();
    for (int i = 38; i >= 0; i--)
        if (control(instances[i], EPOLL_CTL_ADD, instances[i + 1], EPOLLIN, 1) != 0) {
            say("refused: %s", errno_name(errno));
            refused = i;
            break;
        }
    HOLDS(refused > 0);
}

TEST(epoll_exclusive_items) {
    int instance = new_epoll(), inner = new_epoll(), counter = new_counter(0);
    CALL(control(instance, EPOLL_CTL_ADD, counter, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT, 1));
    CALL(control(instance, EPOLL_CTL_ADD, counter, EPOLLIN | EPOLLEXCLUSIVE | EPOLLRDHUP, 1));
    CALL(control(instance, EPOLL_CTL_ADD, inner, EPOLLIN | EPOLLEXCLUSIVE, 1));
    CALL(control(instance, EPOLL_CTL_MOD, counter, EPOLLIN | EPOLLEXCLUSIVE, 1));
    CALL(control(instance, EPOLL_CTL_ADD, counter, EPOLLIN | EPOLLET | EPOLLWAKEUP | EPOLLEXCLUSIVE, 1));
    CALL(control(instance, EPOLL_CTL_MOD, counter, EPOLLIN, 1));
    bump(counter);
    show("exclusive", instance);
    CALL(control(instance, EPOLL_CTL_DEL, counter, 0, 0));
}

TEST(epoll_exclusive_waiters_all_get_their_share) {
    enum { WAITERS = 3 };
    int counter = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK);
    struct gate ready = make_gate();
    pid_t children[WAITERS];
    for (int i = 0; i < WAITERS; i++) {
        children[i] = fork_child();
        if (children[i] == 0) {
            int instance = new_epoll();
            struct epoll_event event;
            eventfd_t value;
            add(instance, counter, EPOLLIN | EPOLLEXCLUSIVE, 1);
            open_gate(ready);
            do
                SET_UP(epoll_wait(instance, &event, 1, -1) == 1);
            while (eventfd_read(counter, &value) != 0);
            _exit(0);
        }
    }
    for (int i = 0; i < WAITERS; i++)
        pass_gate(ready);
    sleep_ms(30);
    for (int i = 0; i < WAITERS; i++) {
        SET_UP(eventfd_write(counter, 1) == 0);
        sleep_ms(20);
    }
    for (int i = 0; i < WAITERS; i++)
        show_end("waiter", children[i]);
}

TEST(epoll_wait_waits_as_long_as_told) {
    int instance = new_epoll();
    struct epoll_event event;
    long start = now_ms();
    CALL(epoll_wait(instance, &event, 1, 60));
    HOLDS(now_ms() - start >= 60);
    struct timespec time = {0, 60000000};
    start = now_ms();
    CALL(RAW(SYS_epoll_pwait2, instance, &event, 1, &time, NULL, 0));
    HOLDS(now_ms() - start >= 60 && time.tv_nsec == 60000000);
    struct timespec bad = {0, 1000000000}, negative = {-1, 0};
    CALL(RAW(SYS_epoll_pwait2, instance, &event, 1, &bad, NULL, 0));
    CALL(RAW(SYS_epoll_pwait2, instance, &event, 1, &negative, NULL, 0));
    CALL(RAW(SYS_epoll_pwait2, instance, &event, 1, BAD_ADDRESS, NULL, 0));
    add(instance, new_counter(1), EPOLLIN, 1);
    CALL(RAW(SYS_epoll_pwait2, instance, &event, 1, NULL, NULL, 0));
}

TEST(epoll_wait_sleeps_until_another_process_writes) {
    int instance = new_epoll(), counter = new_counter(0);
    add(instance, counter, EPOLLIN, 5);
    pid_t child = fork_child();
    if (child == 0) {
        sleep_ms(50);
        bump(counter);
        _exit(0);
    }
    struct epoll_event event;
    CALL(epoll_wait(instance, &event, 1, -1));
    HOLDS(event.data.u64 == 5 && event.events == EPOLLIN);
    show_end("child", child);
}

TEST(epoll_wait_hears_of_items_added_meanwhile) {
    int instance = new_epoll(), counter = new_counter(1);
    pid_t child = fork_child();
    if (child == 0) {
        sleep_ms(50);
        add(instance, counter, EPOLLIN, 5);
        _exit(0);
    }
    struct epoll_event event;
    CALL(epoll_wait(instance, &event, 1, -1));
    HOLDS(event.data.u64 == 5);
    show_end("child", child);
}

static void ignore_it(int signal_number) {
    (void)signal_number;
}

TEST(epoll_wait_is_never_made_again_after_a_signal) {
    int instance = new_epoll();
    struct epoll_event event;
    handle(SIGALRM, ignore_it, SA_RESTART);
    keep_interrupting();
    CALL(epoll_wait(instance, &event, 1, -1));
    CALL(epoll_wait(instance, &event, 1, 5000));
    stop_interrupting();
}

static volatile sig_atomic_t seen;

static void note(int signal_number) {
    (void)signal_number;
    seen++;
}

TEST(epoll_pwait_unblocks_signals_while_it_waits) {
    int instance = new_epoll(), counter = new_counter(0);
    struct epoll_event event;
    sigset_t blocked, none, now;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    handle(SIGUSR1, note, 0);
    SET_UP(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    SET_UP(raise(SIGUSR1) == 0);
    say("seen %d", (int)seen);
    CALL(epoll_pwait(instance, &event, 1, -1, &none));
    say("seen %d", (int)seen);
    SET_UP(sigprocmask(SIG_BLOCK, NULL, &now) == 0);
    HOLDS(sigismember(&now, SIGUSR1));
    SET_UP(raise(SIGUSR1) == 0);
    CALL(epoll_pwait(instance, &event, 1, 0, &none));
    say("seen %d", (int)seen);
    add(instance, counter, EPOLLIN, 1);
    bump(counter);
    SET_UP(raise(SIGUSR1) == 0);
    CALL(epoll_pwait(instance, &event, 1, -1, &none));
    say("seen %d", (int)seen);
    SET_UP(sigprocmask(SIG_BLOCK, NULL, &now) == 0);
    HOLDS(sigismember(&now, SIGUSR1));
    CALL(RAW(SYS_epoll_pwait, instance, &event, 1, 0, &none, 4));
    CALL(RAW(SYS_epoll_pwait, instance, &event, 1, 0, BAD_ADDRESS, 8));
    CALL(RAW(SYS_epoll_pwait, 99, &event, 1, 0, &none, 8));
}

TEST(epoll_watches_many) {
    enum { COUNT = 500 };
    int instance = new_epoll(), counters[COUNT];
    for (int i = 0; i < COUNT; i++) {
        counters[i] = new_counter(0);
        add(instance, counters[i], EPOLLIN, i);
    }
    show("all quiet", instance);
    bump(counters[123]);
    bump(counters[321]);
    show("two of many", instance);
    for (int i = 0; i < COUNT; i++)
        if (i % 100 != 23)
            SET_UP(close(counters[i]) == 0);
    show("most are closed", instance);
}
