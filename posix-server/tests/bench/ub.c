/* ub: small micro-benchmarks with fixed iteration counts (Linux ABI, static).
 * Every benchmark runs a fixed number of operations (so a -icount run is
 * comparable), R rounds; prints min and median of ns (CLOCK_MONOTONIC) and of
 * rdtsc ticks per operation, in thousandths.
 *   usage: ub [-r rounds] [-s scale] [-d dir] [-t true-path] [name...]
 * scale divides the iteration count (ub -s 10 = ten times fewer operations).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int rounds = 5;
static long scale = 1;
static const char *dir = "/tmp";
static const char *truepath = "/bin/true";
static char fpath[256];
static int filefd = -1;
#define FILESZ (8L << 20)

static void die(const char *w) { printf("UBERR %s: %s\n", w, strerror(errno)); fflush(stdout); _exit(1); }

static inline uint64_t tsc(void)
{
	uint32_t a, d;
	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(a), "=d"(d)::"memory");
	return (uint64_t)d << 32 | a;
}
static uint64_t now(void)
{
	struct timespec t;
	if (clock_gettime(CLOCK_MONOTONIC, &t)) die("clock_gettime");
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* result of the timed section of one round */
struct span { uint64_t ns, tk; };
static struct span cur;
static uint64_t s_ns, s_tk;
#define START() do { s_ns = now(); s_tk = tsc(); } while (0)
#define STOP()  do { uint64_t e = tsc(); cur.tk = e - s_tk; cur.ns = now() - s_ns; } while (0)

static void pin(int cpu)
{
	cpu_set_t s; CPU_ZERO(&s); CPU_SET(cpu, &s);
	sched_setaffinity(0, sizeof s, &s);	/* best effort */
}
static void xwrite(int fd, const void *p, size_t n) { if (write(fd, p, n) != (ssize_t)n) die("write"); }
static void xread(int fd, void *p, size_t n) { if (read(fd, p, n) != (ssize_t)n) die("read"); }
static pid_t xfork(void) { fflush(stdout); pid_t p = fork(); if (p < 0) die("fork"); return p; }
static void xwait(pid_t p) { int st; if (waitpid(p, &st, 0) != p) die("waitpid"); if (!WIFEXITED(st) || WEXITSTATUS(st)) { printf("UBERR child status %x\n", st); _exit(1); } }

static volatile uint64_t sink;
static char buf[1 << 20];

