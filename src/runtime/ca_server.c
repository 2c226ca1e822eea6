/* SPDX-License-Identifier: Apache-2.0 */
/* The service's gRPC methods, and what it does by the clock. */
#include "runtime/ca_server.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "pki/cert.h"
#include "pki/crl.h"
#include "pki/digest.h"
#include "pki/register.h"
#include "pki/trust.h"
#include "runtime/ca_limits.h"
#include "runtime/ca_server_impl.h"
#include "wire/limits.h"

static int64_t now_s(void)
{
    return pfl_clock_wall() / PFL_SEC;
}

/* ---- decisions ---- */

/* One entry each while there are few, a number for the rest: a flood does not fill the disk. */
static void audit_refusal(struct pfl_ca_server *s, const struct pfl_rpc_peer *peer, const char *what, const char *reason)
{
    const char *who = peer->identity ? pfl_identity_text(peer->identity) : "";
    pfl_info("%s refused: %s%s%s: %s", what, peer->remote, who[0] ? " " : "", who, reason);
    if (!pfl_rate_take(s->audit, "", pfl_clock_mono())) {
        s->unaudited++;
        return;
    }
    PFL_AUTO(pfl_freep) char *actor = pfl_xasprintf("%s", who[0] ? who : peer->remote);
    PFL_AUTO(pfl_freep)
    char *detail = s->unaudited > 0 ? pfl_xasprintf("from %s: %s (%u more refusals before it are not listed)", peer->remote, reason,
                                                    s->unaudited)
                                    : pfl_xasprintf("from %s: %s", peer->remote, reason);
    s->unaudited = 0;
    pfl_enrol_note_refusal(s->ca, actor, what, detail);
}

static enum pfl_rc check_limits(struct pfl_ca_server *s, enum pfl_ca_ask kind, const struct pfl_rpc_peer *peer, struct pfl_err *err)
{
    char key[64];
    pfl_ns now = pfl_clock_mono();
    pfl_rate_key_of(peer->remote, key);
    if (kind == PFL_CA_ASK_RENEW) {
        if (!pfl_rate_take(s->renewals, peer->identity->text, now))
            return pfl_err_set(err, PFL_UNAVAILABLE, "too many renewals of '%s': at most %d a minute", peer->identity->text,
                               PFL_CA_RENEWALS_PER_MIN);
        return PFL_OK;
    }
    if (!pfl_rate_allows(s->wrong, key, now) || !pfl_rate_allows(s->wrong_all, "", now))
        return pfl_err_set(err, PFL_UNAVAILABLE, "too many wrong tokens%s: try again in a minute",
                           pfl_rate_allows(s->wrong, key, now) ? "" : " from your address");
    return PFL_OK;
}

static void count_wrong(struct pfl_ca_server *s, const struct pfl_rpc_peer *peer)
{
    char key[64];
    pfl_rate_key_of(peer->remote, key);
    (void)pfl_rate_take(s->wrong, key, pfl_clock_mono());
    (void)pfl_rate_take(s->wrong_all, "", pfl_clock_mono());
}

