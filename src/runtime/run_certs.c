/* SPDX-License-Identifier: Apache-2.0 */
/* Which certificates the nodes of a run use. Those made for the run come from a CA whose key is encrypted under a passphrase that
 * was never written anywhere, and is removed as soon as the last certificate is out: nobody can add a node to the federation later.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "pki/ca.h"
#include "pki/digest.h"
#include "runtime/run_plan.h"

static const char *const file_names[] = {"ca.crt", "server.crt", "server.key", "client.crt", "client.key"};

static char **field(struct pfl_ssl_config *ssl, size_t i)
{
    char **fields[] = {&ssl->ca_crt, &ssl->server_crt, &ssl->server_key, &ssl->client_crt, &ssl->client_key};
    return fields[i];
}

void pfl_plan_ssl_deinit(struct pfl_ssl_config *ssl)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(file_names); i++)
        pfl_freep(field(ssl, i));
    pfl_freep(&ssl->passphrase_file);
    pfl_freep(&ssl->pin_file);
}

static enum pfl_rc random_passphrase(struct pfl_passphrase **ret, struct pfl_err *err)
{
    uint8_t raw[32];
    char hex[2 * sizeof(raw) + 1];
    pfl_random_bytes(raw, sizeof(raw));
    pfl_hex(pfl_bytes_of(raw, sizeof(raw)), hex);
    enum pfl_rc rc = pfl_passphrase_of(hex, sizeof(hex) - 1, ret, err);
    explicit_bzero(raw, sizeof(raw));
    explicit_bzero(hex, sizeof(hex));
    return rc;
}

static enum pfl_rc issue(const struct pfl_ca *ca, const struct pfl_plan_node *node, const char *role, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *dir = pfl_fs_join(node->dir, "certs");
    struct pfl_issue_opts opts = {.name = node->name, .role = role};
    pfl_strs_add(&opts.sans, "IP:127.0.0.1");
    pfl_strs_add(&opts.sans, "IP:::1");
    pfl_strs_add(&opts.sans, "DNS:localhost");
    enum pfl_rc rc = pfl_ca_issue(ca, &opts, dir, err);
    pfl_strs_deinit(&opts.sans);
    return rc;
}

/* A CA in `dir`, certificates for the nodes, and no CA key afterwards, whether it went well or not. */
static enum pfl_rc make_certs(const char *dir, const char *ca_name, const struct pfl_plan_node *nodes, size_t n,
                              struct pfl_err *err)
{
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *pass = NULL;
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = NULL;
    PFL_AUTO(pfl_freep) char *key = pfl_fs_join(dir, "ca.key");
    enum pfl_rc rc = random_passphrase(&pass, err);
    if (rc == PFL_OK)
        rc = pfl_ca_init(dir, &(struct pfl_ca_opts){.name = ca_name}, pass, err);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_ca_open(dir, pass, &ca, err);
    for (size_t i = 0; rc == PFL_OK && i < n; i++)
        rc = issue(ca, &nodes[i], i == 0 && !ca_name ? "coordinator" : "node", err); /* the first one starts the learning */
    if (unlink(key) != 0 && rc == PFL_OK)
        rc = pfl_err_set(err, PFL_IO, "%s: cannot be removed", key);
    return rc;
}

/* "ca.crt" of the federation is public: the impostor has it, and so can check whom it dials. Its own certificates are another CA's.
 */
static enum pfl_rc impostor_certs(struct pfl_plan *p, const struct pfl_run_opts *opts, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *ca_dir = pfl_fs_join(p->impostor.dir, "ca");
    PFL_AUTO(pfl_freep) char *own_ca = pfl_fs_join(p->impostor.dir, "certs/ca.crt");
    PFL_AUTO(pfl_freep) char *node_yaml_dir = pfl_xstrdup(p->nodes[0].dir);
    PFL_AUTO(pfl_freep) char *real = NULL;
    struct pfl_ssl_config ssl = {0};
    struct pfl_blob *blob = NULL;
    enum pfl_rc rc = make_certs(ca_dir, "Mallory CA", &p->impostor, 1, err);
    if (rc == PFL_OK)
        rc = pfl_plan_ssl(p, opts, &p->nodes[0], &ssl, err);
    if (rc != PFL_OK)
        return rc;
    real = ssl.ca_crt[0] == '/' ? pfl_xstrdup(ssl.ca_crt) : pfl_fs_join(node_yaml_dir, ssl.ca_crt);
    pfl_plan_ssl_deinit(&ssl);
    rc = pfl_fs_read(real, 1 << 20, &blob, err);
    if (rc == PFL_OK)
        rc = pfl_fs_write_atomic(own_ca, pfl_bytes_of(blob->data, blob->len), 0644, err);
    pfl_blob_unref(blob);
    return rc;
}

