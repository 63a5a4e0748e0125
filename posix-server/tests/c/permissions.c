/* Permissions: what an unprivileged user may do with files, names, ids and signals. All need the superuser to begin. */
#include "case.h"

#include <grp.h>

#define ALICE 1001
#define BOB 1002
#define TEAM 2001

/* Runs the rest of the block as another user, in a child. */
#define AS(uid, gid, ...)                                                                                              \
    do {                                                                                                               \
        pid_t child = fork_child();                                                                                    \
        if (child == 0) {                                                                                              \
            drop_to(uid, gid);                                                                                         \
            __VA_ARGS__;                                                                                               \
            _exit(0);                                                                                                  \
        }                                                                                                              \
        SET_UP(waitpid(child, NULL, 0) == child);                                                                      \
    } while (0)

static void file_of(const char *path, uid_t owner, gid_t group, mode_t mode) {
    make_text(path, "content");
    SET_UP(chown(path, owner, group) == 0 && chmod(path, mode) == 0);
}

static void directory_of(const char *path, uid_t owner, gid_t group, mode_t mode) {
    SET_UP(mkdir(path, 0700) == 0);
    SET_UP(chown(path, owner, group) == 0 && chmod(path, mode) == 0);
}

/* The scratch directories above may be closed to others: what counts here lies below one that is open. */
static void open_the_way(void) {
    SET_UP(chmod(".", 0777) == 0);
}

ROOT_TEST(the_class_of_the_user_decides_alone) {
    open_the_way();
    file_of("owner-none", ALICE, TEAM, 0077);
    file_of("group-none", BOB, TEAM, 0707);
    file_of("others-none", BOB, NOBODY, 0770);
    AS(ALICE, TEAM, {
        CALL(open("owner-none", O_RDONLY));
        CALL(open("group-none", O_RDONLY));
        CALL(open("others-none", O_RDONLY));
    });
    AS(BOB, NOBODY, {
        CALL_OK(open("owner-none", O_RDONLY));
        CALL_OK(open("group-none", O_RDONLY));
        CALL_OK(open("others-none", O_RDONLY));
    });
}

ROOT_TEST(each_access_needs_its_bit) {
    open_the_way();
    file_of("r", ALICE, TEAM, 0400);
    file_of("w", ALICE, TEAM, 0200);
    file_of("x", ALICE, TEAM, 0100);
    AS(ALICE, TEAM, {
        CALL_OK(open("r", O_RDONLY));
        CALL(open("r", O_WRONLY));
        CALL(open("r", O_RDWR));
        CALL(open("r", O_RDONLY | O_TRUNC));
        CALL(truncate("r", 0));
        CALL(open("w", O_RDONLY));
        CALL_OK(open("w", O_WRONLY));
        CALL(open("w", O_RDWR));
        CALL(truncate("w", 3));
        CALL(open("x", O_RDONLY));
        CALL(access("x", X_OK));
        CALL(access("r", X_OK));
        CALL(execl("r", "r", NULL));
    });
}

ROOT_TEST(supplementary_groups_count) {
    open_the_way();
    file_of("team", BOB, TEAM, 0640);
    AS(ALICE, ALICE, CALL(open("team", O_RDONLY)));
    pid_t child = fork_child();
    if (child == 0) {
        gid_t groups[] = {7, TEAM, 8};
        SET_UP(setgroups(3, groups) == 0);
        SET_UP(setresgid(ALICE, ALICE, ALICE) == 0 && setresuid(ALICE, ALICE, ALICE) == 0);
        CALL_OK(open("team", O_RDONLY));
        CALL(open("team", O_WRONLY));
        _exit(0);
    }
    show_end("child", child);
}

ROOT_TEST(the_superuser_passes_except_to_execute_nothing) {
    file_of("none", ALICE, TEAM, 0000);
    directory_of("closed", ALICE, TEAM, 0000);
    CALL_OK(open("none", O_RDWR));
    CALL(access("none", R_OK | W_OK));
    CALL(access("none", X_OK));
    CALL(execl("none", "none", NULL));
    CALL(mkdir("closed/inner", 0755));
    CALL(chdir("closed"));
}