enum pfl_rc pfl_ca_server_decide(struct pfl_ca_server *s, enum pfl_ca_ask kind, const struct pfl_rpc_peer *peer,
                                 struct pfl_enrol_ask *ask, struct pfl_enrol_answer *ret, bool *ret_limited, struct pfl_err *err)
{
    static const char *const WHAT[] = {
        [PFL_CA_ASK_ENROL] = "enrolment", [PFL_CA_ASK_RENEW] = "renewal", [PFL_CA_ASK_POLL] = "poll"};
    ask->now = now_s();
    ask->lifetime_s = s->lifetime_s;
    ask->approve = s->approve;
    ask->remote = peer->remote;
    ask->peer = peer->identity;
    *ret_limited = false;
    enum pfl_rc rc = check_limits(s, kind, peer, err);
    if (rc != PFL_OK) {
        *ret_limited = true;
        audit_refusal(s, peer, WHAT[kind], err->msg);
        return rc;
    }
    rc = kind == PFL_CA_ASK_ENROL   ? pfl_enrol(s->ca, ask, ret, err)
         : kind == PFL_CA_ASK_RENEW ? pfl_enrol_renew(s->ca, ask, ret, err)
                                    : pfl_enrol_poll(s->ca, ask->token, s->lifetime_s, ask->now, ret, err);
    if (rc == PFL_NOT_FOUND)
        count_wrong(s, peer);
    if (rc == PFL_IO || rc == PFL_STATE || rc == PFL_UNAVAILABLE)
        pfl_error("%s of %s: the CA cannot answer: %s", WHAT[kind], peer->remote, err->msg);
    else if (rc != PFL_OK)
        audit_refusal(s, peer, WHAT[kind], err->msg);
    else if (ret->pending && kind == PFL_CA_ASK_ENROL)
        pfl_info("an enrolment from %s waits for approval: p2pfl ca requests --ca %s", peer->remote, s->dir);
    else if (!ret->pending)
        pfl_info("%s: certificates for '%s' to %s", WHAT[kind], ret->name, peer->remote);
    return rc;
}

/* ---- the bundle ---- */

static void add_to_hash(struct pfl_sha256 *h, const struct x509_st *cert)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf der = {0};
    pfl_cert_der(cert, &der);
    pfl_sha256_add(h, pfl_buf_view(&der));
}

/* The root that signs, all that are trusted, the intermediate: new machines know the first by its hash. */
static void trust_hash(const struct pfl_ca *ca, uint8_t out[PFL_SHA256_LEN])
{
    struct pfl_sha256 *h = pfl_sha256_new();
    struct stack_st_X509 *lists[] = {pfl_ca_bundle(ca), pfl_ca_chain(ca)};
    add_to_hash(h, pfl_ca_root(ca));
    for (size_t l = 0; l < PFL_ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < pfl_x509s_n(lists[l]); i++)
            add_to_hash(h, pfl_x509s_at(lists[l], i));
    pfl_sha256_end(h, out);
    pfl_sha256_free(h);
}

static void add_der(struct pfl_ders *l, const struct x509_st *cert)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf der = {.limit = PFL_WIRE_CA_CERT_MAX};
    pfl_cert_der(cert, &der);
    pfl_ders_add(l, pfl_buf_view(&der));
}

void pfl_ca_server_chain(const struct pfl_ca_server *s, const struct x509_st *leaf, struct pfl_ders *ret)
{
    add_der(ret, leaf);
    for (size_t i = 0; i < pfl_x509s_n(pfl_ca_chain(s->ca)); i++)
        add_der(ret, pfl_x509s_at(pfl_ca_chain(s->ca), i));
}

static enum pfl_rc read_crls(struct pfl_ca_server *s, const char *path, struct pfl_ca_bundle *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_trust_freep) struct pfl_trust *trust = NULL;
    PFL_AUTO(pfl_crl_set_freep) struct pfl_crl_set *set = NULL;
    enum pfl_rc rc = pfl_trust_of_certs(pfl_ca_bundle(s->ca), &trust, err);
    if (rc == PFL_OK)
        rc = pfl_crl_set_load(path, trust, pfl_ca_chain(s->ca), now_s(), &set, err);
    if (rc != PFL_OK)
        return rc;
    s->crl_next_update = pfl_crl_set_next_update(set);
    for (size_t i = 0; i < pfl_crl_set_n(set); i++)
        pfl_ders_add(&ret->crls, pfl_crl_der(pfl_crl_set_at(set, i)));
    return PFL_OK;
}

