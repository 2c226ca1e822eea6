/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire mesh learning node */
/* A node of ours with one of P2PFL's as its only neighbour: what it is sent, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "node/node.h"

static const char *const me = "127.0.0.1:1", *const python = "127.0.0.1:2";

struct bench {
    struct pfl_layout *layout;
    struct pfl_node *n;
    struct pfl_actions out;
    pfl_ns now;
    uint64_t calls;
};

static void step(struct bench *b, struct pfl_event ev)
{
    pfl_actions_clear(&b->out);
    b->now += 10 * PFL_MS;
    ev.now = ev.wall = b->now;
    pfl_node_step(b->n, &ev, &b->out);
}

static struct bench *bench_new(bool interop)
{
    const struct pfl_tensor_desc d = {.name = "x", .dtype = PFL_F32, .rank = 1, .shape = {2}};
    struct bench *b = pfl_xcalloc(1, sizeof(*b));
    struct pfl_node_settings s;
    assert_int_equal(pfl_layout_new(&d, 1, &b->layout, NULL), PFL_OK);
    pfl_node_settings_default(&s);
    s.interop = interop;
    b->n = pfl_node_new(me, b->layout, &s);
    b->now = 100 * PFL_SEC;
    return b;
}

static void bench_free(struct bench *b)
{
    pfl_actions_deinit(&b->out);
    pfl_node_free(b->n);
    pfl_layout_unref(b->layout);
    free(b);
}

static struct pfl_payload *payload(struct bench *b, float value, uint8_t digest)
{
    struct pfl_model *m = NULL;
    struct pfl_payload *p = NULL;
    assert_int_equal(pfl_model_new(b->layout, &m, NULL), PFL_OK);
    const float values[] = {value, value};
    memcpy(pfl_model_data_mut(m), values, sizeof(values));
    assert_int_equal(pfl_payload_new(m, &p, NULL), PFL_OK);
    pfl_model_unref(m);
    memset(p->digest, digest, sizeof(p->digest));
    p->has_digest = true;
    return p;
}

/* The last action of that kind, or NULL. */
static const struct pfl_action *last(const struct bench *b, enum pfl_action_kind kind)
{
    for (size_t i = b->out.n; i > 0; i--) {
        if (b->out.items[i - 1].kind == kind)
            return &b->out.items[i - 1];
    }
    return NULL;
}

static struct pfl_msg *message_of(const struct pfl_scatter *body)
{
    struct pfl_blob *blob = pfl_blob_new(body->total);
    struct pfl_msg *m = NULL;
    size_t off = 0;
    for (size_t i = 0; i < body->n; i++) {
        memcpy((uint8_t *)(uintptr_t)blob->data + off, body->parts[i].data, body->parts[i].len);
        off += body->parts[i].len;
    }
    assert_int_equal(pfl_msg_decode(blob, &m, NULL), PFL_OK);
    pfl_blob_unref(blob);
    return m;
}

/* The id of the last message of this command in this step; 0: none was sent. */
static uint64_t sent(const struct bench *b, const char *cmd)
{
    uint64_t id = 0;
    for (size_t i = 0; i < b->out.n; i++) {
        const struct pfl_action *a = &b->out.items[i];
        if (a->kind != PFL_ACT_SEND || !a->body)
            continue;
        struct pfl_msg *m = message_of(a->body);
        id = strcmp(m->cmd, cmd) == 0 ? a->id : id;
        pfl_msg_unref(m);
    }
    return id;
}

/* A message of the Python node's with these arguments; what was answered: NULL for an empty answer. */
static const char *hear(struct bench *b, const char *cmd, int32_t round, enum pfl_msg_kind kind, const char *const *args,
                        struct pfl_payload *p)
{
    struct pfl_msg *m = pfl_msg_new(python, round, cmd, kind);
    m->hash = (int64_t)++b->calls;
    m->num_samples = 1;
    for (size_t i = 0; args && args[i]; i++)
        pfl_strs_add(kind == PFL_MSG_WEIGHTS ? &m->contributors : &m->args, args[i]);
    step(b, (struct pfl_event){
                .kind = PFL_EV_MESSAGE, .msg = m, .payload = p, .rc = p ? PFL_OK : PFL_MALFORMED, .text = "bad", .call = b->calls});
    pfl_msg_unref(m);
    const struct pfl_action *r = last(b, PFL_ACT_REPLY);
    assert_non_null(r);
    return r->error ? r->error : r->text;
}

