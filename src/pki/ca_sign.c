/* SPDX-License-Identifier: Apache-2.0 */
/* Signing: a grant says what a certificate says, the register knows it before anybody has it. */
#include <openssl/err.h>
#include <string.h>

#include "pki/ca_private.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/digest.h"
#include "pki/identity.h"
#include "pki/key.h"

static void der_of(X509 *cert, struct pfl_buf *out)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    PFL_ASSERT(len > 0 && pfl_buf_append(out, der, (size_t)len));
    OPENSSL_free(der);
}

/* "sha256=" comes first: pfl_audit_verify looks for it, whatever is cut off behind it. */
static enum pfl_rc log_cert(struct pfl_register *reg, const struct pfl_cert_row *row, struct pfl_bytes der, const char *action,
                            struct pfl_err *err)
{
    char hex[65], until[32];
    PFL_AUTO(pfl_freep) char *sans = pfl_strs_join(&row->sans, ",");
    pfl_sha256_hex(der, hex);
    pfl_time_text(row->not_after, until);
    PFL_AUTO(pfl_freep)
    char *detail = pfl_xasprintf("sha256=%s name=%s role=%s purpose=%s until=%s key=%s issuer=%s names=%s", hex, row->name,
                                 row->role, row->purpose, until, row->key_fingerprint, row->issuer_fingerprint, sans);
    return pfl_audit_append(reg, row->asked_by, action, row->serial_hex, detail, err);
}

static void row_of_spec(struct pfl_cert_row *row, const struct pfl_cert_spec *spec, const struct pfl_signing *how, EVP_PKEY *key)
{
    char fingerprint[65];
    row->name = pfl_xstrdup(spec->common_name);
    row->role = pfl_xstrdup(how->role);
    row->subject = pfl_xasprintf("CN=%s", spec->common_name);
    row->purpose = pfl_xstrdup(spec->is_ca ? "ca" : spec->purpose);
    pfl_strs_copy(&row->sans, &spec->sans);
    pfl_spki_fingerprint(key, fingerprint);
    row->key_fingerprint = pfl_xstrdup(fingerprint);
    row->issuer_fingerprint = pfl_xstrdup(how->issuer->fingerprint);
    row->asked_by = pfl_xstrdup(how->asked_by);
    row->token_id = how->token_id;
    row->not_before = spec->not_before;
    row->not_after = spec->not_after;
}

enum pfl_rc pfl_ca_sign_spec(struct pfl_register *reg, struct pfl_cert_spec *spec, const struct pfl_signing *how, EVP_PKEY *key,
                             X509 **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_cert_row_deinit) struct pfl_cert_row row = {0};
    PFL_AUTO(pfl_x509_freep) X509 *cert = NULL;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf der = {0};
    row_of_spec(&row, spec, how, key);
    enum pfl_rc rc = pfl_register_reserve(reg, &row, err);
    if (rc != PFL_OK)
        return rc;
    spec->serial_hex = row.serial_hex;
    rc = pfl_cert_build(spec, key, how->issuer->cert, how->issuer->key, &cert, err);
    spec->serial_hex = NULL;
    if (rc != PFL_OK)
        return rc;
    der_of(cert, &der);
    rc = pfl_register_record(reg, row.serial_hex, pfl_buf_view(&der), err);
    if (rc == PFL_OK)
        rc = log_cert(reg, &row, pfl_buf_view(&der), how->action, err);
    if (rc == PFL_OK)
        *ret = pfl_steal(&cert);
    return rc;
}

enum pfl_rc pfl_ca_enter(struct pfl_register *reg, X509 *cert, const char *role, const char *purpose,
                         const char *issuer_fingerprint, const char *actor, const char *action, struct pfl_err *err)
{
    char fingerprint[65];
    PFL_AUTO(pfl_cert_row_deinit) struct pfl_cert_row row = {0};
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    enum pfl_rc rc = pfl_identity_of_x509(cert, &id, err);
    if (rc != PFL_OK)
        return rc;
    if (strlen(id->serial_hex) > PFL_SERIAL_HEX_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "serial %s is longer than 20 bytes", pfl_q(id->serial_hex));
    memcpy(row.serial_hex, id->serial_hex, strlen(id->serial_hex));
    row.name = pfl_xstrdup(id->name ? id->name : pfl_str_has_prefix(id->subject, "CN=") ? id->subject + 3 : id->subject);
    row.role = pfl_xstrdup(id->role ? id->role : role);
    row.subject = pfl_xstrdup(id->subject);
    row.purpose = pfl_xstrdup(purpose);
    pfl_strs_copy(&row.sans, &id->sans);
    pfl_spki_fingerprint(X509_get0_pubkey(cert), fingerprint);
    row.key_fingerprint = pfl_xstrdup(fingerprint);
    row.issuer_fingerprint = pfl_xstrdup(issuer_fingerprint);
    row.asked_by = pfl_xstrdup(actor);
    row.not_before = id->not_before;
    row.not_after = id->not_after;
    der_of(cert, &row.der);
    rc = pfl_register_adopt(reg, &row, err);
    return rc == PFL_OK ? log_cert(reg, &row, pfl_buf_view(&row.der), action, err) : rc;
}

