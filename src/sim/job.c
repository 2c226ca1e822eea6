/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: the learner is called at once, its result comes after a virtual while. Models, and what the runtime's jobs check about
 * them. */
#include <stdlib.h>
#include <string.h>

#include "sim/impl.h"

/* ---- models ---- */

static uint64_t mix64(uint64_t h)
{
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    return h ^ (h >> 32);
}

/* Four lanes of 64 bits. Tells models apart; is no cryptographic hash, and nobody here is out to break it. */
static void fast_digest(const struct pfl_bytes *parts, size_t n, uint8_t out[PFL_DIGEST_LEN])
{
    uint64_t h[4] = {1, 2, 3, 4};
    size_t count = 0;
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < parts[k].len; i += 8) {
            uint64_t v = 0;
            memcpy(&v, parts[k].data + i, parts[k].len - i < 8 ? parts[k].len - i : 8);
            h[count & 3] = mix64(h[count & 3] ^ v) + count;
            count++;
        }
    }
    for (unsigned i = 0; i < 8; i++)
        h[i & 3] = mix64(h[i & 3] ^ (h[(i + 1) & 3] + count));
    memcpy(out, h, PFL_DIGEST_LEN);
}

struct pfl_payload *pfl_sim_payload(struct pfl_sim *s, struct pfl_model *m)
{
    struct pfl_payload *p = NULL;
    enum pfl_rc rc = pfl_payload_new(m, &p, NULL);
    PFL_ASSERT(rc == PFL_OK);
    const struct pfl_bytes parts[] = {pfl_buf_view(&p->head), pfl_bytes_of(m->data, m->layout->bytes)};
    (s->o.digest ? s->o.digest : fast_digest)(parts, PFL_ARRAY_LEN(parts), p->digest);
    p->has_digest = true;
    return p;
}

struct pfl_payload *pfl_sim_decode(struct pfl_sim *s, const struct pfl_msg *m, struct pfl_err *err)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    uint8_t digest[PFL_DIGEST_LEN];
    if (!pfl_streq(m->codec, "safetensors") || !m->has_digest) {
        pfl_err_set(err, PFL_UNSUPPORTED, "a model without digest, or in another codec than safetensors");
        return NULL;
    }
    (s->o.digest ? s->o.digest : fast_digest)(&m->weights, 1, digest);
    size_t off = (size_t)(m->weights.data - m->blob->data);
    struct pfl_layout *layout = pfl_method_layout(&s->nodes[0].method, m->cmd);
    if (pfl_safetensors_decode(m->blob, off, m->weights.len, layout, &model, err) != PFL_OK)
        return NULL;
    return pfl_model_check_finite(model, err) == PFL_OK ? pfl_sim_payload(s, model) : NULL;
}

/* ---- jobs ---- */

static pfl_ns duration(struct pfl_sim *s, unsigned i, enum pfl_action_kind kind)
{
    struct pfl_sim_node *x = &s->nodes[i];
    pfl_ns lo = kind == PFL_ACT_FIT ? s->sc->fit_min : PFL_MS;
    pfl_ns hi = kind == PFL_ACT_FIT ? s->sc->fit_max : 20 * PFL_MS;
    pfl_ns t = lo + (pfl_ns)pfl_rng_below(&x->rng, (uint64_t)(hi - lo) + 1);
    return kind == PFL_ACT_AGGREGATE ? t : (pfl_ns)((double)t * x->slow_learner);
}

static void failed(struct pfl_sim_item *it, enum pfl_rc rc, const char *text)
{
    it->rc = rc;
    pfl_sim_set_text(it, text, false);
}

/* A call of a learner, and what came of it. It may run on another thread, which touches nothing else. */
struct pfl_sim_work {
    struct pfl_method *method; /* the node's, with its learner */
    struct pfl_compressor *compressor;
    struct pfl_payload *start; /* a reference */
    bool is_fit;
    unsigned node, epochs;
    uint64_t seed;
    void *handle; /* NULL: it has run */
    enum pfl_rc rc;
    struct pfl_err err;
    struct pfl_model *model; /* owned */
    struct pfl_fit_result fitted;
    struct pfl_metrics metrics;
};

