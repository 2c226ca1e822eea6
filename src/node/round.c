/* SPDX-License-Identifier: Apache-2.0 */
/* Invariants: the entries of a round's book are disjoint and sorted; a peer's row is unique; decided implies that train_set and
 * members hold the same names. Where a thing does not fit, nothing is changed and the reason is said. */
#include "node/round.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/vote.h"

/* ---- book ---- */

static void entry_deinit(struct pfl_entry *e)
{
    pfl_strs_deinit(&e->who);
    pfl_payload_unref(e->payload);
}

void pfl_book_deinit(struct pfl_book *b)
{
    for (size_t i = 0; i < b->n; i++)
        entry_deinit(&b->items[i]);
    free(b->items);
    *b = (struct pfl_book){0};
}

static bool is_alone(const struct pfl_strs *names, const char *who)
{
    return names->n == 1 && strcmp(names->items[0], who) == 0;
}

bool pfl_book_drop(struct pfl_book *b, const char *who)
{
    for (size_t i = 0; i < b->n; i++) {
        if (!is_alone(&b->items[i].who, who))
            continue;
        entry_deinit(&b->items[i]);
        memmove(&b->items[i], &b->items[i + 1], (b->n - i - 1) * sizeof(*b->items));
        b->n--;
        return true;
    }
    return false;
}

bool pfl_book_has(const struct pfl_book *b, const char *who)
{
    for (size_t i = 0; i < b->n; i++) {
        if (pfl_strs_has(&b->items[i].who, who))
            return true;
    }
    return false;
}

static bool has_twins(const struct pfl_strs *who)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs sorted = {0};
    pfl_strs_copy(&sorted, who);
    pfl_strs_sort(&sorted);
    for (size_t i = 1; i < sorted.n; i++) {
        if (strcmp(sorted.items[i - 1], sorted.items[i]) == 0)
            return true;
    }
    return false;
}

enum pfl_book_verdict pfl_book_check(const struct pfl_book *b, const struct pfl_strs *members, const struct pfl_strs *who,
                                     int64_t n_samples, struct pfl_err *err)
{
    size_t counted = 0;
    if (who->n == 0 || who->n > PFL_CONTRIBUTORS_MAX) {
        pfl_err_set(err, PFL_MALFORMED, "a model with %zu contributors, 1 to %d are expected", who->n, PFL_CONTRIBUTORS_MAX);
        return PFL_BOOK_REFUSED;
    }
    if (has_twins(who)) {
        pfl_err_set(err, PFL_MALFORMED, "a contributor is named twice");
        return PFL_BOOK_REFUSED;
    }
    for (size_t i = 0; i < who->n; i++) {
        if (members && !pfl_strs_has(members, who->items[i])) {
            pfl_err_set(err, PFL_INVALID, "contributor %s is not in the train set", pfl_q(who->items[i]));
            return PFL_BOOK_REFUSED;
        }
        counted += pfl_book_has(b, who->items[i]);
    }
    if (n_samples <= 0 || n_samples > (int64_t)who->n * PFL_SAMPLES_MAX) {
        pfl_err_set(err, PFL_INVALID, "a contribution of %lld samples", (long long)n_samples);
        return PFL_BOOK_REFUSED;
    }
    if (counted == who->n)
        return PFL_BOOK_KNOWN;
    if (counted > 0) {
        pfl_err_set(err, PFL_INVALID, "%zu of its %zu contributors are counted already", counted, who->n);
        return PFL_BOOK_REFUSED;
    }
    return PFL_BOOK_FITS;
}

void pfl_book_add(struct pfl_book *b, const struct pfl_strs *who, struct pfl_payload *payload, uint64_t n_samples, pfl_ns now)
{
    struct pfl_entry e = {.payload = pfl_payload_ref(payload), .n_samples = n_samples, .at = now};
    pfl_strs_copy(&e.who, who);
    pfl_strs_sort(&e.who);
    if (b->n == b->cap) {
        b->cap = b->cap ? 2 * b->cap : 8;
        b->items = pfl_xrealloc(b->items, b->cap * sizeof(*b->items));
    }
    size_t i = b->n;
    while (i > 0 && strcmp(b->items[i - 1].who.items[0], e.who.items[0]) > 0)
        i--;
    memmove(&b->items[i + 1], &b->items[i], (b->n - i) * sizeof(*b->items));
    b->items[i] = e;
    b->n++;
}

