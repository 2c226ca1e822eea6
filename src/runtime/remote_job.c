/* SPDX-License-Identifier: Apache-2.0 */
/* One job as calls: SetParameters, Fit or Evaluate with WaitProgress beside it, GetParameters. Each beat of the learner's, and each
 * answer, puts the limit of silence off. */
#include <math.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "runtime/remote_impl.h"

enum {
    ASK_EVERY_MS = 200, /* at most so often is a learner asked for news, whatever it answers */
    ASK_WAIT_S = 30,    /* how long it may keep the question when it has none */
};
/* A call may wait so long for a learner that is being started again; where it is longer, the round goes on without. */
static const pfl_ns PATIENCE = 2 * PFL_SEC;

static void finish_with(struct pfl_remote *r, enum pfl_rc rc, const char *fmt, ...) PFL_PRINTF(3, 4);
static void finish_with(struct pfl_remote *r, enum pfl_rc rc, const char *fmt, ...)
{
    struct pfl_err err = {.rc = rc};
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(err.msg, sizeof(err.msg), fmt, args);
    va_end(args);
    pfl_remote_finish(r, rc, &err);
}

static const char *doing(const struct pfl_remote *r)
{
    static const char *const texts[] = {"start", "initial parameters", "fit", "evaluation"};
    return texts[r->current->kind];
}

static void on_silence(uv_timer_t *t)
{
    struct pfl_remote *r = t->data;
    if (r->current)
        pfl_remote_fail(r, false, PFL_TIMEOUT, "gave no sign of life for %.1f s in its %s (learner.silence_timeout)",
                        (double)r->silence_timeout / (double)PFL_SEC, doing(r));
}

static void put_off_silence(struct pfl_remote *r)
{
    pfl_remote_timer(&r->t_limit, on_silence, r->silence_timeout);
}

/* Is the job to go on behind an answer? What the learner itself refuses costs the job, not the session. */
static bool goes_on(struct pfl_remote *r, const struct pfl_rpc_status *status, const char *call)
{
    if (!r->current)
        return false;
    if (r->canceled) {
        finish_with(r, PFL_CANCELED, "canceled");
        return false;
    }
    put_off_silence(r);
    if (status->code == PFL_GRPC_OK)
        return true;
    finish_with(r, PFL_IO, "failed in %s: %s: %s", call, pfl_grpc_code_name(status->code), pfl_q(status->message));
    return false;
}

static void ask(struct pfl_remote *r, const char *path, struct pfl_buf *request, enum pfl_rc rc, const struct pfl_err *err,
                pfl_remote_answer done)
{
    if (rc == PFL_OK)
        pfl_remote_call(r, path, request, 0, done);
    else
        finish_with(r, rc, "cannot be asked: %s", err->msg);
}

/* ---- the parameters that came of it ---- */

static void on_parameters(struct pfl_remote *r, const struct pfl_rpc_status *status, struct pfl_bytes answer)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    (void)answer;
    if (!goes_on(r, status, "GetParameters"))
        return;
    if (pfl_exchange_take(r->exchange, r->layout, &model, &err) != PFL_OK) {
        pfl_remote_fail(r, false, err.rc, "%s", err.msg);
        return;
    }
    if (pfl_model_check_finite(model, &err) != PFL_OK) {
        finish_with(r, err.rc, "gave no usable parameters: %s", err.msg);
        return;
    }
    r->failures = r->current->kind == PFL_REMOTE_FIT ? 0 : r->failures;
    r->current->out = pfl_steal(&model);
    pfl_remote_finish(r, PFL_OK, NULL);
}

static void get_parameters(struct pfl_remote *r)
{
    struct pfl_err err = {0};
    struct pfl_learner_parameters m;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    enum pfl_rc rc = pfl_exchange_offer(r->exchange, r->layout, &m, &err);
    if (rc == PFL_OK)
        rc = pfl_learner_parameters_encode(&m, &b, &err);
    ask(r, PFL_LEARNER_METHOD("GetParameters"), &b, rc, &err, on_parameters);
}

