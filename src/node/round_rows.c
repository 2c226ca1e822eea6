/* SPDX-License-Identifier: Apache-2.0 */
/* What each node said of a round. There is a row for each of a thousand nodes and each of two or three rounds, so a row is small:
 * its address is the one that the table of known nodes holds, the result is the number of one that most announce alike, and what
 * few have is elsewhere. Rows lie in blocks and do not move; their numbers are kept in order of addresses. */
#include <stdlib.h>
#include <string.h>

#include "node/round.h"

/* ---- rows ---- */

static size_t lower_bound(const struct pfl_round *r, const char *addr)
{
    size_t lo = 0;
    size_t hi = r->n_peers;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(pfl_round_addr(pfl_round_at(r, mid)), addr) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool is_at(const struct pfl_round *r, size_t i, const char *addr)
{
    return i < r->n_peers && strcmp(pfl_round_addr(pfl_round_at(r, i)), addr) == 0;
}

struct pfl_round_peer *pfl_round_find(const struct pfl_round *r, const char *addr)
{
    size_t i = lower_bound(r, addr);
    return is_at(r, i, addr) ? pfl_round_at(r, i) : NULL;
}

/* The number of an empty row that is in no order. */
static uint32_t empty_row(struct pfl_round *r)
{
    if (r->unused) {
        uint32_t number = r->unused - 1;
        struct pfl_round_peer *p = pfl_round_row(r, number);
        r->unused = p->more;
        p->more = 0;
        return number;
    }
    PFL_ASSERT(r->n_rows < UINT32_MAX);
    size_t n_blocks = r->n_rows / PFL_ROUND_BLOCK;
    if (r->n_rows % PFL_ROUND_BLOCK == 0) {
        r->blocks = pfl_xrealloc(r->blocks, (n_blocks + 1) * sizeof(struct pfl_round_peer *));
        r->blocks[n_blocks] = pfl_xcalloc(PFL_ROUND_BLOCK, sizeof(**r->blocks));
    }
    return r->n_rows++;
}

uint32_t pfl_round_number(struct pfl_round *r, const char *addr)
{
    size_t i = lower_bound(r, addr);
    if (is_at(r, i, addr))
        return r->order[i];
    if (r->n_peers == r->cap_peers) {
        r->cap_peers += 8 + r->cap_peers / 4;
        r->order = pfl_xrealloc(r->order, r->cap_peers * sizeof(*r->order));
    }
    uint32_t number = empty_row(r);
    struct pfl_peer *known = r->known ? pfl_neighbours_find(r->known, addr) : NULL;
    pfl_round_row(r, number)->who = known ? pfl_neighbour_ref(known) : pfl_neighbour_new(addr);
    memmove(&r->order[i + 1], &r->order[i], (r->n_peers - i) * sizeof(*r->order));
    r->order[i] = number;
    r->n_peers++;
    return number;
}

struct pfl_round_peer *pfl_round_get(struct pfl_round *r, const char *addr)
{
    return pfl_round_row(r, pfl_round_number(r, addr));
}

static void trainer_free(struct pfl_trainer *t)
{
    if (!t)
        return;
    pfl_statement_deinit(&t->said_model);
    pfl_statement_deinit(&t->said_own);
    pfl_statement_deinit(&t->said_ready);
    pfl_strs_deinit(&t->holds);
    pfl_early_deinit(&t->early);
    free(t);
}

static void more_free(struct pfl_round_more *m)
{
    pfl_statement_deinit(&m->said_vote);
    trainer_free(m->trainer);
    free(m);
}

void pfl_round_drop_rows(struct pfl_round *r)
{
    for (size_t i = 0; i < r->n_peers; i++)
        pfl_neighbour_unref(pfl_round_at(r, i)->who);
    for (size_t i = 0; i < r->n_mores; i++)
        more_free(r->mores[i]);
    for (size_t i = 0; i * PFL_ROUND_BLOCK < r->n_rows; i++)
        free(r->blocks[i]);
    for (size_t i = 0; i < r->n_results; i++)
        free(r->results[i]);
    free(r->blocks);
    free(r->order);
    free(r->results);
    free(r->mores);
    free(r->ready_at);
    pfl_round_free_ballots(r);
    r->blocks = NULL;
    r->order = NULL;
    r->results = NULL;
    r->mores = NULL;
    r->ready_at = NULL;
    r->n_rows = r->unused = 0;
    r->n_peers = r->cap_peers = r->n_voted = r->n_results = r->n_mores = 0;
    r->n_ready_at = 0;
}

static bool is_empty(const struct pfl_round_peer *p)
{
    bool said = p->voted || p->named || p->withdrawn || p->trains || p->ready || p->candidate;
    return !said && !p->more && p->n_results == 0;
}

void pfl_round_drop_empty_rows(struct pfl_round *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->n_peers; i++) {
        struct pfl_round_peer *p = pfl_round_at(r, i);
        if (!is_empty(p)) {
            r->order[kept++] = r->order[i];
            continue;
        }
        pfl_neighbour_unref(p->who);
        *p = (struct pfl_round_peer){.more = r->unused};
        r->unused = r->order[i] + 1;
    }
    r->n_peers = kept;
}

