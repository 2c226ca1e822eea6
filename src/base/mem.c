/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: small allocations never fail, they end the process. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CACHE_LINE = 64, HUGE_PAGE = 2 << 20, HUGE_FROM = 4 << 20 };

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

void *pfl_try_block(size_t size)
{
    size_t align = size < HUGE_FROM ? CACHE_LINE : HUGE_PAGE, padded;
    if (!pfl_size_add(size ? size : 1, CACHE_LINE - 1, &padded) || padded > PTRDIFF_MAX - HUGE_PAGE)
        return NULL;
    padded &= ~(size_t)(CACHE_LINE - 1);
    void *block = NULL;
    if (posix_memalign(&block, align, padded) != 0)
        return NULL;
    if (align == HUGE_PAGE)
        (void)madvise(block, padded & ~(size_t)(HUGE_PAGE - 1), MADV_HUGEPAGE); /* only speed depends on it */
    return block;
}

void pfl_freep(void *pp)
{
    void **p = pp;
    free(*p);
    *p = NULL;
}
