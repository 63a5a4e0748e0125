/* What the processor refuses becomes a signal, with the code and the address that say why. */
#include "case.h"

#include <setjmp.h>
#include <ucontext.h>

static sigjmp_buf out_of_fault;
static siginfo_t fault;

static void leave_fault(int signal_number, siginfo_t *info, void *context) {
    (void)context;
    fault = *info;
    siglongjmp(out_of_fault, signal_number);
}

static void catch_faults(void) {
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        handle_info(signals[i], leave_fault, 0);
}

/* Runs a statement and prints the signal, its code, and whether si_addr is `expected`. */
#define FAULTING(statement, expected)                                                                                  \
    do {                                                                                                               \
        catch_faults();                                                                                                \
        int signal_number = sigsetjmp(out_of_fault, 1);                                                                \
        if (signal_number == 0) {                                                                                      \
            statement;                                                                                                 \
            say("%s: no signal", #statement);                                                                          \
        } else {                                                                                                       \
            say("%s: %s code %d, address %s", #statement, signal_name(signal_number), fault.si_code,                   \
                fault.si_addr == (void *)(expected) ? "as expected" : "another");                                      \
        }                                                                                                              \
    } while (0)

__attribute__((noipa)) static void read_byte(void *address) {
    (void)*(volatile char *)address;
}

__attribute__((noipa)) static void write_byte(void *address) {
    *(volatile char *)address = 1;
}

TEST(an_access_to_nothing_tells_maperr_and_the_address) {
    char *area = mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED && munmap(area + PAGE, PAGE) == 0);
    FAULTING(read_byte(NULL), NULL);
    FAULTING(read_byte(NULL_PAGE_ADDRESS), NULL_PAGE_ADDRESS);
    FAULTING(write_byte(area + PAGE + 123), area + PAGE + 123);
    FAULTING(write_byte(area + 45), area + 45);
    FAULTING(read_byte(area), NULL);
}

TEST(an_access_to_the_kernels_half_is_a_fault) {
    FAULTING(read_byte((void *)0xffff800000000000), 0xffff800000000000);
    FAULTING(write_byte((void *)0xffffffff80000000), 0xffffffff80000000);
    FAULTING(read_byte((void *)-1), -1);
    /* Addresses that are not canonical are a general protection fault, which has no address. */
    FAULTING(read_byte(BAD_ADDRESS), NULL);
    FAULTING(read_byte((void *)0x1234567800000000), NULL);
}

TEST(a_jump_to_nowhere_is_a_fault_at_the_target) {
    char *area = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED);
    void (*nowhere)(void) = (void (*)(void))(uintptr_t)0x1000;
    void (*data)(void) = (void (*)(void))(uintptr_t)area;
    FAULTING(nowhere(), 0x1000);
    FAULTING(data(), area);
}

static volatile int one = 1;
static volatile int zero = 0;
static volatile int lowest = INT_MIN;
static volatile int minus_one = -1;
static volatile int result;

TEST(integer_division_by_zero_is_sigfpe) {
    catch_faults();
    int signal_number = sigsetjmp(out_of_fault, 1);
    if (signal_number == 0) {
        result = one / zero;
        say("no signal");
    } else {
        say("%s code %s, address is of code: %s", signal_name(signal_number),
            fault.si_code == FPE_INTDIV ? "FPE_INTDIV" : "another", fault.si_addr != NULL ? "yes" : "no");
    }
    signal_number = sigsetjmp(out_of_fault, 1);
    if (signal_number == 0) {
        result = lowest / minus_one;
        say("no signal");
    } else {
        say("%s code %s", signal_name(signal_number), fault.si_code == FPE_INTDIV ? "FPE_INTDIV" : "another");
    }
}

TEST(unmasked_floating_point_exceptions_are_sigfpe) {
    /* In the older unit: emulators leave out the exceptions of the vector unit. */
    unsigned short unmask_division = 0x37f & ~0x4u;
    catch_faults();
    int signal_number = sigsetjmp(out_of_fault, 1);
    if (signal_number == 0) {
        __asm__ volatile("fldcw %0\n\t"
                         "fld1\n\t"
                         "fldz\n\t"
                         "fdivrp\n\t"
                         "fwait"
                         :
                         : "m"(unmask_division));
        say("no signal");
    } else {
        say("%s code %s", signal_name(signal_number), fault.si_code == FPE_FLTDIV ? "FPE_FLTDIV" : "another");
    }
}

TEST(instructions_that_do_not_exist_or_are_privileged) {
    FAULTING(__asm__ volatile("ud2"), fault.si_addr);
    FAULTING(__asm__ volatile("hlt"), NULL);
    FAULTING(__asm__ volatile("cli"), NULL);
    FAULTING(__asm__ volatile("inb $0x80, %%al" : : : "al"), NULL);
    FAULTING(__asm__ volatile("mov %%cr0, %%rax" : : : "rax"), NULL);
    FAULTING(__asm__ volatile("lgdt (%%rsp)" : :), NULL);
}

TEST(a_breakpoint_is_a_trap) {
    catch_faults();
    int signal_number = sigsetjmp(out_of_fault, 1);
    if (signal_number == 0) {
        __asm__ volatile("int3");
        say("no signal");
    } else {
        say("%s", signal_name(signal_number));
    }
}

/* `inc` is three bytes here: the handler steps over it and execution goes on behind. */
static void skip_three_bytes(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    (void)info;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 3;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RBX] = 1234;
}

