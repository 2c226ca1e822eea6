/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl ca serve. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/addr.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/duration.h"
#include "cli/secret.h"
#include "config/node_config.h"
#include "pki/ca.h"
#include "pki/enrol.h"
#include "pki/register.h"
#include "runtime/ca_main.h"

static const char HELP[] =
    "usage: p2pfl ca serve --ca DIR --listen HOST:PORT [options]\n"
    "Answers new machines (p2pfl join, EST clients) and members that renew, until SIGTERM. Its own certificate is short-lived,\n"
    "has the role 'ca' and is renewed by itself; so is the revocation list.\n"
    "\n"
    "  --listen HOST:PORT       0.0.0.0:7443 for every interface (then --san is needed)\n"
    "  --san LIST               the names and addresses that machines dial, IP:… and DNS:… (default: HOST)\n"
    "  --approve                every enrolment waits for 'p2pfl ca approve'\n"
    "  --lifetime T             of the certificates it hands out (default 24h): 90s, 10m, 24h, 7d\n"
    "  --renew-window T         how long after its expiry a certificate can still be renewed (default 0: not at all)\n"
    "  --settings FILE.yaml     the federation's part of each node.yaml (settings:, learner:)\n"
    "  --connect ADDR,…         nodes that a new one links with at its start\n"
    "  --passphrase-file F      the CA key's passphrase is the first line of F\n"
    "  --passphrase-fd N        the same from an open file descriptor; without either, the terminal asks\n";

enum { SETTINGS_MAX = 60 << 10 };

struct args {
    const char *ca, *listen, *settings;
    struct pfl_strs sans, connect; /* owned */
    bool approve, help;
    int64_t lifetime_s, window_s;
    struct pfl_secret_source secret;
};

static enum pfl_rc take(struct args *a, int opt, const char *value, struct pfl_err *err)
{
    switch (opt) {
    case 'c':
        a->ca = value;
        return PFL_OK;
    case 'l':
        a->listen = value;
        return PFL_OK;
    case 's':
        pfl_strs_split(&a->sans, value, ',');
        return PFL_OK;
    case 'a':
        a->approve = true;
        return PFL_OK;
    case 't':
        return pfl_cli_duration("lifetime", value, &a->lifetime_s, err);
    case 'w':
        return pfl_cli_duration("renew-window", value, &a->window_s, err);
    case 'y':
        a->settings = value;
        return PFL_OK;
    case 'n':
        pfl_strs_split(&a->connect, value, ',');
        return PFL_OK;
    case 'p':
        a->secret.file = value;
        return PFL_OK;
    case 'f':
        return pfl_secret_parse_fd(value, &a->secret.fd, err);
    default:
        a->help = true;
        return PFL_OK;
    }
}

