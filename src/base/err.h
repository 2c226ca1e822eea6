/* SPDX-License-Identifier: Apache-2.0 */
/* An error: a class for the program and one line for the person who reads it. */
#ifndef PFL_BASE_ERR_H
#define PFL_BASE_ERR_H

#include "base/rc.h"

enum { PFL_ERR_MAX = 512 };

/** Caller's storage, zero-initialised. Every function that takes one accepts NULL. */
struct pfl_err {
    enum pfl_rc rc;
    char msg[PFL_ERR_MAX];
};

/** Sets class and message and returns rc, so that "return pfl_err_set(...)" reads as one thought. Cut at PFL_ERR_MAX. */
enum pfl_rc pfl_err_set(struct pfl_err *err, enum pfl_rc rc, const char *fmt, ...) PFL_PRINTF(3, 4);

/** Puts "<fmt>: " before the message there is and returns its class (PFL_INVALID where none was set). */
enum pfl_rc pfl_err_wrap(struct pfl_err *err, const char *fmt, ...) PFL_PRINTF(2, 3);

/** pfl_err_set with ": <strerror(errnum)>" behind the message; the class follows errnum
 *  (ENOENT NOT_FOUND, EEXIST EXISTS, ETIMEDOUT TIMEOUT, else IO). */
enum pfl_rc pfl_err_errno(struct pfl_err *err, int errnum, const char *fmt, ...) PFL_PRINTF(3, 4);

void pfl_err_clear(struct pfl_err *err);

#endif
