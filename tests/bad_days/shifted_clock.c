/* Shifts the wall clock of the process that preloads it by the seconds in the file named by SHIFTED_CLOCK, which may change at any
 * time. The monotonic clock stays what it is. As when an operator sets the clock, who waits until a moment of it waits until it shows
 * that moment. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;

__attribute__((constructor)) static void look_up_shift(void)
{
    const char *name = getenv("SHIFTED_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        shift = mapped;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, id, now);
    if (!failed && shift && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += *shift;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise))
        return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, now) ? base : 0;
}

typedef int waiter(void *condition, void *mutex, const struct timespec *until);

/* Waits until a moment of the shifted clock, also when that is shifted meanwhile, by looking at it now and then. */
static int wait_shifted(waiter *wait, int timed_out, void *condition, void *mutex, const struct timespec *until)
{
    struct timespec now;
    /* A moment of the monotonic clock is a small number. */
    if (!shift || until->tv_sec < 1000000000)
        return wait(condition, mutex, until);
    for (;;) {
        clock_gettime(CLOCK_REALTIME, &now);
        long long left = (until->tv_sec - now.tv_sec) * 1000000000LL + until->tv_nsec - now.tv_nsec;
        if (left <= 0)
            return timed_out;
        long long look = left < 50000000LL ? left : 50000000LL;
        syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
        now.tv_sec += (now.tv_nsec + look) / 1000000000LL;
        now.tv_nsec = (now.tv_nsec + look) % 1000000000LL;
        int ended = wait(condition, mutex, &now);
        if (ended != timed_out)
            return ended;
    }
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, const struct timespec *restrict until)
{
    return wait_shifted((waiter *)dlsym(RTLD_NEXT, "pthread_cond_timedwait"), ETIMEDOUT, condition, mutex, until);
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until)
{
    return wait_shifted((waiter *)dlsym(RTLD_NEXT, "cnd_timedwait"), thrd_timedout, condition, mutex, until);
}

time_t time(time_t *out)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return (time_t)-1;
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
