/* SPDX-License-Identifier: Apache-2.0 */
/* The table is drawn over itself: up by its lines, clear to the end, draw. A line that is said goes where the table stood. */
#include "runtime/run_progress.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "runtime/run_chart.h"

enum { COLUMNS_DEFAULT = 100, ROWS_DEFAULT = 24, LINE_BYTES = 512 };

struct pfl_progress {
    FILE *out, *log;
    const struct pfl_record *r;
    bool table;
    unsigned drawn;    /* lines of the table on the screen */
    size_t next_round; /* whose result was not said yet */
};

enum pfl_rc pfl_progress_new(const struct pfl_progress_opts *opts, struct pfl_progress **ret, struct pfl_err *err)
{
    FILE *log = NULL;
    if (opts->log_path) {
        log = fopen(opts->log_path, "ae");
        if (!log)
            return pfl_err_errno(err, errno, "%s", opts->log_path);
    }
    struct pfl_progress *p = pfl_xcalloc(1, sizeof(*p));
    *p = (struct pfl_progress){.out = opts->out, .log = log, .r = opts->record, .table = opts->table && opts->out};
    *ret = p;
    return PFL_OK;
}

static void erase(struct pfl_progress *p)
{
    if (p->drawn)
        fprintf(p->out, "\x1b[%uA\r\x1b[J", p->drawn);
    p->drawn = 0;
}

void pfl_progress_free(struct pfl_progress *p)
{
    if (!p)
        return;
    if (p->table) {
        erase(p);
        fflush(p->out);
    }
    if (p->log)
        fclose(p->log);
    free(p);
}

void pfl_progress_say(struct pfl_progress *p, const char *fmt, ...)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf line = {0};
    char when[32];
    va_list ap;
    va_start(ap, fmt);
    pfl_buf_vprintf(&line, fmt, ap);
    va_end(ap);
    if (p->log) {
        pfl_clock_format(pfl_clock_wall(), when);
        fprintf(p->log, "%s %s\n", when, pfl_buf_cstr(&line));
        fflush(p->log);
    }
    if (!p->out)
        return;
    bool redraw = p->drawn > 0;
    erase(p);
    fprintf(p->out, "%s\n", pfl_buf_cstr(&line));
    if (redraw)
        pfl_progress_draw(p);
    fflush(p->out);
}

/* ---- results of rounds ---- */

/* Nothing about the model after `round` rounds is still to come from this node. */
static bool node_past(const struct pfl_rec_node *n, size_t round)
{
    if (n->lost || n->finished || n->rounds_done > round)
        return true;
    return round < n->n_points && n->points[round].has_test;
}

static bool round_complete(const struct pfl_record *r, size_t round)
{
    size_t with_values = 0;
    for (size_t i = 0; i < r->n_nodes; i++) {
        if (!node_past(&r->nodes[i], round))
            return false;
        with_values += round < r->nodes[i].n_points && r->nodes[i].points[round].has_test;
    }
    return with_values > 0;
}

struct range {
    double lo, hi;
};

static struct range range_of(const struct pfl_record *r, size_t round, bool accuracy)
{
    struct range x = {INFINITY, -INFINITY};
    for (size_t i = 0; i < r->n_nodes; i++) {
        if (round >= r->nodes[i].n_points || !r->nodes[i].points[round].has_test)
            continue;
        double v = accuracy ? r->nodes[i].points[round].accuracy : r->nodes[i].points[round].loss;
        if (!isnan(v)) {
            x.lo = fmin(x.lo, v);
            x.hi = fmax(x.hi, v);
        }
    }
    return x;
}

static void range_text(enum pfl_chart_unit unit, struct range x, char out[80])
{
    char a[32], b[32];
    if (!(x.lo <= x.hi)) {
        (void)snprintf(out, 80, "–");
        return;
    }
    pfl_chart_value(unit, x.lo, a, sizeof(a));
    pfl_chart_value(unit, x.hi, b, sizeof(b));
    if (strcmp(a, b) == 0)
        (void)snprintf(out, 80, "%s", a);
    else
        (void)snprintf(out, 80, "%s to %s", a, b);
}

static void say_round(struct pfl_progress *p, size_t round)
{
    char accuracy[80], loss[80], bytes[32];
    double sent = 0;
    struct pfl_rec_counters c;
    range_text(PFL_CHART_PERCENT, range_of(p->r, round, true), accuracy);
    range_text(PFL_CHART_NUMBER, range_of(p->r, round, false), loss);
    if (round == 0) {
        pfl_progress_say(p, "initial model  accuracy %s  loss %s", accuracy, loss);
        return;
    }
    for (size_t i = 0; i < p->r->n_nodes; i++)
        if (pfl_record_round_traffic(p->r, i, round - 1, &c))
            sent += (double)c.bytes_sent;
    pfl_chart_value(PFL_CHART_BYTES, sent, bytes, sizeof(bytes));
    pfl_progress_say(p, "round %zu of %u  accuracy %s  loss %s  %s sent", round, p->r->rounds, accuracy, loss, bytes);
}

