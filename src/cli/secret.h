/* SPDX-License-Identifier: Apache-2.0 */
/* Where a command's passphrase comes from: --passphrase-file, --passphrase-fd, or the terminal. */
#ifndef PFL_CLI_SECRET_H
#define PFL_CLI_SECRET_H

#include "base/err.h"
#include "pki/passphrase.h"

struct pfl_secret_source {
    const char *file; /* NULL: not given */
    int fd;           /* -1: not given */
};
/** "7" to 7. INVALID for what is no descriptor number. */
enum pfl_rc pfl_secret_parse_fd(const char *text, int *ret_fd, struct pfl_err *err) PFL_WARN_UNUSED;
/** File, else descriptor, else a prompt that names `what` (twice where `confirm`). INVALID where both are given. */
enum pfl_rc pfl_secret_get(const struct pfl_secret_source *from, const char *what, bool confirm, struct pfl_passphrase **ret,
                           struct pfl_err *err) PFL_WARN_UNUSED;

#endif
