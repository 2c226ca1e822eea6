/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire */
/* What a peer may not send, the limits of what it may, and messages that travel on unchanged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/limits.h"
#include "wire/msg.h"
#include "wire/payload.h"

#define HEAD                                                                                                                       \
    "\x0a\x01"                                                                                                                     \
    "a"                                                                                                                            \
    "\x1a\x01"                                                                                                                     \
    "b"                           /* source "a", cmd "b" */
#define GOSSIP "\x22\x02\x08\x03" /* ttl 3 */
#define RAW(s) (s), sizeof(s) - 1

static enum pfl_rc decode(const void *data, size_t len, struct pfl_msg **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(data, len);
    assert_non_null(blob);
    return pfl_msg_decode(blob, ret, err);
}

static struct pfl_buf join(const struct pfl_scatter *s)
{
    struct pfl_buf b = {0};
    for (size_t i = 0; i < s->n; i++)
        assert_true(pfl_buf_append(&b, s->parts[i].data, s->parts[i].len));
    assert_int_equal(b.len, s->total);
    return b;
}

/* A length-delimited field. */
static void put(struct pfl_buf *b, unsigned field, const void *data, size_t len)
{
    assert_true(pfl_buf_varint(b, (uint64_t)field << 3 | 2) && pfl_buf_varint(b, len) && pfl_buf_append(b, data, len));
}

static void put_text(struct pfl_buf *b, unsigned field, size_t len)
{
    PFL_AUTO(pfl_freep) char *text = pfl_xmalloc(len + 1);
    memset(text, 'x', len);
    put(b, field, text, len);
}

/* ---- refusals ---- */

