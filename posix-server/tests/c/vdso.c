/* The vDSO: found through the auxiliary vector, read as a loader reads it, and called. */
#include "case.h"

#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/time.h>

#define VERSION "LINUX_2.6"

static const Elf64_Ehdr *image(void) {
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)getauxval(AT_SYSINFO_EHDR);
    SET_UP(header != NULL);
    return header;
}

static const Elf64_Phdr *segment(Elf64_Word type) {
    const Elf64_Ehdr *header = image();
    const Elf64_Phdr *segments = (const Elf64_Phdr *)((const char *)header + header->e_phoff);
    for (int i = 0; i < header->e_phnum; i++)
        if (segments[i].p_type == type)
            return &segments[i];
    return NULL;
}

static const char *loaded(Elf64_Addr address) {
    const Elf64_Phdr *load = segment(PT_LOAD);
    SET_UP(load != NULL);
    return (const char *)image() + load->p_offset - load->p_vaddr + address;
}

/* The value of an entry of the dynamic section, as an address. */
static const void *dynamic(Elf64_Sxword tag) {
    const Elf64_Phdr *where = segment(PT_DYNAMIC);
    SET_UP(where != NULL);
    for (const Elf64_Dyn *entry = (const Elf64_Dyn *)loaded(where->p_vaddr); entry->d_tag != DT_NULL; entry++)
        if (entry->d_tag == tag)
            return loaded(entry->d_un.d_ptr);
    return NULL;
}

/* The index of a version by its name, as the definitions have it. */
static int version_index(const char *name) {
    const char *strings = dynamic(DT_STRTAB);
    const Elf64_Verdef *version = dynamic(DT_VERDEF);
    SET_UP(strings != NULL && version != NULL);
    for (;;) {
        const Elf64_Verdaux *first = (const Elf64_Verdaux *)((const char *)version + version->vd_aux);
        if (!(version->vd_flags & VER_FLG_BASE) && strcmp(strings + first->vda_name, name) == 0)
            return version->vd_ndx & 0x7fff;
        if (version->vd_next == 0)
            return -1;
        version = (const Elf64_Verdef *)((const char *)version + version->vd_next);
    }
}

static uint32_t sysv_hash(const char *name) {
    uint32_t hash = 0;
    for (; *name; name++) {
        hash = (hash << 4) + (unsigned char)*name;
        hash = (hash ^ ((hash >> 24) & 0xf0)) & 0x0fffffff;
    }
    return hash;
}

/* Finds a function the way a loader with DT_HASH does, with its version. */
static void *function(const char *name) {
    const char *strings = dynamic(DT_STRTAB);
    const Elf64_Sym *symbols = dynamic(DT_SYMTAB);
    const Elf64_Half *versions = dynamic(DT_VERSYM);
    const uint32_t *hash = dynamic(DT_HASH);
    SET_UP(strings && symbols && versions && hash);
    const uint32_t *buckets = hash + 2, *chain = buckets + hash[0];
    for (uint32_t i = buckets[sysv_hash(name) % hash[0]]; i != STN_UNDEF; i = chain[i]) {
        int kind = ELF64_ST_TYPE(symbols[i].st_info), binding = ELF64_ST_BIND(symbols[i].st_info);
        if (kind == STT_FUNC && (binding == STB_GLOBAL || binding == STB_WEAK) && symbols[i].st_shndx != SHN_UNDEF &&
            strcmp(strings + symbols[i].st_name, name) == 0 && (versions[i] & 0x7fff) == version_index(VERSION))
            return (void *)loaded(symbols[i].st_value);
    }
    return NULL;
}

TEST(the_vdso_is_a_shared_object) {
    const Elf64_Ehdr *header = image();
    HOLDS((uintptr_t)header % PAGE == 0);
    HOLDS(memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_ident[EI_CLASS] == ELFCLASS64);
    HOLDS(header->e_type == ET_DYN && header->e_machine == EM_X86_64);
    HOLDS(segment(PT_LOAD)->p_flags == (PF_R | PF_X));
    HOLDS(segment(PT_GNU_EH_FRAME) != NULL);
    const Elf64_Dyn *entry = (const Elf64_Dyn *)loaded(segment(PT_DYNAMIC)->p_vaddr);
    while (entry->d_tag != DT_SONAME && entry->d_tag != DT_NULL)
        entry++;
    say("%s", (const char *)dynamic(DT_STRTAB) + entry->d_un.d_val);
    HOLDS(version_index(VERSION) > 0);
}

