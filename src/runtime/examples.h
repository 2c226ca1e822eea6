/* SPDX-License-Identifier: Apache-2.0 */
/* The experiments that the binary carries with it: examples/experiments/ as C, made by the build. */
#ifndef PFL_RUNTIME_EXAMPLES_H
#define PFL_RUNTIME_EXAMPLES_H

struct pfl_example {
    const char *name; /* the file's name without .yaml */
    const char *text; /* NUL-terminated */
};
extern const struct pfl_example pfl_examples[]; /* ends with a NULL name */

#endif
