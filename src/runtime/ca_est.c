/* SPDX-License-Identifier: Apache-2.0 */
/* EST (RFC 7030) on the CA's service: cacerts, simpleenroll with the token as HTTP Basic password, simplereenroll with a client
 * certificate. One certificate each time. What is allowed is decided where it is for gRPC. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"
#include "pki/ca.h"
#include "pki/cert.h"
#include "pki/csr.h"
#include "pki/est.h"
#include "runtime/ca_limits.h"
#include "runtime/ca_server_impl.h"

enum { CREDENTIALS_MAX = 192 };

static void say(struct pfl_http_response *ret, int status, const char *reason)
{
    ret->status = status;
    ret->content_type = "text/plain";
    pfl_buf_printf(&ret->body, "%s\n", reason);
}

static void say_certs(struct pfl_http_response *ret, struct x509_st *const *certs, size_t n, const char *content_type)
{
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf der = {0};
    pfl_est_certs_only(certs, n, &der);
    pfl_base64_encode(pfl_buf_view(&der), &ret->body);
    ret->status = 200;
    ret->content_type = content_type;
    ret->base64 = true;
}

static void cacerts(struct pfl_ca_server *s, struct pfl_http_response *ret)
{
    struct stack_st_X509 *lists[] = {pfl_ca_bundle(s->ca), pfl_ca_chain(s->ca)};
    struct x509_st *all[2 * PFL_CERTS_MAX];
    size_t n = 0;
    for (size_t l = 0; l < PFL_ARRAY_LEN(lists); l++)
        for (size_t i = 0; i < pfl_x509s_n(lists[l]) && n < PFL_ARRAY_LEN(all); i++)
            all[n++] = pfl_x509s_at(lists[l], i);
    say_certs(ret, all, n, "application/pkcs7-mime");
}

/* "Basic dXNlcjpwYXNz" to user and password in text, which is the caller's to wipe. */
static bool basic(const char *authorization, char *text, const char **ret_user, const char **ret_password)
{
    struct pfl_buf raw = {.limit = CREDENTIALS_MAX - 1};
    bool ok = strncasecmp(authorization, "Basic ", 6) == 0 &&
              pfl_base64_decode(pfl_bytes_of(authorization + 6, strlen(authorization + 6)), &raw, NULL) == PFL_OK &&
              (raw.len == 0 || !memchr(raw.data, 0, raw.len));
    size_t len = ok ? raw.len : 0;
    if (len > 0)
        memcpy(text, raw.data, len);
    text[len] = '\0';
    if (raw.data)
        explicit_bzero(raw.data, raw.cap);
    pfl_buf_deinit(&raw);
    char *colon = strchr(text, ':');
    if (!colon)
        return false;
    *colon = '\0';
    *ret_user = text;
    *ret_password = colon + 1;
    return true;
}

/* DER as it is, or in base64, as EST sends it. */
static bool take_csr(const struct pfl_http_request *request, struct pfl_buf *out, struct pfl_http_response *ret)
{
    struct pfl_err err = {0};
    if (strncasecmp(request->content_type, "application/pkcs10", 18) != 0) {
        say(ret, 415, "the body must be application/pkcs10");
        return false;
    }
    bool der = request->body.len > 1 && request->body.data[0] == 0x30 && request->body.data[1] >= 0x80;
    if (der ? !pfl_buf_append(out, request->body.data, request->body.len) : pfl_base64_decode(request->body, out, &err) != PFL_OK) {
        say(ret, 400, der ? "the request is too long" : err.msg);
        return false;
    }
    return true;
}

static void say_refusal(struct pfl_http_response *ret, enum pfl_rc rc, bool limited, const struct pfl_err *err)
{
    ret->retry_after_s = limited ? 60 : 0;
    switch (rc) {
    case PFL_NOT_FOUND:
        say(ret, 401, err->msg);
        return;
    case PFL_AUTH:
        say(ret, 403, err->msg);
        return;
    case PFL_INVALID:
    case PFL_MALFORMED:
    case PFL_TOO_BIG:
    case PFL_UNSUPPORTED:
        say(ret, 400, err->msg);
        return;
    default:
        say(ret, limited ? 429 : 503, limited ? err->msg : "the CA cannot answer now: its log says why");
    }
}

static void enrol(struct pfl_ca_server *s, enum pfl_ca_ask kind, const struct pfl_rpc_peer *peer,
                  const struct pfl_http_request *request, struct pfl_http_response *ret)
{
    PFL_AUTO(pfl_enrol_answer_deinit) struct pfl_enrol_answer a = {0};
    PFL_AUTO(pfl_buf_deinit) struct pfl_buf csr = {.limit = PFL_CSR_MAX};
    char credentials[CREDENTIALS_MAX];
    struct pfl_enrol_ask ask = {0};
    struct pfl_err err = {0};
    bool limited = false;
    if (kind == PFL_CA_ASK_ENROL && !basic(request->authorization, credentials, &ask.user, &ask.token)) {
        say(ret, 401, "the name as user and the token as password are wanted (HTTP Basic)");
        return;
    }
    if (take_csr(request, &csr, ret)) {
        ask.server_csr = pfl_buf_view(&csr);
        enum pfl_rc rc = pfl_ca_server_decide(s, kind, peer, &ask, &a, &limited, &err);
        if (rc != PFL_OK) {
            say_refusal(ret, rc, limited, &err);
        } else if (a.pending) {
            say(ret, 202, "the operator has not decided yet: send the same request again");
            ret->retry_after_s = PFL_CA_EST_RETRY_AFTER_S;
        } else {
            say_certs(ret, &a.server, 1, "application/pkcs7-mime; smime-type=certs-only");
        }
    }
    if (kind == PFL_CA_ASK_ENROL)
        explicit_bzero(credentials, sizeof credentials);
}

void pfl_ca_est(void *user, const struct pfl_rpc_peer *peer, const struct pfl_http_request *request, struct pfl_http_response *ret)
{
    static const char ROOT[] = "/.well-known/est/";
    struct pfl_ca_server *s = user;
    const char *what = pfl_str_has_prefix(request->path, ROOT) ? request->path + sizeof ROOT - 1 : "";
    bool get = strcmp(request->method, "GET") == 0, post = strcmp(request->method, "POST") == 0;
    bool enrols = strcmp(what, "simpleenroll") == 0, renews = strcmp(what, "simplereenroll") == 0;
    bool certs = strcmp(what, "cacerts") == 0, attrs = strcmp(what, "csrattrs") == 0;
    if (!enrols && !renews && !certs && !attrs)
        say(ret, 404, "EST is at /.well-known/est/: cacerts, csrattrs, simpleenroll, simplereenroll");
    else if ((certs || attrs) ? !get : !post)
        say(ret, 405, certs || attrs ? "GET is wanted" : "POST is wanted");
    else if (attrs)
        ret->status = 204; /* no attributes are asked for: what a certificate says is granted, not wished */
    else if (certs)
        cacerts(s, ret);
    else if (renews && !peer->identity)
        say(ret, 401, "renewal needs a client certificate of this CA");
    else
        enrol(s, enrols ? PFL_CA_ASK_ENROL : PFL_CA_ASK_RENEW, peer, request, ret);
}
