/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge to nanopb. A buffer stream's state is its read position, which is what makes a view of a field possible. */
#include "wire/pb.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The rest of the stream as a view, consumed. False where it is not a part of the input: then the field came as a number, and what
 * the stream reads is a buffer that is gone after the callback. */
static bool take(pb_istream_t *s, const struct pfl_pb_input *input, const char *field, struct pfl_bytes *ret)
{
    struct pfl_bytes v = pfl_bytes_of(s->state, s->bytes_left);
    uintptr_t from = (uintptr_t)input->in.data, at = (uintptr_t)v.data;
    if (at < from || at - from > input->in.len || v.len > input->in.len - (at - from)) {
        pfl_err_set(input->err, PFL_MALFORMED, "%s is a number where bytes are needed", field);
        return false;
    }
    *ret = v;
    return pb_read(s, NULL, v.len);
}

static bool check_text(struct pfl_bytes v, const char *field, size_t max, struct pfl_err *err)
{
    if (v.len > max)
        pfl_err_set(err, PFL_TOO_BIG, "%s is %zu bytes, the limit is %zu", field, v.len, max);
    else if (v.len > 0 && memchr(v.data, 0, v.len))
        pfl_err_set(err, PFL_MALFORMED, "%s has a NUL byte in it", field);
    else if (!pfl_utf8_valid(v.data, v.len))
        pfl_err_set(err, PFL_MALFORMED, "%s is not UTF-8", field);
    else
        return true;
    return false;
}

static bool on_str(pb_istream_t *s, const pb_field_t *f, void **arg)
{
    struct pfl_pb_str *w = *arg;
    (void)f;
    struct pfl_bytes v;
    if (!take(s, w->input, w->field, &v) || !check_text(v, w->field, w->max, w->input->err))
        return false;
    free(w->value);
    w->value = pfl_xstrndup(v.len ? (const char *)v.data : "", v.len);
    return true;
}

static bool on_strs(pb_istream_t *s, const pb_field_t *f, void **arg)
{
    struct pfl_pb_strs *w = *arg;
    (void)f;
    struct pfl_bytes v;
    if (!take(s, w->input, w->field, &v) || !check_text(v, w->field, w->max, w->input->err))
        return false;
    if (w->value.n == w->max_n) {
        pfl_err_set(w->input->err, PFL_TOO_BIG, "%s has more than %zu items", w->field, w->max_n);
        return false;
    }
    pfl_strs_addn(&w->value, v.len ? (const char *)v.data : "", v.len);
    return true;
}

static bool on_view(pb_istream_t *s, const pb_field_t *f, void **arg)
{
    struct pfl_pb_view *w = *arg;
    (void)f;
    return take(s, w->input, w->field, &w->value);
}

static bool on_views(pb_istream_t *s, const pb_field_t *f, void **arg)
{
    struct pfl_pb_views *w = *arg;
    (void)f;
    struct pfl_bytes v;
    if (!take(s, w->input, w->field, &v))
        return false;
    if (v.len > w->max) {
        pfl_err_set(w->input->err, PFL_TOO_BIG, "%s is %zu bytes, the limit is %zu", w->field, v.len, w->max);
        return false;
    }
    if (w->n == w->max_n) {
        pfl_err_set(w->input->err, PFL_TOO_BIG, "%s has more than %zu items", w->field, w->max_n);
        return false;
    }
    w->value = pfl_xrealloc(w->value, (w->n + 1) * sizeof *w->value);
    w->value[w->n++] = v;
    return true;
}

void pfl_pb_want_str(pb_callback_t *cb, struct pfl_pb_str *s)
{
    cb->funcs.decode = on_str;
    cb->arg = s;
}

void pfl_pb_want_strs(pb_callback_t *cb, struct pfl_pb_strs *s)
{
    cb->funcs.decode = on_strs;
    cb->arg = s;
}

void pfl_pb_want_view(pb_callback_t *cb, struct pfl_pb_view *v)
{
    cb->funcs.decode = on_view;
    cb->arg = v;
}

void pfl_pb_want_views(pb_callback_t *cb, struct pfl_pb_views *l)
{
    cb->funcs.decode = on_views;
    cb->arg = l;
}

static bool put_one(pb_ostream_t *s, const pb_field_t *f, const char *text)
{
    return pb_encode_tag_for_field(s, f) && pb_encode_string(s, (const pb_byte_t *)text, strlen(text));
}

static bool put_str(pb_ostream_t *s, const pb_field_t *f, void *const *arg)
{
    const char *text = *arg;
    return !text || text[0] == '\0' || put_one(s, f, text);
}

static bool put_strs(pb_ostream_t *s, const pb_field_t *f, void *const *arg)
{
    const struct pfl_strs *l = *arg;
    for (size_t i = 0; i < l->n; i++) {
        if (!put_one(s, f, l->items[i]))
            return false;
    }
    return true;
}

static bool put_bytes(pb_ostream_t *s, const pb_field_t *f, void *const *arg)
{
    const struct pfl_buf *b = *arg;
    return b->len == 0 || (pb_encode_tag_for_field(s, f) && pb_encode_string(s, b->data, b->len));
}

void pfl_pb_put_str(pb_callback_t *cb, const char *s)
{
    cb->funcs.encode = put_str;
    cb->arg = (void *)(uintptr_t)s;
}

void pfl_pb_put_strs(pb_callback_t *cb, const struct pfl_strs *l)
{
    cb->funcs.encode = put_strs;
    cb->arg = (void *)(uintptr_t)l;
}

void pfl_pb_put_bytes(pb_callback_t *cb, const struct pfl_buf *b)
{
    cb->funcs.encode = put_bytes;
    cb->arg = (void *)(uintptr_t)b;
}

enum pfl_rc pfl_pb_decode(const struct pfl_pb_input *input, const pb_msgdesc_t *fields, void *msg, const char *what)
{
    struct pfl_err *err = input->err;
    pfl_err_clear(err);
    pb_istream_t s = pb_istream_from_buffer(input->in.data, input->in.len);
    if (pb_decode(&s, fields, msg))
        return PFL_OK;
    if (err->rc != PFL_OK)
        return pfl_err_wrap(err, "%s", what);
    return pfl_err_set(err, PFL_MALFORMED, "%s: not a valid Protocol Buffers message: %s", what, PB_GET_ERROR(&s));
}

static bool buf_write(pb_ostream_t *s, const pb_byte_t *data, size_t len)
{
    return pfl_buf_append(s->state, data, len);
}

enum pfl_rc pfl_pb_encode(struct pfl_buf *out, const pb_msgdesc_t *fields, const void *msg, const char *what, struct pfl_err *err)
{
    pb_ostream_t s = {.callback = buf_write, .state = out, .max_size = SIZE_MAX};
    if (pb_encode(&s, fields, msg))
        return PFL_OK;
    return pfl_err_set(err, PFL_TOO_BIG, "%s: cannot be encoded: %s", what, PB_GET_ERROR(&s));
}
