/* ptrace: how tracing begins and ends, stops, events, who may. */
#include "tracing.h"

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

static void nothing(void) {}

static struct gate gate_of_start;

static void wait_for_ever(void) {
    for (;;)
        pause();
}

/* A child that is not traced, and runs this. */
static pid_t plain_child(void (*run)(void)) {
    pid_t child = fork_child();
    if (child == 0) {
        run();
        _exit(0);
    }
    return child;
}

static void show_tracer(pid_t pid) {
    char path[64], line[128], state[128] = "";
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    SET_UP(file != NULL);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "State:", 6) == 0)
            snprintf(state, sizeof state, "%.*s", (int)strcspn(line, "\n"), line);
        if (strncmp(line, "TracerPid:", 10) == 0) {
            bool traced = atoi(line + 10) == getpid();
            /* Without a tracer it may not have left its stop yet. */
            say("traced by this one: %s, by nobody: %s %s", traced ? "yes" : "no",
                atoi(line + 10) == 0 ? "yes" : "no", traced ? state : "");
        }
    }
    fclose(file);
}

/* ---- beginning and end ---- */

TEST(a_child_asks_to_be_traced_once) {
    pid_t child = fork_child();
    if (child == 0) {
        CALL(RAW(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0));
        CALL(trace(PTRACE_TRACEME, 0, 0, 0));
        raise(SIGUSR1);
        _exit(4);
    }
    wait_stop("child", child);
    show_tracer(child);
    finish(child);
}

TEST(who_is_attached_to_stops_and_goes_on) {
    pid_t child = plain_child(wait_for_ever);
    CALL(trace(PTRACE_ATTACH, child, 0, 0));
    wait_stop("child", child);
    siginfo_t info;
    CALL(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    say("%s, code %#x, from %d", signal_name(info.si_signo), (unsigned)info.si_code, info.si_pid);
    show_tracer(child);
    CALL(trace(PTRACE_ATTACH, child, 0, 0));
    CALL(trace(PTRACE_DETACH, child, 0, 0));
    show_tracer(child);
    CALL(trace(PTRACE_CONT, child, 0, 0));
    kill_and_wait(child);
}

TEST(requests_that_cannot_be) {
    pid_t child = plain_child(wait_for_ever);
    CALL(trace(PTRACE_CONT, child, 0, 0));
    CALL(trace(PTRACE_PEEKDATA, child, 0, 0));
    CALL(trace(PTRACE_KILL, child, 0, 0));
    CALL(trace(PTRACE_ATTACH, getpid(), 0, 0));
    CALL(trace(PTRACE_ATTACH, 0, 0, 0));
    CALL(trace(PTRACE_ATTACH, -1, 0, 0));
    CALL(trace(PTRACE_ATTACH, 4000000, 0, 0));
    CALL(trace(PTRACE_SEIZE, 4000000, 1, 0));
    CALL(trace(PTRACE_SEIZE, child, 1, 0));
    CALL(trace(PTRACE_SEIZE, child, 0, 1 << 12));
    CALL(trace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD));
    CALL(trace(PTRACE_SEIZE, child, 0, 0));
    CALL(trace(PTRACE_CONT, child, 0, 0));
    CALL(trace(PTRACE_GETEVENTMSG, child, 0, 0));
    CALL(trace(PTRACE_DETACH, child, 0, 0));
    CALL(trace(PTRACE_INTERRUPT, child, 0, 0));
    wait_stop("child", child);
    CALL(trace(PTRACE_CONT, child, 0, 65));
    CALL(trace(PTRACE_CONT, child, 0, ~0UL));
    CALL(trace(PTRACE_DETACH, child, 0, 65));
    CALL(trace(PTRACE_SETOPTIONS, child, 0, 1 << 12));
    CALL(trace(PTRACE_SETOPTIONS, child, 0, ~0UL));
    CALL(trace(PTRACE_GETEVENTMSG, child, 0, (unsigned long)BAD_ADDRESS));
    CALL(trace(9999, child, 0, 0));
    CALL(trace(-2, child, 0, 0));
    CALL(trace(PTRACE_KILL, child, 0, 0));
    show_end("child", child);
    CALL(trace(PTRACE_KILL, child, 0, 0));
}

