/* SPDX-License-Identifier: Apache-2.0 */
/* PKCS#11 modules and sessions. A module is initialised once per process and by path, because PKCS#11 has it so: that is why there
 * is a list of them here. It is never unloaded (other libraries may have been loaded by it), but finalised when its last key is
 * gone, so that nothing of it runs while the process ends. */
#include <dlfcn.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "pki/digest.h"
#include "pki/pkcs11_impl.h"

enum { REFUSED_MAX = 16, SEEN_TEXT_MAX = 160 };
static const char DEFAULT_MODULE[] = "p11-kit-proxy.so"; /* the loader's search finds it; no relative path of ours */

/* A PIN that a token refused: what it was is kept as a hash. */
struct refused {
    unsigned char serial[16], label[32], pin[PFL_SHA256_LEN];
};

struct pfl_p11_module {
    struct pfl_p11_module *next;
    char *path; /* owned */
    CK_FUNCTION_LIST *f;
    unsigned users;        /* under modules_lock */
    bool ours_to_finalise; /* false: somebody else in this process had initialised it */
    pthread_mutex_t lock;
    struct refused refused[REFUSED_MAX]; /* under lock; the oldest is overwritten */
    unsigned n_refused;
};

static pthread_mutex_t modules_lock = PTHREAD_MUTEX_INITIALIZER;
static struct pfl_p11_module *modules; /* under modules_lock; a module stays in the list for ever */

struct rv_text {
    CK_RV rv;
    const char *text;
};
static const struct rv_text RV_TEXTS[] = {
    {CKR_HOST_MEMORY, "CKR_HOST_MEMORY: no memory"},
    {CKR_SLOT_ID_INVALID, "CKR_SLOT_ID_INVALID: no such slot"},
    {CKR_GENERAL_ERROR, "CKR_GENERAL_ERROR"},
    {CKR_FUNCTION_FAILED, "CKR_FUNCTION_FAILED"},
    {CKR_ARGUMENTS_BAD, "CKR_ARGUMENTS_BAD"},
    {CKR_ATTRIBUTE_READ_ONLY, "CKR_ATTRIBUTE_READ_ONLY"},
    {CKR_ATTRIBUTE_TYPE_INVALID, "CKR_ATTRIBUTE_TYPE_INVALID"},
    {CKR_ATTRIBUTE_VALUE_INVALID, "CKR_ATTRIBUTE_VALUE_INVALID"},
    {CKR_DATA_LEN_RANGE, "CKR_DATA_LEN_RANGE"},
    {CKR_DEVICE_ERROR, "CKR_DEVICE_ERROR"},
    {CKR_DEVICE_MEMORY, "CKR_DEVICE_MEMORY: the token is full"},
    {CKR_DEVICE_REMOVED, "CKR_DEVICE_REMOVED: the token was removed"},
    {CKR_FUNCTION_NOT_SUPPORTED, "CKR_FUNCTION_NOT_SUPPORTED"},
    {CKR_KEY_HANDLE_INVALID, "CKR_KEY_HANDLE_INVALID: the key is gone"},
    {CKR_KEY_SIZE_RANGE, "CKR_KEY_SIZE_RANGE: not a size the token has"},
    {CKR_KEY_TYPE_INCONSISTENT, "CKR_KEY_TYPE_INCONSISTENT"},
    {CKR_KEY_FUNCTION_NOT_PERMITTED, "CKR_KEY_FUNCTION_NOT_PERMITTED: the key may not sign"},
    {CKR_MECHANISM_INVALID, "CKR_MECHANISM_INVALID: the token does not do this"},
    {CKR_MECHANISM_PARAM_INVALID, "CKR_MECHANISM_PARAM_INVALID"},
    {CKR_OBJECT_HANDLE_INVALID, "CKR_OBJECT_HANDLE_INVALID: the object is gone"},
    {CKR_OPERATION_ACTIVE, "CKR_OPERATION_ACTIVE"},
    {CKR_OPERATION_NOT_INITIALIZED, "CKR_OPERATION_NOT_INITIALIZED"},
    {CKR_PIN_INCORRECT, "CKR_PIN_INCORRECT: wrong PIN"},
    {CKR_PIN_INVALID, "CKR_PIN_INVALID: not what a PIN of this token can be"},
    {CKR_PIN_LEN_RANGE, "CKR_PIN_LEN_RANGE: not as long as a PIN of this token is"},
    {CKR_PIN_EXPIRED, "CKR_PIN_EXPIRED"},
    {CKR_PIN_LOCKED, "CKR_PIN_LOCKED"},
    {CKR_SESSION_CLOSED, "CKR_SESSION_CLOSED"},
    {CKR_SESSION_COUNT, "CKR_SESSION_COUNT: the token has no session left"},
    {CKR_SESSION_HANDLE_INVALID, "CKR_SESSION_HANDLE_INVALID"},
    {CKR_SESSION_READ_ONLY, "CKR_SESSION_READ_ONLY"},
    {CKR_TEMPLATE_INCOMPLETE, "CKR_TEMPLATE_INCOMPLETE"},
    {CKR_TEMPLATE_INCONSISTENT, "CKR_TEMPLATE_INCONSISTENT"},
    {CKR_TOKEN_NOT_PRESENT, "CKR_TOKEN_NOT_PRESENT: no token in the slot"},
    {CKR_TOKEN_NOT_RECOGNIZED, "CKR_TOKEN_NOT_RECOGNIZED"},
    {CKR_TOKEN_WRITE_PROTECTED, "CKR_TOKEN_WRITE_PROTECTED"},
    {CKR_USER_NOT_LOGGED_IN, "CKR_USER_NOT_LOGGED_IN"},
    {CKR_USER_PIN_NOT_INITIALIZED, "CKR_USER_PIN_NOT_INITIALIZED: the token has no user PIN yet"},
    {CKR_CRYPTOKI_NOT_INITIALIZED, "CKR_CRYPTOKI_NOT_INITIALIZED"},
};

