/* SPDX-License-Identifier: Apache-2.0 */
/* link: base wire rpc */
/* A learner in C, as one that works and as one with any fault: `learner_peer`, started by a node, listens on the socket that
 * P2PFL_LEARNER_SOCKET names, or on the path that is its first argument.
 *
 * Its model is "w" (values, 2) of ones. fit adds 1 to each value for each epoch, in `steps` steps of `step_ms`; evaluate says the
 * mean as loss. With `steerable` it adds the proximal mu and the correction to the values, to show that they came. Parameters:
 * values, steps, step_ms; fault (see below), which comes with each job of its kind or, where `once` names a file, only for who
 * makes that file. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "rpc/rpc.h"
#include "wire/learner_msg.h"

struct app {
    uv_loop_t loop;
    struct pfl_rpc_server *server;
    uv_pipe_t input;
    uv_timer_t step;
    struct pfl_learner_describe config;
    struct pfl_layout *layout;
    float *w;
    size_t n;
    int64_t steps, step_ms;
    /* the job */
    struct pfl_rpc_call *fit, *asker; /* NULL: none */
    struct pfl_learner_job job;
    int64_t done;
    uint64_t beat, seen;
};

static const char *param(const struct app *a, const char *key, const char *otherwise)
{
    for (size_t i = 0; i < a->config.n_params; i++)
        if (pfl_streq(a->config.params[i].key, key))
            return a->config.params[i].value;
    return otherwise;
}

static int64_t number(const struct app *a, const char *key, int64_t otherwise)
{
    int64_t v = otherwise;
    return pfl_parse_i64(param(a, key, ""), 0, INT32_MAX, &v) ? v : otherwise;
}

static bool faulty(const struct app *a, const char *fault)
{
    const char *once = param(a, "once", NULL);
    if (!pfl_streq(param(a, "fault", ""), fault))
        return false;
    int fd = once ? open(once, O_WRONLY | O_CREAT | O_EXCL, 0600) : 0;
    if (fd > 0)
        close(fd);
    return fd >= 0;
}

static void buf_release(void *owner)
{
    pfl_buf_deinit(owner);
    free(owner);
}

static void reply(struct pfl_rpc_call *call, struct pfl_buf *b)
{
    struct pfl_bytes part = pfl_buf_view(b);
    const struct pfl_rpc_body body = {.parts = &part, .n = 1, .release = buf_release, .owner = b};
    pfl_rpc_call_reply(call, &body);
}

static void reply_garbage(struct pfl_rpc_call *call)
{
    struct pfl_buf *b = pfl_xcalloc(1, sizeof(*b));
    pfl_buf_append_str(b, "\xff\xff\xff this is no message");
    reply(call, b);
}

static void must(enum pfl_rc rc)
{
    if (rc != PFL_OK)
        abort();
}

/* ---- describe ---- */

static struct pfl_layout *make_layout(const struct app *a, size_t n)
{
    struct pfl_layout *l = NULL;
    struct pfl_tensor_desc d = {.name = "w", .dtype = faulty(a, "f64") ? PFL_F64 : PFL_F32, .rank = 2, .shape = {n, 2}};
    must(pfl_layout_new(&d, 1, &l, NULL));
    return l;
}

static void on_describe(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct app *a = user;
    must(pfl_learner_describe_decode(pfl_bytes_of(request->data, request->len), &a->config, NULL));
    a->steps = number(a, "steps", 2);
    a->step_ms = number(a, "step_ms", 0);
    size_t values = (size_t)number(a, "values", 4);
    struct pfl_layout *told = make_layout(a, faulty(a, "shape_then_abort") ? values + 1 : values);
    pfl_layout_unref(a->layout);
    a->layout = make_layout(a, values);
    a->n = 2 * values;
    free(a->w);
    a->w = pfl_xcalloc(a->n, sizeof(*a->w));
    for (size_t i = 0; i < a->n; i++)
        a->w[i] = 1.0f;
    printf("describe for %s, part %u of %u, seed %llu\n", a->config.node, a->config.part_index, a->config.part_count,
           (unsigned long long)a->config.seed);
    for (int i = 0; faulty(a, "chatty") && i < 10000; i++)
        printf("line %d\n", i);
    fflush(stdout);
    if (faulty(a, "silent_describe"))
        return;
    if (faulty(a, "garbage_describe")) {
        reply_garbage(call);
        pfl_layout_unref(told);
        return;
    }
    const struct pfl_learner_description d = {.name = "a learner in C", .steerable = number(a, "steerable", 0) != 0};
    struct pfl_buf *b = pfl_xcalloc(1, sizeof(*b));
    if (!faulty(a, "empty_describe"))
        must(pfl_learner_description_encode(&d, told, b, NULL));
    reply(call, b);
    pfl_layout_unref(told);
}

