/* Pseudo-terminals: making them, their names, what their two ends see of each other. */
#include "terminal.h"

#include <sys/sysmacros.h>

TEST(a_master_has_a_numbered_slave_with_a_name) {
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    SET_UP(master >= 0);
    unsigned int number = 12345;
    CALL(ioctl(master, TIOCGPTN, &number));
    char path[64], expected[64];
    SET_UP(ptsname_r(master, path, sizeof path) == 0);
    snprintf(expected, sizeof expected, "/dev/pts/%u", number);
    HOLDS(strcmp(path, expected) == 0);
    struct stat status;
    CALL(stat(path, &status));
    say("%o", status.st_mode & S_IFMT);
    HOLDS(major(status.st_rdev) == 136 && minor(status.st_rdev) == number);
    HOLDS(status.st_uid == getuid());
    CALL(fstat(master, &status));
    HOLDS(status.st_rdev == makedev(5, 2));
    close(master);
    CALL(stat(path, &status));
    CALL(open(path, O_RDWR | O_NOCTTY));
}

TEST(a_slave_is_locked_until_it_is_unlocked) {
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY), lock = 7;
    SET_UP(master >= 0);
    CALL(ioctl(master, TIOCGPTLCK, &lock));
    say("lock %d", lock);
    CALL(open_slave(master, O_RDWR | O_NOCTTY));
    CALL(grantpt(master));
    CALL(unlockpt(master));
    CALL(ioctl(master, TIOCGPTLCK, &lock));
    say("lock %d", lock);
    CALL_OK(open_slave(master, O_RDWR | O_NOCTTY));
    lock = 1;
    CALL(ioctl(master, TIOCSPTLCK, &lock));
    CALL(open_slave(master, O_RDWR | O_NOCTTY));
    CALL(ioctl(master, TIOCSPTLCK, BAD_ADDRESS));
    CALL(ioctl(master, TIOCGPTN, BAD_ADDRESS));
}

TEST(both_ends_are_terminals) {
    struct pty pty = open_pty();
    HOLDS(isatty(pty.master) == 1);
    HOLDS(isatty(pty.slave) == 1);
    unsigned int device = 0, number = 0;
    SET_UP(ioctl(pty.master, TIOCGPTN, &number) == 0);
    CALL(ioctl(pty.slave, TIOCGPTN, &device));
    CALL(ioctl(pty.slave, TIOCGDEV, &device));
    HOLDS(device == (unsigned int)makedev(136, number));
    CALL(lseek(pty.slave, 0, SEEK_SET));
    CALL(lseek(pty.master, 0, SEEK_SET));
    CALL(ioctl(pty.slave, 0x12345678, 0));
    CALL(ioctl(pty.master, 0x12345678, 0));
}

TEST(the_peer_of_a_master_can_be_opened_without_its_name) {
    int master = open_master();
    struct stat one, other;
    int peer = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    HOLDS(peer > master);
    int named = open_slave(master, O_RDWR | O_NOCTTY);
    SET_UP(fstat(peer, &one) == 0 && fstat(named, &other) == 0);
    HOLDS(one.st_ino == other.st_ino && one.st_rdev == other.st_rdev);
    HOLDS(fcntl(peer, F_GETFD) == FD_CLOEXEC);
    CALL(write(peer, "x", 1));
    CALL(ioctl(named, TIOCGPTPEER, O_RDWR));
    char byte;
    CALL(read(master, &byte, 1));
}

TEST(bytes_go_both_ways) {
    struct pty pty = open_pty();
    CALL(write(pty.slave, "to the screen\n", 14));
    show_screen(pty);
    type(pty, "typed\r");
    show_read(pty, 100);
    show_screen(pty);
    int count = -1;
    type(pty, "abc\ndef\n");
    SET_UP(is_ready(pty.slave, 1000));
    sleep_ms(QUIET_MS);
    CALL(ioctl(pty.slave, FIONREAD, &count));
    say("%d to read", count);
    CALL(ioctl(pty.slave, TIOCOUTQ, &count));
    say("%d to send", count);
}

