/* The line discipline, at the slave of a pseudo-terminal: what is typed, what is shown, what is read. */
#include "terminal.h"

TEST(lines_are_edited_before_they_are_read) {
    struct pty pty = open_pty();
    type(pty, "abc\177\177xy");
    show_read(pty, 100);
    show_screen(pty);
    type(pty, " word gone\027here\n");
    show_read(pty, 100);
    show_screen(pty);
    type(pty, "never\025kept\n");
    show_read(pty, 100);
    show_screen(pty);
    type(pty, "a\026\003b\001c\n");
    show_read(pty, 100);
    show_screen(pty);
    type(pty, "again\022!\n");
    show_read(pty, 100);
    show_screen(pty);
}

TEST(a_read_gives_one_line_or_a_part_of_it) {
    struct pty pty = open_pty();
    type(pty, "first line\nsecond\n");
    show_read(pty, 5);
    show_read(pty, 100);
    show_read(pty, 100);
    show_read(pty, 100);
}

TEST(end_of_file_ends_a_line_or_the_file) {
    struct pty pty = open_pty();
    type(pty, "part\004");
    show_read(pty, 100);
    type(pty, "\004");
    show_read(pty, 100);
    show_read(pty, 100);
    type(pty, "1234\004rest\n");
    show_read(pty, 4);
    show_read(pty, 100);
    show_screen(pty);
}

TEST(a_line_keeps_no_more_than_4095_bytes) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.slave);
    settings.c_lflag &= ~(tcflag_t)ECHO;
    set_settings(pty.slave, &settings);
    static char line[5000];
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\n';
    for (size_t sent = 0; sent < sizeof line; sent += 500) {
        type_bytes(pty, line + sent, 500);
        sleep_ms(10);
    }
    static char read_bytes[8192];
    SET_UP(is_ready(pty.slave, 2000));
    ssize_t got = read(pty.slave, read_bytes, sizeof read_bytes);
    say("%zd bytes, the last is %s", got, got > 0 && read_bytes[got - 1] == '\n' ? "a newline" : "another");
    show_read(pty, 10);
}

TEST(other_ends_of_lines) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.slave);
    settings.c_cc[VEOL] = ';';
    settings.c_cc[VEOL2] = '|';
    set_settings(pty.slave, &settings);
    type(pty, "one;two|three\n");
    show_read(pty, 100);
    show_read(pty, 100);
    show_read(pty, 100);
    show_screen(pty);
}

TEST(input_conversions) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.slave);
    settings.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    struct termios plain = settings;
    static const struct {
        const char *name;
        tcflag_t flags;
    } modes[] = {{"none", 0},
                 {"ICRNL", ICRNL},
                 {"INLCR", INLCR},
                 {"IGNCR", IGNCR},
                 {"ISTRIP", ISTRIP},
                 {"PARMRK", PARMRK},
                 {"PARMRK and ISTRIP", PARMRK | ISTRIP},
                 {"IUCLC", IUCLC}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        settings = plain;
        settings.c_iflag = modes[i].flags;
        set_settings(pty.slave, &settings);
        say("%s", modes[i].name);
        type(pty, "Ab\r\n\377\301z");
        sleep_ms(QUIET_MS);
        show_read(pty, 100);
    }
}

TEST(output_conversions) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.slave);
    static const struct {
        const char *name;
        tcflag_t flags;
    } modes[] = {{"none", 0},
                 {"OPOST", OPOST},
                 {"ONLCR", OPOST | ONLCR},
                 {"OCRNL", OPOST | OCRNL},
                 {"ONOCR", OPOST | ONOCR},
                 {"ONLRET", OPOST | ONLRET | ONOCR},
                 {"XTABS", OPOST | XTABS},
                 {"OLCUC", OPOST | OLCUC},
                 {"without OPOST", ONLCR | OCRNL | XTABS}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        settings.c_oflag = modes[i].flags;
        set_settings(pty.slave, &settings);
        say("%s", modes[i].name);
        SET_UP(write(pty.slave, "\rab\tc\n\rd\r\n", 10) == 10);
        show_screen(pty);
    }
}

