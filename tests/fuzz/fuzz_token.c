/* SPDX-License-Identifier: Apache-2.0 */
/* link: base pki */
/* What a stranger calls an enrolment token meets a register with one token in it: nothing but that token is found. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pki/register.h"
#include "pki/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pfl_register *reg;
static char *good;

static void set_up(void)
{
    char dir[] = "/tmp/pfl-fuzz-token-XXXXXX", path[64];
    int64_t id = 0;
    struct pfl_token_opts opts = {.name = "a", .actor = "fuzz", .now = 1000};
    if (!mkdtemp(dir))
        abort();
    (void)snprintf(path, sizeof(path), "%s/r.db", dir);
    pfl_strs_add(&opts.sans, "IP:127.0.0.1");
    struct pfl_err err = {0};
    if (pfl_register_open(path, &reg, &err) != PFL_OK || pfl_token_make(reg, &opts, &good, &id, &err) != PFL_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        abort();
    }
    pfl_strs_deinit(&opts.sans);
    (void)unlink(path); /* it lives as long as the process */
    (void)snprintf(path, sizeof(path), "%s/r.db-wal", dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof(path), "%s/r.db-shm", dir);
    (void)unlink(path);
    (void)rmdir(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!reg)
        set_up();
    PFL_AUTO(pfl_freep) char *text = strndup((const char *)data, size);
    PFL_AUTO(pfl_freep) char *near = pfl_xasprintf("1.%s", text);
    PFL_AUTO(pfl_freep) char *zero = pfl_xasprintf("0%s", good);
    const char *const tries[] = {text, near, zero};
    for (size_t i = 0; i < PFL_ARRAY_LEN(tries); i++) {
        struct pfl_token found = {0};
        struct pfl_err err = {0};
        enum pfl_rc rc = pfl_token_find(reg, tries[i], 1001, &found, &err);
        if ((rc == PFL_OK) != pfl_streq(tries[i], good) || (rc != PFL_OK && rc != PFL_NOT_FOUND))
            abort();
        if (strlen(tries[i]) > 8 && strstr(err.msg, tries[i] + 2))
            abort(); /* a secret in an error */
        pfl_token_deinit(&found);
    }
    return 0;
}
