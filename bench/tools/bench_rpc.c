/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tls rpc */
/* Our transport as a benchmark's party: a server and a client over src/rpc on one loop, as in a node.
 *
 *   bench_rpc CERTS     prints LISTEN ADDRESS, then carries out the lines of standard input and answers each with a line of JSON:
 *     calls TARGET CONNECTIONS IN_FLIGHT MS   small unary calls, IN_FLIGHT on each connection
 *     send BYTES COUNT TARGET...              COUNT messages to each target, to all at once, one after the other to each
 *     beats TARGET BYTES COUNT MS             the same to one, and every MS a small call on the same connection
 *     handshakes TARGET COUNT                 connections that are made and closed, one after the other
 *
 * The parties in bench/peers/ understand the same lines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "rpc/proto_scan.h"
#include "rpc/rpc.h"

enum { CHANNELS_MAX = 64, WORDS_MAX = 80, REQUEST_MAX = 1 << 30 };
#define SMALL "127.0.0.1:12345"

struct app;
struct link { /* a channel that is kept from one command to the next */
    char target[PFL_ADDR_MAX + 16];
    struct pfl_rpc_channel *channel;
    struct app *app;
    unsigned left; /* messages to be sent on it */
};
struct slot { /* a small call under way */
    struct link *link;
    pfl_ns from;
};
struct app {
    uv_loop_t loop;
    uv_pipe_t input;
    uv_timer_t beat;
    struct pfl_tls *tls;
    struct pfl_rpc_server *server;
    struct link links[CHANNELS_MAX];
    size_t n_links;
    char line[4096];
    size_t line_len;
    uint8_t *payload;
    size_t payload_len;
    /* the command under way */
    pfl_ns from, until;
    struct slot slots[CHANNELS_MAX * 32];
    size_t n_open; /* calls without an answer */
    double *took_us;
    size_t n_took, cap_took;
    bool beating;
    struct pfl_rpc_channel *fresh; /* handshakes */
    unsigned left;
    char target[PFL_ADDR_MAX + 16];
};

static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "bench_rpc: %s: %s\n", what, why);
    exit(1);
}

static long number(const char *text)
{
    int64_t value = 0;
    if (!text || !pfl_parse_i64(text, 0, INT64_MAX, &value))
        die("not a number", text ? text : "(nothing)");
    return (long)value;
}

/* ---- what was measured ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void took(struct app *a, pfl_ns from)
{
    if (a->n_took == a->cap_took) {
        a->cap_took = a->cap_took ? 2 * a->cap_took : 1 << 16;
        a->took_us = pfl_xrealloc(a->took_us, a->cap_took * sizeof(*a->took_us));
    }
    a->took_us[a->n_took++] = (double)(pfl_clock_mono() - from) / 1e3;
}

static double percentile(const struct app *a, double share)
{
    if (a->n_took == 0)
        return 0.0;
    size_t at = (size_t)(share * (double)a->n_took);
    return a->took_us[at < a->n_took ? at : a->n_took - 1];
}

static void report(struct app *a, double bytes)
{
    double s = (double)(pfl_clock_mono() - a->from) / 1e9;
    if (a->n_took > 1)
        qsort(a->took_us, a->n_took, sizeof(*a->took_us), by_value);
    printf("{\"seconds\":%.6f,\"n\":%zu,\"per_s\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,\"mb_per_s\":%.1f}\n", s,
           a->n_took, (double)a->n_took / s, percentile(a, 0.5), percentile(a, 0.99), percentile(a, 1.0), bytes / s / 1e6);
    (void)fflush(stdout);
}

/* ---- server ---- */

static void buf_release(void *owner)
{
    pfl_buf_deinit(owner);
    free(owner);
}

static struct pfl_rpc_body text_body(const void *text, size_t len, struct pfl_bytes *part)
{
    struct pfl_buf *b = pfl_xcalloc(1, sizeof(*b));
    pfl_field_put_bytes(b, 1, pfl_bytes_of(text, len));
    *part = pfl_buf_view(b);
    return (struct pfl_rpc_body){.parts = part, .n = 1, .release = buf_release, .owner = b};
}

