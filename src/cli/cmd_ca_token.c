/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl ca token, token list, token revoke. The CA's key is not needed. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/duration.h"
#include "pki/ca.h"
#include "pki/cert.h"
#include "pki/register.h"
#include "pki/token.h"

static const char HELP[] =
    "usage: p2pfl ca token --ca DIR --name NAME --san LIST [options]   a token, as the line to run on the new machine\n"
    "       p2pfl ca token list --ca DIR [--json]\n"
    "       p2pfl ca token revoke NUMBER --ca DIR\n"
    "\n"
    "A token is good once, for one name, for a short time. It is printed here and kept nowhere: the register has its hash.\n"
    "\n"
    "  --name NAME              the new node's name\n"
    "  --san LIST               the addresses and names that peers dial, IP:… and DNS:…, by commas or repeated\n"
    "  --role ROLE              node (default), coordinator or observer\n"
    "  --ttl T                  how long the token is good (default 1h, at most 30d): 10m, 1h, 2d\n"
    "  --lifetime T             of the certificates (default: as 'p2pfl ca serve' says)\n"
    "  --url HOST:PORT          the CA's service (default: as it was last started)\n"
    "  --json                   the line's parts as one JSON object\n";

struct args {
    const char *ca, *url;
    struct pfl_token_opts token;
    bool json, help;
};

static enum pfl_rc take(struct args *a, int opt, const char *value, struct pfl_err *err)
{
    switch (opt) {
    case 'c':
        a->ca = value;
        return PFL_OK;
    case 'n':
        a->token.name = value;
        return PFL_OK;
    case 's':
        pfl_strs_split(&a->token.sans, value, ',');
        return PFL_OK;
    case 'r':
        a->token.role = value;
        return PFL_OK;
    case 't':
        return pfl_cli_duration("ttl", value, &a->token.ttl_s, err);
    case 'l':
        return pfl_cli_duration("lifetime", value, &a->token.lifetime_s, err);
    case 'u':
        a->url = value;
        return PFL_OK;
    case 'j':
        a->json = true;
        return PFL_OK;
    default:
        a->help = true;
        return PFL_OK;
    }
}

