/* Unix sockets: making, naming, connecting and ending them. */
#include "case.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return address;
}

static int new_socket(int type) {
    int fd = socket(AF_UNIX, type, 0);
    SET_UP(fd >= 0);
    return fd;
}

static int bind_to(int fd, const char *path) {
    struct sockaddr_un address = address_of(path);
    return bind(fd, (struct sockaddr *)&address, sizeof address);
}

static int connect_to(int fd, const char *path) {
    struct sockaddr_un address = address_of(path);
    return connect(fd, (struct sockaddr *)&address, sizeof address);
}

static int bind_abstract(int fd, const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    memcpy(address.sun_path + 1, name, length);
    return bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length));
}

static int connect_abstract(int fd, const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    memcpy(address.sun_path + 1, name, length);
    return connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length));
}

/* A listener with a backlog, bound to a path. */
static int listener_at(const char *path, int type, int backlog) {
    int fd = new_socket(type);
    SET_UP(bind_to(fd, path) == 0 && listen(fd, backlog) == 0);
    return fd;
}

static void show_name(const char *what, int fd, int (*get)(int, struct sockaddr *, socklen_t *)) {
    struct sockaddr_un address;
    memset(&address, 'x', sizeof address);
    socklen_t length = sizeof address;
    if (get(fd, (struct sockaddr *)&address, &length) < 0) {
        say("%s: %s", what, errno_name(errno));
        return;
    }
    say("%s: family %d, length %u", what, address.sun_family, length);
    if (length > offsetof(struct sockaddr_un, sun_path))
        show_bytes("  name", address.sun_path, length - offsetof(struct sockaddr_un, sun_path));
}

static void show_ready(const char *what, int fd) {
    struct pollfd entry = {fd, POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM, 0};
    SET_UP(poll(&entry, 1, 0) >= 0);
    say("%s:%s%s%s%s%s%s%s%s", what, entry.revents & POLLIN ? " IN" : "", entry.revents & POLLOUT ? " OUT" : "",
        entry.revents & POLLPRI ? " PRI" : "", entry.revents & POLLRDHUP ? " RDHUP" : "",
        entry.revents & POLLHUP ? " HUP" : "", entry.revents & POLLERR ? " ERR" : "",
        entry.revents & POLLRDNORM ? " RDNORM" : "", entry.revents & POLLWRNORM ? " WRNORM" : "");
}

static int option(int fd, int name) {
    int value = -77;
    socklen_t length = sizeof value;
    if (getsockopt(fd, SOL_SOCKET, name, &value, &length) < 0)
        return -errno;
    return value;
}

TEST(socket_takes_types_flags_and_protocols) {
    CALL_OK(socket(AF_UNIX, SOCK_STREAM, 0));
    CALL_OK(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    CALL_OK(socket(AF_UNIX, SOCK_SEQPACKET, PF_UNIX));
    int raw = (int)CALL_OK(socket(AF_UNIX, SOCK_RAW, 0));
    say("type of raw %d", option(raw, SO_TYPE) == SOCK_DGRAM);
    CALL(socket(AF_UNIX, SOCK_STREAM, 7));
    CALL(socket(AF_UNIX, SOCK_RDM, 0));
    CALL(socket(AF_UNIX, 0, 0));
    CALL(socket(AF_UNIX, 11, 0));
    CALL(socket(AF_UNIX, SOCK_STREAM | 0x100, 0));
    CALL(socket(-1, SOCK_STREAM, 0));
    CALL(socket(0, SOCK_STREAM, 0));
    CALL(socket(99, SOCK_STREAM, 0));
}

TEST(socketpair_flags_reach_both_descriptors) {
    int ends[2];
    CALL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends));
    for (int i = 0; i < 2; i++) {
        CALL(fcntl(ends[i], F_GETFD));
        HOLDS(fcntl(ends[i], F_GETFL) == (O_RDWR | O_NONBLOCK));
    }
    CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, BAD_ADDRESS));
    CALL(socketpair(AF_UNIX, SOCK_STREAM | 0x4000000, 0, ends));
    CALL(socketpair(AF_UNIX, SOCK_STREAM, 9, ends));
    CALL(open("/dev/null", O_RDONLY));
}