static void on_handshake(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    (void)user;
    struct pfl_bytes part, addr = pfl_field_find(pfl_bytes_of(request->data, request->len), 1);
    const struct pfl_rpc_body body = text_body(addr.data, addr.len, &part);
    pfl_rpc_call_reply(call, &body);
}

static void on_send(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    (void)user;
    char text[32];
    struct pfl_bytes part;
    const struct pfl_rpc_body body = text_body(text, (size_t)snprintf(text, sizeof(text), "%zu", request->len), &part);
    pfl_rpc_call_reply(call, &body);
}

static size_t request_limit(void *user, const char *path, const struct pfl_rpc_peer *peer)
{
    (void)user;
    (void)path;
    (void)peer;
    return REQUEST_MAX;
}

static void serve(struct app *a)
{
    static const struct pfl_rpc_method METHODS[] = {{"/node.NodeServices/handshake", on_handshake, false},
                                                    {"/node.NodeServices/send", on_send, false}};
    const struct pfl_rpc_server_opts opts = {.loop = &a->loop,
                                             .address = "127.0.0.1:0",
                                             .tls = a->tls,
                                             .methods = METHODS,
                                             .n_methods = PFL_ARRAY_LEN(METHODS),
                                             .user = a,
                                             .request_limit = request_limit};
    struct pfl_err err = {0};
    if (pfl_rpc_server_new(&opts, &a->server, &err) != PFL_OK)
        die("server", err.msg);
    printf("LISTEN %s\n", pfl_rpc_server_address(a->server));
    (void)fflush(stdout);
}

/* ---- client ---- */

/* The calls say what is wrong. */
static void on_state(void *user, bool up, const struct pfl_rpc_peer *peer, enum pfl_rc rc, const char *reason)
{
    (void)user;
    (void)up;
    (void)peer;
    (void)rc;
    (void)reason;
}

static struct pfl_rpc_channel *channel_new(struct app *a, const char *target,
                                           void (*state)(void *, bool, const struct pfl_rpc_peer *, enum pfl_rc, const char *))
{
    const struct pfl_rpc_channel_opts opts = {.loop = &a->loop, .target = target, .tls = a->tls, .user = a, .on_state = state};
    struct pfl_err err = {0};
    struct pfl_rpc_channel *ch = NULL;
    if (pfl_rpc_channel_new(&opts, &ch, &err) != PFL_OK)
        die(target, err.msg);
    return ch;
}

/* The i-th channel to target. */
static struct link *link_to(struct app *a, const char *target, size_t i)
{
    for (size_t k = 0; k < a->n_links; k++)
        if (strcmp(a->links[k].target, target) == 0 && i-- == 0)
            return &a->links[k];
    if (a->n_links == CHANNELS_MAX)
        die(target, "too many channels");
    struct link *l = &a->links[a->n_links++];
    l->app = a;
    (void)snprintf(l->target, sizeof(l->target), "%s", target);
    l->channel = channel_new(a, target, on_state);
    return l;
}

static void must(const struct pfl_rpc_status *status)
{
    if (status->code != PFL_GRPC_OK)
        die(pfl_grpc_code_name(status->code), status->message);
}

static void small_call(struct slot *s, pfl_rpc_done done)
{
    struct pfl_bytes part;
    const struct pfl_rpc_body body = text_body(SMALL, sizeof(SMALL) - 1, &part);
    s->link->app->n_open++;
    pfl_rpc_channel_call(s->link->channel, "/node.NodeServices/handshake", &body, 60 * PFL_SEC, done, s);
}

static void on_small(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct slot *s = user;
    struct app *a = s->link->app;
    (void)response;
    must(status);
    took(a, s->from);
    a->n_open--;
    s->from = pfl_clock_mono();
    if (s->from < a->until)
        small_call(s, on_small);
    else if (a->n_open == 0)
        report(a, 0);
}

static void begin(struct app *a)
{
    a->n_took = 0;
    a->n_open = 0;
    a->from = pfl_clock_mono();
}

static void calls(struct app *a, char **w)
{
    size_t n_links = (size_t)number(w[2]), n_each = (size_t)number(w[3]);
    if (n_links * n_each > PFL_ARRAY_LEN(a->slots))
        die("calls", "too many");
    begin(a);
    a->until = a->from + number(w[4]) * PFL_MS;
    for (size_t i = 0; i < n_links * n_each; i++) {
        a->slots[i] = (struct slot){.link = link_to(a, w[1], i % n_links), .from = a->from};
        small_call(&a->slots[i], on_small);
    }
}

