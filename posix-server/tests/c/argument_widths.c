/*
 * Arguments that are an `int` in the kernel: what is in the upper half of their registers does not count. A program that calls
 * through `syscall` leaves something there.
 */
#include "case.h"

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* A number with something in its upper half. */
#define WIDE(number) ((long)(uint32_t)(number) | 0x5a5a000100000000L)

static int file_with(const char *text) {
    int file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    SET_UP(file >= 0 && pwrite(file, text, strlen(text), 0) == (ssize_t)strlen(text));
    return file;
}

TEST(descriptors_and_flags_of_names) {
    SET_UP(mkdir("directory", 0755) == 0);
    close(file_with("text"));
    struct stat status;
    CALL(syscall(SYS_faccessat, WIDE(AT_FDCWD), "file", WIDE(R_OK)));
    CALL(syscall(SYS_newfstatat, WIDE(AT_FDCWD), "file", &status, WIDE(AT_SYMLINK_NOFOLLOW)));
    CALL(syscall(SYS_linkat, WIDE(AT_FDCWD), "file", WIDE(AT_FDCWD), "link", WIDE(0)));
    CALL(syscall(SYS_unlinkat, WIDE(AT_FDCWD), "link", WIDE(0)));
    CALL(syscall(SYS_unlinkat, WIDE(AT_FDCWD), "directory", WIDE(AT_REMOVEDIR)));
    CALL(syscall(SYS_renameat2, WIDE(AT_FDCWD), "file", WIDE(AT_FDCWD), "new", WIDE(1 /* RENAME_NOREPLACE */)));
    CALL(syscall(SYS_utimensat, WIDE(AT_FDCWD), "new", NULL, WIDE(0)));
    CALL(syscall(SYS_fchmodat, WIDE(AT_FDCWD), "new", WIDE(0600)));
}

TEST(flags_of_moves_between_files) {
    int from = file_with("0123456789"), to = open("to", O_RDWR | O_CREAT, 0644), ends[2];
    SET_UP(to >= 0 && pipe(ends) == 0);
    loff_t at = 2;
    CALL(syscall(SYS_copy_file_range, WIDE(from), &at, WIDE(to), NULL, 3, WIDE(0)));
    CALL(syscall(SYS_splice, WIDE(from), NULL, WIDE(ends[1]), NULL, 4, WIDE(SPLICE_F_MOVE)));
    int others[2];
    SET_UP(pipe(others) == 0);
    CALL(syscall(SYS_tee, WIDE(ends[0]), WIDE(others[1]), 4, WIDE(SPLICE_F_NONBLOCK)));
    struct iovec vector = {"text", 4};
    CALL(syscall(SYS_vmsplice, WIDE(ends[1]), &vector, 1, WIDE(SPLICE_F_NONBLOCK)));
    CALL(syscall(SYS_fadvise64, WIDE(from), 0, 0, WIDE(POSIX_FADV_NORMAL)));
    CALL(syscall(SYS_fallocate, WIDE(to), WIDE(FALLOC_FL_KEEP_SIZE), 0, 100));
    CALL(syscall(SYS_sync_file_range, WIDE(to), 0, 0, WIDE(0)));
}

TEST(counts_of_vectors) {
    int file = file_with("0123456789");
    char bytes[8];
    struct iovec vectors[2] = {{bytes, 3}, {bytes + 3, 4}};
    CALL(syscall(SYS_readv, WIDE(file), vectors, WIDE(2)));
    CALL(syscall(SYS_preadv, WIDE(file), vectors, WIDE(1), 5, 0));
    CALL(syscall(SYS_pwritev2, WIDE(file), vectors, WIDE(2), 5, 0, WIDE(0x10 /* RWF_APPEND */)));
    CALL(syscall(SYS_preadv2, WIDE(file), NULL, 0, 0, 0, -1L));
    CALL(syscall(SYS_writev, WIDE(file), vectors, -1L));
}

TEST(memory_and_the_rest) {
    char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(page != MAP_FAILED);
    CALL(syscall(SYS_msync, page, PAGE, WIDE(MS_ASYNC)));
    CALL(syscall(SYS_madvise, page, PAGE, WIDE(MADV_NORMAL)));
    CALL(syscall(SYS_getrandom, page, 8, WIDE(GRND_NONBLOCK)));
    int file = file_with("text");
    int copy = (int)syscall(SYS_fcntl, WIDE(file), WIDE(F_DUPFD), WIDE(20));
    CALL(copy);
    CALL(syscall(SYS_fcntl, WIDE(copy), WIDE(F_DUPFD_CLOEXEC), WIDE(30)));
}

/* Nothing can be named anywhere, and in any wise. */
TEST(ranges_without_length) {
    char *nowhere = (char *)0x5a5a000000000000;
    CALL(mprotect(nowhere, 0, PROT_READ));
    CALL(mprotect(nowhere, 0, 0x1000));
    CALL(mprotect(nowhere + 1, 0, PROT_READ));
    CALL(msync(nowhere, 0, MS_ASYNC));
    CALL(madvise(nowhere, 0, MADV_NORMAL));
    CALL(madvise(nowhere, 0, 0x1000));
    CALL(mprotect(nowhere, PAGE, PROT_READ));
}

/* More bytes than a call takes are a long buffer, not a wrong one. */
TEST(lengths_of_messages) {
    int ends[2];
    SET_UP(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    /* Far below the end of what a program can name. */
    char *byte = mmap((void *)0x100020000000, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    SET_UP(byte != MAP_FAILED);
    CALL(sendto(0, byte, WIDE(1), 0, NULL, 0));
    CALL(recvfrom(0, byte, WIDE(1), 0, NULL, NULL));
    CALL(syscall(SYS_sendto, WIDE(ends[0]), byte, 1, WIDE(MSG_DONTWAIT), NULL, WIDE(0)));
    CALL(syscall(SYS_recvfrom, WIDE(ends[1]), byte, WIDE(4096), WIDE(MSG_DONTWAIT), NULL, NULL));
}
