/* SPDX-License-Identifier: Apache-2.0 */
/* Why votes at all: every node must see the same train set without a coordinator. The same ballots give the same set, whatever
 * the order in which they arrived. */
#include "node/vote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"

void pfl_vote_make(struct pfl_rng *rng, const struct pfl_strs *candidates, size_t size, struct pfl_strs *ret)
{
    pfl_strs_deinit(ret);
    size_t n = candidates->n;
    PFL_ASSERT(n > 0 && n <= UINT32_MAX);
    uint32_t *order = pfl_xcalloc(n, sizeof(*order));
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    pfl_rng_shuffle_u32(rng, order, n);
    for (size_t i = 0; i < n && i < size; i++) {
        char votes[24];
        pfl_strs_add(ret, candidates->items[order[i]]);
        snprintf(votes, sizeof(votes), "%llu", (unsigned long long)(pfl_rng_below(rng, PFL_VOTE_MAX + 1) / (i + 1)));
        pfl_strs_add(ret, votes);
    }
    free(order);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool names_differ(const struct pfl_strs *args)
{
    size_t n = args->n / 2;
    const char **names = pfl_xcalloc(n ? n : 1, sizeof(*names));
    for (size_t i = 0; i < n; i++)
        names[i] = args->items[2 * i];
    qsort(names, n, sizeof(*names), by_name);
    bool differ = true;
    for (size_t i = 1; i < n; i++)
        differ = differ && strcmp(names[i - 1], names[i]) != 0;
    free(names);
    return differ;
}

enum pfl_rc pfl_vote_check(const struct pfl_strs *args, struct pfl_err *err)
{
    if (args->n == 0 || args->n % 2 != 0)
        return pfl_err_set(err, PFL_MALFORMED, "vote_train_set: %zu arguments, pairs of address and votes are expected", args->n);
    if (args->n / 2 > PFL_VOTE_NAMES_MAX)
        return pfl_err_set(err, PFL_MALFORMED, "vote_train_set: %zu names, the limit is %d", args->n / 2, PFL_VOTE_NAMES_MAX);
    for (size_t i = 0; i < args->n; i += 2) {
        int64_t votes;
        size_t len = strlen(args->items[i]);
        if (len == 0 || len >= PFL_ADDR_MAX)
            return pfl_err_set(err, PFL_MALFORMED, "vote_train_set: a name of %zu bytes", len);
        if (!pfl_parse_i64(args->items[i + 1], 0, PFL_VOTE_MAX, &votes))
            return pfl_err_set(err, PFL_MALFORMED, "vote_train_set: '%s' votes for %s: a number in 0..%d is expected",
                               pfl_q(args->items[i + 1]), pfl_q(args->items[i]), PFL_VOTE_MAX);
    }
    if (!names_differ(args))
        return pfl_err_set(err, PFL_MALFORMED, "vote_train_set: a name occurs twice");
    return PFL_OK;
}

/* Both descending. */
static int by_votes(const void *a, const void *b)
{
    const struct pfl_candidate *x = a;
    const struct pfl_candidate *y = b;
    if (x->votes != y->votes)
        return x->votes > y->votes ? -1 : 1;
    return strcmp(y->name, x->name);
}

void pfl_vote_rank(struct pfl_candidate *all, size_t n, size_t size, bool (*counts)(void *user, const char *name), void *user,
                   struct pfl_strs *ret)
{
    struct pfl_strs set = {0};
    qsort(all, n, sizeof(*all), by_votes);
    for (size_t i = 0; i < n && set.n < size; i++) {
        if (!counts || counts(user, all[i].name))
            pfl_strs_add(&set, all[i].name);
    }
    pfl_strs_deinit(ret);
    *ret = set;
}
