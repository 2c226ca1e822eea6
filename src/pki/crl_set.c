/* SPDX-License-Identifier: Apache-2.0 */
/* The newest CRL of each issuer, and what they say of a certificate. A set never changes: a newer CRL makes a new set, so that
 * whoever holds one (a TLS handshake under way) sees one state. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "pki/cert.h"
#include "pki/crl_impl.h"

PFL_DEFINE_FREEP(bio, BIO, BIO_free_all)

struct pfl_crl_set *pfl_crl_set_new(void)
{
    struct pfl_crl_set *s = pfl_xcalloc(1, sizeof *s);
    atomic_init(&s->refs, 1);
    return s;
}

struct pfl_crl_set *pfl_crl_set_ref(struct pfl_crl_set *s)
{
    if (s)
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void pfl_crl_set_unref(struct pfl_crl_set *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < s->n; i++)
        pfl_crl_unref(s->items[i]);
    free(s);
}

size_t pfl_crl_set_n(const struct pfl_crl_set *s)
{
    return s ? s->n : 0;
}

struct pfl_crl *pfl_crl_set_at(const struct pfl_crl_set *s, size_t i)
{
    PFL_ASSERT(i < pfl_crl_set_n(s));
    return s->items[i];
}

bool pfl_crl_set_has(const struct pfl_crl_set *s, struct pfl_bytes der)
{
    for (size_t i = 0; i < pfl_crl_set_n(s); i++)
        if (pfl_bytes_eq(pfl_crl_der(s->items[i]), der))
            return true;
    return false;
}

int64_t pfl_crl_set_next_update(const struct pfl_crl_set *s)
{
    int64_t earliest = INT64_MAX;
    for (size_t i = 0; i < pfl_crl_set_n(s); i++)
        if (s->items[i]->next_update < earliest)
            earliest = s->items[i]->next_update;
    return earliest;
}

/* ---- newer and older ---- */

static int compare_numbers(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b); /* no leading zeros: the longer one is the larger */
    return a_len != b_len ? (a_len > b_len ? 1 : -1) : strcmp(a, b);
}

/* By number; CRLs of one number (or of none) by thisUpdate. */
static int compare_age(const struct pfl_crl *a, const struct pfl_crl *b)
{
    int by_number = compare_numbers(a->number_hex, b->number_hex);
    if (by_number != 0)
        return by_number;
    return a->this_update > b->this_update ? 1 : a->this_update < b->this_update ? -1 : 0;
}

static enum pfl_rc check_newer(const struct pfl_crl *c, const struct pfl_crl *in_use, struct pfl_err *err)
{
    if (pfl_bytes_eq(pfl_crl_der(c), pfl_crl_der(in_use)))
        return pfl_err_set(err, PFL_EXISTS, "CRL number %s of '%.120s' is in use already", c->number_text, c->issuer);
    int age = compare_age(c, in_use);
    if (age > 0)
        return PFL_OK;
    if (age < 0)
        return pfl_err_set(err, PFL_STATE,
                           "older than the one in use: number %s of '%.120s', in use is %s: an old CRL was put back",
                           c->number_text, c->issuer, in_use->number_text);
    return pfl_err_set(err, PFL_STATE, "another CRL of the same number (%s) and time as the one in use of '%.120s'", c->number_text,
                       c->issuer);
}

enum pfl_rc pfl_crl_set_with(const struct pfl_crl_set *s, struct pfl_crl *c, struct pfl_crl_set **ret, struct pfl_err *err)
{
    PFL_ASSERT(c->verified);
    size_t n = pfl_crl_set_n(s), at = 0;
    while (at < n && memcmp(s->items[at]->signer, c->signer, PFL_CRL_KEY_LEN) != 0)
        at++;
    if (at < n && check_newer(c, s->items[at], err) != PFL_OK)
        return err ? err->rc : PFL_STATE;
    if (at == PFL_CRL_SET_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "CRLs of more than %d issuers", PFL_CRL_SET_MAX);
    struct pfl_crl_set *with = pfl_crl_set_new();
    with->n = at < n ? n : n + 1;
    for (size_t i = 0; i < with->n; i++)
        with->items[i] = pfl_crl_ref(i == at ? c : s->items[i]);
    *ret = with;
    return PFL_OK;
}

struct pfl_crl_set *pfl_crl_set_merge(struct pfl_crl_set *s, const struct pfl_crl_set *more, unsigned *ret_n_new,
                                      struct pfl_err *ret_older)
{
    struct pfl_crl_set *merged = s ? pfl_crl_set_ref(s) : pfl_crl_set_new();
    unsigned n_new = 0;
    for (size_t i = 0; i < pfl_crl_set_n(more); i++) {
        struct pfl_err why = {0};
        struct pfl_crl_set *with = NULL;
        enum pfl_rc rc = pfl_crl_set_with(merged, pfl_crl_set_at(more, i), &with, &why);
        if (rc == PFL_OK) {
            pfl_crl_set_unref(merged);
            merged = with;
            n_new++;
        } else if (rc != PFL_EXISTS && ret_older)
            *ret_older = why;
    }
    if (ret_n_new)
        *ret_n_new = n_new;
    return merged;
}

