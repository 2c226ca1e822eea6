/* SPDX-License-Identifier: Apache-2.0 */
/* A round's ballots. What counts of them is the sum for each name, so that is held; a ballot itself is kept only where it may be
 * asked for again, or come to be void. Candidates are the numbers of their rows, and all ballots stand in one run of bytes, in the
 * order of arrival; one that is dropped leaves its bytes there until all go. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/round.h"
#include "node/vote.h"

enum { VOTES_END = PFL_VOTE_MAX + 1 };

/* The row of a name that a ballot has; NULL where a round has as many names as it may. */
static struct pfl_round_peer *candidate(struct pfl_round *r, const char *name, uint32_t *ret_number)
{
    struct pfl_round_peer *p = pfl_round_find(r, name);
    if (!(p && p->candidate) && r->n_candidates == PFL_BALLOT_NAMES_MAX)
        return NULL;
    *ret_number = pfl_round_number(r, name);
    p = pfl_round_row(r, *ret_number);
    r->n_candidates += !p->candidate;
    p->candidate = true;
    if (*ret_number >= r->n_sums) {
        size_t n = *ret_number + 1 + PFL_ROUND_BLOCK + r->n_sums / 8;
        r->sums = pfl_xrealloc(r->sums, n * sizeof(*r->sums));
        memset(&r->sums[r->n_sums], 0, (n - r->n_sums) * sizeof(*r->sums));
        r->n_sums = n;
    }
    return p;
}

/* Where it begins, from 1. */
static uint32_t append(struct pfl_round *r, struct pfl_bytes b)
{
    size_t at = r->ballots_len;
    if (at + b.len > r->ballots_cap) {
        r->ballots_cap = at + b.len + 64 + at / 4;
        r->ballots = pfl_xrealloc(r->ballots, r->ballots_cap);
    }
    memcpy(r->ballots + at, b.data, b.len);
    r->ballots_len += b.len;
    return (uint32_t)at + 1;
}

static enum pfl_rc encode(struct pfl_round *r, const struct pfl_strs *args, struct pfl_buf *out, struct pfl_err *err)
{
    size_t n = args->n / 2;
    (void)pfl_buf_varint(out, n);
    for (size_t i = 0; i < n; i++) {
        int64_t votes;
        uint32_t number;
        if (!candidate(r, args->items[2 * i], &number))
            return pfl_err_set(err, PFL_TOO_BIG, "vote_train_set: %d other names were voted for already", PFL_BALLOT_NAMES_MAX);
        if (!pfl_parse_i64(args->items[2 * i + 1], 0, PFL_VOTE_MAX, &votes))
            votes = 0;
        (void)pfl_buf_varint(out, (uint64_t)number * VOTES_END + (uint64_t)votes);
    }
    if (out->failed || r->ballots_len + out->len >= UINT32_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "vote_train_set: the ballots of round %d fill %zu bytes already", r->round,
                           r->ballots_len);
    return PFL_OK;
}

/* The ballot that begins there counts, or does not any more. */
static void add(struct pfl_round *r, struct pfl_reader in, bool counts)
{
    uint64_t n = pfl_reader_varint(&in);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = pfl_reader_varint(&in);
        struct pfl_round_sum *s = &r->sums[v / VOTES_END];
        uint32_t votes = (uint32_t)(v % VOTES_END);
        s->votes = counts ? s->votes + votes : s->votes - votes;
        s->ballots = counts ? s->ballots + 1 : s->ballots - 1;
    }
}

static struct pfl_reader open_ballot(const struct pfl_round *r, uint32_t at)
{
    struct pfl_reader in = pfl_reader_of((struct pfl_bytes){r->ballots, r->ballots_len});
    in.pos = at - 1;
    return in;
}

enum pfl_rc pfl_round_count_ballot(struct pfl_round *r, const struct pfl_strs *args, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    enum pfl_rc rc = encode(r, args, &b, err);
    if (rc == PFL_OK)
        add(r, pfl_reader_of(pfl_buf_view(&b)), true);
    return rc;
}

enum pfl_rc pfl_round_set_ballot(struct pfl_round *r, struct pfl_round_peer *p, const struct pfl_strs *args, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    enum pfl_rc rc = encode(r, args, &b, err);
    if (rc != PFL_OK)
        return rc;
    pfl_round_drop_ballot(r, p);
    pfl_round_more(r, p)->ballot = append(r, pfl_buf_view(&b));
    add(r, pfl_reader_of(pfl_buf_view(&b)), true);
    return PFL_OK;
}

void pfl_round_drop_ballot(struct pfl_round *r, struct pfl_round_peer *p)
{
    struct pfl_round_more *m = p->more ? pfl_round_more(r, p) : NULL;
    if (!m || !m->ballot)
        return;
    add(r, open_ballot(r, m->ballot), false);
    m->ballot = 0;
}

void pfl_round_ballot(const struct pfl_round *r, const struct pfl_round_peer *p, struct pfl_strs *ret)
{
    const struct pfl_round_more *m = pfl_round_more_of(r, p);
    pfl_strs_deinit(ret);
    if (!m || !m->ballot)
        return;
    struct pfl_reader in = open_ballot(r, m->ballot);
    for (uint64_t n = pfl_reader_varint(&in); n > 0; n--) {
        char votes[24];
        uint64_t v = pfl_reader_varint(&in);
        snprintf(votes, sizeof(votes), "%u", (unsigned)(v % VOTES_END));
        pfl_strs_add(ret, pfl_round_addr(pfl_round_row(r, (uint32_t)(v / VOTES_END))));
        pfl_strs_add(ret, votes);
    }
}

void pfl_round_tally(const struct pfl_round *r, size_t size, bool (*counts)(void *user, const char *name), void *user,
                     struct pfl_strs *ret)
{
    struct pfl_candidate *all = pfl_xcalloc(r->n_candidates ? r->n_candidates : 1, sizeof(*all));
    size_t n = 0;
    for (uint32_t i = 0; i < r->n_sums; i++) {
        if (r->sums[i].ballots > 0) /* else nobody voted for it, or who did is out */
            all[n++] = (struct pfl_candidate){.name = pfl_round_addr(pfl_round_row(r, i)), .votes = r->sums[i].votes};
    }
    pfl_vote_rank(all, n, size, counts, user, ret);
    free(all);
}

void pfl_round_free_ballots(struct pfl_round *r)
{
    free(r->sums);
    free(r->ballots);
    r->sums = NULL;
    r->ballots = NULL;
    r->n_sums = r->ballots_len = r->ballots_cap = r->n_candidates = 0;
}

void pfl_round_drop_ballots(struct pfl_round *r)
{
    for (size_t i = 0; i < r->n_peers; i++)
        pfl_round_at(r, i)->candidate = false;
    for (size_t i = 0; i < r->n_mores; i++)
        r->mores[i]->ballot = 0;
    pfl_round_free_ballots(r);
    pfl_round_drop_empty_rows(r);
}
