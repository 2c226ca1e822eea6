/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of one round: ballots, train set, contributions, who holds what, who has the aggregate and with which digest.
 * A record is made when the first thing about its round is heard, which may be before this node gets there, and outlives the
 * round by two, because the aggregate is spread in the background. Pure book-keeping: no stage, no actions. */
#ifndef PFL_NODE_ROUND_H
#define PFL_NODE_ROUND_H

#include "base/clock.h"
#include "base/str.h"
#include "mesh/neighbours.h"
#include "node/limits.h"
#include "wire/origin.h"
#include "wire/payload.h"

/* ---- contributions ---- */

struct pfl_entry {
    struct pfl_strs who;         /* sorted: one contributor, or several behind one partial aggregate */
    struct pfl_payload *payload; /* a reference */
    uint64_t n_samples;
    pfl_ns at; /* since when it is held */
};
/** Disjoint sets of contributors with their models, sorted by first contributor: the order in which they are aggregated. */
struct pfl_book {
    struct pfl_entry *items; /* owned */
    size_t n, cap;
};
void pfl_book_deinit(struct pfl_book *b);
enum pfl_book_verdict {
    PFL_BOOK_FITS,
    PFL_BOOK_KNOWN, /* all of it is counted already: nothing to do, nobody's fault */
    PFL_BOOK_REFUSED,
};
/** May these contributors be added? members NULL: any. who need not be sorted. REFUSED sets *err: nobody or too many named, a name
 * twice, not a member, counted in part, no samples or more than anybody has. */
enum pfl_book_verdict pfl_book_check(const struct pfl_book *b, const struct pfl_strs *members, const struct pfl_strs *who,
                                     int64_t n_samples, struct pfl_err *err);
/** Adds what pfl_book_check found to fit; copies who, takes a reference to payload. */
void pfl_book_add(struct pfl_book *b, const struct pfl_strs *who, struct pfl_payload *payload, uint64_t n_samples, pfl_ns now);
/** Lets go of the entry of this contributor alone; false where there is none. One that stands behind an aggregate with others
 * cannot be taken out. */
bool pfl_book_drop(struct pfl_book *b, const char *who);
bool pfl_book_has(const struct pfl_book *b, const char *who);
/** All contributors, sorted; *ret is deinited first. */
void pfl_book_union(const struct pfl_book *b, struct pfl_strs *ret);
uint64_t pfl_book_samples(const struct pfl_book *b);
/** The entry of exactly these (sorted) contributors, or NULL. */
const struct pfl_entry *pfl_book_find(const struct pfl_book *b, const struct pfl_strs *who);

/* ---- one node, as this round knows it ---- */

/** A model that came before this node could judge it. */
struct pfl_early {
    struct pfl_payload *payload; /* a reference; NULL: none */
    struct pfl_strs who;
    uint64_t n_samples;
};
void pfl_early_deinit(struct pfl_early *e);
/** What only those have that train, or send models: a few of a thousand. */
struct pfl_trainer {
    struct pfl_statement said_model; /* what it may say once only, with its signature; empty: nothing, or not signed */
    struct pfl_statement said_own;   /* the contribution that it announced to everybody; the same */
    struct pfl_statement said_ready; /* the result that it computed; the same */
    struct pfl_strs holds;           /* its last models_aggregated */
    struct pfl_early early;
};
/** A digest that was announced. Most nodes announce the same one: it is held once. */
struct pfl_result {
    unsigned refs; /* of rows */
    uint8_t digest[PFL_DIGEST_LEN];
};
/** What few have said of a round; with signatures, each that voted. */
struct pfl_round_more {
    struct pfl_statement said_vote;              /* as said_model */
    struct pfl_trainer *trainer;                 /* owned or NULL */
    uint32_t earlier[PFL_READY_DIGESTS_MAX - 1]; /* announced before its latest result, oldest first: as that */
    uint32_t computed; /* the result that it made itself, of contributions: as the latest. 0: none that is known */
    uint32_t ballot;   /* where it begins in the round's ballots, from 1; 0: none is kept */
};
/** Kept small: there is one for each node of the network and each round, and one for each name in a ballot. One with nothing in it
 * says as much as none. */
