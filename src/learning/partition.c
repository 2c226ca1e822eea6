/* SPDX-License-Identifier: Apache-2.0 */
/* The division depends on (seed, labels, number of parts, parameters) alone, so that parts made by different processes never
 * overlap. A strategy writes one order of all samples and where each part begins in it. */
#include "learning/partition.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/str.h"

enum { DRAWS_MAX = 1000 };

/* Part k is order[start[k] .. start[k + 1]). */
struct division {
    const struct pfl_dataset *full;
    const struct pfl_partition *p;
    struct pfl_rng rng;
    uint32_t *order; /* full->n */
    size_t *start;   /* part_count + 1 */
};

struct pfl_partition pfl_partition_default(void)
{
    return (struct pfl_partition){.part_count = 1,
                                  .reduction_factor = 1.0,
                                  .alpha = 0.5,
                                  .min_size = 10,
                                  .shards_per_part = 2,
                                  .main_share = 0.8,
                                  .main_classes = 1};
}

bool pfl_partition_parse(const char *name, enum pfl_partition_strategy *ret)
{
    static const char *const names[] = {"iid", "dirichlet", "label_skew", "shards", "percentage", "quantity"};
    for (unsigned i = 0; i < PFL_ARRAY_LEN(names); i++) {
        if (pfl_streq(name, names[i])) {
            *ret = (enum pfl_partition_strategy)i;
            return true;
        }
    }
    return false;
}

static enum pfl_rc check_params(const struct pfl_dataset *full, const struct pfl_partition *p, struct pfl_err *err)
{
    bool draws = p->strategy == PFL_PARTITION_DIRICHLET || p->strategy == PFL_PARTITION_QUANTITY;
    if (draws && !(p->alpha > 0.0 && p->alpha <= 1e6))
        return pfl_err_set(err, PFL_INVALID, "alpha %g: it has to be above 0 and at most 1e6", p->alpha);
    if (draws && p->min_size > full->n / p->part_count)
        return pfl_err_set(err, PFL_INVALID, "a part of at least %zu samples for each of %u: there are only %zu", p->min_size,
                           p->part_count, full->n);
    if (p->strategy == PFL_PARTITION_SHARDS && (p->shards_per_part == 0 || p->shards_per_part > full->n / p->part_count))
        return pfl_err_set(err, PFL_INVALID, "%u shards for each of %u parts: from 1 to as many as there are samples (%zu)",
                           p->shards_per_part, p->part_count, full->n);
    if (p->strategy != PFL_PARTITION_PERCENTAGE)
        return PFL_OK;
    if (!(p->main_share >= 0.0 && p->main_share <= 1.0))
        return pfl_err_set(err, PFL_INVALID, "main share %g: it has to be from 0 to 1", p->main_share);
    if (p->main_classes == 0 || p->main_classes > full->n_classes)
        return pfl_err_set(err, PFL_INVALID, "%u main classes: the data set has %u", p->main_classes, full->n_classes);
    return PFL_OK;
}

static enum pfl_rc check(const struct pfl_dataset *full, const struct pfl_partition *p, struct pfl_err *err)
{
    if (p->part_count == 0 || p->part_index >= p->part_count)
        return pfl_err_set(err, PFL_INVALID, "part %u of %u: the index has to be below the count", p->part_index, p->part_count);
    if (!(p->reduction_factor > 0.0 && p->reduction_factor <= 1.0))
        return pfl_err_set(err, PFL_INVALID, "reduction factor %g: it has to be above 0 and at most 1", p->reduction_factor);
    if (full->n > UINT32_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "%zu samples, the limit is %u", full->n, UINT32_MAX);
    return check_params(full, p, err);
}

static uint32_t *copy_of(const uint32_t *order, size_t n)
{
    uint32_t *copy = pfl_xcalloc(n, sizeof(*copy));
    memcpy(copy, order, n * sizeof(*copy));
    return copy;
}

static void equal_runs(struct division *d)
{
    for (uint64_t k = 0; k <= d->p->part_count; k++)
        d->start[k] = (size_t)((uint64_t)d->full->n * k / d->p->part_count);
}

/* order sorted by label, equal labels in their present order. first[c] is where class c begins; n_classes + 1 elements, owned. */
static size_t *sort_by_label(struct division *d)
{
    const struct pfl_dataset *full = d->full;
    size_t *first = pfl_xcalloc((size_t)full->n_classes + 1, sizeof(*first));
    PFL_AUTO(pfl_freep) size_t *at = pfl_xcalloc((size_t)full->n_classes + 1, sizeof(*at));
    PFL_AUTO(pfl_freep) uint32_t *was = copy_of(d->order, full->n);
    for (size_t i = 0; i < full->n; i++)
        first[full->labels[i] + 1]++;
    for (unsigned c = 0; c < full->n_classes; c++)
        first[c + 1] += first[c];
    memcpy(at, first, ((size_t)full->n_classes + 1) * sizeof(*at));
    for (size_t i = 0; i < full->n; i++)
        d->order[at[full->labels[was[i]]]++] = was[i];
    return first;
}

