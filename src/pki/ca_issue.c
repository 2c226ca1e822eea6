/* SPDX-License-Identifier: Apache-2.0 */
/* `p2pfl ca issue`: keys and certificates of a node in one go. Both certificates are in the register, in one transaction, before
 * the first of them is in a file. */
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "pki/ca_private.h"
#include "pki/cert.h"
#include "pki/identity.h"
#include "pki/key.h"

enum { CA_CRT, SERVER_KEY, SERVER_CRT, CLIENT_KEY, CLIENT_CRT, N_FILES };

void pfl_ca_operator(char out[80])
{
    char buf[1024];
    struct passwd pw, *found = NULL;
    bool known = getpwuid_r(getuid(), &pw, buf, sizeof buf, &found) == 0 && found;
    if (known)
        snprintf(out, 80, "operator %.64s", pw.pw_name);
    else
        snprintf(out, 80, "operator with uid %u", (unsigned)getuid());
}

/* What is to be written, while it is made. */
struct issue {
    const struct pfl_ca *ca;
    const struct pfl_issue_opts *opts;
    struct pfl_grant grant;
    struct pfl_new_file files[N_FILES];
    EVP_PKEY *keys[2]; /* owned; of the server's and the client's certificate */
    X509 *certs[2];    /* owned */
};

/* Before the transaction: an RSA key may take seconds, and other processes wait for the register. */
static enum pfl_rc make_keys(struct issue *w, struct pfl_err *err)
{
    enum pfl_rc rc = PFL_OK;
    for (int i = 0; rc == PFL_OK && i < 2; i++) {
        rc = pfl_key_generate(w->opts->key ? w->opts->key : "p256", &w->keys[i], err);
        if (rc == PFL_OK)
            rc = pfl_key_pem(w->keys[i], w->opts->key_passphrase, &w->files[i ? CLIENT_KEY : SERVER_KEY].content, err);
    }
    return rc;
}

static enum pfl_rc issue_one(struct issue *w, const char *purpose, int which, struct pfl_err *err)
{
    w->grant.purpose = purpose;
    enum pfl_rc rc = pfl_ca_sign_key(w->ca, w->keys[which], &w->grant, &w->certs[which], err);
    if (rc == PFL_OK)
        pfl_put_certs(&w->files[which ? CLIENT_CRT : SERVER_CRT].content, w->certs[which], w->ca->keys->chain);
    return rc;
}

static enum pfl_rc register_both(struct issue *w, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_register_begin(w->ca->reg, err);
    if (rc != PFL_OK)
        return rc;
    rc = issue_one(w, "serverAuth", 0, err);
    if (rc == PFL_OK)
        rc = issue_one(w, "clientAuth", 1, err);
    if (rc == PFL_OK) {
        pfl_put_certs(&w->files[CA_CRT].content, NULL, w->ca->keys->bundle);
        rc = pfl_register_commit(w->ca->reg, err);
    }
    if (rc != PFL_OK)
        pfl_register_rollback(w->ca->reg);
    return rc;
}

/* The files cannot be written, and the keys are wiped: nobody can ever use these certificates, and the register says so. */
static void withdraw(const struct issue *w)
{
    struct pfl_err err = {0};
    enum pfl_rc rc = pfl_register_begin(w->ca->reg, &err);
    for (int i = 0; rc == PFL_OK && i < 2; i++) {
        PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
        rc = pfl_identity_of_x509(w->certs[i], &id, &err);
        if (rc == PFL_OK)
            rc = pfl_register_mark_revoked(w->ca->reg, id->serial_hex, "cessationOfOperation", pfl_now_or(0), &err);
        if (rc == PFL_OK)
            rc = pfl_audit_append(w->ca->reg, w->grant.actor, "revoke", id->serial_hex,
                                  "reason=cessationOfOperation: its files could not be written", &err);
    }
    if (rc == PFL_OK)
        rc = pfl_register_commit(w->ca->reg, &err);
    if (rc == PFL_OK)
        return;
    pfl_register_rollback(w->ca->reg);
    pfl_warn("the certificates of '%s' are in the register as valid though no file of them was written: %s", w->grant.name,
             err.msg);
}

static enum pfl_rc check(const struct issue *w, const char *outdir, struct pfl_err *err)
{
    const struct pfl_issue_opts *opts = w->opts;
    enum pfl_rc rc = pfl_grant_check(w->ca, &w->grant, err);
    if (rc == PFL_OK && opts->role && !pfl_role_valid(opts->role))
        rc = pfl_err_set(err, PFL_INVALID, "role '%s': node, coordinator or observer is wanted", pfl_q(opts->role));
    if (rc == PFL_OK && !opts->lifetime_s)
        rc = pfl_check_days(opts->days ? opts->days : PFL_NODE_DAYS_DEFAULT, err);
    if (rc == PFL_OK && pfl_key_spec_in_token(opts->key))
        return pfl_err_set(err, PFL_INVALID,
                           "a key in a token is made where the token is, not at the CA: use p2pfl join or p2pfl csr");
    if (rc == PFL_OK && opts->key && !pfl_key_spec_valid(opts->key, err))
        rc = PFL_INVALID;
    if (rc == PFL_OK && opts->key_passphrase)
        rc = pfl_passphrase_check_new(opts->key_passphrase, err);
    return rc == PFL_OK ? pfl_new_files_absent(outdir, w->files, N_FILES, err) : rc;
}

static enum pfl_rc run(struct issue *w, const char *outdir, struct pfl_err *err)
{
    PFL_AUTO(pfl_freep) char *stage = NULL;
    enum pfl_rc rc = check(w, outdir, err);
    if (rc == PFL_OK)
        rc = make_keys(w, err);
    if (rc == PFL_OK)
        rc = pfl_stage_open(outdir, &stage, err);
    if (rc == PFL_OK)
        rc = register_both(w, err);
    if (rc != PFL_OK) {
        pfl_stage_drop(outdir, stage);
        return rc;
    }
    rc = pfl_new_files_write(stage, w->files, N_FILES, err);
    if (rc == PFL_OK)
        rc = pfl_stage_commit(outdir, stage, err);
    if (rc != PFL_OK) {
        pfl_stage_drop(outdir, stage);
        withdraw(w);
    }
    return rc;
}

enum pfl_rc pfl_ca_issue(const struct pfl_ca *ca, const struct pfl_issue_opts *opts, const char *outdir, struct pfl_err *err)
{
    char operator[80];
    pfl_ca_operator(operator);
    struct issue w = {.ca = ca,
                      .opts = opts,
                      .files = {{"ca.crt", 0644, {0}},
                                {"server.key", 0600, {0}},
                                {"server.crt", 0644, {0}},
                                {"client.key", 0600, {0}},
                                {"client.crt", 0644, {0}}},
                      .grant = {.name = opts->name,
                                .role = opts->role ? opts->role : "node",
                                .sans = opts->sans,
                                .purpose = "serverAuth",
                                .lifetime_s = opts->lifetime_s ? opts->lifetime_s : (int64_t)opts->days * PFL_DAY_S,
                                .now = opts->now,
                                .actor = opts->actor ? opts->actor : operator,
                                .action = "issue" } };
    if (opts->days && !opts->lifetime_s && pfl_check_days(opts->days, err) != PFL_OK)
        return PFL_INVALID;
    enum pfl_rc rc = run(&w, outdir, err);
    pfl_new_files_wipe(w.files, N_FILES);
    for (int i = 0; i < 2; i++) {
        pfl_key_free(w.keys[i]);
        pfl_x509_free(w.certs[i]);
    }
    return rc;
}
