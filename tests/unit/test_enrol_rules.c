/* SPDX-License-Identifier: Apache-2.0 */
/* link: pki */
/* support: certs */
/* timeout: 120 */
/* What a CA's service decides, without a network: tokens, requests for approval, renewal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fs.h"
#include "pki/ca_admin.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/enrol.h"
#include "pki/est.h"
#include "pki/node_files.h"
#include "pki/register.h"
#include "pki/request.h"
#include "pki/token.h"
#include "support/certs.h"

struct fixture {
    char *dir, *ca_dir;
    struct pfl_ca *ca;
    struct pfl_node_keys keys, other;
    struct pfl_err err;
    int64_t now;
};

static int setup(void **state)
{
    struct fixture *f = pfl_xcalloc(1, sizeof *f);
    f->dir = test_dir_new();
    f->ca_dir = pfl_fs_join(f->dir, "ca");
    f->now = pfl_clock_wall() / PFL_SEC;
    const struct pfl_ca_opts opts = {.federation = "hospitals", .now = f->now - 30 * 86400};
    assert_int_equal(pfl_ca_init(f->ca_dir, &opts, NULL, &f->err), PFL_OK);
    assert_int_equal(pfl_ca_open(f->ca_dir, NULL, &f->ca, &f->err), PFL_OK);
    assert_int_equal(pfl_node_keys_make(NULL, NULL, NULL, NULL, &f->keys, &f->err), PFL_OK);
    assert_int_equal(pfl_node_keys_make(NULL, NULL, NULL, NULL, &f->other, &f->err), PFL_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    pfl_ca_close(f->ca);
    pfl_node_keys_deinit(&f->keys);
    pfl_node_keys_deinit(&f->other);
    test_dir_free(f->dir);
    free(f->ca_dir);
    free(f);
    return 0;
}

static char *token(struct fixture *f, const char *name, int64_t *ret_id)
{
    char *text = NULL;
    int64_t id = 0;
    struct pfl_token_opts opts = {.name = name, .actor = "test", .now = f->now};
    pfl_strs_add(&opts.sans, "IP:127.0.0.1");
    if (pfl_token_make(pfl_ca_register(f->ca), &opts, &text, &id, &f->err) != PFL_OK)
        fail_msg("%s", f->err.msg);
    pfl_strs_deinit(&opts.sans);
    if (ret_id)
        *ret_id = id;
    return text;
}

static enum pfl_rc enrol(struct fixture *f, const char *text, const struct pfl_node_keys *keys, bool approve,
                         struct pfl_enrol_answer *ret)
{
    const struct pfl_enrol_ask ask = {
        .token = text,
        .server_csr = pfl_buf_view(&keys->server_csr),
        .client_csr = pfl_buf_view(&keys->client_csr),
        .remote = "192.0.2.7:1",
        .lifetime_s = 3600,
        .approve = approve,
        .now = f->now,
    };
    f->err = (struct pfl_err){0};
    return pfl_enrol(f->ca, &ask, ret, &f->err);
}

static void refuse(struct fixture *f, const char *text, const struct pfl_node_keys *keys, enum pfl_rc rc, const char *says)
{
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer a = {0};
    enum pfl_rc got = enrol(f, text, keys, false, &a);
    if (got != rc || !strstr(f->err.msg, says))
        fail_msg("'%s': %s: %s", says, pfl_rc_text(got), f->err.msg);
    assert_null(a.server);
    assert_false(pfl_register_in_transaction(pfl_ca_register(f->ca)));
}

static void test_token_make__bad_wishes__refused(void **state)
{
    struct fixture *f = *state;
    char *text = NULL;
    int64_t id = 0;
    struct pfl_token_opts opts = {.name = "a", .actor = "test"};
    struct pfl_register *r = pfl_ca_register(f->ca);
    assert_int_equal(pfl_token_make(r, &opts, &text, &id, &f->err), PFL_INVALID); /* no names */
    pfl_strs_add(&opts.sans, "IP:1.2.3");
    assert_int_equal(pfl_token_make(r, &opts, &text, &id, &f->err), PFL_INVALID);
    pfl_strs_deinit(&opts.sans);
    pfl_strs_add(&opts.sans, "IP:127.0.0.1");
    opts.name = "../a";
    assert_int_equal(pfl_token_make(r, &opts, &text, &id, &f->err), PFL_INVALID);
    opts.name = "a";
    opts.role = "ca";
    assert_int_equal(pfl_token_make(r, &opts, &text, &id, &f->err), PFL_INVALID);
    opts.role = NULL;
    opts.ttl_s = PFL_TOKEN_TTL_MAX_S + 1;
    assert_int_equal(pfl_token_make(r, &opts, &text, &id, &f->err), PFL_INVALID);
    assert_null(text);
    pfl_strs_deinit(&opts.sans);
}