TEST(echo_in_its_forms) {
    static const struct {
        const char *name;
        tcflag_t on, off;
    } modes[] = {{"usual", 0, 0},         {"without ECHOE", 0, ECHOE},   {"without ECHOK", 0, ECHOK},
                 {"without ECHOKE", 0, ECHOKE}, {"without ECHOCTL", 0, ECHOCTL}, {"ECHOPRT", ECHOPRT, 0},
                 {"ECHONL", ECHONL, ECHO},  {"without IEXTEN", 0, IEXTEN}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct pty pty = open_pty();
        struct termios settings = settings_of(pty.slave);
        settings.c_lflag = (settings.c_lflag | modes[i].on) & ~modes[i].off;
        set_settings(pty.slave, &settings);
        say("%s", modes[i].name);
        type(pty, "a\001\tb\177\177\177c d\027e\025f\026\026g\n");
        show_read(pty, 100);
        show_screen(pty);
        close(pty.slave);
        close(pty.master);
    }
}

TEST(characters_of_several_bytes_are_erased_as_one) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.slave);
    type(pty, "a\303\244\342\202\254\177b\n");
    show_read(pty, 100);
    show_screen(pty);
    settings.c_iflag |= IUTF8;
    set_settings(pty.slave, &settings);
    type(pty, "a\303\244\342\202\254\177b\n");
    show_read(pty, 100);
    show_screen(pty);
}

TEST(a_character_of_zero_is_no_special_one) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.slave);
    settings.c_cc[VERASE] = _POSIX_VDISABLE;
    settings.c_cc[VINTR] = _POSIX_VDISABLE;
    set_settings(pty.slave, &settings);
    type_bytes(pty, "a\177\003\000b\n", 6);
    show_read(pty, 100);
    show_screen(pty);
}

TEST(changing_to_raw_mode_and_back_keeps_what_was_typed) {
    struct pty pty = open_pty();
    struct termios canonical = settings_of(pty.slave), raw = canonical;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    type(pty, "typed before");
    sleep_ms(QUIET_MS);
    show_read(pty, 5);
    set_settings(pty.slave, &raw);
    show_read(pty, 5);
    show_read(pty, 100);
    type(pty, "and after");
    sleep_ms(QUIET_MS);
    set_settings(pty.slave, &canonical);
    show_read(pty, 100);
    type(pty, "line\n");
    show_read(pty, 100);
    type(pty, "lost");
    sleep_ms(QUIET_MS);
    CALL(tcsetattr(pty.slave, TCSAFLUSH, &raw));
    show_read(pty, 100);
}

/* The time of a read in tenths of a second, rounded down. */
static void show_timed_read(struct pty pty, size_t length, long at_least_ms) {
    char bytes[100];
    long before = now_ms();
    ssize_t got = read(pty.slave, bytes, length);
    bool in_time = now_ms() - before >= at_least_ms - 20;
    show_bytes("read", bytes, got < 0 ? 0 : (size_t)got);
    say("%s", in_time ? "not before its time" : "too early");
}

TEST(reads_with_limits_of_number_and_time) {
    struct pty pty = open_pty();
    say("neither");
    make_raw(pty.slave, 0, 0);
    show_timed_read(pty, 10, 0);
    type(pty, "ab");
    sleep_ms(QUIET_MS);
    show_timed_read(pty, 10, 0);
    say("time alone");
    make_raw(pty.slave, 0, 2);
    show_timed_read(pty, 10, 200);
    type(pty, "ab");
    sleep_ms(QUIET_MS);
    show_timed_read(pty, 10, 0);
    say("number alone");
    make_raw(pty.slave, 3, 0);
    type(pty, "abcd");
    sleep_ms(QUIET_MS);
    show_timed_read(pty, 10, 0);
    type(pty, "ab");
    sleep_ms(QUIET_MS);
    show_timed_read(pty, 2, 0);
    say("both");
    make_raw(pty.slave, 3, 2);
    type(pty, "ab");
    sleep_ms(QUIET_MS);
    show_timed_read(pty, 10, 200);
}

