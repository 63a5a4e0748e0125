/* Unix sockets: what is sent and received, with descriptors and credentials beside it. */
#include "case.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

/* The calls themselves: a C library may look into the messages before. */
#define sendmsg(fd, message, flags) RAW(SYS_sendmsg, fd, message, flags)
#define recvmsg(fd, message, flags) RAW(SYS_recvmsg, fd, message, flags)
#define sendmmsg(fd, messages, count, flags) RAW(SYS_sendmmsg, fd, messages, count, flags)
#define recvmmsg(fd, messages, count, flags, limit) RAW(SYS_recvmmsg, fd, messages, count, flags, limit)

static int new_socket(int type) {
    int fd = socket(AF_UNIX, type, 0);
    SET_UP(fd >= 0);
    return fd;
}

static void make_pair(int ends[2], int type) {
    SET_UP(socketpair(AF_UNIX, type, 0, ends) == 0);
}

static struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return address;
}

static int bind_to(int fd, const char *path) {
    struct sockaddr_un address = address_of(path);
    return bind(fd, (struct sockaddr *)&address, sizeof address);
}

static int connect_to(int fd, const char *path) {
    struct sockaddr_un address = address_of(path);
    return connect(fd, (struct sockaddr *)&address, sizeof address);
}

static long send_to(int fd, const void *bytes, size_t length, int flags, const char *path) {
    struct sockaddr_un address = address_of(path);
    return sendto(fd, bytes, length, flags, (struct sockaddr *)&address, sizeof address);
}

static int bound_socket(int type, const char *path) {
    int fd = new_socket(type);
    SET_UP(bind_to(fd, path) == 0);
    return fd;
}

static void show_ready(const char *what, int fd) {
    struct pollfd entry = {fd, POLLIN | POLLOUT | POLLRDHUP, 0};
    SET_UP(poll(&entry, 1, 0) >= 0);
    say("%s:%s%s%s%s%s", what, entry.revents & POLLIN ? " IN" : "", entry.revents & POLLOUT ? " OUT" : "",
        entry.revents & POLLRDHUP ? " RDHUP" : "", entry.revents & POLLHUP ? " HUP" : "",
        entry.revents & POLLERR ? " ERR" : "");
}

static int pending_error(int fd) {
    int value = -1;
    socklen_t length = sizeof value;
    SET_UP(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length) == 0);
    return value;
}

static void turn_on(int fd, int name) {
    int on = 1;
    SET_UP(setsockopt(fd, SOL_SOCKET, name, &on, sizeof on) == 0);
}

static int count_open(void) {
    int count = 0;
    for (int fd = 0; fd < 64; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Sends bytes with descriptors. */
static long send_files(int fd, const char *text, const int *files, size_t count) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * 300)];
        struct cmsghdr header;
    } control = {0};
    struct iovec range = {(void *)text, strlen(text)};
    struct msghdr message = {.msg_iov = &range, .msg_iovlen = 1, .msg_control = &control};
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(header), files, sizeof(int) * count);
    return sendmsg(fd, &message, 0);
}

