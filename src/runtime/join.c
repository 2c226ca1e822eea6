/* SPDX-License-Identifier: Apache-2.0 */
/* Keys first, then the call, then a look at everything that came, then files. A lost answer is asked for again: the same token with
 * the same keys gets the same certificates. */
#include "runtime/join.h"

#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "base/mem.h"
#include "pki/ca.h"
#include "pki/node_files.h"
#include "runtime/ca_client.h"
#include "tls/context.h"

enum { TIMEOUT_DEFAULT_S = 600, RETRIES_MAX = 3, RETRY_S = 1, POLL_MAX_S = 60 };

struct join {
    const struct pfl_join_opts *opts;
    uv_loop_t loop;
    uv_timer_t timer;
    struct pfl_tls *tls;
    struct pfl_node_folder folder;
    struct pfl_node_keys keys;
    uint8_t pin[32];
    char *request_id; /* while the operator decides; wiped */
    pfl_ns deadline;
    unsigned failures;
    bool told_pending;
    enum pfl_rc rc;
    struct pfl_err *err;
    struct pfl_join_result *ret;
};

void pfl_join_result_deinit(struct pfl_join_result *r)
{
    free(r->name);
    free(r->federation);
    free(r->role);
    free(r->address);
    pfl_strs_deinit(&r->sans);
    *r = (struct pfl_join_result){0};
}

