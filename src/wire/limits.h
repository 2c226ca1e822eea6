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
};

#endif
