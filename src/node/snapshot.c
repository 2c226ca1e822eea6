/* SPDX-License-Identifier: Apache-2.0 */
/* The node as others may see it: copied, so that what shows it needs no lock and cannot change it. */
#include <stdlib.h>
#include <string.h>

#include "node/core.h"

enum { NAMES_SHOWN_MAX = 8 };

struct naming {
    const char *(*name_of)(void *user, const char *addr); /* or NULL */
    void *user;
};

/* "node 127.0.0.1:6667", for another than the first without the first word; "berlin at 127.0.0.1:6667" where it has a name. */
static char *who_text(const struct naming *names, const char *addr, bool first)
{
    const char *name = names->name_of ? names->name_of(names->user, addr) : NULL;
    return name ? pfl_xasprintf("%s at %s", name, addr) : pfl_xasprintf("%s%s", first ? "node " : "", addr);
}

/* "node 127.0.0.1:6667 (its vote, last sign of life 1.2 s ago)" */
static char *one_text(const struct pfl_node *n, const char *addr, const char *who, const char *what, pfl_ns now)
{
    const struct pfl_peer *p = pfl_neighbours_find(&n->peers, addr);
    if (!p || !p->alive)
        return pfl_xasprintf("%s (%s; it is not heard of)", who, what);
    bool fits = n->stage == PFL_STAGE_TRAINING && p->fits == n->round;
    pfl_ns heard = p->last_heard < now ? now - p->last_heard : 0; /* a restored node gives others time: then it is in the future */
    return pfl_xasprintf("%s (%s, last sign of life %.1f s ago)", who, fits ? "fit" : what, (double)heard / (double)PFL_SEC);
}

/* "node A (...), B (...) and 3 more", or what is waited for alone. */
static char *waiting_text(const struct pfl_node *n, pfl_ns now, const struct naming *naming)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs names = {0};
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs shown = {0};
    const char *what = pfl_core_waits_for(n, &names);
    if (!what)
        return NULL;
    if (names.n == 0)
        return pfl_xstrdup(what);
    for (size_t i = 0; i < names.n && i < NAMES_SHOWN_MAX; i++) {
        PFL_AUTO(pfl_freep) char *who = who_text(naming, names.items[i], i == 0);
        PFL_AUTO(pfl_freep) char *one = one_text(n, names.items[i], who, what, now);
        pfl_strs_add(&shown, one);
    }
    PFL_AUTO(pfl_freep) char *joined = pfl_strs_join(&shown, ", ");
    if (names.n > shown.n)
        return pfl_xasprintf("%s and %zu more", joined, names.n - shown.n);
    return pfl_steal(&joined);
}

static void copy_peers(const struct pfl_node *n, struct pfl_snapshot *ret)
{
    ret->peers = pfl_xcalloc(n->peers.n ? n->peers.n : 1, sizeof(*ret->peers));
    for (size_t i = 0; i < n->peers.n; i++) {
        const struct pfl_peer *p = n->peers.items[i];
        if (!p->alive)
            continue;
        bool direct = p->link == PFL_LINK_UP || p->link == PFL_LINK_SUSPECT;
        ret->peers[ret->n_peers++] = (struct pfl_peer_view){
            .addr = pfl_xstrdup(p->addr), .direct = direct, .ours = p->ours, .plain = p->plain, .last_heard = p->last_heard};
    }
}

void pfl_node_snapshot_at(const struct pfl_node *n, pfl_ns now, const char *(*name_of)(void *user, const char *addr), void *user,
                          struct pfl_snapshot *ret)
{
    const struct naming naming = {name_of, user};
    *ret = (struct pfl_snapshot){
        .stage = pfl_stage_name(n->stage),
        .learning = n->learning,
        .experiment = n->experiment ? pfl_xstrdup(n->experiment) : NULL,
        .round = n->learning ? n->round : -1,
        .rounds = n->rounds,
        .rounds_done = n->rounds_done,
        .waiting_for = waiting_text(n, now, &naming),
        .waiting_until = pfl_core_stage_until(n),
        .metrics = n->metrics,
        .refused = n->refused,
    };
    const struct pfl_round *r = n->learning ? pfl_core_round(n, n->round) : NULL;
    if (r)
        pfl_strs_copy(&ret->train_set, &r->train_set);
    copy_peers(n, ret);
    ret->has_digest = n->model && n->model->has_digest;
    if (ret->has_digest)
        memcpy(ret->digest, n->model->digest, sizeof(ret->digest));
}

void pfl_node_snapshot(const struct pfl_node *n, struct pfl_snapshot *ret)
{
    pfl_node_snapshot_at(n, n->now, NULL, NULL, ret);
}

void pfl_snapshot_deinit(struct pfl_snapshot *s)
{
    free(s->experiment);
    free(s->waiting_for);
    pfl_strs_deinit(&s->train_set);
    for (size_t i = 0; i < s->n_peers; i++)
        free(s->peers[i].addr);
    free(s->peers);
    *s = (struct pfl_snapshot){0};
}

struct pfl_payload *pfl_node_model(const struct pfl_node *n)
{
    return n->model;
}
