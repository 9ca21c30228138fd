/* Preloaded into a program, makes a folder slow: every call that looks up a path in it waits first, as one does for the
 * metadata server of a busy shared file system. SLOW_FOLDER names the folder, SLOW_MS the wait; the number of calls goes
 * to standard error at exit. Opens by the dynamic loader itself are not seen. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *folder;
static size_t length;
static struct timespec pause_of_call;
static long calls;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("SLOW_FOLDER"), *ms = getenv("SLOW_MS");
    double seconds = ms ? atof(ms) / 1000 : 0;
    pause_of_call.tv_sec = (time_t)seconds;
    pause_of_call.tv_nsec = (long)((seconds - (double)pause_of_call.tv_sec) * 1e9);
    length = name ? strlen(name) : 0;
    folder = name;
}

__attribute__((destructor)) static void end(void) { fprintf(stderr, "slow_folder: %ld calls\n", calls); }

static void look_up(const char *path) {
    if (!length || !path || strncmp(path, folder, length) != 0) return;
    __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    if (pause_of_call.tv_sec || pause_of_call.tv_nsec) nanosleep(&pause_of_call, NULL);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(type, name, parameters, arguments) \
    type name parameters { \
        look_up(path); \
        return REAL(name) arguments; \
    }

WRAP(int, stat, (const char *path, struct stat *found), (path, found))
WRAP(int, lstat, (const char *path, struct stat *found), (path, found))
WRAP(int, stat64, (const char *path, struct stat64 *found), (path, found))
WRAP(int, lstat64, (const char *path, struct stat64 *found), (path, found))
WRAP(int, fstatat, (int at, const char *path, struct stat *found, int flags), (at, path, found, flags))
WRAP(int, fstatat64, (int at, const char *path, struct stat64 *found, int flags), (at, path, found, flags))
WRAP(int, access, (const char *path, int mode), (path, mode))
WRAP(ssize_t, readlink, (const char *path, char *target, size_t size), (path, target, size))
WRAP(DIR *, opendir, (const char *path), (path))
WRAP(FILE *, fopen, (const char *path, const char *mode), (path, mode))
WRAP(FILE *, fopen64, (const char *path, const char *mode), (path, mode))

#define WRAP_OPEN(name, parameters, arguments) \
    int name parameters { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        look_up(path); \
        return REAL(name) arguments; \
    }

WRAP_OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
WRAP_OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
WRAP_OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
WRAP_OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))
