#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns files into C: a descriptor set as bytes, or the example experiments as a table of names and texts."""
import os
import sys


def c_bytes(data):
    rows = [data[i:i + 16] for i in range(0, len(data), 16)]
    return "\n".join("    " + " ".join("0x%02x," % b for b in row) for row in rows)


def descriptor(path, symbol, out):
    data = open(path, "rb").read()
    header = "extern const unsigned char %s[];\nextern const unsigned %s_len;\n" % (symbol, symbol)
    open(out + ".h", "w").write("#pragma once\n" + header)
    open(out + ".c", "w").write(
        '#include "%s.h"\nconst unsigned char %s[] = {\n%s\n};\nconst unsigned %s_len = %d;\n'
        % (os.path.basename(out), symbol, c_bytes(data), symbol, len(data)))


def examples(out, paths):
    lines = ["#include <stddef.h>", "#include \"runtime/examples.h\""]
    rows = []
    for i, path in enumerate(sorted(paths)):
        lines.append("static const char text_%d[] = {\n%s\n    0x00,\n};" % (i, c_bytes(open(path, "rb").read())))
        rows.append('    {"%s", text_%d},' % (os.path.splitext(os.path.basename(path))[0], i))
    lines.append("const struct pfl_example pfl_examples[] = {\n%s\n    {NULL, NULL},\n};" % "\n".join(rows))
    open(out, "w").write("\n".join(lines) + "\n")


if sys.argv[1] == "--examples":
    examples(sys.argv[2], sys.argv[3:])
else:
    descriptor(*sys.argv[1:4])
