/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a certificate's names. Names decide who a peer is, so a name that could be read in two ways (a NUL byte inside, a control
 * character, two SPIFFE IDs) refuses the whole certificate instead of being cut or skipped. */
#include "pki/identity.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "pki/cert.h"
#include "pki/digest.h"

enum { SERIAL_BYTES_MAX = 64, DNS_NAME_MAX = 253, TEXT_MAX = 512 };

static const char SPIFFE_SCHEME[] = "spiffe://";

PFL_DEFINE_FREEP(general_names, GENERAL_NAMES, GENERAL_NAMES_free)

bool pfl_name_valid(const char *name)
{
    size_t len = name ? strnlen(name, PFL_NAME_MAX + 1) : 0;
    if (len == 0 || len > PFL_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        bool mark = c == '.' || c == '_' || c == '-';
        if (!alnum && (!mark || i == 0 || i == len - 1))
            return false;
    }
    return true;
}

bool pfl_role_valid(const char *role)
{
    return pfl_streq(role, "node") || pfl_streq(role, "coordinator") || pfl_streq(role, "observer");
}

/* A text field of a name: which types are UTF-8, which are ASCII, and that neither hides a NUL or a control character. */
static enum pfl_rc check_name_entry(const ASN1_STRING *value, const char *whose, struct pfl_err *err)
{
    const unsigned char *data = ASN1_STRING_get0_data(value);
    size_t len = (size_t)ASN1_STRING_length(value);
    int type = ASN1_STRING_type(value);
    if (type == V_ASN1_BMPSTRING || type == V_ASN1_UNIVERSALSTRING)
        return PFL_OK; /* two and four bytes a character: printed escaped, never compared */
    if (type == V_ASN1_UTF8STRING && !pfl_utf8_valid(data, len))
        return pfl_err_set(err, PFL_MALFORMED, "the %s holds text that is not UTF-8", whose);
    for (size_t i = 0; i < len; i++)
        if (data[i] < 0x20 || data[i] == 0x7f)
            return pfl_err_set(err, PFL_MALFORMED, "the %s has a control character inside a name (byte 0x%02x)", whose, data[i]);
    return PFL_OK;
}

static enum pfl_rc check_name(const X509_NAME *name, const char *whose, struct pfl_err *err)
{
    for (int i = 0; i < X509_NAME_entry_count(name); i++) {
        const ASN1_STRING *value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i));
        enum pfl_rc rc = check_name_entry(value, whose, err);
        if (rc != PFL_OK)
            return rc;
    }
    return PFL_OK;
}

/* The parts of spiffe://<federation>[/<role>/<name>]; a CA has no path, everybody else has one. */
static enum pfl_rc take_spiffe(struct pfl_identity *id, const char *uri, bool is_ca, struct pfl_err *err)
{
    if (id->spiffe_id)
        return pfl_err_set(err, PFL_MALFORMED, "more than one SPIFFE ID: %s and %s", pfl_q(id->spiffe_id), pfl_q(uri));
    if (strlen(uri) > PFL_SPIFFE_ID_MAX || !pfl_str_has_prefix(uri, SPIFFE_SCHEME))
        return pfl_err_set(err, PFL_MALFORMED, "bad SPIFFE ID %s: spiffe://<federation>/<role>/<name> is wanted", pfl_q(uri));
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs parts = {0};
    const char *rest = uri + strlen(SPIFFE_SCHEME);
    if (strpbrk(rest, " \t")) /* the splitter below would drop blanks */
        return pfl_err_set(err, PFL_MALFORMED, "bad SPIFFE ID %s: blanks in it", pfl_q(uri));
    pfl_strs_split(&parts, rest, '/');
    if (parts.n != 3 && !(is_ca && parts.n == 1))
        return pfl_err_set(err, PFL_MALFORMED, "bad SPIFFE ID %s: spiffe://<federation>/<role>/<name> is wanted", pfl_q(uri));
    for (size_t i = 0; i < parts.n; i++)
        if (!pfl_name_valid(parts.items[i]))
            return pfl_err_set(err, PFL_MALFORMED,
                               "bad SPIFFE ID %s: '%s' is not a name of a-z, 0-9 and .-_ with 1 to %d characters", pfl_q(uri),
                               pfl_q(parts.items[i]), PFL_NAME_MAX);
    id->spiffe_id = pfl_xstrdup(uri);
    id->federation = pfl_xstrdup(parts.items[0]);
    if (parts.n == 3) {
        id->role = pfl_xstrdup(parts.items[1]);
        id->name = pfl_xstrdup(parts.items[2]);
    }
    return PFL_OK;
}

