/* SPDX-License-Identifier: Apache-2.0 */
/* What the core and the links report, turned into events and log lines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "runtime/driver_impl.h"
#include "runtime/limits.h"
#include "runtime/credentials.h"
#include "runtime/keeper.h"
#include "runtime/node_audit.h"
#include "runtime/note_json.h"
#include "runtime/origins.h"
#include "runtime/revocation.h"

const char pfl_driver_interop_weaker[] =
    "P2PFL's own nodes are taken as neighbours. Their messages are not signed: any member of the network can speak in the name of "
    "one of them, start and stop learning so, and pass off a model as theirs, but not in the name of a node that signs; "
    "an address is all that names them; their models carry no digest, and results are equal within float32 rounding only";

static json_t *list_json(const struct pfl_strs *l)
{
    json_t *a = json_array();
    for (size_t i = 0; i < l->n; i++)
        json_array_append_new(a, json_string(l->items[i]));
    return a;
}

static json_t *text_json(const char *s)
{
    char text[2 * PFL_ERR_MAX];
    return s ? json_string(pfl_quote(s, strlen(s), text, sizeof(text))) : json_null();
}

static void counters(struct pfl_driver *d, struct pfl_rpc_counters *ret)
{
    struct pfl_rpc_counters s = {0};
    pfl_links_counters(d, ret);
    if (d->server) /* not any more where a note waited for the disk until the end */
        pfl_rpc_server_counters(d->server, &s);
    ret->bytes_sent += s.bytes_sent;
    ret->bytes_received += s.bytes_received;
    ret->messages_sent += s.messages_sent;
    ret->messages_received += s.messages_received;
}

json_t *pfl_driver_counters_json(struct pfl_driver *d)
{
    struct pfl_rpc_counters c;
    counters(d, &c);
    return json_pack("{s:I, s:I, s:I, s:I}", "bytes_sent", (json_int_t)c.bytes_sent, "bytes_received", (json_int_t)c.bytes_received,
                     "messages_sent", (json_int_t)c.messages_sent, "messages_received", (json_int_t)c.messages_received);
}

static void log_note(struct pfl_driver *d, const struct pfl_note *n, const char *fields)
{
    switch (n->kind) {
    case PFL_NOTE_WARNING:
    case PFL_NOTE_REFUSED:
    case PFL_NOTE_EXCLUDED:
    case PFL_NOTE_REVOKED:
    case PFL_NOTE_NEIGHBOUR_LOST:
    case PFL_NOTE_LEARNING_STOPPED:
        pfl_warn("%s: %s %s", d->name, pfl_note_name(n->kind), fields);
        break;
    case PFL_NOTE_KNOWN:
    case PFL_NOTE_KNOWN_LOST:
    case PFL_NOTE_STAGE:
    case PFL_NOTE_CONTRIBUTION:
        pfl_debug("%s: %s %s", d->name, pfl_note_name(n->kind), fields);
        break;
    default:
        pfl_info("%s: %s %s", d->name, pfl_note_name(n->kind), fields);
        break;
    }
}

void pfl_driver_note(struct pfl_driver *d, const struct pfl_note *n)
{
    if (n->kind == PFL_NOTE_NEIGHBOUR)
        return; /* pfl_driver_note_link says it with the certificate */
    if (n->kind == PFL_NOTE_KNOWN_LOST || n->kind == PFL_NOTE_NEIGHBOUR_LOST)
        pfl_origins_lost(d->origins, n->addr);
    pfl_node_audit_note(d->audit, n);
    json_t *fields = pfl_note_json(n, n->kind == PFL_NOTE_ROUND_FINISHED ? pfl_driver_counters_json(d) : NULL);
    char *text = json_dumps(fields, JSON_COMPACT);
    log_note(d, n, text);
    free(text);
    if (n->kind == PFL_NOTE_LEARNING_FINISHED)
        pfl_job_save_final(d, pfl_node_model(d->node), fields);
    else
        pfl_events_emit(d->events, pfl_note_name(n->kind), fields);
}

void pfl_driver_refused(struct pfl_driver *d, const char *peer, const char *remote, const char *reason)
{
    pfl_ns now = pfl_clock_mono();
    d->refused++;
    pfl_node_audit_refusal(d->audit, peer, remote, reason); /* it has a measure of its own */
    if (now - d->refused_window >= PFL_REFUSED_WINDOW) {
        if (d->refused_said > PFL_REFUSED_SAID_MAX) {
            unsigned more = d->refused_said - PFL_REFUSED_SAID_MAX;
            pfl_warn("%s: refused %u more", d->name, more);
            pfl_events_emit(d->events, "refused_more", json_pack("{s:i}", "count", (int)more));
        }
        d->refused_window = now;
        d->refused_said = 0;
    }
    if (d->refused_said++ >= PFL_REFUSED_SAID_MAX)
        return;
    pfl_warn("%s: refused %s (%s): %s", d->name, pfl_q(peer), pfl_q(remote), reason);
    pfl_events_emit(d->events, "refused",
                    json_pack("{s:s, s:s, s:o}", "peer", pfl_q(peer), "remote", pfl_q(remote), "reason", text_json(reason)));
}

