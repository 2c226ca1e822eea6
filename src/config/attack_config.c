/* SPDX-License-Identifier: Apache-2.0 */
/* The block `attack:`, the same in experiments and node files: which nodes give away something else than what they trained. */
#include "config/settings.h"

static const char *const kinds[] = {"gaussian", "sign_flip"};

enum pfl_rc pfl_attack_config_read(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, struct pfl_attack_config *ret,
                                   struct pfl_err *err)
{
    static const char *const keys[] = {"kind", "sigma", "nodes"};
    struct pfl_attack_config a = {.sigma = 1.0};
    struct pfl_yaml *block = NULL, *list = NULL;
    enum pfl_rc rc = pfl_yaml_map(doc, map, "attack", &block, err);
    if (rc != PFL_OK || !block)
        return rc;
    rc = pfl_yaml_only(doc, block, keys, PFL_ARRAY_LEN(keys), err);
    const struct pfl_yaml *kind = pfl_yaml_get(block, "kind");
    for (size_t i = 0; kind && kind->kind == PFL_YAML_SCALAR && i < PFL_ARRAY_LEN(kinds); i++)
        a.kind = pfl_streq(kind->text, kinds[i]) ? kinds[i] : a.kind;
    if (rc == PFL_OK && !a.kind)
        rc = pfl_yaml_fail(doc, kind ? kind : block, PFL_INVALID, err, "kind must be gaussian or sign_flip");
    if (rc == PFL_OK)
        rc = pfl_yaml_double(doc, block, "sigma", 0.0, 1e9, &a.sigma, err);
    if (rc == PFL_OK)
        rc = pfl_yaml_list(doc, block, "nodes", &list, err);
    for (const struct pfl_yaml *y = list ? list->first : NULL; y && rc == PFL_OK; y = y->next) {
        int64_t node = 0;
        if (y->kind != PFL_YAML_SCALAR || !pfl_parse_i64(y->text, 0, UINT16_MAX, &node))
            rc = pfl_yaml_fail(doc, y, PFL_INVALID, err, "must be the number of a node, from 0");
        else if (a.n_nodes == PFL_ARRAY_LEN(a.nodes))
            rc = pfl_yaml_fail(doc, y, PFL_TOO_BIG, err, "at most %zu nodes", PFL_ARRAY_LEN(a.nodes));
        else
            a.nodes[a.n_nodes++] = (unsigned)node;
    }
    if (rc == PFL_OK)
        *ret = a;
    return rc;
}

void pfl_attack_config_write(const struct pfl_attack_config *a, const char *indent, struct pfl_buf *out)
{
    if (!a->kind)
        return;
    pfl_buf_printf(out, "%sattack: {kind: %s, sigma: %.17g", indent, a->kind, a->sigma);
    for (size_t i = 0; i < a->n_nodes; i++)
        pfl_buf_printf(out, "%s%u", i ? ", " : ", nodes: [", a->nodes[i]);
    pfl_buf_append_str(out, a->n_nodes ? "]}\n" : "}\n");
}
