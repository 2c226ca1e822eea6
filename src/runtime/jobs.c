/* SPDX-License-Identifier: Apache-2.0 */
/* Heavy work, on libuv's worker threads: fit and evaluate (one at a time, in order: the learner's contract), aggregate, decode
 * and hash models. A job owns what it works on; its result comes back to the loop as an event. */
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "learning/p2pfl_payload.h"
#include "pki/digest.h"
#include "runtime/driver_impl.h"
#include "runtime/keeper.h"
#include "runtime/origins.h"

enum job_kind { JOB_INIT, JOB_FIT, JOB_EVALUATE, JOB_AGGREGATE, JOB_DECODE, JOB_SAVE };

struct pfl_job {
    uv_work_t work;
    struct pfl_job *next; /* in the learner's queue */
    struct pfl_driver *d;
    enum job_kind kind;
    bool on_learner;
    uint64_t id, seq, seed, call;
    unsigned epochs;
    struct pfl_payload *in;                 /* fit, evaluate, save, aggregate */
    struct pfl_msg *msg;                    /* decode */
    struct pfl_check check;                 /* the same: who signed it */
    json_t *fields;                         /* save */
    struct pfl_contribution *contributions; /* aggregate: owned, with references */
    size_t n_contributions;
    bool partial;
    struct pfl_payload *bases[PFL_DRIVER_BASES]; /* decode: what may be the base of a difference */
    double epsilon;                              /* fit: spent so far, with differential privacy */
    pfl_ns started;
    /* results */
    enum pfl_rc rc;
    struct pfl_err err;
    struct pfl_payload *out;
    struct pfl_metrics metrics;
    uint64_t n_samples;
};

static void job_free(struct pfl_job *j)
{
    pfl_payload_unref(j->in);
    pfl_payload_unref(j->out);
    pfl_msg_unref(j->msg);
    pfl_check_deinit(&j->check);
    for (size_t i = 0; i < j->n_contributions; i++)
        pfl_model_unref(j->contributions[i].model);
    free(j->contributions);
    json_decref(j->fields);
    for (size_t i = 0; i < PFL_DRIVER_BASES; i++)
        pfl_payload_unref(j->bases[i]);
    free(j);
}

/* ---- on a worker ---- */

static void sha256_parts(const struct pfl_bytes *parts, size_t n, uint8_t out[PFL_DIGEST_LEN])
{
    PFL_AUTO(pfl_sha256_freep) struct pfl_sha256 *sha = pfl_sha256_new();
    for (size_t i = 0; i < n; i++)
        pfl_sha256_add(sha, parts[i]);
    pfl_sha256_end(sha, out);
}

/* The payload of a model with its digest. Takes nothing, *ret is owned. */
static enum pfl_rc payload_of(struct pfl_model *model, struct pfl_payload **ret, struct pfl_err *err)
{
    struct pfl_payload *p = NULL;
    enum pfl_rc rc = pfl_payload_new(model, &p, err);
    if (rc != PFL_OK)
        return rc;
    const struct pfl_bytes parts[] = {pfl_buf_view(&p->head), pfl_bytes_of(model->data, model->layout->bytes)};
    sha256_parts(parts, PFL_ARRAY_LEN(parts), p->digest);
    p->has_digest = true;
    *ret = p;
    return PFL_OK;
}

/* What goes to others, and what this node counts itself: the model as they will have it. */
static enum pfl_rc compress(struct pfl_job *j, struct pfl_model *model)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *packed = NULL;
    PFL_AUTO(pfl_model_freep) struct pfl_model *theirs = NULL;
    enum pfl_rc rc = PFL_OK;
    if (!j->in->has_digest)
        return pfl_err_set(&j->err, PFL_STATE, "the round's model has no digest to compress against");
    if (j->d->ledger)
        rc = pfl_ledger_spend(j->d->ledger, &j->err);
    if (rc == PFL_OK)
        rc = pfl_compress(&j->d->compressor, j->in->model, j->in->digest, model, &packed, &theirs, &j->err);
    if (rc == PFL_OK)
        rc = pfl_model_check_finite(theirs, &j->err);
    if (rc == PFL_OK)
        rc = payload_of(theirs, &j->out, &j->err);
    if (rc != PFL_OK || packed->len >= pfl_payload_bytes(j->out))
        return rc;
    uint8_t digest[PFL_DIGEST_LEN];
    const struct pfl_bytes view = pfl_bytes_of(packed->data, packed->len);
    sha256_parts(&view, 1, digest);
    pfl_payload_set_packed(j->out, packed, view, digest);
    return PFL_OK;
}

