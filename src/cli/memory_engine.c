/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator in place of processes and sockets. Fits and evaluations run on worker threads; everything else, and with it the
 * order of all that matters, is this thread's, so that a run depends on its file and seed alone. */
#include "cli/memory_engine.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/simulate_scenario.h"
#include "pki/digest.h"
#include "runtime/note_json.h"

enum { LOOK_NS = 50 * 1000 * 1000 /* how often who waits for a learner looks for a signal */ };

/* ---- worker threads ---- */

struct task {
    void (*fn)(void *arg);
    void *arg;
    bool done;
    struct task *next;
};

struct pool {
    pthread_mutex_t lock;
    pthread_cond_t more, done;
    struct task *first, **last; /* waiting */
    bool closing;
    pthread_t threads[64];
    unsigned n;
};

static void *worker(void *arg)
{
    struct pool *p = arg;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->first && !p->closing)
            pthread_cond_wait(&p->more, &p->lock);
        struct task *t = p->first;
        if (!t)
            break;
        p->first = t->next;
        if (!p->first)
            p->last = &p->first;
        pthread_mutex_unlock(&p->lock);
        t->fn(t->arg);
        pthread_mutex_lock(&p->lock);
        t->done = true;
        pthread_cond_broadcast(&p->done);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void pool_open(struct pool *p)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned want = cores < 1 ? 1 : cores > 64 ? 64 : (unsigned)cores;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->more, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->done, &attr);
    pthread_condattr_destroy(&attr);
    p->last = &p->first;
    while (p->n < want && pthread_create(&p->threads[p->n], NULL, worker, p) == 0)
        p->n++;
}

static void pool_close(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->closing = true;
    pthread_cond_broadcast(&p->more);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->n; i++)
        pthread_join(p->threads[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->more);
    pthread_cond_destroy(&p->done);
}

/* ---- one run ---- */

/* The last evaluation: nodes that hold one model and share one test set have one result. */
struct evaluated {
    pthread_mutex_t lock;
    struct pfl_model *model; /* a reference or NULL */
    struct pfl_metrics metrics;
};

struct engine {
    const struct pfl_plan *plan;
    struct pfl_simulation sim;
    struct pfl_sim *s;
    struct pool pool;
    struct evaluated last;
    struct pfl_learner *learners; /* borrowed from the simulator, one for each node that has its own; owned array */
    unsigned n_learners;
    void (*emit)(void *to, unsigned node, const char *event, json_t *fields);
    void *to;
};

static atomic_bool interrupted; /* read by the workers, too */

static void on_signal(int signum)
{
    (void)signum;
    atomic_store(&interrupted, true);
}

static bool stop(void *user)
{
    (void)user;
    return atomic_load(&interrupted);
}

static void *start(void *user, void (*fn)(void *arg), void *arg)
{
    struct pool *p = &((struct engine *)user)->pool;
    struct task *t = pfl_xcalloc(1, sizeof(*t));
    t->fn = fn;
    t->arg = arg;
    if (p->n == 0) {
        fn(arg);
        t->done = true;
        return t;
    }
    pthread_mutex_lock(&p->lock);
    *p->last = t;
    p->last = &t->next;
    pthread_cond_signal(&p->more);
    pthread_mutex_unlock(&p->lock);
    return t;
}

/* A learner forgets an interrupt from before its call, so they are all told again until nobody is waited for. */
static void interrupt_all(const struct engine *e)
{
    for (unsigned i = 0; i < e->n_learners; i++)
        e->learners[i].ops->interrupt(e->learners[i].self);
}

static void wait_for(void *user, void *handle)
{
    const struct engine *e = user;
    struct pool *p = &((struct engine *)user)->pool;
    struct task *t = handle;
    pthread_mutex_lock(&p->lock);
    while (!t->done) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += LOOK_NS;
        until.tv_sec += until.tv_nsec / PFL_SEC;
        until.tv_nsec %= PFL_SEC;
        (void)pthread_cond_timedwait(&p->done, &p->lock, &until);
        if (atomic_load(&interrupted))
            interrupt_all(e);
    }
    pthread_mutex_unlock(&p->lock);
    free(t);
}

/* ---- learners ---- */

/* A learner whose evaluations are shared with the others'. */
struct shared {
    struct pfl_learner inner;
    struct engine *engine;
};

static struct pfl_layout *shared_layout(void *self)
{
    struct shared *s = self;
    return s->inner.ops->layout(s->inner.self);
}

static enum pfl_rc shared_init(void *self, struct pfl_model **ret, struct pfl_err *err)
{
    struct shared *s = self;
    return s->inner.ops->init(s->inner.self, ret, err);
}

