/* What travels beside the bytes of datagrams: hop limits, classes, addresses; UDP-Lite; ports of netlink. */
#include "case.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define UDPLITE 136
#define NETLINK_FAMILY 16

struct netlink_address {
    unsigned short family, padding;
    unsigned port, groups;
};

static struct sockaddr_storage loopback(int family, socklen_t *length) {
    struct sockaddr_storage address = {.ss_family = (sa_family_t)family};
    if (family == AF_INET)
        ((struct sockaddr_in *)&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_loopback;
    *length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    return address;
}

/* A receiver, and a sender that is connected to it. */
static void make_pair(int family, int protocol, int *receiver, int *sender) {
    *receiver = socket(family, SOCK_DGRAM, protocol);
    *sender = socket(family, SOCK_DGRAM, protocol);
    SET_UP(*receiver >= 0 && *sender >= 0);
    socklen_t length;
    struct sockaddr_storage address = loopback(family, &length);
    SET_UP(bind(*receiver, (struct sockaddr *)&address, length) == 0);
    SET_UP(getsockname(*receiver, (struct sockaddr *)&address, &length) == 0);
    SET_UP(connect(*sender, (struct sockaddr *)&address, length) == 0);
}

static void show_headers(struct msghdr *message) {
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
        size_t length = header->cmsg_len - CMSG_LEN(0);
        unsigned char *data = CMSG_DATA(header);
        if (header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo *info = (void *)data;
            char local[64], remote[64];
            inet_ntop(AF_INET, &info->ipi_spec_dst, local, sizeof local);
            inet_ntop(AF_INET, &info->ipi_addr, remote, sizeof remote);
            say("  IP_PKTINFO %s %s", local, remote);
        } else if (header->cmsg_level == IPPROTO_IPV6 && header->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo *info = (void *)data;
            char text[64];
            inet_ntop(AF_INET6, &info->ipi6_addr, text, sizeof text);
            say("  IPV6_PKTINFO %s", text);
        } else {
            int value = 0;
            memcpy(&value, data, length < sizeof value ? length : sizeof value);
            say("  level %d type %d, %zu bytes: %d", header->cmsg_level, header->cmsg_type, length, value);
        }
    }
}

static void receive(const char *what, int fd) {
    char byte, control[256];
    struct sockaddr_storage from;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = sizeof control};
    long length = recvmsg(fd, &message, MSG_DONTWAIT);
    char text[64] = "-";
    if (length >= 0 && from.ss_family == AF_INET)
        inet_ntop(AF_INET, &((struct sockaddr_in *)&from)->sin_addr, text, sizeof text);
    else if (length >= 0)
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&from)->sin6_addr, text, sizeof text);
    say("%s: %ld from %s, flags %x", what, length, text, message.msg_flags);
    if (length >= 0)
        show_headers(&message);
}

static long send_with(int fd, int level, int kind, const void *data, size_t length) {
    char control[256] = {0};
    struct iovec vector = {"x", 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(length)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = level;
    header->cmsg_type = kind;
    header->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(header), data, length);
    return sendmsg(fd, &message, 0);
}

static void turn_on(int fd, int level, int option) {
    int on = 1;
    SET_UP(setsockopt(fd, level, option, &on, sizeof on) == 0);
}

static void set(int fd, int level, int option, int value) {
    int shown = -99;
    socklen_t length = sizeof shown;
    int result = setsockopt(fd, level, option, &value, sizeof value), error = errno;
    SET_UP(getsockopt(fd, level, option, &shown, &length) == 0);
    say("level %d option %d to %d: %s, then %d", level, option, value, result ? errno_name(error) : "ok", shown);
}

TEST(datagrams_of_ipv4_tell_of_their_packets) {
    int receiver, sender;
    make_pair(AF_INET, 0, &receiver, &sender);
    turn_on(receiver, IPPROTO_IP, IP_RECVTTL);
    turn_on(receiver, IPPROTO_IP, IP_RECVTOS);
    SET_UP(send(sender, "x", 1, 0) == 1);
    receive("plain", receiver);
    set(sender, IPPROTO_IP, IP_TTL, 7);
    set(sender, IPPROTO_IP, IP_TOS, 0x10);
    SET_UP(send(sender, "x", 1, 0) == 1);
    receive("as the options say", receiver);
    int value = 9;
    CALL(send_with(sender, IPPROTO_IP, IP_TTL, &value, sizeof value));
    receive("as the message says", receiver);
    CALL(send_with(sender, IPPROTO_IP, IP_TOS, &value, 1));
    receive("a byte", receiver);
    CALL(send_with(sender, IPPROTO_IP, IP_TOS, &value, sizeof value));
    receive("a number", receiver);
    turn_on(receiver, IPPROTO_IP, IP_PKTINFO);
    struct in_pktinfo info = {0};
    info.ipi_spec_dst.s_addr = htonl(0x7f000009);
    CALL(send_with(sender, IPPROTO_IP, IP_PKTINFO, &info, sizeof info));
    receive("from another address", receiver);
    CALL(send_with(sender, IPPROTO_IP, IP_PKTINFO, &info, sizeof info - 1));
    value = 0;
    CALL(send_with(sender, IPPROTO_IP, IP_TTL, &value, sizeof value));
    value = 256;
    CALL(send_with(sender, IPPROTO_IP, IP_TTL, &value, sizeof value));
    CALL(send_with(sender, IPPROTO_IP, IP_TOS, &value, sizeof value));
    CALL(send_with(sender, IPPROTO_IP, IP_TTL, &value, 1));
    CALL(send_with(sender, IPPROTO_IP, 99, &value, sizeof value));
    CALL(send_with(sender, IPPROTO_IPV6, IPV6_HOPLIMIT, &value, sizeof value));
    CALL(send_with(sender, SOL_SOCKET, SCM_RIGHTS, &value, sizeof value));
    CALL(send_with(sender, SOL_SOCKET, 99, &value, sizeof value));
}