TEST(one_that_has_ended_is_not_attached_to) {
    pid_t child = plain_child(nothing);
    SET_UP(waitid(P_PID, (id_t)child, NULL, WEXITED | WNOWAIT) == 0);
    CALL(trace(PTRACE_ATTACH, child, 0, 0));
    CALL(trace(PTRACE_CONT, child, 0, 0));
    show_end("child", child);
}

TEST(an_interrupt_needs_a_seized_thread) {
    pid_t child = traced_child(nothing);
    CALL(trace(PTRACE_INTERRUPT, child, 0, 0));
    CALL(trace(PTRACE_LISTEN, child, 0, 0));
    finish(child);
}

TEST(who_is_seized_runs_until_it_is_interrupted) {
    pid_t child = plain_child(wait_for_ever);
    CALL(trace(PTRACE_SEIZE, child, 0, 0));
    CALL(waitpid(child, NULL, WNOHANG));
    CALL(trace(PTRACE_INTERRUPT, child, 0, 0));
    wait_stop("child", child);
    siginfo_t info;
    CALL(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    say("%s, code %#x", signal_name(info.si_signo), (unsigned)info.si_code);
    kill(child, SIGUSR1);
    go_on(PTRACE_CONT, child, 0);
    CALL(trace(PTRACE_INTERRUPT, child, 0, 0));
    go_on(PTRACE_CONT, child, 0);
    kill_and_wait(child);
}

/* ---- stops of the whole process ---- */

TEST(a_stop_of_the_process_is_a_stop_for_the_tracer) {
    pid_t child = traced_child(wait_for_ever);
    SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
    kill(child, SIGTSTP);
    wait_stop("the signal", child);
    go_on(PTRACE_CONT, child, SIGTSTP);
    siginfo_t info;
    CALL(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    kill(child, SIGCONT);
    CALL(waitpid(child, NULL, WNOHANG));
    go_on(PTRACE_CONT, child, 0);
    kill_and_wait(child);
}

TEST(one_that_was_seized_can_stay_stopped_and_tells_of_the_end) {
    pid_t child = plain_child(wait_for_ever);
    SET_UP(trace(PTRACE_SEIZE, child, 0, 0) == 0);
    kill(child, SIGSTOP);
    wait_stop("the signal", child);
    go_on(PTRACE_CONT, child, SIGSTOP);
    siginfo_t info;
    CALL(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    say("%s, code %#x", signal_name(info.si_signo), (unsigned)info.si_code);
    CALL(trace(PTRACE_LISTEN, child, 0, 0));
    CALL(waitpid(child, NULL, WNOHANG));
    CALL(trace(PTRACE_CONT, child, 0, 0));
    kill(child, SIGCONT);
    wait_stop("the end", child);
    go_on(PTRACE_CONT, child, 0);
    kill_and_wait(child);
}

TEST(who_listens_can_be_interrupted) {
    pid_t child = plain_child(wait_for_ever);
    SET_UP(trace(PTRACE_SEIZE, child, 0, 0) == 0);
    kill(child, SIGSTOP);
    wait_stop("the signal", child);
    go_on(PTRACE_CONT, child, SIGSTOP);
    CALL(trace(PTRACE_LISTEN, child, 0, 0));
    CALL(trace(PTRACE_INTERRUPT, child, 0, 0));
    wait_stop("interrupted", child);
    CALL(trace(PTRACE_DETACH, child, 0, 0));
    CALL(waitpid(child, NULL, WNOHANG));
    kill(child, SIGCONT);
    int status;
    SET_UP(waitpid(child, &status, WCONTINUED) == child);
    show_status("child", status);
    kill_and_wait(child);
}

TEST(a_process_that_is_stopped_already_is_attached_to) {
    for (int seized = 0; seized < 2; seized++) {
        pid_t child = plain_child(wait_for_ever);
        int status;
        kill(child, SIGSTOP);
        SET_UP(waitpid(child, &status, WUNTRACED) == child);
        CALL(trace(seized ? PTRACE_SEIZE : PTRACE_ATTACH, child, 0, 0));
        wait_stop("child", child);
        if (!seized)
            go_on(PTRACE_CONT, child, 0);
        CALL(trace(PTRACE_DETACH, child, 0, 0));
        show_tracer(child);
        kill(child, SIGCONT);
        SET_UP(waitpid(child, &status, WCONTINUED) == child);
        show_status("child", status);
        kill_and_wait(child);
    }
}

TEST(a_signal_that_is_given_at_the_end_of_the_tracing_is_delivered) {
    pid_t child = traced_child(wait_for_ever);
    kill(child, SIGUSR2);
    SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
    wait_stop("child", child);
    CALL(trace(PTRACE_DETACH, child, 0, SIGTERM));
    show_end("child", child);
}

TEST(signals_that_are_ignored_are_seen_and_one_that_kills_is_not) {
    pid_t child = traced_child(wait_for_ever);
    SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
    kill(child, SIGWINCH);
    wait_stop("child", child);
    SET_UP(trace(PTRACE_CONT, child, 0, SIGWINCH) == 0);
    kill(child, SIGKILL);
    wait_stop("child", child);
    child = traced_child(wait_for_ever);
    kill(child, SIGKILL);
    wait_stop("in a stop", child);
}

TEST(waitid_tells_of_stops) {
    pid_t child = traced_child(nothing);
    kill(child, SIGUSR1);
    SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    CALL(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT));
    say("code %d, status %d", info.si_code, info.si_status);
    CALL(waitid(P_ALL, 0, &info, WSTOPPED));
    HOLDS(info.si_pid == child);
    CALL(waitid(P_ALL, 0, &info, WEXITED | WNOHANG));
    finish(child);
}

static volatile sig_atomic_t told, told_code, told_status;

static void note(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    (void)context;
    told++;
    told_code = info->si_code;
    told_status = info->si_status;
}

TEST(a_tracer_gets_sigchld_for_stops) {
    handle_info(SIGCHLD, note, 0);
    pid_t child = traced_child(nothing);
    say("%d, code %d, status %d", told, told_code, told_status);
    kill(child, SIGUSR1);
    go_on(PTRACE_CONT, child, 0);
    say("%d, code %d, status %d", told, told_code, told_status);
    handle_info(SIGCHLD, note, SA_NOCLDSTOP);
    go_on(PTRACE_CONT, child, SIGSTOP);
    say("%d", told);
    kill_and_wait(child);
}

/* ---- events ---- */

static void fork_one(void) {
    pid_t child = fork();
    if (child == 0)
        _exit(5);
    int status = 0;
    waitpid(child, &status, 0);
    say("its child: %d", WEXITSTATUS(status));
}

static void vfork_one(void) {
    pid_t child = vfork();
    if (child == 0)
        _exit(6);
    int status = 0;
    waitpid(child, &status, 0);
    say("its child: %d", WEXITSTATUS(status));
}

static unsigned long message_of(pid_t pid) {
    unsigned long message = 0;
    SET_UP(trace(PTRACE_GETEVENTMSG, pid, 0, (unsigned long)&message) == 0);
    return message;
}

TEST(a_child_of_a_traced_process_is_traced_from_its_birth) {
    pid_t child = traced_child(fork_one);
    CALL(trace(PTRACE_SETOPTIONS, child, 0, OPTIONS_OF_FORKS));
    go_on(PTRACE_CONT, child, 0);
    struct user_regs_struct registers = registers_of(child);
    say("result %ld", registers.rax);
    pid_t born = (pid_t)message_of(child);
    wait_stop("born", born);
    show_tracer(born);
    registers = registers_of(born);
    say("result %ld", registers.rax);
    finish(born);
    SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
    wait_stop("told of its child", child);
    finish(child);
}

TEST(a_vfork_has_three_stops) {
    pid_t child = traced_child(vfork_one);
    CALL(trace(PTRACE_SETOPTIONS, child, 0, OPTIONS_OF_FORKS | PTRACE_O_TRACESYSGOOD));
    go_on(PTRACE_CONT, child, 0);
    pid_t born = (pid_t)message_of(child);
    wait_stop("born", born);
    SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
    CALL(waitpid(child, NULL, WNOHANG));
    finish(born);
    wait_stop("done", child);
    HOLDS((pid_t)message_of(child) == born);
    go_on(PTRACE_SYSCALL, child, 0);
    say("result of %ld is the child: %s", registers_of(child).orig_rax,
        (pid_t)registers_of(child).rax == born ? "yes" : "no");
    go_on(PTRACE_CONT, child, 0);
    finish(child);
}

static void *run_thread(void *unused) {
    (void)unused;
    return NULL;
}

static void start_thread(void) {
    pthread_t thread;
    SET_UP(pthread_create(&thread, NULL, run_thread, NULL) == 0);
    SET_UP(pthread_join(thread, NULL) == 0);
}

TEST(threads_are_traced_and_waited_for_one_by_one) {
    pid_t child = traced_child(start_thread);
    CALL(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACECLONE));
    go_on(PTRACE_CONT, child, 0);
    pid_t thread = (pid_t)message_of(child);
    HOLDS(thread != child);
    wait_stop("thread", thread);
    SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
    CALL(waitpid(thread, NULL, WNOHANG | __WALL));
    SET_UP(trace(PTRACE_SETOPTIONS, thread, 0, PTRACE_O_TRACEEXIT) == 0);
    go_on(PTRACE_CONT, thread, 0);
    say("message %lx", message_of(thread));
    finish(thread);
    CALL(waitpid(thread, NULL, __WALL));
    wait_stop("child", child);
}

TEST(children_of_one_that_was_seized_stop_in_another_way) {
    gate_of_start = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        pass_gate(gate_of_start);
        fork_one();
        _exit(0);
    }
    CALL(trace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACEFORK));
    open_gate(gate_of_start);
    wait_stop("child", child);
    pid_t born = (pid_t)message_of(child);
    wait_stop("born", born);
    siginfo_t info;
    CALL(trace(PTRACE_GETSIGINFO, born, 0, (unsigned long)&info));
    say("%s, code %#x", signal_name(info.si_signo), (unsigned)info.si_code);
    finish(born);
    SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
    wait_stop("told of its child", child);
    finish(child);
}

