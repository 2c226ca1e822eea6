/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire */
/* The signed text: pinned byte for byte, read back, and what of it is equivocation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/origin.h"

static struct pfl_msg *vote(const char *source, int32_t round, const char *votes)
{
    struct pfl_msg *m = pfl_msg_new(source, round, "vote_train_set", PFL_MSG_GOSSIP);
    m->hash = -2;
    m->ttl = 10;
    pfl_strs_add(&m->args, "b:2");
    pfl_strs_add(&m->args, votes);
    return m;
}

static struct pfl_msg *contribution(const char *contributor, int32_t samples, uint8_t byte)
{
    struct pfl_msg *m = pfl_msg_new("a:1", 3, "partial_model", PFL_MSG_WEIGHTS);
    m->codec = pfl_xstrdup("safetensors");
    m->has_digest = true;
    memset(m->digest, byte, sizeof(m->digest));
    m->num_samples = samples;
    pfl_strs_add(&m->contributors, contributor);
    return m;
}

/* models_aggregated of a:1 with its own contribution. */
static struct pfl_msg *announced(int32_t samples, uint8_t byte)
{
    struct pfl_msg *m = pfl_msg_new("a:1", 3, "models_aggregated", PFL_MSG_GOSSIP);
    pfl_strs_add(&m->args, "a:1");
    m->has_contribution = true;
    memset(m->contribution, byte, sizeof(m->contribution));
    m->contribution_samples = samples;
    return m;
}

/* models_ready of a:1, with what it computed or took. */
static struct pfl_msg *ready(uint8_t byte, bool computed)
{
    struct pfl_msg *m = pfl_msg_new("a:1", 3, "models_ready", PFL_MSG_GOSSIP);
    m->has_model_digest = true;
    memset(m->model_digest, byte, sizeof(m->model_digest));
    m->computed = computed;
    return m;
}

/* Takes m. */
static struct pfl_buf text_of(struct pfl_msg *m, const char *experiment, int64_t at)
{
    struct pfl_buf b = {0};
    assert_int_equal(pfl_origin_text(m, experiment, at, &b, NULL), PFL_OK);
    pfl_msg_unref(m);
    return b;
}

static void assert_hex(const struct pfl_buf *b, const char *want)
{
    PFL_AUTO(pfl_freep) char *hex = pfl_xmalloc(2 * b->len + 1);
    pfl_hex(pfl_buf_view(b), hex);
    assert_string_equal(hex, want);
}

/* Written out by hand from docs/PROTOCOL.md. */
static void test_origin_text__vectors(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf g = text_of(vote("a:1", 3, "7"), "x-1", 1000);
    assert_hex(&g, "0000000f"
                   "703270666c2d6f726967696e2d7631"
                   "00000003"
                   "613a31"
                   "0000000e"
                   "766f74655f747261696e5f736574"
                   "00000003"
                   "782d31"
                   "00000003"
                   "00000000000003e8"
                   "01"
                   "fffffffffffffffe"
                   "00000002"
                   "00000003"
                   "623a32"
                   "00000001"
                   "37");
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf w = text_of(contribution("a:1", 5, 0xab), "", -1);
    assert_hex(&w, "0000000f"
                   "703270666c2d6f726967696e2d7631"
                   "00000003"
                   "613a31"
                   "0000000d"
                   "7061727469616c5f6d6f64656c"
                   "00000000"
                   "00000003"
                   "ffffffffffffffff"
                   "03"
                   "0000000b"
                   "7361666574656e736f7273"
                   "00000020"
                   "abababababababababababababababababababababababababababababababab"
                   "00000005"
                   "00000001"
                   "00000003"
                   "613a31");
    struct pfl_msg *digest = pfl_msg_new("a:1", -1, "r", PFL_MSG_GOSSIP);
    digest->has_model_digest = true;
    memset(digest->model_digest, 1, sizeof(digest->model_digest));
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf r = text_of(digest, "", 0);
    assert_hex(&r, "0000000f"
                   "703270666c2d6f726967696e2d7631"
                   "00000003"
                   "613a31"
                   "00000001"
                   "72"
                   "00000000"
                   "ffffffff"
                   "0000000000000000"
                   "01"
                   "0000000000000000"
                   "00000000"
                   "00000020"
                   "0101010101010101010101010101010101010101010101010101010101010101");
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf h = text_of(announced(5, 2), "", 0);
    assert_hex(&h, "0000000f"
                   "703270666c2d6f726967696e2d7631"
                   "00000003"
                   "613a31"
                   "00000011"
                   "6d6f64656c735f61676772656761746564"
                   "00000000"
                   "00000003"
                   "0000000000000000"
                   "01"
                   "0000000000000000"
                   "00000001"
                   "00000003"
                   "613a31"
                   "00000024"
                   "0202020202020202020202020202020202020202020202020202020202020202"
                   "00000005");
}

