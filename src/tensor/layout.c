/* SPDX-License-Identifier: Apache-2.0 */
/* Layouts: checked once when they are made, trusted afterwards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tensor/model.h"

/* A tensor's size in bytes from its shape. */
static enum pfl_rc size_of(const struct pfl_tensor_desc *t, size_t *ret, struct pfl_err *err)
{
    size_t bytes = pfl_dtype_bytes(t->dtype);
    if (t->rank > PFL_TENSOR_RANK_MAX)
        return pfl_err_set(err, PFL_INVALID, "tensor '%s': rank %u, at most %d is possible", pfl_q(t->name), t->rank,
                           PFL_TENSOR_RANK_MAX);
    for (unsigned i = 0; i < t->rank; i++) {
        if (!pfl_size_mul(bytes, t->shape[i], &bytes))
            return pfl_err_set(err, PFL_INVALID, "tensor '%s': its shape overflows", pfl_q(t->name));
    }
    *ret = bytes;
    return PFL_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct pfl_tensor_desc *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static enum pfl_rc check_names(const struct pfl_tensor_desc *descs, size_t n, struct pfl_err *err)
{
    const struct pfl_tensor_desc **sorted = pfl_xcalloc(n, sizeof(*sorted));
    enum pfl_rc rc = PFL_OK;
    for (size_t i = 0; i < n; i++) {
        sorted[i] = &descs[i];
        if (descs[i].name[0] == '\0')
            rc = pfl_err_set(err, PFL_INVALID, "tensor %zu has no name", i);
    }
    qsort(sorted, n, sizeof(*sorted), by_name);
    for (size_t i = 1; i < n && rc == PFL_OK; i++) {
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
            rc = pfl_err_set(err, PFL_INVALID, "two tensors are named '%s'", pfl_q(sorted[i]->name));
    }
    free(sorted);
    return rc;
}

enum pfl_rc pfl_layout_new(const struct pfl_tensor_desc *descs, size_t n, struct pfl_layout **ret, struct pfl_err *err)
{
    if (n == 0 || n > PFL_LAYOUT_TENSORS_MAX)
        return pfl_err_set(err, PFL_INVALID, "%zu tensors, 1 to %d are possible", n, PFL_LAYOUT_TENSORS_MAX);
    enum pfl_rc rc = check_names(descs, n, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_layout *l = pfl_xcalloc(1, sizeof(*l) + n * sizeof(l->tensors[0]));
    atomic_init(&l->refs, 1);
    l->n = n;
    for (size_t i = 0; i < n; i++) {
        struct pfl_tensor_desc *t = &l->tensors[i];
        *t = descs[i];
        t->offset = l->bytes;
        rc = size_of(&descs[i], &t->bytes, err);
        if (rc == PFL_OK && (!pfl_size_add(l->bytes, t->bytes, &l->bytes) || l->bytes > PTRDIFF_MAX))
            rc = pfl_err_set(err, PFL_INVALID, "tensor '%s': the model's size overflows", pfl_q(t->name));
        if (rc != PFL_OK) {
            free(l);
            return rc;
        }
    }
    *ret = l;
    return PFL_OK;
}

struct pfl_layout *pfl_layout_ref(struct pfl_layout *l)
{
    atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    return l;
}

void pfl_layout_unref(struct pfl_layout *l)
{
    if (l && atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1)
        free(l);
}

const struct pfl_tensor_desc *pfl_layout_find(const struct pfl_layout *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->tensors[i].name, name) == 0)
            return &l->tensors[i];
    }
    return NULL;
}

/* "F32 (2, 3)" */
static const char *shape_text(const struct pfl_tensor_desc *t, char *out, size_t size)
{
    int n = snprintf(out, size, "%s (", pfl_dtype_name(t->dtype));
    for (unsigned i = 0; i < t->rank && n > 0 && (size_t)n < size; i++)
        n += snprintf(out + n, size - (size_t)n, "%s%zu", i ? ", " : "", t->shape[i]);
    if (n > 0 && (size_t)n < size)
        snprintf(out + n, size - (size_t)n, ")");
    return out;
}

enum pfl_rc pfl_layout_check_same(const struct pfl_layout *got, const struct pfl_layout *want, struct pfl_err *err)
{
    if (got->n != want->n)
        return pfl_err_set(err, PFL_MALFORMED, "%zu tensors, %zu are expected", got->n, want->n);
    for (size_t i = 0; i < want->n; i++) {
        const struct pfl_tensor_desc *g = &got->tensors[i], *w = &want->tensors[i];
        char a[256], b[256];
        if (strcmp(g->name, w->name) != 0)
            return pfl_err_set(err, PFL_MALFORMED, "tensor %zu is '%s', '%s' is expected", i, pfl_q(g->name), pfl_q(w->name));
        if (g->dtype != w->dtype || g->rank != w->rank || memcmp(g->shape, w->shape, g->rank * sizeof(g->shape[0])) != 0)
            return pfl_err_set(err, PFL_MALFORMED, "tensor '%s': %s, %s is expected", pfl_q(g->name), shape_text(g, a, sizeof(a)),
                               shape_text(w, b, sizeof(b)));
    }
    return PFL_OK;
}
