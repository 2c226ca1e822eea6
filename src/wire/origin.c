/* SPDX-License-Identifier: Apache-2.0 */
/* The signed text is written by one function and read by one: an order that differs between the two would make every signature a
 * bad one, and the unit test's vectors pin both. */
#include "wire/origin.h"

#include <stdlib.h>
#include <string.h>

#include "node.pb.h"
#include "wire/pb.h"

static const char magic[] = "p2pfl-origin-v1";

enum {
    TEXT_MAX = 2 * PFL_WIRE_CONTROL_MAX, /* lengths take four bytes here, one or two in the message */
    CONTRIBUTION_LEN = PFL_DIGEST_LEN + 4,
};

struct pfl_origin *pfl_origin_new(const char *experiment, int64_t sent_at_ms)
{
    struct pfl_origin *o = pfl_xcalloc(1, sizeof(*o));
    atomic_init(&o->refs, 1);
    o->experiment = pfl_xstrdup(experiment ? experiment : "");
    o->sent_at_ms = sent_at_ms;
    o->signature.limit = PFL_WIRE_ORIGIN_SIGNATURE_MAX;
    for (size_t i = 0; i < PFL_ARRAY_LEN(o->certs); i++)
        o->certs[i].limit = PFL_WIRE_ORIGIN_CERT_MAX;
    return o;
}

struct pfl_origin *pfl_origin_ref(struct pfl_origin *o)
{
    if (o)
        atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return o;
}

void pfl_origin_unref(struct pfl_origin *o)
{
    if (!o || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < PFL_ARRAY_LEN(o->certs); i++)
        pfl_buf_deinit(&o->certs[i]);
    pfl_buf_deinit(&o->signature);
    free(o->experiment);
    free(o);
}

/* ---- writing ---- */

static void put_bytes(struct pfl_buf *out, const void *data, size_t len)
{
    pfl_buf_u32be(out, (uint32_t)len);
    pfl_buf_append(out, data, len);
}

static void put_text(struct pfl_buf *out, const char *text)
{
    put_bytes(out, text ? text : "", text ? strlen(text) : 0);
}

static void put_list(struct pfl_buf *out, const struct pfl_strs *l)
{
    pfl_buf_u32be(out, (uint32_t)l->n);
    for (size_t i = 0; i < l->n; i++)
        put_text(out, l->items[i]);
}

static void put_content(struct pfl_buf *out, const struct pfl_msg *m)
{
    switch (m->kind) {
    case PFL_MSG_GOSSIP:
        pfl_buf_u64be(out, (uint64_t)m->hash);
        put_list(out, &m->args);
        break;
    case PFL_MSG_DIRECT:
        put_list(out, &m->args);
        break;
    case PFL_MSG_WEIGHTS:
        put_text(out, m->codec);
        put_bytes(out, m->digest, sizeof(m->digest));
        pfl_buf_u32be(out, (uint32_t)m->num_samples);
        put_list(out, &m->contributors);
        break;
    case PFL_MSG_NONE:
        break;
    }
    if (m->has_model_digest)
        put_bytes(out, m->model_digest, sizeof(m->model_digest));
    if (m->has_contribution) {
        pfl_buf_u32be(out, CONTRIBUTION_LEN);
        pfl_buf_append(out, m->contribution, sizeof(m->contribution));
        pfl_buf_u32be(out, (uint32_t)m->contribution_samples);
    }
    if (m->computed)
        put_bytes(out, "\1", 1);
    if (m->evidence.len > 0)
        put_bytes(out, m->evidence.data, m->evidence.len);
}

enum pfl_rc pfl_origin_text(const struct pfl_msg *m, const char *experiment, int64_t sent_at_ms, struct pfl_buf *out,
                            struct pfl_err *err)
{
    PFL_ASSERT(m->kind != PFL_MSG_NONE);
    if (m->kind == PFL_MSG_WEIGHTS && !m->has_digest)
        return pfl_err_set(err, PFL_MALFORMED, "%s without a digest cannot be signed", pfl_q(m->cmd));
    put_text(out, magic);
    put_text(out, m->source);
    put_text(out, m->cmd);
    put_text(out, experiment);
    pfl_buf_u32be(out, (uint32_t)m->round);
    pfl_buf_u64be(out, (uint64_t)sent_at_ms);
    pfl_buf_u8(out, (uint8_t)m->kind);
    put_content(out, m);
    if (out->failed)
        return pfl_err_set(err, PFL_TOO_BIG, "%s is too long to be signed", pfl_q(m->cmd));
    return PFL_OK;
}