ROOT_TEST(directories_need_search_to_pass_and_read_to_list) {
    open_the_way();
    directory_of("search-only", ALICE, TEAM, 0711);
    directory_of("read-only", ALICE, TEAM, 0744);
    directory_of("closed", ALICE, TEAM, 0700);
    file_of("search-only/file", BOB, TEAM, 0644);
    file_of("read-only/file", BOB, TEAM, 0644);
    AS(BOB, BOB, {
        struct stat status;
        CALL_OK(open("search-only/file", O_RDONLY));
        CALL(open("search-only", O_RDONLY | O_DIRECTORY));
        CALL(chdir("search-only"));
        CALL(chdir("../read-only"));
        CALL(stat("../read-only/file", &status));
        CALL_OK(open("../read-only", O_RDONLY | O_DIRECTORY));
        CALL(open("../read-only/file", O_RDONLY));
        CALL(access("../closed", F_OK));
        CALL(access("../closed/nothing", F_OK));
        CALL(access("../closed/..", F_OK));
    });
}

ROOT_TEST(changing_a_directory_needs_write_and_search) {
    open_the_way();
    directory_of("d", ALICE, TEAM, 0755);
    directory_of("d/sub", BOB, BOB, 0777);
    file_of("d/file", BOB, BOB, 0666);
    directory_of("own", BOB, BOB, 0700);
    AS(BOB, BOB, {
        make_text("own/file", "mine");
        CALL(open("d/new", O_CREAT | O_RDWR, 0644));
        CALL_OK(open("d/file", O_CREAT | O_RDWR, 0644));
        CALL(mkdir("d/new", 0755));
        CALL(mkdir("d/sub", 0755));
        CALL(symlink("x", "d/new"));
        CALL(link("own/file", "d/new"));
        CALL(unlink("d/file"));
        CALL(rmdir("d/sub"));
        CALL(rename("d/file", "own/taken"));
        CALL(rename("own/file", "d/given"));
        CALL(rename("own/file", "d/file"));
        CALL(mknod("d/fifo", S_IFIFO | 0644, 0));
        CALL(unlink("d/nowhere"));
    });
}

ROOT_TEST(the_sticky_bit_keeps_names_to_their_owners) {
    open_the_way();
    directory_of("shared", ALICE, TEAM, 01777);
    file_of("shared/of-bob", BOB, BOB, 0666);
    file_of("shared/of-root", 0, 0, 0666);
    AS(BOB, BOB, {
        CALL(unlink("shared/of-root"));
        CALL(rename("shared/of-root", "shared/x"));
        make_text("shared/mine", "");
        CALL(rename("shared/mine", "shared/of-root"));
        CALL(rename("shared/mine", "shared/still-mine"));
        CALL(unlink("shared/of-bob"));
    });
    AS(ALICE, ALICE, {
        CALL(unlink("shared/of-root"));
        CALL(unlink("shared/still-mine"));
    });
}

ROOT_TEST(only_the_owner_changes_mode_and_times) {
    open_the_way();
    file_of("f", ALICE, TEAM, 0666);
    AS(BOB, TEAM, {
        struct timespec times[2] = {{1, 0}, {1, 0}};
        CALL(chmod("f", 0777));
        CALL(utimensat(AT_FDCWD, "f", times, 0));
        CALL(utimensat(AT_FDCWD, "f", NULL, 0));
        int fd = open("f", O_RDWR);
        CALL(fchmod(fd, 0777));
    });
    SET_UP(chmod("f", 0644) == 0);
    AS(BOB, TEAM, CALL(utimensat(AT_FDCWD, "f", NULL, 0)));
    AS(ALICE, ALICE, CALL(chmod("f", 0600)));
}

ROOT_TEST(chmod_by_a_stranger_to_the_group_drops_setgid) {
    open_the_way();
    file_of("f", ALICE, TEAM, 0644);
    AS(ALICE, ALICE, CALL(chmod("f", 02755)));
    struct stat status;
    SET_UP(stat("f", &status) == 0);
    say("mode %o", status.st_mode);
}

