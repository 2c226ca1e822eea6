/* SPDX-License-Identifier: Apache-2.0 */
/* What pickle.c (the machine) and pickle_numpy.c (what its callables mean) share. */
#ifndef PFL_WIRE_PICKLE_IMPL_H
#define PFL_WIRE_PICKLE_IMPL_H

#include "wire/pickle.h"

struct pfl_pickle {
    struct pfl_bytes in;
    size_t at;
    struct pfl_py **values; /* all of them, owned */
    size_t n_values, cap_values;
    size_t n_items; /* of all lists, tuples and dicts together */
    struct pfl_py **stack;
    size_t n_stack, cap_stack;
    size_t *marks;
    size_t n_marks, cap_marks;
    struct pfl_py **memo;
    size_t n_memo, cap_memo;
    void **owned; /* blocks made for values */
    size_t n_owned, cap_owned;
    const struct pfl_py *root;
    struct pfl_err *err; /* not NULL while reading */
};

/** A new value, zeroed; NULL with the error set where there are too many. */
struct pfl_py *pfl_pickle_value(struct pfl_pickle *p, enum pfl_py_kind kind);
/** A block that lives as long as p. */
void *pfl_pickle_alloc(struct pfl_pickle *p, size_t n);

/** GLOBAL and STACK_GLOBAL: the callable of that name, or NULL with the error set. */
struct pfl_py *pfl_pickle_global(struct pfl_pickle *p, struct pfl_bytes module, struct pfl_bytes name);
/** REDUCE: what fn(*args) stands for, or NULL with the error set. */
struct pfl_py *pfl_pickle_reduce(struct pfl_pickle *p, const struct pfl_py *fn, const struct pfl_py *args);
/** BUILD: gives target its state. */
enum pfl_rc pfl_pickle_build(struct pfl_pickle *p, struct pfl_py *target, const struct pfl_py *state);

#endif
