/* SPDX-License-Identifier: Apache-2.0 */
/* What happened in an experiment, built from the event lines of its nodes and from what the runner itself saw. The progress table,
 * the summary and the report read it; nothing here does I/O, so a recorded run can be replayed into it.
 *
 * A round's number counts as in the protocol: round r is the one after r aggregations, so the metrics of round 0 are the initial
 * model's and those of round `rounds` the final one's. Event fields come from other processes and, through them, from other
 * machines: numbers are bounded, lists are capped, text is kept as it is and escaped by whoever shows it. */
#ifndef PFL_RUNTIME_RUN_RECORD_H
#define PFL_RUNTIME_RUN_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/str.h"

enum {
    PFL_RECORD_ROUNDS_MAX = 100000,
    PFL_RECORD_LIST_MAX = 10000, /* links, refusals, exclusions, warnings, stage spans: each; what comes later is only counted */
    PFL_RECORD_DIGEST_MAX = 65   /* SHA-256 in hex with its NUL */
};

struct pfl_rec_counters {
    uint64_t bytes_sent, bytes_received, messages_sent, messages_received;
};

/** One node at one round. */
struct pfl_rec_point {
    bool has_test, has_fit, has_end;
    double loss, accuracy;       /* has_test: own evaluation; accuracy may be NaN */
    double fit_loss, fit_s;      /* has_fit */
    uint64_t fit_samples;        /* has_fit */
    double end_t;                /* has_end: Unix seconds */
    struct pfl_rec_counters end; /* has_end: cumulative */
    char digest[PFL_RECORD_DIGEST_MAX];
    struct pfl_strs contributors; /* of the aggregate that this node made or took */
    char *adopted_from;           /* owned; NULL: it aggregated itself */
};

struct pfl_rec_node {
    char *name, *address; /* owned; address "" until it has started */
    char *stage;          /* owned */
    char *waiting_for;    /* owned or NULL */
    int64_t pid;
    int32_t round; /* current; -1 before the first */
    unsigned rounds_done;
    bool started, learning, finished, stopped;
    char *lost;                              /* owned: why it ended before its time; NULL: it did not */
    double accuracy, loss;                   /* the latest own evaluation; NaN before it */
    double final_t, lost_t;                  /* Unix seconds: learning_finished, the process' end where it was lost */
    char digest[PFL_RECORD_DIGEST_MAX];      /* of the final model, "" before the end */
    char file_digest[PFL_RECORD_DIGEST_MAX]; /* SHA-256 of its models/final.safetensors, as the runner read it */
    struct pfl_rec_counters counters;
    uint64_t rss_kb;
    struct pfl_rec_point *points; /* owned, n_points: rounds 0 .. n_points - 1 */
    size_t n_points;
};

/** One direction of a link: what `node` saw of its neighbour. */
struct pfl_rec_link {
    char *node, *address, *identity, *fingerprint, *tls, *cipher, *expires; /* owned, "" where unknown */
    char *lost;                                                             /* owned: the reason; NULL: it stood to the end */
    double t;
};
struct pfl_rec_refusal {
    char *by, *peer, *remote, *reason; /* owned */
    double t;
};
/** A span of a node's time in one stage, or an exclusion or a warning: what `text` is depends on the list. */
struct pfl_rec_remark {
    char *node, *address, *text; /* owned, address may be "" */
    int32_t round;
    double t;
};
struct pfl_rec_remarks {
    struct pfl_rec_remark *items; /* owned */
    size_t n, cap, dropped;
};

struct pfl_record {
    char *title, *experiment, *topology, *versions; /* owned, "" where unset */
    char *config_text;                              /* owned: the experiment file as it was run */
    char *final_model, *run_dir;                    /* owned or NULL */
    unsigned rounds, epochs, trainset_size;
    uint64_t seed;
    bool tls, interop;
    bool memory;                    /* all nodes were in one process: no links to protect */
    double start_t, learn_t, end_t; /* Unix seconds; 0: not yet. learn_t: when the first node began */
    bool interrupted;
    bool finished;  /* every node that was not lost finished, models are equal and nobody got in who should not */
    bool identical; /* set by pfl_record_close */
    size_t *parts;  /* owned (nodes, n_classes): training samples; NULL: not known */
    unsigned n_classes;
    char *partition;            /* owned: how they were divided; "" */
    struct pfl_rec_node *nodes; /* owned */
    size_t n_nodes;
    struct pfl_rec_link *links; /* owned */
    size_t n_links, cap_links;
    struct pfl_rec_refusal *refusals; /* owned */
    size_t n_refusals, cap_refusals;
    struct pfl_rec_remarks excluded, warnings, stages, failures;
    struct pfl_strs *train_sets; /* owned: per round, the members by address */
    size_t n_train_sets;
};

struct pfl_record *pfl_record_new(const char *title);
void pfl_record_free(struct pfl_record *r); /* accepts NULL */
PFL_DEFINE_FREEP(record, struct pfl_record, pfl_record_free)

/** The node's index. Names are unique in a record. */
size_t pfl_record_add_node(struct pfl_record *r, const char *name, const char *address);
/** NULL where no node has this name (address). Borrowed until the next pfl_record_add_node. */
struct pfl_rec_node *pfl_record_node(const struct pfl_record *r, const char *name);
struct pfl_rec_node *pfl_record_node_at(const struct pfl_record *r, const char *address);
/** The name of the node that has the address, else the address. */
const char *pfl_record_name_of(const struct pfl_record *r, const char *address);

/** Takes in one event of a node. False, and nothing changed, where it is no event of a node in the record. */
bool pfl_record_event(struct pfl_record *r, const json_t *event);
/** A node's process ended too early. */
void pfl_record_lost(struct pfl_record *r, double t, size_t node, const char *reason);
/** Something about a node that does not fail the run. */
void pfl_record_warning(struct pfl_record *r, double t, size_t node, const char *text);
/** A failure of the run as a whole, in words. */
void pfl_record_failure(struct pfl_record *r, double t, const char *text);
/** All is over: sets identical and finished. */
void pfl_record_close(struct pfl_record *r, double t);

/** How many nodes finished and were not lost; *ret_digest is their common model's ("" where they have more than one, or a file is
 * not what its node reported). */
size_t pfl_record_models(const struct pfl_record *r, const char **ret_digest);
/** What a node (index) sent and received in one round: the difference of its cumulative counters. False where it is not known. */
bool pfl_record_round_traffic(const struct pfl_record *r, size_t node, size_t round, struct pfl_rec_counters *ret);
void pfl_record_totals(const struct pfl_record *r, struct pfl_rec_counters *ret);
/** From the first node's start of learning to the last node's end; 0 where there was none. */
double pfl_record_learn_s(const struct pfl_record *r);

#endif
