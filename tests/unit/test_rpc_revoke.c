/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki tls rpc */
/* support: rpc_kit certs crls */
/* timeout: 120 */
/* Revocation on live connections, in both directions, and at the next handshake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "pki/cert.h"
#include "support/crls.h"
#include "support/rpc_kit.h"

static const char *const ADDRESS = "127.0.0.1:0";

/* The kit names each certificate's files after its subject. */
static X509 *cert_of(const struct kit *k, const struct pfl_tls *tls)
{
    char path[300];
    struct stack_st_X509 *certs = NULL;
    snprintf(path, sizeof path, "%s/%s.crt", k->dir, pfl_tls_client_identity(tls)->subject + strlen("CN="));
    assert_int_equal(pfl_certs_load(path, &certs, NULL), PFL_OK);
    X509 *cert = pfl_x509s_at(certs, 0);
    X509_up_ref(cert);
    pfl_x509s_free(certs);
    return cert;
}

/* A context like tls with a CRL of the kit's CA that revokes whom (NULL: nobody). */
static struct pfl_tls *revoking(const struct kit *k, struct pfl_tls *tls, const struct pfl_tls *whom, const char *number)
{
    int64_t now = pfl_clock_wall() / PFL_SEC;
    struct pfl_crl_set *set = NULL;
    struct pfl_err err = {0};
    X509 *certs[] = {whom ? cert_of(k, whom) : NULL, NULL};
    const struct test_crl_spec spec = {
        .number = number, .this_update = now - 60, .next_update = now + 3600, .revoked = certs, .reason = 1};
    struct pfl_buf der = test_crl_make(&spec, &k->ca);
    if (pfl_tls_crl_accept(tls, pfl_buf_view(&der), now, &set, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    struct pfl_tls *with = pfl_tls_with_crls(tls, set);
    pfl_crl_set_unref(set);
    pfl_buf_deinit(&der);
    X509_free(certs[0]);
    return with;
}

struct dropped {
    unsigned n;
    enum pfl_verify_why why;
    char reason[PFL_ERR_MAX], who[160];
};

static void on_dropped(void *user, const struct pfl_rpc_peer *peer, enum pfl_verify_why why, const char *reason)
{
    struct dropped *d = user;
    d->n++;
    d->why = why;
    snprintf(d->reason, sizeof d->reason, "%s", reason);
    snprintf(d->who, sizeof d->who, "%s", pfl_identity_text(peer->identity));
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' lacks '%s'", text, part);
}

static void test_server_revise__client_revoked__closed_at_once_and_kept_out(void **state)
{
    struct kit *k = *state;
    struct dropped d = {0};
    struct pfl_tls *bad = kit_tls(k, NULL, NULL, false), *good = kit_tls(k, NULL, NULL, false);
    kit_serve(k, ADDRESS, k->tls);
    struct pfl_rpc_channel *out = kit_channel(k, pfl_rpc_server_address(k->server), bad);
    struct pfl_rpc_channel *stays = kit_channel(k, pfl_rpc_server_address(k->server), good);
    kit_call(k, out, "/t.T/empty", "", 0, 5 * PFL_SEC);
    kit_call(k, stays, "/t.T/empty", "", 0, 5 * PFL_SEC);
    pfl_rpc_channel_call(out, "/t.T/hold", NULL, 0, kit_done, k);
    unsigned handled = k->n_handled, done = k->n_done;
    kit_until(k, &k->n_handled, handled + (k->held ? 0 : 1));

    struct pfl_tls *with = revoking(k, k->tls, bad, "1");
    assert_int_equal(pfl_rpc_server_revise(k->server, with, on_dropped, &d), 1);
    assert_int_equal(d.n, 1);
    assert_int_equal(d.why, PFL_WHY_REVOKED);
    assert_has(d.reason, "revoked on ");
    assert_has(d.reason, "(keyCompromise) by CRL number 1 of 'CN=kit CA'");
    assert_has(d.who, pfl_identity_text(pfl_tls_client_identity(bad)));
    kit_until(k, &k->n_done, done + 1);
    assert_int_equal(k->status.code, PFL_GRPC_UNAVAILABLE);
    assert_has(k->down_reason, "revoked on "); /* it is told why */
    assert_false(pfl_rpc_call_alive(k->held));
    pfl_rpc_call_reply(k->held, NULL);
    k->held = NULL;

    /* not again either; and it learns the reason, the server says it */
    kit_call(k, out, "/t.T/empty", "", 0, 5 * PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_UNAUTHENTICATED);
    assert_has(k->down_reason, "the peer says that our certificate is revoked");
    assert_true(pfl_rpc_channel_told_revoked(out) && !pfl_rpc_channel_told_revoked(stays));
    assert_has(k->refused_reason, "certificate refused: revoked on ");
    kit_call(k, stays, "/t.T/empty", "", 0, 5 * PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);

    /* the same again changes nothing */
    assert_int_equal(pfl_rpc_server_revise(k->server, with, on_dropped, &d), 0);
    kit_close_channel(k, out);
    kit_close_channel(k, stays);
    pfl_tls_unref(with);
    pfl_tls_unref(bad);
    pfl_tls_unref(good);
}

static void test_channel_revise__server_revoked__closed_at_once_and_not_dialled(void **state)
{
    struct kit *k = *state;
    struct dropped d = {0};
    struct pfl_tls *mine = kit_tls(k, NULL, NULL, false);
    kit_serve(k, ADDRESS, k->tls);
    struct pfl_rpc_channel *ch = kit_channel(k, pfl_rpc_server_address(k->server), mine);
    kit_call(k, ch, "/t.T/empty", "", 0, 5 * PFL_SEC);
    struct pfl_tls *clean = revoking(k, mine, NULL, "1"), *with = revoking(k, clean, k->tls, "2");
    assert_false(pfl_rpc_channel_revise(ch, clean, on_dropped, &d));
    kit_call(k, ch, "/t.T/empty", "", 0, 5 * PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_int_equal(k->n_up, 1);
    assert_true(pfl_rpc_channel_revise(ch, with, on_dropped, &d));
    assert_int_equal(d.why, PFL_WHY_REVOKED);
    kit_until(k, &k->n_down, 1);
    assert_int_equal(k->down_rc, PFL_AUTH);
    assert_has(k->down_reason, "certificate refused: revoked on ");
    kit_call(k, ch, "/t.T/empty", "", 0, 5 * PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_UNAUTHENTICATED);
    assert_has(k->status.message, "revoked on ");
    assert_false(pfl_rpc_channel_told_revoked(ch));
    kit_close_channel(k, ch);
    pfl_tls_unref(clean);
    pfl_tls_unref(with);
    pfl_tls_unref(mine);
}

static void test_revise__handshake_under_way__judged_by_the_new_crl(void **state)
{
    struct kit *k = *state;
    struct pfl_tls *bad = kit_tls(k, NULL, NULL, false);
    struct pfl_tls *with = revoking(k, k->tls, bad, "1");
    for (unsigned steps = 1; steps < 12; steps++) { /* whatever the handshake is at: the revoked one gets no call through */
        kit_serve(k, ADDRESS, k->tls);
        struct pfl_rpc_channel *ch = kit_channel(k, pfl_rpc_server_address(k->server), bad);
        unsigned done = k->n_done, handled;
        pfl_rpc_channel_connect(ch);
        for (unsigned i = 0; i < steps; i++)
            uv_run(&k->loop, UV_RUN_NOWAIT);
        (void)pfl_rpc_server_revise(k->server, with, NULL, NULL);
        handled = k->n_handled;
        pfl_rpc_channel_call(ch, "/t.T/empty", NULL, 5 * PFL_SEC, kit_done, k);
        kit_until(k, &k->n_done, done + 1);
        assert_int_not_equal(k->status.code, PFL_GRPC_OK);
        assert_int_equal(k->n_handled, handled);
        kit_close_channel(k, ch);
        kit_close_server(k, 0);
    }
    pfl_tls_unref(with);
    pfl_tls_unref(bad);
}

static void test_crl_accept__older_and_foreign__refused_and_the_same_is_known(void **state)
{
    struct kit *k = *state;
    struct pfl_err err = {0};
    struct pfl_crl_set *set = NULL;
    int64_t now = pfl_clock_wall() / PFL_SEC;
    struct pfl_tls *two = revoking(k, k->tls, NULL, "2");
    const struct test_crl_spec old = {.number = "1", .this_update = now - 7200, .next_update = now + 3600, .reason = -1};
    struct pfl_buf der = test_crl_make(&old, &k->ca), foreign = test_crl_make(&old, &k->other_ca);
    assert_int_equal(pfl_tls_crl_accept(two, pfl_buf_view(&der), now, &set, &err), PFL_STATE);
    assert_has(err.msg, "older than the one in use: number 1 of 'CN=kit CA', in use is 2");
    assert_int_equal(pfl_tls_crl_accept(two, pfl_buf_view(&foreign), now, &set, &err), PFL_NOT_FOUND);
    assert_int_equal(pfl_tls_crl_accept(two, pfl_crl_der(pfl_crl_set_at(pfl_tls_crls(two), 0)), now, &set, &err), PFL_EXISTS);
    assert_int_equal(pfl_tls_crls_accept(two, pfl_buf_view(&der), now, &set, &err), PFL_STATE);
    assert_int_equal(pfl_tls_check_own(two, now, NULL, &err), PFL_OK);
    struct pfl_tls *self = revoking(k, two, two, "3");
    enum pfl_verify_why why = PFL_WHY_OTHER;
    assert_int_equal(pfl_tls_check_own(self, now, &why, &err), PFL_AUTH);
    assert_int_equal(why, PFL_WHY_REVOKED);
    assert_has(err.msg, "server certificate: revoked on ");
    pfl_tls_unref(self);
    pfl_tls_unref(two);
    pfl_buf_deinit(&der);
    pfl_buf_deinit(&foreign);
}

/* Files of one good certificate in the kit's folder, and a CRL file beside them. */
struct files {
    char ca[300], crt[300], key[300], crl[300], kept[300];
    struct pfl_tls_files f;
};

static void files_of(const struct kit *k, struct files *f, enum pfl_crl_policy policy)
{
    const char *name = pfl_tls_client_identity(k->tls)->subject + strlen("CN=");
    snprintf(f->ca, sizeof f->ca, "%s/%s-ca.crt", k->dir, name);
    snprintf(f->crt, sizeof f->crt, "%s/%s.crt", k->dir, name);
    snprintf(f->key, sizeof f->key, "%s/%s.key", k->dir, name);
    snprintf(f->crl, sizeof f->crl, "%s/crl.pem", k->dir);
    snprintf(f->kept, sizeof f->kept, "%s/kept.pem", k->dir);
    f->f = (struct pfl_tls_files){.ca_crt = f->ca,
                                  .server_crt = f->crt,
                                  .server_key = f->key,
                                  .client_crt = f->crt,
                                  .client_key = f->key,
                                  .crl = f->crl,
                                  .crl_kept = f->kept,
                                  .crl_policy = policy};
}

static void append_crl(const char *path, const char *number, const struct test_cert *ca)
{
    int64_t now = pfl_clock_wall() / PFL_SEC;
    const struct test_crl_spec spec = {.number = number, .this_update = now - 60, .next_update = now + 3600, .reason = -1};
    struct pfl_buf der = test_crl_make(&spec, ca);
    test_crl_append(path, &der);
    pfl_buf_deinit(&der);
}

static void test_tls_new__crl_files__by_policy_and_never_backwards(void **state)
{
    struct kit *k = *state;
    struct files f;
    struct pfl_err err = {0};
    struct pfl_tls *tls = NULL;
    files_of(k, &f, PFL_CRL_REQUIRE);
    assert_int_equal(pfl_tls_new(&f.f, &tls, &err), PFL_AUTH);
    assert_has(err.msg, "crl.pem");
    assert_has(err.msg, "crl_policy is require");
    f.f.crl = NULL;
    assert_int_equal(pfl_tls_new(&f.f, &tls, &err), PFL_AUTH);
    assert_has(err.msg, "no CRL file is named: crl_policy is require");
    files_of(k, &f, PFL_CRL_PREFER);
    assert_int_equal(pfl_tls_new(&f.f, &tls, &err), PFL_OK);
    assert_int_equal(pfl_crl_set_n(pfl_tls_crls(tls)), 0);
    pfl_tls_unref(tls);
    append_crl(f.kept, "9", &k->ca); /* the program saw number 9 */
    append_crl(f.crl, "8", &k->ca);  /* somebody put 8 back */
    files_of(k, &f, PFL_CRL_REQUIRE);
    assert_int_equal(pfl_tls_new(&f.f, &tls, &err), PFL_OK);
    assert_string_equal(pfl_crl_number_hex(pfl_crl_set_at(pfl_tls_crls(tls), 0)), "9");
    pfl_tls_unref(tls);
    append_crl(f.crl, "10", &k->ca);
    assert_int_equal(pfl_tls_new(&f.f, &tls, &err), PFL_OK);
    assert_string_equal(pfl_crl_number_hex(pfl_crl_set_at(pfl_tls_crls(tls), 0)), "A");
    pfl_tls_unref(tls);
    assert_int_equal(pfl_fs_write_atomic(f.crl, pfl_bytes_of("garbage", 7), 0644, &err), PFL_OK);
    files_of(k, &f, PFL_CRL_PREFER);
    assert_int_equal(pfl_tls_new(&f.f, &tls, &err), PFL_MALFORMED);
    assert_has(err.msg, "crl.pem: no CRL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_server_revise__client_revoked__closed_at_once_and_kept_out, kit_set_up, kit_tear_down),
        cmocka_unit_test_setup_teardown(test_channel_revise__server_revoked__closed_at_once_and_not_dialled, kit_set_up,
                                        kit_tear_down),
        cmocka_unit_test_setup_teardown(test_revise__handshake_under_way__judged_by_the_new_crl, kit_set_up, kit_tear_down),
        cmocka_unit_test_setup_teardown(test_crl_accept__older_and_foreign__refused_and_the_same_is_known, kit_set_up,
                                        kit_tear_down),
        cmocka_unit_test_setup_teardown(test_tls_new__crl_files__by_policy_and_never_backwards, kit_set_up, kit_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