ROOT_TEST(giving_files_away_is_for_the_superuser) {
    open_the_way();
    file_of("f", ALICE, ALICE, 0644);
    file_of("set-id", ALICE, ALICE, 06755);
    pid_t child = fork_child();
    if (child == 0) {
        gid_t groups[] = {TEAM};
        SET_UP(setgroups(1, groups) == 0);
        SET_UP(setresgid(ALICE, ALICE, ALICE) == 0 && setresuid(ALICE, ALICE, ALICE) == 0);
        CALL(chown("f", BOB, -1));
        CALL(chown("f", -1, BOB));
        CALL(chown("f", ALICE, TEAM));
        CALL(chown("f", -1, -1));
        CALL(chown("set-id", -1, TEAM));
        _exit(0);
    }
    show_end("child", child);
    struct stat status;
    SET_UP(stat("f", &status) == 0);
    say("owner %u, group %u", status.st_uid, status.st_gid);
    SET_UP(stat("set-id", &status) == 0);
    say("mode %o", status.st_mode);
}

ROOT_TEST(writing_drops_set_id) {
    open_the_way();
    file_of("f", ALICE, ALICE, 06777);
    AS(BOB, BOB, {
        int fd = open("f", O_WRONLY);
        SET_UP(fd >= 0 && write(fd, "x", 1) == 1);
    });
    struct stat status;
    SET_UP(stat("f", &status) == 0);
    say("mode %o", status.st_mode);
}

ROOT_TEST(new_files_belong_to_the_effective_ids) {
    open_the_way();
    directory_of("group", ALICE, TEAM, 02777);
    AS(BOB, BOB, {
        make_text("plain", "");
        make_text("group/file", "");
        SET_UP(mkdir("group/d", 0755) == 0);
    });
    const char *paths[] = {"plain", "group/file", "group/d"};
    for (int i = 0; i < 3; i++) {
        struct stat status;
        SET_UP(stat(paths[i], &status) == 0);
        say("%s: owner %u, group %u, mode %o", paths[i], status.st_uid, status.st_gid, status.st_mode);
    }
}

int child_main(int argc, char **argv) {
    (void)argc;
    (void)argv;
    say("real %u:%u, effective %u:%u", getuid(), getgid(), geteuid(), getegid());
    return 0;
}

ROOT_TEST(a_set_id_program_takes_the_ids_of_its_file) {
    open_the_way();
    char content[65536];
    int from = open(own_path(), O_RDONLY), to = open("program", O_WRONLY | O_CREAT, 0755);
    SET_UP(from >= 0 && to >= 0);
    for (ssize_t got; (got = read(from, content, sizeof content)) > 0;)
        SET_UP(write(to, content, (size_t)got) == got);
    SET_UP(close(to) == 0 && chown("program", ALICE, TEAM) == 0 && chmod("program", 06755) == 0);
    AS(BOB, BOB, execl("./program", "program", "--child", NULL));
}

ROOT_TEST(ids_change_by_the_rules) {
    uid_t real, effective, saved;
    CALL(setresuid(ALICE, ALICE, 0));
    CALL(setresuid(-1, BOB, -1));
    CALL(setresuid(-1, 0, -1));
    CALL(setresuid(ALICE, ALICE, ALICE));
    CALL(setresuid(-1, 0, -1));
    CALL(setuid(0));
    CALL(setuid(ALICE));
    CALL(setreuid(BOB, -1));
    CALL(seteuid(BOB));
    CALL(setresgid(TEAM, TEAM, TEAM));
    CALL(setgid(TEAM));
    CALL(setgroups(0, NULL));
    CALL(getresuid(&real, &effective, &saved));
    say("%u %u %u", real, effective, saved);
    CALL(RAW(SYS_getresuid, BAD_ADDRESS, &effective, &saved));
}

ROOT_TEST(setuid_of_the_superuser_sets_all_three) {
    uid_t real, effective, saved;
    CALL(setuid(ALICE));
    SET_UP(getresuid(&real, &effective, &saved) == 0);
    say("%u %u %u", real, effective, saved);
    CALL(setuid(0));
}

ROOT_TEST(seteuid_can_go_back) {
    CALL(setegid(TEAM));
    CALL(seteuid(ALICE));
    say("%u %u, %u %u", getuid(), geteuid(), getgid(), getegid());
    CALL(open("/", O_RDONLY | O_DIRECTORY));
    CALL(setegid(0));
    CALL(seteuid(0));
    say("%u %u, %u %u", getuid(), geteuid(), getgid(), getegid());
}

