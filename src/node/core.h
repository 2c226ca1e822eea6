/* SPDX-License-Identifier: Apache-2.0 */
/* The node's inside, shared by the files of this folder only.
 *
 * How a step works: the event's handler changes what is known (peers, ballots, contributions, announcements) and marks the node
 * dirty; then pfl_core_settle looks at all of it and does what is due now: moves the stage on, plans which models go to whom,
 * sends what waits. Nothing depends on the order in which the facts came in, so early, doubled and late messages need no cases
 * of their own. A condition that becomes true by time alone asks to be looked at again (pfl_core_wake). */
#ifndef PFL_NODE_CORE_H
#define PFL_NODE_CORE_H

#include "base/rng.h"
#include "mesh/heartbeat.h"
#include "mesh/neighbours.h"
#include "mesh/outbox.h"
#include "mesh/seen.h"
#include "mesh/spread.h"
#include "node/limits.h"
#include "node/node.h"
#include "node/round.h"

enum pfl_stage {
    PFL_STAGE_IDLE,
    PFL_STAGE_STARTING, /* knows of the experiment, has no initial model yet */
    PFL_STAGE_VOTING,
    PFL_STAGE_SYNCING,    /* the last round ended differently here; waits for its canonical result before it works on from it */
    PFL_STAGE_EVALUATING, /* member: before the fit. Everybody: after the last round */
    PFL_STAGE_TRAINING,   /* member: fits, and collects contributions */
    PFL_STAGE_AGGREGATING,
    PFL_STAGE_WAITING,   /* no member: for the round's aggregate */
    PFL_STAGE_FINISHING, /* after the last round: until all have the same result */
};

enum pfl_job_kind { PFL_JOB_NONE, PFL_JOB_EVALUATE, PFL_JOB_FIT, PFL_JOB_AGGREGATE, PFL_JOB_EVALUATE_LAST };

enum pfl_keep { PFL_KEEP_NOTHING, PFL_KEEP_SOON, PFL_KEEP_FIRST /* before what is sent */ };

/** A node that was lost to silence, and is dialled again now and then. */
struct pfl_lost {
    char *addr; /* owned */
    bool direct;
    unsigned tries;
    pfl_ns at; /* the next */
};

/** A node that fell silent, and the newest count of its beats: an older one that is still passed on does not bring it back. */
struct pfl_grave {
    char *addr; /* owned */
    uint64_t count;
    uint32_t digest; /* the digest of this node that is the first to tell of it; 0: none does */
    pfl_ns until;
};

/** Of a party that was accused, or accused others, in this experiment. */
struct pfl_party {
    char *id;         /* owned: its identity in words */
    char *source;     /* owned: the address in whose name it last accused wrongly; NULL: it never did */
    unsigned accused; /* addresses of its that are excluded by evidence */
    unsigned refused; /* evidence of its that proved nothing */
};
/** See evidence.c. */
struct pfl_evidence_book {
    struct pfl_party *parties; /* owned */
    size_t n_parties;
    struct pfl_scatter **bodies; /* owned, references: what newcomers are given */
    size_t n_bodies, bytes;
    bool against_us; /* somebody has proof against this node itself */
};

/** A neighbour was asked whether it hears `about`. */
struct pfl_asked {
    uint64_t id;
    char *about; /* owned */
};

/** A node that was evicted during the experiment, and why. */
struct pfl_gone {
    char *addr, *why; /* owned */
};

struct pfl_node {
    char *addr, *federation; /* owned */
    struct pfl_layout *layout;
    struct pfl_node_settings set;
    struct pfl_rng rng;
    uint64_t next_id;

    /* of the running step */
    pfl_ns now, wall;
    struct pfl_actions *out;
    bool dirty;
    pfl_ns wake_at;
    bool closing; /* said goodbye: nothing is done any more */

    struct pfl_strs barred; /* addresses of revoked certificates, sorted by time; see revoked.c */
    bool revoked;           /* its own certificate was revoked */

    /* see origin.c */
    struct pfl_strs excluded; /* who equivocated in this experiment */
    char *excluded_in;        /* owned: which one that is; it may still be to begin here. NULL: nobody is out */
    struct pfl_evidence_book evidence;
    struct pfl_strs past;           /* experiments that are over, oldest first */
    char *told_of;                  /* owned: the experiment that a neighbour says is running */
    char *early_init_of;            /* owned: the experiment that early_init was signed for */
    struct pfl_scatter *start_body; /* a reference: the start_learning that began the experiment, for newcomers */

