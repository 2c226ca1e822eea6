/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl run-variations: an experiment with other values, again and again, and the results side by side. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "runtime/run.h"
#include "runtime/variations.h"

static const char help[] =
    "usage: p2pfl run-variations EXAMPLE|FILE.YAML [options]\n"
    "\n"
    "Runs an experiment once for each combination of the values given, one run after the other, each in a folder of its own, and\n"
    "leaves a table, results.jsonl and report.html with charts. A run that is there already and ended well is not run again.\n"
    "\n"
    "  --aggregators A,B         --seeds 1,2,3 or 1..3     --nodes N,M        --rounds N,M         --epochs N,M\n"
    "  --trainset-sizes N,M      --topologies T,U          --partitions P,Q   --models M,N         --batch-sizes N,M\n"
    "  --param PATH=V1,V2        any value of the file: experiment.model.params.lr_rate=0.1,0.01; may be given again.\n"
    "                            With one value it is the same in all runs. Brackets keep commas together: [200,200],[50]\n"
    "  --memory                  all runs with the memory protocol\n"
    "  --data DIR                the folder with the data set's files\n"
    "  --out DIR                 where the runs' folders are (default: runs/NAME-variations)\n"
    "  --target SHARE            also say the first round with at least this test accuracy, such as 0.97\n"
    "  --again                   run also what is there already; the old folders are kept beside\n"
    "  --list                    say what would run, and run nothing\n"
    "  --json                    the results as JSON lines on standard output; progress goes to standard error\n"
    "  --quiet                   no progress\n"
    "\n"
    "exit codes: 0 all runs ended well, 1 one did not, or an error, 2 wrong command line, 130 interrupted\n";

enum { PARAM = 1000, MEMORY, DATA, OUT, TARGET, AGAIN, LIST, JSON, QUIET, AXES };

static const char *const axis_paths[] = {"experiment.aggregator.aggregator",
                                         "experiment.seed",
                                         "network.nodes",
                                         "experiment.rounds",
                                         "experiment.epochs",
                                         "experiment.trainset_size",
                                         "network.topology",
                                         "experiment.dataset.partitioning.strategy",
                                         "experiment.model.package",
                                         "experiment.dataset.batch_size"};

static const struct option longs[] = {{"aggregators", required_argument, NULL, AXES},
                                      {"seeds", required_argument, NULL, AXES + 1},
                                      {"nodes", required_argument, NULL, AXES + 2},
                                      {"rounds", required_argument, NULL, AXES + 3},
                                      {"epochs", required_argument, NULL, AXES + 4},
                                      {"trainset-sizes", required_argument, NULL, AXES + 5},
                                      {"topologies", required_argument, NULL, AXES + 6},
                                      {"partitions", required_argument, NULL, AXES + 7},
                                      {"models", required_argument, NULL, AXES + 8},
                                      {"batch-sizes", required_argument, NULL, AXES + 9},
                                      {"param", required_argument, NULL, PARAM},
                                      {"memory", no_argument, NULL, MEMORY},
                                      {"data", required_argument, NULL, DATA},
                                      {"out", required_argument, NULL, OUT},
                                      {"target", required_argument, NULL, TARGET},
                                      {"again", no_argument, NULL, AGAIN},
                                      {"list", no_argument, NULL, LIST},
                                      {"json", no_argument, NULL, JSON},
                                      {"quiet", no_argument, NULL, QUIET},
                                      {"help", no_argument, NULL, 'h'},
                                      {0}};

struct command {
    struct pfl_strs axes; /* "path=values" in the order given */
    const char *data, *out;
    double target;
    bool memory, again, list, json, quiet;
    struct pfl_variations v;
    char *dir; /* owned */
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signum)
{
    (void)signum;
    interrupted = 1;
}

/* ---- one run ---- */

static void say(const struct command *c, const char *text, const char *label)
{
    if (!c->quiet)
        fprintf(c->json ? stderr : stdout, "%s %s\n", text, label);
    fflush(stdout);
}

/* A folder that is in the way gets another name: nothing is deleted. */
static enum pfl_rc set_aside(const char *dir, struct pfl_err *err)
{
    for (unsigned i = 1; i < 10000; i++) {
        PFL_AUTO(pfl_freep) char *other = pfl_xasprintf("%s.old-%u", dir, i);
        if (pfl_fs_exists(other))
            continue;
        return rename(dir, other) == 0 ? PFL_OK : pfl_err_errno(err, errno, "%s", dir);
    }
    return pfl_err_set(err, PFL_EXISTS, "%s: ten thousand old ones beside it", dir);
}