/* ---- progress ---- */

static void on_progress(struct pfl_remote *r, const struct pfl_rpc_status *status, struct pfl_bytes answer);

static void on_ask(uv_timer_t *t)
{
    struct pfl_remote *r = t->data;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    const struct pfl_learner_progress_request m = {.job = r->job, .seen = r->beat, .wait_ms = ASK_WAIT_S * 1000};
    if (!r->current || !r->calling || r->asked != 0) /* one question at a time; the answer to it asks on */
        return;
    if (pfl_learner_progress_request_encode(&m, &b, NULL) != PFL_OK)
        return;
    r->asked = r->job;
    pfl_remote_call(r, PFL_LEARNER_METHOD("WaitProgress"), &b, 0, on_progress);
}

static void tell_progress(struct pfl_remote *r, double share)
{
    if (!isfinite(share) || share < 0 || share > 1)
        return;
    uv_mutex_lock(&r->lock);
    r->current->share = share;
    r->current->progressed = true;
    uv_cond_broadcast(&r->changed);
    uv_mutex_unlock(&r->lock);
}

/* A learner that does not know the call is not asked again: then its whole job has to fit into the limit of silence. */
static void on_progress(struct pfl_remote *r, const struct pfl_rpc_status *status, struct pfl_bytes answer)
{
    struct pfl_learner_progress p;
    bool of_this_job = r->asked == r->job;
    r->asked = 0;
    if (!r->current || !r->calling || r->canceled || status->code != PFL_GRPC_OK ||
        pfl_learner_progress_decode(answer, &p, NULL) != PFL_OK)
        return;
    if (of_this_job && p.beat > r->beat) {
        r->beat = p.beat;
        put_off_silence(r);
        tell_progress(r, p.done);
    }
    pfl_remote_timer(&r->t_ask, on_ask, ASK_EVERY_MS * PFL_MS);
}

/* ---- the job itself ---- */

static bool check_result(const struct pfl_learner_result *m, enum pfl_remote_kind kind, struct pfl_err *err)
{
    if (!isfinite(m->loss))
        pfl_err_set(err, PFL_INVALID, "the loss %g, which is no number", m->loss);
    else if (kind == PFL_REMOTE_FIT && (m->n_samples == 0 || m->n_samples > INT32_MAX))
        pfl_err_set(err, PFL_INVALID, "%llu samples: 1 to 2147483647 can be weighed", (unsigned long long)m->n_samples);
    else if (!isfinite(m->learning_rate) || m->learning_rate < 0 || !isfinite(m->normaliser) || m->normaliser < 0)
        pfl_err_set(err, PFL_INVALID, "the learning rate %g and the normaliser %g, which cannot be", m->learning_rate,
                    m->normaliser);
    else if (kind == PFL_REMOTE_EVALUATE && !(m->accuracy >= 0 && m->accuracy <= 1))
        pfl_err_set(err, PFL_INVALID, "the accuracy %g, which is no share", m->accuracy);
    else
        return true;
    return false;
}

static void on_job(struct pfl_remote *r, const struct pfl_rpc_status *status, struct pfl_bytes answer)
{
    struct pfl_err err = {0};
    struct pfl_learner_result result;
    r->calling = false;
    if (!goes_on(r, status, r->current && r->current->kind == PFL_REMOTE_FIT ? "Fit" : "Evaluate"))
        return;
    if (pfl_learner_result_decode(answer, &result, &err) != PFL_OK) {
        pfl_remote_fail(r, false, err.rc, "answers its %s with nonsense: %s", doing(r), err.msg);
        return;
    }
    if (!check_result(&result, r->current->kind, &err)) {
        finish_with(r, err.rc, "answers its %s with %s", doing(r), err.msg);
        return;
    }
    r->current->result = result;
    if (r->current->kind == PFL_REMOTE_FIT)
        get_parameters(r);
    else
        pfl_remote_finish(r, PFL_OK, NULL);
}

