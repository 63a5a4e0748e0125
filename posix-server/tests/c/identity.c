/* What a process can ask about itself and its system: names, ids, limits, usage. */
#include "case.h"

#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

TEST(uname_names_a_linux_on_x86_64) {
    struct utsname name;
    CALL(uname(&name));
    say("%s on %s", name.sysname, name.machine);
    HOLDS(name.nodename[0] != 0 && name.release[0] != 0 && name.version[0] != 0);
    HOLDS(name.release[0] >= '2' && name.release[0] <= '9');
    CALL(RAW(SYS_uname, BAD_ADDRESS));
}

TEST(ids_agree_with_each_other) {
    HOLDS(getpid() > 0 && getppid() > 0 && getpid() != getppid());
    HOLDS(RAW(SYS_gettid) == getpid());
    HOLDS(RAW(SYS_set_tid_address, NULL) == getpid());
    uid_t real, effective, saved;
    CALL(getresuid(&real, &effective, &saved));
    HOLDS(real == getuid() && effective == geteuid() && saved == getuid());
    gid_t real_group, effective_group, saved_group;
    CALL(getresgid(&real_group, &effective_group, &saved_group));
    HOLDS(real_group == getgid() && effective_group == getegid() && saved_group == getgid());
}

TEST(limits_are_told_and_lowered) {
    struct rlimit limit;
    CALL(getrlimit(RLIMIT_NOFILE, &limit));
    HOLDS(limit.rlim_cur > 16 && limit.rlim_cur <= limit.rlim_max);
    CALL(getrlimit(RLIMIT_STACK, &limit));
    HOLDS(limit.rlim_cur >= 1 << 20);
    CALL(RAW(SYS_getrlimit, 99, &limit));
    CALL(RAW(SYS_getrlimit, RLIMIT_NOFILE, BAD_ADDRESS));
    struct rlimit crossed = {10, 5}, lower = {50, 60};
    CALL(setrlimit(RLIMIT_NOFILE, &crossed));
    CALL(setrlimit(RLIMIT_NOFILE, &lower));
    CALL(getrlimit(RLIMIT_NOFILE, &limit));
    say("%ld %ld", (long)limit.rlim_cur, (long)limit.rlim_max);
    CALL(RAW(SYS_setrlimit, RLIMIT_NOFILE, BAD_ADDRESS));
    CALL(RAW(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &limit));
    CALL(RAW(SYS_prlimit64, INT_MAX, RLIMIT_NOFILE, NULL, &limit));
    pid_t child = fork_child();
    if (child == 0) {
        getrlimit(RLIMIT_NOFILE, &limit);
        _exit((int)limit.rlim_cur);
    }
    show_end("inherited by a child", child);
}

ROOT_TEST(a_user_lowers_hard_limits_for_good) {
    struct rlimit lower = {50, 60};
    CALL(setrlimit(RLIMIT_NOFILE, &lower));
    drop_to(NOBODY, NOBODY);
    struct rlimit above = {50, 61};
    CALL(setrlimit(RLIMIT_NOFILE, &above));
    CALL(setrlimit(RLIMIT_NOFILE, &lower));
}

ROOT_TEST(too_many_processes_are_eagain) {
    /* An id that no other process of the system has. */
    drop_to(54321, 54321);
    struct rlimit few = {4, 4};
    SET_UP(setrlimit(RLIMIT_NPROC, &few) == 0);
    struct gate end = make_gate();
    pid_t children[4];
    int count = 0;
    while (count < 4 && (children[count] = fork()) > 0)
        count++;
    if (count < 4 && children[count] == 0) {
        pass_gate(end);
        _exit(0);
    }
    say("%d children, then %s", count, errno_name(errno));
    for (int i = 0; i < count; i++)
        open_gate(end);
    for (int i = 0; i < count; i++)
        show_end("child", children[i]);
}

TEST(too_much_memory_for_the_limit_is_enomem) {
    struct rlimit limit = {64 << 20, 64 << 20};
    SET_UP(setrlimit(RLIMIT_AS, &limit) == 0);
    CALL_MAP(mmap(NULL, 128 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    CALL_MAP(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    HOLDS(malloc(128 << 20) == NULL);
}

TEST(usage_is_told) {
    struct rusage usage;
    CALL(getrusage(RUSAGE_SELF, &usage));
    HOLDS(usage.ru_utime.tv_usec >= 0 && usage.ru_utime.tv_usec < 1000000);
    CALL(getrusage(RUSAGE_CHILDREN, &usage));
    CALL(RAW(SYS_getrusage, 99, &usage));
    CALL(RAW(SYS_getrusage, RUSAGE_SELF, BAD_ADDRESS));
}

TEST(sysinfo_tells_of_memory_and_time) {
    struct sysinfo info;
    memset(&info, 0, sizeof info);
    CALL(sysinfo(&info));
    HOLDS(info.procs > 0 && info.mem_unit > 0);
    HOLDS(info.totalram * info.mem_unit >= 16UL << 20);
    HOLDS(info.freeram <= info.totalram);
    CALL(RAW(SYS_sysinfo, BAD_ADDRESS));
}

TEST(priorities_and_affinity_exist) {
    CALL(setpriority(PRIO_PROCESS, 0, 19));
    CALL(getpriority(PRIO_PROCESS, 0));
    CALL(RAW(SYS_sched_yield));
    unsigned long processors[16] = {0};
    HOLDS(RAW(SYS_sched_getaffinity, 0, sizeof processors, processors) > 0);
    HOLDS(processors[0] & 1);
    HOLDS(sysconf(_SC_NPROCESSORS_ONLN) >= 1);
}

TEST(prctl_refuses_what_it_does_not_know) {
    CALL(RAW(SYS_prctl, 99999, 0, 0, 0, 0));
    CALL(RAW(SYS_arch_prctl, 0x9999, 0));
    CALL(RAW(SYS_arch_prctl, 0x1002 /* ARCH_SET_FS */, BAD_ADDRESS));
    unsigned long base = 0;
    CALL(RAW(SYS_arch_prctl, 0x1003 /* ARCH_GET_FS */, &base));
    HOLDS(base != 0 && base == *(unsigned long *)base);
}

TEST(numbers_of_no_system_call_are_enosys) {
    CALL(RAW(5000));
    CALL(RAW(-1));
    CALL(RAW(1L << 31));
    CALL(RAW(0xdeadbeef));
    /* Numbers that once meant something and have no call now. */
    CALL(RAW(SYS_create_module, 0, 0));
    CALL(RAW(SYS_query_module, 0, 0));
    CALL(RAW(SYS_getpmsg, 0, 0));
    /* The number is in the lower half of the register. */
    CALL(RAW((1L << 32) + SYS_close, 99));
    CALL(RAW((1L << 63) + SYS_close, 99));
}
