/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/renewal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/swap.h"
#include "pki/node_renew.h"
#include "runtime/ca_client.h"

struct pfl_renewal {
    uv_loop_t *loop;
    uv_work_t work;
    const struct pfl_tls_files *files;
    struct pfl_node_pairs pairs;
    struct pfl_tls *tls;
    char *service; /* owned */
    bool same_keys;
    pfl_renewal_done done;
    void *user;
    struct pfl_ca_call *call; /* under way, or NULL */
    bool working, canceled;
    void (*gone)(void *user);
    void *gone_user;

    struct pfl_node_keys keys;
    struct pfl_node_contents contents;
    struct pfl_ders crls;
    struct pfl_tls *fresh;
    enum pfl_rc rc;
    struct pfl_err err;
};

static char *marker_of(const struct pfl_tls_files *files)
{
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(files->server_crt);
    return pfl_fs_join(dir, ".renewal");
}

enum pfl_rc pfl_renewal_recover(const struct pfl_tls_files *files, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *marker = marker_of(files);
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(marker);
    const char *const paths[] = {files->ca_crt, files->server_crt, files->server_key, files->client_crt, files->client_key};
    if (!pfl_fs_exists(dir))
        return PFL_OK; /* loading says what is missing */
    bool cut_off = pfl_fs_exists(marker);
    struct pfl_err why = {0};
    enum pfl_rc rc = pfl_swap_recover(marker, paths, PFL_ARRAY_LEN(paths), &why);
    if (rc == PFL_OK || (rc == PFL_STATE && !cut_off)) /* another process is at it: it leaves a matching pair */
        return PFL_OK;
    return pfl_err_set(err, rc, "a renewal that was cut off cannot be completed: %s", why.msg);
}

static void renewal_free(struct pfl_renewal *r)
{
    void (*gone)(void *) = r->gone;
    void *user = r->gone_user;
    pfl_node_keys_deinit(&r->keys);
    pfl_node_contents_deinit(&r->contents);
    pfl_ders_deinit(&r->crls);
    pfl_tls_unref(r->tls);
    pfl_tls_unref(r->fresh);
    free(r->service);
    free(r);
    if (gone)
        gone(user);
}

static void finish(struct pfl_renewal *r)
{
    if (!r->canceled)
        r->done(r->user, r->rc, &r->err, r->rc == PFL_OK ? r->fresh : NULL, &r->crls);
    renewal_free(r);
}

/* ---- looked at before it replaces anything ---- */

/* A folder beside the files with what came, so that it is loaded as the files will be. */
struct trial {
    char *dir;      /* owned */
    char *paths[5]; /* owned: ca.crt server.crt server.key client.crt client.key; those that stay are the present ones */
};

static void trial_deinit(struct trial *t)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(t->paths); i++) {
        if (t->dir && t->paths[i] && strncmp(t->paths[i], t->dir, strlen(t->dir)) == 0)
            (void)unlink(t->paths[i]);
        free(t->paths[i]);
    }
    if (t->dir)
        (void)rmdir(t->dir);
    free(t->dir);
}

static enum pfl_rc put(struct trial *t, size_t i, const char *name, const struct pfl_buf *content, const char *present, mode_t mode,
                       struct pfl_err *err)
{
    if (content->len == 0) {
        t->paths[i] = pfl_xstrdup(present);
        return PFL_OK;
    }
    t->paths[i] = pfl_fs_join(t->dir, name);
    return pfl_fs_write_new(t->paths[i], pfl_buf_view(content), mode, err);
}

static enum pfl_rc trial_write(const struct pfl_renewal *r, struct trial *t, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_dirname(r->files->server_crt);
    t->dir = pfl_xasprintf("%s/.renewal-XXXXXX", dir);
    if (!mkdtemp(t->dir)) {
        enum pfl_rc rc = pfl_err_errno(err, errno, "%s: no folder can be made in it", dir);
        free(pfl_steal(&t->dir));
        return rc;
    }
    const struct pfl_node_contents *c = &r->contents;
    enum pfl_rc rc = put(t, 0, "ca.crt", &c->ca_crt, r->files->ca_crt, 0644, err);
    if (rc == PFL_OK)
        rc = put(t, 1, "server.crt", &c->server_crt, r->files->server_crt, 0644, err);
    if (rc == PFL_OK)
        rc = put(t, 2, "server.key", &c->server_key, r->files->server_key, 0600, err);
    if (rc == PFL_OK)
        rc = put(t, 3, "client.crt", &c->client_crt, r->files->client_crt, 0644, err);
    if (rc == PFL_OK)
        rc = put(t, 4, "client.key", &c->client_key, r->files->client_key, 0600, err);
    return rc;
}

static enum pfl_rc check_same_party(const struct pfl_renewal *r, struct pfl_err *err)
{
    const struct pfl_identity *old = pfl_tls_server_identity(r->tls), *new = pfl_tls_server_identity(r->fresh);
    if (pfl_identity_same(old, new) && pfl_identity_same(pfl_tls_client_identity(r->tls), pfl_tls_client_identity(r->fresh)))
        return PFL_OK;
    return pfl_err_set(err, PFL_AUTH, "the CA renewed '%s' to '%s'", pfl_identity_text(old), pfl_identity_text(new));
}