TEST(the_vdso_has_its_functions) {
    const char *names[] = {"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time", "__vdso_clock_getres",
                           "__vdso_getcpu",        "clock_gettime",       "no_such_function"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        say("%s: %s", names[i], function(names[i]) ? "there" : "not there");
    HOLDS(function("clock_gettime") == function("__vdso_clock_gettime"));
}

TEST(the_vdso_agrees_with_the_system_calls) {
    int (*clock_gettime_)(clockid_t, struct timespec *) = function("__vdso_clock_gettime");
    int (*clock_getres_)(clockid_t, struct timespec *) = function("__vdso_clock_getres");
    SET_UP(clock_gettime_ && clock_getres_);
    const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC,       CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
                                CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_TAI};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        struct timespec before, told, after;
        SET_UP(RAW(SYS_clock_gettime, clocks[i], &before) == 0);
        say("clock %d: %d", clocks[i], clock_gettime_(clocks[i], &told));
        SET_UP(RAW(SYS_clock_gettime, clocks[i], &after) == 0);
#define NS(time) ((time).tv_sec * 1000000000L + (time).tv_nsec)
        HOLDS(NS(before) <= NS(told) && NS(told) <= NS(after));
        HOLDS(told.tv_nsec >= 0 && told.tv_nsec < 1000000000);
        struct timespec one, two;
        SET_UP(RAW(SYS_clock_getres, clocks[i], &one) == 0);
        HOLDS(clock_getres_(clocks[i], &two) == 0 && NS(one) == NS(two));
        HOLDS(clock_getres_(clocks[i], NULL) == 0);
    }
}

TEST(the_vdso_hands_on_what_it_does_not_know) {
    int (*clock_gettime_)(clockid_t, struct timespec *) = function("__vdso_clock_gettime");
    int (*clock_getres_)(clockid_t, struct timespec *) = function("__vdso_clock_getres");
    SET_UP(clock_gettime_ && clock_getres_);
    struct timespec time;
    const clockid_t clocks[] = {10, 31, 32, 63, 64, 12345};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        say("clock %d: %s", clocks[i], errno_name(-clock_gettime_(clocks[i], &time)));
        say("resolution of %d: %s", clocks[i], errno_name(-clock_getres_(clocks[i], &time)));
    }
}

TEST(the_vdso_tells_the_day_and_the_processor) {
    int (*gettimeofday_)(struct timeval *, struct timezone *) = function("__vdso_gettimeofday");
    time_t (*time_)(time_t *) = function("__vdso_time");
    long (*getcpu_)(unsigned *, unsigned *, void *) = function("__vdso_getcpu");
    SET_UP(gettimeofday_ && time_ && getcpu_);
    struct timeval before, told, after;
    struct timezone zone = {7, 7};
    SET_UP(RAW(SYS_gettimeofday, &before, NULL) == 0);
    HOLDS(gettimeofday_(&told, &zone) == 0);
    SET_UP(RAW(SYS_gettimeofday, &after, NULL) == 0);
#define MICROSECONDS(time) ((time).tv_sec * 1000000L + (time).tv_usec)
    HOLDS(MICROSECONDS(before) <= MICROSECONDS(told) && MICROSECONDS(told) <= MICROSECONDS(after));
    HOLDS(told.tv_usec >= 0 && told.tv_usec < 1000000);
    say("zone %d %d", zone.tz_minuteswest, zone.tz_dsttime);
    HOLDS(gettimeofday_(NULL, NULL) == 0);
    time_t stored = 0, seconds = time_(&stored);
    HOLDS(stored == seconds && seconds >= told.tv_sec - 1 && seconds <= told.tv_sec + 2);
    HOLDS(time_(NULL) - seconds <= 2);
    unsigned processor = 99, node = 99;
    HOLDS(getcpu_(&processor, &node, NULL) == 0 && processor < 99 && node < 99);
    HOLDS(getcpu_(NULL, NULL, NULL) == 0);
}

TEST(the_vdso_can_not_be_written) {
    volatile char *byte = (volatile char *)image();
    pid_t child = fork_child();
    if (child == 0) {
        *byte = 1;
        _exit(0);
    }
    show_end("write to the vDSO", child);
    say("the first bytes: %.3s", (const char *)image() + 1);
}
