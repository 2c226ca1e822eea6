/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire tensor learning mesh node */
/* support: netsim */
/* timeout: 240 */
/* Whole experiments without faults: every shape of network, any starter, any train set. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/netsim.h"

static const pfl_ns limit = 120 * PFL_SEC;

static struct netsim *network(unsigned n, uint64_t seed, const char *topology)
{
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = n, .seed = seed, .skew_check = true});
    netsim_topology(s, topology);
    netsim_run_to_membership(s, 20 * PFL_SEC);
    return s;
}

static void two_nodes__three_rounds__same_model(void **state)
{
    (void)state;
    struct netsim *s = network(2, 1, "full");
    netsim_learn(s, 0, 3, 1, 2);
    assert_string_equal(netsim_last_answer(s), "");
    netsim_run_to_end(s, limit);
    netsim_run(s, netsim_now(s) + PFL_SEC); /* the last metrics are under way */
    netsim_check_equal(s, 3);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(netsim_count(s, i, PFL_NOTE_AGGREGATED), 3);
        assert_int_equal(netsim_count(s, i, PFL_NOTE_FIT), 3);
        assert_int_equal(netsim_count(s, i, PFL_NOTE_EXCLUDED), 0);
        assert_int_equal(netsim_count(s, i, PFL_NOTE_WARNING), 0);
        assert_int_equal(netsim_count(s, i, PFL_NOTE_REFUSED), 0);
        assert_int_equal(netsim_count(s, i, PFL_NOTE_METRICS), 2 * 4); /* three rounds and the end, own and the other's */
    }
    netsim_free(s);
}

static void one_node__alone__trains(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){.n = 1, .seed = 1});
    netsim_learn(s, 0, 2, 1, 4);
    netsim_run_to_end(s, limit);
    netsim_check_equal(s, 2);
    netsim_free(s);
}

static void four_nodes__any_topology__same_model(void **state)
{
    (void)state;
    static const char *const topologies[] = {"full", "line", "star", "ring"};
    for (size_t k = 0; k < PFL_ARRAY_LEN(topologies); k++) {
        struct netsim *s = network(4, 10 + k, topologies[k]);
        netsim_learn(s, 0, 5, 1, 4);
        netsim_run_to_end(s, limit);
        netsim_check_equal(s, 5);
        netsim_free(s);
    }
}

/* ---- compressed contributions ---- */

static struct netsim *packed_network(const char *topology, unsigned lacks)
{
    struct netsim_opts o = {.n = 3, .seed = 31, .packed = true};
    if (lacks < o.n)
        o.lacks_base[lacks] = true;
    struct netsim *s = netsim_new(&o);
    netsim_topology(s, topology);
    netsim_run_to_membership(s, 20 * PFL_SEC);
    netsim_learn(s, 0, 3, 1, 3);
    netsim_run_to_end(s, limit);
    netsim_check_equal(s, 3);
    return s;
}

static void compressed_contributions__everybody_has_the_base__none_goes_whole(void **state)
{
    (void)state;
    struct netsim *s = packed_network("full", NETSIM_NODES_MAX);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(netsim_came_packed(s, i), 6); /* three rounds, two others */
        assert_int_equal(netsim_came_whole(s, i), 0);
        assert_int_equal(netsim_count(s, i, PFL_NOTE_REFUSED), 0);
    }
    netsim_free(s);
}

static void compressed_contributions__a_member_lacks_the_base__refuses_and_gets_them_whole(void **state)
{
    (void)state;
    struct netsim *s = packed_network("full", 2);
    for (unsigned i = 0; i < 2; i++) {
        const struct pfl_note *refused = netsim_note(s, 2, PFL_NOTE_REFUSED, netsim_addr(s, i));
        assert_non_null(refused);
        assert_non_null(strstr(refused->text, "a difference to a model that this node does not have"));
        assert_int_equal(netsim_came_whole(s, i), 0);
    }
    assert_int_equal(netsim_came_whole(s, 2), 6);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(netsim_count(s, i, PFL_NOTE_AGGREGATED), 3);
        assert_int_equal(netsim_count(s, i, PFL_NOTE_EXCLUDED), 0);
    }
    netsim_free(s);
}

/* Its neighbour passes the third one's on as they came, or several in one, which is whole. */
static void compressed_contributions__the_end_of_a_line_lacks_the_base__goes_on(void **state)
{
    (void)state;
    struct netsim *s = packed_network("line", 2);
    assert_non_null(netsim_note(s, 2, PFL_NOTE_REFUSED, netsim_addr(s, 1)));
    assert_true(netsim_came_whole(s, 2) > 0);
    netsim_free(s);
}

static void four_nodes__each_starts__same_model(void **state)
{
    (void)state;
    for (unsigned starter = 0; starter < 4; starter++) {
        struct netsim *s = network(4, 20 + starter, "line");
        netsim_learn(s, starter, 3, 1, 4);
        netsim_run_to_end(s, limit);
        netsim_check_equal(s, 3);
        for (unsigned i = 0; i < 4; i++)
            assert_string_equal(netsim_note(s, i, PFL_NOTE_LEARNING_STARTED, NULL)->addr, netsim_addr(s, starter));
        netsim_free(s);
    }
}

static void train_set_smaller_than_network__the_others_adopt(void **state)
{
    (void)state;
    for (unsigned size = 1; size <= 5; size++) {
        struct netsim *s = network(6, 30 + size, "ring");
        netsim_learn(s, 2, 4, 1, size);
        netsim_run_to_end(s, limit);
        netsim_check_equal(s, 4);
        unsigned fits = 0, adopted = 0, aggregated = 0;
        for (unsigned i = 0; i < 6; i++) {
            fits += netsim_count(s, i, PFL_NOTE_FIT);
            adopted += netsim_count(s, i, PFL_NOTE_ADOPTED);
            aggregated += netsim_count(s, i, PFL_NOTE_AGGREGATED);
        }
        assert_int_equal(fits, 4 * size);
        assert_int_equal(aggregated, 4 * size);
        assert_int_equal(adopted, 4 * (6 - size));
        netsim_free(s);
    }
}

