/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl cert renew: by the running node where there is one, else by itself on the files. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/cli.h"
#include "config/node_config.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "runtime/control.h"
#include "runtime/renew_main.h"

static const char HELP[] =
    "usage: p2pfl cert renew NODE.yaml [--force]\n"
    "       p2pfl cert renew --control SOCKET [--force]\n"
    "\n"
    "Renews both certificates of a node at its CA service (ca.service), whatever the time. A running node does\n"
    "it and uses them at once, without a restart; where none runs, this command replaces the files.\n"
    "\n"
    "  NODE.yaml          the node's configuration, or its folder\n"
    "  --control SOCKET   a running node's control socket, or the folder in which it is (its state folder)\n"
    "  --force            also where ca.renew is false: somebody else writes these files\n"
    "  -h, --help         this text\n"
    "\n"
    "exit codes: 0 renewed; 1 not, the certificates are as before; 2 the command line was wrong\n";

struct args {
    const char *config, *control;
    bool force, help;
};

static enum pfl_rc parse(int argc, char **argv, struct args *a, struct pfl_err *err)
{
    static const struct option OPTIONS[] = {
        {"control", required_argument, NULL, 'c'}, {"force", no_argument, NULL, 'f'}, {"help", no_argument, NULL, 'h'}, {0}};
    optind = 1;
    opterr = 0;
    for (int opt; (opt = getopt_long(argc, argv, ":h", OPTIONS, NULL)) != -1;) {
        if (opt == '?' || opt == ':')
            return pfl_cli_bad_option(opt, argv, err);
        if (opt == 'c')
            a->control = optarg;
        else if (opt == 'f')
            a->force = true;
        else
            a->help = true;
    }
    if (a->help)
        return PFL_OK;
    if (argc - optind > 1)
        return pfl_err_set(err, PFL_INVALID, "one NODE.yaml is wanted");
    a->config = optind < argc ? argv[optind] : NULL;
    if (!a->config == !a->control)
        return pfl_err_set(err, PFL_INVALID, "NODE.yaml or --control SOCKET is wanted, one of them");
    return PFL_OK;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static enum pfl_rc by_node(const char *state_dir, bool force, struct pfl_err *err)
{
    json_t *answer = NULL;
    enum pfl_rc rc =
        pfl_control_ask(state_dir, json_pack("{s:s, s:b}", "cmd", "renew", "force", (int)force), 60 * PFL_SEC, &answer, err);
    if (rc == PFL_OK)
        json_decref(answer);
    return rc;
}

static int renew_control(const struct args *a)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_freep) char *dir = is_folder(a->control) ? pfl_xstrdup(a->control) : pfl_fs_dirname(a->control);
    if (by_node(dir, a->force, &err) != PFL_OK)
        return pfl_cli_fail("cert renew", &err);
    puts("renewed: the running node uses the new certificates");
    return PFL_EXIT_OK;
}

static void say_until(const char *who, const char *file)
{
    char until[32];
    PFL_AUTO(pfl_x509s_freep) struct stack_st_X509 *certs = NULL;
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    if (pfl_certs_load(file, &certs, NULL) != PFL_OK || pfl_identity_of_x509(pfl_x509s_at(certs, 0), &id, NULL) != PFL_OK)
        return;
    pfl_time_text(id->not_after, until);
    printf("renewed: %s, valid until %s (%s)\n", pfl_identity_text(id), until, who);
}

static enum pfl_rc renew(const struct pfl_node_config *c, bool force, const char **ret_who, struct pfl_err *err)
{
    if (!c->ca.renew && !force)
        return pfl_err_set(err, PFL_STATE, "ca.renew is false: somebody else writes these files; --force renews them all the same");
    *ret_who = "by the running node, which uses them already";
    enum pfl_rc rc = by_node(c->state_dir, true, err);
    if (rc != PFL_UNAVAILABLE)
        return rc;
    *err = (struct pfl_err){0};
    *ret_who = "no node runs";
    return pfl_renew_main(c, err);
}

static int renew_config(const struct args *a)
{
    struct pfl_err err = {0};
    const char *who = NULL;
    PFL_AUTO(pfl_node_config_deinit) struct pfl_node_config c = {0};
    PFL_AUTO(pfl_freep) char *path = is_folder(a->config) ? pfl_fs_join(a->config, "node.yaml") : pfl_xstrdup(a->config);
    if (pfl_node_config_load(path, &c, &err) != PFL_OK || renew(&c, a->force, &who, &err) != PFL_OK)
        return pfl_cli_fail("cert renew", &err);
    say_until(who, c.settings.ssl.server_crt);
    return PFL_EXIT_OK;
}

int pfl_cmd_cert_renew(int argc, char **argv)
{
    struct pfl_err err = {0};
    struct args a = {0};
    if (parse(argc, argv, &a, &err) != PFL_OK)
        return pfl_cli_usage("cert renew", "%s", err.msg);
    if (a.help)
        return fputs(HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    return a.control ? renew_control(&a) : renew_config(&a);
}
