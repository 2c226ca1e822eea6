/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl run: an experiment from its file to its report. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/memory_engine.h"
#include "runtime/run.h"
#include "runtime/run_child.h"

static const char help[] =
    "usage: p2pfl run EXAMPLE|FILE.YAML [options]\n"
    "       p2pfl run --resume DIR [--json] [--quiet] [--keep-going]\n"
    "\n"
    "Starts one process per node on this machine, links them over mutual TLS as the topology says, lets them learn together and\n"
    "leaves a folder with log, metrics, final model and report.html. 'p2pfl examples' lists the examples. An experiment with\n"
    "'protocol: MemoryCommunicationProtocol' runs all its nodes in this process, in virtual time, without sockets.\n"
    "\n"
    "  --out DIR             the run's folder (default: runs/NAME-TIME); must be new or empty\n"
    "  --resume DIR          goes on with the run in DIR that was interrupted or killed, from what its nodes kept\n"
    "  --json                one line of JSON on standard output at the end; progress goes to standard error\n"
    "  --quiet               no progress, only the result\n"
    "  --impostor            a node with certificates of another authority tries to get in while the others learn\n"
    "  --keep-going          go on without nodes that do not start or cannot be reached\n"
    "\n"
    "  --nodes N  --rounds N  --epochs N  --trainset-size N  --seed N\n"
    "  --topology T          star, full, line, ring or random_K\n"
    "                        each instead of what the experiment says\n"
    "  --data DIR            the folder with the data set's files\n"
    "  --certs DIR           certificates: DIR/NODE/{ca.crt,server.crt,server.key,client.crt,client.key}, or the five in DIR for\n"
    "                        all nodes (default: the files that the experiment names, else new ones from an authority for this "
    "run)\n"
    "\n"
    "exit codes: 0 every node finished with the same model (nodes that were lost on the way are named), 1 not so or an error,\n"
    "            2 wrong command line, 130 interrupted\n";

enum { OUT = 1000, JSON, QUIET, IMPOSTOR, KEEP_GOING, NODES, ROUNDS, EPOCHS, TRAINSET, SEED, TOPOLOGY, DATA, CERTS, RESUME };

static const struct option longs[] = {{"out", required_argument, NULL, OUT},
                                      {"json", no_argument, NULL, JSON},
                                      {"quiet", no_argument, NULL, QUIET},
                                      {"impostor", no_argument, NULL, IMPOSTOR},
                                      {"keep-going", no_argument, NULL, KEEP_GOING},
                                      {"nodes", required_argument, NULL, NODES},
                                      {"rounds", required_argument, NULL, ROUNDS},
                                      {"epochs", required_argument, NULL, EPOCHS},
                                      {"trainset-size", required_argument, NULL, TRAINSET},
                                      {"seed", required_argument, NULL, SEED},
                                      {"topology", required_argument, NULL, TOPOLOGY},
                                      {"data", required_argument, NULL, DATA},
                                      {"certs", required_argument, NULL, CERTS},
                                      {"resume", required_argument, NULL, RESUME},
                                      {"help", no_argument, NULL, 'h'},
                                      {0}};

static bool number(const char *flag, const char *text, int64_t min, int64_t max, int64_t *ret)
{
    if (pfl_parse_i64(text, min, max, ret))
        return true;
    pfl_cli_usage("run", "%s: '%s' is not a whole number from %" PRId64 " to %" PRId64, flag, pfl_q(text), min, max);
    return false;
}

static bool count(const char *flag, const char *text, int64_t min, int64_t max, unsigned *ret)
{
    int64_t v;
    if (!number(flag, text, min, max, &v))
        return false;
    *ret = (unsigned)v;
    return true;
}

/* False after a message where the option is wrong. */
static bool take(int c, const char *arg, struct pfl_run_opts *o)
{
    int64_t seed;
    switch (c) {
    case OUT:
        o->out = arg;
        return true;
    case RESUME:
        o->resume = arg;
        return true;
    case JSON:
        return o->json = true;
    case QUIET:
        return o->quiet = true;
    case IMPOSTOR:
        return o->impostor = true;
    case KEEP_GOING:
        return o->keep_going = true;
    case NODES:
        return count("--nodes", arg, 1, PFL_EXPERIMENT_NODES_MAX, &o->nodes);
    case ROUNDS:
        return count("--rounds", arg, 1, 1000000, &o->rounds);
    case EPOCHS:
        return o->has_epochs = count("--epochs", arg, 0, 10000, &o->epochs);
    case TRAINSET:
        return count("--trainset-size", arg, 1, 4096, &o->trainset_size);
    case SEED:
        o->has_seed = number("--seed", arg, 0, INT64_MAX, &seed);
        o->seed = o->has_seed ? (uint64_t)seed : 0;
        return o->has_seed;
    case TOPOLOGY:
        o->topology = arg;
        return true;
    case DATA:
        o->data = arg;
        return true;
    case CERTS:
        o->certs = arg;
        return true;
    default:
        return false; /* getopt has said what is wrong */
    }
}

int pfl_cmd_run(int argc, char **argv)
{
    struct pfl_run_opts o = {0};
    struct pfl_err err = {0};
    int exit_code = PFL_EXIT_NO;
    if (argc > 1 && strcmp(argv[1], "--as-child-of") == 0)
        return pfl_child_main(argc, argv); /* how the runner starts a node: not for people */
    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
        if (c == 'h') {
            fputs(help, stdout);
            return PFL_EXIT_OK;
        }
        if (!take(c, optarg, &o))
            return PFL_EXIT_USAGE;
    }
    if (o.resume && (o.out || o.topology || o.data || o.certs || o.rounds || o.has_epochs || o.nodes || o.trainset_size ||
                     o.has_seed || o.impostor))
        return pfl_cli_usage("run", "--resume goes on with a run as it is: it takes only --json, --quiet and --keep-going");
    if (optind >= argc && !o.resume)
        return pfl_cli_usage("run", "an example's name or an experiment file is needed");
    if (optind < argc)
        o.experiment = argv[optind++];
    if (optind < argc)
        return pfl_cli_usage("run", "unexpected argument '%s'", pfl_q(argv[optind]));
    bool in_memory = false;
    enum pfl_rc rc = pfl_plan_in_memory(&o, &in_memory, &err);
    if (rc == PFL_OK)
        rc = in_memory ? pfl_run_in_memory(&o, &pfl_memory_engine, &exit_code, &err) : pfl_run(&o, &exit_code, &err);
    return rc == PFL_OK ? exit_code : pfl_cli_fail("run", &err);
}