static void test_enrol__tokens_that_are_none__refused(void **state)
{
    struct fixture *f = *state;
    PFL_AUTO(pfl_freep) char *text = token(f, "a", NULL);
    PFL_AUTO(pfl_freep) char *wrong = pfl_xstrdup(text);
    wrong[strlen(wrong) - 2] = wrong[strlen(wrong) - 2] == 'A' ? 'B' : 'A';
    static const char *const NONE[] = {"", ".", "1", "1.", "0.x", "-1.x", "99999999999999999999.x", "1.x.y", "2.AAAA"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(NONE); i++)
        refuse(f, NONE[i], &f->keys, PFL_NOT_FOUND, "knows no such token");
    refuse(f, wrong, &f->keys, PFL_NOT_FOUND, "knows no such token");
    f->now += PFL_TOKEN_TTL_DEFAULT_S;
    refuse(f, text, &f->keys, PFL_AUTH, "expired on");
}

static void test_enrol__used_token__same_keys_get_the_same_again__others_nothing(void **state)
{
    struct fixture *f = *state;
    PFL_AUTO(pfl_freep) char *text = token(f, "a", NULL);
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer first = {0}, again = {0};
    if (enrol(f, text, &f->keys, false, &first) != PFL_OK || enrol(f, text, &f->keys, false, &again) != PFL_OK)
        fail_msg("%s", f->err.msg);
    PFL_AUTO(pfl_freep) char *one = pfl_cert_pem(first.server);
    PFL_AUTO(pfl_freep) char *two = pfl_cert_pem(again.server);
    assert_string_equal(one, two);
    assert_string_equal(first.name, "a");
    refuse(f, text, &f->other, PFL_AUTH, "was used on");
    size_t n = 0;
    assert_int_equal(pfl_ca_revoke(f->ca, "a", "superseded", "test", &n, &f->err), PFL_OK);
    assert_int_equal(n, 2);
    refuse(f, text, &f->keys, PFL_AUTH, "its certificates are revoked");
}

static void test_enrol__one_of_the_pair_refused__token_unused_and_nothing_issued(void **state)
{
    struct fixture *f = *state;
    PFL_AUTO(pfl_freep) char *text = token(f, "a", NULL);
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs sans = {0};
    pfl_strs_add(&sans, "DNS:evil.example");
    PFL_AUTO(pfl_node_keys_deinit) struct pfl_node_keys half = {0};
    assert_int_equal(pfl_node_keys_make("a", NULL, NULL, NULL, &half, &f->err), PFL_OK);
    pfl_buf_clear(&half.client_csr);
    assert_int_equal(pfl_csr_make("a", &sans, "clientAuth", half.client, &half.client_csr, &f->err), PFL_OK);
    refuse(f, text, &half, PFL_AUTH, "DNS:evil.example");
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer a = {0};
    if (enrol(f, text, &f->keys, false, &a) != PFL_OK)
        fail_msg("%s", f->err.msg);
}

static void test_approval__pending_denied_approved(void **state)
{
    struct fixture *f = *state;
    struct pfl_register *r = pfl_ca_register(f->ca);
    int64_t id = 0;
    PFL_AUTO(pfl_freep) char *text = token(f, "a", &id);
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer first = {0}, second = {0}, polled = {0}, done = {0}, none = {0};
    assert_int_equal(enrol(f, text, &f->keys, true, &first), PFL_OK);
    assert_true(first.pending);
    assert_int_equal(enrol(f, text, &f->keys, true, &second), PFL_OK); /* the same request, a new secret */
    assert_int_equal(enrol(f, text, &f->other, true, &none), PFL_AUTH);
    assert_int_equal(pfl_enrol_poll(f->ca, first.request_id, 3600, f->now, &none, &f->err), PFL_NOT_FOUND);
    assert_int_equal(pfl_enrol_poll(f->ca, second.request_id, 3600, f->now, &polled, &f->err), PFL_OK);
    assert_true(polled.pending);
    PFL_AUTO(pfl_request_deinit) struct pfl_request q = {0};
    assert_int_equal(pfl_request_by_token(r, id, f->now, &q, &f->err), PFL_OK);
    assert_int_equal(pfl_request_decide(r, q.id, true, "a", "test", f->now, &f->err), PFL_OK);
    assert_int_equal(pfl_request_decide(r, q.id, false, "a", "test", f->now, &f->err), PFL_STATE);
    assert_int_equal(pfl_enrol_poll(f->ca, second.request_id, 3600, f->now, &done, &f->err), PFL_OK);
    assert_non_null(done.server);
    assert_int_equal(pfl_enrol_poll(f->ca, second.request_id, 3600, f->now + PFL_REQUEST_LIFE_S, &none, &f->err), PFL_NOT_FOUND);
}

