/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl node: run one node in the foreground, and talk to a running one over its control socket. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/cmd_node_audit.h"
#include "cli/cmd_node_evidence.h"
#include "runtime/control.h"
#include "runtime/node_main.h"
#include "runtime/remote_process.h"

static const char help[] =
    "usage: p2pfl node start -c NODE.YAML\n"
    "       p2pfl node status|connect|disconnect|learn|stop|crl|renew|evidence|audit|shutdown [--state DIR] ...\n"
    "\n"
    "  start -c FILE               run a node in the foreground until SIGINT or SIGTERM\n"
    "  status [--json]             who it knows, what it does, what it waits for\n"
    "  connect ADDRESS             link with another node (mutual TLS, both sides check)\n"
    "  disconnect ADDRESS          give the link up\n"
    "  learn [--rounds N] [--epochs N] [--trainset-size N] [--name NAME]\n"
    "                              start learning in the whole federation\n"
    "  stop                        stop learning in the whole federation\n"
    "  crl [FILE]                  take a certificate revocation list now (default: the one in settings.ssl.crl)\n"
    "  renew                       renew the certificates now, at the CA service (ca.service in node.yaml)\n"
    "  evidence [FILE] [--json]    who contradicted itself: pairs of signed statements that this node kept, each checked\n"
    "                              again; the node need not run. For p2pfl ca revoke --evidence FILE\n"
    "  audit [--verify [--head N:HASH]] [--json]\n"
    "                              who started and stopped what, who was refused and why; --verify: nobody changed the log,\n"
    "                              --head: and nothing was cut off since that head was printed. The node need not run\n"
    "  shutdown                    end the node\n"
    "\n"
    "  --state DIR                 the node's state folder (default: the current folder); its control.sock is used\n"
    "\n"
    "exit codes: 0 done, 1 failed or refused, 2 wrong command line\n";

static const char *const subcommands[] = {"start", "status", "connect",  "disconnect", "learn",   "stop",
                                          "crl",   "renew",  "evidence", "audit",      "shutdown"};

struct opts {
    const char *sub, *config, *state, *name, *address, *head;
    int64_t rounds, epochs, trainset_size;
    bool json, verify;
};

static bool number(const char *text, int64_t min, int64_t max, const char *flag, int64_t *ret)
{
    if (pfl_parse_i64(text, min, max, ret))
        return true;
    pfl_cli_usage("node", "%s: '%s' is not a whole number from %" PRId64 " to %" PRId64, flag, pfl_q(text), min, max);
    return false;
}

/* 0 to go on, else the exit code plus one. */
static int parse(int argc, char **argv, struct opts *o)
{
    enum { ROUNDS = 1000, EPOCHS, TRAINSET, NAME, STATE, JSON, VERIFY, HEAD };
    static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
                                          {"state", required_argument, NULL, STATE},
                                          {"rounds", required_argument, NULL, ROUNDS},
                                          {"epochs", required_argument, NULL, EPOCHS},
                                          {"trainset-size", required_argument, NULL, TRAINSET},
                                          {"name", required_argument, NULL, NAME},
                                          {"json", no_argument, NULL, JSON},
                                          {"verify", no_argument, NULL, VERIFY},
                                          {"head", required_argument, NULL, HEAD},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    *o = (struct opts){.sub = argc > 1 ? argv[1] : NULL, .state = ".", .rounds = 3, .epochs = 1, .trainset_size = 4};
    for (int c; (c = getopt_long(argc, argv, "c:h", longs, NULL)) != -1;) {
        bool ok = true;
        switch (c) {
        case 'c':
            o->config = optarg;
            break;
        case STATE:
            o->state = optarg;
            break;
        case ROUNDS:
            ok = number(optarg, 1, 1000000, "--rounds", &o->rounds);
            break;
        case EPOCHS:
            ok = number(optarg, 0, 10000, "--epochs", &o->epochs);
            break;
        case TRAINSET:
            ok = number(optarg, 1, 4096, "--trainset-size", &o->trainset_size);
            break;
        case NAME:
            o->name = optarg;
            break;
        case JSON:
            o->json = true;
            break;
        case VERIFY:
            o->verify = true;
            break;
        case HEAD:
            o->head = optarg;
            break;
        case 'h':
            fputs(help, stdout);
            return PFL_EXIT_OK + 1;
        default:
            return PFL_EXIT_USAGE + 1;
        }
        if (!ok)
            return PFL_EXIT_USAGE + 1;
    }
    o->sub = optind < argc ? argv[optind++] : NULL;
    o->address = optind < argc ? argv[optind++] : NULL;
    if (optind < argc)
        return pfl_cli_usage("node", "unexpected argument '%s'", pfl_q(argv[optind])) + 1;
    return 0;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "-";
}

