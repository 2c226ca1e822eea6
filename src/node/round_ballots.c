/* SPDX-License-Identifier: Apache-2.0 */
/* A round's ballots, in as few bytes as a table of a thousand of them should take: candidates are the numbers of their rows, and
 * all ballots stand in one run of bytes, in the order of arrival. One that is dropped leaves its bytes there until all go. */
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

enum pfl_rc pfl_round_set_ballot(struct pfl_round *r, struct pfl_round_peer *p, const struct pfl_strs *args, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    size_t n = args->n / 2;
    (void)pfl_buf_varint(&b, n);
    for (size_t i = 0; i < n; i++) {
        int64_t votes;
        uint32_t number;
        if (!candidate(r, args->items[2 * i], &number))
            return pfl_err_set(err, PFL_TOO_BIG, "vote_train_set: %d other names were voted for already", PFL_BALLOT_NAMES_MAX);
        if (!pfl_parse_i64(args->items[2 * i + 1], 0, PFL_VOTE_MAX, &votes))
            votes = 0;
        (void)pfl_buf_varint(&b, (uint64_t)number * VOTES_END + (uint64_t)votes);
    }
    if (b.failed || r->ballots_len + b.len >= UINT32_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "vote_train_set: the ballots of round %d fill %zu bytes already", r->round,
                           r->ballots_len);
    p->ballot = append(r, pfl_buf_view(&b));
    return PFL_OK;
}

void pfl_round_drop_ballot(struct pfl_round_peer *p)
{
    p->ballot = 0;
}

/* Reads what of it is left: *ret is the number of candidates. */
static struct pfl_reader open_ballot(const struct pfl_round *r, const struct pfl_round_peer *p, uint64_t *ret)
{
    struct pfl_reader in = pfl_reader_of((struct pfl_bytes){r->ballots, r->ballots_len});
    in.pos = p->ballot ? p->ballot - 1 : 0;
    *ret = p->ballot ? pfl_reader_varint(&in) : 0;
    return in;
}

void pfl_round_ballot(const struct pfl_round *r, const struct pfl_round_peer *p, struct pfl_strs *ret)
{
    uint64_t n;
    struct pfl_reader in = open_ballot(r, p, &n);
    pfl_strs_deinit(ret);
    for (uint64_t i = 0; i < n; i++) {
        char votes[24];
        uint64_t v = pfl_reader_varint(&in);
        snprintf(votes, sizeof(votes), "%u", (unsigned)(v % VOTES_END));
        pfl_strs_add(ret, pfl_round_addr(pfl_round_row(r, (uint32_t)(v / VOTES_END))));
        pfl_strs_add(ret, votes);
    }
}

/* Adds its votes to those of all rows, which have none where nobody voted for them. */
static void count(const struct pfl_round *r, const struct pfl_round_peer *p, struct pfl_candidate *all)
{
    uint64_t n;
    struct pfl_reader in = open_ballot(r, p, &n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = pfl_reader_varint(&in);
        uint32_t number = (uint32_t)(v / VOTES_END);
        all[number].name = pfl_round_addr(pfl_round_row(r, number));
        all[number].votes += (int64_t)(v % VOTES_END);
    }
}

void pfl_round_tally(const struct pfl_round *r, size_t size, bool (*counts)(void *user, const char *name), void *user,
                     struct pfl_strs *ret)
{
    struct pfl_candidate *all = pfl_xcalloc(r->n_rows ? r->n_rows : 1, sizeof(*all));
    size_t n = 0;
    for (size_t i = 0; i < r->n_peers; i++) {
        if (pfl_round_at(r, i)->voted)
            count(r, pfl_round_at(r, i), all);
    }
    for (size_t i = 0; i < r->n_rows; i++) {
        if (all[i].name)
            all[n++] = all[i];
    }
    pfl_vote_rank(all, n, size, counts, user, ret);
    free(all);
}

void pfl_round_drop_ballots(struct pfl_round *r)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        pfl_round_drop_ballot(pfl_round_at(r, i));
        pfl_round_at(r, i)->candidate = false;
    }
    free(r->ballots);
    r->ballots = NULL;
    r->ballots_len = r->ballots_cap = r->n_candidates = 0;
    pfl_round_drop_empty_rows(r);
}
