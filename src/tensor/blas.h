/* SPDX-License-Identifier: Apache-2.0 */
/* OpenBLAS, loaded when it is first needed and not with the program: with the Fortran runtime that it brings it takes 2 MiB of a
 * node that does not compute (an observer, a node whose learner is in another process, the CA's service), and a part of every
 * start.
 *
 * The build renames the functions in <cblas.h> (cmake/layers.cmake), so that code calls cblas_sgemm as always and reaches the
 * library through here. A function that is not in this file fails to link: add it here and there. */
#ifndef PFL_TENSOR_BLAS_H
#define PFL_TENSOR_BLAS_H

#include "base/err.h"

/** LAPACK, in OpenBLAS (reached as the others): the singular value decomposition of a column-major matrix. Returns through *info.
 */
void sgesdd_(const char *jobz, const int *m, const int *n, float *a, const int *lda, float *s, float *u, const int *ldu, float *vt,
             const int *ldvt, float *work, const int *lwork, int *iwork, int *info);

/** LAPACKE's, from its own library, which is loaded by the first call: the decomposition of a matrix of doubles in row or column
 * order, as <lapacke.h> declares it. Not 0 where that library cannot be loaded. */
int LAPACKE_dgesdd(int layout, char jobz, int m, int n, double *a, int lda, double *s, double *u, int ldu, double *vt, int ldvt);

/** Loads it. Whoever makes something that will compute calls this first: after it, no call can fail. Any thread, any number of
 * times. UNSUPPORTED with the loader's words and the package to install. */
enum pfl_rc pfl_blas_load(struct pfl_err *err) PFL_WARN_UNUSED;
/** The same with another library file; for tests. What is loaded stays. */
enum pfl_rc pfl_blas_load_from(const char *soname, struct pfl_err *err) PFL_WARN_UNUSED;

#endif
