/* SPDX-License-Identifier: Apache-2.0 */
/* RootMessage: decoded by nanopb with every string and list under its limit, weights as a view. The encoder writes fields in the
 * order of their numbers and leaves defaults out, so its bytes are those of protobuf's own encoders; only the weights are put
 * around by hand, because nothing may copy them. */
#include "wire/msg.h"

#include <stdlib.h>
#include <string.h>

#include "node.pb.h"
#include "wire/limits.h"
#include "wire/origin.h"
#include "wire/payload.h"
#include "wire/pb.h"

struct pfl_msg *pfl_msg_new(const char *source, int32_t round, const char *cmd, enum pfl_msg_kind kind)
{
    struct pfl_msg *m = pfl_xcalloc(1, sizeof(*m));
    atomic_init(&m->refs, 1);
    m->source = pfl_xstrdup(source);
    m->round = round;
    m->cmd = pfl_xstrdup(cmd);
    m->kind = kind;
    return m;
}

struct pfl_msg *pfl_msg_ref(struct pfl_msg *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void pfl_msg_unref(struct pfl_msg *m)
{
    if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(m->source);
    free(m->cmd);
    free(m->codec);
    free(m->sign_for);
    pfl_origin_unref(m->origin);
    pfl_strs_deinit(&m->args);
    pfl_strs_deinit(&m->contributors);
    pfl_buf_deinit(&m->evidence);
    pfl_blob_unref(m->blob);
    free(m);
}

/* ---- decoding ---- */

struct wants {
    struct pfl_pb_str source, cmd, codec, experiment;
    struct pfl_pb_strs gossip_args, direct_args, contributors;
    struct pfl_pb_view weights, signature, evidence;
    struct pfl_pb_views certs;
};

static void wants_init(struct wants *w, node_RootMessage *pb, const struct pfl_pb_input *input)
{
    *w = (struct wants){
        .source = {"source", PFL_WIRE_ADDRESS_MAX, NULL, input},
        .cmd = {"cmd", PFL_WIRE_CMD_MAX, NULL, input},
        .codec = {"weights.codec", PFL_WIRE_CODEC_MAX, NULL, input},
        .gossip_args = {"gossip_message.args", PFL_WIRE_ARG_MAX, PFL_WIRE_ARGS_MAX, {0}, input},
        .direct_args = {"direct_message.args", PFL_WIRE_ARG_MAX, PFL_WIRE_ARGS_MAX, {0}, input},
        .contributors = {"weights.contributors", PFL_WIRE_ADDRESS_MAX, PFL_WIRE_CONTRIBUTORS_MAX, {0}, input},
        .weights = {"weights.weights", {NULL, 0}, input},
        .certs = {"origin.certificate", PFL_WIRE_ORIGIN_CERT_MAX, PFL_WIRE_ORIGIN_CERTS_MAX, NULL, 0, input},
        .signature = {"origin.signature", {NULL, 0}, input},
        .evidence = {"evidence", {NULL, 0}, input},
        .experiment = {"origin.experiment", PFL_WIRE_EXPERIMENT_MAX, NULL, input},
    };
    pfl_pb_want_str(&pb->source, &w->source);
    pfl_pb_want_str(&pb->cmd, &w->cmd);
    pfl_pb_want_str(&pb->weights.codec, &w->codec);
    pfl_pb_want_strs(&pb->gossip_message.args, &w->gossip_args);
    pfl_pb_want_strs(&pb->direct_message.args, &w->direct_args);
    pfl_pb_want_strs(&pb->weights.contributors, &w->contributors);
    pfl_pb_want_view(&pb->weights.weights, &w->weights);
    pfl_pb_want_views(&pb->origin.certificate, &w->certs);
    pfl_pb_want_view(&pb->evidence, &w->evidence);
    pfl_pb_want_view(&pb->origin.signature, &w->signature);
    pfl_pb_want_str(&pb->origin.experiment, &w->experiment);
}

static void wants_deinit(struct wants *w)
{
    free(w->source.value);
    free(w->cmd.value);
    free(w->codec.value);
    free(w->experiment.value);
    free(w->certs.value);
    pfl_strs_deinit(&w->gossip_args.value);
    pfl_strs_deinit(&w->direct_args.value);
    pfl_strs_deinit(&w->contributors.value);
}

static bool take_digest(size_t len, const uint8_t *bytes, uint8_t *out, bool *ret_has)
{
    *ret_has = len == PFL_DIGEST_LEN;
    if (*ret_has)
        memcpy(out, bytes, PFL_DIGEST_LEN);
    return len == 0 || len == PFL_DIGEST_LEN;
}

/* What holds for every message, whatever its command. */
static enum pfl_rc check_decoded(const node_RootMessage *pb, const struct wants *w, size_t len, struct pfl_err *err)
{
    int kinds = pb->has_gossip_message + pb->has_direct_message + pb->has_weights;
    if (!w->source.value || w->source.value[0] == '\0')
        return pfl_err_set(err, PFL_MALFORMED, "message without a source");
    if (!w->cmd.value || w->cmd.value[0] == '\0')
        return pfl_err_set(err, PFL_MALFORMED, "message without a command");
    if (kinds != 1)
        return pfl_err_set(err, PFL_MALFORMED, "message '%s' with %d payloads, one is needed", pfl_q(w->cmd.value), kinds);
    if (len - w->weights.value.len > PFL_WIRE_CONTROL_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "message '%s': %zu bytes besides the weights, the limit is %d", pfl_q(w->cmd.value),
                           len - w->weights.value.len, PFL_WIRE_CONTROL_MAX);
    return PFL_OK;
}

static enum pfl_rc fill_origin(struct pfl_msg *m, const node_RootMessage *pb, const struct wants *w, struct pfl_err *err)
{
    if (!pb->has_origin)
        return PFL_OK;
    if (w->certs.n == 0)
        return pfl_err_set(err, PFL_MALFORMED, "origin without a certificate");
    if (w->signature.value.len == 0 || w->signature.value.len > PFL_WIRE_ORIGIN_SIGNATURE_MAX)
        return pfl_err_set(err, PFL_MALFORMED, "origin.signature is %zu bytes, 1 to %d are possible", w->signature.value.len,
                           PFL_WIRE_ORIGIN_SIGNATURE_MAX);
    struct pfl_origin *o = pfl_origin_new(w->experiment.value, pb->origin.sent_at_ms);
    for (size_t i = 0; i < w->certs.n; i++)
        pfl_buf_append(&o->certs[i], w->certs.value[i].data, w->certs.value[i].len);
    o->n_certs = w->certs.n;
    pfl_buf_append(&o->signature, w->signature.value.data, w->signature.value.len);
    m->origin = o;
    return PFL_OK;
}

/* ---- where the gossip part is ---- */

/* Length of the field at the cursor, its tag included; moves behind it. False where it is cut off or of a type that proto3 has not.
 */
static bool skip_field(struct pfl_reader *r, uint64_t *ret_tag, struct pfl_bytes *ret_raw, struct pfl_bytes *ret_inner)
{
    size_t start = r->pos;
    uint64_t tag = pfl_reader_varint(r);
    struct pfl_bytes inner = {NULL, 0};
    switch (tag & 7) {
    case 0:
        pfl_reader_varint(r);
        break;
    case 1:
        inner = pfl_reader_bytes(r, 8);
        break;
    case 2: {
        uint64_t len = pfl_reader_varint(r);
        inner = pfl_reader_bytes(r, len > SIZE_MAX ? SIZE_MAX : (size_t)len);
        break;
    }
    case 5:
        inner = pfl_reader_bytes(r, 4);
        break;
    default:
        r->failed = true;
    }
    if (r->failed)
        return false;
    *ret_tag = tag;
    *ret_raw = pfl_bytes_sub(r->in, start, r->pos - start);
    *ret_inner = inner;
    return true;
}

/* Where in the bytes the one field with that number is: from its tag to its end. *ret_begin: where its content begins. False where
 * it comes twice or is broken. */
static bool find_field(struct pfl_bytes in, unsigned number, size_t *ret_tag, size_t *ret_begin, size_t *ret_end)
{
    struct pfl_reader r = pfl_reader_of(in);
    bool found = false;
    while (pfl_reader_left(&r) > 0) {
        uint64_t tag;
        struct pfl_bytes raw, inner;
        size_t start = r.pos;
        if (!skip_field(&r, &tag, &raw, &inner))
            return false;
        if (tag >> 3 != number)
            continue;
        if (found)
            return false;
        found = true;
        *ret_tag = start;
        *ret_begin = r.pos - inner.len;
        *ret_end = r.pos;
    }
    return true;
}

/* protobuf would merge a part that comes twice. No peer sends that, and who passes it on would have to say it otherwise than it
 * came. */
static enum pfl_rc find_gossip(struct pfl_bytes in, struct pfl_gossip_at *at, struct pfl_err *err)
{
    size_t ttl_begin = 0;
    *at = (struct pfl_gossip_at){0};
    if (!find_field(in, node_RootMessage_gossip_message_tag, &at->tag, &at->begin, &at->end) || at->end == 0)
        return pfl_err_set(err, PFL_MALFORMED, "its gossip part comes twice or is broken");
    bool once = find_field(pfl_bytes_sub(in, at->begin, at->end - at->begin), node_GossipMessage_ttl_tag, &at->ttl, &ttl_begin,
                           &at->ttl_end);
    at->ttl += at->begin;
    at->ttl_end += at->begin;
    return once ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "its ttl comes twice or its gossip part is broken");
}

