/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki api runtime */
/* support: certs */
/* timeout: 120 */
/* An embedded node whose certificate files change while it runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "p2pfl/p2pfl.h"
#include "pki/key.h"
#include "support/certs.h"

static const size_t shape[] = {1};
static const struct p2pfl_tensor tensor = {"w", 1, shape};

struct seen {
    atomic_uint taken, refused;
};

static int t_init(void *user, float *params, size_t n)
{
    (void)user;
    memset(params, 0, n * sizeof(*params));
    return 0;
}

static int t_fit(void *user, float *params, size_t n, unsigned epochs, uint64_t seed, uint64_t *ret_samples, double *ret_loss)
{
    (void)user;
    (void)params;
    (void)n;
    (void)epochs;
    (void)seed;
    *ret_samples = 1;
    *ret_loss = 0;
    return 0;
}

static int t_evaluate(void *user, const float *params, size_t n, double *ret_loss, double *ret_accuracy)
{
    (void)user;
    (void)params;
    (void)n;
    *ret_loss = *ret_accuracy = 0;
    return 0;
}

static void t_event(void *user, const char *json)
{
    struct seen *seen = user;
    if (strstr(json, "\"event\":\"certificate\""))
        atomic_fetch_add(&seen->taken, 1);
    if (strstr(json, "\"event\":\"certificate_refused\""))
        atomic_fetch_add(&seen->refused, 1);
}

static void put_pair(const char *crt, const char *key, const struct test_cert *ca)
{
    static const char *const EXTS[] = {"basicConstraints=critical,CA:FALSE", "subjectAltName=IP:127.0.0.1",
                                       "extendedKeyUsage=serverAuth,clientAuth", NULL};
    struct pfl_err err = {0};
    struct test_cert c = test_cert_make(&(struct test_cert_spec){.cn = "node", .exts = EXTS}, ca);
    X509 *list[] = {c.cert, NULL};
    (void)unlink(crt);
    test_certs_write(crt, list);
    if (key) {
        (void)unlink(key);
        if (pfl_key_save_new(key, c.key, NULL, &err) != PFL_OK)
            fail_msg("%s", err.msg);
    }
    test_cert_free(&c);
}

static void wait_for(const atomic_uint *counter, unsigned value)
{
    for (int i = 0; i < 6000 && atomic_load(counter) < value; i++)
        uv_sleep(10);
    assert_true(atomic_load(counter) >= value);
}

static void test_files__change_while_the_node_runs__taken_when_they_fit(void **state)
{
    (void)state;
    static const char *const CA_EXTS[] = {"basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign", NULL};
    struct seen seen = {0};
    char error[P2PFL_ERROR_MAX] = "", *dir = test_dir_new();
    struct test_cert ca = test_cert_make(&(struct test_cert_spec){.cn = "lab CA", .exts = CA_EXTS}, NULL);
    char *root = pfl_fs_join(dir, "ca.crt"), *crt = pfl_fs_join(dir, "node.crt"), *key = pfl_fs_join(dir, "node.key");
    test_certs_write(root, (X509 *[]){ca.cert, NULL});
    put_pair(crt, key, &ca);
    const struct p2pfl_config c = {.address = "127.0.0.1:0",
                                   .ca_crt = root,
                                   .server_crt = crt,
                                   .server_key = key,
                                   .client_crt = crt,
                                   .client_key = key,
                                   .on_event = t_event,
                                   .user = &seen};
    const struct p2pfl_learner l = {.tensors = &tensor, .n_tensors = 1, .init = t_init, .fit = t_fit, .evaluate = t_evaluate};
    struct p2pfl_node *n = p2pfl_node_start(&c, &l, error);
    if (!n)
        fail_msg("%s", error);
    put_pair(crt, NULL, &ca); /* the other half is missing: the old pair stays */
    wait_for(&seen.refused, 1);
    assert_int_equal(atomic_load(&seen.taken), 0);
    put_pair(crt, key, &ca);
    wait_for(&seen.taken, 1);
    p2pfl_node_free(n);
    test_cert_free(&ca);
    test_dir_free(dir);
    free(root);
    free(crt);
    free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_files__change_while_the_node_runs__taken_when_they_fit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
