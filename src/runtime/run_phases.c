/* SPDX-License-Identifier: Apache-2.0 */
/* A run's phases, in order: start, link, learn, ask for the last figures, end. Each waits for what nodes report, never for time to
 * pass, and each wait has an end. */
#include <stdlib.h>
#include <string.h>

#include "runtime/remote_learner.h"
#include "runtime/run_impl.h"

enum {
    CONNECTS_AT_ONCE = 8, /* a node takes 16 operators at a time */
};

#define START_LIMIT  (60 * PFL_SEC)
#define LINK_LIMIT   (30 * PFL_SEC)
#define ASK_LIMIT    (30 * PFL_SEC)
#define STATUS_LIMIT (5 * PFL_SEC)
#define GRACE        (6 * PFL_SEC)
#define TERM_GRACE   (4 * PFL_SEC)

/* ---- start ---- */

static void on_child_event(void *user, struct pfl_child *c, const json_t *event)
{
    struct pfl_run *run = user;
    static const char *const progress[] = {"neighbour", "known",      "round_started", "stage",          "fit",
                                           "metrics",   "aggregated", "adopted",       "round_finished", "contribution"};
    const char *kind = json_string_value(json_object_get(event, "event"));
    if (run->shutting_down || !pfl_record_event(run->record, event))
        return; /* goodbyes are no news */
    for (size_t i = 0; kind && i < PFL_ARRAY_LEN(progress); i++)
        if (strcmp(kind, progress[i]) == 0)
            run->last_progress = pfl_clock_mono();
    pfl_run_note_known(run, (unsigned)pfl_run_index(run, c), event);
    pfl_impostor_watch(run, event);
    pfl_progress_event(run->progress, event);
}

static void on_child_exit(void *user, struct pfl_child *c)
{
    struct pfl_run *run = user;
    if (run->shutting_down)
        return;
    PFL_AUTO(pfl_freep) char *how = pfl_child_ending(c);
    pfl_record_lost(run->record, (double)pfl_clock_wall() / 1e9, pfl_run_index(run, c), how);
    pfl_progress_say(run->progress, "%s is gone: %s%s", pfl_child_name(c), how, run->learning ? "; the others go on" : "");
}

static bool all_started(struct pfl_run *run)
{
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++) {
        if (pfl_run_alive(run, i) && !run->record->nodes[i].started)
            return false;
        if (run->record->nodes[i].lost && !run->opts->keep_going)
            return true;
    }
    return pfl_impostor_ready(run);
}

static bool check_started(struct pfl_run *run)
{
    size_t alive = 0;
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++) {
        const struct pfl_rec_node *n = &run->record->nodes[i];
        alive += pfl_run_alive(run, i);
        if (n->lost && !run->opts->keep_going) {
            pfl_run_fail(run, "%s did not start: %s", n->name, n->lost);
            return false;
        }
    }
    if (alive < 2)
        pfl_run_fail(run, "%zu of %u nodes started: there is nobody to learn with", alive, run->plan.cfg.nodes);
    return alive >= 2;
}

/* A node does not listen before its learner is there. */
static pfl_ns start_limit(const struct pfl_run *run)
{
    const struct pfl_remote_config *r = &run->plan.cfg.learner.remote;
    if (!pfl_remote_is_set(r))
        return START_LIMIT;
    return START_LIMIT + (r->start_timeout > 0 ? r->start_timeout : PFL_REMOTE_START_S * PFL_SEC);
}

bool pfl_run_start_nodes(struct pfl_run *run)
{
    struct pfl_err err = {0};
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++) {
        const struct pfl_plan_node *n = &run->plan.nodes[i];
        if (pfl_child_start(&(struct pfl_child_opts){.loop = &run->loop,
                                                     .name = n->name,
                                                     .dir = n->dir,
                                                     .on_event = on_child_event,
                                                     .on_exit = on_child_exit,
                                                     .user = run},
                            &run->children[i], &err) != PFL_OK) {
            pfl_run_fail(run, "%s", err.msg);
            return false;
        }
    }
    if (run->opts->impostor && !pfl_impostor_start(run, &err)) {
        pfl_run_fail(run, "%s", err.msg);
        return false;
    }
    if (!pfl_run_wait(run, all_started, start_limit(run)) && !run->interrupts) {
        for (unsigned i = 0; i < run->plan.cfg.nodes; i++)
            if (!run->record->nodes[i].started)
                pfl_run_fail(run, "%s did not come up within %d s; see its log.txt", run->plan.nodes[i].name,
                             (int)(start_limit(run) / PFL_SEC));
        return false;
    }
    return !run->interrupts && check_started(run);
}

