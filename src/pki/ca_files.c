/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the CA and of those it issues to. A new folder is filled beside its place and renamed, so nobody ever sees half of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "pki/ca_private.h"
#include "pki/cert.h"
#include "pki/crl.h"
#include "pki/key.h"
#include "pki/sql.h"

void pfl_new_files_wipe(struct pfl_new_file *files, size_t n)
{
    for (size_t i = 0; i < n; i++)
        pfl_key_pem_wipe(&files[i].content);
}

enum pfl_rc pfl_new_files_absent(const char *dir, const struct pfl_new_file *files, size_t n, struct pfl_err *err)
{
    for (size_t i = 0; i < n; i++) {
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, files[i].name);
        if (pfl_fs_exists(path))
            return pfl_err_set(err, PFL_EXISTS, "%s exists already and is not overwritten: choose another folder", path);
    }
    return PFL_OK;
}

enum pfl_rc pfl_new_files_write(const char *dir, const struct pfl_new_file *files, size_t n, struct pfl_err *err)
{
    size_t written = 0;
    enum pfl_rc rc = PFL_OK;
    while (rc == PFL_OK && written < n) {
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, files[written].name);
        rc = pfl_fs_write_new(path, pfl_buf_view(&files[written].content), files[written].mode, err);
        if (rc == PFL_OK)
            written++;
    }
    for (size_t i = 0; rc != PFL_OK && i < written; i++) {
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, files[i].name);
        unlink(path);
    }
    return rc;
}

/* "a/b/" and "a/b" are the same folder; a name beside it needs the second. */
static char *without_slash(const char *dir)
{
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    return pfl_xstrndup(dir, len);
}

enum pfl_rc pfl_stage_open(const char *dir, char **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *plain = without_slash(dir);
    PFL_AUTO(pfl_freep) char *parent = pfl_fs_dirname(plain);
    if (pfl_fs_exists(dir)) {
        *ret = pfl_xstrdup(dir);
        return pfl_fs_mkdirs(dir, 0700, err); /* which says so where it is no folder */
    }
    enum pfl_rc rc = pfl_fs_mkdirs(parent, 0700, err);
    if (rc != PFL_OK)
        return rc;
    PFL_AUTO(pfl_freep) char *stage = pfl_xasprintf("%s.new-XXXXXX", plain);
    if (!mkdtemp(stage))
        return pfl_err_errno(err, errno, "%s: cannot make this folder", dir);
    *ret = pfl_steal(&stage);
    return PFL_OK;
}

enum pfl_rc pfl_stage_commit(const char *dir, const char *stage, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *plain = without_slash(dir);
    if (pfl_streq(dir, stage))
        return PFL_OK;
    if (renameat2(AT_FDCWD, stage, AT_FDCWD, plain, RENAME_NOREPLACE) == 0)
        return PFL_OK;
    if (errno == EINVAL && !pfl_fs_exists(plain) && rename(stage, plain) == 0) /* a file system without that flag */
        return PFL_OK;
    return pfl_err_errno(err, errno, "%s: cannot make this folder", dir);
}

void pfl_stage_drop(const char *dir, const char *stage)
{
    if (!stage || pfl_streq(dir, stage))
        return;
    DIR *d = opendir(stage);
    for (const struct dirent *e; d && (e = readdir(d));)
        if (!pfl_streq(e->d_name, ".") && !pfl_streq(e->d_name, ".."))
            (void)unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    (void)rmdir(stage);
}

void pfl_put_certs(struct pfl_buf *out, X509 *leaf, const STACK_OF(X509) * more)
{
    if (leaf) {
        PFL_AUTO(pfl_freep) char *pem = pfl_cert_pem(leaf);
        pfl_buf_append_str(out, pem);
    }
    for (size_t i = 0; i < pfl_x509s_n(more); i++) {
        PFL_AUTO(pfl_freep) char *pem = pfl_cert_pem(pfl_x509s_at(more, i));
        pfl_buf_append_str(out, pem);
    }
    PFL_ASSERT(!out->failed);
}

static enum pfl_rc put_file(const char *dir, const char *name, struct pfl_bytes content, struct pfl_err *err)
{
    PFL_AUTO(pfl_blob_freep) struct pfl_blob *there = NULL;
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, name);
    if (pfl_fs_read(path, content.len, &there, NULL) == PFL_OK && pfl_bytes_eq(content, pfl_bytes_of(there->data, there->len)))
        return PFL_OK;
    return pfl_fs_write_atomic(path, content, 0644, err);
}

