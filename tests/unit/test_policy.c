/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* support: certs */
/* Who may do what: by role, and narrowed by lists. And the signatures that say who somebody is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pki/policy.h"
#include "pki/sign.h"
#include "support/certs.h"

enum { NONE = 0, NODE = PFL_RIGHT_CONNECT | PFL_RIGHT_TRAIN, ALL = NODE | PFL_RIGHT_START };

static struct pfl_identity *identity(const char *uri)
{
    struct pfl_identity *id = NULL;
    PFL_AUTO(pfl_freep) char *san = pfl_xasprintf("subjectAltName=IP:127.0.0.1%s%s", uri ? ",URI:" : "", uri ? uri : "");
    const char *exts[] = {san, NULL};
    struct test_cert c = test_cert_make(&(struct test_cert_spec){.cn = "x", .exts = exts}, NULL);
    assert_int_equal(pfl_identity_of_x509(c.cert, &id, NULL), PFL_OK);
    test_cert_free(&c);
    return id;
}

static void test_policy__roles_and_lists(void **state)
{
    (void)state;
    static const struct {
        const char *name, *uri, *without_role, *connect, *train, *start;
        bool federated;
        unsigned want;
    } rows[] = {
        {"a node", "spiffe://lab/node/a", NULL, NULL, NULL, NULL, true, NODE},
        {"a coordinator", "spiffe://lab/coordinator/a", NULL, NULL, NULL, NULL, true, ALL},
        {"an observer", "spiffe://lab/observer/a", NULL, NULL, NULL, NULL, true, NONE},
        {"the CA's service", "spiffe://lab/ca/a", NULL, NULL, NULL, NULL, true, NONE},
        {"no role, a CA made by hand", NULL, NULL, NULL, NULL, NULL, false, ALL},
        {"no role, a federation's CA", NULL, NULL, NULL, NULL, NULL, true, NODE},
        {"no role, the operator says so", NULL, "coordinator", NULL, NULL, NULL, true, ALL},
        {"no role, the operator wants none", NULL, "none", NULL, NULL, NULL, false, NONE},
        {"no role, a list", NULL, NULL, NULL, NULL, "spiffe://lab/*", false, NODE},
        {"who may start, another", "spiffe://lab/coordinator/a", NULL, NULL, NULL, "spiffe://lab/coordinator/b", true, NODE},
        {"who may start, it", "spiffe://lab/coordinator/a", NULL, NULL, NULL, "spiffe://lab/coordinator/a", true, ALL},
        {"a list widens nothing", "spiffe://lab/node/a", NULL, NULL, NULL, "spiffe://lab/node/a", true, NODE},
        {"who may train, another", "spiffe://lab/coordinator/a", NULL, NULL, "spiffe://lab/node/*", NULL, true,
         PFL_RIGHT_CONNECT | PFL_RIGHT_START},
        {"who may connect, another federation", "spiffe://lab2/coordinator/a", NULL, "spiffe://lab/*", NULL, NULL, true, NONE},
        {"a name that begins like it", "spiffe://lab/node/ab", NULL, "spiffe://lab/node/a", NULL, NULL, true, NONE},
    };
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        PFL_AUTO(pfl_policy_deinit) struct pfl_policy p = {0};
        PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = identity(rows[i].uri);
        p.without_role = rows[i].without_role ? pfl_xstrdup(rows[i].without_role) : NULL;
        if (rows[i].connect)
            pfl_strs_add(&p.connect, rows[i].connect);
        if (rows[i].train)
            pfl_strs_add(&p.train, rows[i].train);
        if (rows[i].start)
            pfl_strs_add(&p.start, rows[i].start);
        if (pfl_policy_rights(&p, id, rows[i].federated) != rows[i].want)
            fail_msg("%s: %u", rows[i].name, pfl_policy_rights(&p, id, rows[i].federated));
    }
}

static void test_policy_pattern__only_spiffe_ids_and_a_last_star(void **state)
{
    (void)state;
    static const char *const good[] = {"spiffe://lab/node/a", "spiffe://lab/*", "spiffe://*"};
    static const char *const bad[] = {"", "*", "lab/node/a", "spiffe://", "spiffe://*/node/a", "spiffe://lab/**", "http://lab/*"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(good); i++)
        assert_true(pfl_policy_pattern_valid(good[i]));
    for (size_t i = 0; i < PFL_ARRAY_LEN(bad); i++) {
        if (pfl_policy_pattern_valid(bad[i]))
            fail_msg("%s", bad[i]);
    }
}

static void test_sign__each_kind_of_key__verifies_and_nothing_else_does(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        bool fast;
    } rows[] = {{"p256", true}, {"ed25519", true}, {"rsa:2048", false}};
    const struct pfl_bytes text = {(const uint8_t *)"what was said", 13}, other = {(const uint8_t *)"what was sayd", 13};
    struct test_cert stranger = test_cert_make(&(struct test_cert_spec){.cn = "x"}, NULL);
    for (size_t i = 0; i < PFL_ARRAY_LEN(rows); i++) {
        struct test_cert c = test_cert_make(&(struct test_cert_spec){.cn = "x", .key = rows[i].key}, NULL);
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf sig = {0};
        EVP_PKEY *key = pfl_cert_key(c.cert);
        assert_int_equal(pfl_sign(c.key, text, &sig, NULL), PFL_OK);
        assert_true(pfl_sign_is_fast(c.key) == rows[i].fast);
        assert_true(pfl_sign_verify(key, text, pfl_buf_view(&sig)));
        assert_false(pfl_sign_verify(key, other, pfl_buf_view(&sig)));
        assert_false(pfl_sign_verify(stranger.key, text, pfl_buf_view(&sig)));
        for (size_t cut = 0; cut < sig.len; cut += 7)
            assert_false(pfl_sign_verify(key, text, pfl_bytes_of(sig.data, cut)));
        sig.data[sig.len / 2] ^= 1;
        assert_false(pfl_sign_verify(key, text, pfl_buf_view(&sig)));
        EVP_PKEY_free(key);
        test_cert_free(&c);
    }
    test_cert_free(&stranger);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policy__roles_and_lists),
        cmocka_unit_test(test_policy_pattern__only_spiffe_ids_and_a_last_star),
        cmocka_unit_test(test_sign__each_kind_of_key__verifies_and_nothing_else_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
