/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate files and what stands in a certificate. Everything printed from a certificate goes through quoting here, because a
 * certificate is a peer's text until somebody has verified it. */
#include "pki/cert.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "base/fs.h"
#include "pki/digest.h"
#include "pki/identity.h"

enum { NAME_TEXT_MAX = 384 };

PFL_DEFINE_FREEP(bio, BIO, BIO_free_all)

void pfl_x509_free(X509 *cert)
{
    X509_free(cert);
}

void pfl_x509s_free(STACK_OF(X509) * certs)
{
    sk_X509_pop_free(certs, X509_free);
}

size_t pfl_x509s_n(const STACK_OF(X509) * certs)
{
    int n = sk_X509_num(certs);
    return n > 0 ? (size_t)n : 0;
}

X509 *pfl_x509s_at(const STACK_OF(X509) * certs, size_t i)
{
    PFL_ASSERT(i < pfl_x509s_n(certs));
    return sk_X509_value(certs, (int)i);
}

/* After a failed read: did the file end, or is it broken? */
static bool at_end_of_pem(void)
{
    unsigned long e = ERR_peek_last_error();
    return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
}

/* No certificate of ours is encrypted; without this OpenSSL would ask on the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *user)
{
    (void)buf, (void)size, (void)rwflag, (void)user;
    return -1;
}

enum pfl_rc pfl_certs_parse(struct pfl_bytes pem, STACK_OF(X509) * *ret, struct pfl_err *err)
{
    if (pem.len > PFL_CERT_FILE_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "%zu bytes, the limit for certificates is %d", pem.len, PFL_CERT_FILE_MAX);
    PFL_AUTO(pfl_bio_freep) BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    PFL_AUTO(pfl_x509s_freep) STACK_OF(X509) *certs = sk_X509_new_null();
    PFL_ASSERT(bio && certs);
    ERR_clear_error();
    for (;;) {
        X509 *cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
        if (!cert)
            break;
        PFL_ASSERT(sk_X509_push(certs, cert) > 0);
        if (sk_X509_num(certs) > PFL_CERTS_MAX)
            return pfl_err_set(err, PFL_TOO_BIG, "more than %d certificates", PFL_CERTS_MAX);
    }
    bool ended = at_end_of_pem();
    ERR_clear_error();
    int n = sk_X509_num(certs);
    if (!ended)
        return pfl_err_set(err, PFL_MALFORMED, "certificate %d cannot be read: it is damaged", n + 1);
    if (n == 0)
        return pfl_err_set(err, PFL_MALFORMED, "no certificate in PEM (\"-----BEGIN CERTIFICATE-----\") in it");
    *ret = pfl_steal(&certs);
    return PFL_OK;
}

enum pfl_rc pfl_certs_load(const char *path, STACK_OF(X509) * *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *pem = NULL;
    enum pfl_rc rc = pfl_fs_read(path, PFL_CERT_FILE_MAX, &pem, err);
    if (rc != PFL_OK)
        return rc;
    if (pfl_certs_parse(pfl_bytes_of(pem->data, pem->len), ret, err) != PFL_OK)
        return pfl_err_wrap(err, "%s", path);
    return PFL_OK;
}

enum pfl_rc pfl_cert_of_der(struct pfl_bytes der, X509 **ret, struct pfl_err *err)
{
    if (der.len > PFL_DER_CERT_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "a certificate of %zu bytes, the limit is %d", der.len, PFL_DER_CERT_MAX);
    const unsigned char *at = der.data;
    PFL_AUTO(pfl_x509_freep) X509 *cert = der.len > 0 ? d2i_X509(NULL, &at, (long)der.len) : NULL;
    ERR_clear_error();
    if (!cert || at != der.data + der.len)
        return pfl_err_set(err, PFL_MALFORMED, "%zu bytes that are not one certificate", der.len);
    *ret = pfl_steal(&cert);
    return PFL_OK;
}

void pfl_cert_der(const X509 *cert, struct pfl_buf *out)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    PFL_ASSERT(len > 0);
    pfl_buf_append(out, der, (size_t)len);
    OPENSSL_free(der);
}

bool pfl_cert_spki_hash(const X509 *cert, uint8_t out[PFL_SHA256_LEN])
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    ERR_clear_error();
    if (len <= 0)
        return false;
    pfl_sha256(pfl_bytes_of(der, (size_t)len), out);
    OPENSSL_free(der);
    return true;
}

char *pfl_cert_pem(const X509 *cert)
{
    PFL_AUTO(pfl_bio_freep) BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    int ok = bio && PEM_write_bio_X509(bio, cert);
    PFL_ASSERT(ok);
    long len = BIO_get_mem_data(bio, &data);
    return pfl_xstrndup(data, (size_t)len);
}

char *pfl_x509_name_text(const X509_NAME *name)
{
    char quoted[NAME_TEXT_MAX];
    PFL_AUTO(pfl_bio_freep) BIO *bio = BIO_new(BIO_s_mem());
    PFL_ASSERT(bio != NULL);
    char *data = NULL;
    /* UTF-8 stays as it is (no ESC_MSB), what is not text is escaped by RFC 2253 and then by our quoting */
    X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);
    long len = BIO_get_mem_data(bio, &data);
    return pfl_xstrdup(pfl_quote(data, len > 0 ? (size_t)len : 0, quoted, sizeof quoted));
}

char *pfl_cert_subject(const X509 *cert)
{
    return pfl_x509_name_text(X509_get_subject_name(cert));
}

char *pfl_cert_issuer(const X509 *cert)
{
    return pfl_x509_name_text(X509_get_issuer_name(cert));
}