/* crl.pem is read again when it was written again, by us or by `p2pfl ca revoke`. */
enum pfl_rc pfl_ca_server_refresh_bundle(struct pfl_ca_server *s, struct pfl_err *err)
{
    struct stat st;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(s->dir, "crl.pem");
    if (stat(path, &st) != 0)
        return pfl_err_set(err, PFL_NOT_FOUND, "%s: there is no CRL", path);
    bool same = st.st_mtim.tv_sec == s->crl_mtime.tv_sec && st.st_mtim.tv_nsec == s->crl_mtime.tv_nsec;
    uint8_t trust[PFL_SHA256_LEN];
    trust_hash(s->ca, trust);
    if (same && memcmp(trust, s->bundle_trust, sizeof trust) == 0)
        return PFL_OK;
    struct pfl_ca_bundle b = {0};
    enum pfl_rc rc = read_crls(s, path, &b, err);
    if (rc != PFL_OK) {
        pfl_ca_bundle_deinit(&b);
        return rc;
    }
    for (size_t i = 0; i < pfl_x509s_n(pfl_ca_bundle(s->ca)); i++)
        add_der(&b.roots, pfl_x509s_at(pfl_ca_bundle(s->ca), i));
    pfl_ca_bundle_deinit(&s->bundle);
    s->bundle = b;
    s->crl_mtime = st.st_mtim;
    memcpy(s->bundle_trust, trust, sizeof trust);
    return PFL_OK;
}

/* ---- gRPC ---- */

static void release_buf(void *owner)
{
    struct pfl_buf *b = owner;
    pfl_buf_deinit(b);
    free(b);
}

static void reply(struct pfl_rpc_call *call, struct pfl_buf *bytes) /* taken */
{
    struct pfl_buf *own = pfl_xcalloc(1, sizeof *own);
    *own = *bytes;
    *bytes = (struct pfl_buf){0};
    const struct pfl_bytes part = pfl_buf_view(own);
    const struct pfl_rpc_body body = {&part, 1, release_buf, own};
    pfl_rpc_call_reply(call, &body);
}

static int code_of(enum pfl_rc rc, bool limited)
{
    if (limited)
        return PFL_GRPC_RESOURCE_EXHAUSTED;
    switch (rc) {
    case PFL_NOT_FOUND:
        return PFL_GRPC_UNAUTHENTICATED;
    case PFL_AUTH:
        return PFL_GRPC_PERMISSION_DENIED;
    case PFL_INVALID:
    case PFL_MALFORMED:
    case PFL_TOO_BIG:
    case PFL_UNSUPPORTED:
        return PFL_GRPC_INVALID_ARGUMENT;
    default:
        return PFL_GRPC_UNAVAILABLE;
    }
}

static void refuse(struct pfl_rpc_call *call, enum pfl_rc rc, bool limited, const struct pfl_err *err)
{
    int code = code_of(rc, limited);
    if (code == PFL_GRPC_UNAVAILABLE) /* paths and the state of the disk are not for strangers */
        pfl_rpc_call_fail(call, code, "the CA cannot answer now: its log says why");
    else
        pfl_rpc_call_fail(call, code, "%s", err->msg);
}

static void fill_federation(struct pfl_ca_server *s, const struct pfl_enrol_answer *a, struct pfl_ca_federation *f)
{
    f->name = pfl_xstrdup(pfl_ca_federation(s->ca));
    f->node_name = pfl_xstrdup(a->name);
    f->role = pfl_xstrdup(a->role);
    f->settings_yaml = s->settings_yaml ? pfl_xstrdup(s->settings_yaml) : NULL;
    pfl_strs_copy(&f->sans, &a->sans);
    pfl_strs_copy(&f->connect, &s->connect);
    f->lifetime_s = (uint32_t)(a->lifetime_s > 0 ? a->lifetime_s : s->lifetime_s);
}

static enum pfl_rc encode_answer(struct pfl_ca_server *s, const struct pfl_enrol_answer *a, struct pfl_buf *out,
                                 struct pfl_err *err)
{
    struct pfl_ca_credentials c = {.pending = a->pending};
    enum pfl_rc rc = PFL_OK;
    if (a->pending) {
        c.request_id = pfl_xstrdup(a->request_id);
        c.retry_after_s = PFL_CA_RETRY_AFTER_S;
    } else {
        rc = pfl_ca_server_refresh_bundle(s, err);
        pfl_ca_server_chain(s, a->server, &c.server_chain);
        pfl_ca_server_chain(s, a->client, &c.client_chain);
        fill_federation(s, a, &c.federation);
        c.bundle = s->bundle; /* lent */
    }
    if (rc == PFL_OK)
        rc = pfl_ca_credentials_encode(&c, out, err);
    if (rc == PFL_OK && out->failed)
        rc = pfl_err_set(err, PFL_TOO_BIG, "the answer is past %d bytes", PFL_WIRE_CA_ANSWER_MAX);
    c.bundle = (struct pfl_ca_bundle){0};
    pfl_ca_credentials_deinit(&c);
    return rc;
}

