/* SPDX-License-Identifier: Apache-2.0 */
/* What a context knows of revocation. The CRL set is the one part that changes without new files or keys, so a context can be made
 * from another one with a newer set; all else is shared. */
#include <openssl/err.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "tls/impl.h"

static void push_chain(STACK_OF(X509) * all, SSL_CTX *ctx)
{
    STACK_OF(X509) *chain = NULL;
    if (ctx) /* a service's context has one side only */
        SSL_CTX_get0_chain_certs(ctx, &chain);
    for (int i = 0; i < sk_X509_num(chain); i++)
        PFL_ASSERT(sk_X509_push(all, sk_X509_value(chain, i)) > 0);
}

/* The intermediates of the node's own chains: a stack of borrowed certificates, to be freed with sk_X509_free. */
static STACK_OF(X509) * own_chain(const struct pfl_tls *t)
{
    STACK_OF(X509) *all = sk_X509_new_null();
    PFL_ASSERT(all != NULL);
    push_chain(all, t->server);
    push_chain(all, t->client);
    return all;
}

const struct pfl_trust *pfl_tls_trust(const struct pfl_tls *t)
{
    return t->trust;
}

struct pfl_crl_set *pfl_tls_crls(const struct pfl_tls *t)
{
    return t->crls;
}

enum pfl_crl_policy pfl_tls_crl_policy(const struct pfl_tls *t)
{
    return t->crl_policy;
}

enum pfl_rc pfl_tls_crl_accept(const struct pfl_tls *t, struct pfl_bytes crl, int64_t now, struct pfl_crl_set **ret,
                               struct pfl_err *err)
{
    PFL_AUTO(pfl_crl_freep) struct pfl_crl *c = NULL;
    enum pfl_rc rc = pfl_crl_parse(crl, &c, err);
    if (rc != PFL_OK)
        return rc;
    STACK_OF(X509) *chain = own_chain(t);
    rc = pfl_crl_verify(c, t->trust, chain, now, err);
    sk_X509_free(chain);
    return rc == PFL_OK ? pfl_crl_set_with(t->crls, c, ret, err) : rc;
}

enum pfl_rc pfl_tls_crls_accept(const struct pfl_tls *t, struct pfl_bytes crls, int64_t now, struct pfl_crl_set **ret,
                                struct pfl_err *err)
{
    PFL_AUTO(pfl_crl_set_freep) struct pfl_crl_set *more = NULL;
    STACK_OF(X509) *chain = own_chain(t);
    enum pfl_rc rc = pfl_crl_set_parse(crls, t->trust, chain, now, &more, err);
    sk_X509_free(chain);
    if (rc != PFL_OK)
        return rc;
    unsigned n_new = 0;
    struct pfl_err older = {0};
    PFL_AUTO(pfl_crl_set_freep) struct pfl_crl_set *set = pfl_crl_set_merge(t->crls, more, &n_new, &older);
    if (n_new > 0) {
        *ret = pfl_steal(&set);
        return PFL_OK;
    }
    if (older.rc != PFL_OK)
        return pfl_err_set(err, older.rc, "%s", older.msg);
    return pfl_err_set(err, PFL_EXISTS, "these CRLs are in use already");
}

struct pfl_tls *pfl_tls_with_crls(struct pfl_tls *t, struct pfl_crl_set *set)
{
    struct pfl_tls *with = pfl_xcalloc(1, sizeof *with);
    struct pfl_tls *base = t->base ? t->base : t;
    *with = (struct pfl_tls){
        .tls12_allowed = base->tls12_allowed,
        .trust = base->trust,
        .server = base->server,
        .client = base->client,
        .bio = base->bio,
        .server_identity = base->server_identity,
        .client_identity = base->client_identity,
        .crls = pfl_crl_set_ref(set),
        .crl_policy = base->crl_policy,
        .base = pfl_tls_ref(base),
    };
    atomic_init(&with->refs, 1);
    return with;
}

struct pfl_tls *pfl_tls_inherit_crls(struct pfl_tls *fresh, const struct pfl_tls *old)
{
    unsigned n_new = 0;
    PFL_AUTO(pfl_crl_set_freep) struct pfl_crl_set *set = pfl_crl_set_merge(fresh->crls, old->crls, &n_new, NULL);
    if (n_new == 0 && fresh->crl_policy == old->crl_policy)
        return pfl_tls_ref(fresh);
    struct pfl_tls *t = pfl_tls_with_crls(fresh, set);
    t->crl_policy = old->crl_policy;
    return t;
}

/* ---- own certificates ---- */

