/*
 * /dev/hwrng gives what the machine's source of randomness gives. Only here, because the other machine may have none. What is expected is what
 * Linux 6.18 does where there is one (drivers/char/hw_random/core.c).
 */
#include "../case.h"

#include <sys/sysmacros.h>

static void expect(const char *what, int holds) {
    if (!holds) {
        say("%s: no (errno %d)", what, errno);
        exit(1);
    }
}

#define EXPECT(condition) expect(#condition, condition)

TEST(it_is_a_device_that_the_superuser_reads) {
    struct stat status;
    EXPECT(stat("/dev/hwrng", &status) == 0 && S_ISCHR(status.st_mode) && (status.st_mode & 07777) == 0600);
    EXPECT(status.st_rdev == makedev(10, 183));
    EXPECT(open("/dev/hwrng", O_RDWR) < 0 && errno == EINVAL);
    EXPECT(open("/dev/hwrng", O_WRONLY) < 0 && errno == EINVAL);
}

/* How many different values the bytes have. */
static int values(const unsigned char *bytes, size_t length) {
    int seen[256] = {0}, count = 0;
    for (size_t at = 0; at < length; at++)
        count += !seen[bytes[at]]++;
    return count;
}

TEST(reads_wait_until_all_of_them_is_there) {
    static unsigned char first[4096], second[4096];
    int fd = open("/dev/hwrng", O_RDONLY);
    EXPECT(fd >= 0);
    EXPECT(read(fd, first, 1) == 1);
    EXPECT(read(fd, first, sizeof first) == sizeof first);
    EXPECT(read(fd, second, sizeof second) == sizeof second);
    EXPECT(memcmp(first, second, sizeof first) != 0);
    EXPECT(values(first, sizeof first) > 200 && values(second, sizeof second) > 200);
    EXPECT(read(fd, first, 0) == 0);
    EXPECT(read(fd, BAD_ADDRESS, 16) == -1 && errno == EFAULT);
}

TEST(who_does_not_wait_comes_again) {
    unsigned char bytes[64];
    int fd = open("/dev/hwrng", O_RDONLY | O_NONBLOCK);
    EXPECT(fd >= 0);
    ssize_t count;
    while ((count = read(fd, bytes, sizeof bytes)) < 0) {
        EXPECT(errno == EAGAIN);
        usleep(1000);
    }
    EXPECT(count == sizeof bytes);
}