TEST(a_master_reads_eio_once_the_slave_is_closed) {
    int master = open_master();
    struct pollfd wait = {.fd = master, .events = POLLIN | POLLOUT};
    say("poll %d", poll(&wait, 1, 0));
    say("revents %x", wait.revents);
    int slave = open_slave(master, O_RDWR | O_NOCTTY);
    SET_UP(write(slave, "last words\n", 11) == 11);
    close(slave);
    char bytes[100];
    SET_UP(is_ready(master, 1000));
    say("poll %d", poll(&wait, 1, 0));
    say("revents %x", wait.revents);
    ssize_t got = read(master, bytes, sizeof bytes);
    show_bytes("read", bytes, got < 0 ? 0 : (size_t)got);
    CALL(read(master, bytes, sizeof bytes));
    CALL(read(master, bytes, sizeof bytes));
    say("poll %d", poll(&wait, 1, 0));
    say("revents %x", wait.revents);
    SET_UP(fcntl(master, F_SETFL, O_NONBLOCK) == 0);
    CALL(read(master, bytes, sizeof bytes));
    slave = open_slave(master, O_RDWR | O_NOCTTY);
    CALL(read(master, bytes, sizeof bytes));
    SET_UP(write(slave, "again", 5) == 5);
    SET_UP(is_ready(master, 1000));
    CALL(read(master, bytes, sizeof bytes));
}

TEST(a_master_that_was_never_answered_waits) {
    int master = open_master();
    char byte;
    SET_UP(fcntl(master, F_SETFL, O_NONBLOCK) == 0);
    CALL(read(master, &byte, 1));
    CALL(read(master, &byte, 0));
    CALL(write(master, "", 0));
}

TEST(a_slave_is_hung_up_once_the_master_is_closed) {
    struct pty pty = open_pty();
    type(pty, "unread\n");
    SET_UP(is_ready(pty.slave, 1000));
    close(pty.master);
    char bytes[10];
    CALL(read(pty.slave, bytes, sizeof bytes));
    CALL(write(pty.slave, "x", 1));
    struct termios settings;
    struct winsize size;
    int number = 0;
    pid_t group = getpgrp();
    CALL(tcgetattr(pty.slave, &settings));
    CALL(ioctl(pty.slave, TIOCGWINSZ, &size));
    CALL(ioctl(pty.slave, TIOCSPGRP, &group));
    CALL(ioctl(pty.slave, FIONREAD, &number));
    HOLDS(isatty(pty.slave) == 0);
    struct pollfd wait = {.fd = pty.slave, .events = POLLIN | POLLOUT};
    CALL(poll(&wait, 1, 0));
    say("revents %x", wait.revents);
}

TEST(a_reader_of_a_slave_is_woken_by_the_end_of_the_master) {
    struct pty pty = open_pty();
    struct gate ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        close(pty.master);
        open_gate(ready);
        char byte;
        CALL(read(pty.slave, &byte, 1));
        _exit(0);
    }
    pass_gate(ready);
    sleep_ms(50);
    close(pty.master);
    show_end("reader", child);
}

TEST(settings_are_those_of_a_new_terminal) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.slave);
    say("%x %x %x %x", settings.c_iflag, settings.c_oflag, settings.c_cflag, settings.c_lflag);
    show_bytes("special", settings.c_cc, 19);
    say("speeds %d %d", cfgetispeed(&settings) == B38400, cfgetospeed(&settings) == B38400);
    struct termios by_master = settings_of(pty.master);
    HOLDS(memcmp(&settings, &by_master, sizeof settings) == 0);
    struct winsize size = {1, 2, 3, 4};
    CALL(ioctl(pty.slave, TIOCGWINSZ, &size));
    say("%d %d %d %d", size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel);
}

