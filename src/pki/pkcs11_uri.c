/* SPDX-License-Identifier: Apache-2.0 */
/* RFC 7512, section 2.3: "pkcs11:" path attributes by ';', '?', query attributes by '&'. One table says which there are and where
 * they go. */
#include "pki/pkcs11_uri.h"

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"

enum kind {
    TEXT, /* a name, decoded */
    PATH, /* an absolute path, after an optional "file:" or "file://" */
    ID,   /* bytes */
    SLOT, /* a number */
    TYPE, /* "private" only */
};

struct attribute {
    const char *name;
    enum kind kind;
    bool in_query;
    size_t offset; /* TEXT, PATH: of the char * in struct pfl_pkcs11_uri */
};
#define FIELD(f) offsetof(struct pfl_pkcs11_uri, f)
/* The order is the canonical one. */
static const struct attribute ATTRIBUTES[] = {
    {"token", TEXT, false, FIELD(token)},
    {"manufacturer", TEXT, false, FIELD(manufacturer)},
    {"serial", TEXT, false, FIELD(serial)},
    {"model", TEXT, false, FIELD(model)},
    {"slot-id", SLOT, false, 0},
    {"object", TEXT, false, FIELD(object)},
    {"id", ID, false, 0},
    {"type", TYPE, false, 0},
    {"pin-source", PATH, true, FIELD(pin_source)},
    {"module-path", PATH, true, FIELD(module_path)},
};
static const char *const NOT_USED[] = {"library-manufacturer", "library-description", "library-version",
                                       "slot-manufacturer",    "slot-description",    "module-name"};

static char **field(struct pfl_pkcs11_uri *uri, const struct attribute *a)
{
    return (char **)((char *)uri + a->offset);
}

static const char *text_of(const struct pfl_pkcs11_uri *uri, const struct attribute *a)
{
    return *field((struct pfl_pkcs11_uri *)uri, a);
}

static bool is_text(const struct attribute *a)
{
    return a->kind == TEXT || a->kind == PATH;
}

void pfl_pkcs11_uri_deinit(struct pfl_pkcs11_uri *uri)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(ATTRIBUTES); i++)
        if (is_text(&ATTRIBUTES[i]))
            pfl_freep(field(uri, &ATTRIBUTES[i]));
    *uri = (struct pfl_pkcs11_uri){0};
}

void pfl_pkcs11_uri_copy(struct pfl_pkcs11_uri *dst, const struct pfl_pkcs11_uri *src)
{
    pfl_pkcs11_uri_deinit(dst);
    *dst = *src;
    for (size_t i = 0; i < PFL_ARRAY_LEN(ATTRIBUTES); i++) {
        if (is_text(&ATTRIBUTES[i]) && text_of(src, &ATTRIBUTES[i]))
            *field(dst, &ATTRIBUTES[i]) = pfl_xstrdup(text_of(src, &ATTRIBUTES[i]));
    }
}