static const char *text_of(const json_t *e, const char *key)
{
    const char *s = json_string_value(json_object_get(e, key));
    return s ? s : "";
}

static void say_event(struct pfl_progress *p, const json_t *e)
{
    const char *node = text_of(e, "node"), *kind = text_of(e, "event");
    long long round = (long long)json_integer_value(json_object_get(e, "round")) + 1;
    const char *about = pfl_record_name_of(p->r, text_of(e, "address"));
    if (strcmp(kind, "refused") == 0)
        pfl_progress_say(p, "refused: %s turned away '%s' (%s): %s", node, pfl_q(text_of(e, "peer")), pfl_q(text_of(e, "remote")),
                         pfl_q(text_of(e, "reason")));
    else if (strcmp(kind, "excluded") == 0)
        pfl_progress_say(p, "%s goes on without %s in round %lld: %s", node, pfl_q(about), round, pfl_q(text_of(e, "reason")));
    else if (strcmp(kind, "warning") == 0)
        pfl_progress_say(p, "%s: %s%s%s", node, pfl_q(text_of(e, "text")), about[0] ? " " : "", pfl_q(about));
    else if (strcmp(kind, "learning_stopped") == 0)
        pfl_progress_say(p, "%s stopped learning: %s", node, pfl_q(text_of(e, "reason")));
}

void pfl_progress_event(struct pfl_progress *p, const json_t *event)
{
    say_event(p, event);
    while (p->r->rounds > 0 && p->next_round <= p->r->rounds && round_complete(p->r, p->next_round))
        say_round(p, p->next_round++);
}

/* ---- the table ---- */

static void cut_to(char *line, size_t columns)
{
    size_t at = 0;
    for (char *s = line; *s; s++) {
        if (((unsigned char)*s & 0xc0) != 0x80 && at++ == columns) { /* a byte that begins a character */
            *s = '\0';
            return;
        }
    }
}

static void draw_line(struct pfl_progress *p, size_t columns, const char *fmt, ...) PFL_PRINTF(3, 4);
static void draw_line(struct pfl_progress *p, size_t columns, const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    cut_to(line, columns);
    fprintf(p->out, "%s\n", line);
    p->drawn++;
}

static void draw_node(struct pfl_progress *p, const struct pfl_rec_node *n, size_t columns)
{
    char accuracy[32], loss[32], sent[32], round[32] = "–";
    pfl_chart_value(PFL_CHART_PERCENT, n->accuracy, accuracy, sizeof(accuracy));
    pfl_chart_value(PFL_CHART_NUMBER, n->loss, loss, sizeof(loss));
    pfl_chart_value(PFL_CHART_BYTES, (double)n->counters.bytes_sent, sent, sizeof(sent));
    if (n->finished)
        (void)snprintf(round, sizeof(round), "%u/%u", n->rounds_done, p->r->rounds);
    else if (n->round >= 0)
        (void)snprintf(round, sizeof(round), "%d/%u", (int)n->round + 1, p->r->rounds);
    /* The dash is three bytes wide to printf and one column to the eye. */
    draw_line(p, columns, "  %-10.16s %-18.22s %-12.12s %*s %*s %*s %10s  %.100s", n->name, n->address, n->stage,
              round[0] == '\xe2' ? 9 : 7, round, accuracy[0] == '\xe2' ? 10 : 8, accuracy, loss[0] == '\xe2' ? 9 : 7, loss, sent,
              n->lost          ? pfl_q(n->lost)
              : n->waiting_for ? pfl_q(n->waiting_for)
                               : "");
}

void pfl_progress_draw(struct pfl_progress *p)
{
    struct winsize w = {.ws_col = COLUMNS_DEFAULT, .ws_row = ROWS_DEFAULT};
    if (!p->table)
        return;
    (void)ioctl(fileno(p->out), TIOCGWINSZ, &w);
    size_t columns = w.ws_col > 20 ? w.ws_col - 1u : COLUMNS_DEFAULT, rows = w.ws_row > 8 ? w.ws_row - 4u : ROWS_DEFAULT;
    erase(p);
    draw_line(p, columns, "  %-10s %-18s %-12s %7s %8s %7s %10s  %s", "node", "address", "stage", "round", "accuracy", "loss",
              "sent", "waiting for");
    size_t shown = p->r->n_nodes <= rows ? p->r->n_nodes : rows - 1;
    for (size_t i = 0; i < shown; i++)
        draw_node(p, &p->r->nodes[i], columns);
    if (shown < p->r->n_nodes)
        draw_line(p, columns, "  ... and %zu more", p->r->n_nodes - shown);
    fflush(p->out);
}
