/* SPDX-License-Identifier: Apache-2.0 */
/* link: wire */
/* A message as a peer sends it. What decodes lies within its limits, encodes again to what decodes to the same, and goes on with
 * another ttl as the same message. The same bytes are read as handshake and as response too. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/limits.h"
#include "wire/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_list(const struct pfl_strs *l, size_t max_n, size_t max)
{
    PFL_ASSERT(l->n <= max_n);
    for (size_t i = 0; i < l->n; i++)
        PFL_ASSERT(strlen(l->items[i]) <= max && pfl_utf8_valid(l->items[i], strlen(l->items[i])));
}

static void check_limits(const struct pfl_msg *m, const struct pfl_blob *blob)
{
    PFL_ASSERT(m->kind == PFL_MSG_GOSSIP || m->kind == PFL_MSG_DIRECT || m->kind == PFL_MSG_WEIGHTS);
    PFL_ASSERT(m->source[0] && strlen(m->source) <= PFL_WIRE_ADDRESS_MAX && m->cmd[0] && strlen(m->cmd) <= PFL_WIRE_CMD_MAX);
    check_list(&m->args, PFL_WIRE_ARGS_MAX, PFL_WIRE_ARG_MAX);
    check_list(&m->contributors, PFL_WIRE_CONTRIBUTORS_MAX, PFL_WIRE_ADDRESS_MAX);
    if (m->weights.len > 0) {
        PFL_ASSERT(m->weights.data >= blob->data && m->weights.data + m->weights.len <= blob->data + blob->len);
    }
}

static struct pfl_msg *decode_scatter(const struct pfl_scatter *s)
{
    struct pfl_blob *b = pfl_blob_new(s->total);
    struct pfl_msg *m = NULL;
    size_t at = 0;
    PFL_ASSERT(b);
    for (size_t i = 0; i < s->n; at += s->parts[i++].len)
        memcpy(b->data + at, s->parts[i].data, s->parts[i].len);
    PFL_ASSERT(at == s->total && pfl_msg_decode(b, &m, NULL) == PFL_OK);
    pfl_blob_unref(b);
    return m;
}

static void check_strs_same(const struct pfl_strs *a, const struct pfl_strs *b)
{
    PFL_ASSERT(a->n == b->n);
    for (size_t i = 0; i < a->n; i++)
        PFL_ASSERT(pfl_streq(a->items[i], b->items[i]));
}

static void check_same(const struct pfl_msg *a, const struct pfl_msg *b, int32_t ttl)
{
    PFL_ASSERT(pfl_streq(a->source, b->source) && pfl_streq(a->cmd, b->cmd) && a->round == b->round && a->kind == b->kind);
    PFL_ASSERT(b->ttl == ttl && a->hash == b->hash && a->num_samples == b->num_samples);
    PFL_ASSERT(pfl_bytes_eq(a->weights, b->weights) && pfl_streq(a->codec ? a->codec : "", b->codec ? b->codec : ""));
    PFL_ASSERT(a->has_digest == b->has_digest && a->has_model_digest == b->has_model_digest);
    PFL_ASSERT(a->has_contribution == b->has_contribution && memcmp(a->contribution, b->contribution, PFL_DIGEST_LEN) == 0);
    PFL_ASSERT(!a->has_contribution || a->contribution_samples == b->contribution_samples);
    PFL_ASSERT(memcmp(a->digest, b->digest, PFL_DIGEST_LEN) == 0 && memcmp(a->model_digest, b->model_digest, PFL_DIGEST_LEN) == 0);
    check_strs_same(&a->args, &b->args);
    check_strs_same(&a->contributors, &b->contributors);
}

static void try_message(const uint8_t *data, size_t size)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = pfl_blob_copy(data, size);
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = NULL;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *back = NULL;
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *next = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = NULL;
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *f = NULL;
    struct pfl_err err = {0};
    PFL_ASSERT(blob);
    if (pfl_msg_decode(blob, &m, &err) != PFL_OK) {
        PFL_ASSERT(!m && err.msg[0]);
        return;
    }
    check_limits(m, blob);
    if (pfl_msg_encode(m, NULL, &s, &err) == PFL_OK) {
        back = decode_scatter(s);
        check_same(m, back, m->ttl);
    }
    if (m->kind == PFL_MSG_GOSSIP && pfl_msg_forward(m, 7, &f, &err) == PFL_OK && f->total <= PFL_WIRE_CONTROL_MAX) {
        next = decode_scatter(f);
        check_same(m, next, 7);
    }
}

static void try_handshake(struct pfl_bytes in)
{
    PFL_AUTO(pfl_hello_deinit) struct pfl_hello hello = {0}, hello2 = {0};
    PFL_AUTO(pfl_freep) char *addr = NULL;
    PFL_AUTO(pfl_freep) char *response = NULL;
    PFL_AUTO(pfl_freep) char *error = NULL;
    if (pfl_handshake_decode(in, &addr, &hello, NULL) == PFL_OK)
        PFL_ASSERT(addr[0] && strlen(addr) <= PFL_WIRE_ADDRESS_MAX);
    check_list(&hello.codecs, PFL_WIRE_HELLO_ITEMS_MAX, PFL_WIRE_HELLO_ITEM_MAX);
    if (pfl_response_decode(in, &response, &error, &hello2, NULL) == PFL_OK)
        PFL_ASSERT(!error || (error[0] && strlen(error) <= PFL_WIRE_RESPONSE_MAX));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_message(data, size);
    try_handshake(pfl_bytes_of(data, size));
    return 0;
}
