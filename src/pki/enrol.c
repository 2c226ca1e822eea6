/* SPDX-License-Identifier: Apache-2.0 */
/* Enrolment and renewal within one transaction each. */
#include "pki/enrol.h"

#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/digest.h"
#include "pki/register.h"
#include "pki/request.h"
#include "pki/token.h"

static const char BOTH[] = "serverAuth,clientAuth";

struct csrs {
    struct pfl_csr *server, *client; /* client NULL: one certificate */
};

static void csrs_free(struct csrs *c)
{
    pfl_csr_free(c->server);
    pfl_csr_free(c->client);
}

void pfl_enrol_answer_deinit(struct pfl_enrol_answer *a)
{
    if (a->request_id)
        explicit_bzero(a->request_id, strlen(a->request_id));
    free(a->request_id);
    pfl_x509_free(a->server);
    pfl_x509_free(a->client);
    free(a->name);
    free(a->role);
    pfl_strs_deinit(&a->sans);
    *a = (struct pfl_enrol_answer){0};
}

static enum pfl_rc parse(struct pfl_bytes server, struct pfl_bytes client, struct csrs *ret, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_csr_parse(server, &ret->server, err);
    if (rc != PFL_OK)
        return client.len > 0 ? pfl_err_wrap(err, "server CSR") : rc;
    if (client.len > 0 && pfl_csr_parse(client, &ret->client, err) != PFL_OK)
        return pfl_err_wrap(err, "client CSR");
    return PFL_OK;
}

static const char *key_of(const struct pfl_csr *csr)
{
    return csr ? pfl_csr_key_fingerprint(csr) : "";
}

/* ---- signing ---- */

/* One certificate for both sides is what EST clients expect; ours ask for the side that they mean. */
static const char *purpose_of(const struct csrs *c, bool client)
{
    if (c->client)
        return client ? "clientAuth" : "serverAuth";
    const struct pfl_strs *asked = pfl_csr_purposes(c->server);
    bool server = pfl_strs_has(asked, "serverAuth"), other = pfl_strs_has(asked, "clientAuth");
    return server == other ? BOTH : server ? "serverAuth" : "clientAuth";
}

/* In a transaction of the caller's. The grant's purpose is set here. */
static enum pfl_rc sign(const struct pfl_ca *ca, const struct csrs *c, struct pfl_grant *grant, struct pfl_enrol_answer *ret,
                        struct pfl_err *err)
{
    grant->purpose = purpose_of(c, false);
    enum pfl_rc rc = pfl_ca_sign(ca, c->server, grant, &ret->server, err);
    if (rc == PFL_OK && c->client) {
        grant->purpose = purpose_of(c, true);
        rc = pfl_ca_sign(ca, c->client, grant, &ret->client, err);
    }
    if (rc != PFL_OK)
        return rc;
    ret->name = pfl_xstrdup(grant->name);
    ret->role = pfl_xstrdup(grant->role);
    pfl_strs_copy(&ret->sans, &grant->sans);
    ret->lifetime_s = grant->lifetime_s;
    return PFL_OK;
}

/* ---- tokens ---- */

/* Looks for what a used token gave out. */
struct again {
    const struct pfl_ca *ca;
    int64_t token_id;
    const struct csrs *csrs;
    X509 *server, *client;
};

static void take_der(X509 **slot, const struct pfl_cert_row *row)
{
    if (!*slot && pfl_cert_of_der(pfl_buf_view(&row->der), slot, NULL) != PFL_OK)
        *slot = NULL;
}

static bool find_again(void *user, const struct pfl_cert_row *row)
{
    struct again *a = user;
    if (row->token_id != a->token_id || !pfl_streq(row->status, "valid") ||
        pfl_ca_check_issuer(a->ca, row->issuer_fingerprint, NULL) != PFL_OK)
        return true;
    if (pfl_streq(row->key_fingerprint, key_of(a->csrs->server)) && pfl_streq(row->purpose, purpose_of(a->csrs, false)))
        take_der(&a->server, row);
    if (a->csrs->client && pfl_streq(row->key_fingerprint, key_of(a->csrs->client)) && pfl_streq(row->purpose, "clientAuth"))
        take_der(&a->client, row);
    return true;
}

