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
                                   ("odd/a.c", "<stdio.h>", "no layer of the table")]:
            with self.subTest(name=name, include=include), tempfile.TemporaryDirectory() as d:
                tree(d, {name: "#include %s\n" % include, "base/ok.c": "#include <stdio.h>\n"})
                r = run("check_layers.py", d)
                self.assertEqual(r.returncode, 1)
                self.assertIn(why, r.stdout)


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

    def test_words_in_comments_and_strings_are_no_fault(self):
        with tempfile.TemporaryDirectory() as d:
            tree(d, {"src/base/a.c": OK + "/* strcpy(a, b) */ const char *s = \"gets(x)\";\n"})
            self.assertEqual(run("check_style.py", d).returncode, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
