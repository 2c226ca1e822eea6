/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* support: certs */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/fs.h"
#include "pki/key.h"
#include "support/certs.h"

static int set_up(void **state)
{
    *state = test_dir_new();
    return 0;
}

static int tear_down(void **state)
{
    test_dir_free(*state);
    return 0;
}

static struct pfl_passphrase *passphrase(const char *text)
{
    struct pfl_passphrase *p = NULL;
    assert_int_equal(pfl_passphrase_of(text, strlen(text), &p, NULL), PFL_OK);
    return p;
}

static EVP_PKEY *new_key(const char *spec)
{
    EVP_PKEY *key = NULL;
    assert_int_equal(pfl_key_generate(spec, &key, NULL), PFL_OK);
    return key;
}

static void test_key__unknown_kind__refused(void **state)
{
    (void)state;
    static const char *const BAD[] = {"",         "p521",      "rsa",       "rsa:", "rsa:1024", "rsa:2047",
                                      "rsa:8193", "rsa:2048x", "rsa: 2048", "P256", "dsa"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(BAD); i++) {
        EVP_PKEY *key = NULL;
        struct pfl_err err = {0};
        assert_int_equal(pfl_key_generate(BAD[i], &key, &err), PFL_INVALID);
        assert_null(key);
        assert_non_null(strstr(err.msg, "p256, p384, ed25519 or rsa:N"));
    }
}

static void test_key__generate__kind_and_size(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        int id, bits;
    } ROWS[] = {{"p256", EVP_PKEY_EC, 256},
                {"p384", EVP_PKEY_EC, 384},
                {"ed25519", EVP_PKEY_ED25519, 256},
                {"rsa:2048", EVP_PKEY_RSA, 2048}};
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        EVP_PKEY *key = new_key(ROWS[i].spec);
        assert_int_equal(EVP_PKEY_get_base_id(key), ROWS[i].id);
        assert_int_equal(EVP_PKEY_get_bits(key), ROWS[i].bits);
        assert_int_equal(pfl_key_check_strength(key, NULL), PFL_OK);
        pfl_key_free(key);
    }
}

static void test_key__weak__refused(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    EVP_PKEY *rsa = EVP_RSA_gen(1024), *ec = EVP_EC_gen("P-224"), *x = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    assert_int_equal(pfl_key_check_strength(rsa, &err), PFL_AUTH);
    assert_string_equal(err.msg, "RSA key of 1024 bits, at least 2048 needed");
    assert_int_equal(pfl_key_check_strength(ec, &err), PFL_AUTH);
    assert_string_equal(err.msg, "EC key of 224 bits, at least 256 needed");
    assert_int_equal(pfl_key_check_strength(x, &err), PFL_UNSUPPORTED);
    pfl_key_free(rsa);
    pfl_key_free(ec);
    pfl_key_free(x);
}

static void test_key__file_that_others_can_read__refused(void **state)
{
    static const mode_t MODES[] = {0640, 0604, 0660, 0602, 0610, 0644};
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(*state, "node.key");
    EVP_PKEY *key = new_key("p256"), *back = NULL;
    assert_int_equal(pfl_key_save_new(path, key, NULL, NULL), PFL_OK);
    for (size_t i = 0; i < PFL_ARRAY_LEN(MODES); i++) {
        struct pfl_err err = {0};
        assert_int_equal(chmod(path, MODES[i]), 0);
        assert_int_equal(pfl_key_load(path, NULL, &back, &err), PFL_AUTH);
        assert_null(back);
        assert_non_null(strstr(err.msg, path));
        assert_non_null(strstr(err.msg, "chmod"));
    }
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(pfl_key_load(path, NULL, &back, NULL), PFL_OK);
    pfl_key_free(back);
    pfl_key_free(key);
}