static void test_origin_text__ttl_is_not_in_it__everything_else_is(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf base = text_of(vote("a:1", 3, "7"), "x", 1000);
    struct pfl_msg *far = vote("a:1", 3, "7"), *other_hash = vote("a:1", 3, "7");
    far->ttl = 1;
    other_hash->hash = 5;
    const struct {
        const char *name;
        struct pfl_buf text;
        bool same;
    } rows[] = {
        {"ttl", text_of(far, "x", 1000), true},
        {"hash", text_of(other_hash, "x", 1000), false},
        {"source", text_of(vote("b:1", 3, "7"), "x", 1000), false},
        {"round", text_of(vote("a:1", 4, "7"), "x", 1000), false},
        {"argument", text_of(vote("a:1", 3, "8"), "x", 1000), false},
        {"experiment", text_of(vote("a:1", 3, "7"), "y", 1000), false},
        {"time", text_of(vote("a:1", 3, "7"), "x", 1001), false},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        if (pfl_bytes_eq(pfl_buf_view(&base), pfl_buf_view(&rows[i].text)) != rows[i].same)
            fail_msg("%s", rows[i].name);
        struct pfl_buf b = rows[i].text;
        pfl_buf_deinit(&b);
    }
}

static void test_origin_said__every_cut__refused(void **state)
{
    (void)state;
    struct pfl_origin_said s = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = text_of(contribution("a:1", 5, 1), "exp", 42);
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(pfl_origin_said_parse(pfl_bytes_of(b.data, len), &s, NULL), PFL_MALFORMED);
    assert_int_equal(pfl_origin_said_parse(pfl_buf_view(&b), &s, NULL), PFL_OK);
    assert_string_equal(s.source, "a:1");
    assert_string_equal(s.cmd, "partial_model");
    assert_string_equal(s.experiment, "exp");
    assert_string_equal(s.sole, "a:1");
    assert_int_equal(s.round, 3);
    assert_true(s.sent_at_ms == 42);
    pfl_origin_said_deinit(&s);
    assert_true(pfl_buf_u8(&b, 0));
    assert_int_equal(pfl_origin_said_parse(pfl_buf_view(&b), &s, NULL), PFL_MALFORMED);
}

static void test_origin_said__an_announcement_is_cut_or_doubled__refused(void **state)
{
    (void)state;
    struct pfl_origin_said s = {0};
    struct pfl_msg *m = announced(5, 1), *both = announced(5, 1);
    both->has_model_digest = true;
    memset(both->model_digest, 7, sizeof(both->model_digest));
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = text_of(m, "exp", 42), two = text_of(both, "exp", 42);
    size_t without = b.len - 40;
    for (size_t len = 0; len < b.len; len++)
        assert_int_equal(pfl_origin_said_parse(pfl_bytes_of(b.data, len), &s, NULL), len == without ? PFL_OK : PFL_MALFORMED),
            pfl_origin_said_deinit(&s);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pfl_origin_said_parse(pfl_buf_view(i ? &two : &b), &s, NULL), PFL_OK);
        assert_true(s.announces && s.n_samples == 5 && s.model[0] == 1 && s.model[31] == 1);
        pfl_origin_said_deinit(&s);
    }
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf again = {0};
    pfl_buf_append(&again, b.data, b.len);
    pfl_buf_append(&again, b.data + without, 40);
    assert_int_equal(pfl_origin_said_parse(pfl_buf_view(&again), &s, NULL), PFL_MALFORMED);
}

