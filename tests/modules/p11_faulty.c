/* SPDX-License-Identifier: Apache-2.0 */
/* A PKCS#11 module for tests: SoftHSM2's, with the faults that a test asks for through p11_fault. */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <stddef.h>

#include "modules/p11_fault.h"

__attribute__((visibility("default"))) struct p11_fault p11_fault;
static CK_FUNCTION_LIST real, ours;

static CK_RV get_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = real.C_GetTokenInfo(slot, info);
    if (rv == CKR_OK)
        info->flags |= p11_fault.token_flags;
    return rv;
}

static CK_RV login(CK_SESSION_HANDLE session, CK_USER_TYPE user, unsigned char *pin, CK_ULONG len)
{
    p11_fault.n_logins++;
    return real.C_Login(session, user, pin, len);
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *user, CK_NOTIFY notify, CK_SESSION_HANDLE *ret)
{
    p11_fault.n_sessions++;
    return real.C_OpenSession(slot, flags, user, notify, ret);
}

/* The token is pulled out: its sessions are closed and the login is gone with them. */
static CK_RV sign_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    if (p11_fault.n_removals) {
        CK_SESSION_INFO info;
        p11_fault.n_removals--;
        if (real.C_GetSessionInfo(session, &info) == CKR_OK)
            (void)real.C_CloseAllSessions(info.slotID);
        return CKR_DEVICE_REMOVED;
    }
    return p11_fault.sign_init_rv ? p11_fault.sign_init_rv : real.C_SignInit(session, mechanism, key);
}

static CK_RV get_attributes(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *templ, CK_ULONG n)
{
    CK_RV rv = real.C_GetAttributeValue(session, object, templ, n);
    for (CK_ULONG i = 0; rv == CKR_OK && i < n; i++)
        if (templ[i].type == CKA_EXTRACTABLE && p11_fault.says_extractable)
            *(CK_BBOOL *)templ[i].pValue = CK_TRUE;
    return rv;
}

__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **ret)
{
    void *module = dlopen("/usr/lib/softhsm/libsofthsm2.so", RTLD_NOW | RTLD_LOCAL);
    union {
        void *object;
        CK_C_GetFunctionList function;
    } symbol = {module ? dlsym(module, "C_GetFunctionList") : NULL};
    CK_FUNCTION_LIST *f = NULL;
    if (!symbol.object || symbol.function(&f) != CKR_OK)
        return CKR_GENERAL_ERROR;
    real = ours = *f;
    ours.C_GetTokenInfo = get_token_info;
    ours.C_Login = login;
    ours.C_OpenSession = open_session;
    ours.C_SignInit = sign_init;
    ours.C_GetAttributeValue = get_attributes;
    *ret = &ours;
    return CKR_OK;
}