const char *pfl_p11_rv_text(CK_RV rv, char *out, size_t out_size)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(RV_TEXTS); i++) {
        if (RV_TEXTS[i].rv == rv) {
            (void)snprintf(out, out_size, "%s", RV_TEXTS[i].text);
            return out;
        }
    }
    (void)snprintf(out, out_size, "CKR 0x%lx", (unsigned long)rv);
    return out;
}

enum pfl_rc pfl_p11_fail(struct pfl_err *err, CK_RV rv, const char *what)
{
    char text[80];
    return pfl_err_set(err, PFL_UNAVAILABLE, "%s: the token says %s", what, pfl_p11_rv_text(rv, text, sizeof text));
}

/* ---- modules ---- */

static enum pfl_rc load(const char *path, CK_FUNCTION_LIST **ret, struct pfl_err *err)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle && path == DEFAULT_MODULE)
        return pfl_err_set(
            err, PFL_NOT_FOUND,
            "no PKCS#11 module is named, and p11-kit's is not installed: add ?module-path=/path/of/module.so to the URI, "
            "or set P2PFL_PKCS11_MODULE");
    if (!handle)
        return pfl_err_set(err, PFL_NOT_FOUND, "PKCS#11 module: %s", dlerror());
    union {
        void *object;
        CK_C_GetFunctionList function;
    } symbol = {dlsym(handle, "C_GetFunctionList")}; /* ISO C has no conversion between the two, POSIX wants one */
    CK_FUNCTION_LIST *f = NULL;
    if (!symbol.object || symbol.function(&f) != CKR_OK || !f || f->version.major != 2)
        return pfl_err_set(err, PFL_UNSUPPORTED, "%s is no PKCS#11 module of version 2", path);
    *ret = f;
    return PFL_OK;
}

static enum pfl_rc initialise(struct pfl_p11_module *m, struct pfl_err *err)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_RV rv = m->f->C_Initialize(&args);
    if (rv == CKR_CANT_LOCK || rv == CKR_ARGUMENTS_BAD) /* a module without threads: our lock is enough for it */
        rv = m->f->C_Initialize(NULL);
    m->ours_to_finalise = rv == CKR_OK;
    if (rv == CKR_OK || rv == CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return PFL_OK;
    char text[80];
    return pfl_err_set(err, PFL_UNAVAILABLE, "PKCS#11 module %s does not start: %s", m->path,
                       pfl_p11_rv_text(rv, text, sizeof text));
}

/* Under modules_lock. */
static enum pfl_rc find_or_load(const char *path, struct pfl_p11_module **ret, struct pfl_err *err)
{
    for (struct pfl_p11_module *m = modules; m; m = m->next) {
        if (pfl_streq(m->path, path)) {
            *ret = m;
            return PFL_OK;
        }
    }
    CK_FUNCTION_LIST *f = NULL;
    enum pfl_rc rc = load(path, &f, err);
    if (rc != PFL_OK)
        return rc;
    struct pfl_p11_module *m = pfl_xcalloc(1, sizeof *m);
    m->path = pfl_xstrdup(path);
    m->f = f;
    PFL_ASSERT(pthread_mutex_init(&m->lock, NULL) == 0);
    m->next = modules;
    modules = m;
    *ret = m;
    return PFL_OK;
}