/* The text of a DNS, URI or e-mail name: visible ASCII only, within max. *ret is owned. */
static enum pfl_rc name_text(const ASN1_IA5STRING *value, const char *kind, size_t max, char **ret, struct pfl_err *err)
{
    const unsigned char *data = ASN1_STRING_get0_data(value);
    size_t len = (size_t)ASN1_STRING_length(value);
    if (len == 0 || len > max)
        return pfl_err_set(err, PFL_MALFORMED, "a %s subject alternative name of %zu bytes, 1 to %zu are allowed", kind, len, max);
    for (size_t i = 0; i < len; i++)
        if (data[i] <= 0x20 || data[i] >= 0x7f)
            return pfl_err_set(err, PFL_MALFORMED, "a %s subject alternative name has the byte 0x%02x in it", kind, data[i]);
    *ret = pfl_xstrndup((const char *)data, len);
    return PFL_OK;
}

static enum pfl_rc take_ip(struct pfl_identity *id, const ASN1_OCTET_STRING *ip, struct pfl_err *err)
{
    char text[INET6_ADDRSTRLEN];
    int len = ASN1_STRING_length(ip);
    if (len != 4 && len != 16)
        return pfl_err_set(err, PFL_MALFORMED, "an IP subject alternative name of %d bytes, 4 or 16 are wanted", len);
    inet_ntop(len == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(ip), text, sizeof text);
    PFL_AUTO(pfl_freep) char *san = pfl_xasprintf("IP:%s", text);
    pfl_strs_add_once(&id->sans, san);
    return PFL_OK;
}

static void add_san(struct pfl_identity *id, const char *kind, const char *text)
{
    PFL_AUTO(pfl_freep) char *san = pfl_xasprintf("%s:%s", kind, text);
    pfl_strs_add_once(&id->sans, san);
}

static enum pfl_rc take_san(struct pfl_identity *id, const GENERAL_NAME *gn, bool is_ca, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *text = NULL;
    int type;
    const void *value = GENERAL_NAME_get0_value(gn, &type);
    enum pfl_rc rc = PFL_OK;
    switch (type) {
    case GEN_IPADD:
        return take_ip(id, value, err);
    case GEN_DNS:
        rc = name_text(value, "DNS", DNS_NAME_MAX, &text, err);
        if (rc != PFL_OK)
            return rc;
        for (char *c = text; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        add_san(id, "DNS", text);
        return PFL_OK;
    case GEN_URI:
        rc = name_text(value, "URI", PFL_SPIFFE_ID_MAX, &text, err);
        if (rc == PFL_OK && strncasecmp(text, "spiffe:", 7) == 0)
            rc = take_spiffe(id, text, is_ca, err);
        if (rc == PFL_OK)
            add_san(id, "URI", text);
        return rc;
    case GEN_EMAIL:
        rc = name_text(value, "email", TEXT_MAX, &text, err);
        if (rc == PFL_OK)
            add_san(id, "email", text);
        return rc;
    default:
        return PFL_OK; /* directory and other names mean nothing here */
    }
}

static enum pfl_rc take_sans(struct pfl_identity *id, const X509 *cert, struct pfl_err *err)
{
    int critical = -1;
    PFL_AUTO(pfl_general_names_freep)
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, &critical, NULL);
    if (!names && critical == -1)
        return PFL_OK;
    if (!names)
        return pfl_err_set(err, PFL_MALFORMED, "the subject alternative name extension %s",
                           critical == -2 ? "is there twice" : "cannot be read");
    int n = sk_GENERAL_NAME_num(names);
    if (n > PFL_SANS_MAX)
        return pfl_err_set(err, PFL_MALFORMED, "%d subject alternative names, the limit is %d", n, PFL_SANS_MAX);
    bool is_ca = (X509_get_extension_flags((X509 *)cert) & EXFLAG_CA) != 0;
    for (int i = 0; i < n; i++) {
        enum pfl_rc rc = take_san(id, sk_GENERAL_NAME_value(names, i), is_ca, err);
        if (rc != PFL_OK)
            return rc;
    }
    pfl_strs_sort(&id->sans);
    return PFL_OK;
}

