/* SPDX-License-Identifier: Apache-2.0 */
/* Signs of life. Each node counts its beats; once per period each neighbour is given one digest with the newest counts that it has
 * not had from here, and that it did not tell itself. A neighbour that knows no digests (P2PFL's nodes) is given a plain beat for
 * each; its hash follows from address and count, so that several nodes may translate the same beat and it still floods once.
 *
 * A count says "alive" only where it is higher than the one known. So a node that is started anew has to overtake the counts of its
 * former life: whoever links with it tells it its own count, and it goes on from there. Counts of the dead are kept for a while:
 * an old one that still goes round must not bring them back.
 *
 * Who does not hear a neighbour any more, and whose other neighbours do not either, says so in its digests. Whoever has no link
 * with that node and knows no newer count believes it; if it lives, its next beat brings it back. So a death is known everywhere
 * soon after the neighbours noticed it, and a node far away need not be evicted because digests are lost on the way (Das, Gupta,
 * Motivala: SWIM, 2002, has the same division of labour). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/beats.h"
#include "node/core.h"

enum { PLAIN_AHEAD = 16 }; /* how far a plain beat may be before or behind what digests told */

/* ---- the dead ---- */

static struct pfl_grave *grave_of(const struct pfl_node *n, const char *addr)
{
    for (size_t i = 0; i < n->n_graves; i++) {
        if (strcmp(n->graves[i].addr, addr) == 0)
            return &n->graves[i];
    }
    return NULL;
}

static void open_grave(struct pfl_node *n, struct pfl_grave *g)
{
    size_t i = (size_t)(g - n->graves);
    free(g->addr);
    memmove(&n->graves[i], &n->graves[i + 1], (n->n_graves - i - 1) * sizeof(*n->graves));
    n->n_graves--;
}

static void expire_graves(struct pfl_node *n)
{
    while (n->n_graves > 0 && n->graves[0].until <= n->now)
        open_grave(n, &n->graves[0]);
}

void pfl_core_bury(struct pfl_node *n, const struct pfl_peer *p, bool tell)
{
    struct pfl_grave *old = grave_of(n, p->addr);
    if (p->count == 0)
        return;
    if (old)
        open_grave(n, old);
    if (n->n_graves == PFL_GRAVES_MAX)
        open_grave(n, &n->graves[0]);
    n->graves = pfl_xrealloc(n->graves, (n->n_graves + 1) * sizeof(*n->graves));
    n->graves[n->n_graves++] = (struct pfl_grave){.addr = pfl_xstrdup(p->addr),
                                                  .count = p->count,
                                                  .digest = tell ? n->digests : 0,
                                                  .until = n->now + 10 * n->set.heartbeat_timeout};
    if (tell)
        pfl_heartbeat_soon(&n->heartbeat, n->now);
}

void pfl_core_beats_deinit(struct pfl_node *n)
{
    while (n->n_graves > 0)
        open_grave(n, &n->graves[n->n_graves - 1]);
    free(n->graves);
}

/* The newest count that is known of it, dead or alive. */
static uint64_t count_of(const struct pfl_node *n, const struct pfl_peer *p, const char *addr)
{
    const struct pfl_grave *g = p && p->count ? NULL : grave_of(n, addr);
    return g ? g->count : p ? p->count : 0;
}

/* ---- in ---- */

static void take_count(struct pfl_node *n, const struct pfl_beat *b, struct pfl_peer *by)
{
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, b->addr);
    if (b->count <= count_of(n, p, b->addr) || pfl_core_barred(n, b->addr))
        return;
    p = pfl_core_heard(n, b->addr, true);
    if (!p)
        return;
    struct pfl_grave *g = grave_of(n, b->addr);
    if (g)
        open_grave(n, g);
    if (p->count == 0)
        pfl_heartbeat_soon(&n->heartbeat, n->now); /* others should not wait a period to hear of it */
    p->count = b->count;
    p->fits = b->fits;
    pfl_core_fits(n, p);
    p->count_by = by && by != p ? by->contact : 0;
    p->count_digest = n->digests;
    p->last_beat = n->now;
}

static void take_death(struct pfl_node *n, const struct pfl_beat *b, const struct pfl_peer *by)
{
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, b->addr);
    if (!p || !p->alive || p->link != PFL_LINK_NONE || p->count == 0 || p->count > b->count)
        return; /* with a link we judge for ourselves */
    PFL_AUTO(pfl_freep) char *why = pfl_xasprintf("its neighbours do not hear it any more, says %s", by->addr);
    pfl_core_evict(n, p, why, true);
}

/* A neighbour knows us from before we were started anew, or somebody speaks in our name: go on from there. */
static void overtake(struct pfl_node *n, uint64_t count)
{
    if (count <= n->count || count >= PFL_BEAT_COUNT_MAX)
        return;
    n->count = count;
    pfl_heartbeat_soon(&n->heartbeat, n->now);
}

enum pfl_rc pfl_core_cmd_beats(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    struct pfl_peer *by = pfl_neighbours_find(&n->peers, in->msg->source);
    struct pfl_beats_reader r = {.args = &in->msg->args};
    struct pfl_beat b;
    enum pfl_rc rc;
    if (!by || by->link == PFL_LINK_NONE)
        return pfl_err_set(err, PFL_STATE, "beats: %s is no neighbour of this node", pfl_q(in->msg->source));
    while ((rc = pfl_beats_next(&r, &b, err)) == PFL_OK) {
        if (strcmp(b.addr, n->addr) == 0)
            overtake(n, b.count);
        else if (b.fits == PFL_BEAT_GONE)
            take_death(n, &b, by);
        else
            take_count(n, &b, by);
    }
    return rc == PFL_NOT_FOUND ? PFL_OK : rc;
}

