/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire learning config runtime */
/* A node's learner from its configuration, on small data of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "learning/dummy.h"
#include "runtime/learner_setup.h"
#include "wire/payload.h"

enum { N = 50, SIDE = 28 };

static const char *const FILES[] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
                                    "t10k-labels-idx1-ubyte"};

struct env {
    char dir[32];
    struct pfl_learner_config c;
    struct pfl_settings s;
};

static int setup(void **state)
{
    struct env *e = calloc(1, sizeof(*e));
    memcpy(e->dir, "/tmp/pfl-setup-XXXXXX", 22);
    assert_non_null(mkdtemp(e->dir));
    for (unsigned i = 0; i < 4; i++) {
        bool images = i % 2 == 0;
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(e->dir, FILES[i]);
        pfl_buf_u32be(&b, images ? 0x0803 : 0x0801);
        pfl_buf_u32be(&b, N);
        for (unsigned k = 0; images && k < 2; k++)
            pfl_buf_u32be(&b, SIDE);
        for (unsigned k = 0; k < (images ? N * SIDE * SIDE : N); k++)
            pfl_buf_u8(&b, (uint8_t)(k % 10));
        assert_int_equal(pfl_fs_write_atomic(path, pfl_buf_view(&b), 0600, NULL), PFL_OK);
    }
    pfl_learner_config_default(&e->c);
    pfl_settings_default(&e->s);
    e->c.dataset_path = pfl_xstrdup(e->dir);
    e->c.part_count = 4;
    e->c.part_index = 1;
    *state = e;
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(FILES); i++) {
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(e->dir, FILES[i]);
        unlink(path);
    }
    rmdir(e->dir);
    pfl_learner_config_deinit(&e->c);
    pfl_settings_deinit(&e->s);
    free(e);
    return 0;
}

static void set(char **field, const char *value)
{
    free(*field);
    *field = pfl_xstrdup(value);
}

static void expect_refused(const struct env *e, enum pfl_rc rc, const char *says)
{
    struct pfl_learner l = {0};
    struct pfl_err err = {0};
    enum pfl_rc got = pfl_learner_setup(&e->c, &e->s, "a", &l, &err);
    if (got != rc || !strstr(err.msg, says) || l.self)
        fail_msg("code %d, \"%s\"; code %d with \"%s\" is expected", (int)got, err.msg, (int)rc, says);
}

static void test_setup__unknown_names__refused(void **state)
{
    struct env *e = *state;
    set(&e->c.model, "resnet");
    expect_refused(e, PFL_INVALID, "resnet");
    set(&e->c.model, "mlp");
    set(&e->c.partition, "sideways");
    expect_refused(e, PFL_INVALID, "sideways");
    set(&e->c.partition, "iid");
    set(&e->c.dataset, "imagenet");
    expect_refused(e, PFL_INVALID, "imagenet");
}

static void test_setup__data_missing_or_part_out_of_range__refused(void **state)
{
    struct env *e = *state;
    e->c.part_index = 4;
    expect_refused(e, PFL_INVALID, "part 4 of 4");
    set(&e->c.dataset_path, "/nonexistent");
    expect_refused(e, PFL_NOT_FOUND, "apt-get install dataset-fashion-mnist");
}

static struct pfl_model *fitted(const struct env *e, struct pfl_fit_result *r)
{
    struct pfl_learner l;
    struct pfl_err err = {0};
    struct pfl_metrics metrics;
    if (pfl_learner_setup(&e->c, &e->s, "a", &l, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = NULL;
    struct pfl_model *m = NULL;
    assert_int_equal(l.ops->init(l.self, &start, NULL), PFL_OK);
    assert_int_equal(l.ops->fit(l.self, start, 1, 1, NULL, NULL, &m, r, NULL), PFL_OK);
    assert_int_equal(l.ops->evaluate(l.self, m, &metrics, NULL), PFL_OK);
    assert_int_equal(metrics.n_samples, N); /* the test set is not divided */
    l.ops->free(l.self);
    return m;
}

static void test_setup__mlp__trains_on_its_part(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r;
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = fitted(e, &r);
    assert_int_equal(m->layout->n, 6);
    assert_int_equal(m->layout->tensors[0].shape[0], 256);
    assert_int_equal(m->layout->tensors[0].shape[1], SIDE * SIDE);
    assert_int_equal(r.n_samples, 13); /* 50 * 2 / 4 - 50 * 1 / 4 */
    assert_int_equal(r.n_steps, 1);
    e->c.batch_size = 5;
    e->c.reduction_factor = 0.5;
    pfl_model_unref(fitted(e, &r));
    assert_int_equal(r.n_samples, 6);
    assert_int_equal(r.n_steps, 2);
}

static bool same(const struct pfl_model *a, const struct pfl_model *b)
{
    return memcmp(a->data, b->data, a->layout->bytes) == 0;
}

static void test_setup__seeds__of_model_and_partition_before_the_run_s(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r;
    e->s.seed = 5;
    PFL_AUTO(pfl_model_freep) struct pfl_model *by_run = fitted(e, &r);
    e->c.has_model_seed = true;
    e->c.model_seed = 5;
    e->c.part_seed = 5;
    e->s.seed = 6;
    PFL_AUTO(pfl_model_freep) struct pfl_model *by_own = fitted(e, &r);
    e->c.part_seed = 7;
    PFL_AUTO(pfl_model_freep) struct pfl_model *other_part = fitted(e, &r);
    e->c.part_seed = 5;
    e->c.model_seed = 7;
    PFL_AUTO(pfl_model_freep) struct pfl_model *other_model = fitted(e, &r);
    assert_true(same(by_run, by_own));
    assert_false(same(by_own, other_part));
    assert_false(same(by_own, other_model));
}