static void serve(struct pfl_ca_server *s, enum pfl_ca_ask kind, enum pfl_ca_request_kind wire, struct pfl_rpc_call *call,
                  const struct pfl_blob *request)
{
    PFL_AUTO(pfl_ca_request_deinit) struct pfl_ca_request r = {0};
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer a = {0};
    struct pfl_buf out = {.limit = PFL_WIRE_CA_ANSWER_MAX};
    struct pfl_err err = {0};
    bool limited = false;
    enum pfl_rc rc = pfl_ca_request_decode(wire, pfl_bytes_of(request->data, request->len), &r, &err);
    if (rc == PFL_OK) {
        struct pfl_enrol_ask ask = {
            .token = kind == PFL_CA_ASK_POLL ? r.request_id : r.token,
            .server_csr = pfl_buf_view(&r.server_csr),
            .client_csr = pfl_buf_view(&r.client_csr),
        };
        rc = pfl_ca_server_decide(s, kind, pfl_rpc_call_peer(call), &ask, &a, &limited, &err);
    }
    if (rc == PFL_OK && (rc = encode_answer(s, &a, &out, &err)) != PFL_OK)
        pfl_error("an answer cannot be given: %s", err.msg);
    if (rc == PFL_OK)
        reply(call, &out);
    else
        refuse(call, rc, limited, &err);
    pfl_buf_deinit(&out);
}

static void on_enrol(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    serve(user, PFL_CA_ASK_ENROL, PFL_CA_ENROL, call, request);
}

static void on_poll(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    serve(user, PFL_CA_ASK_POLL, PFL_CA_POLL, call, request);
}

static void on_renew(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    if (!pfl_rpc_call_peer(call)->identity)
        pfl_rpc_call_fail(call, PFL_GRPC_UNAUTHENTICATED, "renewal needs a client certificate of this CA; enrol with a token");
    else
        serve(user, PFL_CA_ASK_RENEW, PFL_CA_RENEW, call, request);
}

static size_t request_limit(void *user, const char *path, const struct pfl_rpc_peer *peer)
{
    (void)user;
    (void)path;
    (void)peer;
    return PFL_WIRE_CA_REQUEST_MAX;
}

/* ---- the service's certificate ---- */

static enum pfl_rc make_own(struct pfl_ca_server *s, struct pfl_tls **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_service_identity_deinit) struct pfl_service_identity own = {0};
    PFL_AUTO(pfl_trust_freep) struct pfl_trust *trust = NULL;
    int64_t lifetime = s->lifetime_s < PFL_CA_SERVICE_LIFETIME_S ? s->lifetime_s : PFL_CA_SERVICE_LIFETIME_S;
    enum pfl_rc rc = pfl_enrol_service_identity(s->ca, &s->sans, lifetime < 3600 ? 3600 : lifetime, now_s(), &own, err);
    if (rc == PFL_OK)
        rc = pfl_trust_of_certs(pfl_ca_bundle(s->ca), &trust, err);
    const struct pfl_tls_service opts = {own.crt, own.chain, own.key, trust, s->renew_window_s};
    if (rc == PFL_OK)
        rc = pfl_tls_new_service(&opts, ret, err);
    if (rc != PFL_OK)
        return rc;
    s->own_from = now_s();
    s->own_until = pfl_cert_not_after(own.crt);
    trust_hash(s->ca, s->own_trust);
    return PFL_OK;
}

