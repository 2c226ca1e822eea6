/* SPDX-License-Identifier: Apache-2.0 */
/* A model as a safetensors file: the writer. */
#include "wire/payload.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_MAX = 1 << 20 };

static json_t *tensor_json(const struct pfl_tensor_desc *t)
{
    json_t *shape = json_array();
    for (unsigned i = 0; i < t->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", pfl_dtype_name(t->dtype), "shape", shape, "data_offsets",
                     (json_int_t)t->offset, (json_int_t)t->offset + (json_int_t)t->bytes);
}

/* jansson keeps the order of insertion: the same layout gives the same bytes. */
static char *header_text(const struct pfl_layout *l)
{
    json_t *o = json_pack("{s:{s:s}}", "__metadata__", "p2pfl", "1");
    for (size_t i = 0; i < l->n; i++)
        json_object_set_new(o, l->tensors[i].name, tensor_json(&l->tensors[i]));
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

enum pfl_rc pfl_payload_new(struct pfl_model *model, struct pfl_payload **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *text = header_text(model->layout);
    if (!text)
        return pfl_err_set(err, PFL_INVALID, "a tensor's name is not UTF-8");
    size_t len = strlen(text), padded = (len + 7) & ~(size_t)7;
    if (padded > HEADER_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "the safetensors header is %zu bytes, the limit is %d", padded, HEADER_MAX);
    struct pfl_payload *p = pfl_xcalloc(1, sizeof(*p));
    atomic_init(&p->refs, 1);
    p->head.limit = HEADER_MAX + 16;
    pfl_buf_u64le(&p->head, padded);
    pfl_buf_append(&p->head, text, len);
    pfl_buf_append(&p->head, "        ", padded - len);
    PFL_ASSERT(!p->head.failed);
    p->model = pfl_model_ref(model);
    *ret = p;
    return PFL_OK;
}

struct pfl_payload *pfl_payload_ref(struct pfl_payload *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

void pfl_payload_unref(struct pfl_payload *p)
{
    if (!p || atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) != 1)
        return;
    pfl_buf_deinit(&p->head);
    pfl_model_unref(p->model);
    pfl_blob_unref(p->pickled);
    free(p);
}

size_t pfl_payload_bytes(const struct pfl_payload *p)
{
    return p->head.len + p->model->layout->bytes;
}
