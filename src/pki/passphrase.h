/* SPDX-License-Identifier: Apache-2.0 */
/* Passphrases: from a prompt, a file or a file descriptor, never from argv or the environment; wiped when they are freed. */
#ifndef PFL_PKI_PASSPHRASE_H
#define PFL_PKI_PASSPHRASE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"

enum {
    PFL_PASSPHRASE_MAX = 1023, /* bytes */
    PFL_PASSPHRASE_NEW_MIN = 8 /* bytes that a passphrase for a new key needs */
};

struct pfl_passphrase;                              /* not empty */
void pfl_passphrase_free(struct pfl_passphrase *p); /* wipes; accepts NULL */
PFL_DEFINE_FREEP(passphrase, struct pfl_passphrase, pfl_passphrase_free)

const char *pfl_passphrase_text(const struct pfl_passphrase *p); /* NUL-terminated; borrowed for p's life */
size_t pfl_passphrase_len(const struct pfl_passphrase *p);

/** Copied. INVALID where empty or over-long. */
enum pfl_rc pfl_passphrase_of(const char *text, size_t len, struct pfl_passphrase **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The first line of a file that only its owner can read (else AUTH), without its line end. */
enum pfl_rc pfl_passphrase_from_file(const char *path, struct pfl_passphrase **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** The first line of what is read from an open descriptor; the descriptor stays open. */
enum pfl_rc pfl_passphrase_from_fd(int fd, struct pfl_passphrase **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Asks on the controlling terminal with echo off. With `confirm` twice, and both must be equal. UNAVAILABLE without a terminal
 * (the message names the options that work without one). */
enum pfl_rc pfl_passphrase_prompt(const char *what, bool confirm, struct pfl_passphrase **ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** INVALID where it is too short for a new key. */
enum pfl_rc pfl_passphrase_check_new(const struct pfl_passphrase *p, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