struct pfl_round_peer {
    struct pfl_peer *who; /* a reference, for its address alone: it may have left the table */
    uint32_t more; /* its number among the round's `mores`, from 1; 0: none. Of a row that was taken out: the next such one */
    /* What it announced last, as the number of one of the round's results, from 1: it announces again when it adopts the canonical
     * result. All are kept, because messages overtake each other. */
    uint32_t result : 24;
    uint32_t n_results : 2;
    bool voted : 1;     /* set by pfl_round_set_voted */
    bool named : 1;     /* it computed another result than the common one, and the log says so */
    bool withdrawn : 1; /* announced an empty models_aggregated: its training failed, do not wait for it */
    bool trains : 1;    /* one of P2PFL's nodes: knows the train set, takes models */
    bool ready : 1;     /* models_ready */
    bool candidate : 1; /* a ballot names it */
};
static inline const char *pfl_round_addr(const struct pfl_round_peer *p)
{
    return p->who->addr;
}

enum { PFL_ROUND_BLOCK = 32 }; /* rows */

/** What all ballots give to one name. */
struct pfl_round_sum {
    uint32_t votes, ballots;
};

struct pfl_round {
    int32_t round;
    const struct pfl_neighbours *known; /* borrowed: its rows share the addresses that these hold; NULL: none */
    struct pfl_round_peer **blocks;     /* owned, each owned, of PFL_ROUND_BLOCK rows: a row stays where it is */
    uint32_t n_rows, unused;            /* in blocks, taken out or not; the first that was taken out, from 1 */
    uint32_t *order;                    /* owned: numbers of rows, sorted by address; this node's own is among them */
    size_t n_peers, cap_peers;          /* in order */
    size_t n_voted;                     /* of them */
    pfl_ns *ready_at;                   /* owned, in the order of rows: made when the first is ready. See pfl_round_ready_at */
    size_t n_ready_at;
    struct pfl_round_more **mores; /* owned, each owned */
    uint32_t n_mores;
    pfl_ns ended_at;             /* when another node first announced a result that it computed; 0: none did */
    size_t n_computed;           /* of them said, ever, that they computed a result */
    struct pfl_result **results; /* owned, each owned; NULL: not in use */
    size_t n_results;
    size_t n_candidates;        /* rows that ballots name */
    struct pfl_round_sum *sums; /* owned: of ballots, in the order of rows */
    size_t n_sums;
    /* Owned: of each ballot that is kept the number of its candidates, and for each the number of its row * (PFL_VOTE_MAX + 1) +
     * its votes, as base-128 integers. */
    uint8_t *ballots;
    size_t ballots_len, ballots_cap;
    bool decided;              /* the train set is known */
    struct pfl_strs train_set; /* in order of votes */
    struct pfl_strs members;   /* the same, sorted */
    /* Whose results count, sorted. Empty: the members'. Else what the ballots give since one of them came late or is void, where
     * somebody had ended the round by then and its members could not change any more. */
    struct pfl_strs authors;
    struct pfl_strs vouchers; /* who is or was a member: a late ballot may change the train set after somebody ended the round */
    bool given;               /* a neighbour told it: our ballots did not decide it */
    size_t n_counted;         /* ballots that decided it */
    struct pfl_book book;
    struct pfl_book partials;      /* overlapping ones: aggregates of some made for relaying */
    struct pfl_payload *aggregate; /* a reference: what this node ended the round with; NULL: not yet */
    /* References: what it ended with before it took the common result, latest first. Others count on it that who announced a result
     * has it: the common one may become that again. */
    struct pfl_payload *former[PFL_READY_DIGESTS_MAX - 1];
    pfl_ns done_at;
    bool done;
    bool settled; /* the common result is known, or was waited for in vain: the next round is built on what there is */
    bool closed;  /* nobody needs anything of it any more but its aggregate */
    struct pfl_payload *offered; /* a reference: an add_model that is not adopted (yet) */
    char *offered_by;            /* owned */
};
/** known: see struct pfl_round. */
struct pfl_round *pfl_round_new(int32_t round, const struct pfl_neighbours *known);
void pfl_round_free(struct pfl_round *r);

