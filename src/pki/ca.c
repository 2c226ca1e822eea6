/* SPDX-License-Identifier: Apache-2.0 */
/* The CA's folder and the two things it does: come into being, and issue. Keys and certificates are made in memory first; files
 * are written last, each new, and taken away again when one of them cannot be written. */
#include "pki/ca.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "pki/build.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "pki/key.h"
#include "pki/trust.h"

enum { DAY_S = 86400, CN_MAX = 64 };

struct pfl_ca {
    EVP_PKEY *key;    /* owned */
    X509 *root;       /* owned */
    char *federation; /* owned */
};

/* A file to be written: all of them or none. */
struct new_file {
    const char *name;
    mode_t mode;
    struct pfl_buf content; /* owned; wiped */
};

static int64_t now_or(int64_t now)
{
    return now ? now : pfl_clock_wall() / PFL_SEC;
}

static void wipe_files(struct new_file *files, size_t n)
{
    for (size_t i = 0; i < n; i++)
        pfl_key_pem_wipe(&files[i].content);
}

static enum pfl_rc check_absent(const char *dir, const struct new_file *files, size_t n, struct pfl_err *err)
{
    for (size_t i = 0; i < n; i++) {
        PFL_AUTO(pfl_freep) char *path = pfl_fs_join(dir, files[i].name);
        if (pfl_fs_exists(path))
            return pfl_err_set(err, PFL_EXISTS, "%s exists already and is not overwritten: choose another folder", path);
    }
    return PFL_OK;
}

static enum pfl_rc write_files(const char *dir, const struct new_file *files, size_t n, struct pfl_err *err)
{
    size_t written = 0;
    enum pfl_rc rc = pfl_fs_mkdirs(dir, 0700, err);
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

static void put_cert(struct new_file *file, const X509 *cert)
{
    PFL_AUTO(pfl_freep) char *pem = pfl_cert_pem(cert);
    pfl_buf_append_str(&file->content, pem);
    PFL_ASSERT(!file->content.failed);
}

/* What a person typed as a name: visible UTF-8, as long as X.509 lets a common name be. */
static bool common_name_valid(const char *name)
{
    size_t len = strlen(name), chars = 0;
    if (len == 0 || len > 4 * CN_MAX || !pfl_utf8_valid(name, len))
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c < 0x20 || c == 0x7f)
            return false;
        chars += (c & 0xc0) != 0x80;
    }
    return chars <= CN_MAX;
}

static enum pfl_rc check_days(int days, struct pfl_err *err)
{
    if (days < 1 || days > PFL_DAYS_MAX)
        return pfl_err_set(err, PFL_INVALID, "%d days: 1 to %d are allowed", days, PFL_DAYS_MAX);
    return PFL_OK;
}

static enum pfl_rc make_root(const struct pfl_ca_opts *opts, EVP_PKEY **ret_key, X509 **ret_root, struct pfl_err *err)
{
    const char *federation = opts->federation ? opts->federation : "p2pfl";
    int days = opts->days ? opts->days : PFL_CA_DAYS_DEFAULT;
    if (!pfl_name_valid(federation))
        return pfl_err_set(err, PFL_INVALID, "federation '%s': 1 to %d of a-z, 0-9 and .-_ are wanted", pfl_q(federation),
                           PFL_NAME_MAX);
    PFL_AUTO(pfl_freep) char *name = opts->name ? pfl_xstrdup(opts->name) : pfl_xasprintf("%.60s CA", federation);
    if (!common_name_valid(name))
        return pfl_err_set(err, PFL_INVALID, "name '%s': 1 to %d visible characters are wanted", pfl_q(name), CN_MAX);
    if (check_days(days, err) != PFL_OK)
        return PFL_INVALID;
    PFL_AUTO(pfl_freep) char *uri = pfl_xasprintf("URI:spiffe://%s", federation);
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = NULL;
    enum pfl_rc rc = pfl_key_generate(opts->key ? opts->key : "p256", &key, err);
    if (rc != PFL_OK)
        return rc;
    int64_t now = now_or(opts->now);
    struct pfl_cert_spec spec = {.common_name = name, .is_ca = true};
    spec.not_before = now - PFL_BACKDATE_S;
    spec.not_after = now + (int64_t)days * DAY_S;
    pfl_strs_add(&spec.sans, uri);
    rc = pfl_cert_build(&spec, key, NULL, key, ret_root, err);
    pfl_strs_deinit(&spec.sans);
    if (rc == PFL_OK)
        *ret_key = pfl_steal(&key);
    return rc;
}

enum pfl_rc pfl_ca_init(const char *dir, const struct pfl_ca_opts *opts, const struct pfl_passphrase *passphrase,
                        struct pfl_err *err)
{
    struct new_file files[] = {{"ca.key", 0600, {0}}, {"ca.crt", 0644, {0}}};
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = NULL;
    PFL_AUTO(pfl_x509_freep) X509 *root = NULL;
    enum pfl_rc rc = check_absent(dir, files, PFL_ARRAY_LEN(files), err);
    if (rc == PFL_OK && passphrase)
        rc = pfl_passphrase_check_new(passphrase, err);
    if (rc == PFL_OK)
        rc = make_root(opts, &key, &root, err);
    if (rc == PFL_OK)
        rc = pfl_key_pem(key, passphrase, &files[0].content, err);
    if (rc == PFL_OK) {
        put_cert(&files[1], root);
        rc = write_files(dir, files, PFL_ARRAY_LEN(files), err);
    }
    wipe_files(files, PFL_ARRAY_LEN(files));
    return rc;
}