/* The answer got lost: the same token with the same keys gets the same certificates again. Anything else is a second use. */
static enum pfl_rc give_again(const struct pfl_ca *ca, const struct pfl_token *t, const struct csrs *c,
                              struct pfl_enrol_answer *ret, struct pfl_err *err)
{
    char when[32];
    struct again a = {.ca = ca, .token_id = t->id, .csrs = c};
    pfl_time_text(t->used_at, when);
    if (!pfl_streq(t->server_key, key_of(c->server)) || !pfl_streq(t->client_key, key_of(c->client)))
        return pfl_err_set(
            err, PFL_AUTH,
            "token %lld was used on %s, for other keys: if that was not you, have the operator revoke '%s'; else ask "
            "for a new token",
            (long long)t->id, when, t->name);
    enum pfl_rc rc = pfl_register_each(pfl_ca_register(ca), t->name, find_again, &a, err);
    if (rc == PFL_OK && (!a.server || (c->client && !a.client)))
        rc = pfl_err_set(err, PFL_AUTH,
                         "token %lld was used on %s and its certificates are revoked, or of a root that is no longer trusted",
                         (long long)t->id, when);
    ret->server = a.server;
    ret->client = a.client;
    if (rc != PFL_OK)
        return rc;
    ret->name = pfl_xstrdup(t->name);
    ret->role = pfl_xstrdup(t->role);
    pfl_strs_copy(&ret->sans, &t->sans);
    ret->lifetime_s = t->lifetime_s;
    return PFL_OK;
}

static enum pfl_rc spend(const struct pfl_ca *ca, const struct pfl_token *t, const struct csrs *c, int64_t lifetime_s, int64_t now,
                         struct pfl_enrol_answer *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *actor = pfl_xasprintf("token %lld", (long long)t->id);
    struct pfl_grant grant = {
        .name = t->name,
        .role = t->role,
        .sans = t->sans,
        .lifetime_s = t->lifetime_s ? t->lifetime_s : lifetime_s,
        .now = now,
        .actor = actor,
        .action = "enrol",
        .token_id = t->id,
    };
    enum pfl_rc rc = sign(ca, c, &grant, ret, err);
    return rc == PFL_OK ? pfl_token_use(pfl_ca_register(ca), t->id, key_of(c->server), key_of(c->client), now, err) : rc;
}

/* ---- approval ---- */

/* A trial of the signature, undone: what would be refused later is refused now, while the machine that asked is listening. */
static enum pfl_rc check_grant(const struct pfl_ca *ca, const struct pfl_token *t, const struct csrs *c, int64_t lifetime_s,
                               int64_t now, struct pfl_err *err)
{
    struct pfl_register *r = pfl_ca_register(ca);
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer trial = {0};
    enum pfl_rc rc = pfl_register_begin(r, err);
    if (rc != PFL_OK)
        return rc;
    rc = spend(ca, t, c, lifetime_s, now, &trial, err);
    pfl_register_rollback(r);
    return rc;
}

static enum pfl_rc denied(const struct pfl_request *q, struct pfl_err *err)
{
    char when[32];
    pfl_time_text(q->decided_at, when);
    return pfl_err_set(err, PFL_AUTH, "request %lld was denied by %s on %s", (long long)q->id, q->decided_by, when);
}

static enum pfl_rc ask_operator(const struct pfl_ca *ca, const struct pfl_enrol_ask *ask, const struct pfl_token *t,
                                struct pfl_enrol_answer *ret, struct pfl_err *err)
{
    int64_t id = 0;
    enum pfl_rc rc = pfl_request_open(pfl_ca_register(ca), t->id, ask->server_csr, ask->client_csr, ask->remote, ask->now,
                                      &ret->request_id, &id, err);
    if (rc != PFL_OK)
        return rc == PFL_STATE ? pfl_err_set(err, PFL_AUTH, "%s", err ? err->msg : "") : rc;
    ret->pending = true;
    return PFL_OK;
}

