/* SPDX-License-Identifier: Apache-2.0 */
#include "support/rpc_kit.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "pki/cert.h"
#include "pki/key.h"

static const char *const CA_EXTS[] = {"basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign",
                                      "subjectKeyIdentifier=hash", NULL};

static void write_pair(const char *crt, const char *key, const struct test_cert *c)
{
    struct pfl_err err = {0};
    X509 *list[] = {c->cert, NULL};
    test_certs_write(crt, list);
    if (key && pfl_key_save_new(key, c->key, NULL, &err) != PFL_OK)
        fail_msg("%s", err.msg);
}

struct pfl_tls *kit_tls(struct kit *k, const struct kit_cert *kc, const struct test_cert *trusted, bool tls12)
{
    static unsigned serial;
    char name[32], ca[200], crt[200], key[200], san[200], eku[100];
    snprintf(name, sizeof name, "node%u", ++serial);
    snprintf(ca, sizeof ca, "%s/%s-ca.crt", k->dir, name);
    snprintf(crt, sizeof crt, "%s/%s.crt", k->dir, name);
    snprintf(key, sizeof key, "%s/%s.key", k->dir, name);
    snprintf(san, sizeof san, "subjectAltName=%s", kc && kc->san ? kc->san : "IP:127.0.0.1,IP:::1,DNS:localhost");
    snprintf(eku, sizeof eku, "extendedKeyUsage=%s", kc && kc->eku ? kc->eku : "serverAuth,clientAuth");
    const char *const exts[] = {
        "basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", san, eku, "authorityKeyIdentifier=keyid", NULL};
    const struct test_cert_spec spec = {.cn = name, .exts = exts, .from = kc ? kc->from : 0, .until = kc ? kc->until : 0};
    struct test_cert leaf = test_cert_make(&spec, kc && kc->issuer ? kc->issuer : &k->ca);
    write_pair(crt, key, &leaf);
    write_pair(ca, NULL, trusted ? trusted : &k->ca);
    test_cert_free(&leaf);
    const struct pfl_tls_files files = {
        .ca_crt = ca, .server_crt = crt, .server_key = key, .client_crt = crt, .client_key = key, .tls12_allowed = tls12};
    struct pfl_tls *tls = NULL;
    struct pfl_err err = {0};
    if (pfl_tls_new(&files, &tls, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return tls;
}

int kit_set_up(void **state)
{
    struct kit *k = pfl_xcalloc(1, sizeof *k);
    k->dir = test_dir_new();
    k->ca = test_cert_make(&(struct test_cert_spec){.cn = "kit CA", .exts = CA_EXTS}, NULL);
    k->other_ca = test_cert_make(&(struct test_cert_spec){.cn = "other CA", .exts = CA_EXTS}, NULL);
    k->tls = kit_tls(k, NULL, NULL, false);
    k->request_limit = 1 << 20;
    uv_loop_init(&k->loop);
    uv_timer_init(&k->loop, &k->timer);
    *state = k;
    return 0;
}

static void on_closed(void *user)
{
    struct kit *k = user;
    k->n_closed++;
}

void kit_close_server(struct kit *k, pfl_ns grace)
{
    unsigned before = k->n_closed;
    pfl_rpc_server_close(k->server, grace, on_closed, k);
    kit_until(k, &k->n_closed, before + 1);
    k->server = NULL;
}

int kit_tear_down(void **state)
{
    struct kit *k = *state;
    if (k->held)
        pfl_rpc_call_reply(k->held, NULL);
    if (k->server)
        kit_close_server(k, 0);
    uv_close((uv_handle_t *)&k->timer, NULL);
    uv_run(&k->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&k->loop), 0);
    pfl_tls_unref(k->tls);
    test_cert_free(&k->ca);
    test_cert_free(&k->other_ca);
    pfl_blob_unref(k->response);
    test_dir_free(k->dir);
    free(k);
    return 0;
}

/* ---- the server ---- */

static void blob_release(void *owner)
{
    pfl_blob_unref(owner);
}

static void on_echo(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct kit *k = user;
    k->n_handled++;
    /* in two parts, to see that parts are joined */
    size_t half = request->len / 2;
    const struct pfl_bytes parts[] = {{request->data, half}, {request->data + half, request->len - half}};
    const struct pfl_rpc_body body = {.parts = parts, .n = 2, .release = blob_release, .owner = pfl_blob_ref(request)};
    pfl_rpc_call_reply(call, &body);
}

static void on_empty(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct kit *k = user;
    (void)request;
    k->n_handled++;
    pfl_rpc_call_reply(call, NULL);
}

static void on_fail(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct kit *k = user;
    (void)request;
    k->n_handled++;
    pfl_rpc_call_fail(call, PFL_GRPC_FAILED_PRECONDITION, "%s", "no: 100 % caf\xc3\xa9\n");
}

static void on_hold(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct kit *k = user;
    (void)request;
    k->n_handled++;
    if (k->held)
        pfl_rpc_call_fail(call, PFL_GRPC_ABORTED, "one is held already");
    else
        k->held = call;
}

/* As many bytes as the request's first four say. */
static void on_big(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct kit *k = user;
    k->n_handled++;
    struct pfl_reader r = pfl_reader_of(pfl_bytes_of(request->data, request->len));
    struct pfl_blob *blob = pfl_blob_new(pfl_reader_u32be(&r));
    memset(blob->data, 'b', blob->len);
    const struct pfl_bytes part = {blob->data, blob->len};
    const struct pfl_rpc_body body = {.parts = &part, .n = 1, .release = blob_release, .owner = blob};
    pfl_rpc_call_reply(call, &body);
}

static size_t request_limit(void *user, const char *path, const struct pfl_rpc_peer *peer)
{
    const struct kit *k = user;
    (void)path;
    (void)peer;
    return k->request_limit;
}

static void on_refused(void *user, const char *peer, const char *remote, const char *reason)
{
    struct kit *k = user;
    k->n_refused++;
    snprintf(k->refused_peer, sizeof k->refused_peer, "%s", peer);
    snprintf(k->refused_remote, sizeof k->refused_remote, "%s", remote);
    snprintf(k->refused_reason, sizeof k->refused_reason, "%s", reason);
}

void kit_serve(struct kit *k, const char *address, struct pfl_tls *tls)
{
    static const struct pfl_rpc_method METHODS[] = {
        {"/t.T/echo", on_echo, false}, {"/t.T/empty", on_empty, false}, {"/t.T/fail", on_fail, false},
        {"/t.T/hold", on_hold, false}, {"/t.T/big", on_big, false},     {"/t.T/stream", on_echo, true},
    };
    const struct pfl_rpc_server_opts opts = {
        .loop = &k->loop,
        .address = address,
        .tls = tls,
        .methods = METHODS,
        .n_methods = PFL_ARRAY_LEN(METHODS),
        .user = k,
        .request_limit = request_limit,
        .on_refused = on_refused,

        .handshake_timeout = k->handshake_timeout,
        .idle_ping_period = k->ping_period,
        .read_stall = k->read_stall,
        .write_stall = k->write_stall,
        .connections_max = k->connections_max,
        .health = true,
        .reflection = true,
    };
    struct pfl_err err = {0};
    if (pfl_rpc_server_new(&opts, &k->server, &err) != PFL_OK)
        fail_msg("%s", err.msg);
}

int kit_connect(const struct kit *k)
{
    const char *port = strrchr(pfl_rpc_server_address(k->server), ':');
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int64_t value = 0;
    assert_true(pfl_parse_i64(port + 1, 1, 65535, &value));
    sa.sin_port = htons((uint16_t)value);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (void *)&sa, sizeof sa), 0);
    return fd;
}

