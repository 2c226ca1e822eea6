/* SPDX-License-Identifier: Apache-2.0 */
/* The record's life, its nodes and what is computed from it. How events change it is in run_record_events.c. */
#include "runtime/run_record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/run_record_impl.h"

struct pfl_record *pfl_record_new(const char *title)
{
    struct pfl_record *r = pfl_xcalloc(1, sizeof(*r));
    r->title = pfl_xstrdup(title);
    r->experiment = pfl_xstrdup("");
    r->topology = pfl_xstrdup("");
    r->versions = pfl_xstrdup("");
    r->config_text = pfl_xstrdup("");
    return r;
}

static void point_deinit(struct pfl_rec_point *p)
{
    pfl_strs_deinit(&p->contributors);
    free(p->adopted_from);
}

static void node_deinit(struct pfl_rec_node *n)
{
    for (size_t i = 0; i < n->n_points; i++)
        point_deinit(&n->points[i]);
    free(n->points);
    free(n->name);
    free(n->address);
    free(n->stage);
    free(n->waiting_for);
    free(n->lost);
}

static void link_deinit(struct pfl_rec_link *l)
{
    free(l->node);
    free(l->address);
    free(l->identity);
    free(l->fingerprint);
    free(l->tls);
    free(l->cipher);
    free(l->expires);
    free(l->lost);
}

static void remarks_deinit(struct pfl_rec_remarks *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i].node);
        free(l->items[i].address);
        free(l->items[i].text);
    }
    free(l->items);
}

void pfl_record_free(struct pfl_record *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n_nodes; i++)
        node_deinit(&r->nodes[i]);
    for (size_t i = 0; i < r->n_links; i++)
        link_deinit(&r->links[i]);
    for (size_t i = 0; i < r->n_refusals; i++) {
        free(r->refusals[i].by);
        free(r->refusals[i].peer);
        free(r->refusals[i].remote);
        free(r->refusals[i].reason);
    }
    for (size_t i = 0; i < r->n_train_sets; i++)
        pfl_strs_deinit(&r->train_sets[i]);
    remarks_deinit(&r->excluded);
    remarks_deinit(&r->warnings);
    remarks_deinit(&r->stages);
    remarks_deinit(&r->failures);
    free(r->nodes);
    free(r->links);
    free(r->refusals);
    free(r->train_sets);
    free(r->title);
    free(r->experiment);
    free(r->topology);
    free(r->versions);
    free(r->partition);
    free(r->parts);
    free(r->config_text);
    free(r->final_model);
    free(r->run_dir);
    free(r);
}

void pfl_record_set(char **field, const char *value)
{
    char *copy = value ? pfl_xstrdup(value) : NULL;
    free(*field);
    *field = copy;
}

void pfl_record_remark(struct pfl_rec_remarks *l, double t, int32_t round, const char *node, const char *address, const char *text)
{
    if (l->n == PFL_RECORD_LIST_MAX) {
        l->dropped++;
        return;
    }
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 16;
        l->items = pfl_xrealloc(l->items, l->cap * sizeof(*l->items));
    }
    l->items[l->n++] = (struct pfl_rec_remark){
        .node = pfl_xstrdup(node),
        .address = pfl_xstrdup(address),
        .text = pfl_xstrdup(text),
        .round = round,
        .t = t,
    };
}

size_t pfl_record_add_node(struct pfl_record *r, const char *name, const char *address)
{
    r->nodes = pfl_xrealloc(r->nodes, (r->n_nodes + 1) * sizeof(*r->nodes));
    r->nodes[r->n_nodes] = (struct pfl_rec_node){
        .name = pfl_xstrdup(name),
        .address = pfl_xstrdup(address ? address : ""),
        .stage = pfl_xstrdup("starting"),
        .round = -1,
        .accuracy = NAN,
        .loss = NAN,
    };
    return r->n_nodes++;
}

struct pfl_rec_node *pfl_record_node(const struct pfl_record *r, const char *name)
{
    for (size_t i = 0; i < r->n_nodes; i++)
        if (pfl_streq(r->nodes[i].name, name))
            return &r->nodes[i];
    return NULL;
}

struct pfl_rec_node *pfl_record_node_at(const struct pfl_record *r, const char *address)
{
    for (size_t i = 0; i < r->n_nodes; i++)
        if (address && address[0] && pfl_streq(r->nodes[i].address, address))
            return &r->nodes[i];
    return NULL;
}

const char *pfl_record_name_of(const struct pfl_record *r, const char *address)
{
    const struct pfl_rec_node *n = pfl_record_node_at(r, address);
    return n ? n->name : address;
}

