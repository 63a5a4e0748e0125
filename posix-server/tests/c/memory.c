/* Anonymous memory: mmap, munmap, mprotect, mremap, madvise and brk. */
#include "case.h"

#include <setjmp.h>
#include <sys/resource.h>

#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define WRITABLE (PROT_READ | PROT_WRITE)
#define MEBIBYTE (1UL << 20)
#define TEBIBYTE (1UL << 40)

/* A placed hole: pages that were mapped a moment ago, so nothing else is there. */
static char *hole(size_t pages) {
    char *area = mmap(NULL, pages * PAGE, PROT_NONE, ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED && munmap(area, pages * PAGE) == 0);
    return area;
}

static char *map_pages(size_t pages) {
    char *area = mmap(NULL, pages * PAGE, WRITABLE, ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED);
    return area;
}

static sigjmp_buf out_of_fault;

static void leave_fault(int signal_number) {
    siglongjmp(out_of_fault, signal_number);
}

/* What an access of one byte does: `ok`, or the signal. */
static const char *reading(const volatile char *address) {
    handle(SIGSEGV, leave_fault, 0);
    handle(SIGBUS, leave_fault, 0);
    int signal_number = sigsetjmp(out_of_fault, 1);
    if (signal_number != 0)
        return signal_name(signal_number);
    (void)*address;
    return "ok";
}

static const char *writing(volatile char *address) {
    handle(SIGSEGV, leave_fault, 0);
    handle(SIGBUS, leave_fault, 0);
    int signal_number = sigsetjmp(out_of_fault, 1);
    if (signal_number != 0)
        return signal_name(signal_number);
    *address = 'w';
    return "ok";
}

static void show_access(const char *what, char *address) {
    const char *read_result = reading(address);
    say("%s: reading %s, writing %s", what, read_result, writing(address));
}

TEST(anonymous_memory_is_zero_and_private) {
    char *area = map_pages(3);
    HOLDS((uintptr_t)area % PAGE == 0);
    long sum = 0;
    for (size_t i = 0; i < 3 * PAGE; i++)
        sum += area[i];
    say("sum %ld", sum);
    area[PAGE] = 1;
    pid_t child = fork_child();
    if (child == 0) {
        area[PAGE] = 2;
        _exit(0);
    }
    show_end("child", child);
    say("after the child wrote: %d", area[PAGE]);
}

TEST(shared_anonymous_memory_is_shared_over_fork) {
    char *area = mmap(NULL, 2 * PAGE, WRITABLE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED);
    area[0] = 1;
    pid_t child = fork_child();
    if (child == 0) {
        say("child sees %d", area[0]);
        area[0] = 2;
        area[PAGE] = 3;
        _exit(0);
    }
    show_end("child", child);
    say("parent sees %d %d", area[0], area[PAGE]);
}

TEST(mmap_refuses_bad_lengths_and_flags) {
    CALL_MAP(mmap(NULL, 0, WRITABLE, ANONYMOUS, -1, 0));
    CALL_MAP(mmap(NULL, SIZE_MAX, WRITABLE, ANONYMOUS, -1, 0));
    CALL_MAP(RAW(SYS_mmap, NULL, SIZE_MAX, WRITABLE, ANONYMOUS, -1, 0));
    CALL_MAP(RAW(SYS_mmap, NULL, SIZE_MAX - PAGE, WRITABLE, ANONYMOUS, -1, 0));
    CALL_MAP(RAW(SYS_mmap, NULL, 1UL << 63, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0));
    CALL_MAP(RAW(SYS_mmap, NULL, 128 * TEBIBYTE, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0));
    CALL_MAP(RAW(SYS_mmap, NULL, PAGE, WRITABLE, MAP_ANONYMOUS, -1, 0));
    CALL_MAP(RAW(SYS_mmap, NULL, PAGE, WRITABLE, MAP_ANONYMOUS | 0x0c, -1, 0));
    CALL_MAP(RAW(SYS_mmap, NULL, PAGE, WRITABLE, ANONYMOUS, -1, 1));
    CALL_MAP(RAW(SYS_mmap, NULL, PAGE, WRITABLE, MAP_PRIVATE, -1, 0));
    CALL_MAP(RAW(SYS_mmap, NULL, PAGE, WRITABLE, MAP_PRIVATE, 77, 0));
    CALL_MAP(RAW(SYS_mmap, NULL, PAGE, WRITABLE, MAP_PRIVATE, 0, 1));
}

