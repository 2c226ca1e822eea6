/* SPDX-License-Identifier: Apache-2.0 */
/* Options of `p2pfl ca`. An option that a subcommand does not take is unknown to it. */
#include "cli/ca_args.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "pki/key.h"

enum { OPTIONS_MAX = 32, DAY_S = 86400 };

static const struct option ALL[] = {
    {"name", required_argument, NULL, PFL_CA_OPT_NAME},
    {"federation", required_argument, NULL, PFL_CA_OPT_FEDERATION},
    {"key", required_argument, NULL, PFL_CA_OPT_KEY},
    {"days", required_argument, NULL, PFL_CA_OPT_DAYS},
    {"hours", required_argument, NULL, PFL_CA_OPT_HOURS},
    {"lifetime", required_argument, NULL, PFL_CA_OPT_LIFETIME},
    {"passphrase-file", required_argument, NULL, PFL_CA_OPT_PASSPHRASE_FILE},
    {"passphrase-fd", required_argument, NULL, PFL_CA_OPT_PASSPHRASE_FD},
    {"pin-file", required_argument, NULL, PFL_CA_OPT_PIN_FILE},
    {"key-passphrase-file", required_argument, NULL, PFL_CA_OPT_KEY_PASSPHRASE_FILE},
    {"ca", required_argument, NULL, PFL_CA_OPT_CA},
    {"san", required_argument, NULL, PFL_CA_OPT_SAN},
    {"role", required_argument, NULL, PFL_CA_OPT_ROLE},
    {"purpose", required_argument, NULL, PFL_CA_OPT_PURPOSE},
    {"out", required_argument, NULL, PFL_CA_OPT_OUT},
    {"reason", required_argument, NULL, PFL_CA_OPT_REASON},
    {"evidence", required_argument, NULL, PFL_CA_OPT_EVIDENCE},
    {"head", required_argument, NULL, PFL_CA_OPT_HEAD},
    {"root-offline", no_argument, NULL, PFL_CA_OPT_ROOT_OFFLINE},
    {"intermediate", no_argument, NULL, PFL_CA_OPT_INTERMEDIATE},
    {"all", no_argument, NULL, PFL_CA_OPT_ALL},
    {"valid", no_argument, NULL, PFL_CA_OPT_VALID},
    {"revoked", no_argument, NULL, PFL_CA_OPT_REVOKED},
    {"expired", no_argument, NULL, PFL_CA_OPT_EXPIRED},
    {"verify", no_argument, NULL, PFL_CA_OPT_VERIFY},
    {"pem", no_argument, NULL, PFL_CA_OPT_PEM},
    {"force", no_argument, NULL, PFL_CA_OPT_FORCE},
    {"json", no_argument, NULL, PFL_CA_OPT_JSON},
};

static const char COMMON_HELP[] = "  -h, --help               this text\n"
                                  "exit codes: 0 done; 1 failed; 2 the command line was wrong\n";

static enum pfl_rc parse_number(const char *option, const char *text, int64_t max, int64_t *ret, struct pfl_err *err)
{
    if (!pfl_parse_i64(text, 1, max, ret))
        return pfl_err_set(err, PFL_INVALID, "--%s '%s': a number from 1 to %lld is wanted", option, pfl_q(text), (long long)max);
    return PFL_OK;
}

static enum pfl_rc take_time(struct pfl_ca_args *args, int opt, const char *value, struct pfl_err *err)
{
    int64_t n = 0;
    if (args->days || args->lifetime_s)
        return pfl_err_set(err, PFL_INVALID, "--days, --hours and --lifetime exclude each other");
    if (opt == PFL_CA_OPT_LIFETIME && !pfl_parse_duration(value, 1, (int64_t)PFL_DAYS_MAX * DAY_S, &args->lifetime_s))
        return pfl_err_set(err, PFL_INVALID, "--lifetime '%s': as 90s, 15m, 24h or 7d, at most %d days", pfl_q(value),
                           PFL_DAYS_MAX);
    if (opt == PFL_CA_OPT_LIFETIME)
        return PFL_OK;
    bool hours = opt == PFL_CA_OPT_HOURS;
    enum pfl_rc rc = parse_number(hours ? "hours" : "days", value, hours ? PFL_DAYS_MAX * 24 : PFL_DAYS_MAX, &n, err);
    if (hours)
        args->lifetime_s = n * 3600;
    else
        args->days = (int)n;
    return rc;
}