struct pfl_rec_point *pfl_record_point(struct pfl_rec_node *n, int32_t round)
{
    if (round < 0 || round > PFL_RECORD_ROUNDS_MAX)
        return NULL;
    size_t want = (size_t)round + 1;
    if (want > n->n_points) {
        n->points = pfl_xrealloc(n->points, want * sizeof(*n->points));
        memset(n->points + n->n_points, 0, (want - n->n_points) * sizeof(*n->points));
        n->n_points = want;
    }
    return &n->points[round];
}

void pfl_record_lost(struct pfl_record *r, double t, size_t node, const char *reason)
{
    if (!r->nodes[node].lost) {
        r->nodes[node].lost = pfl_xstrdup(reason);
        r->nodes[node].lost_t = t;
    }
    pfl_record_set(&r->nodes[node].stage, "gone");
    pfl_record_set(&r->nodes[node].waiting_for, NULL);
}

void pfl_record_warning(struct pfl_record *r, double t, size_t node, const char *text)
{
    pfl_record_remark(&r->warnings, t, -1, r->nodes[node].name, "", text);
}

void pfl_record_failure(struct pfl_record *r, double t, const char *text)
{
    pfl_record_remark(&r->failures, t, -1, "", "", text);
}

size_t pfl_record_models(const struct pfl_record *r, const char **ret_digest)
{
    const char *common = NULL;
    bool equal = true;
    size_t n_models = 0;
    for (size_t i = 0; i < r->n_nodes; i++) {
        const struct pfl_rec_node *n = &r->nodes[i];
        if (n->lost || !n->finished)
            continue;
        equal = equal && n->digest[0] && (!n->file_digest[0] || pfl_streq(n->digest, n->file_digest)) &&
                (!common || pfl_streq(common, n->digest));
        common = n->digest;
        n_models++;
    }
    *ret_digest = equal && common ? common : "";
    return n_models;
}

/* Every node that is still there ended with one and the same model. */
static bool models_identical(const struct pfl_record *r)
{
    const char *digest;
    size_t there = 0;
    for (size_t i = 0; i < r->n_nodes; i++)
        there += !r->nodes[i].lost;
    return there > 0 && pfl_record_models(r, &digest) == there && digest[0];
}

void pfl_record_close(struct pfl_record *r, double t)
{
    r->end_t = t;
    r->identical = models_identical(r);
    r->finished = r->identical && !r->interrupted && r->failures.n == 0;
}

bool pfl_record_round_traffic(const struct pfl_record *r, size_t node, size_t round, struct pfl_rec_counters *ret)
{
    const struct pfl_rec_node *n = &r->nodes[node];
    if (round >= n->n_points || !n->points[round].has_end)
        return false;
    struct pfl_rec_counters now = n->points[round].end, before = {0};
    if (round > 0) {
        if (!n->points[round - 1].has_end)
            return false;
        before = n->points[round - 1].end;
    }
    /* Counters of a process only grow; should they not, nothing sensible can be said about the round. */
    if (now.bytes_sent < before.bytes_sent || now.messages_sent < before.messages_sent ||
        now.bytes_received < before.bytes_received || now.messages_received < before.messages_received)
        return false;
    *ret = (struct pfl_rec_counters){
        .bytes_sent = now.bytes_sent - before.bytes_sent,
        .bytes_received = now.bytes_received - before.bytes_received,
        .messages_sent = now.messages_sent - before.messages_sent,
        .messages_received = now.messages_received - before.messages_received,
    };
    return true;
}

void pfl_record_totals(const struct pfl_record *r, struct pfl_rec_counters *ret)
{
    struct pfl_rec_counters sum = {0};
    for (size_t i = 0; i < r->n_nodes; i++) {
        sum.bytes_sent += r->nodes[i].counters.bytes_sent;
        sum.bytes_received += r->nodes[i].counters.bytes_received;
        sum.messages_sent += r->nodes[i].counters.messages_sent;
        sum.messages_received += r->nodes[i].counters.messages_received;
    }
    *ret = sum;
}

double pfl_record_learn_s(const struct pfl_record *r)
{
    double end = 0;
    for (size_t i = 0; i < r->n_nodes; i++)
        if (r->nodes[i].final_t > end)
            end = r->nodes[i].final_t;
    end = end > 0 ? end : r->end_t; /* it was interrupted, or nobody came to the end */
    return r->learn_t > 0 && end > r->learn_t ? end - r->learn_t : 0;
}
