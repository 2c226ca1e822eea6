/* SPDX-License-Identifier: Apache-2.0 */
/* What others may make the core hold or do, and why. */
#ifndef PFL_NODE_LIMITS_H
#define PFL_NODE_LIMITS_H

enum {
    /* start_learning's arguments: more than anybody has, and small enough for every sum made of them. */
    PFL_ROUNDS_MAX = 1000000,
    PFL_EPOCHS_MAX = 10000,
    PFL_TRAINSET_MAX = 4096,
    PFL_EXPERIMENT_NAME_MAX = 128,

    PFL_ROUNDS_KEPT = 4,                 /* the current one, the next (early messages), the last two (spread) */
    PFL_CONTRIBUTORS_MAX = 4096,         /* as many as a train set may have */
    PFL_SAMPLES_MAX = 100 * 1000 * 1000, /* of one contributor: more than any data set of one party; FedAvg weighs by it */
    PFL_READY_DIGESTS_MAX = 3,           /* results of one node for one round: its own, and the canonical one where that changes */
    PFL_VOTE_MAX = 1000,                 /* most votes for one node in one ballot: the upper end of P2PFL's random numbers */
    PFL_VOTE_NAMES_MAX = 4096,           /* names in one ballot */
    PFL_BALLOT_NAMES_MAX = 1 << 20,      /* in all ballots of a round: their numbers stay small, and nobody's memory ends */
    /* Messages for a later round or from nodes that are not known yet: a round's worth of a large federation. */
    PFL_PUT_OFF_MAX = 1024,
    PFL_PUT_OFF_BYTES_MAX = 4 << 20, /* of them; a vote with its signature is 1 KB */
    PFL_PUT_OFF_SHARES = 16,         /* no source takes more than this part of either: it cannot push out what others said */

    PFL_ACCUSED_MAX = 16,             /* addresses of one party that evidence puts out: who signs for many floods nobody with it */
    PFL_FALSE_EVIDENCE_MAX = 8,       /* of one reporter in an experiment: more is not looked at */
    PFL_PARTIES_MAX = 1024,           /* that were accused, or accused wrongly */
    PFL_EVIDENCE_BYTES_MAX = 4 << 20, /* of one experiment, kept for newcomers */

    PFL_REFUSED_NOTES_MAX = 50, /* per heartbeat period: a flood of bad messages is no flood of notes */
    PFL_GONE_MAX = 4096,        /* evictions of one experiment that are remembered with their reason */
    PFL_PAST_MAX = 64,          /* names of experiments that are over: an older start is refused by its time */
    PFL_BARRED_MAX = 4096,      /* past it the oldest is forgotten: its certificate stays refused, only its gossip counts again */
    PFL_LOST_MAX = 256,         /* lost nodes that are dialled now and then */
    PFL_GRAVES_MAX = 1024,      /* fallen silent, with the newest count of their beats */
    PFL_ASKED_MAX = 256,        /* questions whether somebody is heard, under way */
};

#endif