void pfl_time_text(int64_t unix_s, char out[32])
{
    struct tm tm;
    time_t t = (time_t)unix_s;
    if (!gmtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        memcpy(out, "an unreadable time", sizeof "an unreadable time");
}

static int64_t unix_time(const ASN1_TIME *t, int64_t otherwise)
{
    struct tm tm;
    if (!t || ASN1_TIME_check(t) != 1 || ASN1_TIME_to_tm(t, &tm) != 1)
        return otherwise;
    return (int64_t)timegm(&tm);
}

int64_t pfl_cert_not_before(const X509 *cert)
{
    return unix_time(X509_get0_notBefore(cert), INT64_MAX);
}

int64_t pfl_cert_not_after(const X509 *cert)
{
    return unix_time(X509_get0_notAfter(cert), INT64_MIN);
}

char *pfl_cert_key_text(const X509 *cert)
{
    char curve[80];
    EVP_PKEY *key = X509_get0_pubkey(cert);
    if (!key) {
        ERR_clear_error();
        return pfl_xstrdup("a key that cannot be read");
    }
    int bits = EVP_PKEY_get_bits(key);
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
        return pfl_xasprintf("RSA %d bits", bits);
    case EVP_PKEY_RSA_PSS:
        return pfl_xasprintf("RSA-PSS %d bits", bits);
    case EVP_PKEY_ED25519:
        return pfl_xstrdup("Ed25519");
    case EVP_PKEY_ED448:
        return pfl_xstrdup("Ed448");
    case EVP_PKEY_EC:
        if (EVP_PKEY_get_group_name(key, curve, sizeof curve, NULL) != 1)
            return pfl_xasprintf("ECDSA %d bits on a curve without a name", bits);
        if (pfl_streq(curve, SN_X9_62_prime256v1))
            return pfl_xstrdup("ECDSA P-256");
        if (pfl_streq(curve, SN_secp384r1))
            return pfl_xstrdup("ECDSA P-384");
        return pfl_xasprintf("ECDSA %s", curve);
    default:
        return pfl_xasprintf("%s %d bits", OBJ_nid2sn(EVP_PKEY_get_base_id(key)), bits);
    }
}

static void take_usages(struct pfl_cert_info *info, X509 *cert)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } NAMES[] = {
        {KU_DIGITAL_SIGNATURE, "digitalSignature"},
        {KU_NON_REPUDIATION, "nonRepudiation"},
        {KU_KEY_ENCIPHERMENT, "keyEncipherment"},
        {KU_DATA_ENCIPHERMENT, "dataEncipherment"},
        {KU_KEY_AGREEMENT, "keyAgreement"},
        {KU_KEY_CERT_SIGN, "keyCertSign"},
        {KU_CRL_SIGN, "cRLSign"},
        {KU_ENCIPHER_ONLY, "encipherOnly"},
        {KU_DECIPHER_ONLY, "decipherOnly"},
    };
    uint32_t usage = X509_get_key_usage(cert);
    if (!(X509_get_extension_flags(cert) & EXFLAG_KUSAGE))
        return;
    for (size_t i = 0; i < PFL_ARRAY_LEN(NAMES); i++)
        if (usage & NAMES[i].bit)
            pfl_strs_add(&info->usages, NAMES[i].name);
}

static void take_purposes(struct pfl_cert_info *info, const X509 *cert)
{
    char oid[80];
    EXTENDED_KEY_USAGE *eku = X509_get_ext_d2i(cert, NID_ext_key_usage, NULL, NULL);
    for (int i = 0; i < sk_ASN1_OBJECT_num(eku); i++) {
        const ASN1_OBJECT *obj = sk_ASN1_OBJECT_value(eku, i);
        int nid = OBJ_obj2nid(obj);
        if (nid == NID_undef)
            OBJ_obj2txt(oid, sizeof oid, obj, 1);
        pfl_strs_add(&info->purposes, nid == NID_undef ? oid : OBJ_nid2sn(nid));
    }
    EXTENDED_KEY_USAGE_free(eku);
}

static char *hex_of(const ASN1_OCTET_STRING *s)
{
    if (!s || ASN1_STRING_length(s) > 64)
        return NULL;
    size_t len = (size_t)ASN1_STRING_length(s);
    char *hex = pfl_xmalloc(2 * len + 1);
    pfl_hex(pfl_bytes_of(ASN1_STRING_get0_data(s), len), hex);
    return hex;
}

void pfl_cert_info_of(X509 *cert, struct pfl_cert_info *ret)
{
    *ret = (struct pfl_cert_info){.path_len = -1};
    ret->key = pfl_cert_key_text(cert);
    const char *signature = OBJ_nid2ln(X509_get_signature_nid(cert));
    ret->signature = pfl_xstrdup(signature ? signature : "unknown");
    ret->is_ca = (X509_get_extension_flags(cert) & EXFLAG_CA) != 0;
    ret->self_signed = X509_self_signed(cert, 1) == 1;
    if (ret->is_ca)
        ret->path_len = (int)X509_get_pathlen(cert);
    take_usages(ret, cert);
    take_purposes(ret, cert);
    ret->ski = hex_of(X509_get0_subject_key_id(cert));
    ret->aki = hex_of(X509_get0_authority_key_id(cert));
    ERR_clear_error();
}

void pfl_cert_info_deinit(struct pfl_cert_info *info)
{
    free(info->key);
    free(info->signature);
    free(info->ski);
    free(info->aki);
    pfl_strs_deinit(&info->usages);
    pfl_strs_deinit(&info->purposes);
    *info = (struct pfl_cert_info){0};
}
