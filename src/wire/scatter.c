/* SPDX-License-Identifier: Apache-2.0 */
/* Scatter lists: what is sent, part by part, with what keeps the parts alive. */
#include <stdlib.h>
#include <string.h>

#include "wire/msg.h"

struct pfl_owned {
    struct pfl_owned *next;
    uint8_t bytes[];
};

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
    while (s->own) {
        struct pfl_owned *o = s->own;
        s->own = o->next;
        free(o);
    }
    free(s);
}

struct pfl_scatter *pfl_scatter_new(size_t parts)
{
    PFL_ASSERT(parts <= UINT16_MAX);
    struct pfl_scatter *s = pfl_xcalloc(1, sizeof(*s) + parts * sizeof(s->parts[0]));
    s->cap = (uint16_t)parts;
    atomic_init(&s->refs, 1);
    return s;
}

void pfl_scatter_add(struct pfl_scatter *s, struct pfl_bytes part)
{
    if (part.len == 0)
        return;
    PFL_ASSERT(s->n < s->cap);
    s->parts[s->n++] = part;
    s->total += part.len;
}

void pfl_scatter_add_copy(struct pfl_scatter *s, struct pfl_bytes part)
{
    if (part.len == 0)
        return;
    struct pfl_owned *o = pfl_xmalloc(sizeof(*o) + part.len);
    memcpy(o->bytes, part.data, part.len);
    o->next = s->own;
    s->own = o;
    pfl_scatter_add(s, pfl_bytes_of(o->bytes, part.len));
}

struct pfl_scatter *pfl_scatter_of(const void *data, size_t len)
{
    struct pfl_scatter *s = pfl_scatter_new(1);
    pfl_scatter_add_copy(s, pfl_bytes_of(data, len));
    return s;
}
