/* Stands between the program and the disk, for tests: makes syncs, renames and truncations slow, or lets one of the syncs fail.
   VLC_DISK_US: microseconds before and after each; VLC_SYNC_FAILS: the number of the sync that fails, counted from 1. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static void pause_a_little(void) {
    const char *text = getenv("VLC_DISK_US");
    if (text) usleep((useconds_t)atol(text));
}

static int fails(void) {
    static atomic_long count;
    const char *text = getenv("VLC_SYNC_FAILS");
    return text && atomic_fetch_add(&count, 1) + 1 == atol(text);
}

#define SLOW(call)                      \
    pause_a_little();                   \
    int result = call;                  \
    int error = errno;                  \
    pause_a_little();                   \
    errno = error;                      \
    return result

static int sync_by(const char *name, int file) {
    if (fails()) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    SLOW(real(file));
}

int fsync(int file) { return sync_by("fsync", file); }
int fdatasync(int file) { return sync_by("fdatasync", file); }

int rename(const char *from, const char *to) {
    int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    SLOW(real(from, to));
}

int ftruncate64(int file, off64_t length) {
    int (*real)(int, off64_t) = (int (*)(int, off64_t))dlsym(RTLD_NEXT, "ftruncate64");
    SLOW(real(file, length));
}
