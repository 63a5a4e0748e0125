/* Open files: open's flags, reading, writing and seeking, also at absurd offsets and with bad memory. */
#include "case.h"

#include <sys/resource.h>
#include <sys/uio.h>

#define EXABYTE (1L << 60)

static int open_new(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
    SET_UP(fd >= 0);
    return fd;
}

static char *two_pages_with_a_hole_behind(void) {
    char *area = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SET_UP(area != MAP_FAILED && munmap(area + 2 * PAGE, PAGE) == 0);
    memset(area, 'm', 2 * PAGE);
    return area;
}

TEST(open_takes_the_lowest_free_descriptor) {
    CALL(open("/dev/null", O_RDONLY));
    CALL(open("/dev/null", O_RDONLY));
    CALL(open("/dev/null", O_RDONLY));
    CALL(close(4));
    CALL(open("/dev/null", O_RDONLY));
    CALL(close(0));
    CALL(open("/dev/null", O_RDONLY));
}

TEST(open_creates_only_when_asked) {
    CALL(open("file", O_RDWR));
    CALL_OK(open("file", O_RDWR | O_CREAT, 0640));
    CALL_OK(open("file", O_RDWR | O_CREAT, 0600));
    CALL(open("file", O_RDWR | O_CREAT | O_EXCL, 0600));
    struct stat status;
    SET_UP(stat("file", &status) == 0);
    say("mode %o", status.st_mode);
    SET_UP(symlink("nowhere", "dangling") == 0);
    CALL(open("dangling", O_RDONLY));
    CALL(open("dangling", O_RDWR | O_CREAT | O_EXCL, 0600));
    CALL_OK(open("dangling", O_RDWR | O_CREAT, 0600));
    CALL(access("nowhere", F_OK));
}

TEST(open_truncates_only_when_asked) {
    make_text("file", "content");
    SET_UP(open("file", O_RDWR) >= 0);
    say("size %ld", file_size("file"));
    SET_UP(open("file", O_WRONLY | O_TRUNC) >= 0);
    say("size %ld", file_size("file"));
}

