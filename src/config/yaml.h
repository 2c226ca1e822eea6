/* SPDX-License-Identifier: Apache-2.0 */
/* YAML as a small checked tree. Reads one document; refuses anchors, aliases, tags, doubled keys (case does not tell two apart, as
 * it does not in look-ups) and whatever is over a limit. pfl_yaml_only names a key that nobody can have meant and the nearest valid
 * one. Errors: "FILE:LINE: where: what". */
#ifndef PFL_CONFIG_YAML_H
#define PFL_CONFIG_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    PFL_YAML_FILE_MAX = 1 << 20, /* an experiment is a few KB */
    PFL_YAML_DEPTH_MAX = 32,     /* bounds the reader's recursion */
    PFL_YAML_NODES_MAX = 10000,
    PFL_YAML_KEYS_MAX = 256, /* of one map: each new key is compared with all before it */
};

enum pfl_yaml_kind { PFL_YAML_SCALAR, PFL_YAML_LIST, PFL_YAML_MAP };

struct pfl_yaml {
    enum pfl_yaml_kind kind;
    unsigned line, column;         /* from 1; of the key where there is one */
    char *key;                     /* owned; of a map's entry, else NULL */
    char *path;                    /* owned: "experiment.rounds", for errors */
    char *text;                    /* owned; scalars */
    bool quoted;                   /* a quoted scalar is a string whatever it looks like */
    struct pfl_yaml *first, *next; /* entries, in order */
};

struct pfl_yaml_doc {
    char *file;            /* owned: the name for errors */
    struct pfl_yaml *root; /* owned; a map */
};
/** text, len: the file's content. MALFORMED, TOO_BIG, UNSUPPORTED (anchors, aliases, tags). */
enum pfl_rc pfl_yaml_parse(const char *file, const char *text, size_t len, struct pfl_yaml_doc *ret,
                           struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_yaml_load(const char *path, struct pfl_yaml_doc *ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_yaml_deinit(struct pfl_yaml_doc *doc);

/** The entry of that name in a map (any case), NULL where there is none or where it is unset: empty, null, None or ~. map may be
 * NULL. */
struct pfl_yaml *pfl_yaml_get(struct pfl_yaml *map, const char *key);

/* Each sets *ret only where the key is there; INVALID with file, line and path for a value that does not fit. */
enum pfl_rc pfl_yaml_map(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, struct pfl_yaml **ret,
                         struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_yaml_list(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, struct pfl_yaml **ret,
                          struct pfl_err *err) PFL_WARN_UNUSED;
/** *ret is replaced (freed first) by an owned copy. */
enum pfl_rc pfl_yaml_str(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, char **ret,
                         struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_yaml_int(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, int64_t min, int64_t max,
                         int64_t *ret, struct pfl_err *err) PFL_WARN_UNUSED;
/** Any 64-bit seed. */
enum pfl_rc pfl_yaml_u64(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, uint64_t *ret,
                         struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_yaml_double(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, double min, double max,
                            double *ret, struct pfl_err *err) PFL_WARN_UNUSED;
enum pfl_rc pfl_yaml_bool(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *key, bool *ret,
                          struct pfl_err *err) PFL_WARN_UNUSED;

/** An error at a node: "FILE:LINE: path: text". Returns rc. */
enum pfl_rc pfl_yaml_fail(const struct pfl_yaml_doc *doc, const struct pfl_yaml *at, enum pfl_rc rc, struct pfl_err *err,
                          const char *fmt, ...) PFL_PRINTF(5, 6);
/** INVALID for the first key of map that is not among names, with the nearest that is. map may be NULL. */
enum pfl_rc pfl_yaml_only(const struct pfl_yaml_doc *doc, struct pfl_yaml *map, const char *const *names, size_t n,
                          struct pfl_err *err) PFL_WARN_UNUSED;

#endif
