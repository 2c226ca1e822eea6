/* SPDX-License-Identifier: Apache-2.0 */
/* What the model is and how it is trained: the same keys in experiments and in node files. */
#include <stdlib.h>
#include <strings.h>

#include "config/settings.h"

#define TRY(x)                                                                                                                     \
    do {                                                                                                                           \
        enum pfl_rc try_rc = (x);                                                                                                  \
        if (try_rc != PFL_OK)                                                                                                      \
            return try_rc;                                                                                                         \
    } while (0)

const char *const pfl_dataset_names[8] = {"fashion-mnist", "mnist", "cifar10", "csv", "jsonl", "npy", "npz", "dummy"};
const char *const pfl_model_names[6] = {"mlp", "logistic", "cnn", "lenet5", "resnet8", "dummy"};

/* A name in any case, as one of names. */
static enum pfl_rc read_name(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, const char *const *names,
                             size_t n, char **ret, struct pfl_err *err)
{
    const struct pfl_yaml *y = pfl_yaml_get(map, key);
    if (!y)
        return PFL_OK;
    if (y->kind != PFL_YAML_SCALAR)
        return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be a single value");
    for (size_t i = 0; i < n; i++) {
        if (strcasecmp(y->text, names[i]) != 0)
            continue;
        free(*ret);
        *ret = pfl_xstrdup(names[i]);
        return PFL_OK;
    }
    const char *near = pfl_nearest(y->text, names, n);
    return pfl_yaml_fail(doc, y, PFL_INVALID, err, "'%s' is unknown; %s '%s'", pfl_q(y->text),
                         near ? "did you mean" : "a valid name is", near ? near : names[0]);
}

static enum pfl_rc read_hidden(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_learner_config *l,
                               struct pfl_err *err)
{
    struct pfl_yaml *list = NULL;
    TRY(pfl_yaml_list(doc, map, "hidden_sizes", &list, err));
    if (!list)
        return PFL_OK;
    l->n_hidden = 0;
    for (const struct pfl_yaml *y = list->first; y; y = y->next) {
        int64_t v;
        if (y->kind != PFL_YAML_SCALAR || !pfl_parse_i64(y->text, 1, 65536, &v) || l->n_hidden == PFL_ARRAY_LEN(l->hidden))
            return pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be at most 8 whole numbers from 1 to 65536");
        l->hidden[l->n_hidden++] = (unsigned)v;
    }
    return PFL_OK;
}

enum pfl_rc pfl_learner_config_read_model(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_learner_config *l,
                                          struct pfl_err *err)
{
    static const char *const activations[] = {"relu", "tanh", "sigmoid"}, *const optimizers[] = {"adam", "sgd"};
    TRY(read_hidden(doc, map, l, err));
    TRY(read_name(doc, map, "activation", activations, PFL_ARRAY_LEN(activations), &l->activation, err));
    TRY(read_name(doc, map, "optimizer", optimizers, PFL_ARRAY_LEN(optimizers), &l->optimizer, err));
    TRY(pfl_yaml_double(doc, map, "momentum", 0.0, 0.999999, &l->momentum, err));
    TRY(pfl_yaml_double(doc, map, "weight_decay", 0.0, 1e3, &l->weight_decay, err));
    if (l->momentum > 0.0 && pfl_streq(l->optimizer, "adam"))
        return pfl_yaml_fail(doc, pfl_yaml_get(map, "momentum"), PFL_INVALID, err, "is sgd's: say 'optimizer: sgd'");
    return PFL_OK;
}

void pfl_learner_config_write_model(const struct pfl_learner_config *l, const char *indent, struct pfl_buf *out)
{
    pfl_buf_printf(out, "%shidden_sizes: [", indent);
    for (unsigned i = 0; i < l->n_hidden; i++)
        pfl_buf_printf(out, "%s%u", i ? ", " : "", l->hidden[i]);
    pfl_buf_printf(out, "]\n%sactivation: %s\n%soptimizer: %s\n%slearning_rate: %.17g\n", indent, l->activation, indent,
                   l->optimizer, indent, l->learning_rate);
    if (l->momentum > 0.0)
        pfl_buf_printf(out, "%smomentum: %.17g\n", indent, l->momentum);
    if (l->weight_decay > 0.0)
        pfl_buf_printf(out, "%sweight_decay: %.17g\n", indent, l->weight_decay);
}