/* ---- reading ---- */

static struct pfl_bytes take_bytes(struct pfl_reader *r)
{
    return pfl_reader_bytes(r, pfl_reader_u32be(r));
}

static char *take_text(struct pfl_reader *r, size_t max)
{
    struct pfl_bytes b = take_bytes(r);
    if (b.len > max || (b.len > 0 && (memchr(b.data, 0, b.len) || !pfl_utf8_valid(b.data, b.len))))
        r->failed = true;
    return pfl_xstrndup(r->failed || b.len == 0 ? "" : (const char *)b.data, r->failed ? 0 : b.len);
}

/* *ret_sole: the only item, owned, or NULL. */
static void skip_list(struct pfl_reader *r, char **ret_sole)
{
    uint32_t n = pfl_reader_u32be(r);
    if (n == 1)
        *ret_sole = take_text(r, PFL_WIRE_ARG_MAX);
    for (uint32_t i = 0; n != 1 && i < n && !r->failed; i++)
        take_bytes(r);
}

static void take_model(struct pfl_reader *r, struct pfl_bytes digest, struct pfl_origin_said *s)
{
    if (digest.len != PFL_DIGEST_LEN)
        r->failed = true;
    else
        memcpy(s->model, digest.data, sizeof(s->model));
}

/* A model that comes along with its announcement is what counts. */
static void take_announced(struct pfl_reader *r, struct pfl_bytes contribution, struct pfl_origin_said *s)
{
    struct pfl_reader c = pfl_reader_of(contribution);
    struct pfl_bytes model = pfl_reader_bytes(&c, PFL_DIGEST_LEN);
    uint32_t n_samples = pfl_reader_u32be(&c);
    r->failed = r->failed || c.failed || pfl_reader_left(&c) > 0;
    if (r->failed || s->kind == PFL_MSG_WEIGHTS)
        return;
    memcpy(s->model, model.data, sizeof(s->model));
    s->n_samples = n_samples;
    s->announces = true;
}

/* model_digest, contribution, computed, evidence: in this order, each of a length of its own (the last is longer than any other),
 * each once at most. */
static void skip_tails(struct pfl_reader *r, struct pfl_origin_said *s)
{
    bool has_model = false, announces = false, computed = false, proves = false;
    while (!r->failed && pfl_reader_left(r) > 0) {
        struct pfl_bytes tail = take_bytes(r);
        if (tail.len > CONTRIBUTION_LEN && s->kind == PFL_MSG_GOSSIP && !proves) {
            proves = true;
        } else if (proves) {
            r->failed = true;
        } else if (tail.len == CONTRIBUTION_LEN && !announces && !computed) {
            take_announced(r, tail, s);
            announces = true;
        } else if (tail.len == 1 && tail.data[0] == 1 && !computed) {
            computed = true;
        } else if (!has_model && !announces && !computed) {
            take_model(r, tail, s);
            has_model = true;
        } else {
            r->failed = true;
        }
    }
    s->computed = s->kind == PFL_MSG_GOSSIP && computed && has_model && !announces;
}

/* A contribution is the same whether it travels compressed or not: what counts is the model that it is, which model_digest says
 * where the digest is of other bytes. */
static void skip_content(struct pfl_reader *r, struct pfl_origin_said *s)
{
    if (s->kind == PFL_MSG_WEIGHTS) {
        take_bytes(r);
        take_model(r, take_bytes(r), s);
        s->content_at = r->pos;
        s->n_samples = pfl_reader_u32be(r);
    }
    skip_list(r, &s->sole);
    s->content_end = r->pos;
    skip_tails(r, s);
    if (s->kind != PFL_MSG_WEIGHTS)
        s->content_end = r->pos;
}

void pfl_origin_said_deinit(struct pfl_origin_said *s)
{
    free(s->source);
    free(s->cmd);
    free(s->experiment);
    free(s->sole);
    *s = (struct pfl_origin_said){0};
}