void pfl_book_union(const struct pfl_book *b, struct pfl_strs *ret)
{
    pfl_strs_deinit(ret);
    for (size_t i = 0; i < b->n; i++) {
        for (size_t k = 0; k < b->items[i].who.n; k++)
            pfl_strs_add(ret, b->items[i].who.items[k]);
    }
    pfl_strs_sort(ret);
}

uint64_t pfl_book_samples(const struct pfl_book *b)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < b->n; i++)
        sum += b->items[i].n_samples;
    return sum;
}

const struct pfl_entry *pfl_book_find(const struct pfl_book *b, const struct pfl_strs *who)
{
    for (size_t i = 0; i < b->n; i++) {
        const struct pfl_strs *w = &b->items[i].who;
        size_t k = 0;
        while (k < w->n && k < who->n && strcmp(w->items[k], who->items[k]) == 0)
            k++;
        if (k == w->n && k == who->n)
            return &b->items[i];
    }
    return NULL;
}

/* ---- round ---- */

struct pfl_round *pfl_round_new(int32_t round)
{
    struct pfl_round *r = pfl_xcalloc(1, sizeof(*r));
    r->round = round;
    return r;
}

static void early_deinit(struct pfl_early *e)
{
    pfl_payload_unref(e->payload);
    pfl_strs_deinit(&e->who);
    *e = (struct pfl_early){0};
}

static void result_unref(struct pfl_result *r)
{
    if (r && --r->refs == 0)
        free(r);
}

static void names_deinit(struct pfl_round_names *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->items[i]);
    free(t->items);
    free(t->order);
    *t = (struct pfl_round_names){0};
}

static void round_peer_free(struct pfl_round_peer *p)
{
    pfl_round_unset_ready(p);
    pfl_round_unset_computed(p);
    if (p->said_vote)
        pfl_statement_deinit(p->said_vote);
    free(p->said_vote);
    if (p->trainer) {
        pfl_statement_deinit(&p->trainer->said_model);
        pfl_statement_deinit(&p->trainer->said_own);
        pfl_statement_deinit(&p->trainer->said_ready);
        pfl_strs_deinit(&p->trainer->holds);
        early_deinit(&p->trainer->early);
    }
    free(p->trainer);
    pfl_round_drop_ballot(p);
    free(p);
}

void pfl_round_free(struct pfl_round *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_peers; i++)
        round_peer_free(r->peers[i]);
    free(r->peers);
    names_deinit(&r->names);
    for (size_t i = 0; i < PFL_ARRAY_LEN(r->common); i++)
        result_unref(r->common[i]);
    pfl_strs_deinit(&r->train_set);
    pfl_strs_deinit(&r->members);
    pfl_strs_deinit(&r->authors);
    pfl_strs_deinit(&r->vouchers);
    pfl_book_deinit(&r->book);
    pfl_book_deinit(&r->partials);
    pfl_payload_unref(r->aggregate);
    for (size_t i = 0; i < PFL_ARRAY_LEN(r->former); i++)
        pfl_payload_unref(r->former[i]);
    pfl_payload_unref(r->offered);
    free(r->offered_by);
    free(r);
}

