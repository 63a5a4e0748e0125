/* System V message queues and semaphores: keys, permissions, order, waiting, removal. */
#include "case.h"

#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>

struct message {
    long kind;
    char text[32];
};

static int make_queue(void) {
    int queue = msgget(IPC_PRIVATE, 0600);
    SET_UP(queue >= 0);
    return queue;
}

static int make_set(int count) {
    int set = semget(IPC_PRIVATE, count, 0600);
    SET_UP(set >= 0);
    return set;
}

static void send_text(int queue, long kind, const char *text) {
    struct message message = {.kind = kind};
    strncpy(message.text, text, sizeof message.text - 1);
    CALL(msgsnd(queue, &message, strlen(text), IPC_NOWAIT));
}

static void receive(int queue, long kind, int flags) {
    struct message message = {0};
    long length = CALL(msgrcv(queue, &message, sizeof message.text, kind, flags | IPC_NOWAIT));
    if (length >= 0)
        say("type %ld: %.*s", message.kind, (int)length, message.text);
}

TEST(queues_have_keys) {
    key_t key = 0x51000000 + (getpid() & 0xffffff);
    CALL(msgget(key, 0600));
    int queue = CALL_OK(msgget(key, IPC_CREAT | 0600));
    queue = msgget(key, 0);
    CALL(msgget(key, IPC_CREAT | IPC_EXCL | 0600));
    HOLDS(msgget(key, 0600) == queue);
    CALL(msgctl(queue, IPC_RMID, NULL));
    CALL(msgctl(queue, IPC_RMID, NULL));
    CALL(msgget(key, 0));
    CALL(msgctl(-1, IPC_RMID, NULL));
    CALL(msgctl(queue, 77, NULL));
}

TEST(messages_are_taken_by_type) {
    int queue = make_queue();
    send_text(queue, 3, "three");
    send_text(queue, 1, "one");
    send_text(queue, 2, "two");
    send_text(queue, 1, "one again");
    receive(queue, 2, 0);
    receive(queue, -2, 0);
    receive(queue, 3, MSG_EXCEPT);
    receive(queue, 9, 0);
    receive(queue, 0, 0);
    receive(queue, 0, 0);
    CALL(msgctl(queue, IPC_RMID, NULL));
}

TEST(messages_have_limits) {
    int queue = make_queue();
    static char large[9000] = {1};
    CALL(msgsnd(queue, large, 8193, IPC_NOWAIT));
    struct message message = {.kind = 0};
    CALL(msgsnd(queue, &message, 4, IPC_NOWAIT));
    message.kind = -1;
    CALL(msgsnd(queue, &message, 4, IPC_NOWAIT));
    CALL(msgsnd(queue, BAD_ADDRESS, 4, IPC_NOWAIT));
    CALL(msgsnd(-1, &message, 4, IPC_NOWAIT));
    *(long *)large = 1;
    CALL(msgsnd(queue, large, 8192, IPC_NOWAIT));
    CALL(msgsnd(queue, large, 8192, IPC_NOWAIT));
    CALL(msgsnd(queue, large, 1, IPC_NOWAIT));
    CALL(msgrcv(queue, large, 100, 0, IPC_NOWAIT));
    CALL(msgrcv(queue, large, 100, 0, IPC_NOWAIT | MSG_NOERROR));
    CALL(msgrcv(queue, large, -1, 0, IPC_NOWAIT));
    struct msqid_ds status;
    CALL(msgctl(queue, IPC_STAT, &status));
    say("%ld messages, %ld of %ld bytes, mode %o", (long)status.msg_qnum, (long)status.msg_cbytes, (long)status.msg_qbytes,
        status.msg_perm.mode);
    HOLDS(status.msg_lspid == getpid() && status.msg_lrpid == getpid() && status.msg_stime > 0);
    status.msg_perm.mode = 0640;
    status.msg_qbytes = 100;
    CALL(msgctl(queue, IPC_SET, &status));
    CALL(msgctl(queue, IPC_STAT, &status));
    say("%ld bytes, mode %o", (long)status.msg_qbytes, status.msg_perm.mode);
    CALL(msgctl(queue, IPC_RMID, NULL));
}

TEST(a_receiver_waits_and_learns_of_the_removal) {
    int queue = make_queue();
    struct gate received = make_gate();
    pid_t child = fork_child();
    if (child == 0) {
        struct message message;
        CALL(msgrcv(queue, &message, sizeof message.text, 0, 0));
        open_gate(received);
        CALL(msgrcv(queue, &message, sizeof message.text, 0, 0));
        _exit(0);
    }
    sleep_ms(20);
    // Without a line of its own: the receiver may be writing its.
    struct message message = {1, "awaited"};
    SET_UP(msgsnd(queue, &message, strlen(message.text), 0) == 0);
    pass_gate(received);
    sleep_ms(20);
    SET_UP(msgctl(queue, IPC_RMID, NULL) == 0);
    show_end("the receiver", child);
}

TEST(a_waiting_receiver_is_interrupted) {
    int queue = make_queue();
    keep_interrupting();
    struct message message;
    CALL(msgrcv(queue, &message, sizeof message.text, 0, 0));
    stop_interrupting();
    CALL(msgctl(queue, IPC_RMID, NULL));
}

