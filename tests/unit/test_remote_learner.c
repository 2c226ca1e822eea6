/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire learning rpc runtime */
/* timeout: 180 */
/* A learner in another process, tests/tools/learner_peer.c, as one that works and as one with each of its faults. No test waits for
 * a time of its own: what is measured are the limits that are set here. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/log.h"
#include "runtime/remote_learner.h"

static const char PEER[] = PFL_TEST_MODULES "/learner_peer";

struct env {
    char dir[40], once[64];
    struct pfl_strs command;
    struct pfl_learner_describe config;
    struct pfl_remote_opts opts;
    struct pfl_learner l; /* ops NULL: none */
    struct pfl_err err;
};

static int setup(void **state)
{
    struct env *e = calloc(1, sizeof(*e));
    (void)snprintf(e->dir, sizeof(e->dir), "/tmp/pfl-remote-XXXXXX");
    assert_non_null(mkdtemp(e->dir));
    (void)snprintf(e->once, sizeof(e->once), "%s/once", e->dir);
    pfl_strs_add(&e->command, PEER);
    (void)snprintf(e->config.node, sizeof(e->config.node), "node-1");
    e->config.part_index = 2;
    e->config.part_count = 3;
    e->config.seed = 666;
    e->opts = (struct pfl_remote_opts){.command = &e->command, .config = &e->config, .exchange = e->dir, .backoff_min = PFL_MS};
    *state = e;
    return 0;
}

static size_t entries(const char *dir, const char *prefix)
{
    size_t n = 0;
    struct dirent *d;
    DIR *all = opendir(dir);
    while ((d = readdir(all)))
        n += pfl_str_has_prefix(d->d_name, prefix);
    closedir(all);
    return n;
}

static int teardown(void **state)
{
    struct env *e = *state;
    if (e->l.ops)
        e->l.ops->free(e->l.self);
    assert_int_equal(entries(e->dir, "p2pfl-learner-"), 0); /* it takes its folder with it */
    unlink(e->once);
    assert_int_equal(rmdir(e->dir), 0);
    pfl_strs_deinit(&e->command);
    free(e);
    return 0;
}

static void param(struct env *e, const char *key, const char *value)
{
    struct pfl_learner_param *p = &e->config.params[e->config.n_params++];
    (void)snprintf(p->key, sizeof(p->key), "%s", key);
    (void)snprintf(p->value, sizeof(p->value), "%s", value);
}

static void fault(struct env *e, const char *name)
{
    param(e, "fault", name);
    param(e, "once", e->once);
}

static void start(struct env *e)
{
    enum pfl_rc rc = pfl_remote_learner_new(&e->opts, &e->l, &e->err);
    if (rc != PFL_OK)
        fail_msg("%s", e->err.msg);
}

static struct pfl_model *initial(struct env *e)
{
    struct pfl_model *m = NULL;
    if (e->l.ops->init(e->l.self, &m, &e->err) != PFL_OK)
        fail_msg("%s", e->err.msg);
    return m;
}

/* A fit of two epochs from `from`; *ret where it went well. */
static enum pfl_rc fit(struct env *e, struct pfl_model *from, struct pfl_model **ret, struct pfl_fit_result *result)
{
    pfl_err_clear(&e->err);
    return e->l.ops->fit(e->l.self, from, 2, 42, NULL, NULL, ret, result, &e->err);
}

static void assert_values(const struct pfl_model *m, float value)
{
    const float *w = (const float *)(const void *)m->data;
    assert_int_equal(m->layout->bytes, 8 * sizeof(float));
    for (size_t i = 0; i < 8; i++)
        assert_true(w[i] == value);
}

static void assert_says(const struct env *e, const char *part)
{
    if (!strstr(e->err.msg, part) || !strstr(e->err.msg, "learner '"))
        fail_msg("'%s' does not say '%s'", e->err.msg, part);
}

/* ---- one that works ---- */