static void put_pem(struct pfl_buf *out, const char *label, struct pfl_bytes der)
{
    enum { LINE = 48 }; /* bytes in a line of 64 characters */
    pfl_buf_printf(out, "-----BEGIN %s-----\n", label);
    for (size_t at = 0; at < der.len; at += LINE) {
        unsigned char line[LINE / 3 * 4 + 1];
        size_t n = der.len - at < LINE ? der.len - at : LINE;
        struct pfl_bytes part = pfl_bytes_sub(der, at, n);
        EVP_EncodeBlock(line, part.data, (int)part.len);
        pfl_buf_printf(out, "%s\n", (const char *)line);
    }
    pfl_buf_printf(out, "-----END %s-----\n", label);
}

/* Those of issuers that members still trust, the signer's first. */
static enum pfl_rc put_crls(const struct pfl_ca *ca, struct pfl_buf *out, struct pfl_err *err)
{
    PFL_AUTO(pfl_sql_freep) struct sqlite3_stmt *stmt = NULL;
    bool more = false;
    enum pfl_rc rc = pfl_sql_query(ca->reg, err, &stmt,
                                   "SELECT c.der FROM crls c JOIN issuers i ON i.fingerprint = c.issuer WHERE i.state <> 'retired'"
                                   " ORDER BY i.fingerprint <> ?, i.rowid",
                                   "t", ca->keys->signer->fingerprint);
    if (rc == PFL_OK)
        rc = pfl_sql_next(ca->reg, stmt, &more, err);
    while (rc == PFL_OK && more) {
        put_pem(out, "X509 CRL", pfl_sql_blob(stmt, 0));
        rc = pfl_sql_next(ca->reg, stmt, &more, err);
    }
    return rc == PFL_OK && out->failed ? pfl_err_set(err, PFL_TOO_BIG, "the revocation lists are larger than %zu bytes", out->limit)
                                       : rc;
}

static enum pfl_rc write_all(const struct pfl_ca *ca, struct pfl_err *err)
{
    struct pfl_buf root = {0}, bundle = {0}, intermediate = {0}, crls = {.limit = (size_t)PFL_ISSUERS_MAX * PFL_CRL_MAX * 2};
    const struct pfl_ca_keys *keys = ca->keys;
    pfl_put_certs(&root, keys->root->cert, NULL);
    pfl_put_certs(&bundle, NULL, keys->bundle);
    pfl_put_certs(&intermediate, NULL, keys->chain);
    enum pfl_rc rc = put_file(ca->dir, "ca.crt", pfl_buf_view(&root), err);
    if (rc == PFL_OK)
        rc = put_file(ca->dir, "bundle.pem", pfl_buf_view(&bundle), err);
    if (rc == PFL_OK && intermediate.len > 0)
        rc = put_file(ca->dir, "intermediate.crt", pfl_buf_view(&intermediate), err);
    if (rc == PFL_OK)
        rc = put_crls(ca, &crls, err);
    if (rc == PFL_OK)
        rc = put_file(ca->dir, "crl.pem", pfl_buf_view(&crls), err);
    pfl_buf_deinit(&root);
    pfl_buf_deinit(&bundle);
    pfl_buf_deinit(&intermediate);
    pfl_buf_deinit(&crls);
    return rc;
}

enum pfl_rc pfl_ca_write_files(const struct pfl_ca *ca, struct pfl_err *err)
{
    /* under the register's lock: of two processes the one with the newer state must write last */
    enum pfl_rc rc = pfl_register_begin(ca->reg, err);
    if (rc != PFL_OK)
        return rc;
    rc = pfl_ca_refresh(ca, err);
    if (rc == PFL_OK)
        rc = write_all(ca, err);
    pfl_register_rollback(ca->reg);
    return rc;
}

enum pfl_rc pfl_ca_follow(struct pfl_ca *ca, struct pfl_err *err)
{
    int64_t now = 0;
    /* grows with every commit of another connection and never with our own */
    enum pfl_rc rc = pfl_sql_get_int(ca->reg, err, 0, &now, "PRAGMA data_version", "");
    if (rc == PFL_OK && now != ca->seen)
        rc = pfl_ca_write_files(ca, err);
    if (rc == PFL_OK)
        ca->seen = now;
    return rc;
}