static enum pfl_rc decide(const struct pfl_ca *ca, const struct pfl_enrol_ask *ask, const struct pfl_token *t, const struct csrs *c,
                          struct pfl_enrol_answer *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_request_deinit) struct pfl_request q = {0};
    if (t->used_at)
        return give_again(ca, t, c, ret, err);
    if (!ask->approve)
        return spend(ca, t, c, ask->lifetime_s, ask->now, ret, err);
    struct pfl_err none = {0};
    enum pfl_rc rc = pfl_request_by_token(pfl_ca_register(ca), t->id, ask->now, &q, &none);
    if (rc != PFL_OK && rc != PFL_NOT_FOUND)
        return pfl_err_set(err, rc, "%s", none.msg);
    bool same = rc == PFL_OK && pfl_bytes_eq(pfl_buf_view(&q.server_csr), ask->server_csr) &&
                pfl_bytes_eq(pfl_buf_view(&q.client_csr), ask->client_csr);
    if (same && q.state == PFL_REQUEST_DENIED)
        return denied(&q, err);
    if (same && q.state == PFL_REQUEST_APPROVED)
        return spend(ca, t, c, ask->lifetime_s, ask->now, ret, err);
    return ask_operator(ca, ask, t, ret, err);
}

static enum pfl_rc end(struct pfl_register *r, enum pfl_rc rc, struct pfl_enrol_answer *ret, struct pfl_err *err)
{
    if (rc == PFL_OK)
        rc = pfl_register_commit(r, err);
    else
        pfl_register_rollback(r);
    if (rc != PFL_OK)
        pfl_enrol_answer_deinit(ret);
    return rc;
}

enum pfl_rc pfl_enrol(const struct pfl_ca *ca, const struct pfl_enrol_ask *ask, struct pfl_enrol_answer *ret, struct pfl_err *err)
{
    struct pfl_register *r = pfl_ca_register(ca);
    PFL_AUTO(pfl_token_deinit) struct pfl_token t = {0};
    PFL_AUTO(csrs_free) struct csrs c = {0};
    enum pfl_rc rc = pfl_token_find(r, ask->token, ask->now, &t, err);
    if (rc == PFL_OK && ask->user && !pfl_streq(ask->user, t.name))
        rc = pfl_err_set(err, PFL_AUTH, "token %lld is for another name than '%s'", (long long)t.id, pfl_q(ask->user));
    if (rc == PFL_OK)
        rc = parse(ask->server_csr, ask->client_csr, &c, err);
    if (rc == PFL_OK && ask->approve && !t.used_at)
        rc = check_grant(ca, &t, &c, ask->lifetime_s, ask->now, err);
    if (rc == PFL_OK)
        rc = pfl_register_begin(r, err);
    if (rc != PFL_OK)
        return rc;
    pfl_token_deinit(&t); /* looked at again inside the transaction: another process may have been faster */
    rc = pfl_token_find(r, ask->token, ask->now, &t, err);
    if (rc == PFL_OK)
        rc = decide(ca, ask, &t, &c, ret, err);
    return end(r, rc, ret, err);
}