struct sending {
    struct pfl_buf head;
    struct pfl_bytes parts[3];
};

static void sending_release(void *owner)
{
    struct sending *s = owner;
    pfl_buf_deinit(&s->head);
    free(s);
}

static size_t varint_len(size_t v)
{
    size_t n = 1;
    for (; v >= 128; v >>= 7)
        n++;
    return n;
}

/* RootMessage {source, cmd, weights {weights: payload, num_samples: 1}}, the payload where it lies. */
static struct pfl_rpc_body root_message(const struct app *a)
{
    static const uint8_t TAIL[] = {3 << 3, 1};
    struct sending *s = pfl_xcalloc(1, sizeof(*s));
    pfl_field_put_bytes(&s->head, 1, pfl_bytes_of("127.0.0.1:1", 11));
    pfl_field_put_bytes(&s->head, 3, pfl_bytes_of("add_model", 9));
    pfl_buf_varint(&s->head, 6 << 3 | 2);
    pfl_buf_varint(&s->head, 1 + varint_len(a->payload_len) + a->payload_len + sizeof(TAIL));
    pfl_buf_varint(&s->head, 1 << 3 | 2);
    pfl_buf_varint(&s->head, a->payload_len);
    s->parts[0] = pfl_buf_view(&s->head);
    s->parts[1] = pfl_bytes_of(a->payload, a->payload_len);
    s->parts[2] = pfl_bytes_of(TAIL, sizeof(TAIL));
    return (struct pfl_rpc_body){.parts = s->parts, .n = 3, .release = sending_release, .owner = s};
}

static void on_big(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response);
static void big_call(struct link *l)
{
    const struct pfl_rpc_body body = root_message(l->app);
    l->app->n_open++;
    l->left--;
    pfl_rpc_channel_call(l->channel, "/node.NodeServices/send", &body, 0, on_big, l);
}

/* Beats that are under way are waited for: each that was sent counts. */
static void maybe_all_sent(struct app *a)
{
    if (a->n_open == 0)
        report(a, (double)a->payload_len * a->left);
}

static void on_big(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct link *l = user;
    struct app *a = l->app;
    (void)response;
    must(status);
    a->n_open--;
    if (l->left > 0) {
        big_call(l);
        return;
    }
    if (a->beating) {
        a->beating = false;
        uv_timer_stop(&a->beat);
    }
    maybe_all_sent(a);
}

static void set_payload(struct app *a, size_t len)
{
    if (len == a->payload_len)
        return;
    free(a->payload);
    a->payload = pfl_xmalloc(len + 1);
    memset(a->payload, 'w', len);
    a->payload_len = len;
}

static void send_all(struct app *a, char **w)
{
    unsigned count = (unsigned)number(w[2]);
    set_payload(a, (size_t)number(w[1]));
    begin(a);
    a->left = 0;
    for (char **target = w + 3; *target; target++) {
        struct link *l = link_to(a, *target, 0);
        l->left = count;
        a->left += count;
        big_call(l);
    }
}

static void on_beat_answer(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct slot *s = user;
    struct app *a = s->link->app;
    (void)response;
    must(status);
    took(a, s->from);
    s->link = NULL; /* free */
    a->n_open--;
    if (!a->beating)
        maybe_all_sent(a);
}

static void on_beat(uv_timer_t *timer)
{
    struct app *a = timer->data;
    for (size_t i = 0; i < PFL_ARRAY_LEN(a->slots); i++) {
        if (a->slots[i].link)
            continue;
        a->slots[i] = (struct slot){.link = &a->links[a->n_links - 1], .from = pfl_clock_mono()};
        small_call(&a->slots[i], on_beat_answer);
        return;
    }
}

static void beats(struct app *a, char **w)
{
    struct link *l = link_to(a, w[1], 0);
    uint64_t period_ms = (uint64_t)number(w[4]);
    if (l != &a->links[a->n_links - 1])
        die("beats", "use a fresh target");
    set_payload(a, (size_t)number(w[2]));
    memset(a->slots, 0, sizeof(a->slots));
    begin(a);
    l->left = a->left = (unsigned)number(w[3]);
    a->beating = true;
    big_call(l);
    uv_timer_start(&a->beat, on_beat, 0, period_ms);
}