enum pfl_rc pfl_p11_module_open(const char *path, struct pfl_p11_module **ret, struct pfl_err *err)
{
    const char *named = path ? path : secure_getenv("P2PFL_PKCS11_MODULE");
    if (named && *named && named[0] != '/')
        return pfl_err_set(err, PFL_INVALID, "P2PFL_PKCS11_MODULE '%s': an absolute path is wanted", pfl_q(named));
    struct pfl_p11_module *m = NULL;
    pthread_mutex_lock(&modules_lock);
    enum pfl_rc rc = find_or_load(named && *named ? named : DEFAULT_MODULE, &m, err);
    if (rc == PFL_OK && m->users == 0)
        rc = initialise(m, err);
    if (rc == PFL_OK) {
        m->users++;
        *ret = m;
    }
    pthread_mutex_unlock(&modules_lock);
    return rc;
}

void pfl_p11_module_close(struct pfl_p11_module *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&modules_lock);
    PFL_ASSERT(m->users > 0);
    if (--m->users == 0 && m->ours_to_finalise)
        (void)m->f->C_Finalize(NULL);
    pthread_mutex_unlock(&modules_lock);
}

CK_FUNCTION_LIST *pfl_p11_lock(struct pfl_p11_module *m)
{
    pthread_mutex_lock(&m->lock);
    return m->f;
}

void pfl_p11_unlock(struct pfl_p11_module *m)
{
    pthread_mutex_unlock(&m->lock);
}

const char *pfl_p11_module_path(const struct pfl_p11_module *m)
{
    return m->path;
}

/* ---- tokens ---- */

/* PKCS#11 pads its texts with blanks, without a NUL. */
static bool same_text(const char *wanted, const unsigned char *padded, size_t size)
{
    size_t len = size;
    while (len && padded[len - 1] == ' ')
        len--;
    return !wanted || (strlen(wanted) == len && memcmp(wanted, padded, len) == 0);
}

static bool fits(const struct pfl_pkcs11_uri *uri, CK_SLOT_ID slot, const CK_TOKEN_INFO *t)
{
    return (!uri->has_slot || uri->slot_id == slot) && same_text(uri->token, t->label, sizeof t->label) &&
           same_text(uri->manufacturer, t->manufacturerID, sizeof t->manufacturerID) &&
           same_text(uri->serial, t->serialNumber, sizeof t->serialNumber) && same_text(uri->model, t->model, sizeof t->model);
}

/* Puts ", 'label'" behind what is there, where it fits. */
static void note_seen(char *seen, const CK_TOKEN_INFO *t)
{
    char quoted[80];
    size_t len = sizeof t->label, used = strlen(seen);
    while (len && t->label[len - 1] == ' ')
        len--;
    pfl_quote(t->label, len, quoted, sizeof quoted);
    (void)snprintf(seen + used, SEEN_TEXT_MAX - used, "%s'%s'", used ? ", " : "", quoted);
}

static enum pfl_rc find_slot(struct pfl_p11_module *m, const struct pfl_pkcs11_uri *uri, CK_SLOT_ID *ret, CK_TOKEN_INFO *ret_info,
                             struct pfl_err *err)
{
    CK_SLOT_ID slots[PFL_PKCS11_SLOTS_MAX];
    CK_ULONG n = PFL_PKCS11_SLOTS_MAX, found = 0;
    char seen[SEEN_TEXT_MAX] = "";
    CK_RV rv = m->f->C_GetSlotList(CK_TRUE, NULL, &(CK_ULONG){0}); /* some modules look for new tokens in this call only */
    if (rv == CKR_OK)
        rv = m->f->C_GetSlotList(CK_TRUE, slots, &n);
    if (rv != CKR_OK)
        return pfl_p11_fail(err, rv, "list of slots");
    for (CK_ULONG i = 0; i < n; i++) {
        CK_TOKEN_INFO t;
        if (m->f->C_GetTokenInfo(slots[i], &t) != CKR_OK || !(t.flags & CKF_TOKEN_INITIALIZED))
            continue;
        note_seen(seen, &t);
        if (!fits(uri, slots[i], &t))
            continue;
        found++;
        *ret = slots[i];
        *ret_info = t;
    }
    if (found == 1)
        return PFL_OK;
    if (found > 1)
        return pfl_err_set(err, PFL_INVALID, "%lu tokens fit: add serial=… to the URI", found);
    return pfl_err_set(err, PFL_NOT_FOUND, "the token is not there (module %s has %s)", m->path, seen[0] ? seen : "no token");
}