static enum pfl_rc finish_request(const struct pfl_ca *ca, const char *request_id, int64_t lifetime_s, int64_t now,
                                  struct pfl_enrol_answer *ret, struct pfl_err *err)
{
    struct pfl_register *r = pfl_ca_register(ca);
    PFL_AUTO(pfl_request_deinit) struct pfl_request q = {0};
    PFL_AUTO(pfl_token_deinit) struct pfl_token t = {0};
    PFL_AUTO(csrs_free) struct csrs c = {0};
    enum pfl_rc rc = pfl_request_by_secret(r, request_id, now, &q, err);
    if (rc == PFL_OK && q.state == PFL_REQUEST_DENIED)
        return denied(&q, err);
    if (rc == PFL_OK && q.state == PFL_REQUEST_PENDING) {
        ret->pending = true;
        ret->request_id = pfl_xstrdup(request_id);
        return PFL_OK;
    }
    if (rc == PFL_OK)
        rc = pfl_token_get(r, q.token_id, &t, err);
    if (rc == PFL_OK && t.revoked_at)
        rc = pfl_err_set(err, PFL_AUTH, "token %lld was revoked", (long long)t.id);
    if (rc == PFL_OK)
        rc = parse(pfl_buf_view(&q.server_csr), pfl_buf_view(&q.client_csr), &c, err);
    if (rc != PFL_OK)
        return rc;
    return t.used_at ? give_again(ca, &t, &c, ret, err) : spend(ca, &t, &c, lifetime_s, now, ret, err);
}

enum pfl_rc pfl_enrol_poll(const struct pfl_ca *ca, const char *request_id, int64_t lifetime_s, int64_t now,
                           struct pfl_enrol_answer *ret, struct pfl_err *err)
{
    struct pfl_register *r = pfl_ca_register(ca);
    enum pfl_rc rc = pfl_register_begin(r, err);
    if (rc != PFL_OK)
        return rc;
    return end(r, finish_request(ca, request_id, lifetime_s, now, ret, err), ret, err);
}

/* ---- renewal ---- */

struct present { /* the row of the certificate that the caller came with */
    const struct pfl_identity *peer;
    bool found, same, valid;
    int64_t not_before, not_after;
    char *reason, *issuer;
    struct pfl_strs sans;
};

static bool find_present(void *user, const struct pfl_cert_row *row)
{
    struct present *p = user;
    char fingerprint[PFL_FINGERPRINT_LEN + 1];
    if (!pfl_streq(row->serial_hex, p->peer->serial_hex))
        return true;
    pfl_sha256_hex(pfl_buf_view(&row->der), fingerprint);
    p->found = true;
    p->same = pfl_streq(fingerprint, p->peer->fingerprint);
    p->valid = pfl_streq(row->status, "valid");
    p->reason = pfl_xstrdup(row->reason ? row->reason : "");
    p->issuer = pfl_xstrdup(row->issuer_fingerprint);
    p->not_before = row->not_before;
    p->not_after = row->not_after;
    for (size_t i = 0; i < row->sans.n; i++)
        if (!pfl_str_has_prefix(row->sans.items[i], "URI:"))
            pfl_strs_add(&p->sans, row->sans.items[i]);
    return false;
}

static enum pfl_rc check_present(const struct pfl_ca *ca, const struct present *p, struct pfl_err *err)
{
    const char *who = pfl_q(pfl_identity_text(p->peer));
    if (!p->peer->name || !p->peer->role || !pfl_role_valid(p->peer->role))
        return pfl_err_set(err, PFL_AUTH, "'%s' is no member's certificate: only nodes, coordinators and observers renew", who);
    if (!p->found || !p->same)
        return pfl_err_set(err, PFL_AUTH, "certificate %s of '%s' is not in this CA's register: enrol with a token",
                           p->peer->serial_hex, who);
    if (!p->valid)
        return pfl_err_set(err, PFL_AUTH, "certificate %s of '%s' is revoked (%s): it cannot be renewed", p->peer->serial_hex, who,
                           p->reason && p->reason[0] ? p->reason : "unspecified");
    enum pfl_rc rc = pfl_ca_check_issuer(ca, p->issuer, err);
    return rc == PFL_OK ? rc : pfl_err_wrap(err, "certificate %s of '%s'", p->peer->serial_hex, who);
}

/* notBefore lies in the past: PFL_BACKDATE_S, a tenth of the lifetime at most. */
static int64_t issued_at(const struct present *p)
{
    int64_t tenth = (p->not_after - p->not_before) / 11;
    return p->not_before + (tenth < PFL_BACKDATE_S ? tenth : PFL_BACKDATE_S);
}