    /* mesh */
    struct pfl_neighbours peers;
    struct pfl_heartbeat heartbeat;
    struct pfl_seen seen;
    struct pfl_flooded flooded;
    struct pfl_outbox outbox;
    uint64_t count;           /* own beats; 0: none yet */
    uint32_t digests;         /* the number of the next one: for 136 years, with one each second */
    struct pfl_grave *graves; /* owned, oldest first */
    size_t n_graves;
    struct pfl_asked *asked; /* owned */
    size_t n_asked;
    pfl_ns members_at;     /* not before it is there anything to do about links and silence; 0: look */
    struct pfl_lost *lost; /* owned */
    size_t n_lost;
    pfl_ns torn_until; /* a neighbour was lost: who falls silent now may only be cut off from us */
    struct pfl_spread spread;
    struct pfl_offers offers;
    uint64_t refused; /* messages and links, all of them */
    unsigned refused_notes;
    pfl_ns refused_window;

    /* the model it has now, and the initial one that came before start_learning */
    struct pfl_payload *model, *early_init;
    pfl_ns early_until;
    struct pfl_round *early_round; /* ballots for round 0 that came before start_learning */

    /* the experiment */
    bool learning;
    bool over;        /* it ended in order: its last rounds are still spread */
    char *experiment; /* owned; stays after the end */
    unsigned rounds, epochs, trainset_size, rounds_done;
    bool initialized; /* has the initial model */
    struct pfl_payload *initial;
    bool has_initial_digest; /* its starter named the initial model; an init_model that is another one is refused */
    uint8_t initial_digest[PFL_DIGEST_LEN];
    pfl_ns started_at;
    enum pfl_stage stage;
    pfl_ns stage_since, progress_at;
    size_t look_first; /* the known node that was waited for last: looked at first, see stage_vote.c, stage_end.c */
    int32_t round;
    struct pfl_round *kept[PFL_ROUNDS_KEPT];
    struct pfl_put_off {
        struct pfl_msg *msg; /* a reference */
        pfl_ns at;
    } * put_off; /* owned, oldest first; see join.c */
    size_t n_put_off;
    bool restored; /* it has taken up what it kept before it was started anew */
    int32_t ahead; /* a round that somebody showed to be in; see join.c */
    pfl_ns ahead_at;
    size_t ahead_denied;   /* neighbours asked since that are not */
    pfl_ns said_again_at;  /* when its last result was announced anew, for one who asked */
    uint64_t state_id;     /* of a question for a neighbour's state; 0: none */
    char *state_to;        /* owned: who was asked last */
    pfl_ns state_at;       /* not before */
    char *left;            /* owned: the experiment that was stopped; it is not joined again */
    size_t voters;         /* ballots that decided the last train set; 0: none yet */
    struct pfl_gone *gone; /* owned */
    size_t n_gone;

    /* jobs */
    enum pfl_job_kind job;
    uint64_t job_id;
    bool fit_ended;      /* with a contribution or without */
    uint64_t partial_id; /* AGGREGATE of some contributions for a relay; 0: none */
    struct pfl_strs partial_who;
    uint64_t partial_samples;
    int32_t partial_round;
    struct pfl_metrics metrics;

    /* what is to be kept, see durable.c */
    enum pfl_keep keep;
    uint64_t durable_seq; /* of the state that the next DURABLE action carries, or the last one carried */
    bool vital;           /* what is sent now does not wait for the disk */
    int32_t contributed;  /* the round that `contribution` is for; NULL: this node withdrew in it */
    struct pfl_payload *contribution;
    uint64_t contribution_samples;
};

struct pfl_incoming;

/* ---- durable.c ---- */
/** Own words of the round change: what is sent from here on in this step waits until they are on disk. */
void pfl_core_keep(struct pfl_node *n);
/** Worth keeping, but nothing waits for it. */
void pfl_core_keep_soon(struct pfl_node *n);
/** The own contribution to the running round; NULL: withdrawn. */
void pfl_core_keep_contribution(struct pfl_node *n, struct pfl_payload *p, uint64_t n_samples);
void pfl_core_forget_contribution(struct pfl_node *n);
/** The end of a step: the DURABLE action, where one is due. */
void pfl_core_keep_run(struct pfl_node *n);
void pfl_core_on_restore(struct pfl_node *n, const struct pfl_event *ev);
/** A member whose fit was done before it was started again: true, and it stands where it stood. */
bool pfl_core_take_up(struct pfl_node *n, struct pfl_round *r);

