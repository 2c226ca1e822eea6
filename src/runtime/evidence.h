/* SPDX-License-Identifier: Apache-2.0 */
/* Evidence of equivocation: two statements of one node, each with its signature and certificate, that cannot both be honest. One
 * file, JSON, which says in words what it is and holds in hex what proves it. Whoever reads it checks it by itself: the words are
 * for people and count for nothing. */
#ifndef PFL_RUNTIME_EVIDENCE_H
#define PFL_RUNTIME_EVIDENCE_H

#include <jansson.h>

#include "wire/origin.h"

struct x509_st; /* OpenSSL's X509 */

enum { PFL_EVIDENCE_FILE_MAX = 4 << 20, PFL_EVIDENCE_KEPT_MAX = 1000 };

struct pfl_evidence {
    struct pfl_statement said[2];
    struct pfl_origin_said about; /* of the first; the second is about the same */
    struct x509_st *signer[2];    /* owned: the leaf that signed each */
    char *identity;               /* owned: whose they are, in words */
};
void pfl_evidence_deinit(struct pfl_evidence *e);
PFL_DEFINE_FREEP(evidence_json, json_t, json_decref)

/** The file's contents; a new reference. */
json_t *pfl_evidence_json(const struct pfl_statement said[2]);
/** Reads and proves: both signatures are good, both certificates are the same party's, both statements are votes, or contributions
 * of its own, for one round of one experiment, and they differ. That a CA issued the certificates is for the caller to check.
 * NOT_FOUND, IO, TOO_BIG, MALFORMED, or AUTH where it proves nothing, with the reason. */
enum pfl_rc pfl_evidence_load(const char *path, struct pfl_evidence *ret, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
