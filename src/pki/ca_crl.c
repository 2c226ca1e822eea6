/* SPDX-License-Identifier: Apache-2.0 */
/* Revocation: the register's rows, and the lists that the CA's keys sign (RFC 5280 section 5). The list goes into the register in
 * the same transaction as the revocation, and into crl.pem after it. */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "pki/ca_private.h"
#include "pki/cert.h"
#include "pki/key.h"
#include "pki/sql.h"

enum { KEEP_EXPIRED_S = 7 * PFL_DAY_S, ENTRIES_MAX = 100000 };

static void free_crl(X509_CRL *crl)
{
    X509_CRL_free(crl);
}
PFL_DEFINE_FREEP(x509_crl, X509_CRL, free_crl)

/* RFC 5280 section 5.3.1; those that cannot be given here have no number. */
static const struct {
    const char *name;
    long code;
    const char *not_here;
} REASONS[] = {
    {"unspecified", 0, NULL},
    {"keyCompromise", 1, NULL},
    {"cACompromise", 2, NULL},
    {"affiliationChanged", 3, NULL},
    {"superseded", 4, NULL},
    {"cessationOfOperation", 5, NULL},
    {"certificateHold", 6, "a hold promises that it can be lifted, and a revocation here is final"},
    {"removeFromCRL", 8, "it stands in delta lists only, which are not made here"},
    {"privilegeWithdrawn", 9, NULL},
    {"aACompromise", 10, NULL},
};

static enum pfl_rc check_reason(const char *reason, struct pfl_err *err)
{
    const char *names[PFL_ARRAY_LEN(REASONS)];
    for (size_t i = 0; i < PFL_ARRAY_LEN(REASONS); i++) {
        names[i] = REASONS[i].name;
        if (!pfl_streq(reason, REASONS[i].name))
            continue;
        if (REASONS[i].not_here)
            return pfl_err_set(err, PFL_INVALID, "reason '%s': %s", reason, REASONS[i].not_here);
        return PFL_OK;
    }
    const char *near = pfl_nearest(reason, names, PFL_ARRAY_LEN(REASONS));
    return pfl_err_set(err, PFL_INVALID,
                       "reason '%s'%s%s%s: unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, "
                       "cessationOfOperation, privilegeWithdrawn or aACompromise is wanted",
                       pfl_q(reason), near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

static long reason_code(const char *reason)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(REASONS); i++)
        if (pfl_streq(reason, REASONS[i].name))
            return REASONS[i].code;
    return 0;
}

static bool set_serial(X509_REVOKED *entry, const char *hex)
{
    BIGNUM *number = NULL;
    ASN1_INTEGER *serial = BN_hex2bn(&number, hex) > 0 ? BN_to_ASN1_INTEGER(number, NULL) : NULL;
    bool ok = serial && X509_REVOKED_set_serialNumber(entry, serial) == 1;
    ASN1_INTEGER_free(serial);
    BN_free(number);
    return ok;
}

/* RFC 5280: "unspecified" is said by leaving the reason out. */
static bool set_reason(X509_REVOKED *entry, long code)
{
    if (code == 0)
        return true;
    ASN1_ENUMERATED *reason = ASN1_ENUMERATED_new();
    bool ok = reason && ASN1_ENUMERATED_set(reason, code) == 1 &&
              X509_REVOKED_add1_ext_i2d(entry, NID_crl_reason, reason, 0, X509V3_ADD_DEFAULT) == 1;
    ASN1_ENUMERATED_free(reason);
    return ok;
}

static bool add_entry(X509_CRL *crl, const char *serial_hex, int64_t at, const char *reason)
{
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_TIME *when = ASN1_TIME_set(NULL, (time_t)at);
    bool ok = entry && when && set_serial(entry, serial_hex) && X509_REVOKED_set_revocationDate(entry, when) == 1 &&
              set_reason(entry, reason_code(reason)) && X509_CRL_add0_revoked(crl, entry) == 1;
    ASN1_TIME_free(when);
    if (!ok)
        X509_REVOKED_free(entry);
    return ok;
}