TEST(settings_set_at_one_end_are_seen_at_the_other) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.master);
    settings.c_lflag &= ~(tcflag_t)ECHO;
    settings.c_cflag = (settings.c_cflag & ~(tcflag_t)CSIZE) | CS7 | PARENB;
    CALL(tcsetattr(pty.master, TCSANOW, &settings));
    settings = settings_of(pty.slave);
    say("%x %x", settings.c_lflag, settings.c_cflag);
    type(pty, "quiet\n");
    show_read(pty, 100);
    show_screen(pty);
    CALL(ioctl(pty.slave, TCGETS, BAD_ADDRESS));
    CALL(ioctl(pty.slave, TCSETS, BAD_ADDRESS));
    CALL(tcdrain(pty.slave));
    CALL(tcsendbreak(pty.slave, 0));
    CALL(tcflow(pty.slave, 17));
    CALL(tcflush(pty.slave, 17));
}

TEST(speeds_are_kept_in_both_forms) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.slave);
    SET_UP(cfsetspeed(&settings, B9600) == 0);
    set_settings(pty.slave, &settings);
    struct {
        unsigned int flags[4];
        unsigned char line, special[19];
        unsigned int in, out;
    } wide;
    CALL(ioctl(pty.slave, 0x802c542a, &wide));
    say("%u %u", wide.in, wide.out);
    wide.flags[2] = (wide.flags[2] & ~(unsigned)CBAUD) | 010000;
    wide.in = wide.out = 12345;
    CALL(ioctl(pty.slave, 0x402c542b, &wide));
    memset(&wide, 0, sizeof wide);
    CALL(ioctl(pty.slave, 0x802c542a, &wide));
    say("%u %u %x", wide.in, wide.out, wide.flags[2] & CBAUD);
    struct {
        unsigned short flags[4];
        unsigned char line, special[8], pad;
    } old;
    memset(&old, 0, sizeof old);
    CALL(ioctl(pty.slave, TCGETA, &old));
    say("%x %x %x %x", old.flags[0], old.flags[1], old.flags[2], old.flags[3]);
    old.flags[3] &= (unsigned short)~ECHO;
    CALL(ioctl(pty.slave, TCSETAW, &old));
    say("%x", settings_of(pty.slave).c_lflag);
}

static volatile sig_atomic_t winches;

static void count_winch(int signal_number) {
    (void)signal_number;
    winches++;
}

TEST(a_new_window_size_is_told_to_the_foreground) {
    struct pty pty = open_pty();
    struct gate ready = make_gate(), told = make_gate();
    pid_t child = fork_session(pty);
    if (child == 0) {
        handle(SIGWINCH, count_winch, 0);
        open_gate(ready);
        pass_gate(told);
        struct winsize size;
        CALL(ioctl(pty.slave, TIOCGWINSZ, &size));
        say("%d times: %d rows, %d columns", winches, size.ws_row, size.ws_col);
        _exit(0);
    }
    pass_gate(ready);
    struct winsize size = {.ws_row = 30, .ws_col = 100};
    CALL(ioctl(pty.master, TIOCSWINSZ, &size));
    CALL(ioctl(pty.master, TIOCSWINSZ, &size));
    open_gate(told);
    show_end("child", child);
}

TEST(packet_mode_marks_data_and_tells_of_the_slave) {
    struct pty pty = open_pty();
    int mode = 1;
    char bytes[100];
    CALL(ioctl(pty.master, TIOCPKT, &mode));
    mode = 7;
    CALL(ioctl(pty.master, TIOCGPKT, &mode));
    say("mode %d", mode);
    SET_UP(write(pty.slave, "data", 4) == 4);
    SET_UP(is_ready(pty.master, 1000));
    ssize_t got = read(pty.master, bytes, sizeof bytes);
    show_bytes("packet", bytes, got < 0 ? 0 : (size_t)got);
    CALL(tcflow(pty.slave, TCOOFF));
    struct pollfd wait = {.fd = pty.master, .events = POLLIN | POLLPRI};
    CALL(poll(&wait, 1, 0));
    say("revents %x", wait.revents);
    got = read(pty.master, bytes, sizeof bytes);
    show_bytes("packet", bytes, got < 0 ? 0 : (size_t)got);
    CALL(tcflow(pty.slave, TCOON));
    CALL(tcflush(pty.slave, TCIFLUSH));
    got = read(pty.master, bytes, sizeof bytes);
    show_bytes("packet", bytes, got < 0 ? 0 : (size_t)got);
    struct termios settings = settings_of(pty.slave);
    settings.c_iflag &= ~(tcflag_t)IXON;
    set_settings(pty.slave, &settings);
    got = read(pty.master, bytes, sizeof bytes);
    show_bytes("packet", bytes, got < 0 ? 0 : (size_t)got);
    settings.c_iflag |= IXON;
    set_settings(pty.slave, &settings);
    got = read(pty.master, bytes, sizeof bytes);
    show_bytes("packet", bytes, got < 0 ? 0 : (size_t)got);
    mode = 0;
    CALL(ioctl(pty.master, TIOCPKT, &mode));
    SET_UP(write(pty.slave, "plain", 5) == 5);
    show_screen(pty);
    CALL(ioctl(pty.slave, TIOCPKT, &mode));
}