void pfl_round_set_voted(struct pfl_round *r, struct pfl_round_peer *p, bool voted)
{
    r->n_voted += voted && !p->voted;
    r->n_voted -= !voted && p->voted;
    p->voted = voted;
}

/* ---- what few have ---- */

const struct pfl_round_more *pfl_round_more_of(const struct pfl_round *r, const struct pfl_round_peer *p)
{
    return p->more ? r->mores[p->more - 1] : NULL;
}

struct pfl_round_more *pfl_round_more(struct pfl_round *r, struct pfl_round_peer *p)
{
    if (p->more)
        return r->mores[p->more - 1];
    if (r->n_mores % PFL_ROUND_BLOCK == 0)
        r->mores = pfl_xrealloc(r->mores, (r->n_mores + PFL_ROUND_BLOCK) * sizeof(struct pfl_round_more *));
    struct pfl_round_more *m = r->mores[r->n_mores++] = pfl_xcalloc(1, sizeof(*m));
    p->more = r->n_mores;
    return m;
}

struct pfl_statement *pfl_round_said_vote(struct pfl_round *r, struct pfl_round_peer *p)
{
    return &pfl_round_more(r, p)->said_vote;
}

struct pfl_trainer *pfl_round_trainer(struct pfl_round *r, struct pfl_round_peer *p)
{
    struct pfl_round_more *m = pfl_round_more(r, p);
    if (!m->trainer)
        m->trainer = pfl_xcalloc(1, sizeof(*m->trainer));
    return m->trainer;
}

struct pfl_trainer *pfl_round_trainer_of(const struct pfl_round *r, const struct pfl_round_peer *p)
{
    const struct pfl_round_more *m = pfl_round_more_of(r, p);
    return m ? m->trainer : NULL;
}

const struct pfl_strs *pfl_round_holds(const struct pfl_round *r, const struct pfl_round_peer *p)
{
    static const struct pfl_strs nothing = {0};
    const struct pfl_trainer *t = pfl_round_trainer_of(r, p);
    return t ? &t->holds : &nothing;
}

/* ---- results ---- */

enum { RESULTS_MAX = (1 << 24) - 1 }; /* what fits a row's number of one: far more than rows */

/* The number of a reference: of one that is there, or of a new one in the first free place. */
static uint32_t result_of(struct pfl_round *r, const uint8_t *digest)
{
    size_t free_at = r->n_results;
    for (size_t i = 0; i < r->n_results; i++) {
        struct pfl_result *x = r->results[i];
        if (x && memcmp(x->digest, digest, PFL_DIGEST_LEN) == 0) {
            x->refs++;
            return (uint32_t)i + 1;
        }
        free_at = !x && free_at == r->n_results ? i : free_at;
    }
    PFL_ASSERT(free_at < RESULTS_MAX);
    if (free_at == r->n_results)
        r->results = pfl_xrealloc(r->results, ++r->n_results * sizeof(struct pfl_result *));
    struct pfl_result *x = r->results[free_at] = pfl_xcalloc(1, sizeof(*x));
    memcpy(x->digest, digest, PFL_DIGEST_LEN);
    x->refs = 1;
    return (uint32_t)free_at + 1;
}

static void result_unref(struct pfl_round *r, uint32_t number)
{
    if (number == 0 || --r->results[number - 1]->refs > 0)
        return;
    free(r->results[number - 1]);
    r->results[number - 1] = NULL;
}

static const uint8_t *digest_of(const struct pfl_round *r, uint32_t number)
{
    return number ? r->results[number - 1]->digest : NULL;
}