/* The model as it is after it was compressed and decompressed. */
static enum pfl_rc compress(struct pfl_sim_work *w)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *packed = NULL;
    struct pfl_model *theirs = NULL;
    if (w->compressor->spec.n == 0)
        return PFL_OK;
    enum pfl_rc rc = pfl_compress(w->compressor, w->start->model, w->start->digest, w->model, &packed, &theirs, &w->err);
    if (rc == PFL_OK) {
        pfl_model_unref(w->model);
        w->model = theirs;
    }
    return rc;
}

static void work_run(void *arg)
{
    struct pfl_sim_work *w = arg;
    if (w->is_fit)
        w->rc = pfl_method_fit(w->method, w->start->model, w->epochs, w->seed, &w->model, &w->fitted, &w->err);
    if (w->is_fit && w->rc == PFL_OK)
        w->rc = compress(w);
    if (!w->is_fit)
        w->rc = pfl_method_evaluate(w->method, w->start->model, &w->metrics, &w->err);
}

static void work_wait(struct pfl_sim *s, struct pfl_sim_work *w)
{
    if (w && w->handle)
        s->o.wait(s->o.user, w->handle);
    if (w)
        w->handle = NULL;
}

static void work_start(struct pfl_sim *s, unsigned i, const struct pfl_action *a, struct pfl_sim_item *it)
{
    struct pfl_sim_node *x = &s->nodes[i];
    struct pfl_sim_work *w = pfl_xcalloc(1, sizeof(*w));
    work_wait(s, x->work); /* a canceled one may still run: a learner is called by one thread at a time */
    *w = (struct pfl_sim_work){.method = &x->method,
                               .compressor = &x->compressor,
                               .start = pfl_payload_ref(a->payload),
                               .is_fit = a->kind == PFL_ACT_FIT,
                               .node = i,
                               .epochs = a->epochs,
                               .seed = a->seed};
    it->outcome->work = x->work = w;
    if (s->o.start)
        w->handle = s->o.start(s->o.user, work_run, w);
    else
        work_run(w);
}

void pfl_sim_work_end(struct pfl_sim *s, struct pfl_sim_item *it)
{
    struct pfl_sim_outcome *o = it->outcome;
    struct pfl_sim_work *w = o ? pfl_steal(&o->work) : NULL;
    if (!w)
        return;
    work_wait(s, w);
    if (s->nodes[w->node].work == w)
        s->nodes[w->node].work = NULL;
    o->metrics = w->metrics;
    if (w->rc != PFL_OK) {
        failed(it, w->rc, w->err.msg);
    } else if (w->is_fit) {
        o->payload = pfl_sim_payload(s, w->model);
        o->metrics.loss = w->fitted.loss;
        o->n_samples = w->fitted.n_samples;
        s->nodes[w->node].samples = w->fitted.n_samples;
    }
    pfl_model_unref(w->model);
    pfl_payload_unref(w->start);
    free(w);
}

static void aggregate(struct pfl_sim *s, unsigned i, const struct pfl_action *a, struct pfl_sim_item *it)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *m = NULL;
    struct pfl_err err = {0};
    enum pfl_rc rc = pfl_method_aggregate(&s->nodes[i].method, a->payload->model, a->partial, a->in, a->n_in, &m, &err);
    if (rc == PFL_OK)
        it->outcome->payload = pfl_sim_payload(s, m);
    else
        failed(it, rc, err.msg);
}

void pfl_sim_job(struct pfl_sim *s, unsigned i, const struct pfl_action *a)
{
    struct pfl_sim_node *x = &s->nodes[i];
    struct pfl_sim_item *it = pfl_sim_post_event(s, s->now + duration(s, i, a->kind), PFL_EV_JOB, i, NULL);
    it->id = a->id;
    it->outcome = pfl_xcalloc(1, sizeof(*it->outcome));
    *it->outcome = (struct pfl_sim_outcome){.epoch = x->job_epoch, .cancels = a->kind != PFL_ACT_AGGREGATE};
    x->jobs++;
    if (a->kind == PFL_ACT_FIT && x->failing > 0)
        failed(it, PFL_IO, "the learner failed");
    else if (a->kind == PFL_ACT_FIT || a->kind == PFL_ACT_EVALUATE)
        work_start(s, i, a, it);
    else
        aggregate(s, i, a, it);
}
