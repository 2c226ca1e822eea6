/* SPDX-License-Identifier: Apache-2.0 */
/* The network model: latency, bandwidth, order, loss, duplicates, cuts, and that all of it comes from the seed. */
/* link: base sim */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim/net.h"

enum { N = 4000 };

static struct pfl_sim_net_opts plain(void)
{
    struct pfl_sim_net_opts o;
    pfl_sim_net_opts_default(&o);
    return o;
}

static void test_send__plain__within_the_latency_and_in_order(void **state)
{
    const struct pfl_sim_net_opts o = plain();
    struct pfl_sim_net *net = pfl_sim_net_new(&o, 3, 1);
    pfl_ns last = 0, now = 0;
    (void)state;
    for (int i = 0; i < N; i++) {
        now += PFL_MS / 10;
        struct pfl_sim_fate f = pfl_sim_net_send(net, 0, 1, 100, now);
        assert_false(f.lost || f.duplicated);
        assert_true(f.arrives >= now + o.latency_min && f.arrives <= now + o.latency_max);
        assert_true(f.arrives >= last);
        last = f.arrives;
    }
    pfl_sim_net_free(net);
}

static void test_send__bandwidth__messages_queue_up(void **state)
{
    struct pfl_sim_net_opts o = plain();
    o.latency_min = o.latency_max = PFL_MS;
    o.bandwidth = 1000;
    struct pfl_sim_net *net = pfl_sim_net_new(&o, 3, 1);
    (void)state;
    assert_true(pfl_sim_net_send(net, 0, 1, 500, 0).arrives == PFL_SEC / 2 + PFL_MS);
    assert_true(pfl_sim_net_send(net, 0, 1, 500, 0).arrives == PFL_SEC + PFL_MS);
    assert_true(pfl_sim_net_send(net, 1, 0, 500, 0).arrives == PFL_SEC / 2 + PFL_MS); /* another direction, another link */
    assert_true(pfl_sim_net_send(net, 0, 2, 500, 0).arrives == PFL_SEC / 2 + PFL_MS);
    assert_true(pfl_sim_net_send(net, 0, 1, 500, 9 * PFL_SEC).arrives == 9 * PFL_SEC + PFL_SEC / 2 + PFL_MS);
    pfl_sim_net_free(net);
}

static void assert_share(unsigned n, double want)
{
    double got = (double)n / N;
    if (got < want * 0.8 || got > want * 1.2)
        fail_msg("a share of %g, %g is wanted", got, want);
}

static void test_send__shares__are_kept(void **state)
{
    struct pfl_sim_net_opts o = plain();
    o.loss = 0.2;
    o.reply_loss = 0.1;
    o.duplicate = 0.15;
    o.reorder = 0.3;
    struct pfl_sim_net *net = pfl_sim_net_new(&o, 2, 9);
    unsigned lost = 0, twice = 0, overtaken = 0, mute = 0, arrived = 0;
    pfl_ns last = 0;
    (void)state;
    for (int i = 0; i < N; i++) {
        pfl_ns now = i * PFL_SEC / 1000;
        struct pfl_sim_fate f = pfl_sim_net_send(net, 0, 1, 10, now);
        bool no_answer;
        lost += f.lost;
        if (!f.lost) {
            arrived++;
            twice += f.duplicated;
            overtaken += f.arrives < last;
            last = f.arrives > last ? f.arrives : last;
        }
        assert_true(pfl_sim_net_reply(net, 1, 0, now, &no_answer) >= now + o.latency_min);
        mute += no_answer;
        assert_true(f.duplicated == (f.arrives_again != PFL_NEVER) && f.lost == (f.arrives == PFL_NEVER));
    }
    assert_share(lost, 0.2);
    assert_share(mute, 0.1);
    assert_share(twice, 0.15 * 0.8);
    assert_true(arrived > 0 && overtaken > N / 20);
    pfl_sim_net_free(net);
}

static void test_cut__counts_and_has_a_direction(void **state)
{
    const struct pfl_sim_net_opts o = plain();
    struct pfl_sim_net *net = pfl_sim_net_new(&o, 3, 1);
    bool lost;
    (void)state;
    pfl_sim_net_cut(net, 0, 1);
    pfl_sim_net_cut(net, 0, 1);
    assert_true(pfl_sim_net_send(net, 0, 1, 1, 0).lost);
    assert_false(pfl_sim_net_send(net, 1, 0, 1, 0).lost);
    assert_false(pfl_sim_net_send(net, 0, 2, 1, 0).lost);
    (void)pfl_sim_net_reply(net, 0, 1, 0, &lost);
    assert_true(lost);
    pfl_sim_net_mend(net, 0, 1);
    assert_false(pfl_sim_net_reaches(net, 0, 1));
    pfl_sim_net_mend(net, 0, 1);
    assert_true(pfl_sim_net_reaches(net, 0, 1));
    assert_false(pfl_sim_net_send(net, 0, 1, 1, 0).lost);
    pfl_sim_net_free(net);
}

static void test_slow__factor_holds_both_ways(void **state)
{
    struct pfl_sim_net_opts o = plain();
    o.latency_min = o.latency_max = 10 * PFL_MS;
    struct pfl_sim_net *net = pfl_sim_net_new(&o, 3, 1);
    (void)state;
    pfl_sim_net_slow(net, 1, 7);
    assert_true(pfl_sim_net_latency(net, 0, 1) == 70 * PFL_MS);
    assert_true(pfl_sim_net_latency(net, 1, 0) == 70 * PFL_MS);
    assert_true(pfl_sim_net_latency(net, 0, 2) == 10 * PFL_MS);
    pfl_sim_net_slow(net, 1, 1);
    assert_true(pfl_sim_net_latency(net, 0, 1) == 10 * PFL_MS);
    pfl_sim_net_free(net);
}

static void test_send__same_seed_same_fates__another_seed_others(void **state)
{
    struct pfl_sim_net_opts o = plain();
    o.loss = 0.1;
    o.latency_tail = 5 * PFL_MS;
    struct pfl_sim_net *a = pfl_sim_net_new(&o, 40, 5), *b = pfl_sim_net_new(&o, 40, 5), *c = pfl_sim_net_new(&o, 40, 6);
    unsigned other = 0;
    (void)state;
    for (unsigned i = 0; i < N; i++) { /* over many links: the table grows */
        struct pfl_sim_fate x = pfl_sim_net_send(a, i % 40, (i * 7 + 1) % 40, 10, i),
                            y = pfl_sim_net_send(b, i % 40, (i * 7 + 1) % 40, 10, i);
        assert_true(x.lost == y.lost && x.arrives == y.arrives);
        other += pfl_sim_net_send(c, i % 40, (i * 7 + 1) % 40, 10, i).arrives != x.arrives;
    }
    assert_true(other > N / 2);
    pfl_sim_net_free(a);
    pfl_sim_net_free(b);
    pfl_sim_net_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_send__plain__within_the_latency_and_in_order),
        cmocka_unit_test(test_send__bandwidth__messages_queue_up),
        cmocka_unit_test(test_send__shares__are_kept),
        cmocka_unit_test(test_cut__counts_and_has_a_direction),
        cmocka_unit_test(test_slow__factor_holds_both_ways),
        cmocka_unit_test(test_send__same_seed_same_fates__another_seed_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
