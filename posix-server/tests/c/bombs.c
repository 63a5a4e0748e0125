/*
 * Programs that take all they can get, up to a limit of theirs, while a shell beside them goes on working. The limits
 * keep Linux itself safe; on Quire the same bombs also run without limits, see `c/quire`.
 */
#include "bombs.h"

ROOT_TEST(a_fork_bomb_up_to_its_limit_leaves_others_working) {
    pid_t bomb = start_bomb(fork_without_end, 60);
    shell_works("while it explodes");
    end_bomb(bomb);
    shell_works("afterwards");
}

static void allocate_to_the_limit(void) {
    struct rlimit limit = {256UL << 20, 256UL << 20};
    SET_UP(setrlimit(RLIMIT_AS, &limit) == 0);
    allocate_without_end();
}

ROOT_TEST(an_allocation_bomb_up_to_its_limit_leaves_others_working) {
    pid_t bomb = start_bomb(allocate_to_the_limit, 0);
    shell_works("while it explodes");
    end_bomb(bomb);
    shell_works("afterwards");
}

static void open_to_the_limit(void) {
    int last = 0;
    for (int fd; (fd = dup(0)) >= 0;)
        last = fd;
    say("descriptors up to the limit: %s, then %s", last > 1000 ? "many" : "few", errno_name(errno));
}

TEST(a_descriptor_bomb_leaves_others_working) {
    struct rlimit limit = {4000, 4000};
    SET_UP(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    open_to_the_limit();
    CALL(open("/dev/null", O_RDONLY));
    int ends[2];
    CALL(pipe(ends));
    shell_works("beside it");
}

TEST(deep_recursion_of_processes_and_signals_ends) {
    /* Each child signals its whole group, which ignores it, and forks the next. */
    signal(SIGUSR1, SIG_IGN);
    int depth = 0;
    while (depth < 50) {
        pid_t child = fork_child();
        if (child != 0) {
            kill(0, SIGUSR1);
            int status;
            SET_UP(waitpid(child, &status, 0) == child);
            if (depth > 0)
                _exit(0);
            show_status("first child", status);
            return;
        }
        depth++;
    }
    _exit(0);
}
