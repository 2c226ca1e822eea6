/* SPDX-License-Identifier: Apache-2.0 */
/* What the CA's own files share. The register is the truth; the PEM files beside it are made from it and made again where they
 * differ, so a crash between the two heals at the next open. */
#ifndef PFL_PKI_CA_PRIVATE_H
#define PFL_PKI_CA_PRIVATE_H

#include <openssl/x509.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "pki/build.h"
#include "pki/ca.h"
#include "pki/register.h"

enum { PFL_DAY_S = 86400, PFL_ISSUERS_MAX = 16 };

enum pfl_issuer_state { PFL_ISSUER_NEXT, PFL_ISSUER_ACTIVE, PFL_ISSUER_RETIRING, PFL_ISSUER_RETIRED };
const char *pfl_issuer_state_text(enum pfl_issuer_state state);

struct pfl_issuer {
    X509 *cert;           /* owned */
    EVP_PKEY *key;        /* owned; NULL: not in this folder, or retired */
    char *key_file;       /* owned; a name in the folder; NULL: not in this folder */
    char fingerprint[65]; /* of the SubjectPublicKeyInfo */
    bool intermediate;
    enum pfl_issuer_state state;
};

/* One view of the register's issuers. Never changed; a newer one is put before it. */
struct pfl_ca_keys {
    struct pfl_issuer items[PFL_ISSUERS_MAX];
    size_t n;
    int64_t generation;
    const struct pfl_issuer *signer; /* in items: the active intermediate, else the active root */
    const struct pfl_issuer *root;   /* in items: the active root */
    STACK_OF(X509) * bundle;         /* owned */
    STACK_OF(X509) * chain;          /* owned */
    struct pfl_ca_keys *older;       /* owned: what callers borrowed from it stays good */
};

struct pfl_ca {
    char *dir;                         /* owned */
    struct pfl_passphrase *passphrase; /* owned; NULL: keys are not encrypted. Kept for keys that another process adds */
    struct pfl_register *reg;          /* owned */
    char *federation;                  /* owned */
    struct pfl_ca_keys *keys;          /* owned */
    bool offline;                      /* a root that signs intermediates only */
    int64_t seen;                      /* SQLite's data_version when pfl_ca_follow last looked */
};

/* ---- ca.c ---- */
/** The folder without register and keys. Owned by the caller. */
struct pfl_ca *pfl_ca_new(const char *dir, const struct pfl_passphrase *passphrase);
/** Opens DIR/ca.db and has its log sealed by the CA's key. */
enum pfl_rc pfl_ca_open_register(struct pfl_ca *ca, struct pfl_err *err) PFL_WARN_UNUSED;
/** One change of the issuers: begin, `change`, new keys, new revocation lists, commit, files. What `change` did
 *  is taken back where anything fails. */
typedef enum pfl_rc (*pfl_ca_change_fn)(const struct pfl_ca *ca, void *user, struct pfl_err *err);
enum pfl_rc pfl_ca_change(const struct pfl_ca *ca, pfl_ca_change_fn change, void *user, const char *actor,
                          struct pfl_err *err) PFL_WARN_UNUSED;

int64_t pfl_now_or(int64_t now);
void pfl_spki_fingerprint(const EVP_PKEY *key, char out[65]);
bool pfl_common_name_valid(const char *name);
enum pfl_rc pfl_check_days(int days, struct pfl_err *err) PFL_WARN_UNUSED;

