/* SPDX-License-Identifier: Apache-2.0 */
/* link: runtime */
/* support: certs */
/* timeout: 120 */
/* The CA service's GetBundle for those who wait for the next revocation list; and what another process does to the register while
 * the service runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "pki/ca.h"
#include "pki/ca_admin.h"
#include "pki/crl.h"
#include "runtime/ca_client.h"
#include "runtime/ca_limits.h"
#include "runtime/ca_server.h"
#include "support/certs.h"

struct world {
    char *dir, *ca_dir, *node_dir;
    struct pfl_passphrase *pass;
    struct pfl_ca *ca;
    struct pfl_tls *tls;
    uv_loop_t loop;
    uv_timer_t timer;
    struct pfl_ca_server *server;
    bool closed, timed_out;
};

struct answer {
    unsigned n;
    enum pfl_rc rc;
    char text[PFL_ERR_MAX];
    uint8_t digest[PFL_CA_KNOWN_LEN];
    unsigned long long number; /* of the first CRL */
    size_t n_roots;
};

static void must(enum pfl_rc rc, const struct pfl_err *err)
{
    if (rc != PFL_OK)
        fail_msg("%s", err->msg);
}

static void start_server(struct world *w)
{
    struct pfl_err err = {0};
    struct pfl_ca_server_opts opts = {.loop = &w->loop, .ca = w->ca, .dir = w->ca_dir, .listen = "127.0.0.1:0"};
    pfl_strs_add(&opts.sans, "IP:127.0.0.1");
    must(pfl_ca_server_new(&opts, &w->server, &err), &err);
    pfl_strs_deinit(&opts.sans);
}

static struct pfl_tls *node_tls(const struct pfl_ca *ca, const char *dir)
{
    struct pfl_err err = {0};
    struct pfl_issue_opts issue = {.name = "a"};
    struct pfl_tls *tls = NULL;
    pfl_strs_add(&issue.sans, "IP:127.0.0.1");
    must(pfl_ca_issue(ca, &issue, dir, &err), &err);
    pfl_strs_deinit(&issue.sans);
    static const char *const NAMES[] = {"ca.crt", "server.crt", "server.key", "client.crt", "client.key"};
    char *paths[PFL_ARRAY_LEN(NAMES)];
    for (size_t i = 0; i < PFL_ARRAY_LEN(NAMES); i++)
        paths[i] = pfl_fs_join(dir, NAMES[i]);
    const struct pfl_tls_files files = {
        .ca_crt = paths[0], .server_crt = paths[1], .server_key = paths[2], .client_crt = paths[3], .client_key = paths[4]};
    must(pfl_tls_new(&files, &tls, &err), &err);
    for (size_t i = 0; i < PFL_ARRAY_LEN(NAMES); i++)
        free(paths[i]);
    return tls;
}

static int set_up(void **state)
{
    struct world *w = pfl_xcalloc(1, sizeof *w);
    struct pfl_err err = {0};
    w->dir = test_dir_new();
    w->ca_dir = pfl_fs_join(w->dir, "ca");
    w->node_dir = pfl_fs_join(w->dir, "a");
    must(pfl_passphrase_of("correct horse", 13, &w->pass, &err), &err);
    must(pfl_ca_init(w->ca_dir, &(struct pfl_ca_opts){.federation = "lab"}, w->pass, &err), &err);
    must(pfl_ca_open(w->ca_dir, w->pass, &w->ca, &err), &err);
    w->tls = node_tls(w->ca, w->node_dir);
    uv_loop_init(&w->loop);
    uv_timer_init(&w->loop, &w->timer);
    w->timer.data = w;
    start_server(w);
    *state = w;
    return 0;
}

static void on_closed(void *user)
{
    struct world *w = user;
    w->closed = true;
    w->server = NULL;
}

static void close_server(struct world *w)
{
    w->closed = false;
    pfl_ca_server_close(w->server, on_closed, w);
    while (!w->closed)
        uv_run(&w->loop, UV_RUN_ONCE);
}