static void test_approval__token_revoked_meanwhile__nothing(void **state)
{
    struct fixture *f = *state;
    struct pfl_register *r = pfl_ca_register(f->ca);
    int64_t id = 0;
    PFL_AUTO(pfl_freep) char *text = token(f, "a", &id);
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer first = {0}, none = {0};
    PFL_AUTO(pfl_request_deinit) struct pfl_request q = {0};
    assert_int_equal(enrol(f, text, &f->keys, true, &first), PFL_OK);
    assert_int_equal(pfl_request_by_token(r, id, f->now, &q, &f->err), PFL_OK);
    assert_int_equal(pfl_request_decide(r, q.id, true, "a", "test", f->now, &f->err), PFL_OK);
    assert_int_equal(pfl_token_revoke(r, id, "test", &f->err), PFL_OK);
    assert_int_equal(pfl_enrol_poll(f->ca, first.request_id, 3600, f->now, &none, &f->err), PFL_AUTH);
}

static enum pfl_rc renew(struct fixture *f, struct x509_st *with, struct pfl_enrol_answer *ret)
{
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    assert_int_equal(pfl_identity_of_x509(with, &id, &f->err), PFL_OK);
    const struct pfl_enrol_ask ask = {
        .server_csr = pfl_buf_view(&f->other.server_csr),
        .client_csr = pfl_buf_view(&f->other.client_csr),
        .peer = id,
        .lifetime_s = 86400,
        .now = f->now,
    };
    return pfl_enrol_renew(f->ca, &ask, ret, &f->err);
}

static void test_renew__revoked_or_the_services_own__refused__valid__same_names_and_no_longer(void **state)
{
    struct fixture *f = *state;
    PFL_AUTO(pfl_freep) char *text = token(f, "a", NULL);
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer a = {0}, renewed = {0}, none = {0};
    PFL_AUTO(pfl_service_identity_deinit) struct pfl_service_identity service = {0};
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs sans = {0};
    pfl_strs_add(&sans, "IP:127.0.0.1");
    assert_int_equal(pfl_enrol_service_identity(f->ca, &sans, 3600, f->now, &service, &f->err), PFL_OK);
    assert_int_equal(renew(f, service.crt, &none), PFL_AUTH);
    assert_int_equal(enrol(f, text, &f->keys, false, &a), PFL_OK);
    if (renew(f, a.client, &renewed) != PFL_OK)
        fail_msg("%s", f->err.msg);
    assert_true(pfl_cert_not_after(renewed.client) - f->now <= 3600 + 1);
    assert_string_equal(renewed.sans.items[0], "IP:127.0.0.1");
    size_t n = 0;
    assert_int_equal(pfl_ca_revoke(f->ca, "a", "keyCompromise", "test", &n, &f->err), PFL_OK);
    assert_int_equal(renew(f, a.client, &none), PFL_AUTH);
    assert_non_null(strstr(f->err.msg, "is revoked (keyCompromise)"));
}

/* The service's handshake refuses it first; this is what counts when the two happen at once. */
static void test_renew__root_rolled_over__refused_with_the_reason(void **state)
{
    struct fixture *f = *state;
    PFL_AUTO(pfl_freep) char *text = token(f, "a", NULL);
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer a = {0}, renewed = {0}, none = {0};
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *other = NULL;
    assert_int_equal(enrol(f, text, &f->keys, false, &a), PFL_OK);
    assert_int_equal(pfl_ca_open(f->ca_dir, NULL, &other, &f->err), PFL_OK);
    assert_int_equal(pfl_ca_rollover_prepare(other, &(struct pfl_ca_opts){0}, "test", &f->err), PFL_OK);
    assert_int_equal(pfl_ca_rollover_activate(other, "test", &f->err), PFL_OK);
    if (renew(f, a.client, &renewed) != PFL_OK)
        fail_msg("%s", f->err.msg);
    assert_int_equal(pfl_ca_rollover_finish(other, true, "test", &f->err), PFL_OK);
    assert_int_equal(renew(f, a.client, &none), PFL_AUTH);
    assert_non_null(strstr(f->err.msg, "its root has been rolled over"));
    pfl_enrol_answer_deinit(&renewed);
    assert_int_equal(enrol(f, text, &f->keys, false, &none), PFL_AUTH); /* the used token does not give the old ones again either */
}