static enum pfl_rc shared_fit(void *self, struct pfl_model *model, unsigned epochs, uint64_t seed,
                              void (*progress)(void *user, double done), void *user, struct pfl_model **ret_model,
                              struct pfl_fit_result *ret, struct pfl_err *err)
{
    struct shared *s = self;
    if (atomic_load(&interrupted))
        return pfl_err_set(err, PFL_CANCELED, "the run was interrupted");
    return s->inner.ops->fit(s->inner.self, model, epochs, seed, progress, user, ret_model, ret, err);
}

static enum pfl_rc shared_evaluate(void *self, struct pfl_model *model, struct pfl_metrics *ret, struct pfl_err *err)
{
    struct shared *s = self;
    struct evaluated *last = &s->engine->last;
    enum pfl_rc rc = PFL_OK;
    pthread_mutex_lock(&last->lock);
    bool same = last->model && last->model->layout->bytes == model->layout->bytes &&
                memcmp(last->model->data, model->data, model->layout->bytes) == 0;
    if (!same)
        rc = s->inner.ops->evaluate(s->inner.self, model, ret, err);
    if (same) {
        *ret = last->metrics;
    } else if (rc == PFL_OK) {
        pfl_model_unref(last->model);
        last->model = pfl_model_ref(model);
        last->metrics = *ret;
    }
    pthread_mutex_unlock(&last->lock);
    return rc;
}

static void shared_interrupt(void *self)
{
    struct shared *s = self;
    s->inner.ops->interrupt(s->inner.self);
}

static enum pfl_rc shared_steer(void *self, const struct pfl_fit_steer *steer, struct pfl_err *err)
{
    struct shared *s = self;
    if (!s->inner.ops->steer)
        return pfl_err_set(err, PFL_UNSUPPORTED, "a learner of kind '%s' cannot be steered", s->inner.ops->name);
    return s->inner.ops->steer(s->inner.self, steer, err);
}

static void shared_free(void *self)
{
    struct shared *s = self;
    s->inner.ops->free(s->inner.self);
    free(s);
}

static const struct pfl_learner_ops shared_ops = {.name = "shared",
                                                  .layout = shared_layout,
                                                  .init = shared_init,
                                                  .fit = shared_fit,
                                                  .evaluate = shared_evaluate,
                                                  .interrupt = shared_interrupt,
                                                  .free = shared_free,
                                                  .steer = shared_steer};

static enum pfl_rc make_learner(void *user, unsigned node, struct pfl_learner *ret, struct pfl_err *err)
{
    struct engine *e = user;
    struct pfl_learner inner;
    enum pfl_rc rc = pfl_simulation_learner(&e->sim, e->plan->cfg.seed, node, e->plan->cfg.nodes, &inner, err);
    if (rc != PFL_OK)
        return rc;
    const char *path = e->plan->cfg.learner.dataset_path;
    if (pfl_streq(inner.ops->name, "trainer") && !(path && strstr(path, "{node}"))) { /* evaluates on the set that all share */
        struct shared *s = pfl_xcalloc(1, sizeof(*s));
        *s = (struct shared){.inner = inner, .engine = e};
        inner = (struct pfl_learner){.ops = &shared_ops, .self = s};
    }
    PFL_ASSERT(e->n_learners < e->plan->cfg.nodes);
    e->learners[e->n_learners++] = *ret = inner;
    return PFL_OK;
}

/* ---- what the nodes say ---- */

static void sha256(const struct pfl_bytes *parts, size_t n, uint8_t out[PFL_DIGEST_LEN])
{
    PFL_AUTO(pfl_sha256_freep) struct pfl_sha256 *sha = pfl_sha256_new();
    for (size_t i = 0; i < n; i++)
        pfl_sha256_add(sha, parts[i]);
    pfl_sha256_end(sha, out);
}

/* A node's model as a safetensors file; NULL where there is none. */
static struct pfl_payload *exported(const struct engine *e, unsigned node)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    struct pfl_payload *p = NULL;
    if (pfl_sim_export(e->s, node, &model, NULL) != PFL_OK || pfl_payload_new(model, &p, NULL) != PFL_OK)
        return NULL;
    return p;
}