static enum pfl_rc fill_evidence(struct pfl_msg *m, struct pfl_bytes evidence, struct pfl_err *err)
{
    m->evidence.limit = PFL_WIRE_EVIDENCE_MAX;
    if (evidence.len > 0 && (m->kind != PFL_MSG_GOSSIP || strcmp(m->cmd, "evidence") != 0))
        return pfl_err_set(err, PFL_MALFORMED, "evidence in a %s message", pfl_q(m->cmd));
    if (evidence.len > PFL_WIRE_EVIDENCE_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "evidence is %zu bytes, the limit is %d", evidence.len, PFL_WIRE_EVIDENCE_MAX);
    if (evidence.len > 0)
        pfl_buf_append(&m->evidence, evidence.data, evidence.len);
    return PFL_OK;
}

static enum pfl_rc fill(struct pfl_msg *m, const node_RootMessage *pb, struct wants *w, struct pfl_err *err)
{
    m->source = pfl_steal(&w->source.value);
    m->cmd = pfl_steal(&w->cmd.value);
    m->round = pb->has_round ? pb->round : -1;
    if (pb->has_gossip_message) {
        m->kind = PFL_MSG_GOSSIP;
        m->ttl = pb->gossip_message.ttl;
        m->hash = pb->gossip_message.hash;
        m->args = w->gossip_args.value;
        w->gossip_args.value = (struct pfl_strs){0};
    } else if (pb->has_direct_message) {
        m->kind = PFL_MSG_DIRECT;
        m->args = w->direct_args.value;
        w->direct_args.value = (struct pfl_strs){0};
    } else {
        m->kind = PFL_MSG_WEIGHTS;
        m->weights = w->weights.value;
        m->contributors = w->contributors.value;
        w->contributors.value = (struct pfl_strs){0};
        m->num_samples = pb->weights.num_samples;
        m->codec = pfl_steal(&w->codec.value);
        if (!take_digest(pb->weights.digest.size, pb->weights.digest.bytes, m->digest, &m->has_digest))
            return pfl_err_set(err, PFL_MALFORMED, "weights.digest is %u bytes, %d are needed", (unsigned)pb->weights.digest.size,
                               PFL_DIGEST_LEN);
    }
    if (!take_digest(pb->model_digest.size, pb->model_digest.bytes, m->model_digest, &m->has_model_digest))
        return pfl_err_set(err, PFL_MALFORMED, "model_digest is %u bytes, %d are needed", (unsigned)pb->model_digest.size,
                           PFL_DIGEST_LEN);
    m->computed = pb->computed;
    m->contribution_samples = pb->contribution.num_samples;
    if (pb->has_contribution &&
        (!take_digest(pb->contribution.model.size, pb->contribution.model.bytes, m->contribution, &m->has_contribution) ||
         !m->has_contribution))
        return pfl_err_set(err, PFL_MALFORMED, "contribution.model is %u bytes, %d are needed",
                           (unsigned)pb->contribution.model.size, PFL_DIGEST_LEN);
    pfl_strs_seal(&m->args);
    pfl_strs_seal(&m->contributors);
    enum pfl_rc rc = fill_evidence(m, w->evidence.value, err);
    return rc == PFL_OK ? fill_origin(m, pb, w, err) : rc;
}

