/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire mesh learning node */
/* A node that comes back with its old seed must not repeat its message hashes: peers would take its messages for old ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "node/node.h"

/* The hash of the first gossip message that a fresh node sends to its first neighbour. */
static int64_t first_hash(uint64_t seed, uint64_t entropy)
{
    const struct pfl_tensor_desc d = {.name = "x", .dtype = PFL_F32, .rank = 1, .shape = {2}};
    struct pfl_layout *layout = NULL;
    struct pfl_node_settings s;
    struct pfl_actions out = {0};
    struct pfl_hello hello = {.present = true, .version = 1};
    assert_int_equal(pfl_layout_new(&d, 1, &layout, NULL), PFL_OK);
    pfl_node_settings_default(&s);
    s.aggregator = pfl_aggregator_find("fedavg");
    s.seed = seed;
    s.entropy = entropy;
    struct pfl_node *n = pfl_node_new("127.0.0.1:1", layout, &s);
    struct pfl_event ev = {
        .kind = PFL_EV_HANDSHAKE, .now = PFL_SEC, .wall = PFL_SEC, .addr = "127.0.0.1:2", .hello = &hello, .call = 1};
    pfl_node_step(n, &ev, &out);
    ev = (struct pfl_event){.kind = PFL_EV_LINK_UP, .now = PFL_SEC, .wall = PFL_SEC, .addr = "127.0.0.1:2"};
    pfl_node_step(n, &ev, &out);
    int64_t hash = 0;
    bool found = false;
    for (size_t i = 0; i < out.n && !found; i++) {
        if (out.items[i].kind != PFL_ACT_SEND)
            continue;
        struct pfl_scatter *body = out.items[i].body;
        struct pfl_blob *b = pfl_blob_copy(body->parts[0].data, body->parts[0].len);
        struct pfl_msg *m = NULL;
        assert_int_equal(pfl_msg_decode(b, &m, NULL), PFL_OK);
        found = m->kind == PFL_MSG_GOSSIP;
        hash = m->hash;
        pfl_msg_unref(m);
        pfl_blob_unref(b);
    }
    assert_true(found);
    pfl_actions_deinit(&out);
    pfl_node_free(n);
    pfl_layout_unref(layout);
    return hash;
}

static void test_hashes__same_seed_other_start__differ(void **state)
{
    (void)state;
    assert_true(first_hash(7, 1) != first_hash(7, 2));
    assert_true(first_hash(7, 1) == first_hash(7, 1)); /* and in a simulation they repeat */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hashes__same_seed_other_start__differ)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
