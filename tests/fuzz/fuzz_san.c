/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* The names of a certificate: each line of the input is one subject alternative name ("U" a URI, "D" a DNS name, "I" the bytes of
 * an IP address, "E" an e-mail address, then its text) of a certificate that is made here. What is read is well built and says what
 * the certificate says; and the same lines as a person types them. */
#include <stdlib.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "pki/ca.h"
#include "pki/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct {
    char letter;
    int kind;
} KINDS[] = {{'U', GEN_URI}, {'D', GEN_DNS}, {'I', GEN_IPADD}, {'E', GEN_EMAIL}};

static void add_name(GENERAL_NAMES *names, const uint8_t *line, size_t len)
{
    for (size_t i = 0; len > 0 && i < PFL_ARRAY_LEN(KINDS); i++) {
        if (line[0] != (uint8_t)KINDS[i].letter)
            continue;
        ASN1_STRING *text = ASN1_STRING_type_new(KINDS[i].kind == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
        GENERAL_NAME *name = GENERAL_NAME_new();
        if (!text || !name || !ASN1_STRING_set(text, line + 1, (int)len - 1))
            abort();
        GENERAL_NAME_set0_value(name, KINDS[i].kind, text);
        sk_GENERAL_NAME_push(names, name);
    }
}

static void check_visible(const char *text)
{
    for (const char *c = text; *c; c++)
        PFL_ASSERT((unsigned char)*c > 0x20 && (unsigned char)*c < 0x7f);
}

static void check_typed(const uint8_t *line, size_t len)
{
    PFL_AUTO(pfl_freep) char *text = strndup((const char *)line, len);
    PFL_AUTO(pfl_freep) char *once = NULL;
    PFL_AUTO(pfl_freep) char *twice = NULL;
    struct pfl_err err = {0};
    if (pfl_san_parse(text, &once, &err) != PFL_OK) {
        PFL_ASSERT(err.msg[0] && !once);
        return;
    }
    check_visible(once);
    PFL_ASSERT((pfl_str_has_prefix(once, "IP:") || pfl_str_has_prefix(once, "DNS:")) && !strpbrk(once, ",/\\'\"") &&
               strlen(once) <= 4 + 253);
    PFL_ASSERT(pfl_san_parse(once, &twice, &err) == PFL_OK && pfl_streq(once, twice)); /* canonical */
}

static void check_identity(const struct pfl_identity *id, size_t n)
{
    PFL_ASSERT(id->sans.n <= n && n <= PFL_SANS_MAX && pfl_identity_same(id, id) == (id->spiffe_id || id->sans.n > 0));
    PFL_ASSERT(!id->spiffe_id == !id->name);
    for (size_t i = 0; i < id->sans.n; i++) {
        if (pfl_str_has_prefix(id->sans.items[i], "URI:"))
            check_visible(id->sans.items[i]);
        PFL_ASSERT(!pfl_str_has_prefix(id->sans.items[i], "URI:spiffe:") || id->spiffe_id);
    }
    if (!id->spiffe_id)
        return;
    PFL_AUTO(pfl_freep) char *again = pfl_xasprintf("spiffe://%s/%s/%s", id->federation, id->role, id->name);
    PFL_ASSERT(pfl_streq(again, id->spiffe_id) && strlen(again) <= PFL_SPIFFE_ID_MAX);
    PFL_ASSERT(pfl_name_valid(id->federation) && pfl_name_valid(id->role) && pfl_name_valid(id->name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 8192)
        return 0;
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    X509 *cert = X509_new();
    if (!names || !cert)
        abort();
    for (size_t from = 0; from < size;) {
        const uint8_t *end = memchr(data + from, '\n', size - from);
        size_t len = end ? (size_t)(end - data) - from : size - from;
        add_name(names, data + from, len);
        check_typed(data + from, len);
        from += len + 1;
    }
    size_t n = (size_t)sk_GENERAL_NAME_num(names);
    struct pfl_identity *id = NULL;
    struct pfl_err err = {0};
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 60);
    if (n == 0 || X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, 0) == 1) {
        if (pfl_identity_of_x509(cert, &id, &err) == PFL_OK)
            check_identity(id, n);
        else
            PFL_ASSERT(err.msg[0] && !id);
    }
    pfl_identity_unref(id);
    X509_free(cert);
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
    return 0;
}
