/* SPDX-License-Identifier: Apache-2.0 */
/* What a node must still know after a crash: the experiment it is in, the model that its round began with, and what it has said in
 * that round. A node that comes back says the same again (the same ballot, the same contribution, the same result) or nothing: it
 * never contradicts what others may have heard. What others said is not kept; they say it again.
 *
 * Write-ahead: where this changes, the step ends with one DURABLE action, and every SEND that says something new carries in `after`
 * the number of the state that has to be on disk before it goes out. Signs of life carry 0 and wait for nothing. */
#ifndef PFL_NODE_DURABLE_H
#define PFL_NODE_DURABLE_H

#include "base/str.h"
#include "wire/payload.h"

struct pfl_durable {
    uint64_t seq;     /* of this state; a later one replaces it whole */
    char *experiment; /* owned; NULL: none yet */
    bool learning;    /* it runs; else: */
    bool over;        /* it ended in order, with `model` as its result */
    unsigned rounds, epochs, trainset_size;
    unsigned rounds_done;
    int32_t round;             /* the running one; rounds - 1 while all wait for the last result, -1 when not learning */
    struct pfl_payload *model; /* a reference: what the running round began with, or the result; NULL: none but the initial one */
    struct pfl_strs members;   /* sorted: the train set of the last round that is done */
    bool computed;             /* `model` is the result that it computed of that round, and did not take from another */
    int32_t voted;             /* in which round this ballot was cast; -1: none */
    struct pfl_strs ballot;
    int32_t contributed;              /* for which round this node made a contribution or withdrew; -1: none */
    struct pfl_payload *contribution; /* a reference; NULL: it withdrew */
    uint64_t n_samples;
    struct pfl_strs neighbours; /* sorted: with whom it had links */
    struct pfl_strs others;     /* sorted: who else took part and was alive */
};
struct pfl_durable *pfl_durable_new(void); /* nothing is known: rounds are -1 */
void pfl_durable_free(struct pfl_durable *d);
PFL_DEFINE_FREEP(durable, struct pfl_durable, pfl_durable_free)

#endif
