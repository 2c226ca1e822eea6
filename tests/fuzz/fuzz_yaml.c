/* SPDX-License-Identifier: Apache-2.0 */
/* link: base config pki */
/* Any bytes as a YAML file: it is read within its limits or refused with a class and a printable line; what was read as an
 * experiment gives a topology whose links are in order and in range. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "config/experiment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(enum pfl_rc rc, const struct pfl_err *err)
{
    PFL_ASSERT(rc == err->rc && err->msg[0] != '\0');
    for (const char *p = err->msg; *p; p++)
        PFL_ASSERT((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static unsigned check_tree(const struct pfl_yaml *y, unsigned depth)
{
    unsigned n = 0;
    PFL_ASSERT(depth <= PFL_YAML_DEPTH_MAX + 1);
    for (; y; y = y->next) {
        PFL_ASSERT(y->line > 0 && y->path);
        PFL_ASSERT((y->kind == PFL_YAML_SCALAR) == (y->text != NULL));
        PFL_ASSERT(y->kind != PFL_YAML_SCALAR || !y->first);
        n += 1 + check_tree(y->first, depth + 1);
    }
    return n;
}

static void check_experiment(const struct pfl_experiment_config *c)
{
    struct pfl_edge *edges = NULL;
    size_t n = 0;
    PFL_ASSERT(c->nodes >= 1 && c->nodes <= PFL_EXPERIMENT_NODES_MAX && c->rounds > 0 && c->learner.batch_size > 0);
    PFL_ASSERT(c->learner.reduction_factor > 0 && c->learner.reduction_factor <= 1);
    PFL_ASSERT(pfl_topology_edges(c, &edges, &n, NULL) == PFL_OK);
    for (size_t i = 0; i < n; i++) {
        PFL_ASSERT(edges[i].a < edges[i].b && edges[i].b < c->nodes);
        PFL_ASSERT(i == 0 || edges[i - 1].a < edges[i].a || (edges[i - 1].a == edges[i].a && edges[i - 1].b < edges[i].b));
    }
    free(edges);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pfl_yaml_doc doc = {0};
    struct pfl_experiment_config c;
    struct pfl_err err = {0};
    enum pfl_rc rc = pfl_yaml_parse("f", (const char *)data, size, &doc, &err);
    if (rc != PFL_OK) {
        check_refusal(rc, &err);
        return 0;
    }
    PFL_ASSERT(doc.root->kind == PFL_YAML_MAP && check_tree(doc.root, 0) <= PFL_YAML_NODES_MAX);
    pfl_yaml_deinit(&doc);
    rc = pfl_experiment_parse("f", (const char *)data, size, &c, &err);
    if (rc != PFL_OK) {
        check_refusal(rc, &err);
        return 0;
    }
    check_experiment(&c);
    pfl_experiment_deinit(&c);
    return 0;
}
