/* SPDX-License-Identifier: Apache-2.0 */
#include "support/certs.h"

#include <dirent.h>
#include <ftw.h>
#include <stdbool.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUST(x) ((x) ? (void)0 : must_failed(#x, __LINE__))

enum { Y2020 = 1577836800 };
static const int64_t Y2040 = 2208988800;

static _Noreturn void must_failed(const char *what, int line)
{
    fprintf(stderr, "tests/support/certs.c:%d: %s\n", line, what);
    ERR_print_errors_fp(stderr);
    abort();
}

static EVP_PKEY *make_key(const char *spec)
{
    if (!spec || strcmp(spec, "p256") == 0)
        return EVP_EC_gen("P-256");
    if (strcmp(spec, "p224") == 0)
        return EVP_EC_gen("P-224");
    if (strcmp(spec, "ed25519") == 0)
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return EVP_RSA_gen((unsigned)strtoul(spec + strlen("rsa:"), NULL, 10));
}

static void add_extension(X509 *cert, X509 *issuer, const char *text)
{
    char name[64];
    const char *eq = strchr(text, '=');
    MUST(eq && (size_t)(eq - text) < sizeof name);
    memcpy(name, text, (size_t)(eq - text));
    name[eq - text] = '\0';
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer ? issuer : cert, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_nconf(NULL, &ctx, name, eq + 1);
    MUST(ext && X509_add_ext(cert, ext, -1));
    X509_EXTENSION_free(ext);
}

struct test_cert test_cert_make(const struct test_cert_spec *spec, const struct test_cert *issuer)
{
    static long serial = 1;
    struct test_cert c = {.cert = X509_new(), .key = make_key(spec->key)};
    EVP_PKEY *signer = issuer ? issuer->key : c.key;
    X509_NAME *subject = X509_get_subject_name(c.cert);
    MUST(c.key && X509_set_version(c.cert, X509_VERSION_3) && ASN1_INTEGER_set(X509_get_serialNumber(c.cert), serial++));
    if (spec->cn)
        MUST(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)spec->cn, -1, -1, 0));
    if (spec->raw_cn)
        MUST(X509_NAME_add_entry_by_txt(subject, "CN", V_ASN1_UTF8STRING, spec->raw_cn, spec->raw_cn_len, -1, 0));
    MUST(X509_set_issuer_name(c.cert, issuer ? X509_get_subject_name(issuer->cert) : subject));
    MUST(ASN1_TIME_set(X509_getm_notBefore(c.cert), spec->from ? spec->from : Y2020));
    MUST(ASN1_TIME_set(X509_getm_notAfter(c.cert), spec->until ? spec->until : Y2040));
    MUST(X509_set_pubkey(c.cert, c.key));
    for (const char *const *ext = spec->exts; ext && *ext; ext++)
        add_extension(c.cert, issuer ? issuer->cert : NULL, *ext);
    bool ed = EVP_PKEY_get_base_id(signer) == EVP_PKEY_ED25519;
    MUST(X509_sign(c.cert, signer, ed ? NULL : spec->md ? spec->md : EVP_sha256()) > 0);
    /* through its bytes once, so that it is as one that was read */
    unsigned char *der = NULL;
    int len = i2d_X509(c.cert, &der);
    const unsigned char *at = der;
    X509_free(c.cert);
    MUST(len > 0 && (c.cert = d2i_X509(NULL, &at, len)) != NULL);
    OPENSSL_free(der);
    return c;
}

void test_cert_free(struct test_cert *c)
{
    X509_free(c->cert);
    EVP_PKEY_free(c->key);
    *c = (struct test_cert){0};
}

void test_certs_write(const char *path, X509 *const *certs)
{
    FILE *f = fopen(path, "w");
    MUST(f);
    for (; *certs; certs++)
        MUST(PEM_write_X509(f, *certs));
    MUST(fclose(f) == 0);
}

char *test_dir_new(void)
{
    const char *tmp = getenv("TMPDIR");
    char *dir = NULL;
    MUST(asprintf(&dir, "%s/pfl-test-XXXXXX", tmp ? tmp : "/tmp") > 0 && mkdtemp(dir));
    return dir;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

void test_dir_free(char *dir)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(dir);
}

int test_dir_count(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    if (!d)
        return -1;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}
