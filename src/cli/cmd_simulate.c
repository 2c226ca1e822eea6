/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl simulate: an experiment in virtual time, for one seed or many. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <jansson.h>

#include "base/str.h"
#include "cli/cli.h"
#include "cli/simulate_pool.h"
#include "cli/simulate_scenario.h"
#include "p2pfl/commit.h"
#include "pki/digest.h"

static const char help[] =
    "usage: p2pfl simulate [FILE.YAML] [options]\n"
    "\n"
    "Runs an experiment with real node cores in virtual time, on a modelled network, with the faults that the file's\n"
    "'simulation:' block plans or that are drawn from the seed, and checks what must hold in every run. The same seed gives the\n"
    "same run. Without a file: 8 to 20 nodes with the default mix of faults. docs/SIMULATION.md describes the block.\n"
    "\n"
    "  --seed N              one seed (default: what the experiment says)\n"
    "  --seeds A..B          each seed from A to B, on all cores\n"
    "  --nodes N             so many nodes, instead of what the file says\n"
    "  --jobs N              so many processes at a time (default: one per core)\n"
    "  --trace               each message and each event with its virtual time, on standard output; one seed only\n"
    "  --events              the same without the messages\n"
    "  --json                one line of JSON on standard output at the end\n"
    "  --quiet               failures and the result, nothing else\n"
    "\n"
    "exit codes: 0 every seed kept every promise, 1 one did not, or an error, 2 wrong command line\n";

enum { SEED = 1000, SEEDS, NODES, JOBS, TRACE, EVENTS, JSON, QUIET };

enum { SEED_LIMIT_S = 3600 };

struct simulate {
    const char *file;
    bool has_seed, json, quiet, trace, events;
    uint64_t first, last;
    unsigned nodes, jobs;
    struct pfl_simulation sim;
    /* of the seed that runs */
    uint64_t seed;
    unsigned n;
    /* of all */
    double started;
    uint64_t done, excused, stopped;
    unsigned nodes_most;
    long peak_rss_kb;
    double messages, bytes, events_sum, virtual_s;
    json_t *failed;
    char digest[2 * PFL_DIGEST_LEN + 1]; /* of the last seed's model */
};

/* ---- one seed ---- */

static enum pfl_rc make_learner(void *user, unsigned node, struct pfl_learner *ret, struct pfl_err *err)
{
    struct simulate *m = user;
    return pfl_simulation_learner(&m->sim, m->seed, node, m->n, ret, err);
}

static void sha256(const struct pfl_bytes *parts, size_t n, uint8_t out[PFL_DIGEST_LEN])
{
    PFL_AUTO(pfl_sha256_freep) struct pfl_sha256 *sha = pfl_sha256_new();
    for (size_t i = 0; i < n; i++)
        pfl_sha256_add(sha, parts[i]);
    pfl_sha256_end(sha, out);
}

static void print_line(void *user, const char *line)
{
    (void)user;
    puts(line);
}

static enum pfl_rc simulate(struct simulate *m, uint64_t seed, struct pfl_pool_row *row, struct pfl_err *err)
{
    struct pfl_sim_scenario sc;
    struct pfl_sim *s = NULL;
    enum pfl_rc rc = pfl_simulation_scenario(&m->sim, seed, m->nodes, &sc, err);
    if (rc != PFL_OK)
        return rc;
    m->seed = seed;
    m->n = sc.n;
    struct pfl_sim_opts o = {.scenario = &sc,
                             .user = m,
                             .trace_messages = m->trace,
                             .compression = m->sim.compression.n > 0 ? &m->sim.compression : NULL};
    if (m->sim.real_learner) {
        o.learner = make_learner;
        o.digest = sha256; /* as the real node does it: the result can be compared with a real run's */
    }
    if (m->trace || m->events)
        o.trace = print_line;
    rc = pfl_sim_new(&o, &s, err);
    if (rc == PFL_OK)
        pfl_sim_run(s, &row->r);
    row->faults = (unsigned)sc.n_faults;
    pfl_sim_free(s);
    pfl_sim_scenario_deinit(&sc);
    return rc;
}

static double seconds(void)
{
    return (double)pfl_clock_mono() / 1e9;
}

static void run_seed(void *user, uint64_t seed, struct pfl_pool_row *row)
{
    struct simulate *m = user;
    struct pfl_err err = {0};
    struct rusage u;
    double start = seconds();
    if (simulate(m, seed, row, &err) != PFL_OK) {
        row->r.failed = true;
        snprintf(row->r.checker, sizeof(row->r.checker), "scenario");
        snprintf(row->r.failure, sizeof(row->r.failure), "%s", err.msg);
    }
    row->wall_s = seconds() - start;
    getrusage(RUSAGE_SELF, &u);
    row->peak_rss_kb = u.ru_maxrss;
}

/* ---- what is said of it ---- */