static enum pfl_rc load_trial(struct pfl_renewal *r, struct pfl_err *err)
{
    PFL_AUTO(trial_deinit) struct trial t = {0};
    enum pfl_rc rc = trial_write(r, &t, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_tls_files files = *r->files;
    files.ca_crt = t.paths[0];
    files.server_crt = t.paths[1];
    files.server_key = t.paths[2];
    files.client_crt = t.paths[3];
    files.client_key = t.paths[4];
    rc = pfl_tls_new(&files, &r->fresh, err);
    if (rc == PFL_OK)
        rc = pfl_tls_check_own(r->fresh, pfl_clock_wall() / PFL_SEC, NULL, err);
    if (rc == PFL_OK)
        rc = check_same_party(r, err);
    return rc == PFL_OK ? PFL_OK : pfl_err_wrap(err, "what the CA sent is not used");
}

static bool same_content(const char *path, const struct pfl_buf *content)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *b = NULL;
    return pfl_fs_read(path, 1 << 20, &b, NULL) == PFL_OK && pfl_bytes_eq(pfl_bytes_of(b->data, b->len), pfl_buf_view(content));
}

static enum pfl_rc replace_files(const struct pfl_renewal *r, struct pfl_err *err)
{
    const struct pfl_node_contents *c = &r->contents;
    const struct pfl_swap_file all[] = {{r->files->ca_crt, pfl_buf_view(&c->ca_crt), 0644},
                                        {r->files->server_key, pfl_buf_view(&c->server_key), 0600},
                                        {r->files->server_crt, pfl_buf_view(&c->server_crt), 0644},
                                        {r->files->client_key, pfl_buf_view(&c->client_key), 0600},
                                        {r->files->client_crt, pfl_buf_view(&c->client_crt), 0644}};
    struct pfl_swap_file files[PFL_ARRAY_LEN(all)];
    size_t n = 0;
    for (size_t i = same_content(r->files->ca_crt, &c->ca_crt) ? 1 : 0; i < PFL_ARRAY_LEN(all); i++) {
        if (all[i].content.len > 0)
            files[n++] = all[i];
    }
    PFL_AUTO(pfl_freep) char *marker = marker_of(r->files);
    return pfl_swap_files(marker, files, n, err);
}

static void on_worker_replace(uv_work_t *w)
{
    struct pfl_renewal *r = w->data;
    r->rc = load_trial(r, &r->err);
    if (r->rc == PFL_OK)
        r->rc = replace_files(r, &r->err);
}

static void on_replaced(uv_work_t *w, int status)
{
    struct pfl_renewal *r = w->data;
    (void)status;
    r->working = false;
    finish(r);
}

/* ---- the call ---- */

static void on_answer(void *user, enum pfl_rc rc, const struct pfl_err *err, const struct pfl_ca_credentials *c)
{
    struct pfl_renewal *r = user;
    r->call = NULL;
    r->rc = rc;
    if (rc != PFL_OK)
        r->err = *err;
    else if (c->pending)
        r->rc = pfl_err_set(&r->err, PFL_STATE, "the CA lets a renewal wait for its operator");
    if (r->rc == PFL_OK) {
        const struct pfl_node_certs certs = {.server_chain = c->server_chain.items,
                                             .n_server_chain = c->server_chain.n,
                                             .client_chain = c->client_chain.items,
                                             .n_client_chain = c->client_chain.n,
                                             .roots = c->bundle.roots.items,
                                             .n_roots = c->bundle.roots.n};
        r->rc = pfl_node_renew_contents(&r->pairs, &r->keys, r->same_keys, &certs, &r->contents, &r->err);
        for (size_t i = 0; i < c->bundle.crls.n; i++)
            pfl_ders_add(&r->crls, pfl_buf_view(&c->bundle.crls.items[i]));
    }
    if (r->rc == PFL_OK && uv_queue_work(r->loop, &r->work, on_worker_replace, on_replaced) == 0)
        r->working = true;
    else
        finish(r);
}

static void on_keys(uv_work_t *w, int status)
{
    struct pfl_renewal *r = w->data;
    (void)status;
    r->working = false;
    if (r->canceled || r->rc != PFL_OK) {
        finish(r);
        return;
    }
    const struct pfl_ca_client_opts opts = {.loop = r->loop, .target = r->service, .tls = r->tls};
    const struct pfl_ca_request request = {.server_csr = r->keys.server_csr, .client_csr = r->keys.client_csr};
    r->call = pfl_ca_client_request(&opts, PFL_CA_RENEW, &request, on_answer, r);
}

static void on_worker_keys(uv_work_t *w)
{
    struct pfl_renewal *r = w->data;
    r->rc = pfl_node_renew_keys(&r->pairs, r->same_keys, &r->keys, &r->err);
}

struct pfl_renewal *pfl_renewal_begin(const struct pfl_renewal_opts *opts, pfl_renewal_done done, void *user)
{
    struct pfl_renewal *r = pfl_xcalloc(1, sizeof(*r));
    const struct pfl_tls_files *f = opts->files;
    r->loop = opts->loop;
    r->work.data = r;
    r->files = f;
    r->pairs = (struct pfl_node_pairs){f->ca_crt,     f->server_crt,          f->server_key,  f->client_crt,
                                       f->client_key, f->key_passphrase_file, f->key_pin_file};
    r->tls = pfl_tls_ref(opts->tls);
    r->service = pfl_xstrdup(opts->service);
    r->same_keys = opts->same_keys;
    r->done = done;
    r->user = user;
    r->working = true;
    int rc = uv_queue_work(r->loop, &r->work, on_worker_keys, on_keys);
    PFL_ASSERT(rc == 0);
    return r;
}

void pfl_renewal_cancel(struct pfl_renewal *r, void (*gone)(void *user), void *user)
{
    r->canceled = true;
    r->gone = gone;
    r->gone_user = user;
    if (r->working)
        return; /* the worker's end frees it */
    if (r->call)
        pfl_ca_client_cancel(r->call);
    renewal_free(r);
}
