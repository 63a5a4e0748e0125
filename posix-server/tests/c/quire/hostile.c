/*
 * Programs that mean harm: random system calls with random arguments, several processes at once; and programs that play their own
 * shim and talk to the server, and to the kernel, directly. The server must live, others must not notice, and when they are gone
 * everything must have been given back.
 *
 * The environment variable HOSTILE_CALLS says how many calls to make.
 */
#include "../case.h"

#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/time.h>

#define SEATS 4
#define CALLS_PER_PROCESS 200
#define USUAL_CALLS 20000
#define WARM_UP_CALLS 4000
/* A hostile shim often waits in the kernel, where no signal reaches it, and must be killed: it is slow. */
#define USUAL_SHIM_CALLS 4000
#define PROCESS_LIMIT 24
#define FILE_BYTES_LIMIT (1 << 20)
#define SPACE_BYTES_LIMIT (1UL << 30)
#define MAX_PROCESS_MS 200
#define INTERRUPT_MICROSECONDS 10000
/* A user of their own, so that they can signal and use up only what is theirs. */
#define VILLAIN 43211
/*
 * Tables of the server and of the kernel stay as large as the most that was in them, and the server's heap gives only whole pages back:
 * so much may the first half of the calls leave in use, and so much the second half may add, which finds those tables. (A byte for each
 * of a million calls would be 122 pages in a half.)
 */
#define KEPT_PAGES 256
#define TOLERATED_PAGES 64
/* A table that grows doubles. */
#define TOLERATED_HEAP_BYTES (128L << 10)

#define NUMBERS 472

/* ---- chance ---- */

static uint64_t state;