TEST(a_socket_has_the_mode_of_one) {
    int ends[2];
    SET_UP(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    struct stat status;
    SET_UP(fstat(ends[0], &status) == 0);
    say("mode %o, size %ld, links %ld", status.st_mode, (long)status.st_size, (long)status.st_nlink);
    CALL(lseek(ends[0], 0, SEEK_SET));
    char link[64], path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    ssize_t length = readlink(path, link, sizeof link);
    SET_UP(length > 0);
    say("link begins with %.8s", link);
    CALL(open(path, O_RDWR));
    CALL(ftruncate(ends[0], 0));
    CALL(fsync(ends[0]));
    CALL(pread(ends[0], link, 1, 0));
    CALL(isatty(ends[0]));
}

TEST(bind_makes_a_socket_inode_under_the_umask) {
    umask(027);
    int fd = new_socket(SOCK_STREAM);
    CALL(bind_to(fd, "name"));
    struct stat status;
    SET_UP(stat("name", &status) == 0);
    say("mode %o", status.st_mode);
    CALL(bind_to(fd, "other"));
    CALL(access("other", F_OK));
    CALL(bind_to(new_socket(SOCK_STREAM), "name"));
    CALL(bind_to(new_socket(SOCK_DGRAM), "name"));
    CALL(bind_to(new_socket(SOCK_STREAM), "missing/name"));
    make_text("file", "x");
    CALL(bind_to(new_socket(SOCK_STREAM), "file"));
    CALL(bind_to(new_socket(SOCK_STREAM), "file/name"));
    CALL(open("name", O_RDONLY));
    CALL(close(fd));
    CALL(access("name", F_OK));
    CALL(bind_to(new_socket(SOCK_STREAM), "name"));
    CALL(unlink("name"));
    CALL(bind_to(new_socket(SOCK_STREAM), "name"));
}

TEST(fchmod_before_bind_decides_the_mode) {
    int fd = new_socket(SOCK_STREAM);
    CALL(fchmod(fd, 0640));
    CALL(bind_to(fd, "name"));
    struct stat status;
    SET_UP(stat("name", &status) == 0);
    say("mode %o", status.st_mode);
    CALL(fchmod(fd, 0600));
    SET_UP(stat("name", &status) == 0);
    say("mode %o", status.st_mode);
}

TEST(addresses_of_odd_lengths) {
    struct sockaddr_un address = address_of("name");
    struct sockaddr *any = (struct sockaddr *)&address;
    int fd = new_socket(SOCK_DGRAM);
    CALL(bind(fd, any, 1));
    CALL(bind(fd, any, 0));
    CALL(bind(fd, any, sizeof address + 1));
    CALL(bind(fd, any, 200));
    CALL(bind(fd, any, -1));
    CALL(bind(fd, BAD_ADDRESS, sizeof address));
    address.sun_family = AF_INET;
    CALL(bind(fd, any, sizeof address));
    address.sun_family = AF_UNIX;
    CALL(bind(fd, any, offsetof(struct sockaddr_un, sun_path) + 2));
    show_name("cut", fd, getsockname);
    CALL(access("na", F_OK));
    memset(address.sun_path, 'p', sizeof address.sun_path);
    fd = new_socket(SOCK_DGRAM);
    CALL(bind(fd, any, sizeof address));
    show_name("full", fd, getsockname);
    CALL(bind(-1, any, sizeof address));
    CALL(bind(0, any, sizeof address));
}

TEST(abstract_names_end_with_their_socket_and_are_kept_apart_by_type) {
    int stream = new_socket(SOCK_STREAM);
    CALL(bind_abstract(stream, "quire-case"));
    CALL(bind_abstract(new_socket(SOCK_STREAM), "quire-case"));
    CALL(bind_abstract(new_socket(SOCK_DGRAM), "quire-case"));
    CALL(bind_abstract(stream, "quire-case-2"));
    show_name("own", stream, getsockname);
    CALL(connect_abstract(new_socket(SOCK_STREAM), "quire-case"));
    CALL(listen(stream, 1));
    int client = new_socket(SOCK_STREAM);
    CALL(connect_abstract(client, "quire-case"));
    show_name("peer", client, getpeername);
    CALL(connect_abstract(new_socket(SOCK_STREAM), "quire-cas"));
    CALL(connect_abstract(new_socket(SOCK_SEQPACKET), "quire-case"));
    CALL(close(stream));
    CALL(connect_abstract(new_socket(SOCK_STREAM), "quire-case"));
    CALL(bind_abstract(new_socket(SOCK_STREAM), "quire-case"));
}

TEST(a_bind_to_the_family_alone_chooses_a_name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof address;
    int fd = new_socket(SOCK_STREAM);
    CALL(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)));
    CALL(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)));
    SET_UP(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    say("length %u, first byte %d", length, address.sun_path[0]);
    int digits = 0;
    for (int i = 1; i < 6; i++)
        digits += strchr("0123456789abcdef", address.sun_path[i]) != NULL;
    say("%d digits", digits);
}