static enum pfl_rc add_entries(const struct pfl_ca *ca, const struct pfl_issuer *issuer, X509_CRL *crl, int64_t now,
                               struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool more = false;
    int n = 0;
    enum pfl_rc rc = pfl_sql_query(ca->reg, err, &stmt,
                                   "SELECT serial, revoked_at, reason FROM certificates WHERE issuer = ? AND status = 'revoked'"
                                   " AND not_after > ? ORDER BY id",
                                   "ti", issuer->fingerprint, now - KEEP_EXPIRED_S);
    if (rc == PFL_OK)
        rc = pfl_sql_next(ca->reg, stmt, &more, err);
    while (rc == PFL_OK && more) {
        if (++n > ENTRIES_MAX)
            return pfl_err_set(err, PFL_TOO_BIG, "more than %d revoked certificates that are not expired: roll the root over",
                               ENTRIES_MAX);
        if (!add_entry(crl, pfl_sql_text(stmt, 0), pfl_sql_int(stmt, 1), pfl_sql_text(stmt, 2)))
            return pfl_err_set(err, PFL_IO, "OpenSSL could not put %s on the revocation list", pfl_q(pfl_sql_text(stmt, 0)));
        rc = pfl_sql_next(ca->reg, stmt, &more, err);
    }
    return rc;
}

static bool set_extensions(X509_CRL *crl, X509 *issuer, int64_t number)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, NULL, NULL, crl, 0);
    bool by_key = X509_get0_subject_key_id(issuer) != NULL;
    X509_EXTENSION *aki = X509V3_EXT_conf_nid(NULL, &ctx, NID_authority_key_identifier, by_key ? "keyid:always" : "issuer:always");
    ASN1_INTEGER *n = ASN1_INTEGER_new();
    bool ok = aki && n && X509_CRL_add_ext(crl, aki, -1) == 1 && ASN1_INTEGER_set_int64(n, number) == 1 &&
              X509_CRL_add1_ext_i2d(crl, NID_crl_number, n, 0, X509V3_ADD_DEFAULT) == 1;
    X509_EXTENSION_free(aki);
    ASN1_INTEGER_free(n);
    return ok;
}

static bool set_head(X509_CRL *crl, X509 *issuer, int64_t now, int64_t next)
{
    ASN1_TIME *from = ASN1_TIME_set(NULL, (time_t)now), *until = ASN1_TIME_set(NULL, (time_t)next);
    bool ok = from && until && X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1 &&
              X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer)) == 1 && X509_CRL_set1_lastUpdate(crl, from) == 1 &&
              X509_CRL_set1_nextUpdate(crl, until) == 1;
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    return ok;
}

static enum pfl_rc sign_crl(const struct pfl_ca *ca, const struct pfl_issuer *issuer, int64_t number, int64_t now, int64_t next,
                            struct pfl_buf *out, struct pfl_err *err)
{
    unsigned char *der = NULL;
    PFL_AUTO(pfl_x509_crl_freep) X509_CRL *crl = X509_CRL_new();
    PFL_ASSERT(crl != NULL);
    bool ed25519 = EVP_PKEY_get_base_id(issuer->key) == EVP_PKEY_ED25519;
    enum pfl_rc rc = add_entries(ca, issuer, crl, now, err);
    if (rc != PFL_OK)
        return rc;
    bool ok = set_head(crl, issuer->cert, now, next) && set_extensions(crl, issuer->cert, number) && X509_CRL_sort(crl) == 1 &&
              X509_CRL_sign(crl, issuer->key, ed25519 ? NULL : EVP_sha256()) > 0;
    int len = ok ? i2d_X509_CRL(crl, &der) : -1;
    ERR_clear_error();
    if (len > 0)
        pfl_buf_append(out, der, (size_t)len);
    OPENSSL_free(der);
    return len > 0 && !out->failed ? PFL_OK : pfl_err_set(err, PFL_IO, "OpenSSL could not sign the revocation list");
}

/* One more than the last, and never below the clock: a register from a backup then does not give a number twice. */
static enum pfl_rc next_number(const struct pfl_ca *ca, const struct pfl_issuer *issuer, int64_t now, int64_t *ret,
                               struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool row = false;
    uint8_t last[8] = {0};
    char padded[17];
    enum pfl_rc rc = pfl_sql_query(ca->reg, err, &stmt, "SELECT number FROM crls WHERE issuer = ?", "t", issuer->fingerprint);
    if (rc == PFL_OK)
        rc = pfl_sql_next(ca->reg, stmt, &row, err);
    if (rc != PFL_OK)
        return rc;
    const char *hex = row ? pfl_sql_text(stmt, 0) : "0";
    size_t len = strlen(hex);
    memset(padded, '0', 16);
    padded[16] = '\0';
    if (len > 16)
        return pfl_err_set(err, PFL_TOO_BIG, "the last revocation list's number %s is larger than this CA gives", pfl_q(hex));
    memcpy(padded + 16 - len, hex, len);
    if (!pfl_unhex(padded, last, sizeof last))
        return pfl_err_set(err, PFL_MALFORMED, "the last revocation list's number %s cannot be read", pfl_q(hex));
    struct pfl_reader reader = pfl_reader_of(pfl_bytes_of(last, sizeof last));
    int64_t number = (int64_t)pfl_reader_u64be(&reader) + 1;
    *ret = number < now ? now : number;
    return PFL_OK;
}

