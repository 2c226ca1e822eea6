/* SPDX-License-Identifier: Apache-2.0 */
/* What a test makes tests/modules/p11_faulty.c do, found by dlsym("p11_fault"). */
#ifndef PFL_TESTS_P11_FAULT_H
#define PFL_TESTS_P11_FAULT_H

#include <stdbool.h>

struct p11_fault {
    unsigned long token_flags;  /* CKF_… that every token has besides its own */
    unsigned n_removals;        /* the next so many signatures find the token pulled out; it is back at once */
    unsigned long sign_init_rv; /* not 0: what C_SignInit says */
    bool says_extractable;      /* every key says that it is */
    unsigned n_logins, n_sessions;
};

#endif