static enum pfl_rc run_fit(struct pfl_job *j)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    struct pfl_fit_result r = {0};
    enum pfl_rc rc = j->d->ledger ? pfl_ledger_check(j->d->ledger, &j->err) : PFL_OK;
    if (rc == PFL_OK)
        rc = pfl_method_fit(&j->d->method, j->in->model, j->epochs, j->seed, &model, &r, &j->err);
    if (rc == PFL_OK)
        rc = pfl_model_check_finite(model, &j->err);
    if (rc == PFL_OK)
        rc = j->d->compressor.spec.n > 0 ? compress(j, model) : payload_of(model, &j->out, &j->err);
    if (j->d->ledger)
        j->epsilon = pfl_ledger_epsilon(j->d->ledger);
    j->metrics.loss = r.loss;
    j->n_samples = r.n_samples;
    return rc;
}

static enum pfl_rc run_init(struct pfl_job *j)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    enum pfl_rc rc = pfl_method_init_model(&j->d->method, &model, &j->err);
    return rc == PFL_OK ? payload_of(model, &j->out, &j->err) : rc;
}

static enum pfl_rc run_aggregate(struct pfl_job *j)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    enum pfl_rc rc = pfl_method_aggregate(&j->d->method, j->in ? j->in->model : NULL, j->partial, j->contributions,
                                          j->n_contributions, &model, &j->err);
    if (rc == PFL_OK)
        rc = pfl_model_check_finite(model, &j->err);
    return rc == PFL_OK ? payload_of(model, &j->out, &j->err) : rc;
}

/* As P2PFL's own nodes send it. */
static enum pfl_rc decode_pickle(struct pfl_job *j)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    struct pfl_layout *want = pfl_method_layout(&j->d->method, j->msg->cmd);
    enum pfl_rc rc = pfl_p2pfl_decode(j->msg->weights, want, pfl_p2pfl_inner_max(want), &model, NULL, &j->err);
    if (rc == PFL_OK)
        rc = pfl_model_check_finite(model, &j->err);
    return rc == PFL_OK ? payload_of(model, &j->out, &j->err) : rc;
}

static const struct pfl_model *base_of(void *user, const uint8_t *digest)
{
    const struct pfl_job *j = user;
    for (size_t i = 0; i < PFL_DRIVER_BASES; i++) {
        const struct pfl_payload *p = j->bases[i];
        if (p && p->has_digest && memcmp(p->digest, digest, PFL_DIGEST_LEN) == 0)
            return p->model;
    }
    return NULL;
}

/* What the signature covers as the model is the model. */
static enum pfl_rc check_stated(struct pfl_job *j)
{
    const struct pfl_msg *m = j->msg;
    if (!m->has_model_digest || memcmp(j->out->digest, m->model_digest, PFL_DIGEST_LEN) == 0)
        return PFL_OK;
    return pfl_err_set(&j->err, PFL_MALFORMED, "the model is not the one that the message states (model_digest)");
}

static enum pfl_rc decode_compressed(struct pfl_job *j)
{
    struct pfl_msg *m = j->msg;
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    size_t off = (size_t)(m->weights.data - m->blob->data);
    enum pfl_rc rc =
        pfl_decompress(m->blob, off, m->weights.len, pfl_method_layout(&j->d->method, m->cmd), base_of, j, &model, &j->err);
    if (rc == PFL_OK)
        rc = pfl_model_check_finite(model, &j->err);
    if (rc == PFL_OK)
        rc = payload_of(model, &j->out, &j->err);
    if (rc == PFL_OK && !m->has_model_digest)
        rc = pfl_err_set(&j->err, PFL_MALFORMED, "the message does not state which model this is, compressed");
    if (rc == PFL_OK)
        rc = check_stated(j);
    if (rc == PFL_OK)
        pfl_payload_set_packed(j->out, m->blob, m->weights, m->digest);
    return rc;
}