TEST(names_of_unbound_sockets_are_a_family) {
    int ends[2];
    SET_UP(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    show_name("own", ends[0], getsockname);
    show_name("peer", ends[0], getpeername);
    int alone = new_socket(SOCK_STREAM);
    show_name("alone", alone, getsockname);
    show_name("alone's peer", alone, getpeername);
    struct sockaddr_un address;
    socklen_t length = 1;
    memset(&address, 'x', sizeof address);
    CALL(getsockname(alone, (struct sockaddr *)&address, &length));
    say("length %u, second byte %c", length, ((char *)&address)[1]);
    length = (socklen_t)-1;
    CALL(getsockname(alone, (struct sockaddr *)&address, &length));
    CALL(getsockname(alone, BAD_ADDRESS, &length));
    length = 2;
    CALL(getsockname(alone, BAD_ADDRESS, &length));
    CALL(getsockname(alone, (struct sockaddr *)&address, BAD_ADDRESS));
    CALL(getsockname(0, (struct sockaddr *)&address, &length));
    CALL(getsockname(99, (struct sockaddr *)&address, &length));
    CALL(close(ends[1]));
    show_name("peer that is gone", ends[0], getpeername);
}

TEST(listen_needs_a_name_and_a_connection) {
    int fd = new_socket(SOCK_STREAM);
    CALL(listen(fd, 5));
    SET_UP(bind_to(fd, "s") == 0);
    CALL(listen(fd, 5));
    CALL(listen(fd, -1));
    say("accepts %d", option(fd, SO_ACCEPTCONN));
    int datagrams = new_socket(SOCK_DGRAM);
    SET_UP(bind_to(datagrams, "d") == 0);
    CALL(listen(datagrams, 5));
    int ends[2];
    SET_UP(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CALL(listen(ends[0], 5));
    CALL(listen(0, 5));
    CALL(connect_to(fd, "s"));
    CALL(accept(ends[0], NULL, NULL));
    CALL(accept(datagrams, NULL, NULL));
    CALL(accept(new_socket(SOCK_STREAM), NULL, NULL));
}

TEST(a_connection_is_accepted_with_its_names) {
    int listener = listener_at("s", SOCK_STREAM, 5);
    int client = new_socket(SOCK_STREAM);
    show_ready("unconnected", client);
    show_ready("listener", listener);
    SET_UP(bind_to(client, "c") == 0);
    CALL(connect_to(client, "s"));
    show_ready("listener", listener);
    CALL(write(client, "early", 5));
    struct sockaddr_un address;
    socklen_t length = sizeof address;
    memset(&address, 0, sizeof address);
    int server = (int)CALL_OK(accept4(listener, (struct sockaddr *)&address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    say("length %u, name %s", length, address.sun_path);
    HOLDS(fcntl(server, F_GETFD) == FD_CLOEXEC && fcntl(server, F_GETFL) == (O_RDWR | O_NONBLOCK));
    show_name("server", server, getsockname);
    show_name("server's peer", server, getpeername);
    show_name("client's peer", client, getpeername);
    char text[16] = {0};
    CALL(read(server, text, sizeof text));
    CALL(read(server, text, sizeof text));
    CALL(connect_to(client, "s"));
    CALL(connect_to(server, "s"));
    CALL(RAW(SYS_accept4, listener, NULL, NULL, 1));
    show_ready("client", client);
    SET_UP(close(server) == 0);
    show_ready("client", client);
    CALL(read(client, text, sizeof text));
    signal(SIGPIPE, SIG_IGN);
    CALL(write(client, "x", 1));
    show_name("client's peer", client, getpeername);
}

TEST(connect_says_why_not) {
    CALL(connect_to(new_socket(SOCK_STREAM), "missing"));
    make_text("file", "x");
    CALL(connect_to(new_socket(SOCK_STREAM), "file"));
    CALL(connect_to(new_socket(SOCK_STREAM), "."));
    int bound = new_socket(SOCK_STREAM);
    SET_UP(bind_to(bound, "bound") == 0);
    CALL(connect_to(new_socket(SOCK_STREAM), "bound"));
    CALL(connect_to(new_socket(SOCK_DGRAM), "bound"));
    CALL(connect_to(new_socket(SOCK_SEQPACKET), "bound"));
    SET_UP(listen(bound, 1) == 0);
    CALL(connect_to(new_socket(SOCK_DGRAM), "bound"));
    SET_UP(symlink("bound", "link") == 0);
    CALL(connect_to(new_socket(SOCK_STREAM), "link"));
    SET_UP(close(bound) == 0);
    CALL(connect_to(new_socket(SOCK_STREAM), "bound"));
    SET_UP(mknod("node", S_IFSOCK | 0666, 0) == 0);
    CALL(connect_to(new_socket(SOCK_STREAM), "node"));
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    CALL(connect(new_socket(SOCK_STREAM), &nothing, sizeof nothing));
    CALL(connect(new_socket(SOCK_DGRAM), &nothing, sizeof nothing));
}

TEST(a_renamed_name_still_leads_to_its_socket) {
    int listener = listener_at("s", SOCK_STREAM, 5);
    SET_UP(rename("s", "t") == 0);
    CALL(connect_to(new_socket(SOCK_STREAM), "s"));
    int client = new_socket(SOCK_STREAM);
    CALL(connect_to(client, "t"));
    show_name("peer", client, getpeername);
    SET_UP(link("t", "u") == 0);
    CALL(connect_to(new_socket(SOCK_STREAM), "u"));
    CALL_OK(accept(listener, NULL, NULL));
}

ROOT_TEST(connecting_needs_write_permission) {
    SET_UP(chmod(".", 0755) == 0);
    int listener = listener_at("s", SOCK_STREAM, 5);
    SET_UP(chmod("s", 0744) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        drop_to(NOBODY, NOBODY);
        CALL(connect_to(new_socket(SOCK_STREAM), "s"));
        _exit(0);
    }
    show_end("child", child);
    SET_UP(chmod("s", 0722) == 0);
    child = fork_child();
    if (child == 0) {
        drop_to(NOBODY, NOBODY);
        CALL(connect_to(new_socket(SOCK_STREAM), "s"));
        CALL(bind_to(new_socket(SOCK_STREAM), "t"));
        _exit(0);
    }
    show_end("child", child);
    CALL_OK(accept(listener, NULL, NULL));
}

TEST(the_backlog_has_one_more_than_was_said) {
    int listener = listener_at("s", SOCK_STREAM, 1);
    for (int i = 0; i < 4; i++)
        CALL(connect_to(new_socket(SOCK_STREAM | SOCK_NONBLOCK), "s"));
    CALL_OK(accept(listener, NULL, NULL));
    CALL(connect_to(new_socket(SOCK_STREAM | SOCK_NONBLOCK), "s"));
    CALL(connect_to(new_socket(SOCK_STREAM | SOCK_NONBLOCK), "s"));
    CALL(listen(listener, 2));
    CALL(connect_to(new_socket(SOCK_STREAM | SOCK_NONBLOCK), "s"));
    SET_UP(close(listener) == 0);
    CALL(connect_to(new_socket(SOCK_STREAM | SOCK_NONBLOCK), "s"));
}

TEST(a_blocking_connect_waits_for_room) {
    int listener = listener_at("s", SOCK_STREAM, 0);
    SET_UP(connect_to(new_socket(SOCK_STREAM), "s") == 0);
    pid_t child = fork_child();
    if (child == 0) {
        CALL(connect_to(new_socket(SOCK_STREAM), "s"));
        _exit(0);
    }
    sleep_ms(30);
    SET_UP(accept(listener, NULL, NULL) >= 0);
    show_end("child", child);
    child = fork_child();
    if (child == 0) {
        SET_UP(close(listener) == 0);
        CALL(connect_to(new_socket(SOCK_STREAM), "s"));
        _exit(0);
    }
    sleep_ms(30);
    SET_UP(close(listener) == 0);
    show_end("child", child);
}

TEST(waiting_calls_have_time_limits) {
    struct timeval limit = {0, 30000};
    int listener = listener_at("s", SOCK_STREAM, 0);
    SET_UP(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    CALL(accept(listener, NULL, NULL));
    SET_UP(connect_to(new_socket(SOCK_STREAM), "s") == 0);
    int client = new_socket(SOCK_STREAM);
    SET_UP(setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    CALL(connect_to(client, "s"));
    int ends[2];
    SET_UP(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    SET_UP(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    SET_UP(setsockopt(ends[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    long before = now_ms();
    char byte;
    CALL(read(ends[0], &byte, 1));
    HOLDS(now_ms() - before >= 25);
    char *bytes = calloc(1, 1 << 20);
    ssize_t sent = write(ends[0], bytes, 1 << 20);
    HOLDS(sent > 100000 && sent < 1 << 20);
    CALL(write(ends[0], "x", 1));
    struct timeval shown = {9, 9};
    socklen_t length = sizeof shown;
    SET_UP(getsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &shown, &length) == 0);
    HOLDS(shown.tv_sec == 0 && shown.tv_usec > 20000 && shown.tv_usec < 50000);
}

TEST(accept_on_a_shut_listener_is_an_error) {
    int listener = listener_at("s", SOCK_STREAM, 5);
    CALL(shutdown(listener, SHUT_RD));
    show_ready("listener", listener);
    CALL(accept(listener, NULL, NULL));
    CALL(connect_to(new_socket(SOCK_STREAM), "s"));
}

TEST(closing_a_listener_resets_who_was_not_accepted) {
    int listener = listener_at("s", SOCK_STREAM, 5);
    int client = new_socket(SOCK_STREAM);
    SET_UP(connect_to(client, "s") == 0);
    CALL(write(client, "x", 1));
    SET_UP(close(listener) == 0);
    show_ready("client", client);
    char byte;
    CALL(read(client, &byte, 1));
    CALL(read(client, &byte, 1));
    signal(SIGPIPE, SIG_IGN);
    CALL(write(client, "x", 1));
}

TEST(accept_with_a_bad_address_loses_the_connection) {
    int listener = listener_at("s", SOCK_STREAM | SOCK_NONBLOCK, 5);
    int client = new_socket(SOCK_STREAM);
    SET_UP(connect_to(client, "s") == 0);
    socklen_t length = 50;
    CALL(accept(listener, BAD_ADDRESS, &length));
    CALL(accept(listener, NULL, NULL));
    show_ready("client", client);
    int other = new_socket(SOCK_STREAM);
    SET_UP(connect_to(other, "s") == 0);
    CALL_OK(accept(listener, NULL, BAD_ADDRESS));
}

TEST(shutdown_ends_directions) {
    int ends[2];
    signal(SIGPIPE, SIG_IGN);
    SET_UP(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CALL(shutdown(ends[0], 3));
    CALL(shutdown(ends[0], -1));
    CALL(shutdown(0, SHUT_RD));
    SET_UP(write(ends[0], "before", 6) == 6);
    CALL(shutdown(ends[0], SHUT_WR));
    CALL(write(ends[0], "x", 1));
    char text[16];
    show_ready("peer", ends[1]);
    CALL(read(ends[1], text, sizeof text));
    CALL(read(ends[1], text, sizeof text));
    CALL(write(ends[1], "back", 4));
    CALL(read(ends[0], text, sizeof text));
    show_ready("own", ends[0]);
    CALL(shutdown(ends[0], SHUT_RD));
    show_ready("own", ends[0]);
    show_ready("peer", ends[1]);
    CALL(write(ends[1], "x", 1));
    CALL(read(ends[0], text, sizeof text));
    CALL(shutdown(new_socket(SOCK_STREAM), SHUT_RDWR));
}

TEST(options_are_kept_and_shown) {
    int fd = new_socket(SOCK_SEQPACKET);
    int on = 1, off = 0, value;
    HOLDS(option(fd, SO_TYPE) == SOCK_SEQPACKET);
    HOLDS(option(fd, SO_DOMAIN) == AF_UNIX);
    HOLDS(option(fd, SO_PROTOCOL) == 0);
    HOLDS(option(fd, SO_ERROR) == 0);
    HOLDS(option(fd, SO_ACCEPTCONN) == 0);
    HOLDS(option(fd, SO_RCVLOWAT) == 1);
    HOLDS(option(fd, SO_PEEK_OFF) == -1);
    static const int switches[] = {SO_REUSEADDR, SO_KEEPALIVE, SO_BROADCAST, SO_OOBINLINE, SO_PASSCRED};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) {
        CALL(setsockopt(fd, SOL_SOCKET, switches[i], &on, sizeof on));
        say("shows %d", option(fd, switches[i]));
        CALL(setsockopt(fd, SOL_SOCKET, switches[i], &off, sizeof off));
        say("shows %d", option(fd, switches[i]));
    }
    value = 10000;
    CALL(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value));
    CALL(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof value));
    say("buffers %d %d", option(fd, SO_SNDBUF), option(fd, SO_RCVBUF));
    value = 1;
    CALL(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof value));
    CALL(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof value));
    say("buffers %d %d", option(fd, SO_SNDBUF), option(fd, SO_RCVBUF));
    struct linger linger = {1, 7}, shown;
    socklen_t length = sizeof shown;
    CALL(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    CALL(getsockopt(fd, SOL_SOCKET, SO_LINGER, &shown, &length));
    say("linger %d %d, length %u", shown.l_onoff, shown.l_linger, length);
    CALL(setsockopt(fd, SOL_SOCKET, SO_TYPE, &on, sizeof on));
    CALL(setsockopt(fd, SOL_SOCKET, SO_ERROR, &on, sizeof on));
    CALL(setsockopt(fd, SOL_SOCKET, 4711, &on, sizeof on));
    CALL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, 3));
    CALL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, -1));
    CALL(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, BAD_ADDRESS, sizeof on));
    CALL(setsockopt(fd, 6, 1, &on, sizeof on));
    CALL(setsockopt(0, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
    length = sizeof value;
    CALL(getsockopt(fd, SOL_SOCKET, 4711, &value, &length));
    CALL(getsockopt(fd, 6, 1, &value, &length));
    length = (socklen_t)-1;
    CALL(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length));
    length = 2;
    value = -1;
    CALL(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length));
    say("length %u, cut %d", length, (value & 0xffff) == SOCK_SEQPACKET);
    CALL(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, BAD_ADDRESS));
    struct timeval wrong = {0, 1000000};
    CALL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wrong, sizeof wrong));
    CALL(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wrong, 8));
}