/* True where the folder's run is one of this very text. */
static enum pfl_rc check_same(const struct pfl_variation *x, const char *dir, struct pfl_err *err)
{
    struct pfl_blob *blob = NULL;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, "experiment.yaml");
    enum pfl_rc rc = pfl_fs_read(path, PFL_YAML_FILE_MAX, &blob, err);
    if (rc != PFL_OK)
        return rc;
    if (blob->len < strlen(x->text) || memcmp(blob->data, x->text, strlen(x->text)) != 0)
        rc = pfl_err_set(err, PFL_EXISTS, "%s is of another experiment: name another folder with --out, or give --again", dir);
    pfl_blob_unref(blob);
    return rc;
}

/* *ret_status is the child's exit code. */
static enum pfl_rc spawn_run(const struct command *c, const char *file, const char *dir, const char *log, int *ret_status,
                             struct pfl_err *err)
{
    extern char **environ;
    posix_spawn_file_actions_t actions;
    const char *const args[] = {"p2pfl", "run", file, "--out", dir, "--quiet", c->data ? "--data" : NULL, c->data, NULL};
    pid_t pid = -1;
    int status = 0;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    int rc = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, (char *const *)(uintptr_t)args, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0)
        return pfl_err_errno(err, rc, "cannot start the run");
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return pfl_err_errno(err, errno, "waiting for the run");
        if (interrupted)
            kill(pid, SIGINT); /* a terminal told it already; a service manager did not */
    }
    *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return PFL_OK;
}

/* The last line that a run that did not end well said. */
static void say_why(const char *log)
{
    struct pfl_blob *blob = NULL;
    if (pfl_fs_read(log, 1 << 20, &blob, NULL) != PFL_OK)
        return;
    size_t end = blob->len;
    while (end > 0 && blob->data[end - 1] == '\n')
        end--;
    size_t from = end;
    while (from > 0 && blob->data[from - 1] != '\n')
        from--;
    PFL_AUTO(pfl_freep) char *line = pfl_xstrndup((const char *)blob->data + from, end - from);
    fprintf(stderr, "  %s\n", pfl_q(line));
    pfl_blob_unref(blob);
}

static enum pfl_rc run_one(struct command *c, struct pfl_variation *x, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_join(c->dir, x->folder);
    PFL_AUTO(pfl_freep) char *file = pfl_xasprintf("%s.yaml", dir);
    PFL_AUTO(pfl_freep) char *log = pfl_xasprintf("%s.log", dir);
    int status = 0;
    enum pfl_rc rc = PFL_OK;
    if (pfl_fs_exists(dir) && !c->again) {
        if ((rc = check_same(x, dir, err)) != PFL_OK)
            return rc;
        if (pfl_variation_read(x, dir, c->target) && x->finished) {
            x->skipped = true;
            say(c, "there already:", x->label);
            return PFL_OK;
        }
    }
    if (pfl_fs_exists(dir))
        rc = set_aside(dir, err);
    if (rc == PFL_OK)
        rc = pfl_fs_write_atomic(file, pfl_bytes_of(x->text, strlen(x->text)), 0644, err);
    if (rc != PFL_OK)
        return rc;
    say(c, "running:", x->label);
    rc = spawn_run(c, file, dir, log, &status, err);
    if (rc != PFL_OK)
        return rc;
    (void)pfl_variation_read(x, dir, c->target);
    if (status == PFL_RUN_INTERRUPTED)
        interrupted = 1;
    if (status != PFL_RUN_FINISHED) {
        x->finished = false;
        fprintf(stderr, "p2pfl run-variations: %s ended with code %d; see %s\n", pfl_q(x->label), status, log);
        say_why(log);
    }
    return PFL_OK;
}

/* ---- all ---- */

static enum pfl_rc write_results(const struct command *c, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf page = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf lines = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf table = {0};
    PFL_AUTO(pfl_freep) char *page_path = pfl_fs_join(c->dir, "report.html");
    PFL_AUTO(pfl_freep) char *lines_path = pfl_fs_join(c->dir, "results.jsonl");
    pfl_variations_html(&c->v, &page);
    pfl_variations_jsonl(&c->v, &lines);
    pfl_variations_table(&c->v, &table);
    if (page.failed || lines.failed || table.failed)
        return pfl_err_set(err, PFL_TOO_BIG, "%s: the results are too big to be written", c->dir);
    enum pfl_rc rc = pfl_fs_write_atomic(page_path, pfl_buf_view(&page), 0644, err);
    if (rc == PFL_OK)
        rc = pfl_fs_write_atomic(lines_path, pfl_buf_view(&lines), 0644, err);
    fputs(c->json ? pfl_buf_cstr(&lines) : pfl_buf_cstr(&table), stdout);
    if (!c->json)
        printf("report: %s\n", page_path);
    return rc;
}

