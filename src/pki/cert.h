/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates in PEM files: reading with limits, writing, and saying in words what is in one. */
#ifndef PFL_PKI_CERT_H
#define PFL_PKI_CERT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "pki/limits.h"

struct x509_st;       /* OpenSSL's X509 */
struct stack_st_X509; /* OpenSSL's STACK_OF(X509) */
struct X509_name_st;  /* OpenSSL's X509_NAME */

void pfl_x509_free(struct x509_st *cert);         /* accepts NULL */
void pfl_x509s_free(struct stack_st_X509 *certs); /* accepts NULL; frees the certificates too */
PFL_DEFINE_FREEP(x509, struct x509_st, pfl_x509_free)
PFL_DEFINE_FREEP(x509s, struct stack_st_X509, pfl_x509s_free)

/** For layers that may not look into OpenSSL's types. */
size_t pfl_x509s_n(const struct stack_st_X509 *certs);                     /* 0 for NULL */
struct x509_st *pfl_x509s_at(const struct stack_st_X509 *certs, size_t i); /* borrowed; i < n */

/** Every certificate of a PEM file in its order, at least one: a leaf and its intermediates, or a set of roots. *ret is owned.
 *  NOT_FOUND, IO, TOO_BIG (file or number), MALFORMED (no certificate, or one that cannot be read). A private key in the file is
 *  no error here and is not looked at. Messages start with the path. */
enum pfl_rc pfl_certs_load(const char *path, struct stack_st_X509 **ret, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_certs_parse(struct pfl_bytes pem, struct stack_st_X509 **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** One certificate from DER, nothing behind it; to DER, appended. *ret is owned. MALFORMED, TOO_BIG. */
enum pfl_rc pfl_cert_of_der(struct pfl_bytes der, struct x509_st **ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_cert_der(const struct x509_st *cert, struct pfl_buf *out);
/** One certificate as PEM text, owned by the caller. */
char *pfl_cert_pem(const struct x509_st *cert);

/** One certificate in words. Zero-initialised. */
struct pfl_cert_info {
    char *key;       /* "ECDSA P-256", "RSA 3072 bits", "Ed25519" */
    char *signature; /* "ecdsa-with-SHA256" */
    bool is_ca;
    bool self_signed;         /* its own key signed it, which was checked */
    int path_len;             /* of a CA; -1: no limit */
    struct pfl_strs usages;   /* "digitalSignature", "keyCertSign", ... ; empty: the extension is absent */
    struct pfl_strs purposes; /* "serverAuth", "clientAuth", ... ; empty: absent, fit for any */
    char *ski, *aki;          /* hex; NULL: absent */
};
void pfl_cert_info_of(struct x509_st *cert, struct pfl_cert_info *ret); /* ret is overwritten */
void pfl_cert_info_deinit(struct pfl_cert_info *info);

/** "RSA 2048 bits" and the like. Owned by the caller. */
char *pfl_cert_key_text(const struct x509_st *cert);
/** SHA-256 of the SubjectPublicKeyInfo: what --ca-hash pins and what stands for a key in the register. False where it cannot be
 *  read. */
bool pfl_cert_spki_hash(const struct x509_st *cert, uint8_t out[32]);
/** One-line RFC 2253 text of a name, made safe to print. Owned by the caller. */
char *pfl_x509_name_text(const struct X509_name_st *name);
char *pfl_cert_subject(const struct x509_st *cert);
char *pfl_cert_issuer(const struct x509_st *cert);
/** "2026-11-23 04:05:06 UTC" of Unix seconds. out needs 32 bytes. */
void pfl_time_text(int64_t unix_s, char out[32]);
/** Validity in Unix seconds; a time that cannot be read is INT64_MIN (not_after) or INT64_MAX (not_before): never valid. */
int64_t pfl_cert_not_before(const struct x509_st *cert);
int64_t pfl_cert_not_after(const struct x509_st *cert);

#endif
