/* SPDX-License-Identifier: Apache-2.0 */
/* The experiments that the binary carries with it (examples/experiments/), embedded at build time. */
#ifndef PFL_RUNTIME_EXAMPLES_H
#define PFL_RUNTIME_EXAMPLES_H

struct pfl_example {
    const char *name, *yaml;
};
extern const struct pfl_example pfl_examples[]; /* ends with a NULL name */

#endif