static void print_crls(json_t *s)
{
    json_t *crl;
    size_t i;
    char until[32];
    json_t *crls = json_object_get(s, "crls");
    if (json_is_string(json_object_get(s, "revoked")))
        printf("REVOKED: this node's %s\n", json_string_value(json_object_get(s, "revoked")));
    json_array_foreach (crls, i, crl) {
        const json_t *next = json_object_get(crl, "next_update");
        if (next)
            pfl_clock_format(json_integer_value(next) * PFL_SEC, until);
        printf("CRL number %s of %s: %lld revoked, good until %s\n", text_of(crl, "number"), text_of(crl, "issuer"),
               (long long)json_integer_value(json_object_get(crl, "revoked")), next ? until : "a newer one comes");
    }
    if (json_is_true(json_object_get(s, "crl_stale")))
        printf("a CRL has LAPSED (crl_policy is %s)\n", text_of(s, "crl_policy"));
}

static void print_durability(const json_t *o)
{
    if (pfl_streq(json_string_value(json_object_get(o, "state")), "lost"))
        printf("NOT ON DISK: what this node must know after a restart: %s\n", text_of(o, "reason"));
}

static void print_certificate(const json_t *c)
{
    if (!c)
        return;
    double left = json_real_value(json_object_get(c, "left_s"));
    printf("certificate: %s %s", left > 0 ? "valid until" : "EXPIRED at", text_of(c, "valid_until"));
    if (json_is_string(json_object_get(c, "renews_at")))
        printf(", renews at %s", text_of(c, "renews_at"));
    if (json_is_string(json_object_get(c, "last_failure")))
        printf(", last failure: %s", text_of(c, "last_failure"));
    putchar('\n');
    if (json_is_string(json_object_get(c, "files_refused")))
        printf("certificate files were changed and are NOT used: %s\n", text_of(c, "files_refused"));
}

/* "round 3, training: waiting for berlin at 10.0.0.7:6666 (fit, last sign of life 1.2 s ago) until 14:03:20" */
static void print_wait(const json_t *s, json_int_t round)
{
    const json_t *until_s = json_object_get(s, "waiting_until_s");
    char until[40] = "";
    struct tm tm;
    if (!json_is_string(json_object_get(s, "waiting_for")))
        return;
    time_t at = time(NULL) + (time_t)(json_real_value(until_s) + 0.5);
    if (until_s && localtime_r(&at, &tm))
        strftime(until, sizeof(until), " until %H:%M:%S", &tm);
    printf("round %lld, %s: waiting for %s%s\n", (long long)round, text_of(s, "stage"), text_of(s, "waiting_for"), until);
}

static void print_learning(const json_t *s, json_int_t round)
{
    const json_t *fit = json_object_get(s, "fit_progress");
    if (!json_is_true(json_object_get(s, "learning"))) {
        printf("not learning; %lld rounds done\n", (long long)json_integer_value(json_object_get(s, "rounds_done")));
        return;
    }
    printf("learning: round %lld of %lld, %s", (long long)round, (long long)json_integer_value(json_object_get(s, "rounds")),
           text_of(s, "stage"));
    if (json_is_real(fit))
        printf(", its training %.0f %% done", 100.0 * json_real_value(fit));
    putchar('\n');
}