static bool purpose_valid(const char *purpose)
{
    return pfl_streq(purpose, "serverAuth") || pfl_streq(purpose, "clientAuth") || pfl_streq(purpose, "serverAuth,clientAuth");
}

enum pfl_rc pfl_grant_check(const struct pfl_ca *ca, const struct pfl_grant *grant, struct pfl_err *err)
{
    if (ca->offline)
        return pfl_err_set(err, PFL_STATE,
                           "%s is a root that is kept offline: it signs intermediate CAs only; issue from the CA "
                           "that it signed, or sign one: p2pfl ca sign-intermediate",
                           ca->dir);
    if (!pfl_name_valid(grant->name))
        return pfl_err_set(err, PFL_INVALID, "name '%s': 1 to %d of a-z, 0-9 and .-_ are wanted", pfl_q(grant->name), PFL_NAME_MAX);
    if (!pfl_role_valid(grant->role) && !pfl_streq(grant->role, "ca"))
        return pfl_err_set(err, PFL_INVALID, "role '%s': node, coordinator or observer is wanted", pfl_q(grant->role));
    if (grant->sans.n == 0)
        return pfl_err_set(err, PFL_INVALID,
                           "no subject alternative name for '%s': peers check the address that they dial, so give at least one",
                           grant->name);
    if (grant->sans.n >= PFL_SANS_MAX)
        return pfl_err_set(err, PFL_INVALID, "%zu subject alternative names, at most %d are allowed", grant->sans.n,
                           PFL_SANS_MAX - 1);
    if (!purpose_valid(grant->purpose))
        return pfl_err_set(err, PFL_INVALID, "purpose '%s': serverAuth or clientAuth is wanted", pfl_q(grant->purpose));
    if (grant->lifetime_s < 0 || grant->lifetime_s > (int64_t)PFL_DAYS_MAX * PFL_DAY_S)
        return pfl_err_set(err, PFL_INVALID, "a lifetime of %lld s: 1 to %lld are allowed", (long long)grant->lifetime_s,
                           (long long)PFL_DAYS_MAX * PFL_DAY_S);
    return PFL_OK;
}

/* The validity asked for, cut to the issuer's; an issuer that is out of time issues nothing. */
static enum pfl_rc set_validity(const struct pfl_issuer *issuer, const struct pfl_grant *grant, struct pfl_cert_spec *spec,
                                struct pfl_err *err)
{
    char bound[32];
    int64_t now = pfl_now_or(grant->now), from = pfl_cert_not_before(issuer->cert), until = pfl_cert_not_after(issuer->cert);
    int64_t lifetime = grant->lifetime_s ? grant->lifetime_s : (int64_t)PFL_NODE_DAYS_DEFAULT * PFL_DAY_S;
    int64_t backdate = lifetime / 10 < PFL_BACKDATE_S ? lifetime / 10 : PFL_BACKDATE_S;
    if (now > until || now < from) {
        pfl_time_text(now > until ? until : from, bound);
        return pfl_err_set(err, PFL_STATE, "the CA's certificate %s %s: it can issue nothing now",
                           now > until ? "expired on" : "is not valid before", bound);
    }
    spec->not_before = now - backdate < from ? from : now - backdate;
    spec->not_after = now + lifetime > until ? until : now + lifetime;
    return PFL_OK;
}

static enum pfl_rc collect_sans(const struct pfl_ca *ca, const struct pfl_grant *grant, struct pfl_strs *ret, struct pfl_err *err)
{
    for (size_t i = 0; i < grant->sans.n; i++) {
        PFL_AUTO(pfl_freep) char *san = NULL;
        enum pfl_rc rc = pfl_san_parse(grant->sans.items[i], &san, err);
        if (rc != PFL_OK)
            return rc;
        pfl_strs_add_once(ret, san);
    }
    PFL_AUTO(pfl_freep) char *uri = pfl_xasprintf("URI:spiffe://%s/%s/%s", ca->federation, grant->role, grant->name);
    pfl_strs_add(ret, uri);
    return PFL_OK;
}