bool pfl_core_beat_counted(struct pfl_node *n, const struct pfl_msg *m)
{
    struct pfl_peer *p = strcmp(m->cmd, "beat") == 0 ? pfl_neighbours_find(&n->peers, m->source) : NULL;
    if (!p || p->count == 0)
        return false;
    uint64_t from = p->count > PLAIN_AHEAD ? p->count - PLAIN_AHEAD : 1;
    for (uint64_t count = from; count <= p->count + PLAIN_AHEAD; count++) {
        struct pfl_beat b = {.count = count, .fits = PFL_BEAT_IDLE};
        if (pfl_beat_hash(m->source, count) != m->hash)
            continue;
        snprintf(b.addr, sizeof(b.addr), "%s", m->source);
        take_count(n, &b, NULL);
        return true;
    }
    return false;
}

/* ---- out ---- */

static void send_body(struct pfl_node *n, struct pfl_peer *to, struct pfl_scatter *body)
{
    uint64_t id = pfl_core_send(n, to->addr, body, n->set.call_timeout);
    pfl_contact_get(&n->peers, to)->digest_id = id;
    pfl_outbox_add(&n->outbox, to->addr, body, id, n->now, true);
}

static void send_plain(struct pfl_node *n, struct pfl_peer *to, const char *addr, uint64_t count)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new(addr, -1, "beat", PFL_MSG_GOSSIP);
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    struct pfl_err err = {0};
    char seconds[48];
    snprintf(seconds, sizeof(seconds), "%lld.%06lld", (long long)(n->wall / PFL_SEC), (long long)(n->wall % PFL_SEC / 1000));
    pfl_strs_add(&m->args, seconds);
    m->ttl = n->set.gossip_ttl;
    m->hash = pfl_beat_hash(addr, count);
    if (pfl_msg_encode(m, NULL, &body, &err) != PFL_OK)
        return;
    send_body(n, to, body);
}

static void send_digest(struct pfl_node *n, struct pfl_peer *to, struct pfl_beats_writer *w)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new(n->addr, -1, "beats", PFL_MSG_DIRECT);
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    struct pfl_err err = {0};
    pfl_beats_end(w);
    pfl_strs_copy(&m->args, &w->args);
    pfl_beats_deinit(w);
    if (pfl_msg_encode(m, NULL, &body, &err) != PFL_OK) {
        pfl_core_note_text(n, PFL_NOTE_WARNING, to->addr, "beats are not sent: %s", err.msg);
        return;
    }
    send_body(n, to, body);
}

/* Who has never been told anything may be a node that was started anew: it has forgotten what it told, and learns its own count. */
static bool is_news(const struct pfl_peer *p, const struct pfl_peer *to, uint32_t told)
{
    if (told == 0)
        return true;
    return p != to && p->alive && p->count_by != to->contact && p->count_digest >= told;
}

static void tell(struct pfl_node *n, struct pfl_peer *to, struct pfl_beats_writer *w, const char *addr, uint64_t count,
                 int32_t fits)
{
    if (count == 0)
        return;
    if (!to->beats) {
        send_plain(n, to, addr, count);
        return;
    }
    if (pfl_beats_add(w, addr, count, fits))
        return;
    send_digest(n, to, w);
    (void)pfl_beats_add(w, addr, count, fits);
}

static void beat_to(struct pfl_node *n, struct pfl_peer *to)
{
    struct pfl_beats_writer w = {0};
    struct pfl_contact *c = pfl_contact_get(&n->peers, to);
    tell(n, to, &w, n->addr, n->count, n->job == PFL_JOB_FIT || n->job == PFL_JOB_EVALUATE ? n->round : PFL_BEAT_IDLE);
    for (size_t i = 0; i < n->peers.n; i++) {
        const struct pfl_peer *p = n->peers.items[i];
        if (is_news(p, to, c->told) && (p->alive || p == to))
            tell(n, to, &w, p->addr, p == to ? count_of(n, p, p->addr) : p->count, p->fits);
    }
    for (size_t i = 0; to->beats && c->told > 0 && i < n->n_graves; i++) {
        if (n->graves[i].digest >= c->told)
            tell(n, to, &w, n->graves[i].addr, n->graves[i].count, PFL_BEAT_GONE);
    }
    c->told = n->digests + 1;
    if (to->beats)
        send_digest(n, to, &w);
}

void pfl_core_beat(struct pfl_node *n)
{
    expire_graves(n);
    pfl_core_flood_age(n);
    if (n->count == 0) /* beyond what it counted before it was started anew, unless the clock was set back: see overtake() */
        n->count = (uint64_t)(n->wall / PFL_SEC) + pfl_rng_below(&n->rng, 1000);
    n->count++;
    n->vital = true;
    for (size_t i = 0; i < n->peers.n_linked; i++) {
        if (n->peers.linked[i]->link == PFL_LINK_UP)
            beat_to(n, n->peers.linked[i]);
    }
    n->vital = false;
    n->digests++;
    pfl_heartbeat_sent(&n->heartbeat, n->now);
}

void pfl_core_digest_sent(struct pfl_node *n, struct pfl_peer *p, uint64_t id, bool arrived)
{
    struct pfl_contact *c = pfl_contact_get(&n->peers, p);
    bool last = id == c->digest_id;
    if (arrived && last)
        c->told_surely = c->told;
    if (arrived || c->told == c->told_surely)
        return;
    c->told = c->told_surely;
    if (last && p->link == PFL_LINK_UP)
        pfl_heartbeat_soon(&n->heartbeat, n->now);
}