static void on_fresh(void *user, bool up, const struct pfl_rpc_peer *peer, enum pfl_rc rc, const char *reason);
static void next_handshake(void *user)
{
    struct app *a = user;
    if (a->left == 0) {
        report(a, 0);
        return;
    }
    a->left--;
    a->slots[0].from = pfl_clock_mono();
    a->fresh = channel_new(a, a->target, on_fresh);
    pfl_rpc_channel_connect(a->fresh);
}

static void on_fresh(void *user, bool up, const struct pfl_rpc_peer *peer, enum pfl_rc rc, const char *reason)
{
    struct app *a = user;
    (void)peer;
    (void)rc;
    if (!a->fresh)
        return;
    if (!up)
        die("handshake", reason);
    took(a, a->slots[0].from);
    pfl_rpc_channel_close(pfl_steal(&a->fresh), next_handshake, a);
}

static void handshakes(struct app *a, char **w)
{
    (void)snprintf(a->target, sizeof(a->target), "%s", w[1]);
    begin(a);
    a->left = (unsigned)number(w[2]);
    next_handshake(a);
}

/* ---- commands ---- */

static void carry_out(struct app *a, char *line)
{
    static const struct {
        const char *name;
        size_t n_words;
        void (*run)(struct app *a, char **words);
    } COMMANDS[] = {{"calls", 5, calls}, {"send", 4, send_all}, {"beats", 5, beats}, {"handshakes", 3, handshakes}};
    char *words[WORDS_MAX + 1] = {0}, *rest = line;
    size_t n = 0;
    for (char *w; n < WORDS_MAX && (w = strsep(&rest, " ")) != NULL;)
        words[n++] = w;
    for (size_t i = 0; i < PFL_ARRAY_LEN(COMMANDS); i++)
        if (strcmp(words[0], COMMANDS[i].name) == 0 && n >= COMMANDS[i].n_words) {
            COMMANDS[i].run(a, words);
            return;
        }
    die("no such command", line);
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *buf)
{
    struct app *a = h->data;
    (void)size;
    *buf = uv_buf_init(a->line + a->line_len, (unsigned)(sizeof(a->line) - a->line_len));
}

static void on_input(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct app *a = s->data;
    (void)buf;
    if (n < 0) /* nothing is flushed or handed over: this process has served its purpose */
        _Exit(0);
    a->line_len += (size_t)n;
    char *end = memchr(a->line, '\n', a->line_len);
    if (!end)
        return;
    *end = '\0';
    a->line_len = 0;
    carry_out(a, a->line);
}

static struct pfl_tls *load_tls(const char *dir)
{
    char path[5][512];
    static const char *const NAMES[] = {"ca.crt", "server.crt", "server.key", "client.crt", "client.key"};
    for (size_t i = 0; i < 5; i++)
        (void)snprintf(path[i], sizeof(path[i]), "%s/%s", dir, NAMES[i]);
    const struct pfl_tls_files files = {
        .ca_crt = path[0], .server_crt = path[1], .server_key = path[2], .client_crt = path[3], .client_key = path[4]};
    struct pfl_err err = {0};
    struct pfl_tls *tls = NULL;
    if (pfl_tls_new(&files, &tls, &err) != PFL_OK)
        die("certificates", err.msg);
    return tls;
}

int main(int argc, char **argv)
{
    if (argc != 2)
        die("usage", "bench_rpc CERTS");
    struct app *a = pfl_xcalloc(1, sizeof(*a));
    uv_loop_init(&a->loop);
    a->tls = load_tls(argv[1]);
    uv_timer_init(&a->loop, &a->beat);
    uv_pipe_init(&a->loop, &a->input, 0);
    a->input.data = a->beat.data = a;
    uv_pipe_open(&a->input, 0);
    uv_read_start((uv_stream_t *)&a->input, on_alloc, on_input);
    serve(a);
    uv_run(&a->loop, UV_RUN_DEFAULT);
    return 0;
}
