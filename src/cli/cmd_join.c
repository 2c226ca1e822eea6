/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl join. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/duration.h"
#include "cli/secret.h"
#include "pki/passphrase.h"
#include "runtime/join.h"

static const char HELP[] =
    "usage: p2pfl join HOST:PORT --token TOKEN --ca-hash sha256:HEX [options]\n"
    "Makes a node's folder on this machine: keys made here, certificates from the CA's service, node.yaml. The line to run comes\n"
    "from 'p2pfl ca token'. Nothing is sent before the CA has proved to have the key with that hash.\n"
    "\n"
    "  --token TOKEN            '-' reads it from standard input. On the command line other users of this machine may see it for\n"
    "                           an instant; it is good once and for a short time\n"
    "  --token-file F           the token is the first line of F (a file that only you can read)\n"
    "  --token-fd N             the same from an open file descriptor\n"
    "  --ca-hash sha256:HEX     SHA-256 of the CA's public key\n"
    "  --dir DIR                the node's folder (default ./node); not there yet, or empty\n"
    "  --address HOST:PORT      where the node listens (default: the first granted name, port 6666)\n"
    "  --key KIND               p256 (default), p384, ed25519, rsa:N, or a pkcs11: URI\n"
    "  --pin-file F             the token's PIN is the first line of F, for a pkcs11: URI\n"
    "  --timeout T              how long to wait, for the operator's approval too (default 10m)\n"
    "  --json                   say what was made as one JSON object\n";

struct args {
    struct pfl_join_opts join;
    char *token; /* owned; wiped */
    struct pfl_secret_source source;
    bool json, help;
};

static void on_line(void *user, const char *line)
{
    (void)user;
    fprintf(stderr, "p2pfl join: %s\n", line);
}

/* Takes the token and paints over it in argv, so that a listing of processes does not show it for longer than this took. */
static void take_token(struct args *a, char *value)
{
    if (a->token)
        explicit_bzero(a->token, strlen(a->token));
    free(a->token);
    a->token = NULL;
    if (strcmp(value, "-") == 0) {
        a->source.fd = STDIN_FILENO;
        return;
    }
    a->token = pfl_xstrdup(value);
    memset(value, 'x', strlen(value));
}

static enum pfl_rc take(struct args *a, int opt, char *value, struct pfl_err *err)
{
    int64_t timeout_s = 0;
    enum pfl_rc rc = PFL_OK;
    switch (opt) {
    case 't':
        take_token(a, value);
        break;
    case 'f':
        a->source.file = value;
        break;
    case 'n':
        rc = pfl_secret_parse_fd(value, &a->source.fd, err);
        break;
    case 'c':
        a->join.ca_hash = value;
        break;
    case 'd':
        a->join.dir = value;
        break;
    case 'a':
        a->join.address = value;
        break;
    case 'k':
        a->join.key = value;
        break;
    case 'p':
        a->join.pin_file = value;
        break;
    case 'T':
        rc = pfl_cli_duration("timeout", value, &timeout_s, err);
        a->join.timeout = timeout_s * PFL_SEC;
        break;
    case 'j':
        a->json = true;
        break;
    default:
        a->help = true;
    }
    return rc;
}

static enum pfl_rc parse(int argc, char **argv, struct args *a, struct pfl_err *err)
{
    static const struct option OPTIONS[] = {
        {"token", required_argument, NULL, 't'},    {"token-file", required_argument, NULL, 'f'},
        {"token-fd", required_argument, NULL, 'n'}, {"ca-hash", required_argument, NULL, 'c'},
        {"dir", required_argument, NULL, 'd'},      {"address", required_argument, NULL, 'a'},
        {"key", required_argument, NULL, 'k'},      {"pin-file", required_argument, NULL, 'p'},
        {"timeout", required_argument, NULL, 'T'},  {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},           {0},
    };
    int opt;
    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, ":h", OPTIONS, NULL)) != -1) {
        if (opt == '?' || opt == ':')
            return pfl_cli_bad_option(opt, argv, err);
        enum pfl_rc rc = take(a, opt, optarg, err);
        if (rc != PFL_OK)
            return rc;
    }
    if (a->help)
        return PFL_OK;
    int sources = (a->token != NULL) + (a->source.file != NULL) + (a->source.fd >= 0);
    if (argc - optind != 1)
        return pfl_err_set(err, PFL_INVALID, "HOST:PORT of the CA's service is wanted, once");
    if (sources != 1)
        return pfl_err_set(err, PFL_INVALID, "one of --token, --token-file and --token-fd is wanted");
    if (!a->join.ca_hash)
        return pfl_err_set(err, PFL_INVALID, "--ca-hash sha256:HEX is wanted: without it any CA would do");
    a->join.target = argv[optind];
    return PFL_OK;
}

static enum pfl_rc read_token(struct args *a, struct pfl_err *err)
{
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *read = NULL;
    if (a->token)
        return PFL_OK;
    enum pfl_rc rc = pfl_secret_get(&a->source, "token", false, &read, err);
    if (rc == PFL_OK)
        a->token = pfl_xstrdup(pfl_passphrase_text(read));
    return rc == PFL_OK ? PFL_OK : pfl_err_wrap(err, "the token");
}

static int say(const struct args *a, const struct pfl_join_result *r)
{
    PFL_AUTO(pfl_freep) char *sans = pfl_strs_join(&r->sans, ",");
    if (a->json) {
        json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "dir", a->join.dir, "name", r->name, "federation", r->federation,
                              "role", r->role, "address", r->address, "sans", sans);
        int rc = json_dumpf(j, stdout, JSON_COMPACT);
        json_decref(j);
        return rc == 0 && putchar('\n') != EOF ? PFL_EXIT_OK : PFL_EXIT_NO;
    }
    return printf("%s: '%s' is a member of '%s' (%s; %s)\nstart it: p2pfl node start -c %s/node.yaml\n", a->join.dir, r->name,
                  r->federation, r->role, sans, a->join.dir) < 0
               ? PFL_EXIT_NO
               : PFL_EXIT_OK;
}

int pfl_cmd_join(int argc, char **argv)
{
    struct args a = {.join = {.dir = "node", .say = on_line}, .source.fd = -1};
    struct pfl_err err = {0};
    PFL_AUTO(pfl_join_result_deinit) struct pfl_join_result result = {0};
    int code = PFL_EXIT_OK;
    if (parse(argc, argv, &a, &err) != PFL_OK)
        code = pfl_cli_usage("join", "%s", err.msg);
    else if (a.help)
        code = fputs(HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    else if (read_token(&a, &err) != PFL_OK)
        code = pfl_cli_fail("join", &err);
    else {
        a.join.token = a.token;
        code = pfl_join(&a.join, &result, &err) == PFL_OK ? say(&a, &result) : pfl_cli_fail("join", &err);
    }
    if (a.token)
        explicit_bzero(a.token, strlen(a.token));
    free(a.token);
    return code;
}
