/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates are put together from checked values, not from configuration text: no name that a person typed is ever parsed by
 * OpenSSL's extension language. */
#include "pki/build.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/mem.h"
#include "pki/cert.h"
#include "pki/digest.h"

enum { SERIAL_LEN = 16 }; /* 128 random bits; DER puts a zero byte before a leading one bit */

PFL_DEFINE_FREEP(general_names, GENERAL_NAMES, GENERAL_NAMES_free)
PFL_DEFINE_FREEP(extension, X509_EXTENSION, X509_EXTENSION_free)

static bool set_serial(X509 *cert, const char *hex)
{
    uint8_t bytes[SERIAL_LEN];
    pfl_random_bytes(bytes, sizeof bytes);
    if (hex && !pfl_unhex(hex, bytes, sizeof bytes))
        return false;
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    return ok;
}

static bool set_names(X509 *cert, const char *common_name, const X509 *issuer)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    if (X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) != 1)
        return false;
    return X509_set_issuer_name(cert, issuer ? X509_get_subject_name(issuer) : subject) == 1;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer ? issuer : cert, cert, NULL, NULL, 0);
    PFL_AUTO(pfl_extension_freep) X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    return ext && X509_add_ext(cert, ext, -1) == 1;
}

static GENERAL_NAME *ip_name(const char *text)
{
    unsigned char ip[16];
    int len = inet_pton(AF_INET, text, ip) == 1 ? 4 : inet_pton(AF_INET6, text, ip) == 1 ? 16 : 0;
    ASN1_OCTET_STRING *value = len ? ASN1_OCTET_STRING_new() : NULL;
    if (!value || ASN1_OCTET_STRING_set(value, ip, len) != 1) {
        ASN1_OCTET_STRING_free(value);
        return NULL;
    }
    GENERAL_NAME *name = GENERAL_NAME_new();
    PFL_ASSERT(name != NULL);
    GENERAL_NAME_set0_value(name, GEN_IPADD, value);
    return name;
}

static GENERAL_NAME *text_name(int type, const char *text)
{
    ASN1_IA5STRING *value = ASN1_IA5STRING_new();
    GENERAL_NAME *name = GENERAL_NAME_new();
    PFL_ASSERT(value && name && ASN1_STRING_set(value, text, -1) == 1);
    GENERAL_NAME_set0_value(name, type, value);
    return name;
}

GENERAL_NAMES *pfl_general_names(const struct pfl_strs *sans)
{
    PFL_AUTO(pfl_general_names_freep) GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    PFL_ASSERT(names != NULL);
    for (size_t i = 0; i < sans->n; i++) {
        const char *san = sans->items[i];
        GENERAL_NAME *name = NULL;
        if (pfl_str_has_prefix(san, "IP:"))
            name = ip_name(san + 3);
        else if (pfl_str_has_prefix(san, "DNS:"))
            name = text_name(GEN_DNS, san + 4);
        else if (pfl_str_has_prefix(san, "URI:"))
            name = text_name(GEN_URI, san + 4);
        if (!name)
            return NULL;
        PFL_ASSERT(sk_GENERAL_NAME_push(names, name) > 0);
    }
    return pfl_steal(&names);
}

static bool add_sans(X509 *cert, const struct pfl_strs *sans)
{
    PFL_AUTO(pfl_general_names_freep) GENERAL_NAMES *names = pfl_general_names(sans);
    if (!names)
        return false;
    return sans->n == 0 || X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
}

static bool add_extensions(X509 *cert, X509 *issuer, const struct pfl_cert_spec *spec)
{
    PFL_AUTO(pfl_freep)
    char *ca = spec->path_len < 0 ? pfl_xstrdup("critical,CA:TRUE") : pfl_xasprintf("critical,CA:TRUE,pathlen:%d", spec->path_len);
    bool ok = add_extension(cert, issuer, NID_basic_constraints, spec->is_ca ? ca : "critical,CA:FALSE");
    ok = ok &&
         add_extension(cert, issuer, NID_key_usage, spec->is_ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
    ok = ok && (!spec->purpose || add_extension(cert, issuer, NID_ext_key_usage, spec->purpose));
    ok = ok && add_extension(cert, issuer, NID_subject_key_identifier, "hash");
    /* by key; by issuer and serial where a foreign root has no key identifier */
    bool by_key = !issuer || X509_get0_subject_key_id(issuer);
    ok = ok && add_extension(cert, issuer, NID_authority_key_identifier, by_key ? "keyid:always" : "issuer:always");
    return ok && add_sans(cert, &spec->sans);
}

static bool fill(X509 *cert, const struct pfl_cert_spec *spec, EVP_PKEY *key, X509 *issuer)
{
    bool ok =
        X509_set_version(cert, X509_VERSION_3) && set_serial(cert, spec->serial_hex) && set_names(cert, spec->common_name, issuer);
    ok = ok && ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)spec->not_before);
    ok = ok && ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)spec->not_after);
    return ok && X509_set_pubkey(cert, key) == 1 && add_extensions(cert, issuer, spec);
}

enum pfl_rc pfl_cert_build(const struct pfl_cert_spec *spec, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, X509 **ret,
                           struct pfl_err *err)
{
    PFL_ASSERT(spec->is_ca || issuer);
    PFL_AUTO(pfl_x509_freep) X509 *cert = X509_new();
    PFL_ASSERT(cert != NULL);
    bool ed25519 = EVP_PKEY_get_base_id(issuer_key) == EVP_PKEY_ED25519;
    bool ok = fill(cert, spec, key, issuer) && X509_sign(cert, issuer_key, ed25519 ? NULL : EVP_sha256()) > 0;
    ERR_clear_error();
    if (!ok)
        return pfl_err_set(err, PFL_IO, "OpenSSL could not make the certificate of '%s'", pfl_q(spec->common_name));
    *ret = pfl_steal(&cert);
    return PFL_OK;
}
