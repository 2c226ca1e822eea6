/* SPDX-License-Identifier: Apache-2.0 */
/* link: base tensor wire */
/* Pickles that peers send: read or refused; what is read can be walked to its last element. */
#include <stdlib.h>

#include "wire/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Values are a graph: the walk is bounded, not the depth of a recursion. */
static double walk(const struct pfl_py *v, unsigned depth, unsigned *left)
{
    double sum = 0.0, number = 0.0;
    if (*left == 0 || depth == 0)
        return 0.0;
    --*left;
    if (v->kind == PFL_PY_ARRAY && v->array.set) {
        for (size_t i = 0; i < v->array.n && i < 4096; i++)
            sum += pfl_py_element(v, v->array.n - 1 - i) + (double)pfl_py_element_integer(v, i);
    }
    if (v->kind == PFL_PY_LIST || v->kind == PFL_PY_TUPLE || v->kind == PFL_PY_DICT) {
        for (size_t i = 0; i < v->list.n; i++)
            sum += walk(v->list.items[i], depth - 1, left);
    }
    return pfl_py_number(v, &number) ? sum + number : sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PFL_AUTO(pfl_pickle_freep) struct pfl_pickle *p = NULL;
    struct pfl_err err = {0};
    if (pfl_pickle_read(pfl_bytes_of(data, size), &p, &err) != PFL_OK)
        return err.msg[0] ? 0 : (abort(), 0);
    unsigned left = 10000;
    (void)walk(pfl_pickle_root(p), 64, &left);
    (void)pfl_py_get(pfl_pickle_root(p), "params");
    return 0;
}
