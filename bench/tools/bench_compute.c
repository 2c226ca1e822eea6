/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire pki learning */
/* Aggregation and model codecs as a benchmark's party. Each line of standard input is carried out and answered with a line of JSON:
 *
 *   aggregate NAME N D     N models of D float32 in ten matrices of 100 columns; they are made at the first such line and stay
 *   read N D               all values of the same models are read once: the limit of any aggregation
 *   copy BYTES             memcpy of so many bytes into memory that was used before
 *   encode D | decode D    a model of D float32 to a safetensors payload with its digest, and back with all checks
 *   compress NAME D | decompress NAME D    a contribution of D float32, as a difference to another model: float16, int8, topk
 *                          (a tenth), low_rank, zlib, lzma, zstd. "bytes" is what goes on the wire. Compressing also decodes, since
 *                          a node contributes what its peers will see
 *
 * "seconds" is the work alone, in processor time of this process: one thread does it, and others' load falls out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/str.h"
#include "learning/aggregator.h"
#include "learning/compression.h"
#include "pki/digest.h"
#include "wire/payload.h"

enum { TENSORS = 10, COLUMNS = 100, MODELS_MAX = 64 };

struct models {
    struct pfl_contribution in[MODELS_MAX];
    size_t n, d;
};

static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "bench_compute: %s: %s\n", what, why);
    exit(1);
}

static struct pfl_layout *layout_of(size_t d)
{
    struct pfl_tensor_desc descs[TENSORS];
    memset(descs, 0, sizeof(descs));
    for (size_t i = 0; i < TENSORS; i++) {
        (void)snprintf(descs[i].name, sizeof(descs[i].name), "layer%zu", i);
        descs[i].dtype = PFL_F32;
        descs[i].rank = 2;
        descs[i].shape[0] = d / TENSORS / COLUMNS;
        descs[i].shape[1] = COLUMNS;
    }
    struct pfl_layout *layout = NULL;
    struct pfl_err err = {0};
    if (pfl_layout_new(descs, TENSORS, &layout, &err) != PFL_OK)
        die("layout", err.msg);
    return layout;
}

/* Values of both signs and many magnitudes from a fixed seed. */
static struct pfl_model *model_of(struct pfl_layout *layout, uint32_t seed)
{
    struct pfl_model *m = NULL;
    struct pfl_err err = {0};
    if (pfl_model_new(layout, &m, &err) != PFL_OK)
        die("model", err.msg);
    float *x = (float *)(void *)pfl_model_data_mut(m);
    uint32_t state = seed * 2654435761u + 1;
    for (size_t i = 0; i < layout->bytes / sizeof(float); i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)((double)state / 4294967296.0 - 0.5);
    }
    return m;
}

static void prepare(struct models *ms, size_t n, size_t d)
{
    if (n == 0 || n > MODELS_MAX || d == 0 || d % (TENSORS * COLUMNS) != 0)
        die("models", "1 to 64 of a multiple of 1000 values are wanted");
    if (ms->n == n && ms->d == d)
        return;
    for (size_t k = 0; k < ms->n; k++)
        pfl_model_unref(ms->in[k].model);
    struct pfl_layout *layout = layout_of(d);
    for (size_t k = 0; k < n; k++)
        ms->in[k] = (struct pfl_contribution){.model = model_of(layout, (uint32_t)k + 1), .n_samples = 1000 + 17 * k};
    pfl_layout_unref(layout);
    ms->n = n;
    ms->d = d;
}

