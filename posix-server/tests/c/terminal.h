/*
 * What cases at terminals share: a pseudo-terminal whose two ends are one process's, and a person at its keyboard.
 */
#ifndef TERMINAL_H
#define TERMINAL_H

#include "case.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

/* How long an end is quiet until it is taken to have said all. */
#define QUIET_MS 120

struct pty {
    int master;
    int slave;
};

/* A pseudo-terminal, unlocked, whose slave controls nobody. */
static inline int open_master(void) {
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    SET_UP(master >= 0 && unlockpt(master) == 0);
    return master;
}

static inline int open_slave(int master, int flags) {
    char path[64];
    SET_UP(ptsname_r(master, path, sizeof path) == 0);
    return open(path, flags);
}

static inline struct pty open_pty(void) {
    struct pty pty;
    pty.master = open_master();
    SET_UP((pty.slave = open_slave(pty.master, O_RDWR | O_NOCTTY)) >= 0);
    return pty;
}

static inline bool is_ready(int fd, int timeout_ms) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    return poll(&wait, 1, timeout_ms) > 0 && (wait.revents & POLLIN);
}

/* Reads until nothing more comes. */
static inline size_t read_all(int fd, char *bytes, size_t size) {
    size_t have = 0;
    while (have < size && is_ready(fd, QUIET_MS)) {
        ssize_t got = read(fd, bytes + have, size - have);
        if (got <= 0)
            break;
        have += (size_t)got;
    }
    return have;
}

/* Prints what the screen shows until nothing more comes. */
static inline void show_screen(struct pty pty) {
    static char screen[65536];
    show_bytes("screen", screen, read_all(pty.master, screen, sizeof screen));
}

static inline void type_bytes(struct pty pty, const char *bytes, size_t length) {
    SET_UP(write(pty.master, bytes, length) == (ssize_t)length);
}

static inline void type(struct pty pty, const char *text) {
    type_bytes(pty, text, strlen(text));
}

/* Prints what one read gives a program, or that it would wait. */
static inline void show_read(struct pty pty, size_t length) {
    static char bytes[8192];
    if (!is_ready(pty.slave, QUIET_MS)) {
        say("read: nothing");
        return;
    }
    ssize_t got = read(pty.slave, bytes, length);
    if (got < 0)
        say("read: %s", errno_name(errno));
    else
        show_bytes("read", bytes, (size_t)got);
}

static inline struct termios settings_of(int fd) {
    struct termios settings;
    SET_UP(tcgetattr(fd, &settings) == 0);
    return settings;
}

static inline void set_settings(int fd, const struct termios *settings) {
    SET_UP(tcsetattr(fd, TCSANOW, settings) == 0);
}

/* Out of canonical mode, with these limits. */
static inline void make_raw(int fd, cc_t minimum, cc_t tenths) {
    struct termios settings = settings_of(fd);
    cfmakeraw(&settings);
    settings.c_cc[VMIN] = minimum;
    settings.c_cc[VTIME] = tenths;
    set_settings(fd, &settings);
}

/* A child that leads a session with the slave as its controlling terminal and standard streams. */
static inline pid_t fork_session(struct pty pty) {
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(setsid() == getpid());
        SET_UP(ioctl(pty.slave, TIOCSCTTY, 0) == 0);
        close(pty.master);
    }
    return child;
}

#endif