static enum pfl_rc add_sans(struct pfl_ca_args *args, const char *list, struct pfl_err *err)
{
    PFL_AUTO(pfl_strs_deinit) struct pfl_strs items = {0};
    pfl_strs_split(&items, list, ',');
    for (size_t i = 0; i < items.n; i++) {
        PFL_AUTO(pfl_freep) char *san = NULL;
        enum pfl_rc rc = pfl_san_parse(items.items[i], &san, err);
        if (rc != PFL_OK)
            return rc;
        pfl_strs_add_once(&args->sans, san);
    }
    return PFL_OK;
}

static enum pfl_rc take_filter(struct pfl_ca_args *args, int opt, struct pfl_err *err)
{
    if (args->filter)
        return pfl_err_set(err, PFL_INVALID, "--all, --valid, --revoked and --expired exclude each other");
    args->filter = (enum pfl_ca_option)opt;
    return PFL_OK;
}

static const char **text_of(struct pfl_ca_args *args, int opt)
{
    switch (opt) {
    case PFL_CA_OPT_NAME:
        return &args->name;
    case PFL_CA_OPT_FEDERATION:
        return &args->federation;
    case PFL_CA_OPT_CA:
        return &args->ca;
    case PFL_CA_OPT_ROLE:
        return &args->role;
    case PFL_CA_OPT_PURPOSE:
        return &args->purpose;
    case PFL_CA_OPT_OUT:
        return &args->out;
    case PFL_CA_OPT_REASON:
        return &args->reason;
    case PFL_CA_OPT_EVIDENCE:
        return &args->evidence;
    case PFL_CA_OPT_HEAD:
        return &args->head;
    case PFL_CA_OPT_PASSPHRASE_FILE:
        return &args->secret.file;
    case PFL_CA_OPT_KEY_PASSPHRASE_FILE:
        return &args->key_passphrase_file;
    case PFL_CA_OPT_PIN_FILE:
        return &args->pin_file;
    default:
        return NULL;
    }
}

static bool *flag_of(struct pfl_ca_args *args, int opt)
{
    switch (opt) {
    case PFL_CA_OPT_ROOT_OFFLINE:
        return &args->root_offline;
    case PFL_CA_OPT_INTERMEDIATE:
        return &args->intermediate;
    case PFL_CA_OPT_VERIFY:
        return &args->verify;
    case PFL_CA_OPT_PEM:
        return &args->pem;
    case PFL_CA_OPT_FORCE:
        return &args->force;
    case PFL_CA_OPT_JSON:
        return &args->json;
    default:
        return NULL;
    }
}

static enum pfl_rc take_option(struct pfl_ca_args *args, int opt, const char *value, struct pfl_err *err)
{
    const char **text = text_of(args, opt);
    bool *flag = flag_of(args, opt);
    if (text)
        *text = value;
    if (flag)
        *flag = true;
    if (text || flag)
        return PFL_OK;
    switch (opt) {
    case PFL_CA_OPT_PASSPHRASE_FD:
        return pfl_secret_parse_fd(value, &args->secret.fd, err);
    case PFL_CA_OPT_SAN:
        return add_sans(args, value, err);
    case PFL_CA_OPT_KEY:
        args->key = value;
        return pfl_key_spec_valid(value, err) ? PFL_OK : PFL_INVALID;
    case PFL_CA_OPT_DAYS:
    case PFL_CA_OPT_HOURS:
    case PFL_CA_OPT_LIFETIME:
        return take_time(args, opt, value, err);
    default:
        return take_filter(args, opt, err);
    }
}

static void options_of(const struct pfl_ca_command *command, struct option out[OPTIONS_MAX])
{
    size_t n = 0;
    for (const enum pfl_ca_option *o = command->options; *o; o++)
        for (size_t i = 0; i < PFL_ARRAY_LEN(ALL); i++)
            if (ALL[i].val == (int)*o)
                out[n++] = ALL[i];
    out[n++] = (struct option){"help", no_argument, NULL, 'h'};
    PFL_ASSERT(n < OPTIONS_MAX);
    out[n] = (struct option){0};
}