/* ---- Dirichlet ---- */

/* Gamma(alpha, 1) by Marsaglia and Tsang 2000; below 1 by their boost. */
static double gamma_draw(struct pfl_rng *rng, double alpha)
{
    if (alpha < 1.0) {
        double u = 1.0 - pfl_rng_unit(rng); /* (0, 1] */
        return gamma_draw(rng, alpha + 1.0) * pow(u, 1.0 / alpha);
    }
    double d = alpha - 1.0 / 3.0, c = 1.0 / sqrt(9.0 * d);
    for (;;) {
        double x = pfl_rng_normal(rng), v = 1.0 + c * x, u = 1.0 - pfl_rng_unit(rng);
        if (v <= 0.0)
            continue;
        v = v * v * v;
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v;
    }
}

/* Shares that sum to 1; where `full` is not NULL, a part that is full gets none. */
static void dirichlet_shares(struct pfl_rng *rng, double alpha, size_t n, const bool *full, double *share)
{
    double sum = 0.0;
    for (size_t k = 0; k < n; k++) {
        share[k] = gamma_draw(rng, alpha);
        if (full && full[k])
            share[k] = 0.0;
        sum += share[k];
    }
    for (size_t k = 0; k < n; k++)
        share[k] = sum > 0.0 ? share[k] / sum : 1.0 / (double)n; /* tiny alphas: every draw may be 0 */
}

/* Cuts [0, n) by shares: cut[k] .. cut[k + 1]. */
static void cut_by(const double *share, size_t parts, size_t n, size_t *cut)
{
    double sum = 0.0;
    cut[0] = 0;
    for (size_t k = 0; k < parts; k++) {
        sum += share[k];
        size_t to = (size_t)llround(fmin(sum, 1.0) * (double)n);
        cut[k + 1] = k + 1 == parts ? n : to < cut[k] ? cut[k] : to;
    }
}

/* One draw: cuts[c * (parts + 1) + k] divides class c. Returns the size of the smallest part. */
static size_t draw_classes(struct division *d, const size_t *first, size_t *cuts, size_t *size, bool *full, double *share)
{
    size_t parts = d->p->part_count, smallest = SIZE_MAX;
    memset(size, 0, parts * sizeof(*size));
    memset(full, 0, parts * sizeof(*full));
    for (unsigned c = 0; c < d->full->n_classes; c++) {
        size_t *cut = cuts + c * (parts + 1);
        dirichlet_shares(&d->rng, d->p->alpha, parts, d->p->self_balancing ? full : NULL, share);
        cut_by(share, parts, first[c + 1] - first[c], cut);
        for (size_t k = 0; k < parts; k++) {
            size[k] += cut[k + 1] - cut[k];
            full[k] = size[k] >= d->full->n / parts;
        }
    }
    for (size_t k = 0; k < parts; k++)
        smallest = size[k] < smallest ? size[k] : smallest;
    return smallest;
}

static enum pfl_rc too_small(const struct division *d, struct pfl_err *err)
{
    return pfl_err_set(err, PFL_INVALID,
                       "no division of %zu samples into %u parts of at least %zu in %d draws with alpha %g: use a larger alpha, "
                       "a smaller minimum or fewer parts",
                       d->full->n, d->p->part_count, d->p->min_size, DRAWS_MAX, d->p->alpha);
}

static enum pfl_rc divide_dirichlet(struct division *d, struct pfl_err *err)
{
    size_t parts = d->p->part_count, classes = d->full->n_classes;
    PFL_AUTO(pfl_freep) size_t *first = sort_by_label(d);
    PFL_AUTO(pfl_freep) size_t *cuts = pfl_xcalloc(classes * (parts + 1), sizeof(*cuts));
    PFL_AUTO(pfl_freep) size_t *size = pfl_xcalloc(parts, sizeof(*size));
    PFL_AUTO(pfl_freep) bool *full = pfl_xcalloc(parts, sizeof(*full));
    PFL_AUTO(pfl_freep) double *share = pfl_xcalloc(parts, sizeof(*share));
    bool found = false;
    for (unsigned draw = 0; draw < DRAWS_MAX && !found; draw++)
        found = draw_classes(d, first, cuts, size, full, share) >= d->p->min_size;
    if (!found)
        return too_small(d, err);
    PFL_AUTO(pfl_freep) uint32_t *was = copy_of(d->order, d->full->n);
    size_t at = 0;
    for (size_t k = 0; k < parts; k++) {
        d->start[k] = at;
        for (size_t c = 0; c < classes; c++) {
            const size_t *cut = cuts + c * (parts + 1);
            memcpy(d->order + at, was + first[c] + cut[k], (cut[k + 1] - cut[k]) * sizeof(*was));
            at += cut[k + 1] - cut[k];
        }
    }
    d->start[parts] = at;
    return PFL_OK;
}

