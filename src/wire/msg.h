/* SPDX-License-Identifier: Apache-2.0 */
/* Messages as plain structs, and their codec. Field numbers are those of P2PFL's node.proto; ours begin at 100.
 *
 * Decoding keeps large bytes (weights) as a view into the received blob. Encoding gives a scatter list: head, payload parts,
 * tail; nothing is joined. Limits stand in wire/limits.h; a message over one is TOO_BIG or MALFORMED, never cut. */
#ifndef PFL_WIRE_MSG_H
#define PFL_WIRE_MSG_H

#include "base/bytes.h"
#include "base/str.h"

enum { PFL_DIGEST_LEN = 32 };

enum pfl_msg_kind { PFL_MSG_NONE, PFL_MSG_GOSSIP, PFL_MSG_DIRECT, PFL_MSG_WEIGHTS };

/** What a node of ours says of itself. */
struct pfl_hello {
    bool present; /* false: a P2PFL node */
    uint32_t version;
    struct pfl_strs codecs, features;
    char *federation; /* owned or NULL */
};
void pfl_hello_deinit(struct pfl_hello *h);

struct pfl_origin; /* wire/origin.h */

/** Where in its bytes a decoded message's gossip part and its ttl are: what changes when it is passed on. */
struct pfl_gossip_at {
    size_t tag, begin, end; /* of the part: its tag, its content */
    size_t ttl, ttl_end;    /* of the field; the same where there is none: it would be 0 */
};
/** One RootMessage. All strings and lists owned; refcounted so that it can wait and be forwarded without a copy. */
struct pfl_msg {
    atomic_uint refs;
    char *source;
    int32_t round; /* -1: none */
    char *cmd;
    enum pfl_msg_kind kind;
    int32_t ttl;              /* gossip */
    int64_t hash;             /* gossip */
    struct pfl_strs args;     /* gossip, direct */
    struct pfl_bytes weights; /* weights: view into blob */
    struct pfl_strs contributors;
    int32_t num_samples;
    char *codec; /* NULL: pickle */
    bool has_digest, has_model_digest, has_contribution;
    uint8_t digest[PFL_DIGEST_LEN];       /* of weights */
    uint8_t model_digest[PFL_DIGEST_LEN]; /* of the round's aggregate; of what a compressed contribution is */
    uint8_t contribution[PFL_DIGEST_LEN]; /* models_aggregated: the model that its author contributes to the round */
    int32_t contribution_samples;
    struct pfl_buf evidence;        /* evidence: two statements, packed (wire/origin.h); empty: none */
    bool computed;                  /* models_ready: its author made the aggregate itself, from contributions */
    struct pfl_blob *blob;          /* what it was decoded from (a reference), or NULL for one made here */
    struct pfl_gossip_at gossip_at; /* in blob; gossip */
    struct pfl_origin *origin;      /* who wrote it, not checked (a reference), or NULL: it does not say */
    char *
        sign_for; /* one made here that its sender is to sign: the experiment it belongs to, "" for none. Owned; NULL: not signed */
};
struct pfl_msg *pfl_msg_new(const char *source, int32_t round, const char *cmd, enum pfl_msg_kind kind); /* copied */
struct pfl_msg *pfl_msg_ref(struct pfl_msg *m);
void pfl_msg_unref(struct pfl_msg *m);
PFL_DEFINE_FREEP(msg, struct pfl_msg, pfl_msg_unref)

/** Decodes a RootMessage; takes a reference to blob. MALFORMED, TOO_BIG, UNSUPPORTED with the field's name. A gossip part or a ttl
 *  that comes more than once (which protobuf would merge, and no peer sends) is MALFORMED: what counts here can be passed on. */
enum pfl_rc pfl_msg_decode(struct pfl_blob *blob, struct pfl_msg **ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** Bytes to send: parts in order, kept alive by what the struct holds. Refcounted: one encoding may go to many peers. */
struct pfl_scatter {
    atomic_uint refs;
    uint16_t n, cap;         /* of parts */
    size_t total;            /* bytes of all parts */
    struct pfl_owned *own;   /* owned: bytes that were copied for it */
    struct pfl_msg *to_sign; /* a reference: what this says, while its signature is still to be made; see wire/origin.h */
    struct pfl_blob *blob;   /* a reference or NULL */
    void *keep;              /* anything else the parts point into (a model), released with keep_free */
    void (*keep_free)(void *);
    struct pfl_bytes parts[];
};
enum { PFL_SCATTER_PARTS = 5 }; /* head, at most two of weights, tail, origin */
struct pfl_scatter *pfl_scatter_ref(struct pfl_scatter *s);
void pfl_scatter_unref(struct pfl_scatter *s);
PFL_DEFINE_FREEP(scatter, struct pfl_scatter, pfl_scatter_unref)
/** Empty, with room for so many parts; for encoders. Gossip that is passed on is many small ones at once: they have no room to
 * spare. */
struct pfl_scatter *pfl_scatter_new(size_t parts);
/** Adds a part (an empty one is left out). What it points into must be kept by blob or keep. */
void pfl_scatter_add(struct pfl_scatter *s, struct pfl_bytes part);
/** Adds a copy of these bytes. */
void pfl_scatter_add_copy(struct pfl_scatter *s, struct pfl_bytes part);
/** One part, copied. */
struct pfl_scatter *pfl_scatter_of(const void *data, size_t len);

/** Encodes m. For weights made here, `payload` gives the bytes of the field (n parts, kept alive by `keep`); for decoded
 *  messages pass NULL and the view is used. Byte-compatible with P2PFL's encoder (field order, default omission, round -1 kept).
 *  A message with an origin goes out with it; of one with sign_for the scatter remembers what is to be signed. */
struct pfl_payload;
enum pfl_rc pfl_msg_encode(const struct pfl_msg *m, const struct pfl_payload *payload, struct pfl_scatter **ret,
                           struct pfl_err *err) PFL_WARN_UNUSED;

/** A received gossip message as it came, with another ttl: unknown fields survive. Nothing is copied: it keeps m->blob, which must
 *  be there. */
enum pfl_rc pfl_msg_forward(const struct pfl_msg *m, int32_t ttl, struct pfl_scatter **ret, struct pfl_err *err) PFL_WARN_UNUSED;

/** The same of its bytes, without decoding all of them again. MALFORMED where they were none of a gossip message. */
enum pfl_rc pfl_blob_forward(struct pfl_blob *blob, int32_t ttl, struct pfl_scatter **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Do the bytes of a decoded message name that source? */
bool pfl_blob_is_from(const struct pfl_blob *blob, const char *source);

/** HandShakeRequest {addr, hello}. hello NULL: not sent. */
enum pfl_rc pfl_handshake_encode(const char *addr, const struct pfl_hello *hello, struct pfl_scatter **ret,
                                 struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_handshake_decode(struct pfl_bytes in, char **ret_addr, struct pfl_hello *ret_hello,
                                 struct pfl_err *err) PFL_WARN_UNUSED;

/** ResponseMessage; response and error NULL where absent. Decoded strings are owned by the caller. */
enum pfl_rc pfl_response_encode(const char *response, const char *error, const struct pfl_hello *hello, struct pfl_scatter **ret,
                                struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_response_decode(struct pfl_bytes in, char **ret_response, char **ret_error, struct pfl_hello *ret_hello,
                                struct pfl_err *err) PFL_WARN_UNUSED;

#endif
