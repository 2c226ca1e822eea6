#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that are missing, and says which. usage: setup.sh [SECTION...] (build demo test)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- build demo test
for section; do
    grep -qx "# $section" "$here/packages.txt" || { echo "setup: packages.txt has no section '$section'" >&2; exit 2; }
done
wanted=$(awk -v want=" $* " '
    /^# (build|demo|test)$/ { on = index(want, " " $2 " ") > 0; next }
    /^#/ || NF == 0 { next }
    on { print $1 }' "$here/packages.txt")
missing=""
n=0
for package in $wanted; do
    n=$((n + 1))
    case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
    installed) ;;
    *) missing="$missing $package" ;;
    esac
done
if [ -z "$missing" ]; then
    echo "setup: all $n packages are there ($*)"
    exit 0
fi
echo "setup: missing:$missing"
run=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "setup: packages are missing and this user cannot install them; as root, run:" >&2
        echo "    apt-get update && apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    fi
    run="sudo"
fi
echo "setup: installing them with apt-get"
$run apt-get update -q
$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
