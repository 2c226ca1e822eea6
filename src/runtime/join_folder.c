/* SPDX-License-Identifier: Apache-2.0 */
/* A node's folder comes into being whole: it is made beside the place where it will be and renamed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "config/node_config.h"
#include "pki/node_files.h"
#include "runtime/join.h"

static bool is_empty(const char *dir)
{
    DIR *d = opendir(dir);
    bool empty = d != NULL;
    for (struct dirent *e; empty && (e = readdir(d));)
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    if (d)
        closedir(d);
    return empty;
}

enum pfl_rc pfl_node_folder_begin(const char *dir, struct pfl_node_folder *ret, struct pfl_err *err)
{
    struct stat st;
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    PFL_AUTO(pfl_freep) char *final = pfl_xstrndup(dir, len);
    if (lstat(final, &st) == 0 && (!S_ISDIR(st.st_mode) || !is_empty(final)))
        return pfl_err_set(err, PFL_EXISTS, "%s exists already and is not overwritten: choose another folder with --dir", final);
    PFL_AUTO(pfl_freep) char *parent = pfl_fs_dirname(final);
    PFL_AUTO(pfl_freep) char *temp = pfl_xasprintf("%s/.p2pfl-join-XXXXXX", parent);
    enum pfl_rc rc = pfl_fs_mkdirs(parent, 0755, err);
    if (rc != PFL_OK)
        return rc;
    if (!mkdtemp(temp)) /* 0700 */
        return pfl_err_errno(err, errno, "%s", temp);
    ret->certs = pfl_fs_join(temp, "certs");
    ret->final = pfl_steal(&final);
    ret->temp = pfl_steal(&temp);
    return pfl_fs_mkdirs(ret->certs, 0700, err);
}

static void set(char **slot, const char *value)
{
    free(*slot);
    *slot = value ? pfl_xstrdup(value) : NULL;
}

static void override(struct pfl_node_config *c, const struct pfl_node_yaml *y)
{
    struct pfl_ssl_config *ssl = &c->settings.ssl;
    ssl->use_ssl = true;
    set(&ssl->ca_crt, "certs/ca.crt");
    set(&ssl->server_crt, "certs/server.crt");
    set(&ssl->server_key, "certs/server.key");
    set(&ssl->client_crt, "certs/client.crt");
    set(&ssl->client_key, "certs/client.key");
    set(&ssl->passphrase_file, NULL);
    set(&ssl->pin_file, NULL);
    set(&c->settings.crl.file, y->crl ? "certs/crl.pem" : NULL);
    set(&c->name, y->name);
    set(&c->address, y->address);
    set(&c->federation, y->federation);
    set(&c->state_dir, ".");
    set(&c->ca.service, y->ca_service);
    for (size_t i = 0; y->connect && i < y->connect->n; i++)
        if (strcmp(y->connect->items[i], y->address) != 0)
            pfl_strs_add_once(&c->connect, y->connect->items[i]);
}

static enum pfl_rc load_settings(const struct pfl_node_yaml *y, struct pfl_node_config *ret, struct pfl_err *err)
{
    if (!y->settings_yaml || y->settings_yaml[0] == '\0') {
        pfl_node_config_default(ret);
        ret->learner.batch_size = ret->settings.batch_size;
        return PFL_OK;
    }
    return pfl_node_config_federation("the federation's settings", y->settings_yaml, strlen(y->settings_yaml), ret, err);
}

enum pfl_rc pfl_node_folder_yaml(const struct pfl_node_folder *f, const struct pfl_node_yaml *y, struct pfl_err *err)
{
    struct pfl_node_config c;
    enum pfl_rc rc = load_settings(y, &c, err);
    if (rc != PFL_OK)
        return rc;
    override(&c, y);
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(f->temp, "node.yaml");
    rc = pfl_node_config_write(path, &c, err);
    pfl_node_config_deinit(&c);
    return rc;
}

static enum pfl_rc sync_dir(const char *path, struct pfl_err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int ok = fd < 0 ? -1 : fsync(fd);
    int errnum = errno;
    if (fd >= 0)
        close(fd);
    return ok == 0 ? PFL_OK : pfl_err_errno(err, errnum, "%s", path);
}

enum pfl_rc pfl_node_folder_commit(struct pfl_node_folder *f, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *parent = pfl_fs_dirname(f->final);
    enum pfl_rc rc = sync_dir(f->certs, err);
    if (rc == PFL_OK)
        rc = sync_dir(f->temp, err);
    if (rc != PFL_OK)
        return rc;
    if (rename(f->temp, f->final) != 0) /* onto nothing or an empty folder; anything else fails */
        return pfl_err_errno(err, errno == ENOTEMPTY ? EEXIST : errno, "%s: cannot be put in place", f->final);
    free(f->temp);
    f->temp = NULL;
    return sync_dir(parent, err);
}

static void remove_files(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d)
        return;
    for (struct dirent *e; (e = readdir(d));)
        (void)unlinkat(dirfd(d), e->d_name, 0); /* folders stay: they are removed by name */
    closedir(d);
}

void pfl_node_folder_abandon(struct pfl_node_folder *f)
{
    if (f->temp) {
        remove_files(f->certs);
        rmdir(f->certs);
        remove_files(f->temp);
        rmdir(f->temp);
    }
    free(f->temp);
    free(f->certs);
    free(f->final);
    *f = (struct pfl_node_folder){0};
}

char *pfl_join_address_of(const struct pfl_strs *sans)
{
    const char *san = sans->n > 0 ? sans->items[0] : "IP:127.0.0.1";
    const char *host = strchr(san, ':') + 1;
    return strchr(host, ':') ? pfl_xasprintf("[%s]:%d", host, PFL_JOIN_PORT) : pfl_xasprintf("%s:%d", host, PFL_JOIN_PORT);
}

enum pfl_rc pfl_csr_folder(const struct pfl_csr_folder_opts *o, struct pfl_err *err)
{
    PFL_AUTO(pfl_node_folder_abandon) struct pfl_node_folder folder = {0};
    PFL_AUTO(pfl_node_keys_deinit) struct pfl_node_keys keys = {0};
    PFL_AUTO(pfl_freep) char *address = o->address ? pfl_xstrdup(o->address) : pfl_join_address_of(&o->sans);
    const struct pfl_node_yaml yaml = {
        .name = o->name, .federation = o->federation, .address = address, .ca_service = o->ca_service};
    if (!pfl_name_valid(o->name))
        return pfl_err_set(err, PFL_INVALID, "name '%s': 1 to %d of a-z, 0-9 and .-_ are wanted", pfl_q(o->name), PFL_NAME_MAX);
    enum pfl_rc rc = pfl_node_folder_begin(o->dir, &folder, err);
    if (rc == PFL_OK)
        rc = pfl_node_keys_make(o->name, &o->sans, o->key, o->pin_file, &keys, err);
    if (rc == PFL_OK)
        rc = pfl_node_requests_write(folder.certs, &keys, err);
    if (rc == PFL_OK)
        rc = pfl_node_folder_yaml(&folder, &yaml, err);
    if (rc == PFL_OK)
        rc = pfl_node_folder_commit(&folder, err);
    keys.kept = rc == PFL_OK;
    return rc;
}
