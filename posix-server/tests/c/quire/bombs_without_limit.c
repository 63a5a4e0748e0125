/*
 * Bombs without limits of their own: the system must contain them by its accounts. Linux is not asked, because it would
 * take the machine that runs the tests with it.
 */
#include "../bombs.h"

TEST(a_fork_bomb_leaves_others_working) {
    pid_t bomb = start_bomb(fork_without_end, 0);
    shell_works("while it explodes");
    end_bomb(bomb);
    shell_works("afterwards");
}

TEST(an_allocation_bomb_leaves_others_working) {
    pid_t bomb = start_bomb(allocate_without_end, 0);
    shell_works("while it explodes");
    end_bomb(bomb);
    shell_works("afterwards");
}

/* Not where the cases and their shells write: that a full file system can't take more is no harm done to others. */
static void write_without_end(void) {
    static char piece[1 << 16];
    int fd = open("/dev/shm/bomb", O_RDWR | O_CREAT | O_TRUNC, 0600);
    SET_UP(fd >= 0);
    while (write(fd, piece, sizeof piece) > 0)
        ;
    if (errno != ENOSPC && errno != ENOMEM)
        say("write fails with %s", errno_name(errno));
    pause();
}

TEST(a_file_bomb_leaves_others_working) {
    pid_t bomb = start_bomb(write_without_end, 0);
    shell_works("while it explodes");
    end_bomb(bomb);
    CALL(unlink("/dev/shm/bomb"));
    shell_works("afterwards");
}

static void fill_pipes_without_end(void) {
    static char piece[1 << 16];
    int ends[2];
    for (;;) {
        if (pipe2(ends, O_NONBLOCK) < 0) {
            if (fork() < 0)
                pause();
            for (int fd = 3; fd < 5000; fd++)
                close(fd);
        }
        write(ends[1], piece, sizeof piece);
    }
}

TEST(a_pipe_bomb_leaves_others_working) {
    pid_t bomb = start_bomb(fill_pipes_without_end, 0);
    shell_works("while it explodes");
    end_bomb(bomb);
    shell_works("afterwards");
}