static void say_failure(const struct simulate *m, const struct pfl_pool_row *row)
{
    char nodes[32] = "";
    if (m->nodes)
        snprintf(nodes, sizeof(nodes), " --nodes %u", m->nodes);
    fprintf(stderr,
            "FAILED seed=%" PRIu64 " commit=%s: %s: %s\n"
            "  replay: p2pfl simulate%s%s --seed %" PRIu64 "%s --trace\n",
            row->seed, PFL_COMMIT, row->r.checker, row->r.failure, m->file ? " " : "", m->file ? m->file : "", row->seed, nodes);
}

static void say_row(const struct simulate *m, const struct pfl_pool_row *row)
{
    const struct pfl_sim_result *r = &row->r;
    const char *end = r->failed ? "FAILED" : r->stopped ? "stopped" : r->excused && !r->one_model ? "apart" : "one model";
    if (m->done == 1)
        printf("%10s %6s %7s %9s %8s %6s %8s %10s %12s %14s  %s\n", "seed", "nodes", "faults", "finished", "stopped", "idle",
               "evicted", "virtual s", "messages/n/r", "bytes/n/r", "result");
    printf("%10" PRIu64 " %6u %7u %9u %8u %6u %8u %10.1f %12.1f %14.0f  %s\n", row->seed, r->nodes, row->faults, r->finished,
           r->stopped, r->idle, r->evictions, r->virtual_s, r->messages_per_node_round, r->bytes_per_node_round, end);
}

static void say_progress(const struct simulate *m)
{
    double took = seconds() - m->started;
    fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " seeds, %zu failed, %.0f s ", m->done, m->last - m->first + 1,
            json_array_size(m->failed), took);
    if (m->done == m->last - m->first + 1)
        fputc('\n', stderr);
}

/* In order, whichever was through first. */
static void add_failed(struct simulate *m, uint64_t seed)
{
    size_t i = json_array_size(m->failed);
    while (i > 0 && json_integer_value(json_array_get(m->failed, i - 1)) > (json_int_t)seed)
        i--;
    json_array_insert_new(m->failed, i, json_integer((json_int_t)seed));
}

static void on_row(void *user, const struct pfl_pool_row *row)
{
    enum { ROWS_SHOWN_MAX = 40 };
    struct simulate *m = user;
    const struct pfl_sim_result *r = &row->r;
    uint64_t seeds = m->last - m->first + 1;
    m->done++;
    m->excused += r->excused && !r->one_model;
    m->stopped += r->stopped;
    m->nodes_most = r->nodes > m->nodes_most ? r->nodes : m->nodes_most;
    m->peak_rss_kb = row->peak_rss_kb > m->peak_rss_kb ? row->peak_rss_kb : m->peak_rss_kb;
    m->messages += r->messages_per_node_round;
    m->bytes += r->bytes_per_node_round;
    m->events_sum += (double)r->events;
    m->virtual_s += r->virtual_s;
    pfl_hex(pfl_bytes_of(r->digest, sizeof(r->digest)), m->digest);
    if (r->failed) {
        add_failed(m, row->seed);
        say_failure(m, row);
    }
    if (m->quiet)
        return;
    if (seeds <= ROWS_SHOWN_MAX && !m->json)
        say_row(m, row);
    else if (isatty(2) && (m->done % 10 == 0 || m->done == seeds))
        say_progress(m);
}

static void say_commands(const struct pfl_sim_result *r)
{
    printf("\n%-20s %12s %14s\n", "command", "messages", "bytes");
    for (size_t i = 0; i < r->n_commands; i++)
        printf("%-20s %12" PRIu64 " %14" PRIu64 "\n", r->commands[i].name, r->commands[i].n, r->commands[i].bytes);
}

static void say_end(const struct simulate *m, double wall)
{
    double n = m->done ? (double)m->done : 1;
    if (m->json) {
        json_t *o =
            json_pack("{s:I, s:O, s:i, s:i, s:f, s:I, s:f, s:f, s:I, s:I, s:f}", "seeds", (json_int_t)m->done, "failed", m->failed,
                      "nodes", (int)m->nodes_most, "rounds", (int)m->sim.cfg.rounds, "wall_s", wall, "peak_rss_kb",
                      (json_int_t)m->peak_rss_kb, "messages_per_node_round", m->messages / n, "bytes_per_node_round", m->bytes / n,
                      "apart", (json_int_t)m->excused, "stopped", (json_int_t)m->stopped, "virtual_s", m->virtual_s);
        if (m->sim.real_learner && m->first == m->last)
            json_object_set_new(o, "model_sha256", json_string(m->digest));
        json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(o);
        return;
    }
    printf("%s%" PRIu64
           " %s, %zu failed, %.1f s, peak memory %ld kB, %.0f events/s, %.1f messages and %.0f bytes per node and round\n",
           m->quiet ? "" : "\n", m->done, m->done == 1 ? "seed" : "seeds", json_array_size(m->failed), wall, m->peak_rss_kb,
           wall > 0 ? m->events_sum / wall : 0, m->messages / n, m->bytes / n);
}

