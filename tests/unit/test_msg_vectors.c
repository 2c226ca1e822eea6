/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire */
/* Every message captured from real P2PFL nodes decodes to what the capture says and encodes to the bytes that were on the wire. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/bytes.h"
#include "wire/msg.h"

static json_t *load_vectors(void)
{
    json_error_t e;
    json_t *all = json_load_file(PFL_TEST_FIXTURES "/p2pfl-messages.json", 0, &e);
    if (!json_is_array(all))
        fail_msg("p2pfl-messages.json:%d: %s", e.line, e.text);
    return all;
}

static struct pfl_blob *hex_field(const json_t *v, const char *key)
{
    const char *hex = json_string_value(json_object_get(v, key));
    assert_non_null(hex);
    struct pfl_blob *b = pfl_blob_new(strlen(hex) / 2);
    assert_non_null(b);
    assert_true(pfl_unhex(hex, b->data, b->len));
    return b;
}

static const char *text_field(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static int64_t int_field(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key)); /* 0 where it is absent: proto3's default */
}

static void assert_scatter(const struct pfl_scatter *s, const struct pfl_blob *want)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf joined = {0};
    for (size_t i = 0; i < s->n; i++)
        assert_true(pfl_buf_append(&joined, s->parts[i].data, s->parts[i].len));
    assert_int_equal(joined.len, s->total);
    assert_int_equal(joined.len, want->len);
    assert_true(pfl_bytes_eq(pfl_buf_view(&joined), pfl_bytes_of(want->data, want->len)));
}

static void assert_list(const struct pfl_strs *got, const json_t *want)
{
    assert_int_equal(got->n, json_array_size(want));
    for (size_t i = 0; i < got->n; i++)
        assert_string_equal(got->items[i], json_string_value(json_array_get(want, i)));
}

static void check_weights(const struct pfl_msg *m, const json_t *w)
{
    size_t want = strtoul(text_field(w, "weights") + 1, NULL, 10); /* "<493 bytes>" */
    assert_int_equal(m->kind, PFL_MSG_WEIGHTS);
    assert_true(want > 0);
    assert_int_equal(m->weights.len, want);
    assert_true(m->weights.data > m->blob->data && m->weights.data + want <= m->blob->data + m->blob->len); /* a view */
    assert_int_equal(m->weights.data[0], 0x80);                                                             /* a pickle starts so */
    assert_list(&m->contributors, json_object_get(w, "contributors"));
    assert_int_equal(m->num_samples, int_field(w, "num_samples"));
    assert_null(m->codec);
    assert_false(m->has_digest);
}

static void check_root(const struct pfl_msg *m, const json_t *want)
{
    const json_t *gossip = json_object_get(want, "gossip_message"), *direct = json_object_get(want, "direct_message");
    assert_string_equal(m->source, text_field(want, "source"));
    assert_string_equal(m->cmd, text_field(want, "cmd"));
    assert_int_equal(m->round, int_field(want, "round"));
    assert_false(m->has_model_digest);
    if (gossip) {
        assert_int_equal(m->kind, PFL_MSG_GOSSIP);
        assert_int_equal(m->ttl, int_field(gossip, "ttl"));
        assert_true(m->hash == int_field(gossip, "hash"));
        assert_list(&m->args, json_object_get(gossip, "args"));
    } else if (direct) {
        assert_int_equal(m->kind, PFL_MSG_DIRECT);
        assert_list(&m->args, json_object_get(direct, "args"));
    } else {
        check_weights(m, json_object_get(want, "weights"));
    }
}

static void check_send(const json_t *v)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *bytes = hex_field(v, "request_hex");
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *forwarded = NULL;
    if (pfl_msg_decode(bytes, &m, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    check_root(m, json_object_get(v, "request"));
    assert_int_equal(pfl_msg_encode(m, NULL, &s, &err), PFL_OK);
    assert_scatter(s, bytes);
    if (m->kind == PFL_MSG_GOSSIP) {
        assert_int_equal(pfl_msg_forward(m, m->ttl, &forwarded, &err), PFL_OK);
        assert_scatter(forwarded, bytes);
    }
}

static void check_address(const json_t *v)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *bytes = hex_field(v, "request_hex");
    PFL_AUTO(pfl_freep) char *addr = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    struct pfl_hello hello = {0};
    assert_int_equal(pfl_handshake_decode(pfl_bytes_of(bytes->data, bytes->len), &addr, &hello, &err), PFL_OK);
    assert_string_equal(addr, text_field(json_object_get(v, "request"), "addr"));
    assert_false(hello.present);
    assert_int_equal(pfl_handshake_encode(addr, NULL, &s, &err), PFL_OK);
    assert_scatter(s, bytes);
}

static void check_response(const json_t *v)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *bytes = hex_field(v, "response_hex");
    PFL_AUTO(pfl_freep) char *response = NULL;
    PFL_AUTO(pfl_freep) char *error = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    struct pfl_hello hello = {0};
    const json_t *want = json_object_get(v, "response");
    assert_int_equal(pfl_response_decode(pfl_bytes_of(bytes->data, bytes->len), &response, &error, &hello, &err), PFL_OK);
    assert_string_equal(response ? response : "", text_field(want, "response"));
    assert_string_equal(error ? error : "", text_field(want, "error"));
    assert_false(hello.present);
    assert_int_equal(pfl_response_encode(response, error, NULL, &s, &err), PFL_OK);
    assert_scatter(s, bytes);
}

static void test_vectors__sends__decode_and_encode_to_the_same_bytes(void **state)
{
    (void)state;
    json_t *all = load_vectors(), *v;
    size_t i, n = 0;
    json_array_foreach (all, i, v) {
        if (strcmp(text_field(v, "rpc"), "send") != 0)
            continue;
        check_send(v);
        n++;
    }
    assert_true(n >= 20);
    json_decref(all);
}

static void test_vectors__handshake_and_disconnect__decode_and_encode_to_the_same_bytes(void **state)
{
    (void)state;
    json_t *all = load_vectors(), *v;
    size_t i, n = 0;
    json_array_foreach (all, i, v) {
        if (strcmp(text_field(v, "rpc"), "send") == 0)
            continue;
        check_address(v);
        n++;
    }
    assert_int_equal(n, 2);
    json_decref(all);
}

static void test_vectors__responses__decode_and_encode_to_the_same_bytes(void **state)
{
    (void)state;
    json_t *all = load_vectors(), *v;
    size_t i, n_text = 0;
    json_array_foreach (all, i, v) {
        check_response(v);
        n_text += strlen(text_field(v, "response_hex")) > 0;
    }
    assert_int_equal(n_text, 2); /* "true" and "false" */
    json_decref(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors__sends__decode_and_encode_to_the_same_bytes),
        cmocka_unit_test(test_vectors__handshake_and_disconnect__decode_and_encode_to_the_same_bytes),
        cmocka_unit_test(test_vectors__responses__decode_and_encode_to_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
