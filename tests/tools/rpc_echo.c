/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tls rpc */
/* A server and a client over src/rpc for tests with foreign peers, and a small benchmark.
 *
 *   rpc_echo serve CERTS ADDRESS [limit]       serves /node.NodeServices/{handshake,send,disconnect} until standard input ends
 *   rpc_echo call CERTS TARGET METHOD TEXT|SIZE [timeout_ms [response_limit]]
 *   rpc_echo bench CERTS TARGET [bytes]        calls per second with one in flight; MB/s of one large message; JSON
 *
 * CERTS is a folder as `p2pfl ca issue` makes it, or "-" for plaintext. handshake answers ResponseMessage{response: addr}; addr
 * "slow" is never answered, "fail" fails with ABORTED. send answers with how many bytes came. Lines: LISTEN, REFUSED, STATUS,
 * STATE, RSS. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "rpc/proto_scan.h"
#include "rpc/rpc.h"

struct app {
    uv_loop_t loop;
    struct pfl_tls *tls;
    struct pfl_rpc_server *server;
    struct pfl_rpc_channel *channel;
    size_t limit;
    uv_pipe_t input;
    char sink[256];
    /* bench */
    pfl_ns from;
    unsigned n;
    size_t big;
    uint8_t *payload;
    double calls_per_s;
    struct pfl_rpc_call *slow[64];
    size_t n_slow;
};

static struct pfl_tls *load_tls(const char *dir)
{
    char path[5][512];
    static const char *const NAMES[] = {"ca.crt", "server.crt", "server.key", "client.crt", "client.key"};
    if (strcmp(dir, "-") == 0)
        return NULL;
    for (size_t i = 0; i < 5; i++)
        snprintf(path[i], sizeof path[i], "%s/%s", dir, NAMES[i]);
    const struct pfl_tls_files files = {
        .ca_crt = path[0], .server_crt = path[1], .server_key = path[2], .client_crt = path[3], .client_key = path[4]};
    struct pfl_err err = {0};
    struct pfl_tls *tls = NULL;
    if (pfl_tls_new(&files, &tls, &err) != PFL_OK) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    return tls;
}

static void print_rss(const char *what)
{
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    printf("RSS %s %ld kB\n", what, ru.ru_maxrss);
    fflush(stdout);
}

static long argument(const char *text)
{
    int64_t value = 0;
    if (!pfl_parse_i64(text, 0, INT64_MAX, &value)) {
        fprintf(stderr, "not a number: %s\n", text);
        exit(2);
    }
    return (long)value;
}

/* ---- server ---- */

static void buf_release(void *owner)
{
    pfl_buf_deinit(owner);
    free(owner);
}

static void reply_text(struct pfl_rpc_call *call, const void *text, size_t len)
{
    struct pfl_buf *b = pfl_xcalloc(1, sizeof *b);
    pfl_field_put_bytes(b, 1, pfl_bytes_of(text, len));
    struct pfl_bytes part = pfl_buf_view(b);
    const struct pfl_rpc_body body = {.parts = &part, .n = 1, .release = buf_release, .owner = b};
    pfl_rpc_call_reply(call, &body);
}

static void on_handshake(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct app *a = user;
    struct pfl_bytes addr = pfl_field_find(pfl_bytes_of(request->data, request->len), 1);
    if (pfl_bytes_eq(addr, pfl_bytes_of("slow", 4)) && a->n_slow < PFL_ARRAY_LEN(a->slow))
        a->slow[a->n_slow++] = call;
    else if (pfl_bytes_eq(addr, pfl_bytes_of("fail", 4)))
        pfl_rpc_call_fail(call, PFL_GRPC_ABORTED, "%s", "as you wish: 100 % \xc3\xbc");
    else
        reply_text(call, addr.data, addr.len);
}

static void on_send(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    char text[64];
    (void)user;
    reply_text(call, text, (size_t)snprintf(text, sizeof text, "%zu bytes", request->len));
}

static void on_disconnect(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    (void)user;
    (void)request;
    pfl_rpc_call_reply(call, NULL);
}

static size_t request_limit(void *user, const char *path, const struct pfl_rpc_peer *peer)
{
    const struct app *a = user;
    (void)path;
    (void)peer;
    return a->limit;
}

static void on_refused(void *user, const char *peer, const char *remote, const char *reason)
{
    (void)user;
    printf("REFUSED %s (%s): %s\n", peer, remote, reason);
    fflush(stdout);
}

static void on_server_closed(void *user)
{
    (void)user;
    print_rss("server");
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *buf)
{
    struct app *a = h->data;
    (void)size;
    *buf = uv_buf_init(a->sink, sizeof a->sink);
}

