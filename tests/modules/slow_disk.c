/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a node by tests: each fsync takes P2PFL_TEST_FSYNC_MS longer, as on a worn or busy disk. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void dawdle(void)
{
    const char *ms = getenv("P2PFL_TEST_FSYNC_MS");
    long n = ms ? strtol(ms, NULL, 10) : 0;
    struct timespec t = {.tv_sec = n / 1000, .tv_nsec = n % 1000 * 1000000};
    nanosleep(&t, NULL);
}

int fsync(int fd)
{
    dawdle();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    dawdle();
    return (int)syscall(SYS_fdatasync, fd);
}
