/* Loaded into a program before its own libraries: its clock is ahead by the seconds that the file CLOCK_OFFSET tells. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = (int)syscall(SYS_clock_gettime, clock, now);
  const char *name = getenv("CLOCK_OFFSET");
  if (failed || clock != CLOCK_REALTIME || !name) return failed;
  char text[32] = "";
  int file = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0);
  if (file < 0) return 0;
  ssize_t length = syscall(SYS_read, file, text, sizeof text - 1);
  syscall(SYS_close, file);
  if (length > 0) now->tv_sec += atoll(text);
  return 0;
}
