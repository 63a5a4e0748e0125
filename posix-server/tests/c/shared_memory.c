/* Shared memory of System V: sizes and keys, attaching and detaching, what processes share, removal, permissions. */
#include "case.h"

#include <setjmp.h>
#include <sys/ipc.h>
#include <sys/resource.h>
#include <sys/shm.h>

#ifndef SHM_EXEC
#define SHM_EXEC 0100000
#endif

static int make_segment(size_t bytes) {
    int segment = shmget(IPC_PRIVATE, bytes, 0600);
    SET_UP(segment >= 0);
    return segment;
}

static char *attach(int segment) {
    char *at = shmat(segment, NULL, 0);
    SET_UP(at != (void *)-1);
    return at;
}

static struct shmid_ds status_of(int segment) {
    struct shmid_ds status;
    SET_UP(shmctl(segment, IPC_STAT, &status) == 0);
    return status;
}

static void show_attachments(int segment) { say("attached %ld times", (long)status_of(segment).shm_nattch); }

static void remove_segment(int segment) { SET_UP(shmctl(segment, IPC_RMID, NULL) == 0); }

TEST(segments_have_keys_and_sizes) {
    key_t key = 0x52000000 + (getpid() & 0xffffff);
    CALL(shmget(key, 1, 0600));
    CALL(shmget(key, 0, IPC_CREAT | 0600));
    int segment = CALL_OK(shmget(key, 5000, IPC_CREAT | 0640));
    segment = shmget(key, 0, 0);
    HOLDS(shmget(key, 5000, 0600) == segment);
    CALL(shmget(key, 5001, 0600));
    CALL(shmget(key, 5000, IPC_CREAT | IPC_EXCL | 0600));
    CALL(shmget(key, 5001, IPC_CREAT | IPC_EXCL | 0600));
    CALL(shmget(IPC_PRIVATE, 0, 0600));
    CALL(shmget(IPC_PRIVATE, -1UL, 0600));
    struct shmid_ds status = status_of(segment);
    say("%ld bytes, mode %o, attached %ld times", (long)status.shm_segsz, status.shm_perm.mode, (long)status.shm_nattch);
    HOLDS(status.shm_cpid == getpid() && status.shm_lpid == 0);
    HOLDS(status.shm_atime == 0 && status.shm_dtime == 0 && status.shm_ctime > 0);
    HOLDS(status.shm_perm.__key == key);
    CALL(shmctl(segment, IPC_RMID, NULL));
    CALL(shmctl(segment, IPC_RMID, NULL));
    CALL(shmget(key, 0, 0));
    CALL(shmctl(-1, IPC_STAT, &status));
    segment = make_segment(1);
    CALL(shmctl(segment, 99, NULL));
    remove_segment(segment);
}

TEST(two_attachments_show_the_same_bytes) {
    int segment = make_segment(3 * PAGE);
    char *one = attach(segment), *two = attach(segment);
    HOLDS(one != two && (uintptr_t)one % PAGE == 0);
    HOLDS(one[2 * PAGE] == 0);
    strcpy(one + PAGE, "shared");
    say("%s", two + PAGE);
    show_attachments(segment);
    CALL(shmdt(one));
    CALL(shmdt(one));
    CALL(shmdt(two + 1));
    CALL(shmdt(two + PAGE));
    show_attachments(segment);
    say("%s", two + PAGE);
    CALL(shmdt(two));
    struct shmid_ds status = status_of(segment);
    HOLDS(status.shm_lpid == getpid() && status.shm_atime > 0 && status.shm_dtime > 0);
    remove_segment(segment);
}

