/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* Any bytes as a subject alternative name, as an operator types it and as a URI in a stranger's certificate: what is taken has one
 * meaning, and reads the same when it is written again. */
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "pki/ca.h"
#include "pki/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_visible(const char *text)
{
    for (const char *c = text; *c; c++)
        PFL_ASSERT((unsigned char)*c > 0x20 && (unsigned char)*c < 0x7f);
}

static void check_typed(const char *text)
{
    PFL_AUTO(pfl_freep) char *san = NULL;
    PFL_AUTO(pfl_freep) char *again = NULL;
    struct pfl_err err = {0};
    if (pfl_san_parse(text, &san, &err) != PFL_OK) {
        PFL_ASSERT(!san && err.rc != PFL_OK && err.msg[0]);
        return;
    }
    check_visible(san);
    PFL_ASSERT(pfl_str_has_prefix(san, "IP:") || pfl_str_has_prefix(san, "DNS:"));
    PFL_ASSERT(!strpbrk(san, ",/\\'\"") && strlen(san) <= 4 + 253);
    PFL_ASSERT(pfl_san_parse(san, &again, &err) == PFL_OK && pfl_streq(san, again));
}

/* A certificate with this one URI; its signature is not looked at when names are read. */
static X509 *cert_with_uri(const uint8_t *data, size_t size)
{
    static EVP_PKEY *key;
    X509 *cert = X509_new();
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *uri = ASN1_IA5STRING_new();
    if (!key)
        key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    PFL_ASSERT(key && cert && names && name && uri && ASN1_STRING_set(uri, data, (int)size) == 1);
    GENERAL_NAME_set0_value(name, GEN_URI, uri);
    PFL_ASSERT(sk_GENERAL_NAME_push(names, name) > 0 && X509_set_version(cert, X509_VERSION_3) == 1 &&
               ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) == 1 && X509_gmtime_adj(X509_getm_notBefore(cert), 0) &&
               X509_gmtime_adj(X509_getm_notAfter(cert), 3600) && X509_set_pubkey(cert, key) == 1 &&
               X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1 && X509_sign(cert, key, NULL) > 0);
    GENERAL_NAMES_free(names);
    return cert;
}

static void check_uri(const uint8_t *data, size_t size)
{
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    struct pfl_err err = {0};
    X509 *cert = cert_with_uri(data, size);
    enum pfl_rc rc = pfl_identity_of_x509(cert, &id, &err);
    X509_free(cert);
    PFL_ASSERT((rc == PFL_OK) == (id != NULL) && (rc == PFL_OK) == (err.msg[0] == '\0'));
    if (!id)
        return;
    PFL_ASSERT(id->sans.n == 1 && pfl_str_has_prefix(id->sans.items[0], "URI:") && strlen(id->sans.items[0]) == size + 4);
    check_visible(id->sans.items[0]);
    PFL_ASSERT(!id->spiffe_id == !pfl_str_has_prefix(id->sans.items[0], "URI:spiffe:"));
    if (!id->spiffe_id)
        return;
    PFL_ASSERT(pfl_name_valid(id->federation) && pfl_name_valid(id->role) && pfl_name_valid(id->name)); /* it is no CA's */
    PFL_AUTO(pfl_freep) char *whole = pfl_xasprintf("spiffe://%s/%s/%s", id->federation, id->role, id->name);
    PFL_ASSERT(pfl_streq(whole, id->spiffe_id));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size = size < 1024 ? size : 1024;
    PFL_AUTO(pfl_freep) char *text = pfl_xstrndup((const char *)data, size);
    check_typed(text);
    check_uri(data, size);
    return 0;
}
