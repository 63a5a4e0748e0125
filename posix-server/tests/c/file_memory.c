/* Files in memory: private and shared mappings, their coherence with read and write, and their ends. */
#include "case.h"

#include <setjmp.h>

#define WRITABLE (PROT_READ | PROT_WRITE)

static sigjmp_buf out_of_fault;
static siginfo_t fault;

static void leave_fault(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    fault = *info;
    siglongjmp(out_of_fault, signal_number);
}

/* What an access of one byte does; for a fault also its code, and whether the address is told. */
static void touch(const char *what, volatile char *address, bool for_writing) {
    handle_info(SIGSEGV, leave_fault, 0);
    handle_info(SIGBUS, leave_fault, 0);
    int signal_number = sigsetjmp(out_of_fault, 1);
    if (signal_number == 0) {
        char byte = *address;
        if (for_writing)
            *address = byte;
        say("%s: %s", what, for_writing ? "writable" : "readable");
        return;
    }
    const char *code = signal_number == SIGBUS && fault.si_code == BUS_ADRERR     ? "BUS_ADRERR"
                       : signal_number == SIGSEGV && fault.si_code == SEGV_MAPERR ? "SEGV_MAPERR"
                       : signal_number == SIGSEGV && fault.si_code == SEGV_ACCERR ? "SEGV_ACCERR"
                                                                                  : "another code";
    say("%s: %s %s, address %s", what, signal_name(signal_number), code,
        fault.si_addr == address ? "right" : "wrong");
}

/* A file of whole pages, page i full of the letter 'a' + i. */
static int letters(const char *path, size_t pages) {
    char *content = malloc(pages * PAGE);
    SET_UP(content != NULL);
    for (size_t i = 0; i < pages; i++)
        memset(content + i * PAGE, 'a' + (int)i, PAGE);
    make_file(path, content, pages * PAGE);
    free(content);
    int fd = open(path, O_RDWR);
    SET_UP(fd >= 0);
    return fd;
}

static char *map_file(int fd, size_t length, int protection, int flags, off_t offset) {
    char *area = mmap(NULL, length, protection, flags, fd, offset);
    SET_UP(area != MAP_FAILED);
    return area;
}

TEST(a_private_mapping_shows_the_file_and_keeps_its_changes) {
    int fd = letters("file", 3);
    char *area = map_file(fd, 3 * PAGE, WRITABLE, MAP_PRIVATE, 0);
    say("%c%c%c", area[0], area[PAGE], area[3 * PAGE - 1]);
    area[PAGE] = 'X';
    char byte;
    SET_UP(pread(fd, &byte, 1, PAGE) == 1);
    say("in memory %c, in the file %c", area[PAGE], byte);
    pid_t child = fork_child();
    if (child == 0) {
        say("child sees %c", area[PAGE]);
        area[PAGE] = 'Y';
        _exit(0);
    }
    show_end("child", child);
    say("parent sees %c", area[PAGE]);
}

TEST(a_shared_mapping_writes_the_file_and_sees_its_writes) {
    int fd = letters("file", 2);
    char *one = map_file(fd, 2 * PAGE, WRITABLE, MAP_SHARED, 0);
    char *other = map_file(fd, PAGE, PROT_READ, MAP_SHARED, PAGE);
    memcpy(one + PAGE, "through memory", 14);
    char text[15] = {0};
    SET_UP(pread(fd, text, 14, PAGE) == 14);
    say("read: %s", text);
    say("other mapping: %.14s", other);
    SET_UP(pwrite(fd, "through write!", 14, PAGE) == 14);
    say("first mapping: %.14s", one + PAGE);
    pid_t child = fork_child();
    if (child == 0) {
        memcpy(one, "child was here", 14);
        _exit(0);
    }
    show_end("child", child);
    SET_UP(pread(fd, text, 14, 0) == 14);
    say("read: %s", text);
}

TEST(an_untouched_private_page_follows_the_file) {
    int fd = letters("file", 2);
    char *area = map_file(fd, 2 * PAGE, WRITABLE, MAP_PRIVATE, 0);
    area[0] = 'X';
    SET_UP(pwrite(fd, "1", 1, 1) == 1 && pwrite(fd, "2", 1, PAGE) == 1);
    say("the copied page %c, the other %c", area[1], area[PAGE]);
}