static size_t lower_bound(const struct pfl_round *r, const char *addr)
{
    size_t lo = 0;
    size_t hi = r->n_peers;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(r->peers[mid]->addr, addr) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct pfl_round_peer *pfl_round_find(const struct pfl_round *r, const char *addr)
{
    size_t i = lower_bound(r, addr);
    return i < r->n_peers && strcmp(r->peers[i]->addr, addr) == 0 ? r->peers[i] : NULL;
}

struct pfl_round_peer *pfl_round_get(struct pfl_round *r, const char *addr)
{
    size_t i = lower_bound(r, addr);
    if (i < r->n_peers && strcmp(r->peers[i]->addr, addr) == 0)
        return r->peers[i];
    if (r->n_peers == r->cap_peers) {
        r->cap_peers = r->cap_peers ? 2 * r->cap_peers : 8;
        r->peers = pfl_xrealloc(r->peers, r->cap_peers * sizeof(struct pfl_round_peer *));
    }
    memmove(&r->peers[i + 1], &r->peers[i], (r->n_peers - i) * sizeof(struct pfl_round_peer *));
    size_t len = strlen(addr) + 1;
    r->peers[i] = pfl_xcalloc(1, sizeof(*r->peers[i]) + len);
    memcpy(r->peers[i]->addr, addr, len);
    r->n_peers++;
    return r->peers[i];
}

void pfl_round_set_voted(struct pfl_round *r, struct pfl_round_peer *p, bool voted)
{
    r->n_voted += voted && !p->voted;
    r->n_voted -= !voted && p->voted;
    p->voted = voted;
}

struct pfl_trainer *pfl_round_trainer(struct pfl_round_peer *p)
{
    if (!p->trainer)
        p->trainer = pfl_xcalloc(1, sizeof(*p->trainer));
    return p->trainer;
}

const struct pfl_strs *pfl_round_holds(const struct pfl_round_peer *p)
{
    static const struct pfl_strs nothing = {0};
    return p->trainer ? &p->trainer->holds : &nothing;
}

bool pfl_round_drop(struct pfl_round *r, const char *who)
{
    bool dropped = pfl_book_drop(&r->book, who);
    (void)pfl_book_drop(&r->partials, who);
    for (size_t i = 0; i < r->n_peers; i++) {
        struct pfl_early *early = r->peers[i]->trainer ? &r->peers[i]->trainer->early : NULL;
        if (!early || !early->payload || !is_alone(&early->who, who))
            continue;
        early_deinit(early);
        dropped = true;
    }
    return dropped;
}

bool pfl_round_is_member(const struct pfl_round *r, const char *addr)
{
    return pfl_strs_has(&r->members, addr);
}

const struct pfl_strs *pfl_round_authors(const struct pfl_round *r)
{
    return r->authors.n > 0 ? &r->authors : &r->members;
}

void pfl_round_set_offer(struct pfl_round *r, struct pfl_payload *payload, const char *from)
{
    struct pfl_payload *old = r->offered;
    r->offered = payload ? pfl_payload_ref(payload) : NULL;
    pfl_payload_unref(old);
    free(r->offered_by);
    r->offered_by = from ? pfl_xstrdup(from) : NULL;
}

bool pfl_round_peer_announced(const struct pfl_round_peer *p, const uint8_t digest[PFL_DIGEST_LEN])
{
    for (size_t i = 0; i < p->n_results; i++) {
        if (memcmp(p->results[i]->digest, digest, PFL_DIGEST_LEN) == 0)
            return true;
    }
    return false;
}

const uint8_t *pfl_round_peer_digest(const struct pfl_round_peer *p)
{
    return p->n_results > 0 ? p->results[p->n_results - 1]->digest : NULL;
}

/* A reference; one that was announced lately is shared. */
static struct pfl_result *result_of(struct pfl_round *r, const uint8_t *digest)
{
    struct pfl_result *found = NULL;
    for (size_t i = 0; !found && i < PFL_ARRAY_LEN(r->common); i++) {
        if (r->common[i] && memcmp(r->common[i]->digest, digest, PFL_DIGEST_LEN) == 0)
            found = r->common[i];
    }
    if (!found) {
        found = pfl_xcalloc(1, sizeof(*found));
        memcpy(found->digest, digest, PFL_DIGEST_LEN);
        found->refs = 1;
        result_unref(r->common[1]);
        r->common[1] = r->common[0];
        r->common[0] = found;
    }
    found->refs++;
    return found;
}

void pfl_round_unset_ready(struct pfl_round_peer *p)
{
    while (p->n_results > 0)
        result_unref(p->results[--p->n_results]);
    p->ready = false;
}

bool pfl_round_set_ready(struct pfl_round *r, struct pfl_round_peer *p, const uint8_t *digest, pfl_ns now)
{
    if (p->ready && (!digest || pfl_round_peer_announced(p, digest)))
        return false;
    p->ready = true;
    p->ready_at = now;
    if (!digest)
        return true;
    if (p->n_results == PFL_READY_DIGESTS_MAX) {
        result_unref(p->results[0]);
        memmove(&p->results[0], &p->results[1], sizeof(p->results) - sizeof(p->results[0]));
        p->n_results--;
    }
    p->results[p->n_results++] = result_of(r, digest);
    return true;
}

bool pfl_round_set_computed(struct pfl_round *r, struct pfl_round_peer *p, const uint8_t digest[PFL_DIGEST_LEN])
{
    if (p->computed)
        return false;
    p->computed = result_of(r, digest);
    r->n_computed++;
    return true;
}

void pfl_round_unset_computed(struct pfl_round_peer *p)
{
    result_unref(p->computed);
    p->computed = NULL;
}

bool pfl_round_peer_computed(const struct pfl_round_peer *p, const struct pfl_payload *model)
{
    return p->computed && model->has_digest && memcmp(p->computed->digest, model->digest, PFL_DIGEST_LEN) == 0;
}

/* ---- ballots ---- */

static uint64_t hash_of(const char *name)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    return (h ^ h >> 29) & ~UINT64_C(0xffffffff);
}

