/* SPDX-License-Identifier: Apache-2.0 */
/* What credentials.c (renewal, time, life) and credentials_files.c (files that somebody replaces) share. */
#ifndef PFL_RUNTIME_CREDENTIALS_IMPL_H
#define PFL_RUNTIME_CREDENTIALS_IMPL_H

#include <sys/stat.h>

#include "runtime/credentials.h"
#include "runtime/renewal.h"

enum { PFL_CREDENTIALS_FILES = 5 };

/* What a look at a file remembers of it. */
struct pfl_stamp {
    bool there;
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};

/* Somebody who waits for the end of a renewal. */
struct pfl_renew_waiter {
    struct pfl_renew_waiter *next;
    void (*done)(void *user, const char *error);
    void *user;
};

struct pfl_credentials {
    struct pfl_driver *d;
    char *owned[8];             /* the texts that files points to */
    struct pfl_tls_files files; /* paths */
    char *service, *crl;        /* owned or NULL */
    struct pfl_stamp crl_seen;
    bool renew, same_keys;
    double renew_at, jitter;
    pfl_ns look;

    uv_fs_event_t watches[PFL_CREDENTIALS_WATCHES];
    unsigned n_watches;
    uv_timer_t timer;
    bool stopping;
    unsigned open_handles;

    uv_work_t load;
    bool loading, look_again;
    struct pfl_tls *loaded; /* a worker's result */
    enum pfl_rc load_rc;
    struct pfl_err load_err;
    struct pfl_stamp seen[PFL_CREDENTIALS_FILES], trying[PFL_CREDENTIALS_FILES]; /* in use; being loaded */
    pfl_ns look_at, retry, revise_at;
    char said[PFL_ERR_MAX]; /* the last failure that was told */

    struct pfl_renewal *renewal; /* under way */
    struct pfl_renew_waiter *waiters;
    unsigned failures;
    double failed_at; /* Unix seconds */
    char failure[PFL_ERR_MAX];
    unsigned renewed, replaced;
    unsigned warned; /* the last stage that was told: see warn_of_end */
};

/* ---- credentials.c ---- */
/** Has the driver use another context, and says so. */
void pfl_credentials_use(struct pfl_credentials *c, struct pfl_tls *fresh, const char *how);
void pfl_credentials_arm(struct pfl_credentials *c);
void pfl_credentials_maybe_gone(struct pfl_credentials *c);

/* ---- credentials_files.c ---- */
void pfl_credentials_watch(struct pfl_credentials *c);
/** The files are looked at in so long at the latest. */
void pfl_credentials_look_in(struct pfl_credentials *c, pfl_ns in);
/** Looks at all of them now, and loads what has changed. */
void pfl_credentials_look(struct pfl_credentials *c);

#endif