/* Receives and shows bytes and what came beside them, with this much room for each. Gives the first descriptor, or -1. */
static int receive(int fd, size_t room, size_t control_room, int flags) {
    char bytes[256] = {0};
    union {
        char bytes[1024];
        struct cmsghdr header;
    } control;
    memset(&control, 0, sizeof control);
    struct iovec range = {bytes, room};
    struct msghdr message = {.msg_iov = &range, .msg_iovlen = 1};
    message.msg_control = control_room ? &control : NULL;
    message.msg_controllen = control_room;
    long got = CALL(recvmsg(fd, &message, flags));
    if (got < 0)
        return -1;
    show_bytes("  bytes", bytes, (size_t)got < room ? (size_t)got : room);
    say("  flags%s%s%s%s, control %zu", message.msg_flags & MSG_TRUNC ? " TRUNC" : "",
        message.msg_flags & MSG_CTRUNC ? " CTRUNC" : "", message.msg_flags & MSG_EOR ? " EOR" : "",
        message.msg_flags & MSG_CMSG_CLOEXEC ? " CLOEXEC" : "", (size_t)message.msg_controllen);
    int first = -1;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h)) {
        if (h->cmsg_type == SCM_RIGHTS) {
            say("  %zu descriptors", (h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            if (h->cmsg_len > CMSG_LEN(0))
                memcpy(&first, CMSG_DATA(h), sizeof first);
        } else if (h->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who = {0};
            memcpy(&who, CMSG_DATA(h), sizeof who < h->cmsg_len - CMSG_LEN(0) ? sizeof who : h->cmsg_len - CMSG_LEN(0));
            say("  credentials: %s pid, %s uid", who.pid == getpid() ? "own" : who.pid == 0 ? "no" : "other",
                who.uid == getuid() ? "own" : "other");
        }
    }
    return first;
}

TEST(stream_bytes_are_glued_and_split) {
    int ends[2];
    make_pair(ends, SOCK_STREAM);
    SET_UP(write(ends[0], "hello ", 6) == 6 && send(ends[0], "world", 5, 0) == 5);
    char text[32] = {0};
    CALL(read(ends[1], text, 3));
    CALL(recv(ends[1], text + 3, 20, 0));
    show_bytes("text", text, 11);
    CALL(recv(ends[1], text, 20, MSG_DONTWAIT));
    CALL(send(ends[0], "", 0, 0));
    CALL(read(ends[1], text, 0));
    CALL(recv(ends[1], text, 1, MSG_DONTWAIT));
    struct iovec out[] = {{"ab", 2}, {"", 0}, {"cde", 3}}, in[] = {{text, 1}, {text + 10, 9}};
    CALL(writev(ends[0], out, 3));
    CALL(readv(ends[1], in, 2));
    say("%c %.4s", text[0], text + 10);
    CALL(write(ends[0], BAD_ADDRESS, 3));
    SET_UP(write(ends[0], "kept", 4) == 4);
    CALL(read(ends[1], BAD_ADDRESS, 3));
    CALL(read(ends[1], text, 9));
    CALL(send(ends[0], "x", 1, MSG_OOB | MSG_DONTWAIT) >= -1);
}

TEST(peeking_leaves_the_bytes) {
    int ends[2];
    make_pair(ends, SOCK_STREAM);
    SET_UP(write(ends[0], "abc", 3) == 3 && write(ends[0], "def", 3) == 3);
    char text[16] = {0};
    CALL(recv(ends[1], text, 2, MSG_PEEK));
    CALL(recv(ends[1], text, 16, MSG_PEEK));
    show_bytes("text", text, 6);
    int offset = 1;
    CALL(setsockopt(ends[1], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset));
    CALL(recv(ends[1], text, 1, MSG_PEEK));
    CALL(recv(ends[1], text + 1, 3, MSG_PEEK));
    show_bytes("text", text, 4);
    CALL(recv(ends[1], text, 2, 0));
    CALL(recv(ends[1], text, 1, MSG_PEEK));
    show_bytes("text", text, 1);
    make_pair(ends, SOCK_DGRAM);
    SET_UP(write(ends[0], "first", 5) == 5 && write(ends[0], "second", 6) == 6);
    CALL(recv(ends[1], text, 2, MSG_PEEK));
    CALL(recv(ends[1], text, 2, MSG_PEEK | MSG_TRUNC));
    CALL(recv(ends[1], text, 16, 0));
    show_bytes("text", text, 5);
}

TEST(wait_all_waits_for_all) {
    int ends[2];
    make_pair(ends, SOCK_STREAM);
    pid_t child = fork_child();
    if (child == 0) {
        for (int i = 0; i < 5; i++) {
            SET_UP(write(ends[1], "12", 2) == 2);
            sleep_ms(5);
        }
        _exit(0);
    }
    char text[16] = {0};
    CALL(recv(ends[0], text, 8, MSG_WAITALL));
    SET_UP(close(ends[1]) == 0);
    CALL(recv(ends[0], text, 8, MSG_WAITALL));
    CALL(recv(ends[0], text, 8, MSG_WAITALL));
    show_end("child", child);
    make_pair(ends, SOCK_STREAM);
    int low = 4;
    SET_UP(setsockopt(ends[0], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low) == 0);
    SET_UP(write(ends[1], "ab", 2) == 2);
    CALL(recv(ends[0], text, 8, MSG_DONTWAIT));
    SET_UP(write(ends[1], "abcd", 4) == 4);
    CALL(recv(ends[0], text, 8, 0));
}

TEST(a_full_stream_makes_writers_wait) {
    int ends[2];
    make_pair(ends, SOCK_STREAM);
    enum { BYTES = 2000000 };
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(close(ends[0]) == 0);
        unsigned char *bytes = malloc(BYTES);
        for (int i = 0; i < BYTES; i++)
            bytes[i] = (unsigned char)(i * 7 + i / 251);
        _exit(write(ends[1], bytes, BYTES) == BYTES ? 0 : 1);
    }
    SET_UP(close(ends[1]) == 0);
    sleep_ms(20);
    unsigned char piece[5000];
    long total = 0, wrong = 0;
    for (ssize_t got; (got = read(ends[0], piece, sizeof piece)) > 0; total += got)
        for (ssize_t i = 0; i < got; i++)
            wrong += piece[i] != (unsigned char)((total + i) * 7 + (total + i) / 251);
    say("%ld bytes, %ld wrong", total, wrong);
    show_end("writer", child);
}