static enum pfl_rc locate(struct pfl_msg *m, struct pfl_bytes in, struct pfl_err *err)
{
    enum pfl_rc rc = find_gossip(in, &m->gossip_at, err);
    if (rc != PFL_OK)
        (void)pfl_err_wrap(err, "message '%s'", pfl_q(m->cmd));
    return rc;
}

enum pfl_rc pfl_msg_decode(struct pfl_blob *blob, struct pfl_msg **ret, struct pfl_err *err)
{
    struct pfl_err local = {0}, *e = err ? err : &local;
    node_RootMessage pb = node_RootMessage_init_zero;
    struct wants w;
    const struct pfl_pb_input input = {pfl_bytes_of(blob->data, blob->len), e};
    wants_init(&w, &pb, &input);
    enum pfl_rc rc = pfl_pb_decode(&input, node_RootMessage_fields, &pb, "message");
    if (rc == PFL_OK)
        rc = check_decoded(&pb, &w, blob->len, e);
    if (rc == PFL_OK) {
        struct pfl_msg *m = pfl_xcalloc(1, sizeof(*m));
        atomic_init(&m->refs, 1);
        rc = fill(m, &pb, &w, e);
        if (rc == PFL_OK && m->kind == PFL_MSG_GOSSIP)
            rc = locate(m, input.in, e);
        m->blob = pfl_blob_ref(blob);
        if (rc == PFL_OK)
            *ret = m;
        else
            pfl_msg_unref(m);
    }
    wants_deinit(&w);
    return rc;
}