struct since {
    int64_t from, revoked_at; /* revoked_at: 0 where nothing was */
};

static bool find_revoked_since(void *user, const struct pfl_cert_row *row)
{
    struct since *s = user;
    if (row->revoked_at > 0 && row->revoked_at >= s->from)
        s->revoked_at = row->revoked_at;
    return s->revoked_at == 0;
}

/* Who revokes a name revokes what is in time. What has expired is no danger but for a service that renews it all the same. */
static enum pfl_rc check_expired(const struct pfl_ca *ca, const struct present *p, int64_t now, struct pfl_err *err)
{
    struct since s = {.from = issued_at(p) - 1};
    char when[32];
    if (p->not_after >= now)
        return PFL_OK;
    enum pfl_rc rc = pfl_register_each(pfl_ca_register(ca), p->peer->name, find_revoked_since, &s, err);
    if (rc != PFL_OK || s.revoked_at == 0)
        return rc;
    pfl_time_text(s.revoked_at, when);
    return pfl_err_set(err, PFL_AUTH,
                       "certificate %s of '%s' has expired, and a certificate of that name was revoked on %s: enrol with a token",
                       p->peer->serial_hex, pfl_q(pfl_identity_text(p->peer)), when);
}

static enum pfl_rc renew(const struct pfl_ca *ca, const struct pfl_enrol_ask *ask, const struct csrs *c, struct present *p,
                         struct pfl_enrol_answer *ret, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_register_each(pfl_ca_register(ca), p->peer->serial_hex, find_present, p, err);
    if (rc == PFL_OK)
        rc = check_present(ca, p, err);
    if (rc == PFL_OK)
        rc = check_expired(ca, p, ask->now, err);
    if (rc != PFL_OK)
        return rc;
    int64_t lifetime_s = p->not_after - p->not_before;
    int64_t own = lifetime_s > 2 * PFL_BACKDATE_S ? lifetime_s - PFL_BACKDATE_S : lifetime_s;
    struct pfl_grant grant = {
        .name = p->peer->name,
        .role = p->peer->role,
        .sans = p->sans,
        .lifetime_s = ask->lifetime_s > 0 && ask->lifetime_s < own ? ask->lifetime_s : own,
        .now = ask->now,
        .actor = p->peer->spiffe_id,
        .action = "renew",
    };
    return sign(ca, c, &grant, ret, err);
}

enum pfl_rc pfl_enrol_renew(const struct pfl_ca *ca, const struct pfl_enrol_ask *ask, struct pfl_enrol_answer *ret,
                            struct pfl_err *err)
{
    struct pfl_register *r = pfl_ca_register(ca);
    struct present p = {.peer = ask->peer};
    PFL_AUTO(csrs_free) struct csrs c = {0};
    enum pfl_rc rc = parse(ask->server_csr, ask->client_csr, &c, err);
    if (rc == PFL_OK)
        rc = pfl_register_begin(r, err);
    if (rc != PFL_OK)
        return rc;
    rc = end(r, renew(ca, ask, &c, &p, ret, err), ret, err);
    free(p.reason);
    free(p.issuer);
    pfl_strs_deinit(&p.sans);
    return rc;
}

void pfl_enrol_note_refusal(const struct pfl_ca *ca, const char *actor, const char *subject, const char *detail)
{
    struct pfl_register *r = pfl_ca_register(ca);
    struct pfl_err err = {0};
    enum pfl_rc rc = pfl_register_begin(r, &err);
    if (rc == PFL_OK) {
        rc = pfl_audit_append(r, actor, "refuse", subject, detail, &err);
        if (rc == PFL_OK)
            rc = pfl_register_commit(r, &err);
        else
            pfl_register_rollback(r);
    }
    if (rc != PFL_OK)
        pfl_warn("a refusal is not in the audit log: %s", err.msg);
}