enum pfl_rc pfl_sans_read(const GENERAL_NAMES *names, struct pfl_strs *ret, struct pfl_err *err)
{
    struct pfl_identity *id = pfl_xcalloc(1, sizeof *id);
    int n = sk_GENERAL_NAME_num(names);
    atomic_init(&id->refs, 1);
    enum pfl_rc rc = PFL_OK;
    if (n > PFL_SANS_MAX)
        rc = pfl_err_set(err, PFL_MALFORMED, "%d subject alternative names, the limit is %d", n, PFL_SANS_MAX);
    for (int i = 0; rc == PFL_OK && i < n; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        bool known = name->type == GEN_IPADD || name->type == GEN_DNS || name->type == GEN_URI || name->type == GEN_EMAIL;
        PFL_AUTO(pfl_freep) char *kind = pfl_xasprintf("%d", name->type);
        rc = take_san(id, name, true, err); /* "true": spiffe://<federation> alone can be read too */
        if (!known)
            add_san(id, "other", kind);
    }
    for (size_t i = 0; rc == PFL_OK && i < id->sans.n; i++)
        pfl_strs_add_once(ret, id->sans.items[i]);
    pfl_strs_sort(ret);
    pfl_identity_unref(id);
    return rc;
}

static enum pfl_rc take_serial(struct pfl_identity *id, const X509 *cert, struct pfl_err *err)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    if (ASN1_STRING_length(serial) > SERIAL_BYTES_MAX)
        return pfl_err_set(err, PFL_MALFORMED, "a serial number of %d bytes, the limit is %d", ASN1_STRING_length(serial),
                           SERIAL_BYTES_MAX);
    BIGNUM *number = ASN1_INTEGER_to_BN(serial, NULL);
    char *hex = number ? BN_bn2hex(number) : NULL;
    id->serial_hex = pfl_xstrdup(hex ? hex : "");
    OPENSSL_free(hex);
    BN_free(number);
    return hex ? PFL_OK : pfl_err_set(err, PFL_MALFORMED, "the serial number cannot be read");
}

static char *common_name(const X509_NAME *name)
{
    char quoted[160];
    unsigned char *utf8 = NULL;
    int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    if (at < 0)
        return NULL;
    int len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    if (len < 0)
        return NULL;
    char *text = pfl_xstrdup(pfl_quote(utf8, (size_t)len, quoted, sizeof quoted));
    OPENSSL_free(utf8);
    return text;
}

static char *make_text(const struct pfl_identity *id, const X509 *cert)
{
    char quoted[TEXT_MAX];
    if (id->spiffe_id)
        return pfl_xstrdup(pfl_quote(id->spiffe_id, strlen(id->spiffe_id), quoted, sizeof quoted));
    PFL_AUTO(pfl_freep) char *cn = common_name(X509_get_subject_name(cert));
    const char *who = cn ? cn : id->subject[0] ? id->subject : "no subject";
    if (id->sans.n == 0)
        return pfl_xasprintf("%s", who);
    return pfl_xasprintf("%s (%s)", who, pfl_quote(id->sans.items[0], strlen(id->sans.items[0]), quoted, sizeof quoted));
}

static enum pfl_rc take_fingerprint(struct pfl_identity *id, const X509 *cert, struct pfl_err *err)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    if (len <= 0 || len > PFL_DER_CERT_MAX) {
        OPENSSL_free(der);
        return pfl_err_set(err, PFL_MALFORMED, "a certificate of %d bytes, the limit is %d", len, PFL_DER_CERT_MAX);
    }
    pfl_sha256_hex(pfl_bytes_of(der, (size_t)len), id->fingerprint);
    OPENSSL_free(der);
    return PFL_OK;
}

static enum pfl_rc fill(struct pfl_identity *id, const X509 *cert, struct pfl_err *err)
{
    enum pfl_rc rc = take_fingerprint(id, cert, err);
    if (rc == PFL_OK)
        rc = check_name(X509_get_subject_name(cert), "subject", err);
    if (rc == PFL_OK)
        rc = check_name(X509_get_issuer_name(cert), "issuer", err);
    if (rc == PFL_OK)
        rc = take_serial(id, cert, err);
    if (rc == PFL_OK)
        rc = take_sans(id, cert, err);
    if (rc != PFL_OK)
        return rc;
    id->subject = pfl_cert_subject(cert);
    id->issuer = pfl_cert_issuer(cert);
    id->not_before = pfl_cert_not_before(cert);
    id->not_after = pfl_cert_not_after(cert);
    id->text = make_text(id, cert);
    return PFL_OK;
}