/* ---- link ---- */

void pfl_run_note_known(struct pfl_run *run, unsigned i, const json_t *event)
{
    const char *kind = json_string_value(json_object_get(event, "event"));
    const char *address = json_string_value(json_object_get(event, "address"));
    const struct pfl_rec_node *other = pfl_record_node_at(run->record, address);
    if (!kind || !other)
        return;
    bool *knows = &run->knows[(size_t)i * run->plan.cfg.nodes + (size_t)(other - run->record->nodes)];
    if (strcmp(kind, "neighbour") == 0 || strcmp(kind, "known") == 0)
        *knows = true;
    else if (strcmp(kind, "neighbour_lost") == 0 || strcmp(kind, "known_lost") == 0)
        *knows = false;
}

struct connect {
    struct pfl_run *run;
    unsigned from, to;
};

static void connect_more(struct pfl_run *run);

static void on_connected(void *user, json_t *answer, const char *error)
{
    struct connect *c = user;
    struct pfl_run *run = c->run;
    if (!answer && !run->interrupts && pfl_run_alive(run, c->from) && pfl_run_alive(run, c->to))
        pfl_run_fail(run, "%s could not connect to %s: %s", run->plan.nodes[c->from].name, run->plan.nodes[c->to].name,
                     pfl_q(error));
    run->asks--;
    free(c);
    connect_more(run);
}

/* The node with the higher number dials, as one that joins does. */
static void connect_more(struct pfl_run *run)
{
    while (run->next_edge < run->plan.n_edges && run->asks < CONNECTS_AT_ONCE && !run->interrupts) {
        const struct pfl_edge *e = &run->plan.edges[run->next_edge++];
        if (!pfl_run_alive(run, e->a) || !pfl_run_alive(run, e->b))
            continue;
        struct connect *c = pfl_xcalloc(1, sizeof(*c));
        *c = (struct connect){run, e->b, e->a};
        run->asks++;
        pfl_child_ask(run->children[e->b], json_pack("{s:s, s:s}", "cmd", "connect", "address", run->record->nodes[e->a].address),
                      ASK_LIMIT, on_connected, c);
    }
}

static bool asks_answered(struct pfl_run *run)
{
    return run->asks == 0;
}

static bool all_know_all(struct pfl_run *run)
{
    unsigned n = run->plan.cfg.nodes;
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < n; j++)
            if (i != j && pfl_run_alive(run, i) && pfl_run_alive(run, j) && !run->knows[(size_t)i * n + j])
                return false;
    return true;
}

static void fail_who_does_not_see_whom(struct pfl_run *run)
{
    unsigned n = run->plan.cfg.nodes;
    for (unsigned i = 0; i < n; i++) {
        struct pfl_strs missing = {0};
        for (unsigned j = 0; j < n; j++)
            if (i != j && pfl_run_alive(run, i) && pfl_run_alive(run, j) && !run->knows[(size_t)i * n + j])
                pfl_strs_add(&missing, run->plan.nodes[j].name);
        if (missing.n > 0) {
            PFL_AUTO(pfl_freep) char *names = pfl_strs_join(&missing, ", ");
            pfl_run_fail(run, "%s does not see %s", run->plan.nodes[i].name, names);
        }
        pfl_strs_deinit(&missing);
    }
}