static enum pfl_rc run_decode(struct pfl_job *j)
{
    struct pfl_msg *m = j->msg;
    if (!m->codec && j->d->interop)
        return decode_pickle(j);
    bool compressed = pfl_streq(m->codec, "compressed") && pfl_streq(m->cmd, "partial_model");
    if (!compressed && !pfl_streq(m->codec, "safetensors"))
        return pfl_err_set(&j->err, PFL_UNSUPPORTED,
                           "model in codec '%s': only 'safetensors' is taken, and 'compressed' for contributions",
                           m->codec ? pfl_q(m->codec) : "pickle (none named)");
    if (!m->has_digest)
        return pfl_err_set(&j->err, PFL_MALFORMED, "model without a digest");
    uint8_t digest[PFL_DIGEST_LEN];
    sha256_parts(&m->weights, 1, digest);
    if (memcmp(digest, m->digest, sizeof(digest)) != 0)
        return pfl_err_set(&j->err, PFL_MALFORMED, "the model's bytes do not have the digest that the message states");
    if (compressed)
        return decode_compressed(j);
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    size_t off = (size_t)(m->weights.data - m->blob->data);
    struct pfl_layout *layout = pfl_method_layout(&j->d->method, m->cmd);
    enum pfl_rc rc = pfl_safetensors_decode(m->blob, off, m->weights.len, layout, &model, &j->err);
    if (rc == PFL_OK)
        rc = pfl_model_check_finite(model, &j->err);
    if (rc == PFL_OK)
        rc = payload_of(model, &j->out, &j->err);
    return rc == PFL_OK ? check_stated(j) : rc;
}

static enum pfl_rc run_save(struct pfl_job *j)
{
    PFL_AUTO(pfl_freep) char *models = pfl_fs_join(j->d->state_dir, "models");
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(models, "final.safetensors");
    PFL_AUTO(pfl_model_freep) struct pfl_model *params = NULL; /* what the rule remembers is of no use to others */
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = NULL;
    enum pfl_rc rc = pfl_method_fit_layout(j->in->model, j->d->method.params, &params, &j->err);
    if (rc == PFL_OK)
        rc = pfl_payload_new(params, &p, &j->err);
    if (rc != PFL_OK)
        return rc;
    const struct pfl_bytes parts[] = {pfl_buf_view(&p->head), pfl_bytes_of(params->data, params->layout->bytes)};
    return pfl_fs_write_atomic_parts(path, parts, PFL_ARRAY_LEN(parts), 0600, &j->err);
}

void pfl_job_fit_progress(void *driver, double done)
{
    struct pfl_driver *d = driver;
    double percent = done >= 1.0 ? 100.0 : done >= 0.0 ? 100.0 * done : 0.0; /* NaN: 0 */
    atomic_store(&d->fit_progress, 1 + (unsigned)percent);
}

static void on_work(uv_work_t *w)
{
    struct pfl_job *j = w->data;
    j->started = pfl_clock_mono();
    switch (j->kind) {
    case JOB_INIT:
        j->rc = run_init(j);
        break;
    case JOB_FIT:
        atomic_store(&j->d->fit_progress, 1);
        j->rc = run_fit(j);
        atomic_store(&j->d->fit_progress, 0);
        break;
    case JOB_EVALUATE:
        j->rc = pfl_method_evaluate(&j->d->method, j->in->model, &j->metrics, &j->err);
        break;
    case JOB_AGGREGATE:
        j->rc = run_aggregate(j);
        break;
    case JOB_DECODE:
        j->rc = run_decode(j);
        pfl_check_run(&j->check);
        break;
    case JOB_SAVE:
        j->rc = run_save(j);
        break;
    }
}

/* ---- on the loop ---- */

static void learner_next(struct pfl_driver *d);

static void post_result(struct pfl_job *j)
{
    struct pfl_driver *d = j->d;
    if (d->shutting_down && j->kind != JOB_SAVE)
        return;
    struct pfl_event ev = pfl_driver_event(PFL_EV_JOB);
    ev.id = j->id;
    ev.rc = j->rc;
    ev.text = j->rc == PFL_OK ? NULL : j->err.msg;
    ev.payload = j->rc == PFL_OK ? j->out : NULL;
    ev.metrics = j->metrics;
    ev.n_samples = j->n_samples;
    if (j->kind == JOB_SAVE) {
        if (j->rc != PFL_OK)
            pfl_error("%s: the final model was not saved: %s", d->name, j->err.msg);
        pfl_events_emit(d->events, "learning_finished", pfl_steal(&j->fields));
        pfl_keeper_go_on(d->keeper);
        return;
    }
    if (j->kind == JOB_FIT && d->ledger)
        pfl_events_emit(d->events, "privacy",
                        json_pack("{s:f, s:f, s:o}", "epsilon", j->epsilon, "delta", pfl_ledger_delta(d->ledger), "budget",
                                  pfl_ledger_budget(d->ledger) > 0 ? json_real(pfl_ledger_budget(d->ledger)) : json_null()));
    if (j->kind == JOB_INIT) {
        if (j->rc != PFL_OK) {
            pfl_error("%s: no initial model: %s", d->name, j->err.msg);
            pfl_driver_model_made(d);
            return;
        }
        ev.kind = PFL_EV_MODEL;
    }
    struct pfl_signer signer = {0};
    char why[PFL_ERR_MAX];
    if (j->kind == JOB_DECODE) {
        ev.kind = PFL_EV_MESSAGE;
        ev.msg = j->msg;
        ev.call = j->call;
        pfl_check_judge(d, &j->check, j->call, &ev, &signer, why);
    }
    pfl_driver_post(d, &ev);
    pfl_signer_deinit(&signer);
    if (j->kind == JOB_INIT)
        pfl_driver_model_made(d);
}

