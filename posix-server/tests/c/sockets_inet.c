/* TCP and UDP within one machine. */
#include "case.h"

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <arpa/inet.h>

static struct sockaddr_in address_of(const char *ip, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, ip, &address.sin_addr);
    return address;
}

static int new_socket(int type) {
    int fd = socket(AF_INET, type, 0);
    SET_UP(fd >= 0);
    return fd;
}

static int bind_to(int fd, const char *ip, int port) {
    struct sockaddr_in address = address_of(ip, port);
    return bind(fd, (struct sockaddr *)&address, sizeof address);
}

static int connect_to(int fd, const char *ip, int port) {
    struct sockaddr_in address = address_of(ip, port);
    return connect(fd, (struct sockaddr *)&address, sizeof address);
}

static long send_to(int fd, const char *text, int port) {
    struct sockaddr_in address = address_of("127.0.0.1", port);
    return sendto(fd, text, strlen(text), 0, (struct sockaddr *)&address, sizeof address);
}

static int own_port(int fd) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    SET_UP(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    return ntohs(address.sin_port);
}

static int peer_port(int fd) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    SET_UP(getpeername(fd, (struct sockaddr *)&address, &length) == 0);
    return ntohs(address.sin_port);
}

/* A socket bound to a port of the system's choice; a listener if it is a stream. */
static int bound_socket(int type) {
    int fd = new_socket(type);
    SET_UP(bind_to(fd, "127.0.0.1", 0) == 0);
    return fd;
}

static int listening_socket(void) {
    int fd = bound_socket(SOCK_STREAM);
    SET_UP(listen(fd, 5) == 0);
    return fd;
}

static void make_pair(int ends[2]) {
    int listener = listening_socket();
    ends[0] = new_socket(SOCK_STREAM);
    SET_UP(connect_to(ends[0], "127.0.0.1", own_port(listener)) == 0);
    ends[1] = accept(listener, NULL, NULL);
    SET_UP(ends[1] >= 0 && close(listener) == 0);
}

/* A port that nobody has. */
static int free_port(int type) {
    int fd = bound_socket(type);
    int port = own_port(fd);
    SET_UP(close(fd) == 0);
    return port;
}

/* What a descriptor is ready for, once any of `wanted` has come. */
static void show_ready(const char *what, int fd, short wanted) {
    struct pollfd entry = {fd, wanted, 0};
    SET_UP(poll(&entry, 1, 2000) >= 0);
    entry.events = POLLIN | POLLOUT | POLLRDHUP;
    SET_UP(poll(&entry, 1, 0) >= 0);
    say("%s:%s%s%s%s%s", what, entry.revents & POLLIN ? " IN" : "", entry.revents & POLLOUT ? " OUT" : "",
        entry.revents & POLLRDHUP ? " RDHUP" : "", entry.revents & POLLHUP ? " HUP" : "",
        entry.revents & POLLERR ? " ERR" : "");
}

static void show_error(int fd) {
    int value = -1;
    socklen_t length = sizeof value;
    SET_UP(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length) == 0);
    say("pending %s", value ? errno_name(value) : "nothing");
}

TEST(internet_sockets_have_types_and_protocols) {
    CALL_OK(socket(AF_INET, SOCK_STREAM, 0));
    CALL_OK(socket(AF_INET, SOCK_STREAM, IPPROTO_TCP));
    CALL_OK(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP));
    CALL(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP));
    CALL(socket(AF_INET, SOCK_DGRAM, IPPROTO_TCP));
    CALL(socket(AF_INET, SOCK_STREAM, -1));
    CALL(socket(AF_INET, SOCK_STREAM, 300));
    CALL(socket(AF_INET, SOCK_RDM, 0));
    int ends[2], value;
    socklen_t length = sizeof value;
    CALL(socketpair(AF_INET, SOCK_STREAM, 0, ends));
    int fd = new_socket(SOCK_STREAM);
    SET_UP(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &value, &length) == 0);
    say("protocol %d", value);
    SET_UP(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &length) == 0);
    say("domain %d", value);
    show_ready("fresh stream", fd, POLLOUT);
    show_ready("fresh datagrams", new_socket(SOCK_DGRAM), POLLOUT);
}