static void execute(void) { execl(own_path(), own_path(), "--child", "hello", NULL); }

int child_main(int argc, char **argv) {
    say("executed with %d: %s", argc, argc > 0 ? argv[argc - 1] : "");
    return 8;
}

TEST(a_program_that_is_executed_stops_as_by_a_signal) {
    pid_t child = traced_child(execute);
    go_on(PTRACE_CONT, child, 0);
    siginfo_t info;
    CALL(trace(PTRACE_GETSIGINFO, child, 0, (unsigned long)&info));
    say("%s, code %d, by itself: %s", signal_name(info.si_signo), info.si_code, info.si_pid == child ? "yes" : "no");
    struct user_regs_struct registers = registers_of(child);
    say("number %ld, result %ld, fs %lx", registers.orig_rax, registers.rax, registers.fs_base);
    finish(child);
}

TEST(a_program_that_is_executed_is_an_event_if_one_asks) {
    pid_t child = traced_child(execute);
    CALL(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD));
    go_on(PTRACE_SYSCALL, child, 0);
    while (registers_of(child).orig_rax != SYS_execve) {
        SET_UP(trace(PTRACE_SYSCALL, child, 0, 0) == 0);
        SET_UP(waitpid(child, NULL, 0) == child);
    }
    go_on(PTRACE_SYSCALL, child, 0);
    HOLDS((pid_t)message_of(child) == child);
    go_on(PTRACE_SYSCALL, child, 0);
    struct user_regs_struct registers = registers_of(child);
    say("number %ld, result %ld", registers.orig_rax, registers.rax);
    finish(child);
}

