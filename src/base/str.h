/* SPDX-License-Identifier: Apache-2.0 */
/* Strings: quoting of text from outside, strict number parsing, lists of strings. */
#ifndef PFL_BASE_STR_H
#define PFL_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

/** Text from a peer made safe for a log or an error: printable ASCII and valid UTF-8 stay, the rest becomes \xNN, cut to
 *  what fits with "..." behind. Returns out. out_size >= 8. */
char *pfl_quote(const void *text, size_t len, char *out, size_t out_size);
/** The same for a C string into a rotating thread-local buffer (8 of 160 bytes): for one printf call. */
const char *pfl_q(const char *text);

/** Strict: the whole string is one decimal number in range. */
bool pfl_parse_i64(const char *s, int64_t min, int64_t max, int64_t *ret);
bool pfl_parse_u64(const char *s, uint64_t *ret);
/** "90s", "15m", "24h", "7d": a number from 1 and its unit, to seconds within range. */
bool pfl_parse_duration(const char *s, int64_t min_s, int64_t max_s, int64_t *ret_s);
bool pfl_parse_double(const char *s, double *ret); /* finite only, C locale */

bool pfl_streq(const char *a, const char *b); /* NULL equals NULL only */
bool pfl_str_has_prefix(const char *s, const char *prefix);
bool pfl_utf8_valid(const void *text, size_t len);

/** A list of owned strings, in the order of insertion. Zero-initialised. A copy is one block, items and texts; it can be changed
 * like any other, and is then no block any more. */
struct pfl_strs {
    char **items;  /* owned, each owned */
    size_t n, cap; /* cap 0: one block */
};
void pfl_strs_add(struct pfl_strs *l, const char *s);              /* copied */
void pfl_strs_addn(struct pfl_strs *l, const char *s, size_t len); /* copied */
bool pfl_strs_has(const struct pfl_strs *l, const char *s);
bool pfl_strs_add_once(struct pfl_strs *l, const char *s); /* false where it was there */
bool pfl_strs_remove(struct pfl_strs *l, const char *s);
void pfl_strs_sort(struct pfl_strs *l);                               /* bytewise */
void pfl_strs_copy(struct pfl_strs *dst, const struct pfl_strs *src); /* dst is deinited first */
void pfl_strs_seal(struct pfl_strs *l);                               /* makes it one block: for what is kept and not changed */
void pfl_strs_deinit(struct pfl_strs *l);                             /* for PFL_AUTO too */
/** Splits at sep, drops blanks around items; empty items are kept as "". */
void pfl_strs_split(struct pfl_strs *l, const char *s, char sep);
char *pfl_strs_join(const struct pfl_strs *l, const char *sep); /* owned by the caller */

/** Edit distance based suggestion for an unknown name: the nearest of names (n of them) within distance 3, else NULL. */
const char *pfl_nearest(const char *name, const char *const *names, size_t n);

#endif
