/* SPDX-License-Identifier: Apache-2.0 */
/* Result codes: the classes of failure a caller branches on. One X-macro holds code, number and text. */
#ifndef PFL_BASE_RC_H
#define PFL_BASE_RC_H

#define PFL_RC_LIST(X)                                                                                                             \
    X(OK, 0, "ok")                                                                                                                 \
    X(INVALID, 1, "invalid argument")                                                                                              \
    X(MALFORMED, 2, "malformed input")                                                                                             \
    X(TOO_BIG, 3, "over a limit")                                                                                                  \
    X(IO, 4, "input or output failed")                                                                                             \
    X(TIMEOUT, 5, "timed out")                                                                                                     \
    X(CANCELED, 6, "canceled")                                                                                                     \
    X(NOT_FOUND, 7, "not found")                                                                                                   \
    X(EXISTS, 8, "exists already")                                                                                                 \
    X(STATE, 9, "not possible in this state")                                                                                      \
    X(AUTH, 10, "not trusted")                                                                                                     \
    X(UNAVAILABLE, 11, "unavailable")                                                                                              \
    X(UNSUPPORTED, 12, "not supported")

enum pfl_rc {
#define X(name, num, text) PFL_##name = num,
    PFL_RC_LIST(X)
#undef X
};

/** The code's text, a static string. Unknown numbers give "unknown". */
const char *pfl_rc_text(enum pfl_rc rc);

#define PFL_WARN_UNUSED       __attribute__((warn_unused_result))
#define PFL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#endif
