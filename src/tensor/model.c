/* SPDX-License-Identifier: Apache-2.0 */
/* Models: one block of bytes behind a layout. */
#include "tensor/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

static struct pfl_model *model_alloc(struct pfl_layout *layout)
{
    struct pfl_model *m = pfl_xcalloc(1, sizeof(*m));
    atomic_init(&m->refs, 1);
    m->layout = pfl_layout_ref(layout);
    return m;
}

enum pfl_rc pfl_model_new_unset(struct pfl_layout *layout, struct pfl_model **ret, struct pfl_err *err)
{
    uint8_t *block = pfl_try_block(layout->bytes);
    if (!block)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory for a model of %zu bytes", layout->bytes);
    struct pfl_model *m = model_alloc(layout);
    m->data = m->owned = block;
    *ret = m;
    return PFL_OK;
}

enum pfl_rc pfl_model_new(struct pfl_layout *layout, struct pfl_model **ret, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_model_new_unset(layout, ret, err);
    if (rc == PFL_OK)
        memset((*ret)->owned, 0, layout->bytes);
    return rc;
}

static bool is_aligned(const struct pfl_layout *l, const uint8_t *data)
{
    for (size_t i = 0; i < l->n; i++) {
        if (((uintptr_t)data + l->tensors[i].offset) % pfl_dtype_bytes(l->tensors[i].dtype) != 0)
            return false;
    }
    return true;
}

enum pfl_rc pfl_model_view(struct pfl_layout *layout, struct pfl_blob *blob, size_t offset, struct pfl_model **ret,
                           struct pfl_err *err)
{
    struct pfl_bytes v = pfl_bytes_sub(pfl_bytes_of(blob->data, blob->len), offset, layout->bytes);
    if (v.len != layout->bytes)
        return pfl_err_set(err, PFL_MALFORMED, "a model of %zu bytes at offset %zu does not fit in %zu bytes", layout->bytes,
                           offset, blob->len);
    if (is_aligned(layout, v.data)) {
        struct pfl_model *m = model_alloc(layout);
        m->data = v.data;
        m->blob = pfl_blob_ref(blob);
        *ret = m;
        return PFL_OK;
    }
    struct pfl_model *m = NULL;
    enum pfl_rc rc = pfl_model_new_unset(layout, &m, err);
    if (rc != PFL_OK)
        return rc;
    if (v.len > 0)
        memcpy(m->owned, v.data, v.len);
    *ret = m;
    return PFL_OK;
}

struct pfl_model *pfl_model_ref(struct pfl_model *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void pfl_model_unref(struct pfl_model *m)
{
    if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    pfl_block_free(m->owned, m->layout->bytes);
    pfl_layout_unref(m->layout);
    pfl_blob_unref(m->blob);
    free(m);
}

uint8_t *pfl_model_data_mut(struct pfl_model *m)
{
    PFL_ASSERT(m->owned && atomic_load_explicit(&m->refs, memory_order_relaxed) == 1);
    return m->owned;
}

struct pfl_model *pfl_model_copy(const struct pfl_model *m)
{
    uint8_t *block = pfl_try_block(m->layout->bytes);
    if (!block)
        return NULL;
    memcpy(block, m->data, m->layout->bytes);
    struct pfl_model *c = model_alloc(m->layout);
    c->data = c->owned = block;
    return c;
}

/* Index of the first value whose exponent bits are all ones; n where there is none. */
static size_t first_bad_16(const uint8_t *p, size_t n, uint16_t mask)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, p + 2 * i, 2);
        if ((v & mask) == mask)
            return i;
    }
    return n;
}

static size_t first_bad_32(const uint8_t *p, size_t n)
{
    const uint32_t mask = 0x7f800000u;
    const size_t block = 4096;
    for (size_t from = 0; from < n; from += block) {
        size_t to = from + block < n ? from + block : n;
        uint32_t bad = 0;
        for (size_t i = from; i < to; i++) {
            uint32_t v;
            memcpy(&v, p + 4 * i, 4);
            bad |= (v & mask) == mask;
        }
        for (size_t i = from; bad && i < to; i++) {
            uint32_t v;
            memcpy(&v, p + 4 * i, 4);
            if ((v & mask) == mask)
                return i;
        }
    }
    return n;
}

static size_t first_bad_64(const uint8_t *p, size_t n)
{
    const uint64_t mask = 0x7ff0000000000000u;
    for (size_t i = 0; i < n; i++) {
        uint64_t v;
        memcpy(&v, p + 8 * i, 8);
        if ((v & mask) == mask)
            return i;
    }
    return n;
}

enum pfl_rc pfl_model_check_finite(const struct pfl_model *m, struct pfl_err *err)
{
    for (size_t i = 0; i < m->layout->n; i++) {
        const struct pfl_tensor_desc *t = &m->layout->tensors[i];
        const uint8_t *p = m->data + t->offset;
        size_t n = t->bytes / pfl_dtype_bytes(t->dtype), bad = n;
        if (t->dtype == PFL_F32)
            bad = first_bad_32(p, n);
        else if (t->dtype == PFL_F64)
            bad = first_bad_64(p, n);
        else if (t->dtype == PFL_F16)
            bad = first_bad_16(p, n, 0x7c00);
        else if (t->dtype == PFL_BF16)
            bad = first_bad_16(p, n, 0x7f80);
        if (bad < n)
            return pfl_err_set(err, PFL_MALFORMED, "tensor '%s': value %zu is not finite (NaN or infinite)", pfl_q(t->name), bad);
    }
    return PFL_OK;
}