static enum pfl_rc divide_quantity(struct division *d, struct pfl_err *err)
{
    size_t parts = d->p->part_count;
    PFL_AUTO(pfl_freep) double *share = pfl_xcalloc(parts, sizeof(*share));
    for (unsigned draw = 0; draw < DRAWS_MAX; draw++) {
        dirichlet_shares(&d->rng, d->p->alpha, parts, NULL, share);
        cut_by(share, parts, d->full->n, d->start);
        size_t smallest = SIZE_MAX;
        for (size_t k = 0; k < parts; k++)
            smallest = d->start[k + 1] - d->start[k] < smallest ? d->start[k + 1] - d->start[k] : smallest;
        if (smallest >= d->p->min_size)
            return PFL_OK;
    }
    return too_small(d, err);
}

/* ---- by label ---- */

static void divide_label_skew(struct division *d)
{
    free(sort_by_label(d));
    equal_runs(d);
}

static void divide_shards(struct division *d)
{
    size_t n = d->full->n, parts = d->p->part_count, shards = parts * d->p->shards_per_part, at = 0;
    PFL_ASSERT(shards > 0); /* check_params */
    free(sort_by_label(d));
    PFL_AUTO(pfl_freep) uint32_t *was = copy_of(d->order, n);
    PFL_AUTO(pfl_freep) uint32_t *shard = pfl_xcalloc(shards, sizeof(*shard));
    for (uint32_t i = 0; i < shards; i++)
        shard[i] = i;
    pfl_rng_shuffle_u32(&d->rng, shard, shards);
    for (size_t k = 0; k < parts; k++) {
        d->start[k] = at;
        for (size_t i = k * d->p->shards_per_part; i < (k + 1) * d->p->shards_per_part; i++) {
            size_t from = (size_t)((uint64_t)n * shard[i] / shards), to = (size_t)((uint64_t)n * (shard[i] + 1) / shards);
            memcpy(d->order + at, was + from, (to - from) * sizeof(*was));
            at += to - from;
        }
    }
    d->start[parts] = at;
}

/* Takes up to `want` samples of class c into the order. */
struct taking {
    const uint32_t *by_label;
    const size_t *first;
    size_t *used; /* of each class */
    uint32_t *order;
    size_t at;
};

static size_t take(struct taking *t, unsigned c, size_t want)
{
    size_t left = t->first[c + 1] - t->first[c] - t->used[c], n = want < left ? want : left;
    memcpy(t->order + t->at, t->by_label + t->first[c] + t->used[c], n * sizeof(*t->order));
    t->used[c] += n;
    t->at += n;
    return n;
}

static bool is_main(const struct division *d, size_t part, unsigned c)
{
    unsigned classes = d->full->n_classes, from = (unsigned)(part * d->p->main_classes % classes);
    return (c + classes - from) % classes < d->p->main_classes;
}

/* One sample at a time from the classes in turn that fit, so that none is drained before the others. */
static void take_evenly(const struct division *d, struct taking *t, size_t part, bool main, size_t want)
{
    unsigned classes = d->full->n_classes, misses = 0;
    for (unsigned c = (unsigned)(part % classes); want > 0 && misses < classes; c = (c + 1) % classes) {
        if (is_main(d, part, c) == main && take(t, c, 1) == 1) {
            want--;
            misses = 0;
        } else {
            misses++;
        }
    }
}

