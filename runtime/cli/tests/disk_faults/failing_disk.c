/* Put before libc in the workers: reads of stored blocks fail as the files in $LIME_TEST_DISK say.
 *
 *   broken        every read fails with EIO
 *   error-0...    each is taken away by one read, which fails with EIO
 *   short-0...    each is taken away by one read, which gives half of the bytes
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef ssize_t reading(int, void *, size_t, off64_t);

static int of_a_block(int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, "/blocks/") != NULL && strstr(path, ".safetensors") != NULL;
}

static int taken(const char *folder, const char *kind) {
    for (int number = 0; number < 64; number++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s-%d", folder, kind, number);
        if (unlink(path) == 0) return 1;
    }
    return 0;
}

ssize_t pread64(int file, void *into, size_t bytes, off64_t at) {
    static reading *real;
    if (real == NULL) real = (reading *)dlsym(RTLD_NEXT, "pread64");
    const char *folder = getenv("LIME_TEST_DISK");
    if (folder != NULL && of_a_block(file)) {
        char broken[PATH_MAX];
        snprintf(broken, sizeof broken, "%s/broken", folder);
        if (access(broken, F_OK) == 0 || taken(folder, "error")) {
            errno = EIO;
            return -1;
        }
        if (taken(folder, "short")) bytes /= 2;
    }
    return real(file, into, bytes, at);
}
