#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a compiler does not see: forbidden functions, licence lines, files that grew too long. usage: check_style.py [ROOT]"""
import os
import re
import sys

FORBIDDEN = re.compile(r"(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atof|scanf|sscanf|fscanf|alloca|gets|system|popen|sleep|usleep|rand|srand)\s*\(")
LONGEST = 800


def strip(text):
    """Without comments and strings, lines kept."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: "\n" * m.group(0).count("\n"), text)


def check(path, text):
    found = []
    if "SPDX-License-Identifier: Apache-2.0" not in text[:300]:
        found.append((1, "the licence line is missing"))
    lines = strip(text).split("\n")
    if len(lines) > LONGEST and "/tests/" not in path:
        found.append((1, "%d lines, at most %d" % (len(lines), LONGEST)))
    for number, line in enumerate(lines, 1):
        m = FORBIDDEN.search(line)
        if m and "/examples/" not in path:
            found.append((number, "%s() is not used here" % m.group(1)))
    return found


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    bad = files = 0
    for top in ("src", "include", "tests", "examples"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(n for n in names if n.endswith((".c", ".h", ".cc"))):
                path = os.path.join(folder, name)
                files += 1
                with open(path, encoding="utf-8") as f:
                    for number, why in check(path, f.read()):
                        print("%s:%d: %s" % (path, number, why))
                        bad += 1
    print("style: %d files, %s" % (files, "%d findings" % bad if bad else "nothing found"))
    return 1 if bad or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
