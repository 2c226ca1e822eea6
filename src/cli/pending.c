/* SPDX-License-Identifier: Apache-2.0 */
/* Stand-ins for commands whose file is not in the tree yet: weak, so that the real ones win as they land. */
#include <stdio.h>

#include "cli/cli.h"

static int pending(const char *name)
{
    fprintf(stderr, "p2pfl %s: not built into this binary\n", name);
    return PFL_EXIT_NO;
}

__attribute__((weak)) int pfl_cmd_run(int argc, char **argv)
{
    (void)argc, (void)argv;
    return pending("run");
}

__attribute__((weak)) int pfl_cmd_node(int argc, char **argv)
{
    (void)argc, (void)argv;
    return pending("node");
}

__attribute__((weak)) int pfl_cmd_examples(int argc, char **argv)
{
    (void)argc, (void)argv;
    return pending("examples");
}