TEST(a_full_stream_is_not_writable_until_it_drains) {
    int ends[2];
    make_pair(ends, SOCK_STREAM | SOCK_NONBLOCK);
    char piece[4096] = {0};
    long total = 0;
    for (ssize_t sent; (sent = write(ends[0], piece, sizeof piece)) > 0;)
        total += sent;
    HOLDS(total > 50000 && total < 400000);
    show_ready("writer", ends[0]);
    CALL(write(ends[0], piece, 1));
    while (read(ends[1], piece, sizeof piece) > 0)
        ;
    show_ready("writer", ends[0]);
    show_ready("reader", ends[1]);
}

TEST(a_broken_stream_signals_but_not_with_nosignal) {
    int ends[2];
    make_pair(ends, SOCK_STREAM);
    SET_UP(close(ends[1]) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        CALL(send(ends[0], "x", 1, MSG_NOSIGNAL));
        send(ends[0], "x", 1, 0);
        _exit(0);
    }
    show_end("child", child);
    make_pair(ends, SOCK_DGRAM);
    SET_UP(close(ends[1]) == 0);
    CALL(send(ends[0], "x", 1, 0));
    CALL(send(ends[0], "x", 1, 0));
    make_pair(ends, SOCK_SEQPACKET);
    SET_UP(close(ends[1]) == 0);
    CALL(send(ends[0], "x", 1, 0));
    char byte;
    CALL(recv(ends[0], &byte, 1, 0));
}

TEST(closing_with_unread_bytes_resets_the_peer) {
    int ends[2];
    make_pair(ends, SOCK_STREAM);
    SET_UP(write(ends[0], "unread", 6) == 6 && write(ends[1], "left", 4) == 4);
    SET_UP(close(ends[1]) == 0);
    show_ready("own", ends[0]);
    char text[8];
    CALL(read(ends[0], text, 8));
    CALL(read(ends[0], text, 8));
    CALL(read(ends[0], text, 8));
    make_pair(ends, SOCK_STREAM);
    SET_UP(write(ends[0], "unread", 6) == 6 && close(ends[1]) == 0);
    say("pending %s", errno_name(pending_error(ends[0])));
    say("pending %d", pending_error(ends[0]));
}

TEST(messages_keep_their_boundaries) {
    static const int types[] = {SOCK_DGRAM, SOCK_SEQPACKET};
    for (int t = 0; t < 2; t++) {
        int ends[2];
        make_pair(ends, types[t]);
        CALL(send(ends[0], "first", 5, 0));
        CALL(send(ends[0], "", 0, 0));
        CALL(write(ends[0], "third", 5));
        receive(ends[1], 3, 0, 0);
        receive(ends[1], 8, 0, 0);
        receive(ends[1], 2, 0, MSG_TRUNC);
        CALL(recv(ends[1], NULL, 0, MSG_DONTWAIT));
        SET_UP(write(ends[0], "bytes", 5) == 5);
        CALL(recv(ends[1], BAD_ADDRESS, 5, 0));
        CALL(recv(ends[1], NULL, 0, MSG_DONTWAIT));
        char *big = calloc(1, 300000);
        CALL(send(ends[0], big, 300000, 0));
        CALL(send(ends[0], big, 100000, 0));
        CALL(recv(ends[1], big, 300000, 0));
        CALL(send(ends[0], big, 10, MSG_OOB));
        CALL(recv(ends[1], big, 10, MSG_OOB));
    }
}