static void test_works__fit_and_evaluate__parameters_go_there_and_back(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r = {0};
    struct pfl_metrics metrics = {0};
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *first = initial(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *second = NULL;
    assert_values(first, 1);
    assert_ptr_equal(e->l.ops->layout(e->l.self), first->layout);
    assert_int_equal(fit(e, first, &second, &r), PFL_OK);
    assert_values(second, 3);
    assert_true(r.n_samples == 102 && r.loss == 0.5 && r.n_steps == 2);
    assert_int_equal(e->l.ops->evaluate(e->l.self, second, &metrics, &e->err), PFL_OK);
    assert_true(metrics.loss == 3 && metrics.accuracy == 0.5);
    assert_int_equal(e->l.ops->evaluate(e->l.self, first, &metrics, &e->err), PFL_OK);
    assert_true(metrics.loss == 1);
}

static void test_steer__comes_with_each_fit_until_it_is_taken_back(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r = {0};
    param(e, "steerable", "1");
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *first = initial(e); /* all ones: as a correction it adds 1 */
    PFL_AUTO(pfl_model_freep) struct pfl_model *a = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *b = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *c = NULL;
    const struct pfl_fit_steer both = {0.5, first}, wrong = {-1, NULL};
    assert_int_equal(e->l.ops->steer(e->l.self, &both, NULL), PFL_OK);
    assert_int_equal(e->l.ops->steer(e->l.self, &wrong, NULL), PFL_INVALID);
    assert_int_equal(fit(e, first, &a, &r), PFL_OK);
    assert_values(a, 4.5f);
    assert_true(r.learning_rate == 0.25 && r.normaliser == 7);
    assert_int_equal(fit(e, first, &b, &r), PFL_OK);
    assert_values(b, 4.5f);
    assert_int_equal(e->l.ops->steer(e->l.self, NULL, NULL), PFL_OK);
    assert_int_equal(fit(e, first, &c, &r), PFL_OK);
    assert_values(c, 3);
}

static void test_steer__one_that_cannot_be__says_so(void **state)
{
    struct env *e = *state;
    start(e);
    assert_null(e->l.ops->steer); /* the contract's way to say it */
}

static void count(void *user, double done)
{
    unsigned *n = user;
    assert_true(done >= 0 && done <= 1);
    (*n)++;
}

static void test_progress__steps__are_told_to_the_worker(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r;
    unsigned n = 0;
    param(e, "steps", "20");
    param(e, "step_ms", "30");
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *first = initial(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *second = NULL;
    assert_int_equal(e->l.ops->fit(e->l.self, first, 1, 0, count, &n, &second, &r, &e->err), PFL_OK);
    assert_true(n > 0);
}

static void test_other_layout__is_refused_before_it_is_sent(void **state)
{
    struct env *e = *state;
    struct pfl_layout *layout = NULL;
    struct pfl_model *model = NULL, *out = NULL;
    struct pfl_fit_result r;
    const struct pfl_tensor_desc d = {.name = "w", .dtype = PFL_F32, .rank = 1, .shape = {8}};
    start(e);
    assert_int_equal(pfl_layout_new(&d, 1, &layout, NULL), PFL_OK);
    assert_int_equal(pfl_model_new(layout, &model, NULL), PFL_OK);
    assert_int_equal(fit(e, model, &out, &r), PFL_MALFORMED);
    pfl_model_unref(model);
    pfl_layout_unref(layout);
}

/* ---- one that does not come up ---- */

static void assert_no_start(struct env *e, enum pfl_rc rc, const char *says)
{
    assert_int_equal(pfl_remote_learner_new(&e->opts, &e->l, &e->err), rc);
    assert_null(e->l.ops);
    assert_says(e, says);
}

static void test_start__no_such_program__says_so(void **state)
{
    struct env *e = *state;
    pfl_strs_deinit(&e->command);
    pfl_strs_add(&e->command, "/nonexistent/learner");
    assert_no_start(e, PFL_IO, "no such file");
}

static void test_start__ends_at_once__says_how_and_its_last_line(void **state)
{
    struct env *e = *state;
    setenv("LEARNER_PEER_EXIT", "1", 1);
    assert_no_start(e, PFL_UNAVAILABLE, "ended with code 3: no module named torch");
    unsetenv("LEARNER_PEER_EXIT");
}

static void test_start__never_listens__says_so(void **state)
{
    struct env *e = *state;
    setenv("LEARNER_PEER_MUTE", "1", 1);
    e->opts.start_timeout = 300 * PFL_MS;
    assert_no_start(e, PFL_TIMEOUT, "does not listen on ");
    unsetenv("LEARNER_PEER_MUTE");
}

static void test_start__descriptions_that_will_not_do__say_why(void **state)
{
    struct env *e = *state;
    static const struct {
        const char *fault, *says;
        enum pfl_rc rc;
    } rows[] = {{"silent_describe", "has not described itself within", PFL_TIMEOUT},
                {"garbage_describe", "describes itself wrongly", PFL_MALFORMED},
                {"empty_describe", "has no tensor", PFL_MALFORMED},
                {"f64", "tensor 'w' is F64", PFL_UNSUPPORTED}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        e->config.n_params = 0;
        param(e, "fault", rows[i].fault);
        e->opts.start_timeout = pfl_streq(rows[i].fault, "silent_describe") ? 2 * PFL_SEC : 0;
        assert_no_start(e, rows[i].rc, rows[i].says);
    }
}

static void test_start__nobody_at_the_socket__says_so(void **state)
{
    struct env *e = *state;
    pfl_strs_deinit(&e->command);
    e->opts.socket = "/nonexistent/learner.sock";
    e->opts.start_timeout = 300 * PFL_MS;
    assert_no_start(e, PFL_TIMEOUT, "/nonexistent/learner.sock");
}

/* ---- one that fails while it works ---- */

/* Its first fit fails, its second goes well: what costs a fit does not cost the node. */
static void fails_once(struct env *e, enum pfl_rc rc, const char *says)
{
    struct pfl_fit_result r;
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *first = initial(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *second = NULL;
    assert_int_equal(fit(e, first, &second, &r), rc);
    assert_null(second);
    assert_says(e, says);
    if (fit(e, first, &second, &r) != PFL_OK)
        fail_msg("the second time too: %s", e->err.msg);
    assert_values(second, 3);
}

static void test_fit__ends_itself__says_how(void **state)
{
    fault(*state, "exit");
    fails_once(*state, PFL_UNAVAILABLE, "ended with code 7: out of memory on the accelerator");
}

static void test_fit__killed__says_by_what(void **state)
{
    fault(*state, "kill");
    fails_once(*state, PFL_UNAVAILABLE, "was killed by signal 9");
}

static void test_fit__hangs__is_ended_after_the_silence(void **state)
{
    struct env *e = *state;
    fault(e, "hang");
    e->opts.silence_timeout = 2 * PFL_SEC;
    fails_once(e, PFL_TIMEOUT, "gave no sign of life for 2.0 s in its fit");
}

static void test_fit__stopped__is_ended_after_the_silence(void **state)
{
    struct env *e = *state;
    fault(e, "stop");
    e->opts.silence_timeout = 2 * PFL_SEC;
    fails_once(e, PFL_TIMEOUT, "gave no sign of life for 2.0 s in its fit");
}

static void test_fit__slow_with_beats__is_no_silence(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r;
    param(e, "steps", "15");
    param(e, "step_ms", "200"); /* 3 s in all */
    e->opts.silence_timeout = 2 * PFL_SEC;
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *first = initial(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *second = NULL;
    if (fit(e, first, &second, &r) != PFL_OK)
        fail_msg("%s", e->err.msg);
}

static void test_fit__garbage__is_ended(void **state)
{
    fault(*state, "garbage");
    fails_once(*state, PFL_MALFORMED, "answers its fit with nonsense");
}

static void test_fit__short_file__is_ended(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r;
    start(e); /* the fault is to come with the fit, not with the initial parameters */
    PFL_AUTO(pfl_model_freep) struct pfl_model *first = initial(e);
    e->l.ops->free(e->l.self);
    e->l.ops = NULL;
    param(e, "fault", "short");
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *second = NULL;
    assert_int_equal(fit(e, first, &second, &r), PFL_MALFORMED);
    assert_says(e, "wrote 3 bytes of parameters, its own description asks for 32");
}

static void test_fit__nan__costs_the_fit(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r;
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *first = initial(e);
    e->l.ops->free(e->l.self);
    e->l.ops = NULL;
    fault(e, "nan");
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *second = NULL;
    assert_int_equal(fit(e, first, &second, &r), PFL_MALFORMED);
    assert_says(e, "gave no usable parameters");
    assert_int_equal(fit(e, first, &second, &r), PFL_OK);
}

static void test_fit__results_that_cannot_be__cost_the_fit(void **state)
{
    static const struct {
        const char *fault, *says;
        enum pfl_rc rc;
    } rows[] = {{"loss_nan", "which is no number", PFL_INVALID},
                {"no_samples", "0 samples", PFL_INVALID},
                {"fail", "failed in Fit: INTERNAL: the data is not there", PFL_IO}};
    struct env *e = *state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        e->config.n_params = 0;
        fault(e, rows[i].fault);
        fails_once(e, rows[i].rc, rows[i].says);
        e->l.ops->free(e->l.self);
        e->l.ops = NULL;
        unlink(e->once);
    }
}

static void test_evaluate__no_share__costs_the_evaluation(void **state)
{
    struct env *e = *state;
    struct pfl_metrics m;
    fault(e, "accuracy");
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *first = initial(e);
    assert_int_equal(e->l.ops->evaluate(e->l.self, first, &m, &e->err), PFL_INVALID);
    assert_says(e, "the accuracy 2");
    assert_int_equal(e->l.ops->evaluate(e->l.self, first, &m, &e->err), PFL_OK);
}

static void test_back_off__fails_again_and_again__the_call_does_not_wait(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r;
    struct pfl_model *second = NULL;
    param(e, "fault", "exit"); /* in every fit */
    e->opts.backoff_min = 1000 * PFL_SEC;
    e->opts.backoff_max = 1000 * PFL_SEC;
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *first = initial(e);
    assert_int_equal(fit(e, first, &second, &r), PFL_UNAVAILABLE);
    assert_int_equal(fit(e, first, &second, &r), PFL_UNAVAILABLE);
    assert_says(e, "is not there (it ended with code 7: out of memory on the accelerator), and is started again in ");
}

/* The first process describes one tensor more than the second: the model of a node does not change while it runs. */
static void test_restart__another_shape__is_refused(void **state)
{
    struct env *e = *state;
    struct pfl_metrics m;
    fault(e, "shape_then_abort");
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *other = NULL;
    assert_int_equal(pfl_model_new(e->l.ops->layout(e->l.self), &other, NULL), PFL_OK);
    assert_int_equal(e->l.ops->evaluate(e->l.self, other, &m, &e->err), PFL_UNAVAILABLE); /* it cannot take what it described */
    assert_int_equal(e->l.ops->evaluate(e->l.self, other, &m, &e->err), PFL_MALFORMED);
    assert_says(e, "describes itself wrongly: tensor 'w': ");
}

/* ---- interrupt and end ---- */

static void interrupt_it(void *user, double done)
{
    struct env *e = user;
    (void)done;
    e->l.ops->interrupt(e->l.self); /* from the worker itself: from any thread, says the contract */
}

static void test_interrupt__while_it_trains__is_canceled_and_goes_on(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r;
    struct pfl_metrics m;
    param(e, "steps", "1000000");
    param(e, "step_ms", "10");
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *first = initial(e);
    struct pfl_model *second = NULL;
    e->l.ops->interrupt(e->l.self); /* between calls: forgotten */
    assert_int_equal(e->l.ops->fit(e->l.self, first, 1, 0, interrupt_it, e, &second, &r, &e->err), PFL_CANCELED);
    assert_int_equal(e->l.ops->evaluate(e->l.self, first, &m, &e->err), PFL_OK);
}

static void test_interrupt__unheeded__ends_the_process(void **state)
{
    struct env *e = *state;
    struct pfl_fit_result r;
    struct pfl_metrics m;
    param(e, "steps", "1000000");
    param(e, "step_ms", "10");
    fault(e, "deaf");
    e->opts.interrupt_timeout = 200 * PFL_MS;
    start(e);
    PFL_AUTO(pfl_model_freep) struct pfl_model *first = initial(e);
    struct pfl_model *second = NULL;
    assert_int_equal(e->l.ops->fit(e->l.self, first, 1, 0, interrupt_it, e, &second, &r, &e->err), PFL_CANCELED);
    assert_int_equal(e->l.ops->evaluate(e->l.self, first, &m, &e->err), PFL_OK); /* the next process */
}

/* ---- output ---- */

struct lines {
    unsigned n, left_out;
};

static void on_line(void *user, enum pfl_log_level level, const char *line)
{
    struct lines *l = user;
    (void)level;
    l->n += strstr(line, "node-1: learner: line ") != NULL;
    l->left_out += strstr(line, "lines left out") != NULL;
}

static void test_output__ten_thousand_lines__are_bounded(void **state)
{
    struct env *e = *state;
    struct lines lines = {0};
    param(e, "fault", "chatty");
    pfl_log_set_sink(on_line, &lines);
    start(e);
    pfl_model_unref(initial(e));
    e->l.ops->free(e->l.self);
    e->l.ops = NULL;
    pfl_log_set_sink(NULL, NULL);
    assert_true(lines.n >= 100 && lines.n < 5000);
    assert_true(lines.left_out > 0);
}

/* ---- the folder ---- */

static void test_folder__left_by_a_killed_node__is_removed(void **state)
{
    struct env *e = *state;
    char left[128], lock[160];
    (void)snprintf(left, sizeof(left), "%s/p2pfl-learner-left00", e->dir);
    (void)snprintf(lock, sizeof(lock), "%s/lock", left);
    assert_int_equal(mkdir(left, 0700), 0);
    assert_int_equal(pfl_fs_write_new(lock, pfl_bytes_of("", 0), 0600, NULL), PFL_OK);
    start(e);
    assert_int_equal(entries(e->dir, "p2pfl-learner-"), 1); /* its own */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_works__fit_and_evaluate__parameters_go_there_and_back),
        T(test_steer__comes_with_each_fit_until_it_is_taken_back),
        T(test_steer__one_that_cannot_be__says_so),
        T(test_progress__steps__are_told_to_the_worker),
        T(test_other_layout__is_refused_before_it_is_sent),
        T(test_start__no_such_program__says_so),
        T(test_start__ends_at_once__says_how_and_its_last_line),
        T(test_start__never_listens__says_so),
        T(test_start__descriptions_that_will_not_do__say_why),
        T(test_start__nobody_at_the_socket__says_so),
        T(test_fit__ends_itself__says_how),
        T(test_fit__killed__says_by_what),
        T(test_fit__hangs__is_ended_after_the_silence),
        T(test_fit__stopped__is_ended_after_the_silence),
        T(test_fit__slow_with_beats__is_no_silence),
        T(test_fit__garbage__is_ended),
        T(test_fit__short_file__is_ended),
        T(test_fit__nan__costs_the_fit),
        T(test_fit__results_that_cannot_be__cost_the_fit),
        T(test_evaluate__no_share__costs_the_evaluation),
        T(test_back_off__fails_again_and_again__the_call_does_not_wait),
        T(test_restart__another_shape__is_refused),
        T(test_interrupt__while_it_trains__is_canceled_and_goes_on),
        T(test_interrupt__unheeded__ends_the_process),
        T(test_output__ten_thousand_lines__are_bounded),
        T(test_folder__left_by_a_killed_node__is_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