static void models_free(struct models *ms)
{
    for (size_t k = 0; k < ms->n; k++)
        pfl_model_unref(ms->in[k].model);
    free(ms);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void report(double from, size_t bytes)
{
    double s = cpu_seconds() - from;
    printf("{\"seconds\":%.9f,\"gb_per_s\":%.3f}\n", s, (double)bytes / s / 1e9);
}

static void aggregate(struct models *ms, const char *name, size_t n, size_t d)
{
    const struct pfl_aggregator *a = pfl_aggregator_find(name);
    struct pfl_model *result = NULL;
    struct pfl_err err = {0};
    prepare(ms, n, d);
    if (!a)
        die("no such aggregator", name);
    double from = cpu_seconds();
    if (a->aggregate(a, ms->in, n, &result, &err) != PFL_OK)
        die(name, err.msg);
    report(from, n * d * sizeof(float));
    pfl_model_unref(result);
}

/* Eight sums, so that the loads are what takes the time; written down so that they are not left out. */
static void read_all(struct models *ms, size_t n, size_t d)
{
    static volatile uint64_t sink;
    prepare(ms, n, d);
    double from = cpu_seconds();
    uint64_t s[8] = {0};
    for (size_t k = 0; k < n; k++) {
        const uint64_t *x = (const uint64_t *)(const void *)ms->in[k].model->data;
        for (size_t i = 0; i + 8 <= ms->in[k].model->layout->bytes / sizeof(*x); i += 8)
            for (size_t j = 0; j < 8; j++)
                s[j] ^= x[i + j];
    }
    for (size_t j = 0; j < 8; j++)
        sink ^= s[j];
    report(from, n * d * sizeof(float));
}

static void copy(size_t bytes)
{
    static uint8_t *to, *from;
    static size_t len;
    if (len != bytes) {
        free(to);
        free(from);
        to = pfl_xmalloc(bytes);
        from = pfl_xmalloc(bytes);
        memset(to, 1, bytes);
        memset(from, 2, bytes);
        len = bytes;
    }
    double at = cpu_seconds();
    memcpy(to, from, bytes);
    report(at, bytes);
}

static void digest_of(const struct pfl_bytes *parts, size_t n, uint8_t out[PFL_DIGEST_LEN])
{
    PFL_AUTO(pfl_sha256_freep) struct pfl_sha256 *sha = pfl_sha256_new();
    for (size_t i = 0; i < n; i++)
        pfl_sha256_add(sha, parts[i]);
    pfl_sha256_end(sha, out);
}

static struct pfl_payload *payload_of(struct pfl_model *m)
{
    struct pfl_payload *p = NULL;
    struct pfl_err err = {0};
    if (pfl_payload_new(m, &p, &err) != PFL_OK)
        die("payload", err.msg);
    const struct pfl_bytes parts[] = {pfl_buf_view(&p->head), pfl_bytes_of(m->data, m->layout->bytes)};
    digest_of(parts, 2, p->digest);
    return p;
}

static void encode(struct models *ms, size_t d)
{
    prepare(ms, 1, d);
    double from = cpu_seconds();
    struct pfl_payload *p = payload_of(ms->in[0].model);
    report(from, d * sizeof(float));
    pfl_payload_unref(p);
}

/* As a node does with a model that arrives: digest, header, layout, every value finite. */
static void decode(struct models *ms, size_t d)
{
    struct pfl_model *got = NULL;
    struct pfl_err err = {0};
    uint8_t digest[PFL_DIGEST_LEN];
    prepare(ms, 1, d);
    struct pfl_payload *p = payload_of(ms->in[0].model);
    struct pfl_blob *blob = pfl_blob_new(pfl_payload_bytes(p));
    memcpy(blob->data, p->head.data, p->head.len);
    memcpy(blob->data + p->head.len, p->model->data, p->model->layout->bytes);
    double from = cpu_seconds();
    const struct pfl_bytes whole = pfl_bytes_of(blob->data, blob->len);
    digest_of(&whole, 1, digest);
    if (memcmp(digest, p->digest, sizeof(digest)) != 0 ||
        pfl_safetensors_decode(blob, 0, blob->len, p->model->layout, &got, &err) != PFL_OK ||
        pfl_model_check_finite(got, &err) != PFL_OK)
        die("decode", err.msg);
    report(from, d * sizeof(float));
    pfl_model_unref(got);
    pfl_blob_unref(blob);
    pfl_payload_unref(p);
}

/* ---- compression: model 1 as a difference to model 0 ---- */

static struct pfl_compression_step step_of(const char *name)
{
    enum pfl_technique t = PFL_TECHNIQUE_PTQ;
    if (pfl_technique_parse(name, &t)) {
        struct pfl_compression_step step = pfl_compression_step_default(t);
        step.threshold = 0.5; /* low_rank: of noise, whose singular values are all much alike, half */
        return step;
    }
    struct pfl_compression_step step = pfl_compression_step_default(PFL_TECHNIQUE_PTQ);
    if (strcmp(name, "int8") == 0)
        step.dtype = PFL_I8;
    else if (strcmp(name, "float16") != 0)
        die("no such technique", name);
    return step;
}

static const struct pfl_model *base_of(void *user, const uint8_t *digest)
{
    (void)digest;
    return user;
}

static struct pfl_blob *compressed(struct models *ms, const char *name)
{
    static const uint8_t base_digest[PFL_BASE_DIGEST_LEN] = {1};
    struct pfl_compressor c = {.spec = {.n = 1, .steps = {step_of(name)}}};
    struct pfl_blob *blob = NULL;
    struct pfl_model *same = NULL;
    struct pfl_err err = {0};
    if (pfl_compress(&c, ms->in[0].model, base_digest, ms->in[1].model, &blob, &same, &err) != PFL_OK)
        die(name, err.msg);
    pfl_model_unref(same);
    pfl_compressor_deinit(&c);
    return blob;
}

static void report_bytes(double from, size_t bytes)
{
    printf("{\"seconds\":%.9f,\"bytes\":%zu}\n", cpu_seconds() - from, bytes);
}

static void compress_it(struct models *ms, const char *name, size_t d)
{
    prepare(ms, 2, d);
    double from = cpu_seconds();
    struct pfl_blob *blob = compressed(ms, name);
    report_bytes(from, blob->len);
    pfl_blob_unref(blob);
}

static void decompress_it(struct models *ms, const char *name, size_t d)
{
    prepare(ms, 2, d);
    struct pfl_model *base = ms->in[0].model, *got = NULL;
    struct pfl_err err = {0};
    struct pfl_blob *blob = compressed(ms, name);
    double from = cpu_seconds();
    if (pfl_decompress(blob, 0, blob->len, base->layout, base_of, base, &got, &err) != PFL_OK)
        die(name, err.msg);
    report_bytes(from, blob->len);
    pfl_model_unref(got);
    pfl_blob_unref(blob);
}

static size_t number(const char *text)
{
    int64_t value = 0;
    if (!text || !pfl_parse_i64(text, 0, INT64_MAX, &value))
        die("not a number", text ? text : "(nothing)");
    return (size_t)value;
}

int main(void)
{
    char line[256];
    struct models *ms = pfl_xcalloc(1, sizeof(*ms));
    while (fgets(line, sizeof(line), stdin)) {
        char *w[4] = {0}, *rest = line;
        line[strcspn(line, "\n")] = '\0';
        for (size_t n = 0; n < 4 && rest; n++)
            w[n] = strsep(&rest, " ");
        if (strcmp(w[0], "aggregate") == 0 && w[3])
            aggregate(ms, w[1], number(w[2]), number(w[3]));
        else if (strcmp(w[0], "read") == 0 && w[2])
            read_all(ms, number(w[1]), number(w[2]));
        else if (strcmp(w[0], "copy") == 0)
            copy(number(w[1]));
        else if (strcmp(w[0], "encode") == 0)
            encode(ms, number(w[1]));
        else if (strcmp(w[0], "decode") == 0)
            decode(ms, number(w[1]));
        else if (strcmp(w[0], "compress") == 0 && w[2])
            compress_it(ms, w[1], number(w[2]));
        else if (strcmp(w[0], "decompress") == 0 && w[2])
            decompress_it(ms, w[1], number(w[2]));
        else
            die("no such command", line);
        (void)fflush(stdout);
    }
    models_free(ms);
    return 0;
}
