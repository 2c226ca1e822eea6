#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The checkers find what they look for, and nothing in this tree."""
import os
import subprocess
import sys
import tempfile
import unittest

SRC = os.environ.get("P2PFL_SRC", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
OK = "/* SPDX-License-Identifier: Apache-2.0 */\n"


def run(script, *args):
    return subprocess.run([sys.executable, os.path.join(SRC, "scripts", script), *args], capture_output=True, text=True)


def tree(folder, files):
    for name, text in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)


class Layers(unittest.TestCase):
    def test_this_tree_is_clean(self):
        r = run("check_layers.py")
        self.assertEqual(r.returncode, 0, r.stdout)

    def test_planted_includes_are_found(self):
        for name, include, why in [("base/a.c", '"node/node.h"', "base may not include node"),
                                   ("node/a.c", "<time.h>", "does no I/O"),
                                   ("node/a.c", '"base/log.h"', "does no I/O"),
                                   ("node/a.c", "<uv.h>", "uv is not allowed in node"),
                                   ("wire/a.c", "<openssl/ssl.h>", "openssl is not allowed in wire"),
                                   ("mesh/a.h", "<surprise.h>", "no row of the table"),
                                   ("wire/a.c", '"../node/node.h"', "no row of the table"),
                                   ("base/a.c", "SOME_HEADER", "a macro cannot be checked"),
                                   ("cli/a.c", "<openssl/ssl.h>", "openssl is not allowed in cli"),
                                   ("base/deep/a.c", "<stdio.h>", "without others in it"),
                                   ("odd/a.c", "<stdio.h>", "no layer of the table")]:
            with self.subTest(name=name, include=include), tempfile.TemporaryDirectory() as d:
                tree(d, {name: "#include %s\n" % include, "base/ok.c": "#include <stdio.h>\n"})
                r = run("check_layers.py", d)
                self.assertEqual(r.returncode, 1)
                self.assertIn(why, r.stdout)


    def test_planted_calls_of_the_core_are_found(self):
        for layer, call, found in [("node", "pfl_clock_mono()", 1), ("mesh", "printf(\"x\")", 1), ("node", "pfl_rng_entropy()", 1),
                                   ("runtime", "pfl_clock_mono()", 0), ("node", "pfl_clock_format(t, out)", 0),
                                   ("node", "snprintf(a, n, \"time(1)\") /* time(2) */", 0)]:
            with self.subTest(layer=layer, call=call), tempfile.TemporaryDirectory() as d:
                tree(d, {layer + "/a.c": "void f(void)\n{\n    %s;\n}\n" % call})
                r = run("check_layers.py", d)
                self.assertEqual(r.returncode, found, r.stdout)
                self.assertEqual(r.stdout.count("a.c:3: "), found)

    def test_nothing_to_check_is_a_fault(self):
        with tempfile.TemporaryDirectory() as d:
            self.assertEqual(run("check_layers.py", d).returncode, 1)
            self.assertEqual(run("check_style.py", d).returncode, 1)


class Style(unittest.TestCase):
    def test_this_tree_is_clean(self):
        r = run("check_style.py")
        self.assertEqual(r.returncode, 0, r.stdout)

    def test_planted_faults_are_found(self):
        for text, why in [(OK + "void f(void) { strcpy(a, b); }\n", "strcpy() is not used"),
                          (OK + "int x = atoi(s);\n", "atoi() is not used"),
                          ("int x;\n", "licence line"),
                          (OK + "\n" * 900, "at most 800")]:
            with self.subTest(why=why), tempfile.TemporaryDirectory() as d:
                tree(d, {"src/base/a.c": text})
                r = run("check_style.py", d)
                self.assertEqual(r.returncode, 1)
                self.assertIn(why, r.stdout)

    def test_long_functions_are_a_warning_only(self):
        for lines, warned in [(70, False), (71, True)]:
            with self.subTest(lines=lines), tempfile.TemporaryDirectory() as d:
                tree(d, {"src/base/a.c": OK + "void f(void)\n{\n" + "    g();\n" * lines + "}\n"})
                r = run("check_style.py", d)
                self.assertEqual(r.returncode, 0)
                self.assertEqual("warning: a function of %d lines" % lines in r.stdout, warned)

    def test_scripts_need_a_licence_line(self):
        with tempfile.TemporaryDirectory() as d:
            tree(d, {"scripts/a.sh": "#!/bin/sh\n"})
            self.assertIn("a.sh:1: the licence line", run("check_style.py", d).stdout)

    def test_unwanted_words_are_found_in_any_file(self):
        with tempfile.TemporaryDirectory() as d:
            tree(d, {"src/base/a.c": OK, "docs/a.md": "one\nthe Secretword.\nsecretwords\n", "build/b.md": "secretword\n"})
            self.assertEqual(run("check_style.py", d).returncode, 0)
            r = run("check_style.py", d, "--no-word", "other", "--no-word", "secretword")
            self.assertEqual(r.returncode, 1)
            self.assertEqual([l.split(":")[1] for l in r.stdout.splitlines() if "a.md" in l], ["2"])
            self.assertNotIn("b.md", r.stdout)

    def test_words_in_comments_and_strings_are_no_fault(self):
        with tempfile.TemporaryDirectory() as d:
            tree(d, {"src/base/a.c": OK + "/* strcpy(a, b) */ const char *s = \"gets(x)\";\n"})
            self.assertEqual(run("check_style.py", d).returncode, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