bool pfl_run_link_nodes(struct pfl_run *run)
{
    size_t failures = run->record->failures.n;
    connect_more(run);
    if (!pfl_run_wait(run, asks_answered, ASK_LIMIT) || (run->record->failures.n > failures && !run->opts->keep_going))
        return false;
    if (pfl_run_has_begun(run)) /* they knew each other before, and say so no more */
        return true;
    if (pfl_run_wait(run, all_know_all, LINK_LIMIT))
        return true;
    if (!run->interrupts)
        fail_who_does_not_see_whom(run);
    return false;
}

/* ---- learn ---- */

static void on_learn(void *user, json_t *answer, const char *error)
{
    struct pfl_run *run = user;
    run->asks--;
    if (!answer)
        pfl_run_fail(run, "learning was not started: %s", pfl_q(error));
}

static unsigned first_alive(const struct pfl_run *run)
{
    unsigned i = 0;
    while (i + 1 < run->plan.cfg.nodes && !pfl_run_alive(run, i))
        i++;
    return i;
}

/* A node is through when it finished, stopped or is gone. */
static bool all_through(struct pfl_run *run)
{
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++) {
        const struct pfl_rec_node *n = &run->record->nodes[i];
        if (!n->lost && !n->finished && !n->stopped)
            return false;
    }
    return true;
}

static bool check_learned(struct pfl_run *run, bool in_time)
{
    size_t finished = 0, failed = 0;
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++) {
        const struct pfl_rec_node *n = &run->record->nodes[i];
        if (n->finished) {
            finished++;
        } else if (!n->lost) {
            failed++;
            pfl_run_fail(run, "%s did not finish: %s after %u of %u rounds%s%s%s", n->name,
                         n->stopped ? "it stopped"
                         : in_time  ? "it ended"
                                    : "nothing happened any more",
                         n->rounds_done, run->record->rounds, n->waiting_for ? " (waiting for " : "",
                         n->waiting_for ? n->waiting_for : "", n->waiting_for ? ")" : "");
        }
    }
    if (finished == 0 && failed == 0)
        pfl_run_fail(run, "no node is left");
    return finished > 0 && failed == 0;
}

bool pfl_run_has_begun(const struct pfl_run *run)
{
    for (unsigned i = 0; run->opts->resume && i < run->plan.cfg.nodes; i++) {
        if (run->record->nodes[i].learning || run->record->nodes[i].finished)
            return true;
    }
    return false;
}

static void ask_to_learn(struct pfl_run *run)
{
    const struct pfl_experiment_config *c = &run->plan.cfg;
    unsigned first = first_alive(run);
    run->asks++;
    pfl_child_ask(run->children[first],
                  json_pack("{s:s, s:i, s:i, s:i, s:s}", "cmd", "learn", "rounds", (int)c->rounds, "epochs", (int)c->epochs,
                            "trainset_size", (int)c->trainset_size, "name", c->name),
                  ASK_LIMIT, on_learn, run);
}

bool pfl_run_learn(struct pfl_run *run)
{
    size_t failures = run->record->failures.n;
    run->learning = true;
    if (!pfl_run_has_begun(run))
        ask_to_learn(run);
    if (!pfl_run_wait(run, asks_answered, ASK_LIMIT) || run->record->failures.n > failures)
        return false;
    bool in_time = pfl_run_wait(run, all_through, run->plan.cfg.wait_timeout);
    if (run->interrupts)
        return false;
    if (!in_time) { /* what it waits for belongs into the failure */
        pfl_run_ask_status(run);
        (void)pfl_run_wait(run, asks_answered, STATUS_LIMIT);
    }
    return check_learned(run, in_time);
}

/* ---- status ---- */

struct status {
    struct pfl_run *run;
    unsigned node;
};

static uint64_t count_of(const json_t *o, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(o, key));
    return v > 0 ? (uint64_t)v : 0;
}

