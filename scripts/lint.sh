#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Layers, style, format, clang-tidy. Prints what is wrong and ends with 1 if anything is.
set -eu
cd "$(dirname "$0")/.."
bad=0
python=/usr/bin/python3
$python scripts/check_layers.py || bad=1
$python scripts/check_style.py || bad=1
if command -v clang-format >/dev/null 2>&1; then
    git ls-files 'src/*.[ch]' 'include/*.h' 'tests/*.[ch]' 'examples/*.c' | xargs -r clang-format --dry-run --Werror >build/format.log 2>&1 ||
        { head -n 20 build/format.log; echo "lint: the format differs: run scripts/format.sh"; bad=1; }
    echo "lint: format checked"
else
    echo "lint: clang-format is not there, the format was NOT checked"
    bad=1
fi
if command -v clang-tidy >/dev/null 2>&1 && [ -f build/release/compile_commands.json ]; then
    if git ls-files 'src/*.c' | xargs -r -P "$(nproc)" -n 6 clang-tidy --quiet -p build/release \
        --extra-arg=-enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang >build/tidy.log 2>/dev/null; then
        echo "lint: clang-tidy checked"
    else
        grep -E 'error|warning' build/tidy.log | sort -u | head -n 30
        bad=1
    fi
fi
exit $bad