/* ---- files ---- */

struct loading {
    const struct pfl_trust *trust;
    STACK_OF(X509) * untrusted;
    int64_t now;
    struct pfl_crl_set *set; /* owned */
    size_t n, n_foreign;
    struct pfl_err foreign; /* why the last one of an unknown issuer was left out */
};

static enum pfl_rc load_one(struct loading *l, struct pfl_bytes der, struct pfl_err *err)
{
    PFL_AUTO(pfl_crl_freep) struct pfl_crl *c = NULL;
    struct pfl_crl_set *with = NULL;
    l->n++;
    enum pfl_rc rc = pfl_crl_parse(der, &c, err);
    if (rc == PFL_OK)
        rc = pfl_crl_verify(c, l->trust, l->untrusted, l->now, err);
    if (rc == PFL_NOT_FOUND) {
        l->n_foreign++;
        l->foreign = *err;
        return PFL_OK;
    }
    if (rc == PFL_OK)
        rc = pfl_crl_set_with(l->set, c, &with, err);
    if (rc == PFL_EXISTS || rc == PFL_STATE) /* twice in one file: the newest counts */
        return PFL_OK;
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "CRL %zu", l->n);
    pfl_crl_set_unref(l->set);
    l->set = with;
    return PFL_OK;
}

static enum pfl_rc load_pem(struct loading *l, struct pfl_bytes in, struct pfl_err *err)
{
    PFL_AUTO(pfl_bio_freep) BIO *bio = BIO_new_mem_buf(in.data, (int)in.len);
    PFL_ASSERT(bio != NULL);
    for (;;) {
        char *name = NULL, *header = NULL;
        unsigned char *der = NULL;
        long len = 0;
        ERR_clear_error();
        if (PEM_read_bio(bio, &name, &header, &der, &len) != 1)
            break;
        enum pfl_rc rc = PFL_OK;
        if (pfl_streq(name, PEM_STRING_X509_CRL))
            rc = load_one(l, pfl_bytes_of(der, (size_t)len), err);
        OPENSSL_free(name);
        OPENSSL_free(header);
        OPENSSL_free(der);
        if (rc != PFL_OK)
            return rc;
        if (l->n > PFL_CRL_SET_MAX * 2)
            return pfl_err_set(err, PFL_TOO_BIG, "more than %d CRLs", PFL_CRL_SET_MAX * 2);
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return pfl_err_set(err, PFL_MALFORMED, "CRL %zu cannot be read: it is damaged", l->n + 1);
    return l->n > 0 ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "no CRL (\"-----BEGIN X509 CRL-----\") in it");
}

enum pfl_rc pfl_crl_set_parse(struct pfl_bytes in, const struct pfl_trust *trust, STACK_OF(X509) * untrusted, int64_t now,
                              struct pfl_crl_set **ret, struct pfl_err *err)
{
    struct pfl_err local = {0}, *e = err ? err : &local;
    struct loading l = {.trust = trust, .untrusted = untrusted, .now = now, .set = pfl_crl_set_new()};
    bool der = in.len > 0 && in.data[0] == (V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED);
    enum pfl_rc rc = in.len > PFL_CRL_FILE_MAX
                         ? pfl_err_set(e, PFL_TOO_BIG, "%zu bytes of CRLs, the limit is %d", in.len, PFL_CRL_FILE_MAX)
                     : der ? load_one(&l, in, e)
                           : load_pem(&l, in, e);
    ERR_clear_error();
    if (rc == PFL_OK && l.n_foreign == l.n)
        rc = pfl_err_set(e, PFL_AUTH, "no CRL of a CA that is trusted here: %s", l.foreign.msg);
    if (rc != PFL_OK) {
        pfl_crl_set_unref(l.set);
        return rc;
    }
    if (l.n_foreign > 0)
        pfl_warn("%zu of %zu CRLs are left out: %s", l.n_foreign, l.n, l.foreign.msg);
    *ret = l.set;
    return PFL_OK;
}

enum pfl_rc pfl_crl_set_load(const char *path, const struct pfl_trust *trust, STACK_OF(X509) * untrusted, int64_t now,
                             struct pfl_crl_set **ret, struct pfl_err *err)
{
    struct pfl_err local = {0}, *e = err ? err : &local;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *file = NULL;
    enum pfl_rc rc = pfl_fs_read(path, PFL_CRL_FILE_MAX, &file, e);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_crl_set_parse(pfl_bytes_of(file->data, file->len), trust, untrusted, now, ret, e);
    return rc == PFL_OK ? rc : pfl_err_wrap(e, "%s", path);
}

