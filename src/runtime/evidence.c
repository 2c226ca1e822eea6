/* SPDX-License-Identifier: Apache-2.0 */
/* Written by a node when its core finds two statements that contradict each other; read by `p2pfl node evidence` and
 * `p2pfl ca revoke --evidence`, who believe nothing of it that they have not checked. */
#include "runtime/evidence.h"

#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "pki/key.h"
#include "pki/sign.h"
#include "runtime/driver_impl.h"
#include "runtime/node_audit.h"

/* ---- writing ---- */

static json_t *hex_json(const struct pfl_buf *b)
{
    char *hex = pfl_xmalloc(2 * b->len + 1);
    pfl_hex(pfl_buf_view(b), hex);
    json_t *s = json_string(hex);
    free(hex);
    return s;
}

static json_t *statement_json(const struct pfl_statement *s)
{
    json_t *certs = json_array();
    for (size_t i = 0; i < s->origin->n_certs; i++)
        json_array_append_new(certs, hex_json(&s->origin->certs[i]));
    return json_pack("{s:o, s:o, s:o}", "text", hex_json(&s->text), "signature", hex_json(&s->origin->signature), "certificates",
                     certs);
}

static char *identity_text(const struct pfl_buf *leaf)
{
    struct pfl_identity *id = NULL;
    if (pfl_identity_of_der(pfl_buf_view(leaf), &id, NULL) != PFL_OK)
        return pfl_xstrdup("an unreadable certificate");
    char *text = pfl_xstrdup(pfl_q(pfl_identity_text(id)));
    pfl_identity_unref(id);
    return text;
}

json_t *pfl_evidence_json(const struct pfl_statement said[2])
{
    struct pfl_origin_said about = {0};
    if (pfl_origin_said_parse(pfl_buf_view(&said[0].text), &about, NULL) != PFL_OK)
        return NULL;
    PFL_AUTO(pfl_freep) char *who = identity_text(&said[0].origin->certs[0]);
    json_t *o = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:i, s:[o, o]}", "type", "p2pfl-equivocation", "version", 1, "identity",
                          who, "address", pfl_q(about.source), "what", pfl_q(about.cmd), "experiment", pfl_q(about.experiment),
                          "round", (int)about.round, "statements", statement_json(&said[0]), statement_json(&said[1]));
    pfl_origin_said_deinit(&about);
    return o;
}

/* One file for a node, a round and a command: the first pair is enough. */
static char *file_name(const struct pfl_statement said[2])
{
    struct pfl_origin_said about = {0};
    if (pfl_origin_said_parse(pfl_buf_view(&said[0].text), &about, NULL) != PFL_OK)
        return NULL;
    char *name =
        pfl_xasprintf("%lld-round-%d-%s-%s.json", (long long)(about.sent_at_ms / 1000), about.round, about.cmd, about.source);
    for (char *p = name; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("._-", *p);
        *p = plain ? *p : '_';
    }
    pfl_origin_said_deinit(&about);
    return name;
}

static enum pfl_rc keep(struct pfl_driver *d, const char *name, const json_t *o, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_join(d->state_dir, "evidence");
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, name);
    PFL_AUTO(pfl_freep) char *text = json_dumps(o, JSON_INDENT(2));
    enum pfl_rc rc = pfl_fs_mkdirs(dir, 0700, err);
    if (rc != PFL_OK || pfl_fs_exists(path))
        return rc;
    if (d->n_evidence >= PFL_EVIDENCE_KEPT_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "%d pairs are kept already", PFL_EVIDENCE_KEPT_MAX);
    d->n_evidence++;
    return pfl_fs_write_atomic(path, pfl_bytes_of(text, strlen(text)), 0600, err);
}

void pfl_driver_evidence(struct pfl_driver *d, const struct pfl_action *a)
{
    PFL_AUTO(pfl_freep) char *name = file_name(a->said);
    PFL_AUTO(pfl_evidence_json_freep) json_t *o = pfl_evidence_json(a->said);
    struct pfl_err err = {0};
    if (!name || !o)
        return;
    enum pfl_rc rc = d->state_dir ? keep(d, name, o, &err) : PFL_OK;
    if (rc != PFL_OK)
        pfl_error("%s: evidence against %s is not kept: %s", d->name, pfl_q(a->addr), err.msg);
    pfl_node_audit_add(d->audit, json_string_value(json_object_get(o, "identity")), "equivocate", a->addr, name);
    pfl_warn("%s: %s (%s) equivocated: evidence/%s", d->name, pfl_q(a->addr), json_string_value(json_object_get(o, "identity")),
             name);
    pfl_events_emit(d->events, "equivocation",
                    json_pack("{s:s, s:O, s:O, s:O, s:s}", "address", pfl_q(a->addr), "identity", json_object_get(o, "identity"),
                              "what", json_object_get(o, "what"), "round", json_object_get(o, "round"), "file",
                              rc == PFL_OK && d->state_dir ? name : ""));
}

/* ---- reading ---- */

