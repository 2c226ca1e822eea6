/* SPDX-License-Identifier: Apache-2.0 */
/* Aggregators: many models, one result. Inputs come in the sorted order of their contributors, so every node computes the
 * same bytes from the same set. Non-finite models never reach an aggregator (they are refused on arrival).
 *
 * FedAvg weighs by samples. The robust ones count every contribution once: a sample count is a claim of the node that sends it,
 * and a hostile one would claim many. They look at F32 tensors; integers are those of the contribution with the most samples, or of
 * the one that was chosen. n is the number of contributions, d that of F32 values.
 *
 * Some rules remember something from round to round (FedAdam its moments), or need more of a contribution than its parameters. What
 * they remember travels with the model: further tensors behind its own, named "@<set>.<tensor>". So it is the same on all nodes, is
 * in every checkpoint, and a node that joins late or comes back gets it with the model (learning/method.h puts it together). */
#ifndef PFL_LEARNING_AGGREGATOR_H
#define PFL_LEARNING_AGGREGATOR_H

#include "tensor/model.h"

struct pfl_contribution {
    struct pfl_model *model; /* borrowed for the call */
    uint64_t n_samples;      /* > 0 */
};
enum { PFL_AGGREGATOR_SETS_MAX = 2 };
enum { PFL_BYZANTINE_AUTO = -1 /* as many as the rule can bear with the n that came */ };
struct pfl_aggregator_params {
    int byzantine;      /* f: how many of the contributions may be hostile. Krum, Multi-Krum, Bulyan */
    unsigned selected;  /* m of Multi-Krum: how many are averaged; 0: n - f */
    double trim;        /* trimmed mean: the share that is cut off at each end of a coordinate's values, in [0, 0.5) */
    double eta;         /* FedOpt: the step of the server's optimiser, > 0 */
    double beta_1;      /* FedOpt: decay of the first moment, [0, 1); PFL_AGGREGATOR_OWN: the rule's default */
    double beta_2;      /* FedAdam, FedYogi: decay of the second moment, [0, 1) */
    double tau;         /* FedOpt: degree of adaptivity, > 0 */
    double proximal_mu; /* FedProx: strength of the pull to the round's model, >= 0 */
    double global_lr;   /* SCAFFOLD: how much of the mean change is taken, > 0 */
    unsigned clients;   /* SCAFFOLD: N, how many nodes take part in the long run; 0: as many as contribute to the round */
};
#define PFL_AGGREGATOR_OWN (-1.0)
struct pfl_aggregator {
    const char *name;
    bool partial; /* an aggregate of some may stand for them in a later one */
    struct pfl_aggregator_params params;
    enum pfl_rc (*aggregate)(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                             struct pfl_err *err);
    /* From the round's common model and the contributions to the next one. NULL: `aggregate` gives it. Else `aggregate` makes one
     * contribution of several. */
    enum pfl_rc (*update)(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_contribution *in,
                          size_t n, struct pfl_model **ret, struct pfl_err *err);
    /* Several contributions as one, where that needs the model they began with; NULL: `aggregate` does it. */
    enum pfl_rc (*merge)(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_contribution *in,
                         size_t n, struct pfl_model **ret, struct pfl_err *err);
    bool proximal; /* trains with FedProx' term */
    bool variates; /* trains with SCAFFOLD's correction */
    bool counts;   /* a contribution says how many steps it is made of: one F32, "@steps" */
    const char *contribution_sets[PFL_AGGREGATOR_SETS_MAX];
    const char *model_sets[PFL_AGGREGATOR_SETS_MAX]; /* what the model carries beside its tensors: F32 sets of the same shapes */
};

/** By our name or P2PFL's class name ("fedavg", "FedAvg"), with default parameters; NULL where there is none. */
const struct pfl_aggregator *pfl_aggregator_find(const char *name);
/** The same with parameters. *ret is the caller's storage. NOT_FOUND, or INVALID with the parameter's name. */
enum pfl_rc pfl_aggregator_make(const char *name, const struct pfl_aggregator_params *params, struct pfl_aggregator *ret,
                                struct pfl_err *err) PFL_WARN_UNUSED;