/* ---- its rows: round_rows.c ---- */

/** NULL where nothing is known of it. A row stays where it is until the round is closed or, where it has nothing in it, until its
 * ballots are dropped. */
struct pfl_round_peer *pfl_round_find(const struct pfl_round *r, const char *addr);
struct pfl_round_peer *pfl_round_get(struct pfl_round *r, const char *addr);
/** The number of its row, which is made where there is none. */
uint32_t pfl_round_number(struct pfl_round *r, const char *addr);
static inline struct pfl_round_peer *pfl_round_row(const struct pfl_round *r, uint32_t number)
{
    return &r->blocks[number / PFL_ROUND_BLOCK][number % PFL_ROUND_BLOCK];
}
/** The i-th of n_peers, in order of addresses. */
static inline struct pfl_round_peer *pfl_round_at(const struct pfl_round *r, size_t i)
{
    return pfl_round_row(r, r->order[i]);
}
void pfl_round_drop_rows(struct pfl_round *r);
/** Of those that have nothing in them. */
void pfl_round_drop_empty_rows(struct pfl_round *r);
void pfl_round_set_voted(struct pfl_round *r, struct pfl_round_peer *p, bool voted);
/** Made where it is not there yet. */
struct pfl_round_more *pfl_round_more(struct pfl_round *r, struct pfl_round_peer *p);
/** The same; NULL where there is none. */
const struct pfl_round_more *pfl_round_more_of(const struct pfl_round *r, const struct pfl_round_peer *p);
/** Where its signed vote is, or belongs. */
struct pfl_statement *pfl_round_said_vote(struct pfl_round *r, struct pfl_round_peer *p);
/** Its trainer's part: made where it is not there yet. */
struct pfl_trainer *pfl_round_trainer(struct pfl_round *r, struct pfl_round_peer *p);
/** The same; NULL where there is none. */
struct pfl_trainer *pfl_round_trainer_of(const struct pfl_round *r, const struct pfl_round_peer *p);
/** What it holds, never NULL. */
const struct pfl_strs *pfl_round_holds(const struct pfl_round *r, const struct pfl_round_peer *p);
/** models_ready; digest NULL: without one. False where it says nothing new. */
bool pfl_round_set_ready(struct pfl_round *r, struct pfl_round_peer *p, const uint8_t *digest, pfl_ns now);
/** Since when it is ready, which it is. */
pfl_ns pfl_round_ready_at(const struct pfl_round *r, const struct pfl_round_peer *p);
/** It is not ready any more, and has nothing of what it announced. What it computed it has said for good. */
void pfl_round_unset_ready(struct pfl_round *r, struct pfl_round_peer *p);
/** It says that it made this result itself. The first counts; false where it said so before. */
bool pfl_round_set_computed(struct pfl_round *r, struct pfl_round_peer *p, const uint8_t digest[PFL_DIGEST_LEN]);
void pfl_round_unset_computed(struct pfl_round *r, struct pfl_round_peer *p);
/** The digest of that; NULL: it is not known to have made one. */
const uint8_t *pfl_round_computed(const struct pfl_round *r, const struct pfl_round_peer *p);
/** Did it make this model itself? */
bool pfl_round_peer_computed(const struct pfl_round *r, const struct pfl_round_peer *p, const struct pfl_payload *model);
bool pfl_round_peer_announced(const struct pfl_round *r, const struct pfl_round_peer *p, const uint8_t digest[PFL_DIGEST_LEN]);
/** The latest; NULL where there is none. */
const uint8_t *pfl_round_peer_digest(const struct pfl_round *r, const struct pfl_round_peer *p);

