/* POSIX message queues: names, sizes, order, waiting, and notices. */
#include "case.h"

#include <mqueue.h>
#include <poll.h>

#define REALTIME_PAST ((struct timespec){1, 0})

static char name[32];

/* A name that no other process uses. */
static const char *own_name(void) {
    snprintf(name, sizeof name, "/quire-%ld", (long)getpid());
    return name;
}

static struct mq_attr size_of(long messages, long bytes) {
    struct mq_attr attributes = {.mq_maxmsg = messages, .mq_msgsize = bytes};
    return attributes;
}

/* A queue without a name, for reading and writing. */
static mqd_t make_queue(long messages, long bytes, int flags) {
    struct mq_attr attributes = size_of(messages, bytes);
    mqd_t queue = mq_open(own_name(), O_CREAT | O_EXCL | O_RDWR | flags, 0600, &attributes);
    SET_UP(queue != (mqd_t)-1);
    SET_UP(mq_unlink(own_name()) == 0);
    return queue;
}

static void show_attributes(mqd_t queue) {
    struct mq_attr attributes;
    CALL(mq_getattr(queue, &attributes));
    say("flags %lx, %ld of %ld messages of %ld bytes", attributes.mq_flags, attributes.mq_curmsgs, attributes.mq_maxmsg,
        attributes.mq_msgsize);
}

static void receive(mqd_t queue) {
    char bytes[64];
    unsigned priority = 99;
    long length = CALL(mq_receive(queue, bytes, sizeof bytes, &priority));
    if (length >= 0)
        say("priority %u: %.*s", priority, (int)length, bytes);
}

TEST(names_are_found_made_and_removed) {
    struct mq_attr attributes = size_of(2, 8);
    CALL(mq_open(own_name(), O_RDWR));
    CALL_OK(mq_open(own_name(), O_CREAT | O_RDWR, 0600, &attributes));
    CALL(mq_open(own_name(), O_CREAT | O_EXCL | O_RDWR, 0600, &attributes));
    CALL_OK(mq_open(own_name(), O_RDONLY));
    CALL(mq_open(own_name(), O_WRONLY | O_RDWR));
    CALL(mq_unlink(own_name()));
    CALL(mq_unlink(own_name()));
    CALL(mq_open(own_name(), O_RDWR));
    CALL(RAW(SYS_mq_open, "", O_RDWR));
    CALL(RAW(SYS_mq_open, ".", O_RDWR));
    CALL(RAW(SYS_mq_open, "a/b", O_RDWR | O_CREAT, 0600, NULL));
    CALL(RAW(SYS_mq_open, BAD_ADDRESS, O_RDWR));
    CALL(RAW(SYS_mq_open, "quire-x", O_RDWR | O_CREAT, 0600, BAD_ADDRESS));
    CALL(RAW(SYS_mq_unlink, BAD_ADDRESS));
    char longest[300];
    memset(longest, 'n', sizeof longest);
    longest[sizeof longest - 1] = 0;
    CALL(RAW(SYS_mq_open, longest, O_RDWR));
}

TEST(a_queue_lives_as_long_as_it_is_open) {
    mqd_t queue = make_queue(4, 16, 0);
    CALL(mq_send(queue, "kept", 4, 0));
    receive(queue);
    CALL(close(queue));
    CALL(mq_send(queue, "gone", 4, 0));
}

TEST(sizes_are_checked) {
    long sizes[][2] = {{0, 8}, {8, 0}, {-1, 8}, {8, -1}, {1L << 40, 1L << 40}, {70000, 1}, {1, 17 << 20}};
    for (size_t index = 0; index < sizeof sizes / sizeof *sizes; index++) {
        struct mq_attr attributes = size_of(sizes[index][0], sizes[index][1]);
        say("%ld messages of %ld bytes", sizes[index][0], sizes[index][1]);
        CALL(mq_open(own_name(), O_CREAT | O_RDWR, 0600, &attributes));
    }
    CALL_OK(mq_open(own_name(), O_CREAT | O_RDWR, 0600, NULL));
    mqd_t queue = mq_open(own_name(), O_RDWR);
    show_attributes(queue);
    CALL(mq_unlink(own_name()));
}

TEST(the_most_urgent_and_oldest_message_comes_first) {
    mqd_t queue = make_queue(8, 16, 0);
    CALL(mq_send(queue, "low 1", 5, 1));
    CALL(mq_send(queue, "high 1", 6, 7));
    CALL(mq_send(queue, "", 0, 1));
    CALL(mq_send(queue, "high 2", 6, 7));
    CALL(mq_send(queue, "top", 3, 32767));
    show_attributes(queue);
    for (int count = 0; count < 5; count++)
        receive(queue);
    CALL(mq_send(queue, "x", 1, 32768));
    CALL(mq_send(queue, "12345678901234567", 17, 0));
    char small[8];
    CALL(mq_receive(queue, small, sizeof small, NULL));
}

TEST(flags_say_whether_calls_wait) {
    mqd_t queue = make_queue(1, 16, O_NONBLOCK);
    show_attributes(queue);
    receive(queue);
    CALL(mq_send(queue, "a", 1, 0));
    CALL(mq_send(queue, "b", 1, 0));
    struct mq_attr flags = {.mq_flags = 0}, old;
    CALL(mq_setattr(queue, &flags, &old));
    HOLDS(old.mq_flags == O_NONBLOCK);
    CALL(mq_timedsend(queue, "b", 1, 0, &REALTIME_PAST));
    receive(queue);
    char bytes[16];
    CALL(mq_timedreceive(queue, bytes, sizeof bytes, NULL, &REALTIME_PAST));
    flags.mq_flags = O_NONBLOCK | O_APPEND;
    CALL(mq_setattr(queue, &flags, NULL));
    struct timespec bad = {0, 1000000000};
    CALL(mq_timedreceive(queue, bytes, sizeof bytes, NULL, &bad));
    bad = (struct timespec){-1, 0};
    CALL(mq_timedsend(queue, "b", 1, 0, &bad));
}