static void take_status(struct pfl_rec_node *n, const json_t *answer)
{
    const json_t *c = json_object_get(answer, "counters");
    const char *waiting = json_string_value(json_object_get(answer, "waiting_for"));
    if (json_is_object(c))
        n->counters = (struct pfl_rec_counters){.bytes_sent = count_of(c, "bytes_sent"),
                                                .bytes_received = count_of(c, "bytes_received"),
                                                .messages_sent = count_of(c, "messages_sent"),
                                                .messages_received = count_of(c, "messages_received")};
    if (count_of(answer, "rss_kb"))
        n->rss_kb = count_of(answer, "rss_kb");
    free(n->waiting_for);
    n->waiting_for = waiting ? pfl_xstrdup(waiting) : NULL;
}

static void on_status(void *user, json_t *answer, const char *error)
{
    struct status *s = user;
    (void)error; /* a node that does not answer keeps the figures of its last event */
    if (answer)
        take_status(&s->run->record->nodes[s->node], answer);
    s->run->asks--;
    s->run->status_asks--;
    free(s);
}

void pfl_run_ask_status(struct pfl_run *run)
{
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++) {
        if (!pfl_run_alive(run, i))
            continue;
        struct status *s = pfl_xcalloc(1, sizeof(*s));
        *s = (struct status){run, i};
        run->asks++;
        run->status_asks++;
        pfl_child_ask(run->children[i], json_pack("{s:s}", "cmd", "status"), STATUS_LIMIT, on_status, s);
    }
}

void pfl_run_final_status(struct pfl_run *run)
{
    pfl_run_ask_status(run);
    (void)pfl_run_wait(run, asks_answered, STATUS_LIMIT);
}

/* ---- the end ---- */

static bool all_gone(struct pfl_run *run)
{
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++)
        if (run->children[i] && pfl_child_running(run->children[i]))
            return false;
    return !run->impostor.child || !pfl_child_running(run->impostor.child);
}

static void on_shutdown_answer(void *user, json_t *answer, const char *error)
{
    struct pfl_run *run = user;
    (void)answer, (void)error; /* whether it worked shows in the process */
    run->asks--;
}

static void shut(struct pfl_run *run, struct pfl_child *c)
{
    if (!c || !pfl_child_running(c))
        return;
    if (!pfl_child_listening(c)) {
        pfl_child_kill(c, SIGTERM);
        return;
    }
    run->asks++;
    pfl_child_ask(c, json_pack("{s:s}", "cmd", "shutdown"), GRACE, on_shutdown_answer, run);
}

static void kill_all(struct pfl_run *run, int signum)
{
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++) {
        if (!run->children[i] || !pfl_child_running(run->children[i]))
            continue;
        pfl_progress_say(run->progress, "%s does not end: sending it SIG%s", run->plan.nodes[i].name, sigabbrev_np(signum));
        pfl_child_kill(run->children[i], signum);
    }
    if (run->impostor.child)
        pfl_child_kill(run->impostor.child, signum);
}

/* A node that was asked to end and did not end well has a fault that somebody wants to know of, though the experiment is over. */
static void check_endings(struct pfl_run *run)
{
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++) {
        const struct pfl_child *c = run->children[i];
        if (!c || run->record->nodes[i].lost || pfl_child_running(c) || pfl_child_ended_well(c))
            continue;
        PFL_AUTO(pfl_freep) char *how = pfl_child_ending(c);
        pfl_progress_say(run->progress, "%s ended badly: %s", run->plan.nodes[i].name, how);
        pfl_record_warning(run->record, (double)pfl_clock_wall() / 1e9, i, how);
    }
}

void pfl_run_shutdown(struct pfl_run *run)
{
    unsigned interrupts = run->interrupts;
    run->shutting_down = true;
    for (unsigned i = 0; i < run->plan.cfg.nodes; i++)
        shut(run, run->children[i]);
    shut(run, run->impostor.child);
    bool gone = pfl_run_wait(run, all_gone, GRACE);
    if (!gone && run->interrupts == interrupts) {
        kill_all(run, SIGTERM);
        gone = pfl_run_wait(run, all_gone, TERM_GRACE);
    }
    if (!gone) {
        kill_all(run, SIGKILL);
        run->interrupts = 0; /* nothing is left to be impatient about */
        (void)pfl_run_wait(run, all_gone, TERM_GRACE);
        run->interrupts = interrupts;
    }
    check_endings(run);
}
