/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* support: certs */
/* Keys and contents of a renewal; whose roots in ca.crt it replaces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/x509.h>

#include "base/fs.h"
#include "base/mem.h"
#include "pki/cert.h"
#include "pki/key.h"
#include "pki/node_renew.h"
#include "support/certs.h"

static const char *const CA_EXTS[] = {"basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", NULL};

static struct pfl_buf der_of(const X509 *cert)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    struct pfl_buf b = {0};
    assert_true(len > 0 && pfl_buf_append(&b, der, (size_t)len));
    OPENSSL_free(der);
    return b;
}

static unsigned count(const struct pfl_buf *b, const char *what)
{
    unsigned n = 0;
    PFL_AUTO(pfl_freep) char *text = pfl_xstrndup((const char *)b->data, b->len);
    for (const char *at = text; (at = strstr(at, what)); at++)
        n++;
    return n;
}

static bool has(const struct pfl_buf *b, const struct test_cert *c)
{
    PFL_AUTO(pfl_freep) char *pem = pfl_cert_pem(c->cert);
    return count(b, pem) == 1;
}

/* ---- roots ---- */

static void test_roots__of_others_stay_and_the_cas_are_replaced(void **state)
{
    (void)state;
    struct test_cert old = test_cert_make(&(struct test_cert_spec){.cn = "old", .exts = CA_EXTS}, NULL),
                     new = test_cert_make(&(struct test_cert_spec){.cn = "new", .exts = CA_EXTS}, NULL),
                     own = test_cert_make(&(struct test_cert_spec){.cn = "the operator's", .exts = CA_EXTS}, NULL);
    PFL_AUTO(pfl_freep) char *mine = pfl_cert_pem(own.cert);
    struct pfl_buf roots[] = {der_of(old.cert), der_of(new.cert)};
    for (unsigned above = 0; above < 2; above++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf first = {0}, file = {0}, both = {0}, last = {0};
        assert_int_equal(pfl_node_roots_pem((struct pfl_bytes){0}, roots, 1, &first, NULL), PFL_OK);
        if (above)
            pfl_buf_append_str(&file, mine);
        (void)pfl_buf_append(&file, first.data, first.len);
        if (!above)
            pfl_buf_append_str(&file, mine);
        assert_int_equal(pfl_node_roots_pem(pfl_buf_view(&file), roots, 2, &both, NULL), PFL_OK);
        assert_true(has(&both, &old) && has(&both, &new) && has(&both, &own));
        assert_int_equal(pfl_node_roots_pem(pfl_buf_view(&both), roots + 1, 1, &last, NULL), PFL_OK);
        assert_true(!has(&last, &old) && has(&last, &new) && has(&last, &own));
        assert_int_equal(count(&last, "# End"), 1);
    }
    pfl_buf_deinit(&roots[0]);
    pfl_buf_deinit(&roots[1]);
    test_cert_free(&old);
    test_cert_free(&new);
    test_cert_free(&own);
}

/* Nothing says whose they are: what the CA does not know is not trusted any more. */
static void test_roots__of_a_file_without_the_lines__replaced(void **state)
{
    (void)state;
    static const char BEGIN_ONLY[] = "# The CA's roots. A renewal";
    struct test_cert old = test_cert_make(&(struct test_cert_spec){.cn = "old", .exts = CA_EXTS}, NULL),
                     new = test_cert_make(&(struct test_cert_spec){.cn = "new", .exts = CA_EXTS}, NULL);
    PFL_AUTO(pfl_freep) char *pem = pfl_cert_pem(old.cert);
    struct pfl_buf root = der_of(new.cert);
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf whole = {0}, cut = {0}, out = {0}, again = {0};
    pfl_buf_append_str(&whole, pem);
    assert_int_equal(pfl_node_roots_pem(pfl_buf_view(&whole), &root, 1, &out, NULL), PFL_OK);
    assert_true(!has(&out, &old) && has(&out, &new));
    pfl_buf_append_str(&cut, BEGIN_ONLY);
    pfl_buf_append_str(&cut, pem);
    assert_int_equal(pfl_node_roots_pem(pfl_buf_view(&cut), &root, 1, &again, NULL), PFL_OK);
    assert_true(!has(&again, &old) && has(&again, &new));
    pfl_buf_deinit(&root);
    test_cert_free(&old);
    test_cert_free(&new);
}

