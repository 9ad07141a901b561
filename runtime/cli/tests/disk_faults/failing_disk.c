/* A disk that fails when it is told to, for the workers of a test: preloaded into `lime`, it stands before the system's reads of
 * the block files of a weight store. What it is to do stands in the file that LIME_TEST_DISK names, which the test writes and all
 * workers have mapped. Everything else is read as ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WELL, REFUSE, SHORT_BY_PAGES, SHORT_BY_BYTES, END_EARLY, BROKEN };

/* As `Disk` in disk.rs writes it. */
struct orders {
    _Atomic int32_t mode;
    /* So many reads more are disturbed; below zero: all. */
    _Atomic int32_t left;
    /* So many were. */
    _Atomic int32_t done;
    /* Part of the names of the files that are disturbed. */
    char match[44];
    /* BROKEN: the file that cannot be read, whatever its name. Another one of its name can. */
    uint64_t inode;
};

static struct orders *orders;
static ssize_t (*real_read)(int, void *, size_t);
static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_pread64)(int, void *, size_t, off64_t);
static ssize_t (*real_readv)(int, const struct iovec *, int);
static ssize_t (*real_preadv)(int, const struct iovec *, int, off_t);
static ssize_t (*real_preadv64)(int, const struct iovec *, int, off64_t);

static int is_worker(void) {
    char line[4096];
    int file = open("/proc/self/cmdline", O_RDONLY);
    ssize_t length = file < 0 ? 0 : real_read(file, line, sizeof line);
    if (file >= 0)
        close(file);
    for (ssize_t at = 0; at + 1 < length; at++)
        if (!line[at])
            return length - at > 7 && !memcmp(line + at + 1, "worker", 7);
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    real_read = dlsym(RTLD_NEXT, "read");
    real_pread = dlsym(RTLD_NEXT, "pread");
    real_pread64 = dlsym(RTLD_NEXT, "pread64");
    real_readv = dlsym(RTLD_NEXT, "readv");
    real_preadv = dlsym(RTLD_NEXT, "preadv");
    real_preadv64 = dlsym(RTLD_NEXT, "preadv64");
    const char *path = getenv("LIME_TEST_DISK");
    if (!path || !is_worker())
        return;
    int file = open(path, O_RDWR);
    void *map = file < 0 ? MAP_FAILED : mmap(0, sizeof(struct orders), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) {
        perror(path);
        abort();
    }
    close(file);
    orders = map;
}

/* What is to happen to a read of `file`; counts it. */
static int disturbed(int file) {
    int mode = orders ? atomic_load(&orders->mode) : WELL;
    if (mode == WELL)
        return WELL;
    char link[64], name[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length <= 0)
        return WELL;
    name[length] = 0;
    if (!strstr(name, "/blocks/") || !strstr(name, ".safetensors") || !strstr(name, orders->match))
        return WELL;
    if (mode == BROKEN) {
        struct stat is;
        if (fstat(file, &is) || is.st_ino != orders->inode)
            return WELL;
        mode = REFUSE;
    }
    int32_t left = atomic_load(&orders->left);
    do
        if (!left)
            return WELL;
    while (left > 0 && !atomic_compare_exchange_weak(&orders->left, &left, left - 1));
    atomic_fetch_add(&orders->done, 1);
    return mode;
}

/* How many of `wanted` bytes are read. */
static size_t cut(int mode, size_t wanted) {
    size_t half = wanted / 2;
    switch (mode) {
    case SHORT_BY_PAGES:
        return half < 4096 ? wanted : half / 4096 * 4096;
    case SHORT_BY_BYTES:
        return half ? half | 1 : wanted;
    case END_EARLY:
        return 0;
    default:
        return wanted;
    }
}

/* Memory and length stay what direct reads want: what is cut off has been read, and is not told of. */
#define SINGLE(name, parameters, arguments)                                                                                      \
    ssize_t name parameters {                                                                                                    \
        int mode = disturbed(file);                                                                                              \
        if (mode == REFUSE) {                                                                                                    \
            errno = EIO;                                                                                                         \
            return -1;                                                                                                           \
        }                                                                                                                        \
        ssize_t got = real_##name arguments;                                                                                     \
        size_t most = cut(mode, size);                                                                                           \
        if (mode == WELL || got < 0 || (size_t)got <= most)                                                                      \
            return got;                                                                                                          \
        memset((char *)into + most, 0xa5, (size_t)got - most);                                                                   \
        return (ssize_t)most;                                                                                                    \
    }

SINGLE(read, (int file, void *into, size_t size), (file, into, size))
SINGLE(pread, (int file, void *into, size_t size, off_t at), (file, into, size, at))
SINGLE(pread64, (int file, void *into, size_t size, off64_t at), (file, into, size, at))

/* Nobody reads blocks so today; who begins to is refused in every mode. */
#define VECTORED(name, parameters, arguments)                                                                                    \
    ssize_t name parameters {                                                                                                    \
        if (disturbed(file) != WELL) {                                                                                           \
            errno = EIO;                                                                                                         \
            return -1;                                                                                                           \
        }                                                                                                                        \
        return real_##name arguments;                                                                                            \
    }

VECTORED(readv, (int file, const struct iovec *parts, int count), (file, parts, count))
VECTORED(preadv, (int file, const struct iovec *parts, int count, off_t at), (file, parts, count, at))
VECTORED(preadv64, (int file, const struct iovec *parts, int count, off64_t at), (file, parts, count, at))