TEST(datagrams_of_ipv6_tell_of_their_packets) {
    int receiver, sender;
    make_pair(AF_INET6, 0, &receiver, &sender);
    turn_on(receiver, IPPROTO_IPV6, IPV6_RECVHOPLIMIT);
    turn_on(receiver, IPPROTO_IPV6, IPV6_RECVTCLASS);
    turn_on(receiver, IPPROTO_IPV6, IPV6_RECVPKTINFO);
    SET_UP(send(sender, "x", 1, 0) == 1);
    receive("plain", receiver);
    set(sender, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 7);
    set(sender, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
    SET_UP(send(sender, "x", 1, 0) == 1);
    receive("as the options say", receiver);
    int value = 9;
    CALL(send_with(sender, IPPROTO_IPV6, IPV6_HOPLIMIT, &value, sizeof value));
    receive("a hop limit", receiver);
    CALL(send_with(sender, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof value));
    receive("a class", receiver);
    value = -1;
    CALL(send_with(sender, IPPROTO_IPV6, IPV6_HOPLIMIT, &value, sizeof value));
    receive("no hop limit", receiver);
    value = 256;
    CALL(send_with(sender, IPPROTO_IPV6, IPV6_HOPLIMIT, &value, sizeof value));
    CALL(send_with(sender, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof value));
    CALL(send_with(sender, IPPROTO_IPV6, IPV6_HOPLIMIT, &value, 1));
    CALL(send_with(sender, IPPROTO_IPV6, IPV6_PKTINFO, &value, sizeof value));
    CALL(send_with(sender, IPPROTO_IPV6, 99, &value, sizeof value));
    CALL(send_with(sender, IPPROTO_IP, IP_TTL, &value, sizeof value));
    struct in6_pktinfo info = {in6addr_loopback, 0};
    CALL(send_with(sender, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info));
    receive("from its own address", receiver);
}

TEST(options_of_packets_have_ranges) {
    int v4 = socket(AF_INET, SOCK_DGRAM, 0), v6 = socket(AF_INET6, SOCK_DGRAM, 0);
    SET_UP(v4 >= 0 && v6 >= 0);
    static const int values[] = {-2, -1, 0, 1, 255, 256};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        set(v4, IPPROTO_IP, IP_TTL, values[i]);
        set(v4, IPPROTO_IP, IP_MULTICAST_TTL, values[i]);
        set(v6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, values[i]);
        set(v6, IPPROTO_IPV6, IPV6_TCLASS, values[i]);
        set(v6, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, values[i]);
    }
}

TEST(udp_lite_is_a_protocol_of_its_own) {
    int receiver, sender;
    make_pair(AF_INET, UDPLITE, &receiver, &sender);
    SET_UP(send(sender, "x", 1, 0) == 1);
    receive("udp-lite", receiver);
    int protocol;
    socklen_t length = sizeof protocol;
    SET_UP(getsockopt(receiver, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0);
    say("protocol %d", protocol);
    set(sender, UDPLITE, 10, 20);
    set(sender, UDPLITE, 10, 3);
    set(sender, UDPLITE, 11, 0);
    struct sockaddr_in address;
    length = sizeof address;
    SET_UP(getsockname(receiver, (struct sockaddr *)&address, &length) == 0);
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    SET_UP(udp >= 0 && connect(udp, (struct sockaddr *)&address, length) == 0);
    SET_UP(send(udp, "x", 1, 0) == 1);
    receive("not for udp", receiver);
    CALL(socket(AF_INET, SOCK_STREAM, UDPLITE));
}

static unsigned port_of(int fd) {
    struct netlink_address address = {0};
    socklen_t length = sizeof address;
    SET_UP(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    return address.port;
}

TEST(netlink_sockets_have_ports_of_their_own) {
    struct netlink_address address = {NETLINK_FAMILY, 0, 0, 0};
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = socket(NETLINK_FAMILY, SOCK_RAW, 0);
        SET_UP(fds[i] >= 0);
    }
    HOLDS(port_of(fds[0]) == 0);
    CALL(bind(fds[0], (struct sockaddr *)&address, sizeof address));
    CALL(bind(fds[1], (struct sockaddr *)&address, sizeof address));
    HOLDS(port_of(fds[0]) == (unsigned)getpid());
    HOLDS(port_of(fds[1]) != 0 && port_of(fds[1]) != port_of(fds[0]));
    address.port = port_of(fds[0]);
    CALL(bind(fds[2], (struct sockaddr *)&address, sizeof address));
    close(fds[0]);
    CALL(bind(fds[2], (struct sockaddr *)&address, sizeof address));
    HOLDS(port_of(fds[2]) == (unsigned)getpid());
    address.port++;
    CALL(bind(fds[2], (struct sockaddr *)&address, sizeof address));
}
