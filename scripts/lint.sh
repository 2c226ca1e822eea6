#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Layers, style, format, clang-tidy. Prints what is wrong and ends with 1 if anything is, or if anything could not be checked.
# usage: lint.sh [BUILD], a build folder that is configured and has the generated headers
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/release}
python=/usr/bin/python3
bad=0
fail() {
    echo "lint: $*"
    bad=1
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
$python scripts/check_layers.py || bad=1
$python scripts/check_style.py || bad=1

n=$(scripts/format.sh --list | wc -l)
if ! command -v clang-format >/dev/null 2>&1; then
    fail "clang-format is not there: the format was NOT checked (make setup)"
elif [ "$n" -eq 0 ]; then
    fail "no file to check the format of"
elif scripts/format.sh --list | xargs clang-format --dry-run --Werror >"$log" 2>&1; then
    echo "format: $n files, as .clang-format says"
else
    head -n 20 "$log"
    fail "the format differs: run scripts/format.sh"
fi

n=$(find src -name '*.c' | wc -l)
if ! command -v clang-tidy >/dev/null 2>&1; then
    fail "clang-tidy is not there: it did NOT run (make setup)"
elif [ ! -f "$build/compile_commands.json" ]; then
    fail "$build is not configured: clang-tidy did NOT run (make lint does both)"
elif [ "$n" -eq 0 ]; then
    fail "no file for clang-tidy"
elif find src -name '*.c' | sort | xargs -P "$(nproc)" -n 6 clang-tidy --quiet -p "$build" \
    --extra-arg=-enable-trivial-auto-var-init-zero-knowing-it-will-be-removed-from-clang >"$log" 2>&1; then
    echo "clang-tidy: $n files, nothing found"
else
    grep -E '(error|warning):' "$log" | sort -u | head -n 30 || tail -n 20 "$log"
    fail "clang-tidy found something"
fi
exit $bad