TEST(a_master_can_send_the_signals_of_the_keyboard) {
    struct pty pty = open_pty();
    struct gate ready = make_gate();
    pid_t child = fork_session(pty);
    if (child == 0) {
        open_gate(ready);
        pause();
        _exit(0);
    }
    pass_gate(ready);
    CALL(ioctl(pty.master, TIOCSIG, SIGTERM));
    CALL(ioctl(pty.slave, TIOCSIG, SIGINT));
    CALL(ioctl(pty.master, TIOCSIG, SIGQUIT));
    int status;
    SET_UP(waitpid(child, &status, 0) == child);
    say("ended by %s", signal_name(WTERMSIG(status)));
}

TEST(numbers_are_used_again) {
    unsigned int numbers[3], again;
    int masters[3];
    for (int i = 0; i < 3; i++) {
        masters[i] = open_master();
        SET_UP(ioctl(masters[i], TIOCGPTN, &numbers[i]) == 0);
    }
    HOLDS(numbers[0] != numbers[1] && numbers[1] != numbers[2]);
    close(masters[1]);
    masters[1] = open_master();
    SET_UP(ioctl(masters[1], TIOCGPTN, &again) == 0);
    HOLDS(again == numbers[1]);
}

TEST(nothing_can_be_made_or_removed_among_the_slaves) {
    struct pty pty = open_pty();
    char path[64];
    SET_UP(ptsname_r(pty.master, path, sizeof path) == 0);
    CALL(mkdir("/dev/pts/directory", 0755));
    CALL(open("/dev/pts/file", O_CREAT | O_WRONLY, 0644));
    HOLDS(unlink(path) == -1 && errno == EPERM);
    CALL(access("/dev/pts/4095", F_OK));
    CALL(access("/dev/pts/00", F_OK));
    HOLDS(chmod(path, 0640) == 0);
    struct stat status;
    SET_UP(stat(path, &status) == 0);
    say("%o", status.st_mode & 07777);
}

TEST(requests_that_many_files_know) {
    struct pty pty = open_pty();
    int on = 1, off = 0;
    CALL(ioctl(pty.slave, FIONBIO, &on));
    char byte;
    CALL(read(pty.slave, &byte, 1));
    CALL(ioctl(pty.slave, FIONBIO, &off));
    CALL(ioctl(pty.slave, FIOASYNC, &on));
    say("%x", fcntl(pty.slave, F_GETFL) & (O_ASYNC | O_NONBLOCK));
    CALL(ioctl(pty.slave, FIOASYNC, &off));
    say("%x", fcntl(pty.slave, F_GETFL) & (O_ASYNC | O_NONBLOCK));
    CALL(ioctl(pty.slave, FIOCLEX));
    say("%x", fcntl(pty.slave, F_GETFD));
    CALL(ioctl(pty.slave, FIONCLEX));
    say("%x", fcntl(pty.slave, F_GETFD));
    CALL(ioctl(pty.slave, FIOASYNC, BAD_ADDRESS));
    make_text("file", "text");
    int fd = open("file", O_RDWR);
    CALL(ioctl(fd, FIOASYNC, &off));
    CALL(ioctl(fd, FIOASYNC, &on));
    CALL(ioctl(fd, TCGETS, BAD_ADDRESS));
}