ROOT_TEST(groups_are_set_and_told) {
    gid_t groups[8] = {30, 10, 20}, told[8] = {0};
    CALL(setgroups(3, groups));
    CALL(getgroups(0, NULL));
    CALL(getgroups(8, told));
    long sum = 0;
    for (int i = 0; i < 8; i++)
        sum += told[i];
    say("sum %ld", sum);
    CALL(getgroups(2, told));
    CALL(getgroups(-1, told));
    CALL(RAW(SYS_getgroups, 8, BAD_ADDRESS));
    CALL(RAW(SYS_setgroups, 70000, groups));
    CALL(RAW(SYS_setgroups, 2, BAD_ADDRESS));
}

ROOT_TEST(access_asks_for_the_real_user) {
    open_the_way();
    file_of("f", 0, 0, 0600);
    SET_UP(setresuid(ALICE, 0, 0) == 0);
    CALL(access("f", R_OK));
    CALL(RAW(SYS_faccessat2, AT_FDCWD, "f", R_OK, AT_EACCESS));
    CALL_OK(open("f", O_RDONLY));
}

/* A child of this user that sleeps until it is killed. */
static pid_t sleeper_of(uid_t uid) {
    struct gate ready = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        drop_to(uid, uid);
        open_gate(ready);
        for (;;)
            pause();
    }
    pass_gate(ready);
    return child;
}

ROOT_TEST(signals_go_only_to_processes_of_the_same_user) {
    pid_t of_alice = sleeper_of(ALICE), of_bob = sleeper_of(BOB);
    AS(ALICE, ALICE, {
        CALL(kill(of_bob, 0));
        CALL(kill(of_bob, SIGTERM));
        CALL(kill(of_bob, SIGKILL));
        CALL(kill(getppid(), SIGTERM));
        CALL(kill(1, SIGTERM));
        CALL(kill(of_alice, 0));
        CALL(kill(of_alice, SIGTERM));
    });
    show_end("of alice", of_alice);
    CALL(waitpid(of_bob, NULL, WNOHANG));
    CALL(kill(of_bob, SIGKILL));
    show_end("of bob", of_bob);
}

ROOT_TEST(a_group_signal_reaches_those_it_may_or_fails) {
    pid_t of_bob = sleeper_of(BOB);
    AS(ALICE, ALICE, {
        signal(SIGTERM, SIG_IGN);
        CALL(kill(0, SIGTERM));
    });
    SET_UP(setpgid(of_bob, of_bob) == 0);
    AS(ALICE, ALICE, CALL(kill(-of_bob, SIGTERM)));
    CALL(waitpid(of_bob, NULL, WNOHANG));
    SET_UP(kill(of_bob, SIGKILL) == 0);
    show_end("of bob", of_bob);
}

ROOT_TEST(sigcont_crosses_users_within_a_session) {
    pid_t of_bob = sleeper_of(BOB);
    AS(ALICE, ALICE, {
        CALL(kill(of_bob, SIGCONT));
        CALL(kill(of_bob, SIGSTOP));
    });
    SET_UP(kill(of_bob, SIGKILL) == 0);
    show_end("of bob", of_bob);
}

ROOT_TEST(what_is_for_the_superuser_is_eperm) {
    open_the_way();
    directory_of("d", ALICE, ALICE, 0755);
    AS(ALICE, ALICE, {
        struct timespec now = {1, 0};
        CALL(clock_settime(CLOCK_REALTIME, &now));
        CALL(mknod("d/device", S_IFCHR | 0666, 0x103));
        CALL(mknod("d/file", S_IFREG | 0644, 0));
        CALL(RAW(SYS_setpriority, 0, 0, -5));
    });
}

ROOT_TEST(an_open_descriptor_keeps_its_rights) {
    open_the_way();
    file_of("f", 0, 0, 0600);
    int fd = open("f", O_RDWR);
    SET_UP(fd >= 0);
    AS(ALICE, ALICE, {
        char byte;
        CALL(open("f", O_RDONLY));
        CALL(read(fd, &byte, 1));
        CALL(write(fd, &byte, 1));
        CALL(ftruncate(fd, 3));
        CALL(fchmod(fd, 0777));
        CALL(fchown(fd, ALICE, -1));
    });
    show_file("f");
}