static void say(const struct join *j, const char *fmt, ...) PFL_PRINTF(2, 3);
static void say(const struct join *j, const char *fmt, ...)
{
    char line[PFL_ERR_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (j->opts->say)
        j->opts->say(j->opts->user, line);
}

static enum pfl_rc parse_hash(const char *text, uint8_t out[32], struct pfl_err *err)
{
    bool ok = pfl_str_has_prefix(text, "sha256:") && strlen(text) == 7 + 64 && pfl_unhex(text + 7, out, 32);
    return ok ? PFL_OK : pfl_err_set(err, PFL_INVALID, "--ca-hash '%s': sha256: and 64 hex digits are wanted", pfl_q(text));
}

static struct pfl_node_certs certs_of(const struct join *j, const struct pfl_ca_credentials *c)
{
    return (struct pfl_node_certs){
        .server_chain = c->server_chain.items,
        .n_server_chain = c->server_chain.n,
        .client_chain = c->client_chain.items,
        .n_client_chain = c->client_chain.n,
        .roots = c->bundle.roots.items,
        .n_roots = c->bundle.roots.n,
        .crls = c->bundle.crls.items,
        .n_crls = c->bundle.crls.n,
        .federation = c->federation.name,
        .name = c->federation.node_name,
        .role = c->federation.role,
        .sans = &c->federation.sans,
        .pin = j->pin,
        .now = pfl_clock_wall() / PFL_SEC,
    };
}

static void warn_of_clock(const struct join *j, const struct pfl_node_certs *certs)
{
    int64_t ahead = pfl_node_certs_clock_ahead(certs), off = ahead < 0 ? -ahead : ahead;
    if (off < PFL_JOIN_CLOCK_WARN_S)
        return;
    say(j, "warning: this machine's clock is %lld %s %s the CA's: set it right, certificates depend on it",
        (long long)(off >= 7200 ? off / 3600 : off / 60), off >= 7200 ? "h" : "min", ahead < 0 ? "behind" : "ahead of");
}

static void take_result(struct join *j, const struct pfl_ca_federation *f, char *address)
{
    j->ret->name = pfl_xstrdup(f->node_name);
    j->ret->federation = pfl_xstrdup(f->name);
    j->ret->role = pfl_xstrdup(f->role);
    j->ret->address = address;
    pfl_strs_copy(&j->ret->sans, &f->sans);
}

static enum pfl_rc write_folder(struct join *j, const struct pfl_ca_credentials *c, struct pfl_err *err)
{
    const struct pfl_node_certs certs = certs_of(j, c);
    const struct pfl_ca_federation *f = &c->federation;
    PFL_AUTO(pfl_freep) char *address = j->opts->address ? pfl_xstrdup(j->opts->address) : pfl_join_address_of(&f->sans);
    enum pfl_rc rc = pfl_node_certs_check(&j->keys, &certs, err);
    if (rc != PFL_OK)
        return pfl_err_wrap(err, "what the CA sent is not used");
    warn_of_clock(j, &certs);
    const struct pfl_node_yaml yaml = {
        .name = f->node_name,
        .federation = f->name,
        .address = address,
        .ca_service = j->opts->target,
        .settings_yaml = f->settings_yaml,
        .connect = &f->connect,
        .crl = certs.n_crls > 0,
    };
    rc = pfl_node_files_write(j->folder.certs, &j->keys, &certs, err);
    if (rc == PFL_OK)
        rc = pfl_node_folder_yaml(&j->folder, &yaml, err);
    if (rc == PFL_OK)
        rc = pfl_node_folder_commit(&j->folder, err);
    j->keys.kept = rc == PFL_OK;
    if (rc == PFL_OK)
        take_result(j, f, pfl_steal(&address));
    return rc;
}

/* ---- the call ---- */

static void ask(struct join *j);

static void on_timer(uv_timer_t *h)
{
    ask(h->data);
}

static void end(struct join *j, enum pfl_rc rc)
{
    j->rc = rc;
    uv_close((uv_handle_t *)&j->timer, NULL);
}

static void again_after(struct join *j, unsigned seconds)
{
    uv_timer_start(&j->timer, on_timer, (uint64_t)seconds * 1000, 0);
}

static void on_pending(struct join *j, const struct pfl_ca_credentials *c)
{
    if (j->request_id)
        explicit_bzero(j->request_id, strlen(j->request_id));
    free(j->request_id);
    j->request_id = pfl_xstrdup(c->request_id);
    unsigned wait = c->retry_after_s < 1 ? 1 : c->retry_after_s > POLL_MAX_S ? POLL_MAX_S : c->retry_after_s;
    if (!j->told_pending)
        say(j, "waiting for the operator to approve (p2pfl ca requests). The fingerprints that must be shown there:");
    for (int i = 0; i < 2 && !j->told_pending; i++) {
        char fingerprint[72] = "";
        if (pfl_node_keys_fingerprint(pfl_buf_view(i == 0 ? &j->keys.server_csr : &j->keys.client_csr), fingerprint, NULL) ==
            PFL_OK)
            say(j, "  %s key %s", i == 0 ? "server" : "client", fingerprint);
    }
    j->told_pending = true;
    if (pfl_clock_mono() + (pfl_ns)wait * PFL_SEC >= j->deadline)
        end(j, pfl_err_set(j->err, PFL_TIMEOUT, "the operator has not decided in time: run join again with --timeout"));
    else
        again_after(j, wait);
}

static void on_answer(void *user, enum pfl_rc rc, const struct pfl_err *err, const struct pfl_ca_credentials *c)
{
    struct join *j = user;
    if ((rc == PFL_UNAVAILABLE || rc == PFL_TIMEOUT) && ++j->failures < RETRIES_MAX && pfl_clock_mono() < j->deadline) {
        again_after(j, RETRY_S);
        return;
    }
    if (rc != PFL_OK) {
        end(j, pfl_err_set(j->err, rc, "%s", err->msg));
        return;
    }
    j->failures = 0;
    if (c->pending)
        on_pending(j, c);
    else
        end(j, write_folder(j, c, j->err));
}

static void ask(struct join *j)
{
    pfl_ns left = j->deadline - pfl_clock_mono();
    const struct pfl_ca_client_opts client = {
        .loop = &j->loop,
        .target = j->opts->target,
        .tls = j->tls,
        .timeout = left < PFL_SEC        ? PFL_SEC
                   : left < 30 * PFL_SEC ? left
                                         : 0,
    };
    struct pfl_ca_request r = {0};
    r.token = pfl_xstrdup(j->opts->token);
    r.request_id = j->request_id ? pfl_xstrdup(j->request_id) : NULL;
    r.server_csr = j->keys.server_csr; /* lent */
    r.client_csr = j->keys.client_csr;
    (void)pfl_ca_client_request(&client, j->request_id ? PFL_CA_POLL : PFL_CA_ENROL, &r, on_answer, j);
    r.server_csr = r.client_csr = (struct pfl_buf){0};
    pfl_ca_request_deinit(&r);
}

static enum pfl_rc run(struct join *j)
{
    uv_loop_init(&j->loop);
    uv_timer_init(&j->loop, &j->timer);
    j->timer.data = j;
    j->rc = PFL_STATE;
    ask(j);
    uv_run(&j->loop, UV_RUN_DEFAULT);
    PFL_ASSERT(uv_loop_close(&j->loop) == 0);
    return j->rc;
}

static enum pfl_rc check_opts(const struct pfl_join_opts *o, uint8_t pin[32], struct pfl_err *err)
{
    struct pfl_addr a;
    enum pfl_rc rc = parse_hash(o->ca_hash, pin, err);
    if (rc == PFL_OK)
        rc = pfl_addr_parse(o->target, &a, err);
    if (rc == PFL_OK && (a.is_unix || a.port == 0))
        rc = pfl_err_set(err, PFL_INVALID, "'%s': HOST:PORT of the CA's service is wanted", pfl_q(o->target));
    if (rc == PFL_OK && o->address)
        rc = pfl_addr_parse(o->address, &a, err);
    return rc;
}

enum pfl_rc pfl_join(const struct pfl_join_opts *opts, struct pfl_join_result *ret, struct pfl_err *err)
{
    struct pfl_err local = {0};
    struct join j = {.opts = opts, .ret = ret, .err = err ? err : &local};
    j.deadline = pfl_clock_mono() + (opts->timeout ? opts->timeout : TIMEOUT_DEFAULT_S * PFL_SEC);
    enum pfl_rc rc = check_opts(opts, j.pin, j.err);
    if (rc == PFL_OK)
        rc = pfl_node_folder_begin(opts->dir, &j.folder, j.err);
    if (rc == PFL_OK)
        rc = pfl_node_keys_make(NULL, NULL, opts->key, opts->pin_file, &j.keys, j.err);
    if (rc == PFL_OK)
        rc = pfl_tls_new_pinned(j.pin, &j.tls, j.err);
    if (rc == PFL_OK)
        rc = run(&j);
    pfl_node_folder_abandon(&j.folder);
    pfl_node_keys_deinit(&j.keys);
    pfl_tls_unref(j.tls);
    if (j.request_id)
        explicit_bzero(j.request_id, strlen(j.request_id));
    free(j.request_id);
    return rc;
}