ROOT_TEST(permissions_are_checked) {
    int queue = msgget(IPC_PRIVATE, 0640), set = semget(IPC_PRIVATE, 1, 0604);
    SET_UP(queue >= 0 && set >= 0);
    pid_t child = fork_child();
    if (child == 0) {
        drop_to(NOBODY, NOBODY);
        send_text(queue, 1, "x");
        receive(queue, 0, 0);
        struct msqid_ds status;
        CALL(msgctl(queue, IPC_STAT, &status));
        CALL(msgctl(queue, IPC_RMID, NULL));
        CALL(semctl(set, 0, GETVAL));
        CALL(semctl(set, 0, SETVAL, 1));
        CALL(semctl(set, 0, IPC_RMID));
        struct sembuf add = {0, 1, IPC_NOWAIT}, zero = {0, 0, IPC_NOWAIT};
        CALL(semop(set, &add, 1));
        CALL(semop(set, &zero, 1));
        _exit(0);
    }
    show_end("the child", child);
    CALL(msgctl(queue, IPC_RMID, NULL));
    CALL(semctl(set, 0, IPC_RMID));
}

TEST(sets_are_made_with_a_size) {
    key_t key = 0x52000000 + (getpid() & 0xffffff);
    CALL(semget(key, 2, 0600));
    CALL(semget(key, 0, IPC_CREAT | 0600));
    CALL(semget(key, -1, IPC_CREAT | 0600));
    CALL(semget(key, 32001, IPC_CREAT | 0600));
    int set = semget(key, 2, IPC_CREAT | 0600);
    CALL(semget(key, 3, 0600));
    HOLDS(semget(key, 2, 0600) == set && semget(key, 0, 0) == set);
    struct semid_ds status;
    CALL(semctl(set, 0, IPC_STAT, &status));
    say("%ld semaphores, mode %o, operated %ld", (long)status.sem_nsems, status.sem_perm.mode, (long)status.sem_otime);
    CALL(semctl(set, 0, IPC_RMID));
    CALL(semctl(set, 0, GETVAL));
}

TEST(values_are_read_and_set) {
    int set = make_set(3);
    unsigned short values[3] = {1, 2, 3};
    CALL(semctl(set, 0, SETALL, values));
    CALL(semctl(set, 1, SETVAL, 7));
    CALL(semctl(set, 1, SETVAL, 32768));
    CALL(semctl(set, 1, SETVAL, -1));
    CALL(semctl(set, 3, SETVAL, 1));
    CALL(semctl(set, -1, GETVAL));
    memset(values, 0, sizeof values);
    CALL(semctl(set, 0, GETALL, values));
    say("%d %d %d", values[0], values[1], values[2]);
    CALL(semctl(set, 0, GETALL, BAD_ADDRESS));
    HOLDS(semctl(set, 1, GETPID) == getpid());
    CALL(semctl(set, 0, GETNCNT));
    CALL(semctl(set, 0, GETZCNT));
    CALL(semctl(set, 0, 99));
    CALL(semctl(set, 0, IPC_RMID));
}

TEST(operations_are_atomic) {
    int set = make_set(2);
    struct sembuf both[2] = {{0, 3, IPC_NOWAIT}, {1, -1, IPC_NOWAIT}};
    CALL(semop(set, both, 2));
    CALL(semctl(set, 0, GETVAL));
    CALL(semctl(set, 1, SETVAL, 1));
    CALL(semop(set, both, 2));
    CALL(semctl(set, 0, GETVAL));
    struct sembuf zero = {0, 0, IPC_NOWAIT}, beyond = {2, 1, 0}, most = {0, 32767, 0};
    CALL(semop(set, &zero, 1));
    CALL(semop(set, &beyond, 1));
    CALL(semop(set, &most, 1));
    CALL(semop(set, both, 0));
    CALL(RAW(SYS_semop, set, both, 501UL));
    CALL(RAW(SYS_semop, set, BAD_ADDRESS, 1UL));
    struct sembuf down = {1, -1, 0};
    struct timespec soon = {0, 10000000}, wrong = {0, 1000000000};
    CALL(semtimedop(set, &down, 1, &soon));
    CALL(semtimedop(set, &down, 1, &wrong));
    CALL(semctl(set, 0, IPC_RMID));
}

TEST(a_waiting_call_is_counted_woken_and_told_of_the_removal) {
    int set = make_set(1);
    pid_t child = fork_child();
    if (child == 0) {
        struct sembuf down = {0, -2, 0};
        CALL(semop(set, &down, 1));
        CALL(semop(set, &down, 1));
        _exit(0);
    }
    while (semctl(set, 0, GETNCNT) == 0)
        sleep_ms(2);
    SET_UP(semctl(set, 0, SETVAL, 1) == 0);
    SET_UP(semctl(set, 0, SETVAL, 2) == 0);
    while (semctl(set, 0, GETVAL) != 0 || semctl(set, 0, GETNCNT) == 0)
        sleep_ms(2);
    SET_UP(semctl(set, 0, IPC_RMID) == 0);
    show_end("the child", child);
}

TEST(a_waiting_operation_is_interrupted) {
    int set = make_set(1);
    keep_interrupting();
    struct sembuf down = {0, -1, 0};
    CALL(semop(set, &down, 1));
    stop_interrupting();
    CALL(semctl(set, 0, IPC_RMID));
}

TEST(the_end_of_a_process_takes_its_operations_back) {
    int set = make_set(2);
    SET_UP(semctl(set, 0, SETVAL, 5) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        struct sembuf operations[] = {{0, -3, SEM_UNDO}, {1, 2, SEM_UNDO}, {1, 1, 0}};
        CALL(semop(set, operations, 3));
        CALL(semctl(set, 0, GETVAL));
        CALL(semctl(set, 1, GETVAL));
        _exit(0);
    }
    show_end("the child", child);
    CALL(semctl(set, 0, GETVAL));
    CALL(semctl(set, 1, GETVAL));
    CALL(semctl(set, 0, IPC_RMID));
}