static enum pfl_rc check_one(const struct pfl_tls *t, SSL_CTX *ctx, enum pfl_purpose purpose, int64_t now,
                             enum pfl_verify_why *ret_why, struct pfl_err *err)
{
    if (!ctx || !SSL_CTX_get0_certificate(ctx))
        return PFL_OK;
    STACK_OF(X509) *chain = own_chain(t);
    /* a missing or stale CRL is told of elsewhere: here it is asked what is wrong with the certificate */
    const struct pfl_verify_opts opts = {
        .purpose = purpose,
        .now = now,
        .crls = t->crls,
        .crl_policy = t->crl_policy == PFL_CRL_OFF ? PFL_CRL_OFF : PFL_CRL_PREFER,
        .ret_why = ret_why,
    };
    enum pfl_rc rc = pfl_verify_x509(t->trust, SSL_CTX_get0_certificate(ctx), chain, &opts, err);
    sk_X509_free(chain);
    return rc == PFL_OK ? rc : pfl_err_wrap(err, "%s certificate", purpose == PFL_PURPOSE_SERVER ? "server" : "client");
}

enum pfl_rc pfl_tls_check_own(const struct pfl_tls *t, int64_t now, enum pfl_verify_why *ret_why, struct pfl_err *err)
{
    enum pfl_rc rc = check_one(t, t->server, PFL_PURPOSE_SERVER, now, ret_why, err);
    return rc == PFL_OK ? check_one(t, t->client, PFL_PURPOSE_CLIENT, now, ret_why, err) : rc;
}

/* ---- files ---- */

/* What the program kept itself. It can be lost or of a CA that is not trusted any more without harm: that is said, no more. */
static struct pfl_crl_set *load_kept(const struct pfl_tls *t, const char *path, int64_t now)
{
    struct pfl_crl_set *set = NULL;
    struct pfl_err err = {0};
    STACK_OF(X509) *chain = own_chain(t);
    enum pfl_rc rc = pfl_crl_set_load(path, t->trust, chain, now, &set, &err);
    sk_X509_free(chain);
    if (rc != PFL_OK && rc != PFL_NOT_FOUND)
        pfl_warn("the CRLs that were kept are not used: %s", err.msg);
    return rc == PFL_OK ? set : pfl_crl_set_new();
}

static enum pfl_rc no_crl(const struct pfl_tls_files *files, const char *why, struct pfl_err *err)
{
    if (files->crl_policy == PFL_CRL_REQUIRE)
        return pfl_err_set(err, PFL_AUTH, "%s: crl_policy is require: fetch the CRL from the CA", why);
    pfl_warn("%s: revoked certificates are not known until one comes (crl_policy is prefer)", why);
    return PFL_OK;
}

static enum pfl_rc load_file(struct pfl_tls *t, const struct pfl_tls_files *files, int64_t now, struct pfl_err *err)
{
    PFL_AUTO(pfl_crl_set_freep) struct pfl_crl_set *set = NULL;
    struct pfl_err older = {0}, why = {0};
    STACK_OF(X509) *chain = own_chain(t);
    enum pfl_rc rc = pfl_crl_set_load(files->crl, t->trust, chain, now, &set, &why);
    sk_X509_free(chain);
    if (rc == PFL_NOT_FOUND)
        return pfl_crl_set_n(t->crls) > 0 ? PFL_OK : no_crl(files, why.msg, err);
    if (rc != PFL_OK)
        return pfl_err_set(err, rc, "%s", why.msg);
    struct pfl_crl_set *kept = t->crls;
    t->crls = pfl_crl_set_merge(kept, set, NULL, &older);
    pfl_crl_set_unref(kept);
    if (older.rc != PFL_OK)
        pfl_warn("%s: %s: the newer one stays in use", files->crl, older.msg);
    return PFL_OK;
}

static void warn_of_stale(const struct pfl_tls *t, int64_t now)
{
    for (size_t i = 0; i < pfl_crl_set_n(t->crls); i++) {
        const struct pfl_crl *c = pfl_crl_set_at(t->crls, i);
        if (pfl_crl_next_update(c) < now)
            pfl_warn("CRL number %s of '%s' has lapsed: fetch a newer one from the CA", pfl_crl_number_text(c), pfl_crl_issuer(c));
    }
}

enum pfl_rc pfl_tls_load_crls(struct pfl_tls *t, const struct pfl_tls_files *files, struct pfl_err *err)
{
    if (files->crl_policy == PFL_CRL_OFF) {
        if (files->crl || files->crl_kept)
            pfl_warn("crl_policy is off: REVOKED CERTIFICATES ARE ACCEPTED");
        return PFL_OK;
    }
    int64_t now = pfl_clock_wall() / PFL_SEC;
    if (files->crl_kept) {
        pfl_crl_set_unref(t->crls);
        t->crls = load_kept(t, files->crl_kept, now);
    }
    enum pfl_rc rc = PFL_OK;
    if (files->crl)
        rc = load_file(t, files, now, err);
    else if (pfl_crl_set_n(t->crls) == 0 && files->crl_policy == PFL_CRL_REQUIRE)
        rc = no_crl(files, "no CRL file is named", err);
    if (rc == PFL_OK)
        warn_of_stale(t, now);
    return rc;
}