TEST(a_number_of_bytes_decides_what_is_ready) {
    struct pty pty = open_pty();
    make_raw(pty.slave, 3, 0);
    struct pollfd wait = {.fd = pty.slave, .events = POLLIN};
    type(pty, "ab");
    sleep_ms(QUIET_MS);
    CALL(poll(&wait, 1, 0));
    type(pty, "c");
    CALL(poll(&wait, 1, 1000));
    SET_UP(fcntl(pty.slave, F_SETFL, O_NONBLOCK) == 0);
    char bytes[10];
    CALL(read(pty.slave, bytes, 2));
    CALL(read(pty.slave, bytes, 10));
    CALL(read(pty.slave, bytes, 10));
}

TEST(output_can_be_stopped_and_goes_on) {
    struct pty pty = open_pty();
    SET_UP(fcntl(pty.slave, F_SETFL, O_NONBLOCK) == 0);
    SET_UP(write(pty.slave, "before ", 7) == 7);
    type(pty, "\023");
    sleep_ms(QUIET_MS);
    CALL(write(pty.slave, "x", 1));
    struct pollfd wait = {.fd = pty.slave, .events = POLLOUT};
    CALL(poll(&wait, 1, 0));
    show_screen(pty);
    type(pty, "\021");
    CALL(poll(&wait, 1, 1000));
    CALL(write(pty.slave, "after", 5));
    show_screen(pty);
    CALL(tcflow(pty.slave, TCOOFF));
    CALL(write(pty.slave, "x", 1));
    type(pty, "\021");
    sleep_ms(QUIET_MS);
    CALL(write(pty.slave, "x", 1));
    CALL(tcflow(pty.slave, TCOON));
    CALL(write(pty.slave, "y", 1));
    show_screen(pty);
    CALL(tcflow(pty.slave, TCIOFF));
    CALL(tcflow(pty.slave, TCION));
    show_screen(pty);
}

TEST(any_key_can_let_output_go_on) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.slave);
    settings.c_iflag |= IXANY;
    set_settings(pty.slave, &settings);
    type(pty, "\023");
    sleep_ms(QUIET_MS);
    type(pty, "k");
    show_screen(pty);
    settings.c_iflag &= ~(tcflag_t)(IXANY | IXON);
    set_settings(pty.slave, &settings);
    type(pty, "\023\021\n");
    show_read(pty, 100);
    show_screen(pty);
}

TEST(flushing_throws_away_what_was_typed) {
    struct pty pty = open_pty();
    type(pty, "gone\nalso gone");
    SET_UP(is_ready(pty.slave, 1000));
    sleep_ms(QUIET_MS);
    CALL(tcflush(pty.slave, TCIFLUSH));
    show_read(pty, 100);
    type(pty, "here\n");
    show_read(pty, 100);
    show_screen(pty);
    SET_UP(write(pty.slave, "shown", 5) == 5);
    sleep_ms(QUIET_MS);
    CALL(tcflush(pty.slave, TCOFLUSH));
    show_screen(pty);
    SET_UP(write(pty.slave, "not shown", 9) == 9);
    sleep_ms(QUIET_MS);
    CALL(tcflush(pty.master, TCIFLUSH));
    show_screen(pty);
}

ROOT_TEST(what_is_stuffed_is_as_if_typed) {
    struct pty pty = open_pty();
    CALL(ioctl(pty.slave, TIOCSTI, "h"));
    CALL(ioctl(pty.slave, TIOCSTI, "i"));
    CALL(ioctl(pty.slave, TIOCSTI, "\r"));
    CALL(ioctl(pty.slave, TIOCSTI, BAD_ADDRESS));
    show_read(pty, 100);
    show_screen(pty);
}

TEST(somebody_else_can_edit_the_lines) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.slave);
    settings.c_lflag |= EXTPROC;
    set_settings(pty.slave, &settings);
    type(pty, "a\177\003b");
    sleep_ms(QUIET_MS);
    show_read(pty, 100);
    show_screen(pty);
}

TEST(an_interrupted_read_can_go_on) {
    struct pty pty = open_pty();
    keep_interrupting();
    char bytes[10];
    CALL(read(pty.slave, bytes, sizeof bytes));
    stop_interrupting();
}