/* ---- parameters ---- */

static int open_named(const struct app *a, const struct pfl_learner_parameters *m, int flags)
{
    char path[PFL_LEARNER_FOLDER_MAX + PFL_LEARNER_FILE_MAX + 1];
    (void)snprintf(path, sizeof(path), "%s/%s", a->config.folder, m->file);
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0 || m->bytes != a->n * sizeof(*a->w))
        abort();
    return fd;
}

static int open_file(const struct app *a, struct pfl_blob *request, int flags)
{
    struct pfl_learner_parameters m;
    must(pfl_learner_parameters_decode(pfl_bytes_of(request->data, request->len), &m, NULL));
    return open_named(a, &m, flags);
}

static void on_get(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct app *a = user;
    int fd = open_file(a, request, O_RDWR);
    if (faulty(a, "nan"))
        a->w[a->n - 1] = NAN;
    if (pwrite(fd, a->w, a->n * sizeof(*a->w), 0) < 0 || (faulty(a, "short") && ftruncate(fd, 3) != 0))
        abort();
    close(fd);
    pfl_rpc_call_reply(call, NULL);
}

static void on_set(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct app *a = user;
    int fd = open_file(a, request, O_RDONLY);
    if (pread(fd, a->w, a->n * sizeof(*a->w), 0) != (ssize_t)(a->n * sizeof(*a->w)))
        abort();
    close(fd);
    pfl_rpc_call_reply(call, NULL);
}

/* ---- jobs ---- */

static void answer_asker(struct app *a)
{
    struct pfl_rpc_call *call = a->asker;
    const struct pfl_learner_progress m = {.beat = a->beat, .done = (double)a->done / (double)(a->steps ? a->steps : 1)};
    if (!call)
        return;
    a->asker = NULL;
    struct pfl_buf *b = pfl_xcalloc(1, sizeof(*b));
    must(pfl_learner_progress_encode(&m, b, NULL));
    reply(call, b);
}

static void on_wait(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct app *a = user;
    struct pfl_learner_progress_request m;
    must(pfl_learner_progress_request_decode(pfl_bytes_of(request->data, request->len), &m, NULL));
    a->asker = call;
    if (!a->fit || m.job != a->job.id || a->beat > m.seen)
        answer_asker(a);
}

static void heed_steering(struct app *a)
{
    float *c = pfl_xcalloc(a->n, sizeof(*c));
    if (a->job.has_correction) {
        int fd = open_named(a, &a->job.correction, O_RDONLY);
        if (pread(fd, c, a->n * sizeof(*c), 0) != (ssize_t)(a->n * sizeof(*c)))
            abort();
        close(fd);
    }
    for (size_t i = 0; i < a->n; i++)
        a->w[i] += (float)a->job.proximal_mu + c[i];
    free(c);
}

static void end_fit(struct app *a)
{
    struct pfl_learner_result m = {.loss = 0.5,
                                   .n_samples = 100 + a->config.part_index,
                                   .n_steps = (uint64_t)a->steps,
                                   .learning_rate = 0.25,
                                   .normaliser = 7};
    for (size_t i = 0; i < a->n; i++)
        a->w[i] += (float)a->job.epochs;
    heed_steering(a);
    if (faulty(a, "loss_nan"))
        m.loss = NAN;
    if (faulty(a, "no_samples"))
        m.n_samples = 0;
    struct pfl_rpc_call *call = pfl_steal(&a->fit);
    answer_asker(a);
    if (faulty(a, "garbage")) {
        reply_garbage(call);
        return;
    }
    if (faulty(a, "fail")) {
        pfl_rpc_call_fail(call, PFL_GRPC_INTERNAL, "%s", "the data is not there");
        return;
    }
    struct pfl_buf *b = pfl_xcalloc(1, sizeof(*b));
    must(pfl_learner_result_encode(&m, b, NULL));
    reply(call, b);
}