TEST(packets_end_with_their_connection) {
    int ends[2];
    char text[8];
    make_pair(ends, SOCK_SEQPACKET | SOCK_NONBLOCK);
    CALL(recv(ends[0], text, 8, 0));
    SET_UP(send(ends[1], "last", 4, 0) == 4 && close(ends[1]) == 0);
    show_ready("own", ends[0]);
    CALL(recv(ends[0], text, 8, 0));
    CALL(recv(ends[0], text, 8, 0));
    int alone = new_socket(SOCK_SEQPACKET);
    CALL(recv(alone, text, 8, 0));
    CALL(send(alone, "x", 1, 0));
    CALL(send_to(alone, "x", 1, 0, "missing"));
    show_ready("alone", alone);
    alone = new_socket(SOCK_STREAM);
    CALL(recv(alone, text, 8, 0));
    CALL(send(alone, "x", 1, MSG_NOSIGNAL));
    CALL(send_to(alone, "x", 1, 0, "missing"));
    make_pair(ends, SOCK_STREAM);
    CALL(send_to(ends[0], "x", 1, 0, "missing"));
    make_pair(ends, SOCK_SEQPACKET);
    CALL(send_to(ends[0], "x", 1, 0, "missing"));
    alone = new_socket(SOCK_DGRAM);
    CALL(send(alone, "x", 1, 0));
    CALL(recv(alone, text, 8, MSG_DONTWAIT));
    show_ready("alone", alone);
}

TEST(datagrams_tell_who_sent_them) {
    int receiver = bound_socket(SOCK_DGRAM, "r"), named = bound_socket(SOCK_DGRAM, "n");
    CALL(send_to(named, "one", 3, 0, "r"));
    CALL(send_to(new_socket(SOCK_DGRAM), "two", 3, 0, "r"));
    struct sockaddr_un from;
    char text[8];
    socklen_t length = sizeof from;
    memset(&from, 0, sizeof from);
    CALL(recvfrom(receiver, text, 8, 0, (struct sockaddr *)&from, &length));
    say("length %u, name %s", length, from.sun_path);
    length = sizeof from;
    CALL(recvfrom(receiver, text, 8, 0, (struct sockaddr *)&from, &length));
    say("length %u", length);
    CALL(send_to(named, "x", 1, 0, "missing"));
    bound_socket(SOCK_STREAM, "stream");
    CALL(send_to(named, "x", 1, 0, "stream"));
    CALL(sendto(named, "x", 1, 0, (struct sockaddr *)&from, 1));
    CALL(sendto(named, "x", 1, 0, BAD_ADDRESS, 20));
    CALL(sendto(named, "x", 1, 0, NULL, 0));
    CALL(send_to(receiver, "self", 4, 0, "r"));
    length = 4;
    memset(&from, 'x', sizeof from);
    CALL(recvfrom(receiver, text, 8, 0, (struct sockaddr *)&from, &length));
    say("length %u, first %c, second %c", length, from.sun_path[0], from.sun_path[2]);
}

TEST(a_connected_datagram_socket_hears_only_its_peer) {
    int one = bound_socket(SOCK_DGRAM, "1"), two = bound_socket(SOCK_DGRAM, "2"), three = bound_socket(SOCK_DGRAM, "3");
    CALL(connect_to(one, "2"));
    CALL(send(one, "to 2", 4, 0));
    CALL(send_to(three, "x", 1, 0, "1"));
    CALL(connect_to(three, "1"));
    CALL(send_to(two, "back", 4, 0, "1"));
    CALL(send_to(one, "to 3", 4, 0, "3"));
    char text[8];
    CALL(recv(two, text, 8, MSG_DONTWAIT));
    CALL(recv(three, text, 8, MSG_DONTWAIT));
    CALL(connect_to(one, "3"));
    CALL(recv(one, text, 8, MSG_DONTWAIT));
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    CALL(connect(one, &nothing, sizeof nothing));
    CALL(send(one, "x", 1, 0));
    SET_UP(connect_to(one, "2") == 0 && close(two) == 0);
    show_ready("one", one);
    CALL(send(one, "x", 1, 0));
    CALL(send(one, "x", 1, 0));
    CALL(send_to(one, "x", 1, 0, "2"));
}