TEST(mmap_rounds_the_length_up) {
    char *area = mmap(NULL, PAGE + 1, WRITABLE, ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED);
    area[2 * PAGE - 1] = 1;
    say("the last byte of the second page holds %d", area[2 * PAGE - 1]);
    CALL(munmap(area, PAGE + 1));
    show_access("second page", area + PAGE);
}

TEST(a_hint_is_taken_where_it_is_free_and_is_only_a_hint) {
    char *free_place = hole(4);
    HOLDS(mmap(free_place, PAGE, WRITABLE, ANONYMOUS, -1, 0) == free_place);
    char *elsewhere = mmap(free_place, PAGE, WRITABLE, ANONYMOUS, -1, 0);
    HOLDS(elsewhere != MAP_FAILED && elsewhere != free_place);
    free_place[0] = 'x';
    char *misaligned = mmap(free_place + PAGE + 123, PAGE, WRITABLE, ANONYMOUS, -1, 0);
    HOLDS(misaligned != MAP_FAILED && (uintptr_t)misaligned % PAGE == 0);
    HOLDS(mmap(BAD_ADDRESS, PAGE, WRITABLE, ANONYMOUS, -1, 0) != MAP_FAILED);
}

TEST(map_fixed_replaces_what_is_there) {
    char *area = map_pages(4);
    memset(area, 'o', 4 * PAGE);
    HOLDS(mmap(area + PAGE, 2 * PAGE, WRITABLE, ANONYMOUS | MAP_FIXED, -1, 0) == area + PAGE);
    say("pages now: %d %d %d %d", area[0], area[PAGE], area[2 * PAGE], area[3 * PAGE]);
    say("edges: %d %d", area[PAGE - 1], area[3 * PAGE]);
}

TEST(map_fixed_refuses_bad_places) {
    char *area = map_pages(1);
    CALL_MAP(mmap(area + 1, PAGE, WRITABLE, ANONYMOUS | MAP_FIXED, -1, 0));
    CALL_MAP(RAW(SYS_mmap, BAD_ADDRESS, PAGE, WRITABLE, ANONYMOUS | MAP_FIXED, -1, 0));
    CALL_MAP(RAW(SYS_mmap, 0x7ffffffff000, PAGE, WRITABLE, ANONYMOUS | MAP_FIXED, -1, 0));
    CALL_MAP(RAW(SYS_mmap, 0x7fffffffe000, 2 * PAGE, WRITABLE, ANONYMOUS | MAP_FIXED, -1, 0));
    CALL_MAP(RAW(SYS_mmap, -PAGE, PAGE, WRITABLE, ANONYMOUS | MAP_FIXED, -1, 0));
    CALL_MAP(RAW(SYS_mmap, area, SIZE_MAX - 2 * PAGE, WRITABLE, ANONYMOUS | MAP_FIXED, -1, 0));
    say("what was there is still %s", reading(area));
}