TEST(descriptors_are_closed_by_exec_and_checked) {
    mqd_t queue = make_queue(1, 16, 0);
    CALL(fcntl(queue, F_GETFD));
    char byte = 0;
    int null = open("/dev/null", O_RDWR);
    CALL(mq_send(null, &byte, 1, 0));
    CALL(mq_receive(-1, &byte, 1, NULL));
    CALL(mq_notify(null, NULL));
    struct mq_attr attributes = size_of(1, 8);
    mqd_t reader = mq_open(own_name(), O_CREAT | O_RDONLY, 0600, &attributes);
    mqd_t writer = mq_open(own_name(), O_WRONLY);
    CALL(mq_send(reader, &byte, 1, 0));
    char bytes[8];
    CALL(mq_receive(writer, bytes, sizeof bytes, NULL));
    CALL(mq_unlink(own_name()));
    CALL(RAW(SYS_mq_timedsend, queue, BAD_ADDRESS, 4UL, 0, NULL));
}

TEST(poll_tells_of_messages_and_room) {
    mqd_t queue = make_queue(1, 16, 0);
    struct pollfd polled = {.fd = queue, .events = POLLIN | POLLOUT};
    CALL(poll(&polled, 1, 0));
    say("events %x", polled.revents);
    CALL(mq_send(queue, "a", 1, 0));
    CALL(poll(&polled, 1, 0));
    say("events %x", polled.revents);
}

TEST(a_receiver_waits_for_a_sender_and_a_sender_for_room) {
    mqd_t queue = make_queue(1, 16, 0);
    pid_t child = fork_child();
    if (child == 0) {
        for (int count = 0; count < 3; count++)
            SET_UP(mq_send(queue, "abc" + count, 1, 0) == 0);
        _exit(0);
    }
    for (int count = 0; count < 3; count++)
        receive(queue);
    show_end("the sender", child);
}

TEST(a_waiting_receiver_is_interrupted) {
    mqd_t queue = make_queue(1, 16, 0);
    keep_interrupting();
    char bytes[16];
    CALL(mq_receive(queue, bytes, sizeof bytes, NULL));
    stop_interrupting();
}

static volatile sig_atomic_t told_code, told_value, told_by_us;

static void note(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number, (void)context;
    told_code = info->si_code;
    told_value = info->si_value.sival_int;
    told_by_us = info->si_pid == getpid();
}

TEST(a_message_to_an_empty_queue_is_told_once) {
    mqd_t queue = make_queue(4, 16, 0);
    handle_info(SIGUSR1, note, 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42};
    CALL(mq_notify(queue, &event));
    CALL(mq_notify(queue, &event));
    CALL(mq_send(queue, "a", 1, 0));
    say("code %d, value %d, by us %d", (int)told_code, (int)told_value, (int)told_by_us);
    told_code = 0;
    CALL(mq_notify(queue, &event));
    CALL(mq_send(queue, "b", 1, 0));
    say("code %d", (int)told_code);
    CALL(mq_notify(queue, NULL));
    receive(queue);
    receive(queue);
    CALL(mq_send(queue, "c", 1, 0));
    say("code %d", (int)told_code);
    event.sigev_notify = SIGEV_NONE;
    CALL(mq_notify(queue, &event));
    event.sigev_notify = 77;
    CALL(mq_notify(queue, &event));
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = 65;
    CALL(mq_notify(queue, &event));
    CALL(RAW(SYS_mq_notify, queue, BAD_ADDRESS));
}

TEST(closing_any_descriptor_takes_the_registration_back) {
    mqd_t queue = make_queue(4, 16, 0);
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    CALL(mq_notify(queue, &event));
    SET_UP(close(dup(queue)) == 0);
    CALL(mq_notify(queue, &event));
    pid_t child = fork_child();
    if (child == 0) {
        CALL(mq_notify(queue, &event));
        CALL(mq_notify(queue, NULL));
        CALL(close(queue));
        _exit(0);
    }
    show_end("the child", child);
    CALL(mq_notify(queue, &event));
}

TEST(a_queue_reads_as_a_line_about_its_state) {
    mqd_t queue = make_queue(4, 16, 0);
    SET_UP(mq_send(queue, "seven b", 7, 0) == 0);
    char text[128] = {0};
    CALL_OK(read(queue, text, sizeof text - 1));
    say("%s", text);
    struct stat status;
    SET_UP(fstat(queue, &status) == 0);
    say("mode %o", status.st_mode);
}

ROOT_TEST(permissions_are_those_of_files) {
    struct mq_attr attributes = size_of(1, 8);
    SET_UP(mq_open(own_name(), O_CREAT | O_RDWR, 0640, &attributes) != (mqd_t)-1);
    pid_t child = fork_child();
    if (child == 0) {
        snprintf(name, sizeof name, "/quire-%ld", (long)getppid());
        drop_to(NOBODY, NOBODY);
        CALL(mq_open(name, O_RDONLY));
        CALL(mq_open(name, O_CREAT | O_RDWR, 0600, NULL));
        CALL(RAW(SYS_mq_unlink, name + 1));
        attributes = size_of(11, 8);
        CALL(mq_open("/quire-nobody", O_CREAT | O_RDWR, 0600, &attributes));
        attributes = size_of(10, 8193);
        CALL(mq_open("/quire-nobody", O_CREAT | O_RDWR, 0600, &attributes));
        _exit(0);
    }
    show_end("the child", child);
    CALL(mq_unlink(own_name()));
}
