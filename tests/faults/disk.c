/* Loaded into a program before its own libraries: a disk that fails as it is told, and of which a test knows what
 * a power cut would leave.
 *
 * DISK_RULE names a file that holds a rule while there is one: `CALL NAME ERRNO TIMES`. CALL is `write` (also
 * making a file longer), `sync`, `short` (a write that takes a part) or `any` (all that changes a file); NAME is what
 * the path ends in, `*` any in DISK_FOLDER; TIMES is how often, -1 always. Each time is told by a letter in the file DISK_RULE.hits.
 *
 * For each database, log of it, and file of lines that it writes in DISK_FOLDER, the folder DISK_SHADOW gets a
 * file that has what was synced, under the path with '%' for '/'. Of lines, it outlives the program. As on Linux, a
 * sync that fails leaves pages that count as clean: a later one that succeeds does not bring them to the disk, unless
 * they were written again.
 * And each descriptor that was open then is told of it once, by its next sync, which takes what was written since. */
#define _GNU_SOURCE
#define _LARGEFILE64_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096
#define FILES 64
#define DESCRIPTORS 4096

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int real_open(const char *path, int flags, int mode) {
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* A file, and which of its pages were written since its last sync. */
struct file {
  char path[1024];
  int shadow;
  unsigned char *dirty;
  size_t pages;
  unsigned failures;
};
static struct file files[FILES];

/* The failures of its file that a descriptor was told of, or that came before it. */
static unsigned told[DESCRIPTORS];

static int in_folder(const char *path) {
  const char *folder = getenv("DISK_FOLDER");
  return folder && !strncmp(path, folder, strlen(folder));
}

static int ends_in(const char *path, const char *end) {
  size_t length = strlen(path), tail = strlen(end);
  return tail <= length && !strcmp(path + length - tail, end);
}

static int path_of(int fd, char *path, size_t size) {
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(name, path, size - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return in_folder(path);
}

/* The error that a call on this path is to meet: 0 for none. Under the mutex. */
static int told_to_fail(const char *call, const char *path) {
  static char last[256];
  static int left;
  const char *rule = getenv("DISK_RULE");
  char text[256] = "", which[16], name[128], hits[1100];
  int error, times;
  int fd = rule ? real_open(rule, O_RDONLY | O_CLOEXEC, 0) : -1;
  if (fd < 0) {
    last[0] = 0;
    return 0;
  }
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  if (length <= 0 || sscanf(text, "%15s %127s %d %d", which, name, &error, &times) != 4) return 0;
  if (strcmp(last, text)) {
    strcpy(last, text);
    left = times;
  }
  if (left == 0 || (strcmp(which, call) && strcmp(which, "any"))) return 0;
  if (!strcmp(which, "any") && !strcmp(call, "short")) return 0;
  if (strcmp(name, "*") && !ends_in(path, name)) return 0;
  if (left > 0) left--;
  snprintf(hits, sizeof hits, "%s.hits", rule);
  fd = real_open(hits, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd >= 0) {
    syscall(SYS_write, fd, "x", 1);
    close(fd);
  }
  return error;
}

static void mark(struct file *file, off64_t from, off64_t to) {
  size_t last = (size_t)(to / PAGE) + 1;
  if (last > file->pages) {
    file->dirty = realloc(file->dirty, last);
    memset(file->dirty + file->pages, 0, last - file->pages);
    file->pages = last;
  }
  for (size_t page = (size_t)(from / PAGE); page * PAGE < (size_t)to; page++) file->dirty[page] = 1;
}

static void copy(int from, int to, off64_t at, size_t size) {
  char bytes[PAGE];
  ssize_t length = syscall(SYS_pread64, from, bytes, size, at);
  if (length > 0) syscall(SYS_pwrite64, to, bytes, (size_t)length, at);
}

/* Where it is kept in mind what the disk has of a file; what it has when it is first seen is there. */
static struct file *file_of(const char *path, int fd) {
  const char *folder = getenv("DISK_SHADOW");
  struct stat64 now;
  if (!folder || !(ends_in(path, ".db") || ends_in(path, ".db-wal") || ends_in(path, ".jsonl"))) return NULL;
  for (int at = 0; at < FILES; at++) {
    struct file *file = &files[at];
    if (!strcmp(file->path, path)) return file;
    if (file->path[0]) continue;
    char name[2100];
    size_t length = (size_t)snprintf(name, sizeof name, "%s/", folder);
    for (const char *letter = path; *letter && length < sizeof name - 1; letter++)
      name[length++] = *letter == '/' ? '%' : *letter;
    name[length] = 0;
    snprintf(file->path, sizeof file->path, "%s", path);
    file->shadow = ends_in(path, ".jsonl") ? real_open(name, O_RDWR | O_CLOEXEC, 0600) : -1;
    if (file->shadow >= 0) return file;
    file->shadow = real_open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (!fstat64(fd, &now))
      for (off64_t at = 0; at < now.st_size; at += PAGE) copy(fd, file->shadow, at, PAGE);
    return file;
  }
  abort();
}

static void synced(struct file *file, int fd) {
  struct stat64 now;
  if (fstat64(fd, &now)) return;
  /* Lines are written by who does not read. Not so with a database, which loses its locks by any close. */
  int lines = ends_in(file->path, ".jsonl");
  int from = lines ? real_open(file->path, O_RDONLY | O_CLOEXEC, 0) : fd;
  for (size_t page = 0; page < file->pages; page++)
    if (file->dirty[page]) copy(from, file->shadow, (off64_t)page * PAGE, PAGE);
  if (lines) close(from);
  syscall(SYS_ftruncate, file->shadow, now.st_size);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
  char path[1024];
  if (!path_of(fd, path, sizeof path)) return syscall(SYS_pwrite64, fd, bytes, count, at);
  pthread_mutex_lock(&mutex);
  struct file *file = file_of(path, fd);
  int error = told_to_fail("write", path);
  size_t taken = count;
  if (!error && count > 1 && told_to_fail("short", path)) taken = count / 2;
  ssize_t written = error ? -1 : syscall(SYS_pwrite64, fd, bytes, taken, at);
  if (!error && written > 0 && file) mark(file, at, at + written);
  pthread_mutex_unlock(&mutex);
  if (error) errno = error;
  return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }

static int sync_with(long call, int fd) {
  char path[1024];
  if (!path_of(fd, path, sizeof path)) return (int)syscall(call, fd);
  pthread_mutex_lock(&mutex);
  struct file *file = file_of(path, fd);
  int error = told_to_fail("sync", path);
  /* The pages are on a disk that this process shares with its test: only the shadow depends on it. */
  if (!error && file) synced(file, fd);
  if (file) {
    if (file->pages) memset(file->dirty, 0, file->pages);
    if (error) file->failures++;
    if (told[fd % DESCRIPTORS] != file->failures) {
      told[fd % DESCRIPTORS] = file->failures;
      if (!error) error = EIO;
    }
  }
  pthread_mutex_unlock(&mutex);
  if (error) errno = error;
  return error ? -1 : 0;
}

int fsync(int fd) { return sync_with(SYS_fsync, fd); }

int fdatasync(int fd) { return sync_with(SYS_fdatasync, fd); }

int ftruncate64(int fd, off64_t length) {
  char path[1024];
  struct stat64 before;
  if (!path_of(fd, path, sizeof path) || fstat64(fd, &before)) return (int)syscall(SYS_ftruncate, fd, length);
  pthread_mutex_lock(&mutex);
  struct file *file = file_of(path, fd);
  int error = told_to_fail(length > before.st_size ? "write" : "any", path);
  int done = error ? -1 : (int)syscall(SYS_ftruncate, fd, length);
  if (!done && file && length > before.st_size) mark(file, before.st_size, length);
  pthread_mutex_unlock(&mutex);
  if (error) errno = error;
  return done;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int open_with(const char *path, int flags, int mode) {
  if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && in_folder(path)) {
    pthread_mutex_lock(&mutex);
    int error = told_to_fail("any", path);
    pthread_mutex_unlock(&mutex);
    if (error) {
      errno = error;
      return -1;
    }
  }
  pthread_mutex_lock(&mutex);
  char name[1024];
  int fd = real_open(path, flags, mode);
  if (fd >= 0 && path_of(fd, name, sizeof name)) {
    struct file *file = file_of(name, fd);
    told[fd % DESCRIPTORS] = file ? file->failures : 0;
  }
  pthread_mutex_unlock(&mutex);
  return fd;
}

#define MODE(flags, mode)              \
  int mode = 0;                        \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list rest;                      \
    va_start(rest, flags);             \
    mode = va_arg(rest, int);          \
    va_end(rest);                      \
  }

int open(const char *path, int flags, ...) {
  MODE(flags, mode)
  return open_with(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  MODE(flags, mode)
  return open_with(path, flags | O_LARGEFILE, mode);
}

int unlink(const char *path) {
  int error = 0;
  if (in_folder(path)) {
    pthread_mutex_lock(&mutex);
    error = told_to_fail("any", path);
    pthread_mutex_unlock(&mutex);
  }
  if (error) errno = error;
  return error ? -1 : (int)syscall(SYS_unlink, path);
}

int rename(const char *from, const char *to) {
  int error = 0;
  if (in_folder(to)) {
    pthread_mutex_lock(&mutex);
    error = told_to_fail("any", to);
    pthread_mutex_unlock(&mutex);
  }
  if (error) errno = error;
  return error ? -1 : (int)syscall(SYS_rename, from, to);
}