TEST(a_handler_can_change_the_registers_it_returns_to) {
    handle_info(SIGSEGV, skip_three_bytes, 0);
    long seen = 0;
    __asm__ volatile("xor %%ecx, %%ecx\n\t"
                     ".byte 0x48, 0xff, 0x01\n\t" /* incq (%rcx) */
                     "mov %%rbx, %0"
                     : "=r"(seen)
                     :
                     : "rbx", "rcx", "memory");
    say("went on with %ld", seen);
}

static void *page_to_open;

static void open_the_page(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    (void)context;
    void *page = (void *)((uintptr_t)info->si_addr & -PAGE);
    if (page != page_to_open || mprotect(page, PAGE, PROT_READ | PROT_WRITE) != 0)
        _exit(3);
}

TEST(a_handler_can_mend_the_fault_and_the_access_is_repeated) {
    char *area = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED);
    page_to_open = area;
    handle_info(SIGSEGV, open_the_page, 0);
    *(volatile char *)(area + 77) = 'm';
    say("mended: %c", area[77]);
}

/* What a fault leaves in the context: the error code of the page fault and the trap's number. */
static greg_t trap_number, error_code, fault_address;

static void note_context(int signal_number, siginfo_t *info, void *context) {
    (void)info;
    const ucontext_t *thread = context;
    trap_number = thread->uc_mcontext.gregs[REG_TRAPNO];
    error_code = thread->uc_mcontext.gregs[REG_ERR];
    fault_address = thread->uc_mcontext.gregs[REG_CR2];
    siglongjmp(out_of_fault, signal_number);
}

TEST(the_context_of_a_page_fault_has_trap_number_and_error_code) {
    handle_info(SIGSEGV, note_context, 0);
    char *area = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED);
    read_byte(area);
    if (sigsetjmp(out_of_fault, 1) == 0)
        write_byte(area + 9);
    say("trap %lld, error %#llx, address %s", trap_number, error_code,
        fault_address == (greg_t)(uintptr_t)(area + 9) ? "right" : "wrong");
    if (sigsetjmp(out_of_fault, 1) == 0)
        read_byte(NULL_PAGE_ADDRESS);
    say("trap %lld, error %#llx, address %lld", trap_number, error_code, fault_address);
}

#define DIES_BY(statement)                                                                                             \
    do {                                                                                                               \
        pid_t child = fork_child();                                                                                    \
        if (child == 0) {                                                                                              \
            statement;                                                                                                 \
            _exit(0);                                                                                                  \
        }                                                                                                              \
        show_end(#statement, child);                                                                                   \
    } while (0)

TEST(faults_without_a_handler_kill) {
    DIES_BY(read_byte(NULL));
    DIES_BY(result = one / zero);
    DIES_BY(__asm__ volatile("ud2"));
    DIES_BY(__asm__ volatile("int3"));
    DIES_BY(__asm__ volatile("hlt"));
    DIES_BY(abort());
}

TEST(a_blocked_or_ignored_fault_kills_all_the_same) {
    pid_t child = fork_child();
    if (child == 0) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        handle_info(SIGSEGV, leave_fault, 0);
        read_byte(NULL);
        _exit(0);
    }
    show_end("blocked", child);
    child = fork_child();
    if (child == 0) {
        signal(SIGSEGV, SIG_IGN);
        read_byte(NULL);
        _exit(0);
    }
    show_end("ignored", child);
    child = fork_child();
    if (child == 0) {
        signal(SIGSEGV, SIG_IGN);
        raise(SIGSEGV);
        _exit(8);
    }
    show_end("ignored and sent by hand", child);
}

static void fault_again(int signal_number) {
    (void)signal_number;
    read_byte(NULL);
}

TEST(a_fault_in_its_own_handler_kills) {
    pid_t child = fork_child();
    if (child == 0) {
        handle(SIGSEGV, fault_again, 0);
        read_byte(NULL);
        _exit(0);
    }
    show_end("child", child);
}

static char alternative[65536];
static volatile bool ran_on_alternative;

static void note_stack(int signal_number) {
    char here;
    ran_on_alternative = &here >= alternative && &here < alternative + sizeof alternative;
    siglongjmp(out_of_fault, signal_number);
}

__attribute__((noinline)) static int recurse(volatile int depth) {
    volatile char frame[4096];
    frame[0] = (char)depth;
    return depth < 0 ? 0 : recurse(depth + 1) + frame[0];
}

TEST(a_stack_overflow_can_be_handled_on_an_alternative_stack) {
    stack_t stack = {.ss_sp = alternative, .ss_size = sizeof alternative};
    SET_UP(sigaltstack(&stack, NULL) == 0);
    handle(SIGSEGV, note_stack, SA_ONSTACK);
    if (sigsetjmp(out_of_fault, 1) == 0)
        result = recurse(0);
    HOLDS(ran_on_alternative);
}

TEST(a_handler_without_a_usable_stack_kills) {
    pid_t child = fork_child();
    if (child == 0) {
        handle(SIGUSR1, note_stack, 0);
        __asm__ volatile("xor %%esp, %%esp\n\t"
                         "mov %0, %%rax\n\t" /* getpid, then kill */
                         "syscall\n\t"
                         "mov %%rax, %%rdi\n\t"
                         "mov %1, %%rsi\n\t"
                         "mov %2, %%rax\n\t"
                         "syscall\n\t"
                         "ud2"
                         :
                         : "i"(SYS_getpid), "i"(SIGUSR1), "i"(SYS_kill)
                         : "memory");
        _exit(0);
    }
    show_end("child", child);
}