static void *execute_in_thread(void *unused) {
    (void)unused;
    execute();
    return NULL;
}

static void execute_beside(void) {
    pthread_t thread;
    SET_UP(pthread_create(&thread, NULL, execute_in_thread, NULL) == 0);
    wait_for_ever();
}

TEST(a_thread_that_executes_takes_the_number_of_its_process) {
    pid_t child = traced_child(execute_beside);
    SET_UP(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC) == 0);
    go_on(PTRACE_CONT, child, 0);
    pid_t thread = (pid_t)message_of(child);
    wait_stop("thread", thread);
    SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
    SET_UP(trace(PTRACE_CONT, thread, 0, 0) == 0);
    wait_stop("process", child);
    HOLDS((pid_t)message_of(child) == thread);
    CALL(waitpid(thread, NULL, __WALL | WNOHANG));
    finish(child);
}

static void exit_with_nine(void) { _exit(9); }

TEST(an_end_is_told_of_before_and_afterwards) {
    pid_t child = traced_child(exit_with_nine);
    CALL(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXIT));
    go_on(PTRACE_CONT, child, 0);
    say("message %lx", message_of(child));
    say("number %ld", registers_of(child).orig_rax);
    finish(child);
    child = traced_child(wait_for_ever);
    CALL(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXIT));
    kill(child, SIGTERM);
    go_on(PTRACE_CONT, child, 0);
    go_on(PTRACE_CONT, child, SIGTERM);
    say("message %lx", message_of(child));
    finish(child);
}