static void link_up(struct bench *b)
{
    const struct pfl_hello none = {0};
    step(b, (struct pfl_event){.kind = PFL_EV_HANDSHAKE, .addr = python, .hello = &none, .call = 77});
    assert_non_null(last(b, PFL_ACT_OPEN));
    step(b, (struct pfl_event){.kind = PFL_EV_LINK_UP, .addr = python});
    assert_non_null(last(b, PFL_ACT_REPLY));
    assert_null(last(b, PFL_ACT_REPLY)->error);
}

/* Both vote for both; our node evaluates and fits. Afterwards it holds its own contribution. */
static void to_training(struct bench *b)
{
    const char *const ballot[] = {me, "9", python, "8", NULL};
    struct pfl_payload *p = payload(b, 1, 1);
    step(b, (struct pfl_event){.kind = PFL_EV_MODEL, .payload = p});
    step(b, (struct pfl_event){.kind = PFL_EV_CMD_LEARN, .learn = {.rounds = 2, .epochs = 1, .trainset_size = 2}, .call = 78});
    assert_null(last(b, PFL_ACT_REPLY)->error);
    assert_null(hear(b, "model_initialized", -1, PFL_MSG_GOSSIP, NULL, NULL));
    assert_null(hear(b, "vote_train_set", 0, PFL_MSG_GOSSIP, ballot, NULL));
    const struct pfl_action *evaluate = last(b, PFL_ACT_EVALUATE);
    assert_non_null(evaluate);
    step(b, (struct pfl_event){.kind = PFL_EV_JOB, .id = evaluate->id});
    const struct pfl_action *fit = last(b, PFL_ACT_FIT);
    assert_non_null(fit);
    step(b, (struct pfl_event){.kind = PFL_EV_JOB, .id = fit->id, .payload = p, .n_samples = 10});
    pfl_payload_unref(p);
}

static void test_link__without_a_hello__only_with_interop(void **state)
{
    (void)state;
    const struct pfl_hello none = {0};
    struct bench *b = bench_new(false);
    step(b, (struct pfl_event){.kind = PFL_EV_HANDSHAKE, .addr = python, .hello = &none, .call = 77});
    assert_non_null(last(b, PFL_ACT_REPLY)->error);
    assert_null(last(b, PFL_ACT_OPEN));
    bench_free(b);
    b = bench_new(true);
    link_up(b);
    assert_true(sent(b, "beat") && !sent(b, "beats"));
    bench_free(b);
}

static void test_partial_model__not_before_it_trains__and_pickled(void **state)
{
    (void)state;
    static const char *const metrics[] = {"test_loss", "nan", NULL}; /* even so it is no error for them */
    const struct pfl_hello none = {0};
    struct bench *b = bench_new(true);
    link_up(b);
    to_training(b);
    assert_int_equal(sent(b, "PRE_SEND_MODEL"), 0);
    b->now += PFL_SEC; /* longer than any pair's own delay */
    step(b, (struct pfl_event){.kind = PFL_EV_TICK});
    assert_int_equal(sent(b, "PRE_SEND_MODEL"), 0);
    assert_null(hear(b, "metrics", 0, PFL_MSG_GOSSIP, metrics, NULL));
    uint64_t id = sent(b, "PRE_SEND_MODEL");
    assert_true(id > 0);
    step(b, (struct pfl_event){.kind = PFL_EV_SENT, .id = id, .text = "true", .hello = &none});
    const struct pfl_action *a = last(b, PFL_ACT_SEND);
    assert_non_null(a);
    assert_true(!a->body && a->msg && a->payload);
    assert_string_equal(a->msg->cmd, "partial_model");
    assert_true(!a->msg->codec && !a->msg->has_digest && !a->msg->has_model_digest);
    assert_int_equal(a->msg->num_samples, 10);
    assert_int_equal(a->msg->contributors.n, 1);
    assert_string_equal(a->msg->contributors.items[0], me);
    bench_free(b);
}

static void test_partial_model__counted_meanwhile_or_useless__errors_for_the_useless_only(void **state)
{
    (void)state;
    static const char *const both[] = {"127.0.0.1:1", "127.0.0.1:2", NULL}, *const stranger[] = {"127.0.0.1:3", NULL};
    struct bench *b = bench_new(true);
    struct pfl_payload *p = payload(b, 2, 2);
    link_up(b);
    to_training(b);
    assert_null(hear(b, "partial_model", 0, PFL_MSG_WEIGHTS, both, p));
    assert_null(hear(b, "partial_model", 0, PFL_MSG_WEIGHTS, stranger, p)); /* an error would cost the link */
    const char *error = hear(b, "partial_model", 0, PFL_MSG_WEIGHTS, stranger, NULL);
    assert_non_null(error);
    assert_non_null(strstr(error, "bad"));
    pfl_payload_unref(p);
    bench_free(b);
}