/* ---- channels ---- */

static bool check_peer(void *user, const struct pfl_rpc_peer *peer, struct pfl_err *err)
{
    const struct kit *k = user;
    (void)peer;
    if (!k->refuse_peer)
        return true;
    pfl_err_set(err, PFL_AUTH, "%s", k->refuse_peer);
    return false;
}

static void on_state(void *user, bool up, const struct pfl_rpc_peer *peer, enum pfl_rc rc, const char *reason)
{
    struct kit *k = user;
    if (up) {
        assert_non_null(peer);
        k->n_up++;
        return;
    }
    k->n_down++;
    k->down_rc = rc;
    snprintf(k->down_reason, sizeof k->down_reason, "%s", reason);
}

static void on_not_replaced(void *user, const char *reason)
{
    struct kit *k = user;
    (void)reason;
    k->n_not_replaced++;
}

struct pfl_rpc_channel *kit_channel(struct kit *k, const char *target, struct pfl_tls *tls)
{
    const struct pfl_rpc_channel_opts opts = {.loop = &k->loop,
                                              .target = target,
                                              .tls = tls,
                                              .user = k,
                                              .check_peer = check_peer,
                                              .on_state = on_state,
                                              .on_not_replaced = on_not_replaced,
                                              .response_limit = 256 << 20,
                                              .backoff_min = 300 * PFL_MS,
                                              .connect_timeout = 5 * PFL_SEC};
    struct pfl_rpc_channel *ch = NULL;
    struct pfl_err err = {0};
    if (pfl_rpc_channel_new(&opts, &ch, &err) != PFL_OK)
        fail_msg("%s", err.msg);
    return ch;
}

void kit_close_channel(struct kit *k, struct pfl_rpc_channel *ch)
{
    unsigned before = k->n_closed;
    pfl_rpc_channel_close(ch, on_closed, k);
    kit_until(k, &k->n_closed, before + 1);
}

void kit_done(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct kit *k = user;
    k->n_done++;
    k->status = *status;
    pfl_blob_unref(k->response);
    k->response = response ? pfl_blob_ref(response) : NULL;
}

void kit_call(struct kit *k, struct pfl_rpc_channel *ch, const char *path, const void *data, size_t len, pfl_ns timeout)
{
    unsigned before = k->n_done;
    const struct pfl_bytes part = {data, len};
    const struct pfl_rpc_body body = {.parts = &part, .n = 1};
    pfl_rpc_channel_call(ch, path, &body, timeout, kit_done, k);
    assert_int_equal(k->n_done, before); /* never from within */
    kit_until(k, &k->n_done, before + 1);
}

/* ---- the loop ---- */

static void on_timer(uv_timer_t *h)
{
    (void)h; /* only wakes the loop: UV_RUN_ONCE may run what is waited for and then sleep */
}

static void wake_often(struct kit *k)
{
    uv_update_time(&k->loop);
    uv_timer_start(&k->timer, on_timer, 2, 2);
}

void kit_until(struct kit *k, const unsigned *counter, unsigned value)
{
    pfl_ns until = pfl_clock_mono() + 10 * PFL_SEC;
    wake_often(k);
    while (*counter < value && pfl_clock_mono() < until)
        uv_run(&k->loop, UV_RUN_ONCE);
    uv_timer_stop(&k->timer);
    if (*counter < value)
        fail_msg("waited 10 s in vain; last: status %d '%s', down '%s', refused '%s'", k->status.code, k->status.message,
                 k->down_reason, k->refused_reason);
}

void kit_run_for(struct kit *k, pfl_ns time)
{
    pfl_ns until = pfl_clock_mono() + time;
    wake_often(k);
    while (pfl_clock_mono() < until)
        uv_run(&k->loop, UV_RUN_ONCE);
    uv_timer_stop(&k->timer);
}
