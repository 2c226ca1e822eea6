/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger's file: the sums at each order, in order. Whoever changes the orders must change the version. */
#include "runtime/ledger.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/str.h"
#include "learning/privacy.h"

enum { FILE_MAX = 64 << 10, VERSION = 1 };

struct pfl_ledger {
    char *path; /* owned or NULL */
    struct pfl_ledger_opts o;
    struct pfl_rdp spent;
};

static bool parse(const json_t *o, struct pfl_rdp *ret)
{
    const json_t *list = json_object_get(o, "rdp"), *releases = json_object_get(o, "releases");
    if (json_integer_value(json_object_get(o, "version")) != VERSION || json_array_size(list) != PFL_RDP_ORDERS ||
        !json_is_integer(releases) || json_integer_value(releases) < 0)
        return false;
    ret->releases = (uint64_t)json_integer_value(releases);
    for (size_t i = 0; i < PFL_RDP_ORDERS; i++) {
        const json_t *v = json_array_get(list, i);
        ret->at[i] = json_number_value(v);
        if (!json_is_number(v) || !(ret->at[i] >= 0.0) || !isfinite(ret->at[i]))
            return false;
    }
    return true;
}

static enum pfl_rc load(struct pfl_ledger *l, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *blob = NULL;
    enum pfl_rc rc = pfl_fs_read(l->path, FILE_MAX, &blob, err);
    if (rc != PFL_OK)
        return rc;
    json_t *o = json_loadb((const char *)blob->data, blob->len, JSON_REJECT_DUPLICATES, NULL);
    bool ok = parse(o, &l->spent);
    json_decref(o);
    if (!ok)
        return pfl_err_set(
            err, PFL_MALFORMED,
            "%s: it is no ledger of privacy: what this node has revealed so far is not known; take it from a backup, "
            "or move it away to begin with nothing counted",
            l->path);
    return PFL_OK;
}

enum pfl_rc pfl_ledger_open(const char *path, const struct pfl_ledger_opts *opts, struct pfl_ledger **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_ledger_freep) struct pfl_ledger *l = pfl_xcalloc(1, sizeof(*l));
    l->path = path ? pfl_xstrdup(path) : NULL;
    l->o = *opts;
    if (path && pfl_fs_exists(path)) {
        enum pfl_rc rc = load(l, err);
        if (rc != PFL_OK)
            return rc;
    }
    *ret = pfl_steal(&l);
    return PFL_OK;
}

void pfl_ledger_close(struct pfl_ledger *l)
{
    if (!l)
        return;
    free(l->path);
    free(l);
}

static struct pfl_rdp after_one_more(const struct pfl_ledger *l)
{
    struct pfl_rdp next = l->spent;
    if (l->o.laplace)
        pfl_rdp_add_laplace(&next, l->o.noise_multiplier);
    else
        pfl_rdp_add_gaussian(&next, l->o.noise_multiplier);
    return next;
}

enum pfl_rc pfl_ledger_check(const struct pfl_ledger *l, struct pfl_err *err)
{
    struct pfl_rdp next = after_one_more(l);
    double epsilon = pfl_rdp_epsilon(&next, l->o.delta);
    if (l->o.budget <= 0.0 || epsilon <= l->o.budget)
        return PFL_OK;
    return pfl_err_set(
        err, PFL_STATE,
        "the privacy budget is used up: epsilon %.3f of %.3f (delta %g) after %llu contributions, one more makes it %.3f",
        pfl_rdp_epsilon(&l->spent, l->o.delta), l->o.budget, l->o.delta, (unsigned long long)l->spent.releases, epsilon);
}

static enum pfl_rc save(const struct pfl_ledger *l, const struct pfl_rdp *r, struct pfl_err *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < PFL_RDP_ORDERS; i++)
        json_array_append_new(list, json_real(r->at[i]));
    json_t *o = json_pack("{s:i, s:I, s:f, s:f, s:o}", "version", VERSION, "releases", (json_int_t)r->releases, "epsilon",
                          pfl_rdp_epsilon(r, l->o.delta), "delta", l->o.delta, "rdp", list);
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    PFL_ASSERT(text);
    enum pfl_rc rc = pfl_fs_write_atomic(l->path, pfl_bytes_of(text, strlen(text)), 0600, err);
    free(text);
    return rc;
}

enum pfl_rc pfl_ledger_spend(struct pfl_ledger *l, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_ledger_check(l, err);
    struct pfl_rdp next = after_one_more(l);
    if (rc == PFL_OK && l->path)
        rc = save(l, &next, err);
    if (rc != PFL_OK)
        return rc;
    l->spent = next;
    return PFL_OK;
}

double pfl_ledger_epsilon(const struct pfl_ledger *l)
{
    return pfl_rdp_epsilon(&l->spent, l->o.delta);
}

double pfl_ledger_delta(const struct pfl_ledger *l)
{
    return l->o.delta;
}

double pfl_ledger_budget(const struct pfl_ledger *l)
{
    return l->o.budget;
}
