/* SPDX-License-Identifier: Apache-2.0 */
/* p2pfl: decentralized federated learning over gRPC with mutual TLS. This header embeds one node in a program.
 *
 * A node runs on a thread of its own. Every function here may be called from any thread unless it says otherwise; none may be
 * called from within a callback. Strings that go in are copied. Errors are one line of
 * text in the caller's buffer. */
#ifndef P2PFL_P2PFL_H
#define P2PFL_P2PFL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define P2PFL_VERSION "0.1.0"
/** The version of the library that is linked. */
const char *p2pfl_version(void);

enum { P2PFL_ERROR_MAX = 512 }; /* bytes that any error text needs, with its NUL */

/** One parameter of the model: float32, row-major. */
struct p2pfl_tensor {
    const char *name; /* unique, at most 127 bytes */
    size_t rank;      /* at most 8; 0 is a scalar */
    const size_t *shape;
};

/** What trains. Callbacks come from one worker thread at a time. `params` is all parameters in the order of `tensors`, float32,
 *  n_params values in all; it is borrowed for the call. Each returns 0, or anything else for "failed": a node whose fit fails
 * contributes nothing to that round. */
struct p2pfl_learner {
    const struct p2pfl_tensor *tensors;
    size_t n_tensors;
    void *user;
    /** Fills the initial parameters. The node that starts learning gives its own to all. */
    int (*init)(void *user, float *params, size_t n_params);
    /** Trains params in place for `epochs`; *ret_samples > 0 is the weight of the result, *ret_loss the training loss. */
    int (*fit)(void *user, float *params, size_t n_params, unsigned epochs, uint64_t seed, uint64_t *ret_samples, double *ret_loss);
    int (*evaluate)(void *user, const float *params, size_t n_params, double *ret_loss, double *ret_accuracy);
    /** May be NULL. Called from any thread: a running fit should return soon. */
    void (*interrupt)(void *user);
};

/** Where things are. Zero-initialise; NULL and 0 mean the default. */
struct p2pfl_config {
    const char *name;       /* for logs; default "node" */
    const char *address;    /* "127.0.0.1:6666", "[::1]:6666", "host" (a free port), "unix:///path"; required */
    const char *federation; /* trust domain; peers of another are refused; default "p2pfl" */
    const char *ca_crt, *server_crt, *server_key, *client_crt, *client_key; /* PEM files; all required. Keys: pkcs11: URIs too */
    const char *key_passphrase_file;                                        /* keys that are encrypted */
    const char *state_dir;   /* events.jsonl, models/, control.sock; NULL: nothing is written */
    bool insecure_plaintext; /* no TLS at all: loopback and unix sockets only, never by default */
    uint64_t seed;
    /** Each event of the node, one line of JSON; called on the node's thread. May be NULL. */
    void (*on_event)(void *user, const char *json);
    void *user;
};

struct p2pfl_node;

/** Starts a node: reads the certificates, listens, runs. Returns NULL with a text in error (P2PFL_ERROR_MAX bytes) where that
 * fails; nothing is left behind then. Certificate files that change later come into use by themselves (event "certificate"); as
 * long as they do not fit together, the ones from before stay in use (event "certificate_refused"). */
struct p2pfl_node *p2pfl_node_start(const struct p2pfl_config *config, const struct p2pfl_learner *learner, char *error);
/** The address with its real port. Valid as long as the node. */
const char *p2pfl_node_address(const struct p2pfl_node *node);
/** Links with another node and waits until both sides have checked each other, at most timeout_s. False with a text in error. */
bool p2pfl_node_connect(struct p2pfl_node *node, const char *address, double timeout_s, char *error);
/** Starts learning in the whole federation. Returns when it has begun; waits some seconds for
 *  the learner's init. */
bool p2pfl_node_learn(struct p2pfl_node *node, unsigned rounds, unsigned epochs, unsigned trainset_size, char *error);
/** Waits until a learning that began here or elsewhere is finished; each end is told once, a later call waits for the next. False
 * on time-out, stop or failure, with a text in error. */
bool p2pfl_node_wait_finished(struct p2pfl_node *node, double timeout_s, char *error);
/** How many nodes this one knows (itself not counted). */
size_t p2pfl_node_peers(struct p2pfl_node *node);
/** Copies the current model, n_params float32 as in the learner. False where there is none yet or the size is another. */
bool p2pfl_node_model(struct p2pfl_node *node, float *params, size_t n_params, char *error);
/** Stops learning everywhere. */
bool p2pfl_node_stop_learning(struct p2pfl_node *node, char *error);
/** Says goodbye to the neighbours, ends everything and frees the node. Accepts NULL. */
void p2pfl_node_free(struct p2pfl_node *node);

#ifdef __cplusplus
}
#endif
#endif