static void divide_percentage(struct division *d)
{
    size_t parts = d->p->part_count;
    PFL_AUTO(pfl_freep) size_t *first = sort_by_label(d);
    PFL_AUTO(pfl_freep) uint32_t *by_label = copy_of(d->order, d->full->n);
    PFL_AUTO(pfl_freep) size_t *used = pfl_xcalloc(d->full->n_classes, sizeof(*used));
    PFL_AUTO(pfl_freep) uint32_t *out = pfl_xcalloc(d->full->n, sizeof(*out));
    struct taking t = {.by_label = by_label, .first = first, .used = used, .order = d->order};
    equal_runs(d);
    /* The main shares of all parts first: what one part takes as "other" must not be missing as another's main class. */
    for (int main = 1; main >= 0; main--) {
        for (size_t k = 0; k < parts; k++) {
            size_t size = d->start[k + 1] - d->start[k], n_main = (size_t)llround(d->p->main_share * (double)size);
            t.order = out + d->start[k];
            t.at = 0;
            if (main) {
                take_evenly(d, &t, k, true, n_main);
                for (size_t i = t.at; i < size; i++)
                    t.order[i] = UINT32_MAX; /* still to be filled */
            } else {
                while (t.at < size && t.order[t.at] != UINT32_MAX)
                    t.at++;
                take_evenly(d, &t, k, false, size - t.at);
            }
        }
    }
    for (size_t k = 0; k < parts; k++) { /* whatever is left, where a class ran out */
        t.order = out + d->start[k];
        t.at = 0;
        while (t.at < d->start[k + 1] - d->start[k] && t.order[t.at] != UINT32_MAX)
            t.at++;
        for (unsigned c = 0; c < d->full->n_classes; c++)
            (void)take(&t, c, d->start[k + 1] - d->start[k] - t.at);
    }
    memcpy(d->order, out, d->full->n * sizeof(*out));
}

static enum pfl_rc divide(struct division *d, struct pfl_err *err)
{
    const struct pfl_dataset *full = d->full;
    d->order = pfl_try_malloc(full->n * sizeof(*d->order));
    if (!d->order)
        return pfl_err_set(err, PFL_UNAVAILABLE, "no memory to divide %zu samples", full->n);
    d->start = pfl_xcalloc((size_t)d->p->part_count + 1, sizeof(*d->start));
    for (uint32_t i = 0; i < full->n; i++)
        d->order[i] = i;
    pfl_rng_seed_named(&d->rng, d->p->seed, "partition");
    pfl_rng_shuffle_u32(&d->rng, d->order, full->n);
    switch (d->p->strategy) {
    case PFL_PARTITION_IID:
        equal_runs(d);
        return PFL_OK;
    case PFL_PARTITION_DIRICHLET:
        return divide_dirichlet(d, err);
    case PFL_PARTITION_LABEL_SKEW:
        divide_label_skew(d);
        return PFL_OK;
    case PFL_PARTITION_SHARDS:
        divide_shards(d);
        return PFL_OK;
    case PFL_PARTITION_PERCENTAGE:
        divide_percentage(d);
        return PFL_OK;
    case PFL_PARTITION_QUANTITY:
        return divide_quantity(d, err);
    }
    return pfl_err_set(err, PFL_INVALID, "unknown partition strategy %d", (int)d->p->strategy);
}

static void division_deinit(struct division *d)
{
    free(d->order);
    free(d->start);
}

/* Samples that part k keeps, in *ret the first of them. Parts in the order of labels are shuffled before the reduction cuts them.
 */
static size_t kept(struct division *d, size_t k, uint32_t **ret)
{
    size_t size = d->start[k + 1] - d->start[k];
    *ret = d->order + d->start[k];
    if (d->p->strategy != PFL_PARTITION_IID) {
        struct pfl_rng rng;
        pfl_rng_seed_named(&rng, d->p->seed + k, "part");
        pfl_rng_shuffle_u32(&rng, *ret, size);
    }
    return (size_t)floor((double)size * d->p->reduction_factor);
}

enum pfl_rc pfl_partition_take(const struct pfl_dataset *full, const struct pfl_partition *p, struct pfl_dataset **ret,
                               struct pfl_err *err)
{
    PFL_AUTO(division_deinit) struct division d = {.full = full, .p = p};
    enum pfl_rc rc = check(full, p, err);
    if (rc == PFL_OK)
        rc = divide(&d, err);
    if (rc != PFL_OK)
        return rc;
    uint32_t *picks;
    size_t n = kept(&d, p->part_index, &picks);
    if (n == 0)
        return pfl_err_set(err, PFL_INVALID, "part %u of %u with reduction factor %g gets none of the %zu samples", p->part_index,
                           p->part_count, p->reduction_factor, full->n);
    return pfl_dataset_pick(full, picks, n, ret, err);
}

enum pfl_rc pfl_partition_table(const struct pfl_dataset *full, const struct pfl_partition *p, size_t *table, struct pfl_err *err)
{
    PFL_AUTO(division_deinit) struct division d = {.full = full, .p = p};
    enum pfl_rc rc = check(full, p, err);
    if (rc == PFL_OK)
        rc = divide(&d, err);
    if (rc != PFL_OK)
        return rc;
    memset(table, 0, (size_t)p->part_count * full->n_classes * sizeof(*table));
    for (size_t k = 0; k < p->part_count; k++) {
        uint32_t *picks;
        size_t n = kept(&d, k, &picks);
        for (size_t i = 0; i < n; i++)
            table[k * full->n_classes + full->labels[picks[i]]]++;
    }
    return PFL_OK;
}
