/* Job control: sessions, their terminals, foreground and background. */
#include "terminal.h"

static volatile sig_atomic_t received[65];

static void note(int signal_number) {
    received[signal_number]++;
}

/* A child of a session's leader, in a group of its own, that waits until its parent lets it go. */
static pid_t fork_job(struct gate go) {
    pid_t child = fork_child();
    if (child == 0) {
        setpgid(0, 0);
        pass_gate(go);
        return 0;
    }
    SET_UP(setpgid(child, child) == 0);
    return child;
}

/* How a job ended or stopped. */
static void show_job(const char *what, pid_t child) {
    int status;
    SET_UP(waitpid(child, &status, WUNTRACED) == child);
    show_status(what, status);
}

TEST(a_leader_gets_a_terminal_by_opening_it) {
    int master = open_master();
    pid_t child = fork_child();
    if (child == 0) {
        CALL(open("/dev/tty", O_RDWR));
        SET_UP(setsid() == getpid());
        CALL(open("/dev/tty", O_RDWR));
        int slave = open_slave(master, O_RDWR | O_NOCTTY);
        CALL(open("/dev/tty", O_RDWR));
        HOLDS(tcgetpgrp(slave) == -1 && errno == ENOTTY);
        CALL(tcgetsid(slave));
        close(slave);
        slave = open_slave(master, O_WRONLY);
        HOLDS(tcgetpgrp(slave) == -1);
        slave = open_slave(master, O_RDWR);
        HOLDS(tcgetpgrp(slave) == getpgrp());
        HOLDS(tcgetsid(slave) == getpid());
        int terminal = open("/dev/tty", O_RDWR);
        HOLDS(terminal >= 0 && tcgetpgrp(terminal) == getpgrp());
        CALL(write(terminal, "x", 1));
        HOLDS(tcgetpgrp(master) == getpgrp());
        HOLDS(tcgetsid(master) == getpid());
        _exit(0);
    }
    show_end("leader", child);
    char byte;
    SET_UP(read(master, &byte, 1) == 1);
    say("%c", byte);
    HOLDS(tcgetpgrp(master) == 0);
    CALL(tcgetsid(master));
}

TEST(only_a_leader_without_a_terminal_takes_one) {
    struct pty one = open_pty(), other = open_pty();
    CALL(ioctl(one.slave, TIOCSCTTY, 0));
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(setsid() == getpid());
        CALL(ioctl(one.slave, TIOCSCTTY, 0));
        CALL(ioctl(one.slave, TIOCSCTTY, 0));
        CALL(ioctl(other.slave, TIOCSCTTY, 0));
        struct gate end = make_gate();
        pid_t rival = fork_child();
        if (rival == 0) {
            CALL(ioctl(other.slave, TIOCSCTTY, 0));
            SET_UP(setsid() == getpid());
            CALL(ioctl(one.slave, TIOCSCTTY, 0));
            open_gate(end);
            _exit(0);
        }
        show_end("rival", rival);
        signal(SIGHUP, SIG_IGN);
        CALL(ioctl(one.slave, TIOCNOTTY));
        CALL(ioctl(one.slave, TIOCNOTTY));
        CALL(open("/dev/tty", O_RDWR));
        CALL(ioctl(other.slave, TIOCSCTTY, 0));
        _exit(0);
    }
    show_end("leader", child);
}

ROOT_TEST(the_superuser_takes_a_terminal_from_another_session) {
    struct pty pty = open_pty();
    struct gate end = make_gate(), stolen = make_gate();
    pid_t leader = fork_session(pty);
    if (leader == 0) {
        open_gate(end);
        pass_gate(stolen);
        CALL(open("/dev/tty", O_RDWR));
        HOLDS(tcgetpgrp(pty.slave) == -1);
        _exit(0);
    }
    pass_gate(end);
    pid_t thief = fork_child();
    if (thief == 0) {
        SET_UP(setsid() == getpid());
        CALL(ioctl(pty.slave, TIOCSCTTY, 0));
        CALL(ioctl(pty.slave, TIOCSCTTY, 1));
        HOLDS(tcgetsid(pty.slave) == getpid());
        open_gate(stolen);
        _exit(0);
    }
    int status;
    SET_UP(waitpid(leader, &status, 0) == leader);
    show_status("leader", status);
    SET_UP(waitpid(thief, &status, 0) == thief);
}

TEST(giving_the_terminal_up_hangs_the_foreground_up) {
    struct pty pty = open_pty();
    pid_t child = fork_session(pty);
    if (child == 0) {
        handle(SIGHUP, note, 0);
        handle(SIGCONT, note, 0);
        CALL(ioctl(pty.slave, TIOCNOTTY));
        say("%d hang-ups, %d continuations", received[SIGHUP], received[SIGCONT]);
        _exit(0);
    }
    show_end("leader", child);
}