static void test_origin_said__a_computed_result(void **state)
{
    (void)state;
    struct pfl_origin_said s = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = text_of(ready(5, true), "exp", 42), taken = text_of(ready(5, false), "exp", 42);
    static const uint8_t tail[] = {0, 0, 0, 1, 1};
    assert_int_equal(b.len, taken.len + sizeof(tail)); /* the mark is signed */
    assert_memory_equal(b.data, taken.data, taken.len);
    assert_memory_equal(b.data + taken.len, tail, sizeof(tail));
    for (size_t len = 0; len < b.len; len++) {
        bool whole = len == taken.len || len == taken.len - 36;
        assert_int_equal(pfl_origin_said_parse(pfl_bytes_of(b.data, len), &s, NULL), whole ? PFL_OK : PFL_MALFORMED);
        assert_false(s.computed);
        pfl_origin_said_deinit(&s);
    }
    assert_int_equal(pfl_origin_said_parse(pfl_buf_view(&b), &s, NULL), PFL_OK);
    assert_true(s.computed && s.model[0] == 5 && pfl_origin_once(&s) == PFL_ONCE_RESULT);
    pfl_origin_said_deinit(&s);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf twice = {0};
    pfl_buf_append(&twice, b.data, b.len);
    pfl_buf_append(&twice, tail, sizeof(tail));
    assert_int_equal(pfl_origin_said_parse(pfl_buf_view(&twice), &s, NULL), PFL_MALFORMED);
    b.data[b.len - 1] = 2;
    assert_int_equal(pfl_origin_said_parse(pfl_buf_view(&b), &s, NULL), PFL_MALFORMED);
}

/* The bytes that `m` has stand for the model whose digest is all `model`. */
static struct pfl_msg *compressed(struct pfl_msg *m, uint8_t model)
{
    struct pfl_msg *whole = contribution("a:1", 5, model);
    free(m->codec);
    m->codec = pfl_xstrdup("compressed");
    m->has_model_digest = true;
    memcpy(m->model_digest, whole->digest, sizeof(m->model_digest));
    pfl_msg_unref(whole);
    return m;
}

static void test_origin_contradict__rows(void **state)
{
    (void)state;
    struct pfl_msg *metrics = pfl_msg_new("a:1", 3, "metrics", PFL_MSG_GOSSIP),
                   *others = pfl_msg_new("a:1", 3, "metrics", PFL_MSG_GOSSIP);
    pfl_strs_add(&others->args, "x");
    struct pfl_msg *renamed = vote("a:1", 3, "7");
    renamed->hash = 99;
    const struct {
        const char *name;
        struct pfl_buf a, b;
        bool want;
    } rows[] = {
        {"two votes", text_of(vote("a:1", 3, "7"), "x", 1), text_of(vote("a:1", 3, "8"), "x", 1), true},
        {"the same vote said again", text_of(vote("a:1", 3, "7"), "x", 1), text_of(renamed, "x", 9), false},
        {"votes for two rounds", text_of(vote("a:1", 3, "7"), "x", 1), text_of(vote("a:1", 4, "8"), "x", 1), false},
        {"votes in two experiments", text_of(vote("a:1", 3, "7"), "x", 1), text_of(vote("a:1", 3, "8"), "y", 1), false},
        {"votes of two nodes", text_of(vote("a:1", 3, "7"), "x", 1), text_of(vote("c:1", 3, "8"), "x", 1), false},
        {"two contributions", text_of(contribution("a:1", 5, 1), "x", 1), text_of(contribution("a:1", 5, 2), "x", 1), true},
        {"one contribution, two sample counts", text_of(contribution("a:1", 5, 1), "x", 1),
         text_of(contribution("a:1", 6, 1), "x", 1), true},
        {"one contribution twice", text_of(contribution("a:1", 5, 1), "x", 1), text_of(contribution("a:1", 5, 1), "x", 7), false},
        {"others' contributions", text_of(contribution("b:1", 5, 1), "x", 1), text_of(contribution("c:1", 5, 2), "x", 1), false},
        {"one contribution, compressed and whole", text_of(compressed(contribution("a:1", 5, 9), 1), "x", 1),
         text_of(contribution("a:1", 5, 1), "x", 1), false},
        {"one contribution, compressed in two ways", text_of(compressed(contribution("a:1", 5, 9), 1), "x", 1),
         text_of(compressed(contribution("a:1", 5, 8), 1), "x", 1), false},
        {"another one, compressed", text_of(compressed(contribution("a:1", 5, 9), 2), "x", 1),
         text_of(contribution("a:1", 5, 1), "x", 1), true},
        {"one contribution, compressed, two sample counts", text_of(compressed(contribution("a:1", 5, 9), 1), "x", 1),
         text_of(compressed(contribution("a:1", 6, 9), 1), "x", 1), true},
        {"announced, and sent as announced", text_of(announced(5, 1), "x", 1), text_of(contribution("a:1", 5, 1), "x", 9), false},
        {"announced, and sent compressed", text_of(announced(5, 1), "x", 1),
         text_of(compressed(contribution("a:1", 5, 9), 1), "x", 1), false},
        {"announced one, sent another", text_of(announced(5, 1), "x", 1), text_of(contribution("a:1", 5, 2), "x", 1), true},
        {"announced one, sent another, compressed", text_of(announced(5, 1), "x", 1),
         text_of(compressed(contribution("a:1", 5, 1), 2), "x", 1), true},
        {"announced other samples", text_of(announced(6, 1), "x", 1), text_of(contribution("a:1", 5, 1), "x", 1), true},
        {"announced two", text_of(announced(5, 1), "x", 1), text_of(announced(5, 2), "x", 1), true},
        {"announced one twice", text_of(announced(5, 1), "x", 1), text_of(announced(5, 1), "x", 7), false},
        {"announced, and another's sent", text_of(announced(5, 1), "x", 1), text_of(contribution("b:1", 5, 2), "x", 1), false},
        {"announced, and a vote", text_of(announced(5, 1), "x", 1), text_of(vote("a:1", 3, "8"), "x", 1), false},
        {"computed two results", text_of(ready(1, true), "x", 1), text_of(ready(2, true), "x", 2), true},
        {"computed one, said twice", text_of(ready(1, true), "x", 1), text_of(ready(1, true), "x", 2), false},
        {"computed one, took another", text_of(ready(1, true), "x", 1), text_of(ready(2, false), "x", 2), false},
        {"took two", text_of(ready(1, false), "x", 1), text_of(ready(2, false), "x", 2), false},
        {"metrics may change", text_of(metrics, "x", 1), text_of(others, "x", 1), false},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_buf a = rows[i].a, b = rows[i].b;
        if (pfl_origin_contradict(pfl_buf_view(&a), pfl_buf_view(&b)) != rows[i].want)
            fail_msg("%s", rows[i].name);
        pfl_buf_deinit(&a);
        pfl_buf_deinit(&b);
    }
}

