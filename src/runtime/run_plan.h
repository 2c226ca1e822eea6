/* SPDX-License-Identifier: Apache-2.0 */
/* What a run will be, on disk before anything is started: the run folder with each node's folder, node.yaml and certificates. */
#ifndef PFL_RUNTIME_RUN_PLAN_H
#define PFL_RUNTIME_RUN_PLAN_H

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "config/experiment.h"

struct pfl_run_opts {
    const char *experiment;                /* an example's name or a file's path; may be NULL with resume */
    const char *resume;                    /* the folder of a run to go on with; NULL: a new run */
    const char *out;                       /* run folder; NULL: runs/<name>-<UTC time> */
    const char *topology, *data, *certs;   /* NULL: as the experiment says */
    unsigned rounds, nodes, trainset_size; /* 0: as the experiment says */
    bool has_epochs;                       /* 0 epochs are as good as any number */
    unsigned epochs;
    bool has_seed;
    uint64_t seed;
    bool json, impostor, keep_going, quiet;
};

struct pfl_plan_node {
    char *name, *address, *dir; /* owned */
};
struct pfl_plan {
    struct pfl_experiment_config cfg; /* with the options applied */
    char *title, *dir, *text;         /* owned; text: the experiment as it was read, with the options as comments */
    char *source_dir;                 /* owned: what paths in the file are relative to */
    struct pfl_plan_node *nodes;      /* owned, cfg.nodes of them */
    struct pfl_plan_node impostor;    /* set where one was asked for */
    struct pfl_edge *edges;           /* owned */
    size_t n_edges;
    size_t *parts; /* owned (nodes, n_classes): training samples of each class; NULL: not divided, or not known */
    unsigned n_classes;
    bool certs_made; /* issued for this run, by a CA that is gone now */
    int port_lock;   /* a socket that keeps the block of ports ours; -1: none */
    int lock_fd;     /* keeps other runners out of the folder; -1: none */
};

/** Reads the experiment and makes the run folder. On error nothing but, perhaps, a half-made run folder is left. */
enum pfl_rc pfl_plan_make(const struct pfl_run_opts *opts, struct pfl_plan *ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_plan_deinit(struct pfl_plan *p);
/** Does the experiment want the memory protocol? Then there are no node folders, no certificates and no addresses, and
 *  pfl_run_in_memory is who runs it. */
enum pfl_rc pfl_plan_in_memory(const struct pfl_run_opts *opts, bool *ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** Fills in who gets what. Where the data set cannot be read or divided, no run of it can begin. */
enum pfl_rc pfl_plan_parts(struct pfl_plan *p, struct pfl_err *err) PFL_WARN_UNUSED;

/** The plan of a run that was cut off, from its folder (run_resume.c). NOT_FOUND: no folder of a run. STATE: it is finished.
 *  UNAVAILABLE: it is going on. INVALID: opts->experiment is another experiment. */
enum pfl_rc pfl_plan_resume(const struct pfl_run_opts *opts, struct pfl_plan *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** run.json: what pfl_plan_resume needs besides the other files. */
enum pfl_rc pfl_plan_note(const struct pfl_plan *p, const struct pfl_run_opts *opts, struct pfl_err *err) PFL_WARN_UNUSED;
/** The folder's lock, held until the descriptor is closed. UNAVAILABLE where another process has it. */
enum pfl_rc pfl_plan_lock(const char *dir, int *ret_fd, struct pfl_err *err) PFL_WARN_UNUSED;

/** Certificates of a run (run_certs.c): named by the experiment, in a folder the user gave, or made now by a CA of the run, whose
 * key exists only while they are issued. ssl is what goes into node i's node.yaml; pfl_plan_ssl_deinit it. */
enum pfl_rc pfl_plan_certs(struct pfl_plan *p, const struct pfl_run_opts *opts, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_plan_ssl(const struct pfl_plan *p, const struct pfl_run_opts *opts, const struct pfl_plan_node *node,
                         struct pfl_ssl_config *ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_plan_ssl_deinit(struct pfl_ssl_config *ssl);

/** A block of n free loopback ports (run_ports.c), the same for the same seed where they are free, since addresses order the nodes
 * and seed their votes. *ret_lock keeps other runs off the block until it is closed. */
enum pfl_rc pfl_plan_ports(uint64_t seed, unsigned n, uint16_t *ret_first, int *ret_lock, struct pfl_err *err) PFL_WARN_UNUSED;
/** Waits until nobody listens at the nodes' addresses any more, `limit` at most: a run's nodes outlive a runner that was killed for
 * a moment. Who still listens after that is the node's error to report. */
void pfl_plan_await_ports(const struct pfl_plan *p, pfl_ns limit);

#endif
