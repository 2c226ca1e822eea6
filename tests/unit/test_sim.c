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

#include "sim/sim.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quiet_network__all_finish_with_one_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
