#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a compiler does not see: forbidden functions, licence lines, files and functions that grew too long, words that must not occur.
usage: check_style.py [ROOT] [--no-word WORD]..."""
import argparse
import os
import re
import sys

FORBIDDEN = re.compile(r"(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atof|scanf|sscanf|fscanf|alloca|gets|system|popen|sleep|usleep|rand|srand)\s*\(")
LONGEST_FILE = 800
LONGEST_FUNCTION = 70
NOT_OURS = {".git", "build", "runs", "data", "__pycache__"}


def strip(text):
    """Without comments and strings, lines kept."""
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: "\n" * m.group(0).count("\n"), text)


def long_functions(lines):
    """(line, length) of each body that is too long; the format puts a function's braces into the first column."""
    start = None
    for number, line in enumerate(lines, 1):
        if line.rstrip() == "{":
            start = number
        elif line.rstrip() == "}" and start is not None:
            if number - start - 1 > LONGEST_FUNCTION:
                yield start, number - start - 1
            start = None


def check(path, text):
    """(line, what, is it a fault or only a warning) for what is found."""
    found = []
    if "SPDX-License-Identifier: Apache-2.0" not in text[:300]:
        found.append((1, "the licence line is missing", True))
    if not path.endswith((".c", ".h", ".cc")):
        return found
    lines = strip(text).split("\n")
    if len(lines) > LONGEST_FILE and "/tests/" not in path:
        found.append((1, "%d lines, at most %d" % (len(lines), LONGEST_FILE), True))
    for number, line in enumerate(lines, 1):
        m = FORBIDDEN.search(line)
        if m and "/examples/" not in path:
            found.append((number, "%s() is not used here" % m.group(1), True))
    if "/src/" in path:
        found += [(number, "a function of %d lines" % n, False) for number, n in long_functions(lines)]
    return found


def files_below(root, tops, endings):
    for top in tops:
        for folder, folders, names in os.walk(os.path.join(root, top)):
            folders[:] = sorted(f for f in folders if f not in NOT_OURS)
            for name in sorted(names):
                if name.endswith(endings):
                    yield os.path.join(folder, name)


def words_in(root, words):
    """(path, line, word) wherever one of the words stands, in any file."""
    pattern = re.compile(r"(?<!\w)(%s)(?!\w)" % "|".join(re.escape(w) for w in words), re.I)
    for path in files_below(root, [""], ("",)):
        if not os.path.isfile(path):  # a socket, a link to nowhere
            continue
        with open(path, encoding="utf-8", errors="replace") as f:
            for number, line in enumerate(f, 1):
                m = pattern.search(line)
                if m:
                    yield path, number, m.group(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", nargs="?", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser.add_argument("--no-word", action="append", default=[])
    args = parser.parse_args()
    faults = warnings = files = 0
    for path in files_below(args.root, ("src", "include", "tests", "examples", "scripts", "cmake", "bench"), (".c", ".h", ".cc", ".py", ".sh", ".cmake")):
        files += 1
        with open(path, encoding="utf-8") as f:
            for number, why, fault in check(path, f.read()):
                print("%s:%d: %s%s" % (path, number, "" if fault else "warning: ", why))
                faults += fault
                warnings += not fault
    for path, number, word in words_in(args.root, args.no_word) if args.no_word else ():
        print("%s:%d: '%s' does not belong here" % (path, number, word))
        faults += 1
    print("style: %d files, %s" % (files, "%d faults, %d warnings" % (faults, warnings) if faults or warnings else "nothing found"))
    return 1 if faults or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
