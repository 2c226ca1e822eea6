/* SPDX-License-Identifier: Apache-2.0 */
/* IDX: the format of the MNIST files, plain or gzip. A big-endian head (two zero bytes, a type, the rank, one 32-bit size per
 * dimension), then the values. Only unsigned bytes (type 0x08) and ranks 1 to 3 are read. */
#ifndef PFL_LEARNING_IDX_H
#define PFL_LEARNING_IDX_H

#include "base/bytes.h"

enum { PFL_IDX_RANK_MAX = 3 };
#define PFL_IDX_VALUES_MAX ((size_t)512 << 20) /* bytes of values; the full MNIST has 47,040,000 */

struct pfl_idx {
    struct pfl_blob *blob; /* a reference: what `values` looks into */
    unsigned rank;
    uint32_t dims[PFL_IDX_RANK_MAX]; /* each > 0 */
    struct pfl_bytes values;         /* the product of dims, row-major; borrowed until deinit */
};

/** Decodes a whole file that lies in `in` (a reference is kept where nothing had to be unpacked). `rank` is what the caller wants.
 *  MALFORMED: not IDX, another rank, a dimension of 0, cut short, bytes behind the end, damaged gzip.
 *  UNSUPPORTED: another type of values.  TOO_BIG: over PFL_IDX_VALUES_MAX.  UNAVAILABLE: no memory. */
enum pfl_rc pfl_idx_decode(struct pfl_blob *in, unsigned rank, struct pfl_idx *ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** Reads and decodes a file; messages start with the path. */
enum pfl_rc pfl_idx_load(const char *path, unsigned rank, struct pfl_idx *ret, struct pfl_err *err) PFL_WARN_UNUSED;

void pfl_idx_deinit(struct pfl_idx *x); /* for PFL_AUTO too; accepts a zeroed one */

#endif