static void hundred_seeds__sizes_and_latencies__same_model(void **state)
{
    (void)state;
    static const char *const topologies[] = {"full", "line", "star", "ring"};
    for (uint64_t seed = 1; seed <= 100; seed++) {
        unsigned n = 2 + (unsigned)(seed % 7);
        struct netsim *s = netsim_new(&(struct netsim_opts){.n = n,
                                                            .seed = 1000 + seed,
                                                            .latency_min = PFL_MS / 10,
                                                            .latency_max = (pfl_ns)(1 + seed % 5 * 60) * PFL_MS,
                                                            .fit_min = PFL_MS,
                                                            .fit_max = (pfl_ns)(seed % 3) * PFL_SEC + 2 * PFL_MS,
                                                            .skew_check = true});
        netsim_topology(s, topologies[seed % 4]);
        netsim_run_to_membership(s, 20 * PFL_SEC);
        netsim_learn(s, (unsigned)(seed % n), 4, 1, 1 + (unsigned)(seed % 5));
        netsim_run_to_end(s, limit);
        netsim_check_equal(s, 4);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(netsim_count(s, i, PFL_NOTE_WARNING), 0);
            assert_int_equal(netsim_count(s, i, PFL_NOTE_REFUSED), 0);
            assert_int_equal(netsim_count(s, i, PFL_NOTE_EXCLUDED), 0);
        }
        netsim_free(s);
    }
}

static void same_seed__same_run(void **state)
{
    (void)state;
    uint8_t digests[2][PFL_DIGEST_LEN];
    pfl_ns ends[2];
    for (unsigned k = 0; k < 2; k++) {
        struct netsim *s = network(5, 77, "ring");
        netsim_learn(s, 0, 3, 1, 3);
        netsim_run_to_end(s, limit);
        memcpy(digests[k], netsim_note(s, 0, PFL_NOTE_LEARNING_FINISHED, NULL)->digest, PFL_DIGEST_LEN);
        ends[k] = netsim_now(s);
        netsim_free(s);
    }
    assert_memory_equal(digests[0], digests[1], PFL_DIGEST_LEN);
    assert_int_equal(ends[0], ends[1]);
}

/* A round is driven by events: with instant training it takes some round trips, not heartbeat or retry periods. */
static void instant_training__a_round_takes_round_trips_only(void **state)
{
    (void)state;
    struct netsim *s = netsim_new(&(struct netsim_opts){
        .n = 4, .seed = 5, .latency_min = PFL_MS, .latency_max = PFL_MS, .fit_min = PFL_MS, .fit_max = PFL_MS, .skew_check = true});
    netsim_topology(s, "line");
    netsim_run_to_membership(s, 3 * PFL_SEC);
    pfl_ns start = netsim_now(s);
    netsim_learn(s, 0, 10, 1, 4);
    netsim_run_to_end(s, limit);
    netsim_check_equal(s, 10);
    assert_true(netsim_now(s) - start < 3 * PFL_SEC); /* jobs of 1 to 20 ms each are most of it */
    netsim_free(s);
}

/* Nobody sends a model that is not needed: each member's to each other member once, nothing to adopt. */
static void everybody_trains__no_model_is_sent_twice(void **state)
{
    (void)state;
    struct netsim *s = network(4, 6, "full");
    netsim_learn(s, 0, 5, 1, 4);
    netsim_run_to_end(s, limit);
    assert_int_equal(netsim_sent(s, "init_model"), 3);
    assert_int_equal(netsim_sent(s, "partial_model"), 5 * 4 * 3);
    assert_int_equal(netsim_sent(s, "add_model"), 0);
    netsim_free(s);
}

static void second_experiment__after_the_first__works(void **state)
{
    (void)state;
    struct netsim *s = network(4, 7, "ring");
    netsim_learn(s, 0, 1, 1, 2);
    netsim_run_to_end(s, limit);
    netsim_check_equal(s, 1);
    netsim_learn(s, 3, 1, 1, 2); /* at once, while the first still spreads */
    assert_string_equal(netsim_last_answer(s), "");
    netsim_run_to_end(s, limit);
    netsim_check_equal(s, 1);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(netsim_count(s, i, PFL_NOTE_LEARNING_FINISHED), 2);
    netsim_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_nodes__three_rounds__same_model),
        cmocka_unit_test(one_node__alone__trains),
        cmocka_unit_test(four_nodes__any_topology__same_model),
        cmocka_unit_test(four_nodes__each_starts__same_model),
        cmocka_unit_test(compressed_contributions__everybody_has_the_base__none_goes_whole),
        cmocka_unit_test(compressed_contributions__a_member_lacks_the_base__refuses_and_gets_them_whole),
        cmocka_unit_test(compressed_contributions__the_end_of_a_line_lacks_the_base__goes_on),
        cmocka_unit_test(train_set_smaller_than_network__the_others_adopt),
        cmocka_unit_test(hundred_seeds__sizes_and_latencies__same_model),
        cmocka_unit_test(same_seed__same_run),
        cmocka_unit_test(instant_training__a_round_takes_round_trips_only),
        cmocka_unit_test(everybody_trains__no_model_is_sent_twice),
        cmocka_unit_test(second_experiment__after_the_first__works),
    };
    return cmocka_run_group_tests_name("node_run", tests, NULL, NULL);
}