TEST(a_full_slave_makes_its_writers_wait) {
    struct pty pty = open_pty();
    SET_UP(fcntl(pty.slave, F_SETFL, O_NONBLOCK) == 0);
    static char bytes[1024];
    memset(bytes, 'x', sizeof bytes);
    long total = 0;
    for (ssize_t got; (got = write(pty.slave, bytes, sizeof bytes)) > 0 && total < (1 << 20);)
        total += got;
    say("%s", errno_name(errno));
    HOLDS(total >= 4096 && total < (1 << 20));
    struct pollfd wait = {.fd = pty.slave, .events = POLLOUT};
    long read_total = 0;
    while (is_ready(pty.master, QUIET_MS)) {
        ssize_t got = read(pty.master, bytes, sizeof bytes);
        if (got <= 0)
            break;
        read_total += got;
    }
    HOLDS(read_total == total);
    CALL(poll(&wait, 1, 1000));
}

/* The kernel's `struct termios`, which is shorter than the library's. */
struct kernel_termios {
    unsigned flags[4];
    unsigned char line, special[19];
};

ROOT_TEST(locked_settings_stay) {
    struct pty pty = open_pty();
    struct kernel_termios locked, settings;
    memset(&locked, 'x', sizeof locked);
    CALL(ioctl(pty.slave, 0x5456 /* TIOCGLCKTRMIOS */, &locked));
    struct kernel_termios nothing = {0};
    HOLDS(memcmp(&locked, &nothing, sizeof locked) == 0);
    locked.flags[3] = ECHO | ICANON;
    locked.special[VINTR] = 1;
    CALL(ioctl(pty.slave, 0x5457 /* TIOCSLCKTRMIOS */, &locked));
    SET_UP(ioctl(pty.slave, TCGETS, &settings) == 0);
    settings.flags[3] &= ~(unsigned)(ECHO | ICANON | ISIG);
    settings.special[VINTR] = 'i';
    settings.special[VQUIT] = 'q';
    CALL(ioctl(pty.slave, TCSETS, &settings));
    SET_UP(ioctl(pty.slave, TCGETS, &settings) == 0);
    say("local %#x, interrupt %#x, quit %#x", settings.flags[3], settings.special[VINTR], settings.special[VQUIT]);
    struct kernel_termios shown;
    CALL(ioctl(pty.master, 0x5456, &shown));
    HOLDS(memcmp(&shown, &locked, sizeof locked) == 0);
    CALL(ioctl(pty.slave, 0x5457, &nothing));
    settings.flags[3] &= ~(unsigned)ECHO;
    CALL(ioctl(pty.slave, TCSETS, &settings));
    SET_UP(ioctl(pty.slave, TCGETS, &settings) == 0);
    say("local %#x", settings.flags[3]);
    CALL(ioctl(pty.slave, 0x5457, (void *)1));
    pid_t child = fork_child();
    if (child == 0) {
        drop_to(54321, 54321);
        CALL(ioctl(pty.slave, 0x5457, &nothing));
        CALL(ioctl(pty.slave, 0x5456, &shown));
        _exit(0);
    }
    show_end("child", child);
}

TEST(a_terminal_for_one_alone) {
    struct pty pty = open_pty();
    int is_exclusive = 7;
    CALL(ioctl(pty.slave, TIOCGEXCL, &is_exclusive));
    say("%d", is_exclusive);
    CALL(ioctl(pty.slave, TIOCEXCL));
    CALL(ioctl(pty.slave, TIOCGEXCL, &is_exclusive));
    say("%d", is_exclusive);
    pid_t child = fork_child();
    if (child == 0) {
        char path[64];
        SET_UP(ptsname_r(pty.master, path, sizeof path) == 0);
        if (getuid() == 0)
            SET_UP(chmod(path, 0666) == 0);
        drop_to(NOBODY, NOBODY);
        CALL(open(path, O_RDWR | O_NOCTTY));
        _exit(0);
    }
    show_end("child", child);
    CALL(ioctl(pty.slave, TIOCNXCL));
}
