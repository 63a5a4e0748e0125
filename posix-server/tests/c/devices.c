/* The memory devices: null, zero, full, random and urandom. */
#include "case.h"

#include <sys/random.h>

static int open_device(const char *path) {
    int fd = open(path, O_RDWR);
    SET_UP(fd >= 0);
    return fd;
}

TEST(null_swallows_everything_and_is_empty) {
    int fd = open_device("/dev/null");
    char text[8];
    CALL(read(fd, text, sizeof text));
    CALL(write(fd, text, sizeof text));
    CALL(write(fd, NULL, 1000));
    CALL(read(fd, BAD_ADDRESS, 8));
    CALL(lseek(fd, 100, SEEK_SET));
    CALL(lseek(fd, 0, SEEK_END));
    CALL(ftruncate(fd, 0));
    CALL_OK(open("/dev/null", O_WRONLY | O_TRUNC | O_CREAT, 0644));
    CALL(fsync(fd));
}

TEST(zero_is_zero_without_end) {
    int fd = open_device("/dev/zero");
    char *bytes = malloc(100000);
    SET_UP(bytes != NULL);
    memset(bytes, 'x', 100000);
    CALL(read(fd, bytes, 100000));
    long sum = 0;
    for (int i = 0; i < 100000; i++)
        sum += bytes[i];
    say("sum %ld", sum);
    CALL(write(fd, bytes, 100000));
    CALL(pread(fd, bytes, 5, 1L << 40));
    CALL(read(fd, BAD_ADDRESS, 8));
}

TEST(full_is_never_written) {
    int fd = open_device("/dev/full");
    char text[4] = "xxxx";
    CALL(write(fd, text, 4));
    CALL(write(fd, text, 0));
    CALL(read(fd, text, 4));
    show_bytes("read", text, 4);
}

static void show_randomness(const char *what, const unsigned char *bytes, size_t length) {
    int different = 0;
    bool seen[256] = {false};
    for (size_t i = 0; i < length; i++) {
        different += !seen[bytes[i]];
        seen[bytes[i]] = true;
    }
    say("%s: %s", what, different > 150 ? "many different bytes" : "few different bytes");
}

TEST(random_devices_are_random) {
    unsigned char one[512], other[512];
    int random = open_device("/dev/random"), urandom = open_device("/dev/urandom");
    CALL(read(random, one, sizeof one));
    CALL(read(urandom, other, sizeof other));
    HOLDS(memcmp(one, other, sizeof one) != 0);
    show_randomness("random", one, sizeof one);
    show_randomness("urandom", other, sizeof other);
    CALL(read(urandom, BAD_ADDRESS, 8));
    CALL(write(urandom, one, 8));
    CALL(read(urandom, one, 0));
}

TEST(getrandom_fills_and_checks) {
    unsigned char one[512] = {0}, other[512] = {0};
    CALL(getrandom(one, sizeof one, 0));
    CALL(getrandom(other, sizeof other, GRND_NONBLOCK));
    HOLDS(memcmp(one, other, sizeof one) != 0);
    show_randomness("getrandom", one, sizeof one);
    CALL(getrandom(one, 16, GRND_RANDOM));
    CALL(getrandom(one, 0, 0));
    CALL(getrandom(one, 1, 0x80));
    CALL(getrandom(BAD_ADDRESS, 1, 0));
}

TEST(devices_have_their_numbers_and_modes) {
    const char *paths[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct stat status;
        SET_UP(stat(paths[i], &status) == 0);
        say("%s: mode %o, number %#lx", paths[i], status.st_mode, (unsigned long)status.st_rdev);
    }
}

TEST(devices_are_no_directories) {
    CALL(open("/dev/null/x", O_RDONLY));
    CALL(open("/dev/null", O_RDONLY | O_DIRECTORY));
    CALL(chdir("/dev/null"));
    CALL(open("/dev/nowhere", O_RDONLY));
    CALL(open("/dev", O_RDWR));
}
