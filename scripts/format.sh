#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Formats every C file of ours; with --list only names them.
set -eu
cd "$(dirname "$0")/.."
list() {
    find src include tests examples bench -name '*.[ch]' | sort
}
if [ "${1:-}" = --list ]; then
    list
else
    list | xargs clang-format -i
fi