void pfl_evidence_deinit(struct pfl_evidence *e)
{
    for (size_t i = 0; i < 2; i++) {
        pfl_statement_deinit(&e->said[i]);
        pfl_x509_free(e->signer[i]);
    }
    pfl_origin_said_deinit(&e->about);
    free(e->identity);
    *e = (struct pfl_evidence){0};
}

static bool take_hex(const json_t *o, struct pfl_buf *out)
{
    const char *hex = json_string_value(o);
    size_t len = hex ? strlen(hex) / 2 : 0;
    if (!hex || len == 0 || !pfl_buf_reserve(out, len) || !pfl_unhex(hex, out->data, len))
        return false;
    out->len = len;
    return true;
}

static bool take_statement(const json_t *o, struct pfl_statement *ret)
{
    const json_t *certs = json_object_get(o, "certificates"), *c;
    size_t i;
    ret->origin = pfl_origin_new(NULL, 0);
    ret->text.limit = PFL_EVIDENCE_FILE_MAX;
    if (!take_hex(json_object_get(o, "text"), &ret->text) || !take_hex(json_object_get(o, "signature"), &ret->origin->signature) ||
        json_array_size(certs) == 0 || json_array_size(certs) > PFL_ARRAY_LEN(ret->origin->certs))
        return false;
    json_array_foreach (certs, i, c) {
        if (!take_hex(c, &ret->origin->certs[ret->origin->n_certs++]))
            return false;
    }
    return true;
}

static enum pfl_rc check_signature(struct pfl_evidence *e, size_t i, struct pfl_err *err)
{
    const struct pfl_statement *s = &e->said[i];
    enum pfl_rc rc = pfl_cert_of_der(pfl_buf_view(&s->origin->certs[0]), &e->signer[i], err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_key_freep) struct evp_pkey_st *key = pfl_cert_key(e->signer[i]);
    if (!key || !pfl_sign_verify(key, pfl_buf_view(&s->text), pfl_buf_view(&s->origin->signature)))
        return pfl_err_set(err, PFL_AUTH, "statement %zu is not signed by the key of its certificate", i + 1);
    return PFL_OK;
}

static enum pfl_rc check_identity(struct pfl_evidence *e, struct pfl_err *err)
{
    struct pfl_identity *a = NULL, *b = NULL;
    enum pfl_rc rc = pfl_identity_of_x509(e->signer[0], &a, err);
    if (rc == PFL_OK)
        rc = pfl_identity_of_x509(e->signer[1], &b, err);
    if (rc == PFL_OK && !pfl_identity_same(a, b))
        rc = pfl_err_set(err, PFL_AUTH, "the statements are of two parties, %s and %s", pfl_q(pfl_identity_text(a)),
                         pfl_q(pfl_identity_text(b)));
    if (rc == PFL_OK)
        e->identity = pfl_xstrdup(pfl_q(pfl_identity_text(a)));
    pfl_identity_unref(a);
    pfl_identity_unref(b);
    return rc;
}

static enum pfl_rc prove(const json_t *root, struct pfl_evidence *e, struct pfl_err *err)
{
    const json_t *list = json_object_get(root, "statements");
    if (!pfl_streq(json_string_value(json_object_get(root, "type")), "p2pfl-equivocation") || json_array_size(list) != 2)
        return pfl_err_set(err, PFL_MALFORMED,
                           "no evidence: a JSON object of type p2pfl-equivocation with two statements is wanted");
    for (size_t i = 0; i < 2; i++) {
        if (!take_statement(json_array_get(list, i), &e->said[i]))
            return pfl_err_set(err, PFL_MALFORMED, "statement %zu: text, signature and certificates are wanted, in hex", i + 1);
        enum pfl_rc rc = check_signature(e, i, err);
        if (rc != PFL_OK)
            return rc;
    }
    enum pfl_rc rc = check_identity(e, err);
    if (rc == PFL_OK)
        rc = pfl_origin_said_parse(pfl_buf_view(&e->said[0].text), &e->about, err);
    if (rc == PFL_OK && !pfl_origin_contradict(pfl_buf_view(&e->said[0].text), pfl_buf_view(&e->said[1].text)))
        rc = pfl_err_set(err, PFL_AUTH,
                         "the statements do not contradict each other: two different votes, contributions of its own or "
                         "results that it computed, for one round of one experiment are wanted");
    return rc;
}

enum pfl_rc pfl_evidence_load(const char *path, struct pfl_evidence *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = NULL;
    struct pfl_evidence e = {0};
    enum pfl_rc rc = pfl_fs_read(path, PFL_EVIDENCE_FILE_MAX, &blob, err);
    if (rc != PFL_OK)
        return rc;
    json_error_t why;
    PFL_AUTO(pfl_evidence_json_freep) json_t *root = json_loadb((const char *)blob->data, blob->len, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        rc = pfl_err_set(err, PFL_MALFORMED, "no JSON: line %d: %s", why.line, pfl_q(why.text));
    if (rc == PFL_OK)
        rc = prove(root, &e, err);
    if (rc != PFL_OK) {
        pfl_evidence_deinit(&e);
        return pfl_err_wrap(err, "%s", path);
    }
    *ret = e;
    return PFL_OK;
}