/* ---- the command line ---- */

static bool number(const char *flag, const char *text, int64_t min, int64_t max, int64_t *ret)
{
    if (pfl_parse_i64(text, min, max, ret))
        return true;
    pfl_cli_usage("simulate", "%s: '%s' is not a whole number from %" PRId64 " to %" PRId64, flag, pfl_q(text), min, max);
    return false;
}

/* "A..B" */
static bool take_seeds(struct simulate *m, const char *text)
{
    const char *dots = strstr(text, "..");
    PFL_AUTO(pfl_freep) char *a = pfl_xstrndup(text, dots ? (size_t)(dots - text) : 0);
    int64_t x = 0, y = 0;
    m->has_seed = dots && pfl_parse_i64(a, 0, INT64_MAX, &x) && pfl_parse_i64(dots + 2, x, INT64_MAX, &y);
    m->first = (uint64_t)x;
    m->last = (uint64_t)y;
    if (!m->has_seed)
        pfl_cli_usage("simulate", "--seeds: '%s' is no range such as 1..100", pfl_q(text));
    return m->has_seed;
}

static bool take(struct simulate *m, int c, const char *arg)
{
    int64_t v = 0;
    bool ok = true;
    switch (c) {
    case SEED:
        ok = number("--seed", arg, 0, INT64_MAX, &v);
        m->has_seed = true;
        m->first = m->last = (uint64_t)v;
        return ok;
    case SEEDS:
        return take_seeds(m, arg);
    case NODES:
        ok = number("--nodes", arg, 2, PFL_SIM_NODES_MAX, &v);
        m->nodes = (unsigned)v;
        return ok;
    case JOBS:
        ok = number("--jobs", arg, 1, 1024, &v);
        m->jobs = (unsigned)v;
        return ok;
    case TRACE:
        return m->trace = true;
    case EVENTS:
        return m->events = true;
    case JSON:
        return m->json = true;
    case QUIET:
        return m->quiet = true;
    default:
        return false;
    }
}

static enum pfl_rc run_all(struct simulate *m, struct pfl_err *err)
{
    if (m->first != m->last) {
        const struct pfl_pool_opts o = {.first = m->first,
                                        .last = m->last,
                                        .jobs = m->jobs,
                                        .seed_limit_s = SEED_LIMIT_S,
                                        .run = run_seed,
                                        .row = on_row,
                                        .user = m};
        return pfl_pool_run(&o, err);
    }
    struct pfl_pool_row row = {.seed = m->first};
    run_seed(m, m->first, &row);
    if (strcmp(row.r.checker, "scenario") == 0)
        return pfl_err_set(err, PFL_INVALID, "%s", row.r.failure);
    on_row(m, &row);
    if (!m->json && !m->quiet)
        say_commands(&row.r);
    return PFL_OK;
}

static int run_command(struct simulate *m)
{
    struct pfl_err err = {0};
    enum pfl_rc rc = pfl_simulation_load(m->file, &m->sim, &err);
    if (rc != PFL_OK)
        return pfl_cli_fail("simulate", &err);
    if (!m->has_seed)
        m->first = m->last = m->sim.cfg.seed;
    m->failed = json_array();
    m->started = seconds();
    rc = run_all(m, &err);
    bool failed = json_array_size(m->failed) > 0;
    if (rc == PFL_OK)
        say_end(m, seconds() - m->started);
    json_decref(m->failed);
    pfl_simulation_deinit(&m->sim);
    return rc != PFL_OK ? pfl_cli_fail("simulate", &err) : failed ? PFL_EXIT_NO : PFL_EXIT_OK;
}

int pfl_cmd_simulate(int argc, char **argv)
{
    static const struct option longs[] = {{"seed", required_argument, NULL, SEED},   {"seeds", required_argument, NULL, SEEDS},
                                          {"nodes", required_argument, NULL, NODES}, {"jobs", required_argument, NULL, JOBS},
                                          {"trace", no_argument, NULL, TRACE},       {"events", no_argument, NULL, EVENTS},
                                          {"json", no_argument, NULL, JSON},         {"quiet", no_argument, NULL, QUIET},
                                          {"help", no_argument, NULL, 'h'},          {0}};
    struct simulate m = {.jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN)};
    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            return PFL_EXIT_OK;
        }
        if (!take(&m, c, optarg))
            return PFL_EXIT_USAGE;
    }
    m.file = optind < argc ? argv[optind++] : NULL;
    if (optind < argc)
        return pfl_cli_usage("simulate", "unexpected argument '%s'", pfl_q(argv[optind]));
    if ((m.trace || m.events) && m.first != m.last)
        return pfl_cli_usage("simulate", "--trace and --events are for one seed");
    return run_command(&m);
}