/* The i-th that it announced, oldest first. */
static uint32_t announced_at(const struct pfl_round *r, const struct pfl_round_peer *p, unsigned i)
{
    return i + 1 == p->n_results ? p->result : pfl_round_more_of(r, p)->earlier[i];
}

bool pfl_round_peer_announced(const struct pfl_round *r, const struct pfl_round_peer *p, const uint8_t digest[PFL_DIGEST_LEN])
{
    for (unsigned i = 0; i < p->n_results; i++) {
        if (memcmp(digest_of(r, announced_at(r, p, i)), digest, PFL_DIGEST_LEN) == 0)
            return true;
    }
    return false;
}

const uint8_t *pfl_round_peer_digest(const struct pfl_round *r, const struct pfl_round_peer *p)
{
    return digest_of(r, p->result);
}

void pfl_round_unset_ready(struct pfl_round *r, struct pfl_round_peer *p)
{
    for (unsigned i = 0; i < p->n_results; i++)
        result_unref(r, announced_at(r, p, i));
    p->n_results = 0;
    p->result = 0;
    p->ready = false;
}

static void add_result(struct pfl_round *r, struct pfl_round_peer *p, const uint8_t *digest)
{
    uint32_t latest = result_of(r, digest);
    if (p->n_results == PFL_READY_DIGESTS_MAX) {
        uint32_t *earlier = pfl_round_more(r, p)->earlier;
        result_unref(r, earlier[0]);
        memmove(&earlier[0], &earlier[1], (PFL_READY_DIGESTS_MAX - 2) * sizeof(earlier[0]));
        p->n_results = PFL_READY_DIGESTS_MAX - 1;
    }
    if (p->n_results > 0)
        pfl_round_more(r, p)->earlier[p->n_results - 1] = p->result;
    p->result = latest & RESULTS_MAX;
    p->n_results = (p->n_results + 1U) & 3U;
}

static size_t number_of(const struct pfl_round *r, const struct pfl_round_peer *p)
{
    return r->order[lower_bound(r, pfl_round_addr(p))];
}

static void set_ready_at(struct pfl_round *r, const struct pfl_round_peer *p, pfl_ns now)
{
    size_t i = number_of(r, p);
    if (i >= r->n_ready_at) {
        r->n_ready_at = (r->n_rows / PFL_ROUND_BLOCK + 1) * (size_t)PFL_ROUND_BLOCK;
        r->ready_at = pfl_xrealloc(r->ready_at, r->n_ready_at * sizeof(*r->ready_at));
    }
    r->ready_at[i] = now;
}

pfl_ns pfl_round_ready_at(const struct pfl_round *r, const struct pfl_round_peer *p)
{
    PFL_ASSERT(p->ready);
    return r->ready_at[number_of(r, p)];
}

bool pfl_round_set_ready(struct pfl_round *r, struct pfl_round_peer *p, const uint8_t *digest, pfl_ns now)
{
    if (p->ready && (!digest || pfl_round_peer_announced(r, p, digest)))
        return false;
    p->ready = true;
    set_ready_at(r, p, now);
    if (digest)
        add_result(r, p, digest);
    return true;
}

bool pfl_round_set_computed(struct pfl_round *r, struct pfl_round_peer *p, const uint8_t digest[PFL_DIGEST_LEN])
{
    struct pfl_round_more *m = pfl_round_more(r, p);
    if (m->computed)
        return false;
    m->computed = result_of(r, digest);
    r->n_computed++;
    return true;
}

void pfl_round_unset_computed(struct pfl_round *r, struct pfl_round_peer *p)
{
    if (!p->more)
        return;
    struct pfl_round_more *m = pfl_round_more(r, p);
    result_unref(r, m->computed);
    m->computed = 0;
}

const uint8_t *pfl_round_computed(const struct pfl_round *r, const struct pfl_round_peer *p)
{
    const struct pfl_round_more *m = pfl_round_more_of(r, p);
    return m ? digest_of(r, m->computed) : NULL;
}

bool pfl_round_peer_computed(const struct pfl_round *r, const struct pfl_round_peer *p, const struct pfl_payload *model)
{
    const uint8_t *digest = pfl_round_computed(r, p);
    return digest && model->has_digest && memcmp(digest, model->digest, PFL_DIGEST_LEN) == 0;
}