TEST(keys_send_signals_to_the_foreground) {
    static const char keys[] = {'\003', '\034', '\032'};
    for (size_t i = 0; i < sizeof keys; i++) {
        struct pty pty = open_pty();
        struct gate ready = make_gate();
        pid_t leader = fork_session(pty);
        if (leader == 0) {
            struct gate go = make_gate();
            pid_t job = fork_job(go);
            if (job == 0)
                for (;;)
                    pause();
            signal(SIGTTOU, SIG_IGN);
            SET_UP(tcsetpgrp(pty.slave, job) == 0);
            open_gate(go);
            open_gate(ready);
            show_job("job", job);
            kill(job, SIGKILL);
            _exit(0);
        }
        pass_gate(ready);
        type_bytes(pty, &keys[i], 1);
        show_end("leader", leader);
        show_screen(pty);
        close(pty.slave);
        close(pty.master);
    }
}

TEST(a_signal_key_flushes_unless_it_must_not) {
    struct pty pty = open_pty();
    struct termios settings = settings_of(pty.slave);
    type(pty, "gone\003here\n");
    show_read(pty, 100);
    show_screen(pty);
    settings.c_lflag |= NOFLSH;
    set_settings(pty.slave, &settings);
    type(pty, "kept \003here\n");
    show_read(pty, 100);
    show_screen(pty);
    settings.c_lflag &= ~(tcflag_t)ISIG;
    set_settings(pty.slave, &settings);
    type(pty, "no \003 signal\n");
    show_read(pty, 100);
    show_screen(pty);
}

/* What becomes of a background job that does something to the terminal. */
static void show_background(const char *what, void (*act)(int slave), int ignored, tcflag_t flags) {
    struct pty pty = open_pty();
    pid_t leader = fork_session(pty);
    if (leader == 0) {
        struct termios settings = settings_of(pty.slave);
        settings.c_lflag |= flags;
        set_settings(pty.slave, &settings);
        struct gate go = make_gate();
        pid_t job = fork_job(go);
        if (job == 0) {
            if (ignored)
                signal(ignored, SIG_IGN);
            act(pty.slave);
            _exit(0);
        }
        open_gate(go);
        show_job(what, job);
        kill(job, SIGKILL);
        _exit(0);
    }
    show_end("leader", leader);
    close(pty.slave);
    close(pty.master);
}

static void do_read(int slave) {
    char byte;
    CALL(read(slave, &byte, 1));
}

static void do_write(int slave) {
    CALL(write(slave, "x", 1));
}

static void do_set(int slave) {
    struct termios settings = settings_of(slave);
    CALL(tcsetattr(slave, TCSANOW, &settings));
}

static void do_set_group(int slave) {
    CALL(tcsetpgrp(slave, getpgrp()));
}

static void do_flush(int slave) {
    CALL(tcflush(slave, TCIFLUSH));
}

static void do_get(int slave) {
    struct termios settings;
    CALL(tcgetattr(slave, &settings));
    HOLDS(tcgetpgrp(slave) == getppid());
}

static void do_resize(int slave) {
    struct winsize size = {.ws_row = 10, .ws_col = 10};
    CALL(ioctl(slave, TIOCSWINSZ, &size));
}

TEST(a_background_job_is_stopped_when_it_reads) {
    show_background("reads", do_read, 0, 0);
    show_background("reads, ignoring the signal", do_read, SIGTTIN, 0);
}

TEST(a_background_job_may_write_unless_the_terminal_stops_it) {
    show_background("writes", do_write, 0, 0);
    show_background("writes, with TOSTOP", do_write, 0, TOSTOP);
    show_background("writes, with TOSTOP, ignoring the signal", do_write, SIGTTOU, TOSTOP);
}

TEST(a_background_job_is_stopped_when_it_changes_the_terminal) {
    show_background("sets", do_set, 0, 0);
    show_background("sets, ignoring the signal", do_set, SIGTTOU, 0);
    show_background("sets the group", do_set_group, 0, 0);
    show_background("sets the group, ignoring the signal", do_set_group, SIGTTOU, 0);
    show_background("flushes", do_flush, 0, 0);
    show_background("asks", do_get, 0, 0);
    show_background("resizes", do_resize, 0, 0);
}