static const struct {
    const char *name;
    const void *data;
    size_t len;
    enum pfl_rc rc;
    const char *says;
} refused[] = {
    {"empty", RAW(""), PFL_MALFORMED, "source"},
    {"no source",
     RAW("\x1a\x01"
         "b" GOSSIP),
     PFL_MALFORMED, "source"},
    {"empty source",
     RAW("\x0a\x00\x1a\x01"
         "b" GOSSIP),
     PFL_MALFORMED, "source"},
    {"no command",
     RAW("\x0a\x01"
         "a" GOSSIP),
     PFL_MALFORMED, "command"},
    {"no payload", RAW(HEAD), PFL_MALFORMED, "0 payloads"},
    {"two payloads", RAW(HEAD GOSSIP "\x2a\x00"), PFL_MALFORMED, "2 payloads"},
    {"cut in a length", RAW(HEAD "\x22"), PFL_MALFORMED, "valid"},
    {"cut in a payload", RAW(HEAD "\x22\x05\x08\x03"), PFL_MALFORMED, "valid"},
    {"length past the end",
     RAW(HEAD GOSSIP "\x0a\x7f"
                     "a"),
     PFL_MALFORMED, "valid"},
    {"length of 2^64 - 1", RAW(HEAD "\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), PFL_MALFORMED, "valid"},
    {"length of eleven bytes", RAW(HEAD "\x22\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), PFL_MALFORMED, "valid"},
    {"a source that is a number",
     RAW("\x08\x01\x1a\x01"
         "b" GOSSIP),
     PFL_MALFORMED, "source is a number"},
    {"weights that are a number", RAW(HEAD "\x32\x02\x08\x01"), PFL_MALFORMED, "weights.weights is a number"},
    {"weights that are a fixed64",
     RAW(HEAD "\x32\x09\x09"
              "12345678"),
     PFL_MALFORMED, "weights.weights is a number"},
    {"weights that are a fixed32",
     RAW(HEAD "\x32\x05\x0d"
              "1234"),
     PFL_MALFORMED, "weights.weights is a number"},
    {"an arg that is a number", RAW(HEAD "\x22\x02\x18\x01"), PFL_MALFORMED, "gossip_message.args is a number"},
    {"field number 0", RAW(HEAD GOSSIP "\x00\x00"), PFL_MALFORMED, "valid"},
    {"a group", RAW(HEAD GOSSIP "\x9b\x06\x9c\x06"), PFL_MALFORMED, "valid"},
    {"wire type 7", RAW(HEAD GOSSIP "\x9f\x06\x01"), PFL_MALFORMED, "valid"},
    {"NUL in the source",
     RAW("\x0a\x03"
         "a\0b"
         "\x1a\x01"
         "b" GOSSIP),
     PFL_MALFORMED, "source has a NUL"},
    {"NUL in an arg", RAW(HEAD "\x22\x03\x1a\x01\x00"), PFL_MALFORMED, "gossip_message.args has a NUL"},
    {"a source that is not UTF-8",
     RAW("\x0a\x01\xff\x1a\x01"
         "b" GOSSIP),
     PFL_MALFORMED, "source is not UTF-8"},
    {"an overlong command",
     RAW("\x0a\x01"
         "a"
         "\x1a\x02\xc0\x80" GOSSIP),
     PFL_MALFORMED, "cmd is not UTF-8"},
    {"a surrogate in an arg", RAW(HEAD "\x2a\x05\x1a\x03\xed\xa0\x80"), PFL_MALFORMED, "direct_message.args is not UTF-8"},
    {"a digest of 2 bytes",
     RAW(HEAD "\x32\x05\xaa\x06\x02"
              "ab"),
     PFL_MALFORMED, "digest is 2 bytes"},
    {"a model digest of 2 bytes",
     RAW(HEAD GOSSIP "\xaa\x06\x02"
                     "ab"),
     PFL_MALFORMED, "model_digest is 2 bytes"},
    {"a contribution of no model", RAW(HEAD GOSSIP "\xb2\x06\x02\x10\x05"), PFL_MALFORMED, "contribution.model is 0 bytes"},
    {"a contribution of 2 bytes",
     RAW(HEAD GOSSIP "\xb2\x06\x04\x0a\x02"
                     "ab"),
     PFL_MALFORMED, "contribution.model is 2 bytes"},
    {"a digest of 33 bytes",
     RAW(HEAD "\x32\x24\xaa\x06\x21"
              "012345678901234567890123456789012"),
     PFL_MALFORMED, "valid"},
};

static void test_msg_decode__hostile_bytes__refused_with_the_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < PFL_ARRAY_LEN(refused); i++) {
        struct pfl_msg *m = NULL;
        struct pfl_err err = {0};
        enum pfl_rc rc = decode(refused[i].data, refused[i].len, &m, &err);
        if (rc != refused[i].rc || !strstr(err.msg, refused[i].says))
            fail_msg("%s: %s: %s", refused[i].name, pfl_rc_text(rc), err.msg);
        assert_null(m);
    }
}

static void test_msg_decode__every_prefix_of_a_message__refused(void **state)
{
    (void)state;
    static const char whole[] = HEAD "\x32\x0e\x0a\x05"
                                     "bytes"
                                     "\x12\x03"
                                     "c:1"
                                     "\x18\x07";
    struct pfl_msg *m = NULL;
    struct pfl_err err = {0};
    for (size_t len = 0; len < sizeof(whole) - 1; len++) {
        assert_int_equal(decode(whole, len, &m, &err), PFL_MALFORMED);
        assert_null(m);
    }
    assert_int_equal(decode(RAW(whole), &m, &err), PFL_OK);
    assert_int_equal(m->num_samples, 7);
    pfl_msg_unref(m);
}

static void test_msg_decode__without_an_error_struct__refuses_too(void **state)
{
    (void)state;
    struct pfl_msg *m = NULL;
    assert_int_equal(decode(RAW("\x0a\x01\xff"), &m, NULL), PFL_MALFORMED);
}

/* One text of a length, the rest of the message as small as it can be. */
static enum pfl_rc decode_with_text(unsigned outer, unsigned field, size_t len, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0}, inner = {0};
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = NULL;
    if (outer != 0 || field != 1)
        put(&b, 1, "a", 1);
    if (outer != 0 || field != 3)
        put(&b, 3, "b", 1);
    put_text(outer ? &inner : &b, field, len);
    put(&b, outer ? outer : 4, inner.data ? (const void *)inner.data : "", inner.len);
    return decode(b.data, b.len, &m, err);
}

static void test_msg_decode__texts__exact_limit_passes_one_more_does_not(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned outer, field;
        size_t max;
    } rows[] = {
        {"source", 0, 1, PFL_WIRE_ADDRESS_MAX},
        {"cmd", 0, 3, PFL_WIRE_CMD_MAX},
        {"gossip_message.args", 4, 3, PFL_WIRE_ARG_MAX},
        {"direct_message.args", 5, 3, PFL_WIRE_ARG_MAX},
        {"weights.contributors", 6, 2, PFL_WIRE_ADDRESS_MAX},
        {"weights.codec", 6, 100, PFL_WIRE_CODEC_MAX},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct pfl_err err = {0};
        if (decode_with_text(rows[i].outer, rows[i].field, rows[i].max, &err) != PFL_OK)
            fail_msg("%s of %zu bytes: %s", rows[i].name, rows[i].max, err.msg);
        assert_int_equal(decode_with_text(rows[i].outer, rows[i].field, rows[i].max + 1, &err), PFL_TOO_BIG);
        assert_non_null(strstr(err.msg, rows[i].name));
    }
}

