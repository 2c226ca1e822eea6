/* SPDX-License-Identifier: Apache-2.0 */
/* A passphrase never comes from argv or the environment, where every process of the machine may read it. */
#include "cli/secret.h"

#include "base/str.h"

enum pfl_rc pfl_secret_parse_fd(const char *text, int *ret_fd, struct pfl_err *err)
{
    int64_t fd;
    if (!pfl_parse_i64(text, 0, 65535, &fd))
        return pfl_err_set(err, PFL_INVALID, "--passphrase-fd '%s': the number of an open descriptor is wanted", pfl_q(text));
    *ret_fd = (int)fd;
    return PFL_OK;
}

enum pfl_rc pfl_secret_get(const struct pfl_secret_source *from, const char *what, bool confirm, struct pfl_passphrase **ret,
                           struct pfl_err *err)
{
    if (from->file && from->fd >= 0)
        return pfl_err_set(err, PFL_INVALID, "--passphrase-file and --passphrase-fd exclude each other");
    if (from->file)
        return pfl_passphrase_from_file(from->file, ret, err);
    if (from->fd >= 0)
        return pfl_passphrase_from_fd(from->fd, ret, err);
    return pfl_passphrase_prompt(what, confirm, ret, err);
}