enum pfl_rc pfl_ca_sign_key(const struct pfl_ca *ca, EVP_PKEY *key, const struct pfl_grant *grant, X509 **ret, struct pfl_err *err)
{
    struct pfl_cert_spec spec = {.common_name = grant->name, .purpose = grant->purpose};
    enum pfl_rc rc = pfl_ca_refresh(ca, err);
    const struct pfl_issuer *issuer = ca->keys->signer;
    struct pfl_signing how = {
        .issuer = issuer, .role = grant->role, .asked_by = grant->actor, .action = grant->action, .token_id = grant->token_id};
    if (rc == PFL_OK)
        rc = set_validity(issuer, grant, &spec, err);
    if (rc == PFL_OK)
        rc = collect_sans(ca, grant, &spec.sans, err);
    if (rc == PFL_OK)
        rc = pfl_ca_sign_spec(ca->reg, &spec, &how, key, ret, err);
    pfl_strs_deinit(&spec.sans);
    return rc;
}

static bool name_granted(const struct pfl_ca *ca, const struct pfl_grant *grant, const char *san)
{
    PFL_AUTO(pfl_freep) char *uri = pfl_xasprintf("URI:spiffe://%s/%s/%s", ca->federation, grant->role, grant->name);
    if (pfl_streq(san, uri))
        return true;
    for (size_t i = 0; i < grant->sans.n; i++) {
        PFL_AUTO(pfl_freep) char *granted = NULL;
        if (pfl_san_parse(grant->sans.items[i], &granted, NULL) == PFL_OK && pfl_streq(san, granted))
            return true;
    }
    return false;
}

/* A common name may be the node's, or one of the names that it is granted. */
static bool common_name_granted(const struct pfl_ca *ca, const struct pfl_grant *grant, const char *cn)
{
    PFL_AUTO(pfl_freep) char *dns = pfl_xasprintf("DNS:%s", cn);
    PFL_AUTO(pfl_freep) char *ip = pfl_xasprintf("IP:%s", cn);
    return *cn == '\0' || pfl_streq(cn, grant->name) || name_granted(ca, grant, dns) || name_granted(ca, grant, ip);
}

static bool purpose_granted(const struct pfl_grant *grant, const char *purpose)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs granted = {0};
    pfl_strs_split(&granted, grant->purpose, ',');
    return pfl_strs_has(&granted, purpose);
}

static enum pfl_rc check_wishes(const struct pfl_ca *ca, const struct pfl_csr *csr, const struct pfl_grant *grant,
                                struct pfl_err *err)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs excess = {0};
    const struct pfl_strs *sans = pfl_csr_sans(csr), *purposes = pfl_csr_purposes(csr);
    char quoted[192];
    const char *cn = pfl_csr_common_name(csr);
    if (pfl_csr_asks_ca(csr))
        pfl_strs_add(&excess, "to be a CA (CA:TRUE)");
    if (!common_name_granted(ca, grant, cn)) {
        PFL_AUTO(pfl_freep) char *what = pfl_xasprintf("the common name '%s'", pfl_quote(cn, strlen(cn), quoted, sizeof quoted));
        pfl_strs_add(&excess, what);
    }
    for (size_t i = 0; i < sans->n; i++)
        if (!name_granted(ca, grant, sans->items[i]))
            pfl_strs_add(&excess, pfl_quote(sans->items[i], strlen(sans->items[i]), quoted, sizeof quoted));
    for (size_t i = 0; i < purposes->n; i++)
        if (!purpose_granted(grant, purposes->items[i])) {
            PFL_AUTO(pfl_freep) char *what = pfl_xasprintf("the purpose %s", pfl_q(purposes->items[i]));
            pfl_strs_add(&excess, what);
        }
    if (excess.n == 0)
        return PFL_OK;
    PFL_AUTO(pfl_freep) char *all = pfl_strs_join(&excess, ", ");
    return pfl_err_set(err, PFL_AUTH, "the request asks for more than '%s' (%s, %s) is granted: %s", grant->name, grant->role,
                       grant->purpose, all);
}

enum pfl_rc pfl_ca_sign(const struct pfl_ca *ca, const struct pfl_csr *csr, const struct pfl_grant *grant, X509 **ret,
                        struct pfl_err *err)
{
    bool own = !pfl_register_in_transaction(ca->reg);
    PFL_AUTO(pfl_x509_freep) X509 *cert = NULL;
    PFL_ASSERT(grant->actor && grant->action);
    enum pfl_rc rc = pfl_grant_check(ca, grant, err);
    if (rc == PFL_OK)
        rc = check_wishes(ca, csr, grant, err);
    if (rc == PFL_OK && own)
        rc = pfl_register_begin(ca->reg, err);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_ca_sign_key(ca, pfl_csr_key(csr), grant, &cert, err);
    if (own && rc == PFL_OK)
        rc = pfl_register_commit(ca->reg, err);
    if (own && rc != PFL_OK)
        pfl_register_rollback(ca->reg);
    if (rc == PFL_OK)
        *ret = pfl_steal(&cert);
    return rc;
}