/* ---- the round ---- */

/** The same for a whole round: its book, and what came early. */
bool pfl_round_drop(struct pfl_round *r, const char *who);
bool pfl_round_is_member(const struct pfl_round *r, const char *addr);
/** Those whose computed results count: see pfl_round_canonical. */
const struct pfl_strs *pfl_round_authors(const struct pfl_round *r);
void pfl_round_set_offer(struct pfl_round *r, struct pfl_payload *payload, const char *from); /* NULL: none */
/** Drops contributions of nodes that are no members (any more). */
void pfl_round_prune(struct pfl_round *r);
/** Some node that is or was a member (a live one or not) announced this digest. */
bool pfl_round_announced_by_member(const struct pfl_round *r, const uint8_t digest[PFL_DIGEST_LEN]);
/** Do these two say that they hold the same contributions, and any? */
bool pfl_round_same_contributors(const struct pfl_round *r, const char *a, const char *b);
/** A round's canonical result. */
struct pfl_canon {
    const struct pfl_round_peer *by; /* who announced it first, in order of addresses. NULL: nobody announced one */
    const uint8_t *digest;           /* borrowed until the next announcement */
    size_t computed;                 /* authors that computed it */
    size_t against;                  /* the most that computed another one which somebody living has */
};
/** What most authors computed, as long as a live node has it; of several the one with the lowest address among its authors. A
 * result that was only taken from another counts where nobody computed one: then it is what the author with the lowest address
 * announced last, and where no author announced any, what the live node with the lowest address did. Where the authors are not
 * known, everybody counts as one. Cost O(authors * (log nodes + results)). */
struct pfl_canon pfl_round_canonical(const struct pfl_round *r, bool (*live)(void *user, const char *addr), void *user);
/** This node has ended the round with that; a reference is taken, the one before is kept among the former. */
void pfl_round_set_aggregate(struct pfl_round *r, struct pfl_payload *aggregate);
/** What this node had before, with that digest; NULL. Borrowed. */
struct pfl_payload *pfl_round_former(const struct pfl_round *r, const uint8_t digest[PFL_DIGEST_LEN]);
/** Everybody has its result: lets go of what each node said of it. */
void pfl_round_close(struct pfl_round *r);
/** Lets go of the contributions, when nobody can need them any more. */
void pfl_round_drop_models(struct pfl_round *r);

/* ---- its ballots: round_ballots.c ---- */

/** Counts a ballot for good. Names and votes in turn, as pfl_vote_check found them to be right. TOO_BIG: more names than a round
 * can have; nothing is counted. */
enum pfl_rc pfl_round_count_ballot(struct pfl_round *r, const struct pfl_strs *args, struct pfl_err *err);
/** The same, and keeps it with p: it can be dropped, or asked for. */
enum pfl_rc pfl_round_set_ballot(struct pfl_round *r, struct pfl_round_peer *p, const struct pfl_strs *args, struct pfl_err *err);
/** Takes it out of the count. Nothing where none is kept. */
void pfl_round_drop_ballot(struct pfl_round *r, struct pfl_round_peer *p);
/** The same list again; empty where no ballot is kept. ret is deinited first. */
void pfl_round_ballot(const struct pfl_round *r, const struct pfl_round_peer *p, struct pfl_strs *ret);
/** The train set that all ballots give: see pfl_vote_rank. */
void pfl_round_tally(const struct pfl_round *r, size_t size, bool (*counts)(void *user, const char *name), void *user,
                     struct pfl_strs *ret);
/** Who has voted stays known, for whom does not: the round is done, its votes are counted. */
void pfl_round_drop_ballots(struct pfl_round *r);
void pfl_round_free_ballots(struct pfl_round *r); /* whose rows go */

#endif
