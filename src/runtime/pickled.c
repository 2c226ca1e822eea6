/* SPDX-License-Identifier: Apache-2.0 */
/* Models on their way to P2PFL's own nodes. A payload is pickled once, on a worker, and keeps the result for everybody else whom it
 * goes to; who asks while it is under way waits for the same job. */
#include "runtime/pickled.h"

#include <stdlib.h>

#include "runtime/driver_impl.h"

struct waiting {
    struct waiting *next;
    char *addr; /* owned */
    uint64_t id;
    struct pfl_msg *msg; /* a reference */
    pfl_ns timeout;
};

struct pfl_pickling {
    struct pfl_pickling *next;
    uv_work_t work;
    struct pfl_driver *d;
    struct pfl_payload *payload; /* a reference */
    struct waiting *waiting;
    struct pfl_blob *out;
    enum pfl_rc rc;
    struct pfl_err err;
};

struct pfl_p2pfl_options pfl_pickled_options(const struct pfl_interop_compression *c)
{
    struct pfl_p2pfl_options o = {.level = c->level};
    if (c->compressor)
        o.compressor = pfl_streq(c->compressor, "zlib") ? PFL_P2PFL_ZLIB : PFL_P2PFL_LZMA;
    for (size_t i = 0; i < c->n; i++) {
        const struct pfl_interop_technique *t = &c->techniques[i];
        o.techniques[o.n++] = (struct pfl_p2pfl_technique){
            .kind = pfl_streq(t->name, "topk")       ? PFL_P2PFL_TOPK
                    : pfl_streq(t->name, "low_rank") ? PFL_P2PFL_LOW_RANK
                                                     : PFL_P2PFL_PTQ,
            .k = t->k,
            .threshold = t->threshold,
            .dtype = pfl_streq(t->dtype, "int8")    ? PFL_I8
                     : pfl_streq(t->dtype, "uint8") ? PFL_U8
                     : pfl_streq(t->dtype, "int16") ? PFL_I16
                                                    : PFL_F16,
            .asymmetric = t->asymmetric,
            .per_channel = t->per_channel,
            .axis = t->axis,
        };
    }
    return o;
}

static void waiting_free(struct waiting *w)
{
    pfl_msg_unref(w->msg);
    free(w->addr);
    free(w);
}

static void post_failed(struct pfl_driver *d, uint64_t id, const struct pfl_err *err)
{
    struct pfl_event ev = pfl_driver_event(PFL_EV_SENT);
    ev.id = id;
    ev.rc = err->rc;
    ev.text = err->msg;
    if (!d->shutting_down)
        pfl_driver_post(d, &ev);
}

/* The message with the pickle of its payload in it. */
static void send_now(struct pfl_driver *d, const struct waiting *w, const struct pfl_payload *payload)
{
    PFL_AUTO(pfl_scatter_freep) struct pfl_scatter *body = NULL;
    struct pfl_err err = {0};
    struct pfl_msg *m = w->msg;
    if (!m->blob)
        m->blob = pfl_blob_ref(payload->pickled);
    m->weights = pfl_bytes_of(m->blob->data, m->blob->len);
    if (pfl_msg_encode(m, NULL, &body, &err) != PFL_OK)
        post_failed(d, w->id, &err);
    else
        pfl_link_send(d, w->addr, w->id, body, w->timeout);
}

static void on_work(uv_work_t *work)
{
    struct pfl_pickling *p = work->data;
    const struct pfl_model *model = p->payload->model;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf buf = {.limit = pfl_p2pfl_encoded_max(model->layout)};
    p->rc = pfl_p2pfl_encode(model, &p->d->pickle, &buf, &p->err);
    if (p->rc != PFL_OK)
        return;
    p->out = pfl_blob_copy(buf.data, buf.len);
    if (!p->out)
        p->rc = pfl_err_set(&p->err, PFL_TOO_BIG, "no memory for a pickle of %zu bytes", buf.len);
}

static void on_done(uv_work_t *work, int status)
{
    struct pfl_pickling *p = work->data;
    struct pfl_driver *d = p->d;
    (void)status;
    for (struct pfl_pickling **at = &d->picklings; *at; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            break;
        }
    }
    d->jobs_running--;
    p->payload->pickled = pfl_steal(&p->out);
    while (p->waiting) {
        struct waiting *w = p->waiting;
        p->waiting = w->next;
        if (d->shutting_down)
            ;
        else if (p->rc == PFL_OK)
            send_now(d, w, p->payload);
        else
            post_failed(d, w->id, &p->err);
        waiting_free(w);
    }
    pfl_payload_unref(p->payload);
    free(p);
    pfl_driver_maybe_closed(d);
}

static struct pfl_pickling *pickling_of(struct pfl_driver *d, struct pfl_payload *payload)
{
    for (struct pfl_pickling *p = d->picklings; p; p = p->next) {
        if (p->payload == payload)
            return p;
    }
    struct pfl_pickling *p = pfl_xcalloc(1, sizeof(*p));
    p->d = d;
    p->payload = pfl_payload_ref(payload);
    p->work.data = p;
    p->next = d->picklings;
    d->picklings = p;
    d->jobs_running++;
    int rc = uv_queue_work(d->loop, &p->work, on_work, on_done);
    PFL_ASSERT(rc == 0);
    return p;
}

void pfl_pickled_send(struct pfl_driver *d, const struct pfl_action *a)
{
    struct waiting *w = pfl_xcalloc(1, sizeof(*w));
    *w = (struct waiting){.addr = pfl_xstrdup(a->addr), .id = a->id, .msg = pfl_msg_ref(a->msg), .timeout = a->timeout};
    if (a->payload->pickled) {
        send_now(d, w, a->payload);
        waiting_free(w);
        return;
    }
    struct pfl_pickling *p = pickling_of(d, a->payload);
    struct waiting **last = &p->waiting;
    while (*last)
        last = &(*last)->next;
    *last = w;
}