TEST(open_of_directories) {
    SET_UP(mkdir("directory", 0755) == 0);
    make_text("file", "x");
    SET_UP(symlink("directory", "link") == 0);
    CALL_OK(open("directory", O_RDONLY));
    CALL_OK(open("directory", O_RDONLY | O_DIRECTORY));
    CALL(open("directory", O_WRONLY));
    CALL(open("directory", O_RDWR));
    CALL(open("directory", O_RDONLY | O_CREAT, 0644));
    CALL(open("directory/", O_RDWR | O_CREAT, 0644));
    CALL(open("new/", O_RDWR | O_CREAT, 0644));
    CALL(open("file", O_RDONLY | O_DIRECTORY));
    CALL(open("file/", O_RDONLY));
    CALL_OK(open("link/", O_RDONLY));
    CALL(open("link", O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    CALL(open("", O_RDONLY));
}

TEST(open_nofollow_refuses_only_a_link_at_the_end) {
    SET_UP(mkdir("directory", 0755) == 0);
    make_text("directory/file", "x");
    SET_UP(symlink("directory", "link") == 0 && symlink("directory/file", "file") == 0);
    CALL(open("file", O_RDONLY | O_NOFOLLOW));
    CALL_OK(open("link/file", O_RDONLY | O_NOFOLLOW));
    CALL_OK(open("directory/file", O_RDONLY | O_NOFOLLOW));
}

TEST(open_path_gives_a_descriptor_only_for_names) {
    make_text("file", "x");
    int fd = open("file", O_PATH);
    SET_UP(fd >= 0);
    char byte;
    struct stat status;
    CALL(read(fd, &byte, 1));
    CALL(write(fd, &byte, 1));
    CALL(fstat(fd, &status));
    CALL(RAW(SYS_fchmod, fd, 0600));
    CALL(close(fd));
}

TEST(the_access_mode_is_kept) {
    make_text("file", "content");
    char byte = 'x';
    int reader = open("file", O_RDONLY), writer = open("file", O_WRONLY);
    SET_UP(reader >= 0 && writer >= 0);
    CALL(write(reader, &byte, 1));
    CALL(read(writer, &byte, 1));
    CALL(ftruncate(reader, 0));
    CALL(pread(writer, &byte, 1, 0));
    CALL(pwrite(reader, &byte, 1, 0));
    say("size %ld", file_size("file"));
}

TEST(reading_ends_at_the_end) {
    make_text("file", "0123456789");
    int fd = open("file", O_RDONLY);
    SET_UP(fd >= 0);
    char text[16] = {0};
    CALL(read(fd, text, 4));
    CALL(read(fd, text, 16));
    show_bytes("read", text, 6);
    CALL(read(fd, text, 16));
    CALL(read(fd, text, 0));
    CALL(pread(fd, text, 16, 8));
    CALL(pread(fd, text, 16, 10));
    CALL(pread(fd, text, 16, EXABYTE));
    CALL(pread(fd, text, 16, -1));
    CALL(pread(fd, text, 16, LONG_MIN));
    CALL(lseek(fd, 0, SEEK_CUR));
}

TEST(writing_beyond_the_end_leaves_zeroes) {
    int fd = open_new("file");
    CALL(pwrite(fd, "end", 3, 10000));
    say("size %ld", file_size("file"));
    char byte = 'x';
    SET_UP(pread(fd, &byte, 1, 5000) == 1);
    say("hole %d", byte);
    CALL(lseek(fd, 20000, SEEK_SET));
    CALL(write(fd, "more", 4));
    say("size %ld", file_size("file"));
    CALL(lseek(fd, 0, SEEK_CUR));
}

TEST(writing_at_absurd_offsets) {
    int fd = open_new("file");
    CALL(pwrite(fd, "x", 1, -1));
    CALL(pwrite(fd, "x", 1, LONG_MAX));
    /* Where positions end depends on the file system. */
    HOLDS(lseek(fd, LONG_MAX, SEEK_SET) == LONG_MAX || errno == EINVAL);
    CALL(pwrite(fd, "x", 0, 100));
    say("size %ld", file_size("file"));
}

TEST(lseek_moves_within_its_rules) {
    make_text("file", "0123456789");
    int fd = open("file", O_RDONLY);
    SET_UP(fd >= 0);
    CALL(lseek(fd, 3, SEEK_SET));
    CALL(lseek(fd, 3, SEEK_CUR));
    CALL(lseek(fd, -7, SEEK_CUR));
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(lseek(fd, -3, SEEK_END));
    CALL(lseek(fd, 5, SEEK_END));
    CALL(lseek(fd, -11, SEEK_END));
    CALL(lseek(fd, -1, SEEK_SET));
    CALL(lseek(fd, 0, 99));
    CALL(lseek(fd, 0, -1));
    CALL(lseek(fd, LONG_MAX, SEEK_CUR));
    CALL(lseek(fd, LONG_MAX, SEEK_END));
    CALL(lseek(fd, 0, SEEK_CUR));
}

TEST(lseek_finds_data_and_the_hole_at_the_end) {
    make_text("file", "0123456789");
    int fd = open("file", O_RDONLY);
    SET_UP(fd >= 0);
    CALL(lseek(fd, 0, SEEK_DATA));
    CALL(lseek(fd, 4, SEEK_DATA));
    CALL(lseek(fd, 4, SEEK_HOLE));
    CALL(lseek(fd, 10, SEEK_DATA));
    CALL(lseek(fd, 10, SEEK_HOLE));
    CALL(lseek(fd, -1, SEEK_DATA));
}

TEST(lseek_on_what_has_no_position) {
    int ends[2];
    SET_UP(pipe(ends) == 0);
    CALL(lseek(ends[0], 0, SEEK_SET));
    CALL(pread(ends[0], ends, 1, 0));
    CALL(pwrite(ends[1], ends, 1, 0));
    int null = open("/dev/null", O_RDWR);
    CALL(lseek(null, 100, SEEK_SET));
}

TEST(append_writes_at_the_end_whatever_the_position) {
    make_text("file", "start");
    int fd = open("file", O_RDWR | O_APPEND), other = open("file", O_WRONLY | O_APPEND);
    SET_UP(fd >= 0 && other >= 0);
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(write(fd, "-one", 4));
    CALL(write(other, "-two", 4));
    SET_UP(lseek(fd, 0, SEEK_SET) == 0);
    CALL(write(fd, "-three", 6));
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(pwrite(fd, "-four", 5, 0));
    show_file("file");
}

TEST(vectors_are_read_and_written_in_order) {
    int fd = open_new("file");
    struct iovec out[] = {{"one ", 4}, {NULL, 0}, {"two ", 4}, {"three", 5}};
    CALL(writev(fd, out, 4));
    char a[3], b[20];
    struct iovec in[] = {{a, sizeof a}, {b, sizeof b}};
    CALL(preadv(fd, in, 2, 0));
    show_bytes("first", a, 3);
    show_bytes("second", b, 10);
    CALL(pwritev(fd, out, 1, 13));
    show_file("file");
    CALL(readv(fd, in, 0));
    CALL(readv(fd, in, -1));
    CALL(readv(fd, in, 1025));
    CALL(writev(fd, out, 1024 * 1024));
    CALL(readv(fd, BAD_ADDRESS, 1));
    struct iovec bad[] = {{a, 1}, {b, SIZE_MAX}};
    CALL(readv(fd, bad, 2));
    CALL(writev(fd, bad, 2));
    struct iovec nowhere[] = {{a, 1}, {BAD_ADDRESS, 1}};
    CALL(pwritev(fd, nowhere, 2, 0));
    CALL(preadv(fd, nowhere, 2, 0));
}

TEST(reads_and_writes_of_bad_memory_are_efault_or_short) {
    make_text("file", "0123456789");
    int fd = open("file", O_RDWR);
    SET_UP(fd >= 0);
    char *area = two_pages_with_a_hole_behind();
    CALL(read(fd, BAD_ADDRESS, 5));
    CALL(read(fd, NULL, 5));
    CALL(write(fd, BAD_ADDRESS, 5));
    CALL(write(fd, NULL_PAGE_ADDRESS, 5));
    CALL(read(fd, BAD_ADDRESS, 0));
    CALL(write(fd, BAD_ADDRESS, 0));
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(read(fd, area + 2 * PAGE, 5));
    CALL(lseek(fd, 0, SEEK_CUR));
    CALL(read(fd, area + 2 * PAGE - 4, 10));
    show_bytes("read", area + 2 * PAGE - 4, 4);
    CALL(read(fd, (void *)-1, 5));
    CALL(read(fd, (void *)(LONG_MAX - 2), 5));
}

TEST(a_partly_bad_write_writes_whole_pages_or_less) {
    int fd = open_new("file");
    char *area = two_pages_with_a_hole_behind();
    ssize_t written = write(fd, area, 3 * PAGE);
    HOLDS(written > 0 && written <= 2 * (ssize_t)PAGE);
    HOLDS(file_size("file") == written);
    HOLDS(lseek(fd, 0, SEEK_CUR) == written);
}

TEST(sizes_beyond_everything) {
    make_text("file", "0123456789");
    int fd = open("file", O_RDWR);
    SET_UP(fd >= 0);
    char text[16];
    CALL(RAW(SYS_read, fd, text, SIZE_MAX));
    CALL(RAW(SYS_read, fd, text, (size_t)SSIZE_MAX + 1));
    CALL(RAW(SYS_pread64, fd, text, -2L, 0L));
    CALL(RAW(SYS_write, fd, text, SIZE_MAX));
    CALL(RAW(SYS_pwrite64, fd, text, SIZE_MAX, 0L));
    int null = open("/dev/null", O_WRONLY);
    CALL(RAW(SYS_write, null, text, SIZE_MAX));
}

TEST(truncate_cuts_and_grows) {
    make_text("file", "0123456789");
    CALL(truncate("file", 4));
    show_file("file");
    CALL(truncate("file", 8));
    show_file("file");
    CALL(truncate("file", -1));
    CALL(truncate("nowhere", 0));
    CALL(truncate("file/x", 0));
    SET_UP(mkdir("directory", 0755) == 0);
    CALL(truncate("directory", 0));
    CALL(truncate("", 0));
    int fd = open("file", O_RDWR), ends[2];
    SET_UP(fd >= 0 && pipe(ends) == 0);
    CALL(ftruncate(fd, 2));
    CALL(ftruncate(fd, -1));
    CALL(ftruncate(fd, LONG_MIN));
    CALL(ftruncate(ends[1], 0));
    CALL(ftruncate(99, 0));
    show_file("file");
    say("size %ld", file_size("file"));
}

TEST(truncate_zeroes_what_it_cuts_inside_a_page) {
    int fd = open_new("file");
    char page[PAGE];
    memset(page, 'x', sizeof page);
    SET_UP(write(fd, page, sizeof page) == sizeof page);
    SET_UP(ftruncate(fd, 100) == 0 && ftruncate(fd, PAGE) == 0);
    SET_UP(pread(fd, page, sizeof page, 0) == sizeof page);
    long sum = 0;
    for (size_t i = 100; i < PAGE; i++)
        sum += page[i];
    say("sum behind the cut %ld", sum);
}

TEST(an_unlinked_file_lives_as_long_as_it_is_open) {
    make_text("file", "content");
    int fd = open("file", O_RDWR);
    SET_UP(fd >= 0 && unlink("file") == 0);
    struct stat status;
    SET_UP(fstat(fd, &status) == 0);
    say("links %ld, size %ld", (long)status.st_nlink, (long)status.st_size);
    char text[8] = {0};
    CALL(read(fd, text, 7));
    show_bytes("read", text, 7);
    CALL(write(fd, "more", 4));
    make_text("file", "another");
    CALL(pread(fd, text, 7, 4));
    show_bytes("read", text, 7);
}

TEST(two_opens_have_two_positions_and_a_dup_shares_one) {
    make_text("file", "abcdefgh");
    int one = open("file", O_RDONLY), two = open("file", O_RDONLY), shared = dup(one);
    SET_UP(one >= 0 && two >= 0 && shared >= 0);
    char text[4] = {0};
    SET_UP(read(one, text, 3) == 3);
    CALL(lseek(one, 0, SEEK_CUR));
    CALL(lseek(two, 0, SEEK_CUR));
    CALL(lseek(shared, 0, SEEK_CUR));
}

TEST(a_big_file_reads_back_as_written) {
    enum { BYTES = 3000000, CHUNK = 77777 };
    unsigned char *chunk = malloc(CHUNK);
    SET_UP(chunk != NULL);
    int fd = open_new("file");
    unsigned int value = 1;
    for (size_t at = 0; at < BYTES;) {
        size_t length = BYTES - at < CHUNK ? BYTES - at : CHUNK;
        for (size_t i = 0; i < length; i++) {
            value = value * 1103515245 + 12345;
            chunk[i] = (unsigned char)(value >> 16);
        }
        SET_UP(write(fd, chunk, length) == (ssize_t)length);
        at += length;
    }
    SET_UP(lseek(fd, 0, SEEK_SET) == 0);
    value = 1;
    long wrong = 0, total = 0;
    ssize_t got;
    while ((got = read(fd, chunk, CHUNK - 1000)) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            value = value * 1103515245 + 12345;
            wrong += chunk[i] != (unsigned char)(value >> 16);
        }
        total += got;
    }
    say("%ld bytes, %ld wrong", total, wrong);
}

TEST(sync_calls_take_files_and_refuse_pipes) {
    int fd = open_new("file"), ends[2];
    SET_UP(pipe(ends) == 0);
    CALL(fsync(fd));
    CALL(fdatasync(fd));
    CALL(fsync(ends[0]));
    CALL(fsync(99));
}

static void limit_file_size(rlim_t bytes) {
    struct rlimit limit;
    SET_UP(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = bytes;
    SET_UP(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

TEST(the_file_size_limit_is_a_short_write_then_efbig_or_a_signal) {
    int fd = open_new("file");
    signal(SIGXFSZ, SIG_IGN);
    /* The output of the case is a file, too: nothing is printed under the limit. */
    limit_file_size(10);
    ssize_t first = write(fd, "0123456789abcdef", 16), second = write(fd, "x", 1);
    int write_errno = errno, grown = ftruncate(fd, 11), truncate_errno = errno;
    limit_file_size(RLIM_INFINITY);
    say("writes %zd and %zd %s", first, second, errno_name(write_errno));
    say("truncation %d %s", grown, errno_name(truncate_errno));
    pid_t child = fork_child();
    if (child == 0) {
        signal(SIGXFSZ, SIG_DFL);
        limit_file_size(10);
        _exit(write(fd, "x", 1) == 1 ? 0 : 1);
    }
    show_end("writer with the default action", child);
    show_file("file");
}

TEST(fallocate_grows_a_file) {
    int fd = open_new("file");
    CALL(posix_fallocate(fd, 0, 5000));
    say("size %ld", file_size("file"));
    CALL(fallocate(fd, 0, 0, 0));
    CALL(fallocate(fd, 0, -1, 10));
    CALL(fallocate(99, 0, 0, 10));
}

TEST(sendfile_and_copying_between_descriptors) {
    make_text("from", "0123456789");
    int from = open("from", O_RDONLY), to = open_new("to"), ends[2];
    SET_UP(from >= 0 && pipe(ends) == 0);
    long offset = 2;
    CALL(RAW(SYS_sendfile, to, from, &offset, 5L));
    say("offset %ld, position %ld", offset, (long)lseek(from, 0, SEEK_CUR));
    CALL(RAW(SYS_sendfile, ends[1], from, NULL, 100L));
    say("position %ld", (long)lseek(from, 0, SEEK_CUR));
    show_file("to");
}
