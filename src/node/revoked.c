/* SPDX-License-Identifier: Apache-2.0 */
/* A certificate was revoked while its holder took part. Its connections are the driver's matter; here its address is barred: nobody
 * dials it, what it floods through others does not count and is not passed on, its contribution to a round that is not aggregated
 * yet is dropped, and nobody waits for it. A contribution that a relay has already added to others' cannot be taken out again.
 *
 * The bar is on the address, the revocation on a certificate: who shows a good certificate for the address (a new one, or another
 * holder) takes it over. */
#include <string.h>

#include "node/core.h"

bool pfl_core_barred(const struct pfl_node *n, const char *addr)
{
    return n->barred.n > 0 && pfl_strs_has(&n->barred, addr);
}

void pfl_core_unbar(struct pfl_node *n, const char *addr)
{
    (void)pfl_strs_remove(&n->barred, addr);
}

const char *pfl_core_barred_message(const struct pfl_node *n, const struct pfl_msg *m)
{
    if (n->barred.n == 0)
        return NULL;
    if (pfl_core_barred(n, m->source))
        return "the certificate of its source was revoked";
    if (m->kind == PFL_MSG_WEIGHTS && m->contributors.n == 1 && pfl_core_barred(n, m->contributors.items[0]))
        return "the certificate of its contributor was revoked";
    return NULL;
}

static void bar(struct pfl_node *n, const char *addr)
{
    if (!pfl_strs_add_once(&n->barred, addr) || n->barred.n <= PFL_BARRED_MAX)
        return;
    PFL_AUTO(pfl_freep) char *oldest = pfl_xstrdup(n->barred.items[0]);
    (void)pfl_strs_remove(&n->barred, oldest);
}

/* Once the aggregation runs, its inputs are fixed. */
void pfl_core_drop_contribution(struct pfl_node *n, const char *addr, const char *why)
{
    bool dropped = false;
    for (size_t i = 0; i < PFL_ROUNDS_KEPT; i++) {
        struct pfl_round *r = n->kept[i];
        bool fixed = !r || r->done || (r->round == n->round && n->stage == PFL_STAGE_AGGREGATING);
        if (!fixed)
            dropped = pfl_round_drop(r, addr) || dropped;
    }
    if (dropped)
        pfl_core_note_text(n, PFL_NOTE_WARNING, addr, "its contribution is dropped: %s", why);
}

static void own_revoked(struct pfl_node *n, const char *why)
{
    pfl_core_note_text(n, PFL_NOTE_REVOKED, n->addr, "%s", why);
    n->revoked = true;
    if (n->learning)
        pfl_core_stop(n, "this node is out: %s", why);
    for (size_t i = n->peers.n; i-- > 0;) {
        struct pfl_peer *p = n->peers.items[i];
        pfl_core_close_link(n, p->addr, "this node's certificate was revoked");
        pfl_core_forget_peer(n, p, "this node's certificate was revoked");
    }
}

void pfl_core_on_revoked(struct pfl_node *n, const struct pfl_event *ev)
{
    const char *why = ev->text ? ev->text : "revoked";
    if (!ev->addr || pfl_streq(ev->addr, n->addr)) {
        own_revoked(n, why);
        return;
    }
    if (pfl_core_barred(n, ev->addr))
        return;
    bar(n, ev->addr);
    pfl_core_note_text(n, PFL_NOTE_REVOKED, ev->addr, "%s", why);
    pfl_core_close_link(n, ev->addr, why);
    struct pfl_peer *p = pfl_neighbours_find(&n->peers, ev->addr);
    if (p && (p->link == PFL_LINK_UP || p->link == PFL_LINK_SUSPECT))
        pfl_core_torn(n); /* who was behind it is dialled before silence evicts it */
    if (p)
        pfl_core_forget_peer(n, p, why);
    pfl_core_drop_contribution(n, ev->addr, "its certificate was revoked");
    n->dirty = true;
}