static int tear_down(void **state)
{
    struct world *w = *state;
    if (w->server)
        close_server(w);
    uv_close((uv_handle_t *)&w->timer, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    pfl_tls_unref(w->tls);
    pfl_ca_close(w->ca);
    pfl_passphrase_free(w->pass);
    test_dir_free(w->dir);
    free(w->ca_dir);
    free(w->node_dir);
    free(w);
    return 0;
}

static void on_time(uv_timer_t *t)
{
    struct world *w = t->data;
    w->timed_out = true;
}

/* Until *n >= wanted; false after so many ms. */
static bool run_until(struct world *w, const unsigned *n, unsigned wanted, uint64_t ms)
{
    w->timed_out = false;
    uv_update_time(&w->loop);
    uv_timer_start(&w->timer, on_time, ms, 0);
    while (*n < wanted && !w->timed_out)
        uv_run(&w->loop, UV_RUN_ONCE);
    uv_timer_stop(&w->timer);
    return *n >= wanted;
}

static void on_bundle(void *user, enum pfl_rc rc, const struct pfl_err *err, const struct pfl_ca_bundle *bundle)
{
    struct answer *a = user;
    struct pfl_crl *c = NULL;
    a->n++;
    a->rc = rc;
    if (rc != PFL_OK) {
        memcpy(a->text, err->msg, sizeof a->text);
        return;
    }
    memcpy(a->digest, bundle->digest, sizeof a->digest);
    a->n_roots = bundle->roots.n;
    assert_int_equal(bundle->crls.n, bundle->roots.n);
    assert_int_equal(pfl_crl_parse(pfl_buf_view(&bundle->crls.items[0]), &c, NULL), PFL_OK);
    a->number = strtoull(pfl_crl_number_hex(c), NULL, 16);
    pfl_crl_unref(c);
}

static void ask_with(struct world *w, struct pfl_tls *tls, struct answer *a)
{
    const struct pfl_ca_client_opts opts = {.loop = &w->loop, .target = pfl_ca_server_address(w->server), .tls = tls};
    *a = (struct answer){0};
    (void)pfl_ca_client_bundle(&opts, on_bundle, a);
    assert_true(run_until(w, &a->n, 1, 20000));
}

static void ask(struct world *w, const uint8_t *known, uint32_t wait_s, struct answer *a)
{
    const struct pfl_ca_client_opts opts = {
        .loop = &w->loop, .target = pfl_ca_server_address(w->server), .tls = w->tls, .timeout = 60 * PFL_SEC};
    (void)pfl_ca_client_bundle_newer(&opts, known, wait_s, on_bundle, a);
}

static void ask_now(struct world *w, struct answer *a)
{
    *a = (struct answer){0};
    ask(w, NULL, 30, a);
    assert_true(run_until(w, &a->n, 1, 20000));
    assert_int_equal(a->rc, PFL_OK);
}

static void test_bundle__something_else_is_known__answered_at_once(void **state)
{
    struct world *w = *state;
    struct answer first, second = {0};
    ask_now(w, &first);
    first.digest[0] ^= 1;
    ask(w, first.digest, 50, &second);
    assert_true(run_until(w, &second.n, 1, 20000));
    assert_int_equal(second.rc, PFL_OK);
}

static void test_bundle__newest_is_known__waits_for_the_next_crl(void **state)
{
    struct world *w = *state;
    struct pfl_err err = {0};
    struct answer first, next[3] = {0};
    ask_now(w, &first);
    for (size_t i = 0; i < PFL_ARRAY_LEN(next); i++)
        ask(w, first.digest, 50, &next[i]);
    assert_false(run_until(w, &next[0].n, 1, 1500));
    must(pfl_ca_make_crl(w->ca, 0, "test", &err), &err);
    for (size_t i = 0; i < PFL_ARRAY_LEN(next); i++) {
        assert_true(run_until(w, &next[i].n, 1, 20000));
        assert_int_equal(next[i].rc, PFL_OK);
        assert_true(next[i].number > first.number);
    }
}

static void test_bundle__nothing_comes__the_same_when_time_is_over(void **state)
{
    struct world *w = *state;
    struct answer first, next = {0};
    ask_now(w, &first);
    ask(w, first.digest, 1, &next);
    assert_true(run_until(w, &next.n, 1, 20000));
    assert_int_equal(next.rc, PFL_OK);
    assert_memory_equal(next.digest, first.digest, sizeof first.digest);
}

static void test_bundle__too_many_wait__the_rest_is_answered_at_once(void **state)
{
    struct world *w = *state;
    enum { N = PFL_CA_WAITING_PER_IP_MAX + 4 };
    struct answer first, next[N] = {0};
    ask_now(w, &first);
    for (size_t i = 0; i < N; i++)
        ask(w, first.digest, 50, &next[i]);
    unsigned answered = 0;
    for (unsigned tries = 0; tries < 100 && answered < 4; tries++) {
        unsigned never = 0;
        (void)run_until(w, &never, 1, 100);
        answered = 0;
        for (size_t i = 0; i < N; i++)
            answered += next[i].n;
    }
    assert_int_equal(answered, 4);
    close_server(w); /* who waits is told */
    for (size_t i = 0; i < N; i++) {
        assert_true(run_until(w, &next[i].n, 1, 20000));
        assert_int_equal(next[i].n, 1);
    }
}

static void test_bundle__caller_goes_away__forgotten(void **state)
{
    struct world *w = *state;
    struct pfl_err err = {0};
    struct answer first, gone = {0}, next = {0};
    ask_now(w, &first);
    const struct pfl_ca_client_opts opts = {.loop = &w->loop, .target = pfl_ca_server_address(w->server), .tls = w->tls};
    struct pfl_ca_call *call = pfl_ca_client_bundle_newer(&opts, first.digest, 50, on_bundle, &gone);
    assert_false(run_until(w, &gone.n, 1, 500));
    pfl_ca_client_cancel(call);
    ask(w, first.digest, 50, &next);
    assert_false(run_until(w, &next.n, 1, 500));
    must(pfl_ca_make_crl(w->ca, 0, "test", &err), &err);
    assert_true(run_until(w, &next.n, 1, 20000));
    assert_int_equal(gone.n, 0);
}

/* Each step counts for the very next connection: no tick of the service lies between it and the question. */
static void test_service__rolled_over_by_another_process__the_next_handshake_knows(void **state)
{
    struct world *w = *state;
    struct pfl_err err = {0};
    struct answer a;
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *other = NULL;
    PFL_AUTO(pfl_freep) char *both_dir = pfl_fs_join(w->dir, "b");
    PFL_AUTO(pfl_freep) char *new_dir = pfl_fs_join(w->dir, "c");
    must(pfl_ca_open(w->ca_dir, w->pass, &other, &err), &err);
    ask_with(w, w->tls, &a);
    assert_int_equal(a.n_roots, 1);
    must(pfl_ca_rollover_prepare(other, &(struct pfl_ca_opts){0}, "test", &err), &err);
    struct pfl_tls *both = node_tls(other, both_dir); /* under the old root, trusts both */
    ask_with(w, w->tls, &a);
    assert_int_equal(a.n_roots, 2);
    must(pfl_ca_rollover_activate(other, "test", &err), &err);
    struct pfl_tls *new = node_tls(other, new_dir); /* under the new root */
    ask_with(w, new, &a);
    assert_string_equal(a.text, "");
    assert_int_equal(a.n_roots, 2);
    ask_with(w, both, &a);
    assert_int_equal(a.n_roots, 2);
    ask_with(w, w->tls, &a); /* the service is under the root that signs, whose hash new machines are given */
    assert_int_equal(a.rc, PFL_AUTH);
    must(pfl_ca_rollover_finish(other, true, "test", &err), &err);
    ask_with(w, new, &a);
    assert_int_equal(a.n_roots, 1);
    ask_with(w, both, &a);
    assert_int_equal(a.rc, PFL_AUTH);
    pfl_tls_unref(both);
    pfl_tls_unref(new);
}

/* A command that is killed between its commit and its files: here somebody takes the file back to what it was. */
static void test_service__files_behind_the_register__made_again(void **state)
{
    struct world *w = *state;
    struct pfl_err err = {0};
    struct answer first, second;
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *other = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *old = NULL;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(w->ca_dir, "crl.pem");
    ask_with(w, w->tls, &first);
    must(pfl_fs_read(path, 1 << 20, &old, &err), &err);
    must(pfl_ca_open(w->ca_dir, w->pass, &other, &err), &err);
    must(pfl_ca_make_crl(other, 0, "test", &err), &err);
    must(pfl_fs_write_atomic(path, pfl_bytes_of(old->data, old->len), 0644, &err), &err);
    ask_with(w, w->tls, &second);
    assert_true(second.number > first.number);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bundle__something_else_is_known__answered_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bundle__newest_is_known__waits_for_the_next_crl, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bundle__nothing_comes__the_same_when_time_is_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bundle__too_many_wait__the_rest_is_answered_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bundle__caller_goes_away__forgotten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_service__rolled_over_by_another_process__the_next_handshake_knows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_service__files_behind_the_register__made_again, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
