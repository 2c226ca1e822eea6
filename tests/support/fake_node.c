/* SPDX-License-Identifier: Apache-2.0 */
/* Fakes do not talk to each other: what would go over the network goes through files in the run's folder, "go" when learning was
 * started and "attack" when the impostor asked for a link. */
#include "support/fake_node.h"

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fs.h"
#include "config/node_config.h"
#include "pki/digest.h"

enum { CLIENTS = 16, TICK_MS = 2, ROUNDS = 3, TICKS_PER_ROUND = 8 };

struct fake {
    struct pfl_node_config c;
    int listener, clients[CLIENTS];
    bool subscribed[CLIENTS], over, learning, done, told_attack;
    unsigned ticks;
    int round;
    struct pfl_strs events;
};

static bool behaves(const struct fake *f, const char *how)
{
    char want[64];
    const char *plan = getenv("PFL_FAKE");
    (void)snprintf(want, sizeof(want), "%s=%s", f->c.name, how);
    return plan && strstr(plan, want);
}

static void send_json(int fd, json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT);
    PFL_AUTO(pfl_freep) char *line = pfl_xasprintf("%s\n", text);
    free(text);
    if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
        return; /* the runner is gone; so shall we be */
}

static void emit(struct fake *f, const char *event, json_t *fields)
{
    json_t *o = json_pack("{s:f, s:s, s:s}", "t", (double)pfl_clock_wall() / 1e9, "node", f->c.name, "event", event);
    json_object_update(o, fields);
    json_decref(fields);
    char *text = json_dumps(o, JSON_COMPACT);
    pfl_strs_add(&f->events, text);
    free(text);
    for (int i = 0; i < CLIENTS; i++)
        if (f->clients[i] >= 0 && f->subscribed[i])
            send_json(f->clients[i], o);
    json_decref(o);
}

static char *address_of(const struct fake *f, unsigned index)
{
    unsigned port = (unsigned)strtoul(strrchr(f->c.address, ':') + 1, NULL, 10);
    return pfl_xasprintf("127.0.0.1:%u", port - f->c.learner.part_index + index);
}

static void emit_all_known(struct fake *f)
{
    for (unsigned i = 0; i < f->c.learner.part_count; i++) {
        PFL_AUTO(pfl_freep) char *a = address_of(f, i);
        if (i != f->c.learner.part_index && !behaves(f, "blind"))
            emit(f, "known", json_pack("{s:s}", "address", a));
    }
}

static void touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        close(fd);
}

static json_t *answer(struct fake *f, int client, json_t *request)
{
    const char *cmd = json_string_value(json_object_get(request, "cmd"));
    bool mallory = strcmp(f->c.name, "mallory") == 0;
    if (strcmp(cmd, "connect") == 0 && mallory) {
        touch("../../attack");
        if (!behaves(f, "admitted"))
            return json_pack("{s:b, s:s}", "ok", 0, "error", "tls alert: unknown ca");
    } else if (strcmp(cmd, "learn") == 0) {
        touch("../../go");
    } else if (strcmp(cmd, "shutdown") == 0) {
        f->over = !behaves(f, "stubborn");
    } else if (strcmp(cmd, "subscribe") == 0) {
        f->subscribed[client] = true;
    } else if (strcmp(cmd, "status") == 0) {
        return json_pack("{s:b, s:i, s:{s:i, s:i}}", "ok", 1, "rss_kb", 5000, "counters", "bytes_sent", 1000, "messages_sent", 10);
    }
    return json_pack("{s:b}", "ok", 1);
}

static void serve(struct fake *f, int i)
{
    char text[4096];
    ssize_t n = recv(f->clients[i], text, sizeof(text) - 1, 0);
    json_error_t e;
    json_t *request = n > 0 ? json_loadb(text, (size_t)n, JSON_DISABLE_EOF_CHECK, &e) : NULL;
    if (!request) {
        close(f->clients[i]);
        f->clients[i] = -1;
        return;
    }
    json_t *o = answer(f, i, request);
    send_json(f->clients[i], o);
    json_decref(o);
    if (strcmp(json_string_value(json_object_get(request, "cmd")), "subscribe") == 0) {
        for (size_t k = 0; k < f->events.n; k++) {
            json_t *event = json_loads(f->events.items[k], 0, &e);
            send_json(f->clients[i], event);
            json_decref(event);
        }
    }
    json_decref(request);
}