static enum pfl_rc parse(int argc, char **argv, struct args *a, struct pfl_err *err)
{
    static const struct option OPTIONS[] = {
        {"ca", required_argument, NULL, 'c'},
        {"listen", required_argument, NULL, 'l'},
        {"san", required_argument, NULL, 's'},
        {"approve", no_argument, NULL, 'a'},
        {"lifetime", required_argument, NULL, 't'},
        {"renew-window", required_argument, NULL, 'w'},
        {"settings", required_argument, NULL, 'y'},
        {"connect", required_argument, NULL, 'n'},
        {"passphrase-file", required_argument, NULL, 'p'},
        {"passphrase-fd", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
        {0},
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
    if (optind != argc || !a->ca || !a->listen)
        return pfl_err_set(err, PFL_INVALID,
                           optind != argc ? "'%s' is not an option" : "--ca DIR and --listen HOST:PORT are wanted",
                           optind != argc ? pfl_q(argv[optind]) : "");
    return PFL_OK;
}

/* What machines dial, where it is not said: the address that is listened on, unless that is no address of anybody's. */
static enum pfl_rc default_sans(struct args *a, struct pfl_err *err)
{
    struct pfl_addr addr;
    enum pfl_rc rc = pfl_addr_parse(a->listen, &addr, err);
    if (rc != PFL_OK || a->sans.n > 0)
        return rc;
    if (addr.is_unix || strcmp(addr.host, "0.0.0.0") == 0 || strcmp(addr.host, "::") == 0)
        return pfl_err_set(err, PFL_INVALID, "--listen %s names no host: --san DNS:ca.example says what machines dial", a->listen);
    PFL_AUTO(pfl_freep) char *ip = pfl_xasprintf("IP:%s", addr.host);
    PFL_AUTO(pfl_freep) char *dns = pfl_xasprintf("DNS:%s", addr.host);
    PFL_AUTO(pfl_freep) char *canonical = NULL;
    if (pfl_san_parse(ip, &canonical, NULL) != PFL_OK)
        rc = pfl_san_parse(dns, &canonical, err);
    if (rc == PFL_OK)
        pfl_strs_add(&a->sans, canonical);
    return rc;
}

static enum pfl_rc check_addresses(const struct pfl_strs *connect, struct pfl_err *err)
{
    struct pfl_addr addr;
    for (size_t i = 0; i < connect->n; i++)
        if (pfl_addr_parse(connect->items[i], &addr, err) != PFL_OK)
            return pfl_err_wrap(err, "--connect");
    return PFL_OK;
}

/* Found here, not on the machine that joins with a token that is used up then. */
static enum pfl_rc check_settings(const char *path, const struct pfl_blob *text, struct pfl_err *err)
{
    struct pfl_node_config c;
    enum pfl_rc rc = pfl_node_config_federation(path, (const char *)text->data, text->len, &c, err);
    if (rc == PFL_OK)
        pfl_node_config_deinit(&c);
    return rc;
}

struct ready {
    const struct pfl_ca *ca;
    const struct args *args;
};

/* Where `p2pfl ca token` finds what to print. */
static void keep_url(const struct ready *r, const char *address)
{
    struct pfl_register *reg = pfl_ca_register(r->ca);
    const char *host = strchr(r->args->sans.items[0], ':') + 1, *port = strrchr(address, ':');
    PFL_AUTO(pfl_freep) char *url = strchr(host, ':') ? pfl_xasprintf("[%s]%s", host, port) : pfl_xasprintf("%s%s", host, port);
    struct pfl_err err = {0};
    if (pfl_register_begin(reg, &err) != PFL_OK)
        return;
    if (pfl_register_set(reg, "service.url", url, &err) != PFL_OK || pfl_register_commit(reg, &err) != PFL_OK)
        pfl_register_rollback(reg);
}

static void on_ready(void *user, const char *address)
{
    const struct ready *r = user;
    char hash[72];
    pfl_enrol_ca_hash(r->ca, hash);
    keep_url(r, address);
    printf("CA service of '%s' on %s%s\n  --ca-hash %s\n", pfl_ca_federation(r->ca), address,
           r->args->approve ? ", every enrolment waits for approval" : "", hash);
    fflush(stdout);
}

static enum pfl_rc serve(struct args *a, struct pfl_err *err)
{
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *passphrase = NULL;
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *settings = NULL;
    enum pfl_rc rc = default_sans(a, err);
    if (rc == PFL_OK)
        rc = check_addresses(&a->connect, err);
    if (rc == PFL_OK && a->settings)
        rc = pfl_fs_read(a->settings, SETTINGS_MAX, &settings, err);
    if (rc == PFL_OK && settings)
        rc = check_settings(a->settings, settings, err);
    if (rc == PFL_OK && pfl_ca_key_encrypted(a->ca))
        rc = pfl_secret_get(&a->secret, "passphrase of the CA's key", false, &passphrase, err);
    if (rc == PFL_OK)
        rc = pfl_ca_open(a->ca, passphrase, &ca, err);
    if (rc != PFL_OK)
        return rc;
    struct ready ready = {ca, a};
    const struct pfl_ca_server_opts opts = {
        .ca = ca,
        .dir = a->ca,
        .listen = a->listen,
        .sans = a->sans,
        .approve = a->approve,
        .lifetime_s = a->lifetime_s,
        .renew_window_s = a->window_s,
        .settings_yaml = settings ? (const char *)settings->data : NULL, /* a NUL follows a file's bytes */
        .connect = a->connect,
    };
    return pfl_ca_serve(&opts, on_ready, &ready, err);
}

int pfl_cmd_ca_serve(int argc, char **argv)
{
    struct args a = {.secret.fd = -1};
    struct pfl_err err = {0};
    int code = PFL_EXIT_OK;
    if (parse(argc, argv, &a, &err) != PFL_OK)
        code = pfl_cli_usage("ca serve", "%s", err.msg);
    else if (a.help)
        code = fputs(HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    else if (serve(&a, &err) != PFL_OK)
        code = pfl_cli_fail("ca serve", &err);
    pfl_strs_deinit(&a.sans);
    pfl_strs_deinit(&a.connect);
    return code;
}
