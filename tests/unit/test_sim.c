/* SPDX-License-Identifier: Apache-2.0 */
/* Whole simulations: the same seed gives the same run, what is promised holds, and each checker finds the fault that it is for. */
/* link: base node sim */
/* timeout: 180 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/impl.h"

/* ---- scenarios ---- */

static void ring(struct pfl_sim_scenario *s, unsigned n)
{
    pfl_sim_scenario_default(s);
    s->n = n;
    s->seed = 7;
    for (unsigned i = 0; i < n; i++)
        pfl_sim_scenario_link(s, i, (i + 1) % n);
}

static void print_line(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "%s\n", line);
}

static struct pfl_sim_result run_with(struct pfl_sim_opts *o)
{
    struct pfl_sim_result r;
    struct pfl_sim *s = NULL;
    struct pfl_err err = {0};
    if (getenv("SIM_TRACE")) {
        o->trace = print_line;
        o->trace_messages = true;
    }
    if (pfl_sim_new(o, &s, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    pfl_sim_run(s, &r);
    pfl_sim_free(s);
    return r;
}

static struct pfl_sim_result run(const struct pfl_sim_scenario *sc)
{
    return run_with(&(struct pfl_sim_opts){.scenario = sc});
}

static void test_quiet_network__all_finish_with_one_model(void **state)
{
    struct pfl_sim_scenario sc;
    (void)state;
    ring(&sc, 6);
    struct pfl_sim_result r = run(&sc);
    assert_string_equal(r.failure, "");
    assert_int_equal(r.finished, 6);
    assert_true(r.one_model && !r.excused);
    assert_true(r.messages > 0 && r.virtual_s > 0);
    pfl_sim_scenario_deinit(&sc);
}

/* ---- one seed, one run ---- */

static void hash_line(void *user, const char *line)
{
    uint64_t *h = user;
    for (; *line; line++)
        *h = (*h ^ (uint8_t)*line) * UINT64_C(0x100000001b3);
}

static uint64_t hash_of_mixed(uint64_t seed)
{
    struct pfl_sim_scenario sc;
    struct pfl_sim_result r;
    struct pfl_sim *s = NULL;
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    ring(&sc, 9);
    sc.seed = seed;
    pfl_sim_mix(&sc);
    assert_int_equal(pfl_sim_scenario_check(&sc, NULL), PFL_OK);
    assert_int_equal(
        pfl_sim_new(&(struct pfl_sim_opts){.scenario = &sc, .trace = hash_line, .trace_messages = true, .user = &h}, &s, NULL),
        PFL_OK);
    pfl_sim_run(s, &r);
    pfl_sim_free(s);
    pfl_sim_scenario_deinit(&sc);
    return h;
}

static void test_same_seed__same_trace__another_seed__another(void **state)
{
    (void)state;
    assert_true(hash_of_mixed(3) == hash_of_mixed(3));
    assert_true(hash_of_mixed(3) != hash_of_mixed(4));
}

/* ---- single faults ---- */

static struct pfl_sim_result run_fault(enum pfl_sim_fault_kind kind, pfl_ns at, pfl_ns until, double factor, enum pfl_sim_lie lie)
{
    struct pfl_sim_scenario sc;
    ring(&sc, 6);
    sc.trainset_size = 6;
    sc.settings.vote_timeout = 10 * PFL_SEC;
    sc.settings.aggregation_timeout = 20 * PFL_SEC;
    struct pfl_sim_fault *f = pfl_sim_scenario_fault(&sc, kind, at, until);
    f->node = 2;
    f->factor = factor;
    f->lie = lie;
    f->amount = -1000 * PFL_SEC;
    f->disk = true;
    struct pfl_sim_result r = run(&sc);
    assert_string_equal(r.failure, "");
    pfl_sim_scenario_deinit(&sc);
    return r;
}

static void test_crash__the_others_finish(void **state)
{
    (void)state;
    struct pfl_sim_result r = run_fault(PFL_SIM_CRASH, PFL_SEC, PFL_NEVER, 1, 0);
    assert_int_equal(r.finished, 5);
    assert_true(r.one_model);
}

static void test_restart__is_up_at_the_end(void **state)
{
    (void)state;
    struct pfl_sim_result r = run_fault(PFL_SIM_RESTART, PFL_SEC, 4 * PFL_SEC, 1, 0);
    assert_int_equal(r.finished + r.stopped + r.idle, 6);
    assert_true(r.finished >= 5 && r.one_model);
}

static void test_restart__at_any_time__takes_up_what_it_was_in(void **state)
{
    (void)state;
    for (pfl_ns at = PFL_SEC / 10; at < 7 * PFL_SEC; at += PFL_SEC / 10) { /* before others evict it: nothing is lost */
        struct pfl_sim_result r = run_fault(PFL_SIM_RESTART, at, at + PFL_SEC, 1, 0);
        if (r.finished != 6 || !r.one_model)
            fail_msg("started anew at %.1f s: %u finished", (double)at / 1e9, r.finished);
    }
}

static void test_full_disk__the_node_goes_on(void **state)
{
    (void)state;
    struct pfl_sim_result r = run_fault(PFL_SIM_DISK_FULL, PFL_SEC, 3 * PFL_SEC, 1, 0);
    assert_int_equal(r.finished, 6);
    assert_true(r.one_model);
}

/* The end of the learning replaces a state that waits behind an older one, which is still on its way to the disk. */
enum { SLOW = 2 };
struct window {
    struct pfl_sim *s;
    pfl_ns opens, closes; /* since the learning began */
    unsigned resumed;
};

static bool look_for_window(void *user)
{
    struct window *w = user;
    const struct pfl_sim_disk *d = &w->s->nodes[SLOW].disk;
    bool open = d->writing && !d->writing->over && d->newest && d->newest->over;
    if (open && w->opens == 0)
        w->opens = w->s->now - w->s->learn_at;
    if (open)
        w->closes = w->s->now - w->s->learn_at;
    return false;
}

static void count_resumed(void *user, unsigned node, const struct pfl_note *note, const struct pfl_sim_traffic *traffic)
{
    struct window *w = user;
    (void)traffic;
    w->resumed += node == SLOW && note->kind == PFL_NOTE_RESUMED;
}

/* at 0: it is not killed. */
static struct window run_slow_disk(uint64_t seed, pfl_ns at)
{
    struct pfl_sim_scenario sc;
    struct pfl_sim_result r;
    struct pfl_err err = {0};
    struct window w = {0};
    const struct pfl_sim_opts o = {.scenario = &sc, .stop = look_for_window, .note = count_resumed, .user = &w};
    ring(&sc, 4);
    sc.seed = seed;
    sc.trainset_size = 4;
    struct pfl_sim_fault *f = pfl_sim_scenario_fault(&sc, PFL_SIM_SLOW_DISK, 0, PFL_NEVER);
    f->node = SLOW;
    f->factor = 100;
    if (at > 0) {
        f = pfl_sim_scenario_fault(&sc, PFL_SIM_RESTART, at, at + PFL_SEC);
        f->node = SLOW;
        f->disk = true;
    }
    if (pfl_sim_new(&o, &w.s, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    pfl_sim_run(w.s, &r);
    pfl_sim_free(w.s);
    pfl_sim_scenario_deinit(&sc);
    if (r.failed || r.finished != 4 || !r.one_model || r.excused)
        fail_msg("seed %llu, killed at %.3f s: %u finished; %s", (unsigned long long)seed, (double)at / 1e9, r.finished, r.failure);
    return w;
}

static void test_killed_while_the_end_waits_for_an_older_write__comes_back_to_it(void **state)
{
    unsigned windows = 0, resumed = 0, runs = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct window w = run_slow_disk(seed, 0);
        windows += w.opens > 0;
        for (unsigned k = 0; w.opens > 0 && k < 4; k++) {
            struct window killed = run_slow_disk(seed, w.opens + (w.closes - w.opens) * k / 4 + PFL_MS / 1000);
            assert_true(killed.opens == w.opens); /* it was in the window when it was killed */
            resumed += killed.resumed;
            runs++;
        }
    }
    print_message("%u windows, killed in them %u times, in the experiment again %u times\n", windows, runs, resumed);
    assert_true(windows >= 3 && resumed == runs); /* what says that it has ended had not begun to be written */
}

static void test_slow_disk__is_no_dead_node(void **state)
{
    (void)state;
    struct pfl_sim_result r = run_fault(PFL_SIM_SLOW_DISK, 0, PFL_NEVER, 1000, 0);
    assert_int_equal(r.finished, 6);
    assert_int_equal(r.evictions, 0);
}

static void test_short_pause__nobody_is_left_out(void **state)
{
    (void)state;
    struct pfl_sim_result r = run_fault(PFL_SIM_PAUSE, PFL_SEC / 2, 2 * PFL_SEC, 1, 0);
    assert_int_equal(r.finished, 6);
    assert_int_equal(r.evictions, 0);
    assert_true(r.one_model && !r.excused);
}

static void test_clock_jump__nobody_notices(void **state)
{
    (void)state;
    struct pfl_sim_result r = run_fault(PFL_SIM_CLOCK_JUMP, PFL_SEC / 2, PFL_NEVER, 1, 0);
    assert_int_equal(r.finished, 6);
    assert_int_equal(r.evictions, 0);
}

static void test_failing_learner__the_round_goes_on_without_it(void **state)
{
    (void)state;
    struct pfl_sim_result r = run_fault(PFL_SIM_FAIL_FIT, 0, PFL_NEVER, 1, 0);
    assert_int_equal(r.finished, 6);
    assert_true(r.one_model);
}

static void test_liars__the_others_finish_with_one_model(void **state)
{
    (void)state;
    for (enum pfl_sim_lie l = 0; l < PFL_SIM_LIES; l++) {
        struct pfl_sim_result r = run_fault(PFL_SIM_BYZANTINE, 0, PFL_NEVER, 1, l);
        if (r.finished < 5 || !r.one_model)
            fail_msg("%s: %u finished", pfl_sim_lie_name(l), r.finished);
    }
}

static void test_scenario_check__what_cannot_be__refused(void **state)
{
    static const struct {
        enum pfl_sim_fault_kind kind;
        unsigned node;
        pfl_ns at, until;
        double factor;
    } rows[] = {
        {PFL_SIM_CRASH, 6, 0, PFL_NEVER, 1},     {PFL_SIM_PAUSE, 1, 0, PFL_NEVER, 1},       {PFL_SIM_RESTART, 1, 5, 4, 1},
        {PFL_SIM_SLOW_NODE, 1, 0, PFL_NEVER, 0}, {PFL_SIM_CLOCK_DRIFT, 1, 0, PFL_NEVER, 9}, {PFL_SIM_PARTITION, 1, 0, 5, 1},
        {PFL_SIM_LINK_CUT, 1, 0, 5, 1},
    };
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_sim_scenario sc;
        struct pfl_err err = {0};
        ring(&sc, 6);
        struct pfl_sim_fault *f = pfl_sim_scenario_fault(&sc, rows[i].kind, rows[i].at, rows[i].until);
        f->node = rows[i].node;
        f->factor = rows[i].factor;
        assert_int_equal(pfl_sim_scenario_check(&sc, &err), PFL_INVALID);
        assert_true(strstr(err.msg, pfl_sim_fault_name(rows[i].kind)) != NULL);
        pfl_sim_scenario_deinit(&sc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quiet_network__all_finish_with_one_model),
        cmocka_unit_test(test_same_seed__same_trace__another_seed__another),
        cmocka_unit_test(test_crash__the_others_finish),
        cmocka_unit_test(test_restart__is_up_at_the_end),
        cmocka_unit_test(test_restart__at_any_time__takes_up_what_it_was_in),
        cmocka_unit_test(test_full_disk__the_node_goes_on),
        cmocka_unit_test(test_slow_disk__is_no_dead_node),
        cmocka_unit_test(test_killed_while_the_end_waits_for_an_older_write__comes_back_to_it),
        cmocka_unit_test(test_short_pause__nobody_is_left_out),
        cmocka_unit_test(test_clock_jump__nobody_notices),
        cmocka_unit_test(test_failing_learner__the_round_goes_on_without_it),
        cmocka_unit_test(test_liars__the_others_finish_with_one_model),
        cmocka_unit_test(test_scenario_check__what_cannot_be__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
