/* SPDX-License-Identifier: Apache-2.0 */
/* The checkers that look at each step. See check.h. */
#include "sim/check.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/impl.h"

enum {
    DEEP_NODES_MAX = 64,
    TICKS_AT_ONCE_MAX = 1000,
    RESULTS_MAX = 4096, /* rounds whose results are compared */
};

/* ---- life ---- */

void pfl_sim_checks_init(struct pfl_sim *s)
{
    s->checks.deep = s->n <= DEEP_NODES_MAX;
    s->checks.knows = pfl_xcalloc(((size_t)s->n * s->n + 7) / 8, 1);
}

void pfl_sim_checks_deinit(struct pfl_sim *s)
{
    for (unsigned i = 0; s->nodes && i < s->n; i++) {
        free(s->nodes[i].watch.results);
        free(s->nodes[i].watch.computed);
        free(s->nodes[i].watch.seen);
        free(s->nodes[i].watch.failed);
        free(s->nodes[i].watch.company);
        free(s->nodes[i].watch.votes);
        free(s->nodes[i].watch.works);
        free(s->nodes[i].watch.said);
    }
    free(s->checks.knows);
}

bool pfl_sim_failed(const struct pfl_sim *s)
{
    return s->result->failed;
}

void pfl_sim_fail(struct pfl_sim *s, const char *checker, unsigned node, const char *fmt, ...)
{
    struct pfl_sim_result *r = s->result;
    if (r->failed)
        return;
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    PFL_AUTO(pfl_freep) char *named = pfl_sim_names(s, text);
    r->failed = true;
    snprintf(r->checker, sizeof(r->checker), "%s", checker);
    snprintf(r->failure, sizeof(r->failure), "%.6f s: %s%s%.400s", (double)(s->now - s->learn_at) / 1e9,
             node == UINT_MAX ? "" : s->nodes[node].name, node == UINT_MAX ? "" : ": ", named);
    pfl_sim_trace(s, node, "FAILED %s: %s", checker, text);
}

/* What its disk says of the experiment is what it must go on with. */
static void check_kept(struct pfl_sim *s, unsigned i, const struct pfl_durable *kept)
{
    struct pfl_sim_watch *w = &s->nodes[i].watch;
    bool was_in = kept && (kept->learning || kept->over);
    if (!kept) {
        w->forgot = w->forgot || s->nodes[i].incarnation > 1;
        w->promised = -1;
    }
    if (!was_in && w->promised >= 0)
        pfl_sim_fail(s, "kept", i, "had finished round %d and knows of no experiment any more", w->promised);
    w->disturbed = w->disturbed || (s->learn_at > 0 && !was_in);
    if (kept && kept->over) {
        w->started = w->finished = true;
        w->round = (int32_t)s->sc->rounds - 1;
    }
}

void pfl_sim_check_start(struct pfl_sim *s, unsigned i, const struct pfl_durable *kept)
{
    struct pfl_sim_watch *w = &s->nodes[i].watch;
    for (unsigned k = 0; k < s->n; k++) {
        size_t bit = (size_t)i * s->n + k;
        s->checks.knows[bit / 8] = (uint8_t)(s->checks.knows[bit / 8] & ~(1U << (bit % 8)));
    }
    free(w->seen);
    w->seen = NULL;
    w->n_seen = w->cap_seen = w->n_failed = 0;
    w->known = 0;
    w->ticks = 0;
    w->running = w->finished = w->stopped = w->started = false;
    w->round = w->aggregated = -1;
    check_kept(s, i, kept);
}

/* ---- what makes a message the same ---- */

static uint64_t hash_of(const struct pfl_strs *texts)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < texts->n; i++) {
        for (const char *p = texts->items[i]; *p; p++)
            h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
        h = (h ^ 0xff) * UINT64_C(0x100000001b3);
    }
    return h | 1;
}

int64_t pfl_sim_msg_key(const struct pfl_sim *s, const struct pfl_msg *m)
{
    uint64_t said = 0;
    if (!s->checks.deep || m->kind != PFL_MSG_GOSSIP)
        return 0;
    if (strcmp(m->cmd, "beat") != 0)
        said = hash_of(&m->args);
    for (size_t i = 0; i < PFL_DIGEST_LEN; i++) {
        said = said * 31 + (m->has_model_digest ? m->model_digest[i] : 0);
        said = said * 31 + (m->has_contribution ? m->contribution[i] : 0);
    }
    for (size_t i = 0; i < m->evidence.len; i++)
        said = said * 31 + m->evidence.data[i];
    int64_t key = (int64_t)((uint64_t)m->hash ^ said);
    return key ? key : 1;
}

/* ---- sets ---- */