/* An expired certificate can be renewed where the service allows it, but not behind a revocation of its name. */
static void test_renew__expired__not_behind_a_revocation_of_the_name(void **state)
{
    struct fixture *f = *state;
    PFL_AUTO(pfl_freep) char *text = token(f, "a", NULL);
    PFL_AUTO(pfl_freep) char *again = token(f, "a", NULL);
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer old = {0}, next = {0}, new = {0}, none = {0}, fine = {0};
    size_t n = 0;
    f->now -= 2 * 86400; /* the service's clock; the commands' is the system's */
    assert_int_equal(enrol(f, text, &f->keys, false, &old), PFL_OK);
    f->now += 2 * 86400; /* it lasts an hour: expired long ago */
    if (renew(f, old.client, &next) != PFL_OK)
        fail_msg("%s", f->err.msg);
    assert_int_equal(pfl_ca_revoke(f->ca, "a", "keyCompromise", "test", &n, &f->err), PFL_OK);
    assert_int_equal(n, 2); /* what was in time */
    assert_int_equal(renew(f, old.client, &none), PFL_AUTH);
    assert_non_null(strstr(f->err.msg, "has expired, and a certificate of that name was revoked on"));
    f->now = pfl_clock_wall() / PFL_SEC + 60;
    assert_int_equal(enrol(f, again, &f->keys, false, &new), PFL_OK); /* a new member of that name is not to pay for it */
    f->now += 7200;
    if (renew(f, new.client, &fine) != PFL_OK)
        fail_msg("%s", f->err.msg);
}

static void test_revoke__nothing_in_time__the_expired_ones(void **state)
{
    struct fixture *f = *state;
    PFL_AUTO(pfl_freep) char *text = token(f, "a", NULL);
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer old = {0}, none = {0};
    size_t n = 0;
    f->now -= 2 * 86400;
    assert_int_equal(enrol(f, text, &f->keys, false, &old), PFL_OK);
    f->now += 2 * 86400;
    assert_int_equal(pfl_ca_revoke(f->ca, "a", "keyCompromise", "test", &n, &f->err), PFL_OK);
    assert_int_equal(n, 2);
    assert_int_equal(renew(f, old.client, &none), PFL_AUTH);
    assert_non_null(strstr(f->err.msg, "is revoked (keyCompromise)"));
    assert_int_equal(pfl_ca_revoke(f->ca, "a", "keyCompromise", "test", &n, &f->err), PFL_STATE);
}

static void test_base64__round_trip_and_rubbish(void **state)
{
    (void)state;
    static const char *const BAD[] = {"A", "AA", "AAA", "AAA==", "A===", "AA=A", "====", "AAAA=", "AA%A", "AAAA AAA"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(BAD); i++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf out = {0};
        assert_int_equal(pfl_base64_decode(pfl_bytes_of(BAD[i], strlen(BAD[i])), &out, NULL), PFL_MALFORMED);
    }
    for (size_t len = 0; len < 200; len++) {
        PFL_AUTO(pfl_buf_deinit) struct pfl_buf text = {0}, back = {0};
        uint8_t bytes[200];
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)(i * 37 + len);
        pfl_base64_encode(pfl_bytes_of(bytes, len), &text);
        assert_int_equal(pfl_base64_decode(pfl_buf_view(&text), &back, NULL), PFL_OK);
        assert_true(pfl_bytes_eq(pfl_buf_view(&back), pfl_bytes_of(bytes, len)));
    }
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf small = {.limit = 2};
    assert_int_equal(pfl_base64_decode(pfl_bytes_of("AAAA", 4), &small, NULL), PFL_TOO_BIG);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_token_make__bad_wishes__refused),
        CASE(test_enrol__tokens_that_are_none__refused),
        CASE(test_enrol__used_token__same_keys_get_the_same_again__others_nothing),
        CASE(test_enrol__one_of_the_pair_refused__token_unused_and_nothing_issued),
        CASE(test_approval__pending_denied_approved),
        CASE(test_approval__token_revoked_meanwhile__nothing),
        CASE(test_renew__revoked_or_the_services_own__refused__valid__same_names_and_no_longer),
        CASE(test_renew__root_rolled_over__refused_with_the_reason),
        CASE(test_renew__expired__not_behind_a_revocation_of_the_name),
        CASE(test_revoke__nothing_in_time__the_expired_ones),
        cmocka_unit_test(test_base64__round_trip_and_rubbish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