static struct pfl_blob *flat(const struct pfl_scatter *s)
{
    struct pfl_blob *blob = pfl_blob_new(s->total);
    size_t at = 0;
    for (size_t i = 0; i < s->n; i++) {
        memcpy(blob->data + at, s->parts[i].data, s->parts[i].len);
        at += s->parts[i].len;
    }
    return blob;
}

static struct pfl_origin *some_origin(void)
{
    struct pfl_origin *o = pfl_origin_new("exp", 12345);
    pfl_buf_append_str(&o->certs[0], "leaf");
    pfl_buf_append_str(&o->certs[1], "issuer");
    o->n_certs = 2;
    pfl_buf_append_str(&o->signature, "signature");
    return o;
}

static void test_origin__put_behind_a_body__comes_back_and_is_forwarded(void **state)
{
    (void)state;
    PFL_AUTO(pfl_origin_freep) struct pfl_origin *o = some_origin();
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = vote("a:1", 3, "7"), *back = NULL, *again = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL, *onward = NULL;
    m->sign_for = pfl_xstrdup("exp");
    assert_int_equal(pfl_msg_encode(m, NULL, &s, NULL), PFL_OK);
    assert_ptr_equal(s->to_sign, m);
    assert_int_equal(pfl_scatter_put_origin(s, o, NULL), PFL_OK);
    assert_null(s->to_sign);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = flat(s);
    assert_int_equal(pfl_msg_decode(blob, &back, NULL), PFL_OK);
    assert_int_equal(pfl_msg_forward(back, 4, &onward, NULL), PFL_OK);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob2 = flat(onward);
    assert_int_equal(pfl_msg_decode(blob2, &again, NULL), PFL_OK);
    assert_int_equal(again->ttl, 4);
    for (int i = 0; i < 2; i++) {
        const struct pfl_origin *x = i ? again->origin : back->origin;
        assert_int_equal(x->n_certs, 2);
        assert_string_equal(x->experiment, "exp");
        assert_true(x->sent_at_ms == 12345);
        assert_true(pfl_bytes_eq(pfl_buf_view(&x->certs[1]), pfl_bytes_of("issuer", 6)));
        assert_true(pfl_bytes_eq(pfl_buf_view(&x->signature), pfl_bytes_of("signature", 9)));
    }
}