static void names_grow(struct pfl_round_names *t)
{
    t->cap = t->cap ? 2 * t->cap : 8;
    t->items = pfl_xrealloc(t->items, t->cap * sizeof(*t->items));
    t->order = pfl_xrealloc(t->order, t->cap * sizeof(*t->order));
}

/* Its number; PFL_BALLOT_NAMES_MAX where the table is full. */
static size_t number_of(struct pfl_round_names *t, const char *name)
{
    uint64_t h = hash_of(name);
    size_t lo = 0;
    size_t hi = t->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (t->order[mid] < h)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (size_t i = lo; i < t->n && (t->order[i] ^ h) <= UINT32_MAX; i++) {
        if (strcmp(t->items[(uint32_t)t->order[i]], name) == 0)
            return (uint32_t)t->order[i];
    }
    if (t->n == PFL_BALLOT_NAMES_MAX)
        return t->n;
    if (t->n == t->cap)
        names_grow(t);
    memmove(&t->order[lo + 1], &t->order[lo], (t->n - lo) * sizeof(*t->order));
    t->order[lo] = h | t->n; /* before others of the same hash: they need no order among each other */
    t->items[t->n] = pfl_xstrdup(name);
    return t->n++;
}

enum pfl_rc pfl_round_set_ballot(struct pfl_round *r, struct pfl_round_peer *p, const struct pfl_strs *args, struct pfl_err *err)
{
    size_t n = args->n / 2;
    struct pfl_ballot *b = pfl_xcalloc(1, sizeof(*b) + n * sizeof(*b->items));
    for (size_t i = 0; i < n; i++) {
        int64_t votes;
        size_t number = number_of(&r->names, args->items[2 * i]);
        if (number == PFL_BALLOT_NAMES_MAX) {
            free(b);
            return pfl_err_set(err, PFL_TOO_BIG, "vote_train_set: %d other names were voted for already", PFL_BALLOT_NAMES_MAX);
        }
        if (!pfl_parse_i64(args->items[2 * i + 1], 0, PFL_BALLOT_VOTES - 1, &votes))
            votes = 0;
        b->items[b->n++] = (uint32_t)number * PFL_BALLOT_VOTES + (uint32_t)votes;
    }
    pfl_round_drop_ballot(p);
    p->ballot = b;
    return PFL_OK;
}

void pfl_round_drop_ballot(struct pfl_round_peer *p)
{
    free(p->ballot);
    p->ballot = NULL;
}