static enum pfl_rc parse(int argc, char **argv, struct args *a, struct pfl_err *err)
{
    static const struct option OPTIONS[] = {
        {"ca", required_argument, NULL, 'c'},  {"name", required_argument, NULL, 'n'},
        {"san", required_argument, NULL, 's'}, {"role", required_argument, NULL, 'r'},
        {"ttl", required_argument, NULL, 't'}, {"lifetime", required_argument, NULL, 'l'},
        {"url", required_argument, NULL, 'u'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},      {0},
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
    return a->help || a->ca ? PFL_OK : pfl_err_set(err, PFL_INVALID, "--ca DIR is wanted");
}

static enum pfl_rc open_register(const char *ca, struct pfl_register **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(ca, "ca.db");
    if (!pfl_fs_exists(path))
        return pfl_err_set(err, PFL_NOT_FOUND, "%s: no register there: is it a CA's folder (p2pfl ca init)?", path);
    return pfl_register_open(path, ret, err);
}

static enum pfl_rc hash_of_ca(const char *ca, char out[72], struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(ca, "ca.crt");
    PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *certs = NULL;
    uint8_t hash[32];
    enum pfl_rc rc = pfl_certs_load(path, &certs, err);
    if (rc != PFL_OK)
        return rc;
    if (!pfl_cert_spki_hash(pfl_x509s_at(certs, 0), hash))
        return pfl_err_set(err, PFL_MALFORMED, "%s: its key cannot be read", path);
    memcpy(out, "sha256:", 7);
    pfl_hex(pfl_bytes_of(hash, sizeof hash), out + 7);
    return PFL_OK;
}

static int say_token(const struct args *a, const char *url, const char *token, const char *hash, int64_t id)
{
    if (!a->json)
        return printf("p2pfl join %s --token %s --ca-hash %s\n", url, token, hash) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    json_t *j = json_pack("{s:s, s:s, s:s, s:I, s:s}", "url", url, "token", token, "ca_hash", hash, "number", (json_int_t)id,
                          "name", a->token.name);
    int rc = json_dumpf(j, stdout, JSON_COMPACT);
    json_decref(j);
    return rc == 0 && putchar('\n') != EOF ? PFL_EXIT_OK : PFL_EXIT_NO;
}

static int make(struct args *a)
{
    struct pfl_err err = {0};
    char operator[80], hash[72];
    PFL_AUTO(pfl_register_freep) struct pfl_register *reg = NULL;
    PFL_AUTO(pfl_freep) char *kept = NULL;
    PFL_AUTO(pfl_freep) char *token = NULL;
    int64_t id = 0;
    if (!a->token.name)
        return pfl_cli_usage("ca token", "--name NAME is wanted");
    pfl_ca_operator(operator);
    a->token.actor = operator;
    if (open_register(a->ca, &reg, &err) != PFL_OK || hash_of_ca(a->ca, hash, &err) != PFL_OK ||
        pfl_register_get(reg, "service.url", &kept, &err) != PFL_OK || pfl_token_make(reg, &a->token, &token, &id, &err) != PFL_OK)
        return pfl_cli_fail("ca token", &err);
    const char *url = a->url ? a->url : kept;
    if (!url)
        fprintf(stderr,
                "p2pfl ca token: the CA's service has not run yet: put its HOST:PORT where the line says HOST:7443 (or --url)\n");
    int code = say_token(a, url ? url : "HOST:7443", token, hash, id);
    explicit_bzero(token, strlen(token));
    return code;
}

static const char *state_of(const struct pfl_token *t)
{
    return t->revoked_at ? "revoked" : t->used_at ? "used" : pfl_clock_wall() / PFL_SEC >= t->expires_at ? "expired" : "unused";
}

static bool list_one(void *user, const struct pfl_token *t)
{
    char until[32];
    PFL_AUTO(pfl_freep) char *sans = pfl_strs_join(&t->sans, ",");
    pfl_time_text(t->expires_at, until);
    if (user) {
        json_t *j = json_pack("{s:I, s:s, s:s, s:s, s:s, s:I, s:s}", "number", (json_int_t)t->id, "name", t->name, "role", t->role,
                              "sans", sans, "state", state_of(t), "expires_at", (json_int_t)t->expires_at, "made_by", t->made_by);
        json_array_append_new(user, j);
    } else
        printf("%-5lld %-8s %-20s %-12s until %s  %s\n", (long long)t->id, state_of(t), t->name, t->role, until, sans);
    return true;
}

static int list(const struct args *a)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_register_freep) struct pfl_register *reg = NULL;
    json_t *all = a->json ? json_array() : NULL;
    bool ok = open_register(a->ca, &reg, &err) == PFL_OK && pfl_token_each(reg, list_one, all, &err) == PFL_OK;
    if (ok && all)
        ok = json_dumpf(all, stdout, JSON_COMPACT) == 0 && putchar('\n') != EOF;
    json_decref(all);
    return ok ? PFL_EXIT_OK : pfl_cli_fail("ca token list", &err);
}

static int revoke(const struct args *a, const char *number)
{
    struct pfl_err err = {0};
    char operator[80];
    int64_t id = 0;
    PFL_AUTO(pfl_register_freep) struct pfl_register *reg = NULL;
    if (!pfl_parse_i64(number, 1, INT64_MAX, &id))
        return pfl_cli_usage("ca token revoke", "'%s' is no number of a token (p2pfl ca token list)", pfl_q(number));
    pfl_ca_operator(operator);
    if (open_register(a->ca, &reg, &err) != PFL_OK || pfl_token_revoke(reg, id, operator, & err) != PFL_OK)
        return pfl_cli_fail("ca token revoke", &err);
    printf("token %lld is revoked\n", (long long)id);
    return PFL_EXIT_OK;
}

int pfl_cmd_ca_token(int argc, char **argv)
{
    struct args a = {0};
    struct pfl_err err = {0};
    int code;
    enum pfl_rc rc = parse(argc, argv, &a, &err); /* arguments are behind the options now */
    const char *verb = optind < argc ? argv[optind] : "";
    int n = argc - optind;
    if (rc != PFL_OK)
        code = pfl_cli_usage("ca token", "%s", err.msg);
    else if (a.help)
        code = fputs(HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    else if (n == 0)
        code = make(&a);
    else if (n == 1 && strcmp(verb, "list") == 0)
        code = list(&a);
    else if (n == 2 && strcmp(verb, "revoke") == 0)
        code = revoke(&a, argv[optind + 1]);
    else
        code = pfl_cli_usage("ca token", "'%s': list, or revoke and a number, or nothing is wanted", pfl_q(verb));
    pfl_strs_deinit(&a.token.sans);
    return code;
}