/* ---- pure user code: calibrates the machine ---- */
static void b_cpu(long n)
{
	uint64_t x = 88172645463325252ull;
	START();
	for (long i = 0; i < n; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; __asm__ volatile("" : "+r"(x)); }
	STOP();
	sink = x;
}
static void b_memcpy(long n)
{
	static char a[65536], b[65536];
	START();
	for (long i = 0; i < n; i++) { memcpy(a, b, sizeof a); __asm__ volatile("" ::"r"(a) : "memory"); }
	STOP();
}
/* ---- system calls ---- */
static void b_getpid(long n) { START(); for (long i = 0; i < n; i++) syscall(SYS_getpid); STOP(); }
static void b_clock(long n) { struct timespec t; START(); for (long i = 0; i < n; i++) clock_gettime(CLOCK_MONOTONIC, &t); STOP(); }
static void b_clock_sys(long n) { struct timespec t; START(); for (long i = 0; i < n; i++) syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t); STOP(); }
static void preadn(long n, size_t sz) { START(); for (long i = 0; i < n; i++) if (pread(filefd, buf, sz, (i * 65536) % FILESZ) != (ssize_t)sz) die("pread"); STOP(); }
static void b_pread1(long n) { preadn(n, 1); }
static void b_pread4k(long n) { preadn(n, 4096); }
static void b_pread64k(long n) { preadn(n, 65536); }
static void b_pwrite4k(long n) { int fd = open(fpath, O_RDWR); if (fd < 0) die("open"); START(); for (long i = 0; i < n; i++) if (pwrite(fd, buf, 4096, (i * 65536) % FILESZ) != 4096) die("pwrite"); STOP(); close(fd); }
static void b_seqread(long n)	/* n passes over the whole file, 128 KiB reads */
{
	START();
	for (long i = 0; i < n; i++) {
		if (lseek(filefd, 0, SEEK_SET)) die("lseek");
		long got = 0, r;
		while ((r = read(filefd, buf, 131072)) > 0) got += r;
		if (got != FILESZ) die("seqread");
	}
	STOP();
}
static void b_devnull(long n) { int fd = open("/dev/null", O_WRONLY); if (fd < 0) die("/dev/null"); START(); for (long i = 0; i < n; i++) xwrite(fd, buf, 1); STOP(); close(fd); }
static void b_open(long n) { START(); for (long i = 0; i < n; i++) { int fd = open(fpath, O_RDONLY); if (fd < 0) die("open"); close(fd); } STOP(); }
static void b_stat(long n) { struct stat st; START(); for (long i = 0; i < n; i++) if (stat(fpath, &st)) die("stat"); STOP(); }
static void b_creat(long n) { char p[300]; snprintf(p, sizeof p, "%s/ub.new", dir); START(); for (long i = 0; i < n; i++) { int fd = open(p, O_CREAT | O_EXCL | O_WRONLY, 0600); if (fd < 0) die("creat"); close(fd); if (unlink(p)) die("unlink"); } STOP(); }
/* ---- ipc ---- */
static void pingpong(long n, int a[2], int b[2], int rd, int wr)
{
	/* parent writes a[wr], child reads a[rd]; child writes b[wr], parent reads b[rd] */
	char c = 0;
	pid_t p = xfork();
	if (!p) { for (long i = 0; i < n + 1; i++) { xread(a[rd], &c, 1); xwrite(b[wr], &c, 1); } _exit(0); }
	xwrite(a[wr], &c, 1); xread(b[rd], &c, 1);
	START();
	for (long i = 0; i < n; i++) { xwrite(a[wr], &c, 1); xread(b[rd], &c, 1); }
	STOP();
	xwait(p);
}
static void b_pipe(long n) { int a[2], b[2]; if (pipe(a) || pipe(b)) die("pipe"); pingpong(n, a, b, 0, 1); for (int i = 0; i < 2; i++) close(a[i]), close(b[i]); }
static void b_sock(long n) { int s[2]; if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) die("socketpair"); int a[2] = { s[1], s[0] }, b[2] = { s[0], s[1] }; pingpong(n, a, b, 0, 1); close(s[0]); close(s[1]); }
static void b_pipe_self(long n) { int a[2]; char c = 0; if (pipe(a)) die("pipe"); START(); for (long i = 0; i < n; i++) { xwrite(a[1], &c, 1); xread(a[0], &c, 1); } STOP(); close(a[0]); close(a[1]); }
#define RING 8
static void b_ctx(long n)	/* token round a ring of 8 processes; n = hops; minus pipe_self = switch */
{
	int p[RING][2]; pid_t k[RING]; char c = 0; long laps = n / RING;
	for (int i = 0; i < RING; i++) if (pipe(p[i])) die("pipe");
	for (int i = 1; i < RING; i++) if (!(k[i] = xfork())) { for (long j = 0; j < laps + 1; j++) { xread(p[i][0], &c, 1); xwrite(p[(i + 1) % RING][1], &c, 1); } _exit(0); }
	xwrite(p[1][1], &c, 1); xread(p[0][0], &c, 1);
	START();
	for (long j = 0; j < laps; j++) { xwrite(p[1][1], &c, 1); xread(p[0][0], &c, 1); }
	STOP();
	for (int i = 1; i < RING; i++) xwait(k[i]);
	for (int i = 0; i < RING; i++) close(p[i][0]), close(p[i][1]);
}
static void b_pipebw(long n)	/* n x 64 KiB through a pipe between processes */
{
	int a[2]; if (pipe(a)) die("pipe");
	pid_t p = xfork();
	if (!p) { close(a[0]); for (long i = 0; i < n; i++) xwrite(a[1], buf, 65536); _exit(0); }
	close(a[1]);
	long got = 0, r;
	START();
	while ((r = read(a[0], buf, 65536)) > 0) got += r;
	STOP();
	if (got != n * 65536) die("pipebw");
	xwait(p); close(a[0]);
}
static void b_yield2(long n)
{
	volatile int *stop = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t p = xfork();
	if (!p) { while (!*stop) sched_yield(); _exit(0); }
	START(); for (long i = 0; i < n; i++) sched_yield(); STOP();
	*stop = 1; xwait(p); munmap((void *)stop, 4096);
}
static uint32_t fx[32];		/* fx[0], fx[16]: two cache lines */
static void fpost(uint32_t *f) { __atomic_store_n(f, 1, __ATOMIC_SEQ_CST); syscall(SYS_futex, f, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0); }
static void fwaitz(uint32_t *f) { while (!__atomic_exchange_n(f, 0, __ATOMIC_SEQ_CST)) syscall(SYS_futex, f, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0); }
static void *futex_peer(void *v) { for (long i = 0, n = (long)v; i < n; i++) { fwaitz(&fx[0]); fpost(&fx[16]); } return 0; }
static void b_futex(long n)
{
	pthread_t t;
	if (pthread_create(&t, 0, futex_peer, (void *)(n + 1))) die("pthread_create");
	fpost(&fx[0]); fwaitz(&fx[16]);
	START(); for (long i = 0; i < n; i++) { fpost(&fx[0]); fwaitz(&fx[16]); } STOP();
	pthread_join(t, 0);
}
static void *nop(void *v) { return v; }
static void b_thread(long n) { pthread_t t; START(); for (long i = 0; i < n; i++) { if (pthread_create(&t, 0, nop, 0)) die("pthread_create"); pthread_join(t, 0); } STOP(); }
static volatile int nsig;
static void onsig(int s) { (void)s; nsig++; }
static void b_signal(long n) { struct sigaction sa = { .sa_handler = onsig }; sigaction(SIGUSR1, &sa, 0); pid_t me = getpid(); START(); for (long i = 0; i < n; i++) kill(me, SIGUSR1); STOP(); if (nsig < n) die("signal"); }
/* ---- processes ---- */
static void b_fork(long n) { START(); for (long i = 0; i < n; i++) { pid_t p = fork(); if (!p) _exit(0); if (p < 0) die("fork"); xwait(p); } STOP(); }
static void b_forkexec(long n) { START(); for (long i = 0; i < n; i++) { pid_t p = fork(); if (!p) { execl(truepath, "true", (char *)0); _exit(99); } if (p < 0) die("fork"); xwait(p); } STOP(); }
static void b_spawn(long n) { char *av[] = { "true", 0 }, *ev[] = { 0 }; START(); for (long i = 0; i < n; i++) { pid_t p; if (posix_spawn(&p, truepath, 0, 0, av, ev)) die("posix_spawn"); xwait(p); } STOP(); }
static void b_shexec(long n) { char *av[] = { "sh", "-c", "exit 0", 0 }, *ev[] = { 0 }; START(); for (long i = 0; i < n; i++) { pid_t p; if (posix_spawn(&p, "/bin/sh", 0, 0, av, ev)) die("posix_spawn"); xwait(p); } STOP(); }
/* ---- memory ---- */
static void b_mmapfile(long n) { START(); for (long i = 0; i < n; i++) { char *p = mmap(0, 4096, PROT_READ, MAP_PRIVATE, filefd, (i * 4096) % FILESZ); if (p == MAP_FAILED) die("mmap"); sink = *(volatile char *)p; munmap(p, 4096); } STOP(); }
static void b_mmapanon(long n) { START(); for (long i = 0; i < n; i++) { char *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (p == MAP_FAILED) die("mmap"); munmap(p, 4096); } STOP(); }
static char *anon(size_t sz) { char *p = mmap(0, sz, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (p == MAP_FAILED) die("mmap"); madvise(p, sz, MADV_NOHUGEPAGE); return p; }
static void touch(char *p, long n) { for (long i = 0; i < n; i++) ((volatile char *)p)[i * 4096] = 1; }
static void b_fault(long n) { char *p = anon(n * 4096); START(); touch(p, n); STOP(); munmap(p, n * 4096); }
static void b_faultrd(long n) { if (n > FILESZ / 4096) n = FILESZ / 4096; char *p = mmap(0, n * 4096, PROT_READ, MAP_PRIVATE, filefd, 0); if (p == MAP_FAILED) die("mmap"); madvise(p, n * 4096, MADV_RANDOM); uint64_t s = 0; START(); for (long i = 0; i < n; i++) s += ((volatile char *)p)[i * 4096]; STOP(); sink = s; munmap(p, n * 4096); }
static void b_cow(long n)
{
	char *p = anon(n * 4096); touch(p, n);
	struct span *sh = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t k = xfork();
	if (!k) { sh->ns = 1; START(); touch(p, n); STOP(); *sh = cur; _exit(0); }
	xwait(k); cur = *sh; munmap(sh, 4096); munmap(p, n * 4096);
}
static long npages(size_t mib) { return (long)(mib << 20) / 4096; }
static void forksized(long n, size_t mib)	/* fork+exit+wait with this much touched memory */
{
	char *p = anon(mib << 20); touch(p, npages(mib)); b_fork(n); munmap(p, mib << 20);
}
static void b_fork1m(long n) { forksized(n, 1); }
static void b_forkbig(long n) { forksized(n, 16); }
static void b_fork256m(long n) { forksized(n, 256); }
static uint64_t readall(const char *p, long n) { uint64_t s = 0; for (long i = 0; i < n; i++) s += ((const volatile char *)p)[i * 4096]; return s; }
/* The same, but the child reads a byte of every touched page before it exits. What this costs above fork* is the loop's own
 * four instructions a page if the child needs no fault to read what its parent had. */
static void forkread(long n, size_t mib)
{
	char *p = anon(mib << 20); touch(p, npages(mib));
	START();
	for (long i = 0; i < n; i++) {
		pid_t k = fork();
		if (!k) { sink = readall(p, npages(mib)); _exit(0); }
		if (k < 0) die("fork");
		xwait(k);
	}
	STOP();
	munmap(p, mib << 20);
}
static void b_forkread1m(long n) { forkread(n, 1); }
static void b_forkread16m(long n) { forkread(n, 16); }
static void b_forkread256m(long n) { forkread(n, 256); }
static void b_brk(long n) { START(); for (long i = 0; i < n; i++) { char *b = (char *)syscall(SYS_brk, 0); syscall(SYS_brk, b + 4096); syscall(SYS_brk, b); } STOP(); }

/* ---- waiting ---- */
static void b_eventfd(long n)
{
	uint64_t v = 1;
	int fd = eventfd(0, 0);
	if (fd < 0) die("eventfd");
	START();
	for (long i = 0; i < n; i++) { xwrite(fd, &v, 8); xread(fd, &v, 8); }
	STOP();
	close(fd);
}
#define WATCHED 64
/* counters, of which only the last is ready */
static void watched(int fds[WATCHED]) { for (int i = 0; i < WATCHED; i++) if ((fds[i] = eventfd(i == WATCHED - 1, 0)) < 0) die("eventfd"); }
static void b_poll64(long n)
{
	int fds[WATCHED];
	struct pollfd p[WATCHED];
	watched(fds);
	for (int i = 0; i < WATCHED; i++) p[i] = (struct pollfd){ fds[i], POLLIN, 0 };
	START();
	for (long i = 0; i < n; i++) if (poll(p, WATCHED, -1) != 1) die("poll");
	STOP();
	for (int i = 0; i < WATCHED; i++) close(fds[i]);
}
static void b_epoll64(long n)
{
	int fds[WATCHED], ep = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLIN };
	watched(fds);
	for (int i = 0; i < WATCHED; i++) if (epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &e)) die("epoll_ctl");
	START();
	for (long i = 0; i < n; i++) if (epoll_wait(ep, &e, 1, -1) != 1) die("epoll_wait");
	STOP();
	for (int i = 0; i < WATCHED; i++) close(fds[i]);
	close(ep);
}
static void b_epoll_ctl(long n)
{
	int fd = eventfd(0, 0), ep = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLIN };
	START();
	for (long i = 0; i < n; i++) if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) || epoll_ctl(ep, EPOLL_CTL_DEL, fd, &e)) die("epoll_ctl");
	STOP();
	close(fd); close(ep);
}
static void b_epoll_rt(long n)	/* eventfd round trip of two processes that sleep in epoll_wait */
{
	int fd[2] = { eventfd(0, 0), eventfd(0, 0) };
	uint64_t v = 1;
	pid_t p = xfork();
	int me = p ? 0 : 1, ep = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLIN };
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd[me], &e)) die("epoll_ctl");
	if (!p) {
		for (long i = 0; i < n; i++) { if (epoll_wait(ep, &e, 1, -1) != 1) _exit(1); xread(fd[1], &v, 8); xwrite(fd[0], &v, 8); }
		_exit(0);
	}
	START();
	for (long i = 0; i < n; i++) { xwrite(fd[1], &v, 8); if (epoll_wait(ep, &e, 1, -1) != 1) die("epoll_wait"); xread(fd[0], &v, 8); }
	STOP();
	xwait(p);
	close(fd[0]); close(fd[1]); close(ep);
}
static void b_timerfd(long n)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	struct itimerspec t = { { 0, 0 }, { 1000, 0 } };
	if (fd < 0) die("timerfd");
	START();
	for (long i = 0; i < n; i++) if (timerfd_settime(fd, 0, &t, NULL)) die("timerfd_settime");
	STOP();
	close(fd);
}

