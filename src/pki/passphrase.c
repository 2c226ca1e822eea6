/* SPDX-License-Identifier: Apache-2.0 */
/* Passphrases live in one allocation that is wiped before it is freed. What was read past the first line is wiped too. */
#include "pki/passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/ui.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fs.h"

struct pfl_passphrase {
    size_t len;
    char text[PFL_PASSPHRASE_MAX + 1]; /* NUL-terminated */
};

PFL_DEFINE_FREEP(ui, UI, UI_free)

void pfl_passphrase_free(struct pfl_passphrase *p)
{
    if (!p)
        return;
    OPENSSL_cleanse(p, sizeof *p);
    free(p);
}

const char *pfl_passphrase_text(const struct pfl_passphrase *p)
{
    return p->text;
}

size_t pfl_passphrase_len(const struct pfl_passphrase *p)
{
    return p->len;
}

enum pfl_rc pfl_passphrase_of(const char *text, size_t len, struct pfl_passphrase **ret, struct pfl_err *err)
{
    if (len == 0)
        return pfl_err_set(err, PFL_INVALID, "the passphrase is empty");
    if (len > PFL_PASSPHRASE_MAX)
        return pfl_err_set(err, PFL_INVALID, "the passphrase is longer than %d bytes", PFL_PASSPHRASE_MAX);
    if (memchr(text, '\0', len))
        return pfl_err_set(err, PFL_INVALID, "the passphrase has a NUL byte in it");
    struct pfl_passphrase *p = pfl_xcalloc(1, sizeof *p);
    memcpy(p->text, text, len);
    p->len = len;
    *ret = p;
    return PFL_OK;
}

enum pfl_rc pfl_passphrase_from_fd(int fd, struct pfl_passphrase **ret, struct pfl_err *err)
{
    char line[PFL_PASSPHRASE_MAX + 2];
    size_t len = 0;
    enum pfl_rc rc = PFL_OK;
    /* byte by byte, so that what follows the line stays for the descriptor's next reader */
    while (len < sizeof line) {
        ssize_t n = read(fd, line + len, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = pfl_err_errno(err, errno, "passphrase from descriptor %d", fd);
        if (n <= 0 || line[len] == '\n')
            break;
        len++;
    }
    if (len > 0 && line[len - 1] == '\r')
        len--;
    if (rc == PFL_OK)
        rc = pfl_passphrase_of(line, len, ret, err);
    OPENSSL_cleanse(line, sizeof line);
    return rc;
}

enum pfl_rc pfl_passphrase_from_file(const char *path, struct pfl_passphrase **ret, struct pfl_err *err)
{
    enum pfl_rc rc = pfl_fs_check_private(path, err);
    if (rc != PFL_OK)
        return rc;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return pfl_err_errno(err, errno, "%s", path);
    rc = pfl_passphrase_from_fd(fd, ret, err);
    close(fd);
    return rc == PFL_OK ? PFL_OK : pfl_err_wrap(err, "%s", path);
}

static bool have_terminal(void)
{
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}

/* OpenSSL's prompt turns the echo off and, when a signal comes, on again before the process ends. */
static enum pfl_rc ask(const char *prompt, char *buf, struct pfl_err *err)
{
    PFL_AUTO(pfl_ui_freep) UI *ui = UI_new_method(UI_OpenSSL());
    PFL_ASSERT(ui != NULL);
    int rc = UI_add_input_string(ui, prompt, 0, buf, 0, PFL_PASSPHRASE_MAX);
    rc = rc < 0 ? rc : UI_process(ui);
    ERR_clear_error();
    if (rc == -2)
        return pfl_err_set(err, PFL_CANCELED, "the passphrase prompt was canceled");
    return rc == 0 ? PFL_OK : pfl_err_set(err, PFL_IO, "the passphrase could not be read from the terminal");
}

enum pfl_rc pfl_passphrase_prompt(const char *what, bool confirm, struct pfl_passphrase **ret, struct pfl_err *err)
{
    char first[PFL_PASSPHRASE_MAX + 2] = "", again[PFL_PASSPHRASE_MAX + 2] = "";
    if (!have_terminal())
        return pfl_err_set(err, PFL_UNAVAILABLE, "no terminal to ask for the %s on: use --passphrase-file or --passphrase-fd",
                           what);
    PFL_AUTO(pfl_freep) char *prompt = pfl_xasprintf("%s: ", what);
    PFL_AUTO(pfl_freep) char *repeat = pfl_xasprintf("%s again: ", what);
    enum pfl_rc rc = ask(prompt, first, err);
    if (rc == PFL_OK && confirm)
        rc = ask(repeat, again, err);
    if (rc == PFL_OK && confirm && strcmp(first, again) != 0)
        rc = pfl_err_set(err, PFL_INVALID, "the two passphrases differ");
    if (rc == PFL_OK)
        rc = pfl_passphrase_of(first, strlen(first), ret, err);
    OPENSSL_cleanse(first, sizeof first);
    OPENSSL_cleanse(again, sizeof again);
    return rc;
}

enum pfl_rc pfl_passphrase_check_new(const struct pfl_passphrase *p, struct pfl_err *err)
{
    if (p->len < PFL_PASSPHRASE_NEW_MIN)
        return pfl_err_set(err, PFL_INVALID, "a passphrase of %zu bytes, at least %d are needed for a new key", p->len,
                           PFL_PASSPHRASE_NEW_MIN);
    return PFL_OK;
}
