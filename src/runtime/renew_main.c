/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/renew_main.h"

#include <signal.h>

#include "runtime/node_main.h"
#include "runtime/renewal.h"

struct outcome {
    enum pfl_rc rc;
    struct pfl_err err;
};

static void on_renewed(void *user, enum pfl_rc rc, const struct pfl_err *err, struct pfl_tls *fresh, const struct pfl_ders *crls)
{
    struct outcome *o = user;
    (void)fresh;
    (void)crls; /* the node asks for them when it runs */
    o->rc = rc;
    if (rc != PFL_OK)
        o->err = *err;
}

static enum pfl_rc renew(const struct pfl_tls_files *files, struct pfl_tls *tls, const struct pfl_node_config *c,
                         struct pfl_err *err)
{
    uv_loop_t loop;
    struct outcome o = {.rc = PFL_CANCELED};
    const struct pfl_renewal_opts opts = {
        .loop = &loop, .files = files, .tls = tls, .service = c->ca.service, .same_keys = c->ca.same_keys};
    uv_loop_init(&loop);
    (void)pfl_renewal_begin(&opts, on_renewed, &o);
    uv_run(&loop, UV_RUN_DEFAULT);
    PFL_ASSERT(uv_loop_close(&loop) == 0);
    return o.rc == PFL_OK ? PFL_OK : pfl_err_set(err, o.rc, "%s", o.err.msg);
}

enum pfl_rc pfl_renew_main(const struct pfl_node_config *c, struct pfl_err *err)
{
    const struct pfl_tls_files files = pfl_node_tls_files(&c->settings, NULL);
    PFL_AUTO(pfl_tls_freep) struct pfl_tls *tls = NULL;
    if (!c->settings.ssl.use_ssl)
        return pfl_err_set(err, PFL_INVALID, "this node has no certificates (use_ssl: false)");
    if (!c->ca.service)
        return pfl_err_set(err, PFL_INVALID, "no CA service is configured (ca.service in node.yaml)");
    signal(SIGPIPE, SIG_IGN);
    enum pfl_rc rc = pfl_renewal_recover(&files, err);
    if (rc == PFL_OK)
        rc = pfl_tls_new(&files, &tls, err);
    return rc == PFL_OK ? renew(&files, tls, c, err) : rc;
}
