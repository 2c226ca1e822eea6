/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer may make a node do or hold behind its connections (those: rpc/limits.h), and why. */
#ifndef PFL_RUNTIME_LIMITS_H
#define PFL_RUNTIME_LIMITS_H

enum {
    /* A model may come with this much more: envelope, safetensors header, contributors. What a models' limit is made of otherwise:
       the learner's own layout. */
    PFL_WEIGHTS_SLACK = 1 << 20,
    PFL_CRL_SLACK = 64 << 10,
    /* Handshakes and goodbyes: an address and a Hello. */
    PFL_HAND_MAX = 64 << 10,
    /* Gossip that one neighbour hands over, at first and per second. In a federation of 1000 nodes a round is some 4000 messages,
       each of which costs a look at its hash; past it the call is answered RESOURCE_EXHAUSTED and our nodes send it again. */
    PFL_GOSSIP_BURST = 16384,
    PFL_GOSSIP_PER_S = 2000,
    /* Callers whose rate is remembered: a node has 64 neighbours at most. */
    PFL_GOSSIP_CALLERS_MAX = 256,
    /* Refusals that are logged and told one by one in a window; all are counted (status: refused), and their number is said. A
       flood of bad calls must fill no disk. */
    PFL_REFUSED_SAID_MAX = 200,
    /* One request on the control socket, its clients, and what one that does not read may leave unread. */
    PFL_CONTROL_LINE_MAX = 64 << 10,
    PFL_CONTROL_CLIENTS_MAX = 16,
    PFL_CONTROL_BACKLOG_MAX = 16 << 20,
};
/* That a caller is over its rate is said this often. */
#define PFL_GOSSIP_FLOOD_SAID (10 * PFL_SEC)
#define PFL_REFUSED_WINDOW    (10 * PFL_SEC)

#endif
