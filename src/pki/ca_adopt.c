/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates from before the register, and the proof of its audit log. */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#include "pki/ca_admin.h"
#include "pki/ca_private.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "pki/sql.h"

static const struct pfl_issuer *signer_of(const struct pfl_ca *ca, X509 *cert)
{
    for (size_t i = 0; i < ca->keys->n; i++) {
        int ok = X509_verify(cert, X509_get0_pubkey(ca->keys->items[i].cert));
        ERR_clear_error();
        if (ok == 1)
            return &ca->keys->items[i];
    }
    return NULL;
}

static enum pfl_rc adopt(const struct pfl_ca *ca, X509 *cert, const char *serial, const char *actor, struct pfl_err *err)
{
    int64_t known = 0;
    PFL_AUTO(pfl_cert_info_deinit) struct pfl_cert_info info = {0};
    enum pfl_rc rc = pfl_ca_refresh(ca, err);
    if (rc == PFL_OK)
        rc = pfl_sql_get_int(ca->reg, err, 0, &known, "SELECT count(*) FROM certificates WHERE serial = ?", "t", serial);
    if (rc != PFL_OK || known > 0)
        return rc;
    const struct pfl_issuer *issuer = signer_of(ca, cert);
    if (!issuer)
        return pfl_err_set(err, PFL_AUTH, "certificate %s was not signed by this CA", serial);
    pfl_cert_info_of(cert, &info);
    PFL_AUTO(pfl_freep) char *purpose = info.is_ca ? pfl_xstrdup("ca") : pfl_strs_join(&info.purposes, ",");
    rc = pfl_ca_enter(ca->reg, cert, info.is_ca ? "ca" : "", purpose, issuer->fingerprint, actor, "adopt", err);
    return rc == PFL_OK ? pfl_register_commit(ca->reg, err) : rc;
}

enum pfl_rc pfl_ca_adopt(const struct pfl_ca *ca, X509 *cert, const char *actor, char serial_hex[PFL_SERIAL_HEX_MAX + 1],
                         struct pfl_err *err)
{
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    enum pfl_rc rc = pfl_identity_of_x509(cert, &id, err);
    if (rc == PFL_OK && strlen(id->serial_hex) > PFL_SERIAL_HEX_MAX)
        rc = pfl_err_set(err, PFL_TOO_BIG, "serial %s is longer than 20 bytes", pfl_q(id->serial_hex));
    if (rc == PFL_OK)
        rc = pfl_register_begin(ca->reg, err);
    if (rc != PFL_OK)
        return rc;
    rc = adopt(ca, cert, id->serial_hex, actor, err);
    pfl_register_rollback(ca->reg);
    if (rc == PFL_OK)
        memcpy(serial_hex, id->serial_hex, strlen(id->serial_hex) + 1);
    return rc;
}

/* The issuer's certificate from the register, whatever its state: an old seal may be a retired root's. */
static EVP_PKEY *issuer_key(struct pfl_register *reg, const char *fingerprint)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool row = false;
    char hex[65];
    if (pfl_sql_query(reg, NULL, &stmt, "SELECT cert FROM issuers WHERE fingerprint = ?", "t", fingerprint) != PFL_OK ||
        pfl_sql_next(reg, stmt, &row, NULL) != PFL_OK || !row)
        return NULL;
    struct pfl_bytes der = pfl_sql_blob(stmt, 0);
    const unsigned char *at = der.data;
    PFL_AUTO(pfl_x509_freep) X509 *cert = der.len ? d2i_X509(NULL, &at, (long)der.len) : NULL;
    EVP_PKEY *key = cert ? X509_get_pubkey(cert) : NULL;
    if (!key)
        return NULL;
    pfl_spki_fingerprint(key, hex);
    if (pfl_streq(hex, fingerprint))
        return key;
    EVP_PKEY_free(key);
    return NULL;
}

static bool check_seal(void *user, struct pfl_bytes in, struct pfl_bytes signature, const char *fingerprint)
{
    EVP_PKEY *key = issuer_key(user, fingerprint);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    PFL_ASSERT(ctx != NULL);
    bool ed25519 = key && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519;
    bool ok = key && EVP_DigestVerifyInit(ctx, NULL, ed25519 ? NULL : EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestVerify(ctx, signature.data, signature.len, in.data, in.len) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return ok;
}

enum pfl_rc pfl_ca_audit_verify(struct pfl_register *reg, const char *expect, struct pfl_audit_report *ret, struct pfl_err *err)
{
    return pfl_audit_verify(reg, expect, check_seal, reg, ret, err);
}