static void test_origin__over_the_limit_of_a_message__the_body_stays(void **state)
{
    (void)state;
    PFL_AUTO(pfl_origin_freep) struct pfl_origin *o = some_origin();
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = vote("a:1", 3, "7");
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    PFL_AUTO(pfl_freep) char *long_arg = pfl_xmalloc(PFL_WIRE_ARG_MAX + 1);
    memset(long_arg, 'x', PFL_WIRE_ARG_MAX);
    long_arg[PFL_WIRE_ARG_MAX] = '\0';
    for (int i = 0; i < PFL_WIRE_CONTROL_MAX / PFL_WIRE_ARG_MAX - 1; i++)
        pfl_strs_add(&m->args, long_arg);
    pfl_strs_add(&m->args, "0123456789");
    m->sign_for = pfl_xstrdup("");
    assert_int_equal(pfl_msg_encode(m, NULL, &s, NULL), PFL_OK);
    size_t before = s->total;
    pfl_buf_clear(&o->certs[1]);
    for (int i = 0; i < 15; i++)
        pfl_buf_append(&o->certs[1], long_arg, PFL_WIRE_ARG_MAX);
    assert_int_equal(pfl_scatter_put_origin(s, o, NULL), PFL_TOO_BIG);
    assert_true(s->total == before && s->to_sign);
}

/* Takes m. */
static struct pfl_statement stated(struct pfl_msg *m)
{
    struct pfl_statement s;
    m->origin = pfl_origin_new("x", 1);
    pfl_buf_append(&m->origin->certs[0], "leaf", 4);
    pfl_buf_append(&m->origin->certs[1], "issuer", 6);
    m->origin->n_certs = 2;
    pfl_buf_append(&m->origin->signature, "signed", 6);
    assert_true(pfl_statement_of(m, &s));
    pfl_msg_unref(m);
    return s;
}

static void test_statements__packed__come_back__every_cut_is_refused(void **state)
{
    (void)state;
    struct pfl_statement said[2] = {stated(announced(5, 1)), stated(contribution("a:1", 5, 2))}, back[2];
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    assert_int_equal(pfl_statements_pack(said, &b, NULL), PFL_OK);
    for (size_t len = 0; len < b.len; len++) {
        PFL_AUTO(pfl_freep) uint8_t *cut = pfl_xmalloc(len + 1); /* of that size, for the sanitizer */
        memcpy(cut, b.data, len);
        assert_int_equal(pfl_statements_unpack(pfl_bytes_of(cut, len), back, NULL), PFL_MALFORMED);
    }
    assert_int_equal(pfl_statements_unpack(pfl_buf_view(&b), back, NULL), PFL_OK);
    for (size_t i = 0; i < 2; i++) {
        assert_true(pfl_bytes_eq(pfl_buf_view(&back[i].text), pfl_buf_view(&said[i].text)));
        assert_int_equal(back[i].origin->n_certs, 2);
        assert_true(pfl_bytes_eq(pfl_buf_view(&back[i].origin->certs[1]), pfl_bytes_of("issuer", 6)));
        assert_true(pfl_bytes_eq(pfl_buf_view(&back[i].origin->signature), pfl_bytes_of("signed", 6)));
        pfl_statement_deinit(&back[i]);
    }
    pfl_buf_u8(&b, 0); /* one byte more */
    assert_int_equal(pfl_statements_unpack(pfl_buf_view(&b), back, NULL), PFL_MALFORMED);
    pfl_statement_deinit(&said[0]);
    pfl_statement_deinit(&said[1]);
}

