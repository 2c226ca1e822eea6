/* SPDX-License-Identifier: Apache-2.0 */
/* A reader for the few pickles that P2PFL's nodes send: nested lists, tuples and dicts of numbers, strings, bytes and NumPy arrays.
 * A pickle is a program for a stack machine that may call anything; this one runs nothing. It knows the opcodes that occur and nine
 * callables, as data; any other opcode or name refuses the whole pickle and is named in the error.
 *
 * Values are shared as the pickle shares them (a graph, cycles included): whoever walks it bounds the walk.
 * Source: Python's pickletools.py for the opcodes (protocols 2 to 5); NumPy's __reduce__ forms of ndarray, dtype and scalars. */
#ifndef PFL_WIRE_PICKLE_H
#define PFL_WIRE_PICKLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"

enum {
    PFL_PICKLE_VALUES_MAX = 1 << 18, /* values of one pickle: a model of 4096 tensors has some 80,000 */
    PFL_PICKLE_STACK_MAX = 1 << 16,  /* stack and marks */
    PFL_PICKLE_MEMO_MAX = 1 << 18,   /* memo slots */
    PFL_PICKLE_RANK_MAX = 8,
};

enum pfl_py_kind {
    PFL_PY_NONE,
    PFL_PY_BOOL,
    PFL_PY_INT,
    PFL_PY_FLOAT,
    PFL_PY_STR,
    PFL_PY_BYTES,
    PFL_PY_LIST,
    PFL_PY_TUPLE,
    PFL_PY_DICT,
    PFL_PY_CALLABLE, /* one of the ten */
    PFL_PY_DTYPE,
    PFL_PY_ARRAY,
};

enum pfl_py_callable {
    PFL_PY_RECONSTRUCT,
    PFL_PY_NDARRAY,
    PFL_PY_NUMPY_DTYPE,
    PFL_PY_SCALAR,
    PFL_PY_FROMBUFFER,
    PFL_PY_ENCODE,
    PFL_PY_EMPTY_BYTES,
};

/** A NumPy type: kind and size as in its type string, "<f4". */
struct pfl_py_dtype {
    char kind;     /* 'f', 'i', 'u', 'b' */
    uint8_t bytes; /* of one element: 1, 2, 4, 8 */
    bool big;      /* big-endian */
};

struct pfl_py {
    enum pfl_py_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct pfl_bytes bytes; /* STR (UTF-8, not checked) and BYTES; into the input, or owned by the pickle */
        struct {
            const struct pfl_py **items; /* DICT: key, value, key, value, ... */
            size_t n, cap;               /* DICT: n counts both */
        } list;
        enum pfl_py_callable callable;
        struct pfl_py_dtype dtype;
        struct {
            struct pfl_py_dtype dtype;
            bool set; /* its state has come */
            unsigned rank;
            size_t shape[PFL_PICKLE_RANK_MAX];
            bool fortran;          /* the first index runs fastest */
            size_t n;              /* elements */
            struct pfl_bytes data; /* n * dtype.bytes */
        } array;
    };
};

struct pfl_pickle;
/** Reads one pickle that fills `in` (nothing behind its STOP). `in` must outlive the result. MALFORMED, UNSUPPORTED (an opcode, a
 * callable, a type that is not known: named), TOO_BIG. */
enum pfl_rc pfl_pickle_read(struct pfl_bytes in, struct pfl_pickle **ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_pickle_free(struct pfl_pickle *p); /* accepts NULL */
PFL_DEFINE_FREEP(pickle, struct pfl_pickle, pfl_pickle_free)
const struct pfl_py *pfl_pickle_root(const struct pfl_pickle *p); /* borrowed for p's life */

/* For walking. All accept NULL and values of other kinds. */
bool pfl_py_is_str(const struct pfl_py *v, const char *text);
/** The value under that string key; of equal keys the last one, as Python has it. NULL where v is no dict or has none. */
const struct pfl_py *pfl_py_get(const struct pfl_py *v, const char *key);
/** The same for an integer key. */
const struct pfl_py *pfl_py_get_index(const struct pfl_py *v, int64_t key);
/** Items of a list or tuple; 0 and NULL for others. */
size_t pfl_py_n(const struct pfl_py *v);
const struct pfl_py *pfl_py_at(const struct pfl_py *v, size_t i);
/** An int, bool, or float as double; a zero-dimensional array's only element too. False for others. */
bool pfl_py_number(const struct pfl_py *v, double *ret);
bool pfl_py_integer(const struct pfl_py *v, int64_t *ret);
/** Element i in C order (the last index runs fastest), whatever the array's own order and byte order. i < n. */
double pfl_py_element(const struct pfl_py *array, size_t i);
int64_t pfl_py_element_integer(const struct pfl_py *array, size_t i); /* kinds i, u, b */
/** Its bytes, little-endian; out has dtype.bytes. */
void pfl_py_element_bytes(const struct pfl_py *array, size_t i, uint8_t *out);

#endif
