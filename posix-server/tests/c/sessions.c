/* Process groups and sessions. */
#include "case.h"

/* A child that waits, in a group of its own if asked for by setpgid of the parent. */
static pid_t waiting_child(struct gate end) {
    struct gate ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        open_gate(ready);
        pass_gate(end);
        _exit(0);
    }
    pass_gate(ready);
    return child;
}

TEST(children_belong_to_the_group_and_session_of_their_parent) {
    HOLDS(getpgrp() == getpid());
    HOLDS(getpgid(0) == getpgrp());
    HOLDS(getsid(0) != getpid());
    pid_t parent = getpid(), session = getsid(0), child = fork_child();
    if (child == 0) {
        HOLDS(getpgrp() == parent);
        HOLDS(getsid(0) == session);
        _exit(0);
    }
    show_end("child", child);
}

TEST(setpgid_moves_children_and_checks) {
    struct gate end = make_gate();
    pid_t one = waiting_child(end), other = waiting_child(end);
    CALL(setpgid(one, one));
    HOLDS(getpgid(one) == one);
    CALL(setpgid(other, one));
    HOLDS(getpgid(other) == one);
    CALL(setpgid(other, 0));
    HOLDS(getpgid(other) == other);
    CALL(setpgid(one, INT_MAX));
    CALL(setpgid(one, -1));
    CALL(setpgid(getppid(), 0));
    CALL(setpgid(INT_MAX, 0));
    CALL(setpgid(other, getpgrp()));
    HOLDS(getpgid(other) == getpgrp());
    open_gate(end);
    open_gate(end);
    show_end("one", one);
    show_end("other", other);
    CALL(getpgid(one));
    CALL(getsid(one));
    CALL(getpgid(-1));
    CALL(getsid(INT_MAX));
}

int child_main(int argc, char **argv) {
    (void)argc;
    char byte;
    SET_UP(write(atoi(argv[1]), "r", 1) == 1);
    SET_UP(read(atoi(argv[0]), &byte, 1) == 1);
    return 0;
}

TEST(setpgid_of_a_child_that_has_executed_is_eacces) {
    struct gate end = make_gate(), ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        char reader[16], writer[16];
        snprintf(reader, sizeof reader, "%d", end.reader);
        snprintf(writer, sizeof writer, "%d", ready.writer);
        execl(own_path(), own_path(), "--child", reader, writer, NULL);
        _exit(SET_UP_FAILED);
    }
    pass_gate(ready);
    CALL(setpgid(child, child));
    open_gate(end);
    show_end("child", child);
}

TEST(setsid_makes_a_session_once) {
    CALL(setsid());
    pid_t child = fork_child();
    if (child == 0) {
        HOLDS(setsid() == getpid());
        HOLDS(getsid(0) == getpid() && getpgrp() == getpid());
        CALL(setsid());
        CALL(setpgid(0, 0));
        CALL(setpgid(0, getppid()));
        CALL(open("/dev/tty", O_RDWR));
        _exit(0);
    }
    show_end("child", child);
}

TEST(groups_of_other_sessions_cannot_be_joined) {
    struct gate end = make_gate(), ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(setsid() == getpid());
        open_gate(ready);
        pass_gate(end);
        _exit(0);
    }
    pass_gate(ready);
    CALL(setpgid(0, child));
    CALL(setpgid(child, getpgrp()));
    HOLDS(getsid(child) == child);
    open_gate(end);
    show_end("child", child);
}

TEST(a_group_lives_without_its_leader) {
    struct gate end = make_gate();
    pid_t leader = waiting_child(end), member = waiting_child(end);
    SET_UP(setpgid(leader, leader) == 0 && setpgid(member, leader) == 0);
    SET_UP(kill(leader, SIGKILL) == 0);
    show_end("leader", leader);
    CALL(kill(-leader, 0));
    HOLDS(getpgid(member) == leader);
    CALL(kill(-leader, SIGTERM));
    show_end("member", member);
    CALL(kill(-leader, 0));
}

static volatile sig_atomic_t received;

static void receive(int signal_number) {
    received = signal_number;
}

TEST(a_signal_to_the_own_group_reaches_all_of_it) {
    handle(SIGUSR1, receive, 0);
    struct gate end = make_gate();
    pid_t children[3];
    for (int i = 0; i < 3; i++)
        children[i] = waiting_child(end);
    SET_UP(setpgid(children[2], children[2]) == 0);
    CALL(kill(0, SIGUSR1));
    say("received %s", signal_name(received));
    for (int i = 0; i < 3; i++)
        open_gate(end);
    for (int i = 0; i < 3; i++)
        show_end("child", children[i]);
    signal(SIGUSR1, SIG_IGN);
    pid_t child = fork_child();
    if (child == 0) {
        signal(SIGUSR1, SIG_DFL);
        kill(0, SIGUSR1);
        _exit(0);
    }
    show_end("one that dies of it", child);
}

/* Some of its members wait in calls, some compute, and the sender is one of them. */
TEST(a_group_kills_itself) {
    struct gate ready = make_gate();
    pid_t leader = fork_child();
    if (leader == 0) {
        SET_UP(setpgid(0, 0) == 0);
        for (int i = 0; i < 4; i++) {
            if (fork_child() != 0)
                continue;
            open_gate(ready);
            if (i % 2 == 0)
                pause();
            for (;;)
                ;
        }
        for (int i = 0; i < 4; i++)
            pass_gate(ready);
        kill(0, SIGKILL);
        _exit(0);
    }
    show_end("the leader", leader);
    for (int i = 0; i < 500 && kill(-leader, 0) == 0; i++)
        sleep_ms(20);
    CALL(kill(-leader, 0));
}

/* A newly orphaned group with a stopped member gets SIGHUP and SIGCONT. */
TEST(an_orphaned_stopped_group_is_hung_up) {
    struct gate orphaned = make_gate(), told = make_gate();
    pid_t middle = fork_child();
    if (middle == 0) {
        pid_t stopped = fork_child();
        if (stopped == 0) {
            SET_UP(setpgid(0, 0) == 0);
            handle(SIGHUP, receive, 0);
            raise(SIGSTOP);
            pass_gate(orphaned);
            say("continued after %s", signal_name(received));
            open_gate(told);
            _exit(0);
        }
        int status;
        SET_UP(waitpid(stopped, &status, WUNTRACED) == stopped);
        show_status("seen by its parent", status);
        _exit(0);
    }
    show_end("middle", middle);
    open_gate(orphaned);
    pass_gate(told);
}
