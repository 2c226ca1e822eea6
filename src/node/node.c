/* SPDX-License-Identifier: Apache-2.0 */
/* The step: hand the event to whom it concerns, then settle. Settling is the only place where stages move and models are sent,
 * and it looks at the whole state, so that two events in either order end in the same state. */
#include "node/node.h"

#include <stdlib.h>
#include <string.h>

#include "base/siphash.h"
#include "node/core.h"

enum { SETTLE_ROUNDS_MAX = 64 }; /* more moves of the stage in one step than any experiment makes: a bug, not a wait */

static const unsigned seen_min = 4096;

void pfl_node_settings_default(struct pfl_node_settings *s)
{
    *s = (struct pfl_node_settings){
        .heartbeat_period = 2 * PFL_SEC,
        .heartbeat_timeout = 5 * PFL_SEC,
        .vote_timeout = 60 * PFL_SEC,
        .aggregation_timeout = 300 * PFL_SEC,
        .call_timeout = 10 * PFL_SEC,
        .retry_period = PFL_SEC,
        .fit_timeout = 3600 * PFL_SEC,
        .late_join = true,
        .gossip_ttl = 10,
        .seen_max = seen_min,
        .neighbours_max = 64,
        .known_max = 4096,
        .seed = 666,
        .aggregator = pfl_aggregator_find("fedavg"),
    };
}

const struct pfl_hello *pfl_node_hello(void)
{
    static char safetensors[] = "safetensors", compressed[] = "compressed", beats[] = "beats", state[] = "state",
                evidence[] = "evidence";
    static char *codecs[] = {safetensors, compressed}, *features[] = {beats, state, evidence};
    static const struct pfl_hello hello = {.present = true,
                                           .version = 1,
                                           .codecs = {codecs, PFL_ARRAY_LEN(codecs), PFL_ARRAY_LEN(codecs)},
                                           .features = {features, PFL_ARRAY_LEN(features), PFL_ARRAY_LEN(features)}};
    return &hello;
}

struct pfl_node *pfl_node_new(const char *addr, struct pfl_layout *layout, const struct pfl_node_settings *s)
{
    PFL_ASSERT(s->aggregator && s->heartbeat_period > 0 && s->retry_period > 0);
    PFL_ASSERT(s->known_max < PFL_CONTACTS_MAX && s->neighbours_max < PFL_CONTACTS_MAX - s->known_max);
    struct pfl_node *n = pfl_xcalloc(1, sizeof(*n));
    n->addr = pfl_xstrdup(addr);
    n->layout = pfl_layout_ref(layout);
    n->set = *s;
    n->federation = s->federation ? pfl_xstrdup(s->federation) : NULL;
    n->set.federation = n->federation;
    n->round = -1;
    n->wake_at = PFL_NEVER;
    n->early_until = PFL_NEVER;
    n->contributed = -1;
    n->digests = 1;
    pfl_rng_seed_named(&n->rng, s->seed ^ s->entropy, addr);
    unsigned seen = s->seen_max > seen_min ? s->seen_max : seen_min;
    pfl_seen_init(&n->seen, seen, pfl_rng_u64(&n->rng));
    pfl_heartbeat_init(&n->heartbeat, s->heartbeat_period, s->heartbeat_timeout);
    return n;
}

void pfl_node_free(struct pfl_node *n)
{
    if (!n)
        return;
    pfl_outbox_deinit(&n->outbox); /* it borrows addresses of peers */
    pfl_neighbours_deinit(&n->peers);
    pfl_core_lost_deinit(n);
    pfl_core_beats_deinit(n);
    pfl_core_asked_deinit(n);
    pfl_core_forget_contribution(n);
    pfl_seen_deinit(&n->seen);
    pfl_flooded_deinit(&n->flooded);
    pfl_spread_deinit(&n->spread);
    pfl_offers_deinit(&n->offers);
    pfl_payload_unref(n->model);
    pfl_payload_unref(n->early_init);
    pfl_payload_unref(n->initial);
    pfl_round_free(n->early_round);
    for (size_t i = 0; i < PFL_ROUNDS_KEPT; i++)
        pfl_round_free(n->kept[i]);
    for (size_t i = 0; i < n->n_gone; i++) {
        free(n->gone[i].addr);
        free(n->gone[i].why);
    }
    free(n->gone);
    pfl_strs_deinit(&n->partial_who);
    pfl_strs_deinit(&n->barred);
    pfl_core_evidence_clear(n);
    pfl_strs_deinit(&n->past);
    pfl_scatter_unref(n->start_body);
    free(n->told_of);
    free(n->early_init_of);
    pfl_layout_unref(n->layout);
    free(n->experiment);
    pfl_core_put_off_clear(n);
    free(n->put_off);
    free(n->state_to);
    free(n->left);
    free(n->federation);
    free(n->addr);
    free(n);
}