TEST(map_fixed_noreplace_never_replaces) {
    char *area = map_pages(4);
    SET_UP(munmap(area + PAGE, 2 * PAGE) == 0);
    area[0] = 'k';
    CALL_MAP(mmap(area, PAGE, WRITABLE, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    CALL_MAP(mmap(area, 2 * PAGE, WRITABLE, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    CALL_MAP(mmap(area + 2 * PAGE, 2 * PAGE, WRITABLE, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    CALL_MAP(mmap(area + PAGE, 2 * PAGE, WRITABLE, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
    say("kept: %c", area[0]);
}

TEST(munmap_makes_holes_and_accepts_them) {
    char *area = map_pages(5);
    memset(area, 'm', 5 * PAGE);
    CALL(munmap(area + 2 * PAGE, PAGE));
    CALL(munmap(area + 2 * PAGE, PAGE));
    CALL(munmap(area + PAGE, 3 * PAGE));
    show_access("first", area);
    show_access("second", area + PAGE);
    show_access("last", area + 4 * PAGE);
    CALL(munmap(area + 1, PAGE));
    CALL(munmap(area, 0));
    CALL(munmap(area, SIZE_MAX));
    CALL(munmap(area, SIZE_MAX - 2 * PAGE));
    CALL(munmap(BAD_ADDRESS, PAGE));
    CALL(munmap((void *)-PAGE, PAGE));
    CALL(munmap(area, 1));
    show_access("first", area);
}

TEST(mprotect_changes_what_accesses_do) {
    char *area = map_pages(3);
    area[PAGE] = 'p';
    show_access("before", area + PAGE);
    CALL(mprotect(area + PAGE, PAGE, PROT_READ));
    show_access("readable", area + PAGE);
    CALL(mprotect(area + PAGE, PAGE, PROT_NONE));
    show_access("nothing", area + PAGE);
    show_access("page before", area);
    show_access("page after", area + 2 * PAGE);
    CALL(mprotect(area + PAGE, PAGE, WRITABLE));
    say("content survived: %c", area[PAGE]);
    CALL(mprotect(area, 3 * PAGE, PROT_WRITE));
    show_access("only writable", area);
}

TEST(mprotect_refuses_what_is_not_mapped_or_aligned) {
    char *area = map_pages(3);
    SET_UP(munmap(area + PAGE, PAGE) == 0);
    CALL(RAW(SYS_mprotect, area + 1, PAGE, PROT_READ));
    CALL(mprotect(area, 0, PROT_READ));
    CALL(mprotect(area + PAGE, PAGE, PROT_READ));
    CALL(mprotect(area, 3 * PAGE, PROT_READ));
    show_access("changed up to the hole", area);
    show_access("not after it", area + 2 * PAGE);
    CALL(mprotect(area, SIZE_MAX - PAGE, PROT_READ));
    CALL(mprotect(BAD_ADDRESS, PAGE, PROT_READ));
    CALL(RAW(SYS_mprotect, area, PAGE, 0x40));
    CALL(RAW(SYS_mprotect, area, 1, PROT_NONE));
    show_access("one byte is a page", area + PAGE - 1);
}

TEST(memory_can_be_executed_only_when_it_says_so) {
    /* mov eax, 42; ret */
    static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
    unsigned char *area = (unsigned char *)map_pages(1);
    memcpy(area, code, sizeof code);
    handle(SIGSEGV, leave_fault, 0);
    int (*function)(void) = (int (*)(void))(uintptr_t)area;
    int signal_number = sigsetjmp(out_of_fault, 1);
    if (signal_number == 0)
        say("without permission: %d", function());
    else
        say("without permission: %s", signal_name(signal_number));
    CALL(mprotect(area, PAGE, PROT_READ | PROT_EXEC));
    say("with it: %d", function());
    show_access("executable page", (char *)area);
}

TEST(mremap_shrinks_and_grows_in_place) {
    char *area = map_pages(8);
    memset(area, 'r', 8 * PAGE);
    HOLDS(mremap(area, 8 * PAGE, 4 * PAGE, 0) == area);
    show_access("kept", area + 3 * PAGE);
    show_access("cut", area + 4 * PAGE);
    HOLDS(mremap(area, 4 * PAGE, 8 * PAGE, 0) == area);
    say("old %d, new %d", area[4 * PAGE - 1], area[4 * PAGE]);
}

TEST(mremap_moves_only_when_it_may) {
    char *area = map_pages(4);
    memset(area, 'm', 2 * PAGE);
    /* The third page is in the way. */
    CALL_MAP(mremap(area, 2 * PAGE, 3 * PAGE, 0));
    char *moved = mremap(area, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    HOLDS(moved != MAP_FAILED && moved != area);
    say("content: %d %d %d", moved[0], moved[2 * PAGE - 1], moved[2 * PAGE]);
    show_access("old place", area);
    show_access("neighbour", area + 2 * PAGE);
}

TEST(mremap_fixed_moves_to_the_place) {
    char *from = map_pages(2), *to = map_pages(4);
    memset(from, 'f', 2 * PAGE);
    memset(to, 't', 4 * PAGE);
    HOLDS(mremap(from, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE) == to + PAGE);
    say("%c %c %c %c", to[0], to[PAGE], to[3 * PAGE - 1], to[3 * PAGE]);
    show_access("old place", from);
}

TEST(mremap_refuses_bad_arguments) {
    char *area = map_pages(4);
    SET_UP(munmap(area + 2 * PAGE, PAGE) == 0);
    CALL_MAP(mremap(area + 1, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    CALL_MAP(mremap(area, PAGE, 0, MREMAP_MAYMOVE));
    CALL_MAP(mremap(area, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE));
    CALL_MAP(mremap(area + 2 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    CALL_MAP(mremap(area, PAGE, 2 * PAGE, 0x80));
    CALL_MAP(mremap(area, PAGE, PAGE, MREMAP_FIXED, area + PAGE));
    CALL_MAP(mremap(area, 2 * PAGE, PAGE, MREMAP_FIXED | MREMAP_MAYMOVE, area + PAGE));
    CALL_MAP(mremap(area, PAGE, PAGE, MREMAP_FIXED | MREMAP_MAYMOVE, area + 1));
    /* The errno of these two changed between versions of Linux. */
    HOLDS(RAW(SYS_mremap, area, PAGE, SIZE_MAX - PAGE, MREMAP_MAYMOVE) == -1);
    HOLDS(RAW(SYS_mremap, area, PAGE, 200 * TEBIBYTE, MREMAP_MAYMOVE) == -1);
    show_access("unharmed", area);
}

TEST(madvise_dontneed_gives_zero_pages) {
    char *area = map_pages(4);
    memset(area, 'd', 4 * PAGE);
    CALL(madvise(area + PAGE, 2 * PAGE, MADV_DONTNEED));
    say("%d %d %d %d", area[0], area[PAGE], area[2 * PAGE], area[3 * PAGE]);
    CALL(madvise(area + 1, PAGE, MADV_DONTNEED));
    CALL(madvise(area, 0, MADV_DONTNEED));
    CALL(madvise(area, PAGE, 9999));
    CALL(madvise(area, PAGE, MADV_NORMAL));
    CALL(madvise(area, PAGE, MADV_WILLNEED));
    SET_UP(munmap(area + PAGE, PAGE) == 0);
    CALL(madvise(area, 3 * PAGE, MADV_DONTNEED));
    say("both sides of the hole: %d %d", area[0], area[2 * PAGE]);
}

TEST(madvise_dontneed_after_fork_spares_the_other) {
    char *area = map_pages(1);
    area[0] = 'x';
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(madvise(area, PAGE, MADV_DONTNEED) == 0);
        say("child sees %d", area[0]);
        _exit(0);
    }
    show_end("child", child);
    say("parent sees %d", area[0]);
}

TEST(madvise_dontneed_keeps_what_is_shared) {
    char *area = mmap(NULL, PAGE, WRITABLE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED);
    area[0] = 's';
    CALL(madvise(area, PAGE, MADV_DONTNEED));
    say("still %c", area[0]);
}

TEST(brk_grows_zeroed_and_shrinks) {
    char *start = (char *)RAW(SYS_brk, 0);
    HOLDS(RAW(SYS_brk, start + 3 * PAGE) == (long)(start + 3 * PAGE));
    long sum = 0;
    for (size_t i = 0; i < 3 * PAGE; i++)
        sum += start[i];
    say("sum %ld", sum);
    memset(start, 'b', 3 * PAGE);
    HOLDS(RAW(SYS_brk, start) == (long)start);
    HOLDS(RAW(SYS_brk, start + 100) == (long)(start + 100));
    HOLDS(RAW(SYS_brk, 0) == (long)(start + 100));
    HOLDS(RAW(SYS_brk, start + 3 * PAGE) == (long)(start + 3 * PAGE));
    say("given back and taken again: %d", start[2 * PAGE]);
}

TEST(brk_that_cannot_be_gives_the_old_break) {
    long start = RAW(SYS_brk, 0);
    HOLDS(RAW(SYS_brk, 1) == start);
    HOLDS(RAW(SYS_brk, 100 * TEBIBYTE) == start);
    HOLDS(RAW(SYS_brk, BAD_ADDRESS) == start);
    /* Something is in the way. */
    long page = (start + 8 * (long)PAGE) & -(long)PAGE;
    void *obstacle = (void *)page;
    SET_UP(mmap(obstacle, PAGE, WRITABLE, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == obstacle);
    HOLDS(RAW(SYS_brk, page + 2 * (long)PAGE) == start);
    HOLDS(RAW(SYS_brk, page + 1) == start);
}

TEST(prot_none_is_reserved_but_not_usable) {
    char *area = mmap(NULL, 64 * 1024 * MEBIBYTE, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0);
    HOLDS(area != MAP_FAILED);
    show_access("reserved", area + 1000 * MEBIBYTE);
    CALL(mprotect(area + 1000 * MEBIBYTE, PAGE, WRITABLE));
    show_access("opened", area + 1000 * MEBIBYTE);
    show_access("next", area + 1000 * MEBIBYTE + PAGE);
    CALL(munmap(area, 64 * 1024 * MEBIBYTE));
}

TEST(many_small_mappings_live_side_by_side) {
    enum { MANY = 500 };
    char *area = map_pages(2 * MANY);
    for (size_t i = 0; i < 2 * MANY; i += 2)
        SET_UP(mprotect(area + i * PAGE, PAGE, PROT_READ) == 0);
    int wrong = 0;
    for (size_t i = 1; i < 2 * MANY; i += 2)
        area[i * PAGE] = (char)i;
    for (size_t i = 0; i < 2 * MANY; i++)
        wrong += area[i * PAGE] != (char)(i % 2 ? i : 0);
    say("%d wrong", wrong);
    SET_UP(mprotect(area, 2 * MANY * PAGE, WRITABLE) == 0);
    for (size_t i = 0; i < 2 * MANY; i += 3)
        SET_UP(munmap(area + i * PAGE, PAGE) == 0);
    wrong = 0;
    for (size_t i = 0; i < 2 * MANY; i++)
        wrong += i % 3 != 0 && area[i * PAGE] != (char)(i % 2 ? i : 0);
    say("%d wrong", wrong);
}

TEST(memory_of_a_gibibyte_can_be_mapped_and_touched_here_and_there) {
    enum { STEPS = 64 };
    size_t length = 1024 * MEBIBYTE;
    char *area = mmap(NULL, length, WRITABLE, ANONYMOUS | MAP_NORESERVE, -1, 0);
    SET_UP(area != MAP_FAILED);
    for (size_t i = 0; i < STEPS; i++)
        area[i * (length / STEPS)] = (char)(i + 1);
    int wrong = 0;
    for (size_t i = 0; i < STEPS; i++)
        wrong += area[i * (length / STEPS)] != (char)(i + 1);
    say("%d wrong", wrong);
    CALL(munmap(area, length));
}

TEST(protections_are_inherited_by_fork) {
    char *area = map_pages(3);
    SET_UP(mprotect(area + PAGE, PAGE, PROT_READ) == 0);
    SET_UP(munmap(area + 2 * PAGE, PAGE) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        show_access("writable", area);
        show_access("readable", area + PAGE);
        show_access("hole", area + 2 * PAGE);
        _exit(0);
    }
    show_end("child", child);
}

TEST(mincore_and_msync_check_their_ranges) {
    char *area = map_pages(2);
    unsigned char residency[2] = {0xff, 0xff};
    area[0] = 1;
    SET_UP(munmap(area + PAGE, PAGE) == 0);
    CALL(mincore(area, PAGE, residency));
    say("resident %d", residency[0] & 1);
    CALL(mincore(area, 2 * PAGE, residency));
    CALL(mincore(area + 1, PAGE, residency));
    CALL(mincore(area, PAGE, BAD_ADDRESS));
    CALL(msync(area, PAGE, MS_SYNC));
    CALL(msync(area, 2 * PAGE, MS_SYNC));
    CALL(msync(area + 1, PAGE, MS_SYNC));
    CALL(msync(area, PAGE, MS_SYNC | MS_ASYNC));
}

TEST(system_calls_respect_protections) {
    char *area = map_pages(2);
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    SET_UP(zero >= 0 && null >= 0);
    int ends[2];
    SET_UP(pipe(ends) == 0);
    SET_UP(mprotect(area, PAGE, PROT_READ) == 0);
    CALL(read(zero, area, 1));
    CALL(write(ends[1], area, 1));
    SET_UP(mprotect(area, PAGE, PROT_NONE) == 0);
    CALL(write(ends[1], area, 1));
    CALL(read(ends[0], area, 1));
    CALL(write(ends[1], area + PAGE - 1, 2));
}

/* The value of a line of /proc/self/status, in kB. */
static long status_line(const char *name) {
    FILE *file = fopen("/proc/self/status", "r");
    SET_UP(file);
    char line[256];
    long value = -1;
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
            value = atol(line + strlen(name) + 1);
    fclose(file);
    return value;
}

static void show_locked(const char *what) { say("%s: %ld kB locked", what, status_line("VmLck")); }

static char *pages(size_t count, int protection, int flags) {
    char *at = mmap(NULL, count * PAGE, protection, MAP_ANONYMOUS | flags, -1, 0);
    SET_UP(at != MAP_FAILED);
    return at;
}

TEST(locked_pages_are_counted) {
    char *area = pages(8, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    show_locked("at first");
    CALL(mlock(area + PAGE + 7, 1));
    CALL(mlock(area, 3 * PAGE));
    show_locked("three pages");
    CALL(RAW(SYS_mlock2, area + 4 * PAGE, PAGE, 1));
    CALL(munlock(area + PAGE, PAGE));
    show_locked("one less and one more");
    CALL(madvise(area, PAGE, MADV_DONTNEED));
    CALL(madvise(area + PAGE, PAGE, MADV_DONTNEED));
    CALL(madvise(area, PAGE, MADV_FREE));
    CALL(msync(area, 2 * PAGE, MS_INVALIDATE));
    CALL(msync(area + PAGE, PAGE, MS_INVALIDATE));
    pid_t child = fork_child();
    if (child == 0) {
        show_locked("a child");
        _exit(0);
    }
    show_end("the child", child);
    CALL(munmap(area, PAGE));
    show_locked("one gone");
    CALL(mprotect(area + 2 * PAGE, PAGE, PROT_READ));
    show_locked("one read-only");
    char *locked = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
    SET_UP(locked != MAP_FAILED);
    show_locked("mapped locked");
    locked = mremap(locked, 2 * PAGE, 5 * PAGE, MREMAP_MAYMOVE);
    SET_UP(locked != MAP_FAILED);
    show_locked("grown");
    CALL(munlockall());
    show_locked("none");
    CALL(mlock(pages(1, PROT_NONE, MAP_PRIVATE), PAGE));
    show_locked("what can't be read");
    CALL(munlockall());
    CALL(mlockall(MCL_FUTURE));
    pages(2, PROT_READ, MAP_PRIVATE);
    show_locked("all from now on");
    SET_UP(munmap(area + 7 * PAGE, PAGE) == 0);
    CALL(mlock(area + 6 * PAGE, 2 * PAGE));
    CALL(munlockall());
    pages(2, PROT_READ, MAP_PRIVATE);
    show_locked("nothing from now on");
    CALL(mlockall(MCL_ONFAULT));
    CALL(mlockall(0));
    CALL(mlockall(8));
}

ROOT_TEST(locks_have_a_limit) {
    struct rlimit limit = {4 * PAGE, 4 * PAGE};
    SET_UP(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    drop_to(NOBODY, NOBODY);
    char *area = pages(8, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    CALL(mlock(area, 5 * PAGE));
    CALL(mlock(area, 4 * PAGE));
    CALL(mlock(area, 4 * PAGE));
    CALL(mlock(area + PAGE, 4 * PAGE));
    CALL_MAP(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0));
    CALL_MAP(mremap(area, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
    CALL_MAP(mremap(area, 4 * PAGE, 9 * PAGE, MREMAP_MAYMOVE));
    CALL(munlock(area, PAGE));
    CALL_OK(mlockall(MCL_CURRENT));
    CALL(mlockall(MCL_FUTURE));
    HOLDS(sbrk(64 * PAGE) == (void *)-1);
    CALL_MAP(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CALL_MAP(mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    limit.rlim_cur = 0;
    SET_UP(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    CALL(mlock(area, PAGE));
    CALL(mlockall(MCL_FUTURE));
    CALL(munlockall());
    CALL_MAP(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0));
}

TEST(pages_of_a_shared_mapping_are_put_in_another_order) {
    char *area = pages(4, PROT_READ | PROT_WRITE, MAP_SHARED);
    for (int i = 0; i < 4; i++)
        area[(size_t)i * PAGE] = (char)('0' + i);
    CALL(RAW(SYS_remap_file_pages, area, PAGE, 0, 3, 0));
    CALL(RAW(SYS_remap_file_pages, area + 3 * PAGE + 5, PAGE + 5, 0, 0, 0));
    say("%c%c%c%c", area[0], area[PAGE], area[2 * PAGE], area[3 * PAGE]);
    area[0] = 'x';
    CALL(RAW(SYS_remap_file_pages, area + PAGE, 2 * PAGE, 0, 2, 0));
    say("%c%c%c%c", area[0], area[PAGE], area[2 * PAGE], area[3 * PAGE]);
    CALL(RAW(SYS_remap_file_pages, area, PAGE, PROT_READ, 0, 0));
    CALL(RAW(SYS_remap_file_pages, area, 0, 0, 0, 0));
    CALL(RAW(SYS_remap_file_pages, area, PAGE, 0, -1UL, 0));
    CALL(RAW(SYS_remap_file_pages, area, -PAGE, 0, 0, 0));
    CALL(RAW(SYS_remap_file_pages, pages(1, PROT_READ, MAP_PRIVATE), PAGE, 0, 0, 0));
    SET_UP(munmap(area + 2 * PAGE, 2 * PAGE) == 0);
    CALL(RAW(SYS_remap_file_pages, area, 3 * PAGE, 0, 0, 0));
}