/* Two thirds are over, the clock went back before it, or the roots are others now. */
static bool own_is_due(const struct pfl_ca_server *s)
{
    uint8_t trust[PFL_SHA256_LEN];
    int64_t now = now_s();
    trust_hash(s->ca, trust);
    return now >= s->own_from + (s->own_until - s->own_from) * 2 / 3 || now + 60 < s->own_from ||
           memcmp(trust, s->own_trust, sizeof trust) != 0;
}

/* Nobody is drained: who is connected is judged by the roots as they are now, and connections here are short. */
static void renew_own(struct pfl_ca_server *s)
{
    PFL_AUTO(pfl_tls_freep) struct pfl_tls *tls = NULL;
    struct pfl_err err = {0};
    if (make_own(s, &tls, &err) != PFL_OK) {
        pfl_error("%s", err.msg);
        s->own_retry_at = now_s() + PFL_CA_RETRY_S;
        return;
    }
    (void)pfl_rpc_server_revise(s->rpc, tls, NULL, NULL);
    pfl_info("the service has a new certificate of its own");
}

void pfl_ca_server_follow(struct pfl_ca_server *s)
{
    struct pfl_err err = {0};
    bool failed = pfl_ca_follow(s->ca, &err) != PFL_OK;
    if (failed && !s->follow_failed)
        pfl_error("what other commands do to the register cannot be seen: %s", err.msg);
    s->follow_failed = failed;
    if (own_is_due(s) && now_s() >= s->own_retry_at)
        renew_own(s);
}

/* A member may hold what the register says since a moment ago, a certificate under a new root for one: its handshake must be judged
 * by that, not by how things stood at the last tick. */
static void on_connection(void *user)
{
    pfl_ca_server_follow(user);
}

/* A third of its life before nextUpdate the CRL is made anew. */
static void renew_crl(struct pfl_ca_server *s)
{
    struct pfl_err err = {0};
    int64_t now = now_s();
    enum pfl_rc rc = pfl_ca_server_refresh_bundle(s, &err);
    int64_t life = s->crl_next_update - s->crl_mtime.tv_sec;
    if ((rc == PFL_OK && now < s->crl_next_update - life / 3) || now < s->crl_retry_at)
        return;
    err = (struct pfl_err){0};
    s->crl_retry_at = now + PFL_CA_RETRY_S;
    if (pfl_ca_make_crl(s->ca, 0, "ca serve", &err) != PFL_OK)
        pfl_error("no fresh CRL: %s", err.msg);
}

static void on_tick(uv_timer_t *h)
{
    struct pfl_ca_server *s = h->data;
    pfl_ca_server_follow(s);
    renew_crl(s);
    pfl_ca_bundle_look(s);
}

/* ---- life ---- */

static void server_free(struct pfl_ca_server *s)
{
    pfl_ca_bundle_deinit(&s->bundle);
    pfl_buf_deinit(&s->bundle_bytes);
    pfl_strs_deinit(&s->sans);
    pfl_strs_deinit(&s->connect);
    pfl_rate_free(s->wrong);
    pfl_rate_free(s->wrong_all);
    pfl_rate_free(s->renewals);
    pfl_rate_free(s->audit);
    free(s->settings_yaml);
    free(s->dir);
    free(s);
}

static struct pfl_ca_server *server_of(const struct pfl_ca_server_opts *o)
{
    struct pfl_ca_server *s = pfl_xcalloc(1, sizeof *s);
    s->loop = o->loop;
    s->ca = o->ca;
    s->dir = pfl_xstrdup(o->dir);
    pfl_strs_copy(&s->sans, &o->sans);
    pfl_strs_copy(&s->connect, &o->connect);
    s->settings_yaml = o->settings_yaml ? pfl_xstrdup(o->settings_yaml) : NULL;
    s->approve = o->approve;
    s->lifetime_s = o->lifetime_s ? o->lifetime_s : PFL_CA_LIFETIME_DEFAULT_S;
    s->renew_window_s = o->renew_window_s;
    s->wrong = pfl_rate_new(PFL_CA_WRONG_BURST, PFL_CA_WRONG_PER_MIN, PFL_CA_RATE_KEYS_MAX);
    s->wrong_all = pfl_rate_new(PFL_CA_WRONG_ALL_BURST, PFL_CA_WRONG_ALL_PER_MIN, 1);
    s->renewals = pfl_rate_new(PFL_CA_RENEWALS_BURST, PFL_CA_RENEWALS_PER_MIN, PFL_CA_RATE_KEYS_MAX);
    s->audit = pfl_rate_new(PFL_CA_AUDIT_REFUSALS_PER_MIN, PFL_CA_AUDIT_REFUSALS_PER_MIN, 1);
    return s;
}