/* ---- encoding ---- */

static void put_digest(pb_byte_t *bytes, pb_size_t *size, const uint8_t *digest)
{
    memcpy(bytes, digest, PFL_DIGEST_LEN);
    *size = PFL_DIGEST_LEN;
}

static void put_envelope(node_RootMessage *pb, const struct pfl_msg *m)
{
    pfl_pb_put_str(&pb->source, m->source);
    pb->has_round = true;
    pb->round = m->round;
    pfl_pb_put_str(&pb->cmd, m->cmd);
}

static void put_digests(node_RootMessage *pb, const struct pfl_msg *m)
{
    if (m->has_model_digest)
        put_digest(pb->model_digest.bytes, &pb->model_digest.size, m->model_digest);
    pb->computed = m->computed;
    if (m->evidence.len > 0)
        pfl_pb_put_bytes(&pb->evidence, &m->evidence);
    pb->has_contribution = m->has_contribution;
    if (!m->has_contribution)
        return;
    put_digest(pb->contribution.model.bytes, &pb->contribution.model.size, m->contribution);
    pb->contribution.num_samples = m->contribution_samples;
}

static enum pfl_rc encode_control(const struct pfl_msg *m, struct pfl_scatter *s, struct pfl_err *err)
{
    node_RootMessage pb = node_RootMessage_init_zero;
    put_envelope(&pb, m);
    if (m->kind == PFL_MSG_GOSSIP) {
        pb.has_gossip_message = true;
        pb.gossip_message.ttl = m->ttl;
        pb.gossip_message.hash = m->hash;
        pfl_pb_put_strs(&pb.gossip_message.args, &m->args);
    } else {
        pb.has_direct_message = true;
        pfl_pb_put_strs(&pb.direct_message.args, &m->args);
    }
    put_digests(&pb, m);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {.limit = PFL_WIRE_CONTROL_MAX};
    enum pfl_rc rc = pfl_pb_encode(&out, node_RootMessage_fields, &pb, m->cmd, err);
    if (rc == PFL_OK)
        pfl_scatter_add_copy(s, pfl_buf_view(&out));
    return rc;
}

