/* What a new program finds: the auxiliary vector, its stack, its registers' defaults, and randomised addresses. */
#include "case.h"

#include <elf.h>
#include <sys/auxv.h>

extern char **environ;
extern char __executable_start[];

static const struct {
    unsigned long type;
    const char *name;
} auxiliary[] = {
    {AT_PHDR, "AT_PHDR"},     {AT_PHENT, "AT_PHENT"},   {AT_PHNUM, "AT_PHNUM"},   {AT_PAGESZ, "AT_PAGESZ"},
    {AT_BASE, "AT_BASE"},     {AT_FLAGS, "AT_FLAGS"},   {AT_ENTRY, "AT_ENTRY"},   {AT_UID, "AT_UID"},
    {AT_EUID, "AT_EUID"},     {AT_GID, "AT_GID"},       {AT_EGID, "AT_EGID"},     {AT_CLKTCK, "AT_CLKTCK"},
    {AT_SECURE, "AT_SECURE"}, {AT_RANDOM, "AT_RANDOM"}, {AT_EXECFN, "AT_EXECFN"}, {AT_PLATFORM, "AT_PLATFORM"},
};

/* The vector itself lies above the environment. */
static const Elf64_auxv_t *vector(void) {
    char **at = environ;
    while (*at)
        at++;
    return (const Elf64_auxv_t *)(at + 1);
}

static bool has(unsigned long type) {
    for (const Elf64_auxv_t *entry = vector(); entry->a_type != AT_NULL; entry++)
        if (entry->a_type == type)
            return true;
    return false;
}

TEST(the_auxiliary_vector_has_its_entries) {
    for (size_t i = 0; i < sizeof auxiliary / sizeof *auxiliary; i++)
        say("%s: %s", auxiliary[i].name, has(auxiliary[i].type) ? "present" : "absent");
}

TEST(the_auxiliary_vector_tells_sizes_and_ids) {
    say("page size %lu", getauxval(AT_PAGESZ));
    say("clock ticks %lu", getauxval(AT_CLKTCK));
    say("flags %lu", getauxval(AT_FLAGS));
    say("secure %lu", getauxval(AT_SECURE));
    HOLDS(getauxval(AT_UID) == getuid());
    HOLDS(getauxval(AT_EUID) == geteuid());
    HOLDS(getauxval(AT_GID) == getgid());
    HOLDS(getauxval(AT_EGID) == getegid());
    const char *platform = (const char *)getauxval(AT_PLATFORM);
    say("platform %s", platform ? platform : "(none)");
}

TEST(the_auxiliary_vector_names_the_program_as_executed) {
    const char *name = (const char *)getauxval(AT_EXECFN);
    HOLDS(strcmp(name, own_path()) == 0);
}

TEST(the_program_headers_are_where_the_vector_says) {
    const Elf64_Phdr *headers = (const Elf64_Phdr *)getauxval(AT_PHDR);
    HOLDS(getauxval(AT_PHENT) == sizeof *headers);
    const Elf64_Ehdr *file = (const Elf64_Ehdr *)__executable_start;
    HOLDS(memcmp(file->e_ident, ELFMAG, SELFMAG) == 0);
    HOLDS((const char *)headers == (const char *)file + file->e_phoff);
    HOLDS(getauxval(AT_PHNUM) == file->e_phnum);
    HOLDS(getauxval(AT_BASE) == 0);
    const char *entry = (const char *)getauxval(AT_ENTRY);
    /* The addresses in the headers of a position-independent program count from its beginning. */
    const char *base = file->e_type == ET_DYN ? (const char *)file : NULL;
    bool executable = false;
    for (unsigned long i = 0; i < getauxval(AT_PHNUM); i++) {
        const char *start = base + headers[i].p_vaddr;
        if (headers[i].p_type == PT_LOAD && headers[i].p_flags & PF_X && entry >= start
            && entry < start + headers[i].p_memsz)
            executable = true;
    }
    say("the entry lies in an executable segment: %s", executable ? "yes" : "no");
}

