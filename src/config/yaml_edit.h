/* SPDX-License-Identifier: Apache-2.0 */
/* Changes to a YAML tree, and the tree back as text: for variations of an experiment. */
#ifndef PFL_CONFIG_YAML_EDIT_H
#define PFL_CONFIG_YAML_EDIT_H

#include "base/bytes.h"
#include "config/yaml.h"

/** Sets the value at a path such as "experiment.model.params.lr_rate" (any case); maps on the way are made where they are missing
 * or unset. text is a value as it would stand in a file: "0.1", "[200, 200]", "{alpha: 0.5}". INVALID: an empty part of the path, a
 * value on the way that is no map, text that is no value. */
enum pfl_rc pfl_yaml_set(struct pfl_yaml_doc *doc, const char *path, const char *text, struct pfl_err *err) PFL_WARN_UNUSED;

/** Appends the tree as a YAML document: comments and styles are gone, values are the same. */
void pfl_yaml_write(const struct pfl_yaml_doc *doc, struct pfl_buf *out);

#endif
