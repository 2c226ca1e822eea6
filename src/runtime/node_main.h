/* SPDX-License-Identifier: Apache-2.0 */
/* One node in the foreground: from its node.yaml to its end by a signal or by an operator. */
#ifndef PFL_RUNTIME_NODE_MAIN_H
#define PFL_RUNTIME_NODE_MAIN_H

#include "base/err.h"
#include "config/settings.h"
#include "tls/context.h"

/** Runs until SIGINT, SIGTERM or a shutdown request; then says goodbye to the neighbours and returns PFL_OK. An error means that
 * the node never started; its message names the file or the setting. */
enum pfl_rc pfl_node_main(const char *config_path, struct pfl_err *err) PFL_WARN_UNUSED;
/** Where the settings say that certificates lie; texts are the settings'. crl_kept: see struct pfl_driver_opts; may be NULL. */
struct pfl_tls_files pfl_node_tls_files(const struct pfl_settings *settings, const char *crl_kept);

#endif