enum pfl_rc pfl_identity_of_x509(const X509 *cert, struct pfl_identity **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = pfl_xcalloc(1, sizeof *id);
    atomic_init(&id->refs, 1);
    enum pfl_rc rc = fill(id, cert, err);
    ERR_clear_error();
    if (rc != PFL_OK)
        return rc;
    *ret = pfl_steal(&id);
    return PFL_OK;
}

enum pfl_rc pfl_identity_of_der(struct pfl_bytes der, struct pfl_identity **ret, struct pfl_err *err)
{
    if (der.len > PFL_DER_CERT_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "a certificate of %zu bytes, the limit is %d", der.len, PFL_DER_CERT_MAX);
    const unsigned char *at = der.data;
    PFL_AUTO(pfl_x509_freep) X509 *cert = der.len ? d2i_X509(NULL, &at, (long)der.len) : NULL;
    ERR_clear_error();
    if (!cert)
        return pfl_err_set(err, PFL_MALFORMED, "%zu bytes that are not a certificate", der.len);
    if (at != der.data + der.len)
        return pfl_err_set(err, PFL_MALFORMED, "bytes behind the certificate");
    return pfl_identity_of_x509(cert, ret, err);
}

struct pfl_identity *pfl_identity_ref(struct pfl_identity *id)
{
    if (id)
        atomic_fetch_add_explicit(&id->refs, 1, memory_order_relaxed);
    return id;
}

void pfl_identity_unref(struct pfl_identity *id)
{
    if (!id || atomic_fetch_sub_explicit(&id->refs, 1, memory_order_acq_rel) != 1)
        return;
    char *texts[] = {id->spiffe_id, id->federation, id->role, id->name, id->subject, id->issuer, id->serial_hex, id->text};
    for (size_t i = 0; i < PFL_ARRAY_LEN(texts); i++)
        free(texts[i]);
    pfl_strs_deinit(&id->sans);
    free(id);
}

/* pattern is a SAN's name in lower case, host too. */
static bool dns_matches(const char *pattern, const char *host)
{
    if (!pfl_str_has_prefix(pattern, "*."))
        return !strchr(pattern, '*') && strcmp(pattern, host) == 0;
    const char *parent = pattern + 1, *dot = strchr(host, '.');
    if (strchr(parent, '*') || !strchr(parent + 1, '.'))
        return false; /* "*.example" would cover a whole top-level domain */
    return dot && dot != host && strcmp(dot, parent) == 0;
}

static bool covers_dns(const struct pfl_identity *id, const char *host)
{
    char lower[DNS_NAME_MAX + 1];
    size_t len = strnlen(host, DNS_NAME_MAX + 2);
    if (len > 0 && host[len - 1] == '.')
        len--;
    if (len == 0 || len > DNS_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        lower[i] = (char)tolower((unsigned char)host[i]);
    lower[len] = '\0';
    for (size_t i = 0; i < id->sans.n; i++)
        if (pfl_str_has_prefix(id->sans.items[i], "DNS:") && dns_matches(id->sans.items[i] + 4, lower))
            return true;
    return false;
}

bool pfl_identity_covers_host(const struct pfl_identity *id, const char *host)
{
    unsigned char ip[16];
    char bare[INET6_ADDRSTRLEN] = "", san[INET6_ADDRSTRLEN + 3] = "IP:";
    size_t len = strlen(host);
    bool brackets = len > 2 && host[0] == '[' && host[len - 1] == ']';
    if (brackets ? len - 2 < sizeof bare : len < sizeof bare)
        memcpy(bare, brackets ? host + 1 : host, brackets ? len - 2 : len);
    int family = inet_pton(AF_INET, bare, ip) == 1 ? AF_INET : inet_pton(AF_INET6, bare, ip) == 1 ? AF_INET6 : 0;
    if (family == 0)
        return !brackets && covers_dns(id, host);
    inet_ntop(family, ip, san + 3, INET6_ADDRSTRLEN);
    return pfl_strs_has(&id->sans, san); /* both texts were printed from the binary form */
}

static bool same_sans(const struct pfl_strs *a, const struct pfl_strs *b)
{
    if (a->n != b->n || a->n == 0)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return true;
}

bool pfl_identity_same(const struct pfl_identity *a, const struct pfl_identity *b)
{
    if (a->spiffe_id && b->spiffe_id)
        return strcmp(a->spiffe_id, b->spiffe_id) == 0;
    return !a->spiffe_id && !b->spiffe_id && same_sans(&a->sans, &b->sans);
}

const char *pfl_identity_text(const struct pfl_identity *id)
{
    return id->text;
}
