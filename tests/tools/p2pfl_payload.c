/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire learning config runtime */
/* P2PFL's payloads for a test with Python's own pickle: p2pfl_payload decode|encode <in >out
 *   decode [LIKE]     a payload comes in, the model goes out as safetensors (its tensors are named "0", "1", ..., or, with LIKE, a
 *                     safetensors file, are those of that file)
 *   encode [OPTIONS]  a safetensors file comes in, a payload goes out. OPTIONS: a YAML file with the map that
 *                     settings.general.interop_compression has, and perhaps proximal_mu
 * An error goes to standard error and ends it with 1. */
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/str.h"
#include "runtime/pickled.h"
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
    struct pfl_p2pfl_info info = {0};
    if (like && (pfl_fs_read(like, 64 << 20, &file, err) != PFL_OK ||
                 pfl_safetensors_decode(file, 0, file->len, NULL, &shape, err) != PFL_OK))
        return fail(err->msg);
    size_t inner_max = shape ? pfl_p2pfl_inner_max(shape->layout) : 64 << 20;
    if (pfl_p2pfl_decode(in, shape ? shape->layout : NULL, inner_max, &model, &info, err) != PFL_OK ||
        pfl_payload_new(model, &payload, err) != PFL_OK)
        return fail(err->msg);
    if (info.has_proximal_mu)
        (void)fprintf(stderr, "proximal_mu %.17g\n", info.proximal_mu);
    return put(payload->head.data, payload->head.len) | put(model->data, model->layout->bytes);
}

static enum pfl_rc read_options(const char *path, struct pfl_p2pfl_options *ret, struct pfl_err *err)
{
    struct pfl_yaml_doc doc = {0};
    struct pfl_yaml *map = NULL;
    struct pfl_interop_compression c = {0};
    double mu = 0.0;
    enum pfl_rc rc = pfl_yaml_load(path, &doc, err);
    if (rc == PFL_OK)
        rc = pfl_yaml_double(&doc, doc.root, "proximal_mu", 0.0, 1e6, &mu, err);
    if (rc == PFL_OK)
        rc = pfl_yaml_map(&doc, doc.root, "compression", &map, err);
    if (rc == PFL_OK)
        rc = pfl_interop_compression_read(&doc, map, &c, err);
    pfl_yaml_deinit(&doc);
    *ret = pfl_pickled_options(&c);
    ret->proximal_mu = mu;
    return rc;
}

static int encode(struct pfl_bytes in, const char *options, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(in.data, in.len);
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    struct pfl_p2pfl_options opts = {0};
    if ((options && read_options(options, &opts, err) != PFL_OK) ||
        pfl_safetensors_decode(blob, 0, in.len, NULL, &model, err) != PFL_OK)
        return fail(err->msg);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {.limit = pfl_p2pfl_encoded_max(model->layout)};
    if (pfl_p2pfl_encode(model, &opts, &out, err) != PFL_OK)
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
    const char *file = argc > 2 ? argv[2] : NULL;
    if (argc >= 2 && pfl_streq(argv[1], "decode"))
        return decode(pfl_buf_view(&in), file, &err);
    if (argc >= 2 && pfl_streq(argv[1], "encode"))
        return encode(pfl_buf_view(&in), file, &err);
    return fail("usage: p2pfl_payload decode [LIKE]|encode [OPTIONS] <in >out");
}