static uint64_t chance(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static unsigned below(unsigned bound) { return (unsigned)((chance() >> 20) % bound); }

/* ---- what arguments are made of ---- */

#define SCRATCH_PAGES 4

/* The last page can't be reached, the one before it not be written. */
static char *scratch;

static void make_scratch(void) {
    scratch = mmap(NULL, (SCRATCH_PAGES + 2) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (scratch == MAP_FAILED)
        _exit(1);
    for (size_t at = 0; at < SCRATCH_PAGES * PAGE; at += sizeof(uint64_t)) {
        uint64_t word = below(3) ? below(16) : chance();
        memcpy(scratch + at, &word, sizeof word);
    }
    static const char *const names[] = {"a", "b", "a/b", "/tmp", ".", "..", "/proc/self/mem", "/dev/null", "/dev/ptmx", "/dev/tty"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        strcpy(scratch + i * 64, names[i]);
    mprotect(scratch + SCRATCH_PAGES * PAGE, PAGE, PROT_READ);
    mprotect(scratch + (SCRATCH_PAGES + 1) * PAGE, PAGE, PROT_NONE);
}

static long argument(void) {
    switch (below(10)) {
    case 0: return 0;
    case 1: return -1;
    case 2:
    case 3: return below(24);
    case 4: return (long)(scratch + below(10) * 64);
    case 5:
    case 6: return (long)(scratch + below((SCRATCH_PAGES + 2) * PAGE));
    case 7: return 1L << below(64);
    case 8: return (long)(PAGE * below(1 << 12));
    default: return (long)chance();
    }
}

/* ---- the two kinds of villains ---- */

static void make_random_calls(volatile unsigned *made) {
    for (*made = 0; *made < CALLS_PER_PROCESS; ++*made)
        syscall(below(NUMBERS), argument(), argument(), argument(), argument(), argument(), argument());
}

/* `posix_protocol::shim::ThreadBlock`, in words: at gs, and the registers that the shim loads on its way out. */
enum { BLOCK_CHANNEL = 2, BLOCK_PENDING = 3, CONTEXT_RBX = 5, CONTEXT_RBP = 10, CONTEXT_RSP = 11, CONTEXT_RIP = 20, CONTEXT_RFLAGS = 21 };

/* Numbers of the object API (docs/object-api.md). */
enum { THREAD_EXIT = 76, CHANNEL_CALL = 81, CHANNEL_RECEIVE = 84, CHANNEL_REPLY_RECEIVE = 87, QUEUE_WAIT = 97, EVENT_WAIT = 118,
       LAST_CALL = 150 };

static uint64_t *thread_block(void) {
    uint64_t *block;
    __asm__ volatile("mov %%gs:0, %0" : "=r"(block));
    return block;
}

/* Where in the block the data are that a call carries along, how many, and the parts of the word that tells of them: the third has
 * room for a result. */
#define BLOCK_DATA ((char *)thread_block() + 512)
#define DATA_BYTES 2048UL
#define PART(index, argument, length) (((uint64_t)(length) | (uint64_t)(argument) << 13) << (16 * (index)))
#define RESULT 2

/* Where the server maps the shim, and where its header (`posix_protocol::shim::ImageHeader`) tells its length. */
#define SHIM_IMAGE ((const unsigned char *)0x7ffff0000000UL)
#define SHIM_LENGTH_AT 36

/* The shim's own `syscall` instruction, whose calls are not reflected: the one after which it looks at the result. */
static void *native_entry(void) {
    static const unsigned char pattern[] = {0x0f, 0x05, 0x48, 0x85, 0xc0};
    uint32_t length;
    if (memcmp(SHIM_IMAGE, "QUIRSHIM", 8) != 0)
        return NULL;
    memcpy(&length, SHIM_IMAGE + SHIM_LENGTH_AT, sizeof length);
    return memmem(SHIM_IMAGE, length, pattern, sizeof pattern);
}

struct native {
    uint64_t rax, rdi, rsi, rdx, r10, r8, r9, r12, r13;
    /* What is carried along (`posix_protocol::carried`). */
    uint64_t r14;
};

/* Makes a native call from inside the shim, which then leaves to where its block says: back here. */
static uint64_t native(void *entry, const struct native *call) {
    uint64_t *block = thread_block();
    register const struct native *words __asm__("r14") = call;
    register void *target __asm__("r15") = entry;
    uint64_t result;
    block[BLOCK_PENDING] = 0;
    block[CONTEXT_RFLAGS] = 0x202;
    __asm__ volatile("lea 1f(%%rip), %%rax\n\t"
                     "mov %%rax, %c[rip](%[block])\n\t"
                     "mov %%rsp, %c[rsp](%[block])\n\t"
                     "mov %%rbp, %c[rbp](%[block])\n\t"
                     "mov %%rbx, %c[rbx](%[block])\n\t"
                     "mov (%[words]), %%rax\n\t"
                     "mov 8(%[words]), %%rdi\n\t"
                     "mov 16(%[words]), %%rsi\n\t"
                     "mov 24(%[words]), %%rdx\n\t"
                     "mov 32(%[words]), %%r10\n\t"
                     "mov 40(%[words]), %%r8\n\t"
                     "mov 48(%[words]), %%r9\n\t"
                     "mov 56(%[words]), %%r12\n\t"
                     "mov 64(%[words]), %%r13\n\t"
                     "mov 72(%[words]), %%r14\n\t"
                     "jmp *%[target]\n\t"
                     "1:"
                     : "=&a"(result), [words] "+r"(words), [target] "+r"(target)
                     : [block] "b"(block), [rip] "i"(8 * CONTEXT_RIP), [rsp] "i"(8 * CONTEXT_RSP), [rbp] "i"(8 * CONTEXT_RBP),
                       [rbx] "i"(8 * CONTEXT_RBX)
                     : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "memory", "cc");
    return result;
}

/* Seldom a call that only waits: the time is better used. */
static uint64_t native_number(void) {
    for (;;) {
        unsigned number = below(LAST_CALL + 2);
        switch (number) {
        case THREAD_EXIT:
        case CHANNEL_RECEIVE:
        case CHANNEL_REPLY_RECEIVE:
        case QUEUE_WAIT:
        case EVENT_WAIT:
            if (below(32) != 0)
                continue;
        }
        return number;
    }
}

/* Something that might be carried, or nothing that makes sense. */
static uint64_t carried(void) {
    uint64_t word = 0;
    switch (below(4)) {
    case 0: return chance();
    case 1: return 0;
    }
    for (unsigned part = 0; part <= RESULT; part++)
        if (below(2))
            word |= PART(part, below(8), below(16) ? below(700) : below(8192));
    return word;
}

/* Changes what is carried while the server looks at it. */
static void *change_data(void *data) {
    for (uint64_t seed = 1;; seed = seed * 6364136223846793005UL + 1442695040888963407UL)
        ((volatile char *)data)[seed >> 32 & (DATA_BYTES - 1)] = (char)(seed >> 56);
    return NULL;
}

static void play_the_shim(volatile unsigned *made) {
    void *entry = native_entry();
    pthread_t thread;
    if (below(4) == 0)
        pthread_create(&thread, NULL, change_data, BLOCK_DATA);
    for (*made = 0; entry && *made < CALLS_PER_PROCESS; ++*made) {
        struct native call = {.rax = CHANNEL_CALL, .rdi = thread_block()[BLOCK_CHANNEL], .rsi = below(NUMBERS)};
        uint64_t *words = &call.rdx;
        for (int i = 0; i < 6; i++)
            words[i] = (uint64_t)argument();
        call.r14 = carried();
        if (below(8) == 0)
            memcpy(BLOCK_DATA, scratch, DATA_BYTES);
        if (below(4) == 0)
            call.rsi = below(2) ? 1UL << 32 : chance();
        if (below(8) == 0) {
            call.rax = native_number();
            call.rdi = below(2) ? below(64) : (uint64_t)argument();
            call.rsi = (uint64_t)argument();
        }
        if (below(16) == 0)
            memcpy(&thread_block()[1], scratch, 8 * below(12));
        native(entry, &call);
    }
}

/* ---- who lets them loose ---- */

typedef void (*villain)(volatile unsigned *made);

struct seat {
    pid_t process;
    long since_ms;
};

static void become_villain(uint64_t seed) {
    state = seed * 0x9e3779b97f4a7c15UL + 1;
    static const struct { int resource; rlim_t most; } limits[] = {
        {RLIMIT_NPROC, PROCESS_LIMIT}, {RLIMIT_FSIZE, FILE_BYTES_LIMIT}, {RLIMIT_AS, SPACE_BYTES_LIMIT}, {RLIMIT_NOFILE, 64}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit limit = {limits[i].most, limits[i].most};
        setrlimit(limits[i].resource, &limit);
    }
    int null = open("/dev/null", O_RDWR);
    for (int descriptor = 0; descriptor < 3; descriptor++)
        dup2(null, descriptor);
    setsid();
    drop_to(VILLAIN, VILLAIN);
    make_scratch();
    for (int number = 1; number < NSIG; number++)
        if (number != SIGALRM)
            signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    handle(SIGALRM, (void (*)(int))(void *)chance, 0);
    struct itimerval timer = {{0, INTERRUPT_MICROSECONDS}, {0, INTERRUPT_MICROSECONDS}};
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* Ends every process of the villains' user. */
static void end_all(void) {
    pid_t child = fork_child();
    if (child == 0) {
        setsid();
        drop_to(VILLAIN, VILLAIN);
        kill(-1, SIGKILL);
        _exit(0);
    }
    SET_UP(waitpid(child, NULL, 0) == child);
}

static void let_loose(villain villain, unsigned long calls) {
    volatile unsigned *made = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct seat seats[SEATS] = {{0, 0}};
    static uint64_t seed = 1;
    unsigned long done = 0;
    SET_UP(made != MAP_FAILED);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigset_t child_news;
    sigemptyset(&child_news);
    sigaddset(&child_news, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_news, NULL);
    while (done < calls) {
        for (int seat = 0; seat < SEATS; seat++) {
            if (seats[seat].process != 0)
                continue;
            seats[seat] = (struct seat){fork_child(), now_ms()};
            if (seats[seat].process == 0) {
                become_villain(seed);
                villain(&made[seat]);
                _exit(0);
            }
            seed++;
        }
        struct timespec patience = {0, MAX_PROCESS_MS * 1000000L};
        sigtimedwait(&child_news, NULL, &patience);
        for (pid_t ended; (ended = waitpid(-1, NULL, WNOHANG)) > 0;) {
            for (int seat = 0; seat < SEATS; seat++) {
                if (seats[seat].process == ended) {
                    seats[seat].process = 0;
                    done += made[seat] < CALLS_PER_PROCESS ? made[seat] : CALLS_PER_PROCESS;
                }
            }
        }
        for (int seat = 0; seat < SEATS; seat++)
            if (seats[seat].process && now_ms() - seats[seat].since_ms > MAX_PROCESS_MS)
                kill(seats[seat].process, SIGKILL);
    }
    end_all();
    while (waitpid(-1, NULL, 0) > 0)
        ;
    munmap((void *)made, PAGE);
}

/* ---- what the server lends ---- */

/* The second page of the table of files (`posix_protocol::files`), which the shim writes, and the pages of pipes. Behind the positions
 * are the words that tell of files which are written in the process. */
#define POSITIONS ((volatile uint64_t *)0x7ffff0a01000UL)
#define POSITION_WORDS (128 + 3 * 12)
#define RING_PAGE ((volatile uint64_t *)0x7ffff0a10000UL)

/* Whether the calls of this process are answered in it: then a pipe, a counter and a file are lent to it. */
static void use_often(int reader, int writer, int counter, int file) {
    char byte = 0;
    uint64_t one = 1;
    for (int i = 0; i < 200; i++)
        if (pwrite(file, &one, 8, i) != 8 || pread(file, &one, 8, i) != 8)
            _exit(4);
    for (int i = 0; i < 20000; i++) {
        if (write(writer, &byte, 1) != 1 || read(reader, &byte, 1) != 1)
            _exit(2);
        if (write(counter, &one, 8) != 8 || read(counter, &one, 8) != 8)
            _exit(3);
    }
}

/* Stores nonsense where the shim keeps what was lent, and uses all of it, here and in a child, which has to find legal values. */
static void scribble(volatile unsigned *made) {
    int fds[2], counter = eventfd(0, EFD_NONBLOCK);
    char bytes[5000] = "";
    uint64_t value = 1;
    char name[32];
    snprintf(name, sizeof name, "scribbled%d", getpid());
    int file = open(name, O_RDWR | O_CREAT, 0644), others[4];
    if (pipe2(fds, O_NONBLOCK) != 0 || counter < 0 || write(file, bytes, sizeof bytes) != sizeof bytes)
        _exit(1);
    for (int i = 0; i < 4; i++)
        others[i] = memfd_create("other", 0);
    use_often(fds[0], fds[1], counter, file);
    for (*made = 0; *made < CALLS_PER_PROCESS; ++*made) {
        for (int i = 0; i < 12; i++) {
            if (write(fds[1], bytes, 1 + below(40)) < 0 || read(fds[0], bytes, sizeof bytes) < 0)
                break;
            if (write(counter, &value, 8) == 8)
                read(counter, &value, 8);
            value = 1;
        }
        for (int i = 0; i < 4; i++) {
            POSITIONS[below(POSITION_WORDS)] = below(2) ? chance() : below(1 << 28);
            RING_PAGE[below(512)] = chance();
        }
        struct stat status;
        for (int i = 0; i < 4; i++)
            if (pwrite(file, bytes, 1 + below(40), below(5000)) < 0 || pread(file, bytes, 40, below(5000)) < 0)
                break;
        if (fstat(file, &status) == 0 && status.st_mtim.tv_sec > time(NULL) + 1)
            _exit(5);
        switch (below(10)) {
        case 6: ftruncate(file, below(9000)); break;
        case 7: fsync(file); break;
        case 8: {
            /* Another file in its place. */
            int other = others[below(4)];
            for (int i = 0; i < 8; i++)
                pwrite(other, bytes, 100, below(5000));
            break;
        }
        case 9:
            close(file);
            file = open(name, O_RDWR);
            break;
        case 0: ioctl(fds[0], FIONREAD, bytes); break;
        case 1: if (fork() == 0) {
                while (read(fds[0], bytes, sizeof bytes) > 0 || read(counter, bytes, 8) > 0)
                    ;
                _exit(0);
            }
            break;
        case 2: fcntl(fds[0], F_SETPIPE_SZ, 4096 << below(4)); break;
        case 3: read(fds[0], (char *)POSITIONS + below(4000), below(5000)); break;
        case 4: write(fds[1], (char *)RING_PAGE, below(5000)); break;
        default: read(counter, bytes, 8);
        }
    }
}

/* ---- the cases ---- */

/* The least that the server's account says of something within a moment. */
static long account_says(const char *wanted) {
    long least = LONG_MAX;
    for (int look = 0; look < 5; look++) {
        FILE *account = fopen("/proc/quire/account", "r");
        char name[64];
        long number;
        SET_UP(account != NULL);
        while (fscanf(account, "%63s %ld", name, &number) == 2)
            if (!strcmp(name, wanted) && number < least)
                least = number;
        fclose(account);
        sleep_ms(50);
    }
    return least;
}

/* How many things of each kind the server has. */
struct census {
    int kinds;
    struct {
        char name[32];
        long number;
    } of[64];
};

static void count_objects(struct census *census) {
    FILE *objects = fopen("/proc/quire/objects", "r");
    SET_UP(objects != NULL);
    for (census->kinds = 0; census->kinds < 64; census->kinds++)
        if (fscanf(objects, "%31s %ld", census->of[census->kinds].name, &census->of[census->kinds].number) != 2)
            break;
    fclose(objects);
    SET_UP(census->kinds > 0);
}

/* Whether nothing has become more. Memories are kept at hand for new threads, and what is noted of ended processes is thrown away when
 * there is much of it. */
static bool is_nothing_more(const struct census *before, const struct census *after) {
    bool result = true;
    for (int kind = 0; kind < after->kinds; kind++) {
        const char *name = after->of[kind].name;
        if (after->of[kind].number <= before->of[kind].number || !strcmp(name, "memories") || !strcmp(name, "graves"))
            continue;
        say("%s: %ld before, %ld after", name, before->of[kind].number, after->of[kind].number);
        result = false;
    }
    return result;
}

/* What has a number or a name in a table of the system's, and stays when its maker ends, as it should. */
static void remove_ipc_objects(void) {
    struct msqid_ds queue;
    struct seminfo info;
    struct semid_ds set;
    struct shmid_ds memory;
    for (int at = 0, last = msgctl(0, MSG_INFO, &queue); at <= last; at++)
        msgctl(msgctl(at, MSG_STAT, &queue), IPC_RMID, NULL);
    for (int at = 0, last = semctl(0, 0, SEM_INFO, &info); at <= last; at++)
        semctl(semctl(at, 0, SEM_STAT, &set), 0, IPC_RMID);
    for (int at = 0, last = shmctl(0, SHM_INFO, &memory); at <= last; at++)
        shmctl(shmctl(at, SHM_STAT, &memory), IPC_RMID, NULL);
    SET_UP(system("mkdir ../queues && mount -t mqueue none ../queues && rm -f ../queues/* && umount ../queues && "
                  "rmdir ../queues") == 0);
}

static void remove_everything(void) {
    remove_ipc_objects();
    /* They go where anybody may make files, too. */
    SET_UP(system("find .. /tmp /var/tmp /dev/shm -depth -user 43211 -exec rm -rf {} ';'") == 0);
    /* Directories without permissions, names of any kind: a shell's pattern would not do. */
    SET_UP(system("cd .. && rm -rf villains && mkdir villains && chmod 777 villains") == 0);
}

static void let_loose_and_clean_up(villain villain, unsigned long calls) {
    let_loose(villain, calls);
    remove_everything();
    SET_UP(chdir("../villains") == 0);
}

static void nothing_is_left_of(villain villain, unsigned long usual_calls) {
    const char *wanted = getenv("HOSTILE_CALLS");
    unsigned long calls = wanted ? strtoul(wanted, NULL, 10) : usual_calls;
    SET_UP(mkdir("villains", 0777) == 0 && chmod("villains", 0777) == 0 && chdir("villains") == 0);
    let_loose_and_clean_up(villain, WARM_UP_CALLS);
    struct census objects_before, objects_after;
    long before = account_says("pages_used");
    count_objects(&objects_before);
    let_loose_and_clean_up(villain, calls / 2);
    long between = account_says("pages_used"), heap_between = account_says("heap_used_bytes");
    let_loose_and_clean_up(villain, calls / 2);
    long after = account_says("pages_used"), heap_after = account_says("heap_used_bytes");
    count_objects(&objects_after);
    say("%lu calls; %ld pages in use before, %ld after the first half, %ld after the second", calls, before, between, after);
    say("%ld bytes of the heap after the first half, %ld after the second", heap_between, heap_after);
    if (!is_nothing_more(&objects_before, &objects_after))
        _exit(1);
    if (heap_after - heap_between > TOLERATED_HEAP_BYTES || after - between > TOLERATED_PAGES || after - before > KEPT_PAGES) {
        say("too much is not given back");
        _exit(1);
    }
    CALL(system("[ $(echo work | cat) = work ]"));
}

ROOT_TEST(random_calls_harm_nobody) { nothing_is_left_of(make_random_calls, USUAL_CALLS); }

ROOT_TEST(a_program_can_talk_to_the_server_directly) {
    void *entry = native_entry();
    SET_UP(entry != NULL);
    struct native call = {.rax = CHANNEL_CALL, .rdi = thread_block()[BLOCK_CHANNEL], .rsi = SYS_getpgrp};
    if ((pid_t)native(entry, &call) != getpgrp()) {
        say("the answer is not that of getpgrp: has the thread's block changed?");
        _exit(1);
    }
}

/* A call with something in the data. */
static long carrying(long number, uint64_t first, uint64_t second, uint64_t word) {
    struct native call = {.rax = CHANNEL_CALL, .rdi = thread_block()[BLOCK_CHANNEL], .rsi = (uint64_t)number};
    call.rdx = first;
    call.r10 = second;
    call.r14 = word;
    return (long)native(native_entry(), &call);
}

#define NOWHERE 0x7000UL

static void expect(const char *what, long got, long expected) {
    say("%s: %s", what, got == expected ? "yes" : "no");
    if (got != expected)
        say("%ld is not %ld", got, expected);
}

/* What a program carries is what it says itself; what makes no sense is as if nothing were carried. */
ROOT_TEST(lies_about_what_is_carried_are_told_to_oneself) {
    static struct stat info;
    SET_UP(native_entry() != NULL);
    memset(BLOCK_DATA, 0xff, DATA_BYTES);
    strcpy(BLOCK_DATA, "/");
    expect("a path that is only in the data", carrying(SYS_access, NOWHERE, 0, PART(0, 0, 2)), 0);
    expect("a path that does not end there", carrying(SYS_access, NOWHERE, 0, PART(0, 0, 1)), -EFAULT);
    expect("a path at another argument", carrying(SYS_access, NOWHERE, 0, PART(0, 1, 2)), -EFAULT);
    expect("more than fits", carrying(SYS_access, NOWHERE, 0, PART(0, 0, 2) | PART(1, 1, DATA_BYTES)), -EFAULT);
    expect("more than there is", carrying(SYS_access, NOWHERE, 0, PART(0, 0, 8191)), -EFAULT);
    expect("no such argument", carrying(SYS_access, NOWHERE, 0, PART(0, 7, 2)), -EFAULT);
    expect("an address of the server's", carrying(SYS_access, 0x7ffff0000000UL, 0, PART(0, 0, 2)), -EFAULT);
    expect("room for less than the result", carrying(SYS_stat, (uint64_t)"/", (uint64_t)&info, PART(RESULT, 1, 8)), 0);
    say("the server wrote it itself: %s", info.st_mode != 0 ? "yes" : "no");
    expect("no result where nothing is", carrying(SYS_stat, (uint64_t)"/", NOWHERE, PART(RESULT, 1, 8)), -EFAULT);
    expect("the block can't be unmapped", syscall(SYS_munmap, thread_block(), PAGE) == -1 ? -errno : 0, -EINVAL);
}

static char stack[PAGE];

static char *end_of_stack(void) { return stack + sizeof stack; }

/* Children that can't be made, for each reason that comes late. */
ROOT_TEST(failed_clones_leave_nothing) {
    struct census before, after;
    count_objects(&before);
    for (int i = 0; i < 50; i++) {
        const long thread = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FS | CLONE_FILES, bad_tls = 1L << 47;
        SET_UP(syscall(SYS_clone, SIGCHLD | CLONE_SETTLS, 0, 0, 0, bad_tls) == -1);
        SET_UP(syscall(SYS_clone, thread | CLONE_SETTLS, end_of_stack(), 0, 0, bad_tls) == -1);
        SET_UP(syscall(SYS_clone, SIGCHLD | CLONE_FS | CLONE_PIDFD, 0, 8, 0, 0) == -1);
        SET_UP(syscall(SYS_clone, SIGCHLD | CLONE_VM | CLONE_PIDFD, end_of_stack(), 8, 0, 0) == -1);
    }
    count_objects(&after);
    HOLDS(is_nothing_more(&before, &after));
}

ROOT_TEST(hostile_shims_harm_nobody) { nothing_is_left_of(play_the_shim, USUAL_SHIM_CALLS); }

ROOT_TEST(nonsense_in_what_is_lent_harms_nobody) { nothing_is_left_of(scribble, USUAL_SHIM_CALLS); }