static void print_status(json_t *s)
{
    json_int_t round = json_integer_value(json_object_get(s, "round"));
    printf("%s at %s (%s)\n", text_of(s, "name"), text_of(s, "address"), text_of(s, "tls"));
    print_learning(s, round);
    print_wait(s, round);
    print_durability(json_object_get(s, "durability"));
    print_certificate(json_object_get(s, "certificate"));
    print_crls(s);
    if (json_is_string(json_object_get(s, "interop_weaker")))
        printf("interop with P2PFL's own nodes: %s\n", text_of(s, "interop_weaker"));
    json_t *peer;
    size_t i;
    json_t *peers = json_object_get(s, "peers");
    printf("%zu other nodes known\n", json_array_size(peers));
    json_array_foreach (peers, i, peer) {
        printf("  %-28s %-9s heard of %.1f s ago  %s\n", text_of(peer, "address"),
               json_is_true(json_object_get(peer, "direct")) ? "linked" : "known",
               json_real_value(json_object_get(peer, "last_heard_s")), text_of(peer, "identity"));
    }
}

static int ask(const struct opts *o, json_t *request)
{
    struct pfl_err err = {0};
    json_t *answer = NULL;
    if (pfl_control_ask(o->state, request, 30 * PFL_SEC, &answer, &err) != PFL_OK)
        return pfl_cli_fail("node", &err);
    if (o->json)
        json_dumpf(answer, stdout, JSON_COMPACT);
    if (o->json)
        putchar('\n');
    else if (pfl_streq(o->sub, "status"))
        print_status(answer);
    else
        puts("ok");
    json_decref(answer);
    return PFL_EXIT_OK;
}

/* The node may have another current folder. */
static int crl(const struct opts *o)
{
    if (!o->address)
        return ask(o, json_pack("{s:s}", "cmd", "crl"));
    PFL_AUTO(pfl_freep) char *path = realpath(o->address, NULL);
    struct pfl_err err = {0};
    if (!path) {
        (void)pfl_err_errno(&err, errno, "%s", o->address);
        return pfl_cli_fail("node crl", &err);
    }
    return ask(o, json_pack("{s:s, s:s}", "cmd", "crl", "path", path));
}

static int start(const struct opts *o)
{
    if (!o->config)
        return pfl_cli_usage("node start", "-c NODE.YAML is needed");
    struct pfl_err err = {0};
    if (pfl_node_main(o->config, &err) != PFL_OK)
        return pfl_cli_fail("node start", &err);
    return PFL_EXIT_OK;
}

int pfl_cmd_node(int argc, char **argv)
{
    struct opts o;
    if (argc > 1 && pfl_streq(argv[1], "as-learner-of")) /* this program as its own launcher */
        return pfl_process_launch(argc - 1, argv + 1);
    int done = parse(argc, argv, &o);
    if (done)
        return done - 1;
    if (!o.sub)
        return pfl_cli_usage("node", "a subcommand is needed");
    if (pfl_streq(o.sub, "start"))
        return start(&o);
    if (pfl_streq(o.sub, "status") || pfl_streq(o.sub, "stop") || pfl_streq(o.sub, "shutdown"))
        return ask(&o, json_pack("{s:s}", "cmd", o.sub));
    if (pfl_streq(o.sub, "audit"))
        return pfl_cmd_node_audit(o.state, o.verify, o.head, o.json);
    if (pfl_streq(o.sub, "evidence"))
        return pfl_cmd_node_evidence(o.state, o.address, o.json);
    if (pfl_streq(o.sub, "renew"))
        return ask(&o, json_pack("{s:s}", "cmd", "renew"));
    if (pfl_streq(o.sub, "crl"))
        return crl(&o);
    if (pfl_streq(o.sub, "connect") || pfl_streq(o.sub, "disconnect")) {
        if (!o.address)
            return pfl_cli_usage("node", "%s: an address is needed, such as 127.0.0.1:6666", o.sub);
        return ask(&o, json_pack("{s:s, s:s}", "cmd", o.sub, "address", o.address));
    }
    if (pfl_streq(o.sub, "learn"))
        return ask(&o, json_pack("{s:s, s:I, s:I, s:I, s:s}", "cmd", "learn", "rounds", (json_int_t)o.rounds, "epochs",
                                 (json_int_t)o.epochs, "trainset_size", (json_int_t)o.trainset_size, "name",
                                 o.name ? o.name : "experiment"));
    return pfl_cli_unknown("node", "subcommand", o.sub, subcommands, PFL_ARRAY_LEN(subcommands));
}
