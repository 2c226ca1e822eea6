/* SPDX-License-Identifier: Apache-2.0 */
#include "support/crls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(x) ((x) ? (void)0 : must_failed(#x, __LINE__))

static _Noreturn void must_failed(const char *what, int line)
{
    fprintf(stderr, "tests/support/crls.c:%d: %s\n", line, what);
    ERR_print_errors_fp(stderr);
    abort();
}

static X509_EXTENSION *extension_of(const char *text)
{
    char name[64];
    const char *eq = strchr(text, '=');
    MUST(eq && (size_t)(eq - text) < sizeof name);
    memcpy(name, text, (size_t)(eq - text));
    name[eq - text] = '\0';
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, NULL, NULL, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_nconf(NULL, &ctx, name, eq + 1);
    MUST(ext);
    return ext;
}

static void add_entry(X509_CRL *crl, const ASN1_INTEGER *serial, const struct test_crl_spec *spec)
{
    X509_REVOKED *entry = X509_REVOKED_new();
    ASN1_TIME *at = ASN1_TIME_set(NULL, spec->revoked_at ? spec->revoked_at : spec->this_update);
    MUST(entry && at && X509_REVOKED_set_serialNumber(entry, (ASN1_INTEGER *)serial) && X509_REVOKED_set_revocationDate(entry, at));
    ASN1_TIME_free(at);
    if (spec->reason >= 0) {
        ASN1_ENUMERATED *reason = ASN1_ENUMERATED_new();
        MUST(reason && ASN1_ENUMERATED_set(reason, spec->reason) && X509_REVOKED_add1_ext_i2d(entry, NID_crl_reason, reason, 0, 0));
        ASN1_ENUMERATED_free(reason);
    }
    for (const char *const *e = spec->entry_exts; e && *e; e++) {
        X509_EXTENSION *ext = extension_of(*e);
        MUST(X509_REVOKED_add_ext(entry, ext, -1));
        X509_EXTENSION_free(ext);
    }
    MUST(X509_CRL_add0_revoked(crl, entry));
}

static void add_fillers(X509_CRL *crl, const struct test_crl_spec *spec)
{
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    for (unsigned i = 0; i < spec->n_filler; i++) {
        MUST(ASN1_INTEGER_set_uint64(serial, 0x7000000000000000u + i));
        add_entry(crl, serial, spec);
    }
    ASN1_INTEGER_free(serial);
}

static void add_number(X509_CRL *crl, const char *text)
{
    BIGNUM *bn = NULL;
    MUST(BN_dec2bn(&bn, text) > 0);
    ASN1_INTEGER *number = BN_to_ASN1_INTEGER(bn, NULL);
    MUST(number && X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0));
    ASN1_INTEGER_free(number);
    BN_free(bn);
}

struct pfl_buf test_crl_make(const struct test_crl_spec *spec, const struct test_cert *issuer)
{
    X509_CRL *crl = X509_CRL_new();
    MUST(crl && X509_CRL_set_version(crl, X509_CRL_VERSION_2));
    MUST(X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer->cert)));
    ASN1_TIME *from = ASN1_TIME_set(NULL, spec->this_update);
    MUST(from && X509_CRL_set1_lastUpdate(crl, from));
    ASN1_TIME_free(from);
    if (spec->next_update) {
        ASN1_TIME *until = ASN1_TIME_set(NULL, spec->next_update);
        MUST(until && X509_CRL_set1_nextUpdate(crl, until));
        ASN1_TIME_free(until);
    }
    for (X509 *const *cert = spec->revoked; cert && *cert; cert++)
        add_entry(crl, X509_get0_serialNumber(*cert), spec);
    add_fillers(crl, spec);
    if (spec->number)
        add_number(crl, spec->number);
    for (const char *const *e = spec->exts; e && *e; e++) {
        X509_EXTENSION *ext = extension_of(*e);
        MUST(X509_CRL_add_ext(crl, ext, -1));
        X509_EXTENSION_free(ext);
    }
    EVP_PKEY *key = spec->key ? spec->key : issuer->key;
    bool ed = EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519;
    MUST(X509_CRL_sort(crl) && X509_CRL_sign(crl, key, ed ? NULL : spec->md ? spec->md : EVP_sha256()) > 0);
    unsigned char *der = NULL;
    int len = i2d_X509_CRL(crl, &der);
    struct pfl_buf out = {0};
    MUST(len > 0 && pfl_buf_append(&out, der, (size_t)len));
    OPENSSL_free(der);
    X509_CRL_free(crl);
    return out;
}

void test_crl_append(const char *path, const struct pfl_buf *der)
{
    FILE *f = fopen(path, "a");
    MUST(f && PEM_write(f, PEM_STRING_X509_CRL, "", der->data, (long)der->len) > 0);
    MUST(fclose(f) == 0);
}