/* ---- actions.c ---- */
struct pfl_action *pfl_core_act(struct pfl_node *n, enum pfl_action_kind kind, const char *addr); /* addr copied, may be NULL */
/** Answers call unless it is 0. */
void pfl_core_reply(struct pfl_node *n, uint64_t call, const char *text, const char *error);
/** A note with the current round; the caller fills in more. addr copied, may be NULL. */
struct pfl_note *pfl_core_note(struct pfl_node *n, enum pfl_note_kind kind, const char *addr);
struct pfl_note *pfl_core_note_text(struct pfl_node *n, enum pfl_note_kind kind, const char *addr, const char *fmt, ...)
    PFL_PRINTF(4, 5);
void pfl_note_set_digest(struct pfl_note *note, const struct pfl_payload *p);
/** A REFUSED note, within the budget. */
void pfl_core_refused(struct pfl_node *n, const char *addr, const char *text);
uint64_t pfl_core_send(struct pfl_node *n, const char *addr, struct pfl_scatter *body, pfl_ns timeout);
/** How long a call with a model of our layout may take: the call timeout, and 1 s more per 4 MiB. */
pfl_ns pfl_core_bulk_timeout(const struct pfl_node *n);

/* ---- node.c ---- */
void pfl_core_wake(struct pfl_node *n, pfl_ns at);
/** A direct neighbour, known node, or this one. user is the node. */
bool pfl_core_alive(void *user, const char *addr);
/** Transport failures: the message may or may not have arrived. Everything else is an answer. */
bool pfl_core_is_outage(enum pfl_rc rc);

/* ---- flood.c: gossip ---- */
/** Floods a message of our own. Takes msg. */
void pfl_core_flood(struct pfl_node *n, struct pfl_msg *msg);
/** Own gossip with these arguments (NULL: none). */
void pfl_core_gossip(struct pfl_node *n, const char *cmd, int32_t round, const struct pfl_strs *args);
/** Passes a received gossip message on. by: the neighbour that sent it, where that is known. */
void pfl_core_forward(struct pfl_node *n, const struct pfl_msg *msg, const char *by);
/** Gossip that is known came once more: who sent it need not be given it. */
void pfl_core_came_again(struct pfl_node *n, const struct pfl_msg *m, const char *by);
/** Gives a new neighbour what was flooded lately. */
void pfl_core_replay(struct pfl_node *n, const struct pfl_peer *p);
/** Sends what is due again and, with lanes, what waits for its turn. */
void pfl_core_outbox_run(struct pfl_node *n, bool lanes);
pfl_ns pfl_core_outbox_deadline(const struct pfl_node *n);
/** Once per beat: what was flooded long ago is for no newcomer. */
void pfl_core_flood_age(struct pfl_node *n);
/** A SEND ended that was gossip; false where it was not. */
bool pfl_core_flood_sent(struct pfl_node *n, const struct pfl_event *ev);

/* ---- beats.c: signs of life ---- */
/** Tells each neighbour that we are there, and of whom else there was a new sign of life. */
void pfl_core_beat(struct pfl_node *n);
/** A plain beat that says nothing new, or that of a node whose beats come in digests, too: it is not flooded on. */
bool pfl_core_beat_counted(struct pfl_node *n, const struct pfl_msg *m);
enum pfl_rc pfl_core_cmd_beats(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err);
/** A digest arrived or was lost. */
void pfl_core_digest_sent(struct pfl_node *n, struct pfl_peer *p, uint64_t id, bool arrived);
/** It is evicted for its silence. tell: others should know at once. */
void pfl_core_bury(struct pfl_node *n, const struct pfl_peer *p, bool tell);
void pfl_core_beats_deinit(struct pfl_node *n);

/* ---- ask.c: is it gone, or only cut off from us? ---- */
/** p is silent. True: neighbours are asked about it, their answers are still to come. */
bool pfl_core_ask_around(struct pfl_node *n, struct pfl_peer *p);
bool pfl_core_asked_sent(struct pfl_node *n, const struct pfl_event *ev);
enum pfl_rc pfl_core_cmd_hear(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err);
void pfl_core_asked_deinit(struct pfl_node *n);