static void on_input(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct app *a = s->data;
    (void)buf;
    if (n >= 0)
        return;
    uv_close((uv_handle_t *)s, NULL);
    for (size_t i = 0; i < a->n_slow; i++)
        pfl_rpc_call_reply(a->slow[i], NULL);
    pfl_rpc_server_close(a->server, 100 * PFL_MS, on_server_closed, a);
}

static int serve(struct app *a, const char *address)
{
    static const struct pfl_rpc_method METHODS[] = {
        {"/node.NodeServices/handshake", on_handshake, false},
        {"/node.NodeServices/send", on_send, false},
        {"/node.NodeServices/disconnect", on_disconnect, false},
    };
    const struct pfl_rpc_server_opts opts = {
        .loop = &a->loop,
        .address = address,
        .tls = a->tls,
        .methods = METHODS,
        .n_methods = PFL_ARRAY_LEN(METHODS),
        .user = a,
        .request_limit = request_limit,
        .on_refused = on_refused,
        .health = true,
        .reflection = true,
    };
    struct pfl_err err = {0};
    if (pfl_rpc_server_new(&opts, &a->server, &err) != PFL_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    uv_pipe_init(&a->loop, &a->input, 0);
    uv_pipe_open(&a->input, 0);
    a->input.data = a;
    uv_read_start((uv_stream_t *)&a->input, on_alloc, on_input);
    printf("LISTEN %s\n", pfl_rpc_server_address(a->server));
    print_rss("idle");
    uv_run(&a->loop, UV_RUN_DEFAULT);
    return 0;
}

/* ---- client ---- */

static void on_state(void *user, bool up, const struct pfl_rpc_peer *peer, enum pfl_rc rc, const char *reason)
{
    (void)user;
    if (up)
        printf("STATE up %s %s %s\n", peer->identity ? pfl_identity_text(peer->identity) : "-",
               peer->tls_version ? peer->tls_version : "-", peer->cipher ? peer->cipher : "-");
    else
        printf("STATE down %s: %s\n", pfl_rc_text(rc), reason);
    fflush(stdout);
}

static void dial(struct app *a, const char *target, size_t response_limit)
{
    const struct pfl_rpc_channel_opts opts = {
        .loop = &a->loop, .target = target, .tls = a->tls, .user = a, .on_state = on_state, .response_limit = response_limit};
    struct pfl_err err = {0};
    if (pfl_rpc_channel_new(&opts, &a->channel, &err) != PFL_OK) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
}

static void on_done(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct app *a = user;
    char text[512];
    struct pfl_bytes r = response ? pfl_field_find(pfl_bytes_of(response->data, response->len), 1) : (struct pfl_bytes){0};
    printf("STATUS %d %s %zu '%s' '%s'\n", status->code, pfl_grpc_code_name(status->code), response ? response->len : 0,
           pfl_quote(r.data, r.len < 64 ? r.len : 64, text, sizeof text), pfl_q(status->message));
    fflush(stdout);
    pfl_rpc_channel_close(a->channel, NULL, NULL);
}

struct sending {
    struct pfl_buf head;
    uint8_t *payload;
    struct pfl_bytes parts[3];
};

static void sending_release(void *owner)
{
    struct sending *s = owner;
    pfl_buf_deinit(&s->head);
    free(s->payload);
    free(s);
}

static size_t varint_len(size_t v)
{
    size_t n = 1;
    for (; v >= 128; v >>= 7)
        n++;
    return n;
}

/* RootMessage {source, cmd, weights {weights: payload, num_samples: 1}}, the payload in place. It is taken over unless borrowed. */
static struct pfl_rpc_body root_message(uint8_t *payload, size_t len, bool borrowed)
{
    static const uint8_t TAIL[] = {3 << 3, 1};
    struct sending *s = pfl_xcalloc(1, sizeof *s);
    pfl_field_put_bytes(&s->head, 1, pfl_bytes_of("127.0.0.1:1", 11));
    pfl_field_put_bytes(&s->head, 3, pfl_bytes_of("add_model", 9));
    pfl_buf_varint(&s->head, 6 << 3 | 2);
    pfl_buf_varint(&s->head, 1 + varint_len(len) + len + sizeof TAIL);
    pfl_buf_varint(&s->head, 1 << 3 | 2);
    pfl_buf_varint(&s->head, len);
    s->payload = borrowed ? NULL : payload;
    s->parts[0] = pfl_buf_view(&s->head);
    s->parts[1] = pfl_bytes_of(payload, len);
    s->parts[2] = pfl_bytes_of(TAIL, sizeof TAIL);
    return (struct pfl_rpc_body){.parts = s->parts, .n = 3, .release = sending_release, .owner = s};
}

static struct pfl_rpc_body text_message(const char *text)
{
    struct sending *s = pfl_xcalloc(1, sizeof *s);
    pfl_field_put_bytes(&s->head, 1, pfl_bytes_of(text, strlen(text)));
    s->parts[0] = pfl_buf_view(&s->head);
    return (struct pfl_rpc_body){.parts = s->parts, .n = 1, .release = sending_release, .owner = s};
}

static int call(struct app *a, int argc, char **argv)
{
    char path[128];
    pfl_ns timeout = argc > 6 ? argument(argv[6]) * PFL_MS : 30 * PFL_SEC;
    dial(a, argv[3], argc > 7 ? (size_t)argument(argv[7]) : 0);
    snprintf(path, sizeof path, "/node.NodeServices/%s", argv[4]);
    struct pfl_rpc_body body;
    if (strcmp(argv[4], "send") == 0) {
        size_t len = (size_t)argument(argv[5]);
        uint8_t *payload = pfl_xmalloc(len + 1);
        memset(payload, 'w', len);
        body = root_message(payload, len, false);
    } else
        body = text_message(argv[5]);
    pfl_rpc_channel_call(a->channel, path, &body, timeout, on_done, a);
    uv_run(&a->loop, UV_RUN_DEFAULT);
    return 0;
}

/* ---- benchmark ---- */

static void must(const struct pfl_rpc_status *status)
{
    if (status->code == PFL_GRPC_OK)
        return;
    fprintf(stderr, "%s: %s\n", pfl_grpc_code_name(status->code), status->message);
    exit(1);
}

enum { BIG_ROUNDS = 5 };

static void big_next(struct app *a);
static void on_big(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct app *a = user;
    (void)response;
    must(status);
    if (a->n++ == 0)
        a->from = pfl_clock_mono(); /* the first warms up */
    if (a->n <= BIG_ROUNDS) {
        big_next(a);
        return;
    }
    double s = (double)(pfl_clock_mono() - a->from) / 1e9;
    printf("{\"calls_per_s\":%.0f,\"message_bytes\":%zu,\"mb_per_s\":%.0f}\n", a->calls_per_s, a->big,
           (double)a->big * BIG_ROUNDS / s / 1e6);
    pfl_rpc_channel_close(a->channel, NULL, NULL);
}
static void big_next(struct app *a)
{
    const struct pfl_rpc_body body = root_message(a->payload, a->big, true);
    pfl_rpc_channel_call(a->channel, "/node.NodeServices/send", &body, 0, on_big, a);
}

static void small_next(struct app *a);
static void on_small(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct app *a = user;
    (void)response;
    must(status);
    if (a->n++ == 1000)
        a->from = pfl_clock_mono();
    pfl_ns took = pfl_clock_mono() - a->from;
    if (a->n <= 1001 || took < 2 * PFL_SEC) {
        small_next(a);
        return;
    }
    a->calls_per_s = (a->n - 1001) / ((double)took / 1e9);
    a->n = 0;
    big_next(a);
}
static void small_next(struct app *a)
{
    const struct pfl_rpc_body body = text_message("127.0.0.1:12345");
    pfl_rpc_channel_call(a->channel, "/node.NodeServices/handshake", &body, 10 * PFL_SEC, on_small, a);
}

static int bench(struct app *a, int argc, char **argv)
{
    a->big = argc > 4 ? (size_t)argument(argv[4]) : 100u << 20;
    a->payload = pfl_xmalloc(a->big);
    memset(a->payload, 'w', a->big);
    dial(a, argv[3], 0);
    small_next(a);
    uv_run(&a->loop, UV_RUN_DEFAULT);
    print_rss("client");
    free(a->payload);
    return 0;
}

int main(int argc, char **argv)
{
    struct app a = {.limit = 4 << 20};
    if (argc < 4) {
        fprintf(stderr, "usage: rpc_echo serve|call|bench CERTS ADDRESS ...\n");
        return 2;
    }
    uv_loop_init(&a.loop);
    a.tls = load_tls(argv[2]);
    if (argc > 4 && strcmp(argv[1], "serve") == 0)
        a.limit = (size_t)argument(argv[4]);
    int rc = strcmp(argv[1], "serve") == 0              ? serve(&a, argv[3])
             : strcmp(argv[1], "call") == 0 && argc > 5 ? call(&a, argc, argv)
             : strcmp(argv[1], "bench") == 0            ? bench(&a, argc, argv)
                                                        : 2;
    uv_run(&a.loop, UV_RUN_DEFAULT);
    uv_loop_close(&a.loop);
    pfl_tls_unref(a.tls);
    return rc;
}
