/* SPDX-License-Identifier: Apache-2.0 */
/* The node as others may see it: copied, so that what shows it needs no lock and cannot change it. */
#include <stdlib.h>
#include <string.h>

#include "node/core.h"

enum { NAMES_SHOWN_MAX = 8 };

/* "127.0.0.1:6667, 127.0.0.1:6668 and 3 more (its vote)", or what is waited for alone. */
static char *waiting_text(const struct pfl_node *n)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs names = {0};
    const char *what = pfl_core_waits_for(n, &names);
    if (!what)
        return NULL;
    if (names.n == 0)
        return pfl_xstrdup(what);
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs shown = {0};
    for (size_t i = 0; i < names.n && i < NAMES_SHOWN_MAX; i++)
        pfl_strs_add(&shown, names.items[i]);
    PFL_AUTO(pfl_freep) char *joined = pfl_strs_join(&shown, ", ");
    if (names.n > shown.n)
        return pfl_xasprintf("node %s and %zu more (%s)", joined, names.n - shown.n, what);
    return pfl_xasprintf("node %s (%s)", joined, what);
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

void pfl_node_snapshot(const struct pfl_node *n, struct pfl_snapshot *ret)
{
    *ret = (struct pfl_snapshot){
        .stage = pfl_stage_name(n->stage),
        .learning = n->learning,
        .experiment = n->experiment ? pfl_xstrdup(n->experiment) : NULL,
        .round = n->learning ? n->round : -1,
        .rounds = n->rounds,
        .rounds_done = n->rounds_done,
        .waiting_for = waiting_text(n),
        .waiting_until = pfl_core_stage_until(n),
        .metrics = n->metrics,
    };
    const struct pfl_round *r = n->learning ? pfl_core_round(n, n->round) : NULL;
    if (r)
        pfl_strs_copy(&ret->train_set, &r->train_set);
    copy_peers(n, ret);
    ret->has_digest = n->model && n->model->has_digest;
    if (ret->has_digest)
        memcpy(ret->digest, n->model->digest, sizeof(ret->digest));
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