bool pfl_p11_pin_refused(struct pfl_p11_module *m, const CK_TOKEN_INFO *token, const struct pfl_passphrase *pin, bool remember)
{
    struct refused r;
    memcpy(r.serial, token->serialNumber, sizeof r.serial);
    memcpy(r.label, token->label, sizeof r.label);
    pfl_sha256(pfl_bytes_of(pfl_passphrase_text(pin), pfl_passphrase_len(pin)), r.pin);
    bool known = false;
    for (unsigned i = 0; i < REFUSED_MAX && i < m->n_refused; i++)
        known = known || memcmp(&m->refused[i], &r, sizeof r) == 0;
    if (remember && !known)
        m->refused[m->n_refused++ % REFUSED_MAX] = r;
    OPENSSL_cleanse(&r, sizeof r);
    return known;
}

static enum pfl_rc check_may_try(struct pfl_p11_module *m, const CK_TOKEN_INFO *t, const struct pfl_passphrase *pin,
                                 struct pfl_err *err)
{
    if (t->flags & CKF_USER_PIN_LOCKED)
        return pfl_err_set(err, PFL_AUTH,
                           "the token's PIN is locked after too many wrong ones: unlock it with its security officer's "
                           "PIN");
    if (t->flags & CKF_USER_PIN_FINAL_TRY)
        return pfl_err_set(err, PFL_AUTH,
                           "one wrong PIN more would lock the token, so none is tried: log in once by hand (pkcs11-tool --login "
                           "--list-objects), which gives the tries back");
    if (!pin && !(t->flags & CKF_PROTECTED_AUTHENTICATION_PATH))
        return pfl_err_set(err, PFL_AUTH,
                           "the token wants a PIN and none was given: put it into a file that only you can read and name that with "
                           "pin-source=file:/path in the URI, --pin-file or settings.ssl.pin_file");
    if (pin && pfl_p11_pin_refused(m, t, pin, false))
        return pfl_err_set(err, PFL_AUTH,
                           "the token refused this PIN before; it is not tried again, so that the token does not lock");
    return PFL_OK;
}

static enum pfl_rc login(struct pfl_p11_module *m, CK_SESSION_HANDLE session, const CK_TOKEN_INFO *t,
                         const struct pfl_passphrase *pin, struct pfl_err *err)
{
    CK_SESSION_INFO info;
    bool logged_in = m->f->C_GetSessionInfo(session, &info) == CKR_OK &&
                     (info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS);
    if (!(t->flags & CKF_LOGIN_REQUIRED) || logged_in) /* a login holds for all sessions of a process with one token */
        return PFL_OK;
    enum pfl_rc rc = check_may_try(m, t, pin, err);
    if (rc != PFL_OK)
        return rc;
    CK_RV rv =
        m->f->C_Login(session, CKU_USER, pin ? (unsigned char *)pfl_passphrase_text(pin) : NULL, pin ? pfl_passphrase_len(pin) : 0);
    if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN)
        return PFL_OK;
    bool pin_is_wrong = rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE;
    if (pin && pin_is_wrong)
        (void)pfl_p11_pin_refused(m, t, pin, true);
    char text[80];
    return pfl_err_set(err, pin_is_wrong || rv == CKR_PIN_LOCKED || rv == CKR_PIN_EXPIRED ? PFL_AUTH : PFL_UNAVAILABLE,
                       "the token refuses the login: %s%s", pfl_p11_rv_text(rv, text, sizeof text),
                       pin_is_wrong ? "; it was tried once and is not tried again" : "");
}

enum pfl_rc pfl_p11_session_open(struct pfl_p11_module *m, const struct pfl_pkcs11_uri *uri, const struct pfl_passphrase *pin,
                                 bool read_write, CK_SESSION_HANDLE *ret, struct pfl_err *err)
{
    PFL_AUTO(pfl_passphrase_freep) struct pfl_passphrase *from_file = NULL;
    CK_SLOT_ID slot = 0;
    CK_TOKEN_INFO token;
    CK_SESSION_HANDLE session = CK_INVALID_HANDLE;
    enum pfl_rc rc = find_slot(m, uri, &slot, &token, err);
    if (rc != PFL_OK)
        return rc;
    if (uri->pin_source && (rc = pfl_passphrase_from_file(uri->pin_source, &from_file, err)) != PFL_OK) {
        (void)pfl_err_wrap(err, "pin-source");
        return rc;
    }
    CK_RV rv = m->f->C_OpenSession(slot, CKF_SERIAL_SESSION | (read_write ? CKF_RW_SESSION : 0), NULL, NULL, &session);
    if (rv != CKR_OK)
        return pfl_p11_fail(err, rv, "session");
    rc = login(m, session, &token, from_file ? from_file : pin, err);
    if (rc != PFL_OK) {
        (void)m->f->C_CloseSession(session);
        return rc;
    }
    *ret = session;
    return PFL_OK;
}
