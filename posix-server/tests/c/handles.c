/* Files by handles, and what statx tells beyond stat. */
#include "case.h"

#include <sys/mount.h>
#include <sched.h>

struct handle {
    unsigned bytes;
    int type;
    unsigned char data[128];
};

ROOT_TEST(a_file_is_opened_by_its_handle) {
    SET_UP(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    SET_UP(mkdir("m", 0755) == 0 && mount("none", "m", "tmpfs", 0, NULL) == 0 && mkdir("m/d", 0755) == 0);
    make_text("m/d/f", "by handle");
    struct handle handle = {0};
    int mount_id = -1, m = open("m", O_RDONLY);
    CALL(RAW(SYS_name_to_handle_at, AT_FDCWD, "m/d/f", &handle, &mount_id, 0));
    say("bytes %u", handle.bytes);
    CALL(RAW(SYS_name_to_handle_at, AT_FDCWD, "m/d/f", &handle, &mount_id, 0));
    say("bytes %u, type %d", handle.bytes, handle.type);
    int fd = (int)RAW(SYS_open_by_handle_at, m, &handle, O_RDONLY);
    SET_UP(fd >= 0);
    char text[16] = "";
    CALL(read(fd, text, sizeof text));
    show_bytes("text", text, strlen(text));
    SET_UP(close(fd) == 0);
    SET_UP(rename("m/d/f", "m/g") == 0);
    CALL_OK(RAW(SYS_open_by_handle_at, m, &handle, O_RDONLY));
    CALL(RAW(SYS_open_by_handle_at, -1, &handle, O_RDONLY));
    struct handle wrong = handle;
    wrong.bytes = 0;
    CALL(RAW(SYS_open_by_handle_at, m, &wrong, O_RDONLY));
    wrong.bytes = 129;
    CALL(RAW(SYS_open_by_handle_at, m, &wrong, O_RDONLY));
    CALL(RAW(SYS_name_to_handle_at, AT_FDCWD, "m/g", &wrong, &mount_id, 0));
    CALL(RAW(SYS_open_by_handle_at, m, BAD_ADDRESS, O_RDONLY));
    wrong = handle;
    wrong.data[4] ^= 0x5a;
    CALL(RAW(SYS_open_by_handle_at, m, &wrong, O_RDONLY));
    CALL(RAW(SYS_name_to_handle_at, AT_FDCWD, "m/absent", &handle, &mount_id, 0));
    CALL(RAW(SYS_name_to_handle_at, AT_FDCWD, "m/g", &handle, &mount_id, 1 << 20));
    CALL(RAW(SYS_name_to_handle_at, AT_FDCWD, "m/g", BAD_ADDRESS, &mount_id, 0));
    CALL(RAW(SYS_name_to_handle_at, m, "", &handle, &mount_id, AT_EMPTY_PATH));
    CALL_OK(RAW(SYS_open_by_handle_at, m, &handle, O_RDONLY | O_DIRECTORY));
    drop_to(NOBODY, NOBODY);
    CALL(RAW(SYS_open_by_handle_at, m, &handle, O_RDONLY));
}

/* The first words of struct statx. */
struct statx_head {
    uint32_t mask, blksize;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, spare;
    uint64_t ino, size, blocks, attributes_mask;
    uint64_t rest[24];
};

ROOT_TEST(statx_tells_what_is_a_root_and_when_it_was_born) {
    SET_UP(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    SET_UP(mkdir("m", 0755) == 0 && mount("none", "m", "tmpfs", 0, NULL) == 0);
    make_text("m/f", "text");
    struct statx_head x;
    SET_UP(RAW(SYS_statx, AT_FDCWD, "m", 0, 0xfff, &x) == 0);
    HOLDS((x.attributes & 0x2000) != 0 && (x.attributes_mask & 0x2000) != 0);
    SET_UP(RAW(SYS_statx, AT_FDCWD, "m/f", 0, 0xfff, &x) == 0);
    HOLDS((x.attributes & 0x2000) == 0);
    HOLDS((x.mask & 0x7ff) == 0x7ff);
    say("mode %o, links %u, size %lu", x.mode, x.nlink, (unsigned long)x.size);
    CALL(RAW(SYS_statx, AT_FDCWD, "m/f", 0, 0x80000000, &x));
    CALL(RAW(SYS_statx, AT_FDCWD, "m/f", 0x6000, 0xfff, &x));
    CALL(RAW(SYS_statx, AT_FDCWD, "m/f", 1 << 20, 0xfff, &x));
    CALL(RAW(SYS_statx, AT_FDCWD, "m/f", 0, 0xfff, BAD_ADDRESS));
    CALL(RAW(SYS_statx, AT_FDCWD, "", 0, 0xfff, &x));
    CALL(RAW(SYS_statx, AT_FDCWD, "", AT_EMPTY_PATH, 0xfff, &x));
}