void pfl_round_ballot(const struct pfl_round *r, const struct pfl_round_peer *p, struct pfl_strs *ret)
{
    pfl_strs_deinit(ret);
    for (size_t i = 0; p->ballot && i < p->ballot->n; i++) {
        char votes[16];
        snprintf(votes, sizeof(votes), "%u", p->ballot->items[i] % PFL_BALLOT_VOTES);
        pfl_strs_add(ret, r->names.items[p->ballot->items[i] / PFL_BALLOT_VOTES]);
        pfl_strs_add(ret, votes);
    }
}

void pfl_round_tally(const struct pfl_round *r, size_t size, bool (*counts)(void *user, const char *name), void *user,
                     struct pfl_strs *ret)
{
    struct pfl_candidate *all = pfl_xcalloc(r->names.n ? r->names.n : 1, sizeof(*all));
    size_t n = 0;
    for (size_t i = 0; i < r->names.n; i++)
        all[i] =
            (struct pfl_candidate){.name = r->names.items[i], .votes = -1}; /* of a ballot that was dropped, until one has it */
    for (size_t i = 0; i < r->n_peers; i++) {
        const struct pfl_ballot *b = r->peers[i]->voted ? r->peers[i]->ballot : NULL;
        for (size_t k = 0; b && k < b->n; k++) {
            struct pfl_candidate *c = &all[b->items[k] / PFL_BALLOT_VOTES];
            c->votes = (c->votes < 0 ? 0 : c->votes) + b->items[k] % PFL_BALLOT_VOTES;
        }
    }
    for (size_t i = 0; i < r->names.n; i++) {
        if (all[i].votes >= 0)
            all[n++] = all[i];
    }
    pfl_vote_rank(all, n, size, counts, user, ret);
    free(all);
}

void pfl_round_drop_ballots(struct pfl_round *r)
{
    for (size_t i = 0; i < r->n_peers; i++)
        pfl_round_drop_ballot(r->peers[i]);
    names_deinit(&r->names);
}

/* ---- the rest of a round ---- */

void pfl_round_prune(struct pfl_round *r)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->book.n; i++) {
        struct pfl_entry e = r->book.items[i];
        bool all = true;
        for (size_t k = 0; k < e.who.n; k++)
            all = all && pfl_round_is_member(r, e.who.items[k]);
        if (all)
            r->book.items[kept++] = e;
        else
            entry_deinit(&e);
    }
    r->book.n = kept;
}

bool pfl_round_announced_by_member(const struct pfl_round *r, const uint8_t digest[PFL_DIGEST_LEN])
{
    for (size_t i = 0; i < r->vouchers.n; i++) {
        const struct pfl_round_peer *p = pfl_round_find(r, r->vouchers.items[i]);
        if (p && pfl_round_peer_announced(p, digest))
            return true;
    }
    return false;
}

bool pfl_round_same_contributors(const struct pfl_round *r, const char *a, const char *b)
{
    const struct pfl_round_peer *pa = pfl_round_find(r, a), *pb = pfl_round_find(r, b);
    if (!pa || !pb || pfl_round_holds(pa)->n == 0 || pfl_round_holds(pa)->n != pfl_round_holds(pb)->n)
        return false;
    for (size_t i = 0; i < pfl_round_holds(pa)->n; i++) {
        if (!pfl_strs_has(pfl_round_holds(pb), pfl_round_holds(pa)->items[i]))
            return false;
    }
    return true;
}

/* A dead member's result counts while somebody has it: when a node learns of the death differs, what was announced does not. */
static bool is_held(const struct pfl_round *r, const uint8_t *digest, bool (*live)(void *user, const char *addr), void *user)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        if (pfl_round_peer_announced(r->peers[i], digest) && live(user, r->peers[i]->addr))
            return true;
    }
    return false;
}

/* Results that authors computed, each once, in order of their first authors. */
struct tally {
    struct pfl_canon *items; /* owned */
    size_t n, cap;
};

static void tally_add(struct tally *t, const struct pfl_round_peer *by)
{
    for (size_t i = 0; i < t->n; i++) {
        if (memcmp(t->items[i].digest, by->computed->digest, PFL_DIGEST_LEN) == 0) {
            t->items[i].computed++;
            return;
        }
    }
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 4;
        t->items = pfl_xrealloc(t->items, t->cap * sizeof(*t->items));
    }
    t->items[t->n++] = (struct pfl_canon){.by = by, .digest = by->computed->digest, .computed = 1};
}