static const struct { const char *name; void (*fn)(long); long n; const char *what; } T[] = {
	{ "cpu", b_cpu, 20000000, "xorshift step, user code only" },
	{ "memcpy64k", b_memcpy, 2000, "memcpy 64 KiB, user code only" },
	{ "getpid", b_getpid, 200000, "getpid()" },
	{ "clock", b_clock, 200000, "clock_gettime (libc, vdso if any)" },
	{ "clock_sys", b_clock_sys, 100000, "clock_gettime by syscall" },
	{ "devnull", b_devnull, 100000, "write 1 byte to /dev/null" },
	{ "pread1", b_pread1, 50000, "pread 1 byte, cached file" },
	{ "pread4k", b_pread4k, 50000, "pread 4 KiB, cached file" },
	{ "pread64k", b_pread64k, 5000, "pread 64 KiB, cached file" },
	{ "pwrite4k", b_pwrite4k, 20000, "pwrite 4 KiB, cached file" },
	{ "seqread8m", b_seqread, 20, "read 8 MiB cached file, 128 KiB reads" },
	{ "open", b_open, 20000, "open+close" },
	{ "stat", b_stat, 20000, "stat" },
	{ "creat", b_creat, 10000, "open(O_CREAT|O_EXCL)+close+unlink" },
	{ "pipe_self", b_pipe_self, 50000, "write+read 1 byte, own pipe" },
	{ "pipe", b_pipe, 10000, "pipe round trip, 2 processes" },
	{ "socketpair", b_sock, 10000, "unix socketpair round trip, 2 processes" },
	{ "ctx8", b_ctx, 40000, "token hop in ring of 8 processes" },
	{ "yield2", b_yield2, 20000, "sched_yield with a second yielder" },
	{ "pipebw64k", b_pipebw, 500, "64 KiB through a pipe, 2 processes" },
	{ "futex", b_futex, 10000, "futex round trip, 2 threads" },
	{ "thread", b_thread, 1000, "pthread_create+join" },
	{ "signal", b_signal, 20000, "kill(self)+handler+return" },
	{ "eventfd", b_eventfd, 50000, "write+read of an eventfd" },
	{ "poll64", b_poll64, 10000, "poll 64 eventfds, one ready" },
	{ "epoll64", b_epoll64, 50000, "epoll_wait on 64 eventfds, one ready" },
	{ "epollctl", b_epoll_ctl, 20000, "epoll_ctl add+delete" },
	{ "epollrt", b_epoll_rt, 10000, "eventfd round trip, 2 processes in epoll_wait" },
	{ "timerfd", b_timerfd, 50000, "timerfd_settime of a set timer" },
	{ "fork", b_fork, 300, "fork+exit+wait" },
	{ "fork1m", b_fork1m, 50, "fork+exit+wait, 1 MiB touched" },
	{ "fork16m", b_forkbig, 50, "fork+exit+wait, 16 MiB touched" },
	{ "fork256m", b_fork256m, 16, "fork+exit+wait, 256 MiB touched" },
	{ "forkrd1m", b_forkread1m, 50, "fork, child reads all of 1 MiB, exit+wait" },
	{ "forkrd16m", b_forkread16m, 50, "fork, child reads all of 16 MiB, exit+wait" },
	{ "forkrd256m", b_forkread256m, 16, "fork, child reads all of 256 MiB, exit+wait" },
	{ "forkexec", b_forkexec, 200, "fork+execve(true)+wait" },
	{ "spawn", b_spawn, 200, "posix_spawn(true)+wait" },
	{ "sh", b_shexec, 50, "posix_spawn(/bin/sh -c 'exit 0')+wait" },
	{ "mmapanon", b_mmapanon, 20000, "mmap+munmap anon page, untouched" },
	{ "mmapfile", b_mmapfile, 10000, "mmap+touch+munmap 1 cached file page" },
	{ "faultfile", b_faultrd, 2048, "read fault on cached mapped file page" },
	{ "fault", b_fault, 4096, "anonymous write fault" },
	{ "cow", b_cow, 4096, "COW fault after fork" },
	{ "brk", b_brk, 10000, "brk query+grow+shrink" },
};
static int cmp(const void *a, const void *b) { uint64_t x = *(uint64_t *)a, y = *(uint64_t *)b; return x < y ? -1 : x > y; }

