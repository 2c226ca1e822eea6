/* SPDX-License-Identifier: Apache-2.0 */
/* Scatter lists: what is sent, part by part, with what keeps the parts alive. */
#include <stdlib.h>

#include "wire/msg.h"

struct pfl_scatter *pfl_scatter_ref(struct pfl_scatter *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void pfl_scatter_unref(struct pfl_scatter *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (s->keep_free)
        s->keep_free(s->keep);
    pfl_blob_unref(s->blob);
    pfl_msg_unref(s->to_sign);
    for (size_t i = 0; i < PFL_ARRAY_LEN(s->own); i++)
        pfl_buf_deinit(&s->own[i]);
    free(s);
}

struct pfl_scatter *pfl_scatter_new(void)
{
    struct pfl_scatter *s = pfl_xcalloc(1, sizeof(*s));
    atomic_init(&s->refs, 1);
    return s;
}

void pfl_scatter_add(struct pfl_scatter *s, struct pfl_bytes part)
{
    if (part.len == 0)
        return;
    PFL_ASSERT(s->n < PFL_ARRAY_LEN(s->parts));
    s->parts[s->n++] = part;
    s->total += part.len;
}

struct pfl_scatter *pfl_scatter_of(const void *data, size_t len)
{
    struct pfl_scatter *s = pfl_scatter_new();
    s->own[0].limit = len ? len : 1;
    PFL_ASSERT(pfl_buf_append(&s->own[0], data, len));
    pfl_scatter_add(s, pfl_buf_view(&s->own[0]));
    return s;
}