void pfl_driver_note_link(struct pfl_driver *d, struct pfl_link *l)
{
    const struct pfl_rpc_peer *peer = pfl_rpc_channel_peer(l->channel);
    json_t *f = json_pack("{s:s}", "address", l->addr);
    if (peer && peer->identity) {
        json_object_set_new(f, "identity", json_string(pfl_q(pfl_identity_text(peer->identity))));
        json_object_set_new(f, "fingerprint", json_string(peer->identity->fingerprint));
        json_object_set_new(f, "expires", json_integer(peer->identity->not_after));
    }
    json_object_set_new(f, "tls", json_string(peer && peer->tls_version ? peer->tls_version : "none"));
    json_object_set_new(f, "cipher", json_string(peer && peer->cipher ? peer->cipher : "none"));
    pfl_info("%s: linked with %s (%s)", d->name, l->addr,
             peer && peer->identity ? pfl_q(pfl_identity_text(peer->identity)) : "PLAINTEXT, nobody's identity is known");
    pfl_events_emit(d->events, "neighbour", f);
}

/* ---- status ---- */

static json_t *peer_json(struct pfl_driver *d, const struct pfl_peer_view *p, pfl_ns now)
{
    const struct pfl_identity *holder = pfl_origins_holder(d, p->addr);
    json_t *o =
        json_pack("{s:s, s:b, s:f}", "address", p->addr, "direct", p->direct, "last_heard_s", (double)(now - p->last_heard) / 1e9);
    if (d->interop)
        json_object_set_new(o, "kind", json_string(p->ours ? "p2pfl-c" : p->plain ? "p2pfl-python" : "not known yet"));
    if (holder)
        json_object_set_new(o, "identity", json_string(pfl_q(pfl_identity_text(holder))));
    return o;
}

static const char *name_of(void *user, const char *addr)
{
    const struct pfl_identity *holder = pfl_origins_holder(user, addr);
    return holder ? holder->name : NULL;
}

static json_int_t resident_kb(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    long pages = 0;
    char line[128] = "";
    if (f) {
        if (fgets(line, sizeof(line), f)) {
            char *second = strchr(line, ' ');
            pages = second ? strtol(second, NULL, 10) : 0;
        }
        fclose(f);
    }
    return (json_int_t)pages * 4;
}

json_t *pfl_driver_status(struct pfl_driver *d)
{
    struct pfl_snapshot s = {0};
    pfl_ns now = pfl_clock_mono();
    pfl_node_snapshot_at(d->node, now, name_of, d, &s);
    json_t *o =
        json_pack("{s:b, s:s, s:s, s:s, s:b, s:i, s:i, s:i}", "ok", 1, "name", d->name, "address", d->address, "stage", s.stage,
                  "learning", s.learning, "round", (int)s.round, "rounds", (int)s.rounds, "rounds_done", (int)s.rounds_done);
    PFL_ASSERT(o);
    json_object_set_new(o, "experiment", text_json(s.experiment));
    json_object_set_new(o, "waiting_for", text_json(s.waiting_for));
    if (s.waiting_for && s.waiting_until != PFL_NEVER)
        json_object_set_new(o, "waiting_until_s", json_real((double)(s.waiting_until - now) / 1e9));
    unsigned fit = atomic_load(&d->fit_progress);
    json_object_set_new(o, "fit_progress", fit ? json_real((fit - 1) / 100.0) : json_null());
    json_object_set_new(o, "train_set", list_json(&s.train_set));
    json_t *peers = json_array();
    for (size_t i = 0; i < s.n_peers; i++)
        json_array_append_new(peers, peer_json(d, &s.peers[i], now));
    json_object_set_new(o, "peers", peers);
    if (s.has_digest) {
        char hex[2 * PFL_DIGEST_LEN + 1];
        pfl_hex(pfl_bytes_of(s.digest, sizeof(s.digest)), hex);
        json_object_set_new(o, "model_sha256", json_string(hex));
    }
    json_object_set_new(o, "model_ready", json_boolean(pfl_node_model(d->node) != NULL));
    json_object_set_new(o, "tls", json_string(d->tls ? "mutual TLS" : "none: PLAINTEXT"));
    json_object_set_new(o, "interop", json_string(d->interop ? "p2pfl" : "off"));
    if (d->interop)
        json_object_set_new(o, "interop_weaker", json_string(pfl_driver_interop_weaker));
    json_object_set_new(o, "refused", json_integer((json_int_t)d->refused + (json_int_t)s.refused));
    json_object_set_new(o, "rss_kb", json_integer(resident_kb()));
    json_object_set_new(o, "counters", pfl_driver_counters_json(d));
    json_object_set_new(o, "durability", pfl_keeper_status(d->keeper));
    pfl_origins_status(d, o);
    pfl_revocation_status(d, o);
    pfl_credentials_status(d, o);
    pfl_snapshot_deinit(&s);
    return o;
}