TEST(ioctls_tell_of_queues) {
    int ends[2], count = -1;
    SET_UP(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CALL(ioctl(ends[1], FIONREAD, &count));
    say("count %d", count);
    SET_UP(write(ends[0], "12345", 5) == 5 && write(ends[0], "678", 3) == 3);
    CALL(ioctl(ends[1], FIONREAD, &count));
    say("count %d", count);
    CALL(ioctl(ends[0], TIOCOUTQ, &count));
    HOLDS(count >= 8);
    char text[8];
    SET_UP(read(ends[1], text, 8) == 8);
    CALL(ioctl(ends[0], TIOCOUTQ, &count));
    say("count %d", count);
    CALL(ioctl(ends[0], FIONREAD, BAD_ADDRESS));
    SET_UP(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    SET_UP(write(ends[0], "12345", 5) == 5 && write(ends[0], "678", 3) == 3);
    CALL(ioctl(ends[1], FIONREAD, &count));
    say("count %d", count);
    int listener = listener_at("s", SOCK_STREAM, 1);
    CALL(ioctl(listener, FIONREAD, &count));
    int on = 1;
    CALL(ioctl(ends[0], FIONBIO, &on));
    CALL(read(ends[0], text, 8));
    CALL(ioctl(ends[0], TCGETS, text));
    CALL(ioctl(ends[0], 0x12345, text));
}

TEST(peer_credentials_are_those_of_the_connection) {
    struct ucred peer = {-7, 7, 7};
    socklen_t length = sizeof peer;
    int ends[2];
    SET_UP(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    CALL(getsockopt(ends[0], SOL_SOCKET, SO_PEERCRED, &peer, &length));
    HOLDS(peer.pid == getpid() && peer.uid == geteuid() && peer.gid == getegid());
    int listener = listener_at("s", SOCK_STREAM, 5);
    struct gate said = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        int client = new_socket(SOCK_STREAM);
        SET_UP(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0);
        say("unconnected: %d %d %d", peer.pid, (int)peer.uid, (int)peer.gid);
        SET_UP(connect_to(client, "s") == 0);
        SET_UP(getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0);
        HOLDS(peer.pid == getppid() && peer.uid == geteuid());
        open_gate(said);
        pause();
    }
    pass_gate(said);
    int server = accept(listener, NULL, NULL);
    SET_UP(server >= 0);
    SET_UP(getsockopt(server, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0);
    HOLDS(peer.pid == child && peer.gid == getegid());
    length = 4;
    CALL(getsockopt(server, SOL_SOCKET, SO_PEERCRED, &peer, &length));
    say("length %u", length);
    kill(child, SIGKILL);
    show_end("child", child);
}
