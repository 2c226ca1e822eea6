/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/run_summary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/run_chart.h"

/* JSON knows no NaN: what is not known is null. */
static json_t *real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *text_or_null(const char *s)
{
    json_t *v = s && s[0] ? json_string(s) : NULL;
    return v ? v : json_null();
}

static json_t *count(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static void put_counters(json_t *o, const struct pfl_rec_counters *c)
{
    json_object_set_new(o, "bytes_sent", count(c->bytes_sent));
    json_object_set_new(o, "bytes_received", count(c->bytes_received));
    json_object_set_new(o, "messages_sent", count(c->messages_sent));
    json_object_set_new(o, "messages_received", count(c->messages_received));
}

static json_t *node_json(const struct pfl_rec_node *n)
{
    json_t *o = json_object();
    json_object_set_new(o, "name", text_or_null(n->name));
    json_object_set_new(o, "address", text_or_null(n->address));
    json_object_set_new(o, "accuracy", real_or_null(n->accuracy));
    json_object_set_new(o, "loss", real_or_null(n->loss));
    json_object_set_new(o, "model_sha256", text_or_null(n->digest));
    json_object_set_new(o, "rounds", count(n->rounds_done));
    json_object_set_new(o, "finished", json_boolean(n->finished && !n->lost));
    json_object_set_new(o, "lost", text_or_null(n->lost));
    put_counters(o, &n->counters);
    if (n->rss_kb)
        json_object_set_new(o, "rss_kb", count(n->rss_kb));
    return o;
}

static unsigned rounds_done(const struct pfl_record *r)
{
    unsigned most = 0;
    for (size_t i = 0; i < r->n_nodes; i++)
        if (!r->nodes[i].lost && r->nodes[i].rounds_done > most)
            most = r->nodes[i].rounds_done;
    return most;
}

json_t *pfl_summary_json(const struct pfl_record *r)
{
    struct pfl_rec_counters sum;
    pfl_record_totals(r, &sum);
    json_t *o = json_object(), *nodes = json_array(), *refused = json_array(), *failures = json_array();
    json_object_set_new(o, "finished", json_boolean(r->finished));
    json_object_set_new(o, "rounds", count(rounds_done(r)));
    json_object_set_new(o, "wall_s", json_real(r->end_t > r->start_t ? r->end_t - r->start_t : 0));
    json_object_set_new(o, "learning_s", json_real(pfl_record_learn_s(r)));
    put_counters(o, &sum);
    json_object_set_new(o, "identical", json_boolean(r->identical));
    json_object_set_new(o, "interrupted", json_boolean(r->interrupted));
    for (size_t i = 0; i < r->n_nodes; i++)
        json_array_append_new(nodes, node_json(&r->nodes[i]));
    json_object_set_new(o, "nodes", nodes);
    for (size_t i = 0; i < r->n_refusals; i++) {
        const struct pfl_rec_refusal *x = &r->refusals[i];
        json_t *one = json_object();
        json_object_set_new(one, "by", text_or_null(x->by));
        json_object_set_new(one, "peer", text_or_null(x->peer));
        json_object_set_new(one, "reason", text_or_null(x->reason));
        json_object_set_new(one, "remote", text_or_null(x->remote));
        json_array_append_new(refused, one);
    }
    json_object_set_new(o, "refused", refused);
    for (size_t i = 0; i < r->failures.n; i++)
        json_array_append_new(failures, text_or_null(r->failures.items[i].text));
    json_object_set_new(o, "failures", failures);
    json_object_set_new(o, "folder", text_or_null(r->run_dir));
    return o;
}

static void metrics_line(const struct pfl_record *r, size_t node, size_t round, struct pfl_buf *out)
{
    const struct pfl_rec_point *p = &r->nodes[node].points[round];
    struct pfl_rec_counters c;
    json_t *o = json_object();
    json_object_set_new(o, "node", text_or_null(r->nodes[node].name));
    json_object_set_new(o, "address", text_or_null(r->nodes[node].address));
    json_object_set_new(o, "round", count(round));
    if (p->has_test) {
        json_object_set_new(o, "test_loss", real_or_null(p->loss));
        json_object_set_new(o, "test_accuracy", real_or_null(p->accuracy));
    }
    if (p->has_fit) {
        json_object_set_new(o, "fit_loss", real_or_null(p->fit_loss));
        json_object_set_new(o, "fit_s", real_or_null(p->fit_s));
        json_object_set_new(o, "fit_samples", count(p->fit_samples));
    }
    if (pfl_record_round_traffic(r, node, round, &c))
        put_counters(o, &c);
    if (p->digest[0])
        json_object_set_new(o, "digest", text_or_null(p->digest));
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    PFL_ASSERT(text);
    pfl_buf_append_str(out, text);
    pfl_buf_append_str(out, "\n");
    free(text);
}

void pfl_summary_metrics(const struct pfl_record *r, struct pfl_buf *out)
{
    for (size_t i = 0; i < r->n_nodes; i++)
        for (size_t round = 0; round < r->nodes[i].n_points; round++)
            metrics_line(r, i, round, out);
}

static void node_text(const struct pfl_rec_node *n, struct pfl_buf *out)
{
    char accuracy[32], loss[32];
    pfl_chart_value(PFL_CHART_PERCENT, n->accuracy, accuracy, sizeof(accuracy));
    pfl_chart_value(PFL_CHART_NUMBER, n->loss, loss, sizeof(loss));
    pfl_buf_printf(out, "  %-10s %-22s ", n->name, n->address);
    if (n->lost)
        pfl_buf_printf(out, "lost after %u round%s: %s\n", n->rounds_done, n->rounds_done == 1 ? "" : "s", pfl_q(n->lost));
    else if (n->finished)
        pfl_buf_printf(out, "accuracy %s  loss %s  rounds %u\n", accuracy, loss, n->rounds_done);
    else
        pfl_buf_printf(out, "not finished: %u round%s, stage %s\n", n->rounds_done, n->rounds_done == 1 ? "" : "s",
                       pfl_q(n->stage));
}

static void models_text(const struct pfl_record *r, struct pfl_buf *out)
{
    const char *digest;
    size_t n = pfl_record_models(r, &digest);
    if (digest[0]) {
        pfl_buf_printf(out, "all %zu %smodels are identical: sha256 %s\n", n, r->identical ? "" : "finished ", digest);
    } else if (n > 0) {
        pfl_buf_append_str(out, "the models are NOT all the same:\n");
        for (size_t i = 0; i < r->n_nodes; i++) {
            const struct pfl_rec_node *x = &r->nodes[i];
            pfl_buf_printf(out, "  %-10s sha256 %s\n", x->name,
                           x->file_digest[0] ? x->file_digest
                           : x->digest[0]    ? x->digest
                                             : "(none)");
        }
    }
}

void pfl_summary_text(const struct pfl_record *r, struct pfl_buf *out)
{
    struct pfl_rec_counters sum;
    char bytes[32], messages[32];
    pfl_record_totals(r, &sum);
    pfl_chart_value(PFL_CHART_BYTES, (double)sum.bytes_sent, bytes, sizeof(bytes));
    pfl_chart_value(PFL_CHART_COUNT, (double)sum.messages_sent, messages, sizeof(messages));
    for (size_t i = 0; i < r->n_nodes; i++)
        node_text(&r->nodes[i], out);
    models_text(r, out);
    pfl_buf_printf(out, "time %.1f s, of which learning %.1f s; %s in %s messages sent\n",
                   r->end_t > r->start_t ? r->end_t - r->start_t : 0, pfl_record_learn_s(r), bytes, messages);
    for (size_t i = 0; i < r->n_refusals; i++)
        pfl_buf_printf(out, "refused: %s turned away '%s' (%s): %s\n", r->refusals[i].by, pfl_q(r->refusals[i].peer),
                       pfl_q(r->refusals[i].remote), pfl_q(r->refusals[i].reason));
    for (size_t i = 0; i < r->failures.n; i++)
        pfl_buf_printf(out, "failed: %s\n", r->failures.items[i].text);
    if (r->run_dir)
        pfl_buf_printf(out, "report: %s/report.html\n", r->run_dir);
}
