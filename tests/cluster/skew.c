/* A wall clock that a test moves while a program runs.
 *
 * Preloaded into a process, this adds the number of nanoseconds in the file named by SKEW_FILE (one
 * little-endian int64, mapped shared, so that writing the file moves the clock at once) to every reading of
 * the wall clock. Monotonic clocks are left alone, as they are when an administrator or NTP sets the time.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t second_ns = 1000000000;
static volatile const int64_t *skew_ns;

__attribute__((constructor)) static void map_skew(void)
{
    const char *path = getenv("SKEW_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(NULL, sizeof *skew_ns, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED)
        skew_ns = page;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (failed || !skew_ns || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return failed;
    int64_t at_ns = now->tv_sec * second_ns + now->tv_nsec + *skew_ns;
    now->tv_sec = at_ns / second_ns;
    now->tv_nsec = at_ns % second_ns;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *now)
{
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now)
        *now = precise.tv_sec;
    return precise.tv_sec;
}