TEST(a_port_is_bound_once) {
    int fd = bound_socket(SOCK_STREAM);
    HOLDS(own_port(fd) >= 1024);
    CALL(bind_to(fd, "127.0.0.1", 0));
    CALL(bind_to(new_socket(SOCK_STREAM), "127.0.0.1", own_port(fd)));
    CALL(bind_to(new_socket(SOCK_STREAM), "0.0.0.0", own_port(fd)));
    CALL(bind_to(new_socket(SOCK_STREAM), "127.0.0.2", own_port(fd)));
    CALL(bind_to(new_socket(SOCK_DGRAM), "127.0.0.1", own_port(fd)));
    CALL(bind_to(new_socket(SOCK_STREAM), "192.0.2.1", 0));
    struct sockaddr_in address = address_of("127.0.0.1", 0);
    struct sockaddr *any = (struct sockaddr *)&address;
    CALL(bind(new_socket(SOCK_STREAM), any, 15));
    CALL(bind(new_socket(SOCK_STREAM), any, 129));
    address.sin_family = AF_UNIX;
    CALL(bind(new_socket(SOCK_STREAM), any, sizeof address));
    address.sin_family = AF_UNSPEC;
    CALL(bind(new_socket(SOCK_STREAM), any, sizeof address));
    address.sin_addr.s_addr = 0;
    CALL(bind(new_socket(SOCK_STREAM), any, sizeof address));
    int on = 1, one = new_socket(SOCK_DGRAM), other = new_socket(SOCK_DGRAM);
    SET_UP(setsockopt(one, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    SET_UP(setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    SET_UP(bind_to(one, "127.0.0.1", 0) == 0);
    CALL(bind_to(other, "127.0.0.1", own_port(one)));
    int port = own_port(fd);
    SET_UP(close(fd) == 0);
    CALL(bind_to(new_socket(SOCK_STREAM), "127.0.0.1", port));
}

ROOT_TEST(low_ports_need_privilege) {
    drop_to(NOBODY, NOBODY);
    CALL(bind_to(new_socket(SOCK_STREAM), "127.0.0.3", 7));
}

TEST(who_shares_a_port_listens_there) {
    int on = 1, one = new_socket(SOCK_STREAM), other = new_socket(SOCK_STREAM);
    SET_UP(setsockopt(one, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0);
    SET_UP(setsockopt(other, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0);
    SET_UP(bind_to(one, "127.0.0.1", 0) == 0 && bind_to(other, "127.0.0.1", own_port(one)) == 0);
    CALL(listen(one, 1));
    CALL(listen(other, 1));
    one = new_socket(SOCK_STREAM), other = new_socket(SOCK_STREAM);
    SET_UP(setsockopt(one, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    SET_UP(setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0);
    SET_UP(bind_to(one, "127.0.0.1", 0) == 0 && bind_to(other, "127.0.0.1", own_port(one)) == 0);
    CALL(listen(one, 1));
    CALL(listen(other, 1));
}

TEST(a_tcp_connection_has_two_names) {
    int listener = listening_socket(), client = new_socket(SOCK_STREAM);
    int port = own_port(listener);
    show_ready("listener", listener, 0);
    CALL(connect_to(client, "127.0.0.1", port));
    show_ready("listener", listener, POLLIN);
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int server = (int)CALL_OK(accept4(listener, (struct sockaddr *)&address, &length, SOCK_CLOEXEC));
    say("length %u, family %d, address %s", length, address.sin_family, inet_ntoa(address.sin_addr));
    HOLDS(ntohs(address.sin_port) == own_port(client));
    HOLDS(peer_port(client) == port && own_port(server) == port && peer_port(server) == own_port(client));
    CALL(connect_to(client, "127.0.0.1", port));
    CALL(listen(client, 1));
    CALL(accept(client, NULL, NULL));
    show_ready("client", client, POLLOUT);
    length = 4;
    CALL(getsockname(client, (struct sockaddr *)&address, &length));
    say("length %u", length);
    int fresh = new_socket(SOCK_STREAM);
    length = sizeof address;
    CALL(getpeername(fresh, (struct sockaddr *)&address, &length));
    CALL(getsockname(fresh, (struct sockaddr *)&address, &length));
    say("family %d, port %d, address %s", address.sin_family, address.sin_port, inet_ntoa(address.sin_addr));
    int chosen = new_socket(SOCK_STREAM);
    CALL(listen(chosen, 1));
    HOLDS(own_port(chosen) != 0);
    CALL(listen(new_socket(SOCK_DGRAM), 1));
    CALL(accept(new_socket(SOCK_DGRAM), NULL, NULL));
}

TEST(nobody_listens_is_refused) {
    int port = free_port(SOCK_STREAM), client = new_socket(SOCK_STREAM);
    CALL(connect_to(client, "127.0.0.1", port));
    CALL(connect_to(client, "127.0.0.1", port));
    client = new_socket(SOCK_STREAM | SOCK_NONBLOCK);
    CALL(connect_to(client, "127.0.0.1", port));
    show_ready("client", client, POLLOUT);
    show_error(client);
    show_error(client);
    int listener = listening_socket();
    client = new_socket(SOCK_STREAM);
    SET_UP(connect_to(client, "127.0.0.1", port) < 0);
    CALL(connect_to(client, "127.0.0.1", own_port(listener)));
    struct sockaddr_in address = address_of("127.0.0.1", port);
    CALL(connect(new_socket(SOCK_STREAM), (struct sockaddr *)&address, 8));
    address.sin_family = AF_UNIX;
    CALL(connect(new_socket(SOCK_STREAM), (struct sockaddr *)&address, sizeof address));
}

TEST(a_connect_without_waiting_is_told_of_later) {
    int listener = listening_socket(), client = new_socket(SOCK_STREAM | SOCK_NONBLOCK);
    CALL(connect_to(client, "127.0.0.1", own_port(listener)));
    show_ready("client", client, POLLOUT);
    show_error(client);
    CALL(connect_to(client, "127.0.0.1", own_port(listener)));
    CALL(connect_to(client, "127.0.0.1", own_port(listener)));
    CALL(connect_to(new_socket(SOCK_STREAM), "0.0.0.0", own_port(listener)));
    CALL(connect_to(listener, "127.0.0.1", own_port(listener)));
}

TEST(tcp_bytes_go_both_ways_until_shut_down) {
    int ends[2];
    make_pair(ends);
    signal(SIGPIPE, SIG_IGN);
    char text[16] = {0};
    CALL(recv(ends[1], text, 8, MSG_DONTWAIT));
    CALL(send(ends[0], "hello ", 6, 0));
    CALL(write(ends[0], "world", 5));
    CALL(recv(ends[1], text, 11, MSG_WAITALL | MSG_PEEK));
    int count = -1;
    CALL(ioctl(ends[1], FIONREAD, &count));
    say("count %d", count);
    CALL(read(ends[1], text, 3));
    CALL(recv(ends[1], text + 3, 8, MSG_WAITALL));
    show_bytes("text", text, 11);
    CALL(shutdown(ends[0], SHUT_WR));
    CALL(write(ends[0], "x", 1));
    show_ready("peer", ends[1], POLLRDHUP);
    CALL(read(ends[1], text, 8));
    CALL(write(ends[1], "still", 5));
    CALL(recv(ends[0], text, 5, MSG_WAITALL));
    CALL(shutdown(ends[1], SHUT_RDWR));
    show_ready("peer", ends[1], POLLHUP);
    CALL(read(ends[0], text, 8));
    show_ready("own", ends[0], POLLHUP);
    CALL(shutdown(new_socket(SOCK_STREAM), SHUT_WR));
    CALL(recv(new_socket(SOCK_STREAM), text, 8, 0));
    CALL(send(new_socket(SOCK_STREAM), "x", 1, 0));
    CALL(send(ends[1], BAD_ADDRESS, 4, 0));
}

TEST(a_tcp_peer_that_closes_ends_or_resets) {
    int ends[2];
    signal(SIGPIPE, SIG_IGN);
    char text[8];
    make_pair(ends);
    SET_UP(write(ends[1], "last", 4) == 4 && close(ends[1]) == 0);
    show_ready("own", ends[0], POLLRDHUP);
    CALL(recv(ends[0], text, 8, 0));
    CALL(recv(ends[0], text, 8, 0));
    CALL(send(ends[0], "lost", 4, 0));
    show_ready("own", ends[0], POLLHUP);
    CALL(send(ends[0], "x", 1, 0));
    make_pair(ends);
    SET_UP(write(ends[0], "unread", 6) == 6);
    show_ready("peer", ends[1], POLLIN);
    SET_UP(close(ends[1]) == 0);
    show_ready("own", ends[0], POLLHUP);
    CALL(recv(ends[0], text, 8, 0));
    CALL(recv(ends[0], text, 8, 0));
    CALL(send(ends[0], "x", 1, 0));
    make_pair(ends);
    struct linger now = {1, 0};
    SET_UP(setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0 && close(ends[1]) == 0);
    show_ready("own", ends[0], POLLHUP);
    show_error(ends[0]);
    pid_t child = fork_child();
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL);
        CALL(send(ends[0], "x", 1, MSG_NOSIGNAL));
        send(ends[0], "x", 1, 0);
        _exit(0);
    }
    show_end("child", child);
}

/* No more of it is taken than can be under way before the peer's answer comes. */
TEST(a_long_write_to_a_tcp_peer_that_has_closed) {
    enum { LENGTH = 64 << 20 };
    int ends[2];
    signal(SIGPIPE, SIG_IGN);
    char *bytes = mmap(NULL, LENGTH, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    make_pair(ends);
    SET_UP(bytes != MAP_FAILED && close(ends[1]) == 0);
    ssize_t taken = write(ends[0], bytes, LENGTH);
    HOLDS(taken > 0 && taken < LENGTH);
    CALL(write(ends[0], bytes, LENGTH));
    CALL(write(ends[0], bytes, 1));
}

TEST(closing_a_tcp_listener_resets_who_waits) {
    int listener = listening_socket(), client = new_socket(SOCK_STREAM);
    SET_UP(connect_to(client, "127.0.0.1", own_port(listener)) == 0 && close(listener) == 0);
    show_ready("client", client, POLLHUP);
    char byte;
    CALL(recv(client, &byte, 1, 0));
}

TEST(large_amounts_go_through_tcp) {
    enum { BYTES = 3000000 };
    int ends[2];
    make_pair(ends);
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(close(ends[0]) == 0);
        unsigned char *bytes = malloc(BYTES);
        for (int i = 0; i < BYTES; i++)
            bytes[i] = (unsigned char)(i * 7 + i / 251);
        _exit(write(ends[1], bytes, BYTES) == BYTES ? 0 : 1);
    }
    SET_UP(close(ends[1]) == 0);
    unsigned char piece[7000];
    long total = 0, wrong = 0;
    for (ssize_t got; (got = read(ends[0], piece, sizeof piece)) > 0; total += got)
        for (ssize_t i = 0; i < got; i++)
            wrong += piece[i] != (unsigned char)((total + i) * 7 + (total + i) / 251);
    say("%ld bytes, %ld wrong", total, wrong);
    show_end("writer", child);
}

TEST(datagrams_find_their_ports) {
    int receiver = bound_socket(SOCK_DGRAM), sender = new_socket(SOCK_DGRAM);
    CALL(send(sender, "x", 1, 0));
    CALL(send_to(sender, "query", own_port(receiver)));
    HOLDS(own_port(sender) != 0);
    struct sockaddr_in from;
    socklen_t length = sizeof from;
    char text[16];
    CALL(recvfrom(receiver, text, 3, 0, (struct sockaddr *)&from, &length));
    say("length %u, address %s", length, inet_ntoa(from.sin_addr));
    HOLDS(ntohs(from.sin_port) == own_port(sender));
    CALL(recv(receiver, text, 16, MSG_DONTWAIT));
    SET_UP(send_to(sender, "12345678", own_port(receiver)) == 8 && send_to(sender, "", own_port(receiver)) == 0);
    CALL(recv(receiver, text, 2, MSG_PEEK | MSG_TRUNC));
    int count = -1;
    CALL(ioctl(receiver, FIONREAD, &count));
    say("count %d", count);
    CALL(recv(receiver, text, 2, MSG_TRUNC));
    CALL(recv(receiver, text, 2, 0));
    char *big = calloc(1, 70000);
    CALL(connect_to(sender, "127.0.0.1", own_port(receiver)));
    CALL(send(sender, big, 70000, 0));
    CALL(send(sender, big, 65507, 0));
    CALL(recv(receiver, big, 70000, 0));
    CALL(send_to(sender, "x", 0));
    CALL(sendto(sender, "x", 1, 0, (struct sockaddr *)&from, 4));
    from.sin_family = AF_UNIX;
    CALL(sendto(sender, "x", 1, 0, (struct sockaddr *)&from, sizeof from));
    CALL(shutdown(receiver, SHUT_RD));
    CALL(shutdown(sender, SHUT_WR));
    CALL(send(sender, "x", 1, 0));
}

TEST(a_connected_udp_socket_hears_its_peer_and_of_its_absence) {
    int one = bound_socket(SOCK_DGRAM), two = bound_socket(SOCK_DGRAM), three = new_socket(SOCK_DGRAM);
    SET_UP(connect_to(one, "127.0.0.1", own_port(two)) == 0);
    HOLDS(peer_port(one) == own_port(two));
    SET_UP(send_to(three, "stranger", own_port(one)) == 8 && send_to(two, "peer", own_port(one)) == 4);
    char text[16];
    CALL(recv(one, text, 16, 0));
    CALL(recv(one, text, 16, MSG_DONTWAIT));
    SET_UP(close(two) == 0);
    CALL(send(one, "x", 1, 0));
    show_ready("one", one, POLLERR);
    CALL(send(one, "x", 1, 0));
    CALL(send(one, "x", 1, 0));
    CALL(recv(one, text, 16, 0));
    CALL(send_to(three, "x", free_port(SOCK_DGRAM)));
    CALL(recv(three, text, 16, MSG_DONTWAIT));
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    CALL(connect(one, &nothing, sizeof nothing));
    CALL(send(one, "x", 1, 0));
    socklen_t length = sizeof nothing;
    CALL(getpeername(one, &nothing, &length));
}

/* Both versions' addresses, as an address of IPv6. */
static void say_own_name(const char *what, int fd, const char *port) {
    struct sockaddr_in6 address = {.sin6_family = 0};
    socklen_t length = sizeof address;
    SET_UP(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    char text[INET6_ADDRSTRLEN];
    say("%s: %s, %s %s", what, inet_ntop(AF_INET6, &address.sin6_addr, text, sizeof text), port,
        address.sin6_port != 0 ? "yes" : "no");
}

/* Tries one address after the other, as getaddrinfo does to sort them. */
TEST(a_udp_socket_without_its_peer_has_only_the_address_that_was_bound) {
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    SET_UP(fd >= 0);
    CALL(connect(fd, (struct sockaddr *)&loopback, sizeof loopback));
    say_own_name("with a peer", fd, "port");
    CALL(connect(fd, &nothing, sizeof nothing));
    say_own_name("without", fd, "port");
    CALL(connect_to(fd, "127.0.0.1", 9));
    say_own_name("with one of IPv4", fd, "port");
    CALL(connect(fd, &nothing, sizeof nothing));
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    CALL(bind(fd, (struct sockaddr *)&any, sizeof any));
    say_own_name("bound again", fd, "port");
    close(fd);

    int kept = new_socket(SOCK_DGRAM), other = new_socket(SOCK_DGRAM), by_number = new_socket(SOCK_DGRAM);
    SET_UP(bind_to(kept, "127.0.0.1", 0) == 0 && bind_to(other, "0.0.0.0", 0) == 0);
    int port = own_port(other);
    CALL(connect_to(other, "127.0.0.1", 9));
    CALL(connect(other, &nothing, sizeof nothing));
    say("a port that was chosen for it stays: %d", own_port(other) == port);
    CALL(bind_to(by_number, "0.0.0.0", port));
    CALL(connect_to(by_number, "127.0.0.1", 9));
    CALL(connect(by_number, &nothing, sizeof nothing));
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    SET_UP(getsockname(by_number, (struct sockaddr *)&name, &length) == 0);
    say("its own: %d, any address %d", ntohs(name.sin_port) == port, name.sin_addr.s_addr == 0);
    CALL(connect_to(kept, "127.0.0.1", 9));
    CALL(connect(kept, &nothing, sizeof nothing));
    SET_UP(getsockname(kept, (struct sockaddr *)&name, &length) == 0);
    say("loopback %d", name.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
}

TEST(internet_options_are_kept) {
    int fd = new_socket(SOCK_STREAM), value = -1, on = 1;
    socklen_t length = sizeof value;
    static const int options[][2] = {
        {IPPROTO_TCP, TCP_NODELAY}, {IPPROTO_TCP, TCP_CORK}, {IPPROTO_TCP, TCP_KEEPCNT}, {IPPROTO_IP, IP_TTL},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        CALL(setsockopt(fd, options[i][0], options[i][1], &on, sizeof on));
        CALL(getsockopt(fd, options[i][0], options[i][1], &value, &length));
        say("value %d", value);
    }
    CALL(setsockopt(fd, IPPROTO_IP, 9999, &on, sizeof on));
    CALL(getsockopt(fd, IPPROTO_TCP, 9999, &value, &length));
    CALL(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, 2));
    value = 300;
    CALL(setsockopt(fd, IPPROTO_IP, IP_TTL, &value, sizeof value));
    CALL(setsockopt(fd, IPPROTO_UDP, 1, &on, sizeof on));
}

static void show_coverage(int fd, int wanted) {
    int value = -1;
    socklen_t length = sizeof value;
    CALL(setsockopt(fd, IPPROTO_UDPLITE, 10 /* UDPLITE_SEND_CSCOV */, &wanted, sizeof wanted));
    CALL(getsockopt(fd, IPPROTO_UDPLITE, 10, &value, &length));
    say("%d is %d", wanted, value);
}

/* Datagrams whose ports are not those of UDP. */
TEST(udp_lite_is_a_protocol_of_its_own) {
    int receiver = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE), value;
    socklen_t length = sizeof value;
    struct sockaddr_in to = address_of("127.0.0.1", 0);
    SET_UP(receiver >= 0 && bind(receiver, (struct sockaddr *)&to, sizeof to) == 0);
    SET_UP(getsockopt(receiver, SOL_SOCKET, SO_PROTOCOL, &value, &length) == 0);
    say("protocol %d", value);
    to.sin_port = htons(own_port(receiver));
    int same = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP), sender = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
    CALL(bind(same, (struct sockaddr *)&to, sizeof to));
    CALL(sendto(sender, "lite", 4, 0, (struct sockaddr *)&to, sizeof to));
    char text[8];
    CALL(recv(receiver, text, sizeof text, MSG_DONTWAIT));
    CALL(recv(same, text, sizeof text, MSG_DONTWAIT));
    int wanted[] = {0, 1, 20, 100000, -5};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        show_coverage(receiver, wanted[i]);
    show_coverage(same, 20);
    CALL(socket(AF_INET, SOCK_STREAM, IPPROTO_UDPLITE));
    CALL_OK(socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE));
}

TEST(the_loopback_interface_is_there) {
    int fd = new_socket(SOCK_DGRAM);
    struct ifreq request = {0};
    strcpy(request.ifr_name, "lo");
    CALL(ioctl(fd, SIOCGIFINDEX, &request));
    say("index %d", request.ifr_ifindex);
    CALL(ioctl(fd, SIOCGIFADDR, &request));
    say("address %s", inet_ntoa(((struct sockaddr_in *)&request.ifr_addr)->sin_addr));
    CALL(ioctl(fd, SIOCGIFNETMASK, &request));
    say("mask %s", inet_ntoa(((struct sockaddr_in *)&request.ifr_addr)->sin_addr));
    CALL(ioctl(fd, SIOCGIFFLAGS, &request));
    HOLDS(request.ifr_flags & IFF_LOOPBACK && request.ifr_flags & IFF_UP);
    request.ifr_ifindex = 1;
    CALL(ioctl(fd, SIOCGIFNAME, &request));
    say("name %s", request.ifr_name);
    strcpy(request.ifr_name, "nothing0");
    CALL(ioctl(fd, SIOCGIFINDEX, &request));
    CALL(ioctl(fd, SIOCGIFFLAGS, BAD_ADDRESS));
}
