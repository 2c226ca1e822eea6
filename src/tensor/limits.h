/* SPDX-License-Identifier: Apache-2.0 */
/* What a layout may be, a stranger's too: each costs memory before a model is compared with one's own. */
#ifndef PFL_TENSOR_LIMITS_H
#define PFL_TENSOR_LIMITS_H

enum {
    PFL_TENSOR_RANK_MAX = 8,       /* as many as NumPy's and PyTorch's models use, and some */
    PFL_TENSOR_NAME_MAX = 128,     /* bytes with NUL */
    PFL_LAYOUT_TENSORS_MAX = 4096, /* a transformer of a hundred layers has some 1600 */
};

#endif