enum pfl_rc pfl_crl_set_save(const struct pfl_crl_set *s, const char *path, struct pfl_err *err)
{
    PFL_AUTO(pfl_bio_freep) BIO *bio = BIO_new(BIO_s_mem());
    PFL_ASSERT(bio != NULL);
    for (size_t i = 0; i < pfl_crl_set_n(s); i++)
        if (PEM_write_bio_X509_CRL(bio, s->items[i]->crl) != 1)
            return pfl_err_set(err, PFL_IO, "%s: a CRL cannot be written as PEM", path);
    char *pem = NULL;
    long len = BIO_get_mem_data(bio, &pem);
    return pfl_fs_write_atomic(path, pfl_bytes_of(pem, len > 0 ? (size_t)len : 0), 0644, err);
}

/* ---- what they say of a certificate ---- */

static const char *reason_name(X509_REVOKED *entry)
{
    static const char *const NAMES[] = {"unspecified",   "keyCompromise",        "cACompromise",    "affiliationChanged",
                                        "superseded",    "cessationOfOperation", "certificateHold", "reason 7",
                                        "removeFromCRL", "privilegeWithdrawn",   "aACompromise"};
    ASN1_ENUMERATED *code = X509_REVOKED_get_ext_d2i(entry, NID_crl_reason, NULL, NULL);
    long value = code ? ASN1_ENUMERATED_get(code) : 0;
    ASN1_ENUMERATED_free(code);
    ERR_clear_error();
    return value >= 0 && value < (long)PFL_ARRAY_LEN(NAMES) ? NAMES[value] : "an unknown reason";
}

static enum pfl_rc say_revoked(const struct pfl_crl *c, X509_REVOKED *entry, struct pfl_err *err)
{
    struct tm tm;
    char when[32] = "an unreadable date";
    if (ASN1_TIME_to_tm(X509_REVOKED_get0_revocationDate(entry), &tm) == 1)
        pfl_time_text((int64_t)timegm(&tm), when);
    ERR_clear_error();
    return pfl_err_set(err, PFL_AUTH, "revoked on %s (%s) by CRL number %s of '%.120s'", when, reason_name(entry), c->number_text,
                       c->issuer);
}

static const struct pfl_crl *crl_of(const struct pfl_crl_set *s, const X509 *issuer)
{
    uint8_t key[PFL_CRL_KEY_LEN];
    if (pfl_crl_set_n(s) == 0 || !pfl_crl_key_digest(issuer, key))
        return NULL;
    for (size_t i = 0; i < s->n; i++)
        if (memcmp(s->items[i]->signer, key, sizeof key) == 0)
            return s->items[i];
    return NULL;
}

static enum pfl_rc missing(const X509 *issuer, enum pfl_crl_policy policy, struct pfl_err *err)
{
    if (policy != PFL_CRL_REQUIRE)
        return PFL_OK;
    PFL_AUTO(pfl_freep) char *subject = pfl_cert_subject(issuer);
    return pfl_err_set(err, PFL_AUTH, "no CRL of its issuer '%.120s' is here, and crl_policy is require: fetch one from the CA",
                       subject);
}

static enum pfl_rc stale(const struct pfl_crl *c, enum pfl_crl_policy policy, int64_t now, struct pfl_err *err)
{
    char lapsed[32], clock[32];
    if (policy != PFL_CRL_REQUIRE)
        return PFL_OK;
    pfl_time_text(c->next_update, lapsed);
    pfl_time_text(now, clock);
    return pfl_err_set(err, PFL_AUTH,
                       "CRL number %s of its issuer '%.120s' lapsed on %s (now %s), and crl_policy is require: fetch a newer one "
                       "from the CA",
                       c->number_text, c->issuer, lapsed, clock);
}

enum pfl_rc pfl_crl_set_check(const struct pfl_crl_set *s, const X509 *cert, const X509 *issuer, enum pfl_crl_policy policy,
                              int64_t now, enum pfl_crl_found *ret_found, struct pfl_err *err)
{
    enum pfl_crl_found unused, *found = ret_found ? ret_found : &unused;
    X509_REVOKED *entry = NULL;
    *found = PFL_CRL_GOOD;
    if (policy == PFL_CRL_OFF)
        return PFL_OK;
    const struct pfl_crl *c = crl_of(s, issuer);
    if (!c) {
        *found = PFL_CRL_MISSING;
        return missing(issuer, policy, err);
    }
    if (X509_CRL_get0_by_serial(c->crl, &entry, X509_get0_serialNumber(cert)) != 0) {
        *found = PFL_CRL_REVOKED;
        return say_revoked(c, entry, err);
    }
    if (now <= c->next_update)
        return PFL_OK;
    *found = PFL_CRL_STALE;
    return stale(c, policy, now, err);
}
