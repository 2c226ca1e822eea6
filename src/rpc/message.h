/* SPDX-License-Identifier: Apache-2.0 */
/* One gRPC message on its way in or out: five bytes of prefix (compressed flag, length) and the content. */
#ifndef PFL_RPC_MESSAGE_H
#define PFL_RPC_MESSAGE_H

#include "rpc/limits.h"
#include "rpc/rpc.h"

/** Assembles messages from DATA frames of any size. Zero-initialised. */
struct pfl_msg_in {
    uint8_t prefix[PFL_RPC_PREFIX_LEN];
    size_t prefix_len;
    struct pfl_blob *blob; /* owned; NULL until the prefix is complete and begin() was called */
    size_t got;            /* bytes in blob */
};
enum pfl_msg_state {
    PFL_MSG_MORE,   /* all input is used, the message is not complete */
    PFL_MSG_PREFIX, /* the prefix is complete: check flag and length, then begin() */
    PFL_MSG_DONE,   /* the message is complete: take() it */
};
/** Takes from *in until something is to be decided. */
enum pfl_msg_state pfl_msg_in_feed(struct pfl_msg_in *m, struct pfl_bytes *in);
uint8_t pfl_msg_in_flag(const struct pfl_msg_in *m);
size_t pfl_msg_in_len(const struct pfl_msg_in *m);
bool pfl_msg_in_begin(struct pfl_msg_in *m);            /* allocates; false where memory is gone */
struct pfl_blob *pfl_msg_in_take(struct pfl_msg_in *m); /* owned by the caller; ready for the next message */
bool pfl_msg_in_partial(const struct pfl_msg_in *m);    /* some bytes of a message are in */
void pfl_msg_in_deinit(struct pfl_msg_in *m);

/** A message to send: a scatter list with a cursor. Refcounted, since the frame being written may outlive its call. */
struct pfl_msg_out;
/** Takes over the body (its parts array is copied; the bytes stay the owner's until release is called). body NULL: an empty
 * message. NULL where the message is past gRPC's 4 GiB: the body is released. */
struct pfl_msg_out *pfl_msg_out_new(const struct pfl_rpc_body *body);
struct pfl_msg_out *pfl_msg_out_ref(struct pfl_msg_out *m);
void pfl_msg_out_unref(struct pfl_msg_out *m); /* accepts NULL; the last one releases the body */
size_t pfl_msg_out_unclaimed(const struct pfl_msg_out *m);
void pfl_msg_out_claim(struct pfl_msg_out *m, size_t len);      /* len bytes belong to a frame from now on */
struct pfl_bytes pfl_msg_out_peek(const struct pfl_msg_out *m); /* the bytes at the cursor that lie together */
void pfl_msg_out_advance(struct pfl_msg_out *m, size_t len);    /* at most what peek gave */
/** The same message from its start with a cursor of its own, for a second try; takes over the caller's reference of m. */
struct pfl_msg_out *pfl_msg_out_again(struct pfl_msg_out *m);

#endif