enum pfl_rc pfl_ca_crl_store(struct pfl_register *reg, const char *issuer_fingerprint, const char *number_hex, int64_t this_update,
                             int64_t next_update, struct pfl_bytes der, const char *actor, struct pfl_err *err)
{
    char until[32];
    pfl_time_text(next_update, until);
    PFL_AUTO(pfl_freep) char *detail = pfl_xasprintf("number=%s until=%s", number_hex, until);
    enum pfl_rc rc =
        pfl_sql_run(reg, err,
                    "INSERT INTO crls VALUES (?, ?, ?, ?, ?) ON CONFLICT (issuer) DO UPDATE SET number = excluded.number,"
                    " this_update = excluded.this_update, next_update = excluded.next_update, der = excluded.der",
                    "ttiib", issuer_fingerprint, number_hex, this_update, next_update, der);
    return rc == PFL_OK ? pfl_audit_append(reg, actor, "crl", issuer_fingerprint, detail, err) : rc;
}

static enum pfl_rc renew_one(const struct pfl_ca *ca, const struct pfl_issuer *issuer, int64_t lifetime_s, int64_t now,
                             const char *actor, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf der = {0};
    char hex[17];
    int64_t number = 0, end = pfl_cert_not_after(issuer->cert), next = now + lifetime_s < end ? now + lifetime_s : end;
    enum pfl_rc rc = next_number(ca, issuer, now, &number, err);
    if (rc == PFL_OK)
        rc = sign_crl(ca, issuer, number, now, next, &der, err);
    if (rc != PFL_OK)
        return rc;
    snprintf(hex, sizeof hex, "%llX", (unsigned long long)number);
    return pfl_ca_crl_store(ca->reg, issuer->fingerprint, hex, now, next, pfl_buf_view(&der), actor, err);
}

/* The lifetime asked for is kept for the lists that revocations make. */
static enum pfl_rc take_lifetime(const struct pfl_ca *ca, int64_t *lifetime_s, struct pfl_err *err)
{
    if (*lifetime_s == 0)
        return pfl_sql_get_int(ca->reg, err, PFL_CRL_LIFETIME_DEFAULT_S, lifetime_s,
                               "SELECT value FROM settings WHERE key = 'crl_lifetime_s'", "");
    PFL_AUTO(pfl_freep) char *text = pfl_xasprintf("%lld", (long long)*lifetime_s);
    return pfl_register_set(ca->reg, "crl_lifetime_s", text, err);
}

enum pfl_rc pfl_ca_crls_renew(const struct pfl_ca *ca, const struct pfl_ca_keys *keys, int64_t lifetime_s, int64_t now,
                              const char *actor, struct pfl_err *err)
{
    enum pfl_rc rc = take_lifetime(ca, &lifetime_s, err);
    for (size_t i = 0; rc == PFL_OK && i < keys->n; i++)
        if (keys->items[i].key)
            rc = renew_one(ca, &keys->items[i], lifetime_s, now, actor, err);
    return rc;
}

enum pfl_rc pfl_ca_make_crl(const struct pfl_ca *ca, int64_t lifetime_s, const char *actor, struct pfl_err *err)
{
    if (lifetime_s < 0 || lifetime_s > (int64_t)PFL_DAYS_MAX * PFL_DAY_S)
        return pfl_err_set(err, PFL_INVALID, "a revocation list for %lld s: at most %d days are allowed", (long long)lifetime_s,
                           PFL_DAYS_MAX);
    enum pfl_rc rc = pfl_register_begin(ca->reg, err);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_ca_refresh(ca, err);
    if (rc == PFL_OK)
        rc = pfl_ca_crls_renew(ca, ca->keys, lifetime_s, pfl_now_or(0), actor, err);
    if (rc == PFL_OK)
        rc = pfl_register_commit(ca->reg, err);
    pfl_register_rollback(ca->reg);
    return rc == PFL_OK ? pfl_ca_write_files(ca, err) : rc;
}

