#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs each fuzz target for some seconds over a copy of its corpus. usage: fuzz.sh BUILD SECONDS [NAME]
set -eu
build=$1 seconds=$2 only=${3:-}
here=$(cd "$(dirname "$0")/.." && pwd)
for target in "$build"/fuzz_*; do
    [ -x "$target" ] && [ -f "$target" ] || continue
    name=$(basename "$target")
    name=${name#fuzz_}
    [ -z "$only" ] || [ "$only" = "$name" ] || continue
    found="$build/found/$name"
    mkdir -p "$found"
    echo "== $name, $seconds s"
    "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$build/found/$name-finding-" "$found" "$here/tests/fuzz/corpus/$name" 2>&1 | tail -8
done