static void on_step(uv_timer_t *t)
{
    struct app *a = t->data;
    if (a->done == 1 && faulty(a, "exit")) {
        fprintf(stderr, "out of memory on the accelerator\n");
        exit(7);
    }
    if (a->done == 1 && faulty(a, "kill"))
        (void)raise(SIGKILL);
    if (a->done == 1 && faulty(a, "stop"))
        (void)raise(SIGSTOP);
    if (a->done == 1 && faulty(a, "hang"))
        return;
    a->done++;
    a->beat++;
    answer_asker(a);
    if (a->done >= a->steps)
        end_fit(a);
    else
        uv_timer_start(t, on_step, (uint64_t)a->step_ms, 0);
}

static void on_fit(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct app *a = user;
    must(pfl_learner_job_decode(pfl_bytes_of(request->data, request->len), &a->job, NULL));
    a->fit = call;
    a->done = 0;
    a->beat = 0;
    printf("fit %llu: %u epochs, seed %llu\n", (unsigned long long)a->job.id, a->job.epochs, (unsigned long long)a->job.seed);
    fflush(stdout);
    uv_timer_start(&a->step, on_step, (uint64_t)a->step_ms, 0);
}

static void on_evaluate(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct app *a = user;
    struct pfl_learner_result m = {.accuracy = faulty(a, "accuracy") ? 2.0 : 0.5, .n_samples = 10};
    (void)request;
    for (size_t i = 0; i < a->n; i++)
        m.loss += (double)a->w[i] / (double)a->n;
    struct pfl_buf *b = pfl_xcalloc(1, sizeof(*b));
    must(pfl_learner_result_encode(&m, b, NULL));
    reply(call, b);
}

static void on_interrupt(void *user, struct pfl_rpc_call *call, struct pfl_blob *request)
{
    struct app *a = user;
    (void)request;
    pfl_rpc_call_reply(call, NULL);
    if (!a->fit || faulty(a, "deaf"))
        return;
    uv_timer_stop(&a->step);
    call = pfl_steal(&a->fit);
    answer_asker(a);
    pfl_rpc_call_fail(call, PFL_GRPC_CANCELLED, "%s", "interrupted");
}

/* ---- the program ---- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    static char sink[64];
    (void)h;
    (void)suggested;
    *buf = uv_buf_init(sink, sizeof(sink));
}

static void on_input(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    (void)s;
    (void)buf;
    if (n < 0)
        exit(0); /* the node is gone */
}

int main(int argc, char **argv)
{
    struct app a = {0};
    const char *path = argc > 1 ? argv[1] : getenv("P2PFL_LEARNER_SOCKET");
    struct pfl_err err = {0};
    char address[PFL_ADDR_MAX];
    if (!path) {
        fprintf(stderr, "usage: learner_peer [SOCKET]; else P2PFL_LEARNER_SOCKET names it\n");
        return 2;
    }
    if (getenv("LEARNER_PEER_EXIT")) {
        fprintf(stderr, "no module named torch\n");
        return 3;
    }
    if (getenv("LEARNER_PEER_MUTE"))
        for (;;)
            pause();
    (void)snprintf(address, sizeof(address), "unix://%s", path);
    const struct pfl_rpc_method methods[] = {
        {PFL_LEARNER_METHOD("Describe"), on_describe, false},   {PFL_LEARNER_METHOD("GetParameters"), on_get, false},
        {PFL_LEARNER_METHOD("SetParameters"), on_set, false},   {PFL_LEARNER_METHOD("Fit"), on_fit, false},
        {PFL_LEARNER_METHOD("Evaluate"), on_evaluate, false},   {PFL_LEARNER_METHOD("WaitProgress"), on_wait, false},
        {PFL_LEARNER_METHOD("Interrupt"), on_interrupt, false},
    };
    uv_loop_init(&a.loop);
    uv_timer_init(&a.loop, &a.step);
    a.step.data = &a;
    const struct pfl_rpc_server_opts opts = {
        .loop = &a.loop, .address = address, .methods = methods, .n_methods = PFL_ARRAY_LEN(methods), .user = &a};
    if (pfl_rpc_server_new(&opts, &a.server, &err) != PFL_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    uv_pipe_init(&a.loop, &a.input, 0);
    if (argc == 1 && uv_pipe_open(&a.input, 0) == 0)
        uv_read_start((uv_stream_t *)&a.input, on_alloc, on_input);
    return uv_run(&a.loop, UV_RUN_DEFAULT);
}
