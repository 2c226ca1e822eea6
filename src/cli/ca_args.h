/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands of `p2pfl ca` share: one table of options of which each takes some, and opening the CA. */
#ifndef PFL_CLI_CA_ARGS_H
#define PFL_CLI_CA_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "cli/secret.h"
#include "pki/ca.h"
#include "pki/register.h"

enum pfl_ca_option {
    PFL_CA_OPT_NAME = 256,
    PFL_CA_OPT_FEDERATION,
    PFL_CA_OPT_KEY,
    PFL_CA_OPT_DAYS,
    PFL_CA_OPT_HOURS,
    PFL_CA_OPT_LIFETIME,
    PFL_CA_OPT_PASSPHRASE_FILE,
    PFL_CA_OPT_PASSPHRASE_FD,
    PFL_CA_OPT_PIN_FILE,
    PFL_CA_OPT_KEY_PASSPHRASE_FILE,
    PFL_CA_OPT_CA,
    PFL_CA_OPT_SAN,
    PFL_CA_OPT_ROLE,
    PFL_CA_OPT_PURPOSE,
    PFL_CA_OPT_OUT,
    PFL_CA_OPT_REASON,
    PFL_CA_OPT_EVIDENCE,
    PFL_CA_OPT_HEAD,
    PFL_CA_OPT_ROOT_OFFLINE,
    PFL_CA_OPT_INTERMEDIATE,
    PFL_CA_OPT_ALL,
    PFL_CA_OPT_VALID,
    PFL_CA_OPT_REVOKED,
    PFL_CA_OPT_EXPIRED,
    PFL_CA_OPT_VERIFY,
    PFL_CA_OPT_PEM,
    PFL_CA_OPT_FORCE,
    PFL_CA_OPT_JSON,
};

struct pfl_ca_args {
    const struct pfl_ca_command *command;
    char **items; /* what is not an option; borrowed from argv */
    size_t n_items;
    const char *name, *federation, *key, *ca, *role, *purpose, *out, *reason, *evidence, *head, *key_passphrase_file, *pin_file;
    struct pfl_strs sans; /* owned; canonical */
    int days;             /* 0: not given */
    int64_t lifetime_s;   /* of --lifetime and --hours; 0: not given */
    struct pfl_secret_source secret;
    enum pfl_ca_option filter; /* of list; 0: not given */
    bool json, pem, force, verify, root_offline, intermediate;
};

struct pfl_ca_command {
    const char *title;                 /* "ca issue" */
    const char *help;                  /* without the lines that all have */
    const enum pfl_ca_option *options; /* ended by 0 */
    const char *item;                  /* what an argument is called in messages: "NAME"; NULL: none is taken */
    size_t items_min, items_max;
    int (*run)(const struct pfl_ca_args *args); /* an exit code */
};

/** Parses and runs; --help too. Returns an exit code. */
int pfl_ca_command_run(const struct pfl_ca_command *command, int argc, char **argv);

/** The CA in --ca, with its passphrase where its key is encrypted. */
enum pfl_rc pfl_ca_args_open(const struct pfl_ca_args *args, struct pfl_ca **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The passphrase, or PIN, of an existing CA key; NULL where none is needed. */
enum pfl_rc pfl_ca_args_passphrase(const struct pfl_ca_args *args, struct pfl_passphrase **ret,
                                   struct pfl_err *err) PFL_WARN_UNUSED;
/** Only its register: no key is needed. NOT_FOUND where the folder has none. */
enum pfl_rc pfl_ca_args_register(const struct pfl_ca_args *args, struct pfl_register **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** --days and --lifetime as seconds; 0: neither. */
int64_t pfl_ca_args_lifetime(const struct pfl_ca_args *args);

extern const struct pfl_ca_command PFL_CA_INIT, PFL_CA_ISSUE, PFL_CA_SIGN, PFL_CA_LIST, PFL_CA_SHOW, PFL_CA_REVOKE, PFL_CA_CRL,
    PFL_CA_AUDIT, PFL_CA_SIGN_INTERMEDIATE, PFL_CA_INSTALL, PFL_CA_ROLLOVER;

#endif