static void finish(struct fake *f)
{
    struct pfl_err err = {0};
    const char *model = behaves(f, "othermodel") ? "another model" : "the model", *file = behaves(f, "badfile") ? "garbage" : model;
    char digest[2 * PFL_SHA256_LEN + 1];
    pfl_sha256_hex(pfl_bytes_of(model, strlen(model)), digest);
    if (pfl_fs_write_atomic("models/final.safetensors", pfl_bytes_of(file, strlen(file)), 0600, &err) != PFL_OK)
        abort();
    emit(f, "learning_finished",
         json_pack("{s:i, s:f, s:f, s:s}", "rounds", ROUNDS, "loss", 0.25, "accuracy", 0.875, "digest", digest));
    f->done = true;
}

static void next_round(struct fake *f)
{
    if (f->round >= 0)
        emit(f, "round_finished",
             json_pack("{s:i, s:i, s:i}", "round", f->round, "bytes_sent", 100 * (f->round + 1), "messages_sent", 4));
    f->round++;
    emit(f, "metrics", json_pack("{s:i, s:s, s:f, s:f}", "round", f->round, "address", f->c.address, "loss", 1.0, "accuracy", 0.5));
    if (f->round == ROUNDS) {
        finish(f);
        return;
    }
    emit(f, "round_started", json_pack("{s:i}", "round", f->round));
    if (f->round == 1 && behaves(f, "die"))
        raise(SIGKILL);
    if (f->round == 1 && behaves(f, "stop")) {
        emit(f, "learning_stopped", json_pack("{s:s}", "reason", "an operator said so"));
        f->done = true;
    }
}

static void tick(struct fake *f)
{
    if (strcmp(f->c.name, "mallory") == 0)
        return;
    if (strcmp(f->c.name, "node-1") == 0 && !f->told_attack && pfl_fs_exists("../../attack")) {
        f->told_attack = true;
        emit(f, "refused",
             json_pack("{s:s, s:s, s:s}", "peer", "spiffe://p2pfl/node/mallory", "remote", "127.0.0.1:9", "reason",
                       "signed by another CA"));
    }
    if (!f->learning && pfl_fs_exists("../../go")) {
        f->learning = true;
        f->round = -1;
        emit(f, "learning_started", json_pack("{s:i}", "rounds", ROUNDS));
    }
    if (f->learning && !f->done && !(f->round == 1 && behaves(f, "hang")) && ++f->ticks % TICKS_PER_ROUND == 0)
        next_round(f);
}

static void loop(struct fake *f)
{
    while (!f->over) {
        struct pollfd p[CLIENTS + 1] = {{.fd = f->listener, .events = POLLIN}};
        for (int i = 0; i < CLIENTS; i++)
            p[i + 1] = (struct pollfd){.fd = f->clients[i], .events = POLLIN};
        (void)poll(p, CLIENTS + 1, TICK_MS);
        for (int i = 0; i < CLIENTS; i++)
            if (p[i + 1].revents)
                serve(f, i);
        for (int i = 0; p[0].revents && i < CLIENTS; i++) {
            if (f->clients[i] < 0) {
                f->clients[i] = accept(f->listener, NULL, NULL);
                f->subscribed[i] = false;
                break;
            }
        }
        tick(f);
    }
}

int fake_node_main(void)
{
    struct fake f = {0};
    struct pfl_err err = {0};
    struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = "control.sock"};
    if (pfl_node_config_load("node.yaml", &f.c, &err) != PFL_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    if (behaves(&f, "nostart")) {
        fprintf(stderr, "a first line\nserver.key: mode 0644, others can read it\n");
        pfl_node_config_deinit(&f.c);
        return 1;
    }
    if (behaves(&f, "stubborn"))
        signal(SIGTERM, SIG_IGN);
    char pid[16];
    int len = snprintf(pid, sizeof(pid), "%d", (int)getpid());
    if (pfl_fs_write_atomic("pid", pfl_bytes_of(pid, (size_t)len), 0600, &err) != PFL_OK)
        return 1;
    memset(f.clients, -1, sizeof(f.clients));
    f.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(f.listener, (const struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(f.listener, CLIENTS) != 0)
        return 1;
    emit(&f, "started", json_pack("{s:s, s:i}", "address", f.c.address, "pid", (int)getpid()));
    emit_all_known(&f);
    loop(&f);
    pfl_strs_deinit(&f.events);
    pfl_node_config_deinit(&f.c);
    return 0;
}
