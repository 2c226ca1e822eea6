/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire learning */
/* Compression, for a test with NumPy: compress STEPS ROUNDS RANK A B C <in >out
 * STEPS: "topk:0.1,ptq:I8:asymmetric:channel" and the like; RANK 1 to 3 and the shape A, B, C of tensor "w"; the model has two more
 * values in "b" and three integers. Standard input, for each round: the base and the model, as floats of w and b. Standard output,
 * for each round: u64 bytes of the message, then w and b as a receiver decodes them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "learning/compression.h"

static int fail(const char *what)
{
    (void)fprintf(stderr, "%s\n", what);
    return 1;
}

static bool parse_step(char *text, struct pfl_compression_step *ret)
{
    char *save = NULL, *word = strtok_r(text, ":", &save);
    enum pfl_technique t;
    if (!word || !pfl_technique_parse(word, &t))
        return false;
    *ret = pfl_compression_step_default(t);
    while ((word = strtok_r(NULL, ":", &save))) {
        if (pfl_streq(word, "asymmetric"))
            ret->asymmetric = true;
        else if (pfl_streq(word, "channel"))
            ret->per_channel = true;
        else if (pfl_streq(word, "axis1"))
            ret->channel_axis = 1;
        else if (pfl_streq(word, "forget"))
            ret->error_feedback = false;
        else if (pfl_streq(word, "laplace"))
            ret->laplace = true;
        else if (!pfl_dtype_parse(word, &ret->dtype))
            ret->k = ret->threshold = ret->noise_multiplier = strtod(word, NULL);
    }
    return true;
}

static bool parse(char *text, struct pfl_compression *ret)
{
    char *save = NULL;
    for (char *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        if (ret->n == PFL_TECHNIQUES || !parse_step(word, &ret->steps[ret->n++]))
            return false;
    }
    return true;
}

static struct pfl_model *read_model(struct pfl_layout *l)
{
    struct pfl_model *m = NULL;
    size_t n = l->tensors[2].offset;
    if (pfl_model_new(l, &m, NULL) == PFL_OK && fread(pfl_model_data_mut(m), 1, n, stdin) == n) {
        memset(pfl_model_data_mut(m) + n, 0x5a, l->tensors[2].bytes);
        return m;
    }
    pfl_model_unref(m);
    return NULL;
}

static const struct pfl_model *base_of(void *user, const uint8_t *digest)
{
    return digest[0] == 7 ? user : NULL;
}

static enum pfl_rc one_round(struct pfl_compressor *c, struct pfl_layout *l, struct pfl_err *err)
{
    uint8_t digest[PFL_BASE_DIGEST_LEN];
    memset(digest, 7, sizeof(digest));
    PFL_AUTO(pfl_model_freep) struct pfl_model *base = read_model(l);
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = base ? read_model(l) : NULL;
    if (!model)
        return pfl_err_set(err, PFL_IO, "the input ended early");
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *own = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *theirs = NULL;
    enum pfl_rc rc = pfl_compress(c, base, digest, model, &blob, &own, err);
    if (rc == PFL_OK)
        rc = pfl_decompress(blob, 0, blob->len, l, base_of, base, &theirs, err);
    if (rc != PFL_OK)
        return rc;
    if (memcmp(own->data, theirs->data, l->bytes) != 0)
        return pfl_err_set(err, PFL_INVALID, "the sender and the receiver have different models");
    if (memcmp(theirs->data + l->tensors[2].offset, model->data + l->tensors[2].offset, l->tensors[2].bytes) != 0)
        return pfl_err_set(err, PFL_INVALID, "the integers changed");
    uint64_t bytes = blob->len;
    bool ok = fwrite(&bytes, sizeof(bytes), 1, stdout) == 1 &&
              fwrite(theirs->data, 1, l->tensors[2].offset, stdout) == l->tensors[2].offset;
    return ok ? PFL_OK : pfl_err_set(err, PFL_IO, "standard output");
}

int main(int argc, char **argv)
{
    int64_t rounds, rank, shape[3];
    struct pfl_compressor c = {0};
    struct pfl_err err = {0};
    if (argc != 7 || !parse(argv[1], &c.spec) || !pfl_parse_i64(argv[2], 1, 1000, &rounds) ||
        !pfl_parse_i64(argv[3], 1, 3, &rank) || !pfl_parse_i64(argv[4], 0, 1 << 20, &shape[0]) ||
        !pfl_parse_i64(argv[5], 1, 100000, &shape[1]) || !pfl_parse_i64(argv[6], 1, 100000, &shape[2]))
        return fail("usage: compress STEPS ROUNDS RANK A B C");
    if (pfl_compression_check(&c.spec, &err) != PFL_OK)
        return fail(err.msg);
    struct pfl_tensor_desc descs[] = {{.name = "w", .dtype = PFL_F32, .rank = (unsigned)rank},
                                      {.name = "b", .dtype = PFL_F32, .rank = 1, .shape = {2}},
                                      {.name = "n", .dtype = PFL_I32, .rank = 1, .shape = {3}}};
    for (int i = 0; i < rank; i++)
        descs[0].shape[i] = (size_t)shape[i];
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = NULL;
    enum pfl_rc rc = pfl_layout_new(descs, 3, &l, &err);
    for (int64_t r = 0; r < rounds && rc == PFL_OK; r++)
        rc = one_round(&c, l, &err);
    pfl_compressor_deinit(&c);
    return rc == PFL_OK ? 0 : fail(err.msg);
}
