/* SPDX-License-Identifier: Apache-2.0 */
/* nanopb callbacks for strings, lists of strings and large bytes, with limits. Used by the codecs of this layer only. */
#ifndef PFL_WIRE_PB_H
#define PFL_WIRE_PB_H

#include <pb_decode.h>
#include <pb_encode.h>

#include "base/err.h"
#include "base/str.h"

/** One decoding: what is read, and where the first failure is written. nanopb hands a callback the bytes of whatever type came
 *  for its field, a number from a temporary buffer of its own; the callbacks take only what lies in `in`. */
struct pfl_pb_input {
    struct pfl_bytes in;
    struct pfl_err *err; /* not NULL */
};

/** Where a string goes, and how long it may be. */
struct pfl_pb_str {
    const char *field; /* for the error: "source" */
    size_t max;        /* bytes */
    char *value;       /* owned; NULL where the field did not come; the last one counts */
    const struct pfl_pb_input *input;
};
struct pfl_pb_strs {
    const char *field;
    size_t max, max_n;
    struct pfl_strs value;
    const struct pfl_pb_input *input;
};
struct pfl_pb_view {
    const char *field;
    struct pfl_bytes value; /* into the decoded buffer; the last one counts */
    const struct pfl_pb_input *input;
};
/** A list of bytes, as views into the decoded buffer. */
struct pfl_pb_views {
    const char *field;
    size_t max, max_n;
    struct pfl_bytes *value; /* owned: the array */
    size_t n;
    const struct pfl_pb_input *input;
};
/* Each sets the callback for decoding; the struct must outlive the decoding. */
void pfl_pb_want_str(pb_callback_t *cb, struct pfl_pb_str *s);
void pfl_pb_want_strs(pb_callback_t *cb, struct pfl_pb_strs *s);
void pfl_pb_want_view(pb_callback_t *cb, struct pfl_pb_view *v);
void pfl_pb_want_views(pb_callback_t *cb, struct pfl_pb_views *l);
/* For encoding: NULL or empty is left out, as proto3 does. Borrowed until the encoding is done. */
void pfl_pb_put_str(pb_callback_t *cb, const char *s);
void pfl_pb_put_strs(pb_callback_t *cb, const struct pfl_strs *l);
void pfl_pb_put_bytes(pb_callback_t *cb, const struct pfl_buf *b);

/** Decodes into msg; MALFORMED with nanopb's reason, or the callbacks' own error where one was set. */
enum pfl_rc pfl_pb_decode(const struct pfl_pb_input *input, const pb_msgdesc_t *fields, void *msg,
                          const char *what) PFL_WARN_UNUSED;
/** Appends the encoding to out. TOO_BIG where it does not fit. */
enum pfl_rc pfl_pb_encode(struct pfl_buf *out, const pb_msgdesc_t *fields, const void *msg, const char *what,
                          struct pfl_err *err) PFL_WARN_UNUSED;

#endif