static enum pfl_rc decode_with_items(unsigned outer, unsigned field, size_t n, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0}, inner = {0};
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = NULL;
    put(&b, 1, "a", 1);
    put(&b, 3, "b", 1);
    for (size_t i = 0; i < n; i++)
        put(&inner, field, "c:1", 3);
    put(&b, outer, inner.data, inner.len);
    enum pfl_rc rc = decode(b.data, b.len, &m, err);
    if (rc == PFL_OK)
        assert_int_equal(m->args.n + m->contributors.n, n);
    return rc;
}

static void test_msg_decode__lists__exact_limit_passes_one_more_does_not(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    assert_int_equal(decode_with_items(4, 3, PFL_WIRE_ARGS_MAX, &err), PFL_OK);
    assert_int_equal(decode_with_items(4, 3, PFL_WIRE_ARGS_MAX + 1, &err), PFL_TOO_BIG);
    assert_int_equal(decode_with_items(5, 3, PFL_WIRE_ARGS_MAX + 1, &err), PFL_TOO_BIG);
    assert_int_equal(decode_with_items(6, 2, PFL_WIRE_CONTRIBUTORS_MAX, &err), PFL_OK);
    assert_int_equal(decode_with_items(6, 2, PFL_WIRE_CONTRIBUTORS_MAX + 1, &err), PFL_TOO_BIG);
}

static enum pfl_rc decode_sized(unsigned outer, unsigned field, size_t inner_len, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0}, inner = {0};
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = NULL;
    put(&b, 1, "a", 1);
    put(&b, 3, "b", 1);
    put_text(&inner, field, inner_len);
    put(&b, outer, inner.data, inner.len);
    return decode(b.data, b.len, &m, err);
}

static void test_msg_decode__weights_are_free_of_the_control_limit__unknown_bytes_are_not(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    assert_int_equal(decode_sized(6, 1, 4 * PFL_WIRE_CONTROL_MAX, &err), PFL_OK);
    assert_int_equal(decode_sized(6, 99, PFL_WIRE_CONTROL_MAX, &err), PFL_TOO_BIG);
    assert_int_equal(decode_sized(4, 99, PFL_WIRE_CONTROL_MAX, &err), PFL_TOO_BIG);
    assert_int_equal(decode_sized(4, 99, PFL_WIRE_CONTROL_MAX - 100, &err), PFL_OK);
}

static void test_msg_decode__weights_twice__the_bytes_of_the_first_count_as_control(void **state)
{
    (void)state;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0}, inner = {0};
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = NULL;
    struct pfl_err err = {0};
    put(&b, 1, "a", 1);
    put(&b, 3, "b", 1);
    put_text(&inner, 1, PFL_WIRE_CONTROL_MAX);
    put(&inner, 1, "w", 1);
    put(&b, 6, inner.data, inner.len);
    assert_int_equal(decode(b.data, b.len, &m, &err), PFL_TOO_BIG);
}

/* ---- acceptance ---- */

static void test_msg_decode__no_round__minus_one(void **state)
{
    (void)state;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = NULL;
    assert_int_equal(decode(RAW(HEAD GOSSIP), &m, NULL), PFL_OK);
    assert_int_equal(m->round, -1);
    assert_int_equal(m->ttl, 3);
}

