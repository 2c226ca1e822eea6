/* SPDX-License-Identifier: Apache-2.0 */
/* From names in a file to something that trains. The whole training set is in memory only while this node's part is taken out. */
#include "runtime/learner_setup.h"

#include <assert.h>
#include <string.h>

#include "learning/dataset.h"
#include "learning/dummy.h"
#include "learning/trainer.h"
#include "learning/partition.h"

/* This node's samples, and the whole test set: every node is measured on the same one. */
static enum pfl_rc load_data(const struct pfl_learner_config *c, const struct pfl_settings *s, struct pfl_dataset **ret_train,
                             struct pfl_dataset **ret_test, struct pfl_err *err)
{
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *full = NULL;
    enum pfl_rc rc = pfl_dataset_load(c->dataset, c->dataset_path, PFL_DATASET_TRAIN, &full, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_partition p = pfl_partition_default();
    if (!pfl_partition_parse(c->partition, &p.strategy))
        return pfl_err_set(err, PFL_INVALID, "unknown partition '%s'", pfl_q(c->partition));
    p.alpha = c->partition_params.alpha;
    p.min_size = c->partition_params.min_size;
    p.self_balancing = c->partition_params.self_balancing;
    p.shards_per_part = c->partition_params.shards_per_part;
    p.main_share = c->partition_params.main_share;
    p.main_classes = c->partition_params.main_classes;
    p.seed = c->part_seed ? c->part_seed : s->seed;
    p.part_index = c->part_index;
    p.part_count = c->part_count ? c->part_count : 1;
    p.reduction_factor = c->reduction_factor;
    if (p.part_count == 1 && p.reduction_factor >= 1.0)
        *ret_train = pfl_dataset_ref(full);
    else if ((rc = pfl_partition_take(full, &p, ret_train, err)) != PFL_OK)
        return rc;
    return pfl_dataset_load(c->dataset, c->dataset_path, PFL_DATASET_TEST, ret_test, err);
}

static enum pfl_rc setup_mlp(const struct pfl_learner_config *c, const struct pfl_settings *s, struct pfl_learner *ret,
                             struct pfl_err *err)
{
    struct pfl_trainer_opts o = {
        .net = {.kind = PFL_NET_MLP, .n_hidden = c->n_hidden},
        .optimiser = {.kind = PFL_OPTIMISER_ADAM, .learning_rate = c->learning_rate},
        .batch_size = c->batch_size ? c->batch_size : s->batch_size,
        .threads = s->threads,
        .seed = c->has_model_seed ? c->model_seed : s->seed, /* the run's, the same on all nodes */
    };
    static_assert(sizeof(o.net.hidden) == sizeof(c->hidden), "the configuration's limit of hidden layers is the learner's");
    memcpy(o.net.hidden, c->hidden, sizeof(o.net.hidden));
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *train = NULL;
    PFL_AUTO(pfl_dataset_freep) struct pfl_dataset *test = NULL;
    enum pfl_rc rc = load_data(c, s, &train, &test, err);
    if (rc != PFL_OK)
        return rc;
    return pfl_trainer_new(&o, train, test, ret, err);
}

enum pfl_rc pfl_learner_setup(const struct pfl_learner_config *c, const struct pfl_settings *s, const char *node_name,
                              struct pfl_learner *ret, struct pfl_err *err)
{
    if (pfl_streq(c->dataset, "dummy") || pfl_streq(c->model, "dummy"))
        return pfl_dummy_learner_new(c->dummy_values, c->dummy_delay, node_name, ret, err);
    if (!pfl_streq(c->model, "mlp"))
        return pfl_err_set(err, PFL_INVALID, "unknown model '%s'; there are mlp and dummy", pfl_q(c->model));
    return setup_mlp(c, s, ret, err);
}

enum pfl_rc pfl_aggregator_setup(const struct pfl_learner_config *c, struct pfl_aggregator *ret, struct pfl_err *err)
{
    const struct pfl_aggregator_config *p = &c->aggregator_params;
    const struct pfl_aggregator_params params = {.byzantine = p->byzantine,
                                                 .selected = p->selected,
                                                 .trim = p->trim,
                                                 .eta = p->eta,
                                                 .beta_1 = p->beta_1,
                                                 .beta_2 = p->beta_2,
                                                 .tau = p->tau};
    return pfl_aggregator_make(c->aggregator, &params, ret, err);
}