/* ---- others ---- */

/* A process that is traced by one which is not its parent. */
TEST(a_tracer_hears_of_the_end_before_the_parent) {
    struct gate attached = make_gate(), ended = make_gate();
    pid_t child = plain_child(wait_for_ever);
    pid_t tracer = fork_child();
    if (tracer == 0) {
        SET_UP(trace(PTRACE_ATTACH, child, 0, 0) == 0);
        wait_stop("child", child);
        SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
        open_gate(attached);
        pass_gate(ended);
        SET_UP(waitid(P_PID, (id_t)child, NULL, WEXITED | WNOWAIT) == 0);
        CALL(waitpid(getppid(), NULL, 0));
        wait_stop("the tracer", child);
        CALL(waitpid(child, NULL, 0));
        _exit(0);
    }
    pass_gate(attached);
    CALL(trace(PTRACE_ATTACH, child, 0, 0));
    CALL(trace(PTRACE_CONT, child, 0, 0));
    kill(child, SIGKILL);
    CALL(waitpid(child, NULL, WNOHANG));
    open_gate(ended);
    SET_UP(waitpid(tracer, NULL, 0) == tracer);
    show_end("the parent", child);
}

TEST(a_tracer_that_ends_lets_go_or_takes_along) {
    for (int kills = 0; kills < 2; kills++) {
        pid_t child = plain_child(wait_for_ever);
        pid_t tracer = fork_child();
        if (tracer == 0) {
            SET_UP(trace(PTRACE_SEIZE, child, 0, kills ? PTRACE_O_EXITKILL : 0) == 0);
            SET_UP(trace(PTRACE_INTERRUPT, child, 0, 0) == 0);
            wait_stop("child", child);
            _exit(0);
        }
        SET_UP(waitpid(tracer, NULL, 0) == tracer);
        if (!kills) {
            show_tracer(child);
            kill(child, SIGTERM);
        }
        show_end("child", child);
    }
}

TEST(a_signal_that_the_tracer_has_not_heard_of_is_delivered_after_its_end) {
    pid_t child = plain_child(wait_for_ever);
    pid_t tracer = fork_child();
    if (tracer == 0) {
        SET_UP(trace(PTRACE_SEIZE, child, 0, 0) == 0);
        kill(child, SIGTERM);
        siginfo_t info;
        SET_UP(waitid(P_PID, (id_t)child, &info, WSTOPPED | WEXITED | WNOWAIT) == 0);
        _exit(0);
    }
    SET_UP(waitpid(tracer, NULL, 0) == tracer);
    show_end("child", child);
}

static pid_t traced_elsewhere;

static void *ask_from_elsewhere(void *unused) {
    (void)unused;
    CALL(trace(PTRACE_CONT, traced_elsewhere, 0, 0));
    CALL(waitpid(traced_elsewhere, NULL, __WNOTHREAD | WNOHANG));
    kill(traced_elsewhere, SIGUSR1);
    return NULL;
}