static enum pfl_rc open_parts(struct pfl_ca *ca, const char *crt, const char *key, const struct pfl_passphrase *passphrase,
                              struct pfl_err *err)
{
    PFL_AUTO(pfl_trust_freep) struct pfl_trust *trust = NULL;
    enum pfl_rc rc = pfl_trust_load(crt, &trust, err); /* which also says that it is a sound root */
    if (rc == PFL_OK && pfl_trust_n_roots(trust) != 1)
        rc = pfl_err_set(err, PFL_INVALID, "%s: %zu certificates, a CA has one", crt, pfl_trust_n_roots(trust));
    if (rc == PFL_OK)
        rc = pfl_key_load(key, passphrase, &ca->key, err);
    if (rc != PFL_OK)
        return rc;
    ca->root = pfl_trust_root(trust, 0);
    X509_up_ref(ca->root);
    const char *federation = pfl_trust_federation(trust, ca->root);
    ca->federation = pfl_xstrdup(federation ? federation : "p2pfl");
    if (!pfl_key_matches(ca->key, ca->root))
        return pfl_err_set(err, PFL_AUTH, "%s is not the key of %s", key, crt);
    return PFL_OK;
}

enum pfl_rc pfl_ca_open(const char *dir, const struct pfl_passphrase *passphrase, struct pfl_ca **ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_ca_freep) struct pfl_ca *ca = pfl_xcalloc(1, sizeof *ca);
    PFL_AUTO(pfl_freep) char *crt = pfl_fs_join(dir, "ca.crt");
    PFL_AUTO(pfl_freep) char *key = pfl_fs_join(dir, "ca.key");
    enum pfl_rc rc = open_parts(ca, crt, key, passphrase, err);
    if (rc != PFL_OK)
        return rc;
    *ret = pfl_steal(&ca);
    return PFL_OK;
}

void pfl_ca_close(struct pfl_ca *ca)
{
    if (!ca)
        return;
    pfl_key_free(ca->key);
    pfl_x509_free(ca->root);
    free(ca->federation);
    free(ca);
}

const char *pfl_ca_federation(const struct pfl_ca *ca)
{
    return ca->federation;
}

X509 *pfl_ca_root(const struct pfl_ca *ca)
{
    return ca->root;
}

static enum pfl_rc check_issue(const struct pfl_issue_opts *opts, struct pfl_err *err)
{
    if (!pfl_name_valid(opts->name))
        return pfl_err_set(err, PFL_INVALID, "name '%s': 1 to %d of a-z, 0-9 and .-_ are wanted", pfl_q(opts->name), PFL_NAME_MAX);
    if (opts->role && !pfl_role_valid(opts->role))
        return pfl_err_set(err, PFL_INVALID, "role '%s': node, coordinator or observer is wanted", pfl_q(opts->role));
    if (opts->sans.n == 0)
        return pfl_err_set(err, PFL_INVALID,
                           "no subject alternative name for '%s': peers check the address that they dial, so give at least one",
                           opts->name);
    if (opts->sans.n >= PFL_SANS_MAX)
        return pfl_err_set(err, PFL_INVALID, "%zu subject alternative names, at most %d are allowed", opts->sans.n,
                           PFL_SANS_MAX - 1);
    if (opts->key_passphrase && pfl_passphrase_check_new(opts->key_passphrase, err) != PFL_OK)
        return PFL_INVALID;
    return check_days(opts->days ? opts->days : PFL_NODE_DAYS_DEFAULT, err);
}

/* The validity asked for, cut to the root's; a root that is out of time issues nothing. */
static enum pfl_rc set_validity(const struct pfl_ca *ca, const struct pfl_issue_opts *opts, struct pfl_cert_spec *spec,
                                struct pfl_err *err)
{
    char bound[32];
    int64_t now = now_or(opts->now), from = pfl_cert_not_before(ca->root), until = pfl_cert_not_after(ca->root);
    int days = opts->days ? opts->days : PFL_NODE_DAYS_DEFAULT;
    if (now > until || now < from) {
        pfl_time_text(now > until ? until : from, bound);
        return pfl_err_set(err, PFL_STATE, "the CA's certificate %s %s: it can issue nothing now",
                           now > until ? "expired on" : "is not valid before", bound);
    }
    spec->not_before = now - PFL_BACKDATE_S < from ? from : now - PFL_BACKDATE_S;
    spec->not_after = now + (int64_t)days * DAY_S > until ? until : now + (int64_t)days * DAY_S;
    return PFL_OK;
}