struct pfl_aggregator_params pfl_aggregator_params_default(void);
/** The next model: by `update`, or by `aggregate` where there is none. base: the model that the round began with. */
enum pfl_rc pfl_aggregator_next(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_contribution *in,
                                size_t n, struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;

/* All of them: INVALID for n = 0, no samples, layouts that differ or an f that n cannot bear (an f that was asked for is never
 * lowered silently); UNSUPPORTED for types other than F32 and integers, or an F32 at an offset that is no multiple of 4. */

/** Weighted mean by samples, accumulated in double in the given order. Cost: n d. Source: McMahan et al. 2017, Algorithm 1. */
enum pfl_rc pfl_fedavg(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                       struct pfl_err *err) PFL_WARN_UNUSED;
/** The median of each coordinate; of an even number of values the mean of the middle two. Cost: n log n d. Source: Yin et al. 2018,
 *  "Byzantine-Robust Distributed Learning", Definition 1 (Option I); P2PFL's FedMedian. */
enum pfl_rc pfl_fedmedian(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                          struct pfl_err *err) PFL_WARN_UNUSED;
/** The mean of each coordinate without the floor(trim n) largest and as many smallest values. Cost: n log n d. Source: the same,
 *  Definition 2 (Option II). */
enum pfl_rc pfl_trimmed_mean(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                             struct pfl_err *err) PFL_WARN_UNUSED;
/** The contribution whose squared distances to its n - f - 2 nearest others sum to the least; of equal ones the first. n >= 2 f
 * + 3. Cost: n^2 d. Source: Blanchard et al. 2017, "Machine Learning with Adversaries", section 4. */
enum pfl_rc pfl_krum(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                     struct pfl_err *err) PFL_WARN_UNUSED;
/** The mean of the m contributions with the least sums as in Krum. Source: the same, section 6. */
enum pfl_rc pfl_multi_krum(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                           struct pfl_err *err) PFL_WARN_UNUSED;
/** Krum as P2PFL has it: the sum over all others of the distances (not squared), each the sum of its tensors' norms. No f.
 *  Source: P2PFL, learning/aggregators/krum.py. */
enum pfl_rc pfl_krum_p2pfl(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                           struct pfl_err *err) PFL_WARN_UNUSED;
/** n - 2 f contributions chosen one after the other by Krum among those that are left, then of each coordinate the mean of the n -
 * 4 f values that lie nearest to its median. n >= 4 f + 3. Cost: n^2 d + n^3. Source: El Mhamdi et al. 2018, "The Hidden
 *  Vulnerability of Distributed Learning in Byzantium", section 4. */
enum pfl_rc pfl_bulyan(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n, struct pfl_model **ret,
                       struct pfl_err *err) PFL_WARN_UNUSED;
/** The point with the least sum of distances to all, by the smoothed Weiszfeld algorithm (at most 1,000 steps, until no weight
 * changes by more than 1e-12). Cost: n^2 d + 1000 n^2. Source: Pillutla et al. 2022, "Robust Aggregation for Federated Learning",
 * Algorithm 2. */
enum pfl_rc pfl_geometric_median(const struct pfl_aggregator *self, const struct pfl_contribution *in, size_t n,
                                 struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** FedAdagrad, FedAdam and FedYogi: D = FedAvg's mean minus the base, m = b1 m + (1 - b1) D, then
 *    FedAdagrad  v = v + D^2
 *    FedAdam     v = b2 v + (1 - b2) D^2
 *    FedYogi     v = v - (1 - b2) D^2 sign(v - D^2)
 *  and x = x + eta m / (sqrt(v) + tau), each in double, kept as F32 in the sets "m" and "v" behind the model's tensors; both begin
 *  with zeros. Partial aggregation is FedAvg's. INVALID where base has no such sets, or a value is not finite any more. Cost: n d.
 *  Source: Reddi et al. 2021, "Adaptive Federated Optimization", Algorithm 2, with P2PFL's weights (samples) and defaults (eta 0.1,
 *  beta_1 0.9, 0 in FedAdagrad, beta_2 0.99, tau 1e-9). Unlike P2PFL's: no bias correction in FedAdam, and the first round is a
 * step like any other. */
enum pfl_rc pfl_fedopt(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_contribution *in, size_t n,
                       struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** FedNova: a contribution says its number of steps a_i ("@steps"; more with momentum, see pfl_fit_result's normaliser), and counts
 * as many of them as any other: x + (sum p_i a_i) (sum p_i (x_i - x) / a_i), p_i the shares of samples. Several become one by the
 * same formula, with the mean of their steps. a_i below 1 or above 1e6 is taken as those. Cost: n d. Source: Wang et al. 2020,
 * "Tackling the Objective Inconsistency Problem", equation 6 with tau_eff of section 4. */
enum pfl_rc pfl_fednova(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_contribution *in,
                        size_t n, struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** SCAFFOLD: x + global_lr (mean of the contributions, by samples as in P2PFL, minus x), and c + n / N times the plain mean of the
 * changes that contributions bring ("@delta_c"); c is the model's set "c". The other half, each node's own variate by option II, is
 * method.c's. Cost: n d. Source: Karimireddy et al. 2020, Algorithm 1. */
enum pfl_rc pfl_scaffold(const struct pfl_aggregator *self, const struct pfl_model *base, const struct pfl_contribution *in,
                         size_t n, struct pfl_model **ret, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
