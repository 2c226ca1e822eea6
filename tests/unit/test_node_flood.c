/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire mesh learning node */
/* A node between two neighbours, when there is more gossip than one of them takes at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mesh/limits.h"
#include "node/node.h"

static const char *const a = "10.0.0.1:1", *const b = "10.0.0.2:1", *const far_away = "10.0.0.9:1";
enum { MANY = 5 * PFL_WINDOW };

struct bench {
    struct pfl_layout *layout;
    struct pfl_node *n;
    struct pfl_actions out;
    pfl_ns now;
    /* gossip under way to b: what (its hash) and the calls' ids, in order */
    int64_t what[4 * MANY];
    uint64_t ids[4 * MANY];
    size_t n_sent, n_to_a, n_beats;
};

static struct pfl_msg *message_of(const struct pfl_scatter *body)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_new(body->total);
    struct pfl_msg *m = NULL;
    size_t off = 0;
    for (size_t i = 0; i < body->n; i++) {
        memcpy(blob->data + off, body->parts[i].data, body->parts[i].len);
        off += body->parts[i].len;
    }
    assert_int_equal(pfl_msg_decode(blob, &m, NULL), PFL_OK);
    return m;
}

static void step(struct bench *x, struct pfl_event ev)
{
    pfl_actions_clear(&x->out);
    ev.now = ev.wall = x->now;
    pfl_node_step(x->n, &ev, &x->out);
    for (size_t i = 0; i < x->out.n; i++) {
        const struct pfl_action *act = &x->out.items[i];
        if (act->kind != PFL_ACT_SEND)
            continue;
        PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = message_of(act->body);
        x->n_beats += strcmp(m->cmd, "beats") == 0;
        x->n_to_a += m->kind == PFL_MSG_GOSSIP && strcmp(act->addr, a) == 0;
        if (m->kind != PFL_MSG_GOSSIP || strcmp(act->addr, b) != 0)
            continue;
        assert_true(x->n_sent < PFL_ARRAY_LEN(x->what));
        x->what[x->n_sent] = m->hash;
        x->ids[x->n_sent++] = act->id;
    }
}

static void link_with(struct bench *x, const char *addr)
{
    static char beats[] = "beats";
    static char *features[] = {beats};
    const struct pfl_hello hello = {.present = true, .version = 1, .features = {features, 1, 1}};
    step(x, (struct pfl_event){.kind = PFL_EV_HANDSHAKE, .addr = addr, .hello = &hello, .call = 1});
    step(x, (struct pfl_event){.kind = PFL_EV_LINK_UP, .addr = addr});
}

static struct bench *bench_new(void)
{
    const struct pfl_tensor_desc d = {.name = "x", .dtype = PFL_F32, .rank = 1, .shape = {2}};
    struct bench *x = pfl_xcalloc(1, sizeof(*x));
    struct pfl_node_settings s;
    assert_int_equal(pfl_layout_new(&d, 1, &x->layout, NULL), PFL_OK);
    pfl_node_settings_default(&s);
    x->n = pfl_node_new("10.0.0.3:1", x->layout, &s);
    x->now = 100 * PFL_SEC;
    link_with(x, a);
    link_with(x, b);
    x->n_beats = 0;
    return x;
}

static void bench_free(struct bench *x)
{
    pfl_actions_deinit(&x->out);
    pfl_node_free(x->n);
    pfl_layout_unref(x->layout);
    free(x);
}

/* by NULL: it is not known who delivers it. */
static void hear(struct bench *x, int64_t hash, const char *by)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new(far_away, 0, "models_ready", PFL_MSG_GOSSIP), *got = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    m->ttl = 5;
    m->hash = hash;
    assert_int_equal(pfl_msg_encode(m, NULL, &body, NULL), PFL_OK);
    got = message_of(body);
    step(x, (struct pfl_event){.kind = PFL_EV_MESSAGE, .msg = got, .addr = by, .call = 9});
}

static void answered(struct bench *x, size_t i, enum pfl_rc rc)
{
    step(x, (struct pfl_event){.kind = PFL_EV_SENT, .id = x->ids[i], .rc = rc, .text = ""});
}

static void more_than_a_window__waits_its_turn__and_goes_out_in_order(void **state)
{
    struct bench *x = bench_new();
    (void)state;
    for (int64_t h = 1; h <= MANY; h++)
        hear(x, h, a);
    assert_int_equal(x->n_sent, PFL_WINDOW);
    for (size_t i = 0; i < MANY; i++) {
        answered(x, i, PFL_OK);
        assert_int_equal(x->n_sent, i + 1 + PFL_WINDOW < MANY ? i + 1 + PFL_WINDOW : MANY);
    }
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(x->what[i], i + 1);
    assert_int_equal(x->n_to_a, 0); /* it sent them */
    bench_free(x);
}

static void who_delivers_it_is_not_known__everybody_is_given_it(void **state)
{
    struct bench *x = bench_new();
    (void)state;
    hear(x, 1, NULL);
    assert_int_equal(x->n_sent, 1);
    assert_int_equal(x->n_to_a, 1);
    bench_free(x);
}

static void what_comes_while_it_waits__need_not_be_sent_there(void **state)
{
    struct bench *x = bench_new();
    (void)state;
    for (int64_t h = 1; h <= MANY; h++)
        hear(x, h, a);
    for (int64_t h = PFL_WINDOW + 1; h < MANY; h++)
        hear(x, h, b);
    for (size_t i = 0; i < x->n_sent; i++)
        answered(x, i, PFL_OK);
    assert_int_equal(x->n_sent, PFL_WINDOW + 1);
    assert_int_equal(x->what[PFL_WINDOW], MANY);
    bench_free(x);
}

static void beats__do_not_wait(void **state)
{
    struct bench *x = bench_new();
    (void)state;
    for (int64_t h = 1; h <= MANY; h++)
        hear(x, h, a);
    x->n_beats = 0;
    x->now += 2100 * PFL_MS;
    step(x, (struct pfl_event){.kind = PFL_EV_TICK});
    assert_int_equal(x->n_beats, 2);
    bench_free(x);
}

/* In silence calls are lost for ten seconds each. */
static void calls_that_nobody_answers__do_not_hold_up_the_others(void **state)
{
    struct bench *x = bench_new();
    (void)state;
    for (int64_t h = 1; h <= MANY; h++)
        hear(x, h, a);
    assert_true(pfl_node_deadline(x->n) - x->now <= PFL_SEC);
    x->now = pfl_node_deadline(x->n);
    step(x, (struct pfl_event){.kind = PFL_EV_TICK});
    assert_int_equal(x->n_sent, 2 * PFL_WINDOW);
    answered(x, 0, PFL_TIMEOUT);
    assert_int_equal(x->n_sent, 2 * PFL_WINDOW);
    x->now += 200 * PFL_MS;
    step(x, (struct pfl_event){.kind = PFL_EV_TICK});
    assert_int_equal(x->n_sent, 2 * PFL_WINDOW + 1);
    assert_int_equal(x->what[2 * PFL_WINDOW], 1); /* what was lost is sent again */
    bench_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_than_a_window__waits_its_turn__and_goes_out_in_order),
        cmocka_unit_test(who_delivers_it_is_not_known__everybody_is_given_it),
        cmocka_unit_test(what_comes_while_it_waits__need_not_be_sent_there),
        cmocka_unit_test(beats__do_not_wait),
        cmocka_unit_test(calls_that_nobody_answers__do_not_hold_up_the_others),
    };
    return cmocka_run_group_tests_name("node_flood", tests, NULL, NULL);
}
