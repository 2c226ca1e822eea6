/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tls rpc wire */
/* A member that floods a node with small messages over mutual TLS: flood CERTS TARGET SECONDS
 * Gossip in its own name, each message new, 64 under way at once, for so long. The last line is JSON: how many were answered in
 * good order, refused as too many, refused otherwise, and failed. Loopback only. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/rng.h"
#include "base/str.h"
#include "rpc/rpc.h"
#include "wire/msg.h"

enum { UNDER_WAY = 64 };

struct flood {
    uv_loop_t loop;
    uv_timer_t timer;
    struct pfl_rpc_channel *channel;
    uint64_t hash, answered, exhausted, refused, failed;
    bool over;
};

static void scatter_release(void *owner)
{
    pfl_scatter_unref(owner);
}

static void send_one(struct flood *f);

static void on_done(void *user, const struct pfl_rpc_status *status, struct pfl_blob *response)
{
    struct flood *f = user;
    (void)response;
    if (f->over) /* ended with the channel */
        return;
    if (status->code == PFL_GRPC_OK)
        f->answered++;
    else if (status->code == PFL_GRPC_RESOURCE_EXHAUSTED)
        f->exhausted++;
    else if (status->code == PFL_GRPC_PERMISSION_DENIED || status->code == PFL_GRPC_INVALID_ARGUMENT)
        f->refused++;
    else
        f->failed++;
    send_one(f);
}

static void send_one(struct flood *f)
{
    struct pfl_msg *m = pfl_msg_new("127.0.0.1:9", -1, "beat", PFL_MSG_GOSSIP);
    struct pfl_scatter *s = NULL;
    m->ttl = 10;
    m->hash = (int64_t)f->hash++;
    pfl_strs_add(&m->args, "1.0");
    if (pfl_msg_encode(m, NULL, &s, NULL) != PFL_OK)
        abort();
    pfl_msg_unref(m);
    const struct pfl_rpc_body body = {.parts = s->parts, .n = s->n, .release = scatter_release, .owner = s};
    pfl_rpc_channel_call(f->channel, "/node.NodeServices/send", &body, 60 * PFL_SEC, on_done, f);
}

static void on_closed(void *user)
{
    (void)user;
}

static void on_time(uv_timer_t *t)
{
    struct flood *f = t->data;
    f->over = true;
    pfl_rpc_channel_close(f->channel, on_closed, f);
    uv_close((uv_handle_t *)t, NULL);
}

static struct pfl_tls *load(const char *dir)
{
    static const char *const NAMES[] = {"ca.crt", "server.crt", "server.key", "client.crt", "client.key"};
    char path[5][512];
    struct pfl_err err = {0};
    struct pfl_tls *tls = NULL;
    for (size_t i = 0; i < 5; i++)
        (void)snprintf(path[i], sizeof(path[i]), "%s/%s", dir, NAMES[i]);
    const struct pfl_tls_files files = {
        .ca_crt = path[0], .server_crt = path[1], .server_key = path[2], .client_crt = path[3], .client_key = path[4]};
    if (pfl_tls_new(&files, &tls, &err) != PFL_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    return tls;
}

int main(int argc, char **argv)
{
    struct flood f = {0};
    struct pfl_addr a;
    struct pfl_err err = {0};
    double seconds;
    if (argc != 4 || pfl_addr_parse(argv[2], &a, &err) != PFL_OK || !pfl_addr_is_loopback(&a) ||
        !pfl_parse_double(argv[3], &seconds) || !(seconds > 0 && seconds <= 300)) {
        (void)fprintf(stderr, "usage: flood CERTS LOOPBACK_ADDRESS SECONDS (at most 300)\n");
        return 2;
    }
    uv_loop_init(&f.loop);
    uv_timer_init(&f.loop, &f.timer);
    f.timer.data = &f;
    f.hash = pfl_rng_entropy();
    struct pfl_tls *tls = load(argv[1]);
    const struct pfl_rpc_channel_opts opts = {.loop = &f.loop, .target = argv[2], .tls = tls, .user = &f};
    if (pfl_rpc_channel_new(&opts, &f.channel, &err) != PFL_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    uv_timer_start(&f.timer, on_time, (uint64_t)(seconds * 1000), 0);
    for (int i = 0; i < UNDER_WAY; i++)
        send_one(&f);
    uv_run(&f.loop, UV_RUN_DEFAULT);
    uv_loop_close(&f.loop);
    pfl_tls_unref(tls);
    printf("{\"answered\": %llu, \"exhausted\": %llu, \"refused\": %llu, \"failed\": %llu}\n", (unsigned long long)f.answered,
           (unsigned long long)f.exhausted, (unsigned long long)f.refused, (unsigned long long)f.failed);
    return 0;
}
