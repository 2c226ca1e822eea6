/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a received message are copied once, from the decrypted record into the blob that the application gets; bytes of a sent
 * one are never copied but for small frames. */
#include "rpc/message.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* ---- in ---- */

static size_t take(uint8_t *dst, size_t want, struct pfl_bytes *in)
{
    size_t n = want < in->len ? want : in->len;
    if (n > 0)
        memcpy(dst, in->data, n);
    *in = pfl_bytes_sub(*in, n, in->len - n);
    return n;
}

enum pfl_msg_state pfl_msg_in_feed(struct pfl_msg_in *m, struct pfl_bytes *in)
{
    if (!m->blob) {
        if (in->len == 0)
            return PFL_MSG_MORE;
        m->prefix_len += take(m->prefix + m->prefix_len, sizeof m->prefix - m->prefix_len, in);
        return m->prefix_len == sizeof m->prefix ? PFL_MSG_PREFIX : PFL_MSG_MORE;
    }
    m->got += take(m->blob->data + m->got, m->blob->len - m->got, in);
    return m->got == m->blob->len ? PFL_MSG_DONE : PFL_MSG_MORE;
}

uint8_t pfl_msg_in_flag(const struct pfl_msg_in *m)
{
    return m->prefix[0];
}

size_t pfl_msg_in_len(const struct pfl_msg_in *m)
{
    return (size_t)m->prefix[1] << 24 | (size_t)m->prefix[2] << 16 | (size_t)m->prefix[3] << 8 | m->prefix[4];
}

bool pfl_msg_in_begin(struct pfl_msg_in *m)
{
    m->blob = pfl_blob_new(pfl_msg_in_len(m));
    m->got = 0;
    return m->blob != NULL;
}

struct pfl_blob *pfl_msg_in_take(struct pfl_msg_in *m)
{
    m->prefix_len = 0;
    return pfl_steal(&m->blob);
}

bool pfl_msg_in_partial(const struct pfl_msg_in *m)
{
    return m->prefix_len > 0;
}

void pfl_msg_in_deinit(struct pfl_msg_in *m)
{
    pfl_blob_unref(m->blob);
    *m = (struct pfl_msg_in){0};
}

/* ---- out ---- */

struct pfl_msg_out {
    unsigned refs;
    uint8_t prefix[PFL_RPC_PREFIX_LEN];
    size_t total, unclaimed;
    size_t part, off; /* the cursor */
    void (*release)(void *owner);
    void *owner;
    size_t n;
    struct pfl_bytes parts[]; /* n of them, the prefix first */
};

static bool body_len(const struct pfl_rpc_body *body, size_t *ret)
{
    size_t sum = 0;
    for (size_t i = 0; body && i < body->n; i++)
        if (!pfl_size_add(sum, body->parts[i].len, &sum))
            return false;
    *ret = sum;
    return sum <= UINT32_MAX;
}

struct pfl_msg_out *pfl_msg_out_new(const struct pfl_rpc_body *body)
{
    size_t len = 0, n_body = body ? body->n : 0;
    if (!body_len(body, &len)) {
        if (body->release)
            body->release(body->owner);
        return NULL;
    }
    struct pfl_msg_out *m = pfl_xcalloc(1, sizeof *m + (n_body + 1) * sizeof m->parts[0]);
    m->refs = 1;
    for (int i = 0; i < 4; i++)
        m->prefix[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    m->parts[0] = pfl_bytes_of(m->prefix, sizeof m->prefix);
    m->n = 1;
    for (size_t i = 0; i < n_body; i++)
        if (body->parts[i].len > 0)
            m->parts[m->n++] = body->parts[i];
    m->total = len + sizeof m->prefix;
    m->unclaimed = m->total;
    if (body) {
        m->release = body->release;
        m->owner = body->owner;
    }
    return m;
}

struct pfl_msg_out *pfl_msg_out_ref(struct pfl_msg_out *m)
{
    m->refs++;
    return m;
}

void pfl_msg_out_unref(struct pfl_msg_out *m)
{
    if (!m || --m->refs > 0)
        return;
    if (m->release)
        m->release(m->owner);
    free(m);
}

size_t pfl_msg_out_unclaimed(const struct pfl_msg_out *m)
{
    return m->unclaimed;
}

void pfl_msg_out_claim(struct pfl_msg_out *m, size_t len)
{
    PFL_ASSERT(len <= m->unclaimed);
    m->unclaimed -= len;
}

struct pfl_bytes pfl_msg_out_peek(const struct pfl_msg_out *m)
{
    if (m->part >= m->n)
        return (struct pfl_bytes){0};
    return pfl_bytes_sub(m->parts[m->part], m->off, m->parts[m->part].len - m->off);
}

void pfl_msg_out_advance(struct pfl_msg_out *m, size_t len)
{
    m->off += len;
    if (m->part < m->n && m->off == m->parts[m->part].len) {
        m->part++;
        m->off = 0;
    }
}

static void unref_first(void *owner)
{
    pfl_msg_out_unref(owner);
}

/* A frame of the first try may be half written on a connection that is ending: its cursor stays alone. */
struct pfl_msg_out *pfl_msg_out_again(struct pfl_msg_out *m)
{
    const struct pfl_rpc_body body = {.parts = m->parts + 1, .n = m->n - 1, .release = unref_first, .owner = m};
    return pfl_msg_out_new(&body);
}
