/* SPDX-License-Identifier: Apache-2.0 */
/* What one message may hold. Each limit bounds the memory that a peer's message can cost before it means anything. */
#ifndef PFL_WIRE_LIMITS_H
#define PFL_WIRE_LIMITS_H

enum {
    PFL_WIRE_ADDRESS_MAX = 272,       /* a DNS name of 253, brackets, a port; a unix path of 107 */
    PFL_WIRE_CMD_MAX = 64,            /* the longest command has 17 bytes */
    PFL_WIRE_ARG_MAX = 1024,          /* an experiment's name, an address, a number */
    PFL_WIRE_ARGS_MAX = 8192,         /* votes: two per node of a federation of 4096 */
    PFL_WIRE_CONTRIBUTORS_MAX = 4096, /* the largest train set */
    PFL_WIRE_CODEC_MAX = 32,
    PFL_WIRE_HELLO_ITEMS_MAX = 16,
    PFL_WIRE_HELLO_ITEM_MAX = 64,
    PFL_WIRE_RESPONSE_MAX = 4096,      /* "true", or an error text */
    PFL_WIRE_CONTROL_MAX = 256 * 1024, /* a whole message without weights */
    PFL_WIRE_ORIGIN_CERTS_MAX = 3,     /* what pki verifies, without the root */
    PFL_WIRE_ORIGIN_CERT_MAX = 16 * 1024,
    PFL_WIRE_ORIGIN_SIGNATURE_MAX = 1024, /* of RSA 8192 */
    PFL_WIRE_EVIDENCE_MAX = 192 * 1024,   /* two votes of the largest network; leaves room for the reporter's own signature */
    PFL_WIRE_EXPERIMENT_MAX = 256,        /* 128 is the longest name that is begun; P2PFL's have no limit */
};

/* The CA service. Requests come from machines that have no certificate yet, so all of one is small. */
enum {
    PFL_WIRE_CA_TOKEN_MAX = 128,           /* 256 bits in base64url are 43 characters, and a word in front */
    PFL_WIRE_CA_REQUEST_ID_MAX = 128,      /* the same */
    PFL_WIRE_CA_CSR_MAX = 16 * 1024,       /* RSA 8192 with 64 names is below 6 KiB */
    PFL_WIRE_CA_REQUEST_MAX = 40 * 1024,   /* two of those, a token, and fields that are not known */
    PFL_WIRE_CA_CERT_MAX = 32 * 1024,      /* what pki reads */
    PFL_WIRE_CA_CHAIN_MAX = 4,             /* what pki verifies: leaf and intermediates */
    PFL_WIRE_CA_ROOTS_MAX = 8,             /* two are normal while a root is rolled over */
    PFL_WIRE_CA_CRLS_MAX = 8,              /* one per issuer */
    PFL_WIRE_CA_CRL_MAX = 4 * 1024 * 1024, /* about 100,000 revoked certificates */
    PFL_WIRE_CA_NAME_MAX = 64,             /* federation, node, role */
    PFL_WIRE_CA_SANS_MAX = 64,
    PFL_WIRE_CA_SAN_MAX = 264, /* "DNS:" and 253 bytes */
    PFL_WIRE_CA_SETTINGS_MAX = 64 * 1024,
    PFL_WIRE_CA_CONNECT_MAX = 64,
    PFL_WIRE_CA_ANSWER_MAX = 8 * 1024 * 1024, /* a whole answer: the largest CRL, and room for the one of the root that goes */
};

#endif
