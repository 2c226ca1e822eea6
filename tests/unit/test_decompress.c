/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire learning */
/* Whose model a compressed contribution is a difference to. The techniques themselves: tests/integration/test_compression.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "learning/compression.h"

enum { ROWS = 20, COLUMNS = 10 };

struct env {
    struct pfl_layout *layout;
    struct pfl_model *base, *model;
    uint8_t digest[PFL_BASE_DIGEST_LEN];
    bool known; /* does the receiver have the base? */
    unsigned asked;
};

static struct pfl_model *model_of(struct pfl_layout *l, float first, float step)
{
    struct pfl_model *m = NULL;
    assert_int_equal(pfl_model_new(l, &m, NULL), PFL_OK);
    float *x = (float *)(void *)pfl_model_data_mut(m);
    for (size_t i = 0; i < ROWS * COLUMNS; i++)
        x[i] = first + step * (float)i;
    return m;
}

static int setup(void **state)
{
    const struct pfl_tensor_desc d = {.name = "w", .dtype = PFL_F32, .rank = 2, .shape = {ROWS, COLUMNS}};
    struct env *e = calloc(1, sizeof(*e));
    assert_int_equal(pfl_layout_new(&d, 1, &e->layout, NULL), PFL_OK);
    e->base = model_of(e->layout, 1.0F, 0.25F);
    e->model = model_of(e->layout, 2.0F, 0.5F);
    memset(e->digest, 0xab, sizeof(e->digest));
    e->known = true;
    *state = e;
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    pfl_model_unref(e->base);
    pfl_model_unref(e->model);
    pfl_layout_unref(e->layout);
    free(e);
    return 0;
}

static const struct pfl_model *base_of(void *user, const uint8_t *digest)
{
    struct env *e = user;
    e->asked++;
    assert_memory_equal(digest, e->digest, sizeof(e->digest));
    return e->known ? e->base : NULL;
}

static struct pfl_blob *packed(const struct env *e, enum pfl_technique t, struct pfl_model **ret_theirs)
{
    struct pfl_compressor c = {.spec = {.n = 1, .steps = {pfl_compression_step_default(t)}}};
    struct pfl_blob *b = NULL;
    struct pfl_err err = {0};
    if (pfl_compress(&c, e->base, e->digest, e->model, &b, ret_theirs, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    pfl_compressor_deinit(&c);
    return b;
}

static void test_decompress__with_the_base__what_the_sender_has(void **state)
{
    struct env *e = *state;
    PFL_AUTO(pfl_model_freep) struct pfl_model *theirs = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *ours = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = packed(e, PFL_TECHNIQUE_TOPK, &theirs);
    assert_int_equal(pfl_decompress(b, 0, b->len, e->layout, base_of, e, &ours, NULL), PFL_OK);
    assert_int_equal(e->asked, 1);
    assert_memory_equal(ours->data, theirs->data, e->layout->bytes);
    assert_memory_not_equal(ours->data, e->model->data, e->layout->bytes); /* a tenth of the changes came */
}

static void test_decompress__without_the_base__says_so(void **state)
{
    static const enum pfl_technique techniques[] = {PFL_TECHNIQUE_TOPK, PFL_TECHNIQUE_PTQ, PFL_TECHNIQUE_LOW_RANK};
    struct env *e = *state;
    e->known = false;
    for (size_t i = 0; i < PFL_ARRAY_LEN(techniques); i++) {
        PFL_AUTO(pfl_model_freep) struct pfl_model *theirs = NULL;
        PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = packed(e, techniques[i], &theirs);
        struct pfl_model *ours = NULL;
        struct pfl_err err = {0};
        assert_int_equal(pfl_decompress(b, 0, b->len, e->layout, base_of, e, &ours, &err), PFL_STATE);
        assert_null(ours);
        assert_non_null(strstr(err.msg, "it is a difference to a model that this node does not have"));
    }
    assert_int_equal(e->asked, PFL_ARRAY_LEN(techniques));
}

/* Bytes alone are no difference to anything. */
static void test_decompress__bytes_only__needs_no_base(void **state)
{
    struct env *e = *state;
    PFL_AUTO(pfl_model_freep) struct pfl_model *theirs = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *ours = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = packed(e, PFL_TECHNIQUE_ZSTD, &theirs);
    e->known = false;
    assert_int_equal(pfl_decompress(b, 0, b->len, e->layout, base_of, e, &ours, NULL), PFL_OK);
    assert_int_equal(e->asked, 0);
    assert_memory_equal(ours->data, e->model->data, e->layout->bytes);
}

#define WITH_ENV(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ENV(test_decompress__with_the_base__what_the_sender_has),
        WITH_ENV(test_decompress__without_the_base__says_so),
        WITH_ENV(test_decompress__bytes_only__needs_no_base),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