/* ---- small questions of the other files ---- */

void pfl_core_wake(struct pfl_node *n, pfl_ns at)
{
    if (at < n->wake_at)
        n->wake_at = at;
}

bool pfl_core_alive(void *user, const char *addr)
{
    const struct pfl_node *n = user;
    return pfl_streq(addr, n->addr) || pfl_neighbours_alive(&n->peers, addr);
}

bool pfl_core_is_outage(enum pfl_rc rc)
{
    return rc == PFL_UNAVAILABLE || rc == PFL_TIMEOUT || rc == PFL_IO || rc == PFL_CANCELED;
}

/* What it says is part of it: who signs two votes under one hash, for two neighbours, would be found out by nobody otherwise, for
 * the second one would pass for a copy. But several nodes may make a plain beat of one count, each with its own clock. */
static int64_t seen_key(const struct pfl_node *n, const struct pfl_msg *m)
{
    struct pfl_siphash h;
    pfl_siphash_init(&h, n->seen.salt, (uint64_t)m->hash);
    pfl_siphash_add_text(&h, m->source);
    bool beat = strcmp(m->cmd, "beat") == 0;
    for (size_t i = 0; !beat && i < m->args.n; i++)
        pfl_siphash_add_text(&h, m->args.items[i]);
    if (m->has_model_digest)
        pfl_siphash_add(&h, m->model_digest, sizeof(m->model_digest));
    if (m->computed)
        pfl_siphash_add_u64(&h, 1);
    if (m->has_contribution) {
        pfl_siphash_add(&h, m->contribution, sizeof(m->contribution));
        pfl_siphash_add_u64(&h, (uint64_t)m->contribution_samples);
    }
    if (m->evidence.len > 0)
        pfl_siphash_add(&h, m->evidence.data, m->evidence.len);
    return (int64_t)pfl_siphash_end(&h);
}

uint32_t pfl_core_tag(const struct pfl_node *n, const struct pfl_msg *m)
{
    return (uint32_t)seen_key(n, m);
}

bool pfl_core_seen_add(struct pfl_node *n, const struct pfl_msg *m)
{
    return pfl_seen_add(&n->seen, seen_key(n, m));
}

bool pfl_node_knows(const struct pfl_node *n, const struct pfl_msg *m)
{
    return m->kind == PFL_MSG_GOSSIP &&
           (pfl_streq(m->source, n->addr) || pfl_seen_has(&n->seen, seen_key(n, m)) || pfl_core_evidence_idle(n, m));
}

bool pfl_node_is_learning(const struct pfl_node *n)
{
    return n->learning;
}

/* ---- the step ---- */

static void on_sent(struct pfl_node *n, const struct pfl_event *ev)
{
    if (!pfl_core_flood_sent(n, ev) && !pfl_core_asked_sent(n, ev) && !pfl_core_state_sent(n, ev))
        (void)pfl_core_push_sent(n, ev); /* else: of something that was given up meanwhile */
}

