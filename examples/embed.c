/* SPDX-License-Identifier: Apache-2.0 */
/* Two nodes inside one program: each has its own half of a made data set and fits y = w x + b by gradient descent; together they
 * train three rounds over mutual TLS on loopback, and end with the same model.
 *
 *   p2pfl ca init ca && p2pfl ca issue alice --ca ca --san IP:127.0.0.1 --role coordinator && p2pfl ca issue bob --ca ca --san
 * IP:127.0.0.1 cc embed.c $(pkg-config --cflags --libs p2pfl) -o embed && ./embed .
 */
#include <p2pfl/p2pfl.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FEATURES = 8, SAMPLES = 512, PARAMS = FEATURES + 1, ROUNDS = 3, EPOCHS = 20 };

struct data {
    float x[SAMPLES][FEATURES], y[SAMPLES];
};

/* Uniform in [-1, 1). */
static float draw(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(*state >> 40) / (float)(1u << 23) - 1.0f;
}

static void make_data(struct data *d, uint64_t seed)
{
    for (int i = 0; i < SAMPLES; i++) {
        d->y[i] = 0.5f + 0.01f * draw(&seed);
        for (int j = 0; j < FEATURES; j++) {
            d->x[i][j] = draw(&seed);
            d->y[i] += (float)(j - 3) * d->x[i][j]; /* the weights that should be found: -3 .. 4, bias 0.5 */
        }
    }
}

static float residual(const struct data *d, const float *params, int i)
{
    float r = params[FEATURES] - d->y[i];
    for (int j = 0; j < FEATURES; j++)
        r += params[j] * d->x[i][j];
    return r;
}

static int init(void *user, float *params, size_t n_params)
{
    (void)user;
    memset(params, 0, n_params * sizeof(*params));
    return 0;
}

static int evaluate(void *user, const float *params, size_t n_params, double *ret_loss, double *ret_accuracy)
{
    const struct data *d = user;
    double sum = 0;
    int near = 0;
    (void)n_params;
    for (int i = 0; i < SAMPLES; i++) {
        float r = residual(d, params, i);
        sum += (double)r * (double)r;
        near += fabsf(r) < 0.1f;
    }
    *ret_loss = sum / SAMPLES;
    *ret_accuracy = (double)near / SAMPLES;
    return 0;
}

static int fit(void *user, float *params, size_t n_params, unsigned epochs, uint64_t seed, uint64_t *ret_samples, double *ret_loss)
{
    const struct data *d = user;
    double accuracy = 0;
    (void)seed; /* whole-batch descent draws nothing */
    for (unsigned e = 0; e < epochs; e++) {
        float gradient[PARAMS] = {0};
        for (int i = 0; i < SAMPLES; i++) {
            float r = residual(d, params, i) / SAMPLES;
            for (int j = 0; j < FEATURES; j++)
                gradient[j] += r * d->x[i][j];
            gradient[FEATURES] += r;
        }
        for (int j = 0; j < PARAMS; j++)
            params[j] -= 0.8f * gradient[j];
    }
    *ret_samples = SAMPLES;
    return evaluate(user, params, n_params, ret_loss, &accuracy);
}

static struct p2pfl_node *start(const char *certs, const char *name, struct data *d, char *error)
{
    static const size_t weight_shape[] = {1, FEATURES}, bias_shape[] = {1};
    static const struct p2pfl_tensor tensors[] = {{"linear.weight", 2, weight_shape}, {"linear.bias", 1, bias_shape}};
    const struct p2pfl_learner learner = {
        .tensors = tensors, .n_tensors = 2, .user = d, .init = init, .fit = fit, .evaluate = evaluate};
    char path[5][512];
    static const char *const files[] = {"ca.crt", "server.crt", "server.key", "client.crt", "client.key"};
    for (int i = 0; i < 5; i++)
        snprintf(path[i], sizeof(path[i]), "%s/%s/%s", certs, name, files[i]);
    const struct p2pfl_config config = {.name = name,
                                        .address = "127.0.0.1:0",
                                        .seed = 1,
                                        .ca_crt = path[0],
                                        .server_crt = path[1],
                                        .server_key = path[2],
                                        .client_crt = path[3],
                                        .client_key = path[4]};
    return p2pfl_node_start(&config, &learner, error);
}

static int train(struct p2pfl_node *a, struct p2pfl_node *b, const struct data *held_out, char *error)
{
    float of_a[PARAMS], of_b[PARAMS];
    if (!p2pfl_node_connect(a, p2pfl_node_address(b), 10, error) || !p2pfl_node_learn(a, ROUNDS, EPOCHS, 2, error) ||
        !p2pfl_node_wait_finished(a, 60, error) || !p2pfl_node_wait_finished(b, 60, error) ||
        !p2pfl_node_model(a, of_a, PARAMS, error) || !p2pfl_node_model(b, of_b, PARAMS, error))
        return 1;
    double loss = 0, accuracy = 0;
    bool equal = memcmp(of_a, of_b, sizeof(of_a)) == 0;
    evaluate((void *)held_out, of_a, PARAMS, &loss, &accuracy);
    printf("peers: %zu and %zu; after %d rounds: loss %.5f, %.1f %% within 0.1; the two models are %s\n", p2pfl_node_peers(a),
           p2pfl_node_peers(b), ROUNDS, loss, 100 * accuracy, equal ? "equal" : "NOT equal");
    snprintf(error, P2PFL_ERROR_MAX, "the models differ or did not learn");
    return equal && loss < 0.05 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct data mine, theirs, held_out;
    char error[P2PFL_ERROR_MAX] = "";
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER   (with alice/ and bob/, as p2pfl ca issue makes them)\n", argv[0]);
        return 2;
    }
    make_data(&mine, 1);
    make_data(&theirs, 2);
    make_data(&held_out, 3);
    struct p2pfl_node *a = start(argv[1], "alice", &mine, error);
    struct p2pfl_node *b = a ? start(argv[1], "bob", &theirs, error) : NULL;
    int code = a && b ? train(a, b, &held_out, error) : 1;
    if (code != 0)
        fprintf(stderr, "embed: %s\n", error);
    p2pfl_node_free(b);
    p2pfl_node_free(a);
    return code;
}
