#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
cd "$(dirname "$0")/.." && git ls-files 'src/*.[ch]' 'include/*.h' 'tests/*.[ch]' 'examples/*.c' | xargs clang-format -i