static bool names_files(const struct pfl_plan *p)
{
    struct pfl_ssl_config ssl = p->cfg.settings.ssl;
    for (size_t i = 0; i < PFL_ARRAY_LEN(file_names); i++)
        if (*field(&ssl, i))
            return true;
    return false;
}

enum pfl_rc pfl_plan_certs(struct pfl_plan *p, const struct pfl_run_opts *opts, struct pfl_err *err)
{
    if (!p->cfg.settings.ssl.use_ssl) {
        if (opts->certs || opts->impostor)
            return pfl_err_set(err, PFL_INVALID, "%s needs TLS, and this experiment says use_ssl: false",
                               opts->certs ? "--certs" : "--impostor");
        return PFL_OK;
    }
    enum pfl_rc rc = PFL_OK;
    if (!opts->certs && !names_files(p)) {
        PFL_AUTO(pfl_freep) char *dir = pfl_fs_join(p->dir, "ca");
        rc = make_certs(dir, NULL, p->nodes, p->cfg.nodes, err);
        p->certs_made = rc == PFL_OK;
    }
    if (rc == PFL_OK && opts->impostor)
        rc = impostor_certs(p, opts, err);
    return rc;
}

/* Paths of an experiment are relative to its file, or, as with P2PFL, to the current folder. */
static enum pfl_rc resolve(const struct pfl_plan *p, const char *what, const char *path, char **ret, struct pfl_err *err)
{
    if (pfl_ssl_key_in_token(path)) {
        *ret = pfl_xstrdup(path);
        return PFL_OK;
    }
    PFL_AUTO(pfl_freep) char *beside = pfl_fs_join(p->source_dir, path);
    char *full = realpath(beside, NULL);
    if (!full)
        full = realpath(path, NULL);
    if (!full)
        return pfl_err_errno(err, errno, "settings.ssl.%s: %s", what, path);
    *ret = full;
    return PFL_OK;
}

static enum pfl_rc files_of_experiment(const struct pfl_plan *p, struct pfl_ssl_config *ret, struct pfl_err *err)
{
    struct pfl_ssl_config named = p->cfg.settings.ssl;
    static const char *const keys[] = {"ca_crt", "server_crt", "server_key", "client_crt", "client_key"};
    for (size_t i = 0; i < PFL_ARRAY_LEN(file_names); i++) {
        if (!*field(&named, i))
            return pfl_err_set(err, PFL_INVALID, "settings.ssl names some of its files but not %s; name all five or none", keys[i]);
        enum pfl_rc rc = resolve(p, keys[i], *field(&named, i), field(ret, i), err);
        if (rc != PFL_OK)
            return rc;
    }
    enum pfl_rc rc = PFL_OK;
    if (named.passphrase_file)
        rc = resolve(p, "passphrase_file", named.passphrase_file, &ret->passphrase_file, err);
    if (rc == PFL_OK && named.pin_file)
        rc = resolve(p, "pin_file", named.pin_file, &ret->pin_file, err);
    return rc;
}

/* DIR/<name>/ca.crt and so on, or the five in DIR itself, for every node the same. */
static enum pfl_rc files_of_folder(const char *dir, const char *name, struct pfl_ssl_config *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *own = pfl_fs_join(dir, name);
    const char *from = pfl_fs_exists(own) ? own : dir;
    for (size_t i = 0; i < PFL_ARRAY_LEN(file_names); i++) {
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(from, file_names[i]);
        *field(ret, i) = realpath(path, NULL);
        if (!*field(ret, i))
            return pfl_err_errno(err, errno, "--certs: %s (neither there nor in %s/)", path, own);
    }
    return PFL_OK;
}

static enum pfl_rc files_for(const struct pfl_plan *p, const struct pfl_run_opts *opts, const struct pfl_plan_node *node,
                             struct pfl_ssl_config *ret, struct pfl_err *err)
{
    if (node != &p->impostor && opts->certs)
        return files_of_folder(opts->certs, node->name, ret, err);
    if (node != &p->impostor && names_files(p))
        return files_of_experiment(p, ret, err);
    for (size_t i = 0; i < PFL_ARRAY_LEN(file_names); i++)
        *field(ret, i) = pfl_fs_join("certs", file_names[i]);
    return PFL_OK;
}

enum pfl_rc pfl_plan_ssl(const struct pfl_plan *p, const struct pfl_run_opts *opts, const struct pfl_plan_node *node,
                         struct pfl_ssl_config *ret, struct pfl_err *err)
{
    struct pfl_ssl_config ssl = {.use_ssl = p->cfg.settings.ssl.use_ssl, .tls12_allowed = p->cfg.settings.ssl.tls12_allowed};
    if (ssl.use_ssl) {
        enum pfl_rc rc = files_for(p, opts, node, &ssl, err);
        if (rc != PFL_OK) {
            pfl_plan_ssl_deinit(&ssl);
            return rc;
        }
    }
    *ret = ssl;
    return PFL_OK;
}