static enum pfl_rc run_all(struct command *c, bool *ret_ok, struct pfl_err *err)
{
    struct sigaction act = {.sa_handler = on_signal};
    enum pfl_rc rc = pfl_fs_mkdirs(c->dir, 0700, err);
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    *ret_ok = true;
    for (size_t i = 0; rc == PFL_OK && i < c->v.n && !interrupted; i++) {
        rc = run_one(c, &c->v.items[i], err);
        *ret_ok = *ret_ok && c->v.items[i].finished;
    }
    return rc == PFL_OK ? write_results(c, err) : rc;
}

static enum pfl_rc prepare(struct command *c, const char *experiment, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_variations_open(experiment, &c->v, err);
    if (rc == PFL_OK && c->memory)
        rc = pfl_variations_add(&c->v, "network.protocol", "MemoryCommunicationProtocol", err);
    for (size_t i = 0; rc == PFL_OK && i < c->axes.n; i++) {
        const char *axis = c->axes.items[i], *eq = strchr(axis, '=');
        PFL_AUTO(pfl_freep) char *path = pfl_xstrndup(axis, (size_t)(eq - axis));
        rc = pfl_variations_add(&c->v, path, eq + 1, err);
    }
    if (rc == PFL_OK)
        rc = pfl_variations_make(&c->v, err);
    if (rc != PFL_OK)
        return rc;
    c->v.target = c->target;
    const char *base = strrchr(experiment, '/');
    base = base ? base + 1 : experiment;
    const char *dot = strrchr(base, '.');
    int stem = dot && dot != base ? (int)(dot - base) : (int)strlen(base);
    c->dir = c->out ? pfl_xstrdup(c->out) : pfl_xasprintf("runs/%.*s-variations", stem, base);
    return PFL_OK;
}

static bool take(struct command *c, int option, const char *arg)
{
    switch (option) {
    case PARAM:
        if (!strchr(arg, '=') || arg[0] == '=') {
            pfl_cli_usage("run-variations", "--param: '%s' is no PATH=VALUES such as experiment.model.params.lr_rate=0.1,0.01",
                          pfl_q(arg));
            return false;
        }
        pfl_strs_add(&c->axes, arg);
        return true;
    case DATA:
        c->data = arg;
        return true;
    case OUT:
        c->out = arg;
        return true;
    case TARGET:
        if (pfl_parse_double(arg, &c->target) && c->target > 0.0 && c->target <= 1.0)
            return true;
        pfl_cli_usage("run-variations", "--target: '%s' is no share from 0 to 1", pfl_q(arg));
        return false;
    case MEMORY:
        return c->memory = true;
    case AGAIN:
        return c->again = true;
    case LIST:
        return c->list = true;
    case JSON:
        return c->json = true;
    case QUIET:
        return c->quiet = true;
    default:
        break;
    }
    if (option < AXES)
        return false; /* getopt has said what is wrong */
    PFL_AUTO(pfl_freep) char *axis = pfl_xasprintf("%s=%s", axis_paths[option - AXES], arg);
    pfl_strs_add(&c->axes, axis);
    return true;
}

static int run_command(struct command *c, const char *experiment)
{
    struct pfl_err err = {0};
    bool ok = true;
    enum pfl_rc rc = prepare(c, experiment, &err);
    for (size_t i = 0; rc == PFL_OK && c->list && i < c->v.n; i++)
        puts(c->v.items[i].label);
    if (rc == PFL_OK && !c->list)
        rc = run_all(c, &ok, &err);
    if (rc != PFL_OK)
        return pfl_cli_fail("run-variations", &err);
    return interrupted ? PFL_RUN_INTERRUPTED : ok ? PFL_EXIT_OK : PFL_EXIT_NO;
}

int pfl_cmd_variations(int argc, char **argv)
{
    struct command c = {.target = (double)NAN};
    int code = -1;
    for (int option; code < 0 && (option = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
        if (option == 'h') {
            fputs(help, stdout);
            code = PFL_EXIT_OK;
        } else if (!take(&c, option, optarg)) {
            code = PFL_EXIT_USAGE;
        }
    }
    if (code < 0 && optind + 1 != argc)
        code = pfl_cli_usage("run-variations",
                             optind < argc ? "one experiment only" : "an example's name or an experiment file is needed");
    if (code < 0)
        code = run_command(&c, argv[optind]);
    pfl_variations_deinit(&c.v);
    pfl_strs_deinit(&c.axes);
    free(c.dir);
    return code;
}
