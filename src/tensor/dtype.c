/* SPDX-License-Identifier: Apache-2.0 */
/* Data types by safetensors' names. */
#include "base/str.h"
#include "tensor/model.h"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [PFL_F32] = {"F32", 4}, [PFL_F64] = {"F64", 8}, [PFL_F16] = {"F16", 2}, [PFL_BF16] = {"BF16", 2}, [PFL_I8] = {"I8", 1},
    [PFL_I16] = {"I16", 2}, [PFL_I32] = {"I32", 4}, [PFL_I64] = {"I64", 8}, [PFL_U8] = {"U8", 1},     [PFL_BOOL] = {"BOOL", 1},
};

size_t pfl_dtype_bytes(enum pfl_dtype t)
{
    PFL_ASSERT((size_t)t < PFL_ARRAY_LEN(dtypes));
    return dtypes[t].bytes;
}

const char *pfl_dtype_name(enum pfl_dtype t)
{
    PFL_ASSERT((size_t)t < PFL_ARRAY_LEN(dtypes));
    return dtypes[t].name;
}

bool pfl_dtype_parse(const char *name, enum pfl_dtype *ret)
{
    for (size_t i = 0; i < PFL_ARRAY_LEN(dtypes); i++) {
        if (pfl_streq(name, dtypes[i].name)) {
            *ret = (enum pfl_dtype)i;
            return true;
        }
    }
    return false;
}
