/* SPDX-License-Identifier: Apache-2.0 */
/* Who wrote a message: RootMessage's field 100, and the bytes that its signature covers (docs/PROTOCOL.md, "Origin"). Making and
 * checking signatures is not this layer's: here are forms only, and nothing of a key.
 *
 * The signed text, "p2pfl-origin-v1": everything of a message that means something, in a fixed order, each text and each run of
 * bytes behind its length as u32, all integers big-endian. The ttl is not in it, because relays lower it. A message with a
 * model_digest has it at the end, then one with a contribution that (36 bytes: the model's digest and the samples as i32), then one
 * that is `computed` a byte of 1, then evidence as it is packed; one without has nothing there. Two messages have the same text
 * only if they say the same. */
#ifndef PFL_WIRE_ORIGIN_H
#define PFL_WIRE_ORIGIN_H

#include "wire/limits.h"
#include "wire/msg.h"

/** Immutable once shared, refcounted. */
struct pfl_origin {
    atomic_uint refs;
    size_t n_certs;                                  /* leaf first; 1 at least in one that was decoded */
    struct pfl_buf certs[PFL_WIRE_ORIGIN_CERTS_MAX]; /* DER */
    struct pfl_buf signature;
    int64_t sent_at_ms; /* since the epoch, by the author's clock */
    char *experiment;   /* owned; "": none */
};
struct pfl_origin *pfl_origin_new(const char *experiment, int64_t sent_at_ms); /* without certificates and signature */
struct pfl_origin *pfl_origin_ref(struct pfl_origin *o);                       /* accepts NULL */
void pfl_origin_unref(struct pfl_origin *o);                                   /* accepts NULL */
PFL_DEFINE_FREEP(origin, struct pfl_origin, pfl_origin_unref)

/** Appends the signed text of m as written in that experiment at that time. m is gossip, direct, or weights with a digest: that
 *  stands for the weights, and whoever checks a signature has to have checked it. MALFORMED for weights without one. */
enum pfl_rc pfl_origin_text(const struct pfl_msg *m, const char *experiment, int64_t sent_at_ms, struct pfl_buf *out,
                            struct pfl_err *err) PFL_WARN_UNUSED;

/** What a signed text says, for those who have nothing but the text: evidence. */
struct pfl_origin_said {
    char *source, *cmd, *experiment; /* owned */
    int32_t round;
    int64_t sent_at_ms;
    enum pfl_msg_kind kind;
    size_t content_at; /* from here on it is what was said; gossip's hash, which names the message, is not part of it */
    size_t content_end;
    uint8_t model[PFL_DIGEST_LEN]; /* weights: of the model that they are, compressed or not; content_at is then behind codec and
                                      digest. Gossip that announces a contribution: of that */
    bool announces;                /* gossip with its author's contribution */
    bool computed;                 /* gossip with a result (`model`) that its author made itself */
    uint32_t n_samples;            /* where there is a model: of it */
    char *sole;                    /* owned: the only argument or contributor; NULL where there are none or several */
};
/** Reads a signed text strictly: every byte must belong to something. MALFORMED. */
enum pfl_rc pfl_origin_said_parse(struct pfl_bytes text, struct pfl_origin_said *ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_origin_said_deinit(struct pfl_origin_said *s);
/** What a node may say once only for a round: its vote, its own contribution (sent or announced), and the result that it computed.
 *  It may hold more and more, take others' results, and pass on others' models. */
enum pfl_once { PFL_ONCE_NOT, PFL_ONCE_VOTE, PFL_ONCE_CONTRIBUTION, PFL_ONCE_RESULT };
enum pfl_once pfl_origin_once(const struct pfl_origin_said *s);
const char *pfl_once_name(enum pfl_once what); /* "votes", "contributions", "results" */
/** Is it equivocation: two statements of one kind that is said once only, of one node for one round of one experiment, that
 *  differ? False for whatever else differs or is about different things. */
bool pfl_origin_contradict(struct pfl_bytes a, struct pfl_bytes b);

/** Appends the field (tag, length, Origin) as it stands in a RootMessage. TOO_BIG. */
enum pfl_rc pfl_origin_encode(const struct pfl_origin *o, struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
/** Puts it behind a body whose to_sign waits for it; the body is then complete. TOO_BIG, and the body stays as it was. */
enum pfl_rc pfl_scatter_put_origin(struct pfl_scatter *s, const struct pfl_origin *o, struct pfl_err *err) PFL_WARN_UNUSED;

/** A signed text with its signature: what somebody said, which can be shown to others. */
struct pfl_statement {
    struct pfl_buf text;
    struct pfl_origin *origin; /* a reference; NULL: nothing was said */
};
void pfl_statement_deinit(struct pfl_statement *s);
void pfl_statement_copy(struct pfl_statement *ret, const struct pfl_statement *s);
/** Of a received message with an origin. False, and empty, for one without. */
bool pfl_statement_of(const struct pfl_msg *m, struct pfl_statement *ret);
/** Evidence as it travels in a message: of each of the two statements its text, the number of its certificates (u32), these, leaf
 *  first, and the signature; each run of bytes behind its length as u32, all integers big-endian. TOO_BIG, and *out is not changed.
 */
enum pfl_rc pfl_statements_pack(const struct pfl_statement said[2], struct pfl_buf *out, struct pfl_err *err) PFL_WARN_UNUSED;
/** Reads it strictly; whether it proves anything is another matter. MALFORMED, and nothing is to be freed. */
enum pfl_rc pfl_statements_unpack(struct pfl_bytes in, struct pfl_statement ret[2], struct pfl_err *err) PFL_WARN_UNUSED;

#endif
