/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: small allocations never fail, they end the process. */
#include "base/mem.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CACHE_LINE = 64, HUGE_PAGE = 2 << 20, HUGE_FROM = 4 << 20 };
#ifdef __has_feature /* clang's way to say it */
#define FEATURE(x) __has_feature(x)
#else
#define FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || FEATURE(address_sanitizer) /* it is to see who uses a block that was freed */
enum { KEPT_MAX = 4, KEPT_BYTES = 0 };
#else
enum { KEPT_MAX = 4, KEPT_BYTES = 512 << 20 };
#endif

_Noreturn void pfl_assert_failed(const char *cond, const char *file, int line)
{
    fprintf(stderr, "p2pfl: %s:%d: assertion failed: %s\n", file, line, cond);
    abort();
}

static void *or_die(void *p)
{
    if (p)
        return p;
    fputs("p2pfl: out of memory\n", stderr);
    abort();
}

void *pfl_xmalloc(size_t size)
{
    return or_die(malloc(size ? size : 1));
}

void *pfl_xcalloc(size_t n, size_t size)
{
    return or_die(calloc(n ? n : 1, size ? size : 1));
}

void *pfl_xrealloc(void *ptr, size_t size)
{
    return or_die(realloc(ptr, size ? size : 1));
}

char *pfl_xstrdup(const char *s)
{
    return or_die(strdup(s));
}

char *pfl_xstrndup(const char *s, size_t max)
{
    return or_die(strndup(s, max));
}

char *pfl_xasprintf(const char *fmt, ...)
{
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return or_die(n < 0 ? NULL : s);
}

void *pfl_try_malloc(size_t size)
{
    return size > PTRDIFF_MAX ? NULL : malloc(size ? size : 1);
}

/* ---- blocks ---- */

/* Blocks that were freed and wait for the next one of their size, oldest first. */
static struct {
    pthread_mutex_t mutex;
    size_t n, bytes;
    struct kept {
        void *block;
        size_t size;
    } items[KEPT_MAX];
} kept = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* What a block of so many bytes takes; 0: too many. */
static size_t block_size(size_t size)
{
    size_t unit = size < HUGE_FROM ? CACHE_LINE : HUGE_PAGE, padded;
    if (!pfl_size_add(size ? size : 1, unit - 1, &padded) || padded > PTRDIFF_MAX - HUGE_PAGE)
        return 0;
    return padded & ~(unit - 1);
}

static struct kept drop(size_t i)
{
    struct kept k = kept.items[i];
    kept.n--;
    kept.bytes -= k.size;
    memmove(&kept.items[i], &kept.items[i + 1], (kept.n - i) * sizeof(k));
    return k;
}

static void *take_kept(size_t size)
{
    void *block = NULL;
    pthread_mutex_lock(&kept.mutex);
    for (size_t i = 0; i < kept.n && !block; i++) {
        if (kept.items[i].size == size)
            block = drop(i).block;
    }
    pthread_mutex_unlock(&kept.mutex);
    return block;
}

void *pfl_try_block(size_t size)
{
    size_t padded = block_size(size);
    if (padded == 0)
        return NULL;
    bool huge = padded >= HUGE_FROM;
    void *block = huge ? take_kept(padded) : NULL;
    if (block)
        return block;
    if (posix_memalign(&block, huge ? HUGE_PAGE : CACHE_LINE, padded) != 0) {
        pfl_blocks_trim(); /* what is kept for later must not be what is missing now */
        if (posix_memalign(&block, huge ? HUGE_PAGE : CACHE_LINE, padded) != 0)
            return NULL;
    }
    if (huge) /* the rest behind the last whole page stays small; only speed depends on it */
        (void)madvise(block, size & ~(size_t)(HUGE_PAGE - 1), MADV_HUGEPAGE);
    return block;
}

void pfl_block_free(void *block, size_t size)
{
    size_t padded = block_size(size);
    if (!block || padded < HUGE_FROM || padded > KEPT_BYTES) {
        free(block);
        return;
    }
    struct kept old[KEPT_MAX];
    size_t n_old = 0;
    pthread_mutex_lock(&kept.mutex);
    while (kept.n == KEPT_MAX || kept.bytes + padded > KEPT_BYTES)
        old[n_old++] = drop(0);
    kept.items[kept.n++] = (struct kept){block, padded};
    kept.bytes += padded;
    pthread_mutex_unlock(&kept.mutex);
    while (n_old > 0)
        free(old[--n_old].block);
}

void pfl_blocks_trim(void)
{
    struct kept old[KEPT_MAX];
    size_t n_old = 0;
    pthread_mutex_lock(&kept.mutex);
    while (kept.n > 0)
        old[n_old++] = drop(0);
    pthread_mutex_unlock(&kept.mutex);
    while (n_old > 0)
        free(old[--n_old].block);
}

void pfl_freep(void *pp)
{
    void **p = pp;
    free(*p);
    *p = NULL;
}