TEST(a_mapping_outlives_its_descriptor_and_its_name) {
    int fd = letters("file", 1);
    char *area = map_file(fd, PAGE, WRITABLE, MAP_SHARED, 0);
    SET_UP(close(fd) == 0 && unlink("file") == 0);
    area[0] = 'Z';
    say("%c%c", area[0], area[PAGE - 1]);
}

TEST(the_tail_of_the_last_page_is_zero_and_never_reaches_the_file) {
    make_text("file", "12345");
    int fd = open("file", O_RDWR);
    SET_UP(fd >= 0);
    char *area = map_file(fd, PAGE, WRITABLE, MAP_SHARED, 0);
    long sum = 0;
    for (size_t i = 5; i < PAGE; i++)
        sum += area[i];
    say("sum of the tail %ld", sum);
    area[5] = 'x';
    area[0] = 'w';
    SET_UP(msync(area, PAGE, MS_SYNC) == 0);
    say("size %ld", file_size("file"));
    show_file("file");
}

TEST(beyond_the_end_of_the_file_is_a_bus_error) {
    make_text("file", "12345");
    int fd = open("file", O_RDWR);
    SET_UP(fd >= 0);
    char *shared = map_file(fd, 3 * PAGE, WRITABLE, MAP_SHARED, 0);
    char *private = map_file(fd, 3 * PAGE, WRITABLE, MAP_PRIVATE, 0);
    touch("end of the first shared page", shared + PAGE - 1, false);
    touch("second shared page", shared + PAGE, false);
    touch("second shared page, writing", shared + PAGE + 7, true);
    touch("third private page", private + 2 * PAGE, false);
    touch("after the mapping of an empty file", map_file(open("empty", O_RDWR | O_CREAT, 0644), PAGE, PROT_READ,
                                                         MAP_SHARED, 0), false);
}

TEST(growing_a_file_opens_the_pages_of_its_mappings) {
    make_text("file", "12345");
    int fd = open("file", O_RDWR);
    SET_UP(fd >= 0);
    char *area = map_file(fd, 3 * PAGE, WRITABLE, MAP_SHARED, 0);
    touch("before", area + PAGE, false);
    SET_UP(ftruncate(fd, 2 * PAGE) == 0);
    touch("after", area + PAGE, true);
    touch("still beyond", area + 2 * PAGE, false);
    SET_UP(pwrite(fd, "!", 1, 2 * PAGE + 10) == 1);
    say("written beyond: %c", area[2 * PAGE + 10]);
}

TEST(truncating_a_file_takes_the_pages_of_its_mappings) {
    int fd = letters("file", 3);
    char *shared = map_file(fd, 3 * PAGE, WRITABLE, MAP_SHARED, 0);
    char *private = map_file(fd, 3 * PAGE, WRITABLE, MAP_PRIVATE, 0);
    private[2 * PAGE] = 'p';
    shared[PAGE + 200] = 's';
    SET_UP(ftruncate(fd, PAGE + 100) == 0);
    touch("first page", shared, true);
    touch("cut page", shared + PAGE, true);
    touch("lost shared page", shared + 2 * PAGE, false);
    touch("lost private page, even if copied", private + 2 * PAGE, false);
    say("behind the cut %d", shared[PAGE + 200]);
    SET_UP(ftruncate(fd, 3 * PAGE) == 0);
    say("grown again: %d %d", shared[PAGE + 200], shared[2 * PAGE]);
}

TEST(mapping_needs_the_permissions_of_the_descriptor) {
    SET_UP(close(letters("file", 1)) == 0);
    int reader = open("file", O_RDONLY), writer = open("file", O_WRONLY);
    SET_UP(reader >= 0 && writer >= 0);
    CALL_MAP(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, reader, 0));
    CALL_MAP(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, reader, 0));
    CALL_MAP(mmap(NULL, PAGE, WRITABLE, MAP_PRIVATE, reader, 0));
    CALL_MAP(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, writer, 0));
    CALL_MAP(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, writer, 0));
    CALL_MAP(mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE, writer, 0));
    char *area = map_file(reader, PAGE, PROT_READ, MAP_SHARED, 0);
    CALL(mprotect(area, PAGE, WRITABLE));
    CALL(mprotect(area, PAGE, PROT_READ | PROT_EXEC));
    area = map_file(reader, PAGE, PROT_READ, MAP_PRIVATE, 0);
    CALL(mprotect(area, PAGE, WRITABLE));
}