enum pfl_rc pfl_origin_said_parse(struct pfl_bytes text, struct pfl_origin_said *ret, struct pfl_err *err)
{
    struct pfl_reader r = pfl_reader_of(text);
    struct pfl_origin_said s = {0};
    bool ours = pfl_bytes_eq(take_bytes(&r), pfl_bytes_of(magic, sizeof(magic) - 1));
    s.source = take_text(&r, PFL_WIRE_ADDRESS_MAX);
    s.cmd = take_text(&r, PFL_WIRE_CMD_MAX);
    s.experiment = take_text(&r, PFL_WIRE_EXPERIMENT_MAX);
    s.round = (int32_t)pfl_reader_u32be(&r);
    s.sent_at_ms = (int64_t)pfl_reader_u64be(&r);
    uint8_t kind = pfl_reader_u8(&r);
    s.kind = (enum pfl_msg_kind)kind;
    if (kind == PFL_MSG_GOSSIP)
        pfl_reader_u64be(&r);
    s.content_at = r.pos;
    if (kind >= PFL_MSG_GOSSIP && kind <= PFL_MSG_WEIGHTS)
        skip_content(&r, &s);
    else
        r.failed = true;
    if (ours && !r.failed && pfl_reader_left(&r) == 0) {
        *ret = s;
        return PFL_OK;
    }
    pfl_origin_said_deinit(&s);
    return pfl_err_set(err, PFL_MALFORMED, "no signed text of a message (%zu bytes)", text.len);
}

static bool about_the_same(const struct pfl_origin_said *a, const struct pfl_origin_said *b)
{
    return a->round == b->round && strcmp(a->source, b->source) == 0 && strcmp(a->experiment, b->experiment) == 0;
}

enum pfl_once pfl_origin_once(const struct pfl_origin_said *s)
{
    if (s->kind == PFL_MSG_GOSSIP && strcmp(s->cmd, "vote_train_set") == 0)
        return PFL_ONCE_VOTE;
    if (s->computed && strcmp(s->cmd, "models_ready") == 0)
        return PFL_ONCE_RESULT;
    bool announced = s->kind == PFL_MSG_GOSSIP && strcmp(s->cmd, "models_aggregated") == 0 && s->announces;
    bool sent = s->kind == PFL_MSG_WEIGHTS && strcmp(s->cmd, "partial_model") == 0 && pfl_streq(s->sole, s->source);
    return announced || sent ? PFL_ONCE_CONTRIBUTION : PFL_ONCE_NOT;
}

const char *pfl_once_name(enum pfl_once what)
{
    static const char *const names[] = {"things", "votes", "contributions", "results"};
    return names[what];
}

static bool same_contribution(const struct pfl_origin_said *a, const struct pfl_origin_said *b)
{
    return a->n_samples == b->n_samples && memcmp(a->model, b->model, sizeof(a->model)) == 0;
}

bool pfl_origin_contradict(struct pfl_bytes a, struct pfl_bytes b)
{
    struct pfl_origin_said sa = {0}, sb = {0};
    bool both = pfl_origin_said_parse(a, &sa, NULL) == PFL_OK && pfl_origin_said_parse(b, &sb, NULL) == PFL_OK;
    bool alike = both && about_the_same(&sa, &sb) && pfl_origin_once(&sa) == pfl_origin_once(&sb);
    enum pfl_once what = alike ? pfl_origin_once(&sa) : PFL_ONCE_NOT;
    bool differ = (what == PFL_ONCE_CONTRIBUTION && !same_contribution(&sa, &sb)) ||
                  (what == PFL_ONCE_RESULT && memcmp(sa.model, sb.model, sizeof(sa.model)) != 0) ||
                  (what == PFL_ONCE_VOTE && !pfl_bytes_eq(pfl_bytes_sub(a, sa.content_at, sa.content_end - sa.content_at),
                                                          pfl_bytes_sub(b, sb.content_at, sb.content_end - sb.content_at)));
    pfl_origin_said_deinit(&sa);
    pfl_origin_said_deinit(&sb);
    return differ;
}

/* ---- the field ---- */

static bool put_certs(pb_ostream_t *s, const pb_field_t *f, void *const *arg)
{
    const struct pfl_origin *o = *arg;
    for (size_t i = 0; i < o->n_certs; i++) {
        if (!pb_encode_tag_for_field(s, f) || !pb_encode_string(s, o->certs[i].data, o->certs[i].len))
            return false;
    }
    return true;
}

enum pfl_rc pfl_origin_encode(const struct pfl_origin *o, struct pfl_buf *out, struct pfl_err *err)
{
    node_RootMessage pb = node_RootMessage_init_zero;
    pb.has_origin = true;
    pb.origin.certificate.funcs.encode = put_certs;
    pb.origin.certificate.arg = (void *)(uintptr_t)o;
    pfl_pb_put_bytes(&pb.origin.signature, &o->signature);
    pb.origin.sent_at_ms = o->sent_at_ms;
    pfl_pb_put_str(&pb.origin.experiment, o->experiment);
    return pfl_pb_encode(out, node_RootMessage_fields, &pb, "origin", err);
}

