/* SPDX-License-Identifier: Apache-2.0 */
/* Latency, bandwidth, loss, cuts. See net.h. State of a link is kept only where messages went over it lately: a network of a
 * thousand nodes has a million links and uses a few thousand. */
#include "sim/net.h"

#include <math.h>
#include <stdlib.h>

struct link {
    uint64_t key; /* from * n + to + 1; 0: free */
    pfl_ns busy_until, last_arrival;
};

struct pfl_sim_net {
    struct pfl_sim_net_opts o;
    unsigned n;
    struct pfl_rng rng;
    struct link *links; /* owned, open addressing, a power of two */
    size_t n_links, cap_links;
    uint8_t *cuts; /* owned, (n, n): how many faults cut it; NULL while there are none */
    double *slow;  /* owned, n; NULL while nobody is slow */
};

void pfl_sim_net_opts_default(struct pfl_sim_net_opts *o)
{
    *o = (struct pfl_sim_net_opts){.latency_min = PFL_MS, .latency_max = 20 * PFL_MS};
}

struct pfl_sim_net *pfl_sim_net_new(const struct pfl_sim_net_opts *o, unsigned n, uint64_t seed)
{
    PFL_ASSERT(o->latency_min >= 0 && o->latency_max >= o->latency_min);
    struct pfl_sim_net *net = pfl_xcalloc(1, sizeof(*net));
    net->o = *o;
    net->n = n;
    pfl_rng_seed_named(&net->rng, seed, "network");
    net->cap_links = 256;
    net->links = pfl_xcalloc(net->cap_links, sizeof(*net->links));
    return net;
}

void pfl_sim_net_free(struct pfl_sim_net *net)
{
    if (!net)
        return;
    free(net->links);
    free(net->cuts);
    free(net->slow);
    free(net);
}

/* ---- links ---- */

static struct link *slot_of(struct link *links, size_t cap, uint64_t key)
{
    size_t i = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (cap - 1);
    while (links[i].key != 0 && links[i].key != key)
        i = (i + 1) & (cap - 1);
    return &links[i];
}

static struct link *link_of(struct pfl_sim_net *net, unsigned from, unsigned to)
{
    if (2 * net->n_links >= net->cap_links) {
        size_t cap = 2 * net->cap_links;
        struct link *links = pfl_xcalloc(cap, sizeof(*links));
        for (size_t i = 0; i < net->cap_links; i++) {
            if (net->links[i].key)
                *slot_of(links, cap, net->links[i].key) = net->links[i];
        }
        free(net->links);
        net->links = links;
        net->cap_links = cap;
    }
    uint64_t key = (uint64_t)from * net->n + to + 1;
    struct link *l = slot_of(net->links, net->cap_links, key);
    if (l->key == 0) {
        l->key = key;
        net->n_links++;
    }
    return l;
}

/* ---- time ---- */

static double slowness(const struct pfl_sim_net *net, unsigned a, unsigned b)
{
    if (!net->slow)
        return 1.0;
    return net->slow[a] > net->slow[b] ? net->slow[a] : net->slow[b];
}

static bool chance(struct pfl_sim_net *net, double share)
{
    return share > 0 && pfl_rng_unit(&net->rng) < share;
}

pfl_ns pfl_sim_net_latency(struct pfl_sim_net *net, unsigned from, unsigned to)
{
    const struct pfl_sim_net_opts *o = &net->o;
    pfl_ns t = o->latency_min + (pfl_ns)pfl_rng_below(&net->rng, (uint64_t)(o->latency_max - o->latency_min) + 1);
    if (o->latency_tail > 0)
        t += (pfl_ns)(-log(1.0 - pfl_rng_unit(&net->rng)) * (double)o->latency_tail);
    return (pfl_ns)((double)t * slowness(net, from, to));
}

static pfl_ns transmission(const struct pfl_sim_net *net, unsigned from, unsigned to, size_t bytes)
{
    if (net->o.bandwidth == 0)
        return 0;
    return (pfl_ns)((double)bytes / (double)net->o.bandwidth * (double)PFL_SEC * slowness(net, from, to));
}

struct pfl_sim_fate pfl_sim_net_send(struct pfl_sim_net *net, unsigned from, unsigned to, size_t bytes, pfl_ns now)
{
    struct pfl_sim_fate f = {.arrives = PFL_NEVER, .arrives_again = PFL_NEVER};
    struct link *l = link_of(net, from, to);
    l->busy_until = (l->busy_until > now ? l->busy_until : now) + transmission(net, from, to, bytes);
    pfl_ns arrives = l->busy_until + pfl_sim_net_latency(net, from, to);
    f.lost = chance(net, net->o.loss) || !pfl_sim_net_reaches(net, from, to);
    if (f.lost)
        return f;
    if (chance(net, net->o.reorder)) {
        arrives += 4 * pfl_sim_net_latency(net, from, to);
    } else {
        arrives = arrives > l->last_arrival ? arrives : l->last_arrival;
        l->last_arrival = arrives;
    }
    f.arrives = arrives;
    f.duplicated = chance(net, net->o.duplicate);
    if (f.duplicated)
        f.arrives_again = arrives + 4 * pfl_sim_net_latency(net, from, to);
    return f;
}

pfl_ns pfl_sim_net_reply(struct pfl_sim_net *net, unsigned from, unsigned to, pfl_ns now, bool *ret_lost)
{
    *ret_lost = chance(net, net->o.reply_loss) || !pfl_sim_net_reaches(net, from, to);
    return now + pfl_sim_net_latency(net, from, to);
}

/* ---- faults ---- */

static uint8_t *cut_of(struct pfl_sim_net *net, unsigned from, unsigned to)
{
    if (!net->cuts)
        net->cuts = pfl_xcalloc((size_t)net->n * net->n, 1);
    return &net->cuts[(size_t)from * net->n + to];
}

void pfl_sim_net_cut(struct pfl_sim_net *net, unsigned from, unsigned to)
{
    uint8_t *c = cut_of(net, from, to);
    PFL_ASSERT(*c < UINT8_MAX);
    ++*c;
}

void pfl_sim_net_mend(struct pfl_sim_net *net, unsigned from, unsigned to)
{
    uint8_t *c = cut_of(net, from, to);
    PFL_ASSERT(*c > 0);
    --*c;
}

bool pfl_sim_net_reaches(const struct pfl_sim_net *net, unsigned from, unsigned to)
{
    return !net->cuts || net->cuts[(size_t)from * net->n + to] == 0;
}

void pfl_sim_net_calm(struct pfl_sim_net *net)
{
    net->o.loss = net->o.reply_loss = net->o.duplicate = net->o.reorder = 0;
}

void pfl_sim_net_slow(struct pfl_sim_net *net, unsigned node, double factor)
{
    if (!net->slow) {
        net->slow = pfl_xcalloc(net->n, sizeof(*net->slow));
        for (unsigned i = 0; i < net->n; i++)
            net->slow[i] = 1.0;
    }
    net->slow[node] = factor;
}
