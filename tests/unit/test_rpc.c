/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tls rpc */
/* support: certs rpc_kit */
/* timeout: 120 */
/* Calls between our server and our client over mutual TLS on real sockets, in one loop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "rpc/limits.h"
#include "support/rpc_kit.h"

static struct pfl_rpc_channel *serve_and_dial(struct kit *k)
{
    kit_serve(k, "127.0.0.1:0", k->tls);
    return kit_channel(k, pfl_rpc_server_address(k->server), k->tls);
}

/* ---- answers ---- */

static void test_call__echo__gives_back_the_same_bytes(void **state)
{
    static const size_t SIZES[] = {0, 1, 5, 16379, 16384, 16385, 70000, 1 << 20};
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    uint8_t *data = pfl_xmalloc(1 << 20);
    for (size_t i = 0; i < 1 << 20; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    for (size_t i = 0; i < PFL_ARRAY_LEN(SIZES); i++) {
        kit_call(k, ch, "/t.T/echo", data, SIZES[i], 0);
        assert_int_equal(k->status.code, PFL_GRPC_OK);
        assert_non_null(k->response);
        assert_int_equal(k->response->len, SIZES[i]);
        if (SIZES[i])
            assert_memory_equal(k->response->data, data, SIZES[i]);
    }
    free(data);
    assert_int_equal(k->n_handled, PFL_ARRAY_LEN(SIZES));
    kit_close_channel(k, ch);
}

static void test_call__peer__is_known_on_the_client(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    assert_null(pfl_rpc_channel_peer(ch));
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
    const struct pfl_rpc_peer *peer = pfl_rpc_channel_peer(ch);
    assert_non_null(peer);
    assert_string_equal(peer->tls_version, "TLSv1.3");
    assert_string_equal(peer->cipher, "TLS_AES_128_GCM_SHA256");
    assert_true(pfl_identity_covers_host(peer->identity, "127.0.0.1"));
    assert_string_equal(peer->remote, pfl_rpc_server_address(k->server));
    struct pfl_rpc_counters c;
    pfl_rpc_channel_counters(ch, &c);
    assert_int_equal(c.messages_sent, 1);
    assert_int_equal(c.messages_received, 1);
    assert_true(c.bytes_sent > 100 && c.bytes_received > 50);
    kit_close_channel(k, ch);
}

static void test_call__failed_by_handler__status_and_message_come_over(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    kit_call(k, ch, "/t.T/fail", "x", 1, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_FAILED_PRECONDITION);
    assert_string_equal(k->status.message, "no: 100 % caf\xc3\xa9\n");
    assert_null(k->response);
    kit_close_channel(k, ch);
}

static void test_call__unknown_method__unimplemented(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    kit_call(k, ch, "/t.T/nothing", "x", 1, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_UNIMPLEMENTED);
    assert_string_equal(k->status.message, "unknown method '/t.T/nothing'");
    kit_close_channel(k, ch);
}

static void test_call__over_request_limit__exhausted_and_connection_lives(void **state)
{
    struct kit *k = *state;
    k->request_limit = 1000;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    uint8_t *data = pfl_xcalloc(1, 40 << 20);
    kit_call(k, ch, "/t.T/echo", data, 40 << 20, 5 * PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_RESOURCE_EXHAUSTED);
    assert_string_equal(k->status.message, "the message is 41943040 bytes, the limit is 1000");
    kit_call(k, ch, "/t.T/echo", data, 1001, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_RESOURCE_EXHAUSTED);
    assert_int_equal(k->n_handled, 0);
    kit_call(k, ch, "/t.T/echo", data, 1000, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_int_equal(k->n_up, 1);
    assert_int_equal(k->n_down, 0);
    free(data);
    kit_close_channel(k, ch);
}

static void test_call__over_response_limit__exhausted(void **state)
{
    struct kit *k = *state;
    kit_serve(k, "127.0.0.1:0", k->tls);
    const struct pfl_rpc_channel_opts opts = {
        .loop = &k->loop, .target = pfl_rpc_server_address(k->server), .tls = k->tls, .user = k, .response_limit = 1 << 16};
    struct pfl_rpc_channel *ch = NULL;
    assert_int_equal(pfl_rpc_channel_new(&opts, &ch, NULL), PFL_OK);
    kit_call(k, ch, "/t.T/big", "\x00\x01\x00\x01", 4, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_RESOURCE_EXHAUSTED);
    kit_call(k, ch, "/t.T/big", "\x00\x01\x00\x00", 4, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_int_equal(k->response->len, 1 << 16);
    kit_close_channel(k, ch);
}

/* ---- time ---- */

static void test_deadline__handler_silent__exceeded_on_both_sides(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    kit_call(k, ch, "/t.T/empty", "", 0, 0);
    pfl_ns from = pfl_clock_mono();
    kit_call(k, ch, "/t.T/hold", "", 0, 80 * PFL_MS);
    pfl_ns took = pfl_clock_mono() - from;
    assert_int_equal(k->status.code, PFL_GRPC_DEADLINE_EXCEEDED);
    assert_true(took >= 75 * PFL_MS && took < PFL_SEC);
    assert_non_null(k->held);
    kit_run_for(k, 50 * PFL_MS);
    assert_false(pfl_rpc_call_alive(k->held));
    assert_true(pfl_rpc_call_deadline(k->held) != PFL_NEVER);
    assert_string_equal(pfl_rpc_call_peer(k->held)->tls_version, "TLSv1.3");
    pfl_rpc_call_reply(k->held, NULL);
    k->held = NULL;
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    kit_close_channel(k, ch);
}

static void test_deadline__nobody_accepts__exceeded_while_dialling(void **state)
{
    struct kit *k = *state;
    kit_serve(k, "127.0.0.1:0", k->tls);
    /* a listener that never answers: TCP connects, TLS waits */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char target[64];
    struct pfl_rpc_channel *ch;
    assert_int_equal(listen(fd, 1), 0);
    struct sockaddr_storage sa;
    socklen_t len = sizeof sa;
    getsockname(fd, (void *)&sa, &len);
    const uint8_t *p = (const uint8_t *)&sa + 2;
    snprintf(target, sizeof target, "127.0.0.1:%u", (unsigned)p[0] << 8 | p[1]);
    ch = kit_channel(k, target, k->tls);
    kit_call(k, ch, "/t.T/empty", "", 0, 100 * PFL_MS);
    assert_int_equal(k->status.code, PFL_GRPC_DEADLINE_EXCEEDED);
    assert_string_equal(k->status.message, "no connection before the deadline");
    kit_close_channel(k, ch);
    close(fd);
}

/* ---- many at once ---- */

static void test_calls__many_at_once__each_is_answered_once(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    enum { N = 1000 }; /* more than the streams that the server allows at once */
    static const struct pfl_bytes PART = {(const uint8_t *)"0123456789", 10};
    const struct pfl_rpc_body body = {.parts = &PART, .n = 1};
    for (int i = 0; i < N; i++)
        pfl_rpc_channel_call(ch, "/t.T/echo", &body, 0, kit_done, k);
    kit_until(k, &k->n_done, N);
    assert_int_equal(k->n_handled, N);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    kit_run_for(k, 20 * PFL_MS);
    assert_int_equal(k->n_done, N);
    kit_close_channel(k, ch);
}

struct pulse {
    struct kit *k;
    struct pfl_rpc_channel *ch;
    unsigned n, n_big_done, n_stopped;
    pfl_ns sent, worst;
    bool stop;
};

static void pulse_next(struct pulse *p);
static void on_pulse(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct pulse *p = user;
    (void)response;
    assert_int_equal(status->code, PFL_GRPC_OK);
    pfl_ns took = pfl_clock_mono() - p->sent;
    p->worst = took > p->worst ? took : p->worst;
    p->n++;
    if (p->stop)
        p->n_stopped++;
    else
        pulse_next(p);
}
static void pulse_next(struct pulse *p)
{
    p->sent = pfl_clock_mono();
    pfl_rpc_channel_call(p->ch, "/t.T/empty", NULL, PFL_SEC, on_pulse, p);
}
static unsigned released;
static void on_release(void *owner)
{
    released++;
    free(owner);
}
static void on_big(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct pulse *p = user;
    assert_int_equal(status->code, PFL_GRPC_OK);
    assert_int_equal(response->len, 100 << 20);
    assert_int_equal(response->data[response->len - 1], 7);
    p->stop = true;
    p->n_big_done++;
}

static void test_calls__big_message_under_way__small_ones_flow(void **state)
{
    struct kit *k = *state;
    k->request_limit = 200 << 20;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    struct pulse p = {.k = k, .ch = ch};
    const size_t len = 100 << 20;
    uint8_t *data = pfl_xmalloc(len);
    memset(data, 7, len);
    released = 0;
    const struct pfl_bytes part = {data, len};
    const struct pfl_rpc_body body = {.parts = &part, .n = 1, .release = on_release, .owner = data};
    kit_call(k, ch, "/t.T/empty", "", 0, 0);
    pfl_rpc_channel_call(ch, "/t.T/echo", &body, 0, on_big, &p);
    pulse_next(&p);
    kit_until(k, &p.n_big_done, 1);
    kit_until(k, &p.n_stopped, 1);
    assert_int_equal(released, 1);
    assert_true(p.n > 20);
    print_message("%u small calls during 2 x 100 MiB, the slowest took %.1f ms\n", p.n, (double)p.worst / 1e6);
    kit_close_channel(k, ch);
}

/* ---- life ---- */

static void test_channel__nobody_listens__refused_then_back_off_then_again(void **state)
{
    struct kit *k = *state;
    kit_serve(k, "127.0.0.1:0", k->tls);
    char target[64];
    snprintf(target, sizeof target, "%s", pfl_rpc_server_address(k->server));
    kit_close_server(k, 0);
    struct pfl_rpc_channel *ch = kit_channel(k, target, k->tls);
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_UNAVAILABLE);
    assert_string_equal(k->status.message, "cannot connect: Connection refused");
    assert_int_equal(k->n_down, 1);
    pfl_ns from = pfl_clock_mono();
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC); /* in back-off: at once, without a dial */
    assert_true(pfl_clock_mono() - from < 200 * PFL_MS);
    assert_int_equal(k->status.code, PFL_GRPC_UNAVAILABLE);
    assert_int_equal(k->n_down, 1);
    kit_serve(k, target, k->tls);
    kit_run_for(k, 400 * PFL_MS);
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_int_equal(k->n_up, 1);
    kit_close_channel(k, ch);
}

static bool everybody(void *user, const struct pfl_rpc_peer *peer)
{
    (void)user;
    return pfl_identity_covers_host(peer->identity, "127.0.0.1");
}

static void test_server_drop__calls_end_and_the_channel_dials_again(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    pfl_rpc_channel_call(ch, "/t.T/hold", NULL, 0, kit_done, k);
    kit_until(k, &k->n_handled, 1);
    assert_int_equal(pfl_rpc_server_drop(k->server, everybody, NULL, "revoked"), 1);
    kit_until(k, &k->n_done, 1);
    assert_int_equal(k->status.code, PFL_GRPC_UNAVAILABLE);
    kit_run_for(k, 20 * PFL_MS);
    assert_false(pfl_rpc_call_alive(k->held));
    kit_call(k, ch, "/t.T/empty", "", 0, 2 * PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_int_equal(k->n_up, 2);
    kit_close_channel(k, ch);
}

static void test_server_close__call_in_flight__gets_its_answer_within_grace(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    pfl_rpc_channel_call(ch, "/t.T/hold", NULL, 0, kit_done, k);
    kit_until(k, &k->n_handled, 1);
    unsigned before = k->n_closed;
    pfl_rpc_server_close(k->server, 5 * PFL_SEC, NULL, NULL);
    k->server = NULL;
    kit_run_for(k, 250 * PFL_MS);
    assert_int_equal(k->n_done, 0);
    pfl_rpc_call_reply(k->held, NULL);
    k->held = NULL;
    kit_until(k, &k->n_done, 1);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    kit_until(k, &k->n_down, 1); /* the quiet second dial finds nobody */
    assert_int_equal(k->n_closed, before);
    kit_close_channel(k, ch);
}

static void test_server_set_tls__no_call_is_lost(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    pfl_rpc_channel_call(ch, "/t.T/hold", NULL, 0, kit_done, k);
    kit_until(k, &k->n_handled, 1);
    kit_run_for(k, PFL_SEC + 100 * PFL_MS); /* a connection that lived for a while is replaced quietly */
    struct pfl_tls *other = kit_tls(k, NULL, NULL, false);
    char before[65];
    snprintf(before, sizeof before, "%s", pfl_rpc_channel_peer(ch)->identity->fingerprint);
    pfl_rpc_server_set_tls(k->server, other);
    kit_until(k, &k->n_up, 2);
    assert_int_equal(k->n_down, 0);
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_string_not_equal(before, pfl_rpc_channel_peer(ch)->identity->fingerprint);
    assert_true(pfl_rpc_call_alive(k->held));
    pfl_rpc_call_reply(k->held, NULL);
    k->held = NULL;
    kit_until(k, &k->n_done, 2);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    pfl_tls_unref(other);
    kit_close_channel(k, ch);
}

static struct pfl_rpc_channel *serve_and_link(struct kit *k)
{
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    pfl_rpc_channel_connect(ch);
    kit_until(k, &k->n_up, 1);
    return ch;
}

static void test_server_set_tls__many_times_in_a_row__no_call_fails(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_link(k);
    struct pfl_tls *others[] = {kit_tls(k, NULL, NULL, false), kit_tls(k, NULL, NULL, false)};
    for (unsigned i = 0; i < 6; i++) { /* both sides, as pairs of files that change one after the other do */
        unsigned up = k->n_up;
        pfl_rpc_server_set_tls(k->server, others[i % 2]);
        pfl_rpc_channel_set_tls(ch, others[(i + 1) % 2]);
        kit_call(k, ch, "/t.T/empty", "", 0, 5 * PFL_SEC);
        assert_int_equal(k->status.code, PFL_GRPC_OK);
        kit_until(k, &k->n_up, up + 1);
        kit_call(k, ch, "/t.T/empty", "", 0, 5 * PFL_SEC);
        assert_int_equal(k->status.code, PFL_GRPC_OK);
    }
    assert_int_equal(k->n_down, 0);
    kit_close_channel(k, ch);
    pfl_tls_unref(others[0]);
    pfl_tls_unref(others[1]);
}

/* Certificates change after each of the first turns of the loop that a handshake takes: it ends well, and the connection is
 * replaced. */
static void test_server_set_tls__during_a_handshake__it_ends_well(void **state)
{
    struct kit *k = *state;
    struct pfl_tls *others[] = {kit_tls(k, NULL, NULL, false), kit_tls(k, NULL, NULL, false)};
    kit_serve(k, "127.0.0.1:0", others[1]);
    for (unsigned turns = 0; turns < 24; turns++) {
        struct pfl_rpc_channel *ch = kit_channel(k, pfl_rpc_server_address(k->server), k->tls);
        pfl_rpc_channel_connect(ch);
        for (unsigned i = 0; i < turns; i++)
            uv_run(&k->loop, UV_RUN_NOWAIT);
        pfl_rpc_server_set_tls(k->server, others[turns % 2]);
        kit_call(k, ch, "/t.T/empty", "", 0, 5 * PFL_SEC);
        assert_int_equal(k->status.code, PFL_GRPC_OK);
        assert_int_equal(k->n_down, 0);
        kit_close_channel(k, ch);
    }
    pfl_tls_unref(others[0]);
    pfl_tls_unref(others[1]);
}

static void test_channel_set_tls__call_in_flight__ends_on_the_old_connection(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_link(k);
    struct pfl_tls *other = kit_tls(k, NULL, NULL, false);
    pfl_rpc_channel_call(ch, "/t.T/hold", NULL, 0, kit_done, k);
    kit_until(k, &k->n_handled, 1);
    pfl_rpc_channel_set_tls(ch, other);
    assert_non_null(pfl_rpc_channel_peer(ch)); /* never without a connection */
    kit_until(k, &k->n_up, 2);
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_true(pfl_rpc_call_alive(k->held));
    pfl_rpc_call_reply(k->held, NULL);
    k->held = NULL;
    kit_until(k, &k->n_done, 2);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_int_equal(k->n_down, 0);
    kit_close_channel(k, ch);
    pfl_tls_unref(other);
}

static void test_channel_set_tls__peer_refuses_the_new_certificate__the_old_connection_goes_on(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_link(k);
    const struct kit_cert foreign = {.issuer = &k->other_ca};
    struct pfl_tls *refused = kit_tls(k, &foreign, NULL, false), *good = kit_tls(k, NULL, NULL, false);
    unsigned before = k->n_refused;
    pfl_rpc_channel_set_tls(ch, refused);
    kit_until(k, &k->n_refused, before + 2); /* tried again by itself */
    kit_until(k, &k->n_not_replaced, 1);
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_int_equal(k->n_down, 0);
    assert_int_equal(k->n_up, 1);
    pfl_rpc_channel_set_tls(ch, good);
    kit_until(k, &k->n_up, 2);
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    kit_close_channel(k, ch);
    pfl_tls_unref(refused);
    pfl_tls_unref(good);
}

static void test_channel_set_tls__old_connection_lost_while_the_new_is_refused__down(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_link(k);
    const struct kit_cert foreign = {.issuer = &k->other_ca};
    struct pfl_tls *refused = kit_tls(k, &foreign, NULL, false);
    pfl_rpc_channel_set_tls(ch, refused);
    kit_until(k, &k->n_not_replaced, 1);
    kit_close_server(k, 0);
    kit_until(k, &k->n_down, 1);
    assert_null(pfl_rpc_channel_peer(ch));
    kit_close_channel(k, ch);
    pfl_tls_unref(refused);
}

static void test_channel_set_tls__while_dialling__the_new_context_is_used(void **state)
{
    struct kit *k = *state;
    kit_serve(k, "127.0.0.1:0", k->tls);
    struct pfl_rpc_channel *ch = kit_channel(k, pfl_rpc_server_address(k->server), k->tls);
    struct pfl_tls *other = kit_tls(k, NULL, NULL, false);
    pfl_rpc_channel_connect(ch);
    uv_run(&k->loop, UV_RUN_NOWAIT);
    pfl_rpc_channel_set_tls(ch, other);
    kit_until(k, &k->n_up, 2); /* with the first context, replaced at once */
    assert_int_equal(k->n_down, 0);
    kit_close_channel(k, ch);
    pfl_tls_unref(other);
}

static void test_expiry__of_either_side__ends_the_live_connection(void **state)
{
    struct kit *k = *state;
    int64_t now = pfl_clock_wall() / PFL_SEC;
    const struct kit_cert brief = {.from = now - 60, .until = now + 2};
    for (unsigned server_side = 0; server_side < 2; server_side++) {
        struct kit_cert short_lived = brief;
        short_lived.until = pfl_clock_wall() / PFL_SEC + 2;
        struct pfl_tls *ends = kit_tls(k, &short_lived, NULL, false);
        unsigned down = k->n_down, refusals = k->n_refused;
        kit_serve(k, "127.0.0.1:0", server_side ? ends : k->tls);
        struct pfl_rpc_channel *ch = kit_channel(k, pfl_rpc_server_address(k->server), server_side ? k->tls : ends);
        kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
        assert_int_equal(k->status.code, PFL_GRPC_OK);
        kit_until(k, &k->n_down, down + 1);
        assert_true(pfl_clock_wall() / PFL_SEC > short_lived.until);
        if (server_side)
            assert_non_null(strstr(k->down_reason, "expired"));
        else {
            assert_int_equal(k->n_refused, refusals + 1);
            assert_non_null(strstr(k->refused_reason, "expired"));
        }
        kit_close_channel(k, ch);
        kit_close_server(k, 0);
        pfl_tls_unref(ends);
    }
}

static void test_channel_close__call_in_flight__cancelled(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    pfl_rpc_channel_call(ch, "/t.T/hold", NULL, 0, kit_done, k);
    kit_until(k, &k->n_handled, 1);
    kit_close_channel(k, ch);
    assert_int_equal(k->n_done, 1);
    assert_int_equal(k->status.code, PFL_GRPC_CANCELLED);
    kit_run_for(k, 20 * PFL_MS);
    assert_false(pfl_rpc_call_alive(k->held));
}

static void test_channel_close__while_dialling__closes(void **state)
{
    struct kit *k = *state;
    kit_serve(k, "127.0.0.1:0", k->tls);
    const char *port = strrchr(pfl_rpc_server_address(k->server), ':');
    char target[64];
    snprintf(target, sizeof target, "localhost%s", port);
    struct pfl_rpc_channel *ch = kit_channel(k, target, k->tls);
    pfl_rpc_channel_call(ch, "/t.T/empty", NULL, 0, kit_done, k);
    uv_run(&k->loop, UV_RUN_NOWAIT);
    kit_close_channel(k, ch);
    assert_int_equal(k->n_done, 1);
    assert_int_equal(k->status.code, PFL_GRPC_CANCELLED);
}

/* ---- addresses ---- */

static void call_at(struct kit *k, const char *address, const char *host)
{
    char target[PFL_ADDR_MAX + 16];
    kit_serve(k, address, k->tls);
    if (host)
        snprintf(target, sizeof target, "%s%s", host, strrchr(pfl_rpc_server_address(k->server), ':'));
    struct pfl_rpc_channel *ch = kit_channel(k, host ? target : pfl_rpc_server_address(k->server), k->tls);
    kit_call(k, ch, "/t.T/echo", "hello", 5, 2 * PFL_SEC);
    if (k->status.code != PFL_GRPC_OK)
        fail_msg("%s: %s", address, k->status.message);
    kit_close_channel(k, ch);
    kit_close_server(k, 0);
}

static void test_addresses__each_form__serves(void **state)
{
    struct kit *k = *state;
    char unix_address[300];
    snprintf(unix_address, sizeof unix_address, "unix://%s/s.sock", k->dir);
    call_at(k, "127.0.0.1", NULL);
    call_at(k, "localhost:0", NULL);
    call_at(k, "[::1]:0", NULL);
    call_at(k, "0.0.0.0:0", "127.0.0.1");
    call_at(k, "[::]:0", "127.0.0.1");
    call_at(k, unix_address, NULL);
}

static void test_unix__mode_stale_file_and_live_owner(void **state)
{
    struct kit *k = *state;
    char address[300], path[280];
    struct stat st;
    struct pfl_err err = {0};
    snprintf(path, sizeof path, "%s/s.sock", k->dir);
    snprintf(address, sizeof address, "unix://%s", path);
    kit_serve(k, address, k->tls);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    struct pfl_rpc_server *second = NULL;
    const struct pfl_rpc_server_opts opts = {.loop = &k->loop, .address = address, .tls = k->tls};
    assert_int_equal(pfl_rpc_server_new(&opts, &second, &err), PFL_EXISTS);
    kit_close_server(k, 0);
    assert_int_not_equal(stat(path, &st), 0);
    /* a leftover: bound, and its process gone */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct {
        sa_family_t family;
        char path[108];
    } sa = {.family = AF_UNIX};
    snprintf(sa.path, sizeof sa.path, "%.107s", path);
    assert_int_equal(bind(fd, (void *)&sa, sizeof sa), 0);
    close(fd);
    kit_serve(k, address, k->tls);
    kit_close_server(k, 0);
    /* a file that is no socket stays */
    assert_int_equal(pfl_fs_write_new(path, pfl_bytes_of("x", 1), 0600, &err), PFL_OK);
    assert_int_equal(pfl_rpc_server_new(&opts, &second, &err), PFL_EXISTS);
    assert_int_equal(stat(path, &st), 0);
}

static void test_plaintext__off_loopback__refused(void **state)
{
    struct kit *k = *state;
    struct pfl_err err = {0};
    struct pfl_rpc_server *s = NULL;
    struct pfl_rpc_channel *ch = NULL;
    const struct pfl_rpc_server_opts so = {.loop = &k->loop, .address = "0.0.0.0:0"};
    const struct pfl_rpc_channel_opts co = {.loop = &k->loop, .target = "192.0.2.1:1"};
    assert_int_equal(pfl_rpc_server_new(&so, &s, &err), PFL_INVALID);
    assert_int_equal(pfl_rpc_channel_new(&co, &ch, &err), PFL_INVALID);
}

static void test_plaintext__on_loopback__serves(void **state)
{
    struct kit *k = *state;
    kit_serve(k, "127.0.0.1:0", NULL);
    struct pfl_rpc_channel *ch = kit_channel(k, pfl_rpc_server_address(k->server), NULL);
    uint8_t *data = pfl_xcalloc(1, 1 << 20);
    kit_call(k, ch, "/t.T/echo", data, 1 << 20, 5 * PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_null(pfl_rpc_channel_peer(ch)->identity);
    free(data);
    kit_close_channel(k, ch);
}

static void test_server_new__port_taken__exists(void **state)
{
    struct kit *k = *state;
    struct pfl_err err = {0};
    struct pfl_rpc_server *s = NULL;
    kit_serve(k, "127.0.0.1:0", k->tls);
    const struct pfl_rpc_server_opts opts = {.loop = &k->loop, .address = pfl_rpc_server_address(k->server), .tls = k->tls};
    assert_int_equal(pfl_rpc_server_new(&opts, &s, &err), PFL_EXISTS);
    assert_non_null(strstr(err.msg, "the port is taken"));
}

static void test_dial__name_with_several_addresses__each_is_tried(void **state)
{
    struct kit *k = *state;
    call_at(k, "127.0.0.1:0", "localhost"); /* ::1 may come first, where nobody listens */
    call_at(k, "[::1]:0", "[::1]");
}

/* ---- keepalive ---- */

static void test_keepalive__peer_answers_no_ping__dropped(void **state)
{
    struct kit *k = *state;
    k->ping_period = 50 * PFL_MS;
    kit_serve(k, "127.0.0.1:0", NULL);
    int fd = kit_connect(k);
    assert_int_equal(write(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33), 33);
    char buf[256];
    kit_run_for(k, 400 * PFL_MS);
    ssize_t n = 0, got;
    while ((got = recv(fd, buf, sizeof buf, MSG_DONTWAIT)) > 0)
        n += got;
    assert_int_equal(got, 0); /* closed, and not for lack of waiting */
    assert_true(n > 17);      /* a PING was among it */
    close(fd);
}

/* ---- who sends or takes nothing ---- */

/* HTTP/2 without TLS: the opening, then `frames`. */
static int open_raw(struct kit *k, const void *frames, size_t len)
{
    int fd = kit_connect(k);
    assert_int_equal(write(fd, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33), 33);
    assert_int_equal(write(fd, frames, len), (ssize_t)len);
    return fd;
}

/* HEADERS of a call of /t.T/echo or /t.T/big on stream 1, its fields literal and not indexed. */
#define CALL(frame_len, path_len, path)                                                                                            \
    "\0\0" frame_len "\1\4\0\0\0\1\0\7:method\4POST\0\7:scheme\4http\0\5:path" path_len path                                       \
    "\0\12:authority\1x\0\14content-type\20application/"                                                                           \
    "grpc"

/* Has stream 1 been answered to its end? What came, up to now, is in buf. */
static bool answered(struct kit *k, int fd, uint8_t *buf, size_t cap, size_t *n)
{
    static const uint8_t LAST[] = {1, 5, 0, 0, 0, 1}; /* HEADERS with END_HEADERS and END_STREAM */
    uv_run(&k->loop, UV_RUN_NOWAIT);
    ssize_t got = recv(fd, buf + *n, cap - *n, MSG_DONTWAIT);
    assert_int_not_equal(got, 0); /* closed */
    *n += got > 0 ? (size_t)got : 0;
    return memmem(buf, *n, LAST, sizeof(LAST)) != NULL;
}

static void test_slow_sender__no_byte_of_its_request_comes__its_call_ends_and_others_are_served(void **state)
{
    struct kit *k = *state;
    k->read_stall = 100 * PFL_MS;
    kit_serve(k, "127.0.0.1:0", NULL);
    static const char half[] = CALL("\x5a", "\x09", "/t.T/echo") "\0\0\7\0\0\0\0\0\1\0\0\0\0\xff"
                                                                 "ab"; /* two bytes of a message of 255 */
    int fd = open_raw(k, half, sizeof(half) - 1);
    uint8_t buf[4096];
    size_t n = 0;
    pfl_ns end = pfl_clock_mono() + 10 * PFL_SEC;
    while (!answered(k, fd, buf, sizeof(buf), &n))
        assert_true(pfl_clock_mono() < end);
    int trickle = open_raw(k, half, sizeof(half) - 1); /* a byte now and then is no progress */
    n = 0;
    end = pfl_clock_mono() + 10 * PFL_SEC;
    for (int i = 0; i < 200 && !answered(k, trickle, buf, sizeof(buf), &n); i++) {
        kit_run_for(k, 20 * PFL_MS);
        assert_int_equal(write(trickle, "\0\0\1\0\0\0\0\0\1x", 10), 10);
    }
    assert_true(answered(k, trickle, buf, sizeof(buf), &n));
    struct pfl_rpc_channel *ch = kit_channel(k, pfl_rpc_server_address(k->server), NULL);
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    kit_close_channel(k, ch);
    close(fd);
    close(trickle);
}

static void test_slow_sender__a_record_within_the_time__goes_on(void **state)
{
    struct kit *k = *state;
    k->read_stall = PFL_SEC;
    k->request_limit = 4 << 20;
    kit_serve(k, "127.0.0.1:0", NULL);
    static const char begun[] = CALL("\x5a", "\x09", "/t.T/echo") "\0\0\5\0\0\0\0\0\1\0\0\x20\0\0"; /* a message of 2 MiB */
    static uint8_t record[9 + PFL_RPC_READ_PROGRESS] = {0, 0x40, 0, 0, 0, 0, 0, 0, 1};
    int fd = open_raw(k, begun, sizeof(begun) - 1);
    uint8_t buf[4096];
    size_t n = 0;
    pfl_ns until = pfl_clock_mono() + 1500 * PFL_MS; /* more than one time */
    for (int i = 0; i < 127 && pfl_clock_mono() < until; i++) {
        assert_int_equal(write(fd, record, sizeof(record)), sizeof(record));
        kit_run_for(k, 40 * PFL_MS);
        assert_false(answered(k, fd, buf, sizeof(buf), &n));
    }
    close(fd);
}

static bool count_one(void *user, const struct pfl_rpc_peer *peer)
{
    (void)peer;
    ++*(unsigned *)user;
    return false;
}

static unsigned open_connections(const struct kit *k)
{
    unsigned n = 0;
    (void)pfl_rpc_server_drop(k->server, count_one, &n, "");
    return n;
}

static void test_slow_reader__takes_no_byte_of_what_it_asked_for__its_connection_ends(void **state)
{
    struct kit *k = *state;
    k->write_stall = 100 * PFL_MS;
    kit_serve(k, "127.0.0.1:0", NULL);
    /* Windows of 2 GiB, so that nothing but the socket holds the answer up. */
    static const char ask[] =
        "\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff"
        "\0\0\4\x08\0\0\0\0\0\x7f\xfe\0\0" CALL("\x59", "\x08", "/t.T/big") "\0\0\x09\0\1\0\0\0\1\0\0\0\0\4"
                                                                            "\4\0\0\0"; /* an answer of 64 MiB */
    int fd = open_raw(k, ask, sizeof(ask) - 1);
    unsigned open = 0;
    pfl_ns end = pfl_clock_mono() + 10 * PFL_SEC;
    do {
        kit_run_for(k, 10 * PFL_MS);
        open = open_connections(k);
        assert_true(pfl_clock_mono() < end);
    } while (k->n_handled == 0 || open > 0);
    struct pfl_rpc_counters c;
    pfl_rpc_server_counters(k->server, &c);
    assert_true(c.bytes_sent < 64 << 20);
    close(fd);
}

static void test_keepalive__idle_channel__stays_up(void **state)
{
    struct kit *k = *state;
    k->ping_period = 30 * PFL_MS;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
    struct pfl_rpc_counters before, after;
    pfl_rpc_server_counters(k->server, &before);
    kit_run_for(k, 300 * PFL_MS);
    pfl_rpc_server_counters(k->server, &after);
    assert_true(after.bytes_sent >= before.bytes_sent + 3 * 17);
    assert_int_equal(k->n_down, 0);
    kit_call(k, ch, "/t.T/empty", "", 0, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_int_equal(k->n_up, 1);
    kit_close_channel(k, ch);
}

/* ---- built-in services ---- */

static void test_health__known_and_unknown_service(void **state)
{
    struct kit *k = *state;
    struct pfl_rpc_channel *ch = serve_and_dial(k);
    kit_call(k, ch, "/grpc.health.v1.Health/Check", "", 0, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    assert_memory_equal(k->response->data, "\x08\x01", 2);
    kit_call(k, ch, "/grpc.health.v1.Health/Check", "\x0a\x03t.T", 5, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_OK);
    kit_call(k, ch, "/grpc.health.v1.Health/Check", "\x0a\x03t.X", 5, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_NOT_FOUND);
    kit_call(k, ch, "/grpc.health.v1.Health/Watch", "", 0, PFL_SEC);
    assert_int_equal(k->status.code, PFL_GRPC_UNIMPLEMENTED);
    kit_close_channel(k, ch);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_setup_teardown(name, kit_set_up, kit_tear_down)
    const struct CMUnitTest tests[] = {
        T(test_call__echo__gives_back_the_same_bytes),
        T(test_call__peer__is_known_on_the_client),
        T(test_call__failed_by_handler__status_and_message_come_over),
        T(test_call__unknown_method__unimplemented),
        T(test_call__over_request_limit__exhausted_and_connection_lives),
        T(test_call__over_response_limit__exhausted),
        T(test_deadline__handler_silent__exceeded_on_both_sides),
        T(test_deadline__nobody_accepts__exceeded_while_dialling),
        T(test_calls__many_at_once__each_is_answered_once),
        T(test_calls__big_message_under_way__small_ones_flow),
        T(test_channel__nobody_listens__refused_then_back_off_then_again),
        T(test_server_drop__calls_end_and_the_channel_dials_again),
        T(test_server_close__call_in_flight__gets_its_answer_within_grace),
        T(test_server_set_tls__no_call_is_lost),
        T(test_server_set_tls__many_times_in_a_row__no_call_fails),
        T(test_server_set_tls__during_a_handshake__it_ends_well),
        T(test_channel_set_tls__call_in_flight__ends_on_the_old_connection),
        T(test_channel_set_tls__peer_refuses_the_new_certificate__the_old_connection_goes_on),
        T(test_channel_set_tls__old_connection_lost_while_the_new_is_refused__down),
        T(test_channel_set_tls__while_dialling__the_new_context_is_used),
        T(test_expiry__of_either_side__ends_the_live_connection),
        T(test_channel_close__call_in_flight__cancelled),
        T(test_channel_close__while_dialling__closes),
        T(test_addresses__each_form__serves),
        T(test_unix__mode_stale_file_and_live_owner),
        T(test_plaintext__off_loopback__refused),
        T(test_plaintext__on_loopback__serves),
        T(test_server_new__port_taken__exists),
        T(test_dial__name_with_several_addresses__each_is_tried),
        T(test_keepalive__peer_answers_no_ping__dropped),
        T(test_slow_sender__no_byte_of_its_request_comes__its_call_ends_and_others_are_served),
        T(test_slow_sender__a_record_within_the_time__goes_on),
        T(test_slow_reader__takes_no_byte_of_what_it_asked_for__its_connection_ends),
        T(test_keepalive__idle_channel__stays_up),
        T(test_health__known_and_unknown_service),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