static void on_set(struct pfl_remote *r, const struct pfl_rpc_status *status, struct pfl_bytes answer)
{
    struct pfl_err err = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    (void)answer;
    if (!goes_on(r, status, "SetParameters"))
        return;
    bool fit = r->current->kind == PFL_REMOTE_FIT;
    const struct pfl_fit_steer *steer = r->current->steer;
    struct pfl_learner_job m = {.id = r->job, .epochs = r->current->epochs, .seed = r->current->seed};
    enum pfl_rc rc = PFL_OK;
    m.proximal_mu = steer ? steer->proximal_mu : 0.0;
    m.has_correction = steer && steer->correction;
    if (m.has_correction)
        rc = pfl_exchange_put(r->exchange, PFL_EXCHANGE_CORRECTION, steer->correction, &m.correction, &err);
    if (rc == PFL_OK)
        rc = pfl_learner_job_encode(&m, &b, &err);
    r->calling = rc == PFL_OK;
    ask(r, fit ? PFL_LEARNER_METHOD("Fit") : PFL_LEARNER_METHOD("Evaluate"), &b, rc, &err, on_job);
    if (rc == PFL_OK)
        on_ask(&r->t_ask);
}

static void set_parameters(struct pfl_remote *r)
{
    struct pfl_err err = {0};
    struct pfl_learner_parameters m;
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    enum pfl_rc rc = pfl_exchange_put(r->exchange, PFL_EXCHANGE_MODEL, r->current->model, &m, &err);
    if (rc == PFL_OK)
        rc = pfl_learner_parameters_encode(&m, &b, &err);
    ask(r, PFL_LEARNER_METHOD("SetParameters"), &b, rc, &err, on_set);
}

void pfl_remote_advance(struct pfl_remote *r)
{
    if (!r->current)
        return;
    if (r->state == PFL_REMOTE_DOWN) {
        pfl_ns wait = (pfl_ns)uv_timer_get_due_in(&r->t_retry) * PFL_MS;
        if (wait > PATIENCE)
            finish_with(r, PFL_UNAVAILABLE, "is not there (it %s), and is %s again in %.1f s", r->why.msg,
                        r->command.n ? "started" : "dialled", (double)wait / (double)PFL_SEC);
        return;
    }
    if (r->state != PFL_REMOTE_READY)
        return;
    r->job++;
    r->beat = 0;
    put_off_silence(r);
    if (r->current->kind == PFL_REMOTE_INIT)
        get_parameters(r);
    else if (r->current->kind == PFL_REMOTE_START)
        pfl_remote_finish(r, PFL_OK, NULL);
    else
        set_parameters(r);
}

static void on_not_interrupted(uv_timer_t *t)
{
    struct pfl_remote *r = t->data;
    pfl_remote_fail(r, false, PFL_CANCELED, "has not ended its job %.1f s after it was interrupted",
                    (double)r->interrupt_timeout / (double)PFL_SEC);
}

static void on_interrupted(struct pfl_remote *r, const struct pfl_rpc_status *status, struct pfl_bytes answer)
{
    (void)r;
    (void)status;
    (void)answer; /* the job's own answer counts */
}

void pfl_remote_interrupt(struct pfl_remote *r)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    const struct pfl_learner_job m = {.id = r->job};
    r->canceled = true;
    if (r->state != PFL_REMOTE_READY) { /* it waits for a start, or for the end of a session */
        finish_with(r, PFL_CANCELED, "canceled");
        return;
    }
    pfl_remote_timer(&r->t_end, on_not_interrupted, r->interrupt_timeout);
    if (pfl_learner_job_encode(&m, &b, NULL) == PFL_OK)
        pfl_remote_call(r, PFL_LEARNER_METHOD("Interrupt"), &b, r->interrupt_timeout, on_interrupted);
}