TEST(only_the_thread_that_traces_may_ask_and_all_may_wait) {
    traced_elsewhere = traced_child(wait_for_ever);
    pthread_t thread;
    SET_UP(pthread_create(&thread, NULL, ask_from_elsewhere, NULL) == 0);
    SET_UP(pthread_join(thread, NULL) == 0);
    go_on(PTRACE_CONT, traced_elsewhere, 0);
    kill_and_wait(traced_elsewhere);
}

ROOT_TEST(users_trace_only_what_is_theirs) {
    pid_t child = plain_child(wait_for_ever);
    pid_t user = fork_child();
    if (user == 0) {
        drop_to(NOBODY, NOBODY);
        CALL(trace(PTRACE_ATTACH, child, 0, 0));
        CALL(trace(PTRACE_SEIZE, child, 0, 0));
        CALL(trace(PTRACE_ATTACH, 1, 0, 0));
        pid_t other = fork_child();
        if (other == 0) {
            prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
            kill(getpid(), SIGSTOP);
            _exit(0);
        }
        int status;
        SET_UP(waitpid(other, &status, WUNTRACED) == other);
        CALL(trace(PTRACE_ATTACH, other, 0, 0));
        kill_and_wait(other);
        _exit(0);
    }
    SET_UP(waitpid(user, NULL, 0) == user);
    kill_and_wait(child);
}

static void *wait_in_thread(void *unused) {
    (void)unused;
    wait_for_ever();
    return NULL;
}

static void wait_with_a_thread(void) {
    pthread_t thread;
    SET_UP(pthread_create(&thread, NULL, wait_in_thread, NULL) == 0);
    wait_for_ever();
}

TEST(a_stop_of_the_process_is_told_by_each_thread) {
    pid_t child = traced_child(wait_with_a_thread);
    SET_UP(trace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACECLONE) == 0);
    go_on(PTRACE_CONT, child, 0);
    pid_t thread = (pid_t)message_of(child);
    wait_stop("thread", thread);
    SET_UP(trace(PTRACE_CONT, thread, 0, 0) == 0);
    SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
    SET_UP(syscall(SYS_tgkill, child, thread, SIGTSTP) == 0);
    wait_stop("thread gets the signal", thread);
    CALL(waitpid(child, NULL, WNOHANG));
    SET_UP(trace(PTRACE_CONT, thread, 0, SIGTSTP) == 0);
    wait_stop("thread stops", thread);
    wait_stop("process stops", child);
    SET_UP(trace(PTRACE_CONT, child, 0, 0) == 0);
    SET_UP(syscall(SYS_tgkill, child, child, SIGUSR1) == 0);
    wait_stop("only it goes on", child);
    CALL(waitpid(thread, NULL, WNOHANG | __WALL));
    SET_UP(kill(child, SIGKILL) == 0);
    wait_stop("thread", thread);
    wait_stop("process", child);
}

static void *seize_in_thread(void *child) {
    CALL(trace(PTRACE_SEIZE, *(pid_t *)child, 0, 0));
    show_tracer(*(pid_t *)child);
    return NULL;
}

TEST(the_end_of_a_tracing_thread_is_the_end_of_its_tracing) {
    pid_t child = plain_child(wait_for_ever);
    pthread_t thread;
    SET_UP(pthread_create(&thread, NULL, seize_in_thread, &child) == 0);
    SET_UP(pthread_join(thread, NULL) == 0);
    long until = now_ms() + 5000;
    while (trace(PTRACE_SEIZE, child, 0, 0) != 0 && now_ms() < until)
        sleep_ms(1);
    CALL(trace(PTRACE_INTERRUPT, child, 0, 0));
    wait_stop("child", child);
    kill_and_wait(child);
}

static void execute_nothing(void) { execl("/nothing", "nothing", NULL); }

TEST(an_exec_that_fails_is_a_call_like_others) {
    pid_t child = traced_child(execute_nothing);
    int status;
    do {
        SET_UP(trace(PTRACE_SYSCALL, child, 0, 0) == 0);
        SET_UP(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    } while (registers_of(child).orig_rax != SYS_execve);
    go_on(PTRACE_SYSCALL, child, 0);
    say("result %ld", registers_of(child).rax);
    finish(child);
}
