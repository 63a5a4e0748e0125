/*
 * A person at a terminal: busybox's shell and its screen programs on a pseudo-terminal, with keys typed and answers waited
 * for.
 */
#include "terminal.h"

#define SHELL "/bin/busybox"
#define PATIENCE_MS 8000

/* A session: what the screen has shown so far, and how much of it has been looked at. */
struct session {
    struct pty pty;
    pid_t leader;
    char screen[1 << 16];
    size_t shown;
    size_t seen;
};

static struct session session;

static void start(const char *program, const char *argument) {
    session.pty = open_pty();
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    SET_UP(ioctl(session.pty.master, TIOCSWINSZ, &size) == 0);
    session.leader = fork_session(session.pty);
    if (session.leader == 0) {
        for (int fd = 0; fd < 3; fd++)
            SET_UP(dup2(session.pty.slave, fd) == fd);
        close(session.pty.slave);
        setenv("PS1", "ready> ", 1);
        setenv("PATH", "/bin:/usr/bin", 1);
        setenv("TERM", "vt100", 1);
        setenv("HOME", "/nowhere", 1);
        execl(SHELL, program, argument, NULL);
        _exit(SET_UP_FAILED);
    }
    close(session.pty.slave);
}

/* Takes what the screen shows, for so long at most; whether something came. */
static bool watch(int timeout_ms) {
    if (!is_ready(session.pty.master, timeout_ms))
        return false;
    ssize_t got = read(session.pty.master, session.screen + session.shown, sizeof session.screen - 1 - session.shown);
    if (got <= 0)
        return false;
    session.shown += (size_t)got;
    session.screen[session.shown] = 0;
    return true;
}

/* Waits until a text has been shown after what was last waited for. */
static void expect(const char *what) {
    long deadline = now_ms() + PATIENCE_MS;
    for (;;) {
        char *found = strstr(session.screen + session.seen, what);
        if (found) {
            session.seen = (size_t)(found - session.screen) + strlen(what);
            say("shown: %s", what);
            return;
        }
        if (now_ms() >= deadline || (!watch(200) && !is_ready(session.pty.master, 1000) && now_ms() >= deadline)) {
            show_bytes("not shown; the screen", session.screen + session.seen, session.shown - session.seen);
            return;
        }
    }
}

static void keys(const char *text) {
    SET_UP(write(session.pty.master, text, strlen(text)) == (ssize_t)strlen(text));
}

/* Waits until another group than the shell's has the terminal, or the shell has it again. */
static void wait_for_foreground(bool is_shell) {
    long deadline = now_ms() + PATIENCE_MS;
    while ((tcgetpgrp(session.pty.master) == session.leader) != is_shell && now_ms() < deadline)
        sleep_ms(5);
    say("the shell is in the foreground: %s", tcgetpgrp(session.pty.master) == session.leader ? "yes" : "no");
}

/* The end of the session: nothing more comes, and the leader has ended. */
static void finish(void) {
    long deadline = now_ms() + PATIENCE_MS;
    while (now_ms() < deadline && (watch(200) || waitpid(session.leader, NULL, WNOHANG | WNOWAIT) == 0))
        continue;
    int status;
    SET_UP(waitpid(session.leader, &status, 0) == session.leader);
    show_status("the session", status);
}

TEST(a_shell_answers_and_ends) {
    start("sh", "-i");
    expect("ready> ");
    keys("echo $((6 * 7))\r");
    expect("42\r\n");
    expect("ready> ");
    keys("tty | cut -c 1-9; stty size\r");
    expect("/dev/pts/");
    expect("24 80\r\n");
    expect("ready> ");
    keys("exit 5\r");
    finish();
}

TEST(a_job_is_interrupted_stopped_and_brought_back) {
    start("sh", "-i");
    expect("ready> ");
    keys("sleep 1000\r");
    wait_for_foreground(false);
    keys("\003");
    expect("ready> ");
    wait_for_foreground(true);
    keys("sleep 1000\r");
    wait_for_foreground(false);
    keys("\032");
    expect("Stopped");
    expect("ready> ");
    wait_for_foreground(true);
    keys("jobs\r");
    expect("Stopped");
    expect("ready> ");
    keys("bg\r");
    expect("ready> ");
    keys("jobs\r");
    expect("Running");
    expect("ready> ");
    keys("fg\r");
    wait_for_foreground(false);
    keys("\032");
    expect("Stopped");
    expect("ready> ");
    keys("kill %1; fg\r");
    expect("ready> ");
    keys("exit\r");
    finish();
}

TEST(a_background_job_that_reads_is_stopped) {
    start("sh", "-i");
    expect("ready> ");
    keys("cat &\r");
    expect("ready> ");
    keys("sleep 1; jobs\r");
    expect("Stopped (tty input)");
    expect("ready> ");
    keys("fg\r");
    wait_for_foreground(false);
    keys("to the cat\r");
    expect("to the cat\r\nto the cat\r\n");
    keys("\004");
    expect("ready> ");
    keys("exit\r");
    finish();
}

TEST(pipelines_are_one_job) {
    start("sh", "-i");
    expect("ready> ");
    keys("sleep 1000 | cat | cat\r");
    wait_for_foreground(false);
    /* Its members are made one by one. */
    sleep_ms(500);
    keys("\032");
    expect("Stopped");
    expect("ready> ");
    keys("fg\r");
    wait_for_foreground(false);
    keys("\003");
    wait_for_foreground(true);
    expect("ready> ");
    keys("echo status $?\r");
    expect("status 130");
    keys("exit\r");
    finish();
}

TEST(the_end_of_the_terminal_ends_the_shell_and_its_job) {
    start("sh", "-i");
    expect("ready> ");
    keys("sleep 1000\r");
    wait_for_foreground(false);
    pid_t job = tcgetpgrp(session.pty.master);
    close(session.pty.master);
    int status;
    SET_UP(waitpid(session.leader, &status, 0) == session.leader);
    show_status("the shell", status);
    long deadline = now_ms() + PATIENCE_MS;
    while (kill(-job, 0) == 0 && now_ms() < deadline)
        sleep_ms(5);
    HOLDS(kill(-job, 0) == -1 && errno == ESRCH);
}

TEST(an_editor_edits) {
    start("vi", "file");
    expect("file");
    keys("ifirst line\rsecond\033");
    expect("second");
    sleep_ms(300);
    keys("kxx$a!\033");
    /* An escape alone is told from the beginning of a key's sequence by time. */
    sleep_ms(300);
    keys(":wq\r");
    finish();
    show_file("file");
}

TEST(a_pager_shows_pages) {
    FILE *file = fopen("file", "w");
    SET_UP(file != NULL);
    for (int i = 1; i <= 100; i++)
        fprintf(file, "this is line %d.\n", i);
    fclose(file);
    start("less", "file");
    expect("this is line 22.");
    keys(" ");
    expect("this is line 40.");
    keys("G");
    expect("this is line 100.");
    keys("q");
    finish();
}

TEST(a_list_of_processes_is_renewed) {
    start("top", "-d1");
    expect("Mem:");
    expect("Load average:");
    expect("COMMAND");
    expect("Mem:");
    keys("q");
    finish();
}
