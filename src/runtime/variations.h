/* SPDX-License-Identifier: Apache-2.0 */
/* An experiment many times, each time with other values: every combination of what varies is a run in a folder of its own. What is
 * there already is not run again. */
#ifndef PFL_RUNTIME_VARIATIONS_H
#define PFL_RUNTIME_VARIATIONS_H

#include "base/bytes.h"
#include "base/str.h"
#include "config/yaml.h"

enum { PFL_VARIATIONS_MAX = 1000, PFL_VARIATION_AXES_MAX = 16 };

/** What varies: a path in the experiment, and its values as they would stand in the file. */
struct pfl_axis {
    char *path;             /* owned */
    struct pfl_strs values; /* at least one */
};

struct pfl_variation {
    char *label;  /* owned: "aggregator=FedAvg seed=1" */
    char *group;  /* owned: the same without the seed */
    char *folder; /* owned: the label as a folder's name */
    char *text;   /* owned: the experiment */
    /* what came of it */
    bool done, skipped, finished;
    unsigned nodes, rounds;       /* rounds: done */
    double accuracy, worst, loss; /* final, of the nodes: mean, worst, mean; NaN where not known */
    double wall_s, bytes_sent;
    double *curve; /* owned, n_curve: mean test accuracy after each round, from 0 on; NaN where nobody said */
    size_t n_curve;
    double reached; /* the first round at which curve is at least the target; NaN: not */
};

struct pfl_variations {
    char *title;             /* owned */
    struct pfl_yaml_doc doc; /* the experiment */
    struct pfl_axis axes[PFL_VARIATION_AXES_MAX];
    size_t n_axes;
    struct pfl_variation *items; /* owned, n of them, after pfl_variations_make */
    size_t n;
    double target; /* accuracy; NaN: none */
};
/** Reads an example or a file. */
enum pfl_rc pfl_variations_open(const char *experiment, struct pfl_variations *ret, struct pfl_err *err) PFL_WARN_UNUSED;
void pfl_variations_deinit(struct pfl_variations *v);
/** values: separated by commas, those within brackets apart ("1,2", "[200,200],[50]", "1..5"). A path that varies already gets
 * these values instead. INVALID, TOO_BIG. */
enum pfl_rc pfl_variations_add(struct pfl_variations *v, const char *path, const char *values, struct pfl_err *err) PFL_WARN_UNUSED;
/** Every combination, each checked as an experiment. Errors name the combination. */
enum pfl_rc pfl_variations_make(struct pfl_variations *v, struct pfl_err *err) PFL_WARN_UNUSED;

/** Fills in what came of a run in its folder. False where there is no run that ended (no summary.json). */
bool pfl_variation_read(struct pfl_variation *x, const char *dir, double target);

/** The table as text, the results as JSON lines, the page with table and charts. */
void pfl_variations_table(const struct pfl_variations *v, struct pfl_buf *out);
void pfl_variations_jsonl(const struct pfl_variations *v, struct pfl_buf *out);
void pfl_variations_html(const struct pfl_variations *v, struct pfl_buf *out);

#endif