/* ---- ca_keys.c ---- */
/** Reads the issuers and their keys from the register. */
enum pfl_rc pfl_ca_keys_load(const char *dir, const struct pfl_passphrase *passphrase, struct pfl_register *reg,
                             struct pfl_ca_keys **ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_ca_keys_free(struct pfl_ca_keys *keys); /* accepts NULL; the older ones too */
PFL_DEFINE_FREEP(ca_keys, struct pfl_ca_keys, pfl_ca_keys_free)
/** Inside a transaction: another process may have rolled over. `ca` is const to callers; the view is not. */
enum pfl_rc pfl_ca_refresh(const struct pfl_ca *ca, struct pfl_err *err) PFL_WARN_UNUSED;
/** Inside a transaction. key_file NULL: its key is not here. */
enum pfl_rc pfl_issuer_add(struct pfl_register *reg, X509 *cert, bool intermediate, enum pfl_issuer_state state,
                           const char *key_file, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_issuer_set_state(struct pfl_register *reg, const char *fingerprint, enum pfl_issuer_state state,
                                 struct pfl_err *err) PFL_WARN_UNUSED;
/** The path of a key of this folder; owned by the caller. */
char *pfl_ca_key_path(const char *dir, const char *key_file);

/* ---- ca_files.c ---- */
struct pfl_new_file { /* a file to be written: all of them or none */
    const char *name;
    mode_t mode;
    struct pfl_buf content; /* owned; wiped */
};
void pfl_new_files_wipe(struct pfl_new_file *files, size_t n);
enum pfl_rc pfl_new_files_absent(const char *dir, const struct pfl_new_file *files, size_t n, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_new_files_write(const char *dir, const struct pfl_new_file *files, size_t n, struct pfl_err *err) PFL_WARN_UNUSED;
/** Where to write what shall be in `dir`: a new folder beside it where dir is not there yet, else dir itself. *ret is owned. */
enum pfl_rc pfl_stage_open(const char *dir, char **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The folder beside it takes dir's name. */
enum pfl_rc pfl_stage_commit(const char *dir, const char *stage, struct pfl_err *err) PFL_WARN_UNUSED;
/** Removes a folder beside it with all that is in it; in dir itself nothing. */
void pfl_stage_drop(const char *dir, const char *stage);
/** ca.crt, intermediate.crt, bundle.pem and crl.pem as the register says. Not inside a transaction. */
enum pfl_rc pfl_ca_write_files(const struct pfl_ca *ca, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_put_certs(struct pfl_buf *out, X509 *leaf, const STACK_OF(X509) * more); /* leaf may be NULL */

/* ---- ca_sign.c ---- */
/** What is common to every certificate: reserve, build, record, write the log. Inside a transaction. key: its public half. */
struct pfl_signing {
    const struct pfl_issuer *issuer; /* NULL: self-signed with issuer_key */
    EVP_PKEY *issuer_key;
    const char *role, *asked_by, *action;
    int64_t token_id;
};
enum pfl_rc pfl_ca_sign_spec(struct pfl_register *reg, struct pfl_cert_spec *spec, const struct pfl_signing *how, EVP_PKEY *key,
                             X509 **ret, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_grant_check(const struct pfl_ca *ca, const struct pfl_grant *grant, struct pfl_err *err) PFL_WARN_UNUSED;
/** Inside a transaction: signs for a public key that the CA itself trusts (pfl_ca_issue), or that a request proved. */
enum pfl_rc pfl_ca_sign_key(const struct pfl_ca *ca, EVP_PKEY *key, const struct pfl_grant *grant, X509 **ret,
                            struct pfl_err *err) PFL_WARN_UNUSED;
/** The audit log's and the register's entry of a certificate that was made without a reservation (adopted, a root). */
enum pfl_rc pfl_ca_enter(struct pfl_register *reg, X509 *cert, const char *role, const char *purpose,
                         const char *issuer_fingerprint, const char *actor, const char *action,
                         struct pfl_err *err) PFL_WARN_UNUSED;

/* ---- ca_root.c ---- */
/** A new self-signed root; nothing is written. */
enum pfl_rc pfl_root_make(const struct pfl_ca_opts *opts, const struct pfl_passphrase *pin, EVP_PKEY **ret_key, X509 **ret_root,
                          struct pfl_err *err) PFL_WARN_UNUSED;

/* ---- ca_crl.c ---- */
/** Inside a transaction: a new CRL of each key that is here into the register. now: Unix seconds. */
enum pfl_rc pfl_ca_crls_renew(const struct pfl_ca *ca, const struct pfl_ca_keys *keys, int64_t lifetime_s, int64_t now,
                              const char *actor, struct pfl_err *err) PFL_WARN_UNUSED;

/** Inside a transaction: a list of a root whose key is elsewhere. */
enum pfl_rc pfl_ca_crl_store(struct pfl_register *reg, const char *issuer_fingerprint, const char *number_hex, int64_t this_update,
                             int64_t next_update, struct pfl_bytes der, const char *actor, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