/* One key with its certificate. */
static enum pfl_rc issue_one(const struct pfl_ca *ca, const struct pfl_issue_opts *opts, struct pfl_cert_spec *spec,
                             const char *purpose, struct new_file *key_file, struct new_file *crt_file, struct pfl_err *err)
{
    PFL_AUTO(pfl_key_freep) EVP_PKEY *key = NULL;
    PFL_AUTO(pfl_x509_freep) X509 *cert = NULL;
    spec->purpose = purpose;
    enum pfl_rc rc = pfl_key_generate(opts->key ? opts->key : "p256", &key, err);
    if (rc == PFL_OK)
        rc = pfl_cert_build(spec, key, ca->root, ca->key, &cert, err);
    if (rc == PFL_OK)
        rc = pfl_key_pem(key, opts->key_passphrase, &key_file->content, err);
    if (rc == PFL_OK)
        put_cert(crt_file, cert);
    return rc;
}

static enum pfl_rc collect_sans(const struct pfl_ca *ca, const struct pfl_issue_opts *opts, struct pfl_strs *ret,
                                struct pfl_err *err)
{
    for (size_t i = 0; i < opts->sans.n; i++) {
        PFL_AUTO(pfl_freep) char *san = NULL;
        enum pfl_rc rc = pfl_san_parse(opts->sans.items[i], &san, err);
        if (rc != PFL_OK)
            return rc;
        pfl_strs_add_once(ret, san);
    }
    PFL_AUTO(pfl_freep)
    char *uri = pfl_xasprintf("URI:spiffe://%s/%s/%s", ca->federation, opts->role ? opts->role : "node", opts->name);
    pfl_strs_add(ret, uri);
    return PFL_OK;
}

enum pfl_rc pfl_ca_issue(const struct pfl_ca *ca, const struct pfl_issue_opts *opts, const char *outdir, struct pfl_err *err)
{
    struct new_file files[] = {{"ca.crt", 0644, {0}},
                               {"server.key", 0600, {0}},
                               {"server.crt", 0644, {0}},
                               {"client.key", 0600, {0}},
                               {"client.crt", 0644, {0}}};
    struct pfl_cert_spec spec = {.common_name = opts->name};
    enum pfl_rc rc = check_issue(opts, err);
    if (rc == PFL_OK)
        rc = check_absent(outdir, files, PFL_ARRAY_LEN(files), err);
    if (rc == PFL_OK)
        rc = set_validity(ca, opts, &spec, err);
    if (rc == PFL_OK)
        rc = collect_sans(ca, opts, &spec.sans, err);
    if (rc == PFL_OK)
        rc = issue_one(ca, opts, &spec, "serverAuth", &files[1], &files[2], err);
    if (rc == PFL_OK)
        rc = issue_one(ca, opts, &spec, "clientAuth", &files[3], &files[4], err);
    if (rc == PFL_OK) {
        put_cert(&files[0], ca->root);
        rc = write_files(outdir, files, PFL_ARRAY_LEN(files), err);
    }
    wipe_files(files, PFL_ARRAY_LEN(files));
    pfl_strs_deinit(&spec.sans);
    return rc;
}

/* Labels of 1 to 63 letters, digits, '-' and '_', not beginning or ending in '-'; the first may be "*". */
static bool dns_name_valid(const char *name)
{
    size_t len = strlen(name), label = 0;
    if (len == 0 || len > 253 || name[len - 1] == '.')
        return false;
    const char *c = name;
    if (c[0] == '*' && c[1] == '.' && strchr(c + 2, '.'))
        c += 2;
    for (; *c; c++) {
        if (*c == '.') {
            if (label == 0 || c[-1] == '-')
                return false;
            label = 0;
            continue;
        }
        bool fine = isalnum((unsigned char)*c) || *c == '_' || (*c == '-' && label > 0);
        if (!fine || ++label > 63)
            return false;
    }
    return c[-1] != '-';
}

enum pfl_rc pfl_san_parse(const char *text, char **ret, struct pfl_err *err)
{
    unsigned char ip[16];
    char canonical[INET6_ADDRSTRLEN];
    if (strncasecmp(text, "IP:", 3) == 0) {
        int family = inet_pton(AF_INET, text + 3, ip) == 1 ? AF_INET : inet_pton(AF_INET6, text + 3, ip) == 1 ? AF_INET6 : 0;
        if (family == 0)
            return pfl_err_set(err, PFL_INVALID, "subject alternative name '%s': not an IP address", pfl_q(text));
        inet_ntop(family, ip, canonical, sizeof canonical);
        *ret = pfl_xasprintf("IP:%s", canonical);
        return PFL_OK;
    }
    if (strncasecmp(text, "DNS:", 4) != 0)
        return pfl_err_set(err, PFL_INVALID, "subject alternative name '%s': IP:… or DNS:… is wanted", pfl_q(text));
    if (!dns_name_valid(text + 4) || inet_pton(AF_INET, text + 4, ip) == 1)
        return pfl_err_set(err, PFL_INVALID, "subject alternative name '%s': not a DNS name", pfl_q(text));
    *ret = pfl_xasprintf("DNS:%s", text + 4);
    for (char *c = *ret + 4; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return PFL_OK;
}