static void dispatch(struct pfl_node *n, const struct pfl_event *ev)
{
    switch (ev->kind) {
    case PFL_EV_TICK:
        break;
    case PFL_EV_MODEL:
        pfl_core_on_model(n, ev);
        break;
    case PFL_EV_HANDSHAKE:
        pfl_core_on_handshake(n, ev);
        break;
    case PFL_EV_DISCONNECT:
        pfl_core_on_disconnect(n, ev);
        break;
    case PFL_EV_LINK_UP:
        pfl_core_on_link_up(n, ev);
        break;
    case PFL_EV_LINK_DOWN:
        pfl_core_on_link_down(n, ev);
        break;
    case PFL_EV_MESSAGE:
        pfl_core_on_message(n, ev);
        break;
    case PFL_EV_SENT:
        on_sent(n, ev);
        break;
    case PFL_EV_JOB:
        pfl_core_on_job(n, ev);
        break;
    case PFL_EV_CMD_CONNECT:
        pfl_core_on_connect(n, ev);
        break;
    case PFL_EV_CMD_DISCONNECT:
        pfl_core_on_cmd_disconnect(n, ev);
        break;
    case PFL_EV_CMD_LEARN:
        pfl_core_on_learn(n, ev);
        break;
    case PFL_EV_CMD_STOP:
        pfl_core_on_stop(n, ev);
        break;
    case PFL_EV_REVOKED:
        pfl_core_on_revoked(n, ev);
        break;
    case PFL_EV_RESTORE:
        pfl_core_on_restore(n, ev);
        break;
    case PFL_EV_SHUTDOWN:
        pfl_core_shutdown(n);
        break;
    }
}

/* What came before start_learning is not kept for ever. */
static void drop_early(struct pfl_node *n)
{
    if (n->early_until > n->now)
        return;
    n->early_until = PFL_NEVER;
    pfl_payload_unref(n->early_init);
    n->early_init = NULL;
    pfl_round_free(n->early_round);
    n->early_round = NULL;
}

static pfl_ns earlier(pfl_ns a, pfl_ns b)
{
    return a < b ? a : b;
}

/* With a thousand known nodes it costs too much to look at each of them at each step. Signs of life only put off what is due, so
 * the last answer to "when?" holds until then, or until something else than a sign of life happened (members_at = 0). */
static void members_run(struct pfl_node *n)
{
    if (n->members_at > n->now)
        return;
    pfl_core_links_run(n);
    pfl_core_heal_run(n);
    pfl_core_rejoin_run(n);
    pfl_core_plain_run(n);
    n->members_at = earlier(pfl_core_links_deadline(n), earlier(pfl_core_heal_deadline(n), pfl_core_rejoin_deadline(n)));
    n->members_at = earlier(n->members_at, pfl_core_plain_deadline(n));
}

static bool is_ordinary(enum pfl_event_kind k)
{
    return k == PFL_EV_TICK || k == PFL_EV_MESSAGE || k == PFL_EV_SENT || k == PFL_EV_JOB;
}

static void settle(struct pfl_node *n, enum pfl_event_kind kind)
{
    drop_early(n);
    members_run(n);
    if (pfl_heartbeat_due(&n->heartbeat, n->now))
        pfl_core_beat(n);
    /* A message that arrives makes nothing else's turn come, but time does: that is put off to the tick which is asked for. So what
     * is sent when a message arrives is sent because of it. */
    pfl_core_outbox_run(n, kind != PFL_EV_MESSAGE);
    if (pfl_core_stage_until(n) <= n->now || n->wake_at <= n->now || pfl_spread_deadline(&n->spread) <= n->now)
        n->dirty = true;
    for (unsigned i = 0; n->dirty; i++) {
        PFL_ASSERT(i < SETTLE_ROUNDS_MAX);
        n->dirty = false;
        n->wake_at = PFL_NEVER;
        pfl_core_advance(n);
        pfl_core_join_run(n);
        pfl_core_plan_pushes(n);
        pfl_core_run_pushes(n);
    }
}

void pfl_node_step(struct pfl_node *n, const struct pfl_event *ev, struct pfl_actions *out)
{
    n->now = ev->now;
    n->wall = ev->wall;
    n->out = out;
    if (n->closing) {
        pfl_core_reply(n, ev->call, NULL, "the node is shutting down");
    } else {
        pfl_heartbeat_observe(&n->heartbeat, ev->now);
        if (!is_ordinary(ev->kind))
            n->members_at = 0;
        dispatch(n, ev);
        if (!n->closing)
            settle(n, ev->kind);
        pfl_core_keep_run(n);
    }
    n->out = NULL;
}

pfl_ns pfl_node_deadline(const struct pfl_node *n)
{
    if (n->closing)
        return PFL_NEVER;
    pfl_ns t = earlier(pfl_heartbeat_deadline(&n->heartbeat), n->members_at);
    t = earlier(t, pfl_core_outbox_deadline(n));
    t = earlier(t, pfl_spread_deadline(&n->spread));
    t = earlier(t, earlier(n->wake_at, n->early_until));
    return earlier(t, pfl_core_stage_until(n));
}
