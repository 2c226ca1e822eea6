/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates of any shape for unit tests, and a temporary folder. Failures in here end the test. */
#ifndef PFL_TESTS_CERTS_H
#define PFL_TESTS_CERTS_H

#include <openssl/x509.h>
#include <stdint.h>

struct test_cert {
    X509 *cert;    /* owned */
    EVP_PKEY *key; /* owned */
};

struct test_cert_spec {
    const char *cn;          /* NULL: an empty subject */
    const char *key;         /* "p256" (default), "p224", "ed25519", "rsa:N" */
    const char *const *exts; /* "basicConstraints=critical,CA:TRUE", ended by NULL; as in openssl.cnf, DER:… too. NULL: none */
    const EVP_MD *md;        /* NULL: SHA-256 */
    int64_t from, until;     /* Unix seconds; 0: 2020-01-01 and 2040-01-01 */
    const void *raw_cn;      /* instead of cn: raw_cn_len bytes as a UTF8String */
    int raw_cn_len;
};

/* issuer NULL: self-signed. */
struct test_cert test_cert_make(const struct test_cert_spec *spec, const struct test_cert *issuer);
void test_cert_free(struct test_cert *c);
/* Writes certificates (NULL-ended list) to a PEM file. */
void test_certs_write(const char *path, X509 *const *certs);

/* A new folder under the system's temporary one; owned text. */
char *test_dir_new(void);
/* Removes the folder and all in it, and frees the text. */
void test_dir_free(char *dir);
/* How many entries a folder has; -1 where there is none. */
int test_dir_count(const char *dir);

#endif