static void on_done(uv_work_t *w, int status)
{
    struct pfl_job *j = w->data;
    struct pfl_driver *d = j->d;
    (void)status; /* jobs are never uv_cancel()ed */
    d->jobs_running--;
    if (j->on_learner)
        d->learner_busy = false;
    if (j->on_learner && j->seq < d->cancel_before) {
        j->rc = PFL_CANCELED;
        pfl_err_set(&j->err, PFL_CANCELED, "canceled");
    }
    post_result(j);
    job_free(j);
    learner_next(d);
    pfl_driver_maybe_closed(d);
}

static void job_start(struct pfl_job *j)
{
    j->d->jobs_running++;
    j->work.data = j;
    int rc = uv_queue_work(j->d->loop, &j->work, on_work, on_done);
    PFL_ASSERT(rc == 0);
}

static void learner_next(struct pfl_driver *d)
{
    while (!d->learner_busy && d->learner_queue) {
        struct pfl_job *j = d->learner_queue;
        d->learner_queue = j->next;
        if (d->shutting_down || j->seq < d->cancel_before) {
            job_free(j);
            continue;
        }
        d->learner_busy = true;
        job_start(j);
    }
}

static struct pfl_job *job_new(struct pfl_driver *d, enum job_kind kind)
{
    struct pfl_job *j = pfl_xcalloc(1, sizeof(*j));
    j->d = d;
    j->kind = kind;
    j->seq = ++d->job_seq;
    return j;
}

static void learner_enqueue(struct pfl_job *j)
{
    struct pfl_job **p = &j->d->learner_queue;
    while (*p)
        p = &(*p)->next;
    *p = j;
    j->on_learner = true;
    learner_next(j->d);
}

void pfl_job_init_model(struct pfl_driver *d)
{
    learner_enqueue(job_new(d, JOB_INIT));
}

void pfl_job_learner(struct pfl_driver *d, const struct pfl_action *a)
{
    struct pfl_job *j = job_new(d, a->kind == PFL_ACT_FIT ? JOB_FIT : JOB_EVALUATE);
    j->id = a->id;
    j->in = pfl_payload_ref(a->payload);
    j->epochs = a->epochs;
    j->seed = a->seed;
    learner_enqueue(j);
}

void pfl_job_aggregate(struct pfl_driver *d, const struct pfl_action *a)
{
    struct pfl_job *j = job_new(d, JOB_AGGREGATE);
    j->id = a->id;
    j->in = a->payload ? pfl_payload_ref(a->payload) : NULL;
    j->partial = a->partial;
    j->n_contributions = a->n_in;
    j->contributions = pfl_xcalloc(a->n_in ? a->n_in : 1, sizeof(*j->contributions));
    for (size_t i = 0; i < a->n_in; i++) {
        j->contributions[i] = a->in[i];
        pfl_model_ref(a->in[i].model);
    }
    job_start(j);
}

void pfl_job_cancel(struct pfl_driver *d)
{
    d->cancel_before = d->job_seq + 1;
    if (d->learner_busy)
        d->learner.ops->interrupt(d->learner.self);
    learner_next(d);
}

void pfl_job_decode(struct pfl_driver *d, struct pfl_msg *msg, uint64_t call)
{
    struct pfl_job *j = job_new(d, JOB_DECODE);
    j->msg = pfl_msg_ref(msg);
    pfl_check_init(d, msg, &j->check);
    j->call = call;
    for (size_t i = 0; i < PFL_DRIVER_BASES; i++)
        j->bases[i] = d->bases[i] ? pfl_payload_ref(d->bases[i]) : NULL;
    job_start(j);
}

void pfl_job_save_final(struct pfl_driver *d, struct pfl_payload *payload, json_t *fields)
{
    if (!d->state_dir || !payload) {
        pfl_events_emit(d->events, "learning_finished", fields);
        return;
    }
    pfl_keeper_pause(d->keeper); /* killed before it is told, the node comes back before its end, and tells it then */
    struct pfl_job *j = job_new(d, JOB_SAVE);
    j->in = pfl_payload_ref(payload);
    j->fields = fields;
    job_start(j);
}