static void test_a_vote_for_the_next_round__says_that_the_last_is_ended(void **state)
{
    (void)state;
    static const char *const own[] = {"127.0.0.1:2", NULL}, *const ballot[] = {"127.0.0.1:1", "9", NULL};
    struct bench *b = bench_new(true);
    struct pfl_payload *p = payload(b, 2, 2);
    link_up(b);
    to_training(b);
    assert_null(hear(b, "partial_model", 0, PFL_MSG_WEIGHTS, own, p));
    const struct pfl_action *a = last(b, PFL_ACT_AGGREGATE);
    assert_non_null(a);
    step(b, (struct pfl_event){.kind = PFL_EV_JOB, .id = a->id, .payload = p});
    assert_true(sent(b, "models_ready") && sent(b, "vote_train_set"));
    b->now += 5 * PFL_SEC;
    assert_null(hear(b, "vote_train_set", 1, PFL_MSG_GOSSIP, ballot, NULL)); /* its models_ready was lost */
    struct pfl_snapshot s;
    pfl_node_snapshot(b->n, &s);
    assert_string_equal(s.stage, "evaluating"); /* it goes on, and pushes no aggregate of round 0 */
    pfl_snapshot_deinit(&s);
    assert_int_equal(sent(b, "PRE_SEND_MODEL"), 0);
    pfl_payload_unref(p);
    bench_free(b);
}

/* It had our contribution and lost its own call to us: it goes on, and nothing more will come. Its result stands for ours. */
static void test_all_others_ended_the_round_without_us__their_result_is_taken(void **state)
{
    (void)state;
    struct bench *b = bench_new(true);
    const char *const ballot[] = {me, "9", python, "8", NULL}, *const metrics[] = {"test_loss", "1", NULL};
    struct pfl_payload *theirs = payload(b, 3, 2);
    link_up(b);
    to_training(b);
    assert_null(hear(b, "add_model", 0, PFL_MSG_WEIGHTS, NULL, theirs));
    struct pfl_snapshot s = {0};
    pfl_node_snapshot(b->n, &s);
    assert_int_equal(s.round, 0); /* as long as it may still send its contribution */
    pfl_snapshot_deinit(&s);
    assert_null(hear(b, "vote_train_set", 1, PFL_MSG_GOSSIP, ballot, NULL));
    assert_null(hear(b, "metrics", 1, PFL_MSG_GOSSIP, metrics, NULL));
    pfl_node_snapshot(b->n, &s);
    assert_int_equal(s.round, 1);
    pfl_snapshot_deinit(&s);
    pfl_payload_unref(theirs);
    bench_free(b);
}

static void test_pre_send__is_answered_with_a_hello(void **state)
{
    (void)state;
    static const char *const args[] = {"init_model", "0", NULL};
    struct bench *b = bench_new(true);
    link_up(b);
    assert_string_equal(hear(b, "PRE_SEND_MODEL", 0, PFL_MSG_DIRECT, args, NULL), "true");
    assert_true(last(b, PFL_ACT_REPLY)->hello);
    bench_free(b);
}

static void test_a_neighbour_whose_gossip_stays_away__is_asked_for_the_link_again(void **state)
{
    (void)state;
    static const char *const args[] = {"init_model", "0", NULL};
    struct bench *b = bench_new(true);
    link_up(b);
    for (int i = 0; i < 3; i++) {
        b->now += 2 * PFL_SEC;
        (void)hear(b, "PRE_SEND_MODEL", 0, PFL_MSG_DIRECT, args, NULL); /* it lives */
    }
    const struct pfl_action *a = last(b, PFL_ACT_OPEN);
    assert_non_null(a);
    assert_true(a->handshake);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_link__without_a_hello__only_with_interop),
        cmocka_unit_test(test_partial_model__not_before_it_trains__and_pickled),
        cmocka_unit_test(test_partial_model__counted_meanwhile_or_useless__errors_for_the_useless_only),
        cmocka_unit_test(test_a_vote_for_the_next_round__says_that_the_last_is_ended),
        cmocka_unit_test(test_all_others_ended_the_round_without_us__their_result_is_taken),
        cmocka_unit_test(test_pre_send__is_answered_with_a_hello),
        cmocka_unit_test(test_a_neighbour_whose_gossip_stays_away__is_asked_for_the_link_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
