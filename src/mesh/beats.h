/* SPDX-License-Identifier: Apache-2.0 */
/* The digest of signs of life that our nodes give each neighbour once per period, instead of flooding one beat per node through
 * every link. Each node counts its own beats; a digest holds the newest count of each node of which the sender knows something new.
 * Only the origin raises its count, so a digest can be passed on any number of times, late or twice, and says no more than it knows
 * (van Renesse, Minsky, Hayden: A Gossip-Style Failure Detection Service, 1998).
 *
 * On the wire (command beats, direct): arguments of lines "count round address", separated by newlines. The round is the one that
 * this node's learner trains in at present, "-", or "x": its neighbours do not hear it any more, and this was its last count. */
#ifndef PFL_MESH_BEATS_H
#define PFL_MESH_BEATS_H

#include "base/addr.h"
#include "base/str.h"

/** A count has 53 bits: one beat per microsecond for 285 years. More is no count. */
#define PFL_BEAT_COUNT_MAX ((UINT64_C(1) << 53) - 1)

struct pfl_beat {
    char addr[PFL_ADDR_MAX];
    uint64_t count; /* from 1 */
    int32_t fits;   /* the round that it trains in; PFL_BEAT_IDLE, PFL_BEAT_GONE */
};
enum { PFL_BEAT_IDLE = -1, PFL_BEAT_GONE = -2 };

/** Fills arguments. Zero-initialised; what is packed so far is in args after pfl_beats_end. */
struct pfl_beats_writer {
    struct pfl_strs args; /* owned */
    char line[1024];      /* the argument that is being filled */
    size_t len, total;    /* bytes in line, and in all */
};
/** False where the message is full: the caller sends it, and goes on with a new one. An address with a newline (the path of a Unix
 * socket may have one) is left out. */
bool pfl_beats_add(struct pfl_beats_writer *w, const char *addr, uint64_t count, int32_t fits);
void pfl_beats_end(struct pfl_beats_writer *w);
void pfl_beats_deinit(struct pfl_beats_writer *w);

/** Reads arguments; nothing is kept of them. */
struct pfl_beats_reader {
    const struct pfl_strs *args; /* borrowed */
    size_t arg, at;
};
/** PFL_NOT_FOUND: that was the last one (*err untouched). MALFORMED: a line that is none. */
enum pfl_rc pfl_beats_next(struct pfl_beats_reader *r, struct pfl_beat *ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** The hash under which this beat goes, where it has to be flooded to nodes that know no digests. It depends on nothing else, so
 * several nodes may flood it and it still counts as one message. */
int64_t pfl_beat_hash(const char *addr, uint64_t count);

#endif
