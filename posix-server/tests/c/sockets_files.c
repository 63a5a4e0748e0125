/* Sockets as files: shared, watched, filled by other files, and shown in /proc. */
#include "case.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

static void make_pair(int ends[2], int type) {
    SET_UP(socketpair(AF_UNIX, type, 0, ends) == 0);
}

TEST(proc_lists_unix_sockets) {
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0quire-listed"};
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + sizeof "quire-listed";
    for (int i = 0; i < 3; i++) {
        int fd = socket(AF_UNIX, types[i], 0);
        SET_UP(bind(fd, (struct sockaddr *)&address, length) == 0);
        SET_UP(types[i] != SOCK_SEQPACKET || listen(fd, 1) == 0);
    }
    FILE *table = fopen("/proc/net/unix", "r");
    SET_UP(table != NULL);
    char line[512];
    SET_UP(fgets(line, sizeof line, table) != NULL);
    char *first = strtok(line, " "), *second = strtok(NULL, " ");
    say("%s %s", first, second);
    char seen[3][64] = {{0}};
    while (fgets(line, sizeof line, table)) {
        unsigned protocol, flags, type, state;
        char name[256] = "";
        if (sscanf(line, "%*s %*x %x %x %x %x %*u %255s", &protocol, &flags, &type, &state, name) != 5)
            continue;
        for (int i = 0; i < 3; i++)
            if (strcmp(name, "@quire-listed") == 0 && type == (unsigned)types[i])
                snprintf(seen[i], sizeof seen[i], "protocol %u, flags %#x, state %u", protocol, flags, state);
    }
    for (int i = 0; i < 3; i++)
        say("type %d: %s", types[i], seen[i]);
}

TEST(a_socket_ends_with_its_last_descriptor) {
    int ends[2];
    make_pair(ends, SOCK_STREAM);
    int copy = dup(ends[1]);
    SET_UP(close(ends[1]) == 0);
    CALL(write(copy, "copy", 4));
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(write(copy, "child", 5) == 5);
        _exit(0);
    }
    SET_UP(close(copy) == 0);
    show_end("child", child);
    char text[16];
    CALL(recv(ends[0], text, 9, MSG_WAITALL));
    CALL(recv(ends[0], text, 9, 0));
}

TEST(sendfile_fills_a_socket) {
    int ends[2];
    make_pair(ends, SOCK_STREAM);
    make_text("file", "what is in the file");
    int file = open("file", O_RDONLY);
    off_t offset = 5;
    CALL(sendfile(ends[0], file, &offset, 100));
    say("offset %ld", (long)offset);
    char text[32] = {0};
    CALL(read(ends[1], text, sizeof text));
    show_bytes("text", text, 14);
    SET_UP(close(ends[1]) == 0);
    signal(SIGPIPE, SIG_IGN);
    CALL(sendfile(ends[0], file, NULL, 10));
}

static void show_events(int poller) {
    struct epoll_event events[4];
    int count = epoll_wait(poller, events, 4, 0);
    say("%d events", count);
    for (int i = 0; i < count; i++)
        say("  %#x of %d", events[i].events, events[i].data.fd);
}

TEST(epoll_watches_sockets_by_level_and_edge) {
    int ends[2], poller = epoll_create1(0);
    make_pair(ends, SOCK_STREAM);
    struct epoll_event level = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = 1};
    struct epoll_event edge = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = 2};
    SET_UP(epoll_ctl(poller, EPOLL_CTL_ADD, ends[0], &level) == 0);
    show_events(poller);
    SET_UP(write(ends[1], "x", 1) == 1);
    show_events(poller);
    show_events(poller);
    SET_UP(epoll_ctl(poller, EPOLL_CTL_MOD, ends[0], &edge) == 0);
    show_events(poller);
    show_events(poller);
    SET_UP(write(ends[1], "y", 1) == 1);
    show_events(poller);
    show_events(poller);
    char text[8];
    SET_UP(read(ends[0], text, 8) == 2);
    show_events(poller);
    SET_UP(close(ends[1]) == 0);
    show_events(poller);
    show_events(poller);
}

TEST(epoll_wakes_for_a_connection) {
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "s"};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), poller = epoll_create1(0);
    SET_UP(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 5) == 0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = 7};
    SET_UP(epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        sleep_ms(20);
        int client = socket(AF_UNIX, SOCK_STREAM, 0);
        SET_UP(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
        _exit(0);
    }
    CALL(epoll_wait(poller, &event, 1, 5000));
    say("events %#x of %d", event.events, event.data.fd);
    CALL_OK(accept(listener, NULL, NULL));
    show_end("child", child);
}

TEST(datagrams_are_stamped_with_their_time) {
    int ends[2], on = 1;
    make_pair(ends, SOCK_DGRAM);
    CALL(setsockopt(ends[1], SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on));
    SET_UP(write(ends[0], "x", 1) == 1);
    union {
        char bytes[128];
        struct cmsghdr header;
    } control = {0};
    char byte;
    struct iovec range = {&byte, 1};
    struct msghdr message = {.msg_iov = &range, .msg_iovlen = 1, .msg_control = &control};
    message.msg_controllen = sizeof control;
    CALL(recvmsg(ends[1], &message, 0));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    SET_UP(header != NULL);
    say("level %d, type %d, length %d", header->cmsg_level, header->cmsg_type, (int)header->cmsg_len);
    struct timeval stamp, now;
    memcpy(&stamp, CMSG_DATA(header), sizeof stamp);
    SET_UP(gettimeofday(&now, NULL) == 0);
    HOLDS(now.tv_sec - stamp.tv_sec <= 5 && now.tv_sec >= stamp.tv_sec);
}

TEST(many_sockets_can_be_open) {
    enum { PAIRS = 300 };
    static int ends[PAIRS][2];
    for (int i = 0; i < PAIRS; i++)
        make_pair(ends[i], i % 2 ? SOCK_STREAM : SOCK_DGRAM);
    for (int i = 0; i < PAIRS; i++)
        SET_UP(write(ends[i][0], &i, sizeof i) == sizeof i);
    int wrong = 0, value;
    for (int i = PAIRS - 1; i >= 0; i--)
        wrong += read(ends[i][1], &value, sizeof value) != sizeof value || value != i;
    say("%d wrong", wrong);
}