static void test_roots__rubbish_from_the_ca__refused(void **state)
{
    (void)state;
    struct pfl_err err = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf root = {0}, out = {0};
    pfl_buf_append_str(&root, "no certificate");
    assert_int_equal(pfl_node_roots_pem((struct pfl_bytes){0}, &root, 1, &out, &err), PFL_MALFORMED);
}

/* ---- keys and contents ---- */

struct node {
    char *dir, *paths[5];
    struct test_cert ca, leaf;
    struct pfl_node_pairs pairs;
};

static struct node node_of(const char *key, const char *passphrase)
{
    static const char *const NAMES[] = {"ca.crt", "server.crt", "server.key", "client.crt", "client.key"};
    struct node n = {.dir = test_dir_new()};
    struct pfl_err err = {0};
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *secret = NULL;
    PFL_AUTO(pfl_freep) char *file = pfl_fs_join(n.dir, "passphrase");
    if (passphrase && (pfl_fs_write_new(file, pfl_bytes_of(passphrase, strlen(passphrase)), 0600, &err) != PFL_OK ||
                       pfl_passphrase_from_file(file, &secret, &err) != PFL_OK))
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < PFL_ARRAY_LEN(NAMES); i++)
        n.paths[i] = pfl_fs_join(n.dir, NAMES[i]);
    n.ca = test_cert_make(&(struct test_cert_spec){.cn = "ca", .exts = CA_EXTS}, NULL);
    n.leaf = test_cert_make(&(struct test_cert_spec){.cn = "node", .key = key}, &n.ca);
    test_certs_write(n.paths[0], (X509 *[]){n.ca.cert, NULL});
    for (size_t i = 1; i < 5; i += 2) {
        test_certs_write(n.paths[i], (X509 *[]){n.leaf.cert, NULL});
        if (pfl_key_save_new(n.paths[i + 1], n.leaf.key, secret, &err) != PFL_OK)
            fail_msg("%s", err.msg);
    }
    n.pairs = (struct pfl_node_pairs){
        n.paths[0], n.paths[1], n.paths[2], n.paths[3], n.paths[4], passphrase ? pfl_steal(&file) : NULL, NULL};
    return n;
}

static void node_free(struct node *n)
{
    free((char *)(uintptr_t)n->pairs.passphrase_file);
    for (size_t i = 0; i < PFL_ARRAY_LEN(n->paths); i++)
        free(n->paths[i]);
    test_cert_free(&n->ca);
    test_cert_free(&n->leaf);
    test_dir_free(n->dir);
}

static void test_keys__fresh_of_the_same_kind_or_kept(void **state)
{
    (void)state;
    static const char *const KINDS[] = {"p256", "ed25519", "rsa:2048"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(KINDS); i++) {
        struct node n = node_of(KINDS[i], NULL);
        PFL_AUTO(pfl_node_keys_deinit) struct pfl_node_keys fresh = {0}, same = {0};
        struct pfl_err err = {0};
        if (pfl_node_renew_keys(&n.pairs, false, &fresh, &err) != PFL_OK ||
            pfl_node_renew_keys(&n.pairs, true, &same, &err) != PFL_OK)
            fail_msg("%s: %s", KINDS[i], err.msg);
        assert_int_equal(EVP_PKEY_get_base_id(fresh.server), EVP_PKEY_get_base_id(n.leaf.key));
        assert_int_equal(EVP_PKEY_get_bits(fresh.client), EVP_PKEY_get_bits(n.leaf.key));
        assert_int_not_equal(EVP_PKEY_eq(fresh.server, n.leaf.key), 1);
        assert_int_not_equal(EVP_PKEY_eq(fresh.server, fresh.client), 1);
        assert_int_equal(EVP_PKEY_eq(same.server, n.leaf.key), 1);
        assert_int_equal(EVP_PKEY_eq(same.client, n.leaf.key), 1);
        assert_true(fresh.server_csr.len > 0 && fresh.client_csr.len > 0);
        node_free(&n);
    }
}

