/* A disk that can be looked at and that fails: put before libc by LD_PRELOAD.
 *
 * DISK_ROOT: what is under this path is the disk.
 * DISK_JOURNAL: every change to it is written to this file, in the order in which they happened: struct record, then its data.
 *   What goes to standard output is in there too: it says what had been acknowledged by then. A sync is not passed on: what it
 *   covers is told by the journal.
 * DISK_FAULT=call:nth:errno:times, such as sync:7:5:1: that call (write, sync, truncate or rename) fails from its nth on, so
 *   many times, counted from the first thing said on standard output. A write that fails has written half of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FILES 65536

struct record {
    uint8_t what, flag;
    uint16_t unused;
    int32_t file;
    int64_t at;
    uint64_t size;
} __attribute__((packed));

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char root[4096], fault_call[16];
static long root_size, fault_nth, fault_errno, fault_times, fault_seen;
static int journal = -1, armed;
static unsigned char on_disk[MOST_FILES], appends[MOST_FILES];

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, name)

__attribute__((constructor)) static void begin(void) {
    const char *given = getenv("DISK_ROOT"), *fault = getenv("DISK_FAULT"), *path = getenv("DISK_JOURNAL");
    if (!given) return;
    snprintf(root, sizeof root, "%s", given);
    root_size = strlen(root);
    if (fault && sscanf(fault, "%15[^:]:%ld:%ld:%ld", fault_call, &fault_nth, &fault_errno, &fault_times) != 4) abort();
    if (path) {
        int opened = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (opened < 0 || (journal = syscall(SYS_fcntl, opened, F_DUPFD_CLOEXEC, 1000)) < 0) abort();
        syscall(SYS_close, opened);
    }
}

static int ours(const char *path) {
    return root_size && strncmp(path, root, root_size) == 0 && (path[root_size] == '/' || !path[root_size]);
}

static int ours_fd(int file) { return file >= 0 && file < MOST_FILES && on_disk[file]; }

static void put(const void *data, size_t size) {
    while (size) {
        ssize_t done = syscall(SYS_write, journal, data, size);
        if (done <= 0) abort();
        data = (const char *)data + done, size -= done;
    }
}

static void note(char what, int flag, int file, int64_t at, const void *data, size_t size) {
    if (journal < 0) return;
    struct record made = {what, flag, 0, file, at, size};
    put(&made, sizeof made);
    put(data, size);
}

static void note_two(char what, const char *one, const char *two) {
    char both[8200];
    size_t size = snprintf(both, sizeof both, "%s%c%s", one, 0, two);
    note(what, 0, -1, 0, both, size);
}

/* Whether this call is one that fails. */
static int fails(const char *call) {
    if (!armed || strcmp(call, fault_call) || ++fault_seen < fault_nth || fault_seen >= fault_nth + fault_times) return 0;
    if (strcmp(call, "sync")) note('X', 0, -1, 0, "", 0);
    errno = fault_errno;
    return 1;
}