TEST(addresses_are_chosen_or_checked) {
    int segment = make_segment(2 * PAGE);
    char *room = mmap(NULL, 8 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(room != MAP_FAILED && munmap(room, 4 * PAGE) == 0);
    HOLDS(shmat(segment, room, 0) == room);
    CALL_MAP(shmat(segment, room + 5, 0));
    CALL_MAP(shmat(segment, room + 2 * PAGE + 5, SHM_RND));
    CALL(shmdt(room + 2 * PAGE));
    CALL_MAP(shmat(segment, room + 3 * PAGE, 0));
    CALL_MAP(shmat(segment, room + 4 * PAGE, 0));
    CALL_MAP(shmat(segment, NULL, SHM_REMAP));
    HOLDS(shmat(segment, room + 4 * PAGE, SHM_REMAP) == room + 4 * PAGE);
    strcpy(room, "seen");
    say("%s", room + 4 * PAGE);
    show_attachments(segment);
    CALL_MAP(shmat(segment, (void *)-PAGE, 0));
    CALL_MAP(shmat(-1, NULL, 0));
    CALL_MAP(shmat(segment + 1000, NULL, 0));
    HOLDS(shmat(segment, room, SHM_REMAP) == room);
    show_attachments(segment);
    remove_segment(segment);
    CALL(shmdt(room));
    CALL(shmdt(room + 4 * PAGE));
    CALL(shmctl(segment, IPC_STAT, NULL));
}

static sigjmp_buf back;
static void jump(int signal_number) { siglongjmp(back, signal_number); }

static void show_store(char *at) {
    int signal_number = sigsetjmp(back, 1);
    if (signal_number == 0)
        *(volatile char *)at = 1;
    say("store: %s", signal_number ? signal_name(signal_number) : "ok");
}

TEST(attachments_can_be_read_only_or_executable) {
    int segment = make_segment(PAGE);
    handle(SIGSEGV, jump, 0);
    char *readable = shmat(segment, NULL, SHM_RDONLY), *writable = attach(segment);
    SET_UP(readable != (void *)-1);
    show_store(readable);
    show_store(writable);
    HOLDS(*readable == 1);
    CALL(mprotect(readable, PAGE, PROT_READ | PROT_WRITE));
    CALL(mprotect(readable, PAGE, PROT_READ | PROT_EXEC));
    CALL(mprotect(writable, PAGE, PROT_READ));
    show_store(writable);
    unsigned char *code = shmat(segment, NULL, SHM_EXEC);
    if (code != (void *)-1) {
        memcpy(code, (unsigned char[]){0xb8, 42, 0, 0, 0, 0xc3}, 6);
        say("the code gives %d", ((int (*)(void))code)());
    }
    remove_segment(segment);
}

TEST(a_removed_segment_lives_while_it_is_attached) {
    key_t key = 0x53000000 + (getpid() & 0xffffff);
    int segment = shmget(key, PAGE, IPC_CREAT | 0600);
    SET_UP(segment >= 0);
    char *at = attach(segment);
    strcpy(at, "alive");
    CALL(shmctl(segment, IPC_RMID, NULL));
    CALL(shmget(key, 0, 0));
    struct shmid_ds status = status_of(segment);
    say("mode %o, key %d", status.shm_perm.mode, status.shm_perm.__key);
    char *again = CALL_MAP(shmat(segment, NULL, 0));
    say("%s", again);
    CALL(shmctl(segment, IPC_RMID, NULL));
    CALL(shmdt(at));
    CALL(shmdt(again));
    CALL(shmctl(segment, IPC_STAT, &status));
    CALL_MAP(shmat(segment, NULL, 0));
}

TEST(children_inherit_attachments_and_lose_them_by_exec_and_exit) {
    int segment = make_segment(2 * PAGE);
    char *at = attach(segment);
    struct gate ready = make_gate(), go = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        strcpy(at, "from the child");
        open_gate(ready);
        pass_gate(go);
        munmap(at, PAGE);
        open_gate(ready);
        pass_gate(go);
        char number[20];
        snprintf(number, sizeof number, "%d", segment);
        execl(own_path(), own_path(), "--child", number, NULL);
        _exit(9);
    }
    pass_gate(ready);
    say("%s", at);
    show_attachments(segment);
    open_gate(go);
    pass_gate(ready);
    show_attachments(segment);
    open_gate(go);
    show_end("the child", child);
    show_attachments(segment);
    child = fork_child();
    if (child == 0)
        _exit(0);
    show_end("another child", child);
    HOLDS(status_of(segment).shm_lpid == child);
    show_attachments(segment);
    child = fork_child();
    if (child == 0) {
        CALL(shmdt(at));
        CALL(shmdt(at));
        _exit(0);
    }
    show_end("a third", child);
    say("%s", at);
    remove_segment(segment);
}

int child_main(int argc, char **argv) {
    if (argc < 1)
        return 8;
    int segment = atoi(argv[argc - 1]);
    show_attachments(segment);
    return 0;
}

TEST(the_end_of_the_last_user_ends_a_removed_segment) {
    int segment = make_segment(PAGE);
    struct gate ready = make_gate(), go = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        attach(segment);
        open_gate(ready);
        pass_gate(go);
        _exit(0);
    }
    pass_gate(ready);
    CALL(shmctl(segment, IPC_RMID, NULL));
    show_attachments(segment);
    open_gate(go);
    show_end("the child", child);
    struct shmid_ds status;
    CALL(shmctl(segment, IPC_STAT, &status));
}