TEST(a_datagram_pair_that_parts_is_told) {
    int one = bound_socket(SOCK_DGRAM, "1"), two = bound_socket(SOCK_DGRAM, "2");
    SET_UP(connect_to(one, "2") == 0 && connect_to(two, "1") == 0);
    SET_UP(send(two, "lost", 4, 0) == 4);
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    CALL(connect(one, &nothing, sizeof nothing));
    char text[8];
    CALL(recv(one, text, 8, MSG_DONTWAIT));
    show_ready("two", two);
    CALL(send(two, "x", 1, 0));
    CALL(send(two, "x", 1, 0));
    CALL(recv(one, text, 8, MSG_DONTWAIT));
}

TEST(eleven_datagrams_wait_for_a_stranger) {
    int receiver = bound_socket(SOCK_DGRAM, "r"), sender = new_socket(SOCK_DGRAM | SOCK_NONBLOCK);
    SET_UP(connect_to(sender, "r") == 0);
    int sent = 0;
    while (send(sender, "x", 1, 0) == 1)
        sent++;
    say("sent %d, then %s", sent, errno_name(errno));
    show_ready("sender", sender);
    char text[8];
    SET_UP(recv(receiver, text, 8, 0) == 1);
    show_ready("sender", sender);
    CALL(send(sender, "x", 1, 0));
    CALL(send(sender, "x", 1, 0));
    pid_t child = fork_child();
    if (child == 0) {
        int other = new_socket(SOCK_DGRAM);
        CALL(send_to(other, "y", 1, 0, "r"));
        CALL(send_to(other, "y", 1, MSG_DONTWAIT, "r"));
        _exit(0);
    }
    sleep_ms(30);
    SET_UP(recv(receiver, text, 8, 0) == 1);
    show_end("child", child);
    SET_UP(close(receiver) == 0);
    show_ready("sender", sender);
}

TEST(datagrams_and_shutdown) {
    int ends[2];
    char text[8];
    make_pair(ends, SOCK_DGRAM);
    SET_UP(send(ends[0], "x", 1, 0) == 1);
    CALL(shutdown(ends[1], SHUT_RD));
    show_ready("reader", ends[1]);
    show_ready("sender", ends[0]);
    CALL(send(ends[0], "y", 1, 0));
    CALL(recv(ends[1], text, 8, 0));
    CALL(recv(ends[1], text, 8, 0));
    CALL(recv(ends[1], text, 8, MSG_DONTWAIT));
    CALL(shutdown(ends[0], SHUT_WR));
    CALL(send(ends[0], "y", 1, 0));
    show_ready("sender", ends[0]);
}

TEST(descriptors_travel) {
    int ends[2], pipes[2];
    make_pair(ends, SOCK_STREAM);
    SET_UP(pipe(pipes) == 0);
    CALL(send_files(ends[0], "go", &pipes[0], 1));
    SET_UP(close(pipes[0]) == 0);
    SET_UP(write(pipes[1], "through", 7) == 7);
    int reader = receive(ends[1], 16, 64, MSG_CMSG_CLOEXEC);
    char text[8] = {0};
    CALL(read(reader, text, 7));
    show_bytes("text", text, 7);
    HOLDS(fcntl(reader, F_GETFD) == FD_CLOEXEC);
    int files[3] = {pipes[1], 0, 1};
    CALL(send_files(ends[0], "three", files, 3));
    int writer = receive(ends[1], 16, 64, 0);
    HOLDS(fcntl(writer, F_GETFD) == 0);
    files[1] = 77;
    CALL(send_files(ends[0], "bad", files, 3));
    CALL(send_files(ends[0], "none", files, 0));
    receive(ends[1], 16, 64, 0);
    int many[300] = {0};
    CALL(send_files(ends[0], "many", many, 254));
    CALL(send_files(ends[0], "", files, 1));
    CALL(recv(ends[1], text, 8, MSG_DONTWAIT));
    CALL(shutdown(ends[0], SHUT_WR));
    receive(ends[1], 16, 64, 0);
}