bool pfl_pkcs11_is_uri(const char *text)
{
    return text && strncasecmp(text, "pkcs11:", 7) == 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* What RFC 7512 lets stand for itself: unreserved, some of reserved, and in one of path and query what the other uses. */
static bool stands_for_itself(char c, bool in_query)
{
    return isalnum((unsigned char)c) || (c && strchr("-._~:[]@!$'()*+,=", c)) || c == (in_query ? '/' : '&') ||
           (in_query && c && strchr("?|", c));
}

/* Percent-decodes into out. INVALID for what may not stand there, TOO_BIG past out's limit. */
static enum pfl_rc decode(struct pfl_bytes in, const struct attribute *a, struct pfl_buf *out, struct pfl_err *err)
{
    for (size_t i = 0; i < in.len; i++) {
        char c = (char)in.data[i];
        if (c == '%') {
            int high = i + 2 < in.len ? hex_digit((char)in.data[i + 1]) : -1;
            int low = high >= 0 ? hex_digit((char)in.data[i + 2]) : -1;
            if (low < 0)
                return pfl_err_set(err, PFL_INVALID, "%s: two hexadecimal digits are wanted behind '%%'", a->name);
            c = (char)(high * 16 + low);
            i += 2;
        } else if (!stands_for_itself(c, a->in_query)) {
            return pfl_err_set(err, PFL_INVALID, "%s: the byte 0x%02x has to be percent-encoded", a->name, (unsigned char)c);
        }
        if (!pfl_buf_append(out, &c, 1))
            return pfl_err_set(err, PFL_TOO_BIG, "%s: over %zu bytes", a->name, out->limit);
    }
    return out->len ? PFL_OK : pfl_err_set(err, PFL_INVALID, "%s is empty", a->name);
}

static bool visible(const struct pfl_buf *b)
{
    for (size_t i = 0; i < b->len; i++)
        if (b->data[i] < 0x20 || b->data[i] == 0x7f)
            return false;
    return pfl_utf8_valid((const char *)b->data, b->len);
}

/* "file:/a", "file:///a" and "/a" are one file. Another program's output ("|command") is nothing we run. */
static enum pfl_rc take_path(const struct attribute *a, const char *value, char **ret, struct pfl_err *err)
{
    if (value[0] == '|')
        return pfl_err_set(err, PFL_UNSUPPORTED, "%s: programs are not run for it, a file is wanted", a->name);
    const char *path = pfl_str_has_prefix(value, "file:") ? value + 5 : value;
    if (path != value && pfl_str_has_prefix(path, "//"))
        path += 2;
    if (path[0] != '/')
        return pfl_err_set(err, PFL_INVALID, "%s: an absolute path is wanted, as in file:/etc/p2pfl/pin", a->name);
    *ret = pfl_xstrdup(path);
    return PFL_OK;
}

static enum pfl_rc take_value(struct pfl_pkcs11_uri *uri, const struct attribute *a, struct pfl_bytes value, struct pfl_err *err)
{
    PFL_AUTO(pfl_buf_deinit)
    struct pfl_buf b = {.limit = a->kind == ID ? PFL_PKCS11_ID_MAX : a->kind == PATH ? PFL_PKCS11_PATH_MAX : PFL_PKCS11_TEXT_MAX};
    enum pfl_rc rc = decode(value, a, &b, err);
    if (rc != PFL_OK)
        return rc;
    if (a->kind == ID) {
        memcpy(uri->id, b.data, b.len);
        uri->id_len = b.len;
        return PFL_OK;
    }
    if (!visible(&b))
        return pfl_err_set(err, PFL_INVALID, "%s: UTF-8 without control characters is wanted", a->name);
    PFL_AUTO(pfl_freep) char *text = pfl_xstrndup((const char *)b.data, b.len);
    if (a->kind == PATH)
        return take_path(a, text, field(uri, a), err);
    if (a->kind == TEXT) {
        *field(uri, a) = pfl_steal(&text);
        return PFL_OK;
    }
    if (a->kind == TYPE)
        return pfl_streq(text, "private") ? PFL_OK : pfl_err_set(err, PFL_INVALID, "type: only 'private' names a private key");
    if (!pfl_parse_u64(text, &uri->slot_id))
        return pfl_err_set(err, PFL_INVALID, "slot-id: a number is wanted");
    uri->has_slot = true;
    return PFL_OK;
}

static enum pfl_rc find(const char *name, bool in_query, size_t *ret, struct pfl_err *err)
{
    if (pfl_streq(name, "pin-value"))
        return pfl_err_set(
            err, PFL_AUTH,
            "pin-value: a PIN in a URI can be read in process lists, configuration files and logs: put it into a file "
            "(mode 0600) and name that with pin-source=file:/path; and change this PIN if it is a real one");
    for (size_t i = 0; i < PFL_ARRAY_LEN(NOT_USED); i++)
        if (pfl_streq(name, NOT_USED[i]))
            return pfl_err_set(err, PFL_UNSUPPORTED,
                               "%s is not used here: name the token with token=, the module with module-path=", name);
    for (size_t i = 0; i < PFL_ARRAY_LEN(ATTRIBUTES); i++) {
        if (!pfl_streq(name, ATTRIBUTES[i].name))
            continue;
        if (ATTRIBUTES[i].in_query != in_query)
            return pfl_err_set(err, PFL_INVALID, "%s belongs %s the '?'", name, in_query ? "before" : "behind");
        *ret = i;
        return PFL_OK;
    }
    return pfl_err_set(err, PFL_INVALID, "'%s' is no attribute of RFC 7512", pfl_q(name));
}

/* One "name=value" of path or query. `seen` has a bit for each attribute. */
static enum pfl_rc take(struct pfl_pkcs11_uri *uri, struct pfl_bytes in, bool in_query, unsigned *seen, struct pfl_err *err)
{
    char name[24] = "";
    size_t i = 0;
    const uint8_t *equals = memchr(in.data, '=', in.len);
    size_t len = equals ? (size_t)(equals - in.data) : in.len;
    if (len == 0 || len >= sizeof name || !equals) /* what stands here may be a PIN that somebody put wrongly: not quoted */
        return pfl_err_set(err, PFL_INVALID, "name=value is wanted between %s", in_query ? "'&'" : "';'");
    memcpy(name, in.data, len);
    enum pfl_rc rc = find(name, in_query, &i, err);
    if (rc != PFL_OK)
        return rc;
    if (*seen & 1U << i)
        return pfl_err_set(err, PFL_INVALID, "%s is there twice", name);
    *seen |= 1U << i;
    return take_value(uri, &ATTRIBUTES[i], pfl_bytes_sub(in, len + 1, in.len - len - 1), err);
}

static enum pfl_rc take_all(struct pfl_pkcs11_uri *uri, struct pfl_bytes in, bool in_query, unsigned *seen, struct pfl_err *err)
{
    while (in.len) {
        const uint8_t *end = memchr(in.data, in_query ? '&' : ';', in.len);
        size_t len = end ? (size_t)(end - in.data) : in.len;
        enum pfl_rc rc = take(uri, pfl_bytes_sub(in, 0, len), in_query, seen, err);
        if (rc != PFL_OK)
            return rc;
        if (end && len + 1 == in.len)
            return pfl_err_set(err, PFL_INVALID, "it ends in '%c'", *end);
        in = end ? pfl_bytes_sub(in, len + 1, in.len - len - 1) : (struct pfl_bytes){0};
    }
    return PFL_OK;
}

enum pfl_rc pfl_pkcs11_uri_parse(const char *text, struct pfl_pkcs11_uri *ret, struct pfl_err *err)
{
    if (!pfl_pkcs11_is_uri(text))
        return pfl_err_set(err, PFL_INVALID, "not a pkcs11: URI");
    if (strlen(text) > PFL_PKCS11_URI_MAX)
        return pfl_err_set(err, PFL_TOO_BIG, "pkcs11: URI of %zu bytes, at most %d are allowed", strlen(text), PFL_PKCS11_URI_MAX);
    const char *path = text + 7, *query = strchr(path, '?');
    size_t path_len = query ? (size_t)(query - path) : strlen(path);
    PFL_AUTO(pfl_pkcs11_uri_deinit) struct pfl_pkcs11_uri uri = {0};
    unsigned seen = 0;
    enum pfl_rc rc = take_all(&uri, pfl_bytes_of(path, path_len), false, &seen, err);
    if (rc == PFL_OK && query)
        rc = take_all(&uri, pfl_bytes_of(query + 1, strlen(query + 1)), true, &seen, err);
    if (rc != PFL_OK) {
        (void)pfl_err_wrap(err, "pkcs11: URI");
        return rc;
    }
    if (!uri.token && !uri.serial && !uri.has_slot && !uri.manufacturer && !uri.model)
        return pfl_err_set(err, PFL_INVALID, "pkcs11: URI: it names no token: token=… is wanted");
    *ret = uri;
    uri = (struct pfl_pkcs11_uri){0};
    return PFL_OK;
}

static void put_encoded(struct pfl_buf *b, const void *data, size_t len, const char *plain)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < len; i++) {
        if (plain && (isalnum(p[i]) || (p[i] && strchr(plain, p[i]))))
            pfl_buf_append(b, &p[i], 1);
        else
            pfl_buf_printf(b, "%%%02x", p[i]);
    }
}