/* The fields of Weights behind the bytes themselves. */
static enum pfl_rc encode_weights_tail(const struct pfl_msg *m, struct pfl_buf *out, struct pfl_err *err)
{
    node_Weights w = node_Weights_init_zero;
    pfl_pb_put_strs(&w.contributors, &m->contributors);
    w.num_samples = m->num_samples;
    pfl_pb_put_str(&w.codec, m->codec);
    if (m->has_digest)
        put_digest(w.digest.bytes, &w.digest.size, m->digest);
    return pfl_pb_encode(out, node_Weights_fields, &w, m->cmd, err);
}

static size_t varint_len(uint64_t v)
{
    size_t n = 1;
    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static void put_tag(struct pfl_buf *b, unsigned field, size_t len)
{
    pfl_buf_varint(b, (uint64_t)field << 3 | 2); /* length-delimited */
    pfl_buf_varint(b, len);
}

/* What stands before the bytes of the weights: the tag and length of the submessage, padding, the tag and length of the bytes.
 * aligned (messages of our nodes, which name their codec): with as much padding as makes the bytes begin at a multiple of 8 of
 * the message. */
static void put_weights_head(struct pfl_buf *head, size_t bytes, size_t tail_len, bool aligned)
{
    static const uint8_t zeros[16]; /* twice 8: one offset may be skipped where the length grows by a byte */
    size_t field = bytes > 0 ? 1 + varint_len(bytes) : 0;
    for (size_t pad = 0; pad <= sizeof(zeros); pad++) {
        size_t pad_field = pad > 0 ? 2 + 1 + pad - 1 : 0; /* tag 102 has two bytes, the length one */
        size_t inner = pad_field + field + bytes + tail_len;
        size_t at = head->len + 1 + varint_len(inner) + pad_field + field;
        if (aligned && at % 8 != 0 && pad < sizeof(zeros))
            continue;
        put_tag(head, node_RootMessage_weights_tag, inner);
        if (pad > 0) {
            put_tag(head, node_Weights_padding_tag, pad - 1);
            pfl_buf_append(head, zeros, pad - 1);
        }
        if (bytes > 0)
            put_tag(head, node_Weights_weights_tag, bytes);
        return;
    }
}

static enum pfl_rc encode_weights(const struct pfl_msg *m, const struct pfl_bytes *parts, size_t n_parts, bool aligned,
                                  struct pfl_scatter *s, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf head = {.limit = PFL_WIRE_CONTROL_MAX};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf tail = {.limit = PFL_WIRE_CONTROL_MAX};
    node_RootMessage before = node_RootMessage_init_zero, after = node_RootMessage_init_zero;
    put_envelope(&before, m);
    put_digests(&after, m);
    enum pfl_rc rc = pfl_pb_encode(&head, node_RootMessage_fields, &before, m->cmd, err);
    if (rc == PFL_OK)
        rc = encode_weights_tail(m, &tail, err);
    if (rc != PFL_OK)
        return rc;
    size_t bytes = 0;
    for (size_t i = 0; i < n_parts; i++)
        bytes += parts[i].len;
    put_weights_head(&head, bytes, tail.len, aligned);
    rc = pfl_pb_encode(&tail, node_RootMessage_fields, &after, m->cmd, err);
    if (rc != PFL_OK || head.failed || tail.failed)
        return pfl_err_set(err, PFL_TOO_BIG, "%s: over %d bytes besides the weights", m->cmd, PFL_WIRE_CONTROL_MAX);
    pfl_scatter_add_copy(s, pfl_buf_view(&head));
    for (size_t i = 0; i < n_parts; i++)
        pfl_scatter_add(s, parts[i]);
    pfl_scatter_add_copy(s, pfl_buf_view(&tail));
    return PFL_OK;
}

/* The author's signature: the one that came with it, or one that is still to be made. */
static enum pfl_rc finish(const struct pfl_msg *m, struct pfl_scatter *s, struct pfl_err *err)
{
    if (!m->origin && !m->sign_for)
        return PFL_OK;
    s->to_sign = pfl_msg_ref((struct pfl_msg *)(uintptr_t)m); /* only the count changes */
    return m->origin ? pfl_scatter_put_origin(s, m->origin, err) : PFL_OK;
}

static void release_payload(void *p)
{
    pfl_payload_unref(p);
}

enum pfl_rc pfl_msg_encode(const struct pfl_msg *m, const struct pfl_payload *payload, struct pfl_scatter **ret,
                           struct pfl_err *err)
{
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *s = pfl_scatter_new(PFL_SCATTER_PARTS);
    enum pfl_rc rc;
    if (m->kind != PFL_MSG_WEIGHTS) {
        rc = encode_control(m, s, err);
    } else if (payload) {
        const struct pfl_bytes parts[] = {pfl_buf_view(&payload->head),
                                          pfl_bytes_of(payload->model->data, payload->model->layout->bytes)};
        s->keep = pfl_payload_ref((struct pfl_payload *)(uintptr_t)payload); /* only the count changes */
        s->keep_free = release_payload;
        rc = encode_weights(m, parts, 2, m->codec != NULL, s, err);
    } else {
        s->blob = m->blob ? pfl_blob_ref(m->blob) : NULL;
        rc = encode_weights(m, &m->weights, 1, m->codec != NULL, s, err);
    }
    if (rc == PFL_OK)
        rc = finish(m, s, err);
    if (rc == PFL_OK)
        *ret = pfl_steal(&s);
    return rc;
}

/* ---- forwarding ---- */

static enum pfl_rc forward(struct pfl_blob *blob, const struct pfl_gossip_at *at, int32_t ttl, struct pfl_scatter **ret,
                           struct pfl_err *err)
{
    const struct pfl_bytes in = pfl_bytes_of(blob->data, blob->len);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf field = {.limit = 16}, head = {.limit = 32};
    if (ttl != 0) {
        pfl_buf_varint(&field, node_GossipMessage_ttl_tag << 3);
        pfl_buf_varint(&field, (uint64_t)(int64_t)ttl);
    }
    size_t inner = at->end - at->begin - (at->ttl_end - at->ttl) + field.len;
    size_t outer = at->tag + 1 + varint_len(inner) + inner + in.len - at->end;
    if (outer > PFL_WIRE_CONTROL_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "over %d bytes", PFL_WIRE_CONTROL_MAX);
    put_tag(&head, node_RootMessage_gossip_message_tag, inner);
    pfl_buf_append(&head, field.data, field.len);
    PFL_ASSERT(!field.failed && !head.failed);
    struct pfl_scatter *s = pfl_scatter_new(4);
    s->blob = pfl_blob_ref(blob);
    pfl_scatter_add(s, pfl_bytes_sub(in, 0, at->tag));
    pfl_scatter_add_copy(s, pfl_buf_view(&head));
    pfl_scatter_add(s, pfl_bytes_sub(in, at->begin, at->ttl - at->begin));
    pfl_scatter_add(s, pfl_bytes_sub(in, at->ttl_end, in.len - at->ttl_end));
    *ret = s;
    return PFL_OK;
}

enum pfl_rc pfl_msg_forward(const struct pfl_msg *m, int32_t ttl, struct pfl_scatter **ret, struct pfl_err *err)
{
    PFL_ASSERT(m->blob && m->kind == PFL_MSG_GOSSIP);
    enum pfl_rc rc = forward(m->blob, &m->gossip_at, ttl, ret, err);
    if (rc != PFL_OK)
        (void)pfl_err_wrap(err, "message '%s'", pfl_q(m->cmd));
    return rc;
}

enum pfl_rc pfl_blob_forward(struct pfl_blob *blob, int32_t ttl, struct pfl_scatter **ret, struct pfl_err *err)
{
    struct pfl_gossip_at at;
    enum pfl_rc rc = find_gossip(pfl_bytes_of(blob->data, blob->len), &at, err);
    return rc == PFL_OK ? forward(blob, &at, ttl, ret, err) : rc;
}

bool pfl_blob_is_from(const struct pfl_blob *blob, const char *source)
{
    const struct pfl_bytes in = pfl_bytes_of(blob->data, blob->len);
    size_t tag = 0, begin = 0, end = 0;
    return find_field(in, node_RootMessage_source_tag, &tag, &begin, &end) &&
           pfl_bytes_eq(pfl_bytes_sub(in, begin, end - begin), pfl_bytes_of(source, strlen(source)));
}