static void test_contents__keys_stay_as_secret_as_they_were(void **state)
{
    (void)state;
    for (unsigned encrypted = 0; encrypted < 2; encrypted++) {
        struct node n = node_of("p256", encrypted ? "a long passphrase" : NULL);
        struct pfl_buf leaf = der_of(n.leaf.cert), root = der_of(n.ca.cert);
        const struct pfl_node_certs certs = {
            .server_chain = &leaf, .client_chain = &leaf, .roots = &root, .n_server_chain = 1, .n_client_chain = 1, .n_roots = 1};
        PFL_AUTO(pfl_node_keys_deinit) struct pfl_node_keys fresh = {0};
        PFL_AUTO(pfl_node_contents_deinit) struct pfl_node_contents c = {0}, kept = {0};
        struct pfl_err err = {0};
        if (pfl_node_renew_keys(&n.pairs, false, &fresh, &err) != PFL_OK ||
            pfl_node_renew_contents(&n.pairs, &fresh, false, &certs, &c, &err) != PFL_OK ||
            pfl_node_renew_contents(&n.pairs, &fresh, true, &certs, &kept, &err) != PFL_OK)
            fail_msg("%s", err.msg);
        assert_int_equal(count(&c.server_key, "BEGIN ENCRYPTED PRIVATE KEY"), encrypted);
        assert_int_equal(count(&c.client_key, "BEGIN PRIVATE KEY"), !encrypted);
        assert_int_equal(kept.server_key.len + kept.client_key.len, 0);
        assert_true(has(&c.server_crt, &n.leaf) && has(&c.client_crt, &n.leaf) && has(&c.ca_crt, &n.ca));
        pfl_buf_deinit(&leaf);
        pfl_buf_deinit(&root);
        node_free(&n);
    }
}

static void test_contents__something_is_missing__refused(void **state)
{
    (void)state;
    struct node n = node_of("p256", NULL);
    struct pfl_buf leaf = der_of(n.leaf.cert), root = der_of(n.ca.cert);
    PFL_AUTO(pfl_node_keys_deinit) struct pfl_node_keys keys = {0};
    assert_int_equal(pfl_node_renew_keys(&n.pairs, true, &keys, NULL), PFL_OK);
    for (unsigned missing = 0; missing < 3; missing++) {
        const struct pfl_node_certs certs = {.server_chain = &leaf,
                                             .client_chain = &leaf,
                                             .roots = &root,
                                             .n_server_chain = missing != 0,
                                             .n_client_chain = missing != 1,
                                             .n_roots = missing != 2};
        PFL_AUTO(pfl_node_contents_deinit) struct pfl_node_contents c = {0};
        struct pfl_err err = {0};
        assert_int_equal(pfl_node_renew_contents(&n.pairs, &keys, true, &certs, &c, &err), PFL_MALFORMED);
        assert_non_null(strstr(err.msg, "the CA's answer has no"));
    }
    pfl_buf_deinit(&leaf);
    pfl_buf_deinit(&root);
    node_free(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roots__of_others_stay_and_the_cas_are_replaced),
        cmocka_unit_test(test_roots__of_a_file_without_the_lines__replaced),
        cmocka_unit_test(test_roots__rubbish_from_the_ca__refused),
        cmocka_unit_test(test_keys__fresh_of_the_same_kind_or_kept),
        cmocka_unit_test(test_contents__keys_stay_as_secret_as_they_were),
        cmocka_unit_test(test_contents__something_is_missing__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
