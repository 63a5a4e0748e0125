/*
 * What mounts and files of a disk do, where it can be seen only on a disk. Runs on Linux and on Quire, and prints the same:
 *
 *     mounts FILE_SYSTEM NOTHING BAD_SUPERBLOCK DIRECTORY
 *
 * The first three are block devices: with an ext4 file system, with zeros, and with a file system whose superblock's checksum is wrong.
 * Every line of the answer begins with `| `, as others may write to the same console.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEEP_SIZE 1
#define PUNCH_HOLE 2
#define ZERO_RANGE 16
#define BLOCK 4096

static const char *device, *place;
static char block[BLOCK];

static void say(const char *what, long result) {
    if (result < 0)
        printf("| %s: %s\n", what, strerror(errno));
    else
        printf("| %s: %ld\n", what, result);
    fflush(stdout);
}

static void sizes(const char *what, int file) {
    struct stat found;
    fsync(file);
    fstat(file, &found);
    printf("| %s: %ld bytes, %ld blocks\n", what, (long)found.st_size, (long)found.st_blocks);
    fflush(stdout);
}

static int made(const char *name) { return open(name, O_RDWR | O_CREAT | O_TRUNC, 0644); }

static void holes(const char *what, int file) {
    off_t at = 0;
    printf("| %s:", what);
    for (int step = 0; step < 10; step++) {
        off_t next = lseek(file, at, step % 2 ? SEEK_HOLE : SEEK_DATA);
        if (next < 0) {
            printf(" %s", strerror(errno));
            break;
        }
        printf(" %ld", (long)next);
        at = next;
    }
    printf("\n");
    fflush(stdout);
}

static void places(void) {
    int file = made("sparse");
    pwrite(file, block, BLOCK, 0);
    pwrite(file, block, BLOCK, 256 * BLOCK);
    holes("not synced", file);
    sizes("sparse", file);
    holes("synced", file);
    say("made longer", ftruncate(file, 300 * BLOCK));
    holes("longer", file);
    say("data behind all data", lseek(file, 257 * BLOCK, SEEK_DATA));
    say("a hole behind the end", lseek(file, 300 * BLOCK, SEEK_HOLE));
    say("punch", fallocate(file, PUNCH_HOLE | KEEP_SIZE, 256 * BLOCK, BLOCK));
    sizes("punched", file);
    holes("punched", file);
    close(file);
}

static void set_aside(void) {
    int file = made("set aside");
    say("beyond the end", fallocate(file, KEEP_SIZE, 0, 64 * BLOCK));
    sizes("set aside", file);
    holes("set aside", file);
    pwrite(file, block, 100, 0);
    sizes("a little written", file);
    pwrite(file, block, 100, 100);
    sizes("more written", file);
    say("the same size", ftruncate(file, 200));
    sizes("the same size", file);
    say("with a size", fallocate(file, 0, 0, 16 * BLOCK));
    sizes("with a size", file);
    pwrite(file, block, BLOCK, 2 * BLOCK);
    holes("in the midst", file);
    say("zeros", fallocate(file, ZERO_RANGE, 0, 8 * BLOCK));
    sizes("zeros", file);
    char found[100];
    say("read", pread(file, found, sizeof found, 2 * BLOCK));
    printf("| zero: %d\n", found[0]);
    close(file);
}

static long again(unsigned long flags) { return mount(device, place, "ext4", MS_REMOUNT | flags, ""); }

static void remounts(void) {
    int writer = made("kept");
    pwrite(writer, block, 10, 0);
    say("read-only with a writer", again(MS_RDONLY));
    close(writer);
    writer = made("nameless");
    int reader = open("nameless", O_RDONLY);
    close(writer);
    unlink("nameless");
    say("read-only with a file without names", again(MS_RDONLY));
    close(reader);
    say("read-only", again(MS_RDONLY));
    say("make a file", made("not made"));
    say("remove one", unlink("kept"));
    reader = open("kept", O_RDONLY);
    say("read", read(reader, block, 10));
    close(reader);
    say("writable", again(0));
    say("remove one", unlink("kept"));
    writer = made("made");
    say("write", write(writer, block, 10));
    say("sync", fsync(writer));
    close(writer);
}

static void unmounts(void) {
    say("busy", umount(place));
    chdir("/");
    int file = open(place, O_RDONLY | O_DIRECTORY);
    say("still busy", umount(place));
    say("twice at the same place", mount(device, place, "ext4", 0, ""));
    say("lazily", umount2(place, MNT_DETACH));
    say("looked at", faccessat(file, "made", F_OK, 0));
    close(file);
    say("read-only", mount(device, place, "ext4", MS_RDONLY, ""));
    chdir(place);
    say("make a file", made("not made"));
    say("look at one", access("made", R_OK));
    chdir("/");
    say("unmounted", umount(place));
    say("not mounted", umount(place));
    say("an option that nobody knows", mount(device, place, "ext4", 0, "nonsense"));
    say("ext2 that is ext4", mount(device, place, "ext2", 0, ""));
    say("mounted", mount(device, place, "ext4", 0, "errors=remount-ro"));
    char second[] = "/tmp/second";
    mkdir(second, 0755);
    say("also elsewhere", mount(device, second, "ext4", 0, ""));
    chdir(second);
    close(made("by the second"));
    say("by the first", access(strcat(strcpy(block, place), "/by the second"), F_OK));
    memset(block, 'b', sizeof block);
    chdir("/");
    say("unmounted there", umount(second));
    chdir(place);
}

static void ends(void) {
    int listener = inotify_init1(IN_NONBLOCK);
    int file = made("watched");
    inotify_add_watch(listener, "watched", IN_DELETE_SELF);
    write(file, block, 100);
    unlink("watched");
    write(file, block, 100);
    struct inotify_event event;
    say("while it is open", read(listener, &event, sizeof event));
    close(file);
    say("when it is closed", read(listener, &event, sizeof event) == sizeof event && event.mask == IN_DELETE_SELF);
    close(listener);
}

static void fill(void) {
    int file = made("large"), small = made("small");
    long count;
    while ((count = write(file, block, BLOCK)) == BLOCK)
        ;
    say("no room", count);
    say("for another", write(small, block, 1));
    say("sync", fsync(file));
    close(file);
    say("remove", unlink("large"));
    sync();
    say("for another", write(small, block, 1));
    say("sync", fsync(small));
    close(small);
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    device = argv[1];
    place = argv[4];
    memset(block, 'b', sizeof block);
    mkdir(place, 0755);
    say("zeros", mount(argv[2], place, "ext4", 0, ""));
    say("a bad superblock", mount(argv[3], place, "ext4", 0, ""));
    say("no device", mount("/dev/null", place, "ext4", 0, ""));
    say("mount", mount(device, place, "ext4", 0, ""));
    chdir(place);
    places();
    set_aside();
    remounts();
    unmounts();
    ends();
    fill();
    chdir("/");
    say("unmount", umount(place));
    return 0;
}
