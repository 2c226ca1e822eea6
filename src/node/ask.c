/* SPDX-License-Identifier: Apache-2.0 */
/* Silence may be the fault of one link. So before a node is evicted, up to three neighbours are asked whether they hear it: they
 * say yes if it spoke to them itself, or if they know a newer count of its beats than the asker does. A yes gives it another half
 * of the timeout, in which its beats have to come by way of those neighbours. Nobody can be kept alive by rumours alone: counts are
 * only raised by who beats. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mesh/beats.h"
#include "node/core.h"

enum { ASK_MAX = 3 };

static bool can_tell(const struct pfl_node *n, const struct pfl_peer *q, const struct pfl_peer *about)
{
    return q != about && q->link == PFL_LINK_UP && q->beats &&
           n->now - pfl_contact_of(&n->peers, q)->last_direct < n->set.heartbeat_timeout;
}

static void ask(struct pfl_node *n, const struct pfl_peer *q, struct pfl_peer *about)
{
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = pfl_msg_new(n->addr, -1, "hear", PFL_MSG_DIRECT);
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    struct pfl_err err = {0};
    char count[24];
    snprintf(count, sizeof(count), "%" PRIu64, about->count);
    pfl_strs_add(&m->args, about->addr);
    pfl_strs_add(&m->args, count);
    if (pfl_msg_encode(m, NULL, &body, &err) != PFL_OK)
        return;
    n->vital = true;
    n->asked = pfl_xrealloc(n->asked, (n->n_asked + 1) * sizeof(*n->asked));
    n->asked[n->n_asked++] =
        (struct pfl_asked){.id = pfl_core_send(n, q->addr, body, n->set.heartbeat_period), .about = pfl_xstrdup(about->addr)};
    n->vital = false;
    pfl_contact_get(&n->peers, about)->questions++;
}

bool pfl_core_ask_around(struct pfl_node *n, struct pfl_peer *p)
{
    struct pfl_contact *c = pfl_contact_get(&n->peers, p);
    if (c->asked_since == p->last_heard) /* they were asked about this silence */
        return c->questions > 0 && c->asked_until > n->now;
    c->asked_since = p->last_heard;
    c->asked_until = n->now + n->set.heartbeat_period;
    c->questions = c->unheard = 0;
    size_t first = n->peers.n ? (size_t)pfl_rng_below(&n->rng, n->peers.n) : 0; /* not always the same ones */
    for (size_t i = 0; i < n->peers.n && c->questions < ASK_MAX && n->n_asked < PFL_ASKED_MAX; i++) {
        const struct pfl_peer *q = n->peers.items[(first + i) % n->peers.n];
        if (can_tell(n, q, p))
            ask(n, q, p);
    }
    return c->questions > 0;
}

static void answered(struct pfl_node *n, const char *about, bool heard, bool unheard)
{
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, about);
    n->members_at = 0;
    struct pfl_contact *c = p && p->contact ? pfl_contact_get(&n->peers, p) : NULL;
    if (!c || c->asked_since != p->last_heard)
        return; /* it spoke meanwhile */
    c->questions -= c->questions > 0;
    c->unheard += unheard;
    if (heard)
        p->last_heard = n->now - n->set.heartbeat_timeout / 2;
}

bool pfl_core_asked_sent(struct pfl_node *n, const struct pfl_event *ev)
{
    for (size_t i = 0; i < n->n_asked; i++) {
        if (n->asked[i].id != ev->id)
            continue;
        PFL_AUTO(pfl_freep) char *about = n->asked[i].about;
        n->asked[i] = n->asked[--n->n_asked];
        bool ok = ev->rc == PFL_OK;
        answered(n, about, ok && pfl_streq(ev->text, "true"), ok && pfl_streq(ev->text, "false"));
        return true;
    }
    return false;
}

void pfl_core_asked_deinit(struct pfl_node *n)
{
    for (size_t i = 0; i < n->n_asked; i++)
        free(n->asked[i].about);
    free(n->asked);
}

enum pfl_rc pfl_core_cmd_hear(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err)
{
    const char *about = in->msg->args.items[0];
    const struct pfl_peer *p = pfl_neighbours_find(&n->peers, about);
    int64_t count;
    if (!pfl_parse_i64(in->msg->args.items[1], 0, (int64_t)PFL_BEAT_COUNT_MAX, &count))
        return pfl_err_set(err, PFL_MALFORMED, "hear: a count of %s", pfl_q(in->msg->args.items[1]));
    pfl_ns spoke_at = p && p->alive ? pfl_contact_of(&n->peers, p)->last_direct : 0;
    bool spoke = spoke_at && n->now - spoke_at < n->set.heartbeat_timeout;
    bool newer = p && p->alive && p->count > (uint64_t)count;
    in->answer = spoke || newer ? "true" : "false";
    return PFL_OK;
}
