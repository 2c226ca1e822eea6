/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl ca requests | approve | deny: the operator's part of `p2pfl ca serve --approve`. The CA's key is not needed: the service
 * signs. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "pki/ca.h"
#include "pki/cert.h"
#include "pki/node_files.h"
#include "pki/register.h"
#include "pki/request.h"
#include "pki/token.h"

static const char HELP[] =
    "usage: p2pfl ca requests --ca DIR [--json]       what waits for approval\n"
    "       p2pfl ca approve NUMBER --ca DIR [--yes | --fingerprint sha256:HEX]\n"
    "       p2pfl ca deny NUMBER --ca DIR\n"
    "\n"
    "approve shows who asks, from where, for which names and with which keys. Compare the fingerprints with those that\n"
    "'p2pfl join' shows on the new machine.\n"
    "\n"
    "  --yes                    do not ask\n"
    "  --fingerprint F          of the request's server key (its only one for EST): approve only if it is that\n";

struct args {
    const char *ca, *fingerprint;
    bool yes, json, help;
    struct pfl_register *reg;
    json_t *all;
    size_t n;
};

static enum pfl_rc parse(int argc, char **argv, struct args *a, struct pfl_err *err)
{
    static const struct option OPTIONS[] = {
        {"ca", required_argument, NULL, 'c'}, {"yes", no_argument, NULL, 'y'},  {"fingerprint", required_argument, NULL, 'f'},
        {"json", no_argument, NULL, 'j'},     {"help", no_argument, NULL, 'h'}, {0},
    };
    int opt;
    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, ":h", OPTIONS, NULL)) != -1) {
        if (opt == '?' || opt == ':')
            return pfl_cli_bad_option(opt, argv, err);
        if (opt == 'c')
            a->ca = optarg;
        else if (opt == 'f')
            a->fingerprint = optarg;
        a->yes = a->yes || opt == 'y';
        a->json = a->json || opt == 'j';
        a->help = a->help || opt == 'h';
    }
    return a->help || a->ca ? PFL_OK : pfl_err_set(err, PFL_INVALID, "--ca DIR is wanted");
}

static enum pfl_rc open_register(struct args *a, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(a->ca, "ca.db");
    if (!pfl_fs_exists(path))
        return pfl_err_set(err, PFL_NOT_FOUND, "%s: no register there: is it a CA's folder (p2pfl ca init)?", path);
    return pfl_register_open(path, &a->reg, err);
}

static void fingerprint_of(const struct pfl_buf *csr, char out[72])
{
    out[0] = '\0';
    if (csr->len > 0 && pfl_node_keys_fingerprint(pfl_buf_view(csr), out, NULL) != PFL_OK)
        out[0] = '\0';
}

static void show(struct args *a, const struct pfl_request *q, const struct pfl_token *t)
{
    char server[72], client[72], when[32];
    PFL_AUTO(pfl_freep) char *sans = pfl_strs_join(&t->sans, ",");
    fingerprint_of(&q->server_csr, server);
    fingerprint_of(&q->client_csr, client);
    pfl_time_text(q->made_at, when);
    if (a->json) {
        json_array_append_new(a->all, json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:I}", "number", (json_int_t)q->id,
                                                "state", pfl_request_state_text(q->state), "name", t->name, "role", t->role, "sans",
                                                sans, "address", q->address, "token", (json_int_t)t->id, "server_key", server,
                                                "client_key", client, "made_at", (json_int_t)q->made_at));
        return;
    }
    printf("request %lld: %s\n  name        %s\n  role        %s\n  names       %s\n  asked from  %s\n  asked on    %s, with token "
           "%lld\n"
           "  server key  %s\n",
           (long long)q->id, pfl_request_state_text(q->state), t->name, t->role, sans, q->address, when, (long long)t->id, server);
    if (client[0])
        printf("  client key  %s\n", client);
}

static bool show_one(void *user, const struct pfl_request *q)
{
    struct args *a = user;
    PFL_AUTO(pfl_token_deinit) struct pfl_token t = {0};
    if (pfl_token_get(a->reg, q->token_id, &t, NULL) == PFL_OK) {
        show(a, q, &t);
        a->n++;
    }
    return true;
}