static void put(struct pfl_buf *b, const struct pfl_pkcs11_uri *uri, const struct attribute *a, char separator)
{
    const char *text = is_text(a) ? text_of(uri, a) : NULL;
    bool there = is_text(a) ? text != NULL : a->kind == ID ? uri->id_len > 0 : a->kind == SLOT ? uri->has_slot : false;
    if (!there)
        return;
    pfl_buf_printf(b, "%c%s=", separator, a->name);
    if (a->kind == PATH && a->offset == FIELD(pin_source)) /* behind "file:" two slashes at the front would be an authority's */
        pfl_buf_append_str(b, pfl_str_has_prefix(text, "//") ? "file://" : "file:");
    if (text)
        put_encoded(b, text, strlen(text), a->kind == PATH ? "-._~/" : "-._~");
    else if (a->kind == ID)
        put_encoded(b, uri->id, uri->id_len, NULL);
    else
        pfl_buf_printf(b, "%llu", (unsigned long long)uri->slot_id);
}

static char *write_uri(const struct pfl_pkcs11_uri *uri, bool query)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf b = {0};
    for (size_t i = 0; i < PFL_ARRAY_LEN(ATTRIBUTES); i++) {
        size_t before = b.len;
        bool first = before == 0 || (ATTRIBUTES[i].in_query && !memchr(b.data, '?', b.len));
        if (!ATTRIBUTES[i].in_query || query)
            put(&b, uri, &ATTRIBUTES[i], first ? (ATTRIBUTES[i].in_query ? '?' : ':') : ATTRIBUTES[i].in_query ? '&' : ';');
    }
    return pfl_xasprintf("pkcs11%s", pfl_buf_cstr(&b));
}

char *pfl_pkcs11_uri_text(const struct pfl_pkcs11_uri *uri)
{
    return write_uri(uri, true);
}

char *pfl_pkcs11_uri_name(const struct pfl_pkcs11_uri *uri)
{
    return write_uri(uri, false);
}
