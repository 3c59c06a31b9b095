/* Loaded into a program before its own libraries, where nothing can be mounted: while the file that
 * FULL_FLAG names is there, no file below FULL_FOLDER grows by more than a few bytes in all, and then the
 * system says ENOSPC. What is overwritten in place has its room, as on a real disk. */
#define _GNU_SOURCE
#define _LARGEFILE64_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes: a part of a line, so that one is torn. */
#define ROOM 100

static ssize_t room = ROOM;

/* How many of the bytes up to `end` can be written; -1 where all can. */
static ssize_t fits(int fd, off64_t at, size_t count) {
  const char *flag = getenv("FULL_FLAG"), *folder = getenv("FULL_FOLDER");
  char name[64], path[4096];
  struct stat64 file;
  if (!flag || !folder || access(flag, F_OK)) {
    room = ROOM;
    return -1;
  }
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(name, path, sizeof path - 1);
  if (length <= 0) return -1;
  path[length] = 0;
  if (strncmp(path, folder, strlen(folder)) || fstat64(fd, &file)) return -1;
  if (at + (off64_t)count <= file.st_size) return -1;
  ssize_t now = room < (ssize_t)count ? room : (ssize_t)count;
  room -= now;
  return now;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
  static ssize_t (*real)(int, const void *, size_t, off64_t);
  if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
  ssize_t now = fits(fd, at, count);
  if (now == 0) {
    errno = ENOSPC;
    return -1;
  }
  return real(fd, bytes, now < 0 ? count : (size_t)now, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
  return pwrite64(fd, bytes, count, at);
}