TEST(an_orphaned_background_job_gets_errors) {
    struct pty pty = open_pty();
    struct gate done = make_gate(), shown = make_gate();
    pid_t leader = fork_session(pty);
    if (leader == 0) {
        struct gate go = make_gate();
        pid_t job = fork_job(go);
        if (job == 0) {
            pid_t parent = getpid(), orphan = fork_child();
            if (orphan == 0) {
                while (getppid() == parent)
                    sleep_ms(1);
                pass_gate(shown);
                do_read(pty.slave);
                do_set(pty.slave);
                do_set_group(pty.slave);
                do_write(pty.slave);
                open_gate(done);
                _exit(0);
            }
            _exit(0);
        }
        open_gate(go);
        show_job("job", job);
        open_gate(shown);
        pass_gate(done);
        _exit(0);
    }
    show_end("leader", leader);
}

TEST(the_foreground_can_only_be_a_group_of_the_session) {
    struct pty pty = open_pty();
    pid_t outside = getpgrp();
    pid_t leader = fork_session(pty);
    if (leader == 0) {
        CALL(tcsetpgrp(pty.slave, outside));
        CALL(tcsetpgrp(pty.slave, INT_MAX));
        CALL(tcsetpgrp(pty.slave, -1));
        CALL(ioctl(pty.slave, TIOCSPGRP, BAD_ADDRESS));
        CALL(tcsetpgrp(pty.slave, getpgrp()));
        _exit(0);
    }
    show_end("leader", leader);
    CALL(tcsetpgrp(pty.slave, getpgrp()));
    CALL(tcsetpgrp(pty.master, getpgrp()));
}

TEST(a_job_is_stopped_and_brought_back) {
    struct pty pty = open_pty();
    pid_t leader = fork_session(pty);
    if (leader == 0) {
        signal(SIGTTOU, SIG_IGN);
        struct gate go = make_gate();
        pid_t job = fork_job(go);
        if (job == 0) {
            char line[100];
            ssize_t got = read(pty.slave, line, sizeof line);
            show_bytes("job reads", line, got < 0 ? 0 : (size_t)got);
            _exit(7);
        }
        open_gate(go);
        show_job("in the background", job);
        SET_UP(tcsetpgrp(pty.slave, job) == 0 && kill(-job, SIGCONT) == 0);
        show_job("in the foreground", job);
        SET_UP(tcsetpgrp(pty.slave, getpgrp()) == 0);
        _exit(0);
    }
    sleep_ms(50);
    type(pty, "for the job\n");
    show_end("leader", leader);
}

TEST(the_end_of_a_master_hangs_the_session_up) {
    struct pty pty = open_pty();
    struct gate ready = make_gate(), told = make_gate();
    pid_t leader = fork_session(pty);
    if (leader == 0) {
        handle(SIGHUP, note, 0);
        handle(SIGCONT, note, 0);
        struct gate go = make_gate();
        pid_t job = fork_job(go);
        if (job == 0) {
            handle(SIGHUP, note, 0);
            open_gate(ready);
            pause();
            say("the foreground: %d hang-ups", received[SIGHUP]);
            open_gate(told);
            _exit(0);
        }
        signal(SIGTTOU, SIG_IGN);
        SET_UP(tcsetpgrp(pty.slave, job) == 0);
        open_gate(go);
        while (!received[SIGCONT])
            sleep_ms(5);
        say("the leader: %d hang-ups", received[SIGHUP]);
        CALL(open("/dev/tty", O_RDWR));
        _exit(0);
    }
    pass_gate(ready);
    close(pty.slave);
    close(pty.master);
    pass_gate(told);
    show_end("leader", leader);
}

TEST(the_end_of_a_leader_hangs_the_foreground_up) {
    struct pty pty = open_pty();
    struct gate told = make_gate();
    pid_t leader = fork_session(pty);
    if (leader == 0) {
        struct gate go = make_gate(), ready = make_gate();
        pid_t job = fork_job(go);
        if (job == 0) {
            handle(SIGHUP, note, 0);
            open_gate(ready);
            pause();
            say("%d hang-ups", received[SIGHUP]);
            HOLDS(open("/dev/tty", O_RDWR) == -1);
            CALL(write(pty.slave, "still there", 11));
            open_gate(told);
            _exit(0);
        }
        signal(SIGTTOU, SIG_IGN);
        SET_UP(tcsetpgrp(pty.slave, job) == 0);
        open_gate(go);
        pass_gate(ready);
        sleep_ms(20);
        _exit(0);
    }
    pass_gate(told);
    show_end("leader", leader);
    show_screen(pty);
}

ROOT_TEST(a_hang_up_ends_files_but_not_the_terminal) {
    struct pty pty = open_pty();
    CALL(ioctl(pty.slave, TIOCVHANGUP));
    CALL(write(pty.slave, "x", 1));
    char byte;
    CALL(read(pty.slave, &byte, 1));
    int again = open_slave(pty.master, O_RDWR | O_NOCTTY);
    CALL(write(again, "y", 1));
    CALL(read(pty.master, &byte, 1));
}
