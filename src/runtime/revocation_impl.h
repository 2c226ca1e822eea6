/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of revocation share: revocation.c (in, accepted, out), revocation_jobs.c (workers), revocation_watch.c (time). */
#ifndef PFL_RUNTIME_REVOCATION_IMPL_H
#define PFL_RUNTIME_REVOCATION_IMPL_H

#include "runtime/revocation.h"

struct pfl_ca_call;

/** One set of CRL bytes on its way to be verified. */
struct pfl_crl_job {
    uv_work_t work;
    struct pfl_crl_job *next;
    struct pfl_driver *d;
    struct pfl_blob *bytes;    /* a reference; NULL: read path first */
    char *path;                /* owned or NULL */
    char *from;                /* owned: the sender's address, "the CA service", or the path */
    struct pfl_rpc_call *call; /* to be answered; or */
    void (*done)(void *user, const char *error);
    void *user;
    struct pfl_tls *tls; /* a reference: what it is verified by */
    uint8_t digest[32];  /* of bytes, where they came from a peer */
    /* results */
    enum pfl_rc rc;
    struct pfl_err err;
    struct pfl_crl_set *set; /* owned */
};

/** Writes the set down. */
struct pfl_crl_save {
    uv_work_t work;
    struct pfl_driver *d;
    struct pfl_crl_set *set; /* a reference */
    char *paths[2];          /* owned; the kept one, the operator's; either may be NULL */
    struct pfl_err errs[2];
};

struct pfl_revocation {
    struct pfl_driver *d;
    char *file, *kept;                       /* owned; settings.ssl.crl, <state>/crl-accepted.pem; either may be NULL */
    char *service;                           /* owned; the CA service's address or NULL */
    pfl_ns poll_period;                      /* of the service */
    struct pfl_crl_job *queue, **queue_tail; /* owned; the first is under way */
    unsigned n_queue;
    bool saving, save_again;
    uint8_t refused[PFL_CRL_REFUSED_KEPT][32]; /* a ring */
    unsigned n_refused_kept;
    pfl_ns notes_since;
    unsigned n_notes;

    uv_timer_t timer;
    bool stopping, timer_closed;
    bool owed; /* some neighbour did not take a CRL: try again */
    pfl_ns resend_at, poll_at, warn_at;
    struct pfl_ca_call *poll;
    bool poll_failed;
    pfl_ns polled_at;
    bool has_bundle;
    uint8_t bundle[32];     /* digest of the service's last answer */
    struct pfl_strs redial; /* neighbours that were lost because no CRL was in time */

    char *own;            /* owned: why this node is out; NULL: it is not */
    struct pfl_strs told; /* peers that say so without proof */
    struct {
        uint64_t accepted, refused, closed, stale_closed;
    } n;
};

/* ---- revocation.c ---- */
void pfl_revocation_accept(struct pfl_revocation *r, struct pfl_crl_set *set, const char *from);
/** Judges all live connections by the context in use. */
void pfl_revocation_revise(struct pfl_revocation *r);
/** Is this node's own certificate in use revoked? Ends its part, or takes it up again. */
void pfl_revocation_check_own(struct pfl_revocation *r);
/** Sends the CRLs in use to every linked neighbour but `from` (an address, or NULL), or only to those that are owed one. */
void pfl_revocation_flood(struct pfl_revocation *r, const char *from, bool owed_only);
void pfl_revocation_maybe_gone(struct pfl_revocation *r);

/* ---- revocation_jobs.c ---- */
/** Takes job; false (and untouched) where the queue is full. */
bool pfl_revocation_queue(struct pfl_revocation *r, struct pfl_crl_job *job);
struct pfl_crl_job *pfl_crl_job_new(struct pfl_revocation *r, const char *from);
void pfl_crl_job_free(struct pfl_crl_job *j);
void pfl_revocation_save(struct pfl_revocation *r);

/* ---- revocation_watch.c ---- */
void pfl_revocation_watch_start(struct pfl_revocation *r);
/** Sets the timer to what is due next. */
void pfl_revocation_arm(struct pfl_revocation *r);

#endif
