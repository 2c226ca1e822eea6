/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: small allocations end the process when memory is gone; sizes from outside are checked first and may fail.
 * Ownership is handed over with PFL_AUTO (cleanup at scope end) and pfl_steal (leave the scope alive). */
#ifndef PFL_BASE_MEM_H
#define PFL_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/rc.h"

/** Programmer's errors end the process, in release builds too. */
#define PFL_ASSERT(cond) ((cond) ? (void)0 : pfl_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void pfl_assert_failed(const char *cond, const char *file, int line);

/** For fixed, small sizes. Never NULL. Owned, freed with free(). */
void *pfl_xmalloc(size_t size);
void *pfl_xcalloc(size_t n, size_t size); /* zeroed */
void *pfl_xrealloc(void *ptr, size_t size);
char *pfl_xstrdup(const char *s);
char *pfl_xstrndup(const char *s, size_t max);
/** printf into a fresh string. Owned by the caller. */
char *pfl_xasprintf(const char *fmt, ...) PFL_PRINTF(1, 2);

/** For sizes that come from a file or a peer (after the limit check). NULL where memory is gone. */
void *pfl_try_malloc(size_t size);
/** The same for tensors and whole messages: on a cache line of its own, and from 4 MiB on in pages as large as the system has,
 * which takes most of the cost out of writing fresh memory for the first time. Not zeroed, and may hold what an earlier one held.
 * Freed with pfl_block_free. */
void *pfl_try_block(size_t size);
/** size: what it was asked for with. Of blocks from 4 MiB on the last four, and at most 512 MiB, stay for the next ones of the same
 * size: in every round a node needs as many again. Thread-safe, as all here. block may be NULL. */
void pfl_block_free(void *block, size_t size);
/** Gives back those that stayed. */
void pfl_blocks_trim(void);

/** Checked arithmetic: false on overflow, *ret unchanged then. */
static inline bool pfl_size_add(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *ret = r;
    return true;
}
static inline bool pfl_size_mul(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *ret = r;
    return true;
}

#define PFL_AUTO(freep) __attribute__((cleanup(freep)))
/** Takes *p's value and leaves NULL. */
#define pfl_steal(p)                                                                                                               \
    ({                                                                                                                             \
        __typeof__(*(p)) s_ = *(p);                                                                                                \
        *(p) = NULL;                                                                                                               \
        s_;                                                                                                                        \
    })
/** Defines pfl_<name>_freep for PFL_AUTO from a free function that accepts NULL. */
#define PFL_DEFINE_FREEP(name, type, fn)                                                                                           \
    static inline void pfl_##name##_freep(type **p)                                                                                \
    {                                                                                                                              \
        fn(*p);                                                                                                                    \
        *p = NULL;                                                                                                                 \
    }
void pfl_freep(void *pp); /* for PFL_AUTO(pfl_freep) char *s; */

#define PFL_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