ROOT_TEST(permissions_are_checked) {
    int segment = shmget(IPC_PRIVATE, PAGE, 0604);
    SET_UP(segment >= 0);
    pid_t child = fork_child();
    if (child == 0) {
        drop_to(NOBODY, NOBODY);
        struct shmid_ds status;
        CALL_MAP(shmat(segment, NULL, 0));
        CALL_MAP(shmat(segment, NULL, SHM_RDONLY));
        CALL_MAP(shmat(segment, NULL, SHM_RDONLY | SHM_EXEC));
        CALL(shmctl(segment, IPC_STAT, &status));
        CALL(shmctl(segment, IPC_SET, &status));
        CALL(shmctl(segment, IPC_RMID, NULL));
        CALL(shmctl(segment, SHM_LOCK, NULL));
        CALL(shmctl(segment, SHM_UNLOCK, NULL));
        int own = make_segment(PAGE);
        CALL(shmctl(own, SHM_LOCK, NULL));
        say("mode %o", status_of(own).shm_perm.mode);
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_MEMLOCK, &none);
        CALL(shmctl(own, SHM_UNLOCK, NULL));
        CALL(shmctl(own, SHM_LOCK, NULL));
        CALL(shmctl(own, IPC_RMID, NULL));
        _exit(0);
    }
    show_end("the child", child);
    struct shmid_ds status = status_of(segment);
    status.shm_perm.uid = NOBODY;
    status.shm_perm.mode = 0407777;
    CALL(shmctl(segment, IPC_SET, &status));
    status = status_of(segment);
    say("uid %d, mode %o", (int)status.shm_perm.uid, status.shm_perm.mode);
    CALL(shmctl(segment, IPC_SET, BAD_ADDRESS));
    CALL(shmctl(segment, IPC_STAT, BAD_ADDRESS));
    remove_segment(segment);
}

TEST(attachments_are_areas_like_others) {
    int segment = make_segment(4 * PAGE);
    char *at = attach(segment);
    strcpy(at + 3 * PAGE, "moved");
    CALL(munmap(at + PAGE, PAGE));
    char *moved = mremap(at + 3 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + PAGE);
    HOLDS(moved == at + PAGE);
    say("%s", moved);
    CALL(shmdt(at));
    show_attachments(segment);
    CALL(munmap(moved, PAGE));
    show_attachments(segment);
    struct rlimit small = {1 << 20, 1 << 20}, old;
    int large = make_segment(4 << 20);
    SET_UP(getrlimit(RLIMIT_AS, &old) == 0);
    small.rlim_max = old.rlim_max;
    SET_UP(setrlimit(RLIMIT_AS, &small) == 0);
    CALL_MAP(shmat(large, NULL, 0));
    SET_UP(setrlimit(RLIMIT_AS, &old) == 0);
    show_attachments(large);
    remove_segment(segment);
    remove_segment(large);
}

/* Prints the words of a segment's line that are the same in each run. */
static void show_line(int segment) {
    FILE *file = fopen("/proc/sysvipc/shm", "r");
    char line[512];
    SET_UP(file && fgets(line, sizeof line, file));
    show_bytes("heading", line, strlen(line));
    while (fgets(line, sizeof line, file)) {
        int key, id;
        unsigned mode, maker;
        long size, attached;
        SET_UP(sscanf(line, "%d %d %o %ld %u %*d %ld", &key, &id, &mode, &size, &maker, &attached) == 6);
        if (id == segment)
            say("mode %o, %ld bytes, attached %ld times, own: %s, %zu long", mode, size, attached,
                maker == (unsigned)getpid() ? "yes" : "no", strlen(line));
    }
    fclose(file);
}

TEST(proc_lists_segments_and_their_areas) {
    int segment = make_segment(5000);
    char *at = attach(segment);
    at[0] = 1;
    show_line(segment);
    FILE *maps = fopen("/proc/self/maps", "r");
    SET_UP(maps);
    char line[512], access[8], name[256] = "";
    unsigned long start, end, offset, inode;
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %7s %lx %*x:%*x %lu %255[^\n]", &start, &end, access, &offset, &inode, name) == 6 &&
            start == (unsigned long)at)
            say("%lu pages %s from %lu, its number: %s, %s", (end - start) / PAGE, access, offset,
                inode == (unsigned long)segment ? "yes" : "no", name + strspn(name, " "));
    fclose(maps);
    remove_segment(segment);
}

TEST(segments_are_found_by_index) {
    int segment = make_segment(PAGE);
    struct shmid_ds status;
    bool found = false;
    int highest = shmctl(0, SHM_INFO, &status);
    HOLDS(highest >= 0 && shmctl(0, IPC_INFO, &status) == highest);
    for (int index = 0; index <= highest; index++)
        found |= shmctl(index, SHM_STAT, &status) == segment;
    HOLDS(found);
    CALL(shmctl(0, SHM_INFO, BAD_ADDRESS));
    CALL(shmctl(32767, SHM_STAT, &status));
    remove_segment(segment);
}