static enum pfl_rc start(struct pfl_ca_server *s, const char *listen, struct pfl_err *err)
{
    const struct pfl_rpc_method methods[] = {
        {PFL_CA_METHOD("Enrol"), on_enrol, false},
        {PFL_CA_METHOD("Poll"), on_poll, false},
        {PFL_CA_METHOD("Renew"), on_renew, false},
        {PFL_CA_METHOD("GetBundle"), pfl_ca_on_bundle, false},
    };
    PFL_AUTO(pfl_tls_freep) struct pfl_tls *tls = NULL;
    enum pfl_rc rc = make_own(s, &tls, err);
    const struct pfl_rpc_server_opts opts = {
        .loop = s->loop,
        .address = listen,
        .tls = tls,
        .methods = methods,
        .n_methods = PFL_ARRAY_LEN(methods),
        .user = s,
        .on_connection = on_connection,
        .request_limit = request_limit,
        .http = pfl_ca_est,
        .connections_max = PFL_CA_CONNECTIONS_MAX,
        .connections_per_ip_max = PFL_CA_CONNECTIONS_PER_IP_MAX,
        .streams_max = PFL_CA_STREAMS_MAX,
        .handshake_timeout = PFL_CA_HANDSHAKE_TIMEOUT_S * PFL_SEC,
        .health = true,
    };
    return rc == PFL_OK ? pfl_rpc_server_new(&opts, &s->rpc, err) : rc;
}

enum pfl_rc pfl_ca_server_new(const struct pfl_ca_server_opts *opts, struct pfl_ca_server **ret, struct pfl_err *err)
{
    struct pfl_ca_server *s = server_of(opts);
    renew_crl(s);
    enum pfl_rc rc = pfl_ca_server_refresh_bundle(s, err);
    if (rc == PFL_OK)
        rc = start(s, opts->listen, err);
    if (rc != PFL_OK) {
        server_free(s);
        return rc;
    }
    uv_timer_init(s->loop, &s->tick);
    s->tick.data = s;
    uv_timer_start(&s->tick, on_tick, PFL_CA_TICK_MS, PFL_CA_TICK_MS);
    pfl_ca_bundle_start(s);
    *ret = s;
    return PFL_OK;
}

const char *pfl_ca_server_address(const struct pfl_ca_server *s)
{
    return pfl_rpc_server_address(s->rpc);
}

static void on_tick_closed(uv_handle_t *h)
{
    struct pfl_ca_server *s = h->data;
    void (*closed)(void *) = s->closed;
    void *user = s->closed_user;
    server_free(s);
    if (closed)
        closed(user);
}

static void on_folder_closed(uv_handle_t *h)
{
    struct pfl_ca_server *s = h->data;
    uv_close((uv_handle_t *)&s->tick, on_tick_closed);
}

static void on_rpc_closed(void *user)
{
    struct pfl_ca_server *s = user;
    if (s->folder_open)
        uv_close((uv_handle_t *)&s->folder, on_folder_closed);
    else
        uv_close((uv_handle_t *)&s->tick, on_tick_closed);
}

void pfl_ca_server_close(struct pfl_ca_server *s, void (*closed)(void *user), void *user)
{
    s->closed = closed;
    s->closed_user = user;
    uv_timer_stop(&s->tick);
    pfl_ca_bundle_stop(s);
    pfl_rpc_server_close(s->rpc, PFL_SEC, on_rpc_closed, s);
}