TEST(descriptors_divide_a_stream) {
    int ends[2], zero = 0;
    make_pair(ends, SOCK_STREAM);
    SET_UP(write(ends[0], "before", 6) == 6);
    SET_UP(send_files(ends[0], "with", &zero, 1) == 4);
    SET_UP(write(ends[0], "after", 5) == 5);
    receive(ends[1], 64, 64, MSG_PEEK);
    receive(ends[1], 64, 64, 0);
    receive(ends[1], 64, 64, 0);
    SET_UP(send_files(ends[0], "split", &zero, 1) == 5);
    receive(ends[1], 2, 64, 0);
    receive(ends[1], 8, 64, 0);
    SET_UP(send_files(ends[0], "read", &zero, 1) == 4);
    int before = count_open();
    char text[8];
    CALL(read(ends[1], text, 8));
    HOLDS(count_open() == before);
}

TEST(descriptors_without_room_are_closed) {
    int ends[2], pipes[2];
    make_pair(ends, SOCK_DGRAM);
    SET_UP(pipe(pipes) == 0);
    int files[2] = {pipes[1], pipes[1]};
    for (size_t room = 0; room <= 24; room += 4) {
        SET_UP(send_files(ends[0], "x", files, 2) == 1);
        int before = count_open();
        receive(ends[1], 4, room, 0);
        say("room %zu: %d more", room, count_open() - before);
        for (int fd = 7; fd < 20; fd++)
            close(fd);
    }
    SET_UP(send_files(ends[0], "x", files, 2) == 1);
    SET_UP(close(pipes[1]) == 0 && close(ends[1]) == 0);
    char byte;
    CALL(read(pipes[0], &byte, 1));
    make_pair(ends, SOCK_DGRAM);
    SET_UP(send_files(ends[0], "x", pipes, 1) == 1);
    struct rlimit limit = {(rlim_t)count_open(), 100};
    SET_UP(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    receive(ends[1], 4, 64, 0);
}

TEST(a_socket_may_travel_through_itself) {
    int ends[2], pipes[2];
    SET_UP(pipe(pipes) == 0);
    make_pair(ends, SOCK_STREAM);
    int files[3] = {ends[0], ends[1], pipes[1]};
    CALL(send_files(ends[0], "ring", files, 3));
    int second = receive(ends[1], 8, 64, 0);
    CALL(send_files(second, "again", files, 3));
    SET_UP(close(ends[0]) == 0 && close(ends[1]) == 0 && close(pipes[1]) == 0);
    for (int fd = 6; fd < 20; fd++)
        close(fd);
    /* Linux looks for rings when a socket is closed. */
    make_pair(ends, SOCK_STREAM);
    SET_UP(close(ends[0]) == 0 && close(ends[1]) == 0);
    struct pollfd entry = {pipes[0], POLLIN, 0};
    CALL(poll(&entry, 1, 5000));
    char byte;
    CALL(read(pipes[0], &byte, 1));
}

TEST(a_long_chain_of_sockets_in_sockets_goes) {
    int pipes[2];
    SET_UP(pipe(pipes) == 0);
    int last = pipes[1];
    for (int i = 0; i < 800; i++) {
        int ends[2];
        make_pair(ends, SOCK_DGRAM);
        SET_UP(send_files(ends[0], "x", &last, 1) == 1);
        SET_UP(close(last) == 0 && close(ends[0]) == 0);
        last = ends[1];
    }
    SET_UP(close(last) == 0);
    struct pollfd entry = {pipes[0], POLLIN, 0};
    CALL(poll(&entry, 1, 5000));
    char byte;
    CALL(read(pipes[0], &byte, 1));
}

ROOT_TEST(a_user_may_have_as_many_in_flight_as_open) {
    struct rlimit limit = {40, 40};
    int ends[2];
    make_pair(ends, SOCK_DGRAM);
    drop_to(NOBODY - 7, NOBODY);
    SET_UP(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int files[10] = {0}, sent = 0;
    while (sent < 20 && send_files(ends[0], "x", files, 10) == 1)
        sent++;
    say("sent %d, then %s", sent, errno_name(errno));
    char byte;
    SET_UP(recv(ends[1], &byte, 1, 0) == 1);
    CALL(send_files(ends[0], "x", files, 10));
}

TEST(credentials_come_with_messages_if_asked_for) {
    int ends[2];
    make_pair(ends, SOCK_DGRAM);
    SET_UP(send(ends[0], "before", 6, 0) == 6);
    turn_on(ends[1], SO_PASSCRED);
    SET_UP(send(ends[0], "after", 5, 0) == 5);
    receive(ends[1], 16, 64, 0);
    receive(ends[1], 16, 64, 0);
    SET_UP(send(ends[0], "cut", 3, 0) == 3);
    receive(ends[1], 16, 20, 0);
    SET_UP(send(ends[0], "none", 4, 0) == 4);
    receive(ends[1], 16, 0, 0);
    int zero = 0;
    SET_UP(send_files(ends[0], "both", &zero, 1) == 4);
    receive(ends[1], 16, 128, 0);
    make_pair(ends, SOCK_STREAM);
    turn_on(ends[1], SO_PASSCRED);
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(write(ends[0], "child", 5) == 5);
        _exit(0);
    }
    show_end("child", child);
    SET_UP(write(ends[0], "parent", 6) == 6 && write(ends[0], "more", 4) == 4);
    receive(ends[1], 64, 64, 0);
    receive(ends[1], 64, 64, 0);
}

static long send_credentials(int fd, pid_t pid, uid_t uid, gid_t gid, size_t length) {
    struct ucred who = {pid, uid, gid};
    union {
        char bytes[CMSG_SPACE(sizeof who)];
        struct cmsghdr header;
    } control = {0};
    struct iovec range = {"c", 1};
    struct msghdr message = {.msg_iov = &range, .msg_iovlen = 1, .msg_control = &control};
    message.msg_controllen = sizeof control;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_CREDENTIALS;
    header->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(header), &who, sizeof who);
    return sendmsg(fd, &message, 0);
}