static int opened(const char *path, int flags, mode_t mode) {
    if (!ours(path)) return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    pthread_mutex_lock(&turn);
    int there = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
    int file = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    int error = errno;
    if (file >= 0 && file < MOST_FILES) {
        on_disk[file] = 1;
        appends[file] = (flags & O_APPEND) != 0;
        note('O', (there ? 0 : 1) | (flags & O_TRUNC ? 2 : 0), file, 0, path, strlen(path));
    }
    pthread_mutex_unlock(&turn);
    errno = error;
    return file;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return opened(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int close(int file) {
    REAL(int, "close", int);
    if (!ours_fd(file)) return real(file);
    pthread_mutex_lock(&turn);
    on_disk[file] = 0;
    note('C', 0, file, 0, "", 0);
    int done = real(file);
    pthread_mutex_unlock(&turn);
    return done;
}

static ssize_t written(int file, const void *data, size_t size, off_t at) {
    pthread_mutex_lock(&turn);
    int fault = fails("write");
    size_t most = fault ? size / 2 : size;
    int64_t begin = at;
    if (at < 0) begin = appends[file] ? lseek(file, 0, SEEK_END) : lseek(file, 0, SEEK_CUR);
    ssize_t done = at < 0 ? syscall(SYS_write, file, data, most) : syscall(SYS_pwrite64, file, data, most, at);
    int error = errno;
    if (done > 0) note('W', 0, file, begin, data, done);
    pthread_mutex_unlock(&turn);
    errno = fault ? fault_errno : error;
    return fault ? -1 : done;
}

ssize_t write(int file, const void *data, size_t size) {
    if (ours_fd(file)) return written(file, data, size, -1);
    if (file != 1) return syscall(SYS_write, file, data, size);
    pthread_mutex_lock(&turn);
    armed = 1;
    ssize_t done = syscall(SYS_write, file, data, size);
    if (done > 0) note('A', 0, file, 0, data, done);
    pthread_mutex_unlock(&turn);
    return done;
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    return ours_fd(file) ? written(file, data, size, at) : syscall(SYS_pwrite64, file, data, size, at);
}
ssize_t pwrite64(int file, const void *data, size_t size, off_t at) { return pwrite(file, data, size, at); }

ssize_t writev(int file, const struct iovec *parts, int count) {
    if (!ours_fd(file)) return syscall(SYS_writev, file, parts, count);
    ssize_t total = 0;
    for (int part = 0; part < count; part++) {
        ssize_t done = written(file, parts[part].iov_base, parts[part].iov_len, -1);
        if (done < 0) return total ? total : done;
        total += done;
        if ((size_t)done < parts[part].iov_len) break;
    }
    return total;
}

static int synced(int file, long call) {
    if (!ours_fd(file)) return syscall(call, file);
    pthread_mutex_lock(&turn);
    int fault = fails("sync");
    int done = fault ? -1 : journal < 0 ? syscall(call, file) : 0;
    int error = errno;
    note(fault ? 'F' : 'S', 0, file, 0, "", 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}
int fsync(int file) { return synced(file, SYS_fsync); }
int fdatasync(int file) { return synced(file, SYS_fdatasync); }

int ftruncate(int file, off_t size) {
    if (!ours_fd(file)) return syscall(SYS_ftruncate, file, size);
    pthread_mutex_lock(&turn);
    int done = fails("truncate") ? -1 : syscall(SYS_ftruncate, file, size);
    int error = errno;
    if (!done) note('T', 0, file, size, "", 0);
    pthread_mutex_unlock(&turn);
    errno = error;
    return done;
}
int ftruncate64(int file, off_t size) { return ftruncate(file, size); }

int posix_fallocate(int file, off_t at, off_t size) {
    if (!ours_fd(file)) return syscall(SYS_fallocate, file, 0, at, size) ? errno : 0;
    struct stat found;
    if (fstat(file, &found)) return errno;
    return found.st_size >= at + size || !ftruncate(file, at + size) ? 0 : errno;
}
int posix_fallocate64(int file, off_t at, off_t size) { return posix_fallocate(file, at, size); }

#define TWO_PATHS(name, number, letter, fault) \
    int name(const char *one, const char *two) { \
        if (!ours(one) && !ours(two)) return syscall(number, AT_FDCWD, one, AT_FDCWD, two, 0); \
        pthread_mutex_lock(&turn); \
        int done = fails(fault) ? -1 : syscall(number, AT_FDCWD, one, AT_FDCWD, two, 0); \
        int error = errno; \
        if (!done) note_two(letter, one, two); \
        pthread_mutex_unlock(&turn); \
        errno = error; \
        return done; \
    }
TWO_PATHS(rename, SYS_renameat2, 'R', "rename")
TWO_PATHS(link, SYS_linkat, 'L', "link")

#define ONE_PATH(name, declared, call, letter) \
    int name declared { \
        if (!ours(path)) return call; \
        pthread_mutex_lock(&turn); \
        int done = call; \
        int error = errno; \
        if (!done) note(letter, 0, -1, 0, path, strlen(path)); \
        pthread_mutex_unlock(&turn); \
        errno = error; \
        return done; \
    }
ONE_PATH(unlink, (const char *path), syscall(SYS_unlinkat, AT_FDCWD, path, 0), 'U')
ONE_PATH(rmdir, (const char *path), syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR), 'U')
ONE_PATH(mkdir, (const char *path, mode_t mode), syscall(SYS_mkdirat, AT_FDCWD, path, mode), 'M')