TEST(mapping_what_is_no_file_is_refused) {
    int ends[2];
    SET_UP(pipe(ends) == 0 && mkdir("directory", 0755) == 0);
    int directory = open("directory", O_RDONLY), null = open("/dev/null", O_RDWR);
    SET_UP(directory >= 0 && null >= 0);
    CALL_MAP(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, ends[0], 0));
    CALL_MAP(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ends[1], 0));
    CALL_MAP(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, directory, 0));
    CALL_MAP(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, null, 0));
}

TEST(dev_zero_maps_as_anonymous_memory) {
    int zero = open("/dev/zero", O_RDWR);
    SET_UP(zero >= 0);
    char *area = map_file(zero, PAGE, WRITABLE, MAP_PRIVATE, 0);
    say("%d", area[17]);
    area[17] = 'z';
    say("%c", area[17]);
}

TEST(mapping_at_absurd_offsets) {
    int fd = letters("file", 1);
    touch("far beyond the end", map_file(fd, PAGE, PROT_READ, MAP_SHARED, (off_t)1 << 40), false);
    CALL_MAP(RAW(SYS_mmap, NULL, PAGE, PROT_READ, MAP_SHARED, fd, 100));
    CALL_MAP(RAW(SYS_mmap, NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, -PAGE));
    CALL_MAP(RAW(SYS_mmap, NULL, PAGE, PROT_READ, MAP_SHARED, fd, LONG_MAX - (long)PAGE + 1));
}

TEST(protections_of_file_mappings_fault_with_accerr) {
    int fd = letters("file", 1);
    char *readable = map_file(fd, PAGE, PROT_READ, MAP_SHARED, 0);
    char *none = map_file(fd, PAGE, PROT_NONE, MAP_PRIVATE, 0);
    touch("readable, reading", readable + 5, false);
    touch("readable, writing", readable + 5, true);
    touch("none, reading", none + 6, false);
    SET_UP(munmap(none, PAGE) == 0);
    touch("unmapped", none + 7, false);
}

TEST(a_write_from_a_mapping_of_the_same_file) {
    int fd = letters("file", 2);
    char *area = map_file(fd, 2 * PAGE, WRITABLE, MAP_SHARED, 0);
    CALL(pwrite(fd, area, PAGE, PAGE));
    say("%c%c", area[PAGE], area[2 * PAGE - 1]);
    CALL(pread(fd, area + 10, 20, PAGE));
    say("%.30s", area + 5);
}

TEST(reading_into_a_mapping_beyond_its_file_is_efault) {
    make_text("short", "x");
    int fd = open("short", O_RDWR), zero = open("/dev/zero", O_RDONLY);
    SET_UP(fd >= 0 && zero >= 0);
    char *area = map_file(fd, 2 * PAGE, WRITABLE, MAP_SHARED, 0);
    CALL(read(zero, area + PAGE, 1));
    CALL(pwrite(fd, area + PAGE, 1, 0));
    show_file("short");
}

TEST(mremap_of_a_file_mapping_shows_more_of_the_file) {
    int fd = letters("file", 4);
    char *area = map_file(fd, PAGE, PROT_READ, MAP_SHARED, PAGE);
    area = mremap(area, PAGE, 3 * PAGE, MREMAP_MAYMOVE);
    SET_UP(area != MAP_FAILED);
    say("%c%c%c", area[0], area[PAGE], area[2 * PAGE]);
}

TEST(parts_of_a_file_can_be_mapped_in_any_order) {
    int fd = letters("file", 8);
    char *area = map_file(fd, 8 * PAGE, PROT_READ, MAP_PRIVATE, 0);
    for (int i = 0; i < 8; i++)
        SET_UP(mmap(area + (size_t)i * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, fd, (7 - i) * (off_t)PAGE)
               != MAP_FAILED);
    char order[9] = {0};
    for (int i = 0; i < 8; i++)
        order[i] = area[(size_t)i * PAGE + 100];
    say("%s", order);
}
