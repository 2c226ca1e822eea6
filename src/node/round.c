/* SPDX-License-Identifier: Apache-2.0 */
/* Invariants: the entries of a round's book are disjoint and sorted; a peer's row is unique; decided implies that train_set and
 * members hold the same names. Where a thing does not fit, nothing is changed and the reason is said. */
#include "node/round.h"

#include <stdlib.h>
#include <string.h>

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

struct pfl_round *pfl_round_new(int32_t round, const struct pfl_neighbours *known)
{
    struct pfl_round *r = pfl_xcalloc(1, sizeof(*r));
    r->round = round;
    r->known = known;
    return r;
}

void pfl_early_deinit(struct pfl_early *e)
{
    pfl_payload_unref(e->payload);
    pfl_strs_deinit(&e->who);
    *e = (struct pfl_early){0};
}

void pfl_round_free(struct pfl_round *r)
{
    if (!r)
        return;
    pfl_round_drop_rows(r);
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

bool pfl_round_drop(struct pfl_round *r, const char *who)
{
    bool dropped = pfl_book_drop(&r->book, who);
    (void)pfl_book_drop(&r->partials, who);
    for (size_t i = 0; i < r->n_peers; i++) {
        struct pfl_trainer *t = pfl_round_trainer_of(r, pfl_round_at(r, i));
        if (!t || !t->early.payload || !is_alone(&t->early.who, who))
            continue;
        pfl_early_deinit(&t->early);
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
        if (p && pfl_round_peer_announced(r, p, digest))
            return true;
    }
    return false;
}

bool pfl_round_same_contributors(const struct pfl_round *r, const char *a, const char *b)
{
    const struct pfl_round_peer *pa = pfl_round_find(r, a), *pb = pfl_round_find(r, b);
    if (!pa || !pb || pfl_round_holds(r, pa)->n == 0 || pfl_round_holds(r, pa)->n != pfl_round_holds(r, pb)->n)
        return false;
    for (size_t i = 0; i < pfl_round_holds(r, pa)->n; i++) {
        if (!pfl_strs_has(pfl_round_holds(r, pb), pfl_round_holds(r, pa)->items[i]))
            return false;
    }
    return true;
}

/* A dead member's result counts while somebody has it: when a node learns of the death differs, what was announced does not. */
static bool is_held(const struct pfl_round *r, const uint8_t *digest, bool (*live)(void *user, const char *addr), void *user)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        const struct pfl_round_peer *p = pfl_round_at(r, i);
        if (pfl_round_peer_announced(r, p, digest) && live(user, pfl_round_addr(p)))
            return true;
    }
    return false;
}

/* Results that authors computed, each once, in order of their first authors. */
struct tally {
    struct pfl_canon *items; /* owned */
    size_t n, cap;
};

static void tally_add(struct tally *t, const struct pfl_round_peer *by, const uint8_t *digest)
{
    for (size_t i = 0; i < t->n; i++) {
        if (memcmp(t->items[i].digest, digest, PFL_DIGEST_LEN) == 0) {
            t->items[i].computed++;
            return;
        }
    }
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 4;
        t->items = pfl_xrealloc(t->items, t->cap * sizeof(*t->items));
    }
    t->items[t->n++] = (struct pfl_canon){.by = by, .digest = digest, .computed = 1};
}

static struct pfl_canon most_computed(const struct pfl_round *r, bool (*live)(void *user, const char *addr), void *user)
{
    struct tally t = {0};
    struct pfl_canon best = {0};
    const struct pfl_strs *authors = pfl_round_authors(r);
    bool known = authors->n > 0;
    for (size_t i = 0; r->n_computed > 0 && i < (known ? authors->n : r->n_peers); i++) {
        const struct pfl_round_peer *p = known ? pfl_round_find(r, authors->items[i]) : pfl_round_at(r, i);
        const uint8_t *digest = p ? pfl_round_computed(r, p) : NULL;
        if (digest)
            tally_add(&t, p, digest);
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

static struct pfl_canon canon_of(const struct pfl_round *r, const struct pfl_round_peer *p)
{
    return (struct pfl_canon){.by = p, .digest = pfl_round_peer_digest(r, p)};
}

struct pfl_canon pfl_round_canonical(const struct pfl_round *r, bool (*live)(void *user, const char *addr), void *user)
{
    struct pfl_canon best = most_computed(r, live, user);
    const struct pfl_strs *authors = pfl_round_authors(r);
    if (best.by)
        return best;
    for (size_t i = 0; i < authors->n; i++) {
        const struct pfl_round_peer *p = pfl_round_find(r, authors->items[i]);
        const uint8_t *digest = p ? pfl_round_peer_digest(r, p) : NULL;
        if (digest && (live(user, pfl_round_addr(p)) || is_held(r, digest, live, user)))
            return canon_of(r, p);
    }
    for (size_t i = 0; i < r->n_peers; i++) {
        const struct pfl_round_peer *p = pfl_round_at(r, i);
        const char *addr = pfl_round_addr(p);
        if (pfl_round_peer_digest(r, p) && !pfl_strs_has(authors, addr) && live(user, addr))
            return canon_of(r, p);
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
    pfl_round_drop_rows(r);
    r->closed = true;
}

void pfl_round_drop_models(struct pfl_round *r)
{
    pfl_book_deinit(&r->book);
    pfl_book_deinit(&r->partials);
    for (size_t i = 0; i < r->n_peers; i++) {
        struct pfl_trainer *t = pfl_round_trainer_of(r, pfl_round_at(r, i));
        if (t)
            pfl_early_deinit(&t->early);
    }
}
