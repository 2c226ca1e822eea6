/* SPDX-License-Identifier: Apache-2.0 */
/* One handler for each kind of event. A field that is missing or of another type counts as not said: the rest of the event
 * still stands, for a report with a gap is better than none. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/run_record_impl.h"

struct ctx {
    struct pfl_record *r;
    struct pfl_rec_node *n;
    const json_t *e;
    double t;
    int32_t round; /* -1: none */
};

static const char *text_of(const json_t *e, const char *key)
{
    const char *s = json_string_value(json_object_get(e, key));
    return s ? s : "";
}

static uint64_t count_of(const json_t *e, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(e, key));
    return v > 0 ? (uint64_t)v : 0;
}

static double number_of(const json_t *e, const char *key)
{
    const json_t *v = json_object_get(e, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void list_of(const json_t *e, const char *key, struct pfl_strs *out)
{
    const json_t *a = json_object_get(e, key), *v;
    size_t i;
    pfl_strs_deinit(out);
    json_array_foreach (a, i, v) {
        if (json_is_string(v) && out->n < PFL_RECORD_LIST_MAX)
            pfl_strs_add(out, json_string_value(v));
    }
}

static void digest_of(const json_t *e, char out[PFL_RECORD_DIGEST_MAX])
{
    const char *s = text_of(e, "digest");
    size_t len = strlen(s);
    if (len >= PFL_RECORD_DIGEST_MAX)
        len = PFL_RECORD_DIGEST_MAX - 1;
    memcpy(out, s, len);
    out[len] = '\0';
}

static void counters_of(const json_t *e, struct pfl_rec_counters *c)
{
    c->bytes_sent = count_of(e, "bytes_sent");
    c->bytes_received = count_of(e, "bytes_received");
    c->messages_sent = count_of(e, "messages_sent");
    c->messages_received = count_of(e, "messages_received");
}

static void on_started(const struct ctx *c)
{
    pfl_record_set(&c->n->address, text_of(c->e, "address"));
    c->n->pid = json_integer_value(json_object_get(c->e, "pid"));
    c->n->started = true;
    pfl_record_set(&c->n->stage, "idle");
}

static struct pfl_rec_link *find_link(const struct ctx *c, const char *address)
{
    for (size_t i = 0; i < c->r->n_links; i++)
        if (pfl_streq(c->r->links[i].node, c->n->name) && pfl_streq(c->r->links[i].address, address))
            return &c->r->links[i];
    return NULL;
}

static struct pfl_rec_link *add_link(const struct ctx *c, const char *address)
{
    struct pfl_record *r = c->r;
    if (r->n_links == PFL_RECORD_LIST_MAX)
        return NULL;
    if (r->n_links == r->cap_links) {
        r->cap_links = r->cap_links ? 2 * r->cap_links : 16;
        r->links = pfl_xrealloc(r->links, r->cap_links * sizeof(*r->links));
    }
    struct pfl_rec_link *l = &r->links[r->n_links++];
    *l = (struct pfl_rec_link){.node = pfl_xstrdup(c->n->name), .address = pfl_xstrdup(address), .t = c->t};
    return l;
}

/* "expires" is a text, or Unix seconds. */
static void set_expires(struct pfl_rec_link *l, const json_t *v)
{
    char text[32] = "";
    if (json_is_number(v)) {
        time_t s = (time_t)json_number_value(v);
        struct tm tm;
        if (gmtime_r(&s, &tm))
            (void)strftime(text, sizeof(text), "%Y-%m-%d", &tm);
    }
    pfl_record_set(&l->expires, json_is_string(v) ? json_string_value(v) : text);
}

static void on_neighbour(const struct ctx *c)
{
    const char *address = text_of(c->e, "address");
    struct pfl_rec_link *l = find_link(c, address);
    if (!l)
        l = add_link(c, address);
    if (!l)
        return;
    pfl_record_set(&l->identity, text_of(c->e, "identity"));
    pfl_record_set(&l->fingerprint, text_of(c->e, "fingerprint"));
    pfl_record_set(&l->tls, text_of(c->e, "tls"));
    pfl_record_set(&l->cipher, text_of(c->e, "cipher"));
    pfl_record_set(&l->lost, NULL);
    set_expires(l, json_object_get(c->e, "expires"));
}

static void on_neighbour_lost(const struct ctx *c)
{
    struct pfl_rec_link *l = find_link(c, text_of(c->e, "address"));
    if (l)
        pfl_record_set(&l->lost, text_of(c->e, "reason"));
}

static void on_refused(const struct ctx *c)
{
    struct pfl_record *r = c->r;
    if (r->n_refusals == PFL_RECORD_LIST_MAX)
        return;
    if (r->n_refusals == r->cap_refusals) {
        r->cap_refusals = r->cap_refusals ? 2 * r->cap_refusals : 8;
        r->refusals = pfl_xrealloc(r->refusals, r->cap_refusals * sizeof(*r->refusals));
    }
    r->refusals[r->n_refusals++] = (struct pfl_rec_refusal){
        .by = pfl_xstrdup(c->n->name),
        .peer = pfl_xstrdup(text_of(c->e, "peer")),
        .remote = pfl_xstrdup(text_of(c->e, "remote")),
        .reason = pfl_xstrdup(text_of(c->e, "reason")),
        .t = c->t,
    };
}

static void on_learning_started(const struct ctx *c)
{
    c->n->learning = true;
    c->n->finished = false;
    if (c->r->learn_t <= 0 || c->t < c->r->learn_t)
        c->r->learn_t = c->t;
    uint64_t rounds = count_of(c->e, "rounds");
    if (rounds > 0 && rounds <= PFL_RECORD_ROUNDS_MAX)
        c->r->rounds = (unsigned)rounds;
}

static void on_resumed(const struct ctx *c)
{
    c->n->learning = true;
    c->n->finished = false;
}

static void on_round_started(const struct ctx *c)
{
    c->n->round = c->round;
}

static void on_stage(const struct ctx *c)
{
    pfl_record_set(&c->n->stage, text_of(c->e, "stage"));
    pfl_record_remark(&c->r->stages, c->t, c->round, c->n->name, "", c->n->stage);
}

/* The first to say so is taken: where two nodes differ, their rounds fail with a message of their own. */
static void on_train_set(const struct ctx *c)
{
    struct pfl_record *r = c->r;
    if (c->round < 0 || c->round > PFL_RECORD_ROUNDS_MAX)
        return;
    size_t want = (size_t)c->round + 1;
    if (want > r->n_train_sets) {
        r->train_sets = pfl_xrealloc(r->train_sets, want * sizeof(*r->train_sets));
        memset(r->train_sets + r->n_train_sets, 0, (want - r->n_train_sets) * sizeof(*r->train_sets));
        r->n_train_sets = want;
    }
    if (r->train_sets[c->round].n == 0)
        list_of(c->e, "members", &r->train_sets[c->round]);
}

static void on_fit(const struct ctx *c)
{
    struct pfl_rec_point *p = pfl_record_point(c->n, c->round);
    if (!p)
        return;
    p->has_fit = true;
    p->fit_loss = number_of(c->e, "loss");
    p->fit_s = number_of(c->e, "seconds");
    p->fit_samples = count_of(c->e, "samples");
    /* The stage goes on until all contributions are in; its own work is done here. */
    pfl_record_remark(&c->r->stages, c->t, c->round, c->n->name, "", "waiting");
}

/* What a node says about others is theirs to say: their own events carry it. */
static void on_metrics(const struct ctx *c)
{
    if (!pfl_streq(text_of(c->e, "address"), c->n->address))
        return;
    struct pfl_rec_point *p = pfl_record_point(c->n, c->round);
    if (!p)
        return;
    p->has_test = true;
    p->loss = number_of(c->e, "loss");
    p->accuracy = number_of(c->e, "accuracy");
    c->n->loss = p->loss;
    c->n->accuracy = p->accuracy;
}

static void on_excluded(const struct ctx *c)
{
    pfl_record_remark(&c->r->excluded, c->t, c->round, c->n->name, text_of(c->e, "address"), text_of(c->e, "reason"));
}

static void on_aggregated(const struct ctx *c)
{
    struct pfl_rec_point *p = pfl_record_point(c->n, c->round);
    if (!p)
        return;
    list_of(c->e, "contributors", &p->contributors);
    digest_of(c->e, p->digest);
}

static void on_adopted(const struct ctx *c)
{
    struct pfl_rec_point *p = pfl_record_point(c->n, c->round);
    if (!p)
        return;
    pfl_record_set(&p->adopted_from, text_of(c->e, "from"));
    digest_of(c->e, p->digest);
}

static void on_round_finished(const struct ctx *c)
{
    struct pfl_rec_point *p = pfl_record_point(c->n, c->round);
    if (!p)
        return;
    p->has_end = true;
    p->end_t = c->t;
    counters_of(c->e, &p->end);
    if (text_of(c->e, "digest")[0])
        digest_of(c->e, p->digest);
    c->n->counters = p->end;
    if ((unsigned)c->round + 1 > c->n->rounds_done)
        c->n->rounds_done = (unsigned)c->round + 1;
}

static void on_learning_finished(const struct ctx *c)
{
    double loss = number_of(c->e, "loss"), accuracy = number_of(c->e, "accuracy");
    uint64_t rounds = count_of(c->e, "rounds");
    c->n->learning = false;
    c->n->finished = true;
    c->n->final_t = c->t;
    if (!isnan(loss))
        c->n->loss = loss;
    if (!isnan(accuracy))
        c->n->accuracy = accuracy;
    if (rounds <= PFL_RECORD_ROUNDS_MAX)
        c->n->rounds_done = (unsigned)rounds;
    digest_of(c->e, c->n->digest);
    pfl_record_set(&c->n->stage, "finished");
    pfl_record_set(&c->n->waiting_for, NULL);
}

static void on_learning_stopped(const struct ctx *c)
{
    c->n->learning = false;
    c->n->stopped = true;
    pfl_record_set(&c->n->stage, "stopped");
    pfl_record_remark(&c->r->warnings, c->t, c->n->round, c->n->name, "", text_of(c->e, "reason"));
}

static void on_warning(const struct ctx *c)
{
    pfl_record_remark(&c->r->warnings, c->t, c->n->round, c->n->name, text_of(c->e, "address"), text_of(c->e, "text"));
}

static const struct {
    const char *event;
    void (*handle)(const struct ctx *c);
} handlers[] = {
    {"started", on_started},
    {"neighbour", on_neighbour},
    {"neighbour_lost", on_neighbour_lost},
    {"refused", on_refused},
    {"learning_started", on_learning_started},
    {"resumed", on_resumed},
    {"joined", on_resumed},
    {"round_started", on_round_started},
    {"stage", on_stage},
    {"train_set", on_train_set},
    {"fit", on_fit},
    {"metrics", on_metrics},
    {"excluded", on_excluded},
    {"aggregated", on_aggregated},
    {"adopted", on_adopted},
    {"round_finished", on_round_finished},
    {"learning_finished", on_learning_finished},
    {"learning_stopped", on_learning_stopped},
    {"warning", on_warning},
};

bool pfl_record_event(struct pfl_record *r, const json_t *event)
{
    struct ctx c = {.r = r, .e = event, .n = pfl_record_node(r, text_of(event, "node")), .round = -1};
    const char *kind = text_of(event, "event");
    const json_t *round = json_object_get(event, "round");
    if (!c.n || !kind[0])
        return false;
    c.t = number_of(event, "t");
    if (isnan(c.t))
        c.t = 0;
    if (json_is_integer(round) && json_integer_value(round) >= 0 && json_integer_value(round) <= PFL_RECORD_ROUNDS_MAX)
        c.round = (int32_t)json_integer_value(round);
    for (size_t i = 0; i < PFL_ARRAY_LEN(handlers); i++)
        if (pfl_streq(handlers[i].event, kind))
            handlers[i].handle(&c);
    return true;
}
