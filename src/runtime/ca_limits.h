/* SPDX-License-Identifier: Apache-2.0 */
/* Every limit of the CA's service, which strangers may call, and why it is what it is. */
#ifndef PFL_RUNTIME_CA_LIMITS_H
#define PFL_RUNTIME_CA_LIMITS_H

enum {
    /* Wrong tokens and request ids from one address (of IPv6 its /64): a person mistypes a few times. 256 random bits cannot be
       guessed at any rate; the limit is about work and noise. */
    PFL_CA_WRONG_BURST = 5,
    PFL_CA_WRONG_PER_MIN = 5,
    /* ... and from all together: past it nobody's token is looked at for a moment; renewals go on. */
    PFL_CA_WRONG_ALL_BURST = 500,
    PFL_CA_WRONG_ALL_PER_MIN = 500,
    /* Renewals of one member: nodes with certificates of minutes renew a few times a minute, and the register keeps every one. */
    PFL_CA_RENEWALS_BURST = 120,
    PFL_CA_RENEWALS_PER_MIN = 60,
    /* Addresses and members that are remembered; the one unheard of for longest makes room. */
    PFL_CA_RATE_KEYS_MAX = 4096,
    /* Refusals in the audit log, each with an entry of its own; the rest of a minute is one entry with their number. */
    PFL_CA_AUDIT_REFUSALS_PER_MIN = 20,

    PFL_CA_CONNECTIONS_MAX = 256, /* short calls of a few kilobytes */
    PFL_CA_CONNECTIONS_PER_IP_MAX = 32,
    PFL_CA_STREAMS_MAX = 16,
    /* Members that wait for a newer bundle: each holds a connection. Past either the answer comes at once, and they ask again by
       their own clock; half of the connections stay free for those who enrol. */
    PFL_CA_WAITING_MAX = 128,
    PFL_CA_WAITING_PER_IP_MAX = 16,
    PFL_CA_WAIT_MAX_S = 60,
    PFL_CA_HANDSHAKE_TIMEOUT_S = 10, /* over HTTP/1.1 the whole request */

    PFL_CA_LIFETIME_DEFAULT_S = 24 * 3600,
    PFL_CA_SERVICE_LIFETIME_S = 24 * 3600, /* of the service's own certificate, or as long as members' where that is less */
    PFL_CA_RETRY_AFTER_S = 2,              /* for those who wait for the operator */
    PFL_CA_EST_RETRY_AFTER_S = 5,
    PFL_CA_RETRY_S = 10,   /* where a fresh CRL or certificate of the service's own could not be made */
    PFL_CA_TICK_MS = 1000, /* how often the own certificate, the roots and the CRL are looked at */
};

#endif