static enum pfl_rc list(struct args *a, struct pfl_err *err)
{
    a->all = a->json ? json_array() : NULL;
    enum pfl_rc rc = pfl_request_each(a->reg, pfl_clock_wall() / PFL_SEC, show_one, a, err);
    if (rc == PFL_OK && a->json && (json_dumpf(a->all, stdout, JSON_COMPACT) != 0 || putchar('\n') == EOF))
        rc = pfl_err_set(err, PFL_IO, "standard output cannot be written");
    else if (rc == PFL_OK && a->n == 0 && !a->json)
        printf("no requests\n");
    json_decref(a->all);
    return rc;
}

static bool confirmed(void)
{
    char line[16] = "";
    printf("Do both machines show the same fingerprints? Approve? [y/N] ");
    fflush(stdout);
    return fgets(line, sizeof line, stdin) && (strcasecmp(line, "y\n") == 0 || strcasecmp(line, "yes\n") == 0);
}

static enum pfl_rc ask(struct args *a, const struct pfl_request *q, const struct pfl_token *t, struct pfl_err *err)
{
    char server[72];
    fingerprint_of(&q->server_csr, server);
    if (a->fingerprint) {
        if (strcasecmp(a->fingerprint, server) == 0)
            return PFL_OK;
        return pfl_err_set(err, PFL_AUTH, "request %lld has the key %s, not the one expected: not approved", (long long)q->id,
                           server);
    }
    if (a->yes)
        return PFL_OK;
    show(a, q, t);
    return confirmed() ? PFL_OK : pfl_err_set(err, PFL_CANCELED, "not approved: request %lld still waits", (long long)q->id);
}

static enum pfl_rc decide(struct args *a, const char *number, bool approve, struct pfl_err *err)
{
    PFL_AUTO(pfl_request_deinit) struct pfl_request q = {0};
    PFL_AUTO(pfl_token_deinit) struct pfl_token t = {0};
    char operator[80];
    int64_t id = 0, now = pfl_clock_wall() / PFL_SEC;
    pfl_ca_operator(operator);
    if (!pfl_parse_i64(number, 1, INT64_MAX, &id))
        return pfl_err_set(err, PFL_INVALID, "'%s' is no number of a request (p2pfl ca requests)", pfl_q(number));
    enum pfl_rc rc = pfl_request_get(a->reg, id, now, &q, err);
    if (rc == PFL_OK)
        rc = pfl_token_get(a->reg, q.token_id, &t, err);
    if (rc == PFL_OK && approve && q.state == PFL_REQUEST_PENDING)
        rc = ask(a, &q, &t, err);
    if (rc == PFL_OK)
        rc = pfl_request_decide(a->reg, id, approve, t.name, operator, now, err);
    if (rc == PFL_OK)
        printf("request %lld ('%s') is %s\n", (long long)id, t.name,
               approve ? "approved: the machine gets its certificates" : "denied");
    return rc;
}

int pfl_cmd_ca_requests(int argc, char **argv)
{
    struct args a = {0};
    struct pfl_err err = {0};
    const char *verb = argv[0];
    PFL_AUTO(pfl_freep) char *title = pfl_xasprintf("ca %s", verb);
    bool lists = strcmp(verb, "requests") == 0;
    enum pfl_rc rc = parse(argc, argv, &a, &err);
    if (rc != PFL_OK)
        return pfl_cli_usage(title, "%s", err.msg);
    if (a.help)
        return fputs(HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    if (argc - optind != (lists ? 0 : 1))
        return pfl_cli_usage(title, lists ? "no argument is wanted" : "the NUMBER of one request is wanted");
    rc = open_register(&a, &err);
    if (rc == PFL_OK)
        rc = lists ? list(&a, &err) : decide(&a, argv[optind], strcmp(verb, "approve") == 0, &err);
    pfl_register_close(a.reg);
    return rc == PFL_OK ? PFL_EXIT_OK : pfl_cli_fail(title, &err);
}