TEST(the_stack_holds_vectors_and_strings_in_order) {
    char **arguments = environ - 3;
    HOLDS(((long *)arguments)[-1] == 2);
    HOLDS(strcmp(arguments[1], "the_stack_holds_vectors_and_strings_in_order") == 0);
    HOLDS(arguments[2] == NULL);
    HOLDS((uintptr_t)(arguments - 1) % 16 == 0);
    HOLDS((const char *)vector() < arguments[0]);
    HOLDS(arguments[0] < arguments[1]);
    HOLDS(arguments[1] < environ[0]);
    HOLDS((const char *)getauxval(AT_RANDOM) < arguments[0]);
    HOLDS((const char *)getauxval(AT_RANDOM) > (const char *)vector());
    HOLDS((const char *)getauxval(AT_EXECFN) > environ[0]);
}

/* What one run of a program finds out about its own placement. */
struct placement {
    unsigned char random[16];
    uintptr_t stack, heap, mapping, text;
};

int child_main(int argc, char **argv) {
    (void)argc;
    (void)argv;
    struct placement here;
    memcpy(here.random, (const void *)getauxval(AT_RANDOM), sizeof here.random);
    here.stack = (uintptr_t)environ;
    here.heap = (uintptr_t)RAW(SYS_brk, 0);
    here.mapping = (uintptr_t)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    here.text = (uintptr_t)__executable_start;
    return write(1, &here, sizeof here) == sizeof here ? 0 : 1;
}

static struct placement place_of_new_run(void) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    pid_t child = fork_child();
    if (child == 0) {
        SET_UP(dup2(ends[1], 1) == 1);
        execl(own_path(), own_path(), "--child", NULL);
        _exit(SET_UP_FAILED);
    }
    SET_UP(close(ends[1]) == 0);
    struct placement place;
    SET_UP(read(ends[0], &place, sizeof place) == sizeof place);
    SET_UP(close(ends[0]) == 0 && waitpid(child, NULL, 0) == child);
    return place;
}

TEST(every_run_has_its_own_random_bytes_and_addresses) {
    enum { RUNS = 4 };
    struct placement runs[RUNS];
    bool random = false, stack = false, heap = false, mapping = false, text = false;
    for (int i = 0; i < RUNS; i++) {
        runs[i] = place_of_new_run();
        random |= memcmp(runs[i].random, runs[0].random, sizeof runs[i].random) != 0;
        stack |= runs[i].stack != runs[0].stack;
        heap |= runs[i].heap != runs[0].heap;
        mapping |= runs[i].mapping != runs[0].mapping;
        text |= runs[i].text != runs[0].text;
    }
    say("random bytes differ: %s", random ? "yes" : "no");
    say("stacks differ: %s", stack ? "yes" : "no");
    say("heaps differ: %s", heap ? "yes" : "no");
    say("mappings differ: %s", mapping ? "yes" : "no");
    say("places of the program differ: %s", text ? "yes" : "no");
}

TEST(the_areas_of_a_process_lie_as_expected) {
    struct placement here = place_of_new_run();
    HOLDS(here.stack > here.mapping);
    HOLDS(here.mapping > here.heap);
    HOLDS(here.stack < 0x800000000000UL);
    HOLDS(here.mapping > 0x7f0000000000UL - 0x10000000000UL);
}

TEST(floating_point_starts_in_its_default_state) {
    unsigned int vector_control;
    unsigned short x87_control;
    __asm__ volatile("stmxcsr %0" : "=m"(vector_control));
    __asm__ volatile("fnstcw %0" : "=m"(x87_control));
    say("vector control %#x, x87 control %#x", vector_control, x87_control);
}

TEST(the_stack_grows_by_itself) {
    enum { MEBIBYTES = 4 };
    volatile char *low = __builtin_alloca(MEBIBYTES << 20);
    long sum = 0;
    for (long at = (MEBIBYTES << 20) - 1; at >= 0; at -= 1024) {
        low[at] = 1;
        sum += low[at];
    }
    say("%ld touched", sum);
}

__attribute__((noinline)) static int recurse(volatile int depth) {
    volatile char frame[4096];
    frame[0] = (char)depth;
    return depth < 0 ? 0 : recurse(depth + 1) + frame[0];
}

TEST(endless_recursion_is_a_segmentation_fault) {
    pid_t child = fork_child();
    if (child == 0)
        _exit(recurse(0));
    show_end("child", child);
}

TEST(a_missing_standard_stream_stays_missing) {
    pid_t child = fork_child();
    if (child == 0) {
        close(0);
        CALL(read(0, (char[1]){0}, 1));
        CALL(open("/dev/null", O_RDONLY));
        _exit(0);
    }
    show_end("child", child);
}