static void test_setup__dummy_by_model_or_data__needs_no_files(void **state)
{
    struct env *e = *state;
    set(&e->c.dataset_path, "/nonexistent");
    e->c.dummy_values = 12;
    for (int by_model = 0; by_model < 2; by_model++) {
        set(&e->c.model, by_model ? "dummy" : "mlp");
        set(&e->c.dataset, by_model ? "fashion-mnist" : "dummy");
        struct pfl_learner l;
        assert_int_equal(pfl_learner_setup(&e->c, &e->s, "a", &l, NULL), PFL_OK);
        assert_string_equal(l.ops->name, "dummy");
        assert_int_equal(l.ops->layout(l.self)->bytes, 48);
        l.ops->free(l.self);
    }
}

/* ---- warm start ---- */

static void write_model(const char *path, struct pfl_model *m)
{
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    assert_int_equal(pfl_payload_new(m, &p, NULL), PFL_OK);
    pfl_buf_append(&b, p->head.data, p->head.len);
    pfl_buf_append(&b, m->data, m->layout->bytes);
    assert_int_equal(pfl_fs_write_atomic(path, pfl_buf_view(&b), 0600, NULL), PFL_OK);
}

/* The same tensors, the last one first in the file. */
static void write_reversed(const char *path, const struct pfl_model *m)
{
    struct pfl_tensor_desc descs[16] = {0};
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *layout = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *back = NULL;
    size_t n = m->layout->n;
    for (size_t i = 0; i < n; i++)
        descs[i] = m->layout->tensors[n - 1 - i];
    assert_int_equal(pfl_layout_new(descs, n, &layout, NULL), PFL_OK);
    assert_int_equal(pfl_model_new(layout, &back, NULL), PFL_OK);
    for (size_t i = 0; i < n; i++)
        memcpy(pfl_model_data_mut(back) + layout->tensors[i].offset, m->data + descs[i].offset, descs[i].bytes);
    write_model(path, back);
}

static struct pfl_model *initial(const struct env *e)
{
    struct pfl_learner l;
    struct pfl_err err = {0};
    struct pfl_model *m = NULL;
    if (pfl_learner_setup(&e->c, &e->s, "a", &l, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    assert_string_equal(l.ops->name, "trainer");
    assert_non_null(l.ops->steer);
    assert_int_equal(l.ops->init(l.self, &m, NULL), PFL_OK);
    l.ops->free(l.self);
    return m;
}

static void test_setup__warm_start__the_file_is_the_initial_model(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(e->dir, "start.safetensors");
    PFL_AUTO(pfl_model_freep) struct pfl_model *trained = fitted(e, &r);
    write_model(path, trained);
    e->c.warm_start = pfl_xstrdup(path);
    PFL_AUTO(pfl_model_freep) struct pfl_model *start = initial(e);
    assert_true(same(start, trained));
    pfl_model_unref(fitted(e, &r)); /* and it trains on */
    write_reversed(path, trained);
    PFL_AUTO(pfl_model_freep) struct pfl_model *reversed = initial(e);
    assert_true(same(reversed, trained));
    unlink(path);
}

static void test_setup__warm_start_of_another_model__refused(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(e->dir, "start.safetensors");
    PFL_AUTO(pfl_model_freep) struct pfl_model *trained = fitted(e, &r);
    e->c.warm_start = pfl_xstrdup(path);
    expect_refused(e, PFL_NOT_FOUND, "start.safetensors");
    write_model(path, trained);
    e->c.hidden[0] = 255;
    expect_refused(e, PFL_MALFORMED, "start.safetensors: tensor 'layers.0.weight': F32 (256, 784), F32 (255, 784) is expected");
    e->c.hidden[0] = 256;
    e->c.n_hidden = 1;
    expect_refused(e, PFL_MALFORMED, "6 tensors, 4 are expected");
    e->c.n_hidden = 2;
    set(&e->c.model, "lenet5");
    expect_refused(e, PFL_MALFORMED, "warm_start: ");
    set(&e->c.model, "mlp");
    PFL_AUTO(pfl_model_freep) struct pfl_model *nan = pfl_model_copy(trained);
    memset(pfl_model_data_mut(nan), 0xff, 4);
    write_model(path, nan);
    expect_refused(e, PFL_MALFORMED, "tensor 'layers.0.weight'");
    assert_int_equal(pfl_fs_write_atomic(path, pfl_bytes_of("{}", 2), 0600, NULL), PFL_OK);
    expect_refused(e, PFL_MALFORMED, "start.safetensors: safetensors: 2 bytes are too few");
    unlink(path);
}

#define WITH_ENV(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ENV(test_setup__unknown_names__refused),
        WITH_ENV(test_setup__data_missing_or_part_out_of_range__refused),
        WITH_ENV(test_setup__mlp__trains_on_its_part),
        WITH_ENV(test_setup__seeds__of_model_and_partition_before_the_run_s),
        WITH_ENV(test_setup__dummy_by_model_or_data__needs_no_files),
        WITH_ENV(test_setup__warm_start__the_file_is_the_initial_model),
        WITH_ENV(test_setup__warm_start_of_another_model__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
