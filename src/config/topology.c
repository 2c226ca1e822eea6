/* SPDX-License-Identifier: Apache-2.0 */
/* Who links with whom. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "config/experiment.h"

struct edges {
    struct pfl_edge *items;
    size_t n, cap;
};

static bool edges_has(const struct edges *e, unsigned a, unsigned b)
{
    for (size_t i = 0; i < e->n; i++) {
        if (e->items[i].a == a && e->items[i].b == b)
            return true;
    }
    return false;
}

static void edges_add(struct edges *e, unsigned i, unsigned j)
{
    if (e->n == e->cap) {
        e->cap = e->cap ? 2 * e->cap : 16;
        e->items = pfl_xrealloc(e->items, e->cap * sizeof(*e->items));
    }
    e->items[e->n++] = (struct pfl_edge){i < j ? i : j, i < j ? j : i};
}

/* A random tree first, so that the graph is connected; then random pairs until the mean degree is k. */
static void add_random(struct edges *e, unsigned n, unsigned k, uint64_t seed)
{
    struct pfl_rng rng;
    pfl_rng_seed_named(&rng, seed, "topology");
    for (unsigned i = 1; i < n; i++)
        edges_add(e, (unsigned)pfl_rng_below(&rng, i), i);
    size_t most = (size_t)n * (n - 1) / 2, want = (size_t)n * k / 2;
    if (want > most)
        want = most;
    while (e->n < want) {
        unsigned i = (unsigned)pfl_rng_below(&rng, n), j = (unsigned)pfl_rng_below(&rng, n);
        if (i != j && !edges_has(e, i < j ? i : j, i < j ? j : i))
            edges_add(e, i, j);
    }
}

static int compare(const void *x, const void *y)
{
    const struct pfl_edge *a = x, *b = y;
    if (a->a != b->a)
        return a->a < b->a ? -1 : 1;
    return a->b < b->b ? -1 : a->b > b->b;
}

static void sort_and_drop_doubles(struct edges *e)
{
    size_t kept = 0;
    if (e->n > 1)
        qsort(e->items, e->n, sizeof(*e->items), compare);
    for (size_t i = 0; i < e->n; i++) {
        if (i == 0 || compare(&e->items[i], &e->items[i - 1]) != 0)
            e->items[kept++] = e->items[i];
    }
    e->n = kept;
}

static void add_topology(struct edges *e, const struct pfl_experiment_config *c)
{
    unsigned n = c->nodes;
    switch (c->topology) {
    case PFL_TOPO_STAR:
        for (unsigned i = 1; i < n; i++)
            edges_add(e, 0, i);
        break;
    case PFL_TOPO_FULL:
        for (unsigned i = 0; i < n; i++) {
            for (unsigned j = i + 1; j < n; j++)
                edges_add(e, i, j);
        }
        break;
    case PFL_TOPO_RING:
        if (n > 2)
            edges_add(e, n - 1, 0);
        __attribute__((fallthrough));
    case PFL_TOPO_LINE:
        for (unsigned i = 1; i < n; i++)
            edges_add(e, i - 1, i);
        break;
    case PFL_TOPO_RANDOM:
        add_random(e, n, c->random_degree, c->seed);
        break;
    }
}

enum pfl_rc pfl_topology_edges(const struct pfl_experiment_config *c, struct pfl_edge **ret, size_t *ret_n, struct pfl_err *err)
{
    struct edges e = {0};
    for (size_t i = 0; i < c->n_additional; i++) {
        if (c->additional[i].a >= c->nodes || c->additional[i].b >= c->nodes)
            return pfl_err_set(err, PFL_INVALID, "additional connection [%u, %u]: there are only %u nodes", c->additional[i].a,
                               c->additional[i].b, c->nodes);
    }
    add_topology(&e, c);
    for (size_t i = 0; i < c->n_additional; i++)
        edges_add(&e, c->additional[i].a, c->additional[i].b);
    sort_and_drop_doubles(&e);
    *ret = e.items;
    *ret_n = e.n;
    return PFL_OK;
}
