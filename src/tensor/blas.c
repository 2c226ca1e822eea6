/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of OpenBLAS that are used, behind pointers. Code that did not ask for it beforehand loads it with its first call,
 * and ends the process where that fails: a programmer's error. */
#include "tensor/blas.h"

#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

#define SONAME         "libopenblas.so.0"
#define SONAME_LAPACKE "liblapacke.so.3"
enum { LAPACKE_NOT_THERE = -1010 /* its LAPACK_WORK_MEMORY_ERROR */ };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    void (*sgemm)(CBLAS_LAYOUT order, CBLAS_TRANSPOSE trans_a, CBLAS_TRANSPOSE trans_b, blasint m, blasint n, blasint k,
                  float alpha, const float *a, blasint lda, const float *b, blasint ldb, float beta, float *c, blasint ldc);
    void (*set_num_threads)(int n);
    void (*sgesdd)(const char *jobz, const int *m, const int *n, float *a, const int *lda, float *s, float *u, const int *ldu,
                   float *vt, const int *ldvt, float *work, const int *lwork, int *iwork, int *info);
    _Atomic(bool) loaded;
} blas;

/* ISO C has no cast from an object pointer to a function's; POSIX promises that the bytes are the same. */
static bool find(void *library, const char *name, void *fn, size_t size)
{
    void *symbol = dlsym(library, name);
    PFL_ASSERT(size == sizeof(symbol));
    memcpy(fn, &symbol, size);
    return symbol != NULL;
}

static enum pfl_rc load(const char *soname, struct pfl_err *err)
{
    if (atomic_load(&blas.loaded))
        return PFL_OK;
    void *library = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return pfl_err_set(err, PFL_UNSUPPORTED, "OpenBLAS cannot be loaded: %s; install libopenblas0", dlerror());
    if (!find(library, "cblas_sgemm", &blas.sgemm, sizeof(blas.sgemm)) ||
        !find(library, "openblas_set_num_threads", &blas.set_num_threads, sizeof(blas.set_num_threads)) ||
        !find(library, "sgesdd_", &blas.sgesdd, sizeof(blas.sgesdd))) {
        (void)dlclose(library);
        return pfl_err_set(err, PFL_UNSUPPORTED, "%s is no OpenBLAS: some of its functions are not in it; install libopenblas0",
                           soname);
    }
    atomic_store(&blas.loaded, true);
    return PFL_OK;
}

enum pfl_rc pfl_blas_load_from(const char *soname, struct pfl_err *err)
{
    pthread_mutex_lock(&lock);
    enum pfl_rc rc = load(soname, err);
    pthread_mutex_unlock(&lock);
    return rc;
}

enum pfl_rc pfl_blas_load(struct pfl_err *err)
{
    return pfl_blas_load_from(SONAME, err);
}

static void need(void)
{
    if (!atomic_load_explicit(&blas.loaded, memory_order_acquire))
        PFL_ASSERT(pfl_blas_load(NULL) == PFL_OK);
}

/* ---- these are pfl_blas_... to the linker ---- */

void cblas_sgemm(CBLAS_LAYOUT order, CBLAS_TRANSPOSE trans_a, CBLAS_TRANSPOSE trans_b, blasint m, blasint n, blasint k, float alpha,
                 const float *a, blasint lda, const float *b, blasint ldb, float beta, float *c, blasint ldc)
{
    need();
    blas.sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

void openblas_set_num_threads(int n)
{
    need();
    blas.set_num_threads(n);
}

void sgesdd_(const char *jobz, const int *m, const int *n, float *a, const int *lda, float *s, float *u, const int *ldu, float *vt,
             const int *ldvt, float *work, const int *lwork, int *iwork, int *info)
{
    need();
    blas.sgesdd(jobz, m, n, a, lda, s, u, ldu, vt, ldvt, work, lwork, iwork, info);
}

typedef int (*dgesdd_fn)(int layout, char jobz, int m, int n, double *a, int lda, double *s, double *u, int ldu, double *vt,
                         int ldvt);

static dgesdd_fn lapacke(void)
{
    static dgesdd_fn fn;
    pthread_mutex_lock(&lock);
    void *library = fn ? NULL : dlopen(SONAME_LAPACKE, RTLD_NOW | RTLD_LOCAL);
    if (library && !find(library, "LAPACKE_dgesdd", &fn, sizeof(fn)))
        (void)dlclose(library);
    dgesdd_fn found = fn;
    pthread_mutex_unlock(&lock);
    return found;
}

int LAPACKE_dgesdd(int layout, char jobz, int m, int n, double *a, int lda, double *s, double *u, int ldu, double *vt, int ldvt)
{
    dgesdd_fn fn = lapacke();
    return fn ? fn(layout, jobz, m, n, a, lda, s, u, ldu, vt, ldvt) : LAPACKE_NOT_THERE;
}
