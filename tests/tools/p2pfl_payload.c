/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire learning */
/* P2PFL's payloads for a test with Python's own pickle: p2pfl_payload decode|encode <in >out
 *   decode: a payload comes in, the model goes out as safetensors (its tensors are named "0", "1", ...); or, with `decode LIKE`,
 * where LIKE is a safetensors file, into that file's layout encode: a safetensors file comes in, a payload goes out An error goes
 * to standard error and ends it with 1. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/str.h"
#include "learning/p2pfl_payload.h"
#include "wire/payload.h"

static int fail(const char *what)
{
    (void)fprintf(stderr, "%s\n", what);
    return 1;
}

static int put(const void *data, size_t len)
{
    return len == 0 || fwrite(data, len, 1, stdout) == 1 ? 0 : fail("standard output");
}

static int decode(struct pfl_bytes in, const char *like, struct pfl_err *err)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *shape = NULL, *model = NULL;
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *payload = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *file = NULL;
    if (like && (pfl_fs_read(like, 64 << 20, &file, err) != PFL_OK ||
                 pfl_safetensors_decode(file, 0, file->len, NULL, &shape, err) != PFL_OK))
        return fail(err->msg);
    size_t inner_max = shape ? pfl_p2pfl_inner_max(shape->layout) : 64 << 20;
    if (pfl_p2pfl_decode(in, shape ? shape->layout : NULL, inner_max, &model, err) != PFL_OK ||
        pfl_payload_new(model, &payload, err) != PFL_OK)
        return fail(err->msg);
    return put(payload->head.data, payload->head.len) | put(model->data, model->layout->bytes);
}

static int encode(struct pfl_bytes in, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(in.data, in.len);
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {.limit = 128 << 20};
    if (pfl_safetensors_decode(blob, 0, in.len, NULL, &model, err) != PFL_OK || pfl_p2pfl_encode(model, &out, err) != PFL_OK)
        return fail(err->msg);
    return put(out.data, out.len);
}

int main(int argc, char **argv)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf in = {.limit = 64 << 20};
    struct pfl_err err = {0};
    uint8_t chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof(chunk), stdin)) > 0)
        (void)pfl_buf_append(&in, chunk, n);
    if (argc >= 2 && pfl_streq(argv[1], "decode"))
        return decode(pfl_buf_view(&in), argc > 2 ? argv[2] : NULL, &err);
    if (argc == 2 && pfl_streq(argv[1], "encode"))
        return encode(pfl_buf_view(&in), &err);
    return fail("usage: p2pfl_payload decode [LIKE]|encode <in >out");
}