ROOT_TEST(only_root_sends_credentials_of_others) {
    int ends[2];
    make_pair(ends, SOCK_DGRAM);
    turn_on(ends[1], SO_PASSCRED);
    CALL(send_credentials(ends[0], getpid(), getuid(), getgid(), sizeof(struct ucred)));
    receive(ends[1], 4, 64, 0);
    CALL(send_credentials(ends[0], 1, 12345, 5, sizeof(struct ucred)));
    receive(ends[1], 4, 64, 0);
    CALL(send_credentials(ends[0], 4000000, 0, 0, sizeof(struct ucred)));
    CALL(send_credentials(ends[0], getpid(), 0, 0, 8));
    drop_to(NOBODY, NOBODY);
    CALL(send_credentials(ends[0], getpid(), NOBODY, NOBODY, sizeof(struct ucred)));
    CALL(send_credentials(ends[0], getppid(), NOBODY, NOBODY, sizeof(struct ucred)));
    CALL(send_credentials(ends[0], getpid(), 0, NOBODY, sizeof(struct ucred)));
    CALL(send_credentials(ends[0], getpid(), NOBODY, 0, sizeof(struct ucred)));
}

TEST(malformed_messages_are_refused) {
    int ends[2];
    make_pair(ends, SOCK_DGRAM);
    union {
        char bytes[64];
        struct cmsghdr header;
    } control = {0};
    struct iovec range = {"x", 1};
    struct msghdr message = {.msg_iov = &range, .msg_iovlen = 1, .msg_control = &control};
    message.msg_controllen = 64;
    control.header.cmsg_len = 15;
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    CALL(sendmsg(ends[0], &message, 0));
    control.header.cmsg_len = 65;
    CALL(sendmsg(ends[0], &message, 0));
    control.header.cmsg_len = (socklen_t)-1;
    CALL(sendmsg(ends[0], &message, 0));
    control.header.cmsg_len = CMSG_LEN(4);
    control.header.cmsg_type = 99;
    CALL(sendmsg(ends[0], &message, 0));
    message.msg_controllen = CMSG_SPACE(4);
    control.header.cmsg_level = 99;
    CALL(sendmsg(ends[0], &message, 0));
    message.msg_controllen = 15;
    CALL(sendmsg(ends[0], &message, 0));
    message.msg_control = BAD_ADDRESS;
    CALL(sendmsg(ends[0], &message, 0));
    message.msg_controllen = (socklen_t)-1;
    CALL(sendmsg(ends[0], &message, 0));
    message.msg_control = NULL;
    message.msg_controllen = 0;
    message.msg_iovlen = 1025;
    CALL(sendmsg(ends[0], &message, 0));
    message.msg_iovlen = 1;
    message.msg_iov = BAD_ADDRESS;
    CALL(sendmsg(ends[0], &message, 0));
    CALL(sendmsg(ends[0], BAD_ADDRESS, 0));
    CALL(recvmsg(ends[1], BAD_ADDRESS, MSG_DONTWAIT));
    CALL(sendmsg(0, &message, 0));
    CALL(recvmsg(99, &message, 0));
}