enum pfl_rc pfl_scatter_put_origin(struct pfl_scatter *s, const struct pfl_origin *o, struct pfl_err *err)
{
    size_t weights = s->to_sign && s->to_sign->kind == PFL_MSG_WEIGHTS ? s->total : 0; /* they have a limit of their own */
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {.limit = weights > 0 ? PFL_WIRE_CONTROL_MAX : PFL_WIRE_CONTROL_MAX - s->total};
    enum pfl_rc rc = pfl_origin_encode(o, &out, err);
    if (rc != PFL_OK)
        return rc;
    pfl_scatter_add_copy(s, pfl_buf_view(&out));
    pfl_msg_unref(s->to_sign);
    s->to_sign = NULL;
    return PFL_OK;
}

/* ---- statements ---- */

void pfl_statement_deinit(struct pfl_statement *s)
{
    pfl_buf_deinit(&s->text);
    pfl_origin_unref(s->origin);
    *s = (struct pfl_statement){0};
}

void pfl_statement_copy(struct pfl_statement *ret, const struct pfl_statement *s)
{
    *ret = (struct pfl_statement){.text = {.limit = s->text.limit}, .origin = pfl_origin_ref(s->origin)};
    pfl_buf_append(&ret->text, s->text.data, s->text.len);
}

bool pfl_statement_of(const struct pfl_msg *m, struct pfl_statement *ret)
{
    *ret = (struct pfl_statement){.text = {.limit = TEXT_MAX}};
    if (!m->origin || pfl_origin_text(m, m->origin->experiment, m->origin->sent_at_ms, &ret->text, NULL) != PFL_OK) {
        pfl_buf_deinit(&ret->text);
        return false;
    }
    ret->origin = pfl_origin_ref(m->origin);
    return true;
}

/* ---- evidence ---- */

enum pfl_rc pfl_statements_pack(const struct pfl_statement said[2], struct pfl_buf *out, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {.limit = PFL_WIRE_EVIDENCE_MAX};
    for (size_t i = 0; i < 2; i++) {
        const struct pfl_origin *o = said[i].origin;
        put_bytes(&b, said[i].text.data, said[i].text.len);
        pfl_buf_u32be(&b, (uint32_t)o->n_certs);
        for (size_t k = 0; k < o->n_certs; k++)
            put_bytes(&b, o->certs[k].data, o->certs[k].len);
        put_bytes(&b, o->signature.data, o->signature.len);
    }
    if (b.failed || !pfl_buf_append(out, b.data, b.len))
        return pfl_err_set(err, PFL_TOO_BIG, "evidence of two statements is over %d bytes", PFL_WIRE_EVIDENCE_MAX);
    return PFL_OK;
}

static bool take_into(struct pfl_reader *r, struct pfl_buf *out)
{
    struct pfl_bytes b = take_bytes(r);
    return !r->failed && b.len > 0 && pfl_buf_append(out, b.data, b.len);
}

static bool take_statement(struct pfl_reader *r, struct pfl_statement *s)
{
    s->text.limit = PFL_WIRE_EVIDENCE_MAX;
    s->origin = pfl_origin_new(NULL, 0);
    if (!take_into(r, &s->text))
        return false;
    uint32_t n = pfl_reader_u32be(r);
    if (r->failed || n == 0 || n > PFL_WIRE_ORIGIN_CERTS_MAX)
        return false;
    for (; s->origin->n_certs < n; s->origin->n_certs++) {
        if (!take_into(r, &s->origin->certs[s->origin->n_certs]))
            return false;
    }
    return take_into(r, &s->origin->signature);
}

enum pfl_rc pfl_statements_unpack(struct pfl_bytes in, struct pfl_statement ret[2], struct pfl_err *err)
{
    struct pfl_reader r = pfl_reader_of(in);
    struct pfl_statement said[2] = {0};
    bool good = in.len <= PFL_WIRE_EVIDENCE_MAX && take_statement(&r, &said[0]) && take_statement(&r, &said[1]);
    if (good && pfl_reader_left(&r) == 0) {
        memcpy(ret, said, sizeof(said));
        return PFL_OK;
    }
    pfl_statement_deinit(&said[0]);
    pfl_statement_deinit(&said[1]);
    return pfl_err_set(err, PFL_MALFORMED, "no two signed statements (%zu bytes)", in.len);
}