static void test_statements__too_large_or_too_many_certificates__refused(void **state)
{
    (void)state;
    struct pfl_statement said[2] = {stated(announced(5, 1)), stated(announced(6, 1))}, back[2];
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0}, many = {0}, huge = {0};
    static const uint8_t zeros[PFL_WIRE_EVIDENCE_MAX];
    pfl_buf_append(&said[0].text, zeros, sizeof(zeros));
    assert_int_equal(pfl_statements_pack(said, &b, NULL), PFL_TOO_BIG);
    assert_int_equal(b.len, 0);
    pfl_buf_u32be(&many, 1);
    pfl_buf_u8(&many, 't');
    pfl_buf_u32be(&many, PFL_WIRE_ORIGIN_CERTS_MAX + 1);
    pfl_buf_append(&many, zeros, 1000);
    assert_int_equal(pfl_statements_unpack(pfl_buf_view(&many), back, NULL), PFL_MALFORMED);
    pfl_buf_u32be(&huge, UINT32_MAX);
    pfl_buf_append(&huge, zeros, 1000);
    assert_int_equal(pfl_statements_unpack(pfl_buf_view(&huge), back, NULL), PFL_MALFORMED);
    pfl_statement_deinit(&said[0]);
    pfl_statement_deinit(&said[1]);
}

/* What a relay changes of it shows: all of it is under the reporter's signature. */
/* Only what is looked at as evidence may carry it: the rest would be kept for newcomers and passed on unseen. */
static void test_evidence__in_another_command__refused(void **state)
{
    (void)state;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new("b:1", 3, "metrics", PFL_MSG_GOSSIP);
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    struct pfl_msg *back = NULL;
    struct pfl_err err = {0};
    pfl_buf_append(&m->evidence, "anything", 8);
    assert_int_equal(pfl_msg_encode(m, NULL, &s, NULL), PFL_OK);
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(s->parts[0].data, s->parts[0].len);
    assert_int_equal(pfl_msg_decode(blob, &back, &err), PFL_MALFORMED);
    assert_non_null(strstr(err.msg, "evidence in a metrics message"));
    assert_null(back);
}

static void test_evidence__in_a_message__is_signed_and_comes_back(void **state)
{
    (void)state;
    struct pfl_statement said[2] = {stated(announced(5, 1)), stated(announced(6, 1))};
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new("b:1", 3, "evidence", PFL_MSG_GOSSIP), *back = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf one = {0}, two = {0};
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    assert_int_equal(pfl_statements_pack(said, &m->evidence, NULL), PFL_OK);
    assert_int_equal(pfl_origin_text(m, "x", 1, &one, NULL), PFL_OK);
    m->evidence.data[m->evidence.len - 1] ^= 1; /* a bit of the second signature */
    assert_int_equal(pfl_origin_text(m, "x", 1, &two, NULL), PFL_OK);
    assert_false(pfl_bytes_eq(pfl_buf_view(&one), pfl_buf_view(&two)));
    struct pfl_origin_said about = {0};
    assert_int_equal(pfl_origin_said_parse(pfl_buf_view(&one), &about, NULL), PFL_OK);
    assert_int_equal(pfl_origin_once(&about), PFL_ONCE_NOT); /* itself it is nothing that one says once */
    pfl_origin_said_deinit(&about);
    assert_int_equal(pfl_msg_encode(m, NULL, &body, NULL), PFL_OK);
    struct pfl_blob *blob = pfl_blob_copy(body->parts[0].data, body->parts[0].len);
    assert_int_equal(pfl_msg_decode(blob, &back, NULL), PFL_OK);
    assert_true(pfl_bytes_eq(pfl_buf_view(&back->evidence), pfl_buf_view(&m->evidence)));
    pfl_blob_unref(blob);
    pfl_statement_deinit(&said[0]);
    pfl_statement_deinit(&said[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_origin_text__vectors),
        cmocka_unit_test(test_origin_text__ttl_is_not_in_it__everything_else_is),
        cmocka_unit_test(test_origin_said__every_cut__refused),
        cmocka_unit_test(test_origin_said__an_announcement_is_cut_or_doubled__refused),
        cmocka_unit_test(test_origin_said__a_computed_result),
        cmocka_unit_test(test_origin_contradict__rows),
        cmocka_unit_test(test_origin__put_behind_a_body__comes_back_and_is_forwarded),
        cmocka_unit_test(test_origin__over_the_limit_of_a_message__the_body_stays),
        cmocka_unit_test(test_statements__packed__come_back__every_cut_is_refused),
        cmocka_unit_test(test_statements__too_large_or_too_many_certificates__refused),
        cmocka_unit_test(test_evidence__in_another_command__refused),
        cmocka_unit_test(test_evidence__in_a_message__is_signed_and_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