int main(int argc, char **argv)
{
	int o;
	while ((o = getopt(argc, argv, "r:s:d:t:l")) != -1) switch (o) {
		case 'r': rounds = atoi(optarg); break;
		case 's': scale = atol(optarg); break;
		case 'd': dir = optarg; break;
		case 't': truepath = optarg; break;
		case 'l': for (size_t i = 0; i < sizeof T / sizeof *T; i++) printf("%s %ld %s\n", T[i].name, T[i].n, T[i].what); return 0;
		default: return 2;
	}
	if (rounds < 1) rounds = 1;
	if (rounds > 64) rounds = 64;
	setvbuf(stdout, 0, _IOLBF, 0);
	uint64_t boot = tsc();
	pin(0);
	snprintf(fpath, sizeof fpath, "%s/ub.file", dir);
	int fd = open(fpath, O_CREAT | O_TRUNC | O_RDWR, 0600);
	if (fd < 0) die(fpath);
	memset(buf, 'x', sizeof buf);
	for (long i = 0; i < FILESZ; i += sizeof buf) xwrite(fd, buf, sizeof buf);
	close(fd);
	if ((filefd = open(fpath, O_RDONLY)) < 0) die(fpath);
	printf("UBHDR tsc_at_start=%llu rounds=%d scale=%ld\n", (unsigned long long)boot, rounds, scale);
	for (size_t i = 0; i < sizeof T / sizeof *T; i++) {
		int want = optind >= argc;
		for (int k = optind; k < argc; k++) want |= !strcmp(argv[k], T[i].name);
		if (!want) continue;
		long n = T[i].n / scale; if (n < 16) n = 16;
		uint64_t ns[64], tk[64];
		T[i].fn(n < 64 ? n : n / 8 < 16 ? 16 : n / 8);	/* warm up */
		for (int r = 0; r < rounds; r++) {
			T[i].fn(n);
			ns[r] = cur.ns * 1000 / n; tk[r] = cur.tk * 1000 / n;
		}
		qsort(ns, rounds, sizeof *ns, cmp); qsort(tk, rounds, sizeof *tk, cmp);
		printf("UB %-10s n=%ld ns_min=%llu.%03llu ns_med=%llu.%03llu tsc_min=%llu.%03llu tsc_med=%llu.%03llu\n", T[i].name, n,
			(unsigned long long)ns[0] / 1000, (unsigned long long)ns[0] % 1000, (unsigned long long)ns[rounds / 2] / 1000, (unsigned long long)ns[rounds / 2] % 1000,
			(unsigned long long)tk[0] / 1000, (unsigned long long)tk[0] % 1000, (unsigned long long)tk[rounds / 2] / 1000, (unsigned long long)tk[rounds / 2] % 1000);
	}
	unlink(fpath);
	printf("UBEND\n");
	return 0;
}
