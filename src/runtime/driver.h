/* SPDX-License-Identifier: Apache-2.0 */
/* Drives one node with real sockets: events from rpc, timers, jobs and operators go into the core, its actions come out as
 * calls, connections, jobs, replies, log lines and events. Everything but the jobs happens on the loop's thread. */
#ifndef PFL_RUNTIME_DRIVER_H
#define PFL_RUNTIME_DRIVER_H

#include <jansson.h>
#include <uv.h>

#include "learning/compression.h"
#include "learning/learner.h"
#include "learning/p2pfl_payload.h"
#include "runtime/ledger.h"
#include "node/node.h"
#include "rpc/rpc.h"
#include "tls/context.h"

struct pfl_driver;
struct pfl_policy; /* pki/policy.h */
/** Where the node's certificates come from and how they stay fresh (runtime/credentials.h). All copied. */
struct pfl_credentials_opts {
    struct pfl_tls_files files; /* what tls was loaded from: they are watched */
    pfl_ns look;                /* how often they are looked at beside the watching; 0: 10 s */
    bool renew;                 /* at the CA service (ca_service), where there is one */
    double renew_at;            /* the share of the life; 0: two thirds */
    bool same_keys;             /* keep the keys at a renewal */
};
struct pfl_driver_opts {
    uv_loop_t *loop;
    const char *name;       /* for logs and events; copied */
    const char *address;    /* listened on and announced; port 0 or a bare host picks a free port; copied */
    const char *federation; /* trust domain in our Hello; copied */
    struct pfl_tls *tls;    /* a reference is taken; NULL: plaintext, loopback and unix sockets only */
    struct pfl_node_settings settings;
    struct pfl_learner learner;                /* taken on success */
    const struct pfl_compression *compression; /* of contributions; copied. NULL: none */
    const struct pfl_ledger_opts *privacy;     /* where compression has dp: its budget; NULL: none */
    const char *state_dir; /* events.jsonl, models/, control.sock (0600); NULL: nothing is written, no control socket */
    bool journal;          /* keeps in state_dir what must survive a crash, and takes it up again (runtime/journal.h) */
    /** Where CRLs live (see runtime/revocation.h); each may be NULL. crl: the operator's file, rewritten when a newer one is
     * accepted; crl_kept: the driver's own copy, by which an older one is known after a restart; ca_service: HOST:PORT that is
     * asked every ca_poll (0: 60 s). Copied. The policy and the CRLs to begin with are the context's. */
    const char *crl, *crl_kept, *ca_service;
    pfl_ns ca_poll;
    struct pfl_p2pfl_options pickle;                /* how models go to P2PFL's own nodes; checked against the learner's layout */
    const struct pfl_policy *policy;                /* NULL: roles alone; copied */
    const struct pfl_credentials_opts *credentials; /* NULL: certificates stay as they are */
    void (*on_event)(void *user, const char *line, size_t len); /* each event line, on the loop; may be NULL */
    void *user;
};
/** Listens and starts the job that makes the initial model. On error nothing is left behind. */
enum pfl_rc pfl_driver_new(const struct pfl_driver_opts *opts, struct pfl_driver **ret, struct pfl_err *err) PFL_WARN_UNUSED;
const char *pfl_driver_address(const struct pfl_driver *d); /* with the real port */
/** An operator's command (PFL_EV_CMD_*); done is called exactly once, error NULL where it was carried out. */
void pfl_driver_command(struct pfl_driver *d, enum pfl_event_kind cmd, const char *addr, const struct pfl_learn_args *learn,
                        void (*done)(void *user, const char *error), void *user);
/** What `p2pfl node status` shows; a new reference. */
json_t *pfl_driver_status(struct pfl_driver *d);
/** The current model, borrowed until the loop goes on; NULL before the first. */
const struct pfl_model *pfl_driver_model(const struct pfl_driver *d);
/** Another context for everything: new connections use it at once, live ones that it would refuse are closed, the others are
 * drained. CRLs that are newer in the present one are kept. A reference is taken. Not for plaintext nodes. */
void pfl_driver_set_tls(struct pfl_driver *d, struct pfl_tls *fresh);
/** CRLs from wherever (PEM, or one DER; copied): verified on a worker, and applied where newer. `from` is for logs. */
void pfl_driver_offer_crls(struct pfl_driver *d, struct pfl_bytes crls, const char *from);
/** Reads a file of CRLs (NULL: settings.ssl.crl), as above. done (may be NULL) is called once, at once or later: error NULL where
 * they are in use now (or were). */
void pfl_driver_reload_crl(struct pfl_driver *d, const char *path, void (*done)(void *user, const char *error), void *user);
/** Says goodbye, ends calls and jobs, closes everything; closed is called last and the driver is gone then. Once only. */
void pfl_driver_shutdown(struct pfl_driver *d, void (*closed)(void *user), void *user);
/** Called when an operator asks for shutdown over the control socket; the owner then calls pfl_driver_shutdown. */
void pfl_driver_on_shutdown_request(struct pfl_driver *d, void (*fn)(void *user), void *user);

#endif