/* ---- links.c, heal.c: membership ---- */
void pfl_core_on_connect(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_on_cmd_disconnect(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_on_handshake(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_on_disconnect(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_on_link_up(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_on_link_down(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_shutdown(struct pfl_node *n);
void pfl_core_open(struct pfl_node *n, struct pfl_peer *p, bool handshake, uint64_t call);
/** A neighbour was lost by failure. */
void pfl_core_torn(struct pfl_node *n);
/** Dials a node that fell silent with the neighbour that is lost. */
void pfl_core_heal_run(struct pfl_node *n);
pfl_ns pfl_core_heal_deadline(const struct pfl_node *n);
/* ---- rejoin.c ---- */
/** It was lost to silence. direct: it was a neighbour. */
void pfl_core_lost(struct pfl_node *n, const char *addr, bool direct);
void pfl_core_lost_forget(struct pfl_node *n, const char *addr);
void pfl_core_lost_deinit(struct pfl_node *n);
/** Dials one of the lost whose turn it is. */
void pfl_core_rejoin_run(struct pfl_node *n);
pfl_ns pfl_core_rejoin_deadline(const struct pfl_node *n);

/** A neighbour's channel failed: it is dialled again until the timeout evicts it. */
void pfl_core_suspect(struct pfl_node *n, struct pfl_peer *p);
/** A message of this source arrived. introduce: it makes an unknown source known. NULL where the source stays unknown. */
struct pfl_peer *pfl_core_heard(struct pfl_node *n, const char *source, bool introduce);
/** Evicts the silent, dials the suspected. */
void pfl_core_links_run(struct pfl_node *n);
pfl_ns pfl_core_links_deadline(const struct pfl_node *n);

/** It is silent: it is not counted as alive any more, but dialled again now and then. tell: others should know at once. */
void pfl_core_evict(struct pfl_node *n, struct pfl_peer *p, const char *why, bool tell);
/** When silence evicts it. */
pfl_ns pfl_core_silence_ends(const struct pfl_node *n, const struct pfl_peer *p);
/** Ends a link for good, also one that is still dialled, with its note. */
void pfl_core_close_link(struct pfl_node *n, const char *addr, const char *why);
void pfl_core_forget_peer(struct pfl_node *n, struct pfl_peer *p, const char *why);

/* ---- revoked.c ---- */
void pfl_core_on_revoked(struct pfl_node *n, const struct pfl_event *ev);
bool pfl_core_barred(const struct pfl_node *n, const char *addr);
/** Drops its contribution to rounds that are not aggregated yet. why ends the sentence. */
void pfl_core_drop_contribution(struct pfl_node *n, const char *addr, const char *why);
/** Whoever holds the address now has shown a certificate that is good. */
void pfl_core_unbar(struct pfl_node *n, const char *addr);
/** May this message count? Not from a barred source, and not with the contribution of a barred one alone. NULL: it may. */
const char *pfl_core_barred_message(const struct pfl_node *n, const struct pfl_msg *m);

/* ---- origin.c: who may say what ---- */
/** AUTH: this message does not count, and why. Remembers what may be said once only; two that differ exclude their node. */
enum pfl_rc pfl_core_check_origin(struct pfl_node *n, const struct pfl_event *ev, struct pfl_err *err);
/** Is it signed for another experiment than the one that is known here? */
bool pfl_core_foreign(const struct pfl_node *n, const struct pfl_msg *m);
/** Is it signed for the experiment that this node has ended in order? Then there is nothing to join and to wait for. */
bool pfl_core_is_past(const struct pfl_node *n, const struct pfl_msg *m);
/** It said two things where only one is possible. */
bool pfl_core_excluded(const struct pfl_node *n, const char *addr);
/** Why this node's own certificate does not let its operator start or stop learning; NULL: it does. */
const char *pfl_core_own_right(const struct pfl_node *n, const struct pfl_event *ev);
/** Why an experiment like this is more than the policy here allows; NULL: it is not. */
const char *pfl_core_over_policy(const struct pfl_node *n, const struct pfl_learn_args *a);
/** An experiment begins: what came before and was signed for another one is dropped. */
void pfl_core_sift_early(struct pfl_node *n);
/** The message that started the experiment, for whoever comes late; body NULL: forget it. */
/** The experiment that start_learning began has this initial model, where the message names one. Lets go of an early other one. */
void pfl_core_name_initial(struct pfl_node *n, const struct pfl_msg *start);
/** Is it the initial model that the experiment's starter named? True where it named none. */
bool pfl_core_is_initial(const struct pfl_node *n, const struct pfl_payload *p);
void pfl_core_keep_start(struct pfl_node *n, struct pfl_scatter *body);
/** This experiment is over: its start is not believed again. */
void pfl_core_remember(struct pfl_node *n, const char *experiment);
/** Marks a message as known; false where it was. A message is known by its source and its hash: nobody can make one known before it
 * came by giving another its hash. */
bool pfl_core_seen_add(struct pfl_node *n, const struct pfl_msg *m);
/** A part of what it is known by. */
uint32_t pfl_core_tag(const struct pfl_node *n, const struct pfl_msg *m);

/** This node said two different things in this experiment: it is out, and the pair (taken) is kept. by: who told; NULL: found here.
 */
void pfl_core_exclude(struct pfl_node *n, const char *addr, struct pfl_statement said[2], const char *by);

/* ---- evidence.c: equivocation that others found ---- */
/** This node found the pair itself: everybody else is told. id: who signed it, in words. */
void pfl_core_accuse(struct pfl_node *n, const struct pfl_statement said[2], const char *id);
enum pfl_rc pfl_core_cmd_evidence(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err);
/** Evidence that nothing comes of: its node is out already, or its reporter has accused wrongly too often. */
bool pfl_core_evidence_idle(const struct pfl_node *n, const struct pfl_msg *m);
/** For newcomers. */
void pfl_core_keep_evidence(struct pfl_node *n, struct pfl_scatter *body);
/** Gives a neighbour what there is against those who are out. */
void pfl_core_hand_evidence(struct pfl_node *n, const struct pfl_peer *p);
/** Another experiment: nobody is out. */
void pfl_core_evidence_clear(struct pfl_node *n);
/** This experiment begins, or the first evidence of it comes: what there is of another one is over. */
void pfl_core_evidence_in(struct pfl_node *n, const char *experiment);

/* ---- interop.c: P2PFL's own nodes ---- */
/** Is, or may be, one of P2PFL's own nodes; never where interop is off. p NULL: nothing is known of it. */
bool pfl_core_plain(const struct pfl_node *n, const struct pfl_peer *p);
bool pfl_core_plain_addr(const struct pfl_node *n, const char *addr);
/** It answered a question with this Hello (NULL: the driver does not say), which tells what it is. True: one of P2PFL's. */
bool pfl_core_answered_plain(struct pfl_peer *p, const struct pfl_hello *hello);
/** Is what is wrong with this message kept from the caller? */
bool pfl_core_no_error(const struct pfl_node *n, const struct pfl_incoming *in, enum pfl_rc rc);
/** A partial model of one of them that is counted in part by now: nobody's fault. */
bool pfl_core_plain_overtaken(const struct pfl_node *n, const struct pfl_incoming *in, const struct pfl_round *r);
/** One of them spoke of this round: it has ended those before. trains: it knows the round's train set, too. */
void pfl_core_plain_progress(struct pfl_node *n, const struct pfl_incoming *in, bool trains);
/** All other members are P2PFL's own, have ended the round without what this node waits for, and one of them offers its result:
 * none of ours could give another one. */
bool pfl_core_plain_left_alone(const struct pfl_node *n, const struct pfl_round *r);
/** The offered model is the result of one of them that ended the round: it may stand for ours, which is rounding away from it.
 * Between our own nodes the canonical result is made common afterwards. */
bool pfl_core_plain_vouches(const struct pfl_node *n, const struct pfl_round *r);
/** From when on contributions of this round may be sent to `to`. */
pfl_ns pfl_core_plain_stagger(const struct pfl_node *n, const struct pfl_round *r, const char *to);
/** Sends m with the payload as P2PFL's pickle; the driver encodes it. The id. */
uint64_t pfl_core_send_pickled(struct pfl_node *n, const char *to, struct pfl_msg *m, struct pfl_payload *payload, pfl_ns timeout);
/** Asks those for the link again whose gossip stays away. */
void pfl_core_plain_run(struct pfl_node *n);
pfl_ns pfl_core_plain_deadline(const struct pfl_node *n);

/* ---- commands.c, models.c: messages ---- */
void pfl_core_on_message(struct pfl_node *n, const struct pfl_event *ev);
/** Carries out gossip that was put off; it was passed on when it came. */
void pfl_core_again(struct pfl_node *n, struct pfl_msg *m);
struct pfl_incoming {
    const struct pfl_event *ev;
    struct pfl_msg *msg;   /* borrowed */
    struct pfl_peer *peer; /* the source; NULL: unknown */
    const char *answer;    /* static; NULL: an empty response */
    char *text;            /* the same, owned */
    bool hello;            /* the answer says that this is one of our nodes */
};
/* Handlers of models.c. STATE means: not now, nobody's fault (answered, not noted). */
enum pfl_rc pfl_core_cmd_pre_send(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err);
enum pfl_rc pfl_core_cmd_init_model(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err);
enum pfl_rc pfl_core_cmd_partial_model(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err);
enum pfl_rc pfl_core_cmd_add_model(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err);

/* ---- state.c, join.c: catching up ---- */
enum pfl_rc pfl_core_cmd_state(struct pfl_node *n, struct pfl_incoming *in, struct pfl_err *err);
/** Gossip of a round that this node does not keep (yet): if it joins or jumps there soon, it is looked at again. Returns PFL_OK. */
enum pfl_rc pfl_core_put_off(struct pfl_node *n, struct pfl_incoming *in);
void pfl_core_put_off_clear(struct pfl_node *n);
/** This node is in another round: what was put off may be for that one. */
void pfl_core_look_again(struct pfl_node *n);
/** Somebody is in that round. */
void pfl_core_ahead(struct pfl_node *n, int32_t round);
/** Asks a neighbour where it is, if there is a reason to. */
void pfl_core_join_run(struct pfl_node *n);
bool pfl_core_state_sent(struct pfl_node *n, const struct pfl_event *ev);
/** A node that came late gets the model that its round began with; true: it did. */
bool pfl_core_take_begin(struct pfl_node *n);

/* ---- stages.c: the frame of an experiment ---- */
const char *pfl_stage_name(enum pfl_stage s);
void pfl_core_stage(struct pfl_node *n, enum pfl_stage s); /* with its note */
/** The record of a round; NULL where it is not kept. */
struct pfl_round *pfl_core_round(const struct pfl_node *n, int32_t round);
/** The same, made where it is within reach: the last two, the current and the next while learning. */
struct pfl_round *pfl_core_round_get(struct pfl_node *n, int32_t round);
void pfl_core_on_learn(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_on_stop(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_on_model(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_on_job(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_begin(struct pfl_node *n, const char *by, const struct pfl_learn_args *args);
void pfl_core_stop(struct pfl_node *n, const char *fmt, ...) PFL_PRINTF(2, 3); /* why, for the note */
/** The running experiment is about to be stopped by somebody's wish: it is not joined again. */
void pfl_core_leave(struct pfl_node *n);
void pfl_core_cancel_jobs(struct pfl_node *n);
void pfl_core_set_model(struct pfl_node *n, struct pfl_payload *p);
/** Names p where r is settled here and p computed another result than the one that counts; once. */
void pfl_core_note_result(struct pfl_node *n, struct pfl_round *r, struct pfl_round_peer *p);
/** This node made the result of r itself, of contributions. */
void pfl_core_computed(struct pfl_node *n, struct pfl_round *r, const struct pfl_payload *p);
/** The own row of a round says ready with this digest; tells everybody. */
void pfl_core_announce_ready(struct pfl_node *n, struct pfl_round *r);
/** The round ended here with this model. */
void pfl_core_round_done(struct pfl_node *n, struct pfl_round *r, struct pfl_payload *aggregate);
void pfl_core_adopt(struct pfl_node *n, struct pfl_round *r); /* the offered model becomes the round's result */
/** Moves the stage on while it can be. */
void pfl_core_advance(struct pfl_node *n);
pfl_ns pfl_core_stage_until(const struct pfl_node *n);
/** Whom or what the stage waits for; *ret gets names, the text says what of them ("its vote"). NULL: nothing. */
const char *pfl_core_waits_for(const struct pfl_node *n, struct pfl_strs *ret);
void pfl_core_gone(struct pfl_node *n, const char *addr, const char *why); /* remembers an eviction */
const char *pfl_core_gone_why(const struct pfl_node *n, const char *addr); /* NULL: was not evicted */

/* ---- stage_vote.c ---- */
void pfl_core_enter_vote(struct pfl_node *n, int32_t round);
bool pfl_core_advance_vote(struct pfl_node *n);
/** A ballot that came after the count (from a node that was thought dead, or slow) is counted, and one that is void since then is
 * not any more: all nodes know all ballots in the end, so all come to the same train set. Where somebody ended the round before,
 * nobody starts over, but it changes whose results count, until the common one is settled. */
void pfl_core_recount(struct pfl_node *n);
/** For the current round or the next. */
bool pfl_core_has_voted(const struct pfl_node *n, const char *addr);
/** Ballots that vote_quorum asks for. */
size_t pfl_core_votes_needed(const struct pfl_node *n);
void pfl_core_missing_votes(const struct pfl_node *n, struct pfl_strs *ret);

/* ---- stage_train.c ---- */
void pfl_core_enter_train(struct pfl_node *n);
bool pfl_core_advance_train(struct pfl_node *n);
/** A beat of a member says that it trains: that is progress, until fit_timeout. */
void pfl_core_fits(struct pfl_node *n, const struct pfl_peer *p);
void pfl_core_missing_contributions(const struct pfl_node *n, struct pfl_strs *ret);
void pfl_core_contribute(struct pfl_node *n, struct pfl_round *r, const char *from, const struct pfl_strs *who,
                         struct pfl_payload *payload, uint64_t n_samples);
/** The own contribution, made now or before a restart. */
void pfl_core_contribute_own(struct pfl_node *n, struct pfl_round *r, struct pfl_payload *payload, uint64_t n_samples);
void pfl_core_withdraw(struct pfl_node *n, struct pfl_round *r, const char *why);
void pfl_core_evaluated(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_fitted(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_aggregated(struct pfl_node *n, const struct pfl_event *ev);
/** Broadcasts and notes own metrics as those of `round`. */
void pfl_core_publish_metrics(struct pfl_node *n, int32_t round, const struct pfl_metrics *m);

/* ---- stage_end.c: waiting, syncing, finishing ---- */
void pfl_core_after_vote(struct pfl_node *n); /* the train set is known: sync if need be, then train or wait */
void pfl_core_after_round(struct pfl_node *n);
bool pfl_core_advance_sync(struct pfl_node *n);
bool pfl_core_advance_wait(struct pfl_node *n);
bool pfl_core_advance_finish(struct pfl_node *n);
void pfl_core_finished(struct pfl_node *n, const struct pfl_event *ev); /* the last evaluation ended */
void pfl_core_missing_ready(const struct pfl_node *n, struct pfl_strs *ret);
/** Where the common result is one that this node had before it took another: it is offered again, by this node itself. */
void pfl_core_recall(struct pfl_node *n, struct pfl_round *r);
/** Whoever takes part and lives has announced the round's common result. */
bool pfl_core_all_in_line(struct pfl_node *n, const struct pfl_round *r);
/** May the offered model stand for this unfinished round? */
bool pfl_core_adoptable(struct pfl_node *n, const struct pfl_round *r);
struct pfl_canon pfl_core_canonical(const struct pfl_node *n, const struct pfl_round *r);
/** Is the model that is offered for this round the canonical one? */
bool pfl_core_canonical_offered(const struct pfl_node *n, const struct pfl_round *r);
/** Nothing is built here on the result of r, the round before this one: another one may take its place. */
bool pfl_core_replaceable(const struct pfl_node *n, const struct pfl_round *r);
/** Until when a member is waited for that neither trains nor says that it contributed, when others have ended the round: it does
 * not know that it is a member, or waits for a result as others do. PFL_NEVER: it shows that it works. */
pfl_ns pfl_core_shows_until(const struct pfl_node *n, const struct pfl_round *r, const struct pfl_peer *p);
/** Will the canonical result stay what it is, whatever those members announce that may still compute one? False where there is
 *  none. */
bool pfl_core_decided(struct pfl_node *n, const struct pfl_round *r);
/** No other member is still to announce a result of r that it computed. */
bool pfl_core_all_ended(const struct pfl_node *n, const struct pfl_round *r);
/** Does this round's result here differ from the canonical one? */
bool pfl_core_off_canon(const struct pfl_node *n, const struct pfl_round *r);

/* ---- pushes.c: models to others ---- */
void pfl_core_plan_pushes(struct pfl_node *n);
void pfl_core_run_pushes(struct pfl_node *n);
bool pfl_core_push_sent(struct pfl_node *n, const struct pfl_event *ev);
void pfl_core_partial_made(struct pfl_node *n, const struct pfl_event *ev);

#endif