static void test_key__bad_file__says_which(void **state)
{
    static const struct {
        const char *content;
        enum pfl_rc rc;
        const char *wanted;
    } ROWS[] = {
        {NULL, PFL_NOT_FOUND, "No such file"},
        {"", PFL_MALFORMED, "no private key in PEM"},
        {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", PFL_MALFORMED, "no private key in PEM"},
        {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", PFL_MALFORMED, "no private key in PEM"},
    };
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(*state, "node.key");
    for (size_t i = 0; i < PFL_ARRAY_LEN(ROWS); i++) {
        EVP_PKEY *key = NULL;
        struct pfl_err err = {0};
        if (ROWS[i].content) {
            struct pfl_bytes content = pfl_bytes_of(ROWS[i].content, strlen(ROWS[i].content));
            assert_int_equal(pfl_fs_write_atomic(path, content, 0600, NULL), PFL_OK);
        }
        assert_int_equal(pfl_key_load(path, NULL, &key, &err), ROWS[i].rc);
        if (!strstr(err.msg, path) || !strstr(err.msg, ROWS[i].wanted))
            fail_msg("%s", err.msg);
    }
    assert_int_equal(truncate(path, PFL_KEY_FILE_MAX + 1), 0);
    EVP_PKEY *key = NULL;
    assert_int_equal(pfl_key_load(path, NULL, &key, NULL), PFL_TOO_BIG);
}

static void test_key__weak_file__refused(void **state)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(*state, "weak.key");
    EVP_PKEY *weak = EVP_RSA_gen(1024), *back = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_key_save_new(path, weak, NULL, NULL), PFL_OK);
    assert_int_equal(pfl_key_load(path, NULL, &back, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, "weak.key: RSA key of 1024 bits"));
    pfl_key_free(weak);
}

static void test_key__encrypted__opens_with_its_passphrase_only(void **state)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(*state, "ca.key");
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *right = passphrase("correct horse");
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *wrong = passphrase("correct horsf");
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *pem = NULL;
    EVP_PKEY *key = new_key("p256"), *back = NULL;
    struct pfl_err err = {0};
    assert_int_equal(pfl_key_save_new(path, key, right, NULL), PFL_OK);
    assert_int_equal(pfl_key_load(path, NULL, &back, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, "encrypted and no passphrase"));
    assert_int_equal(pfl_key_load(path, wrong, &back, &err), PFL_AUTH);
    assert_non_null(strstr(err.msg, "wrong passphrase"));
    assert_null(strstr(err.msg, "horsf"));
    assert_null(back);
    assert_true(pfl_key_file_encrypted(path));
    assert_int_equal(pfl_fs_read(path, 65536, &pem, NULL), PFL_OK);
    assert_non_null(strstr((const char *)pem->data, "-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    assert_int_equal(pfl_key_load(path, right, &back, NULL), PFL_OK);
    assert_int_equal(EVP_PKEY_eq(key, back), 1);
    pfl_key_free(back);
    pfl_key_free(key);
}

static void test_key__saved__private_new_and_readable_by_openssl(void **state)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(*state, "node.key");
    EVP_PKEY *key = new_key("ed25519");
    struct stat st;
    struct pfl_err err = {0};
    mode_t old = umask(0);
    assert_int_equal(pfl_key_save_new(path, key, NULL, NULL), PFL_OK);
    umask(old);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_false(pfl_key_file_encrypted(path));
    FILE *f = fopen(path, "r");
    EVP_PKEY *back = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    assert_int_equal(EVP_PKEY_eq(key, back), 1);
    pfl_key_free(back);
    back = new_key("p256");
    assert_int_equal(pfl_key_save_new(path, back, NULL, &err), PFL_EXISTS);
    pfl_key_free(back);
    assert_int_equal(pfl_key_load(path, NULL, &back, NULL), PFL_OK);
    assert_int_equal(EVP_PKEY_eq(key, back), 1);
    pfl_key_free(back);
    pfl_key_free(key);
}

static void test_key__of_another_certificate__does_not_match(void **state)
{
    (void)state;
    struct test_cert a = test_cert_make(&(struct test_cert_spec){.cn = "a"}, NULL);
    struct test_cert b = test_cert_make(&(struct test_cert_spec){.cn = "b"}, NULL);
    struct test_cert r = test_cert_make(&(struct test_cert_spec){.cn = "r", .key = "rsa:2048"}, NULL);
    assert_false(pfl_key_matches(a.key, b.cert));
    assert_false(pfl_key_matches(a.key, r.cert));
    assert_true(pfl_key_matches(a.key, a.cert));
    assert_true(pfl_key_matches(r.key, r.cert));
    test_cert_free(&a);
    test_cert_free(&b);
    test_cert_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key__unknown_kind__refused),
        cmocka_unit_test(test_key__generate__kind_and_size),
        cmocka_unit_test(test_key__weak__refused),
        cmocka_unit_test_setup_teardown(test_key__file_that_others_can_read__refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key__bad_file__says_which, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key__weak_file__refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key__encrypted__opens_with_its_passphrase_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key__saved__private_new_and_readable_by_openssl, set_up, tear_down),
        cmocka_unit_test(test_key__of_another_certificate__does_not_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