static enum pfl_rc check_items(const struct pfl_ca_args *args, struct pfl_err *err)
{
    const struct pfl_ca_command *command = args->command;
    if (args->n_items < command->items_min)
        return pfl_err_set(err, PFL_INVALID, "%s is missing", command->item);
    if (args->n_items > command->items_max && command->items_max == 0)
        return pfl_err_set(err, PFL_INVALID, "'%s' is no option, and nothing else is taken", pfl_q(args->items[0]));
    if (args->n_items > command->items_max)
        return pfl_err_set(err, PFL_INVALID, "one %s at a time is wanted", command->item);
    for (const enum pfl_ca_option *o = command->options; *o; o++)
        if (*o == PFL_CA_OPT_CA && !args->ca)
            return pfl_err_set(err, PFL_INVALID, "--ca DIR is missing: which CA?");
    if (args->secret.file && args->secret.fd >= 0)
        return pfl_err_set(err, PFL_INVALID, "--passphrase-file and --passphrase-fd exclude each other");
    return PFL_OK;
}

/* Fills args; not PFL_OK is a usage error. */
static enum pfl_rc parse(int argc, char **argv, struct pfl_ca_args *args, bool *ret_help, struct pfl_err *err)
{
    int opt;
    struct option options[OPTIONS_MAX];
    options_of(args->command, options);
    optind = 1;
    opterr = 0;
    while ((opt = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
        if (opt == '?' || opt == ':')
            return pfl_cli_bad_option(opt, argv, err);
        if (opt == 'h')
            *ret_help = true;
        else if (take_option(args, opt, optarg, err) != PFL_OK)
            return PFL_INVALID;
    }
    args->items = argv + optind;
    args->n_items = (size_t)(argc - optind);
    return *ret_help ? PFL_OK : check_items(args, err);
}

int pfl_ca_command_run(const struct pfl_ca_command *command, int argc, char **argv)
{
    struct pfl_err err = {0};
    struct pfl_ca_args args = {.command = command, .secret.fd = -1};
    bool help = false;
    int code;
    if (parse(argc, argv, &args, &help, &err) != PFL_OK)
        code = pfl_cli_usage(command->title, "%s", err.msg);
    else if (help)
        code = fputs(command->help, stdout) < 0 || fputs(COMMON_HELP, stdout) < 0 ? PFL_EXIT_NO : PFL_EXIT_OK;
    else
        code = command->run(&args);
    pfl_strs_deinit(&args.sans);
    return code;
}

enum pfl_rc pfl_ca_args_passphrase(const struct pfl_ca_args *args, struct pfl_passphrase **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *key = pfl_fs_join(args->ca, "ca.key");
    bool given = args->secret.file || args->secret.fd >= 0;
    if (!given && !pfl_ca_key_encrypted(args->ca)) {
        *ret = NULL; /* the key that `p2pfl run` made for itself, one made by hand, or a URI that says where its PIN is */
        return PFL_OK;
    }
    const char *what = pfl_key_file_in_token(key) ? "PIN of the token with the CA key" : "Passphrase of the CA key";
    return pfl_secret_get(&args->secret, what, false, ret, err);
}

enum pfl_rc pfl_ca_args_open(const struct pfl_ca_args *args, struct pfl_ca **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *passphrase = NULL;
    enum pfl_rc rc = pfl_ca_args_passphrase(args, &passphrase, err);
    return rc == PFL_OK ? pfl_ca_open(args->ca, passphrase, ret, err) : rc;
}

enum pfl_rc pfl_ca_args_register(const struct pfl_ca_args *args, struct pfl_register **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *db = pfl_fs_join(args->ca, "ca.db");
    if (!pfl_fs_exists(db))
        return pfl_err_set(err, PFL_NOT_FOUND,
                           "%s is not there: a CA from before the register gets one when it next issues or revokes", db);
    return pfl_register_open(db, ret, err);
}

int64_t pfl_ca_args_lifetime(const struct pfl_ca_args *args)
{
    return args->lifetime_s ? args->lifetime_s : (int64_t)args->days * DAY_S;
}