TEST(many_messages_go_in_one_call) {
    int ends[2];
    make_pair(ends, SOCK_DGRAM);
    struct iovec out[3] = {{"one", 3}, {"three", 5}, {"seventh", 7}};
    struct mmsghdr messages[3];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < 3; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &out[i], .msg_iovlen = 1};
    CALL(sendmmsg(ends[0], messages, 3, 0));
    say("%u %u %u", messages[0].msg_len, messages[1].msg_len, messages[2].msg_len);
    char text[4][8] = {{0}};
    struct iovec in[4];
    struct mmsghdr received[4];
    memset(received, 0, sizeof received);
    for (int i = 0; i < 4; i++) {
        in[i] = (struct iovec){text[i], 4};
        received[i].msg_hdr = (struct msghdr){.msg_iov = &in[i], .msg_iovlen = 1};
    }
    CALL(recvmmsg(ends[1], received, 4, MSG_WAITFORONE, NULL));
    say("%u %u %u, %d", received[0].msg_len, received[1].msg_len, received[2].msg_len,
        received[1].msg_hdr.msg_flags == MSG_TRUNC);
    CALL(recvmmsg(ends[1], received, 4, MSG_DONTWAIT, NULL));
    CALL(recvmmsg(ends[1], received, 0, 0, NULL));
    struct timespec limit = {0, 2000000000};
    CALL(recvmmsg(ends[1], received, 1, MSG_DONTWAIT, &limit));
    messages[1].msg_hdr.msg_iov = BAD_ADDRESS;
    CALL(sendmmsg(ends[0], messages, 3, 0));
    CALL(sendmmsg(ends[0], messages + 1, 1, 0));
    CALL(sendmmsg(99, messages, 1, 0));
}

TEST(blocked_calls_are_interrupted) {
    int ends[2];
    make_pair(ends, SOCK_STREAM);
    char byte;
    keep_interrupting();
    CALL(read(ends[0], &byte, 1));
    CALL(recv(ends[0], &byte, 1, 0));
    struct timeval limit = {5, 0};
    SET_UP(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    CALL(recv(ends[0], &byte, 1, 0));
    int listener = bound_socket(SOCK_STREAM, "s");
    SET_UP(listen(listener, 1) == 0);
    CALL(accept(listener, NULL, NULL));
    stop_interrupting();
}

TEST(poll_wakes_when_a_message_comes) {
    int ends[2];
    make_pair(ends, SOCK_STREAM);
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(close(ends[0]) == 0);
        sleep_ms(20);
        SET_UP(write(ends[1], "x", 1) == 1);
        sleep_ms(20);
        _exit(0);
    }
    SET_UP(close(ends[1]) == 0);
    struct pollfd entry = {ends[0], POLLIN | POLLRDHUP, 0};
    CALL(poll(&entry, 1, 5000));
    say("events %#x", entry.revents);
    char byte;
    SET_UP(read(ends[0], &byte, 1) == 1);
    CALL(poll(&entry, 1, 5000));
    say("events %#x", entry.revents);
    show_end("child", child);
}