/* ---- revoking ---- */

struct chosen {
    const char *what;
    struct pfl_strs serials; /* valid and in time */
    struct pfl_strs expired; /* valid but for that; of a name */
    int64_t now;
    size_t n_found, n_roots;
    bool by_name, by_serial;
    char revoked[32]; /* when the last one of them was revoked */
};

static bool choose(void *user, const struct pfl_cert_row *row)
{
    struct chosen *c = user;
    bool named = pfl_streq(row->name, c->what);
    c->n_found++;
    c->by_name |= named;
    c->by_serial |= !named;
    if (pfl_streq(row->purpose, "root"))
        c->n_roots++;
    else if (pfl_streq(row->status, "valid"))
        pfl_strs_add(!named || row->not_after >= c->now ? &c->serials : &c->expired, row->serial_hex);
    if (row->revoked_at)
        pfl_time_text(row->revoked_at, c->revoked);
    return true;
}

static enum pfl_rc check_chosen(const struct chosen *c, struct pfl_err *err)
{
    if (c->n_found == 0)
        return pfl_err_set(err, PFL_NOT_FOUND,
                           "'%s': the register has no certificate of that name or serial (p2pfl ca list shows all)",
                           pfl_q(c->what));
    if (c->by_name && c->by_serial)
        return pfl_err_set(err, PFL_INVALID, "'%s' is the name of one and the serial of another: give the whole serial",
                           pfl_q(c->what));
    if (c->serials.n > 0)
        return PFL_OK;
    if (c->n_roots > 0)
        return pfl_err_set(err, PFL_UNSUPPORTED, "'%s' is a root: a root cannot revoke itself, it is replaced (p2pfl ca rollover)",
                           pfl_q(c->what));
    return pfl_err_set(err, PFL_STATE, "'%s': none of its %zu certificates is valid any more%s%s", pfl_q(c->what), c->n_found,
                       c->revoked[0] ? "; revoked on " : "", c->revoked);
}

static enum pfl_rc revoke_chosen(const struct pfl_ca *ca, const struct chosen *c, const char *reason, const char *actor,
                                 struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *detail = pfl_xasprintf("reason=%s asked as %s", reason, pfl_q(c->what));
    enum pfl_rc rc = PFL_OK;
    for (size_t i = 0; rc == PFL_OK && i < c->serials.n; i++) {
        rc = pfl_register_mark_revoked(ca->reg, c->serials.items[i], reason, c->now, err);
        if (rc == PFL_OK)
            rc = pfl_audit_append(ca->reg, actor, "revoke", c->serials.items[i], detail, err);
    }
    return rc == PFL_OK ? pfl_ca_crls_renew(ca, ca->keys, 0, c->now, actor, err) : rc;
}

static enum pfl_rc revoke_in(const struct pfl_ca *ca, struct chosen *c, const char *reason, const char *actor, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_ca_refresh(ca, err);
    if (rc == PFL_OK)
        rc = pfl_register_each(ca->reg, c->what, choose, c, err);
    if (c->serials.n == 0) { /* a service with a renewal window would take one of them */
        pfl_strs_deinit(&c->serials);
        c->serials = c->expired;
        c->expired = (struct pfl_strs){0};
    }
    if (rc == PFL_OK)
        rc = check_chosen(c, err);
    if (rc == PFL_OK)
        rc = revoke_chosen(ca, c, reason, actor, err);
    return rc == PFL_OK ? pfl_register_commit(ca->reg, err) : rc;
}

enum pfl_rc pfl_ca_revoke(const struct pfl_ca *ca, const char *name_or_serial, const char *reason, const char *actor, size_t *ret_n,
                          struct pfl_err *err)
{
    struct chosen c = {.what = name_or_serial, .now = pfl_now_or(0)};
    enum pfl_rc rc = check_reason(reason, err);
    if (rc == PFL_OK)
        rc = pfl_register_begin(ca->reg, err);
    if (rc != PFL_OK)
        return rc;
    rc = revoke_in(ca, &c, reason, actor, err);
    pfl_register_rollback(ca->reg);
    size_t n = c.serials.n;
    pfl_strs_deinit(&c.serials);
    pfl_strs_deinit(&c.expired);
    if (rc == PFL_OK)
        rc = pfl_ca_write_files(ca, err);
    if (rc == PFL_OK)
        *ret_n = n;
    return rc;
}
