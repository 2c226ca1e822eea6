/* SPDX-License-Identifier: Apache-2.0 */
/* All text comes quoted from pki, so a certificate cannot write control characters to a terminal. */
#include "cli/cert_print.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "pki/cert.h"
#include "pki/identity.h"

enum { DAY_S = 86400 };

static int64_t now_s(void)
{
    return pfl_clock_wall() / PFL_SEC;
}

/* In the largest unit that there are two of: "123 days", "23 hours", "90 seconds". Certificates live for years or for minutes. */
static char *span_text(int64_t s)
{
    static const struct {
        const char *name;
        int64_t s;
    } UNITS[] = {{"days", DAY_S}, {"hours", 3600}, {"minutes", 60}, {"seconds", 1}};
    size_t i = 0;
    while (i + 1 < PFL_ARRAY_LEN(UNITS) && s < 2 * UNITS[i].s)
        i++;
    return pfl_xasprintf("%" PRId64 " %s", s / UNITS[i].s, UNITS[i].name);
}

/* "123 days left", "expired 3 days ago", "not valid yet, begins in 2 days" */
static char *validity_text(const struct pfl_identity *id)
{
    int64_t now = now_s();
    bool over = now > id->not_after, early = now < id->not_before;
    PFL_AUTO(pfl_freep) char *span = span_text(over ? now - id->not_after : early ? id->not_before - now : id->not_after - now);
    return pfl_xasprintf("%s%s%s",
                         over    ? "expired "
                         : early ? "not valid yet, begins in "
                                 : "",
                         span,
                         over    ? " ago"
                         : early ? ""
                                 : " left");
}

static const char *purpose_text(const struct pfl_cert_info *info, bool server, bool client)
{
    if (info->is_ca)
        return "CA: signs certificates";
    if (info->purposes.n == 0)
        return "any (no extended key usage)";
    if (server && client)
        return "server and client";
    return server ? "server" : client ? "client" : "neither server nor client";
}

static void print_joined(const char *label, const struct pfl_strs *list, const char *otherwise)
{
    PFL_AUTO(pfl_freep) char *text = pfl_strs_join(list, ", ");
    char quoted[2048];
    printf("  %-12s %s\n", label, text[0] ? pfl_quote(text, strlen(text), quoted, sizeof quoted) : otherwise);
}

static void print_one(const struct pfl_identity *id, const struct pfl_cert_info *info)
{
    char from[32], until[32];
    PFL_AUTO(pfl_freep) char *left = validity_text(id);
    pfl_time_text(id->not_before, from);
    pfl_time_text(id->not_after, until);
    bool server = pfl_strs_has(&info->purposes, "serverAuth"), client = pfl_strs_has(&info->purposes, "clientAuth");
    printf("  %-12s %s\n", "subject", id->subject[0] ? id->subject : "none");
    printf("  %-12s %s%s\n", "issuer", id->issuer, info->self_signed ? " (self-signed)" : "");
    printf("  %-12s %s\n", "SPIFFE ID", id->spiffe_id ? id->spiffe_id : "none");
    if (id->role)
        printf("  %-12s %s of federation %s\n", "role", id->role, id->federation);
    print_joined("names", &id->sans, "none: peers will refuse it");
    printf("  %-12s %s\n", "purpose", purpose_text(info, server, client));
    print_joined("key usage", &info->usages, "any (not restricted)");
    printf("  %-12s %s\n", "key", info->key);
    printf("  %-12s %s\n", "signature", info->signature);
    printf("  %-12s %s to %s: %s\n", "valid", from, until, left);
    printf("  %-12s %s\n", "serial", id->serial_hex);
    printf("  %-12s %s\n", "SHA-256", id->fingerprint);
}

bool pfl_cert_print_text(struct stack_st_X509 *certs, struct pfl_err *err)
{
    size_t n = pfl_x509s_n(certs);
    for (size_t i = 0; i < n; i++) {
        PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
        PFL_AUTO(pfl_cert_info_deinit) struct pfl_cert_info info = {0};
        if (pfl_identity_of_x509(pfl_x509s_at(certs, i), &id, err) != PFL_OK) {
            (void)pfl_err_wrap(err, "certificate %zu of %zu", i + 1, n);
            return false;
        }
        pfl_cert_info_of(pfl_x509s_at(certs, i), &info);
        if (n > 1)
            printf("%scertificate %zu of %zu\n", i ? "\n" : "", i + 1, n);
        print_one(id, &info);
    }
    return true;
}

static json_t *json_strs(const struct pfl_strs *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->n; i++)
        json_array_append_new(array, json_string(list->items[i]));
    return array;
}

static json_t *json_text(const char *text)
{
    json_t *json = text ? json_string(text) : NULL;
    return json ? json : json_null();
}

static json_t *json_time(int64_t unix_s)
{
    char text[32];
    pfl_time_text(unix_s, text);
    return json_string(text);
}

static json_t *json_of(const struct pfl_identity *id, const struct pfl_cert_info *info)
{
    json_t *o = json_object();
    json_object_set_new(o, "subject", json_text(id->subject));
    json_object_set_new(o, "issuer", json_text(id->issuer));
    json_object_set_new(o, "self_signed", json_boolean(info->self_signed));
    json_object_set_new(o, "spiffe_id", json_text(id->spiffe_id));
    json_object_set_new(o, "federation", json_text(id->federation));
    json_object_set_new(o, "role", json_text(id->role));
    json_object_set_new(o, "name", json_text(id->name));
    json_object_set_new(o, "sans", json_strs(&id->sans));
    json_object_set_new(o, "ca", json_boolean(info->is_ca));
    json_object_set_new(o, "extended_key_usage", json_strs(&info->purposes));
    json_object_set_new(o, "key_usage", json_strs(&info->usages));
    json_object_set_new(o, "key", json_text(info->key));
    json_object_set_new(o, "signature", json_text(info->signature));
    json_object_set_new(o, "not_before", json_time(id->not_before));
    json_object_set_new(o, "not_after", json_time(id->not_after));
    json_object_set_new(o, "days_left", json_integer((id->not_after - now_s()) / DAY_S));
    json_object_set_new(o, "serial", json_text(id->serial_hex));
    json_object_set_new(o, "sha256", json_text(id->fingerprint));
    return o;
}

json_t *pfl_cert_json(struct x509_st *cert, struct pfl_err *err)
{
    PFL_AUTO(pfl_identity_freep) struct pfl_identity *id = NULL;
    PFL_AUTO(pfl_cert_info_deinit) struct pfl_cert_info info = {0};
    if (pfl_identity_of_x509(cert, &id, err) != PFL_OK)
        return NULL;
    pfl_cert_info_of(cert, &info);
    return json_of(id, &info);
}

bool pfl_cert_print_json(const char *file, struct stack_st_X509 *certs, struct pfl_err *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < pfl_x509s_n(certs); i++) {
        json_t *one = pfl_cert_json(pfl_x509s_at(certs, i), err);
        if (!one) {
            json_decref(list);
            return false;
        }
        json_array_append_new(list, one);
    }
    json_t *root = json_object();
    json_object_set_new(root, "file", json_text(file));
    json_object_set_new(root, "certificates", list);
    json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
    return true;
}
