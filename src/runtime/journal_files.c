/* SPDX-License-Identifier: Apache-2.0 */
/* The models beside the journal: written whole or not at all, checked when they are read, removed when nothing names them. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "pki/digest.h"
#include "runtime/journal_impl.h"

enum { NAME_KEPT = 80, HEADER_ROOM = 2 << 20 };

char *pfl_journal_file_name(const char *kind, const char *experiment, int64_t round, unsigned version)
{
    PFL_AUTO(pfl_freep) char *safe = pfl_xstrndup(experiment, NAME_KEPT);
    for (char *s = safe; *s; s++) {
        if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
            *s = '_';
    }
    char suffix[2] = {version ? (char)('a' + version) : '\0', '\0'};
    return pfl_xasprintf("%s-%s-%lld%s.safetensors", kind, safe, (long long)round, suffix);
}

enum pfl_rc pfl_journal_file_write(const char *models, const char *name, struct pfl_payload *p, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(models, name);
    const struct pfl_bytes parts[] = {pfl_buf_view(&p->head), pfl_bytes_of(p->model->data, p->model->layout->bytes)};
    return pfl_fs_write_atomic_parts(path, parts, PFL_ARRAY_LEN(parts), 0600, err);
}

static enum pfl_rc decode(struct pfl_blob *blob, const uint8_t *digest, struct pfl_layout *layout, struct pfl_payload **ret,
                          struct pfl_err *err)
{
    PFL_AUTO(pfl_model_freep) struct pfl_model *model = NULL;
    PFL_AUTO(pfl_payload_freep) struct pfl_payload *p = NULL;
    uint8_t found[PFL_DIGEST_LEN];
    pfl_sha256(pfl_bytes_of(blob->data, blob->len), found);
    if (memcmp(found, digest, sizeof(found)) != 0)
        return pfl_err_set(err, PFL_MALFORMED, "it is not what was written: its SHA-256 is another one");
    enum pfl_rc rc = pfl_safetensors_decode(blob, 0, blob->len, layout, &model, err);
    if (rc == PFL_OK)
        rc = pfl_payload_new(model, &p, err);
    if (rc != PFL_OK)
        return rc;
    memcpy(p->digest, digest, sizeof(p->digest));
    p->has_digest = true;
    *ret = pfl_steal(&p);
    return PFL_OK;
}

enum pfl_rc pfl_journal_file_read(const char *models, const struct pfl_journal_file *f, struct pfl_layout *layout,
                                  struct pfl_payload **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *path = pfl_fs_join(models, f->name);
    struct pfl_blob *blob = NULL;
    size_t limit;
    if (!pfl_size_add(layout->bytes, HEADER_ROOM, &limit))
        return pfl_err_set(err, PFL_TOO_BIG, "%s: too big a model", path);
    enum pfl_rc rc = pfl_fs_read(path, limit, &blob, err);
    if (rc != PFL_OK)
        return rc;
    rc = decode(blob, f->digest, layout, ret, err);
    pfl_blob_unref(blob);
    return rc == PFL_OK ? rc : pfl_err_wrap(err, "%s", path);
}

static bool is_ours(const char *name)
{
    return (pfl_str_has_prefix(name, "checkpoint-") || pfl_str_has_prefix(name, "contribution-")) && strstr(name, ".safetensors");
}

void pfl_journal_files_sweep(const char *models, const char *const *named, size_t n)
{
    DIR *dir = opendir(models);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        bool keep = !is_ours(e->d_name);
        for (size_t i = 0; !keep && i < n; i++)
            keep = pfl_streq(named[i], e->d_name);
        if (!keep && unlinkat(dirfd(dir), e->d_name, 0) != 0)
            pfl_warn("%s/%s: cannot be removed: %s", models, pfl_q(e->d_name), strerror(errno));
    }
    if (dir)
        closedir(dir);
}