/* What a final model's file would have as its digest: the model without what the aggregator remembers. */
static void put_digest(const struct engine *e, unsigned node, json_t *fields)
{
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = exported(e, node);
    uint8_t digest[PFL_DIGEST_LEN];
    char hex[2 * PFL_DIGEST_LEN + 1];
    if (!p)
        return;
    const struct pfl_bytes parts[] = {pfl_buf_view(&p->head), pfl_bytes_of(p->model->data, p->model->layout->bytes)};
    sha256(parts, PFL_ARRAY_LEN(parts), digest);
    pfl_hex(pfl_bytes_of(digest, sizeof(digest)), hex);
    json_object_set_new(fields, "digest", json_string(hex));
}

static void on_note(void *user, unsigned node, const struct pfl_note *note, const struct pfl_sim_traffic *t)
{
    struct engine *e = user;
    json_t *counters = NULL;
    if (note->kind == PFL_NOTE_ROUND_FINISHED)
        counters = json_pack("{s:I, s:I, s:I, s:I}", "bytes_sent", (json_int_t)t->bytes_sent, "bytes_received",
                             (json_int_t)t->bytes_received, "messages_sent", (json_int_t)t->messages_sent, "messages_received",
                             (json_int_t)t->messages_received);
    json_t *fields = pfl_note_json(note, counters);
    if (note->kind == PFL_NOTE_LEARNING_FINISHED)
        put_digest(e, node, fields);
    e->emit(e->to, node, pfl_note_name(note->kind), fields);
}

/* The first node's final model. */
static void take_model(const struct engine *e, unsigned nodes, struct pfl_buf *ret)
{
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = NULL;
    for (unsigned i = 0; i < nodes && !p; i++)
        p = exported(e, i);
    if (!p)
        return;
    pfl_buf_append(ret, p->head.data, p->head.len);
    pfl_buf_append(ret, p->model->data, p->model->layout->bytes);
}

static enum pfl_rc simulate(struct engine *e, const struct pfl_sim_scenario *sc, struct pfl_buf *ret_model, bool *ret_interrupted,
                            struct pfl_err *err)
{
    struct pfl_sim_result r;
    const struct pfl_sim_opts o = {.scenario = sc,
                                   .learner = make_learner,
                                   .digest = sha256,
                                   .compression = e->sim.compression.n > 0 ? &e->sim.compression : NULL,
                                   .note = on_note,
                                   .start = start,
                                   .wait = wait_for,
                                   .stop = stop,
                                   .user = e};
    enum pfl_rc rc = pfl_sim_new(&o, &e->s, err);
    if (rc != PFL_OK)
        return rc;
    for (unsigned i = 0; i < sc->n; i++)
        e->emit(e->to, i, "started", json_pack("{s:s}", "address", pfl_sim_address(e->s, i)));
    pfl_sim_run(e->s, &r);
    *ret_interrupted = r.cut_off;
    if (r.failed)
        rc = pfl_err_set(err, PFL_STATE, "%s: %s", r.checker, r.failure);
    else if (!r.cut_off)
        take_model(e, sc->n, ret_model);
    pfl_sim_free(e->s);
    return rc;
}

static enum pfl_rc run(void *user, const struct pfl_plan *plan,
                       void (*emit)(void *to, unsigned node, const char *event, json_t *fields), void *to,
                       struct pfl_buf *ret_model, bool *ret_interrupted, struct pfl_err *err)
{
    static const int signums[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction old[PFL_ARRAY_LEN(signums)], act = {.sa_handler = on_signal};
    struct engine e = {.plan = plan, .emit = emit, .to = to};
    struct pfl_sim_scenario sc;
    (void)user;
    enum pfl_rc rc = pfl_simulation_of(&plan->cfg, &e.sim, err);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_simulation_scenario(&e.sim, plan->cfg.seed, plan->cfg.nodes, &sc, err);
    if (rc == PFL_OK) {
        atomic_store(&interrupted, false);
        e.learners = pfl_xcalloc(plan->cfg.nodes, sizeof(*e.learners));
        sigemptyset(&act.sa_mask);
        for (size_t i = 0; i < PFL_ARRAY_LEN(signums); i++)
            sigaction(signums[i], &act, &old[i]);
        pthread_mutex_init(&e.last.lock, NULL);
        pool_open(&e.pool);
        rc = simulate(&e, &sc, ret_model, ret_interrupted, err);
        pool_close(&e.pool);
        pthread_mutex_destroy(&e.last.lock);
        pfl_model_unref(e.last.model);
        free(e.learners);
        for (size_t i = 0; i < PFL_ARRAY_LEN(signums); i++)
            sigaction(signums[i], &old[i], NULL);
        pfl_sim_scenario_deinit(&sc);
    }
    pfl_simulation_end(&e.sim);
    return rc;
}

const struct pfl_run_engine pfl_memory_engine = {.run = run};