static struct pfl_canon most_computed(const struct pfl_round *r, bool (*live)(void *user, const char *addr), void *user)
{
    struct tally t = {0};
    struct pfl_canon best = {0};
    const struct pfl_strs *authors = pfl_round_authors(r);
    bool known = authors->n > 0;
    for (size_t i = 0; r->n_computed > 0 && i < (known ? authors->n : r->n_peers); i++) {
        const struct pfl_round_peer *p = known ? pfl_round_find(r, authors->items[i]) : r->peers[i];
        if (p && p->computed)
            tally_add(&t, p);
    }
    for (size_t i = 0; i < t.n; i++) {
        bool more = t.items[i].computed > best.computed;
        size_t less = more ? best.computed : t.items[i].computed, against = less > best.against ? less : best.against;
        if (!is_held(r, t.items[i].digest, live, user))
            continue;
        best = more ? t.items[i] : best;
        best.against = against;
    }
    free(t.items);
    return best;
}

static struct pfl_canon canon_of(const struct pfl_round_peer *p)
{
    return (struct pfl_canon){.by = p, .digest = pfl_round_peer_digest(p)};
}

struct pfl_canon pfl_round_canonical(const struct pfl_round *r, bool (*live)(void *user, const char *addr), void *user)
{
    struct pfl_canon best = most_computed(r, live, user);
    const struct pfl_strs *authors = pfl_round_authors(r);
    if (best.by)
        return best;
    for (size_t i = 0; i < authors->n; i++) {
        const struct pfl_round_peer *p = pfl_round_find(r, authors->items[i]);
        const uint8_t *digest = p ? pfl_round_peer_digest(p) : NULL;
        if (digest && (live(user, p->addr) || is_held(r, digest, live, user)))
            return canon_of(p);
    }
    for (size_t i = 0; i < r->n_peers; i++) {
        const struct pfl_round_peer *p = r->peers[i];
        if (pfl_round_peer_digest(p) && !pfl_strs_has(authors, p->addr) && live(user, p->addr))
            return canon_of(p);
    }
    return (struct pfl_canon){0};
}

void pfl_round_set_aggregate(struct pfl_round *r, struct pfl_payload *aggregate)
{
    struct pfl_payload *old = r->aggregate;
    r->aggregate = pfl_payload_ref(aggregate);
    if (!old || old == aggregate) {
        pfl_payload_unref(old);
        return;
    }
    const size_t last = PFL_ARRAY_LEN(r->former) - 1;
    pfl_payload_unref(r->former[last]);
    memmove(&r->former[1], &r->former[0], last * sizeof(struct pfl_payload *));
    r->former[0] = old;
}

struct pfl_payload *pfl_round_former(const struct pfl_round *r, const uint8_t digest[PFL_DIGEST_LEN])
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(r->former); i++) {
        const struct pfl_payload *p = r->former[i];
        if (p && p->has_digest && memcmp(p->digest, digest, PFL_DIGEST_LEN) == 0)
            return r->former[i];
    }
    return NULL;
}

static void drop_former(struct pfl_round *r)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(r->former); i++) {
        pfl_payload_unref(r->former[i]);
        r->former[i] = NULL;
    }
}

void pfl_round_close(struct pfl_round *r)
{
    pfl_round_drop_models(r);
    drop_former(r);
    while (r->n_peers > 0)
        round_peer_free(r->peers[--r->n_peers]);
    free(r->peers);
    names_deinit(&r->names);
    r->peers = NULL;
    r->cap_peers = r->n_voted = 0;
    r->closed = true;
}

void pfl_round_drop_models(struct pfl_round *r)
{
    pfl_book_deinit(&r->book);
    pfl_book_deinit(&r->partials);
    for (size_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i]->trainer)
            early_deinit(&r->peers[i]->trainer->early);
    }
}