/* False where it was there. */
static bool add_seen(struct pfl_sim_watch *w, int64_t key)
{
    if (2 * w->n_seen >= w->cap_seen) {
        size_t cap = w->cap_seen ? 2 * w->cap_seen : 256;
        int64_t *old = w->seen;
        size_t n_old = w->cap_seen;
        w->seen = pfl_xcalloc(cap, sizeof(*w->seen));
        w->cap_seen = cap;
        w->n_seen = 0;
        for (size_t i = 0; i < n_old; i++) {
            if (old[i])
                (void)add_seen(w, old[i]);
        }
        free(old);
    }
    size_t i = ((uint64_t)key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (w->cap_seen - 1);
    while (w->seen[i] && w->seen[i] != key)
        i = (i + 1) & (w->cap_seen - 1);
    if (w->seen[i] == key)
        return false;
    w->seen[i] = key;
    w->n_seen++;
    return true;
}

static bool take_failed(struct pfl_sim_watch *w, unsigned to, int64_t key)
{
    for (size_t i = 0; i < w->n_failed; i++) {
        if (w->failed[i].to == to && w->failed[i].key == key) {
            w->failed[i] = w->failed[--w->n_failed];
            return true;
        }
    }
    return false;
}

void pfl_sim_check_undelivered(struct pfl_sim *s, unsigned i, unsigned to, int64_t key)
{
    struct pfl_sim_watch *w = &s->nodes[i].watch;
    if (!s->checks.deep || key == 0)
        return;
    if (w->n_failed == w->cap_failed) {
        w->cap_failed = w->cap_failed ? 2 * w->cap_failed : 16;
        w->failed = pfl_xrealloc(w->failed, w->cap_failed * sizeof(*w->failed));
    }
    w->failed[w->n_failed++] = (struct pfl_sim_failed){to, key};
}

/* ---- before and after each step ---- */

void pfl_sim_check_before(struct pfl_sim *s, unsigned i, const struct pfl_event *ev)
{
    (void)i;
    s->checks.of_message = s->checks.deep && ev->kind == PFL_EV_MESSAGE && ev->msg && ev->msg->kind == PFL_MSG_GOSSIP;
    s->checks.key = s->checks.of_message ? pfl_sim_msg_key(s, ev->msg) : 0;
    s->checks.forwarded = false;
}

void pfl_sim_check_after(struct pfl_sim *s, unsigned i, const struct pfl_event *ev, const struct pfl_actions *out)
{
    size_t most = 512 + 64 * (size_t)s->n;
    (void)ev;
    if (out->n > most)
        pfl_sim_fail(s, "limits", i, "%zu actions in one step, %zu are expected at most", out->n, most);
}

void pfl_sim_check_forwards(struct pfl_sim *s, unsigned i, const struct pfl_action *a)
{
    unsigned to = pfl_sim_index(s, a->addr);
    PFL_AUTO(pfl_msg_freep) struct pfl_msg *m = s->checks.deep && to != UINT_MAX ? pfl_sim_msg_of(s, i, a->body) : NULL;
    if (!m || m->kind != PFL_MSG_GOSSIP)
        return;
    int64_t key = pfl_sim_msg_key(s, m);
    bool again = take_failed(&s->nodes[i].watch, to, key);
    s->checks.forwarded = s->checks.forwarded || (s->checks.of_message && key == s->checks.key && !again);
}

/* The first of its kind for this round, or the same as that. */
static void check_said(struct pfl_sim *s, unsigned i, uint64_t **said, int32_t round, uint64_t what, const char *name)
{
    size_t n = s->sc->rounds < RESULTS_MAX ? s->sc->rounds : RESULTS_MAX;
    if (!*said)
        *said = pfl_xcalloc(n, sizeof(**said));
    if (round < 0 || (size_t)round >= n)
        return;
    if ((*said)[round] && (*said)[round] != what)
        pfl_sim_fail(s, "contradicts", i, "sends another %s for round %d than before", name, round);
    (*said)[round] = what;
}

static void check_words(struct pfl_sim *s, unsigned i, const struct pfl_msg *m)
{
    struct pfl_sim_node *x = &s->nodes[i];
    uint64_t work = 1;
    if (x->lied || x->watch.forgot || strcmp(m->source, x->addr) != 0)
        return;
    if (strcmp(m->cmd, "vote_train_set") == 0)
        check_said(s, i, &x->watch.votes, m->round, hash_of(&m->args), "ballot");
    if (m->computed && m->has_model_digest) {
        memcpy(&work, m->model_digest, sizeof(work));
        check_said(s, i, &x->watch.said, m->round, work | 1, "computed result");
    }
    if (strcmp(m->cmd, "partial_model") != 0 || m->contributors.n != 1 || strcmp(m->contributors.items[0], x->addr) != 0)
        return;
    memcpy(&work, m->digest, sizeof(work));
    check_said(s, i, &x->watch.works, m->round, work | 1, "contribution");
}

void pfl_sim_check_send(struct pfl_sim *s, unsigned i, const struct pfl_msg *m)
{
    struct pfl_sim_watch *w = &s->nodes[i].watch;
    check_words(s, i, m);
    if (s->now - w->second >= PFL_SEC) {
        w->second = s->now;
        w->sends = 0;
    }
    unsigned most = 5000 + 1000 * s->n;
    if (++w->sends > most)
        pfl_sim_fail(s, "limits", i, "more than %u sends within a second", most);
}

void pfl_sim_check_carried(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_node *x = &s->nodes[i];
    unsigned most = 1024 + 24 * s->n * (2 + x->degree);
    if (s->checks.forwarded && !add_seen(&x->watch, s->checks.key))
        pfl_sim_fail(s, "twice", i, "processed and passed on the same gossip message twice");
    x->watch.calls_most = x->calls > x->watch.calls_most ? x->calls : x->watch.calls_most;
    if (x->calls > most)
        pfl_sim_fail(s, "limits", i, "%u calls under way, %u are expected at most", x->calls, most);
}

void pfl_sim_check_tick(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_watch *w = &s->nodes[i].watch;
    w->ticks = w->last_tick == s->now ? w->ticks + 1 : 0;
    w->last_tick = s->now;
    if (w->ticks >= TICKS_AT_ONCE_MAX)
        pfl_sim_fail(s, "spin", i, "asked for %u ticks at one moment", w->ticks);
}

/* ---- what a node says ---- */

static void set_known(struct pfl_sim *s, unsigned i, const char *addr, bool there)
{
    unsigned k = pfl_sim_index(s, addr);
    if (k == UINT_MAX)
        return;
    size_t bit = (size_t)i * s->n + k;
    uint8_t mask = (uint8_t)(1U << (bit % 8));
    bool was = (s->checks.knows[bit / 8] & mask) != 0;
    s->checks.knows[bit / 8] = (uint8_t)(there ? s->checks.knows[bit / 8] | mask : s->checks.knows[bit / 8] & ~mask);
    s->nodes[i].watch.known += there && !was;
    s->nodes[i].watch.known -= !there && was;
    /* That somebody came back is news of the same kind: the nodes do not all hear of it at once. */
    if (s->learning && was != there && pfl_sim_up(s, k) && !s->nodes[i].lies && !s->nodes[k].lies) {
        s->checks.any_apart = true;
        s->result->evictions += !there;
        s->checks.apart_at = s->now;
    }
}

bool pfl_sim_knows(const struct pfl_sim *s, unsigned i, unsigned k)
{
    size_t bit = (size_t)i * s->n + k;
    return (s->checks.knows[bit / 8] >> (bit % 8)) & 1;
}

static void on_started(struct pfl_sim *s, unsigned i)
{
    struct pfl_sim_watch *w = &s->nodes[i].watch;
    if (w->running)
        pfl_sim_fail(s, "rounds", i, "starts an experiment while one runs");
    w->started = w->running = true;
    w->finished = w->stopped = false;
    w->round = w->aggregated = -1;
    size_t n = s->sc->rounds < RESULTS_MAX ? s->sc->rounds : RESULTS_MAX;
    if (!w->results)
        w->results = pfl_xcalloc(n, sizeof(*w->results));
    if (!w->computed)
        w->computed = pfl_xcalloc(n, sizeof(*w->computed));
}

static void on_resumed(struct pfl_sim *s, unsigned i, int32_t round)
{
    struct pfl_sim_watch *w = &s->nodes[i].watch;
    on_started(s, i);
    bool last = round == (int32_t)s->sc->rounds - 1 && w->promised == round;
    if (round <= w->promised && !last)
        pfl_sim_fail(s, "kept", i, "had finished round %d and comes back in round %d", w->promised, round);
    w->round = round;
    w->again = true;
}

static void on_round(struct pfl_sim *s, unsigned i, int32_t round)
{
    struct pfl_sim_watch *w = &s->nodes[i].watch;
    bool again = w->again && round == w->round;
    w->again = false;
    if (!w->running || (round <= w->round && !again) || round >= (int32_t)s->sc->rounds)
        pfl_sim_fail(s, "rounds", i, "goes from round %d to round %d of %u", w->round, round, s->sc->rounds);
    w->round = round;
    w->last_round_at = s->now;
    if (round != (int32_t)s->sc->rounds - 1)
        return;
    if (!w->company)
        w->company = pfl_xcalloc(s->n / 8 + 1, 1);
    for (unsigned k = 0; k < s->n; k++)
        w->company[k / 8] = (uint8_t)((w->company[k / 8] & ~(1U << k % 8)) | (unsigned)pfl_sim_knows(s, i, k) << k % 8);
}

static void check_counted(struct pfl_sim *s, unsigned i, const struct pfl_note *note)
{
    uint64_t samples = 0;
    bool lied = false; /* who lies may say what it likes about its own weight */
    for (size_t k = 0; k < note->list.n; k++) {
        unsigned who = pfl_sim_index(s, note->list.items[k]);
        for (size_t j = 0; j < k; j++) {
            if (strcmp(note->list.items[j], note->list.items[k]) == 0)
                pfl_sim_fail(s, "counted", i, "the aggregate of round %d counts %s twice", note->round, note->list.items[k]);
        }
        if (who == UINT_MAX)
            pfl_sim_fail(s, "counted", i, "the aggregate of round %d counts %s, which is nobody", note->round, note->list.items[k]);
        else
            samples += s->nodes[who].samples;
        lied = lied || (who != UINT_MAX && s->nodes[who].lied);
    }
    if (samples != note->n_samples && !lied)
        pfl_sim_fail(s, "counted", i, "the aggregate of round %d weighs %llu, its contributors %llu", note->round,
                     (unsigned long long)note->n_samples, (unsigned long long)samples);
}

static void on_aggregated(struct pfl_sim *s, unsigned i, const struct pfl_note *note)
{
    struct pfl_sim_watch *w = &s->nodes[i].watch;
    if (note->round != w->round || note->round <= w->aggregated)
        pfl_sim_fail(s, "aggregate", i, "an aggregate of round %d in round %d, after that of round %d", note->round, w->round,
                     w->aggregated);
    w->aggregated = note->round;
    if (note->has_digest && w->computed && note->round >= 0 && note->round < RESULTS_MAX)
        memcpy(&w->computed[note->round], note->digest, sizeof(*w->computed));
    check_counted(s, i, note);
}

static void on_result(struct pfl_sim *s, unsigned i, const struct pfl_note *note)
{
    struct pfl_sim_watch *w = &s->nodes[i].watch;
    uint64_t first = 0;
    if (!note->has_digest || note->round < 0 || note->round >= (int32_t)s->sc->rounds || note->round >= RESULTS_MAX || !w->results)
        return;
    if (note->kind == PFL_NOTE_ROUND_FINISHED && !s->nodes[i].disk.lost)
        w->promised = note->round;
    memcpy(&first, note->digest, sizeof(first));
    w->results[note->round] = first ? first : 1;
}

static void on_ended(struct pfl_sim *s, unsigned i, const struct pfl_note *note)
{
    struct pfl_sim_watch *w = &s->nodes[i].watch;
    if (!w->running)
        pfl_sim_fail(s, "rounds", i, "ends an experiment that it did not start");
    w->running = false;
    w->finished = note->kind == PFL_NOTE_LEARNING_FINISHED;
    w->stopped = !w->finished;
    w->loss = note->metrics.loss;
    s->last_end = s->now;
    if (w->stopped && (!note->text || !note->text[0]))
        pfl_sim_fail(s, "reason", i, "stops without a reason");
    if (w->stopped && s->sc->n_faults == 0 && s->sc->net.loss <= 0 && s->sc->net.reply_loss <= 0)
        pfl_sim_fail(s, "reason", i, "stops though nothing went wrong: %s", note->text);
    if (w->finished && w->round != (int32_t)s->sc->rounds - 1)
        pfl_sim_fail(s, "rounds", i, "ends in order in round %d of %u", w->round, s->sc->rounds);
}

void pfl_sim_check_note(struct pfl_sim *s, unsigned i, const struct pfl_note *note)
{
    switch (note->kind) {
    case PFL_NOTE_NEIGHBOUR:
    case PFL_NOTE_KNOWN:
        set_known(s, i, note->addr, true);
        break;
    case PFL_NOTE_NEIGHBOUR_LOST:
    case PFL_NOTE_KNOWN_LOST:
        set_known(s, i, note->addr, false);
        break;
    case PFL_NOTE_LEARNING_STARTED:
        on_started(s, i);
        break;
    case PFL_NOTE_RESUMED:
        on_resumed(s, i, note->round);
        break;
    case PFL_NOTE_ROUND_STARTED:
        on_round(s, i, note->round);
        break;
    case PFL_NOTE_AGGREGATED:
        on_aggregated(s, i, note);
        break;
    case PFL_NOTE_ROUND_FINISHED:
    case PFL_NOTE_ADOPTED:
        on_result(s, i, note);
        break;
    case PFL_NOTE_LEARNING_FINISHED:
    case PFL_NOTE_LEARNING_STOPPED:
        on_ended(s, i, note);
        break;
    default:
        break;
    }
}
