/* SPDX-License-Identifier: Apache-2.0 */
/* Errors and result codes: one class, one line. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *pfl_rc_text(enum pfl_rc rc)
{
    switch (rc) {
#define X(name, num, text)                                                                                                         \
    case PFL_##name:                                                                                                               \
        return text;
        PFL_RC_LIST(X)
#undef X
    }
    return "unknown";
}

enum pfl_rc pfl_err_set(struct pfl_err *err, enum pfl_rc rc, const char *fmt, ...)
{
    if (!err)
        return rc;
    char text[PFL_ERR_MAX]; /* the arguments may lie in err itself */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    err->rc = rc;
    memcpy(err->msg, text, sizeof(err->msg));
    return rc;
}

enum pfl_rc pfl_err_wrap(struct pfl_err *err, const char *fmt, ...)
{
    if (!err)
        return PFL_INVALID;
    char text[PFL_ERR_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
    if (snprintf(text + used, sizeof(text) - used, ": %s", err->msg) < 0)
        text[used] = '\0';
    memcpy(err->msg, text, sizeof(err->msg));
    if (err->rc == PFL_OK)
        err->rc = PFL_INVALID;
    return err->rc;
}

static enum pfl_rc rc_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
        return PFL_NOT_FOUND;
    case EEXIST:
        return PFL_EXISTS;
    case ETIMEDOUT:
        return PFL_TIMEOUT;
    default:
        return PFL_IO;
    }
}

enum pfl_rc pfl_err_errno(struct pfl_err *err, int errnum, const char *fmt, ...)
{
    enum pfl_rc rc = rc_of_errno(errnum);
    if (!err)
        return rc;
    char text[PFL_ERR_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return pfl_err_set(err, rc, "%s: %s", text, strerror(errnum));
}

void pfl_err_clear(struct pfl_err *err)
{
    if (!err)
        return;
    err->rc = PFL_OK;
    err->msg[0] = '\0';
}
