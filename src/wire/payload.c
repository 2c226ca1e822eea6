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
static char *header_text(const struct pfl_layout *l, const struct pfl_safetensors_meta *meta, size_t n_meta)
{
    json_t *o = json_pack("{s:{s:s}}", "__metadata__", "p2pfl", "1");
    for (size_t i = 0; i < n_meta; i++)
        json_object_set_new(json_object_get(o, "__metadata__"), meta[i].key, json_string(meta[i].value));
    for (size_t i = 0; i < l->n; i++)
        json_object_set_new(o, l->tensors[i].name, tensor_json(&l->tensors[i]));
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

enum pfl_rc pfl_safetensors_head(const struct pfl_layout *l, const struct pfl_safetensors_meta *meta, size_t n_meta,
                                 struct pfl_buf *out, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *text = header_text(l, meta, n_meta);
    if (!text)
        return pfl_err_set(err, PFL_INVALID, "a tensor's name is not UTF-8");
    size_t len = strlen(text), padded = (len + 7) & ~(size_t)7;
    if (padded > HEADER_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "the safetensors header is %zu bytes, the limit is %d", padded, HEADER_MAX);
    (void)pfl_buf_u64le(out, padded);
    (void)pfl_buf_append(out, text, len);
    if (!pfl_buf_append(out, "        ", padded - len))
        return pfl_err_set(err, PFL_TOO_BIG, "no room for a safetensors header of %zu bytes", padded);
    return PFL_OK;
}

enum pfl_rc pfl_payload_new(struct pfl_model *model, struct pfl_payload **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf head = {.limit = HEADER_MAX + 16};
    enum pfl_rc rc = pfl_safetensors_head(model->layout, NULL, 0, &head, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_payload *p = pfl_xcalloc(1, sizeof(*p));
    atomic_init(&p->refs, 1);
    p->head = head;
    head = (struct pfl_buf){0};
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
    pfl_blob_unref(p->packed_in);
    free(p);
}

void pfl_payload_set_packed(struct pfl_payload *p, struct pfl_blob *blob, struct pfl_bytes packed, const uint8_t *digest)
{
    p->packed_in = pfl_blob_ref(blob);
    p->packed = packed;
    memcpy(p->packed_digest, digest, sizeof(p->packed_digest));
}

size_t pfl_payload_bytes(const struct pfl_payload *p)
{
    return p->head.len + p->model->layout->bytes;
}