static void test_msg_decode__weights_behind_the_other_fields__are_the_same_message(void **state)
{
    (void)state;
    /* weights before source and cmd; inside it num_samples, contributors, then the bytes, each of the last two split by an unknown
     * field */
    static const char raw[] = "\x32\x12\x18\x05\x12\x03"
                              "c:1"
                              "\x82\x7d\x01"
                              "?"
                              "\x0a\x05"
                              "hello" HEAD;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = NULL;
    struct pfl_err err = {0};
    if (decode(RAW(raw), &m, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(m->kind, PFL_MSG_WEIGHTS);
    assert_int_equal(m->weights.len, 5);
    assert_memory_equal(m->weights.data, "hello", 5);
    assert_int_equal(m->num_samples, 5);
    assert_int_equal(m->contributors.n, 1);
    assert_string_equal(m->contributors.items[0], "c:1");
}

static void test_msg_decode__extremes_of_numbers__kept(void **state)
{
    (void)state;
    static const int64_t hashes[] = {INT64_MIN, -1, 0, 1, INT64_MAX};
    static const int32_t rounds[] = {INT32_MIN, -1, 0, 1, INT32_MAX};
    for (size_t i = 0; i < PFL_ARRAY_LEN(hashes); i++) {
        PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new("a:1", rounds[i], "beat", PFL_MSG_GOSSIP);
        PFL_AUTO(pfl_msg_freep) struct pfl_msg *back = NULL;
        PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
        m->hash = hashes[i];
        m->ttl = rounds[i];
        assert_int_equal(pfl_msg_encode(m, NULL, &s, NULL), PFL_OK);
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf bytes = join(s);
        assert_int_equal(decode(bytes.data, bytes.len, &back, NULL), PFL_OK);
        assert_true(back->hash == hashes[i] && back->ttl == rounds[i] && back->round == rounds[i]);
    }
}

/* ---- encoding ---- */

static struct pfl_payload *small_payload(void)
{
    struct pfl_tensor_desc d = {.name = "x", .dtype = PFL_F32, .rank = 1, .shape = {3}};
    PFL_AUTO(pfl_layout_freep) struct pfl_layout *l = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    struct pfl_payload *p = NULL;
    assert_int_equal(pfl_layout_new(&d, 1, &l, NULL), PFL_OK);
    assert_int_equal(pfl_model_new(l, &model, NULL), PFL_OK);
    memcpy(pfl_model_data_mut(model), "0123456789ab", 12);
    assert_int_equal(pfl_payload_new(model, &p, NULL), PFL_OK);
    return p;
}

static struct pfl_msg *model_message(void)
{
    struct pfl_msg *m = pfl_msg_new("127.0.0.1:6666", 3, "partial_model", PFL_MSG_WEIGHTS);
    pfl_strs_add(&m->contributors, "127.0.0.1:6666");
    pfl_strs_add(&m->contributors, "127.0.0.1:6667");
    m->num_samples = 30000;
    m->codec = pfl_xstrdup("safetensors");
    m->has_digest = m->has_model_digest = true;
    memset(m->digest, 0x11, sizeof(m->digest));
    memset(m->model_digest, 0x22, sizeof(m->model_digest));
    return m;
}

static void test_msg_encode__a_model__is_a_scatter_list_that_copies_nothing_and_decodes(void **state)
{
    (void)state;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = model_message();
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *back = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    struct pfl_payload *p = small_payload();
    const uint8_t *block = p->model->data;
    size_t payload_len = pfl_payload_bytes(p);
    assert_int_equal(pfl_msg_encode(m, p, &s, NULL), PFL_OK);
    pfl_payload_unref(p); /* the list keeps it */
    assert_int_equal(s->n, 4);
    assert_ptr_equal(s->parts[2].data, block);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf bytes = join(s);
    assert_int_equal(decode(bytes.data, bytes.len, &back, NULL), PFL_OK);
    assert_int_equal(back->weights.len, payload_len);
    assert_memory_equal(back->weights.data + payload_len - 12, "0123456789ab", 12);
    assert_string_equal(back->codec, "safetensors");
    assert_int_equal(back->contributors.n, 2);
    assert_int_equal(back->num_samples, 30000);
    assert_true(back->has_digest && back->has_model_digest);
    assert_memory_equal(back->digest, m->digest, PFL_DIGEST_LEN);
    assert_memory_equal(back->model_digest, m->model_digest, PFL_DIGEST_LEN);
}

static void test_msg_encode__an_announced_contribution__comes_back(void **state)
{
    (void)state;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new("a:1", 3, "models_aggregated", PFL_MSG_GOSSIP), *back = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    m->has_contribution = true;
    m->contribution_samples = 70000;
    memset(m->contribution, 0x33, sizeof(m->contribution));
    assert_int_equal(pfl_msg_encode(m, NULL, &s, NULL), PFL_OK);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf bytes = join(s);
    static const uint8_t tail[] = {0xb2, 0x06, 0x26, 0x0a, 0x20, 0x33};
    assert_memory_equal(bytes.data + bytes.len - 41, tail, sizeof(tail));
    assert_int_equal(decode(bytes.data, bytes.len, &back, NULL), PFL_OK);
    assert_true(back->has_contribution && !back->has_model_digest);
    assert_int_equal(back->contribution_samples, 70000);
    assert_memory_equal(back->contribution, m->contribution, PFL_DIGEST_LEN);
}

static void test_msg_encode__a_computed_result__comes_back(void **state)
{
    (void)state;
    static const uint8_t mark[] = {0xb8, 0x06, 0x01};
    for (int computed = 0; computed < 2; computed++) {
        PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new("a:1", 3, "models_ready", PFL_MSG_GOSSIP), *back = NULL;
        PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
        m->has_model_digest = true;
        m->computed = computed;
        assert_int_equal(pfl_msg_encode(m, NULL, &s, NULL), PFL_OK);
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf bytes = join(s);
        assert_int_equal(memcmp(bytes.data + bytes.len - sizeof(mark), mark, sizeof(mark)) == 0, computed);
        assert_int_equal(decode(bytes.data, bytes.len, &back, NULL), PFL_OK);
        assert_true(back->has_model_digest && back->computed == m->computed);
    }
}

static void test_msg_encode__any_source__the_model_begins_aligned(void **state)
{
    (void)state;
    char source[32] = "";
    for (size_t len = 1; len < sizeof(source); len++) {
        memset(source, 'a', len);
        struct pfl_msg *m = pfl_msg_new(source, 3, "partial_model", PFL_MSG_WEIGHTS), *back = NULL;
        struct pfl_scatter *s = NULL;
        struct pfl_payload *p = small_payload();
        m->codec = pfl_xstrdup("safetensors");
        assert_int_equal(pfl_msg_encode(m, p, &s, NULL), PFL_OK);
        struct pfl_buf bytes = join(s);
        assert_int_equal(decode(bytes.data, bytes.len, &back, NULL), PFL_OK);
        assert_int_equal((size_t)(back->weights.data - back->blob->data) % 8, 0);
        pfl_buf_deinit(&bytes);
        pfl_payload_unref(p);
        pfl_scatter_unref(s);
        pfl_msg_unref(m);
        pfl_msg_unref(back);
    }
}

static void test_msg_encode__a_decoded_model__gives_its_bytes_again(void **state)
{
    (void)state;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = model_message();
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *back = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *again = NULL;
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = small_payload();
    assert_int_equal(pfl_msg_encode(m, p, &s, NULL), PFL_OK);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf bytes = join(s);
    assert_int_equal(decode(bytes.data, bytes.len, &back, NULL), PFL_OK);
    assert_int_equal(pfl_msg_encode(back, NULL, &again, NULL), PFL_OK);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf bytes2 = join(again);
    assert_true(pfl_bytes_eq(pfl_buf_view(&bytes), pfl_buf_view(&bytes2)));
}

static void test_msg_encode__over_the_control_limit__too_big(void **state)
{
    (void)state;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new("a:1", 0, "metrics", PFL_MSG_GOSSIP);
    struct pfl_scatter *s = NULL;
    struct pfl_err err = {0};
    PFL_AUTO(pfl_freep) char *arg = pfl_xmalloc(PFL_WIRE_ARG_MAX + 1);
    memset(arg, 'x', PFL_WIRE_ARG_MAX);
    arg[PFL_WIRE_ARG_MAX] = '\0';
    for (int i = 0; i < PFL_WIRE_CONTROL_MAX / PFL_WIRE_ARG_MAX; i++)
        pfl_strs_add(&m->args, arg);
    assert_int_equal(pfl_msg_encode(m, NULL, &s, &err), PFL_TOO_BIG);
    assert_null(s);
}

/* ---- forwarding ---- */

static void assert_forwards(const char *name, const void *in, size_t in_len, int32_t ttl, const void *out, size_t out_len)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    struct pfl_err err = {0};
    if (decode(in, in_len, &m, &err) != PFL_OK || pfl_msg_forward(m, ttl, &s, &err) != PFL_OK)
        fail_msg("%s: %s", name, err.msg);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf got = join(s);
    if (!pfl_bytes_eq(pfl_buf_view(&got), pfl_bytes_of(out, out_len)))
        fail_msg("%s: other bytes than expected", name);
}

static void test_msg_forward__only_the_ttl_changes(void **state)
{
    (void)state;
    /* unknown fields 2000 (a text) in the message and 1999 (a number) in its gossip part */
    assert_forwards("unknown fields",
                    RAW(HEAD "\x22\x0a\x08\x05\x10\x07\x1a\x01"
                             "x"
                             "\xf8\x7c\x09"
                             "\x82\x7d\x02"
                             "uu"),
                    4,
                    RAW(HEAD "\x22\x0a\x08\x04\x10\x07\x1a\x01"
                             "x"
                             "\xf8\x7c\x09"
                             "\x82\x7d\x02"
                             "uu"));
    assert_forwards("ttl absent", RAW(HEAD "\x22\x02\x10\x07"), 9, RAW(HEAD "\x22\x04\x08\x09\x10\x07"));
    assert_forwards("ttl to 0", RAW(HEAD "\x22\x04\x08\x01\x10\x07"), 0, RAW(HEAD "\x22\x02\x10\x07"));
    assert_forwards("ttl last", RAW(HEAD "\x22\x04\x10\x07\x08\x02"), 1, RAW(HEAD "\x22\x04\x08\x01\x10\x07"));
    assert_forwards("shorter ttl", RAW(HEAD "\x22\x05\x08\x80\x01\x10\x07"), 127, RAW(HEAD "\x22\x04\x08\x7f\x10\x07"));
    assert_forwards("no gossip but the part", RAW(HEAD "\x22\x00"), 1, RAW(HEAD "\x22\x02\x08\x01"));
    assert_forwards("gossip first", RAW("\x22\x02\x08\x05" HEAD), 4, RAW("\x22\x02\x08\x04" HEAD));
}

static void test_msg_forward__origin_and_digest__travel(void **state)
{
    (void)state;
    /* field 100 Origin {certificate "c", signature "sig"}, field 101 a digest of 32 bytes */
#define EXT                                                                                                                        \
    "\xa2\x06\x08\x0a\x01"                                                                                                         \
    "c\x12\x03"                                                                                                                    \
    "sig"                                                                                                                          \
    "\xaa\x06\x20"                                                                                                                 \
    "01234567890123456789012345678901"
    assert_forwards("ours", RAW(HEAD "\x22\x02\x08\x05" EXT), 4, RAW(HEAD "\x22\x02\x08\x04" EXT));
}

/* What a node believed but could not pass on, a relay could keep from all behind it. */
static void test_msg_decode__gossip_part_or_ttl_twice__refused(void **state)
{
    (void)state;
    struct pfl_msg *m = NULL;
    struct pfl_err err = {0};
    assert_int_equal(decode(RAW(HEAD GOSSIP GOSSIP), &m, &err), PFL_MALFORMED);
    assert_non_null(strstr(err.msg, "gossip part comes twice"));
    assert_int_equal(decode(RAW(HEAD GOSSIP "\x22\x00"), &m, &err), PFL_MALFORMED);
    assert_int_equal(decode(RAW(HEAD "\x22\x06\x08\x01\x10\x07\x08\x02"), &m, &err), PFL_MALFORMED);
    assert_non_null(strstr(err.msg, "ttl comes twice"));
    assert_null(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_msg_decode__hostile_bytes__refused_with_the_reason),
        cmocka_unit_test(test_msg_decode__every_prefix_of_a_message__refused),
        cmocka_unit_test(test_msg_decode__without_an_error_struct__refuses_too),
        cmocka_unit_test(test_msg_decode__texts__exact_limit_passes_one_more_does_not),
        cmocka_unit_test(test_msg_decode__lists__exact_limit_passes_one_more_does_not),
        cmocka_unit_test(test_msg_decode__weights_are_free_of_the_control_limit__unknown_bytes_are_not),
        cmocka_unit_test(test_msg_decode__weights_twice__the_bytes_of_the_first_count_as_control),
        cmocka_unit_test(test_msg_decode__no_round__minus_one),
        cmocka_unit_test(test_msg_decode__weights_behind_the_other_fields__are_the_same_message),
        cmocka_unit_test(test_msg_decode__extremes_of_numbers__kept),
        cmocka_unit_test(test_msg_encode__a_model__is_a_scatter_list_that_copies_nothing_and_decodes),
        cmocka_unit_test(test_msg_encode__an_announced_contribution__comes_back),
        cmocka_unit_test(test_msg_encode__a_computed_result__comes_back),
        cmocka_unit_test(test_msg_encode__any_source__the_model_begins_aligned),
        cmocka_unit_test(test_msg_encode__a_decoded_model__gives_its_bytes_again),
        cmocka_unit_test(test_msg_encode__over_the_control_limit__too_big),
        cmocka_unit_test(test_msg_forward__only_the_ttl_changes),
        cmocka_unit_test(test_msg_forward__origin_and_digest__travel),
        cmocka_unit_test(test_msg_decode__gossip_part_or_ttl_twice__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
